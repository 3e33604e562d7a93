//! The events that every relay is given: a mix of notes, reactions, listings and comments, signed once and kept in a file.

use std::fs::File;
use std::io::{BufRead, BufReader, BufWriter, Write};
use std::path::Path;
use std::time::{Instant, SystemTime};

use anyhow::{Context, Result, ensure};
use fastrand::Rng;
use hex_conservative::DisplayHex;
use secp256k1::{Keypair, Message, SECP256K1, SecretKey};
use sha2::{Digest, Sha256};

const AUTHORS: usize = 1_000;
/// Stored events are from a minute to a month old.
const AGE_SECS: std::ops::Range<u64> = 60..30 * 86_400;
const SEED: u64 = 1;
const CHECKS: u32 = 2_000;
const WORDS: &[&str] = &[
    "lightning",
    "bitcoin",
    "market",
    "offer",
    "trade",
    "nostr",
    "relay",
    "board",
    "seller",
    "buyer",
    "price",
    "escrow",
    "swap",
    "\\\"quoted\\\"",
    "fee",
    "node",
    "channel",
    "invoice",
    "satoshi",
    "premium",
    "cash",
    "bank",
    "transfer",
    "euro",
    "dollar",
    "peso",
    "fast",
    "reliable",
    "trusted",
    "verified",
    "\\n",
    "hello",
];

/// A signed event as JSON, its members in this program's order.
#[derive(Clone, Debug)]
pub struct Event(String);

const ID: std::ops::Range<usize> = 7..71;
const AUTHOR: std::ops::Range<usize> = 83..147;
const CREATED_AT: usize = 162;

impl Event {
    pub fn json(&self) -> &str {
        &self.0
    }

    /// In hex.
    pub fn id(&self) -> &str {
        &self.0[ID]
    }

    /// The public key in hex.
    pub fn author(&self) -> &str {
        &self.0[AUTHOR]
    }

    pub fn created_at(&self) -> u64 {
        let rest = &self.0[CREATED_AT..];
        let digits = rest.find(',').unwrap_or_default();
        rest[..digits].parse().unwrap_or_default()
    }

    /// The same with another signature, which is wrong.
    pub fn forged(&self) -> Event {
        let mut json = self.0.clone();
        // Before the last `"}` stands the last digit of the signature.
        let digit = json.len() - 3;
        let other = if json.as_bytes()[digit] == b'0' { "1" } else { "0" };
        json.replace_range(digit..=digit, other);
        Event(json)
    }

    fn parse(json: String) -> Result<Event> {
        let ours = json.is_ascii()
            && json.starts_with("{\"id\":\"")
            && json.get(ID.end..AUTHOR.start) == Some("\",\"pubkey\":\"")
            && json.get(AUTHOR.end..CREATED_AT) == Some("\",\"created_at\":");
        ensure!(ours, "not an event that this program wrote");
        Ok(Event(json))
    }
}

struct Author {
    keys: Keypair,
    public: String,
}

/// Makes events, each of which may refer to those before it.
pub struct Market {
    authors: Vec<Author>,
    ids: Vec<[u8; 32]>,
    rng: Rng,
}

impl Market {
    /// A market of authors that are always the same; `seed` decides what they say.
    pub fn new(seed: u64) -> Market {
        let mut keys = Rng::with_seed(SEED);
        let authors = std::iter::repeat_with(|| author(&mut keys)).take(AUTHORS).collect();
        Market { authors, ids: vec![[0; 32]], rng: Rng::with_seed(seed) }
    }

    /// A few authors write most of it.
    pub fn event(&mut self, created_at: u64) -> Event {
        let number = self.ids.len();
        let writer = ((self.rng.f64().powi(2) * AUTHORS as f64) as usize).min(AUTHORS - 1);
        let to = self.ids[self.rng.usize(..number)].to_lower_hex_string();
        let whom = self.authors[self.rng.usize(..AUTHORS)].public.clone();
        let (kind, tags, content) = self.draft(number, &to, &whom);
        let author = &self.authors[writer];
        let hashed = format!("[0,\"{}\",{created_at},{kind},{tags},\"{content}\"]", author.public);
        let id: [u8; 32] = Sha256::digest(hashed.as_bytes()).into();
        let signature = SECP256K1.sign_schnorr_no_aux_rand(&Message::from_digest(id), &author.keys);
        self.ids.push(id);
        let (id, key) = (id.to_lower_hex_string(), &author.public);
        let json = format!(
            "{{\"id\":\"{id}\",\"pubkey\":\"{key}\",\"created_at\":{created_at},\"kind\":{kind},\"tags\":{tags},\
             \"content\":\"{content}\",\"sig\":\"{signature}\"}}"
        );
        Event(json)
    }

    fn draft(&mut self, number: usize, to: &str, whom: &str) -> (u16, String, String) {
        let rng = &mut self.rng;
        let share = rng.f64();
        let text: String = (0..rng.usize(8..45)).map(|_| format!("{} ", WORDS[rng.usize(..WORDS.len())])).collect();
        if share < 0.55 {
            let topic = rng.u16(..2_000);
            (1, format!("[[\"e\",\"{to}\",\"\",\"root\"],[\"p\",\"{whom}\"],[\"t\",\"tag{topic}\"]]"), text)
        } else if share < 0.80 {
            (7, format!("[[\"e\",\"{to}\"],[\"p\",\"{whom}\"]]"), "+".into())
        } else if share < 0.95 {
            let (price, category, city, place) = (rng.u16(1..5_000), rng.u8(..50), rng.u8(..200), rng.u8(..99));
            let tags = format!(
                "[[\"d\",\"listing-{number}\"],[\"title\",\"Offer {number}\"],[\"price\",\"{price}\",\"EUR\"],\
                 [\"t\",\"market\"],[\"t\",\"cat{category}\"],[\"location\",\"city{city}\"],[\"g\",\"u{place}\"]]"
            );
            (30_402, tags, text)
        } else if share < 0.97 {
            (9_802, format!("[[\"p\",\"{whom}\"]]"), format!("highlight {number}"))
        } else {
            (1_111, format!("[[\"E\",\"{to}\"],[\"K\",\"30402\"],[\"p\",\"{whom}\"]]"), text)
        }
    }
}

fn author(rng: &mut Rng) -> Author {
    loop {
        let mut secret = [0; 32];
        rng.fill(&mut secret);
        // All but a few of 2^256 numbers are secret keys.
        if let Ok(secret) = SecretKey::from_slice(&secret) {
            let keys = Keypair::from_secret_key(SECP256K1, &secret);
            return Author { keys, public: keys.x_only_public_key().0.to_string() };
        }
    }
}

/// Seconds since 1970.
fn now() -> Result<u64> {
    Ok(SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?.as_secs())
}

/// The first `count` events of the file, which is made, or made anew, if it has fewer.
pub fn stored(path: &Path, count: usize) -> Result<Vec<Event>> {
    if !path.exists() || BufReader::new(File::open(path)?).lines().take(count).count() < count {
        eprintln!("signing {count} events for {}", path.display());
        write(path, count).with_context(|| path.display().to_string())?;
    }
    let lines = BufReader::new(File::open(path)?).lines().take(count);
    lines.map(|line| Event::parse(line?)).collect::<Result<_>>().with_context(|| path.display().to_string())
}

fn write(path: &Path, count: usize) -> Result<()> {
    let mut file = BufWriter::new(File::create(path)?);
    for event in Stock::new()?.take(count) {
        writeln!(file, "{}", event.json())?;
    }
    Ok(file.flush()?)
}

/// Events to be stored, without end.
pub struct Stock {
    now: u64,
    market: Market,
    age: Rng,
}

impl Stock {
    pub fn new() -> Result<Stock> {
        Ok(Stock { now: now()?, market: Market::new(SEED), age: Rng::with_seed(SEED) })
    }
}

impl Iterator for Stock {
    type Item = Event;

    fn next(&mut self) -> Option<Event> {
        Some(self.market.event(self.now - self.age.u64(AGE_SECS)))
    }
}

/// `count` events of this moment, no two runs with the same.
pub fn fresh(count: usize) -> Result<Vec<Event>> {
    let now = now()?;
    let mut market = Market::new(fastrand::u64(..));
    Ok((0..count).map(|_| market.event(now)).collect())
}

/// What one signature check costs here and now, in microseconds, the public key read from its bytes each time.
pub fn signature_check_us() -> Result<f64> {
    let keys = author(&mut Rng::with_seed(SEED)).keys;
    let message = Message::from_digest([7; 32]);
    let signature = SECP256K1.sign_schnorr_no_aux_rand(&message, &keys);
    let public = keys.x_only_public_key().0.serialize();
    let start = Instant::now();
    for _ in 0..CHECKS {
        let key = secp256k1::XOnlyPublicKey::from_slice(std::hint::black_box(&public))?;
        SECP256K1.verify_schnorr(&signature, &message, &key)?;
    }
    Ok(start.elapsed().as_secs_f64() * 1e6 / f64::from(CHECKS))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_read_back_and_a_forged_one_differs_in_its_signature_alone() {
        let event = Market::new(3).event(1_700_000_000);
        let value: serde_json::Value = serde_json::from_str(event.json()).unwrap();
        assert_eq!((value["id"].as_str(), value["pubkey"].as_str()), (Some(event.id()), Some(event.author())));
        assert_eq!(event.created_at(), 1_700_000_000);
        assert_eq!(Event::parse(event.json().to_owned()).unwrap().id(), event.id());
        let forged: serde_json::Value = serde_json::from_str(event.forged().json()).unwrap();
        assert_ne!(value["sig"], forged["sig"]);
        assert_eq!(value["content"], forged["content"]);
        assert!(Event::parse("{}".into()).is_err());
    }
}

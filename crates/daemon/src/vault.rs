//! The vault: our own trade log, sealed for ourselves, on the boards. With the seed it brings every trade back to a machine that has
//! nothing else.
//!
//! A *sheet* holds some entries of one stream of the log. Sheets leave through the outbox like letters; those that order a message
//! leave before it, so that no board has our word without what we need to stand by it. A *life* runs from one fresh or restored log to
//! the next: where two lives have written the same place of the log, the later one counts.

use std::collections::BTreeMap;

use secp256k1::{Keypair, SECP256K1};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use trade::{MessageId, TradeId};
use units::{Now, Unix, hex32};
use wire::event::Event;
use wire::seal;

use crate::keyring::widen;
use crate::post;
use crate::store::{Entry, Store, StoreError};

/// Version of a sheet.
const VERSION: u8 = 1;
/// Bytes of entries after which a sheet is full; NIP-44 takes 65,535 bytes of text.
const SHEET_BYTES: usize = 24 * 1024;
/// Largest entry that fits into a sheet at all.
const ENTRY_BYTES_MAX: usize = 60 * 1024;
/// Where the life of this log is kept.
const LIFE: &str = "vault/life";

/// Why a sheet is not written.
#[derive(Debug, thiserror::Error)]
pub(crate) enum VaultError {
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// It cannot be sealed.
    #[error("a sheet of the vault cannot be sealed: {0}")]
    Seal(#[from] post::PostError),
    /// The seed has no key there (one chance in 2^127).
    #[error("the vault has no key: {0}")]
    Seed(#[from] keys::SeedError),
    /// Likewise.
    #[error("the vault's key is none: {0}")]
    Key(#[from] secp256k1::Error),
    /// What is stored is damaged.
    #[error("the vault cannot be encoded: {0}")]
    Json(#[from] serde_json::Error),
}

/// From one fresh or restored log to the next. Later ones are greater.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct Life {
    /// When it began.
    since: Unix,
    /// Tells two that began in the same second apart.
    id: String,
}

/// Some entries of one stream, with what else is needed to go on with it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Sheet {
    version: u8,
    life: Life,
    trade: TradeId,
    /// Place of the first entry.
    from: u64,
    entries: Vec<Line>,
    /// Ranges of key indexes that were handed out by then.
    keys: Vec<(u32, u32)>,
    /// The name of the listing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    name: Option<(MessageId, String)>,
}

/// One entry: when, and the event as the log has it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Line {
    at: Now,
    event: Value,
}

/// What one process keeps in the vault, and how.
pub(crate) struct Vault {
    key: Keypair,
    life: Life,
}

/// A sheet on its way, and how far the stream is kept with it.
pub(crate) struct Kept {
    pub(crate) parcel: String,
    pub(crate) id: MessageId,
    pub(crate) event: Event,
    pub(crate) upto: u64,
}

/// The key that sheets are sealed to.
pub(crate) fn key(seed: &keys::Seed) -> Result<Keypair, VaultError> {
    Ok(Keypair::from_seckey_slice(SECP256K1, &*seed.vault()?)?)
}

/// Begins a life; every start until the next restore goes on with it.
pub(crate) fn begin_life(store: &Store, now: Unix) -> Result<Life, VaultError> {
    let id = hex32(&post::entropy()?)[..16].to_owned();
    let life = Life { since: now, id };
    store.put(LIFE, &serde_json::to_vec(&life)?)?;
    Ok(life)
}

impl Vault {
    /// The vault of a log that has been restored, if it had to be.
    pub(crate) fn open(seed: &keys::Seed, store: &Store, now: Unix) -> Result<Vault, VaultError> {
        let life = match store.get(LIFE)? {
            Some(bytes) => serde_json::from_slice(&bytes)?,
            None => begin_life(store, now)?,
        };
        Ok(Vault { key: key(seed)?, life })
    }

    /// The life of the log that is kept here.
    pub(crate) fn life(&self) -> &Life {
        &self.life
    }

    /// Seals entries of one stream, which follow each other, as many sheets as they need. An entry that is too large ends the row: what
    /// comes after it could not be replayed without it.
    pub(crate) fn sheets(
        &self,
        entries: Vec<Entry>,
        keys: &[(u32, u32)],
        name: Option<&(MessageId, String)>,
        now: Unix,
    ) -> Result<Vec<Kept>, VaultError> {
        let mut kept = Vec::new();
        let mut entries = entries.into_iter().peekable();
        while let Some(first) = entries.peek() {
            let (trade, from) = (first.trade, first.seq);
            let (mut lines, mut bytes) = (Vec::new(), 0);
            while bytes < SHEET_BYTES
                && let Some(entry) = entries.next_if(|entry| fits(entry, bytes))
            {
                let body = entry.body.unwrap_or_default();
                bytes += body.len();
                lines.push(Line { at: entry.at, event: serde_json::from_slice(&body)? });
            }
            if lines.is_empty() {
                tracing::error!(%trade, place = from, "an entry of the log is damaged or too large to be kept on boards");
                break;
            }
            let upto = from + lines.len() as u64;
            let (life, keys, name) = (self.life.clone(), keys.to_vec(), name.cloned());
            let sheet = Sheet { version: VERSION, life, trade, from, entries: lines, keys, name };
            let text = serde_json::to_string(&sheet)?;
            let event = seal::keep(&text, &self.key, now, &post::entropy()?).map_err(post::PostError::from)?;
            let parcel = format!("vault/{}/{trade}/{from}-{upto}", self.life.id);
            kept.push(Kept { parcel, id: MessageId(event.id), event, upto });
        }
        Ok(kept)
    }
}

fn fits(entry: &Entry, bytes: usize) -> bool {
    entry.body.as_ref().is_some_and(|body| bytes + body.len() <= ENTRY_BYTES_MAX)
}

/// Opens a sheet; none for anything else, such as what a stranger addressed to the vault.
pub(crate) fn open_sheet(event: &Event, key: &Keypair) -> Option<Sheet> {
    let text = seal::open_kept(event, key).ok()?;
    serde_json::from_str(&text).ok().filter(|sheet: &Sheet| sheet.version == VERSION)
}

/// What a pile of sheets, in whatever order and however often each, says of the log.
#[derive(Debug, Default)]
pub(crate) struct Pile {
    /// Streams by life, oldest first, and each by place.
    streams: BTreeMap<TradeId, BTreeMap<Life, BTreeMap<u64, Line>>>,
    /// Key indexes that were handed out.
    pub(crate) keys: Vec<(u32, u32)>,
    /// Names of listings.
    pub(crate) names: BTreeMap<MessageId, String>,
}

impl Pile {
    /// When a life has to begin that is later than all of these.
    pub(crate) fn next_life(&self, now: Unix) -> Unix {
        let last = self.streams.values().flat_map(|lives| lives.keys()).map(|life| life.since.0).max();
        last.map_or(now, |last| now.max(Unix(last + 1)))
    }

    pub(crate) fn add(&mut self, sheet: Sheet) {
        let places = self.streams.entry(sheet.trade).or_default().entry(sheet.life).or_default();
        places.extend((sheet.from..).zip(sheet.entries));
        self.names.extend(sheet.name);
        let sound = sheet.keys.into_iter().filter(|(first, next)| 0 < *first && first <= next);
        sound.for_each(|range| widen(&mut self.keys, range));
    }

    /// Each stream as far as it is without a gap, and whether something is missing after it.
    pub(crate) fn logs(&self) -> impl Iterator<Item = (TradeId, Vec<Line>, bool)> {
        self.streams.iter().map(|(trade, lives)| {
            let (mut log, mut gap) = (Vec::new(), false);
            for places in lives.values() {
                let Some(first) = places.keys().next().and_then(|first| usize::try_from(*first).ok()) else { continue };
                if first > log.len() {
                    gap = true;
                    continue;
                }
                // A later life saw no more than this of the earlier ones.
                log.truncate(first);
                let run = places.iter().zip(first as u64..).take_while(|((place, _), next)| *place == next);
                let before = log.len();
                log.extend(run.map(|((_, line), _)| line.clone()));
                gap = log.len() - before < places.len();
            }
            (*trade, log, gap)
        })
    }
}

/// What a restore came to.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Merged {
    /// Streams that the boards knew and this log did not, or not to their end.
    pub(crate) streams: usize,
    /// Entries that were added.
    pub(crate) entries: usize,
    /// Streams of which sheets are missing: their log is older than they are.
    pub(crate) gaps: usize,
}

/// Adds to the log what the pile knows better.
pub(crate) fn merge(store: &Store, pile: &Pile) -> Result<Merged, VaultError> {
    let mut merged = Merged::default();
    let mut known = BTreeMap::<TradeId, Vec<Entry>>::new();
    for entry in store.entries()? {
        known.entry(entry.trade).or_default().push(entry);
    }
    for (trade, log, gap) in pile.logs() {
        merged.gaps += usize::from(gap);
        let ours = known.remove(&trade).unwrap_or_default();
        let same = |(entry, line): &(&Entry, &Line)| {
            let body = entry.body.as_deref().and_then(|body| serde_json::from_slice::<Value>(body).ok());
            body.as_ref() == Some(&line.event)
        };
        let common = ours.iter().zip(&log).take_while(same).count();
        if common == log.len() {
            continue;
        }
        let bodies = log[common..].iter().map(|line| Ok((line.at, serde_json::to_vec(&line.event)?)));
        let bodies = bodies.collect::<Result<Vec<_>, serde_json::Error>>()?;
        store.replace_tail(trade, common as u64, &bodies)?;
        merged.streams += 1;
        merged.entries += bodies.len();
    }
    Ok(merged)
}

#[cfg(test)]
mod tests {
    use units::Height;

    use super::*;

    const TRADE: TradeId = TradeId([7; 32]);

    fn life(since: u64) -> Life {
        Life { since: Unix(since), id: "a".to_owned() }
    }

    fn sheet(since: u64, from: u64, events: &[&str]) -> Sheet {
        let at = Now { height: Height(1), unix: Unix(2) };
        let entries = events.iter().map(|event| Line { at, event: Value::from(*event) }).collect();
        Sheet { version: VERSION, life: life(since), trade: TRADE, from, entries, keys: vec![(5, 7)], name: None }
    }

    fn log(sheets: Vec<Sheet>) -> (String, bool) {
        let mut pile = Pile::default();
        sheets.into_iter().for_each(|sheet| pile.add(sheet));
        let (_, lines, gap) = pile.logs().next().unwrap();
        (lines.iter().map(|line| line.event.as_str().unwrap()).collect(), gap)
    }

    #[test]
    fn sheets_in_any_order_and_more_than_once_give_one_log() {
        let sheets = vec![sheet(1, 2, &["c"]), sheet(1, 0, &["a", "b"]), sheet(1, 1, &["b", "c"]), sheet(1, 3, &["d"])];
        assert_eq!(log(sheets), ("abcd".to_owned(), false));
    }

    #[test]
    fn after_a_gap_nothing_counts() {
        assert_eq!(log(vec![sheet(1, 0, &["a"]), sheet(1, 2, &["c"])]), ("a".to_owned(), true));
    }

    #[test]
    fn a_later_life_counts_from_where_it_went_on() {
        let sheets = vec![sheet(9, 1, &["B", "C"]), sheet(1, 0, &["a", "b", "c", "d"])];
        assert_eq!(log(sheets), ("aBC".to_owned(), false));
        let lost = vec![sheet(9, 3, &["D"]), sheet(1, 0, &["a"])];
        assert_eq!(log(lost), ("a".to_owned(), true));
    }

    #[test]
    fn only_the_holder_of_the_seed_writes_sheets() {
        let seed = keys::Seed::generate(&[1; 32]);
        let (ours, other) = (key(&seed).unwrap(), key(&keys::Seed::generate(&[2; 32])).unwrap());
        let text = serde_json::to_string(&sheet(1, 0, &["a"])).unwrap();
        let event = seal::keep(&text, &ours, Unix(9), &[3; 32]).unwrap();
        assert!(open_sheet(&event, &ours).is_some());
        assert!(open_sheet(&event, &other).is_none());
        let shared = wire::nip44::ConversationKey::between(&other, &wire::event::pubkey_of(&ours)).unwrap();
        let forged = Event { content: shared.encrypt(&text, &[4; 32]).unwrap(), ..event };
        assert!(open_sheet(&forged, &ours).is_none());
    }

    #[test]
    fn a_log_gets_what_the_boards_know_better_and_keeps_the_rest() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&dir.path().join("trades.sqlite"), &[1; 32]).unwrap();
        let at = Now { height: Height(1), unix: Unix(2) };
        store.append(TRADE, 0, at, &[b"\"a\"".to_vec(), b"\"x\"".to_vec()]).unwrap();
        let mut pile = Pile::default();
        pile.add(sheet(1, 0, &["a", "b", "c"]));
        assert_eq!(merge(&store, &pile).unwrap(), Merged { streams: 1, entries: 2, gaps: 0 });
        let bodies: Vec<_> = store.entries().unwrap().into_iter().map(|entry| entry.body.unwrap()).collect();
        assert_eq!(bodies, [b"\"a\"", b"\"b\"", b"\"c\""]);
        assert_eq!(merge(&store, &pile).unwrap(), Merged::default());
    }
}

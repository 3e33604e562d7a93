//! Pledges (kind 331): a party's word that it is in an escrow, signed before anybody can know how it ends.
//!
//! A pledge names neither the listing nor the trade. Its content is empty; every fact is a tag, each at most once:
//! `["x", first price hash]`, `["payer", key]`, `["payee", key]`, `["arbiter", key]` where there is one, `["amount", sat]`
//! rounded down by [`bucket`], `["height", block]`, `["lock", blocks]`, and, where the signer wants it,
//! `["identity", key, signature]`: the long-lived key that this key belongs to.

use bitcoin::hashes::{Hash, HashEngine, sha256};
use secp256k1::{Keypair, Message, SECP256K1};
use trade::{PartyKey, Role};
use units::{Height, PaymentHash, Sat, Unix, hex32, parse_hex32};
use wire::domp::kind;
use wire::event::{Event, Limits, Tag, UnknownKeys, Unsigned, pubkey_of, verify_signature};

use crate::rating::Reject;
use crate::tags::{Tags, tag};

/// Longest pledge, in bytes of JSON.
pub const PLEDGE_BYTES_MAX: usize = 2048;
/// Name of the tag that links a key to an identity.
pub const IDENTITY_TAG: &str = "identity";
/// How many blocks may lie between the pledges of one trade: two weeks of waiting and two weeks of lock.
pub const HEIGHTS_APART_MAX: u32 = 4032;
const LIMITS: Limits = Limits { bytes: PLEDGE_BYTES_MAX, tags: 16, tag_elements: 3, unknown_keys: UnknownKeys::Refuse };
/// Most satoshis that there can be.
pub(crate) const SAT_MAX: u64 = 2_100_000_000_000_000;

/// What the parties of an escrow agree on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts {
    /// Hash of the first tranche of the price in the first lock.
    pub hash: PaymentHash,
    /// Who pays.
    pub payer: PartyKey,
    /// Who is paid.
    pub payee: PartyKey,
    /// Who rules on disputes.
    pub arbiter: Option<PartyKey>,
    /// The price, rounded down by [`bucket`]. An arbiter signs what was bid; the parties may agree on another price.
    pub amount: Sat,
    /// How long the price is locked, in blocks.
    pub lock_blocks: u16,
}

impl Facts {
    /// The part that a key has in this escrow.
    pub fn role_of(&self, key: PartyKey) -> Option<Role> {
        if key == self.payer {
            Some(Role::Payer)
        } else if key == self.payee {
            Some(Role::Payee)
        } else if Some(key) == self.arbiter {
            Some(Role::Arbiter)
        } else {
            None
        }
    }

    /// Is it the same escrow? The amount may differ: see [`Facts::amount`].
    pub fn fit(&self, other: &Facts) -> bool {
        Facts { amount: other.amount, ..self.clone() } == *other
    }
}

/// A long-lived key and its signature that vouches for a key of one trade.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The long-lived key.
    pub key: PartyKey,
    /// Its BIP-340 signature over SHA-256 of `souk/identity/v1` and the key of the trade.
    pub signature: [u8; 64],
}

/// Signs that `key` belongs to `identity`.
pub fn link(identity: &Keypair, key: PartyKey) -> Identity {
    let message = Message::from_digest(link_digest(key));
    let signature = SECP256K1.sign_schnorr_with_aux_rand(&message, identity, &[0; 32]);
    Identity { key: PartyKey(pubkey_of(identity)), signature: signature.serialize() }
}

fn link_digest(key: PartyKey) -> [u8; 32] {
    let mut engine = sha256::Hash::engine();
    engine.input(b"souk/identity/v1");
    engine.input(&key.0);
    sha256::Hash::from_engine(engine).to_byte_array()
}

/// A signed pledge, checked.
#[derive(Clone, PartialEq, Eq)]
pub struct Pledge {
    /// Who signed.
    pub author: PartyKey,
    /// Its part.
    pub role: Role,
    /// What it signed.
    pub facts: Facts,
    /// Height of the chain when it signed.
    pub height: Height,
    /// The long-lived key of its author, where it says so.
    pub identity: Option<PartyKey>,
    event: Event,
}

impl std::fmt::Debug for Pledge {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Pledge({:?} {} on {})", self.role, self.author, self.facts.hash)
    }
}

/// Rounds an amount down to 1, 2 or 5 times a power of ten: enough to weigh a rating by, too little to recognise a trade by.
pub fn bucket(amount: Sat) -> Sat {
    let mut power = 1_u64;
    while power.saturating_mul(10) <= amount.0 {
        power = power.saturating_mul(10);
    }
    let step = [5, 2, 1].into_iter().find(|step| power.saturating_mul(*step) <= amount.0);
    Sat(step.map_or(0, |step| power * step))
}

impl Pledge {
    /// Signs a pledge. The same arguments give the same bytes. Fails when the key has no part in the facts, or when [`Pledge::read`]
    /// would refuse it.
    pub fn sign(
        facts: &Facts,
        height: Height,
        identity: Option<&Identity>,
        at: Unix,
        key: &Keypair,
    ) -> Result<Pledge, Reject> {
        let mut tags = vec![
            tag("x", &hex32(&facts.hash.0)),
            tag("payer", &hex32(&facts.payer.0)),
            tag("payee", &hex32(&facts.payee.0)),
        ];
        tags.extend(facts.arbiter.map(|arbiter| tag("arbiter", &hex32(&arbiter.0))));
        tags.push(tag("amount", &facts.amount.0.to_string()));
        tags.push(tag("height", &height.0.to_string()));
        tags.push(tag("lock", &facts.lock_blocks.to_string()));
        tags.extend(identity.map(identity_tag));
        let unsigned =
            Unsigned { pubkey: pubkey_of(key), created_at: at, kind: kind::PLEDGE, tags, content: String::new() };
        Pledge::read(unsigned.sign(key, &[0; 32]))
    }

    /// Reads a pledge and checks its signatures.
    pub fn read(event: Event) -> Result<Pledge, Reject> {
        if event.kind != kind::PLEDGE || !event.content.is_empty() {
            return Err(Reject::Pledge("no pledge"));
        }
        event.verify()?;
        let author = PartyKey(event.pubkey);
        let mut tags = Tags::of(&event.tags).map_err(Reject::Pledge)?;
        let (facts, height) = read_facts(&mut tags).map_err(Reject::Pledge)?;
        let identity = tags.take(IDENTITY_TAG).map(|tag| read_identity(tag, author)).transpose()?;
        tags.end().map_err(Reject::Pledge)?;
        if facts.amount != bucket(facts.amount) {
            return Err(Reject::Pledge("amount"));
        }
        if facts.payer == facts.payee || Some(facts.payer) == facts.arbiter || Some(facts.payee) == facts.arbiter {
            return Err(Reject::Pledge("one key on two sides"));
        }
        let role = facts.role_of(author).ok_or(Reject::Pledge("author"))?;
        Ok(Pledge { author, role, facts, height, identity, event })
    }

    /// Reads a pledge from its JSON.
    pub fn parse(json: &str) -> Result<Pledge, Reject> {
        Pledge::read(Event::parse(json.as_bytes(), &LIMITS).map_err(|_| Reject::Pledge("no event"))?)
    }

    /// The signed event.
    pub fn event(&self) -> &Event {
        &self.event
    }
}

fn read_facts(tags: &mut Tags<'_>) -> Result<(Facts, Height), &'static str> {
    let facts = Facts {
        hash: PaymentHash(tags.bytes("x")?.ok_or("x")?),
        payer: PartyKey(tags.bytes("payer")?.ok_or("payer")?),
        payee: PartyKey(tags.bytes("payee")?.ok_or("payee")?),
        arbiter: tags.bytes("arbiter")?.map(PartyKey),
        amount: Sat(tags.number("amount", SAT_MAX)?),
        lock_blocks: u16::try_from(tags.number("lock", u16::MAX.into())?).map_err(|_| "lock")?,
    };
    let height = u32::try_from(tags.number("height", u32::MAX.into())?).map_err(|_| "height")?;
    Ok((facts, Height(height)))
}

fn identity_tag(identity: &Identity) -> Tag {
    let (left, right) = identity.signature.split_at(32);
    let half = |half: &[u8]| half.try_into().map(hex32_of).unwrap_or_default();
    vec![IDENTITY_TAG.to_owned(), hex32(&identity.key.0), half(left) + &half(right)]
}

fn hex32_of(bytes: [u8; 32]) -> String {
    hex32(&bytes)
}

fn read_identity(tag: &Tag, of: PartyKey) -> Result<PartyKey, Reject> {
    let wrong = || Reject::Pledge("identity");
    let [_, key, signature] = &tag[..] else { return Err(wrong()) };
    let key = parse_hex32(key).map_err(|_| wrong())?;
    let (left, right) = signature.split_at_checked(64).ok_or_else(wrong)?;
    let halves = [parse_hex32(left).map_err(|_| wrong())?, parse_hex32(right).map_err(|_| wrong())?];
    let signature: [u8; 64] = halves.concat().try_into().map_err(|_| wrong())?;
    verify_signature(&link_digest(of), &key, &signature)?;
    Ok(PartyKey(key))
}

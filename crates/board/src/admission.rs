//! Admission: a list of named rules that an event passes one after another, cheapest first, each with a reason for people.
//!
//! [`Policy::admit`] runs before the signature is checked, on what the event claims; what is counted against an author waits
//! for [`Policy::admit_verified`], so that nobody uses up another's share with forged events.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use units::Unix;
use wire::{KindClass, RawEvent};

use crate::store::Encoded;

/// Most addresses or keys whose rate is tracked at the same time; the rest share one bucket.
const TRACKED_MAX: usize = 100_000;

/// A gift wrap (NIP-59): of interest to its recipient alone.
pub const KIND_GIFT_WRAP: u16 = 1059;

/// The rules, in the order in which they are asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Rule {
    /// Bytes and tags.
    Size,
    /// Kinds that the board takes.
    KindAllowed,
    /// How old, or how far in the future, an event may be.
    CreatedAtWindow,
    /// Not past its own expiration (NIP-40).
    Expired,
    /// Keys and addresses that the operator shut out.
    Ban,
    /// The author has to be known (NIP-42), or is because the event is protected (NIP-70).
    AuthRequired,
    /// Proof of work (NIP-13).
    Pow,
    /// How many events in a time.
    RateLimit,
    /// A spent credential.
    Credential,
}

impl Rule {
    /// A stable name.
    pub fn name(self) -> &'static str {
        match self {
            Rule::Size => "size",
            Rule::KindAllowed => "kind-allowed",
            Rule::CreatedAtWindow => "created-at-window",
            Rule::Expired => "expired",
            Rule::Ban => "ban",
            Rule::AuthRequired => "auth-required",
            Rule::Pow => "pow",
            Rule::RateLimit => "rate-limit",
            Rule::Credential => "credential",
        }
    }

    /// The word that NIP-01 and NIP-42 put before the reason.
    pub fn prefix(self) -> &'static str {
        match self {
            Rule::Size | Rule::CreatedAtWindow | Rule::Expired => "invalid",
            Rule::KindAllowed | Rule::Ban => "blocked",
            Rule::AuthRequired => "auth-required",
            Rule::Pow => "pow",
            Rule::RateLimit => "rate-limited",
            Rule::Credential => "restricted",
        }
    }
}

/// Why an event was not let in.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}: {cause}", rule.prefix())]
pub struct Refusal {
    /// The rule that it did not pass.
    pub rule: Rule,
    /// Why, for people.
    pub cause: String,
}

fn refuse<T>(rule: Rule, cause: impl Into<String>) -> Result<T, Refusal> {
    Err(Refusal { rule, cause: cause.into() })
}

/// So many events at once, and so many more each minute.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// At once.
    pub burst: u32,
    /// Each minute.
    pub per_minute: u32,
}

/// What is asked of an event of some kinds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct KindPolicy {
    /// Bits of work (NIP-13) that the event has to commit to and show.
    pub pow: u8,
    /// The connection has to be authenticated as the author (NIP-42).
    pub auth: bool,
    /// A credential has to be spent.
    pub credential: bool,
}

/// What the board takes. Replaced as a whole while the board runs; every event is judged by one version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// Longest event, in bytes of JSON.
    pub event_bytes: usize,
    /// Most tags.
    pub tags: usize,
    /// Kinds that are taken; everything when empty.
    pub kinds: Vec<RangeInclusive<u16>>,
    /// Kinds that are not taken, whatever [`Policy::kinds`] says.
    pub kinds_denied: Vec<RangeInclusive<u16>>,
    /// Oldest `created_at`, in seconds before now. Replaceable and addressable events may be as old as they like.
    pub past_secs: Option<u64>,
    /// Newest `created_at`, in seconds after now.
    pub future_secs: u64,
    /// What is asked of kinds that [`Policy::per_kind`] does not name.
    pub default: KindPolicy,
    /// What is asked of some kinds: the first range that holds the kind counts.
    pub per_kind: Vec<(RangeInclusive<u16>, KindPolicy)>,
    /// How many events one address may send. Loopback addresses are exempt.
    pub per_address: Option<Rate>,
    /// How many events one author may send.
    pub per_author: Option<Rate>,
    /// Authors that are shut out.
    pub banned_authors: HashSet<[u8; 32]>,
    /// Addresses that are shut out; they are not let in to connect either.
    pub banned_addresses: HashSet<IpAddr>,
    /// Reading needs authentication too (NIP-42).
    pub auth_to_read: bool,
    /// Kinds that are shown to nobody but a recipient, named by a `p` tag, who has authenticated.
    pub private_kinds: Vec<u16>,
}

impl Default for Policy {
    /// Takes every kind that is meant for a relay from everybody, within bounds.
    fn default() -> Policy {
        Policy {
            event_bytes: 128 * 1024,
            tags: 2000,
            kinds: Vec::new(),
            // NIP-42 and NIP-98 events are for one server's eyes; passed on, they could be used against their author.
            kinds_denied: vec![22_242..=22_242, 27_235..=27_235],
            past_secs: None,
            future_secs: 900,
            default: KindPolicy::default(),
            per_kind: Vec::new(),
            per_address: Some(Rate { burst: 5000, per_minute: 12_000 }),
            per_author: None,
            banned_authors: HashSet::new(),
            banned_addresses: HashSet::new(),
            auth_to_read: false,
            private_kinds: vec![KIND_GIFT_WRAP],
        }
    }
}

/// Who sends an event and what comes with it.
#[derive(Clone, Copy, Debug)]
pub struct Sender<'a> {
    /// Where from.
    pub address: IpAddr,
    /// The keys that authenticated on the connection (NIP-42).
    pub keys: &'a [[u8; 32]],
    /// The third element of `EVENT`.
    pub credential: Option<&'a str>,
}

impl Policy {
    /// What is asked of an event of this kind.
    pub fn of(&self, kind: u16) -> KindPolicy {
        self.per_kind.iter().find(|(kinds, _)| kinds.contains(&kind)).map_or(self.default, |(_, policy)| *policy)
    }

    /// Asks every rule that needs nothing but the event and the policy. `rates` counts for the address what passed the others.
    pub fn admit(&self, event: &RawEvent<'_>, from: &Sender<'_>, rates: &Rates, now: Unix) -> Result<(), Refusal> {
        self.size(event)?;
        self.kind_allowed(event)?;
        self.created_at_window(event, now)?;
        if event.expiration().is_some_and(|at| at <= now) {
            return refuse(Rule::Expired, "the event's own expiration has passed");
        }
        if self.banned_authors.contains(&event.pubkey) {
            return refuse(Rule::Ban, "this author is shut out by the operator");
        }
        if self.banned_addresses.contains(&from.address) {
            return refuse(Rule::Ban, "this address is shut out by the operator");
        }
        let asked = self.of(event.kind);
        self.auth_required(event, from, asked)?;
        pow(event, asked.pow)?;
        if asked.credential && from.credential.is_none() {
            return refuse(Rule::Credential, "events of this kind need a credential as third element of EVENT");
        }
        rates.count_address(self, from, now)
    }

    /// Asks what may only be held against an author whose signature was checked.
    pub fn admit_verified(&self, event: &RawEvent<'_>, rates: &Rates, now: Unix) -> Result<(), Refusal> {
        rates.count_author(self, event, now)
    }

    fn size(&self, event: &RawEvent<'_>) -> Result<(), Refusal> {
        if event.text.len() > self.event_bytes {
            return refuse(Rule::Size, format!("the event has more than {} bytes", self.event_bytes));
        }
        if event.tags().nth(self.tags).is_some() {
            return refuse(Rule::Size, format!("the event has more than {} tags", self.tags));
        }
        Ok(())
    }

    fn kind_allowed(&self, event: &RawEvent<'_>) -> Result<(), Refusal> {
        let named = |kinds: &[RangeInclusive<u16>]| kinds.iter().any(|range| range.contains(&event.kind));
        if named(&self.kinds_denied) || !(self.kinds.is_empty() || named(&self.kinds)) {
            return refuse(Rule::KindAllowed, format!("events of kind {} are not taken here", event.kind));
        }
        Ok(())
    }

    fn created_at_window(&self, event: &RawEvent<'_>, now: Unix) -> Result<(), Refusal> {
        if event.created_at.0 > now.0.saturating_add(self.future_secs) {
            let cause = format!("created_at is more than {} seconds in the future", self.future_secs);
            return refuse(Rule::CreatedAtWindow, cause);
        }
        let lasting = matches!(event.class(), KindClass::Replaceable | KindClass::Addressable);
        match self.past_secs {
            Some(past) if !lasting && event.created_at.0 < now.0.saturating_sub(past) => {
                refuse(Rule::CreatedAtWindow, format!("created_at is more than {past} seconds ago"))
            }
            _ => Ok(()),
        }
    }

    fn auth_required(&self, event: &RawEvent<'_>, from: &Sender<'_>, asked: KindPolicy) -> Result<(), Refusal> {
        if from.keys.contains(&event.pubkey) {
            return Ok(());
        }
        if asked.auth {
            return refuse(Rule::AuthRequired, "events of this kind are taken from their authenticated author only");
        }
        if event.tags().any(|mut tag| tag.next().is_some_and(|name| name.decode() == "-")) {
            return refuse(Rule::AuthRequired, "this event may be published by its author only");
        }
        Ok(())
    }

    /// Whether everybody who may read may see an event, so that nobody has to be asked who they are.
    pub fn is_for_all(&self, event: &Encoded) -> bool {
        !self.private_kinds.contains(&event.kind)
    }

    /// Whether who authenticated as `keys` may see an event.
    pub fn may_read(&self, event: &Encoded, keys: &[[u8; 32]]) -> bool {
        if self.is_for_all(event) {
            return true;
        }
        let Ok(raw) = event.raw() else { return false };
        raw.indexed_tags().any(|(letter, value)| {
            letter == b'p' && wire::parse_hex::<32>(&value, "p").is_ok_and(|recipient| keys.contains(&recipient))
        })
    }

    /// What DOMP's DIP-04 announces under `domp_policy` (NIP-11), true to the rules above.
    pub fn domp(&self) -> serde_json::Value {
        let mut pow: BTreeMap<String, u8> = BTreeMap::new();
        for kind in 300..=399u16 {
            let asked = self.of(kind).pow;
            if asked != self.default.pow {
                pow.insert(format!("kind_{kind}"), asked);
            }
        }
        pow.insert("default".into(), self.default.pow);
        let required = pow.values().any(|bits| *bits > 0) || (300..=399u16).any(|kind| self.of(kind).credential);
        let mut policy = serde_json::json!({ "anti_spam_required": required, "pow_difficulty": pow });
        if let Some(rate) = self.per_author.or(self.per_address) {
            let hour = u64::from(rate.per_minute) * 60;
            policy["rate_limits"] = serde_json::json!({ "events_per_hour": hour, "events_per_day": hour * 24 });
        }
        policy
    }
}

/// NIP-13: the event commits to a target, and its id reaches it.
fn pow(event: &RawEvent<'_>, wanted: u8) -> Result<(), Refusal> {
    if wanted == 0 {
        return Ok(());
    }
    let have = wire::pow::zero_bits(&event.id);
    if have < u32::from(wanted) {
        return refuse(Rule::Pow, format!("the id shows {have} bits of work, events of this kind need {wanted}"));
    }
    let proven = wire::pow::proven(&event.to_event());
    if proven < u32::from(wanted) {
        return refuse(
            Rule::Pow,
            format!("the event commits to {proven} bits of work in its tags, {wanted} are needed"),
        );
    }
    Ok(())
}

/// A spent credential is checked behind this port, after the signature and before the commit.
pub trait Credentials: Send + Sync {
    /// Checks `credential` for `event`. Gives what the log keeps beside the event as spent.
    fn check(&self, event: &RawEvent<'_>, credential: &str, now: Unix) -> Result<Vec<u8>, Refusal>;
}

/// A policy that can be replaced while it is in use.
#[derive(Debug, Default)]
pub struct CurrentPolicy(RwLock<Arc<Policy>>);

impl CurrentPolicy {
    /// Starts with `policy`.
    pub fn new(policy: Policy) -> CurrentPolicy {
        CurrentPolicy(RwLock::new(Arc::new(policy)))
    }

    /// The policy as it is now.
    pub fn get(&self) -> Arc<Policy> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// From now on, this.
    pub fn set(&self, policy: Policy) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(policy);
    }
}

#[derive(Clone, Copy, Debug)]
struct Bucket {
    /// Sixtieths of an event.
    left: u64,
    at: Unix,
}

impl Bucket {
    /// Takes one event out of the bucket if there is one.
    fn take(&mut self, rate: Rate, now: Unix) -> bool {
        self.fill(rate, now);
        let enough = self.left >= 60;
        self.left -= if enough { 60 } else { 0 };
        enough
    }

    fn fill(&mut self, rate: Rate, now: Unix) {
        let gained = now.0.saturating_sub(self.at.0).saturating_mul(u64::from(rate.per_minute));
        self.left = self.left.saturating_add(gained).min(60 * u64::from(rate.burst));
        self.at = now.max(self.at);
    }
}

#[derive(Debug)]
struct Buckets<K> {
    each: HashMap<K, Bucket>,
    rest: Option<Bucket>,
}

// Derived, it would ask for a default key.
impl<K> Default for Buckets<K> {
    fn default() -> Buckets<K> {
        Buckets { each: HashMap::new(), rest: None }
    }
}

impl<K: Eq + std::hash::Hash> Buckets<K> {
    fn take(&mut self, key: K, rate: Rate, now: Unix) -> bool {
        let full = Bucket { left: 60 * u64::from(rate.burst), at: now };
        if self.each.len() >= TRACKED_MAX && !self.each.contains_key(&key) {
            self.each.retain(|_, bucket| {
                bucket.fill(rate, now);
                bucket.left < full.left
            });
            if self.each.len() >= TRACKED_MAX {
                return self.rest.get_or_insert(full).take(rate, now);
            }
        }
        self.each.entry(key).or_insert(full).take(rate, now)
    }
}

/// How much everybody has sent of late.
#[derive(Debug, Default)]
pub struct Rates {
    addresses: Mutex<Buckets<IpAddr>>,
    authors: Mutex<Buckets<[u8; 32]>>,
}

impl Rates {
    fn count_address(&self, policy: &Policy, from: &Sender<'_>, now: Unix) -> Result<(), Refusal> {
        let Some(rate) = policy.per_address.filter(|_| !from.address.is_loopback()) else { return Ok(()) };
        if self.addresses.lock().unwrap_or_else(PoisonError::into_inner).take(from.address, rate, now) {
            return Ok(());
        }
        refuse(Rule::RateLimit, format!("at most {} events a minute from one address", rate.per_minute))
    }

    fn count_author(&self, policy: &Policy, event: &RawEvent<'_>, now: Unix) -> Result<(), Refusal> {
        let Some(rate) = policy.per_author else { return Ok(()) };
        if self.authors.lock().unwrap_or_else(PoisonError::into_inner).take(event.pubkey, rate, now) {
            return Ok(());
        }
        refuse(Rule::RateLimit, format!("at most {} events a minute from one author", rate.per_minute))
    }
}

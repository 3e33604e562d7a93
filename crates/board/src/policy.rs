//! The policy of a board as one document: what it takes, of whom, and for what. Read from and written to TOML or JSON.
//!
//! Every key has a default, an unknown one is refused, and `false` stands for "no such limit".

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::fmt;
use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::str::FromStr;

use credential::quote::{KIND_AHEAD, KIND_REQUEST};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use wire::KindClass;
use wire::event::KIND_VANISH;
use wire::seal::KIND_GIFT_WRAP;

use crate::origin::counted;

/// An encrypted direct message (NIP-04): of interest to author and recipient.
pub const KIND_DIRECT_MESSAGE: u16 = 4;
/// A gift wrap that is not kept (NIP-59).
pub const KIND_PASSING_GIFT_WRAP: u16 = 21_059;
/// An order of CivKit: its content is a BOLT11 or BOLT12 string. Addressable, with or without a `d` tag.
pub const KIND_ORDER: u16 = 32_500;

/// The board's own network, where a network is named.
const OWN: &str = "own";

/// Some kinds, as `300-399` or `300`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct KindRange {
    first: u16,
    last: u16,
}

impl KindRange {
    /// The first kind and the last.
    pub fn bounds(self) -> (u16, u16) {
        (self.first, self.last)
    }

    /// It holds this kind.
    pub fn contains(self, kind: u16) -> bool {
        (self.first..=self.last).contains(&kind)
    }

    fn width(self) -> u16 {
        self.last.saturating_sub(self.first)
    }
}

impl From<RangeInclusive<u16>> for KindRange {
    fn from(range: RangeInclusive<u16>) -> KindRange {
        KindRange { first: *range.start(), last: *range.end() }
    }
}

impl From<u16> for KindRange {
    fn from(kind: u16) -> KindRange {
        KindRange { first: kind, last: kind }
    }
}

impl fmt::Display for KindRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.first == self.last { write!(f, "{}", self.first) } else { write!(f, "{}-{}", self.first, self.last) }
    }
}

/// Not a kind and not a range of kinds.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is neither a kind, 0 to 65535, nor a range of kinds such as 300-399")]
pub struct NoKindRange(String);

impl FromStr for KindRange {
    type Err = NoKindRange;

    fn from_str(text: &str) -> Result<KindRange, NoKindRange> {
        let (first, last) = text.split_once('-').unwrap_or((text, text));
        match (first.trim().parse(), last.trim().parse()) {
            (Ok(first), Ok(last)) if first <= last => Ok(KindRange { first, last }),
            _ => Err(NoKindRange(text.to_owned())),
        }
    }
}

impl Serialize for KindRange {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for KindRange {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<KindRange, D::Error> {
        struct Kinds;
        impl de::Visitor<'_> for Kinds {
            type Value = KindRange;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a kind, or a range of kinds such as \"300-399\"")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<KindRange, E> {
                text.parse().map_err(E::custom)
            }

            fn visit_u64<E: de::Error>(self, kind: u64) -> Result<KindRange, E> {
                kind.to_string().parse().map_err(E::custom)
            }

            fn visit_i64<E: de::Error>(self, kind: i64) -> Result<KindRange, E> {
                kind.to_string().parse().map_err(E::custom)
            }
        }
        deserializer.deserialize_any(Kinds)
    }
}

/// So many events at once, and so many more each minute.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Rate {
    /// At once.
    pub burst: u32,
    /// Each minute.
    pub per_minute: u32,
}

/// So much of the board's time at once, and so much more each minute, in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Share {
    /// At once.
    pub burst_ms: u32,
    /// Each minute: 60,000 are one core.
    pub per_minute_ms: u32,
}

/// Events that an author may publish without the credential that is asked for otherwise.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct FreeTier {
    /// How many each day.
    pub per_day: u32,
    /// Least score of the author, as [`Reputation`](crate::admission::Reputation) tells it. Zero lets everybody in.
    #[serde(default)]
    pub score: u32,
}

/// What is asked of the invoice or offer in a market order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum MarketOrder {
    /// Nothing.
    #[default]
    Off,
    /// Whatever looks like a BOLT11 or BOLT12 string has to be one that can still be paid.
    Checked,
    /// The same, and there has to be one.
    Required,
    /// The same, and it names the author of the event, as `npub1…` or in hex, in its description or as its issuer: else anybody can
    /// publish what somebody else offers.
    Bound,
}

/// A network of Bitcoin by its name: `bitcoin`, `testnet`, `testnet4`, `signet` or `regtest`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network(pub bitcoin::Network);

impl Network {
    /// The name that BOLT#11's prefix stands for: it does not tell the two testnets apart.
    pub(crate) fn bolt11(self) -> String {
        match self.0 {
            bitcoin::Network::Testnet4 => bitcoin::Network::Testnet.to_string(),
            network => network.to_string(),
        }
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Serialize for Network {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// The network of what a market order promises, in a policy: a name, or `own`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OrderNetwork {
    /// That of the board. A board that was told of none counts as one of Bitcoin's main network.
    #[default]
    Own,
    /// This one.
    Named(Network),
}

impl OrderNetwork {
    /// What it names on a board of the network `own`.
    pub fn on(self, own: bitcoin::Network) -> Network {
        match self {
            OrderNetwork::Own => Network(own),
            OrderNetwork::Named(network) => network,
        }
    }
}

impl Serialize for OrderNetwork {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            OrderNetwork::Own => serializer.serialize_str(OWN),
            OrderNetwork::Named(network) => network.serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for OrderNetwork {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<OrderNetwork, D::Error> {
        let name = String::deserialize(deserializer)?;
        if name == OWN {
            return Ok(OrderNetwork::Own);
        }
        let unknown = || {
            let known = "own, bitcoin, testnet, testnet4, signet, regtest";
            de::Error::custom(format!("`{name}` is no network: {known}, or false for any"))
        };
        name.parse().map(|network| OrderNetwork::Named(Network(network))).map_err(|_| unknown())
    }
}

/// What is asked of an event of some kinds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct KindPolicy {
    /// Bits of work (NIP-13) that the event has to commit to and show.
    pub pow: u8,
    /// Millisatoshis that stand in for the work, when DOMP's `["anti_spam_proof", "ln", payment hash]` names a payment that the
    /// board's own node received for this event. Zero: they do not.
    pub anti_spam_ln_msat: u64,
    /// The connection has to be authenticated as the author (NIP-42).
    pub auth: bool,
    /// A credential has to be spent. Never for an ephemeral event, which is not kept, nor for a request to vanish (NIP-62).
    pub credential: bool,
    /// What is asked of invoices and offers in it.
    pub market_order: MarketOrder,
}

/// What something costs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Fee {
    /// Millisatoshis.
    pub msat: u64,
    /// For so many seconds; for good without it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub period_secs: Option<u64>,
    /// For these kinds; for all of them when empty.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub kinds: Vec<KindRange>,
}

/// What the board asks to be paid, as it announces it (NIP-11).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Fees {
    /// Where to pay.
    #[serde(with = "or_false")]
    pub payments_url: Option<String>,
    /// Where to pay what stands in for work (DOMP): an LNURL or a Lightning address.
    #[serde(with = "or_false")]
    pub anti_spam_recipient: Option<String>,
    /// To be let in.
    pub admission: Vec<Fee>,
    /// To be let in for a time.
    pub subscription: Vec<Fee>,
    /// For an event.
    pub publication: Vec<Fee>,
}

/// What the board takes. Replaced as a whole while the board runs; every event is judged by one version.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Policy {
    /// Longest event, in bytes of JSON.
    pub event_bytes: usize,
    /// Most tags.
    pub tags: usize,
    /// Kinds that are taken; everything when empty.
    pub kinds: Vec<KindRange>,
    /// Kinds that are not taken, whatever [`Policy::kinds`] says.
    pub kinds_denied: Vec<KindRange>,
    /// Oldest `created_at`, in seconds before now. Replaceable and addressable events may be as old as they like.
    #[serde(with = "or_false")]
    pub past_secs: Option<u64>,
    /// Newest `created_at`, in seconds after now.
    pub future_secs: u64,
    /// Network of the invoices and offers in market orders. None: any will do.
    #[serde(with = "or_false")]
    pub invoice_network: Option<OrderNetwork>,
    /// How many events one address may send. Loopback addresses are exempt.
    #[serde(with = "or_false")]
    pub per_address: Option<Rate>,
    /// How long the board works for the questions of one address (`REQ`, `COUNT`, `NEG-OPEN`, `NEG-MSG`); then they wait. Loopback
    /// addresses are exempt.
    #[serde(with = "or_false")]
    pub per_address_queries: Option<Share>,
    /// How many events one author may send.
    #[serde(with = "or_false")]
    pub per_author: Option<Rate>,
    /// How many events may be paid for with credentials of a class.
    pub per_credential_class: BTreeMap<String, Rate>,
    /// Where a credential is asked for, what goes without.
    #[serde(with = "or_false")]
    pub free_tier: Option<FreeTier>,
    /// Authors that are shut out.
    #[serde(with = "hex_set")]
    pub banned_authors: HashSet<[u8; 32]>,
    /// Addresses that are shut out; they are not let in to connect either.
    #[serde(serialize_with = "sorted", deserialize_with = "canonical")]
    pub banned_addresses: HashSet<IpAddr>,
    /// Reading needs authentication too (NIP-42).
    pub auth_to_read: bool,
    /// Kinds that are shown to nobody but their author and a recipient, named by a `p` tag, who have authenticated.
    pub private_kinds: Vec<u16>,
    /// What it costs, as announced. What is asked for stands in the rules.
    pub fees: Fees,
    /// What is asked of kinds that [`Policy::per_kind`] does not name.
    pub default: KindPolicy,
    /// What is asked of some kinds. The narrowest range that holds the kind counts, alone: it takes nothing from `default`.
    pub per_kind: BTreeMap<KindRange, KindPolicy>,
}

impl Default for Policy {
    /// Takes every kind that is meant for a relay from everybody, within bounds.
    fn default() -> Policy {
        let order = KindPolicy { market_order: MarketOrder::Checked, ..KindPolicy::default() };
        Policy {
            event_bytes: 128 * 1024,
            tags: 2000,
            kinds: Vec::new(),
            // NIP-42 and NIP-98 events are for one server's eyes; passed on, they could be used against their author.
            kinds_denied: vec![22_242.into(), 27_235.into()],
            past_secs: None,
            future_secs: 900,
            invoice_network: Some(OrderNetwork::Own),
            per_address: Some(Rate { burst: 5000, per_minute: 12_000 }),
            per_address_queries: Some(Share { burst_ms: 2000, per_minute_ms: 6000 }),
            per_author: None,
            per_credential_class: BTreeMap::new(),
            free_tier: None,
            banned_authors: HashSet::new(),
            banned_addresses: HashSet::new(),
            auth_to_read: false,
            private_kinds: vec![KIND_DIRECT_MESSAGE, KIND_GIFT_WRAP, KIND_PASSING_GIFT_WRAP],
            fees: Fees::default(),
            default: KindPolicy::default(),
            per_kind: BTreeMap::from([(KIND_ORDER.into(), order)]),
        }
    }
}

impl Policy {
    /// What is asked of an event of this kind.
    pub fn of(&self, kind: u16) -> KindPolicy {
        let holds = self.per_kind.iter().filter(|(kinds, _)| kinds.contains(kind));
        let asked = holds.min_by_key(|(kinds, _)| kinds.width()).map_or(self.default, |(_, policy)| *policy);
        KindPolicy { credential: asked.credential && may_cost(kind), ..asked }
    }

    /// Whether events of this kind are taken at all.
    pub fn takes_kind(&self, kind: u16) -> bool {
        let named = |kinds: &[KindRange]| kinds.iter().any(|range| range.contains(kind));
        // What credentials are bought and sent ahead with goes with asking for them.
        let bears = || matches!(kind, KIND_REQUEST | KIND_AHEAD) && self.asks_credentials();
        !named(&self.kinds_denied) && (self.kinds.is_empty() || named(&self.kinds) || bears())
    }

    /// Whether a credential is asked for anything.
    fn asks_credentials(&self) -> bool {
        self.default.credential || self.per_kind.values().any(|asked| asked.credential)
    }

    /// The kinds that are taken for a credential only, in order.
    pub fn credential_kinds(&self) -> Vec<KindRange> {
        let ranges = self.per_kind.keys().chain(&self.kinds).chain(&self.kinds_denied);
        let edges = ranges.copied().chain([EPHEMERAL, KIND_VANISH.into(), (0..=u16::MAX).into()]);
        let edges: BTreeSet<u32> = edges.flat_map(|range| [range.first.into(), u32::from(range.last) + 1]).collect();
        let mut found: Vec<KindRange> = Vec::new();
        // Between two edges all kinds are treated alike.
        for (first, next) in edges.iter().zip(edges.iter().skip(1)) {
            let (first, last) = (*first as u16, (*next - 1) as u16);
            if !self.takes_kind(first) || !self.of(first).credential {
                continue;
            }
            match found.last_mut() {
                Some(before) if before.last + 1 == first => before.last = last,
                _ => found.push(KindRange { first, last }),
            }
        }
        found
    }
}

/// Kinds that are not kept (NIP-01).
const EPHEMERAL: KindRange = KindRange { first: 20_000, last: 29_999 };

/// A credential buys that an event is kept; and whoever was let in once has a right to leave.
fn may_cost(kind: u16) -> bool {
    KindClass::of(kind) != KindClass::Ephemeral && kind != KIND_VANISH
}

/// `None` is written as `false`: TOML has no null, and an absent key means the default.
mod or_false {
    use std::fmt;
    use std::marker::PhantomData;

    use serde::de::value::MapAccessDeserializer;
    use serde::de::{self, IntoDeserializer};
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub(super) fn serialize<T: Serialize, S: Serializer>(value: &Option<T>, serializer: S) -> Result<S::Ok, S::Error> {
        match value {
            Some(value) => value.serialize(serializer),
            None => serializer.serialize_bool(false),
        }
    }

    pub(super) fn deserialize<'de, T, D>(deserializer: D) -> Result<Option<T>, D::Error>
    where
        T: Deserialize<'de>,
        D: Deserializer<'de>,
    {
        deserializer.deserialize_any(OrFalse(PhantomData))
    }

    struct OrFalse<T>(PhantomData<T>);

    impl<'de, T: Deserialize<'de>> de::Visitor<'de> for OrFalse<T> {
        type Value = Option<T>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a value, or false for none")
        }

        fn visit_bool<E: de::Error>(self, value: bool) -> Result<Option<T>, E> {
            if value { Err(E::invalid_value(de::Unexpected::Bool(true), &self)) } else { Ok(None) }
        }

        fn visit_u64<E: de::Error>(self, value: u64) -> Result<Option<T>, E> {
            T::deserialize(value.into_deserializer()).map(Some)
        }

        fn visit_i64<E: de::Error>(self, value: i64) -> Result<Option<T>, E> {
            T::deserialize(value.into_deserializer()).map(Some)
        }

        fn visit_str<E: de::Error>(self, value: &str) -> Result<Option<T>, E> {
            T::deserialize(value.into_deserializer()).map(Some)
        }

        fn visit_map<A: de::MapAccess<'de>>(self, map: A) -> Result<Option<T>, A::Error> {
            T::deserialize(MapAccessDeserializer::new(map)).map(Some)
        }
    }
}

/// Keys as lowercase hex, in order.
mod hex_set {
    use std::collections::HashSet;

    use serde::de::Error as _;
    use serde::{Deserialize, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(keys: &HashSet<[u8; 32]>, serializer: S) -> Result<S::Ok, S::Error> {
        let mut keys: Vec<&[u8; 32]> = keys.iter().collect();
        keys.sort_unstable();
        serializer.collect_seq(keys.into_iter().map(units::hex32))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<HashSet<[u8; 32]>, D::Error> {
        let keys = Vec::<String>::deserialize(deserializer)?;
        let key = |text: &String| {
            wire::parse_hex(text, "a key").map_err(|why| D::Error::custom(format!("`{text}` is no public key: {why}")))
        };
        keys.iter().map(key).collect()
    }
}

impl Policy {
    /// The operator has shut this address out, or the network of 64 bits that it shares (IPv6).
    pub(crate) fn shuts_out(&self, address: IpAddr) -> bool {
        let banned = &self.banned_addresses;
        !banned.is_empty() && (banned.contains(&address) || counted(address).is_some_and(|all| banned.contains(&all)))
    }
}

/// An address of IPv4 may be written as one of IPv6; people come from the first.
fn canonical<'de, D: Deserializer<'de>>(deserializer: D) -> Result<HashSet<IpAddr>, D::Error> {
    let addresses = Vec::<IpAddr>::deserialize(deserializer)?;
    Ok(addresses.iter().map(IpAddr::to_canonical).collect())
}

fn sorted<S: Serializer>(addresses: &HashSet<IpAddr>, serializer: S) -> Result<S::Ok, S::Error> {
    let mut addresses: Vec<&IpAddr> = addresses.iter().collect();
    addresses.sort_unstable();
    serializer.collect_seq(addresses)
}

//! Admission: a list of named rules that an event passes one after another, cheapest first, each with a reason for people.
//!
//! [`Policy::admit`] runs before the signature is checked, on what the event claims; what is counted against an author waits
//! for [`Policy::admit_verified`], so that nobody uses up another's share with forged events.

use std::borrow::Cow;
use std::net::IpAddr;
use std::sync::{Arc, PoisonError, RwLock};

use credential::quote::KIND_AHEAD;
use credential::{Keyset, Stamp};
use units::Unix;
use wire::auth::same_relay;
use wire::event::KIND_VANISH;
use wire::{KindClass, Limits, RawEvent};

use crate::order;
use crate::origin::counted;
pub use crate::policy::{FreeTier, KindPolicy, KindRange, MarketOrder, Policy, Rate, Share};
pub use crate::rates::Rates;
use crate::store::{Encoded, Reader};
pub use crate::strikes::Bearer;
use crate::strikes::{BAD_MAX, WITHIN_SECS};

/// Reposts (NIP-18): of notes, of anything.
const KINDS_REPOST: [u16; 2] = [6, 16];
/// Why an event without a credential is not taken, and what is to be done about it.
const NEEDED: &str =
    "events of this kind need a credential as third element of EVENT; how to buy them is in kind 13250";

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
    /// A protected event comes from somebody who is known and is not its author.
    Protected,
    /// Proof of work (NIP-13).
    Pow,
    /// How many events in a time.
    RateLimit,
    /// Invoices and offers in an order can be paid.
    MarketOrder,
    /// A payment in place of work (DOMP).
    AntiSpamLn,
    /// So many events without a credential.
    FreeTier,
    /// A spent credential.
    Credential,
}

impl Rule {
    /// All of them.
    pub const ALL: [Rule; 13] = [
        Rule::Size,
        Rule::KindAllowed,
        Rule::CreatedAtWindow,
        Rule::Expired,
        Rule::Ban,
        Rule::AuthRequired,
        Rule::Protected,
        Rule::Pow,
        Rule::RateLimit,
        Rule::MarketOrder,
        Rule::AntiSpamLn,
        Rule::FreeTier,
        Rule::Credential,
    ];

    /// A stable name.
    pub fn name(self) -> &'static str {
        match self {
            Rule::Size => "size",
            Rule::KindAllowed => "kind-allowed",
            Rule::CreatedAtWindow => "created-at-window",
            Rule::Expired => "expired",
            Rule::Ban => "ban",
            Rule::AuthRequired => "auth-required",
            Rule::Protected => "protected",
            Rule::Pow => "pow",
            Rule::RateLimit => "rate-limit",
            Rule::MarketOrder => "market-order",
            Rule::AntiSpamLn => "anti-spam-ln",
            Rule::FreeTier => "free-tier",
            Rule::Credential => "credential",
        }
    }

    /// The word that NIP-01 and NIP-42 put before the reason.
    pub fn prefix(self) -> &'static str {
        match self {
            Rule::Size | Rule::CreatedAtWindow | Rule::Expired | Rule::MarketOrder => "invalid",
            Rule::KindAllowed | Rule::Ban => "blocked",
            Rule::AuthRequired => "auth-required",
            Rule::Pow => "pow",
            Rule::RateLimit => "rate-limited",
            Rule::Protected | Rule::AntiSpamLn | Rule::FreeTier | Rule::Credential => "restricted",
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

/// Who sends an event and what comes with it.
#[derive(Clone, Copy, Debug)]
pub struct Sender<'a> {
    /// Where from.
    pub address: IpAddr,
    /// Number of the connection.
    pub client: u64,
    /// The keys that authenticated on the connection (NIP-42).
    pub keys: &'a [[u8; 32]],
    /// The third element of `EVENT`.
    pub credential: Option<&'a str>,
}

impl Sender<'_> {
    /// Who it is whose credentials are counted.
    pub fn bearer(&self) -> Bearer {
        Bearer { address: self.address, client: self.client }
    }
}

impl Policy {
    /// Asks every rule that needs nothing but the event and the policy. `rates` counts for the address what passed the others.
    pub fn admit(&self, event: &RawEvent<'_>, from: &Sender<'_>, rates: &Rates, now: Unix) -> Result<(), Refusal> {
        self.size(event)?;
        self.kind_allowed(event)?;
        self.created_at_window(event, now)?;
        if event.expiration().is_some_and(|at| at <= now) {
            return refuse(Rule::Expired, "the event's own expiration has passed");
        }
        // Whoever was let in once has a right to leave, shut out or not (NIP-62).
        if event.kind != KIND_VANISH && self.banned_authors.contains(&event.pubkey) {
            return refuse(Rule::Ban, "this author is shut out by the operator");
        }
        if self.shuts_out(from.address) {
            return refuse(Rule::Ban, "this address is shut out by the operator");
        }
        if event.kind == KIND_VANISH {
            return self.count_address(from, rates, now);
        }
        if event.kind == KIND_AHEAD {
            // Its author is a key that nobody has seen before, and what it brings is the payment.
            self.may_bear(from, rates, now)?;
            return self.count_address(from, rates, now);
        }
        let asked = self.of(event.kind);
        self.auth_required(event, from, asked)?;
        if !pays_instead_of_work(event, asked) {
            pow(event, asked.pow)?;
        }
        if asked.credential {
            self.shows_credential(from, rates, now)?;
        }
        self.count_address(from, rates, now)
    }

    /// There is a credential, or there may be no need for one, and who shows it did not show too many bad ones.
    fn shows_credential(&self, from: &Sender<'_>, rates: &Rates, now: Unix) -> Result<(), Refusal> {
        if from.credential.is_none() {
            return if self.free_tier.is_some() { Ok(()) } else { refuse(Rule::Credential, NEEDED) };
        }
        self.may_bear(from, rates, now)
    }

    /// Who shows a credential did not show too many bad ones.
    fn may_bear(&self, from: &Sender<'_>, rates: &Rates, now: Unix) -> Result<(), Refusal> {
        let Some(secs) = rates.strikes().wait(from.bearer(), now) else {
            return Ok(());
        };
        let cause = format!("{BAD_MAX} bad credentials within {WITHIN_SECS} seconds, try again in {secs}");
        refuse(Rule::RateLimit, cause)
    }

    fn count_address(&self, from: &Sender<'_>, rates: &Rates, now: Unix) -> Result<(), Refusal> {
        match self.per_address.zip(counted(from.address)) {
            Some((rate, address)) if !rates.address(address, rate, now) => {
                refuse(Rule::RateLimit, format!("at most {} events a minute from one address", rate.per_minute))
            }
            _ => Ok(()),
        }
    }

    /// Asks of an event that the operator imports what does not depend on who sends it and when. The board is known under `urls`: a
    /// request to vanish that another relay was sent is not for this one.
    pub fn admit_import(&self, event: &RawEvent<'_>, urls: &[String], now: Unix) -> Result<(), Refusal> {
        self.size(event)?;
        self.kind_allowed(event)?;
        if event.expiration().is_some_and(|at| at <= now) {
            return refuse(Rule::Expired, "the event's own expiration has passed");
        }
        if event.kind == KIND_VANISH {
            return vanish_is_for(event, urls);
        }
        if self.banned_authors.contains(&event.pubkey) {
            return refuse(Rule::Ban, "this author is shut out by the operator");
        }
        Ok(())
    }

    /// Asks what may only be held against an author whose signature was checked, and what costs too much to be asked before.
    pub fn admit_verified(&self, event: &RawEvent<'_>, rates: &Rates, now: Unix) -> Result<(), Refusal> {
        match self.per_author {
            Some(rate) if !rates.author(event.pubkey, rate, now) => {
                return refuse(Rule::RateLimit, format!("at most {} events a minute from one author", rate.per_minute));
            }
            _ => {}
        }
        order::check(self, event, now).or_else(|cause| refuse(Rule::MarketOrder, cause))
    }

    /// Asks last of all what the event costs: a payment in place of work, a credential, or a place in the free tier. Gives the
    /// credential that is to be spent for it.
    pub fn charge(
        &self,
        event: &RawEvent<'_>,
        credential: Option<&str>,
        ports: &Ports,
        rates: &Rates,
        now: Unix,
    ) -> Result<Option<Stamp>, Refusal> {
        if event.kind == KIND_VANISH {
            return vanish_is_for(event, &ports.urls).map(|()| None);
        }
        let asked = self.of(event.kind);
        if pays_instead_of_work(event, asked) {
            anti_spam_ln(event, asked, ports)?;
        }
        if !asked.credential {
            return Ok(None);
        }
        match (credential, &ports.credentials) {
            (Some(credential), Some(port)) => {
                let Spent { stamp, class } = port.check(&event.id, credential, now)?;
                match self.per_credential_class.get(&class) {
                    Some(rate) if !rates.class(&class, *rate, now) => {
                        let cause =
                            format!("at most {} events a minute for credentials of class {class}", rate.per_minute);
                        refuse(Rule::RateLimit, cause)
                    }
                    _ => Ok(Some(stamp)),
                }
            }
            (Some(_), None) => {
                refuse(Rule::Credential, "this board takes no credentials, though its policy asks for them")
            }
            (None, _) => self.free_tier(event, ports, rates, now).map(|()| None),
        }
    }

    fn free_tier(&self, event: &RawEvent<'_>, ports: &Ports, rates: &Rates, now: Unix) -> Result<(), Refusal> {
        let Some(tier) = self.free_tier else {
            return refuse(Rule::Credential, NEEDED);
        };
        let score = ports.reputation.as_ref().map_or(0, |port| port.score(&event.pubkey));
        if score < tier.score {
            let cause = format!("without a credential for authors of score {} only; this one has {score}", tier.score);
            return refuse(Rule::FreeTier, cause);
        }
        if rates.free(event.pubkey, tier, now) {
            return Ok(());
        }
        refuse(Rule::FreeTier, format!("{} events a day are free, more need a credential (kind 13250)", tier.per_day))
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
        // A request to vanish is followed whatever else is taken (NIP-62).
        if event.kind != KIND_VANISH && !self.takes_kind(event.kind) {
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
        if reposts_protected(event) {
            return refuse(Rule::KindAllowed, "a repost must not hold a protected event");
        }
        if from.keys.contains(&event.pubkey) {
            return Ok(());
        }
        if asked.auth {
            return refuse(Rule::AuthRequired, "events of this kind are taken from their authenticated author only");
        }
        if protected(event) {
            // Who has authenticated as somebody else is not to wait for being asked to authenticate (NIP-42).
            let rule = if from.keys.is_empty() { Rule::AuthRequired } else { Rule::Protected };
            return refuse(rule, "this event may only be published by its author");
        }
        Ok(())
    }

    /// Whether everybody who may read may see an event, so that nobody has to be asked who they are.
    pub fn is_for_all(&self, event: &Encoded) -> bool {
        !self.private_kinds.contains(&event.kind)
    }

    /// Whether who authenticated as `keys` may see an event.
    pub fn may_read(&self, event: &Encoded, keys: &[[u8; 32]]) -> bool {
        if self.is_for_all(event) || keys.contains(&event.pubkey) {
            return true;
        }
        let Ok(raw) = event.raw() else { return false };
        raw.indexed_tags().any(|(letter, value)| {
            letter == b'p' && wire::parse_hex::<32>(&value, "p").is_ok_and(|recipient| keys.contains(&recipient))
        })
    }
}

/// Somebody who has authenticated as `keys`, and what `policy` shows them.
pub(crate) struct Authenticated {
    pub(crate) policy: Arc<Policy>,
    pub(crate) keys: Vec<[u8; 32]>,
}

impl Reader for Authenticated {
    fn may_read(&self, event: &Encoded) -> bool {
        self.policy.may_read(event, &self.keys)
    }

    fn may_read_all(&self, kind: u16) -> bool {
        !self.policy.private_kinds.contains(&kind)
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

/// A request to vanish names this board, or all relays (NIP-62). One for another relay would do here what nobody asked for.
fn vanish_is_for(event: &RawEvent<'_>, urls: &[String]) -> Result<(), Refusal> {
    let named = event.tags().any(|mut tag| {
        let relay = tag.next().is_some_and(|name| name.decode() == "relay");
        let ours = |value: Cow<'_, str>| value == "ALL_RELAYS" || urls.iter().any(|url| same_relay(url, &value));
        relay && tag.next().is_some_and(|value| ours(value.decode()))
    });
    if named { Ok(()) } else { refuse(Rule::KindAllowed, "this request to vanish is for other relays") }
}

/// A protected event (NIP-70).
fn protected(event: &RawEvent<'_>) -> bool {
    event.tags().any(|mut tag| tag.next().is_some_and(|name| name.decode() == "-"))
}

/// A repost that carries a protected event within itself (NIP-70).
fn reposts_protected(event: &RawEvent<'_>) -> bool {
    KINDS_REPOST.contains(&event.kind)
        && RawEvent::parse(event.content().decode().as_bytes(), &Limits::RELAY).is_ok_and(|inner| protected(&inner))
}

/// The hash that `["anti_spam_proof", "ln", hash]` claims was paid (DOMP).
fn claimed_payment(event: &RawEvent<'_>) -> Option<[u8; 32]> {
    event.tags().find_map(|mut tag| {
        let ln = tag.next()?.decode() == "anti_spam_proof" && tag.next()?.decode() == "ln";
        wire::parse_hex(&tag.next().filter(|_| ln)?.decode(), "payment hash").ok()
    })
}

/// Work is asked for, a payment may stand in for it, and the event claims one and not the work.
fn pays_instead_of_work(event: &RawEvent<'_>, asked: KindPolicy) -> bool {
    asked.anti_spam_ln_msat > 0
        && asked.pow > 0
        && claimed_payment(event).is_some()
        && wire::pow::proven(&event.to_event()) < u32::from(asked.pow)
}

fn anti_spam_ln(event: &RawEvent<'_>, asked: KindPolicy, ports: &Ports) -> Result<(), Refusal> {
    let Some(node) = &ports.payments else {
        return refuse(Rule::AntiSpamLn, "this board has no node that could have been paid; prove work instead");
    };
    let paid = claimed_payment(event).map_or(0, |hash| node.received_msat(&hash, &event.id));
    if paid >= asked.anti_spam_ln_msat {
        return Ok(());
    }
    let asked = asked.anti_spam_ln_msat;
    refuse(Rule::AntiSpamLn, format!("the board's node was paid {paid} msat for this event, {asked} are asked"))
}

/// What is spent for an event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spent {
    /// The credential. The store takes it once only, and the log keeps it beside the event.
    pub stamp: Stamp,
    /// Class of the credential, for [`Policy::per_credential_class`].
    pub class: String,
}

/// Credentials are checked behind this port, after the signature of the event and before the commit.
pub trait Credentials: Send + Sync {
    /// Checks `credential` for the event with the id `event`. Whether it was spent before is for the store to say.
    fn check(&self, event: &[u8; 32], credential: &str, now: Unix) -> Result<Spent, Refusal>;

    /// The keyset that is on sale at `now`, for the information document (NIP-11).
    fn keyset(&self, now: Unix) -> Option<Keyset>;
}

/// What the board's own node was paid. A hash in an event is a claim that anybody can copy.
pub trait Payments: Send + Sync {
    /// Millisatoshis received under this payment hash for this event and no other. Zero when there were none.
    fn received_msat(&self, hash: &[u8; 32], event: &[u8; 32]) -> u64;
}

/// What authors are known for.
pub trait Reputation: Send + Sync {
    /// Score of an author, zero for a stranger.
    fn score(&self, author: &[u8; 32]) -> u32;
}

/// What admission asks of the rest of the house. Without one of them, nothing passes that depends on it.
#[derive(Clone, Default)]
pub struct Ports {
    /// Who checks credentials.
    pub credentials: Option<Arc<dyn Credentials>>,
    /// Who knows what was paid.
    pub payments: Option<Arc<dyn Payments>>,
    /// Who knows authors.
    pub reputation: Option<Arc<dyn Reputation>>,
    /// Addresses under which the board is known; it fills them in itself.
    pub urls: Arc<[String]>,
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

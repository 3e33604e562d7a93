//! An arbiter's service: counted from its own log, and, where it wants that, published (kind 38322) for others to read as its claim.
//!
//! A claim is addressable (`["d", "arbiter"]`). Its content is the policy, in words; every fact is a tag, each once and no others:
//! `["alt", what it is]`, `["fee", sat]`, `["fee_ppm", millionths]`, then the counts of [`Service`] under their names, `["fees", sat]`
//! rounded down by [`bucket`], and, where it has ruled, `["hours", median, longest]`, each rounded up. It names no trade and nobody but
//! its author, and nothing in it is proof of anything.

use trade::{Arbiter, ArbiterState, FeeState, Outcome, PartyKey, Role, Step};
use units::{Sat, Unix};
use wire::event::{Event, KIND_DELETION, Unsigned};

use crate::pledge::{SAT_MAX, bucket};
use crate::rating::Reject;
use crate::tags::{Tags, number, tag};

/// Kind of an arbiter's claim. Ours: no NIP has it.
pub const KIND_SERVICE: u16 = 38_322;
/// Its `d` tag.
pub const SERVICE_D: &str = "arbiter";
/// Longest policy, in characters.
pub const POLICY_MAX: usize = 1000;
/// What readers of any program are told.
const ALT: &str = "An arbiter's own account of its service. Nobody else vouches for these numbers.";
/// Largest count that is believed to be one.
const COUNT_MAX: u64 = 1_000_000_000;
/// Longest time to rule that a lock leaves room for, generously: four locks of 2016 blocks at an hour a block.
const HOURS_MAX: u64 = 10_000;
const HOUR: u64 = 3600;

/// What an arbiter has done, in numbers of trades.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Service {
    /// It gave its word to serve.
    pub appointed: u64,
    /// Of those: money was locked, as far as it heard.
    pub locked: u64,
    /// Of those: over, and nobody asked for a ruling. The default on silence may have been its part.
    pub quiet: u64,
    /// Of those that were locked: somebody asked for a ruling.
    pub disputed: u64,
    /// Of the disputes: the whole price was ruled to the payer.
    pub for_payer: u64,
    /// The whole price was ruled to the payee.
    pub for_payee: u64,
    /// The price was split.
    pub split: u64,
    /// The two came to terms before it ruled.
    pub withdrawn: u64,
    /// It did not rule in time, and everything went back.
    pub missed: u64,
    /// Nobody asked for a ruling, and it was not there to apply the default that the two had agreed on.
    pub missed_defaults: u64,
    /// How long it took from hearing of a dispute to the ruling, in seconds; none before its first ruling.
    pub secs: Option<Times>,
    /// What it was paid.
    pub fees: Sat,
}

/// Of several times.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Times {
    /// The one in the middle; of an even number the later of the two.
    pub median: u64,
    /// The longest.
    pub worst: u64,
}

impl Times {
    fn of(mut times: Vec<u64>) -> Option<Times> {
        times.sort_unstable();
        Some(Times { median: *times.get(times.len() / 2)?, worst: *times.last()? })
    }
}

impl Service {
    /// Counts trades as their arbiter's log has them. `ruled_in` is how many seconds a trade's dispute waited for its ruling.
    pub fn of<'a>(
        trades: impl IntoIterator<Item = &'a Arbiter>,
        ruled_in: impl Fn(&Arbiter) -> Option<u64>,
    ) -> Service {
        let (mut service, mut times) = (Service::default(), Vec::new());
        for arbiter in trades {
            service.add(arbiter);
            times.extend(ruled_in(arbiter).filter(|_| has_ruled(arbiter)));
        }
        service.secs = Times::of(times);
        service
    }

    /// Rulings on disputes.
    pub fn rulings(&self) -> u64 {
        self.for_payer + self.for_payee + self.split
    }

    fn add(&mut self, arbiter: &Arbiter) {
        let dossier = &arbiter.dossier;
        if !dossier.ordered(Step::Appointment(0)) {
            return;
        }
        self.appointed += 1;
        let paid = dossier.fee.as_ref().filter(|fee| fee.state == FeeState::Paid).map_or(0, |fee| fee.amount.0);
        self.fees = Sat(self.fees.0.saturating_add(paid));
        if arbiter.locked_from.is_empty() {
            return;
        }
        self.locked += 1;
        let disputed = [Role::Payer, Role::Payee].iter().any(|side| dossier.said(*side, Step::Dispute).is_some());
        let count = match (disputed, end(arbiter)) {
            (false, None) => return,
            (false, Some(End::Missed)) => &mut self.missed_defaults,
            (false, Some(End::Ruled | End::Theirs)) => &mut self.quiet,
            (true, end) => {
                self.disputed += 1;
                match end {
                    None => return,
                    Some(End::Missed) => &mut self.missed,
                    Some(End::Theirs) => &mut self.withdrawn,
                    Some(End::Ruled) => match dossier.ruling.as_ref().map_or(0, |ruling| ruling.payee_tranches) {
                        0 => &mut self.for_payer,
                        all if all == dossier.terms().tranches => &mut self.for_payee,
                        _ => &mut self.split,
                    },
                }
            }
        };
        *count += 1;
    }
}

/// How a trade ended, as far as its arbiter had a part in it.
#[derive(PartialEq, Eq)]
enum End {
    /// It ruled because somebody asked.
    Ruled,
    /// It was to do something and let the time pass.
    Missed,
    /// The two ended it, or their default did.
    Theirs,
}

fn end(arbiter: &Arbiter) -> Option<End> {
    // An arbiter does not see whether the payee got the secrets with a receipt, so it keeps the trade: but it is not asked any more.
    let received = arbiter.dossier.said(Role::Payer, Step::Receipt).is_some();
    match arbiter.state {
        ArbiterState::Asked { .. } | ArbiterState::Serving { .. } => None,
        ArbiterState::Held | ArbiterState::Shipped | ArbiterState::Disputed { .. } => None,
        ArbiterState::Ruled { by_default: false } | ArbiterState::Closed { outcome: Outcome::Ruled } => {
            Some(End::Ruled)
        }
        ArbiterState::Closed { outcome: Outcome::Missed } if !received => Some(End::Missed),
        ArbiterState::Ruled { by_default: true } | ArbiterState::Closed { .. } => Some(End::Theirs),
    }
}

/// Did it rule because somebody asked?
pub fn has_ruled(arbiter: &Arbiter) -> bool {
    end(arbiter) == Some(End::Ruled)
}

/// What an arbiter says of itself. Nobody vouches for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    /// Who says so.
    pub arbiter: PartyKey,
    /// When, by its own clock.
    pub at: Unix,
    /// How it rules, in its words.
    pub policy: String,
    /// What it charges for a trade.
    pub fee: Sat,
    /// What it charges besides, in millionths of the first bid.
    pub fee_ppm: u32,
    /// Its service: times in whole hours, fees rounded down.
    pub service: Service,
}

impl Claim {
    /// As it is published: rounded, so that two versions do not show what one trade was worth or when it was ruled on.
    pub fn rounded(mut self) -> Claim {
        let whole = |secs: u64| secs.div_ceil(HOUR).min(HOURS_MAX) * HOUR;
        self.service.fees = bucket(self.service.fees);
        self.service.secs = self.service.secs.map(|t| Times { median: whole(t.median), worst: whole(t.worst) });
        self
    }

    /// The event that says it, to be signed by the arbiter.
    pub fn event(&self) -> Unsigned {
        let Claim { service, .. } = self.clone().rounded();
        let mut tags = vec![
            tag("d", SERVICE_D),
            tag("alt", ALT),
            tag("fee", &self.fee.0.to_string()),
            tag("fee_ppm", &self.fee_ppm.to_string()),
        ];
        tags.extend(counts(&service).map(|(name, count)| tag(name, &count.to_string())));
        tags.push(tag("fees", &service.fees.0.to_string()));
        tags.extend(
            service.secs.map(|t| vec!["hours".to_owned(), (t.median / HOUR).to_string(), (t.worst / HOUR).to_string()]),
        );
        Unsigned { pubkey: self.arbiter.0, created_at: self.at, kind: KIND_SERVICE, tags, content: self.policy.clone() }
    }

    /// The event that takes every version of a claim up to `at` back (NIP-09).
    pub fn deletion(arbiter: PartyKey, at: Unix) -> Unsigned {
        let address = format!("{KIND_SERVICE}:{arbiter}:{SERVICE_D}");
        let tags = vec![tag("a", &address), tag("k", &KIND_SERVICE.to_string())];
        Unsigned { pubkey: arbiter.0, created_at: at, kind: KIND_DELETION, tags, content: String::new() }
    }

    /// Reads a claim: signed, complete, within its bounds, and not at odds with itself.
    pub fn read(event: &Event) -> Result<Claim, Reject> {
        if event.kind != KIND_SERVICE || event.content.chars().count() > POLICY_MAX {
            return Err(Reject::Claim("no claim"));
        }
        event.verify()?;
        let claim = read(event).map_err(Reject::Claim)?;
        if claim.service.fits() { Ok(claim) } else { Err(Reject::Claim("its numbers do not add up")) }
    }
}

fn read(event: &Event) -> Result<Claim, &'static str> {
    let mut tags = Tags::of(&event.tags)?;
    if tags.value("d")? != Some(SERVICE_D) {
        return Err("d");
    }
    tags.value("alt")?;
    let fee = Sat(tags.number("fee", SAT_MAX)?);
    let fee_ppm = u32::try_from(tags.number("fee_ppm", 1_000_000)?).map_err(|_| "fee_ppm")?;
    let mut service = Service::default();
    for (name, count) in counts_mut(&mut service) {
        *count = tags.number(name, COUNT_MAX)?;
    }
    service.fees = Sat(tags.number("fees", SAT_MAX)?);
    service.secs = match tags.take("hours").map(Vec::as_slice) {
        None => None,
        Some([_, median, worst]) => {
            let secs = |text| number(text, HOURS_MAX).map(|hours| hours * HOUR).ok_or("hours");
            Some(Times { median: secs(median)?, worst: secs(worst)? })
        }
        Some(_) => return Err("hours"),
    };
    tags.end()?;
    let (arbiter, at, policy) = (PartyKey(event.pubkey), event.created_at, event.content.clone());
    Ok(Claim { arbiter, at, policy, fee, fee_ppm, service })
}

impl Service {
    /// Parts are no more than their wholes.
    fn fits(&self) -> bool {
        let times = self.secs.is_none_or(|t| t.median <= t.worst && self.rulings() > 0);
        self.locked <= self.appointed
            && self.quiet + self.missed_defaults + self.disputed <= self.locked
            && self.rulings() + self.withdrawn + self.missed <= self.disputed
            && self.fees == bucket(self.fees)
            && times
    }
}

fn counts(service: &Service) -> [(&'static str, u64); 10] {
    let mut service = service.clone();
    counts_mut(&mut service).map(|(name, count)| (name, *count))
}

/// Every count under the name of its tag.
fn counts_mut(s: &mut Service) -> [(&'static str, &mut u64); 10] {
    [
        ("appointed", &mut s.appointed),
        ("locked", &mut s.locked),
        ("quiet", &mut s.quiet),
        ("disputed", &mut s.disputed),
        ("for_payer", &mut s.for_payer),
        ("for_payee", &mut s.for_payee),
        ("split", &mut s.split),
        ("withdrawn", &mut s.withdrawn),
        ("missed", &mut s.missed),
        ("missed_defaults", &mut s.missed_defaults),
    ]
}

//! Ratings (kinds 321 to 323) with the pledges that they stand on.
//!
//! A rating is the DOMP event of its kind, public, with a `["pledge", json]` tag for its author's pledge, one for that of the other
//! side, and of an arbiter's rating one for the arbiter's; and, when the first tranche of the price was settled, `["settled",
//! preimage]`. The `p` tags name the rated key, its identity and the rater's identity, so that a board finds all of them.

use std::collections::BTreeMap;

use trade::{Message, MessageId, PartyKey, Role};
use units::{Height, PaymentHash, Preimage, Sat, Unix, hex32, parse_hex32};
use wire::domp::{self, kind};
use wire::event::{Event, Forged, Unsigned};

use crate::pledge::{Facts, HEIGHTS_APART_MAX, PLEDGE_BYTES_MAX, Pledge};

/// Name of the tags that hold pledges.
pub const PLEDGE_TAG: &str = "pledge";
/// Name of the tag that holds the secret of the first tranche.
pub const SETTLED_TAG: &str = "settled";
/// Third value of the `p` tag that names the rater.
pub const RATER_MARK: &str = "rater";
/// Author, the other side, and the arbiter.
const PLEDGES_MAX: usize = 3;
/// Blocks by which clocks of chains may differ.
const AHEAD_MAX: u32 = 144;

/// Why a rating does not count. [`Reject::code`] is stable.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Reject {
    /// Not what its author signed.
    #[error(transparent)]
    Forged(#[from] Forged),
    /// Not a DOMP event of its kind.
    #[error(transparent)]
    Domp(#[from] domp::Reject),
    /// No rating.
    #[error("no rating")]
    NoRating,
    /// A pledge is malformed, or says what cannot be.
    #[error("pledge: {0}")]
    Pledge(&'static str),
    /// An arbiter's claim is malformed, or at odds with itself.
    #[error("claim: {0}")]
    Claim(&'static str),
    /// More pledges than parties, or two of one party.
    #[error("too many pledges")]
    TooManyPledges,
    /// The author of the rating has not pledged that it was a party.
    #[error("the rater is no party of the escrow")]
    NotAParty,
    /// The pledge of whoever is rated is missing, or it is of somebody else.
    #[error("whoever is rated has not pledged this escrow")]
    NotPledged,
    /// The pledges are of different escrows.
    #[error("the pledges are of different escrows")]
    PledgesDiffer,
    /// The content names another payment than the pledges.
    #[error("it names another payment than the pledges")]
    WrongPayment,
    /// What is shown as the secret is not.
    #[error("the secret is of another payment")]
    WrongSecret,
    /// The pledges claim a height that the chain has not reached.
    #[error("it is pledged at a height that the chain has not reached")]
    TooHigh,
}

impl Reject {
    /// A stable name for the reason.
    pub fn code(&self) -> &'static str {
        match self {
            Reject::Forged(forged) => forged.code(),
            Reject::Domp(reject) => reject.code(),
            Reject::NoRating => "no-rating",
            Reject::Pledge(_) => "pledge",
            Reject::Claim(_) => "claim",
            Reject::TooManyPledges => "too-many-pledges",
            Reject::NotAParty => "not-a-party",
            Reject::NotPledged => "not-pledged",
            Reject::PledgesDiffer => "pledges-differ",
            Reject::WrongPayment => "wrong-payment",
            Reject::WrongSecret => "wrong-secret",
            Reject::TooHigh => "too-high",
        }
    }
}

/// Who or what is rated. Users and arbiters by their identity where they linked it, else by the key of the trade.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Subject {
    /// A payer or a payee.
    User(PartyKey),
    /// An arbiter.
    Arbiter(PartyKey),
    /// A board, by its address.
    Board(String),
}

/// A rating that was checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rating {
    /// Id of the event.
    pub id: MessageId,
    /// When it was made, as the rater says.
    pub at: Unix,
    /// The key that signed it.
    pub key: PartyKey,
    /// The rater: its identity where it linked one, else the key.
    pub rater: PartyKey,
    /// The part that the rater had in the trade.
    pub role: Role,
    /// Who is rated.
    pub subject: Subject,
    /// 1 to 5.
    pub rating: u8,
    /// In words.
    pub comment: Option<String>,
    /// The payment that it stands on.
    pub hash: PaymentHash,
    /// What it weighs: the lowest amount that was pledged.
    pub value: Sat,
    /// Height at which the rater pledged.
    pub height: Height,
    /// The secret of the payment is shown. A payee had it only from whoever released the money; a payer made it.
    pub settled: bool,
    /// The trade ended by a ruling.
    pub disputed: bool,
}

/// The address of a board as ratings are counted under it: without a slash at the end.
pub fn board_name(url: &str) -> &str {
    url.trim_end_matches('/')
}

/// Adds to a rating what it stands on, before it is signed. The first pledge is the author's.
pub fn attach(rating: &mut Unsigned, pledges: &[&Pledge], settled: Option<&Preimage>) {
    for pledge in pledges {
        rating.tags.push(vec![PLEDGE_TAG.to_owned(), pledge.event().to_json()]);
    }
    for identity in pledges.iter().filter_map(|pledge| pledge.identity) {
        let of_rater = pledges.first().is_some_and(|own| own.identity == Some(identity));
        let mark = if of_rater { RATER_MARK } else { "" };
        rating.tags.push(vec!["p".to_owned(), hex32(&identity.0), String::new(), mark.to_owned()]);
    }
    rating.tags.extend(settled.map(|secret| vec![SETTLED_TAG.to_owned(), hex32(secret.expose())]));
}

/// Reads a rating and checks all that can be checked by anybody. `tip` is the height of the chain.
pub fn read(event: &Event, tip: Height) -> Result<Rating, Reject> {
    if ![kind::RATING, kind::ARBITER_RATING, kind::BOARD_RATING].contains(&event.kind) {
        return Err(Reject::NoRating);
    }
    let decoded = domp::decode(event)?;
    let pledges = pledges(event)?;
    let own = pledges.iter().find(|pledge| pledge.author == decoded.author).ok_or(Reject::NotAParty)?;
    let facts = &own.facts;
    check(&pledges, facts, tip)?;
    let counterparty = match own.role {
        Role::Payer => facts.payee,
        Role::Payee => facts.payer,
        Role::Arbiter => return Err(Reject::NotAParty),
    };
    let named = |key: PartyKey| pledges.iter().find(|pledge| pledge.author == key).ok_or(Reject::NotPledged);
    let name = |pledge: &Pledge| pledge.identity.unwrap_or(pledge.author);
    let (subject, rating, comment, disputed) = match decoded.message {
        Message::Rating(m) if m.subject == counterparty => {
            (Subject::User(name(named(counterparty)?)), m.rating, m.comment, m.ended_by_kind == kind::RULING)
        }
        Message::ArbiterRating(m) if Some(m.arbiter) == facts.arbiter => {
            // An arbiter pledges to whoever asks. That there was a trade, the other side says.
            named(counterparty)?;
            (Subject::Arbiter(name(named(m.arbiter)?)), m.rating, m.comment, m.about_kind == kind::RULING)
        }
        Message::BoardRating(m) => {
            named(counterparty)?;
            if m.payment != facts.hash {
                return Err(Reject::WrongPayment);
            }
            (Subject::Board(board_name(&m.url).to_owned()), m.rating, m.comment, false)
        }
        Message::Rating(_) | Message::ArbiterRating(_) => return Err(Reject::NotPledged),
        _ => return Err(Reject::NoRating),
    };
    Ok(Rating {
        id: decoded.id,
        at: decoded.at,
        key: decoded.author,
        rater: name(own),
        role: own.role,
        subject,
        rating,
        comment,
        hash: facts.hash,
        value: pledges.iter().map(|pledge| pledge.facts.amount).min().unwrap_or_default(),
        height: own.height,
        settled: settled(event, facts)?,
        disputed,
    })
}

fn pledges(event: &Event) -> Result<Vec<Pledge>, Reject> {
    let mut pledges: Vec<Pledge> = Vec::new();
    for json in event.tag_values(PLEDGE_TAG) {
        if pledges.len() == PLEDGES_MAX || json.len() > PLEDGE_BYTES_MAX {
            return Err(Reject::TooManyPledges);
        }
        let pledge = Pledge::parse(json)?;
        if pledges.iter().any(|other| other.author == pledge.author) {
            return Err(Reject::TooManyPledges);
        }
        pledges.push(pledge);
    }
    Ok(pledges)
}

fn check(pledges: &[Pledge], facts: &Facts, tip: Height) -> Result<(), Reject> {
    if !pledges.iter().all(|pledge| pledge.facts.fit(facts)) {
        return Err(Reject::PledgesDiffer);
    }
    let heights = pledges.iter().map(|pledge| pledge.height.0);
    let (low, high) = (heights.clone().min().unwrap_or_default(), heights.max().unwrap_or_default());
    if high - low > HEIGHTS_APART_MAX {
        return Err(Reject::PledgesDiffer);
    }
    if high > tip.0.saturating_add(AHEAD_MAX) { Err(Reject::TooHigh) } else { Ok(()) }
}

fn settled(event: &Event, facts: &Facts) -> Result<bool, Reject> {
    let Some(text) = event.tag(SETTLED_TAG) else { return Ok(false) };
    let secret = parse_hex32(text).map(Preimage::new).map_err(|_| Reject::WrongSecret)?;
    if secret.hash() == facts.hash { Ok(true) } else { Err(Reject::WrongSecret) }
}

/// Each rater rates each side of a payment once: its first word counts. Returns those that count, in order of time, and how many
/// others there were.
pub fn each_once(ratings: impl IntoIterator<Item = Rating>) -> (Vec<Rating>, usize) {
    let mut first: BTreeMap<_, Rating> = BTreeMap::new();
    let (mut ids, mut others) = (std::collections::BTreeSet::new(), 0);
    for rating in ratings {
        if !ids.insert(rating.id) {
            continue;
        }
        let about = match rating.subject {
            Subject::User(_) => 0,
            Subject::Arbiter(_) => 1,
            Subject::Board(_) => 2,
        };
        let place = (rating.hash.0, rating.key, about);
        match first.get(&place) {
            None => {
                first.insert(place, rating);
            }
            Some(known) => {
                others += 1;
                if (rating.at, rating.id) < (known.at, known.id) {
                    first.insert(place, rating);
                }
            }
        }
    }
    let mut counted: Vec<_> = first.into_values().collect();
    counted.sort_by_key(|rating| (rating.at, rating.id));
    (counted, others)
}

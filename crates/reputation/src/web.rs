//! Standing: what ratings are worth to one viewer, who believes those most with whom it traded itself.
//!
//! From the viewer half of all trust goes to those it settled trades with, and half of what each of them gets goes on to those
//! that it rated well, and so on (a personalised PageRank). What a rater says of somebody weighs by the trust that
//! reaches it, at most as much as one acquaintance. Trust is handed on, never made: whoever invents a thousand keys divides
//! what it has among them. All raters that no trust reaches are one more rater together, as heavy as those that it reaches are on
//! average, and never heavier than a twentieth of an acquaintance.

use std::collections::{BTreeMap, BTreeSet};

use trade::PartyKey;
use units::Sat;

use crate::rating::{Rating, Subject};
use crate::score::Score;

/// Part of the trust that is handed on with each step.
const HANDED_ON: f64 = 0.5;
/// Rounds of handing on: what is left after them is below 2⁻³².
const ROUNDS: usize = 32;
/// What the viewer's own rating weighs, in acquaintances.
const OWN: f64 = 4.0;
/// What all raters weigh together at most that no trust reaches, in acquaintances.
const STRANGERS: f64 = 0.05;
/// What is thought of somebody of whom nothing is known, and how much of it stays when something is.
const UNKNOWN_RATING: f64 = 3.0;
const UNKNOWN: f64 = 0.25;
/// Ratings above it hand trust on.
const NEUTRAL: f64 = 3.0;

/// Somebody with whom the viewer settled trades.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Acquaintance {
    /// Identity, or key of the trade.
    pub key: PartyKey,
    /// Value of the trades.
    pub value: Sat,
}

/// What a viewer makes of somebody.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Standing {
    /// 1 to 5; 3 when nothing is known.
    pub rating: f64,
    /// What the viewer itself said.
    pub own: Option<f64>,
    /// How many raters trust reaches.
    pub reached: usize,
    /// What they weigh together, in acquaintances.
    pub weight: f64,
    /// What they say.
    pub reached_rating: Option<f64>,
    /// How many raters it does not reach.
    pub strangers: usize,
    /// What those say; together they weigh as one rater more, at most a twentieth of an acquaintance.
    pub strangers_rating: Option<f64>,
}

/// Who rated whom, and how much of one viewer's trust reaches each.
#[derive(Clone, Debug)]
pub struct Web {
    viewer: PartyKey,
    /// In acquaintances.
    weight: BTreeMap<PartyKey, f64>,
    opinions: BTreeMap<Subject, BTreeMap<PartyKey, Vec<Rating>>>,
}

impl Web {
    /// The web around a viewer. `ours` are the keys that the viewer traded with, `known` those with whom it settled trades.
    /// `ratings` are counted once each ([`crate::each_once`]).
    pub fn new(viewer: PartyKey, ours: &BTreeSet<PartyKey>, known: &[Acquaintance], ratings: &[Rating]) -> Web {
        let name = |key: PartyKey| if ours.contains(&key) { viewer } else { key };
        let mut opinions: BTreeMap<Subject, BTreeMap<PartyKey, Vec<Rating>>> = BTreeMap::new();
        for rating in ratings {
            let subject = match &rating.subject {
                Subject::User(key) => Subject::User(name(*key)),
                Subject::Arbiter(key) => Subject::Arbiter(name(*key)),
                Subject::Board(url) => Subject::Board(url.clone()),
            };
            let rater = if name(rating.key) == viewer { viewer } else { name(rating.rater) };
            // Nobody is its own witness.
            let of_itself = matches!(&subject, Subject::User(key) | Subject::Arbiter(key) if *key == rater);
            if !of_itself {
                opinions.entry(subject).or_default().entry(rater).or_default().push(rating.clone());
            }
        }
        let handing = handing(viewer, known, &opinions);
        let weight = weigh(viewer, &handing);
        Web { viewer, weight, opinions }
    }

    /// What the viewer makes of `subject`.
    pub fn standing(&self, subject: &Subject) -> Standing {
        let (mut own, mut reached, mut strangers) = (None, Vec::new(), Vec::new());
        let mut unreached = 0;
        for (rater, ratings) in self.opinions.get(subject).into_iter().flatten() {
            let Some(says) = Score::of(ratings).rating() else { continue };
            match self.weight.get(rater).copied().filter(|weight| *weight > 0.0) {
                _ if *rater == self.viewer => own = Some(says),
                Some(weight) => reached.push((weight, says)),
                None => {
                    unreached += 1;
                    strangers.extend(ratings);
                }
            }
        }
        let strangers_rating = Score::of(strangers).rating();
        let weight = reached.iter().fold(0.0, |sum, (weight, _)| sum + weight);
        let said: f64 = reached.iter().map(|(weight, says)| weight * says).sum();
        let mut words = vec![(UNKNOWN, UNKNOWN_RATING), (weight, if weight > 0.0 { said / weight } else { 0.0 })];
        words.extend(own.map(|says| (OWN, says)));
        let one_more = if reached.is_empty() { STRANGERS } else { (weight / reached.len() as f64).min(STRANGERS) };
        words.extend(strangers_rating.map(|says| (one_more, says)));
        let total: f64 = words.iter().map(|(weight, _)| weight).sum();
        Standing {
            rating: words.iter().map(|(weight, says)| weight * says).sum::<f64>() / total,
            own,
            reached: reached.len(),
            weight,
            reached_rating: (weight > 0.0).then(|| said / weight),
            strangers: unreached,
            strangers_rating,
        }
    }

    /// How much of the viewer's trust reaches a key, in acquaintances, 0 to 1.
    pub fn weight(&self, key: PartyKey) -> f64 {
        self.weight.get(&key).copied().unwrap_or_default()
    }
}

type Handing = BTreeMap<PartyKey, BTreeMap<PartyKey, f64>>;

/// Whom everybody trusts, and how much: by the square root of the value, so that trust is not bought by one large trade, and by
/// how much better than neutral the ratings are. A settled trade that the viewer did not rate counts half.
fn handing(
    viewer: PartyKey,
    known: &[Acquaintance],
    opinions: &BTreeMap<Subject, BTreeMap<PartyKey, Vec<Rating>>>,
) -> Handing {
    let mut handing = Handing::new();
    let worth = |value: Sat| (value.0 as f64).sqrt();
    let mut rated_by_viewer = BTreeSet::new();
    for (subject, raters) in opinions {
        let (Subject::User(key) | Subject::Arbiter(key)) = subject else { continue };
        for (rater, ratings) in raters {
            let score = Score::of(ratings);
            let Some(says) = score.rating() else { continue };
            if *rater == viewer {
                rated_by_viewer.insert(*key);
            }
            let good = (says - NEUTRAL) / 2.0;
            if good > 0.0 && *key != viewer {
                *handing.entry(*rater).or_default().entry(*key).or_default() += good * worth(score.value);
            }
        }
    }
    for acquaintance in known.iter().filter(|known| known.key != viewer && !rated_by_viewer.contains(&known.key)) {
        let trust = worth(acquaintance.value) / 2.0;
        if trust > 0.0 {
            *handing.entry(viewer).or_default().entry(acquaintance.key).or_default() += trust;
        }
    }
    handing
}

/// The trust that reaches each key, in units of what one acquaintance of the viewer gets at most, and at most one unit each. All
/// that `n` acquaintances can give to others, however many, is `n` units: a half, a quarter, and so on.
fn weigh(viewer: PartyKey, handing: &Handing) -> BTreeMap<PartyKey, f64> {
    let Some(acquaintances) = handing.get(&viewer).map(BTreeMap::len).filter(|n| *n > 0) else {
        return BTreeMap::new();
    };
    let sums: BTreeMap<_, f64> = handing.iter().map(|(key, to)| (*key, to.values().sum())).collect();
    let mut all = BTreeMap::from([(viewer, 1.0)]);
    let mut wave = all.clone();
    for _ in 0..ROUNDS {
        let mut next: BTreeMap<PartyKey, f64> = BTreeMap::new();
        for (key, trust) in &wave {
            let Some(to) = handing.get(key) else { continue };
            for (reached, share) in to {
                let part = share / sums[key];
                // One large trade does not buy the place of several acquaintances.
                let part = if *key == viewer { part.min(1.0 / acquaintances as f64) } else { part };
                *next.entry(*reached).or_default() += HANDED_ON * trust * part;
            }
        }
        // What comes back to the viewer was its own.
        next.remove(&viewer);
        for (key, trust) in &next {
            *all.entry(*key).or_default() += trust;
        }
        wave = next;
    }
    all.remove(&viewer);
    let unit = HANDED_ON / acquaintances as f64;
    all.values_mut().for_each(|trust| *trust = (*trust / unit).min(1.0));
    all
}

//! DOMP's score: the mean of ratings, each weighed by the value of its trade, with the parts that it is made of.
//!
//! Anybody who has two keys can trade with itself and rate itself, so the score of a stranger means nothing without its raters:
//! see [`crate::Web`].

use std::collections::BTreeSet;

use units::{Height, Sat};

use crate::rating::Rating;

/// A score and its parts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Score {
    /// How many ratings.
    pub count: usize,
    /// How many of them show that the price was settled.
    pub settled: usize,
    /// How many of them are of trades that ended by a ruling.
    pub disputed: usize,
    /// How many different raters.
    pub raters: usize,
    /// Sum of the values.
    pub value: Sat,
    /// Lowest height at which a rater pledged.
    pub from: Height,
    /// Highest height.
    pub to: Height,
    /// Sum of rating times value.
    pub weighted: u128,
}

impl Score {
    /// The score of these ratings, which are all of one subject and each counted once.
    pub fn of<'a>(ratings: impl IntoIterator<Item = &'a Rating>) -> Score {
        let (mut score, mut raters) = (Score::default(), BTreeSet::new());
        for rating in ratings {
            let first = score.count == 0;
            score.count += 1;
            score.settled += usize::from(rating.settled);
            score.disputed += usize::from(rating.disputed);
            score.value = Sat(score.value.0.saturating_add(rating.value.0));
            score.weighted = score.weighted.saturating_add(u128::from(rating.rating) * u128::from(rating.value.0));
            score.from = if first { rating.height } else { score.from.min(rating.height) };
            score.to = score.to.max(rating.height);
            raters.insert(rating.rater);
        }
        score.raters = raters.len();
        score
    }

    /// Σ rating · value / Σ value, 1 to 5; none when nothing of value was rated.
    pub fn rating(&self) -> Option<f64> {
        (self.value > Sat::ZERO).then(|| self.weighted as f64 / self.value.0 as f64)
    }
}

//! DOMP's score and its parts.

use reputation::{Rating, Score, Subject};
use trade::{MessageId, PartyKey, Role};
use units::{Height, PaymentHash, Sat, Unix};

/// A rating that was checked, told from others by `n`.
pub(crate) fn rated(n: u32, rater: PartyKey, subject: PartyKey, rating: u8, sat: u64) -> Rating {
    let mut id = [0; 32];
    id[..4].copy_from_slice(&n.to_be_bytes());
    Rating {
        id: MessageId(id),
        at: Unix(u64::from(n)),
        key: rater,
        rater,
        role: Role::Payer,
        subject: Subject::User(subject),
        rating,
        comment: None,
        hash: PaymentHash(id),
        value: Sat(sat),
        height: Height(800_000 + n),
        settled: true,
        disputed: rating < 3,
    }
}

/// A key that nobody has to have.
pub(crate) fn named(n: u32) -> PartyKey {
    let mut key = [0; 32];
    key[..4].copy_from_slice(&n.to_be_bytes());
    PartyKey(key)
}

#[test]
fn ratings_weigh_by_value_and_the_parts_are_shown() {
    let shop = named(9);
    let ratings =
        [rated(1, named(1), shop, 5, 10_000), rated(2, named(2), shop, 5, 20_000), rated(5, named(1), shop, 1, 10_000)];
    let score = Score::of(&ratings);
    assert_eq!((score.count, score.raters, score.settled, score.disputed), (3, 2, 3, 1));
    assert_eq!((score.value, score.from, score.to), (Sat(40_000), Height(800_001), Height(800_005)));
    assert_eq!(score.rating(), Some(4.0));
}

#[test]
fn nobody_rated_is_no_score() {
    assert_eq!(Score::of([]), Score::default());
    assert_eq!(Score::of([]).rating(), None);
    // A trade of no value says nothing, and divides by nothing.
    assert_eq!(Score::of(&[rated(1, named(1), named(2), 5, 0)]).rating(), None);
    let huge: Vec<_> = (0..3).map(|n| rated(n, named(n), named(9), 5, u64::MAX)).collect();
    assert!(Score::of(&huge).rating().is_some());
}

//! Standing: trust is handed on, never made.

use std::collections::BTreeSet;

use proptest::prelude::*;
use reputation::{Acquaintance, Rating, Subject, Web};
use trade::PartyKey;
use units::Sat;

use crate::scores::{named, rated};

const ME: u32 = 0;

pub(crate) fn web(known: &[(u32, u64)], ratings: &[Rating]) -> Web {
    let known: Vec<_> = known.iter().map(|(n, sat)| Acquaintance { key: named(*n), value: Sat(*sat) }).collect();
    Web::new(named(ME), &BTreeSet::from([named(ME)]), &known, ratings)
}

pub(crate) fn user(n: u32) -> Subject {
    Subject::User(named(n))
}

#[test]
fn nobody_knows_a_newcomer() {
    let standing = web(&[(1, 10_000)], &[]).standing(&user(9));
    assert_eq!((standing.rating, standing.reached, standing.strangers, standing.own), (3.0, 0, 0, None));
}

#[test]
fn whoever_i_traded_with_is_believed_and_whoever_they_rated_well_half_of_that() {
    let ratings = [rated(1, named(1), named(2), 5, 10_000), rated(2, named(2), named(9), 1, 10_000)];
    let web = web(&[(1, 10_000)], &ratings);
    assert!((web.weight(named(1)) - 1.0).abs() < 1e-9);
    assert!((web.weight(named(2)) - 0.5).abs() < 1e-9);
    let standing = web.standing(&user(9));
    assert_eq!((standing.reached, standing.reached_rating), (1, Some(1.0)));
    assert!(standing.rating < 2.5, "{standing:?}");
}

#[test]
fn a_bad_rating_hands_no_trust_on() {
    let ratings = [rated(1, named(1), named(2), 3, 10_000), rated(2, named(2), named(9), 5, 10_000)];
    let standing = web(&[(1, 10_000)], &ratings).standing(&user(9));
    assert_eq!((standing.reached, standing.strangers), (0, 1));
}

#[test]
fn my_own_experience_weighs_most_and_my_trade_keys_are_me() {
    let (mine, shop) = (named(77), named(9));
    let ratings = [rated(1, mine, shop, 1, 10_000), rated(2, named(1), shop, 5, 10_000)];
    let known = [Acquaintance { key: named(1), value: Sat(10_000) }];
    let web = Web::new(named(ME), &BTreeSet::from([named(ME), mine]), &known, &ratings);
    let standing = web.standing(&Subject::User(shop));
    assert_eq!((standing.own, standing.reached), (Some(1.0), 1));
    assert!(standing.rating < 2.1, "{standing:?}");
    // And a rating of one of my keys is one of me, not somebody whom I trust.
    assert_eq!(web.weight(mine), 0.0);
}

#[test]
fn nobody_is_its_own_witness() {
    let standing = web(&[(9, 10_000)], &[rated(1, named(9), named(9), 5, 10_000)]).standing(&user(9));
    assert_eq!((standing.reached, standing.strangers), (0, 0));
}

#[test]
fn a_large_trade_does_not_buy_the_place_of_others() {
    let web = web(&[(1, 10_000), (2, 10_000), (3, 1_000_000_000_000)], &[]);
    let weights = [1, 2, 3].map(|n| web.weight(named(n)));
    assert!(weights.iter().all(|weight| *weight <= 1.0), "{weights:?}");
}

#[test]
fn boards_and_arbiters_stand_too() {
    let board = Subject::Board("wss://board.example".to_owned());
    let mut of_board = rated(1, named(1), named(9), 5, 10_000);
    of_board.subject = board.clone();
    let mut of_arbiter = rated(2, named(1), named(9), 2, 10_000);
    of_arbiter.subject = Subject::Arbiter(named(9));
    let web = web(&[(1, 10_000)], &[of_board, of_arbiter]);
    assert_eq!(web.standing(&board).reached_rating, Some(5.0));
    assert_eq!(web.standing(&Subject::Arbiter(named(9))).reached_rating, Some(2.0));
    assert_eq!(web.standing(&user(9)).reached, 0);
}

/// Any ratings among keys 0 to 29 of which 10 to 29 are the attacker's.
fn ratings() -> impl Strategy<Value = Vec<(u32, u32, u8, u64)>> {
    prop::collection::vec((0_u32..30, 1_u32..30, 1_u8..=5, 1_u64..10_000_000), 0..120)
}

fn is_attacker(key: PartyKey) -> bool {
    (10..30).any(|n| named(n) == key)
}

proptest! {
    /// The attacker's keys are rated well by at most `n` honest ones. However they rate each other, together they weigh less than
    /// those `n` could hand on.
    #[test]
    fn keys_that_rate_each_other_make_no_trust(all in ratings(), friends in 1_u32..10) {
        let all: Vec<_> = (0..).zip(all)
            .map(|(n, (rater, subject, rating, sat))| rated(n, named(rater), named(subject), rating, sat))
            .collect();
        let honest = |rating: &Rating| !is_attacker(rating.rater);
        let Some(bridges) = all.iter().position(|r| honest(r) && matches!(r.subject, Subject::User(key) if is_attacker(key)))
        else { return Ok(()) };
        // Only one honest word for the attacker stays.
        let ratings: Vec<_> = all.iter().enumerate()
            .filter(|(i, r)| *i == bridges || !honest(r) || !matches!(r.subject, Subject::User(key) if is_attacker(key)))
            .map(|(_, r)| r.clone())
            .collect();
        let known: Vec<_> = (1..=friends).map(|n| (n, 10_000)).collect();
        let web = web(&known, &ratings);
        let attackers: f64 = (10..30).map(|n| web.weight(named(n))).sum();
        let from_me = named(ME) == all[bridges].rater;
        let source = if from_me { 2.0 } else { web.weight(all[bridges].rater).max(1.0) * 2.0 };
        prop_assert!(attackers <= source + 1e-9, "{attackers} of {source}");
    }

    /// Whatever strangers say, and however many, they move nobody further than a twentieth of an acquaintance could.
    #[test]
    fn strangers_weigh_together_as_one(all in prop::collection::vec((100_u32..10_000, 1_u8..=5, 1_u64..1_000_000_000), 1..200)) {
        let ratings: Vec<_> = (0..).zip(&all).map(|(n, (rater, rating, sat))| rated(n, named(*rater), named(9), *rating, *sat)).collect();
        let standing = web(&[(1, 10_000)], &ratings).standing(&user(9));
        prop_assert!((2.66..=3.34).contains(&standing.rating), "{standing:?}");
    }
}

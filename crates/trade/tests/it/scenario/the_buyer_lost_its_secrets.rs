//! Scenario 15: the payer lost everything but its seed. Every secret derives from it again, and where the arbiter holds a copy it can
//! release, too.

use super::*;

#[test]
fn the_seed_alone_gives_every_secret_again() {
    let mut story = Story::shipped(bonded());
    // What another machine derives from the same seed opens what the payee's node holds.
    let again: Vec<_> = (0..2).map(|tranche| story.secret(PAYER, LegId::price(0, tranche))).collect();
    let held: Vec<_> = story.trade(PAYEE).dossier().issued.iter().filter(|i| i.leg.leg == Leg::Price).collect();
    assert!(again.iter().zip(held).all(|(secret, issued)| secret.hash() == issued.hash));
    story.want(PAYER, release());
    assert_eq!(story.outcomes(), [Some(Outcome::Settled); 2]);
}

#[test]
fn the_arbiter_releases_for_a_payer_that_is_gone() {
    let mut story = Story::shipped(bonded());
    story.blocked.push((PAYER, |_| true));
    story.deaf.push(PAYER);
    story.want(PAYEE, dispute());
    story.want(ARBITER, rule(2, BondFate::Return, BondFate::Return));
    for tranche in 0..2 {
        assert_eq!(story.hold(LegId::price(0, tranche)), Some(&Hold::Settled));
    }
}

//! Scenario 26: the arbiter splits: the payee settles the tranches that it was given, the others and the bonds go where the ruling says.

use super::*;

#[test]
fn a_ruling_splits_the_price_and_moves_the_bonds() {
    let mut story = Story::disputed(bonded());
    assert!(story.shown.iter().any(|(who, n)| *who == ARBITER && matches!(n, Notice::RulingWanted { .. })));
    story.want(ARBITER, rule(1, BondFate::Forfeit, BondFate::Return));
    assert_eq!(story.hold(LegId::price(0, 0)), Some(&Hold::Settled));
    assert_eq!(story.hold(LegId::price(0, 1)), Some(&Hold::Canceled));
    assert_eq!(story.hold(LegId::payer_bond(0)), Some(&Hold::Settled));
    assert_eq!(story.hold(LegId::payee_bond(0)), Some(&Hold::Canceled));
    assert_eq!(story.outcomes(), [Some(Outcome::Split { payee_tranches: 1 }); 2]);
    assert_eq!(story.trade(ARBITER).outcome(), Some(Outcome::Ruled));
    assert!(!story.shown.iter().any(|(_, n)| n.is_alarm()), "what was ruled is no theft: {:?}", story.shown);
    story.assert_over();
    story.assert_replays();
}

#[test]
fn a_ruling_against_the_payee_refunds_and_forfeits_its_bond() {
    let mut story = Story::disputed(bonded());
    story.want(ARBITER, rule(0, BondFate::Return, BondFate::Forfeit));
    assert_eq!(story.outcomes(), [Some(Outcome::Refunded); 2]);
    assert_eq!(story.hold(LegId::payee_bond(0)), Some(&Hold::Settled));
    assert_eq!(story.hold(LegId::payer_bond(0)), Some(&Hold::Canceled));
    story.assert_over();
}

#[test]
fn without_arbiter_release_a_ruling_cannot_move_the_price() {
    let mut story = Story::disputed(arbitrated());
    story.want(ARBITER, rule(2, BondFate::Return, BondFate::Return));
    assert_eq!(story.states()[1], "Ruled");
    assert!(matches!(story.hold(LegId::price(0, 0)), Some(Hold::Held(_))));
    story.want(PAYER, release());
    assert_eq!(story.outcomes(), [Some(Outcome::Settled); 2]);
    story.assert_over();
}

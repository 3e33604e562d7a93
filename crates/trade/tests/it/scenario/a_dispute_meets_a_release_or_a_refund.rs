//! Scenario 25: while a dispute is open each side may give its own claim away, and that ends it; a ruling afterwards changes nothing.

use super::*;

#[test]
fn in_a_dispute_each_side_may_still_give_in() {
    let mut story = Story::disputed(bonded());
    story.want(PAYEE, refund());
    assert_eq!(story.outcomes(), [Some(Outcome::Refunded); 2]);
    assert_eq!(story.trade(ARBITER).outcome(), Some(Outcome::Unneeded));
    let mut story = Story::disputed(bonded());
    story.want(PAYEE, cancel());
    story.want(PAYER, cancel());
    assert_eq!(story.outcomes(), [Some(Outcome::Refunded); 2]);
    story.assert_over();
}

#[test]
fn a_ruling_after_a_release_changes_nothing() {
    let mut story = Story::disputed(bonded());
    story.deaf.push(ARBITER);
    story.want(PAYER, release());
    assert_eq!(story.outcomes(), [Some(Outcome::Settled); 2]);
    story.want(ARBITER, rule(0, BondFate::Forfeit, BondFate::Forfeit));
    assert_eq!(story.outcomes(), [Some(Outcome::Settled); 2]);
    for bond in [LegId::payer_bond(0), LegId::payee_bond(0)] {
        assert_eq!(story.hold(bond), Some(&Hold::Canceled), "{bond}");
    }
    story.deaf.clear();
    story.go();
    story.assert_over();
}

//! Scenario 4: one leg is locked, another is not, when the time to lock ends: all or nothing. Every held leg goes back, nobody is
//! punished.

use super::*;

#[test]
fn when_not_every_leg_is_locked_in_time_every_leg_goes_back() {
    let mut story = Story::bid(bonded());
    story.blocked.push((PAYER, |e| matches!(e, trade::Effect::PayInvoice { leg, .. } if leg.leg == trade::Leg::Price)));
    story.want(PAYEE, accept());
    story.blocks(13);
    assert_eq!(story.states()[0], "Winding");
    story.blocked.clear();
    story.go();
    assert_eq!(story.outcomes(), [Some(Outcome::Canceled); 2]);
    story.assert_over();
}

#[test]
fn the_price_is_locked_the_payees_bond_is_not() {
    let mut story = Story::bid(bonded());
    story.blocked.push((PAYEE, |e| matches!(e, Effect::PayInvoice { .. })));
    story.want(PAYEE, accept());
    story.blocks(13);
    story.blocked.clear();
    story.go();
    assert_eq!(story.outcomes(), [Some(Outcome::Canceled); 2]);
    assert!(!story.holds.values().any(|(hold, ..)| *hold == Hold::Settled));
    story.assert_over();
}

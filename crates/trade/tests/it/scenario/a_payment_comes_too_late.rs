//! Scenario 2: a payment arrives after the invoice expired and the trade was given up: it goes back at once and changes nothing.

use super::*;

#[test]
fn a_payment_that_arrives_after_the_trade_was_canceled_goes_back_at_once() {
    let mut story = Story::bid(direct());
    story.deaf.push(PAYER);
    story.want(PAYEE, accept());
    story.blocks(13);
    assert_eq!(story.trade(PAYEE).outcome(), Some(Outcome::Canceled));
    let hash = story.price_hashes(0)[0];
    story.holds.get_mut(&(PAYEE, hash)).expect("known").0 = Hold::Held(Height(2000));
    story.go();
    assert_eq!(story.hold(LegId::price(0, 0)), Some(&Hold::Canceled));
    assert_eq!(story.trade(PAYEE).outcome(), Some(Outcome::Canceled));
}

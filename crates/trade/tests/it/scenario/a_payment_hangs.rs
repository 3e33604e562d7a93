//! Scenario 29: a payment is stuck on its way. It is not made again by another invoice, the trade does not count as locked, and when it
//! arrives or fails at last everything goes back.

use super::*;

#[test]
fn a_payment_hangs() {
    let mut story = Story::bid(bonded());
    let stuck = story.price_hashes(0)[1];
    story.unreported = Some(stuck);
    story.want(PAYEE, accept());
    let payments = story.payments.len();
    story.blocks(13);
    assert_eq!(story.trade(PAYER).outcome(), None, "our money is under way: it is not over");
    assert_eq!(story.payments.len(), payments, "and it is not paid again");
    // It arrives a day later.
    story.blocks(144);
    story.unreported = None;
    story.go();
    assert_eq!(story.trade(PAYEE).outcome(), Some(Outcome::Canceled));
    assert!(story.trade(PAYER).outcome().is_some(), "and our money is back");
    story.assert_over();
}

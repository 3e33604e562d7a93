//! Scenario 7: one part of the price fails on its way while another is held: the trade counts as not paid and everything goes back.

use super::*;

#[test]
fn a_part_of_the_price_never_arrives() {
    let mut story = Story::bid(bonded());
    let second = story.price_hashes(0)[1];
    story.unreported = Some(second);
    story.want(PAYEE, accept());
    assert_eq!(story.states()[1], "Locking", "one tranche of two is not enough");
    story.payments.insert((PAYER, second), Payment::Returned);
    story.holds.get_mut(&(PAYEE, second)).expect("issued").0 = Hold::Open;
    story.unreported = None;
    story.go();
    story.blocks(13);
    assert_eq!(story.trade(PAYEE).outcome(), Some(Outcome::Canceled));
    assert!(!story.holds.values().any(|(hold, ..)| matches!(hold, Hold::Held(_) | Hold::Settled)));
}

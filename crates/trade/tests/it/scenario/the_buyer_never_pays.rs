//! Scenario 1: the payer accepts nothing but never pays. At the end of the invoices the stock is free again, what the payee locked
//! comes back, and no arbiter was needed.

use super::*;

#[test]
fn the_buyer_never_pays() {
    let mut story = Story::bid(bonded());
    story.blocked.push((PAYER, |e| matches!(e, Effect::PayInvoice { .. })));
    story.want(PAYEE, accept());
    let stall = TradeId::of_stall(key(PAYEE), "lamp");
    assert_eq!(story.desks[PAYEE].taken(stall, None), 1);
    assert!(matches!(story.hold(LegId::payee_bond(0)), Some(Hold::Held(_))), "the payee did its part");
    story.blocks(13);
    story.blocked.clear();
    story.go();
    assert_eq!(story.outcomes(), [Some(Outcome::Canceled); 2]);
    assert_eq!(story.hold(LegId::payee_bond(0)), Some(&Hold::Canceled));
    assert_eq!(story.desks[PAYEE].taken(stall, None), 0);
    assert!(!story.shown.iter().any(|(who, _)| *who == ARBITER));
    story.assert_over();
}

//! Scenario 10: the payer says that it paid and did not, or the payee says that it shipped while nothing is locked. Words are believed
//! only when our own node says the same.

use super::*;

#[test]
fn a_payment_that_is_only_claimed_does_not_make_the_payee_ship() {
    let mut paid = Story::bid(bonded());
    paid.want(PAYEE, accept());
    let claim = paid.envelope(PAYEE, PAYER, Step::PaymentConfirmation(0));

    let mut story = Story::bid(bonded());
    story.blocked.push((PAYER, |e| matches!(e, Effect::PayInvoice { .. })));
    story.want(PAYEE, accept());
    story.hear(PAYEE, claim).expect("it is kept");
    story.go();
    assert_eq!(story.states()[1], "Locking");
    assert_eq!(story.try_want(PAYEE, ship()).map_err(|r| r.rule.code()), Err("wrong-state"));
}

#[test]
fn a_shipment_before_the_lock_moves_nothing() {
    let mut shipped = Story::shipped(bonded());
    let word = shipped.envelope(PAYER, PAYEE, Step::Shipment(0));
    let mut story = Story::bid(bonded());
    story.blocked.push((PAYER, |e| matches!(e, Effect::PayInvoice { .. })));
    story.want(PAYEE, accept());
    assert!(story.hear(PAYER, word).is_err());
    assert_eq!(story.try_want(PAYER, release()).map_err(|r| r.rule.code()), Err("wrong-state"));
    shipped.want(PAYER, release());
}

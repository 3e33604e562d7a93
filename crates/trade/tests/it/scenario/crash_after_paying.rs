//! Scenario 19: the process dies after its payment left and before it said so. After the restart the payment is looked up, not made again,
//! and the confirmation is said once, as it would have been.

use super::*;

#[test]
fn crash_after_paying() {
    let mut story = Story::bid(bonded());
    story.want(PAYEE, accept());
    let paid = story.log[PAYER].iter().position(|e| matches!(e.event, Event::PaymentInFlight { .. })).expect("paid");
    let payments = story.payments.len();
    let said = story.said.iter().filter(|o| o.step == Step::PaymentConfirmation(0)).count();
    assert_eq!(said, 1);
    story.log[PAYER].truncate(paid);
    story.restart(PAYER);
    let owed = story.desks[PAYER].pending(story.now);
    assert!(
        owed.iter().any(|(_, effect)| matches!(effect, Effect::PayInvoice { .. })),
        "owed until the node was asked"
    );
    story.go();
    assert_eq!(story.payments.len(), payments, "nothing is paid a second time");
    assert_eq!(story.states()[0], "Held");
    story.want(PAYEE, ship());
    story.want(PAYER, release());
    assert_eq!(story.outcomes(), [Some(Outcome::Settled); 2]);
}

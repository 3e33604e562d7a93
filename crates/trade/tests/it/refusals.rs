//! Refusals: every invoice that lies is refused before money moves, and foreign, late or repeated words do no harm.

use trade::{Event, Notice, Step};
use units::Height;

use crate::story::{ARBITER, PAYEE, PAYER, Story, accept, bonded, ship};

#[test]
fn a_payer_that_told_the_arbiter_other_hashes_is_not_accepted() {
    let mut story = Story::listed(bonded());
    story.open();
    story.deaf.push(PAYEE);
    story.serve();
    let mut appointment = story.envelope(PAYEE, ARBITER, Step::Appointment(0));
    if let trade::Message::Appointment(m) = &mut appointment.message {
        m.payment_hashes[0].0[0] ^= 1;
    }
    let bid = story.envelope(PAYEE, PAYER, Step::Bid(0));
    story.hear(PAYEE, bid).expect("a bid");
    story.hear(PAYEE, appointment).expect("an appointment");
    assert_eq!(story.try_want(PAYEE, accept()).map_err(|r| r.rule.code()), Err("terms-mismatch"));
}

#[test]
fn an_appointment_under_other_terms_is_refused() {
    let mut story = Story::listed(bonded());
    story.open();
    story.deaf.push(PAYER);
    story.serve();
    let mut appointment = story.envelope(PAYER, ARBITER, Step::Appointment(0));
    if let trade::Message::Appointment(m) = &mut appointment.message {
        m.terms.as_mut().expect("said").on_silence = trade::OnSilence::Refund;
    }
    assert_eq!(story.hear(PAYER, appointment).map_err(|r| r.rule.code()), Err("terms-mismatch"));
    assert_eq!(story.states()[0], "Appointing");
}

#[test]
fn a_payer_that_claims_a_longer_lock_than_the_payee_sees_gets_no_goods() {
    let mut story = Story::bid(bonded());
    story.deaf.push(PAYEE);
    story.want(PAYEE, accept());
    let bond = story.envelope(PAYEE, PAYER, Step::PayeeBondInvoice(0));
    story.hear(PAYEE, bond).expect("fine");
    story.go();
    let mut confirmation = story.envelope(PAYEE, PAYER, Step::PaymentConfirmation(0));
    if let trade::Message::PaymentConfirmation(m) = &mut confirmation.message {
        m.paid_height = Some(Height(1001));
    }
    story.hear(PAYEE, confirmation).expect("taken");
    story.go();
    assert_eq!(story.states()[1], "Held");
    assert!(story.alarmed(PAYEE, &Notice::LockClaimMismatch));
    assert_eq!(story.try_want(PAYEE, ship()).map_err(|r| r.rule.code()), Err("lock-too-short"));
}

#[test]
fn a_deadline_is_recorded_even_when_the_input_is_refused() {
    let mut story = Story::held(bonded());
    let rule = story.trade(PAYEE).deadlines().expect("locked").rule;
    story.now.height = rule;
    let append = story.desks[PAYEE].handle(story.id, &trade::Input::Command(ship()), story.now).expect("the deadline");
    assert_eq!(append.refused.map(|r| r.rule.code()), Some("wrong-state"));
    assert!(append.events.iter().any(|e| matches!(e, Event::Unwound { .. })));
}

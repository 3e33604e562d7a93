//! Refusals: every invoice that lies is refused before money moves, and foreign, late or repeated words do no harm.

use trade::{Event, InvoiceFacts, LegId, Notice, Outcome, PartyKey, Rule, Step};
use units::{Height, Msat, Unix};

use crate::story::{ARBITER, Hold, PAYEE, PAYER, Story, accept, bonded, direct, key, node_id, release, ship};

/// What is changed in an invoice.
type Lie = fn(&mut InvoiceFacts);

#[test]
fn an_invoice_that_breaks_a_rule_is_never_paid_and_is_kept() {
    let lies: [(Rule, Lie); 8] = [
        (Rule::InvoiceHash, |f| f.hash.0[0] ^= 1),
        (Rule::InvoiceAmount, |f| f.amount = f.amount.map(|a| Msat(a.0 + 1))),
        (Rule::InvoiceAmount, |f| f.amount = None),
        (Rule::InvoicePayee, |f| f.payee = node_id(7)),
        (Rule::InvoiceNetwork, |f| f.network = "bitcoin".to_owned()),
        (Rule::InvoiceExpired, |f| f.expires_at = Unix(1_700_000_030)),
        (Rule::InvoiceCltv, |f| f.min_final_cltv = 719),
        (Rule::InvoiceFeatures, |f| f.features_known = false),
    ];
    for (rule, lie) in lies {
        let mut story = Story::bid(bonded());
        story.tamper = Some(lie);
        story.want(PAYEE, accept());
        assert!(story.payments.is_empty(), "{rule}: something was paid");
        assert!(story.alarmed(PAYER, &Notice::InvoiceRefused { rule }), "{rule}: {:?}", story.shown);
        assert_eq!(story.trade(PAYER).dossier().evidence[0].0, rule);
        assert_eq!(story.trade(PAYER).outcome(), Some(Outcome::Canceled));
        story.blocks(13);
        assert_eq!(story.trade(PAYEE).outcome(), Some(Outcome::Canceled));
        story.assert_replays();
    }
}

#[test]
fn an_invoice_that_pays_our_own_node_or_locks_too_long_is_refused() {
    let lies: [(Rule, Lie); 2] =
        [(Rule::InvoicePayee, |f| f.payee = node_id(PAYER)), (Rule::InvoiceCltv, |f| f.min_final_cltv = 739)];
    for (rule, lie) in lies {
        let mut story = Story::bid(direct());
        story.tamper = Some(lie);
        story.want(PAYEE, accept());
        assert!(story.alarmed(PAYER, &Notice::InvoiceRefused { rule }));
    }
}

#[test]
fn an_invoice_that_cannot_be_read_is_refused() {
    let mut story = Story::bid(direct());
    story.deaf.push(PAYER);
    story.want(PAYEE, accept());
    let mut acceptance = story.envelope(PAYER, PAYEE, Step::Acceptance(0));
    acceptance.invoices.clear();
    story.hear(PAYER, acceptance).expect("kept as evidence");
    story.go();
    assert!(story.alarmed(PAYER, &Notice::InvoiceRefused { rule: Rule::InvoiceUnreadable }));
}

#[test]
fn the_payee_checks_the_bond_invoice_in_the_same_way() {
    let mut story = Story::bid(bonded());
    story.deaf.push(PAYEE);
    story.want(PAYEE, accept());
    let mut bond = story.envelope(PAYEE, PAYER, Step::PayeeBondInvoice(0));
    bond.invoices[0].hash.0[0] ^= 1;
    story.hear(PAYEE, bond).expect("kept as evidence");
    story.go();
    assert!(story.alarmed(PAYEE, &Notice::InvoiceRefused { rule: Rule::InvoiceHash }));
    assert!(story.payments.is_empty());
    assert_eq!(story.trade(PAYEE).outcome(), Some(Outcome::Canceled));
}

#[test]
fn an_amount_that_is_not_the_agreed_one_is_never_held() {
    let mut story = Story::bid(direct());
    story.deaf.push(PAYER);
    story.want(PAYEE, accept());
    let hash = story.price_hashes(0)[0];
    let report = |amount| trade::NodeReport::Held { hash, amount: Msat(amount), expiry: Height(1720) };
    for wrong in [19_999_999, 40_000_002] {
        assert!(!story.report(PAYEE, report(wrong)));
    }
    assert!(story.report(PAYEE, report(20_000_000)));
}

#[test]
fn strangers_and_the_wrong_side_are_refused_and_repeats_are_empty() {
    let mut story = Story::shipped(bonded());
    let shipment = story.envelope(PAYER, PAYEE, Step::Shipment(0));
    assert_eq!(story.hear(PAYER, shipment.clone()), Ok(Vec::new()), "a repeat is nothing new");
    for (author, code) in [(PartyKey([9; 32]), "wrong-author"), (key(ARBITER), "wrong-author")] {
        let mut foreign = shipment.clone();
        foreign.author = author;
        foreign.id.0[0] ^= 1;
        assert_eq!(story.hear(PAYER, foreign).map_err(|r| r.rule.code()), Err(code));
    }
    assert_eq!(story.states()[..2], ["Shipped", "Shipped"]);
}

#[test]
fn a_step_of_another_trade_is_refused() {
    let mut story = Story::shipped(bonded());
    let mut receipt = Story::shipped(direct());
    receipt.want(PAYER, release());
    let mut foreign = receipt.envelope(PAYEE, PAYER, Step::Receipt);
    if let trade::Message::Receipt(m) = &mut foreign.message {
        m.payment.0[0] ^= 1;
    }
    let input = trade::Input::Message(Box::new(foreign.clone()));
    let refused = story.desks[PAYEE].handle(story.id, &input, story.now);
    assert_eq!(refused.map(|_| ()).map_err(|r| r.rule.code()), Err("wrong-trade"));
    foreign.prev = foreign.message.prev();
    assert_eq!(story.hear(PAYEE, foreign).map_err(|r| r.rule.code()), Err("out-of-order"));
    assert!(matches!(story.hold(LegId::price(0, 0)), Some(Hold::Held(_))));
}

#[test]
fn secrets_that_open_nothing_are_refused() {
    let mut story = Story::shipped(bonded());
    story.deaf.push(PAYEE);
    story.want(PAYER, release());
    let mut receipt = story.envelope(PAYEE, PAYER, Step::Receipt);
    receipt.message.set_secrets(vec![units::Preimage::new([9; 32])]);
    assert_eq!(story.hear(PAYEE, receipt).map_err(|r| r.rule.code()), Err("secret-mismatch"));
    assert_eq!(story.states()[1], "Shipped");
}

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

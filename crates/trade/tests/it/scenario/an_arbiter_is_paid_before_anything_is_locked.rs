//! An arbiter charges: the payer agreed to it beforehand, pays once, when its bid was accepted and before any leg is locked, and
//! whatever goes wrong with the fee ends the trade while all the money is still at home.

use trade::{Effect, FeeState};

use super::*;

const FEE: Sat = Sat(300);

/// What is changed in an invoice.
type Lie = fn(&mut InvoiceFacts);

fn charging(max: Sat) -> Story {
    Story::bid_with_fee(bonded(), FEE, max)
}

fn fee_state(story: &Story, who: usize) -> FeeState {
    story.trade(who).dossier().fee.as_ref().expect("it was said").state.clone()
}

fn nothing_was_locked(story: &Story) {
    assert!(story.holds.values().all(|(hold, ..)| matches!(hold, Hold::Open | Hold::Canceled)), "{:?}", story.holds);
    assert!(story.trade(PAYER).dossier().paid.iter().all(trade::Paid::is_idle));
}

#[test]
fn the_fee_is_paid_once_after_the_acceptance_and_every_side_knows_of_it() {
    let mut story = charging(FEE);
    assert_eq!(story.payments.len(), 0, "a bid that nobody accepts costs nothing");
    assert_eq!(fee_state(&story, PAYER), FeeState::Unpaid);
    story.want(PAYEE, accept());
    assert_eq!(story.states(), ["Held", "Held", "Held"]);
    assert_eq!(fee_state(&story, PAYER), FeeState::Paid);
    assert_eq!(fee_state(&story, ARBITER), FeeState::Paid);
    assert_eq!(story.trade(PAYEE).dossier().fee.as_ref().map(|fee| (fee.amount, fee.bill.clone())), Some((FEE, None)));
    let of = |what: fn(&Event) -> bool| story.log[PAYER].iter().position(|entry| what(&entry.event));
    let paid = of(|event| matches!(event, Event::FeePaid { preimage: Some(_) })).expect("paid, with its proof");
    assert!(of(|event| matches!(event, Event::PaymentOrdered { .. })).expect("locked") > paid);
    let bond = of(|event| matches!(event, Event::MessageOrdered(o) if o.step == Step::PayeeBondInvoice(0)));
    assert!(bond.expect("asked for") > paid, "nor has the payee locked anything");
    story.want(PAYEE, ship());
    story.want(PAYER, release());
    assert_eq!(story.outcomes(), [Some(Outcome::Settled); 2]);
    assert_eq!(story.fees_sent, 1);
    story.assert_over();
    story.assert_replays();
}

#[test]
fn more_than_was_agreed_to_ends_the_trade_at_once_and_the_payee_hears_of_nothing() {
    for max in [Sat::ZERO, Sat(FEE.0 - 1)] {
        let story = charging(max);
        assert_eq!(story.trade(PAYER).outcome(), Some(Outcome::Canceled));
        assert!(story.alarmed(PAYER, &Notice::FeeTooHigh { fee: FEE, max }), "{:?}", story.shown);
        assert_eq!(story.states()[1], "-");
        assert!(story.payments.is_empty());
        story.assert_replays();
    }
}

#[test]
fn an_invoice_of_the_arbiter_that_breaks_a_rule_is_never_paid_and_is_kept() {
    let lies: [(Rule, Lie); 8] = [
        (Rule::InvoiceAmount, |f| f.amount = f.amount.map(|a| Msat(a.0 + 1))),
        (Rule::InvoiceAmount, |f| f.amount = None),
        (Rule::InvoicePayee, |f| f.payee = node_id(PAYER)),
        (Rule::InvoiceNetwork, |f| f.network = "bitcoin".to_owned()),
        (Rule::InvoiceExpired, |f| f.expires_at = Unix(1_700_000_000 + 23 * 3600)),
        (Rule::InvoiceCltv, |f| f.min_final_cltv = 145),
        (Rule::InvoiceFeatures, |f| f.features_known = false),
        (Rule::HashReused, |f| f.hash = Story::listed(bonded()).price_hashes(0)[0]),
    ];
    for (rule, lie) in lies {
        let mut story = Story::listed(bonded());
        (story.fee, story.max_fee, story.tamper) = (FEE, FEE, Some(lie));
        story.open();
        story.serve();
        assert!(story.alarmed(PAYER, &Notice::InvoiceRefused { rule }), "{rule}: {:?}", story.shown);
        assert_eq!(story.trade(PAYER).dossier().evidence[0].0, rule);
        assert_eq!(story.trade(PAYER).outcome(), Some(Outcome::Canceled));
        assert_eq!(story.states()[1], "-");
        assert_eq!(story.fees_sent, 0);
    }
}

#[test]
fn a_copy_without_the_invoice_is_not_the_last_word() {
    let mut story = Story::listed(bonded());
    (story.fee, story.max_fee) = (FEE, FEE);
    story.open();
    story.deaf.push(PAYER);
    story.serve();
    let whole = story.envelope(PAYER, ARBITER, Step::Appointment(0));
    let mut bare = whole.clone();
    let Message::Appointment(m) = &mut bare.message else { panic!("an appointment") };
    m.fee_invoice = None;
    bare.invoices.clear();
    assert_eq!(story.hear(PAYER, bare), Ok(Vec::new()));
    assert_eq!(story.states()[0], "Appointing");
    story.hear(PAYER, whole).expect("this is what was waited for");
    story.go();
    assert_eq!(story.states()[0], "Bid");
}

#[test]
fn a_fee_that_cannot_be_paid_unwinds_before_anything_is_locked() {
    let mut story = charging(FEE);
    story.no_route = true;
    story.want(PAYEE, accept());
    assert_eq!(story.trade(PAYER).outcome(), Some(Outcome::Canceled));
    assert!(story.alarmed(PAYER, &Notice::FeeUnpaid { fee: FEE }));
    nothing_was_locked(&story);
    story.blocks(13);
    assert_eq!(story.trade(PAYEE).outcome(), Some(Outcome::Canceled));
    assert_eq!(fee_state(&story, ARBITER), FeeState::Unpaid);
    story.assert_over();
    story.assert_replays();
}

#[test]
fn a_fee_that_the_arbiter_holds_ends_with_the_time_to_lock_and_the_trade_with_the_fee() {
    let mut story = charging(FEE);
    let hash = story.fee_secret().hash();
    story.payments.insert((PAYER, hash), Payment::InFlight);
    story.want(PAYEE, accept());
    assert_eq!(fee_state(&story, PAYER), FeeState::InFlight);
    assert_eq!(story.states()[0], "Locking");
    story.blocks(13);
    assert_eq!(story.states()[0], "Winding");
    nothing_was_locked(&story);
    story.payments.insert((PAYER, hash), Payment::Taken(story.fee_secret()));
    story.go();
    assert_eq!(story.trade(PAYER).outcome(), Some(Outcome::Canceled));
    assert_eq!(fee_state(&story, PAYER), FeeState::Paid, "it was paid for nothing, and the log says so");
    assert_eq!(fee_state(&story, ARBITER), FeeState::Paid);
}

#[test]
fn a_trade_that_ends_before_the_fee_was_sent_never_sends_it() {
    let mut story = charging(FEE);
    story.blocked.push((PAYER, |e| matches!(e, Effect::PayFee { .. })));
    story.want(PAYEE, accept());
    assert!(matches!(fee_state(&story, PAYER), FeeState::Ordered { .. }));
    story.want(PAYEE, refund());
    assert_eq!(story.states()[0], "Winding", "its node has yet to say that nothing left");
    story.blocked.clear();
    story.go();
    assert_eq!(story.trade(PAYER).outcome(), Some(Outcome::Canceled));
    assert_eq!(fee_state(&story, PAYER), FeeState::Failed);
    assert!(!matches!(story.payments.get(&(PAYER, story.fee_secret().hash())), Some(Payment::Taken(_))));
}

#[test]
fn nothing_is_paid_to_the_arbiter_before_our_user_said_so() {
    let mut story = Story::listed(bonded());
    (story.fee, story.max_fee) = (FEE, FEE);
    let order = trade::BidOrder { pay_by_hand: true, ..story.bid_order() };
    story.want(PAYER, Command::Bid(Box::new(order)));
    story.serve();
    story.want(PAYEE, accept());
    assert_eq!((story.states()[0], story.fees_sent), ("Locking", 0));
    nothing_was_locked(&story);
    story.want(PAYER, Command::Pay);
    assert_eq!((story.states()[0], story.fees_sent), ("Held", 1));
}

#[test]
fn a_restart_after_any_entry_of_the_log_pays_the_fee_once_and_ends_alike() {
    let mut whole = charging(FEE);
    whole.want(PAYEE, accept());
    for cut in whole.appended[PAYER].clone() {
        let mut story = charging(FEE);
        story.want(PAYEE, accept());
        story.log[PAYER].truncate(cut);
        story.restart(PAYER);
        story.look_up(PAYER);
        story.replay_mail(PAYER);
        story.go();
        assert_eq!(story.states()[0], "Held", "after {cut} entries");
        assert_eq!(story.fees_sent, 1, "after {cut} entries");
    }
}

#[test]
fn an_arbiter_that_missed_the_news_asks_its_node() {
    let mut story = charging(FEE);
    story.unreported = Some(story.fee_secret().hash());
    story.want(PAYEE, accept());
    assert_eq!(fee_state(&story, ARBITER), FeeState::Unpaid);
    story.unreported = None;
    story.restart(ARBITER);
    story.look_up(ARBITER);
    assert_eq!(fee_state(&story, ARBITER), FeeState::Paid);
}

#[test]
fn an_arbiter_learns_of_its_fee_after_the_two_have_ended_the_trade() {
    let mut story = charging(FEE);
    story.unreported = Some(story.fee_secret().hash());
    story.want(PAYEE, accept());
    story.look_up(PAYER);
    story.go();
    story.want(PAYEE, ship());
    story.want(PAYER, dispute());
    story.want(PAYEE, refund());
    assert_eq!(story.trade(ARBITER).outcome(), Some(Outcome::Unneeded));
    assert_eq!(fee_state(&story, ARBITER), FeeState::Unpaid);
    story.look_up(ARBITER);
    assert_eq!(fee_state(&story, ARBITER), FeeState::Paid);
    assert!(story.trade(ARBITER).watched().is_empty(), "and asks no more");
    story.assert_replays();
}

#[test]
fn a_relock_asks_no_second_fee() {
    let mut story = charging(FEE);
    story.want(PAYEE, accept());
    story.want(PAYEE, ship());
    story.blocks(400);
    let payment_hashes = story.price_hashes(1);
    story.want(PAYER, Command::Relock { payment_hashes });
    let Command::Serve { payer_bond_hash, payee_bond_hash, policy, .. } = story.serve_command(1) else { panic!() };
    let bill = trade::Bill { hash: units::Preimage::new([0x78; 32]).hash(), ..story.bill() };
    let again = Command::Serve { payer_bond_hash, payee_bond_hash, fee: FEE, fee_invoice: Some(bill), policy };
    let refusal = story.try_want(ARBITER, again).expect_err("a second fee");
    assert_eq!(refusal.rule, Rule::FeeTwice);
    let serve = story.serve_command(1);
    story.want(ARBITER, serve);
    story.want(PAYEE, accept());
    story.want(PAYER, release());
    assert_eq!(story.outcomes(), [Some(Outcome::Settled); 2]);
    assert_eq!(story.fees_sent, 1);
}

#[test]
fn haggling_changes_neither_the_fee_nor_what_was_agreed_to_pay() {
    for (asked, agreed) in [(Sat(24_000), Sat(23_000)), (Sat(19_000), Sat(18_500))] {
        let mut story = charging(FEE);
        story.want(PAYEE, Command::Counter { amount: asked });
        story.want(PAYER, Command::Counter { amount: agreed });
        story.want(PAYEE, accept());
        assert_eq!(story.states(), ["Held", "Held", "Held"]);
        let dossier = story.trade(PAYER).dossier();
        let fee = dossier.fee.as_ref().expect("it was said");
        assert_eq!((dossier.price, fee.amount, &fee.state), (agreed, FEE, &FeeState::Paid));
        assert!(fee.amount <= dossier.opening.max_arbiter_fee);
        assert_eq!(story.fees_sent, 1);
    }
}

#[test]
fn a_fee_without_an_invoice_is_not_asked_for_nor_an_invoice_without_a_fee() {
    let mut story = Story::listed(bonded());
    story.open();
    let Command::Serve { payer_bond_hash, payee_bond_hash, policy, .. } = story.serve_command(0) else { panic!() };
    for (fee, fee_invoice) in [(FEE, None), (Sat::ZERO, Some(story.bill()))] {
        let serve = Command::Serve { payer_bond_hash, payee_bond_hash, fee, fee_invoice, policy: policy.clone() };
        assert_eq!(story.try_want(ARBITER, serve).expect_err("it does not fit").rule, Rule::InvoiceAmount);
    }
}

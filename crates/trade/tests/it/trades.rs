//! Trades that need no arbiter's word: the good end, silence, refunds, cancels.

use trade::{BondFate, Command, LegId, NodeReport, Notice, Outcome, Step};
use units::{Height, Sat};

use crate::story::{
    ARBITER, Hold, PAYEE, PAYER, Story, accept, arbitrated, bonded, cancel, direct, refund, release, rule,
};

fn legs() -> [LegId; 4] {
    [LegId::price(0, 0), LegId::price(0, 1), LegId::payer_bond(0), LegId::payee_bond(0)]
}

#[test]
fn a_bonded_trade_ends_with_the_price_at_the_payee_and_both_bonds_back() {
    let mut story = Story::shipped(bonded());
    for leg in legs() {
        assert_eq!(story.hold(leg), Some(&Hold::Held(Height(1720))), "{leg}");
    }
    story.want(PAYER, release());
    assert_eq!(
        legs().map(|leg| story.hold(leg).cloned()),
        [Some(Hold::Settled), Some(Hold::Settled), Some(Hold::Canceled), Some(Hold::Canceled)]
    );
    assert_eq!(story.outcomes(), [Some(Outcome::Settled); 2]);
    story.want(PAYER, Command::Rate { rating: 5, comment: None });
    story.want(PAYEE, Command::Rate { rating: 4, comment: Some("fast".to_owned()) });
    story.assert_over();
    story.assert_replays();
}

#[test]
fn direct_and_arbitrated_trades_end_well() {
    for terms in [direct(), arbitrated()] {
        let mut story = Story::shipped(terms);
        story.want(PAYER, release());
        assert_eq!(story.outcomes(), [Some(Outcome::Settled); 2]);
        story.assert_over();
        story.assert_replays();
    }
}

#[test]
fn haggling_ends_with_the_last_price_that_the_payer_named() {
    let mut story = Story::bid(bonded());
    story.want(PAYEE, Command::Counter { amount: Sat(24_000) });
    story.want(PAYER, Command::Counter { amount: Sat(22_000) });
    story.want(PAYEE, Command::Counter { amount: Sat(23_000) });
    story.want(PAYER, Command::Counter { amount: Sat(23_000) });
    story.want(PAYEE, accept());
    assert_eq!(story.states()[..2], ["Held", "Held"]);
    let price: u64 = story.trade(PAYEE).dossier().issued.iter().take(2).map(|i| i.amount.0).sum();
    assert_eq!(price, 23_000);
}

#[test]
fn a_bid_that_nobody_answers_expires() {
    let mut story = Story::bid(bonded());
    story.blocks(150);
    assert_eq!(story.outcomes(), [Some(Outcome::Expired); 2]);
    story.assert_over();
}

#[test]
fn a_bid_can_be_taken_back_and_a_late_acceptance_finds_nobody() {
    let mut story = Story::bid(bonded());
    story.deaf.push(PAYEE);
    story.want(PAYER, Command::Withdraw { reason: String::new() });
    assert_eq!(story.trade(PAYER).outcome(), Some(Outcome::Canceled));
    story.want(PAYEE, accept());
    story.blocks(20);
    assert_eq!(story.outcomes(), [Some(Outcome::Canceled); 2]);
    story.assert_over();
}

#[test]
fn a_bid_that_is_turned_down_is_over_for_both_at_once() {
    for haggled in [false, true] {
        let mut story = Story::bid(bonded());
        if haggled {
            story.want(PAYEE, Command::Counter { amount: units::Sat(21_000) });
        }
        story.want(PAYEE, Command::Withdraw { reason: "sold elsewhere".to_owned() });
        assert_eq!(story.outcomes(), [Some(Outcome::Canceled); 2]);
        let rated = story.try_want(PAYER, Command::Rate { rating: 1, comment: None });
        assert_eq!(rated.map_err(|r| r.rule.code()), Err("wrong-state"), "no money was locked");
        story.assert_over();
        story.assert_replays();
    }
}

#[test]
fn a_payee_that_accepted_a_bid_which_was_taken_back_does_not_wait_for_money() {
    let mut story = Story::bid(bonded());
    story.deaf.extend([PAYER, PAYEE]);
    story.want(PAYEE, accept());
    story.want(PAYER, Command::Withdraw { reason: "found another".to_owned() });
    story.deaf.clear();
    story.go();
    assert_eq!(story.outcomes(), [Some(Outcome::Canceled); 2]);
    assert!(story.holds.values().all(|(hold, ..)| *hold == Hold::Canceled), "its invoices are closed");
    story.assert_over();
}

#[test]
fn who_wants_to_see_the_invoices_first_pays_by_hand() {
    let mut story = Story::listed(bonded());
    let order = trade::BidOrder { pay_by_hand: true, ..story.bid_order() };
    story.want(PAYER, Command::Bid(Box::new(order)));
    story.serve();
    let early = story.try_want(PAYER, Command::Pay);
    assert_eq!(early.map_err(|r| r.rule.code()), Err("wrong-state"));
    story.want(PAYEE, accept());
    assert_eq!(story.states()[0], "Locking");
    assert!(!story.payments.keys().any(|(who, _)| *who == PAYER), "nothing is paid before the word");
    story.want(PAYER, Command::Pay);
    assert_eq!(story.states()[..2], ["Held", "Held"]);
    story.assert_replays();
}

#[test]
fn who_never_says_pay_pays_nothing_and_everything_goes_back() {
    let mut story = Story::listed(bonded());
    let order = trade::BidOrder { pay_by_hand: true, ..story.bid_order() };
    story.want(PAYER, Command::Bid(Box::new(order)));
    story.serve();
    story.want(PAYEE, accept());
    story.blocks(13);
    assert_eq!(story.outcomes(), [Some(Outcome::Canceled); 2]);
    story.assert_over();
}

#[test]
fn parties_rate_the_arbiter_and_the_board() {
    let mut story = Story::disputed(bonded());
    let rate = |comment: &str| Command::RateArbiter { rating: 4, comment: Some(comment.to_owned()) };
    assert_eq!(story.try_want(PAYER, rate("early")).map_err(|r| r.rule.code()), Err("wrong-state"));
    story.want(ARBITER, rule(1, BondFate::Return, BondFate::Return));
    story.want(PAYER, rate("fair"));
    assert_eq!(story.try_want(PAYER, rate("again")).map_err(|r| r.rule.code()), Err("wrong-state"));
    let heard = story.envelope(ARBITER, PAYER, Step::ArbiterRating);
    let trade::Message::ArbiterRating(rating) = heard.message else { panic!("a rating") };
    assert_eq!((rating.rating, rating.about_kind), (4, 317));
    let board = Command::RateBoard { url: "wss://board".to_owned(), rating: 5, comment: None };
    story.want(PAYEE, board);
    let said = story.said.iter().find(|o| o.step == Step::BoardRating).expect("said");
    assert!(said.copies.is_empty(), "for everybody");
    story.assert_over();
}

#[test]
fn legs_are_locked_in_the_agreed_order_payee_bond_payer_bond_price() {
    let mut story = Story::bid(bonded());
    story.blocked.push((PAYEE, |e| matches!(e, trade::Effect::PayInvoice { .. })));
    story.want(PAYEE, accept());
    assert_eq!(story.states()[..2], ["Locking", "Locking"]);
    assert!(story.payments.is_empty(), "the payer pays nothing before the payee's bond is held");
    story.blocked.clear();
    story.blocked.push((PAYER, |e| matches!(e, trade::Effect::PayInvoice { leg, .. } if *leg == LegId::payer_bond(0))));
    story.go();
    assert_eq!(story.payments.len(), 1, "the price waits for the payer's bond");
    story.blocked.clear();
    story.go();
    assert_eq!(story.states()[..2], ["Held", "Held"]);
}

#[test]
fn a_node_that_will_not_issue_an_invoice_ends_the_trade_before_any_money_moves() {
    let mut story = Story::bid(bonded());
    story.blocked.push((PAYEE, |e| matches!(e, trade::Effect::CreateHoldInvoice { .. })));
    story.want(PAYEE, accept());
    let hash = story.price_hashes(0)[0];
    story.report(PAYEE, NodeReport::InvoiceRefused { hash, reason: "no inbound".to_owned() });
    story.blocked.clear();
    story.go();
    assert_eq!(story.trade(PAYEE).outcome(), Some(Outcome::Canceled));
    assert!(story.alarmed(PAYEE, &Notice::NodeRefused { leg: LegId::price(0, 0) }));
    assert!(story.payments.is_empty());
}

#[test]
fn the_payee_gives_the_money_back() {
    for make in [Story::held, Story::shipped] {
        let mut story = make(bonded());
        story.want(PAYEE, refund());
        assert_eq!(story.outcomes(), [Some(Outcome::Refunded); 2]);
        story.assert_over();
        story.want(PAYER, Command::Rate { rating: 3, comment: None });
    }
}

#[test]
fn a_mutual_cancel_takes_effect_when_both_said_it() {
    let mut story = Story::shipped(bonded());
    story.want(PAYER, cancel());
    assert_eq!(story.states()[..2], ["Shipped", "Shipped"]);
    story.want(PAYEE, cancel());
    assert_eq!(story.outcomes(), [Some(Outcome::Refunded); 2]);
    story.assert_over();
    story.assert_replays();
}

//! Disputes: who may open them, what rulings move, and what happens when nobody rules.

use trade::{BondFate, Command, LegId, Notice, Outcome, ReceiptStatus, Step};

use crate::story::{
    ARBITER, Hold, PAYEE, PAYER, Story, arbitrated, bonded, cancel, direct, dispute, refund, release, rule,
};

#[test]
fn a_ruling_splits_the_price_and_moves_the_bonds() {
    let mut story = Story::disputed(bonded());
    assert!(story.shown.iter().any(|(who, n)| *who == ARBITER && matches!(n, Notice::RulingWanted { .. })));
    story.want(ARBITER, rule(1, BondFate::Forfeit, BondFate::Return));
    assert_eq!(story.hold(LegId::price(0, 0)), Some(&Hold::Settled));
    assert_eq!(story.hold(LegId::price(0, 1)), Some(&Hold::Canceled));
    assert_eq!(story.hold(LegId::payer_bond(0)), Some(&Hold::Settled));
    assert_eq!(story.hold(LegId::payee_bond(0)), Some(&Hold::Canceled));
    assert_eq!(story.outcomes(), [Some(Outcome::Split { payee_tranches: 1 }); 2]);
    assert_eq!(story.trade(ARBITER).outcome(), Some(Outcome::Ruled));
    assert!(!story.shown.iter().any(|(_, n)| n.is_alarm()), "what was ruled is no theft: {:?}", story.shown);
    story.assert_over();
    story.assert_replays();
}

#[test]
fn a_ruling_against_the_payee_refunds_and_forfeits_its_bond() {
    let mut story = Story::disputed(bonded());
    story.want(ARBITER, rule(0, BondFate::Return, BondFate::Forfeit));
    assert_eq!(story.outcomes(), [Some(Outcome::Refunded); 2]);
    assert_eq!(story.hold(LegId::payee_bond(0)), Some(&Hold::Settled));
    assert_eq!(story.hold(LegId::payer_bond(0)), Some(&Hold::Canceled));
    story.assert_over();
}

#[test]
fn without_arbiter_release_a_ruling_cannot_move_the_price() {
    let mut story = Story::disputed(arbitrated());
    story.want(ARBITER, rule(2, BondFate::Return, BondFate::Return));
    assert_eq!(story.states()[1], "Ruled");
    assert!(matches!(story.hold(LegId::price(0, 0)), Some(Hold::Held(_))));
    story.want(PAYER, release());
    assert_eq!(story.outcomes(), [Some(Outcome::Settled); 2]);
    story.assert_over();
}

#[test]
fn when_the_arbiter_is_silent_everything_goes_back_before_it_expires() {
    let mut story = Story::disputed(bonded());
    let hard = story.trade(PAYEE).deadlines().expect("locked").hard;
    story.until(hard);
    assert_eq!(story.outcomes(), [Some(Outcome::Refunded); 2]);
    assert_eq!(story.trade(ARBITER).outcome(), Some(Outcome::Missed));
    assert!(story.alarmed(PAYEE, &Notice::ArbiterSilent));
    let late = story.try_want(ARBITER, rule(2, BondFate::Return, BondFate::Return));
    assert_eq!(late.map_err(|r| r.rule.code()), Err("wrong-state"));
    story.assert_over();
}

#[test]
fn a_receipt_that_complains_is_a_dispute() {
    let mut story = Story::shipped(bonded());
    story.want(PAYER, Command::Complain { status: ReceiptStatus::Damaged, reason: "bent".to_owned() });
    assert_eq!(story.states(), ["Disputed", "Disputed", "Disputed"]);
    story.want(PAYER, release());
    assert_eq!(story.outcomes(), [Some(Outcome::Settled); 2], "the payer may still release");
    story.assert_over();
}

#[test]
fn both_disputing_at_once_is_one_dispute() {
    let mut story = Story::shipped(bonded());
    story.deaf.extend([PAYER, PAYEE, ARBITER]);
    story.want(PAYER, dispute());
    story.want(PAYEE, dispute());
    story.deaf.clear();
    story.go();
    assert_eq!(story.states(), ["Disputed", "Disputed", "Disputed"]);
    story.want(ARBITER, rule(2, BondFate::Return, BondFate::Return));
    assert_eq!(story.outcomes(), [Some(Outcome::Settled); 2]);
    story.assert_over();
}

#[test]
fn in_a_dispute_each_side_may_still_give_in() {
    let mut story = Story::disputed(bonded());
    story.want(PAYEE, refund());
    assert_eq!(story.outcomes(), [Some(Outcome::Refunded); 2]);
    assert_eq!(story.trade(ARBITER).outcome(), Some(Outcome::Unneeded));
    let mut story = Story::disputed(bonded());
    story.want(PAYEE, cancel());
    story.want(PAYER, cancel());
    assert_eq!(story.outcomes(), [Some(Outcome::Refunded); 2]);
    story.assert_over();
}

#[test]
fn nobody_disputes_before_the_money_is_held_after_it_moved_or_without_an_arbiter() {
    let code = |story: &mut Story| story.try_want(PAYER, dispute()).map_err(|r| r.rule.code());
    assert_eq!(code(&mut Story::bid(bonded())), Err("wrong-state"));
    assert_eq!(code(&mut Story::held(direct())), Err("no-arbiter"));
    let mut story = Story::shipped(bonded());
    story.want(PAYER, release());
    assert_eq!(code(&mut story), Err("wrong-state"));
}

#[test]
fn a_second_and_different_ruling_is_kept_as_evidence_and_changes_nothing() {
    let mut story = Story::disputed(bonded());
    story.want(ARBITER, rule(0, BondFate::Return, BondFate::Return));
    let mut second = story.envelope(PAYEE, ARBITER, Step::Ruling);
    second.id.0[0] ^= 1;
    let events = story.hear(PAYEE, second).expect("kept");
    assert!(matches!(events[0], trade::Event::EvidenceKept { rule: trade::Rule::Equivocation, .. }));
    assert_eq!(story.outcomes(), [Some(Outcome::Refunded); 2]);
}

#[test]
fn an_arbiter_cannot_rule_before_anybody_asked() {
    let mut story = Story::shipped(bonded());
    let refused = story.try_want(ARBITER, rule(2, BondFate::Return, BondFate::Return));
    assert_eq!(refused.map_err(|r| r.rule.code()), Err("wrong-state"));
}

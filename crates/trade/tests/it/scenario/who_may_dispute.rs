//! Scenario 24: either party disputes, or both at once: one dispute. A stranger, or a party before anything is held or after it moved,
//! does not.

use super::*;

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
fn a_receipt_that_complains_is_a_dispute() {
    let mut story = Story::shipped(bonded());
    story.want(PAYER, Command::Complain { status: ReceiptStatus::Damaged, reason: "bent".to_owned() });
    assert_eq!(story.states(), ["Disputed", "Disputed", "Disputed"]);
    story.want(PAYER, release());
    assert_eq!(story.outcomes(), [Some(Outcome::Settled); 2], "the payer may still release");
    story.assert_over();
}

#[test]
fn a_stranger_disputes_nothing() {
    let mut disputed = Story::shipped(bonded());
    disputed.want(PAYER, dispute());
    let mut foreign = disputed.envelope(ARBITER, PAYER, Step::Dispute);
    foreign.author = PartyKey([9; 32]);
    foreign.id.0[0] ^= 1;
    let mut story = Story::shipped(bonded());
    for who in [PAYER, PAYEE, ARBITER] {
        assert_eq!(story.hear(who, foreign.clone()).map_err(|r| r.rule.code()), Err("wrong-author"));
    }
    assert_eq!(story.states(), ["Shipped", "Shipped", "Shipped"]);
}

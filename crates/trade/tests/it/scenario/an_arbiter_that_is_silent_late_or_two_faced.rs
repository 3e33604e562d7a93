//! Scenario 27: the arbiter says nothing, too late, rules without a dispute, on another trade, or twice.

use super::*;

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

#[test]
fn a_ruling_on_another_trade_is_refused() {
    let mut ruled = Story::disputed(bonded());
    ruled.want(ARBITER, rule(0, BondFate::Return, BondFate::Return));
    let mut foreign = ruled.envelope(PAYEE, ARBITER, Step::Ruling);
    if let Message::Ruling(m) = &mut foreign.message {
        m.trade.0[0] ^= 1;
    }
    let story = Story::disputed(bonded());
    let input = Input::Message(Box::new(foreign));
    let refused = story.desks[PAYEE].handle(story.id, &input, story.now);
    assert_eq!(refused.map(|_| ()).map_err(|r| r.rule.code()), Err("wrong-trade"));
}

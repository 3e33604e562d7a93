//! Scenario 12: the goods were shipped, no receipt comes, the lock nears its end: both are warned at `D_warn`, and at `D_rule` what the
//! listing states applies; here it is refund.

use super::*;

#[test]
fn on_silence_the_agreed_default_refunds() {
    let mut story = Story::shipped(trade::EscrowTerms { on_silence: OnSilence::Refund, ..bonded() });
    let rule = story.trade(PAYEE).deadlines().expect("locked").rule;
    story.until(rule.minus(1));
    assert_eq!(story.states()[1], "Shipped");
    story.until(rule);
    assert_eq!(story.outcomes(), [Some(Outcome::Refunded); 2]);
    story.assert_over();
}

#[test]
fn both_are_warned_before() {
    let mut story = Story::shipped(bonded());
    let deadlines = [PAYER, PAYEE].map(|who| story.trade(who).deadlines().expect("locked"));
    story.until(deadlines.iter().map(|d| d.warn).max().expect("two"));
    for (who, d) in [PAYER, PAYEE].into_iter().zip(deadlines) {
        assert!(story.alarmed(who, &Notice::DeadlineNear { rule_at: d.rule }));
    }
}

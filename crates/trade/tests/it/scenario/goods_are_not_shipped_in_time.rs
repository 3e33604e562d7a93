//! Scenario 11: the lock comes near its end and nothing was shipped: the payee was warned, and the money goes back at `D_rule`, well
//! before the node would act by itself.

use super::*;

#[test]
fn goods_that_were_not_shipped_in_time_send_the_money_back() {
    let mut story = Story::held(bonded());
    let deadlines = story.trade(PAYEE).deadlines().expect("locked");
    story.until(deadlines.warn);
    assert!(story.alarmed(PAYEE, &Notice::DeadlineNear { rule_at: deadlines.rule }));
    story.until(deadlines.rule);
    assert!(story.alarmed(PAYEE, &Notice::ShippedTooLate));
    assert_eq!(story.outcomes(), [Some(Outcome::Refunded); 2]);
    story.assert_over();
}

#[test]
fn the_payee_is_stopped_from_shipping_what_would_outlive_the_lock() {
    let mut story = Story::held(bonded());
    let warn = story.trade(PAYEE).deadlines().expect("locked").warn;
    story.until(warn.minus(144 - 1));
    assert_eq!(story.try_want(PAYEE, ship()).map_err(|r| r.rule.code()), Err("too-late"));
    assert_eq!(story.states()[1], "Held");
}

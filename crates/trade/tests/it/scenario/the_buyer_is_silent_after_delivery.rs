//! Scenario 16: the payer has the goods and says nothing. Where release on silence was agreed, the arbiter releases before the lock
//! ends; only an arbiter that is away costs the payee the price.

use super::*;

#[test]
fn on_silence_the_arbiter_releases_where_that_was_agreed() {
    let mut story = Story::shipped(bonded());
    let rule = story.trade(ARBITER).deadlines().expect("known").rule;
    story.until(rule.minus(1));
    assert_eq!(story.states(), ["Shipped", "Shipped", "Shipped"]);
    story.until(rule);
    assert_eq!(story.outcomes(), [Some(Outcome::Settled); 2]);
    assert_eq!(story.trade(ARBITER).outcome(), Some(Outcome::Defaulted));
    story.assert_over();
    story.assert_replays();
}

#[test]
fn an_arbiter_that_is_away_at_the_default_costs_the_payee_the_price_not_the_payer() {
    let mut story = Story::shipped(bonded());
    story.blocked.push((ARBITER, |_| true));
    let hard = story.trade(PAYEE).deadlines().expect("locked").hard;
    story.until(hard);
    assert_eq!(story.outcomes(), [Some(Outcome::Refunded); 2]);
    story.blocked.clear();
    story.go();
    assert_eq!(story.outcomes(), [Some(Outcome::Refunded); 2], "a ruling after the legs went back is void");
    story.assert_over();
}

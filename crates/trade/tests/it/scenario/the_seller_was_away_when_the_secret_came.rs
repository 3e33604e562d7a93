//! Scenario 14: the payer released while the payee was offline. Back in time it collects; back too late the money has returned, both
//! are told, and nobody claims that it was settled.

use super::*;

#[test]
fn a_payee_that_is_away_until_the_end_did_not_collect() {
    let mut story = Story::shipped(direct());
    story.deaf.push(PAYEE);
    story.want(PAYER, release());
    let hard = story.trade(PAYEE).deadlines().expect("locked").hard;
    story.until(hard);
    assert_eq!(story.outcomes(), [Some(Outcome::Refunded); 2]);
    assert!(story.alarmed(PAYER, &Notice::NotCollected { leg: LegId::price(0, 0) }));
    story.deaf.clear();
    story.go();
    assert!(story.alarmed(PAYEE, &Notice::SecretTooLate { leg: LegId::price(0, 0) }));
    story.assert_over();
}

#[test]
fn back_in_time_it_collects() {
    let mut story = Story::shipped(bonded());
    story.deaf.push(PAYEE);
    story.want(PAYER, release());
    let hard = story.trade(PAYEE).deadlines().expect("locked").hard;
    story.until(hard.minus(1));
    assert_eq!(story.trade(PAYER).outcome(), None, "nothing is settled before the node says so");
    story.deaf.clear();
    story.go();
    assert_eq!(story.outcomes(), [Some(Outcome::Settled); 2]);
}

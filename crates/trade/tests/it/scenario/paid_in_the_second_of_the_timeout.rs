//! Scenario 3: the last leg is held around the very second in which the time to lock ends. Held first goes on, the timeout first sends
//! everything back, and nothing is ever in between.

use super::*;

const UNTIL: u64 = 1_700_000_000 + 7200;

/// Everything is locked but one tranche, of which the payee's node has not spoken yet.
fn last_leg_missing() -> (Story, NodeReport) {
    let mut story = Story::bid(bonded());
    let hash = story.price_hashes(0)[0];
    story.unreported = Some(hash);
    story.want(PAYEE, accept());
    assert_eq!(story.states()[1], "Locking");
    (story, NodeReport::Held { hash, amount: Msat(10_000_000), expiry: Height(1720) })
}

#[test]
fn held_first_goes_on() {
    let (mut story, held) = last_leg_missing();
    story.now.unix = Unix(UNTIL - 1);
    assert!(story.report(PAYEE, held));
    story.unreported = None;
    story.now.unix = Unix(UNTIL);
    story.go();
    assert_eq!(story.states()[..2], ["Held", "Held"], "a payment that counts is not canceled by the clock");
}

#[test]
fn the_timeout_first_sends_everything_back() {
    let (mut story, held) = last_leg_missing();
    story.now.unix = Unix(UNTIL);
    // The report itself brings the time: the deadline is judged before it.
    story.report(PAYEE, held);
    story.unreported = None;
    story.go();
    assert_eq!(story.trade(PAYEE).outcome(), Some(Outcome::Canceled));
    assert!(!story.holds.values().any(|(hold, ..)| matches!(hold, Hold::Held(_) | Hold::Settled)));
    story.assert_over();
}

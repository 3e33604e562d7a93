//! Scenario 31: only heights count for HTLCs. A reorganisation of two blocks, a burst of blocks, or a clock that is wrong by hours changes
//! no end; a bid from the future is refused.

use super::*;

#[test]
fn a_clock_that_jumps_moves_no_deadline_of_a_lock() {
    let mut story = Story::shipped(bonded());
    for unix in [1_600_000_000, 1_900_000_000] {
        story.now.unix = Unix(unix);
        story.go();
        assert_eq!(story.states(), ["Shipped", "Shipped", "Shipped"]);
    }
    story.want(PAYER, release());
    assert_eq!(story.outcomes(), [Some(Outcome::Settled); 2]);
}

#[test]
fn blocks_that_are_undone_undo_no_end() {
    let mut story = Story::shipped(EscrowTerms { on_silence: OnSilence::Refund, ..bonded() });
    let rule_at = story.trade(PAYEE).deadlines().expect("locked").rule;
    story.until(rule_at);
    assert_eq!(story.outcomes(), [Some(Outcome::Refunded); 2]);
    story.now.height = rule_at.minus(2);
    story.go();
    assert_eq!(story.outcomes(), [Some(Outcome::Refunded); 2]);
    story.assert_over();
}

#[test]
fn blocks_in_a_burst_still_leave_the_margin() {
    let mut story = Story::shipped(direct());
    let deadlines = story.trade(PAYEE).deadlines().expect("locked");
    // A whole day of blocks between two looks.
    story.until(deadlines.rule.minus(1));
    story.until(deadlines.hard.minus(1).plus(2));
    assert_eq!(story.outcomes(), [Some(Outcome::Refunded); 2]);
    story.assert_over();
}

#[test]
fn a_bid_from_the_future_is_refused() {
    let mut bid = Story::bid(direct());
    let mut early = bid.envelope(PAYEE, PAYER, Step::Bid(0));
    early.at = Unix(bid.now.unix.0 + 7200);
    let mut story = Story::listed(direct());
    assert_eq!(story.hear(PAYEE, early).map_err(|r| r.rule.code()), Err("too-late"));
    bid.go();
}

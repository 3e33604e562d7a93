//! Scenario 18: the process dies after the node settled and before that was recorded. The intent is in the log: settling again is
//! harmless, and what the node says is recorded.

use super::*;

#[test]
fn crash_after_settling() {
    let mut story = Story::shipped(bonded());
    story.want(PAYER, release());
    let settled = story.log[PAYEE].iter().position(|e| matches!(e.event, Event::LegSettled { .. })).expect("settled");
    story.log[PAYEE].truncate(settled);
    story.restart(PAYEE);
    let owed = story.desks[PAYEE].pending(story.now);
    assert!(owed.iter().any(|(_, effect)| matches!(effect, Effect::Settle { .. })), "still owed");
    for hash in story.price_hashes(0) {
        story.report(PAYEE, NodeReport::Settled { hash });
    }
    story.go();
    assert_eq!(story.outcomes(), [Some(Outcome::Settled); 2]);
    story.assert_over();
}

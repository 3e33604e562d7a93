//! Scenario 20: the process dies after a message is on a board and before that was recorded. The message is owed again, as the very same
//! event, so that publishing it again does nothing.

use super::*;

#[test]
fn crash_after_publishing() {
    let mut story = Story::held(bonded());
    story.want(PAYEE, ship());
    let before = story.said.iter().find(|o| o.step == Step::Shipment(0)).cloned().expect("said");
    let sent = |e: &Entry| matches!(e.event, Event::MessageSent { step: Step::Shipment(0), .. });
    let at = story.log[PAYEE].iter().position(sent).expect("recorded");
    story.log[PAYEE].truncate(at);
    story.restart(PAYEE);
    let owed = story.desks[PAYEE].pending(story.now);
    let again = owed.iter().find_map(|(_, effect)| match effect {
        Effect::Send(outgoing) => Some((**outgoing).clone()),
        _ => None,
    });
    assert_eq!(again, Some(before), "the same message, time and recipients: the same id");
    story.go();
    story.want(PAYER, release());
    assert_eq!(story.outcomes(), [Some(Outcome::Settled); 2]);
}

//! Scenario 39: the payer's payment was taken although it released nothing and nobody ruled: alarm, and the secret goes to the payee, whose
//! node still holds the other end.

use super::*;

#[test]
fn a_payment_taken_without_release_raises_an_alarm_and_the_payee_gets_the_secret() {
    let mut story = Story::shipped(bonded());
    for tranche in 0..2 {
        let secret = story.secret(PAYER, LegId::price(0, tranche));
        story.steal(PAYER, secret);
    }
    assert_eq!(story.hold(LegId::price(0, 1)), Some(&Hold::Settled), "the payee is quicker than the thief");
    story.blocks(3);
    assert!(story.alarmed(PAYER, &Notice::TakenWithoutRelease { leg: LegId::price(0, 0) }));
    assert_eq!(story.outcomes(), [Some(Outcome::Settled); 2]);
    story.assert_over();
    story.assert_replays();
}

//! Scenario 13: the payee's node failed the HTLCs by itself while the daemon was down. At the start the log follows the node: refunded, never
//! held; a release then says that the escrow is gone.

use super::*;

#[test]
fn a_leg_that_the_node_failed_by_itself_is_recorded_as_refunded() {
    let mut story = Story::shipped(bonded());
    for hash in story.price_hashes(0) {
        story.vanish(PAYEE, hash);
    }
    assert_eq!(story.outcomes(), [Some(Outcome::Refunded); 2]);
    assert!(story.alarmed(PAYEE, &Notice::LegVanished { leg: LegId::price(0, 0) }));
    assert_eq!(story.try_want(PAYER, release()).map_err(|r| r.rule.code()), Err("wrong-state"));
    story.assert_over();
}

#[test]
fn after_a_restart_the_log_follows_the_node() {
    let mut story = Story::shipped(direct());
    let hash = story.price_hashes(0)[0];
    story.holds.get_mut(&(PAYEE, hash)).expect("held").0 = Hold::Canceled;
    story.payments.insert((PAYER, hash), Payment::Returned);
    story.restart(PAYEE);
    story.restart(PAYER);
    story.go();
    assert_eq!(story.outcomes(), [Some(Outcome::Refunded); 2]);
    assert_eq!(story.try_want(PAYER, release()).map_err(|r| r.rule.code()), Err("wrong-state"));
}

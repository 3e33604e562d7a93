//! Scenario 37: a ruling forfeits a bond whose owner is offline: its secret goes to the winner alone, and to nobody without a ruling.

use super::*;

#[test]
fn a_bond_is_forfeited_while_its_owner_is_away() {
    let mut story = Story::disputed(bonded());
    story.deaf.push(PAYEE);
    story.blocked.push((PAYEE, |_| true));
    story.want(ARBITER, rule(0, BondFate::Return, BondFate::Forfeit));
    assert_eq!(story.hold(LegId::payee_bond(0)), Some(&Hold::Settled), "the winner's own node settles it");
    let to_loser = story.envelope(PAYEE, ARBITER, Step::Ruling);
    assert!(to_loser.message.secrets().is_empty(), "the loser learns of it and gets nothing");
    story.deaf.clear();
    story.blocked.clear();
    story.go();
    assert_eq!(story.outcomes(), [Some(Outcome::Refunded); 2]);
    story.assert_over();
}

#[test]
fn no_timer_forfeits_a_bond() {
    for on_silence in [OnSilence::Refund, OnSilence::Release] {
        let mut story = Story::shipped(EscrowTerms { on_silence, ..bonded() });
        let hard = story.trade(PAYEE).deadlines().expect("locked").hard;
        story.until(hard);
        for bond in [LegId::payer_bond(0), LegId::payee_bond(0)] {
            assert_eq!(story.hold(bond), Some(&Hold::Canceled), "{on_silence:?}, {bond}");
        }
    }
}

//! Scenario 23: a stranger, a party on the wrong side, or a repeat: refused, or nothing new. (Forged copies that come before the real one
//! are in the daemon's a_lying_board_changes_nothing.)

use super::*;

#[test]
fn strangers_and_the_wrong_side_are_refused_and_repeats_are_empty() {
    let mut story = Story::shipped(bonded());
    let shipment = story.envelope(PAYER, PAYEE, Step::Shipment(0));
    assert_eq!(story.hear(PAYER, shipment.clone()), Ok(Vec::new()), "a repeat is nothing new");
    for (author, code) in [(PartyKey([9; 32]), "wrong-author"), (key(ARBITER), "wrong-author")] {
        let mut foreign = shipment.clone();
        foreign.author = author;
        foreign.id.0[0] ^= 1;
        assert_eq!(story.hear(PAYER, foreign).map_err(|r| r.rule.code()), Err(code));
    }
    assert_eq!(story.states()[..2], ["Shipped", "Shipped"]);
}

//! Scenario 40: the arbiter lost everything but its seed. From what the boards have stored it serves again in the same words, knows the
//! same secrets, and rules.

use super::*;

#[test]
fn the_arbiter_has_only_its_seed() {
    let mut story = Story::shipped(bonded());
    let first = story.said.iter().find(|o| o.step == Step::Appointment(0)).cloned().expect("it served");
    story.blocks(20);
    story.log[ARBITER].clear();
    story.restart(ARBITER);
    let stored: Vec<Envelope> = story.heard.iter().filter(|(to, _)| *to == ARBITER).map(|(_, e)| e.clone()).collect();
    for envelope in stored.clone() {
        let _early = story.hear(ARBITER, envelope).is_ok();
    }
    let serve = story.serve_command(0);
    story.want(ARBITER, serve);
    let again = story.said.iter().rfind(|o| o.step == Step::Appointment(0)).cloned();
    assert_eq!(again, Some(first), "the same words, so nobody can say that it said two things");
    for envelope in stored {
        let _known = story.hear(ARBITER, envelope).is_ok();
    }
    story.go();
    assert_eq!(story.states()[2], "Shipped");
    story.want(PAYER, dispute());
    story.want(ARBITER, rule(1, BondFate::Forfeit, BondFate::Return));
    assert_eq!(story.outcomes(), [Some(Outcome::Split { payee_tranches: 1 }); 2]);
    assert_eq!(story.hold(LegId::payer_bond(0)), Some(&Hold::Settled));
    story.assert_over();
}

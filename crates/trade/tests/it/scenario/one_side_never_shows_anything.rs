//! Scenario 28: the payee never says a word to the arbiter. The payer's copies carry both signatures, and the arbiter can rule from them.

use super::*;

#[test]
fn one_side_never_shows_anything() {
    let mut story = Story::held(bonded());
    story.deaf.push(ARBITER);
    story.want(PAYEE, ship());
    story.drop_mail(ARBITER, key(PAYEE));
    story.deaf.clear();
    story.want(PAYER, dispute());
    assert_eq!(story.states()[2], "Disputed");
    story.want(ARBITER, rule(1, BondFate::Return, BondFate::Return));
    assert_eq!(story.outcomes(), [Some(Outcome::Split { payee_tranches: 1 }); 2]);
}

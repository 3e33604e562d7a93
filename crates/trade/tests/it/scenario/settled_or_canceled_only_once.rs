//! Scenario 17: settling twice is settling once; what is settled is never canceled, what is canceled is never settled; and the log always
//! says what the node says.

use super::*;

#[test]
fn repeats_and_contradictions_of_the_node_change_nothing() {
    let mut story = Story::shipped(bonded());
    story.want(PAYER, release());
    let hash = story.price_hashes(0)[0];
    for report in [
        NodeReport::Settled { hash },
        NodeReport::Canceled { hash },
        NodeReport::Held { hash, amount: Msat(10_000_000), expiry: Height(1720) },
    ] {
        assert!(!story.report(PAYEE, report), "it is settled, and stays so");
    }
    assert_eq!(story.outcomes(), [Some(Outcome::Settled); 2]);
    assert!(story.desks[PAYEE].pending(story.now).is_empty());
}

#[test]
fn a_secret_for_a_leg_that_went_back_is_an_alarm_and_not_a_settlement() {
    let mut story = Story::shipped(direct());
    story.deaf.push(PAYEE);
    story.want(PAYER, release());
    let hash = story.price_hashes(0)[0];
    story.holds.get_mut(&(PAYEE, hash)).expect("held").0 = Hold::Canceled;
    story.payments.insert((PAYER, hash), Payment::Returned);
    story.report(PAYEE, NodeReport::Canceled { hash });
    story.deaf.clear();
    story.go();
    assert_eq!(story.hold(LegId::price(0, 0)), Some(&Hold::Canceled));
    assert_eq!(story.outcomes(), [Some(Outcome::Refunded); 2]);
    assert!(story.alarmed(PAYEE, &Notice::SecretTooLate { leg: LegId::price(0, 0) }));
}

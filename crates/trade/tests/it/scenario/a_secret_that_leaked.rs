//! Scenario 38: a price secret is out before the payee settled: whoever hears it from the payer settles at once, in whatever state. (That no
//! public event carries one is a test of `wire`.)

use super::*;

#[test]
fn a_secret_is_used_at_once_even_when_not_every_leg_has_come() {
    let mut story = Story::bid(bonded());
    // The payee's node is slow to report the first tranche; the payer releases at once.
    story.deaf.push(PAYEE);
    story.want(PAYEE, accept());
    let bond = story.envelope(PAYEE, PAYER, Step::PayeeBondInvoice(0));
    story.hear(PAYEE, bond).expect("fine");
    let late = story.price_hashes(0)[0];
    story.unreported = Some(late);
    story.blocked.push((PAYER, |e| matches!(e, trade::Effect::Cancel { .. })));
    story.go();
    story.want(PAYER, release());
    assert_eq!(story.states()[..2], ["Released", "Locking"]);
    story.deaf.clear();
    story.go();
    assert_eq!(story.hold(LegId::price(0, 1)), Some(&Hold::Settled));
    story.unreported = None;
    story.blocked.clear();
    story.go();
    assert_eq!(story.outcomes(), [Some(Outcome::Settled); 2]);
    story.assert_over();
}

#[test]
fn a_public_receipt_may_come_before_the_sealed_one_with_the_secrets() {
    let mut story = Story::shipped(bonded());
    story.deaf.push(PAYEE);
    story.want(PAYER, release());
    let sealed = story.envelope(PAYEE, PAYER, Step::Receipt);
    assert_eq!(sealed.id, message_id(key(PAYER), Step::Receipt));
    let mut public = sealed.clone();
    public.message.set_secrets(Vec::new());
    story.hear(PAYEE, public).expect("it counts");
    assert_eq!(story.states()[1], "Released");
    assert_eq!(story.hold(LegId::price(0, 0)), Some(&Hold::Held(Height(1720))));
    story.hear(PAYEE, sealed).expect("the same message, with secrets");
    story.deaf.clear();
    story.go();
    assert_eq!(story.outcomes(), [Some(Outcome::Settled); 2]);
}

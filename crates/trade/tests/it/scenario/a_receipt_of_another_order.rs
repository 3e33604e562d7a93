//! Scenario 22: a receipt, or a secret, that belongs to another trade is refused and moves nothing.

use super::*;

#[test]
fn a_step_of_another_trade_is_refused() {
    let mut story = Story::shipped(bonded());
    let mut receipt = Story::shipped(direct());
    receipt.want(PAYER, release());
    let mut foreign = receipt.envelope(PAYEE, PAYER, Step::Receipt);
    if let trade::Message::Receipt(m) = &mut foreign.message {
        m.payment.0[0] ^= 1;
    }
    let input = trade::Input::Message(Box::new(foreign.clone()));
    let refused = story.desks[PAYEE].handle(story.id, &input, story.now);
    assert_eq!(refused.map(|_| ()).map_err(|r| r.rule.code()), Err("wrong-trade"));
    foreign.prev = foreign.message.prev();
    assert_eq!(story.hear(PAYEE, foreign).map_err(|r| r.rule.code()), Err("out-of-order"));
    assert!(matches!(story.hold(LegId::price(0, 0)), Some(Hold::Held(_))));
}

#[test]
fn secrets_that_open_nothing_are_refused() {
    let mut story = Story::shipped(bonded());
    story.deaf.push(PAYEE);
    story.want(PAYER, release());
    let mut receipt = story.envelope(PAYEE, PAYER, Step::Receipt);
    receipt.message.set_secrets(vec![units::Preimage::new([9; 32])]);
    assert_eq!(story.hear(PAYEE, receipt).map_err(|r| r.rule.code()), Err("secret-mismatch"));
    assert_eq!(story.states()[1], "Shipped");
}

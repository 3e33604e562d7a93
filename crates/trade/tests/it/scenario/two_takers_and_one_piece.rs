//! Scenario 9: two payers want the one piece there is, and a payee that accepts twice. The first acceptance gets it, the other taker's money
//! never moves; a second, different acceptance of one bid is kept as evidence, and nothing in it is paid.

use super::*;

/// Another payer's bid, as the payee hears it.
fn second_taker(story: &mut Story) -> TradeId {
    let mut bid = story.envelope(PAYEE, PAYER, Step::Bid(0));
    bid.author = PartyKey([77; 32]);
    bid.id.0[0] ^= 1;
    if let Message::Bid(m) = &mut bid.message {
        m.payment_hashes.iter_mut().for_each(|hash| hash.0[0] ^= 1);
    }
    let id = TradeId::of(message_id(key(PAYEE), Step::Listing(0)), bid.author);
    story.hear(PAYEE, bid).expect("a bid");
    id
}

#[test]
fn the_first_that_is_accepted_gets_it_and_the_other_is_turned_down() {
    let mut story = Story::bid(direct());
    let other = second_taker(&mut story);
    story.want(PAYEE, accept());
    let refused = story.feed(PAYEE, other, Input::Command(accept()));
    assert_eq!(refused.map_err(|r| r.rule.code()), Err("sold-out"));
    // The other taker hears of it; it is nobody in this story.
    story.blocked.push((PAYEE, |effect| matches!(effect, Effect::Send(o) if o.step == Step::Refund)));
    let sorry = Command::Withdraw { reason: "sold".to_owned() };
    story.feed(PAYEE, other, Input::Command(sorry)).expect("turned down");
    story.go();
    let lost = story.desks[PAYEE].trade(other).expect("known");
    assert_eq!(lost.outcome(), Some(Outcome::Canceled));
    assert!(lost.dossier().issued.is_empty(), "nobody was asked for money");
    story.want(PAYEE, ship());
    story.want(PAYER, release());
    assert_eq!(story.outcomes(), [Some(Outcome::Settled); 2]);
}

#[test]
fn a_second_and_different_acceptance_of_one_bid_is_evidence_and_is_not_paid() {
    let mut story = Story::held(bonded());
    let mut again = story.envelope(PAYER, PAYEE, Step::Acceptance(0));
    again.id.0[31] ^= 1;
    let paid = story.trade(PAYER).dossier().paid.clone();
    story.hear(PAYER, again.clone()).expect("kept");
    story.go();
    let author = key(PAYEE);
    assert!(story.alarmed(PAYER, &Notice::Equivocation { author, step: Step::Acceptance(0) }));
    let dossier = story.trade(PAYER).dossier();
    assert_eq!(dossier.evidence, [(Rule::Equivocation, again)]);
    assert_eq!(dossier.paid, paid);
}

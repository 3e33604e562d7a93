//! Scenario 5: a payment that is too small, or more than twice too large, never counts as held (BOLT#4 allows up to twice).

use super::*;

#[test]
fn an_amount_that_is_not_the_agreed_one_is_never_held() {
    let mut story = Story::bid(direct());
    story.deaf.push(PAYER);
    story.want(PAYEE, accept());
    let hash = story.price_hashes(0)[0];
    let report = |amount| trade::NodeReport::Held { hash, amount: Msat(amount), expiry: Height(1720) };
    for wrong in [19_999_999, 40_000_002] {
        assert!(!story.report(PAYEE, report(wrong)));
    }
    assert!(story.report(PAYEE, report(20_000_000)));
}

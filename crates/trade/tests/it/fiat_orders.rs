//! Orders for bitcoin against money of a country: what a bid on one has to keep, and that it trades like any other listing.

use trade::{BidOrder, Command, FiatBid, FiatSide, FiatTerms, PayeeState, Rule, Step, Trade, fiat};
use units::{Sat, Unix};

use crate::story::{PAYEE, PAYER, Story, accept, arbitrated, direct, fiat_terms, money, release, ship};

fn order() -> FiatTerms {
    fiat_terms(FiatSide::Buy)
}

/// A hundred euro at 50,000 and 2 per cent, quoted a moment ago.
fn quote(story: &Story) -> FiatBid {
    FiatBid {
        currency: "EUR".parse().expect("fine"),
        amount: money("100"),
        method: "SEPA".to_owned(),
        rate: money("50000"),
        quoted_at: Unix(story.now.unix.0 - 10),
    }
}

fn taking(story: &Story, bid: FiatBid) -> BidOrder {
    let amount = fiat::sats_for(bid.amount, bid.rate, order().premium_percent).unwrap_or(Sat(1));
    BidOrder { amount, fiat: Some(bid), ..story.bid_order() }
}

/// The bid as the payee hears it from a payer that checks nothing itself.
fn heard_by_the_payee(change: impl FnOnce(&mut trade::Bid)) -> Rule {
    let mut honest = Story::listed_for(direct(), Some(order()));
    let bid = taking(&honest, quote(&honest));
    honest.want(PAYER, Command::Bid(Box::new(bid)));
    let mut envelope = honest.envelope(PAYEE, PAYER, Step::Bid(0));
    let trade::Message::Bid(bid) = &mut envelope.message else { panic!("a bid") };
    change(bid);
    let mut story = Story::listed_for(direct(), Some(order()));
    story.hear(PAYEE, envelope).expect_err("it keeps no order's terms").rule
}

#[test]
fn a_taker_sells_bitcoin_for_money_and_the_maker_has_it_in_the_end() {
    let mut story = Story::listed_for(arbitrated(), Some(order()));
    let bid = taking(&story, quote(&story));
    assert_eq!(bid.amount, Sat(196_078), "100 / (50000 * 1.02), cut");
    story.want(PAYER, Command::Bid(Box::new(bid)));
    story.serve();
    story.want(PAYEE, accept());
    story.want(PAYEE, ship());
    story.want(PAYER, release());
    assert_eq!(story.states()[..2], ["Closed", "Closed"]);
    let opening = &story.desks[PAYEE].trade(story.id).expect("there is one").dossier().opening;
    assert_eq!(opening.fiat.as_ref().map(|fiat| fiat.amount), Some(money("100")));
    let outcome = story.desks[PAYEE].trade(story.id).expect("there is one").outcome();
    assert_eq!(outcome, Some(trade::Outcome::Settled));
}

#[test]
fn a_bid_that_does_not_keep_the_order_opens_nothing() {
    let with = |change: fn(&mut FiatBid)| {
        let mut story = Story::listed_for(direct(), Some(order()));
        let mut bid = quote(&story);
        change(&mut bid);
        let order = taking(&story, bid);
        story.try_want(PAYER, Command::Bid(Box::new(order))).map(|_| ()).map_err(|refusal| refusal.rule)
    };
    assert_eq!(with(|_| {}), Ok(()));
    assert_eq!(with(|bid| bid.amount = money("49.99")), Err(Rule::TermsMismatch));
    assert_eq!(with(|bid| bid.amount = money("200.01")), Err(Rule::TermsMismatch));
    assert_eq!(with(|bid| bid.method = "cash".to_owned()), Err(Rule::TermsMismatch));
    assert_eq!(with(|bid| bid.currency = "USD".parse().expect("fine")), Err(Rule::TermsMismatch));
    assert_eq!(with(|bid| bid.quoted_at = Unix(bid.quoted_at.0 - 590)), Err(Rule::QuoteStale));
    assert_eq!(with(|bid| bid.quoted_at = Unix(bid.quoted_at.0 + 131)), Err(Rule::QuoteStale));
}

#[test]
fn the_payee_reckons_for_itself() {
    assert_eq!(heard_by_the_payee(|bid| bid.amount = Sat(bid.amount.0 - 1)), Rule::QuoteAmount);
    assert_eq!(heard_by_the_payee(|bid| bid.amount = Sat(bid.amount.0 + 1)), Rule::QuoteAmount);
    assert_eq!(
        heard_by_the_payee(|bid| bid.fiat.as_mut().expect("there is one").rate = money("50001")),
        Rule::QuoteAmount
    );
    assert_eq!(heard_by_the_payee(|bid| bid.fiat.as_mut().expect("there is one").quoted_at.0 -= 600), Rule::QuoteStale);
    assert_eq!(heard_by_the_payee(|bid| bid.fiat = None), Rule::TermsMismatch);
}

#[test]
fn a_quote_on_goods_priced_in_bitcoin_is_refused() {
    let mut story = Story::listed(direct());
    let bid = BidOrder { fiat: Some(quote(&story)), ..story.bid_order() };
    let refused = story.try_want(PAYER, Command::Bid(Box::new(bid)));
    assert_eq!(refused.map_err(|refusal| refusal.rule), Err(Rule::TermsMismatch));
}

#[test]
fn a_bid_lapses_with_its_rate_not_with_its_hours() {
    let mut story = Story::listed_for(direct(), Some(order()));
    let bid = taking(&story, quote(&story));
    story.want(PAYER, Command::Bid(Box::new(bid)));
    assert_eq!(story.states()[..2], ["Bid", "Bid"]);
    story.now.unix = Unix(story.now.unix.0 + 590);
    let refused = story.try_want(PAYEE, accept());
    assert_eq!(refused.map_err(|refusal| refusal.rule), Err(Rule::WrongState));
}

/// When the payee gives up waiting for the bitcoin, in seconds from now, after it accepted `ago` seconds after the bid.
fn waits_for_the_lock(ago: u64) -> u64 {
    let mut story = Story::listed_for(direct(), Some(order()));
    let bid = BidOrder { pay_by_hand: true, ..taking(&story, quote(&story)) };
    story.want(PAYER, Command::Bid(Box::new(bid)));
    story.now.unix = Unix(story.now.unix.0 + ago);
    story.want(PAYEE, accept());
    let trade = story.desks[PAYEE].trade(story.id);
    let Some(Trade::Payee(payee)) = trade else { panic!("{trade:?}") };
    let PayeeState::Locking { until } = payee.state else { panic!("{:?}", payee.state) };
    until.0 - story.now.unix.0
}

#[test]
fn a_taker_cannot_wait_for_the_price_to_move_before_it_locks() {
    assert_eq!(waits_for_the_lock(0), 590, "as long as the rate stands");
    assert_eq!(waits_for_the_lock(200), 390);
    assert_eq!(waits_for_the_lock(500), 300, "the least that an invoice lives");
}

#[test]
fn nobody_haggles_over_a_quoted_rate() {
    let mut story = Story::listed_for(direct(), Some(order()));
    let bid = taking(&story, quote(&story));
    story.want(PAYER, Command::Bid(Box::new(bid)));
    let refused = story.try_want(PAYEE, Command::Counter { amount: Sat(150_000) });
    assert_eq!(refused.map_err(|refusal| refusal.rule), Err(Rule::TermsMismatch));
}

#[test]
fn an_order_that_contradicts_itself_is_not_listed() {
    let checked = |change: fn(&mut FiatTerms)| {
        let mut terms = order();
        change(&mut terms);
        terms.check().map_err(|refusal| refusal.rule)
    };
    assert_eq!(checked(|_| {}), Ok(()));
    let invalid = Err(Rule::TermsInvalid);
    assert_eq!(checked(|terms| terms.min = money("201")), invalid);
    assert_eq!(checked(|terms| terms.methods.clear()), invalid);
    assert_eq!(checked(|terms| terms.methods.push("SEPA".to_owned())), invalid);
    assert_eq!(checked(|terms| terms.methods.push("x".repeat(41))), invalid);
    assert_eq!(checked(|terms| terms.methods.push("a\u{1b}[2J".to_owned())), invalid);
    assert_eq!(checked(|terms| terms.max_quote_age_secs = 59), invalid);
}

//! Orders that sell bitcoin: they are answered, their maker bids on the answer, and as many takers get some as there is.

use trade::{
    Acceptance, Answers, BidOrder, Command, Envelope, EscrowTerms, FiatBid, FiatSide, FiatTerms, Input, Listing,
    Message, MessageId, Outcome, PartyKey, Rule, Step, TradeId, fiat,
};
use units::{Sat, Unix};

use crate::story::{
    ARBITER, PAYEE, PAYER, Story, accept, arbitrated, direct, fiat_terms, key, listing, message_id, money, release,
    ship,
};

/// The payer's order: it sells.
fn order() -> FiatTerms {
    fiat_terms(FiatSide::Sell)
}

fn order_id() -> MessageId {
    message_id(key(PAYER), Step::Listing(0))
}

fn answer() -> FiatTerms {
    FiatTerms {
        side: FiatSide::Buy,
        min: money("100"),
        max: money("100"),
        methods: vec!["SEPA".to_owned()],
        answers: Some(Answers { order: order_id(), maker: key(PAYER) }),
        ..order()
    }
}

fn stall() -> TradeId {
    TradeId::of_stall(key(PAYER), "lamp")
}

/// The payer has listed its order, and the payee has answered it.
fn answered_with(terms: EscrowTerms, answer: FiatTerms, stock: u32) -> Story {
    let mut story = Story::listed_for(terms.clone(), Some(answer));
    let order = Box::new(Listing { fiat: Some(order()), ..listing(terms) });
    story
        .feed(PAYER, stall(), Input::Command(Command::List { me: key(PAYER), listing: order, stock }))
        .expect("an order is fine");
    story.go();
    story
}

fn answered(terms: EscrowTerms) -> Story {
    answered_with(terms, answer(), 1)
}

fn bid(story: &Story) -> BidOrder {
    let quote = FiatBid {
        currency: "EUR".parse().expect("fine"),
        amount: money("100"),
        method: "SEPA".to_owned(),
        rate: money("50000"),
        quoted_at: Unix(story.now.unix.0 - 10),
    };
    let amount = fiat::sats_for(quote.amount, quote.rate, order().premium_percent).expect("some");
    BidOrder { amount, fiat: Some(quote), ..story.bid_order() }
}

fn bids(story: &mut Story) -> Result<(), Rule> {
    let order = bid(story);
    story.try_want(PAYER, Command::Bid(Box::new(order))).map(|_| ()).map_err(|refusal| refusal.rule)
}

#[test]
fn the_maker_sells_bitcoin_and_the_taker_has_it_in_the_end() {
    let mut story = answered(arbitrated());
    assert_eq!(bids(&mut story), Ok(()));
    story.serve();
    assert_eq!(story.desks[PAYER].bids(stall()), 1);
    assert_eq!(story.desks[PAYER].taken(stall(), None), 0, "nobody has accepted");
    story.want(PAYEE, accept());
    assert_eq!(story.states()[..2], ["Held", "Held"]);
    assert_eq!(story.desks[PAYER].taken(stall(), None), 1);
    story.want(PAYEE, ship());
    story.want(PAYER, release());
    assert_eq!(story.outcomes(), [Some(Outcome::Settled), Some(Outcome::Settled)]);
    assert_eq!(story.trade(PAYEE).dossier().price, Sat(196_078), "100 / (50000 * 1.02), cut");
    assert_eq!(story.desks[PAYER].taken(stall(), None), 1, "what is sold is sold");
    story.assert_replays();
}

#[test]
fn the_answer_is_for_the_maker_alone() {
    let story = answered(direct());
    let said = story.said.iter().find(|said| said.author == key(PAYEE)).expect("the answer is out");
    assert_eq!(said.copies.iter().map(|copy| copy.to).collect::<Vec<_>>(), [key(PAYER)]);
    assert!(said.message.always_sealed());
    let order = story.said.iter().find(|said| said.author == key(PAYER)).expect("the order is out");
    assert!(order.copies.is_empty() && !order.message.always_sealed());
}

#[test]
fn nobody_bids_on_an_order_that_sells() {
    let mut story = Story::listed_for(direct(), Some(order()));
    assert_eq!(bids(&mut story), Err(Rule::TermsMismatch));
}

#[test]
fn the_maker_bids_on_nothing_that_its_order_does_not_offer() {
    let with = |change: fn(&mut FiatTerms)| {
        let mut wanted = answer();
        change(&mut wanted);
        bids(&mut answered_with(direct(), wanted, 1))
    };
    assert_eq!(with(|_| {}), Ok(()));
    let mismatch = Err(Rule::TermsMismatch);
    assert_eq!(with(|answer| (answer.min, answer.max) = (money("49.99"), money("49.99"))), mismatch);
    assert_eq!(with(|answer| (answer.min, answer.max) = (money("200.01"), money("200.01"))), mismatch);
    assert_eq!(with(|answer| answer.methods = vec!["cash".to_owned()]), mismatch);
    assert_eq!(with(|answer| answer.currency = "USD".parse().expect("fine")), mismatch);
    assert_eq!(with(|answer| answer.premium_percent = "-50".parse().expect("fine")), mismatch);
    assert_eq!(with(|answer| answer.max_quote_age_secs = 86_400), mismatch);
    let elsewhere = Answers { order: MessageId([9; 32]), maker: key(PAYER) };
    let mut wanted = answer();
    wanted.answers = Some(elsewhere);
    assert_eq!(bids(&mut answered_with(direct(), wanted, 1)), Err(Rule::ListingClosed));

    let mut story = answered(direct());
    let mut order = bid(&story);
    let Message::Listing(answer) = &mut order.listing.message else { panic!("a listing") };
    answer.escrow.as_mut().expect("there are terms").lock_blocks = 1008;
    let refused = story.try_want(PAYER, Command::Bid(Box::new(order)));
    assert_eq!(refused.map_err(|refusal| refusal.rule), Err(Rule::TermsMismatch), "longer than the order says");
}

#[test]
fn an_answer_lapses_on_either_side_with_the_age_of_a_rate() {
    let mut story = answered(direct());
    story.now.unix = Unix(story.now.unix.0 + 600);
    assert_eq!(bids(&mut story), Err(Rule::QuoteStale));

    // A maker that keeps the answer back and bids when it suits.
    let mut story = answered(direct());
    story.deaf = vec![PAYEE];
    assert_eq!(bids(&mut story), Ok(()));
    let late = story.envelope(PAYEE, PAYER, Step::Bid(0));
    story.now.unix = Unix(story.now.unix.0 + 600);
    assert_eq!(story.hear(PAYEE, late).map_err(|refusal| refusal.rule), Err(Rule::TooLate));
}

#[test]
fn an_answer_that_is_brought_again_opens_nothing_again() {
    let mut story = answered_with(direct(), answer(), 5);
    assert_eq!(bids(&mut story), Ok(()));
    story.restart(PAYER);
    story.replay_mail(PAYER);
    story.go();
    assert_eq!(bids(&mut story), Err(Rule::WrongRole), "it is the same trade");
    assert_eq!(story.desks[PAYER].trades().count(), 1);
}

#[test]
fn only_the_maker_bids_on_an_answer() {
    let mut honest = answered(direct());
    honest.deaf = vec![PAYEE];
    assert_eq!(bids(&mut honest), Ok(()));
    let stolen = Envelope { author: PartyKey([0x77; 32]), ..honest.envelope(PAYEE, PAYER, Step::Bid(0)) };
    let mut story = answered(direct());
    assert_eq!(story.hear(PAYEE, stolen).map_err(|refusal| refusal.rule), Err(Rule::WrongAuthor));
}

/// A bid of the payer on the answer of a second taker, who accepts it when told to.
fn second_taker(story: &mut Story) -> TradeId {
    let answer_id = MessageId([0x22; 32]);
    let first = bid(story);
    let listing = Envelope { id: answer_id, author: key(ARBITER), ..first.listing.clone() };
    let trade = TradeId::of(answer_id, key(PAYER));
    let secret = trade::secret::derive(&[0x55; 32], trade, trade::LegId::price(0, 0));
    let order = BidOrder { listing, payment_hashes: vec![secret.hash()], payee_node: None, ..first };
    story.feed(PAYER, trade, Input::Command(Command::Bid(Box::new(order)))).expect("there is one left");
    // In these stories an id is that of author and step alone.
    story.feed(PAYER, trade, Input::Sent { step: Step::Bid(0), id: MessageId([0x33; 32]) }).expect("it is owed");
    trade
}

fn second_accepts(story: &mut Story, trade: TradeId) -> Rule {
    let acceptance = Acceptance {
        bid: MessageId([0x33; 32]),
        price_invoices: Vec::new(),
        payer_bond_invoice: None,
        shipping_time_days: None,
        terms: None,
        invoice_expiry_secs: 600,
        lock_blocks: 720,
    };
    let envelope = Envelope {
        id: MessageId([0x44; 32]),
        author: key(ARBITER),
        prev: Some(MessageId([0x33; 32])),
        at: story.now.unix,
        message: Message::Acceptance(acceptance),
        invoices: Vec::new(),
        via: None,
        signed: None,
    };
    let refused = story.feed(PAYER, trade, Input::Message(Box::new(envelope)));
    refused.expect_err("there are no invoices in it, so it locks nothing in any case").rule
}

#[test]
fn of_two_takers_who_accept_at_once_the_first_gets_it() {
    let mut story = answered(direct());
    let second = second_taker(&mut story);
    assert_eq!(bids(&mut story), Ok(()), "a bid that nobody accepted keeps nobody out");
    story.want(PAYEE, accept());
    assert_eq!(story.states()[..2], ["Held", "Held"]);
    assert_eq!(second_accepts(&mut story, second), Rule::SoldOut);
    story.restart(PAYER);
    assert_eq!(second_accepts(&mut story, second), Rule::SoldOut, "the log says so too");
    let trade = story.desks[PAYER].trade(second).expect("it is open");
    assert!(trade.offers_order() && trade.dossier().paid.is_empty(), "nothing is locked for it");
    assert_eq!(story.desks[PAYER].order_left(trade), Some(0));
}

#[test]
fn an_order_that_was_withdrawn_locks_nothing_any_more() {
    let mut story = answered_with(direct(), answer(), 3);
    let second = second_taker(&mut story);
    story.feed(PAYER, stall(), Input::Command(Command::Delist { reason: String::new() })).expect("it is open");
    assert_eq!(second_accepts(&mut story, second), Rule::SoldOut);
    assert_eq!(bids(&mut story), Err(Rule::ListingClosed));
}

#[test]
fn an_order_that_came_back_can_be_taken_again() {
    let mut story = answered(direct());
    assert_eq!(bids(&mut story), Ok(()));
    story.want(PAYEE, accept());
    assert_eq!(story.desks[PAYER].taken(stall(), None), 1);
    story.want(PAYEE, Command::Refund { reason: "the bank is closed".to_owned() });
    assert_eq!(story.outcomes(), [Some(Outcome::Refunded), Some(Outcome::Refunded)]);
    assert_eq!(story.desks[PAYER].taken(stall(), None), 0);
    second_taker(&mut story);
}

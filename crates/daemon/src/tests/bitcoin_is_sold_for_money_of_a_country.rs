//! An order that sells bitcoin is answered, its maker's daemon bids and the taker's accepts, both by themselves and at a price that
//! both share; what else comes, or comes too late, or twice, locks nothing.

use markets::{Side, Standing, Subject};
use trade::{EscrowTerms, FiatSide, MessageId, TradeId};
use units::Sat;

use super::bitcoin_is_bought_for_money_of_a_country::{bazaar, eur, order, sees_price, taking, until_shown};
use super::people::{Bazaar, Person, received, until};
use crate::api::fiat::{FiatOrderRequest, FiatTakeRequest};
use crate::api::types::{ListingRequest, StepRequest};
use crate::config::{Mirror, Transport};
use crate::desk::DeskError;

fn selling(bazaar: &Bazaar) -> FiatOrderRequest {
    FiatOrderRequest { side: FiatSide::Sell, max_quote_age_secs: 300, ..order(bazaar) }
}

/// Without an arbiter: whoever that is may trade too.
fn plainly(bazaar: &Bazaar) -> FiatOrderRequest {
    FiatOrderRequest { escrow: EscrowTerms::plain(), ..selling(bazaar) }
}

async fn takes(person: &Person, request: FiatTakeRequest) -> TradeId {
    let mut trade = None;
    until("a board has the order", async || match person.desk().take_fiat(request.clone()).await {
        Ok(id) => {
            trade = Some(id);
            true
        }
        Err(DeskError::NotFound(_) | DeskError::Board(_)) => false,
        Err(error) => panic!("{error}"),
    })
    .await;
    trade.unwrap()
}

fn sent() -> StepRequest {
    StepRequest::Ship { note: String::new(), tracking: Some("transfer 17".to_owned()) }
}

/// From bitcoin that is locked to the last satoshi: the taker sends the money, and the maker has it.
async fn paid(maker: &Person, taker: &Person, trade: TradeId) {
    taker.until_sees(trade, "held").await;
    taker.steps(trade, sent()).await;
    maker.until_sees(trade, "shipped").await;
    maker.steps(trade, received()).await;
    taker.until_sees(trade, "settled").await;
    maker.until_sees(trade, "settled").await;
}

async fn left(maker: &Person, listing: MessageId) -> u32 {
    let stalls = maker.desk().stalls().await.unwrap();
    let stall = stalls.into_iter().find(|stall| stall.listing == Some(listing)).unwrap();
    stall.stock - stall.taken
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bitcoin_for_money_from_the_order_to_the_last_satoshi() {
    let mut bazaar = Bazaar::closed(1).await;
    for (person, price) in [(&mut bazaar.seller, "60000"), (&mut bazaar.buyer, "60300"), (&mut bazaar.arbiter, "1")] {
        // What answers an order is sealed all the same.
        person.config.trader.transport = Transport::Public;
        sees_price(person, price);
        person.start().await;
    }
    let (maker, taker) = (&bazaar.seller, &bazaar.buyer);
    let before = (maker.balance().await.0, taker.balance().await.0);
    let listing = maker.desk().list_fiat(selling(&bazaar)).await.unwrap();
    let trade = takes(taker, taking(listing, "30.75")).await;
    taker.until_sees(trade, "held").await;
    // 30.75 / (60000 * 1.025): the maker's price counts.
    let price = Sat(50_000);
    let view = taker.view(trade).await.unwrap();
    assert_eq!((view.role.as_str(), view.price_sat), ("payee", price));
    assert_eq!(
        (view.counterparty, view.product_name.as_str()),
        (maker.desk().identity(), "buys bitcoin for 30.75 EUR")
    );
    assert!(view.next.contains("30.75 EUR by SEPA") && view.next.contains("souk fiat sent"), "{}", view.next);
    let view = maker.view(trade).await.unwrap();
    assert_eq!((view.role.as_str(), view.product_name.as_str()), ("payer", "sells bitcoin for 10 to 100 EUR"));
    assert_ne!(view.counterparty, taker.desk().identity(), "the taker has a key of its own for each trade");
    assert_eq!(left(maker, listing).await, 0);
    paid(maker, taker, trade).await;
    assert_eq!(taker.balance().await.0 - before.1, price.0 * 1000);
    assert!(before.0 - maker.balance().await.0 >= price.0 * 1000);
    assert_eq!(left(maker, listing).await, 0, "what is sold is sold");
    let boards = maker.desk().listings().await.unwrap();
    assert_eq!(
        boards.listings.iter().map(|l| l.id).collect::<Vec<_>>(),
        [listing],
        "nobody else reads what answers it"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_price_that_the_taker_does_not_share_locks_nothing() {
    let bazaar = bazaar("60000", "60700").await;
    let listing = bazaar.seller.desk().list_fiat(selling(&bazaar)).await.unwrap();
    let trade = takes(&bazaar.buyer, taking(listing, "50")).await;
    for person in [&bazaar.buyer, &bazaar.seller] {
        until("it is over", async || person.view(trade).await.is_some_and(|view| view.outcome.is_some())).await;
        assert!(person.view(trade).await.unwrap().legs.is_empty(), "nothing was locked");
    }
    assert_eq!(left(&bazaar.seller, listing).await, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_takers_at_once_and_one_order() {
    let mut bazaar = Bazaar::closed(1).await;
    bazaar.arbiter.config.trader.enabled = true;
    for person in [&mut bazaar.seller, &mut bazaar.buyer, &mut bazaar.arbiter] {
        sees_price(person, "60000");
        person.start().await;
    }
    let (maker, takers) = (&bazaar.seller, [&bazaar.buyer, &bazaar.arbiter]);
    let before = maker.balance().await.0;
    let listing = maker.desk().list_fiat(plainly(&bazaar)).await.unwrap();
    let (one, other) = tokio::join!(takes(takers[0], taking(listing, "60")), takes(takers[1], taking(listing, "60")));
    let mut stand = Vec::new();
    until("one has it, and the other hears that it has not", async || {
        stand = vec![takers[0].sees(one).await, takers[1].sees(other).await];
        stand.sort();
        stand == ["expired", "held"] || stand == ["canceled", "held"]
    })
    .await;
    let (winner, trade) = if takers[0].sees(one).await == "held" { (takers[0], one) } else { (takers[1], other) };
    paid(maker, winner, trade).await;
    let spent = before - maker.balance().await.0;
    assert!((97_560_000..2 * 97_560_000).contains(&spent), "60 / (60000 * 1.025) once: {spent}");
    assert_eq!(left(maker, listing).await, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn daemons_that_stop_in_the_middle_go_on() {
    let mut bazaar = bazaar("60000", "60000").await;
    let listing = bazaar.seller.desk().list_fiat(selling(&bazaar)).await.unwrap();
    // The maker is away when it is answered, and the taker when the maker bids.
    bazaar.seller.stop().await;
    let trade = takes(&bazaar.buyer, taking(listing, "20")).await;
    bazaar.buyer.stop().await;
    bazaar.seller.start().await;
    bazaar.seller.until_sees(trade, "bid").await;
    // Who stops before its word is out says it when it is back, which the other side does not wait for here.
    bazaar.seller.kept().await;
    bazaar.seller.stop().await;
    bazaar.buyer.start().await;
    bazaar.buyer.until_sees(trade, "locking").await;
    bazaar.buyer.kept().await;
    bazaar.buyer.stop().await;
    bazaar.seller.start().await;
    until("the maker locks", async || ["locking", "held"].contains(&&*bazaar.seller.sees(trade).await)).await;
    bazaar.buyer.start().await;
    bazaar.buyer.until_sees(trade, "held").await;
    bazaar.seller.stop().await;
    bazaar.seller.start().await;
    paid(&bazaar.seller, &bazaar.buyer, trade).await;
    assert_eq!(bazaar.seller.desk().trades().await.unwrap().len(), 1, "an answer that is read again opens nothing");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_price_the_maker_bids_nothing_and_takes_back_what_it_bid() {
    let mut bazaar = bazaar("60000", "60000").await;
    let listing = bazaar.seller.desk().list_fiat(selling(&bazaar)).await.unwrap();
    bazaar.seller.stop().await;
    bazaar.seller.config.fiat.fixed.clear();
    bazaar.seller.start().await;
    let trade = takes(&bazaar.buyer, taking(listing, "20")).await;
    bazaar.buyer.stop().await;
    assert!(matches!(bazaar.seller.desk().list_fiat(selling(&bazaar)).await, Err(DeskError::Rate(_))));
    assert!(bazaar.seller.view(trade).await.is_none());

    bazaar.seller.stop().await;
    sees_price(&mut bazaar.seller, "60000");
    bazaar.seller.start().await;
    bazaar.seller.until_sees(trade, "bid").await;
    bazaar.seller.kept().await;
    bazaar.seller.stop().await;
    sees_price(&mut bazaar.seller, "61000");
    bazaar.seller.start().await;
    let over = async |person: &Person| person.view(trade).await.is_some_and(|view| view.outcome.is_some());
    until("the maker takes its bid back", async || over(&bazaar.seller).await).await;
    bazaar.buyer.start().await;
    until("the taker hears of it", async || over(&bazaar.buyer).await).await;
    assert_eq!(left(&bazaar.seller, listing).await, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_order_that_is_withdrawn_takes_its_bids_with_it() {
    let mut bazaar = bazaar("60000", "60000").await;
    let listing = bazaar.seller.desk().list_fiat(FiatOrderRequest { stock: 3, ..selling(&bazaar) }).await.unwrap();
    bazaar.seller.stop().await;
    let trade = takes(&bazaar.buyer, taking(listing, "20")).await;
    bazaar.buyer.stop().await;
    bazaar.seller.start().await;
    bazaar.seller.until_sees(trade, "bid").await;
    let withdraw = ListingRequest::Withdraw { reason: String::new() };
    bazaar.seller.desk().change_listing(listing, withdraw).await.unwrap();
    let over = async |person: &Person| person.view(trade).await.is_some_and(|view| view.outcome.is_some());
    until("the maker takes its bid back", async || over(&bazaar.seller).await).await;
    bazaar.buyer.start().await;
    until("the taker hears of it", async || over(&bazaar.buyer).await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_maker_may_want_to_be_asked_before_anything_is_locked() {
    let bazaar = bazaar("60000", "60000").await;
    let careful = FiatOrderRequest { pay_by_hand: true, ..selling(&bazaar) };
    let listing = bazaar.seller.desk().list_fiat(careful).await.unwrap();
    let trade = takes(&bazaar.buyer, taking(listing, "20")).await;
    bazaar.seller.until_sees(trade, "locking").await;
    let view = bazaar.seller.view(trade).await.unwrap();
    assert!(view.next.starts_with("Pay:") && view.legs.iter().all(|leg| leg.state == "ready"), "{view:?}");
    bazaar.seller.steps(trade, StepRequest::Pay).await;
    paid(&bazaar.seller, &bazaar.buyer, trade).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_maker_pays_the_arbiter_and_no_more_than_it_agreed_to() {
    let mut bazaar = Bazaar::closed(1).await;
    bazaar.arbiter.config.arbiter.fee = 300;
    for person in [&mut bazaar.seller, &mut bazaar.buyer, &mut bazaar.arbiter] {
        sees_price(person, "60000");
        person.start().await;
    }
    let (maker, taker) = (&bazaar.seller, &bazaar.buyer);
    let listing =
        maker.desk().list_fiat(FiatOrderRequest { max_arbiter_fee_sat: 299, ..selling(&bazaar) }).await.unwrap();
    let dear = takes(taker, taking(listing, "20")).await;
    until("it costs too much", async || maker.view(dear).await.is_some_and(|view| view.outcome.is_some())).await;
    let listing =
        maker.desk().list_fiat(FiatOrderRequest { max_arbiter_fee_sat: 300, ..selling(&bazaar) }).await.unwrap();
    let trade = takes(taker, taking(listing, "20")).await;
    paid(maker, taker, trade).await;
    assert_eq!(maker.view(trade).await.unwrap().fee.unwrap().amount_sat, Sat(300));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_order_does_not_offer_is_refused_before_anything_is_said() {
    let bazaar = bazaar("60000", "60000").await;
    let listing = bazaar.seller.desk().list_fiat(selling(&bazaar)).await.unwrap();
    let taker = bazaar.buyer.desk();
    let refused = async |request| match taker.take_fiat(request).await {
        Err(DeskError::Refused(refusal)) => refusal.why.into_owned(),
        Err(DeskError::Usage(why)) => why,
        other => panic!("{other:?}"),
    };
    assert!(refused(taking(listing, "100.01")).await.contains("10 to 100 EUR"));
    let by_post = FiatTakeRequest { method: Some("post".to_owned()), ..taking(listing, "50") };
    assert!(refused(by_post).await.contains("SEPA, Revolut"));
    assert!(refused(FiatTakeRequest { method: None, ..taking(listing, "50") }).await.contains("by which method"));
    let other = FiatTakeRequest { arbiter: Some(taker.identity()), ..taking(listing, "50") };
    assert!(refused(other).await.contains("escrow terms"));
    let paying = FiatTakeRequest { max_arbiter_fee_sat: 1, ..taking(listing, "50") };
    assert!(refused(paying).await.contains("pays no arbiter"));
    assert!(taker.trades().await.unwrap().is_empty() && taker.stalls().await.unwrap().is_empty());
    let own = bazaar.seller.desk().take_fiat(taking(listing, "50")).await;
    assert!(matches!(own, Err(DeskError::Usage(why)) if why.contains("your own")));
    let plain = taker.bid(super::people::bid(listing)).await;
    assert!(matches!(plain, Err(DeskError::Usage(why)) if why.contains("souk fiat take")));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_order_is_shown_as_one_that_sells_while_it_trades() {
    let mut bazaar = Bazaar::closed(1).await;
    let relay = bazaar.boards[1].url.clone();
    bazaar.seller.config.markets.mirror = vec![Mirror::Nip69];
    bazaar.buyer.config.markets.mirror = vec![Mirror::Nip69];
    for person in [&mut bazaar.seller, &mut bazaar.buyer, &mut bazaar.arbiter] {
        person.config.markets.relays = vec![relay.clone()];
        sees_price(person, "60000");
        person.start().await;
    }
    let listing = bazaar.seller.desk().list_fiat(selling(&bazaar)).await.unwrap();
    let first = until_shown(&bazaar.buyer, Standing::Open).await;
    assert_eq!(first.mirrors, Some(listing));
    let Subject::Currency(said) = &first.subject else { panic!("{first:?}") };
    assert_eq!((said.side, said.currency.as_str()), (Side::Sells, eur().to_string().as_str()));
    let trade = takes(&bazaar.buyer, taking(listing, "50")).await;
    bazaar.buyer.until_sees(trade, "held").await;
    let taken = until_shown(&bazaar.buyer, Standing::Taken).await;
    assert_eq!(taken.author, first.author, "the answer is mirrored by nobody");
    paid(&bazaar.seller, &bazaar.buyer, trade).await;
    until_shown(&bazaar.buyer, Standing::Done).await;
}

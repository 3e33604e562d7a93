//! An order for bitcoin against money of a country trades through the same machine as goods, at a rate that both sides share; a
//! rate that is not the maker's is turned down, and without one nothing is listed, taken or accepted.

use markets::{Advert, Side, Source, Standing, Subject};
use trade::{Currency, EscrowTerms, FiatSide, MessageId, Mode, Money, OnSilence, TradeId};
use units::Sat;
use wire::filter::Filter;

use super::people::{Bazaar, Person, accept, received, until};
use crate::api::fiat::{FiatOrderRequest, FiatTakeRequest};
use crate::api::types::{ListingRequest, StepRequest};
use crate::clock;
use crate::config::Mirror;
use crate::desk::DeskError;
use crate::fiat::BadRate;

pub(super) fn eur() -> Currency {
    "EUR".parse().unwrap()
}

pub(super) fn money(text: &str) -> Money {
    text.parse().unwrap()
}

pub(super) fn sees_price(person: &mut Person, price: &str) {
    person.config.fiat.fixed = [(eur(), money(price))].into();
}

/// A maker (the bazaar's seller) and a taker (its buyer) with these prices in mind.
pub(super) async fn bazaar(maker: &str, taker: &str) -> Bazaar {
    let mut bazaar = Bazaar::closed(1).await;
    sees_price(&mut bazaar.seller, maker);
    sees_price(&mut bazaar.buyer, taker);
    for person in [&mut bazaar.seller, &mut bazaar.buyer, &mut bazaar.arbiter] {
        person.start().await;
    }
    bazaar
}

pub(super) fn order(bazaar: &Bazaar) -> FiatOrderRequest {
    FiatOrderRequest {
        side: FiatSide::Buy,
        currency: eur(),
        min: money("10"),
        max: money("100"),
        premium_percent: "2.5".parse().unwrap(),
        methods: vec!["SEPA".to_owned(), "Revolut".to_owned()],
        max_quote_age_secs: 900,
        description: String::new(),
        stock: 1,
        escrow: EscrowTerms {
            mode: Mode::Arbitrated,
            arbiters: vec![bazaar.arbiter.desk().identity()],
            arbiter_release: true,
            on_silence: OnSilence::Refund,
            ..EscrowTerms::plain()
        },
        max_arbiter_fee_sat: 0,
        pay_by_hand: false,
    }
}

pub(super) fn taking(listing: MessageId, amount: &str) -> FiatTakeRequest {
    FiatTakeRequest {
        listing,
        amount: money(amount),
        method: Some("SEPA".to_owned()),
        arbiter: None,
        max_arbiter_fee_sat: 0,
        pay_by_hand: false,
    }
}

async fn take(bazaar: &Bazaar) -> TradeId {
    let listing = bazaar.seller.desk().list_fiat(order(bazaar)).await.unwrap();
    bazaar.buyer.desk().take_fiat(taking(listing, "30.75")).await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn money_for_bitcoin_from_the_order_to_the_last_satoshi() {
    let bazaar = bazaar("60000", "60300").await;
    let (maker, taker) = (&bazaar.seller, &bazaar.buyer);
    let before = (maker.balance().await.0, taker.balance().await.0);
    let trade = take(&bazaar).await;
    // 30.75 / (60300 * 1.025), cut to satoshis.
    let price = Sat(49_751);
    maker.until_sees(trade, "bid").await;
    let view = maker.view(trade).await.unwrap();
    assert_eq!((view.price_sat, view.product_name.as_str()), (price, "buys bitcoin for 10 to 100 EUR"));
    let quote = view.fiat.unwrap();
    assert_eq!((quote.amount, quote.method.as_str(), quote.rate), (money("30.75"), "SEPA", money("60300")));
    maker.steps(trade, accept()).await;
    maker.until_sees(trade, "held").await;
    let next = maker.view(trade).await.unwrap().next;
    assert!(next.contains("30.75 EUR by SEPA") && next.contains("souk fiat sent"), "{next}");
    maker.steps(trade, StepRequest::Ship { note: String::new(), tracking: Some("transfer 17".to_owned()) }).await;
    taker.until_sees(trade, "shipped").await;
    let next = taker.view(trade).await.unwrap().next;
    assert!(next.contains("souk fiat received"), "{next}");
    taker.steps(trade, received()).await;
    maker.until_sees(trade, "settled").await;
    taker.until_sees(trade, "settled").await;
    assert_eq!(maker.balance().await.0 - before.0, price.0 * 1000);
    assert!(before.1 - taker.balance().await.0 >= price.0 * 1000);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rate_that_is_not_the_makers_is_turned_down_with_the_reason() {
    let bazaar = bazaar("60000", "60601").await;
    let trade = take(&bazaar).await;
    until("the taker hears that it is turned down", async || {
        bazaar.buyer.view(trade).await.is_some_and(|view| view.outcome.is_some())
    })
    .await;
    let refused = bazaar.seller.desk().step(trade, accept()).await;
    assert!(matches!(refused, Err(DeskError::RefusedNow { .. })), "{refused:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_rate_nothing_is_listed_taken_or_accepted() {
    let mut bazaar = bazaar("60000", "60000").await;
    let trade = take(&bazaar).await;
    bazaar.seller.until_sees(trade, "bid").await;
    let listing = bazaar.seller.view(trade).await.unwrap().listing;
    for person in [&mut bazaar.seller, &mut bazaar.buyer] {
        person.stop().await;
        person.config.fiat.fixed.clear();
        person.start().await;
    }
    let nothing = |error: DeskError| matches!(error, DeskError::Rate(BadRate::None(_)));
    assert!(nothing(bazaar.seller.desk().list_fiat(order(&bazaar)).await.unwrap_err()));
    assert!(nothing(bazaar.seller.desk().step(trade, accept()).await.unwrap_err()));
    assert_eq!(bazaar.seller.sees(trade).await, "bid", "it waits for our user, who may have a rate again");
    let mut taken = None;
    until("a board has the order", async || match bazaar.buyer.desk().take_fiat(taking(listing, "30")).await {
        Err(DeskError::NotFound(_) | DeskError::Board(_)) => false,
        other => {
            taken = Some(other);
            true
        }
    })
    .await;
    assert!(nothing(taken.unwrap().unwrap_err()));

    bazaar.seller.stop().await;
    sees_price(&mut bazaar.seller, "60100");
    bazaar.seller.start().await;
    bazaar.seller.steps(trade, accept()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_order_does_not_offer_is_refused_before_anything_is_said() {
    let bazaar = bazaar("60000", "60000").await;
    let listing = bazaar.seller.desk().list_fiat(order(&bazaar)).await.unwrap();
    let taker = bazaar.buyer.desk();
    let refused = async |request| match taker.take_fiat(request).await {
        Err(DeskError::Refused(refusal)) => refusal.why.into_owned(),
        other => panic!("{other:?}"),
    };
    assert!(refused(taking(listing, "100.01")).await.contains("10 to 100 EUR"));
    assert!(refused(taking(listing, "9.99")).await.contains("10 to 100 EUR"));
    let by_post = FiatTakeRequest { method: Some("post".to_owned()), ..taking(listing, "50") };
    assert!(refused(by_post).await.contains("SEPA, Revolut"));
    let unsaid = taker.take_fiat(FiatTakeRequest { method: None, ..taking(listing, "50") }).await;
    assert!(matches!(unsaid, Err(DeskError::Usage(why)) if why.contains("SEPA, Revolut")));
    let plain = taker.bid(super::people::bid(listing)).await;
    assert!(matches!(plain, Err(DeskError::Usage(why)) if why.contains("souk fiat take")));
    assert!(taker.trades().await.unwrap().is_empty());
}

/// What the relay of the other market shows now.
async fn shown(reader: &Person) -> Option<Advert> {
    let filter = Filter { kinds: Some(vec![markets::kind::CURRENCY_ORDER]), ..Filter::default() };
    let events = reader.desk().relays[0].query(vec![filter]).await.ok()?;
    let event = events.first()?;
    event.verify().unwrap();
    Some(markets::read(event, clock::unix()).unwrap())
}

pub(super) async fn until_shown(reader: &Person, standing: Standing) -> Advert {
    let mut found = None;
    until(&format!("the relay shows {standing:?}"), async || {
        found = shown(reader).await.filter(|advert| advert.standing == standing);
        found.is_some()
    })
    .await;
    found.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_order_is_shown_on_the_market_of_its_kind_while_it_trades() {
    let mut bazaar = Bazaar::closed(1).await;
    let relay = bazaar.boards[1].url.clone();
    bazaar.seller.config.markets.mirror = vec![Mirror::Nip69, Mirror::Nip99];
    for person in [&mut bazaar.seller, &mut bazaar.buyer, &mut bazaar.arbiter] {
        person.config.markets.relays = vec![relay.clone()];
        sees_price(person, "60000");
        person.start().await;
    }
    let listing = bazaar.seller.desk().list_fiat(order(&bazaar)).await.unwrap();
    let first = until_shown(&bazaar.buyer, Standing::Open).await;
    assert_eq!((first.source, first.mirrors), (Source::Souk, Some(listing)));
    let Subject::Currency(said) = &first.subject else { panic!("{first:?}") };
    assert_eq!((said.side, said.currency.as_str(), said.layer.as_str()), (Side::Buys, "EUR", "lightning"));
    assert_eq!(
        (said.min.to_string(), said.max.to_string(), said.premium.to_string()),
        ("10".into(), "100".into(), "2.5".into())
    );
    assert_eq!(said.methods, ["SEPA", "Revolut"]);
    assert!(first.expires.unwrap() > clock::unix());
    let goods = Filter { kinds: Some(vec![markets::kind::CLASSIFIED]), ..Filter::default() };
    assert!(bazaar.buyer.desk().relays[0].query(vec![goods]).await.unwrap().is_empty(), "it is no thing for sale");
    let listings = bazaar.buyer.desk().listings().await.unwrap().listings;
    assert_eq!((listings.len(), bazaar.buyer.desk().adverts(&listings).await.unwrap().adverts.len()), (1, 0));

    let trade = bazaar.buyer.desk().take_fiat(taking(listing, "50")).await.unwrap();
    bazaar.seller.steps(trade, accept()).await;
    until_shown(&bazaar.buyer, Standing::Taken).await;
    bazaar.finish_held(trade).await;
    let last = until_shown(&bazaar.buyer, Standing::Done).await;
    assert!(first.at < last.at, "each is newer");

    // Nobody takes the next one, and it is called off.
    let next = bazaar.seller.desk().list_fiat(FiatOrderRequest { stock: 2, ..order(&bazaar) }).await.unwrap();
    let newest = async || {
        let filter = Filter { kinds: Some(vec![markets::kind::CURRENCY_ORDER]), ..Filter::default() };
        let events = bazaar.buyer.desk().relays[0].query(vec![filter]).await.unwrap_or_default();
        let adverts = events.iter().map(|event| markets::read(event, clock::unix()).unwrap());
        adverts.filter(|advert| advert.mirrors == Some(next)).map(|advert| advert.standing).next()
    };
    until("the second order is shown", async || newest().await == Some(Standing::Open)).await;
    let withdraw = ListingRequest::Withdraw { reason: String::new() };
    bazaar.seller.desk().change_listing(next, withdraw).await.unwrap();
    until("the second order is called off", async || newest().await == Some(Standing::Gone)).await;
}

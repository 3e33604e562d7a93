//! A listing is shown on another market too: price, stock and state follow every edit, sale, restock and withdrawal, also those
//! that happened while the relay was away or the daemon was down. Each version is newer than the one before.

use markets::{Advert, Standing, Subject};
use units::Sat;
use wire::filter::Filter;

use super::people::{Bazaar, Person, accept, until};
use crate::api::types::{ListingRequest, SellRequest};
use crate::clock;
use crate::config::Mirror;

/// What the relay of the other market shows now.
async fn shown(reader: &Person) -> Option<Advert> {
    let filter = Filter { kinds: Some(vec![markets::kind::CLASSIFIED]), ..Filter::default() };
    let events = reader.desk().relays[0].query(vec![filter]).await.ok()?;
    assert!(events.len() <= 1, "one address, one event");
    let event = events.first()?;
    event.verify().unwrap();
    Some(markets::read(event, clock::unix()).unwrap())
}

/// Waits until the relay shows a version in this state, and gives it back.
async fn until_shown(reader: &Person, standing: Standing, price: u64, stock: u32) -> Advert {
    let mut found = None;
    until(&format!("the relay shows {standing:?}, {price} sat, {stock} pieces"), async || {
        found = shown(reader).await.filter(|advert| {
            let Subject::Goods(goods) = &advert.subject else { return false };
            advert.standing == standing && goods.price.in_sat() == Some(Sat(price)) && goods.stock == Some(stock)
        });
        found.is_some()
    })
    .await;
    found.unwrap()
}

fn edit(price: u64) -> ListingRequest {
    ListingRequest::Edit {
        product_name: None,
        description: None,
        price_sat: Some(price),
        category: None,
        shipping_days: None,
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_listing_is_mirrored_while_it_sells() {
    let mut bazaar = Bazaar::closed(1).await;
    let relay = bazaar.boards[1].url.clone();
    bazaar.seller.config.markets.relays = vec![relay.clone()];
    bazaar.seller.config.markets.mirror = vec![Mirror::Nip99];
    bazaar.buyer.config.markets.relays = vec![relay];
    for person in [&mut bazaar.seller, &mut bazaar.buyer, &mut bazaar.arbiter] {
        person.start().await;
    }
    let goods = SellRequest { stock: 2, price_sat: 40_000, ..bazaar.goods() };
    let listing = bazaar.seller.desk().sell(goods).await.unwrap();
    let first = until_shown(&bazaar.buyer, Standing::Open, 40_000, 2).await;
    assert_eq!((first.title.as_str(), first.mirrors), ("Wool socks", Some(listing)));

    // One is taken; it stays taken when the daemon starts again.
    let trade = bazaar.take(listing).await;
    bazaar.seller.steps(trade, accept()).await;
    let second = until_shown(&bazaar.buyer, Standing::Open, 40_000, 1).await;
    bazaar.seller.until_sees(trade, "held").await;

    // The relay is away while the price changes twice, and the daemon is restarted: the last word arrives, and only that.
    bazaar.boards[1].close();
    let stall = bazaar.seller.desk().change_listing(listing, edit(45_000)).await.unwrap();
    bazaar.seller.desk().change_listing(stall.listing.unwrap(), edit(46_000)).await.unwrap();
    bazaar.seller.stop().await;
    bazaar.seller.start().await;
    bazaar.boards[1].reopen();
    let third = until_shown(&bazaar.buyer, Standing::Open, 46_000, 1).await;
    assert!(first.at < second.at && second.at < third.at, "each is newer");
    assert_eq!(third.since, first.since, "published when it was published first");

    // Who reads both sees it once.
    let listings = bazaar.buyer.desk().listings().await.unwrap().listings;
    assert_eq!((listings.len(), bazaar.buyer.desk().adverts(&listings).await.unwrap().adverts.len()), (1, 0));

    bazaar.finish_held(trade).await;
    let newest = listings[0].id;
    let seller = bazaar.seller.desk();
    seller.change_listing(newest, ListingRequest::Restock { stock: 1 }).await.unwrap();
    until_shown(&bazaar.buyer, Standing::Done, 46_000, 0).await;
    seller.change_listing(newest, ListingRequest::Restock { stock: 4 }).await.unwrap();
    until_shown(&bazaar.buyer, Standing::Open, 46_000, 3).await;
    seller.change_listing(newest, ListingRequest::Withdraw { reason: String::new() }).await.unwrap();
    until_shown(&bazaar.buyer, Standing::Hidden, 46_000, 0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_mirrored_unasked_and_what_was_is_hidden_when_it_is_switched_off() {
    let mut bazaar = Bazaar::closed(1).await;
    let relay = bazaar.boards[1].url.clone();
    bazaar.buyer.config.markets.relays = vec![relay.clone()];
    bazaar.seller.config.markets.relays = vec![relay];
    for person in [&mut bazaar.seller, &mut bazaar.buyer, &mut bazaar.arbiter] {
        person.start().await;
    }
    bazaar.seller.desk().sell(bazaar.goods()).await.unwrap();
    assert!(bazaar.seller.desk().store.backlog().unwrap().keys().all(|board| *board == bazaar.boards[0].url));

    // Switched on, what is listed already is mirrored; switched off, it is hidden.
    bazaar.seller.stop().await;
    bazaar.seller.config.markets.mirror = vec![Mirror::Nip99];
    bazaar.seller.start().await;
    until_shown(&bazaar.buyer, Standing::Open, 40_000, 1).await;
    bazaar.seller.stop().await;
    bazaar.seller.config.markets.mirror.clear();
    bazaar.seller.start().await;
    until_shown(&bazaar.buyer, Standing::Hidden, 40_000, 0).await;
}

//! One list of what is offered: our own listings on the board, and what other markets have on theirs, each with its source. A
//! market order is checked, published, and found by whoever watches any board.

use futures::StreamExt;
use node::{HoldInvoiceRequest, Node};
use secp256k1::{Keypair, SECP256K1};
use units::{Msat, PaymentHash, Unix};
use wire::{Event, Unsigned};

use super::people::{Bazaar, until};
use crate::api::types::OrderRequest;
use crate::clock;
use crate::config::Network;
use crate::desk::DeskError;
use crate::running::Running;

/// Signed by a stranger.
fn event(kind: u16, at: Unix, tags: &[&[&str]], content: &str) -> Event {
    let key = Keypair::from_seckey_slice(SECP256K1, &[77; 32]).unwrap();
    let tags = tags.iter().map(|tag| tag.iter().map(ToString::to_string).collect()).collect();
    Unsigned { pubkey: [0; 32], created_at: at, kind, tags, content: content.to_owned() }.sign(&key, &[0; 32])
}

async fn sources(desk: &Running) -> Vec<(String, String)> {
    let listings = desk.listings().await.unwrap().listings;
    let adverts = desk.adverts(&listings).await.unwrap().adverts;
    let own = listings.into_iter().map(|l| (l.source, l.product_name));
    own.chain(adverts.into_iter().map(|a| (a.source, a.product_name))).collect()
}

fn order(now: Unix) -> Event {
    let until = (now.0 + 3600).to_string();
    let tags: &[&[&str]] = &[
        &["d", "o"],
        &["k", "sell"],
        &["f", "EUR"],
        &["s", "pending"],
        &["amt", "0"],
        &["fa", "50", "200"],
        &["pm", "SEPA"],
        &["premium", "1"],
        &["source", "mostro:o?relays=wss://x&mostro=82fa"],
        &["expires_at", &until],
        &["expiration", &until],
        &["y", "mostro", "M"],
        &["z", "order"],
    ];
    event(markets::kind::CURRENCY_ORDER, now, tags, "")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn other_markets_are_read_beside_our_own() {
    let mut bazaar = Bazaar::closed(1).await;
    bazaar.buyer.config.markets.relays = vec![bazaar.boards[1].url.clone()];
    for person in [&mut bazaar.seller, &mut bazaar.buyer, &mut bazaar.arbiter] {
        person.start().await;
    }
    let now = clock::unix();
    let relay = bazaar.buyer.desk().relays[0].clone();
    let honey: &[&[&str]] =
        &[&["d", "h"], &["title", "Honey"], &["price", "5", "EUR"], &["t", "shopstr"], &["stock", "1"]];
    let sold: &[&[&str]] =
        &[&["d", "h"], &["title", "Honey"], &["price", "5", "EUR"], &["t", "shopstr"], &["stock", "0"]];
    let unreadable: &[&[&str]] = &[&["d", "u"], &["title", "No price"]];
    relay.soon().await;
    for event in [
        event(markets::kind::CLASSIFIED, now, honey, "From our bees"),
        event(markets::kind::CLASSIFIED, now, unreadable, ""),
        order(now),
    ] {
        relay.publish(event).await.unwrap();
    }
    bazaar.seller.desk().sell(bazaar.goods()).await.unwrap();
    let desk = bazaar.buyer.desk();
    let named = |source: &str, what: &str| (source.to_owned(), what.to_owned());
    let all =
        [named("souk", "Wool socks"), named("mostro", "sells bitcoin for 50 to 200 EUR"), named("shopstr", "Honey")];
    until("the buyer sees all three", async || {
        let mut seen = sources(desk).await;
        seen.sort();
        let mut all = all.clone();
        all.sort();
        seen == all
    })
    .await;
    let adverts = desk.adverts(&[]).await.unwrap().adverts;
    let mostro = adverts.iter().find(|advert| advert.source == "mostro").unwrap();
    assert_eq!((mostro.venue.as_str(), mostro.take.as_str()), ("M", "mostro:o?relays=wss://x&mostro=82fa"));
    assert_eq!(mostro.boards, [bazaar.boards[1].url.clone()]);
    relay.publish(event(markets::kind::CLASSIFIED, Unix(now.0 + 1), sold, "")).await.unwrap();
    until("what was sold is gone", async || sources(desk).await.iter().all(|(source, _)| source != "shopstr")).await;
    let seen = sources(bazaar.seller.desk()).await;
    assert_eq!(seen, [named("souk", "Wool socks")], "the seller does not read that relay");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn more_than_a_board_sends_at_once_is_read_and_what_cannot_be_is_told() {
    let mut bazaar = Bazaar::closed(1).await;
    bazaar.buyer.start().await;
    let desk = bazaar.buyer.desk();
    let (board, now) = (&desk.boards[0], clock::unix());
    board.soon().await;
    let publish = async |number: u64, at: Unix| {
        let d = number.to_string();
        let tags: &[&[&str]] = &[&["d", &d], &["title", "Honey"], &["price", "5", "EUR"]];
        board.publish(event(markets::kind::CLASSIFIED, at, tags, "")).await.unwrap();
    };
    let spread = futures::stream::iter(0..1_100).map(|number| publish(number, Unix(now.0 - number / 3)));
    spread.buffer_unordered(100).collect::<()>().await;
    let all = desk.adverts(&[]).await.unwrap();
    assert_eq!((all.adverts.len(), all.left_out), (1_100, Vec::new()));
    // The board sends 500 at once: of 501 made in one second nobody can ask for the last.
    let crowd = futures::stream::iter(2_000..2_501).map(|number| publish(number, Unix(now.0 - 10_000)));
    crowd.buffer_unordered(100).collect::<()>().await;
    let all = desk.adverts(&[]).await.unwrap();
    assert_eq!(all.adverts.len(), 1_600);
    assert_eq!(all.left_out[0].board, board.url());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_market_order_is_checked_published_and_watched() {
    let mut bazaar = Bazaar::closed(1).await;
    bazaar.seller.config.network = Network::Regtest;
    bazaar.seller.start().await;
    bazaar.buyer.start().await;
    let seller = bazaar.seller.desk();
    let request = HoldInvoiceRequest {
        hash: PaymentHash([5; 32]),
        amount: Msat(25_000_000),
        min_final_cltv: 18,
        expiry_secs: 600,
        description: "a lamp".to_owned(),
    };
    let invoice = bazaar.seller.node.create_hold_invoice(request).await.unwrap();
    let ask =
        |order: &str, board: Option<&str>| OrderRequest { order: order.to_owned(), board: board.map(str::to_owned) };
    until("the board is there", async || seller.publish_order(ask(&invoice, None)).await.is_ok()).await;
    let reply = seller.publish_order(ask(&invoice, None)).await.unwrap();
    assert_eq!((reply.order.as_str(), reply.amount.as_str()), (invoice.as_str(), "25,000 sat"));

    let found = bazaar.buyer.desk().orders(None).await.unwrap();
    assert_eq!(found.len(), 1, "published twice, it is one order");
    assert_eq!(found[0].order.as_deref(), Some(invoice.as_str()), "a copied string pays in any wallet");
    assert_eq!(
        (found[0].source.as_str(), found[0].take.as_str()),
        ("civkit", format!("pay it: souk node pay {invoice}").as_str())
    );

    // A board that is not configured, for this one order.
    let elsewhere = bazaar.boards[1].url.clone();
    assert!(bazaar.buyer.desk().orders(Some(&elsewhere)).await.unwrap().is_empty());
    let reply = seller.publish_order(ask(&invoice, Some(&elsewhere))).await.unwrap();
    assert_eq!((reply.boards.len(), reply.boards[0].refused.as_ref()), (1, None));
    assert_eq!(bazaar.buyer.desk().orders(Some(&elsewhere)).await.unwrap().len(), 1);

    // The buyer's daemon is for another network; nothing is published, and the reason is said.
    let refused = bazaar.buyer.desk().publish_order(ask(&invoice, None)).await.unwrap_err();
    assert!(matches!(&refused, DeskError::Order(why) if why.code() == "order-network"), "{refused}");
    let refused = seller.publish_order(ask("lnbc1nonsense", None)).await.unwrap_err();
    assert!(matches!(&refused, DeskError::Order(why) if why.code() == "order-unusable"), "{refused}");
    let refused = seller.publish_order(ask(&invoice, Some("http://x"))).await.unwrap_err();
    assert!(matches!(refused, DeskError::Usage(_)), "{refused}");
}

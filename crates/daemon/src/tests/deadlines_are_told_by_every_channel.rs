//! Scenario 12: the deadline of a lock comes near. Both parties are warned in the log and the API, and by web-hook and private
//! message where they are configured, also when the web-hook fails at first.

use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::http::StatusCode;
use axum::routing::post;
use secp256k1::{Keypair, SECP256K1};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use wire::event::pubkey_of;

use super::people::{Bazaar, received, until};
use crate::board_link::{BoardLink, Letterbox};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn deadlines_are_told_by_every_channel() {
    let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
    let posted: Arc<Mutex<Vec<serde_json::Value>>> = Arc::default();
    let url = hook(posted.clone(), &tasks, &stop).await;
    let phone = Keypair::from_seckey_slice(SECP256K1, &[77; 32]).unwrap();

    let mut bazaar = Bazaar::closed(1).await;
    bazaar.seller.config.notify.webhook = url;
    bazaar.seller.config.notify.nostr = units::hex32(&pubkey_of(&phone));
    for person in [&mut bazaar.seller, &mut bazaar.buyer, &mut bazaar.arbiter] {
        person.start().await;
    }
    let (mail, mut mailed) = mpsc::channel(16);
    let link = BoardLink::start(bazaar.boards[0].url.clone(), false, Letterbox::new(mail), &tasks, stop.clone());
    link.listen(phone);

    let trade = bazaar.shipped().await;
    let deadlines = bazaar.seller.view(trade).await.unwrap().deadlines.unwrap();
    bazaar.network.mine(deadlines.warn.blocks_after(bazaar.network.now().height));

    for person in [&bazaar.seller, &bazaar.buyer] {
        until("both are warned", async || !person.view(trade).await.unwrap().warnings.is_empty()).await;
    }
    until("the web-hook took it at the second try", async || posted.lock().unwrap().len() == 1).await;
    let told = posted.lock().unwrap()[0].clone();
    assert_eq!(told["trade"], trade.to_string());
    assert_eq!((told["role"].as_str(), told["alarm"].as_bool()), (Some("payee"), Some(false)));
    assert_eq!(told["deadlines"]["rule"].as_u64(), Some(deadlines.rule.0.into()));
    let event = mailed.recv().await.unwrap().event;
    let message = wire::seal::unwrap(&event, &phone).unwrap().rumor;
    assert_eq!((message.kind, message.pubkey), (14, bazaar.seller.desk().identity().0));
    assert!(message.content.contains(&deadlines.rule.to_string()), "{}", message.content);

    // A restart raises it no second time. (A web-hook whose answer was lost may hear it again: `id` says that it is the same.)
    bazaar.seller.stop().await;
    bazaar.seller.start().await;
    bazaar.buyer.steps(trade, received()).await;
    bazaar.seller.until_sees(trade, "settled").await;
    assert!(posted.lock().unwrap().iter().all(|again| again["id"] == told["id"]));
    stop.cancel();
}

/// A web-hook that is broken once.
async fn hook(posted: Arc<Mutex<Vec<serde_json::Value>>>, tasks: &TaskTracker, stop: &CancellationToken) -> String {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let url = format!("http://{}/souk?token=secret", listener.local_addr().unwrap());
    let tries = Arc::new(Mutex::new(0));
    let take = move |body: String| {
        let mut tries = tries.lock().unwrap();
        *tries += 1;
        let status = if *tries == 1 { StatusCode::INTERNAL_SERVER_ERROR } else { StatusCode::OK };
        if *tries > 1 {
            posted.lock().unwrap().push(serde_json::from_str(&body).unwrap());
        }
        std::future::ready(status)
    };
    let stop = stop.clone();
    tasks.spawn(async move {
        let served = axum::serve(listener, Router::new().route("/souk", post(take)));
        served.with_graceful_shutdown(async move { stop.cancelled().await }).await.unwrap();
    });
    url
}

//! A channel whose funding is not confirmed: nothing is held in it, unless the peer is trusted.

use node::Node;
use units::{Msat, Sat};

use crate::net::{Net, PATIENCE, connect, find, hold, hold_becomes, hold_request, open, pay, secret, succeeds, usable};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_trusted_peer_pays_through_a_channel_that_is_not_confirmed() {
    let net = Net::start().await;
    let alice = net.node("alice").await;
    let trusted = alice.info().await.unwrap().node_id.parse().unwrap();
    let bob = net.node_with("bob", |config| config.inbound.trusted = [trusted].into()).await;
    net.fund(&alice, Sat(10_000_000)).await;
    connect(&alice, &bob).await;
    let channel = open(&alice, &bob, Sat(1_000_000)).await.unwrap();
    usable(&alice, &channel).await;
    let secret = secret("unconfirmed");
    hold(&alice, &bob, &secret, Msat(100_000_000), 144).await;
    bob.settle(secret.clone()).await.unwrap();
    assert_eq!(succeeds(&alice, secret.hash().into()).await, secret);
}

/// No channel is made for a payment, so the only funding to be wary of is that of a peer's own.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_channel_whose_funding_is_not_confirmed_holds_nothing() {
    let net = Net::start().await;
    let (alice, bob) = (net.node("alice").await, net.node("bob").await);
    net.fund(&alice, Sat(10_000_000)).await;
    connect(&alice, &bob).await;
    let channel = open(&alice, &bob, Sat(1_000_000)).await.unwrap();
    let secret = secret("not confirmed");
    let invoice = bob.create_hold_invoice(hold_request(secret.hash(), Msat(100_000_000), 144)).await.unwrap();
    pay(&alice, &invoice).await.unwrap();
    // The payment waits for a way until its time is over; this one is none yet.
    assert!(!find(&alice, &channel).await.unwrap().usable);
    assert_eq!(bob.lookup(secret.hash()).await.unwrap().state, node::HoldState::Open);
    let funding = find(&alice, &channel).await.unwrap().funding.unwrap();
    let txid = funding.split(':').next().unwrap().parse().unwrap();
    tokio::time::timeout(PATIENCE, net.dev.wait_for_tx(txid)).await.unwrap().unwrap();
    net.mine(6, &[&alice, &bob]).await;
    hold_becomes(&bob, secret.hash(), node::HoldState::Accepted).await;
}

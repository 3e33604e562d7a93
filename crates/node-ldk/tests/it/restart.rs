//! Nodes that die and come back: a dropped node writes nothing more, as if it had been killed.

use std::sync::Arc;
use std::time::{Duration, Instant};

use node::{HoldState, Node, PaymentState};
use node_ldk::LdkNode;
use units::{Height, Msat};

use crate::net::{
    fails, find, height_of, hold, hold_becomes, hold_request, pay, payment_ends, secret, succeeds, until, usable,
};
use crate::two_nodes::{TwoNodes, two_nodes};

/// Drops the last handle: the node is gone when this returns.
fn kill(node: Arc<LdkNode>) {
    assert_eq!(Arc::strong_count(&node), 1, "somebody else holds the node");
    drop(node);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_900_block_hold_outlives_a_kill_and_is_settled() {
    let TwoNodes { net, alice, bob, channel, .. } = two_nodes().await;
    let secret = secret("nine hundred blocks");
    let held = hold(&alice, &bob, &secret, Msat(1_000_000_000), 900).await;
    let start = height_of(&bob).await;
    assert!(held.expiry_height.unwrap() >= start.plus(900));
    kill(bob);
    net.mine(400, &[&alice]).await;
    let bob = net.node("bob").await;
    assert_eq!(height_of(&bob).await, start.plus(400));
    assert_eq!(bob.lookup(secret.hash()).await.unwrap(), held, "nothing is forgotten");
    assert_eq!(alice.lookup_payment(secret.hash().into()).await.unwrap().state, PaymentState::InFlight);
    usable(&bob, &channel).await;
    bob.settle(secret.clone()).await.unwrap();
    assert_eq!(succeeds(&alice, secret.hash().into()).await, secret);
    assert!(find(&bob, &channel).await.is_some(), "the channel is still there");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_payee_can_still_cancel() {
    let TwoNodes { net, alice, bob, channel, .. } = two_nodes().await;
    let secret = secret("killed, canceled");
    hold(&alice, &bob, &secret, Msat(1_000_000_000), 200).await;
    kill(bob);
    let bob = net.node("bob").await;
    bob.cancel(secret.hash()).await.unwrap();
    fails(&alice, secret.hash().into()).await;
    until("the HTLC to go", || async { (find(&bob, &channel).await.unwrap().htlcs == 0).then_some(()) }).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_ordered_before_the_kill_is_done_after_it() {
    let TwoNodes { net, alice, bob, channel, .. } = two_nodes().await;
    let (settled, canceled) = (secret("ordered: settle"), secret("ordered: cancel"));
    hold(&alice, &bob, &settled, Msat(1_000_000_000), 200).await;
    hold(&alice, &bob, &canceled, Msat(1_000_000_000), 200).await;
    bob.settle(settled.clone()).await.unwrap();
    bob.cancel(canceled.hash()).await.unwrap();
    kill(bob);
    let bob = net.node("bob").await;
    hold_becomes(&bob, settled.hash(), HoldState::Settled).await;
    assert_eq!(bob.lookup(canceled.hash()).await.unwrap().state, HoldState::Canceled);
    assert_eq!(succeeds(&alice, settled.hash().into()).await, settled);
    fails(&alice, canceled.hash().into()).await;
    assert!(find(&alice, &channel).await.is_some());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_payer_learns_the_secret_when_it_is_back() {
    let TwoNodes { net, alice, bob, channel, .. } = two_nodes().await;
    let secret = secret("payer killed");
    hold(&alice, &bob, &secret, Msat(1_000_000_000), 200).await;
    kill(alice);
    bob.settle(secret.clone()).await.unwrap();
    let alice = net.node("alice").await;
    assert_eq!(succeeds(&alice, secret.hash().into()).await, secret);
    assert!(find(&alice, &channel).await.is_some());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_killed_in_the_thick_of_it_lose_neither_channel_nor_money() {
    let TwoNodes { net, mut alice, mut bob, channel, .. } = two_nodes().await;
    let before = (total(&alice).await, total(&bob).await);
    let mut secrets = Vec::new();
    for round in 0..6 {
        for number in 0..12 {
            let secret = secret(&format!("thick {round} {number}"));
            let request = hold_request(secret.hash(), Msat(10_000_000), 200);
            let invoice = bob.create_hold_invoice(request).await.unwrap();
            pay(&alice, &invoice).await.unwrap();
            secrets.push(secret);
        }
        // Somewhere in the middle of the commitment dance.
        tokio::time::sleep(Duration::from_millis(7 * round)).await;
        if round % 2 == 0 {
            kill(bob);
            bob = net.node("bob").await;
        } else {
            kill(alice);
            alice = net.node("alice").await;
        }
        usable(&alice, &channel).await;
        for secret in &secrets[secrets.len() - 12..] {
            // A payment that the kill swallowed whole has failed and can be paid again.
            let invoice = bob.lookup(secret.hash()).await.unwrap().invoice;
            pay(&alice, &invoice).await.unwrap();
        }
        let settled = &secrets[secrets.len() - 6];
        hold_becomes(&bob, settled.hash(), HoldState::Accepted).await;
        bob.settle(settled.clone()).await.unwrap();
    }
    for secret in &secrets {
        let hold = until("a hold to be decided", || async {
            Some(bob.lookup(secret.hash()).await.unwrap()).filter(|hold| hold.state != HoldState::Open)
        })
        .await;
        if hold.state == HoldState::Accepted {
            bob.cancel(secret.hash()).await.unwrap();
        }
    }
    let mut paid = 0;
    for secret in &secrets {
        if let PaymentState::Succeeded { preimage, .. } = payment_ends(&alice, secret.hash().into()).await.state {
            assert_eq!(preimage, *secret);
            paid += 1;
        }
    }
    assert_eq!(paid, 6, "what was settled is paid, and nothing else");
    until("the last HTLC to go", || async { (find(&bob, &channel).await.unwrap().htlcs == 0).then_some(()) }).await;
    until("the last HTLC to go", || async { (find(&alice, &channel).await.unwrap().htlcs == 0).then_some(()) }).await;
    let moved = 6 * 10_000_000;
    assert_eq!((total(&alice).await, total(&bob).await), (before.0 - moved, before.1 + moved));
}

/// What the node can send, in millisatoshis.
async fn total(node: &LdkNode) -> u64 {
    node.balances().await.unwrap().lightning.0
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_channel_is_usable_at_once_after_a_restart() {
    let TwoNodes { net, alice, bob, channel, .. } = two_nodes().await;
    alice.stop().await.unwrap();
    assert!(alice.info().await.is_err(), "a stopped node says so");
    drop(alice);
    let start = Instant::now();
    let alice = net.node("alice").await;
    usable(&alice, &channel).await;
    usable(&bob, &channel).await;
    assert!(start.elapsed() < Duration::from_secs(3), "it took {:?}", start.elapsed());
    // Alice knows where Bob is and comes back to him as well when it was he who went away.
    kill(bob);
    let bob = net.node("bob").await;
    let start = Instant::now();
    usable(&bob, &channel).await;
    assert!(start.elapsed() < Duration::from_secs(3), "it took {:?}", start.elapsed());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_folder_is_used_by_one_node_at_a_time() {
    let net = crate::net::Net::start().await;
    let node = net.node("solo").await;
    let second = LdkNode::start(net.config("solo"), &crate::net::seed("solo")).await;
    assert!(matches!(second.map(|_| ()), Err(node::NodeError::Rejected(_))));
    node.stop().await.unwrap();
    let node = net.node("solo").await;
    assert_eq!(height_of(&node).await, Height(130));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reorganisation_of_a_few_blocks_does_no_harm() {
    let TwoNodes { net, alice, bob, channel, .. } = two_nodes().await;
    let secret = secret("reorganised");
    net.mine(6, &[&alice, &bob]).await;
    hold(&alice, &bob, &secret, Msat(1_000_000_000), 200).await;
    net.dev.reorg(4).await.unwrap();
    net.seen(&[&alice, &bob]).await;
    kill(bob);
    net.dev.reorg(2).await.unwrap();
    let bob = net.node("bob").await;
    net.seen(&[&alice, &bob]).await;
    usable(&bob, &channel).await;
    bob.settle(secret.clone()).await.unwrap();
    assert_eq!(succeeds(&alice, secret.hash().into()).await, secret);
    net.mine(3, &[&alice, &bob]).await;
    assert!(find(&alice, &channel).await.unwrap().usable);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_comes_back_is_found_every_time() {
    let TwoNodes { net, alice, mut bob, channel, .. } = two_nodes().await;
    for round in 0..25 {
        if round % 2 == 1 {
            bob.stop().await.unwrap();
        }
        kill(bob);
        bob = net.node("bob").await;
        usable(&alice, &channel).await;
        usable(&bob, &channel).await;
    }
}

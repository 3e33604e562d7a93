//! A machine is lost, and a backup of its node knows the channels as they were: the peer closes them, the backup never does.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use node::{HoldState, Node, PaymentState};
use node_ldk::{LdkNode, snapshot};
use units::{Msat, Preimage, Sat};

use crate::net::{Net, PATIENCE, fails, find, height_of, hold, hold_becomes, secret, succeeds, until};
use crate::two_nodes::{TwoNodes, two_nodes};

const SAT: u64 = 1_000;

/// The folder of a node that was killed is gone; what a backup took of it is there.
async fn restored(net: &Net, name: &str, backup: &Path) -> Arc<LdkNode> {
    std::fs::remove_dir_all(net.folder(name)).unwrap();
    std::fs::create_dir(net.folder(name)).unwrap();
    for file in ["node.sqlite", "wallet.sqlite"] {
        std::fs::copy(backup.join(file), net.folder(name).join(file)).unwrap();
    }
    net.node(name).await
}

fn backup(net: &Net, name: &str) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    snapshot(&net.folder(name), dir.path()).unwrap();
    dir
}

async fn mine_until(net: &Net, nodes: &[&LdkNode], what: &str, mut happened: impl AsyncFnMut() -> bool) {
    let work = async {
        while !happened().await {
            net.mine(1, nodes).await;
            // What a node broadcasts on a block comes into the mempool a moment later.
            tokio::time::sleep(Duration::from_millis(60)).await;
        }
    };
    tokio::time::timeout(PATIENCE, work).await.unwrap_or_else(|_| panic!("mined in vain: {what}"));
}

async fn onchain(node: &LdkNode) -> u64 {
    node.balances().await.unwrap().onchain.0
}

async fn pays(payer: &LdkNode, payee: &LdkNode, secret: &Preimage, sat: u64) {
    hold(payer, payee, secret, Msat(sat * SAT), 144).await;
    payee.settle(secret.clone()).await.unwrap();
    assert_eq!(succeeds(payer, secret.hash().into()).await, *secret);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_old_backup_closes_no_channel_and_its_coins_come_back() {
    let TwoNodes { net, alice, bob, channel, .. } = two_nodes().await;
    // In the backup Alice has 9,000,000 sat in the channel; when her machine is lost, 4,000,000.
    let old = backup(&net, "alice");
    pays(&alice, &bob, &secret("after the backup"), 5_000_000).await;
    let before = onchain(&alice).await;
    drop(alice);
    let alice = restored(&net, "alice", old.path()).await;
    until("Bob closes the channel", || async { find(&bob, &channel).await.is_none().then_some(()) }).await;
    mine_until(&net, &[&alice, &bob], "Alice's coins", async || onchain(&alice).await > before + 3_900_000).await;
    net.mine(20, &[&alice, &bob]).await;
    // Had she published what she remembered, Bob would have all of it.
    assert!(onchain(&alice).await < before + 4_000_000);
    assert_eq!(alice.balances().await.unwrap().closing, Sat::ZERO);
    mine_until(&net, &[&alice, &bob], "Bob's coins", async || onchain(&bob).await > 5_900_000).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn payments_under_way_in_a_fresh_backup_end_as_the_chain_says() {
    let TwoNodes { net, alice, bob, channel, .. } = two_nodes().await;
    net.fund(&bob, Sat(1_000_000)).await;
    let (taken, back) = (secret("taken"), secret("comes back"));
    for secret in [&taken, &back] {
        hold(&alice, &bob, secret, Msat(1_000_000 * SAT), 144).await;
    }
    let fresh = backup(&net, "alice");
    let before = onchain(&alice).await;
    drop(alice);
    let alice = restored(&net, "alice", fresh.path()).await;
    until("Bob closes the channel", || async { find(&bob, &channel).await.is_none().then_some(()) }).await;
    for secret in [&taken, &back] {
        let payment = alice.lookup_payment(secret.hash().into()).await.unwrap();
        assert_eq!(payment.state, PaymentState::InFlight, "nobody knows yet");
    }
    bob.settle(taken.clone()).await.unwrap();
    let over = async |secret: &Preimage| {
        alice.lookup_payment(secret.hash().into()).await.unwrap().state != PaymentState::InFlight
    };
    mine_until(&net, &[&alice, &bob], "the secret", async || over(&taken).await).await;
    assert_eq!(succeeds(&alice, taken.hash().into()).await, taken);
    mine_until(&net, &[&alice, &bob], "the end of the lock", async || over(&back).await).await;
    fails(&alice, back.hash().into()).await;
    // 7,000,000 in the channel and the 1,000,000 that came back.
    mine_until(&net, &[&alice, &bob], "Alice's coins", async || onchain(&alice).await > before + 7_900_000).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_payment_of_the_past_that_expires_while_the_peer_is_away_publishes_nothing() {
    let TwoNodes { net, alice, bob, channel, .. } = two_nodes().await;
    net.fund(&bob, Sat(1_000_000)).await;
    let paid = secret("paid long ago");
    hold(&alice, &bob, &paid, Msat(1_000_000 * SAT), 144).await;
    let old = backup(&net, "alice");
    bob.settle(paid.clone()).await.unwrap();
    succeeds(&alice, paid.hash().into()).await;
    pays(&alice, &bob, &secret("after the backup"), 1_000_000).await;
    let before = onchain(&alice).await;
    drop((alice, bob));
    let alice = restored(&net, "alice", old.path()).await;
    // A node with this channel would close it now, by a commitment that has been revoked.
    for _ in 0..50 {
        net.mine(10, &[&alice]).await;
    }
    assert!(net.dev.mempool().await.unwrap().is_empty());
    assert_eq!(onchain(&alice).await, before, "no fee was paid for it, and nothing came of it");
    let bob = net.node("bob").await;
    until("Bob closes the channel", || async { find(&bob, &channel).await.is_none().then_some(()) }).await;
    mine_until(&net, &[&alice, &bob], "Alice's coins", async || onchain(&alice).await > before + 6_900_000).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_payment_held_for_us_is_claimed_on_chain_whenever_its_secret_comes() {
    let TwoNodes { net, alice, bob, channel, .. } = two_nodes().await;
    net.fund(&bob, Sat(1_000_000)).await;
    let (at_once, later, never) = (secret("known at once"), secret("comes later"), secret("never comes"));
    for secret in [&at_once, &later, &never] {
        hold(&alice, &bob, secret, Msat(1_000_000 * SAT), 144).await;
    }
    let fresh = backup(&net, "bob");
    let before = onchain(&bob).await;
    drop(bob);
    let bob = restored(&net, "bob", fresh.path()).await;
    for secret in [&at_once, &later, &never] {
        let held = bob.lookup(secret.hash()).await.unwrap();
        assert!(held.state == HoldState::Accepted && held.doubtful, "{held:?}");
    }
    bob.settle(at_once.clone()).await.unwrap();
    until("Alice closes the channel", || async { find(&alice, &channel).await.is_none().then_some(()) }).await;
    assert_eq!(bob.lookup(at_once.hash()).await.unwrap().state, HoldState::Accepted, "nobody knows yet");
    let sure = async || !bob.lookup(never.hash()).await.unwrap().doubtful;
    mine_until(&net, &[&alice, &bob], "Alice's commitment", sure).await;
    // The order outlives the process, and a secret is as good when the channel is closed already.
    bob.settle(later.clone()).await.unwrap();
    drop(bob);
    let bob = net.node("bob").await;
    for secret in [&at_once, &later] {
        let taken = async || bob.lookup(secret.hash()).await.unwrap().state == HoldState::Settled;
        mine_until(&net, &[&alice, &bob], "the claim", taken).await;
        assert_eq!(succeeds(&alice, secret.hash().into()).await, *secret);
    }
    // 1,000,000 that were his in the channel, and two payments.
    mine_until(&net, &[&alice, &bob], "Bob's coins", async || onchain(&bob).await > before + 2_900_000).await;
    bob.cancel(never.hash()).await.unwrap();
    assert_eq!(bob.lookup(never.hash()).await.unwrap().state, HoldState::Canceled);
    net.mine(120, &[&alice, &bob]).await;
    let back = async || alice.lookup_payment(never.hash().into()).await.unwrap().state != PaymentState::InFlight;
    mine_until(&net, &[&alice, &bob], "the end of the lock", back).await;
    fails(&alice, never.hash().into()).await;
    assert!(onchain(&bob).await < before + 3_000_000);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_payment_in_a_channel_that_moved_on_after_the_backup_goes_back_at_the_end_of_its_lock() {
    let TwoNodes { net, alice, bob, channel, .. } = two_nodes().await;
    net.fund(&bob, Sat(1_000_000)).await;
    let held = secret("held in a channel that moves on");
    hold(&alice, &bob, &held, Msat(1_000_000 * SAT), 144).await;
    let old = backup(&net, "bob");
    pays(&alice, &bob, &secret("after the backup"), 1_000_000).await;
    let before = onchain(&bob).await;
    drop(bob);
    let bob = restored(&net, "bob", old.path()).await;
    bob.settle(held.clone()).await.unwrap();
    until("Alice closes the channel", || async { find(&alice, &channel).await.is_none().then_some(()) }).await;
    net.mine(120, &[&alice, &bob]).await;
    let over = async || alice.lookup_payment(held.hash().into()).await.unwrap().state != PaymentState::InFlight;
    mine_until(&net, &[&alice, &bob], "the end of the lock", over).await;
    fails(&alice, held.hash().into()).await;
    let tip = height_of(&bob).await;
    assert!(bob.lookup(held.hash()).await.unwrap().doubtful, "no commitment that the backup knew was published");
    assert_eq!(bob.lookup(held.hash()).await.unwrap().state, HoldState::Accepted, "the claim might have been in time");
    net.mine(150, &[&alice, &bob]).await;
    assert!(height_of(&bob).await > tip);
    hold_becomes(&bob, held.hash(), HoldState::Canceled).await;
    // What was his when the channel closed he has: 1,000,000, and what was settled after the backup.
    mine_until(&net, &[&alice, &bob], "Bob's coins", async || onchain(&bob).await > before + 1_900_000).await;
}

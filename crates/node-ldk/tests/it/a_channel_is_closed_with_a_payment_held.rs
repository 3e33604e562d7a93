//! Channels that end: together, or by force with a payment held in them.

use node::{HoldState, Node};
use node_ldk::LdkNode;
use units::{Msat, Sat};

use crate::net::{Net, PATIENCE, fails, find, hold, hold_becomes, secret, succeeds, until};
use crate::two_nodes::{TwoNodes, two_nodes};

/// Finds blocks, a few at a time so that everybody can answer them, until it has happened.
async fn mine_until(net: &Net, nodes: &[&LdkNode], what: &str, mut happened: impl AsyncFnMut() -> bool) {
    let work = async {
        while !happened().await {
            net.mine(1, nodes).await;
            // What a node broadcasts on a block comes into the mempool a moment later.
            tokio::time::sleep(std::time::Duration::from_millis(60)).await;
        }
    };
    tokio::time::timeout(PATIENCE, work).await.unwrap_or_else(|_| panic!("mined in vain: {what}"));
}

async fn onchain(node: &LdkNode) -> u64 {
    node.balances().await.unwrap().onchain.0
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_channel_closed_together_pays_both_wallets() {
    let TwoNodes { net, alice, bob, channel, .. } = two_nodes().await;
    let before = (onchain(&alice).await, onchain(&bob).await);
    alice.close_channel(channel.clone(), false).await.unwrap();
    until("the channel to go", || async { find(&bob, &channel).await.is_none().then_some(()) }).await;
    mine_until(&net, &[&alice, &bob], "the closing transaction", async || {
        onchain(&alice).await > before.0 && onchain(&bob).await > before.1
    })
    .await;
    assert_eq!(onchain(&bob).await, before.1 + 1_000_000);
    assert!(onchain(&alice).await > before.0 + 8_990_000);
    let again = alice.close_channel(channel, false).await;
    assert!(matches!(again, Err(node::NodeError::NotFound(_))));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_payee_with_the_secret_claims_a_held_payment_on_chain() {
    let TwoNodes { net, alice, bob, channel, .. } = two_nodes().await;
    // Claims on chain are paid for from the wallet.
    net.fund(&bob, Sat(1_000_000)).await;
    let secret = secret("claimed on chain");
    hold(&alice, &bob, &secret, Msat(2_000_000_000), 300).await;
    alice.close_channel(channel.clone(), true).await.unwrap();
    until("the channel to go", || async { find(&alice, &channel).await.is_none().then_some(()) }).await;
    bob.settle(secret.clone()).await.unwrap();
    let before = onchain(&bob).await;
    mine_until(&net, &[&alice, &bob], "payer to learn the secret", async || {
        alice.lookup_payment(secret.hash().into()).await.unwrap().state != node::PaymentState::InFlight
    })
    .await;
    assert_eq!(succeeds(&alice, secret.hash().into()).await, secret);
    hold_becomes(&bob, secret.hash(), HoldState::Settled).await;
    // His own 1,000,000 sat and the 2,000,000 sat of the payment, less what it cost.
    mine_until(&net, &[&alice, &bob], "the payee's coins", async || onchain(&bob).await > before + 2_900_000).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_payer_is_refunded_on_chain_when_the_payee_does_nothing() {
    let TwoNodes { net, alice, bob, channel, .. } = two_nodes().await;
    let secret = secret("refunded on chain");
    hold(&alice, &bob, &secret, Msat(2_000_000_000), 100).await;
    bob.close_channel(channel.clone(), true).await.unwrap();
    until("the channel to go", || async { find(&bob, &channel).await.is_none().then_some(()) }).await;
    let before = onchain(&alice).await;
    // The commitment confirms; then a long while in which nobody does anything.
    mine_until(&net, &[&alice, &bob], "the commitment", async || net.dev.mempool().await.unwrap().is_empty()).await;
    net.mine(50, &[&alice, &bob]).await;
    assert_eq!(bob.lookup(secret.hash()).await.unwrap().state, HoldState::Accepted);
    mine_until(&net, &[&alice, &bob], "the hold to time out", async || {
        bob.lookup(secret.hash()).await.unwrap().state == HoldState::Canceled
    })
    .await;
    mine_until(&net, &[&alice, &bob], "the payment to fail", async || {
        alice.lookup_payment(secret.hash().into()).await.unwrap().state != node::PaymentState::InFlight
    })
    .await;
    fails(&alice, secret.hash().into()).await;
    mine_until(&net, &[&alice, &bob], "the payer's coins", async || onchain(&alice).await > before + 8_900_000).await;
    assert!(matches!(bob.settle(secret).await, Err(node::NodeError::Rejected(_))));
}

//! Two nodes and one channel: the contract, and holds.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use node::contract::{self, Pair};
use node::{HoldState, Node};
use node_ldk::LdkNode;
use units::{Msat, Sat};

use crate::net::{Net, fails, find, height_of, hold, hold_becomes, hold_request, pay, secret, succeeds, usable};

pub(crate) struct TwoNodes {
    pub(crate) net: Net,
    pub(crate) alice: Arc<LdkNode>,
    pub(crate) bob: Arc<LdkNode>,
    pub(crate) channel: node::ChannelId,
    serial: AtomicU64,
}

/// Alice has 9,000,000 sat towards Bob, and Bob 1,000,000 sat towards Alice.
pub(crate) async fn two_nodes() -> TwoNodes {
    let net = Net::start().await;
    let (alice, bob) = (net.node("alice").await, net.node("bob").await);
    net.fund(&alice, Sat(50_000_000)).await;
    let channel = net.channel(&alice, &bob, Sat(10_000_000), Sat(1_000_000)).await;
    TwoNodes { net, alice, bob, channel, serial: AtomicU64::new(0) }
}

#[async_trait]
impl Pair for TwoNodes {
    fn payer(&self) -> Arc<dyn Node> {
        self.alice.clone()
    }
    fn payee(&self) -> Arc<dyn Node> {
        self.bob.clone()
    }
    async fn mine(&self, blocks: u32) {
        self.net.mine(blocks, &[&self.alice, &self.bob]).await;
    }
    async fn pass_time(&self, secs: u64) {
        // The expiry of an invoice is wall-clock time.
        tokio::time::sleep(Duration::from_secs(secs)).await;
    }
    async fn pay_late(&self, _: &str) -> bool {
        // Needs a payer that is behind the chain: `a_hold_with_too_few_blocks_is_failed_back`.
        false
    }
    fn fresh(&self) -> [u8; 32] {
        let mut bytes = [7; 32];
        bytes[..8].copy_from_slice(&self.serial.fetch_add(1, Ordering::Relaxed).to_be_bytes());
        bytes
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_embedded_node_keeps_the_contract() {
    contract::run(&two_nodes().await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_payment_is_held_and_settled() {
    let TwoNodes { alice, bob, .. } = two_nodes().await;
    let secret = secret("held and settled");
    let held = hold(&alice, &bob, &secret, Msat(50_000_000), 300).await;
    assert!(held.expiry_height.unwrap().blocks_after(height_of(&bob).await) >= 300);
    bob.settle(secret.clone()).await.unwrap();
    hold_becomes(&bob, secret.hash(), HoldState::Settled).await;
    assert_eq!(succeeds(&alice, secret.hash().into()).await, secret);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hold_with_too_few_blocks_is_failed_back() {
    let TwoNodes { net, alice, bob, channel, .. } = two_nodes().await;
    alice.stop().await.unwrap();
    drop(alice);
    // Alice does not see the blocks that come now, so her HTLC expires 150 blocks earlier than she believes.
    let alice = net.node_with("alice", |config| config.chain = net.bitcoind(Duration::from_secs(3600))).await;
    usable(&alice, &channel).await;
    net.mine(150, &[&bob]).await;
    let secret = secret("too few blocks");
    let invoice = bob.create_hold_invoice(hold_request(secret.hash(), Msat(50_000_000), 300)).await.unwrap();
    let id = pay(&alice, &invoice).await.unwrap();
    assert!(fails(&alice, id).await.contains("payee"));
    assert_eq!(bob.lookup(secret.hash()).await.unwrap().state, HoldState::Open);
    assert_eq!(find(&bob, &channel).await.unwrap().htlcs, 0);
}

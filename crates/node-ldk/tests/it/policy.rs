//! What a node refuses, and in which words; other chain sources.

use std::time::Duration;

use node::{Node, NodeError, NodeEvent, PayLimits, Payable, PeerAddress};
use node_ldk::{ChainConfig, LdkNode};
use units::{Msat, Sat};

use crate::net::{
    Net, POLL, connect, find, hold, hold_becomes, hold_request, open, pay, secret, seed, succeeds, until, usable,
};
use crate::two_nodes::{TwoNodes, two_nodes};

fn words<T: std::fmt::Debug>(outcome: node::Result<T>) -> String {
    match outcome {
        Err(NodeError::Rejected(words)) => words,
        other => panic!("it must be rejected: {other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn channels_are_refused_in_words() {
    let net = Net::start().await;
    let alice = net.node("alice").await;
    let bob = net
        .node_with("bob", |config| {
            config.inbound.min = Sat(100_000);
            config.inbound.max = Sat(1_000_000);
            config.inbound.require_reserve = true;
        })
        .await;
    let stranger = open(&alice, &bob, Sat(200_000)).await;
    assert!(matches!(stranger, Err(NodeError::Unreachable(_))), "not connected: {stranger:?}");
    connect(&alice, &bob).await;
    assert!(words(open(&alice, &bob, Sat(200_000)).await).contains("not enough on chain"));
    net.fund(&alice, Sat(10_000_000)).await;
    assert!(words(open(&alice, &bob, Sat(50_000)).await).contains("too small"));
    assert!(words(open(&alice, &bob, Sat(2_000_000)).await).contains("too large"));
    assert!(words(open(&alice, &bob, Sat(200_000)).await).contains("reserve"));
    assert!(alice.list_channels().await.unwrap().is_empty(), "nothing is left of what was refused");
    net.fund(&bob, Sat(100_000)).await;
    let channel = open(&alice, &bob, Sat(200_000)).await.unwrap();
    assert_eq!(find(&alice, &channel).await.unwrap().capacity, Sat(200_000));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_paid_says_why() {
    let TwoNodes { alice, bob, .. } = two_nodes().await;
    let hash = secret("too much").hash();
    let invoice = bob.create_hold_invoice(hold_request(hash, Msat(9_500_000_000), 144)).await.unwrap();
    assert!(words(pay(&alice, &invoice).await).contains("no route"));
    let failed = alice.lookup_payment(hash.into()).await.unwrap();
    assert!(matches!(failed.state, node::PaymentState::Failed { .. }));
    let mainnet = "lnbc2500u1pvjluezsp5zyg3zyg3zyg3zyg3zyg3zyg3zyg3zyg3zyg3zyg3zyg3zyg3zygspp5qqqsyqcyq5rqwzqfqqqsyqcyq5rqwzqfqqq\
                   syqcyq5rqwzqfqypqdq5xysxxatsyp3k7enxv4jsxqzpu9qrsgquk0rl77nj30yxdy8j9vdx85fkpmdla2087ne0xh8nhedh8w27kyke0lp53\
                   ut353s06fv3qfegext0eh0ymjpf39tuven09sam30g4vgpfna3rh";
    assert!(words(pay(&alice, mainnet).await).contains("is for bitcoin"));
    let payable = Payable::Bolt12 { offer: "lno1nonsense".into(), amount: None, payer_note: None };
    assert!(words(alice.pay(payable, PayLimits::default()).await).contains("BOLT12"));
    let long = bob.create_hold_invoice(hold_request(secret("too long").hash(), Msat(1_000), 2_000)).await;
    assert!(words(long).contains("blocks"));
    let nobody = PeerAddress { node_id: bob.info().await.unwrap().node_id, address: "127.0.0.1:1".into() };
    assert_eq!(alice.connect_peer(nobody).await, Ok(()), "already connected");
    let nonsense = PeerAddress { node_id: "02ab".into(), address: "127.0.0.1:1".into() };
    assert!(words(alice.connect_peer(nonsense).await).contains("node id"));
    let poor = alice.send_onchain("bcrt1qw508d6qejxtdg4y5r3zarvary0c5xw7kygt080", Sat(100_000_000), None).await;
    assert!(words(poor).contains("needed"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_on_esplora_holds_dies_and_settles() {
    let net = Net::start().await;
    let esplora = ChainConfig::Esplora { url: net.dev.esplora_url(), poll: POLL };
    let alice = net.node("alice").await;
    let bob = net.node_with("bob", |config| config.chain = esplora.clone()).await;
    net.fund(&alice, Sat(20_000_000)).await;
    net.fund(&bob, Sat(1_000_000)).await;
    let channel = net.channel(&alice, &bob, Sat(5_000_000), Sat(0)).await;
    let secret = secret("on esplora");
    let held = hold(&alice, &bob, &secret, Msat(1_000_000_000), 300).await;
    drop(bob);
    net.mine(20, &[&alice]).await;
    let bob = net.node_with("bob", |config| config.chain = esplora).await;
    net.seen(&[&bob]).await;
    assert_eq!(bob.lookup(secret.hash()).await.unwrap(), held);
    usable(&bob, &channel).await;
    // By force, so that the claim goes over this chain source too.
    alice.close_channel(channel.clone(), true).await.unwrap();
    bob.settle(secret.clone()).await.unwrap();
    until("payer to learn the secret", || async {
        net.mine(1, &[&alice, &bob]).await;
        tokio::time::sleep(Duration::from_millis(100)).await;
        let payment = alice.lookup_payment(secret.hash().into()).await.unwrap();
        (payment.state != node::PaymentState::InFlight).then_some(())
    })
    .await;
    assert_eq!(succeeds(&alice, secret.hash().into()).await, secret);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_listener_is_told_that_it_lags() {
    use futures::StreamExt;
    let net = Net::start().await;
    let node = net.node("solo").await;
    let mut events = node.events();
    for number in 0..1_100 {
        let hash = secret(&format!("lag {number}")).hash();
        node.create_hold_invoice(hold_request(hash, Msat(1_000), 144)).await.unwrap();
    }
    assert_eq!(events.next().await, Some(NodeEvent::Lagged));
    let hash = secret("lag 7").hash();
    node.cancel(hash).await.unwrap();
    hold_becomes(&node, hash, node::HoldState::Canceled).await;
    let alive = node.events().take(1_099).filter(|event| {
        let hold = matches!(event, NodeEvent::Hold(hold) if hold.state == node::HoldState::Open);
        std::future::ready(hold)
    });
    assert_eq!(alive.count().await, 1_099, "the present is told whole");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_seed_or_network_is_refused() {
    let net = Net::start().await;
    let node = net.node("solo").await;
    node.stop().await.unwrap();
    drop(node);
    let wrong = LdkNode::start(net.config("solo"), &seed("other")).await;
    assert!(wrong.is_err(), "the folder belongs to another seed");
    let mut config = net.config("fresh");
    config.network = bitcoin::Network::Signet;
    let wrong = LdkNode::start(config, &seed("fresh")).await;
    assert!(matches!(wrong.map(|_| ()), Err(NodeError::Rejected(_))), "the source serves another network");
}

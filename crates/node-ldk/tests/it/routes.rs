//! Payments over more than one channel, and offers.

use std::time::Duration;

use node::{HoldState, Node, OfferRequest, PayLimits, Payable};
use units::{Msat, Sat};

use crate::net::{Net, find, hold, hold_becomes, secret, succeeds, until};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hold_travels_over_a_forwarder_that_takes_its_fee() {
    let net = Net::start().await;
    let (alice, bob, carol) = (net.node("alice").await, net.node("bob").await, net.node("carol").await);
    net.fund(&alice, Sat(20_000_000)).await;
    net.fund(&bob, Sat(20_000_000)).await;
    net.channel(&alice, &bob, Sat(5_000_000), Sat(0)).await;
    let far = net.channel(&bob, &carol, Sat(5_000_000), Sat(0)).await;
    let secret = secret("over a forwarder");
    let held = hold(&alice, &carol, &secret, Msat(100_000_000), 1_000).await;
    assert_eq!(held.received, Some(Msat(100_000_000)));
    assert_eq!(find(&bob, &far).await.unwrap().htlcs, 1);
    carol.settle(secret.clone()).await.unwrap();
    assert_eq!(succeeds(&alice, secret.hash().into()).await, secret);
    let payment = alice.lookup_payment(secret.hash().into()).await.unwrap();
    let node::PaymentState::Succeeded { fee, .. } = payment.state else { panic!("it succeeded") };
    // 1000 msat and 100 ppm.
    assert_eq!(fee, Msat(11_000));

    let secret = crate::net::secret("over, back");
    hold(&alice, &carol, &secret, Msat(100_000_000), 100).await;
    carol.cancel(secret.hash()).await.unwrap();
    crate::net::fails(&alice, secret.hash().into()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_payment_larger_than_any_channel_goes_in_parts() {
    let net = Net::start().await;
    let (alice, bob) = (net.node("alice").await, net.node("bob").await);
    net.fund(&alice, Sat(20_000_000)).await;
    let one = net.channel(&alice, &bob, Sat(1_000_000), Sat(0)).await;
    let two = net.channel(&alice, &bob, Sat(1_000_000), Sat(0)).await;
    let secret = secret("in parts");
    let held = hold(&alice, &bob, &secret, Msat(1_500_000_000), 144).await;
    assert_eq!(held.received, Some(Msat(1_500_000_000)));
    let parts = find(&bob, &one).await.unwrap().htlcs + find(&bob, &two).await.unwrap().htlcs;
    assert!(parts >= 2, "{parts} parts");
    bob.settle(secret.clone()).await.unwrap();
    hold_becomes(&bob, secret.hash(), HoldState::Settled).await;
    assert_eq!(succeeds(&alice, secret.hash().into()).await, secret);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_offer_of_a_node_two_hops_away_is_paid_over_the_public_graph() {
    let net = Net::start().await;
    let (alice, bob, carol) = (net.node("alice").await, net.node("bob").await, net.node("carol").await);
    net.fund(&alice, Sat(20_000_000)).await;
    net.fund(&bob, Sat(20_000_000)).await;
    net.channel_with(&alice, &bob, Sat(5_000_000), Sat(0), true).await;
    net.channel_with(&bob, &carol, Sat(5_000_000), Sat(0), true).await;
    // Announcements are broadcast once a minute at first; nobody waits for that here.
    let known = |node: &node_ldk::LdkNode| node.public_graph();
    until("the graph to be known", || async {
        for node in [&alice, &bob, &carol] {
            node.announce_now();
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
        let ready = [&alice, &carol].iter().all(|node| known(node) == (3, 2));
        ready.then_some(())
    })
    .await;
    let request = OfferRequest { amount: Some(Msat(70_000_000)), description: "far tea".into(), expiry_secs: None };
    let offer = carol.create_offer(request).await.unwrap();
    let payable = Payable::Bolt12 { offer, amount: None, payer_note: None };
    let id = alice.pay(payable, PayLimits::default()).await.unwrap();
    let preimage = succeeds(&alice, id).await;
    assert_eq!(alice.lookup_payment(id).await.unwrap().hash, Some(preimage.hash()));
}

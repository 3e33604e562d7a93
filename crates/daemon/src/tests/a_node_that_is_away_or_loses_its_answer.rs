//! Scenarios 8 and 35: the Lightning node goes away, or does what it was asked and its answer is lost. Nothing is accepted without it,
//! nothing is paid twice, deadlines of what is open are told of all the same, and the trade goes on when it is back.

use node::{NodeError, Trouble};

use super::people::{Bazaar, accept, received, until};
use crate::api::types::StepRequest;
use crate::desk::DeskError;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_is_away_or_loses_its_answer() {
    let bazaar = Bazaar::open(1).await;
    let trade = bazaar.bid().await;
    bazaar.seller.until_sees(trade, "bid").await;

    // Away: the seller is told why it cannot accept, and nothing is recorded.
    bazaar.seller.node.inner.set_online(false);
    let refused = bazaar.seller.desk().step(trade, accept()).await;
    assert!(matches!(refused, Err(DeskError::Node(NodeError::Unreachable(_)))), "{refused:?}");
    bazaar.seller.node.inner.set_online(true);

    // The buyer's node pays, and the answer is lost, as soon as it is asked for the first time.
    let before = bazaar.buyer.balance().await;
    bazaar.buyer.node.inner.next_verb(Trouble::LosesAnswer);
    bazaar.finish(trade).await;
    until("the buyer's bond is back", async || bazaar.buyer.legs_over(trade).await).await;
    let after = bazaar.buyer.balance().await;
    let paid = (before.0 - after.0) / 1000;
    assert!((super::people::PRICE..super::people::PRICE + 100).contains(&paid), "the price once: {paid}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_the_node_is_away_deadlines_are_told_and_what_is_due_is_done_when_it_is_back() {
    let bazaar = Bazaar::open(1).await;
    let trade = bazaar.shipped().await;

    bazaar.seller.node.inner.set_online(false);
    let deadlines = bazaar.seller.view(trade).await.unwrap().deadlines.unwrap();
    bazaar.network.mine(deadlines.warn.blocks_after(bazaar.network.now().height));
    until("the seller is warned", async || !bazaar.seller.view(trade).await.unwrap().warnings.is_empty()).await;
    bazaar.buyer.steps(trade, received()).await;
    bazaar.seller.until_sees(trade, "released").await;
    bazaar.seller.node.inner.set_online(true);
    bazaar.seller.until_sees(trade, "settled").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_ships_for_money_in_a_channel_that_was_lost() {
    let bazaar = Bazaar::open(1).await;
    let trade = bazaar.bid().await;
    bazaar.seller.steps(trade, accept()).await;
    bazaar.seller.until_sees(trade, "held").await;
    bazaar.seller.node.inner.lose_channels();
    let ship = StepRequest::Ship { note: String::new(), tracking: None };
    let refused = bazaar.seller.desk().step(trade, ship).await.unwrap_err().to_string();
    assert!(refused.contains("shows when the peer has closed that channel"), "{refused}");
    assert_eq!(bazaar.seller.sees(trade).await, "held");
    bazaar.seller.steps(trade, StepRequest::Refund { reason: "my machine is gone".to_owned() }).await;
    for person in [&bazaar.seller, &bazaar.buyer] {
        person.until_sees(trade, "refunded").await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_secret_for_what_the_node_has_forgotten_is_told_when_the_lock_ends() {
    let bazaar = Bazaar::open(1).await;
    let trade = bazaar.shipped().await;
    let expiry = bazaar.seller.view(trade).await.unwrap().deadlines.unwrap().expiry;
    bazaar.seller.node.inner.forget_holds();
    bazaar.buyer.steps(trade, received()).await;
    bazaar.seller.until_sees(trade, "released").await;
    // The first leg's, and then the others'.
    bazaar.network.mine(expiry.blocks_after(bazaar.network.now().height) + 10);
    let told = async || {
        let warned = bazaar.seller.view(trade).await.unwrap().warnings;
        warned.iter().any(|warning| warning.alarm && warning.text.contains("came when the leg was gone"))
    };
    until("the seller is told", told).await;
    until("its legs are over", async || bazaar.seller.legs_over(trade).await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_buyer_whose_node_has_forgotten_its_payments_still_pays_and_is_told_that_nobody_knows() {
    let bazaar = Bazaar::open(1).await;
    let before = bazaar.seller.balance().await;
    let trade = bazaar.shipped().await;
    let expiry = bazaar.buyer.view(trade).await.unwrap().deadlines.unwrap().expiry;
    bazaar.buyer.node.inner.forget_payments();
    bazaar.buyer.steps(trade, received()).await;
    until("the seller has the price", async || bazaar.seller.balance().await.0 >= before.0 + 36_000_000).await;
    assert_eq!(bazaar.buyer.sees(trade).await, "released");
    assert!(bazaar.buyer.view(trade).await.unwrap().next.contains("Wait"));
    bazaar.network.mine(expiry.blocks_after(bazaar.network.now().height) + 144);
    let told = async || bazaar.buyer.view(trade).await.unwrap().next.contains("knows nothing of how");
    until("the buyer is told", told).await;
}

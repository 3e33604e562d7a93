//! Scenarios 8 and 35: the Lightning node goes away, or does what it was asked and its answer is lost. Nothing is accepted without it,
//! nothing is paid twice, and the trade goes on when it is back.

use node::{NodeError, Trouble};

use super::people::{Bazaar, accept, until};
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

//! Scenario 12: the goods are late. The buyer locks the same money again, for longer; the first lock goes back only when the second
//! is held, and the price is paid once.

use super::people::{Bazaar, PRICE, accept};
use crate::api::types::StepRequest;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn goods_that_outlive_the_lock_are_locked_again() {
    let bazaar = Bazaar::open(1).await;
    let before = bazaar.seller.balance().await;
    let trade = bazaar.shipped().await;
    let first = bazaar.seller.view(trade).await.unwrap().deadlines.unwrap();
    bazaar.network.mine(40);
    bazaar.buyer.steps(trade, StepRequest::Relock).await;
    bazaar.seller.steps(trade, accept()).await;
    super::people::until("the seller's deadlines have moved", async || {
        bazaar.seller.view(trade).await.unwrap().deadlines.is_some_and(|d| d.rule.0 >= first.rule.0 + 40)
    })
    .await;
    super::people::until("the first lock has gone back", async || {
        let legs = bazaar.seller.view(trade).await.unwrap().legs;
        legs.iter().filter(|leg| leg.state == "canceled").count() == 3
    })
    .await;
    bazaar.buyer.steps(trade, super::people::received()).await;
    bazaar.seller.until_sees(trade, "settled").await;
    let gained = bazaar.seller.balance().await.0 - before.0;
    assert!(gained <= PRICE * 1000 && gained > (PRICE - 100) * 1000, "the price once: {gained}");
}

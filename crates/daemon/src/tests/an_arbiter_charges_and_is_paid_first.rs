//! An arbiter that charges: the buyer agreed to it, its node pays once and before anything is locked, the arbiter sees it arrive, and
//! a buyer that did not agree hears at once what it would cost.

use super::people::{Bazaar, PRICE, accept, bid, until};
use crate::api::types::{FeeView, StepRequest};

const FEE: u64 = 250 + PRICE / 200;

async fn charging() -> Bazaar {
    let mut bazaar = Bazaar::closed(1).await;
    (bazaar.arbiter.config.arbiter.fee, bazaar.arbiter.config.arbiter.fee_ppm) = (250, 5_000);
    for person in [&mut bazaar.seller, &mut bazaar.buyer, &mut bazaar.arbiter] {
        person.start().await;
    }
    bazaar
}

fn fee(state: Option<&str>) -> Option<FeeView> {
    Some(FeeView { amount_sat: units::Sat(FEE), state: state.map(str::to_owned) })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_arbiter_charges_and_is_paid_first() {
    let mut bazaar = charging().await;
    let before = bazaar.arbiter.balance().await;
    let listing = bazaar.seller.desk().sell(bazaar.goods()).await.unwrap();
    let trade = bazaar.take_as(crate::api::types::BidRequest { max_arbiter_fee_sat: FEE, ..bid(listing) }).await;
    bazaar.seller.until_sees(trade, "bid").await;
    assert_eq!(bazaar.arbiter.balance().await, before, "a bid that nobody accepted costs nothing");
    assert_eq!(bazaar.arbiter.view(trade).await.unwrap().fee, fee(Some("unpaid")));
    bazaar.seller.steps(trade, accept()).await;
    bazaar.seller.until_sees(trade, "held").await;
    assert_eq!(bazaar.buyer.view(trade).await.unwrap().fee, fee(Some("paid")));
    assert_eq!(bazaar.seller.view(trade).await.unwrap().fee, fee(None));
    until("the arbiter sees its fee", async || bazaar.arbiter.view(trade).await.unwrap().fee == fee(Some("paid")))
        .await;
    for _ in 0..2 {
        bazaar.buyer.stop().await;
        bazaar.arbiter.stop().await;
        bazaar.buyer.start().await;
        bazaar.arbiter.start().await;
    }
    assert_eq!(bazaar.arbiter.view(trade).await.unwrap().fee, fee(Some("paid")));
    bazaar.seller.steps(trade, StepRequest::Ship { note: String::new(), tracking: None }).await;
    bazaar.buyer.until_sees(trade, "shipped").await;
    bazaar.network.mine(40);
    bazaar.buyer.steps(trade, StepRequest::Relock).await;
    bazaar.seller.steps(trade, accept()).await;
    bazaar.buyer.steps(trade, super::people::received()).await;
    bazaar.seller.until_sees(trade, "settled").await;
    assert_eq!(bazaar.arbiter.balance().await.0 - before.0, FEE * 1000, "once, whatever was restarted or locked again");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_buyer_that_did_not_agree_hears_what_it_costs_at_once() {
    let bazaar = charging().await;
    let trade = bazaar.bid().await;
    bazaar.buyer.until_sees(trade, "canceled").await;
    let view = bazaar.buyer.view(trade).await.unwrap();
    let told = &view.warnings[0].text;
    assert!(told.contains(&format!("--max-arbiter-fee {FEE}")), "{told}");
    assert!(bazaar.seller.view(trade).await.is_none(), "nothing was bid");
}

//! Scenarios 9 and 32: several bids on one listing, stock that is never sold twice, a price that changes and a listing that goes
//! while trades run. Each trade stays bound to the version it took.

use trade::Rule;
use units::Sat;

use super::people::{Bazaar, PRICE, accept, bid, until};
use crate::api::types::{BidRequest, ListingRequest, StepRequest};
use crate::desk::DeskError;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_listing_changes_while_trades_run() {
    let bazaar = Bazaar::open(1).await;
    let (seller, buyer) = (bazaar.seller.desk(), bazaar.buyer.desk());
    let listing = seller.sell(crate::api::types::SellRequest { stock: 3, ..bazaar.goods() }).await.unwrap();
    let two = buyer.bid(BidRequest { quantity: 2, ..bid(listing) }).await.unwrap();
    let one = buyer.bid(bid(listing)).await.unwrap();
    let late = buyer.bid(bid(listing)).await.unwrap();
    for trade in [two, one] {
        bazaar.seller.steps(trade, accept()).await;
        bazaar.seller.until_sees(trade, "held").await;
    }
    assert_eq!(buyer.trade(two).await.unwrap().price_sat, Sat(2 * PRICE), "two cost twice as much");

    // All three are taken: the third bid is refused with the reason, then turned down, and the buyer hears of it.
    bazaar.seller.until_sees(late, "bid").await;
    until("the arbiter's word for the third is there", async || {
        matches!(seller.step(late, accept()).await, Err(DeskError::RefusedNow { refusal, .. }) if refusal.rule == Rule::SoldOut)
    })
    .await;
    assert_eq!(seller.stalls().await.unwrap()[0].taken, 3);
    bazaar.seller.steps(late, StepRequest::Reject { reason: "all gone".to_owned() }).await;
    bazaar.buyer.until_sees(late, "canceled").await;

    // A new version: dearer, the same name. Only it is shown, and only it takes bids.
    let edit = ListingRequest::Edit {
        product_name: None,
        description: Some("the last ones".to_owned()),
        price_sat: Some(PRICE + 5_000),
        category: None,
        shipping_days: None,
    };
    let stall = seller.change_listing(listing, edit).await.unwrap();
    let newer = stall.listing.unwrap();
    assert_eq!((stall.version, stall.stock, stall.price_sat), (1, 3, Sat(PRICE + 5_000)));
    let shown: Vec<_> = buyer.listings().await.unwrap().listings.into_iter().map(|l| l.id).collect();
    assert_eq!(shown, [newer]);
    let stall = seller.change_listing(listing, ListingRequest::Restock { stock: 4 }).await.unwrap();
    assert_eq!((stall.stock, stall.taken), (4, 3));
    let third = bazaar.take(newer).await;
    bazaar.seller.steps(third, accept()).await;
    bazaar.seller.until_sees(third, "held").await;

    // Withdrawn: boards show nothing, nobody else can bid, and every trade ends well.
    let stall = seller.change_listing(newer, ListingRequest::Withdraw { reason: "moving".to_owned() }).await.unwrap();
    assert!(!stall.open);
    until("the board has taken it off", async || buyer.listings().await.unwrap().listings.is_empty()).await;
    assert!(matches!(buyer.bid(bid(newer)).await, Err(DeskError::NotFound(_))));
    for trade in [two, one, third] {
        bazaar.finish_held(trade).await;
    }
    let stranger = buyer.change_listing(newer, ListingRequest::Restock { stock: 1 }).await;
    assert!(matches!(stranger, Err(DeskError::NotFound(_))), "only its seller changes a listing");
}

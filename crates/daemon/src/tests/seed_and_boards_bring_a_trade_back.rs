//! Scenarios 15 and 34: in the middle of a trade a machine is lost, its node apart. With the seed and what the boards keep the trade
//! goes on where it was, on an empty directory, and ends as if nothing had happened.

use trade::MessageId;

use super::people::{Bazaar, Person, received};
use crate::api::types::StepRequest;

/// Bonds are back and the price changed hands, once; the buyer also paid a few sat for routing.
async fn money_is_right(bazaar: &Bazaar, before: [units::Msat; 2]) {
    let price = units::Sat(super::people::PRICE).to_msat().unwrap().0;
    assert_eq!(bazaar.seller.balance().await.0, before[0].0 + price);
    let spent = before[1].0 - bazaar.buyer.balance().await.0;
    assert!((price..=price + 10_000).contains(&spent), "{spent}");
}

async fn restored(person: &mut Person) {
    person.stop().await;
    person.lose_everything_and_restore();
    person.start().await;
    let report = person.desk().status().await.unwrap().restored.unwrap();
    assert!(report.streams > 0 && report.incomplete == 0 && report.silent.is_empty(), "{report:?}");
}

/// What went out is what went out before: nobody hears two different things for one step.
async fn nobody_was_contradicted(bazaar: &Bazaar, trade: trade::TradeId) {
    for person in [&bazaar.seller, &bazaar.buyer, &bazaar.arbiter] {
        let warned = person.view(trade).await.unwrap().warnings;
        assert!(warned.iter().all(|warning| !warning.text.contains("two different things")), "{warned:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_buyers_machine_is_lost_and_it_releases_all_the_same() {
    let mut bazaar = Bazaar::open(2).await;
    let before = [bazaar.seller.balance().await, bazaar.buyer.balance().await];
    let trade = bazaar.shipped().await;
    bazaar.buyer.kept().await;
    restored(&mut bazaar.buyer).await;
    let view = bazaar.buyer.view(trade).await.unwrap();
    assert_eq!((view.state.as_str(), view.product_name.as_str()), ("shipped", "Wool socks"));
    bazaar.buyer.steps(trade, received()).await;
    bazaar.seller.until_sees(trade, "settled").await;
    bazaar.buyer.until_sees(trade, "settled").await;
    nobody_was_contradicted(&bazaar, trade).await;
    money_is_right(&bazaar, before).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_sellers_machine_is_lost_and_it_collects_all_the_same() {
    let mut bazaar = Bazaar::open(2).await;
    let before = [bazaar.seller.balance().await, bazaar.buyer.balance().await];
    let trade = bazaar.shipped().await;
    bazaar.seller.kept().await;
    restored(&mut bazaar.seller).await;
    assert_eq!(bazaar.seller.sees(trade).await, "shipped");
    let stalls = bazaar.seller.desk().stalls().await.unwrap();
    assert_eq!(stalls.iter().map(|stall| (stall.stock, stall.taken)).collect::<Vec<_>>(), [(1, 1)]);
    let listed: Option<MessageId> = stalls[0].listing;
    assert_eq!(listed, Some(bazaar.seller.view(trade).await.unwrap().listing));
    bazaar.buyer.steps(trade, received()).await;
    bazaar.seller.until_sees(trade, "settled").await;
    bazaar.buyer.until_sees(trade, "settled").await;
    nobody_was_contradicted(&bazaar, trade).await;
    money_is_right(&bazaar, before).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restored_machine_can_be_lost_again() {
    let mut bazaar = Bazaar::open(1).await;
    let trade = bazaar.shipped().await;
    bazaar.buyer.kept().await;
    restored(&mut bazaar.buyer).await;
    // A second life of the log: a dispute, and then the machine is gone once more.
    let dispute = StepRequest::Dispute { reason: "broken".to_owned(), details: String::new() };
    bazaar.buyer.steps(trade, dispute).await;
    bazaar.arbiter.until_sees(trade, "disputed").await;
    bazaar.buyer.kept().await;
    restored(&mut bazaar.buyer).await;
    assert_eq!(bazaar.buyer.sees(trade).await, "disputed");
    bazaar.buyer.steps(trade, received()).await;
    bazaar.seller.until_sees(trade, "settled").await;
    nobody_was_contradicted(&bazaar, trade).await;
}

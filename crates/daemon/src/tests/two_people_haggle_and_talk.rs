//! Two people name prices until they agree, talk sealed, and the buyer looks at the invoices before it pays. What was said is
//! there after a restart.

use units::Sat;

use super::people::{Bazaar, accept, bid, until};
use crate::api::types::{BidRequest, ChatRequest, ChatTo, StepRequest};
use crate::desk::DeskError;

fn words(text: &str) -> ChatRequest {
    ChatRequest { text: text.to_owned(), to: ChatTo::Counterparty }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_people_haggle_and_talk() {
    let mut bazaar = Bazaar::open(2).await;
    let listing = bazaar.seller.desk().sell(bazaar.goods()).await.unwrap();
    let order = BidRequest { amount_sat: Some(30_000), pay_by_hand: true, ..bid(listing) };
    let trade = bazaar.buyer.desk().bid(order).await.unwrap();
    bazaar.seller.steps(trade, StepRequest::Counter { amount_sat: 38_000 }).await;
    bazaar.buyer.until_sees(trade, "countered").await;
    assert_eq!(bazaar.buyer.view(trade).await.unwrap().asked_sat, Some(Sat(38_000)));
    bazaar.buyer.steps(trade, StepRequest::Counter { amount_sat: 35_000 }).await;
    until("the seller has the second offer", async || {
        bazaar.seller.view(trade).await.is_some_and(|view| view.price_sat == Sat(35_000))
    })
    .await;

    bazaar.seller.desk().say(trade, words("35000 it is")).await.unwrap();
    until("the buyer hears it", async || bazaar.buyer.desk().chat(trade).await.unwrap().len() == 1).await;
    bazaar.buyer.desk().say(trade, words("Thank you.\nBlue, please")).await.unwrap();
    let to_arbiter = ChatRequest { to: ChatTo::Arbiter, ..words("only so that you know") };
    bazaar.buyer.desk().say(trade, to_arbiter).await.unwrap();
    until("the arbiter hears its part", async || bazaar.arbiter.desk().chat(trade).await.unwrap().len() == 1).await;
    assert!(matches!(bazaar.buyer.desk().say(trade, words(" ")).await, Err(DeskError::Usage(_))));

    bazaar.seller.steps(trade, accept()).await;
    bazaar.buyer.until_sees(trade, "locking").await;
    let refused = bazaar.buyer.desk().step(trade, super::people::received()).await.unwrap_err().to_string();
    assert!(refused.contains("nothing is locked yet") && refused.contains("pay"), "says what to do: {refused}");
    bazaar.buyer.steps(trade, StepRequest::Pay).await;
    bazaar.seller.until_sees(trade, "held").await;

    bazaar.seller.stop().await;
    bazaar.seller.start().await;
    let heard = bazaar.seller.desk().chat(trade).await.unwrap();
    let heard: Vec<_> = heard.iter().map(|c| (c.from.as_str(), c.ours, c.text.as_str())).collect();
    assert_eq!(heard, [("payee", true, "35000 it is"), ("payer", false, "Thank you.\nBlue, please")]);
    bazaar.finish_held(trade).await;
    bazaar.buyer.steps(trade, StepRequest::RateArbiter { rating: 5, comment: None }).await;
    bazaar
        .buyer
        .steps(trade, StepRequest::RateBoard { url: bazaar.boards[0].url.clone(), rating: 4, comment: None })
        .await;
    until("everything is on the boards", async || bazaar.buyer.view(trade).await.unwrap().owed.is_empty()).await;
}

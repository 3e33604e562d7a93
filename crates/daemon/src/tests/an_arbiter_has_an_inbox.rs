//! A dispute waits in the arbiter's inbox with what each side disclosed, how long there is, and a command that rules; when it has
//! ruled, it is gone from there.

use trade::{BondFate, ReceiptStatus};

use super::people::{Bazaar, PRICE, accept, until};
use crate::api::types::{ChatRequest, ChatTo, StepRequest};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_arbiter_has_an_inbox() {
    let mut bazaar = Bazaar::open(1).await;
    let trade = bazaar.bid().await;
    bazaar.seller.steps(trade, accept()).await;
    bazaar.seller.until_sees(trade, "held").await;
    let tracking = Some("RR123456785".to_owned());
    bazaar.seller.steps(trade, StepRequest::Ship { note: "by post".to_owned(), tracking }).await;
    bazaar.buyer.until_sees(trade, "shipped").await;
    assert!(bazaar.arbiter.desk().disputes().await.unwrap().is_empty());
    let reason = Some("one sock is missing".to_owned());
    let complaint =
        StepRequest::Confirm { status: ReceiptStatus::PartiallyReceived, rating: None, feedback: None, reason };
    bazaar.buyer.steps(trade, complaint).await;
    bazaar.arbiter.until_sees(trade, "disputed").await;
    let words = ChatRequest { text: "there were two in the parcel".to_owned(), to: ChatTo::Arbiter };
    bazaar.seller.desk().say(trade, words).await.unwrap();
    let talk = ChatRequest { text: "between us".to_owned(), to: ChatTo::Counterparty };
    bazaar.seller.desk().say(trade, talk).await.unwrap();

    let said = async |by: &str, what: &str, text: &str| {
        let inbox = bazaar.arbiter.desk().disputes().await.unwrap();
        inbox[0].statements.iter().any(|s| (s.by.as_str(), s.what.as_str(), s.text.as_str()) == (by, what, text))
    };
    until("the arbiter reads the seller's chat", async || said("payee", "chat", "there were two in the parcel").await)
        .await;
    assert!(said("payee", "shipment", "by post: tracking RR123456785").await);
    assert!(said("payer", "complaint", "one sock is missing").await);
    assert!(!said("payee", "chat", "between us").await, "what the two say to each other is not for the arbiter");

    for _ in 0..2 {
        let inbox = bazaar.arbiter.desk().disputes().await.unwrap();
        let dispute = &inbox[0];
        assert_eq!((inbox.len(), dispute.trade, dispute.asked_by.as_str()), (1, trade, "payer"));
        assert_eq!((dispute.price_sat.0, dispute.tranches, dispute.can_release), (PRICE, 2, true));
        assert_eq!(Some(dispute.before), bazaar.arbiter.view(trade).await.unwrap().deadlines.map(|d| d.hard));
        assert!(dispute.blocks_left > 0 && dispute.about > dispute.asked_at);
        let command = format!("souk rule {trade} --payee-tranches 2 --payer-bond return --payee-bond return");
        assert!(dispute.command.starts_with(&command), "{}", dispute.command);
        bazaar.arbiter.stop().await;
        bazaar.arbiter.start().await;
    }
    let (payer_bond, payee_bond) = (BondFate::Return, BondFate::Return);
    let rule = StepRequest::Rule { payee_tranches: 1, payer_bond, payee_bond, resolution: "half".to_owned() };
    bazaar.arbiter.steps(trade, rule).await;
    bazaar.seller.until_sees(trade, "split").await;
    assert!(bazaar.arbiter.desk().disputes().await.unwrap().is_empty());
}

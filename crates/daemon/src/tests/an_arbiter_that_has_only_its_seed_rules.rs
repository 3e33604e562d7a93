//! Scenario 40: the arbiter's machine is lost in the middle of a trade. With its seed and what the boards have stored it knows the
//! trade again, and rules.

use trade::BondFate;

use super::people::{Bazaar, accept, until};
use crate::api::types::StepRequest;
use crate::clock;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_arbiter_that_has_only_its_seed_rules() {
    let mut bazaar = Bazaar::open(2).await;
    let trade = bazaar.bid().await;
    bazaar.seller.steps(trade, accept()).await;
    bazaar.seller.until_sees(trade, "held").await;
    bazaar.seller.steps(trade, StepRequest::Ship { note: String::new(), tracking: None }).await;
    bazaar.arbiter.until_sees(trade, "shipped").await;

    bazaar.arbiter.stop().await;
    bazaar.arbiter.lose_everything_but_the_seed();
    // Of two machines that began in the same second nobody can say which is the later one (ADR 15).
    let lost_at = clock::unix();
    until("the second is over", async || clock::unix() > lost_at).await;
    bazaar.arbiter.start().await;
    bazaar.arbiter.until_sees(trade, "shipped").await;

    bazaar.buyer.until_sees(trade, "shipped").await;
    bazaar
        .buyer
        .steps(trade, StepRequest::Dispute { reason: "one is missing".to_owned(), details: String::new() })
        .await;
    let ruling = StepRequest::Rule {
        payee_tranches: 1,
        payer_bond: BondFate::Return,
        payee_bond: BondFate::Return,
        resolution: "one of two".to_owned(),
    };
    bazaar.arbiter.steps(trade, ruling).await;
    for person in [&bazaar.seller, &bazaar.buyer] {
        person.until_sees(trade, "split").await;
        let warned = person.view(trade).await.unwrap().warnings;
        assert!(warned.iter().all(|warning| !warning.text.contains("two different things")), "{warned:?}");
    }
}

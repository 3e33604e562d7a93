//! An arbiter counts what it did, from its own log; tells it when its user wants that; and whoever looks for an arbiter sees the claim
//! beside what ratings attest and what its own trades saw.

use reputation::{Claim, KIND_SERVICE, Service};
use secp256k1::{Keypair, SECP256K1};
use trade::{BondFate, TradeId};
use units::Sat;
use wire::event::Event;
use wire::filter::Filter;

use super::people::{Bazaar, PRICE, accept, bid, received, until};
use crate::api::arbiter::{ArbiterView, SeenView, ServiceView};
use crate::api::types::{BidRequest, StepRequest};
use crate::clock;

const FEE: u64 = 250;

async fn charging(publish: bool) -> Bazaar {
    let mut bazaar = Bazaar::closed(1).await;
    let config = &mut bazaar.arbiter.config.arbiter;
    (config.fee, config.policy, config.publish) = (FEE, "By what both can show".to_owned(), publish);
    for person in [&mut bazaar.seller, &mut bazaar.buyer, &mut bazaar.arbiter] {
        person.start().await;
    }
    bazaar
}

/// A trade whose goods are under way and whose fee is paid, as all three see it.
async fn shipped(bazaar: &Bazaar) -> TradeId {
    let trade = asked(bazaar).await;
    bazaar.seller.steps(trade, accept()).await;
    bazaar.seller.until_sees(trade, "held").await;
    bazaar.seller.steps(trade, StepRequest::Ship { note: String::new(), tracking: None }).await;
    bazaar.buyer.until_sees(trade, "shipped").await;
    bazaar.arbiter.until_sees(trade, "shipped").await;
    let paid =
        async || bazaar.arbiter.view(trade).await.unwrap().fee.is_some_and(|fee| fee.state.as_deref() == Some("paid"));
    until("the arbiter has its fee", paid).await;
    trade
}

/// A bid for which the arbiter serves, and that nobody has answered.
async fn asked(bazaar: &Bazaar) -> TradeId {
    let listing = bazaar.seller.desk().sell(bazaar.goods()).await.unwrap();
    let trade = bazaar.take_as(BidRequest { max_arbiter_fee_sat: FEE, ..bid(listing) }).await;
    bazaar.seller.until_sees(trade, "bid").await;
    trade
}

async fn dispute(bazaar: &Bazaar, trade: TradeId) {
    let dispute = StepRequest::Dispute { reason: "half is missing".to_owned(), details: String::new() };
    bazaar.buyer.steps(trade, dispute).await;
    bazaar.arbiter.until_sees(trade, "disputed").await;
}

fn half() -> StepRequest {
    let (payer_bond, payee_bond) = (BondFate::Return, BondFate::Return);
    StepRequest::Rule { payee_tranches: 1, payer_bond, payee_bond, resolution: "half".to_owned() }
}

async fn service(bazaar: &Bazaar) -> ServiceView {
    bazaar.arbiter.desk().arbiter_stats().await.unwrap().service
}

/// What the buyer knows of the arbiter.
async fn known(bazaar: &Bazaar) -> Option<ArbiterView> {
    let key = bazaar.arbiter.desk().identity();
    bazaar.buyer.desk().arbiters().await.unwrap().into_iter().find(|arbiter| arbiter.key == key)
}

async fn claims(bazaar: &Bazaar) -> Vec<Event> {
    let filter = Filter { kinds: Some(vec![KIND_SERVICE]), ..Filter::default() };
    bazaar.buyer.desk().boards[0].query(vec![filter]).await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_arbiter_has_a_record() {
    let mut bazaar = charging(true).await;
    let stats = bazaar.arbiter.desk().arbiter_stats().await.unwrap();
    assert_eq!((stats.serving, stats.published, &stats.service), (true, true, &ServiceView::of(&Service::default())));
    asked(&bazaar).await;
    let quiet = shipped(&bazaar).await;
    bazaar.buyer.steps(quiet, received()).await;
    bazaar.seller.until_sees(quiet, "settled").await;
    let split = shipped(&bazaar).await;
    dispute(&bazaar, split).await;
    bazaar.arbiter.steps(split, half()).await;
    bazaar.seller.until_sees(split, "split").await;
    bazaar.buyer.until_sees(split, "split").await;
    bazaar.arbiter.until_sees(split, "ruled").await;
    let missed = shipped(&bazaar).await;
    dispute(&bazaar, missed).await;
    let hard = bazaar.arbiter.view(missed).await.unwrap().deadlines.unwrap().hard;
    bazaar.network.mine(hard.blocks_after(bazaar.network.now().height));
    bazaar.arbiter.until_sees(missed, "missed").await;
    bazaar.buyer.until_sees(missed, "refunded").await;
    until("the quiet trade is over for the arbiter", async || service(&bazaar).await.quiet == 1).await;

    let counted = service(&bazaar).await;
    let of_trades = (counted.appointed, counted.locked, counted.quiet, counted.disputed, counted.split, counted.missed);
    assert_eq!(of_trades, (4, 3, 1, 2, 1, 1));
    assert_eq!(counted.fees_sat, Sat(3 * FEE));
    assert!(counted.worst_secs.is_some() && counted.median_secs == counted.worst_secs, "one ruling");

    // The next day comes with the next start.
    for _ in 0..2 {
        bazaar.arbiter.stop().await;
        bazaar.arbiter.start().await;
        assert_eq!(service(&bazaar).await, counted, "from the log, whatever was restarted");
    }
    until("the buyer reads the claim", async || {
        known(&bazaar).await.and_then(|a| a.claim).is_some_and(|claim| claim.service.appointed == 4)
    })
    .await;
    let arbiter = known(&bazaar).await.unwrap();
    let claim = arbiter.claim.unwrap();
    assert_eq!((claim.fee_sat.0, claim.policy.as_str()), (FEE, "By what both can show"));
    assert_eq!(claim.service.fees_sat, Sat(500), "rounded down");
    assert!(claim.service.worst_secs.is_some_and(|secs| secs % 3600 == 0), "in whole hours");
    let split_once =
        SeenView { trades: 3, disputed: 2, split: 1, silent: 1, fees_sat: Sat(3 * FEE), ..SeenView::default() };
    assert_eq!(arbiter.seen, Some(split_once));
    assert_eq!((arbiter.attested.escrows, arbiter.contradicted), (0, false));
    let said = claims(&bazaar).await;
    assert_eq!(said.len(), 1, "the newest alone");
    let text = said[0].to_json();
    for trade in [quiet, split, missed] {
        assert!(!text.contains(&trade.to_string()));
    }
    assert!(!text.contains(&bazaar.seller.desk().identity().to_string()));

    bazaar.buyer.steps(split, StepRequest::RateArbiter { rating: 4, comment: None }).await;
    until("the rating is read", async || known(&bazaar).await.is_some_and(|a| a.attested.escrows == 1)).await;
    let attested = known(&bazaar).await.unwrap().attested;
    assert_eq!(
        (attested.ruled, attested.raters, attested.score, attested.value_sat),
        (1, 1, Some(4.0), Sat(PRICE / 2))
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_told_unless_the_user_wants_it_and_it_can_be_taken_back() {
    let mut bazaar = charging(false).await;
    let trade = shipped(&bazaar).await;
    bazaar.arbiter.kept().await;
    assert!(claims(&bazaar).await.is_empty());
    let arbiter = known(&bazaar).await.unwrap();
    assert_eq!((arbiter.claim, arbiter.listings), (None, 1), "a listing names it");
    assert_eq!(arbiter.seen.unwrap().trades, 1);

    for (publish, count) in [(true, 1), (false, 0), (true, 1)] {
        bazaar.arbiter.stop().await;
        bazaar.arbiter.config.arbiter.publish = publish;
        bazaar.arbiter.start().await;
        until("the boards follow", async || claims(&bazaar).await.len() == count).await;
    }
    bazaar.buyer.steps(trade, received()).await;
    bazaar.seller.until_sees(trade, "settled").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_who_claims_less_than_ratings_attest_is_shown_up_and_a_forged_claim_is_nobody_s() {
    let bazaar = charging(false).await;
    let trade = shipped(&bazaar).await;
    bazaar.buyer.steps(trade, received()).await;
    bazaar.buyer.until_sees(trade, "settled").await;
    bazaar.buyer.steps(trade, StepRequest::RateArbiter { rating: 1, comment: None }).await;
    until("the rating is read", async || known(&bazaar).await.is_some_and(|a| a.attested.escrows == 1)).await;
    let key = Keypair::from_seckey_slice(SECP256K1, &*keys::Seed::generate(&[3; 32]).nostr(0).unwrap()).unwrap();
    let claim = Claim {
        arbiter: bazaar.arbiter.desk().identity(),
        at: clock::unix(),
        policy: "Trust me\u{1b}[2J".to_owned(),
        fee: Sat(0),
        fee_ppm: 0,
        service: Service::default(),
    };
    let board = &bazaar.buyer.desk().boards[0];
    let mut odd = Claim { at: units::Unix(claim.at.0 + 1), ..claim.clone() }.event();
    odd.tags.iter_mut().find(|tag| tag[0] == "quiet").unwrap()[1] = "7".to_owned();
    board.publish(claim.event().sign(&key, &[0; 32])).await.unwrap();
    until("it is read", async || known(&bazaar).await.is_some_and(|a| a.claim.is_some())).await;
    assert!(known(&bazaar).await.unwrap().contradicted, "it pledged in one escrow and claims none");
    // At odds with itself, it counts for nothing; the board keeps it in the place of the other all the same.
    board.publish(odd.sign(&key, &[0; 32])).await.unwrap();
    assert_eq!(known(&bazaar).await.unwrap().claim, None);
}

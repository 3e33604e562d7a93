//! Two people trade and rate each other, a third one checks it. A seller who keeps its pledge back has not shipped, and one who
//! asks boards to delete what was said of it asks in vain.

use std::sync::Arc;

use keys::Seed;
use secp256k1::{Keypair, SECP256K1};
use trade::{BondFate, Event, Message, MessageId, PartyKey, Shipment, Step, TradeId};
use units::Height;
use wire::domp::sealed::{self, Private};
use wire::domp::{self, Context, kind};
use wire::event::Unsigned;
use wire::filter::Filter;

use super::people::{Bazaar, PRICE, Person, accept, received, until};
use crate::api::reputation::{RatedView, RecordView};
use crate::api::types::{ChatRequest, ChatTo, StepRequest};
use crate::clock;
use crate::standing::Of;

fn rate(rating: u8, comment: &str) -> StepRequest {
    StepRequest::Rate { rating, comment: Some(comment.to_owned()) }
}

/// What `viewer` reads about `of`, as soon as that was rated `count` times.
async fn record(viewer: &Person, of: &Of, rated: RatedView, count: usize) -> RecordView {
    let mut seen = None;
    until(&format!("{} reads {count} ratings of {of:?}", viewer.name), async || {
        let view = viewer.desk().reputation(of).await.unwrap();
        seen = view.records.into_iter().find(|record| record.rated == rated && record.count == count);
        seen.is_some()
    })
    .await;
    seen.unwrap()
}

/// The buyer's word that it paid, from its log, once that is out.
fn confirmation(buyer: &Person, trade: TradeId) -> Option<(PartyKey, MessageId)> {
    let (mut key, mut said) = (None, None);
    for entry in buyer.desk().store.entries().unwrap().into_iter().filter(|entry| entry.trade == trade) {
        match serde_json::from_slice(&entry.body.unwrap()).unwrap() {
            Event::Opened(opening) => key = Some(opening.payer),
            Event::MessageSent { step: Step::PaymentConfirmation(0), id } => said = Some(id),
            _ => {}
        }
    }
    key.zip(said)
}

fn identity_of(mark: u8) -> Keypair {
    let seed = Arc::new(Seed::generate(&[mark; 32]));
    Keypair::from_seckey_slice(SECP256K1, &*seed.nostr(0).unwrap()).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_people_rate_each_other_and_a_third_checks_it() {
    let mut bazaar = Bazaar::closed(2).await;
    bazaar.buyer.config.trader.link_identity = true;
    for person in [&mut bazaar.seller, &mut bazaar.buyer, &mut bazaar.arbiter] {
        person.start().await;
    }
    let (seller, buyer, arbiter) = (&bazaar.seller, &bazaar.buyer, &bazaar.arbiter);
    let trade = bazaar.bid().await;
    bazaar.finish(trade).await;
    buyer.steps(trade, rate(2, "not wool")).await;
    seller.steps(trade, rate(5, "paid at once")).await;
    buyer.steps(trade, StepRequest::RateArbiter { rating: 5, comment: None }).await;
    let url = bazaar.boards[0].url.clone();
    buyer.steps(trade, StepRequest::RateBoard { url: format!("{url}/"), rating: 4, comment: None }).await;

    // The seller would rather not have it said.
    let of_seller = Of::Key(seller.desk().identity());
    let of_buyer = Of::Key(buyer.desk().identity());
    let said = record(arbiter, &of_seller, RatedView::User, 1).await.ratings[0].id;
    let (now, pubkey) = (clock::unix(), seller.desk().identity().0);
    let tags = vec![vec!["e".to_owned(), said.to_string()], vec!["k".to_owned(), "321".to_owned()]];
    let deletion = Unsigned { pubkey, created_at: now, kind: 5, tags, content: String::new() };
    for board in &seller.desk().boards {
        board.publish(deletion.clone().sign(&identity_of(1), &[0; 32])).await.unwrap();
    }

    // The arbiter settled no trade, so it knows nobody: what it reads is what everybody can check.
    let known = record(arbiter, &of_seller, RatedView::User, 1).await;
    assert_eq!((known.score, known.settled, known.disputed, known.raters), (Some(2.0), 1, 0, 1));
    assert_eq!((known.value_sat.0, known.from_height), (PRICE / 2, Height(800_000)));
    assert_eq!(known.ratings[0].comment.as_deref(), Some("not wool"));
    assert_eq!((known.standing.strangers, known.standing.reached), (1, 0));
    assert!(known.standing.rating > 2.7, "a stranger does not move much: {:?}", known.standing);
    let of_the_buyer = record(arbiter, &of_buyer, RatedView::User, 1).await;
    assert_eq!((of_the_buyer.score, of_the_buyer.settled), (Some(5.0), 1));
    assert_eq!(record(arbiter, &Of::Board(url.clone()), RatedView::Board, 1).await.score, Some(4.0));

    // Who was in it knows more: the seller traded with the buyer, and the buyer found the arbiter good.
    assert_eq!(record(buyer, &of_seller, RatedView::User, 1).await.standing.own, Some(2.0));
    let of_arbiter = record(seller, &Of::Key(arbiter.desk().identity()), RatedView::Arbiter, 1).await;
    assert_eq!((of_arbiter.standing.reached, of_arbiter.standing.reached_rating), (1, Some(5.0)));

    // And with nothing but the event and the height.
    let filter = Filter { ids: Some(vec![said.0]), ..Filter::default() };
    let event = arbiter.desk().boards[0].query(vec![filter]).await.unwrap().remove(0);
    let rating = reputation::read(&event, Height(800_000)).unwrap();
    assert_eq!((rating.rating, rating.settled, rating.rater), (2, true, buyer.desk().identity()));
    let text = event.to_json();
    let listing = buyer.view(trade).await.unwrap().listing.to_string();
    assert!(!text.contains(&listing), "no rating names the listing");
    labels_go_elsewhere(&bazaar, &of_seller).await;
}

/// People on other boards, who never heard of these, take the ratings in from a file.
async fn labels_go_elsewhere(bazaar: &Bazaar, of: &Of) {
    let labels = bazaar.arbiter.desk().labels(of).await.unwrap();
    assert_eq!(labels.len(), 1);
    let elsewhere = Bazaar::open(1).await;
    let there = elsewhere.buyer.desk();
    assert_eq!(record(&elsewhere.buyer, of, RatedView::User, 0).await.score, None);
    let lines = format!("{}\n\n{{}}\n{}\n", labels[0], labels[0].replace("not wool", "not nice"));
    let taken = there.take_labels(&lines).await.unwrap();
    assert_eq!((taken.taken, taken.known), (1, 0));
    let refused: Vec<_> = taken.refused.iter().map(|(code, count)| (code.as_str(), *count)).collect();
    assert_eq!(refused, [("bad-id", 1), ("no-rating", 1)]);
    assert_eq!(record(&elsewhere.buyer, of, RatedView::User, 1).await.score, Some(2.0));
    assert_eq!(there.take_labels(&labels[0]).await.unwrap().known, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_buyer_that_lost_everything_but_its_seed_still_rates() {
    let mut bazaar = Bazaar::open(1).await;
    let trade = bazaar.bid().await;
    bazaar.finish(trade).await;
    bazaar.buyer.kept().await;
    bazaar.buyer.stop().await;
    bazaar.buyer.lose_everything_and_restore();
    bazaar.buyer.start().await;
    bazaar.buyer.until_sees(trade, "settled").await;
    bazaar.buyer.steps(trade, rate(4, "slow")).await;
    let of_seller = Of::Key(bazaar.seller.desk().identity());
    let said = record(&bazaar.arbiter, &of_seller, RatedView::User, 1).await;
    assert_eq!((said.score, said.settled), (Some(4.0), 1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_is_rated_before_it_had_to_pledge() {
    let bazaar = Bazaar::open(1).await;
    let trade = bazaar.bid().await;
    bazaar.seller.steps(trade, accept()).await;
    bazaar.seller.until_sees(trade, "held").await;
    bazaar.seller.steps(trade, StepRequest::Refund { reason: "sold out".to_owned() }).await;
    for person in [&bazaar.buyer, &bazaar.seller] {
        person.until_sees(trade, "refunded").await;
    }
    let refused = bazaar.buyer.desk().step(trade, rate(1, "never shipped")).await.unwrap_err();
    assert!(refused.to_string().contains("no pledge backs a rating"), "{refused}");
    // The buyer had paid, so it had pledged.
    bazaar.seller.steps(trade, rate(5, "patient")).await;
    let payer = bazaar.seller.desk().trade(trade).await.unwrap().counterparty;
    let said = record(&bazaar.arbiter, &Of::Key(payer), RatedView::User, 1).await;
    assert_eq!((said.score, said.settled), (Some(5.0), 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_arbiter_hands_on_the_pledge_of_a_seller_with_its_ruling() {
    let bazaar = Bazaar::open(1).await;
    let trade = bazaar.shipped().await;
    // As if the seller had shown its shipment to the arbiter alone.
    let (store, seller) = (&bazaar.buyer.desk().store, bazaar.seller.desk().identity());
    let kept: Vec<_> = store.list("pledge/").unwrap().into_iter().map(|(name, _)| name).collect();
    let of_seller: Vec<_> = kept.iter().filter(|name| name.ends_with(&seller.to_string())).collect();
    assert_eq!((kept.len(), of_seller.len()), (3, 1));
    store.put(of_seller[0], b"lost").unwrap();
    let dispute = StepRequest::Dispute { reason: "a brick".to_owned(), details: String::new() };
    bazaar.buyer.steps(trade, dispute).await;
    bazaar.arbiter.until_sees(trade, "disputed").await;
    let ruling = StepRequest::Rule {
        payee_tranches: 0,
        payer_bond: BondFate::Return,
        payee_bond: BondFate::Return,
        resolution: "it was a brick".to_owned(),
    };
    bazaar.arbiter.steps(trade, ruling).await;
    bazaar.buyer.until_sees(trade, "refunded").await;
    bazaar.buyer.steps(trade, rate(1, "a brick")).await;
    let said = record(&bazaar.arbiter, &Of::Key(seller), RatedView::User, 1).await;
    assert_eq!((said.score, said.settled, said.disputed), (Some(1.0), 0, 1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_shipment_without_its_pledge_is_none() {
    let bazaar = Bazaar::open(1).await;
    let trade = bazaar.bid().await;
    bazaar.seller.steps(trade, accept()).await;
    bazaar.seller.until_sees(trade, "held").await;
    bazaar.buyer.until_sees(trade, "held").await;
    until("the buyer's word is out", async || confirmation(&bazaar.buyer, trade).is_some()).await;
    let (payer, payment) = confirmation(&bazaar.buyer, trade).unwrap();
    let message = Message::Shipment(Shipment { payment, note: "trust me".to_owned(), tracking: None });
    let key = identity_of(1);
    let context = Context { at: clock::unix(), trade: Some(trade), to: vec![payer], ..Context::default() };
    let event = domp::encode(&message, &context, &key, domp::Transport::Sealed).unwrap();
    let board = &bazaar.seller.desk().boards[0];
    let bare = sealed::copy(&event, &Private::default(), &key, payer, clock::unix(), &[7; 32]).unwrap();
    board.publish(bare).await.unwrap();
    // A pledge of something else is none either.
    let other =
        Unsigned { kind: kind::PLEDGE, content: String::new(), ..event.clone().into_unsigned() }.sign(&key, &[0; 32]);
    let private = Private { pledges: vec![other], ..Private::default() };
    board.publish(sealed::copy(&event, &private, &key, payer, clock::unix(), &[8; 32]).unwrap()).await.unwrap();
    // Whatever comes after it has been read.
    let words = ChatRequest { text: "it is on its way".to_owned(), to: ChatTo::Counterparty };
    bazaar.seller.desk().say(trade, words).await.unwrap();
    until("the buyer hears it", async || bazaar.buyer.desk().chat(trade).await.unwrap().len() == 1).await;
    assert_eq!(bazaar.buyer.sees(trade).await, "held");

    // The honest word still counts.
    bazaar.seller.steps(trade, StepRequest::Ship { note: String::new(), tracking: None }).await;
    bazaar.buyer.until_sees(trade, "shipped").await;
    bazaar.buyer.steps(trade, received()).await;
    bazaar.seller.until_sees(trade, "settled").await;
}

//! A board asks for credentials: a trader buys a batch over Lightning and spends one with each event. Whatever breaks off on the way,
//! nothing is paid twice and nothing that was paid is lost; and what the board says wrong is not paid.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;

use board::{Board, BoardConfig};
use keys::Seed;
use node::{Mishap, Node, NodeError, PaymentState, Trouble};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use trade::{EscrowTerms, Mode, OnSilence};
use units::{Msat, Sat};

use super::bureau::{Bureau, Manner, PRICE};
use super::people::{Bazaar, until};
use crate::api::credentials::{BatchView, BuyCredentials, HeldView};
use crate::api::types::SellRequest;
use crate::board_link::BoardError;
use crate::bolt11_node::Bolt11Node;
use crate::config::Credentials;
use crate::desk::DeskError;
use crate::issuer::{self, Issuer, Till};

const TRADE_KINDS: &[&str] = &["300-399", "1059"];
const LISTINGS: &[&str] = &["300"];

/// A bureau, and a bazaar whose buyer and seller use it and run.
async fn bazaar(kinds: &'static [&'static str]) -> (Bazaar, Bureau, tempfile::TempDir) {
    let dir = tempfile::tempdir().unwrap();
    let mut bazaar = Bazaar::closed(0).await;
    let bureau = Bureau::open(dir.path(), &bazaar.network, kinds).await;
    for person in [&mut bazaar.seller, &mut bazaar.buyer, &mut bazaar.arbiter] {
        person.uses(&bureau.url);
        person.start().await;
    }
    (bazaar, bureau, dir)
}

fn ten(bureau: &Bureau) -> BuyCredentials {
    BuyCredentials { board: bureau.url.clone(), count: 10, max_msat: Msat(10 * PRICE.0) }
}

impl super::people::Person {
    async fn buys(&self, bureau: &Bureau) -> BatchView {
        self.desk().buy_credentials(&ten(bureau)).await.unwrap()
    }

    /// Free, used and lost credentials.
    fn holds(&self) -> [usize; 3] {
        let HeldView { free, used, lost, .. } = match self.desk().credentials().keysets.as_slice() {
            [] => return [0; 3],
            [held] => held.clone(),
            more => panic!("{more:?}"),
        };
        [free, used, lost]
    }

    /// State of the batch that is under way, or has failed, and why.
    fn batch(&self) -> Option<(String, String)> {
        let batch = self.desk().credentials().batches.pop()?;
        Some((batch.state, batch.code.or(batch.trouble).unwrap_or_default()))
    }

    async fn until_batch_is(&self, state: &str) {
        until(&format!("the batch is {state}"), async || self.batch().is_some_and(|(is, _)| is == state)).await;
    }

    /// Waits until a payment of its node is under way.
    async fn until_pays(&self) {
        let under_way = async || {
            let payments = self.node.list_payments(10).await.unwrap();
            payments.iter().any(|payment| payment.state == PaymentState::InFlight)
        };
        until("a payment is under way", under_way).await;
    }

    async fn until_holds(&self, what: [usize; 3]) {
        until(&format!("{what:?} credentials are there"), async || self.holds() == what).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_listing_waits_for_a_credential_and_goes_out_when_a_batch_arrives() {
    let (bazaar, bureau, _dir) = bazaar(LISTINGS).await;
    let refused = bazaar.seller.desk().sell(bazaar.goods()).await.unwrap_err();
    assert!(matches!(&refused, DeskError::NotOut(BoardError::NoCredential(url)) if *url == bureau.url), "{refused}");
    let backlog = bazaar.seller.desk().status().await.unwrap().backlog;
    let trouble = backlog[0].trouble.clone().unwrap();
    assert!(trouble.contains(&format!("souk credential buy --board {}", bureau.url)), "{trouble}");

    let before = bazaar.seller.balance().await;
    let batch = bazaar.seller.buys(&bureau).await;
    assert_eq!((batch.state.as_str(), batch.count, batch.price_msat), ("ordered", 10, Msat(20_000)));
    bazaar.seller.until_holds([9, 1, 0]).await;
    until("the listing is on the board", async || !bazaar.buyer.desk().listings().await.unwrap().listings.is_empty())
        .await;
    let paid = before.0 - bazaar.seller.balance().await.0;
    assert_eq!((bureau.earned().await, paid), (10, 20_000 + 1_000), "ten credentials, and what routing cost");
    // The next one goes out at once.
    bazaar.seller.desk().sell(bazaar.goods()).await.unwrap();
    assert_eq!(bazaar.seller.holds(), [8, 2, 0]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_trade_whose_every_message_costs_a_credential_comes_to_its_end() {
    let (bazaar, bureau, _dir) = bazaar(TRADE_KINDS).await;
    let batch = BuyCredentials { count: 50, max_msat: Msat(50 * PRICE.0), ..ten(&bureau) };
    for person in [&bazaar.seller, &bazaar.buyer, &bazaar.arbiter] {
        person.desk().buy_credentials(&batch).await.unwrap();
        until("credentials are there", async || person.holds()[0] > 0).await;
    }
    let trade = bazaar.bid().await;
    bazaar.finish(trade).await;
    let [_, used, lost] = bazaar.seller.holds();
    assert!(used > 3 && lost == 0, "{used} used, {lost} lost");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_batch_goes_on_after_a_restart_wherever_it_was() {
    let (mut bazaar, bureau, _dir) = bazaar(LISTINGS).await;
    let before = bazaar.buyer.balance().await;

    bureau.does(Manner::Mute);
    bazaar.buyer.buys(&bureau).await;
    until("the board was asked", async || bureau.asked() > 0).await;
    bazaar.buyer.stop().await;
    bazaar.network.next_payment(Mishap::Hangs);
    bureau.does(Manner::TakesOnly);
    bazaar.buyer.start().await;

    bazaar.buyer.until_pays().await;
    bazaar.buyer.stop().await;
    bazaar.buyer.start().await;
    assert_eq!(bazaar.buyer.batch().unwrap().0, "paying");
    bazaar.network.deliver();

    bazaar.buyer.until_batch_is("paid").await;
    until("the board's words are shown", async || bazaar.buyer.batch().unwrap().1.contains("not today")).await;
    let second = bazaar.buyer.desk().buy_credentials(&ten(&bureau)).await.unwrap_err();
    assert_eq!(second.code(), "under-way");
    bazaar.buyer.stop().await;
    bureau.does(Manner::Honest);
    bazaar.buyer.start().await;

    bazaar.buyer.until_holds([10, 0, 0]).await;
    assert_eq!(before.0 - bazaar.buyer.balance().await.0, 20_000 + 1_000, "paid once");
    assert!(bazaar.buyer.desk().credentials().batches.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_payment_that_was_begun_or_not_before_the_end_is_made_once() {
    // Recorded, and the node never heard of it.
    let (mut bazaar, bureau, _dir) = bazaar(LISTINGS).await;
    let before = bazaar.buyer.balance().await;
    bazaar.buyer.node.inner.next_verb(Trouble::Refuses(NodeError::Unreachable("it restarts".into())));
    bazaar.buyer.buys(&bureau).await;
    bazaar.buyer.until_holds([10, 0, 0]).await;
    assert_eq!(before.0 - bazaar.buyer.balance().await.0, 21_000);

    // The node did it, and its answer was lost.
    bazaar.buyer.node.inner.next_verb(Trouble::LosesAnswer);
    bazaar.buyer.buys(&bureau).await;
    bazaar.buyer.until_holds([20, 0, 0]).await;
    assert_eq!(before.0 - bazaar.buyer.balance().await.0, 42_000);

    // The node was paid for, and has lost its memory since: the board knows.
    bazaar.network.next_payment(Mishap::Hangs);
    bazaar.buyer.buys(&bureau).await;
    bazaar.buyer.until_pays().await;
    bazaar.buyer.stop().await;
    bazaar.network.deliver();
    bazaar.buyer.node.inner.forget_payments();
    bazaar.buyer.start().await;
    bazaar.buyer.until_holds([30, 0, 0]).await;
    assert_eq!((before.0 - bazaar.buyer.balance().await.0, bureau.earned().await), (63_000, 30));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_that_is_older_than_the_payment_gets_what_was_paid_for() {
    let (mut bazaar, bureau, _dir) = bazaar(LISTINGS).await;
    bureau.does(Manner::Mute);
    bazaar.buyer.buys(&bureau).await;
    until("the board was asked", async || bureau.asked() > 0).await;
    bazaar.buyer.stop().await;
    let mut older = bazaar.buyer.copy();
    bureau.does(Manner::Honest);
    bazaar.buyer.start().await;
    bazaar.buyer.until_holds([10, 0, 0]).await;
    bazaar.buyer.stop().await;
    // Nor does the node know of it: it pays, and the board's node will not have it twice.
    bazaar.buyer.node.inner.forget_payments();
    let before = bazaar.buyer.balance().await;
    older.take_over();
    older.start().await;
    older.until_holds([10, 0, 0]).await;
    assert_eq!((older.balance().await, bureau.earned().await), (before, 10));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_payment_that_fails_costs_nothing_and_the_next_batch_may_be_bought() {
    let (bazaar, bureau, _dir) = bazaar(LISTINGS).await;
    let before = bazaar.buyer.balance().await;
    bazaar.network.next_payment(Mishap::Fails("no route".into()));
    bazaar.buyer.buys(&bureau).await;
    bazaar.buyer.until_batch_is("failed").await;
    assert_eq!(bazaar.buyer.batch().unwrap().1, "payment-failed");
    assert_eq!(bazaar.buyer.balance().await, before);
    bazaar.buyer.buys(&bureau).await;
    bazaar.buyer.until_holds([10, 0, 0]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_not_as_published_is_not_paid() {
    let (bazaar, bureau, _dir) = bazaar(LISTINGS).await;
    let before = bazaar.buyer.balance().await;
    let refused = async |request: BuyCredentials| bazaar.buyer.desk().buy_credentials(&request).await.unwrap_err();
    assert_eq!(refused(BuyCredentials { count: 11, ..ten(&bureau) }).await.code(), "batch-size");
    assert_eq!(refused(BuyCredentials { max_msat: Msat(19_999), ..ten(&bureau) }).await.code(), "too-dear");
    assert_eq!(
        refused(BuyCredentials { board: "ws://127.0.0.1:1".into(), ..ten(&bureau) }).await.code(),
        "not-our-board"
    );
    bureau.does(Manner::Overcharges);
    bazaar.buyer.buys(&bureau).await;
    bazaar.buyer.until_batch_is("failed").await;
    assert_eq!(bazaar.buyer.batch().unwrap().1, "invoice-amount");
    bureau.is_two_faced().await;
    let error = refused(ten(&bureau)).await;
    assert_eq!(error.code(), "two-faced", "{error}");
    assert_eq!(bazaar.buyer.balance().await, before);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_batch_with_a_forged_signature_is_not_used_and_the_proof_is_kept() {
    let (mut bazaar, bureau, _dir) = bazaar(LISTINGS).await;
    bureau.does(Manner::Forges);
    bazaar.buyer.buys(&bureau).await;
    bazaar.buyer.until_batch_is("failed").await;
    bazaar.buyer.stop().await;
    bazaar.buyer.start().await;
    let batch = bazaar.buyer.desk().credentials().batches.pop().unwrap();
    let proof = batch.proof.unwrap();
    let facts = wire::invoice::parse_invoice(&proof.invoice).unwrap();
    assert_eq!(facts.hash, units::Preimage::new(units::parse_hex32(&proof.preimage).unwrap()).hash());
    assert_eq!((batch.code.as_deref(), bazaar.buyer.holds()), (Some("forged"), [0; 3]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_credential_that_was_spent_elsewhere_is_given_up_and_the_event_goes_out_with_another() {
    let (mut bazaar, bureau, _dir) = bazaar(LISTINGS).await;
    bazaar.seller.buys(&bureau).await;
    bazaar.seller.until_holds([10, 0, 0]).await;
    // The same purse on two machines: what the one spends the other does not know of.
    bazaar.seller.stop().await;
    let mut copy = bazaar.seller.copy();
    bazaar.seller.start().await;
    for _ in 0..9 {
        bazaar.seller.desk().sell(bazaar.goods()).await.unwrap();
    }
    assert_eq!(bazaar.seller.holds(), [1, 9, 0]);
    bazaar.seller.stop().await;
    copy.take_over();
    copy.start().await;
    assert_eq!(copy.holds(), [10, 0, 0]);
    // Nine of ten are spent: two are tried at once, then it rests.
    let tried = copy.desk().sell(bazaar.goods()).await;
    let [_, used, lost] = copy.holds();
    assert!(used == 1 && lost <= 1, "{used} used, {lost} lost");
    if let Err(error) = tried {
        assert!(matches!(&error, DeskError::NotOut(BoardError::Refused { .. })), "{error}");
        assert_eq!(lost, 1);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_trader_who_allows_a_daily_amount_buys_within_it_by_itself() {
    let (mut bazaar, bureau, _dir) = bazaar(LISTINGS).await;
    bazaar.seller.stop().await;
    bazaar.seller.config.trader.credentials_sat_per_day = 25;
    bazaar.seller.start().await;
    // Whether that is told before they have come or after.
    drop(bazaar.seller.desk().sell(bazaar.goods()).await);
    bazaar.seller.until_holds([9, 1, 0]).await;
    for _ in 0..9 {
        bazaar.seller.desk().sell(bazaar.goods()).await.unwrap();
    }
    // Another ten would cost more than what is left of the day's amount.
    let refused = bazaar.seller.desk().sell(bazaar.goods()).await.unwrap_err();
    assert!(matches!(&refused, DeskError::NotOut(BoardError::NoCredential(_))), "{refused}");
    let buyer = bazaar.seller.desk().buyer.as_ref().unwrap();
    until("what waits is noticed", async || bazaar.seller.desk().postage.hungry().borrow().is_empty()).await;
    assert_eq!((bazaar.seller.holds(), bureau.earned().await), ([0, 10, 0], 10));
    assert!(buyer.buy(&bureau.url, 10, Msat(20_000)).await.is_ok(), "by hand");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_real_issuer_sells_to_the_real_purse() {
    let dir = tempfile::tempdir().unwrap();
    let mut bazaar = Bazaar::closed(0).await;
    let shop = Shop::open(dir.path(), bazaar.arbiter.node.clone()).await;
    for person in [&mut bazaar.seller, &mut bazaar.buyer] {
        person.uses(&shop.url);
        person.start().await;
    }
    let batch = BuyCredentials { board: shop.url.clone(), count: 250, max_msat: Msat(500_000) };
    for person in [&bazaar.seller, &bazaar.buyer] {
        person.desk().buy_credentials(&batch).await.unwrap();
        until("credentials are there", async || person.holds()[0] > 240).await;
    }
    bazaar.seller.desk().sell(listing()).await.unwrap();
    until("the listing is read", async || !bazaar.buyer.desk().listings().await.unwrap().listings.is_empty()).await;
    let policies = bazaar.buyer.desk().credential_policies(None).await.unwrap();
    let terms = policies[0].policy.clone().expect("its policy");
    assert_eq!((terms.price_msat, terms.batch_max, terms.keysets.len()), (Some(Msat(2_000)), 250, 1));
    assert!(bazaar.seller.holds()[1] > 0);
}

/// A board with the daemon's own issuer; it wants a credential for everything.
struct Shop {
    url: String,
    _board: Board,
    stop: CancellationToken,
}

impl Shop {
    async fn open(dir: &Path, node: Arc<Bolt11Node>) -> Shop {
        let (seed, terms) =
            (Seed::generate(&[44; 32]), Credentials { price_msat: 2_000, epoch_days: 30, grace_days: 60 });
        let issuer = Arc::new(Issuer::open(&terms, dir, &seed, crate::clock::unix).unwrap());
        let (ask, requests) = mpsc::channel(issuer::REQUESTS_MAX);
        let mut config = BoardConfig::new(dir.join("board"), SocketAddr::from((Ipv4Addr::LOCALHOST, 0)));
        config.policy.default.credential = true;
        config.ports.credentials = Some(issuer.clone());
        (config.till, config.own_key) = (Some(ask), Some(issuer.pubkey()));
        let board = Board::start(config).await.unwrap();
        let till = Till::open(issuer, board.operator(), node, requests).unwrap();
        let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
        tasks.spawn(till.run(stop.clone()));
        Shop { url: format!("ws://{}", board.local_addr()), _board: board, stop }
    }
}

impl Drop for Shop {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

fn listing() -> SellRequest {
    let escrow = EscrowTerms {
        mode: Mode::Direct,
        arbiters: Vec::new(),
        arbiter_release: false,
        min_payer_bond: Sat(0),
        payee_bond: Sat(0),
        lock_blocks: 144,
        tranches: 1,
        on_silence: OnSilence::Refund,
    };
    SellRequest {
        product_name: "Wool socks".to_owned(),
        description: String::new(),
        price_sat: 40_000,
        category: None,
        shipping_days: None,
        stock: 1,
        escrow,
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn our_own_board_gives_credentials_for_nothing() {
    let (bazaar, bureau, _dir) = bazaar(LISTINGS).await;
    bazaar.seller.desk().postage.grants(&bureau.url, bureau.grant()).unwrap();
    bazaar.seller.desk().sell(bazaar.goods()).await.unwrap();
    assert_eq!((bazaar.seller.holds(), bureau.earned().await), ([49, 1, 0], 0));
}

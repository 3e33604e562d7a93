//! People with daemons of their own, who trade by the same calls as the API.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use async_trait::async_trait;
use bitcoin::hashes::{Hash, sha256};
use futures::stream::{BoxStream, StreamExt};
use keys::Seed;
use lightning_invoice::{Currency, InvoiceBuilder, PaymentSecret};
use node::{
    Balances, Capabilities, Channel, ChannelId, FakeNetwork, FakeNode, HoldInvoice, HoldInvoiceRequest, InvoiceRequest,
    Node, NodeEvent, NodeInfo, OfferRequest, OpenChannel, PayLimits, Payable, Payment, PaymentId, PeerAddress,
};
use secp256k1::{PublicKey, SECP256K1, SecretKey};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use trade::{EscrowTerms, MessageId, Mode, OnSilence, ReceiptStatus, TradeId};
use units::{Height, Msat, Now, PaymentHash, Preimage, Sat, Unix};

use super::boards::Guarded;
use crate::api;
use crate::api::access::Scope;
use crate::api::tokens::{self, TokenRequest};
use crate::api::types::{BidRequest, SellRequest, StepRequest, TradeView};
use crate::config::Config;
use crate::desk::DeskError;
use crate::running::{self, Running};

/// Nothing takes longer than this, even on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);
const LOOK_EVERY: Duration = Duration::from_millis(20);
pub(super) const PRICE: u64 = 40_000;

/// A fake node whose invoices are BOLT11, as DOMP wants them. Its name is its node id, so invoices lead back to it.
pub(super) struct Bolt11Node {
    pub(super) inner: Arc<FakeNode>,
    secret: SecretKey,
    issued: Mutex<BTreeMap<PaymentHash, String>>,
}

fn node_id(secret: &SecretKey) -> String {
    PublicKey::from_secret_key(SECP256K1, secret).to_string()
}

impl Bolt11Node {
    fn invoice(&self, request: &HoldInvoiceRequest) -> String {
        let mut issued = self.issued.lock().unwrap_or_else(PoisonError::into_inner);
        let made = issued.entry(request.hash).or_insert_with(|| {
            let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
            let invoice = InvoiceBuilder::new(Currency::Regtest)
                .description(request.description.clone())
                .payment_hash(sha256::Hash::from_byte_array(request.hash.0))
                .payment_secret(PaymentSecret([9; 32]))
                .duration_since_epoch(Duration::from_secs(since.as_secs()))
                .expiry_time(Duration::from_secs(request.expiry_secs.into()))
                .amount_milli_satoshis(request.amount.0)
                .min_final_cltv_expiry_delta((request.min_final_cltv + 3).into())
                .build_signed(|message| SECP256K1.sign_ecdsa_recoverable(message, &self.secret));
            invoice.unwrap().to_string()
        });
        made.clone()
    }

    fn as_issued(&self, mut hold: HoldInvoice) -> HoldInvoice {
        let issued = self.issued.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(invoice) = issued.get(&hold.hash) {
            hold.invoice.clone_from(invoice);
        }
        hold
    }
}

#[async_trait]
impl Node for Bolt11Node {
    fn capabilities(&self) -> &Capabilities {
        self.inner.capabilities()
    }
    async fn info(&self) -> node::Result<NodeInfo> {
        self.inner.info().await
    }
    async fn create_invoice(&self, request: InvoiceRequest) -> node::Result<String> {
        let made = self.inner.create_invoice(request.clone()).await?;
        let hash: PaymentHash = made.rsplit('-').next().unwrap().parse().unwrap();
        let (amount, expiry_secs) = (request.amount.unwrap(), request.expiry_secs);
        let as_hold =
            HoldInvoiceRequest { hash, amount, min_final_cltv: 21, expiry_secs, description: request.description };
        Ok(self.invoice(&as_hold))
    }
    async fn create_hold_invoice(&self, request: HoldInvoiceRequest) -> node::Result<String> {
        // A BOLT11 invoice asks for a few blocks more than was asked of the node, as LDK's do; the fake keeps what it was asked.
        self.inner.create_hold_invoice(request.clone()).await?;
        Ok(self.invoice(&request))
    }
    async fn settle(&self, preimage: Preimage) -> node::Result<()> {
        self.inner.settle(preimage).await
    }
    async fn cancel(&self, hash: PaymentHash) -> node::Result<()> {
        self.inner.cancel(hash).await
    }
    async fn lookup(&self, hash: PaymentHash) -> node::Result<HoldInvoice> {
        Ok(self.as_issued(self.inner.lookup(hash).await?))
    }
    async fn lookup_received(&self, hash: PaymentHash) -> node::Result<Msat> {
        self.inner.lookup_received(hash).await
    }
    async fn pay(&self, payable: Payable, limits: PayLimits) -> node::Result<PaymentId> {
        let Payable::Bolt11 { invoice, amount } = payable else { return self.inner.pay(payable, limits).await };
        let facts = wire::invoice::parse_invoice(&invoice).unwrap();
        let kind = if facts.min_final_cltv < 100 { "fakeinvoice" } else { "fakehold" };
        let invoice = format!("{kind}-{}-{}", facts.payee, facts.hash);
        self.inner.pay(Payable::Bolt11 { invoice, amount }, limits).await
    }
    async fn lookup_payment(&self, id: PaymentId) -> node::Result<Payment> {
        self.inner.lookup_payment(id).await
    }
    async fn list_payments(&self, limit: usize) -> node::Result<Vec<Payment>> {
        self.inner.list_payments(limit).await
    }
    async fn create_offer(&self, request: OfferRequest) -> node::Result<String> {
        self.inner.create_offer(request).await
    }
    fn events(&self) -> BoxStream<'static, NodeEvent> {
        let issued = self.issued.lock().unwrap_or_else(PoisonError::into_inner).clone();
        // The desk only reads the text of an invoice that is new to it, and it got that as the answer to its request.
        let known = move |event| match event {
            NodeEvent::Hold(mut hold) => {
                if let Some(invoice) = issued.get(&hold.hash) {
                    hold.invoice.clone_from(invoice);
                }
                (hold.state != node::HoldState::Open).then_some(NodeEvent::Hold(hold))
            }
            other => Some(other),
        };
        self.inner.events().filter_map(move |event| std::future::ready(known(event))).boxed()
    }
    async fn connect_peer(&self, peer: PeerAddress) -> node::Result<()> {
        self.inner.connect_peer(peer).await
    }
    async fn open_channel(&self, request: OpenChannel) -> node::Result<ChannelId> {
        self.inner.open_channel(request).await
    }
    async fn close_channel(&self, channel: ChannelId, force: bool) -> node::Result<()> {
        self.inner.close_channel(channel, force).await
    }
    async fn list_channels(&self) -> node::Result<Vec<Channel>> {
        self.inner.list_channels().await
    }
    async fn balances(&self) -> node::Result<Balances> {
        self.inner.balances().await
    }
    async fn new_address(&self) -> node::Result<String> {
        self.inner.new_address().await
    }
    async fn send_onchain(&self, address: &str, amount: Sat, fee_rate: Option<u32>) -> node::Result<String> {
        self.inner.send_onchain(address, amount, fee_rate).await
    }
    async fn stop(&self) -> node::Result<()> {
        self.inner.stop().await
    }
}

/// One person: what survives a restart, and the daemon while it runs.
pub(super) struct Person {
    pub(super) name: &'static str,
    dir: PathBuf,
    pub(super) config: Config,
    seed: Arc<Seed>,
    pub(super) node: Arc<Bolt11Node>,
    boards: Vec<String>,
    run: Option<(Arc<Running>, TaskTracker, CancellationToken)>,
}

impl Person {
    pub(super) async fn start(&mut self) {
        let (tasks, shutdown) = (TaskTracker::new(), CancellationToken::new());
        let boards = self.boards.iter().map(|url| (url.clone(), false)).collect();
        let node: Arc<dyn Node> = self.node.clone();
        let running =
            running::open(&self.config, &self.dir, self.seed.clone(), Some(node), boards, &tasks, &shutdown).await;
        self.run = Some((Arc::new(running.unwrap()), tasks, shutdown));
    }

    /// Stops at once, wherever it is. The log is all that stays.
    pub(super) async fn stop(&mut self) {
        let (running, tasks, shutdown) = self.run.take().unwrap();
        shutdown.cancel();
        drop(running);
        tasks.close();
        tasks.wait().await;
    }

    /// The data directory is gone; the seed is on paper.
    pub(super) fn lose_everything_but_the_seed(&self) {
        assert!(self.run.is_none(), "stopped before");
        std::fs::remove_dir_all(&self.dir).unwrap();
        std::fs::create_dir(&self.dir).unwrap();
    }

    /// An empty directory, set up by `souk restore`.
    pub(super) fn lose_everything_and_restore(&self) {
        self.lose_everything_but_the_seed();
        std::fs::write(self.dir.join(crate::restore::MARK), "").unwrap();
    }

    /// Waits until the boards keep everything that is in the log, and everything that was said is out.
    pub(super) async fn kept(&self) {
        let store = &self.desk().store;
        let all = async || {
            let waiting = store.backlog().unwrap().values().any(|backlog| backlog.waiting > 0);
            !waiting && store.unkept().unwrap().is_empty()
        };
        until(&format!("the boards keep what {} knows", self.name), all).await;
    }

    /// No leg of a trade is held or under way any more.
    pub(super) async fn legs_over(&self, trade: TradeId) -> bool {
        let view = self.view(trade).await.unwrap();
        view.legs.iter().all(|leg| ["settled", "canceled", "paid", "returned"].contains(&leg.state.as_str()))
    }

    /// Serves the API over TCP for as long as the daemon runs. Returns where, and a token that allows everything.
    pub(super) async fn serve(&self) -> (String, String) {
        let (running, tasks, shutdown) = self.run.as_ref().unwrap();
        let listener = api::listen("127.0.0.1:0".parse().unwrap()).await.unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        let request = TokenRequest { name: "test".into(), scope: Scope::Admin, expires_in_secs: None };
        let token = tokens::make(&running.store, request).unwrap().token;
        let router = api::router(running.clone(), &self.dir);
        let (store, shutdown) = (running.store.clone(), shutdown.clone());
        tasks.spawn(async move { api::serve_tcp(listener, router, store, shutdown).await.unwrap() });
        (base, token)
    }

    pub(super) fn desk(&self) -> &Running {
        &self.run.as_ref().unwrap().0
    }

    pub(super) async fn balance(&self) -> Msat {
        self.node.balances().await.unwrap().lightning
    }

    pub(super) async fn view(&self, trade: TradeId) -> Option<TradeView> {
        self.desk().trade(trade).await.ok()
    }

    /// State of a trade, or how it ended.
    pub(super) async fn sees(&self, trade: TradeId) -> String {
        let view = self.view(trade).await;
        view.map(|view| view.outcome.unwrap_or(view.state)).unwrap_or_default()
    }

    pub(super) async fn until_sees(&self, trade: TradeId, state: &str) {
        until(&format!("{} sees {state}", self.name), async || self.sees(trade).await == state).await;
    }

    /// Takes a step as soon as it is possible.
    pub(super) async fn steps(&self, trade: TradeId, step: StepRequest) {
        let possible = async || match self.desk().step(trade, step.clone()).await {
            Ok(_) => true,
            Err(DeskError::Refused(_) | DeskError::RefusedNow { .. } | DeskError::NotFound(_)) => false,
            Err(error) => panic!("{}: {error}", self.name),
        };
        until(&format!("{} can {step:?}", self.name), possible).await;
    }
}

pub(super) async fn until(what: &str, mut is_so: impl AsyncFnMut() -> bool) {
    let began = Instant::now();
    while !is_so().await {
        assert!(began.elapsed() < PATIENCE, "in vain: {what}");
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// A seller, a buyer and an arbiter, and two boards.
pub(super) struct Bazaar {
    pub(super) seller: Person,
    pub(super) buyer: Person,
    pub(super) arbiter: Person,
    pub(super) boards: [Guarded; 2],
    pub(super) network: FakeNetwork,
    _dir: tempfile::TempDir,
}

impl Bazaar {
    /// Everybody reads and writes on the first `count` boards, and runs.
    pub(super) async fn open(count: usize) -> Bazaar {
        let mut bazaar = Bazaar::closed(count).await;
        for person in [&mut bazaar.seller, &mut bazaar.buyer, &mut bazaar.arbiter] {
            person.start().await;
        }
        bazaar
    }

    /// The same, before anybody has started.
    pub(super) async fn closed(count: usize) -> Bazaar {
        let dir = tempfile::tempdir().unwrap();
        let boards = [Guarded::start(&dir.path().join("a")).await, Guarded::start(&dir.path().join("b")).await];
        let unix = Unix(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs());
        let network = FakeNetwork::new(Now { height: Height(800_000), unix });
        let person = |name: &'static str, mark: u8| {
            let secret = SecretKey::from_slice(&[mark; 32]).unwrap();
            let home = dir.path().join(name);
            std::fs::create_dir(&home).unwrap();
            let mut config = Config::parse(crate::config::SAMPLE, &home).unwrap();
            config.arbiter.enabled = name == "arbiter";
            config.trader.enabled = name != "arbiter";
            Person {
                name,
                dir: home,
                config,
                seed: Arc::new(Seed::generate(&[mark; 32])),
                node: Arc::new(Bolt11Node { inner: network.node(&node_id(&secret)), secret, issued: Mutex::default() }),
                boards: boards.iter().take(count).map(|board| board.url.clone()).collect(),
                run: None,
            }
        };
        Bazaar {
            seller: person("seller", 1),
            buyer: person("buyer", 2),
            arbiter: person("arbiter", 3),
            boards,
            network,
            _dir: dir,
        }
    }

    pub(super) fn goods(&self) -> SellRequest {
        SellRequest {
            product_name: "Wool socks".to_owned(),
            description: String::new(),
            price_sat: PRICE,
            category: None,
            shipping_days: None,
            stock: 1,
            escrow: EscrowTerms {
                mode: Mode::Bonded,
                arbiters: vec![self.arbiter.desk().identity()],
                arbiter_release: true,
                min_payer_bond: Sat(PRICE),
                payee_bond: Sat(PRICE / 10),
                lock_blocks: 144,
                tranches: 2,
                on_silence: OnSilence::Release,
            },
        }
    }

    /// The seller lists, the buyer bids.
    pub(super) async fn bid(&self) -> TradeId {
        let listing = self.seller.desk().sell(self.goods()).await.unwrap();
        self.take(listing).await
    }

    pub(super) async fn take(&self, listing: MessageId) -> TradeId {
        self.take_as(bid(listing)).await
    }

    pub(super) async fn take_as(&self, bid: BidRequest) -> TradeId {
        let mut trade = None;
        until("the buyer can bid", async || match self.buyer.desk().bid(bid.clone()).await {
            Ok(id) => {
                trade = Some(id);
                true
            }
            Err(DeskError::NotFound(_) | DeskError::Board(_)) => false,
            Err(error) => panic!("{error}"),
        })
        .await;
        trade.unwrap()
    }

    /// A trade whose goods are under way.
    pub(super) async fn shipped(&self) -> TradeId {
        let trade = self.bid().await;
        self.seller.steps(trade, accept()).await;
        self.ship(trade).await;
        trade
    }

    /// The seller ships as soon as the money is held.
    async fn ship(&self, trade: TradeId) {
        self.seller.until_sees(trade, "held").await;
        self.seller.steps(trade, StepRequest::Ship { note: String::new(), tracking: None }).await;
        self.buyer.until_sees(trade, "shipped").await;
    }

    /// From the bid to the price on the seller's node, and bonds back.
    pub(super) async fn finish(&self, trade: TradeId) {
        self.seller.steps(trade, accept()).await;
        self.finish_held(trade).await;
    }

    /// From the acceptance on.
    pub(super) async fn finish_held(&self, trade: TradeId) {
        self.ship(trade).await;
        self.buyer.steps(trade, received()).await;
        self.seller.until_sees(trade, "settled").await;
        self.buyer.until_sees(trade, "settled").await;
    }
}

pub(super) fn received() -> StepRequest {
    StepRequest::Confirm { status: ReceiptStatus::Received, rating: None, feedback: None, reason: None }
}

pub(super) fn accept() -> StepRequest {
    StepRequest::Accept { shipping_days: None, terms: None }
}

pub(super) fn bid(listing: MessageId) -> BidRequest {
    BidRequest {
        listing,
        quantity: 1,
        amount_sat: None,
        arbiter: None,
        payer_bond_sat: None,
        message: None,
        timeout_hours: None,
        pay_by_hand: false,
        max_arbiter_fee_sat: 0,
    }
}

//! People with daemons of their own, who trade by the same calls as the API.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use keys::Seed;
use node::{FakeNetwork, Node};
use secp256k1::SecretKey;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use trade::{EscrowTerms, MessageId, Mode, OnSilence, ReceiptStatus, TradeId};
use units::{Height, Msat, Now, Sat, Unix};

use super::boards::Guarded;
use crate::api;
use crate::api::access::Scope;
use crate::api::tokens::{self, TokenRequest};
use crate::api::types::{BidRequest, SellRequest, StepRequest, TradeView};
use crate::bolt11_node::Bolt11Node;
use crate::config::Config;
use crate::desk::DeskError;
use crate::running::{self, Running};

/// Nothing takes longer than this, even on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);
const LOOK_EVERY: Duration = Duration::from_millis(20);
pub(super) const PRICE: u64 = 40_000;

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

    /// From the next start on this is one of the boards.
    pub(super) fn uses(&mut self, board: &str) {
        self.boards.push(board.to_owned());
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

    /// Another machine with the same seed, set up by `souk restore`; the Lightning node is the same one.
    pub(super) fn twin(&self) -> Person {
        let twin = self.elsewhere();
        twin.take_over();
        twin
    }

    /// A copy of the directory, started beside it.
    pub(super) fn copy(&self) -> Person {
        assert!(self.run.is_none(), "stopped before");
        let copy = self.elsewhere();
        for file in std::fs::read_dir(&self.dir).unwrap() {
            let file = file.unwrap();
            std::fs::copy(file.path(), copy.dir.join(file.file_name())).unwrap();
        }
        copy
    }

    fn elsewhere(&self) -> Person {
        let dir = self.dir.with_extension("twin");
        std::fs::create_dir(&dir).unwrap();
        let (config, seed, node) = (self.config.clone(), self.seed.clone(), self.node.clone());
        Person { name: "twin", dir, config, seed, node, boards: self.boards.clone(), run: None }
    }

    /// The next start asks the boards, as after `souk restore` or with `souk run --take-over`.
    pub(super) fn take_over(&self) {
        std::fs::write(self.dir.join(crate::restore::MARK), "0").unwrap();
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
                node: Bolt11Node::on(&network, secret),
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
    BidRequest::on(listing)
}

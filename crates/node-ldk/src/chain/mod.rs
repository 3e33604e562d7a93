//! Where blocks come from and transactions go: bitcoind or Esplora behind one handle.
//!
//! [`Chain::start`] checks that the source is there, lets us in and serves the configured network. [`Chain::sync_to_tip`] brings
//! every listener from its own last block to the tip, once at start-up. [`Chain::run`] then follows the chain, sends what LDK
//! broadcasts, refreshes fee rates and answers gossip lookups, all in the one future that the caller owns: when it is
//! canceled nothing is left behind.

mod bitcoind;
mod error;
mod esplora;
mod fees;
mod gossip;
mod rpc;

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bitcoin::blockdata::constants::genesis_block;
use bitcoin::{FeeRate, Network, Transaction};
use futures::StreamExt;
use lightning::chain::chaininterface::{BroadcasterInterface, ConfirmationTarget, FeeEstimator};
use lightning::chain::{BestBlock, Confirm, Filter, Listen};
use lightning_block_sync::poll::ValidatedBlockHeader;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;
use units::Height;

use self::bitcoind::Bitcoind;
use self::esplora::Esplora;
use self::fees::FeeTable;
use self::gossip::Check;
use crate::logger::TracingLogger;
use crate::wallet::Wallet;

pub use self::error::ChainError;
pub use self::gossip::{Gossip, UtxoCheck};

type Result<T> = std::result::Result<T, ChainError>;

/// Packages that LDK broadcasts faster than the source takes them. One more is dropped with an error in the log: LDK repeats
/// what matters with every block.
const MAX_WAITING_PACKAGES: usize = 1_000;
const FEE_REFRESH: Duration = Duration::from_secs(60);
/// While the source is away we ask less and less often: the poll interval doubled up to 16-fold, at most this.
const MAX_BACK_OFF: Duration = Duration::from_secs(60);
/// How long a stopping node tries to hand over what LDK broadcast last.
const DRAIN: Duration = Duration::from_secs(5);

/// Which source, and how often to ask it.
#[derive(Clone)]
pub enum ChainConfig {
    /// bitcoind's JSON-RPC, version 26 or newer for package relay.
    Bitcoind {
        /// `http://host:port`, with a path for a proxy if need be.
        url: String,
        /// RPC user.
        user: String,
        /// RPC password.
        password: String,
        /// Time between two looks at the tip; 2 s is plenty.
        poll: Duration,
    },
    /// An Esplora server.
    Esplora {
        /// Base URL, `https://host/api`.
        url: String,
        /// Time between two looks at the tip; be kind to public servers: 30 s or more.
        poll: Duration,
    },
}

impl fmt::Debug for ChainConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ChainConfig::Bitcoind { url, poll, .. } => write!(f, "bitcoind at {}, every {poll:?}", error::shown(url)),
            ChainConfig::Esplora { url, poll } => write!(f, "Esplora at {}, every {poll:?}", error::shown(url)),
        }
    }
}

/// Something that follows the chain and knows the last block it has seen.
pub struct Follower {
    name: &'static str,
    last_block: Box<dyn Fn() -> BestBlock + Send + Sync>,
    listen: Arc<dyn Listen + Send + Sync>,
    confirm: Option<Arc<dyn Confirm + Send + Sync>>,
}

impl Follower {
    /// The channel manager or the sweeper: `Follower::new("channel manager", manager.clone(), |m| m.current_best_block())`.
    pub fn new<T>(
        name: &'static str,
        it: Arc<T>,
        last_block: impl Fn(&T) -> BestBlock + Send + Sync + 'static,
    ) -> Follower
    where
        T: Listen + Confirm + Send + Sync + 'static,
    {
        let asked = it.clone();
        let last_block = Box::new(move || last_block(&asked));
        Follower { name, last_block, listen: it.clone(), confirm: Some(it) }
    }

    /// A channel monitor that is not yet in the chain monitor:
    /// `Follower::monitor(Arc::new((monitor, chain, chain, logger)), |m| m.0.current_best_block())`.
    pub fn monitor<T>(it: Arc<T>, last_block: impl Fn(&T) -> BestBlock + Send + Sync + 'static) -> Follower
    where
        T: Listen + Send + Sync + 'static,
    {
        let asked = it.clone();
        let last_block = Box::new(move || last_block(&asked));
        Follower { name: "channel monitor", last_block, listen: it, confirm: None }
    }
}

/// LDK's chain monitor: it has no last block of its own, its monitors do.
pub trait MonitorSet: Listen + Confirm + Send + Sync {}
impl<T: Listen + Confirm + Send + Sync> MonitorSet for T {}

/// Who is told of blocks.
pub struct Listeners {
    /// The channel manager.
    pub manager: Follower,
    /// The output sweeper.
    pub sweeper: Follower,
    /// The chain monitor with the channel monitors in it.
    pub monitors: Arc<dyn MonitorSet>,
    /// The on-chain wallet.
    pub wallet: Wallet,
}

impl Listeners {
    fn confirmables(&self) -> Vec<Arc<dyn Confirm + Send + Sync>> {
        let followers = [&self.manager, &self.sweeper].into_iter().filter_map(|f| f.confirm.clone());
        let monitors: Arc<dyn Confirm + Send + Sync> = self.monitors.clone();
        followers.chain([monitors]).collect()
    }
}

/// Whether the source is with us.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ChainStatus {
    /// [`Chain::run`] has not yet looked.
    Starting,
    /// The last look succeeded.
    Following,
    /// The last look failed, and so did all since then.
    Lost {
        /// Why, in one line.
        why: String,
    },
}

/// A handle on the chain source; clones are the same source.
#[derive(Clone)]
pub struct Chain(Arc<Inner>);

struct Inner {
    network: Network,
    poll: Duration,
    source: Source,
    fees: FeeTable,
    outbox: mpsc::Sender<Vec<Transaction>>,
    utxo: Arc<UtxoCheck>,
    status: watch::Sender<ChainStatus>,
    /// Taken by `run` for as long as it runs.
    inboxes: Mutex<Option<Inboxes>>,
}

struct Inboxes {
    packages: mpsc::Receiver<Vec<Transaction>>,
    checks: mpsc::Receiver<Check>,
}

enum Source {
    Bitcoind(Box<Bitcoind>),
    Esplora(Box<Esplora>),
}

impl Chain {
    /// Reaches the source, compares its genesis block with the configured network's and fetches first fee rates, without which
    /// a node does not start on mainnet.
    pub async fn start(config: ChainConfig, network: Network, logger: Arc<TracingLogger>) -> Result<Chain> {
        let (source, poll) = match &config {
            ChainConfig::Bitcoind { url, user, password, poll } => {
                (Source::Bitcoind(Box::new(Bitcoind::new(url, user, password, network)?)), *poll)
            }
            ChainConfig::Esplora { url, poll } => (Source::Esplora(Box::new(Esplora::new(url, logger)?)), *poll),
        };
        let genesis = match &source {
            Source::Bitcoind(bitcoind) => bitcoind.rpc.block_hash(0).await?,
            Source::Esplora(esplora) => esplora.block_hash(0).await?,
        };
        let expected = genesis_block(network).block_hash();
        if genesis != Some(expected) {
            let known = [Network::Bitcoin, Network::Testnet, Network::Testnet4, Network::Signet, Network::Regtest];
            let named = known.into_iter().find(|n| Some(genesis_block(*n).block_hash()) == genesis);
            let served = match (named, genesis) {
                (Some(name), _) => name.to_string(),
                (None, Some(hash)) => format!("an unknown chain that starts with {hash}"),
                (None, None) => "no genesis block".to_owned(),
            };
            return Err(ChainError::WrongNetwork { configured: network, served });
        }
        let (outbox, packages) = mpsc::channel(MAX_WAITING_PACKAGES);
        let (utxo, checks) = UtxoCheck::new(network);
        let chain = Chain(Arc::new(Inner {
            network,
            poll,
            source,
            fees: FeeTable::new(),
            outbox,
            utxo: Arc::new(utxo),
            status: watch::Sender::new(ChainStatus::Starting),
            inboxes: Mutex::new(Some(Inboxes { packages, checks })),
        }));
        chain.first_fees().await?;
        tracing::info!(source = ?config, %network, "chain source reached");
        Ok(chain)
    }

    async fn first_fees(&self) -> Result<()> {
        let missing = match self.refresh_fees().await {
            Ok(true) => return Ok(()),
            Ok(false) => "too few blocks seen".to_owned(),
            Err(error) => error.to_string(),
        };
        if fees::estimate_required(self.0.network) {
            return Err(ChainError::NoFeeEstimate(missing));
        }
        tracing::debug!(missing, "no fee estimate yet, standing rates are used");
        Ok(())
    }

    /// The network that the source was checked against.
    pub fn network(&self) -> Network {
        self.0.network
    }

    /// The tip as the source sees it now.
    pub async fn best_block(&self) -> Result<BestBlock> {
        match &self.0.source {
            Source::Bitcoind(bitcoind) => {
                let (hash, height) = bitcoind.rpc.best_block().await?;
                Ok(BestBlock::new(hash, height))
            }
            Source::Esplora(esplora) => esplora.best_block().await,
        }
    }

    /// The block at a height of the best chain, if the chain is that long.
    pub async fn block_at(&self, height: Height) -> Result<Option<BestBlock>> {
        let hash = match &self.0.source {
            Source::Bitcoind(bitcoind) => bitcoind.rpc.block_hash(height.0).await?,
            Source::Esplora(esplora) => esplora.block_hash(height.0).await?,
        };
        Ok(hash.map(|hash| BestBlock::new(hash, height.0)))
    }

    /// Brings every listener from its own last block to the tip. Safe to repeat after an error.
    ///
    /// `monitors` are the channel monitors as read from the store. When [`Chain::filter`] is `None` (bitcoind), hand them here
    /// and load them into the chain monitor afterwards, so that each catches up from where it was. When it is `Some`
    /// (Esplora), load them into the chain monitor before, so that it registers what to watch, and hand none here.
    pub async fn sync_to_tip(&self, listeners: &Listeners, monitors: &[Follower]) -> Result<BestBlock> {
        match &self.0.source {
            Source::Bitcoind(bitcoind) => bitcoind.sync_to_tip(listeners, monitors).await,
            Source::Esplora(esplora) => {
                esplora.sync_ldk(listeners.confirmables()).await?;
                esplora.sync_wallet(&listeners.wallet, true).await?;
                esplora.best_block().await
            }
        }
    }

    /// Follows the chain until `shutdown`, and keeps at it while the source is away. `tip` hears of a height after every
    /// listener has seen its block. Call [`Chain::sync_to_tip`] before each run. Ends with an error only when that is missing or it
    /// is running already.
    pub async fn run(
        &self,
        listeners: Listeners,
        tip: watch::Sender<Height>,
        shutdown: CancellationToken,
    ) -> Result<()> {
        let mut inboxes = lock(&self.0.inboxes).take().ok_or(ChainError::AlreadyRunning)?;
        let start = match &self.0.source {
            Source::Bitcoind(bitcoind) => bitcoind.take_tip(),
            Source::Esplora(_) => None,
        };
        if start.is_none() && self.filter().is_none() {
            *lock(&self.0.inboxes) = Some(inboxes);
            return Err(ChainError::NotSynced);
        }
        let Inboxes { packages, checks } = &mut inboxes;
        tokio::join!(
            self.follow(start, &listeners, &tip, &shutdown),
            self.send_packages(packages, &listeners.wallet, &shutdown),
            self.keep_fees_fresh(&shutdown),
            self.answer_gossip(checks, &shutdown),
        );
        *lock(&self.0.inboxes) = Some(inboxes);
        Ok(())
    }

    /// Where monitors register what to watch: only for a source that does not deliver whole blocks.
    pub fn filter(&self) -> Option<Arc<dyn Filter + Send + Sync>> {
        match &self.0.source {
            Source::Bitcoind(_) => None,
            Source::Esplora(esplora) => Some(esplora.ldk.clone()),
        }
    }

    /// The UTXO lookup for gossip: give it to `P2PGossipSync::new`, then [`UtxoCheck::attach`]. With Esplora each announced
    /// channel costs five requests: leave it out when the graph comes from a rapid gossip server.
    pub fn utxo_check(&self) -> Arc<UtxoCheck> {
        self.0.utxo.clone()
    }

    /// Whether the source is with us, as [`Chain::run`] last saw it.
    pub fn status(&self) -> watch::Receiver<ChainStatus> {
        self.0.status.subscribe()
    }

    /// The current fee rate for a purpose, never below 253 sat per 1000 weight.
    pub fn fee_rate(&self, target: ConfirmationTarget) -> FeeRate {
        self.0.fees.rate(target)
    }

    /// Sends one transaction, or one child with its parents in any order, and waits for the source's answer, which for a package
    /// is that on the child. What is known already is no error. [`ChainError::Unreachable`] means that it may or may not have
    /// got through.
    pub async fn broadcast(&self, transactions: &[Transaction]) -> Result<()> {
        let sorted = parents_first(transactions);
        if sorted.len() > 1 {
            let taken = match &self.0.source {
                Source::Bitcoind(bitcoind) => bitcoind.send_package(&sorted).await,
                Source::Esplora(esplora) => esplora.send_package(&sorted).await,
            };
            match taken {
                Ok(true) => return Ok(()),
                // Without package relay, or when a parent was mined a moment ago, the child may still get in alone.
                Ok(false) | Err(ChainError::TransactionRefused { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        let mut last = Ok(());
        for transaction in &sorted {
            last = match &self.0.source {
                Source::Bitcoind(bitcoind) => bitcoind.rpc.send(transaction).await,
                Source::Esplora(esplora) => esplora.send(transaction).await,
            };
            match last {
                Ok(()) | Err(ChainError::TransactionRefused { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        last
    }

    /// Asks the source for fee rates. `Ok(false)`: it answers, but has too few estimates.
    async fn refresh_fees(&self) -> Result<bool> {
        let estimates = match &self.0.source {
            Source::Bitcoind(bitcoind) => bitcoind.estimates().await?,
            Source::Esplora(esplora) => esplora.estimates().await?,
        };
        self.0.fees.update(&estimates);
        Ok(estimates.suffices())
    }

    async fn keep_fees_fresh(&self, shutdown: &CancellationToken) {
        while pause(FEE_REFRESH, shutdown).await {
            if let Err(error) = self.refresh_fees().await {
                tracing::debug!(%error, "fee rates stay as they were");
            }
        }
    }

    async fn answer_gossip(&self, checks: &mut mpsc::Receiver<Check>, shutdown: &CancellationToken) {
        let waiting = futures::stream::poll_fn(|context| checks.poll_recv(context));
        waiting
            .take_until(shutdown.cancelled())
            .for_each_concurrent(gossip::PARALLEL_CHECKS, |check| async move {
                let (place, depth) = (check.place, gossip::ANNOUNCE_DEPTH);
                let lookup = async {
                    match &self.0.source {
                        Source::Bitcoind(b) => b.rpc.output_at(place.height, place.index, place.vout, depth).await,
                        Source::Esplora(e) => e.output_at(place.height, place.index, place.vout, depth).await,
                    }
                };
                let late = |_| Err(ChainError::Protocol("the lookup took too long".into()));
                let found = tokio::time::timeout(gossip::CHECK_TIMEOUT, lookup).await.unwrap_or_else(late);
                self.0.utxo.resolve(&check, found);
            })
            .await;
    }

    async fn send_packages(
        &self,
        packages: &mut mpsc::Receiver<Vec<Transaction>>,
        wallet: &Wallet,
        shutdown: &CancellationToken,
    ) {
        loop {
            let package = tokio::select! {
                biased;
                () = shutdown.cancelled() => break,
                package = packages.recv() => package,
            };
            let Some(package) = package else { return };
            let mut back_off = BackOff::new(self.0.poll);
            while !self.send_package(&package, wallet).await {
                if !pause(back_off.next(), shutdown).await {
                    break;
                }
            }
        }
        let drained = tokio::time::timeout(DRAIN, async {
            while let Ok(package) = packages.try_recv() {
                self.send_package(&package, wallet).await;
            }
        });
        if drained.await.is_err() {
            tracing::warn!(
                left = packages.len(),
                "stopping with transactions unsent; they are sent after the next start"
            );
        }
    }

    /// Whether the source has taken a decision on the package.
    async fn send_package(&self, package: &[Transaction], wallet: &Wallet) -> bool {
        let txids: Vec<_> = package.iter().map(Transaction::compute_txid).collect();
        match self.broadcast(package).await {
            Ok(()) => {
                tracing::debug!(?txids, "broadcast");
                wallet.seen_in_mempool(package);
                true
            }
            // LDK at times broadcasts two that exclude each other; the log of what was refused is for who debugs.
            Err(error @ ChainError::TransactionRefused { .. }) => {
                tracing::debug!(?txids, %error, "not broadcast");
                true
            }
            Err(error) => {
                tracing::warn!(?txids, %error, "broadcast is tried again");
                !error.is_transient()
            }
        }
    }

    async fn follow(
        &self,
        start: Option<ValidatedBlockHeader>,
        listeners: &Listeners,
        tip: &watch::Sender<Height>,
        shutdown: &CancellationToken,
    ) {
        match (&self.0.source, start) {
            (Source::Bitcoind(bitcoind), Some(start)) => bitcoind.follow(self, start, listeners, tip, shutdown).await,
            (Source::Bitcoind(_), None) => {}
            (Source::Esplora(esplora), _) => self.follow_esplora(esplora, listeners, tip, shutdown).await,
        }
    }

    async fn follow_esplora(
        &self,
        esplora: &Esplora,
        listeners: &Listeners,
        tip: &watch::Sender<Height>,
        shutdown: &CancellationToken,
    ) {
        let mut seen = None;
        let mut pace = Pace::new(self);
        loop {
            let look = async {
                let best = esplora.best_block().await?;
                let moved = seen != Some(best.block_hash);
                esplora.sync_ldk(listeners.confirmables()).await?;
                esplora.sync_wallet(&listeners.wallet, moved).await?;
                if moved {
                    tip.send_replace(Height(best.height));
                    self.repeat_own(&listeners.wallet).await;
                }
                Ok(best.block_hash)
            };
            let looked = tokio::select! {
                looked = look => looked,
                () = shutdown.cancelled() => return,
            };
            if let Ok(hash) = looked {
                seen = Some(hash);
            }
            if !pause(pace.after(looked.map(|_| ())), shutdown).await {
                return;
            }
        }
    }

    /// Sends again what the wallet sent and nobody mined yet: mempools forget.
    async fn repeat_own(&self, wallet: &Wallet) {
        for transaction in wallet.unconfirmed_own() {
            if let Err(error) = self.broadcast(std::slice::from_ref(&transaction)).await {
                tracing::debug!(txid = %transaction.compute_txid(), %error, "own transaction not repeated");
            }
        }
    }
}

impl FeeEstimator for Chain {
    fn get_est_sat_per_1000_weight(&self, target: ConfirmationTarget) -> u32 {
        self.0.fees.get(target)
    }
}

impl BroadcasterInterface for Chain {
    fn broadcast_transactions(&self, transactions: &[&Transaction]) {
        let package: Vec<Transaction> = transactions.iter().copied().cloned().collect();
        if package.is_empty() {
            return;
        }
        if let Err(error) = self.0.outbox.try_send(package) {
            tracing::error!(%error, "broadcast queue is full, a package is dropped until LDK repeats it");
        }
    }
}

/// The wait after a look at the tip, and one line in the log when the source goes and one when it is back.
struct Pace<'a> {
    chain: &'a Chain,
    lost: Option<BackOff>,
}

impl Pace<'_> {
    fn new(chain: &Chain) -> Pace<'_> {
        Pace { chain, lost: None }
    }

    fn after(&mut self, look: Result<()>) -> Duration {
        let inner = &self.chain.0;
        match look {
            Ok(()) => {
                if self.lost.take().is_some() {
                    tracing::info!("chain source is back");
                }
                inner.status.send_replace(ChainStatus::Following);
                inner.poll
            }
            Err(error) => {
                let why = error.to_string();
                match &self.lost {
                    None => tracing::warn!(why, "chain source lost; trying again and again"),
                    Some(_) => tracing::debug!(why, "chain source still lost"),
                }
                inner.status.send_replace(ChainStatus::Lost { why });
                self.lost.get_or_insert_with(|| BackOff::new(inner.poll)).next()
            }
        }
    }
}

struct BackOff {
    next: Duration,
    most: Duration,
}

impl BackOff {
    fn new(poll: Duration) -> BackOff {
        BackOff { next: poll, most: (poll * 16).min(MAX_BACK_OFF).max(poll) }
    }

    fn next(&mut self) -> Duration {
        let wait = self.next;
        self.next = (wait * 2).min(self.most);
        wait
    }
}

/// Sleeps; false when the shutdown came first.
async fn pause(time: Duration, shutdown: &CancellationToken) -> bool {
    tokio::select! {
        biased;
        () = shutdown.cancelled() => false,
        () = tokio::time::sleep(time) => true,
    }
}

/// The same transactions, each after those whose outputs it spends. LDK promises no order.
fn parents_first(transactions: &[Transaction]) -> Vec<Transaction> {
    let mut left: Vec<&Transaction> = transactions.iter().collect();
    let mut sorted = Vec::with_capacity(left.len());
    while !left.is_empty() {
        let waiting: Vec<_> = left.iter().map(|t| t.compute_txid()).collect();
        let free = |t: &&Transaction| !t.input.iter().any(|i| waiting.contains(&i.previous_output.txid));
        let (ready, rest): (Vec<_>, Vec<_>) = left.into_iter().partition(free);
        // A hash cycle cannot exist, so some transaction is always free.
        sorted.extend(ready.into_iter().cloned());
        left = rest;
    }
    sorted
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

//! bitcoind as the chain source: whole blocks for everybody, and its mempool for the wallet.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use bitcoin::block::{Block, Header};
use bitcoin::{BlockHash, Network, Transaction, Txid};
use lightning::chain::transaction::TransactionData;
use lightning::chain::{BestBlock, Listen};
use lightning_block_sync::init::synchronize_listeners;
use lightning_block_sync::poll::{ChainPoller, ChainTip, ValidatedBlockHeader};
use lightning_block_sync::{AsyncBlockSourceResult, BlockData, BlockHeaderData, BlockSource, Cache, SpvClient};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use units::Height;

use super::error::ChainError;
use super::fees::{Estimates, HORIZONS};
use super::rpc::Rpc;
use super::{Chain, Follower, Listeners, Pace, lock, pause};
use crate::wallet::Wallet;

/// Headers kept for disconnecting blocks: two weeks.
const MAX_CACHED_HEADERS: usize = 2_016;
/// The mempool is looked at with every this many-th look at the tip.
const MEMPOOL_EVERY: u32 = 5;
/// The most new mempool transactions that are fetched at once; the rest is seen when it confirms.
const MAX_MEMPOOL_FETCH: usize = 500;

/// One bitcoind.
pub(super) struct Bitcoind {
    pub(super) rpc: Rpc,
    network: Network,
    /// Where `sync_to_tip` ended and `follow` starts.
    tip: Mutex<Option<ValidatedBlockHeader>>,
    without_packages: AtomicBool,
}

impl Bitcoind {
    pub(super) fn new(url: &str, user: &str, password: &str, network: Network) -> Result<Bitcoind, ChainError> {
        let rpc = Rpc::new(url, user, password)?;
        Ok(Bitcoind { rpc, network, tip: Mutex::new(None), without_packages: AtomicBool::new(false) })
    }

    pub(super) async fn estimates(&self) -> Result<Estimates, ChainError> {
        let mut estimates = Estimates { minimum: self.rpc.mempool_minimum().await?, ..Estimates::default() };
        for (blocks, slot) in HORIZONS.into_iter().zip(&mut estimates.by_horizon) {
            *slot = self.rpc.fee_rate(blocks, blocks == 1).await?;
        }
        Ok(estimates)
    }

    /// Hands over a child with its parents, parents first. `Ok(false)`: this bitcoind takes no packages.
    pub(super) async fn send_package(&self, sorted: &[Transaction]) -> Result<bool, ChainError> {
        if self.without_packages.load(Ordering::Relaxed) {
            return Ok(false);
        }
        let taken = self.rpc.send_package(sorted).await?;
        if !taken && !self.without_packages.swap(true, Ordering::Relaxed) {
            tracing::warn!(
                "this bitcoind has no submitpackage (it came with version 26): parents go before children, alone"
            );
        }
        Ok(taken)
    }

    pub(super) async fn sync_to_tip(
        &self,
        listeners: &Listeners,
        monitors: &[Follower],
    ) -> Result<BestBlock, ChainError> {
        let source = Remembering::new(&self.rpc);
        let wallet_from = wallet_start(&source, &listeners.wallet).await?;
        let mut all: Vec<(BlockHash, &(dyn Listen + Send + Sync))> = vec![(wallet_from, &listeners.wallet)];
        for follower in [&listeners.manager, &listeners.sweeper].into_iter().chain(monitors) {
            let last = (follower.last_block)();
            if source.header(&last.block_hash).await?.is_none() {
                let (hash, height) = (last.block_hash, last.height);
                return Err(ChainError::UnknownBlock { who: follower.name, hash, height });
            }
            all.push((last.block_hash, &*follower.listen));
        }
        let mut cache = HeaderCache::default();
        let tip = synchronize_listeners(&source, self.network, &mut cache, all).await?;
        *lock(&self.tip) = Some(tip);
        listeners.wallet.persist().map_err(|error| ChainError::Wallet(error.to_string()))?;
        Ok(tip.to_best_block())
    }

    /// The block that [`Bitcoind::follow`] starts after; taken, so that each run follows a sync of its own.
    pub(super) fn take_tip(&self) -> Option<ValidatedBlockHeader> {
        lock(&self.tip).take()
    }

    pub(super) async fn follow(
        &self,
        chain: &Chain,
        start: ValidatedBlockHeader,
        listeners: &Listeners,
        tip: &watch::Sender<Height>,
        shutdown: &CancellationToken,
    ) {
        let fan = Fan { listeners, height: AtomicU32::new(start.height) };
        let mut cache = HeaderCache::default();
        let poller = ChainPoller::new(&self.rpc, self.network);
        let mut client = SpvClient::new(start, poller, &mut cache, &fan);
        let mut mempool = MempoolWatch::default();
        let mut pace = Pace::new(chain);
        tip.send_replace(Height(start.height));
        for looks in 0u32.. {
            let look = async {
                let moved = match client.poll_best_tip().await? {
                    (ChainTip::Better(_), false) => {
                        return Err(ChainError::Protocol("a better tip whose blocks could not be fetched".into()));
                    }
                    (_, moved) => moved,
                };
                if moved {
                    listeners.wallet.persist().map_err(|error| ChainError::Wallet(error.to_string()))?;
                    tip.send_replace(Height(fan.height.load(Ordering::Relaxed)));
                }
                if moved || looks.is_multiple_of(MEMPOOL_EVERY) {
                    mempool.look(&self.rpc, &listeners.wallet).await?;
                }
                if moved {
                    chain.repeat_own(&listeners.wallet).await;
                }
                Ok(())
            };
            // Stopping in the middle is safe: nothing waits between a block's first listener and its last.
            let looked = tokio::select! {
                looked = look => looked,
                () = shutdown.cancelled() => return,
            };
            if !pause(pace.after(looked), shutdown).await {
                return;
            }
        }
    }
}

/// The newest block of the wallet that bitcoind has heard of, in its best chain or not.
async fn wallet_start(source: &Remembering<'_>, wallet: &Wallet) -> Result<BlockHash, ChainError> {
    for block in wallet.checkpoints() {
        if source.header(&block.block_hash).await?.is_some() {
            return Ok(block.block_hash);
        }
    }
    let tip = wallet.last_block();
    Err(ChainError::UnknownBlock { who: "wallet", hash: tip.block_hash, height: tip.height })
}

/// Asks bitcoind for each header once: catching up, every listener walks back from the same tip. Headers never change.
struct Remembering<'a> {
    rpc: &'a Rpc,
    headers: Mutex<HashMap<BlockHash, BlockHeaderData>>,
}

impl Remembering<'_> {
    fn new(rpc: &Rpc) -> Remembering<'_> {
        Remembering { rpc, headers: Mutex::default() }
    }

    async fn header(&self, hash: &BlockHash) -> Result<Option<BlockHeaderData>, ChainError> {
        let known = lock(&self.headers).get(hash).copied();
        if known.is_some() {
            return Ok(known);
        }
        let found = self.rpc.header(hash).await?;
        if let Some(header) = found {
            lock(&self.headers).insert(*hash, header);
        }
        Ok(found)
    }
}

impl BlockSource for Remembering<'_> {
    fn get_header<'a>(
        &'a self,
        hash: &'a BlockHash,
        _height: Option<u32>,
    ) -> AsyncBlockSourceResult<'a, BlockHeaderData> {
        Box::pin(async move {
            let header = self.header(hash).await?;
            Ok(header.ok_or_else(|| ChainError::Protocol(format!("block {hash} is unknown")))?)
        })
    }

    fn get_block<'a>(&'a self, hash: &'a BlockHash) -> AsyncBlockSourceResult<'a, BlockData> {
        self.rpc.get_block(hash)
    }

    fn get_best_block(&self) -> AsyncBlockSourceResult<'_, (BlockHash, Option<u32>)> {
        self.rpc.get_best_block()
    }
}

/// Gives each block to everybody, the wallet first: the others may ask it for coins and scripts.
struct Fan<'a> {
    listeners: &'a Listeners,
    height: AtomicU32,
}

impl Fan<'_> {
    fn each(&self) -> [&dyn Listen; 4] {
        let Listeners { manager, sweeper, monitors, wallet } = self.listeners;
        [wallet, &**monitors, &*manager.listen, &*sweeper.listen]
    }
}

impl Listen for Fan<'_> {
    fn filtered_block_connected(&self, header: &Header, txdata: &TransactionData<'_>, height: u32) {
        self.each().into_iter().for_each(|listener| listener.filtered_block_connected(header, txdata, height));
        self.height.store(height, Ordering::Relaxed);
    }

    fn block_connected(&self, block: &Block, height: u32) {
        self.each().into_iter().for_each(|listener| listener.block_connected(block, height));
        self.height.store(height, Ordering::Relaxed);
    }

    fn blocks_disconnected(&self, fork_point: BestBlock) {
        tracing::info!(height = fork_point.height, "blocks disconnected: reorganisation");
        self.each().into_iter().for_each(|listener| listener.blocks_disconnected(fork_point));
        self.height.store(fork_point.height, Ordering::Relaxed);
    }
}

/// The newest headers, so that blocks can be disconnected even when bitcoind has forgotten them.
#[derive(Default)]
struct HeaderCache {
    headers: HashMap<BlockHash, ValidatedBlockHeader>,
    order: VecDeque<BlockHash>,
}

impl Cache for HeaderCache {
    fn look_up(&self, hash: &BlockHash) -> Option<&ValidatedBlockHeader> {
        self.headers.get(hash)
    }

    fn block_connected(&mut self, hash: BlockHash, header: ValidatedBlockHeader) {
        if self.headers.insert(hash, header).is_none() {
            self.order.push_back(hash);
        }
        while self.order.len() > MAX_CACHED_HEADERS {
            if let Some(oldest) = self.order.pop_front() {
                self.headers.remove(&oldest);
            }
        }
    }

    fn block_disconnected(&mut self, hash: &BlockHash) -> Option<ValidatedBlockHeader> {
        let header = self.headers.remove(hash)?;
        self.order.retain(|known| known != hash);
        Some(header)
    }
}

/// What the mempool held at the last look.
#[derive(Default)]
struct MempoolWatch {
    known: HashSet<Txid>,
}

impl MempoolWatch {
    /// Shows the wallet what is new in the mempool, and what of its own is there no more.
    async fn look(&mut self, rpc: &Rpc, wallet: &Wallet) -> Result<(), ChainError> {
        let now: HashSet<Txid> = rpc.mempool().await?.into_iter().collect();
        let new: Vec<Txid> = now.difference(&self.known).take(MAX_MEMPOOL_FETCH).copied().collect();
        let mut transactions = Vec::with_capacity(new.len());
        for txid in &new {
            transactions.extend(rpc.mempool_transaction(txid).await?);
        }
        wallet.seen_in_mempool(&transactions);
        wallet.gone_from_mempool(|txid| !now.contains(txid));
        self.known = now;
        Ok(())
    }
}

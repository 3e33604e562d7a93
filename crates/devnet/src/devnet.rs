//! The running network: servers, miner, block file, and the verbs for whoever runs it in-process.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bitcoin::{Address, Amount, Block, BlockHash, Network, ScriptBuf, Transaction, Txid};
use tokio::sync::watch;
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;
use units::{Height, Sat, Unix};

use crate::error::{BlockError, TxError};
use crate::esplora::Esplora;
use crate::faucet::FaucetError;
use crate::http;
use crate::package::{Outcome, PackageError};
use crate::policy::Policy;
use crate::regtest::{MAX_MINE, Regtest, Tip};
use crate::rpc::Rpc;
use crate::store::{Store, StoreError};

/// Where the time comes from.
pub type Clock = Arc<dyn Fn() -> Unix + Send + Sync>;

/// When blocks are found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mining {
    /// Only when asked.
    #[default]
    OnDemand,
    /// Always after this time.
    Every(Duration),
    /// This long after a transaction came into the mempool, so that those that come together share a block.
    WhenWaiting(Duration),
}

/// How to run a devnet. `Config::default()` keeps everything in memory, on free ports of the loopback.
#[derive(Clone)]
pub struct Config {
    /// Where JSON-RPC listens; port 0 for any.
    pub rpc_addr: SocketAddr,
    /// Where Esplora listens; port 0 for any.
    pub esplora_addr: SocketAddr,
    /// JSON-RPC user.
    pub rpc_user: String,
    /// JSON-RPC password.
    pub rpc_password: String,
    /// Fees.
    pub policy: Policy,
    /// When blocks are found.
    pub mining: Mining,
    /// The chain is at least this high when `start` returns. The faucet can spend from 101 on, and has
    /// `premine - 100` coins of 50 BTC (up to 150, the first halving).
    pub premine: u32,
    /// Where the block file is kept; none for memory only. The mempool is not kept.
    pub data_dir: Option<PathBuf>,
    /// Where the time comes from.
    pub clock: Clock,
}

impl Default for Config {
    fn default() -> Self {
        let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        Config {
            rpc_addr: any,
            esplora_addr: any,
            rpc_user: "devnet".into(),
            rpc_password: "devnet".into(),
            policy: Policy::default(),
            mining: Mining::OnDemand,
            premine: 130,
            data_dir: None,
            clock: Arc::new(|| Unix(SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs()))),
        }
    }
}

/// Why the devnet could not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum DevnetError {
    /// A port could not be bound.
    #[error("cannot listen on {addr}: {error}")]
    Listen {
        /// The address.
        addr: SocketAddr,
        /// What the system said.
        error: std::io::Error,
    },
    /// The block file.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A block in the file does not validate.
    #[error("block file, record {record}: {error}")]
    Replay {
        /// Index of the record.
        record: usize,
        /// What is wrong.
        error: BlockError,
    },
    /// A block was refused.
    #[error(transparent)]
    Block(#[from] BlockError),
    /// A transaction was refused.
    #[error(transparent)]
    Tx(#[from] TxError),
    /// A package was refused.
    #[error(transparent)]
    Package(#[from] PackageError),
    /// The faucet did not pay.
    #[error(transparent)]
    Faucet(#[from] FaucetError),
    /// The address is not for regtest.
    #[error("the address is not a regtest address")]
    WrongNetwork,
    /// More blocks than one call may mine.
    #[error("at most {MAX_MINE} blocks at a time")]
    TooManyBlocks,
    /// The devnet was shut down.
    #[error("the devnet was shut down")]
    Stopped,
}

/// The state that servers, miner and caller share.
pub(crate) struct Shared {
    state: Mutex<State>,
    tip: watch::Sender<Tip>,
    arrivals: watch::Sender<u64>,
    clock: Clock,
    pub(crate) started: Unix,
}

struct State {
    regtest: Regtest,
    store: Option<Store>,
}

impl Shared {
    /// Looks at the state or changes it, with the time. What changed for good is on disk when this returns, and then the
    /// subscribers hear of it. An error means the disk refused; the chain in memory has moved on nevertheless.
    pub(crate) fn with<T>(&self, work: impl FnOnce(&mut Regtest, Unix) -> T) -> Result<T, StoreError> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let outcome = work(&mut state.regtest, (self.clock)());
        let records = state.regtest.take_records();
        let stored = match &mut state.store {
            Some(store) if !records.is_empty() => store.append(&records).map_err(StoreError::from),
            _ => Ok(()),
        };
        let tip = state.regtest.tip();
        self.tip.send_if_modified(|old| std::mem::replace(old, tip) != tip);
        let sequence = state.regtest.mempool().sequence();
        self.arrivals.send_if_modified(|old| std::mem::replace(old, sequence) != sequence);
        drop(state);
        stored.map(|()| outcome)
    }

    /// Mines `blocks` to `payee`, or to the faucet.
    pub(crate) fn mine(&self, blocks: u32, payee: Option<ScriptBuf>) -> Result<Vec<BlockHash>, DevnetError> {
        if blocks > MAX_MINE {
            return Err(DevnetError::TooManyBlocks);
        }
        let mined = self.with(|regtest, now| {
            let payee = payee.unwrap_or_else(|| regtest.faucet().script().clone());
            (0..blocks).map(|_| regtest.mine(payee.clone(), now)).collect::<Result<Vec<_>, _>>()
        })?;
        Ok(mined?)
    }
}

/// A running regtest network. Clones share it; it stops when [`Devnet::shutdown`] is called or the last clone is dropped.
#[derive(Clone)]
pub struct Devnet {
    shared: Arc<Shared>,
    rpc_addr: SocketAddr,
    esplora_addr: SocketAddr,
    rpc_user: String,
    rpc_password: String,
    mining: watch::Sender<Mining>,
    tasks: TaskTracker,
    stop: CancellationToken,
    /// Stops everything when the last clone goes.
    _guard: Arc<DropGuard>,
}

impl Devnet {
    /// Replays the block file if there is one, mines up to `premine`, and starts servers and miner.
    pub async fn start(config: Config) -> Result<Devnet, DevnetError> {
        let clock = Arc::clone(&config.clock);
        let shared = blocking(move || Shared::open(config.data_dir, config.policy, config.premine, clock)).await??;
        let shared = Arc::new(shared);
        let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
        let guard = Arc::new(stop.clone().drop_guard());
        let rpc = Arc::new(Rpc::new(Arc::clone(&shared), &config.rpc_user, &config.rpc_password));
        let listen = |addr| move |error| DevnetError::Listen { addr, error };
        let rpc_addr =
            http::serve(config.rpc_addr, rpc, &tasks, stop.clone()).await.map_err(listen(config.rpc_addr))?;
        let esplora = Arc::new(Esplora::new(Arc::clone(&shared)));
        let esplora_addr = http::serve(config.esplora_addr, esplora, &tasks, stop.clone())
            .await
            .map_err(listen(config.esplora_addr))?;
        let (mining, modes) = watch::channel(config.mining);
        tasks.spawn(run_miner(Arc::clone(&shared), modes, stop.clone()));
        let (rpc_user, rpc_password) = (config.rpc_user, config.rpc_password);
        Ok(Devnet { shared, rpc_addr, esplora_addr, rpc_user, rpc_password, mining, tasks, stop, _guard: guard })
    }

    /// Where JSON-RPC listens.
    pub fn rpc_addr(&self) -> SocketAddr {
        self.rpc_addr
    }

    /// Base URL of the JSON-RPC server, without credentials.
    pub fn rpc_url(&self) -> String {
        format!("http://{}", self.rpc_addr)
    }

    /// JSON-RPC user.
    pub fn rpc_user(&self) -> &str {
        &self.rpc_user
    }

    /// JSON-RPC password.
    pub fn rpc_password(&self) -> &str {
        &self.rpc_password
    }

    /// Base URL of the Esplora server, without a slash at the end.
    pub fn esplora_url(&self) -> String {
        format!("http://{}", self.esplora_addr)
    }

    /// Mines `blocks` to the faucet and returns their hashes, lowest first. At most [`MAX_MINE`].
    pub async fn mine(&self, blocks: u32) -> Result<Vec<BlockHash>, DevnetError> {
        self.mine_to_script(blocks, None).await
    }

    /// Mines `blocks` to a regtest address.
    pub async fn mine_to(&self, blocks: u32, address: &Address) -> Result<Vec<BlockHash>, DevnetError> {
        self.mine_to_script(blocks, Some(regtest_script(address)?)).await
    }

    async fn mine_to_script(&self, blocks: u32, payee: Option<ScriptBuf>) -> Result<Vec<BlockHash>, DevnetError> {
        self.running()?;
        let shared = Arc::clone(&self.shared);
        blocking(move || shared.mine(blocks, payee)).await?
    }

    /// Pays `amount` from the faucet to a regtest address. The payment waits in the mempool until a block is mined.
    pub async fn fund(&self, address: &Address, amount: Sat) -> Result<Txid, DevnetError> {
        let (script, amount) = (regtest_script(address)?, Amount::from_sat(amount.0));
        Ok(self.with(move |regtest, now| regtest.fund(script, amount, now)).await??)
    }

    /// Replaces the last `depth` blocks by `depth + 1` empty ones; see [`Regtest::reorg`].
    pub async fn reorg(&self, depth: u32) -> Result<(), DevnetError> {
        Ok(self.with(move |regtest, now| regtest.reorg(depth, now)).await??)
    }

    /// Sends a transaction to the mempool.
    pub async fn submit(&self, tx: Transaction) -> Result<Txid, DevnetError> {
        Ok(self.with(move |regtest, now| regtest.submit(tx, now)).await??.txid)
    }

    /// Sends a child with its parents to the mempool.
    pub async fn submit_package(&self, txs: Vec<Transaction>) -> Result<Vec<Outcome>, DevnetError> {
        Ok(self.with(move |regtest, now| regtest.submit_package(txs, now)).await??)
    }

    /// Sends a block.
    pub async fn submit_block(&self, block: Block) -> Result<(), DevnetError> {
        Ok(self.with(move |regtest, now| regtest.submit_block(block, now)).await??)
    }

    /// Looks at the state, or changes it, while everybody else waits.
    pub async fn with<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Regtest, Unix) -> T + Send + 'static,
    ) -> Result<T, DevnetError> {
        self.running()?;
        let shared = Arc::clone(&self.shared);
        Ok(blocking(move || shared.with(work)).await??)
    }

    fn running(&self) -> Result<(), DevnetError> {
        if self.stop.is_cancelled() { Err(DevnetError::Stopped) } else { Ok(()) }
    }

    /// The best block.
    pub fn tip(&self) -> Tip {
        *self.shared.tip.borrow()
    }

    /// Height of the best block.
    pub fn height(&self) -> Height {
        self.tip().height
    }

    /// Ids of the waiting transactions in order of arrival.
    pub async fn mempool(&self) -> Result<Vec<Txid>, DevnetError> {
        self.with(|regtest, _| regtest.mempool().entries().iter().map(|entry| entry.txid).collect()).await
    }

    /// Follows the best block. Steps may be skipped, the latest is always seen.
    pub fn tip_changes(&self) -> watch::Receiver<Tip> {
        self.shared.tip.subscribe()
    }

    /// Follows a number that grows with every transaction that comes into the mempool.
    pub fn arrivals(&self) -> watch::Receiver<u64> {
        self.shared.arrivals.subscribe()
    }

    /// Waits until the chain is at least `height` high.
    pub async fn wait_for_height(&self, height: Height) -> Result<(), DevnetError> {
        let mut tips = self.tip_changes();
        tokio::select! {
            reached = tips.wait_for(|tip| tip.height >= height) => reached.map(|_| ()).map_err(|_| DevnetError::Stopped),
            () = self.stop.cancelled() => Err(DevnetError::Stopped),
        }
    }

    /// Waits until a transaction is in the mempool or in a block.
    pub async fn wait_for_tx(&self, txid: Txid) -> Result<(), DevnetError> {
        let (mut arrivals, mut tips) = (self.arrivals(), self.tip_changes());
        loop {
            let known = self.with(move |regtest, _| {
                regtest.mempool().get(&txid).is_some() || regtest.chain().position(&txid).is_some()
            });
            if known.await? {
                return Ok(());
            }
            tokio::select! {
                changed = arrivals.changed() => changed.map_err(|_| DevnetError::Stopped)?,
                changed = tips.changed() => changed.map_err(|_| DevnetError::Stopped)?,
                () = self.stop.cancelled() => return Err(DevnetError::Stopped),
            }
        }
    }

    /// Changes when blocks are found.
    pub fn set_mining(&self, mining: Mining) {
        self.mining.send_replace(mining);
    }

    /// Stops miner and servers, waits until they have answered what they were asked, and closes the block file, in which
    /// every block is durable already. Whatever is asked of the devnet afterwards is refused.
    pub async fn shutdown(&self) {
        self.stop.cancel();
        self.tasks.close();
        self.tasks.wait().await;
        self.shared.state.lock().unwrap_or_else(PoisonError::into_inner).store = None;
    }
}

impl Shared {
    fn open(data_dir: Option<PathBuf>, policy: Policy, premine: u32, clock: Clock) -> Result<Shared, DevnetError> {
        let mut regtest = Regtest::new(policy);
        let mut store = None;
        let started = clock();
        if let Some(dir) = data_dir {
            let (opened, records) = Store::open(&dir)?;
            for (index, record) in records.into_iter().enumerate() {
                regtest.replay(record, started).map_err(|error| DevnetError::Replay { record: index, error })?;
            }
            regtest.take_records();
            store = Some(opened);
        }
        let (tip, arrivals) = (watch::Sender::new(regtest.tip()), watch::Sender::new(0));
        let shared = Shared { state: Mutex::new(State { regtest, store }), tip, arrivals, clock, started };
        let height = shared.tip.borrow().height.0;
        shared.mine(premine.saturating_sub(height), None)?;
        Ok(shared)
    }
}

fn regtest_script(address: &Address) -> Result<ScriptBuf, DevnetError> {
    let ours = address.as_unchecked().is_valid_for_network(Network::Regtest);
    if ours { Ok(address.script_pubkey()) } else { Err(DevnetError::WrongNetwork) }
}

/// Runs what may wait for a lock or a disk off the async threads.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, DevnetError> {
    tokio::task::spawn_blocking(work).await.map_err(|_| DevnetError::Stopped)
}

/// Finds blocks as the mode says until `stop`.
async fn run_miner(shared: Arc<Shared>, mut modes: watch::Receiver<Mining>, stop: CancellationToken) {
    let mut arrivals = shared.arrivals.subscribe();
    arrivals.mark_changed();
    loop {
        let mode = *modes.borrow_and_update();
        let due = async {
            match mode {
                Mining::OnDemand => std::future::pending().await,
                Mining::Every(period) => tokio::time::sleep(period).await,
                Mining::WhenWaiting(pause) => {
                    // The sender lives in `shared`, so this cannot fail while the miner runs.
                    if arrivals.changed().await.is_ok() {
                        tokio::time::sleep(pause).await;
                    }
                }
            }
        };
        tokio::select! {
            () = due => {}
            changed = modes.changed() => match changed {
                Ok(()) => {
                    arrivals.mark_changed();
                    continue;
                }
                Err(_) => return,
            },
            () = stop.cancelled() => return,
        }
        let only_if_waiting = matches!(mode, Mining::WhenWaiting(_));
        arrivals.mark_unchanged();
        let worker = Arc::clone(&shared);
        let mined = blocking(move || {
            let waiting = worker.with(|regtest, _| !regtest.mempool().is_empty())?;
            if waiting || !only_if_waiting { worker.mine(1, None).map(|_| ()) } else { Ok(()) }
        });
        if let Err(error) = mined.await.and_then(|outcome| outcome) {
            tracing::error!(%error, "could not mine a block");
        }
    }
}

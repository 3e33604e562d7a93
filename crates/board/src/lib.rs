//! The relay of a market: a complete Nostr relay (NIP-01) whose append-only log is the database.

pub mod admission;
mod ahead;
mod clients;
mod compression;
mod connection;
pub mod decisions;
mod deflate;
pub mod fuzz;
mod herald;
mod inflate;
mod intake;
pub mod live;
pub mod management;
pub mod metrics;
pub mod nip11;
pub mod nip98;
pub mod operator;
mod order;
mod origin;
mod outlet;
mod page;
pub mod policy;
mod rates;
pub mod reconcile;
mod reconciler;
mod search;
mod server;
pub mod session;
mod standing;
pub mod store;
mod strikes;
pub mod sync;
mod syncing;
mod toll;
pub mod transfer;
mod websocket;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use credential::quote::KIND_REQUEST;
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, mpsc};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use units::Unix;

pub use clients::{SubscriptionView, Traffic};
pub use origin::Proxies;

use admission::{CurrentPolicy, Policy, Ports, Rates};
use ahead::Ahead;
use clients::Clients;
use decisions::DecisionsError;
use herald::{Closing, Herald};
use intake::{Counts, Judge};
use live::Live;
use operator::{Operator, OperatorError};
use server::{Addresses, Counters, Shared};
use session::SessionLimits;
use standing::Standing;
use store::{LogStore, Opened, Store, StoreConfig, StoreError, StoreStats};

pub use syncing::SyncError;

/// What the board allows, beyond what the policy says about events.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BoardLimits {
    /// Connections at the same time.
    pub connections: usize,
    /// Connections from one address, or one network of 64 bits of IPv6; loopback addresses and proxies are exempt.
    pub connections_per_address: usize,
    /// Longest time for an HTTP head to arrive.
    pub handshake: Duration,
    /// How often a connection is pinged. After three times as long without a word it is dropped.
    pub ping: Duration,
    /// Longest time for connections to end in order when the board is shut down.
    pub drain: Duration,
    /// Longest time for a reader to take what was written.
    pub write: Duration,
    /// Bytes that may wait for one reader, besides what is being written to it.
    pub pending_bytes: usize,
    /// Events of one connection whose fate is open. It is not read from while there are so many.
    pub in_flight: usize,
    /// What a connection may ask.
    pub session: SessionLimits,
    /// Threads that check the signatures of what is imported.
    pub verify_threads: usize,
    /// Turns of stored answers at the same time.
    pub query_threads: usize,
    /// Most events in the sets of all reconciliations together: 40 bytes each.
    pub reconciled_events: usize,
}

impl Default for BoardLimits {
    fn default() -> BoardLimits {
        let cores = std::thread::available_parallelism().map_or(2, usize::from);
        BoardLimits {
            connections: 10_000,
            connections_per_address: 100,
            handshake: Duration::from_secs(10),
            ping: Duration::from_secs(30),
            drain: Duration::from_secs(10),
            write: Duration::from_secs(30),
            pending_bytes: 8 * 1024 * 1024,
            in_flight: 512,
            session: SessionLimits::default(),
            verify_threads: cores,
            query_threads: cores.max(2),
            reconciled_events: 4_000_000,
        }
    }
}

/// How a board is run.
#[derive(Clone)]
pub struct BoardConfig {
    /// Folder of log and index.
    pub data_dir: PathBuf,
    /// Where to listen. Port 0 takes a free one, see [`Board::local_addr`].
    pub listen: SocketAddr,
    /// Who is in front of it and believed about whom they speak for.
    pub proxies: Proxies,
    /// Messages are compressed for clients that offer it (permessage-deflate, RFC 7692).
    pub compression: bool,
    /// `ws://` or `wss://` addresses by which clients know the board: an answer to the challenge has to name one (NIP-42). The
    /// address that it listens on is always among them.
    pub urls: Vec<String>,
    /// Name (NIP-11).
    pub name: String,
    /// Description (NIP-11).
    pub description: String,
    /// Address of a picture (NIP-11).
    pub icon: Option<String>,
    /// The operator's key (NIP-11).
    pub pubkey: Option<[u8; 32]>,
    /// The board's own key, by which it publishes its keysets (`self` of NIP-11).
    pub own_key: Option<[u8; 32]>,
    /// Keys that may manage the board over HTTP (NIP-86).
    pub operators: Vec<[u8; 32]>,
    /// How to reach the operator (NIP-11).
    pub contact: Option<String>,
    /// What is taken, to start with.
    pub policy: Policy,
    /// Network of Bitcoin whose board it is: that of invoices and offers in market orders, unless the policy names another.
    pub network: bitcoin::Network,
    /// Limits.
    pub limits: BoardLimits,
    /// What admission asks of the rest of the house.
    pub ports: Ports,
    /// Who gets requests for credentials (kind 23250) as they come. One that has no room misses them: they are asked again.
    pub till: Option<mpsc::Sender<Arc<store::Encoded>>>,
    /// What time it is, unix seconds.
    pub clock: fn() -> Unix,
}

impl BoardConfig {
    /// A board in `data_dir` that listens on `listen`, open to everybody within the default limits.
    pub fn new(data_dir: impl Into<PathBuf>, listen: SocketAddr) -> BoardConfig {
        BoardConfig {
            data_dir: data_dir.into(),
            listen,
            proxies: Proxies::default(),
            compression: true,
            urls: Vec::new(),
            name: "Souk board".into(),
            description: "A market board: a Nostr relay for orders".into(),
            icon: None,
            pubkey: None,
            own_key: None,
            operators: Vec::new(),
            contact: None,
            policy: Policy::default(),
            network: bitcoin::Network::Bitcoin,
            limits: BoardLimits::default(),
            ports: Ports::default(),
            till: None,
            clock: system_clock,
        }
    }
}

/// The system's clock in unix seconds.
pub fn system_clock() -> Unix {
    Unix(SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs()))
}

/// The board could not be started, or failed.
#[derive(Debug, thiserror::Error)]
pub enum BoardError {
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The address cannot be listened on.
    #[error("cannot listen on {address}: {source}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// What the system said.
        source: std::io::Error,
    },
    /// What the operator decided earlier cannot be read.
    #[error(transparent)]
    Decisions(#[from] DecisionsError),
    /// A part of the board ended without an answer.
    #[error("a part of the board ended too early")]
    Gone,
}

/// Numbers about the board.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct BoardStats {
    /// Connections now.
    pub connections: u64,
    /// Live subscriptions now.
    pub subscriptions: u64,
    /// Events taken since the start.
    pub accepted: u64,
    /// Events that were known already.
    pub known: u64,
    /// Events that were refused.
    pub refused: u64,
    /// Events that were not kept because the board failed.
    pub failed: u64,
    /// Readers that were dropped because they were too slow.
    pub slow_readers: u64,
    /// Clients that came since the start.
    pub came: u64,
    /// What went over all connections since the start.
    pub traffic: Traffic,
    /// The store.
    pub store: StoreStats,
}

/// A running board. Dropping it stops it without ceremony; [`Board::shutdown`] ends it in order.
pub struct Board {
    shared: Arc<Shared>,
    address: SocketAddr,
    opened: Opened,
    herald: Mutex<Option<JoinHandle<()>>>,
}

impl Board {
    /// Opens the store, listens, and serves until [`Board::shutdown`].
    pub async fn start(config: BoardConfig) -> Result<Board, BoardError> {
        let (live, counts) = (Arc::new(Live::default()), Arc::new(Counts::default()));
        let standing = Standing::open(&config.data_dir, config.policy.clone(), config.network)?;
        let policy = Arc::new(CurrentPolicy::new(standing.policy()));
        let herald = Arc::new(Herald::new(live.clone(), policy.clone(), counts.clone()));
        let (teller, told) = (std::thread::Builder::new().name("board-herald".into()), herald.clone());
        let teller = teller.spawn(move || told.run()).map_err(StoreError::from)?;
        let store_config = StoreConfig::new(&config.data_dir, config.clock);
        // The store drops it when its writer has ended, and then the herald ends too.
        let closing = Closing(herald.clone());
        let till = config.till.clone();
        let feed: store::Feed = Box::new(move |commit| {
            if let Some(till) = &till {
                hand_requests(till, &commit);
            }
            closing.0.commit(commit);
        });
        let open = tokio::task::spawn_blocking(move || LogStore::open(&store_config, feed));
        let (store, opened) = open.await.map_err(|_| BoardError::Gone)??;
        report(&opened);
        let listen = |source| BoardError::Listen { address: config.listen, source };
        let listener = TcpListener::bind(config.listen).await.map_err(listen)?;
        let address = listener.local_addr().map_err(listen)?;
        let parts = Parts { store: Arc::new(store), live, herald, counts, standing, policy };
        let shared = Arc::new(share(config, parts, address));
        shared.tasks.spawn(server::listen(shared.clone(), listener));
        Ok(Board { shared, address, opened, herald: Mutex::new(Some(teller)) })
    }

    /// Where it listens.
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// What opening the store found and did.
    pub fn opened(&self) -> &Opened {
        &self.opened
    }

    /// What is taken. Replace it at any time: events from then on are judged by the new one.
    pub fn policy(&self) -> &CurrentPolicy {
        &self.shared.policy
    }

    /// The operator's side of it.
    pub fn operator(&self) -> Operator {
        Operator::new(self.shared.clone())
    }

    /// Takes an event down, whether it is here already or not. The log notes it with the reason.
    pub async fn take_down(&self, id: [u8; 32], reason: &str) -> Result<store::Outcome, OperatorError> {
        self.operator().take_down(id, reason).await
    }

    /// Brings what matches `filter` here and at the relay at `url` (`ws://` or `wss://`) into agreement (NIP-77). What comes
    /// from there passes our own admission; what is private here does not go there. `progress` is called again and again.
    pub async fn sync_with(
        &self,
        url: &str,
        filter: wire::Filter,
        direction: sync::Direction,
        progress: &mut (dyn FnMut(&sync::SyncReport) + Send),
    ) -> Result<sync::SyncReport, SyncError> {
        self.operator().sync_with(url, filter, direction, progress).await
    }

    /// Numbers.
    pub fn stats(&self) -> BoardStats {
        self.operator().stats()
    }

    /// Takes no more connections and frames, lets every event under way come to its end and be answered, closes the
    /// connections, then the store. A connection that takes longer than [`BoardLimits::drain`] is cut.
    pub async fn shutdown(self) {
        self.shared.stop.cancel();
        self.shared.tasks.close();
        self.shared.tasks.wait().await;
        let herald = self.herald.lock().unwrap_or_else(PoisonError::into_inner).take();
        let shared = self.shared.clone();
        let closed = tokio::task::spawn_blocking(move || {
            shared.store.close();
            herald.is_none_or(|herald| herald.join().is_ok())
        });
        if !closed.await.unwrap_or(false) {
            tracing::error!("a thread of the board panicked");
        }
    }
}

impl Drop for Board {
    fn drop(&mut self) {
        self.shared.stop.cancel();
    }
}

fn hand_requests(till: &mpsc::Sender<Arc<store::Encoded>>, commit: &store::Commit) {
    for fresh in commit.fresh.iter().filter(|fresh| fresh.event.kind == KIND_REQUEST) {
        if till.try_send(fresh.event.clone()).is_err() {
            tracing::debug!("a request for credentials was missed");
        }
    }
}

fn report(opened: &Opened) {
    if let Some(cut) = &opened.cut {
        tracing::warn!(position = cut.at, bytes = cut.bytes, frames = cut.frames, why = ?cut.why, saved = ?cut.saved,
            "the end of the log was never acknowledged and was cut off");
    }
    if let Some(why) = opened.rebuilt {
        tracing::info!(why, frames = opened.frames, "the index was built from the log");
    } else if opened.caught_up > 0 {
        tracing::info!(frames = opened.caught_up, "the index was brought up to the log");
    }
}

/// What exists before the board does.
struct Parts {
    store: Arc<dyn Store>,
    live: Arc<Live>,
    herald: Arc<Herald>,
    counts: Arc<Counts>,
    standing: Standing,
    policy: Arc<CurrentPolicy>,
}

fn share(mut config: BoardConfig, parts: Parts, address: SocketAddr) -> Shared {
    let mut urls = config.urls.clone();
    urls.push(format!("ws://{address}"));
    urls.push(format!("ws://localhost:{}", address.port()));
    let urls: Arc<[String]> = urls.into();
    config.ports.urls = urls.clone();
    let Parts { store, live, herald, counts, standing, policy } = parts;
    let rates = Arc::new(Rates::default());
    let judge = Judge {
        store: store.clone(),
        policy: policy.clone(),
        rates: rates.clone(),
        ports: config.ports.clone(),
        clock: config.clock,
        counts: counts.clone(),
        herald,
        ahead: Ahead::default(),
        keys: bip340::Keys::new(intake::KEYS),
    };
    Shared {
        store,
        live,
        clients: Arc::new(Clients::default()),
        standing,
        policy,
        rates,
        judge,
        counts,
        counters: Counters::default(),
        limits: config.limits.clone(),
        urls,
        clock: config.clock,
        since: Instant::now(),
        turns: Arc::new(Semaphore::new(config.limits.query_threads.max(1))),
        line: Arc::new(Semaphore::new((config.limits.query_threads / 2).max(1))),
        reconciling: Arc::new(Semaphore::new(1)),
        set_room: Arc::new(Semaphore::new(config.limits.reconciled_events)),
        tasks: TaskTracker::new(),
        stop: CancellationToken::new(),
        addresses: Addresses::default(),
        config,
    }
}

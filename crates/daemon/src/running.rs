//! A daemon from start to stop: the roles that the configuration switches on, wired together.

use std::fs::{self, File};
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use board::Board;
use board::operator::Operator;
use board::store::Encoded;
use keys::Seed;
use node::Node;
use node_ldk::LdkNode;
use secp256k1::Keypair;
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, mpsc};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use trade::{OwnNode, PartyKey};
use units::Sat;

use crate::api;
use crate::backup::Backup;
use crate::board_link::{BoardLink, Letterbox};
use crate::clock;
use crate::config::Config;
use crate::desk::{self, DeskError, DeskHandle, Parts};
use crate::instance::{self, Marker, Other};
use crate::issuer::{self, Issuer, IssuerError, OwnBoard, Till};
use crate::keyring::{Keyring, KeyringError};
use crate::notify::{Channels, Crier};
use crate::purse::buying::Buyer;
use crate::purse::postage::Postage;
use crate::purse::{Purse, PurseError};
use crate::rates::Rates;
use crate::resolve;
use crate::restore::RestoreError;
use crate::store::{Store, StoreError};
use crate::vault::{self, Vault};

/// How long tasks may take to finish at shutdown before they are left behind.
pub(crate) const GRACE: Duration = Duration::from_secs(20);

/// Why a daemon does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The data directory cannot be used.
    #[error("data directory {path}: {source}")]
    DataDir {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Another daemon has it.
    #[error("another daemon runs on {0}; stop it first, or use another --data-dir")]
    Locked(PathBuf),
    /// The configuration does not resolve.
    #[error(transparent)]
    Config(#[from] crate::config::ConfigError),
    /// The Lightning node does not start.
    #[error("lightning node: {0}")]
    Node(String),
    /// The board's credentials cannot be sold.
    #[error(transparent)]
    Issuer(#[from] IssuerError),
    /// The board does not start.
    #[error("board: {0}")]
    Board(String),
    /// The API cannot be served over TCP.
    #[error("[api] listen: {0}")]
    Api(std::io::Error),
    /// The trade log cannot be opened.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// What was lost cannot be brought back yet.
    #[error(transparent)]
    Restore(#[from] RestoreError),
    /// The purse cannot be opened.
    #[error("credentials: {0}")]
    Purse(String),
    /// Keys cannot be derived.
    #[error(transparent)]
    Keys(#[from] KeyringError),
    /// The trades of the log cannot be taken up.
    #[error("trades: {0}")]
    Desk(#[from] DeskError),
}

impl From<PurseError> for StartError {
    fn from(error: PurseError) -> StartError {
        StartError::Purse(error.to_string())
    }
}

/// What runs; shared with the API.
pub struct Running {
    pub(crate) node: Option<Arc<dyn Node>>,
    pub(crate) desk: Option<DeskHandle>,
    pub(crate) boards: Vec<BoardLink>,
    /// Relays of other markets: read, never traded on.
    pub(crate) relays: Vec<BoardLink>,
    pub(crate) store: Arc<Store>,
    pub(crate) backup: Backup,
    /// Market prices of bitcoin.
    pub(crate) rates: Arc<Rates>,
    /// Credentials of boards.
    pub(crate) purse: Arc<Purse>,
    pub(crate) postage: Arc<Postage>,
    /// Buys more of them; none without a node.
    pub(crate) buyer: Option<Buyer>,
    pub(crate) identity: PartyKey,
    pub(crate) identity_pair: Keypair,
    pub(crate) network: String,
    pub(crate) tasks: TaskTracker,
    pub(crate) shutdown: CancellationToken,
    pub(crate) roles: Vec<String>,
    /// How we serve as an arbiter; none when we do not.
    pub(crate) arbiter: Option<crate::config::Arbiter>,
    /// Since when another daemon runs on this seed that was started later.
    pub(crate) other: Other,
    pub(crate) operator: Option<Operator>,
    /// Seats for those who follow what happens.
    pub(crate) streams: Arc<Semaphore>,
    board_address: Option<SocketAddr>,
}

impl Running {
    /// The Lightning node, unless this is a bare board.
    pub fn node(&self) -> Option<&Arc<dyn Node>> {
        self.node.as_ref()
    }

    /// The key that reputation attaches to.
    pub fn identity(&self) -> PartyKey {
        self.identity
    }

    /// Where the own board listens, `ws://…`.
    pub fn board_url(&self) -> Option<String> {
        self.board_address.map(local_url)
    }
}

/// A daemon. Dropping it without [`Daemon::shutdown`] is like a crash: safe, but not orderly.
pub struct Daemon {
    running: Arc<Running>,
    board: Option<Board>,
    tasks: TaskTracker,
    shutdown: CancellationToken,
    _lock: File,
}

impl Daemon {
    /// Starts every role that `config` switches on, on the state in `data_dir`.
    pub async fn start(config: &Config, data_dir: &Path, seed: Seed) -> Result<Daemon, StartError> {
        let lock = lock(data_dir)?;
        let seed = Arc::new(seed);
        let (tasks, shutdown) = (TaskTracker::new(), CancellationToken::new());
        let issuer = open_issuer(config, data_dir, &seed)?;
        let (ask, requests) = mpsc::channel(issuer::REQUESTS_MAX);
        let board = start_board(config, data_dir, issuer.as_ref().map(|issuer| (issuer, ask))).await?;
        let trades = config.trader.enabled || config.arbiter.enabled;
        let node = if trades || config.node.enabled || issuer.is_some() {
            Some(start_node(config, data_dir, &seed).await?)
        } else {
            None
        };
        let urls = board_urls(config, board.as_ref());
        let mut running = open(config, data_dir, seed, node, urls, &tasks, &shutdown).await?;
        running.board_address = board.as_ref().map(Board::local_addr);
        running.operator = board.as_ref().map(Board::operator);
        if let Some(operator) = &running.operator {
            offer_metrics(&config.board, operator, &tasks, &shutdown).await?;
        }
        running.backup = running.backup.with_issuer(issuer.as_ref().map(|issuer| issuer.store().clone()));
        if let (Some(issuer), Some(operator), Some(node)) = (issuer, &running.operator, &running.node) {
            let own = OwnBoard { issuer: issuer.clone(), operator: operator.clone() };
            running.postage.grants(&running.board_url().unwrap_or_default(), Arc::new(own))?;
            let till = Till::open(issuer, operator.clone(), node.clone(), requests)?;
            tasks.spawn(till.run(shutdown.clone()));
        }
        let running = Arc::new(running);
        let router = api::router(running.clone(), data_dir);
        if let Some(address) = config.api.listen()? {
            let listener = api::listen(address).await.map_err(StartError::Api)?;
            serve_tcp(listener, router.clone(), running.store.clone(), &tasks, shutdown.clone());
        }
        serve_api(data_dir, router, &tasks, shutdown.clone());
        Ok(Daemon { running, board, tasks, shutdown, _lock: lock })
    }

    /// What runs.
    pub fn running(&self) -> &Arc<Running> {
        &self.running
    }

    /// Reads the board's policy again. One with a mistake changes nothing; the reason is logged.
    pub fn reload(&self, data_dir: &Path) {
        if let Some(operator) = &self.running.operator {
            reload(operator, data_dir);
        }
    }

    /// Ends when the daemon cannot go on by itself, for instance because its log cannot be written.
    pub async fn stopped(&self) {
        self.shutdown.cancelled().await;
    }

    /// Stops in order: no more inputs, then boards, then the node, then everything is on disk.
    pub async fn shutdown(self) {
        self.shutdown.cancel();
        self.tasks.close();
        if tokio::time::timeout(GRACE, self.tasks.wait()).await.is_err() {
            tracing::warn!("some tasks did not finish in time");
        }
        if let Some(node) = &self.running.node
            && let Err(error) = node.stop().await
        {
            tracing::error!(%error, "the lightning node did not stop in order");
        }
        if let Some(board) = self.board {
            board.shutdown().await;
        }
    }
}

/// Everything but the own board and the API, on a node that runs: store, keys, connections to boards (and whether each is our own),
/// and the desk when a role trades.
pub(crate) async fn open(
    config: &Config,
    data_dir: &Path,
    seed: Arc<Seed>,
    node: Option<Arc<dyn Node>>,
    urls: Vec<(String, bool)>,
    tasks: &TaskTracker,
    shutdown: &CancellationToken,
) -> Result<Running, StartError> {
    let store = Arc::new(Store::open(&data_dir.join("trades.sqlite"), &seed.data())?);
    let addresses: Vec<_> = urls.iter().map(|(url, _)| url.clone()).collect();
    crate::restore::restore(data_dir, &seed, &store, &addresses).await?;
    let purse = Arc::new(Purse::open(store.clone(), seed.credentials(), clock::unix())?);
    let postage = Arc::new(Postage::new(purse.clone())?);
    let (mail, mailed) = mpsc::channel(desk::MAIL_MAX);
    let letterbox = Letterbox::new(mail);
    let (boards, relays) = links(config, urls, &letterbox, tasks, shutdown);
    let keyring = Keyring::open(seed.clone(), store.clone())?;
    let identity = keyring.identity();
    let identity_pair = *keyring.pair(&identity).ok_or(KeyringError::Counter)?;
    let trades = config.trader.enabled || config.arbiter.enabled;
    let channels = Channels { webhook: config.notify.webhook()?, nostr: config.notify.nostr()? };
    let rates = Rates::start(&config.fiat, tasks, shutdown)?;
    let kept = node.is_some() && trades && config.trader.vault;
    let (vault, other) = keep_and_look(kept, &seed, &store, (&boards, &postage), tasks, shutdown).await?;
    let desk = match &node {
        Some(node) if trades => {
            let parts = Parts {
                store: store.clone(),
                rates: rates.clone(),
                own: own_node(node.as_ref()).await?,
                node: node.clone(),
                boards: boards.clone(),
                postage: postage.clone(),
                mail: mailed,
                seen: letterbox.seen.clone(),
                keyring,
                escrow_key: seed.escrow(),
                transport: config.trader.transport,
                link_identity: config.trader.link_identity,
                opened_per_hour: config.trader.opened_per_hour,
                arbiter: config.arbiter.enabled.then(|| config.arbiter.clone()),
                relays: relays.clone(),
                mirror: config.markets.mirror.clone(),
                crier: Crier::start(channels, store.clone(), tasks, shutdown)?,
                vault,
                other: other.clone(),
            };
            Some(desk::start(parts, tasks, shutdown.clone()).await?)
        }
        Some(_) | None => None,
    };
    let daily = Sat(config.trader.credentials_sat_per_day);
    let buyer = node.clone().map(|node| Buyer::start(node, (&purse, &postage), daily, other.clone(), tasks, shutdown));
    Ok(Running {
        node,
        purse,
        postage,
        buyer,
        desk,
        boards,
        relays,
        backup: Backup::new(data_dir, &seed, store.clone()),
        store,
        rates,
        identity,
        identity_pair,
        network: bitcoin::Network::from(config.network).to_string(),
        tasks: tasks.clone(),
        shutdown: shutdown.clone(),
        roles: roles(config),
        other,
        arbiter: config.arbiter.enabled.then(|| config.arbiter.clone()),
        operator: None,
        streams: Arc::new(Semaphore::new(api::events::STREAMS_MAX)),
        board_address: None,
    })
}

/// Connections to boards (and whether each is our own), and to the relays of other markets that are none of them.
fn links(
    config: &Config,
    urls: Vec<(String, bool)>,
    letterbox: &Letterbox,
    tasks: &TaskTracker,
    shutdown: &CancellationToken,
) -> (Vec<BoardLink>, Vec<BoardLink>) {
    let start = |(url, own)| BoardLink::start(url, own, letterbox.clone(), tasks, shutdown.clone());
    let boards: Vec<_> = urls.into_iter().map(start).collect();
    let known = |url: &String| boards.iter().any(|board| board.url() == url);
    let relays = config.markets.relays.iter().filter(|url| !known(url)).cloned();
    let relays = relays.map(|url| start((url, false))).collect();
    (boards, relays)
}

/// The vault, where the log is `kept`, and the looking for another daemon on this seed: before anything is decided, and from then on.
async fn keep_and_look(
    kept: bool,
    seed: &Seed,
    store: &Store,
    (boards, postage): (&[BoardLink], &Arc<Postage>),
    tasks: &TaskTracker,
    shutdown: &CancellationToken,
) -> Result<(Option<Vault>, Other), RestoreError> {
    if !kept {
        return Ok((None, instance::unwatched()));
    }
    let vault = Vault::open(seed, store, clock::unix())?;
    let marker = Marker::begin(vault::key(seed)?, vault.life().clone(), store, clock::unix())?;
    Ok((Some(vault), marker.watch(boards.to_vec(), postage.clone(), tasks, shutdown.clone()).await))
}

/// One process a directory: an advisory lock, which the system takes back when the process dies.
pub(crate) fn lock(data_dir: &Path) -> Result<File, StartError> {
    let trouble = |source| StartError::DataDir { path: data_dir.to_path_buf(), source };
    fs::DirBuilder::new().recursive(true).mode(0o700).create(data_dir).map_err(trouble)?;
    let file = File::create(data_dir.join("lock")).map_err(trouble)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(fs::TryLockError::WouldBlock) => Err(StartError::Locked(data_dir.to_path_buf())),
        Err(fs::TryLockError::Error(source)) => Err(trouble(source)),
    }
}

/// The issuer of our own board, where the configuration says what credentials cost.
fn open_issuer(config: &Config, data_dir: &Path, seed: &Seed) -> Result<Option<Arc<Issuer>>, StartError> {
    match config.board.credentials.as_ref().filter(|_| config.board.enabled) {
        Some(terms) => Ok(Some(Arc::new(Issuer::open(terms, data_dir, seed, clock::unix)?))),
        None => Ok(None),
    }
}

async fn start_board(
    config: &Config,
    data_dir: &Path,
    sells: Option<(&Arc<Issuer>, mpsc::Sender<Arc<Encoded>>)>,
) -> Result<Option<Board>, StartError> {
    if !config.board.enabled {
        return Ok(None);
    }
    let mut resolved = resolve::board(&config.board, config.network, data_dir);
    if let Some((issuer, ask)) = sells {
        resolved.ports.credentials = Some(issuer.clone());
        resolved.till = Some(ask);
        resolved.own_key = Some(issuer.pubkey());
    }
    let board = Board::start(resolved);
    board.await.map(Some).map_err(|e| StartError::Board(e.to_string()))
}

async fn start_node(config: &Config, data_dir: &Path, seed: &Seed) -> Result<Arc<dyn Node>, StartError> {
    let ldk = resolve::ldk(config, data_dir)?;
    let node = LdkNode::start(ldk, seed).await.map_err(|e| StartError::Node(e.to_string()))?;
    Ok(node)
}

async fn own_node(node: &dyn Node) -> Result<OwnNode, DeskError> {
    let info = node.info().await?;
    Ok(OwnNode {
        network: info.network,
        node_id: info.node_id,
        auto_cancel_margin: node.capabilities().auto_cancel_margin,
    })
}

/// The configured boards, the own one first, and whether each is it.
fn board_urls(config: &Config, own: Option<&Board>) -> Vec<(String, bool)> {
    let mut urls: Vec<_> = own.map(|board| (local_url(board.local_addr()), true)).into_iter().collect();
    for url in &config.trader.boards {
        if !urls.iter().any(|(known, _)| known == url) {
            urls.push((url.clone(), false));
        }
    }
    urls
}

/// How to reach our own listener: an address that means "any" is reached on loopback.
pub(crate) fn local_url(address: SocketAddr) -> String {
    let ip = if address.ip().is_unspecified() { Ipv4Addr::LOCALHOST.into() } else { address.ip() };
    format!("ws://{}", SocketAddr::new(ip, address.port()))
}

fn roles(config: &Config) -> Vec<String> {
    let all = [("board", config.board.enabled), ("trader", config.trader.enabled), ("arbiter", config.arbiter.enabled)];
    all.iter().filter(|(_, on)| *on).map(|(role, _)| (*role).to_owned()).collect()
}

pub(crate) fn reload(operator: &Operator, data_dir: &Path) {
    match api::board::reload_policy(operator, &data_dir.join(crate::config::FILE)) {
        Ok(()) => tracing::info!("the policy was read again"),
        Err(why) => tracing::error!(%why, "the policy was not changed"),
    }
}

/// Serves `/metrics` on a listener of its own where the configuration asks for one.
pub(crate) async fn offer_metrics(
    section: &crate::config::Board,
    operator: &Operator,
    tasks: &TaskTracker,
    shutdown: &CancellationToken,
) -> Result<(), StartError> {
    let Some(listen) = section.metrics_listen else { return Ok(()) };
    let listener = api::board::listen_metrics(listen).await.map_err(|e| StartError::Board(format!("metrics: {e}")))?;
    let (operator, shutdown) = (operator.clone(), shutdown.clone());
    tasks.spawn(async move {
        if let Err(error) = api::board::serve_metrics(listener, operator, shutdown).await {
            tracing::error!(%error, "metrics are not served any more");
        }
    });
    Ok(())
}

fn serve_tcp(
    listener: TcpListener,
    router: Router,
    store: Arc<Store>,
    tasks: &TaskTracker,
    shutdown: CancellationToken,
) {
    tasks.spawn(async move {
        if let Err(error) = api::serve_tcp(listener, router, store, shutdown).await {
            tracing::error!(%error, "the API over TCP stopped");
        }
    });
}

pub(crate) fn serve_api(data_dir: &Path, router: Router, tasks: &TaskTracker, shutdown: CancellationToken) {
    let data_dir = data_dir.to_path_buf();
    tasks.spawn(async move {
        if let Err(error) = api::serve(&data_dir, router, shutdown.clone()).await {
            tracing::error!(%error, "the local API stopped");
            shutdown.cancel();
        }
    });
}

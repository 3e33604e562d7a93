//! A devnet, a chain source over one of its two interfaces behind a gate that can be shut, and a wallet on it.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bitcoin::block::Header;
use bitcoin::{BlockHash, Network, Txid};
use devnet::{Config, Devnet};
use keys::Seed;
use lightning::chain::transaction::TransactionData;
use lightning::chain::{BestBlock, Confirm, Listen};
use node_ldk::{Birthday, Chain, ChainConfig, ChainError, Follower, Listeners, TracingLogger, Wallet};
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use units::Height;

pub(crate) const DEADLINE: Duration = Duration::from_secs(30);
const POLL: Duration = Duration::from_millis(50);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Bitcoind,
    Esplora,
}

/// Runs a story over both interfaces, as two tests.
macro_rules! over_both {
    ($($story:ident,)*) => {
        mod over_bitcoind {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $story() {
                super::$story(crate::rig::Kind::Bitcoind).await;
            })*
        }
        mod over_esplora {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $story() {
                super::$story(crate::rig::Kind::Esplora).await;
            })*
        }
    };
}
pub(crate) use over_both;

/// Waits for a condition; tells what it waited for when it gives up.
pub(crate) async fn until(what: &str, mut condition: impl AsyncFnMut() -> bool) {
    let waited = timeout(DEADLINE, async {
        while !condition().await {
            sleep(Duration::from_millis(20)).await;
        }
    });
    assert!(waited.await.is_ok(), "waited {DEADLINE:?} in vain: {what}");
}

/// A TCP relay in front of a server: shut, it drops every connection and takes no new one.
pub(crate) struct Gate {
    pub(crate) addr: SocketAddr,
    open: Arc<AtomicBool>,
    shut: watch::Sender<u64>,
    _task: JoinSet<()>,
}

impl Gate {
    pub(crate) async fn before(server: SocketAddr) -> Gate {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let open = Arc::new(AtomicBool::new(true));
        let (shut, _) = watch::channel(0);
        let (is_open, closing) = (open.clone(), shut.clone());
        let mut task = JoinSet::new();
        task.spawn(async move {
            let mut relays = JoinSet::new();
            loop {
                let (mut client, _) = listener.accept().await.unwrap();
                if !is_open.load(Ordering::SeqCst) {
                    continue;
                }
                let mut closed = closing.subscribe();
                relays.spawn(async move {
                    let Ok(mut server) = TcpStream::connect(server).await else { return };
                    tokio::select! {
                        _ = copy_bidirectional(&mut client, &mut server) => {}
                        _ = closed.changed() => {}
                    }
                });
            }
        });
        Gate { addr, open, shut, _task: task }
    }

    pub(crate) fn shut(&self) {
        self.open.store(false, Ordering::SeqCst);
        self.shut.send_modify(|n| *n += 1);
    }

    pub(crate) fn reopen(&self) {
        self.open.store(true, Ordering::SeqCst);
    }
}

/// Follows the chain as LDK's parts do, and fails the test when it is told of a block that does not fit.
pub(crate) struct Recorder {
    seen: Mutex<Vec<(u32, BlockHash)>>,
}

impl Recorder {
    pub(crate) fn at(block: BestBlock) -> Arc<Recorder> {
        Arc::new(Recorder { seen: Mutex::new(vec![(block.height, block.block_hash)]) })
    }

    pub(crate) fn last(&self) -> BestBlock {
        let (height, hash) = *self.seen.lock().unwrap().last().unwrap();
        BestBlock::new(hash, height)
    }

    pub(crate) fn follower(self: &Arc<Self>, name: &'static str) -> Follower {
        Follower::new(name, self.clone(), |it| it.last())
    }

    /// How many blocks it was told of.
    pub(crate) fn blocks(&self) -> usize {
        self.seen.lock().unwrap().len() - 1
    }
}

impl Listen for Recorder {
    fn filtered_block_connected(&self, header: &Header, _: &TransactionData<'_>, height: u32) {
        let mut seen = self.seen.lock().unwrap();
        assert_eq!(seen.last().copied(), Some((height - 1, header.prev_blockhash)), "block {height} does not fit");
        seen.push((height, header.block_hash()));
    }

    fn blocks_disconnected(&self, fork: BestBlock) {
        let mut seen = self.seen.lock().unwrap();
        assert!(seen.last().unwrap().0 > fork.height, "nothing to disconnect above {}", fork.height);
        seen.retain(|(height, _)| *height < fork.height);
        seen.push((fork.height, fork.block_hash));
    }
}

impl Confirm for Recorder {
    fn transactions_confirmed(&self, _: &Header, _: &TransactionData<'_>, _: u32) {}

    fn transaction_unconfirmed(&self, _: &Txid) {}

    fn best_block_updated(&self, header: &Header, height: u32) {
        self.seen.lock().unwrap().push((height, header.block_hash()));
    }

    fn get_relevant_txids(&self) -> Vec<(Txid, u32, Option<BlockHash>)> {
        Vec::new()
    }
}

pub(crate) async fn devnet() -> Devnet {
    Devnet::start(Config::default()).await.unwrap()
}

pub(crate) async fn gate(net: &Devnet, kind: Kind) -> Gate {
    let server = match kind {
        Kind::Bitcoind => net.rpc_url(),
        Kind::Esplora => net.esplora_url(),
    };
    Gate::before(server.strip_prefix("http://").unwrap().parse().unwrap()).await
}

pub(crate) fn config(net: &Devnet, kind: Kind, addr: SocketAddr) -> ChainConfig {
    let url = format!("http://{addr}");
    match kind {
        Kind::Bitcoind => ChainConfig::Bitcoind {
            url,
            user: net.rpc_user().to_owned(),
            password: net.rpc_password().to_owned(),
            poll: POLL,
        },
        Kind::Esplora => ChainConfig::Esplora { url, poll: POLL },
    }
}

pub(crate) fn seed(n: u8) -> Seed {
    Seed::generate(&[n; 32])
}

/// A running chain source with a wallet on it.
pub(crate) struct World {
    pub(crate) gate: Gate,
    pub(crate) chain: Chain,
    pub(crate) wallet: Wallet,
    /// Stands for the channel manager.
    pub(crate) manager: Arc<Recorder>,
    pub(crate) tip: watch::Receiver<Height>,
    shutdown: CancellationToken,
    running: JoinSet<Result<(), ChainError>>,
}

impl World {
    pub(crate) async fn start(net: &Devnet, kind: Kind, dir: &Path) -> World {
        World::start_with(net, kind, dir, &seed(1), Birthday::Now).await
    }

    pub(crate) async fn start_with(net: &Devnet, kind: Kind, dir: &Path, seed: &Seed, birthday: Birthday) -> World {
        let gate = gate(net, kind).await;
        let config = config(net, kind, gate.addr);
        let chain = Chain::start(config, Network::Regtest, Arc::new(TracingLogger)).await.unwrap();
        let wallet = Wallet::open(&dir.join("wallet.sqlite"), seed, chain.clone(), birthday).await.unwrap();
        let best = chain.best_block().await.unwrap();
        let manager = Recorder::at(best);
        let listeners = Listeners {
            manager: manager.follower("channel manager"),
            sweeper: Recorder::at(best).follower("sweeper"),
            monitors: Recorder::at(best),
            wallet: wallet.clone(),
        };
        let synced = chain.sync_to_tip(&listeners, &[]).await.unwrap();
        assert_eq!(wallet.last_block(), synced);
        let (tip_sender, tip) = watch::channel(Height(0));
        let shutdown = CancellationToken::new();
        let mut running = JoinSet::new();
        let (runner, stop) = (chain.clone(), shutdown.clone());
        running.spawn(async move { runner.run(listeners, tip_sender, stop).await });
        World { gate, chain, wallet, manager, tip, shutdown, running }
    }

    /// Waits until everybody has seen the devnet's tip.
    pub(crate) async fn caught_up(&mut self, net: &Devnet) {
        let height = net.height();
        let reached = timeout(DEADLINE, self.tip.wait_for(|tip| *tip >= height)).await;
        assert!(reached.is_ok(), "height {height} was not reached in time");
        assert_eq!(self.wallet.last_block().height, height.0);
    }

    /// Mines and waits until everybody has seen it.
    pub(crate) async fn mine(&mut self, net: &Devnet, blocks: u32) {
        net.mine(blocks).await.unwrap();
        self.caught_up(net).await;
    }

    /// Gives the wallet confirmed coins of these sizes.
    pub(crate) async fn fund(&mut self, net: &Devnet, coins: &[u64]) {
        for coin in coins {
            net.fund(&self.wallet.new_address().unwrap(), units::Sat(*coin)).await.unwrap();
        }
        self.mine(net, 1).await;
        let total: u64 = coins.iter().sum();
        assert!(self.wallet.balance().confirmed.0 >= total, "{:?} after {coins:?}", self.wallet.balance());
    }

    pub(crate) async fn stop(mut self) {
        self.shutdown.cancel();
        let ended = timeout(DEADLINE, self.running.join_next()).await.expect("the chain did not stop in time");
        ended.unwrap().unwrap().unwrap();
    }
}

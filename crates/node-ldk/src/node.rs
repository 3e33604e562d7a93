//! Starting and stopping the node.

use std::fs::{File, TryLockError};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use ::keys::Seed;
use node::{Capabilities, NodeError, Result};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use units::Height;

use crate::boot::Boot;
use crate::chain::Listeners;
use crate::config::LdkConfig;
use crate::core::Core;
use crate::verbs::capabilities;

/// How long an earlier node on the same folder may take to end.
const LOCK_PATIENCE: Duration = Duration::from_secs(5);
/// How long tasks may take to end in order.
const STOP_PATIENCE: Duration = Duration::from_secs(10);

/// The embedded node. [`node::Node::stop`] ends it in order; dropping it ends it as a crash would, and nothing is lost.
pub struct LdkNode {
    pub(crate) core: Arc<Core>,
    pub(crate) capabilities: Capabilities,
    /// Ends the chain source only after the channels, which may still have something to broadcast.
    chain_end: CancellationToken,
    /// Held as long as the folder is ours.
    lock: Mutex<Option<File>>,
}

impl LdkNode {
    /// Opens or creates the node in `config.data_dir`, catches up with the chain, listens, and connects to its peers.
    ///
    /// Errors: [`NodeError::Unreachable`] when the chain source is, [`NodeError::Rejected`] for a configuration that
    /// cannot work, [`NodeError::Fault`] when the store is broken.
    pub async fn start(config: LdkConfig, seed: &Seed) -> Result<Arc<LdkNode>> {
        std::fs::create_dir_all(&config.data_dir).map_err(|error| fault("data folder", &error))?;
        let lock = lock_folder(&config.data_dir).await?;
        let boot = Boot::prepare(config, seed).await?;
        let listeners = boot.sync().await?;
        let (tip_sender, tip) = watch::channel(boot.tip());
        let core = Arc::new(boot.assemble(tip)?);
        let chain_end = CancellationToken::new();
        let node = LdkNode { core, capabilities: capabilities(), chain_end, lock: Mutex::new(Some(lock)) };
        node.core.resume().await?;
        node.run(listeners, tip_sender).await?;
        Ok(Arc::new(node))
    }

    async fn run(&self, listeners: Listeners, tip: watch::Sender<Height>) -> Result<()> {
        let core = &self.core;
        let bound = core.listen().await?;
        *core.bound.lock().unwrap_or_else(PoisonError::into_inner) = bound;
        let (chain, end) = (core.chain.clone(), self.chain_end.clone());
        core.tasks.spawn(async move {
            if let Err(error) = chain.run(listeners, tip, end).await {
                tracing::error!(%error, "the chain source stopped");
            }
        });
        let cancel = core.cancel.clone();
        for task in [
            boxed(Arc::clone(core).follow_ldk()),
            boxed(Arc::clone(core).follow_tip()),
            boxed(Arc::clone(core).follow_clock()),
            boxed(Arc::clone(core).follow_retries()),
        ] {
            let cancel = cancel.clone();
            core.tasks.spawn(async move {
                cancel.run_until_cancelled(task).await;
            });
        }
        let peers = core.ledger.reader().peers()?;
        for (node_id, address) in peers {
            core.keep_connected(crate::channels::parse_node_id(&node_id)?, address, None)?;
        }
        Ok(())
    }

    /// Disconnects, writes everything, ends the tasks.
    pub(crate) async fn shut_down(&self) -> Result<()> {
        let core = &self.core;
        if core.cancel.is_cancelled() {
            return Ok(());
        }
        core.writer.flushed().await?;
        core.cancel.cancel();
        core.peer_manager.disconnect_all_peers();
        self.chain_end.cancel();
        core.tasks.close();
        if tokio::time::timeout(STOP_PATIENCE, core.tasks.wait()).await.is_err() {
            tracing::warn!(left = core.tasks.len(), "some tasks did not end in time");
        }
        core.save_scorer();
        core.save_graph();
        let writer = core.writer.clone();
        let finished = tokio::task::spawn_blocking(move || writer.finish()).await;
        self.unlock();
        finished.map_err(|_| NodeError::Fault("the writer did not end well".into()))
    }

    fn unlock(&self) {
        // Dropping the file unlocks it.
        drop(self.lock.lock().unwrap_or_else(PoisonError::into_inner).take());
    }
}

impl Drop for LdkNode {
    fn drop(&mut self) {
        // The writer first: from here on nothing reaches the disk, whatever the tasks still do.
        self.core.writer.abandon();
        self.core.cancel.cancel();
        self.chain_end.cancel();
        self.core.tasks.close();
        self.core.peer_manager.disconnect_all_peers();
        self.unlock();
    }
}

type Task = std::pin::Pin<Box<dyn Future<Output = ()> + Send>>;

fn boxed(task: impl Future<Output = ()> + Send + 'static) -> Task {
    Box::pin(task)
}

pub(crate) fn fault(what: &str, error: &dyn std::fmt::Display) -> NodeError {
    NodeError::Fault(format!("{what}: {error}"))
}

/// Two nodes on one folder would publish revoked states: the second waits a moment, then refuses.
async fn lock_folder(folder: &Path) -> Result<File> {
    let file = File::create(folder.join("lock")).map_err(|error| fault("lock file", &error))?;
    let deadline = Instant::now() + LOCK_PATIENCE;
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(TryLockError::WouldBlock) if Instant::now() < deadline => {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            Err(TryLockError::WouldBlock) => {
                return Err(NodeError::Rejected(format!("another node runs in {}", folder.display())));
            }
            Err(TryLockError::Error(error)) => return Err(fault("lock file", &error)),
        }
    }
}

impl LdkNode {
    /// Announces this node to the network now instead of within a minute; false without a public channel or address.
    pub fn announce_now(&self) -> bool {
        self.core.announce_node()
    }

    /// Nodes that have announced themselves and public channels, as far as the graph knows them.
    pub fn public_graph(&self) -> (usize, usize) {
        let graph = self.core.graph.read_only();
        let named = graph.nodes().unordered_iter().filter(|(_, node)| node.announcement_info.is_some());
        (named.count(), graph.channels().len())
    }
}

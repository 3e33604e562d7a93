//! From files to a node: what is read, in which order, and what is picked up where the last run left it.

use std::sync::{Arc, Mutex, PoisonError, RwLock};

use ::keys::Seed;
use bitcoin::BlockHash;
use lightning::chain::BestBlock;
use lightning::chain::channelmonitor::ChannelMonitorUpdate;
use lightning::ln::channel_state::InboundHTLCStateDetails;
use lightning::ln::channelmanager;
use lightning::ln::channelmanager::{ChainParameters, ChannelManagerReadArgs};
use lightning::ln::peer_handler::{IgnoringMessageHandler, MessageHandler};
use lightning::routing::scoring::ProbabilisticScorer;
use lightning::sign::{EntropySource, NodeSigner};
use lightning::types::payment::PaymentHash as LdkHash;
use lightning::util::ser::Readable;
use lightning::util::ser::{ReadableArgs, Writeable};
use node::{NodeError, PaymentState, Result};
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use units::{Height, PaymentHash};

use crate::chain::{Chain, Follower, Gossip, Listeners};
use crate::config::LdkConfig;
use crate::core::{Core, unix_now};
use crate::funds::{Bumper, Sweeper};
use crate::holds::Phase;
use crate::ledger::Ledger;
use crate::logger::TracingLogger;
use crate::node::fault;
use crate::persist::{Blobs, Monitors};
use crate::router::GraphMessageRouter;
use crate::salvage::{Both, Salvage, Tools};
use crate::store::{SavedMonitor, Store, blob};
use crate::types::{
    ChainMonitor, ChannelManager, ChannelMonitor, DynBroadcaster, DynFees, Graph, Keys, Log, OnionMessenger,
    PeerManager, Router, Scorer, scoring_parameters,
};
use crate::wallet::Wallet;
use crate::writer::{Hooks, Writer};

/// A node whose parts are read, before it runs.
pub(crate) struct Boot {
    config: LdkConfig,
    writer: Writer,
    reader: Arc<Mutex<Store>>,
    chain: Chain,
    wallet: Wallet,
    keys: Arc<Keys>,
    log: Log,
    graph: Arc<Graph>,
    scorer: Arc<RwLock<Scorer>>,
    chain_monitor: Arc<ChainMonitor>,
    manager: Arc<ChannelManager>,
    router: Arc<GraphMessageRouter>,
    sweeper: Arc<Sweeper>,
    salvage: Option<Salvage>,
    /// Taken by [`Boot::sync`], which brings them to the tip and loads them.
    monitors: Mutex<Vec<ChannelMonitor>>,
}

impl Boot {
    /// Reaches the chain source and reads everything.
    pub(crate) async fn prepare(config: LdkConfig, seed: &Seed) -> Result<Boot> {
        let path = config.data_dir.join("node.sqlite");
        let writer = Writer::start(Store::open(&path)?).map_err(|error| fault("writer", &error))?;
        let reader = Arc::new(Mutex::new(Store::open(&path)?));
        let log: Log = Arc::new(TracingLogger);
        let source = Chain::start(config.chain.clone(), config.network, Arc::clone(&log));
        let (chain, wallet) = tokio::join!(source, crate::funds::read_wallet(&config, seed));
        let chain = chain?;
        let wallet = wallet?.open(chain.clone(), config.birthday).await?;
        let keys = Arc::new(Keys::new(seed, wallet.clone()));
        let graph = Arc::new(load_graph(&reader, &config, &log)?);
        let scorer = Arc::new(RwLock::new(load_scorer(&reader, &graph, &log)?));
        let fees: DynFees = Arc::new(chain.clone());
        let broadcaster: DynBroadcaster = Arc::new(chain.clone());
        let chain_monitor = Arc::new(ChainMonitor::new(
            chain.filter(),
            Arc::clone(&broadcaster),
            Arc::clone(&log),
            Arc::clone(&fees),
            Arc::new(Monitors::new(writer.clone())),
            Arc::clone(&keys),
            keys.get_peer_storage_key(),
        ));
        let monitors = load_monitors(&reader, &keys, &broadcaster, &fees, &log)?;
        let tools = Tools { filter: chain.filter(), broadcaster: &broadcaster, fees: &fees, keys: &keys, log: &log };
        let salvage = Salvage::read(&lock(&reader), &writer, &tools)?;
        let saved = lock(&reader).blob(blob::CHANNEL_MANAGER)?;
        let start = match &saved {
            Some(bytes) => Start::Saved(bytes),
            None => Start::New(chain.best_block().await?),
        };
        let router = Arc::new(GraphMessageRouter::new(Arc::clone(&graph), Arc::clone(&keys)));
        let parts = ManagerParts {
            config: &config,
            keys: &keys,
            fees,
            broadcaster,
            chain_monitor: &chain_monitor,
            payments: Arc::new(Router::new(
                Arc::clone(&graph),
                Arc::clone(&log),
                Arc::clone(&keys),
                Arc::clone(&scorer),
                scoring_parameters().1,
            )),
            messages: &router,
            log: &log,
        };
        let manager = Arc::new(parts.manager(start, &monitors)?);
        attach(&writer, &manager, &chain_monitor);
        let blobs = Arc::new(Blobs { writer: writer.clone(), reader: Arc::clone(&reader) });
        let sweeper = crate::funds::load_sweeper(&chain, &wallet, &keys, blobs, &log).await?;
        Ok(Boot {
            config,
            writer,
            reader,
            chain,
            wallet,
            keys,
            log,
            graph,
            scorer,
            chain_monitor,
            manager,
            router,
            sweeper: Arc::new(sweeper),
            salvage,
            monitors: Mutex::new(monitors),
        })
    }

    /// Brings every part from its own last block to the tip.
    pub(crate) async fn sync(&self) -> Result<Listeners> {
        let listeners = Listeners {
            manager: Follower::new("channel manager", Arc::clone(&self.manager), |manager| {
                manager.current_best_block()
            }),
            sweeper: Follower::new("sweeper", Arc::clone(&self.sweeper), |sweeper| sweeper.current_best_block()),
            monitors: match &self.salvage {
                Some(salvage) => Arc::new(Both(Arc::clone(&self.chain_monitor), Arc::clone(salvage.set()))),
                None => self.chain_monitor.clone(),
            },
            wallet: self.wallet.clone(),
        };
        let chain: DynBroadcaster = Arc::new(self.chain.clone());
        let present = std::mem::take(&mut *self.monitors.lock().unwrap_or_else(PoisonError::into_inner));
        let mut sets = vec![(&self.chain_monitor, chain, present)];
        if let Some(salvage) = &self.salvage {
            sets.push((salvage.set(), Arc::clone(&salvage.guard), salvage.take_monitors()));
        }
        if self.chain.filter().is_some() {
            for (set, _, monitors) in sets {
                watch(set, monitors)?;
            }
            self.chain.sync_to_tip(&listeners, &[]).await?;
            return Ok(listeners);
        }
        let fees: DynFees = Arc::new(self.chain.clone());
        let sets: Vec<(_, Vec<_>)> = sets
            .into_iter()
            .map(|(set, broadcaster, monitors)| {
                let parts = |monitor| Arc::new((monitor, broadcaster.clone(), fees.clone(), Arc::clone(&self.log)));
                (set, monitors.into_iter().map(parts).collect())
            })
            .collect();
        let followers: Vec<Follower> = sets
            .iter()
            .flat_map(|(_, monitors)| monitors)
            .map(|parts| Follower::monitor(Arc::clone(parts), |parts| parts.0.current_best_block()))
            .collect();
        self.chain.sync_to_tip(&listeners, &followers).await?;
        drop(followers);
        for (set, monitors) in sets {
            let alone = monitors.into_iter().map(|parts| Arc::into_inner(parts).map(|parts| parts.0));
            let alone = alone.collect::<Option<_>>();
            watch(set, alone.ok_or_else(|| NodeError::Fault("a channel monitor is in use".into()))?)?;
        }
        Ok(listeners)
    }

    pub(crate) fn tip(&self) -> Height {
        Height(self.manager.current_best_block().height)
    }

    /// The parts that need no file, and the whole.
    pub(crate) fn assemble(self, tip: watch::Receiver<Height>) -> Result<Core> {
        let utxos = self.config.check_gossip.then(|| self.chain.utxo_check());
        let gossip = Arc::new(Gossip::new(Arc::clone(&self.graph), utxos, Arc::clone(&self.log)));
        let messenger = Arc::new(OnionMessenger::new(
            Arc::clone(&self.keys),
            Arc::clone(&self.keys),
            Arc::clone(&self.log),
            Arc::clone(&self.manager),
            Arc::clone(&self.router),
            Arc::clone(&self.manager),
            Arc::clone(&self.manager),
            IgnoringMessageHandler {},
            IgnoringMessageHandler {},
        ));
        let handlers = MessageHandler {
            chan_handler: Arc::clone(&self.manager),
            route_handler: Arc::clone(&gossip),
            onion_message_handler: Arc::clone(&messenger),
            custom_message_handler: IgnoringMessageHandler {},
            send_only_message_handler: Arc::clone(&self.chain_monitor),
        };
        let peer_manager = Arc::new(PeerManager::new(
            handlers,
            // Announcements carry it as their age; it fits until 2106.
            u32::try_from(unix_now().0).unwrap_or(u32::MAX),
            &self.keys.get_secure_random_bytes(),
            Arc::clone(&self.log),
            Arc::clone(&self.keys),
        ));
        let waker = Arc::downgrade(&peer_manager);
        self.chain.utxo_check().attach(&gossip, move || {
            if let Some(peers) = waker.upgrade() {
                peers.process_events();
            }
        });
        let ledger = Ledger::load(self.writer.clone(), self.reader)?;
        let bumper = Bumper::new(&self.chain, &self.wallet, &self.keys, &self.log);
        Ok(Core {
            config: self.config,
            writer: self.writer,
            ledger,
            chain: self.chain,
            wallet: self.wallet,
            keys: self.keys,
            graph: self.graph,
            scorer: self.scorer,
            chain_monitor: self.chain_monitor,
            salvage: self.salvage,
            manager: self.manager,
            messenger,
            peer_manager,
            sweeper: self.sweeper,
            bumper,
            tip,
            opens: Mutex::default(),
            wanted: Mutex::default(),
            bound: Mutex::default(),
            retry: Notify::new(),
            cancel: CancellationToken::new(),
            tasks: TaskTracker::new(),
        })
    }
}

fn watch(set: &ChainMonitor, monitors: Vec<ChannelMonitor>) -> Result<()> {
    for monitor in monitors {
        let loaded = set.load_existing_monitor(monitor.channel_id(), monitor);
        loaded.map_err(|()| NodeError::Fault("two monitors for one channel".into()))?;
    }
    Ok(())
}

fn lock(reader: &Mutex<Store>) -> std::sync::MutexGuard<'_, Store> {
    reader.lock().unwrap_or_else(PoisonError::into_inner)
}

fn attach(writer: &Writer, manager: &Arc<ChannelManager>, chain_monitor: &Arc<ChainMonitor>) {
    let (manager, chain_monitor) = (Arc::downgrade(manager), Arc::downgrade(chain_monitor));
    writer.attach(Hooks {
        manager: Box::new(move || manager.upgrade().map(|manager| manager.encode())),
        persisted: Box::new(move |channel, update_id| {
            let Some(monitors) = chain_monitor.upgrade() else { return };
            if monitors.channel_monitor_updated(channel, update_id).is_err() {
                tracing::error!(%channel, "a monitor was written that LDK does not know");
            }
        }),
    });
}

fn load_graph(reader: &Mutex<Store>, config: &LdkConfig, log: &Log) -> Result<Graph> {
    let saved = lock(reader).blob(blob::NETWORK_GRAPH)?;
    let read = saved.map(|bytes| Graph::read(&mut &bytes[..], Arc::clone(log)));
    match read {
        Some(Ok(graph)) => Ok(graph),
        // The graph can be had again from any peer.
        Some(Err(error)) => {
            tracing::warn!(?error, "the saved network graph cannot be read and is dropped");
            Ok(Graph::new(config.network, Arc::clone(log)))
        }
        None => Ok(Graph::new(config.network, Arc::clone(log))),
    }
}

fn load_scorer(reader: &Mutex<Store>, graph: &Arc<Graph>, log: &Log) -> Result<Scorer> {
    let decay = scoring_parameters().0;
    let saved = lock(reader).blob(blob::SCORER)?;
    let read = saved.map(|bytes| Scorer::read(&mut &bytes[..], (decay, Arc::clone(graph), Arc::clone(log))));
    match read {
        Some(Ok(scorer)) => Ok(scorer),
        Some(Err(_)) | None => Ok(ProbabilisticScorer::new(decay, Arc::clone(graph), Arc::clone(log))),
    }
}

/// Reads each monitor.
fn load_monitors(
    reader: &Mutex<Store>,
    keys: &Arc<Keys>,
    broadcaster: &DynBroadcaster,
    fees: &DynFees,
    log: &Log,
) -> Result<Vec<ChannelMonitor>> {
    let saved = lock(reader).monitors()?;
    saved.into_iter().map(|saved| read_monitor(saved, keys, broadcaster, fees, log)).collect()
}

/// Reads a monitor and applies the steps that were written after it.
pub(crate) fn read_monitor(
    (bytes, steps): SavedMonitor,
    keys: &Arc<Keys>,
    broadcaster: &DynBroadcaster,
    fees: &DynFees,
    log: &Log,
) -> Result<ChannelMonitor> {
    let (_, monitor) = <(BlockHash, ChannelMonitor)>::read(&mut &bytes[..], (&**keys, &**keys))
        .map_err(|error| fault("channel monitor", &format!("{error:?}")))?;
    for step in steps {
        let update = ChannelMonitorUpdate::read(&mut &step[..])
            .map_err(|error| fault("channel monitor update", &format!("{error:?}")))?;
        if update.update_id <= monitor.get_latest_update_id() {
            continue;
        }
        let applied = monitor.update_monitor(&update, broadcaster, fees, log);
        applied.map_err(|()| NodeError::Fault("a channel monitor refuses its own update".into()))?;
    }
    Ok(monitor)
}

/// Where the channel manager comes from.
enum Start<'a> {
    /// The bytes of the last run.
    Saved(&'a [u8]),
    /// Nowhere: it begins at this block.
    New(BestBlock),
}

struct ManagerParts<'a> {
    config: &'a LdkConfig,
    keys: &'a Arc<Keys>,
    fees: DynFees,
    broadcaster: DynBroadcaster,
    chain_monitor: &'a Arc<ChainMonitor>,
    payments: Arc<Router>,
    messages: &'a Arc<GraphMessageRouter>,
    log: &'a Log,
}

impl ManagerParts<'_> {
    fn manager(self, start: Start<'_>, monitors: &[ChannelMonitor]) -> Result<ChannelManager> {
        let user_config = self.config.user_config();
        let mut saved = match start {
            Start::Saved(bytes) => bytes,
            Start::New(_) if !monitors.is_empty() => {
                return Err(NodeError::Fault("there are channel monitors but no channel manager".into()));
            }
            Start::New(best_block) => {
                return Ok(channelmanager::ChannelManager::new(
                    self.fees,
                    Arc::clone(self.chain_monitor),
                    self.broadcaster,
                    self.payments,
                    Arc::clone(self.messages),
                    Arc::clone(self.log),
                    Arc::clone(self.keys),
                    Arc::clone(self.keys),
                    Arc::clone(self.keys),
                    user_config,
                    ChainParameters { network: self.config.network, best_block },
                    u32::try_from(unix_now().0).unwrap_or(u32::MAX),
                ));
            }
        };
        let args = ChannelManagerReadArgs::new(
            Arc::clone(self.keys),
            Arc::clone(self.keys),
            Arc::clone(self.keys),
            self.fees,
            Arc::clone(self.chain_monitor),
            self.broadcaster,
            self.payments,
            Arc::clone(self.messages),
            Arc::clone(self.log),
            user_config,
            monitors.iter().collect(),
        );
        let read = <(BlockHash, ChannelManager)>::read(&mut saved, args);
        read.map(|(_, manager)| manager).map_err(|error| fault("channel manager", &format!("{error:?}")))
    }
}

impl Core {
    /// Takes up what the last run left: LDK's own events first, then the orders to settle and to cancel, then the
    /// payments of which LDK knows nothing.
    pub(crate) async fn resume(&self) -> Result<()> {
        self.process().await;
        self.on_tip(self.now().height);
        self.resume_holds()?;
        self.resume_payments()?;
        self.writer.manager_changed();
        self.writer.flushed().await
    }

    fn resume_holds(&self) -> Result<()> {
        let channels = self.manager.list_channels();
        let held: Vec<PaymentHash> = channels
            .iter()
            .flat_map(|channel| &channel.pending_inbound_htlcs)
            .filter(|htlc| htlc.state == Some(InboundHTLCStateDetails::Committed))
            .map(|htlc| PaymentHash(htlc.payment_hash.0))
            .collect();
        let settling = self.ledger.open().holds(|hold| hold.phase == Phase::Settling);
        for hold in settling {
            self.claim(hold.preimage.as_ref());
        }
        for hash in held {
            let canceled = self.ledger.open().hold(hash)?.is_some_and(|hold| hold.phase == Phase::Canceled);
            if canceled {
                self.manager.fail_htlc_backwards(&LdkHash(hash.0));
            }
        }
        Ok(())
    }

    fn resume_payments(&self) -> Result<()> {
        let mut ledger = self.ledger.open();
        for mut row in ledger.payments_in_flight() {
            if self.is_under_way(row.id) || self.salvage.as_ref().is_some_and(|salvage| salvage.knows(row.id)) {
                continue;
            }
            if row.again.is_some() {
                self.retry.notify_one();
                continue;
            }
            row.state = PaymentState::Failed { reason: "the node stopped before it was sent".into() };
            ledger.put_payment(row);
        }
        Ok(())
    }
}

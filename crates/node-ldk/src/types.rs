//! LDK's generic parts with our parameters filled in.

use std::sync::{Arc, RwLock};

use lightning::chain::Filter;
use lightning::chain::chaininterface::{BroadcasterInterface, FeeEstimator};
use lightning::chain::{chainmonitor, channelmonitor};
use lightning::ln::channelmanager;
use lightning::ln::peer_handler::{self, IgnoringMessageHandler};
use lightning::onion_message::messenger;
use lightning::routing::router::DefaultRouter;
use lightning::routing::scoring::{ProbabilisticScorer, ProbabilisticScoringFeeParameters};
use lightning::routing::{gossip, scoring};
use lightning::sign::InMemorySigner;

use crate::chain::Gossip;
pub(crate) use crate::keys::Keys;
use crate::logger::TracingLogger;
use crate::persist::Monitors;
use crate::router::GraphMessageRouter;

pub(crate) type Log = Arc<TracingLogger>;
pub(crate) type DynFees = Arc<dyn FeeEstimator + Send + Sync>;
pub(crate) type DynBroadcaster = Arc<dyn BroadcasterInterface + Send + Sync>;
pub(crate) type DynFilter = Arc<dyn Filter + Send + Sync>;

pub(crate) type ChannelMonitor = channelmonitor::ChannelMonitor<InMemorySigner>;
pub(crate) type ChainMonitor =
    chainmonitor::ChainMonitor<InMemorySigner, DynFilter, DynBroadcaster, DynFees, Log, Arc<Monitors>, Arc<Keys>>;
pub(crate) type Graph = gossip::NetworkGraph<Log>;
pub(crate) type Scorer = ProbabilisticScorer<Arc<Graph>, Log>;
pub(crate) type SharedScorer = Arc<RwLock<Scorer>>;
pub(crate) type Router =
    DefaultRouter<Arc<Graph>, Log, Arc<Keys>, SharedScorer, ProbabilisticScoringFeeParameters, Scorer>;
pub(crate) type ChannelManager = channelmanager::ChannelManager<
    Arc<ChainMonitor>,
    DynBroadcaster,
    Arc<Keys>,
    Arc<Keys>,
    Arc<Keys>,
    DynFees,
    Arc<Router>,
    Arc<GraphMessageRouter>,
    Log,
>;
pub(crate) type OnionMessenger = messenger::OnionMessenger<
    Arc<Keys>,
    Arc<Keys>,
    Log,
    Arc<ChannelManager>,
    Arc<GraphMessageRouter>,
    Arc<ChannelManager>,
    Arc<ChannelManager>,
    IgnoringMessageHandler,
    IgnoringMessageHandler,
>;
pub(crate) type PeerManager = peer_handler::PeerManager<
    lightning_net_tokio::SocketDescriptor,
    Arc<ChannelManager>,
    Arc<Gossip>,
    Arc<OnionMessenger>,
    Log,
    IgnoringMessageHandler,
    Arc<Keys>,
    Arc<ChainMonitor>,
>;

/// How the scorer judges; LDK's own values.
pub(crate) fn scoring_parameters() -> (scoring::ProbabilisticScoringDecayParameters, ProbabilisticScoringFeeParameters)
{
    Default::default()
}

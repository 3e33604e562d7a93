//! Everything that a running node consists of, and what its parts share.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::SystemTime;

use bitcoin::secp256k1::PublicKey;
use lightning::sign::EntropySource;
use lightning::types::payment::{PaymentHash as LdkHash, PaymentPreimage};
use node::NodeError;
use tokio::sync::{Notify, oneshot, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use units::{Height, Now, Preimage, Unix};

use crate::chain::Chain;
use crate::config::LdkConfig;
use crate::funds::{Bumper, Sweeper};
use crate::ledger::Ledger;
use crate::salvage::Salvage;
use crate::types::{ChainMonitor, ChannelManager, Graph, Keys, OnionMessenger, PeerManager, Scorer};
use crate::wallet::Wallet;
use crate::writer::Writer;

/// The parts of a running node. Tasks share it; dropping it writes nothing.
pub(crate) struct Core {
    pub(crate) config: LdkConfig,
    pub(crate) writer: Writer,
    pub(crate) ledger: Ledger,
    pub(crate) chain: Chain,
    pub(crate) wallet: Wallet,
    pub(crate) keys: Arc<Keys>,
    pub(crate) graph: Arc<Graph>,
    pub(crate) scorer: Arc<RwLock<Scorer>>,
    pub(crate) chain_monitor: Arc<ChainMonitor>,
    /// Channels of a backup, when there are any.
    pub(crate) salvage: Option<Salvage>,
    pub(crate) manager: Arc<ChannelManager>,
    pub(crate) messenger: Arc<OnionMessenger>,
    pub(crate) peer_manager: Arc<PeerManager>,
    pub(crate) sweeper: Arc<Sweeper>,
    pub(crate) bumper: Bumper,
    /// Height of the last block that every part has seen.
    pub(crate) tip: watch::Receiver<Height>,
    /// Channels that we are opening, by user channel id, and who waits for them.
    pub(crate) opens: Mutex<HashMap<u128, oneshot::Sender<node::Result<lightning::ln::types::ChannelId>>>>,
    /// Peers to stay connected to, and where they are.
    pub(crate) wanted: Mutex<HashMap<PublicKey, String>>,
    /// Where this node listens, with the ports that it got.
    pub(crate) bound: Mutex<Vec<SocketAddr>>,
    /// A payment that found no way is to be tried again.
    pub(crate) retry: Notify,
    pub(crate) cancel: CancellationToken,
    pub(crate) tasks: TaskTracker,
}

impl Core {
    /// The present, as the channel manager sees it.
    pub(crate) fn now(&self) -> Now {
        Now { height: Height(self.manager.current_best_block().height), unix: unix_now() }
    }

    pub(crate) fn opens(
        &self,
    ) -> MutexGuard<'_, HashMap<u128, oneshot::Sender<node::Result<lightning::ln::types::ChannelId>>>> {
        self.opens.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// LDK's name for a channel before it has an id.
    pub(crate) fn fresh_user_id(&self) -> u128 {
        let random = self.keys.get_secure_random_bytes();
        u128::from_be_bytes(std::array::from_fn(|i| random[i]))
    }

    /// Claims with the preimage of a standing order to settle.
    pub(crate) fn claim(&self, preimage: Option<&Preimage>) {
        match preimage {
            Some(preimage) => {
                self.manager.claim_funds(PaymentPreimage(*preimage.expose()));
                if let Some(salvage) = &self.salvage {
                    salvage.claim(preimage);
                }
            }
            None => tracing::error!("an order to settle has lost its preimage"),
        }
    }

    /// A new block, or another tip: what LDK failed back by itself is recorded, invoices lapse.
    pub(crate) fn on_tip(&self, tip: Height) {
        self.cancel_holds(|core, hold| core.ends_at(hold, tip));
        self.writer.announce(node::NodeEvent::Tip(tip));
    }

    fn ends_at(&self, hold: &crate::holds::HoldRow, tip: Height) -> bool {
        hold.timed_out(tip) || hold.lapsed(unix_now())
    }

    /// Invoices that nobody paid in time are closed.
    pub(crate) fn lapse(&self) {
        self.cancel_holds(|_, hold| hold.lapsed(unix_now()));
    }

    fn cancel_holds(&self, ends: impl Fn(&Core, &crate::holds::HoldRow) -> bool) {
        let mut ledger = self.ledger.open();
        let ended = ledger.holds(|hold| ends(self, hold));
        for mut hold in ended {
            hold.finish(crate::holds::Phase::Canceled);
            // LDK fails it at the deadline; for one that lapsed there is nothing to fail.
            self.manager.fail_htlc_backwards(&LdkHash(hold.hash.0));
            ledger.put_hold(hold);
        }
    }

    pub(crate) fn stopping(&self) -> Result<(), NodeError> {
        if self.cancel.is_cancelled() {
            return Err(NodeError::Unreachable("the node is stopping".into()));
        }
        self.writer.healthy()
    }
}

/// Wall-clock time.
pub(crate) fn unix_now() -> Unix {
    // A clock before 1970 is a broken machine; zero makes nothing expire.
    Unix(SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs()))
}

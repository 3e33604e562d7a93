//! Checks that announced channels exist on chain, before they enter the network graph (BOLT#7).

use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

use bitcoin::constants::ChainHash;
use bitcoin::{Network, TxOut};
use lightning::routing::gossip::{NetworkGraph, P2PGossipSync};
use lightning::routing::utxo::{UtxoFuture, UtxoLookup, UtxoLookupError, UtxoResult};
use tokio::sync::mpsc;

use super::error::ChainError;
use crate::logger::TracingLogger;

/// How many lookups may wait. LDK stops reading gossip long before.
pub(super) const MAX_WAITING_CHECKS: usize = 4_096;
/// How many lookups run at once.
pub(super) const PARALLEL_CHECKS: usize = 4;
/// BOLT#7 announces after six confirmations; one less tolerates that we saw a block late.
pub(super) const ANNOUNCE_DEPTH: u32 = 5;
/// A pending lookup holds messages back, so none waits longer.
pub(super) const CHECK_TIMEOUT: Duration = Duration::from_secs(10);

/// The gossip sync that a [`UtxoCheck`] serves.
pub type Gossip = P2PGossipSync<Arc<NetworkGraph<Arc<TracingLogger>>>, Arc<UtxoCheck>, Arc<TracingLogger>>;

/// A short channel id (BOLT#7) taken apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ShortChannelId {
    pub(super) height: u32,
    pub(super) index: usize,
    pub(super) vout: u32,
}

impl From<u64> for ShortChannelId {
    fn from(scid: u64) -> ShortChannelId {
        ShortChannelId {
            height: (scid >> 40) as u32,
            index: ((scid >> 16) & 0xff_ffff) as usize,
            vout: (scid & 0xffff) as u32,
        }
    }
}

pub(super) struct Check {
    pub(super) place: ShortChannelId,
    future: UtxoFuture,
}

/// LDK's window on the UTXO set. Built with the [`super::Chain`], attached to the gossip sync once that exists.
pub struct UtxoCheck {
    chain_hash: ChainHash,
    queue: mpsc::Sender<Check>,
    attached: OnceLock<Attached>,
}

struct Attached {
    gossip: Weak<Gossip>,
    wake: Box<dyn Fn() + Send + Sync>,
}

impl UtxoCheck {
    pub(super) fn new(network: Network) -> (UtxoCheck, mpsc::Receiver<Check>) {
        let (queue, checks) = mpsc::channel(MAX_WAITING_CHECKS);
        (
            UtxoCheck { chain_hash: ChainHash::using_genesis_block_const(network), queue, attached: OnceLock::new() },
            checks,
        )
    }

    /// Says where answers go: `wake` is `PeerManager::process_events`, called after each answer. Before this every announced
    /// channel is refused; a second call changes nothing.
    pub fn attach(&self, gossip: &Arc<Gossip>, wake: impl Fn() + Send + Sync + 'static) {
        self.attached.get_or_init(|| Attached { gossip: Arc::downgrade(gossip), wake: Box::new(wake) });
    }

    pub(super) fn resolve(&self, check: &Check, found: Result<Option<TxOut>, ChainError>) {
        let Some(attached) = self.attached.get() else { return };
        let Some(gossip) = attached.gossip.upgrade() else { return };
        let result = match found {
            Ok(Some(output)) => Ok(output),
            Ok(None) => Err(UtxoLookupError::UnknownTx),
            Err(error) => {
                tracing::debug!(%error, place = ?check.place, "channel could not be looked up");
                Err(UtxoLookupError::UnknownTx)
            }
        };
        check.future.resolve(gossip.network_graph(), &*gossip, result);
        (attached.wake)();
    }
}

impl UtxoLookup for UtxoCheck {
    fn get_utxo(&self, chain_hash: &ChainHash, short_channel_id: u64) -> UtxoResult {
        if *chain_hash != self.chain_hash {
            return UtxoResult::Sync(Err(UtxoLookupError::UnknownChain));
        }
        if self.attached.get().is_none() {
            return UtxoResult::Sync(Err(UtxoLookupError::UnknownTx));
        }
        let future = UtxoFuture::new();
        match self.queue.try_send(Check { place: short_channel_id.into(), future: future.clone() }) {
            Ok(()) => UtxoResult::Async(future),
            Err(_) => UtxoResult::Sync(Err(UtxoLookupError::UnknownTx)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_short_channel_id_is_height_index_output() {
        // BOLT#7's own example: 539268x845x1
        let scid = (539_268u64 << 40) | (845 << 16) | 1;
        assert_eq!(ShortChannelId::from(scid), ShortChannelId { height: 539_268, index: 845, vout: 1 });
    }
}

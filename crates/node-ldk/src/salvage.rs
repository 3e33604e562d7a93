//! Salvage: channels whose present state was lost, and of which a backup knows a state of the past.
//!
//! Such a state must never be used: a commitment of the past that is published costs everything in the channel. So its monitors never meet
//! the channel manager. They watch the chain on their own: the peer, who is told that we have forgotten the channel, publishes its latest
//! commitment, and the monitor finds what that pays us, and claims payments of which it knows. Whatever they want to broadcast that spends
//! the funding of such a channel is dropped ([`Guard`]).

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

use bitcoin::{OutPoint, Transaction};
use lightning::chain::chaininterface::BroadcasterInterface;
use lightning::chain::channelmonitor::{HTLCUpdate, MonitorEvent};
use lightning::chain::transaction::TransactionData;
use lightning::chain::{BestBlock, Confirm, Listen, Watch};
use lightning::events::{Event, ReplayEvent};
use lightning::sign::NodeSigner;
use lightning::util::ser::{BigSize, Readable, Writeable};
use node::{PaymentId, PaymentState, Result};
use units::{Msat, PaymentHash, Preimage};

use crate::boot::read_monitor;
use crate::core::Core;
use crate::persist::Monitors;
use crate::store::{SavedMonitor, Store};
use crate::types::{ChainMonitor, ChannelMonitor, DynBroadcaster, DynFees, DynFilter, Keys, Log};
use crate::writer::Writer;

/// Keys of the blobs: a monitor under its name, and each step after it behind a slash.
pub(crate) const MONITOR: &str = "salvage/";
/// Key of the blob with the ids of payments that were under way when the backup was made.
pub(crate) const PAYMENTS: &str = "salvaged_payments";

/// Broadcasts for monitors of the past all that does not close one of their channels.
pub(crate) struct Guard {
    to: DynBroadcaster,
    fundings: BTreeSet<OutPoint>,
}

impl Guard {
    fn closes(&self, transaction: &Transaction) -> bool {
        transaction.input.iter().any(|input| self.fundings.contains(&input.previous_output))
    }
}

impl BroadcasterInterface for Guard {
    fn broadcast_transactions(&self, transactions: &[&Transaction]) {
        let (closing, others): (Vec<_>, Vec<_>) = transactions.iter().copied().partition(|tx| self.closes(tx));
        for transaction in closing {
            tracing::warn!(txid = %transaction.compute_txid(), "a commitment of the past is not published");
        }
        if !others.is_empty() {
            self.to.broadcast_transactions(&others);
        }
    }
}

/// Monitors of the past, and payments that may still be in their channels.
pub(crate) struct Salvage {
    set: Arc<ChainMonitor>,
    pub(crate) guard: DynBroadcaster,
    payments: BTreeSet<PaymentId>,
    /// Taken when they are brought to the tip.
    monitors: Mutex<Vec<ChannelMonitor>>,
}

/// What a set of monitors works with.
pub(crate) struct Tools<'a> {
    pub(crate) filter: Option<DynFilter>,
    pub(crate) broadcaster: &'a DynBroadcaster,
    pub(crate) fees: &'a DynFees,
    pub(crate) keys: &'a Arc<Keys>,
    pub(crate) log: &'a Log,
}

impl Salvage {
    /// Reads what a restore left in the store; nothing in nearly every store.
    pub(crate) fn read(store: &Store, writer: &Writer, tools: &Tools<'_>) -> Result<Option<Salvage>> {
        let saved = saved(store)?;
        if saved.is_empty() {
            return Ok(None);
        }
        // Until every funding is known nothing at all is let through.
        let silent: DynBroadcaster = Arc::new(Silence);
        let mut monitors = Vec::with_capacity(saved.len());
        for monitor in saved {
            monitors.push(read_monitor(monitor, tools.keys, &silent, tools.fees, tools.log)?);
        }
        let fundings = monitors.iter().map(|monitor| monitor.get_funding_txo().into_bitcoin_outpoint()).collect();
        let guard: DynBroadcaster = Arc::new(Guard { to: Arc::clone(tools.broadcaster), fundings });
        let set = ChainMonitor::new(
            tools.filter.clone(),
            Arc::clone(&guard),
            Arc::clone(tools.log),
            Arc::clone(tools.fees),
            Arc::new(Monitors::of_the_past(writer.clone())),
            Arc::clone(tools.keys),
            tools.keys.get_peer_storage_key(),
        );
        let payments = match store.blob(PAYMENTS)? {
            Some(bytes) => bytes.as_chunks::<32>().0.iter().map(|id| PaymentId(*id)).collect(),
            None => BTreeSet::new(),
        };
        tracing::warn!(channels = monitors.len(), "channels of a backup: their peers are asked to close them");
        Ok(Some(Salvage { set: Arc::new(set), guard, payments, monitors: Mutex::new(monitors) }))
    }

    pub(crate) fn set(&self) -> &Arc<ChainMonitor> {
        &self.set
    }

    pub(crate) fn take_monitors(&self) -> Vec<ChannelMonitor> {
        std::mem::take(&mut *self.monitors.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Was this payment under way when the backup was made? Then only the chain says what became of it.
    pub(crate) fn knows(&self, id: PaymentId) -> bool {
        self.payments.contains(&id)
    }
}

/// Every monitor with the steps that were written after it.
fn saved(store: &Store) -> Result<Vec<SavedMonitor>> {
    let mut saved: Vec<(String, SavedMonitor)> = Vec::new();
    // In order: a step's key continues its monitor's.
    let mut keys = store.blob_keys(MONITOR)?;
    keys.sort_unstable();
    for key in keys {
        let Some(bytes) = store.blob(&key)? else { continue };
        match key[MONITOR.len()..].split_once('/') {
            None => saved.push((key, (bytes, Vec::new()))),
            // A step without its monitor is of one that was archived.
            Some(_) => match saved.last_mut() {
                Some((monitor, (_, steps))) if key.starts_with(&format!("{monitor}/")) => steps.push(bytes),
                Some(_) | None => {}
            },
        }
    }
    Ok(saved.into_iter().map(|(_, monitor)| monitor).collect())
}

struct Silence;

impl BroadcasterInterface for Silence {
    fn broadcast_transactions(&self, _: &[&Transaction]) {}
}

/// The monitors of the present and those of the past, told of blocks together.
pub(crate) struct Both(pub(crate) Arc<ChainMonitor>, pub(crate) Arc<ChainMonitor>);

impl Listen for Both {
    fn filtered_block_connected(
        &self,
        header: &bitcoin::block::Header,
        transactions: &TransactionData<'_>,
        height: u32,
    ) {
        self.0.filtered_block_connected(header, transactions, height);
        self.1.filtered_block_connected(header, transactions, height);
    }

    fn blocks_disconnected(&self, fork: BestBlock) {
        self.0.blocks_disconnected(fork);
        self.1.blocks_disconnected(fork);
    }
}

impl Confirm for Both {
    fn transactions_confirmed(&self, header: &bitcoin::block::Header, transactions: &TransactionData<'_>, height: u32) {
        self.0.transactions_confirmed(header, transactions, height);
        self.1.transactions_confirmed(header, transactions, height);
    }

    fn transaction_unconfirmed(&self, txid: &bitcoin::Txid) {
        self.0.transaction_unconfirmed(txid);
        self.1.transaction_unconfirmed(txid);
    }

    fn best_block_updated(&self, header: &bitcoin::block::Header, height: u32) {
        self.0.best_block_updated(header, height);
        self.1.best_block_updated(header, height);
    }

    fn get_relevant_txids(&self) -> Vec<(bitcoin::Txid, u32, Option<bitcoin::BlockHash>)> {
        let mut all = self.0.get_relevant_txids();
        all.extend(self.1.get_relevant_txids());
        all
    }
}

impl Core {
    /// What monitors of the past found: coins to sweep, and what became of payments.
    pub(crate) async fn process_salvage(&self) {
        let Some(salvage) = &self.salvage else { return };
        salvage.set.process_pending_events_async(|event| self.handle_past(event)).await;
        for (_, _, events, _) in salvage.set.release_pending_monitor_events() {
            for event in events {
                let MonitorEvent::HTLCEvent(update) = event else { continue };
                match Fate::read(&update) {
                    Some(fate) => self.payment_of_the_past(&fate),
                    None => tracing::error!("what became of a payment of the past cannot be read"),
                }
            }
        }
    }

    async fn handle_past(&self, event: Event) -> std::result::Result<(), ReplayEvent> {
        match event {
            Event::SpendableOutputs { outputs, channel_id } => {
                tracing::info!(channel = ?channel_id, outputs = outputs.len(), "a peer's closing transaction pays us");
                let tracked = self.sweeper.track_spendable_outputs(outputs, channel_id, true, None).await;
                tracked.map_err(|()| ReplayEvent())
            }
            // Fees for a commitment of our own, which is never published.
            _ => Ok(()),
        }
    }

    fn payment_of_the_past(&self, fate: &Fate) {
        let id = PaymentId(fate.hash.0);
        let mut ledger = self.ledger.open();
        match ledger.payment(id) {
            Ok(Some(mut row)) if row.in_flight() => {
                row.hash = Some(fate.hash);
                row.state = match &fate.preimage {
                    Some(preimage) => PaymentState::Succeeded { preimage: preimage.clone(), fee: Msat::ZERO },
                    None => PaymentState::Failed { reason: "it came back on chain when its channel was closed".into() },
                };
                ledger.put_payment(row);
            }
            Ok(Some(_) | None) => {}
            Err(error) => tracing::error!(%error, "what became of a payment of the past cannot be noted"),
        }
    }
}

/// What became of a payment. LDK tells it to its own channel manager only; the format in which it keeps it is stable.
struct Fate {
    hash: PaymentHash,
    preimage: Option<Preimage>,
}

impl Fate {
    fn read(update: &HTLCUpdate) -> Option<Fate> {
        let bytes = update.encode();
        let mut rest = &bytes[..];
        let _length = BigSize::read(&mut rest).ok()?;
        let (mut hash, mut preimage) = (None, None);
        while !rest.is_empty() {
            let kind = BigSize::read(&mut rest).ok()?.0;
            let length = usize::try_from(BigSize::read(&mut rest).ok()?.0).ok()?;
            let (value, after) = rest.split_at_checked(length)?;
            match kind {
                0 => hash = Some(PaymentHash(value.try_into().ok()?)),
                4 => preimage = Some(Preimage::new(value.try_into().ok()?)),
                _ => {}
            }
            rest = after;
        }
        let hash = hash?;
        let fits = preimage.as_ref().is_none_or(|preimage| preimage.hash() == hash);
        fits.then_some(Fate { hash, preimage })
    }
}

#[cfg(test)]
mod tests {
    use bitcoin::hashes::Hash;
    use bitcoin::{TxIn, Txid, absolute, transaction};

    use super::*;

    #[derive(Default)]
    struct Ear(Mutex<Vec<Txid>>);

    impl BroadcasterInterface for Ear {
        fn broadcast_transactions(&self, transactions: &[&Transaction]) {
            self.0.lock().unwrap().extend(transactions.iter().map(|transaction| transaction.compute_txid()));
        }
    }

    fn spends(outpoint: OutPoint) -> Transaction {
        let input = vec![TxIn { previous_output: outpoint, ..TxIn::default() }];
        let (version, lock_time) = (transaction::Version::TWO, absolute::LockTime::ZERO);
        Transaction { version, lock_time, input, output: Vec::new() }
    }

    #[test]
    fn what_spends_a_funding_of_the_past_is_kept_back_and_the_rest_goes_out() {
        let outpoint = |n: u8| OutPoint { txid: Txid::from_byte_array([n; 32]), vout: n.into() };
        let (commitment, claim) = (spends(outpoint(1)), spends(outpoint(2)));
        let ear = Arc::new(Ear::default());
        let guard = Guard { to: ear.clone(), fundings: BTreeSet::from([outpoint(1)]) };
        guard.broadcast_transactions(&[&commitment, &claim]);
        guard.broadcast_transactions(&[&commitment]);
        assert_eq!(*ear.0.lock().unwrap(), [claim.compute_txid()]);
    }
}

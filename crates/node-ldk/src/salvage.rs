//! Salvage: channels whose present state was lost, and of which a backup knows a state of the past.
//!
//! Such a state must never be used: a commitment of the past that is published costs everything in the channel. So its monitors never meet
//! the channel manager. They watch the chain on their own: the peer, who is told that we have forgotten the channel, publishes its latest
//! commitment, and the monitor finds what that pays us, and claims payments of which it knows. Whatever they want to broadcast that spends
//! the funding of such a channel is dropped ([`Guard`]).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};

use bitcoin::{OutPoint, Transaction, Txid};
use lightning::chain::chaininterface::BroadcasterInterface;
use lightning::chain::channelmonitor::{Balance, ChannelMonitorUpdate, HTLCUpdate, MonitorEvent};
use lightning::chain::transaction::TransactionData;
use lightning::chain::{BestBlock, Confirm, Listen, Watch};
use lightning::events::{Event, ReplayEvent};
use lightning::ln::types::ChannelId;
use lightning::sign::NodeSigner;
use lightning::util::ser::{BigSize, Readable, Writeable};
use node::{PaymentId, PaymentState, Result};
use units::{Msat, PaymentHash, Preimage};

use crate::boot::read_monitor;
use crate::core::Core;
use crate::holds::Phase;
use crate::persist::Monitors;
use crate::store::{Change, SavedMonitor, Store};
use crate::types::{ChainMonitor, ChannelMonitor, DynBroadcaster, DynFees, DynFilter, Keys, Log};
use crate::writer::Writer;

/// Keys of the blobs: a monitor under its name, and each step after it behind a slash.
pub(crate) const MONITOR: &str = "salvage/";
/// Key of the blob with the ids of payments that were under way when the backup was made.
pub(crate) const PAYMENTS: &str = "salvaged_payments";

/// Key of the blobs with the hashes of payments that a transaction of ours claims, under its id.
const CLAIMS: &str = "salvaged_claims/";

/// Broadcasts for monitors of the past all that does not close one of their channels.
pub(crate) struct Guard {
    to: DynBroadcaster,
    fundings: BTreeSet<OutPoint>,
    claims: Arc<Claims>,
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
            others.iter().for_each(|transaction| self.claims.note(transaction));
            self.to.broadcast_transactions(&others);
        }
    }
}

/// Which payments our transactions on the commitments of peers claim. LDK tells of a claim that is final by the outpoint alone.
pub(crate) struct Claims {
    writer: Writer,
    known: Mutex<BTreeMap<Txid, Vec<PaymentHash>>>,
}

impl Claims {
    fn read(store: &Store, writer: &Writer) -> Result<Claims> {
        let mut known = BTreeMap::new();
        for key in store.blob_keys(CLAIMS)? {
            let (Ok(txid), Some(hashes)) = (key[CLAIMS.len()..].parse(), store.blob(&key)?) else { continue };
            known.insert(txid, hashes.as_chunks::<32>().0.iter().map(|hash| PaymentHash(*hash)).collect());
        }
        Ok(Claims { writer: writer.clone(), known: Mutex::new(known) })
    }

    /// Written before the transaction leaves. Whatever in a witness has the length of a secret is taken for one: what it would open
    /// tells whether it is.
    fn note(&self, transaction: &Transaction) {
        let elements = transaction.input.iter().flat_map(|input| input.witness.iter());
        let hashes: Vec<_> = elements
            .filter_map(|element| <[u8; 32]>::try_from(element).ok())
            .map(|secret| Preimage::new(secret).hash())
            .collect();
        if hashes.is_empty() {
            return;
        }
        let txid = transaction.compute_txid();
        let value = hashes.iter().flat_map(|hash| hash.0).collect();
        self.writer.put(Change::Blob { key: format!("{CLAIMS}{txid}"), value });
        self.known.lock().unwrap_or_else(PoisonError::into_inner).insert(txid, hashes);
    }

    fn of(&self, txid: Txid) -> Vec<PaymentHash> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).get(&txid).cloned().unwrap_or_default()
    }
}

/// Monitors of the past, and payments that may still be in their channels.
pub(crate) struct Salvage {
    set: Arc<ChainMonitor>,
    pub(crate) guard: DynBroadcaster,
    payments: BTreeSet<PaymentId>,
    claims: Arc<Claims>,
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
        let claims = Arc::new(Claims::read(store, writer)?);
        let to = Arc::clone(tools.broadcaster);
        let guard: DynBroadcaster = Arc::new(Guard { to, fundings, claims: Arc::clone(&claims) });
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
        Ok(Some(Salvage { set: Arc::new(set), guard, payments, claims, monitors: Mutex::new(monitors) }))
    }

    pub(crate) fn set(&self) -> &Arc<ChainMonitor> {
        &self.set
    }

    pub(crate) fn take_monitors(&self) -> Vec<ChannelMonitor> {
        std::mem::take(&mut *self.monitors.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Gives a secret to the monitors of channels in which a payment on its hash is held for us. They claim it on chain as soon as the peer
    /// has published its commitment, if that is one that they know.
    pub(crate) fn claim(&self, preimage: &Preimage) {
        for channel in self.set.list_monitors() {
            let Ok(monitor) = self.set.get_monitor(channel) else { continue };
            if held_on(&monitor.get_claimable_balances(), preimage.hash()).next().is_none() {
                continue;
            }
            let update = secret_for(channel, monitor.get_latest_update_id() + 1, preimage);
            drop(monitor);
            match update {
                // It is written whole, and nobody waits for an answer: see `Monitors`.
                Some(update) => {
                    let _told = self.set.update_channel(channel, &update);
                    tracing::info!(%channel, hash = %preimage.hash(), "its channel is lost: claimed on chain when the peer closes it");
                }
                None => tracing::error!(%channel, "a secret cannot be given to a monitor of the past"),
            }
        }
    }

    /// Is all of this payment in commitments that peers have published and that the backup knew? Then it is ours for its secret.
    pub(crate) fn surely_holds(&self, hash: PaymentHash, amount: Msat) -> bool {
        let mut held = 0_u64;
        for channel in self.set.list_monitors() {
            let Ok(monitor) = self.set.get_monitor(channel) else { continue };
            let balances = monitor.get_claimable_balances();
            let open = balances.iter().any(|balance| matches!(balance, Balance::ClaimableOnChannelClose { .. }));
            if !open {
                held = held.saturating_add(held_on(&balances, hash).map(|sat| sat.saturating_mul(1000)).sum());
            }
        }
        // Whole satoshis are on chain.
        held.saturating_add(1000 * self.set.list_monitors().len() as u64) > amount.0 && held > 0
    }

    /// Was this payment under way when the backup was made? Then only the chain says what became of it.
    pub(crate) fn knows(&self, id: PaymentId) -> bool {
        self.payments.contains(&id)
    }
}

/// What is held for us on this hash in a channel whose monitor does not know the secret yet, in satoshis.
fn held_on(balances: &[Balance], hash: PaymentHash) -> impl Iterator<Item = u64> {
    balances.iter().filter_map(move |balance| match balance {
        Balance::MaybePreimageClaimableHTLC { payment_hash, amount_satoshis, .. } => {
            (payment_hash.0 == hash.0).then_some(*amount_satoshis)
        }
        _ => None,
    })
}

/// The step that gives a monitor a secret. LDK makes it in its channel manager only, which knows nothing of this channel; the format in
/// which it keeps steps is stable.
fn secret_for(channel: ChannelId, update_id: u64, preimage: &Preimage) -> Option<ChannelMonitorUpdate> {
    // Version, id, one step; the step of a secret (2) with the secret (0); the channel (3). See BOLT#1 for the records.
    let mut bytes = vec![1, 1];
    bytes.extend(update_id.to_be_bytes());
    bytes.extend(1_u64.to_be_bytes());
    bytes.extend([2, 34, 0, 32]);
    bytes.extend(preimage.expose());
    bytes.extend([34, 3, 32]);
    bytes.extend(channel.0);
    ChannelMonitorUpdate::read(&mut &bytes[..]).ok().filter(|update| update.encode() == bytes)
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
                let txids: BTreeSet<_> = outputs.iter().map(|output| output.spendable_outpoint().txid).collect();
                let tracked = self.sweeper.track_spendable_outputs(outputs, channel_id, true, None).await;
                tracked.map_err(|()| ReplayEvent())?;
                txids.into_iter().for_each(|txid| self.claimed_on_chain(txid));
                Ok(())
            }
            // Fees for a commitment of our own, which is never published.
            _ => Ok(()),
        }
    }

    /// A transaction of ours is deep enough: what it claims is ours.
    fn claimed_on_chain(&self, txid: Txid) {
        let claimed = self.salvage.as_ref().map(|salvage| salvage.claims.of(txid)).unwrap_or_default();
        let mut ledger = self.ledger.open();
        for hash in claimed {
            match ledger.hold(hash) {
                Ok(Some(mut row)) if row.phase == Phase::Settling => {
                    row.finish(Phase::Settled);
                    ledger.put_hold(row);
                }
                Ok(Some(_) | None) => {}
                Err(error) => tracing::error!(%error, "a payment that was claimed on chain cannot be noted"),
            }
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
    use bitcoin::{TxIn, Txid, Witness, absolute, transaction};

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

    fn claims() -> (tempfile::TempDir, Arc<Claims>) {
        let dir = tempfile::tempdir().unwrap();
        let open = || Store::open(&dir.path().join("node.sqlite")).unwrap();
        let claims = Claims::read(&open(), &Writer::start(open()).unwrap()).unwrap();
        (dir, Arc::new(claims))
    }

    #[test]
    fn the_step_that_gives_a_secret_is_the_one_that_ldk_reads() {
        let (channel, secret) = (ChannelId([7; 32]), Preimage::new([9; 32]));
        let update = secret_for(channel, 41, &secret).unwrap();
        assert_eq!((update.update_id, update.channel_id), (41, Some(channel)));
        assert!(format!("{update:?}").contains("PaymentPreimage { payment_preimage"), "{update:?}");
    }

    #[tokio::test]
    async fn a_claim_is_known_by_the_secrets_in_it_and_after_a_restart() {
        let (dir, claims) = claims();
        let secret = Preimage::new([5; 32]);
        let mut claim = spends(OutPoint { txid: Txid::from_byte_array([3; 32]), vout: 0 });
        claim.input[0].witness = Witness::from_slice(&[&[1; 71][..], secret.expose(), &[2; 140]]);
        let ear = Arc::new(Ear::default());
        let guard = Guard { to: ear, fundings: BTreeSet::new(), claims: claims.clone() };
        guard.broadcast_transactions(&[&claim]);
        claims.writer.flushed().await.unwrap();
        let again = Claims::read(&Store::open(&dir.path().join("node.sqlite")).unwrap(), &claims.writer).unwrap();
        for claims in [&*claims, &again] {
            assert_eq!(claims.of(claim.compute_txid()), [secret.hash()]);
            assert_eq!(claims.of(Txid::from_byte_array([3; 32])), []);
        }
    }

    #[test]
    fn what_spends_a_funding_of_the_past_is_kept_back_and_the_rest_goes_out() {
        let outpoint = |n: u8| OutPoint { txid: Txid::from_byte_array([n; 32]), vout: n.into() };
        let (commitment, claim) = (spends(outpoint(1)), spends(outpoint(2)));
        let ear = Arc::new(Ear::default());
        let (_dir, claims) = claims();
        let guard = Guard { to: ear.clone(), fundings: BTreeSet::from([outpoint(1)]), claims };
        guard.broadcast_transactions(&[&commitment, &claim]);
        guard.broadcast_transactions(&[&commitment]);
        assert_eq!(*ear.0.lock().unwrap(), [claim.compute_txid()]);
    }
}

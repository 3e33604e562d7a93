//! The on-chain side: the wallet's verbs, fee bumps, and the sweep of what closed channels leave.

use std::sync::Arc;

use ::keys::Seed;
use bitcoin::{FeeRate, ScriptBuf, Transaction};
use lightning::chain::BestBlock;
use lightning::chain::chaininterface::ConfirmationTarget;
use lightning::events::bump_transaction::{BumpTransactionEvent, BumpTransactionEventHandler, Wallet as CoinSource};
use lightning::util::persist::{
    KVStore, OUTPUT_SWEEPER_PERSISTENCE_KEY, OUTPUT_SWEEPER_PERSISTENCE_PRIMARY_NAMESPACE,
    OUTPUT_SWEEPER_PERSISTENCE_SECONDARY_NAMESPACE,
};
use lightning::util::ser::ReadableArgs;
use lightning::util::sweep::{OutputSpendStatus, OutputSweeper};
use node::{Balances, NodeError, Result};
use units::{Msat, Sat};

use crate::chain::{Chain, ChainError};
use crate::config::LdkConfig;
use crate::core::Core;
use crate::node::fault;
use crate::persist::Blobs;
use crate::types::{DynBroadcaster, DynFees, DynFilter, Keys, Log};
use crate::wallet::{Wallet, WalletError, WalletFile};

pub(crate) type Sweeper = OutputSweeper<DynBroadcaster, Arc<Wallet>, DynFees, DynFilter, Arc<Blobs>, Log, Arc<Keys>>;
type Coins = Arc<CoinSource<Arc<Wallet>, Log>>;

/// Pays for commitments and HTLC transactions from the wallet when fees rise.
pub(crate) struct Bumper(BumpTransactionEventHandler<DynBroadcaster, Coins, Arc<Keys>, Log>);

impl Bumper {
    pub(crate) fn new(chain: &Chain, wallet: &Wallet, keys: &Arc<Keys>, log: &Log) -> Bumper {
        let coins: Coins = Arc::new(CoinSource::new(Arc::new(wallet.clone()), Arc::clone(log)));
        let broadcaster: DynBroadcaster = Arc::new(chain.clone());
        Bumper(BumpTransactionEventHandler::new(broadcaster, coins, Arc::clone(keys), Arc::clone(log)))
    }
}

/// Reads the sweeper, or makes an empty one that begins at the tip.
pub(crate) async fn load_sweeper(
    chain: &Chain,
    wallet: &Wallet,
    keys: &Arc<Keys>,
    blobs: Arc<Blobs>,
    log: &Log,
) -> Result<Sweeper> {
    let (broadcaster, fees): (DynBroadcaster, DynFees) = (Arc::new(chain.clone()), Arc::new(chain.clone()));
    let (filter, wallet) = (chain.filter(), Arc::new(wallet.clone()));
    let saved = blobs.read(
        OUTPUT_SWEEPER_PERSISTENCE_PRIMARY_NAMESPACE,
        OUTPUT_SWEEPER_PERSISTENCE_SECONDARY_NAMESPACE,
        OUTPUT_SWEEPER_PERSISTENCE_KEY,
    );
    match saved.await {
        Ok(bytes) => {
            let parts = (broadcaster, fees, filter, Arc::clone(keys), wallet, blobs, Arc::clone(log));
            let read = <(BestBlock, Sweeper)>::read(&mut &bytes[..], parts);
            read.map(|(_, sweeper)| sweeper).map_err(|error| fault("sweeper", &format!("{error:?}")))
        }
        Err(error) if error.kind() == lightning::io::ErrorKind::NotFound => {
            let (best, keys) = (chain.best_block().await?, Arc::clone(keys));
            Ok(Sweeper::new(best, broadcaster, fees, filter, keys, wallet, blobs, Arc::clone(log)))
        }
        Err(error) => Err(fault("sweeper", &error)),
    }
}

impl From<ChainError> for NodeError {
    fn from(error: ChainError) -> NodeError {
        match error {
            ChainError::Unreachable { .. } | ChainError::NoFeeEstimate(_) => NodeError::Unreachable(error.to_string()),
            ChainError::Credentials { .. }
            | ChainError::WrongNetwork { .. }
            | ChainError::Url { .. }
            | ChainError::UnknownBlock { .. }
            | ChainError::TransactionRefused { .. } => NodeError::Rejected(error.to_string()),
            ChainError::AlreadyRunning | ChainError::NotSynced | ChainError::Protocol(_) | ChainError::Wallet(_) => {
                NodeError::Fault(error.to_string())
            }
        }
    }
}

impl From<WalletError> for NodeError {
    fn from(error: WalletError) -> NodeError {
        match error {
            WalletError::Chain(error) => error.into(),
            WalletError::OutcomeUnknown { .. } => NodeError::Unknown(error.to_string()),
            WalletError::Store(_) | WalletError::Fault(_) => NodeError::Fault(error.to_string()),
            _ => NodeError::Rejected(error.to_string()),
        }
    }
}

impl Core {
    /// Confirmed and free, the reserve included.
    pub(crate) fn spendable(&self) -> Sat {
        self.wallet.balance().confirmed
    }

    pub(crate) fn funding_transaction(&self, script: ScriptBuf, amount: Sat) -> Result<Transaction> {
        let target = ConfirmationTarget::NonAnchorChannelFee;
        // The wallet adds one for the channel to be funded, which LDK lists already.
        let others = self.anchor_channels().saturating_sub(1);
        self.wallet.set_anchor_channels(u32::try_from(others).unwrap_or(u32::MAX));
        Ok(self.wallet.create_funding_tx(script, amount, target)?)
    }

    /// A funding transaction that will not be used frees its coins.
    pub(crate) fn release(&self, transaction: &Transaction) {
        self.wallet.cancel_tx(transaction.compute_txid());
    }

    pub(crate) async fn bump(&self, event: &BumpTransactionEvent) {
        self.bumper.0.handle_event(event).await;
    }

    /// Spends what closed channels left, where that is due.
    pub(crate) async fn sweep(&self) {
        if self.sweeper.regenerate_and_broadcast_spend_if_necessary().await.is_err() {
            tracing::warn!("outputs of closed channels could not be swept; tried again in a while");
        }
    }

    pub(crate) fn new_address(&self) -> Result<String> {
        Ok(self.wallet.new_address()?.to_string())
    }

    pub(crate) async fn send_onchain(&self, address: &str, amount: Sat, sat_per_vb: Option<u32>) -> Result<String> {
        let fee_rate = sat_per_vb.map(|rate| FeeRate::from_sat_per_vb(rate.into()));
        let fee_rate = fee_rate.map(|rate| rate.ok_or_else(|| NodeError::Rejected("fee rate too high".into())));
        self.keep_reserve();
        Ok(self.wallet.send(address, amount, fee_rate.transpose()?).await?.to_string())
    }

    /// Tells the wallet for how many channels it must keep coins.
    pub(crate) fn keep_reserve(&self) {
        self.wallet.set_anchor_channels(u32::try_from(self.anchor_channels()).unwrap_or(u32::MAX));
    }

    pub(crate) fn balances(&self) -> Result<Balances> {
        let channels = self.manager.list_channels();
        let open: Vec<_> = channels.iter().collect();
        let past = self.salvage.as_ref().map(|salvage| salvage.set().get_claimable_balances(&[]));
        let present = self.chain_monitor.get_claimable_balances(&open);
        let closing: u64 = present.iter().chain(past.iter().flatten()).map(|due| due.claimable_amount_satoshis()).sum();
        let sweeping: u64 = self
            .sweeper
            .tracked_spendable_outputs()
            .iter()
            .filter(|output| !matches!(output.status, OutputSpendStatus::PendingThresholdConfirmations { .. }))
            .map(|output| crate::funds::value(&output.descriptor))
            .sum();
        let wallet = self.wallet.balance();
        Ok(Balances {
            onchain: wallet.confirmed,
            onchain_pending: Sat(wallet.pending.0 + wallet.locked.0),
            lightning: Msat(channels.iter().map(|channel| channel.outbound_capacity_msat).sum()),
            closing: Sat(closing + sweeping),
        })
    }
}

fn value(output: &lightning::sign::SpendableOutputDescriptor) -> u64 {
    use lightning::sign::SpendableOutputDescriptor::{DelayedPaymentOutput, StaticOutput, StaticPaymentOutput};
    match output {
        StaticOutput { output, .. } => output.value.to_sat(),
        DelayedPaymentOutput(descriptor) => descriptor.output.value.to_sat(),
        StaticPaymentOutput(descriptor) => descriptor.output.value.to_sat(),
    }
}

/// The wallet's own file beside the node's, read on a thread that may block.
pub(crate) async fn read_wallet(config: &LdkConfig, seed: &Seed) -> Result<WalletFile> {
    let (path, network) = (config.data_dir.join("wallet.sqlite"), config.network);
    let master = seed.master(network);
    let read = tokio::task::spawn_blocking(move || WalletFile::read(&path, master, network)).await;
    Ok(read.map_err(|_| NodeError::Fault("the wallet file was not read to its end".into()))??)
}

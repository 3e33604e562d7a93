//! The on-chain wallet: one taproot account (BIP-86) of the seed, kept by BDK, fed by the [`Chain`].
//!
//! Coins come in from users, closed channels and sweeps; they go out to users, into channels and into fee bumps. A coin that is
//! promised to a transaction which is not yet broadcast (a channel being opened) is locked in memory until that transaction is
//! seen or canceled; a restart frees it, because LDK then either broadcasts the funding transaction or has forgotten the channel.

mod ldk;
mod store;
mod sync;

use std::collections::HashMap;
use std::path::Path;
use std::str::FromStr;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use bdk_wallet::chain::{BlockId, ChainPosition};
use bdk_wallet::coin_selection::InsufficientFunds;
use bdk_wallet::descriptor::IntoWalletDescriptor;
use bdk_wallet::error::CreateTxError;
use bdk_wallet::signer::SignersContainer;
use bdk_wallet::template::Bip86;
use bdk_wallet::{KeychainKind, LocalOutput, SignOptions, Update};
use bitcoin::address::NetworkUnchecked;
use bitcoin::bip32::Xpriv;
use bitcoin::constants::COINBASE_MATURITY;
use bitcoin::{Address, Amount, FeeRate, Network, OutPoint, Script, ScriptBuf, Transaction, Txid};
use keys::Seed;
use lightning::chain::BestBlock;
use lightning::chain::chaininterface::ConfirmationTarget;
use lightning::util::anchor_channel_reserves::{AnchorChannelReserveContext, get_reserve_per_channel};
use units::{Height, Sat};

use self::store::Store;
use crate::chain::{Chain, ChainError};

pub use self::store::StoreError;
pub(crate) use self::sync::EsploraRequest;

type Result<T> = std::result::Result<T, WalletError>;

/// Scripts that are watched beyond the last one handed out.
const LOOKAHEAD: u32 = 64;
/// Unused scripts that channels share. A peer that opens and abandons channels cannot make us reveal more.
const CHANNEL_SCRIPTS: usize = 16;
/// Transactions that may hold locked coins at a time.
const MAX_DRAFTS: usize = 256;
/// Own unconfirmed transactions that are repeated with every block.
const MAX_REPEATED: usize = 100;
/// The highest fee rate that a caller can ask for: 2,000 sat/vB.
const MAX_FEE_RATE: FeeRate = FeeRate::from_sat_per_kwu(500_000);
/// The fee rate at which the anchor reserve can get a commitment confirmed: 50 sat/vB.
const RESERVE_FEE_RATE: FeeRate = FeeRate::from_sat_per_kwu(12_500);
const NEEDS_SCAN: &str = "needs_scan";

/// Why the wallet did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum WalletError {
    /// The address cannot be read.
    #[error("not a bitcoin address")]
    Address,
    /// The address is of another network.
    #[error("the address is not of {0}")]
    AddressNetwork(Network),
    /// Less than the network relays.
    #[error("{amount} sat is less than the {least} sat that the network relays to this address")]
    Dust {
        /// What was asked.
        amount: Sat,
        /// The least possible.
        least: Sat,
    },
    /// Not enough money.
    #[error(
        "{needed} sat are needed with fees, {available} sat are there, of which {reserve} sat stay back for anchor channels"
    )]
    InsufficientFunds {
        /// Amount and fee.
        needed: Sat,
        /// Spendable coins: confirmed, or change of our own transactions; locked ones not counted.
        available: Sat,
        /// What of that is kept back.
        reserve: Sat,
    },
    /// Between 1 and 2,000 sat/vB.
    #[error("fee rate {0} sat per 1000 weight is not between 250 and 500,000")]
    FeeRate(u64),
    /// Too many channels are being opened.
    #[error("{MAX_DRAFTS} transactions wait for broadcast already")]
    TooManyDrafts,
    /// The network refused the transaction; the coins are free again.
    #[error("{0}")]
    Refused(ChainError),
    /// It may or may not have been sent: the wallet keeps it and repeats it with every block. Do not send again.
    #[error("transaction {txid} may or may not be sent yet: {why}")]
    OutcomeUnknown {
        /// Which.
        txid: Txid,
        /// Why.
        why: String,
    },
    /// The chain source failed before anything was sent.
    #[error(transparent)]
    Chain(#[from] ChainError),
    /// The wallet file is of another seed or network.
    #[error("wallet file is of another seed or network: {0}")]
    OtherSeed(String),
    /// The wallet file.
    #[error("wallet file: {0}")]
    Store(#[from] StoreError),
    /// A new wallet cannot look from a height that the chain has not reached.
    #[error("birthday {0} is above the tip of the chain")]
    Birthday(Height),
    /// A bug, ours or a library's.
    #[error("wallet fault: {0}")]
    Fault(String),
}

/// From where a wallet that has no file yet looks for its coins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Birthday {
    /// The seed is new: nothing can have been paid to it.
    Now,
    /// The seed is old: look from this height on (0: everything). With Esplora any height means a full scan.
    At(Height),
}

/// What is in the wallet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WalletBalance {
    /// Confirmed, mature and not locked. The anchor reserve is part of it.
    pub confirmed: Sat,
    /// Unconfirmed or not yet mature.
    pub pending: Sat,
    /// Confirmed, but promised to a transaction that is not broadcast yet.
    pub locked: Sat,
}

/// The on-chain wallet; clones are the same wallet.
#[derive(Clone)]
pub struct Wallet(Arc<Inner>);

struct Inner {
    network: Network,
    chain: Chain,
    signers: [SignersContainer; 2],
    /// Open anchor channels, for the reserve.
    anchor_channels: AtomicU32,
    /// Which of the channel scripts the next closing gets.
    rotation: AtomicU32,
    state: Mutex<State>,
}

struct State {
    bdk: bdk_wallet::Wallet,
    store: Store,
    /// Transactions that were built and neither seen nor canceled: their coins are locked.
    drafts: HashMap<Txid, Transaction>,
    /// With Esplora: the wallet has not been scanned yet.
    needs_scan: bool,
    /// The last time given out by [`State::tick`].
    clock: u64,
}

/// A wallet's file as it was read, without a chain yet: the start of a node has other things to do meanwhile.
///
/// The file also keeps the scripts to watch, because deriving more than a hundred of them is most of what reading costs. That
/// list is not trusted with money: where a script leaves the wallet, [`State::derived`] derives it anew.
pub(crate) struct WalletFile {
    network: Network,
    store: Store,
    templates: [Bip86<Xpriv>; 2],
    /// None in a new file.
    bdk: Option<bdk_wallet::Wallet>,
}

impl WalletFile {
    /// Reads the file, or creates it (mode 0600), for the wallet of this master key.
    pub(crate) fn read(path: &Path, master: Xpriv, network: Network) -> Result<WalletFile> {
        let (store, stored) = Store::open(path)?;
        let templates = [KeychainKind::External, KeychainKind::Internal].map(|kind| Bip86(master, kind));
        let load = |changes| -> Result<bdk_wallet::Wallet> {
            let [external, internal] = templates.clone();
            bdk_wallet::Wallet::load()
                .descriptor(KeychainKind::External, Some(external))
                .descriptor(KeychainKind::Internal, Some(internal))
                .check_network(network)
                .lookahead(LOOKAHEAD)
                .use_spk_cache(true)
                .load_wallet_no_persist(changes)
                .map_err(|error| WalletError::OtherSeed(error.to_string()))?
                .ok_or_else(|| WalletError::Fault("the wallet file has changes but no wallet".into()))
        };
        let bdk = stored.map(load).transpose()?;
        Ok(WalletFile { network, store, templates, bdk })
    }

    /// Puts the wallet on the chain; a new one begins at `birthday`.
    pub(crate) async fn open(self, chain: Chain, birthday: Birthday) -> Result<Wallet> {
        let WalletFile { network, store, templates, bdk } = self;
        let fault = |error: &dyn std::fmt::Display| WalletError::Fault(error.to_string());
        let mut needs_scan = store.flag(NEEDS_SCAN)?;
        let bdk = match bdk {
            Some(bdk) => bdk,
            None => {
                let start = match birthday {
                    Birthday::Now => chain.best_block().await?,
                    Birthday::At(height) => chain.block_at(height).await?.ok_or(WalletError::Birthday(height))?,
                };
                needs_scan = birthday != Birthday::Now;
                store.set_flag(NEEDS_SCAN, needs_scan)?;
                let [external, internal] = templates.clone();
                let mut bdk = bdk_wallet::Wallet::create(external, internal)
                    .network(network)
                    .lookahead(LOOKAHEAD)
                    .use_spk_cache(true)
                    .create_wallet_no_persist()
                    .map_err(|error| fault(&error))?;
                let tip = bdk.latest_checkpoint().insert(BlockId { height: start.height, hash: start.block_hash });
                bdk.apply_update(Update { chain: Some(tip), ..Update::default() }).map_err(|error| fault(&error))?;
                bdk
            }
        };
        let signer = |template: Bip86<_>, kind| -> Result<SignersContainer> {
            let (_, keys) =
                template.into_wallet_descriptor(bdk.secp_ctx(), network.into()).map_err(|error| fault(&error))?;
            Ok(SignersContainer::build(keys, bdk.public_descriptor(kind), bdk.secp_ctx()))
        };
        let [external, internal] = templates;
        let signers = [signer(external, KeychainKind::External)?, signer(internal, KeychainKind::Internal)?];
        let mut state = State { bdk, store, drafts: HashMap::new(), needs_scan, clock: 0 };
        state.persist()?;
        Ok(Wallet(Arc::new(Inner {
            network,
            chain,
            signers,
            anchor_channels: AtomicU32::new(0),
            rotation: AtomicU32::new(0),
            state: Mutex::new(state),
        })))
    }
}

impl Wallet {
    /// Opens the wallet file, or creates it (mode 0600) as of `birthday`.
    pub async fn open(path: &Path, seed: &Seed, chain: Chain, birthday: Birthday) -> Result<Wallet> {
        let network = chain.network();
        WalletFile::read(path, seed.master(network), network)?.open(chain, birthday).await
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A fresh receiving address, never handed out before.
    pub fn new_address(&self) -> Result<Address> {
        let mut state = self.state();
        let address = state.bdk.reveal_next_address(KeychainKind::External).address;
        state.derived(&address.script_pubkey())?;
        state.persist()?;
        Ok(address)
    }

    /// What there is.
    pub fn balance(&self) -> WalletBalance {
        let state = self.state();
        let all = state.bdk.balance();
        let locked: Amount = state
            .bdk
            .list_unspent()
            .filter(|coin| coin.chain_position.is_confirmed() && state.is_locked(&coin.outpoint))
            .map(|coin| coin.txout.value)
            .sum();
        WalletBalance {
            confirmed: Sat(all.confirmed.to_sat().saturating_sub(locked.to_sat())),
            pending: Sat((all.trusted_pending + all.untrusted_pending + all.immature).to_sat()),
            locked: Sat(locked.to_sat()),
        }
    }

    /// What stays back so that so many anchor channels can be closed by force at 50 sat/vB: commitment and anchor spend. HTLCs are
    /// claimed with fees of the coins they bring.
    pub fn reserve(&self, anchor_channels: u32) -> Sat {
        let context = AnchorChannelReserveContext {
            upper_bound_fee_rate: RESERVE_FEE_RATE,
            expected_accepted_htlcs: 0,
            taproot_wallet: true,
        };
        Sat(get_reserve_per_channel(&context).to_sat().saturating_mul(u64::from(anchor_channels)))
    }

    /// Says how many anchor channels are open or opening: [`Wallet::send`] and [`Wallet::create_funding_tx`] keep the reserve
    /// for that many.
    pub fn set_anchor_channels(&self, count: u32) {
        self.0.anchor_channels.store(count, Ordering::Relaxed);
    }

    /// Sends `amount` to an address and returns once the source took the transaction. Without a fee rate the estimate for
    /// about two hours is paid. Not idempotent; see [`WalletError::OutcomeUnknown`].
    pub async fn send(&self, address: &str, amount: Sat, fee_rate: Option<FeeRate>) -> Result<Txid> {
        let address = Address::<NetworkUnchecked>::from_str(address).map_err(|_| WalletError::Address)?;
        let address =
            address.require_network(self.0.network).map_err(|_| WalletError::AddressNetwork(self.0.network))?;
        let fee_rate = fee_rate.unwrap_or_else(|| self.0.chain.fee_rate(ConfirmationTarget::OutputSpendingFee));
        let reserve = self.reserve(self.0.anchor_channels.load(Ordering::Relaxed));
        let transaction = self.draft(address.script_pubkey(), amount, fee_rate, reserve)?;
        let txid = transaction.compute_txid();
        match self.0.chain.broadcast(std::slice::from_ref(&transaction)).await {
            Ok(()) => {
                self.seen_in_mempool(&[transaction]);
                Ok(txid)
            }
            Err(error @ ChainError::Unreachable { .. }) => {
                self.seen_in_mempool(&[transaction]);
                Err(WalletError::OutcomeUnknown { txid, why: error.to_string() })
            }
            Err(error) => {
                self.cancel_tx(txid);
                Err(WalletError::Refused(error))
            }
        }
    }

    /// Builds and signs the transaction that funds a channel, and locks its coins until it is seen in the mempool or
    /// [`Wallet::cancel_tx`] frees them. The reserve for one more channel is kept back.
    pub fn create_funding_tx(&self, script: ScriptBuf, amount: Sat, target: ConfirmationTarget) -> Result<Transaction> {
        let reserve = self.reserve(self.0.anchor_channels.load(Ordering::Relaxed).saturating_add(1));
        self.draft(script, amount, self.0.chain.fee_rate(target), reserve)
    }

    /// Forgets a transaction that will not be broadcast (or not again) and frees its coins. Canceling twice, or what is confirmed,
    /// changes nothing.
    pub fn cancel_tx(&self, txid: Txid) {
        let mut state = self.state();
        if let Some(draft) = state.drafts.remove(&txid) {
            state.free_change(&draft);
        }
        let now = state.tick();
        state.bdk.apply_evicted_txs([(txid, now)]);
        state.persist_or_log();
    }

    fn draft(&self, script: ScriptBuf, amount: Sat, fee_rate: FeeRate, reserve: Sat) -> Result<Transaction> {
        if !(FeeRate::BROADCAST_MIN..=MAX_FEE_RATE).contains(&fee_rate) {
            return Err(WalletError::FeeRate(fee_rate.to_sat_per_kwu()));
        }
        let least = Sat(script.minimal_non_dust().to_sat());
        if amount < least {
            return Err(WalletError::Dust { amount, least });
        }
        let mut state = self.state();
        if state.drafts.len() >= MAX_DRAFTS {
            return Err(WalletError::TooManyDrafts);
        }
        let (usable, unusable) = state.coins();
        let available = Sat(usable.iter().map(|coin| coin.txout.value.to_sat()).sum());
        let short = |needed: Sat| WalletError::InsufficientFunds { needed, available, reserve };
        // Also keeps BDK's sums, which panic above 2^64, within the coins there are.
        if amount > available {
            return Err(short(amount));
        }
        let mut builder = state.bdk.build_tx();
        builder.add_recipient(script, Amount::from_sat(amount.0)).fee_rate(fee_rate).unspendable(unusable);
        let mut psbt = builder.finish().map_err(|error| match error {
            CreateTxError::CoinSelection(InsufficientFunds { needed, .. }) => short(Sat(needed.to_sat())),
            error => WalletError::Fault(error.to_string()),
        })?;
        let fee = psbt.fee().map_err(|error| WalletError::Fault(error.to_string()))?;
        let needed = Sat(amount.0.saturating_add(fee.to_sat()));
        if needed.0.saturating_add(reserve.0) > available.0 {
            state.free_change(&psbt.unsigned_tx);
            return Err(short(needed));
        }
        let change = psbt.unsigned_tx.output.iter().map(|output| &output.script_pubkey);
        change.filter(|script| state.bdk.is_mine((*script).clone())).try_for_each(|script| state.derived(script))?;
        let signers: Vec<_> = self.0.signers.iter().collect();
        match state.bdk.sign_with_signers(&mut psbt, &signers, SignOptions::default()) {
            Ok(true) => {}
            Ok(false) => return Err(WalletError::Fault("our own coins could not be signed for".into())),
            Err(error) => return Err(WalletError::Fault(error.to_string())),
        }
        state.persist()?;
        let transaction = psbt.extract_tx_unchecked_fee_rate();
        state.drafts.insert(transaction.compute_txid(), transaction.clone());
        Ok(transaction)
    }

    /// A script for what comes back from channels: one of sixteen that nobody has paid to yet, so that a peer which opens and
    /// abandons channels does not push the wallet's index out of reach of a restore.
    fn channel_script(&self, pick: usize) -> Result<ScriptBuf> {
        let mut state = self.state();
        let unused = state.bdk.list_unused_addresses(KeychainKind::Internal).count();
        for _ in unused..CHANNEL_SCRIPTS {
            let _ = state.bdk.reveal_next_address(KeychainKind::Internal);
        }
        state.persist()?;
        let unused: Vec<_> = state.bdk.list_unused_addresses(KeychainKind::Internal).take(CHANNEL_SCRIPTS).collect();
        let script = unused.get(pick % CHANNEL_SCRIPTS).map(|info| info.address.script_pubkey());
        let script = script.ok_or_else(|| WalletError::Fault("no unused script after revealing sixteen".into()))?;
        state.derived(&script)?;
        Ok(script)
    }

    /// Whether the script is one of ours.
    pub fn is_mine(&self, script: ScriptBuf) -> bool {
        self.state().bdk.is_mine(script)
    }

    /// The last block that the wallet has seen.
    pub fn last_block(&self) -> BestBlock {
        let tip = self.state().bdk.latest_checkpoint();
        BestBlock::new(tip.hash(), tip.height())
    }
}

impl State {
    /// Checks that a script of ours is what our keys give, and not only what the file says.
    fn derived(&self, script: &Script) -> Result<()> {
        let place = self.bdk.derivation_of_spk(script.to_owned());
        let derived = place.and_then(|(kind, index)| self.bdk.public_descriptor(kind).at_derivation_index(index).ok());
        match derived {
            Some(descriptor) if descriptor.script_pubkey() == *script => Ok(()),
            _ => Err(WalletError::Fault("the wallet file lists a script that our keys do not give".into())),
        }
    }

    fn is_locked(&self, outpoint: &OutPoint) -> bool {
        self.drafts.values().flat_map(|draft| &draft.input).any(|input| input.previous_output == *outpoint)
    }

    /// Lets the next transaction use the change script of one that will not be sent.
    fn free_change(&mut self, transaction: &Transaction) {
        for output in &transaction.output {
            if let Some((kind, index)) = self.bdk.derivation_of_spk(output.script_pubkey.clone()) {
                self.bdk.unmark_used(kind, index);
            }
        }
    }

    /// Coins that may be spent now, and the rest: locked, immature, or unconfirmed and from somebody else.
    fn coins(&self) -> (Vec<LocalOutput>, Vec<OutPoint>) {
        let tip = self.bdk.latest_checkpoint().height();
        let mut usable = Vec::new();
        let mut unusable = Vec::new();
        for coin in self.bdk.list_unspent() {
            let transaction = self.bdk.get_tx(coin.outpoint.txid).map(|found| found.tx_node.tx);
            let ripe = match (&coin.chain_position, transaction) {
                (_, None) => false,
                (ChainPosition::Confirmed { anchor, .. }, Some(transaction)) => {
                    let depth = tip.saturating_add(1).saturating_sub(anchor.block_id.height);
                    !transaction.is_coinbase() || depth >= COINBASE_MATURITY
                }
                (ChainPosition::Unconfirmed { .. }, Some(transaction)) => self.is_own(&transaction),
            };
            if ripe && !self.is_locked(&coin.outpoint) {
                usable.push(coin);
            } else {
                unusable.push(coin.outpoint);
            }
        }
        (usable, unusable)
    }

    /// Whether every coin that the transaction spends is ours: only we can then make it invalid.
    fn is_own(&self, transaction: &Transaction) -> bool {
        !transaction.is_coinbase()
            && transaction.input.iter().all(|input| {
                let previous = self.bdk.tx_graph().get_txout(input.previous_output);
                previous.is_some_and(|output| self.bdk.is_mine(output.script_pubkey.clone()))
            })
    }

    /// The time in unix seconds, later with each call: BDK takes a transaction for dropped when it was seen and dropped in the same
    /// second, whichever came last.
    fn tick(&mut self) -> u64 {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs());
        self.clock = now.max(self.clock + 1);
        self.clock
    }

    fn persist(&mut self) -> std::result::Result<(), StoreError> {
        if let Some(staged) = self.bdk.staged() {
            self.store.append(staged)?;
            self.bdk.take_staged();
        }
        Ok(())
    }

    fn persist_or_log(&mut self) {
        if let Err(error) = self.persist() {
            tracing::error!(%error, "wallet is not saved; tried again with the next block");
        }
    }
}

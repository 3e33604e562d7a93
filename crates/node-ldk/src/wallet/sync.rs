//! How the wallet learns of blocks and of the mempool, from either source.

use bdk_wallet::chain::spk_client::{FullScanRequest, SyncRequest};
use bdk_wallet::chain::{BlockId, ChainPosition};
use bdk_wallet::{KeychainKind, Update};
use bitcoin::block::{Block, Header};
use bitcoin::constants::genesis_block;
use bitcoin::{Transaction, Txid};
use lightning::chain::transaction::TransactionData;
use lightning::chain::{BestBlock, Listen};

use super::{LOOKAHEAD, MAX_REPEATED, NEEDS_SCAN, StoreError, Wallet, WalletError};

/// While catching up, what was found is saved after so many blocks.
const SAVE_EVERY: u32 = 500;
/// Between blocks only so many of the newest unused scripts of each kind are asked for.
const WATCHED_UNUSED: usize = 20;

/// What to ask an Esplora server for.
pub(crate) enum EsploraRequest {
    /// Everything the seed may own, with the gap after which to stop.
    Scan(FullScanRequest<KeychainKind>, usize),
    /// What is known to be ours.
    Sync(SyncRequest<(KeychainKind, u32)>),
}

impl Wallet {
    pub(crate) fn persist(&self) -> Result<(), StoreError> {
        self.state().persist()
    }

    /// The wallet's blocks, newest first.
    pub(crate) fn checkpoints(&self) -> Vec<BestBlock> {
        let tip = self.state().bdk.latest_checkpoint();
        tip.iter().map(|block| BestBlock::new(block.hash(), block.height())).collect()
    }

    /// These transactions are in a mempool: what concerns us becomes pending, and locks of drafts among them end, because the coins
    /// are now spent for all to see.
    pub(crate) fn seen_in_mempool(&self, transactions: &[Transaction]) {
        if transactions.is_empty() {
            return;
        }
        let mut state = self.state();
        let now = state.tick();
        state.bdk.apply_unconfirmed_txs(transactions.iter().map(|transaction| (transaction.clone(), now)));
        for transaction in transactions {
            state.drafts.remove(&transaction.compute_txid());
        }
        state.persist_or_log();
    }

    /// Forgets unconfirmed transactions of others that the mempool has dropped. Our own stay: nobody else can make them invalid,
    /// and they are repeated with every block.
    pub(crate) fn gone_from_mempool(&self, gone: impl Fn(&Txid) -> bool) {
        let mut state = self.state();
        let dropped: Vec<Txid> = state
            .bdk
            .transactions()
            .filter(|found| found.chain_position.is_unconfirmed() && gone(&found.tx_node.txid))
            .filter(|found| !state.is_own(&found.tx_node.tx))
            .map(|found| found.tx_node.txid)
            .collect();
        if dropped.is_empty() {
            return;
        }
        let now = state.tick();
        state.bdk.apply_evicted_txs(dropped.into_iter().map(|txid| (txid, now)));
        state.persist_or_log();
    }

    /// What we sent and nobody mined yet, oldest first.
    pub(crate) fn unconfirmed_own(&self) -> Vec<Transaction> {
        let state = self.state();
        let mut own: Vec<_> = state
            .bdk
            .transactions()
            .filter_map(|found| match found.chain_position {
                ChainPosition::Unconfirmed { first_seen, .. } => Some((first_seen, found.tx_node.tx)),
                ChainPosition::Confirmed { .. } => None,
            })
            .filter(|(_, transaction)| state.is_own(transaction))
            .take(MAX_REPEATED)
            .collect();
        own.sort_by_key(|(first_seen, _)| *first_seen);
        own.into_iter().map(|(_, transaction)| (*transaction).clone()).collect()
    }

    pub(crate) fn esplora_request(&self, tip_moved: bool) -> EsploraRequest {
        let mut state = self.state();
        let now = state.tick();
        let state = &*state;
        let bdk = &state.bdk;
        if state.needs_scan {
            return EsploraRequest::Scan(bdk.start_full_scan_at(now).build(), LOOKAHEAD as usize);
        }
        // A transaction that is expected and not found counts as dropped from the mempool; own ones never do.
        let tip = bdk.latest_checkpoint();
        let expected: Vec<_> = bdk
            .tx_graph()
            .list_expected_spk_txids(bdk.local_chain(), tip.block_id(), bdk.spk_index(), ..)
            .filter(|(_, txid)| bdk.get_tx(*txid).is_some_and(|found| !state.is_own(&found.tx_node.tx)))
            .collect();
        let index = bdk.spk_index();
        let request = SyncRequest::builder_at(now).expected_spk_txids(expected);
        EsploraRequest::Sync(if tip_moved {
            request.chain_tip(tip).spks_with_indexes(index.revealed_spks(..)).build()
        } else {
            let kinds = [KeychainKind::External, KeychainKind::Internal];
            let newest = kinds.into_iter().flat_map(|kind| {
                let unused = index.unused_keychain_spks(kind).rev().take(WATCHED_UNUSED);
                unused.map(move |(i, script)| ((kind, i), script)).collect::<Vec<_>>()
            });
            request.spks_with_indexes(newest).build()
        })
    }

    pub(crate) fn apply_esplora(&self, update: Update, tip_moved: bool) -> Result<(), WalletError> {
        let mut state = self.state();
        state.bdk.apply_update(update).map_err(|error| WalletError::Fault(error.to_string()))?;
        let drafts: Vec<Txid> = state.drafts.keys().copied().collect();
        for txid in drafts {
            if state.bdk.get_tx(txid).is_some() {
                state.drafts.remove(&txid);
            }
        }
        state.persist()?;
        if state.needs_scan && tip_moved {
            state.store.set_flag(NEEDS_SCAN, false)?;
            state.needs_scan = false;
        }
        Ok(())
    }

    fn connect(&self, block: &Block, height: u32) {
        let network = self.0.network;
        let mut state = self.state();
        let connected = state.bdk.apply_block(block, height).or_else(|_| {
            // The block before is not in our chain: a reorganisation went deeper than our birthday. Hang it on the genesis block.
            let hash = genesis_block(network).block_hash();
            state.bdk.apply_block_connected_to(block, height, BlockId { height: 0, hash })
        });
        if let Err(error) = connected {
            tracing::error!(%error, height, "wallet could not take a block; its coins are found after a restart");
        }
        if !state.drafts.is_empty() {
            for transaction in &block.txdata {
                state.drafts.remove(&transaction.compute_txid());
            }
        }
        if height.is_multiple_of(SAVE_EVERY) {
            state.persist_or_log();
        }
    }
}

impl Listen for Wallet {
    fn filtered_block_connected(&self, header: &Header, txdata: &TransactionData<'_>, height: u32) {
        let txdata = txdata.iter().map(|(_, transaction)| (*transaction).clone()).collect();
        self.connect(&Block { header: *header, txdata }, height);
    }

    fn block_connected(&self, block: &Block, height: u32) {
        self.connect(block, height);
    }

    /// Nothing to do: BDK drops the stale blocks when it is given the first one of the better branch, which always follows.
    fn blocks_disconnected(&self, _fork_point: BestBlock) {}
}

//! Chain, mempool and faucet as one state machine; it is told the time and does no IO.

use std::sync::Arc;

use bitcoin::{Amount, Block, BlockHash, ScriptBuf, Transaction, Txid};
use units::{Height, Unix};

use crate::assemble::{self, Parts};
use crate::chain::{Chain, Change};
use crate::error::{BlockError, TxError};
use crate::faucet::{Faucet, FaucetError};
use crate::mempool::{Accepted, Mempool, Source};
use crate::package::{Outcome, PackageError};
use crate::policy::Policy;

/// Most blocks that one call mines.
pub const MAX_MINE: u32 = 100_000;

/// What changes the block tree for good, in the order in which it happened. Replaying it gives the same chain.
#[derive(Clone, Debug)]
pub enum Record {
    /// A block came in.
    Block(Arc<Block>),
    /// A block was invalidated by hand.
    Invalidated(BlockHash),
    /// A block was reconsidered by hand.
    Reconsidered(BlockHash),
}

/// The best block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tip {
    /// Its height.
    pub height: Height,
    /// Its hash.
    pub hash: BlockHash,
}

/// A whole regtest network of one node.
#[derive(Clone, Debug)]
pub struct Regtest {
    chain: Chain,
    mempool: Mempool,
    faucet: Faucet,
    records: Vec<Record>,
}

impl Regtest {
    /// The genesis block and an empty mempool.
    pub fn new(policy: Policy) -> Regtest {
        Regtest { chain: Chain::new(), mempool: Mempool::new(policy), faucet: Faucet::new(), records: Vec::new() }
    }

    /// Blocks and coins.
    pub fn chain(&self) -> &Chain {
        &self.chain
    }

    /// Waiting transactions.
    pub fn mempool(&self) -> &Mempool {
        &self.mempool
    }

    /// The purse.
    pub fn faucet(&self) -> &Faucet {
        &self.faucet
    }

    /// The best block.
    pub fn tip(&self) -> Tip {
        Tip { height: Height(self.chain.height()), hash: self.chain.tip_hash() }
    }

    /// What changed since the last call, for the block file.
    pub fn take_records(&mut self) -> Vec<Record> {
        std::mem::take(&mut self.records)
    }

    /// Does again what a record says. A block is validated as if it came from a stranger.
    pub fn replay(&mut self, record: Record, now: Unix) -> Result<(), BlockError> {
        let marked = match record {
            Record::Block(block) => return self.submit_block(Arc::unwrap_or_clone(block), now),
            Record::Invalidated(hash) => self.invalidate(hash, now),
            Record::Reconsidered(hash) => self.reconsider(hash, now),
        };
        // A block that was refused was not recorded, so a mark on it has nothing to mark.
        if marked == Err(BlockError::Unknown) { Ok(()) } else { marked }
    }

    /// Takes a transaction into the mempool.
    pub fn submit(&mut self, tx: Transaction, now: Unix) -> Result<Accepted, TxError> {
        self.mempool.accept(&mut self.chain, tx, now.0)
    }

    /// Takes a child with its parents into the mempool.
    pub fn submit_package(&mut self, txs: Vec<Transaction>, now: Unix) -> Result<Vec<Outcome>, PackageError> {
        self.mempool.accept_package(&mut self.chain, txs, now.0)
    }

    /// What [`Regtest::submit`] would say to each of `txs` in turn; takes nothing in.
    pub fn test_accept(&mut self, txs: Vec<Transaction>, now: Unix) -> Vec<Result<Accepted, TxError>> {
        let mut trial = self.mempool.clone();
        txs.into_iter().map(|tx| trial.accept(&mut self.chain, tx, now.0)).collect()
    }

    /// Mines one block with what pays best of the mempool, to `payee`.
    pub fn mine(&mut self, payee: ScriptBuf, now: Unix) -> Result<BlockHash, BlockError> {
        let template = self.mempool.template();
        let block = self.assemble(self.chain.tip_hash(), payee, template.txs, template.fees, now)?;
        let hash = block.block_hash();
        self.submit_block(block, now)?;
        Ok(hash)
    }

    /// Mines one block with just `txs` on top of `prev`, wherever that is. Their fees are burnt.
    pub fn mine_on(
        &mut self,
        prev: BlockHash,
        txs: Vec<Transaction>,
        payee: ScriptBuf,
        now: Unix,
    ) -> Result<BlockHash, BlockError> {
        let block = self.assemble(prev, payee, txs, 0, now)?;
        let hash = block.block_hash();
        self.submit_block(block, now)?;
        Ok(hash)
    }

    /// Builds a block with proof of work on top of `prev`, claiming `fees`, without submitting it.
    pub fn assemble(
        &self,
        prev: BlockHash,
        payee: ScriptBuf,
        txs: Vec<Transaction>,
        fees: u64,
        now: Unix,
    ) -> Result<Block, BlockError> {
        let parent = self.chain.block(&prev).ok_or(BlockError::NoParent)?;
        let now = u32::try_from(now.0).map_err(|_| BlockError::Impossible("the clock is past the last block time"))?;
        let time = now.max(parent.mtp + 1);
        let extra_nonce = self.chain.arrivals();
        Ok(assemble::build(Parts { prev, height: parent.height + 1, time, extra_nonce, payee, fees, txs }))
    }

    /// Takes in a block from anywhere.
    pub fn submit_block(&mut self, block: Block, now: Unix) -> Result<(), BlockError> {
        let hash = block.block_hash();
        let change = self.chain.accept_block(block, now.0)?;
        if let Some(entry) = self.chain.block(&hash) {
            self.records.push(Record::Block(Arc::clone(&entry.block)));
        }
        self.follow(change, now);
        Ok(())
    }

    /// Marks a block and its descendants invalid and falls back to the best branch left.
    pub fn invalidate(&mut self, hash: BlockHash, now: Unix) -> Result<(), BlockError> {
        let change = self.chain.invalidate(hash)?;
        self.records.push(Record::Invalidated(hash));
        self.follow(change, now);
        Ok(())
    }

    /// Undoes [`Regtest::invalidate`].
    pub fn reconsider(&mut self, hash: BlockHash, now: Unix) -> Result<(), BlockError> {
        let change = self.chain.reconsider(hash)?;
        self.records.push(Record::Reconsidered(hash));
        self.follow(change, now);
        Ok(())
    }

    /// Replaces the last `depth` blocks by `depth + 1` empty ones, as a stronger miner would. The transactions that were
    /// in them wait in the mempool again, unless they cannot be valid any more.
    pub fn reorg(&mut self, depth: u32, now: Unix) -> Result<(), BlockError> {
        if depth == 0 || depth > self.chain.height() {
            return Err(BlockError::Impossible("a reorg replaces at least one block and keeps the genesis block"));
        }
        let fork = self.chain.height() - depth;
        let mut prev = self.chain.hash_at(fork).ok_or(BlockError::Unknown)?;
        for _ in 0..=depth {
            prev = self.mine_on(prev, Vec::new(), self.faucet.script().clone(), now)?;
        }
        Ok(())
    }

    /// Pays `amount` from the faucet. The payment waits in the mempool.
    pub fn fund(&mut self, script: ScriptBuf, amount: Amount, now: Unix) -> Result<Txid, FaucetError> {
        let feerate = self.mempool.policy().estimate.max(self.mempool.policy().min_relay);
        let tx = self.faucet.pay(&self.chain, &self.mempool, script, amount, feerate)?;
        Ok(self.submit(tx, now)?.txid)
    }

    /// Brings the mempool in step with a chain that moved.
    fn follow(&mut self, change: Change, now: Unix) {
        if change.disconnected.is_empty() {
            for block in &change.connected {
                self.mempool.block_connected(block);
            }
            return;
        }
        // Older first: what was in blocks has its inputs there or in a block before it.
        let fresh = Mempool::new(*self.mempool.policy()).continuing(self.mempool.sequence());
        let old = std::mem::replace(&mut self.mempool, fresh);
        let returned = change.disconnected.iter().rev().flat_map(|block| block.txdata.iter().skip(1));
        for tx in returned {
            self.put_back(Arc::new(tx.clone()), now.0);
        }
        for entry in old.entries() {
            self.put_back(Arc::clone(&entry.tx), entry.time);
        }
    }

    fn put_back(&mut self, tx: Arc<Transaction>, time: u64) {
        if let Err(error) = self.mempool.accept_from(&mut self.chain, Arc::clone(&tx), time, Source::Returned) {
            tracing::debug!(txid = %tx.compute_txid(), %error, "transaction does not survive the reorg");
        }
    }
}

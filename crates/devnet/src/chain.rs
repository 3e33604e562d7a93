//! All known blocks, the branch with the most work among them, and the coins it leaves unspent.

use std::cmp::Reverse;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use bitcoin::{Block, BlockHash, Network, OutPoint, Transaction, TxOut, Txid, Work};

use crate::consensus::{self, Coin, CoinOrigin, MAX_BLOCK_SIGOPS_COST, is_spendable, subsidy};
use crate::error::{BlockError, TxError};
use crate::index::{Index, ScriptHistory, ScriptId, TxPosition};
use crate::script::{self, Verified};

/// Blocks whose times make up the median time past (BIP113).
const MEDIAN_SPAN: usize = 11;

/// The coins that each transaction of a block spends, in the order of its inputs: what is needed to take it back.
pub type Undo = Vec<Vec<Coin>>;

/// Whether a block is part of the chain.
#[derive(Clone, Debug)]
pub enum Status {
    /// On the active chain, with what is needed to disconnect it.
    Active(Undo),
    /// Known, on another branch or not yet tried.
    Aside,
    /// It or an ancestor broke a rule, or was invalidated by hand.
    Invalid,
}

/// A known block.
#[derive(Clone, Debug)]
pub struct BlockEntry {
    /// The block.
    pub block: Arc<Block>,
    /// Ids of its transactions.
    pub txids: Vec<Txid>,
    /// Distance from the genesis block.
    pub height: u32,
    /// Work of this block and all before it.
    pub work: Work,
    /// Median time of this block and the ten before it.
    pub mtp: u32,
    /// Order of arrival: between branches of equal work the first seen wins.
    pub arrival: u64,
    /// Its part in the chain.
    pub status: Status,
}

/// How the active chain moved.
#[derive(Clone, Debug, Default)]
pub struct Change {
    /// Blocks that left it, tip first.
    pub disconnected: Vec<Arc<Block>>,
    /// Blocks that joined it, lowest first.
    pub connected: Vec<Arc<Block>>,
}

/// The block tree and the state of its best branch. Regtest only: the genesis block is fixed.
#[derive(Clone, Debug)]
pub struct Chain {
    blocks: HashMap<BlockHash, BlockEntry>,
    active: Vec<BlockHash>,
    coins: HashMap<OutPoint, Coin>,
    index: Index,
    verified: Verified,
    arrivals: u64,
}

impl Default for Chain {
    fn default() -> Self {
        Self::new()
    }
}

impl Chain {
    /// A chain of nothing but regtest's genesis block, whose output is unspendable by rule.
    pub fn new() -> Chain {
        let genesis = bitcoin::constants::genesis_block(Network::Regtest);
        let hash = genesis.block_hash();
        let txids: Vec<Txid> = genesis.txdata.iter().map(Transaction::compute_txid).collect();
        let mut index = Index::default();
        index.connect(&genesis, &txids, 0, &[Vec::new()]);
        let entry = BlockEntry {
            txids,
            height: 0,
            work: genesis.header.work(),
            mtp: genesis.header.time,
            arrival: 0,
            status: Status::Active(vec![Vec::new()]),
            block: Arc::new(genesis),
        };
        Chain {
            blocks: HashMap::from([(hash, entry)]),
            active: vec![hash],
            coins: HashMap::new(),
            index,
            verified: Verified::default(),
            arrivals: 1,
        }
    }

    /// Height of the tip.
    pub fn height(&self) -> u32 {
        (self.active.len() - 1) as u32
    }

    /// Hash of the tip.
    pub fn tip_hash(&self) -> BlockHash {
        self.active[self.active.len() - 1]
    }

    /// The tip.
    pub fn tip(&self) -> &BlockEntry {
        &self.blocks[&self.tip_hash()]
    }

    /// Any known block, on whichever branch.
    pub fn block(&self, hash: &BlockHash) -> Option<&BlockEntry> {
        self.blocks.get(hash)
    }

    /// Hash of the active block at `height`.
    pub fn hash_at(&self, height: u32) -> Option<BlockHash> {
        self.active.get(height as usize).copied()
    }

    /// The active block at `height`.
    pub fn block_at(&self, height: u32) -> Option<&BlockEntry> {
        self.blocks.get(self.active.get(height as usize)?)
    }

    /// Whether `hash` is on the active chain.
    pub fn is_active(&self, hash: &BlockHash) -> bool {
        matches!(self.blocks.get(hash), Some(BlockEntry { status: Status::Active(_), .. }))
    }

    /// Tips of all branches, best first.
    pub fn branch_tips(&self) -> Vec<BlockHash> {
        let parents: HashSet<BlockHash> = self.blocks.values().map(|e| e.block.header.prev_blockhash).collect();
        let mut tips: Vec<_> = self.blocks.iter().filter(|(hash, _)| !parents.contains(*hash)).collect();
        tips.sort_by_key(|(_, entry)| (Reverse(entry.work), entry.arrival));
        tips.into_iter().map(|(hash, _)| *hash).collect()
    }

    /// An unspent output of the active chain.
    pub fn coin(&self, outpoint: &OutPoint) -> Option<&Coin> {
        self.coins.get(outpoint)
    }

    /// Number of unspent outputs.
    pub fn coin_count(&self) -> usize {
        self.coins.len()
    }

    /// All unspent outputs of the active chain, in no order.
    pub fn coins(&self) -> impl Iterator<Item = (&OutPoint, &Coin)> {
        self.coins.iter()
    }

    /// Where a confirmed transaction is.
    pub fn position(&self, txid: &Txid) -> Option<TxPosition> {
        self.index.position(txid)
    }

    /// A confirmed transaction with its block and its index in it.
    pub fn transaction(&self, txid: &Txid) -> Option<(&Transaction, &BlockEntry, u32)> {
        let at = self.index.position(txid)?;
        let entry = self.block_at(at.height)?;
        Some((entry.block.txdata.get(at.index as usize)?, entry, at.index))
    }

    /// The confirmed transaction, and its input, that spent `outpoint`.
    pub fn spender(&self, outpoint: &OutPoint) -> Option<(Txid, u32)> {
        self.index.spender(outpoint)
    }

    /// What the active chain knows about a script.
    pub fn script(&self, id: &ScriptId) -> Option<&ScriptHistory> {
        self.index.script(id)
    }

    /// Where `coin` was made, for BIP68, if it is spent in the block after the tip.
    pub(crate) fn origin(&self, coin: &Coin) -> CoinOrigin {
        let before = self.block_at(coin.height.saturating_sub(1)).map_or(0, |entry| entry.mtp);
        CoinOrigin { height: coin.height, mtp_before: before }
    }

    /// Scripts of `tx`, unless they were checked before.
    pub(crate) fn verify_scripts(&mut self, tx: &Transaction, spent: &[&TxOut]) -> Result<(), TxError> {
        let wtxid = tx.compute_wtxid();
        if !self.verified.contains(&wtxid) {
            script::verify(tx, spent)?;
            self.verified.insert(wtxid);
        }
        Ok(())
    }

    /// Number of blocks ever seen, which no two blocks share: an extra nonce for the next coinbase.
    pub(crate) fn arrivals(&self) -> u64 {
        self.arrivals
    }

    /// Takes a block in and moves to the branch with the most work. `now` is unix time in seconds.
    /// A block that is well formed but breaks a rule when connected is kept as invalid and reported as an error.
    pub fn accept_block(&mut self, block: Block, now: u64) -> Result<Change, BlockError> {
        let hash = block.block_hash();
        match self.blocks.get(&hash).map(|entry| &entry.status) {
            Some(Status::Invalid) => return Err(BlockError::DuplicateInvalid),
            Some(_) => return Err(BlockError::Duplicate),
            None => {}
        }
        let parent = self.blocks.get(&block.header.prev_blockhash).ok_or(BlockError::NoParent)?;
        if matches!(parent.status, Status::Invalid) {
            return Err(BlockError::InvalidParent);
        }
        let (height, work, parent_mtp) = (parent.height + 1, parent.work + block.header.work(), parent.mtp);
        consensus::check_header(&block, parent_mtp, now)?;
        consensus::check_block(&block, height, parent_mtp)?;
        let mtp = self.median_time(block.header.time, block.header.prev_blockhash);
        let txids = block.txdata.iter().map(Transaction::compute_txid).collect();
        let arrival = self.arrivals;
        self.arrivals += 1;
        let extends_tip = block.header.prev_blockhash == self.tip_hash();
        let entry = BlockEntry { block: Arc::new(block), txids, height, work, mtp, arrival, status: Status::Aside };
        self.blocks.insert(hash, entry);

        let mut change = Change::default();
        if extends_tip {
            self.connect(hash, &mut change).inspect_err(|_| self.mark_invalid(hash))?;
            return Ok(change);
        }
        match self.activate_best(&mut change) {
            Some(error) if matches!(self.blocks[&hash].status, Status::Invalid) => Err(error),
            _ => Ok(change),
        }
    }

    /// Marks a block and all that build on it as invalid and moves to the best branch left (`invalidateblock`).
    pub fn invalidate(&mut self, hash: BlockHash) -> Result<Change, BlockError> {
        let entry = self.blocks.get(&hash).ok_or(BlockError::Unknown)?;
        if entry.height == 0 {
            return Err(BlockError::Impossible("the genesis block cannot be invalidated"));
        }
        let mut change = Change::default();
        while self.is_active(&hash) {
            self.disconnect_tip(&mut change);
        }
        self.mark_invalid(hash);
        self.activate_best(&mut change);
        Ok(change)
    }

    /// Forgets that a block, its ancestors and its descendants were invalid and tries them again (`reconsiderblock`).
    pub fn reconsider(&mut self, hash: BlockHash) -> Result<Change, BlockError> {
        let entry = self.blocks.get(&hash).ok_or(BlockError::Unknown)?;
        let mut up = entry.block.header.prev_blockhash;
        let mut cleared = self.descendants(hash);
        while let Some(entry) = self.blocks.get(&up) {
            cleared.push(up);
            up = entry.block.header.prev_blockhash;
        }
        for hash in cleared {
            if let Some(entry) = self.blocks.get_mut(&hash).filter(|entry| matches!(entry.status, Status::Invalid)) {
                entry.status = Status::Aside;
            }
        }
        let mut change = Change::default();
        self.activate_best(&mut change);
        Ok(change)
    }

    /// Median of `time` and the times of the ten blocks up to `prev`.
    fn median_time(&self, time: u32, mut prev: BlockHash) -> u32 {
        let mut times = vec![time];
        while let Some(entry) = self.blocks.get(&prev).filter(|_| times.len() < MEDIAN_SPAN) {
            times.push(entry.block.header.time);
            prev = entry.block.header.prev_blockhash;
        }
        times.sort_unstable();
        times[times.len() / 2]
    }

    /// `hash` and every known block that builds on it.
    fn descendants(&self, hash: BlockHash) -> Vec<BlockHash> {
        let mut later: Vec<_> =
            self.blocks.iter().map(|(h, e)| (e.height, *h, e.block.header.prev_blockhash)).collect();
        later.sort_unstable();
        let mut found = HashSet::from([hash]);
        let mut list = vec![hash];
        for (_, child, parent) in later {
            if found.contains(&parent) && found.insert(child) {
                list.push(child);
            }
        }
        list
    }

    fn mark_invalid(&mut self, hash: BlockHash) {
        for hash in self.descendants(hash) {
            if let Some(entry) = self.blocks.get_mut(&hash) {
                entry.status = Status::Invalid;
            }
        }
    }

    /// Moves to the branch with the most work, setting invalid ones aside on the way. Returns the last error.
    fn activate_best(&mut self, change: &mut Change) -> Option<BlockError> {
        let mut failed = None;
        loop {
            let best = self
                .blocks
                .iter()
                .filter(|(_, entry)| !matches!(entry.status, Status::Invalid))
                .max_by_key(|(_, entry)| (entry.work, Reverse(entry.arrival)))
                .map(|(hash, _)| *hash)?;
            let mut path = Vec::new();
            let mut fork = best;
            while !self.is_active(&fork) {
                path.push(fork);
                fork = self.blocks[&fork].block.header.prev_blockhash;
            }
            while self.tip_hash() != fork {
                self.disconnect_tip(change);
            }
            let outcome = path
                .into_iter()
                .rev()
                .try_for_each(|hash| self.connect(hash, change).inspect_err(|_| self.mark_invalid(hash)));
            match outcome {
                Ok(()) => return failed,
                Err(error) => failed = Some(error),
            }
        }
    }

    /// Checks the block against the coins of the tip it extends and makes it the tip; on error nothing changes.
    fn connect(&mut self, hash: BlockHash, change: &mut Change) -> Result<(), BlockError> {
        let entry = &self.blocks[&hash];
        let (block, height) = (Arc::clone(&entry.block), entry.height);
        let txids = entry.txids.clone();
        let undo = self.check_connect(&block, &txids, height)?;
        for (tx, txid) in block.txdata.iter().zip(&txids) {
            for input in &tx.input {
                self.coins.remove(&input.previous_output);
            }
            for (vout, output) in tx.output.iter().enumerate().filter(|(_, output)| is_spendable(output)) {
                let coin = Coin { output: output.clone(), height, coinbase: tx.is_coinbase() };
                self.coins.insert(OutPoint::new(*txid, vout as u32), coin);
            }
        }
        self.index.connect(&block, &txids, height, &undo);
        self.active.push(hash);
        if let Some(entry) = self.blocks.get_mut(&hash) {
            entry.status = Status::Active(undo);
        }
        change.connected.push(block);
        Ok(())
    }

    /// All rules of a block that depend on the coins it spends. Returns those coins.
    fn check_connect(&mut self, block: &Block, txids: &[Txid], height: u32) -> Result<Undo, BlockError> {
        let mtp = self.tip().mtp;
        let mut made: HashMap<OutPoint, Coin> = HashMap::new();
        let mut spent: HashSet<OutPoint> = HashSet::new();
        let mut undo: Undo = vec![Vec::new()];
        let (mut fees, mut sigops) = (0, block.txdata[0].total_sigop_cost(|_| None));
        for (index, (tx, txid)) in block.txdata.iter().zip(txids).enumerate() {
            let fail = |error| BlockError::Tx { txid: *txid, error };
            if index > 0 {
                let mut coins = Vec::with_capacity(tx.input.len());
                for input in &tx.input {
                    let outpoint = input.previous_output;
                    let coin = made.get(&outpoint).or_else(|| self.coins.get(&outpoint));
                    let coin = coin.filter(|_| spent.insert(outpoint)).ok_or_else(|| fail(TxError::MissingInputs))?;
                    coins.push(coin.clone());
                }
                fees += consensus::check_values(tx, &coins, height).map_err(fail)?;
                // A coin of this very block is as old as the block itself.
                let origins: Vec<CoinOrigin> = coins.iter().map(|coin| self.origin(coin)).collect();
                if !consensus::is_relative_final(tx, &origins, height, mtp) {
                    return Err(fail(TxError::NonBip68Final));
                }
                let outputs: Vec<&TxOut> = coins.iter().map(|coin| &coin.output).collect();
                sigops += sigop_cost(tx, &outputs);
                self.verify_scripts(tx, &outputs).map_err(fail)?;
                undo.push(coins);
            }
            for (vout, output) in tx.output.iter().enumerate().filter(|(_, output)| is_spendable(output)) {
                let outpoint = OutPoint::new(*txid, vout as u32);
                if self.coins.contains_key(&outpoint) {
                    return Err(BlockError::Rule("bad-txns-BIP30"));
                }
                made.insert(outpoint, Coin { output: output.clone(), height, coinbase: index == 0 });
            }
        }
        if sigops > MAX_BLOCK_SIGOPS_COST {
            return Err(BlockError::Rule("bad-blk-sigops"));
        }
        let claimed: u64 = block.txdata[0].output.iter().map(|output| output.value.to_sat()).sum();
        if claimed > subsidy(height).to_sat() + fees {
            return Err(BlockError::Rule("bad-cb-amount"));
        }
        Ok(undo)
    }

    /// Takes the tip off the chain and gives back the coins it spent.
    fn disconnect_tip(&mut self, change: &mut Change) {
        if self.active.len() == 1 {
            return;
        }
        let Some(hash) = self.active.pop() else { return };
        let Some(entry) = self.blocks.get_mut(&hash) else { return };
        let Status::Active(undo) = std::mem::replace(&mut entry.status, Status::Aside) else { return };
        for ((tx, txid), spent) in entry.block.txdata.iter().zip(&entry.txids).zip(&undo).rev() {
            for vout in 0..tx.output.len() {
                self.coins.remove(&OutPoint::new(*txid, vout as u32));
            }
            for (input, coin) in tx.input.iter().zip(spent) {
                self.coins.insert(input.previous_output, coin.clone());
            }
        }
        self.index.disconnect(&entry.block, &entry.txids, entry.height, &undo);
        change.disconnected.push(Arc::clone(&entry.block));
    }
}

/// Signature-operation cost of `tx`, given the outputs it spends in the order of its inputs.
pub(crate) fn sigop_cost(tx: &Transaction, spent: &[&TxOut]) -> usize {
    tx.total_sigop_cost(|outpoint| {
        let at = tx.input.iter().position(|input| input.previous_output == *outpoint)?;
        spent.get(at).map(|output| (*output).clone())
    })
}

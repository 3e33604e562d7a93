//! Transactions that wait for a block, under the relay rules of Bitcoin Core's defaults.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use bitcoin::{Block, OutPoint, Transaction, TxOut, Txid, Wtxid};

use crate::chain::{Chain, sigop_cost};
use crate::consensus::{self, Coin, CoinOrigin};
use crate::error::TxError;
use crate::policy::{
    self, CARVE_OUT_VBYTES, MAX_CHAIN_COUNT, MAX_CHAIN_VBYTES, MAX_EVICTIONS, MAX_STANDARD_SIGOPS_COST, Policy,
    TRUC_CHILD_MAX_VBYTES, TRUC_MAX_VBYTES, TRUC_VERSION, fee_for,
};

/// A waiting transaction.
#[derive(Clone, Debug)]
pub struct Entry {
    /// The transaction.
    pub tx: Arc<Transaction>,
    /// Its id.
    pub txid: Txid,
    /// Its id with witnesses.
    pub wtxid: Wtxid,
    /// Satoshis it pays.
    pub fee: u64,
    /// Virtual size as policy counts it.
    pub vsize: u64,
    /// Weight as consensus counts it.
    pub weight: u64,
    /// Signature-operation cost.
    pub sigops: usize,
    /// Unix time of arrival.
    pub time: u64,
    /// Height of the chain at arrival.
    pub height: u32,
    /// Order of arrival; a parent always comes before its child.
    pub sequence: u64,
    /// The outputs it spends, in the order of its inputs.
    pub spent: Vec<TxOut>,
    /// Waiting transactions it spends from.
    pub parents: BTreeSet<Txid>,
    /// Waiting transactions that spend from it.
    pub children: BTreeSet<Txid>,
}

/// What became of an accepted transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Accepted {
    /// Its id.
    pub txid: Txid,
    /// Its id with witnesses.
    pub wtxid: Wtxid,
    /// Satoshis it pays.
    pub fee: u64,
    /// Virtual size.
    pub vsize: u64,
    /// What it evicted.
    pub replaced: Vec<Txid>,
}

/// Number, virtual size and fees of a transaction with all its waiting ancestors or descendants.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Family {
    /// How many, itself included.
    pub count: usize,
    /// Their virtual size.
    pub vsize: u64,
    /// Their fees in satoshis.
    pub fees: u64,
}

/// Where a transaction comes from, which decides how far policy applies to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    /// Somebody sent it: every rule applies.
    Sent,
    /// It was in a block or in the mempool before a reorg: fees and limits were judged then, and it replaces nothing.
    Returned,
}

/// The waiting transactions, their graph and the outputs they spend.
#[derive(Clone, Debug)]
pub struct Mempool {
    pub(crate) policy: Policy,
    entries: HashMap<Txid, Arc<Entry>>,
    spent: HashMap<OutPoint, Txid>,
    vbytes: u64,
    fees: u64,
    sequence: u64,
}

impl Mempool {
    /// An empty mempool.
    pub fn new(policy: Policy) -> Mempool {
        Mempool { policy, entries: HashMap::new(), spent: HashMap::new(), vbytes: 0, fees: 0, sequence: 1 }
    }

    /// The same mempool with its sequence numbers starting after `sequence`.
    pub(crate) fn continuing(mut self, sequence: u64) -> Mempool {
        self.sequence = sequence;
        self
    }

    /// The feerates in force.
    pub fn policy(&self) -> &Policy {
        &self.policy
    }

    /// A waiting transaction.
    pub fn get(&self, txid: &Txid) -> Option<&Entry> {
        self.entries.get(txid).map(Arc::as_ref)
    }

    /// The waiting transaction that spends `outpoint`.
    pub fn spender(&self, outpoint: &OutPoint) -> Option<Txid> {
        self.spent.get(outpoint).copied()
    }

    /// All waiting transactions in order of arrival, parents before children.
    pub fn entries(&self) -> Vec<Arc<Entry>> {
        let mut all: Vec<_> = self.entries.values().cloned().collect();
        all.sort_unstable_by_key(|entry| entry.sequence);
        all
    }

    /// How many wait.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether none waits.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Virtual size of all.
    pub fn vbytes(&self) -> u64 {
        self.vbytes
    }

    /// Fees of all, in satoshis.
    pub fn fees(&self) -> u64 {
        self.fees
    }

    /// A number that grows with every transaction taken in.
    pub fn sequence(&self) -> u64 {
        self.sequence
    }

    /// An output of a waiting transaction, spent or not.
    pub fn output(&self, outpoint: &OutPoint) -> Option<&TxOut> {
        self.entries.get(&outpoint.txid)?.tx.output.get(outpoint.vout as usize)
    }

    /// The transaction and all waiting ancestors, in numbers.
    pub fn with_ancestors(&self, txid: &Txid) -> Family {
        self.family(self.closure([*txid], |entry| &entry.parents))
    }

    /// The transaction and all waiting descendants, in numbers.
    pub fn with_descendants(&self, txid: &Txid) -> Family {
        self.family(self.closure([*txid], |entry| &entry.children))
    }

    /// Fee and virtual size, if every rule that does not depend on the fee is met. Changes nothing.
    pub fn assess(&self, chain: &Chain, tx: &Transaction) -> Result<(u64, u64), TxError> {
        self.examine(chain, Arc::new(tx.clone())).map(|candidate| (candidate.fee, candidate.vsize))
    }

    /// Takes a transaction in, or says why not. On error nothing changes. `now` is unix time in seconds.
    pub fn accept(&mut self, chain: &mut Chain, tx: Transaction, now: u64) -> Result<Accepted, TxError> {
        self.accept_from(chain, Arc::new(tx), now, Source::Sent)
    }

    pub(crate) fn accept_from(
        &mut self,
        chain: &mut Chain,
        tx: Arc<Transaction>,
        now: u64,
        source: Source,
    ) -> Result<Accepted, TxError> {
        let mut candidate = self.examine(chain, tx)?;
        if source == Source::Returned {
            if !candidate.conflicts.is_empty() {
                return Err(TxError::Conflict);
            }
            candidate.verify(chain)?;
            return Ok(self.insert(candidate, now, chain.height()));
        }
        let needed = fee_for(self.policy.min_relay, candidate.vsize);
        if candidate.fee < needed {
            return Err(TxError::FeeTooLow { paid: candidate.fee, needed });
        }
        if let Some(sibling) = self.check_truc(&candidate)? {
            candidate.conflicts.insert(sibling);
        }
        self.check_ephemeral(&candidate)?;
        if candidate.conflicts.is_empty() {
            self.check_limits(&candidate)?;
            candidate.verify(chain)?;
            return Ok(self.insert(candidate, now, chain.height()));
        }
        let evicted = self.check_replacement(&candidate)?;
        let mut trial = self.clone();
        trial.remove_all(&evicted);
        trial.check_limits(&candidate)?;
        candidate.verify(chain)?;
        let mut accepted = trial.insert(candidate, now, chain.height());
        accepted.replaced = evicted.into_iter().collect();
        *self = trial;
        Ok(accepted)
    }

    /// Every rule that depends neither on the fee nor on the other waiting transactions' limits, except scripts.
    pub(crate) fn examine(&self, chain: &Chain, tx: Arc<Transaction>) -> Result<Candidate, TxError> {
        consensus::check_transaction(&tx)?;
        if tx.is_coinbase() {
            return Err(TxError::Coinbase);
        }
        policy::check_standard(&tx)?;
        let (next, mtp) = (chain.height() + 1, chain.tip().mtp);
        if !consensus::is_final(&tx, next, mtp) {
            return Err(TxError::NonFinal);
        }
        let (txid, wtxid) = (tx.compute_txid(), tx.compute_wtxid());
        if let Some(known) = self.entries.get(&txid) {
            return Err(if known.wtxid == wtxid { TxError::InMempool } else { TxError::SameTxidInMempool });
        }
        let mut coins = Vec::with_capacity(tx.input.len());
        let mut origins = Vec::with_capacity(tx.input.len());
        let (mut parents, mut conflicts) = (BTreeSet::new(), BTreeSet::new());
        for input in &tx.input {
            let outpoint = input.previous_output;
            if let Some(other) = self.spent.get(&outpoint) {
                conflicts.insert(*other);
            }
            if let Some(coin) = chain.coin(&outpoint) {
                origins.push(chain.origin(coin));
                coins.push(coin.clone());
            } else if let Some(output) = self.output(&outpoint) {
                origins.push(CoinOrigin { height: next, mtp_before: mtp });
                coins.push(Coin { output: output.clone(), height: next, coinbase: false });
                parents.insert(outpoint.txid);
            } else if (0..tx.output.len()).any(|vout| chain.coin(&OutPoint::new(txid, vout as u32)).is_some()) {
                return Err(TxError::Confirmed);
            } else {
                return Err(TxError::MissingInputs);
            }
        }
        let fee = consensus::check_values(&tx, &coins, next)?;
        if !consensus::is_relative_final(&tx, &origins, next, mtp) {
            return Err(TxError::NonBip68Final);
        }
        let spent: Vec<TxOut> = coins.into_iter().map(|coin| coin.output).collect();
        let outputs: Vec<&TxOut> = spent.iter().collect();
        policy::check_standard_inputs(&tx, &outputs)?;
        let sigops = sigop_cost(&tx, &outputs);
        if sigops > MAX_STANDARD_SIGOPS_COST {
            return Err(TxError::NonStandard("bad-txns-too-many-sigops"));
        }
        // Dust is let through only if the transaction pays nothing itself, so that only a child can make it worth mining.
        let dust = policy::dust_outputs(&tx).len();
        if dust > 1 || (dust == 1 && fee > 0) {
            return Err(TxError::NonStandard("dust"));
        }
        let vsize = policy::virtual_size(&tx, sigops);
        Ok(Candidate { txid, wtxid, fee, vsize, sigops, spent, parents, conflicts, tx })
    }

    /// Ancestor and descendant limits, with the carve-out that lets each party of a channel spend its anchor.
    pub(crate) fn check_limits(&self, candidate: &Candidate) -> Result<(), TxError> {
        if self.vbytes + candidate.vsize > self.policy.max_mempool_vbytes {
            return Err(TxError::Full);
        }
        let extra = (1, CARVE_OUT_VBYTES);
        match self.check_limits_at(candidate, MAX_CHAIN_COUNT, (0, 0)) {
            Err(_) if candidate.vsize <= CARVE_OUT_VBYTES && self.check_limits_at(candidate, 2, extra).is_ok() => {
                Ok(())
            }
            other => other,
        }
    }

    fn check_limits_at(&self, candidate: &Candidate, max_up: usize, extra: (usize, u64)) -> Result<(), TxError> {
        let ancestors = self.closure(candidate.parents.iter().copied(), |entry| &entry.parents);
        let up = self.family(ancestors.clone());
        if up.count + 1 > max_up {
            return Err(TxError::ChainTooLong(format!("too many unconfirmed ancestors [limit: {max_up}]")));
        }
        if up.vsize + candidate.vsize > MAX_CHAIN_VBYTES {
            return Err(TxError::ChainTooLong(format!("exceeds ancestor size limit [limit: {MAX_CHAIN_VBYTES}]")));
        }
        for ancestor in ancestors {
            let down = self.with_descendants(&ancestor);
            let (count, vsize) = (MAX_CHAIN_COUNT + extra.0, MAX_CHAIN_VBYTES + extra.1);
            if down.count + 1 > count {
                return Err(TxError::ChainTooLong(format!("too many descendants for tx {ancestor} [limit: {count}]")));
            }
            if down.vsize + candidate.vsize > vsize {
                let text = format!("exceeds descendant size limit for tx {ancestor} [limit: {vsize}]");
                return Err(TxError::ChainTooLong(text));
            }
        }
        Ok(())
    }

    /// The topology of version 3 (BIP431): one unconfirmed parent or child, and a small child. Returns a sibling to evict.
    pub(crate) fn check_truc(&self, candidate: &Candidate) -> Result<Option<Txid>, TxError> {
        let is_truc = candidate.tx.version.0 == TRUC_VERSION;
        let txid = candidate.txid;
        for parent in candidate.parents.iter().filter_map(|id| self.entries.get(id)) {
            if (parent.tx.version.0 == TRUC_VERSION) != is_truc {
                let (a, b) = if is_truc { ("", "non-") } else { ("non-", "") };
                let text = format!("{a}version=3 tx {txid} cannot spend from {b}version=3 tx {}", parent.txid);
                return Err(TxError::Truc(text));
            }
        }
        if !is_truc {
            return Ok(None);
        }
        if candidate.vsize > TRUC_MAX_VBYTES {
            return Err(TxError::Truc(format!("version=3 tx {txid} is too big")));
        }
        let Some(parent) = candidate.parents.first().and_then(|id| self.entries.get(id)) else { return Ok(None) };
        if candidate.parents.len() > 1 || !parent.parents.is_empty() {
            return Err(TxError::Truc(format!("tx {txid} would have too many ancestors")));
        }
        if candidate.vsize > TRUC_CHILD_MAX_VBYTES {
            return Err(TxError::Truc(format!("version=3 child tx {txid} is too big")));
        }
        let mut siblings = parent.children.iter().filter(|child| !candidate.conflicts.contains(*child));
        match (siblings.next(), siblings.next()) {
            (None, _) => Ok(None),
            (Some(sibling), None) if self.entries.get(sibling).is_some_and(|s| s.children.is_empty()) => {
                Ok(Some(*sibling))
            }
            _ => Err(TxError::Truc(format!("tx {} would exceed descendant count limit", parent.txid))),
        }
    }

    /// A child spends all dust of its waiting parents.
    pub(crate) fn check_ephemeral(&self, candidate: &Candidate) -> Result<(), TxError> {
        for parent in candidate.parents.iter().filter_map(|id| self.entries.get(id)) {
            for vout in policy::dust_outputs(&parent.tx) {
                let dust = OutPoint::new(parent.txid, vout as u32);
                if !candidate.tx.input.iter().any(|input| input.previous_output == dust) {
                    return Err(TxError::EphemeralUnspent(parent.txid));
                }
            }
        }
        Ok(())
    }

    /// Replacement of what the candidate conflicts with (BIP125, without the need to signal). Returns all to evict.
    fn check_replacement(&self, candidate: &Candidate) -> Result<BTreeSet<Txid>, TxError> {
        let evicted = self.evicted_by(candidate.parents.iter(), &candidate.conflicts)?;
        let allowed: BTreeSet<Txid> = candidate
            .conflicts
            .iter()
            .filter_map(|id| self.entries.get(id))
            .flat_map(|entry| entry.parents.iter().copied())
            .collect();
        if !candidate.parents.is_subset(&allowed) {
            return Err(TxError::AddsUnconfirmed);
        }
        self.check_replacement_fee(candidate.txid, (candidate.fee, candidate.vsize), &candidate.conflicts, &evicted)?;
        Ok(evicted)
    }

    /// Everything that goes if `conflicts` go; at most 100, and nothing the newcomer depends on.
    pub(crate) fn evicted_by<'a>(
        &self,
        parents: impl Iterator<Item = &'a Txid>,
        conflicts: &BTreeSet<Txid>,
    ) -> Result<BTreeSet<Txid>, TxError> {
        let ancestors = self.closure(parents.copied(), |entry| &entry.parents);
        if !ancestors.is_disjoint(conflicts) {
            return Err(TxError::SpendsConflict);
        }
        let evicted = self.closure(conflicts.iter().copied(), |entry| &entry.children);
        if evicted.len() > MAX_EVICTIONS {
            return Err(TxError::TooManyReplacements(evicted.len()));
        }
        Ok(evicted)
    }

    /// BIP125 rules 3, 4 and 6: a higher feerate than each conflict, the fees of all it evicts, and its own relay on top.
    pub(crate) fn check_replacement_fee(
        &self,
        replacement: Txid,
        (fee, vsize): (u64, u64),
        conflicts: &BTreeSet<Txid>,
        evicted: &BTreeSet<Txid>,
    ) -> Result<(), TxError> {
        let refuse = |why: String| Err(TxError::ReplacementFee { replacement, why });
        for old in conflicts.iter().filter_map(|id| self.entries.get(id)) {
            if u128::from(fee) * u128::from(old.vsize) <= u128::from(old.fee) * u128::from(vsize) {
                let (new, old) = (fee * 1000 / vsize, old.fee * 1000 / old.vsize);
                return refuse(format!("new feerate {new} sat/kvB <= old feerate {old} sat/kvB"));
            }
        }
        let lost = self.family(evicted.clone()).fees;
        if fee < lost {
            return refuse(format!("less fees than conflicting txs; {fee} < {lost}"));
        }
        let needed = fee_for(self.policy.incremental_relay, vsize);
        if fee - lost < needed {
            return refuse(format!("not enough additional fees to relay; {} < {needed}", fee - lost));
        }
        Ok(())
    }

    /// Puts a candidate in, without any further check.
    pub(crate) fn insert(&mut self, candidate: Candidate, now: u64, height: u32) -> Accepted {
        let Candidate { tx, txid, wtxid, fee, vsize, sigops, spent, parents, .. } = candidate;
        for input in &tx.input {
            self.spent.insert(input.previous_output, txid);
        }
        for parent in &parents {
            if let Some(parent) = self.entries.get_mut(parent) {
                Arc::make_mut(parent).children.insert(txid);
            }
        }
        self.vbytes += vsize;
        self.fees += fee;
        self.sequence += 1;
        let (weight, sequence) = (tx.weight().to_wu(), self.sequence);
        let children = BTreeSet::new();
        let entry = Entry {
            tx,
            txid,
            wtxid,
            fee,
            vsize,
            weight,
            sigops,
            time: now,
            height,
            sequence,
            spent,
            parents,
            children,
        };
        self.entries.insert(txid, Arc::new(entry));
        Accepted { txid, wtxid, fee, vsize, replaced: Vec::new() }
    }

    /// Takes out what a new block confirms and what conflicts with it.
    pub(crate) fn block_connected(&mut self, block: &Block) {
        for tx in &block.txdata {
            self.remove(&tx.compute_txid());
            for input in &tx.input {
                if let Some(conflict) = self.spender(&input.previous_output) {
                    let gone = self.closure([conflict], |entry| &entry.children);
                    self.remove_all(&gone);
                }
            }
        }
    }

    pub(crate) fn remove_all(&mut self, txids: &BTreeSet<Txid>) {
        for txid in txids {
            self.remove(txid);
        }
    }

    fn remove(&mut self, txid: &Txid) {
        let Some(entry) = self.entries.remove(txid) else { return };
        for input in &entry.tx.input {
            self.spent.remove(&input.previous_output);
        }
        for parent in &entry.parents {
            if let Some(parent) = self.entries.get_mut(parent) {
                Arc::make_mut(parent).children.remove(txid);
            }
        }
        for child in &entry.children {
            if let Some(child) = self.entries.get_mut(child) {
                Arc::make_mut(child).parents.remove(txid);
            }
        }
        self.vbytes -= entry.vsize;
        self.fees -= entry.fee;
    }

    /// `start` and everything reachable over `links`.
    pub(crate) fn closure(
        &self,
        start: impl IntoIterator<Item = Txid>,
        links: impl Fn(&Entry) -> &BTreeSet<Txid>,
    ) -> BTreeSet<Txid> {
        let mut todo: Vec<Txid> = start.into_iter().collect();
        let mut found = BTreeSet::new();
        while let Some(txid) = todo.pop() {
            if let Some(entry) = self.entries.get(&txid).filter(|_| found.insert(txid)) {
                todo.extend(links(entry).iter().copied());
            }
        }
        found
    }

    fn family(&self, txids: BTreeSet<Txid>) -> Family {
        let entries = txids.iter().filter_map(|id| self.entries.get(id));
        entries.fold(Family::default(), |sum, entry| Family {
            count: sum.count + 1,
            vsize: sum.vsize + entry.vsize,
            fees: sum.fees + entry.fee,
        })
    }
}

/// A transaction that met every rule but those of fees, limits and scripts.
#[derive(Clone, Debug)]
pub(crate) struct Candidate {
    pub(crate) tx: Arc<Transaction>,
    pub(crate) txid: Txid,
    pub(crate) wtxid: Wtxid,
    pub(crate) fee: u64,
    pub(crate) vsize: u64,
    pub(crate) sigops: usize,
    pub(crate) spent: Vec<TxOut>,
    pub(crate) parents: BTreeSet<Txid>,
    pub(crate) conflicts: BTreeSet<Txid>,
}

impl Candidate {
    /// The scripts, last because they cost most.
    pub(crate) fn verify(&self, chain: &mut Chain) -> Result<(), TxError> {
        let spent: Vec<&TxOut> = self.spent.iter().collect();
        chain.verify_scripts(&self.tx, &spent)
    }
}

//! A child that pays for its parents (`submitpackage`): how LDK's and LND's anchor commitments get relayed.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use bitcoin::{Transaction, Txid, Wtxid};

use crate::chain::Chain;
use crate::error::TxError;
use crate::mempool::{Accepted, Mempool, Source};
use crate::policy::{MAX_PACKAGE_COUNT, MAX_PACKAGE_WEIGHT, fee_for};

/// Why a package was not looked into at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PackageError {
    /// No transactions, or more than 25.
    #[error("package-too-many-transactions")]
    Count,
    /// Heavier than 404,000 weight units.
    #[error("package-too-large")]
    TooLarge,
    /// A transaction is in it twice.
    #[error("package-contains-duplicates")]
    Duplicates,
    /// A child stands before its parent.
    #[error("package-not-sorted")]
    NotSorted,
    /// Two of its transactions spend the same output.
    #[error("conflict-in-package")]
    Conflict,
    /// It is not one child with its parents.
    #[error("package topology disallowed. not child-with-parents")]
    Topology,
}

/// What became of one transaction of a package.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It was in the mempool before, possibly with another witness (whose id is given).
    Known(Wtxid),
    /// It was taken in. `feerate` (sat/kvB) is what counted, over the transactions in `includes`.
    Accepted {
        /// Fee, size and what was replaced.
        accepted: Accepted,
        /// Effective feerate.
        feerate: u64,
        /// The transactions whose fees and sizes make up that feerate.
        includes: Vec<Wtxid>,
    },
    /// It was refused.
    Refused(TxError),
}

/// Shape of a package: sorted, free of conflicts, one child that spends from each of the others.
pub fn check_package(txs: &[Transaction]) -> Result<(), PackageError> {
    if txs.is_empty() || txs.len() > MAX_PACKAGE_COUNT {
        return Err(PackageError::Count);
    }
    if txs.len() > 1 && txs.iter().map(|tx| tx.weight().to_wu()).sum::<u64>() > MAX_PACKAGE_WEIGHT {
        return Err(PackageError::TooLarge);
    }
    let ids: Vec<Txid> = txs.iter().map(Transaction::compute_txid).collect();
    let mut later: HashSet<Txid> = ids.iter().copied().collect();
    if later.len() != ids.len() {
        return Err(PackageError::Duplicates);
    }
    let mut spent = HashSet::new();
    for (tx, txid) in txs.iter().zip(&ids) {
        if tx.input.iter().any(|input| later.contains(&input.previous_output.txid)) {
            return Err(PackageError::NotSorted);
        }
        if !tx.input.iter().all(|input| spent.insert(input.previous_output)) {
            return Err(PackageError::Conflict);
        }
        later.remove(txid);
    }
    let (parents, child) = (&ids[..ids.len() - 1], &txs[txs.len() - 1]);
    let spends = |parent: &Txid| child.input.iter().any(|input| input.previous_output.txid == *parent);
    if !parents.iter().all(spends) {
        return Err(PackageError::Topology);
    }
    Ok(())
}

impl Mempool {
    /// Takes in a child with its parents. Each is first tried alone; those whose fee does not suffice are then judged together.
    /// The outcomes stand in the order of `txs`.
    pub fn accept_package(
        &mut self,
        chain: &mut Chain,
        txs: Vec<Transaction>,
        now: u64,
    ) -> Result<Vec<Outcome>, PackageError> {
        check_package(&txs)?;
        let txs: Vec<Arc<Transaction>> = txs.into_iter().map(Arc::new).collect();
        let mut outcomes: HashMap<Txid, Outcome> = HashMap::new();
        let mut together = Vec::new();
        let mut hopeless = false;
        for tx in &txs {
            let txid = tx.compute_txid();
            if let Some(known) = self.get(&txid) {
                outcomes.insert(txid, Outcome::Known(known.wtxid));
                continue;
            }
            match self.accept_from(chain, Arc::clone(tx), now, Source::Sent) {
                Ok(accepted) => {
                    let (feerate, includes) = (accepted.fee * 1000 / accepted.vsize, vec![accepted.wtxid]);
                    outcomes.insert(txid, Outcome::Accepted { accepted, feerate, includes });
                }
                Err(TxError::Confirmed) => {
                    outcomes.insert(txid, Outcome::Known(tx.compute_wtxid()));
                }
                Err(error) => {
                    hopeless |= !error.is_fee();
                    outcomes.insert(txid, Outcome::Refused(error));
                    together.push(Arc::clone(tx));
                }
            }
        }
        if together.len() > 1 && !hopeless {
            match self.accept_together(chain, &together, now) {
                Ok(accepted) => {
                    let (fee, vsize) = accepted.iter().fold((0, 0), |(f, v), a| (f + a.fee, v + a.vsize));
                    let includes: Vec<Wtxid> = accepted.iter().map(|a| a.wtxid).collect();
                    for accepted in accepted {
                        let (feerate, includes) = (fee * 1000 / vsize, includes.clone());
                        outcomes.insert(accepted.txid, Outcome::Accepted { accepted, feerate, includes });
                    }
                }
                Err((txid, error)) => {
                    outcomes.insert(txid, Outcome::Refused(error));
                }
            }
        }
        Ok(txs.iter().filter_map(|tx| outcomes.remove(&tx.compute_txid())).collect())
    }

    /// Judges the fees of all by their sum. All or none are taken in.
    fn accept_together(
        &mut self,
        chain: &mut Chain,
        txs: &[Arc<Transaction>],
        now: u64,
    ) -> Result<Vec<Accepted>, (Txid, TxError)> {
        let mut trial = self.clone();
        let mut candidates = Vec::new();
        let (mut conflicts, mut evicted) = (BTreeSet::new(), BTreeSet::new());
        let mut has_ancestors = false;
        for tx in txs {
            let txid = tx.compute_txid();
            let fail = |error| (txid, error);
            let candidate = trial.examine(chain, Arc::clone(tx)).map_err(fail)?;
            let gone = trial.evicted_by(candidate.parents.iter(), &candidate.conflicts).map_err(fail)?;
            conflicts.extend(candidate.conflicts.iter().copied());
            has_ancestors |= candidate.parents.iter().any(|parent| self.get(parent).is_some());
            trial.remove_all(&gone);
            evicted.extend(gone);
            if trial.check_truc(&candidate).map_err(fail)?.is_some() {
                return Err(fail(TxError::Conflict));
            }
            trial.check_ephemeral(&candidate).map_err(fail)?;
            trial.check_limits(&candidate).map_err(fail)?;
            trial.insert(candidate.clone(), now, chain.height());
            candidates.push(candidate);
        }
        let (fee, vsize) = candidates.iter().fold((0, 0), |(f, v), c| (f + c.fee, v + c.vsize));
        let last = candidates.last().map_or_else(|| txs[0].compute_txid(), |candidate| candidate.txid);
        let needed = fee_for(self.policy.min_relay, vsize);
        if fee < needed {
            return Err((last, TxError::FeeTooLow { paid: fee, needed }));
        }
        if !conflicts.is_empty() {
            // As Bitcoin Core: a package replaces only as one parent with one child and nothing unconfirmed beneath.
            if candidates.len() != 2 || has_ancestors {
                return Err((last, TxError::Conflict));
            }
            if u128::from(fee) * u128::from(candidates[0].vsize) <= u128::from(candidates[0].fee) * u128::from(vsize) {
                let why = "package feerate is not above the parent's".to_owned();
                return Err((last, TxError::ReplacementFee { replacement: last, why }));
            }
            self.check_replacement_fee(last, (fee, vsize), &conflicts, &evicted).map_err(|error| (last, error))?;
        }
        for candidate in &candidates {
            candidate.verify(chain).map_err(|error| (candidate.txid, error))?;
        }
        *self = trial;
        let accepted = |(index, c): (usize, &crate::mempool::Candidate)| Accepted {
            txid: c.txid,
            wtxid: c.wtxid,
            fee: c.fee,
            vsize: c.vsize,
            replaced: if index == 0 { evicted.iter().copied().collect() } else { Vec::new() },
        };
        Ok(candidates.iter().enumerate().map(accepted).collect())
    }
}

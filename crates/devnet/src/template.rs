//! Which waiting transactions go into the next block: those that pay best together with their ancestors.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use bitcoin::{Transaction, Txid};

use crate::consensus::{MAX_BLOCK_SIGOPS_COST, MAX_BLOCK_WEIGHT};
use crate::mempool::{Entry, Mempool};

/// Weight kept free for header and coinbase.
const RESERVED_WEIGHT: u64 = 8_000;
/// Signature-operation cost kept free for the coinbase.
const RESERVED_SIGOPS: usize = 400;

/// Transactions in an order that a block may have, and the fees they pay.
#[derive(Clone, Debug, Default)]
pub struct Template {
    /// Parents before children.
    pub txs: Vec<Transaction>,
    /// Satoshis.
    pub fees: u64,
}

/// Rank of a transaction with those of its ancestors that are not in the block yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Rank {
    /// Millisatoshis per weight unit, so that small differences count.
    feerate: u128,
    /// Earlier arrivals first among equals.
    earlier: std::cmp::Reverse<u64>,
    txid: Txid,
}

#[derive(Clone, Copy, Debug)]
struct Bundle {
    fee: u64,
    weight: u64,
    sigops: usize,
}

impl Mempool {
    /// Fills a block by ancestor feerate. What pays nothing even with its descendants is left out.
    pub fn template(&self) -> Template {
        let entries = self.entries();
        let by_id: HashMap<Txid, &Arc<Entry>> = entries.iter().map(|entry| (entry.txid, entry)).collect();
        let mut bundles: HashMap<Txid, Bundle> = HashMap::new();
        let mut ranks = BTreeSet::new();
        for entry in &entries {
            let members = self.closure([entry.txid], |e| &e.parents);
            let bundle = members.iter().filter_map(|id| by_id.get(id)).fold(
                Bundle { fee: 0, weight: 0, sigops: 0 },
                |sum, e| Bundle { fee: sum.fee + e.fee, weight: sum.weight + e.weight, sigops: sum.sigops + e.sigops },
            );
            ranks.insert(rank(entry, bundle));
            bundles.insert(entry.txid, bundle);
        }
        let (mut weight, mut sigops) = (RESERVED_WEIGHT, RESERVED_SIGOPS);
        let mut taken: HashSet<Txid> = HashSet::new();
        let mut order: Vec<&Arc<Entry>> = Vec::new();
        while let Some(best) = ranks.pop_last() {
            let bundle = bundles[&best.txid];
            if bundle.fee == 0 {
                break;
            }
            if weight + bundle.weight > MAX_BLOCK_WEIGHT || sigops + bundle.sigops > MAX_BLOCK_SIGOPS_COST {
                continue;
            }
            weight += bundle.weight;
            sigops += bundle.sigops;
            let mut members: Vec<&Arc<Entry>> = self
                .closure([best.txid], |e| &e.parents)
                .iter()
                .filter(|id| !taken.contains(*id))
                .filter_map(|id| by_id.get(id).copied())
                .collect();
            members.sort_unstable_by_key(|entry| entry.sequence);
            for member in members {
                taken.insert(member.txid);
                order.push(member);
                self.discount(member, &taken, &by_id, &mut bundles, &mut ranks);
            }
        }
        let fees = order.iter().map(|entry| entry.fee).sum();
        Template { txs: order.into_iter().map(|entry| entry.tx.as_ref().clone()).collect(), fees }
    }

    /// Takes a member that is in the block now out of the bundles of its descendants.
    fn discount(
        &self,
        member: &Entry,
        taken: &HashSet<Txid>,
        by_id: &HashMap<Txid, &Arc<Entry>>,
        bundles: &mut HashMap<Txid, Bundle>,
        ranks: &mut BTreeSet<Rank>,
    ) {
        for id in self.closure([member.txid], |e| &e.children) {
            let (Some(entry), Some(bundle)) = (by_id.get(&id), bundles.get_mut(&id)) else { continue };
            let waited = ranks.remove(&rank(entry, *bundle));
            bundle.fee -= member.fee;
            bundle.weight -= member.weight;
            bundle.sigops -= member.sigops;
            if waited && !taken.contains(&id) {
                ranks.insert(rank(entry, *bundle));
            }
        }
    }
}

fn rank(entry: &Entry, bundle: Bundle) -> Rank {
    let feerate = u128::from(bundle.fee) * 1_000_000 / u128::from(bundle.weight.max(1));
    Rank { feerate, earlier: std::cmp::Reverse(entry.sequence), txid: entry.txid }
}

//! Look-ups over the active chain that consensus does not need but clients ask for: transactions, spenders, scripts.

use std::collections::{BTreeSet, HashMap};

use bitcoin::hashes::{Hash, sha256};
use bitcoin::{Block, OutPoint, Script, Txid};

use crate::consensus::{Coin, is_spendable};

/// SHA-256 of an output script, the key that Esplora and Electrum use (Esplora writes it unreversed).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ScriptId(pub [u8; 32]);

impl ScriptId {
    /// The id of `script`.
    pub fn of(script: &Script) -> ScriptId {
        ScriptId(sha256::Hash::hash(script.as_bytes()).to_byte_array())
    }
}

/// Where a confirmed transaction is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct TxPosition {
    /// Height of its block in the active chain.
    pub height: u32,
    /// Its index in the block.
    pub index: u32,
}

/// What the active chain knows about one script.
#[derive(Clone, Debug, Default)]
pub struct ScriptHistory {
    /// Confirmed transactions that pay to or spend from the script, oldest first.
    pub txs: BTreeSet<TxPosition>,
    /// Its unspent outputs.
    pub unspent: BTreeSet<OutPoint>,
}

/// The look-ups, kept in step with the active chain by `connect` and `disconnect`.
#[derive(Clone, Debug, Default)]
pub(crate) struct Index {
    txs: HashMap<Txid, TxPosition>,
    spends: HashMap<OutPoint, (Txid, u32)>,
    scripts: HashMap<ScriptId, ScriptHistory>,
}

impl Index {
    pub(crate) fn position(&self, txid: &Txid) -> Option<TxPosition> {
        self.txs.get(txid).copied()
    }

    pub(crate) fn spender(&self, outpoint: &OutPoint) -> Option<(Txid, u32)> {
        self.spends.get(outpoint).copied()
    }

    pub(crate) fn script(&self, id: &ScriptId) -> Option<&ScriptHistory> {
        self.scripts.get(id)
    }

    /// Adds a block. `spent` holds the coins of each transaction's inputs, the coinbase's being empty.
    pub(crate) fn connect(&mut self, block: &Block, txids: &[Txid], height: u32, spent: &[Vec<Coin>]) {
        for (index, (tx, txid)) in block.txdata.iter().zip(txids).enumerate() {
            let at = TxPosition { height, index: index as u32 };
            self.txs.insert(*txid, at);
            for (vin, (input, coin)) in tx.input.iter().zip(&spent[index]).enumerate() {
                self.spends.insert(input.previous_output, (*txid, vin as u32));
                let history = self.scripts.entry(ScriptId::of(&coin.output.script_pubkey)).or_default();
                history.txs.insert(at);
                history.unspent.remove(&input.previous_output);
            }
            for (vout, output) in tx.output.iter().enumerate() {
                let history = self.scripts.entry(ScriptId::of(&output.script_pubkey)).or_default();
                history.txs.insert(at);
                if is_spendable(output) {
                    history.unspent.insert(OutPoint::new(*txid, vout as u32));
                }
            }
        }
    }

    /// Takes the tip block back out; the same arguments as [`Index::connect`] had.
    pub(crate) fn disconnect(&mut self, block: &Block, txids: &[Txid], height: u32, spent: &[Vec<Coin>]) {
        for (index, (tx, txid)) in block.txdata.iter().zip(txids).enumerate().rev() {
            let at = TxPosition { height, index: index as u32 };
            self.txs.remove(txid);
            for (vout, output) in tx.output.iter().enumerate() {
                self.forget(ScriptId::of(&output.script_pubkey), at, |unspent| {
                    unspent.remove(&OutPoint::new(*txid, vout as u32));
                });
            }
            for (input, coin) in tx.input.iter().zip(&spent[index]) {
                self.spends.remove(&input.previous_output);
                self.forget(ScriptId::of(&coin.output.script_pubkey), at, |unspent| {
                    unspent.insert(input.previous_output);
                });
            }
        }
    }

    fn forget(&mut self, id: ScriptId, at: TxPosition, change: impl FnOnce(&mut BTreeSet<OutPoint>)) {
        if let Some(history) = self.scripts.get_mut(&id) {
            history.txs.remove(&at);
            change(&mut history.unspent);
            if history.txs.is_empty() && history.unspent.is_empty() {
                self.scripts.remove(&id);
            }
        }
    }
}

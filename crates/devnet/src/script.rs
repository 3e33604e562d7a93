//! Every input against Bitcoin's own script code, with every soft fork up to taproot enforced.

use std::collections::HashSet;

use bitcoin::{Transaction, TxOut, Wtxid, consensus};
use bitcoinconsensus::Utxo;

use crate::error::TxError;

/// Most transactions whose verdict is remembered between mempool and block.
const MAX_REMEMBERED: usize = 50_000;

/// Transactions known to satisfy the scripts they spend. The wtxid fixes witnesses and, through the outpoints, the
/// spent outputs; the flags never change; so a verdict holds for ever.
#[derive(Clone, Debug, Default)]
pub(crate) struct Verified(HashSet<Wtxid>);

impl Verified {
    pub(crate) fn contains(&self, id: &Wtxid) -> bool {
        self.0.contains(id)
    }

    pub(crate) fn insert(&mut self, id: Wtxid) {
        if self.0.len() >= MAX_REMEMBERED {
            self.0.clear();
        }
        self.0.insert(id);
    }
}

/// Checks all inputs of `tx` against the outputs they spend, given in the order of the inputs.
pub(crate) fn verify(tx: &Transaction, spent: &[&TxOut]) -> Result<(), TxError> {
    debug_assert_eq!(tx.input.len(), spent.len());
    let bytes = consensus::serialize(tx);
    let utxos: Vec<Utxo> = spent
        .iter()
        .map(|output| Utxo {
            script_pubkey: output.script_pubkey.as_bytes().as_ptr(),
            script_pubkey_len: output.script_pubkey.len() as u32,
            value: output.value.to_sat() as i64,
        })
        .collect();
    for (input, output) in spent.iter().enumerate() {
        bitcoinconsensus::verify(output.script_pubkey.as_bytes(), output.value.to_sat(), &bytes, Some(&utxos), input)
            .map_err(|_| TxError::Script { txid: tx.compute_txid(), input })?;
    }
    Ok(())
}

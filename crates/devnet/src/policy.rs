//! What is relayed although consensus would allow more: size, form, dust, versions (Bitcoin Core's defaults).

use bitcoin::script::Instruction;
use bitcoin::{Script, Transaction, TxIn, TxOut, Weight};

use crate::consensus::is_spendable;
use crate::error::TxError;

/// Heaviest standard transaction.
pub const MAX_STANDARD_WEIGHT: Weight = Weight::from_wu(400_000);
/// Highest standard signature-operation cost of one transaction.
pub(crate) const MAX_STANDARD_SIGOPS_COST: usize = 16_000;
/// Virtual bytes that one unit of signature-operation cost counts for, times four.
const WEIGHT_PER_SIGOP: usize = 20;
/// Unconfirmed ancestors, or descendants, of a transaction, itself included.
pub const MAX_CHAIN_COUNT: usize = 25;
/// Virtual bytes of a transaction with its unconfirmed ancestors, or descendants.
pub const MAX_CHAIN_VBYTES: u64 = 101_000;
/// The extra descendant that an anchor's second owner may add (CPFP carve-out), in virtual bytes.
pub(crate) const CARVE_OUT_VBYTES: u64 = 10_000;
/// Most transactions that one replacement may evict (BIP125 rule 5).
pub const MAX_EVICTIONS: usize = 100;
/// Transactions in a package.
pub const MAX_PACKAGE_COUNT: usize = 25;
/// Weight of a package.
pub const MAX_PACKAGE_WEIGHT: u64 = 404_000;
/// Virtual bytes of a version 3 transaction (BIP431).
pub(crate) const TRUC_MAX_VBYTES: u64 = 10_000;
/// Virtual bytes of a version 3 transaction with an unconfirmed parent (BIP431).
pub(crate) const TRUC_CHILD_MAX_VBYTES: u64 = 1_000;
/// The version that asks for the topology of BIP431.
pub(crate) const TRUC_VERSION: i32 = 3;
/// Bytes of a standard transaction without witnesses, at least (so that none can pass for a merkle node).
const MIN_STANDARD_BASE_SIZE: usize = 65;
/// Bytes of a standard scriptSig.
const MAX_STANDARD_SCRIPTSIG: usize = 1_650;
/// Bytes of OP_RETURN outputs in all.
const MAX_DATA_CARRIER: usize = 100_000;
/// Stack items, bytes of one item and bytes of the script in a standard P2WSH witness.
const MAX_P2WSH: (usize, usize, usize) = (100, 80, 3_600);
/// Bytes of one item in a standard tapscript witness.
const MAX_TAPSCRIPT_ITEM: usize = 80;

/// Feerates, in satoshis per 1000 virtual bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policy {
    /// Least feerate to be relayed.
    pub min_relay: u64,
    /// What a replacement pays for its own relay on top of all it evicts.
    pub incremental_relay: u64,
    /// What `estimatesmartfee`, `/fee-estimates` and the faucet answer or pay.
    pub estimate: u64,
    /// Most virtual bytes of all waiting transactions.
    pub max_mempool_vbytes: u64,
}

impl Default for Policy {
    fn default() -> Self {
        Policy { min_relay: 1_000, incremental_relay: 1_000, estimate: 2_000, max_mempool_vbytes: 50_000_000 }
    }
}

/// The fee for `vbytes` at `per_kvb` satoshis per 1000 virtual bytes, rounded up.
pub fn fee_for(per_kvb: u64, vbytes: u64) -> u64 {
    per_kvb.saturating_mul(vbytes).div_ceil(1000)
}

/// Virtual size as relay policy counts it: signature operations count for at least 5 vbytes each.
pub(crate) fn virtual_size(tx: &Transaction, sigops_cost: usize) -> u64 {
    let by_sigops = (sigops_cost * WEIGHT_PER_SIGOP) as u64;
    tx.weight().to_wu().max(by_sigops).div_ceil(4)
}

/// Pay-to-anchor: a keyless output of witness version 1 with the program `4e73`.
pub(crate) fn is_anchor(script: &Script) -> bool {
    script.as_bytes() == [0x51, 0x02, 0x4e, 0x73]
}

/// Indices of outputs that are worth less than spending them costs.
pub(crate) fn dust_outputs(tx: &Transaction) -> Vec<usize> {
    let is_dust = |output: &TxOut| is_spendable(output) && output.value < output.script_pubkey.minimal_non_dust();
    tx.output.iter().enumerate().filter(|(_, output)| is_dust(output)).map(|(index, _)| index).collect()
}

/// The form of a transaction, as far as it shows without the outputs it spends. Dust is judged with the fee.
pub(crate) fn check_standard(tx: &Transaction) -> Result<(), TxError> {
    if !(1..=TRUC_VERSION).contains(&tx.version.0) {
        return Err(TxError::NonStandard("version"));
    }
    if tx.weight() > MAX_STANDARD_WEIGHT {
        return Err(TxError::NonStandard("tx-size"));
    }
    if tx.base_size() < MIN_STANDARD_BASE_SIZE {
        return Err(TxError::NonStandard("tx-size-small"));
    }
    for input in &tx.input {
        if input.script_sig.len() > MAX_STANDARD_SCRIPTSIG {
            return Err(TxError::NonStandard("scriptsig-size"));
        }
        if !input.script_sig.is_push_only() {
            return Err(TxError::NonStandard("scriptsig-not-pushonly"));
        }
    }
    let mut data = 0;
    for output in &tx.output {
        let script = &output.script_pubkey;
        if script.is_op_return() {
            data += script.len();
            if data > MAX_DATA_CARRIER {
                return Err(TxError::NonStandard("datacarrier"));
            }
        } else if !is_standard_output(script) {
            return Err(TxError::NonStandard("scriptpubkey"));
        }
    }
    Ok(())
}

fn is_standard_output(script: &Script) -> bool {
    script.is_p2pkh()
        || script.is_p2sh()
        || script.is_p2pk()
        || script.is_witness_program()
        || (script.is_multisig() && script.len() <= 3 + 3 * 34)
}

/// The form of the inputs together with the outputs they spend.
pub(crate) fn check_standard_inputs(tx: &Transaction, spent: &[&TxOut]) -> Result<(), TxError> {
    for (input, output) in tx.input.iter().zip(spent) {
        let script = &output.script_pubkey;
        if !is_standard_output(script) {
            return Err(TxError::NonStandard("bad-txns-nonstandard-inputs"));
        }
        let known = script.is_p2wpkh() || script.is_p2wsh() || script.is_p2tr() || is_anchor(script);
        if script.is_witness_program() && !known {
            return Err(TxError::NonStandard("bad-txns-nonstandard-inputs"));
        }
        if !is_standard_witness(input, script) {
            return Err(TxError::NonStandard("bad-witness-nonstandard"));
        }
    }
    Ok(())
}

fn is_standard_witness(input: &TxIn, script: &Script) -> bool {
    let witness = &input.witness;
    if witness.is_empty() {
        return true;
    }
    if is_anchor(script) {
        return false;
    }
    let nested = script.is_p2sh().then(|| last_push(&input.script_sig)).flatten();
    let program = nested.as_deref().map_or(script, Script::from_bytes);
    if program.is_p2wsh() {
        let (items, item, script_len) = MAX_P2WSH;
        let stack = witness.len() - 1;
        return stack <= items
            && witness.iter().take(stack).all(|i| i.len() <= item)
            && witness.last().is_some_and(|script| script.len() <= script_len);
    }
    if script.is_p2tr() {
        let annex = witness.len() >= 2 && witness.last().is_some_and(|item| item.first() == Some(&0x50));
        if annex {
            return false;
        }
        if witness.len() >= 2 {
            return witness.iter().take(witness.len() - 2).all(|item| item.len() <= MAX_TAPSCRIPT_ITEM);
        }
    }
    program.is_witness_program()
}

fn last_push(script: &Script) -> Option<Vec<u8>> {
    match script.instructions().last()? {
        Ok(Instruction::PushBytes(bytes)) => Some(bytes.as_bytes().to_vec()),
        _ => None,
    }
}

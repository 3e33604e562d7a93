//! Blocks and transactions as JSON, with bitcoind's field names and numbers.

use std::io;

use bitcoin::consensus::encode::serialize_hex;
use bitcoin::hex::DisplayHex;
use bitcoin::{Address, Amount, Network, Script, Transaction, TxOut};
use serde::Serialize;
use serde_json::ser::Formatter;
use serde_json::{Map, Value, json};

use crate::chain::{BlockEntry, Chain, Status};
use crate::mempool::{Entry, Mempool};
use crate::policy::is_anchor;

/// Satoshis as bitcoind writes amounts.
pub(crate) fn btc(sat: u64) -> Value {
    json!(Amount::from_sat(sat).to_btc())
}

/// Writes amounts as bitcoind does, with eight decimals: some clients read them as text.
struct Decimals;

impl Formatter for Decimals {
    fn write_f64<W: ?Sized + io::Write>(&mut self, writer: &mut W, value: f64) -> io::Result<()> {
        let sat = value * 1e8;
        if (sat - sat.round()).abs() < 1e-3 && (value == 0.0 || sat.abs() > 0.5) {
            write!(writer, "{value:.8}")
        } else {
            write!(writer, "{value:e}")
        }
    }
}

/// The text of an answer.
pub(crate) fn to_json(value: &Value) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut serializer = serde_json::Serializer::with_formatter(&mut bytes, Decimals);
    value.serialize(&mut serializer).expect("a value has text keys and memory takes every write");
    bytes
}

/// The name of a script's form.
pub(crate) fn script_type(script: &Script) -> &'static str {
    match script {
        s if s.is_p2wpkh() => "witness_v0_keyhash",
        s if s.is_p2wsh() => "witness_v0_scripthash",
        s if s.is_p2tr() => "witness_v1_taproot",
        s if is_anchor(s) => "anchor",
        s if s.is_witness_program() => "witness_unknown",
        s if s.is_p2pkh() => "pubkeyhash",
        s if s.is_p2sh() => "scripthash",
        s if s.is_p2pk() => "pubkey",
        s if s.is_multisig() => "multisig",
        s if s.is_op_return() => "nulldata",
        _ => "nonstandard",
    }
}

/// The regtest address of a script, if it has one.
pub(crate) fn address(script: &Script) -> Option<String> {
    Address::from_script(script, Network::Regtest).ok().map(|address| address.to_string())
}

/// `scriptPubKey`.
pub(crate) fn script(script: &Script) -> Value {
    let mut value =
        json!({ "asm": script.to_asm_string(), "hex": script.to_hex_string(), "type": script_type(script) });
    if let Some(address) = address(script) {
        value["address"] = json!(address);
    }
    value
}

/// A transaction, with `fee` if the outputs it spends are given.
pub(crate) fn transaction(tx: &Transaction, spent: Option<&[TxOut]>) -> Value {
    let input = |input: &bitcoin::TxIn| {
        let mut value = Map::new();
        if tx.is_coinbase() {
            value.insert("coinbase".into(), json!(input.script_sig.to_hex_string()));
        } else {
            value.insert("txid".into(), json!(input.previous_output.txid.to_string()));
            value.insert("vout".into(), json!(input.previous_output.vout));
            let sig = json!({ "asm": input.script_sig.to_asm_string(), "hex": input.script_sig.to_hex_string() });
            value.insert("scriptSig".into(), sig);
        }
        if !input.witness.is_empty() {
            let items: Vec<String> = input.witness.iter().map(|item| item.to_lower_hex_string()).collect();
            value.insert("txinwitness".into(), json!(items));
        }
        value.insert("sequence".into(), json!(input.sequence.to_consensus_u32()));
        Value::Object(value)
    };
    let output = |(n, output): (usize, &TxOut)| json!({ "value": btc(output.value.to_sat()), "n": n, "scriptPubKey": script(&output.script_pubkey) });
    let mut value = json!({
        "txid": tx.compute_txid().to_string(),
        "hash": tx.compute_wtxid().to_string(),
        "version": tx.version.0,
        "size": tx.total_size(),
        "vsize": tx.vsize(),
        "weight": tx.weight().to_wu(),
        "locktime": tx.lock_time.to_consensus_u32(),
        "vin": tx.input.iter().map(input).collect::<Vec<_>>(),
        "vout": tx.output.iter().enumerate().map(output).collect::<Vec<_>>(),
        "hex": serialize_hex(tx),
    });
    if let Some(spent) = spent.filter(|_| !tx.is_coinbase()) {
        let inputs: u64 = spent.iter().map(|output| output.value.to_sat()).sum();
        let outputs: u64 = tx.output.iter().map(|output| output.value.to_sat()).sum();
        value["fee"] = btc(inputs.saturating_sub(outputs));
    }
    value
}

/// Confirmations of a block: -1 off the active chain.
pub(crate) fn confirmations(chain: &Chain, entry: &BlockEntry) -> i64 {
    match entry.status {
        Status::Active(_) => i64::from(chain.height()) - i64::from(entry.height) + 1,
        Status::Aside | Status::Invalid => -1,
    }
}

/// `getblockheader`.
pub(crate) fn header(chain: &Chain, entry: &BlockEntry) -> Value {
    let header = &entry.block.header;
    let mut value = json!({
        "hash": header.block_hash().to_string(),
        "confirmations": confirmations(chain, entry),
        "height": entry.height,
        "version": header.version.to_consensus(),
        "versionHex": format!("{:08x}", header.version.to_consensus()),
        "merkleroot": header.merkle_root.to_string(),
        "time": header.time,
        "mediantime": entry.mtp,
        "nonce": header.nonce,
        "bits": format!("{:08x}", header.bits.to_consensus()),
        "target": header.target().to_be_bytes().to_lower_hex_string(),
        "difficulty": header.difficulty_float(),
        "chainwork": entry.work.to_be_bytes().to_lower_hex_string(),
        "nTx": entry.txids.len(),
    });
    if entry.height > 0 {
        value["previousblockhash"] = json!(header.prev_blockhash.to_string());
    }
    if let (Status::Active(_), Some(next)) = (&entry.status, chain.hash_at(entry.height + 1)) {
        value["nextblockhash"] = json!(next.to_string());
    }
    value
}

/// `getblock` with verbosity 1, or 2 for whole transactions.
pub(crate) fn block(chain: &Chain, entry: &BlockEntry, whole: bool) -> Value {
    let mut value = header(chain, entry);
    let size = entry.block.total_size();
    let weight = entry.block.weight().to_wu();
    value["size"] = json!(size);
    value["strippedsize"] = json!((weight - size as u64) / 3);
    value["weight"] = json!(weight);
    value["tx"] = if whole {
        let undo = match &entry.status {
            Status::Active(undo) => Some(undo),
            Status::Aside | Status::Invalid => None,
        };
        let tx = |(index, tx): (usize, &Transaction)| {
            let spent = undo.and_then(|undo| undo.get(index));
            let spent: Option<Vec<TxOut>> = spent.map(|coins| coins.iter().map(|coin| coin.output.clone()).collect());
            transaction(tx, spent.as_deref())
        };
        entry.block.txdata.iter().enumerate().map(tx).collect()
    } else {
        entry.txids.iter().map(|txid| json!(txid.to_string())).collect()
    };
    value
}

/// `getmempoolentry`.
pub(crate) fn mempool_entry(mempool: &Mempool, entry: &Entry) -> Value {
    let (up, down) = (mempool.with_ancestors(&entry.txid), mempool.with_descendants(&entry.txid));
    let ids = |ids: &std::collections::BTreeSet<bitcoin::Txid>| ids.iter().map(ToString::to_string).collect::<Vec<_>>();
    json!({
        "vsize": entry.vsize,
        "weight": entry.weight,
        "time": entry.time,
        "height": entry.height,
        "ancestorcount": up.count,
        "ancestorsize": up.vsize,
        "descendantcount": down.count,
        "descendantsize": down.vsize,
        "wtxid": entry.wtxid.to_string(),
        "fees": { "base": btc(entry.fee), "modified": btc(entry.fee), "ancestor": btc(up.fees), "descendant": btc(down.fees) },
        "depends": ids(&entry.parents),
        "spentby": ids(&entry.children),
        "bip125-replaceable": true,
        "unbroadcast": false,
    })
}

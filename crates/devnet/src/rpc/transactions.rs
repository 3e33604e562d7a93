//! Methods about transactions, the mempool and unspent outputs.

use bitcoin::consensus::encode::serialize_hex;
use bitcoin::{BlockHash, OutPoint, Txid};
use serde_json::{Map, Value, json};

use super::params::{parse_hash, wrong_type};
use super::{Context, Outcome as Answer, Params, RpcError, Verb, code};
use crate::error::TxError;
use crate::mempool::Accepted;
use crate::package::{Outcome, PackageError};
use crate::policy::{MAX_PACKAGE_COUNT, fee_for};
use crate::render::{self, btc};

/// Feerate above which a transaction is taken for a mistake unless the caller says otherwise, in sat/kvB.
const DEFAULT_MAX_FEERATE: u64 = 10_000_000;
/// Outpoints in one `gettxspendingprevout`.
const MAX_OUTPOINTS: usize = 10_000;

pub(crate) const VERBS: &[Verb] = &[
    Verb { name: "getrawmempool", params: &["verbose", "mempool_sequence"], run: raw_mempool },
    Verb { name: "getmempoolentry", params: &["txid"], run: mempool_entry },
    Verb { name: "getmempoolinfo", params: &[], run: mempool_info },
    Verb { name: "getrawtransaction", params: &["txid", "verbosity", "blockhash"], run: raw_transaction },
    Verb { name: "decoderawtransaction", params: &["hexstring", "iswitness"], run: decode },
    Verb { name: "sendrawtransaction", params: &["hexstring", "maxfeerate", "maxburnamount"], run: send },
    Verb { name: "testmempoolaccept", params: &["rawtxs", "maxfeerate"], run: test_accept },
    Verb { name: "submitpackage", params: &["package", "maxfeerate", "maxburnamount"], run: submit_package },
    Verb { name: "gettxout", params: &["txid", "n", "include_mempool"], run: tx_out },
    Verb { name: "gettxspendingprevout", params: &["outputs"], run: spending_prevout },
];

fn raw_mempool(c: &mut Context<'_>, p: &Params) -> Answer {
    let mempool = c.regtest.mempool();
    let entries = mempool.entries();
    let (verbose, sequence) = (p.flag(0, false)?, p.flag(1, false)?);
    if verbose {
        if sequence {
            return Err(RpcError::invalid("Verbose results cannot contain mempool sequence values."));
        }
        let entry = |entry: &crate::mempool::Entry| (entry.txid.to_string(), render::mempool_entry(mempool, entry));
        return Ok(Value::Object(entries.iter().map(|e| entry(e)).collect()));
    }
    let txids: Vec<String> = entries.iter().map(|entry| entry.txid.to_string()).collect();
    Ok(if sequence { json!({ "txids": txids, "mempool_sequence": mempool.sequence() }) } else { json!(txids) })
}

fn mempool_entry(c: &mut Context<'_>, p: &Params) -> Answer {
    let txid: Txid = p.hash(0, "txid")?;
    let mempool = c.regtest.mempool();
    let entry = mempool.get(&txid);
    let entry = entry.ok_or_else(|| RpcError::new(code::INVALID_ADDRESS_OR_KEY, "Transaction not in mempool"))?;
    Ok(render::mempool_entry(mempool, entry))
}

fn mempool_info(c: &mut Context<'_>, _: &Params) -> Answer {
    let mempool = c.regtest.mempool();
    let policy = mempool.policy();
    Ok(json!({
        "loaded": true,
        "size": mempool.len(),
        "bytes": mempool.vbytes(),
        "usage": mempool.vbytes(),
        "total_fee": btc(mempool.fees()),
        "maxmempool": policy.max_mempool_vbytes,
        "mempoolminfee": btc(policy.min_relay),
        "minrelaytxfee": btc(policy.min_relay),
        "incrementalrelayfee": btc(policy.incremental_relay),
        "unbroadcastcount": 0,
        "fullrbf": true,
    }))
}

fn raw_transaction(c: &mut Context<'_>, p: &Params) -> Answer {
    let txid: Txid = p.hash(0, "txid")?;
    let verbosity = p.verbosity(1, 0)?;
    let chain = c.regtest.chain();
    let (tx, entry, spent) = match p.get(2) {
        Some(_) => {
            let hash: BlockHash = p.hash(2, "blockhash")?;
            let entry = chain.block(&hash);
            let entry = entry.ok_or_else(|| RpcError::new(code::INVALID_ADDRESS_OR_KEY, "Block hash not found"))?;
            let index = entry.txids.iter().position(|id| *id == txid);
            let missing =
                "No such transaction found in the provided block. Use gettransaction for wallet transactions.";
            let index = index.ok_or_else(|| RpcError::new(code::INVALID_ADDRESS_OR_KEY, missing))?;
            (&entry.block.txdata[index], Some(entry), None)
        }
        None => match (c.regtest.mempool().get(&txid), chain.transaction(&txid)) {
            (Some(waiting), _) => (waiting.tx.as_ref(), None, Some(waiting.spent.as_slice())),
            (None, Some((tx, entry, _))) => (tx, Some(entry), None),
            (None, None) => {
                let missing = "No such mempool or blockchain transaction. Use gettransaction for wallet transactions.";
                return Err(RpcError::new(code::INVALID_ADDRESS_OR_KEY, missing));
            }
        },
    };
    if verbosity <= 0 {
        return Ok(json!(serialize_hex(tx)));
    }
    let mut value = render::transaction(tx, spent.filter(|_| verbosity > 1));
    if let Some(entry) = entry {
        value["blockhash"] = json!(entry.block.block_hash().to_string());
        value["confirmations"] = json!(render::confirmations(chain, entry).max(0));
        value["time"] = json!(entry.block.header.time);
        value["blocktime"] = json!(entry.block.header.time);
        if p.get(2).is_some() {
            value["in_active_chain"] = json!(chain.is_active(&entry.block.block_hash()));
        }
    }
    Ok(value)
}

fn decode(_: &mut Context<'_>, p: &Params) -> Answer {
    Ok(render::transaction(&p.transaction(0)?, None))
}

/// The caller's limit on the feerate; zero is none.
fn max_feerate(p: &Params) -> Result<Option<u64>, RpcError> {
    Ok(Some(p.btc(1)?.unwrap_or(DEFAULT_MAX_FEERATE)).filter(|limit| *limit > 0))
}

fn send(c: &mut Context<'_>, p: &Params) -> Answer {
    let tx = p.transaction(0)?;
    let txid = tx.compute_txid();
    let (limit, assessed) = (max_feerate(p)?, c.regtest.mempool().assess(c.regtest.chain(), &tx));
    if let (Some(limit), Ok((fee, vsize))) = (limit, assessed)
        && fee > fee_for(limit, vsize)
    {
        let message = "Fee exceeds maximum configured by user (e.g. -maxtxfee, maxfeerate)";
        return Err(RpcError::new(code::VERIFY, message));
    }
    match c.regtest.submit(tx, c.now) {
        // Sending again what waits already is no error.
        Ok(_) | Err(TxError::InMempool | TxError::SameTxidInMempool) => Ok(json!(txid.to_string())),
        Err(error) => Err(error.into()),
    }
}

fn test_accept(c: &mut Context<'_>, p: &Params) -> Answer {
    let txs = p.transactions(0)?;
    if txs.is_empty() || txs.len() > MAX_PACKAGE_COUNT {
        let message = format!("Array must contain between 1 and {MAX_PACKAGE_COUNT} transactions.");
        return Err(RpcError::invalid(message));
    }
    let limit = max_feerate(p)?;
    let ids: Vec<_> = txs.iter().map(|tx| (tx.compute_txid(), tx.compute_wtxid())).collect();
    let outcomes = c.regtest.test_accept(txs, c.now);
    let verdict = |((txid, wtxid), outcome): (&(Txid, bitcoin::Wtxid), Result<Accepted, TxError>)| {
        let refused = |reason: String, details: String| {
            json!({
                "txid": txid.to_string(), "wtxid": wtxid.to_string(), "allowed": false, "reject-reason": reason,
                "reject-details": details,
            })
        };
        match outcome {
            Ok(a) if limit.is_some_and(|limit| a.fee > fee_for(limit, a.vsize)) => {
                refused("max-fee-exceeded".into(), "max-fee-exceeded".into())
            }
            Ok(a) => json!({
                "txid": txid.to_string(), "wtxid": wtxid.to_string(), "allowed": true, "vsize": a.vsize,
                "fees": {
                    "base": btc(a.fee), "effective-feerate": btc(a.fee * 1000 / a.vsize),
                    "effective-includes": [wtxid.to_string()],
                },
            }),
            Err(TxError::MissingInputs) => refused("missing-inputs".into(), TxError::MissingInputs.to_string()),
            Err(error) => refused(error.reason(), error.to_string()),
        }
    };
    Ok(ids.iter().zip(outcomes).map(verdict).collect())
}

fn submit_package(c: &mut Context<'_>, p: &Params) -> Answer {
    let txs = p.transactions(0)?;
    let ids: Vec<_> = txs.iter().map(|tx| (tx.compute_txid(), tx.compute_wtxid(), tx.vsize())).collect();
    if let Some(limit) = max_feerate(p)? {
        let assessed = txs.iter().filter_map(|tx| c.regtest.mempool().assess(c.regtest.chain(), tx).ok());
        if assessed.into_iter().any(|(fee, vsize)| fee > fee_for(limit, vsize)) {
            return Err(RpcError::new(code::VERIFY, "max feerate exceeded"));
        }
    }
    let outcomes = match c.regtest.submit_package(txs, c.now) {
        Ok(outcomes) => outcomes,
        Err(PackageError::Count) => {
            let message = format!("Array must contain between 1 and {MAX_PACKAGE_COUNT} transactions.");
            return Err(RpcError::invalid(message));
        }
        Err(error) => return Err(RpcError::new(code::VERIFY, error.to_string())),
    };
    let mut results = Map::new();
    let (mut failed, mut replaced) = (false, Vec::new());
    for ((txid, wtxid, vsize), outcome) in ids.iter().zip(outcomes) {
        let result = match outcome {
            Outcome::Known(other) if other != *wtxid => {
                json!({ "txid": txid.to_string(), "other-wtxid": other.to_string() })
            }
            Outcome::Known(_) => {
                let fee = c.regtest.mempool().get(txid).map_or(0, |entry| entry.fee);
                json!({ "txid": txid.to_string(), "vsize": vsize, "fees": { "base": btc(fee) } })
            }
            Outcome::Accepted { accepted, feerate, includes } => {
                replaced.extend(accepted.replaced.iter().map(Txid::to_string));
                let includes: Vec<String> = includes.iter().map(ToString::to_string).collect();
                json!({
                    "txid": txid.to_string(), "vsize": accepted.vsize,
                    "fees": { "base": btc(accepted.fee), "effective-feerate": btc(feerate), "effective-includes": includes },
                })
            }
            Outcome::Refused(error) => {
                failed = true;
                json!({ "txid": txid.to_string(), "error": error.to_string() })
            }
        };
        results.insert(wtxid.to_string(), result);
    }
    let message = if failed { "transaction failed" } else { "success" };
    Ok(json!({ "package_msg": message, "tx-results": results, "replaced-transactions": replaced }))
}

fn tx_out(c: &mut Context<'_>, p: &Params) -> Answer {
    let txid: Txid = p.hash(0, "txid")?;
    let Ok(vout) = u32::try_from(p.integer(1)?) else { return Ok(Value::Null) };
    let outpoint = OutPoint::new(txid, vout);
    let with_mempool = p.flag(2, true)?;
    let (chain, mempool) = (c.regtest.chain(), c.regtest.mempool());
    if with_mempool && mempool.spender(&outpoint).is_some() {
        return Ok(Value::Null);
    }
    let (output, confirmations, coinbase) = match (chain.coin(&outpoint), mempool.output(&outpoint)) {
        (Some(coin), _) => (&coin.output, chain.height() - coin.height + 1, coin.coinbase),
        (None, Some(output)) if with_mempool => (output, 0, false),
        _ => return Ok(Value::Null),
    };
    Ok(json!({
        "bestblock": chain.tip_hash().to_string(),
        "confirmations": confirmations,
        "value": btc(output.value.to_sat()),
        "scriptPubKey": render::script(&output.script_pubkey),
        "coinbase": coinbase,
    }))
}

fn spending_prevout(c: &mut Context<'_>, p: &Params) -> Answer {
    let outputs = p.list(0)?;
    if outputs.is_empty() || outputs.len() > MAX_OUTPOINTS {
        return Err(RpcError::invalid("Invalid parameter, outputs are missing"));
    }
    let spender = |value: &Value| {
        let txid = value["txid"].as_str().ok_or_else(|| wrong_type(&value["txid"], "string"))?;
        let txid: Txid = parse_hash(txid, "txid")?;
        let vout = value["vout"].as_i64().ok_or_else(|| wrong_type(&value["vout"], "number"))?;
        let vout = u32::try_from(vout).map_err(|_| RpcError::invalid("Invalid parameter, vout cannot be negative"))?;
        let mut answer = json!({ "txid": txid.to_string(), "vout": vout });
        if let Some(spender) = c.regtest.mempool().spender(&OutPoint::new(txid, vout)) {
            answer["spendingtxid"] = json!(spender.to_string());
        }
        Ok(answer)
    };
    outputs.iter().map(spender).collect()
}

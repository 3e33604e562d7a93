//! The Esplora HTTP API, as far as light clients read it (github.com/Blockstream/esplora/blob/master/API.md).

use std::sync::Arc;

use bitcoin::consensus::encode::{deserialize_hex, serialize, serialize_hex};
use bitcoin::hashes::{Hash, HashEngine, sha256d};
use bitcoin::hex::{DisplayHex, FromHex};
use bitcoin::{Address, BlockHash, MerkleBlock, Network, OutPoint, Transaction, TxOut, Txid};
use hyper::{Method, StatusCode};
use serde_json::{Map, Value, json};

use crate::chain::{BlockEntry, Chain, Status};
use crate::devnet::Shared;
use crate::http::{Answer, Call, Site};
use crate::index::ScriptId;
use crate::mempool::{Entry, Mempool};
use crate::package::Outcome;
use crate::regtest::Regtest;
use crate::render;
use crate::rpc::RpcError;
use crate::store::StoreError;

/// Blocks in one answer of `/blocks`.
const BLOCKS_PER_PAGE: u32 = 10;
/// Confirmed transactions in one answer.
const TXS_PER_PAGE: usize = 25;
/// Waiting transactions in one answer.
const MAX_MEMPOOL_TXS: usize = 50;
/// Confirmation targets in `/fee-estimates`.
const FEE_TARGETS: [u16; 28] =
    [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 144, 504, 1008];

/// The Esplora server.
pub(crate) struct Esplora {
    shared: Arc<Shared>,
}

/// Why there is no answer.
enum Refusal {
    NotFound(&'static str),
    Bad(String),
    Store(StoreError),
}

type Reply = Result<Answer, Refusal>;

impl From<StoreError> for Refusal {
    fn from(error: StoreError) -> Refusal {
        Refusal::Store(error)
    }
}

impl Esplora {
    pub(crate) fn new(shared: Arc<Shared>) -> Esplora {
        Esplora { shared }
    }

    fn post(&self, path: &[&str], body: &[u8]) -> Reply {
        let text = std::str::from_utf8(body).map_err(|_| Refusal::Bad("body is not text".into()))?;
        match path {
            ["tx"] => {
                let tx = parse_tx(text.trim())?;
                let txid = tx.compute_txid();
                let outcome = self.shared.with(|regtest, now| match regtest.submit(tx, now) {
                    Ok(_) | Err(crate::TxError::InMempool | crate::TxError::SameTxidInMempool) => Ok(()),
                    Err(error) => Err(RpcError::from(error)),
                })?;
                match outcome {
                    Ok(()) => Ok(Answer::text(StatusCode::OK, txid.to_string())),
                    Err(RpcError { code, message }) => {
                        let error = json!({ "code": code, "message": message });
                        Err(Refusal::Bad(format!("sendrawtransaction RPC error: {error}")))
                    }
                }
            }
            ["txs", "package"] => {
                let hexes: Vec<String> = serde_json::from_str(text).map_err(|e| Refusal::Bad(e.to_string()))?;
                let txs = hexes.iter().map(|hex| parse_tx(hex)).collect::<Result<Vec<_>, _>>()?;
                self.package(txs)
            }
            _ => Err(Refusal::NotFound("endpoint does not exist")),
        }
    }

    fn package(&self, txs: Vec<Transaction>) -> Reply {
        let ids: Vec<_> = txs.iter().map(|tx| (tx.compute_txid(), tx.compute_wtxid(), tx.vsize())).collect();
        let outcomes = self.shared.with(|regtest, now| regtest.submit_package(txs, now))?;
        let outcomes = outcomes.map_err(|error| Refusal::Bad(error.to_string()))?;
        let refused = outcomes.iter().any(|outcome| matches!(outcome, Outcome::Refused(_)));
        let results: Map<String, Value> = ids
            .iter()
            .zip(outcomes)
            .map(|((txid, wtxid, vsize), outcome)| {
                let result = match outcome {
                    Outcome::Known(other) => json!({ "txid": txid.to_string(), "other-wtxid": other.to_string() }),
                    Outcome::Accepted { accepted, .. } => {
                        let fees = json!({ "base": render::btc(accepted.fee) });
                        json!({ "txid": txid.to_string(), "vsize": vsize, "fees": fees })
                    }
                    Outcome::Refused(error) => json!({ "txid": txid.to_string(), "error": error.to_string() }),
                };
                (wtxid.to_string(), result)
            })
            .collect();
        let message = if refused { "transaction failed" } else { "success" };
        Ok(ok(&json!({ "package_msg": message, "tx-results": results })))
    }
}

impl Site for Esplora {
    const MAX_BODY: usize = 16 * 1024 * 1024;

    fn answer(&self, call: Call) -> Answer {
        let path: Vec<&str> = call.path.split('/').filter(|part| !part.is_empty()).collect();
        let reply = match call.method {
            Method::GET => self.shared.with(|regtest, _| View { regtest }.get(&path)).unwrap_or_else(|e| Err(e.into())),
            Method::POST => self.post(&path, &call.body),
            _ => return Answer::text(StatusCode::METHOD_NOT_ALLOWED, "only GET and POST"),
        };
        reply.unwrap_or_else(|refusal| match refusal {
            Refusal::NotFound(what) => Answer::text(StatusCode::NOT_FOUND, what),
            Refusal::Bad(why) => Answer::text(StatusCode::BAD_REQUEST, why),
            Refusal::Store(error) => Answer::text(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()),
        })
    }
}

/// The state while it is locked for one request.
struct View<'a> {
    regtest: &'a Regtest,
}

impl View<'_> {
    fn chain(&self) -> &Chain {
        self.regtest.chain()
    }

    fn mempool(&self) -> &Mempool {
        self.regtest.mempool()
    }

    fn get(&self, path: &[&str]) -> Reply {
        match path {
            ["blocks", "tip", "height"] => Ok(text(self.chain().height().to_string())),
            ["blocks", "tip", "hash"] => Ok(text(self.chain().tip_hash().to_string())),
            ["blocks"] => self.blocks(self.chain().height()),
            ["blocks", start] => self.blocks(number(start)?),
            ["block-height", height] => {
                let hash = self.chain().hash_at(number(height)?).ok_or(Refusal::NotFound("Block not found"))?;
                Ok(text(hash.to_string()))
            }
            ["block", hash, rest @ ..] => self.block(hash, rest),
            ["tx", txid, rest @ ..] => self.tx(parse(txid)?, rest),
            ["scripthash", hash, rest @ ..] => {
                let id = <[u8; 32]>::from_hex(hash).map_err(|_| Refusal::Bad("Invalid hex string".into()))?;
                self.script("scripthash", hash, ScriptId(id), rest)
            }
            ["address", address, rest @ ..] => {
                let parsed = address.parse::<Address<_>>().ok().and_then(|a| a.require_network(Network::Regtest).ok());
                let parsed = parsed.ok_or_else(|| Refusal::Bad("Invalid Bitcoin address".into()))?;
                self.script("address", address, ScriptId::of(&parsed.script_pubkey()), rest)
            }
            ["fee-estimates"] => {
                let policy = self.mempool().policy();
                let feerate = policy.estimate.max(policy.min_relay) as f64 / 1000.0;
                Ok(ok(&FEE_TARGETS.iter().map(|target| (target.to_string(), json!(feerate))).collect()))
            }
            ["mempool", rest @ ..] => self.pool(rest),
            _ => Err(Refusal::NotFound("endpoint does not exist")),
        }
    }

    fn blocks(&self, start: u32) -> Reply {
        let start = start.min(self.chain().height());
        let heights = (start.saturating_sub(BLOCKS_PER_PAGE - 1)..=start).rev();
        Ok(ok(&heights.filter_map(|height| self.chain().block_at(height)).map(block_info).collect()))
    }

    fn block(&self, hash: &str, rest: &[&str]) -> Reply {
        let hash: BlockHash = parse(hash)?;
        let entry = self.chain().block(&hash).ok_or(Refusal::NotFound("Block not found"))?;
        match rest {
            [] => Ok(ok(&block_info(entry))),
            ["header"] => Ok(text(serialize_hex(&entry.block.header))),
            ["raw"] => Ok(Answer::bytes(serialize(entry.block.as_ref()))),
            ["status"] => Ok(ok(&if self.chain().is_active(&hash) {
                let next = self.chain().hash_at(entry.height + 1).map(|hash| hash.to_string());
                json!({ "in_best_chain": true, "height": entry.height, "next_best": next })
            } else {
                json!({ "in_best_chain": false })
            })),
            ["txids"] => Ok(ok(&entry.txids.iter().map(|txid| json!(txid.to_string())).collect())),
            ["txid", index] => {
                let txid =
                    entry.txids.get(number(index)? as usize).ok_or(Refusal::NotFound("tx index out of range"))?;
                Ok(text(txid.to_string()))
            }
            ["txs"] => self.block_txs(entry, 0),
            ["txs", start] => self.block_txs(entry, number(start)? as usize),
            _ => Err(Refusal::NotFound("endpoint does not exist")),
        }
    }

    fn block_txs(&self, entry: &BlockEntry, start: usize) -> Reply {
        if start >= entry.txids.len() {
            return Err(Refusal::NotFound("start index out of range"));
        }
        let page = entry.block.txdata.iter().enumerate().skip(start).take(TXS_PER_PAGE);
        Ok(ok(&page.map(|(index, tx)| confirmed(tx, entry, index)).collect()))
    }

    fn tx(&self, txid: Txid, rest: &[&str]) -> Reply {
        let missing = Refusal::NotFound("Transaction not found");
        let waiting = self.mempool().get(&txid);
        let mined = self.chain().transaction(&txid);
        let tx = waiting.map(|entry| entry.tx.as_ref()).or(mined.map(|(tx, _, _)| tx));
        match (rest, tx) {
            // A transaction that nobody knows has no outputs spent and is not confirmed; everything else about it is missing.
            (["status"], None) => Ok(ok(&json!({ "confirmed": false }))),
            (_, None) => Err(missing),
            ([], Some(tx)) => Ok(ok(&match (waiting, mined) {
                (Some(entry), _) => unconfirmed(entry),
                (None, Some((_, entry, index))) => confirmed(tx, entry, index as usize),
                (None, None) => return Err(missing),
            })),
            (["raw"], Some(tx)) => Ok(Answer::bytes(serialize(tx))),
            (["hex"], Some(tx)) => Ok(text(serialize_hex(tx))),
            (["status"], Some(_)) => {
                Ok(ok(&mined.map_or(json!({ "confirmed": false }), |(_, entry, _)| status(entry))))
            }
            (["outspend", vout], Some(tx)) => {
                let vout = number(vout)?;
                let known = (vout as usize) < tx.output.len();
                if known { Ok(ok(&self.outspend(txid, vout))) } else { Err(Refusal::NotFound("Output not found")) }
            }
            (["outspends"], Some(tx)) => {
                Ok(ok(&(0..tx.output.len()).map(|vout| self.outspend(txid, vout as u32)).collect()))
            }
            (["merkle-proof"], Some(_)) => {
                let (_, entry, index) = mined.ok_or(Refusal::NotFound("Transaction not found or is unconfirmed"))?;
                let branch = merkle_branch(&entry.txids, index as usize);
                Ok(ok(&json!({ "block_height": entry.height, "merkle": branch, "pos": index })))
            }
            (["merkleblock-proof"], Some(_)) => {
                let (_, entry, _) = mined.ok_or(Refusal::NotFound("Transaction not found or is unconfirmed"))?;
                Ok(text(serialize_hex(&MerkleBlock::from_block_with_predicate(&entry.block, |id| *id == txid))))
            }
            _ => Err(Refusal::NotFound("endpoint does not exist")),
        }
    }

    fn outspend(&self, txid: Txid, vout: u32) -> Value {
        let outpoint = OutPoint::new(txid, vout);
        if let Some((spender, vin)) = self.chain().spender(&outpoint) {
            let status = self.chain().transaction(&spender).map(|(_, entry, _)| status(entry));
            return json!({ "spent": true, "txid": spender.to_string(), "vin": vin, "status": status });
        }
        let Some(entry) = self.mempool().spender(&outpoint).and_then(|id| self.mempool().get(&id)) else {
            return json!({ "spent": false });
        };
        let vin = entry.tx.input.iter().position(|input| input.previous_output == outpoint);
        json!({ "spent": true, "txid": entry.txid.to_string(), "vin": vin, "status": { "confirmed": false } })
    }

    fn script(&self, key: &str, name: &str, id: ScriptId, rest: &[&str]) -> Reply {
        match rest {
            [] => {
                Ok(ok(&json!({ key: name, "chain_stats": self.chain_stats(id), "mempool_stats": self.pool_stats(id) })))
            }
            ["txs"] => {
                let mut txs = self.waiting(id);
                txs.extend(self.history(id, None)?);
                Ok(ok(&Value::Array(txs)))
            }
            ["txs", "mempool"] => Ok(ok(&Value::Array(self.waiting(id)))),
            ["txs", "chain"] => Ok(ok(&Value::Array(self.history(id, None)?))),
            ["txs", "chain", last] => Ok(ok(&Value::Array(self.history(id, Some(parse(last)?))?))),
            ["utxo"] => Ok(ok(&self.unspent(id))),
            _ => Err(Refusal::NotFound("endpoint does not exist")),
        }
    }

    /// Confirmed transactions, newest first, after `last`.
    fn history(&self, id: ScriptId, last: Option<Txid>) -> Result<Vec<Value>, Refusal> {
        let Some(history) = self.chain().script(&id) else { return Ok(Vec::new()) };
        let before = match last {
            Some(txid) => Some(self.chain().position(&txid).ok_or(Refusal::NotFound("Transaction not found"))?),
            None => None,
        };
        let page = history.txs.iter().rev().filter(|at| before.is_none_or(|before| **at < before)).take(TXS_PER_PAGE);
        let render = |at: &crate::TxPosition| {
            let entry = self.chain().block_at(at.height)?;
            Some(confirmed(entry.block.txdata.get(at.index as usize)?, entry, at.index as usize))
        };
        Ok(page.filter_map(render).collect())
    }

    fn waiting(&self, id: ScriptId) -> Vec<Value> {
        let entries = self.mempool().entries();
        let touching = entries.iter().rev().filter(|entry| {
            let mut scripts = entry.spent.iter().chain(&entry.tx.output).map(|output| &output.script_pubkey);
            scripts.any(|script| ScriptId::of(script) == id)
        });
        touching.take(MAX_MEMPOOL_TXS).map(|entry| unconfirmed(entry)).collect()
    }

    fn unspent(&self, id: ScriptId) -> Value {
        let mut list = Vec::new();
        let confirmed = self.chain().script(&id).map(|history| &history.unspent);
        for outpoint in confirmed.into_iter().flatten().filter(|outpoint| self.mempool().spender(outpoint).is_none()) {
            let Some(coin) = self.chain().coin(outpoint) else { continue };
            let status = self.chain().block_at(coin.height).map(status);
            let (txid, value) = (outpoint.txid.to_string(), coin.output.value.to_sat());
            list.push(json!({ "txid": txid, "vout": outpoint.vout, "status": status, "value": value }));
        }
        for entry in self.mempool().entries() {
            for (vout, output) in entry.tx.output.iter().enumerate() {
                let free = self.mempool().spender(&OutPoint::new(entry.txid, vout as u32)).is_none();
                if free && ScriptId::of(&output.script_pubkey) == id {
                    let (txid, value) = (entry.txid.to_string(), output.value.to_sat());
                    list.push(json!({ "txid": txid, "vout": vout, "status": { "confirmed": false }, "value": value }));
                }
            }
        }
        Value::Array(list)
    }

    fn chain_stats(&self, id: ScriptId) -> Value {
        let mut stats = Stats::default();
        for at in self.chain().script(&id).into_iter().flat_map(|history| &history.txs) {
            let Some(entry) = self.chain().block_at(at.height) else { continue };
            let spent = spent_outputs(entry, at.index as usize);
            stats.add(id, &entry.block.txdata[at.index as usize], &spent);
        }
        stats.render()
    }

    fn pool_stats(&self, id: ScriptId) -> Value {
        let mut stats = Stats::default();
        for entry in self.mempool().entries() {
            stats.add(id, &entry.tx, &entry.spent);
        }
        stats.render()
    }

    fn pool(&self, rest: &[&str]) -> Reply {
        let entries = self.mempool().entries();
        match rest {
            [] => Ok(ok(&json!({
                "count": entries.len(), "vsize": self.mempool().vbytes(), "total_fee": self.mempool().fees(),
                "fee_histogram": [],
            }))),
            ["txids"] => Ok(ok(&entries.iter().map(|entry| json!(entry.txid.to_string())).collect())),
            ["recent"] => {
                let recent = |entry: &Arc<Entry>| {
                    let value: u64 = entry.tx.output.iter().map(|output| output.value.to_sat()).sum();
                    json!({ "txid": entry.txid.to_string(), "fee": entry.fee, "vsize": entry.vsize, "value": value })
                };
                Ok(ok(&entries.iter().rev().take(BLOCKS_PER_PAGE as usize).map(recent).collect()))
            }
            _ => Err(Refusal::NotFound("endpoint does not exist")),
        }
    }
}

/// Sums over the transactions of one script.
#[derive(Default)]
struct Stats {
    funded: (u64, u64),
    spent: (u64, u64),
    txs: u64,
}

impl Stats {
    fn add(&mut self, id: ScriptId, tx: &Transaction, spent: &[TxOut]) {
        let sum = |outputs: &[TxOut]| {
            let ours = outputs.iter().filter(|output| ScriptId::of(&output.script_pubkey) == id);
            ours.fold((0, 0), |(count, value), output| (count + 1, value + output.value.to_sat()))
        };
        let (funded, spent) = (sum(&tx.output), sum(spent));
        self.funded = (self.funded.0 + funded.0, self.funded.1 + funded.1);
        self.spent = (self.spent.0 + spent.0, self.spent.1 + spent.1);
        self.txs += u64::from(funded.0 + spent.0 > 0);
    }

    fn render(&self) -> Value {
        json!({
            "funded_txo_count": self.funded.0, "funded_txo_sum": self.funded.1,
            "spent_txo_count": self.spent.0, "spent_txo_sum": self.spent.1, "tx_count": self.txs,
        })
    }
}

fn ok(value: &Value) -> Answer {
    Answer::json(StatusCode::OK, value)
}

fn text(text: String) -> Answer {
    Answer::text(StatusCode::OK, text)
}

fn number(text: &str) -> Result<u32, Refusal> {
    text.parse().map_err(|_| Refusal::Bad("Invalid number".into()))
}

fn parse<T: std::str::FromStr>(text: &str) -> Result<T, Refusal> {
    text.parse().map_err(|_| Refusal::Bad("Invalid hex string".into()))
}

fn parse_tx(hex: &str) -> Result<Transaction, Refusal> {
    deserialize_hex(hex).map_err(|_| Refusal::Bad("Transaction decode failed".into()))
}

fn status(entry: &BlockEntry) -> Value {
    json!({
        "confirmed": true, "block_height": entry.height, "block_hash": entry.block.block_hash().to_string(),
        "block_time": entry.block.header.time,
    })
}

fn block_info(entry: &BlockEntry) -> Value {
    let header = &entry.block.header;
    let previous = (entry.height > 0).then(|| header.prev_blockhash.to_string());
    json!({
        "id": header.block_hash().to_string(), "height": entry.height, "version": header.version.to_consensus(),
        "timestamp": header.time, "tx_count": entry.txids.len(), "size": entry.block.total_size(),
        "weight": entry.block.weight().to_wu(), "merkle_root": header.merkle_root.to_string(),
        "previousblockhash": previous, "mediantime": entry.mtp, "nonce": header.nonce,
        "bits": header.bits.to_consensus(), "difficulty": header.difficulty_float(),
    })
}

/// The outputs that a confirmed transaction spends. Off the active chain they are not known.
fn spent_outputs(entry: &BlockEntry, index: usize) -> Vec<TxOut> {
    match &entry.status {
        Status::Active(undo) => undo[index].iter().map(|coin| coin.output.clone()).collect(),
        Status::Aside | Status::Invalid => Vec::new(),
    }
}

fn confirmed(tx: &Transaction, entry: &BlockEntry, index: usize) -> Value {
    let spent = spent_outputs(entry, index);
    let status = match entry.status {
        Status::Active(_) => status(entry),
        Status::Aside | Status::Invalid => json!({ "confirmed": false }),
    };
    transaction(tx, &spent, status)
}

fn unconfirmed(entry: &Entry) -> Value {
    transaction(&entry.tx, &entry.spent, json!({ "confirmed": false }))
}

fn transaction(tx: &Transaction, spent: &[TxOut], status: Value) -> Value {
    let inputs: u64 = spent.iter().map(|output| output.value.to_sat()).sum();
    let outputs: u64 = tx.output.iter().map(|output| output.value.to_sat()).sum();
    let vin = |(index, input): (usize, &bitcoin::TxIn)| {
        let witness: Vec<String> = input.witness.iter().map(|item| item.to_lower_hex_string()).collect();
        json!({
            "txid": input.previous_output.txid.to_string(), "vout": input.previous_output.vout,
            "prevout": spent.get(index).map(output), "scriptsig": input.script_sig.to_hex_string(),
            "scriptsig_asm": input.script_sig.to_asm_string(), "witness": witness,
            "is_coinbase": tx.is_coinbase(), "sequence": input.sequence.to_consensus_u32(),
        })
    };
    json!({
        "txid": tx.compute_txid().to_string(), "version": tx.version.0, "locktime": tx.lock_time.to_consensus_u32(),
        "vin": tx.input.iter().enumerate().map(vin).collect::<Vec<_>>(),
        "vout": tx.output.iter().map(output).collect::<Vec<_>>(),
        "size": tx.total_size(), "weight": tx.weight().to_wu(), "fee": inputs.saturating_sub(outputs), "status": status,
    })
}

fn output(output: &TxOut) -> Value {
    let script = &output.script_pubkey;
    let mut value = json!({
        "scriptpubkey": script.to_hex_string(), "scriptpubkey_asm": script.to_asm_string(),
        "scriptpubkey_type": esplora_type(render::script_type(script)), "value": output.value.to_sat(),
    });
    if let Some(address) = render::address(script) {
        value["scriptpubkey_address"] = json!(address);
    }
    value
}

/// Esplora's own names for the forms of scripts.
fn esplora_type(name: &'static str) -> &'static str {
    match name {
        "witness_v0_keyhash" => "v0_p2wpkh",
        "witness_v0_scripthash" => "v0_p2wsh",
        "witness_v1_taproot" => "v1_p2tr",
        "pubkeyhash" => "p2pkh",
        "scripthash" => "p2sh",
        "pubkey" => "p2pk",
        "nulldata" => "op_return",
        "multisig" => "multisig",
        "anchor" => "anchor",
        _ => "unknown",
    }
}

/// The hashes that lead from the transaction at `index` to the merkle root, lowest first, written as txids are.
fn merkle_branch(txids: &[Txid], mut index: usize) -> Vec<String> {
    let mut level: Vec<sha256d::Hash> = txids.iter().map(|txid| txid.to_raw_hash()).collect();
    let mut branch = Vec::new();
    while level.len() > 1 {
        if level.len() % 2 == 1 {
            level.push(level[level.len() - 1]);
        }
        branch.push(level[index ^ 1].to_string());
        let pair = |pair: &[sha256d::Hash]| {
            let mut engine = sha256d::Hash::engine();
            engine.input(pair[0].as_byte_array());
            engine.input(pair[1].as_byte_array());
            sha256d::Hash::from_engine(engine)
        };
        level = level.chunks(2).map(pair).collect();
        index /= 2;
    }
    branch
}

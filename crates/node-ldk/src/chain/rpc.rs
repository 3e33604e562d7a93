//! bitcoind's JSON-RPC over a pooled HTTP client, as a block source for LDK.

use std::fmt;
use std::time::Duration;

use bitcoin::block::Block;
use bitcoin::consensus::encode::{deserialize_hex, serialize_hex};
use bitcoin::{BlockHash, OutPoint, Transaction, TxOut, Txid};
use lightning_block_sync::{AsyncBlockSourceResult, BlockData, BlockHeaderData, BlockSource};
use reqwest::StatusCode;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::error::{ChainError, in_full, shown};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// bitcoind can be slow while it flushes its cache; a block of 4 MB over a home line also takes its time.
const CALL_TIMEOUT: Duration = Duration::from_secs(60);
/// A block of 4,000,000 weight units is at most 8 MB of hex; a mempool of 300,000 ids is 20 MB.
const MAX_ANSWER: usize = 32 * 1024 * 1024;

/// `RPC_INVALID_ADDRESS_OR_KEY`: there is no such block or transaction.
const NOT_FOUND: i64 = -5;
/// `RPC_VERIFY_ALREADY_IN_UTXO_SET`.
const ALREADY_CONFIRMED: i64 = -27;
/// `RPC_METHOD_NOT_FOUND`.
const NO_SUCH_METHOD: i64 = -32601;
/// `RPC_IN_WARMUP`: it is starting.
const IN_WARMUP: i64 = -28;

/// One bitcoind.
pub(super) struct Rpc {
    http: reqwest::Client,
    url: reqwest::Url,
    user: String,
    password: String,
}

/// A refusal in JSON-RPC's own words, or a failure on the way there.
#[derive(Debug)]
pub(super) enum CallError {
    Rpc { code: i64, message: String },
    Chain(ChainError),
}

impl From<CallError> for ChainError {
    fn from(error: CallError) -> ChainError {
        match error {
            CallError::Rpc { code, message } => ChainError::Protocol(format!("RPC error {code}: {message}")),
            CallError::Chain(error) => error,
        }
    }
}

#[derive(Deserialize)]
struct Answer {
    #[serde(default)]
    result: Value,
    #[serde(default)]
    error: Option<AnswerError>,
}

#[derive(Deserialize)]
struct AnswerError {
    code: i64,
    #[serde(default)]
    message: String,
}

impl Rpc {
    pub(super) fn new(url: &str, user: &str, password: &str) -> Result<Rpc, ChainError> {
        let bad = |why: String| ChainError::Url { url: shown(url), why };
        let parsed = reqwest::Url::parse(url).map_err(|error| bad(error.to_string()))?;
        if !matches!(parsed.scheme(), "http" | "https") {
            return Err(bad("only http and https are possible".into()));
        }
        if !parsed.username().is_empty() || parsed.password().is_some() {
            return Err(bad("put user and password beside the URL, not into it".into()));
        }
        let http = reqwest::Client::builder()
            .no_proxy()
            .connect_timeout(CONNECT_TIMEOUT)
            .timeout(CALL_TIMEOUT)
            // Reading a hundred certificates takes a while; without TLS nobody asks for them.
            .tls_built_in_root_certs(parsed.scheme() == "https")
            .build()
            .map_err(|error| bad(error.to_string()))?;
        Ok(Rpc { http, url: parsed, user: user.to_owned(), password: password.to_owned() })
    }

    async fn call<T: DeserializeOwned>(&self, method: &str, params: Value) -> Result<T, CallError> {
        let unreachable = |error: reqwest::Error| CallError::Chain(self.unreachable(in_full(&error.without_url())));
        let body = json!({ "jsonrpc": "1.0", "id": "souk", "method": method, "params": params });
        let mut response = self
            .http
            .post(self.url.clone())
            .basic_auth(&self.user, Some(&self.password))
            .header("content-type", "application/json")
            .body(body.to_string())
            .send()
            .await
            .map_err(unreachable)?;
        let status = response.status();
        if matches!(status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) {
            return Err(CallError::Chain(ChainError::Credentials { source_url: self.url.to_string() }));
        }
        let mut bytes = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(unreachable)? {
            if bytes.len() + chunk.len() > MAX_ANSWER {
                return Err(nonsense(method, "the answer is too large"));
            }
            bytes.extend_from_slice(&chunk);
        }
        // bitcoind answers a refusal with status 500 or 404 and a JSON body; without one it is overloaded or a proxy speaks.
        let answer: Answer = match serde_json::from_slice(&bytes) {
            Ok(answer) => answer,
            Err(_) if !status.is_success() => return Err(CallError::Chain(self.unreachable(format!("HTTP {status}")))),
            Err(error) => return Err(nonsense(method, error)),
        };
        match answer.error {
            Some(AnswerError { code: IN_WARMUP, message }) => Err(CallError::Chain(self.unreachable(message))),
            Some(AnswerError { code, message }) => Err(CallError::Rpc { code, message }),
            None => serde_json::from_value(answer.result).map_err(|error| nonsense(method, error)),
        }
    }

    fn unreachable(&self, why: String) -> ChainError {
        ChainError::Unreachable { source_url: self.url.to_string(), why }
    }

    pub(super) async fn best_block(&self) -> Result<(BlockHash, u32), ChainError> {
        #[derive(Deserialize)]
        struct Info {
            bestblockhash: BlockHash,
            blocks: u32,
        }
        let info: Info = self.call("getblockchaininfo", json!([])).await?;
        Ok((info.bestblockhash, info.blocks))
    }

    /// The hash of the block at a height of the best chain, if there is one.
    pub(super) async fn block_hash(&self, height: u32) -> Result<Option<BlockHash>, ChainError> {
        match self.call("getblockhash", json!([height])).await {
            Ok(hash) => Ok(Some(hash)),
            // RPC_INVALID_PARAMETER: above the tip.
            Err(CallError::Rpc { code: -8, .. }) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// A header with its height and work, if the source knows it, stale or not.
    pub(super) async fn header(&self, hash: &BlockHash) -> Result<Option<BlockHeaderData>, ChainError> {
        let value: Value = match self.call("getblockheader", json!([hash])).await {
            Ok(value) => value,
            Err(CallError::Rpc { code: NOT_FOUND, .. }) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let header = BlockHeaderData::try_from(value);
        header.map(Some).map_err(|()| ChainError::Protocol(format!("header of {hash} cannot be read")))
    }

    pub(super) async fn block(&self, hash: &BlockHash) -> Result<Block, ChainError> {
        let hex: String = self.call("getblock", json!([hash, 0])).await?;
        deserialize_hex(&hex).map_err(|error| ChainError::Protocol(format!("block {hash}: {error}")))
    }

    /// An output of the best chain that is not spent in it.
    pub(super) async fn unspent(&self, outpoint: OutPoint) -> Result<bool, ChainError> {
        let found: Option<Value> = self.call("gettxout", json!([outpoint.txid, outpoint.vout, false])).await?;
        Ok(found.is_some())
    }

    /// Estimated fee rate in sat per 1000 weight for confirmation within `blocks`, if bitcoind dares one.
    pub(super) async fn fee_rate(&self, blocks: u16, conservative: bool) -> Result<Option<f64>, ChainError> {
        #[derive(Deserialize)]
        struct Estimate {
            feerate: Option<f64>,
        }
        let mode = if conservative { "CONSERVATIVE" } else { "ECONOMICAL" };
        let estimate: Estimate = self.call("estimatesmartfee", json!([blocks, mode])).await?;
        Ok(estimate.feerate.map(per_kilo_weight))
    }

    /// The lowest fee rate that its mempool takes at the moment, in sat per 1000 weight.
    pub(super) async fn mempool_minimum(&self) -> Result<f64, ChainError> {
        #[derive(Deserialize)]
        struct Info {
            mempoolminfee: f64,
        }
        let info: Info = self.call("getmempoolinfo", json!([])).await?;
        Ok(per_kilo_weight(info.mempoolminfee))
    }

    pub(super) async fn mempool(&self) -> Result<Vec<Txid>, ChainError> {
        Ok(self.call("getrawmempool", json!([false])).await?)
    }

    /// A transaction of the mempool, if it is still there.
    pub(super) async fn mempool_transaction(&self, txid: &Txid) -> Result<Option<Transaction>, ChainError> {
        let hex: String = match self.call("getrawtransaction", json!([txid, false])).await {
            Ok(hex) => hex,
            Err(CallError::Rpc { code: NOT_FOUND, .. }) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        deserialize_hex(&hex).map(Some).map_err(|error| ChainError::Protocol(format!("transaction {txid}: {error}")))
    }

    /// Hands over one transaction; one that is known already is fine.
    pub(super) async fn send(&self, transaction: &Transaction) -> Result<(), ChainError> {
        let txid = transaction.compute_txid();
        match self.call::<Value>("sendrawtransaction", json!([serialize_hex(transaction)])).await {
            Ok(_) | Err(CallError::Rpc { code: ALREADY_CONFIRMED, .. }) => Ok(()),
            Err(CallError::Rpc { code, message }) => {
                Err(ChainError::TransactionRefused { txid, why: format!("{message} ({code})") })
            }
            Err(CallError::Chain(error)) => Err(error),
        }
    }

    /// Hands over a child with its parents, parents first. `Ok(false)`: this bitcoind (before 26) has no packages.
    pub(super) async fn send_package(&self, sorted: &[Transaction]) -> Result<bool, ChainError> {
        #[derive(Deserialize)]
        struct Outcome {
            package_msg: String,
            #[serde(rename = "tx-results", default)]
            results: std::collections::BTreeMap<String, TxOutcome>,
        }
        #[derive(Deserialize)]
        struct TxOutcome {
            txid: Txid,
            error: Option<String>,
        }
        let Some(child) = sorted.last() else { return Ok(true) };
        let hexes: Vec<String> = sorted.iter().map(serialize_hex).collect();
        let refused = |why: String| ChainError::TransactionRefused { txid: child.compute_txid(), why };
        match self.call::<Outcome>("submitpackage", json!([hexes])).await {
            Ok(outcome) => match outcome.results.values().find_map(|r| r.error.as_ref().map(|e| (r.txid, e))) {
                None => Ok(true),
                Some((txid, error)) => Err(refused(format!("{}: {txid}: {error}", outcome.package_msg))),
            },
            Err(CallError::Rpc { code: NO_SUCH_METHOD, .. }) => Ok(false),
            Err(CallError::Rpc { code, message }) => Err(refused(format!("{message} ({code})"))),
            Err(CallError::Chain(error)) => Err(error),
        }
    }
}

fn nonsense(method: &str, what: impl fmt::Display) -> CallError {
    CallError::Chain(ChainError::Protocol(format!("{method}: {what}")))
}

/// BTC per 1000 virtual bytes to satoshis per 1000 weight units.
fn per_kilo_weight(btc_per_kvb: f64) -> f64 {
    btc_per_kvb * 100_000_000.0 / 4.0
}

impl BlockSource for Rpc {
    fn get_header<'a>(
        &'a self,
        hash: &'a BlockHash,
        _height: Option<u32>,
    ) -> AsyncBlockSourceResult<'a, BlockHeaderData> {
        Box::pin(async move {
            let header = self.header(hash).await?;
            Ok(header.ok_or_else(|| ChainError::Protocol(format!("block {hash} is unknown")))?)
        })
    }

    fn get_block<'a>(&'a self, hash: &'a BlockHash) -> AsyncBlockSourceResult<'a, BlockData> {
        Box::pin(async move { Ok(BlockData::FullBlock(self.block(hash).await?)) })
    }

    fn get_best_block(&self) -> AsyncBlockSourceResult<'_, (BlockHash, Option<u32>)> {
        Box::pin(async move {
            let (hash, height) = self.best_block().await?;
            Ok((hash, Some(height)))
        })
    }
}

impl Rpc {
    /// The output that a short channel id points at, when it is unspent and at least `depth` blocks deep.
    pub(super) async fn output_at(
        &self,
        height: u32,
        index: usize,
        vout: u32,
        depth: u32,
    ) -> Result<Option<TxOut>, ChainError> {
        let (_, tip) = self.best_block().await?;
        if height.saturating_add(depth) > tip.saturating_add(1) {
            return Ok(None);
        }
        let Some(hash) = self.block_hash(height).await? else { return Ok(None) };
        let block = self.block(&hash).await?;
        let Some(transaction) = block.txdata.get(index) else { return Ok(None) };
        let Some(output) = transaction.output.get(vout as usize) else { return Ok(None) };
        let unspent = self.unspent(OutPoint { txid: transaction.compute_txid(), vout }).await?;
        Ok(unspent.then(|| output.clone()))
    }
}

//! An Esplora server as the chain source: transaction-based sync for LDK and the wallet.

use std::sync::Arc;
use std::time::Duration;

use bdk_esplora::EsploraAsyncExt;
use bitcoin::{BlockHash, OutPoint, Transaction, TxOut};
use esplora_client::{AsyncClient, Error as ClientError};
use lightning::chain::{BestBlock, Confirm};
use lightning_transaction_sync::EsploraSyncClient;

use super::error::{ChainError, in_full, shown};
use super::fees::{Estimates, HORIZONS};
use crate::logger::TracingLogger;
use crate::wallet::Wallet;

const REQUEST_TIMEOUT: Duration = Duration::from_secs(20);
const RETRIES: usize = 2;
const PARALLEL_REQUESTS: usize = 4;

/// One Esplora server.
pub(super) struct Esplora {
    shown: String,
    client: AsyncClient,
    pub(super) ldk: Arc<EsploraSyncClient<Arc<TracingLogger>>>,
}

impl Esplora {
    pub(super) fn new(url: &str, logger: Arc<TracingLogger>) -> Result<Esplora, ChainError> {
        let bad = |why: String| ChainError::Url { url: shown(url), why };
        let parsed = reqwest::Url::parse(url).map_err(|error| bad(error.to_string()))?;
        if !matches!(parsed.scheme(), "http" | "https") {
            return Err(bad("only http and https are possible".into()));
        }
        let url = url.trim_end_matches('/');
        let client = esplora_client::Builder::new(url)
            .timeout(REQUEST_TIMEOUT.as_secs())
            .max_retries(RETRIES)
            .build_async()
            .map_err(|error| bad(error.to_string()))?;
        let ldk = Arc::new(EsploraSyncClient::from_client(client.clone(), logger));
        Ok(Esplora { shown: shown(url), client, ldk })
    }

    fn failed(&self, error: ClientError) -> ChainError {
        match error {
            ClientError::HttpResponse { status: 401 | 403, .. } => {
                ChainError::Credentials { source_url: self.shown.clone() }
            }
            error => self.unreachable(&error),
        }
    }

    fn unreachable(&self, error: &dyn std::error::Error) -> ChainError {
        ChainError::Unreachable { source_url: self.shown.clone(), why: in_full(error) }
    }

    pub(super) async fn best_block(&self) -> Result<BestBlock, ChainError> {
        // Between the two requests a block may come or go: a tip without a height is asked for again.
        for _ in 0..5 {
            let hash = self.tip_hash().await?;
            let status = self.client.get_block_status(&hash).await.map_err(|e| self.failed(e))?;
            if let (true, Some(height)) = (status.in_best_chain, status.height) {
                return Ok(BestBlock::new(hash, height));
            }
        }
        Err(ChainError::Protocol("the tip is never in the best chain".into()))
    }

    pub(super) async fn tip_hash(&self) -> Result<BlockHash, ChainError> {
        self.client.get_tip_hash().await.map_err(|e| self.failed(e))
    }

    pub(super) async fn block_hash(&self, height: u32) -> Result<Option<BlockHash>, ChainError> {
        match self.client.get_block_hash(height).await {
            Ok(hash) => Ok(Some(hash)),
            Err(ClientError::HttpResponse { status: 404, .. }) => Ok(None),
            Err(error) => Err(self.failed(error)),
        }
    }

    pub(super) async fn estimates(&self) -> Result<Estimates, ChainError> {
        let known = self.client.get_fee_estimates().await.map_err(|e| self.failed(e))?;
        // sat per virtual byte to sat per 1000 weight
        let by_horizon = HORIZONS.map(|blocks| {
            let nearest = known.iter().filter(|(horizon, _)| **horizon <= blocks).max_by_key(|(horizon, _)| **horizon);
            nearest.map(|(_, rate)| rate * 250.0)
        });
        Ok(Estimates { by_horizon, minimum: 0.0 })
    }

    /// Hands over one transaction; one that the server knows already is fine.
    pub(super) async fn send(&self, transaction: &Transaction) -> Result<(), ChainError> {
        let txid = transaction.compute_txid();
        match self.client.broadcast(transaction).await {
            Ok(()) => Ok(()),
            Err(ClientError::HttpResponse { status, message }) if (400..500).contains(&status) && status != 429 => {
                // The server passes bitcoind's words on: instead of reading them, ask whether it has the transaction.
                match self.client.get_tx(&txid).await {
                    Ok(Some(_)) => Ok(()),
                    _ if matches!(status, 401 | 403) => Err(ChainError::Credentials { source_url: self.shown.clone() }),
                    _ => Err(ChainError::TransactionRefused { txid, why: message }),
                }
            }
            Err(error) => Err(self.failed(error)),
        }
    }

    /// Hands over a child with its parents, parents first. `Ok(false)`: this server has no packages.
    pub(super) async fn send_package(&self, transactions: &[Transaction]) -> Result<bool, ChainError> {
        let Some(child) = transactions.last().map(Transaction::compute_txid) else { return Ok(true) };
        let outcome = match self.client.submit_package(transactions, None, None).await {
            Ok(outcome) => outcome,
            // An older server takes the path for an address or a method it does not have.
            Err(ClientError::HttpResponse { status: 404 | 405, .. }) => return Ok(false),
            Err(ClientError::HttpResponse { status: 400, message }) => {
                return match self.client.get_tx(&child).await {
                    Ok(Some(_)) => Ok(true),
                    _ => Err(ChainError::TransactionRefused { txid: child, why: message }),
                };
            }
            Err(error) => return Err(self.failed(error)),
        };
        match outcome.tx_results.values().find_map(|r| r.error.as_ref().map(|e| (r.txid, e))) {
            None => Ok(true),
            Some((txid, error)) => Err(ChainError::TransactionRefused {
                txid: child,
                why: format!("{}: {txid}: {error}", outcome.package_msg),
            }),
        }
    }

    pub(super) async fn sync_ldk(&self, who: Vec<Arc<dyn Confirm + Send + Sync>>) -> Result<(), ChainError> {
        self.ldk.sync(who).await.map_err(|error| self.unreachable(&error))
    }

    /// Brings the wallet up to date: everything it ever revealed when the tip moved, else only what may change in the mempool.
    pub(super) async fn sync_wallet(&self, wallet: &Wallet, tip_moved: bool) -> Result<(), ChainError> {
        let update = match wallet.esplora_request(tip_moved) {
            crate::wallet::EsploraRequest::Scan(request, gap) => {
                let found = self.client.full_scan(request, gap, PARALLEL_REQUESTS).await;
                bdk_wallet::Update::from(found.map_err(|e| self.failed(*e))?)
            }
            crate::wallet::EsploraRequest::Sync(request) => {
                let found = self.client.sync(request, PARALLEL_REQUESTS).await;
                bdk_wallet::Update::from(found.map_err(|e| self.failed(*e))?)
            }
        };
        wallet.apply_esplora(update, tip_moved).map_err(|error| ChainError::Wallet(error.to_string()))
    }

    pub(super) async fn output_at(
        &self,
        height: u32,
        index: usize,
        vout: u32,
        depth: u32,
    ) -> Result<Option<TxOut>, ChainError> {
        let tip = self.client.get_height().await.map_err(|e| self.failed(e))?;
        if height.saturating_add(depth) > tip.saturating_add(1) {
            return Ok(None);
        }
        let Some(hash) = self.block_hash(height).await? else { return Ok(None) };
        let txid = self.client.get_txid_at_block_index(&hash, index).await.map_err(|e| self.failed(e))?;
        let Some(txid) = txid else { return Ok(None) };
        let Some(transaction) = self.client.get_tx(&txid).await.map_err(|e| self.failed(e))? else { return Ok(None) };
        let Some(output) = transaction.output.get(vout as usize) else { return Ok(None) };
        let outpoint = OutPoint { txid, vout };
        let status = self.client.get_output_status(&outpoint.txid, u64::from(vout)).await;
        let spent = status.map_err(|e| self.failed(e))?.is_none_or(|status| status.spent);
        Ok((!spent).then(|| output.clone()))
    }
}

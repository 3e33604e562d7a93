//! The few words of bitcoind's JSON-RPC that the work speaks.

use std::net::SocketAddr;

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

/// Nobody's address: blocks are mined to it.
const MINER: &str = "bcrt1qw508d6qejxtdg4y5r3zarvary0c5xw7kygt080";

/// Where the chain is.
#[derive(Clone, Debug, clap::Args)]
pub struct ChainAddress {
    /// bitcoind's JSON-RPC.
    #[arg(long)]
    pub rpc: SocketAddr,
    /// Its user.
    #[arg(long)]
    pub user: String,
    /// Its password.
    #[arg(long)]
    pub password: String,
}

pub(crate) struct ChainClient {
    address: ChainAddress,
    http: reqwest::Client,
}

impl ChainClient {
    pub(crate) fn new(address: &ChainAddress) -> ChainClient {
        ChainClient { address: address.clone(), http: reqwest::Client::new() }
    }

    async fn call(&self, method: &str, params: Value) -> Result<Value> {
        let ChainAddress { rpc, user, password } = &self.address;
        let body = json!({ "jsonrpc": "2.0", "id": 0, "method": method, "params": params });
        let request = self.http.post(format!("http://{rpc}")).basic_auth(user, Some(password)).json(&body);
        let answer: Value = request.send().await?.json().await.context("the chain's answer")?;
        match answer.get("error") {
            None | Some(Value::Null) => Ok(answer["result"].clone()),
            Some(error) => bail!("{method}: {error}"),
        }
    }

    pub(crate) async fn send(&self, address: &str, sat: u64) -> Result<()> {
        self.call("sendtoaddress", json!([address, sat as f64 / 1e8])).await.map(|_| ())
    }

    pub(crate) async fn mine(&self, blocks: u32) -> Result<()> {
        self.call("generatetoaddress", json!([blocks, MINER])).await.map(|_| ())
    }

    pub(crate) async fn height(&self) -> Result<u32> {
        let count = self.call("getblockcount", json!([])).await?;
        Ok(count.as_u64().context("block count")? as u32)
    }

    pub(crate) async fn waiting(&self) -> Result<usize> {
        let mempool = self.call("getrawmempool", json!([])).await?;
        Ok(mempool.as_array().context("mempool")?.len())
    }
}

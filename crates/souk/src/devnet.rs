//! `souk devnet`: the regtest chain alone.

use std::net::SocketAddr;
use std::time::Duration;

use ::devnet::{Config, Devnet, Mining};
use bitcoin::{Address, Amount, Network, ScriptBuf};
use serde_json::{Value, json};

use crate::args;
use crate::failure::Failure;
use crate::show::Show;

/// How long transactions gather before a block takes them.
const GATHER: Duration = Duration::from_millis(500);
/// User and password of the RPC: a regtest chain on loopback has nothing to protect.
const CREDENTIAL: &str = "souk";

/// Longest wait for an answer of the chain.
const ANSWER_WITHIN: Duration = Duration::from_secs(30);

/// Runs a chain until Ctrl-C, or asks one that runs.
pub(crate) async fn run(options: args::Devnet, show: &Show) -> Result<(), Failure> {
    match options.ask {
        None => chain(options, show).await,
        Some(args::DevnetAsk::Fund { address, amount }) => {
            let coins = json!(Amount::from_sat(amount).to_btc());
            let txid = ask(options.rpc, "sendtoaddress", json!([address, coins])).await?;
            let answer = json!({"txid": txid});
            show.named(&answer, txid.as_str().unwrap_or_default(), |_| {
                format!("{amount} sat are on their way to {address}")
            })
        }
        Some(args::DevnetAsk::Mine { blocks }) => {
            // Nobody's coins: the chain makes its own for whoever wants some.
            let to = Address::p2wsh(&ScriptBuf::new(), Network::Regtest).to_string();
            ask(options.rpc, "generatetoaddress", json!([blocks, to])).await?;
            let height = ask(options.rpc, "getblockcount", json!([])).await?;
            show.named(&json!({"height": height}), &height, |_| format!("height {height}"))
        }
    }
}

/// One call of bitcoind's RPC.
async fn ask(rpc: SocketAddr, method: &str, params: Value) -> Result<Value, Failure> {
    let away = |e: reqwest::Error| {
        Failure::unreachable(format!("no chain answers at {rpc} ({e}); start it with `souk devnet`"))
    };
    let client = reqwest::Client::builder().timeout(ANSWER_WITHIN).no_proxy().build().map_err(away)?;
    let call = json!({"jsonrpc": "1.0", "id": "souk", "method": method, "params": params}).to_string();
    let request = client.post(format!("http://{rpc}")).basic_auth(CREDENTIAL, Some(CREDENTIAL)).body(call);
    let answer = request.send().await.map_err(away)?.bytes().await.map_err(away)?;
    let strange = |_| Failure::fault(format!("what answers at {rpc} is no bitcoind"));
    let mut answer: Value = serde_json::from_slice(&answer).map_err(strange)?;
    match answer["error"]["message"].as_str() {
        Some(why) => Err(Failure::usage(format!("the chain refuses {method}: {why}"))),
        None => Ok(answer["result"].take()),
    }
}

async fn chain(options: args::Devnet, show: &Show) -> Result<(), Failure> {
    let mining = match options.block_time {
        Some(0) => return Err(Failure::usage("--block-time must be at least 1")),
        Some(seconds) => Mining::Every(Duration::from_secs(seconds)),
        None => Mining::WhenWaiting(GATHER),
    };
    let devnet = Devnet::start(Config {
        rpc_addr: options.rpc,
        esplora_addr: options.esplora,
        rpc_user: CREDENTIAL.into(),
        rpc_password: CREDENTIAL.into(),
        mining,
        data_dir: options.keep_in,
        ..Config::default()
    })
    .await
    .map_err(|e| Failure::fault(e.to_string()))?;
    let facts = json!({
        "network": "regtest",
        "rpc_url": devnet.rpc_url(),
        "rpc_user": CREDENTIAL,
        "rpc_password": CREDENTIAL,
        "esplora_url": devnet.esplora_url(),
        "height": devnet.height(),
    });
    show.answer(&facts, |_| {
        format!(
            "regtest chain at height {}\nRPC      {} (user {CREDENTIAL}, password {CREDENTIAL})\nEsplora  {}\nCoins    souk devnet fund ADDRESS SAT, souk devnet mine BLOCKS; or the RPC. Ctrl-C ends it.",
            devnet.height(),
            devnet.rpc_url(),
            devnet.esplora_url()
        )
    })?;
    tokio::signal::ctrl_c().await?;
    devnet.shutdown().await;
    Ok(())
}

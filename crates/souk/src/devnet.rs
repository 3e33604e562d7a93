//! `souk devnet`: the regtest chain alone.

use std::time::Duration;

use ::devnet::{Config, Devnet, Mining};
use serde_json::json;

use crate::args;
use crate::failure::Failure;
use crate::show::Show;

/// How long transactions gather before a block takes them.
const GATHER: Duration = Duration::from_millis(500);
/// User and password of the RPC: a regtest chain on loopback has nothing to protect.
const CREDENTIAL: &str = "souk";

/// Runs a chain until Ctrl-C.
pub(crate) async fn run(options: args::Devnet, show: &Show) -> Result<(), Failure> {
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
            "regtest chain at height {}\nRPC      {} (user {CREDENTIAL}, password {CREDENTIAL})\nEsplora  {}\nCoins: the RPC's sendtoaddress and generatetoaddress. Ctrl-C ends it.",
            devnet.height(),
            devnet.rpc_url(),
            devnet.esplora_url()
        )
    })?;
    tokio::signal::ctrl_c().await?;
    devnet.shutdown().await;
    Ok(())
}

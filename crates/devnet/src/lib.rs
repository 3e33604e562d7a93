//! A regtest chain in one process: real blocks and scripts, a mempool with relay policy, a faucet, reorgs on demand,
//! and in front of it bitcoind's JSON-RPC and Esplora's HTTP.
//!
//! [`Regtest`] is the state machine: it is told the time and does no IO. [`Devnet`] runs it behind its servers. There is no
//! way to ask for another network: the genesis block, the proof of work and every address are regtest's.
//!
//! ```no_run
//! # async fn sketch(address: bitcoin::Address) -> Result<(), devnet::DevnetError> {
//! let net = devnet::Devnet::start(devnet::Config::default()).await?;
//! let txid = net.fund(&address, units::Sat(1_000_000)).await?;
//! net.mine(6).await?;
//! net.wait_for_tx(txid).await?;
//! let (_rpc, _esplora) = (net.rpc_url(), net.esplora_url());
//! net.shutdown().await;
//! # Ok(()) }
//! ```

mod assemble;
mod chain;
mod consensus;
mod devnet;
mod error;
mod esplora;
mod faucet;
mod http;
mod index;
mod mempool;
mod package;
mod policy;
mod regtest;
mod render;
mod rpc;
mod script;
mod store;
mod template;

pub use chain::{BlockEntry, Chain, Change, Status, Undo};
pub use consensus::{COINBASE_MATURITY, Coin, HALVING_INTERVAL, MAX_BLOCK_WEIGHT, REGTEST_BITS, subsidy};
pub use devnet::{Clock, Config, Devnet, DevnetError, Mining};
pub use error::{BlockError, TxError};
pub use faucet::{Faucet, FaucetError};
pub use index::{ScriptHistory, ScriptId, TxPosition};
pub use mempool::{Accepted, Entry, Family, Mempool};
pub use package::{Outcome, PackageError, check_package};
pub use policy::{
    MAX_CHAIN_COUNT, MAX_CHAIN_VBYTES, MAX_EVICTIONS, MAX_PACKAGE_COUNT, MAX_PACKAGE_WEIGHT, MAX_STANDARD_WEIGHT,
    Policy, fee_for,
};
pub use regtest::{MAX_MINE, Record, Regtest, Tip};
pub use store::StoreError;
pub use template::Template;

//! The embedded Lightning node: rust-lightning wired to our own chain source, wallet and store.

mod background;
mod backup;
mod boot;
mod chain;
mod channels;
mod config;
mod core;
mod events;
mod funds;
mod holds;
mod keys;
mod ledger;
mod logger;
mod node;
mod payments;
mod peers;
mod persist;
mod retry;
mod router;
mod salvage;
mod store;
mod types;
mod verbs;
mod wallet;
mod writer;

pub use crate::backup::{BackupError, snapshot};
pub use crate::chain::{
    Chain, ChainConfig, ChainError, ChainStatus, Follower, Gossip, Listeners, MonitorSet, UtxoCheck,
};
pub use crate::config::{ForwardFees, HTLC_SLOTS, InboundPolicy, LdkConfig};
pub use crate::keys::Keys;
pub use crate::logger::TracingLogger;
pub use crate::node::LdkNode;
pub use crate::verbs::FINAL_CLTV_MAX;
pub use crate::wallet::{Birthday, StoreError, Wallet, WalletBalance, WalletError};

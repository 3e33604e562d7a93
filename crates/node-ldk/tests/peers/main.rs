//! The embedded node with nodes of other people on one devnet. `cargo xtask peers` provides the programs and runs this.
#![allow(clippy::unwrap_used)]

mod lnd;
mod lnd_trades_with_us;
#[path = "../it/net.rs"]
#[allow(dead_code, reason = "each story needs a part of it")]
mod net;

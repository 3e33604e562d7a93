//! The devnet, from its rules to its servers.

#![allow(clippy::unwrap_used, reason = "a helper that fails should fail its test on the spot")]

mod blocks;
mod esplora;
mod kit;
mod locks;
mod packages;
mod relay;
mod reorgs;
mod replacement;
mod restart;
mod rpc;
mod running;
mod scripts;

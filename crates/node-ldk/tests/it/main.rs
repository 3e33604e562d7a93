//! The embedded node and its parts on a real regtest chain, over bitcoind's RPC and over Esplora.
#![allow(clippy::unwrap_used)]

mod bumps;
mod close;
mod gossip;
mod killed;
mod net;
mod policy;
mod restart;
mod rig;
mod routes;
mod salvage;
mod source;
mod two_nodes;
mod wallet;

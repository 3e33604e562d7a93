//! The embedded node and its parts on a real regtest chain, over bitcoind's RPC and over Esplora.
#![allow(clippy::unwrap_used)]

mod a_channel_is_closed_with_a_payment_held;
mod bumps;
mod gossip;
mod killed;
mod net;
mod policy;
mod restart;
mod rig;
mod routes;
mod salvage;
mod source;
mod the_funding_is_not_confirmed;
mod two_nodes;
mod wallet;

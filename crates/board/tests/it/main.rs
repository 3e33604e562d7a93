//! The board from outside: its store, its sessions, and whole boards over real WebSockets.

#![allow(clippy::unwrap_used, reason = "a helper of a test panics like the test itself")]

mod a_credential_is_spent_twice;
mod admission;
mod client;
mod compression;
mod events;
mod fuzzing;
mod kill;
mod live_filters;
mod management;
mod market_kinds;
mod operator;
mod orders;
mod other_suites;
mod proxies;
mod questions;
mod reconciliation;
mod relay;
mod relay_limits;
mod searching;
mod session;
mod store_contract;
mod store_model;
mod store_recovery;
mod store_spends_once;
mod syncing;
mod vanishing;
mod websocket;

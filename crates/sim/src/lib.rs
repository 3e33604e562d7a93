//! Deterministic simulator of escrow trades: three daemons with their own logs, a Lightning network, relays, faults, invariants.

pub mod check;
pub mod lightning;
pub mod people;
pub mod relay;
pub mod replica;
pub mod rng;
mod run;
pub mod twin;
pub mod world;

pub use run::{Report, run};
pub use twin::Twin;

//! Deterministic simulator of escrow trades: three daemons with their own logs, many trades at once, a Lightning network and a
//! chain, several boards, faults, liars, invariants.

pub mod check;
pub mod diligent;
pub mod liar;
pub mod lightning;
pub mod loss;
pub mod people;
pub mod relay;
pub mod replica;
pub mod rng;
mod run;
pub mod twin;
pub mod world;

pub use run::{Report, Setup, run, run_with};
pub use twin::Twin;

//! Checks Schnorr signatures (BIP-340), sooner for keys that sign again and again.
//!
//! libsecp256k1 checks the first signatures of a key. After [`TABLE_AFTER`] good ones a table of the key's multiples is made, and from then
//! on a check takes less than half the time (`docs/bench-bip340.md`). The arithmetic is our own, since no library offers it, and for public
//! numbers only: it does not hide what it works on. Each answer is the one that libsecp256k1 gives; tests and a fuzz target hold
//! the two beside each other.

mod comb;
mod field;
pub mod fuzz;
mod inverse;
mod keys;
mod point;
mod scalar;
mod table;
#[cfg(test)]
mod tests;
mod words;

pub use keys::{Keys, TABLE_AFTER};

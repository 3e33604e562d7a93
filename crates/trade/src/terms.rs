//! The escrow terms a listing states, and the bounds they must keep.

use serde::{Deserialize, Serialize};
use units::Sat;

use crate::ids::PartyKey;

/// Who protects whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// Price leg only, no arbiter: protects the payer; the payee relies on the payer releasing.
    Direct,
    /// An arbiter is named; bonds are optional.
    Arbitrated,
    /// An arbiter is named and both bonds are required.
    Bonded,
}

/// What happens to the price when the payer stays silent after shipment and nobody disputes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnSilence {
    /// The payee fails the price back. The only default that Bitcoin itself enforces.
    Refund,
    /// The arbiter gives the price secret to the payee; needs `arbiter_release`.
    Release,
}

/// Escrow terms of a listing (the `escrow` object of kind 300).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EscrowTerms {
    /// Who protects whom.
    pub mode: Mode,
    /// Arbiters that the payee accepts; the payer picks one of them. Empty in [`Mode::Direct`].
    #[serde(default)]
    pub arbiters: Vec<PartyKey>,
    /// The arbiter also knows the price secrets and may release or split the price.
    #[serde(default)]
    pub arbiter_release: bool,
    /// Least bond of the payer.
    #[serde(default)]
    pub min_payer_bond: Sat,
    /// Bond of the payee.
    #[serde(default)]
    pub payee_bond: Sat,
    /// Final CLTV that every leg asks for, in blocks.
    pub lock_blocks: u16,
    /// Into how many hashes the price is cut, 1 to [`EscrowTerms::TRANCHES_MAX`].
    #[serde(default = "one")]
    pub tranches: u8,
    /// The agreed default.
    pub on_silence: OnSilence,
}

fn one() -> u8 {
    1
}

impl EscrowTerms {
    /// Most hashes that a price is cut into.
    pub const TRANCHES_MAX: u8 = 4;
    /// Most arbiters that a listing names.
    pub const ARBITERS_MAX: usize = 16;
    /// Shortest and longest lock, in blocks.
    pub const LOCK_BLOCKS: std::ops::RangeInclusive<u16> = 144..=2016;
    /// Lock when nothing else is said, in blocks.
    pub const LOCK_BLOCKS_DEFAULT: u16 = 720;
}

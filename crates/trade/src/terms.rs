//! The escrow terms a listing states, and the bounds they must keep.

use serde::{Deserialize, Serialize};
use units::Sat;

use crate::ids::PartyKey;
use crate::refusal::{Refusal, Rule};

/// Who protects whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
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
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum OnSilence {
    /// The payee fails the price back. The only default that Bitcoin itself enforces.
    Refund,
    /// The arbiter gives the price secret to the payee; needs `arbiter_release`.
    Release,
}

/// Escrow terms of a listing (the `escrow` object of kind 300).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
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
    /// Longest shipping estimate, in days.
    pub const SHIPPING_DAYS_MAX: u16 = 90;
    /// Least size of a tranche when a price is cut, so that none becomes dust on the way.
    pub const TRANCHE_MIN: Sat = Sat(1000);
    /// Blocks that an invoice's final CLTV may exceed the agreed lock by: backends add a few of their own.
    pub const CLTV_SLACK: u32 = 18;

    /// Terms of a listing whose author does not know escrow terms: direct, one tranche, the shortest lock.
    pub fn plain() -> EscrowTerms {
        EscrowTerms {
            mode: Mode::Direct,
            arbiters: Vec::new(),
            arbiter_release: false,
            min_payer_bond: Sat::ZERO,
            payee_bond: Sat::ZERO,
            lock_blocks: *EscrowTerms::LOCK_BLOCKS.start(),
            tranches: 1,
            on_silence: OnSilence::Refund,
        }
    }

    /// The lock that a shipping estimate asks for: `144 + (eta + 48) * 6` blocks, kept within the bounds.
    pub fn lock_blocks_for(eta_hours: u32) -> u16 {
        let blocks = eta_hours.saturating_add(48).saturating_mul(6).saturating_add(144);
        u16::try_from(blocks).unwrap_or(u16::MAX).clamp(*Self::LOCK_BLOCKS.start(), *Self::LOCK_BLOCKS.end())
    }

    /// Do the terms contradict themselves or leave the bounds?
    pub fn check(&self) -> Result<(), Refusal> {
        let refuse = |why: &'static str| Err(Refusal::new(Rule::TermsInvalid, why));
        if !Self::LOCK_BLOCKS.contains(&self.lock_blocks) {
            return refuse("a lock lasts 144 to 2016 blocks");
        }
        if self.tranches == 0 || self.tranches > Self::TRANCHES_MAX {
            return refuse("a price is cut into 1 to 4 tranches");
        }
        if self.arbiters.len() > Self::ARBITERS_MAX {
            return refuse("a listing names at most 16 arbiters");
        }
        let bonded = self.min_payer_bond > Sat::ZERO || self.payee_bond > Sat::ZERO;
        match self.mode {
            Mode::Direct if !self.arbiters.is_empty() || self.arbiter_release => {
                refuse("a direct trade has no arbiter")
            }
            Mode::Direct if bonded => refuse("bonds without an arbiter can be taken by whoever knows their secret"),
            Mode::Direct if self.on_silence == OnSilence::Release => {
                refuse("without an arbiter nobody could release on silence")
            }
            Mode::Arbitrated | Mode::Bonded if self.arbiters.is_empty() => refuse("the mode needs an arbiter"),
            Mode::Bonded if self.min_payer_bond == Sat::ZERO || self.payee_bond == Sat::ZERO => {
                refuse("a bonded trade needs both bonds")
            }
            Mode::Arbitrated | Mode::Bonded if self.on_silence == OnSilence::Release && !self.arbiter_release => {
                refuse("release on silence needs arbiter_release")
            }
            Mode::Direct | Mode::Arbitrated | Mode::Bonded => Ok(()),
        }
    }

    /// Does a bid of this size, with this bond and arbiter, keep the terms?
    pub fn check_bid(&self, amount: Sat, payer_bond: Sat, arbiter: Option<PartyKey>) -> Result<(), Refusal> {
        let refuse = |why: &'static str| Err(Refusal::new(Rule::TermsMismatch, why));
        if amount == Sat::ZERO || amount.to_msat().is_err() || payer_bond.to_msat().is_err() {
            return refuse("the price must be above zero and within the supply");
        }
        if self.tranches > 1 && amount.0 / u64::from(self.tranches) < Self::TRANCHE_MIN.0 {
            return refuse("the price is too small to be cut into that many tranches");
        }
        if payer_bond < self.min_payer_bond {
            return refuse("the payer's bond is below what the listing asks");
        }
        match (self.mode, arbiter) {
            (Mode::Direct, None) if payer_bond > Sat::ZERO => refuse("a direct trade has no bonds"),
            (Mode::Direct, None) => Ok(()),
            (Mode::Direct, Some(_)) => Err(Refusal::new(Rule::NoArbiter, "a direct trade has no arbiter")),
            (Mode::Arbitrated | Mode::Bonded, Some(arbiter)) if self.arbiters.contains(&arbiter) => Ok(()),
            (Mode::Arbitrated | Mode::Bonded, _) => {
                Err(Refusal::new(Rule::NoArbiter, "the bid must pick one of the listing's arbiters"))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn terms_that_protect_nobody_are_refused() {
        let direct = EscrowTerms::plain();
        let arbitrated = EscrowTerms { mode: Mode::Arbitrated, arbiters: vec![PartyKey([7; 32])], ..direct.clone() };
        assert_eq!(direct.check(), Ok(()));
        assert_eq!(arbitrated.check(), Ok(()));
        let bad = [
            EscrowTerms { payee_bond: Sat(1), ..direct.clone() },
            EscrowTerms { on_silence: OnSilence::Release, ..direct.clone() },
            EscrowTerms { lock_blocks: 143, ..direct.clone() },
            EscrowTerms { tranches: 5, ..direct.clone() },
            EscrowTerms { arbiters: Vec::new(), ..arbitrated.clone() },
            EscrowTerms { on_silence: OnSilence::Release, ..arbitrated.clone() },
            EscrowTerms { mode: Mode::Bonded, payee_bond: Sat(1), ..arbitrated },
        ];
        for terms in bad {
            assert_eq!(terms.check().map_err(|r| r.rule), Err(Rule::TermsInvalid), "{terms:?}");
        }
    }

    #[test]
    fn the_lock_grows_with_the_shipping_time() {
        assert_eq!(EscrowTerms::lock_blocks_for(72), 864);
        assert_eq!(EscrowTerms::lock_blocks_for(10_000), 2016);
    }
}

//! Fee rates for LDK's purposes, refreshed in the background and read without waiting.

use std::sync::atomic::{AtomicU32, Ordering};

use bitcoin::{FeeRate, Network};
use lightning::chain::chaininterface::{ConfirmationTarget, FEERATE_FLOOR_SATS_PER_KW};

/// No estimate above this is believed: 2,000 sat/vB, about the worst hour Bitcoin has seen.
const CEILING_SAT_PER_KW: u32 = 500_000;
/// What the peer's fee rate may be above our most urgent estimate before we doubt the peer: 10 sat/vB.
const MAXIMUM_MARGIN: u32 = 2_500;
/// Peers round 1.x sat/vB down to 1: stay that far below what we would ask for ourselves.
const ROUNDING: u32 = 250;

/// The horizons, in blocks, that a source is asked for.
pub(super) const HORIZONS: [u16; 5] = [1, 6, 12, 144, 1008];

/// What a source knows: sat per 1000 weight for each of [`HORIZONS`], and the lowest rate that mempools take.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Estimates {
    pub by_horizon: [Option<f64>; HORIZONS.len()],
    pub minimum: f64,
}

impl Estimates {
    /// Whether there is enough to start on mainnet: one estimate for within two hours.
    pub(super) fn suffices(&self) -> bool {
        self.by_horizon[..3].iter().any(Option::is_some)
    }

    /// The estimate for `HORIZONS[i]`, else the nearest more patient one, else the nearest more urgent one.
    fn filled(&self, i: usize) -> Option<u32> {
        let later = self.by_horizon[i..].iter().find_map(|e| *e);
        let sooner = self.by_horizon[..i].iter().rev().find_map(|e| *e);
        let rate = later.or(sooner)?.max(self.minimum);
        // NaN and negative numbers become zero here, infinity the ceiling.
        Some((rate.ceil() as u32).clamp(FEERATE_FLOOR_SATS_PER_KW, CEILING_SAT_PER_KW))
    }
}

const TARGETS: [ConfirmationTarget; 8] = [
    ConfirmationTarget::MaximumFeeEstimate,
    ConfirmationTarget::UrgentOnChainSweep,
    ConfirmationTarget::MinAllowedAnchorChannelRemoteFee,
    ConfirmationTarget::MinAllowedNonAnchorChannelRemoteFee,
    ConfirmationTarget::AnchorChannelFee,
    ConfirmationTarget::NonAnchorChannelFee,
    ConfirmationTarget::ChannelCloseMinimum,
    ConfirmationTarget::OutputSpendingFee,
];

/// Index into [`HORIZONS`] and the rate (sat per 1000 weight) that stands in while there is no estimate, on test networks only.
fn plan(target: ConfirmationTarget) -> (usize, u32) {
    match target {
        ConfirmationTarget::MaximumFeeEstimate => (0, 8_000),
        ConfirmationTarget::UrgentOnChainSweep => (1, 5_000),
        ConfirmationTarget::NonAnchorChannelFee | ConfirmationTarget::OutputSpendingFee => (2, 1_000),
        ConfirmationTarget::ChannelCloseMinimum => (3, 500),
        ConfirmationTarget::MinAllowedNonAnchorChannelRemoteFee => (3, 253),
        ConfirmationTarget::AnchorChannelFee => (4, 500),
        ConfirmationTarget::MinAllowedAnchorChannelRemoteFee => (4, 253),
    }
}

/// The current rates.
pub(super) struct FeeTable {
    rates: [AtomicU32; TARGETS.len()],
}

impl FeeTable {
    pub(super) fn new() -> FeeTable {
        FeeTable { rates: TARGETS.map(|target| AtomicU32::new(plan(target).1)) }
    }

    pub(super) fn get(&self, target: ConfirmationTarget) -> u32 {
        let i = TARGETS.iter().position(|t| *t == target).expect("TARGETS lists every target");
        self.rates[i].load(Ordering::Relaxed).max(FEERATE_FLOOR_SATS_PER_KW)
    }

    /// Takes over what the source knows; where it knows nothing the last rate stays.
    pub(super) fn update(&self, estimates: &Estimates) {
        for (target, rate) in TARGETS.into_iter().zip(&self.rates) {
            let Some(estimate) = estimates.filled(plan(target).0) else { continue };
            let adjusted = match target {
                ConfirmationTarget::MaximumFeeEstimate => estimate.saturating_add(MAXIMUM_MARGIN),
                ConfirmationTarget::MinAllowedNonAnchorChannelRemoteFee => estimate.saturating_sub(ROUNDING),
                // What we ask of a peer must never be more than what we would pay in its place.
                ConfirmationTarget::MinAllowedAnchorChannelRemoteFee => FEERATE_FLOOR_SATS_PER_KW,
                _ => estimate,
            };
            rate.store(adjusted.max(FEERATE_FLOOR_SATS_PER_KW), Ordering::Relaxed);
        }
    }

    pub(super) fn rate(&self, target: ConfirmationTarget) -> FeeRate {
        FeeRate::from_sat_per_kwu(u64::from(self.get(target)))
    }
}

/// Whether a missing estimate forbids to start.
pub(super) fn estimate_required(network: Network) -> bool {
    network == Network::Bitcoin
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_target_has_a_rate_before_any_estimate_and_none_is_below_the_floor() {
        let table = FeeTable::new();
        for target in TARGETS {
            assert!(table.get(target) >= FEERATE_FLOOR_SATS_PER_KW, "{target:?}");
        }
        let nothing = Estimates::default();
        assert!(!nothing.suffices());
        table.update(&nothing);
        assert_eq!(table.get(ConfirmationTarget::UrgentOnChainSweep), 5_000, "the last rate stays");
    }

    #[test]
    fn holes_are_filled_from_the_nearest_horizon() {
        let table = FeeTable::new();
        let estimates = Estimates { by_horizon: [None, None, Some(4_000.2), None, None], minimum: 0.0 };
        assert!(estimates.suffices());
        table.update(&estimates);
        assert_eq!(table.get(ConfirmationTarget::NonAnchorChannelFee), 4_001);
        assert_eq!(table.get(ConfirmationTarget::UrgentOnChainSweep), 4_001);
        assert_eq!(table.get(ConfirmationTarget::MaximumFeeEstimate), 6_501);
        assert_eq!(table.get(ConfirmationTarget::ChannelCloseMinimum), 4_001);
        assert_eq!(table.get(ConfirmationTarget::MinAllowedNonAnchorChannelRemoteFee), 3_751);
    }

    #[test]
    fn a_source_cannot_make_us_pay_nonsense() {
        for (answer, expect) in [
            (f64::NAN, FEERATE_FLOOR_SATS_PER_KW),
            (-5.0, FEERATE_FLOOR_SATS_PER_KW),
            (f64::INFINITY, CEILING_SAT_PER_KW),
            (1e30, CEILING_SAT_PER_KW),
        ] {
            let table = FeeTable::new();
            table.update(&Estimates { by_horizon: [Some(answer); 5], minimum: 0.0 });
            assert_eq!(table.get(ConfirmationTarget::OutputSpendingFee), expect, "{answer}");
        }
    }

    #[test]
    fn nothing_is_estimated_below_what_mempools_take() {
        let table = FeeTable::new();
        table.update(&Estimates { by_horizon: [Some(300.0); 5], minimum: 2_000.0 });
        assert_eq!(table.get(ConfirmationTarget::AnchorChannelFee), 2_000);
        assert_eq!(
            table.get(ConfirmationTarget::MinAllowedAnchorChannelRemoteFee),
            FEERATE_FLOOR_SATS_PER_KW,
            "a peer whose mempool is calmer is not thrown out"
        );
    }
}

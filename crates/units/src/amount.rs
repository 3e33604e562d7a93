//! Bitcoin amounts. Arithmetic is checked: money never wraps and never goes below zero.

use std::fmt;

use serde::{Deserialize, Serialize};

/// All the bitcoin there can be, in satoshis. An amount above it is refused where it enters.
const SUPPLY_SAT: u64 = 21_000_000 * 100_000_000;

/// An amount did not fit: below zero, or more than all the bitcoin there is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("amount is below zero or above the supply of 21 million bitcoin")]
pub struct AmountOverflow;

/// An amount in satoshis.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(transparent)]
pub struct Sat(pub u64);

/// An amount in millisatoshis, the unit Lightning counts in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(transparent)]
pub struct Msat(pub u64);

impl Sat {
    /// Nothing.
    pub const ZERO: Sat = Sat(0);

    /// The same amount in millisatoshis. Fails above the supply.
    pub fn to_msat(self) -> Result<Msat, AmountOverflow> {
        if self.0 > SUPPLY_SAT {
            return Err(AmountOverflow);
        }
        Ok(Msat(self.0 * 1000))
    }

    /// Sum, or an error above the supply.
    pub fn checked_add(self, other: Sat) -> Result<Sat, AmountOverflow> {
        self.0.checked_add(other.0).filter(|sum| *sum <= SUPPLY_SAT).map(Sat).ok_or(AmountOverflow)
    }

    /// Difference, or an error below zero.
    pub fn checked_sub(self, other: Sat) -> Result<Sat, AmountOverflow> {
        self.0.checked_sub(other.0).map(Sat).ok_or(AmountOverflow)
    }

    /// Cuts the amount into `parts` that differ by at most one satoshi and add up to it exactly.
    /// The larger parts come first; `parts` of zero gives nothing.
    pub fn split(self, parts: u8) -> Vec<Sat> {
        let parts = u64::from(parts);
        if parts == 0 {
            return Vec::new();
        }
        let (each, rest) = (self.0 / parts, self.0 % parts);
        (0..parts).map(|i| Sat(each + u64::from(i < rest))).collect()
    }
}

impl Msat {
    /// Nothing.
    pub const ZERO: Msat = Msat(0);

    /// Sum, or an error above the supply.
    pub fn checked_add(self, other: Msat) -> Result<Msat, AmountOverflow> {
        self.0.checked_add(other.0).filter(|sum| *sum <= SUPPLY_SAT * 1000).map(Msat).ok_or(AmountOverflow)
    }

    /// Difference, or an error below zero.
    pub fn checked_sub(self, other: Msat) -> Result<Msat, AmountOverflow> {
        self.0.checked_sub(other.0).map(Msat).ok_or(AmountOverflow)
    }

    /// Whole satoshis, rounded down.
    pub fn to_sat_floor(self) -> Sat {
        Sat(self.0 / 1000)
    }
}

/// Digits in groups of three: `1,234,567`.
fn grouped(f: &mut fmt::Formatter<'_>, n: u64) -> fmt::Result {
    let digits = n.to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    f.pad_integral(true, "", &out)
}

impl fmt::Display for Sat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        grouped(f, self.0)
    }
}

impl fmt::Display for Msat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        grouped(f, self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_split_adds_up_and_differs_by_at_most_one() {
        for (amount, parts) in [(100, 3), (2, 4), (0, 2), (7, 1)] {
            let cut = Sat(amount).split(parts);
            assert_eq!(cut.len(), usize::from(parts));
            assert_eq!(cut.iter().map(|p| p.0).sum::<u64>(), amount);
            assert!(cut[0].0 - cut[cut.len() - 1].0 <= 1);
        }
        assert!(Sat(5).split(0).is_empty());
    }

    #[test]
    fn money_neither_wraps_nor_goes_below_zero() {
        assert_eq!(Sat(SUPPLY_SAT).checked_add(Sat(1)), Err(AmountOverflow));
        assert_eq!(Msat(1).checked_sub(Msat(2)), Err(AmountOverflow));
        assert_eq!(Sat(u64::MAX).to_msat(), Err(AmountOverflow));
        assert_eq!(Sat(21).to_msat(), Ok(Msat(21_000)));
    }

    #[test]
    fn amounts_are_shown_in_groups_of_three() {
        assert_eq!(Sat(1_234_567).to_string(), "1,234,567");
        assert_eq!(Msat(999).to_string(), "999");
        assert_eq!(format!("{:>9}", Sat(1000)), "    1,000");
    }
}

//! Decimal numbers as markets write them: read exactly, never through a float.

use std::fmt;

use units::Sat;

/// Most digits of a number, and most of them after the point.
const DIGITS_MAX: usize = 18;
const FRACTION_MAX: usize = 8;

/// A decimal number, exact: `units` of `10^-places`. Trailing zeros after the point are not kept, so that equal numbers are equal.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Decimal {
    units: i64,
    places: u8,
}

/// Not a plain decimal number: digits, at most one point, at most 18 digits, 8 of them after the point.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a plain decimal number")]
pub struct NotDecimal;

impl Decimal {
    /// `units` of `10^-places`.
    pub fn new(units: i64, places: u8) -> Decimal {
        let (mut units, mut places) = (units, places);
        while places > 0 && units % 10 == 0 {
            units /= 10;
            places -= 1;
        }
        Decimal { units, places }
    }

    /// Reads `-?[0-9]+(.[0-9]+)?`. Neither exponents nor separators of thousands: readers disagree on them.
    pub fn parse(text: &str) -> Result<Decimal, NotDecimal> {
        let text = text.trim();
        let (negative, digits) = text.strip_prefix('-').map_or((false, text), |rest| (true, rest));
        let digits = if negative { digits } else { digits.strip_prefix('+').unwrap_or(digits) };
        let (whole, fraction) = digits.split_once('.').map_or((digits, None), |(whole, rest)| (whole, Some(rest)));
        let plain = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
        let fraction = match fraction {
            Some(fraction) if !plain(fraction) => return Err(NotDecimal),
            Some(fraction) => fraction.trim_end_matches('0'),
            None => "",
        };
        if !plain(whole) || whole.len() + fraction.len() > DIGITS_MAX || fraction.len() > FRACTION_MAX {
            return Err(NotDecimal);
        }
        let units: i64 = format!("{whole}{fraction}").parse().map_err(|_| NotDecimal)?;
        let places = u8::try_from(fraction.len()).map_err(|_| NotDecimal)?;
        Ok(Decimal::new(if negative { -units } else { units }, places))
    }

    /// Below zero?
    pub fn is_negative(self) -> bool {
        self.units < 0
    }

    /// The number as a whole count of `10^-places`; none when it has more places, or does not fit.
    pub fn scaled(self, places: u8) -> Option<i64> {
        let shift = places.checked_sub(self.places)?;
        self.units.checked_mul(10_i64.checked_pow(u32::from(shift))?)
    }

    /// As an amount of satoshis, the number being in `currency`; none for other currencies, or for parts of a satoshi.
    pub fn in_sat(self, currency: &str) -> Option<Sat> {
        let places = match currency.to_ascii_lowercase().as_str() {
            "sat" | "sats" | "satoshi" | "satoshis" => 0,
            "btc" | "xbt" => 8,
            _ => return None,
        };
        let sat = Sat(u64::try_from(self.scaled(places)?).ok()?);
        sat.to_msat().ok().map(|_| sat)
    }
}

impl From<Sat> for Decimal {
    /// All the bitcoin there is has 16 digits.
    fn from(amount: Sat) -> Decimal {
        Decimal::new(i64::try_from(amount.0).unwrap_or(i64::MAX), 0)
    }
}

impl PartialOrd for Decimal {
    fn partial_cmp(&self, other: &Decimal) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Decimal {
    fn cmp(&self, other: &Decimal) -> std::cmp::Ordering {
        let wide = |d: &Decimal| {
            i128::from(d.units)
                * 10_i128.pow(u32::from(u8::try_from(FRACTION_MAX).unwrap_or(8).saturating_sub(d.places)))
        };
        wide(self).cmp(&wide(other))
    }
}

impl fmt::Display for Decimal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = if self.units < 0 { "-" } else { "" };
        let digits = self.units.unsigned_abs();
        let one = 10_u64.pow(u32::from(self.places));
        write!(f, "{sign}{}", digits / one)?;
        if self.places > 0 {
            write!(f, ".{:0width$}", digits % one, width = usize::from(self.places))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_read_exactly_and_written_as_they_were_meant() {
        for (text, same) in
            [("0", "0"), ("100", "100"), ("12.50", "12.5"), ("-1", "-1"), ("0.00000001", "0.00000001"), (" +2.0 ", "2")]
        {
            assert_eq!(Decimal::parse(text).unwrap().to_string(), same, "{text}");
        }
        for text in ["", ".", "1.", ".5", "1e3", "1,000", "0x10", "NaN", "--1", "1.123456789", "1234567890123456789"] {
            assert_eq!(Decimal::parse(text), Err(NotDecimal), "{text}");
        }
        assert!(Decimal::parse("0.5").unwrap() > Decimal::parse("0.49").unwrap());
        assert!(Decimal::parse("-2").unwrap() < Decimal::parse("0.1").unwrap());
    }

    #[test]
    fn bitcoin_by_any_of_its_names_is_counted_in_satoshis() {
        let sat = |text: &str, currency: &str| Decimal::parse(text).unwrap().in_sat(currency);
        assert_eq!(sat("25000", "SATS"), Some(Sat(25_000)));
        assert_eq!(sat("0.001", "btc"), Some(Sat(100_000)));
        assert_eq!(sat("1.5", "sat"), None);
        assert_eq!(sat("10", "EUR"), None);
        assert_eq!(sat("22000000", "BTC"), None);
        assert_eq!(sat("-5", "sat"), None);
    }
}

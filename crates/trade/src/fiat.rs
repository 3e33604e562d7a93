//! Fiat: an order for bitcoin against money of a country, what a bid on it quotes, and how many satoshis that makes.
//!
//! Who sells bitcoin locks it as the payer; who buys it is the payee and hands over the fiat money. The maker of an order that buys
//! is the payee, and takers bid on it. An order that sells is answered: the taker lists, for the maker alone, what it wants, and the
//! maker bids on that ([`crate::answer`]). All arithmetic is of integers: hundredths of a currency, hundredths of a per cent, satoshis.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use units::{Sat, Unix};

use crate::answer::{self, Answers};
use crate::ids::PartyKey;
use crate::message::Listing;
use crate::refusal::{Refusal, Rule};

/// Satoshis of one bitcoin.
const SAT_PER_BITCOIN: u128 = 100_000_000;
/// Hundredths of a per cent that make the whole.
const WHOLE: i64 = 10_000;
/// A clock that is this far ahead of ours is still believed, in seconds.
pub(crate) const CLOCK_SKEW_SECS: u64 = 120;

/// Not what it should be: [`Money`], [`Premium`] or [`Currency`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct NotFiat(&'static str);

/// An amount of a currency, in hundredths of its unit whatever its smallest coin is. Written as a plain decimal number with at
/// most two places: `100`, `12.5`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema), schemars(with = "String"))]
pub struct Money(u64);

/// Per cent above (or, negative, below) the market price, in hundredths of a per cent. Written as a decimal number: `1`, `-0.25`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema), schemars(with = "String"))]
pub struct Premium(i64);

/// A currency by its three capitals (ISO 4217).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema), schemars(with = "String"))]
pub struct Currency([u8; 3]);

/// `[0-9]{1,14}(\.[0-9]{1,2})?` in hundredths.
fn hundredths(text: &str) -> Option<u64> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, "0"));
    let plain = |part: &str, max| (1..=max).contains(&part.len()) && part.bytes().all(|b| b.is_ascii_digit());
    if !plain(whole, 14) || !plain(fraction, 2) {
        return None;
    }
    let fraction: u64 = format!("{fraction:0<2}").parse().ok()?;
    Some(whole.parse::<u64>().ok()? * 100 + fraction)
}

fn decimal(f: &mut fmt::Formatter<'_>, hundredths: u64) -> fmt::Result {
    match (hundredths / 100, hundredths % 100) {
        (whole, 0) => write!(f, "{whole}"),
        (whole, rest) if rest % 10 == 0 => write!(f, "{whole}.{}", rest / 10),
        (whole, rest) => write!(f, "{whole}.{rest:02}"),
    }
}

impl Money {
    /// Largest amount: ten million millions of a currency.
    pub const MAX: Money = Money(1_000_000_000_000_000);

    /// So many hundredths of a currency's unit.
    pub fn hundredths(count: u64) -> Result<Money, NotFiat> {
        match Money(count) {
            money if money > Money(0) && money <= Money::MAX => Ok(money),
            _ => Err(NotFiat("an amount is above zero and at most 10000000000000")),
        }
    }

    /// The amount in hundredths of the currency's unit.
    pub fn in_hundredths(self) -> u64 {
        self.0
    }
}

impl FromStr for Money {
    type Err = NotFiat;

    fn from_str(text: &str) -> Result<Money, NotFiat> {
        Money::hundredths(
            hundredths(text).ok_or(NotFiat("an amount is a number with at most two places, such as 12.50"))?,
        )
    }
}

impl fmt::Display for Money {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        decimal(f, self.0)
    }
}

impl Premium {
    /// Largest premium and, negative, largest discount: 50 %.
    pub const MAX: Premium = Premium(5_000);

    /// The premium in hundredths of a per cent.
    pub fn in_hundredths(self) -> i64 {
        self.0
    }

    /// `10000` and the premium, in hundredths of a per cent: what the market price is multiplied by.
    fn factor(self) -> u64 {
        u64::try_from(WHOLE + self.0).unwrap_or(0)
    }
}

impl FromStr for Premium {
    type Err = NotFiat;

    fn from_str(text: &str) -> Result<Premium, NotFiat> {
        let (sign, digits) = text.strip_prefix('-').map_or((1, text), |digits| (-1, digits));
        let number = hundredths(digits).and_then(|n| i64::try_from(n).ok()).filter(|n| *n <= Premium::MAX.0);
        let number = number.ok_or(NotFiat("a premium is -50 to 50 per cent with at most two places, such as -0.5"))?;
        Ok(Premium(sign * number))
    }
}

impl fmt::Display for Premium {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0 < 0 { "-" } else { "" })?;
        decimal(f, self.0.unsigned_abs())
    }
}

impl FromStr for Currency {
    type Err = NotFiat;

    fn from_str(text: &str) -> Result<Currency, NotFiat> {
        match <[u8; 3]>::try_from(text.as_bytes()) {
            Ok(code) if code.iter().all(u8::is_ascii_uppercase) => Ok(Currency(code)),
            _ => Err(NotFiat("a currency is three capitals (ISO 4217), such as EUR")),
        }
    }
}

impl fmt::Display for Currency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|letter| write!(f, "{}", char::from(*letter)))
    }
}

macro_rules! as_text {
    ($($name:ident),*) => {$(
        impl TryFrom<String> for $name {
            type Error = NotFiat;

            fn try_from(text: String) -> Result<$name, NotFiat> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(value: $name) -> String {
                value.to_string()
            }
        }
    )*};
}

as_text!(Money, Premium, Currency);

/// What the maker of an order does with bitcoin.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum FiatSide {
    /// Buys it: gives the fiat money. Its listing is bid on.
    Buy,
    /// Sells it: gets the fiat money. Its listing is answered by one that buys.
    Sell,
}

/// Makes of a listing an order for bitcoin against money of a country (the `fiat` object of kind 300).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct FiatTerms {
    /// What the maker does with bitcoin.
    pub side: FiatSide,
    /// Money of which country.
    pub currency: Currency,
    /// Least amount of it.
    pub min: Money,
    /// Most.
    pub max: Money,
    /// Per cent above the market price that is paid for bitcoin.
    #[serde(default)]
    pub premium_percent: Premium,
    /// How the money can be sent: 1 to [`FiatTerms::METHODS_MAX`] names.
    pub methods: Vec<String>,
    /// How long a bid on a quoted rate stands, in seconds.
    pub max_quote_age_secs: u32,
    /// The listing answers an order that sells: it is for the maker of that order alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answers: Option<Answers>,
}

/// What a bid on an order quotes (the `fiat` object of kind 301).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct FiatBid {
    /// Money of which country.
    pub currency: Currency,
    /// How much of it the payee is to send.
    pub amount: Money,
    /// How.
    pub method: String,
    /// Market price of one bitcoin that the payer saw.
    pub rate: Money,
    /// When it saw that.
    pub quoted_at: Unix,
}

/// How many satoshis an amount of money buys at `rate` and `premium`: `amount / (rate * (1 + premium))`, cut to whole satoshis.
/// None when that is nothing, or more than there is.
pub fn sats_for(amount: Money, rate: Money, premium: Premium) -> Option<Sat> {
    let price = u128::from(rate.0) * u128::from(premium.factor());
    // At most 10^15 * 10^8 * 10^4: far from the end of 128 bits.
    let scaled = u128::from(amount.0) * SAT_PER_BITCOIN * u128::from(WHOLE.unsigned_abs());
    let sat = Sat(u64::try_from(scaled.checked_div(price)?).ok()?);
    (sat > Sat::ZERO && sat.to_msat().is_ok()).then_some(sat)
}

/// Is `quoted` within `tolerance` of `ours`, the tolerance being a share of ours?
pub fn within(quoted: Money, ours: Money, tolerance: Premium) -> bool {
    let apart = u128::from(quoted.0.abs_diff(ours.0)) * u128::from(WHOLE.unsigned_abs());
    apart <= u128::from(ours.0) * u128::from(tolerance.0.unsigned_abs())
}

impl FiatTerms {
    /// Most payment methods of an order.
    pub const METHODS_MAX: usize = 16;
    /// Longest name of one, in characters.
    pub const METHOD_CHARS_MAX: usize = 40;
    /// Shortest and longest time that a quoted rate stands, in seconds.
    pub const QUOTE_AGE_SECS: std::ops::RangeInclusive<u32> = 60..=86_400;

    /// Is this how a payment method may be called? Neither empty nor longer than allowed, and nothing that steers a terminal.
    pub fn is_method(name: &str) -> bool {
        let length = name.chars().count();
        (1..=Self::METHOD_CHARS_MAX).contains(&length)
            && name.trim().len() == name.len()
            && !name.chars().any(char::is_control)
    }

    /// Do the terms contradict themselves or leave the bounds?
    pub fn check(&self) -> Result<(), Refusal> {
        let refuse = |why: &'static str| Err(Refusal::new(Rule::TermsInvalid, why));
        if self.min > self.max {
            return refuse("the least amount of money is above the most");
        }
        if self.methods.is_empty() || self.methods.len() > Self::METHODS_MAX {
            return refuse("an order names 1 to 16 payment methods");
        }
        if !self.methods.iter().all(|name| Self::is_method(name)) {
            return refuse("a payment method has 1 to 40 characters, no control characters and no space around it");
        }
        let twice = self.methods.iter().enumerate().any(|(i, name)| self.methods[..i].contains(name));
        if twice {
            return refuse("a payment method is named twice");
        }
        if !Self::QUOTE_AGE_SECS.contains(&self.max_quote_age_secs) {
            return refuse("a quoted rate stands 60 to 86400 seconds");
        }
        if self.answers.is_some() && (self.side != FiatSide::Buy || self.min != self.max || self.methods.len() != 1) {
            return refuse("an answer buys for one amount by one method");
        }
        Ok(())
    }

    /// Does a bid keep the order's terms, and do its own numbers fit? Says until when its rate stands.
    fn check_bid(&self, bid: &FiatBid, amount: Sat, now: Unix) -> Result<Unix, Refusal> {
        let mismatch = |why: String| Err(Refusal::new(Rule::TermsMismatch, why));
        if bid.currency != self.currency {
            return mismatch(format!("the order is in {}, not in {}", self.currency, bid.currency));
        }
        if !(self.min..=self.max).contains(&bid.amount) {
            return mismatch(format!("the order is for {} to {} {}", self.min, self.max, self.currency));
        }
        if !self.methods.contains(&bid.method) {
            return mismatch(format!("the order takes these payment methods: {}", self.methods.join(", ")));
        }
        if bid.quoted_at.0 > now.0.saturating_add(CLOCK_SKEW_SECS) {
            return Err(Refusal::new(Rule::QuoteStale, "the rate claims to be quoted in the future"));
        }
        let until = Unix(bid.quoted_at.0.saturating_add(self.max_quote_age_secs.into()));
        if until <= now {
            return Err(Refusal::new(Rule::QuoteStale, "the quoted rate is older than the order allows"));
        }
        match sats_for(bid.amount, bid.rate, self.premium_percent) {
            Some(sat) if sat == amount => Ok(until),
            Some(sat) => {
                let why = format!("{} {} at the quoted rate make {sat} sat, not {amount}", bid.amount, self.currency);
                Err(Refusal::new(Rule::QuoteAmount, why))
            }
            None => Err(Refusal::new(Rule::QuoteAmount, "at the quoted rate that makes no amount of bitcoin")),
        }
    }
}

/// A bid on an order quotes a rate, and no other bid does. Says until when the rate stands, where there is one.
pub(crate) fn check(
    listing: &Listing,
    bid: Option<&FiatBid>,
    amount: Sat,
    quantity: u32,
    by: PartyKey,
    now: Unix,
) -> Result<Option<Unix>, Refusal> {
    let mismatch = |why: &'static str| Err(Refusal::new(Rule::TermsMismatch, why));
    if let Some(terms) = &listing.fiat {
        answer::check_bidder(terms, by)?;
    }
    match (&listing.fiat, bid) {
        (None, None) => Ok(None),
        (Some(_), None) => mismatch("the order is priced in money of a country: the bid must quote a rate"),
        (None, Some(_)) => mismatch("the listing is priced in bitcoin: the bid quotes a rate"),
        (Some(_), Some(_)) if quantity != 1 => mismatch("an order is taken once by each bid"),
        (Some(terms), Some(bid)) => terms.check_bid(bid, amount, now).map(Some),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn money(text: &str) -> Money {
        text.parse().unwrap()
    }

    #[test]
    fn numbers_are_read_exactly_and_written_shortest() {
        for (text, same) in [("100", "100"), ("12.50", "12.5"), ("0.01", "0.01"), ("10000000000000", "10000000000000")]
        {
            assert_eq!(money(text).to_string(), same);
        }
        for text in [
            "",
            "0",
            "0.00",
            "-1",
            "+1",
            "1.",
            ".5",
            "1.234",
            "1e3",
            "1,000",
            " 1",
            "10000000000000.01",
            "99999999999999",
        ] {
            assert!(text.parse::<Money>().is_err(), "{text}");
        }
        for (text, same) in [("1", "1"), ("-0.25", "-0.25"), ("50", "50"), ("-50.0", "-50"), ("0", "0"), ("-0", "0")] {
            assert_eq!(text.parse::<Premium>().unwrap().to_string(), same);
        }
        for text in ["50.01", "-50.01", "--1", "1%", "", "nan"] {
            assert!(text.parse::<Premium>().is_err(), "{text}");
        }
        for text in ["eur", "EURO", "EU", "E1R", ""] {
            assert!(text.parse::<Currency>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_premium_makes_bitcoin_dearer_and_so_the_satoshis_fewer() {
        let sats = |amount, rate, premium: &str| sats_for(money(amount), money(rate), premium.parse().unwrap());
        assert_eq!(sats("100", "50000", "0"), Some(Sat(200_000)));
        assert_eq!(sats("100", "50000", "25"), Some(Sat(160_000)));
        assert_eq!(sats("100", "50000", "-50"), Some(Sat(400_000)));
        assert_eq!(sats("1", "30000", "0"), Some(Sat(3_333)), "parts of a satoshi are cut");
        assert_eq!(sats("0.01", "10000000000000", "0"), None, "less than one satoshi is nothing");
        assert_eq!(sats("10000000000000", "0.01", "0"), None, "more than there is");
    }

    #[test]
    fn a_tolerance_is_a_share_of_our_own_rate() {
        let within = |quoted, tolerance: &str| within(money(quoted), money("60000"), tolerance.parse().unwrap());
        assert!(within("60600", "1") && within("59400", "1") && within("60000", "0"));
        assert!(!within("60600.01", "1") && !within("59399.99", "1") && !within("60000.01", "0"));
    }

    proptest! {
        /// What is bought never costs more than what is paid, and one satoshi more would.
        #[test]
        fn rounding_takes_less_than_a_satoshi_and_never_gives_one(
            amount in 1..=1_000_000_000_000_u64,
            rate in 1..=1_000_000_000_000_000_u64,
            premium in -5_000..=5_000_i64,
        ) {
            let price = u128::from(rate) * u128::try_from(10_000 + premium).unwrap();
            let paid = u128::from(amount) * 100_000_000 * 10_000;
            match sats_for(Money(amount), Money(rate), Premium(premium)) {
                Some(sat) => {
                    prop_assert!(u128::from(sat.0) * price <= paid);
                    prop_assert!(u128::from(sat.0 + 1) * price > paid);
                }
                None => prop_assert!(price > paid || paid / price > 2_100_000_000_000_000),
            }
        }

        #[test]
        fn what_is_written_is_read_again(amount in 1..=Money::MAX.0, premium in -5_000..=5_000_i64) {
            prop_assert_eq!(Money(amount).to_string().parse(), Ok(Money(amount)));
            prop_assert_eq!(Premium(premium).to_string().parse(), Ok(Premium(premium)));
        }
    }
}

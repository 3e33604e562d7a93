//! Answer: how an order that sells bitcoin is taken. The taker lists what it wants, sealed for the maker alone; the maker, who has
//! the bitcoin and therefore pays, bids on that at its own rate. From there on it is a trade like every other.

use serde::{Deserialize, Serialize};
use units::Unix;

use crate::fiat::{CLOCK_SKEW_SECS, FiatSide, FiatTerms};
use crate::ids::{MessageId, PartyKey};
use crate::message::Listing;
use crate::refusal::{Refusal, Rule};
use crate::terms::EscrowTerms;

/// The order that a listing answers (the `answers` object in `fiat` of kind 300).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Answers {
    /// The version of the order that the taker saw.
    pub order: MessageId,
    /// Who made it: the only one who reads the answer, and the only one who may bid on it.
    pub maker: PartyKey,
}

fn mismatch(why: &'static str) -> Result<(), Refusal> {
    Err(Refusal::new(Rule::TermsMismatch, why))
}

/// May this party bid? Nobody bids on an order that sells, and only the order's maker on what answers it.
pub(crate) fn check_bidder(terms: &FiatTerms, by: PartyKey) -> Result<(), Refusal> {
    match (terms.side, terms.answers) {
        (FiatSide::Sell, _) => mismatch("the order sells bitcoin: it is answered, not bid on"),
        (FiatSide::Buy, Some(to)) if to.maker != by => {
            Err(Refusal::new(Rule::WrongAuthor, "only the maker of an order bids on what answers it"))
        }
        (FiatSide::Buy, _) => Ok(()),
    }
}

/// The escrow terms of an answer: those of the order, with the one arbiter that the taker chose.
pub fn escrow_of(order: &EscrowTerms, arbiter: Option<PartyKey>) -> EscrowTerms {
    EscrowTerms { arbiters: arbiter.into_iter().collect(), ..order.clone() }
}

/// Is `answer`, made `at` that time, one that the order offers to take? Anything else is refused: the maker bids by itself.
pub fn fits(order: &Listing, answer: &Listing, at: Unix, now: Unix) -> Result<(), Refusal> {
    let (Some(offered), Some(wanted)) = (&order.fiat, &answer.fiat) else {
        return mismatch("it answers no order for bitcoin against money of a country");
    };
    if offered.side != FiatSide::Sell || wanted.side != FiatSide::Buy {
        return mismatch("an order that sells bitcoin is answered by one who buys it");
    }
    if wanted.currency != offered.currency {
        return mismatch("the answer is in another currency");
    }
    if wanted.min != wanted.max || !(offered.min..=offered.max).contains(&wanted.max) {
        let why = format!("the order is for {} to {} {}", offered.min, offered.max, offered.currency);
        return Err(Refusal::new(Rule::TermsMismatch, why));
    }
    if wanted.methods.len() != 1 || !offered.methods.contains(&wanted.methods[0]) {
        let why = format!("the order takes these payment methods: {}", offered.methods.join(", "));
        return Err(Refusal::new(Rule::TermsMismatch, why));
    }
    if wanted.premium_percent != offered.premium_percent || wanted.max_quote_age_secs != offered.max_quote_age_secs {
        return mismatch("the answer changes the order's premium or how long a rate stands");
    }
    let (Some(terms), Some(escrow)) = (&order.escrow, &answer.escrow) else {
        return mismatch("order and answer have to state escrow terms");
    };
    let arbiter = escrow.arbiters.first().copied();
    let chosen =
        arbiter.is_none_or(|key| terms.arbiters.contains(&key)) && arbiter.is_none() == terms.arbiters.is_empty();
    if !chosen || *escrow != escrow_of(terms, arbiter) || answer.shipping.is_some() {
        return mismatch("the answer changes the order's escrow terms");
    }
    if at.0 > now.0.saturating_add(CLOCK_SKEW_SECS) {
        return Err(Refusal::new(Rule::QuoteStale, "the answer claims to be made in the future"));
    }
    // As long as a rate stands: whoever keeps answers back could else make the maker bid when it suits.
    if at.0.saturating_add(offered.max_quote_age_secs.into()) <= now.0 {
        return Err(Refusal::new(Rule::QuoteStale, "the answer is older than the order allows"));
    }
    Ok(())
}

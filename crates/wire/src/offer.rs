//! What a BOLT12 offer or refund says. Neither is signed: only an invoice that answers one is.

use std::time::Duration;

use bitcoin::constants::ChainHash;
use lightning::offers::offer::{Amount, Offer};
use lightning::offers::refund::Refund;
use lightning::types::string::PrintableString;
use units::{Msat, Unix};

/// Longest offer that we read, in characters.
pub const OFFER_MAX: usize = 8192;

/// Why an offer tells us nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OfferError {
    /// Longer than [`OFFER_MAX`].
    #[error("longer than {OFFER_MAX} characters")]
    TooLong,
    /// Neither `lno1…` nor `lnr1…`, or one that lacks what BOLT#12 requires.
    #[error("not a BOLT12 offer or refund")]
    Unreadable,
    /// A number that no payment can have.
    #[error("amount or expiry out of range")]
    OutOfRange,
}

/// How much is offered or asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OfferAmount {
    /// Bitcoin.
    Msat(Msat),
    /// Minor units of an ISO 4217 currency.
    Currency([u8; 3], u64),
}

/// What a BOLT12 offer (`lno1…`) or refund (`lnr1…`) says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OfferFacts {
    /// Genesis hashes of the chains on which it can be paid, in the order of BOLT#12's `offer_chains`.
    pub chains: Vec<[u8; 32]>,
    /// The amount, if it names one.
    pub amount: Option<OfferAmount>,
    /// When it ceases to be good.
    pub expires_at: Option<Unix>,
    /// It demands no feature that we do not know.
    pub features_known: bool,
    /// Its description and its issuer, as far as it has them.
    pub texts: Vec<String>,
}

impl OfferFacts {
    /// It can be paid on this network.
    pub fn supports(&self, network: bitcoin::Network) -> bool {
        self.chains.contains(ChainHash::using_genesis_block_const(network).as_bytes())
    }
}

/// Reads a BOLT12 offer or refund.
pub fn parse_offer(text: &str) -> Result<OfferFacts, OfferError> {
    if text.len() > OFFER_MAX {
        return Err(OfferError::TooLong);
    }
    if let Ok(offer) = text.parse::<Offer>() {
        let amount = match offer.amount() {
            Some(Amount::Bitcoin { amount_msats }) => Some(msat(amount_msats)?),
            Some(Amount::Currency { iso4217_code, amount }) => {
                Some(OfferAmount::Currency(*iso4217_code.as_bytes(), amount))
            }
            None => None,
        };
        return Ok(OfferFacts {
            chains: offer.chains().iter().map(|chain| *chain.as_bytes()).collect(),
            amount,
            expires_at: expiry(offer.absolute_expiry()),
            features_known: !offer.offer_features().requires_unknown_bits(),
            texts: texts([offer.description(), offer.issuer()]),
        });
    }
    let refund: Refund = text.parse().map_err(|_| OfferError::Unreadable)?;
    Ok(OfferFacts {
        chains: vec![*refund.chain().as_bytes()],
        amount: Some(msat(refund.amount_msats())?),
        expires_at: expiry(refund.absolute_expiry()),
        features_known: !refund.features().requires_unknown_bits(),
        texts: texts([Some(refund.description()), refund.issuer()]),
    })
}

fn texts(of: [Option<PrintableString<'_>>; 2]) -> Vec<String> {
    // As it stands there: what is made printable is for people.
    of.into_iter().flatten().map(|text| text.0.to_owned()).collect()
}

fn msat(amount: u64) -> Result<OfferAmount, OfferError> {
    let amount = Msat(amount);
    Msat::ZERO.checked_add(amount).map(OfferAmount::Msat).map_err(|_| OfferError::OutOfRange)
}

fn expiry(at: Option<Duration>) -> Option<Unix> {
    at.map(|since| Unix(since.as_secs()))
}

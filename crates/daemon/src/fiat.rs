//! Orders for bitcoin against money of a country: listing and taking them, and the rate that both sides hold each other to.

use trade::{
    Currency, FiatBid, FiatSide, FiatTerms, Listing, Message, MessageId, Money, PayeeState, PayerState, Trade, TradeId,
    fiat,
};
use units::Unix;
use wire::filter::Filter;

use crate::api::fiat::{FiatOrderRequest, FiatTakeRequest, RateView};
use crate::api::types::BidRequest;
use crate::clock;
use crate::desk::DeskError;
use crate::rates::{NoRate, Rates};
use crate::running::Running;

/// A bid whose rate we do not share.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the bid quotes {quoted} {currency} for a bitcoin, the market says {ours}: more than {tolerance} % apart")]
pub struct RateApart {
    currency: Currency,
    quoted: Money,
    ours: Money,
    tolerance: trade::Premium,
}

/// Why a bid's rate is not good enough to accept.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadRate {
    /// It is too far from ours.
    #[error(transparent)]
    Apart(#[from] RateApart),
    /// We have none to compare it with.
    #[error(transparent)]
    None(#[from] NoRate),
}

/// Is the rate of a bid about ours?
pub(crate) fn check_rate(rates: &Rates, bid: &FiatBid, now: Unix) -> Result<(), BadRate> {
    let ours = rates.rate(bid.currency, now)?.price;
    let tolerance = rates.tolerance();
    if fiat::within(bid.rate, ours, tolerance) {
        return Ok(());
    }
    Err(RateApart { currency: bid.currency, quoted: bid.rate, ours, tolerance }.into())
}

/// What a bid that waits for our answer quotes, where it is one on an order of ours.
pub(crate) fn quote_of(trade: &Trade) -> Option<&FiatBid> {
    match trade {
        Trade::Payee(payee) if matches!(payee.state, PayeeState::Bid { .. }) => payee.dossier.opening.fiat.as_ref(),
        Trade::Payee(_) | Trade::Payer(_) | Trade::Arbiter(_) => None,
    }
}

/// What to do now in a trade of bitcoin against money, where that is another thing than with goods.
pub(crate) fn next(trade: &Trade) -> Option<String> {
    let bid = trade.dossier().opening.fiat.as_ref()?;
    let money = format!("{} {} by {}", bid.amount, bid.currency, bid.method);
    let words = match trade {
        Trade::Payee(payee) => match payee.state {
            PayeeState::Bid { .. } => {
                format!("Accept the bid before its rate is too old, or reject it: you send {money}")
            }
            PayeeState::Held => {
                format!("The bitcoin is locked. Ask in `souk chat` where to, send {money}, then: souk fiat sent")
            }
            PayeeState::Shipped => {
                "Wait for the other side to say that the money is there; dispute if it does not before the warning"
                    .to_owned()
            }
            _ => return None,
        },
        Trade::Payer(payer) => match payer.state {
            PayerState::Bid { .. } => {
                "Wait for the maker to accept, or cancel; the bid lapses with its rate".to_owned()
            }
            PayerState::Held => format!("Say in `souk chat` where {money} goes to, and wait for it"),
            PayerState::Shipped => format!(
                "Look whether {money} is on your account, from the one you trade with and for good. Then: souk fiat received. Else \
                 dispute"
            ),
            PayerState::Released => "Wait: the other side's node collects the bitcoin".to_owned(),
            _ => return None,
        },
        Trade::Arbiter(_) => return None,
    };
    Some(words)
}

impl Running {
    /// Lists an order: we buy bitcoin and give money of a country. Returns the listing's id once a board has it.
    pub async fn list_fiat(&self, request: FiatOrderRequest) -> Result<MessageId, DeskError> {
        let fiat = FiatTerms {
            side: FiatSide::Buy,
            currency: request.currency,
            min: request.min,
            max: request.max,
            premium_percent: request.premium_percent,
            methods: request.methods,
            max_quote_age_secs: request.max_quote_age_secs,
        };
        // Without a rate of our own we could accept no bid.
        let rate = self.rates.rate(fiat.currency, clock::unix()).map_err(BadRate::None)?;
        let nothing = || {
            DeskError::Usage("at the market price that is less than a satoshi, or more bitcoin than there is".into())
        };
        let price = fiat::sats_for(fiat.max, rate.price, fiat.premium_percent).ok_or_else(nothing)?;
        let range = if fiat.min == fiat.max { fiat.max.to_string() } else { format!("{} to {}", fiat.min, fiat.max) };
        let listing = Listing {
            d: crate::market::fresh_name()?,
            product_name: format!("buys bitcoin for {range} {}", fiat.currency),
            description: request.description,
            price,
            category: None,
            storage_link: None,
            shipping: None,
            escrow: Some(request.escrow),
            fiat: Some(fiat),
        };
        self.desk()?.list(listing, request.stock).await
    }

    /// Takes an order: we sell bitcoin at the market price that our own sources give. Returns the new trade.
    pub async fn take_fiat(&self, request: FiatTakeRequest) -> Result<TradeId, DeskError> {
        let filter = Filter { ids: Some(vec![request.listing.0]), ..Filter::default() };
        let listing = self.find_listing(request.listing, filter).await?;
        let Message::Listing(Listing { fiat: Some(terms), .. }) = &listing.message else {
            return Err(DeskError::Usage("that is no order for bitcoin against money of a country: bid on it".into()));
        };
        let rate = self.rates.rate(terms.currency, clock::unix()).map_err(BadRate::None)?;
        let method = match (&request.method, terms.methods.as_slice()) {
            (Some(method), _) => method.clone(),
            (None, [only]) => only.clone(),
            (None, all) => return Err(DeskError::Usage(format!("say by which method: {}", all.join(", ")))),
        };
        let nothing = || {
            DeskError::Usage("at the market price that is less than a satoshi, or more bitcoin than there is".into())
        };
        let sat = fiat::sats_for(request.amount, rate.price, terms.premium_percent).ok_or_else(nothing)?;
        let quote =
            FiatBid { currency: terms.currency, amount: request.amount, method, rate: rate.price, quoted_at: rate.at };
        let bid = BidRequest {
            listing: request.listing,
            quantity: 1,
            amount_sat: Some(sat.0),
            arbiter: request.arbiter,
            payer_bond_sat: None,
            message: None,
            timeout_hours: None,
            pay_by_hand: request.pay_by_hand,
            max_arbiter_fee_sat: request.max_arbiter_fee_sat,
        };
        self.desk()?.bid(bid, Some(quote), listing).await
    }

    /// The market price that we would quote now.
    pub fn rate(&self, currency: Currency) -> Result<RateView, BadRate> {
        let rate = self.rates.rate(currency, clock::unix())?;
        Ok(RateView { currency, price: rate.price, at: rate.at, sources: rate.sources })
    }
}

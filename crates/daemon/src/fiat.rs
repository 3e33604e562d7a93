//! Orders for bitcoin against money of a country: listing and taking them, and the rate that both sides hold each other to.

use trade::{
    Answers, Currency, Envelope, FiatBid, FiatSide, FiatTerms, Listing, Message, MessageId, Money, PayeeState,
    PayerState, Trade, TradeId, answer, fiat,
};
use units::{Sat, Unix};
use wire::filter::Filter;

use crate::api::fiat::{FiatOrderRequest, FiatTakeRequest, RateView};
use crate::api::types::BidRequest;
use crate::clock;
use crate::desk::DeskError;
use crate::desk::fiat::Consent;
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
    let answered = trade.dossier().opening.order.is_some();
    let words = match trade {
        Trade::Payee(payee) => match payee.state {
            PayeeState::Bid { .. } if answered => {
                "Wait: your daemon accepts the bid when the arbiter serves, if the price is about yours".to_owned()
            }
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
            PayerState::Bid { .. } if answered => {
                "Wait for the taker to accept, or cancel; the bid lapses with its rate".to_owned()
            }
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

fn nothing() -> DeskError {
    DeskError::Usage("at the market price that is less than a satoshi, or more bitcoin than there is".into())
}

impl Running {
    /// Lists an order: we buy or sell bitcoin for money of a country. Returns the listing's id once a board has it.
    pub async fn list_fiat(&self, request: FiatOrderRequest) -> Result<MessageId, DeskError> {
        let fiat = FiatTerms {
            side: request.side,
            currency: request.currency,
            min: request.min,
            max: request.max,
            premium_percent: request.premium_percent,
            methods: request.methods,
            max_quote_age_secs: request.max_quote_age_secs,
            answers: None,
        };
        // Without a rate of our own we could neither accept a bid nor make one.
        let rate = self.rates.rate(fiat.currency, clock::unix()).map_err(BadRate::None)?;
        let price = fiat::sats_for(fiat.max, rate.price, fiat.premium_percent).ok_or_else(nothing)?;
        let range = if fiat.min == fiat.max { fiat.max.to_string() } else { format!("{} to {}", fiat.min, fiat.max) };
        let does = match fiat.side {
            FiatSide::Buy => "buys",
            FiatSide::Sell => "sells",
        };
        let consent = Consent { max_arbiter_fee: Sat(request.max_arbiter_fee_sat), pay_by_hand: request.pay_by_hand };
        check_payer(fiat.side == FiatSide::Sell, consent)?;
        let listing = Listing {
            d: crate::market::fresh_name()?,
            product_name: format!("{does} bitcoin for {range} {}", fiat.currency),
            description: request.description,
            price,
            category: None,
            storage_link: None,
            shipping: None,
            escrow: Some(request.escrow),
            fiat: Some(fiat),
        };
        let desk = self.desk()?;
        if request.side == FiatSide::Sell {
            let stall = TradeId::of_stall(self.identity, &listing.d);
            tokio::task::block_in_place(|| consent.keep(&self.store, stall))?;
        }
        desk.list(listing, request.stock).await
    }

    /// Takes an order at the market price that our own sources give: bids on one that buys, answers one that sells. Returns the
    /// trade; that of an answer is there as soon as the maker bids.
    pub async fn take_fiat(&self, request: FiatTakeRequest) -> Result<TradeId, DeskError> {
        let filter = Filter { ids: Some(vec![request.listing.0]), ..Filter::default() };
        let order = self.find_listing(request.listing, filter).await?;
        let Message::Listing(Listing { fiat: Some(terms), .. }) = &order.message else {
            return Err(DeskError::Usage("that is no order for bitcoin against money of a country: bid on it".into()));
        };
        let rate = self.rates.rate(terms.currency, clock::unix()).map_err(BadRate::None)?;
        let method = match (&request.method, terms.methods.as_slice()) {
            (Some(method), _) => method.clone(),
            (None, [only]) => only.clone(),
            (None, all) => return Err(DeskError::Usage(format!("say by which method: {}", all.join(", ")))),
        };
        let sat = fiat::sats_for(request.amount, rate.price, terms.premium_percent).ok_or_else(nothing)?;
        if terms.side == FiatSide::Sell {
            return self.answer(&request, method, sat, order).await;
        }
        let quote =
            FiatBid { currency: terms.currency, amount: request.amount, method, rate: rate.price, quoted_at: rate.at };
        let bid = BidRequest {
            amount_sat: Some(sat.0),
            arbiter: request.arbiter,
            pay_by_hand: request.pay_by_hand,
            max_arbiter_fee_sat: request.max_arbiter_fee_sat,
            ..BidRequest::on(request.listing)
        };
        self.desk()?.bid(bid, Some(quote), order).await
    }

    /// Tells the maker of an order that sells what we want of it: a listing of ours for it alone.
    async fn answer(
        &self,
        request: &FiatTakeRequest,
        method: String,
        price: Sat,
        order: Envelope,
    ) -> Result<TradeId, DeskError> {
        let consent = Consent { max_arbiter_fee: Sat(request.max_arbiter_fee_sat), pay_by_hand: request.pay_by_hand };
        check_payer(false, consent)?;
        let maker = order.author;
        let Message::Listing(offered) = order.message else { return Err(no_terms()) };
        let (Some(terms), Some(escrow)) = (&offered.fiat, &offered.escrow) else { return Err(no_terms()) };
        if maker == self.identity {
            return Err(DeskError::Usage("the order is your own".into()));
        }
        let listing = Listing {
            d: crate::market::fresh_name()?,
            product_name: format!("buys bitcoin for {} {}", request.amount, terms.currency),
            description: String::new(),
            price,
            category: None,
            storage_link: None,
            shipping: None,
            escrow: Some(answer::escrow_of(escrow, request.arbiter.or(escrow.arbiters.first().copied()))),
            fiat: Some(FiatTerms {
                side: FiatSide::Buy,
                min: request.amount,
                max: request.amount,
                methods: vec![method],
                answers: Some(Answers { order: request.listing, maker }),
                ..terms.clone()
            }),
        };
        let now = clock::unix();
        answer::fits(&offered, &listing, now, now)?;
        let id = self.desk()?.list(listing, 1).await?;
        // The maker bids under the key of its order, so the trade has its name before it is there.
        Ok(TradeId::of(id, maker))
    }

    /// The market price that we would quote now.
    pub fn rate(&self, currency: Currency) -> Result<RateView, BadRate> {
        let rate = self.rates.rate(currency, clock::unix())?;
        Ok(RateView { currency, price: rate.price, at: rate.at, sources: rate.sources })
    }
}

fn no_terms() -> DeskError {
    DeskError::Usage("the order states no escrow terms, so its money could not be locked".into())
}

/// Only who sells bitcoin locks it and pays the arbiter.
fn check_payer(pays: bool, consent: Consent) -> Result<(), DeskError> {
    if pays || (consent.max_arbiter_fee == Sat::ZERO && !consent.pay_by_hand) {
        return Ok(());
    }
    let why = "who buys bitcoin locks none and pays no arbiter: leave --max-arbiter-fee and --ask-before-paying out";
    Err(DeskError::Usage(why.into()))
}

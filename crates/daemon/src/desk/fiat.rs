//! Bids on orders for bitcoin against money of a country. What others bid at a rate that is not ours is turned down, and never
//! accepted. Of orders that sell, both sides move by themselves: the maker bids on what answers its order, and takes the bid back
//! when the price moves; the taker accepts what quotes about its own price. What is to be done follows from the log alone.

use serde::{Deserialize, Serialize};
use trade::{
    BidOrder, Command, Envelope, FiatBid, FiatTerms, Input, LegId, Listing, Message, PartyKey, Rule, Trade, TradeId,
    fiat, secret,
};
use units::{Sat, Unix};

use super::request::INVOICE_EXPIRY_SECS;
use super::{DeskError, Loop};
use crate::clock;
use crate::config::Transport;
use crate::fiat::{BadRate, check_rate, quote_of};
use crate::store::{Store, StoreError};

/// Most answers that wait for the next look at them.
const ANSWERS_MAX: usize = 64;
/// How long a bid on an answer waits at most, in hours; its rate ends before.
const BID_HOURS: u16 = 24;
/// Where is kept what our user agreed to when it listed an order that sells: by stall.
const CONSENT: &str = "fiat/consent/";

/// What our user agreed to for every trade on an order that sells; everybody may read the order, and nobody this.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Consent {
    /// The most that the arbiter may charge.
    pub(crate) max_arbiter_fee: Sat,
    /// Lock nothing before our user says so.
    pub(crate) pay_by_hand: bool,
}

impl Consent {
    /// Durable on return: kept before the order is out.
    pub(crate) fn keep(self, store: &Store, stall: TradeId) -> Result<(), DeskError> {
        Ok(store.put(&format!("{CONSENT}{stall}"), &serde_json::to_vec(&self)?)?)
    }

    /// Where it was lost (a machine was restored from its seed), our user is asked each time.
    fn of(store: &Store, stall: TradeId) -> Result<Consent, StoreError> {
        let kept = store.get(&format!("{CONSENT}{stall}"))?.and_then(|json| serde_json::from_slice(&json).ok());
        Ok(kept.unwrap_or(Consent { max_arbiter_fee: Sat::ZERO, pay_by_hand: true }))
    }
}

/// Until when an answer may be bid on, by its own words.
fn stands_until(answer: &Envelope) -> Unix {
    let Message::Listing(Listing { fiat: Some(wanted), .. }) = &answer.message else { return answer.at };
    Unix(answer.at.0.saturating_add(wanted.max_quote_age_secs.into()))
}

impl Loop {
    /// May our user accept this bid? Any bid on goods, and one that quotes about our own rate.
    pub(super) fn check_quote(&self, trade: TradeId) -> Result<(), BadRate> {
        match self.desk.trade(trade).and_then(quote_of) {
            Some(bid) => check_rate(&self.parts.rates, bid, clock::unix()),
            None => Ok(()),
        }
    }

    /// The key that lists: the identity, and for an answer one that was never used, as for a bid.
    pub(super) fn lister(&mut self, listing: &Listing) -> Result<PartyKey, DeskError> {
        if listing.answers().is_none() {
            return Ok(self.parts.keyring.identity());
        }
        let me = self.parts.keyring.fresh()?;
        self.listen_for(&me);
        Ok(me)
    }

    /// Nothing of a trade whose listing no board has is public, whatever the configuration says.
    pub(super) fn transport_of(&self, stream: TradeId) -> Transport {
        let sealed = match self.desk.trade(stream) {
            Some(trade) => trade.dossier().opening.order.is_some(),
            None => self.desk.stall(stream).is_some_and(|stall| stall.listing.answers().is_some()),
        };
        if sealed { Transport::Sealed } else { self.parts.transport }
    }

    /// Once a second: what no rate of ours supports any more is turned down or taken back, then answers are bid on and bids on our
    /// answers accepted.
    pub(super) async fn move_fiat_orders(&mut self) -> Result<(), DeskError> {
        self.turn_down_bad_rates()?;
        self.take_back_bids()?;
        self.bid_on_answers().await?;
        self.accept_bids_on_answers().await
    }

    /// Turns bids down whose rate is not ours, so that their takers need not wait. Without a rate of our own they wait for our user.
    fn turn_down_bad_rates(&mut self) -> Result<(), DeskError> {
        let waiting = self.desk.open_trades().filter_map(|trade| Some((trade.id(), quote_of(trade)?)));
        let apart: Vec<_> = waiting
            .filter_map(|(id, bid)| match check_rate(&self.parts.rates, bid, clock::unix()) {
                Err(BadRate::Apart(why)) => Some((id, why)),
                Err(BadRate::None(_)) | Ok(()) => None,
            })
            .collect();
        for (trade, why) in apart {
            tracing::info!(%trade, %why, "a bid is turned down");
            self.take_quietly(trade, &Input::Command(Command::Withdraw { reason: why.to_string() }))?;
        }
        Ok(())
    }

    /// A bid of ours on an answer costs its taker nothing to leave open: it stands only while our own rate still says the same, and
    /// while there is something left to sell.
    fn take_back_bids(&mut self) -> Result<(), DeskError> {
        let open = self.desk.open_trades().filter(|trade| trade.offers_order());
        let moved: Vec<_> = open.filter_map(|trade| Some((trade.id(), self.no_longer_offered(trade)?))).collect();
        for (trade, reason) in moved {
            tracing::info!(%trade, %reason, "a bid on an answer is taken back");
            self.take_quietly(trade, &Input::Command(Command::Withdraw { reason }))?;
        }
        Ok(())
    }

    fn no_longer_offered(&self, trade: &Trade) -> Option<String> {
        if self.desk.order_left(trade).is_none_or(|left| left == 0) {
            return Some("the order is taken or withdrawn".to_owned());
        }
        let bid = trade.dossier().opening.fiat.as_ref()?;
        match check_rate(&self.parts.rates, bid, clock::unix()) {
            Ok(()) => None,
            // What our sources say is for us alone.
            Err(_) => Some("the price has moved".to_owned()),
        }
    }

    /// Now and then: what has lapsed need not be shown among our listings any more. It is bid on by nobody in any case.
    pub(super) fn close_lapsed_answers(&mut self) -> Result<(), DeskError> {
        let lapsed: Vec<_> = self.desk.lapsed_answers(self.now()).collect();
        for stall in lapsed {
            self.take_quietly(stall, &Input::Command(Command::Delist { reason: "lapsed".to_owned() }))?;
        }
        Ok(())
    }

    /// A listing came sealed, for us alone. True when it is done with: what answers no order that we could fill now never will.
    pub(super) fn hear_answer(&mut self, answer: Envelope) -> bool {
        let known = self.desk.trade(TradeId::of(answer.id, self.parts.keyring.identity())).is_some();
        if known || !matches!(&answer.message, Message::Listing(listing) if listing.answers().is_some()) {
            return true;
        }
        if let Err(refusal) = self.check_answer(&answer) {
            tracing::debug!(rule = refusal.rule.code(), why = %refusal.why, "an answer to an order is refused");
            // Somebody may have read our order before the board told us that it has it.
            let early = refusal.rule == Rule::ListingClosed && stands_until(&answer) > clock::unix();
            return refusal.rule != Rule::TooMany && !early;
        }
        let waits = self.answers.iter().any(|waiting| waiting.id == answer.id);
        if !waits && (self.answers.len() >= ANSWERS_MAX || self.opens_too_many(&answer)) {
            return false;
        }
        if !waits {
            self.answers.push(answer);
        }
        true
    }

    fn check_answer(&self, answer: &Envelope) -> Result<(), trade::Refusal> {
        self.desk.check_answer(answer, self.parts.keyring.identity(), self.now())
    }

    /// Bids on the answers that came. One that cannot be bid on now, because there is no price or the node is behind, waits until it
    /// lapses.
    async fn bid_on_answers(&mut self) -> Result<(), DeskError> {
        for answer in std::mem::take(&mut self.answers) {
            match self.bid_on(&answer).await {
                Ok(()) => {}
                Err(DeskError::Refused(refusal)) => {
                    tracing::info!(answer = %answer.id, why = %refusal.why, "no bid on an answer to an order");
                }
                Err(error @ (DeskError::Rate(_) | DeskError::Node(_))) => {
                    tracing::warn!(answer = %answer.id, %error, "an answer to an order waits");
                    self.answers.push(answer);
                }
                Err(fatal) => return Err(fatal),
            }
        }
        Ok(())
    }

    async fn bid_on(&mut self, answer: &Envelope) -> Result<(), DeskError> {
        self.check_answer(answer)?;
        let Message::Listing(Listing { fiat: Some(wanted), escrow: Some(escrow), .. }) = &answer.message else {
            return Ok(());
        };
        let order = wanted.answers.and_then(|to| self.desk.stall_of(to.order));
        let Some((stall, name)) = order.map(|(id, stall)| (id, stall.listing.product_name.clone())) else {
            return Ok(());
        };
        let Some((amount, quote)) = self.quote(wanted)? else { return Ok(()) };
        let consent = tokio::task::block_in_place(|| Consent::of(&self.parts.store, stall))?;
        let me = self.parts.keyring.identity();
        let trade = TradeId::of(answer.id, me);
        let hash = |tranche| secret::derive(&self.parts.escrow_key, trade, LegId::price(0, tranche)).hash();
        let command = Command::Bid(Box::new(BidOrder {
            me,
            listing: answer.clone(),
            amount,
            payer_bond: escrow.min_payer_bond,
            arbiter: escrow.arbiters.first().copied(),
            payment_hashes: (0..escrow.tranches).map(hash).collect(),
            payee_node: None,
            message: None,
            timeout_hours: BID_HOURS,
            quantity: 1,
            pay_by_hand: consent.pay_by_hand,
            max_arbiter_fee: consent.max_arbiter_fee,
            fiat: Some(quote),
        }));
        self.check_height(&command).await?;
        self.remember_name(answer.id, &name)?;
        self.take(trade, &Input::Command(command))??;
        Ok(())
    }

    /// What the amount of an answer makes at our own rate; none where that is no amount of bitcoin.
    fn quote(&self, wanted: &FiatTerms) -> Result<Option<(Sat, FiatBid)>, BadRate> {
        let rate = self.parts.rates.rate(wanted.currency, clock::unix())?;
        let Some(sat) = fiat::sats_for(wanted.max, rate.price, wanted.premium_percent) else { return Ok(None) };
        let method = wanted.methods.first().cloned().unwrap_or_default();
        let (currency, amount) = (wanted.currency, wanted.max);
        Ok(Some((sat, FiatBid { currency, amount, method, rate: rate.price, quoted_at: rate.at })))
    }

    /// Our user agreed when it answered: a bid at about our own price is accepted, any other was turned down before.
    async fn accept_bids_on_answers(&mut self) -> Result<(), DeskError> {
        let fits = |trade: &&Trade| {
            let of_answer = trade.dossier().opening.order.is_some();
            let quote = quote_of(trade).filter(|_| of_answer);
            quote.is_some_and(|bid| check_rate(&self.parts.rates, bid, clock::unix()).is_ok())
        };
        let waiting: Vec<_> = self.desk.open_trades().filter(fits).map(Trade::id).collect();
        let command =
            Command::Accept { shipping_time_days: None, terms: None, invoice_expiry_secs: INVOICE_EXPIRY_SECS };
        if waiting.is_empty() {
            return Ok(());
        }
        if let Err(error) = self.check_height(&command).await {
            tracing::warn!(%error, "bids on our answers wait");
            return Ok(());
        }
        for trade in waiting {
            self.take_quietly(trade, &Input::Command(command.clone()))?;
        }
        Ok(())
    }
}

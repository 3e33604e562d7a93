//! The payer: asks an arbiter, bids, checks invoices, locks in order, and releases or disputes.

mod due;
mod judge;

use units::{Now, PaymentHash, Unix};

use crate::dossier::Dossier;
use crate::event::{Event, Opening, Outcome, Reveal, Role, Step, Why};
use crate::input::Envelope;
use crate::leg::{Leg, LegId, PaidState};
use crate::message::{AppointmentRequest, Bid, Message};
use crate::refusal::{Refusal, Rule};
use crate::role::{self};

/// What the payer waits for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PayerState {
    /// The arbiter was asked to serve; the bid is made when it does.
    Appointing {
        /// When we give up.
        until: Unix,
    },
    /// We bid (or countered); the payee has to answer.
    Bid {
        /// When we give up.
        until: Unix,
    },
    /// The payee named another price; our user has to answer.
    Countered {
        /// When we give up.
        until: Unix,
    },
    /// The payee accepted and its invoices are right; legs are being locked, one after the other.
    Locking {
        /// When everything has to be locked.
        until: Unix,
    },
    /// All that we can see is locked; the payee has to ship.
    Held,
    /// The payee says that the goods are under way; we have to confirm them.
    Shipped,
    /// The arbiter has to rule.
    Disputed {
        /// Who asked it first, as far as we know.
        by: Role,
    },
    /// We gave the secrets of the price to the payee; it has to collect.
    Released,
    /// The arbiter ruled; legs go where it said.
    Ruled,
    /// Everything goes back as far as it still can.
    Winding {
        /// Why.
        why: Why,
    },
    /// It is over.
    Closed {
        /// How it ended.
        outcome: Outcome,
    },
}

/// A re-lock under way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PayerRelock {
    /// The round that is being locked.
    pub round: u8,
    /// How far it is.
    pub stage: PayerRelockStage,
}

impl PayerRelock {
    /// When its legs have to be locked, once that runs.
    pub(crate) fn until(&self) -> Option<Unix> {
        match self.stage {
            PayerRelockStage::Locking { until } => Some(until),
            PayerRelockStage::Appointing | PayerRelockStage::Offered | PayerRelockStage::Confirmed => None,
        }
    }
}

/// How far a re-lock is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PayerRelockStage {
    /// The arbiter was asked for new bonds.
    Appointing,
    /// The payee has to accept.
    Offered,
    /// New legs are being locked.
    Locking {
        /// When everything has to be locked.
        until: Unix,
    },
    /// We confirmed; the payee has to fail the old legs and say so.
    Confirmed,
}

/// One trade, seen by its payer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Payer {
    /// What we know.
    pub dossier: Dossier,
    /// What we wait for.
    pub state: PayerState,
    /// A re-lock under way.
    pub relock: Option<PayerRelock>,
}

use PayerState as S;

impl Payer {
    pub(crate) fn open(opening: &Opening) -> Payer {
        let until = role::bid_until(opening);
        let state = if opening.arbiter.is_some() { S::Appointing { until } } else { S::Bid { until } };
        Payer { dossier: Dossier::open(opening), state, relock: None }
    }

    /// The words that follow the opening: the request to the arbiter, or the bid itself.
    pub(crate) fn first_words(&self, now: Now) -> Event {
        match self.state {
            S::Appointing { .. } => self.request(0, &self.dossier.opening.payment_hashes, now),
            _ => self.bid(0, &self.dossier.opening.payment_hashes, now),
        }
    }

    pub(crate) fn state_name(&self) -> &'static str {
        match self.state {
            S::Appointing { .. } => "Appointing",
            S::Bid { .. } => "Bid",
            S::Countered { .. } => "Countered",
            S::Locking { .. } => "Locking",
            S::Held => "Held",
            S::Shipped => "Shipped",
            S::Disputed { .. } => "Disputed",
            S::Released => "Released",
            S::Ruled => "Ruled",
            S::Winding { .. } => "Winding",
            S::Closed { .. } => "Closed",
        }
    }

    /// Does this trade take one of the stock of an order of ours that sells bitcoin? What the payee paid for in money is sold,
    /// whatever becomes of the bitcoin.
    pub(crate) fn holds_stock(&self) -> bool {
        let d = &self.dossier;
        let paid_for = || d.said(Role::Payee, Step::Shipment(0)).is_some();
        d.opening.order.is_some()
            && match &self.state {
                S::Appointing { .. } | S::Bid { .. } | S::Countered { .. } => false,
                S::Locking { .. } | S::Held | S::Shipped | S::Disputed { .. } | S::Released | S::Ruled => true,
                S::Winding { .. } => paid_for(),
                S::Closed { outcome } => paid_for() || *outcome == Outcome::Settled,
            }
    }

    /// The payee gave the money back in words, and its node still holds the price: an arbiter that did not hear the words may yet
    /// release it.
    pub(super) fn unreturned(&self) -> bool {
        let held = |p: &crate::leg::Paid| p.leg.leg == Leg::Price && p.state == PaidState::InFlight;
        let word = matches!(self.state, S::Winding { why: Why::Refunded | Why::MutualCancel });
        word && self.dossier.locked && self.dossier.paid.iter().any(held)
    }

    // ---- words -------------------------------------------------------------------------------------------------

    fn bid_content(&self, round: u8, hashes: &[PaymentHash]) -> Bid {
        let opening = &self.dossier.opening;
        Bid {
            listing: opening.listing,
            amount: self.dossier.price,
            payer_bond: opening.payer_bond,
            payment_hashes: hashes.to_vec(),
            arbiter: opening.arbiter,
            message: opening.message.clone().filter(|_| round == 0),
            payment_timeout_hours: opening.timeout_hours,
            round,
            quantity: opening.quantity,
            fiat: opening.fiat.clone().filter(|_| round == 0),
        }
    }

    fn request(&self, round: u8, hashes: &[PaymentHash], now: Now) -> Event {
        let opening = &self.dossier.opening;
        let terms = opening.terms.clone();
        let secrets = if terms.arbiter_release { self.price_secrets(round) } else { Vec::new() };
        let message = Message::AppointmentRequest(AppointmentRequest {
            trade: opening.trade,
            listing: opening.listing,
            payee: opening.payee,
            bid: self.bid_content(round, hashes),
            terms,
            price_secrets: Vec::new(),
        });
        self.dossier.say(Step::AppointmentRequest(round), message, now, [(Role::Arbiter, secrets)])
    }

    fn bid(&self, round: u8, hashes: &[PaymentHash], now: Now) -> Event {
        let message = Message::Bid(self.bid_content(round, hashes));
        self.dossier.say(Step::Bid(round), message, now, [(Role::Payee, Vec::new())])
    }

    fn price_secrets(&self, round: u8) -> Vec<Reveal> {
        (0..self.dossier.terms().tranches).map(|t| Reveal::Derive(LegId::price(round, t))).collect()
    }

    fn confirmation(&self) -> Result<crate::ids::MessageId, Refusal> {
        self.dossier.confirmation().ok_or_else(|| {
            Refusal::new(Rule::OutOfOrder, "our payment confirmation is not out yet; try again in a moment")
        })
    }

    // ---- folding -----------------------------------------------------------------------------------------------

    /// Folds an event; none when it does not fit.
    pub(crate) fn apply(mut self, event: &Event) -> Option<Payer> {
        if !self.dossier.fold(event) {
            return None;
        }
        self.state = match (self.state.clone(), event) {
            (state, Event::MessageOrdered(outgoing)) => self.fold_ordered(state, outgoing.step)?,
            (state, Event::MessageTaken { step, envelope }) => self.fold_taken(state, *step, envelope)?,
            (S::Locking { .. }, Event::Locked { round: 0, .. }) => S::Held,
            (state, Event::Locked { round, .. }) => {
                let relock = self.relock.as_mut().filter(|r| r.round == *round)?;
                relock.stage = PayerRelockStage::Confirmed;
                state
            }
            (state, Event::RelockDropped { round }) => {
                self.relock.take_if(|r| r.round == *round)?;
                state
            }
            (S::Closed { .. }, Event::Unwound { .. }) => return None,
            (_, Event::Unwound { why }) => {
                self.relock = None;
                S::Winding { why: *why }
            }
            (S::Released | S::Ruled | S::Winding { .. }, Event::Closed { outcome }) => S::Closed { outcome: *outcome },
            (_, Event::Closed { .. } | Event::AcceptOrdered { .. }) => return None,
            (state, _) => state,
        };
        Some(self)
    }

    fn fold_ordered(&mut self, state: PayerState, step: Step) -> Option<PayerState> {
        Some(match (state, step) {
            (S::Appointing { until }, Step::Bid(0)) => S::Bid { until },
            (S::Countered { until }, Step::Counter(_)) => S::Bid { until },
            (S::Held | S::Shipped, Step::Dispute) => S::Disputed { by: Role::Payer },
            (S::Disputed { by }, Step::Dispute) => S::Disputed { by },
            (S::Winding { .. }, Step::Dispute) if self.unreturned() => S::Disputed { by: Role::Payer },
            (S::Held | S::Shipped | S::Disputed { .. } | S::Ruled, Step::Receipt) => {
                self.dossier.released_round = Some(self.dossier.round);
                S::Released
            }
            (S::Shipped, Step::AppointmentRequest(round)) if round > 0 => {
                self.relock = Some(PayerRelock { round, stage: PayerRelockStage::Appointing });
                S::Shipped
            }
            (state, Step::Bid(round)) if round > 0 => {
                self.relock = Some(PayerRelock { round, stage: PayerRelockStage::Offered });
                state
            }
            (_, Step::Dispute | Step::Receipt) => return None,
            (state, _) => state,
        })
    }

    fn fold_taken(&mut self, state: PayerState, step: Step, envelope: &Envelope) -> Option<PayerState> {
        let until = Dossier::not_after(&envelope.invoices);
        Some(match (state, step) {
            (S::Bid { until }, Step::Counter(_)) => S::Countered { until },
            (S::Bid { .. } | S::Countered { .. }, Step::Acceptance(0)) => S::Locking { until },
            (state, Step::Acceptance(round)) => {
                let relock = self.relock.as_mut().filter(|r| r.round == round)?;
                relock.stage = PayerRelockStage::Locking { until };
                state
            }
            (S::Held, Step::Shipment(0)) => S::Shipped,
            (state, Step::Shipment(round)) => {
                if round > self.dossier.round {
                    self.dossier.round = round;
                    self.relock.take_if(|r| r.round == round);
                }
                state
            }
            (S::Held | S::Shipped, Step::Dispute) => S::Disputed { by: Role::Payee },
            (S::Held | S::Shipped | S::Disputed { .. }, Step::Ruling) => S::Ruled,
            (state, _) => state,
        })
    }
}

fn to_payee_and_arbiter() -> [(Role, Vec<Reveal>); 2] {
    [(Role::Payee, Vec::new()), (Role::Arbiter, Vec::new())]
}

//! The payee: accepts, issues hold invoices, ships only what is safely locked, settles when a secret arrives.

mod due;
mod judge;

use units::Unix;

use crate::dossier::Dossier;
use crate::event::{Event, Opening, Outcome, Reveal, Role, Step, Why};
use crate::leg::Leg;
use crate::refusal::{Refusal, Rule};
use crate::role::{self};

/// What the payee waits for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PayeeState {
    /// A bid waits for our user (and, when an arbiter is named, for its appointment).
    Bid {
        /// When it lapses.
        until: Unix,
    },
    /// We named another price; the payer has to answer.
    Countered {
        /// When the bid lapses.
        until: Unix,
    },
    /// We accept: our node is making the invoices.
    Accepted(Accepting),
    /// The payer has our invoices; legs are being locked.
    Locking {
        /// When everything has to be locked.
        until: Unix,
    },
    /// Every leg is locked; our user has to ship.
    Held,
    /// The goods are under way; the payer has to release.
    Shipped,
    /// The arbiter has to rule.
    Disputed {
        /// Who asked it first, as far as we know.
        by: Role,
    },
    /// The payer confirmed receipt; what it gave secrets for is being settled.
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

/// What our user accepted with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Accepting {
    /// Shipping time in days.
    pub shipping_time_days: Option<u16>,
    /// Further terms.
    pub terms: Option<String>,
    /// How long the invoices may be paid, in seconds.
    pub invoice_expiry_secs: u32,
    /// When everything has to be locked.
    pub until: Unix,
}

/// A re-lock under way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PayeeRelock {
    /// The round that is being locked.
    pub round: u8,
    /// How far it is.
    pub stage: PayeeRelockStage,
}

impl PayeeRelock {
    /// When its legs have to be locked, once that runs.
    pub(crate) fn until(&self) -> Option<Unix> {
        match &self.stage {
            PayeeRelockStage::Offered => None,
            PayeeRelockStage::Accepted(accepting) => Some(accepting.until),
            PayeeRelockStage::Locking { until } => Some(*until),
        }
    }
}

/// How far a re-lock is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PayeeRelockStage {
    /// The payer asks for it; our user has to accept.
    Offered,
    /// Our node is making the invoices.
    Accepted(Accepting),
    /// New legs are being locked.
    Locking {
        /// When everything has to be locked.
        until: Unix,
    },
}

/// One trade, seen by its payee.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Payee {
    /// What we know.
    pub dossier: Dossier,
    /// What we wait for.
    pub state: PayeeState,
    /// A re-lock under way.
    pub relock: Option<PayeeRelock>,
}

use PayeeState as S;

impl Payee {
    pub(crate) fn open(opening: &Opening) -> Payee {
        let until = role::bid_until(opening);
        Payee { dossier: Dossier::open(opening), state: S::Bid { until }, relock: None }
    }

    pub(crate) fn state_name(&self) -> &'static str {
        match self.state {
            S::Bid { .. } => "Bid",
            S::Countered { .. } => "Countered",
            S::Accepted(_) => "Accepted",
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

    /// Does this trade take one of the listing's stock?
    pub(crate) fn holds_stock(&self) -> bool {
        match &self.state {
            S::Bid { .. } | S::Countered { .. } => false,
            S::Accepted(_) | S::Locking { .. } | S::Held | S::Shipped | S::Disputed { .. } | S::Released | S::Ruled => {
                true
            }
            // Goods that went out are gone, whoever got the money.
            S::Winding { .. } => self.has_shipped(),
            S::Closed { outcome } => self.has_shipped() || *outcome == Outcome::Settled,
        }
    }

    /// Something was said to us that never came: a bid is made, and payments are, only after the word of the arbiter, or of the
    /// payer, that goes with them.
    pub(crate) fn misses_word(&self) -> bool {
        let d = &self.dossier;
        let appointment =
            |round| d.opening.arbiter.is_some() && d.said(Role::Arbiter, Step::Appointment(round)).is_none();
        match (&self.state, &self.relock) {
            (S::Bid { .. }, _) => appointment(0),
            (S::Locking { .. }, _) => {
                self.money_locked(0) && d.said(Role::Payer, Step::PaymentConfirmation(0)).is_none()
            }
            (S::Shipped, Some(PayeeRelock { round, stage: PayeeRelockStage::Offered })) => appointment(*round),
            (_, _) => false,
        }
    }

    /// Somebody paid invoices that we do not remember to have handed out: the log is older than the trade.
    pub(crate) fn log_is_behind(&self) -> bool {
        use crate::leg::IssuedState as I;
        let paid = |state: &I| matches!(state, I::Held { .. } | I::SettleOrdered { .. } | I::Settled);
        matches!(self.state, S::Accepted(_)) && self.dossier.issued.iter().any(|i| paid(&i.state))
    }

    fn has_shipped(&self) -> bool {
        self.dossier.ordered(Step::Shipment(0))
    }

    /// The payer says that it has the goods, yet gave no secret that opens the price: words alone pay nobody.
    pub(super) fn unpaid(&self) -> bool {
        let d = &self.dossier;
        let open =
            |i: &crate::leg::Issued| i.leg.leg == Leg::Price && i.leg.round == d.round && i.held_until().is_some();
        let known = |i: &crate::leg::Issued| d.vault.iter().any(|(leg, _)| *leg == i.leg);
        self.state == S::Released && d.issued.iter().any(|i| open(i) && !known(i))
    }

    pub(super) fn wrong_state(&self, why: &'static str) -> Refusal {
        Refusal::new(Rule::WrongState, why)
    }

    // ---- folding -----------------------------------------------------------------------------------------------

    /// Folds an event; none when it does not fit.
    pub(crate) fn apply(mut self, event: &Event) -> Option<Payee> {
        if !self.dossier.fold(event) {
            return None;
        }
        self.state = match (self.state.clone(), event) {
            (state, Event::AcceptOrdered { round, shipping_time_days, terms, invoice_expiry_secs, until }) => {
                let accepting = Accepting {
                    shipping_time_days: *shipping_time_days,
                    terms: terms.clone(),
                    invoice_expiry_secs: *invoice_expiry_secs,
                    until: *until,
                };
                match (state, round) {
                    (S::Bid { .. } | S::Countered { .. }, 0) => S::Accepted(accepting),
                    (S::Shipped, round) => {
                        let relock = self.relock.as_mut().filter(|r| r.round == *round)?;
                        relock.stage = PayeeRelockStage::Accepted(accepting);
                        S::Shipped
                    }
                    (_, _) => return None,
                }
            }
            (state, Event::MessageOrdered(outgoing)) => self.fold_ordered(state, outgoing.step)?,
            (state, Event::MessageTaken { step, .. }) => self.fold_taken(state, *step)?,
            (S::Locking { .. }, Event::Locked { round: 0, .. }) => S::Held,
            (S::Shipped, Event::Locked { round, .. }) => {
                self.relock.take_if(|r| r.round == *round)?;
                self.dossier.round = *round;
                S::Shipped
            }
            (_, Event::Locked { .. }) => return None,
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
            (_, Event::Closed { .. }) => return None,
            (state, _) => state,
        };
        Some(self)
    }

    fn fold_ordered(&mut self, state: PayeeState, step: Step) -> Option<PayeeState> {
        Some(match (state, step) {
            (S::Bid { until }, Step::Counter(_)) => S::Countered { until },
            (S::Accepted(accepting), Step::Acceptance(0)) => S::Locking { until: accepting.until },
            (state, Step::Acceptance(round)) => {
                let relock = self.relock.as_mut().filter(|r| r.round == round)?;
                let PayeeRelockStage::Accepted(accepting) = &relock.stage else { return None };
                relock.stage = PayeeRelockStage::Locking { until: accepting.until };
                state
            }
            (S::Held, Step::Shipment(0)) => S::Shipped,
            (S::Held | S::Shipped | S::Released, Step::Dispute) => S::Disputed { by: Role::Payee },
            (S::Disputed { by }, Step::Dispute) => S::Disputed { by },
            (_, Step::Dispute) => return None,
            (state, _) => state,
        })
    }

    fn fold_taken(&mut self, state: PayeeState, step: Step) -> Option<PayeeState> {
        Some(match (state, step) {
            (S::Countered { until }, Step::Counter(_)) => S::Bid { until },
            (S::Shipped, Step::Bid(round)) if round > 0 => {
                self.relock = Some(PayeeRelock { round, stage: PayeeRelockStage::Offered });
                S::Shipped
            }
            (S::Held | S::Shipped, Step::Dispute) => S::Disputed { by: Role::Payer },
            (S::Locking { .. } | S::Held | S::Shipped | S::Disputed { .. } | S::Ruled, Step::Receipt) => S::Released,
            (S::Held | S::Shipped | S::Disputed { .. }, Step::Ruling) => S::Ruled,
            (S::Released, Step::Ruling) if self.unpaid() => S::Ruled,
            (state, _) => state,
        })
    }
}

fn to_payer_and_arbiter() -> [(Role, Vec<Reveal>); 2] {
    [(Role::Payer, Vec::new()), (Role::Arbiter, Vec::new())]
}

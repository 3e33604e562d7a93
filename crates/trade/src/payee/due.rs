//! What time and the record make the payee do: invoices, locks, deadlines, re-locks, the end.

use units::{Now, Unix};

use crate::effect::Notice;
use crate::event::{Event, Outcome, Role, Step, Why};
use crate::leg::{IssuedState, Leg, PaidState};
use crate::message::{Acceptance, Message, Shipment};
use crate::role::{self};
use crate::terms::OnSilence;

use super::{Accepting, Payee, PayeeRelock, PayeeRelockStage, PayeeState as S, to_payer_and_arbiter};

impl Payee {
    // ---- time --------------------------------------------------------------------------------------------------

    pub(crate) fn passed(&self, now: Now) -> Vec<Event> {
        let d = &self.dossier;
        let deadlines = d.deadlines();
        let reached = |pick: fn(&crate::deadline::Deadlines) -> units::Height| {
            deadlines.as_ref().is_some_and(|x| now.height >= pick(x))
        };
        match &self.state {
            S::Bid { until } | S::Countered { until } if now.unix >= *until => role::unwind(d, Why::BidExpired),
            S::Bid { .. } | S::Countered { .. } => Vec::new(),
            S::Accepted(_) if self.log_is_behind() => match deadlines {
                Some(x) if now.height >= x.rule => role::unwind(d, Why::LockTimeout),
                Some(x) => {
                    let mut events = Vec::new();
                    d.raise(&mut events, Notice::LogBehind { until: x.rule });
                    events
                }
                None => Vec::new(),
            },
            S::Accepted(accepting) if now.unix >= accepting.until => role::unwind(d, Why::LockTimeout),
            S::Accepted(_) => Vec::new(),
            S::Locking { .. } if reached(|x| x.warn) => role::unwind(d, Why::LockTimeout),
            // When only the confirmation is missing the money is safe: wait for the word, not for the clock.
            S::Locking { until } if now.unix >= *until && !self.money_locked(0) => role::unwind(d, Why::LockTimeout),
            S::Locking { .. } => Vec::new(),
            S::Held if reached(|x| x.rule) => {
                let mut events = Vec::new();
                d.raise(&mut events, Notice::ShippedTooLate);
                events.extend(role::unwind(d, Why::NotShipped));
                events
            }
            S::Shipped if reached(|x| x.rule) && d.terms().on_silence == OnSilence::Refund => {
                role::unwind(d, Why::Silence)
            }
            S::Shipped | S::Disputed { .. } | S::Released | S::Ruled if reached(|x| x.hard) => {
                let mut events = Vec::new();
                if matches!(self.state, S::Disputed { .. }) {
                    d.raise(&mut events, Notice::ArbiterSilent);
                }
                events.extend(role::unwind(d, Why::Deadline));
                events
            }
            S::Held | S::Shipped | S::Disputed { .. } => {
                let mut events = Vec::new();
                if let Some(x) = deadlines.filter(|x| now.height >= x.warn) {
                    d.raise(&mut events, Notice::DeadlineNear { rule_at: x.rule });
                }
                events.extend(self.relock_passed(now));
                events
            }
            S::Released if self.unpaid() && reached(|x| x.warn) => {
                let mut events = Vec::new();
                if let Some(x) = deadlines {
                    d.raise(&mut events, Notice::DeadlineNear { rule_at: x.rule });
                }
                events
            }
            S::Released | S::Ruled | S::Winding { .. } | S::Closed { .. } => Vec::new(),
        }
    }

    fn relock_passed(&self, now: Now) -> Vec<Event> {
        match &self.relock {
            Some(PayeeRelock { stage: PayeeRelockStage::Accepted(accepting), .. }) if now.unix >= accepting.until => {
                self.drop_relock()
            }
            Some(PayeeRelock { round, stage: PayeeRelockStage::Locking { until } })
                if now.unix >= *until && !self.money_locked(*round) =>
            {
                self.drop_relock()
            }
            Some(_) | None => Vec::new(),
        }
    }

    // ---- what follows from what is recorded ------------------------------------------------------------------------

    pub(crate) fn follows(&self, now: Now) -> Vec<Event> {
        let d = &self.dossier;
        let settle = d.settle_known();
        if !settle.is_empty() {
            return settle;
        }
        let suspicions = d.suspicions(now);
        if !suspicions.is_empty() {
            return suspicions;
        }
        match &self.state {
            S::Bid { .. } | S::Countered { .. } => Vec::new(),
            S::Accepted(_) if self.log_is_behind() => {
                let mut price = d.issued.iter().filter(|i| i.leg.leg == Leg::Price);
                if price.all(|i| i.state == IssuedState::Settled) { role::unwind(d, Why::Taken) } else { Vec::new() }
            }
            S::Accepted(accepting) => match self.invoices(0) {
                Invoices::Refused => role::unwind(d, Why::NodeRefused),
                Invoices::Gone => role::unwind(d, Why::LegReturned),
                Invoices::Making => Vec::new(),
                Invoices::Made { price, bond } => self.acceptance(0, accepting, price, bond, now),
            },
            S::Locking { .. } => {
                if role::both_canceled(d) {
                    return role::unwind(d, Why::MutualCancel);
                }
                if self.lock_broken(0) {
                    return role::unwind(d, Why::LegReturned);
                }
                self.locked(0, now)
            }
            S::Held | S::Shipped | S::Disputed { .. } => {
                if role::both_canceled(d) {
                    return role::unwind(d, Why::MutualCancel);
                }
                if let Some(why) = self.price_gone() {
                    return role::unwind(d, why);
                }
                self.relock_follows(now)
            }
            S::Released | S::Ruled | S::Winding { .. } => self.wind_up(),
            S::Closed { .. } => Vec::new(),
        }
    }

    fn invoices(&self, round: u8) -> Invoices {
        let d = &self.dossier;
        let (mut price, mut bond) = (Vec::new(), None);
        for issued in d.issued.iter().filter(|i| i.leg.round == round) {
            match &issued.state {
                IssuedState::Ordered { .. } => return Invoices::Making,
                IssuedState::Open { invoice } if issued.leg.leg == Leg::Price => price.push(invoice.clone()),
                IssuedState::Open { invoice } => bond = Some(invoice.clone()),
                _ if d.node_refused(issued.leg) => return Invoices::Refused,
                _ => return Invoices::Gone,
            }
        }
        Invoices::Made { price, bond }
    }

    fn acceptance(
        &self,
        round: u8,
        accepting: &Accepting,
        price_invoices: Vec<String>,
        payer_bond_invoice: Option<String>,
        now: Now,
    ) -> Vec<Event> {
        let d = &self.dossier;
        let offer = if round == 0 { role::latest_offer(d) } else { d.said(Role::Payer, Step::Bid(round)) };
        let Some(bid) = offer else { return Vec::new() };
        let message = Message::Acceptance(Acceptance {
            bid,
            price_invoices,
            payer_bond_invoice,
            shipping_time_days: accepting.shipping_time_days,
            terms: accepting.terms.clone(),
            invoice_expiry_secs: accepting.invoice_expiry_secs,
            lock_blocks: d.terms().lock_blocks,
        });
        // The time of the decision, which is in the log: the same words whenever they are said.
        let at = Unix(accepting.until.0.saturating_sub(accepting.invoice_expiry_secs.into())).min(now.unix);
        let at = Now { unix: at, ..now };
        vec![d.say(Step::Acceptance(round), message, at, [(Role::Payer, Vec::new())])]
    }

    /// A leg of the round came back, was taken, or our bond did.
    fn lock_broken(&self, round: u8) -> bool {
        let d = &self.dossier;
        let issued = d
            .issued
            .iter()
            .filter(|i| i.leg.round == round)
            .any(|i| matches!(i.state, IssuedState::Canceled | IssuedState::CancelOrdered | IssuedState::Settled));
        let paid = d.paid.iter().filter(|p| p.leg.round == round);
        issued || paid.into_iter().any(|p| matches!(p.state, PaidState::Returned | PaidState::Taken { .. }))
    }

    /// Every leg that we hold is held, and our bond is under way.
    pub(super) fn money_locked(&self, round: u8) -> bool {
        let d = &self.dossier;
        let held =
            d.issued.iter().filter(|i| i.leg.round == round).all(|i| matches!(i.state, IssuedState::Held { .. }));
        let bonded = d
            .sizes(round, Leg::PayeeBond)
            .iter()
            .all(|(leg, _)| d.paid(*leg).is_some_and(|p| p.state == PaidState::InFlight));
        held && bonded
    }

    fn locked(&self, round: u8, now: Now) -> Vec<Event> {
        let d = &self.dossier;
        if !self.money_locked(round) || d.said(Role::Payer, Step::PaymentConfirmation(round)).is_none() {
            return Vec::new();
        }
        let mut events = vec![Event::Locked { round, height: now.height }];
        if !d.claim_holds(round) {
            d.raise(&mut events, Notice::LockClaimMismatch);
        }
        events
    }

    fn relock_follows(&self, now: Now) -> Vec<Event> {
        let d = &self.dossier;
        let Some(PayeeRelock { round, stage }) = &self.relock else { return Vec::new() };
        let round = *round;
        match stage {
            PayeeRelockStage::Offered => Vec::new(),
            PayeeRelockStage::Accepted(accepting) => match self.invoices(round) {
                Invoices::Refused | Invoices::Gone => self.drop_relock(),
                Invoices::Making => Vec::new(),
                Invoices::Made { price, bond } => self.acceptance(round, accepting, price, bond, now),
            },
            PayeeRelockStage::Locking { .. } => {
                if self.lock_broken(round) {
                    return self.drop_relock();
                }
                let mut events = self.locked(round, now);
                if events.is_empty() {
                    return events;
                }
                // What a thief or an early release has moved already cannot be locked a second time.
                let whole = |i: &&crate::leg::Issued| matches!(i.state, IssuedState::Held { .. });
                if !d.issued.iter().filter(|i| i.leg.round == d.round).all(|i| whole(&i)) {
                    return self.drop_relock();
                }
                if !d.claim_holds(round) {
                    events = self.drop_relock();
                    d.raise(&mut events, Notice::LockClaimMismatch);
                    return events;
                }
                // New legs are held: only now the old ones go back, and the payer and the arbiter hear of it.
                role::add_cancels(d, &mut events, |leg| leg.round == round);
                if let Some(payment) = d.said(Role::Payer, Step::PaymentConfirmation(round)) {
                    let note = "locked again".to_owned();
                    let message = Message::Shipment(Shipment { payment, note, tracking: None });
                    events.push(d.say(Step::Shipment(round), message, now, to_payer_and_arbiter()));
                }
                events
            }
        }
    }

    /// The price was settled by secrets that came to light, or is gone from our node, though the trade runs.
    fn price_gone(&self) -> Option<Why> {
        let d = &self.dossier;
        let price = || d.issued.iter().filter(|i| i.leg.leg == Leg::Price && i.leg.round == d.round);
        if price().all(|i| i.state == IssuedState::Settled) {
            return Some(Why::Taken);
        }
        let vanished = d.issued.iter().any(|i| i.leg.round == d.round && i.state == IssuedState::Canceled);
        vanished.then_some(Why::Vanished)
    }

    fn wind_up(&self) -> Vec<Event> {
        let d = &self.dossier;
        let mut events = Vec::new();
        let price_open = d.issued.iter().any(|i| i.leg.leg == Leg::Price && !i.is_final());
        // The payer's bond goes back when the price has found its end; a ruling has already said where it goes.
        if !price_open && self.state == S::Released {
            role::add_cancels(d, &mut events, |_| false);
        }
        if events.is_empty() && d.all_final() && d.all_explained() {
            let why = match self.state {
                S::Winding { why } => Some(why),
                _ => None,
            };
            events.push(Event::Closed { outcome: role::outcome(d, why) });
        }
        events
    }

    pub(crate) fn outcome(&self) -> Option<Outcome> {
        match self.state {
            S::Closed { outcome } => Some(outcome),
            _ => None,
        }
    }
}

/// How far the invoices of a round are.
enum Invoices {
    /// Our node still makes some.
    Making,
    /// Our node will not make one.
    Refused,
    /// One is closed already.
    Gone,
    /// All are there.
    Made {
        /// Of the tranches of the price.
        price: Vec<String>,
        /// Of the payer's bond.
        bond: Option<String>,
    },
}

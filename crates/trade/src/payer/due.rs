//! What time and the record make the payer do: deadlines, the order of locking, re-locks, the end.

use units::{Now, Unix};

use crate::effect::Notice;
use crate::event::{Event, Outcome, Reveal, Role, Step, Why};
use crate::fee::FeeState;
use crate::leg::{IssuedState, Leg, LegId, Paid, PaidState};
use crate::message::{Message, PayeeBondInvoice, PaymentConfirmation};
use crate::role::{self};

use super::{Payer, PayerRelock, PayerRelockStage, PayerState as S, to_payee_and_arbiter};

impl Payer {
    // ---- time --------------------------------------------------------------------------------------------------

    pub(crate) fn passed(&self, now: Now) -> Vec<Event> {
        let d = &self.dossier;
        match &self.state {
            S::Appointing { until } | S::Bid { until } | S::Countered { until } if now.unix >= *until => {
                role::unwind(d, Why::BidExpired)
            }
            S::Locking { until } if now.unix >= *until => role::unwind(d, Why::LockTimeout),
            S::Locking { .. } if d.deadlines().is_some_and(|x| now.height >= x.warn) => {
                role::unwind(d, Why::LockTimeout)
            }
            S::Appointing { .. } | S::Bid { .. } | S::Countered { .. } | S::Locking { .. } => Vec::new(),
            S::Held | S::Shipped | S::Disputed { .. } | S::Ruled => {
                let Some(deadlines) = d.deadlines() else { return Vec::new() };
                let mut events = Vec::new();
                if now.height >= deadlines.hard {
                    if matches!(self.state, S::Disputed { .. }) {
                        d.raise(&mut events, Notice::ArbiterSilent);
                    }
                    events.extend(role::unwind(d, Why::Deadline));
                    return events;
                }
                if now.height >= deadlines.warn && self.state != S::Ruled {
                    d.raise(&mut events, Notice::DeadlineNear { rule_at: deadlines.rule });
                }
                events.extend(self.relock_passed(now));
                events
            }
            S::Winding { .. } if self.unreturned() => {
                let mut events = Vec::new();
                if let Some(x) = d.deadlines().filter(|x| now.height >= x.warn) {
                    d.raise(&mut events, Notice::DeadlineNear { rule_at: x.rule });
                }
                events
            }
            S::Released | S::Winding { .. } | S::Closed { .. } => Vec::new(),
        }
    }

    fn relock_passed(&self, now: Now) -> Vec<Event> {
        match &self.relock {
            Some(PayerRelock { stage: PayerRelockStage::Locking { until }, .. }) if now.unix >= *until => {
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
            S::Appointing { .. } | S::Bid { .. } | S::Countered { .. } => Vec::new(),
            S::Locking { .. } => {
                if role::both_canceled(d) {
                    return role::unwind(d, Why::MutualCancel);
                }
                match self.lock(0, now) {
                    Lock::Broken(why) => role::unwind(d, why),
                    Lock::Next(events) => events,
                }
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
            S::Released | S::Ruled | S::Winding { .. } => self.wind_up(now),
            S::Closed { .. } => Vec::new(),
        }
    }

    /// Every part of the price is under way: none was taken, none came back.
    pub(super) fn price_whole(&self) -> bool {
        let d = &self.dossier;
        let mut price = d.paid.iter().filter(|p| p.leg.leg == Leg::Price && p.leg.round == d.round);
        price.all(|p| p.state == PaidState::InFlight)
    }

    /// Every part of the price left us or came back though the trade runs.
    fn price_gone(&self) -> Option<Why> {
        let d = &self.dossier;
        let mut price = d.paid.iter().filter(|p| p.leg.leg == Leg::Price && p.leg.round == d.round).peekable();
        let taken = price.peek().is_some_and(|p| matches!(p.state, PaidState::Taken { .. }));
        let gone = price.all(|p| matches!(p.state, PaidState::Taken { .. } | PaidState::Returned));
        // While the payee moves to a confirmed re-lock the old price is meant to come back.
        let moving = self.relock.as_ref().is_some_and(|r| r.stage == PayerRelockStage::Confirmed);
        match (gone, taken) {
            (true, true) => Some(Why::Taken),
            (true, false) if !moving => Some(Why::Vanished),
            (true | false, _) => None,
        }
    }

    /// The next step of locking a round: the arbiter's fee, payee bond, payer bond, price, confirmation.
    fn lock(&self, round: u8, now: Now) -> Lock {
        let d = &self.dossier;
        if round == 0
            && let Some(first) = self.pay_arbiter(now)
        {
            return first;
        }
        let bond = d.issued(LegId::payee_bond(round));
        if let Some(bond) = bond {
            match &bond.state {
                IssuedState::Ordered { .. } => return Lock::Next(Vec::new()),
                IssuedState::Open { invoice } => return Lock::Next(self.bond_invoice(round, invoice, now)),
                IssuedState::Held { .. } => {}
                IssuedState::CancelOrdered => return Lock::Next(Vec::new()),
                IssuedState::Canceled if d.node_refused(bond.leg) => {
                    return Lock::Broken(Why::NodeRefused);
                }
                IssuedState::SettleOrdered { .. } | IssuedState::Settled | IssuedState::Canceled => {
                    return Lock::Broken(Why::LegReturned);
                }
            }
        }
        let legs: Vec<&Paid> = d.paid.iter().filter(|p| p.leg.round == round).collect();
        if legs.iter().any(|p| matches!(p.state, PaidState::Returned | PaidState::Taken { .. })) {
            return Lock::Broken(Why::LegReturned);
        }
        let (bonds, price): (Vec<&Paid>, Vec<&Paid>) = legs.into_iter().partition(|p| p.leg.leg == Leg::PayerBond);
        let turn = if bonds.iter().all(|p| p.state == PaidState::InFlight) { price } else { bonds };
        if turn.iter().all(|p| p.state == PaidState::InFlight) {
            return Lock::Next(self.confirm(round, now));
        }
        if round == 0 && !d.pay_approved {
            return Lock::Next(Vec::new());
        }
        let Some(not_after) = self.pay_until(round).filter(|until| now.unix < *until) else {
            return Lock::Next(Vec::new());
        };
        Lock::Next(
            turn.iter()
                .filter(|p| p.state == PaidState::Ready)
                .map(|p| Event::PaymentOrdered { leg: p.leg, not_after, height: now.height })
                .collect(),
        )
    }

    /// The arbiter is paid when the bid was accepted, and before anything is locked. None when nothing is owed to it (any more).
    fn pay_arbiter(&self, now: Now) -> Option<Lock> {
        let d = &self.dossier;
        let fee = d.fee.as_ref()?;
        let payable_until = fee.payable_until()?;
        Some(match fee.state {
            FeeState::Paid => return None,
            FeeState::Failed => Lock::Broken(Why::FeeUnpaid),
            FeeState::Ordered { .. } | FeeState::InFlight => Lock::Next(Vec::new()),
            FeeState::Unpaid if now.unix >= payable_until => Lock::Broken(Why::FeeUnpaid),
            FeeState::Unpaid if !d.pay_approved => Lock::Next(Vec::new()),
            FeeState::Unpaid => {
                let not_after = self.pay_until(0).filter(|until| now.unix < *until)?.min(payable_until);
                Lock::Next(vec![Event::FeeOrdered { not_after }])
            }
        })
    }

    fn pay_until(&self, round: u8) -> Option<Unix> {
        match (&self.state, &self.relock) {
            (S::Locking { until }, _) if round == 0 => Some(*until),
            (_, Some(PayerRelock { stage: PayerRelockStage::Locking { until }, .. })) => Some(*until),
            (_, _) => None,
        }
    }

    fn bond_invoice(&self, round: u8, invoice: &str, now: Now) -> Vec<Event> {
        let d = &self.dossier;
        let Some(acceptance) = d.said(Role::Payee, Step::Acceptance(round)) else { return Vec::new() };
        if d.ordered(Step::PayeeBondInvoice(round)) {
            return Vec::new();
        }
        let message = Message::PayeeBondInvoice(PayeeBondInvoice {
            listing: d.opening.listing,
            acceptance,
            amount: d.terms().payee_bond,
            invoice: invoice.to_owned(),
        });
        vec![d.say(Step::PayeeBondInvoice(round), message, now, [(Role::Payee, Vec::new())])]
    }

    fn confirm(&self, round: u8, now: Now) -> Vec<Event> {
        let d = &self.dossier;
        let (Some(acceptance), Some(payment_proof)) =
            (d.said(Role::Payee, Step::Acceptance(round)), d.hash_of(LegId::price(round, 0)))
        else {
            return Vec::new();
        };
        let message = Message::PaymentConfirmation(PaymentConfirmation {
            acceptance,
            payment_proof,
            collateral_proof: d.hash_of(LegId::payer_bond(round)),
            lock_blocks: d.terms().lock_blocks,
            paid_at: now.unix,
            paid_height: d.claimed_height(round),
        });
        vec![
            Event::Locked { round, height: now.height },
            d.say(Step::PaymentConfirmation(round), message, now, to_payee_and_arbiter()),
        ]
    }

    fn relock_follows(&self, now: Now) -> Vec<Event> {
        let Some(PayerRelock { round, stage }) = &self.relock else { return Vec::new() };
        match stage {
            PayerRelockStage::Appointing | PayerRelockStage::Offered | PayerRelockStage::Locking { .. }
                if !self.price_whole() =>
            {
                self.drop_relock()
            }
            PayerRelockStage::Appointing | PayerRelockStage::Offered => Vec::new(),
            PayerRelockStage::Locking { .. } => match self.lock(*round, now) {
                Lock::Broken(_) => self.drop_relock(),
                Lock::Next(events) => events,
            },
            PayerRelockStage::Confirmed => self.relock_failed(*round),
        }
    }

    /// The payee failed the new legs instead of the old ones: the earlier round goes on.
    fn relock_failed(&self, round: u8) -> Vec<Event> {
        let d = &self.dossier;
        let mut new = d.paid.iter().filter(|p| p.leg.round == round);
        if !new.all(|p| p.state == PaidState::Returned) {
            return Vec::new();
        }
        let mut events = vec![Event::RelockDropped { round }];
        role::add_cancels(d, &mut events, |leg| leg.round != round);
        events
    }

    fn wind_up(&self, now: Now) -> Vec<Event> {
        let d = &self.dossier;
        let mut events = Vec::new();
        if self.state == S::Released {
            for paid in d.paid.iter().filter(|p| p.leg.leg == Leg::Price && p.leg.round == d.round) {
                if paid.state == PaidState::Returned {
                    d.raise(&mut events, Notice::NotCollected { leg: paid.leg });
                }
            }
            events.extend(self.release_new_round(now));
        }
        if events.is_empty() && d.all_final() && d.all_explained() {
            events.push(Event::Closed { outcome: role::outcome(d, self.why()) });
        }
        events
    }

    /// We released one round while the payee completed a re-lock: give the new secret for each tranche whose old payment came
    /// back. Never both.
    fn release_new_round(&self, now: Now) -> Vec<Event> {
        let d = &self.dossier;
        let Some(payment) = d.confirmation() else { return Vec::new() };
        let old = self.released_round();
        if old == d.round {
            return Vec::new();
        }
        let came_back = |tranche| d.paid(LegId::price(old, tranche)).is_some_and(|p| p.state == PaidState::Returned);
        (0..d.terms().tranches)
            .filter(|tranche| came_back(*tranche))
            .map(|tranche| LegId::price(d.round, tranche))
            .filter(|leg| !d.ordered(Step::Handover(*leg)))
            .map(|leg| {
                let note = format!("released before the re-lock was complete: here is the {leg}");
                let message = Message::Handover(crate::message::Handover { payment, note, secrets: Vec::new() });
                d.say(Step::Handover(leg), message, now, [(Role::Payee, vec![Reveal::Derive(leg)])])
            })
            .collect()
    }

    /// The round whose secrets the receipt carried: the one whose confirmation it answers.
    fn released_round(&self) -> u8 {
        self.dossier.released_round.unwrap_or(self.dossier.round)
    }

    fn why(&self) -> Option<Why> {
        match self.state {
            S::Winding { why } => Some(why),
            _ => None,
        }
    }

    pub(crate) fn outcome(&self) -> Option<Outcome> {
        match self.state {
            S::Closed { outcome } => Some(outcome),
            _ => None,
        }
    }
}

/// What locking does next.
enum Lock {
    /// These events; none while something is awaited.
    Next(Vec<Event>),
    /// It cannot succeed any more.
    Broken(Why),
}

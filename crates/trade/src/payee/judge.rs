//! What the payee does with commands and messages.

use units::{Now, Sat, Unix};

use crate::deadline::BLOCKS_PER_DAY;
use crate::dossier::report::Expected;
use crate::dossier::{Dossier, Novelty};
use crate::effect::Notice;
use crate::event::{Event, Role, Step, Why};
use crate::input::{Command, Envelope};
use crate::leg::{Leg, LegId};
use crate::limits::{COUNTERS_MAX, RELOCKS_MAX};
use crate::message::{
    Appointment, Bid, BondFate, Counter, Dispute, Message, MutualCancel, PayeeBondInvoice, PaymentConfirmation, Refund,
    Ruling, Shipment,
};
use crate::refusal::{Refusal, Rule};
use crate::role::{self, Verdict};
use crate::terms::EscrowTerms;

use super::{Accepting, Payee, PayeeRelock, PayeeRelockStage, PayeeState as S, to_payer_and_arbiter};

/// Invoices live at least so long, in seconds.
const INVOICE_SECS_MIN: u32 = 300;

impl Payee {
    // ---- what our user wants -----------------------------------------------------------------------------------

    pub(crate) fn command(&self, command: &Command, now: Now) -> Result<Vec<Event>, Refusal> {
        match command {
            Command::Counter { amount } => self.counter(*amount, now),
            Command::Accept { shipping_time_days, terms, invoice_expiry_secs } => {
                let invoice_expiry_secs = self.invoice_secs(*invoice_expiry_secs, now);
                let until = Unix(now.unix.0.saturating_add(u64::from(invoice_expiry_secs)));
                let accepting = Accepting {
                    shipping_time_days: *shipping_time_days,
                    terms: terms.clone(),
                    invoice_expiry_secs,
                    until,
                };
                self.accept(accepting)
            }
            Command::Withdraw { reason } => self.turn_down(reason, now),
            Command::Ship { note, tracking } => self.ship(note, tracking.clone(), now),
            Command::Dispute { reason, details } => self.dispute(reason, details, now),
            Command::Refund { reason } => self.refund(reason, now),
            Command::Cancel { agreement } => self.cancel(agreement, now),
            Command::Rate { rating, comment } => role::rate(&self.dossier, self.outcome(), *rating, comment, now),
            Command::RateArbiter { rating, comment } => {
                role::rate_arbiter(&self.dossier, self.outcome(), *rating, comment, now)
            }
            Command::RateBoard { url, rating, comment } => {
                role::rate_board(&self.dossier, self.outcome(), url, *rating, comment, now)
            }
            Command::List { .. }
            | Command::Restock { .. }
            | Command::Delist { .. }
            | Command::Pay
            | Command::Bid(_)
            | Command::Release { .. }
            | Command::Complain { .. }
            | Command::Relock { .. }
            | Command::Serve { .. }
            | Command::Rule { .. } => Err(Refusal::new(Rule::WrongRole, "the payee of a trade cannot do that")),
        }
    }

    /// The payer hears of it, so that it need not wait for the bid to lapse.
    fn turn_down(&self, reason: &str, now: Now) -> Result<Vec<Event>, Refusal> {
        match self.state {
            S::Bid { .. } | S::Countered { .. } => {}
            S::Accepted(_)
            | S::Locking { .. }
            | S::Held
            | S::Shipped
            | S::Disputed { .. }
            | S::Released
            | S::Ruled
            | S::Winding { .. }
            | S::Closed { .. } => return Err(self.wrong_state("the bid was accepted: refund it instead")),
        }
        let payment = role::latest_offer(&self.dossier).ok_or_else(|| self.wrong_state("there is no offer"))?;
        let message = Message::Refund(Refund { payment, reason: reason.to_owned() });
        crate::limits::check(&message)?;
        let word = self.dossier.say(Step::Refund, message, now, [(Role::Payer, Vec::new())]);
        Ok(vec![word, Event::Unwound { why: Why::Withdrawn }])
    }

    fn counter(&self, amount: Sat, now: Now) -> Result<Vec<Event>, Refusal> {
        match self.state {
            S::Bid { .. } => {}
            S::Countered { .. }
            | S::Accepted(_)
            | S::Locking { .. }
            | S::Held
            | S::Shipped
            | S::Disputed { .. }
            | S::Released
            | S::Ruled
            | S::Winding { .. }
            | S::Closed { .. } => return Err(self.wrong_state("there is no offer to counter")),
        }
        let d = &self.dossier;
        d.check_haggling()?;
        d.terms().check_bid(amount, d.opening.payer_bond, d.opening.arbiter)?;
        let (step, bid) = match role::last_counter(d, Role::Payer) {
            Some((n, _)) if n + 1 >= COUNTERS_MAX => {
                return Err(Refusal::new(Rule::TooMany, "this has been haggled over long enough"));
            }
            Some((n, id)) => (Step::Counter(n + 1), Some(id)),
            None => (Step::Counter(0), d.said(Role::Payer, Step::Bid(0))),
        };
        let bid = bid.ok_or_else(|| self.wrong_state("there is no offer to counter"))?;
        let message = Message::Counter(Counter { bid, amount });
        Ok(vec![d.say(step, message, now, [(Role::Payer, Vec::new())])])
    }

    /// How long the invoices of an acceptance live. Those of a quoted rate end with it, or after the shortest time that invoices
    /// may live: a taker that could wait longer would lock the bitcoin only when the price moved its way.
    fn invoice_secs(&self, wanted: u32, now: Now) -> u32 {
        let first = matches!(self.state, S::Bid { .. } | S::Countered { .. });
        let Some(quote) = self.dossier.opening.quote_until.filter(|_| first) else { return wanted };
        let left = u32::try_from(quote.0.saturating_sub(now.unix.0)).unwrap_or(u32::MAX);
        wanted.min(left.max(INVOICE_SECS_MIN))
    }

    fn accept(&self, accepting: Accepting) -> Result<Vec<Event>, Refusal> {
        let d = &self.dossier;
        let round = match (&self.state, &self.relock) {
            (S::Bid { .. } | S::Countered { .. }, _) => 0,
            (S::Shipped, Some(PayeeRelock { round, stage: PayeeRelockStage::Offered })) => *round,
            (
                S::Accepted(_)
                | S::Locking { .. }
                | S::Held
                | S::Shipped
                | S::Disputed { .. }
                | S::Released
                | S::Ruled
                | S::Winding { .. }
                | S::Closed { .. },
                _,
            ) => return Err(self.wrong_state("there is no offer to accept")),
        };
        d.check_appointed(round)?;
        let days = accepting.shipping_time_days.unwrap_or(0);
        if !(INVOICE_SECS_MIN..=86_400).contains(&accepting.invoice_expiry_secs)
            || days > EscrowTerms::SHIPPING_DAYS_MAX
        {
            return Err(Refusal::new(
                Rule::TooLarge,
                "invoices live 300 to 86400 seconds, shipping takes up to 90 days",
            ));
        }
        let mut events = vec![Event::AcceptOrdered {
            round,
            shipping_time_days: accepting.shipping_time_days,
            terms: accepting.terms,
            invoice_expiry_secs: accepting.invoice_expiry_secs,
            until: accepting.until,
        }];
        let mut legs = d.sizes(round, Leg::Price);
        legs.extend(d.sizes(round, Leg::PayerBond));
        for (leg, amount) in legs {
            let hash = d.hash_of(leg).ok_or_else(|| Refusal::new(Rule::NotAppointed, "a leg has no hash yet"))?;
            let min_final_cltv = d.terms().lock_blocks;
            let expiry_secs = accepting.invoice_expiry_secs;
            events.push(Event::InvoiceOrdered { leg, hash, amount, min_final_cltv, expiry_secs });
        }
        Ok(events)
    }

    fn ship(&self, note: &str, tracking: Option<String>, now: Now) -> Result<Vec<Event>, Refusal> {
        match self.state {
            S::Held => {}
            S::Bid { .. } | S::Countered { .. } | S::Accepted(_) | S::Locking { .. } => {
                return Err(self.wrong_state("not every leg is locked: do not ship"));
            }
            S::Shipped | S::Disputed { .. } | S::Released | S::Ruled | S::Winding { .. } | S::Closed { .. } => {
                return Err(self.wrong_state("it is too late, or already done"));
            }
        }
        let d = &self.dossier;
        if !d.claim_holds(0) {
            return Err(Refusal::new(
                Rule::LockTooShort,
                "our node shows an earlier end of the lock than the payer claims: do not ship",
            ));
        }
        let days = u32::from(d.shipping_days);
        let last = d.deadlines().map(|x| x.warn.minus(days * BLOCKS_PER_DAY));
        if last.is_none_or(|last| now.height > last) {
            return Err(Refusal::new(Rule::TooLate, "the goods would outlive the lock: do not ship"));
        }
        let payment = d.confirmation().ok_or_else(|| self.wrong_state("the payer confirmed no payment"))?;
        let message = Message::Shipment(Shipment { payment, note: note.to_owned(), tracking });
        crate::limits::check(&message)?;
        Ok(vec![d.say(Step::Shipment(0), message, now, to_payer_and_arbiter())])
    }

    fn dispute(&self, reason: &str, details: &str, now: Now) -> Result<Vec<Event>, Refusal> {
        match self.state {
            S::Held | S::Shipped => {}
            S::Released if self.unpaid() => {}
            // The arbiter may not have got the other's word: ours is one too.
            S::Disputed { by: Role::Payer } if !self.dossier.ordered(Step::Dispute) => {}
            S::Bid { .. } | S::Countered { .. } | S::Accepted(_) | S::Locking { .. } => {
                return Err(self.wrong_state("nothing is locked yet"));
            }
            S::Disputed { .. } | S::Released | S::Ruled | S::Winding { .. } | S::Closed { .. } => {
                return Err(self.wrong_state("it is disputed already, or decided"));
            }
        }
        role::may_dispute(&self.dossier, now)?;
        let payment = self.dossier.confirmation().ok_or_else(|| self.wrong_state("nothing is locked yet"))?;
        let (reason, details) = (reason.to_owned(), details.to_owned());
        let message = Message::Dispute(Dispute { payment, reason, details });
        crate::limits::check(&message)?;
        let mut events = self.drop_relock();
        events.push(self.dossier.say(Step::Dispute, message, now, to_payer_and_arbiter()));
        Ok(events)
    }

    /// May the money still be sent back by word? The step that the word refers to.
    fn may_return(&self) -> Result<crate::ids::MessageId, Refusal> {
        match self.state {
            S::Locking { .. } | S::Held | S::Shipped | S::Disputed { .. } => {}
            S::Bid { .. } | S::Countered { .. } => {
                return Err(self.wrong_state("nothing is agreed yet: turn the bid down instead"));
            }
            S::Accepted(_) => return Err(self.wrong_state("the acceptance is not out yet; try again in a moment")),
            S::Released | S::Ruled | S::Winding { .. } | S::Closed { .. } => {
                return Err(self.wrong_state("the money has already been sent its way"));
            }
        }
        self.dossier.anchor().ok_or_else(|| self.wrong_state("the acceptance is not out yet; try again in a moment"))
    }

    fn refund(&self, reason: &str, now: Now) -> Result<Vec<Event>, Refusal> {
        let message = Message::Refund(Refund { payment: self.may_return()?, reason: reason.to_owned() });
        crate::limits::check(&message)?;
        let mut events = vec![self.dossier.say(Step::Refund, message, now, to_payer_and_arbiter())];
        events.extend(role::unwind(&self.dossier, Why::Refunded));
        Ok(events)
    }

    fn cancel(&self, agreement: &str, now: Now) -> Result<Vec<Event>, Refusal> {
        let payment = self.may_return()?;
        if self.dossier.ordered(Step::MutualCancel) {
            return Ok(Vec::new());
        }
        let message = Message::MutualCancel(MutualCancel { payment, agreement: agreement.to_owned() });
        crate::limits::check(&message)?;
        Ok(vec![self.dossier.say(Step::MutualCancel, message, now, to_payer_and_arbiter())])
    }

    /// The new legs of an unfinished re-lock go back, the present round goes on.
    pub(super) fn drop_relock(&self) -> Vec<Event> {
        let Some(relock) = &self.relock else { return Vec::new() };
        let mut events = vec![Event::RelockDropped { round: relock.round }];
        role::add_cancels(&self.dossier, &mut events, |leg| leg.round != relock.round);
        events
    }

    // ---- what the others say -----------------------------------------------------------------------------------

    pub(crate) fn message(&self, envelope: &Envelope, now: Now) -> Result<Vec<Event>, Refusal> {
        let d = &self.dossier;
        let step = role::step_of(d, envelope)?;
        match d.novelty(envelope, step) {
            Novelty::Same => return role::more_secrets(d, envelope),
            Novelty::Other => return role::another_word(d, envelope, step),
            Novelty::New => {}
        }
        if let Some(learned) = role::secrets_of_unheard_dispute(d, envelope) {
            return Ok(learned);
        }
        // A log that is behind lacks the steps before; a secret that opens what is held proves itself.
        let urgent = self.log_is_behind() && !envelope.message.secrets().is_empty();
        if !urgent {
            d.check_prev(envelope)?;
        }
        let taken = Event::MessageTaken { step, envelope: Box::new(envelope.clone()) };
        match &envelope.message {
            Message::Appointment(m) => self.appointment(m, taken),
            Message::Bid(m) => self.relock_offered(m, taken),
            Message::Counter(m) => self.countered(m, taken),
            Message::PayeeBondInvoice(m) => self.bond_invoice(m, envelope, step, taken, now),
            Message::PaymentConfirmation(m) => self.confirmed(m, step, taken),
            Message::Dispute(_) => self.disputed(taken),
            Message::Receipt(_) if step == Step::Dispute => self.disputed(taken),
            Message::Receipt(m) => self.receipt(&m.secrets, taken),
            Message::MutualCancel(m) => match self.state {
                S::Bid { .. } | S::Countered { .. } | S::Accepted(_) | S::Locking { .. }
                    if self.is_offer(m.payment) =>
                {
                    // The payer took its bid back: it pays nothing any more, whatever we have accepted meanwhile.
                    let mut events = vec![taken];
                    events.extend(role::unwind(d, Why::Withdrawn));
                    Ok(events)
                }
                S::Locking { .. }
                | S::Held
                | S::Shipped
                | S::Disputed { .. }
                | S::Released
                | S::Ruled
                | S::Winding { .. }
                | S::Closed { .. } => Ok(vec![taken]),
                S::Bid { .. } | S::Countered { .. } | S::Accepted(_) => Err(self.wrong_state("nothing is agreed yet")),
            },
            Message::Ruling(m) => self.ruling(m, taken),
            Message::Handover(m) => {
                let mut events = vec![taken];
                events.extend(d.learn(&m.secrets)?);
                Ok(events)
            }
            Message::Rating(_) | Message::ArbiterRating(_) => Ok(vec![taken]),
            Message::BoardRating(_)
            | Message::Delisting(_)
            | Message::Listing(_)
            | Message::Acceptance(_)
            | Message::Refund(_)
            | Message::Shipment(_)
            | Message::AppointmentRequest(_) => {
                Err(Refusal::new(Rule::WrongAuthor, "this is not said to the payee of a trade"))
            }
        }
    }

    fn is_offer(&self, id: crate::ids::MessageId) -> bool {
        self.dossier.said.iter().any(|s| s.id == id && matches!(s.step, Step::Bid(0) | Step::Counter(_)))
    }

    fn appointment(&self, m: &Appointment, taken: Event) -> Result<Vec<Event>, Refusal> {
        let d = &self.dossier;
        match self.state {
            S::Bid { .. } | S::Countered { .. } if m.round == 0 => {
                d.check_appointment(m)?;
                Ok(vec![taken])
            }
            S::Shipped if m.round > d.round => {
                d.check_appointment(m)?;
                Ok(vec![taken])
            }
            S::Bid { .. }
            | S::Countered { .. }
            | S::Accepted(_)
            | S::Locking { .. }
            | S::Held
            | S::Shipped
            | S::Disputed { .. }
            | S::Released
            | S::Ruled
            | S::Winding { .. }
            | S::Closed { .. } => Ok(Vec::new()),
        }
    }

    /// Legs of this round are being locked.
    fn is_locking(&self, round: u8) -> bool {
        match (&self.state, &self.relock) {
            (S::Locking { .. }, _) => round == 0,
            (S::Shipped, Some(relock)) => {
                matches!(relock.stage, PayeeRelockStage::Locking { .. }) && relock.round == round
            }
            (_, _) => false,
        }
    }

    fn confirmed(&self, m: &PaymentConfirmation, step: Step, taken: Event) -> Result<Vec<Event>, Refusal> {
        let Step::PaymentConfirmation(round) = step else { return Ok(Vec::new()) };
        if !self.is_locking(round) {
            return Ok(Vec::new());
        }
        // The hash is how an arbiter, who sees no acceptance, knows the round.
        if Some(m.payment_proof) != self.dossier.hash_of(LegId::price(round, 0)) {
            return Err(Refusal::new(Rule::TermsMismatch, "it confirms the payment of another hash"));
        }
        Ok(vec![taken])
    }

    fn countered(&self, m: &Counter, taken: Event) -> Result<Vec<Event>, Refusal> {
        let d = &self.dossier;
        match self.state {
            S::Countered { .. } => {
                if Some(m.bid) != role::last_counter(d, Role::Payee).map(|(_, id)| id) {
                    return Err(Refusal::new(Rule::OutOfOrder, "it answers something else than our last counter"));
                }
                d.terms().check_bid(m.amount, d.opening.payer_bond, d.opening.arbiter)?;
                Ok(vec![taken])
            }
            S::Bid { .. }
            | S::Accepted(_)
            | S::Locking { .. }
            | S::Held
            | S::Shipped
            | S::Disputed { .. }
            | S::Released
            | S::Ruled
            | S::Winding { .. }
            | S::Closed { .. } => Ok(Vec::new()),
        }
    }

    fn relock_offered(&self, m: &Bid, taken: Event) -> Result<Vec<Event>, Refusal> {
        let d = &self.dossier;
        match self.state {
            S::Shipped if self.relock.is_none() => {}
            S::Shipped => return Err(Refusal::new(Rule::OutOfOrder, "another re-lock is under way")),
            S::Bid { .. } | S::Countered { .. } | S::Accepted(_) | S::Locking { .. } | S::Held => {
                return Err(Refusal::new(Rule::OutOfOrder, "nothing is under way that needs another lock"));
            }
            S::Disputed { .. } | S::Released | S::Ruled | S::Winding { .. } | S::Closed { .. } => {
                return Ok(Vec::new());
            }
        }
        if m.round <= d.round || m.round > RELOCKS_MAX {
            return Err(Refusal::new(Rule::TooMany, "that round is over, or one too many"));
        }
        let same = m.amount == d.price
            && m.payer_bond == d.opening.payer_bond
            && m.arbiter == d.opening.arbiter
            && m.quantity == d.opening.quantity
            && m.fiat.is_none()
            && m.payment_hashes.len() == usize::from(d.terms().tranches);
        if !same {
            return Err(Refusal::new(Rule::TermsMismatch, "a re-lock keeps price, bonds, tranches and arbiter"));
        }
        d.check_fresh(&m.payment_hashes)?;
        Ok(vec![taken])
    }

    fn bond_invoice(
        &self,
        m: &PayeeBondInvoice,
        envelope: &Envelope,
        step: Step,
        taken: Event,
        now: Now,
    ) -> Result<Vec<Event>, Refusal> {
        let d = &self.dossier;
        let Step::PayeeBondInvoice(round) = step else { return Ok(Vec::new()) };
        if !self.is_locking(round) {
            return Ok(Vec::new());
        }
        match self.check_bond_invoice(m, envelope, round, now) {
            Ok(ready) => {
                let not_after = Dossier::not_after(&envelope.invoices);
                let leg = LegId::payee_bond(round);
                Ok(vec![taken, ready, Event::PaymentOrdered { leg, not_after, height: now.height }])
            }
            Err(refusal) => {
                let mut events = vec![Event::EvidenceKept { rule: refusal.rule, envelope: Box::new(envelope.clone()) }];
                d.raise(&mut events, Notice::InvoiceRefused { rule: refusal.rule });
                events.extend(if round == 0 { role::unwind(d, Why::InvoiceRefused) } else { self.drop_relock() });
                Ok(events)
            }
        }
    }

    fn check_bond_invoice(
        &self,
        m: &PayeeBondInvoice,
        envelope: &Envelope,
        round: u8,
        now: Now,
    ) -> Result<Event, Refusal> {
        let d = &self.dossier;
        let Some((leg, amount)) = d.sizes(round, Leg::PayeeBond).first().copied() else {
            return Err(Refusal::new(Rule::TermsMismatch, "the listing asks no bond of the payee"));
        };
        let hash = d.hash_of(leg).ok_or_else(|| Refusal::new(Rule::NotAppointed, "the bond has no hash yet"))?;
        let [facts] = envelope.invoices.as_slice() else {
            return Err(Refusal::new(Rule::InvoiceUnreadable, "the invoice cannot be read"));
        };
        let want = Expected { hash, amount, payee: None, lock_blocks: d.terms().lock_blocks };
        d.check_invoice(facts, &want, now)?;
        Ok(Event::PaymentReady { leg, hash, amount, invoice: m.invoice.clone() })
    }

    fn disputed(&self, taken: Event) -> Result<Vec<Event>, Refusal> {
        match self.state {
            S::Held | S::Shipped => {
                let mut events = self.drop_relock();
                events.push(taken);
                Ok(events)
            }
            S::Disputed { .. } | S::Released | S::Ruled | S::Winding { .. } => Ok(vec![taken]),
            // It answers a confirmation that counts, but our node is not as far as the payer's: keep it until it is.
            S::Bid { .. } | S::Countered { .. } | S::Accepted(_) | S::Locking { .. } => {
                Err(Refusal::new(Rule::OutOfOrder, "nothing is locked yet as far as our node can see"))
            }
            S::Closed { .. } => Ok(Vec::new()),
        }
    }

    fn receipt(&self, secrets: &[units::Preimage], taken: Event) -> Result<Vec<Event>, Refusal> {
        let d = &self.dossier;
        match self.state {
            S::Held | S::Shipped | S::Disputed { .. } | S::Ruled => {
                let mut events = self.drop_relock();
                let learned = d.learn(secrets)?;
                events.push(taken);
                events.extend(learned);
                Ok(events)
            }
            // A secret is settled with at once, even when not every leg has come yet.
            S::Accepted(_) if self.log_is_behind() => {
                let mut events = vec![taken];
                events.extend(d.learn(secrets)?);
                Ok(events)
            }
            S::Locking { .. } | S::Winding { .. } | S::Released | S::Closed { .. } => {
                let mut events = vec![taken];
                events.extend(d.learn(secrets)?);
                Ok(events)
            }
            S::Bid { .. } | S::Countered { .. } | S::Accepted(_) => {
                Err(Refusal::new(Rule::OutOfOrder, "nothing is locked yet as far as our node can see"))
            }
        }
    }

    fn ruling(&self, m: &Ruling, taken: Event) -> Result<Vec<Event>, Refusal> {
        let d = &self.dossier;
        match self.state {
            S::Held | S::Shipped | S::Disputed { .. } => {}
            S::Released if self.unpaid() => {}
            S::Bid { .. } | S::Countered { .. } | S::Accepted(_) | S::Locking { .. } => {
                return Err(Refusal::new(Rule::OutOfOrder, "nothing is locked yet as far as our node can see"));
            }
            // It changes nothing any more, but a rating may refer to it.
            S::Released | S::Winding { .. } | S::Closed { .. } => {
                Verdict::of(d, m)?;
                return Ok(vec![taken]);
            }
            S::Ruled => return Ok(Vec::new()),
        }
        let verdict = Verdict::of(d, m)?;
        let mut events = self.drop_relock();
        let learned = d.learn(&m.secrets)?;
        events.push(taken);
        events.extend(learned);
        role::add_cancels(d, &mut events, |leg| match leg.leg {
            Leg::Price => leg.tranche < verdict.payee_tranches,
            Leg::PayerBond => verdict.payer_bond == BondFate::Forfeit,
            Leg::PayeeBond => true,
        });
        Ok(events)
    }
}

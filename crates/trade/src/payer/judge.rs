//! What the payer does with commands and messages.

use units::{Now, PaymentHash, Sat};

use crate::dossier::Novelty;
use crate::dossier::report::Expected;
use crate::effect::Notice;
use crate::event::{Event, Role, Step, Why};
use crate::input::{Command, Envelope};
use crate::leg::Leg;
use crate::limits::{COUNTERS_MAX, RELOCKS_MAX};
use crate::message::{
    Acceptance, Appointment, BondFate, Counter, Dispute, Message, MutualCancel, Receipt, ReceiptStatus, Ruling,
};
use crate::refusal::{Refusal, Rule};
use crate::role::{self, Verdict};

use super::{Payer, PayerRelock, PayerRelockStage, PayerState as S, to_payee_and_arbiter};

impl Payer {
    // ---- what our user wants -----------------------------------------------------------------------------------

    pub(crate) fn command(&self, command: &Command, now: Now) -> Result<Vec<Event>, Refusal> {
        match command {
            Command::Counter { amount } => self.counter(*amount, now),
            Command::Withdraw { reason } => self.take_back(reason, now),
            Command::Pay => self.pay(),
            Command::Release { rating, feedback } => self.release(*rating, feedback.clone(), now),
            Command::Complain { status, reason } => self.complain(*status, reason, now),
            Command::Dispute { reason, details } => self.dispute(reason, details, now),
            Command::Cancel { agreement } => self.cancel(agreement, now),
            Command::Relock { payment_hashes } => self.relock(payment_hashes, now),
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
            | Command::Bid(_)
            | Command::Accept { .. }
            | Command::Ship { .. }
            | Command::Refund { .. }
            | Command::Serve { .. }
            | Command::Rule { .. } => Err(Refusal::new(Rule::WrongRole, "the payer of a trade cannot do that")),
        }
    }

    pub(super) fn wrong_state(&self, why: &'static str) -> Refusal {
        Refusal::new(Rule::WrongState, why)
    }

    /// The payee hears of it when it has heard of the bid.
    fn take_back(&self, reason: &str, now: Now) -> Result<Vec<Event>, Refusal> {
        match self.state {
            S::Appointing { .. } | S::Bid { .. } | S::Countered { .. } => {}
            S::Locking { .. }
            | S::Held
            | S::Shipped
            | S::Disputed { .. }
            | S::Released
            | S::Ruled
            | S::Winding { .. }
            | S::Closed { .. } => {
                return Err(self.wrong_state("the bid was accepted: propose a mutual cancel instead"));
            }
        }
        let mut events = Vec::new();
        if let Some(payment) = role::latest_offer(&self.dossier) {
            let message = Message::MutualCancel(MutualCancel { payment, agreement: reason.to_owned() });
            crate::limits::check(&message)?;
            events.push(self.dossier.say(Step::MutualCancel, message, now, [(Role::Payee, Vec::new())]));
        }
        events.push(Event::Unwound { why: Why::Withdrawn });
        Ok(events)
    }

    fn pay(&self) -> Result<Vec<Event>, Refusal> {
        match self.state {
            S::Locking { .. } if !self.dossier.pay_approved => Ok(vec![Event::PayApproved]),
            S::Locking { .. } => Ok(Vec::new()),
            S::Appointing { .. } | S::Bid { .. } | S::Countered { .. } => {
                Err(self.wrong_state("nothing was accepted yet: there are no invoices to pay"))
            }
            S::Held
            | S::Shipped
            | S::Disputed { .. }
            | S::Released
            | S::Ruled
            | S::Winding { .. }
            | S::Closed { .. } => Err(self.wrong_state("there is nothing to pay any more")),
        }
    }

    fn counter(&self, amount: Sat, now: Now) -> Result<Vec<Event>, Refusal> {
        match self.state {
            S::Countered { .. } => {}
            S::Appointing { .. }
            | S::Bid { .. }
            | S::Locking { .. }
            | S::Held
            | S::Shipped
            | S::Disputed { .. }
            | S::Released
            | S::Ruled
            | S::Winding { .. }
            | S::Closed { .. } => return Err(self.wrong_state("the payee named no other price")),
        }
        let opening = &self.dossier.opening;
        opening.terms.check_bid(amount, opening.payer_bond, opening.arbiter)?;
        let (last, id) = role::last_counter(&self.dossier, Role::Payee)
            .ok_or_else(|| self.wrong_state("the payee named no other price"))?;
        if last + 1 >= COUNTERS_MAX {
            return Err(Refusal::new(Rule::TooMany, "this has been haggled over long enough"));
        }
        let message = Message::Counter(Counter { bid: id, amount });
        Ok(vec![self.dossier.say(Step::Counter(last + 1), message, now, [(Role::Payee, Vec::new())])])
    }

    fn release(&self, rating: Option<u8>, feedback: Option<String>, now: Now) -> Result<Vec<Event>, Refusal> {
        match self.state {
            S::Held | S::Shipped | S::Disputed { .. } | S::Ruled => {}
            S::Appointing { .. } | S::Bid { .. } | S::Countered { .. } | S::Locking { .. } => {
                return Err(self.wrong_state("nothing is locked yet"));
            }
            S::Released | S::Winding { .. } | S::Closed { .. } => {
                return Err(self.wrong_state("the money has already been sent its way"));
            }
        }
        let payment = self.confirmation()?;
        let message = Message::Receipt(Receipt {
            payment,
            status: ReceiptStatus::Received,
            rating,
            feedback,
            dispute_reason: None,
            secrets: Vec::new(),
        });
        crate::limits::check(&message)?;
        let mut events = self.drop_relock();
        let to = [(Role::Payee, self.price_secrets(self.dossier.round)), (Role::Arbiter, Vec::new())];
        events.push(self.dossier.say(Step::Receipt, message, now, to));
        role::add_cancels(&self.dossier, &mut events, |_| false);
        Ok(events)
    }

    fn may_dispute(&self, now: Now) -> Result<(), Refusal> {
        match self.state {
            S::Held | S::Shipped => {}
            // The arbiter may not have got the other's word: ours is one too.
            S::Disputed { by: Role::Payee } if !self.dossier.ordered(Step::Dispute) => {}
            S::Winding { .. } if self.unreturned() && !self.dossier.ordered(Step::Dispute) => {}
            S::Appointing { .. } | S::Bid { .. } | S::Countered { .. } | S::Locking { .. } => {
                return Err(self.wrong_state("nothing is locked yet"));
            }
            S::Disputed { .. } | S::Released | S::Ruled | S::Winding { .. } | S::Closed { .. } => {
                return Err(self.wrong_state("it is disputed already, or decided"));
            }
        }
        role::may_dispute(&self.dossier, now)
    }

    fn complain(&self, status: ReceiptStatus, reason: &str, now: Now) -> Result<Vec<Event>, Refusal> {
        self.may_dispute(now)?;
        let message = Message::Receipt(Receipt {
            payment: self.confirmation()?,
            status,
            rating: None,
            feedback: None,
            dispute_reason: Some(reason.to_owned()),
            secrets: Vec::new(),
        });
        crate::limits::check(&message)?;
        let mut events = self.drop_relock();
        events.push(self.dossier.say(Step::Dispute, message, now, to_payee_and_arbiter()));
        Ok(events)
    }

    fn dispute(&self, reason: &str, details: &str, now: Now) -> Result<Vec<Event>, Refusal> {
        self.may_dispute(now)?;
        let (reason, details) = (reason.to_owned(), details.to_owned());
        let message = Message::Dispute(Dispute { payment: self.confirmation()?, reason, details });
        crate::limits::check(&message)?;
        let mut events = self.drop_relock();
        events.push(self.dossier.say(Step::Dispute, message, now, to_payee_and_arbiter()));
        Ok(events)
    }

    fn cancel(&self, agreement: &str, now: Now) -> Result<Vec<Event>, Refusal> {
        match self.state {
            S::Locking { .. } | S::Held | S::Shipped | S::Disputed { .. } => {}
            S::Appointing { .. } | S::Bid { .. } | S::Countered { .. } => {
                return Err(self.wrong_state("nothing is agreed yet: take the bid back instead"));
            }
            S::Released | S::Ruled | S::Winding { .. } | S::Closed { .. } => {
                return Err(self.wrong_state("the money has already been sent its way"));
            }
        }
        if self.dossier.ordered(Step::MutualCancel) {
            return Ok(Vec::new());
        }
        let payment = self.dossier.anchor().ok_or_else(|| self.wrong_state("nothing is agreed yet"))?;
        let message = Message::MutualCancel(MutualCancel { payment, agreement: agreement.to_owned() });
        crate::limits::check(&message)?;
        Ok(vec![self.dossier.say(Step::MutualCancel, message, now, to_payee_and_arbiter())])
    }

    fn relock(&self, hashes: &[PaymentHash], now: Now) -> Result<Vec<Event>, Refusal> {
        match self.state {
            S::Shipped => {}
            S::Appointing { .. }
            | S::Bid { .. }
            | S::Countered { .. }
            | S::Locking { .. }
            | S::Held
            | S::Disputed { .. }
            | S::Released
            | S::Ruled
            | S::Winding { .. }
            | S::Closed { .. } => {
                return Err(self.wrong_state("only goods that are under way are worth another lock"));
            }
        }
        if self.relock.is_some() {
            return Err(self.wrong_state("another lock is being made already"));
        }
        if !self.price_whole() {
            return Err(self.wrong_state("a part of the price has found its end already: what is left cannot be moved"));
        }
        let round = self.next_round();
        if round > RELOCKS_MAX {
            return Err(Refusal::new(Rule::TooMany, "a trade is locked again at most 3 times"));
        }
        if self.dossier.deadlines().is_none_or(|d| now.height >= d.rule) {
            return Err(Refusal::new(Rule::TooLate, "the present lock is too near to its end"));
        }
        if hashes.len() != usize::from(self.dossier.terms().tranches) {
            return Err(Refusal::new(Rule::TermsMismatch, "one hash is needed for each tranche"));
        }
        self.dossier.check_fresh(hashes)?;
        Ok(vec![match self.dossier.opening.arbiter {
            Some(_) => self.request(round, hashes, now),
            None => self.bid(round, hashes, now),
        }])
    }

    fn next_round(&self) -> u8 {
        u8::try_from(self.dossier.hashes.len()).unwrap_or(u8::MAX)
    }

    /// A re-lock that is not yet confirmed ends here; one that is confirmed may complete at the payee, so it stays.
    pub(super) fn drop_relock(&self) -> Vec<Event> {
        match &self.relock {
            Some(PayerRelock { round, stage }) if *stage != PayerRelockStage::Confirmed => {
                let mut events = vec![Event::RelockDropped { round: *round }];
                role::add_cancels(&self.dossier, &mut events, |leg| leg.round != *round);
                events
            }
            Some(_) | None => Vec::new(),
        }
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
        d.check_prev(envelope)?;
        let taken = Event::MessageTaken { step, envelope: Box::new(envelope.clone()) };
        match &envelope.message {
            Message::Appointment(m) => self.appointment(m, envelope, taken, now),
            Message::Counter(m) => self.countered(m, taken),
            Message::Acceptance(m) => self.acceptance(m, envelope, step, taken, now),
            Message::Shipment(_) => self.shipment(step, taken),
            Message::Dispute(_) => match self.state {
                S::Held | S::Shipped => {
                    let mut events = self.drop_relock();
                    events.push(taken);
                    Ok(events)
                }
                S::Disputed { .. } | S::Released | S::Ruled | S::Winding { .. } => Ok(vec![taken]),
                S::Appointing { .. } | S::Bid { .. } | S::Countered { .. } | S::Locking { .. } => {
                    Err(self.wrong_state("nothing is locked yet"))
                }
                S::Closed { .. } => Ok(Vec::new()),
            },
            Message::Refund(_) | Message::MutualCancel(_) => match self.state {
                S::Locking { .. } | S::Held | S::Shipped | S::Disputed { .. } | S::Ruled => {
                    let mut events = vec![taken];
                    if matches!(envelope.message, Message::Refund(_)) {
                        events.extend(role::unwind(d, Why::Refunded));
                    }
                    Ok(events)
                }
                S::Released | S::Winding { .. } | S::Closed { .. } => Ok(vec![taken]),
                S::Appointing { .. } | S::Bid { .. } | S::Countered { .. }
                    if matches!(envelope.message, Message::Refund(_)) =>
                {
                    // The payee turned the bid down.
                    Ok(vec![taken, Event::Unwound { why: Why::Withdrawn }])
                }
                S::Appointing { .. } | S::Bid { .. } | S::Countered { .. } => {
                    Err(self.wrong_state("nothing is agreed yet"))
                }
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
            | Message::Bid(_)
            | Message::PayeeBondInvoice(_)
            | Message::PaymentConfirmation(_)
            | Message::Receipt(_)
            | Message::AppointmentRequest(_) => {
                Err(Refusal::new(Rule::WrongAuthor, "only the payer says this, and that is us"))
            }
        }
    }

    fn appointment(&self, m: &Appointment, envelope: &Envelope, taken: Event, now: Now) -> Result<Vec<Event>, Refusal> {
        let d = &self.dossier;
        match (&self.state, &self.relock) {
            (S::Appointing { .. }, None) if m.round == 0 => {
                d.check_appointment(m)?;
                self.engage(m, envelope, taken, now)
            }
            (_, Some(PayerRelock { round, stage: PayerRelockStage::Appointing })) if m.round == *round => {
                d.check_appointment(m)?;
                if m.fee > Sat::ZERO {
                    return Err(Refusal::new(Rule::FeeTwice, "the arbiter asks another fee for the same trade"));
                }
                Ok(vec![taken, self.bid(*round, &d.hashes[usize::from(*round)].price, now)])
            }
            (_, _) => Ok(Vec::new()),
        }
    }

    /// The arbiter serves. The bid goes out when it charges no more than our user agreed to, by an invoice that is right; else the
    /// trade ends here, and nothing was said to the payee.
    fn engage(&self, m: &Appointment, envelope: &Envelope, taken: Event, now: Now) -> Result<Vec<Event>, Refusal> {
        let d = &self.dossier;
        let max = d.opening.max_arbiter_fee;
        if m.fee > max {
            let mut events = vec![taken];
            d.raise(&mut events, Notice::FeeTooHigh { fee: m.fee, max });
            events.extend(role::unwind(d, Why::FeeRefused));
            return Ok(events);
        }
        // What everybody can read is without the invoice; the sealed copy follows.
        if m.fee > Sat::ZERO && m.fee_invoice.is_none() {
            return Ok(Vec::new());
        }
        match d.check_bill(m, envelope.invoices.first(), now) {
            Ok(bill) => {
                let billed = bill.map(|bill| Event::FeeBilled { bill });
                let bid = self.bid(0, &d.opening.payment_hashes, now);
                Ok([taken].into_iter().chain(billed).chain([bid]).collect())
            }
            Err(refusal) => {
                let mut events = vec![Event::EvidenceKept { rule: refusal.rule, envelope: Box::new(envelope.clone()) }];
                d.raise(&mut events, Notice::InvoiceRefused { rule: refusal.rule });
                events.extend(role::unwind(d, Why::FeeRefused));
                Ok(events)
            }
        }
    }

    fn countered(&self, m: &Counter, taken: Event) -> Result<Vec<Event>, Refusal> {
        let d = &self.dossier;
        match self.state {
            S::Bid { .. } => {
                let latest = role::latest_offer(d);
                if Some(m.bid) != latest {
                    return Err(Refusal::new(Rule::OutOfOrder, "it counters something else than our last offer"));
                }
                d.check_haggling()?;
                d.terms().check_bid(m.amount, d.opening.payer_bond, d.opening.arbiter)?;
                Ok(vec![taken])
            }
            S::Appointing { .. }
            | S::Countered { .. }
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

    fn acceptance(
        &self,
        m: &Acceptance,
        envelope: &Envelope,
        step: Step,
        taken: Event,
        now: Now,
    ) -> Result<Vec<Event>, Refusal> {
        let d = &self.dossier;
        let Step::Acceptance(round) = step else {
            return Err(Refusal::new(Rule::OutOfOrder, "not an acceptance"));
        };
        let expected = match (&self.state, &self.relock) {
            (S::Bid { .. } | S::Countered { .. }, _) => round == 0 && Some(m.bid) == role::latest_offer(d),
            (S::Shipped, Some(relock)) => relock.round == round && relock.stage == PayerRelockStage::Offered,
            (
                S::Appointing { .. }
                | S::Locking { .. }
                | S::Held
                | S::Shipped
                | S::Disputed { .. }
                | S::Released
                | S::Ruled
                | S::Winding { .. }
                | S::Closed { .. },
                _,
            ) => return Ok(Vec::new()),
        };
        if !expected {
            return Err(Refusal::new(Rule::OutOfOrder, "it accepts something else than our last offer"));
        }
        match self.check_acceptance(m, envelope, round, now) {
            Ok(ready) => {
                let mut events = vec![taken];
                events.extend(ready);
                for (leg, amount) in d.sizes(round, Leg::PayeeBond) {
                    let Some(hash) = d.hash_of(leg) else { continue };
                    let expiry_secs = m.invoice_expiry_secs;
                    let min_final_cltv = d.terms().lock_blocks;
                    events.push(Event::InvoiceOrdered { leg, hash, amount, min_final_cltv, expiry_secs });
                }
                Ok(events)
            }
            // Nothing is paid, the message is kept, and there is no second acceptance to wait for.
            Err(refusal) => {
                let mut events = vec![Event::EvidenceKept { rule: refusal.rule, envelope: Box::new(envelope.clone()) }];
                d.raise(&mut events, Notice::InvoiceRefused { rule: refusal.rule });
                if round == 0 {
                    events.extend(role::unwind(d, Why::InvoiceRefused));
                } else {
                    events.push(Event::RelockDropped { round });
                }
                Ok(events)
            }
        }
    }

    fn check_acceptance(
        &self,
        m: &Acceptance,
        envelope: &Envelope,
        round: u8,
        now: Now,
    ) -> Result<Vec<Event>, Refusal> {
        let d = &self.dossier;
        let mut legs = d.sizes(round, Leg::Price);
        if m.price_invoices.len() != legs.len() {
            return Err(Refusal::new(Rule::TermsMismatch, "one invoice is needed for each tranche"));
        }
        legs.extend(d.sizes(round, Leg::PayerBond));
        let invoices = envelope.message.invoices();
        if invoices.len() != legs.len() {
            return Err(Refusal::new(Rule::TermsMismatch, "the invoice of the payer's bond is missing, or too many"));
        }
        if envelope.invoices.len() != invoices.len() {
            return Err(Refusal::new(Rule::InvoiceUnreadable, "an invoice cannot be read"));
        }
        if m.lock_blocks != d.terms().lock_blocks {
            return Err(Refusal::new(Rule::TermsMismatch, "the acceptance locks for another time than the listing"));
        }
        // Without other knowledge all invoices must at least be of one node.
        let payee = d.opening.payee_node.as_deref().or(envelope.invoices.first().map(|f| f.payee.as_str()));
        let mut ready = Vec::new();
        for (((leg, amount), invoice), facts) in legs.into_iter().zip(invoices).zip(&envelope.invoices) {
            let hash =
                d.hash_of(leg).ok_or_else(|| Refusal::new(Rule::NotAppointed, "no hash is agreed for that leg"))?;
            d.check_invoice(facts, &Expected { hash, amount, payee, lock_blocks: m.lock_blocks }, now)?;
            ready.push(Event::PaymentReady { leg, hash, amount, invoice: invoice.to_owned() });
        }
        Ok(ready)
    }

    fn shipment(&self, step: Step, taken: Event) -> Result<Vec<Event>, Refusal> {
        let Step::Shipment(round) = step else {
            return Err(Refusal::new(Rule::OutOfOrder, "not a shipment"));
        };
        match self.state {
            S::Held | S::Shipped | S::Disputed { .. } | S::Released | S::Ruled | S::Winding { .. } => {}
            S::Appointing { .. } | S::Bid { .. } | S::Countered { .. } | S::Locking { .. } => {
                return Err(self.wrong_state("nothing is locked yet"));
            }
            S::Closed { .. } => return Ok(Vec::new()),
        }
        let mut events = vec![taken];
        // The re-lock is complete: our hold on the payee's old bond is worth nothing any more.
        if round > self.dossier.round {
            role::add_cancels(&self.dossier, &mut events, |leg| leg.round >= round);
        }
        Ok(events)
    }

    fn ruling(&self, m: &Ruling, taken: Event) -> Result<Vec<Event>, Refusal> {
        let d = &self.dossier;
        match self.state {
            S::Held | S::Shipped | S::Disputed { .. } => {}
            S::Appointing { .. } | S::Bid { .. } | S::Countered { .. } | S::Locking { .. } => {
                return Err(self.wrong_state("nothing is locked yet"));
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
        events.push(taken);
        events.extend(d.learn(&m.secrets)?);
        role::add_cancels(d, &mut events, |leg| verdict.payee_bond == BondFate::Forfeit && leg.leg == Leg::PayeeBond);
        Ok(events)
    }
}

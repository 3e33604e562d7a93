//! Folding events into the dossier: the part that does not depend on the state.

use units::Sat;

use crate::event::{Event, Step};
use crate::fee::{Fee, FeeState};
use crate::ids::PartyKey;
use crate::leg::{Issued, IssuedState, LegId, Paid, PaidState};
use crate::message::{Message, Ruling};

use super::{Dossier, Hashes, Said};

impl Dossier {
    // ---- folding -----------------------------------------------------------------------------------------------

    /// Folds the part of an event that does not depend on the state. False: it does not fit.
    pub(crate) fn fold(&mut self, event: &Event) -> bool {
        match event {
            Event::MessageOrdered(outgoing) => {
                if self.ordered(outgoing.step) {
                    return false;
                }
                self.hear(outgoing.author, outgoing.step, &outgoing.message);
                self.outbox.push((**outgoing).clone());
            }
            Event::MessageSent { step, id } => {
                let Some(at) = self.outbox.iter().position(|o| o.step == *step) else { return false };
                self.outbox.remove(at);
                self.said.push(Said { author: self.me(), step: *step, id: *id });
            }
            Event::MessageTaken { step, envelope } => {
                self.hear(envelope.author, *step, &envelope.message);
                self.said.push(Said { author: envelope.author, step: *step, id: envelope.id });
                self.signed.extend(envelope.signed.clone().map(|signed| (envelope.id, signed)));
            }
            Event::SecretLearned { leg, preimage } => self.vault.push((*leg, preimage.clone())),
            Event::NoticeRaised { notice } => self.notices.push((notice.clone(), false)),
            Event::NoticeShown { notice } => {
                let Some(entry) = self.notices.iter_mut().find(|(known, _)| known == notice) else { return false };
                entry.1 = true;
            }
            Event::EvidenceKept { rule, envelope } => self.evidence.push((*rule, (**envelope).clone())),
            Event::InvoiceOrdered { leg, hash, amount, min_final_cltv, expiry_secs } => {
                let state = IssuedState::Ordered { min_final_cltv: *min_final_cltv, expiry_secs: *expiry_secs };
                self.issued.push(Issued { leg: *leg, hash: *hash, amount: *amount, state });
            }
            Event::InvoiceIssued { .. }
            | Event::LegHeld { .. }
            | Event::SettleOrdered { .. }
            | Event::LegSettled { .. }
            | Event::CancelOrdered { .. }
            | Event::LegCanceled { .. } => return self.fold_issued(event),
            Event::PaymentReady { leg, hash, amount, invoice } => self.paid.push(Paid {
                leg: *leg,
                hash: *hash,
                amount: *amount,
                invoice: invoice.clone(),
                state: PaidState::Ready,
            }),
            Event::PaymentOrdered { .. }
            | Event::PaymentInFlight { .. }
            | Event::PaymentTaken { .. }
            | Event::PaymentReturned { .. } => return self.fold_paid(event),
            Event::FeeBilled { .. }
            | Event::FeeOrdered { .. }
            | Event::FeeInFlight
            | Event::FeePaid { .. }
            | Event::FeeFailed => return self.fold_fee(event),
            Event::PayApproved => self.pay_approved = true,
            Event::Locked { .. } => self.locked = true,
            Event::RelockDropped { round } => self.withdraw_payments(|leg| leg.round == *round),
            Event::Unwound { .. } => {
                self.withdraw_payments(|_| true);
                self.withdraw_fee();
            }
            Event::AcceptOrdered { .. } | Event::Closed { .. } => {}
            Event::Opened(_) | Event::ListingOrdered { .. } | Event::Restocked { .. } | Event::Delisted { .. } => {
                return false;
            }
        }
        true
    }

    /// Payments that may not have started must not start any more; whether they did is for the node to say.
    fn withdraw_payments(&mut self, which: impl Fn(LegId) -> bool) {
        for paid in self.paid.iter_mut().filter(|p| which(p.leg)) {
            if let PaidState::Ordered { not_after } = &mut paid.state {
                *not_after = units::Unix(0);
            }
        }
    }

    /// What a message, ours or theirs, adds to the deal.
    fn hear(&mut self, author: PartyKey, step: Step, message: &Message) {
        match message {
            Message::Counter(m) if author == self.opening.payer => self.price = m.amount,
            Message::Counter(m) => self.asked = Some(m.amount),
            Message::Acceptance(m) => self.shipping_days = m.shipping_time_days.unwrap_or(self.shipping_days),
            Message::PaymentConfirmation(m) => {
                if let Step::PaymentConfirmation(round) = step {
                    self.claims.push((round, m.paid_height));
                }
            }
            Message::AppointmentRequest(m) => self.round_mut(m.bid.round).price = m.bid.payment_hashes.clone(),
            Message::Bid(m) => self.round_mut(m.round).price = m.payment_hashes.clone(),
            Message::Appointment(m) => {
                if m.round == 0 && m.fee > Sat::ZERO {
                    self.fee = Some(Fee { amount: m.fee, bill: None, state: FeeState::Unpaid });
                }
                let hashes = self.round_mut(m.round);
                hashes.vouched = if m.confirms_release { m.payment_hashes.clone() } else { Vec::new() };
                hashes.payer_bond = m.payer_bond_hash;
                hashes.payee_bond = m.payee_bond_hash;
            }
            Message::Ruling(m) => self.ruling = Some(Ruling { secrets: Vec::new(), ..m.clone() }),
            _ => {}
        }
    }

    fn round_mut(&mut self, round: u8) -> &mut Hashes {
        let round = usize::from(round);
        if self.hashes.len() <= round {
            self.hashes.resize(round + 1, Hashes::default());
        }
        &mut self.hashes[round]
    }

    fn fold_issued(&mut self, event: &Event) -> bool {
        use IssuedState as S;
        let (Event::InvoiceIssued { leg, .. }
        | Event::LegHeld { leg, .. }
        | Event::SettleOrdered { leg }
        | Event::LegSettled { leg }
        | Event::CancelOrdered { leg }
        | Event::LegCanceled { leg }) = event
        else {
            return false;
        };
        let secret = self.vault.iter().find(|(known, _)| known == leg).map(|(_, preimage)| preimage.clone());
        let Some(issued) = self.issued.iter_mut().find(|i| i.leg == *leg) else { return false };
        issued.state = match (event, &issued.state) {
            (Event::InvoiceIssued { invoice, .. }, S::Ordered { .. }) => S::Open { invoice: invoice.clone() },
            (Event::LegHeld { expiry, .. }, S::Open { .. }) => S::Held { expiry: *expiry },
            (Event::SettleOrdered { .. }, S::Held { expiry }) => match secret {
                Some(preimage) => S::SettleOrdered { expiry: *expiry, preimage },
                None => return false,
            },
            (
                Event::LegSettled { .. },
                S::SettleOrdered { .. } | S::Open { .. } | S::Held { .. } | S::CancelOrdered | S::Canceled,
            ) => S::Settled,
            (Event::CancelOrdered { .. }, S::Ordered { .. } | S::Open { .. } | S::Held { .. } | S::Canceled) => {
                S::CancelOrdered
            }
            (
                Event::LegCanceled { .. },
                S::Ordered { .. } | S::Open { .. } | S::Held { .. } | S::SettleOrdered { .. } | S::CancelOrdered,
            ) => S::Canceled,
            (_, _) => return false,
        };
        true
    }

    fn fold_paid(&mut self, event: &Event) -> bool {
        use PaidState as S;
        let (Event::PaymentOrdered { leg, .. }
        | Event::PaymentInFlight { leg }
        | Event::PaymentTaken { leg, .. }
        | Event::PaymentReturned { leg }) = event
        else {
            return false;
        };
        let Some(paid) = self.paid.iter_mut().find(|p| p.leg == *leg) else { return false };
        paid.state = match (event, &paid.state) {
            (Event::PaymentOrdered { not_after, height, .. }, S::Ready) => {
                while self.paid_from.len() <= usize::from(leg.round) {
                    self.paid_from.push(*height);
                }
                S::Ordered { not_after: *not_after }
            }
            (Event::PaymentInFlight { .. }, S::Ordered { .. }) => S::InFlight,
            (Event::PaymentTaken { preimage, height, .. }, S::Ordered { .. } | S::InFlight | S::Returned) => {
                self.taken_at.push((*leg, *height));
                S::Taken { preimage: preimage.clone() }
            }
            (Event::PaymentReturned { .. }, S::Ordered { .. } | S::InFlight) => S::Returned,
            (_, _) => return false,
        };
        true
    }
}

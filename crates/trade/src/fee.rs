//! Fee: what the arbiter is paid for serving, by an ordinary invoice, before anything is locked. It is no leg: nobody holds it, and
//! it does not come back.

use serde::{Deserialize, Serialize};
use units::{Now, PaymentHash, Sat, Unix};

use crate::dossier::Dossier;
use crate::effect::{Effect, Notice};
use crate::event::{Event, Role};
use crate::input::{InvoiceFacts, NodeReport};
use crate::message::Appointment;
use crate::refusal::{Refusal, Rule};
use crate::role;

/// Longest final CLTV of a fee's invoice, in blocks: more would make it a hold invoice, and the arbiter could keep us waiting.
const FEE_CLTV_MAX: u32 = 144;
/// Seconds before the invoice expires after which no payment of it is started.
const PAY_MARGIN_SECS: u64 = 30;

/// The arbiter's invoice, read and checked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bill {
    /// Its hash.
    pub hash: PaymentHash,
    /// BOLT11.
    pub invoice: String,
    /// When it can no longer be paid.
    pub expires_at: Unix,
}

/// What the arbiter charges for a trade, once it said so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fee {
    /// How much.
    pub amount: Sat,
    /// Its invoice; only payer and arbiter have it.
    pub bill: Option<Bill>,
    /// Where the payment stands, as far as our own node says. The payee sees none.
    pub state: FeeState,
}

/// Where the payment of a fee stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FeeState {
    /// Nothing was paid.
    Unpaid,
    /// Payer: to be paid.
    Ordered {
        /// Never start the payment after this time.
        not_after: Unix,
    },
    /// Payer: our node has it under way.
    InFlight,
    /// The arbiter has it.
    Paid,
    /// Payer: it failed, and nothing is under way.
    Failed,
}

impl Fee {
    /// Our node has nothing under way for it, and will not start anything.
    pub fn is_idle(&self) -> bool {
        !matches!(self.state, FeeState::Ordered { .. } | FeeState::InFlight)
    }

    /// Hash of its invoice, where we have it.
    pub fn hash(&self) -> Option<PaymentHash> {
        self.bill.as_ref().map(|bill| bill.hash)
    }

    /// The last moment at which its payment may start.
    pub(crate) fn payable_until(&self) -> Option<Unix> {
        self.bill.as_ref().map(|bill| Unix(bill.expires_at.0.saturating_sub(PAY_MARGIN_SECS)))
    }

    /// What is owed for it.
    pub(crate) fn pending(&self) -> Option<Effect> {
        match (&self.state, &self.bill) {
            (FeeState::Ordered { not_after }, Some(bill)) => Some(Effect::PayFee {
                hash: bill.hash,
                invoice: bill.invoice.clone(),
                amount: self.amount.to_msat().unwrap_or_default(),
                not_after: *not_after,
            }),
            (_, _) => None,
        }
    }

    /// What a report of our node adds.
    pub(crate) fn report(&self, d: &Dossier, bill: &Bill, report: &NodeReport) -> Result<Vec<Event>, Refusal> {
        use FeeState as S;
        let payer = d.opening.role == Role::Payer;
        Ok(match (report, &self.state) {
            (NodeReport::PaymentInFlight { .. }, S::Ordered { .. }) => vec![Event::FeeInFlight],
            (NodeReport::PaymentTaken { preimage, .. }, S::Ordered { .. } | S::InFlight | S::Failed) => {
                if preimage.hash() != bill.hash {
                    return Err(Refusal::new(Rule::SecretMismatch, "the node reports a secret of another hash"));
                }
                vec![Event::FeePaid { preimage: Some(preimage.clone()) }]
            }
            (NodeReport::PaymentReturned { .. }, S::Ordered { .. } | S::InFlight) => {
                let mut events = vec![Event::FeeFailed];
                d.raise(&mut events, Notice::FeeUnpaid { fee: self.amount });
                events
            }
            (NodeReport::Received { amount, .. }, S::Unpaid) if !payer => {
                if self.amount.to_msat().ok().is_none_or(|asked| *amount < asked) {
                    return Err(Refusal::new(Rule::InvoiceAmount, "less arrived than the fee"));
                }
                vec![Event::FeePaid { preimage: None }]
            }
            (
                NodeReport::PaymentInFlight { .. }
                | NodeReport::PaymentTaken { .. }
                | NodeReport::PaymentReturned { .. }
                | NodeReport::Received { .. },
                _,
            ) => Vec::new(),
            (
                NodeReport::InvoiceIssued { .. }
                | NodeReport::InvoiceRefused { .. }
                | NodeReport::Held { .. }
                | NodeReport::Settled { .. }
                | NodeReport::Canceled { .. },
                _,
            ) => return Err(Refusal::new(Rule::WrongState, "a fee is no hold invoice")),
        })
    }
}

impl Dossier {
    /// Every check of the arbiter's invoice, before any money moves. None: it serves for nothing.
    pub(crate) fn check_bill(
        &self,
        m: &Appointment,
        facts: Option<&InvoiceFacts>,
        now: Now,
    ) -> Result<Option<Bill>, Refusal> {
        let refuse = |rule, why: &'static str| Err(Refusal::new(rule, why));
        let invoice = match &m.fee_invoice {
            None if m.fee == Sat::ZERO => return Ok(None),
            Some(invoice) if m.fee > Sat::ZERO => invoice,
            Some(_) | None => return refuse(Rule::InvoiceAmount, "the arbiter's fee and its invoice do not fit"),
        };
        let Some(facts) = facts else { return refuse(Rule::InvoiceUnreadable, "the arbiter's invoice cannot be read") };
        if facts.network != self.opening.node.network {
            return refuse(Rule::InvoiceNetwork, "the arbiter's invoice is for another network");
        }
        if facts.payee == self.opening.node.node_id {
            return refuse(Rule::InvoicePayee, "the arbiter's invoice pays our own node");
        }
        if facts.amount.is_none() || facts.amount != m.fee.to_msat().ok() {
            return refuse(Rule::InvoiceAmount, "the arbiter's invoice asks for another amount than its fee");
        }
        if facts.min_final_cltv > FEE_CLTV_MAX {
            return refuse(Rule::InvoiceCltv, "the arbiter's invoice could be held for days");
        }
        // It is paid when the bid was accepted, and that may take as long as the bid stands.
        if facts.expires_at < role::bid_until(&self.opening) || facts.expires_at <= now.unix {
            return refuse(Rule::InvoiceExpired, "the arbiter's invoice expires before the bid does");
        }
        if !facts.features_known {
            return refuse(Rule::InvoiceFeatures, "the arbiter's invoice demands features that nobody knows");
        }
        self.check_fresh(&[facts.hash])?;
        Ok(Some(Bill { hash: facts.hash, invoice: invoice.clone(), expires_at: facts.expires_at }))
    }

    /// The part of an event that is about the fee. False: it does not fit.
    pub(crate) fn fold_fee(&mut self, event: &Event) -> bool {
        use FeeState as S;
        let payer = self.opening.role == Role::Payer;
        let Some(fee) = &mut self.fee else { return false };
        fee.state = match (event, &fee.state) {
            (Event::FeeBilled { bill }, S::Unpaid) if fee.bill.is_none() => {
                fee.bill = Some(bill.clone());
                S::Unpaid
            }
            (Event::FeeOrdered { not_after }, S::Unpaid) => S::Ordered { not_after: *not_after },
            (Event::FeeInFlight, S::Ordered { .. }) => S::InFlight,
            (Event::FeePaid { .. }, S::Ordered { .. } | S::InFlight | S::Failed) if payer => S::Paid,
            (Event::FeePaid { .. }, S::Unpaid) if !payer => S::Paid,
            (Event::FeeFailed, S::Ordered { .. } | S::InFlight) => S::Failed,
            (_, _) => return false,
        };
        true
    }

    /// The trade ends: a payment of the fee that has not started must not start any more.
    pub(crate) fn withdraw_fee(&mut self) {
        if let Some(Fee { state: FeeState::Ordered { not_after }, .. }) = &mut self.fee {
            *not_after = Unix(0);
        }
    }
}

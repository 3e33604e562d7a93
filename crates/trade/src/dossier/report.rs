//! What our own node reports, and what the counterparty's invoices must say, checked against the dossier.

use units::{Now, PaymentHash, Sat};

use crate::effect::Notice;
use crate::event::Event;
use crate::input::{InvoiceFacts, NodeReport};
use crate::leg::{Issued, IssuedState, Paid, PaidState};
use crate::refusal::{Refusal, Rule};
use crate::terms::EscrowTerms;

use super::Dossier;

/// Seconds before an invoice expires after which no payment of it is started.
const PAY_MARGIN_SECS: u64 = 30;

impl Dossier {
    // ---- node reports ------------------------------------------------------------------------------------------

    /// Facts that a report adds to what is recorded. Repeats and stale reports add none.
    pub(crate) fn report(&self, report: &NodeReport, now: Now) -> Result<Vec<Event>, Refusal> {
        let hash = report.hash();
        if let Some((fee, bill)) = self.fee.as_ref().and_then(|fee| fee.bill.as_ref().map(|bill| (fee, bill)))
            && bill.hash == hash
        {
            return fee.report(self, bill, report);
        }
        if let Some(issued) = self.issued.iter().find(|i| i.hash == hash) {
            return self.report_issued(issued, report);
        }
        if let Some(paid) = self.paid.iter().find(|p| p.hash == hash) {
            return report_paid(paid, report, now);
        }
        Err(Refusal::new(Rule::UnknownTrade, "no leg of this trade has that hash"))
    }

    fn report_issued(&self, issued: &Issued, report: &NodeReport) -> Result<Vec<Event>, Refusal> {
        use IssuedState as S;
        let leg = issued.leg;
        let mut events = Vec::new();
        match (report, &issued.state) {
            (NodeReport::InvoiceIssued { invoice, .. }, S::Ordered { .. }) => {
                events.push(Event::InvoiceIssued { leg, invoice: invoice.clone() });
            }
            (NodeReport::InvoiceRefused { .. }, S::Ordered { .. }) => {
                self.raise(&mut events, Notice::NodeRefused { leg });
                // An earlier attempt may have made it after all: close it.
                events.push(Event::CancelOrdered { leg });
            }
            (NodeReport::Held { amount, expiry, .. }, S::Open { .. }) => {
                let agreed = issued.amount.to_msat().map_err(|_| amount_refusal())?;
                if *amount < agreed || amount.0 / 2 > agreed.0 {
                    return Err(amount_refusal());
                }
                events.push(Event::LegHeld { leg, expiry: *expiry });
            }
            // Paid after we closed it: fail it back at once, whatever else has happened since.
            (NodeReport::Held { .. }, S::Canceled) => events.push(Event::CancelOrdered { leg }),
            (NodeReport::Settled { .. }, S::SettleOrdered { .. }) => events.push(Event::LegSettled { leg }),
            (NodeReport::Settled { .. }, S::Open { .. } | S::Held { .. } | S::CancelOrdered | S::Canceled) => {
                events.push(Event::LegSettled { leg });
                self.raise(&mut events, Notice::SettledWithoutOrder { leg });
            }
            (NodeReport::Canceled { .. }, S::Open { .. } | S::CancelOrdered) => {
                events.push(Event::LegCanceled { leg });
            }
            (NodeReport::Canceled { .. }, S::Held { .. }) => {
                events.push(Event::LegCanceled { leg });
                self.raise(&mut events, Notice::LegVanished { leg });
            }
            (NodeReport::Canceled { .. }, S::SettleOrdered { .. }) => {
                events.push(Event::LegCanceled { leg });
                self.raise(&mut events, Notice::SecretTooLate { leg });
            }
            (
                NodeReport::InvoiceIssued { .. }
                | NodeReport::InvoiceRefused { .. }
                | NodeReport::Held { .. }
                | NodeReport::Settled { .. }
                | NodeReport::Canceled { .. },
                _,
            ) => {}
            (
                NodeReport::PaymentInFlight { .. }
                | NodeReport::PaymentTaken { .. }
                | NodeReport::PaymentReturned { .. }
                | NodeReport::Received { .. },
                _,
            ) => return Err(Refusal::new(Rule::WrongState, "we issued this leg, we do not pay it")),
        }
        Ok(events)
    }
}

fn amount_refusal() -> Refusal {
    Refusal::new(Rule::InvoiceAmount, "the node holds another amount than the leg's")
}

fn report_paid(paid: &Paid, report: &NodeReport, now: Now) -> Result<Vec<Event>, Refusal> {
    use PaidState as S;
    let leg = paid.leg;
    Ok(match (report, &paid.state) {
        (NodeReport::PaymentInFlight { .. }, S::Ordered { .. }) => vec![Event::PaymentInFlight { leg }],
        (NodeReport::PaymentTaken { preimage, .. }, S::Ordered { .. } | S::InFlight | S::Returned) => {
            if preimage.hash() != paid.hash {
                return Err(Refusal::new(Rule::SecretMismatch, "the node reports a secret of another hash"));
            }
            vec![Event::PaymentTaken { leg, preimage: preimage.clone(), height: now.height }]
        }
        (NodeReport::PaymentReturned { .. }, S::Ordered { .. } | S::InFlight) => {
            vec![Event::PaymentReturned { leg }]
        }
        (
            NodeReport::PaymentInFlight { .. } | NodeReport::PaymentTaken { .. } | NodeReport::PaymentReturned { .. },
            _,
        ) => Vec::new(),
        (
            NodeReport::InvoiceIssued { .. }
            | NodeReport::InvoiceRefused { .. }
            | NodeReport::Held { .. }
            | NodeReport::Settled { .. }
            | NodeReport::Canceled { .. }
            | NodeReport::Received { .. },
            _,
        ) => return Err(Refusal::new(Rule::WrongState, "we pay this leg, we did not issue it")),
    })
}

/// What an invoice has to say before it is paid.
pub(crate) struct Expected<'a> {
    pub(crate) hash: PaymentHash,
    pub(crate) amount: Sat,
    pub(crate) payee: Option<&'a str>,
    pub(crate) lock_blocks: u16,
}

impl Dossier {
    /// Every check of an invoice of the counterparty, before any money moves.
    pub(crate) fn check_invoice(&self, facts: &InvoiceFacts, want: &Expected<'_>, now: Now) -> Result<(), Refusal> {
        let refuse = |rule, why: &'static str| Err(Refusal::new(rule, why));
        if facts.network != self.opening.node.network {
            return refuse(Rule::InvoiceNetwork, "the invoice is for another network");
        }
        if facts.payee == self.opening.node.node_id {
            return refuse(Rule::InvoicePayee, "the invoice pays our own node");
        }
        if want.payee.is_some_and(|payee| payee != facts.payee) {
            return refuse(Rule::InvoicePayee, "the invoice pays another node than it should");
        }
        if facts.hash != want.hash {
            return refuse(Rule::InvoiceHash, "the invoice is on another hash than agreed");
        }
        if facts.amount.is_none() || facts.amount != want.amount.to_msat().ok() {
            return refuse(Rule::InvoiceAmount, "the invoice asks for another amount than agreed");
        }
        let lock = u32::from(want.lock_blocks);
        if facts.min_final_cltv < lock || facts.min_final_cltv > lock + EscrowTerms::CLTV_SLACK {
            return refuse(Rule::InvoiceCltv, "the invoice locks shorter or longer than agreed");
        }
        if facts.expires_at.0 <= now.unix.0.saturating_add(2 * PAY_MARGIN_SECS) {
            return refuse(Rule::InvoiceExpired, "the invoice can no longer be paid");
        }
        if !facts.features_known {
            return refuse(Rule::InvoiceFeatures, "the invoice demands features that nobody knows");
        }
        Ok(())
    }

    /// The last moment at which a payment of these invoices may start.
    pub(crate) fn not_after(invoices: &[InvoiceFacts]) -> units::Unix {
        let first = invoices.iter().map(|facts| facts.expires_at.0).min().unwrap_or(0);
        units::Unix(first.saturating_sub(PAY_MARGIN_SECS))
    }
}

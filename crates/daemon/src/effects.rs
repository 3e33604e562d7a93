//! Effects that move money, and what a node says about them in the words of a trade.

use std::time::Duration;

use node::{
    HoldInvoice, HoldInvoiceRequest, HoldState, Node, NodeError, PayLimits, Payable, Payment, PaymentId, PaymentState,
};
use trade::{Effect, NodeReport, Step, Watch};
use units::{PaymentHash, Unix};

/// How long the node may take for one effect, or one verb, before who asked turns to something else.
const NODE_TIMEOUT: Duration = Duration::from_secs(10);

/// What an effect does, in words. Within a trade no two effects that are owed at once have the same words.
pub(crate) fn in_words(effect: &Effect) -> String {
    match effect {
        Effect::CreateHoldInvoice { leg, .. } => format!("create the invoice of {leg}"),
        Effect::PayInvoice { leg, .. } => format!("pay {leg}"),
        Effect::PayFee { .. } => "pay the arbiter's fee".to_owned(),
        Effect::Settle { leg, .. } => format!("settle {leg}"),
        Effect::Cancel { leg, .. } => format!("cancel {leg}"),
        Effect::Send(outgoing) => sending(outgoing.step),
        Effect::Warn(notice) | Effect::Alarm(notice) => format!("show {notice:?}"),
    }
}

/// The words for sending the message of a step.
pub(crate) fn sending(step: Step) -> String {
    format!("send {step:?}")
}

/// Carries out one effect at the node, within [`NODE_TIMEOUT`]. `None`: begun, but the node has not said yet how it ended.
pub(crate) async fn move_money(node: &dyn Node, effect: &Effect, now: Unix) -> Result<Option<NodeReport>, NodeError> {
    // Safe to ask again: every effect is idempotent, and a payment is looked up first.
    in_time(ask_node(node, effect, now)).await
}

/// What the node answers within [`NODE_TIMEOUT`]. One that does not may have done what it was asked.
pub(crate) async fn in_time<T>(asked: impl Future<Output = node::Result<T>>) -> node::Result<T> {
    let late = |_| Err(NodeError::Unknown("the node did not answer in time".to_owned()));
    tokio::time::timeout(NODE_TIMEOUT, asked).await.unwrap_or_else(late)
}

async fn ask_node(node: &dyn Node, effect: &Effect, now: Unix) -> Result<Option<NodeReport>, NodeError> {
    match effect {
        Effect::CreateHoldInvoice { hash, amount, min_final_cltv, expiry_secs, .. } => {
            let request = HoldInvoiceRequest {
                hash: *hash,
                amount: *amount,
                min_final_cltv: *min_final_cltv,
                expiry_secs: *expiry_secs,
                description: "souk escrow".to_owned(),
            };
            match node.create_hold_invoice(request).await {
                Ok(invoice) => Ok(Some(NodeReport::InvoiceIssued { hash: *hash, invoice })),
                Err(NodeError::Rejected(reason) | NodeError::Unsupported(reason)) => {
                    Ok(Some(NodeReport::InvoiceRefused { hash: *hash, reason }))
                }
                Err(error) => Err(error),
            }
        }
        Effect::PayInvoice { hash, invoice, not_after, .. } | Effect::PayFee { hash, invoice, not_after, .. } => {
            pay(node, *hash, invoice, *not_after, now).await
        }
        Effect::Settle { hash, preimage, .. } => match node.settle(preimage.clone()).await {
            Ok(()) | Err(NodeError::Rejected(_)) => final_state(node, *hash).await,
            Err(error) => Err(error),
        },
        Effect::Cancel { hash, .. } => match node.cancel(*hash).await {
            Ok(()) | Err(NodeError::Rejected(_)) => final_state(node, *hash).await,
            Err(NodeError::NotFound(_)) => Ok(Some(NodeReport::Canceled { hash: *hash })),
            Err(error) => Err(error),
        },
        Effect::Send(_) | Effect::Warn(_) | Effect::Alarm(_) => Ok(None),
    }
}

/// Looks first, pays only what the node has never heard of: a payment that may be under way is never started again.
async fn pay(
    node: &dyn Node,
    hash: PaymentHash,
    invoice: &str,
    not_after: Unix,
    now: Unix,
) -> Result<Option<NodeReport>, NodeError> {
    match node.lookup_payment(PaymentId::from(hash)).await {
        Ok(payment) => return Ok(of_payment(&payment)),
        Err(NodeError::NotFound(_)) => {}
        Err(error) => return Err(error),
    }
    if now > not_after {
        return Ok(Some(NodeReport::PaymentReturned { hash, reason: "the time to pay has passed".to_owned() }));
    }
    let payable = Payable::Bolt11 { invoice: invoice.to_owned(), amount: None };
    // As long as the trade allows: the other side may only be restarting.
    let left = u32::try_from(not_after.0 - now.0).unwrap_or(u32::MAX);
    let limits = PayLimits { timeout_secs: left.max(1), ..PayLimits::default() };
    match node.pay(payable, limits).await {
        Ok(_) => Ok(Some(NodeReport::PaymentInFlight { hash })),
        Err(NodeError::Rejected(reason)) => Ok(Some(NodeReport::PaymentReturned { hash, reason })),
        Err(error) => Err(error),
    }
}

async fn final_state(node: &dyn Node, hash: PaymentHash) -> Result<Option<NodeReport>, NodeError> {
    let invoice = node.lookup(hash).await?;
    match invoice.state {
        HoldState::Settled | HoldState::Canceled => Ok(of_hold(&invoice)),
        HoldState::Open | HoldState::Accepted => Ok(None),
    }
}

/// How a leg stands at the node; none when the node has never heard of it.
pub(crate) async fn look_up(node: &dyn Node, watch: Watch) -> Result<Option<NodeReport>, NodeError> {
    let found = match watch {
        Watch::Issued(hash) => node.lookup(hash).await.map(|invoice| of_hold(&invoice)),
        Watch::Paid(hash) => node.lookup_payment(PaymentId::from(hash)).await.map(|payment| of_payment(&payment)),
        Watch::Received(hash) => {
            node.lookup_received(hash).await.map(|amount| Some(NodeReport::Received { hash, amount }))
        }
    };
    match found {
        Ok(report) => Ok(report),
        Err(NodeError::NotFound(_)) => Ok(None),
        Err(error) => Err(error),
    }
}

/// A hold invoice in the words of a trade.
pub(crate) fn of_hold(invoice: &HoldInvoice) -> Option<NodeReport> {
    let hash = invoice.hash;
    match invoice.state {
        HoldState::Open => Some(NodeReport::InvoiceIssued { hash, invoice: invoice.invoice.clone() }),
        HoldState::Accepted => Some(NodeReport::Held {
            hash,
            amount: invoice.received.unwrap_or(invoice.amount),
            expiry: invoice.expiry_height?,
        }),
        HoldState::Settled => Some(NodeReport::Settled { hash }),
        HoldState::Canceled => Some(NodeReport::Canceled { hash }),
    }
}

/// A payment in the words of a trade; none for one without a hash, which no trade made.
pub(crate) fn of_payment(payment: &Payment) -> Option<NodeReport> {
    let hash = payment.hash?;
    Some(match &payment.state {
        PaymentState::InFlight => NodeReport::PaymentInFlight { hash },
        PaymentState::Succeeded { preimage, .. } => NodeReport::PaymentTaken { hash, preimage: preimage.clone() },
        PaymentState::Failed { reason } => NodeReport::PaymentReturned { hash, reason: reason.clone() },
    })
}

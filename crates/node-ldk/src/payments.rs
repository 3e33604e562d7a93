//! Payments of ours: what is recorded of each, and how LDK's words about them become ours. No IO.

use lightning::events::PaymentFailureReason;
use lightning::ln::channelmanager::{Bolt11PaymentError, RetryableSendFailure};
use lightning::offers::parse::Bolt12SemanticError;
use lightning::routing::router::RouteParametersConfig;
use node::{NodeError, PayLimits, Payment, PaymentId, PaymentState, default_fee_limit};
use serde::{Deserialize, Serialize};
use units::{Height, Msat, Now, PaymentHash, Unix};

/// A forwarding node refuses an HTLC that expires more than 2016 blocks from its tip, and LDK takes such a refusal
/// for a broken node. It may be a few blocks behind us.
const TIP_SLACK: u32 = 6;
/// Longest lock of a payment over the whole route.
const MAX_TOTAL_CLTV: u32 = 2016;

/// Everything the node remembers of one payment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PaymentRow {
    pub(crate) id: PaymentId,
    pub(crate) hash: Option<PaymentHash>,
    pub(crate) amount: Msat,
    pub(crate) state: PaymentState,
    pub(crate) created: Unix,
    /// How to try it again while no way to the payee works; none for BOLT12, which LDK retries alone.
    pub(crate) again: Option<Again>,
}

/// What a BOLT11 payment is tried again with. LDK gives a payment up as soon as it sees no route, even when a peer is
/// only restarting: the time that the caller allowed is kept here.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Again {
    pub(crate) invoice: String,
    /// Only for an invoice without an amount.
    pub(crate) amount: Option<Msat>,
    pub(crate) max_fee: Option<Msat>,
    pub(crate) max_total_cltv: u32,
    /// When to give up.
    pub(crate) until: Unix,
    /// Height at which to give up, whatever the clock says: what was held for a while and came back is not sent a second time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) until_height: Option<Height>,
}

/// Blocks found in a time when they come twice as fast as they should, and what may come in a burst.
const BLOCK_SECS_LEAST: u32 = 300;
const BLOCKS_MORE: u32 = 18;

impl Again {
    /// The height that ends an attempt which begins now and may take `secs`.
    pub(crate) fn height_after(now: Height, secs: u32) -> Height {
        now.plus(secs / BLOCK_SECS_LEAST + BLOCKS_MORE)
    }

    /// Is there time for another attempt?
    pub(crate) fn in_time(&self, now: Now) -> bool {
        self.until > now.unix && self.until_height.is_none_or(|end| now.height < end)
    }

    /// The caller's limits, with the time that is left.
    pub(crate) fn limits(&self, now: Unix) -> PayLimits {
        let left = u32::try_from(self.until.0.saturating_sub(now.0)).unwrap_or(u32::MAX);
        PayLimits { max_fee: self.max_fee, max_total_cltv: self.max_total_cltv, timeout_secs: left }
    }
}

/// Could the same payment succeed later, with nothing changed but who is connected?
pub(crate) fn may_pass(reason: Option<PaymentFailureReason>) -> bool {
    matches!(reason, Some(PaymentFailureReason::RouteNotFound | PaymentFailureReason::RetriesExhausted))
}

impl PaymentRow {
    pub(crate) fn view(&self) -> Payment {
        Payment { id: self.id, hash: self.hash, amount: self.amount, state: self.state.clone(), created: self.created }
    }

    pub(crate) fn in_flight(&self) -> bool {
        self.state == PaymentState::InFlight
    }
}

/// The caller's limits in LDK's words.
pub(crate) fn route_limits(limits: &PayLimits, amount: Msat) -> RouteParametersConfig {
    let fee = limits.max_fee.unwrap_or_else(|| default_fee_limit(amount));
    RouteParametersConfig {
        max_total_routing_fee_msat: Some(fee.0),
        max_total_cltv_expiry_delta: limits.max_total_cltv.min(MAX_TOTAL_CLTV - TIP_SLACK),
        ..RouteParametersConfig::default()
    }
}

/// Why LDK gave a payment up, for the user.
pub(crate) fn failure_words(reason: Option<PaymentFailureReason>) -> String {
    let words = match reason {
        Some(PaymentFailureReason::RecipientRejected) => "the payee failed it back",
        Some(PaymentFailureReason::UserAbandoned) => "given up by us",
        Some(PaymentFailureReason::RetriesExhausted) => "no way worked within the time allowed",
        Some(PaymentFailureReason::PaymentExpired) => "the invoice expired",
        Some(PaymentFailureReason::RouteNotFound) => "no route within the fee and time limits",
        Some(PaymentFailureReason::UnknownRequiredFeatures) => "the invoice asks for features that we do not know",
        Some(PaymentFailureReason::InvoiceRequestExpired) => "the payee did not answer with an invoice",
        Some(PaymentFailureReason::InvoiceRequestRejected) => "the payee refused to make an invoice",
        Some(PaymentFailureReason::BlindedPathCreationFailed) => "no reply path to us could be made",
        Some(PaymentFailureReason::UnexpectedError) | None => "failed",
    };
    words.into()
}

/// Why a BOLT11 payment did not even start.
pub(crate) fn bolt11_refusal(error: &Bolt11PaymentError) -> NodeError {
    NodeError::Rejected(match error {
        Bolt11PaymentError::InvalidAmount => "the amount does not fit the invoice".into(),
        Bolt11PaymentError::SendingFailed(RetryableSendFailure::PaymentExpired) => "the invoice expired".into(),
        Bolt11PaymentError::SendingFailed(RetryableSendFailure::RouteNotFound) => {
            "no route to the payee within the fee and time limits: too little outbound capacity, or no channel to it"
                .into()
        }
        Bolt11PaymentError::SendingFailed(RetryableSendFailure::DuplicatePayment) => "already being paid".into(),
        Bolt11PaymentError::SendingFailed(RetryableSendFailure::OnionPacketSizeExceeded) => {
            "the invoice carries too much data".into()
        }
    })
}

/// Why a BOLT12 payment did not even start.
pub(crate) fn bolt12_refusal(error: &Bolt12SemanticError) -> NodeError {
    NodeError::Rejected(match error {
        Bolt12SemanticError::MissingPaths => "no onion-message path back to us: connect to a peer first".into(),
        Bolt12SemanticError::AlreadyExpired => "the offer expired".into(),
        Bolt12SemanticError::UnsupportedChain => "the offer is for another network".into(),
        Bolt12SemanticError::InsufficientAmount => "the amount is below what the offer asks for".into(),
        Bolt12SemanticError::MissingAmount => "the offer leaves the amount to us: say how much".into(),
        other => format!("the offer cannot be paid: {other:?}"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_payment_locks_money_for_longer_than_any_forwarder_takes() {
        let limits = PayLimits { max_total_cltv: 10_000, ..PayLimits::default() };
        assert_eq!(route_limits(&limits, Msat(1)).max_total_cltv_expiry_delta, 2010);
        let limits = PayLimits { max_total_cltv: 500, max_fee: Some(Msat(7)), ..PayLimits::default() };
        let config = route_limits(&limits, Msat(1));
        assert_eq!((config.max_total_cltv_expiry_delta, config.max_total_routing_fee_msat), (500, Some(7)));
    }

    #[test]
    fn an_attempt_ends_by_the_clock_or_by_the_chain_whichever_is_first() {
        let now = Now { height: Height(100), unix: Unix(1_000) };
        let again = Again {
            invoice: String::new(),
            amount: None,
            max_fee: None,
            max_total_cltv: 0,
            until: Unix(4_600),
            until_height: Some(Again::height_after(now.height, 3_600)),
        };
        assert!(again.in_time(now) && again.in_time(Now { height: Height(129), unix: Unix(4_599) }));
        assert!(!again.in_time(Now { height: Height(100), unix: Unix(4_600) }));
        assert!(!again.in_time(Now { height: Height(130), unix: Unix(1_000) }));
    }
}

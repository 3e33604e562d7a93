//! Payments that found no way are tried again for as long as their caller allows.

use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use lightning::ln::channel_state::ChannelDetails;
use lightning::ln::channelmanager::{Bolt11PaymentError, RecentPaymentDetails, RetryableSendFailure};
use lightning_invoice::Bolt11Invoice;
use node::{PaymentId, PaymentState};
use units::Msat;

use crate::core::Core;
use crate::payments::{Again, PaymentRow, bolt11_refusal};
use crate::store::StoreError;

/// How long a payment waits for its next attempt, at first and at most.
const REST_FIRST: Duration = Duration::from_millis(250);
const REST_LAST: Duration = Duration::from_secs(10);

impl Core {
    /// Tries again what is to be tried again, at growing distances.
    pub(crate) async fn follow_retries(self: Arc<Self>) {
        loop {
            self.retry.notified().await;
            let mut rest = REST_FIRST;
            loop {
                tokio::select! {
                    () = tokio::time::sleep(rest) => rest = (rest * 2).min(REST_LAST),
                    () = self.retry.notified() => {
                        rest = REST_FIRST;
                        continue;
                    }
                }
                let core = Arc::clone(&self);
                // Finding a route takes a while on a large graph.
                match tokio::task::spawn_blocking(move || core.retry_payments()).await {
                    Ok(Ok(true)) => {}
                    Ok(Ok(false)) => break,
                    Ok(Err(error)) => tracing::error!(%error, "payments cannot be tried again"),
                    Err(error) => tracing::error!(%error, "trying payments again broke off"),
                }
            }
        }
    }

    /// LDK has HTLCs of this payment under way, or still looks for a route.
    pub(crate) fn is_under_way(&self, id: PaymentId) -> bool {
        self.manager.list_recent_payments().iter().any(|payment| match payment {
            RecentPaymentDetails::AwaitingInvoice { payment_id }
            | RecentPaymentDetails::Pending { payment_id, .. }
            | RecentPaymentDetails::Fulfilled { payment_id, .. }
            | RecentPaymentDetails::Abandoned { payment_id, .. } => payment_id.0 == id.0,
        })
    }

    /// Our channels have the money, whether their peers are there or not.
    pub(crate) fn could_send(&self, amount: Msat) -> bool {
        self.outbound(|_| true) >= amount.0
    }

    /// Our channels with peers that are there have the money.
    pub(crate) fn can_send(&self, amount: Msat) -> bool {
        self.outbound(|channel| channel.is_usable) >= amount.0
    }

    fn outbound(&self, which: impl Fn(&ChannelDetails) -> bool) -> u64 {
        let channels = self.manager.list_channels();
        channels.iter().filter(|channel| which(channel)).map(|channel| channel.outbound_capacity_msat).sum()
    }

    /// One attempt for each payment that waits for one; says whether any still waits.
    fn retry_payments(&self) -> Result<bool, StoreError> {
        let waiting: Vec<_> = self.ledger.open().payments_in_flight();
        let mut still = false;
        for row in waiting {
            if let Some(again) = row.again.clone()
                && !self.is_under_way(row.id)
            {
                still |= self.attempt(row, &again)?;
            }
        }
        Ok(still)
    }

    /// Says whether the payment waits for another attempt.
    fn attempt(&self, row: PaymentRow, again: &Again) -> Result<bool, StoreError> {
        if !again.in_time(self.now()) {
            self.give_up(row, "no way worked within the time allowed".into());
            return Ok(false);
        }
        let Ok(invoice) = Bolt11Invoice::from_str(&again.invoice) else {
            return Err(StoreError::Corrupt("invoice of a payment"));
        };
        match self.send_bolt11(again, &invoice, row.id, row.amount) {
            Ok(()) => Ok(false),
            Err(Bolt11PaymentError::SendingFailed(RetryableSendFailure::RouteNotFound))
                if self.could_send(row.amount) =>
            {
                Ok(true)
            }
            Err(error) => {
                self.give_up(row, bolt11_refusal(&error).to_string());
                Ok(false)
            }
        }
    }

    fn give_up(&self, mut row: PaymentRow, reason: String) {
        row.state = PaymentState::Failed { reason };
        self.ledger.open().put_payment(row);
    }
}

//! The verbs of [`Node`] on this node.

use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bitcoin::hashes::{Hash, sha256};
use futures::StreamExt;
use futures::stream::{self, BoxStream};
use lightning::ln::channelmanager::{
    Bolt11InvoiceParameters, MIN_FINAL_CLTV_EXPIRY_DELTA, OptionalOfferPaymentParams, PaymentId as LdkPaymentId,
};
use lightning::ln::channelmanager::{Bolt11PaymentError, Retry, RetryableSendFailure};
use lightning::offers::offer::{Amount, Offer};
use lightning::offers::parse::Bolt12SemanticError;
use lightning::sign::EntropySource;
use lightning::types::payment::PaymentHash as LdkHash;
use lightning_invoice::{Bolt11Invoice, Bolt11InvoiceDescription, Sha256};
use node::{
    Balances, Capabilities, Channel, ChannelId, Description, HoldInvoice, HoldInvoiceRequest, InvoiceRequest, Node,
    NodeError, NodeEvent, NodeInfo, OfferRequest, OpenChannel, PayLimits, Payable, Payment, PaymentId, PaymentState,
    PeerAddress, Result,
};
use tokio::sync::broadcast;
use units::{Height, Msat, PaymentHash, Preimage, Sat, Unix};

use crate::core::{Core, unix_now};
use crate::holds::{HoldRow, Phase};
use crate::node::LdkNode;
use crate::payments::{Again, PaymentRow, bolt11_refusal, bolt12_refusal, route_limits};

/// Longest final CLTV of a hold invoice: with three or four forwarders of 80 to 144 blocks each, and LDK's reserve of
/// 80, the whole route stays within the 2016 blocks that a forwarder takes.
pub const FINAL_CLTV_MAX: u16 = 1_300;
/// How long `settle` waits for LDK to confirm a claim whose order is on disk already.
const CLAIM_PATIENCE: Duration = Duration::from_secs(2);
/// Payments listed at most.
const LIST_MAX: usize = 10_000;

pub(crate) fn capabilities() -> Capabilities {
    Capabilities {
        backend: "ldk",
        hold_invoices: true,
        create_offer: true,
        pay_offer: true,
        channels: true,
        final_cltv_max: FINAL_CLTV_MAX,
        auto_cancel_margin: lightning::chain::channelmonitor::HTLC_FAIL_BACK_BUFFER,
    }
}

#[async_trait]
impl Node for LdkNode {
    fn capabilities(&self) -> &Capabilities {
        &self.capabilities
    }

    async fn info(&self) -> Result<NodeInfo> {
        let core = &self.core;
        core.stopping()?;
        // A borrow is a lock: with it held, asking for another one waits for ever when a block comes in between.
        let height = *core.tip.borrow();
        Ok(NodeInfo {
            node_id: core.manager.get_our_node_id().to_string(),
            network: core.config.network.to_string(),
            height,
            synced: core.synced(height),
            addresses: core.addresses().iter().map(ToString::to_string).collect(),
            peers: core.peer_manager.list_peers().len(),
        })
    }

    async fn create_invoice(&self, request: InvoiceRequest) -> Result<String> {
        self.core.stopping()?;
        let parameters = Bolt11InvoiceParameters {
            amount_msats: request.amount.map(|amount| amount.0),
            description: match &request.description {
                Description::Text(text) => describe(text)?,
                Description::Hash(hash) => Bolt11InvoiceDescription::Hash(Sha256(sha256::Hash::from_byte_array(*hash))),
            },
            invoice_expiry_delta_secs: Some(request.expiry_secs),
            ..Bolt11InvoiceParameters::default()
        };
        self.core.sign_invoice(parameters)
    }

    async fn create_hold_invoice(&self, request: HoldInvoiceRequest) -> Result<String> {
        self.core.stopping()?;
        let invoice = self.core.issue_hold(&request)?;
        self.core.writer.flushed().await?;
        Ok(invoice)
    }

    async fn settle(&self, preimage: Preimage) -> Result<()> {
        self.core.stopping()?;
        self.core.settle(preimage).await
    }

    async fn cancel(&self, hash: PaymentHash) -> Result<()> {
        self.core.stopping()?;
        self.core.cancel(hash)?;
        self.core.writer.flushed().await
    }

    async fn lookup(&self, hash: PaymentHash) -> Result<HoldInvoice> {
        let found = self.core.ledger.reader().hold(hash)?;
        let row = found.ok_or_else(|| NodeError::NotFound(format!("hold invoice {hash}")))?;
        if row.lapsed(unix_now()) {
            self.core.lapse();
            self.core.writer.flushed().await?;
            let row = self.core.ledger.reader().hold(hash)?;
            return Ok(row.ok_or_else(|| NodeError::Fault("a hold invoice vanished".into()))?.view());
        }
        let mut view = row.view();
        if view.doubtful {
            let amount = view.received.unwrap_or(view.amount);
            view.doubtful = self.core.salvage.as_ref().is_none_or(|salvage| !salvage.surely_holds(hash, amount));
        }
        Ok(view)
    }

    async fn lookup_received(&self, hash: PaymentHash) -> Result<Msat> {
        let row = self.core.ledger.reader().received(hash)?.filter(|row| row.claimed);
        row.map(|row| row.amount).ok_or_else(|| NodeError::NotFound(format!("a payment on {hash}")))
    }

    async fn pay(&self, payable: Payable, limits: PayLimits) -> Result<PaymentId> {
        self.core.stopping()?;
        let core = Arc::clone(&self.core);
        // Finding a route takes a while on a large graph.
        let started = tokio::task::spawn_blocking(move || match payable {
            Payable::Bolt11 { invoice, amount } => core.pay_bolt11(&invoice, amount, &limits),
            Payable::Bolt12 { offer, amount, payer_note } => core.pay_bolt12(&offer, amount, payer_note, &limits),
        });
        let outcome = started.await.map_err(|_| NodeError::Unknown("paying broke off".into()))?;
        self.core.writer.flushed().await?;
        outcome
    }

    async fn lookup_payment(&self, id: PaymentId) -> Result<Payment> {
        let found = self.core.ledger.reader().payment(id)?;
        found.map(|row| row.view()).ok_or_else(|| NodeError::NotFound("payment".into()))
    }

    async fn list_payments(&self, limit: usize) -> Result<Vec<Payment>> {
        let rows = self.core.ledger.reader().payments(limit.min(LIST_MAX))?;
        Ok(rows.iter().map(PaymentRow::view).collect())
    }

    async fn create_offer(&self, request: OfferRequest) -> Result<String> {
        self.core.stopping()?;
        let builder = self.core.manager.create_offer_builder().map_err(|error| bolt12_refusal(&error))?;
        let builder = builder.description(request.description);
        let builder = match request.amount {
            Some(amount) => builder.amount_msats(amount.0),
            None => builder,
        };
        let builder = match request.expiry_secs {
            Some(secs) => builder.absolute_expiry(Duration::from_secs(unix_now().0 + u64::from(secs))),
            None => builder,
        };
        let offer = builder.build().map_err(|error| bolt12_refusal(&error))?;
        Ok(offer.to_string())
    }

    fn events(&self) -> BoxStream<'static, NodeEvent> {
        self.core.events()
    }

    async fn connect_peer(&self, peer: PeerAddress) -> Result<()> {
        self.core.stopping()?;
        self.core.connect_peer(peer).await
    }

    async fn open_channel(&self, request: OpenChannel) -> Result<ChannelId> {
        self.core.stopping()?;
        self.core.open_channel(request).await
    }

    async fn close_channel(&self, channel: ChannelId, force: bool) -> Result<()> {
        self.core.stopping()?;
        self.core.close_channel(&channel, force)?;
        self.core.writer.flushed().await
    }

    async fn list_channels(&self) -> Result<Vec<Channel>> {
        Ok(self.core.channels())
    }

    async fn balances(&self) -> Result<Balances> {
        self.core.balances()
    }

    async fn new_address(&self) -> Result<String> {
        self.core.stopping()?;
        self.core.new_address()
    }

    async fn send_onchain(&self, address: &str, amount: Sat, fee_rate_sat_per_vb: Option<u32>) -> Result<String> {
        self.core.stopping()?;
        self.core.send_onchain(address, amount, fee_rate_sat_per_vb).await
    }

    async fn stop(&self) -> Result<()> {
        self.shut_down().await
    }
}

fn describe(text: &str) -> Result<Bolt11InvoiceDescription> {
    let description = lightning_invoice::Description::new(text.to_owned());
    let description =
        description.map_err(|_| NodeError::Rejected("the description is longer than 639 bytes".into()))?;
    Ok(Bolt11InvoiceDescription::Direct(description))
}

impl Core {
    fn sign_invoice(&self, parameters: Bolt11InvoiceParameters) -> Result<String> {
        let invoice = self.manager.create_bolt11_invoice(parameters);
        invoice.map(|invoice| invoice.to_string()).map_err(|error| NodeError::Rejected(error.to_string()))
    }

    fn issue_hold(&self, request: &HoldInvoiceRequest) -> Result<String> {
        if request.amount == Msat::ZERO {
            return Err(NodeError::Rejected("a hold invoice needs an amount".into()));
        }
        if request.min_final_cltv > FINAL_CLTV_MAX {
            return Err(NodeError::Rejected(format!("a hold of more than {FINAL_CLTV_MAX} blocks cannot be routed")));
        }
        let mut ledger = self.ledger.open();
        if let Some(row) = ledger.hold(request.hash)? {
            if row.amount != request.amount {
                return Err(NodeError::Rejected("this hash is in use for another amount".into()));
            }
            return Ok(row.invoice);
        }
        // LDK fails a payment back itself when it leaves fewer blocks, and puts three more into the invoice so that a
        // block found on the way does no harm.
        let min_final_cltv = request.min_final_cltv.max(MIN_FINAL_CLTV_EXPIRY_DELTA);
        let invoice = self.sign_invoice(Bolt11InvoiceParameters {
            amount_msats: Some(request.amount.0),
            description: describe(&request.description)?,
            invoice_expiry_delta_secs: Some(request.expiry_secs),
            min_final_cltv_expiry_delta: Some(min_final_cltv),
            payment_hash: Some(LdkHash(request.hash.0)),
        })?;
        ledger.put_hold(HoldRow {
            hash: request.hash,
            phase: Phase::Open,
            amount: request.amount,
            min_final_cltv,
            expires: units::Unix(unix_now().0.saturating_add(u64::from(request.expiry_secs))),
            invoice: invoice.clone(),
            received: None,
            claim_deadline: None,
            claim_id: None,
            preimage: None,
        });
        Ok(invoice)
    }

    async fn settle(&self, preimage: Preimage) -> Result<()> {
        let hash = preimage.hash();
        let (claimed, past) = {
            let mut ledger = self.ledger.open();
            let found = ledger.hold(hash)?;
            let mut row = found.ok_or_else(|| NodeError::NotFound(format!("hold invoice {hash}")))?;
            let past = row.is_past();
            let claimed = match row.phase {
                Phase::Settled => None,
                Phase::Canceled => return Err(NodeError::Rejected("it was canceled".into())),
                Phase::Open => return Err(NodeError::Rejected("nobody has paid it yet".into())),
                Phase::Accepted if row.timed_out(self.now().height) => {
                    return Err(NodeError::Rejected("too late: it was failed back before its HTLC expires".into()));
                }
                Phase::Settling => Some(ledger.when_final(hash)),
                Phase::Accepted => {
                    let told = ledger.when_final(hash);
                    row.phase = Phase::Settling;
                    row.preimage = Some(preimage.clone());
                    ledger.put_hold_ahead(row);
                    Some(told)
                }
            };
            (claimed, past)
        };
        if let Some(told) = claimed {
            // The order is queued before the claim, so it is on disk no later.
            self.claim(Some(&preimage));
            self.writer.wake();
            // What only the chain can bring takes blocks: nobody waits for it here.
            if !past && tokio::time::timeout(CLAIM_PATIENCE, told).await.is_err() {
                tracing::debug!(%hash, "the claim is ordered and takes its time");
            }
        }
        self.writer.flushed().await
    }

    fn cancel(&self, hash: PaymentHash) -> Result<()> {
        let mut ledger = self.ledger.open();
        let found = ledger.hold(hash)?;
        let mut row = found.ok_or_else(|| NodeError::NotFound(format!("hold invoice {hash}")))?;
        match row.phase {
            Phase::Canceled => return Ok(()),
            Phase::Settling | Phase::Settled => return Err(NodeError::Rejected("it was settled".into())),
            Phase::Open | Phase::Accepted => {
                row.finish(Phase::Canceled);
                ledger.put_hold(row);
            }
        }
        drop(ledger);
        self.manager.fail_htlc_backwards(&LdkHash(hash.0));
        Ok(())
    }

    fn pay_bolt11(&self, text: &str, amount: Option<Msat>, limits: &PayLimits) -> Result<PaymentId> {
        let invoice = Bolt11Invoice::from_str(text)
            .map_err(|error| NodeError::Rejected(format!("not a BOLT11 invoice: {error}")))?;
        if invoice.network() != self.config.network {
            return Err(NodeError::Rejected(format!("the invoice is for {}", invoice.network())));
        }
        let asked = invoice.amount_milli_satoshis().map(Msat);
        let amount = match (asked, amount) {
            (Some(asked), None) => asked,
            (Some(asked), Some(given)) if asked == given => asked,
            (None, Some(given)) => given,
            (Some(_), Some(_)) => return Err(NodeError::Rejected("the invoice asks for another amount".into())),
            (None, None) => {
                return Err(NodeError::Rejected("the invoice leaves the amount to us: say how much".into()));
            }
        };
        let hash = PaymentHash(*AsRef::<[u8; 32]>::as_ref(invoice.payment_hash()));
        let id = PaymentId::from(hash);
        let again = Again {
            invoice: text.to_owned(),
            amount: asked.is_none().then_some(amount),
            max_fee: limits.max_fee,
            max_total_cltv: limits.max_total_cltv,
            until: Unix(unix_now().0.saturating_add(limits.timeout_secs.into())),
            until_height: Some(Again::height_after(self.now().height, limits.timeout_secs)),
        };
        if !self.record_start(id, Some(hash), amount, Some(again.clone()))? {
            return Ok(id);
        }
        match self.send_bolt11(&again, &invoice, id, amount) {
            Ok(()) => Ok(id),
            // Our peer may only be restarting. With the peer there, the caller's limits leave no route: waiting would not help.
            Err(Bolt11PaymentError::SendingFailed(RetryableSendFailure::RouteNotFound))
                if self.could_send(amount) && !self.can_send(amount) =>
            {
                self.retry.notify_one();
                Ok(id)
            }
            Err(error) => Err(self.record_refusal(id, bolt11_refusal(&error))?),
        }
    }

    pub(crate) fn send_bolt11(
        &self,
        again: &Again,
        invoice: &Bolt11Invoice,
        id: PaymentId,
        amount: Msat,
    ) -> std::result::Result<(), Bolt11PaymentError> {
        let limits = again.limits(unix_now());
        self.manager.pay_for_bolt11_invoice(
            invoice,
            LdkPaymentId(id.0),
            again.amount.map(|amount| amount.0),
            route_limits(&limits, amount),
            Retry::Timeout(Duration::from_secs(limits.timeout_secs.into())),
        )
    }

    fn pay_bolt12(
        &self,
        text: &str,
        amount: Option<Msat>,
        payer_note: Option<String>,
        limits: &PayLimits,
    ) -> Result<PaymentId> {
        let offer =
            Offer::from_str(text).map_err(|error| NodeError::Rejected(format!("not a BOLT12 offer: {error:?}")))?;
        let asked = match offer.amount() {
            Some(Amount::Bitcoin { amount_msats }) => Some(Msat(amount_msats)),
            Some(Amount::Currency { .. }) => return Err(NodeError::Rejected("the offer asks for a currency".into())),
            None => None,
        };
        let missing = || bolt12_refusal(&Bolt12SemanticError::MissingAmount);
        let amount = asked.or(amount).ok_or_else(missing)?;
        let id = PaymentId(self.keys.get_secure_random_bytes());
        self.record_start(id, None, amount, None)?;
        let parameters = OptionalOfferPaymentParams {
            payer_note,
            route_params_config: route_limits(limits, amount),
            retry_strategy: Retry::Timeout(Duration::from_secs(limits.timeout_secs.into())),
        };
        let given = asked.is_none().then_some(amount.0);
        match self.manager.pay_for_offer(&offer, given, LdkPaymentId(id.0), parameters) {
            Ok(()) => Ok(id),
            Err(error) => Err(self.record_refusal(id, bolt12_refusal(&error))?),
        }
    }

    /// Records a payment before LDK hears of it. False: it is under way or done already.
    fn record_start(
        &self,
        id: PaymentId,
        hash: Option<PaymentHash>,
        amount: Msat,
        again: Option<Again>,
    ) -> Result<bool> {
        let mut ledger = self.ledger.open();
        if let Some(row) = ledger.payment(id)?
            && !matches!(row.state, PaymentState::Failed { .. })
        {
            return Ok(false);
        }
        // The HTLC's monitor update follows; `pay` flushes in any case.
        ledger.put_payment_ahead(PaymentRow {
            id,
            hash,
            amount,
            state: PaymentState::InFlight,
            created: unix_now(),
            again,
        });
        Ok(true)
    }

    /// Nothing was sent: the row says so.
    fn record_refusal(&self, id: PaymentId, refusal: NodeError) -> Result<NodeError> {
        let mut ledger = self.ledger.open();
        if let Some(mut row) = ledger.payment(id)?
            && row.in_flight()
        {
            row.state = PaymentState::Failed { reason: refusal.to_string() };
            ledger.put_payment(row);
        }
        Ok(refusal)
    }

    /// The present state, then what happens. Subscribed before the state is read: nothing falls between.
    fn events(&self) -> BoxStream<'static, NodeEvent> {
        let live = self.writer.subscribe();
        let mut first = Vec::new();
        {
            let store = self.ledger.reader();
            match (store.holds_alive(), store.payments_alive()) {
                (Ok(holds), Ok(payments)) => {
                    first.extend(holds.iter().map(|row| NodeEvent::Hold(row.view())));
                    first.extend(payments.iter().map(|row| NodeEvent::Payment(row.view())));
                }
                (Err(error), _) | (_, Err(error)) => {
                    tracing::error!(%error, "the present state cannot be read");
                    first.push(NodeEvent::Lagged);
                }
            }
        }
        let live = stream::unfold(live, |mut live| async move {
            match live.recv().await {
                Ok(event) => Some((event, live)),
                Err(broadcast::error::RecvError::Lagged(_)) => Some((NodeEvent::Lagged, live)),
                Err(broadcast::error::RecvError::Closed) => None,
            }
        });
        stream::iter(first).chain(live).boxed()
    }

    fn synced(&self, tip: Height) -> bool {
        *self.chain.status().borrow() == crate::chain::ChainStatus::Following && tip > Height(0)
    }
}

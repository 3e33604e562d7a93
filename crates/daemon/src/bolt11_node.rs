//! A fake node whose invoices are BOLT11, as DOMP wants them: for tests and benchmarks, never in the product.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bitcoin::hashes::{Hash, sha256};
use futures::stream::{BoxStream, StreamExt};
use lightning_invoice::{Bolt11InvoiceDescription, Currency, InvoiceBuilder, PaymentSecret, Sha256};
use node::{
    Balances, Capabilities, Channel, ChannelId, Description, FakeNetwork, FakeNode, HoldInvoice, HoldInvoiceRequest,
    HoldState, InvoiceRequest, Node, NodeError, NodeEvent, NodeInfo, OfferRequest, OpenChannel, PayLimits, Payable,
    Payment, PaymentId, PeerAddress,
};
use secp256k1::{PublicKey, SECP256K1, SecretKey};
use units::{Msat, PaymentHash, Preimage, Sat};

use crate::clock;

/// A fake node whose invoices are BOLT11. Its name is its node id, so invoices lead back to it.
pub struct Bolt11Node {
    pub(crate) inner: Arc<FakeNode>,
    secret: SecretKey,
    issued: Mutex<BTreeMap<PaymentHash, String>>,
}

impl Bolt11Node {
    /// The node of this key in `network`.
    pub fn on(network: &FakeNetwork, secret: SecretKey) -> Arc<Bolt11Node> {
        let name = PublicKey::from_secret_key(SECP256K1, &secret).to_string();
        Arc::new(Bolt11Node { inner: network.node(&name), secret, issued: Mutex::default() })
    }

    /// The invoice for a hash, made once.
    fn invoice(&self, request: &HoldInvoiceRequest, description: Description) -> node::Result<String> {
        let mut issued = self.issued.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = issued.get(&request.hash) {
            return Ok(known.clone());
        }
        let made = InvoiceBuilder::new(Currency::Regtest)
            .invoice_description(match description {
                Description::Text(text) => Bolt11InvoiceDescription::Direct(
                    lightning_invoice::Description::new(text).map_err(|e| NodeError::Rejected(e.to_string()))?,
                ),
                Description::Hash(hash) => Bolt11InvoiceDescription::Hash(Sha256(sha256::Hash::from_byte_array(hash))),
            })
            .payment_hash(sha256::Hash::from_byte_array(request.hash.0))
            .payment_secret(PaymentSecret([9; 32]))
            .duration_since_epoch(Duration::from_secs(clock::unix().0))
            .expiry_time(Duration::from_secs(request.expiry_secs.into()))
            .amount_milli_satoshis(request.amount.0)
            .min_final_cltv_expiry_delta((request.min_final_cltv + 3).into())
            .build_signed(|message| SECP256K1.sign_ecdsa_recoverable(message, &self.secret));
        let made = made.map_err(|e| NodeError::Fault(format!("no invoice: {e:?}")))?.to_string();
        issued.insert(request.hash, made.clone());
        Ok(made)
    }

    fn as_issued(&self, mut hold: HoldInvoice) -> HoldInvoice {
        let issued = self.issued.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(invoice) = issued.get(&hold.hash) {
            hold.invoice.clone_from(invoice);
        }
        hold
    }
}

#[async_trait]
impl Node for Bolt11Node {
    fn capabilities(&self) -> &Capabilities {
        self.inner.capabilities()
    }
    async fn info(&self) -> node::Result<NodeInfo> {
        self.inner.info().await
    }
    async fn create_invoice(&self, request: InvoiceRequest) -> node::Result<String> {
        let made = self.inner.create_invoice(request.clone()).await?;
        let hash = made.rsplit('-').next().and_then(|hash| hash.parse().ok());
        let hash: PaymentHash = hash.ok_or_else(|| NodeError::Fault("the fake's invoice has no hash".to_owned()))?;
        let amount = request.amount.ok_or_else(|| NodeError::Unsupported("an invoice of any amount".to_owned()))?;
        let (expiry_secs, description) = (request.expiry_secs, request.description);
        let request = HoldInvoiceRequest { hash, amount, min_final_cltv: 21, expiry_secs, description: String::new() };
        self.invoice(&request, description)
    }
    async fn create_hold_invoice(&self, request: HoldInvoiceRequest) -> node::Result<String> {
        // A BOLT11 invoice asks for a few blocks more than was asked of the node, as LDK's do; the fake keeps what it was asked.
        self.inner.create_hold_invoice(request.clone()).await?;
        self.invoice(&request, Description::Text(request.description.clone()))
    }
    async fn settle(&self, preimage: Preimage) -> node::Result<()> {
        self.inner.settle(preimage).await
    }
    async fn cancel(&self, hash: PaymentHash) -> node::Result<()> {
        self.inner.cancel(hash).await
    }
    async fn lookup(&self, hash: PaymentHash) -> node::Result<HoldInvoice> {
        Ok(self.as_issued(self.inner.lookup(hash).await?))
    }
    async fn lookup_received(&self, hash: PaymentHash) -> node::Result<Msat> {
        self.inner.lookup_received(hash).await
    }
    async fn pay(&self, payable: Payable, limits: PayLimits) -> node::Result<PaymentId> {
        let Payable::Bolt11 { invoice, amount } = payable else { return self.inner.pay(payable, limits).await };
        let facts = wire::invoice::parse_invoice(&invoice).map_err(|e| NodeError::Rejected(e.to_string()))?;
        let kind = if facts.min_final_cltv < 100 { "fakeinvoice" } else { "fakehold" };
        let invoice = format!("{kind}-{}-{}", facts.payee, facts.hash);
        self.inner.pay(Payable::Bolt11 { invoice, amount }, limits).await
    }
    async fn lookup_payment(&self, id: PaymentId) -> node::Result<Payment> {
        self.inner.lookup_payment(id).await
    }
    async fn list_payments(&self, limit: usize) -> node::Result<Vec<Payment>> {
        self.inner.list_payments(limit).await
    }
    async fn create_offer(&self, request: OfferRequest) -> node::Result<String> {
        self.inner.create_offer(request).await
    }
    fn events(&self) -> BoxStream<'static, NodeEvent> {
        let issued = self.issued.lock().unwrap_or_else(PoisonError::into_inner).clone();
        // The desk only reads the text of an invoice that is new to it, and it got that as the answer to its request.
        let known = move |event| match event {
            NodeEvent::Hold(mut hold) => {
                if let Some(invoice) = issued.get(&hold.hash) {
                    hold.invoice.clone_from(invoice);
                }
                (hold.state != HoldState::Open).then_some(NodeEvent::Hold(hold))
            }
            other => Some(other),
        };
        self.inner.events().filter_map(move |event| std::future::ready(known(event))).boxed()
    }
    async fn connect_peer(&self, peer: PeerAddress) -> node::Result<()> {
        self.inner.connect_peer(peer).await
    }
    async fn open_channel(&self, request: OpenChannel) -> node::Result<ChannelId> {
        self.inner.open_channel(request).await
    }
    async fn close_channel(&self, channel: ChannelId, force: bool) -> node::Result<()> {
        self.inner.close_channel(channel, force).await
    }
    async fn list_channels(&self) -> node::Result<Vec<Channel>> {
        self.inner.list_channels().await
    }
    async fn balances(&self) -> node::Result<Balances> {
        self.inner.balances().await
    }
    async fn new_address(&self) -> node::Result<String> {
        self.inner.new_address().await
    }
    async fn send_onchain(&self, address: &str, amount: Sat, fee_rate: Option<u32>) -> node::Result<String> {
        self.inner.send_onchain(address, amount, fee_rate).await
    }
    async fn stop(&self) -> node::Result<()> {
        self.inner.stop().await
    }
}

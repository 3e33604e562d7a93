//! What a trader needs of a Lightning node, whichever it is: few verbs, each safe to repeat.

pub mod contract;
mod error;
mod fake;
mod types;

use async_trait::async_trait;
use futures::stream::BoxStream;
use units::{Msat, PaymentHash, Preimage, Sat};

pub use error::NodeError;
pub use fake::{FakeNetwork, FakeNode, Mishap, Trouble};
pub use types::{
    Balances, Capabilities, Channel, ChannelId, ChannelState, Description, HoldInvoice, HoldInvoiceRequest, HoldState,
    InvoiceRequest, NodeEvent, NodeInfo, OfferRequest, OpenChannel, PayLimits, Payable, Payment, PaymentId,
    PaymentState, PeerAddress,
};

/// What every verb returns.
pub type Result<T> = std::result::Result<T, NodeError>;

/// A Lightning node. Every verb may be repeated: after a crash or a lost answer the caller says the same thing
/// again and nothing happens twice. Implementors make that true by payment hash, not by memory.
#[async_trait]
pub trait Node: Send + Sync {
    /// What this node can and cannot do. Fixed for the life of the value.
    fn capabilities(&self) -> &Capabilities;

    /// Identity, chain height and whether the node has caught up.
    async fn info(&self) -> Result<NodeInfo>;

    /// Issues an ordinary BOLT11 invoice that settles by itself. Not idempotent: each call makes a new invoice.
    async fn create_invoice(&self, request: InvoiceRequest) -> Result<String>;

    /// Issues a BOLT11 hold invoice on a hash whose secret another party knows.
    ///
    /// Caller: never use a hash twice. Implementor: record the hash durably before the invoice leaves; repeated with
    /// the same request, return an invoice on the same hash; with another amount, [`NodeError::Rejected`]. A payment
    /// that arrives with fewer blocks than `min_final_cltv` asks for, after the invoice expired, with the wrong
    /// amount, or a second time is failed back and never reported as held.
    async fn create_hold_invoice(&self, request: HoldInvoiceRequest) -> Result<String>;

    /// Settles the held payment that `preimage` opens. Settling again is no error; settling what was canceled is
    /// [`NodeError::Rejected`]; an unknown hash is [`NodeError::NotFound`]. When this returns the claim is durable:
    /// a node that is killed right after settles on restart.
    async fn settle(&self, preimage: Preimage) -> Result<()>;

    /// Fails a held payment back, or closes an invoice that nobody has paid. Canceling again is no error; canceling
    /// what was settled is [`NodeError::Rejected`].
    async fn cancel(&self, hash: PaymentHash) -> Result<()>;

    /// The state of a hold invoice as this node alone knows it.
    async fn lookup(&self, hash: PaymentHash) -> Result<HoldInvoice>;

    /// What arrived for an ordinary invoice of this node; [`NodeError::NotFound`] as long as nothing has. Survives restarts: what
    /// [`NodeEvent::Received`] said is to be had here again.
    async fn lookup_received(&self, hash: PaymentHash) -> Result<Msat>;

    /// Starts a payment and returns its id without waiting for the end.
    ///
    /// Caller: on [`NodeError::Unknown`] or [`NodeError::Unreachable`] look the payment up by hash, do not pay by another
    /// id. Implementor: a second call for a BOLT11 invoice in flight or paid starts nothing and returns the same id.
    async fn pay(&self, payable: Payable, limits: PayLimits) -> Result<PaymentId>;

    /// The state of a payment started by [`Node::pay`]; survives restarts.
    async fn lookup_payment(&self, id: PaymentId) -> Result<Payment>;

    /// Every payment that this node remembers, newest first, at most `limit`.
    async fn list_payments(&self, limit: usize) -> Result<Vec<Payment>>;

    /// Makes a reusable BOLT12 offer.
    async fn create_offer(&self, request: OfferRequest) -> Result<String>;

    /// What happens from now on, preceded by the current state: one event for every hold invoice that is not yet
    /// final and every payment in flight. A consumer that lags is told so by [`NodeEvent::Lagged`] and looks up again.
    fn events(&self) -> BoxStream<'static, NodeEvent>;

    /// Connects to a peer and keeps connecting when the connection is lost. Connecting again is no error.
    async fn connect_peer(&self, peer: PeerAddress) -> Result<()>;

    /// Opens a channel to a connected peer and returns its id as soon as the peer agreed.
    async fn open_channel(&self, request: OpenChannel) -> Result<ChannelId>;

    /// Closes a channel, with the peer's signature or, when `force`, without.
    async fn close_channel(&self, channel: ChannelId, force: bool) -> Result<()>;

    /// All channels that are not yet closed.
    async fn list_channels(&self) -> Result<Vec<Channel>>;

    /// On-chain and Lightning balances.
    async fn balances(&self) -> Result<Balances>;

    /// A fresh on-chain address of this node.
    async fn new_address(&self) -> Result<String>;

    /// Sends on chain and returns the transaction id. Not idempotent: the caller looks at the wallet before repeating.
    async fn send_onchain(&self, address: &str, amount: Sat, fee_rate_sat_per_vb: Option<u32>) -> Result<String>;

    /// Stops the node in order and waits until everything is on disk.
    async fn stop(&self) -> Result<()>;
}

/// The most that a payment of `amount` may pay for routing when nobody says otherwise: 1 %, at least 10 sat.
pub fn default_fee_limit(amount: Msat) -> Msat {
    Msat((amount.0 / 100).max(10_000))
}

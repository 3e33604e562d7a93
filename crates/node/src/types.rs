//! What goes into and comes out of the verbs of [`crate::Node`].

use serde::{Deserialize, Serialize};
use units::{Height, Msat, PaymentHash, Preimage, Sat, Unix};

/// What a backend can and cannot do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Capabilities {
    /// Name of the backend: `ldk`, `lnd`, `cln`, `nwc`, `fake`.
    pub backend: &'static str,
    /// Hold invoices on a foreign hash.
    pub hold_invoices: bool,
    /// BOLT12 offers can be made.
    pub create_offer: bool,
    /// BOLT12 offers can be paid.
    pub pay_offer: bool,
    /// Channels, peers and the on-chain wallet are ours to direct.
    pub channels: bool,
    /// Longest final CLTV a hold invoice may ask for, in blocks.
    pub final_cltv_max: u16,
    /// Blocks before an HTLC expires at which the backend fails it by itself (LDK 39, LND 18).
    pub auto_cancel_margin: u32,
}

/// Identity and chain state of a node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct NodeInfo {
    /// Compressed public key, 66 hex characters.
    pub node_id: String,
    /// `bitcoin`, `testnet`, `signet` or `regtest`.
    pub network: String,
    /// Height of the best block the node has processed.
    pub height: Height,
    /// The node has caught up with its chain source.
    pub synced: bool,
    /// Addresses that peers can connect to, `host:port`.
    pub addresses: Vec<String>,
    /// Peers connected now.
    pub peers: usize,
}

/// An ordinary invoice to be made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InvoiceRequest {
    /// Amount; none lets the payer choose.
    pub amount: Option<Msat>,
    /// What it is for.
    pub description: Description,
    /// How long it may be paid, in seconds.
    pub expiry_secs: u32,
}

/// What an invoice says that it is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Description {
    /// In words, up to 639 bytes (BOLT#11 `d`).
    Text(String),
    /// SHA-256 of what both sides know (BOLT#11 `h`).
    Hash([u8; 32]),
}

impl From<&str> for Description {
    fn from(text: &str) -> Description {
        Description::Text(text.to_owned())
    }
}

/// A hold invoice to be made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HoldInvoiceRequest {
    /// SHA-256 of a secret that another party knows.
    pub hash: PaymentHash,
    /// Exact amount.
    pub amount: Msat,
    /// Blocks between arrival and expiry of the HTLC that the payer must leave.
    pub min_final_cltv: u16,
    /// How long it may be paid, in seconds.
    pub expiry_secs: u32,
    /// What it is for, up to 639 bytes (BOLT#11 `d`).
    pub description: String,
}

/// States of a hold invoice, in LND's words.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum HoldState {
    /// Nobody has paid it yet.
    Open,
    /// The full amount is held by this node.
    Accepted,
    /// The amount is ours.
    Settled,
    /// Failed back, expired, or closed unpaid.
    Canceled,
}

/// A hold invoice as this node knows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HoldInvoice {
    /// Its hash.
    pub hash: PaymentHash,
    /// Its state.
    pub state: HoldState,
    /// The amount asked for.
    pub amount: Msat,
    /// The amount that arrived, when accepted or settled.
    pub received: Option<Msat>,
    /// Lowest expiry height of the HTLCs that hold it, when accepted. Never taken from the invoice.
    pub expiry_height: Option<Height>,
    /// The invoice itself.
    pub invoice: String,
    /// It is accepted in a channel that was lost with its machine, and whether it can be claimed on chain is not known (yet): nobody
    /// should give anything for it.
    pub doubtful: bool,
}

/// What [`crate::Node::pay`] pays.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Payable {
    /// A BOLT11 invoice, with an amount when the invoice has none.
    Bolt11 {
        /// The invoice.
        invoice: String,
        /// Only for an invoice without an amount.
        amount: Option<Msat>,
    },
    /// A BOLT12 offer.
    Bolt12 {
        /// The offer.
        offer: String,
        /// Only for an offer without an amount.
        amount: Option<Msat>,
        /// Told to the payee.
        payer_note: Option<String>,
    },
}

/// Bounds on a payment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PayLimits {
    /// Most that routing may cost; none for [`crate::default_fee_limit`].
    pub max_fee: Option<Msat>,
    /// Most blocks that the money may be locked over the whole route; never above 2016.
    pub max_total_cltv: u32,
    /// Give up retrying after this many seconds.
    pub timeout_secs: u32,
}

impl Default for PayLimits {
    fn default() -> PayLimits {
        PayLimits { max_fee: None, max_total_cltv: 2016, timeout_secs: 60 }
    }
}

/// Names a payment for its sender: the payment hash for BOLT11, made by the node for BOLT12.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct PaymentId(pub [u8; 32]);

impl From<PaymentHash> for PaymentId {
    fn from(hash: PaymentHash) -> PaymentId {
        PaymentId(hash.0)
    }
}

/// How a payment stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum PaymentState {
    /// HTLCs may be under way or held by the payee.
    InFlight,
    /// The payee took it.
    Succeeded {
        /// The secret that it revealed.
        preimage: Preimage,
        /// What routing cost.
        fee: Msat,
    },
    /// Nothing is under way any more.
    Failed {
        /// Why, in words.
        reason: String,
    },
}

/// A payment as its sender knows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Payment {
    /// Its id.
    pub id: PaymentId,
    /// Its hash; a BOLT12 payment has none until the invoice came.
    pub hash: Option<PaymentHash>,
    /// Amount without fee.
    pub amount: Msat,
    /// How it stands.
    pub state: PaymentState,
    /// When it was started.
    pub created: Unix,
}

/// An offer to be made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OfferRequest {
    /// Amount; none lets the payer choose.
    pub amount: Option<Msat>,
    /// What it is for.
    pub description: String,
    /// How long it may be paid, in seconds; none for ever.
    pub expiry_secs: Option<u32>,
}

/// What a node tells. All of it is also to be had by looking up: an event lost is a delay, not a loss.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NodeEvent {
    /// A hold invoice changed.
    Hold(HoldInvoice),
    /// A payment of ours changed.
    Payment(Payment),
    /// Somebody paid an ordinary invoice or an offer of ours.
    Received {
        /// Its hash.
        hash: PaymentHash,
        /// What arrived.
        amount: Msat,
    },
    /// A block was connected or, after a reorganisation, the tip moved.
    Tip(Height),
    /// A channel can be used, is closing or is gone.
    Channel {
        /// Which.
        id: ChannelId,
        /// What it is now; none when it is gone.
        state: Option<ChannelState>,
    },
    /// The consumer was too slow and events were dropped: look up what matters.
    Lagged,
}

/// Names a channel: the node's own handle, 32 bytes of hex, the same for the life of the channel.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(transparent)]
pub struct ChannelId(pub String);

/// Where a channel stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum ChannelState {
    /// Waiting for the funding transaction.
    Opening,
    /// Usable when the peer is connected.
    Open,
    /// Being closed.
    Closing,
}

/// A channel.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Channel {
    /// The handle.
    pub id: ChannelId,
    /// The peer's node id.
    pub peer: String,
    /// Where it stands.
    pub state: ChannelState,
    /// Open, peer connected, and able to carry a payment now.
    pub usable: bool,
    /// Announced to the network.
    pub announced: bool,
    /// Size.
    pub capacity: Sat,
    /// What we can send.
    pub outbound: Msat,
    /// What we can receive.
    pub inbound: Msat,
    /// HTLCs under way or held.
    pub htlcs: usize,
    /// Funding outpoint, `txid:vout`, once it is known.
    pub funding: Option<String>,
}

/// A channel to be opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpenChannel {
    /// The peer's node id; it must be connected.
    pub peer: String,
    /// Size.
    pub capacity: Sat,
    /// Given to the peer at once.
    pub push: Msat,
    /// Announce it to the network.
    pub announced: bool,
}

/// A peer and where it listens.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct PeerAddress {
    /// Compressed public key, 66 hex characters.
    pub node_id: String,
    /// `host:port`.
    pub address: String,
}

/// What the node owns.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Balances {
    /// Spendable on chain now.
    pub onchain: Sat,
    /// On chain, not yet confirmed or not yet spendable.
    pub onchain_pending: Sat,
    /// Our side of all open channels, HTLCs under way not counted.
    pub lightning: Msat,
    /// Coming back on chain from channels that are closing.
    pub closing: Sat,
}

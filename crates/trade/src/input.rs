//! Inputs: what our user wants, what parties said, what our own node reports. Each is verified before it gets here.

use serde::{Deserialize, Serialize};
use units::{Height, Msat, PaymentHash, Preimage, Sat, Unix};

use crate::effect::Notice;
use crate::event::Step;
use crate::fee::Bill;
use crate::fiat::FiatBid;
use crate::ids::{MessageId, PartyKey};
use crate::message::{BondFate, Listing, Message, ReceiptStatus};

/// One thing that happened. The shell hands each to [`crate::Desk`], in any order, as often as it likes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Input {
    /// Our user wants something.
    Command(Command),
    /// A party said something: signature checked, decrypted, parsed.
    Message(Box<Envelope>),
    /// Our own Lightning node reports how a leg stands.
    Node(NodeReport),
    /// A message that was owed is stored by at least one relay (or reached its recipient) under this id.
    Sent {
        /// Which of our messages.
        step: Step,
        /// Its id.
        id: MessageId,
    },
    /// A notice that was owed has been put where the user will see it.
    Shown {
        /// Which notice.
        notice: Notice,
    },
    /// Nothing but time: compare deadlines with `now`. Every other input does so too.
    Tick,
}

/// A verified message with what travels beside it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Envelope {
    /// Its id. Covers the message without its `secrets`: copies for different readers differ in nothing else.
    pub id: MessageId,
    /// Who signed it.
    pub author: PartyKey,
    /// The step it answers (the `ref` tag); none for a listing. Must be [`Message::prev`] where the content says it too.
    pub prev: Option<MessageId>,
    /// When the author says it was made (`created_at`).
    pub at: Unix,
    /// What was said.
    pub message: Message,
    /// What the invoices in it say, in the order of [`Message::invoices`]. One that could not be parsed is left out, and
    /// the message is then refused as `invoice-unreadable`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub invoices: Vec<InvoiceFacts>,
    /// Who brought it, where that is not its author: a party may show an arbiter what the other one signed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub via: Option<PartyKey>,
    /// The event as its author signed it, of a word that may have to be shown to somebody else (a payment confirmation). Opaque here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signed: Option<String>,
}

/// What a BOLT11 invoice says, its signature checked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InvoiceFacts {
    /// `bitcoin`, `testnet`, `signet` or `regtest`.
    pub network: String,
    /// Node id of the payee, 66 hex characters.
    pub payee: String,
    /// Payment hash.
    pub hash: PaymentHash,
    /// Amount; none when the invoice leaves it open.
    pub amount: Option<Msat>,
    /// Final CLTV it asks for, in blocks.
    pub min_final_cltv: u32,
    /// When it can no longer be paid.
    pub expires_at: Unix,
    /// It demands no feature that the parser does not know.
    pub features_known: bool,
}

/// Our own Lightning node, as far as trades care.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OwnNode {
    /// `bitcoin`, `testnet`, `signet` or `regtest`.
    pub network: String,
    /// Its id, 66 hex characters.
    pub node_id: String,
    /// Blocks before an HTLC expires at which it fails the HTLC by itself (`node::Capabilities::auto_cancel_margin`).
    pub auto_cancel_margin: u32,
}

/// How a hold invoice or payment of ours stands, as our own node says. Repeats and stale reports do no harm.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "report", rename_all = "snake_case")]
pub enum NodeReport {
    /// The hold invoice exists.
    InvoiceIssued {
        /// Its hash.
        hash: PaymentHash,
        /// BOLT11.
        invoice: String,
    },
    /// The node will never create this hold invoice.
    InvoiceRefused {
        /// Its hash.
        hash: PaymentHash,
        /// The node's reason.
        reason: String,
    },
    /// The full amount is held.
    Held {
        /// Its hash.
        hash: PaymentHash,
        /// What arrived.
        amount: Msat,
        /// Lowest expiry height of its HTLCs.
        expiry: Height,
    },
    /// The held amount is ours.
    Settled {
        /// Its hash.
        hash: PaymentHash,
    },
    /// The hold invoice was failed back, expired, or closed unpaid; also when the node never knew it after we asked to cancel.
    Canceled {
        /// Its hash.
        hash: PaymentHash,
    },
    /// Our payment is under way or held by the payee.
    PaymentInFlight {
        /// Its hash.
        hash: PaymentHash,
    },
    /// Our payment was taken.
    PaymentTaken {
        /// Its hash.
        hash: PaymentHash,
        /// The secret it revealed.
        preimage: Preimage,
    },
    /// Nothing of our payment is under way any more, or it was never started and may no longer be.
    PaymentReturned {
        /// Its hash.
        hash: PaymentHash,
        /// The node's reason.
        reason: String,
    },
    /// Somebody paid an ordinary invoice of ours.
    Received {
        /// Its hash.
        hash: PaymentHash,
        /// What arrived.
        amount: Msat,
    },
}

impl NodeReport {
    /// The hash it is about.
    pub fn hash(&self) -> PaymentHash {
        match self {
            NodeReport::InvoiceIssued { hash, .. }
            | NodeReport::InvoiceRefused { hash, .. }
            | NodeReport::Held { hash, .. }
            | NodeReport::Settled { hash }
            | NodeReport::Canceled { hash }
            | NodeReport::PaymentInFlight { hash }
            | NodeReport::PaymentTaken { hash, .. }
            | NodeReport::PaymentReturned { hash, .. }
            | NodeReport::Received { hash, .. } => *hash,
        }
    }
}

/// A bid to be made: opens a trade as payer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BidOrder {
    /// The payer's key of this trade.
    pub me: PartyKey,
    /// The listing as its author signed it (its message is [`Message::Listing`]).
    pub listing: Envelope,
    /// Price offered, shipping included.
    pub amount: Sat,
    /// Bond to lock; at least what the listing asks.
    pub payer_bond: Sat,
    /// One of the listing's arbiters; none in direct mode.
    pub arbiter: Option<PartyKey>,
    /// Hashes of the price secrets, one a tranche: [`crate::secret::derive`] with the payer's escrow key for
    /// `LegId::price(0, tranche)` of `TradeId::of(listing, me)`.
    pub payment_hashes: Vec<PaymentHash>,
    /// The payee's node, when it is known from elsewhere; else all of the payee's invoices must merely be of one node.
    pub payee_node: Option<String>,
    /// Up to 500 characters.
    pub message: Option<String>,
    /// How long to wait for an acceptance, 1 to 168 hours.
    pub timeout_hours: u16,
    /// How many of what is listed.
    pub quantity: u32,
    /// Wait for [`Command::Pay`] before paying what was accepted.
    pub pay_by_hand: bool,
    /// The most that the arbiter may charge.
    #[serde(default)]
    pub max_arbiter_fee: Sat,
    /// What the bid quotes, where the listing is an order for bitcoin against money of a country.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fiat: Option<FiatBid>,
}

/// What a user can want. `decide` refuses what the state does not allow.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "command", rename_all = "snake_case")]
pub enum Command {
    /// Payee: list something, or a new version of it. Goes to the stream [`crate::TradeId::of_stall`].
    List {
        /// The key that lists; it is also the payee's key in the trades on it.
        me: PartyKey,
        /// What is listed.
        listing: Box<Listing>,
        /// How many there are.
        stock: u32,
    },
    /// Payee: set how many there are, trades under way included.
    Restock {
        /// How many.
        stock: u32,
    },
    /// Payee: take no more bids, and take the listing off the boards.
    Delist {
        /// Up to 500 characters.
        reason: String,
    },
    /// Payer: open a trade with a bid.
    Bid(Box<BidOrder>),
    /// Either: name another price, or agree by naming the same.
    Counter {
        /// The price.
        amount: Sat,
    },
    /// Payee: accept the bid (or the bid of a further round, which is a re-lock).
    Accept {
        /// Shipping time in days, 0 to 90.
        shipping_time_days: Option<u16>,
        /// Up to 1000 characters.
        terms: Option<String>,
        /// How long the invoices may be paid, 300 to 86400 seconds.
        invoice_expiry_secs: u32,
    },
    /// Payer before it was accepted, payee before it accepted: walk away, and say so. An arbiter: do not serve.
    Withdraw {
        /// Up to 500 characters.
        reason: String,
    },
    /// Payer: the invoices may be paid (only where the bid said that we want to look at them).
    Pay,
    /// Payee: the goods are under way.
    Ship {
        /// Up to 500 characters.
        note: String,
        /// Up to 200 characters.
        tracking: Option<String>,
    },
    /// Payer: all is well, the payee gets the price.
    Release {
        /// 1 to 5.
        rating: Option<u8>,
        /// Up to 1000 characters.
        feedback: Option<String>,
    },
    /// Payer: say by a receipt that all is not well (opens a dispute).
    Complain {
        /// Anything but `Received`.
        status: ReceiptStatus,
        /// Up to 500 characters.
        reason: String,
    },
    /// Either: ask the arbiter to rule.
    Dispute {
        /// Up to 100 characters.
        reason: String,
        /// Up to 2000 characters.
        details: String,
    },
    /// Payee: give the money back.
    Refund {
        /// Up to 500 characters.
        reason: String,
    },
    /// Either: our half of a mutual cancel.
    Cancel {
        /// Up to 500 characters.
        agreement: String,
    },
    /// Payer: lock the same money again on new hashes with a later expiry.
    Relock {
        /// Hashes for `LegId::price(round, tranche)`, `round` one above the present one.
        payment_hashes: Vec<PaymentHash>,
    },
    /// Either: rate the other, after the end.
    Rate {
        /// 1 to 5.
        rating: u8,
        /// Up to 1000 characters.
        comment: Option<String>,
    },
    /// Either: rate the arbiter, once it was appointed and the trade is over.
    RateArbiter {
        /// 1 to 5.
        rating: u8,
        /// Up to 1000 characters.
        comment: Option<String>,
    },
    /// Either: rate a board that the trade was made on, once the trade is over.
    RateBoard {
        /// The board.
        url: String,
        /// 1 to 5.
        rating: u8,
        /// Up to 1000 characters.
        comment: Option<String>,
    },
    /// Arbiter: serve in the trade.
    Serve {
        /// Hash for `LegId::payer_bond(round)`, when the trade has such a bond.
        payer_bond_hash: Option<PaymentHash>,
        /// Hash for `LegId::payee_bond(round)`, likewise.
        payee_bond_hash: Option<PaymentHash>,
        /// What it costs; nothing for a further round.
        fee: Sat,
        /// Our node's ordinary invoice for it.
        fee_invoice: Option<Bill>,
        /// Up to 1000 characters.
        policy: String,
    },
    /// Arbiter: rule.
    Rule {
        /// How many tranches go to the payee, the first ones.
        payee_tranches: u8,
        /// The payer's bond.
        payer_bond: BondFate,
        /// The payee's bond.
        payee_bond: BondFate,
        /// Up to 2000 characters.
        resolution: String,
    },
}

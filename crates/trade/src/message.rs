//! What parties say to each other, free of any transport. `wire` maps these to DOMP kinds and back.

use serde::{Deserialize, Serialize};
use units::{Height, PaymentHash, Preimage, Sat, Unix};

use crate::answer::Answers;
use crate::fiat::{FiatBid, FiatTerms};
use crate::ids::{MessageId, PartyKey, TradeId};
use crate::terms::EscrowTerms;

/// One thing that one party said. The author and the id of the message travel beside it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Message {
    /// Kind 300, by the payee.
    Listing(Listing),
    /// Kind 301, by the payer.
    Bid(Bid),
    /// Kind 302, by either party.
    Counter(Counter),
    /// Kind 303, by the payee.
    Acceptance(Acceptance),
    /// Kind 310, by the payer.
    PayeeBondInvoice(PayeeBondInvoice),
    /// Kind 311, by the payer.
    PaymentConfirmation(PaymentConfirmation),
    /// Kind 312, by either party.
    Dispute(Dispute),
    /// Kind 313, by the payer.
    Receipt(Receipt),
    /// Kind 314, by the payee.
    Refund(Refund),
    /// Kind 315, by either party; takes effect when both said it.
    MutualCancel(MutualCancel),
    /// Kind 316 by the payer: asks an arbiter to serve. Always sealed, it carries secrets.
    AppointmentRequest(AppointmentRequest),
    /// Kind 316 by the arbiter.
    Appointment(Appointment),
    /// Kind 317, by the arbiter.
    Ruling(Ruling),
    /// Kind 320 with a `shipped` object, by the payee.
    Shipment(Shipment),
    /// Kind 320 with a `secrets` object, by whoever saw its payment taken although it released nothing. Always sealed.
    Handover(Handover),
    /// Kind 321, by either party.
    Rating(Rating),
    /// Kind 322, by either party.
    ArbiterRating(ArbiterRating),
    /// Kind 323, by anybody; public.
    BoardRating(BoardRating),
    /// Kind 5 (NIP-09), by the payee: its listing takes no more bids; public.
    Delisting(Delisting),
}

impl Message {
    /// The earlier message that the content itself names as the one it answers.
    pub fn prev(&self) -> Option<MessageId> {
        match self {
            Message::Listing(_) | Message::Appointment(_) | Message::Delisting(_) => None,
            Message::Bid(m) => Some(m.listing),
            Message::Counter(m) => Some(m.bid),
            Message::Acceptance(m) => Some(m.bid),
            Message::PayeeBondInvoice(m) => Some(m.acceptance),
            Message::PaymentConfirmation(m) => Some(m.acceptance),
            Message::Dispute(m) => Some(m.payment),
            Message::Receipt(m) => Some(m.payment),
            Message::Refund(m) => Some(m.payment),
            Message::MutualCancel(m) => Some(m.payment),
            Message::AppointmentRequest(m) => Some(m.listing),
            Message::Ruling(m) => Some(m.dispute),
            Message::Shipment(m) => Some(m.payment),
            Message::Handover(m) => Some(m.payment),
            Message::Rating(m) => Some(m.ended_by),
            Message::ArbiterRating(m) => Some(m.about),
            Message::BoardRating(m) => Some(m.about),
        }
    }

    /// The trade, where the content itself names it.
    pub fn trade(&self) -> Option<TradeId> {
        match self {
            Message::AppointmentRequest(m) => Some(m.trade),
            Message::Appointment(m) => Some(m.trade),
            Message::Ruling(m) => Some(m.trade),
            Message::Listing(_)
            | Message::Bid(_)
            | Message::Counter(_)
            | Message::Acceptance(_)
            | Message::PayeeBondInvoice(_)
            | Message::PaymentConfirmation(_)
            | Message::Dispute(_)
            | Message::Receipt(_)
            | Message::Refund(_)
            | Message::MutualCancel(_)
            | Message::Shipment(_)
            | Message::Handover(_)
            | Message::Rating(_)
            | Message::ArbiterRating(_)
            | Message::BoardRating(_)
            | Message::Delisting(_) => None,
        }
    }

    /// The BOLT11 invoices in it: tranches of the price first, then the bond.
    pub fn invoices(&self) -> Vec<&str> {
        match self {
            Message::Acceptance(m) => {
                m.price_invoices.iter().chain(&m.payer_bond_invoice).map(String::as_str).collect()
            }
            Message::PayeeBondInvoice(m) => vec![&m.invoice],
            Message::Appointment(m) => m.fee_invoice.iter().map(String::as_str).collect(),
            _ => Vec::new(),
        }
    }

    /// The secrets in it: never part of what is signed in public, so the id does not cover them.
    pub fn secrets(&self) -> &[Preimage] {
        match self {
            Message::AppointmentRequest(m) => &m.price_secrets,
            Message::Receipt(m) => &m.secrets,
            Message::Ruling(m) => &m.secrets,
            Message::Handover(m) => &m.secrets,
            _ => &[],
        }
    }

    /// Puts the secrets of one recipient's copy in; nothing happens for a message that carries none.
    pub fn set_secrets(&mut self, secrets: Vec<Preimage>) {
        match self {
            Message::AppointmentRequest(m) => m.price_secrets = secrets,
            Message::Receipt(m) => m.secrets = secrets,
            Message::Ruling(m) => m.secrets = secrets,
            Message::Handover(m) => m.secrets = secrets,
            _ => {}
        }
    }

    /// May never travel in public, whatever the transport of the trade.
    pub fn always_sealed(&self) -> bool {
        match self {
            Message::AppointmentRequest(_) | Message::Handover(_) => true,
            Message::Listing(listing) => listing.answers().is_some(),
            _ => false,
        }
    }
}

/// Shipping cost and time of a listing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shipping {
    /// Cost within the payee's country.
    pub domestic: Option<Sat>,
    /// Cost abroad.
    pub international: Option<Sat>,
    /// Estimated days under way.
    pub estimated_days: Option<u16>,
}

/// Something for sale (300).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Listing {
    /// The payee's own name for the listing (`d` tag); a newer listing with it supersedes this one for new takers.
    pub d: String,
    /// What it is, 1 to 100 characters.
    pub product_name: String,
    /// Up to 2000 characters.
    pub description: String,
    /// Asking price.
    pub price: Sat,
    /// Up to 50 characters.
    pub category: Option<String>,
    /// Where pictures are: an `ipfs`, `http` or `https` URI.
    pub storage_link: Option<String>,
    /// Shipping cost and time.
    pub shipping: Option<Shipping>,
    /// The escrow terms; absent only from clients that do not know them.
    pub escrow: Option<EscrowTerms>,
    /// Makes of it an order for bitcoin against money of a country; `price` is then about what `max` comes to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fiat: Option<FiatTerms>,
}

impl Listing {
    /// The order that it answers, where it is for the maker of one alone.
    pub fn answers(&self) -> Option<Answers> {
        self.fiat.as_ref()?.answers
    }
}

/// An offer to buy (301).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bid {
    /// The listing it is for.
    pub listing: MessageId,
    /// Price offered, shipping included.
    pub amount: Sat,
    /// Bond the payer will lock.
    pub payer_bond: Sat,
    /// One hash for each tranche of the price, made by the payer.
    pub payment_hashes: Vec<PaymentHash>,
    /// The arbiter the payer picked from the listing.
    pub arbiter: Option<PartyKey>,
    /// Up to 500 characters.
    pub message: Option<String>,
    /// How long the payer waits for an acceptance, 1 to 168 hours.
    pub payment_timeout_hours: u16,
    /// 0 for the bid that opens a trade; `n` when the same payer asks, in the running trade, to lock the same money
    /// again on new hashes because the goods outlive lock `n - 1`.
    #[serde(default)]
    pub round: u8,
    /// How many of what is listed.
    #[serde(default = "one", skip_serializing_if = "is_one")]
    pub quantity: u32,
    /// On an order for bitcoin against money of a country: what of it is taken, and at which rate. Only in round 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fiat: Option<FiatBid>,
}

pub(crate) fn one() -> u32 {
    1
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "as serde wants it")]
pub(crate) fn is_nothing(amount: &Sat) -> bool {
    *amount == Sat::ZERO
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "as serde wants it")]
pub(crate) fn is_one(quantity: &u32) -> bool {
    *quantity == 1
}

/// Another price for a bid (302).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counter {
    /// The bid or counter that it answers.
    pub bid: MessageId,
    /// Price asked instead.
    pub amount: Sat,
}

/// The payer asks an arbiter to serve in a trade (316 by the payer, sealed).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AppointmentRequest {
    /// The trade.
    pub trade: TradeId,
    /// The listing and its author, so that one party's copy is enough to rule.
    pub listing: MessageId,
    /// Who is to be paid.
    pub payee: PartyKey,
    /// The bid, as the payer will sign it.
    pub bid: Bid,
    /// The terms the bid is made under.
    pub terms: EscrowTerms,
    /// The price secrets, one a tranche, when the terms say `arbiter_release`; else empty.
    pub price_secrets: Vec<Preimage>,
}

/// An arbiter accepts to serve (316).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Appointment {
    /// The trade.
    pub trade: TradeId,
    /// Hash of the payer bond, its secret made by the arbiter; absent when the trade has no such bond.
    pub payer_bond_hash: Option<PaymentHash>,
    /// Hash of the payee bond, likewise.
    pub payee_bond_hash: Option<PaymentHash>,
    /// The arbiter holds secrets that open every hash of `payment_hashes`.
    pub confirms_release: bool,
    /// The price hashes that the payer told the arbiter: the payee compares them with the bid's, so that the payer cannot give
    /// the arbiter secrets of something else.
    #[serde(default)]
    pub payment_hashes: Vec<PaymentHash>,
    /// The terms under which the arbiter serves, as the payer told them: the payee compares them with its listing's.
    #[serde(default)]
    pub terms: Option<EscrowTerms>,
    /// What the arbiter charges for the trade; nothing for a further round.
    pub fee: Sat,
    /// Its BOLT11 invoice for the fee: only ever in the copy sealed for the payer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fee_invoice: Option<String>,
    /// The arbiter's policy, up to 1000 characters.
    pub policy: String,
    /// The round of the bid that it serves.
    #[serde(default)]
    pub round: u8,
}

/// The payee accepts a bid and hands over its invoices (303).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Acceptance {
    /// The bid it accepts.
    pub bid: MessageId,
    /// BOLT11 hold invoices of the price, one a tranche.
    pub price_invoices: Vec<String>,
    /// BOLT11 hold invoice of the payer bond.
    pub payer_bond_invoice: Option<String>,
    /// Shipping time in days, 0 to 90.
    pub shipping_time_days: Option<u16>,
    /// Up to 1000 characters.
    pub terms: Option<String>,
    /// How long the invoices may be paid, 300 to 86400 seconds.
    pub invoice_expiry_secs: u32,
    /// Final CLTV of the invoices, 144 to 2016 blocks.
    pub lock_blocks: u16,
}

/// The payer's hold invoice for the payee's bond (310).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PayeeBondInvoice {
    /// The listing.
    pub listing: MessageId,
    /// The acceptance that it answers.
    pub acceptance: MessageId,
    /// Size of the bond.
    pub amount: Sat,
    /// BOLT11 hold invoice on the hash that the arbiter signed.
    pub invoice: String,
}

/// The payer says that its legs are under way (311). Proves nothing: the payee's own node does.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PaymentConfirmation {
    /// The acceptance it pays (DOMP calls the field `bid_ref`).
    pub acceptance: MessageId,
    /// First price hash.
    pub payment_proof: PaymentHash,
    /// Hash of the payer bond.
    pub collateral_proof: Option<PaymentHash>,
    /// Blocks the escrow lasts, 144 to 2016.
    pub lock_blocks: u16,
    /// When it was paid.
    pub paid_at: Unix,
    /// Height at which the payer paid. `paid_height + lock_blocks` is the expiry that the arbiter reckons with, because it sees
    /// no node: the payee ships only when its own node shows no earlier one, so neither can lie to its advantage.
    #[serde(default)]
    pub paid_height: Option<Height>,
}

/// The payee sent the goods (320).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shipment {
    /// The payment confirmation that it answers.
    pub payment: MessageId,
    /// What the payee says, up to 500 characters.
    pub note: String,
    /// Proof of dispatch, such as a tracking number, up to 200 characters. Sealed in both transports.
    pub tracking: Option<String>,
}

/// What the payer says of the goods.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum ReceiptStatus {
    /// All is well: the only status that releases.
    Received,
    /// Opens a dispute.
    PartiallyReceived,
    /// Opens a dispute.
    NotReceived,
    /// Opens a dispute.
    Damaged,
}

/// The payer received the goods, or says that it did not (313).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Receipt {
    /// The payment confirmation it answers.
    pub payment: MessageId,
    /// What the payer says of the goods.
    pub status: ReceiptStatus,
    /// 1 to 5.
    pub rating: Option<u8>,
    /// Up to 1000 characters.
    pub feedback: Option<String>,
    /// Up to 500 characters; required unless received, forbidden when received.
    pub dispute_reason: Option<String>,
    /// The price secrets: only ever in the copy sealed for the payee.
    pub secrets: Vec<Preimage>,
}

/// Either party asks the arbiter to rule (312).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dispute {
    /// The payment confirmation.
    pub payment: MessageId,
    /// Up to 100 characters.
    pub reason: String,
    /// Up to 2000 characters.
    pub details: String,
}

/// The payee gives the money back, or turns a bid down (314).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refund {
    /// The payment confirmation; the acceptance when nothing was confirmed yet, the payer's last offer when nothing was accepted.
    pub payment: MessageId,
    /// Up to 500 characters.
    pub reason: String,
}

/// One party's half of a mutual cancel (315); before the bid was accepted, the payer's word that it takes the bid back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MutualCancel {
    /// The payment confirmation; the acceptance when nothing was confirmed yet, the payer's last offer when nothing was accepted.
    pub payment: MessageId,
    /// Up to 500 characters.
    pub agreement: String,
}

/// Where a ruling sends a bond.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum BondFate {
    /// Back to the party that locked it.
    Return,
    /// To the counterparty.
    Forfeit,
}

/// The arbiter's decision (317).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ruling {
    /// The trade.
    pub trade: TradeId,
    /// The dispute it decides; the shipment, when nobody disputed and the arbiter applies the default on silence.
    pub dispute: MessageId,
    /// How many of the price's tranches go to the payee, the first ones; the others go back.
    pub payee_tranches: u8,
    /// The payer's bond.
    pub payer_bond: BondFate,
    /// The payee's bond.
    pub payee_bond: BondFate,
    /// The reasons, up to 2000 characters.
    pub resolution: String,
    /// Secrets the recipient is to settle with: only ever in the copy sealed for it.
    pub secrets: Vec<Preimage>,
}

/// A secret that came to light by itself (320, sealed): the sender's payment was taken although it released nothing and
/// nobody ruled. Whoever holds the other end settles with it before a thief on the route can profit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Handover {
    /// The payment confirmation, or the acceptance when nothing was confirmed yet.
    pub payment: MessageId,
    /// What happened, up to 500 characters.
    pub note: String,
    /// The secrets: only ever in the copy sealed for the counterparty.
    pub secrets: Vec<Preimage>,
}

/// One party rates the other (321).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rating {
    /// Who is rated.
    pub subject: PartyKey,
    /// 1 to 5.
    pub rating: u8,
    /// Up to 1000 characters.
    pub comment: Option<String>,
    /// The receipt, refund, mutual cancel or ruling that ended the trade.
    pub ended_by: MessageId,
    /// Kind of that message: 313, 314, 315 or 317.
    pub ended_by_kind: u16,
}

/// One party rates the arbiter (322).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ArbiterRating {
    /// The arbiter.
    pub arbiter: PartyKey,
    /// 1 to 5.
    pub rating: u8,
    /// Up to 1000 characters.
    pub comment: Option<String>,
    /// The appointment, ruling, dispute or mutual cancel that it is about.
    pub about: MessageId,
    /// Kind of that message: 312, 315, 316 or 317.
    pub about_kind: u16,
}

/// Somebody rates a board (323).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BoardRating {
    /// The board, `ws://` or `wss://`.
    pub url: String,
    /// 1 to 5.
    pub rating: u8,
    /// Up to 1000 characters.
    pub comment: Option<String>,
    /// A message of a trade that was made there.
    pub about: MessageId,
    /// Hash of a payment of that trade.
    pub payment: PaymentHash,
}

/// A listing takes no more bids (kind 5).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Delisting {
    /// Every version of it.
    pub listings: Vec<MessageId>,
    /// Up to 500 characters.
    pub reason: String,
}

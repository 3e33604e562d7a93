//! Events: what is recorded. Intents end in `Ordered` and make an effect owed; facts clear it. Only optional fields may be
//! added to what is here: logs of every released version must replay.

use serde::{Deserialize, Serialize};
use units::{Height, PaymentHash, Preimage, Sat, Unix};

use crate::effect::Notice;
use crate::fee::Bill;
use crate::fiat::FiatBid;
use crate::ids::{MessageId, PartyKey, TradeId};
use crate::input::{Envelope, OwnNode};
use crate::leg::LegId;
use crate::message::{Listing, Message};
use crate::refusal::Rule;
use crate::terms::EscrowTerms;

/// Which side of a trade a machine plays.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Pays the price.
    Payer,
    /// Earns the price.
    Payee,
    /// Rules when the two disagree.
    Arbiter,
}

/// Names a message within a trade: an author says at most one thing for each step. The number is the round, for a counter its
/// position in the haggling.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Step {
    /// 300; the number is the version of the stall.
    Listing(u32),
    /// 316 by the payer.
    AppointmentRequest(u8),
    /// 316 by the arbiter.
    Appointment(u8),
    /// 301.
    Bid(u8),
    /// 302.
    Counter(u8),
    /// 303.
    Acceptance(u8),
    /// 310.
    PayeeBondInvoice(u8),
    /// 311.
    PaymentConfirmation(u8),
    /// 320 with `shipped`; of a further round, the payee's word that the re-lock is complete.
    Shipment(u8),
    /// 312, or 313 with any status but `received`.
    Dispute,
    /// 313 with status `received`.
    Receipt,
    /// 314; also the payee's word that it turns a bid down.
    Refund,
    /// 315; also the payer's word that it takes a bid back.
    MutualCancel,
    /// 317.
    Ruling,
    /// 320 with `secrets`.
    Handover(LegId),
    /// 321.
    Rating,
    /// 322.
    ArbiterRating,
    /// 323.
    BoardRating,
    /// 5; the number is the version of the stall.
    Delisting(u32),
}

/// A message that we owe. Signed and encoded by the shell, always into the same bytes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outgoing {
    /// Stable name of the message within the trade.
    pub step: Step,
    /// Key to sign with.
    pub author: PartyKey,
    /// The step it answers.
    pub prev: Option<MessageId>,
    /// Its `created_at`.
    pub at: Unix,
    /// What to say, `secrets` empty.
    pub message: Message,
    /// Who gets it. Without copies it is public (a listing).
    pub copies: Vec<SealedCopy>,
}

/// One recipient of a message. The message itself may travel in public or sealed, as the transport of the trade says;
/// a copy with `secrets` is always sealed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SealedCopy {
    /// The recipient.
    pub to: PartyKey,
    /// Secrets that only this recipient gets, to be put in the `secrets` of the message.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub secrets: Vec<Reveal>,
    /// The word that the message answers, as its author signed it ([`crate::Envelope::signed`]): shown to this recipient, sealed, because
    /// its author may have told it something else, or nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shown: Option<String>,
    /// The arbiter's invoice: only ever in the payer's copy of the appointment.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fee_invoice: Option<String>,
}

/// Where a secret comes from that a copy reveals.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reveal {
    /// The shell derives it from our escrow key ([`crate::secret::derive`]).
    Derive(LegId),
    /// Somebody gave it to us.
    Known(Preimage),
}

/// The first event of a trade.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Opening {
    /// The trade.
    pub trade: TradeId,
    /// Our side.
    pub role: Role,
    /// The listing it is on.
    pub listing: MessageId,
    /// The listing's terms.
    pub terms: EscrowTerms,
    /// Who pays.
    pub payer: PartyKey,
    /// Who is paid.
    pub payee: PartyKey,
    /// Who rules.
    pub arbiter: Option<PartyKey>,
    /// Price offered.
    pub amount: Sat,
    /// Bond of the payer; that of the payee is in the terms.
    pub payer_bond: Sat,
    /// Hashes of the price's tranches in round 0.
    pub payment_hashes: Vec<PaymentHash>,
    /// The bid's text.
    pub message: Option<String>,
    /// How long the bid stands, in hours.
    pub timeout_hours: u16,
    /// The payee's node, when the payer knows it beforehand.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub payee_node: Option<String>,
    /// How many of what is listed.
    #[serde(default = "crate::message::one", skip_serializing_if = "crate::message::is_one")]
    pub quantity: u32,
    /// Our user wants to look at the invoices before they are paid.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub pay_by_hand: bool,
    /// The most that our user agreed to pay the arbiter.
    #[serde(default, skip_serializing_if = "crate::message::is_nothing")]
    pub max_arbiter_fee: Sat,
    /// What a bid on an order for bitcoin against money of a country quotes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fiat: Option<FiatBid>,
    /// Until when its rate stands: the bid lapses then. The arbiter, who sees no listing, does not know.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quote_until: Option<Unix>,
    /// The order that sells bitcoin which the listing answers; the arbiter does not know.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub order: Option<MessageId>,
    /// Our node when the trade opened.
    pub node: OwnNode,
    /// When it was opened.
    pub at: Unix,
}

impl Opening {
    /// The listing of ours whose stock the trade takes from: of an order that sells bitcoin the payer's, else the payee's.
    pub fn takes_from(&self) -> Option<MessageId> {
        match self.role {
            Role::Payer => self.order,
            Role::Payee => Some(self.listing),
            Role::Arbiter => None,
        }
    }
}

/// Why a trade is being unwound.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Why {
    /// Nobody accepted the bid in time.
    BidExpired,
    /// One side walked away before anything was agreed.
    Withdrawn,
    /// Not every leg was locked in time.
    LockTimeout,
    /// An invoice broke a rule.
    InvoiceRefused,
    /// Our own node will not issue an invoice.
    NodeRefused,
    /// The arbiter charges more than was agreed to, or its invoice broke a rule.
    FeeRefused,
    /// The arbiter's fee could not be paid.
    FeeUnpaid,
    /// A leg came back before all was locked.
    LegReturned,
    /// The payee gave the money back (314).
    Refunded,
    /// Both agreed to cancel (315).
    MutualCancel,
    /// The payer released (313).
    Released,
    /// The payee did not ship in time.
    NotShipped,
    /// The agreed default on silence.
    Silence,
    /// The arbiter ruled.
    Ruled,
    /// `D_hard` came first.
    Deadline,
    /// A node failed a held leg by itself.
    Vanished,
    /// The price was taken by its secret although nobody released it.
    Taken,
}

/// How a trade ended, computed from what the nodes report.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(tag = "outcome", rename_all = "snake_case")]
pub enum Outcome {
    /// The bid came to nothing.
    Expired,
    /// It ended before every leg was locked.
    Canceled,
    /// The payee has the price.
    Settled,
    /// The payer has its money back.
    Refunded,
    /// The payee has some of the tranches.
    Split {
        /// How many.
        payee_tranches: u8,
    },
    /// Arbiter: the two did without us.
    Unneeded,
    /// Arbiter: we ruled.
    Ruled,
    /// Arbiter: nobody disputed and we applied the default on silence.
    Defaulted,
    /// Arbiter: a dispute was open and we missed the deadline.
    Missed,
}

/// What is recorded in the log of a trade or stall.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    /// The trade began.
    Opened(Box<Opening>),
    /// Owed: a message.
    MessageOrdered(Box<Outgoing>),
    /// Our message is out, under this id.
    MessageSent {
        /// Which.
        step: Step,
        /// Its id.
        id: MessageId,
    },
    /// A message of another party counts from now on.
    MessageTaken {
        /// Which step it is.
        step: Step,
        /// The message.
        envelope: Box<Envelope>,
    },
    /// Somebody told us the secret of a leg.
    SecretLearned {
        /// Which leg.
        leg: LegId,
        /// Its secret.
        preimage: Preimage,
    },
    /// The payee accepts: the acceptance is said as soon as its invoices exist.
    AcceptOrdered {
        /// Which round.
        round: u8,
        /// Shipping time in days.
        shipping_time_days: Option<u16>,
        /// Up to 1000 characters.
        terms: Option<String>,
        /// How long the invoices may be paid, in seconds.
        invoice_expiry_secs: u32,
        /// When everything must be locked.
        until: Unix,
    },
    /// Owed: a hold invoice.
    InvoiceOrdered {
        /// For which leg.
        leg: LegId,
        /// On which hash.
        hash: PaymentHash,
        /// For how much.
        amount: Sat,
        /// Final CLTV, in blocks.
        min_final_cltv: u16,
        /// How long it may be paid, in seconds.
        expiry_secs: u32,
    },
    /// Our node made the hold invoice.
    InvoiceIssued {
        /// For which leg.
        leg: LegId,
        /// BOLT11.
        invoice: String,
    },
    /// Our node holds the full amount of a leg.
    LegHeld {
        /// Which leg.
        leg: LegId,
        /// Lowest expiry height of its HTLCs.
        expiry: Height,
    },
    /// Owed: settle a leg with the secret we learned.
    SettleOrdered {
        /// Which leg.
        leg: LegId,
    },
    /// A leg is ours.
    LegSettled {
        /// Which leg.
        leg: LegId,
    },
    /// Owed: fail a leg back.
    CancelOrdered {
        /// Which leg.
        leg: LegId,
    },
    /// A leg went back, or its invoice can no longer be paid.
    LegCanceled {
        /// Which leg.
        leg: LegId,
    },
    /// An invoice of the counterparty passed every check and will be paid when its turn comes.
    PaymentReady {
        /// For which leg.
        leg: LegId,
        /// Its hash.
        hash: PaymentHash,
        /// Its size.
        amount: Sat,
        /// BOLT11.
        invoice: String,
    },
    /// Owed: pay a leg.
    PaymentOrdered {
        /// Which leg.
        leg: LegId,
        /// Never start the payment after this time.
        not_after: Unix,
        /// Height when it was ordered: the payment's expiry is reckoned from here.
        height: Height,
    },
    /// Our user looked at the invoices: they may be paid.
    PayApproved,
    /// Our node has the payment of a leg under way.
    PaymentInFlight {
        /// Which leg.
        leg: LegId,
    },
    /// Our payment of a leg was taken.
    PaymentTaken {
        /// Which leg.
        leg: LegId,
        /// The secret it revealed.
        preimage: Preimage,
        /// When we learned it.
        height: Height,
    },
    /// Our payment of a leg came back, failed, or was never started.
    PaymentReturned {
        /// Which leg.
        leg: LegId,
    },
    /// The arbiter's invoice, checked: ours when we are the arbiter, to be paid when the bid was accepted when we are the payer.
    FeeBilled {
        /// The invoice.
        bill: Bill,
    },
    /// Owed: pay the arbiter's fee.
    FeeOrdered {
        /// Never start the payment after this time.
        not_after: Unix,
    },
    /// Our node has the payment of the fee under way.
    FeeInFlight,
    /// The arbiter has its fee.
    FeePaid {
        /// Payer: the proof of it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        preimage: Option<Preimage>,
    },
    /// The payment of the fee failed, or was never started.
    FeeFailed,
    /// Every leg of a round is locked, as far as our own node can see.
    Locked {
        /// Which round.
        round: u8,
        /// Height at that moment.
        height: Height,
    },
    /// A re-lock came to nothing; the earlier round goes on.
    RelockDropped {
        /// Which round.
        round: u8,
    },
    /// The trade is being unwound: every leg goes where it belongs.
    Unwound {
        /// Why.
        why: Why,
    },
    /// Owed: a notice to our user.
    NoticeRaised {
        /// Which.
        notice: Notice,
    },
    /// Our user was told.
    NoticeShown {
        /// Which.
        notice: Notice,
    },
    /// A party broke a rule in writing; kept to judge from.
    EvidenceKept {
        /// The rule.
        rule: Rule,
        /// What it said.
        envelope: Box<Envelope>,
    },
    /// Nothing can happen any more but ratings.
    Closed {
        /// How it ended.
        outcome: Outcome,
    },
    /// Stall: owed, a listing.
    ListingOrdered {
        /// Which version, from 0.
        version: u32,
        /// Who lists.
        me: PartyKey,
        /// What.
        listing: Box<Listing>,
        /// How many there are.
        stock: u32,
        /// Its `created_at`.
        at: Unix,
    },
    /// Stall: how many there are now.
    Restocked {
        /// How many, trades under way included.
        stock: u32,
    },
    /// Stall: no more bids are taken.
    Delisted {
        /// When; then boards are owed word of it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        at: Option<Unix>,
        /// Up to 500 characters.
        #[serde(default, skip_serializing_if = "String::is_empty")]
        reason: String,
    },
}

//! DOMP (kinds 300 to 323): trade messages as Nostr events and back.
//!
//! A message becomes one event, the same bytes each time it is made from the same message, context and key. The event never
//! holds a secret: those travel beside it in a sealed copy ([`sealed`]), so that the id of a message does not depend on who
//! gets which secret, and any copy can be shown to an arbiter as evidence.

mod content;
mod read;
pub mod sealed;
mod tags;
mod write;

use secp256k1::Keypair;
use trade::{Envelope, Message, MessageId, PartyKey, TradeId};
use units::Unix;

pub use content::CONTENT_MAX;
pub use tags::AntiSpam;

use crate::event::{Event, Forged, Unsigned, pubkey_of};
use crate::invoice::parse_invoice;
use crate::json::Malformed;
use crate::pow;

/// Kinds of DOMP events.
pub mod kind {
    /// Product listing, by the payee.
    pub const LISTING: u16 = 300;
    /// Bid, by the payer.
    pub const BID: u16 = 301;
    /// Counter bid, by either party.
    pub const COUNTER: u16 = 302;
    /// Acceptance of a bid, by the payee.
    pub const ACCEPTANCE: u16 = 303;
    /// Payee bond, by the payer.
    pub const PAYEE_BOND: u16 = 310;
    /// Payment confirmation, by the payer.
    pub const PAYMENT: u16 = 311;
    /// Dispute, by either party.
    pub const DISPUTE: u16 = 312;
    /// Receipt, by the payer.
    pub const RECEIPT: u16 = 313;
    /// Refund, by the payee.
    pub const REFUND: u16 = 314;
    /// Mutual agreement, by both parties.
    pub const MUTUAL: u16 = 315;
    /// Arbitration: a payer's request and an arbiter's appointment.
    pub const ARBITRATION: u16 = 316;
    /// Ruling, by the arbiter.
    pub const RULING: u16 = 317;
    /// Message, by anybody: a shipment, a handover of secrets, chat.
    pub const MESSAGE: u16 = 320;
    /// Rating of a user, by either party.
    pub const RATING: u16 = 321;
    /// Rating of an arbiter, by either party.
    pub const ARBITER_RATING: u16 = 322;
    /// Rating of a board, by anybody.
    pub const BOARD_RATING: u16 = 323;
    /// Deletion (NIP-09): a listing takes no more bids.
    pub const DELETION: u16 = 5;
    /// Rumor that carries a signed event and what is secret about it. Ours; only ever inside a gift wrap.
    pub const SEALED_STEP: u16 = 330;
    /// A party's pledge that it is in an escrow. Ours; never by itself on a board, only sealed or inside a rating.
    pub const PLEDGE: u16 = 331;
    /// Every kind of DOMP.
    pub const ALL: [u16; 16] = [
        LISTING,
        BID,
        COUNTER,
        ACCEPTANCE,
        PAYEE_BOND,
        PAYMENT,
        DISPUTE,
        RECEIPT,
        REFUND,
        MUTUAL,
        ARBITRATION,
        RULING,
        MESSAGE,
        RATING,
        ARBITER_RATING,
        BOARD_RATING,
    ];
}

/// `payment_timeout_hours` when nothing is said.
pub const DEFAULT_TIMEOUT_HOURS: u16 = 24;
/// `invoice_expiry_seconds` when nothing is said.
pub const DEFAULT_EXPIRY_SECS: u32 = 3600;
/// `htlc_timeout_blocks` and `escrow_timeout_blocks` when nothing is said.
pub const DEFAULT_LOCK_BLOCKS: u16 = 144;
/// Longest `d` tag, in bytes.
pub const D_MAX: usize = 256;
/// DOMP's events are no older than 2022-01-01.
pub const CREATED_AT_MIN: Unix = Unix(1_640_995_200);

/// Why an event is no message of a trade. [`Reject::code`] is stable.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Reject {
    /// Not what its author signed.
    #[error(transparent)]
    Forged(#[from] Forged),
    /// Not a kind of DOMP that trades have.
    #[error("kind {0} is no trade message")]
    UnknownKind(u16),
    /// A kind 320 that only talks.
    #[error("a message without a step of a trade")]
    NotAStep,
    /// Dated before DOMP, or later than any clock.
    #[error("created_at is out of range")]
    CreatedAt,
    /// The content is not a JSON object, or not strictly one.
    #[error("content: {0}")]
    Content(Malformed),
    /// A required field is absent.
    #[error("field {0} is missing")]
    FieldMissing(&'static str),
    /// A field has another JSON type.
    #[error("field {0} has the wrong type")]
    FieldType(&'static str),
    /// A field's value is none that it may have.
    #[error("field {0} is out of range")]
    FieldRange(&'static str),
    /// A field that may not stand beside the others.
    #[error("field {0} is not allowed here")]
    FieldForbidden(&'static str),
    /// A field that the kind's schema does not have.
    #[error("unknown field {0:?}")]
    UnknownField(String),
    /// A required tag is absent.
    #[error("tag {0} is missing")]
    TagMissing(&'static str),
    /// A tag is not what it has to be.
    #[error("tag {0} is malformed")]
    TagMalformed(&'static str),
    /// No `ref` tag names the step that this one answers.
    #[error("no ref tag")]
    RefMissing,
    /// Content and tags name different steps or trades.
    #[error("content and tags disagree on what this answers")]
    RefMismatch,
    /// No `anti_spam_proof` tag.
    #[error("no anti-spam proof")]
    AntiSpamMissing,
    /// The work that is claimed was not done.
    #[error("claims {claimed} bits of work, its id has {found}")]
    PowUnmet {
        /// What the tag claims.
        claimed: u32,
        /// Leading zero bits of the id.
        found: u32,
    },
    /// A secret stands where everybody can read it.
    #[error("carries a secret in the open")]
    SecretInPublic,
    /// A message that is only ever sealed travels in public.
    #[error("may only travel sealed")]
    NeverPublic,
    /// The sealed copy carries secrets for a message that has none, or from somebody other than the message's author.
    #[error("secrets that do not belong to the message")]
    ForeignSecrets,
    /// The author of a rumor or the shape of its envelope is wrong.
    #[error("sealed copy: {0}")]
    Envelope(Malformed),
}

impl Reject {
    /// A stable name for the reason.
    pub fn code(&self) -> &'static str {
        match self {
            Reject::Forged(forged) => forged.code(),
            Reject::UnknownKind(_) => "unknown-kind",
            Reject::NotAStep => "not-a-step",
            Reject::CreatedAt => "created-at",
            Reject::Content(_) => "content",
            Reject::FieldMissing(_) => "field-missing",
            Reject::FieldType(_) => "field-type",
            Reject::FieldRange(_) => "field-range",
            Reject::FieldForbidden(_) => "field-forbidden",
            Reject::UnknownField(_) => "unknown-field",
            Reject::TagMissing(_) => "tag-missing",
            Reject::TagMalformed(_) => "tag-malformed",
            Reject::RefMissing => "ref-missing",
            Reject::RefMismatch => "ref-mismatch",
            Reject::AntiSpamMissing => "anti-spam-missing",
            Reject::PowUnmet { .. } => "pow-unmet",
            Reject::SecretInPublic => "secret-in-public",
            Reject::NeverPublic => "never-public",
            Reject::ForeignSecrets => "foreign-secrets",
            Reject::Envelope(_) => "envelope",
        }
    }
}

/// Why a message was not encoded.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unsendable {
    /// It is only ever sealed.
    #[error("may only travel sealed")]
    NeverPublic,
    /// Our own reader would refuse it.
    #[error("would be refused: {0}")]
    WouldBeRefused(Reject),
    /// What was read back is not what was said.
    #[error("does not survive the wire")]
    NotRepresentable,
}

/// How a message travels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// As an event that everybody can read.
    Public,
    /// Inside gift wraps only.
    Sealed,
}

/// The proof of [`AntiSpam`] that a message carries.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Proof {
    /// `["anti_spam_proof", "ref", previous id, its kind]`.
    #[default]
    Previous,
    /// None yet: [`pow::Miner`] appends it, with `domp` set, before the event is signed.
    Mined,
}

/// What goes on the wire beside the message. The same context gives the same event.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Context {
    /// `created_at`.
    pub at: Unix,
    /// The step that it answers; needed where the message itself does not say ([`Message::prev`]).
    pub prev: Option<MessageId>,
    /// The listing that the trade is on, so that one query finds the whole trade.
    pub root: Option<MessageId>,
    /// The trade.
    pub trade: Option<TradeId>,
    /// Whom it concerns (`p` tags).
    pub to: Vec<PartyKey>,
    /// Relay on which the previous step is found; empty when nobody knows.
    pub relay: String,
    /// When relays may forget it (NIP-40).
    pub expiration: Option<Unix>,
    /// Proof against spam.
    pub proof: Proof,
}

/// A message that an event held.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decoded {
    /// What was said.
    pub message: Message,
    /// Who signed it.
    pub author: PartyKey,
    /// Id of the event.
    pub id: MessageId,
    /// When the author says that it was made.
    pub at: Unix,
    /// The step that it answers; none for a listing.
    pub prev: Option<MessageId>,
    /// The listing that the trade is on, where it says so.
    pub root: Option<MessageId>,
    /// The trade, where it says so.
    pub trade: Option<TradeId>,
    /// Whom it concerns.
    pub to: Vec<PartyKey>,
    /// Its proofs against spam, as claimed: `pow` is checked, the others are the board's to check.
    pub proofs: Vec<AntiSpam>,
    /// When relays may forget it.
    pub expiration: Option<Unix>,
    /// Who sent us the sealed copy; none for a public event.
    pub via: Option<PartyKey>,
    /// The event itself, canonical JSON, of a word that may have to be shown to somebody else: a payment confirmation.
    pub signed: Option<String>,
    /// Pledges that came with the sealed copy, not yet checked.
    pub pledges: Vec<Event>,
}

impl Decoded {
    /// What trades take, with the invoices read. An invoice that cannot be read is left out; the trade then refuses the message.
    pub fn into_envelope(self) -> Envelope {
        let invoices = self.message.invoices().into_iter().filter_map(|text| parse_invoice(text).ok()).collect();
        Envelope {
            id: self.id,
            author: self.author,
            prev: self.prev,
            at: self.at,
            message: self.message,
            invoices,
            via: self.via.filter(|via| *via != self.author),
            signed: self.signed,
        }
    }
}

/// The message without what never enters an event.
fn without_secrets(message: &Message) -> Message {
    let mut message = message.clone();
    message.set_secrets(Vec::new());
    match &mut message {
        Message::Shipment(shipment) => shipment.tracking = None,
        Message::Appointment(appointment) => appointment.fee_invoice = None,
        _ => {}
    }
    message
}

/// Encodes a message, ready to be mined or signed by `author`. Secrets, tracking and the fee's invoice are left out, in both transports: see
/// [`sealed::Private`].
pub fn unsigned(
    message: &Message,
    context: &Context,
    author: PartyKey,
    transport: Transport,
) -> Result<Unsigned, Unsendable> {
    if transport == Transport::Public && message.always_sealed() {
        return Err(Unsendable::NeverPublic);
    }
    let (kind, content) = write::content(message);
    let tags = tags::write(message, context);
    let unsigned = Unsigned { pubkey: author.0, created_at: context.at, kind, tags, content };
    // We send nothing that we would not take ourselves.
    let read = read_unsigned(&unsigned, context.proof == Proof::Previous).map_err(Unsendable::WouldBeRefused)?;
    if read.message == without_secrets(message) { Ok(unsigned) } else { Err(Unsendable::NotRepresentable) }
}

/// Encodes and signs a message: [`unsigned`] with `key`'s signature, always the same bytes.
pub fn encode(message: &Message, context: &Context, key: &Keypair, transport: Transport) -> Result<Event, Unsendable> {
    Ok(unsigned(message, context, PartyKey(pubkey_of(key)), transport)?.sign(key, &[0; 32]))
}

/// Verifies a public event and reads the message in it.
pub fn decode(event: &Event) -> Result<Decoded, Reject> {
    event.verify()?;
    decode_verified(event)
}

/// [`decode`] for an event that was verified already.
pub fn decode_verified(event: &Event) -> Result<Decoded, Reject> {
    let decoded = decode_any(event)?;
    if decoded.message.always_sealed() { Err(Reject::NeverPublic) } else { Ok(decoded) }
}

/// Reads a verified event that came in public or sealed.
fn decode_any(event: &Event) -> Result<Decoded, Reject> {
    let unsigned = event.clone().into_unsigned();
    let decoded = read_unsigned(&unsigned, true)?;
    for proof in &decoded.proofs {
        if let AntiSpam::Pow { target } = *proof {
            let found = pow::zero_bits(&event.id);
            if found < target {
                return Err(Reject::PowUnmet { claimed: target, found });
            }
        }
    }
    let signed = (event.kind == kind::PAYMENT).then(|| event.to_json());
    Ok(Decoded { id: MessageId(event.id), signed, ..decoded })
}

fn read_unsigned(event: &Unsigned, proof_due: bool) -> Result<Decoded, Reject> {
    let d = crate::event::first_value(&event.tags, "d");
    let message = match event.kind {
        kind::DELETION => Message::Delisting(read::delisting(&event.content, &event.tags)?),
        kind => read::message(kind, &event.content, d, event.created_at)?,
    };
    if event.created_at < CREATED_AT_MIN {
        return Err(Reject::CreatedAt);
    }
    let tags = tags::read(&event.tags)?;
    let prev = match message {
        Message::Listing(_) | Message::Delisting(_) => None,
        _ => Some(tags.prev.ok_or(Reject::RefMissing)?),
    };
    if message.prev().is_some_and(|named| Some(named) != prev) {
        return Err(Reject::RefMismatch);
    }
    if let (Some(said), Some(tagged)) = (message.trade(), tags.trade)
        && said != tagged
    {
        return Err(Reject::RefMismatch);
    }
    let proof_due = proof_due && event.kind != kind::DELETION;
    if proof_due && tags.proofs.is_empty() {
        return Err(Reject::AntiSpamMissing);
    }
    Ok(Decoded {
        author: PartyKey(event.pubkey),
        id: MessageId([0; 32]),
        at: event.created_at,
        prev,
        root: tags.root,
        trade: message.trade().or(tags.trade),
        to: tags.to,
        proofs: tags.proofs,
        expiration: tags.expiration,
        via: None,
        signed: None,
        pledges: Vec::new(),
        message,
    })
}

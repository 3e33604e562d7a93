//! Sealed copies: a signed message, what is secret about it, and chat, inside NIP-59 gift wraps.

use std::fmt;

use secp256k1::Keypair;
use trade::limits::INVOICE_BYTES_MAX;
use trade::{EscrowTerms, Message, MessageId, PartyKey};
use units::{Preimage, Unix, hex32};

use super::content::{Fields, Object, need};
use super::{Decoded, Reject, decode_any, kind};
use crate::event::{Event, Limits, RawEvent, Unsigned, pubkey_of};
use crate::json::{Malformed, Reader, parse_hex};
use crate::seal::{self, UnwrapError, Unwrapped, WrapError};

/// Most secrets in one copy: every tranche of the price and both bonds.
pub const SECRETS_MAX: usize = EscrowTerms::TRANCHES_MAX as usize + 2;
/// Longest tracking, in characters.
pub const TRACKING_MAX: usize = 200;
/// Most pledges in one copy: one of each party.
pub const PLEDGES_MAX: usize = 3;
/// Longest chat message, in characters.
pub const CHAT_MAX: usize = 4000;

/// What one recipient's copy says beside the signed event.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Private {
    /// Secrets for this recipient.
    pub secrets: Vec<Preimage>,
    /// Proof of dispatch.
    pub tracking: Option<String>,
    /// Pledges that parties of the trade are in its escrow (kind 331, signed by whoever pledges, not yet checked).
    pub pledges: Vec<Event>,
    /// The arbiter's invoice for its fee, BOLT11.
    pub fee_invoice: Option<String>,
}

impl fmt::Debug for Private {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let also = |there: bool, what: &'static str| if there { what } else { "" };
        let tracking = also(self.tracking.is_some(), ", tracking");
        let fee_invoice = also(self.fee_invoice.is_some(), ", an invoice");
        write!(f, "Private({} secrets{tracking}, {} pledges{fee_invoice})", self.secrets.len(), self.pledges.len())
    }
}

impl Private {
    /// What `message` has that does not enter its event.
    pub fn of(message: &Message) -> Private {
        let tracking = match message {
            Message::Shipment(shipment) => shipment.tracking.clone(),
            _ => None,
        };
        let fee_invoice = match message {
            Message::Appointment(appointment) => appointment.fee_invoice.clone(),
            _ => None,
        };
        Private { secrets: message.secrets().to_vec(), tracking, pledges: Vec::new(), fee_invoice }
    }

    /// Nothing is said beside the event.
    pub fn is_empty(&self) -> bool {
        self.secrets.is_empty() && self.tracking.is_none() && self.pledges.is_empty() && self.fee_invoice.is_none()
    }

    /// Puts it into the message that it belongs to.
    fn put_into(self, message: &mut Message) -> Result<(), Reject> {
        let carries = matches!(
            message,
            Message::AppointmentRequest(_) | Message::Receipt(_) | Message::Ruling(_) | Message::Handover(_)
        );
        if !self.secrets.is_empty() && !carries {
            return Err(Reject::ForeignSecrets);
        }
        message.set_secrets(self.secrets);
        match (message, self.tracking, self.fee_invoice) {
            (Message::Shipment(shipment), tracking, None) => shipment.tracking = tracking,
            (Message::Appointment(appointment), None, invoice) => appointment.fee_invoice = invoice,
            (_, None, None) => {}
            (_, _, _) => return Err(Reject::ForeignSecrets),
        }
        Ok(())
    }
}

/// The rumor that brings `event` and `private` to `recipient`. `sender` need not be the event's author when `private` is empty:
/// a party may show an arbiter what the other one signed.
pub fn rumor(event: &Event, private: &Private, sender: PartyKey, recipient: PartyKey) -> Unsigned {
    let content = Object::new()
        .raw("event", &event.to_json())
        .hex_list("secrets", private.secrets.iter().map(Preimage::expose))
        .maybe(private.tracking.as_ref(), |o, tracking| o.text("tracking", tracking))
        .raw_list("pledges", private.pledges.iter().map(Event::to_json))
        .maybe(private.fee_invoice.as_ref(), |o, invoice| o.text("fee_invoice", invoice))
        .end();
    Unsigned {
        pubkey: sender.0,
        created_at: event.created_at,
        kind: kind::SEALED_STEP,
        tags: vec![vec!["p".to_owned(), hex32(&recipient.0)]],
        content,
    }
}

/// The gift wrap that brings `event` and `private` to `recipient`: [`rumor`], then [`seal::wrap`] without expiration.
pub fn copy(
    event: &Event,
    private: &Private,
    key: &Keypair,
    recipient: PartyKey,
    now: Unix,
    entropy: &[u8; 32],
) -> Result<Event, WrapError> {
    seal::wrap(&rumor(event, private, PartyKey(pubkey_of(key)), recipient), key, &recipient.0, now, None, entropy)
}

/// Something said about a trade that is no step of it (kind 320, sealed). Not signed: it proves nothing to anybody else.
#[derive(Clone, PartialEq, Eq)]
pub struct Chat {
    /// Who said it.
    pub author: PartyKey,
    /// When.
    pub at: Unix,
    /// The message of the trade that it is about.
    pub about: MessageId,
    /// What was said, 1 to [`CHAT_MAX`] characters.
    pub text: String,
}

impl fmt::Debug for Chat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Chat(by {}, about {}, {} bytes)", self.author, self.about, self.text.len())
    }
}

impl Chat {
    /// The rumor that says it, for [`seal::wrap`].
    pub fn rumor(&self, recipient: PartyKey) -> Unsigned {
        Unsigned {
            pubkey: self.author.0,
            created_at: self.at,
            kind: kind::MESSAGE,
            tags: vec![vec!["p".to_owned(), hex32(&recipient.0)], vec!["e".to_owned(), hex32(&self.about.0)]],
            content: Object::new().text("message", &self.text).hex("ref", &self.about.0).end(),
        }
    }

    fn read(rumor: &Unsigned) -> Result<Chat, Reject> {
        let mut fields = Fields::parse(&rumor.content)?;
        Ok(Chat {
            author: PartyKey(rumor.pubkey),
            at: rumor.created_at,
            text: need(fields.text("message", 1..=CHAT_MAX)?, "message")?,
            about: MessageId(need(fields.bytes32("ref")?, "ref")?),
        })
    }
}

/// What a gift wrap turned out to hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Opened {
    /// A message of a trade, its own signature verified.
    Step(Box<Decoded>),
    /// Talk.
    Chat(Chat),
}

/// Why a gift wrap holds nothing for us.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// It was not opened.
    #[error(transparent)]
    Wrap(#[from] UnwrapError),
    /// What is inside was refused.
    #[error(transparent)]
    Inside(#[from] Reject),
}

/// Opens a gift wrap for the holder of `key` and reads what it holds.
pub fn open(wrap: &Event, key: &Keypair) -> Result<Opened, OpenError> {
    let unwrapped = seal::unwrap(wrap, key)?;
    Ok(read(&unwrapped)?)
}

/// Reads what a gift wrap held.
pub fn read(unwrapped: &Unwrapped) -> Result<Opened, Reject> {
    let rumor = &unwrapped.rumor;
    match rumor.kind {
        kind::SEALED_STEP => Ok(Opened::Step(Box::new(step(rumor)?))),
        kind::MESSAGE => Ok(Opened::Chat(Chat::read(rumor)?)),
        other => Err(Reject::UnknownKind(other)),
    }
}

fn step(rumor: &Unsigned) -> Result<Decoded, Reject> {
    let (event, mut private) = envelope(&rumor.content).map_err(Reject::Envelope)?;
    event.verify()?;
    let mut decoded = decode_any(&event)?;
    let via = PartyKey(rumor.pubkey);
    if via != decoded.author && !private.is_empty() {
        return Err(Reject::ForeignSecrets);
    }
    if via != decoded.author && decoded.message.always_sealed() {
        // What was told to one in confidence is no evidence for another, and without its secrets it says nothing.
        return Err(Reject::NeverPublic);
    }
    decoded.pledges = std::mem::take(&mut private.pledges);
    private.put_into(&mut decoded.message)?;
    decoded.via = Some(via);
    Ok(decoded)
}

/// `{"event": …, "secrets": […], "tracking": …, "pledges": […], "fee_invoice": …}`
fn envelope(content: &str) -> Result<(Event, Private), Malformed> {
    let mut reader = Reader::new(content.as_bytes(), Limits::STRICT.bytes)?;
    let (mut event, mut secrets, mut tracking, mut pledges, mut fee_invoice) = (None, None, None, None, None);
    reader.object("envelope", |reader, key| {
        let twice = match key.decode().as_ref() {
            "event" => event.replace(RawEvent::read(reader, &Limits::STRICT)?.to_event()).is_some(),
            "secrets" => {
                let mut list = Vec::new();
                reader.array("secrets", |reader| {
                    if list.len() == SECRETS_MAX {
                        return Err(Malformed::TooMany("secrets"));
                    }
                    list.push(Preimage::new(parse_hex(reader.string("secret")?.raw(), "secret")?));
                    Ok(())
                })?;
                secrets.replace(list).is_some()
            }
            "tracking" => {
                let text = reader.string("tracking")?.decode().into_owned();
                if text.chars().count() > TRACKING_MAX {
                    return Err(Malformed::OutOfRange("tracking"));
                }
                tracking.replace(text).is_some()
            }
            "pledges" => {
                let mut list = Vec::new();
                reader.array("pledges", |reader| {
                    if list.len() == PLEDGES_MAX {
                        return Err(Malformed::TooMany("pledges"));
                    }
                    list.push(RawEvent::read(reader, &Limits::STRICT)?.to_event());
                    Ok(())
                })?;
                pledges.replace(list).is_some()
            }
            "fee_invoice" => {
                let text = reader.string("fee_invoice")?.decode().into_owned();
                if text.len() > INVOICE_BYTES_MAX {
                    return Err(Malformed::OutOfRange("fee_invoice"));
                }
                fee_invoice.replace(text).is_some()
            }
            _ => return Err(Malformed::UnknownKey),
        };
        if twice { Err(Malformed::DuplicateKey) } else { Ok(()) }
    })?;
    reader.end()?;
    let event = event.ok_or(Malformed::Missing("event"))?;
    let (secrets, pledges) = (secrets.unwrap_or_default(), pledges.unwrap_or_default());
    Ok((event, Private { secrets, tracking, pledges, fee_invoice }))
}

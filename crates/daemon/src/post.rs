//! Between trade messages and Nostr events: signing and sealing on the way out, opening and checking on the way in.

use trade::{Envelope, Listing, Message, MessageId, Outgoing, PartyKey, Reveal, TradeId, secret};
use units::Preimage;
use wire::domp::sealed::{self, Chat, OpenError, Private};
use wire::domp::{self, Context, Reject, Unsendable};
use wire::event::{Event, pubkey_of};
use wire::seal::{KIND_GIFT_WRAP, WrapError};

use crate::clock;
use crate::config::Transport;
use crate::keyring::Keyring;

/// Why a message is not sent or not read.
#[derive(Debug, thiserror::Error)]
pub enum PostError {
    /// The message is to be signed, or the wrap is addressed, by a key that is not ours.
    #[error("not one of our keys")]
    NotOurKey,
    /// The message cannot be written as an event.
    #[error("it cannot be written as a DOMP event: {0}")]
    Unsendable(#[from] Unsendable),
    /// The message cannot be sealed for its recipient.
    #[error("message cannot be sealed: {0}")]
    Wrap(#[from] WrapError),
    /// The system gives no random bytes.
    #[error("no random bytes: {0}")]
    Entropy(String),
    /// The event is no message that we understand.
    #[error("{code}: {0}", code = .0.code())]
    Rejected(#[from] Reject),
    /// The gift wrap does not open.
    #[error(transparent)]
    Closed(#[from] OpenError),
    /// The event is not a listing.
    #[error("no listing")]
    NoListing,
}

/// What an event for one of our keys turned out to hold.
pub(crate) enum Opened {
    /// A message of a trade.
    Step(Box<Envelope>),
    /// Talk, and its id.
    Chat(MessageId, Chat),
}

/// A message ready for the boards.
pub(crate) struct Parcel {
    /// The message's id, the same however often it is packed.
    pub(crate) id: MessageId,
    /// The events to publish: the message itself when it is public, and the sealed copies.
    pub(crate) events: Vec<Event>,
}

/// Can a listing be written as an event? Asked before it is recorded, so that nothing is owed that cannot be said.
pub(crate) fn check_listing(listing: &Listing) -> Result<(), PostError> {
    let (message, context) = (Message::Listing(listing.clone()), Context { at: clock::unix(), ..Context::default() });
    domp::unsigned(&message, &context, PartyKey([0; 32]), domp::Transport::Public)?;
    Ok(())
}

/// Signs a message and seals what is for one recipient only.
pub(crate) fn pack(
    outgoing: &Outgoing,
    trade: TradeId,
    keyring: &Keyring,
    escrow_key: &[u8; 32],
    transport: Transport,
) -> Result<Parcel, PostError> {
    let key = keyring.pair(&outgoing.author).ok_or(PostError::NotOurKey)?;
    let listing = outgoing.copies.is_empty();
    let context = Context {
        at: outgoing.at,
        prev: outgoing.prev,
        trade: (!listing).then_some(trade),
        to: outgoing.copies.iter().map(|copy| copy.to).collect(),
        ..Context::default()
    };
    let public = listing || (transport == Transport::Public && !outgoing.message.always_sealed());
    let how = if public { domp::Transport::Public } else { domp::Transport::Sealed };
    let event = domp::encode(&outgoing.message, &context, key, how)?;
    let mut events = Vec::new();
    for copy in &outgoing.copies {
        let reveal = |reveal: &Reveal| match reveal {
            Reveal::Derive(leg) => secret::derive(escrow_key, trade, *leg),
            Reveal::Known(preimage) => preimage.clone(),
        };
        let secrets: Vec<Preimage> = copy.secrets.iter().map(reveal).collect();
        let private = Private { secrets, ..Private::of(&outgoing.message) };
        if !public || !private.secrets.is_empty() || private.tracking.is_some() {
            events.push(sealed::copy(&event, &private, key, copy.to, clock::unix(), &entropy()?)?);
        }
    }
    let id = MessageId(event.id);
    if public {
        events.insert(0, event);
    }
    Ok(Parcel { id, events })
}

/// Opens and checks an event that a board brought for one of our keys.
pub(crate) fn open(event: &Event, keyring: &Keyring) -> Result<Opened, PostError> {
    if event.kind != KIND_GIFT_WRAP {
        return Ok(Opened::Step(Box::new(domp::decode(event)?.into_envelope())));
    }
    let ours = event.tag_values("p").filter_map(|key| key.parse::<PartyKey>().ok());
    let key = ours.into_iter().find_map(|key| keyring.pair(&key)).ok_or(PostError::NotOurKey)?;
    match sealed::open(event, key)? {
        sealed::Opened::Step(decoded) => Ok(Opened::Step(Box::new(decoded.into_envelope()))),
        sealed::Opened::Chat(chat) => Ok(Opened::Chat(chat_id(&chat, PartyKey(pubkey_of(key))), chat)),
    }
}

/// Seals a word of chat for its reader: its id, the same at both ends, and the gift wrap.
pub(crate) fn pack_chat(chat: &Chat, to: PartyKey, keyring: &Keyring) -> Result<(MessageId, Event), PostError> {
    let key = keyring.pair(&chat.author).ok_or(PostError::NotOurKey)?;
    let wrap = wire::seal::wrap(&chat.rumor(to), key, &to.0, clock::unix(), None, &entropy()?)?;
    Ok((chat_id(chat, to), wrap))
}

fn chat_id(chat: &Chat, to: PartyKey) -> MessageId {
    MessageId(chat.rumor(to).id())
}

/// Checks an event that is supposed to be a listing.
pub(crate) fn open_listing(event: &Event) -> Result<Envelope, PostError> {
    let envelope = domp::decode(event)?.into_envelope();
    match envelope.message {
        Message::Listing(_) => Ok(envelope),
        _ => Err(PostError::NoListing),
    }
}

pub(crate) fn entropy() -> Result<[u8; 32], PostError> {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes).map_err(|e| PostError::Entropy(e.to_string()))?;
    Ok(bytes)
}

//! Between trade messages and Nostr events: signing and sealing on the way out, opening and checking on the way in.

use reputation::Pledge;
use trade::{Envelope, Listing, Message, MessageId, Outgoing, PartyKey, Reveal, TradeId, secret};
use units::Preimage;
use wire::Malformed;
use wire::domp::sealed::{self, Chat, OpenError, Private};
use wire::domp::{self, Context, Reject, Unsendable};
use wire::event::{Event, Limits, pubkey_of};
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
    /// What the other side signed cannot be read back from the log.
    #[error("what the other side signed cannot be shown: {0}")]
    Unreadable(#[from] Malformed),
    /// The event is not a listing.
    #[error("no listing")]
    NoListing,
    /// We cannot pledge that.
    #[error("it cannot be pledged: {0}")]
    Pledge(reputation::Reject),
}

/// What an event for one of our keys turned out to hold.
pub(crate) enum Opened {
    /// A message of a trade, and the pledges that came with it.
    Step(Box<Envelope>, Vec<Event>),
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

/// What a rating stands on.
pub(crate) struct Receipt {
    /// Ours, that of the other side, and the arbiter's when it is rated.
    pub(crate) pledges: Vec<Pledge>,
    /// The secret of the first tranche, when it was settled.
    pub(crate) settled: Option<Preimage>,
}

/// What goes out beside a message.
#[derive(Default)]
pub(crate) struct Beside {
    /// Pledges, in every sealed copy.
    pub(crate) pledges: Vec<Pledge>,
    /// What makes a rating one for everybody to read.
    pub(crate) receipt: Option<Receipt>,
}

/// Can a listing be written as an event? Asked before it is recorded, so that nothing is owed that cannot be said.
pub(crate) fn check_listing(listing: &Listing) -> Result<(), PostError> {
    let (message, context) = (Message::Listing(listing.clone()), Context { at: clock::unix(), ..Context::default() });
    let how = if message.always_sealed() { domp::Transport::Sealed } else { domp::Transport::Public };
    domp::unsigned(&message, &context, PartyKey([0; 32]), how)?;
    Ok(())
}

/// Signs a message and seals what is for one recipient only.
pub(crate) fn pack(
    outgoing: &Outgoing,
    trade: TradeId,
    keyring: &Keyring,
    escrow_key: &[u8; 32],
    transport: Transport,
    beside: &Beside,
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
    let plain = transport == Transport::Public && !outgoing.message.always_sealed();
    let public = listing || plain || beside.receipt.is_some();
    let how = if public { domp::Transport::Public } else { domp::Transport::Sealed };
    let mut unsigned = domp::unsigned(&outgoing.message, &context, outgoing.author, how)?;
    if let Some(Receipt { pledges, settled }) = &beside.receipt {
        reputation::attach(&mut unsigned, &pledges.iter().collect::<Vec<_>>(), settled.as_ref());
        if let Message::BoardRating(rating) = &outgoing.message {
            unsigned.tags.push(vec!["r".to_owned(), reputation::board_name(&rating.url).to_owned()]);
        }
    }
    let event = unsigned.sign(key, &[0; 32]);
    let pledges: Vec<_> = beside.pledges.iter().map(|pledge| pledge.event().clone()).collect();
    let mut events = Vec::new();
    for copy in &outgoing.copies {
        let reveal = |reveal: &Reveal| match reveal {
            Reveal::Derive(leg) => secret::derive(escrow_key, trade, *leg),
            Reveal::Known(preimage) => preimage.clone(),
        };
        let secrets: Vec<Preimage> = copy.secrets.iter().map(reveal).collect();
        if let Some(shown) = &copy.shown {
            let shown = Event::parse(shown.as_bytes(), &Limits::STRICT)?;
            events.push(sealed::copy(&shown, &Private::default(), key, copy.to, clock::unix(), &entropy()?)?);
        }
        let (pledges, fee_invoice) = (pledges.clone(), copy.fee_invoice.clone());
        let private = Private { secrets, pledges, fee_invoice, ..Private::of(&outgoing.message) };
        if !public || !private.is_empty() {
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
        return Ok(Opened::Step(Box::new(domp::decode(event)?.into_envelope()), Vec::new()));
    }
    let ours = event.tag_values("p").filter_map(|key| key.parse::<PartyKey>().ok());
    let key = ours.into_iter().find_map(|key| keyring.pair(&key)).ok_or(PostError::NotOurKey)?;
    match sealed::open(event, key)? {
        sealed::Opened::Step(mut decoded) => {
            let pledges = std::mem::take(&mut decoded.pledges);
            Ok(Opened::Step(Box::new(decoded.into_envelope()), pledges))
        }
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

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use trade::{PaymentConfirmation, SealedCopy, Shipment, Step};
    use units::{PaymentHash, Unix};

    use super::*;
    use crate::store::Store;

    const AT: Unix = Unix(1_800_000_000);

    fn keyring(dir: &std::path::Path, mark: u8) -> Keyring {
        let seed = Arc::new(keys::Seed::generate(&[mark; 32]));
        let store = Store::open(&dir.join(mark.to_string()), &[mark; 32]).unwrap();
        Keyring::open(seed, Arc::new(store)).unwrap()
    }

    fn said(step: Step, keyring: &Keyring, message: Message, prev: MessageId, copies: Vec<SealedCopy>) -> Outgoing {
        Outgoing { step, author: keyring.identity(), prev: Some(prev), at: AT, message, copies }
    }

    fn step(events: &[Event], keyring: &Keyring) -> Vec<Envelope> {
        let opened = events.iter().filter_map(|event| open(event, keyring).ok());
        opened
            .filter_map(|opened| if let Opened::Step(envelope, _) = opened { Some(*envelope) } else { None })
            .collect()
    }

    #[test]
    fn the_arbiter_is_shown_the_confirmation_that_a_shipment_answers_in_either_transport() {
        let dir = tempfile::tempdir().unwrap();
        let [payer, payee, arbiter] = [1, 2, 3].map(|mark| keyring(dir.path(), mark));
        let copy =
            |to: &Keyring, shown| SealedCopy { to: to.identity(), secrets: Vec::new(), shown, fee_invoice: None };
        let confirmation = Message::PaymentConfirmation(PaymentConfirmation {
            acceptance: MessageId([5; 32]),
            payment_proof: PaymentHash([6; 32]),
            collateral_proof: None,
            lock_blocks: 144,
            paid_at: AT,
            paid_height: None,
        });
        for transport in [Transport::Sealed, Transport::Public] {
            let copies = vec![copy(&payee, None)];
            let told = said(Step::PaymentConfirmation(0), &payer, confirmation.clone(), MessageId([5; 32]), copies);
            let told = pack(&told, TradeId([7; 32]), &payer, &[0; 32], transport, &Beside::default()).unwrap();
            let heard = step(&told.events, &payee).remove(0);
            assert_eq!((heard.id, heard.via), (told.id, None));

            let shipment = Message::Shipment(Shipment { payment: told.id, note: "sent".to_owned(), tracking: None });
            let copies = vec![copy(&payer, None), copy(&arbiter, heard.signed)];
            let shipment = said(Step::Shipment(0), &payee, shipment, told.id, copies);
            let events =
                pack(&shipment, TradeId([7; 32]), &payee, &[0; 32], transport, &Beside::default()).unwrap().events;
            let shown: Vec<Envelope> =
                step(&events, &arbiter).into_iter().filter(|envelope| envelope.id == told.id).collect();
            assert_eq!(shown.len(), 1, "{transport:?}");
            assert_eq!((shown[0].author, shown[0].via), (payer.identity(), Some(payee.identity())));
            assert_eq!(shown[0].message, confirmation);
        }
    }
}

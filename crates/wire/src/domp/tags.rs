//! Tags of DOMP events: what a step answers, whom it concerns, and its proof against spam.

use trade::{Message, MessageId, PartyKey, TradeId};
use units::{PaymentHash, Unix, hex32};

use super::{Context, Proof, Reject, kind};
use crate::event::{Tag, parse_seconds};
use crate::json::{INTEGER_MAX, parse_hex};

/// Most `p` tags of a message.
const TO_MAX: usize = 16;
/// Most proofs of a message.
const PROOFS_MAX: usize = 4;

/// What an event offers against spam (`anti_spam_proof` tag).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AntiSpam {
    /// Leading zero bits of the id, as NIP-13 counts them.
    Pow {
        /// Bits committed to.
        target: u32,
    },
    /// A Lightning payment. A bare hash is only a claim.
    Ln {
        /// Hash of the payment.
        hash: PaymentHash,
        /// Amount in millisatoshis, where it is stated.
        amount_msat: Option<u64>,
    },
    /// An earlier event; all zeroes when there is none.
    Ref {
        /// The event.
        id: MessageId,
    },
}

/// What the tags of a message say.
#[derive(Debug, Default)]
pub(super) struct Said {
    pub(super) prev: Option<MessageId>,
    pub(super) root: Option<MessageId>,
    pub(super) trade: Option<TradeId>,
    pub(super) to: Vec<PartyKey>,
    pub(super) proofs: Vec<AntiSpam>,
    pub(super) expiration: Option<Unix>,
}

fn tag<const N: usize>(elements: [&str; N]) -> Tag {
    elements.map(str::to_owned).to_vec()
}

/// Kind of the step that the message answers, as far as its own kind tells.
fn answered_kind(message: &Message) -> u16 {
    match message {
        Message::Listing(_) | Message::Bid(_) | Message::AppointmentRequest(_) | Message::Delisting(_) => kind::LISTING,
        Message::Counter(_) | Message::Acceptance(_) => kind::BID,
        Message::PayeeBondInvoice(_) | Message::PaymentConfirmation(_) => kind::ACCEPTANCE,
        Message::Appointment(_) => kind::ARBITRATION,
        Message::Ruling(_) => kind::DISPUTE,
        Message::Rating(m) => m.ended_by_kind,
        Message::ArbiterRating(m) => m.about_kind,
        Message::Dispute(_)
        | Message::Receipt(_)
        | Message::Refund(_)
        | Message::MutualCancel(_)
        | Message::Shipment(_)
        | Message::Handover(_)
        | Message::BoardRating(_) => kind::PAYMENT,
    }
}

/// The tags of a message, in a fixed order.
pub(super) fn write(message: &Message, context: &Context) -> Vec<Tag> {
    let mut tags = Vec::new();
    if let Message::Delisting(delisting) = message {
        tags.extend(delisting.listings.iter().map(|id| tag(["e", &hex32(&id.0)])));
        tags.push(tag(["k", &kind::LISTING.to_string()]));
        return tags;
    }
    let prev = match message {
        Message::Listing(listing) => {
            tags.push(tag(["d", &listing.d]));
            None
        }
        _ => message.prev().or(context.prev),
    };
    if let Some(prev) = prev {
        let marker = if matches!(message, Message::Bid(_) | Message::AppointmentRequest(_)) { "root" } else { "reply" };
        let id = hex32(&prev.0);
        tags.push(tag(["ref", &id, &context.relay, marker]));
        tags.push(tag(["e", &id, &context.relay, marker]));
    }
    if let Some(root) = context.root.filter(|root| prev.is_some() && Some(*root) != prev) {
        tags.push(tag(["e", &hex32(&root.0), &context.relay, "root"]));
    }
    tags.extend(context.to.iter().map(|key| tag(["p", &hex32(&key.0)])));
    tags.extend(context.trade.map(|trade| tag(["trade", &hex32(&trade.0)])));
    tags.extend(context.expiration.map(|at| tag(["expiration", &at.0.to_string()])));
    if context.proof == Proof::Previous {
        let id = hex32(&prev.map_or([0; 32], |prev| prev.0));
        tags.push(tag(["anti_spam_proof", "ref", &id, &answered_kind(message).to_string()]));
    }
    tags
}

/// Reads the tags of a message. Tags that DOMP and we do not have are passed over.
pub(super) fn read(tags: &[Tag]) -> Result<Said, Reject> {
    let mut said = Said::default();
    let (mut marked_root, mut refs) = (None, 0);
    for tag in tags {
        let value = tag.get(1).map(String::as_str);
        match tag[0].as_str() {
            "ref" => {
                let id = MessageId(bytes(value, "ref")?);
                match tag.get(3).map_or("reply", String::as_str) {
                    "mention" => continue,
                    "root" => marked_root = Some(id),
                    "reply" => {}
                    _ => return Err(Reject::TagMalformed("ref")),
                }
                refs += 1;
                said.prev = Some(id);
            }
            "e" if tag.get(3).is_some_and(|marker| marker == "root") => {
                said.root = Some(MessageId(bytes(value, "e")?));
            }
            "p" => {
                if said.to.len() == TO_MAX {
                    return Err(Reject::TagMalformed("p"));
                }
                said.to.push(PartyKey(bytes(value, "p")?));
            }
            "trade" => said.trade = Some(TradeId(bytes(value, "trade")?)),
            "expiration" => {
                let at = value.and_then(parse_seconds).ok_or(Reject::TagMalformed("expiration"))?;
                said.expiration = Some(at);
            }
            "anti_spam_proof" => {
                if said.proofs.len() == PROOFS_MAX {
                    return Err(Reject::TagMalformed("anti_spam_proof"));
                }
                said.proofs.push(proof(tag).ok_or(Reject::TagMalformed("anti_spam_proof"))?);
            }
            _ => {}
        }
    }
    if refs > 1 {
        return Err(Reject::TagMalformed("ref"));
    }
    said.root = said.root.or(marked_root);
    Ok(said)
}

fn bytes(value: Option<&str>, name: &'static str) -> Result<[u8; 32], Reject> {
    value.and_then(|text| parse_hex(text, name).ok()).ok_or(Reject::TagMalformed(name))
}

/// `["anti_spam_proof", "pow", nonce, bits]`, `[…, "ln", hash(, amount in msat)]` or `[…, "ref", id(, kind)]`.
fn proof(tag: &Tag) -> Option<AntiSpam> {
    let value = tag.get(2)?;
    let number = |text: &String| {
        let plain = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        text.parse::<u64>().ok().filter(|n| plain && *n <= INTEGER_MAX)
    };
    match (tag[1].as_str(), tag.get(3)) {
        ("pow", Some(bits)) => {
            let target = u32::try_from(number(bits)?).ok().filter(|bits| *bits <= 256)?;
            (value.len() <= 64).then_some(AntiSpam::Pow { target })
        }
        ("ln", amount) => {
            let hash = PaymentHash(parse_hex(value, "ln").ok()?);
            let amount_msat = match amount {
                Some(amount) => Some(number(amount)?),
                None => None,
            };
            Some(AntiSpam::Ln { hash, amount_msat })
        }
        ("ref", kind) => {
            let id = MessageId(parse_hex(value, "ref").ok()?);
            if kind.is_some_and(|kind| number(kind).is_none()) {
                return None;
            }
            Some(AntiSpam::Ref { id })
        }
        _ => None,
    }
}

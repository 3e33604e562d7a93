//! Ratings as labels (NIP-32, kind 1985): what one takes along to another place, or shows to programs that do not know DOMP.
//!
//! A label says the rating in words that any reader of labels has, `["l", "user/4", "souk.rating"]` and `["rating", "0.75"]`
//! with a `p` tag (of a board: `r`), and carries the event of the rating in `["receipt", json]`. Whoever takes it in believes
//! the receipt, not the label: it does not matter who made that.

use units::{Unix, hex32};
use wire::domp::kind;
use wire::event::{Event, Limits, Tag, UnknownKeys, Unsigned};

use crate::rating::{Rating, Reject, Subject};

/// Kind of labels.
pub const KIND_LABEL: u16 = 1985;
/// The namespace of our labels.
pub const NAMESPACE: &str = "souk.rating";
/// Name of the tag that holds the event of the rating.
const RECEIPT_TAG: &str = "receipt";
/// A rating with three pledges and a long comment in every escape is shorter.
const RECEIPT: Limits = Limits { bytes: 32 * 1024, tags: 64, tag_elements: 8, unknown_keys: UnknownKeys::Refuse };

/// A label of a rating, to be signed by whoever hands it on.
pub fn label(rating: &Rating, event: &Event, by: [u8; 32], at: Unix) -> Unsigned {
    let tag = |parts: &[&str]| -> Tag { parts.iter().map(|part| (*part).to_owned()).collect() };
    let (what, target) = match &rating.subject {
        Subject::User(key) => ("user", tag(&["p", &hex32(&key.0)])),
        Subject::Arbiter(key) => ("arbiter", tag(&["p", &hex32(&key.0)])),
        Subject::Board(url) => ("board", tag(&["r", url])),
    };
    // Of reviews in labels 0 is the worst and 1 the best.
    let part = ["0", "0.25", "0.5", "0.75", "1"][usize::from(rating.rating.clamp(1, 5)) - 1];
    let tags = vec![
        tag(&["L", NAMESPACE]),
        tag(&["l", &format!("{what}/{}", rating.rating), NAMESPACE]),
        target,
        tag(&["rating", part]),
        tag(&[RECEIPT_TAG, &event.to_json()]),
    ];
    let content = rating.comment.clone().unwrap_or_default();
    Unsigned { pubkey: by, created_at: at, kind: KIND_LABEL, tags, content }
}

/// The rating in a line of text: the event of a label of ours, or of the rating itself. What is in it still has to be read.
pub fn from_label(json: &str) -> Result<Event, Reject> {
    let no_rating = |_| Reject::NoRating;
    let limits = Limits { bytes: 2 * RECEIPT.bytes, ..RECEIPT };
    let event = Event::parse(json.as_bytes(), &limits).map_err(no_rating)?;
    match event.kind {
        kind::RATING | kind::ARBITER_RATING | kind::BOARD_RATING => Ok(event),
        KIND_LABEL => {
            event.verify()?;
            let receipt = event.tag(RECEIPT_TAG).ok_or(Reject::NoRating)?;
            Event::parse(receipt.as_bytes(), &RECEIPT).map_err(no_rating)
        }
        _ => Err(Reject::NoRating),
    }
}

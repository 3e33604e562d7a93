//! What a connection agrees on about compression when it is opened, permessage-deflate (RFC 7692) and nothing else, and how the
//! board's frames are written then.

use std::cell::OnceCell;
use std::fmt;

use hyper::header::{HeaderMap, SEC_WEBSOCKET_EXTENSIONS};

use crate::deflate::{Deflater, Effort, WINDOW_BITS, WORTH, stored};
use crate::websocket::{put_deflated, put_text};

/// The extension's name (RFC 7692, section 7).
const NAME: &str = "permessage-deflate";

/// Both sides may compress messages.
///
/// The client compresses each for itself, so that nothing is kept about it; the board refers from one message to those before it
/// only within an answer that it writes at one go, and keeps nothing either.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Agreement {
    /// The client wants each message for itself too.
    alone: bool,
    /// It said how far messages may refer, which is answered (RFC 7692, section 7.1.2.1): as far as DEFLATE can.
    far: bool,
}

/// What stands in one offer.
#[derive(Default)]
struct Offer {
    server_alone: bool,
    client_alone: bool,
    server_bits: Option<u8>,
    client_bits: Option<Option<u8>>,
}

impl Offer {
    /// Reads one parameter; `None` if it is unknown, comes again, or has a value that it cannot have (RFC 7692, section 7.1).
    fn read(&mut self, name: &str, value: Option<&str>) -> Option<()> {
        let again = match (name, value) {
            ("server_no_context_takeover", None) => std::mem::replace(&mut self.server_alone, true),
            ("client_no_context_takeover", None) => std::mem::replace(&mut self.client_alone, true),
            ("server_max_window_bits", Some(value)) => self.server_bits.replace(bits(value)?).is_some(),
            ("client_max_window_bits", None) => self.client_bits.replace(None).is_some(),
            ("client_max_window_bits", Some(value)) => self.client_bits.replace(Some(bits(value)?)).is_some(),
            _ => true,
        };
        (!again).then_some(())
    }
}

/// 8 to 15, without a zero in front.
fn bits(value: &str) -> Option<u8> {
    let value = value.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')).unwrap_or(value);
    let plain = !value.starts_with('0') && value.bytes().all(|byte| byte.is_ascii_digit());
    value.parse().ok().filter(|bits| plain && (8..=15).contains(bits))
}

/// What one offer of the header comes to, if it is one that can be taken.
fn agreement(offer: &str) -> Option<Agreement> {
    let mut parts = offer.split(';').map(str::trim);
    if parts.next() != Some(NAME) {
        return None;
    }
    let mut read = Offer::default();
    for part in parts {
        match part.split_once('=') {
            Some((name, value)) => read.read(name.trim(), Some(value.trim()))?,
            None => read.read(part, None)?,
        }
    }
    let can = read.server_bits.is_none_or(|bits| bits == WINDOW_BITS);
    can.then_some(Agreement { alone: read.server_alone, far: read.server_bits.is_some() })
}

/// The first offer in a request that can be taken (RFC 7692, section 5).
pub(crate) fn agree(headers: &HeaderMap) -> Option<Agreement> {
    let lines = headers.get_all(SEC_WEBSOCKET_EXTENSIONS).into_iter().filter_map(|value| value.to_str().ok());
    // A comma within quotes stands in no value that an extension may have.
    let whole = |line: &&str| line.split([',', ';']).all(|part| part.matches('"').count().is_multiple_of(2));
    lines.filter(whole).flat_map(|line| line.split(',')).find_map(|offer| agreement(offer.trim()))
}

/// As it stands in the answer's header.
impl fmt::Display for Agreement {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{NAME}; client_no_context_takeover")?;
        if self.alone {
            out.write_str("; server_no_context_takeover")?;
        }
        if self.far { write!(out, "; server_max_window_bits={WINDOW_BITS}") } else { Ok(()) }
    }
}

/// A text is long enough to become shorter.
pub(crate) fn is_worth(parts: &[&str]) -> bool {
    parts.iter().map(|part| part.len()).sum::<usize>() >= WORTH
}

impl Agreement {
    /// What texts one after another are worth.
    pub(crate) fn effort(self) -> Effort {
        if self.alone { Effort::Full } else { Effort::Light }
    }

    /// Appends the frame of a text, the `parts` one after another. It may refer to the texts that were written with `deflater`
    /// before, which the client has to get right before this one.
    pub(crate) fn put_text(self, deflater: &mut Deflater, out: &mut Vec<u8>, parts: [&str; 3]) {
        let worth = is_worth(&parts);
        if worth && self.alone {
            deflater.forget();
        }
        match worth.then(|| deflater.make(&parts)).flatten() {
            Some(made) => put_deflated(out, &[made]),
            None => put_text(out, parts),
        }
    }

    /// Appends the frame that shows an event, behind `head`.
    pub(crate) fn put_event(self, out: &mut Vec<u8>, head: &str, event: &Shown<'_>) {
        let stored = u16::try_from(head.len()).ok().map(stored);
        match (stored, event.body()) {
            (Some(stored), Some(body)) => put_deflated(out, &[&stored, head.as_bytes(), body]),
            _ => put_text(out, [head, event.json, "]"]),
        }
    }
}

/// An event that is shown to many. It is compressed once, when the first asks for it, from where the names of subscriptions end:
/// these stand before it as they are.
pub(crate) struct Shown<'a> {
    pub(crate) json: &'a str,
    body: OnceCell<Option<Vec<u8>>>,
}

impl Shown<'_> {
    /// Nothing is done yet.
    pub(crate) fn new(json: &str) -> Shown<'_> {
        Shown { json, body: OnceCell::new() }
    }

    /// Does it now.
    pub(crate) fn compress(&self) {
        let _for_those_who_ask = self.body();
    }

    /// The event and the end of the message; `None` if that is no shorter.
    fn body(&self) -> Option<&[u8]> {
        let make = || {
            let make = |deflater: &mut Deflater| deflater.make(&[self.json, "]"]).map(<[u8]>::to_vec);
            // What stands before the name takes room too.
            Deflater::lent(Effort::Full, make).filter(|body| body.len() + stored(0).len() <= self.json.len())
        };
        self.body.get_or_init(make).as_deref()
    }
}

#[cfg(test)]
mod tests {
    use hyper::header::HeaderValue;

    use super::*;

    fn answer(lines: &[&str]) -> Option<String> {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(SEC_WEBSOCKET_EXTENSIONS, HeaderValue::from_str(line).unwrap());
        }
        agree(&headers).map(|agreement| agreement.to_string())
    }

    const PLAIN: &str = "permessage-deflate; client_no_context_takeover";
    const ALONE: &str = "permessage-deflate; client_no_context_takeover; server_no_context_takeover";

    const FAR: &str = "permessage-deflate; client_no_context_takeover; server_max_window_bits=15";

    #[test]
    fn offers_that_can_be_taken_are_taken() {
        let table: [(&[&str], &str); 13] = [
            (&["permessage-deflate"], PLAIN),
            (&["permessage-deflate; client_max_window_bits"], PLAIN),
            (&["permessage-deflate;client_max_window_bits=9"], PLAIN),
            (&["permessage-deflate; client_max_window_bits = \"12\""], PLAIN),
            (&["permessage-deflate; client_no_context_takeover"], PLAIN),
            (&["permessage-deflate; server_max_window_bits=15"], FAR),
            (&["permessage-deflate; server_no_context_takeover"], ALONE),
            (&["permessage-deflate; client_max_window_bits; server_no_context_takeover"], ALONE),
            (&["permessage-deflate; server_max_window_bits=\"15\"; client_max_window_bits=10"], FAR),
            (&["x-webkit-deflate-frame, permessage-deflate"], PLAIN),
            (&["x-webkit-deflate-frame", "permessage-deflate"], PLAIN),
            (&["permessage-deflate; server_max_window_bits=10, permessage-deflate"], PLAIN),
            (&["permessage-deflate; unknown=1, permessage-deflate; server_no_context_takeover"], ALONE),
        ];
        for (lines, expected) in table {
            assert_eq!(answer(lines).as_deref(), Some(expected), "{lines:?}");
        }
    }

    #[test]
    fn all_others_are_not() {
        let offers = [
            "",
            ",",
            "permessage-bzip2",
            "permessage-deflate2",
            "Permessage-Deflate",
            "permessage-deflate; unknown",
            "permessage-deflate; unknown=10",
            "permessage-deflate;",
            "permessage-deflate; server_max_window_bits",
            "permessage-deflate; server_max_window_bits=",
            "permessage-deflate; server_max_window_bits=7",
            "permessage-deflate; server_max_window_bits=8",
            "permessage-deflate; server_max_window_bits=14",
            "permessage-deflate; server_max_window_bits=16",
            "permessage-deflate; server_max_window_bits=010",
            "permessage-deflate; server_max_window_bits=+9",
            "permessage-deflate; server_max_window_bits=256",
            "permessage-deflate; server_max_window_bits=\"10",
            "permessage-deflate; server_max_window_bits=10; server_max_window_bits=10",
            "permessage-deflate; client_max_window_bits=",
            "permessage-deflate; client_max_window_bits=7",
            "permessage-deflate; client_max_window_bits=x",
            "permessage-deflate; client_max_window_bits; client_max_window_bits=10",
            "permessage-deflate; server_no_context_takeover=1",
            "permessage-deflate; server_no_context_takeover; server_no_context_takeover",
            "permessage-deflate; client_no_context_takeover=",
            "permessage-deflate; client_no_context_takeover; client_no_context_takeover",
            "other; value=\"x, permessage-deflate, y\"",
            "other; value=\"x, permessage-deflate\"",
        ];
        for offer in offers {
            assert_eq!(answer(&[offer]), None, "{offer}");
        }
        assert_eq!(answer(&[]), None);
    }
}

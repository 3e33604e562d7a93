//! The canonical JSON of an event with all that is not text taken out: what a store keeps, at two thirds of the size.
//!
//! Canonical JSON has its keys in the order of NIP-01 and nothing between them:
//! `{"id":"…","pubkey":"…","created_at":…,"kind":…,"tags":[…],"content":"…","sig":"…"}`. The **text** of it is what stands between
//! `"tags":` and `,"sig":`.

use units::Unix;

use crate::json::{parse_hex, write_hex, write_uint};

/// What frames the signature: `,"sig":"`, 128 digits, `"}`.
const SIG: usize = 8 + 128 + 2;

/// The parts of an event that are no text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    /// SHA-256 of the canonical serialisation.
    pub id: [u8; 32],
    /// X-only public key of the author.
    pub pubkey: [u8; 32],
    /// When the author says that it wrote this.
    pub created_at: Unix,
    /// What it is.
    pub kind: u16,
}

impl Head {
    /// Bytes that [`Head::write`] appends.
    fn len(&self) -> usize {
        let digits = |value: u64| value.checked_ilog10().unwrap_or(0) as usize + 1;
        178 + digits(self.created_at.0) + digits(u64::from(self.kind))
    }

    fn write(&self, out: &mut String) {
        out.push_str("{\"id\":\"");
        write_hex(out, &self.id);
        out.push_str("\",\"pubkey\":\"");
        write_hex(out, &self.pubkey);
        out.push_str("\",\"created_at\":");
        write_uint(out, self.created_at.0);
        out.push_str(",\"kind\":");
        write_uint(out, u64::from(self.kind));
        out.push_str(",\"tags\":");
    }
}

/// Text and signature of an event whose canonical JSON starts with `head`; `None` when `json` is not canonical or not of `head`.
pub fn take_apart<'a>(head: &Head, json: &'a str) -> Option<(&'a str, [u8; 64])> {
    let mut start = String::with_capacity(head.len());
    head.write(&mut start);
    let rest = json.strip_prefix(start.as_str())?;
    let at = rest.len().checked_sub(SIG).filter(|at| rest.is_char_boundary(*at))?;
    let (text, sig) = rest.split_at(at);
    let sig = sig.strip_prefix(",\"sig\":\"")?.strip_suffix("\"}")?;
    Some((text, parse_hex(sig, "sig").ok()?))
}

/// The canonical JSON again, in the place of what was in `json`. A string without room gets just what is needed.
pub fn put_together(head: &Head, text: &str, sig: &[u8; 64], json: &mut String) {
    json.clear();
    json.reserve(head.len() + text.len() + SIG);
    head.write(json);
    json.push_str(text);
    json.push_str(",\"sig\":\"");
    write_hex(json, sig);
    json.push_str("\"}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_put_together_comes_apart_and_fills_its_string() {
        for (created_at, kind) in [(0, 0), (9, 10), (1_700_000_000, 30_402), (u64::MAX, u16::MAX)] {
            let head = Head { id: [0xab; 32], pubkey: [1; 32], created_at: Unix(created_at), kind };
            let text = "[[\"t\",\"\u{e4}\"]],\"content\":\"x\"";
            let mut json = String::new();
            put_together(&head, text, &[7; 64], &mut json);
            assert_eq!(json.capacity(), json.len(), "{json}");
            assert_eq!(take_apart(&head, &json), Some((text, [7; 64])));
        }
    }
}

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
    let mut start = String::with_capacity(224);
    head.write(&mut start);
    let rest = json.strip_prefix(start.as_str())?;
    let at = rest.len().checked_sub(SIG).filter(|at| rest.is_char_boundary(*at))?;
    let (text, sig) = rest.split_at(at);
    let sig = sig.strip_prefix(",\"sig\":\"")?.strip_suffix("\"}")?;
    Some((text, parse_hex(sig, "sig").ok()?))
}

/// The canonical JSON again.
pub fn put_together(head: &Head, text: &str, sig: &[u8; 64]) -> String {
    let mut json = String::with_capacity(224 + text.len() + SIG);
    head.write(&mut json);
    json.push_str(text);
    json.push_str(",\"sig\":\"");
    write_hex(&mut json, sig);
    json.push_str("\"}");
    json
}

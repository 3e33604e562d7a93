//! Authentication of an HTTP request by a signed event in its `Authorization` header (NIP-98).

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bitcoin::hashes::{Hash, sha256};
use units::Unix;
use wire::{Event, Limits};

/// Kind of the event.
pub const KIND_HTTP_AUTH: u16 = 27_235;
/// How far the event's time may be from ours, in seconds.
pub const WINDOW_SECS: u64 = 60;
/// Longest header that is read, in bytes.
const HEADER_MAX: usize = 8 * 1024;

/// Why a request is not authenticated.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unauthenticated {
    /// No `Authorization: Nostr …`.
    #[error("the request needs an Authorization header of the scheme Nostr (NIP-98)")]
    Missing,
    /// What follows the scheme is no event in base64.
    #[error("the Authorization header holds no event in base64: {0}")]
    Malformed(String),
    /// Not an event of kind 27235.
    #[error("the event is not of kind 27235")]
    WrongKind,
    /// Too old or from the future.
    #[error("the event's time is more than 60 seconds from the board's")]
    WrongTime,
    /// For another address.
    #[error("the event's u tag names {0:?}, which is not where this request went")]
    WrongUrl(String),
    /// For another method.
    #[error("the event's method tag is not the method of this request")]
    WrongMethod,
    /// For another body.
    #[error("the event's payload tag is not the SHA-256 of this body in hex")]
    WrongPayload,
    /// Not what its author signed.
    #[error("{0}")]
    Forged(String),
}

/// The key that signed for this request: `method`, to one of `urls`, with `body`. The payload tag is required (NIP-86 asks for
/// it). The signature is checked last.
pub fn check(
    header: Option<&str>,
    method: &str,
    urls: &[String],
    body: &[u8],
    now: Unix,
) -> Result<[u8; 32], Unauthenticated> {
    let malformed = |why: &dyn ToString| Unauthenticated::Malformed(why.to_string());
    let (scheme, text) = header.and_then(|header| header.split_once(' ')).ok_or(Unauthenticated::Missing)?;
    if !scheme.eq_ignore_ascii_case("nostr") || text.len() > HEADER_MAX {
        return Err(Unauthenticated::Missing);
    }
    let json = STANDARD.decode(text.trim()).map_err(|why| malformed(&why))?;
    let event = Event::parse(&json, &Limits::STRICT).map_err(|why| malformed(&why))?;
    if event.kind != KIND_HTTP_AUTH {
        return Err(Unauthenticated::WrongKind);
    }
    if event.created_at.0.abs_diff(now.0) > WINDOW_SECS {
        return Err(Unauthenticated::WrongTime);
    }
    let url = event.tag("u").unwrap_or_default();
    if !urls.iter().any(|known| without_slash(known) == without_slash(url)) {
        return Err(Unauthenticated::WrongUrl(url.to_owned()));
    }
    if event.tag("method") != Some(method) {
        return Err(Unauthenticated::WrongMethod);
    }
    if event.tag("payload") != Some(sha256::Hash::hash(body).to_string().as_str()) {
        return Err(Unauthenticated::WrongPayload);
    }
    event.verify().map_err(|why| Unauthenticated::Forged(why.to_string()))?;
    Ok(event.pubkey)
}

/// `http://host` and `http://host/` are the same request.
fn without_slash(url: &str) -> &str {
    url.strip_suffix('/').unwrap_or(url)
}

//! Authentication of a client to a relay (NIP-42).

use units::Unix;

use crate::event::{Event, Forged, Unsigned, first_value};

/// Kind of the event that answers a challenge.
pub const KIND_AUTH: u16 = 22_242;

/// How far the event's time may be from the relay's, in seconds (NIP-42 suggests ten minutes).
pub const AUTH_WINDOW_SECS: u64 = 600;

/// Why an answer to a challenge does not authenticate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AuthRefused {
    /// Not an event of kind 22242.
    #[error("not an authentication event")]
    WrongKind,
    /// Too old or from the future.
    #[error("created too far from now")]
    WrongTime,
    /// The answer to another challenge.
    #[error("another challenge")]
    WrongChallenge,
    /// Meant for another relay, which may be passing it on.
    #[error("another relay")]
    WrongRelay,
    /// Not what its author signed.
    #[error(transparent)]
    Forged(#[from] Forged),
}

/// The event that answers `challenge` of the relay at `relay_url`, to be signed.
pub fn answer(pubkey: [u8; 32], relay_url: &str, challenge: &str, now: Unix) -> Unsigned {
    let tags = vec![vec!["relay".into(), relay_url.into()], vec!["challenge".into(), challenge.into()]];
    Unsigned { pubkey, created_at: now, kind: KIND_AUTH, tags, content: String::new() }
}

/// The key that `event` authenticates to a relay known under `relay_urls` that sent `challenge`. The signature is checked last.
pub fn check(event: &Event, relay_urls: &[&str], challenge: &str, now: Unix) -> Result<[u8; 32], AuthRefused> {
    if event.kind != KIND_AUTH {
        return Err(AuthRefused::WrongKind);
    }
    if event.created_at.0.abs_diff(now.0) > AUTH_WINDOW_SECS {
        return Err(AuthRefused::WrongTime);
    }
    if first_value(&event.tags, "challenge") != Some(challenge) {
        return Err(AuthRefused::WrongChallenge);
    }
    let named = first_value(&event.tags, "relay").map(normal).ok_or(AuthRefused::WrongRelay)?;
    if !relay_urls.iter().any(|url| normal(url) == named) {
        return Err(AuthRefused::WrongRelay);
    }
    event.verify()?;
    Ok(event.pubkey)
}

/// Whether two addresses are spellings of one relay's.
pub fn same_relay(one: &str, other: &str) -> bool {
    normal(one) == normal(other)
}

/// A relay's address in one spelling: scheme and host in lowercase, no default port, no slash at the end.
fn normal(url: &str) -> String {
    let url = url.trim();
    let (scheme, rest) = url.split_once("://").unwrap_or(("", url));
    let scheme = scheme.to_ascii_lowercase();
    let (host, path) = rest.find('/').map_or((rest, ""), |at| rest.split_at(at));
    let host = host.to_ascii_lowercase();
    let default_port = match scheme.as_str() {
        "wss" => ":443",
        "ws" => ":80",
        _ => "",
    };
    let host = host.strip_suffix(default_port).unwrap_or(&host);
    format!("{scheme}://{host}{}", path.trim_end_matches('/'))
}

//! Credentials that come ahead of their events, for clients that know only NIP-01: an event of kind 23252 names one of each.
//!
//! It is neither kept nor shown to anybody. Only a credential that is good for the event is held, so that nobody fills the board
//! with others, or has somebody else's event refused.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use credential::{Nullifier, Stamp};
use units::Unix;
use wire::RawEvent;

use crate::admission::{Refusal, Rule};

/// How long a credential waits for its event.
pub(crate) const HELD_SECS: u64 = 60;
/// Most credentials that wait...
const HELD_MAX: usize = 4096;
/// ...and most of one connection.
const HELD_PER_CLIENT: usize = 64;

struct Held {
    stamp: Stamp,
    nullifier: Nullifier,
    client: u64,
    until: Unix,
}

/// The credentials that wait, by the id of the event.
#[derive(Default)]
pub(crate) struct Ahead {
    held: Mutex<HashMap<[u8; 32], Held>>,
    /// How many there are: where nobody sends them ahead, nobody looks.
    count: AtomicUsize,
}

/// The event that is to come and the credential for it: `["e", id]` and `["credential", "bc1..."]`, one of each.
pub(crate) fn read(event: &RawEvent<'_>) -> Result<([u8; 32], String), Refusal> {
    let refuse = |cause: &str| Refusal { rule: Rule::Credential, cause: format!("kind 23252 {cause}") };
    let one = |wanted: &str| {
        let mut values = event.tags().filter_map(|mut tag| {
            let named = tag.next().is_some_and(|name| name.decode() == wanted);
            named.then(|| tag.next().map(|value| value.decode().into_owned())).flatten()
        });
        values.next().filter(|_| values.next().is_none())
    };
    let id = one("e").ok_or_else(|| refuse("names one event, in an e tag"))?;
    let credential = one("credential").ok_or_else(|| refuse("has one credential, in a credential tag"))?;
    let id = wire::parse_hex(&id, "e").map_err(|why| refuse(&format!("names an event by its id: {why}")))?;
    Ok((id, credential))
}

impl Ahead {
    /// Holds a credential that is good for `event`. It waits for one event at a time.
    pub(crate) fn hold(&self, event: [u8; 32], stamp: Stamp, client: u64, now: Unix) -> Result<(), Refusal> {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        let nullifier = stamp.nullifier();
        held.retain(|_, other| other.until > now && other.nullifier != nullifier);
        let refuse = |cause: String| Err(Refusal { rule: Rule::RateLimit, cause });
        let done = if held.values().filter(|other| other.client == client).count() >= HELD_PER_CLIENT {
            refuse(format!("{HELD_PER_CLIENT} credentials of this connection wait for their events, send those first"))
        } else if held.len() >= HELD_MAX {
            refuse(format!("too many credentials wait for their events, try again in {HELD_SECS} seconds"))
        } else {
            held.insert(event, Held { stamp, nullifier, client, until: Unix(now.0.saturating_add(HELD_SECS)) });
            Ok(())
        };
        self.count.store(held.len(), Ordering::Relaxed);
        done
    }

    /// Whether any waits.
    pub(crate) fn any(&self) -> bool {
        self.count.load(Ordering::Relaxed) > 0
    }

    /// The credential that waits for `event`. It goes on to wait: the event may be refused for another reason and come again.
    pub(crate) fn of(&self, event: &[u8; 32], now: Unix) -> Option<Stamp> {
        let held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        held.get(event).filter(|held| held.until > now).map(|held| held.stamp)
    }
}

#[cfg(test)]
mod tests {
    use credential::KeysetId;

    use super::*;

    fn stamp(n: u64) -> Stamp {
        let mut secret = [0; 32];
        secret[..8].copy_from_slice(&n.to_be_bytes());
        Stamp { keyset: KeysetId([1; 8]), secret, mac: [2; 32] }
    }

    fn id(n: u64) -> [u8; 32] {
        stamp(n).secret
    }

    #[test]
    fn a_credential_waits_a_minute_for_one_event() {
        let ahead = Ahead::default();
        ahead.hold(id(1), stamp(1), 1, Unix(100)).unwrap();
        assert_eq!([100, 159, 160].map(|at| ahead.of(&id(1), Unix(at)).is_some()), [true, true, false]);
        assert_eq!(ahead.of(&id(2), Unix(100)), None);
        ahead.hold(id(2), stamp(1), 2, Unix(100)).unwrap();
        assert_eq!((ahead.of(&id(1), Unix(100)), ahead.of(&id(2), Unix(100))), (None, Some(stamp(1))));
    }

    #[test]
    fn only_so_many_wait() {
        let ahead = Ahead::default();
        let mut clients =
            (0..HELD_MAX as u64).map(|n| ahead.hold(id(n), stamp(n), n / HELD_PER_CLIENT as u64, Unix(100)));
        assert!(clients.all(|held| held.is_ok()));
        let refused = |client, at| ahead.hold(id(u64::MAX), stamp(u64::MAX), client, Unix(at)).map_err(|why| why.rule);
        assert_eq!(refused(1, 100), Err(Rule::RateLimit), "the connection has its share");
        assert_eq!(refused(u64::MAX, 100), Err(Rule::RateLimit), "and the board is full");
        assert_eq!(refused(1, 160), Ok(()));
        assert_eq!(ahead.held.lock().unwrap().len(), 1, "what waited too long has made room");
    }
}

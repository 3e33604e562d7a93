//! Recently read and written events by position: a fixed number of slots.
//!
//! An event that was just written takes the place of the one that is in its slot. One that was read does so when it is read a
//! second time and no other of its slot was in between: who pages through all that is old drives out nothing, and pays for the
//! room of nothing.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::Encoded;

/// Slots; a power of two.
const SLOTS: usize = 1 << 15;
/// Longer events are not worth a slot: so many of these are 64 MiB at most.
const JSON_MAX: usize = 2 * 1024;

#[derive(Default)]
struct Slot {
    /// An event and its position.
    held: Option<(u64, Arc<Encoded>)>,
    /// Position of the last one that was read and is not held.
    missed: u64,
}

/// The slot of a position.
fn number(at: u64) -> usize {
    // Fibonacci hashing: positions have no low bits to speak of.
    (at.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> (64 - SLOTS.ilog2())) as usize
}

/// The cache.
pub(crate) struct Cache {
    slots: Vec<Mutex<Slot>>,
}

impl Cache {
    pub(crate) fn new() -> Cache {
        Cache { slots: (0..SLOTS).map(|_| Mutex::default()).collect() }
    }

    fn slot(&self, at: u64) -> MutexGuard<'_, Slot> {
        self.slots[number(at)].lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn get(&self, at: u64) -> Option<Arc<Encoded>> {
        let slot = self.slot(at);
        slot.held.as_ref().filter(|(held, _)| *held == at).map(|(_, event)| event.clone())
    }

    /// Keeps an event that was just written.
    pub(crate) fn put(&self, at: u64, event: &Arc<Encoded>) {
        if event.json.len() <= JSON_MAX {
            self.slot(at).held = Some((at, event.clone()));
        }
    }

    /// Keeps an event that was read, if there is room or it is read often.
    pub(crate) fn offer(&self, at: u64, event: &Encoded) {
        if event.json.len() > JSON_MAX {
            return;
        }
        let mut slot = self.slot(at);
        if slot.held.is_none() || slot.missed == at {
            slot.held = Some((at, Arc::new(event.clone())));
        }
        slot.missed = at;
    }
}

#[cfg(test)]
mod tests {
    use units::Unix;

    use super::*;

    fn event(n: u8) -> Arc<Encoded> {
        let (id, pubkey, created_at) = ([n; 32], [0; 32], Unix(0));
        Arc::new(Encoded { id, pubkey, created_at, expiration: None, kind: 1, json: "".into() })
    }

    #[test]
    fn what_is_read_once_takes_no_place_and_what_is_read_again_does() {
        let cache = Cache::new();
        let others: Vec<u64> = (2..).filter(|at| number(*at) == number(1)).take(2).collect();
        cache.offer(1, &event(1));
        assert_eq!(cache.get(1), Some(event(1)), "there was room");
        for at in [others[0], others[1], others[0]] {
            cache.offer(at, &event(2));
            assert_eq!(cache.get(at), None);
        }
        assert_eq!(cache.get(1), Some(event(1)));
        cache.offer(others[0], &event(3));
        assert_eq!((cache.get(others[0]), cache.get(1)), (Some(event(3)), None));
        cache.put(others[1], &event(4));
        assert_eq!(cache.get(others[1]), Some(event(4)), "just written");
    }
}

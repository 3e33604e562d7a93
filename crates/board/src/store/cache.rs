//! Recently read and written events by position: a fixed number of slots, the newest of two that collide stays.

use std::sync::{Arc, Mutex, PoisonError};

use super::Encoded;

/// Slots; a power of two.
const SLOTS: usize = 1 << 15;
/// Longer events are not worth a slot: so many of these are 64 MiB at most.
const JSON_MAX: usize = 2 * 1024;

/// An event and its position.
type Slot = Mutex<Option<(u64, Arc<Encoded>)>>;

/// The cache.
pub(crate) struct Cache {
    slots: Vec<Slot>,
}

impl Cache {
    pub(crate) fn new() -> Cache {
        Cache { slots: (0..SLOTS).map(|_| Mutex::new(None)).collect() }
    }

    fn slot(&self, at: u64) -> &Slot {
        // Fibonacci hashing: positions have no low bits to speak of.
        let hash = at.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> (64 - SLOTS.ilog2());
        &self.slots[hash as usize]
    }

    pub(crate) fn get(&self, at: u64) -> Option<Arc<Encoded>> {
        let slot = self.slot(at).lock().unwrap_or_else(PoisonError::into_inner);
        slot.as_ref().filter(|(held, _)| *held == at).map(|(_, event)| event.clone())
    }

    pub(crate) fn put(&self, at: u64, event: &Arc<Encoded>) {
        if event.json.len() <= JSON_MAX {
            *self.slot(at).lock().unwrap_or_else(PoisonError::into_inner) = Some((at, event.clone()));
        }
    }
}

//! The keys whose signatures were met last, and what is known of each.

use std::hash::{BuildHasher, RandomState};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use secp256k1::schnorr::Signature;
use secp256k1::{Message, SECP256K1, XOnlyPublicKey};

use crate::table::Table;

/// Good signatures of a key before its table is made. Making it costs as much as some four checks save.
pub const TABLE_AFTER: u8 = 4;
/// Keys that have their places together.
const SET: usize = 4;
/// Most sets.
const SETS_MAX: usize = 1 << 16;
/// Most that a key can weigh: as often others of its set have to be met without it before it is forgotten.
const WEIGHT_MAX: u8 = 31;

/// Keys whose signatures were met last: at most so many, each with up to 8 KiB. Shared by all threads.
pub struct Keys {
    sets: Box<[Mutex<Vec<Met>>]>,
    /// Chooses the set of a key, in a way that nobody else knows: else keys could be made that are all in the set of somebody whom they
    /// are to drive out.
    hasher: RandomState,
}

/// A key of which a good signature was met.
struct Met {
    bytes: [u8; 32],
    weight: u8,
    /// Good signatures since it has its place, as far as they are counted.
    good: u8,
    known: Known,
}

#[derive(Clone)]
enum Known {
    /// It is a point of the curve.
    Read(XOnlyPublicKey),
    /// Its multiples.
    Table(Arc<Table>),
}

impl Keys {
    /// Room for `len` keys or some more, at most 262,144.
    pub fn new(len: usize) -> Keys {
        let sets = len.div_ceil(SET).next_power_of_two().min(SETS_MAX);
        Keys { sets: (0..sets).map(|_| Mutex::default()).collect(), hasher: RandomState::new() }
    }

    /// The signature is the one of the x-only public `key` over `message` (BIP-340).
    pub fn check(&self, key: &[u8; 32], message: &[u8; 32], signature: &[u8; 64]) -> bool {
        let met = self.set(key).iter().find(|met| met.bytes == *key).map(|met| met.known.clone());
        let read = || XOnlyPublicKey::from_slice(key).ok().map(Known::Read);
        let Some(known) = met.or_else(read) else { return false };
        let good = match &known {
            Known::Table(table) => table.check(message, signature),
            Known::Read(read) => Signature::from_slice(signature).is_ok_and(|signature| {
                SECP256K1.verify_schnorr(&signature, &Message::from_digest(*message), read).is_ok()
            }),
        };
        // A forged one changes nothing: else whoever can sign for nobody could drive out those who do sign.
        if good {
            self.signed(key, known);
        }
        good
    }

    /// Keys that are known now.
    pub fn len(&self) -> usize {
        self.count(|_| true)
    }

    /// None is known.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Those of which there is a table.
    pub fn tables(&self) -> usize {
        self.count(|met| matches!(met.known, Known::Table(_)))
    }

    fn count(&self, counts: impl Fn(&Met) -> bool) -> usize {
        let lock = |set: &Mutex<Vec<Met>>| {
            set.lock().unwrap_or_else(PoisonError::into_inner).iter().filter(|met| counts(met)).count()
        };
        self.sets.iter().map(lock).sum()
    }

    fn set(&self, key: &[u8; 32]) -> MutexGuard<'_, Vec<Met>> {
        let at = self.hasher.hash_one(key) as usize & (self.sets.len() - 1);
        self.sets[at].lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts a good signature, gives the key a place if it has none and one of its set is seldom met, and makes the table when it is
    /// time.
    fn signed(&self, key: &[u8; 32], known: Known) {
        let mut set = self.set(key);
        if let Some(met) = set.iter_mut().find(|met| met.bytes == *key) {
            met.weight = (met.weight + 1).min(WEIGHT_MAX);
            met.good = met.good.saturating_add(1);
            let due = met.good == TABLE_AFTER;
            drop(set);
            if let (true, Known::Read(read)) = (due, &known) {
                self.tabulate(key, read);
            }
            return;
        }
        let met = Met { bytes: *key, weight: 1, good: 1, known };
        if set.len() < SET {
            set.push(met);
        } else if let Some(place) = set.iter_mut().find(|other| other.weight == 0) {
            *place = met;
        } else {
            set.iter_mut().for_each(|other| other.weight -= 1);
        }
    }

    /// Makes the table of a key, without keeping anybody waiting meanwhile.
    fn tabulate(&self, key: &[u8; 32], read: &XOnlyPublicKey) {
        let table = Known::Table(Arc::new(Table::new(read)));
        if let Some(met) = self.set(key).iter_mut().find(|met| met.bytes == *key) {
            met.known = table;
        }
    }
}

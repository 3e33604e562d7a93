//! How much everybody has sent of late: a bucket for each address, author and class of credentials, in bounded memory.

use std::collections::HashMap;
use std::hash::Hash;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};

use units::Unix;

use crate::policy::{FreeTier, Rate};
use crate::strikes::{Bearer, Strikes};

/// Most addresses or keys whose rate is tracked at the same time; the rest share one bucket.
const TRACKED_MAX: usize = 100_000;
/// One event in a bucket. A bucket that gains one event a day gains one of these a second.
const EVENT: u64 = 24 * 60 * 60;

/// How fast a bucket fills, and how far.
#[derive(Clone, Copy, Debug)]
struct Flow {
    /// Events that it holds.
    burst: u32,
    /// What it gains each second, in parts of an [`EVENT`].
    gain: u64,
}

impl Flow {
    fn full(self) -> u64 {
        u64::from(self.burst) * EVENT
    }
}

impl From<Rate> for Flow {
    fn from(rate: Rate) -> Flow {
        Flow { burst: rate.burst, gain: u64::from(rate.per_minute) * (EVENT / 60) }
    }
}

impl From<FreeTier> for Flow {
    fn from(tier: FreeTier) -> Flow {
        Flow { burst: tier.per_day, gain: u64::from(tier.per_day) }
    }
}

#[derive(Clone, Copy, Debug)]
struct Bucket {
    /// In parts of an [`EVENT`].
    left: u64,
    at: Unix,
}

impl Bucket {
    /// Takes one event out of the bucket if there is one.
    fn take(&mut self, flow: Flow, now: Unix) -> bool {
        self.fill(flow, now);
        let enough = self.left >= EVENT;
        self.left -= if enough { EVENT } else { 0 };
        enough
    }

    fn fill(&mut self, flow: Flow, now: Unix) {
        let gained = now.0.saturating_sub(self.at.0).saturating_mul(flow.gain);
        self.left = self.left.saturating_add(gained).min(flow.full());
        self.at = now.max(self.at);
    }
}

#[derive(Debug)]
struct Buckets<K>(Mutex<Tracked<K>>);

#[derive(Debug)]
struct Tracked<K> {
    each: HashMap<K, Bucket>,
    rest: Option<Bucket>,
}

// Derived, it would ask for a default key.
impl<K> Default for Buckets<K> {
    fn default() -> Buckets<K> {
        Buckets(Mutex::new(Tracked { each: HashMap::new(), rest: None }))
    }
}

impl<K: Eq + Hash> Buckets<K> {
    fn take(&self, key: K, flow: Flow, now: Unix) -> bool {
        let Tracked { each, rest } = &mut *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let full = Bucket { left: flow.full(), at: now };
        if each.len() >= TRACKED_MAX && !each.contains_key(&key) {
            each.retain(|_, bucket| {
                bucket.fill(flow, now);
                bucket.left < full.left
            });
            if each.len() >= TRACKED_MAX {
                return rest.get_or_insert(full).take(flow, now);
            }
        }
        each.entry(key).or_insert(full).take(flow, now)
    }
}

/// How much everybody has sent of late.
#[derive(Debug, Default)]
pub struct Rates {
    addresses: Buckets<IpAddr>,
    authors: Buckets<[u8; 32]>,
    classes: Buckets<String>,
    free: Buckets<[u8; 32]>,
    strikes: Strikes,
}

impl Rates {
    pub(crate) fn address(&self, address: IpAddr, rate: Rate, now: Unix) -> bool {
        self.addresses.take(address, rate.into(), now)
    }

    pub(crate) fn author(&self, author: [u8; 32], rate: Rate, now: Unix) -> bool {
        self.authors.take(author, rate.into(), now)
    }

    pub(crate) fn class(&self, class: &str, rate: Rate, now: Unix) -> bool {
        self.classes.take(class.to_owned(), rate.into(), now)
    }

    pub(crate) fn free(&self, author: [u8; 32], tier: FreeTier, now: Unix) -> bool {
        self.free.take(author, tier.into(), now)
    }

    /// Who showed bad credentials of late.
    pub(crate) fn strikes(&self) -> &Strikes {
        &self.strikes
    }

    /// Notes that a bad credential was shown.
    pub fn strike(&self, bearer: Bearer, now: Unix) {
        self.strikes.note(bearer, now);
    }
}

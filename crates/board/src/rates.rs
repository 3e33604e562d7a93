//! How much everybody has sent and asked of late: a bucket for each address, author and class of credentials, in bounded memory.

use std::collections::HashMap;
use std::hash::Hash;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use units::Unix;

use crate::policy::{FreeTier, Rate, Share};
use crate::strikes::{Bearer, Strikes};

/// Most addresses or keys whose rate is tracked at the same time; the rest share one bucket.
const TRACKED_MAX: usize = 100_000;
/// Those who have their whole share again are forgotten when so many were not tracked: to look for them takes a while.
const SWEPT_EVERY: usize = 1000;
/// One event in a bucket. A bucket that gains one event a day gains one of these a second.
const EVENT: i64 = 24 * 60 * 60;
/// A microsecond of work in a bucket. One that gains a millisecond a minute gains one of these a microsecond.
const MICRO: i64 = 60_000;
/// Up to so much work, the questions of an address are answered as they come; after more, not before all of it is forgiven.
const EASY: i64 = 4000 * MICRO;
/// Nobody owes more work than is forgiven within so many microseconds.
const FORGIVEN: i64 = 60_000_000;
/// Who has used up their share waits no less than this, so that many connections of one address do not wake up for little each...
const WAIT_MIN: Duration = Duration::from_millis(50);
/// ...and no more, until it is asked again: the policy may be another one then.
const WAIT_MAX: Duration = Duration::from_secs(1);

/// How fast a bucket fills, and how far, in parts.
#[derive(Clone, Copy, Debug)]
struct Flow {
    /// What it holds.
    full: i64,
    /// What it gains with each tick of its clock.
    gain: i64,
}

/// Of events, by seconds.
impl From<Rate> for Flow {
    fn from(rate: Rate) -> Flow {
        Flow { full: i64::from(rate.burst) * EVENT, gain: i64::from(rate.per_minute) * (EVENT / 60) }
    }
}

/// Of events, by seconds.
impl From<FreeTier> for Flow {
    fn from(tier: FreeTier) -> Flow {
        Flow { full: i64::from(tier.per_day) * EVENT, gain: i64::from(tier.per_day) }
    }
}

/// Of work, by microseconds.
impl From<Share> for Flow {
    fn from(share: Share) -> Flow {
        Flow { full: i64::from(share.burst_ms) * 1000 * MICRO, gain: i64::from(share.per_minute_ms) }
    }
}

#[derive(Clone, Copy, Debug)]
struct Bucket {
    left: i64,
    /// What it held then.
    full: i64,
    /// When that was, in ticks.
    at: u64,
    /// More than [`EASY`] was missing, and it was not full since.
    busy: bool,
}

impl Bucket {
    /// Takes one event out of the bucket if there is one.
    fn take(&mut self) -> bool {
        let enough = self.left >= EVENT;
        self.left -= if enough { EVENT } else { 0 };
        enough
    }

    /// Takes out work that was done, be there enough or not.
    fn charge(&mut self, work: Duration, flow: Flow) {
        let work = i64::try_from(work.as_micros()).unwrap_or(i64::MAX).saturating_mul(MICRO);
        self.left = self.left.saturating_sub(work).max(-flow.gain.saturating_mul(FORGIVEN));
    }

    /// How an address stands that has so much work left.
    fn asker(&mut self, flow: Flow) -> Asker {
        self.busy = if self.busy { self.left < flow.full } else { flow.full - self.left > EASY };
        if self.left <= 0 {
            let micros = self.left.unsigned_abs() / flow.gain.max(1).unsigned_abs();
            return Asker::Spent(Duration::from_micros(micros).clamp(WAIT_MIN, WAIT_MAX));
        }
        if self.busy { Asker::Busy } else { Asker::Easy }
    }

    fn fill(&mut self, flow: Flow, now: u64) {
        // With another policy that grants more or less, what was taken stays what it was.
        self.left = self.left.saturating_add(flow.full - self.full);
        self.full = flow.full;
        let ticks = i64::try_from(now.saturating_sub(self.at)).unwrap_or(i64::MAX);
        self.left = self.left.saturating_add(ticks.saturating_mul(flow.gain)).min(flow.full);
        self.at = now.max(self.at);
    }
}

/// How much an address has asked of late.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Asker {
    /// Next to nothing.
    Easy,
    /// Enough to keep others waiting, and not little since.
    Busy,
    /// All that it may: it is to wait for so long, and ask again how it stands.
    Spent(Duration),
}

#[derive(Debug)]
struct Buckets<K>(Mutex<Tracked<K>>);

#[derive(Debug)]
struct Tracked<K> {
    each: HashMap<K, Bucket>,
    rest: Option<Bucket>,
    /// Those who came when there was no place.
    crowded: usize,
}

// Derived, it would ask for a default key.
impl<K> Default for Buckets<K> {
    fn default() -> Buckets<K> {
        Buckets(Mutex::new(Tracked { each: HashMap::new(), rest: None, crowded: 0 }))
    }
}

impl<K: Eq + Hash> Buckets<K> {
    fn take(&self, key: K, flow: Flow, now: Unix) -> bool {
        self.of(key, flow, now.0, Bucket::take)
    }

    /// Does something with the bucket of `key` as it is now.
    fn of<T>(&self, key: K, flow: Flow, now: u64, act: impl FnOnce(&mut Bucket) -> T) -> T {
        let Tracked { each, rest, crowded } = &mut *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let full = Bucket { left: flow.full, full: flow.full, at: now, busy: false };
        let mut room = each.len() < TRACKED_MAX || each.contains_key(&key);
        if !room {
            if crowded.is_multiple_of(SWEPT_EVERY) {
                each.retain(|_, bucket| {
                    bucket.fill(flow, now);
                    bucket.left < full.left
                });
            }
            *crowded += 1;
            room = each.len() < TRACKED_MAX;
        }
        let bucket = if room { each.entry(key).or_insert(full) } else { rest.get_or_insert(full) };
        bucket.fill(flow, now);
        act(bucket)
    }
}

/// How much everybody has sent and asked of late.
#[derive(Debug, Default)]
pub struct Rates {
    addresses: Buckets<IpAddr>,
    askers: Buckets<IpAddr>,
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

    /// How an address stands, `now` after a moment that is always the same, when the board has done this `work` for its questions.
    pub(crate) fn asker(&self, address: IpAddr, share: Share, work: Duration, now: Duration) -> Asker {
        let (flow, now) = (Flow::from(share), u64::try_from(now.as_micros()).unwrap_or(u64::MAX));
        self.askers.of(address, flow, now, |bucket| {
            bucket.charge(work, flow);
            bucket.asker(flow)
        })
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

#[cfg(test)]
mod tests {
    use super::*;

    const SHARE: Share = Share { burst_ms: 1000, per_minute_ms: 15_000 };

    fn at(last: u8) -> IpAddr {
        [192, 0, 2, last].into()
    }

    #[test]
    fn work_is_charged_to_its_address_and_forgiven_at_the_rate_of_its_share() {
        let (rates, ms) = (Rates::default(), Duration::from_millis);
        let stands = |of: u8, work, now| rates.asker(at(of), SHARE, ms(work), ms(now));
        assert_eq!([stands(1, 4, 0), stands(1, 1, 0), stands(1, 946, 0)], [Asker::Easy, Asker::Busy, Asker::Busy]);
        assert_eq!(stands(2, 1, 0), Asker::Easy, "another address has its own share");
        // 1,051 ms are used of 1,000; a quarter of a second is forgiven each second.
        assert_eq!(stands(1, 100, 0), Asker::Spent(ms(204)));
        assert_eq!(stands(1, 0, 203), Asker::Spent(WAIT_MIN));
        assert_eq!(stands(1, 0, 205), Asker::Busy);
        assert_eq!(stands(1, 0, 4203), Asker::Busy, "until all of it is forgiven");
        assert_eq!(stands(1, 0, 4204), Asker::Easy);
        assert_eq!(stands(1, 1001, 60_000), Asker::Spent(WAIT_MIN), "and no more is saved up than the burst");
    }

    #[test]
    fn nobody_owes_more_than_a_minute_forgives_and_nobody_waits_long_unasked() {
        let (rates, secs) = (Rates::default(), Duration::from_secs);
        assert_eq!(rates.asker(at(1), SHARE, secs(1_000_000), secs(0)), Asker::Spent(WAIT_MAX));
        assert_eq!(rates.asker(at(1), SHARE, secs(0), secs(61)), Asker::Busy);
        let never = Share { burst_ms: 0, per_minute_ms: 0 };
        assert_eq!(rates.asker(at(2), never, Duration::MAX, secs(0)), Asker::Spent(WAIT_MIN));
        assert_eq!(rates.asker(at(2), never, secs(0), secs(1000)), Asker::Spent(WAIT_MIN));
    }

    #[test]
    fn addresses_beyond_those_that_are_tracked_share_one_bucket() {
        let (rates, work) = (Rates::default(), Duration::from_millis(600));
        let of = |n: u32| IpAddr::from(n.to_be_bytes());
        (0..TRACKED_MAX as u32).for_each(|n| assert_eq!(rates.asker(of(n), SHARE, work, Duration::ZERO), Asker::Busy));
        let more = [1, 2].map(|n| rates.asker(of(TRACKED_MAX as u32 + n), SHARE, work, Duration::ZERO));
        assert_eq!(more, [Asker::Busy, Asker::Spent(Duration::from_millis(800))]);
        let later = Duration::from_secs(60);
        assert_eq!(
            rates.asker(of(u32::MAX), SHARE, work, later),
            Asker::Busy,
            "who has their share again is forgotten"
        );
    }
}

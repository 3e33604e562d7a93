//! Who showed bad credentials of late: each costs the board as much to refuse as a good one to take, and somebody may be guessing.

use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};

use units::Unix;

use crate::origin::counted;

/// So many bad credentials...
pub(crate) const BAD_MAX: usize = 5;
/// ...within so many seconds, and no further one is looked at until the first of them is older.
pub(crate) const WITHIN_SECS: u64 = 60;
/// Most addresses and connections that are remembered. One that is not gets away with more; it is slowed down all the same.
const TRACKED_MAX: usize = 10_000;

/// Who shows a credential: a connection, and where it comes from. Loopback addresses are many people's and exempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bearer {
    /// Where from.
    pub address: IpAddr,
    /// Number of the connection.
    pub client: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Who {
    Address(IpAddr),
    Client(u64),
}

impl Bearer {
    fn each(self) -> impl Iterator<Item = Who> {
        let address = counted(self.address).map(Who::Address);
        [Some(Who::Client(self.client)), address].into_iter().flatten()
    }
}

/// When each showed a bad credential, the last [`BAD_MAX`] times.
#[derive(Debug, Default)]
pub(crate) struct Strikes(Mutex<HashMap<Who, VecDeque<Unix>>>);

/// Seconds until a time is old.
fn left(at: Unix, now: Unix) -> u64 {
    WITHIN_SECS.saturating_sub(now.0.saturating_sub(at.0))
}

impl Strikes {
    fn each(&self) -> MutexGuard<'_, HashMap<Who, VecDeque<Unix>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A bad credential was shown.
    pub(crate) fn note(&self, bearer: Bearer, now: Unix) {
        let mut each = self.each();
        for who in bearer.each() {
            if each.len() >= TRACKED_MAX && !each.contains_key(&who) {
                each.retain(|_, times| times.back().is_some_and(|at| left(*at, now) > 0));
                if each.len() >= TRACKED_MAX {
                    continue;
                }
            }
            let times = each.entry(who).or_default();
            times.push_back(now);
            if times.len() > BAD_MAX {
                times.pop_front();
            }
        }
    }

    /// For how many seconds no credential of this bearer is looked at; none if the next one is.
    pub(crate) fn wait(&self, bearer: Bearer, now: Unix) -> Option<u64> {
        let each = self.each();
        let waits = bearer.each().filter_map(|who| {
            let times = each.get(&who).filter(|times| times.len() >= BAD_MAX)?;
            times.front().map(|at| left(*at, now)).filter(|secs| *secs > 0)
        });
        waits.max()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bearer(address: [u8; 4], client: u64) -> Bearer {
        Bearer { address: address.into(), client }
    }

    #[test]
    fn the_fifth_bad_credential_within_a_minute_is_the_last_for_the_address_and_the_connection() {
        let strikes = Strikes::default();
        let (one, same_address, other) =
            (bearer([192, 0, 2, 1], 1), bearer([192, 0, 2, 1], 2), bearer([192, 0, 2, 2], 3));
        for at in [100, 110, 120, 130] {
            strikes.note(one, Unix(at));
        }
        assert_eq!(strikes.wait(one, Unix(130)), None);
        strikes.note(one, Unix(140));
        assert_eq!([one, same_address, other].map(|who| strikes.wait(who, Unix(140))), [Some(20), Some(20), None]);
        assert_eq!([159, 160].map(|at| strikes.wait(one, Unix(at))), [Some(1), None], "until the first one is old");
        strikes.note(one, Unix(160));
        assert_eq!(strikes.wait(one, Unix(160)), Some(10));
    }

    #[test]
    fn whoever_comes_from_this_machine_is_told_apart_by_connection_only() {
        let strikes = Strikes::default();
        let (one, other) = (bearer([127, 0, 0, 1], 1), bearer([127, 0, 0, 1], 2));
        (0..5).for_each(|_| strikes.note(one, Unix(100)));
        assert_eq!([one, other].map(|who| strikes.wait(who, Unix(100))), [Some(60), None]);
    }

    #[test]
    fn only_so_many_are_remembered_and_those_of_old_make_room() {
        let strikes = Strikes::default();
        for client in 0..2 * TRACKED_MAX as u64 {
            strikes.note(bearer([127, 0, 0, 1], client), Unix(100));
        }
        assert_eq!(strikes.each().len(), TRACKED_MAX);
        strikes.note(bearer([127, 0, 0, 1], u64::MAX), Unix(160));
        assert_eq!(strikes.each().len(), 1);
    }
}

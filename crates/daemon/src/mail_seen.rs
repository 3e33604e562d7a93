//! Mail that is done with, and what a board has stored that is not among it: the side of a reconciliation (NIP-77) that asks.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};

use board::reconcile::{Broken, Initiator, Item, Set, from_hex, to_hex};
use units::Unix;
use wire::event::Event;

/// Events that are remembered.
const SEEN_MAX: usize = 65_536;
/// Events that are asked for at once.
pub(crate) const FETCH_MAX: usize = 100;
/// Most events that one reconciliation finds missing. The next one finds the rest.
const MISSING_MAX: usize = 20_000;
/// Most answers that we take in: a set of any size needs far fewer.
const ROUNDS_MAX: u32 = 1_000;

/// Events that were opened, judged, and will never mean anything else. Every board brings each of them, some more than once. An event
/// is put here only after its signature was checked, so a forged copy cannot keep the real one out.
#[derive(Default)]
pub(crate) struct Seen(Mutex<Shelf>);

#[derive(Default)]
struct Shelf {
    /// For whom each event is.
    events: BTreeMap<[u8; 32], BTreeSet<[u8; 32]>>,
    /// What there is for each key: kind and time by key and event, so that the mail of a few is found without a look at all.
    mail: BTreeMap<([u8; 32], [u8; 32]), (u16, Unix)>,
    order: VecDeque<[u8; 32]>,
}

impl Seen {
    fn shelf(&self) -> MutexGuard<'_, Shelf> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn contains(&self, id: &[u8; 32]) -> bool {
        self.shelf().events.contains_key(id)
    }

    pub(crate) fn insert(&self, event: &Event) {
        let to = event.tags.iter().filter(|tag| tag.first().is_some_and(|name| name == "p"));
        let to: BTreeSet<_> = to.filter_map(|tag| units::parse_hex32(tag.get(1)?).ok()).collect();
        let mut shelf = self.shelf();
        if shelf.events.contains_key(&event.id) {
            return;
        }
        shelf.mail.extend(to.iter().map(|key| ((*key, event.id), (event.kind, event.created_at))));
        shelf.events.insert(event.id, to);
        shelf.order.push_back(event.id);
        if shelf.order.len() > SEEN_MAX
            && let Some(oldest) = shelf.order.pop_front()
        {
            for key in shelf.events.remove(&oldest).unwrap_or_default() {
                shelf.mail.remove(&(key, oldest));
            }
        }
    }

    /// Those of these kinds that are addressed to one of `keys`.
    pub(crate) fn addressed(&self, kinds: &[u16], keys: &BTreeSet<[u8; 32]>) -> Vec<Item> {
        let shelf = self.shelf();
        let of = |key: &[u8; 32]| shelf.mail.range((*key, [0; 32])..=(*key, [0xff; 32]));
        let mail = keys.iter().flat_map(of).filter(|(_, (kind, _))| kinds.contains(kind));
        // What is for two of them is one event.
        mail.map(|((_, id), (_, at))| (*at, *id)).collect::<BTreeSet<_>>().into_iter().collect()
    }
}

/// One reconciliation, and after it what is left to fetch.
pub(crate) struct Gap {
    initiator: Initiator,
    rounds: u32,
    missing: VecDeque<[u8; 32]>,
}

impl Gap {
    /// Begins with what we have; gives the first message, as hex.
    pub(crate) fn begin(have: Vec<Item>) -> Result<(Gap, String), Broken> {
        let (initiator, message) = Set::new(have).begin()?;
        Ok((Gap { initiator, rounds: 0, missing: VecDeque::new() }, to_hex(&message)))
    }

    /// Takes in an answer; gives the next message, none when all is said.
    pub(crate) fn learn(&mut self, answer: &str) -> Result<Option<String>, Broken> {
        self.rounds += 1;
        let bytes = from_hex(answer).ok_or_else(|| Broken::because("invalid: no hex"))?;
        let learned = self.initiator.learn(&bytes)?;
        let room = MISSING_MAX - self.missing.len();
        self.missing.extend(learned.need.into_iter().take(room));
        let enough = self.missing.len() == MISSING_MAX || self.rounds == ROUNDS_MAX;
        Ok(learned.next.filter(|_| !enough).map(|message| to_hex(&message)))
    }

    /// What to fetch next; empty when all of it was.
    pub(crate) fn next(&mut self) -> Vec<[u8; 32]> {
        let count = self.missing.len().min(FETCH_MAX);
        self.missing.drain(..count).collect()
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn event(n: u64, to: u8) -> Event {
        let mut id = [0; 32];
        id[..8].copy_from_slice(&n.to_be_bytes());
        let tags = vec![vec!["p".to_owned(), units::hex32(&[to; 32])]];
        Event { id, pubkey: [1; 32], created_at: Unix(n), kind: 1059, tags, content: String::new(), sig: [0; 64] }
    }

    #[test]
    fn what_was_seen_longest_ago_is_forgotten_first() {
        let seen = Seen::default();
        for n in 0..=SEEN_MAX as u64 {
            seen.insert(&event(n, 2));
        }
        assert_eq!(seen.addressed(&[1059], &BTreeSet::from([[2; 32]])).len(), SEEN_MAX);
        assert!(!seen.contains(&event(0, 2).id) && seen.contains(&event(1, 2).id));
    }

    #[test]
    fn mail_is_found_by_its_kind_and_by_whom_it_is_for() {
        let seen = Seen::default();
        seen.insert(&event(1, 2));
        seen.insert(&event(2, 3));
        assert_eq!(seen.addressed(&[1059], &BTreeSet::from([[3; 32]])), [(Unix(2), event(2, 3).id)]);
        assert_eq!(seen.addressed(&[301], &BTreeSet::from([[3; 32]])), []);
    }

    #[test]
    fn what_only_the_other_side_has_is_fetched_in_pieces() {
        let items = |range: std::ops::Range<u64>| range.map(|n| (Unix(n), event(n, 2).id)).collect::<Vec<_>>();
        let (mut gap, mut message) = Gap::begin(items(0..1000)).unwrap();
        let theirs = Set::new(items(0..1150));
        loop {
            let answer = theirs.answer(&from_hex(&message).unwrap()).unwrap();
            match gap.learn(&to_hex(&answer)).unwrap() {
                Some(next) => message = next,
                None => break,
            }
        }
        let pieces: Vec<_> = std::iter::from_fn(|| Some(gap.next()).filter(|ids| !ids.is_empty())).collect();
        assert_eq!(pieces.iter().map(Vec::len).collect::<Vec<_>>(), [100, 50]);
        let fetched: BTreeSet<_> = pieces.concat().into_iter().collect();
        assert_eq!(fetched, items(1000..1150).into_iter().map(|(_, id)| id).collect());
        assert!(gap.learn("0").is_err());
    }
}

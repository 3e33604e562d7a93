//! Live subscriptions: who waits for what, found through an inverted index.
//!
//! A subscription is told the position up to which the log was shown before it came: the stored answer stops there, everything
//! behind it arrives live. So nothing is missed between the two, and nothing comes twice. While the stored answer is under way
//! new events go to the connection's session, which holds them back; from then on they go straight to the socket, but for those
//! that are not meant for every reader.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::{Mutex, MutexGuard};
use smallvec::SmallVec;
use wire::{Filter, RawEvent};

use crate::admission::Policy;
use crate::compression::Shown;
use crate::outlet::{Outlet, Touched};
use crate::search;
use crate::store::{Commit, Fresh, Outcome};

/// So many bytes are put into outlets before these are flushed.
pub(crate) const FLUSH_BYTES: usize = 8 * 1024 * 1024;
/// So much is hung up or taken down before others have their turn: a subscription may name thousands of values.
const HOOKS_AT_ONCE: usize = 64;

/// What became of an event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Published {
    /// The store says.
    Store(Outcome),
    /// Refused before it got there; the text has its prefix (NIP-01).
    Refused(String),
    /// A credential that came ahead of its event is held (kind 23252).
    Held,
}

/// Names a live subscription.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Watch(u64);

#[derive(Debug)]
struct Watcher {
    outlet: Arc<Outlet>,
    ticket: u64,
    filters: Arc<[Filter]>,
    /// What a frame of this subscription begins with, once its events go straight to the outlet.
    head: Option<Box<str>>,
    /// Events before this position are looked up, not shown.
    from: u64,
    /// The last event that was delivered: several of its filters may match.
    served: u64,
}

/// An event that is so long, in bytes, is compressed before the subscriptions are locked.
const LONG: usize = 4096;

/// Subscriptions with the numbers of their filters. Most lists have one: it takes no memory of its own.
type Hung = SmallVec<[(Watch, usize); 1]>;

/// Such lists by what the filters name.
#[derive(Debug, Default)]
struct Hooks {
    ids: HashMap<[u8; 32], Hung>,
    authors: HashMap<[u8; 32], Hung>,
    tags: HashMap<u8, HashMap<String, Hung>>,
    kinds: HashMap<u16, Hung>,
    others: Hung,
}

#[derive(Debug, Default)]
struct State {
    served: u64,
    /// Subscriptions of connections that agreed on compression.
    compressed: usize,
    watchers: HashMap<Watch, Watcher>,
    hooks: Hooks,
}

/// All live subscriptions of the board.
#[derive(Debug, Default)]
pub struct Live {
    /// Number of the next subscription.
    next: AtomicU64,
    /// Of a kind that can be handed to whoever waits: who merely lets it go and takes it again is faster than who was woken.
    state: Mutex<State>,
}

fn unhook<K, Q>(map: &mut HashMap<K, Hung>, key: &Q, hook: (Watch, usize))
where
    K: Eq + Hash + std::borrow::Borrow<Q>,
    Q: Eq + Hash + ?Sized,
{
    if let Some(list) = map.get_mut(key) {
        list.retain(|held| *held != hook);
        if list.is_empty() {
            map.remove(key);
        }
    }
}

/// What a filter is found by.
#[derive(Clone, Copy)]
enum Peg<'a> {
    Id(&'a [u8; 32]),
    Author(&'a [u8; 32]),
    Tag(u8, &'a str),
    Kind(u16),
    Any,
}

/// Each filter hangs in one place, the most telling of what it names: of its lists of tags the one with the fewest values.
fn pegs(filter: &Filter) -> Box<dyn Iterator<Item = Peg<'_>> + '_> {
    if filter.is_empty() {
        Box::new(std::iter::empty())
    } else if let Some(ids) = &filter.ids {
        Box::new(ids.iter().map(Peg::Id))
    } else if let Some(authors) = &filter.authors {
        Box::new(authors.iter().map(Peg::Author))
    } else if let Some((letter, values)) = filter.tags.iter().min_by_key(|(_, values)| values.len()) {
        Box::new(values.iter().map(|value| Peg::Tag(*letter, value)))
    } else if let Some(kinds) = &filter.kinds {
        Box::new(kinds.iter().map(|kind| Peg::Kind(*kind)))
    } else {
        Box::new(std::iter::once(Peg::Any))
    }
}

/// The same of all filters of a subscription, with what hangs there.
fn hooks(filters: &[Filter], watch: Watch) -> impl Iterator<Item = (Peg<'_>, (Watch, usize))> {
    filters.iter().enumerate().flat_map(move |(i, filter)| pegs(filter).map(move |peg| (peg, (watch, i))))
}

impl Hooks {
    fn add(&mut self, peg: Peg<'_>, hook: (Watch, usize)) {
        match peg {
            Peg::Id(id) => self.ids.entry(*id).or_default().push(hook),
            Peg::Author(author) => self.authors.entry(*author).or_default().push(hook),
            Peg::Tag(letter, value) => {
                self.tags.entry(letter).or_default().entry(value.to_owned()).or_default().push(hook);
            }
            Peg::Kind(kind) => self.kinds.entry(kind).or_default().push(hook),
            Peg::Any => self.others.push(hook),
        }
    }

    fn remove(&mut self, peg: Peg<'_>, hook: (Watch, usize)) {
        match peg {
            Peg::Id(id) => unhook(&mut self.ids, id, hook),
            Peg::Author(author) => unhook(&mut self.authors, author, hook),
            Peg::Tag(letter, value) => {
                if let Some(tags) = self.tags.get_mut(&letter) {
                    unhook(tags, value, hook);
                }
            }
            Peg::Kind(kind) => unhook(&mut self.kinds, &kind, hook),
            Peg::Any => self.others.retain(|held| *held != hook),
        }
    }

    /// Every filter that may match, some more than once.
    fn candidates(&self, event: &RawEvent<'_>, mut visit: impl FnMut((Watch, usize))) {
        let mut all = |list: Option<&Hung>| list.into_iter().flatten().for_each(|hook| visit(*hook));
        all(self.ids.get(&event.id));
        all(self.authors.get(&event.pubkey));
        if !self.tags.is_empty() {
            for (letter, value) in event.indexed_tags() {
                all(self.tags.get(&letter).and_then(|tags| tags.get(value.as_ref())));
            }
        }
        all(self.kinds.get(&event.kind));
        all(Some(&self.others));
    }
}

impl Live {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock()
    }

    /// Adds a subscription, in one step with asking `store_end` where the store ends. Gives that position: what stands before it
    /// has to be looked up, what comes behind it comes to `outlet`. The store moves its end before it has a commit shown.
    pub(crate) fn watch(
        &self,
        outlet: &Arc<Outlet>,
        ticket: u64,
        filters: &Arc<[Filter]>,
        store_end: impl FnOnce() -> u64,
    ) -> (Watch, u64) {
        let watch = Watch(self.next.fetch_add(1, Ordering::Relaxed));
        let mut hooks = hooks(filters, watch).peekable();
        let mut state = self.state();
        loop {
            hooks.by_ref().take(HOOKS_AT_ONCE).for_each(|(peg, hook)| state.hooks.add(peg, hook));
            if hooks.peek().is_none() {
                break;
            }
            MutexGuard::bump(&mut state);
        }
        // Until now nothing was found by what hangs there.
        let from = store_end();
        state.compressed += usize::from(outlet.agreed().is_some());
        let (outlet, filters) = (outlet.clone(), filters.clone());
        state.watchers.insert(watch, Watcher { outlet, ticket, filters, head: None, from, served: 0 });
        (watch, from)
    }

    /// From now on new events of a subscription go straight to the socket, behind `head`. False, and nothing changes, while some
    /// are left for the session: they come first.
    pub(crate) fn direct(&self, watch: Watch, head: impl Into<Box<str>>) -> bool {
        let mut state = self.state();
        let Some(watcher) = state.watchers.get_mut(&watch) else { return true };
        if watcher.outlet.has_news_of(watcher.ticket) {
            return false;
        }
        watcher.head = Some(head.into());
        true
    }

    /// Ends a subscription. What is in its outlet already stays there.
    pub fn unwatch(&self, watch: Watch) {
        // From here on nothing is found by what still hangs there.
        let mut state = self.state();
        let Some(watcher) = state.watchers.remove(&watch) else { return };
        state.compressed -= usize::from(watcher.outlet.agreed().is_some());
        let mut hooks = hooks(&watcher.filters, watch).peekable();
        while hooks.peek().is_some() {
            hooks.by_ref().take(HOOKS_AT_ONCE).for_each(|(peg, hook)| state.hooks.remove(peg, hook));
            MutexGuard::bump(&mut state);
        }
    }

    /// Subscriptions.
    pub fn len(&self) -> usize {
        self.state().watchers.len()
    }

    /// There are no subscriptions.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Shows a commit to all who wait for it; what is in `touched` afterwards has to be flushed. Gives the number of deliveries.
    pub(crate) fn show(&self, commit: &Commit, policy: &Policy, touched: &mut Touched) -> u64 {
        let mut delivered = 0;
        for fresh in &commit.fresh {
            let shown = Shown::new(&fresh.event.json);
            // A long one takes long to compress, and is not to keep others from subscribing.
            if fresh.event.json.len() >= LONG && self.state().compressed > 0 {
                shown.compress();
            }
            delivered += self.state().show(fresh, &shown, policy.is_for_all(&fresh.event), touched);
            if touched.bytes() >= FLUSH_BYTES {
                touched.flush();
            }
        }
        delivered
    }
}

impl State {
    fn show(&mut self, fresh: &Fresh, shown: &Shown<'_>, for_all: bool, touched: &mut Touched) -> u64 {
        if self.watchers.is_empty() {
            return 0;
        }
        let event = &fresh.event;
        let Ok(raw) = event.raw() else { return 0 };
        self.served += 1;
        let mut delivered = 0;
        let (watchers, served) = (&mut self.watchers, self.served);
        self.hooks.candidates(&raw, |(watch, filter)| {
            let Some(watcher) = watchers.get_mut(&watch) else { return };
            let new = fresh.at.is_none_or(|at| at >= watcher.from);
            let wanted = &watcher.filters[filter];
            if !new || watcher.served == served || !wanted.matches_raw(&raw) || !search::matches(wanted, &raw) {
                return;
            }
            watcher.served = served;
            delivered += 1;
            match &watcher.head {
                Some(head) if for_all => touched.show(&watcher.outlet, head, shown),
                _ => watcher.outlet.tell(watcher.ticket, event),
            }
        });
        delivered
    }
}

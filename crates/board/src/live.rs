//! Live subscriptions: who waits for what, found through an inverted index.
//!
//! A subscription is told the position up to which the log was shown before it came: the stored answer stops there, everything
//! behind it arrives live. So nothing is missed between the two, and nothing comes twice. While the stored answer is under way
//! new events go to the connection's session, which holds them back; from then on they go straight to the socket, but for those
//! that are not meant for every reader.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use wire::{Filter, RawEvent};

use crate::admission::Policy;
use crate::outlet::{Outlet, Touched};
use crate::search;
use crate::store::{Commit, Fresh, Outcome};

/// So many bytes are put into outlets before these are flushed.
pub(crate) const FLUSH_BYTES: usize = 8 * 1024 * 1024;

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

/// Lists of (subscription, number of its filter) by what the filter names.
#[derive(Debug, Default)]
struct Hooks {
    ids: HashMap<[u8; 32], Vec<(Watch, usize)>>,
    authors: HashMap<[u8; 32], Vec<(Watch, usize)>>,
    tags: HashMap<u8, HashMap<String, Vec<(Watch, usize)>>>,
    kinds: HashMap<u16, Vec<(Watch, usize)>>,
    others: Vec<(Watch, usize)>,
}

#[derive(Debug, Default)]
struct State {
    next: u64,
    served: u64,
    watchers: HashMap<Watch, Watcher>,
    hooks: Hooks,
}

/// All live subscriptions of the board.
#[derive(Debug, Default)]
pub struct Live(Mutex<State>);

fn unhook<K, Q>(map: &mut HashMap<K, Vec<(Watch, usize)>>, key: &Q, hook: (Watch, usize))
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

/// The tag list by which a filter is found: the one with the fewest values.
fn rarest(filter: &Filter) -> Option<(u8, &[String])> {
    filter.tags.iter().min_by_key(|(_, values)| values.len()).map(|(letter, values)| (*letter, values.as_slice()))
}

impl Hooks {
    /// Each filter hangs in one place, the most telling of what it names.
    fn add(&mut self, filter: &Filter, hook: (Watch, usize)) {
        if let Some(ids) = &filter.ids {
            ids.iter().for_each(|id| self.ids.entry(*id).or_default().push(hook));
        } else if let Some(authors) = &filter.authors {
            authors.iter().for_each(|author| self.authors.entry(*author).or_default().push(hook));
        } else if let Some((letter, values)) = rarest(filter) {
            let tags = self.tags.entry(letter).or_default();
            values.iter().for_each(|value| tags.entry(value.clone()).or_default().push(hook));
        } else if let Some(kinds) = &filter.kinds {
            kinds.iter().for_each(|kind| self.kinds.entry(*kind).or_default().push(hook));
        } else {
            self.others.push(hook);
        }
    }

    fn remove(&mut self, filter: &Filter, hook: (Watch, usize)) {
        if let Some(ids) = &filter.ids {
            ids.iter().for_each(|id| unhook(&mut self.ids, id, hook));
        } else if let Some(authors) = &filter.authors {
            authors.iter().for_each(|author| unhook(&mut self.authors, author, hook));
        } else if let Some((letter, values)) = rarest(filter) {
            if let Some(tags) = self.tags.get_mut(&letter) {
                values.iter().for_each(|value| unhook(tags, value.as_str(), hook));
            }
        } else if let Some(kinds) = &filter.kinds {
            kinds.iter().for_each(|kind| unhook(&mut self.kinds, kind, hook));
        } else {
            self.others.retain(|held| *held != hook);
        }
    }

    /// Every filter that may match, some more than once.
    fn candidates(&self, event: &RawEvent<'_>, mut visit: impl FnMut((Watch, usize))) {
        let mut all = |list: Option<&Vec<(Watch, usize)>>| list.into_iter().flatten().for_each(|hook| visit(*hook));
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
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
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
        let mut state = self.state();
        let watch = Watch(state.next);
        state.next += 1;
        for (i, filter) in filters.iter().enumerate() {
            if !filter.is_empty() {
                state.hooks.add(filter, (watch, i));
            }
        }
        let from = store_end();
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
        let mut state = self.state();
        let Some(watcher) = state.watchers.remove(&watch) else { return };
        for (i, filter) in watcher.filters.iter().enumerate() {
            if !filter.is_empty() {
                state.hooks.remove(filter, (watch, i));
            }
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
            delivered += self.state().show(fresh, policy.is_for_all(&fresh.event), touched);
            if touched.bytes() >= FLUSH_BYTES {
                touched.flush();
            }
        }
        delivered
    }
}

impl State {
    fn show(&mut self, fresh: &Fresh, for_all: bool, touched: &mut Touched) -> u64 {
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
                Some(head) if for_all => touched.show(&watcher.outlet, [head, &event.json, "]"]),
                _ => watcher.outlet.tell(watcher.ticket, event),
            }
        });
        delivered
    }
}

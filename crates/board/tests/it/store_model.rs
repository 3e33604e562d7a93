//! Random events and random filters: the store against a list that is gone through from front to back.

use std::sync::Arc;

use board::store::{Ask, Encoded, Known, LogStore, Outcome, Reader, Store, StoreConfig};
use wire::{DeletionTarget, Event, Filter, KindClass};

use crate::events::{Dice, NOW, ask, clock, hex, put, unsigned};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Served,
    Superseded,
    Deleted,
}

/// The dumb store.
#[derive(Default)]
struct Model {
    events: Vec<(Event, State)>,
    requests: Vec<Event>,
}

fn address(event: &Event) -> Option<(u16, [u8; 32], String)> {
    match event.class() {
        KindClass::Replaceable => Some((event.kind, event.pubkey, String::new())),
        KindClass::Addressable => Some((event.kind, event.pubkey, event.identifier().to_owned())),
        _ => None,
    }
}

/// The request asks, and may ask, for the deletion of the event.
fn deletes(request: &Event, event: &Event) -> bool {
    request.pubkey == event.pubkey
        && request.deletion_targets().iter().any(|target| match target {
            DeletionTarget::Event(id) => *id == event.id && event.kind != 5,
            DeletionTarget::Address { kind, pubkey, identifier } => {
                address(event).is_some_and(|(k, p, d)| {
                    let named = if event.class() == KindClass::Replaceable { "" } else { identifier.as_str() };
                    (k, p, d.as_str()) == (*kind, *pubkey, named)
                }) && event.created_at <= request.created_at
            }
        })
}

impl Model {
    fn put(&mut self, event: &Event) -> Outcome {
        if let Some((_, state)) = self.events.iter().find(|(held, _)| held.id == event.id) {
            return Outcome::Known(match state {
                State::Served => Known::Served,
                State::Superseded => Known::Superseded,
                State::Deleted => Known::Deleted,
            });
        }
        if self.requests.iter().any(|request| deletes(request, event)) {
            return Outcome::Known(Known::Deleted);
        }
        let rank = |e: &Event| (e.created_at, std::cmp::Reverse(e.id));
        if let Some(name) = address(event) {
            let same = |held: &Event| address(held).as_ref() == Some(&name);
            if self.events.iter().any(|(held, _)| same(held) && rank(held) > rank(event)) {
                return Outcome::Known(Known::Superseded);
            }
            for (held, state) in &mut self.events {
                if same(held) && *state == State::Served {
                    *state = State::Superseded;
                }
            }
        }
        if event.kind == 5 {
            self.requests.push(event.clone());
            for (held, state) in &mut self.events {
                let by_id = event.deletion_targets().contains(&DeletionTarget::Event(held.id));
                // By address, older versions stay noted as superseded; that they are deleted is asked when they are looked up.
                if deletes(event, held) && (by_id || *state == State::Served) {
                    *state = State::Deleted;
                }
            }
        }
        self.events.push((event.clone(), State::Served));
        Outcome::Stored
    }

    fn ask(&self, filters: &[Filter]) -> Vec<[u8; 32]> {
        let mut all: Vec<&Event> = Vec::new();
        for filter in filters {
            let mut mine: Vec<&Event> = self
                .events
                .iter()
                .filter(|(event, state)| match state {
                    State::Served => true,
                    State::Superseded => filter.ids.is_some() && !self.requests.iter().any(|r| deletes(r, event)),
                    State::Deleted => false,
                })
                .map(|(event, _)| event)
                .filter(|event| filter.matches(event))
                .collect();
            mine.sort_by_key(|event| (u64::MAX - event.created_at.0, event.id));
            mine.truncate(filter.limit.map_or(usize::MAX, |limit| limit as usize));
            all.extend(mine);
        }
        all.sort_by_key(|event| (u64::MAX - event.created_at.0, event.id));
        all.dedup_by_key(|event| event.id);
        all.iter().map(|event| event.id).collect()
    }
}

fn pick<T: Clone>(dice: &mut Dice, from: &[T]) -> T {
    from[dice.roll(from.len() as u64) as usize].clone()
}

fn random_event(dice: &mut Dice, before: &[Event]) -> Event {
    let pubkey = [dice.roll(5) as u8 + 1; 32];
    let kind = pick(dice, &[1, 1, 1, 7, 0, 10_002, 30_402, 30_402, 30_402, 300, 5]);
    let mut tags: Vec<Vec<String>> = Vec::new();
    for _ in 0..dice.roll(4) {
        let name = pick(dice, &["t", "t", "e", "p", "d", "T", "long"]);
        let value = pick(dice, &["a", "b", "c", "", "ham and \"eggs\" \u{e9}"]);
        tags.push(vec![name.into(), value.into()]);
    }
    if kind == 5 && !before.is_empty() {
        let target = pick(dice, before);
        match (dice.roll(2), address(&target)) {
            (1, Some((kind, pubkey, d))) => tags.push(vec!["a".into(), format!("{kind}:{}:{d}", hex(&pubkey))]),
            _ => tags.push(vec!["e".into(), hex(&target.id)]),
        }
    }
    unsigned(pubkey, kind, NOW - dice.roll(25), tags, &format!("{}", dice.roll(1000)))
}

fn random_filter(dice: &mut Dice, events: &[Event]) -> Filter {
    let mut filter = Filter::default();
    let mut some = |sides: u64| dice.roll(sides) == 0;
    let (ids, authors, kinds, tag, tag2) = (some(6), some(3), some(2), some(3), some(8));
    let (since, until, limit) = (some(4), some(4), some(2));
    let tidy = |mut list: Vec<[u8; 32]>| {
        list.sort_unstable();
        list.dedup();
        list
    };
    if ids {
        filter.ids = Some(tidy((0..dice.roll(8)).map(|_| pick(dice, events).id).collect()));
    }
    if authors {
        let most = pick(dice, &[6, 20]);
        filter.authors = Some(tidy((0..dice.roll(most)).map(|_| [dice.roll(most) as u8 + 1; 32]).collect()));
    }
    if kinds {
        let mut list: Vec<u16> = (0..dice.roll(4)).map(|_| pick(dice, &[1, 7, 0, 10_002, 30_402, 300, 5, 4])).collect();
        list.sort_unstable();
        list.dedup();
        filter.kinds = Some(list);
    }
    for wanted in [tag, tag2] {
        if wanted {
            let letter = pick(dice, b"teTd");
            let values = ["", "a", "b", "c", "ham and \"eggs\" \u{e9}"];
            let from = dice.roll(5) as usize;
            let to = from + 1 + dice.roll(5 - from as u64) as usize;
            filter.tags.insert(letter, values[from..to.min(5)].iter().map(|v| (*v).to_owned()).collect());
        }
    }
    if since {
        filter.since = Some(units::Unix(NOW - dice.roll(25)));
    }
    if until {
        filter.until = Some(units::Unix(NOW - dice.roll(25)));
    }
    if limit {
        filter.limit = Some(dice.roll(12));
    }
    filter
}

/// Knows of even kinds that it may see them; of others it looks at each.
struct EvenKinds;

impl Reader for EvenKinds {
    fn may_read(&self, event: &Encoded) -> bool {
        event.kind < u16::MAX
    }

    fn may_read_all(&self, kind: u16) -> bool {
        kind.is_multiple_of(2)
    }
}

fn items(store: &dyn Store, filter: Filter) -> Vec<[u8; 32]> {
    let ask = Ask { filters: vec![filter], limit_max: u64::MAX, before: store.end(), reader: Arc::new(EvenKinds) };
    let items = store.items(ask, units::Unix(NOW), 10_000).unwrap().unwrap();
    let mut ids: Vec<[u8; 32]> = items.into_iter().map(|(_, id)| id).collect();
    ids.sort_unstable();
    ids
}

fn compare(seed: u64) {
    let mut dice = Dice(seed);
    let dir = tempfile::tempdir().unwrap();
    // Many small runs that are merged again and again, or none before the store is closed.
    let overlay = if seed.is_multiple_of(2) { 40 } else { 64 * 1024 };
    let config = StoreConfig { overlay, ..StoreConfig::new(dir.path(), clock) };
    let open = || LogStore::open(&config, Box::new(|_| ())).unwrap();
    let (mut store, mut model, mut events) = (open().0, Model::default(), Vec::new());
    for round in 0..3 {
        for _ in 0..150 {
            let event = if dice.roll(10) == 0 && !events.is_empty() {
                pick(&mut dice, &events)
            } else {
                random_event(&mut dice, &events)
            };
            assert_eq!(put(&store, &event), model.put(&event), "seed {seed}: {event:?} {:?}", event.tags);
            events.push(event);
        }
        for _ in 0..150 {
            let filters: Vec<Filter> = (0..1 + dice.roll(3)).map(|_| random_filter(&mut dice, &events)).collect();
            let expected = model.ask(&filters);
            let rows = [1, 7, 1000][dice.roll(3) as usize];
            let found: Vec<_> = ask(&store, filters.clone(), NOW, rows).iter().map(|event| event.id).collect();
            let shown: Vec<String> = filters.iter().map(Filter::to_json).collect();
            assert_eq!(found, expected, "seed {seed}, turns of {rows} rows: {shown:?}");
            let filter = Filter { limit: None, ..filters[0].clone() };
            let mut expected = model.ask(std::slice::from_ref(&filter));
            expected.sort_unstable();
            assert_eq!(items(&store, filter), expected, "seed {seed}, reconciled: {}", shown[0]);
        }
        store.close();
        drop(store);
        if round == 1 {
            std::fs::remove_dir_all(dir.path().join("index")).unwrap();
        }
        let (reopened, opened) = open();
        assert_eq!((opened.rebuilt.is_some(), opened.cut), (round == 1, None));
        store = reopened;
    }
}

#[test]
fn the_store_answers_as_a_list_would() {
    (1..=12).for_each(compare);
}

//! What every store has to do, asked of each that there is.

use std::path::Path;
use std::sync::{Arc, Mutex};

use board::store::{Commit, Known, LogStore, Outcome, Store, StoreConfig, Write};
use units::Unix;

use crate::events::{Dice, NOW, ask, clock, filter, hex, put, submit, unsigned};

type Seen = Arc<Mutex<Vec<Commit>>>;

/// A store in `dir`, and what it feeds.
fn log_store(dir: &Path) -> (Box<dyn Store>, Seen) {
    let seen = Seen::default();
    let feed = seen.clone();
    let feed = Box::new(move |commit| feed.lock().unwrap().push(commit));
    let config = StoreConfig { queue: 64, ..StoreConfig::new(dir, clock) };
    (Box::new(LogStore::open(&config, feed).unwrap().0), seen)
}

/// Runs the contract against a store.
fn on_each_store(contract: impl Fn(&dyn Store, &Seen)) {
    let dir = tempfile::tempdir().unwrap();
    let (store, seen) = log_store(dir.path());
    contract(store.as_ref(), &seen);
    store.close();
}

fn found(store: &dyn Store, json: &str) -> Vec<[u8; 32]> {
    ask(store, vec![filter(json)], NOW, 1000).iter().map(|event| event.id).collect()
}

fn tag(name: &str, value: &str) -> Vec<String> {
    vec![name.into(), value.into()]
}

#[test]
fn an_event_is_stored_once_and_found_by_all_that_it_carries() {
    on_each_store(|store, _| {
        let event = unsigned([1; 32], 1, NOW, vec![tag("t", "ham"), tag("e", &hex(&[9; 32]))], "x");
        assert_eq!(store.known(&event.id).unwrap(), None);
        assert_eq!(put(store, &event), Outcome::Stored);
        assert_eq!(put(store, &event), Outcome::Known(Known::Served));
        assert_eq!(store.known(&event.id).unwrap(), Some(Known::Served));
        let (id, author) = (hex(&event.id), hex(&event.pubkey));
        for json in [
            "{}".to_owned(),
            format!("{{\"ids\":[\"{id}\"]}}"),
            format!("{{\"authors\":[\"{author}\"]}}"),
            format!("{{\"authors\":[\"{author}\"],\"kinds\":[1]}}"),
            "{\"kinds\":[1]}".to_owned(),
            "{\"#t\":[\"ham\"]}".to_owned(),
            format!("{{\"#e\":[\"{}\"],\"#t\":[\"ham\",\"egg\"]}}", hex(&[9; 32])),
            format!("{{\"since\":{NOW},\"until\":{NOW}}}"),
        ] {
            assert_eq!(found(store, &json), [event.id], "{json}");
        }
        for json in ["{\"kinds\":[2]}", "{\"#t\":[\"egg\"]}", "{\"kinds\":[]}", "{\"limit\":0}", "{\"#T\":[\"ham\"]}"] {
            assert!(found(store, json).is_empty(), "{json}");
        }
    });
}

#[test]
fn the_newest_come_first_and_the_lowest_id_first_in_the_same_second() {
    on_each_store(|store, _| {
        let mut events: Vec<_> =
            (0..60u64).map(|i| unsigned([1; 32], 1, NOW - i / 20, vec![], &format!("{i}"))).collect();
        events.iter().for_each(|event| assert_eq!(put(store, event), Outcome::Stored));
        events.sort_by_key(|event| (u64::MAX - event.created_at.0, event.id));
        let ids: Vec<_> = events.iter().map(|event| event.id).collect();
        assert_eq!(found(store, "{}"), ids);
        assert_eq!(found(store, "{\"limit\":25}"), ids[..25]);
        assert_eq!(found(store, &format!("{{\"until\":{},\"limit\":7}}", NOW - 1)), ids[20..27]);
    });
}

#[test]
fn of_a_replaceable_event_the_latest_is_served_and_the_lowest_id_wins_a_tie() {
    on_each_store(|store, _| {
        let mut same = [unsigned([1; 32], 0, NOW, vec![], "a"), unsigned([1; 32], 0, NOW, vec![], "b")];
        same.sort_by_key(|event| std::cmp::Reverse(event.id));
        let [high, low] = &same;
        let old = unsigned([1; 32], 0, NOW - 1, vec![], "c");
        assert_eq!(put(store, high), Outcome::Stored);
        assert_eq!(put(store, low), Outcome::Stored);
        assert_eq!(found(store, "{\"kinds\":[0]}"), [low.id]);
        assert_eq!(put(store, high), Outcome::Known(Known::Superseded));
        assert_eq!(put(store, &old), Outcome::Known(Known::Superseded));
        assert_eq!(store.known(&old.id).unwrap(), None, "what was refused is not here");
        let by_id = format!("{{\"ids\":[\"{}\"]}}", hex(&high.id));
        assert_eq!(found(store, &by_id), [high.id], "older versions stay to be had by id");
    });
}

#[test]
fn an_addressable_event_is_replaced_within_its_identifier_only() {
    on_each_store(|store, _| {
        let d = |d: &str, at, content| unsigned([1; 32], 30_402, at, vec![tag("d", d)], content);
        let (a1, a2, b1) = (d("a", NOW, "1"), d("a", NOW + 1, "2"), d("b", NOW, "3"));
        let none = unsigned([1; 32], 32_500, NOW, vec![], "civkit");
        let none2 = unsigned([1; 32], 32_500, NOW + 1, vec![tag("d", "")], "civkit");
        for event in [&a1, &a2, &b1, &none, &none2] {
            assert_eq!(put(store, event), Outcome::Stored);
        }
        assert_eq!(found(store, "{\"kinds\":[30402]}"), [a2.id, b1.id]);
        assert_eq!(found(store, "{\"kinds\":[32500]}"), [none2.id], "no identifier is the empty one");
        assert_eq!(found(store, "{\"#d\":[\"a\"]}"), [a2.id]);
    });
}

#[test]
fn only_its_author_deletes_an_event_and_then_it_does_not_come_back() {
    on_each_store(|store, _| {
        let event = unsigned([1; 32], 1, NOW, vec![], "x");
        let foreign = unsigned([2; 32], 5, NOW, vec![tag("e", &hex(&event.id))], "");
        let own = unsigned([1; 32], 5, NOW, vec![tag("e", &hex(&event.id)), tag("k", "1")], "");
        assert_eq!(put(store, &event), Outcome::Stored);
        assert_eq!(put(store, &foreign), Outcome::Stored);
        assert_eq!(found(store, "{\"kinds\":[1]}"), [event.id]);
        assert_eq!(put(store, &own), Outcome::Stored);
        assert!(found(store, "{\"kinds\":[1]}").is_empty());
        assert!(found(store, &format!("{{\"ids\":[\"{}\"]}}", hex(&event.id))).is_empty());
        assert_eq!(put(store, &event), Outcome::Known(Known::Deleted));
        let undo = unsigned([1; 32], 5, NOW + 1, vec![tag("e", &hex(&own.id))], "");
        assert_eq!(put(store, &undo), Outcome::Stored);
        assert_eq!(put(store, &event), Outcome::Known(Known::Deleted), "deleting a deletion has no effect");
        assert_eq!(found(store, "{\"kinds\":[5]}").len(), 3);
    });
}

#[test]
fn a_deletion_counts_before_the_event_comes() {
    on_each_store(|store, _| {
        let event = unsigned([1; 32], 1, NOW, vec![], "x");
        put(store, &unsigned([2; 32], 5, NOW, vec![tag("e", &hex(&event.id))], "not hers"));
        let other = unsigned([3; 32], 1, NOW, vec![], "y");
        put(store, &unsigned([3; 32], 5, NOW, vec![tag("e", &hex(&other.id))], ""));
        assert_eq!(put(store, &event), Outcome::Stored);
        assert_eq!(put(store, &other), Outcome::Known(Known::Deleted));
        let address = format!("30402:{}:a", hex(&[3; 32]));
        put(store, &unsigned([3; 32], 5, NOW, vec![tag("a", &address)], ""));
        let listing = |at| unsigned([3; 32], 30_402, at, vec![tag("d", "a")], "z");
        assert_eq!(put(store, &listing(NOW)), Outcome::Known(Known::Deleted));
        assert_eq!(put(store, &listing(NOW + 1)), Outcome::Stored, "what is newer than the request is not meant");
    });
}

#[test]
fn deleting_an_address_takes_all_its_versions_up_to_then() {
    on_each_store(|store, _| {
        let listing = |at, content| unsigned([1; 32], 30_402, at, vec![tag("d", "a")], content);
        let (first, second, third) = (listing(NOW, "1"), listing(NOW + 10, "2"), listing(NOW + 30, "3"));
        put(store, &first);
        put(store, &second);
        let address = format!("30402:{}:a", hex(&[1; 32]));
        let foreign = unsigned([2; 32], 5, NOW + 20, vec![tag("a", &address)], "");
        put(store, &foreign);
        assert_eq!(found(store, "{\"kinds\":[30402]}"), [second.id]);
        put(store, &unsigned([1; 32], 5, NOW + 20, vec![tag("a", &address)], ""));
        assert!(found(store, "{\"kinds\":[30402]}").is_empty());
        assert!(found(store, &format!("{{\"ids\":[\"{}\"]}}", hex(&first.id))).is_empty(), "older versions too");
        assert_eq!(put(store, &third), Outcome::Stored);
        assert_eq!(found(store, "{\"kinds\":[30402]}"), [third.id]);
    });
}

#[test]
fn an_event_is_hidden_from_the_second_in_which_it_expires() {
    on_each_store(|store, _| {
        let event = unsigned([1; 32], 1, NOW, vec![tag("expiration", &(NOW + 10).to_string())], "x");
        let late = unsigned([1; 32], 1, NOW, vec![tag("expiration", &NOW.to_string())], "y");
        assert_eq!(put(store, &event), Outcome::Stored);
        assert_eq!(put(store, &late), Outcome::Known(Known::Expired));
        assert_eq!(ask(store, vec![filter("{}")], NOW + 9, 100).len(), 1);
        assert_eq!(ask(store, vec![filter("{}")], NOW + 10, 100).len(), 0);
    });
}

#[test]
fn ephemeral_events_are_passed_on_and_not_kept() {
    on_each_store(|store, seen| {
        let (stored, passed) = (unsigned([1; 32], 1, NOW, vec![], "a"), unsigned([1; 32], 20_001, NOW, vec![], "b"));
        assert_eq!(put(store, &passed), Outcome::Passed);
        assert_eq!(put(store, &stored), Outcome::Stored);
        assert_eq!(found(store, "{}"), [stored.id]);
        store.close();
        let seen = seen.lock().unwrap();
        let fresh: Vec<_> = seen.iter().flat_map(|c| &c.fresh).map(|f| (f.event.id, f.at.is_some())).collect();
        assert_eq!(fresh, [(passed.id, false), (stored.id, true)]);
    });
}

#[test]
fn what_the_operator_took_down_stays_down() {
    on_each_store(|store, _| {
        let (here, not_yet) = (unsigned([1; 32], 1, NOW, vec![], "a"), unsigned([1; 32], 1, NOW, vec![], "b"));
        put(store, &here);
        for id in [here.id, not_yet.id] {
            let (told, outcome) = std::sync::mpsc::sync_channel(1);
            let reply = Box::new(move |outcome| told.send(outcome).unwrap());
            store.submit(Write::Takedown { id, reason: "court order".into(), at: Unix(NOW), reply }).unwrap();
            assert_eq!(outcome.recv().unwrap(), Outcome::Stored);
        }
        assert!(found(store, "{}").is_empty());
        assert_eq!(put(store, &here), Outcome::Known(Known::TakenDown));
        assert_eq!(put(store, &not_yet), Outcome::Known(Known::TakenDown));
    });
}

#[test]
fn a_paused_answer_does_not_serve_what_was_deleted_meanwhile() {
    on_each_store(|store, _| {
        let events: Vec<_> = (0..40u64).map(|i| unsigned([1; 32], 1, NOW - i, vec![], "x")).collect();
        events.iter().for_each(|event| assert_eq!(put(store, event), Outcome::Stored));
        let ask = board::store::Ask {
            filters: vec![filter("{}")],
            limit_max: 100,
            before: store.end(),
            reader: Arc::new(|_: &board::store::Encoded| true),
        };
        let mut cursor = store.query(ask).unwrap();
        let mut out = Vec::new();
        let budget = board::store::Budget { rows: 12, bytes: 1 << 20, disk: true };
        assert!(!cursor.advance(Unix(NOW), budget, &mut out).unwrap());
        let seen = out.len();
        assert!(seen < 20, "the first turn was to end before");
        // The next but one: a store that reads ahead has it at hand by now.
        let gone = &events[seen + 1];
        put(store, &unsigned([1; 32], 5, NOW, vec![tag("e", &hex(&gone.id))], ""));
        put(store, &unsigned([1; 32], 1, NOW - 25, vec![], "came after the question"));
        while !cursor.advance(Unix(NOW), budget, &mut out).unwrap() {}
        let expected: Vec<_> = events.iter().filter(|event| event.id != gone.id).map(|event| event.id).collect();
        assert_eq!(out.iter().map(|event| event.id).collect::<Vec<_>>(), expected);
    });
}

#[test]
fn many_authors_are_found_whether_they_write_much_or_little() {
    on_each_store(|store, _| {
        // Many keys begin alike, and a few of them write two thirds of it all.
        let author = |n: u64| std::array::from_fn(|i| if i == 31 { n as u8 } else { n as u8 % 7 });
        let mut dice = Dice(5);
        let mut events = Vec::new();
        for i in 0..900 {
            let writer = if dice.roll(3) > 0 { dice.roll(4) } else { 4 + dice.roll(200) };
            let kind = [1, 7][dice.roll(2) as usize];
            events.push(unsigned(author(writer), kind, NOW - i / 3, vec![], &i.to_string()));
            assert_eq!(put(store, &events[i as usize]), Outcome::Stored);
        }
        events.sort_by_key(|event| (u64::MAX - event.created_at.0, event.id));
        for (authors, kinds, limit) in
            [(0..20, vec![1], 60), (0..20, vec![1, 7], 60), (100..120, vec![7], 8), (100..120, vec![1, 7], 60)]
        {
            let mut authors: Vec<[u8; 32]> = authors.map(author).collect();
            authors.sort_unstable();
            let wanted =
                wire::Filter { authors: Some(authors), kinds: Some(kinds), limit: Some(limit), ..Default::default() };
            let mut mine: Vec<_> = events.iter().filter(|event| wanted.matches(event)).collect();
            mine.truncate(limit as usize);
            for rows in [1, 100, 10_000] {
                let budget = board::store::Budget { rows, ..TURN };
                let (found, _) = in_turns(store, wanted.clone(), budget, |turns| {
                    if turns.is_multiple_of(5) {
                        // Something that nobody asked for goes in the midst of it.
                        let other =
                            unsigned(author(250), 1, NOW - turns - 1000 * rows as u64, vec![], &wanted.to_json());
                        assert_eq!(put(store, &other), Outcome::Stored);
                        put(store, &unsigned(author(250), 5, NOW, vec![tag("e", &hex(&other.id))], &wanted.to_json()));
                    }
                });
                assert_eq!(found, mine.iter().map(|event| event.id).collect::<Vec<_>>(), "{rows} rows");
            }
        }
    });
}

/// Asks in turns and does something after each. Gives the ids that were found, and how many turns it took.
fn in_turns(
    store: &dyn Store,
    wanted: wire::Filter,
    budget: board::store::Budget,
    mut between: impl FnMut(u64),
) -> (Vec<[u8; 32]>, u64) {
    let reader = Arc::new(|_: &board::store::Encoded| true);
    let ask = board::store::Ask { filters: vec![wanted], limit_max: 1000, before: store.end(), reader };
    let (mut cursor, mut out, mut turns) = (store.query(ask).unwrap(), Vec::new(), 1);
    while !cursor.advance(Unix(NOW), budget, &mut out).unwrap() {
        between(turns);
        turns += 1;
        assert!(turns < 10_000, "it comes to no end");
    }
    (out.iter().map(|event| event.id).collect(), turns)
}

const TURN: board::store::Budget = board::store::Budget { rows: 2000, bytes: 1 << 20, disk: true };

fn put_all(store: &dyn Store, events: &[wire::Event]) {
    for events in events.chunks(50) {
        let told: Vec<_> = events.iter().map(|event| submit(store, event)).collect();
        assert!(told.iter().all(|told| told.recv().unwrap() == Outcome::Stored));
    }
}

#[test]
fn a_long_answer_comes_to_its_end_while_others_replace_what_they_wrote() {
    on_each_store(|store, _| {
        let author = |i: u16| std::array::from_fn(|at| i.to_be_bytes()[at % 2]);
        let events: Vec<_> = (0..300).map(|i| unsigned(author(i), 1, NOW - u64::from(i), vec![], "x")).collect();
        put_all(store, &events);
        let mut version = 0;
        let mut replace = |turns| {
            assert!(turns < 100, "it comes to no end");
            version += 1;
            assert_eq!(put(store, &unsigned([0xEE; 32], 10_002, NOW + version, vec![], "")), Outcome::Stored);
        };
        let ids: Vec<_> = events.iter().map(|event| event.id).collect();
        let mut authors: Vec<_> = (0..300).map(author).collect();
        authors.sort_unstable();
        let of_authors = wire::Filter { authors: Some(authors.clone()), ..Default::default() };
        assert_eq!(in_turns(store, of_authors.clone(), TURN, &mut replace).0, ids);
        let of_kinds = wire::Filter { kinds: Some(vec![1]), ..of_authors };
        assert_eq!(in_turns(store, of_kinds, TURN, &mut replace).0, ids);
        let mut many: Vec<[u8; 32]> = (0..2000u16).map(|i| author(i + 1000)).chain(ids.iter().copied()).collect();
        many.sort_unstable();
        let of_ids = wire::Filter { ids: Some(many), ..Default::default() };
        assert_eq!(in_turns(store, of_ids, TURN, &mut replace).0, ids);
    });
}

#[test]
fn what_goes_in_the_midst_of_an_answer_is_not_given_out_any_more() {
    on_each_store(|store, _| {
        let listing = |i: u64, at: u64| unsigned([1; 32], 30_402, at, vec![tag("d", &i.to_string())], "x");
        let old: Vec<_> = (0..60).map(|i| listing(i, NOW - i)).collect();
        put_all(store, &old);
        let few = board::store::Budget { rows: 45, bytes: 1 << 20, disk: true };
        // After the first turn the later half is replaced by versions that the answer is too old for.
        let replace = |turn| {
            if turn == 1 {
                put_all(store, &(30..60).map(|i| listing(i, NOW + 1)).collect::<Vec<_>>());
            }
        };
        let (found, turns) = in_turns(store, filter("{\"kinds\":[30402]}"), few, replace);
        assert!(turns > 1);
        assert_eq!(found, old[..30].iter().map(|event| event.id).collect::<Vec<_>>());
    });
}

#[test]
fn authors_whose_keys_begin_like_those_of_many_others_are_found_soon() {
    on_each_store(|store, _| {
        let key = |i: u16| std::array::from_fn(|at| if at < 2 { 7 } else { i.to_be_bytes()[at % 2] });
        let mine: Vec<_> = (0..20).map(|i| unsigned(key(i), 1, NOW - 10_000 - u64::from(i), vec![], "x")).collect();
        put_all(store, &mine);
        let others: Vec<_> = (0..3000).map(|i| unsigned(key(1000 + i), 1, NOW - u64::from(i), vec![], "x")).collect();
        put_all(store, &others);
        let mut authors: Vec<_> = (0..20).map(key).collect();
        authors.sort_unstable();
        let wanted =
            wire::Filter { authors: Some(authors), kinds: Some(vec![1]), limit: Some(60), ..Default::default() };
        let (found, turns) = in_turns(store, wanted, board::store::Budget { rows: 200, ..TURN }, |_| ());
        assert_eq!(found, mine.iter().map(|event| event.id).collect::<Vec<_>>());
        assert!(turns < 10, "{turns} turns");
    });
}

#[test]
fn a_turn_ends_after_so_many_bytes_even_if_nothing_is_given_out() {
    on_each_store(|store, _| {
        let text = "x".repeat(20_000);
        let large: Vec<_> = (0..50).map(|i| unsigned([1; 32], 1, NOW - i, vec![tag("t", "ham")], &text)).collect();
        put_all(store, &large);
        let wanted = filter(&format!("{{\"authors\":[\"{}\"],\"#t\":[\"egg\"],\"kinds\":[1]}}", hex(&[1; 32])));
        let (found, turns) = in_turns(store, wanted, board::store::Budget { bytes: 100_000, ..TURN }, |_| ());
        assert!(found.is_empty());
        assert!((10..15).contains(&turns), "{turns} turns for 1 MB in turns of 100 kB");
    });
}

#[test]
fn what_a_reader_may_not_see_does_not_use_up_the_limit() {
    on_each_store(|store, _| {
        let events: Vec<_> = (0..30u16).map(|i| unsigned([1; 32], i % 3, NOW - u64::from(i), vec![], "x")).collect();
        let last = |kind: u16| events.iter().filter(|event| event.kind == kind).count().min(4);
        events.iter().for_each(|event| {
            put(store, event);
        });
        let ask = board::store::Ask {
            filters: vec![filter("{\"limit\":4}")],
            limit_max: 100,
            before: store.end(),
            reader: Arc::new(|event: &board::store::Encoded| event.kind == 2),
        };
        let mut out = Vec::new();
        let budget = board::store::Budget { rows: 1000, bytes: 1 << 20, disk: true };
        assert!(store.query(ask).unwrap().advance(Unix(NOW), budget, &mut out).unwrap());
        assert_eq!(out.len(), last(2));
    });
}

#[test]
fn a_closed_store_takes_nothing_more() {
    on_each_store(|store, _| {
        store.close();
        let (told, _outcome) = std::sync::mpsc::sync_channel(1);
        let reply = Box::new(move |outcome| told.send(outcome).unwrap());
        let write = Write::Takedown { id: [0; 32], reason: String::new(), at: Unix(0), reply };
        assert!(store.submit(write).is_err());
    });
}

#[test]
fn what_is_submitted_waits_for_those_who_gather_but_not_for_ever() {
    on_each_store(|store, _| {
        let note = |i: u64| unsigned([1; 32], 1, NOW - i, vec![], "x");
        let gathering = [store.gather(), store.gather()];
        let first = submit(store, &note(0));
        drop(gathering);
        assert_eq!(first.recv().unwrap(), Outcome::Stored);
        let _for_ever = store.gather();
        let first = submit(store, &note(1));
        // So many that the queue is full more than once, though somebody gathers all the time.
        for i in 2..200 {
            submit(store, &note(i));
        }
        assert_eq!(first.recv().unwrap(), Outcome::Stored);
    });
}

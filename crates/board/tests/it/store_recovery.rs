//! What a store makes of files that a crash, a bad disk or an operator left behind.

use std::fs;
use std::path::{Path, PathBuf};

use board::store::{LogError, LogStore, Opened, Outcome, Store, StoreConfig, StoreError};
use wire::Event;

use crate::events::{NOW, ask, clock, filter, put, unsigned};

fn open(dir: &Path) -> Result<(LogStore, Opened), StoreError> {
    LogStore::open(&StoreConfig::new(dir, clock), Box::new(|_| ()))
}

fn found(store: &LogStore) -> Vec<[u8; 32]> {
    ask(store, vec![filter("{}")], NOW, 1000).iter().map(|event| event.id).collect()
}

/// A store with `count` events, one batch each, and where the log ended after each.
fn filled(dir: &Path, count: u64) -> (Vec<Event>, Vec<u64>) {
    let (store, _) = open(dir).unwrap();
    let tag = |i: u64| vec![vec!["t".to_owned(), format!("{}", i % 2)]];
    let events: Vec<Event> = (0..count).map(|i| unsigned([1; 32], 1, NOW - i, tag(i), "x")).collect();
    let ends = events
        .iter()
        .map(|event| {
            assert_eq!(put(&store, event), Outcome::Stored);
            store.stats().log_bytes
        })
        .collect();
    (events, ends)
}

pub(crate) fn log(dir: &Path) -> PathBuf {
    dir.join("00000000000000000000.log")
}

pub(crate) fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target)
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

fn ids(events: &[Event]) -> Vec<[u8; 32]> {
    events.iter().map(|event| event.id).collect()
}

/// Changes a copy of `from` by `change`, opens it and looks at it.
fn after(from: &Path, change: impl FnOnce(&Path), look: impl FnOnce(Result<(LogStore, Opened), StoreError>, &Path)) {
    let dir = tempfile::tempdir().unwrap();
    copy(from, dir.path());
    change(dir.path());
    look(open(dir.path()), dir.path());
}

pub(crate) fn truncate(path: &Path, len: u64) {
    fs::OpenOptions::new().write(true).open(path).unwrap().set_len(len).unwrap();
}

fn flip(path: &Path, at: u64) {
    let mut bytes = fs::read(path).unwrap();
    bytes[at as usize] ^= 0x10;
    fs::write(path, bytes).unwrap();
}

#[test]
fn a_log_that_ends_anywhere_in_its_last_frame_is_cut_to_the_frame_before() {
    let dir = tempfile::tempdir().unwrap();
    let (events, ends) = filled(dir.path(), 4);
    // Finer steps are in the log's own tests; here the index comes into it.
    let (first, last) = (ends[2], ends[3]);
    let bytes = fs::read(log(dir.path())).unwrap();
    for end in (first..last).step_by(37).chain([first + 1, first + 71, first + 72, last - 1, last]) {
        let whole = end == ends[3];
        let truncated = |dir: &Path| truncate(&log(dir), end);
        after(dir.path(), truncated, |opened, at| {
            let (store, opened) = opened.unwrap();
            let kept = if whole { 4 } else { 3 };
            // Zeros at the end are no leavings.
            let end = bytes[..end as usize].iter().rposition(|byte| *byte != 0).unwrap() as u64 + 1;
            assert_eq!(found(&store), ids(&events[..kept]), "cut at {end}");
            assert_eq!(opened.rebuilt.is_some(), !whole, "an index that is ahead of the log is not believed");
            assert_eq!(
                opened.cut.as_ref().map(|cut| (cut.at, cut.bytes)),
                (end > ends[2] && !whole).then(|| (ends[2], end - ends[2]))
            );
            if let Some(cut) = opened.cut {
                assert_eq!(fs::metadata(&cut.saved).unwrap().len(), cut.bytes, "what was cut is kept aside");
            }
            // What is written from here on is found after the next start.
            assert_eq!(
                put(&store, &events[3]),
                if whole { Outcome::Known(board::store::Known::Served) } else { Outcome::Stored }
            );
            drop(store);
            let (store, opened) = open(at).unwrap();
            assert_eq!((found(&store), opened.rebuilt, opened.cut), (ids(&events), None, None));
        });
    }
}

#[test]
fn a_log_that_was_not_closed_ends_in_zeros_and_goes_on_where_it_ended() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = open(dir.path()).unwrap();
    let events: Vec<Event> = (0..4).map(|i| unsigned([1; 32], 1, NOW - i, vec![], "x")).collect();
    events[..3].iter().for_each(|event| assert_eq!(put(&store, event), Outcome::Stored));
    let end = store.stats().log_bytes;
    let killed = tempfile::tempdir().unwrap();
    copy(dir.path(), killed.path());
    assert!(fs::metadata(log(killed.path())).unwrap().len() > end);
    drop(store);
    assert_eq!(fs::metadata(log(dir.path())).unwrap().len(), end, "closed in order, it ends with its last frame");
    let (store, opened) = open(killed.path()).unwrap();
    assert_eq!((opened.cut, opened.frames, store.stats().log_bytes), (None, 3, end));
    assert_eq!(put(&store, &events[3]), Outcome::Stored);
    drop(store);
    let (store, opened) = open(killed.path()).unwrap();
    assert_eq!((found(&store), opened.cut), (ids(&events), None));
}

#[test]
fn a_flipped_bit_in_the_last_frame_cuts_it_and_in_an_earlier_one_stops_the_start() {
    let dir = tempfile::tempdir().unwrap();
    let (events, ends) = filled(dir.path(), 4);
    let no_index = |dir: &Path| fs::remove_dir_all(dir.join("index")).unwrap();
    for at in (ends[2]..ends[3]).step_by(7) {
        after(
            dir.path(),
            |dir| {
                flip(&log(dir), at);
                no_index(dir)
            },
            |opened, _| {
                let (store, opened) = opened.unwrap();
                assert_eq!(found(&store), ids(&events[..3]), "flipped at {at}");
                assert_eq!(opened.cut.unwrap().at, ends[2]);
            },
        );
    }
    for at in (ends[0]..ends[1]).step_by(7) {
        after(
            dir.path(),
            |dir| {
                flip(&log(dir), at);
                no_index(dir)
            },
            |opened, at_dir| {
                match opened {
                    Err(StoreError::Log(LogError::Damaged { at: where_, .. })) => assert_eq!(where_, ends[0]),
                    other => panic!("flipped at {at}: {:?}", other.map(|(_, opened)| opened)),
                }
                assert_eq!(fs::metadata(log(at_dir)).unwrap().len(), ends[3], "nothing is cut");
            },
        );
    }
}

#[test]
fn a_rotten_frame_behind_the_index_is_left_out_and_counted() {
    let dir = tempfile::tempdir().unwrap();
    let (events, ends) = filled(dir.path(), 4);
    after(
        dir.path(),
        |dir| flip(&log(dir), ends[0] + 200),
        |opened, _| {
            let (store, opened) = opened.unwrap();
            assert_eq!((opened.rebuilt, opened.cut), (None, None));
            assert_eq!(found(&store), ids(&[events[0].clone(), events[2].clone(), events[3].clone()]));
            assert_eq!(store.stats().damaged_reads, 1);
        },
    );
}

#[test]
fn an_index_that_is_missing_behind_damaged_or_of_another_log_is_made_good() {
    let dir = tempfile::tempdir().unwrap();
    let (mut events, _) = filled(dir.path(), 3);
    let behind = tempfile::tempdir().unwrap();
    copy(dir.path(), behind.path());
    let (store, _) = open(dir.path()).unwrap();
    for i in 3..6 {
        events.push(unsigned([1; 32], 1, NOW - i, vec![], "x"));
        put(&store, &events[i as usize]);
    }
    drop(store);
    let foreign = tempfile::tempdir().unwrap();
    drop(filled(foreign.path(), 0));
    let (store, _) = open(foreign.path()).unwrap();
    put(&store, &unsigned([7; 32], 1, NOW, vec![], "y"));
    drop(store);
    let swap = |from: PathBuf| {
        move |dir: &Path| {
            fs::remove_dir_all(dir.join("index")).unwrap();
            copy(&from, &dir.join("index"));
        }
    };
    let look = |rebuilt: bool, caught_up: u64| {
        let events = &events;
        move |opened: Result<(LogStore, Opened), StoreError>, _: &Path| {
            let (store, opened) = opened.unwrap();
            assert_eq!((opened.rebuilt.is_some(), opened.caught_up), (rebuilt, caught_up), "{opened:?}");
            assert_eq!(found(&store), ids(events));
        }
    };
    after(dir.path(), |_| (), look(false, 0));
    after(dir.path(), swap(behind.path().join("index")), look(false, 3));
    after(dir.path(), swap(foreign.path().join("index")), look(true, 6));
    after(dir.path(), |dir| fs::remove_dir_all(dir.join("index")).unwrap(), look(true, 6));
    let run = |dir: &Path| {
        let files = fs::read_dir(dir.join("index")).unwrap().map(|entry| entry.unwrap().path());
        files.filter(|path| path.extension().is_some_and(|end| end == "run")).max().unwrap()
    };
    after(dir.path(), |dir| truncate(&run(dir), 100), look(true, 6));
    after(dir.path(), |dir| fs::write(run(dir), vec![0xa5; 100_000]).unwrap(), look(true, 6));
    after(dir.path(), |dir| fs::remove_file(run(dir)).unwrap(), look(true, 6));
    let manifest = |text: &'static str| move |dir: &Path| fs::write(dir.join("index/manifest"), text).unwrap();
    after(dir.path(), manifest("nonsense"), look(true, 6));
    after(dir.path(), manifest("{\"schema\":1}"), look(true, 6));
    // A block that rots later is met by a reader, who is told, and the next start makes it good.
    after(
        dir.path(),
        |dir| flip(&run(dir), 20),
        |opened, at| {
            let (store, opened) = opened.unwrap();
            assert_eq!(opened.rebuilt, None);
            let everything = board::store::Ask {
                filters: vec![filter("{}")],
                limit_max: 1000,
                before: u64::MAX,
                reader: std::sync::Arc::new(|_: &board::store::Encoded| true),
            };
            let budget = board::store::Budget { rows: 1000, bytes: 1 << 20, disk: true };
            let answer = store.query(everything).unwrap().advance(units::Unix(NOW), budget, &mut Vec::new());
            assert!(matches!(answer, Err(StoreError::IndexDamaged(_))), "{answer:?}");
            drop(store);
            look(true, 6)(open(at), at);
        },
    );
}

#[test]
fn the_log_goes_on_in_a_new_segment_and_all_of_it_is_found() {
    let dir = tempfile::tempdir().unwrap();
    let config = StoreConfig { segment_bytes: 2000, ..StoreConfig::new(dir.path(), clock) };
    let events: Vec<Event> = (0..30).map(|i| unsigned([1; 32], 1, NOW - i, vec![], "x")).collect();
    for half in [&events[..15], &events[15..]] {
        let (store, opened) = LogStore::open(&config, Box::new(|_| ())).unwrap();
        assert_eq!((opened.rebuilt.is_some(), opened.cut), (half[0] == events[0], None));
        half.iter().for_each(|event| assert_eq!(put(&store, event), Outcome::Stored));
    }
    let segments = || {
        let mut names: Vec<String> =
            fs::read_dir(dir.path()).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        names.retain(|name| name.ends_with(".log"));
        names.sort();
        names
    };
    assert!(segments().len() > 3);
    fs::remove_dir_all(dir.path().join("index")).unwrap();
    let (store, opened) = open(dir.path()).unwrap();
    assert_eq!((found(&store), opened.caught_up), (ids(&events), 30));
    drop(store);
    // The last thing before a crash was the making of a segment.
    let end: u64 = store_end(dir.path(), &segments());
    fs::write(dir.path().join(format!("{end:020}.log")), b"SOUKLOG2 torn").unwrap();
    let (store, _) = open(dir.path()).unwrap();
    assert_eq!(found(&store), ids(&events));
    drop(store);
    fs::remove_file(dir.path().join(&segments()[1])).unwrap();
    assert!(matches!(open(dir.path()), Err(StoreError::Log(LogError::Damaged { .. }))), "a segment is missing");
}

fn store_end(dir: &Path, segments: &[String]) -> u64 {
    let last = segments.last().unwrap();
    last[..20].parse::<u64>().unwrap() + fs::metadata(dir.join(last)).unwrap().len()
}

#[test]
fn a_folder_is_used_by_one_board_at_a_time() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = open(dir.path()).unwrap();
    assert!(matches!(open(dir.path()), Err(StoreError::Log(LogError::Locked(_)))));
    drop(store);
    assert!(open(dir.path()).is_ok());
}

//! What can only be seen from inside: failing disks, torn batches, and that a rebuilt index is the index.

use std::fs;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, sync_channel};

use credential::{KeysetId, Stamp};
use units::Unix;
use wire::{Event, RawEvent, Unsigned};

use super::frame::Batch;
use super::log::{Appender, Cut, Log, LogError, Mark};
use super::logstore::Inner;
use super::*;

fn clock() -> Unix {
    Unix(1000)
}

fn event(n: u64, kind: u16, tags: &[(&str, &str)]) -> Event {
    let tags = tags.iter().map(|(name, value)| vec![(*name).to_owned(), (*value).to_owned()]).collect();
    let unsigned = Unsigned { pubkey: [1; 32], created_at: Unix(n), kind, tags, content: format!("event {n}") };
    let id = unsigned.id();
    let Unsigned { pubkey, created_at, kind, tags, content } = unsigned;
    Event { id, pubkey, created_at, kind, tags, content, sig: [0; 64] }
}

/// An event that expires.
pub(super) fn expiring(n: u64, expiration: u64) -> Admitted {
    let json = event(n, 1, &[("expiration", &expiration.to_string())]).to_json();
    Admitted::new(&RawEvent::parse(json.as_bytes(), &STORED).unwrap(), clock())
}

/// A stamp of credential number `n`; the store does not ask whether it is good.
fn stamp(n: u64) -> Stamp {
    Stamp { keyset: KeysetId([1; 8]), secret: [n as u8; 32], mac: [2; 32] }
}

fn submit(store: &LogStore, event: &Event) -> Receiver<Outcome> {
    spend(store, event, None)
}

fn spend(store: &LogStore, event: &Event, credential: Option<Stamp>) -> Receiver<Outcome> {
    let json = event.to_json();
    let raw = RawEvent::parse(json.as_bytes(), &STORED).unwrap();
    let admitted = Admitted::new(&raw, clock());
    let admitted = match credential {
        None => admitted,
        Some(stamp) => admitted.spending(stamp),
    };
    let (told, outcome) = sync_channel(1);
    let reply = Box::new(move |outcome| told.send(outcome).unwrap());
    store.submit(Write::Event { admitted, reply }).unwrap();
    outcome
}

fn count(store: &LogStore) -> usize {
    let filters = vec![wire::Filter::default()];
    let ask = Ask { filters, limit_max: 1000, before: u64::MAX, reader: Arc::new(|_: &Encoded| true) };
    let mut out: Vec<Arc<Encoded>> = Vec::new();
    let budget = Budget { rows: 10_000, bytes: 1 << 20, disk: true };
    assert!(store.query(ask).unwrap().advance(clock(), budget, &mut out).unwrap());
    out.len()
}

/// A store whose disk syncs by `sync`.
fn store_with(dir: &Path, sync: fn(&fs::File) -> io::Result<()>) -> LogStore {
    let config = StoreConfig::new(dir, clock);
    let (inner, mark, _) = Inner::open(&config).unwrap();
    let inner = Arc::new(inner);
    let mut appender = Appender::new(inner.log.clone(), mark, config.segment_bytes);
    appender.sync = sync;
    LogStore::start(inner, appender, &config, Box::new(|_| ())).unwrap()
}

#[test]
fn when_the_disk_does_not_sync_nothing_is_acknowledged_any_more_and_reads_go_on() {
    let dir = tempfile::tempdir().unwrap();
    let store = store_with(dir.path(), fs::File::sync_data);
    assert_eq!(submit(&store, &event(1, 1, &[])).recv().unwrap(), Outcome::Stored);
    drop(store);
    let store = store_with(dir.path(), |_| Err(io::Error::other("medium error")));
    for n in 2..4 {
        let outcome = submit(&store, &event(n, 1, &[])).recv().unwrap();
        assert!(matches!(&outcome, Outcome::Failed(why) if why.contains("medium error")), "{outcome:?}");
    }
    assert!(store.fault().is_some());
    assert_eq!(count(&store), 1, "what was not acknowledged is not served");
    std::thread::sleep(std::time::Duration::from_millis(10));
    assert!(store.fault().is_some(), "and no room on the disk mends that");
    drop(store);
    let store = store_with(dir.path(), fs::File::sync_data);
    assert_eq!(submit(&store, &event(3, 1, &[])).recv().unwrap(), Outcome::Stored, "a restart mends it");
}

#[test]
fn an_index_built_from_the_log_is_the_one_that_grew_with_it() {
    let dir = tempfile::tempdir().unwrap();
    let store = store_with(dir.path(), fs::File::sync_data);
    let deleted = event(5, 1, &[("t", "a")]);
    let pubkey = units::hex32(&[1; 32]);
    let address = format!("30402:{pubkey}:a");
    for event in [
        deleted.clone(),
        event(6, 0, &[]),
        event(7, 0, &[]),
        event(8, 30_402, &[("d", "a"), ("t", "b")]),
        event(9, 30_402, &[("d", "a"), ("t", "c"), ("expiration", "5000")]),
        event(10, 5, &[("e", &units::hex32(&deleted.id)), ("a", &address)]),
        event(11, 30_402, &[("d", "a"), ("t", "b"), ("t", "b")]),
        event(12, 5, &[("e", &"ab".repeat(32))]),
        event(8, 62, &[("relay", "ALL_RELAYS")]),
    ] {
        assert_eq!(submit(&store, &event).recv().unwrap(), Outcome::Stored);
    }
    assert_eq!(spend(&store, &event(20, 1, &[]), Some(stamp(1))).recv().unwrap(), Outcome::Stored);
    assert_eq!(
        spend(&store, &event(21, 1, &[]), Some(stamp(1))).recv().unwrap(),
        Outcome::Spent { by: event(20, 1, &[]).id }
    );
    let (told, outcome) = sync_channel(1);
    let reply = Box::new(move |outcome| told.send(outcome).unwrap());
    let id = event(12, 5, &[("e", &"ab".repeat(32))]).id;
    store.submit(Write::Takedown { id, reason: "test".into(), at: clock(), reply }).unwrap();
    outcome.recv().unwrap();
    let grown = store.inner_for_tests().index.dump();
    drop(store);
    fs::remove_dir_all(dir.path().join("index")).unwrap();
    let (inner, _, opened) = Inner::open(&StoreConfig::new(dir.path(), clock)).unwrap();
    assert!(opened.rebuilt.is_some());
    assert_eq!(opened.caught_up, 11);
    assert_eq!(inner.index.dump(), grown);
}

fn append(log: &Arc<Log>, mark: Mark, batch_of: &[u64]) -> Mark {
    let mut appender = Appender::new(log.clone(), mark, u64::MAX);
    let mut batch: Batch = appender.batch().unwrap();
    for n in batch_of {
        batch.push_event(&Encoded::of(&event(*n, 1, &[])), Some(&stamp(*n)), b"leaf", clock()).unwrap();
    }
    appender.write(&mut batch).unwrap()
}

/// A log of a batch of one and a batch of three; where the second starts; and its file.
fn two_batches(dir: &Path) -> (u64, Vec<u8>) {
    let log = Arc::new(Log::open(dir).unwrap());
    let first = append(&log, Mark::START, &[1]);
    append(&log, first, &[2, 3, 4]);
    (first.end, fs::read(dir.join("00000000000000000000.log")).unwrap())
}

/// Where the zeros begin with which a log ends.
fn frames_end(bytes: &[u8]) -> usize {
    bytes.iter().rposition(|byte| *byte != 0).unwrap() + 1
}

fn recover(bytes: &[u8]) -> Result<(Mark, Option<Cut>), LogError> {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("00000000000000000000.log"), bytes).unwrap();
    Log::open(dir.path())?.recover(&Mark::START)
}

#[test]
fn a_batch_is_kept_whole_or_not_at_all() {
    let dir = tempfile::tempdir().unwrap();
    let (second, bytes) = two_batches(dir.path());
    assert_eq!(recover(&bytes).unwrap().0.seq, 4);
    let frames = frames_end(&bytes);
    for end in (second as usize..frames).step_by(5) {
        let (mark, cut) = recover(&bytes[..end]).unwrap();
        assert_eq!((mark.seq, mark.end), (1, second), "ends at {end}");
        // Zeros at the end are no leavings.
        assert_eq!(cut.map(|cut| cut.bytes).unwrap_or(0), frames_end(&bytes[..end]) as u64 - second);
    }
}

#[test]
fn zeros_behind_the_frames_are_no_leavings_and_are_written_over() {
    let dir = tempfile::tempdir().unwrap();
    let (second, bytes) = two_batches(dir.path());
    let frames = frames_end(&bytes);
    assert_eq!(bytes.len(), second as usize + (1 << 20), "behind the first batch, for the second to be written over");
    let (mark, cut) = recover(&bytes).unwrap();
    assert_eq!((mark.seq, mark.end, cut), (4, frames as u64, None));
    // The end of the second batch never reached the disk, and there are zeros in its place.
    for lost in (1..frames - second as usize).step_by(41) {
        let mut torn = bytes.clone();
        torn[frames - lost..frames].fill(0);
        let (mark, cut) = recover(&torn).unwrap();
        assert_eq!((mark.seq, mark.end), (1, second), "{lost} bytes lost");
        assert!(cut.is_some_and(|cut| cut.at == second && cut.bytes <= (frames - lost) as u64 - second));
    }
    // What was acknowledged before the second batch began is rot when it is zeros.
    let mut rotten = bytes;
    rotten[64..second as usize].fill(0);
    assert!(matches!(recover(&rotten), Err(LogError::Damaged { at: 64, .. })));
}

#[test]
fn pages_of_one_batch_that_reached_the_disk_out_of_order_are_a_tear_and_not_rot() {
    let dir = tempfile::tempdir().unwrap();
    let (second, mut bytes) = two_batches(dir.path());
    // The second batch's first frame never reached the disk, its later ones did.
    bytes[second as usize..second as usize + 100].fill(0);
    let (mark, cut) = recover(&bytes).unwrap();
    assert_eq!((mark.seq, cut.unwrap().at), (1, second));
    // But what was acknowledged before a later batch began is rot when it is damaged.
    let dir = tempfile::tempdir().unwrap();
    let (_, mut bytes) = two_batches(dir.path());
    bytes[100] ^= 1;
    assert!(matches!(recover(&bytes), Err(LogError::Damaged { .. })));
}

#[test]
fn a_frame_that_was_rewritten_with_a_fresh_checksum_breaks_the_chain() {
    let dir = tempfile::tempdir().unwrap();
    let (_, mut bytes) = two_batches(dir.path());
    let text = b"event 1";
    let at = bytes.windows(text.len()).position(|window| window == text).unwrap();
    bytes[at + 6] = b'9';
    let len = frame::length(&bytes[64..]).unwrap();
    let head = crc32c::crc32c(&bytes[64..64 + 68]);
    let crc = crc32c::crc32c_append(head, &bytes[64 + frame::HEADER..64 + len]);
    bytes[64 + 68..64 + 72].copy_from_slice(&crc.to_le_bytes());
    assert!(frame::Frame::read(&bytes[64..]).is_ok());
    assert!(matches!(recover(&bytes), Err(LogError::Damaged { why: BadFrame::Chain, at: 64, .. })));
}

#[test]
fn turns_that_do_not_wait_for_the_disk_give_the_same_answer() {
    let dir = tempfile::tempdir().unwrap();
    let config = StoreConfig { overlay: 200, ..StoreConfig::new(dir.path(), clock) };
    let open = || LogStore::open(&config, Box::new(|_| ())).unwrap().0;
    let store = open();
    for n in 0..200 {
        let d = (n % 150).to_string();
        let event = event(n, [1, 7, 30_402][n as usize % 3], &[("t", "a"), ("d", &d)]);
        assert_eq!(submit(&store, &event).recv().unwrap(), Outcome::Stored);
    }
    drop(store);
    let replaced = event(2, 30_402, &[("t", "a"), ("d", "2")]).id;
    let wants = [
        "{}".to_owned(),
        r##"{"kinds":[1,7],"limit":70}"##.to_owned(),
        r##"{"kinds":[30402],"#t":["a"]}"##.to_owned(),
        format!(
            r#"{{"ids":["{}","{}"]}}"#,
            units::hex32(&replaced),
            units::hex32(&event(3, 1, &[("t", "a"), ("d", "3")]).id)
        ),
        r#"{"search":"event","kinds":[30402]}"#.to_owned(),
    ];
    for wanted in &wants {
        let wanted = wire::Filter::parse(wanted.as_bytes(), &wire::FilterLimits::DEFAULT).unwrap();
        let ask =
            Ask { filters: vec![wanted], limit_max: 1000, before: u64::MAX, reader: Arc::new(|_: &Encoded| true) };
        let mut answers: Vec<Vec<Arc<Encoded>>> = Vec::new();
        for cold in [0, 1, 2, 3] {
            disk::COLD.set(cold);
            // Opened anew, so that nothing is in the caches.
            let store = open();
            let (mut cursor, mut out, mut done) = (store.query(ask.clone()).unwrap(), Vec::new(), false);
            while !done {
                for disk in [false, true] {
                    let budget = Budget { rows: if disk { 5 } else { 1000 }, bytes: 1 << 20, disk };
                    done = done || cursor.advance(clock(), budget, &mut out).unwrap();
                }
            }
            answers.push(out);
        }
        assert!(!answers[0].is_empty());
        assert!(answers.iter().all(|answer| *answer == answers[0]));
    }
    disk::COLD.set(0);
}

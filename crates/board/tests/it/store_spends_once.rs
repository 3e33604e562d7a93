//! A credential is spent for one event, whatever happens to the store in between.

use std::fs;
use std::sync::mpsc::{Receiver, sync_channel};

use board::store::{Admitted, Encoded, Known, LogStore, Opened, Outcome, Store, StoreConfig, Write};
use credential::{KeysetId, Stamp};
use proptest::prelude::*;
use tempfile::TempDir;
use wire::Event;

use crate::events::{NOW, clock, put, tags, unsigned};
use crate::store_recovery::{log, truncate};

/// Credential number `n`, shown for `event`. The store does not ask whether it is good.
fn stamp(n: u8, event: &Event) -> Stamp {
    Stamp { keyset: KeysetId([1; 8]), secret: [n; 32], mac: event.id }
}

fn event(n: u8) -> Event {
    unsigned([1; 32], 1, NOW - u64::from(n), vec![], "x")
}

fn submit(store: &LogStore, event: &Event, credential: u8) -> Receiver<Outcome> {
    let encoded = Encoded::of(event);
    let admitted = Admitted::new(&encoded.raw().unwrap(), clock()).spending(stamp(credential, event));
    let (told, outcome) = sync_channel(1);
    store.submit(Write::Event { admitted, reply: Box::new(move |outcome| told.send(outcome).unwrap()) }).unwrap();
    outcome
}

fn spend(store: &LogStore, event: &Event, credential: u8) -> Outcome {
    submit(store, event, credential).recv().unwrap()
}

fn open(dir: &TempDir) -> (LogStore, Opened) {
    // Small runs, so that what was spent is soon in a file.
    let config = StoreConfig { overlay: 40, ..StoreConfig::new(dir.path(), clock) };
    LogStore::open(&config, Box::new(|_| ())).unwrap()
}

#[test]
fn the_second_event_is_told_which_was_the_first() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = open(&dir);
    let (first, second) = (event(1), event(2));
    assert_eq!(spend(&store, &first, 1), Outcome::Stored);
    assert_eq!(spend(&store, &second, 1), Outcome::Spent { by: first.id });
    assert_eq!(spend(&store, &second, 2), Outcome::Stored, "it is not held against the event");
    assert_eq!(put(&store, &event(3)), Outcome::Stored, "nor asked of one that came without");
}

#[test]
fn what_is_not_stored_burns_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = open(&dir);
    let profile = |at| unsigned([1; 32], 0, at, vec![], "x");
    let expired = unsigned([1; 32], 1, NOW, tags(&[&["expiration", "1000"]]), "x");
    let deleted = event(9);
    let deletion = unsigned([1; 32], 5, NOW, tags(&[&["e", &units::hex32(&deleted.id)]]), "");
    assert_eq!((put(&store, &event(1)), put(&store, &profile(NOW))), (Outcome::Stored, Outcome::Stored));
    assert_eq!(put(&store, &deletion), Outcome::Stored);
    for (event, outcome) in [
        (event(1), Outcome::Known(Known::Served)),
        (profile(NOW - 1), Outcome::Known(Known::Superseded)),
        (expired, Outcome::Known(Known::Expired)),
        (deleted, Outcome::Known(Known::Deleted)),
        (unsigned([1; 32], 20_001, NOW, vec![], "x"), Outcome::Passed),
        (event(2), Outcome::Stored),
    ] {
        assert_eq!(spend(&store, &event, 1), outcome);
    }
}

#[test]
fn an_event_that_is_gone_leaves_its_credential_spent() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = open(&dir);
    let profile = |at| unsigned([1; 32], 0, at, vec![], "x");
    let (old, gone) = (profile(NOW - 1), event(1));
    let deletion = unsigned([1; 32], 5, NOW, tags(&[&["e", &units::hex32(&gone.id)]]), "");
    assert_eq!((spend(&store, &old, 1), spend(&store, &gone, 2)), (Outcome::Stored, Outcome::Stored));
    assert_eq!((put(&store, &profile(NOW)), put(&store, &deletion)), (Outcome::Stored, Outcome::Stored));
    drop(store);
    fs::remove_dir_all(dir.path().join("index")).unwrap();
    let (store, opened) = open(&dir);
    assert!(opened.rebuilt.is_some());
    assert_eq!(spend(&store, &event(2), 1), Outcome::Spent { by: old.id });
    assert_eq!(spend(&store, &event(2), 2), Outcome::Spent { by: gone.id });
}

#[derive(Clone, Debug)]
enum Step {
    /// An event with a credential.
    Spend(u8, u8),
    /// Two at once.
    Both((u8, u8), (u8, u8)),
    /// Closed in order and opened again.
    Restart,
    /// What was in memory only is lost.
    Crash,
    /// The same, and so are the last bytes of the log.
    Tear(u64),
    /// The index is lost.
    Rebuild,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let pair = || (0..12u8, 0..6u8);
    let step = prop_oneof![
        8 => pair().prop_map(|(event, credential)| Step::Spend(event, credential)),
        4 => (pair(), pair()).prop_map(|(one, two)| Step::Both(one, two)),
        1 => Just(Step::Restart),
        1 => Just(Step::Crash),
        1 => (1..700u64).prop_map(Step::Tear),
        1 => Just(Step::Rebuild),
    ];
    prop::collection::vec(step, 1..40)
}

/// The log as a list of events and what was spent for them.
#[derive(Default)]
struct Model(Vec<(u8, u8)>);

impl Model {
    fn spend(&mut self, number: u8, credential: u8) -> Outcome {
        if self.0.iter().any(|(event, _)| *event == number) {
            return Outcome::Known(Known::Served);
        }
        if let Some((first, _)) = self.0.iter().find(|(_, spent)| *spent == credential) {
            return Outcome::Spent { by: event(*first).id };
        }
        self.0.push((number, credential));
        Outcome::Stored
    }
}

/// The folder as a crash leaves it while the store is open. Files of the index may go while they are copied.
fn crashed(dir: &TempDir) -> TempDir {
    let left = tempfile::tempdir().unwrap();
    fs::create_dir(left.path().join("index")).unwrap();
    fs::copy(log(dir.path()), log(left.path())).unwrap();
    for file in fs::read_dir(dir.path().join("index")).unwrap() {
        let file = file.unwrap();
        match fs::copy(file.path(), left.path().join("index").join(file.file_name())) {
            Err(why) if why.kind() != std::io::ErrorKind::NotFound => panic!("{why}"),
            _ => {}
        }
    }
    left
}

fn follow(steps: Vec<Step>) {
    let (mut dir, mut model) = (tempfile::tempdir().unwrap(), Model::default());
    let mut store = open(&dir).0;
    for step in steps {
        match step {
            Step::Spend(number, credential) => {
                assert_eq!(spend(&store, &event(number), credential), model.spend(number, credential));
            }
            Step::Both(one, two) => {
                let told = [one, two].map(|(number, credential)| submit(&store, &event(number), credential));
                let told = told.map(|outcome| outcome.recv().unwrap());
                assert_eq!(told, [one, two].map(|(number, credential)| model.spend(number, credential)));
            }
            Step::Restart => {
                drop(store);
                store = open(&dir).0;
            }
            Step::Crash => {
                let left = crashed(&dir);
                store = open(&left).0;
                dir = left;
            }
            Step::Tear(bytes) => {
                let left = crashed(&dir);
                truncate(&log(left.path()), store.end().saturating_sub(bytes).max(64));
                let (torn, opened) = open(&left);
                (dir, store) = (left, torn);
                assert!(opened.frames < model.0.len().max(1) as u64, "a frame was torn");
                model.0.truncate(usize::try_from(opened.frames).unwrap());
            }
            Step::Rebuild => {
                drop(store);
                fs::remove_dir_all(dir.path().join("index")).unwrap();
                store = open(&dir).0;
            }
        }
    }
    for credential in 0..6 {
        let fresh = 100 + credential;
        assert_eq!(spend(&store, &event(fresh), credential), model.spend(fresh, credential));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn a_credential_never_is_spent_for_two_events(steps in steps()) {
        follow(steps);
    }
}

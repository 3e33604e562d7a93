//! Requests to vanish (NIP-62), and what the recipient of a gift wrap may delete (NIP-59).

use board::admission::{KindPolicy, Policy};
use board::store::{Known, LogStore, Outcome, StoreConfig};

use crate::client::{Client, board, ids, now};
use crate::events::{NOW, ask, clock, filter, hex, pubkey, put, signed};

const DELETED: Outcome = Outcome::Known(Known::Deleted);

fn open(dir: &tempfile::TempDir) -> LogStore {
    LogStore::open(&StoreConfig::new(dir.path(), clock), Box::new(|_| ())).unwrap().0
}

fn vanish(author: u8, at: u64) -> wire::Event {
    signed(author, 62, at, &[&["relay", "ALL_RELAYS"]], "goodbye")
}

#[test]
fn who_vanishes_is_gone_with_all_that_was_said_until_then_and_does_not_come_back() {
    let dir = tempfile::tempdir().unwrap();
    let me = hex(&pubkey(1));
    let note = signed(1, 1, NOW - 5, &[], "note");
    let deletion = signed(1, 5, NOW - 4, &[&["e", &hex(&[7; 32])]], "");
    let (old, new) =
        (signed(1, 30_402, NOW - 9, &[&["d", "x"]], "old"), signed(1, 30_402, NOW - 8, &[&["d", "x"]], "new"));
    let wrap = signed(9, 1059, NOW - 3, &[&["p", &me]], "for me");
    let mention = signed(2, 1, NOW - 3, &[&["p", &me]], "by somebody else");
    let other = signed(9, 1059, NOW - 3, &[&["p", &hex(&pubkey(3))]], "for somebody else");
    let later = signed(1, 1, NOW + 1, &[], "I am back");
    let request = vanish(1, NOW);
    let check = |store: &LogStore| {
        let mut left: Vec<[u8; 32]> = ask(store, vec![filter("{}")], NOW, 100).iter().map(|event| event.id).collect();
        left.sort();
        let mut expected = vec![mention.id, other.id, later.id, request.id];
        expected.sort();
        assert_eq!(left, expected);
        let by_id = format!("{{\"ids\":[\"{}\",\"{}\"]}}", hex(&old.id), hex(&new.id));
        assert!(ask(store, vec![filter(&by_id)], NOW, 100).is_empty(), "older versions are gone too");
        for gone in [&note, &deletion, &new, &wrap] {
            assert_eq!(put(store, gone), DELETED);
        }
        let unseen = signed(1, 1, NOW, &[], "never here before");
        let unseen_wrap = signed(8, 1059, NOW - 1, &[&["p", &me]], "late");
        assert_eq!([put(store, &unseen), put(store, &unseen_wrap)], [DELETED, DELETED]);
        assert_eq!(put(store, &vanish(1, NOW - 1)), DELETED, "an earlier request adds nothing");
    };
    let store = open(&dir);
    for event in [&note, &deletion, &old, &new, &wrap, &mention, &other, &request, &later] {
        assert_eq!(put(&store, event), Outcome::Stored);
    }
    check(&store);
    let undo = signed(1, 5, NOW + 2, &[&["e", &hex(&request.id)]], "I did not mean it");
    put(&store, &undo);
    assert_eq!(put(&store, &note), DELETED, "a request to vanish cannot be deleted");
    let fresh = vanish(1, NOW + 2);
    assert_eq!(put(&store, &fresh), Outcome::Stored);
    assert_eq!(put(&store, &later), DELETED);
    assert_eq!(ask(&store, vec![filter(&format!("{{\"authors\":[\"{me}\"]}}"))], NOW, 100).len(), 1);
    drop(store);
    // The index as it was left, then one that is built from the log.
    for rebuilt in [false, true] {
        if rebuilt {
            std::fs::remove_dir_all(dir.path().join("index")).unwrap();
        }
        let store = open(&dir);
        assert_eq!([put(&store, &note), put(&store, &later), put(&store, &wrap)], [DELETED; 3], "rebuilt: {rebuilt}");
        let left: Vec<[u8; 32]> = ask(&store, vec![filter("{}")], NOW, 100).iter().map(|event| event.id).collect();
        assert_eq!(left.len(), 3, "rebuilt: {rebuilt}");
        assert!(left.contains(&fresh.id));
    }
}

#[test]
fn the_recipient_of_a_gift_wrap_may_delete_it_before_and_after_it_comes() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir);
    let wrap = |content| signed(9, 1059, NOW, &[&["p", &hex(&pubkey(2))]], content);
    let (first, second) = (wrap("first"), wrap("second"));
    assert_eq!(put(&store, &first), Outcome::Stored);
    let delete = |by: u8| signed(by, 5, NOW, &[&["e", &hex(&first.id)], &["e", &hex(&second.id)]], "");
    put(&store, &delete(3));
    assert_eq!(put(&store, &first), Outcome::Known(Known::Served), "a stranger may not");
    put(&store, &delete(2));
    assert_eq!([put(&store, &first), put(&store, &second)], [DELETED, DELETED]);
}

#[tokio::test]
async fn a_board_follows_requests_that_name_it_whatever_its_policy() {
    let strict = KindPolicy { auth: true, credential: true, pow: 40, ..KindPolicy::default() };
    let (board, _dir) = board(|config| config.urls = vec!["wss://Board.example/".into()]).await;
    let mut client = Client::connect(board.local_addr()).await;
    let notes: Vec<_> = (1..=3).map(|n| signed(n, 1, now() - 1, &[], "x")).collect();
    for note in &notes {
        client.stored(note).await;
    }
    board.policy().set(Policy { default: strict, kinds: vec![1.into()], ..Policy::default() });
    let (accepted, why) = client.publish(&signed(1, 62, now(), &[&["relay", "wss://other.example"]], "")).await;
    assert!(!accepted && why.starts_with("blocked: "), "{why}");
    client
        .stored(&signed(1, 62, now(), &[&["relay", "wss://other.example"], &["relay", "wss://board.example"]], ""))
        .await;
    client.stored(&vanish(2, now())).await;
    assert_eq!(client.ask("{\"kinds\":[1]}").await, ids(&[&notes[2]]));
    board.policy().set(Policy::default());
    let (accepted, why) = client.publish(&notes[0]).await;
    assert!(!accepted && why.starts_with("blocked: "), "{why}");
    board.shutdown().await;
}

#[tokio::test]
async fn a_request_to_vanish_from_another_relay_is_not_imported() {
    let (board, _dir) = board(|config| config.urls = vec!["wss://board.example".into()]).await;
    let mut client = Client::connect(board.local_addr()).await;
    let (note, operator) = (signed(1, 1, now() - 9, &[], "stays"), board.operator());
    client.stored(&note).await;
    let import = |relay: &str| {
        let (line, operator) = (signed(1, 62, now(), &[&["relay", relay]], "").to_json(), operator.clone());
        tokio::task::spawn_blocking(move || operator.import(line.as_bytes()))
    };
    let elsewhere = import("wss://other.example").await.unwrap();
    assert_eq!((elsewhere.new, elsewhere.refused.values().sum()), (0, 1));
    assert_eq!(client.ask("{\"kinds\":[1]}").await, ids(&[&note]));
    assert_eq!(import("wss://board.example").await.unwrap().new, 1);
    assert!(client.ask("{\"kinds\":[1]}").await.is_empty());
    board.shutdown().await;
}

#[tokio::test]
async fn who_is_shut_out_may_still_vanish() {
    let (board, _dir) = board(|config| config.policy.banned_authors = [pubkey(1)].into()).await;
    let mut client = Client::connect(board.local_addr()).await;
    assert!(client.publish(&signed(1, 1, now() - 9, &[], "x")).await.1.starts_with("blocked: "));
    client.stored(&vanish(1, now())).await;
    board.shutdown().await;
}

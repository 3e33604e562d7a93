//! What the suites of other relays ask of any relay, told anew, a row for each of their cases: which events are sent and which are
//! served then. `docs/conformance.md` says which suites, and what of them is told elsewhere.

use board::store::{LogStore, StoreConfig};
use wire::Event;

use crate::client::{Client, board, now};
use crate::events::{NOW, ask, clock, filter, hex, pubkey, put, signed};

/// A case: its name, what is sent, and what is served of it afterwards, by number.
type Row = (&'static str, Vec<Event>, &'static [usize]);

/// Identifiers of addressable events.
const A: &[&[&str]] = &[&["d", "a"]];
const B: &[&[&str]] = &[&["d", "b"]];
const EMPTY: &[&[&str]] = &[&["d", ""]];

/// Sends the events of each row to an empty store and looks what is served.
fn each_serves_what_it_should(rows: Vec<Row>) {
    for (name, sent, expected) in rows {
        let dir = tempfile::tempdir().unwrap();
        let store = LogStore::open(&StoreConfig::new(dir.path(), clock), Box::new(|_| ())).unwrap().0;
        for event in &sent {
            put(&store, event);
        }
        let served = ask(&store, vec![filter("{}")], NOW, 100);
        let number = |id| sent.iter().position(|event| event.id == id).unwrap();
        let mut numbers: Vec<usize> = served.iter().map(|event| number(event.id)).collect();
        numbers.sort_unstable();
        assert_eq!(numbers, expected, "{name}");
    }
}

/// An event of key 1, so many seconds ago.
fn at(ago: u64, kind: u16, tags: &[&[&str]]) -> Event {
    signed(1, kind, NOW - ago, tags, &format!("{ago} seconds ago"))
}

fn by(author: u8, ago: u64, kind: u16, tags: &[&[&str]]) -> Event {
    signed(author, kind, NOW - ago, tags, "by somebody")
}

/// A request of key 1 to delete.
fn deletes(ago: u64, name: &str, what: &str) -> Event {
    at(ago, 5, &[&[name, what]])
}

fn id(event: &Event) -> String {
    hex(&event.id)
}

/// The address of an event of key 1.
fn address(kind: u16, d: &str) -> String {
    format!("{kind}:{}:{d}", hex(&pubkey(1)))
}

/// Two events of the same second, that with the lower id first.
fn twins(kind: u16) -> (Event, Event) {
    let (a, b) = (signed(1, kind, NOW, &[], "a"), signed(1, kind, NOW, &[], "b"));
    if a.id < b.id { (a, b) } else { (b, a) }
}

#[test]
fn replaceable_events_give_way_as_other_relays_have_it() {
    let (low, high) = twins(10_000);
    each_serves_what_it_should(vec![
        ("a note is served", vec![at(5, 1, &[])], &[0]),
        ("a newer one replaces", vec![at(5, 0, &[]), at(4, 0, &[])], &[1]),
        ("an older one is dropped", vec![at(4, 0, &[]), at(5, 0, &[])], &[0]),
        ("somebody else's is not replaced", vec![at(5, 0, &[]), by(2, 4, 0, &[])], &[0, 1]),
        ("another kind is not replaced", vec![at(5, 10_000, &[]), at(4, 10_001, &[])], &[0, 1]),
        ("d counts for nothing below 30000", vec![at(5, 10_003, A), at(4, 10_003, B)], &[1]),
        ("of the same second the lower id stays", vec![low.clone(), high.clone()], &[0]),
        ("of the same second the lower id replaces", vec![high, low], &[1]),
        ("an address is replaced", vec![at(5, 30_001, A), at(4, 30_001, A)], &[1]),
        ("a note has no address", vec![at(5, 1, A), at(4, 1, A)], &[0, 1]),
        ("d has to be the same", vec![at(6, 30_001, A), at(5, 30_001, B), at(4, 30_001, A)], &[1, 2]),
        ("the kind has to be the same", vec![at(5, 30_001, A), at(4, 30_002, A)], &[0, 1]),
        ("the author has to be the same", vec![at(5, 30_001, A), by(2, 4, 30_001, A)], &[0, 1]),
        ("an older version is dropped", vec![at(4, 30_001, A), at(5, 30_001, A)], &[0]),
        ("no d is an empty d", vec![at(5, 30_003, &[]), at(4, 30_003, EMPTY), at(5, 30_003, &[])], &[1]),
        ("what is ephemeral is not kept", vec![at(5, 20_000, &[]), at(4, 1, &[])], &[1]),
    ]);
}

#[test]
fn deletion_goes_as_far_as_other_relays_have_it() {
    let note = at(9, 1, &[]);
    let request = deletes(8, "e", &id(&note));
    let others = by(2, 8, 5, &[&["e", &id(&note)]]);
    let profile = at(9, 0, &[]);
    let version = |ago| at(ago, 30_000, A);
    let by_address = deletes(6, "a", &address(30_000, "a"));
    let theirs = by(2, 9, 1, &[]);
    let mixed = at(8, 5, &[&["e", &id(&note)], &["e", &id(&theirs)]]);
    let wrap = by(9, 9, 1059, &[&["p", &hex(&pubkey(1))]]);
    let unwanted = deletes(8, "e", &id(&wrap));
    let meddles = by(2, 8, 5, &[&["e", &id(&wrap)]]);
    each_serves_what_it_should(vec![
        ("by id", vec![note.clone(), request.clone()], &[1]),
        ("twice", vec![note.clone(), request.clone(), deletes(7, "e", &id(&note))], &[1, 2]),
        ("before it comes", vec![request.clone(), note.clone()], &[0]),
        ("by somebody else", vec![note.clone(), others.clone()], &[0, 1]),
        ("by somebody else before it comes", vec![others, note.clone()], &[0, 1]),
        ("and it does not come back", vec![note.clone(), request.clone(), note.clone()], &[1]),
        (
            "a deletion is not deleted (NIP-09)",
            vec![note.clone(), request.clone(), deletes(7, "e", &id(&request)), note.clone()],
            &[1, 2],
        ),
        ("of one's own among others'", vec![note.clone(), theirs, mixed], &[1, 2]),
        ("of a profile by id", vec![profile.clone(), deletes(8, "e", &id(&profile))], &[1]),
        ("of a profile before it comes", vec![deletes(8, "e", &id(&profile)), profile.clone()], &[0]),
        ("of a profile by address", vec![profile, deletes(8, "a", &address(0, ""))], &[1]),
        ("by address", vec![version(7), by_address.clone(), version(7)], &[1]),
        ("by address before it comes", vec![by_address.clone(), version(7)], &[0]),
        ("by address, and a version after that", vec![version(7), by_address.clone(), version(5)], &[1, 2]),
        ("by address, not what is newer", vec![version(5), by_address], &[0, 1]),
        ("by an address of somebody else's", vec![version(7), by(2, 6, 5, &[&["a", &address(30_000, "a")]])], &[0, 1]),
        ("of a gift wrap by its recipient", vec![wrap.clone(), unwanted.clone()], &[1]),
        ("of a gift wrap, and it does not come back", vec![wrap.clone(), unwanted, wrap.clone()], &[1]),
        ("of a gift wrap by somebody else", vec![wrap, meddles], &[0, 1]),
    ]);
}

#[test]
fn expiration_is_read_as_other_relays_read_it() {
    let until = |ago, when: &str| at(ago, 30_000, &[&["d", "a"], &["expiration", when]]);
    let (over, later) = ((NOW - 1).to_string(), (NOW + 9).to_string());
    each_serves_what_it_should(vec![
        ("what is no time is passed over", vec![at(5, 1, &[&["expiration", "blah"]])], &[0]),
        ("over", vec![at(5, 1, &[&["expiration", &over]])], &[]),
        ("not yet over", vec![at(5, 1, &[&["expiration", &later]])], &[0]),
        ("a version with it replaces one without", vec![at(5, 30_000, A), until(4, &later)], &[1]),
        ("a version without it replaces one with", vec![until(5, &later), at(4, 30_000, A)], &[1]),
    ]);
}

#[tokio::test]
async fn counts_are_of_what_all_filters_match_each_event_once() {
    let (board, _dir) = board(|_| ()).await;
    let mut client = Client::connect(board.local_addr()).await;
    let (both, one) = (
        signed(1, 1, now(), &[&["t", "nostr"], &["r", "wss://relay.example.com"]], "both tags"),
        signed(1, 1, now(), &[&["t", "nostr"]], "one tag"),
    );
    for event in [&both, &one, &signed(1, 0, now(), &[], "{}"), &signed(2, 1, now(), &[], "by somebody else")] {
        client.stored(event).await;
    }
    let author = format!("\"authors\":[\"{}\"]", hex(&pubkey(1)));
    for (filters, count) in [
        (format!("{{{author},\"kinds\":[1]}}"), 2),
        (format!("{{{author},\"#t\":[\"nostr\"],\"#r\":[\"wss://relay.example.com\"]}}"), 1),
        (format!("{{\"ids\":[\"{}\"],\"#t\":[\"nostr\"]}}", id(&both)), 1),
        (format!("{{{author},\"kinds\":[1]}},{{{author},\"kinds\":[0]}}"), 3),
        (format!("{{{author}}},{{\"ids\":[\"{}\"]}}", id(&one)), 3),
        ("{\"#t\":[\"nothing\"]}".to_owned(), 0),
    ] {
        client.send(format!("[\"COUNT\",\"c\",{filters}]")).await;
        assert_eq!(client.next().await[2]["count"], count, "{filters}");
    }
    board.shutdown().await;
}

#[tokio::test]
async fn what_is_not_kept_for_another_is_not_sent_live() {
    let (board, _dir) = board(|_| ()).await;
    let mut reader = Client::connect(board.local_addr()).await;
    let mut writer = Client::connect(board.local_addr()).await;
    assert!(reader.ask("{}").await.is_empty());
    let version = |ago| signed(1, 0, now() - ago, &[], "{}");
    let (first, second, late) = (version(5), version(4), version(6));
    let note = signed(1, 1, now() - 9, &[], "deleted before it comes");
    let request = signed(1, 5, now() - 3, &[&["e", &id(&note)]], "");
    for event in [&first, &second, &request] {
        writer.stored(event).await;
    }
    for event in [&late, &note] {
        assert!(!writer.publish(event).await.0);
    }
    let end = signed(1, 20_000, now(), &[], "");
    writer.stored(&end).await;
    for event in [&first, &second, &request, &end] {
        assert_eq!(reader.next().await[2]["id"], id(event));
    }
    board.shutdown().await;
}

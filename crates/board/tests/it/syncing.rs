//! The client role of NIP-77: the machine by itself, and one board with another over a WebSocket.

use std::collections::BTreeSet;

use board::Board;
use board::live::Published;
use board::reconcile::Set;
use board::store::{Encoded, Outcome};
use board::sync::{Direction, Sync, SyncReport, Task};
use wire::{Event, Filter};

use crate::client::{Client, board, ids, now};
use crate::events::{NOW, hex, pubkey, signed};

fn set(events: &[&Event]) -> Set {
    Set::new(events.iter().map(|event| (event.created_at, event.id)).collect())
}

fn text(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn message(frame: &str) -> (String, Vec<u8>) {
    let frame: serde_json::Value = serde_json::from_str(frame).unwrap();
    let digits = frame.as_array().unwrap().last().unwrap().as_str().unwrap().to_owned();
    let byte = |i| u8::from_str_radix(&digits[2 * i..2 * i + 2], 16).unwrap();
    (frame[0].as_str().unwrap().to_owned(), (0..digits.len() / 2).map(byte).collect())
}

#[test]
fn the_machine_fetches_what_is_needed_and_offers_what_is_had() {
    let events: Vec<Event> = (0..10).map(|i| signed(1, 1, NOW - i, &[], &format!("{i}"))).collect();
    let (ours, theirs): (Vec<&Event>, Vec<&Event>) = (events[..8].iter().collect(), events[3..].iter().collect());
    let (mut sync, open) = Sync::begin(set(&ours), Filter::default(), Direction::Both).unwrap();
    let (verb, first) = message(&open);
    assert_eq!(verb, "NEG-OPEN");
    let answer = set(&theirs).answer(&first).unwrap();
    let mut out = Vec::new();
    sync.frame("[\"NOTICE\",\"hello\"]", &mut out);
    sync.frame("[\"AUTH\",\"riddle\"]", &mut out);
    assert!(out.is_empty());
    sync.frame(&format!("[\"NEG-MSG\",\"souk-neg\",\"{}\"]", text(&answer)), &mut out);
    assert_eq!(out[0], Task::Send("[\"NEG-CLOSE\",\"souk-neg\"]".into()));
    let Task::Send(req) = &out[1] else { panic!("{out:?}") };
    assert!(req.starts_with("[\"REQ\",\"souk-get\"") && events[8..].iter().all(|event| req.contains(&hex(&event.id))));
    let Task::Find(find) = &out[2] else { panic!("{out:?}") };
    assert_eq!(find.iter().collect::<BTreeSet<_>>(), events[..3].iter().map(|event| &event.id).collect());
    let asked = find.clone();
    let say = |sync: &mut Sync, frame: String| {
        let mut out = Vec::new();
        sync.frame(&frame, &mut out);
        out
    };
    let deliver = |event: &Event| wire::frame::deliver_json("souk-get", &event.to_json());
    assert_eq!(say(&mut sync, deliver(&events[8])), [Task::Take(events[8].to_json().into())]);
    assert!(say(&mut sync, deliver(&events[8])).is_empty(), "nothing is taken twice");
    assert!(say(&mut sync, deliver(&events[0])).is_empty(), "nothing that was not asked for is taken");
    assert_eq!(say(&mut sync, "[\"EOSE\",\"souk-get\"]".into()), [Task::Send("[\"CLOSE\",\"souk-get\"]".into())]);
    let mut out = Vec::new();
    let here: Vec<Encoded> = events[..2].iter().map(Encoded::of).collect();
    sync.found(&asked, &here, &mut out);
    assert_eq!(out.len(), 2, "one of the three is gone by now");
    let ok = |event: &Event, accepted: bool| format!("[\"OK\",\"{}\",{accepted},\"\"]", hex(&event.id));
    assert!(say(&mut sync, ok(&events[0], true)).is_empty());
    assert!(say(&mut sync, ok(&events[1], false)).is_empty(), "one that came is still with our store");
    let mut out = Vec::new();
    sync.taken(&Published::Store(Outcome::Stored), &mut out);
    assert_eq!(out, [Task::End(Ok(()))]);
    let report = SyncReport { rounds: 1, have: 3, need: 2, taken: 1, refused: 0, missing: 1, sent: 1, rejected: 1 };
    assert_eq!(sync.report(), report);
}

#[test]
fn a_relay_that_refuses_or_talks_nonsense_ends_it_with_the_reason() {
    for (frame, why) in [
        ("[\"NEG-ERR\",\"souk-neg\",\"blocked: too big\",5]", "blocked: too big"),
        ("[\"NEG-MSG\",\"souk-neg\",\"00\"]", "invalid: "),
        ("[\"NEG-MSG\",\"souk-neg\",\"6\"]", "the other relay cannot be understood: "),
        ("nonsense", "the other relay cannot be understood: "),
    ] {
        let (mut sync, _) = Sync::begin(set(&[]), Filter::default(), Direction::Both).unwrap();
        let mut out = Vec::new();
        sync.frame(frame, &mut out);
        assert!(matches!(&out[..], [Task::End(Err(said))] if said.starts_with(why)), "{frame}: {out:?}");
    }
}

async fn all(board: &Board) -> Vec<String> {
    let mut found = Client::connect(board.local_addr()).await.ask("{}").await;
    found.sort();
    found
}

async fn sync(here: &Board, there: &Board, direction: Direction) -> SyncReport {
    let url = format!("ws://{}", there.local_addr());
    let mut heard = 0;
    let report = here.sync_with(&url, Filter::default(), direction, &mut |_| heard += 1).await.unwrap();
    assert!(heard > 0);
    report
}

#[tokio::test]
async fn two_boards_come_to_hold_the_same() {
    let ((here, _one), (there, _other)) = (board(|_| ()).await, board(|_| ()).await);
    let events: Vec<Event> = (0..450).map(|i| signed(1, 1, now() - i % 60, &[], &format!("{i}"))).collect();
    let wrap = signed(9, 1059, now(), &[&["p", &hex(&pubkey(2))]], "sealed");
    for (board, part) in [(&here, &events[..200]), (&there, &events[150..])] {
        let mut client = Client::connect(board.local_addr()).await;
        for event in part.iter().chain([&wrap]) {
            client.stored(event).await;
        }
    }
    let down = sync(&here, &there, Direction::Down).await;
    assert_eq!((down.need, down.taken, down.have, down.sent), (250, 250, 150, 0));
    let up = sync(&here, &there, Direction::Up).await;
    assert_eq!((up.need, up.have, up.sent, up.rejected), (0, 150, 150, 0));
    let mut expected = ids(&events.iter().collect::<Vec<_>>());
    expected.sort();
    assert_eq!(all(&here).await, expected);
    assert_eq!(all(&there).await, expected);
    let again = sync(&here, &there, Direction::Both).await;
    assert_eq!((again.need, again.have), (0, 0));
    here.shutdown().await;
    there.shutdown().await;
}

#[tokio::test]
async fn what_a_peer_sends_passes_our_own_admission() {
    let ((here, _one), (there, _other)) =
        (board(|config| config.policy.kinds_denied.push(7.into())).await, board(|_| ()).await);
    let mut client = Client::connect(there.local_addr()).await;
    let note = signed(1, 1, now(), &[], "x");
    client.stored(&note).await;
    client.stored(&signed(1, 7, now(), &[], "+")).await;
    let report = sync(&here, &there, Direction::Both).await;
    assert_eq!((report.need, report.taken, report.refused), (2, 1, 1));
    assert_eq!(all(&here).await, ids(&[&note]));
    let nowhere = here.sync_with("ws://127.0.0.1:1", Filter::default(), Direction::Both, &mut |_| ()).await;
    assert!(matches!(nowhere, Err(board::SyncError::Unreachable { .. })), "{nowhere:?}");
    here.shutdown().await;
    there.shutdown().await;
}

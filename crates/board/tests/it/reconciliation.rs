//! Set reconciliation (NIP-77): the frames of a session, and a whole board over a WebSocket.

use std::sync::Arc;

use board::admission::Policy;
use board::reconcile::{Broken, Set};
use board::session::{Effect, Session, SessionLimits};
use serde_json::Value;
use units::Unix;
use wire::Event;

use crate::client::{Client, board, ids, now};
use crate::events::{NOW, hex, pubkey, signed};

fn session(limits: SessionLimits) -> Session {
    Session::new(limits, Arc::new([]), "riddle".into())
}

fn shown(effects: &[Effect<'_>]) -> Vec<String> {
    let show = |effect: &Effect<'_>| match effect {
        Effect::Send(text) => text.clone(),
        Effect::Reconcile { ticket, filter, message } => {
            let filter = filter.as_ref().map_or("same".into(), wire::Filter::to_json);
            format!("reconcile {ticket} {filter} {message:?}")
        }
        Effect::Stop { ticket } => format!("stop {ticket}"),
        other => format!("{other:?}"),
    };
    effects.iter().map(show).collect()
}

fn say(session: &mut Session, frame: &str) -> Vec<String> {
    let mut out = Vec::new();
    session.frame(frame, &Policy::default(), Unix(NOW), &mut out);
    shown(&out)
}

fn answer(session: &mut Session, ticket: u64, answer: Result<Vec<u8>, Broken>) -> Vec<String> {
    let mut out = Vec::new();
    session.reconciled(ticket, answer, &mut out);
    shown(&out)
}

#[test]
fn the_two_sides_of_a_reconciliation_take_turns() {
    let mut session = session(SessionLimits::default());
    assert_eq!(
        say(&mut session, "[\"NEG-OPEN\",\"n\",{\"kinds\":[1]},\"61ff\"]"),
        ["reconcile 0 {\"kinds\":[1]} [97, 255]"]
    );
    assert_eq!(answer(&mut session, 0, Ok(vec![0x61, 0x0a])), ["[\"NEG-MSG\",\"n\",\"610a\"]"]);
    assert_eq!(say(&mut session, "[\"NEG-MSG\",\"n\",\"61\"]"), ["reconcile 0 same [97]"]);
    let early = say(&mut session, "[\"NEG-MSG\",\"n\",\"61\"]");
    assert!(early[0].starts_with("[\"NEG-ERR\",\"n\",\"invalid: "), "{early:?}");
    assert_eq!(early[1], "stop 0");
    assert!(answer(&mut session, 0, Ok(vec![0x61])).is_empty(), "what comes too late is left out");
    assert!(say(&mut session, "[\"NEG-MSG\",\"n\",\"61\"]")[0].starts_with("[\"NEG-ERR\",\"n\",\"closed: "));
    assert_eq!(session.reconciliations(), 0);
}

#[test]
fn the_same_name_again_and_a_close_stop_what_ran_under_it() {
    let mut session = session(SessionLimits::default());
    say(&mut session, "[\"NEG-OPEN\",\"n\",{},\"61\"]");
    assert_eq!(say(&mut session, "[\"NEG-OPEN\",\"n\",{},\"61\"]"), ["stop 0", "reconcile 1 {} [97]"]);
    assert_eq!(say(&mut session, "[\"REQ\",\"n\",{}]").len(), 1, "subscriptions have names of their own");
    assert_eq!(say(&mut session, "[\"NEG-CLOSE\",\"n\"]"), ["stop 1"]);
    assert!(say(&mut session, "[\"NEG-CLOSE\",\"n\"]").is_empty());
    assert_eq!((session.reconciliations(), session.subscriptions()), (0, 1));
}

#[test]
fn what_cannot_be_reconciled_is_refused_with_the_reason() {
    let mut session = session(SessionLimits { reconciliations: 1, ..SessionLimits::default() });
    for (frame, why) in [
        ("[\"NEG-OPEN\",\"n\",{\"search\":\"x\"},\"61\"]", "unsupported: "),
        ("[\"NEG-OPEN\",\"n\",{\"kinds\":[1059]},\"61\"]", "auth-required: "),
        ("[\"NEG-OPEN\",\"n\",{},\"6\"]", "invalid: "),
        ("[\"NEG-OPEN\",\"n\",{\"x\":1},\"61\"]", "invalid: "),
        ("[\"NEG-MSG\",\"n\",\"XY\"]", "invalid: "),
    ] {
        let said = say(&mut session, frame);
        // What nobody can read was in vain besides.
        assert_eq!(said.len(), if why == "invalid: " { 2 } else { 1 }, "{frame}: {said:?}");
        assert!(said[0].starts_with(&format!("[\"NEG-ERR\",\"n\",\"{why}")), "{frame}: {said:?}");
    }
    assert_eq!(say(&mut session, "[\"NEG-OPEN\",\"a\",{},\"61\"]").len(), 1);
    assert!(say(&mut session, "[\"NEG-OPEN\",\"b\",{},\"61\"]")[0].contains("rate-limited: at most 1"));
    let said = answer(&mut session, 0, Err(Broken::too_many(500)));
    assert_eq!(said[0], "[\"NEG-ERR\",\"a\",\"blocked: this query is too big, it may match 500 events\",500]");
    assert_eq!(session.reconciliations(), 0);
}

#[test]
fn a_reconciliation_that_the_client_forgot_ends() {
    let mut session = session(SessionLimits::default());
    say(&mut session, "[\"NEG-OPEN\",\"n\",{},\"61\"]");
    let tick = |session: &mut Session, after: u64| {
        let mut out = Vec::new();
        session.tick(Unix(NOW + after), &mut out);
        shown(&out)
    };
    assert!(tick(&mut session, 500).is_empty(), "it waits for us");
    answer(&mut session, 0, Ok(vec![0x61]));
    assert!(tick(&mut session, 119).is_empty());
    assert_eq!(tick(&mut session, 120), ["[\"NEG-ERR\",\"n\",\"closed: you took too long to respond\"]", "stop 0"]);
}

/// Reconciles `mine` with what a board holds for a filter. Gives what only we have and what only the board has.
async fn reconcile(client: &mut Client, filter: &str, mine: &[&Event]) -> Result<(Vec<String>, Vec<String>), Value> {
    let set = Set::new(mine.iter().map(|event| (event.created_at, event.id)).collect());
    let (mut initiator, message) = set.begin().unwrap();
    let text = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    client.send(format!("[\"NEG-OPEN\",\"n\",{filter},\"{}\"]", text(&message))).await;
    let (mut have, mut need) = (Vec::new(), Vec::new());
    loop {
        let frame = client.next().await;
        if frame[0] == "NEG-ERR" {
            return Err(frame);
        }
        assert_eq!(frame[0], "NEG-MSG", "{frame}");
        let digits = frame[2].as_str().unwrap();
        let bytes: Vec<u8> =
            (0..digits.len() / 2).map(|i| u8::from_str_radix(&digits[2 * i..2 * i + 2], 16).unwrap()).collect();
        let learned = initiator.learn(&bytes).unwrap();
        have.extend(learned.have.iter().map(hex));
        need.extend(learned.need.iter().map(hex));
        let Some(next) = learned.next else { break };
        client.send(format!("[\"NEG-MSG\",\"n\",\"{}\"]", text(&next))).await;
    }
    client.send("[\"NEG-CLOSE\",\"n\"]").await;
    have.sort();
    need.sort();
    Ok((have, need))
}

fn sorted(events: &[&Event]) -> Vec<String> {
    let mut ids = ids(events);
    ids.sort();
    ids
}

#[tokio::test]
async fn a_client_learns_what_it_lacks_and_what_the_board_lacks() {
    let (board, _dir) = board(|_| ()).await;
    let mut client = Client::connect(board.local_addr()).await;
    let events: Vec<Event> = (0..300u64).map(|i| signed(1, 1, now() - i % 50, &[], &format!("{i}"))).collect();
    for event in events[..200].iter().chain([&signed(1, 7, now(), &[], "+")]) {
        client.stored(event).await;
    }
    let mine: Vec<&Event> = events[20..].iter().collect();
    let learned = reconcile(&mut client, "{\"kinds\":[1]}", &mine).await.unwrap();
    let all: Vec<&Event> = events.iter().collect();
    assert_eq!(learned, (sorted(&all[200..]), sorted(&all[..20])));
    board.shutdown().await;
}

#[tokio::test]
async fn a_reconciliation_keeps_to_its_filter_and_either_side_may_be_empty() {
    let (board, _dir) = board(|_| ()).await;
    let mut client = Client::connect(board.local_addr()).await;
    let events: Vec<Event> = (0..90u64).map(|i| signed(1, 1, now() - i, &[], &format!("{i}"))).collect();
    let all: Vec<&Event> = events.iter().collect();
    assert_eq!(reconcile(&mut client, "{}", &[]).await, Ok((vec![], vec![])), "both are");
    assert_eq!(reconcile(&mut client, "{}", &all).await, Ok((sorted(&all), vec![])), "the board is");
    for event in &all {
        client.stored(event).await;
    }
    assert_eq!(reconcile(&mut client, "{}", &[]).await, Ok((vec![], sorted(&all))), "the client is");
    let (from, to) = (now() - 60, now() - 30);
    for (filter, window) in [
        (format!("{{\"since\":{from}}}"), 0..=60),
        (format!("{{\"until\":{to}}}"), 30..=89),
        (format!("{{\"since\":{from},\"until\":{to}}}"), 30..=60),
    ] {
        let window = &all[window];
        assert_eq!(reconcile(&mut client, &filter, &window[3..]).await, Ok((vec![], sorted(&window[..3]))), "{filter}");
    }
    board.shutdown().await;
}

#[tokio::test]
async fn private_and_expired_events_are_in_no_set_and_big_sets_are_refused() {
    let (board, _dir) = board(|config| config.limits.session.reconciled_events = 3).await;
    let mut client = Client::connect(board.local_addr()).await;
    let wrap = signed(9, 1059, now(), &[&["p", &hex(&pubkey(2))]], "sealed");
    let note = signed(1, 1, now(), &[], "x");
    client.stored(&wrap).await;
    client.stored(&note).await;
    assert_eq!(reconcile(&mut client, "{}", &[]).await, Ok((vec![], sorted(&[&note]))));
    client.authenticate(2).await;
    assert_eq!(reconcile(&mut client, "{}", &[]).await, Ok((vec![], sorted(&[&note, &wrap]))));
    client.stored(&signed(1, 1, now(), &[], "y")).await;
    assert!(reconcile(&mut client, "{}", &[]).await.is_ok());
    client.stored(&signed(1, 1, now(), &[], "z")).await;
    let refused = reconcile(&mut client, "{}", &[]).await.unwrap_err();
    assert!(refused[2].as_str().unwrap().starts_with("blocked: ") && refused[3] == 3, "{refused}");
    assert!(reconcile(&mut client, "{\"limit\":2}", &[]).await.is_ok());
    board.shutdown().await;
}

#[tokio::test]
async fn a_count_of_one_tag_has_the_registers_of_its_authors() {
    let (board, _dir) = board(|_| ()).await;
    let mut client = Client::connect(board.local_addr()).await;
    let target = "ab".repeat(32);
    for author in 1..=5 {
        client.stored(&signed(author, 7, now(), &[&["e", &target]], "+")).await;
        client.stored(&signed(author, 7, now() - 1, &[&["e", &target]], "-")).await;
    }
    client.send(format!("[\"COUNT\",\"c\",{{\"kinds\":[7],\"#e\":[\"{target}\"]}}]")).await;
    let counted = client.next().await;
    assert_eq!((&counted[2]["count"], &counted[2]["approximate"]), (&10.into(), &Value::Null));
    let mut expected = wire::hll::Hll::of(&[crate::events::filter(&format!("{{\"#e\":[\"{target}\"]}}"))]).unwrap();
    (1..=5).for_each(|author| expected.add(&pubkey(author)));
    let digits: String = expected.into_registers().iter().map(|rank| format!("{rank:02x}")).collect();
    assert_eq!(counted[2]["hll"], digits);
    client.send("[\"COUNT\",\"c\",{\"kinds\":[7]},{\"kinds\":[7]}]").await;
    assert_eq!(client.next().await, serde_json::json!(["COUNT", "c", { "count": 10 }]));
    board.shutdown().await;
}

#[tokio::test]
async fn a_message_that_is_no_negentropy_ends_the_reconciliation() {
    let (board, _dir) = board(|_| ()).await;
    let mut client = Client::connect(board.local_addr()).await;
    for message in ["", "00", "61000005", "61000201"] {
        client.send(format!("[\"NEG-OPEN\",\"n\",{{}},\"{message}\"]")).await;
        let refused = client.next().await;
        assert_eq!((&refused[0], &refused[1]), (&"NEG-ERR".into(), &"n".into()), "{message}");
        assert!(refused[2].as_str().unwrap().starts_with("invalid: "), "{refused}");
    }
    client.send("[\"NEG-OPEN\",\"n\",{},\"62\"]").await;
    assert_eq!(client.next().await, serde_json::json!(["NEG-MSG", "n", "61"]), "the version that we speak");
    board.shutdown().await;
}

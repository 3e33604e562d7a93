//! Sessions without a socket: frames and news in, frames and effects out.

use std::sync::Arc;

use board::admission::Policy;
use board::live::Published;
use board::session::{Effect, Session, SessionLimits};
use board::store::{Encoded, Known, Outcome};
use units::Unix;

use crate::events::{NOW, hex, key, pubkey, signed};

const URL: &str = "ws://board.example";

fn session(limits: SessionLimits) -> Session {
    Session::new(limits, vec![URL.to_owned()].into(), "riddle".into())
}

/// What a session does, as one line each.
fn shown(effects: &[Effect<'_>]) -> Vec<String> {
    effects
        .iter()
        .map(|effect| match effect {
            Effect::Send(text) => text.clone(),
            Effect::Publish { event, credential } => {
                format!("publish {} {}", event.kind, credential.as_deref().unwrap_or("-"))
            }
            Effect::Subscribe { ticket, filters } => format!("subscribe {ticket} {}", filters.len()),
            Effect::Count { ticket, filters } => format!("count {ticket} {}", filters.len()),
            Effect::Reconcile { ticket, filter, message } => {
                let filter = filter.as_ref().map_or("the same".into(), wire::Filter::to_json);
                format!("reconcile {ticket} {filter} {message:?}")
            }
            Effect::Stop { ticket } => format!("stop {ticket}"),
            Effect::InVain => "in vain".to_owned(),
            Effect::End { why } => format!("end {why}"),
        })
        .collect()
}

fn say(session: &mut Session, frame: &str) -> Vec<String> {
    let mut out = Vec::new();
    session.frame(frame, &Policy::default(), Unix(NOW), &mut out);
    shown(&out)
}

fn live(session: &mut Session, ticket: u64, event: &Arc<Encoded>) -> Vec<String> {
    let mut out = Vec::new();
    session.live(ticket, event, &Policy::default(), &mut out);
    shown(&out)
}

fn stored(session: &mut Session, ticket: u64) -> Vec<String> {
    let mut out = Vec::new();
    session.stored(ticket, &mut out);
    shown(&out)
}

fn note(content: &str) -> Arc<Encoded> {
    Arc::new(Encoded::of(&signed(1, 1, NOW, &[], content)))
}

#[test]
fn each_frame_has_its_effect() {
    let event = signed(1, 1, NOW, &[], "x");
    let with_credential = wire::frame::publish(&event, Some("bc1token"));
    let table: &[(&str, &[&str])] = &[
        ("[\"REQ\",\"a\",{}]", &["subscribe 0 1"]),
        ("[\"REQ\",\"b\",{\"kinds\":[1]},{\"limit\":0}]", &["subscribe 1 2"]),
        ("[\"REQ\",\"a\",{}]", &["stop 0", "subscribe 2 1"]),
        ("[\"COUNT\",\"c\",{}]", &["count 3 1"]),
        ("[\"CLOSE\",\"b\"]", &["stop 1"]),
        ("[\"CLOSE\",\"b\"]", &[]),
        ("[\"REQ\",\"a\",{\"search\":\"x\"}]", &["stop 2", "subscribe 4 1"]),
        ("[\"NEG-CLOSE\",\"n\"]", &[]),
        (&with_credential, &["publish 1 bc1token"]),
    ];
    let mut session = session(SessionLimits::default());
    assert_eq!(session.greeting(), "[\"AUTH\",\"riddle\"]");
    for (frame, effects) in table {
        assert_eq!(say(&mut session, frame), *effects, "{frame}");
    }
    assert_eq!(session.subscriptions(), 2);
}

#[test]
fn new_events_wait_until_the_stored_ones_are_sent() {
    let mut session = session(SessionLimits::default());
    let (new, newest) = (note("new"), note("newest"));
    let frame = |event: &Encoded| format!("[\"EVENT\",\"a\",{}]", event.json);
    say(&mut session, "[\"REQ\",\"a\",{}]");
    assert!(live(&mut session, 0, &new).is_empty());
    assert_eq!(session.head(0).as_deref(), Some("[\"EVENT\",\"a\","), "what the store has is sent behind this");
    assert_eq!(stored(&mut session, 0), ["[\"EOSE\",\"a\"]".to_owned(), frame(&new)]);
    assert_eq!(live(&mut session, 0, &newest), [frame(&newest)]);
    say(&mut session, "[\"CLOSE\",\"a\"]");
    assert!(live(&mut session, 0, &newest).is_empty(), "what was under way when it was closed is left out");
    assert!(session.head(0).is_none() && stored(&mut session, 0).is_empty());
}

#[test]
fn more_new_events_than_may_wait_end_the_subscription() {
    let mut session = session(SessionLimits::default());
    say(&mut session, "[\"REQ\",\"a\",{}]");
    let event = note("x");
    let mut answer = Vec::new();
    for _ in 0..1001 {
        answer = live(&mut session, 0, &event);
    }
    assert!(answer[0].starts_with("[\"CLOSED\",\"a\",\"error: "), "{answer:?}");
    assert_eq!(answer[1], "stop 0");
    assert_eq!(session.subscriptions(), 0);
    say(&mut session, "[\"REQ\",\"b\",{}]");
    assert!(live(&mut session, 1, &event).is_empty(), "the waiting room is empty again");
    assert_eq!(stored(&mut session, 1).len(), 2);
}

#[test]
fn who_sends_what_is_no_text_again_and_again_is_sent_away() {
    let mut session = session(SessionLimits::default());
    for round in 1..=100 {
        let mut out = Vec::new();
        session.unreadable("invalid: not UTF-8", &mut out);
        assert!(matches!(&out[0], Effect::Send(notice) if notice.starts_with("[\"NOTICE\",\"invalid: ")));
        assert!(if round < 100 { matches!(out[1], Effect::InVain) } else { matches!(out[1], Effect::End { .. }) });
    }
}

#[test]
fn every_fate_of_an_event_has_its_answer() {
    let spent = format!("restricted: this credential was already spent for event {}\"]", hex(&[1; 32]));
    let table = [
        (Published::Store(Outcome::Stored), true, ""),
        (Published::Store(Outcome::Passed), true, ""),
        (Published::Store(Outcome::Known(Known::Served)), true, "duplicate: "),
        (Published::Store(Outcome::Known(Known::Superseded)), false, "duplicate: "),
        (Published::Store(Outcome::Known(Known::Deleted)), false, "blocked: "),
        (Published::Store(Outcome::Known(Known::Expired)), false, "invalid: "),
        (Published::Store(Outcome::Known(Known::TakenDown)), false, "blocked: "),
        (Published::Store(Outcome::Spent { by: [1; 32] }), false, spent.as_str()),
        (Published::Store(Outcome::Failed("disk \"full\"".into())), false, "error: disk \\\"full\\\""),
        (Published::Refused("pow: 3 bits".into()), false, "pow: 3 bits"),
    ];
    for (fate, accepted, message) in table {
        let mut out = Vec::new();
        session(SessionLimits::default()).published([0xab; 32], &fate, &mut out);
        let expected = format!("[\"OK\",\"{}\",{accepted},\"{message}", hex(&[0xab; 32]));
        assert!(shown(&out)[0].starts_with(&expected), "{:?}", shown(&out));
    }
}

#[test]
fn what_nobody_can_read_was_in_vain_and_too_much_of_it_ends_the_connection() {
    let mut session = session(SessionLimits::default());
    for frame in ["nonsense", "[\"REQ\",\"q\",{\"kinds\":[[", "[\"CLOSE\",5]"] {
        let said = say(&mut session, frame);
        assert_eq!((said.len(), &said[1][..]), (2, "in vain"), "{frame}: {said:?}");
    }
    assert_eq!(say(&mut session, "[\"REQ\",\"q\",{}]"), ["subscribe 0 1"]);
    let answers: Vec<String> = (4..=100).map(|_| say(&mut session, "nonsense").remove(1)).collect();
    assert!(answers[..96].iter().all(|answer| answer == "in vain"));
    assert_eq!(answers[96], "end too many frames that cannot be understood");
}

#[test]
fn only_the_right_answer_to_the_challenge_authenticates() {
    let answer = |n: u8, url: &str, challenge: &str, at: u64| {
        wire::auth::answer([0; 32], url, challenge, Unix(at)).sign(&key(n), &[0; 32])
    };
    let mut session = session(SessionLimits { keys: 16, ..SessionLimits::default() });
    for wrong in [
        answer(1, "ws://other.example", "riddle", NOW),
        answer(1, URL, "another riddle", NOW),
        answer(1, URL, "riddle", NOW - 3600),
        signed(1, 1, NOW, &[&["relay", URL], &["challenge", "riddle"]], ""),
    ] {
        assert!(say(&mut session, &wire::frame::authenticate(&wrong))[0].contains(",false,\"invalid: "));
        assert!(session.keys().is_empty());
    }
    for n in 1..=16 {
        assert!(
            say(&mut session, &wire::frame::authenticate(&answer(n, URL, "riddle", NOW)))[0].contains(",true,\"\"")
        );
    }
    assert!(
        say(&mut session, &wire::frame::authenticate(&answer(17, URL, "riddle", NOW)))[0].contains("rate-limited: ")
    );
    assert_eq!(session.keys().len(), 16);
    assert!(session.keys().contains(&pubkey(3)));
}

#[test]
fn private_kinds_are_shown_live_to_their_recipient_only() {
    let wrap = Arc::new(Encoded::of(&signed(9, 1059, NOW, &[&["p", &hex(&pubkey(2))]], "sealed")));
    let mut session = session(SessionLimits::default());
    for (verb, kind) in [("REQ", 4), ("REQ", 1059), ("REQ", 21_059), ("COUNT", 4), ("COUNT", 1059)] {
        let said = say(&mut session, &format!("[\"{verb}\",\"a\",{{\"kinds\":[{kind}]}}]"));
        assert!(said[0].starts_with("[\"CLOSED\",\"a\",\"auth-required: "), "{verb} {kind}: {said:?}");
    }
    say(&mut session, "[\"REQ\",\"a\",{\"kinds\":[1,1059]}]");
    stored(&mut session, 0);
    assert!(live(&mut session, 0, &wrap).is_empty());
    let answer = wire::auth::answer([0; 32], URL, "riddle", Unix(NOW)).sign(&key(2), &[0; 32]);
    say(&mut session, &wire::frame::authenticate(&answer));
    assert_eq!(live(&mut session, 0, &wrap).len(), 1);
}

#[test]
fn a_board_that_is_read_by_members_says_so() {
    let policy = Policy { auth_to_read: true, ..Policy::default() };
    let mut out = Vec::new();
    session(SessionLimits::default()).frame("[\"REQ\",\"a\",{}]", &policy, Unix(NOW), &mut out);
    assert!(shown(&out)[0].starts_with("[\"CLOSED\",\"a\",\"auth-required: "));
}

//! Whole boards over real WebSockets: publishing, asking, live events, authentication.

use std::sync::atomic::{AtomicU64, Ordering};

use serde_json::json;
use units::Unix;

use crate::client::{Client, board, ids, now};
use crate::events::{hex, pubkey, signed};

#[tokio::test]
async fn what_is_published_is_found_and_a_second_time_is_a_duplicate() {
    let (board, _dir) = board(|_| ()).await;
    let mut client = Client::connect(board.local_addr()).await;
    let event = signed(1, 1, now(), &[&["t", "ham"]], "a \"quoted\" \u{1f9c0}\nline");
    client.stored(&event).await;
    let (accepted, why) = client.publish(&event).await;
    assert!(accepted && why.starts_with("duplicate: "), "{why}");
    client.send("[\"REQ\",\"x\",{\"#t\":[\"ham\"]}]").await;
    let found = client.next().await;
    assert_eq!(found[0], "EVENT");
    assert_eq!(found[1], "x");
    assert_eq!(found[2].to_string().parse::<serde_json::Value>().unwrap()["content"], event.content.as_str());
    assert_eq!(found[2]["sig"].as_str().unwrap().len(), 128);
    assert_eq!(client.next().await, json!(["EOSE", "x"]));
    board.shutdown().await;
}

#[tokio::test]
async fn an_event_that_has_expired_is_not_shown_and_no_duplicate() {
    static CLOCK: AtomicU64 = AtomicU64::new(1_700_000_000);
    let now = || Unix(CLOCK.load(Ordering::Relaxed));
    let (board, _dir) = board(|config| config.clock = || Unix(CLOCK.load(Ordering::Relaxed))).await;
    let mut client = Client::connect(board.local_addr()).await;
    let event = signed(1, 1, now().0, &[&["expiration", &(now().0 + 2).to_string()]], "soon over");
    client.stored(&event).await;
    CLOCK.fetch_add(1, Ordering::Relaxed);
    assert!(client.publish(&event).await.1.starts_with("duplicate: "));
    assert_eq!(client.ask("{}").await, ids(&[&event]));
    // Before it is taken out of the index.
    CLOCK.fetch_add(1, Ordering::Relaxed);
    let over = (false, "invalid: the event's own expiration has passed".to_owned());
    assert_eq!(client.publish(&event).await, over);
    assert_eq!(client.ask("{}").await, ids(&[]));
    board.shutdown().await;
}

#[tokio::test]
async fn stored_events_come_newest_first_with_the_limit_of_each_filter() {
    let (board, _dir) = board(|_| ()).await;
    let mut client = Client::connect(board.local_addr()).await;
    let at = now() - 100;
    let mut events: Vec<_> = (0..12u64).map(|i| signed(1, 1, at + i / 4, &[], &format!("{i}"))).collect();
    let other = signed(2, 7, at - 50, &[], "+");
    for event in events.iter().chain([&other]) {
        client.stored(event).await;
    }
    events.sort_by_key(|event| (u64::MAX - event.created_at.0, event.id));
    let sorted: Vec<_> = events.iter().collect();
    assert_eq!(client.ask("{\"kinds\":[1]}").await, ids(&sorted));
    assert_eq!(client.ask("{\"kinds\":[1],\"limit\":5}").await, ids(&sorted[..5]));
    assert_eq!(client.ask("{\"limit\":0}").await, ids(&[]));
    let both = client.ask("{\"kinds\":[1],\"limit\":2},{\"kinds\":[7]},{\"kinds\":[1],\"limit\":3}").await;
    assert_eq!(both, ids(&[sorted[0], sorted[1], sorted[2], &other]));
    board.shutdown().await;
}

#[tokio::test]
async fn live_events_come_once_to_whom_they_match_and_stop_with_close() {
    let (board, _dir) = board(|_| ()).await;
    let mut reader = Client::connect(board.local_addr()).await;
    let mut writer = Client::connect(board.local_addr()).await;
    let old = signed(1, 1, now() - 10, &[&["t", "a"]], "old");
    writer.stored(&old).await;
    reader.send("[\"REQ\",\"l\",{\"#t\":[\"a\"]},{\"kinds\":[1]},{\"kinds\":[1],\"limit\":0}]").await;
    assert_eq!(reader.next().await[2]["id"], hex(&old.id));
    assert_eq!(reader.next().await, json!(["EOSE", "l"]));
    let (other, new) = (signed(1, 7, now(), &[], "no"), signed(1, 1, now(), &[&["t", "a"]], "yes"));
    let passing = signed(1, 20_001, now(), &[&["t", "a"]], "typing");
    for event in [&other, &new, &passing] {
        writer.stored(event).await;
    }
    assert_eq!(reader.next().await[2]["id"], hex(&new.id));
    assert_eq!(reader.next().await[2]["id"], hex(&passing.id));
    reader.send("[\"CLOSE\",\"l\"]").await;
    // An answer shows that the board has read so far.
    assert_eq!(reader.ask("{\"kinds\":[20001]}").await, ids(&[]));
    writer.stored(&signed(1, 1, now(), &[&["t", "a"]], "later")).await;
    writer.stored(&signed(1, 20_001, now(), &[], "still watched")).await;
    assert_eq!(reader.next().await[1], "s");
    board.shutdown().await;
}

#[tokio::test]
async fn the_same_name_again_replaces_the_subscription() {
    let (board, _dir) = board(|_| ()).await;
    let mut reader = Client::connect(board.local_addr()).await;
    let mut writer = Client::connect(board.local_addr()).await;
    assert_eq!(reader.ask("{\"kinds\":[1]}").await, ids(&[]));
    assert_eq!(reader.ask("{\"kinds\":[7]}").await, ids(&[]));
    writer.stored(&signed(1, 1, now(), &[], "first")).await;
    let second = signed(1, 7, now(), &[], "second");
    writer.stored(&second).await;
    assert_eq!(reader.next().await[2]["id"], hex(&second.id));
    assert_eq!(board.stats().subscriptions, 1);
    board.shutdown().await;
}

#[tokio::test]
async fn between_stored_and_live_nothing_is_missing_and_nothing_comes_twice() {
    let (board, _dir) = board(|_| ()).await;
    let address = board.local_addr();
    let events: Vec<_> = (0..400u64).map(|i| signed(1, 1, now() - i % 7, &[], &format!("{i}"))).collect();
    let all: std::collections::BTreeSet<String> = events.iter().map(|event| hex(&event.id)).collect();
    let writer = async {
        let mut writer = Client::connect(address).await;
        for event in &events {
            writer.stored(event).await;
        }
    };
    let reader = async {
        let mut reader = Client::connect(address).await;
        let mut complete = 0;
        for round in 0..40 {
            reader.send(format!("[\"REQ\",\"r{round}\",{{\"kinds\":[1]}}]")).await;
        }
        let mut seen = vec![std::collections::BTreeSet::new(); 40];
        while complete < 40 {
            let frame = reader.next().await;
            if frame[0] == "EVENT" {
                let round: usize = frame[1].as_str().unwrap()[1..].parse().unwrap();
                assert!(seen[round].insert(frame[2]["id"].as_str().unwrap().to_owned()), "twice in round {round}");
                complete += usize::from(seen[round].len() == all.len());
            }
        }
        assert!(seen.iter().all(|seen| *seen == all));
    };
    futures_util::future::join(writer, reader).await;
    board.shutdown().await;
}

#[tokio::test]
async fn forged_events_are_refused_and_do_not_stand_in_the_way_of_the_true_one() {
    let (board, _dir) = board(|_| ()).await;
    let mut client = Client::connect(board.local_addr()).await;
    let event = signed(1, 1, now(), &[], "true");
    let mut bad_signature = event.clone();
    bad_signature.sig[5] ^= 1;
    let mut bad_id = event.clone();
    bad_id.id[0] ^= 1;
    let mut changed = event.clone();
    changed.content = "false".into();
    for forged in [&bad_signature, &bad_id, &changed] {
        let (accepted, why) = client.publish(forged).await;
        assert!(!accepted && why.starts_with("invalid: "), "{why}");
    }
    client.stored(&event).await;
    assert_eq!(client.ask("{}").await, ids(&[&event]));
    board.shutdown().await;
}

#[tokio::test]
async fn deleted_replaced_and_expired_events_are_refused_with_the_reason() {
    let (board, _dir) = board(|_| ()).await;
    let mut client = Client::connect(board.local_addr()).await;
    let event = signed(1, 1, now(), &[], "x");
    client.stored(&event).await;
    client.stored(&signed(1, 5, now(), &[&["e", &hex(&event.id)]], "")).await;
    let (new, old) = (signed(1, 0, now(), &[], "{}"), signed(1, 0, now() - 1, &[], "{}"));
    client.stored(&new).await;
    let past = signed(1, 1, now() - 20, &[&["expiration", &(now() - 10).to_string()]], "x");
    for (event, reason) in [(&event, "blocked: "), (&old, "duplicate: "), (&past, "invalid: ")] {
        let (accepted, why) = client.publish(event).await;
        assert!(!accepted && why.starts_with(reason), "{why}");
    }
    assert_eq!(client.ask("{\"kinds\":[0,1]}").await, ids(&[&new]));
    board.shutdown().await;
}

#[tokio::test]
async fn gift_wraps_are_shown_to_their_authenticated_recipient_only() {
    let (board, _dir) = board(|_| ()).await;
    let mut sender = Client::connect(board.local_addr()).await;
    let recipient = hex(&pubkey(2));
    let wrap = |content| signed(9, 1059, now(), &[&["p", &recipient]], content);
    let (stored, live) = (wrap("stored"), wrap("live"));
    sender.stored(&stored).await;
    let mut stranger = Client::connect(board.local_addr()).await;
    stranger.authenticate(3).await;
    let mut nobody = Client::connect(board.local_addr()).await;
    let mut owner = Client::connect(board.local_addr()).await;
    owner.authenticate(2).await;
    nobody.send("[\"REQ\",\"x\",{\"kinds\":[1059]}]").await;
    let refused = nobody.next().await;
    assert_eq!((refused[0].as_str(), refused[1].as_str()), (Some("CLOSED"), Some("x")));
    assert!(refused[2].as_str().unwrap().starts_with("auth-required: "));
    let by_id = format!("{{\"ids\":[\"{}\"]}}", hex(&stored.id));
    assert_eq!(nobody.ask(&by_id).await, ids(&[]));
    assert_eq!(nobody.ask("{}").await, ids(&[]));
    assert_eq!(stranger.ask("{\"kinds\":[1059]}").await, ids(&[]));
    stranger.send("[\"COUNT\",\"c\",{\"kinds\":[1059]}]").await;
    assert_eq!(stranger.next().await, json!(["COUNT", "c", { "count": 0 }]));
    assert_eq!(owner.ask("{\"kinds\":[1059]}").await, ids(&[&stored]));
    sender.stored(&live).await;
    assert_eq!(owner.next().await[2]["id"], hex(&live.id));
    let public = signed(1, 1, now(), &[], "for all");
    sender.stored(&public).await;
    assert_eq!(nobody.next().await[2]["id"], hex(&public.id), "the live gift wrap went past");
    board.shutdown().await;
}

#[tokio::test]
async fn an_answer_to_the_challenge_has_to_be_for_this_board_and_this_connection() {
    let (board, _dir) = board(|config| config.urls = vec!["wss://board.example/souk".into()]).await;
    let mut client = Client::connect(board.local_addr()).await;
    let other = Client::connect(board.local_addr()).await;
    assert_ne!(client.challenge, other.challenge);
    let challenge = client.challenge.clone();
    let mut forged = client.answer(1, "wss://board.example/souk", &challenge);
    forged.sig[0] ^= 1;
    let wrong = [
        client.answer(1, "wss://evil.example", &challenge),
        client.answer(1, "wss://board.example/souk", &other.challenge),
        forged,
    ];
    for event in &wrong {
        client.send(wire::frame::authenticate(event)).await;
        let (accepted, why) = client.ok(&event.id).await;
        assert!(!accepted && why.starts_with("invalid: "), "{why}");
    }
    let right = client.answer(1, "WSS://Board.example:443/souk/", &challenge);
    client.send(wire::frame::authenticate(&right)).await;
    assert_eq!(client.ok(&right.id).await, (true, String::new()));
    let (accepted, why) = client.publish(&right).await;
    assert!(!accepted && why.starts_with("blocked: "), "an answer is not published: {why}");
    board.shutdown().await;
}

#[tokio::test]
async fn a_protected_event_is_taken_from_its_authenticated_author_only() {
    let (board, _dir) = board(|_| ()).await;
    let mut client = Client::connect(board.local_addr()).await;
    let event = signed(1, 1, now(), &[&["-"]], "members only");
    let (accepted, why) = client.publish(&event).await;
    assert!(!accepted && why.starts_with("auth-required: "), "{why}");
    client.authenticate(2).await;
    let (accepted, why) = client.publish(&event).await;
    assert!(!accepted && why.starts_with("restricted: "), "somebody else's key does not help: {why}");
    client.authenticate(1).await;
    client.stored(&event).await;
    board.shutdown().await;
}

#[tokio::test]
async fn events_are_counted_without_being_sent() {
    let (board, _dir) = board(|config| config.limits.session.count = 5).await;
    let mut client = Client::connect(board.local_addr()).await;
    for i in 0..7 {
        client.stored(&signed(1, if i < 4 { 1 } else { 7 }, now() - i, &[], "x")).await;
    }
    client.send("[\"COUNT\",\"c\",{\"kinds\":[1],\"limit\":2}]").await;
    assert_eq!(client.next().await, json!(["COUNT", "c", { "count": 4 }]), "a limit is for what is sent");
    client.send("[\"COUNT\",\"c\",{}]").await;
    assert_eq!(client.next().await, json!(["COUNT", "c", { "count": 5, "approximate": true }]));
    board.shutdown().await;
}

#[tokio::test]
async fn a_restarted_board_has_everything_it_took() {
    let (board, dir) = board(|_| ()).await;
    let mut client = Client::connect(board.local_addr()).await;
    let events: Vec<_> = (0..20).map(|i| signed(1, 1, now() - i, &[], "kept")).collect();
    for event in &events {
        client.stored(event).await;
    }
    board.shutdown().await;
    assert!(client.maybe_next().await.is_none(), "a board that closes says so");
    let board = board::Board::start(crate::client::config(&dir)).await.unwrap();
    assert_eq!((board.opened().rebuilt, board.opened().caught_up, board.opened().frames), (None, 0, 20));
    let mut client = Client::connect(board.local_addr()).await;
    assert_eq!(client.ask("{}").await, ids(&events.iter().collect::<Vec<_>>()));
    board.shutdown().await;
}

#[tokio::test]
async fn what_is_under_way_when_the_board_closes_is_answered_first() {
    let (board, dir) = board(|_| ()).await;
    let mut client = Client::connect(board.local_addr()).await;
    let events: Vec<_> = (0..100).map(|i| signed(1, 1, now() - i, &[], "under way")).collect();
    for event in &events {
        client.send(wire::frame::publish(event, None)).await;
    }
    let closing = board.shutdown();
    let reading = async {
        let mut told = 0;
        while let Some(frame) = client.maybe_next().await {
            assert_eq!((&frame[0], &frame[2]), (&json!("OK"), &json!(true)), "{frame}");
            told += 1;
        }
        told
    };
    let ((), told) = futures_util::future::join(closing, reading).await;
    let board = board::Board::start(crate::client::config(&dir)).await.unwrap();
    assert_eq!(board.opened().frames, told, "every event that was kept was answered, and the other way round");
    board.shutdown().await;
}

#[tokio::test]
async fn a_takedown_is_at_once() {
    let (board, _dir) = board(|_| ()).await;
    let mut client = Client::connect(board.local_addr()).await;
    let event = signed(1, 1, now(), &[], "x");
    client.stored(&event).await;
    board.take_down(event.id, "stolen goods").await.unwrap();
    assert_eq!(client.ask("{}").await, ids(&[]));
    let (accepted, why) = client.publish(&event).await;
    assert!(!accepted && why.starts_with("blocked: "), "{why}");
    board.shutdown().await;
}

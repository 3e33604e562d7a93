//! Whole boards under pressure: limits, malformed frames, slow readers, HTTP.

use std::net::SocketAddr;
use std::time::Duration;

use board::admission::{KindPolicy, Policy, Rate};
use board::policy::Fee;
use futures_util::SinkExt;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message;

use crate::client::{Client, DEADLINE, board, ids, now};
use crate::events::{hex, signed};

#[tokio::test]
async fn frames_that_cannot_be_read_are_answered_where_the_client_looks() {
    let (board, _dir) = board(|_| ()).await;
    let mut client = Client::connect(board.local_addr()).await;
    for frame in
        ["", "{}", "[]", "[\"HELLO\"]", "[\"REQ\"]", "[\"CLOSE\",5]", "[\"EVENT\",{}]", "[\"REQ\",7,{}]", "\u{0}"]
    {
        client.send(frame).await;
        assert_eq!(client.next().await[0], "NOTICE", "{frame}");
    }
    for filter in ["{\"ids\":[\"ab\"]}", "{\"kinds\":[\"1\"]}", "{\"kinds\":[65536]}", "{\"nonsense\":1}", "7", "{"] {
        client.send(format!("[\"REQ\",\"q\",{filter}]")).await;
        let answer = client.next().await;
        assert_eq!((&answer[0], &answer[1]), (&json!("CLOSED"), &json!("q")), "{filter}");
        assert!(answer[2].as_str().unwrap().starts_with("invalid: "), "{answer}");
    }
    let event = signed(1, 1, now(), &[], "x");
    client.send(wire::frame::publish(&event, None).replace("\"kind\":1", "\"kind\":-1")).await;
    assert!(!client.ok(&event.id).await.0);
    client.send(format!("[\"REQ\",\"{}\",{{}}]", "x".repeat(65))).await;
    assert_eq!(client.next().await[0], "NOTICE");
    client.send("[\"NEG-OPEN\",\"n\",{},\"6\"]").await;
    assert_eq!(client.next().await[0], "NEG-ERR");
    client.stored(&event).await;
    board.shutdown().await;
}

#[tokio::test]
async fn binary_frames_are_read_and_text_is_sent() {
    let (board, _dir) = board(|_| ()).await;
    let mut client = Client::connect(board.local_addr()).await;
    let event = signed(1, 1, now(), &[], "x");
    client.socket.send(Message::binary(wire::frame::publish(&event, None).into_bytes())).await.unwrap();
    assert_eq!(client.ok(&event.id).await, (true, String::new()));
    client.socket.send(Message::binary(vec![0xff, 0xfe])).await.unwrap();
    assert_eq!(client.next().await[0], "NOTICE");
    board.shutdown().await;
}

#[tokio::test]
async fn endless_nonsense_ends_the_connection() {
    let (board, _dir) = board(|_| ()).await;
    let mut client = Client::connect(board.local_addr()).await;
    for _ in 0..200 {
        if client.socket.send(Message::text("nonsense")).await.is_err() {
            break;
        }
    }
    let mut notices = 0;
    while client.maybe_next().await.is_some() {
        notices += 1;
    }
    assert!(notices <= 100, "{notices}");
    board.shutdown().await;
}

#[tokio::test]
async fn subscriptions_filters_and_their_values_are_limited() {
    let (board, _dir) = board(|config| {
        config.limits.session.subscriptions = 3;
        config.limits.session.filter_values = 50;
        config.limits.session.limit = 4;
        config.limits.session.frame.filters = 2;
    })
    .await;
    let mut client = Client::connect(board.local_addr()).await;
    for i in 0..6 {
        client.stored(&signed(1, 1, now() - i, &[], "x")).await;
    }
    assert_eq!(client.ask("{\"limit\":100}").await.len(), 4);
    assert_eq!(client.ask("{}").await.len(), 4);
    let expect_closed = async |client: &mut Client, frame: String, prefix: &str| {
        client.send(frame).await;
        let answer = client.next().await;
        assert_eq!(answer[0], "CLOSED", "{answer}");
        assert!(answer[2].as_str().unwrap().starts_with(prefix), "{answer}");
    };
    expect_closed(&mut client, "[\"REQ\",\"f\",{},{},{}]".into(), "invalid: ").await;
    let many: Vec<u16> = (0..60).collect();
    expect_closed(&mut client, format!("[\"REQ\",\"v\",{{\"kinds\":{many:?}}}]"), "rate-limited: ").await;
    for name in ["a", "b"] {
        client.send(format!("[\"REQ\",\"{name}\",{{\"limit\":0}}]")).await;
        assert_eq!(client.next().await, json!(["EOSE", name]));
    }
    expect_closed(&mut client, "[\"REQ\",\"c\",{}]".into(), "rate-limited: ").await;
    client.send("[\"CLOSE\",\"a\"]").await;
    client.send("[\"REQ\",\"c\",{\"limit\":0}]").await;
    assert_eq!(client.next().await, json!(["EOSE", "c"]));
    board.shutdown().await;
}

#[tokio::test]
async fn a_message_that_is_too_long_ends_the_connection() {
    let (board, _dir) = board(|config| config.limits.session.frame.bytes = 10_000).await;
    let mut client = Client::connect(board.local_addr()).await;
    client.send("x".repeat(10_001)).await;
    assert!(client.maybe_next().await.is_none());
    board.shutdown().await;
}

#[tokio::test]
async fn a_reader_that_does_not_read_is_dropped_and_the_others_get_everything() {
    let (board, _dir) = board(|config| {
        config.limits.pending_bytes = 2 * 1024 * 1024;
        config.limits.write = Duration::from_secs(60);
    })
    .await;
    let mut slow = Client::connect(board.local_addr()).await;
    let mut reader = Client::connect(board.local_addr()).await;
    let mut writer = Client::connect(board.local_addr()).await;
    assert_eq!(slow.ask("{}").await, ids(&[]));
    assert_eq!(reader.ask("{}").await, ids(&[]));
    let content = "x".repeat(60_000);
    let mut sent = 0;
    let deadline = tokio::time::Instant::now() + DEADLINE;
    while board.stats().slow_readers == 0 {
        assert!(tokio::time::Instant::now() < deadline, "after {sent} events nobody was dropped");
        let event = signed(1, 1, now(), &[], &format!("{sent} {content}"));
        writer.stored(&event).await;
        assert_eq!(reader.next().await[2]["id"], hex(&event.id));
        sent += 1;
    }
    let event = signed(1, 1, now(), &[], "the last");
    writer.stored(&event).await;
    assert_eq!(reader.next().await[2]["id"], hex(&event.id));
    while slow.maybe_next().await.is_some() {}
    board.shutdown().await;
}

#[tokio::test]
async fn the_policy_can_be_replaced_while_the_board_runs() {
    let (board, _dir) = board(|_| ()).await;
    let mut client = Client::connect(board.local_addr()).await;
    client.stored(&signed(1, 1, now(), &[], "before")).await;
    board.policy().set(Policy {
        kinds: vec![1.into(), (300..=399).into(), 30_402.into()],
        per_kind: [((300..=399).into(), KindPolicy { pow: 8, ..KindPolicy::default() })].into(),
        per_author: Some(Rate { burst: 2, per_minute: 1 }),
        ..Policy::default()
    });
    let expect = async |client: &mut Client, event: wire::Event, prefix: &str| {
        let (accepted, why) = client.publish(&event).await;
        assert!(!accepted && why.starts_with(prefix), "{why}");
    };
    expect(&mut client, signed(1, 7, now(), &[], "+"), "blocked: ").await;
    expect(&mut client, signed(1, 300, now(), &[], "lazy"), "pow: ").await;
    expect(&mut client, signed(1, 1, now() + 3600, &[], "tomorrow"), "invalid: ").await;
    let unsigned = wire::Unsigned {
        pubkey: crate::events::pubkey(1),
        created_at: units::Unix(now()),
        kind: 300,
        tags: vec![],
        content: "{}".into(),
    };
    let worked = wire::pow::Miner::new(unsigned, 8, true, 0, 1).step(1 << 20).unwrap();
    client.stored(&worked.sign(&crate::events::key(1), &[0; 32])).await;
    client.stored(&signed(1, 1, now(), &[], "second")).await;
    expect(&mut client, signed(1, 1, now(), &[], "third"), "rate-limited: ").await;
    client.stored(&signed(2, 1, now(), &[], "somebody else")).await;
    board.shutdown().await;
}

/// The status of what is answered, its head in lower case, and its body.
pub(crate) async fn http(address: SocketAddr, request: &str) -> (u16, String, String) {
    let mut socket = TcpStream::connect(address).await.unwrap();
    socket.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    tokio::time::timeout(DEADLINE, socket.read_to_string(&mut answer)).await.unwrap().unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head[9..12].parse().unwrap(), head.to_lowercase(), body.to_owned())
}

#[tokio::test]
async fn http_tells_what_the_board_is_on_the_same_port() {
    let (board, _dir) = board(|config| {
        config.name = "<Market & more>".into();
        let lazy = KindPolicy { pow: 20, anti_spam_ln_msat: 1000, ..KindPolicy::default() };
        config.policy.per_kind = [(300.into(), lazy)].into();
        config.policy.per_author = Some(Rate { burst: 10, per_minute: 2 });
        config.policy.fees.anti_spam_recipient = Some("board@example".into());
        config.policy.fees.publication =
            vec![Fee { msat: 100, period_secs: None, kinds: vec![4.into(), (300..=399).into()] }];
        config.limits.session.subscriptions = 7;
    })
    .await;
    let (status, head, body) =
        http(board.local_addr(), "GET / HTTP/1.1\r\nHost: x\r\nAccept: application/nostr+json\r\n\r\n").await;
    assert_eq!(status, 200);
    assert!(head.contains("content-type: application/nostr+json") && head.contains("access-control-allow-origin: *"));
    let document: Value = serde_json::from_str(&body).unwrap();
    assert_eq!(document["name"], "<Market & more>");
    assert_eq!(document["limitation"]["max_subscriptions"], 7);
    assert_eq!(document["domp_policy"]["pow_difficulty"], json!({ "default": 0, "kind_300": 20 }));
    assert_eq!(document["domp_policy"]["anti_spam_required"], true);
    assert_eq!(
        document["domp_policy"]["lightning_payment"],
        json!({ "amount_msat": 1000, "recipient": "board@example" })
    );
    assert_eq!(document["domp_policy"]["rate_limits"], json!({ "events_per_hour": 120, "events_per_day": 2880 }));
    assert_eq!(
        document["fees"],
        json!({ "publication": [{ "amount": 100, "unit": "msats", "kinds": [4, [300, 399]] }] })
    );
    let nips: Vec<u64> =
        document["supported_nips"].as_array().unwrap().iter().map(|nip| nip.as_u64().unwrap()).collect();
    assert!(
        [1, 9, 45, 50, 62, 77].iter().all(|nip| nips.contains(nip)) && !nips.contains(&86),
        "nobody manages this one"
    );
    assert_eq!(document["retention"][0], json!({ "kinds": [[20000, 29999]], "time": 0 }));
    assert_eq!(document["limitation"]["payment_required"], false);
    let (status, _, page) = http(board.local_addr(), "GET / HTTP/1.1\r\nHost: x\r\n\r\n").await;
    assert_eq!(status, 200);
    assert!(page.contains("&lt;Market &amp; more&gt;"));
    assert_eq!(http(board.local_addr(), "GET /health HTTP/1.1\r\nHost: x\r\n\r\n").await.0, 200);
    assert_eq!(http(board.local_addr(), "HEAD / HTTP/1.1\r\nHost: x\r\n\r\n").await.0, 200);
    assert_eq!(http(board.local_addr(), "GET /else HTTP/1.1\r\nHost: x\r\n\r\n").await.0, 404);
    let behind_a_path = "GET /else HTTP/1.1\r\nHost: x\r\nAccept: application/nostr+json\r\n\r\n";
    assert_eq!(http(board.local_addr(), behind_a_path).await.2, body, "the WebSocket is there too");
    let (status, head, _) = http(board.local_addr(), "OPTIONS / HTTP/1.1\r\nHost: x\r\n\r\n").await;
    assert!(status == 204 && head.contains("access-control-allow-headers: authorization"), "{head}");
    board.shutdown().await;
}

#[tokio::test]
async fn limits_are_where_the_information_document_says() {
    let (board, _dir) = board(|config| {
        (config.policy.event_bytes, config.policy.tags) = (2000, 3);
        config.policy.default.pow = 0;
        (config.limits.session.subscriptions, config.limits.session.limit) = (2, 4);
    })
    .await;
    let request = "GET / HTTP/1.1\r\nHost: x\r\nAccept: application/nostr+json\r\n\r\n";
    let document: Value = serde_json::from_str(&http(board.local_addr(), request).await.2).unwrap();
    let limit = |name: &str| document["limitation"][name].as_u64().unwrap() as usize;
    let mut client = Client::connect(board.local_addr()).await;
    // The longest head there is.
    let long = |n| signed(1, 65_000, now(), &[], &"x".repeat(n));
    let max = limit("max_content_length");
    assert_eq!(max, 2000 - long(0).to_json().len());
    client.stored(&long(max)).await;
    assert!(client.publish(&long(max + 1)).await.1.starts_with("invalid: "));
    let tagged = |n| signed(1, 1, now(), &vec![&["t", "a"][..]; n], "x");
    client.stored(&tagged(limit("max_event_tags"))).await;
    assert!(client.publish(&tagged(limit("max_event_tags") + 1)).await.1.starts_with("invalid: "));
    for n in 0..10 {
        client.stored(&signed(1, 1, now() - n, &[], "one of many")).await;
    }
    let mut reader = Client::connect(board.local_addr()).await;
    assert_eq!((limit("default_limit"), limit("max_limit")), (4, 4));
    for filter in ["{}", "{\"limit\":100}"] {
        assert_eq!(Client::connect(board.local_addr()).await.ask(filter).await.len(), 4);
    }
    let subscribe = |id: &str| format!("[\"REQ\",\"{id}\",{{\"kinds\":[7]}}]");
    let name = "n".repeat(limit("max_subid_length"));
    for (id, answer) in [(&*name, "EOSE"), ("second", "EOSE"), ("third", "CLOSED")] {
        reader.send(subscribe(id)).await;
        assert_eq!(reader.next().await[0], answer, "{id}");
    }
    reader.send("[\"CLOSE\",\"second\"]").await;
    reader.send(subscribe(&format!("{name}n"))).await;
    assert_eq!(reader.next().await[0], "NOTICE");
    let filters = |n| format!("[\"COUNT\",\"c\"{}]", ",{}".repeat(n));
    for (n, answer) in [(limit("max_filters"), "COUNT"), (limit("max_filters") + 1, "NOTICE")] {
        reader.send(filters(n)).await;
        let said = reader.next().await;
        assert!(said[0] == answer || said[0] == "CLOSED" && answer == "NOTICE", "{n}: {said}");
    }
    let longest = limit("max_message_length");
    let spaced = |len: usize| format!("[\"CLOSE\",\"x\"{}]", " ".repeat(len - 13));
    reader.send(spaced(longest)).await;
    reader.send("[\"COUNT\",\"c\",{\"kinds\":[7]}]").await;
    assert_eq!(reader.next().await[0], "COUNT", "it was read");
    reader.send(spaced(longest + 1)).await;
    assert_eq!(reader.maybe_next().await, None, "and that ended the connection");
    board.shutdown().await;
}

#[tokio::test]
async fn connections_are_limited_and_a_seat_is_given_back() {
    let (board, _dir) = board(|config| {
        config.limits.connections = 2;
        config.limits.handshake = Duration::from_millis(200);
    })
    .await;
    let _first = Client::connect(board.local_addr()).await;
    let second = Client::connect(board.local_addr()).await;
    let mut third = TcpStream::connect(board.local_addr()).await.unwrap();
    let mut byte = [0];
    let read = tokio::time::timeout(DEADLINE, third.read(&mut byte)).await.unwrap();
    assert!(matches!(read, Ok(0) | Err(_)), "there was no seat");
    drop(second);
    wait_for(&board, 1).await;
    // It says nothing, so it does not keep the seat for long.
    let mut mute = TcpStream::connect(board.local_addr()).await.unwrap();
    let mut rest = Vec::new();
    tokio::time::timeout(DEADLINE, mute.read_to_end(&mut rest)).await.unwrap().unwrap();
    wait_for(&board, 1).await;
    let mut fourth = Client::connect(board.local_addr()).await;
    assert_eq!(fourth.ask("{}").await, ids(&[]));
    board.shutdown().await;
}

async fn wait_for(board: &board::Board, connections: u64) {
    let deadline = tokio::time::Instant::now() + DEADLINE;
    while board.stats().connections != connections {
        assert!(tokio::time::Instant::now() < deadline, "{:?}", board.stats());
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn a_connection_on_which_nothing_is_heard_is_dropped() {
    let (board, _dir) = board(|config| config.limits.ping = Duration::from_millis(50)).await;
    let client = Client::connect(board.local_addr()).await;
    // Whoever does not read does not answer pings either.
    wait_for(&board, 0).await;
    drop(client);
    board.shutdown().await;
}

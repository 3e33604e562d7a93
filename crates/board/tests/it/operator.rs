//! The operator's side of a whole board: who is there, what to do about them, what is shut out, events in and out.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use board::decisions::Decision;
use board::operator::{Operator, Whom};
use board::{Board, BoardConfig};
use futures_util::StreamExt;
use serde_json::json;
use tokio_tungstenite::tungstenite::Message;

use crate::client::{Client, DEADLINE, board, ids, now};
use crate::events::{filter, hex, pubkey, signed};

fn lines(operator: &Operator, filters: &[&str]) -> Vec<String> {
    let mut text = Vec::new();
    let filters = filters.iter().map(|json| filter(json)).collect();
    let exported = operator.export(filters, &mut |piece| std::io::Write::write_all(&mut text, piece)).unwrap();
    let text = String::from_utf8(text).unwrap();
    assert_eq!((exported.bytes, exported.events), (text.len() as u64, text.lines().count() as u64));
    text.lines().map(str::to_owned).collect()
}

#[tokio::test]
async fn clients_and_their_subscriptions_are_seen_and_counted() {
    let (board, _dir) = board(|_| ()).await;
    let operator = board.operator();
    let mut first = Client::connect(board.local_addr()).await;
    let mut second = Client::connect(board.local_addr()).await;
    first.authenticate(3).await;
    first.ask("{\"kinds\":[1],\"#t\":[\"x\"]}").await;
    second.stored(&signed(1, 1, now(), &[], "x")).await;
    let clients = operator.clients().await;
    assert_eq!(clients.iter().map(|client| client.number).collect::<Vec<_>>(), [0, 1]);
    let loopback: IpAddr = "127.0.0.1".parse().unwrap();
    assert!(clients.iter().all(|client| client.address == loopback && client.since.0 >= now() && !client.stuck));
    assert_eq!((&clients[0].keys, clients[0].subscriptions), (&vec![hex(&pubkey(3))], 1));
    assert!(clients[1].keys.is_empty() && clients[1].subscriptions == 0);
    // The challenge and OK went out, one event came in.
    assert_eq!((clients[1].traffic.frames_in, clients[1].traffic.frames_out), (1, 2));
    assert!(clients[1].traffic.bytes_in > 200);
    let all = operator.subscriptions(Whom::All).await;
    assert_eq!(all, operator.subscriptions(Whom::Number(0)).await);
    assert_eq!((all[0].client, all[0].id.as_str(), all[0].stage.as_str()), (0, "s", "live"));
    assert_eq!(all[0].filters, [json!({"kinds": [1], "#t": ["x"]})]);
    assert!(operator.subscriptions(Whom::Number(1)).await.is_empty());
    // What went over a connection stays counted when it has gone.
    let before = operator.stats().traffic;
    drop(second);
    while operator.clients().await.len() > 1 {
        tokio::task::yield_now().await;
    }
    let stats = operator.stats();
    assert_eq!((stats.came, stats.connections), (2, 1));
    assert!(stats.traffic.frames_in >= before.frames_in && stats.traffic.bytes_out >= before.bytes_out);
    board.shutdown().await;
}

#[tokio::test]
async fn a_notice_reaches_whom_it_is_for_and_a_connection_is_ended_with_the_reason() {
    let (board, _dir) = board(|_| ()).await;
    let operator = board.operator();
    let mut first = Client::connect(board.local_addr()).await;
    let mut second = Client::connect(board.local_addr()).await;
    assert_eq!(operator.notice(Whom::Number(1), "only you"), 1);
    assert_eq!(second.next().await, json!(["NOTICE", "only you"]));
    assert_eq!(operator.notice(Whom::All, "closing at \"noon\""), 2);
    for client in [&mut first, &mut second] {
        assert_eq!(client.next().await, json!(["NOTICE", "closing at \"noon\""]));
    }
    assert_eq!(operator.disconnect(Whom::Number(7)), 0);
    assert_eq!(operator.disconnect(Whom::Number(0)), 1);
    assert_eq!(first.maybe_next().await, None);
    drop(first);
    while operator.clients().await.len() > 1 {
        tokio::task::yield_now().await;
    }
    assert_eq!(operator.disconnect("127.0.0.1".parse().unwrap()), 1);
    assert_eq!(second.maybe_next().await, None);
    board.shutdown().await;
}

#[tokio::test]
async fn who_is_shut_out_is_refused_cut_off_and_stays_so_after_a_restart() {
    let (board, dir) = board(|_| ()).await;
    let operator = board.operator();
    let mut client = Client::connect(board.local_addr()).await;
    let mut other = Client::connect(board.local_addr()).await;
    client.authenticate(1).await;
    let kept = signed(2, 1, now(), &[], "kept");
    let gone = signed(2, 1, now() - 1, &[], "gone");
    let never = signed(2, 1, now() - 2, &[], "never");
    other.stored(&kept).await;
    other.stored(&gone).await;
    let decide = async |decision| operator.decide(decision).await.unwrap();
    decide(Decision::BanAuthor { author: pubkey(1), reason: "spam".into() }).await;
    decide(Decision::BanEvent { id: gone.id, reason: "court order".into() }).await;
    decide(Decision::BanEvent { id: never.id, reason: "before it came".into() }).await;
    assert_eq!(client.maybe_next().await, None, "it had authenticated as the author");
    let check = async |client: &mut Client| {
        let (accepted, why) = client.publish(&signed(1, 1, now(), &[], "x")).await;
        assert!(!accepted && why.starts_with("blocked: this author"), "{why}");
        let (accepted, why) = client.publish(&never).await;
        assert!(!accepted && why.starts_with("blocked: "), "{why}");
        assert_eq!(client.ask("{}").await, ids(&[&kept]));
    };
    check(&mut other).await;
    board.shutdown().await;
    // Whoever still has the handle has the store, and its lock.
    drop(operator);
    let config = BoardConfig::new(dir.path(), "127.0.0.1:0".parse().unwrap());
    let board = Board::start(config).await.unwrap();
    let mut client = Client::connect(board.local_addr()).await;
    check(&mut client).await;
    let decisions = board.operator().decisions();
    assert_eq!(decisions.authors[&hex(&pubkey(1))].reason, "spam");
    assert_eq!(decisions.events.len(), 2);
    board.operator().decide(Decision::UnbanAuthor { author: pubkey(1) }).await.unwrap();
    // A fresh connection: the other one is subscribed and would see what it publishes.
    let mut client = Client::connect(board.local_addr()).await;
    client.stored(&signed(1, 1, now(), &[], "x")).await;
    let address = "127.0.0.1".parse().unwrap();
    board.operator().decide(Decision::BanAddress { address, reason: String::new() }).await.unwrap();
    assert_eq!(client.maybe_next().await, None);
    let stream = tokio::net::TcpStream::connect(board.local_addr()).await.unwrap();
    assert!(tokio_tungstenite::client_async(format!("ws://{}", board.local_addr()), stream).await.is_err());
    board.shutdown().await;
}

#[tokio::test]
async fn what_is_exported_is_imported_elsewhere_once_and_again_without_harm() {
    let (from, _from_dir) = board(|_| ()).await;
    let mut client = Client::connect(from.local_addr()).await;
    let events: Vec<_> =
        (0..300).map(|i| signed(1, [1, 2, 7][i as usize % 3], now() - i, &[], &format!("{i}"))).collect();
    for event in &events {
        client.stored(event).await;
    }
    let exported = lines(&from.operator(), &["{}"]);
    let expected: Vec<String> = events.iter().map(wire::Event::to_json).collect();
    assert_eq!(exported, expected, "newest first, one a line, more than the limit of a question");
    let chosen = lines(&from.operator(), &["{\"kinds\":[2],\"limit\":5}", "{\"kinds\":[7],\"limit\":1}"]);
    assert_eq!(chosen.len(), 6);
    from.shutdown().await;

    let (to, _to_dir) = board(|config| config.policy.banned_authors.insert(pubkey(9)).then_some(()).unwrap()).await;
    let operator = to.operator();
    let import = |text: String| {
        let operator = operator.clone();
        tokio::task::spawn_blocking(move || operator.import(text.as_bytes()))
    };
    let half = import(exported[..100].join("\n")).await.unwrap();
    assert_eq!((half.lines, half.new, half.known, half.refused.len()), (100, 100, 0, 0));
    let again = import(exported.join("\r\n") + "\n\n").await.unwrap();
    assert_eq!((again.lines, again.new, again.known, again.refused.len()), (300, 200, 100, 0));
    let forged = expected[0].replace("\"content\":\"0\"", "\"content\":\"forged\"");
    let bad = [
        forged.clone(),
        forged.replace(&hex(&events[0].id), &"ab".repeat(32)),
        "nonsense".into(),
        "{}".into(),
        signed(1, 20_001, now(), &[], "ephemeral").to_json(),
        signed(9, 1, now(), &[], "shut out").to_json(),
        signed(1, 22_242, now(), &[], "denied").to_json(),
        signed(1, 1, now(), &[&["expiration", "5"]], "expired").to_json(),
        signed(1, 1, 5, &[&["-"]], "old and protected").to_json(),
    ];
    let refused = import(bad.join("\n")).await.unwrap();
    // An id that is known is known, whatever stands beside it.
    assert_eq!((refused.lines, refused.new, refused.known), (9, 1, 1));
    let prefixes: BTreeMap<&str, u64> = refused.refused.iter().fold(BTreeMap::new(), |mut all, (why, count)| {
        *all.entry(why.split(':').next().unwrap()).or_default() += count;
        all
    });
    assert_eq!(prefixes, BTreeMap::from([("invalid", 4), ("ephemeral", 2), ("blocked", 1)]));
    assert_eq!(lines(&operator, &["{}"]).len(), 301);
    to.shutdown().await;
}

#[tokio::test]
async fn metrics_tell_what_happened_by_fate_and_by_rule() {
    let (board, _dir) = board(|config| config.policy.event_bytes = 1000).await;
    let mut client = Client::connect(board.local_addr()).await;
    let event = signed(1, 1, now(), &[], "x");
    client.stored(&event).await;
    client.publish(&event).await;
    client.publish(&signed(1, 1, now(), &[], &"x".repeat(2000))).await;
    client.publish(&signed(1, 22_242, now(), &[], "")).await;
    client.ask("{}").await;
    let metrics = board.operator().metrics();
    let value = |name: &str| {
        let line = metrics.lines().find_map(|line| line.strip_prefix(&format!("souk_board_{name} ")));
        line.unwrap_or_else(|| panic!("no {name} in {metrics}")).parse::<u64>().unwrap()
    };
    assert_eq!((value("connections"), value("subscriptions"), value("store_events")), (1, 1, 1));
    for (fate, count) in [("accepted", 1), ("known", 1), ("refused", 2), ("failed", 0)] {
        assert_eq!(value(&format!("events_total{{fate=\"{fate}\"}}")), count, "{fate}");
    }
    assert_eq!(value("refused_total{rule=\"size\"}"), 1);
    assert_eq!(value("refused_total{rule=\"kind-allowed\"}"), 1);
    assert_eq!(value("frames_total{direction=\"in\"}"), 5);
    assert!(value("store_log_bytes") > 300, "{metrics}");
    assert_eq!(value("store_commits_total"), 1);
    // Every metric says what it is, once.
    let named: Vec<&str> = metrics.lines().filter_map(|l| l.strip_prefix("# TYPE ")?.split(' ').next()).collect();
    let used = |name: &str| metrics.lines().any(|line| line.starts_with(name));
    assert!(named.iter().all(|name| used(name)));
    board.shutdown().await;
}

#[tokio::test]
async fn a_board_that_closes_says_so_and_waits_for_nobody_who_does_not_read() {
    let (board, _dir) = board(|config| {
        config.limits.write = Duration::from_secs(3600);
        config.limits.drain = Duration::from_millis(100);
    })
    .await;
    let mut told = Client::connect(board.local_addr()).await;
    let mut mute = Client::connect(board.local_addr()).await;
    let content = "x".repeat(50_000);
    for i in 0..200 {
        told.stored(&signed(1, 1, now() - i, &[], &content)).await;
    }
    // More than the system takes for somebody who never reads.
    mute.send("[\"REQ\",\"s\",{}]").await;
    let closing = tokio::time::timeout(DEADLINE, board.shutdown());
    let (closed, last) = tokio::join!(closing, told.socket.next());
    closed.expect("the board waits for the mute");
    match last {
        Some(Ok(Message::Close(Some(frame)))) => assert_eq!(u16::from(frame.code), 1001, "{frame}"),
        other => panic!("{other:?}"),
    }
}

//! Management over HTTP (NIP-86): who may, what a request has to be signed for, and what each method really does.

use base64::Engine as _;
use bitcoin::hashes::{Hash, sha256};
use board::Board;
use board::management::METHODS;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use units::Unix;
use wire::Unsigned;

use crate::client::{Client, DEADLINE, board, ids, now};
use crate::events::{hex, key, pubkey, signed, tags};

/// Who manages the boards of these tests.
const OPERATOR: u8 = 8;

async fn post(board: &Board, authorization: &str, body: &str) -> (u16, Value) {
    let mut socket = TcpStream::connect(board.local_addr()).await.unwrap();
    let head = format!(
        "POST / HTTP/1.1\r\nHost: x\r\nContent-Type: application/nostr+json+rpc\r\n{authorization}Content-Length: {}\r\n\r\n",
        body.len()
    );
    socket.write_all((head + body).as_bytes()).await.unwrap();
    let mut answer = String::new();
    tokio::time::timeout(DEADLINE, socket.read_to_string(&mut answer)).await.unwrap().unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.split(' ').nth(1).unwrap().parse().unwrap(), serde_json::from_str(body).unwrap())
}

/// The event that signs for a request, which `change` may spoil.
fn authorization(board: &Board, body: &str, author: u8, change: impl FnOnce(&mut Unsigned)) -> String {
    let url = format!("http://{}/", board.local_addr());
    let hash = sha256::Hash::hash(body.as_bytes()).to_string();
    let mut event = Unsigned {
        pubkey: [0; 32],
        created_at: board::system_clock(),
        kind: 27_235,
        tags: tags(&[&["u", &url], &["method", "POST"], &["payload", &hash]]),
        content: String::new(),
    };
    change(&mut event);
    let event = event.sign(&key(author), &[0; 32]).to_json();
    format!("Authorization: Nostr {}\r\n", base64::engine::general_purpose::STANDARD.encode(event))
}

async fn call(board: &Board, method: &str, params: Value) -> Value {
    let body = json!({ "method": method, "params": params }).to_string();
    let (status, answer) = post(board, &authorization(board, &body, OPERATOR, |_| ()), &body).await;
    assert_eq!(status, 200, "{answer}");
    answer
}

#[tokio::test]
async fn a_request_that_is_not_signed_for_by_the_operator_just_so_is_refused() {
    let (board, _dir) = board(|config| config.operators = vec![pubkey(OPERATOR)]).await;
    let body = json!({ "method": "changerelayname", "params": ["Mine now"] }).to_string();
    let set = |name: &'static str, value: &'static str| {
        move |event: &mut Unsigned| {
            let tag = event.tags.iter_mut().find(|tag| tag[0] == name).unwrap();
            tag[1] = value.to_owned();
        }
    };
    type Spoil = Box<dyn FnOnce(&mut Unsigned)>;
    let spoilt: Vec<(&str, u8, Spoil)> = vec![
        ("not among", 7, Box::new(|_| ())),
        ("kind 27235", OPERATOR, Box::new(|event| event.kind = 1)),
        ("60 seconds", OPERATOR, Box::new(|event| event.created_at = Unix(event.created_at.0 - 70))),
        ("60 seconds", OPERATOR, Box::new(|event| event.created_at = Unix(event.created_at.0 + 70))),
        ("u tag", OPERATOR, Box::new(set("u", "http://elsewhere.example/"))),
        ("u tag", OPERATOR, Box::new(|event| event.tags.retain(|tag| tag[0] != "u"))),
        ("method tag", OPERATOR, Box::new(set("method", "GET"))),
        ("payload tag", OPERATOR, Box::new(set("payload", &"00".repeat(32).leak()[..]))),
        ("payload tag", OPERATOR, Box::new(|event| event.tags.retain(|tag| tag[0] != "payload"))),
    ];
    for (needle, author, change) in spoilt {
        let (status, answer) = post(&board, &authorization(&board, &body, author, change), &body).await;
        assert_eq!(status, 401, "{needle}: {answer}");
        assert!(answer["error"].as_str().unwrap().contains(needle), "{needle}: {answer}");
    }
    let good = authorization(&board, &body, OPERATOR, |_| ());
    for header in ["", "Authorization: Nostr !!\r\n", "Authorization: Bearer x\r\n", "Authorization: Nostr e30=\r\n"] {
        assert_eq!(post(&board, header, &body).await.0, 401, "{header}");
    }
    assert_eq!(post(&board, &good, &body.replace("Mine", "Ours")).await.0, 401, "another body");
    let long = body.replace("Mine", &"x".repeat(100_000));
    assert_eq!(post(&board, &good, &long).await.0, 413);
    assert_eq!(board.operator().decisions().name, None, "nothing was done");
    assert_eq!(post(&board, &good, &body).await, (200, json!({ "result": true })));
    assert_eq!(board.operator().decisions().name.as_deref(), Some("Mine now"));
    board.shutdown().await;
}

#[tokio::test]
async fn without_an_operators_key_nobody_manages_the_board() {
    let (board, _dir) = board(|_| ()).await;
    let body = json!({ "method": "supportedmethods", "params": [] }).to_string();
    assert_eq!(post(&board, &authorization(&board, &body, OPERATOR, |_| ()), &body).await.0, 401);
    board.shutdown().await;
}

#[tokio::test]
async fn every_method_that_is_listed_does_what_it_says() {
    let (board, _dir) = board(|config| config.operators = vec![pubkey(OPERATOR)]).await;
    let mut client = Client::connect(board.local_addr()).await;
    let methods = call(&board, "supportedmethods", json!([])).await["result"].clone();
    assert_eq!(methods, json!(METHODS));
    let done = json!({ "result": true });
    let event = signed(1, 1, now(), &[], "x");
    client.stored(&event).await;

    assert_eq!(call(&board, "banevent", json!([hex(&event.id), "court order"])).await, done);
    assert_eq!(client.ask("{}").await, ids(&[]));
    client.send("[\"CLOSE\",\"s\"]").await;
    let listed = call(&board, "listbannedevents", json!([])).await;
    assert_eq!(listed["result"], json!([{ "id": hex(&event.id), "reason": "court order" }]));

    let author = hex(&pubkey(1));
    assert_eq!(call(&board, "banpubkey", json!([author, "spam"])).await, done);
    assert!(!client.publish(&signed(1, 1, now() - 1, &[], "y")).await.0);
    let listed = call(&board, "listbannedpubkeys", json!([])).await;
    assert_eq!(listed["result"], json!([{ "pubkey": author, "reason": "spam" }]));
    assert_eq!(call(&board, "unbanpubkey", json!([author])).await, done);
    client.stored(&signed(1, 1, now() - 1, &[], "y")).await;
    assert_eq!(call(&board, "listbannedpubkeys", json!([])).await["result"], json!([]));
    assert!(call(&board, "unbanpubkey", json!([author])).await["error"].as_str().unwrap().contains("not shut out"));

    assert_eq!(call(&board, "disallowkind", json!([7])).await, done);
    assert!(!client.publish(&signed(1, 7, now(), &[], "+")).await.0);
    let kinds = call(&board, "listallowedkinds", json!([])).await["result"].clone();
    let kinds: Vec<u64> = kinds.as_array().unwrap().iter().map(|kind| kind.as_u64().unwrap()).collect();
    assert!(kinds.contains(&1) && !kinds.contains(&7) && !kinds.contains(&22_242));
    assert_eq!(call(&board, "allowkind", json!([7])).await, done);
    client.stored(&signed(1, 7, now(), &[], "+")).await;

    for (method, key) in
        [("changerelayname", "name"), ("changerelaydescription", "description"), ("changerelayicon", "icon")]
    {
        assert_eq!(call(&board, method, json!([format!("new {key}")])).await, done);
        let mut socket = TcpStream::connect(board.local_addr()).await.unwrap();
        socket.write_all(b"GET / HTTP/1.1\r\nHost: x\r\nAccept: application/nostr+json\r\n\r\n").await.unwrap();
        let mut answer = String::new();
        socket.read_to_string(&mut answer).await.unwrap();
        let document: Value = serde_json::from_str(answer.split_once("\r\n\r\n").unwrap().1).unwrap();
        assert_eq!(document[key], format!("new {key}"));
    }

    assert_eq!(call(&board, "blockip", json!(["192.0.2.7", "scraper"])).await, done);
    let listed = call(&board, "listblockedips", json!([])).await;
    assert_eq!(listed["result"], json!([{ "ip": "192.0.2.7", "reason": "scraper" }]));
    assert!(board.policy().get().banned_addresses.contains(&"192.0.2.7".parse().unwrap()));
    assert_eq!(call(&board, "unblockip", json!(["192.0.2.7"])).await, done);
    assert!(board.policy().get().banned_addresses.is_empty());
    board.shutdown().await;
}

#[tokio::test]
async fn a_call_that_makes_no_sense_is_told_so() {
    let (board, _dir) = board(|config| config.operators = vec![pubkey(OPERATOR)]).await;
    for (body, needle) in [
        ("{\"method\":\"allowevent\",\"params\":[]}", "not offered"),
        ("{\"method\":\"banpubkey\",\"params\":[]}", "needs a text"),
        ("{\"method\":\"banpubkey\",\"params\":[\"npub1\"]}", "hex"),
        ("{\"method\":\"allowkind\",\"params\":[65536]}", "0 to 65535"),
        ("{\"method\":\"blockip\",\"params\":[\"localhost\"]}", "no IP address"),
        ("[]", "not understood"),
    ] {
        let (status, answer) = post(&board, &authorization(&board, body, OPERATOR, |_| ()), body).await;
        assert_eq!(status, 400, "{body}");
        assert!(answer["error"].as_str().unwrap().contains(needle), "{answer}");
    }
    board.shutdown().await;
}

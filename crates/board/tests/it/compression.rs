//! Clients that compress and have the board compress (RFC 7692): what they read is inflated by another implementation.

use board::Board;
use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress};
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use wire::Event;

use crate::client::{Client, DEADLINE, board, now};
use crate::events::{hex, signed};
use crate::websocket::{LAST, TEXT, frame};

/// The bit that says that a message is compressed.
const DEFLATED: u8 = 0x40;
const PLAIN: &str = "permessage-deflate";
/// What RFC 7692 leaves out of each message.
const TAIL: [u8; 4] = [0, 0, 0xff, 0xff];

/// A client that offers an extension.
struct Deflating {
    socket: TcpStream,
    inflater: Decompress,
    /// It forgets what it read before each message.
    alone: bool,
    /// Bytes of messages as they came, and inflated.
    came: usize,
    meant: usize,
}

fn deflated(text: &str) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len() + 100);
    Compress::new(Compression::default(), false).compress_vec(text.as_bytes(), &mut out, FlushCompress::Sync).unwrap();
    assert_eq!(out.split_off(out.len() - 4), TAIL);
    out
}

/// Opens a connection. Gives the answer to the offer.
async fn open(board: &Board, offer: &str) -> (TcpStream, Option<String>) {
    let mut socket = TcpStream::connect(board.local_addr()).await.unwrap();
    let request = format!(
        "GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Extensions: {offer}\r\n\r\n"
    );
    socket.write_all(request.as_bytes()).await.unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(socket.read_u8().await.unwrap());
    }
    let head = String::from_utf8(head).unwrap().to_ascii_lowercase();
    assert!(head.starts_with("http/1.1 101"), "{head}");
    let answer = head.lines().find_map(|line| line.strip_prefix("sec-websocket-extensions: ").map(str::to_owned));
    (socket, answer)
}

impl Deflating {
    async fn connect(board: &Board, offer: &str) -> Deflating {
        let (socket, answer) = open(board, offer).await;
        let answer = answer.expect("the board takes the offer");
        let (inflater, alone) = (Decompress::new(false), answer.contains("server_no_context_takeover"));
        let mut client = Deflating { socket, inflater, alone, came: 0, meant: 0 };
        assert_eq!(client.next().await[0], "AUTH");
        client
    }

    async fn write(&mut self, bytes: &[u8]) {
        self.socket.write_all(bytes).await.unwrap();
    }

    async fn send(&mut self, text: &str) {
        self.write(&frame(LAST | DEFLATED | TEXT, &deflated(text))).await;
    }

    /// The next frame: its first byte and its payload.
    async fn frame(&mut self) -> (u8, Vec<u8>) {
        let read = async {
            let first = self.socket.read_u8().await?;
            let len = match self.socket.read_u8().await? {
                126 => usize::from(self.socket.read_u16().await?),
                127 => usize::try_from(self.socket.read_u64().await?).unwrap(),
                len => usize::from(len),
            };
            let mut payload = vec![0; len];
            self.socket.read_exact(&mut payload).await?;
            std::io::Result::Ok((first, payload))
        };
        tokio::time::timeout(DEADLINE, read).await.expect("nothing came in time").unwrap()
    }

    async fn next(&mut self) -> Value {
        let (first, mut payload) = self.frame().await;
        assert_eq!(first & !DEFLATED, LAST | TEXT);
        self.came += payload.len();
        if first & DEFLATED > 0 {
            if self.alone {
                self.inflater.reset(false);
            }
            payload.extend(TAIL);
            let mut text = Vec::with_capacity(64 * 1024);
            self.inflater.decompress_vec(&payload, &mut text, FlushDecompress::Sync).unwrap();
            payload = text;
        }
        self.meant += payload.len();
        serde_json::from_slice(&payload).unwrap()
    }

    /// Asks under this name and gives the ids of the stored events, in order.
    async fn ask(&mut self, name: &str, filter: &str) -> Vec<String> {
        self.send(&format!("[\"REQ\",\"{name}\",{filter}]")).await;
        let mut ids = Vec::new();
        loop {
            let frame = self.next().await;
            assert_eq!(frame[1], name, "{frame}");
            match frame[0].as_str().unwrap() {
                "EVENT" => ids.push(frame[2]["id"].as_str().unwrap().to_owned()),
                "EOSE" => return ids,
                _ => panic!("unexpected {frame}"),
            }
        }
    }

    /// The board closes the connection, with this code.
    async fn closed(&mut self, code: u16) {
        let (first, payload) = self.frame().await;
        assert_eq!(
            (first, &payload[..2]),
            (LAST | 0x8, &code.to_be_bytes()[..]),
            "{}",
            String::from_utf8_lossy(&payload)
        );
    }
}

fn note(n: u64) -> Event {
    signed(1, 1, now() - n, &[&["t", "compression"]], &format!("note {n}: \u{e9}scrow, price and fee"))
}

async fn filled(events: u64) -> (Board, tempfile::TempDir, Vec<String>) {
    let (board, dir) = board(|_| ()).await;
    let mut client = Client::connect(board.local_addr()).await;
    let mut ids = Vec::new();
    for n in 0..events {
        let event = note(n);
        client.stored(&event).await;
        ids.push(hex(&event.id));
    }
    (board, dir, ids)
}

#[tokio::test]
async fn it_is_agreed_on_when_it_is_offered_and_the_operator_allows_it() {
    let (with, _dir) = board(|_| ()).await;
    let answer = open(&with, "permessage-deflate; client_max_window_bits").await.1;
    assert_eq!(answer.as_deref(), Some("permessage-deflate; client_no_context_takeover"));
    assert_eq!(open(&with, "permessage-deflate; server_max_window_bits=12").await.1, None);
    assert_eq!(open(&with, "x-other").await.1, None);
    let (without, _dir) = board(|config| config.compression = false).await;
    assert_eq!(open(&without, PLAIN).await.1, None);
    with.shutdown().await;
    without.shutdown().await;
}

#[tokio::test]
async fn stored_events_are_shorter() {
    let (board, _dir, ids) = filled(120).await;
    let offers = [(PLAIN, 75), ("permessage-deflate; server_no_context_takeover", 82)];
    for (offer, most) in offers {
        let mut client = Deflating::connect(&board, offer).await;
        assert_eq!(client.ask("a", r##"{"#t":["compression"]}"##).await, ids, "{offer}");
        assert_eq!(client.ask("b", r#"{"kinds":[1],"limit":3}"#).await, ids[..3], "{offer}");
        assert!(client.came * 100 < client.meant * most, "{offer}: {} of {}", client.came, client.meant);
    }
    board.shutdown().await;
}

#[tokio::test]
async fn a_new_event_comes_to_all_who_asked_whatever_they_agreed_on() {
    let (board, _dir, stored) = filled(3).await;
    let offers = [PLAIN, "permessage-deflate; server_no_context_takeover"];
    let mut readers = Vec::new();
    for (i, offer) in offers.into_iter().enumerate() {
        let mut reader = Deflating::connect(&board, offer).await;
        for name in [format!("first of {i}"), "\u{1f9c0}".into()] {
            assert_eq!(reader.ask(&name, r#"{"kinds":[1]}"#).await, stored);
        }
        readers.push(reader);
    }
    let mut plain = Client::connect(board.local_addr()).await;
    assert_eq!(plain.ask(r#"{"kinds":[1]}"#).await, stored);
    let mut publisher = Deflating::connect(&board, PLAIN).await;
    for content in ["short".to_owned(), "a longer one, ".repeat(100), "\u{7070}".repeat(200)] {
        let event = signed(2, 1, now() + 1, &[], &content);
        publisher.send(&wire::frame::publish(&event, None)).await;
        assert_eq!(publisher.next().await[2], true);
        let expected: Value = serde_json::from_str(&event.to_json()).unwrap();
        assert_eq!(plain.next().await[2], expected);
        for (i, reader) in readers.iter_mut().enumerate() {
            let mut names = Vec::new();
            for _ in 0..2 {
                let frame = reader.next().await;
                assert_eq!((&frame[0], &frame[2]), (&Value::from("EVENT"), &expected));
                names.push(frame[1].as_str().unwrap().to_owned());
            }
            names.sort();
            assert_eq!(names, [format!("first of {i}"), "\u{1f9c0}".into()]);
        }
    }
    board.shutdown().await;
}

#[tokio::test]
async fn a_compressed_event_may_come_in_parts() {
    let (board, _dir) = board(|_| ()).await;
    let mut client = Deflating::connect(&board, PLAIN).await;
    let event = signed(1, 1, now(), &[], "in parts");
    let bytes = deflated(&wire::frame::publish(&event, None));
    let (first, second) = bytes.split_at(bytes.len() / 2);
    client.write(&[frame(DEFLATED | TEXT, first), frame(LAST, second)].concat()).await;
    assert_eq!(client.next().await[2], true);
    client.write(&frame(LAST | TEXT, b"[\"CLOSE\",\"x\"]")).await;
    assert_eq!(client.ask("all", "{}").await, [hex(&event.id)]);
    board.shutdown().await;
}

#[tokio::test]
async fn a_bomb_is_refused_while_others_go_on() {
    let (board, _dir, ids) = filled(2).await;
    let mut other = Deflating::connect(&board, PLAIN).await;
    let bomb = deflated(&" ".repeat(16 * 1024 * 1024));
    assert!(bomb.len() < 20_000);
    let table = [
        (frame(LAST | DEFLATED | TEXT, &bomb), 1009),
        ([frame(DEFLATED | TEXT, &bomb[..100]), frame(LAST, &bomb[100..])].concat(), 1009),
        (frame(LAST | DEFLATED | TEXT, b"\x06garbage"), 1002),
        (frame(LAST | DEFLATED | 0x9, &deflated("ping")), 1002),
        (frame(LAST | DEFLATED | TEXT, &[0x3a, 0xac, 0x01, 0x00]), 1007),
    ];
    for (bytes, code) in table {
        let mut client = Deflating::connect(&board, PLAIN).await;
        client.write(&bytes).await;
        assert_eq!(other.ask("goes on", "{}").await, ids);
        client.closed(code).await;
    }
    let mut without = Deflating::connect(&board, PLAIN).await;
    (without.socket, _) = open(&board, "x-other").await;
    assert_eq!(without.next().await[0], "AUTH");
    without.send("[\"REQ\",\"s\",{}]").await;
    without.closed(1002).await;
    board.shutdown().await;
}

//! WebSocket frames that no well-behaved client sends, and many at once.

use std::time::{Duration, Instant};

use board::Board;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::Barrier;

use crate::client::{Client, DEADLINE, board, now};
use crate::events::{hex, signed};

pub(crate) const TEXT: u8 = 0x1;
const CLOSE: u8 = 0x8;
const PING: u8 = 0x9;
const PONG: u8 = 0xa;
pub(crate) const LAST: u8 = 0x80;

/// A client that writes whatever bytes it likes.
struct Raw(TcpStream);

/// A masked frame.
pub(crate) fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mask = [0x37, 0xfa, 0x21, 0x3d];
    let mut out = vec![first];
    match payload.len() {
        len @ 0..=125 => out.push(0x80 | len as u8),
        len => {
            out.push(0x80 | 126);
            out.extend(u16::try_from(len).unwrap().to_be_bytes());
        }
    }
    out.extend(mask);
    out.extend(payload.iter().enumerate().map(|(i, byte)| byte ^ mask[i % 4]));
    out
}

impl Raw {
    /// A connection that has read its challenge.
    async fn connect(board: &Board) -> Raw {
        let mut socket = TcpStream::connect(board.local_addr()).await.unwrap();
        socket.set_nodelay(true).unwrap();
        let request = "GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
            Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
        socket.write_all(request.as_bytes()).await.unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(socket.read_u8().await.unwrap());
        }
        assert!(head.starts_with(b"HTTP/1.1 101"), "{}", String::from_utf8_lossy(&head));
        let mut raw = Raw(socket);
        assert!(raw.text().await.starts_with("[\"AUTH\","));
        raw
    }

    async fn write(&mut self, bytes: &[u8]) {
        self.0.write_all(bytes).await.unwrap();
    }

    /// The next frame: its kind and payload.
    async fn next(&mut self) -> (u8, Vec<u8>) {
        let read = async {
            let first = self.0.read_u8().await?;
            assert_eq!(first & 0xf0, LAST, "whole frames without extensions");
            let len = match self.0.read_u8().await? {
                126 => usize::from(self.0.read_u16().await?),
                127 => usize::try_from(self.0.read_u64().await?).unwrap(),
                len => usize::from(len),
            };
            let mut payload = vec![0; len];
            self.0.read_exact(&mut payload).await?;
            std::io::Result::Ok((first & 0xf, payload))
        };
        tokio::time::timeout(DEADLINE, read).await.expect("nothing came in time").unwrap()
    }

    async fn text(&mut self) -> String {
        let (kind, payload) = self.next().await;
        assert_eq!(kind, TEXT);
        String::from_utf8(payload).unwrap()
    }

    /// The board closes the connection, with this code.
    async fn closed(&mut self, code: u16) {
        let (kind, payload) = self.next().await;
        assert_eq!((kind, &payload[..2]), (CLOSE, &code.to_be_bytes()[..]), "{}", String::from_utf8_lossy(&payload));
        let mut rest = Vec::new();
        tokio::time::timeout(DEADLINE, self.0.read_to_end(&mut rest)).await.unwrap().unwrap();
        assert!(rest.is_empty(), "nothing follows the end");
    }
}

#[tokio::test]
async fn a_frame_may_come_byte_by_byte() {
    let (board, _dir) = board(|_| ()).await;
    let mut raw = Raw::connect(&board).await;
    let event = signed(1, 1, now(), &[], "slow");
    for byte in frame(LAST | TEXT, wire::frame::publish(&event, None).as_bytes()) {
        raw.write(&[byte]).await;
        tokio::task::yield_now().await;
    }
    assert_eq!(raw.text().await, format!("[\"OK\",\"{}\",true,\"\"]", hex(&event.id)));
    board.shutdown().await;
}

#[tokio::test]
async fn a_message_may_come_in_frames_of_one_byte_with_pings_between_them() {
    let (board, _dir) = board(|_| ()).await;
    let mut raw = Raw::connect(&board).await;
    let event = signed(1, 1, now(), &[], "\u{1f9c0} in parts");
    let text = wire::frame::publish(&event, None).into_bytes();
    let mut bytes = frame(TEXT, &text[..1]);
    for (i, byte) in text[1..text.len() - 1].iter().enumerate() {
        bytes.extend(frame(0, &[*byte]));
        if i % 100 == 0 {
            bytes.extend(frame(LAST | PING, i.to_string().as_bytes()));
        }
    }
    bytes.extend(frame(LAST, &text[text.len() - 1..]));
    raw.write(&bytes).await;
    for i in (0..text.len() - 2).step_by(100) {
        assert_eq!(raw.next().await, (PONG, i.to_string().into_bytes()));
    }
    assert_eq!(raw.text().await, format!("[\"OK\",\"{}\",true,\"\"]", hex(&event.id)));
    board.shutdown().await;
}

#[tokio::test]
async fn what_is_no_websocket_is_closed_with_the_reason() {
    let (board, _dir) = board(|_| ()).await;
    let mut unmasked = frame(LAST | TEXT, b"[]");
    unmasked[1] &= 0x7f;
    let giant = [&[LAST | TEXT, 0xff][..], &(u64::MAX >> 1).to_be_bytes(), &[0; 4]].concat();
    let table = [
        ("unmasked", unmasked, 1002),
        ("a reserved bit", frame(0xc1, b"[]"), 1002),
        ("a reserved kind", frame(LAST | 0x5, b"[]"), 1002),
        ("a long ping", frame(LAST | PING, &[0; 126]), 1002),
        ("a text within a text", [frame(TEXT, b"["), frame(LAST | TEXT, b"]")].concat(), 1002),
        ("the end of nothing", frame(LAST, b"[]"), 1002),
        ("bad UTF-8", frame(LAST | TEXT, &[b'[', 0xff, b']']), 1007),
        ("a giant that never comes", giant, 1009),
        // What follows is not read, and does not cost the client the reason.
        ("a lot after it", [frame(0xc1, b"[]"), vec![b'x'; 200_000]].concat(), 1002),
    ];
    for (what, bytes, code) in table {
        println!("{what}");
        let mut raw = Raw::connect(&board).await;
        raw.write(&bytes).await;
        raw.closed(code).await;
    }
    let mut client = Client::connect(board.local_addr()).await;
    client.stored(&signed(1, 1, now(), &[], "the others do not notice")).await;
    board.shutdown().await;
}

#[tokio::test]
async fn a_close_is_answered_with_its_code() {
    let (board, _dir) = board(|_| ()).await;
    for (payload, code) in [(&b""[..], 1000), (&b"\x03\xe9bye"[..], 1001), (&b"\x0f\xa0"[..], 4000)] {
        let mut raw = Raw::connect(&board).await;
        raw.write(&frame(LAST | CLOSE, payload)).await;
        raw.closed(code).await;
    }
    board.shutdown().await;
}

/// A machine that is busy with something else may be late once, but not each time.
const ROUNDS: usize = 5;

#[tokio::test]
async fn who_closes_in_order_is_not_kept_waiting_for_its_code() {
    let (board, _dir) = board(|_| ()).await;
    let mut soonest = DEADLINE;
    for _ in 0..ROUNDS {
        let mut raw = Raw::connect(&board).await;
        let begun = Instant::now();
        // What came from the board was too large for this client.
        raw.write(&frame(LAST | CLOSE, b"\x03\xf1")).await;
        raw.closed(1009).await;
        soonest = soonest.min(begun.elapsed());
    }
    assert!(soonest < Duration::from_millis(200), "{soonest:?}");
    board.shutdown().await;
}

#[tokio::test]
async fn who_breaks_the_protocol_keeps_nobody_from_their_turn() {
    let (board, _dir) = board(|config| config.limits.query_threads = 1).await;
    let mut honest = Client::connect(board.local_addr()).await;
    // Few values that make many ranges: for a while each waits for another.
    let authors: Vec<String> = (0..20u8).map(|i| format!("\"{}\"", hex(&[i; 32]))).collect();
    let kinds: Vec<String> = (1000..1050).map(|kind| kind.to_string()).collect();
    let filter = format!("{{\"authors\":[{}],\"kinds\":[{}]}}", authors.join(","), kinds.join(","));
    let count = format!("[\"COUNT\",\"c\",{filter},{filter},{filter}]");
    let mut kept = 0;
    for _ in 0..ROUNDS {
        let mut breakers = Vec::new();
        for _ in 0..8 {
            breakers.push(Raw::connect(&board).await);
        }
        for breaker in &mut breakers {
            breaker.write(&frame(LAST | TEXT, count.as_bytes())).await;
        }
        tokio::time::sleep(Duration::from_millis(3)).await;
        for breaker in &mut breakers {
            breaker.write(&[LAST | TEXT, 5]).await;
        }
        honest.send("[\"COUNT\",\"c\",{}]").await;
        assert_eq!(honest.next().await[2]["count"], 0);
        // They wait for their end meanwhile, and have no turn any more.
        let ended = |breaker: &Raw| {
            let mut read = [0; 1 << 10];
            matches!(breaker.0.try_read(&mut read), Ok(len) if read[..len].contains(&(LAST | CLOSE)))
        };
        kept += usize::from(breakers.iter().any(ended));
    }
    assert!(kept < ROUNDS, "the answer came after the end of who broke the protocol, each time");
    board.shutdown().await;
}

#[tokio::test]
async fn a_frame_that_never_ends_keeps_no_connection_alive() {
    let (board, _dir) = board(|config| config.limits.ping = Duration::from_millis(50)).await;
    let mut raw = Raw::connect(&board).await;
    let bytes = frame(LAST | TEXT, &[b' '; 60_000]);
    let mut dripped = 0;
    // Writing fails once the board has closed.
    for byte in bytes {
        if raw.0.write_all(&[byte]).await.is_err() {
            break;
        }
        dripped += 1;
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    assert!(dripped < 10_000, "{dripped}");
    board.shutdown().await;
}

#[tokio::test]
async fn thousands_of_pings_in_one_write_are_answered_in_order() {
    let (board, _dir) = board(|_| ()).await;
    let raw = Raw::connect(&board).await;
    let bytes: Vec<u8> = (0..20_000u32).flat_map(|i| frame(LAST | PING, &i.to_be_bytes())).collect();
    let (mut read, mut write) = raw.0.into_split();
    let reading = async {
        for i in 0..20_000u32 {
            let mut pong = [0; 6];
            read.read_exact(&mut pong).await.unwrap();
            assert_eq!(pong, *[&[LAST | PONG, 4][..], &i.to_be_bytes()].concat());
        }
    };
    let writing = async { write.write_all(&bytes).await.unwrap() };
    tokio::time::timeout(DEADLINE, futures_util::future::join(reading, writing)).await.unwrap();
    board.shutdown().await;
}

#[tokio::test]
async fn more_events_at_once_than_may_be_in_flight_are_all_answered() {
    let (board, _dir) = board(|config| config.limits.in_flight = 7).await;
    let mut raw = Raw::connect(&board).await;
    let events: Vec<_> = (0..300).map(|i| signed(1, 1, now() - i, &[], "many")).collect();
    let bytes: Vec<u8> =
        events.iter().flat_map(|event| frame(LAST | TEXT, wire::frame::publish(event, None).as_bytes())).collect();
    raw.write(&bytes).await;
    let mut told = Vec::new();
    for _ in &events {
        told.push(raw.text().await);
    }
    let mut expected: Vec<_> =
        events.iter().map(|event| format!("[\"OK\",\"{}\",true,\"\"]", hex(&event.id))).collect();
    told.sort();
    expected.sort();
    assert_eq!(told, expected);
    board.shutdown().await;
}

#[tokio::test]
async fn a_flood_from_many_connections_is_answered_to_the_last_event() {
    let (board, _dir) = board(|_| ()).await;
    let floods = (1..=6u8).map(|author| {
        let board = &board;
        async move {
            let mut raw = Raw::connect(board).await;
            let text = |i| wire::frame::publish(&signed(author, 1, now() - i, &[], "flood"), None);
            let bytes: Vec<u8> = (0..512).flat_map(|i| frame(LAST | TEXT, text(i).as_bytes())).collect();
            raw.write(&bytes).await;
            for _ in 0..512 {
                let told = raw.text().await;
                assert!(told.contains(",true,\"\"]"), "{told}");
            }
        }
    });
    futures_util::future::join_all(floods).await;
    assert_eq!(board.stats().accepted, 6 * 512);
    board.shutdown().await;
}

#[tokio::test]
async fn new_events_come_in_the_order_of_the_log_however_they_reach_the_socket() {
    let (board, _dir) = board(|_| ()).await;
    let mut writer = Raw::connect(&board).await;
    let events: Vec<_> = (0..400u64).map(|i| signed(1, 1, now(), &[], &i.to_string())).collect();
    let bytes: Vec<u8> =
        events.iter().flat_map(|event| frame(LAST | TEXT, wire::frame::publish(event, None).as_bytes())).collect();
    let address = board.local_addr();
    let subscribed = Barrier::new(11);
    let readers = (0..10).map(|_| async {
        let mut reader = Client::connect(address).await;
        reader.send("[\"REQ\",\"l\",{\"kinds\":[1],\"limit\":0}]").await;
        let mut last = None;
        while last != Some(399) {
            let frame = reader.next().await;
            if frame[0] == "EOSE" {
                subscribed.wait().await;
                continue;
            }
            let number: u64 = frame[2]["content"].as_str().unwrap().parse().unwrap();
            assert!(last.is_none_or(|last| last + 1 == number), "{number} after {last:?}");
            last = Some(number);
        }
    });
    let writing = async {
        // In pieces, so that the readers come in the middle of it.
        let (first, rest) = bytes.split_at(bytes.len() / 2);
        for piece in first.chunks(1000) {
            writer.write(piece).await;
            tokio::task::yield_now().await;
        }
        subscribed.wait().await;
        writer.write(rest).await;
    };
    futures_util::future::join(futures_util::future::join_all(readers), writing).await;
    board.shutdown().await;
}

//! A board in a temporary folder, and a client that speaks to it over a real WebSocket.

use std::net::SocketAddr;
use std::sync::OnceLock;
use std::time::Duration;

use board::{Board, BoardConfig};
use futures_util::{SinkExt, StreamExt};
use serde_json::Value;
use tempfile::TempDir;
use tokio::net::TcpStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use wire::Event;

use crate::events::{hex, key};

/// How long anything may take.
pub(crate) const DEADLINE: Duration = Duration::from_secs(20);

/// The time, the same for a whole run: two events of one test are never a second apart by accident.
pub(crate) fn now() -> u64 {
    static NOW: OnceLock<u64> = OnceLock::new();
    *NOW.get_or_init(|| board::system_clock().0)
}

pub(crate) fn config(dir: &TempDir) -> BoardConfig {
    BoardConfig::new(dir.path(), "127.0.0.1:0".parse().unwrap())
}

pub(crate) async fn board(change: impl FnOnce(&mut BoardConfig)) -> (Board, TempDir) {
    let dir = tempfile::tempdir().unwrap();
    let mut config = config(&dir);
    change(&mut config);
    (Board::start(config).await.unwrap(), dir)
}

pub(crate) struct Client {
    pub(crate) socket: WebSocketStream<TcpStream>,
    pub(crate) challenge: String,
    pub(crate) address: SocketAddr,
}

impl Client {
    pub(crate) async fn connect(address: SocketAddr) -> Client {
        let stream = TcpStream::connect(address).await.unwrap();
        let (socket, _) = tokio_tungstenite::client_async(format!("ws://{address}"), stream).await.unwrap();
        let mut client = Client { socket, challenge: String::new(), address };
        let hello = client.next().await;
        assert_eq!(hello[0], "AUTH");
        client.challenge = hello[1].as_str().unwrap().to_owned();
        client
    }

    pub(crate) async fn send(&mut self, text: impl Into<String>) {
        self.socket.send(Message::text(text.into())).await.unwrap();
    }

    /// The next frame; `None` when the board closed the connection.
    pub(crate) async fn maybe_next(&mut self) -> Option<Value> {
        loop {
            match tokio::time::timeout(DEADLINE, self.socket.next()).await.expect("nothing came in time") {
                Some(Ok(Message::Text(text))) => return Some(serde_json::from_str(&text).unwrap()),
                Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
                Some(Ok(Message::Close(_)) | Err(_)) | None => return None,
                Some(Ok(other)) => panic!("unexpected {other:?}"),
            }
        }
    }

    pub(crate) async fn next(&mut self) -> Value {
        self.maybe_next().await.expect("the board closed the connection")
    }

    /// Publishes and waits for `OK`.
    pub(crate) async fn publish(&mut self, event: &Event) -> (bool, String) {
        self.send(wire::frame::publish(event, None)).await;
        self.ok(&event.id).await
    }

    pub(crate) async fn ok(&mut self, id: &[u8; 32]) -> (bool, String) {
        let answer = self.next().await;
        assert_eq!((answer[0].as_str(), answer[1].as_str()), (Some("OK"), Some(hex(id).as_str())), "{answer}");
        (answer[2].as_bool().unwrap(), answer[3].as_str().unwrap().to_owned())
    }

    pub(crate) async fn stored(&mut self, event: &Event) {
        assert_eq!(self.publish(event).await, (true, String::new()));
    }

    /// Asks under the name `s` and gives the ids of the stored events, in order.
    pub(crate) async fn ask(&mut self, filters: &str) -> Vec<String> {
        self.send(format!("[\"REQ\",\"s\",{filters}]")).await;
        let mut ids = Vec::new();
        loop {
            let frame = self.next().await;
            assert_eq!(frame[1], "s", "{frame}");
            match frame[0].as_str().unwrap() {
                "EVENT" => ids.push(frame[2]["id"].as_str().unwrap().to_owned()),
                "EOSE" => return ids,
                _ => panic!("unexpected {frame}"),
            }
        }
    }

    /// Authenticates as key number `n`.
    pub(crate) async fn authenticate(&mut self, n: u8) {
        let event = self.answer(n, &format!("ws://{}", self.address), &self.challenge.clone());
        self.send(wire::frame::authenticate(&event)).await;
        assert_eq!(self.ok(&event.id).await, (true, String::new()));
    }

    pub(crate) fn answer(&self, n: u8, url: &str, challenge: &str) -> Event {
        wire::auth::answer([0; 32], url, challenge, board::system_clock()).sign(&key(n), &[0; 32])
    }
}

pub(crate) fn ids(events: &[&Event]) -> Vec<String> {
    events.iter().map(|event| hex(&event.id)).collect()
}

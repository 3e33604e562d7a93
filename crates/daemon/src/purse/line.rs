//! A connection of its own to a board, for asking about credentials: nothing is published or authenticated on it with a key that is known,
//! so that the board cannot tell who asks.

use std::time::Duration;

use credential::Unreadable;
use credential::quote::{Answer, KIND_ANSWER, KIND_POLICY, KIND_REQUEST, Request};
use futures::{SinkExt, StreamExt};
use reqwest::redirect;
use secp256k1::Keypair;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async_with_config};
use units::{Unix, hex32};
use wire::Unsigned;
use wire::event::{Event, pubkey_of};
use wire::filter::Filter;
use wire::frame::{self, ClientFrame, FrameLimits, RelayFrame};
use wire::nip44::ConversationKey;

use super::policy::Policy;
use crate::board_link::BoardError;
use crate::http;
use crate::post::{PostError, entropy};

/// How long a board may take to say what it asks, and to answer a request.
const PATIENCE: Duration = Duration::from_secs(20);
/// Longest frame that we read.
const FRAME_BYTES_MAX: usize = 512 * 1024;
/// Most frames that are read for one answer.
const FRAMES_MAX: usize = 64;
/// The one subscription of a connection.
const SUBSCRIPTION: &str = "c";

/// Why a board tells nothing of credentials.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LineError {
    /// It cannot be reached, or refuses.
    #[error(transparent)]
    Board(#[from] BoardError),
    /// Its information document cannot be had.
    #[error("the information document (NIP-11) of board {0} cannot be had: {1}")]
    Document(String, String),
    /// It names no key of its own.
    #[error("board {0} sells no credentials: its information document names no key of its own (\"self\")")]
    NoKey(String),
    /// It publishes nothing about them.
    #[error("board {0} sells no credentials: it publishes no policy about them (kind {KIND_POLICY})")]
    NoPolicy(String),
    /// What it publishes is not what it should be.
    #[error("what board {0} publishes about credentials is not to be relied on: {1}")]
    Unreadable(String, Unreadable),
    /// Two connections were told two things.
    #[error(
        "board {0} told two connections different keysets: it may want to know its buyers apart. Nothing was bought"
    )]
    TwoFaced(String),
    /// Our request cannot be sealed.
    #[error(transparent)]
    Post(#[from] PostError),
}

impl LineError {
    /// Its stable name.
    pub(crate) fn code(&self) -> &'static str {
        match self {
            LineError::Board(_) | LineError::Document(..) => "board-unreachable",
            LineError::NoKey(_) => "no-board-key",
            LineError::NoPolicy(_) => "no-policy",
            LineError::Unreadable(..) => "policy-unreadable",
            LineError::TwoFaced(_) => "two-faced",
            LineError::Post(_) => "fault",
        }
    }
}

/// What a board says of its credentials, the same on two connections.
pub(crate) async fn policy_of(url: &str) -> Result<(Policy, Event), LineError> {
    let mut again = true;
    loop {
        let (one, other) = tokio::join!(in_time(url, look(url)), in_time(url, look(url)));
        let ((one, event), (other, _)) = (one?, other?);
        if one == other {
            return Ok((one, event));
        }
        // It may have published anew between the two.
        if !std::mem::replace(&mut again, false) {
            return Err(LineError::TwoFaced(url.to_owned()));
        }
    }
}

/// However slowly a board speaks, nobody waits for it for ever.
async fn in_time<T>(url: &str, asked: impl Future<Output = Result<T, LineError>>) -> Result<T, LineError> {
    timeout(PATIENCE, asked).await.unwrap_or_else(|_| Err(BoardError::Unreachable(url.to_owned()).into()))
}

/// What the holder of the key `board` answers to `request` under the key `asker`. The same question may be asked again.
pub(crate) async fn ask(
    url: &str,
    board: [u8; 32],
    request: &Request,
    asker: &Keypair,
    now: Unix,
) -> Result<Answer, LineError> {
    in_time(url, async { Line::open(url).await?.ask(request, asker, board, now).await }).await
}

/// What a board says of its credentials on one connection.
async fn look(url: &str) -> Result<(Policy, Event), LineError> {
    let board = key_of(url).await?;
    let filter =
        Filter { kinds: Some(vec![KIND_POLICY]), authors: Some(vec![board]), limit: Some(1), ..Filter::default() };
    let events = Line::open(url).await?.query(filter).await?;
    let event = events.into_iter().find(|event| event.kind == KIND_POLICY && event.pubkey == board);
    let event = event.ok_or_else(|| LineError::NoPolicy(url.to_owned()))?;
    let policy = Policy::read(&event, board).map_err(|why| LineError::Unreadable(url.to_owned(), why))?;
    Ok((policy, event))
}

/// The key that a board speaks with: `self` of its information document (NIP-11).
async fn key_of(url: &str) -> Result<[u8; 32], LineError> {
    let document = document(url).await.map_err(|error| LineError::Document(url.to_owned(), error))?;
    let key = document.get("self").and_then(serde_json::Value::as_str);
    key.and_then(|key| units::parse_hex32(key).ok()).ok_or_else(|| LineError::NoKey(url.to_owned()))
}

async fn document(url: &str) -> Result<serde_json::Value, String> {
    let rest = url.strip_prefix("ws").ok_or("it is no address of a board")?;
    let client = reqwest::Client::builder().timeout(PATIENCE).redirect(redirect::Policy::none());
    let client = client.build().map_err(|error| error.to_string())?;
    let asked = client.get(format!("http{rest}")).header("accept", "application/nostr+json");
    http::json(asked).await.map_err(|error| error.to_string())
}

/// A connection to a board.
struct Line {
    url: String,
    socket: WebSocketStream<MaybeTlsStream<TcpStream>>,
}

impl Line {
    async fn open(url: &str) -> Result<Line, BoardError> {
        let config =
            WebSocketConfig::default().max_message_size(Some(FRAME_BYTES_MAX)).max_frame_size(Some(FRAME_BYTES_MAX));
        match connect_async_with_config(url, Some(config), true).await {
            Ok((socket, _)) => Ok(Line { url: url.to_owned(), socket }),
            Err(_) => Err(BoardError::Unreachable(url.to_owned())),
        }
    }

    /// The stored events that match.
    async fn query(mut self, filter: Filter) -> Result<Vec<Event>, BoardError> {
        self.subscribe(filter).await
    }

    async fn ask(
        mut self,
        request: &Request,
        asker: &Keypair,
        board: [u8; 32],
        now: Unix,
    ) -> Result<Answer, LineError> {
        let us = pubkey_of(asker);
        // The answer is not stored: who does not listen before asking does not hear it.
        let filter = Filter {
            kinds: Some(vec![KIND_ANSWER]),
            authors: Some(vec![board]),
            tags: [(b'p', vec![hex32(&us)])].into(),
            ..Filter::default()
        };
        self.subscribe(filter).await?;
        let shared = ConversationKey::between(asker, &board)
            .map_err(|_| LineError::Unreadable(self.url.clone(), Unreadable("its key")))?;
        let text = serde_json::to_string(request)
            .map_err(|_| LineError::Unreadable(self.url.clone(), Unreadable("our request")))?;
        let content = shared
            .encrypt(&text, &entropy()?)
            .map_err(|_| LineError::Unreadable(self.url.clone(), Unreadable("our request")))?;
        let tags = vec![vec!["p".to_owned(), hex32(&board)]];
        let asked =
            Unsigned { pubkey: us, created_at: now, kind: KIND_REQUEST, tags, content }.sign(asker, &entropy()?);
        self.send(frame::publish(&asked, None)).await?;
        for _ in 0..FRAMES_MAX {
            match self.read().await? {
                Said::Event(event) => {
                    if let Some(answer) = open_answer(&event, &asked, board, &shared) {
                        return Ok(answer);
                    }
                }
                Said::Ok { event, accepted: false, reason } if event == asked.id => {
                    return Err(BoardError::Refused { url: self.url, reason }.into());
                }
                Said::Closed(reason) => return Err(BoardError::Refused { url: self.url, reason }.into()),
                Said::Ok { .. } | Said::Eose | Said::Other => {}
            }
        }
        Err(BoardError::Unreachable(self.url).into())
    }

    /// Subscribes, and returns what is stored.
    async fn subscribe(&mut self, filter: Filter) -> Result<Vec<Event>, BoardError> {
        let subscribe = ClientFrame::Req { id: SUBSCRIPTION.into(), filters: vec![filter] };
        self.send(subscribe.to_json()).await?;
        let mut events = Vec::new();
        for _ in 0..FRAMES_MAX {
            match self.read().await? {
                Said::Event(event) => events.push(event),
                Said::Eose => return Ok(events),
                Said::Closed(reason) => return Err(BoardError::Refused { url: self.url.clone(), reason }),
                Said::Ok { .. } | Said::Other => {}
            }
        }
        Err(BoardError::Unreachable(self.url.clone()))
    }

    async fn send(&mut self, frame: String) -> Result<(), BoardError> {
        let sent = self.socket.send(Message::Text(frame.into())).await;
        sent.map_err(|_| BoardError::Unreachable(self.url.clone()))
    }

    async fn read(&mut self) -> Result<Said, BoardError> {
        let Some(Ok(message)) = self.socket.next().await else {
            return Err(BoardError::Unreachable(self.url.clone()));
        };
        let Message::Text(text) = message else { return Ok(Said::Other) };
        Ok(match RelayFrame::parse(text.as_bytes(), &FrameLimits::CLIENT) {
            Ok(RelayFrame::Event { id, event }) if id == SUBSCRIPTION => Said::Event(event.to_event()),
            Ok(RelayFrame::Eose(id)) if id == SUBSCRIPTION => Said::Eose,
            Ok(RelayFrame::Closed { id, message }) if id == SUBSCRIPTION => Said::Closed(message.into_owned()),
            Ok(RelayFrame::Ok { event, accepted, message }) => {
                Said::Ok { event, accepted, reason: message.into_owned() }
            }
            Ok(_) | Err(_) => Said::Other,
        })
    }
}

/// What a board said, as far as it concerns us.
enum Said {
    Event(Event),
    Eose,
    Closed(String),
    Ok { event: [u8; 32], accepted: bool, reason: String },
    Other,
}

/// The board's answer to what was asked; none for anything else, such as what a stranger sent.
fn open_answer(event: &Event, asked: &Event, board: [u8; 32], shared: &ConversationKey) -> Option<Answer> {
    let ours = event.kind == KIND_ANSWER && event.pubkey == board && event.tag("e") == Some(hex32(&asked.id).as_str());
    if !ours || event.verify().is_err() {
        return None;
    }
    let text = shared.decrypt(&event.content).ok()?;
    serde_json::from_str(&text).inspect_err(|error| tracing::debug!(%error, "a board's answer cannot be read")).ok()
}

#[cfg(test)]
mod tests {
    use secp256k1::SECP256K1;

    use super::*;

    fn key(mark: u8) -> Keypair {
        Keypair::from_seckey_slice(SECP256K1, &[mark; 32]).unwrap()
    }

    fn answer(by: &Keypair, kind: u16, to: &Event, content: &str) -> Event {
        let tags = vec![vec!["e".to_owned(), hex32(&to.id)]];
        let pubkey = pubkey_of(by);
        Unsigned { pubkey, created_at: Unix(9), kind, tags, content: content.to_owned() }.sign(by, &[0; 32])
    }

    #[test]
    fn only_the_board_answers_and_only_what_was_asked() {
        let (us, board, stranger) = (key(1), key(2), key(3));
        let asked = answer(&us, KIND_REQUEST, &nothing(), "");
        let shared = ConversationKey::between(&us, &pubkey_of(&board)).unwrap();
        let sealed = |text: &str| shared.encrypt(text, &[4; 32]).unwrap();
        let refused = sealed(r#"{"state":"REFUSED","v":1,"reason":"no"}"#);
        let opened = |event: &Event| open_answer(event, &asked, pubkey_of(&board), &shared);
        let good = answer(&board, KIND_ANSWER, &asked, &refused);
        assert_eq!(opened(&good), Some(Answer::Refused("no".into())));
        for bad in [
            answer(&stranger, KIND_ANSWER, &asked, &refused),
            answer(&board, KIND_REQUEST, &asked, &refused),
            answer(&board, KIND_ANSWER, &good, &refused),
            answer(&board, KIND_ANSWER, &asked, r#"{"state":"REFUSED","v":1,"reason":"no"}"#),
            answer(&board, KIND_ANSWER, &asked, &sealed(r#"{"state":"REFUSED","v":2,"reason":"no"}"#)),
            Event { pubkey: pubkey_of(&board), ..answer(&stranger, KIND_ANSWER, &asked, &refused) },
        ] {
            assert_eq!(opened(&bad), None);
        }
    }

    fn nothing() -> Event {
        let (id, pubkey, sig) = ([0; 32], [1; 32], [2; 64]);
        Event { id, pubkey, created_at: Unix(0), kind: 1, tags: Vec::new(), content: String::new(), sig }
    }
}

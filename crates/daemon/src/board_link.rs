//! One board as a trader sees it: a WebSocket that comes back, publishes until the board said OK, and brings mail.

use std::collections::BTreeMap;
use std::time::Duration;

use futures::{SinkExt, StreamExt};
use secp256k1::Keypair;
use tokio::net::TcpStream;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, timeout};
use tokio_tungstenite::tungstenite::{self, Message};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use units::Unix;
use wire::event::{Event, pubkey_of};
use wire::filter::Filter;
use wire::frame::{self, ClientFrame, FrameLimits, RelayFrame};

use crate::clock;

/// Commands that wait while the board is away. More are refused: the caller tries again.
const COMMANDS_MAX: usize = 1024;
/// Most events that one query returns.
const QUERY_EVENTS_MAX: usize = 5_000;
/// Longest frame that we read from a board.
const FRAME_BYTES_MAX: usize = 1 << 20;
/// How long a board may take to answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a quiet connection stays without a ping.
const PING_EVERY: Duration = Duration::from_secs(30);
/// Kinds of public trade steps (DOMP).
const FIRST_STEP: u16 = 301;
const LAST_STEP: u16 = 323;
const BACKOFF_FIRST: Duration = Duration::from_millis(100);
const BACKOFF_LAST: Duration = Duration::from_secs(30);
/// Stored mail that fills a page: a board sends only so much at once, so when so much came there may be more behind it.
const PAGE_EVENTS: u64 = 100;
/// Most pages of older mail that are fetched from one board in one connection.
const PAGES_MAX: u32 = 200;

/// Why a board did not do what it was asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BoardError {
    /// No connection, or no answer in time: try again, or use another board.
    #[error("board {0} cannot be reached")]
    Unreachable(String),
    /// The board said no, in its own words.
    #[error("board {url} refused: {reason}")]
    Refused {
        /// Which board.
        url: String,
        /// Its reason (NIP-01 prefix and text).
        reason: String,
    },
}

/// A Nostr event that a board brought for one of our keys, not yet checked.
#[derive(Debug)]
pub struct Mail {
    /// Which board.
    pub board: String,
    /// The event.
    pub event: Event,
}

type Published = Result<(), BoardError>;
type Queried = Result<Vec<Event>, BoardError>;

enum Command {
    Publish { event: Event, done: oneshot::Sender<Published> },
    Query { filters: Vec<Filter>, done: oneshot::Sender<Queried> },
    Listen { key: Keypair },
}

/// A handle to one board. Cheap to clone.
#[derive(Clone)]
pub struct BoardLink {
    url: String,
    commands: mpsc::Sender<Command>,
}

impl BoardLink {
    /// Starts the connection on `tasks`; it lives until `shutdown`. Mail for listened keys goes to `mail`.
    pub fn start(url: String, mail: mpsc::Sender<Mail>, tasks: &TaskTracker, shutdown: CancellationToken) -> BoardLink {
        let (commands, inbox) = mpsc::channel(COMMANDS_MAX);
        let line = Line { url: url.clone(), mail, keys: Vec::new(), subscriptions: 0 };
        tasks.spawn(line.run(inbox, shutdown));
        BoardLink { url, commands }
    }

    /// The board's address.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Publishes and waits for the board's OK. A duplicate is an OK.
    pub async fn publish(&self, event: Event) -> Result<(), BoardError> {
        let (done, answer) = oneshot::channel();
        self.ask(Command::Publish { event, done }, answer).await
    }

    /// Stored events that match, newest first.
    pub async fn query(&self, filters: Vec<Filter>) -> Result<Vec<Event>, BoardError> {
        let (done, answer) = oneshot::channel();
        self.ask(Command::Query { filters, done }, answer).await
    }

    /// Brings what is addressed to `key` from now on, and what the board has stored for it.
    pub async fn listen(&self, key: Keypair) -> Result<(), BoardError> {
        let sent = self.commands.send(Command::Listen { key }).await;
        sent.map_err(|_| BoardError::Unreachable(self.url.clone()))
    }

    async fn ask<T>(
        &self,
        command: Command,
        answer: oneshot::Receiver<Result<T, BoardError>>,
    ) -> Result<T, BoardError> {
        let unreachable = || BoardError::Unreachable(self.url.clone());
        self.commands.try_send(command).map_err(|_| unreachable())?;
        match timeout(ANSWER_TIMEOUT, answer).await {
            Ok(Ok(result)) => result,
            Ok(Err(_)) | Err(_) => Err(unreachable()),
        }
    }
}

type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;

/// What survives a lost connection.
struct Line {
    url: String,
    mail: mpsc::Sender<Mail>,
    keys: Vec<Keypair>,
    subscriptions: u64,
}

/// What does not.
#[derive(Default)]
struct Connection {
    challenge: Option<String>,
    /// Keys that the board has been told of, by the id of the AUTH event, until it answers.
    authenticating: BTreeMap<[u8; 32], [u8; 32]>,
    authenticated: Vec<[u8; 32]>,
    publishing: BTreeMap<[u8; 32], Vec<oneshot::Sender<Published>>>,
    querying: BTreeMap<String, (Vec<Event>, oneshot::Sender<Queried>)>,
    pages: [Page; 2],
}

/// What is subscribed to: trade steps that anybody may read, and gift wraps that only their recipient gets.
#[derive(Clone, Copy)]
enum MailKind {
    Steps = 0,
    Wraps = 1,
}

/// Names of the standing subscription of each kind, and of the one that fetches older mail.
const SUBSCRIPTIONS: [(MailKind, &str, &str); 2] =
    [(MailKind::Steps, "steps", "older-steps"), (MailKind::Wraps, "wraps", "older-wraps")];

/// How far stored mail of one kind has been read.
#[derive(Clone, Copy, Default)]
struct Page {
    /// Events of the page being sent, and the time of its oldest.
    events: u64,
    oldest: Option<Unix>,
    /// Pages fetched in this connection.
    number: u32,
}

impl Line {
    async fn run(mut self, mut inbox: mpsc::Receiver<Command>, shutdown: CancellationToken) {
        let mut backoff = BACKOFF_FIRST;
        while !shutdown.is_cancelled() {
            let started = Instant::now();
            tokio::select! {
                () = shutdown.cancelled() => return,
                ended = self.connect_and_serve(&mut inbox) => {
                    if let Err(error) = ended {
                        tracing::debug!(board = %self.url, %error, "connection lost");
                    }
                }
            }
            if started.elapsed() > BACKOFF_LAST {
                backoff = BACKOFF_FIRST;
            }
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = tokio::time::sleep(backoff) => backoff = (backoff * 2).min(BACKOFF_LAST),
            }
        }
    }

    async fn connect_and_serve(&mut self, inbox: &mut mpsc::Receiver<Command>) -> Result<(), tungstenite::Error> {
        let config = tungstenite::protocol::WebSocketConfig::default()
            .max_message_size(Some(FRAME_BYTES_MAX))
            .max_frame_size(Some(FRAME_BYTES_MAX));
        let connecting = tokio_tungstenite::connect_async_with_config(&self.url, Some(config), true);
        let (mut socket, _) = timeout(ANSWER_TIMEOUT, connecting)
            .await
            .map_err(|_| tungstenite::Error::Io(std::io::ErrorKind::TimedOut.into()))??;
        tracing::debug!(board = %self.url, "connected");
        let mut connection = Connection::default();
        let mut heard = Instant::now();
        self.subscribe(&mut socket, &mut connection).await?;
        loop {
            tokio::select! {
                command = inbox.recv() => match command {
                    Some(command) => self.obey(&mut socket, &mut connection, command).await?,
                    None => return Ok(()),
                },
                message = socket.next() => {
                    let Some(message) = message else { return Ok(()) };
                    heard = Instant::now();
                    match message? {
                        Message::Text(text) => self.hear(&mut socket, &mut connection, &text).await?,
                        Message::Close(_) => return Ok(()),
                        Message::Binary(_) | Message::Ping(_) | Message::Pong(_) | Message::Frame(_) => {}
                    }
                }
                () = tokio::time::sleep(PING_EVERY) => {
                    if heard.elapsed() > PING_EVERY * 3 {
                        return Err(tungstenite::Error::ConnectionClosed);
                    }
                    socket.send(Message::Ping(Vec::new().into())).await?;
                }
            }
        }
    }

    async fn obey(
        &mut self,
        socket: &mut Socket,
        connection: &mut Connection,
        command: Command,
    ) -> Result<(), tungstenite::Error> {
        match command {
            Command::Publish { event, done } => {
                connection.publishing.entry(event.id).or_default().push(done);
                send(socket, frame::publish(&event, None)).await
            }
            Command::Query { filters, done } => {
                self.subscriptions += 1;
                let name = format!("q{}", self.subscriptions);
                connection.querying.insert(name.clone(), (Vec::new(), done));
                send(socket, ClientFrame::Req { id: name.into(), filters }.to_json()).await
            }
            Command::Listen { key } => {
                if self.keys.contains(&key) {
                    return Ok(());
                }
                self.keys.push(key);
                self.authenticate(socket, connection).await?;
                self.subscribe(socket, connection).await
            }
        }
    }

    /// Proves each key that the board does not know yet (NIP-42).
    async fn authenticate(&self, socket: &mut Socket, connection: &mut Connection) -> Result<(), tungstenite::Error> {
        let Some(challenge) = connection.challenge.clone() else { return Ok(()) };
        for key in &self.keys {
            let pubkey = pubkey_of(key);
            let asked = connection.authenticating.values().any(|known| *known == pubkey);
            if asked || connection.authenticated.contains(&pubkey) {
                continue;
            }
            let event = wire::auth::answer(pubkey, &self.url, &challenge, clock::unix()).sign(key, &[0; 32]);
            connection.authenticating.insert(event.id, pubkey);
            send(socket, frame::authenticate(&event)).await?;
        }
        Ok(())
    }

    /// Asks for what is addressed to our keys, stored and new: steps for all of them, wraps for those the board knows to be ours.
    async fn subscribe(&self, socket: &mut Socket, connection: &mut Connection) -> Result<(), tungstenite::Error> {
        connection.pages = [Page::default(); 2];
        for (kind, name, _) in SUBSCRIPTIONS {
            if let Some(filter) = self.mail_filter(kind, connection, None) {
                send(socket, ClientFrame::Req { id: name.into(), filters: vec![filter] }.to_json()).await?;
            }
        }
        Ok(())
    }

    /// Mail of one kind, made not after `until`; none while there is no key to ask for.
    fn mail_filter(&self, kind: MailKind, connection: &Connection, until: Option<Unix>) -> Option<Filter> {
        let (kinds, keys): (Vec<u16>, Vec<String>) = match kind {
            MailKind::Steps => {
                let keys = self.keys.iter().map(|key| units::hex32(&pubkey_of(key)));
                ((FIRST_STEP..=LAST_STEP).collect(), keys.collect())
            }
            MailKind::Wraps => {
                (vec![wire::seal::KIND_GIFT_WRAP], connection.authenticated.iter().map(units::hex32).collect())
            }
        };
        let tags = BTreeMap::from([(b'p', keys)]);
        (!tags[&b'p'].is_empty()).then(|| Filter { kinds: Some(kinds), tags, until, ..Filter::default() })
    }

    /// After a full page: the one before it. Mail is dated as its author likes, so a page is never taken for the last by its dates.
    async fn turn_page(
        &self,
        socket: &mut Socket,
        connection: &mut Connection,
        kind: MailKind,
        older: &'static str,
    ) -> Result<(), tungstenite::Error> {
        let page = connection.pages[kind as usize];
        let full = page.events >= PAGE_EVENTS && page.number < PAGES_MAX;
        let next = Page { number: page.number + 1, ..Page::default() };
        connection.pages[kind as usize] = next;
        match self.mail_filter(kind, connection, page.oldest) {
            Some(filter) if full => {
                send(socket, ClientFrame::Req { id: older.into(), filters: vec![filter] }.to_json()).await
            }
            Some(_) | None if page.number > 0 => send(socket, ClientFrame::Close(older.into()).to_json()).await,
            Some(_) | None => Ok(()),
        }
    }

    async fn hear(
        &mut self,
        socket: &mut Socket,
        connection: &mut Connection,
        text: &str,
    ) -> Result<(), tungstenite::Error> {
        let frame = match RelayFrame::parse(text.as_bytes(), &FrameLimits::CLIENT) {
            Ok(frame) => frame,
            Err(error) => {
                tracing::debug!(board = %self.url, %error, "unreadable frame");
                return Ok(());
            }
        };
        match frame {
            RelayFrame::Event { id, event } => self.take_event(connection, &id, event.to_event()).await,
            RelayFrame::Ok { event, accepted, message } => {
                if let Some(pubkey) = connection.authenticating.remove(&event) {
                    if accepted {
                        connection.authenticated.push(pubkey);
                        return self.subscribe(socket, connection).await;
                    }
                    tracing::warn!(board = %self.url, reason = %message, "board does not accept our authentication");
                }
                let published = self.verdict(accepted, message.into_owned());
                for done in connection.publishing.remove(&event).unwrap_or_default() {
                    answer(done, published.clone());
                }
            }
            RelayFrame::Eose(id) => {
                if let Some((kind, _, older)) = mail_subscription(&id) {
                    return self.turn_page(socket, connection, kind, older).await;
                }
                if let Some((events, done)) = connection.querying.remove(&*id) {
                    answer(done, Ok(events));
                    return send(socket, ClientFrame::Close(id).to_json()).await;
                }
            }
            RelayFrame::Closed { id, message } => {
                if let Some((_, done)) = connection.querying.remove(&*id) {
                    answer(done, Err(BoardError::Refused { url: self.url.clone(), reason: message.into_owned() }));
                } else if mail_subscription(&id).is_some() {
                    tracing::warn!(board = %self.url, reason = %message, "the board ended a subscription to our mail");
                }
            }
            RelayFrame::Auth(challenge) => {
                connection.challenge = Some(challenge.into_owned());
                return self.authenticate(socket, connection).await;
            }
            RelayFrame::Notice(message) => tracing::info!(board = %self.url, %message, "notice"),
            RelayFrame::Count { .. } | RelayFrame::NegMsg { .. } | RelayFrame::NegErr { .. } => {}
        }
        Ok(())
    }

    fn verdict(&self, accepted: bool, reason: String) -> Published {
        if accepted || reason.starts_with("duplicate:") {
            return Ok(());
        }
        Err(BoardError::Refused { url: self.url.clone(), reason })
    }

    async fn take_event(&self, connection: &mut Connection, subscription: &str, event: Event) {
        if let Some((kind, _, _)) = mail_subscription(subscription) {
            let page = &mut connection.pages[kind as usize];
            page.events += 1;
            page.oldest = Some(page.oldest.map_or(event.created_at, |oldest| oldest.min(event.created_at)));
            let mail = Mail { board: self.url.clone(), event };
            if self.mail.send(mail).await.is_err() {
                tracing::debug!("nobody reads the mail any more");
            }
        } else if let Some((events, _)) = connection.querying.get_mut(subscription)
            && events.len() < QUERY_EVENTS_MAX
        {
            events.push(event);
        }
    }
}

fn mail_subscription(id: &str) -> Option<(MailKind, &'static str, &'static str)> {
    SUBSCRIPTIONS.into_iter().find(|(_, name, older)| *name == id || *older == id)
}

/// The one who asked may have given up waiting; then nobody needs the answer.
fn answer<T>(done: oneshot::Sender<T>, value: T) {
    if done.send(value).is_err() {
        tracing::trace!("answer came too late");
    }
}

async fn send(socket: &mut Socket, frame: String) -> Result<(), tungstenite::Error> {
    socket.send(Message::Text(frame.into())).await
}

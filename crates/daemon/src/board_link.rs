//! One board as a trader sees it: a WebSocket that comes back, publishes until the board said OK, and brings mail.

mod mailbox;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use board::reconcile::Broken;
use futures::future::join_all;
use futures::{SinkExt, StreamExt};
use secp256k1::Keypair;
use tokio::net::TcpStream;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, timeout};
use tokio_tungstenite::tungstenite::{self, Message};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use wire::event::{Event, pubkey_of};
use wire::filter::Filter;
use wire::frame::{self, ClientFrame, FrameLimits, RelayFrame};

use crate::clock;
use crate::mail_seen::Seen;

use mailbox::{Key, MailKind, Mailbox, Names};

/// Commands that wait while the board is away. More are refused: the caller tries again.
const COMMANDS_MAX: usize = 1024;
/// Most events that one query returns.
const QUERY_EVENTS_MAX: usize = 5_000;
/// Longest frame that we read from a board.
const FRAME_BYTES_MAX: usize = 1 << 20;
/// How long a board may take to answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
/// How long one who only wants to read waits for a board that is being connected to.
const CONNECT_PATIENCE: Duration = Duration::from_secs(3);
/// How long a quiet connection stays without a ping.
const PING_EVERY: Duration = Duration::from_secs(30);
const BACKOFF_FIRST: Duration = Duration::from_millis(100);
const BACKOFF_LAST: Duration = Duration::from_secs(30);

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
    /// It wants a credential with that, and we have none.
    #[error("board {0} asks for a credential: souk credential buy --board {0}")]
    NoCredential(String),
}

/// A Nostr event that a board brought for one of our keys, not yet checked.
#[derive(Debug)]
pub struct Mail {
    /// Which board.
    pub board: String,
    /// The event.
    pub event: Event,
}

/// Where mail goes, and what of it need not be brought again.
#[derive(Clone)]
pub struct Letterbox {
    /// Where it goes.
    pub mail: mpsc::Sender<Mail>,
    /// What is done with.
    pub(crate) seen: Arc<Seen>,
}

impl Letterbox {
    /// One in which nothing is done with yet.
    pub fn new(mail: mpsc::Sender<Mail>) -> Letterbox {
        Letterbox { mail, seen: Arc::default() }
    }
}

type Published = Result<(), BoardError>;
type Queried = Result<Vec<Event>, BoardError>;

enum Command {
    Publish { event: Event, stamp: Option<String>, done: oneshot::Sender<Published> },
    Query { filters: Vec<Filter>, done: oneshot::Sender<Queried> },
}

/// A handle to one board. Cheap to clone.
#[derive(Clone)]
pub struct BoardLink {
    url: String,
    own: bool,
    commands: mpsc::Sender<Command>,
    keys: watch::Sender<Vec<Keypair>>,
    /// Grows by one whenever stored mail is wanted once more.
    again: watch::Sender<u64>,
    connected: watch::Receiver<bool>,
    caught_up: watch::Receiver<bool>,
}

impl BoardLink {
    /// Starts the connection on `tasks`; it lives until `shutdown`. Mail for listened keys goes to `letterbox`.
    pub fn start(
        url: String,
        own: bool,
        letterbox: Letterbox,
        tasks: &TaskTracker,
        shutdown: CancellationToken,
    ) -> BoardLink {
        let (commands, inbox) = mpsc::channel(COMMANDS_MAX);
        let (keys, heard) = watch::channel(Vec::new());
        let (again, wanted) = watch::channel(0);
        let (connects, connected) = watch::channel(false);
        let (catches_up, caught_up) = watch::channel(false);
        let line = Line {
            url: url.clone(),
            letterbox,
            keys: heard,
            again: wanted,
            connected: connects,
            caught_up: catches_up,
            names: Names::default(),
            reconciles: true,
        };
        tasks.spawn(line.run(inbox, shutdown));
        BoardLink { url, own, commands, keys, again, connected, caught_up }
    }

    /// The board's address.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Publishes and waits for the board's OK. A duplicate is an OK.
    pub async fn publish(&self, event: Event) -> Result<(), BoardError> {
        self.publish_with(event, None).await
    }

    /// The same, with a credential beside it.
    pub(crate) async fn publish_with(&self, event: Event, stamp: Option<String>) -> Result<(), BoardError> {
        let (done, answer) = oneshot::channel();
        self.ask(Command::Publish { event, stamp, done }, answer).await
    }

    /// Stored events that match, newest first.
    pub async fn query(&self, filters: Vec<Filter>) -> Result<Vec<Event>, BoardError> {
        let (done, answer) = oneshot::channel();
        self.ask(Command::Query { filters, done }, answer).await
    }

    /// The same; a board that is being connected to is waited for a little.
    pub(crate) async fn patient_query(&self, filters: Vec<Filter>) -> Result<Vec<Event>, BoardError> {
        self.soon().await;
        self.query(filters).await
    }

    /// What each of `links` answers, by its address. Those that do not answer are left out while one does.
    pub(crate) async fn ask_all<'a>(
        links: impl IntoIterator<Item = &'a BoardLink>,
        filters: Vec<Filter>,
    ) -> Result<Vec<(&'a str, Vec<Event>)>, BoardError> {
        let ask = |link: &'a BoardLink| {
            let filters = filters.clone();
            async move { (link.url(), link.patient_query(filters).await) }
        };
        answered(join_all(links.into_iter().map(ask)).await)
    }

    /// Waits a little for the connection. One that does not come is the business of whoever uses it.
    pub(crate) async fn soon(&self) {
        if timeout(CONNECT_PATIENCE, self.connected()).await.is_err() {
            tracing::debug!(board = %self.url, "not connected yet");
        }
    }

    /// It is run by this daemon: that it has a message says nothing about whether the other side can get it.
    pub(crate) fn is_own(&self) -> bool {
        self.own
    }

    /// Brings what is addressed to `key` from now on, and what the board has stored for it. Never waits.
    pub(crate) fn listen(&self, key: Keypair) {
        self.keys.send_if_modified(|keys| {
            let new = !keys.contains(&key);
            if new {
                keys.push(key);
            }
            new
        });
    }

    /// Brings what is addressed to these keys and no others.
    pub(crate) fn listen_to(&self, wanted: &[Keypair]) {
        self.keys.send_if_modified(|keys| {
            let same = keys.len() == wanted.len() && keys.iter().all(|key| wanted.contains(key));
            if !same {
                *keys = wanted.to_vec();
            }
            !same
        });
    }

    /// Brings what the board has stored for our keys and is not done with; all of it when the board cannot tell (NIP-77).
    pub(crate) fn fetch_again(&self) {
        self.again.send_modify(|times| *times += 1);
    }

    /// Is there a connection?
    pub(crate) fn is_connected(&self) -> bool {
        *self.connected.borrow()
    }

    /// Waits until there is a connection. Never ends once the daemon shuts down.
    pub(crate) async fn connected(&self) {
        let mut connected = self.connected.clone();
        if connected.wait_for(|up| *up).await.is_err() {
            futures::future::pending::<()>().await;
        }
    }

    /// Waits until the board has brought every wrap that it had stored for our keys.
    pub(crate) async fn caught_up(&self) {
        let mut caught_up = self.caught_up.clone();
        if caught_up.wait_for(|all| *all).await.is_err() {
            futures::future::pending::<()>().await;
        }
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

/// Answers by the address of who gave them. Those that did not are left out while one did.
pub(crate) fn answered<'a, T>(
    answers: impl IntoIterator<Item = (&'a str, Result<T, BoardError>)>,
) -> Result<Vec<(&'a str, T)>, BoardError> {
    let (mut found, mut trouble) = (Vec::new(), None);
    for (url, answer) in answers {
        match answer {
            Ok(answer) => found.push((url, answer)),
            Err(error) => trouble = Some(error),
        }
    }
    match trouble {
        Some(error) if found.is_empty() => Err(error),
        Some(_) | None => Ok(found),
    }
}

/// What survives a lost connection.
struct Line {
    url: String,
    letterbox: Letterbox,
    keys: watch::Receiver<Vec<Keypair>>,
    again: watch::Receiver<u64>,
    connected: watch::Sender<bool>,
    /// Every stored wrap of this connection has been handed on.
    caught_up: watch::Sender<bool>,
    names: Names,
    /// The board may know NIP-77.
    reconciles: bool,
}

/// What does not.
struct Connection {
    challenge: Option<String>,
    /// Keys that the board has been told of, by the id of the AUTH event, until it answers.
    authenticating: BTreeMap<[u8; 32], Key>,
    /// Those, and the ones that it knows to be ours.
    introduced: BTreeSet<Key>,
    authenticated: BTreeSet<Key>,
    publishing: BTreeMap<[u8; 32], Vec<oneshot::Sender<Published>>>,
    querying: BTreeMap<String, (Vec<Event>, oneshot::Sender<Queried>)>,
    steps: Mailbox,
    wraps: Mailbox,
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
            self.connected.send_replace(false);
            if started.elapsed() > BACKOFF_LAST {
                backoff = BACKOFF_FIRST;
            }
            let retry = tokio::time::sleep(backoff);
            tokio::pin!(retry);
            loop {
                tokio::select! {
                    () = shutdown.cancelled() => return,
                    () = &mut retry => break,
                    // Nobody is there to hear it: dropped, so that the one who asked knows at once.
                    command = inbox.recv() => if command.is_none() { return },
                }
            }
            backoff = (backoff * 2).min(BACKOFF_LAST);
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
        let mut connection = Connection::new(&self.letterbox.seen, self.reconciles);
        let ended = self.serve(&mut socket, &mut connection, inbox).await;
        // Some end the connection at a word that they do not know.
        self.reconciles &= !connection.is_unanswered(Duration::ZERO);
        ended
    }

    async fn serve(
        &mut self,
        socket: &mut Socket,
        connection: &mut Connection,
        inbox: &mut mpsc::Receiver<Command>,
    ) -> Result<(), tungstenite::Error> {
        let mut heard = Instant::now();
        let mut ping = tokio::time::interval_at(Instant::now() + PING_EVERY, PING_EVERY);
        self.keys.mark_unchanged();
        self.again.mark_unchanged();
        self.subscribe(socket, connection, false).await?;
        self.connected.send_replace(true);
        loop {
            tokio::select! {
                changed = self.keys.changed() => {
                    if changed.is_err() {
                        return Ok(());
                    }
                    self.authenticate(socket, connection).await?;
                    // Wraps follow when the board knows the new keys to be ours.
                    self.subscribe(socket, connection, false).await?;
                }
                Ok(()) = self.again.changed() => self.subscribe(socket, connection, true).await?,
                command = inbox.recv() => match command {
                    Some(command) => self.obey(socket, connection, command).await?,
                    None => return Ok(()),
                },
                message = socket.next() => {
                    let Some(message) = message else { return Ok(()) };
                    heard = Instant::now();
                    match message? {
                        Message::Text(text) => self.hear(socket, connection, &text).await?,
                        Message::Close(_) => return Ok(()),
                        Message::Binary(_) | Message::Ping(_) | Message::Pong(_) | Message::Frame(_) => {}
                    }
                }
                _ = ping.tick() => {
                    if heard.elapsed() > PING_EVERY * 3 {
                        return Err(tungstenite::Error::ConnectionClosed);
                    }
                    connection.forget_abandoned();
                    if connection.is_unanswered(ANSWER_TIMEOUT) {
                        self.cannot_reconcile(socket, connection).await?;
                    }
                    put(socket, Message::Ping(Vec::new().into())).await?;
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
            Command::Publish { done, .. } if done.is_closed() => Ok(()),
            Command::Query { done, .. } if done.is_closed() => Ok(()),
            Command::Publish { event, stamp, done } => {
                connection.publishing.entry(event.id).or_default().push(done);
                send(socket, frame::publish(&event, stamp.as_deref())).await
            }
            Command::Query { filters, done } => {
                let name = self.names.fresh("query");
                connection.querying.insert(name.clone(), (Vec::new(), done));
                send(socket, ClientFrame::Req { id: name.into(), filters }.to_json()).await
            }
        }
    }

    /// Proves each key that the board does not know yet (NIP-42).
    async fn authenticate(&self, socket: &mut Socket, connection: &mut Connection) -> Result<(), tungstenite::Error> {
        let Some(challenge) = connection.challenge.clone() else { return Ok(()) };
        let keys = self.keys.borrow().clone();
        for key in &keys {
            let pubkey = pubkey_of(key);
            if !connection.introduced.insert(pubkey) {
                continue;
            }
            let event = wire::auth::answer(pubkey, &self.url, &challenge, clock::unix()).sign(key, &[0; 32]);
            connection.authenticating.insert(event.id, pubkey);
            send(socket, frame::authenticate(&event)).await?;
        }
        Ok(())
    }

    /// Asks for what is addressed to our keys: steps for all of them, wraps for those the board knows to be ours. `again`: what was
    /// stored before is wanted once more.
    async fn subscribe(
        &mut self,
        socket: &mut Socket,
        connection: &mut Connection,
        again: bool,
    ) -> Result<(), tungstenite::Error> {
        let keys: BTreeSet<Key> = self.keys.borrow().iter().map(pubkey_of).collect();
        let known = keys.intersection(&connection.authenticated).copied().collect();
        let mut frames = connection.steps.is_of(keys, again, &mut self.names);
        frames.extend(connection.wraps.is_of(known, again, &mut self.names));
        send_all(socket, frames).await
    }

    /// The board does not know NIP-77: what was to be found that way is fetched in pages.
    async fn cannot_reconcile(
        &mut self,
        socket: &mut Socket,
        connection: &mut Connection,
    ) -> Result<(), tungstenite::Error> {
        tracing::debug!(board = %self.url, "the board does not reconcile: mail is fetched in pages");
        self.reconciles = false;
        for mailbox in [&mut connection.steps, &mut connection.wraps] {
            send_all(socket, mailbox.cannot_reconcile(&mut self.names)).await?;
        }
        Ok(())
    }

    /// Its word in a reconciliation.
    async fn learn(
        &mut self,
        socket: &mut Socket,
        connection: &mut Connection,
        name: &str,
        word: Result<&str, Broken>,
    ) -> Result<(), tungstenite::Error> {
        for mailbox in [&mut connection.steps, &mut connection.wraps] {
            if mailbox.reconciles_as(name) {
                send_all(socket, mailbox.learn(word, &mut self.names)).await?;
                break;
            }
        }
        self.look_whether_all_is_read(connection);
        Ok(())
    }

    fn look_whether_all_is_read(&self, connection: &Connection) {
        if connection.wraps.is_read() {
            self.caught_up.send_replace(true);
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
                    return self.hear_of_key(socket, connection, pubkey, accepted, &message).await;
                }
                let published = self.verdict(accepted, message.into_owned());
                for done in connection.publishing.remove(&event).unwrap_or_default() {
                    answer(done, published.clone());
                }
            }
            RelayFrame::Eose(id) => {
                for mailbox in [&mut connection.steps, &mut connection.wraps] {
                    if let Some(frames) = mailbox.ended(&id, &mut self.names) {
                        send_all(socket, frames).await?;
                    }
                }
                self.look_whether_all_is_read(connection);
                if let Some((events, done)) = connection.querying.remove(&*id) {
                    answer(done, Ok(events));
                    return send(socket, ClientFrame::Close(id).to_json()).await;
                }
            }
            RelayFrame::Closed { id, message } => {
                if let Some((_, done)) = connection.querying.remove(&*id) {
                    answer(done, Err(BoardError::Refused { url: self.url.clone(), reason: message.into_owned() }));
                } else if connection.is_mail(&id) && message.starts_with("auth-required:") {
                    connection.steps.refused(&id);
                    connection.wraps.refused(&id);
                } else if connection.is_mail(&id) {
                    // Without it we would hear nothing and not know: a new connection asks again.
                    tracing::warn!(board = %self.url, reason = %message, "the board ended a subscription to our mail");
                    return Err(tungstenite::Error::ConnectionClosed);
                }
            }
            RelayFrame::Auth(challenge) => {
                connection.challenge = Some(challenge.into_owned());
                return self.authenticate(socket, connection).await;
            }
            RelayFrame::Notice(message) => {
                tracing::info!(board = %self.url, %message, "notice");
                // Many answer a word that they do not know so.
                if connection.is_unanswered(Duration::ZERO) {
                    return self.cannot_reconcile(socket, connection).await;
                }
            }
            RelayFrame::NegMsg { id, message } => return self.learn(socket, connection, &id, Ok(&message)).await,
            RelayFrame::NegErr { id, message, max } => {
                let why = Broken { message: message.into_owned(), max };
                return self.learn(socket, connection, &id, Err(why)).await;
            }
            RelayFrame::Count { .. } => {}
        }
        Ok(())
    }

    /// The board knows a key to be ours, or will not have it.
    async fn hear_of_key(
        &mut self,
        socket: &mut Socket,
        connection: &mut Connection,
        pubkey: Key,
        accepted: bool,
        reason: &str,
    ) -> Result<(), tungstenite::Error> {
        if accepted {
            connection.authenticated.insert(pubkey);
        } else {
            connection.introduced.remove(&pubkey);
            tracing::warn!(board = %self.url, %reason, "board does not accept our authentication");
            // Room for keys is of a connection: a new one begins without those of trades that have ended.
            let wanted: BTreeSet<Key> = self.keys.borrow().iter().map(pubkey_of).collect();
            if reason.starts_with("rate-limited:") && !connection.authenticated.is_subset(&wanted) {
                return Err(tungstenite::Error::ConnectionClosed);
            }
        }
        if connection.authenticating.is_empty() {
            return self.subscribe(socket, connection, false).await;
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
        let at = event.created_at;
        if connection.steps.takes(subscription, at) || connection.wraps.takes(subscription, at) {
            let mail = Mail { board: self.url.clone(), event };
            if self.letterbox.mail.send(mail).await.is_err() {
                tracing::debug!("nobody reads the mail any more");
            }
        } else if let Some((events, _)) = connection.querying.get_mut(subscription)
            && events.len() < QUERY_EVENTS_MAX
        {
            events.push(event);
        }
    }
}

impl Connection {
    fn new(seen: &Arc<Seen>, reconciles: bool) -> Connection {
        Connection {
            challenge: None,
            authenticating: BTreeMap::new(),
            introduced: BTreeSet::new(),
            authenticated: BTreeSet::new(),
            publishing: BTreeMap::new(),
            querying: BTreeMap::new(),
            steps: Mailbox::new(MailKind::Steps, seen.clone(), reconciles),
            wraps: Mailbox::new(MailKind::Wraps, seen.clone(), reconciles),
        }
    }

    fn is_mail(&self, subscription: &str) -> bool {
        self.steps.is(subscription) || self.wraps.is(subscription)
    }

    /// Does the board owe its first word in a reconciliation for so long?
    fn is_unanswered(&self, patience: Duration) -> bool {
        self.steps.is_unanswered(patience) || self.wraps.is_unanswered(patience)
    }

    /// Those who asked and no longer wait.
    fn forget_abandoned(&mut self) {
        self.publishing.retain(|_, waiting| {
            waiting.retain(|done| !done.is_closed());
            !waiting.is_empty()
        });
        self.querying.retain(|_, (_, done)| !done.is_closed());
    }
}

/// The one who asked may have given up waiting; then nobody needs the answer.
fn answer<T>(done: oneshot::Sender<T>, value: T) {
    if done.send(value).is_err() {
        tracing::trace!("answer came too late");
    }
}

async fn send(socket: &mut Socket, frame: String) -> Result<(), tungstenite::Error> {
    put(socket, Message::Text(frame.into())).await
}

async fn send_all(
    socket: &mut Socket,
    frames: impl IntoIterator<Item = ClientFrame<'static>>,
) -> Result<(), tungstenite::Error> {
    for frame in frames {
        send(socket, frame.to_json()).await?;
    }
    Ok(())
}

/// A board that does not read is as good as away.
async fn put(socket: &mut Socket, message: Message) -> Result<(), tungstenite::Error> {
    let timed_out = |_| tungstenite::Error::Io(std::io::ErrorKind::TimedOut.into());
    timeout(ANSWER_TIMEOUT, socket.send(message)).await.map_err(timed_out)?
}

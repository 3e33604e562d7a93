//! One board as a trader sees it: a WebSocket that comes back, publishes until the board said OK, and brings mail.

use std::collections::BTreeMap;
use std::time::Duration;

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
/// How long one who only wants to read waits for a board that is being connected to.
const CONNECT_PATIENCE: Duration = Duration::from_secs(3);
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
    /// Starts the connection on `tasks`; it lives until `shutdown`. Mail for listened keys goes to `mail`.
    pub fn start(
        url: String,
        own: bool,
        mail: mpsc::Sender<Mail>,
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
            mail,
            keys: heard,
            again: wanted,
            connected: connects,
            caught_up: catches_up,
            serial: 0,
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
        let (done, answer) = oneshot::channel();
        self.ask(Command::Publish { event, done }, answer).await
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

    /// Brings once more all that the board has stored for our keys.
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
pub(crate) fn answered<'a>(
    answers: impl IntoIterator<Item = (&'a str, Result<Vec<Event>, BoardError>)>,
) -> Result<Vec<(&'a str, Vec<Event>)>, BoardError> {
    let (mut found, mut trouble) = (Vec::new(), None);
    for (url, answer) in answers {
        match answer {
            Ok(events) => found.push((url, events)),
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
    mail: mpsc::Sender<Mail>,
    keys: watch::Receiver<Vec<Keypair>>,
    again: watch::Receiver<u64>,
    connected: watch::Sender<bool>,
    /// Every stored wrap of this connection has been handed on.
    caught_up: watch::Sender<bool>,
    /// Subscriptions made so far: each has a name of its own, so that answers to an earlier one are known as such.
    serial: u64,
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
    mailboxes: [Mailbox; 2],
}

/// What is subscribed to: trade steps that anybody may read, and gift wraps that only their recipient gets.
#[derive(Clone, Copy)]
enum MailKind {
    Steps = 0,
    Wraps = 1,
}

const MAIL_KINDS: [MailKind; 2] = [MailKind::Steps, MailKind::Wraps];

/// One kind of mail on one connection: a standing subscription for what is new, and pages of what is stored.
#[derive(Default)]
struct Mailbox {
    /// Name of the standing subscription; its stored part is the first page.
    standing: String,
    /// Name of the subscription that sends the page; empty when every page was read.
    page: String,
    events: u64,
    oldest: Option<Unix>,
    until: Option<Unix>,
    pages: u32,
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
        let mut connection = Connection::default();
        let mut heard = Instant::now();
        let mut ping = tokio::time::interval_at(Instant::now() + PING_EVERY, PING_EVERY);
        self.keys.mark_unchanged();
        self.again.mark_unchanged();
        self.subscribe(&mut socket, &mut connection, &MAIL_KINDS).await?;
        self.connected.send_replace(true);
        loop {
            tokio::select! {
                changed = self.keys.changed() => {
                    if changed.is_err() {
                        return Ok(());
                    }
                    self.authenticate(&mut socket, &mut connection).await?;
                    // Wraps follow when the board knows the new keys to be ours.
                    let known = connection.authenticating.is_empty();
                    let kinds = if known { &MAIL_KINDS[..] } else { &[MailKind::Steps] };
                    self.subscribe(&mut socket, &mut connection, kinds).await?;
                }
                Ok(()) = self.again.changed() => self.subscribe(&mut socket, &mut connection, &MAIL_KINDS).await?,
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
                _ = ping.tick() => {
                    if heard.elapsed() > PING_EVERY * 3 {
                        return Err(tungstenite::Error::ConnectionClosed);
                    }
                    connection.forget_abandoned();
                    put(&mut socket, Message::Ping(Vec::new().into())).await?;
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
            Command::Publish { event, done } => {
                connection.publishing.entry(event.id).or_default().push(done);
                send(socket, frame::publish(&event, None)).await
            }
            Command::Query { filters, done } => {
                self.serial += 1;
                let name = format!("query-{}", self.serial);
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
    async fn subscribe(
        &mut self,
        socket: &mut Socket,
        connection: &mut Connection,
        kinds: &[MailKind],
    ) -> Result<(), tungstenite::Error> {
        for kind in kinds {
            let Some(filter) = self.mail_filter(*kind, connection, None) else { continue };
            self.serial += 1;
            let name = format!("mail-{}", self.serial);
            let fresh = Mailbox { standing: name.clone(), page: name.clone(), ..Mailbox::default() };
            let former = std::mem::replace(&mut connection.mailboxes[*kind as usize], fresh);
            for old in [former.standing, former.page].into_iter().filter(|old| !old.is_empty()) {
                send(socket, ClientFrame::Close(old.into()).to_json()).await?;
            }
            send(socket, ClientFrame::Req { id: name.into(), filters: vec![filter] }.to_json()).await?;
        }
        Ok(())
    }

    /// Mail of one kind, made not after `until`; none while there is no key to ask for.
    fn mail_filter(&self, kind: MailKind, connection: &Connection, until: Option<Unix>) -> Option<Filter> {
        let (kinds, keys): (Vec<u16>, Vec<String>) = match kind {
            MailKind::Steps => {
                let keys = self.keys.borrow().iter().map(|key| units::hex32(&pubkey_of(key))).collect();
                ((FIRST_STEP..=LAST_STEP).collect(), keys)
            }
            MailKind::Wraps => {
                let wanted: Vec<_> = self.keys.borrow().iter().map(pubkey_of).collect();
                let keys = connection.authenticated.iter().filter(|key| wanted.contains(key));
                (vec![wire::seal::KIND_GIFT_WRAP], keys.map(units::hex32).collect())
            }
        };
        let tags = BTreeMap::from([(b'p', keys)]);
        (!tags[&b'p'].is_empty()).then(|| Filter { kinds: Some(kinds), tags, until, ..Filter::default() })
    }

    /// At the end of a page: the one before it, when this one was full.
    async fn turn_page(
        &mut self,
        socket: &mut Socket,
        connection: &mut Connection,
        kind: MailKind,
    ) -> Result<(), tungstenite::Error> {
        let mailbox = &mut connection.mailboxes[kind as usize];
        let read = std::mem::take(&mut mailbox.page);
        let full = mailbox.events >= PAGE_EVENTS && mailbox.pages < PAGES_MAX;
        // A whole page of one second would otherwise be sent again and again.
        let stuck = mailbox.oldest == mailbox.until;
        let until = mailbox.oldest.map(|oldest| Unix(oldest.0.saturating_sub(u64::from(stuck))));
        let standing = mailbox.standing == read;
        if full && let Some(filter) = self.mail_filter(kind, connection, until) {
            self.serial += 1;
            let name = format!("mail-{}", self.serial);
            let mailbox = &mut connection.mailboxes[kind as usize];
            mailbox.page.clone_from(&name);
            (mailbox.events, mailbox.oldest, mailbox.until) = (0, None, until);
            mailbox.pages += 1;
            send(socket, ClientFrame::Req { id: name.into(), filters: vec![filter] }.to_json()).await?;
        } else if matches!(kind, MailKind::Wraps) {
            self.caught_up.send_replace(true);
        }
        if standing { Ok(()) } else { send(socket, ClientFrame::Close(read.into()).to_json()).await }
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
                    } else {
                        tracing::warn!(board = %self.url, reason = %message, "board does not accept our authentication");
                    }
                    if connection.authenticating.is_empty() {
                        return self.subscribe(socket, connection, &[MailKind::Wraps]).await;
                    }
                    return Ok(());
                }
                let published = self.verdict(accepted, message.into_owned());
                for done in connection.publishing.remove(&event).unwrap_or_default() {
                    answer(done, published.clone());
                }
            }
            RelayFrame::Eose(id) => {
                if let Some(kind) = connection.page_of(&id) {
                    return self.turn_page(socket, connection, kind).await;
                }
                if let Some((events, done)) = connection.querying.remove(&*id) {
                    answer(done, Ok(events));
                    return send(socket, ClientFrame::Close(id).to_json()).await;
                }
            }
            RelayFrame::Closed { id, message } => {
                if let Some((_, done)) = connection.querying.remove(&*id) {
                    answer(done, Err(BoardError::Refused { url: self.url.clone(), reason: message.into_owned() }));
                } else if connection.is_mail(&id) && !message.starts_with("auth-required:") {
                    // Without it we would hear nothing and not know: a new connection asks again.
                    tracing::warn!(board = %self.url, reason = %message, "the board ended a subscription to our mail");
                    return Err(tungstenite::Error::ConnectionClosed);
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
        if let Some(kind) = connection.page_of(subscription) {
            let mailbox = &mut connection.mailboxes[kind as usize];
            mailbox.events += 1;
            mailbox.oldest = Some(mailbox.oldest.map_or(event.created_at, |oldest| oldest.min(event.created_at)));
        }
        if connection.is_mail(subscription) {
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

impl Connection {
    /// The kind of mail whose page this subscription sends.
    fn page_of(&self, subscription: &str) -> Option<MailKind> {
        MAIL_KINDS.into_iter().find(|kind| self.mailboxes[*kind as usize].page == subscription)
    }

    fn is_mail(&self, subscription: &str) -> bool {
        self.mailboxes.iter().any(|mailbox| mailbox.standing == subscription || mailbox.page == subscription)
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

/// A board that does not read is as good as away.
async fn put(socket: &mut Socket, message: Message) -> Result<(), tungstenite::Error> {
    let timed_out = |_| tungstenite::Error::Io(std::io::ErrorKind::TimedOut.into());
    timeout(ANSWER_TIMEOUT, socket.send(message)).await.map_err(timed_out)?
}

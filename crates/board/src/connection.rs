//! One WebSocket connection: carries frames between the socket and its [`Session`], and does what the session asks for.
//!
//! It reads only while it has room for the answers, asks the store for the next part of an answer only when the last one is
//! written, and writes everything that is ready at once. What comes unasked waits in its bounded mailbox.

use std::collections::{HashMap, VecDeque};
use std::future::{Future, pending};
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::{FutureExt, SinkExt, StreamExt};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::mpsc::Sender;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::error::{CapacityError, Error as WsError};
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use wire::{Filter, RawEvent, RelayFrame};

use crate::admission::{Policy, Sender as From};
use crate::intake::Job;
use crate::live::{Item, Mailbox, Published, Watch};
use crate::server::Shared;
use crate::session::{Effect, Session, ok};
use crate::store::{Ask, Budget, Cursor, Encoded, Outcome, StoreError};

/// Messages that are read at once before answers are written.
const READ_MAX: usize = 64;
/// One turn of an answer.
const TURN: Budget = Budget { rows: 2000, bytes: 256 * 1024 };
/// How long a connection that ends waits for what it has published and for its last words to be taken.
const FAREWELL: Duration = Duration::from_secs(5);

/// An answer in the making.
struct Question {
    ticket: u64,
    cursor: Box<dyn Cursor>,
    /// How many so far, when only the number is wanted.
    count: Option<u64>,
}

/// A question after its turn.
type Turn = (Question, Result<(Vec<Arc<Encoded>>, bool), StoreError>);
type Turning = Pin<Box<dyn Future<Output = Option<Turn>> + Send>>;

pub(crate) struct Connection<S> {
    shared: Arc<Shared>,
    socket: WebSocketStream<S>,
    address: IpAddr,
    session: Session,
    mailbox: Arc<Mailbox>,
    verify: Sender<Job>,
    in_flight: usize,
    watches: HashMap<u64, Watch>,
    questions: VecDeque<Question>,
    turning: Option<Turning>,
    heard: Instant,
    out: Vec<Message>,
    /// Why the connection ends, once it does.
    end: Option<(CloseCode, &'static str)>,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Connection<S> {
    /// A connection that just finished its handshake; `None` when the board is closing.
    pub(crate) fn new(
        shared: Arc<Shared>,
        socket: WebSocketStream<S>,
        address: IpAddr,
        number: u64,
        challenge: String,
    ) -> Option<Connection<S>> {
        let verify = shared.intake.queue(number)?;
        let session = Session::new(shared.limits.session, shared.urls.clone(), challenge);
        let mailbox = Arc::new(Mailbox::new(shared.limits.pending_bytes));
        Some(Connection {
            shared,
            socket,
            address,
            session,
            mailbox,
            verify,
            in_flight: 0,
            watches: HashMap::new(),
            questions: VecDeque::new(),
            turning: None,
            heard: Instant::now(),
            out: Vec::new(),
            end: None,
        })
    }

    /// Serves the connection until one of the two sides ends it.
    pub(crate) async fn run(mut self) {
        self.out.push(Message::text(self.session.greeting()));
        let stop = self.shared.stop.clone();
        let overrun = self.mailbox.overrun.clone();
        let mailbox = self.mailbox.clone();
        let mut tick = tokio::time::interval(self.shared.limits.ping);
        tick.reset();
        while self.end.is_none() {
            if self.write(&overrun).await.is_err() {
                break;
            }
            let reads = self.in_flight < self.shared.limits.in_flight;
            tokio::select! {
                biased;
                () = overrun.cancelled() => self.end = Some((CloseCode::Policy, "reads too slowly")),
                () = stop.cancelled() => self.end = Some((CloseCode::Away, "the board is closing")),
                () = mailbox.bell.notified() => self.news(),
                turn = take_turn(&mut self.turning) => self.turned(turn),
                message = self.socket.next(), if reads => self.messages(message).await,
                _ = tick.tick() => self.tick(),
            }
            self.next_turn();
        }
        for (_, watch) in self.watches.drain() {
            self.shared.live.unwatch(watch);
        }
        self.farewell().await;
    }

    /// Writes all that is ready and flushes once. Gives up on a reader that does not take it in time.
    async fn write(&mut self, overrun: &tokio_util::sync::CancellationToken) -> Result<(), ()> {
        if self.out.is_empty() {
            return Ok(());
        }
        let frames = std::mem::take(&mut self.out);
        let socket = &mut self.socket;
        let write = async {
            for frame in frames {
                socket.feed(frame).await?;
            }
            socket.flush().await
        };
        tokio::select! {
            written = tokio::time::timeout(self.shared.limits.write, write) => match written {
                Ok(Ok(())) => Ok(()),
                Ok(Err(_)) => Err(()),
                Err(_) => {
                    self.shared.counters.slow();
                    Err(())
                }
            },
            () = overrun.cancelled() => {
                self.shared.counters.slow();
                Err(())
            }
        }
    }

    /// Takes what waits in the mailbox.
    fn news(&mut self) {
        let policy = self.shared.policy.get();
        let mut effects = Vec::new();
        for item in self.mailbox.take() {
            match item {
                Item::Published { id, result } => {
                    self.in_flight = self.in_flight.saturating_sub(1);
                    self.session.published(id, &result, &mut effects);
                }
                Item::Live { ticket, event } => self.session.live(ticket, &event, &policy, &mut effects),
            }
        }
        for effect in effects {
            self.settle(effect);
        }
    }

    async fn messages(&mut self, first: Option<Result<Message, WsError>>) {
        let mut next = Some(first);
        let mut read = 0;
        let policy = self.shared.policy.get();
        while let Some(message) = next.take() {
            self.message(message, &policy).await;
            read += 1;
            if self.end.is_none() && read < READ_MAX && self.in_flight < self.shared.limits.in_flight {
                next = self.socket.next().now_or_never();
            }
        }
    }

    async fn message(&mut self, message: Option<Result<Message, WsError>>, policy: &Policy) {
        self.heard = Instant::now();
        match message {
            Some(Ok(Message::Text(text))) => self.frame(&text, policy).await,
            Some(Ok(Message::Binary(bytes))) => match std::str::from_utf8(&bytes) {
                Ok(text) => self.frame(text, policy).await,
                Err(_) => {
                    let notice = RelayFrame::Notice("invalid: a frame that is not UTF-8".into());
                    self.out.push(Message::text(notice.to_json()));
                }
            },
            Some(Ok(Message::Close(_))) | None => self.end = Some((CloseCode::Normal, "")),
            Some(Ok(Message::Ping(_) | Message::Pong(_) | Message::Frame(_))) => {}
            Some(Err(WsError::Capacity(CapacityError::MessageTooLong { .. }))) => {
                self.end = Some((CloseCode::Size, "the message is too long"));
            }
            Some(Err(_)) => self.end = Some((CloseCode::Protocol, "")),
        }
    }

    async fn frame(&mut self, text: &str, policy: &Policy) {
        let mut effects = Vec::new();
        self.session.frame(text, policy, (self.shared.clock)(), &mut effects);
        for effect in effects {
            match effect {
                Effect::Publish { event, credential } => self.publish(&event, credential.as_deref(), policy).await,
                other => self.settle(other),
            }
        }
    }

    /// Does everything that a session asks for but to publish.
    fn settle(&mut self, effect: Effect<'_>) {
        match effect {
            Effect::Send(text) => self.out.push(Message::text(text)),
            Effect::Subscribe { ticket, filters } => {
                let (mailbox, store) = (&self.mailbox, &self.shared.store);
                let (watch, from) = self.shared.live.watch(mailbox, ticket, &filters, || store.end());
                self.watches.insert(ticket, watch);
                self.question(ticket, &filters, from, None);
            }
            Effect::Count { ticket, filters } => self.question(ticket, &filters, self.shared.store.end(), Some(0)),
            Effect::Stop { ticket } => {
                if let Some(watch) = self.watches.remove(&ticket) {
                    self.shared.live.unwatch(watch);
                }
                self.questions.retain(|question| question.ticket != ticket);
            }
            Effect::End { why } => self.end = Some((CloseCode::Policy, why)),
            Effect::Publish { .. } => unreachable!("only a frame publishes, and frames settle that themselves"),
        }
    }

    async fn publish(&mut self, event: &RawEvent<'_>, credential: Option<&str>, policy: &Policy) {
        let from = From { address: self.address, keys: self.session.keys(), credential };
        let settled = match self.shared.store.known(&event.id) {
            Ok(Some(known)) => Some(Published::Store(Outcome::Known(known))),
            Ok(None) => {
                let admitted = policy.admit(event, &from, &self.shared.rates, (self.shared.clock)());
                admitted.err().map(|why| Published::Refused(why.to_string()))
            }
            Err(why) => {
                tracing::error!(%why, "an id could not be looked up");
                Some(Published::Store(Outcome::Failed("the board's store failed".into())))
            }
        };
        if let Some(result) = settled {
            self.shared.counts.note(&result);
            return self.out.push(Message::text(ok(event.id, &result)));
        }
        let job = Job {
            id: event.id,
            text: event.text.into(),
            credential: credential.map(Into::into),
            mailbox: self.mailbox.clone(),
        };
        if self.verify.send(job).await.is_ok() {
            self.in_flight += 1;
        } else {
            self.end = Some((CloseCode::Away, "the board is closing"));
        }
    }

    fn question(&mut self, ticket: u64, filters: &Arc<[Filter]>, before: u64, count: Option<u64>) {
        let (policy, keys) = (self.shared.policy.get(), self.session.keys().to_vec());
        let limits = &self.shared.limits.session;
        let mut filters = filters.to_vec();
        if count.is_some() {
            filters.iter_mut().for_each(|filter| filter.limit = None);
        }
        let ask = Ask {
            filters,
            limit_max: if count.is_some() { limits.count } else { limits.limit },
            before,
            may_read: Arc::new(move |event| policy.may_read(event, &keys)),
        };
        match self.shared.store.query(ask) {
            Ok(cursor) => self.questions.push_back(Question { ticket, cursor, count }),
            Err(why) => self.failed(ticket, &why),
        }
    }

    fn failed(&mut self, ticket: u64, why: &StoreError) {
        tracing::error!(%why, "a question could not be answered");
        let mut effects = Vec::new();
        self.session.failed(ticket, &mut effects);
        effects.into_iter().for_each(|effect| self.settle(effect));
    }

    /// Gives the next question its turn, if none has it.
    fn next_turn(&mut self) {
        if self.turning.is_some() {
            return;
        }
        let Some(mut question) = self.questions.pop_front() else { return };
        let shared = self.shared.clone();
        self.turning = Some(Box::pin(async move {
            let turn = shared.turns.acquire().await.ok()?;
            let now = (shared.clock)();
            let work = move || {
                let mut events = Vec::new();
                let done = question.cursor.advance(now, TURN, &mut events);
                (question, done.map(|done| (events, done)))
            };
            let turned = shared.tasks.spawn_blocking(work).await.ok();
            drop(turn);
            turned
        }));
    }

    fn turned(&mut self, turn: Option<Turn>) {
        self.turning = None;
        let Some((mut question, result)) = turn else {
            self.end = Some((CloseCode::Error, "the board failed"));
            return;
        };
        let ticket = question.ticket;
        let (events, done) = match result {
            Ok(part) => part,
            Err(why) => return self.failed(ticket, &why),
        };
        let mut effects = Vec::new();
        match &mut question.count {
            None => self.session.stored(ticket, &events, done, &mut effects),
            Some(count) => {
                *count += events.len() as u64;
                if done {
                    let approximate = *count >= self.shared.limits.session.count;
                    self.session.counted(ticket, *count, approximate, &mut effects);
                }
            }
        }
        effects.into_iter().for_each(|effect| self.settle(effect));
        if !done && self.session.runs(ticket) {
            self.questions.push_back(question);
        }
    }

    fn tick(&mut self) {
        if self.heard.elapsed() > self.shared.limits.ping * 3 {
            self.end = Some((CloseCode::Away, "nothing was heard for too long"));
        } else {
            self.out.push(Message::Ping(Default::default()));
        }
    }

    /// Says why the connection ends, after the fate of what it published.
    async fn farewell(mut self) {
        let Some((code, why)) = self.end else { return };
        let goodbye = async {
            while code == CloseCode::Away && self.in_flight > 0 {
                self.mailbox.bell.notified().await;
                self.news();
            }
            for frame in std::mem::take(&mut self.out) {
                self.socket.feed(frame).await?;
            }
            self.socket.close(Some(CloseFrame { code, reason: why.into() })).await
        };
        // The other side may be gone already: nothing is left to be done about it then.
        match tokio::time::timeout(FAREWELL, goodbye).await {
            Ok(Ok(())) | Ok(Err(_)) | Err(_) => {}
        }
    }
}

async fn take_turn(turning: &mut Option<Turning>) -> Option<Turn> {
    match turning {
        Some(turn) => turn.await,
        None => pending().await,
    }
}

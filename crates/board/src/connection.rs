//! One WebSocket connection: carries frames between the socket and its [`Session`], and does what the session asks for.
//!
//! It reads only while it has room for the answers, asks the store for the next part of an answer only when the last one is
//! written, and writes everything that is ready at once. What comes unasked leaves by its [`Outlet`] without it.

use std::cell::Cell;
use std::collections::{HashMap, VecDeque};
use std::future::{Future, pending, poll_fn};
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Poll, ready};
use std::time::{Duration, Instant};

use tokio::io::{AsyncRead, Interest, ReadBuf};
use tokio::net::TcpStream;
use tokio::net::tcp::OwnedReadHalf;
use tokio::runtime::{Handle, RuntimeFlavor};
use tokio::sync::Semaphore;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use units::Unix;
use wire::hll::Hll;
use wire::{Filter, RawEvent, RelayFrame};

use crate::admission::{Authenticated, Policy, Sender as From};
use crate::clients::{Order, Present, Report};
use crate::compression::Agreement;
use crate::herald::Publisher;
use crate::intake::Job;
use crate::live::{Published, Watch};
use crate::outlet::{Flow, Outlet, Shut};
use crate::page::{Page, Part};
use crate::reconcile::Broken as Unreconciled;
use crate::reconciler::Reconciler;
use crate::server::Shared;
use crate::session::{Counted, Effect, Session, ok, values};
use crate::store::{Ask, Budget, Cursor, Encoded, Gathering, Known, Outcome, Sink, StoreError};
use crate::toll::Toll;
use crate::websocket::{Broken, Deflated, Frames, Incoming, put_close, put_ping, put_pong};

/// Frames that are read at once before others have a turn.
const READ_MAX: usize = 64;
/// Events that are judged at once before others have a turn.
const JUDGE_MAX: usize = 16;
/// How long nothing more is read from who was refused something that cost the board as much as if it had been granted: an
/// event after its signature was checked, a subscription that is too many. The same for what nobody can read, which may be long.
/// A flood of them is not to keep others waiting.
const IN_VAIN: Duration = Duration::from_millis(20);
/// Values in the filters of a request that cost its sender no wait...
const VALUES_FREE: usize = 256;
/// ...and how long nothing more is read for each of the others.
const PER_VALUE: Duration = Duration::from_micros(200);
/// A message may be so many times as long as it came compressed, and some bytes more...
const BLOWN: usize = 8;
const BLOWN_FREE: usize = 16 * 1024;
/// ...and nothing more is read for so long for each of the others: half a mebibyte of spaces comes in some hundred bytes.
const PER_BLOWN: Duration = Duration::from_nanos(40);
/// Fewer bytes than this, if they complete no frame, are a crumb...
const CRUMB: usize = 128;
/// ...and after so many in a row...
const CRUMBS_FREE: u32 = 4;
/// ...nothing more is read for so long, so that they become more...
const CRUMB_WAIT: Duration = Duration::from_millis(5);
/// ...or up to so many times as long, by the number of the connection: many who started together are not to come back together.
const CRUMB_WAITS: u64 = 16;
/// Bytes that are read at once.
const READ_BYTES: usize = 64 * 1024;
/// One turn of an answer.
const TURN: Budget = Budget { rows: 2000, bytes: 256 * 1024, disk: true };
/// One of who has asked much: a processor that it runs on is not free for others meanwhile, whatever they are to do.
const TURN_IN_LINE: Budget = Budget { rows: 500, bytes: 64 * 1024, disk: true };
/// A turn so short that it is not worth another thread, as long as it finds all in memory.
const QUICK: Budget = Budget { rows: 1000, bytes: 96 * 1024, disk: false };
/// To send so much of an answer at once is work too.
const FLUSHED: usize = 64 * 1024;
/// Quick turns one after another before others go on...
const QUICK_MAX: usize = 8;
/// ...each of which counts once more for so many bytes.
const QUICK_BYTES: usize = 12 * 1024;
/// How long a connection that ends waits for what it has published and for its last words to be taken.
const FAREWELL: Duration = Duration::from_secs(5);
/// How long a connection that broke the protocol waits for its end. Who breaks one after another comes back no faster than that,
/// and no more often than its address has seats.
const PENANCE: Duration = Duration::from_millis(250);
/// How long the other side may take to hear why it was cut off.
const LINGER: Duration = Duration::from_secs(1);

thread_local! {
    /// What was just read: connections that wait hold no buffer.
    static SCRATCH: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// An answer in the making.
struct Question {
    ticket: u64,
    cursor: Box<dyn Cursor>,
    wants: Wants,
    /// It had no turn yet, and does not ask for much.
    quick: bool,
}

/// What is made of the events of an answer.
enum Wants {
    /// Frames.
    Events(Page),
    /// Their number.
    Count(Tally),
}

/// A count under way.
struct Tally {
    count: u64,
    hll: Option<Hll>,
}

impl Sink for Tally {
    fn take(&mut self, event: &Encoded) {
        self.count += 1;
        if let Some(hll) = &mut self.hll {
            hll.add(&event.pubkey);
        }
    }
}

/// A question after its turn.
type Turn = (Question, Result<Part, StoreError>);
type Turning = Pin<Box<dyn Future<Output = Option<Turn>> + Send>>;

/// What the socket is waited for.
#[derive(Clone, Copy)]
enum Wait {
    /// It has to take what it was given by then.
    Write(Instant),
    /// There may be frames that were read already.
    Kept,
    Read,
    /// The board has too much under way.
    Room,
    /// Nothing is read until then.
    Pause(Instant),
    Nothing,
}

/// What the socket did.
enum Happened {
    Read(std::io::Result<(Vec<u8>, usize)>),
    Kept,
    Room,
    Rested,
    Writable,
    TooSlow,
}

/// The socket took no more at some time.
struct Stalled {
    /// It has to have taken this many bytes...
    goal: u64,
    /// ...by then.
    by: Instant,
}

/// What the handshake came to.
pub(crate) struct Opened<'a> {
    pub(crate) socket: TcpStream,
    /// What was read beyond it.
    pub(crate) read: &'a [u8],
    /// Whose it is.
    pub(crate) address: IpAddr,
    /// What was agreed on about compression.
    pub(crate) agreed: Option<Agreement>,
}

pub(crate) struct Connection {
    shared: Arc<Shared>,
    socket: OwnedReadHalf,
    client: Present,
    session: Session,
    outlet: Arc<Outlet>,
    frames: Frames,
    /// Bytes that came but are not read yet: part of a frame, or what had to wait.
    kept: Vec<u8>,
    /// There may be a complete frame among them.
    more: bool,
    /// Events judged since others had a turn.
    judged: usize,
    /// While events are judged.
    gathering: Option<Gathering>,
    /// An event that came when the board had too much under way.
    waiting: Option<Job>,
    /// Nothing is read until then.
    pause: Option<Instant>,
    /// Reads in a row that brought little and completed no frame.
    crumbs: u32,
    watches: HashMap<u64, Watch>,
    /// Subscriptions whose stored events are sent and whose new ones do not yet go straight to the outlet.
    answered: Vec<u64>,
    questions: VecDeque<Question>,
    turning: Option<Turning>,
    stalled: Option<Stalled>,
    reconciler: Reconciler,
    toll: Toll,
    heard: Instant,
    /// Why the connection ends, once it does.
    end: Option<(CloseCode, &'static str)>,
}

impl Connection {
    /// A connection that just finished its handshake.
    pub(crate) fn new(shared: Arc<Shared>, opened: Opened<'_>, challenge: String) -> Connection {
        let Opened { socket, read, address, agreed } = opened;
        let limits = &shared.limits;
        let session = Session::new(limits.session, shared.urls.clone(), challenge);
        let (socket, out) = socket.into_split();
        let outlet = Arc::new(Outlet::new(out, limits.pending_bytes, agreed));
        let frames = Frames::new(limits.session.frame.bytes, agreed.is_some());
        let client = shared.clients.enter(address, (shared.clock)(), outlet.clone());
        let toll = Toll::new(shared.clone(), address);
        Connection {
            reconciler: Reconciler::new(shared.clone(), toll.clone()),
            toll,
            shared,
            socket,
            client,
            session,
            outlet,
            frames,
            kept: read.to_vec(),
            more: !read.is_empty(),
            judged: 0,
            gathering: None,
            waiting: None,
            pause: None,
            crumbs: 0,
            watches: HashMap::new(),
            answered: Vec::new(),
            questions: VecDeque::new(),
            turning: None,
            stalled: None,
            heard: Instant::now(),
            end: None,
        }
    }

    /// Serves the connection until one of the two sides ends it.
    pub(crate) async fn run(mut self) {
        self.say(&self.session.greeting());
        let (stop, outlet) = (self.shared.stop.clone(), self.outlet.clone());
        let mut stopped = std::pin::pin!(stop.cancelled());
        let mut tick = tokio::time::interval(self.shared.limits.ping);
        tick.reset();
        while self.end.is_none() {
            self.go_direct();
            // Nothing may be said between here and the waiting: nobody else would flush it.
            outlet.flush();
            let Some(wait) = self.wait() else { break };
            tokio::select! {
                biased;
                () = &mut stopped => self.end = Some((CloseCode::Away, "the board is closing")),
                () = outlet.bell.notified() => {
                    self.orders();
                    self.news();
                }
                turn = take_turn(&mut self.turning) => self.turned(turn),
                (ticket, answer) = self.reconciler.next() => self.reconciled(ticket, answer),
                happened = happens(&mut self.socket, wait, self.shared.judge.room()) => self.happened(happened),
                _ = tick.tick() => self.tick(),
            }
            self.next_turn();
        }
        for (_, watch) in self.watches.drain() {
            self.shared.live.unwatch(watch);
        }
        outlet.wait_for_fates(true);
        self.farewell().await;
    }

    /// What the socket is waited for now; `None` when it is of no use any more.
    fn wait(&mut self) -> Option<Wait> {
        let limits = &self.shared.limits;
        match self.outlet.flow() {
            Flow::Shut(why) => {
                if why == Shut::Overrun {
                    self.shared.counters.slow();
                }
                None
            }
            Flow::Blocked { sent, given } => {
                let stalled = self.stalled.take().filter(|stalled| sent < stalled.goal);
                let stalled = stalled.unwrap_or_else(|| Stalled { goal: given, by: Instant::now() + limits.write });
                Some(Wait::Write(self.stalled.insert(stalled).by))
            }
            Flow::Clear => {
                self.stalled = None;
                let full = |outlet: &Outlet| outlet.in_flight() >= limits.in_flight;
                let paused = full(&self.outlet) && {
                    // Asked again once the bell is sure to ring: the last fate may be told meanwhile.
                    self.outlet.wait_for_fates(true);
                    full(&self.outlet)
                };
                if !paused {
                    self.outlet.wait_for_fates(false);
                }
                Some(match (self.pause, self.waiting.is_some(), self.more) {
                    _ if paused => Wait::Nothing,
                    (Some(until), _, _) => Wait::Pause(until),
                    (None, true, _) => Wait::Room,
                    (None, false, true) => Wait::Kept,
                    (None, false, false) => Wait::Read,
                })
            }
        }
    }

    fn happened(&mut self, happened: Happened) {
        match happened {
            Happened::Writable => self.outlet.unblock(),
            Happened::Rested => self.pause = None,
            Happened::Room => {
                if let Some(job) = self.waiting.take() {
                    self.judge(job);
                    self.gathering = None;
                }
            }
            Happened::TooSlow => {
                self.shared.counters.slow();
                self.outlet.close();
            }
            Happened::Kept => {
                let mut kept = std::mem::take(&mut self.kept);
                let used = self.read(&mut kept);
                kept.drain(..used);
                self.keep(kept);
            }
            Happened::Read(Ok((_, 0)) | Err(_)) => self.end = Some((CloseCode::Normal, "")),
            Happened::Read(Ok((mut bytes, len))) => {
                let used = if self.kept.is_empty() {
                    let used = self.read(&mut bytes[..len]);
                    self.keep(bytes[used..len].to_vec());
                    used
                } else {
                    let mut kept = std::mem::take(&mut self.kept);
                    kept.extend_from_slice(&bytes[..len]);
                    let used = self.read(&mut kept);
                    kept.drain(..used);
                    self.keep(kept);
                    used
                };
                SCRATCH.set(bytes);
                self.crumbs = match used {
                    _ if len >= CRUMB || self.kept.is_empty() => 0,
                    0 => self.crumbs.saturating_add(1),
                    // A frame is complete and the next one comes in crumbs again.
                    _ => self.crumbs,
                };
                if self.crumbs > CRUMBS_FREE {
                    self.rest(CRUMB_WAIT * (1 + self.client.number % CRUMB_WAITS) as u32);
                }
            }
        }
    }

    fn keep(&mut self, bytes: Vec<u8>) {
        self.kept = if bytes.is_empty() { Vec::new() } else { bytes };
    }

    /// Reads frames from the front of `bytes`. Gives how many bytes that were.
    fn read(&mut self, bytes: &mut [u8]) -> usize {
        let policy = self.shared.policy.get();
        let mut frames = std::mem::replace(&mut self.frames, Frames::new(0, false));
        let (mut used, mut read) = (0, 0);
        self.judged = 0;
        self.more = loop {
            if self.end.is_some() {
                break false;
            }
            let enough = read == READ_MAX || self.judged == JUDGE_MAX || self.waiting.is_some() || self.pause.is_some();
            if enough || self.outlet.in_flight() >= self.shared.limits.in_flight {
                break true;
            }
            match frames.next(&mut bytes[used..]) {
                Ok(Some((len, incoming))) => {
                    self.incoming(incoming, &policy);
                    used += len;
                    read += 1;
                }
                Ok(None) => break false,
                Err(broken) => self.broken(broken),
            }
        };
        self.gathering = None;
        self.frames = frames;
        self.client.read(read, used);
        if read > 0 {
            // Not for mere bytes: a frame that never ends keeps no connection alive.
            self.heard = Instant::now();
        }
        used
    }

    fn broken(&mut self, broken: Broken) {
        self.end = Some(match broken {
            Broken::Protocol => (CloseCode::Protocol, "not a frame of RFC 6455 or 7692"),
            Broken::NotUtf8 => (CloseCode::Invalid, "a text that is not UTF-8"),
            Broken::TooLong => (CloseCode::Size, "the message is too long"),
        });
    }

    fn deflated(&mut self, deflated: &Deflated<'_>, policy: &Policy) {
        let free = deflated.len() * BLOWN + BLOWN_FREE;
        let began = self.toll.begin();
        let read = deflated.inflate(|incoming| {
            self.toll.pay(began);
            let blown = incoming.len().saturating_sub(free);
            if blown > 0 {
                self.rest(PER_BLOWN * u32::try_from(blown).unwrap_or(u32::MAX));
            }
            self.incoming(incoming, policy);
        });
        read.unwrap_or_else(|broken| self.broken(broken));
    }

    fn incoming(&mut self, incoming: Incoming<'_>, policy: &Policy) {
        match incoming {
            Incoming::Text(text) => self.frame(text, policy),
            Incoming::Binary(bytes) => match std::str::from_utf8(bytes) {
                Ok(text) => self.frame(text, policy),
                Err(_) => self.by_session(|session, effects| {
                    session.unreadable("invalid: a frame that is not UTF-8", effects);
                }),
            },
            Incoming::Ping(payload) => self.put(|out| put_pong(out, payload)),
            Incoming::Close(code) => self.end = Some((code, "")),
            Incoming::Part | Incoming::Pong => {}
            Incoming::Deflated(deflated) => self.deflated(&deflated, policy),
        }
    }

    /// Tells the session something, and does what it says.
    fn by_session(&mut self, tell: impl FnOnce(&mut Session, &mut Vec<Effect<'static>>)) {
        let mut effects = Vec::new();
        tell(&mut self.session, &mut effects);
        effects.into_iter().for_each(|effect| self.settle(effect));
    }

    /// Puts a text into the outlet, which is flushed before anything is waited for.
    fn say(&self, text: &str) {
        self.say_parts(["", text, ""]);
    }

    fn say_parts(&self, parts: [&str; 3]) {
        // Whoever is to flush it otherwise does so too, or the socket is blocked.
        let _flushed_soon = self.outlet.say(parts);
    }

    fn put(&self, write: impl FnOnce(&mut Vec<u8>)) {
        let _flushed_soon = self.outlet.put(write);
    }

    /// Does what the operator asks for.
    fn orders(&mut self) {
        for order in self.client.orders() {
            match order {
                Order::Report(told) => {
                    let report = Report {
                        keys: self.session.keys().to_vec(),
                        subscriptions: self.session.views(self.client.number),
                    };
                    if told.send(report).is_err() {
                        tracing::debug!("nobody waits for the report of a connection any more");
                    }
                }
                Order::Notice(text) => self.say(&RelayFrame::Notice((&*text).into()).to_json()),
                Order::End(why) => self.end = Some((CloseCode::Policy, why)),
            }
        }
    }

    /// Shows the session what was left for it.
    fn news(&mut self) {
        let news = self.outlet.news();
        if news.is_empty() {
            return;
        }
        let policy = self.shared.policy.get();
        self.by_session(|session, effects| {
            for (ticket, event) in news {
                session.live(ticket, &event, &policy, effects);
            }
        });
    }

    /// Lets new events of subscriptions whose stored ones are written go straight to the outlet.
    fn go_direct(&mut self) {
        if self.answered.is_empty() {
            return;
        }
        self.news();
        let mut answered = std::mem::take(&mut self.answered);
        answered.retain(|ticket| match (self.watches.get(ticket), self.session.head(*ticket)) {
            (Some(watch), Some(head)) => !self.shared.live.direct(*watch, head),
            _ => false,
        });
        self.answered = answered;
    }

    fn frame(&mut self, text: &str, policy: &Policy) {
        let began = if text.starts_with("[\"EVENT\"") {
            None
        } else {
            // What others have submitted is not to wait for a long question.
            self.gathering = None;
            self.toll.begin()
        };
        let mut effects = Vec::new();
        self.session.frame(text, policy, (self.shared.clock)(), &mut effects);
        let much = |effect: &Effect<'_>| match effect {
            Effect::Subscribe { filters, .. } => filters.iter().map(values).sum::<usize>() > VALUES_FREE,
            _ => false,
        };
        let asks = effects.iter().any(Effect::asks);
        aside(effects.iter().any(much), || {
            for effect in effects {
                match effect {
                    Effect::Publish { event, credential } => self.publish(&event, credential.as_deref(), policy),
                    other => self.settle(other),
                }
            }
        });
        if let Some(wait) = self.toll.heard(began, asks) {
            self.rest(wait);
        }
    }

    /// Does everything that a session asks for but to publish.
    fn settle(&mut self, effect: Effect<'_>) {
        match effect {
            Effect::Send(text) => self.say(&text),
            Effect::Subscribe { ticket, filters } => {
                let (outlet, store) = (&self.outlet, &self.shared.store);
                let (watch, from) = self.shared.live.watch(outlet, ticket, &filters, || store.end());
                self.watches.insert(ticket, watch);
                if let Some(head) = self.session.head(ticket) {
                    let page = Page { head, agreed: self.outlet.agreed() };
                    self.question(ticket, &filters, from, Wants::Events(page));
                }
            }
            Effect::Count { ticket, filters } => {
                let tally = Tally { count: 0, hll: Hll::of(&filters) };
                self.question(ticket, &filters, self.shared.store.end(), Wants::Count(tally));
            }
            Effect::Reconcile { ticket, filter, message } => {
                self.reconciler.step(ticket, filter, message, self.session.keys());
            }
            Effect::Stop { ticket } => {
                self.reconciler.stop(ticket);
                if let Some(watch) = self.watches.remove(&ticket) {
                    self.shared.live.unwatch(watch);
                }
                self.questions.retain(|question| question.ticket != ticket);
            }
            Effect::InVain => self.rest(IN_VAIN),
            Effect::End { why } => self.end = Some((CloseCode::Policy, why)),
            Effect::Publish { .. } => unreachable!("only a frame publishes, and frames settle that themselves"),
        }
    }

    fn publish(&mut self, event: &RawEvent<'_>, credential: Option<&str>, policy: &Policy) {
        let (ahead, now) = (&self.shared.judge.ahead, (self.shared.clock)());
        let came = if credential.is_none() && ahead.any() { ahead.of(&event.id, now) } else { None };
        let came = came.map(|stamp| stamp.to_string());
        let credential = credential.or(came.as_deref());
        let (address, client) = (self.client.address, self.client.number);
        let from = From { address, client, keys: self.session.keys(), credential };
        let settled = match self.shared.store.known(&event.id) {
            Ok(Some(Known::Served)) if event.expiration().is_some_and(|at| at <= now) => {
                Some(Published::Store(Outcome::Known(Known::Expired)))
            }
            Ok(Some(known)) => Some(Published::Store(Outcome::Known(known))),
            Ok(None) => {
                let admitted = policy.admit(event, &from, &self.shared.rates, now);
                admitted.err().map(|why| Published::Refused(self.shared.counts.refusal(why)))
            }
            Err(why) => {
                tracing::error!(%why, "an id could not be looked up");
                Some(Published::Store(Outcome::Failed("the board's store failed".into())))
            }
        };
        if let Some(result) = settled {
            self.shared.counts.note(&result);
            return self.say(&ok(event.id, &result));
        }
        let job = Job { event: event.detach(), credential: credential.map(Into::into), from: from.bearer() };
        match self.shared.judge.room().try_acquire() {
            Ok(permit) => permit.forget(),
            Err(_) => return self.waiting = Some(job),
        }
        self.judge(job);
    }

    /// Judges an event for which there is room.
    fn judge(&mut self, job: Job) {
        self.judged += 1;
        self.gathering.get_or_insert_with(|| self.shared.store.gather());
        let id = job.event.raw().id;
        self.outlet.open();
        if let Err(settled) = self.shared.judge.judge(job, Publisher::Client(self.outlet.clone())) {
            self.outlet.settle();
            if let Published::Refused(_) = settled {
                self.rest(IN_VAIN);
            }
            self.say(&ok(id, &settled));
        }
    }

    /// Reads nothing for so long.
    fn rest(&mut self, time: Duration) {
        let until = Instant::now() + time;
        self.pause = Some(self.pause.map_or(until, |pause| pause.max(until)));
    }

    fn question(&mut self, ticket: u64, filters: &Arc<[Filter]>, before: u64, wants: Wants) {
        let values: usize = filters.iter().map(values).sum();
        if values > VALUES_FREE {
            self.rest(PER_VALUE * u32::try_from(values - VALUES_FREE).unwrap_or(u32::MAX));
        }
        let (policy, keys) = (self.shared.policy.get(), self.session.keys().to_vec());
        let limits = &self.shared.limits.session;
        let mut filters = filters.to_vec();
        let counts = matches!(wants, Wants::Count(_));
        if counts {
            filters.iter_mut().for_each(|filter| filter.limit = None);
        }
        // To look for words takes long before anything is found.
        let quick = !counts && values <= VALUES_FREE && filters.iter().all(|filter| filter.search.is_none());
        let ask = Ask {
            filters,
            limit_max: if counts { limits.count } else { limits.limit },
            before,
            reader: Arc::new(Authenticated { policy, keys }),
        };
        match self.shared.store.query(ask) {
            Ok(cursor) => self.questions.push_back(Question { ticket, cursor, wants, quick }),
            Err(why) => self.failed(ticket, &why),
        }
    }

    fn failed(&mut self, ticket: u64, why: &StoreError) {
        tracing::error!(%why, "a question could not be answered");
        self.by_session(|session, effects| session.failed(ticket, effects));
    }

    /// Gives the next questions their turns, if none has one and all answers so far are written.
    fn next_turn(&mut self) {
        if self.turning.is_some() || self.questions.is_empty() {
            return;
        }
        self.outlet.flush();
        let mut quick = QUICK_MAX;
        while self.turning.is_none() && self.outlet.flow() == Flow::Clear {
            let Some(mut question) = self.questions.pop_front() else { return };
            if !std::mem::take(&mut question.quick) || quick == 0 || !self.toll.is_easy() {
                return self.turn_elsewhere(question);
            }
            let began = self.toll.begin();
            let turn = question.turn((self.shared.clock)(), QUICK);
            self.toll.pay(began);
            let bytes = turn.1.as_ref().map_or(0, |part| part.weight);
            quick = quick.saturating_sub(1 + bytes / QUICK_BYTES);
            self.turned(Some(turn));
        }
    }

    /// On a thread that may wait for the disk.
    fn turn_elsewhere(&mut self, question: Question) {
        let (shared, toll) = (self.shared.clone(), self.toll.clone());
        self.turning = Some(Box::pin(async move {
            let turn = toll.turn(None).await?;
            let now = (shared.clock)();
            // The right to it goes with the work: nobody else has to wait until this connection hears of its end.
            let work = move || {
                let began = toll.begin();
                let turned = question.turn(now, if turn.is_in_line() { TURN_IN_LINE } else { TURN });
                toll.done(turn, began);
                turned
            };
            shared.tasks.spawn_blocking(work).await.ok()
        }));
    }

    fn turned(&mut self, turn: Option<Turn>) {
        self.turning = None;
        let Some((question, result)) = turn else {
            self.end = Some((CloseCode::Error, "the board failed"));
            return;
        };
        let ticket = question.ticket;
        let Part { frames, count, done, .. } = match result {
            Ok(part) => part,
            Err(why) => return self.failed(ticket, &why),
        };
        if matches!(question.wants, Wants::Events(_)) && self.session.runs(ticket) {
            let much = frames.len() >= FLUSHED;
            let _flushed_soon = self.outlet.pass(count, frames);
            if much {
                let began = self.toll.begin();
                self.outlet.flush();
                self.toll.pay(began);
            }
        }
        match question.wants {
            _ if !done => {
                if self.session.runs(ticket) {
                    self.questions.push_back(question);
                }
            }
            Wants::Events(_) => {
                self.answered.push(ticket);
                self.by_session(|session, effects| session.stored(ticket, effects));
            }
            Wants::Count(Tally { count, hll }) => {
                let approximate = count >= self.shared.limits.session.count;
                let counted = Counted { count, approximate, hll: hll.map(Hll::into_registers) };
                self.by_session(|session, effects| session.counted(ticket, counted, effects));
            }
        }
    }

    fn reconciled(&mut self, ticket: u64, answer: Result<Vec<u8>, Unreconciled>) {
        let began = self.toll.begin();
        self.by_session(|session, effects| session.reconciled(ticket, answer, effects));
        self.toll.pay(began);
    }

    fn tick(&mut self) {
        let now = (self.shared.clock)();
        self.by_session(|session, effects| session.tick(now, effects));
        if self.heard.elapsed() > self.shared.limits.ping * 3 {
            self.end = Some((CloseCode::Away, "nothing was heard for too long"));
        } else {
            self.put(put_ping);
        }
    }

    /// Says why the connection ends, after the fate of what it published.
    async fn farewell(&mut self) {
        let Some((code, why)) = self.end else { return self.outlet.close() };
        self.kept = Vec::new();
        // Nobody looks after these any more: what waits for a permit would get it and keep it.
        (self.turning, self.questions) = (None, VecDeque::new());
        self.reconciler = Reconciler::new(self.shared.clone(), self.toll.clone());
        // A client that closes by itself says a code too.
        if !why.is_empty() && matches!(code, CloseCode::Protocol | CloseCode::Invalid | CloseCode::Size) {
            drop(tokio::time::timeout(PENANCE, self.shared.stop.cancelled()).await);
        }
        let (outlet, socket) = (&self.outlet, &self.socket);
        let goodbye = async move {
            while code == CloseCode::Away && outlet.in_flight() > 0 {
                outlet.bell.notified().await;
            }
            let _flushed_now = outlet.put(|out| put_close(out, code, why));
            outlet.flush();
            while let Flow::Blocked { .. } = outlet.flow() {
                socket.ready(Interest::WRITABLE).await.ok()?;
                outlet.unblock();
            }
            Some(())
        };
        // The other side may be gone already: nothing is left to be done about it then.
        let said = tokio::time::timeout(FAREWELL, goodbye).await;
        self.outlet.close();
        if said.is_ok() && code != CloseCode::Away && !why.is_empty() {
            // Closed with bytes unread, the socket would take back what was written last.
            drop(tokio::time::timeout(LINGER, ignore(&mut self.socket)).await);
        }
    }
}

/// Does `work`, which may take `long`. Tokio has one of its threads wait for all sockets, and that one itself runs what it was
/// woken for, while the others sleep: for as long as that takes nobody is heard, unless it is told to leave its place to another.
fn aside<T>(long: bool, work: impl FnOnce() -> T) -> T {
    let others = || Handle::current().runtime_flavor() == RuntimeFlavor::MultiThread;
    if long && others() { tokio::task::block_in_place(work) } else { work() }
}

/// Reads on until the other side closes, and forgets what it reads.
async fn ignore(socket: &mut OwnedReadHalf) {
    while let Ok((bytes, 1..)) = receive(socket).await {
        SCRATCH.set(bytes);
    }
}

impl Question {
    fn turn(mut self, now: Unix, budget: Budget) -> Turn {
        let part = match &mut self.wants {
            Wants::Events(page) => page.turn(&mut *self.cursor, now, budget),
            Wants::Count(tally) => {
                let done = self.cursor.advance(now, budget, tally);
                done.map(Part::empty)
            }
        };
        (self, part)
    }
}

async fn take_turn(turning: &mut Option<Turning>) -> Option<Turn> {
    match turning {
        Some(turn) => turn.await,
        None => pending().await,
    }
}

async fn happens(socket: &mut OwnedReadHalf, wait: Wait, room: &Semaphore) -> Happened {
    match wait {
        Wait::Nothing => pending().await,
        Wait::Room => match room.acquire().await {
            Ok(permit) => {
                permit.forget();
                Happened::Room
            }
            Err(_) => pending().await,
        },
        Wait::Pause(until) => {
            tokio::time::sleep_until(until.into()).await;
            Happened::Rested
        }
        Wait::Read => Happened::Read(receive(socket).await),
        Wait::Kept => {
            // Others had no turn since the last frames were read.
            tokio::task::yield_now().await;
            Happened::Kept
        }
        Wait::Write(by) => match tokio::time::timeout_at(by.into(), socket.ready(Interest::WRITABLE)).await {
            Ok(_) => Happened::Writable,
            Err(_) => Happened::TooSlow,
        },
    }
}

/// Reads what there is into this thread's scratch, which is to be given back, and tells how much that is.
async fn receive(socket: &mut OwnedReadHalf) -> std::io::Result<(Vec<u8>, usize)> {
    poll_fn(|cx| {
        let mut scratch = SCRATCH.take();
        scratch.resize(READ_BYTES, 0);
        let mut buffer = ReadBuf::new(&mut scratch);
        let polled = Pin::new(&mut *socket).poll_read(cx, &mut buffer);
        let len = buffer.filled().len();
        if polled.is_pending() {
            SCRATCH.set(scratch);
            return Poll::Pending;
        }
        ready!(polled)?;
        Poll::Ready(Ok((scratch, len)))
    })
    .await
}

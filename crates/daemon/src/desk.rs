//! The one loop in which trades move: commands, mail, the node's reports and time go in; logged decisions come out,
//! and what they owe is carried out before the next input is taken.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use node::{Node, NodeError, NodeEvent};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, MissedTickBehavior};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use trade::{
    Append, BidOrder, Command, Desk, Effect, Envelope, Input, LegId, Listing, Message, MessageId, NodeReport, OwnNode,
    Refusal, Step, Trade, TradeId, secret,
};
use units::{Height, Now, Sat};
use zeroize::Zeroizing;

use crate::api::types::{BidRequest, TradeView};
use crate::board_link::{BoardError, BoardLink, Mail};
use crate::clock;
use crate::effects::{self, Done};
use crate::keyring::{Keyring, KeyringError};
use crate::post;
use crate::store::{Store, StoreError};
use crate::view;

/// Requests of the API that may wait.
const REQUESTS_MAX: usize = 64;
/// Mail that may wait; boards wait when it is full.
pub(crate) const MAIL_MAX: usize = 256;
/// Deliveries that may report at once.
const DONE_MAX: usize = 1024;
/// How often deadlines are compared with the time when nothing else happens.
const TICK: Duration = Duration::from_secs(1);
/// How often the legs of open trades are compared with what the node says of them, in case an event went missing.
const COMPARE: Duration = Duration::from_secs(300);
/// First and longest rest of an effect that could not be carried out.
const REST_FIRST: Duration = Duration::from_millis(100);
const REST_LAST: Duration = Duration::from_secs(30);
/// How long a bid waits for an answer when the user does not say, in hours.
const BID_HOURS: u16 = 24;
/// Most trades that others open with us in an hour.
const OPENED_PER_HOUR_MAX: usize = 600;
const HOUR: Duration = Duration::from_secs(3600);
/// Keys whose mail is fetched though their trade has ended, in case the other side still rates.
const RECENT_KEYS: u32 = 64;
/// Where names of listings are kept.
const LISTING_NAME: &str = "listing/";

/// Why the desk did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum DeskError {
    /// A rule of trading forbids it.
    #[error("{}", .0.why)]
    Refused(#[from] Refusal),
    /// No board can be reached, or it refused.
    #[error(transparent)]
    Board(#[from] BoardError),
    /// The Lightning node refused or cannot be reached.
    #[error(transparent)]
    Node(#[from] NodeError),
    /// There is no such listing or trade.
    #[error("{0}")]
    NotFound(String),
    /// The request contradicts itself.
    #[error("{0}")]
    Usage(String),
    /// The log cannot be written or read: trading stops.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// An entry of the log cannot be decoded.
    #[error("the trade log has an entry that cannot be read: {0}")]
    Entry(#[from] serde_json::Error),
    /// A key cannot be had.
    #[error(transparent)]
    Keys(#[from] KeyringError),
    /// The desk has stopped.
    #[error("the daemon is shutting down")]
    Stopped,
}

/// What the API asks of the desk.
enum Request {
    List { listing: Box<Listing>, stock: u32, done: Reply<MessageId> },
    Bid { order: Box<BidRequest>, listing: Box<Envelope>, done: Reply<TradeId> },
    Command { trade: TradeId, command: Box<Command>, done: Reply<TradeView> },
    Trades { done: Reply<Vec<TradeView>> },
}

type Reply<T> = oneshot::Sender<Result<T, DeskError>>;

/// A handle to the desk. Cheap to clone.
#[derive(Clone)]
pub(crate) struct DeskHandle {
    requests: mpsc::Sender<Request>,
}

impl DeskHandle {
    /// Lists something and returns its id as soon as a board has it.
    pub(crate) async fn list(&self, listing: Listing, stock: u32) -> Result<MessageId, DeskError> {
        self.ask(|done| Request::List { listing: Box::new(listing), stock, done }).await
    }

    /// Bids on `listing`, which a board brought; returns the new trade.
    pub(crate) async fn bid(&self, order: BidRequest, listing: Envelope) -> Result<TradeId, DeskError> {
        self.ask(|done| Request::Bid { order: Box::new(order), listing: Box::new(listing), done }).await
    }

    /// Moves a trade; returns how it stands afterwards.
    pub(crate) async fn command(&self, trade: TradeId, command: Command) -> Result<TradeView, DeskError> {
        self.ask(|done| Request::Command { trade, command: Box::new(command), done }).await
    }

    /// Every trade, in order of ids.
    pub(crate) async fn trades(&self) -> Result<Vec<TradeView>, DeskError> {
        self.ask(|done| Request::Trades { done }).await
    }

    async fn ask<T>(&self, request: impl FnOnce(Reply<T>) -> Request) -> Result<T, DeskError> {
        let (done, answer) = oneshot::channel();
        self.requests.send(request(done)).await.map_err(|_| DeskError::Stopped)?;
        answer.await.map_err(|_| DeskError::Stopped)?
    }
}

/// What a desk works with.
pub(crate) struct Parts {
    /// The log.
    pub store: Arc<Store>,
    /// The Lightning node.
    pub node: Arc<dyn Node>,
    /// Its facts.
    pub own: OwnNode,
    /// Boards to publish on and to get mail from.
    pub boards: Vec<BoardLink>,
    /// What the boards bring.
    pub mail: mpsc::Receiver<Mail>,
    /// Our Nostr keys.
    pub keyring: Keyring,
    /// Key that the secrets of our legs derive from.
    pub escrow_key: Zeroizing<[u8; 32]>,
    /// Trade messages travel sealed or public.
    pub transport: crate::config::Transport,
    /// What we tell parties when we serve as an arbiter; none when we do not.
    pub arbiter_policy: Option<String>,
}

/// A listing on its way to the boards.
struct Unlisted {
    stall: TradeId,
    step: Step,
    name: String,
    done: Reply<MessageId>,
}

/// An effect of a trade: what it rests or is under way by.
type Owed = (TradeId, String);

/// The loop's state.
struct Loop {
    desk: Desk,
    parts: Parts,
    tip: Height,
    tasks: TaskTracker,
    shutdown: CancellationToken,
    done: mpsc::Sender<Done>,
    /// Messages on their way to boards.
    under_way: BTreeSet<Owed>,
    /// Effects that could not be carried out, and when to try again.
    resting: BTreeMap<Owed, (Instant, Duration)>,
    /// When others opened trades with us, within the last hour.
    opened: VecDeque<Instant>,
    /// Names of the listings that trades are on.
    names: view::Names,
    /// Those who wait for their listing to be out.
    listing: Vec<Unlisted>,
}

/// Replays the log, reconciles it with the node, and starts the loop on `tasks`. The returned handle serves the API; `shutdown` ends the
/// loop, and the loop cancels `shutdown` when it cannot go on (the log cannot be written).
pub(crate) async fn start(
    parts: Parts,
    tasks: &TaskTracker,
    shutdown: CancellationToken,
) -> Result<DeskHandle, DeskError> {
    let desk = replay(&parts)?;
    let names = names(&parts.store)?;
    let tip = parts.node.info().await?.height;
    let (requests, requested) = mpsc::channel(REQUESTS_MAX);
    let (done, finished) = mpsc::channel(DONE_MAX);
    listen(&desk, &parts);
    let mut this = Loop {
        desk,
        parts,
        tip,
        tasks: tasks.clone(),
        shutdown: shutdown.clone(),
        done,
        under_way: BTreeSet::new(),
        resting: BTreeMap::new(),
        opened: VecDeque::new(),
        names,
        listing: Vec::new(),
    };
    this.reconcile().await?;
    tasks.spawn(async move {
        // Also when the loop panics: a daemon whose trades nobody moves must not look alive.
        let _stops = shutdown.clone().drop_guard();
        if let Err(error) = this.run(requested, finished, shutdown).await {
            tracing::error!(%error, "trading stops");
        }
    });
    Ok(DeskHandle { requests })
}

/// Mail is fetched for the keys of open trades, and for a while after for those that may still be rated.
fn listen(desk: &Desk, parts: &Parts) {
    let open = desk.trades().filter(|trade| trade.outcome().is_none()).map(|trade| trade.dossier().me());
    let keys: BTreeSet<_> = parts.keyring.recent(RECENT_KEYS).chain(open).collect();
    for pair in keys.iter().filter_map(|key| parts.keyring.pair(key)) {
        for board in &parts.boards {
            board.listen(*pair);
        }
    }
}

fn replay(parts: &Parts) -> Result<Desk, DeskError> {
    let mut entries = Vec::new();
    for entry in parts.store.entries()? {
        let event = serde_json::from_slice(&entry.body)?;
        entries.push(trade::Entry { stream: entry.trade, seq: entry.seq, event });
    }
    let (mut desk, damaged) = Desk::replay(parts.own.clone(), entries);
    for (trade, why) in damaged {
        tracing::error!(%trade, %why, "the log of this trade does not fit: it stays stopped until somebody looks at it");
    }
    if parts.arbiter_policy.is_some() {
        desk.serve_as(parts.keyring.identity());
    }
    Ok(desk)
}

/// Names of listings by their ids, as they were when we bid or listed.
fn names(store: &Store) -> Result<view::Names, DeskError> {
    let mut names = view::Names::new();
    for (key, name) in store.list(LISTING_NAME)? {
        if let Ok(id) = key[LISTING_NAME.len()..].parse() {
            names.insert(id, String::from_utf8_lossy(&name).into_owned());
        }
    }
    Ok(names)
}

impl Loop {
    fn now(&self) -> Now {
        Now { height: self.tip, unix: clock::unix() }
    }

    /// What happened at the node while nobody listened.
    async fn reconcile(&mut self) -> Result<(), DeskError> {
        self.tip = self.parts.node.info().await?.height;
        let watched = self.desk.watched();
        if !watched.is_empty() {
            tracing::debug!(legs = watched.len(), "comparing the legs of open trades with the node");
        }
        for (_, watch) in watched {
            if let Some(report) = effects::look_up(&*self.parts.node, watch).await? {
                self.report(report)?;
            }
        }
        self.serve_where_asked()?;
        self.drain().await
    }

    /// A node that does not answer now is asked again later; at the start there is no later.
    async fn reconcile_if_reachable(&mut self) -> Result<(), DeskError> {
        match self.reconcile().await {
            Err(DeskError::Node(error)) => {
                tracing::warn!(%error, "the node cannot be asked about the legs of open trades");
                Ok(())
            }
            other => other,
        }
    }

    async fn run(
        &mut self,
        mut requested: mpsc::Receiver<Request>,
        mut finished: mpsc::Receiver<Done>,
        shutdown: CancellationToken,
    ) -> Result<(), DeskError> {
        let mut events = self.parts.node.events();
        let mut compare = tokio::time::interval_at(Instant::now() + COMPARE, COMPARE);
        let mut ticks = tokio::time::interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let rest = self.rest_left();
            tokio::select! {
                () = shutdown.cancelled() => return Ok(()),
                Some(request) = requested.recv() => self.obey(request).await?,
                Some(mail) = self.parts.mail.recv() => self.read(mail)?,
                Some(event) = events.next() => self.hear(event).await?,
                Some(done) = finished.recv() => self.finish(done)?,
                _ = compare.tick() => self.reconcile_if_reachable().await?,
                _ = ticks.tick() => self.tick()?,
                () = tokio::time::sleep(rest) => {}
            }
            self.drain().await?;
        }
    }

    /// Until the next effect has rested, or the next tick.
    fn rest_left(&self) -> Duration {
        let soonest = self.resting.values().map(|(until, _)| until.saturating_duration_since(Instant::now())).min();
        soonest.unwrap_or(TICK).min(TICK)
    }

    /// Appends durably, then lets the state follow. An error here ends the loop: without a log there is no trading.
    fn record(&mut self, append: Append) -> Result<(), DeskError> {
        if append.events.is_empty() {
            return Ok(());
        }
        let bodies = append.events.iter().map(serde_json::to_vec).collect::<Result<Vec<_>, _>>()?;
        let store = &self.parts.store;
        tokio::task::block_in_place(|| store.append(append.stream, append.expected_seq, append.at, &bodies))?;
        tracing::debug!(trade = %append.stream, from = append.expected_seq, events = bodies.len(), "recorded");
        let stream = append.stream;
        if let Err(why) = self.desk.commit(append) {
            tracing::error!(trade = %stream, %why, "the log of this trade does not fit: it stays stopped until somebody looks at it");
        }
        Ok(())
    }

    /// Records what was decided. A refusal is the caller's business; every other error ends the loop.
    fn settle(&mut self, decided: Result<Append, Refusal>) -> Result<Result<(), Refusal>, DeskError> {
        let append = match decided {
            Ok(append) => append,
            Err(refusal) => return Ok(Err(refusal)),
        };
        let refused = append.refused.clone();
        self.record(append)?;
        Ok(refused.map_or(Ok(()), Err))
    }

    fn take(&mut self, stream: TradeId, input: &Input) -> Result<Result<(), Refusal>, DeskError> {
        let decided = self.desk.handle(stream, input, self.now());
        self.settle(decided)
    }

    /// An input that nobody waits for: a refusal is worth a line in the log and no more.
    fn take_quietly(&mut self, stream: TradeId, input: &Input) -> Result<(), DeskError> {
        let decided = self.desk.handle(stream, input, self.now());
        self.settle_quietly(decided)
    }

    fn settle_quietly(&mut self, decided: Result<Append, Refusal>) -> Result<(), DeskError> {
        if let Err(refusal) = self.settle(decided)? {
            tracing::debug!(rule = refusal.rule.code(), why = %refusal.why, "refused");
        }
        Ok(())
    }

    fn tick(&mut self) -> Result<(), DeskError> {
        while let Some(append) = self.desk.due(self.now()) {
            self.record(append)?;
        }
        Ok(())
    }

    fn report(&mut self, report: NodeReport) -> Result<(), DeskError> {
        let decided = self.desk.report(report, self.now());
        self.settle_quietly(decided)
    }

    async fn hear(&mut self, event: NodeEvent) -> Result<(), DeskError> {
        match event {
            NodeEvent::Tip(height) => {
                self.tip = height;
                self.tick()
            }
            NodeEvent::Hold(invoice) => effects::of_hold(&invoice).map_or(Ok(()), |report| self.report(report)),
            NodeEvent::Payment(payment) => effects::of_payment(&payment).map_or(Ok(()), |report| self.report(report)),
            NodeEvent::Lagged => self.reconcile_if_reachable().await,
            NodeEvent::Received { .. } | NodeEvent::Channel { .. } => Ok(()),
        }
    }

    /// Checks a Nostr event that a board brought and hands what it says to the trade it belongs to.
    fn read(&mut self, mail: Mail) -> Result<(), DeskError> {
        let envelope = match post::open(&mail.event, &self.parts.keyring) {
            Ok(envelope) => envelope,
            Err(error) => {
                tracing::debug!(board = %mail.board, %error, "mail refused");
                return Ok(());
            }
        };
        if self.parts.keyring.pair(&envelope.author).is_some() {
            return Ok(());
        }
        self.receive(envelope)
    }

    fn receive(&mut self, envelope: Envelope) -> Result<(), DeskError> {
        let asks = matches!(envelope.message, Message::AppointmentRequest(_));
        if asks && self.parts.arbiter_policy.is_none() {
            return Ok(());
        }
        if self.opens_too_many(&envelope) {
            tracing::warn!(author = %envelope.author, "too many new trades by others within the hour; this one is left out");
            return Ok(());
        }
        let decided = self.desk.receive(envelope, self.now());
        self.settle_quietly(decided)?;
        if asks { self.serve_where_asked() } else { Ok(()) }
    }

    /// A trade that somebody else opens costs us a place on the desk for good: only so many an hour.
    fn opens_too_many(&mut self, envelope: &Envelope) -> bool {
        let opens = matches!(envelope.message, Message::AppointmentRequest(_) | Message::Bid(_));
        let known = self.desk.route(envelope).is_some_and(|id| self.desk.trade(id).is_some());
        if !opens || known {
            return false;
        }
        let now = Instant::now();
        self.opened.retain(|at| now.duration_since(*at) < HOUR);
        let full = self.opened.len() >= OPENED_PER_HOUR_MAX;
        if !full {
            self.opened.push_back(now);
        }
        full
    }

    /// As an arbiter, serves in every trade that asked. Bond secrets derive from our escrow key, so nothing needs storing.
    fn serve_where_asked(&mut self) -> Result<(), DeskError> {
        let Some(policy) = self.parts.arbiter_policy.clone() else { return Ok(()) };
        let asked: Vec<_> = self
            .desk
            .trades()
            .filter_map(|trade| match trade {
                Trade::Arbiter(arbiter) => Some((trade.id(), arbiter.asked_round()?, &arbiter.dossier.opening)),
                Trade::Payer(_) | Trade::Payee(_) => None,
            })
            .map(|(id, round, opening)| (id, round, opening.payer_bond, opening.terms.payee_bond))
            .collect();
        for (trade, round, payer_bond, payee_bond) in asked {
            let hash = |leg: LegId| secret::derive(&self.parts.escrow_key, trade, leg).hash();
            let command = Command::Serve {
                payer_bond_hash: (payer_bond > Sat::ZERO).then(|| hash(LegId::payer_bond(round))),
                payee_bond_hash: (payee_bond > Sat::ZERO).then(|| hash(LegId::payee_bond(round))),
                fee: Sat::ZERO,
                policy: policy.clone(),
            };
            self.take_quietly(trade, &Input::Command(command))?;
        }
        Ok(())
    }

    async fn obey(&mut self, request: Request) -> Result<(), DeskError> {
        match request {
            Request::List { listing, stock, done } => {
                let me = self.parts.keyring.identity();
                let stream = TradeId::of_stall(me, &listing.d);
                if let Err(error) = post::check_listing(&listing) {
                    reply(done, Err(DeskError::Usage(error.to_string())));
                    return Ok(());
                }
                let name = listing.product_name.clone();
                let command = Command::List { me, listing: *listing, stock };
                match self.take(stream, &Input::Command(command))? {
                    // Its name is fresh, so this is its first version.
                    Ok(()) => self.listing.push(Unlisted { stall: stream, step: Step::Listing(0), name, done }),
                    Err(refusal) => reply(done, Err(refusal.into())),
                }
            }
            Request::Bid { order, listing, done } => {
                let result = self.bid(*order, *listing).await;
                give_back(done, result)?;
            }
            Request::Command { trade, command, done } => {
                if let Err(error) = self.check_height(&command).await {
                    reply(done, Err(error));
                    return Ok(());
                }
                let result = match self.take(trade, &Input::Command(*command))? {
                    Ok(()) => {
                        self.drain().await?;
                        view::trade(&self.desk, trade, &self.names, self.now())
                            .ok_or_else(|| DeskError::NotFound(format!("no trade {trade}")))
                    }
                    Err(refusal) => Err(refusal.into()),
                };
                reply(done, result);
            }
            Request::Trades { done } => reply(done, Ok(view::trades(&self.desk, &self.names, self.now()))),
        }
        Ok(())
    }

    /// Steps that commit money or goods are judged by the height, so the height has to be right.
    async fn check_height(&self, command: &Command) -> Result<(), DeskError> {
        let commits =
            matches!(command, Command::Accept { .. } | Command::Bid(_) | Command::Ship { .. } | Command::Relock { .. });
        if commits && !self.parts.node.info().await?.synced {
            let why =
                "the node is still catching up with the chain; try again when `souk node info` says it is up to date";
            return Err(NodeError::Unreachable(why.to_owned()).into());
        }
        Ok(())
    }

    fn remember_name(&mut self, listing: MessageId, name: &str) -> Result<(), DeskError> {
        self.parts.store.put(&format!("{LISTING_NAME}{listing}"), name.as_bytes())?;
        self.names.insert(listing, name.to_owned());
        Ok(())
    }

    async fn bid(&mut self, order: BidRequest, listing: Envelope) -> Result<TradeId, DeskError> {
        let Message::Listing(offered) = &listing.message else {
            return Err(DeskError::Usage("that event is no listing".into()));
        };
        let Some(terms) = offered.escrow.clone() else {
            return Err(DeskError::Usage(
                "the listing states no escrow terms, so its money could not be locked".into(),
            ));
        };
        self.remember_name(listing.id, &offered.product_name)?;
        let me = self.parts.keyring.fresh()?;
        let trade = TradeId::of(listing.id, me);
        let hash = |tranche| secret::derive(&self.parts.escrow_key, trade, LegId::price(0, tranche)).hash();
        let command = Command::Bid(Box::new(BidOrder {
            me,
            amount: order.amount_sat.map_or(offered.price, Sat),
            payer_bond: order.payer_bond_sat.map_or(terms.min_payer_bond, Sat),
            arbiter: order.arbiter.or(terms.arbiters.first().copied()),
            payment_hashes: (0..terms.tranches).map(hash).collect(),
            payee_node: None,
            message: order.message,
            timeout_hours: BID_HOURS,
            listing,
        }));
        self.check_height(&command).await?;
        if let Some(pair) = self.parts.keyring.pair(&me) {
            for board in &self.parts.boards {
                board.listen(*pair);
            }
        }
        self.take(trade, &Input::Command(command))??;
        self.drain().await?;
        Ok(trade)
    }

    /// Carries out what is owed, until nothing is owed but what is under way or rests. Rule 7: before the next input.
    async fn drain(&mut self) -> Result<(), DeskError> {
        let mut tried = BTreeSet::new();
        loop {
            while let Some(envelope) = self.desk.next_message() {
                self.receive(envelope)?;
            }
            let owed: Vec<_> = self
                .desk
                .pending(self.now())
                .into_iter()
                .map(|(trade, effect)| ((trade, effects::in_words(&effect)), effect))
                .collect();
            self.resting.retain(|rests, _| owed.iter().any(|(what, _)| what == rests));
            let now = Instant::now();
            let due = owed.into_iter().find(|(what, _)| {
                let rests = self.resting.get(what).is_some_and(|(until, _)| *until > now);
                !rests && !self.under_way.contains(what) && !tried.contains(what)
            });
            // One at a time: what comes of it may undo what else was owed.
            match due {
                Some((owed, effect)) => {
                    // Once in a turn: an effect that takes long must not keep the others, or the next input, waiting for ever.
                    tried.insert(owed.clone());
                    self.carry_out(owed, effect).await?;
                }
                None => return Ok(()),
            }
        }
    }

    async fn carry_out(&mut self, owed: Owed, effect: Effect) -> Result<(), DeskError> {
        match effect {
            Effect::Send(outgoing) => self.send(owed, &outgoing),
            Effect::Warn(notice) | Effect::Alarm(notice) => {
                let (trade, text) = (owed.0, view::notice(&notice));
                if notice.is_alarm() {
                    tracing::error!(%trade, "{text}");
                } else {
                    tracing::warn!(%trade, "{text}");
                }
                self.take_quietly(owed.0, &Input::Shown { notice })
            }
            money => match effects::move_money(&*self.parts.node, &money, clock::unix()).await {
                Ok(Some(report)) => {
                    self.resting.remove(&owed);
                    self.report(report)?;
                    self.rest(owed)
                }
                Ok(None) => self.rest(owed),
                Err(error) => {
                    tracing::warn!(trade = %owed.0, what = %owed.1, %error, "not done yet, will be tried again");
                    self.rest(owed)
                }
            },
        }
    }

    /// An effect that is still owed rests, longer each time, so that one that cannot be carried out does not spin.
    #[allow(clippy::unnecessary_wraps, reason = "reads as one of the outcomes of carrying out")]
    fn rest(&mut self, owed: Owed) -> Result<(), DeskError> {
        let rest = self.resting.get(&owed).map_or(REST_FIRST, |(_, rest)| (*rest * 2).min(REST_LAST));
        self.resting.insert(owed, (Instant::now() + rest, rest));
        Ok(())
    }

    /// Signs and seals now, publishes in the background: a board that does not answer holds up no other trade.
    fn send(&mut self, owed: Owed, outgoing: &trade::Outgoing) -> Result<(), DeskError> {
        let parts = &self.parts;
        let parcel = match post::pack(outgoing, owed.0, &parts.keyring, &parts.escrow_key, parts.transport) {
            Ok(parcel) => parcel,
            Err(error) => {
                tracing::error!(trade = %owed.0, what = %owed.1, %error, "a message of ours cannot be written");
                return self.rest(owed);
            }
        };
        self.under_way.insert(owed.clone());
        let (boards, done, step) = (self.parts.boards.clone(), self.done.clone(), outgoing.step);
        let shutdown = self.shutdown.clone();
        self.tasks.spawn(async move {
            let (delivered, missing) = match post::deliver(&parcel, &boards).await {
                Ok(missing) => (Ok(()), missing),
                Err(error) => (Err(error), Vec::new()),
            };
            let result = Done { owed, step, id: parcel.id, delivered };
            if done.send(result).await.is_err() {
                tracing::trace!("the desk has stopped; the message is owed again at the next start");
            }
            shutdown.run_until_cancelled(post::deliver_late(missing)).await;
        });
        Ok(())
    }

    fn finish(&mut self, done: Done) -> Result<(), DeskError> {
        self.under_way.remove(&done.owed);
        match done.delivered {
            Ok(()) => {
                self.resting.remove(&done.owed);
                let (stream, step) = (done.owed.0, done.step);
                self.take_quietly(stream, &Input::Sent { step, id: done.id })?;
                let (out, waiting) = std::mem::take(&mut self.listing)
                    .into_iter()
                    .partition(|listed: &Unlisted| listed.stall == stream && listed.step == step);
                self.listing = waiting;
                for listed in out {
                    self.remember_name(done.id, &listed.name)?;
                    reply(listed.done, Ok(done.id));
                }
                Ok(())
            }
            Err(error) => {
                tracing::warn!(trade = %done.owed.0, what = %done.owed.1, %error, "not delivered yet, will be tried again");
                self.rest(done.owed)
            }
        }
    }
}

/// The one who asked may be gone; the work is done all the same.
fn reply<T>(done: Reply<T>, result: Result<T, DeskError>) {
    if done.send(result).is_err() {
        tracing::trace!("nobody waits for the answer");
    }
}

/// Gives an error back to the caller when it is the caller's business, and to the loop when it ends the loop.
fn give_back<T>(done: Reply<T>, result: Result<T, DeskError>) -> Result<(), DeskError> {
    match result {
        Err(fatal @ (DeskError::Store(_) | DeskError::Entry(_))) => {
            reply(done, Err(DeskError::Stopped));
            Err(fatal)
        }
        other => {
            reply(done, other);
            Ok(())
        }
    }
}

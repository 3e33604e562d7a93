//! The one loop in which trades move: commands, mail, the node's reports and time go in; logged decisions come out,
//! and what they owe is carried out before the next input is taken.

mod chat;
pub(crate) mod fiat;
mod inbox;
mod keep;
mod mail;
mod mirrors;
mod owed;
pub(crate) mod pledges;
mod request;
pub(crate) mod service;
mod serving;
mod stalls;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use node::{Node, NodeError, NodeEvent};
use tokio::sync::{broadcast, mpsc};
use tokio::time::{Instant, MissedTickBehavior};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use trade::{Append, Desk, Effect, Envelope, Input, NodeReport, Notice, OwnNode, Refusal, TradeId};
use units::{Height, Now, Unix};
use zeroize::Zeroizing;

use crate::board_link::{BoardError, BoardLink, Mail};
use crate::clock;
use crate::courier::{Couriers, News};
use crate::effects;
use crate::fiat::BadRate;
use crate::instance::Other;
use crate::keyring::{Keyring, KeyringError};
use crate::mail_seen::Seen;
use crate::notify::{Crier, HookBody, NotifyError};
use crate::rates::Rates;
use crate::store::{Store, StoreError};
use crate::vault::Vault;
use crate::view;

use mail::Mailroom;
use owed::{Docket, Owed};
pub(crate) use request::DeskHandle;
use request::{Request, Unlisted};

/// Requests of the API that may wait.
const REQUESTS_MAX: usize = 64;
/// Mail that may wait; boards wait when it is full.
pub(crate) const MAIL_MAX: usize = 256;
/// News of couriers that may wait; they wait when it is full.
const NEWS_MAX: usize = 256;
/// Changes that a follower may be behind before it is told the present anew.
const CHANGES_MAX: usize = 256;
/// How often deadlines are compared with the time when nothing else happens.
const TICK: Duration = Duration::from_secs(1);
/// How often the legs of open trades are compared with what the node says of them, in case an event went missing.
const COMPARE: Duration = Duration::from_secs(300);
/// Where names of listings are kept.
const LISTING_NAME: &str = "listing/";

/// Something that a follower may want to look at again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Change {
    /// The log of a trade, or of a listing of ours.
    Stream(TradeId),
    /// What was said in a trade.
    Chat(TradeId),
}

/// Why the desk did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum DeskError {
    /// A rule of trading forbids it.
    #[error("{}", .0.why)]
    Refused(#[from] Refusal),
    /// A rule of trading forbids it in the state that the trade is in.
    #[error("{}. The trade is {now}", .refusal.why)]
    RefusedNow {
        /// The rule and its sentence.
        refusal: Refusal,
        /// Where the trade stands and what to do now.
        now: String,
    },
    /// No board can be reached, or it refused.
    #[error(transparent)]
    Board(#[from] BoardError),
    /// It is recorded, but no board has it yet.
    #[error("{0}; it is recorded and goes out as soon as a board takes it: see `souk status`")]
    NotOut(BoardError),
    /// The Lightning node refused or cannot be reached.
    #[error(transparent)]
    Node(#[from] NodeError),
    /// There is no such listing or trade.
    #[error("{0}")]
    NotFound(String),
    /// The string is no market order that anybody could pay.
    #[error(transparent)]
    Order(markets::NotPayable),
    /// A rate is missing, or a bid's is too far from ours.
    #[error(transparent)]
    Rate(#[from] BadRate),
    /// The request contradicts itself.
    #[error("{0}")]
    Usage(String),
    /// The log cannot be written or read: trading stops.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// An entry of the log cannot be decoded.
    #[error("the trade log has an entry that cannot be read: {0}")]
    Entry(#[from] serde_json::Error),
    /// Something to be said cannot be written.
    #[error("it cannot be written: {0}")]
    Post(#[from] crate::post::PostError),
    /// A key cannot be had.
    #[error(transparent)]
    Keys(#[from] KeyringError),
    /// The desk has stopped.
    #[error("the daemon is shutting down")]
    Stopped,
    /// Another daemon runs on this seed, or did until a moment ago.
    #[error(
        "another daemon was started on this seed at {since} (seconds since 1970): this one moves no trade any more, so that the two say nothing \
         different. Stop one of them for good. To go on with this machine: `souk run --take-over`"
    )]
    Superseded {
        /// When the other one was started.
        since: Unix,
    },
}

/// What a desk works with.
pub(crate) struct Parts {
    /// The log.
    pub store: Arc<Store>,
    /// Market prices of bitcoin.
    pub rates: Arc<Rates>,
    /// The Lightning node.
    pub node: Arc<dyn Node>,
    /// Its facts.
    pub own: OwnNode,
    /// Boards to publish on and to get mail from.
    pub boards: Vec<BoardLink>,
    /// Credentials for what is published there.
    pub postage: Arc<crate::purse::postage::Postage>,
    /// What the boards bring.
    pub mail: mpsc::Receiver<Mail>,
    /// What of it is done with.
    pub seen: Arc<Seen>,
    /// Our Nostr keys.
    pub keyring: Keyring,
    /// Key that the secrets of our legs derive from.
    pub escrow_key: Zeroizing<[u8; 32]>,
    /// Trade messages travel sealed or public.
    pub transport: crate::config::Transport,
    /// Our pledges name our identity.
    pub link_identity: bool,
    /// Most trades that others may open with us in an hour.
    pub opened_per_hour: usize,
    /// How we serve as an arbiter; none when we do not.
    pub arbiter: Option<crate::config::Arbiter>,
    /// Tells our user what it should act on.
    pub crier: Crier,
    /// Keeps the log on the boards; none where the user does not want that.
    pub vault: Option<Vault>,
    /// Relays of other markets: mirrors go there too.
    pub relays: Vec<BoardLink>,
    /// On which other markets our listings are shown.
    pub mirror: Vec<crate::config::Mirror>,
    /// Since when another daemon runs on this seed that was started later.
    pub other: Other,
}

/// The loop's state.
struct Loop {
    desk: Desk,
    parts: Parts,
    tip: Height,
    couriers: Couriers,
    /// For followers.
    changes: broadcast::Sender<Change>,
    mailroom: Mailroom,
    /// Pledges of messages that are not taken yet.
    pledges: pledges::Waiting,
    /// What is owed and not done yet.
    docket: Docket,
    /// Names of the listings that trades are on.
    names: view::Names,
    /// Those who wait for their listing to be out.
    listing: Vec<Unlisted>,
    /// Streams with entries that the boards do not keep yet.
    unkept: BTreeSet<TradeId>,
    /// Stalls whose mirrors may have to say something else.
    changed_stalls: BTreeSet<TradeId>,
    /// Answers to our orders that sell bitcoin, on which we have not bid yet.
    answers: Vec<Envelope>,
    /// Somebody may have asked us to serve.
    asked: bool,
    /// The node made no invoice for our fee: it is asked again.
    unbilled: bool,
    /// What is known of our service beside the trades themselves.
    service: service::Known,
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
    let unkept = parts.store.unkept()?.into_iter().collect();
    let (requests, requested) = mpsc::channel(REQUESTS_MAX);
    let (news, heard) = mpsc::channel(NEWS_MAX);
    let changes = broadcast::Sender::new(CHANGES_MAX);
    let handle = DeskHandle { requests, changes: changes.clone() };
    let couriers =
        Couriers::start(parts.store.clone(), &parts.boards, &parts.relays, &parts.postage, &news, tasks, &shutdown)?;
    let mailroom = Mailroom::new(parts.seen.clone());
    let docket = Docket::new(desk.owing());
    let mut this = Loop {
        desk,
        parts,
        tip,
        changes,
        couriers,
        mailroom,
        pledges: pledges::Waiting::default(),
        docket,
        names,
        listing: Vec::new(),
        unkept,
        changed_stalls: BTreeSet::new(),
        answers: Vec::new(),
        asked: true,
        unbilled: false,
        service: service::Known::default(),
    };
    if this.superseded().is_none() {
        this.all_mirrors_may_change();
        this.listen();
        this.reconcile().await?;
    }
    tasks.spawn(async move {
        // Also when the loop panics: a daemon whose trades nobody moves must not look alive.
        let _stops = shutdown.clone().drop_guard();
        if let Err(error) = this.run(requested, heard, shutdown).await {
            tracing::error!(%error, "trading stops");
        }
    });
    Ok(handle)
}

/// The desk as the log left it. A trade with an entry that cannot be read, or does not fit, is stopped; the others run.
fn replay(parts: &Parts) -> Result<Desk, DeskError> {
    let (mut entries, mut unreadable) = (Vec::new(), BTreeSet::new());
    for entry in parts.store.entries()? {
        match entry.body.and_then(|body| serde_json::from_slice(&body).ok()) {
            Some(event) => entries.push(trade::Entry { stream: entry.trade, seq: entry.seq, event }),
            None => {
                unreadable.insert(entry.trade);
            }
        }
    }
    let (mut desk, _) = Desk::replay(parts.own.clone(), entries);
    for stream in unreadable {
        desk.stop(stream);
    }
    for (trade, why) in desk.damaged() {
        tracing::error!(%trade, %why, "the log of this trade is damaged: it stays stopped until somebody looks at it");
    }
    if parts.arbiter.is_some() {
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
        self.asked = true;
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
        mut heard: mpsc::Receiver<News>,
        shutdown: CancellationToken,
    ) -> Result<(), DeskError> {
        let mut events = self.parts.node.events();
        let mut compare = tokio::time::interval_at(Instant::now() + COMPARE, COMPARE);
        let mut ticks = tokio::time::interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            if let Some(why) = self.superseded() {
                return self.stand_still(&why, requested, shutdown).await;
            }
            let rest = self.rest_left();
            tokio::select! {
                () = shutdown.cancelled() => return Ok(()),
                Some(request) = requested.recv() => self.obey(request).await?,
                Some(mail) = self.parts.mail.recv() => self.read(mail)?,
                Some(event) = events.next() => self.hear(event).await?,
                Some(news) = heard.recv() => self.hear_courier(news)?,
                _ = compare.tick() => {
                    // An order says day by day that it still holds.
                    if !self.parts.mirror.is_empty() {
                        self.all_mirrors_may_change();
                    }
                    self.close_lapsed_answers()?;
                    self.reconcile_if_reachable().await?;
                }
                _ = ticks.tick() => {
                    self.tick()?;
                    self.move_fiat_orders().await?;
                    self.tell_unlisted()?;
                    self.fetch_what_is_missing();
                    self.keep_all()?;
                    self.claim_service()?;
                }
                () = tokio::time::sleep(rest) => {}
            }
            self.drain().await?;
        }
    }

    fn superseded(&self) -> Option<DeskError> {
        (*self.parts.other.borrow()).map(|since| DeskError::Superseded { since })
    }

    /// Another daemon has the trades: nothing is decided, said or carried out any more. The node goes on by itself, and looks after what
    /// its channels hold.
    async fn stand_still(
        &mut self,
        why: &DeskError,
        mut requested: mpsc::Receiver<Request>,
        shutdown: CancellationToken,
    ) -> Result<(), DeskError> {
        tracing::error!("{why}");
        self.couriers.stop();
        let mut events = self.parts.node.events();
        loop {
            tokio::select! {
                () = shutdown.cancelled() => return Ok(()),
                Some(request) = requested.recv() => self.answer(request).await?,
                Some(event) = events.next() => if let NodeEvent::Tip(height) = event { self.tip = height },
                // Boards must not wait for us.
                Some(_) = self.parts.mail.recv() => {}
            }
        }
    }

    /// Until the next effect has rested, or the next tick.
    fn rest_left(&self) -> Duration {
        self.docket.next_wake(Instant::now()).unwrap_or(TICK).min(TICK)
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
        self.unkept.insert(stream);
        self.docket.stir(stream);
        if let Err(why) = self.desk.commit(append) {
            tracing::error!(trade = %stream, %why, "the log of this trade does not fit: it stays stopped until somebody looks at it");
        }
        self.mirrors_may_change(stream);
        self.tell(Change::Stream(stream));
        Ok(())
    }

    /// Tells whoever follows what happens. Nobody does most of the time, which is no error.
    fn tell(&self, change: Change) {
        if self.changes.receiver_count() > 0 && self.changes.send(change).is_err() {
            tracing::debug!("nobody follows any more");
        }
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
        self.asked |= std::mem::take(&mut self.unbilled);
        let mut from = TradeId([0; 32]);
        while let Some(append) = self.desk.due_from(from, self.now()) {
            from = append.stream;
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
            NodeEvent::Received { hash, amount } => self.report(NodeReport::Received { hash, amount }),
            NodeEvent::Channel { .. } => Ok(()),
        }
    }

    /// Carries out what is owed, until nothing is owed but what is under way or rests. Rule 7: before the next input.
    async fn drain(&mut self) -> Result<(), DeskError> {
        let (mut tried, began) = (BTreeSet::new(), Instant::now());
        self.docket.wake(began);
        loop {
            while let Some(envelope) = self.desk.next_message() {
                let _done_with = self.receive(envelope)?;
            }
            self.serve_where_asked().await?;
            let Some(trade) = self.docket.stirred() else {
                debug_assert_eq!(self.overlooked(&tried, began), None, "only what was stirred can be due");
                tried.into_iter().for_each(|(trade, _)| self.docket.stir(trade));
                return self.mirror();
            };
            let owed = self.desk.pending_of(trade, self.now());
            self.docket.forget_all_but(trade, &owed);
            // One at a time: what comes of it may undo what else was owed.
            match self.docket.due(trade, owed, &tried, began) {
                Some((owed, effect)) => {
                    // Once in a turn: an effect that takes long must not keep the others, or the next input, waiting for ever.
                    tried.insert(owed.clone());
                    self.carry_out(owed, effect).await?;
                }
                None => self.docket.settle(trade),
            }
        }
    }

    /// An effect that is due though nobody looked: there is none. Looks at everything that is owed.
    fn overlooked(&self, tried: &BTreeSet<Owed>, began: Instant) -> Option<Owed> {
        let owed = self.desk.pending(self.now());
        let mut due = owed.into_iter().filter_map(|(trade, effect)| self.docket.due(trade, vec![effect], tried, began));
        due.next().map(|(owed, _)| owed)
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
                if let Err(error) = self.cry(trade, &notice, text) {
                    tracing::error!(%trade, %error, "our user cannot be told; tried again");
                    return self.rest(owed);
                }
                self.take_quietly(owed.0, &Input::Shown { notice })
            }
            money => match effects::move_money(&*self.parts.node, &money, clock::unix()).await {
                Ok(Some(report)) => {
                    self.docket.waits_no_longer(&owed);
                    self.report(report)?;
                    self.rest(owed)
                }
                Ok(None) => self.rest(owed),
                // A node that was replaced knows nothing of it, and nobody can settle it any more.
                Err(NodeError::NotFound(_)) if self.is_over(owed.0, &money) => {
                    let Effect::Settle { hash, .. } = money else { return self.rest(owed) };
                    self.report(NodeReport::Canceled { hash })
                }
                Err(error) => {
                    tracing::warn!(trade = %owed.0, what = %owed.1, %error, "not done yet, will be tried again");
                    self.rest(owed)
                }
            },
        }
    }

    /// Is it to settle a leg whose lock has ended?
    fn is_over(&self, trade: TradeId, effect: &Effect) -> bool {
        let Effect::Settle { leg, .. } = effect else { return false };
        let issued = self.desk.trade(trade).and_then(|trade| trade.dossier().issued(*leg));
        issued.and_then(trade::Issued::held_until).is_some_and(|expiry| self.tip >= expiry)
    }

    /// Hands a notice to every channel there is.
    fn cry(&self, trade: TradeId, notice: &Notice, text: String) -> Result<(), NotifyError> {
        let Some(view) = view::trade(&self.desk, trade, &self.names, self.now()) else { return Ok(()) };
        let now = self.now();
        let body = HookBody {
            id: format!("{trade}/{}", serde_json::to_string(notice)?),
            alarm: notice.is_alarm(),
            text,
            trade,
            role: view.role,
            state: view.outcome.unwrap_or(view.state),
            next: view.next,
            height: now.height,
            at: now.unix,
            deadlines: view.deadlines,
        };
        self.parts.crier.cry(notice, &body, &self.parts.keyring, &self.couriers)
    }

    /// What could not be carried out, or shows no end yet, is tried again later.
    #[allow(clippy::unnecessary_wraps, reason = "reads as one of the outcomes of carrying out")]
    fn rest(&mut self, owed: Owed) -> Result<(), DeskError> {
        self.docket.rest(owed, Instant::now());
        Ok(())
    }
}

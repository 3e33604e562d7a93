//! Desk: all trades and stalls of one daemon. Routes inputs, keeps what came too early, and counts sequence numbers.

mod orders;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use units::{Height, Now, PaymentHash, Unix};

use crate::effect::Effect;
use crate::event::Event;
use crate::ids::{MessageId, PartyKey, TradeId};
use crate::input::{Command, Envelope, Input, NodeReport, OwnNode};
use crate::message::{Listing, Message};
use crate::payee::PayeeState;
use crate::refusal::{CorruptLog, Refusal, Rule};
use crate::stall::Stall;
use crate::trade::{self, Decision, Trade, Watch};

/// Most trades that are open at the same time.
pub(crate) const OPEN_TRADES_MAX: usize = 10_000;
/// Most bids on one listing that wait for our user at the same time.
pub(crate) const OPEN_BIDS_MAX: usize = 256;
/// Most messages that wait for the step before them.
pub(crate) const EARLY_MESSAGES_MAX: usize = 1024;
/// Most of them by one author.
pub(crate) const EARLY_PER_AUTHOR_MAX: usize = 32;
/// Most of them by authors who are in no trade of ours: they cannot crowd out those who are.
pub(crate) const EARLY_STRANGERS_MAX: usize = 256;

/// How long one of them is worth waiting for, in seconds.
const EARLY_SECS: u64 = 86_400;

/// What one input adds to the log. Append it durably, then [`Desk::commit`] it, then carry out what is owed.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use]
pub struct Append {
    /// The trade (or stall).
    pub stream: TradeId,
    /// Sequence number of the first event; the log refuses any other.
    pub expected_seq: u64,
    /// When it was decided.
    pub at: Now,
    /// The events; none for a duplicate or late input, and then there is nothing to append.
    pub events: Vec<Event>,
    /// The input itself was refused, but a deadline that passed is in `events`.
    pub refused: Option<Refusal>,
}

/// One line of the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The trade (or stall).
    pub stream: TradeId,
    /// Its place in the stream, from 0 without gaps.
    pub seq: u64,
    /// What happened.
    pub event: Event,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Stream {
    Trade(Trade),
    Stall(Box<Stall>),
    /// Its log does not fit: nothing is decided for it any more.
    Damaged(CorruptLog),
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Row {
    next_seq: u64,
    stream: Stream,
}

/// All trades and stalls of one daemon.
#[derive(Clone, Debug)]
pub struct Desk {
    node: OwnNode,
    arbiters: BTreeSet<PartyKey>,
    rows: BTreeMap<TradeId, Row>,
    by_message: BTreeMap<MessageId, TradeId>,
    by_hash: BTreeMap<PaymentHash, TradeId>,
    /// Streams that owe something.
    owing: BTreeSet<TradeId>,
    /// Trades that have not ended.
    open: BTreeSet<TradeId>,
    /// Trades that take from the stock of a version of a listing of ours, ended ones too.
    on_listing: BTreeMap<MessageId, BTreeSet<TradeId>>,
    /// Everybody who is or was in a trade with us.
    parties: BTreeSet<PartyKey>,
    early: VecDeque<(Unix, Envelope)>,
    ready: VecDeque<Envelope>,
    let_go: bool,
}

impl Desk {
    /// An empty desk of a daemon whose Lightning node is `node`.
    pub fn new(node: OwnNode) -> Desk {
        Desk {
            node,
            arbiters: BTreeSet::new(),
            rows: BTreeMap::new(),
            by_message: BTreeMap::new(),
            by_hash: BTreeMap::new(),
            owing: BTreeSet::new(),
            open: BTreeSet::new(),
            on_listing: BTreeMap::new(),
            parties: BTreeSet::new(),
            early: VecDeque::new(),
            ready: VecDeque::new(),
            let_go: false,
        }
    }

    /// The desk as the log left it. A stream whose log does not fit is stopped and returned beside; the others run.
    pub fn replay(node: OwnNode, entries: impl IntoIterator<Item = Entry>) -> (Desk, Vec<(TradeId, CorruptLog)>) {
        let mut desk = Desk::new(node);
        for entry in entries {
            desk.fold(entry.stream, entry.seq, &entry.event);
        }
        let damaged = desk.damaged().map(|(id, why)| (id, why.clone())).collect();
        (desk, damaged)
    }

    /// Stops a stream of which an entry cannot even be read: what is left of its log says nothing that may be acted upon.
    pub fn stop(&mut self, stream: TradeId) -> CorruptLog {
        let why = CorruptLog { event: "an entry that cannot be read".to_owned(), state: "(log)" };
        let next_seq = self.rows.get(&stream).map_or(0, |row| row.next_seq);
        self.rows.insert(stream, Row { next_seq, stream: Stream::Damaged(why.clone()) });
        self.owing.remove(&stream);
        self.open.remove(&stream);
        why
    }

    /// Streams that are stopped, and why.
    pub fn damaged(&self) -> impl Iterator<Item = (TradeId, &CorruptLog)> {
        self.rows.iter().filter_map(|(id, row)| match &row.stream {
            Stream::Damaged(why) => Some((*id, why)),
            Stream::Trade(_) | Stream::Stall(_) => None,
        })
    }

    /// Requests to `key` to serve as arbiter open trades from now on. Not logged: configuration, told again at each start.
    pub fn serve_as(&mut self, key: PartyKey) {
        self.arbiters.insert(key);
    }

    // ---- deciding ----------------------------------------------------------------------------------------------

    /// Decides one input for one stream. Changes nothing: see [`Append`]. `Command::Bid` opens the trade `TradeId::of(listing, me)`,
    /// `Command::List` the stall `TradeId::of_stall(me, d)`; [`Desk::stream_of`] tells which.
    pub fn handle(&self, stream: TradeId, input: &Input, now: Now) -> Result<Append, Refusal> {
        let (expected_seq, decision) = match self.rows.get(&stream) {
            Some(row) => (row.next_seq, self.decide(row, stream, input, now)?),
            None => (0, Decision { events: self.open(stream, input, now)?, refused: None }),
        };
        self.check_hashes(stream, &decision.events)?;
        match decision.refused {
            Some(refusal) if decision.events.is_empty() => Err(refusal),
            refused => Ok(Append { stream, expected_seq, at: now, events: decision.events, refused }),
        }
    }

    /// Takes a message from any transport: finds its trade, and keeps it when the step before it has not arrived. The refusal is
    /// then `out-of-order`, and the message comes back from [`Desk::next_message`] in its time.
    pub fn receive(&mut self, envelope: Envelope, now: Now) -> Result<Append, Refusal> {
        let Some(stream) = self.route(&envelope) else {
            self.keep(envelope, now);
            return Err(Refusal::new(Rule::OutOfOrder, "it answers nothing that is known here; kept for a while"));
        };
        let input = Input::Message(Box::new(envelope));
        let result = self.handle(stream, &input, now);
        let refusal = match &result {
            Ok(append) => append.refused.as_ref(),
            Err(refusal) => Some(refusal),
        };
        if refusal.is_some_and(|r| r.rule == Rule::OutOfOrder)
            && let Input::Message(envelope) = input
        {
            self.keep(*envelope, now);
        }
        result
    }

    /// Takes a report of our node: finds its trade by hash.
    pub fn report(&self, report: NodeReport, now: Now) -> Result<Append, Refusal> {
        let Some(stream) = self.by_hash.get(&report.hash()) else {
            return Err(Refusal::new(Rule::UnknownTrade, "no trade has a leg with that hash"));
        };
        self.handle(*stream, &Input::Node(report), now)
    }

    /// The first stream for which time alone has something to record. Ask after every block and every minute, until none is left.
    pub fn due(&self, now: Now) -> Option<Append> {
        self.due_from(TradeId([0; 32]), now)
    }

    /// The same, leaving out the streams before `from`: whoever asks until none is left goes on from the one it got last, and looks at
    /// each once.
    pub fn due_from(&self, from: TradeId, now: Now) -> Option<Append> {
        self.open.range(from..).find_map(|stream| {
            let row = self.rows.get(stream)?;
            let Stream::Trade(trade) = &row.stream else { return None };
            let events = trade.step(&Input::Tick, now).events;
            let (stream, expected_seq) = (*stream, row.next_seq);
            (!events.is_empty()).then_some(Append { stream, expected_seq, at: now, events, refused: None })
        })
    }

    fn decide(&self, row: &Row, stream: TradeId, input: &Input, now: Now) -> Result<Decision, Refusal> {
        match &row.stream {
            Stream::Trade(trade) => {
                if let Input::Command(Command::Accept { .. }) = input {
                    self.check_stock(stream, trade)?;
                }
                self.check_order_stock(trade, input)?;
                Ok(trade.step(input, now))
            }
            Stream::Stall(stall) => Ok(Decision { events: stall.decide(input, now)?, refused: None }),
            Stream::Damaged(_) => {
                Err(Refusal::new(Rule::WrongState, "the log of this trade is damaged: it was stopped, look at it"))
            }
        }
    }

    fn open(&self, stream: TradeId, input: &Input, now: Now) -> Result<Vec<Event>, Refusal> {
        let unknown = || Err(Refusal::new(Rule::UnknownTrade, "no such trade"));
        let events = match input {
            Input::Command(Command::List { me, listing, stock }) => {
                if stream != TradeId::of_stall(*me, &listing.d) {
                    return unknown();
                }
                return Stall::list(None, *me, listing, *stock, now);
            }
            Input::Command(Command::Bid(order)) => {
                self.check_answer(&order.listing, order.me, now)?;
                trade::open_as_payer(order, &self.node, now)?
            }
            Input::Message(envelope) => match &envelope.message {
                Message::Bid(bid) => {
                    self.check_answer_stands(bid.listing, now)?;
                    let (listing, me, stock) = self.listing(bid.listing)?;
                    if bid.quantity > stock {
                        return Err(Refusal::new(Rule::SoldOut, "there are fewer pieces than that"));
                    }
                    if self.open_bids(bid.listing) >= OPEN_BIDS_MAX {
                        return Err(Refusal::new(Rule::TooMany, "too many bids wait for an answer already"));
                    }
                    trade::open_as_payee(envelope, listing, me, &self.node, now)?
                }
                Message::AppointmentRequest(request) => {
                    let Some(me) = request.bid.arbiter.filter(|key| self.arbiters.contains(key)) else {
                        return Err(Refusal::new(Rule::NoArbiter, "we serve under no such key"));
                    };
                    trade::open_as_arbiter(envelope, me, &self.node, now)?
                }
                _ => return unknown(),
            },
            Input::Command(_) | Input::Node(_) | Input::Sent { .. } | Input::Shown { .. } | Input::Tick => {
                return unknown();
            }
        };
        match events.first() {
            Some(Event::Opened(opening)) if opening.trade == stream => {}
            _ => return Err(Refusal::new(Rule::WrongTrade, "it opens another trade")),
        }
        if self.open.len() >= OPEN_TRADES_MAX {
            return Err(Refusal::new(Rule::TooMany, "too many trades are open"));
        }
        Ok(events)
    }

    /// The listing that a bid is for: the newest version only.
    fn listing(&self, id: MessageId) -> Result<(&Listing, PartyKey, u32), Refusal> {
        let closed = |why: &'static str| Err(Refusal::new(Rule::ListingClosed, why));
        let Some(stall) = self.by_message.get(&id).and_then(|stream| self.stall(*stream)) else {
            return closed("there is no such listing here");
        };
        if !stall.open {
            return closed("the listing takes no more bids");
        }
        if stall.current != Some(id) {
            return closed("a newer version of the listing is out");
        }
        let newest =
            stall.versions.iter().find(|(known, _)| *known == id).map_or(&stall.listing, |(_, listing)| listing);
        Ok((newest, stall.me, stall.stock))
    }

    fn check_stock(&self, stream: TradeId, trade: &Trade) -> Result<(), Refusal> {
        let listing = trade.dossier().opening.listing;
        let Some((stall_id, stall)) =
            self.by_message.get(&listing).and_then(|id| self.stall(*id).map(|stall| (*id, stall)))
        else {
            return Ok(());
        };
        if trade.holds_stock() {
            return Ok(());
        }
        let taken = self.taken(stall_id, Some(stream));
        if taken.saturating_add(trade.dossier().opening.quantity) > stall.stock {
            return Err(Refusal::new(Rule::SoldOut, "other trades take all there is: restock, or turn the bid down"));
        }
        Ok(())
    }

    /// How many pieces of a stall its trades take, all of them or all but one.
    pub fn taken(&self, stall: TradeId, but: Option<TradeId>) -> u32 {
        self.trades_on(stall)
            .filter(|trade| Some(trade.id()) != but && trade.holds_stock())
            .fold(0, |sum, trade| sum.saturating_add(trade.dossier().opening.quantity))
    }

    /// The trades on any version of a stall's listing, ended ones too; of an order that sells bitcoin, those on its answers.
    pub fn trades_on(&self, stall: TradeId) -> impl Iterator<Item = &Trade> {
        let versions = self.stall(stall).into_iter().flat_map(|stall| &stall.versions);
        versions.flat_map(|(listing, _)| self.on_version(*listing))
    }

    fn on_version(&self, listing: MessageId) -> impl Iterator<Item = &Trade> {
        self.on_listing.get(&listing).into_iter().flatten().filter_map(|id| self.trade(*id))
    }

    /// The stall that a listing, in whichever version, is of.
    pub fn stall_of(&self, listing: MessageId) -> Option<(TradeId, &Stall)> {
        let id = *self.by_message.get(&listing)?;
        self.stall(id).map(|stall| (id, stall))
    }

    /// The trade that a message belongs to.
    pub fn trade_of_message(&self, message: MessageId) -> Option<&Trade> {
        self.by_message.get(&message).and_then(|id| self.trade(*id))
    }

    /// Bids on any version of a stall's listing that wait for our user; of an order that sells bitcoin, our bids on its answers.
    pub fn bids(&self, stall: TradeId) -> usize {
        let waits =
            |trade: &Trade| matches!(trade, Trade::Payee(payee) if matches!(payee.state, PayeeState::Bid { .. }));
        self.trades_on(stall).filter(|trade| waits(trade) || trade.offers_order()).count()
    }

    /// A hash is good for one leg of one trade.
    fn check_hashes(&self, stream: TradeId, events: &[Event]) -> Result<(), Refusal> {
        for event in events {
            for hash in introduced(event) {
                if self.by_hash.get(&hash).is_some_and(|owner| *owner != stream) {
                    return Err(Refusal::new(Rule::HashReused, "another trade uses that hash"));
                }
            }
        }
        Ok(())
    }

    // ---- committing --------------------------------------------------------------------------------------------

    /// Folds what the log has accepted. On an error the stream is stopped: raise an alarm.
    pub fn commit(&mut self, append: Append) -> Result<(), CorruptLog> {
        for (seq, event) in (append.expected_seq..).zip(&append.events) {
            self.fold(append.stream, seq, event);
        }
        match self.rows.get(&append.stream).map(|row| &row.stream) {
            Some(Stream::Damaged(why)) => Err(why.clone()),
            Some(Stream::Trade(_) | Stream::Stall(_)) | None => Ok(()),
        }
    }

    fn fold(&mut self, id: TradeId, seq: u64, event: &Event) {
        let damaged = |state| Stream::Damaged(CorruptLog { event: format!("number {seq}"), state });
        let row = self.rows.remove(&id);
        let stream = match row {
            None if seq != 0 => damaged("(none)"),
            None => match (Stall::open(event), Trade::open(event)) {
                (Some(stall), _) => Stream::Stall(Box::new(stall)),
                (None, Ok(trade)) => Stream::Trade(trade),
                (None, Err(why)) => Stream::Damaged(why),
            },
            Some(row) if row.next_seq != seq => damaged("another number is next"),
            Some(row) => match row.stream {
                Stream::Trade(trade) => trade.apply(event).map_or_else(Stream::Damaged, Stream::Trade),
                Stream::Stall(stall) => {
                    stall.apply(event).map_or_else(|| damaged("Stall"), |stall| Stream::Stall(Box::new(stall)))
                }
                Stream::Damaged(why) => Stream::Damaged(why),
            },
        };
        self.rows.insert(id, Row { next_seq: seq + 1, stream });
        let (owes, open) = self.rows.get(&id).map_or((false, false), |row| match &row.stream {
            Stream::Trade(trade) => (trade.dossier().owes(), trade.outcome().is_none()),
            Stream::Stall(stall) => (stall.owes(), false),
            Stream::Damaged(_) => (false, false),
        });
        note(&mut self.owing, id, owes);
        note(&mut self.open, id, open);
        for hash in introduced(event) {
            self.by_hash.entry(hash).or_insert(id);
        }
        if let Event::Opened(opening) = event {
            if let Some(listing) = opening.takes_from() {
                self.on_listing.entry(listing).or_default().insert(id);
            }
            self.parties.extend([opening.payer, opening.payee].into_iter().chain(opening.arbiter));
        }
        match event {
            Event::MessageSent { id: message, .. } => self.learn(*message, id),
            Event::MessageTaken { envelope, .. } => self.learn(envelope.id, id),
            Event::Opened(_) => self.wake(|envelope| envelope.message.trade() == Some(id)),
            // An input that was too early for the state may fit now.
            Event::Locked { .. } | Event::RelockDropped { .. } | Event::Unwound { .. } => self.wake_trade(id),
            _ => {}
        }
    }

    fn learn(&mut self, message: MessageId, stream: TradeId) {
        self.by_message.entry(message).or_insert(stream);
        self.wake_trade(stream);
    }

    // ---- messages that came too early ------------------------------------------------------------------------------

    /// The trade that a message belongs to, as far as is known here.
    pub fn route(&self, envelope: &Envelope) -> Option<TradeId> {
        if let Some(id) = envelope.message.trade() {
            let opens = matches!(envelope.message, Message::AppointmentRequest(_));
            return (opens || self.rows.contains_key(&id)).then_some(id);
        }
        if let Message::Bid(bid) = &envelope.message {
            let id = TradeId::of(bid.listing, envelope.author);
            let known = self.rows.contains_key(&id) || self.by_message.contains_key(&bid.listing);
            return known.then_some(id);
        }
        if let Some(id) = self.by_message.get(&envelope.id) {
            return Some(*id);
        }
        let answered = envelope.message.prev().or(envelope.prev).and_then(|prev| self.by_message.get(&prev));
        let by_hash = match &envelope.message {
            Message::PaymentConfirmation(m) => self.by_hash.get(&m.payment_proof),
            Message::Receipt(m) => m.secrets.first().and_then(|secret| self.by_hash.get(&secret.hash())),
            Message::Handover(m) => m.secrets.first().and_then(|secret| self.by_hash.get(&secret.hash())),
            _ => None,
        };
        answered.or(by_hash).copied()
    }

    fn keep(&mut self, envelope: Envelope, now: Now) {
        self.early.retain(|(since, _)| since.0.saturating_add(EARLY_SECS) > now.unix.0);
        let same = |kept: &Envelope| {
            kept.id == envelope.id && kept.via == envelope.via && kept.message.secrets() == envelope.message.secrets()
        };
        if self.early.iter().any(|(_, kept)| same(kept)) {
            return;
        }
        let stranger = |author: &PartyKey| !self.parties.contains(author);
        let by_author = self.early.iter().filter(|(_, kept)| kept.author == envelope.author).count();
        let by_strangers = self.early.iter().filter(|(_, kept)| stranger(&kept.author)).count();
        let full = if stranger(&envelope.author) {
            by_strangers >= EARLY_STRANGERS_MAX
        } else {
            self.early.len() - by_strangers >= EARLY_MESSAGES_MAX - EARLY_STRANGERS_MAX
        };
        if by_author >= EARLY_PER_AUTHOR_MAX || full {
            self.let_go = true;
            return;
        }
        self.early.push_back((now.unix, envelope));
    }

    fn wake_trade(&mut self, id: TradeId) {
        if self.early.is_empty() {
            return;
        }
        let (early, mut woken) = (std::mem::take(&mut self.early), VecDeque::new());
        for (since, envelope) in early {
            if self.route(&envelope) == Some(id) {
                woken.push_back(envelope);
            } else {
                self.early.push_back((since, envelope));
            }
        }
        self.ready.append(&mut woken);
    }

    fn wake(&mut self, which: impl Fn(&Envelope) -> bool) {
        let (woken, early): (Vec<_>, Vec<_>) = std::mem::take(&mut self.early).into_iter().partition(|(_, e)| which(e));
        self.early = early.into();
        self.ready.extend(woken.into_iter().map(|(_, envelope)| envelope));
    }

    /// A message that was kept and whose time may have come: give it to [`Desk::receive`] again. Ask after every commit until none
    /// is left. What is kept lives in memory only: after a restart fetch messages from the relays again.
    pub fn next_message(&mut self) -> Option<Envelope> {
        self.ready.pop_front()
    }

    /// How many messages wait for the step before them.
    pub fn early_messages(&self) -> usize {
        self.early.len()
    }

    /// Words are missing: a message names an earlier one that is not here, something happened that comes only after a word, or a
    /// message had to be let go for want of room. What the relays have stored has to be fetched again.
    pub fn has_gaps(&self) -> bool {
        let misses = |trade: &Trade| matches!(trade, Trade::Payee(payee) if payee.misses_word());
        self.let_go || !self.early.is_empty() || self.open_trades().any(misses)
    }

    /// Stored messages are being fetched again: those that were let go come back.
    pub fn refetching(&mut self) {
        self.let_go = false;
    }

    // ---- looking -----------------------------------------------------------------------------------------------

    /// Everything that is owed, stream by stream, money first within each.
    pub fn pending(&self, now: Now) -> Vec<(TradeId, Effect)> {
        self.owing.iter().flat_map(|id| self.pending_of(*id, now).into_iter().map(|effect| (*id, effect))).collect()
    }

    /// The streams that owe something.
    pub fn owing(&self) -> impl Iterator<Item = TradeId> {
        self.owing.iter().copied()
    }

    /// What one stream owes: after a commit only this can have changed.
    pub fn pending_of(&self, stream: TradeId, now: Now) -> Vec<Effect> {
        match self.rows.get(&stream).map(|row| &row.stream) {
            Some(Stream::Trade(trade)) => trade.pending(now),
            Some(Stream::Stall(stall)) => stall.pending(),
            Some(Stream::Damaged(_)) | None => Vec::new(),
        }
    }

    /// The stream that a command goes to when it opens one.
    pub fn stream_of(command: &Command) -> Option<TradeId> {
        match command {
            Command::List { me, listing, .. } => Some(TradeId::of_stall(*me, &listing.d)),
            other => trade::opens(other),
        }
    }

    /// Legs and fees that the node must be asked about after a restart, and now and then.
    pub fn watched(&self) -> Vec<(TradeId, Watch)> {
        self.trades().flat_map(|t| t.watched().into_iter().map(|watch| (t.id(), watch))).collect()
    }

    /// The next height and time at which [`Desk::due`] may have something.
    pub fn next_deadline(&self, now: Now) -> (Option<Height>, Option<Unix>) {
        self.trades().map(|t| t.next_deadline(now)).fold((None, None), |(height, unix), (h, u)| {
            (height.into_iter().chain(h).min(), unix.into_iter().chain(u).min())
        })
    }

    /// One trade.
    pub fn trade(&self, id: TradeId) -> Option<&Trade> {
        match self.rows.get(&id).map(|row| &row.stream) {
            Some(Stream::Trade(trade)) => Some(trade),
            Some(Stream::Stall(_) | Stream::Damaged(_)) | None => None,
        }
    }

    /// One stall.
    pub fn stall(&self, id: TradeId) -> Option<&Stall> {
        match self.rows.get(&id).map(|row| &row.stream) {
            Some(Stream::Stall(stall)) => Some(stall),
            Some(Stream::Trade(_) | Stream::Damaged(_)) | None => None,
        }
    }

    /// All trades, in the order of their ids.
    pub fn trades(&self) -> impl Iterator<Item = &Trade> {
        self.rows.values().filter_map(|row| match &row.stream {
            Stream::Trade(trade) => Some(trade),
            Stream::Stall(_) | Stream::Damaged(_) => None,
        })
    }

    /// The trades that have not ended, in the order of their ids.
    pub fn open_trades(&self) -> impl Iterator<Item = &Trade> {
        self.open.iter().filter_map(|id| self.trade(*id))
    }

    /// All stalls.
    pub fn stalls(&self) -> impl Iterator<Item = (TradeId, &Stall)> {
        self.rows.iter().filter_map(|(id, row)| match &row.stream {
            Stream::Stall(stall) => Some((*id, &**stall)),
            Stream::Trade(_) | Stream::Damaged(_) => None,
        })
    }

    /// The trade that a hash belongs to.
    pub fn trade_of_hash(&self, hash: PaymentHash) -> Option<TradeId> {
        self.by_hash.get(&hash).copied()
    }

    fn open_bids(&self, listing: MessageId) -> usize {
        self.on_version(listing).filter(|trade| trade.outcome().is_none()).count()
    }
}

/// Is `id` one of them, from now on?
fn note(ids: &mut BTreeSet<TradeId>, id: TradeId, is: bool) {
    if is {
        ids.insert(id);
    } else {
        ids.remove(&id);
    }
}

/// Hashes that an event brings into a trade.
fn introduced(event: &Event) -> Vec<PaymentHash> {
    let said = |message: &Message| match message {
        Message::Bid(m) => m.payment_hashes.clone(),
        Message::AppointmentRequest(m) => m.bid.payment_hashes.clone(),
        Message::Appointment(m) => m.payer_bond_hash.into_iter().chain(m.payee_bond_hash).collect(),
        _ => Vec::new(),
    };
    match event {
        Event::Opened(opening) => opening.payment_hashes.clone(),
        Event::MessageOrdered(outgoing) => said(&outgoing.message),
        Event::MessageTaken { envelope, .. } => said(&envelope.message),
        Event::FeeBilled { bill } => vec![bill.hash],
        _ => Vec::new(),
    }
}

//! One trade, seen by one party: `decide` judges, `apply` folds, `pending` derives what is owed.

use units::{Height, Now, PaymentHash, Sat, Unix};

use crate::arbiter::{self, Arbiter};
use crate::deadline::Deadlines;
use crate::dossier::Dossier;
use crate::effect::Effect;
use crate::event::{Event, Opening, Outcome, Role, Step};
use crate::fee::FeeState;
use crate::fiat;
use crate::ids::{PartyKey, TradeId};
use crate::input::{BidOrder, Command, Envelope, Input, OwnNode};
use crate::leg::{IssuedState, PaidState};
use crate::limits;
use crate::message::{Listing, Message};
use crate::payee::{Payee, PayeeState};
use crate::payer::{Payer, PayerState};
use crate::refusal::{CorruptLog, Refusal, Rule};
use crate::terms::EscrowTerms;

/// A bid from the future by more than this many seconds is refused: a clock is wrong, or somebody plays with it.
const CLOCK_SKEW_SECS: u64 = 3600;

/// One trade, seen by one of its parties.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trade {
    /// We pay.
    Payer(Box<Payer>),
    /// We are paid.
    Payee(Box<Payee>),
    /// We rule.
    Arbiter(Box<Arbiter>),
}

/// What a decision comes to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    /// To be recorded; empty for a duplicate or late input, which is normal.
    pub events: Vec<Event>,
    /// The input was refused. Deadlines that passed meanwhile are in `events` all the same.
    pub refused: Option<Refusal>,
}

/// A leg that is not final: ask the node about it after a restart, and now and then.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Watch {
    /// A hold invoice of ours: `Node::lookup`.
    Issued(PaymentHash),
    /// A payment of ours: `Node::lookup_payment`.
    Paid(PaymentHash),
    /// An ordinary invoice of ours: `Node::lookup_received`.
    Received(PaymentHash),
}

impl Trade {
    /// The trade that an [`Event::Opened`] begins.
    pub fn open(event: &Event) -> Result<Trade, CorruptLog> {
        match event {
            Event::Opened(opening) => Ok(match opening.role {
                Role::Payer => Trade::Payer(Box::new(Payer::open(opening))),
                Role::Payee => Trade::Payee(Box::new(Payee::open(opening))),
                Role::Arbiter => Trade::Arbiter(Box::new(Arbiter::open(opening))),
            }),
            other => Err(corrupt(other, "(none)")),
        }
    }

    /// All rules: what is to be recorded because of `input`, with everything that follows from it and from the time. Empty means
    /// duplicate or late. Deadlines are compared with `now` whatever the input is; when one passed and the input itself is
    /// refused, the deadline's events are returned and the refusal is not: see [`Trade::step`] for both.
    pub fn decide(&self, input: &Input, now: Now) -> Result<Vec<Event>, Refusal> {
        let decision = self.step(input, now);
        match decision.refused {
            Some(refusal) if decision.events.is_empty() => Err(refusal),
            Some(_) | None => Ok(decision.events),
        }
    }

    /// As [`Trade::decide`], but tells of a refusal even when there is something to record.
    pub fn step(&self, input: &Input, now: Now) -> Decision {
        let mut scribe = Scribe { trade: None, before: self, events: Vec::new() };
        scribe.settle(now);
        let refused = match scribe.now().judge(input, now) {
            Ok(events) => {
                scribe.write(events);
                scribe.settle(now);
                None
            }
            Err(refusal) => Some(refusal),
        };
        Decision { events: scribe.events, refused }
    }

    /// The input alone, without time and without what follows.
    fn judge(&self, input: &Input, now: Now) -> Result<Vec<Event>, Refusal> {
        match input {
            Input::Command(command) => match self {
                Trade::Payer(t) => t.command(command, now),
                Trade::Payee(t) => t.command(command, now),
                Trade::Arbiter(t) => t.command(command, now),
            },
            Input::Message(envelope) => match self {
                Trade::Payer(t) => t.message(envelope, now),
                Trade::Payee(t) => t.message(envelope, now),
                Trade::Arbiter(t) => t.message(envelope, now),
            },
            Input::Node(report) => self.dossier().report(report, now),
            Input::Sent { step, id } => {
                if self.dossier().outbox.iter().any(|o| o.step == *step) {
                    Ok(vec![Event::MessageSent { step: *step, id: *id }])
                } else {
                    Ok(Vec::new())
                }
            }
            Input::Shown { notice } => {
                let shown = self.dossier().notices.iter().any(|(known, shown)| known == notice && !shown);
                Ok(if shown { vec![Event::NoticeShown { notice: notice.clone() }] } else { Vec::new() })
            }
            Input::Tick => Ok(Vec::new()),
        }
    }

    /// What the time makes happen, or else what follows from what is recorded.
    fn due(&self, now: Now) -> Vec<Event> {
        let (passed, follows): (Vec<Event>, _) = match self {
            Trade::Payer(t) => (t.passed(now), t.follows(now)),
            Trade::Payee(t) => (t.passed(now), t.follows(now)),
            Trade::Arbiter(t) => (t.passed(now), t.follows()),
        };
        if passed.is_empty() { follows } else { passed }
    }

    /// Folds one event. Never judges: an event that does not fit means that the log is damaged.
    pub fn apply(self, event: &Event) -> Result<Trade, CorruptLog> {
        let state = self.state_name();
        let next = match self {
            Trade::Payer(t) => t.apply(event).map(|t| Trade::Payer(Box::new(t))),
            Trade::Payee(t) => t.apply(event).map(|t| Trade::Payee(Box::new(t))),
            Trade::Arbiter(t) => t.apply(event).map(|t| Trade::Arbiter(Box::new(t))),
        };
        next.ok_or_else(|| corrupt(event, state))
    }

    /// Folds a whole log.
    pub fn replay<'a>(events: impl IntoIterator<Item = &'a Event>) -> Result<Trade, CorruptLog> {
        let mut events = events.into_iter();
        let Some(first) = events.next() else {
            return Err(CorruptLog { event: "nothing".to_owned(), state: "(none)" });
        };
        events.try_fold(Trade::open(first)?, Trade::apply)
    }

    /// What is owed now, money first. Derived from the state: a restart needs nothing else.
    pub fn pending(&self, _now: Now) -> Vec<Effect> {
        self.dossier().pending()
    }

    /// What is known apart from the state.
    pub fn dossier(&self) -> &Dossier {
        match self {
            Trade::Payer(t) => &t.dossier,
            Trade::Payee(t) => &t.dossier,
            Trade::Arbiter(t) => &t.dossier,
        }
    }

    /// The trade's id.
    pub fn id(&self) -> TradeId {
        self.dossier().opening.trade
    }

    /// Our side.
    pub fn role(&self) -> Role {
        self.dossier().opening.role
    }

    /// The state's name.
    pub fn state_name(&self) -> &'static str {
        match self {
            Trade::Payer(t) => t.state_name(),
            Trade::Payee(t) => t.state_name(),
            Trade::Arbiter(t) => t.state_name(),
        }
    }

    /// How it ended, once it did.
    pub fn outcome(&self) -> Option<Outcome> {
        match self {
            Trade::Payer(t) => t.outcome(),
            Trade::Payee(t) => t.outcome(),
            Trade::Arbiter(t) => t.outcome(),
        }
    }

    /// Does this trade take one of a stock of ours: of the payee's listing, or of the payer's order that sells bitcoin?
    pub fn holds_stock(&self) -> bool {
        match self {
            Trade::Payee(t) => t.holds_stock(),
            Trade::Payer(t) => t.holds_stock(),
            Trade::Arbiter(_) => false,
        }
    }

    /// Is this our bid on an answer to an order of ours, and nobody has accepted it yet?
    pub fn offers_order(&self) -> bool {
        let open = |t: &Payer| {
            matches!(t.state, PayerState::Appointing { .. } | PayerState::Bid { .. } | PayerState::Countered { .. })
        };
        matches!(self, Trade::Payer(t) if t.dossier.opening.order.is_some() && open(t))
    }

    /// `H_exp`, `D_hard`, `D_rule`, `D_warn` of the present lock; none before something is locked.
    pub fn deadlines(&self) -> Option<Deadlines> {
        match self {
            Trade::Payer(_) | Trade::Payee(_) => self.dossier().deadlines(),
            Trade::Arbiter(t) => t.deadlines(),
        }
    }

    /// The next height and the next time at which `decide` may have something to record though nothing happened.
    pub fn next_deadline(&self, now: Now) -> (Option<Height>, Option<Unix>) {
        if self.outcome().is_some() {
            return (None, None);
        }
        let deadline = self.deadlines().and_then(|d| d.next_after(now.height));
        let height = deadline.into_iter().chain(self.dossier().next_alarm()).min();
        let unix = match self {
            Trade::Payer(t) => match &t.state {
                PayerState::Appointing { until }
                | PayerState::Bid { until }
                | PayerState::Countered { until }
                | PayerState::Locking { until } => Some(*until),
                _ => None,
            },
            Trade::Payee(t) => match &t.state {
                PayeeState::Bid { until } | PayeeState::Countered { until } | PayeeState::Locking { until } => {
                    Some(*until)
                }
                PayeeState::Accepted(accepting) => Some(accepting.until),
                _ => None,
            },
            Trade::Arbiter(t) => match &t.state {
                arbiter::ArbiterState::Asked { until } | arbiter::ArbiterState::Serving { until } => Some(*until),
                _ => None,
            },
        };
        let relock = match self {
            Trade::Payer(t) => t.relock.as_ref().and_then(|r| r.until()),
            Trade::Payee(t) => t.relock.as_ref().and_then(|r| r.until()),
            Trade::Arbiter(_) => None,
        };
        (height, unix.into_iter().chain(relock).min())
    }

    /// Legs, and the fee, that the node must be asked about after a restart, and now and then.
    pub fn watched(&self) -> Vec<Watch> {
        let d = self.dossier();
        let issued = d.issued.iter().filter(|i| !matches!(i.state, IssuedState::Ordered { .. } | IssuedState::Settled));
        let paid = d.paid.iter().filter(|p| matches!(p.state, PaidState::Ordered { .. } | PaidState::InFlight));
        issued
            .filter(|i| i.state != IssuedState::Canceled)
            .map(|i| Watch::Issued(i.hash))
            .chain(paid.map(|p| Watch::Paid(p.hash)))
            .chain(self.watched_fee())
            .collect()
    }

    fn watched_fee(&self) -> Option<Watch> {
        let fee = self.dossier().fee.as_ref()?;
        match self {
            Trade::Payer(_) => fee.hash().filter(|_| !fee.is_idle()).map(Watch::Paid),
            // Where the money was locked the fee was paid before, and the trade may have ended while we were away.
            Trade::Arbiter(t) if t.outcome().is_none() || !t.locked_from.is_empty() => {
                fee.hash().filter(|_| fee.state == FeeState::Unpaid).map(Watch::Received)
            }
            Trade::Payee(_) | Trade::Arbiter(_) => None,
        }
    }
}

fn corrupt(event: &Event, state: &'static str) -> CorruptLog {
    let text = format!("{event:?}");
    let kind = text.split([' ', '(', '{']).next().unwrap_or("").to_owned();
    CorruptLog { event: kind, state }
}

/// Writes events down and folds them at the same time, so that each decision sees the ones before it.
struct Scribe<'a> {
    before: &'a Trade,
    trade: Option<Trade>,
    events: Vec<Event>,
}

impl Scribe<'_> {
    fn now(&self) -> &Trade {
        self.trade.as_ref().unwrap_or(self.before)
    }

    fn write(&mut self, events: Vec<Event>) {
        for event in events {
            let trade = self.trade.take().unwrap_or_else(|| self.before.clone());
            // A decision that its own state cannot fold is a bug in this crate, caught by the state table and the simulator.
            let next = trade.apply(&event).expect("a decision fits the state it was made in");
            self.trade = Some(next);
            self.events.push(event);
        }
    }

    /// Until nothing more is due. Each round moves a leg or a state forward, so there are few.
    fn settle(&mut self, now: Now) {
        for _ in 0..DUE_ROUNDS_MAX {
            let due = self.now().due(now);
            if due.is_empty() {
                return;
            }
            self.write(due);
        }
    }
}

/// More rounds than any chain of consequences has; the simulator would show one that is cut.
const DUE_ROUNDS_MAX: usize = 32;

// ---- openings ---------------------------------------------------------------------------------------------------

/// A payer's bid opens a trade: the events of its log so far.
pub(crate) fn open_as_payer(order: &BidOrder, node: &OwnNode, now: Now) -> Result<Vec<Event>, Refusal> {
    let Message::Listing(listing) = &order.listing.message else {
        return Err(Refusal::new(Rule::ListingClosed, "that is no listing"));
    };
    limits::check(&order.listing.message)?;
    let terms = listing.escrow.clone().unwrap_or_else(EscrowTerms::plain);
    let quote_until = fiat::check(listing, order.fiat.as_ref(), order.amount, order.quantity, order.me, now.unix)?;
    let opening = Opening {
        trade: TradeId::of(order.listing.id, order.me),
        role: Role::Payer,
        listing: order.listing.id,
        terms,
        payer: order.me,
        payee: order.listing.author,
        arbiter: order.arbiter,
        amount: order.amount,
        payer_bond: order.payer_bond,
        payment_hashes: order.payment_hashes.clone(),
        message: order.message.clone(),
        timeout_hours: order.timeout_hours,
        payee_node: order.payee_node.clone(),
        quantity: order.quantity,
        pay_by_hand: order.pay_by_hand,
        max_arbiter_fee: order.max_arbiter_fee,
        fiat: order.fiat.clone(),
        quote_until,
        order: listing.answers().map(|to| to.order),
        node: node.clone(),
        at: now.unix,
    };
    check_opening(&opening)?;
    let payer = Payer::open(&opening);
    let words = payer.first_words(now);
    if let Event::MessageOrdered(outgoing) = &words {
        limits::check(&outgoing.message)?;
    }
    Ok(vec![Event::Opened(Box::new(opening)), words])
}

/// A bid on a listing of ours opens a trade.
pub(crate) fn open_as_payee(
    envelope: &Envelope,
    listing: &Listing,
    me: PartyKey,
    node: &OwnNode,
    now: Now,
) -> Result<Vec<Event>, Refusal> {
    limits::check(&envelope.message)?;
    let Message::Bid(bid) = &envelope.message else {
        return Err(Refusal::new(Rule::UnknownTrade, "no trade begins like this"));
    };
    if bid.round != 0 {
        return Err(Refusal::new(Rule::OutOfOrder, "a re-lock of a trade that is not known here"));
    }
    if envelope.prev.is_some_and(|prev| prev != bid.listing) {
        return Err(Refusal::new(Rule::WrongTrade, "content and tag name different earlier steps"));
    }
    if envelope.at.0 > now.unix.0.saturating_add(CLOCK_SKEW_SECS) {
        return Err(Refusal::new(Rule::TooLate, "the bid claims to be made in the future"));
    }
    let by = envelope.author;
    let quote_until = fiat::check(listing, bid.fiat.as_ref(), bid.amount, bid.quantity, by, now.unix)?;
    let opening = Opening {
        trade: TradeId::of(bid.listing, envelope.author),
        role: Role::Payee,
        listing: bid.listing,
        terms: listing.escrow.clone().unwrap_or_else(EscrowTerms::plain),
        payer: envelope.author,
        payee: me,
        arbiter: bid.arbiter,
        amount: bid.amount,
        payer_bond: bid.payer_bond,
        payment_hashes: bid.payment_hashes.clone(),
        message: bid.message.clone(),
        timeout_hours: bid.payment_timeout_hours,
        payee_node: None,
        quantity: bid.quantity,
        pay_by_hand: false,
        max_arbiter_fee: Sat::ZERO,
        fiat: bid.fiat.clone(),
        quote_until,
        order: listing.answers().map(|to| to.order),
        node: node.clone(),
        at: envelope.at,
    };
    check_opening(&opening)?;
    if crate::role::bid_until(&opening) <= now.unix {
        return Err(Refusal::new(Rule::TooLate, "the bid has lapsed"));
    }
    let taken = Event::MessageTaken { step: Step::Bid(0), envelope: Box::new(envelope.clone()) };
    Ok(vec![Event::Opened(Box::new(opening)), taken])
}

/// A request to serve opens a trade.
pub(crate) fn open_as_arbiter(
    envelope: &Envelope,
    me: PartyKey,
    node: &OwnNode,
    now: Now,
) -> Result<Vec<Event>, Refusal> {
    limits::check(&envelope.message)?;
    let Message::AppointmentRequest(request) = &envelope.message else {
        return Err(Refusal::new(Rule::UnknownTrade, "no trade begins like this"));
    };
    if envelope.at.0 > now.unix.0.saturating_add(CLOCK_SKEW_SECS) {
        return Err(Refusal::new(Rule::TooLate, "the request claims to be made in the future"));
    }
    if request.bid.round != 0 {
        return Err(Refusal::new(Rule::OutOfOrder, "a re-lock of a trade that is not known here"));
    }
    if request.trade != TradeId::of(request.listing, envelope.author) {
        return Err(Refusal::new(Rule::WrongTrade, "listing and author make another trade"));
    }
    if request.bid.arbiter != Some(me) {
        return Err(Refusal::new(Rule::NoArbiter, "the bid names another arbiter"));
    }
    arbiter::check_request(request)?;
    let opening = Opening {
        trade: request.trade,
        role: Role::Arbiter,
        listing: request.listing,
        terms: request.terms.clone(),
        payer: envelope.author,
        payee: request.payee,
        arbiter: Some(me),
        amount: request.bid.amount,
        payer_bond: request.bid.payer_bond,
        payment_hashes: request.bid.payment_hashes.clone(),
        message: request.bid.message.clone(),
        timeout_hours: request.bid.payment_timeout_hours,
        payee_node: None,
        quantity: request.bid.quantity,
        pay_by_hand: false,
        max_arbiter_fee: Sat::ZERO,
        fiat: request.bid.fiat.clone(),
        quote_until: None,
        order: None,
        node: node.clone(),
        // The payer's time, so that an arbiter that has only its seed serves again in the same words.
        at: envelope.at,
    };
    check_opening(&opening)?;
    let mut events = vec![Event::Opened(Box::new(opening))];
    events.extend(arbiter::take_request(request, envelope));
    Ok(events)
}

fn check_opening(opening: &Opening) -> Result<(), Refusal> {
    opening.terms.check()?;
    opening.terms.check_bid(opening.amount, opening.payer_bond, opening.arbiter)?;
    if opening.payment_hashes.len() != usize::from(opening.terms.tranches) {
        return Err(Refusal::new(Rule::TermsMismatch, "one hash is needed for each tranche"));
    }
    let distinct = opening.payment_hashes.iter().enumerate().all(|(i, h)| !opening.payment_hashes[..i].contains(h));
    if !distinct {
        return Err(Refusal::new(Rule::HashReused, "a hash is good for one payment only"));
    }
    let parties = [Some(opening.payer), Some(opening.payee), opening.arbiter];
    if parties[0] == parties[1] || parties[0] == parties[2] || parties[1] == parties[2] {
        return Err(Refusal::new(Rule::SameParty, "a party may not sit on two sides of one trade"));
    }
    Ok(())
}

/// Is it a command that this module can open a trade with?
pub(crate) fn opens(command: &Command) -> Option<TradeId> {
    match command {
        Command::Bid(order) => Some(TradeId::of(order.listing.id, order.me)),
        _ => None,
    }
}

//! One connection's side of the protocol, pure: frames and news in, frames and effects out. No socket, no clock, no store.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use units::Unix;
use wire::frame::{deliver_head, deliver_json};
use wire::hll::Registers;
use wire::{ClientFrame, Filter, FrameLimits, Malformed, RawEvent, RelayFrame};

use crate::admission::Policy;
use crate::ahead::HELD_SECS;
use crate::clients::SubscriptionView;
use crate::live::Published;
use crate::store::{Encoded, Known, Outcome};

mod reconciling;

/// So many frames that cannot be read, or answers to the challenge that are wrong, end the connection.
const BLUNDERS_MAX: u32 = 100;
/// Most new events that wait for the end of a stored answer, over all subscriptions of a connection.
const HELD_MAX: usize = 1000;

/// What one connection may ask for. The frame's own limits are in [`SessionLimits::frame`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SessionLimits {
    /// Limits of a frame and of what is in it.
    pub frame: FrameLimits,
    /// Most keys that one connection may authenticate as: a trader has one for each trade.
    pub keys: usize,
    /// Most subscriptions and counts under way at the same time.
    pub subscriptions: usize,
    /// Most values in the lists of all filters of all subscriptions together.
    pub filter_values: usize,
    /// Most stored events for one filter.
    pub limit: u64,
    /// Most events that one count counts.
    pub count: u64,
    /// Most reconciliations under way at the same time (NIP-77).
    pub reconciliations: usize,
    /// Most events of a set that is reconciled.
    pub reconciled_events: usize,
}

impl Default for SessionLimits {
    fn default() -> SessionLimits {
        SessionLimits {
            frame: FrameLimits::RELAY,
            keys: 4096,
            subscriptions: 64,
            filter_values: 20_000,
            limit: 500,
            count: 100_000,
            reconciliations: 4,
            reconciled_events: 1_000_000,
        }
    }
}

/// What the shell around a session has to do, in order.
#[derive(Debug)]
pub enum Effect<'a> {
    /// Send this text.
    Send(String),
    /// Take an event in; its fate comes back by [`Session::published`].
    Publish {
        /// The event, unverified.
        event: RawEvent<'a>,
        /// The third element of `EVENT`.
        credential: Option<Cow<'a, str>>,
    },
    /// Show what comes from now on by [`Session::live`]; send what the store has, each behind [`Session::head`], then call
    /// [`Session::stored`].
    Subscribe {
        /// Number by which the answers come back.
        ticket: u64,
        /// What is asked.
        filters: Arc<[Filter]>,
    },
    /// Count, and answer by [`Session::counted`].
    Count {
        /// Number by which the answer comes back.
        ticket: u64,
        /// What is asked.
        filters: Arc<[Filter]>,
    },
    /// Answer a message of a reconciliation (NIP-77), by [`Session::reconciled`].
    Reconcile {
        /// Number of the reconciliation.
        ticket: u64,
        /// What the set holds, when it begins; the set is kept until [`Effect::Stop`].
        filter: Option<Filter>,
        /// What the client says.
        message: Vec<u8>,
    },
    /// Stop whatever runs under this number.
    Stop {
        /// The number.
        ticket: u64,
    },
    /// The client was refused what cost as much to refuse as to grant, or sent what nobody can read: read nothing from it for a
    /// moment.
    InVain,
    /// End the connection.
    End {
        /// Why.
        why: &'static str,
    },
}

impl Effect<'_> {
    /// It is work on a question.
    pub(crate) fn asks(&self) -> bool {
        matches!(self, Effect::Subscribe { .. } | Effect::Count { .. } | Effect::Reconcile { .. })
    }
}

/// What a count came to (NIP-45).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counted {
    /// How many.
    pub count: u64,
    /// There may be more.
    pub approximate: bool,
    /// Registers of the authors, where NIP-45 says how to fill them.
    pub hll: Option<Box<Registers>>,
}

#[derive(Debug, PartialEq, Eq)]
enum Stage {
    /// The stored events are being sent; new ones wait here.
    Stored(Vec<Arc<Encoded>>),
    /// New events are sent as they come.
    Live,
    /// A count.
    Count,
}

#[derive(Debug)]
struct Subscription {
    id: String,
    values: usize,
    filters: Arc<[Filter]>,
    stage: Stage,
}

/// The state of one connection.
#[derive(Debug)]
pub struct Session {
    limits: SessionLimits,
    urls: Arc<[String]>,
    challenge: String,
    keys: Vec<[u8; 32]>,
    subscriptions: HashMap<u64, Subscription>,
    tickets: HashMap<String, u64>,
    reconciliations: BTreeMap<u64, reconciling::Reconciliation>,
    next: u64,
    held: usize,
    blunders: u32,
}

/// How many values a filter names.
pub(crate) fn values(filter: &Filter) -> usize {
    let len = |list: Option<usize>| list.unwrap_or(0);
    len(filter.ids.as_ref().map(Vec::len))
        + len(filter.authors.as_ref().map(Vec::len))
        + len(filter.kinds.as_ref().map(Vec::len))
        + filter.tags.values().map(Vec::len).sum::<usize>()
        + 1
}

/// `OK` for an event.
pub fn ok(event: [u8; 32], result: &Published) -> String {
    let (accepted, message): (bool, Cow<'_, str>) = match result {
        Published::Refused(why) => (false, why.into()),
        Published::Held => (true, format!("the credential waits {HELD_SECS} seconds for its event").into()),
        Published::Store(Outcome::Stored | Outcome::Passed) => (true, "".into()),
        Published::Store(Outcome::Known(known)) => match known {
            Known::Served => (true, "duplicate: the board has this event".into()),
            Known::Superseded => (false, "duplicate: the board has a newer version of this event".into()),
            Known::Deleted => (false, "blocked: its author asked for the deletion of this event".into()),
            Known::Expired => (false, "invalid: the event's own expiration has passed".into()),
            Known::TakenDown => (false, "blocked: the operator took this event down".into()),
        },
        Published::Store(Outcome::Spent { by }) => {
            (false, format!("restricted: this credential was already spent for event {}", units::hex32(by)).into())
        }
        Published::Store(Outcome::Failed(why)) => (false, format!("error: {why}").into()),
    };
    RelayFrame::Ok { event, accepted, message }.to_json()
}

fn closed(id: &str, message: &str) -> Effect<'static> {
    Effect::Send(RelayFrame::Closed { id: id.into(), message: message.into() }.to_json())
}

fn notice(text: &str) -> Effect<'static> {
    Effect::Send(RelayFrame::Notice(text.into()).to_json())
}

/// The name that a frame gave before it went wrong: the second element, if that is a string.
fn second_string(text: &str) -> Option<String> {
    let rest = text.trim_start().strip_prefix('[')?;
    let rest = &rest[rest.find(',')? + 1..];
    serde_json::Deserializer::from_str(rest).into_iter::<String>().next()?.ok()
}

/// The id that an event claimed before it went wrong.
fn claimed_id(text: &str) -> Option<[u8; 32]> {
    let at = text.find("\"id\"")? + 4;
    let rest = text[at..].trim_start().strip_prefix(':')?.trim_start().strip_prefix('"')?;
    wire::parse_hex(rest.get(..64)?, "id").ok()
}

impl Session {
    /// A fresh connection to a relay known under `urls`. `challenge` is random and never used again (NIP-42).
    pub fn new(limits: SessionLimits, urls: Arc<[String]>, challenge: String) -> Session {
        Session {
            limits,
            urls,
            challenge,
            keys: Vec::new(),
            subscriptions: HashMap::new(),
            tickets: HashMap::new(),
            reconciliations: BTreeMap::new(),
            next: 0,
            held: 0,
            blunders: 0,
        }
    }

    /// What is sent first: the challenge.
    pub fn greeting(&self) -> String {
        RelayFrame::Auth(self.challenge.as_str().into()).to_json()
    }

    /// The keys that authenticated.
    pub fn keys(&self) -> &[[u8; 32]] {
        &self.keys
    }

    /// Subscriptions and counts under way.
    pub fn subscriptions(&self) -> usize {
        self.subscriptions.len()
    }

    /// The same as the operator sees them, of the client with this number, by their names.
    pub(crate) fn views(&self, client: u64) -> Vec<SubscriptionView> {
        let view = |subscription: &Subscription| SubscriptionView {
            client,
            id: subscription.id.clone(),
            filters: subscription.filters.iter().filter_map(|f| serde_json::from_str(&f.to_json()).ok()).collect(),
            stage: match subscription.stage {
                Stage::Stored(_) => "stored",
                Stage::Live => "live",
                Stage::Count => "count",
            }
            .to_owned(),
        };
        let mut views: Vec<SubscriptionView> = self.subscriptions.values().map(view).collect();
        views.sort_by(|a, b| a.id.cmp(&b.id));
        views
    }

    /// The client sent a frame.
    pub fn frame<'a>(&mut self, text: &'a str, policy: &Policy, now: Unix, out: &mut Vec<Effect<'a>>) {
        match ClientFrame::parse(text.as_bytes(), &self.limits.frame) {
            Ok(ClientFrame::Event { event, extra }) => out.push(Effect::Publish { event, credential: extra }),
            Ok(ClientFrame::Req { id, filters }) => self.ask(&id, filters, false, policy, out),
            Ok(ClientFrame::Count { id, filters }) => self.ask(&id, filters, true, policy, out),
            Ok(ClientFrame::Close(id)) => self.stop(&id, out),
            Ok(ClientFrame::Auth(event)) => self.authenticate(&event, now, out),
            Ok(ClientFrame::NegOpen { id, filter, message }) => {
                self.neg_open(&id, filter, &message, policy, now, out);
            }
            Ok(ClientFrame::NegMsg { id, message }) => self.neg_message(&id, &message, now, out),
            Ok(ClientFrame::NegClose(id)) => self.neg_close(&id, out),
            Err(why) => self.malformed(text, &why, out),
        }
    }

    /// Something that the client sent cannot be read: says so where the client expects an answer.
    fn malformed(&mut self, text: &str, why: &Malformed, out: &mut Vec<Effect<'_>>) {
        let verb = text.trim_start().strip_prefix('[').unwrap_or_default().trim_start();
        let message = format!("invalid: {why}");
        let named = || second_string(text).filter(|id| id.chars().count() <= wire::frame::SUBSCRIPTION_ID_MAX);
        let answer = if verb.starts_with("\"EVENT\"") {
            claimed_id(text).map(|id| Effect::Send(ok(id, &Published::Refused(message.clone()))))
        } else if verb.starts_with("\"REQ\"") || verb.starts_with("\"COUNT\"") {
            named().map(|id| closed(&id, &message))
        } else if let Some(id) = verb.starts_with("\"NEG-").then(named).flatten() {
            self.neg_malformed(&id, message, out);
            return self.blunder(out);
        } else {
            None
        };
        let answer = answer.unwrap_or_else(|| notice(&message));
        out.push(answer);
        self.blunder(out);
    }

    /// The client sent a frame that is no text.
    pub fn unreadable(&mut self, why: &str, out: &mut Vec<Effect<'_>>) {
        out.push(notice(why));
        self.blunder(out);
    }

    fn blunder(&mut self, out: &mut Vec<Effect<'_>>) {
        self.blunders += 1;
        out.push(if self.blunders < BLUNDERS_MAX {
            Effect::InVain
        } else {
            Effect::End { why: "too many frames that cannot be understood" }
        });
    }

    fn ask(&mut self, id: &str, filters: Vec<Filter>, count: bool, policy: &Policy, out: &mut Vec<Effect<'_>>) {
        // The same name again takes the place of what ran under it, even if what comes is refused.
        self.stop(id, out);
        if let Err(why) = self.may_ask(&filters, policy) {
            out.push(closed(id, &why));
            return out.push(Effect::InVain);
        }
        let ticket = self.next;
        self.next += 1;
        let stage = if count { Stage::Count } else { Stage::Stored(Vec::new()) };
        let values = filters.iter().map(values).sum();
        let filters: Arc<[Filter]> = filters.into();
        self.subscriptions.insert(ticket, Subscription { id: id.to_owned(), values, filters: filters.clone(), stage });
        self.tickets.insert(id.to_owned(), ticket);
        out.push(if count { Effect::Count { ticket, filters } } else { Effect::Subscribe { ticket, filters } });
    }

    fn may_ask(&self, filters: &[Filter], policy: &Policy) -> Result<(), String> {
        self.may_read(filters, policy)?;
        if self.subscriptions.len() >= self.limits.subscriptions {
            return Err(format!("rate-limited: at most {} subscriptions at the same time", self.limits.subscriptions));
        }
        self.has_room(filters)
    }

    /// Whether who authenticated on this connection may ask at all.
    fn may_read(&self, filters: &[Filter], policy: &Policy) -> Result<(), String> {
        let anonymous = self.keys.is_empty();
        if policy.auth_to_read && anonymous {
            return Err("auth-required: this board is read by those who authenticated".into());
        }
        let private = |kinds: &Vec<u16>| !kinds.is_empty() && kinds.iter().all(|k| policy.private_kinds.contains(k));
        if anonymous && filters.iter().all(|filter| filter.kinds.as_ref().is_some_and(private)) {
            return Err("auth-required: these are shown to their recipient only".into());
        }
        Ok(())
    }

    /// Whether the connection may hold these filters besides those that it has.
    fn has_room(&self, filters: &[Filter]) -> Result<(), String> {
        let subscribed: usize = self.subscriptions.values().map(|subscription| subscription.values).sum();
        let held = subscribed + self.reconciled_values();
        if held + filters.iter().map(values).sum::<usize>() > self.limits.filter_values {
            let most = self.limits.filter_values;
            return Err(format!("rate-limited: at most {most} values in all filters of a connection"));
        }
        Ok(())
    }

    /// Ends what runs under a name.
    fn stop(&mut self, id: &str, out: &mut Vec<Effect<'_>>) {
        if let Some(ticket) = self.tickets.remove(id) {
            self.forget(ticket);
            out.push(Effect::Stop { ticket });
        }
    }

    fn forget(&mut self, ticket: u64) -> Option<Subscription> {
        let subscription = self.subscriptions.remove(&ticket)?;
        self.tickets.remove(&subscription.id);
        if let Stage::Stored(held) = &subscription.stage {
            self.held -= held.len();
        }
        Some(subscription)
    }

    fn authenticate(&mut self, event: &RawEvent<'_>, now: Unix, out: &mut Vec<Effect<'_>>) {
        let urls: Vec<&str> = self.urls.iter().map(String::as_str).collect();
        let result = match wire::auth::check(&event.to_event(), &urls, &self.challenge, now) {
            Ok(key) if self.keys.contains(&key) => Published::Store(Outcome::Passed),
            Ok(_) if self.keys.len() >= self.limits.keys => {
                let most = self.limits.keys;
                Published::Refused(format!("rate-limited: at most {most} keys on one connection"))
            }
            Ok(key) => {
                self.keys.push(key);
                Published::Store(Outcome::Passed)
            }
            Err(why) => Published::Refused(format!("invalid: {why}")),
        };
        let refused = matches!(result, Published::Refused(_));
        out.push(Effect::Send(ok(event.id, &result)));
        if refused {
            self.blunder(out);
        }
    }

    /// Whether a subscription or count still runs under this number.
    pub fn runs(&self, ticket: u64) -> bool {
        self.subscriptions.contains_key(&ticket)
    }

    /// What the frames of a subscription begin with that show its events; none for what no longer runs.
    pub fn head(&self, ticket: u64) -> Option<String> {
        self.subscriptions.get(&ticket).map(|subscription| deliver_head(&subscription.id))
    }

    /// What became of an event that this connection published.
    pub fn published(&mut self, id: [u8; 32], result: &Published, out: &mut Vec<Effect<'_>>) {
        out.push(Effect::Send(ok(id, result)));
    }

    /// All stored events of a subscription that the client may see were sent.
    pub fn stored(&mut self, ticket: u64, out: &mut Vec<Effect<'_>>) {
        let Some(subscription) = self.subscriptions.get_mut(&ticket) else { return };
        out.push(Effect::Send(RelayFrame::Eose(subscription.id.as_str().into()).to_json()));
        if let Stage::Stored(held) = std::mem::replace(&mut subscription.stage, Stage::Live) {
            self.held -= held.len();
            out.extend(held.iter().map(|event| Effect::Send(deliver_json(&subscription.id, &event.json))));
        }
    }

    /// The answer to a count.
    pub fn counted(&mut self, ticket: u64, counted: Counted, out: &mut Vec<Effect<'_>>) {
        if let Some(subscription) = self.forget(ticket) {
            let Counted { count, approximate, hll } = counted;
            let id = subscription.id.as_str().into();
            out.push(Effect::Send(RelayFrame::Count { id, count, approximate, hll }.to_json()));
        }
    }

    /// The store failed while it answered.
    pub fn failed(&mut self, ticket: u64, out: &mut Vec<Effect<'_>>) {
        if let Some(subscription) = self.forget(ticket) {
            out.push(closed(&subscription.id, "error: the board's store failed"));
            out.push(Effect::Stop { ticket });
        }
    }

    /// A new event for a subscription.
    pub fn live(&mut self, ticket: u64, event: &Arc<Encoded>, policy: &Policy, out: &mut Vec<Effect<'_>>) {
        let Some(subscription) = self.subscriptions.get_mut(&ticket) else { return };
        if !policy.may_read(event, &self.keys) {
            return;
        }
        match &mut subscription.stage {
            Stage::Live => out.push(Effect::Send(deliver_json(&subscription.id, &event.json))),
            Stage::Stored(held) if self.held < HELD_MAX => {
                held.push(event.clone());
                self.held += 1;
            }
            Stage::Stored(_) => {
                if let Some(subscription) = self.forget(ticket) {
                    let why = "error: more new events came than could wait for the end of the stored ones";
                    out.push(closed(&subscription.id, why));
                    out.push(Effect::Stop { ticket });
                }
            }
            Stage::Count => {}
        }
    }
}

//! The side of a reconciliation that begins (NIP-77), pure: frames of another relay in, frames and events out, until both hold
//! the same or one of them had enough.

use std::collections::{BTreeSet, VecDeque};

use wire::{ClientFrame, Filter, FrameLimits, RelayFrame};

use crate::live::Published;
use crate::reconcile::{Broken, Initiator, Set, from_hex, to_hex};
use crate::store::{Encoded, Outcome};

/// Names that we give to what runs at the other relay.
const RECONCILIATION: &str = "souk-neg";
const FETCH: &str = "souk-get";
/// Events that are asked for at once.
const FETCH_MAX: usize = 200;
/// Fetched events whose fate is open. No more are asked for while there are so many.
const TAKING_MAX: usize = 1000;
/// Published events whose fate is open.
const OFFERING_MAX: usize = 64;
/// Most answers that we take in: a set of any size needs far fewer.
const ROUNDS_MAX: u32 = 10_000;
/// Most ids that wait to be fetched or published.
const WAITING_MAX: usize = 1_000_000;
/// Other relays write longer messages than we do.
const LIMITS: FrameLimits = FrameLimits { bytes: 2 * 1024 * 1024, ..FrameLimits::CLIENT };

/// Which way events go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Direction {
    /// From the other relay to us.
    Down,
    /// From us to the other relay.
    Up,
    /// Both.
    Both,
}

/// How far it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct SyncReport {
    /// Answers of the other relay.
    pub rounds: u32,
    /// Events that only we had.
    pub have: u64,
    /// Events that only the other relay had.
    pub need: u64,
    /// Of those, taken.
    pub taken: u64,
    /// Refused by our admission or store.
    pub refused: u64,
    /// Named by the other relay, and not sent when asked for.
    pub missing: u64,
    /// Of ours, taken by the other relay.
    pub sent: u64,
    /// Refused by the other relay.
    pub rejected: u64,
}

/// What the shell has to do, in order.
#[derive(Debug, PartialEq, Eq)]
pub enum Task {
    /// Send this to the other relay.
    Send(String),
    /// Take in this event, which we asked for; its fate comes back by [`Sync::taken`].
    Take(Box<str>),
    /// Look these up, and bring what there is by [`Sync::found`].
    Find(Vec<[u8; 32]>),
    /// There is nothing more to do, or the reason why it cannot go on.
    End(Result<(), String>),
}

/// One synchronisation with one relay.
#[derive(Debug)]
pub struct Sync {
    direction: Direction,
    initiator: Initiator,
    talking: bool,
    need: VecDeque<[u8; 32]>,
    have: VecDeque<[u8; 32]>,
    fetching: Option<BTreeSet<[u8; 32]>>,
    taking: usize,
    offering: BTreeSet<[u8; 32]>,
    report: SyncReport,
}

impl Sync {
    /// Begins with what we hold for `filter`. Gives the first frame for the other relay too.
    pub fn begin(set: Set, filter: Filter, direction: Direction) -> Result<(Sync, String), Broken> {
        let (initiator, message) = set.begin()?;
        let frame = ClientFrame::NegOpen { id: RECONCILIATION.into(), filter, message: to_hex(&message).into() };
        let sync = Sync {
            direction,
            initiator,
            talking: true,
            need: VecDeque::new(),
            have: VecDeque::new(),
            fetching: None,
            taking: 0,
            offering: BTreeSet::new(),
            report: SyncReport::default(),
        };
        Ok((sync, frame.to_json()))
    }

    /// How far it is.
    pub fn report(&self) -> SyncReport {
        self.report
    }

    /// The other relay said something.
    pub fn frame(&mut self, text: &str, out: &mut Vec<Task>) {
        match RelayFrame::parse(text.as_bytes(), &LIMITS) {
            Ok(RelayFrame::NegMsg { id, message }) if id == RECONCILIATION && self.talking => self.learn(&message, out),
            Ok(RelayFrame::NegErr { id, message, .. }) if id == RECONCILIATION && self.talking => {
                return out.push(Task::End(Err(message.into_owned())));
            }
            Ok(RelayFrame::Event { id, event }) if id == FETCH => {
                if self.fetching.as_mut().is_some_and(|wanted| wanted.remove(&event.id)) {
                    self.taking += 1;
                    out.push(Task::Take(event.text.into()));
                }
            }
            Ok(RelayFrame::Eose(id)) if id == FETCH => {
                if let Some(left) = self.fetching.take() {
                    self.report.missing += left.len() as u64;
                    out.push(Task::Send(ClientFrame::Close(FETCH.into()).to_json()));
                }
            }
            Ok(RelayFrame::Closed { id, message }) if id == FETCH && self.fetching.is_some() => {
                return out.push(Task::End(Err(message.into_owned())));
            }
            Ok(RelayFrame::Ok { event, accepted, .. }) if self.offering.remove(&event) => {
                self.report.sent += u64::from(accepted);
                self.report.rejected += u64::from(!accepted);
            }
            // What we did not ask for, and notices for people.
            Ok(_) => return,
            Err(why) => return out.push(Task::End(Err(format!("the other relay cannot be understood: {why}")))),
        }
        self.go_on(out);
    }

    fn learn(&mut self, message: &str, out: &mut Vec<Task>) {
        let learned = from_hex(message).ok_or_else(|| Broken::because("invalid: not hex"));
        let learned = match learned.and_then(|bytes| self.initiator.learn(&bytes)) {
            Ok(learned) => learned,
            Err(why) => return out.push(Task::End(Err(why.message))),
        };
        self.report.rounds += 1;
        self.report.have += learned.have.len() as u64;
        self.report.need += learned.need.len() as u64;
        if self.direction != Direction::Up {
            self.need.extend(learned.need);
        }
        if self.direction != Direction::Down {
            self.have.extend(learned.have);
        }
        if self.report.rounds > ROUNDS_MAX || self.need.len() + self.have.len() > WAITING_MAX {
            return out.push(Task::End(Err("the other relay does not come to an end".into())));
        }
        let id = RECONCILIATION.into();
        self.talking = learned.next.is_some();
        out.push(Task::Send(match learned.next {
            Some(next) => ClientFrame::NegMsg { id, message: to_hex(&next).into() }.to_json(),
            None => ClientFrame::NegClose(id).to_json(),
        }));
    }

    /// What became of an event that we took in.
    pub fn taken(&mut self, fate: &Published, out: &mut Vec<Task>) {
        self.taking = self.taking.saturating_sub(1);
        match fate {
            Published::Store(Outcome::Stored | Outcome::Passed) => self.report.taken += 1,
            Published::Store(Outcome::Known(_) | Outcome::Spent { .. } | Outcome::Failed(_))
            | Published::Refused(_)
            | Published::Held => self.report.refused += 1,
        }
        self.go_on(out);
    }

    /// The events of a [`Task::Find`] that are still here.
    pub fn found<'a>(
        &mut self,
        asked: &[[u8; 32]],
        events: impl IntoIterator<Item = &'a Encoded>,
        out: &mut Vec<Task>,
    ) {
        let mut gone: BTreeSet<&[u8; 32]> = asked.iter().collect();
        for event in events {
            gone.remove(&event.id);
            out.push(Task::Send(format!("[\"EVENT\",{}]", event.json)));
        }
        for id in gone {
            self.offering.remove(id);
        }
        self.go_on(out);
    }

    /// Asks for more, offers more, or notices the end.
    fn go_on(&mut self, out: &mut Vec<Task>) {
        if matches!(out.last(), Some(Task::End(_))) {
            return;
        }
        if self.fetching.is_none() && !self.need.is_empty() && self.taking < TAKING_MAX {
            let ids: BTreeSet<[u8; 32]> = self.need.drain(..self.need.len().min(FETCH_MAX)).collect();
            let filter = Filter { ids: Some(ids.iter().copied().collect()), ..Filter::default() };
            out.push(Task::Send(ClientFrame::Req { id: FETCH.into(), filters: vec![filter] }.to_json()));
            self.fetching = Some(ids);
        }
        let room = OFFERING_MAX.saturating_sub(self.offering.len());
        if room >= OFFERING_MAX / 2 && !self.have.is_empty() {
            let ids: Vec<[u8; 32]> = self.have.drain(..self.have.len().min(room)).collect();
            self.offering.extend(&ids);
            out.push(Task::Find(ids));
        }
        let waits = self.fetching.is_some() || self.taking > 0 || !self.offering.is_empty();
        if !self.talking && !waits && self.need.is_empty() && self.have.is_empty() {
            out.push(Task::End(Ok(())));
        }
    }
}

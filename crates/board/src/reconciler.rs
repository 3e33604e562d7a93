//! Reconciliations of one connection: keeps their sets, and makes one answer after another away from the threads that read and
//! write sockets.

use std::collections::{HashMap, VecDeque};
use std::future::{Future, pending};
use std::pin::Pin;
use std::sync::Arc;

use tokio::sync::OwnedSemaphorePermit;
use wire::Filter;

use crate::admission::Authenticated;
use crate::reconcile::{Broken, Set};
use crate::server::Shared;
use crate::store::Ask;
use crate::toll::Toll;

/// A set, and its place among those of all connections.
struct Held {
    set: Set,
    _room: OwnedSemaphorePermit,
}

/// What an answer is made from.
enum Over {
    /// A set that has to be looked up first.
    Asked(Box<Ask>),
    /// The set that was looked up before.
    Held(Arc<Held>),
}

struct Job {
    ticket: u64,
    over: Over,
    message: Vec<u8>,
}

type Answer = Result<Vec<u8>, Broken>;
type Running = Pin<Box<dyn Future<Output = (u64, Option<Arc<Held>>, Answer)> + Send>>;

/// The reconciliations of one connection.
pub(crate) struct Reconciler {
    shared: Arc<Shared>,
    toll: Toll,
    /// By ticket. `None` until the set was looked up.
    sets: HashMap<u64, Option<Arc<Held>>>,
    jobs: VecDeque<Job>,
    running: Option<Running>,
}

impl Reconciler {
    pub(crate) fn new(shared: Arc<Shared>, toll: Toll) -> Reconciler {
        Reconciler { shared, toll, sets: HashMap::new(), jobs: VecDeque::new(), running: None }
    }

    /// Has a message answered. With a filter it is the first one of this ticket.
    pub(crate) fn step(&mut self, ticket: u64, filter: Option<Filter>, message: Vec<u8>, keys: &[[u8; 32]]) {
        let over = match filter {
            Some(filter) => {
                self.sets.insert(ticket, None);
                let (policy, keys) = (self.shared.policy.get(), keys.to_vec());
                Over::Asked(Box::new(Ask {
                    filters: vec![filter],
                    limit_max: u64::MAX,
                    before: self.shared.store.end(),
                    reader: Arc::new(Authenticated { policy, keys }),
                }))
            }
            None => match self.sets.get(&ticket) {
                Some(Some(held)) => Over::Held(held.clone()),
                // The session asks for the next step only after it got the last.
                Some(None) | None => return,
            },
        };
        self.jobs.push_back(Job { ticket, over, message });
    }

    /// Forgets what belongs to a ticket.
    pub(crate) fn stop(&mut self, ticket: u64) {
        self.sets.remove(&ticket);
        self.jobs.retain(|job| job.ticket != ticket);
    }

    /// The next answer; waits for good while none is asked for. May be dropped and called again.
    pub(crate) async fn next(&mut self) -> (u64, Answer) {
        if self.running.is_none() {
            self.running = self.jobs.pop_front().map(|job| run(self.shared.clone(), self.toll.clone(), job));
        }
        let Some(running) = &mut self.running else { return pending().await };
        let (ticket, held, answer) = running.await;
        self.running = None;
        if let Some(place) = self.sets.get_mut(&ticket) {
            *place = held;
        }
        (ticket, answer)
    }
}

fn run(shared: Arc<Shared>, toll: Toll, job: Job) -> Running {
    Box::pin(async move {
        let ticket = job.ticket;
        let closing = || (ticket, None, Err(Broken::because("closed: the board is closing")));
        let Some(turn) = toll.turn(Some(&shared.reconciling)).await else { return closing() };
        let working = shared.clone();
        let work = move || {
            let began = toll.begin();
            let held = match job.over {
                Over::Held(held) => Ok(held),
                Over::Asked(ask) => look_up(&working, *ask).map(Arc::new),
            };
            let done = match held {
                Ok(held) => {
                    let answer = held.set.answer(&job.message);
                    (ticket, Some(held), answer)
                }
                Err(why) => (ticket, None, Err(why)),
            };
            // It goes with the work, however long the connection does not hear of its end.
            toll.done(turn, began);
            done
        };
        match shared.tasks.spawn_blocking(work).await {
            Ok(done) => done,
            Err(_) => (ticket, None, Err(Broken::because("error: the board failed"))),
        }
    })
}

fn look_up(shared: &Shared, ask: Ask) -> Result<Held, Broken> {
    let max = shared.limits.session.reconciled_events;
    let items = shared.store.items(ask, (shared.clock)(), max).map_err(|why| {
        tracing::error!(%why, "a set could not be looked up");
        Broken::because("error: the board's store failed")
    })?;
    let items = items.ok_or_else(|| Broken::too_many(max))?;
    let len = u32::try_from(items.len()).unwrap_or(u32::MAX);
    let room = shared.set_room.clone().try_acquire_many_owned(len);
    let room = room.map_err(|_| Broken::because("rate-limited: the board reconciles too much already, try later"))?;
    Ok(Held { set: Set::new(items), _room: room })
}

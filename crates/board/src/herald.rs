//! The thread that tells what a commit brought: first its fate to everybody who published, then the events to subscribers.
//!
//! The writer only leaves word here. All that one commit has to say to a connection leaves in one write. What is for very many
//! connections leaves at once too, but not many times a second: the writes cost more than all the rest, and the more events share
//! one, the less.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{Notify, Semaphore};

use crate::admission::CurrentPolicy;
use crate::intake::{Counts, OPEN_MAX};
use crate::live::{FLUSH_BYTES, Live, Published};
use crate::outlet::{Outlet, Touched};
use crate::session::ok;
use crate::store::Commit;

/// Commits that wait to be shown to subscribers; the writer waits when there are more.
const COMMITS_WAITING: usize = 64;

/// New events for so many connections are many.
const WIDE: usize = 500;
/// Shortest time between two writes to that many connections.
const PAUSE: Duration = Duration::from_millis(50);
/// So many of them are written to before it is looked whether there is something more urgent.
const PIECE: usize = 100;

/// Who published an event and has to hear of its fate.
#[derive(Clone)]
pub(crate) enum Publisher {
    /// A client.
    Client(Arc<Outlet>),
    /// A synchronisation with another relay.
    Sync(Arc<Fates>),
}

/// Fates that wait for a synchronisation: as many as it has under way at most.
#[derive(Default)]
pub(crate) struct Fates {
    waiting: Mutex<Vec<Published>>,
    /// Rings when there is one.
    pub(crate) bell: Notify,
}

impl Fates {
    /// Takes all that are there.
    pub(crate) fn take(&self) -> Vec<Published> {
        std::mem::take(&mut *self.waiting.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Publisher {
    /// Tells a fate. What is in `touched` afterwards has to be flushed.
    pub(crate) fn tell(&self, id: [u8; 32], result: Published, touched: &mut Touched) {
        match self {
            Publisher::Client(outlet) => {
                touched.say(outlet, ["", &ok(id, &result), ""]);
                outlet.settle();
            }
            Publisher::Sync(fates) => {
                fates.waiting.lock().unwrap_or_else(PoisonError::into_inner).push(result);
                fates.bell.notify_one();
            }
        }
    }
}

/// What became of an event, and who has to hear of it.
pub(crate) struct Fate {
    pub(crate) publisher: Publisher,
    pub(crate) id: [u8; 32],
    pub(crate) result: Published,
}

#[derive(Default)]
struct Queue {
    /// Never more than are under way.
    fates: Vec<Fate>,
    commits: VecDeque<Commit>,
    idle: bool,
    closed: bool,
}

/// The queue before the thread.
pub(crate) struct Herald {
    /// For each event that may still get under way.
    pub(crate) room: Semaphore,
    queue: Mutex<Queue>,
    work: Condvar,
    space: Condvar,
}

impl Default for Herald {
    fn default() -> Herald {
        let (queue, work, space) = Default::default();
        Herald { room: Semaphore::new(OPEN_MAX), queue, work, space }
    }
}

/// Closes the herald when it is dropped, however that comes.
pub(crate) struct Closing(pub(crate) Arc<Herald>);

impl Drop for Closing {
    fn drop(&mut self) {
        self.0.queue().closed = true;
        self.0.work.notify_all();
        self.0.space.notify_all();
    }
}

impl Herald {
    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wake(&self, mut queue: MutexGuard<'_, Queue>) {
        if std::mem::take(&mut queue.idle) {
            drop(queue);
            self.work.notify_one();
        }
    }

    /// Leaves word of a fate.
    pub(crate) fn fate(&self, fate: Fate) {
        let mut queue = self.queue();
        queue.fates.push(fate);
        self.wake(queue);
    }

    /// Leaves a commit; waits while too many do.
    pub(crate) fn commit(&self, commit: Commit) {
        let mut queue = self.queue();
        while queue.commits.len() >= COMMITS_WAITING && !queue.closed {
            queue = self.space.wait(queue).unwrap_or_else(PoisonError::into_inner);
        }
        if queue.closed {
            return tracing::error!("nobody shows new events any more");
        }
        queue.commits.push_back(commit);
        self.wake(queue);
    }

    /// What was left since the last time: nothing when `until` comes first, `None` when no more will be.
    fn take(&self, until: Option<Instant>) -> Option<(Vec<Fate>, VecDeque<Commit>)> {
        let mut queue = self.queue();
        loop {
            let left = until.map(|until| until.saturating_duration_since(Instant::now()));
            if !queue.fates.is_empty() || !queue.commits.is_empty() || left.is_some_and(|left| left.is_zero()) {
                if queue.commits.len() >= COMMITS_WAITING {
                    self.space.notify_one();
                }
                return Some((std::mem::take(&mut queue.fates), std::mem::take(&mut queue.commits)));
            }
            if queue.closed {
                return None;
            }
            queue.idle = true;
            queue = match left {
                None => self.work.wait(queue).unwrap_or_else(PoisonError::into_inner),
                Some(left) => self.work.wait_timeout(queue, left).unwrap_or_else(PoisonError::into_inner).0,
            };
        }
    }

    /// Tells everything until nobody leaves word any more.
    pub(crate) fn run(self: &Arc<Herald>, live: &Live, policy: &CurrentPolicy, counts: &Counts) {
        // If this thread fails, the writer must not wait for it.
        let _closing = Closing(self.clone());
        let (mut urgent, mut shown, mut held) = (Touched::default(), Touched::default(), Touched::default());
        let mut next = Instant::now();
        while let Some((fates, commits)) = self.take((held.len() > 0).then_some(next)) {
            self.room.add_permits(fates.len());
            for fate in fates {
                counts.settled(&fate.result);
                fate.publisher.tell(fate.id, fate.result, &mut urgent);
            }
            urgent.flush();
            let policy = policy.get();
            for commit in commits {
                live.show(&commit, &policy, &mut shown);
            }
            let now = Instant::now();
            if shown.len() >= WIDE {
                held.append(&mut shown);
            } else {
                // Outlets that are held already are not in there, but what was shown to them is.
                held.grow(shown.bytes());
                shown.flush();
            }
            if held.len() > 0 && (now >= next || held.bytes() >= FLUSH_BYTES) {
                held.flush_some(PIECE);
                if held.len() == 0 {
                    next = now + PAUSE;
                }
            }
        }
        held.flush();
    }
}

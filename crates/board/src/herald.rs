//! The thread that tells what a commit brought: first its fate to everybody who published, then the events to subscribers.
//!
//! The writer only leaves word here. All that one commit has to say to a connection leaves in one write.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use crate::admission::CurrentPolicy;
use crate::intake::Counts;
use crate::live::{Live, Published};
use crate::outlet::{Outlet, Touched};
use crate::session::ok;
use crate::store::Commit;

/// Commits that wait to be shown to subscribers; the writer waits when there are more.
const COMMITS_WAITING: usize = 64;

/// What became of an event, and who has to hear of it.
pub(crate) struct Fate {
    pub(crate) outlet: Arc<Outlet>,
    pub(crate) id: [u8; 32],
    pub(crate) result: Published,
}

#[derive(Default)]
struct Queue {
    /// Never more than all connections together have in flight.
    fates: Vec<Fate>,
    commits: VecDeque<Commit>,
    idle: bool,
    closed: bool,
}

/// The queue before the thread.
#[derive(Default)]
pub(crate) struct Herald {
    queue: Mutex<Queue>,
    work: Condvar,
    room: Condvar,
}

/// Closes the herald when it is dropped, however that comes.
pub(crate) struct Closing(pub(crate) Arc<Herald>);

impl Drop for Closing {
    fn drop(&mut self) {
        self.0.queue().closed = true;
        self.0.work.notify_all();
        self.0.room.notify_all();
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
            queue = self.room.wait(queue).unwrap_or_else(PoisonError::into_inner);
        }
        if queue.closed {
            return tracing::error!("nobody shows new events any more");
        }
        queue.commits.push_back(commit);
        self.wake(queue);
    }

    fn take(&self) -> Option<(Vec<Fate>, VecDeque<Commit>)> {
        let mut queue = self.queue();
        loop {
            if !queue.fates.is_empty() || !queue.commits.is_empty() {
                if queue.commits.len() >= COMMITS_WAITING {
                    self.room.notify_one();
                }
                return Some((std::mem::take(&mut queue.fates), std::mem::take(&mut queue.commits)));
            }
            if queue.closed {
                return None;
            }
            queue.idle = true;
            queue = self.work.wait(queue).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Tells everything until nobody leaves word any more.
    pub(crate) fn run(self: &Arc<Herald>, live: &Live, policy: &CurrentPolicy, counts: &Counts) {
        // If this thread fails, the writer must not wait for it.
        let _closing = Closing(self.clone());
        let mut touched = Touched::default();
        while let Some((fates, commits)) = self.take() {
            for fate in fates {
                counts.note(&fate.result);
                touched.say(&fate.outlet, ["", &ok(fate.id, &fate.result), ""]);
                fate.outlet.settle();
            }
            let policy = policy.get();
            for commit in commits {
                live.show(&commit, &policy, &mut touched);
            }
            touched.flush();
        }
    }
}

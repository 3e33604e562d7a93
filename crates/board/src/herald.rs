//! Tells what a commit brought: first its fate to everybody who published, then the events to subscribers.
//!
//! What is for few the writer tells by itself, since to wake a thread costs as much as two or three writes; all else it leaves to
//! a thread of its own. All that one commit has to say to a connection leaves in one write. What is for very many connections
//! leaves at once too, but not many times a second: the writes cost more than all the rest, and the more events share one, the
//! less.

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

/// Fates, and new events, of one commit that the writer tells by itself at most...
const FEW: usize = 16;
/// ...as long as the last ones had no more readers than this.
const FEW_READERS: usize = 32;
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
    /// The writer has left outlets that have to be flushed.
    outlets: bool,
    idle: bool,
    closed: bool,
}

impl Queue {
    fn is_empty(&self) -> bool {
        self.fates.is_empty() && self.commits.is_empty() && !self.outlets
    }
}

/// Where news go through, in order: whoever tells some holds it meanwhile.
struct Desk {
    urgent: Touched,
    shown: Touched,
    held: Touched,
    /// When what is held leaves.
    next: Instant,
    /// The last new events had more readers than the writer tells by itself.
    wide: bool,
}

/// The queue before the thread.
pub(crate) struct Herald {
    /// For each event that may still get under way.
    pub(crate) room: Semaphore,
    live: Arc<Live>,
    policy: Arc<CurrentPolicy>,
    counts: Arc<Counts>,
    queue: Mutex<Queue>,
    desk: Mutex<Desk>,
    work: Condvar,
    space: Condvar,
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
    /// One that shows new events to those in `live`.
    pub(crate) fn new(live: Arc<Live>, policy: Arc<CurrentPolicy>, counts: Arc<Counts>) -> Herald {
        let (queue, work, space, urgent, shown, held) = Default::default();
        let desk = Mutex::new(Desk { urgent, shown, held, next: Instant::now(), wide: false });
        Herald { room: Semaphore::new(OPEN_MAX), live, policy, counts, queue, desk, work, space }
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wake(&self, mut queue: MutexGuard<'_, Queue>) {
        if std::mem::take(&mut queue.idle) {
            drop(queue);
            self.work.notify_one();
        }
    }

    /// Leaves word of a fate. Nobody hears of it before the commit that it belongs to, which comes next.
    pub(crate) fn fate(&self, fate: Fate) {
        self.queue().fates.push(fate);
    }

    /// Tells a commit, or leaves it to the thread; waits while too many are left.
    pub(crate) fn commit(&self, commit: Commit) {
        let few = commit.fresh.len() <= FEW;
        let desk = if few { self.desk.try_lock().ok().filter(|desk| !desk.wide) } else { None };
        let mut queue = self.queue();
        if let Some(mut desk) = desk
            && queue.commits.is_empty()
            && queue.fates.len() <= FEW
            && !queue.closed
        {
            let fates = std::mem::take(&mut queue.fates);
            drop(queue);
            self.tell(&mut desk, fates, [commit]);
            desk.wide = desk.shown.len() > FEW_READERS;
            if desk.wide {
                let mut queue = self.queue();
                queue.outlets = true;
                self.wake(queue);
            } else {
                desk.shown.flush();
            }
            return;
        }
        while queue.commits.len() >= COMMITS_WAITING && !queue.closed {
            queue = self.space.wait(queue).unwrap_or_else(PoisonError::into_inner);
        }
        if queue.closed {
            return tracing::error!("nobody shows new events any more");
        }
        queue.commits.push_back(commit);
        self.wake(queue);
    }

    /// Waits for something to be left, or for `until`. False when no more will be.
    fn wait(&self, until: Option<Instant>) -> bool {
        let mut queue = self.queue();
        loop {
            let left = until.map(|until| until.saturating_duration_since(Instant::now()));
            if !queue.is_empty() || left.is_some_and(|left| left.is_zero()) {
                return true;
            }
            if queue.closed {
                return false;
            }
            queue.idle = true;
            queue = match left {
                None => self.work.wait(queue).unwrap_or_else(PoisonError::into_inner),
                Some(left) => self.work.wait_timeout(queue, left).unwrap_or_else(PoisonError::into_inner).0,
            };
        }
    }

    /// What was left since the last time.
    fn take(&self) -> (Vec<Fate>, VecDeque<Commit>) {
        let mut queue = self.queue();
        if queue.commits.len() >= COMMITS_WAITING {
            self.space.notify_one();
        }
        queue.outlets = false;
        (std::mem::take(&mut queue.fates), std::mem::take(&mut queue.commits))
    }

    /// Tells fates at once, and puts new events into the outlets of who wants them: those in `shown` have to be flushed.
    fn tell(&self, desk: &mut Desk, fates: Vec<Fate>, commits: impl IntoIterator<Item = Commit>) {
        self.room.add_permits(fates.len());
        for fate in fates {
            self.counts.settled(&fate.result);
            fate.publisher.tell(fate.id, fate.result, &mut desk.urgent);
        }
        desk.urgent.flush();
        let policy = self.policy.get();
        for commit in commits {
            self.live.show(&commit, &policy, &mut desk.shown);
        }
    }

    /// Tells everything that is left here, until no more will be.
    pub(crate) fn run(self: &Arc<Herald>) {
        // If this thread fails, the writer must not wait for it.
        let _closing = Closing(self.clone());
        let mut until = None;
        while self.wait(until) {
            let mut desk = self.desk.lock().unwrap_or_else(PoisonError::into_inner);
            let (fates, commits) = self.take();
            self.tell(&mut desk, fates, commits);
            until = desk.flush();
        }
        self.desk.lock().unwrap_or_else(PoisonError::into_inner).held.flush();
    }
}

impl Desk {
    /// Flushes what is for few, and what is for many if it is time. Gives when it is time for the rest.
    fn flush(&mut self) -> Option<Instant> {
        let now = Instant::now();
        self.wide = self.shown.len() > FEW_READERS;
        if self.shown.len() >= WIDE {
            self.held.append(&mut self.shown);
        } else {
            // Outlets that are held already are not in there, but what was shown to them is.
            self.held.grow(self.shown.bytes());
            self.shown.flush();
        }
        if self.held.len() > 0 && (now >= self.next || self.held.bytes() >= FLUSH_BYTES) {
            self.held.flush_some(PIECE);
            if self.held.len() == 0 {
                self.next = now + PAUSE;
            }
        }
        self.wide |= self.held.len() > 0;
        (self.held.len() > 0).then_some(self.next)
    }
}

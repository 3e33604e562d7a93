//! The one thread that writes: it gathers what everybody queued and commits it with a single fsync.
//!
//! The order is what makes a crash harmless. The queue is taken first and the channel manager is serialised after it,
//! so that the manager on disk is never older than a monitor on disk: LDK replays the updates that the manager knows
//! to be in flight, and force-closes only when the manager is the older one. Rows that an event changed are queued
//! before the event leaves the manager, so that a row is never older than the manager that has forgotten the event; and
//! they are written together with the manager, so that LDK does not decide anew, perhaps at a later height and so
//! otherwise, what a row says was decided.
//! Nothing is told to a peer or to a caller before its commit has returned.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use lightning::ln::types::ChannelId;
use node::{NodeError, NodeEvent};
use tokio::sync::{broadcast, oneshot};

use crate::store::{Change, Store, StoreError};

/// A manager that changed without a monitor waits this long for one to come along and share its fsync.
const MANAGER_LAZINESS: Duration = Duration::from_millis(25);
/// Pause before a failed commit is tried again.
const RETRY: Duration = Duration::from_secs(1);
/// Events that a slow consumer may be behind before it is told that it lags.
pub(crate) const EVENT_QUEUE: usize = 1024;
/// Queued changes above which the verbs wait. LDK itself queues a bounded number: a handful per channel and one per
/// HTLC being claimed; it is never made to wait, since it holds the lock that the writer needs.
pub(crate) const QUEUE_HIGH: usize = 4096;

/// What the writer asks of LDK.
pub(crate) struct Hooks {
    /// The channel manager as it is now; `None` when the node is gone.
    pub(crate) manager: Box<dyn Fn() -> Option<Vec<u8>> + Send + Sync>,
    /// A monitor update is on disk.
    pub(crate) persisted: Box<dyn Fn(ChannelId, u64) + Send + Sync>,
}

#[derive(Default)]
struct Queue {
    changes: Vec<Change>,
    persisted: Vec<(ChannelId, u64)>,
    events: Vec<NodeEvent>,
    waiters: Vec<oneshot::Sender<()>>,
    /// Since when the manager has been newer than the disk.
    manager_dirty: Option<Instant>,
    end: Option<End>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    /// Write what is queued, then stop.
    Finish,
    /// Stop as a crash would.
    Abandon,
}

struct Shared {
    queue: Mutex<Queue>,
    wake: Condvar,
    hooks: OnceLock<Hooks>,
    events: broadcast::Sender<NodeEvent>,
    fault: Mutex<Option<String>>,
}

/// Handle to the writer thread; clones share it, and the thread ends with the last of them.
#[derive(Clone)]
pub(crate) struct Writer {
    shared: Arc<Shared>,
    thread: Arc<Thread>,
}

struct Thread {
    shared: Arc<Shared>,
    running: Mutex<Option<JoinHandle<()>>>,
}

impl Drop for Thread {
    fn drop(&mut self) {
        // Not joined: the last handle may be dropped by the writer thread itself.
        self.shared.queue.lock().unwrap_or_else(PoisonError::into_inner).end.get_or_insert(End::Abandon);
        self.shared.wake.notify_one();
    }
}

/// Changes that belong together, with the events that tell of them once they are on disk.
#[derive(Default)]
pub(crate) struct Entry {
    pub(crate) changes: Vec<Change>,
    pub(crate) events: Vec<NodeEvent>,
    pub(crate) waiters: Vec<oneshot::Sender<()>>,
    /// The changes follow from what the manager knows: it is written with them.
    pub(crate) with_manager: bool,
}

impl From<Change> for Entry {
    fn from(change: Change) -> Entry {
        Entry { changes: vec![change], ..Entry::default() }
    }
}

impl Writer {
    /// Starts the thread on its own connection.
    pub(crate) fn start(store: Store) -> std::io::Result<Writer> {
        let shared = Arc::new(Shared {
            queue: Mutex::default(),
            wake: Condvar::new(),
            hooks: OnceLock::new(),
            events: broadcast::channel(EVENT_QUEUE).0,
            fault: Mutex::default(),
        });
        let inside = Arc::clone(&shared);
        let thread = std::thread::Builder::new().name("ldk-writer".into()).spawn(move || inside.run(store))?;
        let thread = Thread { shared: Arc::clone(&shared), running: Mutex::new(Some(thread)) };
        Ok(Writer { shared, thread: Arc::new(thread) })
    }

    /// Tells the writer where the manager is. Until then nothing that needs it is written.
    pub(crate) fn attach(&self, hooks: Hooks) {
        // Set once by the boot sequence; a second call would be a second node on the same store.
        drop(self.shared.hooks.set(hooks));
        self.shared.wake.notify_one();
    }

    /// Queues `entry` and returns at once.
    pub(crate) fn put(&self, entry: impl Into<Entry>) {
        let entry = entry.into();
        self.with_queue(|queue| queue.enter(entry));
    }

    /// Queues `entry` without waking the thread: for a row that a monitor follows within the same call. Alone it would
    /// start an fsync for which that monitor then had to wait. The caller ends with [`Writer::wake`] or
    /// [`Writer::flushed`], in case none followed.
    pub(crate) fn put_ahead(&self, entry: impl Into<Entry>) {
        self.queue().enter(entry.into());
    }

    /// Makes the thread look at the queue.
    pub(crate) fn wake(&self) {
        self.shared.wake.notify_one();
    }

    /// Queues `entry` and waits until it is on disk.
    pub(crate) async fn commit(&self, entry: impl Into<Entry>) -> Result<(), NodeError> {
        self.put(entry);
        self.flushed().await
    }

    /// Waits until everything queued so far is on disk.
    pub(crate) async fn flushed(&self) -> Result<(), NodeError> {
        self.healthy()?;
        let (done, waiting) = oneshot::channel();
        self.with_queue(|queue| queue.waiters.push(done));
        waiting.await.map_err(|_| NodeError::Unknown("the node stopped before it was on disk".into()))
    }

    /// Queues a monitor, or one step of it, and what to tell LDK when it is on disk.
    pub(crate) fn put_monitor(&self, change: Change, answer: Option<(ChannelId, u64)>) {
        self.with_queue(|queue| {
            queue.changes.push(change);
            queue.persisted.extend(answer);
            queue.manager_dirty.get_or_insert_with(Instant::now);
        });
    }

    /// The manager changed.
    pub(crate) fn manager_changed(&self) {
        self.with_queue(|queue| {
            queue.manager_dirty.get_or_insert_with(Instant::now);
        });
    }

    /// Tells the listeners something that is not on disk.
    pub(crate) fn announce(&self, event: NodeEvent) {
        // Fails only when nobody listens.
        drop(self.shared.events.send(event));
    }

    pub(crate) fn subscribe(&self) -> broadcast::Receiver<NodeEvent> {
        self.shared.events.subscribe()
    }

    /// Refuses when the disk does, or when too much is queued already.
    pub(crate) fn healthy(&self) -> Result<(), NodeError> {
        let fault = self.shared.fault.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(fault) = fault.as_ref() {
            return Err(NodeError::Fault(fault.clone()));
        }
        let queue = self.shared.queue.lock().unwrap_or_else(PoisonError::into_inner);
        match queue.end {
            Some(_) => Err(NodeError::Unreachable("the node is stopping".into())),
            None if queue.changes.len() > QUEUE_HIGH => {
                Err(NodeError::Unreachable("the disk is behind: try again in a moment".into()))
            }
            None => Ok(()),
        }
    }

    /// Writes what is queued, and the manager, and ends the thread.
    pub(crate) fn finish(&self) {
        self.end(End::Finish);
    }

    /// Ends the thread as a crash would: what is queued is lost.
    pub(crate) fn abandon(&self) {
        self.end(End::Abandon);
    }

    fn end(&self, end: End) {
        self.with_queue(|queue| {
            queue.end.get_or_insert(end);
        });
        let thread = self.thread.running.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = thread
            && thread.join().is_err()
        {
            tracing::error!("the writer thread panicked");
        }
    }

    fn with_queue(&self, change: impl FnOnce(&mut Queue)) {
        change(&mut self.queue());
        self.wake();
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.shared.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Shared {
    fn run(&self, mut store: Store) {
        loop {
            let mut batch = self.next();
            if batch.end == Some(End::Abandon) {
                return;
            }
            while let Err(error) = self.write(&mut store, &batch) {
                tracing::error!(%error, "the node cannot write: channels stand still until it can");
                *self.fault.lock().unwrap_or_else(PoisonError::into_inner) = Some(error.to_string());
                if self.pause(RETRY) {
                    return;
                }
                // What came meanwhile belongs into the same commit: the manager to be written knows of it.
                batch.absorb(self.take());
            }
            *self.fault.lock().unwrap_or_else(PoisonError::into_inner) = None;
            let ended = batch.end.is_some();
            self.tell(batch);
            if ended {
                return;
            }
        }
    }

    /// Waits for work and takes all of it.
    fn next(&self) -> Queue {
        let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            let patience = match queue.manager_dirty {
                _ if queue.urgent() => break,
                Some(since) => MANAGER_LAZINESS.saturating_sub(since.elapsed()),
                None => Duration::MAX,
            };
            if patience.is_zero() {
                break;
            }
            queue = if patience == Duration::MAX {
                self.wake.wait(queue).unwrap_or_else(PoisonError::into_inner)
            } else {
                self.wake.wait_timeout(queue, patience).unwrap_or_else(PoisonError::into_inner).0
            };
        }
        take(&mut queue)
    }

    fn take(&self) -> Queue {
        take(&mut self.queue.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn write(&self, store: &mut Store, batch: &Queue) -> Result<(), StoreError> {
        let needed = batch.manager_dirty.is_some() || batch.end.is_some();
        let manager = if needed { self.hooks.get().and_then(|hooks| (hooks.manager)()) } else { None };
        if batch.changes.is_empty() && manager.is_none() {
            return Ok(());
        }
        store.commit(&batch.changes, manager.as_deref())
    }

    fn tell(&self, batch: Queue) {
        if let Some(hooks) = self.hooks.get() {
            for (channel, update_id) in batch.persisted {
                (hooks.persisted)(channel, update_id);
            }
        }
        for event in batch.events {
            // Fails only when nobody listens.
            drop(self.events.send(event));
        }
        for waiter in batch.waiters {
            let gone = waiter.send(()).is_err();
            if gone {
                tracing::trace!("a caller did not wait for its commit");
            }
        }
    }

    /// Sleeps, unless told to stop; true when the thread must end without writing.
    fn pause(&self, time: Duration) -> bool {
        let queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self.wake.wait_timeout_while(queue, time, |queue| queue.end.is_none());
        waited.unwrap_or_else(PoisonError::into_inner).0.end.is_some()
    }
}

/// Leaves the end in place, so that whoever asks later is told.
fn take(queue: &mut Queue) -> Queue {
    let taken = std::mem::take(queue);
    queue.end = taken.end;
    taken
}

impl Queue {
    fn urgent(&self) -> bool {
        !self.changes.is_empty() || !self.events.is_empty() || !self.waiters.is_empty() || self.end.is_some()
    }

    fn enter(&mut self, entry: Entry) {
        self.changes.extend(entry.changes);
        self.events.extend(entry.events);
        self.waiters.extend(entry.waiters);
        if entry.with_manager {
            self.manager_dirty.get_or_insert_with(Instant::now);
        }
    }

    fn absorb(&mut self, later: Queue) {
        self.changes.extend(later.changes);
        self.persisted.extend(later.persisted);
        self.events.extend(later.events);
        self.waiters.extend(later.waiters);
        self.manager_dirty = self.manager_dirty.or(later.manager_dirty);
        self.end = self.end.or(later.end);
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn peer(name: &str) -> Change {
        Change::Peer { node_id: name.into(), address: "somewhere".into() }
    }

    fn names(path: &Path) -> Vec<String> {
        Store::open(path).unwrap().peers().unwrap().into_iter().map(|(name, _)| name).collect()
    }

    #[tokio::test]
    async fn what_is_committed_is_on_disk_and_what_is_abandoned_is_not_there() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("store");
        let writer = Writer::start(Store::open(&path).unwrap()).unwrap();
        writer.commit(peer("a")).await.unwrap();
        assert_eq!(names(&path), ["a"]);
        writer.put(peer("b"));
        writer.finish();
        assert_eq!(names(&path), ["a", "b"], "finishing writes what is queued");
        assert!(matches!(writer.flushed().await, Err(NodeError::Unreachable(_))), "nobody writes any more");

        let writer = Writer::start(Store::open(&path).unwrap()).unwrap();
        writer.abandon();
        writer.put(peer("c"));
        assert_eq!(names(&path), ["a", "b"]);
    }

    #[tokio::test]
    async fn a_disk_that_fails_is_told_of_and_tried_again_until_it_works() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("store");
        let writer = Writer::start(Store::open(&path).unwrap()).unwrap();
        let other = rusqlite::Connection::open(&path).unwrap();
        other.execute_batch("ALTER TABLE peers RENAME TO away").unwrap();
        writer.put(peer("a"));
        while writer.healthy().is_ok() {
            tokio::task::yield_now().await;
        }
        assert!(matches!(writer.commit(peer("refused")).await, Err(NodeError::Fault(_))));
        other.execute_batch("ALTER TABLE away RENAME TO peers").unwrap();
        while writer.healthy().is_err() {
            tokio::task::yield_now().await;
        }
        writer.commit(peer("b")).await.unwrap();
        // The second was queued and reported as a fault: it may be there, as after any lost answer.
        assert_eq!(names(&path), ["a", "b", "refused"]);
    }

    #[tokio::test]
    async fn the_manager_is_read_after_the_queue_and_written_with_the_monitor() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("store");
        let writer = Writer::start(Store::open(&path).unwrap()).unwrap();
        let told = Arc::new(Mutex::new(Vec::new()));
        let ears = Arc::clone(&told);
        let disk = path.clone();
        let manager = |disk: &Path| Store::open(disk).unwrap().blob(crate::store::blob::CHANNEL_MANAGER).unwrap();
        writer.attach(Hooks {
            manager: Box::new(|| Some(vec![7])),
            persisted: Box::new(move |channel, update_id| {
                let found = Store::open(&disk).unwrap().monitors().unwrap().len();
                ears.lock().unwrap().push((channel, update_id, found, manager(&disk)));
            }),
        });
        let channel = ChannelId([1; 32]);
        let monitor = Change::Monitor { name: "m".into(), update_id: 4, bytes: vec![1] };
        writer.put_monitor(monitor, Some((channel, 4)));
        writer.flushed().await.unwrap();
        assert_eq!(*told.lock().unwrap(), [(channel, 4, 1, Some(vec![7]))], "LDK hears of it when it is on disk");
    }
}

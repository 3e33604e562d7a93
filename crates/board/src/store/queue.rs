//! What waits for the writer: bounded, and handed over in batches that are worth a commit.
//!
//! A commit takes as much of the processor as two or three signature checks, however much is in it, and so does waking the
//! writer. So while somebody is checking events that it will submit, what others have submitted waits for them, though not long.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::{StoreError, Write};

/// Most submissions of one batch.
const BATCH_MAX: usize = 4096;
/// No submission is added to a batch of so many bytes.
const BATCH_BYTES: usize = 8 * 1024 * 1024;
/// Longest time that a submission waits for others.
const GATHER: Duration = Duration::from_millis(2);

/// The queue before the writer.
pub(crate) struct Queue {
    /// Most submissions that wait.
    max: usize,
    /// Those who are about to submit more.
    gathering: AtomicUsize,
    state: Mutex<State>,
    work: Condvar,
    space: Condvar,
}

struct State {
    writes: VecDeque<Write>,
    bytes: usize,
    /// When the first of them came.
    since: Instant,
    /// The writer waits to be woken.
    idle: bool,
    closed: bool,
}

/// Somebody is about to submit more; see [`super::Store::gather`].
pub struct Gathering(Arc<Queue>);

impl Gathering {
    pub(crate) fn new(queue: &Arc<Queue>) -> Gathering {
        queue.gathering.fetch_add(1, Ordering::SeqCst);
        Gathering(queue.clone())
    }
}

impl Drop for Gathering {
    fn drop(&mut self) {
        if self.0.gathering.fetch_sub(1, Ordering::SeqCst) == 1 {
            self.0.rouse(self.0.state());
        }
    }
}

impl Queue {
    /// An empty one for at most `max` submissions.
    pub(crate) fn new(max: usize) -> Queue {
        let state = State { writes: VecDeque::new(), bytes: 0, since: Instant::now(), idle: false, closed: false };
        let (work, space) = Default::default();
        Queue { max, gathering: AtomicUsize::new(0), state: Mutex::new(state), work, space }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What waits is to be committed now.
    fn due(&self, state: &State) -> bool {
        let full = || state.writes.len() >= self.max.min(BATCH_MAX) || state.bytes >= BATCH_BYTES;
        let nobody = || self.gathering.load(Ordering::SeqCst) == 0;
        !state.writes.is_empty() && (nobody() || full() || state.closed || state.since.elapsed() >= GATHER)
    }

    /// Wakes the writer if it waits and has something to do.
    fn rouse(&self, mut state: MutexGuard<'_, State>) {
        if state.idle && self.due(&state) {
            state.idle = false;
            drop(state);
            self.work.notify_one();
        }
    }

    /// Adds a submission; waits while there are too many.
    pub(crate) fn push(&self, write: Write) -> Result<(), StoreError> {
        let mut state = self.state();
        while state.writes.len() >= self.max && !state.closed {
            state = self.space.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        if state.closed {
            return Err(StoreError::Closed);
        }
        if state.writes.is_empty() {
            state.since = Instant::now();
        }
        state.bytes += write.weight();
        state.writes.push_back(write);
        self.rouse(state);
        Ok(())
    }

    /// The next batch; an empty one when there was none for so long, `None` when no more will come.
    pub(crate) fn take(&self, patience: Duration) -> Option<Vec<Write>> {
        let by = Instant::now() + patience;
        let mut state = self.state();
        loop {
            if self.due(&state) {
                return Some(self.batch(state));
            }
            if state.closed {
                return None;
            }
            let left = by.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Some(Vec::new());
            }
            state.idle = true;
            state = self.work.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
            state.idle = false;
        }
    }

    fn batch(&self, mut state: MutexGuard<'_, State>) -> Vec<Write> {
        let (mut batch, mut bytes) = (Vec::with_capacity(state.writes.len().min(BATCH_MAX)), 0);
        while batch.len() < BATCH_MAX && bytes < BATCH_BYTES {
            let Some(write) = state.writes.pop_front() else { break };
            bytes += write.weight();
            batch.push(write);
        }
        state.bytes -= bytes;
        state.since = Instant::now();
        drop(state);
        self.space.notify_all();
        batch
    }

    /// Takes no more submissions.
    pub(crate) fn close(&self) {
        self.state().closed = true;
        self.work.notify_all();
        self.space.notify_all();
    }
}

/// Closes the queue when the writer ends, however that comes, and drops what still waits.
pub(crate) struct Closing(pub(crate) Arc<Queue>);

impl Drop for Closing {
    fn drop(&mut self) {
        self.0.close();
        let left = std::mem::take(&mut self.0.state().writes);
        drop(left);
    }
}

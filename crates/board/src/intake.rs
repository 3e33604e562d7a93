//! The way of an event from a connection to the store: known already? admitted? its id and signature right? then the writer.
//!
//! Signatures are checked on a fixed number of threads with bounded queues; a connection always uses the same one, so that its
//! events are committed in the order in which it sent them. An event that comes alone is checked where it came, sooner than
//! another thread would wake up.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use tokio::sync::mpsc::{Receiver, Sender, channel};
use units::Unix;
use wire::{KnownKeys, OwnedEvent};

use crate::admission::{CurrentPolicy, Ports, Rates, Refusal};
use crate::herald::{Fate, Herald, Publisher};
use crate::live::Published;
use crate::outlet::Touched;
use crate::store::{Admitted, Outcome, Store, StoreError, Write};

/// Bursts of events that wait for one thread. What a connection has in flight bounds what is in them.
const QUEUE: usize = 64;
/// Keys of authors that each thread keeps at hand.
const KEYS: usize = 4096;
/// Most events of one connection that are checked where they came.
const AT_ONCE: usize = 2;
/// Most events under way on the whole board for that: far fewer than would ever make the store's queue wait.
const AT_ONCE_OPEN: usize = 1024;

thread_local! {
    static KNOWN_KEYS: RefCell<KnownKeys> = RefCell::new(KnownKeys::new(KEYS));
}

/// An event on its way.
pub(crate) struct Job {
    /// The event, unverified.
    pub(crate) event: OwnedEvent,
    pub(crate) credential: Option<Box<str>>,
    pub(crate) publisher: Publisher,
}

/// What a thread needs to judge an event.
pub(crate) struct Judge {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) policy: Arc<CurrentPolicy>,
    pub(crate) rates: Arc<Rates>,
    pub(crate) ports: Ports,
    pub(crate) clock: fn() -> Unix,
    pub(crate) counts: Arc<Counts>,
    pub(crate) herald: Arc<Herald>,
}

/// Fates since the start.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    pub(crate) accepted: AtomicU64,
    pub(crate) known: AtomicU64,
    pub(crate) refused: AtomicU64,
    pub(crate) failed: AtomicU64,
    /// Events whose fate is open.
    open: AtomicUsize,
    rules: Mutex<BTreeMap<&'static str, u64>>,
}

impl Counts {
    /// An event is under way.
    pub(crate) fn opened(&self) {
        self.open.fetch_add(1, Ordering::Relaxed);
    }

    /// The fate of an event that was under way.
    pub(crate) fn settled(&self, result: &Published) {
        self.open.fetch_sub(1, Ordering::Relaxed);
        self.note(result);
    }

    /// Counts a refusal for its rule, and gives it as text.
    pub(crate) fn refusal(&self, why: Refusal) -> String {
        *self.rules.lock().unwrap_or_else(PoisonError::into_inner).entry(why.rule.name()).or_default() += 1;
        why.to_string()
    }

    /// Refusals by rule; what is no event, or none of its author, has no rule.
    pub(crate) fn by_rule(&self) -> BTreeMap<&'static str, u64> {
        self.rules.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Events whose fate is open.
    pub(crate) fn in_flight(&self) -> u64 {
        self.open.load(Ordering::Relaxed) as u64
    }

    /// Counts a fate.
    pub(crate) fn note(&self, result: &Published) {
        let count = match result {
            Published::Store(Outcome::Stored | Outcome::Passed) => &self.accepted,
            Published::Store(Outcome::Known(_)) => &self.known,
            Published::Store(Outcome::Failed(_)) => &self.failed,
            Published::Refused(_) => &self.refused,
        };
        count.fetch_add(1, Ordering::Relaxed);
    }
}

/// The threads that check signatures.
pub(crate) struct Intake {
    judge: Arc<Judge>,
    queues: Mutex<Vec<Sender<Vec<Job>>>>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

impl Intake {
    /// Starts `threads` threads.
    pub(crate) fn start(threads: usize, judge: &Arc<Judge>) -> Result<Intake, StoreError> {
        let (mut queues, mut handles) = (Vec::new(), Vec::new());
        for i in 0..threads.max(1) {
            let (queue, jobs) = channel(QUEUE);
            let judge = judge.clone();
            let name = format!("board-verify-{i}");
            handles.push(std::thread::Builder::new().name(name).spawn(move || judge.work(jobs))?);
            queues.push(queue);
        }
        Ok(Intake { judge: judge.clone(), queues: Mutex::new(queues), threads: Mutex::new(handles) })
    }

    /// The queue for the connection with this number; none after [`Intake::close`].
    pub(crate) fn queue(&self, connection: u64) -> Option<Sender<Vec<Job>>> {
        let queues = self.queues.lock().unwrap_or_else(PoisonError::into_inner);
        let len = queues.len() as u64;
        queues.get(connection.checked_rem(len)? as usize).cloned()
    }

    /// Judges a burst right here if that takes next to no time. `others` of the connection are under way elsewhere: none of them
    /// may be overtaken. Gives back what is for the connection's queue.
    pub(crate) fn at_once(&self, burst: Vec<Job>, others: usize) -> Option<Vec<Job>> {
        let open = self.judge.counts.open.load(Ordering::Relaxed);
        if burst.len() > AT_ONCE || others > 0 || open > AT_ONCE_OPEN {
            return Some(burst);
        }
        self.judge.burst(burst);
        None
    }

    /// Takes no more events and waits for those under way. All connections have to be gone by now.
    pub(crate) fn close(&self) {
        self.queues.lock().unwrap_or_else(PoisonError::into_inner).clear();
        for thread in self.threads.lock().unwrap_or_else(PoisonError::into_inner).drain(..) {
            if thread.join().is_err() {
                tracing::error!("a thread that checks signatures panicked");
            }
        }
    }
}

impl Judge {
    fn work(&self, mut bursts: Receiver<Vec<Job>>) {
        while let Some(burst) = bursts.blocking_recv() {
            self.burst(burst);
        }
    }

    fn burst(&self, burst: Vec<Job>) {
        let mut touched = Touched::default();
        for Job { event, credential, publisher } in burst {
            let id = event.raw().id;
            let refused = match self.verify(event, credential.as_deref()) {
                Ok(admitted) => match self.submit(id, admitted, publisher.clone()) {
                    Ok(()) => continue,
                    Err(why) => Published::Store(Outcome::Failed(why.to_string())),
                },
                Err(why) => Published::Refused(why),
            };
            self.counts.settled(&refused);
            publisher.tell(id, refused, &mut touched);
        }
        touched.flush();
    }

    /// Checks id and signature, then what may only be asked of an event whose author is certain.
    fn verify(&self, event: OwnedEvent, credential: Option<&str>) -> Result<Admitted, String> {
        let raw = event.raw();
        KNOWN_KEYS.with_borrow_mut(|keys| raw.verify_with(keys)).map_err(|why| format!("invalid: {why}"))?;
        let now = (self.clock)();
        let policy = self.policy.get();
        policy.admit_verified(&raw, &self.rates, now).map_err(|why| self.counts.refusal(why))?;
        let spent =
            policy.charge(&raw, credential, &self.ports, &self.rates, now).map_err(|why| self.counts.refusal(why))?;
        Ok(Admitted::owned(event, now).spending(spent))
    }

    fn submit(&self, id: [u8; 32], admitted: Admitted, publisher: Publisher) -> Result<(), StoreError> {
        let herald = self.herald.clone();
        let reply = Box::new(move |outcome| herald.fate(Fate { publisher, id, result: Published::Store(outcome) }));
        self.store.submit(Write::Event { admitted, reply })
    }
}

//! The way of an event from a connection to the store: known already? admitted? its id and signature right? then the writer.
//!
//! Signatures are checked on a fixed number of threads with bounded queues; a connection always uses the same one, so that its
//! events are committed in the order in which it sent them.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use tokio::sync::mpsc::{Receiver, Sender, channel};
use units::Unix;
use wire::RawEvent;
use wire::event::Limits;

use crate::admission::{Credentials, CurrentPolicy, Rates, Refusal, Rule};
use crate::live::{Item, Mailbox, Published};
use crate::store::{Admitted, Outcome, Store, StoreError, Write};

/// Events that wait for one thread.
const QUEUE: usize = 256;

/// An event on its way.
pub(crate) struct Job {
    pub(crate) id: [u8; 32],
    /// The event as it came.
    pub(crate) text: Box<str>,
    pub(crate) credential: Option<Box<str>>,
    /// Who waits for its fate.
    pub(crate) mailbox: Arc<Mailbox>,
}

/// What a thread needs to judge an event.
pub(crate) struct Judge {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) policy: Arc<CurrentPolicy>,
    pub(crate) rates: Arc<Rates>,
    pub(crate) credentials: Option<Arc<dyn Credentials>>,
    pub(crate) limits: Limits,
    pub(crate) clock: fn() -> Unix,
    pub(crate) counts: Arc<Counts>,
}

/// Fates since the start.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    pub(crate) accepted: AtomicU64,
    pub(crate) known: AtomicU64,
    pub(crate) refused: AtomicU64,
    pub(crate) failed: AtomicU64,
}

impl Counts {
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
    queues: Mutex<Vec<Sender<Job>>>,
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
        Ok(Intake { queues: Mutex::new(queues), threads: Mutex::new(handles) })
    }

    /// The queue for the connection with this number; none after [`Intake::close`].
    pub(crate) fn queue(&self, connection: u64) -> Option<Sender<Job>> {
        let queues = self.queues.lock().unwrap_or_else(PoisonError::into_inner);
        let len = queues.len() as u64;
        queues.get(connection.checked_rem(len)? as usize).cloned()
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
    fn work(&self, mut jobs: Receiver<Job>) {
        while let Some(job) = jobs.blocking_recv() {
            let Job { id, text, credential, mailbox } = job;
            match self.verify(&text, credential.as_deref()) {
                Ok(admitted) => self.submit(id, admitted, mailbox),
                Err(why) => self.answer(&mailbox, id, Published::Refused(why)),
            }
        }
    }

    fn answer(&self, mailbox: &Mailbox, id: [u8; 32], result: Published) {
        self.counts.note(&result);
        mailbox.push(Item::Published { id, result });
    }

    /// Checks id and signature, then what may only be asked of an event whose author is certain.
    fn verify(&self, text: &str, credential: Option<&str>) -> Result<Admitted, String> {
        let event = RawEvent::parse(text.as_bytes(), &self.limits).map_err(|why| format!("invalid: {why}"))?;
        event.verify().map_err(|why| format!("invalid: {why}"))?;
        let now = (self.clock)();
        let policy = self.policy.get();
        policy.admit_verified(&event, &self.rates, now).map_err(|why| why.to_string())?;
        let admitted = Admitted::new(&event, now);
        if !policy.of(event.kind).credential {
            return Ok(admitted);
        }
        let spent = match (&self.credentials, credential) {
            (Some(port), Some(credential)) => port.check(&event, credential, now),
            _ => Err(Refusal { rule: Rule::Credential, cause: "this board takes no credentials".into() }),
        };
        spent.map(|spent| admitted.spending(spent)).map_err(|why| why.to_string())
    }

    fn submit(&self, id: [u8; 32], admitted: Admitted, mailbox: Arc<Mailbox>) {
        let (counts, waiting) = (self.counts.clone(), mailbox.clone());
        let reply = Box::new(move |outcome| {
            let result = Published::Store(outcome);
            counts.note(&result);
            waiting.push(Item::Published { id, result });
        });
        if let Err(why) = self.store.submit(Write::Event { admitted, reply }) {
            self.answer(&mailbox, id, Published::Store(Outcome::Failed(why.to_string())));
        }
    }
}

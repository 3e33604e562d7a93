//! The way of an event from a connection to the store: admitted? its id and signature right? then the writer.
//!
//! Signatures are checked on the thread of the connection, a few at a time: to wake another thread costs as much as a check, and
//! connections take turns anyway. What is under way on the whole board is bounded, so that no connection ever waits for the
//! store's queue.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use bip340::Keys;
use credential::quote::KIND_AHEAD;
use tokio::sync::Semaphore;
use units::Unix;
use wire::{OwnedEvent, RawEvent};

use crate::admission::{Bearer, CurrentPolicy, Ports, Rates, Refusal, Rule, Spent};
use crate::ahead::{self, Ahead};
use crate::herald::{Fate, Herald, Publisher};
use crate::live::Published;
use crate::store::{Admitted, Outcome, Store, StoreError, Write};

/// Authors that are known, some tens of MiB if all of them write much.
pub(crate) const KEYS: usize = 4096;
/// Most events under way on the whole board: fewer than the store queues before it makes who submits wait.
pub(crate) const OPEN_MAX: usize = 2048;

/// An event on its way.
pub(crate) struct Job {
    /// The event, unverified.
    pub(crate) event: OwnedEvent,
    pub(crate) credential: Option<Box<str>>,
    /// Who shows the credential.
    pub(crate) from: Bearer,
}

/// What is needed to judge an event.
pub(crate) struct Judge {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) policy: Arc<CurrentPolicy>,
    pub(crate) rates: Arc<Rates>,
    pub(crate) ports: Ports,
    pub(crate) clock: fn() -> Unix,
    pub(crate) counts: Arc<Counts>,
    pub(crate) herald: Arc<Herald>,
    pub(crate) ahead: Ahead,
    pub(crate) keys: Keys,
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
        self.refused_by(why.rule);
        why.to_string()
    }

    fn refused_by(&self, rule: Rule) {
        *self.rules.lock().unwrap_or_else(PoisonError::into_inner).entry(rule.name()).or_default() += 1;
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
            Published::Store(Outcome::Stored | Outcome::Passed) | Published::Held => &self.accepted,
            Published::Store(Outcome::Known(_)) => &self.known,
            Published::Store(Outcome::Failed(_)) => &self.failed,
            Published::Store(Outcome::Spent { .. }) => {
                self.refused_by(Rule::Credential);
                &self.refused
            }
            Published::Refused(_) => &self.refused,
        };
        count.fetch_add(1, Ordering::Relaxed);
    }
}

impl Judge {
    /// A permit for each event that may still get under way. Who takes a job to [`Judge::judge`] has forgotten one.
    pub(crate) fn room(&self) -> &Semaphore {
        &self.herald.room
    }

    /// Judges an event. What is settled at once comes back, refused or held; of all others the herald tells the fate.
    pub(crate) fn judge(&self, job: Job, publisher: Publisher) -> Result<(), Published> {
        self.counts.opened();
        let _gathering = self.store.gather();
        let id = job.event.raw().id;
        let settled = match self.verify(job) {
            Ok(admitted) => match self.submit(id, admitted, publisher) {
                Ok(()) => return Ok(()),
                Err(why) => Published::Store(Outcome::Failed(why.to_string())),
            },
            Err(settled) => settled,
        };
        self.room().add_permits(1);
        self.counts.settled(&settled);
        Err(settled)
    }

    /// Checks id and signature, then what may only be asked of an event whose author is certain.
    fn verify(&self, job: Job) -> Result<Admitted, Published> {
        let Job { event, credential, from } = job;
        let raw = event.raw();
        raw.verify_with(&self.keys).map_err(|why| Published::Refused(format!("invalid: {why}")))?;
        let now = (self.clock)();
        let policy = self.policy.get();
        let refused = |why: Refusal| Published::Refused(self.counts.refusal(why));
        policy.admit_verified(&raw, &self.rates, now).map_err(refused)?;
        if raw.kind == KIND_AHEAD {
            let held = self.hold(&raw, from, now).inspect_err(|why| self.strike(why, from, now));
            return Err(held.map_or_else(refused, |()| Published::Held));
        }
        let spent = policy.charge(&raw, credential.as_deref(), &self.ports, &self.rates, now);
        let spent = spent.inspect_err(|why| {
            if credential.is_some() {
                self.strike(why, from, now);
            }
        });
        let spent = spent.map_err(refused)?;
        let admitted = Admitted::owned(event, now);
        Ok(match spent {
            None => admitted,
            Some(stamp) => admitted.spending(stamp),
        })
    }

    /// Holds a credential that came ahead of its event.
    fn hold(&self, event: &RawEvent<'_>, from: Bearer, now: Unix) -> Result<(), Refusal> {
        let Some(port) = &self.ports.credentials else {
            return Err(Refusal { rule: Rule::Credential, cause: "this board takes no credentials".into() });
        };
        let (id, credential) = ahead::read(event)?;
        let Spent { stamp, .. } = port.check(&id, &credential, now)?;
        self.ahead.hold(id, stamp, from.client, now)
    }

    /// Holds it against who showed a credential if it was refused for being a bad one.
    fn strike(&self, why: &Refusal, from: Bearer, now: Unix) {
        if why.rule == Rule::Credential {
            self.rates.strike(from, now);
        }
    }

    fn submit(&self, id: [u8; 32], admitted: Admitted, publisher: Publisher) -> Result<(), StoreError> {
        let herald = self.herald.clone();
        let reply = Box::new(move |outcome| herald.fate(Fate { publisher, id, result: Published::Store(outcome) }));
        self.store.submit(Write::Event { admitted, reply })
    }
}

//! The one writer: drains the queue, judges, appends, syncs, adds to the index, and only then answers.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use units::Unix;

use super::frame::{Batch, Place};
use super::index::{Changes, Edit, View};
use super::log::{AppendError, Appender, Mark};
use super::logstore::Inner;
use super::queue::{Closing, Queue};
use super::{Admitted, Commit, Encoded, Feed, Fresh, JSON_MAX, Known, LogError, Outcome, Reply, StoreError, Write};
use wire::KindClass;

/// How often expired events are taken out of the indexes. They are not served from the second on in which they expire.
const SWEEP_EVERY: Duration = Duration::from_secs(5);
/// Most expired events taken out at once.
const SWEEP_MAX: usize = 1000;

/// The writer's side of the store.
pub(crate) struct Writer {
    pub(crate) inner: Arc<Inner>,
    pub(crate) appender: Appender,
    pub(crate) queue: Arc<Queue>,
    pub(crate) feed: Feed,
    pub(crate) clock: fn() -> Unix,
}

/// A batch in the making.
struct Draft {
    frames: Batch,
    changes: Changes,
    fresh: Vec<Fresh>,
    answers: Vec<(Reply, Outcome)>,
    removed: bool,
}

impl Writer {
    /// Works until all submitters are gone.
    pub(crate) fn run(mut self) {
        let _closing = Closing(self.queue.clone());
        let mut swept = Instant::now();
        while let Some(batch) = self.queue.take(SWEEP_EVERY) {
            if !batch.is_empty() {
                self.commit_and_tell(batch);
            }
            if swept.elapsed() >= SWEEP_EVERY && self.inner.fault().is_none() {
                swept = Instant::now();
                if let Err(why) = self.sweep() {
                    tracing::error!(%why, "expired events could not be taken out of the index");
                }
            }
        }
        self.end();
    }

    /// Leaves no more of the log behind than there is in it.
    fn end(mut self) {
        if self.inner.fault().is_none()
            && let Err(why) = self.appender.trim()
        {
            tracing::warn!(%why, "zeros are left at the end of the log");
        }
    }

    fn commit_and_tell(&mut self, batch: Vec<Write>) {
        let mut replies = Vec::with_capacity(batch.len());
        let commit = match self.inner.fault() {
            None => {
                self.commit(batch, &mut replies).inspect_err(|why| tracing::error!(%why, "a batch was not written"))
            }
            Some(fault) => {
                replies.extend(batch.into_iter().map(|write| (write.into_reply(), Outcome::Failed(String::new()))));
                Err(fault)
            }
        };
        let commit = commit.unwrap_or_else(|why| {
            replies.iter_mut().for_each(|(_, outcome)| *outcome = Outcome::Failed(why.clone()));
            Commit { fresh: Vec::new(), end: self.appender.mark().end }
        });
        replies.into_iter().for_each(|(reply, outcome)| reply(outcome));
        (self.feed)(commit);
    }

    /// Commits a batch, or leaves everything as it was and gives the reason.
    fn commit(&mut self, batch: Vec<Write>, replies: &mut Vec<(Reply, Outcome)>) -> Result<Commit, String> {
        let inner = self.inner.clone();
        let made = inner.index.room().and_then(|()| self.appender.batch().map_err(|why| self.stop(why)));
        let frames = match made {
            Ok(frames) => frames,
            Err(why) => {
                replies.extend(batch.into_iter().map(|write| (write.into_reply(), Outcome::Failed(String::new()))));
                return Err(why);
            }
        };
        let mut draft = Draft::new(frames, batch.len());
        let result = self.write(&inner, batch, &mut draft);
        replies.append(&mut draft.answers);
        let after = result?;
        inner.committed(&after, &draft.fresh, draft.removed);
        Ok(Commit { fresh: draft.fresh, end: after.end })
    }

    fn write(&mut self, inner: &Inner, batch: Vec<Write>, draft: &mut Draft) -> Result<Mark, String> {
        let mut failed = None;
        let view = inner.index.view();
        for write in batch {
            let (reply, outcome) = match &failed {
                None => draft.add(inner, &view, write),
                Some(_) => (write.into_reply(), Ok(Outcome::Failed(String::new()))),
            };
            let outcome = outcome.unwrap_or_else(|why| {
                failed = Some(inner.index_failed(&why));
                Outcome::Failed(String::new())
            });
            draft.answers.push((reply, outcome));
        }
        drop(view);
        if let Some(why) = failed {
            return Err(why);
        }
        if draft.frames.frames() == 0 {
            return Ok(self.appender.mark());
        }
        let after = self.appender.write(&mut draft.frames).map_err(|why| self.stop(why))?;
        inner.index.apply(std::mem::take(&mut draft.changes), after);
        Ok(after)
    }

    /// The reason as people see it; stops all writing if the disk is not to be trusted any more.
    fn stop(&self, why: AppendError) -> String {
        match why {
            AppendError::Refused(why) => format!("the board's disk takes no more: {why}"),
            AppendError::Broken(why) => {
                let why = format!("the board's disk failed and nothing is accepted until it is restarted: {why}");
                tracing::error!(%why);
                self.inner.set_fault(why.clone());
                why
            }
        }
    }

    fn sweep(&mut self) -> Result<(), StoreError> {
        let inner = self.inner.clone();
        inner.prune_listings()?;
        let mut changes = Changes::default();
        let view = inner.index.view();
        let mut edit = Edit { view: &view, changes: &mut changes };
        let count = edit.expire((self.clock)(), SWEEP_MAX, &|place| inner.log.event(place))?;
        drop(view);
        if count > 0 {
            inner.index.apply(changes, self.appender.mark());
            inner.removed();
        }
        Ok(())
    }
}

impl Draft {
    fn new(frames: Batch, answers: usize) -> Draft {
        let answers = Vec::with_capacity(answers);
        Draft { frames, changes: Changes::default(), fresh: Vec::new(), answers, removed: false }
    }

    fn add(&mut self, inner: &Inner, view: &View<'_>, write: Write) -> (Reply, Result<Outcome, StoreError>) {
        match write {
            Write::Event { admitted, reply } => (reply, self.event(inner, view, admitted)),
            Write::Takedown { id, reason, at, reply } => {
                self.frames.push_takedown(&id, &reason, at);
                let mut edit = Edit { view, changes: &mut self.changes };
                let done = edit.take_down(&id, &|place| read(inner, &self.frames, place));
                self.removed |= matches!(done, Ok(true));
                (reply, done.map(|_| Outcome::Stored))
            }
        }
    }

    fn event(&mut self, inner: &Inner, view: &View<'_>, admitted: Admitted) -> Result<Outcome, StoreError> {
        let Admitted { event, facts, credential, leaf, at } = admitted;
        if event.json.len() > JSON_MAX {
            return Ok(Outcome::Failed(format!("an event of more than {JSON_MAX} bytes is not kept")));
        }
        if KindClass::of(event.kind) == KindClass::Ephemeral {
            self.fresh.push(Fresh { at: None, event });
            return Ok(Outcome::Passed);
        }
        let mut edit = Edit { view, changes: &mut self.changes };
        if let Some(known) = edit.judge(&event, &facts)? {
            return Ok(Outcome::Known(known));
        }
        if event.expired(at) {
            return Ok(Outcome::Known(Known::Expired));
        }
        if let Some(by) = edit.spent(&facts)? {
            return Ok(Outcome::Spent { by });
        }
        let Some(place) = self.frames.push_event(&event, credential.as_deref(), &leaf, at) else {
            return Ok(Outcome::Failed("the event was not brought into its canonical form".into()));
        };
        self.removed |= edit.insert(&event, &facts, place, &|place| read(inner, &self.frames, place))?;
        self.fresh.push(Fresh { at: Some(place.at), event });
        Ok(Outcome::Stored)
    }
}

/// An event of this batch, or of the log before it.
fn read(inner: &Inner, frames: &Batch, place: Place) -> Result<Encoded, LogError> {
    match frames.event_at(place.at) {
        Some(event) => Ok(event),
        None => inner.log.event(place),
    }
}

impl Write {
    pub(crate) fn weight(&self) -> usize {
        match self {
            Write::Event { admitted, .. } => admitted.event.json.len() + 256,
            Write::Takedown { reason, .. } => reason.len() + 256,
        }
    }

    fn into_reply(self) -> Reply {
        match self {
            Write::Event { reply, .. } | Write::Takedown { reply, .. } => reply,
        }
    }
}

impl Inner {
    fn committed(&self, after: &Mark, fresh: &[Fresh], removed: bool) {
        for Fresh { at, event } in fresh {
            if let Some(at) = at {
                self.cache.put(*at, event);
                self.listings.add(event);
            }
        }
        self.end.store(after.end, Ordering::Release);
        self.frames.store(after.seq, Ordering::Relaxed);
        self.commits.fetch_add(1, Ordering::Relaxed);
        if removed {
            self.removed();
        }
    }
}

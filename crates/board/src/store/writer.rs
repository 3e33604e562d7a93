//! The one writer: drains the queue, judges, appends, syncs, adds to the index, and only then answers.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use units::Unix;

use super::frame::{Batch, Place};
use super::index::{Changes, Edit, View};
use super::log::{AppendError, Appender, Mark};
use super::logstore::{Inner, Trouble};
use super::queue::{Closing, Queue};
use super::{Admitted, Commit, Encoded, Feed, Fresh, JSON_MAX, Known, LogError, Outcome, Reply, StoreError, Write};
use wire::KindClass;

/// How often expired events are taken out of the indexes. They are not served from the second on in which they expire.
const SWEEP_EVERY: Duration = Duration::from_secs(5);
/// Most expired events taken out at once; the next are soon to follow.
const SWEEP_MAX: usize = 1000;
/// The time between two sweeps when there is more than one takes out.
const SWEEP_AGAIN: Duration = Duration::from_millis(20);
/// How often a disk that took no more is asked whether it does again.
const ASK_EVERY: Duration = Duration::from_secs(1);

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
        let (mut sweep, mut ask) = (Instant::now() + SWEEP_EVERY, Instant::now());
        while let Some(batch) = self.queue.take(self.patience(sweep)) {
            if !batch.is_empty() {
                self.commit_and_tell(batch);
            }
            let now = Instant::now();
            if now >= ask && matches!(self.inner.trouble(), Some(Trouble::Passing(_))) {
                ask = now + ASK_EVERY;
                self.ask_for_room();
            }
            if now >= sweep && self.inner.fault().is_none() {
                sweep = now + self.sweep_and_tell();
            }
        }
        self.end();
    }

    /// How long to wait for events, at most.
    fn patience(&self, sweep: Instant) -> Duration {
        let wait = sweep.saturating_duration_since(Instant::now());
        match self.inner.trouble() {
            None => wait,
            Some(Trouble::Passing(_)) => wait.min(ASK_EVERY),
            Some(Trouble::Lasting(_)) => SWEEP_EVERY,
        }
    }

    /// Who looks after the board, or a proxy in front of it, sees that it takes events again before anybody sends one.
    fn ask_for_room(&mut self) {
        if self.inner.index.room().is_err() {
            return;
        }
        match self.appender.has_room() {
            Ok(true) => {
                tracing::info!("the store takes events again");
                self.inner.set_trouble(None);
            }
            Ok(false) => {}
            Err(why) => drop(self.stop(why)),
        }
    }

    /// Takes out what has expired. Gives the time until the next sweep.
    fn sweep_and_tell(&mut self) -> Duration {
        match self.sweep() {
            Ok(SWEEP_MAX..) => SWEEP_AGAIN,
            Ok(_) => SWEEP_EVERY,
            Err(why) => {
                tracing::error!(%why, "expired events could not be taken out of the index");
                SWEEP_EVERY
            }
        }
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
                let before = self.appender.mark().seq;
                let commit = self.commit(batch, &mut replies);
                match &commit {
                    // What is not kept, or known already, says nothing of the disk.
                    Ok(_) if self.appender.mark().seq == before => {}
                    Ok(_) => self.inner.set_trouble(None),
                    Err(why) => {
                        tracing::error!(%why, "a batch was not written");
                        self.inner.set_trouble(Some(Trouble::Passing(why.clone())));
                    }
                }
                commit
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
                self.inner.set_trouble(Some(Trouble::Lasting(why.clone())));
                why
            }
        }
    }

    /// Gives how many events were taken out.
    fn sweep(&mut self) -> Result<usize, StoreError> {
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
        Ok(count)
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

#[cfg(test)]
mod tests {
    use super::super::tests::expiring;
    use super::super::{LogStore, Store, StoreConfig};
    use super::*;

    #[test]
    fn when_much_expires_at_once_one_sweep_follows_the_other() {
        let dir = tempfile::tempdir().unwrap();
        let store = LogStore::open(&StoreConfig::new(dir.path(), || Unix(1000)), Box::new(|_| ())).unwrap().0;
        let (told, answers) = std::sync::mpsc::sync_channel(2 * SWEEP_MAX);
        for n in 0..SWEEP_MAX as u64 + 10 {
            let expiration = if n < 10 { 9000 } else { 2000 };
            let admitted = expiring(n, expiration);
            let told = told.clone();
            let reply: Reply = Box::new(move |outcome| told.send(outcome).unwrap());
            store.submit(Write::Event { admitted, reply }).unwrap();
        }
        assert!(answers.iter().take(SWEEP_MAX + 10).all(|outcome| outcome == Outcome::Stored));
        drop(store);
        let config = StoreConfig::new(dir.path(), || Unix(3000));
        let (inner, mark, _) = Inner::open(&config).unwrap();
        let (inner, queue) = (Arc::new(inner), Arc::new(Queue::new(10)));
        let appender = Appender::new(inner.log.clone(), mark, config.segment_bytes);
        let mut writer = Writer { inner, appender, queue, feed: Box::new(|_| ()), clock: config.clock };
        assert_eq!(writer.sweep_and_tell(), SWEEP_AGAIN, "there may be more");
        assert_eq!((writer.sweep_and_tell(), writer.sweep().unwrap()), (SWEEP_EVERY, 0));
        writer.clock = || Unix(9000);
        assert_eq!(writer.sweep().unwrap(), 10);
    }
}

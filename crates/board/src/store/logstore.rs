//! The store on one machine: opens log and index, brings them together, and runs the writer.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};

use units::Unix;

use super::cache::Cache;
use super::frame::{BadFrame, Frame, Kind, Place};
use super::index::Index;
use super::log::{Appender, Cut, Log, LogError, Mark};
use super::query::LogCursor;
use super::writer::Writer;
use super::{Ask, Cursor, Encoded, Facts, Feed, JSON_MAX, Known, Outcome, Store, StoreError, StoreStats, Write};

/// Frames that are put into the index in one transaction when it is caught up.
const CATCH_UP: usize = 4096;
/// Longest reason of a takedown, in bytes.
const REASON_MAX: usize = 1024;

/// How a store is opened.
#[derive(Clone, Debug)]
pub struct StoreConfig {
    /// Folder of the log; the index is the folder `index` in it.
    pub dir: PathBuf,
    /// Address space for the index, in bytes: an upper bound of its file, which takes only what it needs.
    pub index_bytes_max: usize,
    /// A segment of the log that has so many bytes gets no more.
    pub segment_bytes: u64,
    /// Submissions that wait for the writer.
    pub queue: usize,
    /// What time it is, unix seconds.
    pub clock: fn() -> Unix,
}

impl StoreConfig {
    /// In `dir`, with what suits a machine with a 64-bit address space.
    pub fn new(dir: impl Into<PathBuf>, clock: fn() -> Unix) -> StoreConfig {
        StoreConfig { dir: dir.into(), index_bytes_max: 1 << 38, segment_bytes: 256 << 20, queue: 4096, clock }
    }
}

/// What opening a store found and did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Opened {
    /// What was cut off the end of the log.
    pub cut: Option<Cut>,
    /// Why the index was built from nothing, if it was.
    pub rebuilt: Option<&'static str>,
    /// Frames that the index had to be brought up to.
    pub caught_up: u64,
    /// Frames of the log.
    pub frames: u64,
}

/// What readers and the writer share.
pub(crate) struct Inner {
    pub(crate) log: Arc<Log>,
    pub(crate) index: Index,
    pub(crate) cache: Cache,
    pub(crate) end: AtomicU64,
    pub(crate) commits: AtomicU64,
    pub(crate) frames: AtomicU64,
    removals: AtomicU64,
    damaged: AtomicU64,
    fault: Mutex<Option<String>>,
}

impl Inner {
    /// The event at `place`. Damage is logged and counted, and the event left out.
    pub(crate) fn event(&self, place: Place) -> Option<Arc<Encoded>> {
        if let Some(event) = self.cache.get(place.at) {
            return Some(event);
        }
        match self.log.event(place) {
            Ok(event) => {
                let event = Arc::new(event);
                self.cache.put(place.at, &event);
                Some(event)
            }
            Err(why) => {
                self.damaged.fetch_add(1, Ordering::Relaxed);
                tracing::error!(position = place.at, %why, "an event cannot be read");
                None
            }
        }
    }

    /// How often something was removed from the indexes.
    pub(crate) fn removals(&self) -> u64 {
        self.removals.load(Ordering::Acquire)
    }

    /// Something was removed from the indexes.
    pub(crate) fn removed(&self) {
        self.removals.fetch_add(1, Ordering::AcqRel);
    }

    pub(crate) fn fault(&self) -> Option<String> {
        self.fault.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn set_fault(&self, why: String) {
        self.fault.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(why);
    }
}

/// The store on one machine.
pub struct LogStore {
    inner: Arc<Inner>,
    queue: Mutex<Option<SyncSender<Write>>>,
    writer: Mutex<Option<JoinHandle<()>>>,
}

/// Brings the index up to the end of the log. Gives the number of frames that it lacked.
fn catch_up(log: &Log, index: &Index, from: &Mark, to: &Mark) -> Result<u64, StoreError> {
    let mut writing = Some(index.write()?);
    let mut pending = 0;
    let mut visit = |frame: &Frame<'_>, place: Place| -> Result<(), StoreError> {
        let read = |place| log.event(place);
        let mut txn = match writing.take() {
            Some(txn) => txn,
            None => index.write()?,
        };
        match frame.kind {
            Kind::Event => {
                let event = frame.event().map_err(|why| unreadable(place, why))?;
                let raw = event.raw().map_err(|_| unreadable(place, BadFrame::Payload))?;
                index.insert(&mut txn, &event, &Facts::of(&raw), place, &read)?;
            }
            Kind::Takedown => {
                let (id, _) = frame.takedown().map_err(|why| unreadable(place, why))?;
                index.take_down(&mut txn, &id, &read)?;
            }
        }
        pending += 1;
        if pending >= CATCH_UP && frame.left == 0 {
            pending = 0;
            let end = place.at + u64::from(place.len);
            index.set_mark(&mut txn, &Mark { end, last: place, seq: frame.seq + 1, chain: frame.chain })?;
            txn.commit()?;
        } else {
            writing = Some(txn);
        }
        Ok(())
    };
    log.replay(from, &mut visit)?;
    let mut txn = match writing.take() {
        Some(txn) => txn,
        None => index.write()?,
    };
    index.set_mark(&mut txn, to)?;
    txn.commit()?;
    Ok(to.seq - from.seq)
}

fn unreadable(place: Place, why: BadFrame) -> StoreError {
    StoreError::Log(LogError::Damaged { at: place.at, path: PathBuf::new(), why })
}

impl LogStore {
    /// Opens the store, makes it if there is none. `feed` gets every commit from now on.
    pub fn open(config: &StoreConfig, feed: Feed) -> Result<(LogStore, Opened), StoreError> {
        let (inner, mark, opened) = Inner::open(&config.dir, config.index_bytes_max)?;
        let inner = Arc::new(inner);
        let appender = Appender::new(inner.log.clone(), mark, config.segment_bytes);
        Ok((LogStore::start(inner, appender, config, feed)?, opened))
    }

    pub(crate) fn start(
        inner: Arc<Inner>,
        appender: Appender,
        config: &StoreConfig,
        feed: Feed,
    ) -> Result<LogStore, StoreError> {
        let (queue, waiting) = sync_channel(config.queue);
        let writer = Writer { inner: inner.clone(), appender, queue: waiting, feed, clock: config.clock };
        let writer = thread::Builder::new().name("board-writer".into()).spawn(move || writer.run())?;
        Ok(LogStore { inner, queue: Mutex::new(Some(queue)), writer: Mutex::new(Some(writer)) })
    }
}

#[cfg(test)]
impl LogStore {
    pub(crate) fn inner_for_tests(&self) -> &Inner {
        &self.inner
    }
}

impl Inner {
    pub(crate) fn open(dir: &Path, index_bytes: usize) -> Result<(Inner, Mark, Opened), StoreError> {
        let log = Log::open(dir)?;
        let (index, indexed, rebuilt) = Index::open(&dir.join("index"), index_bytes, &|mark| log.has(mark))?;
        let (mark, cut) = log.recover(&indexed)?;
        let caught_up = catch_up(&log, &index, &indexed, &mark)?;
        let inner = Inner {
            log: Arc::new(log),
            index,
            cache: Cache::new(),
            end: AtomicU64::new(mark.end),
            commits: AtomicU64::new(0),
            frames: AtomicU64::new(mark.seq),
            removals: AtomicU64::new(0),
            damaged: AtomicU64::new(0),
            fault: Mutex::new(None),
        };
        Ok((inner, mark, Opened { cut, rebuilt, caught_up, frames: mark.seq }))
    }
}

impl Store for LogStore {
    fn submit(&self, write: Write) -> Result<(), StoreError> {
        let write = match write {
            Write::Event { admitted, reply } if admitted.event.json.len() > JSON_MAX => {
                reply(Outcome::Failed(format!("an event of more than {JSON_MAX} bytes is not kept")));
                return Ok(());
            }
            Write::Event { admitted, reply } if admitted.credential.len().max(admitted.leaf.len()) > 0xffff => {
                reply(Outcome::Failed("a credential of more than 65535 bytes is not kept".into()));
                return Ok(());
            }
            Write::Takedown { id, mut reason, at, reply } => {
                reason.truncate(reason.floor_char_boundary(REASON_MAX));
                Write::Takedown { id, reason, at, reply }
            }
            write => write,
        };
        let queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner).clone();
        queue.ok_or(StoreError::Closed)?.send(write).map_err(|_| StoreError::Closed)
    }

    fn known(&self, id: &[u8; 32]) -> Result<Option<Known>, StoreError> {
        let txn = self.inner.index.read()?;
        Ok(self.inner.index.holding(&txn, id)?.map(|holding| holding.state))
    }

    fn query(&self, ask: Ask) -> Result<Box<dyn Cursor>, StoreError> {
        Ok(Box::new(LogCursor::new(self.inner.clone(), ask)))
    }

    fn end(&self) -> u64 {
        self.inner.end.load(Ordering::Acquire)
    }

    fn fault(&self) -> Option<String> {
        self.inner.fault()
    }

    fn stats(&self) -> StoreStats {
        let (events, index_bytes) = self.inner.index.size().unwrap_or_default();
        StoreStats {
            events,
            log_bytes: self.inner.log.bytes(),
            index_bytes,
            frames: self.inner.frames.load(Ordering::Relaxed),
            commits: self.inner.commits.load(Ordering::Relaxed),
            damaged_reads: self.inner.damaged.load(Ordering::Relaxed),
        }
    }

    fn close(&self) {
        drop(self.queue.lock().unwrap_or_else(PoisonError::into_inner).take());
        let writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner).take();
        if writer.is_some_and(|writer| writer.join().is_err()) {
            tracing::error!("the writer panicked");
        }
    }
}

impl Drop for LogStore {
    fn drop(&mut self) {
        self.close();
    }
}

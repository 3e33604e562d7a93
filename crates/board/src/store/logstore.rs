//! The store on one machine: opens log and index, brings them together, and runs the writer.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};

use units::Unix;

use super::cache::Cache;
use super::frame::{BadFrame, Frame, Kind, Place};
use super::index::{Changes, Edit, Index, merge};
use super::listings::Listings;
use super::log::{Appender, Cut, Log, LogError, Mark};
use super::query::{self, LogCursor};
use super::queue::{Gathering, Queue};
use super::writer::Writer;
use super::{Ask, Cursor, Encoded, Facts, Feed, Item, Known, Store, StoreError, StoreStats, Write};

/// Frames after which the index is written out while it is caught up.
const CATCH_UP: usize = 8192;
/// Longest reason of a takedown, in bytes.
const REASON_MAX: usize = 1024;

/// How a store is opened.
#[derive(Clone, Debug)]
pub struct StoreConfig {
    /// Folder of the log; the index is the folder `index` in it.
    pub dir: PathBuf,
    /// A segment of the log that has so many bytes gets no more.
    pub segment_bytes: u64,
    /// Index entries that gather in memory before they are written out as a run; an event makes nine or so.
    pub overlay: usize,
    /// Submissions that wait for the writer.
    pub queue: usize,
    /// What time it is, unix seconds.
    pub clock: fn() -> Unix,
}

impl StoreConfig {
    /// In `dir`, with what suits most boards.
    pub fn new(dir: impl Into<PathBuf>, clock: fn() -> Unix) -> StoreConfig {
        StoreConfig { dir: dir.into(), segment_bytes: 256 << 20, overlay: 64 * 1024, queue: 4096, clock }
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
    pub(crate) listings: Listings,
    pub(crate) end: AtomicU64,
    pub(crate) commits: AtomicU64,
    pub(crate) frames: AtomicU64,
    removals: AtomicU64,
    damaged: AtomicU64,
    trouble: Mutex<Option<Trouble>>,
}

/// Why the store takes no events; the reasons are for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Trouble {
    /// For now: the last batch was not written, and the log is as it was before.
    Passing(String),
    /// Until the next start: what is on the disk is not known any more.
    Lasting(String),
}

/// Where an event was found.
pub(crate) enum Found {
    /// In the cache.
    Kept(Arc<Encoded>),
    /// In the log: it is in the room that was given for it.
    Read,
    /// It cannot be read.
    Damaged,
}

impl Found {
    /// The event.
    pub(crate) fn event<'a>(&'a self, room: &'a Encoded) -> Option<&'a Encoded> {
        match self {
            Found::Kept(event) => Some(event),
            Found::Read => Some(room),
            Found::Damaged => None,
        }
    }
}

impl Inner {
    /// The event at `place`; one that has to be read is put into `room`. Damage is logged and counted. An error only if it would
    /// have to wait for the disk and may not.
    pub(crate) fn event(&self, place: Place, room: &mut Encoded) -> Result<Found, StoreError> {
        if let Some(event) = self.cache.get(place.at) {
            return Ok(Found::Kept(event));
        }
        match self.log.event_into(place, room).map_err(StoreError::from) {
            Ok(()) => {
                self.cache.offer(place.at, room);
                Ok(Found::Read)
            }
            Err(why) if why.is_wait() => Err(why),
            Err(why) => {
                self.damaged.fetch_add(1, Ordering::Relaxed);
                tracing::error!(position = place.at, %why, "an event cannot be read");
                Ok(Found::Damaged)
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

    /// The index gave an error. If it is damaged the next start builds a new one. Gives the reason as people see it.
    pub(crate) fn index_failed(&self, why: &StoreError) -> String {
        if matches!(why, StoreError::IndexDamaged(_)) {
            tracing::error!(%why, "the index is damaged: restart the board, it will be built from the log");
            self.index.distrust();
        }
        why.to_string()
    }

    /// Why no events are taken, if so.
    pub(crate) fn trouble(&self) -> Option<Trouble> {
        self.trouble.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Why no events are taken until the next start, if so.
    pub(crate) fn fault(&self) -> Option<String> {
        self.trouble().and_then(|trouble| match trouble {
            Trouble::Lasting(why) => Some(why),
            Trouble::Passing(_) => None,
        })
    }

    /// Notes what the writer met last, or that it wrote. What lasts stays.
    pub(crate) fn set_trouble(&self, now: Option<Trouble>) {
        let mut trouble = self.trouble.lock().unwrap_or_else(PoisonError::into_inner);
        if !matches!(*trouble, Some(Trouble::Lasting(_))) {
            *trouble = now;
        }
    }
}

/// The store on one machine.
pub struct LogStore {
    inner: Arc<Inner>,
    queue: Arc<Queue>,
    threads: Mutex<Threads>,
}

/// The store's threads; none after it was closed.
#[derive(Default)]
struct Threads {
    writer: Option<JoinHandle<()>>,
    /// Write the index out, and merge its runs.
    index: Vec<JoinHandle<()>>,
}

/// Brings the index up to the end of the log. Gives the number of frames that it lacked.
fn catch_up(log: &Log, index: &Index, from: &Mark, to: &Mark) -> Result<u64, StoreError> {
    let mut changes = Changes::default();
    let mut pending = 0;
    let mut visit = |frame: &Frame<'_>, place: Place| -> Result<(), StoreError> {
        let read = |place| log.event(place);
        let view = index.view();
        let mut edit = Edit { view: &view, changes: &mut changes };
        match frame.kind {
            Kind::Event => {
                let event = frame.event().map_err(|why| unreadable(place, why))?;
                let raw = event.raw().map_err(|_| unreadable(place, BadFrame::Payload))?;
                let credential = frame.credential().map_err(|why| unreadable(place, why))?;
                edit.insert(&event, &Facts::of(&raw).spending(credential.as_ref()), place, &read)?;
            }
            Kind::Takedown => {
                let (id, _) = frame.takedown().map_err(|why| unreadable(place, why))?;
                edit.take_down(&id, &read)?;
            }
        }
        drop(view);
        pending += 1;
        if pending >= CATCH_UP && frame.left == 0 {
            pending = 0;
            let end = place.at + u64::from(place.len);
            let mark = Mark { end, last: place, seq: frame.seq + 1, chain: frame.chain };
            index.apply(std::mem::take(&mut changes), mark);
            index.flush()?;
            while index.merge_once(merge::BUSY)? {}
        }
        Ok(())
    };
    log.replay(from, &mut visit)?;
    index.apply(changes, *to);
    Ok(to.seq - from.seq)
}

fn unreadable(place: Place, why: BadFrame) -> StoreError {
    StoreError::Log(LogError::Damaged { at: place.at, path: PathBuf::new(), why })
}

impl LogStore {
    /// Opens the store, makes it if there is none. `feed` gets every commit from now on.
    pub fn open(config: &StoreConfig, feed: Feed) -> Result<(LogStore, Opened), StoreError> {
        let (inner, mark, opened) = Inner::open(config)?;
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
        let queue = Arc::new(Queue::new(config.queue));
        let named = |name: &str| thread::Builder::new().name(name.to_owned());
        let (out, merger) = (inner.clone(), inner.clone());
        let index = vec![
            named("board-index").spawn(move || out.index.write_out())?,
            named("board-merge").spawn(move || merger.index.merge_runs())?,
        ];
        let writer = Writer { inner: inner.clone(), appender, queue: queue.clone(), feed, clock: config.clock };
        let writer = Some(named("board-writer").spawn(move || writer.run())?);
        Ok(LogStore { inner, queue, threads: Mutex::new(Threads { writer, index }) })
    }
}

#[cfg(test)]
impl LogStore {
    pub(crate) fn inner_for_tests(&self) -> &Inner {
        &self.inner
    }
}

impl Inner {
    pub(crate) fn open(config: &StoreConfig) -> Result<(Inner, Mark, Opened), StoreError> {
        let log = Log::open(&config.dir)?;
        let belongs = |mark: &Mark| log.has(mark);
        let (index, indexed, rebuilt) = Index::open(&config.dir.join("index"), config.overlay, &belongs)?;
        let (mark, cut) = log.recover(&indexed)?;
        let caught_up = catch_up(&log, &index, &indexed, &mark)?;
        let inner = Inner {
            log: Arc::new(log),
            index,
            cache: Cache::new(),
            listings: Listings::default(),
            end: AtomicU64::new(mark.end),
            commits: AtomicU64::new(0),
            frames: AtomicU64::new(mark.seq),
            removals: AtomicU64::new(0),
            damaged: AtomicU64::new(0),
            trouble: Mutex::new(None),
        };
        inner.gather_listings();
        Ok((inner, mark, Opened { cut, rebuilt, caught_up, frames: mark.seq }))
    }
}

impl Store for LogStore {
    fn submit(&self, write: Write) -> Result<(), StoreError> {
        let write = match write {
            Write::Takedown { id, mut reason, at, reply } => {
                reason.truncate(reason.floor_char_boundary(REASON_MAX));
                Write::Takedown { id, reason, at, reply }
            }
            write => write,
        };
        self.queue.push(write)
    }

    fn gather(&self) -> Gathering {
        Gathering::new(&self.queue)
    }

    fn known(&self, id: &[u8; 32]) -> Result<Option<Known>, StoreError> {
        let holding = self.inner.index.view().holding(id);
        Ok(holding.inspect_err(|why| drop(self.inner.index_failed(why)))?.map(|holding| holding.state))
    }

    fn query(&self, ask: Ask) -> Result<Box<dyn Cursor>, StoreError> {
        Ok(Box::new(LogCursor::new(self.inner.clone(), ask)))
    }

    fn items(&self, ask: Ask, now: Unix, max: usize) -> Result<Option<Vec<Item>>, StoreError> {
        query::items(&self.inner, ask, now, max).inspect_err(|why| drop(self.inner.index_failed(why)))
    }

    fn end(&self) -> u64 {
        self.inner.end.load(Ordering::Acquire)
    }

    fn fault(&self) -> Option<String> {
        self.inner.trouble().map(|(Trouble::Passing(why) | Trouble::Lasting(why))| why)
    }

    fn stats(&self) -> StoreStats {
        let (events, index_bytes) = self.inner.index.size();
        StoreStats {
            events,
            log_bytes: self.end(),
            index_bytes,
            frames: self.inner.frames.load(Ordering::Relaxed),
            commits: self.inner.commits.load(Ordering::Relaxed),
            damaged_reads: self.inner.damaged.load(Ordering::Relaxed),
        }
    }

    fn close(&self) {
        self.queue.close();
        let threads = std::mem::take(&mut *self.threads.lock().unwrap_or_else(PoisonError::into_inner));
        let Some(writer) = threads.writer else { return };
        let mut sound = writer.join().is_ok();
        if let Err(why) = self.inner.index.close() {
            tracing::error!(%why, "the index could not be written out: the next start reads more of the log again");
        }
        for thread in threads.index {
            sound &= thread.join().is_ok();
        }
        if !sound {
            tracing::error!("a thread of the store panicked");
        }
    }
}

impl Drop for LogStore {
    fn drop(&mut self) {
        self.close();
    }
}

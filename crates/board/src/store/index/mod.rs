//! The derived indexes: what an event is found by. Sorted runs on disk below, changes in memory above.
//!
//! The writer adds what a commit changed to an overlay in memory. When that is large it is frozen, written out in order as a run
//! ([`run`]), and a new one takes its place; runs of about the same size are merged in the background. So the disk only ever sees
//! long sequential writes, and readers see overlay, frozen overlay and runs as one ([`merge`]).
//!
//! Nothing here is the record. A file names the runs and how far into the log they go; what the log has behind that is read again
//! at start. Files are on disk before they are named, so neither a crash of the process nor of the machine costs more than that.

use std::collections::HashSet;
use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use units::Unix;

use super::StoreError;
use super::frame::Place;
use super::log::Mark;

mod edit;
pub(crate) mod keys;
pub(crate) mod merge;
mod overlay;
mod run;

pub(crate) use edit::Edit;
pub(crate) use keys::{By, Holding, Range, Row, Short, mark};
pub(crate) use overlay::Changes;

use keys::{Key, PointKey, Table, Value, address_point, damaged, id_key};
use merge::Rows;
use overlay::Overlay;
use run::{Blocks, Run, RunWriter};

use super::AddressKey;

/// Version of keys, values and files. Another one found on disk is rebuilt.
const SCHEMA: u32 = 6;
/// The writer waits for the disk when the overlay has so many times the entries at which it should have been written out.
const OVERLAYS_MAX: usize = 4;
/// Rows that are added to the overlay before readers get a turn.
const TURN: usize = 1024;
/// How long to wait before writing out is tried again after it failed.
const RETRY: Duration = Duration::from_secs(1);
/// The index is idle when nothing was written out for so long.
const IDLE_AFTER: Duration = Duration::from_secs(2);

/// What is on disk, as the file `manifest` has it.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Manifest {
    schema: u32,
    /// The log up to which the runs go.
    end: u64,
    last_at: u64,
    last_len: u32,
    seq: u64,
    chain: String,
    /// Events that are served.
    served: u64,
    /// Numbers of the runs, newest first.
    runs: Vec<u64>,
}

/// Everything that readers see, newest first.
struct Layers {
    active: Overlay,
    /// How far into the log `active` goes.
    mark: Mark,
    /// Events that are served.
    served: u64,
    frozen: Option<Arc<Frozen>>,
    runs: Vec<Arc<Run>>,
    /// How far into the log the runs go, and how many events are served by them.
    named: (Mark, u64),
}

/// An overlay that is being written out, and what [`Layers`] said when it was the active one.
struct Frozen {
    overlay: Overlay,
    mark: Mark,
    served: u64,
}

/// The state of writing out.
#[derive(Default)]
struct Work {
    /// Somebody waits for the overlay to be written out.
    wanted: bool,
    closing: bool,
    /// Why it could not be written last time.
    fault: Option<String>,
}

/// The indexes.
pub(crate) struct Index {
    dir: PathBuf,
    /// An overlay of so many entries is written out.
    overlay: usize,
    layers: RwLock<Layers>,
    cache: Blocks,
    work: Mutex<Work>,
    /// Rings for the threads that write out and merge.
    called: Condvar,
    /// Rings when something was written out, or could not be.
    written: Condvar,
    /// One at a time changes the list of runs and the file that names them.
    naming: Mutex<()>,
    next: AtomicU64,
    stop: AtomicBool,
    distrusted: AtomicBool,
    /// Few boards have anybody who vanished: the rest need not look for each author.
    vanished: AtomicBool,
}

/// What the indexes say at one moment. The writer waits while there is one.
pub(crate) struct View<'a> {
    index: &'a Index,
    layers: RwLockReadGuard<'a, Layers>,
}

impl Index {
    /// Opens the index in `dir`; it is written out whenever `overlay` entries have gathered in memory. `belongs` says whether a mark is one of this log. If the index is missing, damaged, of another
    /// schema or not of this log, an empty one takes its place and the reason is given. Also gives how far it goes.
    pub(crate) fn open(
        dir: &Path,
        overlay: usize,
        belongs: &dyn Fn(&Mark) -> bool,
    ) -> Result<(Index, Mark, Option<&'static str>), StoreError> {
        fs::create_dir_all(dir)?;
        let why = match Index::open_as_is(dir, overlay) {
            Ok((index, mark)) if belongs(&mark) => {
                index.sweep_files()?;
                let key = keys::somebody_vanished();
                let found = index.view().rows((key, true), key).and_then(|mut rows| Ok(rows.next()?.is_some()));
                index.vanished.store(found.unwrap_or(true), Ordering::Relaxed);
                return Ok((index, mark, None));
            }
            Ok(_) => "it is not of this log, or ahead of it",
            Err(StoreError::Io(why)) if why.kind() == io::ErrorKind::NotFound => "there is none",
            Err(StoreError::IndexDamaged(why)) => why,
            Err(StoreError::Io(why)) => return Err(why.into()),
            Err(_) => "it cannot be read",
        };
        match fs::remove_file(dir.join("manifest")) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e.into()),
            _ => {}
        }
        let index = Index::with(dir, overlay, Mark::START, 0, Vec::new());
        index.sweep_files()?;
        Ok((index, Mark::START, Some(why)))
    }

    fn open_as_is(dir: &Path, overlay: usize) -> Result<(Index, Mark), StoreError> {
        let manifest = fs::read(dir.join("manifest"))?;
        let manifest: Manifest =
            serde_json::from_slice(&manifest).map_err(|_| damaged("its manifest cannot be read"))?;
        if manifest.schema != SCHEMA {
            return Err(damaged("it is of another schema"));
        }
        let mark = Mark {
            end: manifest.end,
            last: Place { at: manifest.last_at, len: manifest.last_len },
            seq: manifest.seq,
            chain: wire::parse_hex(&manifest.chain, "chain").map_err(|_| damaged("its manifest cannot be read"))?,
        };
        let open = |number: &u64| Ok(Arc::new(Run::open(dir, *number)?));
        let runs = manifest.runs.iter().map(open).collect::<Result<Vec<_>, StoreError>>()?;
        Ok((Index::with(dir, overlay, mark, manifest.served, runs), mark))
    }

    fn with(dir: &Path, overlay: usize, mark: Mark, served: u64, runs: Vec<Arc<Run>>) -> Index {
        let next = runs.iter().map(|run| run.number + 1).max().unwrap_or(1);
        let layers = Layers { active: Overlay::default(), mark, served, frozen: None, runs, named: (mark, served) };
        Index {
            dir: dir.to_owned(),
            overlay,
            layers: RwLock::new(layers),
            cache: Blocks::new(),
            work: Mutex::default(),
            called: Condvar::new(),
            written: Condvar::new(),
            naming: Mutex::new(()),
            next: AtomicU64::new(next),
            stop: AtomicBool::new(false),
            distrusted: AtomicBool::new(false),
            vanished: AtomicBool::new(false),
        }
    }

    /// Removes files that nothing names: a run that was not finished, one that was merged, an index of another make.
    fn sweep_files(&self) -> io::Result<()> {
        let named: Vec<PathBuf> = self.read().runs.iter().map(|run| run::path(&self.dir, run.number)).collect();
        for entry in fs::read_dir(&self.dir)? {
            let path = entry?.path();
            if path.file_name() != Some("manifest".as_ref()) && !named.contains(&path) && path.is_file() {
                fs::remove_file(path)?;
            }
        }
        Ok(())
    }

    fn read(&self) -> RwLockReadGuard<'_, Layers> {
        self.layers.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Layers> {
        self.layers.write().unwrap_or_else(PoisonError::into_inner)
    }

    fn work(&self) -> MutexGuard<'_, Work> {
        self.work.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What the indexes say now.
    pub(crate) fn view(&self) -> View<'_> {
        View { index: self, layers: self.read() }
    }

    /// Rows of a range with their whole ids, as [`merge::each`] gives them; stops when `take` says false. That may be all there are,
    /// so nobody is kept waiting meanwhile but while the part that changes is copied.
    pub(crate) fn rows_and_ids(
        &self,
        range: &Range<'_>,
        mut take: impl FnMut(Row, [u8; 32]) -> bool,
    ) -> Result<(), StoreError> {
        let (low, high) = (range.low(), range.high());
        if low.0 > high {
            return Ok(());
        }
        let (active, frozen, runs) = {
            let layers = self.read();
            let active: Vec<_> = layers.active.range(low, high).map(|(key, value)| (*key, *value)).collect();
            (active, layers.frozen.clone(), layers.runs.clone())
        };
        let frozen =
            frozen.iter().flat_map(|frozen| frozen.overlay.range(low, high)).map(|(key, value)| (*key, *value));
        merge::each(active.into_iter().chain(frozen), &runs, low, high, |key, value| {
            Ok(take(Row::read(range.by, key.bytes(), value)?, keys::whole_id(range.by, key.bytes())?))
        })
    }

    /// Whether there is anybody who asked to vanish.
    fn anybody_vanished(&self) -> bool {
        self.vanished.load(Ordering::Relaxed)
    }

    /// Somebody asks to vanish.
    fn somebody_vanished(&self) {
        self.vanished.store(true, Ordering::Relaxed);
    }

    /// Adds what was committed to the log up to `mark`. Readers may see some rows before the others. Points come last and together
    /// with the mark, so that an overlay frozen in between is made whole by reading the log again.
    pub(crate) fn apply(&self, changes: Changes, mark: Mark) {
        for rows in changes.rows.chunks(TURN) {
            self.write().active.add_rows(rows);
        }
        let mut layers = self.write();
        layers.active.add_points(changes.points);
        layers.served = layers.served.saturating_add_signed(changes.served);
        layers.mark = mark;
        if layers.active.len() >= self.overlay {
            drop(layers);
            self.work().wanted = true;
            self.called.notify_all();
        }
    }

    /// Waits until there is room for more changes. Gives why there is none if the disk takes no more.
    pub(crate) fn room(&self) -> Result<(), String> {
        let full = || self.read().active.len() >= OVERLAYS_MAX * self.overlay;
        if !full() {
            return Ok(());
        }
        let mut work = self.work();
        loop {
            if let Some(why) = &work.fault {
                return Err(why.clone());
            }
            if !full() {
                return Ok(());
            }
            work.wanted = true;
            self.called.notify_all();
            work = self.written.wait_timeout(work, RETRY).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Writes overlays out as runs until [`Index::close`]: the work of one thread.
    pub(crate) fn write_out(&self) {
        loop {
            let mut work = self.work();
            while !work.wanted && !work.closing {
                work = self.called.wait(work).unwrap_or_else(PoisonError::into_inner);
            }
            if work.closing {
                return;
            }
            work.wanted = false;
            drop(work);
            let done = self.flush();
            let failed = done.is_err();
            self.work().fault = done.err().map(|why| {
                tracing::error!(%why, "the index cannot be written");
                format!("the board's disk takes no more: {why}")
            });
            self.written.notify_all();
            if failed {
                let work = self.work();
                let waited = self.called.wait_timeout_while(work, RETRY, |work| !work.closing);
                waited.unwrap_or_else(PoisonError::into_inner).0.wanted = true;
            }
        }
    }

    /// Merges runs until [`Index::close`]: the work of one thread.
    pub(crate) fn merge_runs(&self) {
        let mut pace = merge::BUSY;
        while !self.stop.load(Ordering::Relaxed) {
            let merged = self.merge_once(pace);
            if let Err(why) = &merged {
                tracing::error!(%why, "runs of the index cannot be merged");
            }
            let pause = if merged.is_err() { 10 * RETRY } else { IDLE_AFTER };
            let work = self.work();
            if matches!(merged, Ok(true)) || work.closing {
                continue;
            }
            let waited = self.written.wait_timeout(work, pause).unwrap_or_else(PoisonError::into_inner);
            pace = if waited.1.timed_out() { merge::IDLE } else { merge::BUSY };
        }
    }

    /// Merges what is due, if anything is.
    pub(crate) fn merge_once(&self, pace: merge::Pace) -> Result<bool, StoreError> {
        let runs = self.read().runs.clone();
        let Some(range) = merge::due(&runs, pace) else { return Ok(false) };
        let merged = &runs[range.clone()];
        let bottom = range.end == runs.len();
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let stop = || self.stop.load(Ordering::Relaxed);
        let made = merge::merge(&self.dir, number, merged, bottom, &stop);
        let run = match made {
            Ok(Some(run)) => Arc::new(run),
            // What was written of it is removed at the next start at the latest.
            Ok(None) => return Ok(false),
            Err(why) => return Err(why),
        };
        let naming = self.naming.lock().unwrap_or_else(PoisonError::into_inner);
        let (after, (mark, served)) = {
            let layers = self.read();
            // Only newer runs can have come meanwhile.
            let from = layers.runs.len() - runs.len() + range.start;
            let mut after = layers.runs.clone();
            after.splice(from..from + range.len(), [run]);
            (after, layers.named)
        };
        self.name(&mark, served, &after)?;
        self.write().runs = after;
        drop(naming);
        merged.iter().for_each(|run| run.doom());
        Ok(true)
    }

    /// Writes what is in memory out as a run.
    pub(crate) fn flush(&self) -> Result<(), StoreError> {
        let naming = self.naming.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(frozen) = self.freeze() else { return Ok(()) };
        let points = frozen.overlay.points() as u64;
        let mut out = RunWriter::create(&self.dir, self.next.fetch_add(1, Ordering::Relaxed), points)?;
        for (key, value) in frozen.overlay.sorted() {
            out.push(&key, value.as_ref().map(Value::bytes))?;
        }
        let mut runs = self.read().runs.clone();
        runs.insert(0, Arc::new(out.finish()?));
        self.name(&frozen.mark, frozen.served, &runs)?;
        let mut layers = self.write();
        layers.runs = runs;
        layers.frozen = None;
        layers.named = (frozen.mark, frozen.served);
        drop((layers, naming));
        Ok(())
    }

    /// The overlay to write out: the one that could not be written last time, else the active one.
    fn freeze(&self) -> Option<Arc<Frozen>> {
        let mut layers = self.write();
        if layers.frozen.is_none() && layers.active.len() > 0 {
            let overlay = std::mem::take(&mut layers.active);
            layers.frozen = Some(Arc::new(Frozen { overlay, mark: layers.mark, served: layers.served }));
        }
        layers.frozen.clone()
    }

    /// Writes the file that names the runs, and puts it on disk.
    fn name(&self, mark: &Mark, served: u64, runs: &[Arc<Run>]) -> Result<(), StoreError> {
        if self.distrusted.load(Ordering::Relaxed) {
            return Err(damaged("it is damaged and will be rebuilt at the next start"));
        }
        let manifest = Manifest {
            schema: SCHEMA,
            end: mark.end,
            last_at: mark.last.at,
            last_len: mark.last.len,
            seq: mark.seq,
            chain: units::hex32(&mark.chain),
            served,
            runs: runs.iter().map(|run| run.number).collect(),
        };
        let text = serde_json::to_vec_pretty(&manifest).map_err(io::Error::other)?;
        let path = self.dir.join("manifest.new");
        let mut file = fs::File::create(&path)?;
        file.write_all(&text)?;
        file.sync_all()?;
        fs::rename(&path, self.dir.join("manifest"))?;
        Ok(fs::File::open(&self.dir)?.sync_all()?)
    }

    /// The index holds something that it never wrote: the next start builds a new one.
    pub(crate) fn distrust(&self) {
        if !self.distrusted.swap(true, Ordering::Relaxed)
            && let Err(why) = fs::remove_file(self.dir.join("manifest"))
        {
            tracing::error!(%why, "a damaged index could not be set aside");
        }
    }

    /// Writes everything out and lets the threads of [`Index::write_out`] and [`Index::merge_runs`] end.
    pub(crate) fn close(&self) -> Result<(), StoreError> {
        self.stop.store(true, Ordering::Relaxed);
        self.work().closing = true;
        self.called.notify_all();
        self.written.notify_all();
        // What could not be written before goes first, then what came since.
        self.flush()?;
        self.flush()
    }

    /// Events that are served, and bytes of the files.
    pub(crate) fn size(&self) -> (u64, u64) {
        let layers = self.read();
        (layers.served, layers.runs.iter().map(|run| run.bytes).sum())
    }

    /// All that is in the index, for tests that compare one that was caught up with one that was rebuilt.
    #[cfg(test)]
    pub(crate) fn dump(&self) -> Vec<(Vec<u8>, Vec<u8>)> {
        self.flush().unwrap();
        self.flush().unwrap();
        let runs = self.read().runs.clone();
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let all = Arc::new(merge::merge(&self.dir, number, &runs, true, &|| false).unwrap().unwrap());
        all.doom();
        let mut stream = all.stream();
        let mut entries = Vec::new();
        while stream.advance().unwrap() {
            entries.push((stream.key().bytes().to_vec(), stream.value().unwrap().to_vec()));
        }
        entries
    }
}

impl View<'_> {
    fn point(&self, key: &PointKey) -> Result<Option<Value>, StoreError> {
        let layers = &self.layers;
        let frozen = || layers.frozen.as_ref().and_then(|frozen| frozen.overlay.point(key));
        if let Some(value) = layers.active.point(key).or_else(frozen) {
            return Ok(Some(value));
        }
        for run in &layers.runs {
            if let Some(value) = run.point(key, &self.index.cache)? {
                return Ok(Some(value));
            }
        }
        Ok(None)
    }

    fn rows(&self, low: (Key, bool), high: Key) -> Result<Rows<'_>, StoreError> {
        let layers = &self.layers;
        let mut rows = Rows::new(high, &self.index.cache);
        if low.0 > high {
            return Ok(rows);
        }
        rows.add_overlay(layers.active.range(low, high));
        if let Some(frozen) = &layers.frozen {
            rows.add_overlay(frozen.overlay.range(low, high));
        }
        for run in &layers.runs {
            rows.add_run(run.walk(low, &self.index.cache)?);
        }
        Ok(rows)
    }

    /// What is known of an id.
    pub(crate) fn holding(&self, id: &[u8; 32]) -> Result<Option<Holding>, StoreError> {
        self.point(&id_key(id))?.map(|value| Holding::read(value.bytes())).transpose()
    }

    /// Up to when versions of this address are deleted.
    pub(crate) fn gone_until(&self, address: &AddressKey) -> Result<Option<u64>, StoreError> {
        let value = self.point(&address_point(Table::GoneAddress, address))?;
        value.map(|value| keys::seconds(value.bytes())).transpose()
    }

    /// Up to when all that an author published is deleted (NIP-62).
    pub(crate) fn vanished_until(&self, author: &[u8; 32]) -> Result<Option<u64>, StoreError> {
        if !self.index.anybody_vanished() {
            return Ok(None);
        }
        self.point(&keys::vanished_key(author))?.map(|value| keys::seconds(value.bytes())).transpose()
    }

    /// Looks at up to `max` rows of a range, newest first. Gives them to `take`, and says whether there may be more.
    pub(crate) fn scan(&self, range: &Range<'_>, max: usize, mut take: impl FnMut(Row)) -> Result<bool, StoreError> {
        let mut rows = self.rows(range.low(), range.high())?;
        for _ in 0..max {
            let Some((key, value)) = rows.next()? else { return Ok(false) };
            take(Row::read(range.by, key.bytes(), value)?);
        }
        Ok(true)
    }

    /// Positions of events that have expired by `now` and are still in the indexes.
    pub(crate) fn expired(&self, now: Unix) -> Result<HashSet<u64>, StoreError> {
        let (low, high) = keys::expired_by(now);
        let mut rows = self.rows((low, true), high)?;
        let mut expired = HashSet::new();
        while let Some((key, value)) = rows.next()? {
            expired.insert(keys::expiry_place(key.bytes(), value)?.at);
        }
        Ok(expired)
    }
}

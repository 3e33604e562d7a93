//! The append-only log: segment files of frames, read by position, appended by one writer, cut back to whole batches at start.
//!
//! A position counts bytes over all segments, their headers included, so that a frame's position never changes. A segment is
//! the file `<position of its first byte, 20 digits>.log` and starts with (integers little-endian)
//!
//! ```text
//! offset size
//!      0    8  "SOUKLOG2"
//!      8    8  position of this byte 0
//!     16    8  sequence number of its first frame
//!     24   32  chain before its first frame
//!     56    4  CRC-32C of bytes 0..56
//!     60    4  zero
//! ```
//!
//! Behind its frames the last segment may hold zeros, to be written over: when a file does not grow, `fdatasync` has no
//! metadata to write, and takes half as long.

use std::cell::Cell;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};

use super::frame::{BadFrame, Batch, Frame, GENESIS, HEADER, MAGIC, PAYLOAD_MAX, Place, length};
use super::{Encoded, disk};

const SEGMENT_MAGIC: &[u8; 8] = b"SOUKLOG2";
/// Bytes before a segment's first frame.
const SEGMENT_HEADER: usize = 64;
/// How much of a segment is read at a time when it is walked.
const WALK_CHUNK: usize = 1 << 20;
/// So many zeros are written behind a batch that does not fit into those that are there.
const AHEAD: u64 = 1 << 20;
/// Longer frames are read into a buffer of their own.
const BUFFER_MAX: usize = 64 * 1024;

thread_local! {
    /// Where single frames are read.
    static BUFFER: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

static ZEROS: [u8; 1 << 16] = [0; 1 << 16];

/// The log cannot be used as it is.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The system refused.
    #[error("{path}: {source}")]
    Io {
        /// What it was about.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Somebody else has it open.
    #[error("{0} is in use by another board")]
    Locked(PathBuf),
    /// Acknowledged frames are damaged: nothing is cut, because that would lose what was promised to be kept.
    #[error(
        "the log is damaged at position {at} ({why}) and goes on behind it: restore {path} from a backup or a peer"
    )]
    Damaged {
        /// Position of the damage.
        at: u64,
        /// Segment that holds it.
        path: PathBuf,
        /// What is wrong with it.
        why: BadFrame,
    },
}

fn io_error(path: &Path) -> impl FnOnce(io::Error) -> LogError + '_ {
    move |source| LogError::Io { path: path.to_owned(), source }
}

/// How far the log goes, or went when an index was last brought up to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Mark {
    /// Position behind the last frame.
    pub(crate) end: u64,
    /// Where the last frame stands; of no length before the first.
    pub(crate) last: Place,
    /// Sequence number of the next frame.
    pub(crate) seq: u64,
    /// Chain of the last frame.
    pub(crate) chain: [u8; 32],
}

impl Mark {
    /// Before the first frame.
    pub(crate) const START: Mark =
        Mark { end: SEGMENT_HEADER as u64, last: Place { at: 0, len: 0 }, seq: 0, chain: GENESIS };
}

/// What was cut off the end of the log at start: the leavings of a batch that was never acknowledged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cut {
    /// Position at which the log ends now.
    pub at: u64,
    /// Bytes cut.
    pub bytes: u64,
    /// Whole frames among them; their batch was not complete.
    pub frames: u64,
    /// Why reading stopped; `None` when the frames were whole and only their batch was not.
    pub why: Option<BadFrame>,
    /// Where the bytes were put.
    pub saved: PathBuf,
}

#[derive(Debug)]
struct Segment {
    base: u64,
    path: PathBuf,
    file: File,
}

impl Segment {
    fn len(&self) -> Result<u64, LogError> {
        self.file.metadata().map(|m| m.len()).map_err(io_error(&self.path))
    }

    /// Where the zeros begin with which the file ends; not before `from`.
    fn zeros(&self, from: u64) -> Result<u64, LogError> {
        let mut end = self.len()?;
        let mut chunk = vec![0; WALK_CHUNK];
        while end > from {
            let start = from.max(end.saturating_sub(WALK_CHUNK as u64));
            let part = &mut chunk[..(end - start) as usize];
            self.file.read_exact_at(part, start).map_err(io_error(&self.path))?;
            if let Some(last) = part.iter().rposition(|byte| *byte != 0) {
                return Ok(start + last as u64 + 1);
            }
            end = start;
        }
        Ok(from)
    }
}

/// The log as readers see it. Any number of threads may read.
#[derive(Debug)]
pub(crate) struct Log {
    dir: PathBuf,
    segments: RwLock<Vec<Arc<Segment>>>,
    _lock: File,
}

fn segment_header(mark: &Mark, base: u64) -> [u8; SEGMENT_HEADER] {
    let mut head = [0; SEGMENT_HEADER];
    head[..8].copy_from_slice(SEGMENT_MAGIC);
    head[8..16].copy_from_slice(&base.to_le_bytes());
    head[16..24].copy_from_slice(&mark.seq.to_le_bytes());
    head[24..56].copy_from_slice(&mark.chain);
    let crc = crc32c::crc32c(&head[..56]);
    head[56..60].copy_from_slice(&crc.to_le_bytes());
    head
}

fn sound_header(file: &File, base: u64) -> bool {
    let mut head = [0; SEGMENT_HEADER];
    if file.read_exact_at(&mut head, 0).is_err() {
        return false;
    }
    let crc = crc32c::crc32c(&head[..56]);
    head[..8] == *SEGMENT_MAGIC && head[8..16] == base.to_le_bytes() && head[56..60] == crc.to_le_bytes()
}

fn sync_dir(dir: &Path) -> Result<(), LogError> {
    File::open(dir).and_then(|d| d.sync_all()).map_err(io_error(dir))
}

fn create_segment(dir: &Path, mark: &Mark, base: u64) -> Result<Segment, LogError> {
    let path = dir.join(format!("{base:020}.log"));
    let made = OpenOptions::new().read(true).write(true).create(true).truncate(true).open(&path);
    let file = made.map_err(io_error(&path))?;
    let written = file.write_all_at(&segment_header(mark, base), 0).and_then(|()| file.sync_all());
    if let Err(source) = written {
        // A torn header at the end is set aside at start; better not to leave one at all.
        fs::remove_file(&path).map_err(io_error(&path))?;
        return Err(LogError::Io { path, source });
    }
    sync_dir(dir)?;
    Ok(Segment { base, path, file })
}

/// Where a walk over frames ended.
struct Walked {
    /// Behind the last closed batch.
    closed: Mark,
    /// Whole frames behind it.
    open: u64,
    /// First position that holds no frame, why, and the batch that it would have belonged to.
    bad: Option<(u64, BadFrame, u64)>,
}

impl Log {
    /// Opens the log in `dir`, makes it if there is none, and checks how its segments join. Frames are not read yet.
    pub(crate) fn open(dir: &Path) -> Result<Log, LogError> {
        fs::create_dir_all(dir).map_err(io_error(dir))?;
        let path = dir.join("lock");
        let lock = OpenOptions::new().write(true).create(true).truncate(false).open(&path).map_err(io_error(&path))?;
        lock.try_lock().map_err(|_| LogError::Locked(dir.to_owned()))?;
        let mut bases = Vec::new();
        for entry in fs::read_dir(dir).map_err(io_error(dir))? {
            let name = entry.map_err(io_error(dir))?.file_name();
            let base = name.to_str().and_then(|n| n.strip_suffix(".log")).filter(|n| n.len() == 20);
            bases.extend(base.and_then(|n| n.parse::<u64>().ok()));
        }
        bases.sort_unstable();
        let mut segments: Vec<Arc<Segment>> = Vec::new();
        for (i, base) in bases.iter().copied().enumerate() {
            let path = dir.join(format!("{base:020}.log"));
            let file = OpenOptions::new().read(true).write(true).open(&path).map_err(io_error(&path))?;
            let joins = match segments.last() {
                Some(before) => before.base + before.len()? == base,
                None => base == 0,
            };
            if sound_header(&file, base) && joins {
                segments.push(Arc::new(Segment { base, path, file }));
            } else if i > 0 && i + 1 == bases.len() && file.metadata().is_ok_and(|m| m.len() <= SEGMENT_HEADER as u64) {
                // The last thing that happened was the making of this segment, and it was not finished.
                fs::rename(&path, path.with_extension("cut")).map_err(io_error(&path))?;
                sync_dir(dir)?;
            } else {
                return Err(LogError::Damaged { at: base, path, why: BadFrame::Header });
            }
        }
        if segments.is_empty() {
            segments.push(Arc::new(create_segment(dir, &Mark::START, 0)?));
        }
        Ok(Log { dir: dir.to_owned(), segments: RwLock::new(segments), _lock: lock })
    }

    fn segments(&self) -> Vec<Arc<Segment>> {
        self.segments.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn segment_at(&self, position: u64) -> Option<Arc<Segment>> {
        let segments = self.segments.read().unwrap_or_else(PoisonError::into_inner);
        let after = segments.partition_point(|s| s.base <= position);
        segments.get(after.checked_sub(1)?).cloned()
    }

    /// The frame at `place`, its checksum checked, handed to `take`.
    fn frame<T>(&self, place: Place, take: impl FnOnce(Frame<'_>) -> Result<T, BadFrame>) -> Result<T, LogError> {
        let segment = self.segment_at(place.at).ok_or_else(|| LogError::Damaged {
            at: place.at,
            path: self.dir.clone(),
            why: BadFrame::Short,
        })?;
        let damaged = |why| LogError::Damaged { at: place.at, path: segment.path.clone(), why };
        let len = place.len as usize;
        let mut buffer = BUFFER.take();
        if buffer.len() < len {
            buffer.resize(len, 0);
        }
        let bytes = &mut buffer[..len];
        let taken = match disk::read_exact_at(&segment.file, bytes, place.at - segment.base) {
            Ok(()) => Frame::read(bytes).and_then(take).map_err(damaged),
            Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => Err(damaged(BadFrame::Short)),
            Err(source) => Err(LogError::Io { path: segment.path.clone(), source }),
        };
        if len <= BUFFER_MAX {
            BUFFER.set(buffer);
        }
        taken
    }

    /// The event in the frame at `place`.
    pub(crate) fn event(&self, place: Place) -> Result<Encoded, LogError> {
        self.frame(place, |frame| frame.event())
    }

    /// The same, in the place of another event and in its room.
    pub(crate) fn event_into(&self, place: Place, event: &mut Encoded) -> Result<(), LogError> {
        self.frame(place, |frame| frame.event_into(event))
    }

    /// This log once ended at `mark`: an index that was brought up to there belongs to it.
    pub(crate) fn has(&self, mark: &Mark) -> bool {
        if mark.seq == 0 {
            return *mark == Mark::START;
        }
        let check = |frame: Frame<'_>| Ok(frame.chain == mark.chain && frame.seq + 1 == mark.seq);
        mark.last.len as usize <= HEADER + PAYLOAD_MAX && self.frame(mark.last, check).unwrap_or(false)
    }

    /// Reads every frame behind `from`, checks checksum, order and chain, and shows it to `visit` with its place.
    fn walk<E: From<LogError>>(
        &self,
        from: &Mark,
        visit: &mut dyn FnMut(&Frame<'_>, Place) -> Result<(), E>,
    ) -> Result<Walked, E> {
        let mut walked = Walked { closed: *from, open: 0, bad: None };
        let mut mark = *from;
        let segments = self.segments();
        let first = segments.partition_point(|s| s.base <= from.end).saturating_sub(1);
        for (i, segment) in segments.iter().enumerate().skip(first) {
            mark.end = mark.end.max(segment.base + SEGMENT_HEADER as u64);
            if walked.open == 0 {
                walked.closed.end = mark.end;
            }
            let mut chunk = Chunk { segment, bytes: Vec::new(), from: mark.end - segment.base, used: 0 };
            loop {
                let at = mark.end - segment.base;
                let read = chunk.frame()?;
                let frame = match read {
                    Ok(Some(frame)) if frame.seq == mark.seq && frame.follows(&mark.chain) => frame,
                    Ok(None) => break,
                    Err(_) if i + 1 == segments.len() && segment.zeros(at)? == at => break,
                    bad => {
                        let why = bad.err().unwrap_or(BadFrame::Chain);
                        if i + 1 < segments.len() {
                            return Err(LogError::Damaged { at: mark.end, path: segment.path.clone(), why }.into());
                        }
                        let batch = if walked.open == 0 { mark.seq } else { walked.closed.seq };
                        walked.bad = Some((mark.end, why, batch));
                        return Ok(walked);
                    }
                };
                let place = Place { at: mark.end, len: frame.len() as u32 };
                visit(&frame, place)?;
                let end = place.at + frame.len() as u64;
                mark = Mark { end, last: place, seq: mark.seq + 1, chain: frame.chain };
                walked.open += 1;
                if frame.left == 0 {
                    walked.closed = mark;
                    walked.open = 0;
                }
                let len = frame.len();
                chunk.used += len;
            }
        }
        Ok(walked)
    }

    /// Checks all that stands behind `from` and cuts off what was never acknowledged. Gives where the log ends now.
    pub(crate) fn recover(&self, from: &Mark) -> Result<(Mark, Option<Cut>), LogError> {
        let walked = self.walk::<LogError>(from, &mut |_, _| Ok(()))?;
        let segments = self.segments();
        let Some(last) = segments.last() else { return Ok((walked.closed, None)) };
        let end = last.base + last.zeros(walked.closed.end - last.base)?;
        if let Some((at, why, batch)) = walked.bad
            && goes_on_behind(last, at, batch)?
        {
            return Err(LogError::Damaged { at, path: last.path.clone(), why });
        }
        if end == walked.closed.end {
            return Ok((walked.closed, None));
        }
        let at = walked.closed.end;
        let mut bytes = vec![0; usize::try_from(end - at).unwrap_or(usize::MAX)];
        last.file.read_exact_at(&mut bytes, at - last.base).map_err(io_error(&last.path))?;
        let saved = self.dir.join(format!("{at:020}.cut"));
        fs::write(&saved, &bytes).map_err(io_error(&saved))?;
        last.file.set_len(at - last.base).and_then(|()| last.file.sync_all()).map_err(io_error(&last.path))?;
        let why = walked.bad.map(|(_, why, _)| why);
        Ok((walked.closed, Some(Cut { at, bytes: end - at, frames: walked.open, why, saved })))
    }

    /// Shows every frame behind `from` to `visit`. Only after [`Log::recover`]: by then all batches are closed.
    pub(crate) fn replay<E: From<LogError>>(
        &self,
        from: &Mark,
        visit: &mut dyn FnMut(&Frame<'_>, Place) -> Result<(), E>,
    ) -> Result<Mark, E> {
        let walked = self.walk(from, visit)?;
        match (walked.bad, self.segments().last()) {
            (Some((at, why, _)), Some(last)) => Err(LogError::Damaged { at, path: last.path.clone(), why }.into()),
            _ => Ok(walked.closed),
        }
    }
}

/// Behind the damage at `at` stands a frame of a batch later than `batch`. A batch is written only after the one before it is
/// on disk, so the damaged frame was acknowledged and this is rot, not a tear.
fn goes_on_behind(segment: &Segment, at: u64, batch: u64) -> Result<bool, LogError> {
    let from = at - segment.base;
    let len = usize::try_from(segment.len()?.saturating_sub(from)).unwrap_or(usize::MAX);
    let mut bytes = vec![0; len];
    segment.file.read_exact_at(&mut bytes, from).map_err(io_error(&segment.path))?;
    let found = memchr::memmem::find_iter(&bytes, &MAGIC)
        .any(|start| Frame::read(&bytes[start..]).is_ok_and(|frame| frame.batch() > batch));
    Ok(found)
}

/// A segment read frame by frame, in large pieces.
struct Chunk<'s> {
    segment: &'s Segment,
    bytes: Vec<u8>,
    /// Offset in the file of `bytes[0]`.
    from: u64,
    /// Bytes that were consumed.
    used: usize,
}

impl Chunk<'_> {
    /// Makes at least `want` bytes available, or as many as there are. Gives how many.
    fn fill(&mut self, want: usize) -> Result<usize, LogError> {
        if self.bytes.len() - self.used >= want {
            return Ok(self.bytes.len() - self.used);
        }
        self.bytes.drain(..self.used);
        self.from += self.used as u64;
        self.used = 0;
        while self.bytes.len() < want {
            let at = self.bytes.len();
            self.bytes.resize(at + WALK_CHUNK.max(want - at), 0);
            let read = self.segment.file.read_at(&mut self.bytes[at..], self.from + at as u64);
            let read = read.map_err(io_error(&self.segment.path))?;
            self.bytes.truncate(at + read);
            if read == 0 {
                break;
            }
        }
        Ok(self.bytes.len())
    }

    /// The next frame; `None` at the end of the file.
    fn frame(&mut self) -> Result<Result<Option<Frame<'_>>, BadFrame>, LogError> {
        let have = self.fill(HEADER)?;
        if have == 0 {
            return Ok(Ok(None));
        }
        let len = match length(&self.bytes[self.used..]) {
            Ok(len) => len,
            Err(bad) => return Ok(Err(bad)),
        };
        if self.fill(len)? < len {
            return Ok(Err(BadFrame::Short));
        }
        Ok(Frame::read(&self.bytes[self.used..]).map(Some))
    }
}

/// A batch was not written.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AppendError {
    /// The log is as it was before; a later batch may fit.
    #[error("{0}")]
    Refused(io::Error),
    /// What is on disk is not known any more: nothing may be written again before a restart.
    #[error("{0}")]
    Broken(io::Error),
}

/// The one writer of the log.
pub(crate) struct Appender {
    log: Arc<Log>,
    mark: Mark,
    /// Position up to which the last segment's file goes: zeros behind [`Appender::mark`].
    written: u64,
    segment_max: u64,
    /// `fdatasync`; a test puts one here that fails.
    pub(crate) sync: fn(&File) -> io::Result<()>,
}

impl Appender {
    /// Appends behind `mark`, which is where [`Log::recover`] said that the log ends.
    pub(crate) fn new(log: Arc<Log>, mark: Mark, segment_max: u64) -> Appender {
        let last = log.segment_at(mark.end);
        let written = last.and_then(|last| Some(last.base + last.len().ok()?)).unwrap_or(mark.end);
        Appender { log, mark, written, segment_max, sync: File::sync_data }
    }

    /// Where the log ends.
    pub(crate) fn mark(&self) -> Mark {
        self.mark
    }

    fn segment(&self) -> io::Result<Arc<Segment>> {
        self.log.segment_at(self.mark.end).ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    /// An empty batch, in a new segment if the last one is full.
    pub(crate) fn batch(&mut self) -> Result<Batch, AppendError> {
        let full = |last: &Arc<Segment>| self.mark.end - last.base >= self.segment_max;
        if self.log.segments().last().is_some_and(full) {
            // A segment begins where the file of the one before it ends.
            self.trim().map_err(AppendError::Broken)?;
            let made = create_segment(&self.log.dir, &self.mark, self.mark.end);
            let made = made.map_err(|e| match e {
                LogError::Io { source, .. } => AppendError::Refused(source),
                other => AppendError::Broken(io::Error::other(other)),
            })?;
            self.mark.end = made.base + SEGMENT_HEADER as u64;
            self.written = self.mark.end;
            self.log.segments.write().unwrap_or_else(PoisonError::into_inner).push(Arc::new(made));
        }
        Ok(Batch::new(self.mark.end))
    }

    /// Writes the batch and waits until it is on disk. Gives where the log ends then.
    pub(crate) fn write(&mut self, batch: &mut Batch) -> Result<Mark, AppendError> {
        let frames = batch.frames() as u64;
        let last = batch.last();
        let (bytes, chain) = batch.seal(self.mark.seq, self.mark.chain);
        let after = Mark { end: self.mark.end + bytes.len() as u64, last, seq: self.mark.seq + frames, chain };
        let segment = self.segment().map_err(AppendError::Broken)?;
        match segment.file.write_all_at(bytes, self.mark.end - segment.base) {
            Ok(()) => {
                self.write_ahead(&segment, after.end);
                (self.sync)(&segment.file).map_err(AppendError::Broken)?;
            }
            Err(why) => {
                self.trim().map_err(AppendError::Broken)?;
                return Err(AppendError::Refused(why));
            }
        }
        self.mark = after;
        Ok(after)
    }

    /// Writes zeros behind a batch that ends at `end`, if there are none left. It is no matter if the disk takes none.
    fn write_ahead(&mut self, segment: &Segment, end: u64) {
        if end > self.written {
            self.written = end;
            self.extend(segment, (end + AHEAD).min(segment.base + self.segment_max));
        }
    }

    /// Writes zeros up to this position. True when they are all there.
    fn extend(&mut self, segment: &Segment, until: u64) -> bool {
        while self.written < until {
            let zeros = &ZEROS[..ZEROS.len().min((until - self.written) as usize)];
            match segment.file.write_at(zeros, self.written - segment.base) {
                Ok(written @ 1..) => self.written += written as u64,
                Ok(0) | Err(_) => return false,
            }
        }
        true
    }

    /// Whether a disk that took no more takes [`AHEAD`] bytes again. They stay as zeros for the next batches.
    pub(crate) fn has_room(&mut self) -> Result<bool, AppendError> {
        match self.batch() {
            Ok(_) => {}
            Err(AppendError::Refused(_)) => return Ok(false),
            Err(broken) => return Err(broken),
        }
        let segment = self.segment().map_err(AppendError::Broken)?;
        let room = self.extend(&segment, self.mark.end + AHEAD);
        if !room {
            // What a full disk took of it is for others to have.
            self.trim().map_err(AppendError::Broken)?;
        }
        Ok(room)
    }

    /// Ends the last segment's file at [`Appender::mark`]: no zeros, and nothing of a batch that was not written whole.
    pub(crate) fn trim(&mut self) -> io::Result<()> {
        let segment = self.segment()?;
        if segment.file.metadata()?.len() > self.mark.end - segment.base {
            segment.file.set_len(self.mark.end - segment.base)?;
            (self.sync)(&segment.file)?;
        }
        self.written = self.mark.end;
        Ok(())
    }
}

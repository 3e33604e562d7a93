//! A run: one immutable file of sorted keys and values, written once from front to back and never changed.
//!
//! ```text
//! blocks    entries, each: bytes shared with the key before (1), further bytes of the key (1), length of the value + 1, or 0
//!           for a row that is gone (1), the key's further bytes, the value; then CRC-32C of the block (4, little-endian)
//! index     for each block: length of its first key (1), that key, length of the block (4)
//! filter    a Bloom filter over the points
//! footer    "SOUKRUN1", then, each 8 bytes: blocks, start of the index, start of the filter, entries, points, CRC-32C of index
//!           and filter; CRC-32C of the footer so far (4)
//! ```
//!
//! The file is on disk (`fsync`) before anything names it. A block is checked whenever it is read from the file.

use std::cmp::Ordering;
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{self, AtomicBool};
use std::sync::{Arc, Mutex, PoisonError};

use super::keys::{Key, PointKey, VALUE_MAX, Value, array, damaged};
use crate::store::{StoreError, disk};

/// A block that has so many bytes gets no more entries.
const BLOCK: usize = 2048;
/// Longest block that is believed.
const BLOCK_MAX: u32 = 8192;
const MAGIC: &[u8; 8] = b"SOUKRUN1";
const FOOTER: usize = 60;
/// Bits of the filter for each point: about one wrong guess in a hundred.
const BITS: u64 = 10;
/// Bits that are looked at for each point.
const PROBES: u64 = 6;
/// Blocks in memory, of all runs together: 32 MiB or so.
const CACHE_SLOTS: usize = 1 << 14;
/// How much of a run is read at a time when all of it is.
const STREAM: usize = 1 << 18;

/// Says of a point whether it may be in the run.
#[derive(Debug, Default)]
struct Bloom(Vec<u64>);

impl Bloom {
    fn for_points(points: u64) -> Bloom {
        Bloom(vec![0; usize::try_from((points * BITS).div_ceil(64)).unwrap_or(0)])
    }

    /// The key is 16 bytes of a hash already: its halves are the two hashes that make all others.
    fn bits(&self, key: &PointKey) -> impl Iterator<Item = (usize, u64)> + use<> {
        let (start, step) = (u64::from_le_bytes(array(key, 1)), u64::from_le_bytes(array(key, 9)) | 1);
        let len = self.0.len() as u64 * 64;
        (0..PROBES).map(move |i| {
            let bit = start.wrapping_add(step.wrapping_mul(i + 1)) % len;
            ((bit / 64) as usize, 1 << (bit % 64))
        })
    }

    fn add(&mut self, key: &PointKey) {
        if !self.0.is_empty() {
            self.bits(key).for_each(|(word, bit)| self.0[word] |= bit);
        }
    }

    fn may_hold(&self, key: &PointKey) -> bool {
        !self.0.is_empty() && self.bits(key).all(|(word, bit)| self.0[word] & bit != 0)
    }
}

/// Where blocks are and what they start with.
#[derive(Debug, Default)]
struct Fence {
    keys: Vec<u8>,
    /// End of a block's first key in `keys`, and of the block in the file.
    blocks: Vec<(u32, u64)>,
}

impl Fence {
    fn push(&mut self, key: &[u8], block: u64) {
        self.keys.extend_from_slice(key);
        let end = self.blocks.last().map_or(0, |(_, end)| *end) + block;
        self.blocks.push((self.keys.len() as u32, end));
    }

    fn key(&self, block: usize) -> &[u8] {
        let from = if block == 0 { 0 } else { self.blocks[block - 1].0 as usize };
        &self.keys[from..self.blocks[block].0 as usize]
    }

    fn place(&self, block: usize) -> (u64, usize) {
        let from = if block == 0 { 0 } else { self.blocks[block - 1].1 };
        (from, (self.blocks[block].1 - from) as usize)
    }

    /// The last block that starts at or before `key`.
    fn block_of(&self, key: &[u8]) -> usize {
        let (mut low, mut high) = (0, self.blocks.len());
        while low < high {
            let middle = low + (high - low) / 2;
            if self.key(middle) <= key {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        low.saturating_sub(1)
    }
}

/// A run that is open for reading.
#[derive(Debug)]
pub(crate) struct Run {
    /// Its number; newer runs have higher ones.
    pub(crate) number: u64,
    /// Bytes of its file.
    pub(crate) bytes: u64,
    pub(crate) points: u64,
    file: File,
    path: PathBuf,
    fence: Fence,
    bloom: Bloom,
    /// Nothing names it any more: its file goes when the last reader has gone.
    doomed: AtomicBool,
}

/// The file of a run.
pub(crate) fn path(dir: &Path, number: u64) -> PathBuf {
    dir.join(format!("{number:016}.run"))
}

/// Writes a run.
pub(crate) struct RunWriter {
    out: BufWriter<File>,
    path: PathBuf,
    number: u64,
    block: Vec<u8>,
    first: Key,
    last: Key,
    fence: Fence,
    bloom: Bloom,
    entries: u64,
    points: u64,
}

impl RunWriter {
    /// Starts the run `number` in `dir`, with at most `points` points.
    pub(crate) fn create(dir: &Path, number: u64, points: u64) -> io::Result<RunWriter> {
        let path = path(dir, number);
        let file = File::options().read(true).write(true).create(true).truncate(true).open(&path)?;
        Ok(RunWriter {
            out: BufWriter::with_capacity(STREAM, file),
            path,
            number,
            block: Vec::with_capacity(2 * BLOCK),
            first: Key::EMPTY,
            last: Key::EMPTY,
            fence: Fence::default(),
            bloom: Bloom::for_points(points),
            entries: 0,
            points: 0,
        })
    }

    /// Adds an entry; its key is above all before it.
    pub(crate) fn push(&mut self, key: &Key, value: Option<&[u8]>) -> io::Result<()> {
        debug_assert!(self.entries == 0 || *key > self.last);
        let key_bytes = key.bytes();
        let shared = if self.block.is_empty() {
            self.first = *key;
            0
        } else {
            self.last.bytes().iter().zip(key_bytes).take_while(|(a, b)| a == b).count()
        };
        self.block.extend_from_slice(&[
            shared as u8,
            (key_bytes.len() - shared) as u8,
            value.map_or(0, |value| value.len() as u8 + 1),
        ]);
        self.block.extend_from_slice(&key_bytes[shared..]);
        self.block.extend_from_slice(value.unwrap_or_default());
        if let Ok(point) = PointKey::try_from(key_bytes)
            && value.is_some()
        {
            self.bloom.add(&point);
            self.points += 1;
        }
        self.last = *key;
        self.entries += 1;
        if self.block.len() >= BLOCK { self.end_block() } else { Ok(()) }
    }

    fn end_block(&mut self) -> io::Result<()> {
        let crc = crc32c::crc32c(&self.block);
        self.block.extend_from_slice(&crc.to_le_bytes());
        self.out.write_all(&self.block)?;
        self.fence.push(self.first.bytes(), self.block.len() as u64);
        self.block.clear();
        Ok(())
    }

    /// Puts the run on disk and opens it.
    pub(crate) fn finish(mut self) -> io::Result<Run> {
        if !self.block.is_empty() {
            self.end_block()?;
        }
        let index_at = self.fence.blocks.last().map_or(0, |(_, end)| *end);
        let mut tail = Vec::new();
        for block in 0..self.fence.blocks.len() {
            let key = self.fence.key(block);
            tail.push(key.len() as u8);
            tail.extend_from_slice(key);
            tail.extend_from_slice(&(self.fence.place(block).1 as u32).to_le_bytes());
        }
        let filter_at = index_at + tail.len() as u64;
        self.bloom.0.iter().for_each(|word| tail.extend_from_slice(&word.to_le_bytes()));
        let mut footer = MAGIC.to_vec();
        let crc = u64::from(crc32c::crc32c(&tail));
        for number in [self.fence.blocks.len() as u64, index_at, filter_at, self.entries, self.points, crc] {
            footer.extend_from_slice(&number.to_le_bytes());
        }
        footer.extend_from_slice(&crc32c::crc32c(&footer).to_le_bytes());
        self.out.write_all(&tail)?;
        self.out.write_all(&footer)?;
        let file = self.out.into_inner().map_err(io::IntoInnerError::into_error)?;
        file.sync_all()?;
        Ok(Run {
            number: self.number,
            bytes: filter_at + self.bloom.0.len() as u64 * 8 + FOOTER as u64,
            points: self.points,
            file,
            path: self.path,
            fence: self.fence,
            bloom: self.bloom,
            doomed: AtomicBool::new(false),
        })
    }
}

impl Run {
    /// Opens a run and checks everything but its blocks.
    pub(crate) fn open(dir: &Path, number: u64) -> Result<Run, StoreError> {
        let path = path(dir, number);
        let file = File::open(&path)?;
        let bytes = file.metadata()?.len();
        let footer_at = bytes.checked_sub(FOOTER as u64).ok_or(damaged("a run without a footer"))?;
        let mut footer = [0; FOOTER];
        file.read_exact_at(&mut footer, footer_at)?;
        let crc = crc32c::crc32c(&footer[..FOOTER - 4]);
        if footer[..8] != *MAGIC || footer[FOOTER - 4..] != crc.to_le_bytes() {
            return Err(damaged("the footer of a run"));
        }
        let number_at = |i: usize| u64::from_le_bytes(array(&footer, 8 + 8 * i));
        let (blocks, index_at, filter_at) = (number_at(0), number_at(1), number_at(2));
        if index_at > filter_at || filter_at > footer_at {
            return Err(damaged("the footer of a run"));
        }
        let mut tail = vec![0; usize::try_from(footer_at - index_at).map_err(|_| damaged("the footer of a run"))?];
        file.read_exact_at(&mut tail, index_at)?;
        if u64::from(crc32c::crc32c(&tail)) != number_at(5) {
            return Err(damaged("the index of a run"));
        }
        let (index, filter) = tail.split_at((filter_at - index_at) as usize);
        let fence = read_fence(index, blocks).ok_or(damaged("the index of a run"))?;
        if fence.blocks.last().map_or(0, |(_, end)| *end) != index_at {
            return Err(damaged("the index of a run"));
        }
        let bloom = Bloom(filter.chunks_exact(8).map(|word| u64::from_le_bytes(array(word, 0))).collect());
        let (points, doomed) = (number_at(4), AtomicBool::new(false));
        Ok(Run { number, bytes, points, file, path, fence, bloom, doomed })
    }

    /// Nothing names the run any more.
    pub(crate) fn doom(&self) {
        self.doomed.store(true, atomic::Ordering::Relaxed);
    }

    /// The point with this key, if it is in the run.
    pub(crate) fn point(&self, key: &PointKey, cache: &Blocks) -> Result<Option<Value>, StoreError> {
        if !self.bloom.may_hold(key) {
            return Ok(None);
        }
        let walk = self.walk((Key::of(&[key]), true), cache)?;
        let Some(walk) = walk.filter(|walk| walk.key().bytes() == key) else { return Ok(None) };
        Ok(walk.value().map(|value| Value::of(&[value])))
    }

    /// Stands on the first entry from `low` on; `None` when there is none.
    pub(crate) fn walk(&self, (low, included): (Key, bool), cache: &Blocks) -> Result<Option<Walk<'_>>, StoreError> {
        if self.fence.blocks.is_empty() {
            return Ok(None);
        }
        let block = self.fence.block_of(low.bytes());
        let bytes = cache.block(self, block)?;
        let mut walk = Walk { run: self, block, bytes, cursor: EntryCursor::default() };
        // The next block, if this one has only what is below, starts above.
        let found = walk.cursor.seek(&walk.bytes, low.bytes(), included)? || walk.advance(cache)?;
        Ok(found.then_some(walk))
    }

    fn block(&self, block: usize) -> Result<Arc<[u8]>, StoreError> {
        let (from, len) = self.fence.place(block);
        let mut bytes = vec![0; len];
        disk::read_exact_at(&self.file, &mut bytes, from)?;
        checked(&bytes)?;
        bytes.truncate(len - 4);
        Ok(bytes.into())
    }

    /// Reads the run from `low` on, past the cache. Stands on the first entry; `None` when there is none.
    pub(crate) fn stream_from(self: &Arc<Run>, (low, included): (Key, bool)) -> Result<Option<Stream>, StoreError> {
        let mut stream = Stream { next: self.fence.block_of(low.bytes()), ..self.stream() };
        while stream.advance()? {
            match stream.key().cmp(&low) {
                Ordering::Less => {}
                Ordering::Equal if !included => {}
                _ => return Ok(Some(stream)),
            }
        }
        Ok(None)
    }

    /// Reads the run from front to back, past the cache. Stands before the first entry.
    pub(crate) fn stream(self: &Arc<Run>) -> Stream {
        Stream { run: self.clone(), next: 0, bytes: Vec::new(), block: 0..0, cursor: EntryCursor::default() }
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        if self.doomed.load(atomic::Ordering::Relaxed)
            && let Err(why) = std::fs::remove_file(&self.path)
        {
            tracing::warn!(%why, path = ?self.path, "a merged run could not be removed");
        }
    }
}

fn read_fence(mut index: &[u8], blocks: u64) -> Option<Fence> {
    let mut fence = Fence::default();
    for _ in 0..blocks {
        let (len, rest) = index.split_first()?;
        let (key, rest) = rest.split_at_checked(usize::from(*len))?;
        let (block, rest) = rest.split_first_chunk::<4>()?;
        let block = u32::from_le_bytes(*block);
        if !(5..=BLOCK_MAX).contains(&block) {
            return None;
        }
        fence.push(key, u64::from(block));
        index = rest;
    }
    index.is_empty().then_some(fence)
}

fn checked(block: &[u8]) -> Result<(), StoreError> {
    let (entries, crc) = block.split_last_chunk::<4>().ok_or(damaged("a block"))?;
    if crc32c::crc32c(entries) == u32::from_le_bytes(*crc) { Ok(()) } else { Err(damaged("a block")) }
}

/// Stands on an entry of a block, or before the first.
#[derive(Default)]
struct EntryCursor {
    key: Key,
    /// Bytes that the key shares with the one before it.
    shared: usize,
    /// Where the value starts, and its length + 1; 0 when the row is gone.
    value: (usize, u8),
    next: usize,
}

impl EntryCursor {
    /// Goes to the next entry of `block`; false at its end.
    fn advance(&mut self, block: &[u8]) -> Result<bool, StoreError> {
        if self.next >= block.len() {
            return Ok(false);
        }
        let bad = || damaged("an entry");
        let [shared, further, value] = *block.get(self.next..).and_then(<[u8]>::first_chunk::<3>).ok_or_else(bad)?;
        self.shared = usize::from(shared);
        let key_at = self.next + 3;
        let value_at = key_at + usize::from(further);
        self.next = value_at + usize::from(value.saturating_sub(1));
        self.value = (value_at, value);
        if self.next > block.len() || usize::from(value) > VALUE_MAX + 1 {
            return Err(bad());
        }
        if !self.key.splice(self.shared, &block[key_at..value_at]) {
            return Err(bad());
        }
        Ok(true)
    }

    /// Goes to the first entry of `block` from `low` on; false if there is none. Most entries are passed without comparing keys:
    /// what they share with the one before says it all.
    fn seek(&mut self, block: &[u8], low: &[u8], included: bool) -> Result<bool, StoreError> {
        // The entry before is below: it starts with so many bytes of `low`, and what follows there is less.
        let mut alike = 0;
        while self.advance(block)? {
            match self.shared.cmp(&alike) {
                // As far from `low` as the one before.
                Ordering::Greater => continue,
                // It differs from the one before, and upwards, where that was still the same as `low`.
                Ordering::Less => return Ok(true),
                Ordering::Equal => {}
            }
            let key = self.key.bytes();
            alike += key[alike..].iter().zip(&low[alike..]).take_while(|(a, b)| a == b).count();
            match (key.get(alike), low.get(alike)) {
                (None, None) if included => return Ok(true),
                (Some(key), Some(low)) if key > low => return Ok(true),
                (Some(_), None) => return Ok(true),
                _ => {}
            }
        }
        Ok(false)
    }

    fn value<'b>(&self, block: &'b [u8]) -> Option<&'b [u8]> {
        let (at, len) = self.value;
        (len > 0).then(|| &block[at..self.next])
    }
}

/// Stands on an entry of a run and goes on through the cache.
pub(crate) struct Walk<'r> {
    run: &'r Run,
    block: usize,
    bytes: Arc<[u8]>,
    cursor: EntryCursor,
}

impl Walk<'_> {
    /// Key of the entry.
    pub(crate) fn key(&self) -> &Key {
        &self.cursor.key
    }

    /// Its value; none if the row is gone.
    pub(crate) fn value(&self) -> Option<&[u8]> {
        self.cursor.value(&self.bytes)
    }

    /// Goes to the next entry; false at the end of the run.
    pub(crate) fn advance(&mut self, cache: &Blocks) -> Result<bool, StoreError> {
        loop {
            if self.cursor.advance(&self.bytes)? {
                return Ok(true);
            }
            if self.block + 1 >= self.run.fence.blocks.len() {
                return Ok(false);
            }
            self.block += 1;
            self.bytes = cache.block(self.run, self.block)?;
            self.cursor = EntryCursor::default();
        }
    }
}

/// Stands on an entry of a run that is read in large pieces, since all or much of it is wanted.
pub(crate) struct Stream {
    run: Arc<Run>,
    /// The block to read next.
    next: usize,
    bytes: Vec<u8>,
    /// The current block's entries in `bytes`.
    block: std::ops::Range<usize>,
    cursor: EntryCursor,
}

impl Stream {
    /// Key of the entry.
    pub(crate) fn key(&self) -> &Key {
        &self.cursor.key
    }

    /// Its value; none if the row is gone.
    pub(crate) fn value(&self) -> Option<&[u8]> {
        self.cursor.value(&self.bytes[self.block.clone()])
    }

    /// Goes to the next entry; false at the end of the run.
    pub(crate) fn advance(&mut self) -> Result<bool, StoreError> {
        while !self.cursor.advance(&self.bytes[self.block.clone()])? {
            if self.next >= self.run.fence.blocks.len() {
                return Ok(false);
            }
            self.fill()?;
        }
        Ok(true)
    }

    /// Makes the next block the current one.
    fn fill(&mut self) -> Result<(), StoreError> {
        let (from, len) = self.run.fence.place(self.next);
        // Behind the current block comes its checksum, then the next block, if it was read already.
        let mut start = if self.bytes.is_empty() { 0 } else { self.block.end + 4 };
        if start + len > self.bytes.len() {
            let end = self.run.fence.blocks.last().map_or(0, |(_, end)| *end);
            self.bytes.resize((end - from).min(STREAM.max(len) as u64) as usize, 0);
            self.run.file.read_exact_at(&mut self.bytes, from)?;
            start = 0;
        }
        checked(&self.bytes[start..start + len])?;
        self.block = start..start + len - 4;
        self.cursor = EntryCursor::default();
        self.next += 1;
        Ok(())
    }
}

/// A block of a run.
type Slot = Mutex<Option<(u64, usize, Arc<[u8]>)>>;

/// Blocks that were read, of all runs: a fixed number of slots, the newest of two that collide stays.
pub(crate) struct Blocks(Vec<Slot>);

impl Blocks {
    pub(crate) fn new() -> Blocks {
        Blocks((0..CACHE_SLOTS).map(|_| Mutex::new(None)).collect())
    }

    fn block(&self, run: &Run, block: usize) -> Result<Arc<[u8]>, StoreError> {
        let hash = (run.number << 24 ^ block as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> (64 - CACHE_SLOTS.ilog2());
        let slot = &self.0[hash as usize];
        if let Some((number, held, bytes)) = &*slot.lock().unwrap_or_else(PoisonError::into_inner)
            && (*number, *held) == (run.number, block)
        {
            return Ok(bytes.clone());
        }
        let bytes = run.block(block)?;
        *slot.lock().unwrap_or_else(PoisonError::into_inner) = Some((run.number, block, bytes.clone()));
        Ok(bytes)
    }
}

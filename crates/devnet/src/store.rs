//! The block file: an append-only log of records, each with a checksum, that is replayed at start.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, BufReader, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bitcoin::hashes::{Hash, sha256};
use bitcoin::{Block, BlockHash, consensus};

use crate::regtest::Record;

/// File name under the data directory.
const FILE_NAME: &str = "regtest-blocks.dat";
/// First bytes of the file: what it is and its version.
const MAGIC: [u8; 8] = *b"devnet\x00\x01";
/// Bytes before a record's payload: kind, length, checksum.
const HEAD: usize = 9;
/// Longest payload: the largest block there can be.
const MAX_PAYLOAD: u32 = 4_000_000;

/// What is wrong with the block file.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The disk or the file system.
    #[error("block file: {0}")]
    Io(#[from] io::Error),
    /// Another process has it open.
    #[error("block file {0} is in use by another process")]
    InUse(PathBuf),
    /// It is not a block file, or of another version.
    #[error("{0} is not a block file of this version")]
    NotOurs(PathBuf),
    /// A record is damaged that is not the last: not a crash while writing, so nothing is thrown away.
    #[error("block file is damaged at byte {0}")]
    Damaged(u64),
}

/// An open and locked block file.
#[derive(Debug)]
pub(crate) struct Store {
    file: File,
}

impl Store {
    /// Opens or creates the file and reads all records. A torn last record, left by a crash while writing, is cut off.
    pub(crate) fn open(dir: &Path) -> Result<(Store, Vec<Record>), StoreError> {
        std::fs::create_dir_all(dir)?;
        let path = dir.join(FILE_NAME);
        let mut file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(StoreError::InUse(path)),
            Err(TryLockError::Error(error)) => return Err(error.into()),
        }
        let len = file.metadata()?.len();
        if len < MAGIC.len() as u64 {
            file.set_len(0)?;
            file.write_all(&MAGIC)?;
            file.sync_all()?;
            File::open(dir)?.sync_all()?;
            return Ok((Store { file }, Vec::new()));
        }
        let mut reader = BufReader::new(&file);
        let mut magic = [0; MAGIC.len()];
        reader.read_exact(&mut magic)?;
        if magic != MAGIC {
            return Err(StoreError::NotOurs(path));
        }
        let (mut records, mut at) = (Vec::new(), MAGIC.len() as u64);
        while let Some((record, size)) = read_record(&mut reader, at, len)? {
            records.push(record);
            at += size;
        }
        if at < len {
            tracing::warn!(bytes = len - at, "cut a torn record off the block file");
            file.set_len(at)?;
            file.sync_all()?;
        }
        file.seek(SeekFrom::Start(at))?;
        Ok((Store { file }, records))
    }

    /// Appends records and makes them durable.
    pub(crate) fn append(&mut self, records: &[Record]) -> io::Result<()> {
        let mut bytes = Vec::new();
        for record in records {
            let (kind, payload) = match record {
                Record::Block(block) => (b'B', consensus::serialize(block.as_ref())),
                Record::Invalidated(hash) => (b'I', hash.to_byte_array().to_vec()),
                Record::Reconsidered(hash) => (b'R', hash.to_byte_array().to_vec()),
            };
            bytes.push(kind);
            bytes.extend_from_slice(&(payload.len() as u32).to_le_bytes());
            bytes.extend_from_slice(&checksum(kind, &payload));
            bytes.extend_from_slice(&payload);
        }
        self.file.write_all(&bytes)?;
        self.file.sync_data()
    }
}

fn checksum(kind: u8, payload: &[u8]) -> [u8; 4] {
    let mut hash = sha256::Hash::hash(payload).to_byte_array();
    hash[0] ^= kind;
    [hash[0], hash[1], hash[2], hash[3]]
}

/// The record at `at` and its size in the file; nothing at the end of the file or at a torn last record.
fn read_record(reader: &mut impl Read, at: u64, len: u64) -> Result<Option<(Record, u64)>, StoreError> {
    let left = len - at;
    if left < HEAD as u64 {
        return Ok(None);
    }
    let mut head = [0; HEAD];
    reader.read_exact(&mut head)?;
    let kind = head[0];
    let length = u32::from_le_bytes([head[1], head[2], head[3], head[4]]);
    let size = HEAD as u64 + u64::from(length);
    // A crash may leave a longer file with the data still missing: then the length reads as anything and runs to the end.
    if size > left {
        return if left <= HEAD as u64 + u64::from(MAX_PAYLOAD) { Ok(None) } else { Err(StoreError::Damaged(at)) };
    }
    if length > MAX_PAYLOAD {
        return Err(StoreError::Damaged(at));
    }
    let mut payload = vec![0; length as usize];
    reader.read_exact(&mut payload)?;
    let record = if checksum(kind, &payload) == head[5..] { decode(kind, &payload) } else { None };
    match record {
        Some(record) => Ok(Some((record, size))),
        None if size == left || kind == 0 => Ok(None),
        None => Err(StoreError::Damaged(at)),
    }
}

fn decode(kind: u8, payload: &[u8]) -> Option<Record> {
    match kind {
        b'B' => consensus::deserialize::<Block>(payload).ok().map(|block| Record::Block(Arc::new(block))),
        b'I' => BlockHash::from_slice(payload).ok().map(Record::Invalidated),
        b'R' => BlockHash::from_slice(payload).ok().map(Record::Reconsidered),
        _ => None,
    }
}

//! One frame of the log, byte by byte: what is checked when it is read, and what chains it to the frame before it.
//!
//! All integers are little-endian.
//!
//! ```text
//! offset size
//!      0    4  magic "SOUK": lets a reader find the next frame behind damage
//!      4    1  version of this layout, 2
//!      5    1  kind of record: 1 event, 2 takedown
//!      6    2  zero
//!      8    8  sequence number; the first frame of the log has 0
//!     16    4  place of the frame in its batch, from 0
//!     20    4  frames that follow in the batch; 0 closes it
//!     24    8  when the board accepted it, unix seconds
//!     32    4  length n of the payload
//!     36   32  chain: SHA-256(chain of the frame before ‖ bytes 0..36 ‖ payload); 32 zero bytes stand before the first frame
//!     68    4  CRC-32C of bytes 0..68 ‖ payload
//!     72    n  payload
//! ```
//!
//! Two checks, because they answer two questions. The CRC is the checksum of the single frame: hardware computes it in some
//! 50 ns, so that every read can afford it, and it finds tears and rot. The chain is SHA-256, because everything else in a
//! market speaks it and any tool can follow it: it finds frames that were swapped, dropped or rewritten with a fresh CRC.
//!
//! The batch (one group commit, one `fdatasync`) is all or nothing: recovery keeps only batches that are closed.
//!
//! Payload of an event:
//!
//! ```text
//! offset size
//!      0   32  id
//!     32   32  author
//!     64   64  signature
//!    128    8  created_at
//!    136    8  expiration (NIP-40); 2^64-1 when there is none
//!    144    2  kind
//!    146    2  length c of the spent credential: 72, or 0 without one
//!    148    2  length l of the transparency log's leaf, 0 without one
//!    150    4  length t of the text
//!    154    t  tags and content as they stand in the event's canonical JSON ([`wire::compact`])
//!  154+t    c  spent credential, as [`credential::Stamp::to_bytes`] writes it
//! 154+t+c   l  leaf
//! ```
//!
//! Payload of a takedown: the id (32 bytes), then the reason as UTF-8.

use bitcoin::hashes::{Hash, HashEngine, sha256};
use credential::Stamp;
use units::Unix;
use wire::compact::{self, Head};

use super::Encoded;

/// First bytes of every frame.
pub(crate) const MAGIC: [u8; 4] = *b"SOUK";
const VERSION: u8 = 2;
/// Bytes before the payload.
pub(crate) const HEADER: usize = 72;
const EVENT_HEAD: usize = 154;
/// Largest payload that is written or believed when read.
pub(crate) const PAYLOAD_MAX: usize = 4 * 1024 * 1024;
/// The chain before the first frame.
pub(crate) const GENESIS: [u8; 32] = [0; 32];

/// What a frame records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// An event that was accepted.
    Event = 1,
    /// An event that the operator took down.
    Takedown = 2,
}

/// Why bytes are no frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadFrame {
    /// The bytes end before the frame does.
    #[error("it ends before its length says so")]
    Short,
    /// Magic, version, record kind or a length is none that was ever written.
    #[error("its header is none that was ever written")]
    Header,
    /// The checksum does not fit the bytes.
    #[error("its checksum does not fit")]
    Checksum,
    /// It does not continue the frame before it.
    #[error("it does not continue the frame before it")]
    Chain,
    /// The checksum fits, the payload is none of its kind.
    #[error("its payload is none of its kind")]
    Payload,
}

/// A frame whose checksum fits.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Frame<'a> {
    pub(crate) kind: Kind,
    pub(crate) seq: u64,
    /// Place in its batch.
    pub(crate) place: u32,
    /// Frames that follow in its batch.
    pub(crate) left: u32,
    pub(crate) chain: [u8; 32],
    pub(crate) payload: &'a [u8],
    head: &'a [u8],
}

/// `N` bytes at `at` of a slice that was already checked to be long enough.
fn bytes<const N: usize>(from: &[u8], at: usize) -> [u8; N] {
    let mut out = [0; N];
    out.copy_from_slice(&from[at..at + N]);
    out
}

fn link(before: &[u8; 32], head: &[u8], payload: &[u8]) -> [u8; 32] {
    let mut engine = sha256::Hash::engine();
    engine.input(before);
    engine.input(head);
    engine.input(payload);
    sha256::Hash::from_engine(engine).to_byte_array()
}

fn read_event(p: &[u8], event: &mut Encoded) -> Result<(), BadFrame> {
    if p.len() < EVENT_HEAD {
        return Err(BadFrame::Payload);
    }
    let text = u32::from_le_bytes(bytes(p, 150)) as usize;
    let text = p.get(EVENT_HEAD..EVENT_HEAD + text).ok_or(BadFrame::Payload)?;
    let text = std::str::from_utf8(text).map_err(|_| BadFrame::Payload)?;
    let head = Head {
        id: bytes(p, 0),
        pubkey: bytes(p, 32),
        created_at: Unix(u64::from_le_bytes(bytes(p, 128))),
        kind: u16::from_le_bytes(bytes(p, 144)),
    };
    let expiration = u64::from_le_bytes(bytes(p, 136));
    let Head { id, pubkey, created_at, kind } = head;
    let expiration = (expiration != u64::MAX).then_some(Unix(expiration));
    compact::put_together(&head, text, &bytes(p, 64), &mut event.json);
    *event = Encoded { id, pubkey, created_at, expiration, kind, json: std::mem::take(&mut event.json) };
    Ok(())
}

fn read_credential(p: &[u8]) -> Result<Option<Stamp>, BadFrame> {
    if p.len() < EVENT_HEAD {
        return Err(BadFrame::Payload);
    }
    let len = usize::from(u16::from_le_bytes(bytes(p, 146)));
    if len == 0 {
        return Ok(None);
    }
    let at = EVENT_HEAD + u32::from_le_bytes(bytes(p, 150)) as usize;
    let credential = p.get(at..at + len).ok_or(BadFrame::Payload)?;
    Stamp::from_bytes(credential).map(Some).map_err(|_| BadFrame::Payload)
}

/// Length of the frame that starts with this header, if the header can be one.
pub(crate) fn length(head: &[u8]) -> Result<usize, BadFrame> {
    if head.len() < HEADER {
        return Err(BadFrame::Short);
    }
    let payload = u32::from_le_bytes(bytes(head, 32)) as usize;
    if head[..4] != MAGIC || head[4] != VERSION || head[6..8] != [0, 0] || payload > PAYLOAD_MAX {
        return Err(BadFrame::Header);
    }
    Ok(HEADER + payload)
}

impl<'a> Frame<'a> {
    /// Reads the frame at the start of `from` and checks its checksum, not its chain.
    pub(crate) fn read(from: &'a [u8]) -> Result<Frame<'a>, BadFrame> {
        let len = length(from)?;
        let frame = from.get(..len).ok_or(BadFrame::Short)?;
        let (head, payload) = frame.split_at(HEADER);
        let crc = crc32c::crc32c_append(crc32c::crc32c(&head[..68]), payload);
        if crc != u32::from_le_bytes(bytes(head, 68)) {
            return Err(BadFrame::Checksum);
        }
        let kind = match head[5] {
            1 => Kind::Event,
            2 => Kind::Takedown,
            _ => return Err(BadFrame::Header),
        };
        Ok(Frame {
            kind,
            seq: u64::from_le_bytes(bytes(head, 8)),
            place: u32::from_le_bytes(bytes(head, 16)),
            left: u32::from_le_bytes(bytes(head, 20)),
            chain: bytes(head, 36),
            payload,
            head,
        })
    }

    /// It is the frame that follows the one with this chain.
    pub(crate) fn follows(&self, chain: &[u8; 32]) -> bool {
        link(chain, &self.head[..36], self.payload) == self.chain
    }

    /// Bytes of the whole frame.
    pub(crate) fn len(&self) -> usize {
        HEADER + self.payload.len()
    }

    /// Sequence number of the first frame of its batch.
    pub(crate) fn batch(&self) -> u64 {
        self.seq.saturating_sub(u64::from(self.place))
    }

    /// The event in it.
    pub(crate) fn event(&self) -> Result<Encoded, BadFrame> {
        let mut event = Encoded::default();
        self.event_into(&mut event)?;
        Ok(event)
    }

    /// The same, in the place of another event and in its room.
    pub(crate) fn event_into(&self, event: &mut Encoded) -> Result<(), BadFrame> {
        if self.kind == Kind::Event { read_event(self.payload, event) } else { Err(BadFrame::Payload) }
    }

    /// The credential that was spent for the event in it.
    pub(crate) fn credential(&self) -> Result<Option<Stamp>, BadFrame> {
        if self.kind == Kind::Event { read_credential(self.payload) } else { Err(BadFrame::Payload) }
    }

    /// Id and reason of the takedown in it.
    pub(crate) fn takedown(&self) -> Result<([u8; 32], &'a str), BadFrame> {
        if self.kind != Kind::Takedown || self.payload.len() < 32 {
            return Err(BadFrame::Payload);
        }
        let reason = std::str::from_utf8(&self.payload[32..]).map_err(|_| BadFrame::Payload)?;
        Ok((bytes(self.payload, 0), reason))
    }
}

/// Where a frame stands in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    /// Position of its first byte, counted over all segments.
    pub(crate) at: u64,
    /// Its length, header included.
    pub(crate) len: u32,
}

/// Frames of one group commit, gathered before they are sealed and written at once.
#[derive(Debug)]
pub(crate) struct Batch {
    bytes: Vec<u8>,
    starts: Vec<usize>,
    base: u64,
}

impl Batch {
    /// An empty batch that will be written at position `base`.
    pub(crate) fn new(base: u64) -> Batch {
        Batch { bytes: Vec::new(), starts: Vec::new(), base }
    }

    /// Number of frames.
    pub(crate) fn frames(&self) -> usize {
        self.starts.len()
    }

    /// Where the last frame will stand.
    pub(crate) fn last(&self) -> Place {
        let start = self.starts.last().copied().unwrap_or(0);
        Place { at: self.base + start as u64, len: (self.bytes.len() - start) as u32 }
    }

    fn push(&mut self, kind: Kind, accepted: Unix, write: impl FnOnce(&mut Vec<u8>)) -> Place {
        let start = self.bytes.len();
        self.starts.push(start);
        self.bytes.resize(start + HEADER, 0);
        write(&mut self.bytes);
        let len = self.bytes.len() - start;
        let head = &mut self.bytes[start..start + HEADER];
        head[..4].copy_from_slice(&MAGIC);
        head[4] = VERSION;
        head[5] = kind as u8;
        head[24..32].copy_from_slice(&accepted.0.to_le_bytes());
        head[32..36].copy_from_slice(&((len - HEADER) as u32).to_le_bytes());
        Place { at: self.base + start as u64, len: len as u32 }
    }

    /// Adds an event. `leaf` is carried as it is; admission keeps both below [`PAYLOAD_MAX`]. Nothing is added, and `None` given,
    /// if the event's JSON is not canonical.
    pub(crate) fn push_event(
        &mut self,
        event: &Encoded,
        credential: Option<&Stamp>,
        leaf: &[u8],
        accepted: Unix,
    ) -> Option<Place> {
        let Encoded { id, pubkey, created_at, kind, .. } = *event;
        let credential = credential.map(Stamp::to_bytes);
        let credential = credential.as_ref().map_or(&[][..], |bytes| bytes);
        let (text, sig) = compact::take_apart(&Head { id, pubkey, created_at, kind }, &event.json)?;
        Some(self.push(Kind::Event, accepted, |out| {
            out.extend_from_slice(&id);
            out.extend_from_slice(&pubkey);
            out.extend_from_slice(&sig);
            out.extend_from_slice(&created_at.0.to_le_bytes());
            out.extend_from_slice(&event.expiration.map_or(u64::MAX, |e| e.0).to_le_bytes());
            out.extend_from_slice(&kind.to_le_bytes());
            out.extend_from_slice(&(credential.len() as u16).to_le_bytes());
            out.extend_from_slice(&(leaf.len() as u16).to_le_bytes());
            out.extend_from_slice(&(text.len() as u32).to_le_bytes());
            out.extend_from_slice(text.as_bytes());
            out.extend_from_slice(credential);
            out.extend_from_slice(leaf);
        }))
    }

    /// Adds a takedown.
    pub(crate) fn push_takedown(&mut self, id: &[u8; 32], reason: &str, accepted: Unix) -> Place {
        self.push(Kind::Takedown, accepted, |out| {
            out.extend_from_slice(id);
            out.extend_from_slice(reason.as_bytes());
        })
    }

    /// The event at `at`, if it is one of this batch that is not written yet.
    pub(crate) fn event_at(&self, at: u64) -> Option<Encoded> {
        let start = usize::try_from(at.checked_sub(self.base)?).ok()?;
        let len = length(self.bytes.get(start..)?).ok()?;
        let mut event = Encoded::default();
        read_event(self.bytes.get(start + HEADER..start + len)?, &mut event).ok()?;
        Some(event)
    }

    /// Numbers, chains and checks the frames after the frame `seq - 1` with `chain`. Gives the bytes to write and the last chain.
    pub(crate) fn seal(&mut self, seq: u64, mut chain: [u8; 32]) -> (&[u8], [u8; 32]) {
        let frames = self.starts.len();
        for place in 0..frames {
            let start = self.starts[place];
            let end = self.starts.get(place + 1).copied().unwrap_or(self.bytes.len());
            let (head, payload) = self.bytes[start..end].split_at_mut(HEADER);
            head[8..16].copy_from_slice(&(seq + place as u64).to_le_bytes());
            head[16..20].copy_from_slice(&(place as u32).to_le_bytes());
            head[20..24].copy_from_slice(&((frames - place - 1) as u32).to_le_bytes());
            chain = link(&chain, &head[..36], payload);
            head[36..68].copy_from_slice(&chain);
            let crc = crc32c::crc32c_append(crc32c::crc32c(&head[..68]), payload);
            head[68..72].copy_from_slice(&crc.to_le_bytes());
        }
        (&self.bytes, chain)
    }
}

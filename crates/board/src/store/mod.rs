//! The store: an append-only log is the database, its indexes are derived and can be thrown away.
//!
//! One writer thread drains a bounded queue, judges each event, appends the whole batch, waits for one `fdatasync`, commits the
//! index and only then answers. Readers wait for it no longer than it takes to add some rows in memory. The bytes are described in `frame.rs`.

use std::sync::Arc;

use credential::{Nullifier, Stamp};
use units::Unix;
use wire::seal::KIND_GIFT_WRAP;
use wire::{DeletionTarget, Event, KindClass, Limits, Malformed, OwnedEvent, RawEvent, UnknownKeys};

mod cache;
mod disk;
mod frame;
mod index;
mod listings;
mod log;
mod logstore;
mod query;
mod queue;
#[cfg(test)]
mod tests;
mod writer;

pub use frame::BadFrame;
pub use log::{Cut, LogError};
pub use logstore::{LogStore, Opened, StoreConfig};
pub use queue::Gathering;

use bitcoin::hashes::{Hash, HashEngine, sha256};

pub use crate::reconcile::Item;

/// Longest event that the store takes, in bytes of JSON. Admission usually allows less.
pub const JSON_MAX: usize = 1024 * 1024;

/// What the store's own JSON is read with: it was checked when it came.
const STORED: Limits =
    Limits { bytes: JSON_MAX, tags: usize::MAX, tag_elements: usize::MAX, unknown_keys: UnknownKeys::Refuse };

/// An event as it is kept and sent: encoded once, shared by reference from then on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Encoded {
    /// SHA-256 of the canonical serialisation (NIP-01).
    pub id: [u8; 32],
    /// X-only public key of the author.
    pub pubkey: [u8; 32],
    /// When the author says that it wrote this.
    pub created_at: Unix,
    /// When it ceases to be served (NIP-40).
    pub expiration: Option<Unix>,
    /// What it is.
    pub kind: u16,
    /// Compact JSON, keys in the order of NIP-01.
    pub json: String,
}

impl Encoded {
    /// Encodes an event; verifies nothing.
    pub fn of(event: &Event) -> Encoded {
        let mut json = event.to_json();
        json.shrink_to_fit();
        Encoded {
            id: event.id,
            pubkey: event.pubkey,
            created_at: event.created_at,
            expiration: event.expiration(),
            kind: event.kind,
            json,
        }
    }

    /// The event, read in place.
    pub fn raw(&self) -> Result<RawEvent<'_>, Malformed> {
        RawEvent::parse(self.json.as_bytes(), &STORED)
    }

    /// It has ceased to be served (NIP-40).
    pub fn expired(&self, now: Unix) -> bool {
        self.expiration.is_some_and(|at| at <= now)
    }
}

/// First half of SHA-256 over letter and value: what a tag is indexed by.
type TagKey = [u8; 16];
/// Kind, author and SHA-256 of the `d` tag: what a replaceable or addressable event is named by.
type AddressKey = [u8; 66];

fn tag_key(letter: u8, value: &str) -> TagKey {
    let mut engine = sha256::Hash::engine();
    engine.input(&[letter]);
    engine.input(value.as_bytes());
    let mut key = [0; 16];
    key.copy_from_slice(&sha256::Hash::from_engine(engine).to_byte_array()[..16]);
    key
}

fn address_key(kind: u16, pubkey: &[u8; 32], identifier: &str) -> Option<AddressKey> {
    let identifier = match KindClass::of(kind) {
        KindClass::Addressable => identifier,
        KindClass::Replaceable => "",
        KindClass::Regular | KindClass::Ephemeral => return None,
    };
    let mut key = [0; 66];
    key[..2].copy_from_slice(&kind.to_be_bytes());
    key[2..34].copy_from_slice(pubkey);
    key[34..].copy_from_slice(&sha256::Hash::hash(identifier.as_bytes()).to_byte_array());
    Some(key)
}

/// What the indexes need to know of an event beyond its head. Computed once, outside the writer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Facts {
    tags: Vec<TagKey>,
    address: Option<AddressKey>,
    targets: Vec<DeletionTarget>,
    /// Who a gift wrap is for: they may delete it, and it vanishes with them.
    recipients: Vec<[u8; 32]>,
    /// What the credential is known by that is spent for it.
    spends: Option<Nullifier>,
}

impl Facts {
    fn of(raw: &RawEvent<'_>) -> Facts {
        let mut tags: Vec<TagKey> = raw.indexed_tags().map(|(letter, value)| tag_key(letter, &value)).collect();
        tags.sort_unstable();
        tags.dedup();
        let identifier = raw.tag("d").unwrap_or_default();
        let targets =
            if raw.kind == wire::event::KIND_DELETION { raw.to_event().deletion_targets() } else { Vec::new() };
        let recipient = |(letter, value): (u8, std::borrow::Cow<'_, str>)| {
            (letter == b'p').then(|| wire::parse_hex(&value, "p").ok()).flatten()
        };
        let wrap = raw.kind == KIND_GIFT_WRAP;
        let recipients = if wrap { raw.indexed_tags().filter_map(recipient).collect() } else { Vec::new() };
        let address = address_key(raw.kind, &raw.pubkey, &identifier);
        Facts { tags, address, targets, recipients, spends: None }
    }

    /// The same, of an event for which a credential is spent.
    fn spending(self, credential: Option<&Stamp>) -> Facts {
        Facts { spends: credential.map(Stamp::nullifier), ..self }
    }
}

/// An event that passed admission and verification and is ready to be committed.
#[derive(Clone, Debug)]
pub struct Admitted {
    event: Arc<Encoded>,
    facts: Facts,
    credential: Option<Box<Stamp>>,
    leaf: Vec<u8>,
    at: Unix,
}

impl Admitted {
    /// `raw`, accepted at `at`. The caller has verified it.
    pub fn new(raw: &RawEvent<'_>, at: Unix) -> Admitted {
        let event = Arc::new(Encoded::of(&raw.to_event()));
        Admitted { event, facts: Facts::of(raw), credential: None, leaf: Vec::new(), at }
    }

    /// [`Admitted::new`], keeping the text when it is canonical already.
    pub fn owned(event: OwnedEvent, at: Unix) -> Admitted {
        let raw = event.raw();
        let (facts, expiration) = (Facts::of(&raw), raw.expiration());
        let RawEvent { id, pubkey, created_at, kind, .. } = raw;
        let json = event.into_json().into_string();
        let event = Arc::new(Encoded { id, pubkey, created_at, expiration, kind, json });
        Admitted { event, facts, credential: None, leaf: Vec::new(), at }
    }

    /// The same, with the credential that is spent for it when it is stored, and not before.
    #[must_use]
    pub fn spending(self, credential: Stamp) -> Admitted {
        Admitted { facts: self.facts.spending(Some(&credential)), credential: Some(Box::new(credential)), ..self }
    }

    /// The event.
    pub fn event(&self) -> &Arc<Encoded> {
        &self.event
    }
}

/// What became of something that was submitted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// On disk, in the indexes, and shown to whoever follows.
    Stored,
    /// Ephemeral: shown to whoever follows, not kept.
    Passed,
    /// It was here already.
    Known(Known),
    /// The credential that came with it was spent for another event. Not kept.
    Spent {
        /// Id of that event.
        by: [u8; 32],
    },
    /// Not kept, through no fault of the sender; the reason is for people.
    Failed(String),
}

/// Why an event that comes is not new.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Known {
    /// It is served.
    Served,
    /// A newer version of the same address is, or was, here.
    Superseded,
    /// Its author asked for its deletion (NIP-09), perhaps before it came.
    Deleted,
    /// It ceased to be served (NIP-40).
    Expired,
    /// The operator took it down.
    TakenDown,
}

/// Called once with what became of a submission, on the writer's thread: it must not block.
pub type Reply = Box<dyn FnOnce(Outcome) + Send>;

/// Something for the writer.
pub enum Write {
    /// An event.
    Event {
        /// The event, admitted.
        admitted: Admitted,
        /// Who waits for the outcome.
        reply: Reply,
    },
    /// The operator takes an event down; it need not be here yet.
    Takedown {
        /// Its id.
        id: [u8; 32],
        /// Why, for the record.
        reason: String,
        /// When.
        at: Unix,
        /// Who waits for the outcome.
        reply: Reply,
    },
}

/// An event that was just committed or passed on.
#[derive(Clone, Debug)]
pub struct Fresh {
    /// Its position; `None` for what is not kept.
    pub at: Option<u64>,
    /// The event.
    pub event: Arc<Encoded>,
}

/// What one commit brought, in order; nothing if all of it was known or failed.
#[derive(Clone, Debug)]
pub struct Commit {
    /// The events.
    pub fresh: Vec<Fresh>,
    /// Everything at positions below this has been shown to whoever follows, this commit included.
    pub end: u64,
}

/// Gets every commit, in order and after the replies to what was in it, on the writer's thread. It may block, and the writer with
/// it.
pub type Feed = Box<dyn FnMut(Commit) + Send>;

/// Somebody who asks, and what they may see.
pub trait Reader: Send + Sync {
    /// They may see this event.
    fn may_read(&self, event: &Encoded) -> bool;

    /// They may see every event of this kind, so that nobody has to look at each.
    fn may_read_all(&self, _kind: u16) -> bool {
        false
    }
}

impl<F: Fn(&Encoded) -> bool + Send + Sync> Reader for F {
    fn may_read(&self, event: &Encoded) -> bool {
        self(event)
    }
}

/// A question to the store.
#[derive(Clone)]
pub struct Ask {
    /// Any of these has to match. Each one's `limit` counts by itself.
    pub filters: Vec<wire::Filter>,
    /// Most events for a filter, also for one without a `limit`.
    pub limit_max: u64,
    /// Only what stands before this position: what comes later is for the live subscription.
    pub before: u64,
    /// Who asks.
    pub reader: Arc<dyn Reader>,
}

/// How much work a cursor does before it lets others have a turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Budget {
    /// Index rows looked at.
    pub rows: usize,
    /// Bytes of events looked at, whether they were given out or not.
    pub bytes: usize,
    /// It may wait for the disk. Otherwise the turn ends where it would have to.
    pub disk: bool,
}

/// Takes what a cursor finds.
pub trait Sink {
    /// The next event.
    fn take(&mut self, event: &Encoded);
}

impl Sink for Vec<Arc<Encoded>> {
    fn take(&mut self, event: &Encoded) {
        self.push(Arc::new(event.clone()));
    }
}

/// An answer in the making. Holds no lock and no snapshot between turns.
pub trait Cursor: Send {
    /// Gives out the next events, newest first, lowest id first among those of the same second. Gives true when there are no more.
    /// What was deleted, replaced or has expired by `now` is left out even if the question was asked before.
    fn advance(&mut self, now: Unix, budget: Budget, out: &mut dyn Sink) -> Result<bool, StoreError>;
}

/// The store failed. Never the fault of who asked.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The log.
    #[error("log: {0}")]
    Log(#[from] LogError),
    /// The index holds something that it never wrote.
    #[error("index: {0}")]
    IndexDamaged(&'static str),
    /// A file beside the log.
    #[error("{0}")]
    Io(#[from] std::io::Error),
    /// The writer has gone.
    #[error("the store is closed")]
    Closed,
}

impl StoreError {
    /// Nothing is wrong: it would have had to wait for the disk.
    pub(crate) fn is_wait(&self) -> bool {
        let (StoreError::Io(why) | StoreError::Log(LogError::Io { source: why, .. })) = self else { return false };
        why.kind() == std::io::ErrorKind::WouldBlock
    }
}

/// Numbers about the store.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct StoreStats {
    /// Events that are served.
    pub events: u64,
    /// Bytes of the log.
    pub log_bytes: u64,
    /// Bytes of the index.
    pub index_bytes: u64,
    /// Frames of the log.
    pub frames: u64,
    /// Group commits since the start.
    pub commits: u64,
    /// Reads that met a damaged frame since the start.
    pub damaged_reads: u64,
}

/// What the board asks of a store. The contract is in `tests/it/store_contract.rs`.
pub trait Store: Send + Sync {
    /// Hands something to the writer; waits while its queue is full.
    fn submit(&self, write: Write) -> Result<(), StoreError>;
    /// Says that more submissions are about to come: until this is dropped what is submitted may wait for them, though not long.
    fn gather(&self) -> Gathering;
    /// Why an event with this id would not be new. A look-up by claimed id alone: it says nothing about what it did not see.
    fn known(&self, id: &[u8; 32]) -> Result<Option<Known>, StoreError>;
    /// Starts to answer a question.
    fn query(&self, ask: Ask) -> Result<Box<dyn Cursor>, StoreError>;
    /// Time and id of everything that `ask` matches at `now`, in no order. `None` when there are more than `max`.
    fn items(&self, ask: Ask, now: Unix, max: usize) -> Result<Option<Vec<Item>>, StoreError>;
    /// Position behind the last commit.
    fn end(&self) -> u64;
    /// Why no events are taken, if so: for now, or until the next start.
    fn fault(&self) -> Option<String>;
    /// Numbers.
    fn stats(&self) -> StoreStats;
    /// Writes what is queued and closes; later submissions fail.
    fn close(&self);
}

//! Keys and values of the indexes, byte by byte. Ascending keys are newest first, then lowest id first.
//!
//! A key starts with the number of its table. Two kinds of tables: **points** are found by 16 bytes of SHA-256 (or an id, which is
//! one), **rows** are walked in order.
//!
//! ```text
//! points            key                                   value
//!   id              first half of the id                  position 6, length 3, created_at 8, kind 2, state 1
//!   address         hash of kind, author, d               position 6, length 3, created_at 8, id 32
//!   gone            hash of id and author                 nothing: its author asked for its deletion
//!   gone address    hash of kind, author, d               created_at 8: versions up to then are deleted
//!   vanished        hash of author                        created_at 8: all of the author's events up to then are deleted
//!   spent           first half of the nullifier           id 32 of the event that the credential was spent for
//! rows
//!   created         age 8, id 32, position 6              kind 2, length 3
//!   author          author 32, age 8, id 8, position 6    the same
//!   kind            kind 2, age 8, id 32, position 6      mark of the author 2, length 3
//!   author, kind    author 32, kind 2, age 8, id 8,...    kind 2, length 3
//!   tag             hash of letter and value 16, age 8,.. the same
//!   expiry          expiration 8, position 6              length 3
//!   anybody vanished    nothing: there is one if so           nothing
//! ```
//!
//! Integers are big-endian. An age is 2^64-1-created_at. Positions are below 2^48, lengths of frames below 2^24. The mark of an
//! author is the first two bytes of the key: who looks for some authors among many events reads few of the others.

use bitcoin::hashes::{Hash, HashEngine, sha256};
use credential::Nullifier;
use units::Unix;

use crate::store::frame::Place;
use crate::store::{AddressKey, Encoded, Known, StoreError};

/// Longest key.
const KEY_MAX: usize = 57;
/// Longest value.
pub(crate) const VALUE_MAX: usize = 49;
/// Bytes of a point's key.
pub(crate) const POINT: usize = 17;

/// The tables. Points come first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Table {
    Id = 1,
    Address = 2,
    Gone = 3,
    GoneAddress = 4,
    Vanished = 5,
    Spent = 6,
    Created = 16,
    Author = 17,
    Kind = 18,
    AuthorKind = 19,
    Tag = 20,
    Expiry = 21,
    AnybodyVanished = 22,
}

/// Up to `N` bytes, in place.
#[derive(Clone, Copy)]
pub(crate) struct Short<const N: usize> {
    len: u8,
    bytes: [u8; N],
}

/// A key.
pub(crate) type Key = Short<KEY_MAX>;
/// A value.
pub(crate) type Value = Short<VALUE_MAX>;
/// The value of a row. Most of what the overlay holds are rows, and points need ten times the room.
pub(crate) type RowValue = Short<5>;
/// The key of a point: table, then 16 bytes that are as good as random.
pub(crate) type PointKey = [u8; POINT];

impl<const N: usize> Short<N> {
    pub(crate) const EMPTY: Short<N> = Short { len: 0, bytes: [0; N] };

    /// `parts` one behind the other; what is longer than `N` is a bug and cut.
    pub(crate) fn of(parts: &[&[u8]]) -> Short<N> {
        let mut short = Short::EMPTY;
        parts.iter().for_each(|part| short.push(part));
        short
    }

    pub(crate) fn push(&mut self, part: &[u8]) {
        let from = usize::from(self.len);
        let to = (from + part.len()).min(N);
        debug_assert!(from + part.len() <= N);
        self.bytes[from..to].copy_from_slice(&part[..to - from]);
        self.len = to as u8;
    }

    /// Keeps the first `len` bytes and puts `rest` behind them; false if that is too long.
    pub(crate) fn splice(&mut self, len: usize, rest: &[u8]) -> bool {
        if len > usize::from(self.len) || len + rest.len() > N {
            return false;
        }
        self.len = len as u8;
        self.push(rest);
        true
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes[..usize::from(self.len)]
    }
}

impl From<RowValue> for Value {
    fn from(value: RowValue) -> Value {
        Value::of(&[value.bytes()])
    }
}

impl<const N: usize> Default for Short<N> {
    fn default() -> Self {
        Short::EMPTY
    }
}

impl<const N: usize> PartialEq for Short<N> {
    fn eq(&self, other: &Self) -> bool {
        self.bytes() == other.bytes()
    }
}

impl<const N: usize> Eq for Short<N> {}

impl<const N: usize> PartialOrd for Short<N> {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl<const N: usize> Ord for Short<N> {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.bytes().cmp(other.bytes())
    }
}

/// The indexes that answer filters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum By {
    Created,
    Author,
    Kind,
    AuthorKind,
    Tag,
}

impl By {
    fn table(self) -> Table {
        match self {
            By::Created => Table::Created,
            By::Author => Table::Author,
            By::Kind => Table::Kind,
            By::AuthorKind => Table::AuthorKind,
            By::Tag => Table::Tag,
        }
    }

    /// Where the age stands in a key.
    fn age_at(self) -> usize {
        match self {
            By::Created => 1,
            By::Author => 33,
            By::Kind => 3,
            By::AuthorKind => 35,
            By::Tag => 17,
        }
    }

    /// Bytes of the id in a key. Whole ids are there for those who reconcile: they need nothing else.
    fn id_len(self) -> usize {
        if matches!(self, By::Created | By::Kind) { 32 } else { 8 }
    }
}

/// One row of such an index.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Row {
    /// 2^64-1-created_at.
    pub(crate) age: u64,
    /// First 8 bytes of the id.
    pub(crate) id: u64,
    pub(crate) at: u64,
    pub(crate) kind: u16,
    pub(crate) len: u32,
    /// The author's [`mark`], in rows of [`By::Kind`]; 0 in all others.
    pub(crate) mark: u16,
}

/// What rows of [`By::Kind`] say of an author.
pub(crate) fn mark(author: &[u8; 32]) -> u16 {
    u16::from_be_bytes(array(author, 0))
}

impl Row {
    pub(crate) fn place(&self) -> Place {
        Place { at: self.at, len: self.len }
    }

    /// Reads a row of any index.
    pub(crate) fn read(by: By, key: &[u8], value: &[u8]) -> Result<Row, StoreError> {
        let (prefix, id) = (by.age_at(), by.id_len());
        if key.len() != prefix + 8 + id + 6 || value.len() != 5 {
            return Err(damaged("a row"));
        }
        let number = u16::from_be_bytes(array(value, 0));
        let (kind, mark) = if by == By::Kind { (u16::from_be_bytes(array(key, 1)), number) } else { (number, 0) };
        Ok(Row {
            age: u64::from_be_bytes(array(key, prefix)),
            id: u64::from_be_bytes(array(key, prefix + 8)),
            at: position(key, prefix + 8 + id),
            kind,
            len: length(value, 2),
            mark,
        })
    }
}

/// Whole id of a row whose key has it.
pub(crate) fn whole_id(by: By, key: &[u8]) -> Result<[u8; 32], StoreError> {
    let at = by.age_at() + 8;
    if by.id_len() == 32 && key.len() == at + 38 { Ok(array(key, at)) } else { Err(damaged("a row")) }
}

/// The key by which `event` at `place` is found in an index under `prefix`.
pub(crate) fn row_key(by: By, prefix: &[u8], event: &Encoded, place: Place) -> Key {
    let age = u64::MAX - event.created_at.0;
    let id = &event.id[..by.id_len()];
    Key::of(&[&[by.table() as u8], prefix, &age.to_be_bytes(), id, &place.at.to_be_bytes()[2..]])
}

/// What stands under such a key.
pub(crate) fn row_value(by: By, event: &Encoded, place: Place) -> RowValue {
    let number = if by == By::Kind { mark(&event.pubkey) } else { event.kind };
    RowValue::of(&[&number.to_be_bytes(), &place.len.to_be_bytes()[1..]])
}

/// Rows to look at: those under `prefix` with `first <= age <= last` that come after `after`.
pub(crate) struct Range<'a> {
    pub(crate) by: By,
    pub(crate) prefix: &'a [u8],
    pub(crate) first: u64,
    pub(crate) last: u64,
    pub(crate) after: Option<Row>,
}

impl Range<'_> {
    /// First key that may be in the range, and whether it is itself.
    pub(crate) fn low(&self) -> (Key, bool) {
        let mut key = Key::of(&[&[self.by.table() as u8], self.prefix]);
        let Some(row) = self.after else {
            key.push(&self.first.to_be_bytes());
            return (key, true);
        };
        key.push(&row.age.to_be_bytes());
        key.push(&row.id.to_be_bytes());
        match self.by.id_len() {
            8 => key.push(&row.at.to_be_bytes()[2..]),
            // Two ids of one second that share 8 bytes would have to be made on purpose: the second one is passed over.
            _ => key.push(&[0xff; 30]),
        }
        (key, false)
    }

    /// No key of the range is above this.
    pub(crate) fn high(&self) -> Key {
        let tail = &[0xff; 38][..self.by.id_len() + 6];
        Key::of(&[&[self.by.table() as u8], self.prefix, &self.last.to_be_bytes(), tail])
    }
}

/// What is known of an id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Holding {
    pub(crate) place: Place,
    pub(crate) created_at: u64,
    pub(crate) kind: u16,
    pub(crate) state: Known,
}

impl Holding {
    pub(crate) fn value(&self) -> Value {
        let state = match self.state {
            Known::Served => 0,
            Known::Superseded => 1,
            Known::Deleted => 2,
            Known::Expired => 3,
            Known::TakenDown => 4,
        };
        let (at, len) = (self.place.at.to_be_bytes(), self.place.len.to_be_bytes());
        Value::of(&[&at[2..], &len[1..], &self.created_at.to_be_bytes(), &self.kind.to_be_bytes(), &[state]])
    }

    pub(crate) fn read(value: &[u8]) -> Result<Holding, StoreError> {
        let state = match value {
            [.., 0] => Known::Served,
            [.., 1] => Known::Superseded,
            [.., 2] => Known::Deleted,
            [.., 3] => Known::Expired,
            [.., 4] => Known::TakenDown,
            _ => return Err(damaged("a holding in no known state")),
        };
        if value.len() != 20 {
            return Err(damaged("a holding of the wrong length"));
        }
        Ok(Holding {
            place: Place { at: position(value, 0), len: length(value, 6) },
            created_at: u64::from_be_bytes(array(value, 9)),
            kind: u16::from_be_bytes(array(value, 17)),
            state,
        })
    }

    pub(crate) fn row(&self, id: &[u8; 32]) -> Row {
        let id = u64::from_be_bytes(array(id, 0));
        Row { age: u64::MAX - self.created_at, id, at: self.place.at, kind: self.kind, len: self.place.len, mark: 0 }
    }
}

/// The version of an address that is served, or was until it was deleted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Current {
    pub(crate) created_at: u64,
    pub(crate) id: [u8; 32],
    pub(crate) place: Place,
}

impl Current {
    pub(crate) fn value(&self) -> Value {
        let (at, len) = (self.place.at.to_be_bytes(), self.place.len.to_be_bytes());
        Value::of(&[&at[2..], &len[1..], &self.created_at.to_be_bytes(), &self.id])
    }

    pub(crate) fn read(value: &[u8]) -> Result<Current, StoreError> {
        if value.len() != 49 {
            return Err(damaged("an address"));
        }
        let place = Place { at: position(value, 0), len: length(value, 6) };
        Ok(Current { place, created_at: u64::from_be_bytes(array(value, 9)), id: array(value, 17) })
    }
}

fn point(table: Table, hash: &[u8]) -> PointKey {
    let mut key = [0; POINT];
    key[0] = table as u8;
    key[1..].copy_from_slice(&hash[..POINT - 1]);
    key
}

/// Where what is known of an id is kept.
pub(crate) fn id_key(id: &[u8; 32]) -> PointKey {
    point(Table::Id, id)
}

/// Where the current version of an address is kept, or up to when its versions are deleted.
pub(crate) fn address_point(table: Table, address: &AddressKey) -> PointKey {
    point(table, &sha256::Hash::hash(address).to_byte_array())
}

/// Where it is kept that the author of an event asked for its deletion.
pub(crate) fn gone_key(id: &[u8; 32], author: &[u8; 32]) -> PointKey {
    let mut engine = sha256::Hash::engine();
    engine.input(id);
    engine.input(author);
    point(Table::Gone, &sha256::Hash::from_engine(engine).to_byte_array())
}

/// Where it is kept up to when an author vanished.
pub(crate) fn vanished_key(author: &[u8; 32]) -> PointKey {
    point(Table::Vanished, &sha256::Hash::hash(author).to_byte_array())
}

/// Where it is kept what a credential was spent for.
pub(crate) fn spent_key(nullifier: &Nullifier) -> PointKey {
    point(Table::Spent, &nullifier.0)
}

/// Reads what a credential was spent for.
pub(crate) fn spent_for(value: &[u8]) -> Result<[u8; 32], StoreError> {
    value.try_into().map_err(|_| damaged("a spent credential"))
}

/// Where it is kept that anybody vanished at all.
pub(crate) fn somebody_vanished() -> Key {
    Key::of(&[&[Table::AnybodyVanished as u8]])
}

/// Where it is kept that the event at `place` expires.
pub(crate) fn expiry_key(expiration: Unix, place: Place) -> Key {
    Key::of(&[&[Table::Expiry as u8], &expiration.0.to_be_bytes(), &place.at.to_be_bytes()[2..]])
}

/// First and last key of what has expired by `now`.
pub(crate) fn expired_by(now: Unix) -> (Key, Key) {
    let high = Key::of(&[&[Table::Expiry as u8], &now.0.to_be_bytes(), &[0xff; 6]]);
    (Key::of(&[&[Table::Expiry as u8]]), high)
}

/// Place of an event that expires.
pub(crate) fn expiry_place(key: &[u8], value: &[u8]) -> Result<Place, StoreError> {
    if key.len() != 15 || value.len() != 3 {
        return Err(damaged("an expiry"));
    }
    Ok(Place { at: position(key, 9), len: length(value, 0) })
}

/// `N` bytes at `at` of a slice that is known to be long enough.
pub(crate) fn array<const N: usize>(from: &[u8], at: usize) -> [u8; N] {
    let mut out = [0; N];
    out.copy_from_slice(&from[at..at + N]);
    out
}

/// A time, as the value of a point.
pub(crate) fn seconds(value: &[u8]) -> Result<u64, StoreError> {
    value.try_into().map(u64::from_be_bytes).map_err(|_| damaged("a deleted address"))
}

fn position(from: &[u8], at: usize) -> u64 {
    let mut wide = [0; 8];
    wide[2..].copy_from_slice(&from[at..at + 6]);
    u64::from_be_bytes(wide)
}

fn length(from: &[u8], at: usize) -> u32 {
    let mut wide = [0; 4];
    wide[1..].copy_from_slice(&from[at..at + 3]);
    u32::from_be_bytes(wide)
}

pub(crate) fn damaged(what: &'static str) -> StoreError {
    StoreError::IndexDamaged(what)
}

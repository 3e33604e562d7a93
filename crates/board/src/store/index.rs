//! The derived indexes in LMDB: what an event is found by, and what its arrival does to others.
//!
//! LMDB runs without sync: the index commits after the log is on disk, so it is never ahead of it, and a crash of the process
//! leaves it whole. A crash of the machine may not, which is why a file beside it says since which boot it has been open;
//! see [`Index::open`].

use std::fs;
use std::io::Write as _;
use std::ops::Bound;
use std::path::{Path, PathBuf};

use heed::types::Bytes;
use heed::{CommitOrAbort, Database, Env, EnvFlags, EnvOpenOptions, RoTxn, RwTxn, WithoutTls};
use units::Unix;
use wire::DeletionTarget;
use wire::event::KIND_DELETION;

use super::frame::Place;
use super::log::{LogError, Mark};
use super::{AddressKey, Encoded, Facts, Known, StoreError, TagKey, address_key};

/// Version of keys and values below. Another one found on disk is rebuilt.
const SCHEMA: u32 = 1;
/// Threads that may read at the same time.
const READERS_MAX: u32 = 512;
/// Bytes behind the prefix of a row's key: reversed time, first half-word of the id, position.
const ROW_KEY: usize = 24;

type Table = Database<'static, Bytes, Bytes>;

/// The indexes that answer filters. Keys are `prefix ‖ 2^64-1-created_at ‖ first 8 bytes of the id ‖ position`, big-endian, so
/// that ascending keys are newest first and lowest id first; values are [`Row`]'s rest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum By {
    Created,
    Author,
    Kind,
    AuthorKind,
    Tag,
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
}

impl Row {
    pub(crate) fn place(&self) -> Place {
        Place { at: self.at, len: self.len }
    }

    fn of(event: &Encoded, place: Place) -> Row {
        let id = u64::from_be_bytes(array(&event.id, 0));
        Row { age: u64::MAX - event.created_at.0, id, at: place.at, kind: event.kind, len: place.len }
    }

    fn write_key(&self, key: &mut Vec<u8>) {
        key.extend_from_slice(&self.age.to_be_bytes());
        key.extend_from_slice(&self.id.to_be_bytes());
        key.extend_from_slice(&self.at.to_be_bytes());
    }

    fn value(&self) -> [u8; 6] {
        let mut value = [0; 6];
        value[..2].copy_from_slice(&self.kind.to_be_bytes());
        value[2..].copy_from_slice(&self.len.to_be_bytes());
        value
    }

    fn read(key: &[u8], value: &[u8]) -> Option<Row> {
        let key = key.get(key.len().checked_sub(ROW_KEY)?..)?;
        if value.len() != 6 {
            return None;
        }
        Some(Row {
            age: u64::from_be_bytes(array(key, 0)),
            id: u64::from_be_bytes(array(key, 8)),
            at: u64::from_be_bytes(array(key, 16)),
            kind: u16::from_be_bytes(array(value, 0)),
            len: u32::from_be_bytes(array(value, 2)),
        })
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
    fn value(&self) -> [u8; 23] {
        let mut value = [0; 23];
        value[..8].copy_from_slice(&self.place.at.to_be_bytes());
        value[8..12].copy_from_slice(&self.place.len.to_be_bytes());
        value[12..20].copy_from_slice(&self.created_at.to_be_bytes());
        value[20..22].copy_from_slice(&self.kind.to_be_bytes());
        value[22] = match self.state {
            Known::Served => 0,
            Known::Superseded => 1,
            Known::Deleted => 2,
            Known::Expired => 3,
            Known::TakenDown => 4,
        };
        value
    }

    fn read(value: &[u8]) -> Result<Holding, StoreError> {
        let state = match value {
            [.., 0] => Known::Served,
            [.., 1] => Known::Superseded,
            [.., 2] => Known::Deleted,
            [.., 3] => Known::Expired,
            [.., 4] => Known::TakenDown,
            _ => return Err(StoreError::IndexDamaged("a holding in no known state")),
        };
        if value.len() != 23 {
            return Err(StoreError::IndexDamaged("a holding of the wrong length"));
        }
        Ok(Holding {
            place: Place { at: u64::from_be_bytes(array(value, 0)), len: u32::from_be_bytes(array(value, 8)) },
            created_at: u64::from_be_bytes(array(value, 12)),
            kind: u16::from_be_bytes(array(value, 20)),
            state,
        })
    }

    pub(crate) fn row(&self, id: &[u8; 32]) -> Row {
        let id = u64::from_be_bytes(array(id, 0));
        Row { age: u64::MAX - self.created_at, id, at: self.place.at, kind: self.kind, len: self.place.len }
    }
}

/// `N` bytes at `at` of a slice that is known to be long enough.
fn array<const N: usize>(from: &[u8], at: usize) -> [u8; N] {
    let mut out = [0; N];
    out.copy_from_slice(&from[at..at + N]);
    out
}

/// Reads an event of the log, or of the batch that is about to be appended to it.
pub(crate) type ReadEvent<'a> = &'a dyn Fn(Place) -> Result<Encoded, LogError>;

/// The indexes.
pub(crate) struct Index {
    dir: PathBuf,
    env: Env<WithoutTls>,
    /// Id -> [`Holding`].
    ids: Table,
    rows: [Table; 5],
    /// Address -> created_at, id and place of the current version.
    addresses: Table,
    /// Id and author -> nothing: its author asked for its deletion.
    gone: Table,
    /// Address -> created_at: versions up to then are deleted.
    gone_addresses: Table,
    /// Expiration and position -> length of the frame.
    expiries: Table,
    meta: Table,
}

/// The one place where `unsafe` is allowed.
///
/// LMDB maps its file into memory, which is sound as long as nobody changes the file behind its back. The board holds an
/// exclusive lock on the log beside it for as long as this is open, LMDB locks its own file besides, and neither file is on
/// a network file system by the documentation's order. `NO_SYNC` gives up durability of the index, which is derived: after
/// a crash of the machine [`Index::open`] throws it away unread.
#[allow(unsafe_code)]
fn open_env(dir: &Path, map_bytes: usize) -> Result<Env<WithoutTls>, heed::Error> {
    let mut options = EnvOpenOptions::new().read_txn_without_tls();
    options.map_size(map_bytes).max_dbs(16).max_readers(READERS_MAX);
    // SAFETY: see above.
    unsafe { options.flags(EnvFlags::NO_SYNC).open(dir) }
}

fn boot_id() -> Option<String> {
    fs::read_to_string("/proc/sys/kernel/random/boot_id").ok().map(|id| id.trim().to_owned())
}

/// Says why the index in `dir` must not be believed, if so.
fn distrust(dir: &Path) -> Option<&'static str> {
    let data = match fs::metadata(dir.join("data.mdb")) {
        Ok(data) => data.len(),
        Err(_) => return Some("there is none"),
    };
    let state = fs::read_to_string(dir.join("state")).unwrap_or_default();
    match state.split_once(' ') {
        Some(("closed", len)) if len.trim().parse() == Ok(data) => None,
        Some(("closed", _)) => Some("its file changed while it was closed"),
        Some(("open", boot)) if boot_id().as_deref() == Some(boot.trim()) => None,
        Some(("open", _)) => Some("the machine went down while it was open"),
        _ => Some("nothing says how it was left"),
    }
}

fn write_state(dir: &Path, state: &str) -> std::io::Result<()> {
    let path = dir.join("state.new");
    let mut file = fs::File::create(&path)?;
    file.write_all(state.as_bytes())?;
    file.sync_all()?;
    fs::rename(&path, dir.join("state"))?;
    fs::File::open(dir)?.sync_all()
}

impl Index {
    /// Opens the index in `dir`. `belongs` says whether a mark is one of this log. If the index is missing, damaged, of another
    /// schema, not of this log, or was open when the machine went down, an empty one takes its place and the reason is given.
    pub(crate) fn open(
        dir: &Path,
        map_bytes: usize,
        belongs: &dyn Fn(&Mark) -> bool,
    ) -> Result<(Index, Mark, Option<&'static str>), StoreError> {
        fs::create_dir_all(dir)?;
        let mut why = distrust(dir);
        if why.is_none() {
            match Index::open_as_is(dir, map_bytes) {
                Ok(index) => match index.mark() {
                    Ok(Some(mark)) if belongs(&mark) => return Ok((index, mark, None)),
                    Ok(Some(_)) => why = Some("it is not of this log, or ahead of it"),
                    Ok(None) => why = Some("it is of another schema"),
                    Err(_) => why = Some("it cannot be read"),
                },
                Err(_) => why = Some("it cannot be opened"),
            }
        }
        for name in ["data.mdb", "lock.mdb", "state"] {
            match fs::remove_file(dir.join(name)) {
                Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(e.into()),
                _ => {}
            }
        }
        let index = Index::open_as_is(dir, map_bytes)?;
        let mut txn = index.env.write_txn()?;
        index.set_mark(&mut txn, &Mark::START)?;
        txn.commit()?;
        Ok((index, Mark::START, why))
    }

    fn open_as_is(dir: &Path, map_bytes: usize) -> Result<Index, StoreError> {
        write_state(dir, &format!("open {}", boot_id().as_deref().unwrap_or("unknown")))?;
        let env = open_env(dir, map_bytes)?;
        let txn = env.write_txn()?;
        let names = [
            "id",
            "created",
            "author",
            "kind",
            "author-kind",
            "tag",
            "address",
            "gone",
            "gone-address",
            "expiry",
            "meta",
        ];
        let tables = env.create_databases_and_commit(txn, |opener, txn| -> Result<_, heed::Error> {
            let mut open = |i: usize| opener.create_database::<Bytes, Bytes>(txn, Some(names[i]));
            let rows = [open(1)?, open(2)?, open(3)?, open(4)?, open(5)?];
            let rest = [open(0)?, open(6)?, open(7)?, open(8)?, open(9)?, open(10)?];
            Ok(CommitOrAbort::<_, ()>::Commit((rows, rest)))
        })?;
        let (rows, [ids, addresses, gone, gone_addresses, expiries, meta]) =
            tables.commit().ok_or(StoreError::IndexDamaged("its tables could not be made"))?;
        let dir = dir.to_owned();
        Ok(Index { dir, env, ids, rows, addresses, gone, gone_addresses, expiries, meta })
    }

    /// Puts everything on disk and notes that the index was closed in order.
    pub(crate) fn close(&self) -> Result<(), StoreError> {
        self.env.force_sync()?;
        let data = fs::metadata(self.dir.join("data.mdb"))?.len();
        Ok(write_state(&self.dir, &format!("closed {data}"))?)
    }

    pub(crate) fn read(&self) -> Result<RoTxn<'_, WithoutTls>, StoreError> {
        Ok(self.env.read_txn()?)
    }

    pub(crate) fn write(&self) -> Result<RwTxn<'_>, StoreError> {
        Ok(self.env.write_txn()?)
    }

    fn mark(&self) -> Result<Option<Mark>, StoreError> {
        let txn = self.read()?;
        let Some(value) = self.meta.get(&txn, b"mark")? else { return Ok(None) };
        if value.len() != 64 || value[..4] != SCHEMA.to_be_bytes() {
            return Ok(None);
        }
        Ok(Some(Mark {
            end: u64::from_be_bytes(array(value, 4)),
            last: Place { at: u64::from_be_bytes(array(value, 12)), len: u32::from_be_bytes(array(value, 20)) },
            seq: u64::from_be_bytes(array(value, 24)),
            chain: array(value, 32),
        }))
    }

    /// Notes up to where in the log the index goes.
    pub(crate) fn set_mark(&self, txn: &mut RwTxn<'_>, mark: &Mark) -> Result<(), StoreError> {
        let mut value = [0; 64];
        value[..4].copy_from_slice(&SCHEMA.to_be_bytes());
        value[4..12].copy_from_slice(&mark.end.to_be_bytes());
        value[12..20].copy_from_slice(&mark.last.at.to_be_bytes());
        value[20..24].copy_from_slice(&mark.last.len.to_be_bytes());
        value[24..32].copy_from_slice(&mark.seq.to_be_bytes());
        value[32..].copy_from_slice(&mark.chain);
        Ok(self.meta.put(txn, b"mark", &value)?)
    }

    /// What is known of an id.
    pub(crate) fn holding(&self, txn: &RoTxn<'_>, id: &[u8; 32]) -> Result<Option<Holding>, StoreError> {
        self.ids.get(txn, id)?.map(Holding::read).transpose()
    }

    /// Up to when versions of this address are deleted.
    pub(crate) fn gone_until(&self, txn: &RoTxn<'_>, address: &AddressKey) -> Result<Option<u64>, StoreError> {
        let value = self.gone_addresses.get(txn, address)?;
        value.map(|v| v.try_into().map(u64::from_be_bytes)).transpose().map_err(|_| damaged("a deleted address"))
    }

    /// Why `event` is not to be stored, if so.
    pub(crate) fn judge(&self, txn: &RoTxn<'_>, event: &Encoded, facts: &Facts) -> Result<Option<Known>, StoreError> {
        if let Some(holding) = self.holding(txn, &event.id)? {
            return Ok(Some(holding.state));
        }
        // A request to delete cannot itself be deleted (NIP-09).
        if event.kind != KIND_DELETION && self.gone.get(txn, &gone_key(&event.id, &event.pubkey))?.is_some() {
            return Ok(Some(Known::Deleted));
        }
        let Some(address) = &facts.address else { return Ok(None) };
        if self.gone_until(txn, address)?.is_some_and(|until| event.created_at.0 <= until) {
            return Ok(Some(Known::Deleted));
        }
        let newer = self.current(txn, address)?.is_some_and(|(created_at, id, _)| {
            created_at > event.created_at.0 || (created_at == event.created_at.0 && id < event.id)
        });
        Ok(newer.then_some(Known::Superseded))
    }

    fn current(&self, txn: &RoTxn<'_>, address: &AddressKey) -> Result<Option<(u64, [u8; 32], Place)>, StoreError> {
        let Some(value) = self.addresses.get(txn, address)? else { return Ok(None) };
        if value.len() != 52 {
            return Err(damaged("an address"));
        }
        let place = Place { at: u64::from_be_bytes(array(value, 40)), len: u32::from_be_bytes(array(value, 48)) };
        Ok(Some((u64::from_be_bytes(array(value, 0)), array(value, 8), place)))
    }

    /// Puts in an event that [`Index::judge`] found new, and does to others what it does to them. Gives whether any other
    /// event ceased to be served.
    pub(crate) fn insert(
        &self,
        txn: &mut RwTxn<'_>,
        event: &Encoded,
        facts: &Facts,
        place: Place,
        read: ReadEvent<'_>,
    ) -> Result<bool, StoreError> {
        let holding = Holding { place, created_at: event.created_at.0, kind: event.kind, state: Known::Served };
        self.ids.put(txn, &event.id, &holding.value())?;
        let value = Row::of(event, place).value();
        self.each_row(event, facts, place, |by, key| Ok(self.rows[by as usize].put(txn, key, &value)?))?;
        if let Some(expiration) = event.expiration {
            self.expiries.put(txn, &expiry_key(expiration, place), &place.len.to_be_bytes())?;
        }
        let mut removed = false;
        if let Some(address) = &facts.address {
            if let Some((_, before, _)) = self.current(txn, address)? {
                removed |= self.retire(txn, &before, Known::Superseded, read)?;
            }
            let mut value = [0; 52];
            value[..8].copy_from_slice(&event.created_at.0.to_be_bytes());
            value[8..40].copy_from_slice(&event.id);
            value[40..48].copy_from_slice(&place.at.to_be_bytes());
            value[48..].copy_from_slice(&place.len.to_be_bytes());
            self.addresses.put(txn, address, &value)?;
        }
        for target in &facts.targets {
            removed |= self.delete(txn, event, target, read)?;
        }
        Ok(removed)
    }

    /// Does what a deletion request asks for one target, if its author may (NIP-09).
    fn delete(
        &self,
        txn: &mut RwTxn<'_>,
        request: &Encoded,
        target: &DeletionTarget,
        read: ReadEvent<'_>,
    ) -> Result<bool, StoreError> {
        match target {
            DeletionTarget::Event(id) => {
                self.gone.put(txn, &gone_key(id, &request.pubkey), &[])?;
                let Some(holding) = self.holding(txn, id)? else { return Ok(false) };
                let hers = holding.kind != KIND_DELETION
                    && matches!(read(holding.place), Ok(event) if event.pubkey == request.pubkey);
                if hers { self.retire(txn, id, Known::Deleted, read) } else { Ok(false) }
            }
            DeletionTarget::Address { kind, pubkey, identifier } if *pubkey == request.pubkey => {
                let Some(address) = address_key(*kind, pubkey, identifier) else { return Ok(false) };
                let until = request.created_at.0;
                if self.gone_until(txn, &address)?.is_none_or(|before| before < until) {
                    self.gone_addresses.put(txn, &address, &until.to_be_bytes())?;
                }
                match self.current(txn, &address)? {
                    Some((created_at, id, _)) if created_at <= until => self.retire(txn, &id, Known::Deleted, read),
                    _ => Ok(false),
                }
            }
            DeletionTarget::Address { .. } => Ok(false),
        }
    }

    /// Ceases to serve an event. A later reason that weighs more takes the place of an earlier one.
    fn retire(
        &self,
        txn: &mut RwTxn<'_>,
        id: &[u8; 32],
        state: Known,
        read: ReadEvent<'_>,
    ) -> Result<bool, StoreError> {
        let Some(holding) = self.holding(txn, id)? else { return Ok(false) };
        let change = match holding.state {
            Known::Served => true,
            Known::Superseded => matches!(state, Known::Deleted | Known::TakenDown),
            Known::Deleted | Known::Expired => state == Known::TakenDown,
            Known::TakenDown => false,
        };
        if !change {
            return Ok(false);
        }
        self.ids.put(txn, id, &Holding { state, ..holding }.value())?;
        if holding.state != Known::Served {
            return Ok(true);
        }
        match read(holding.place)
            .map(|event| event.raw().map(|raw| Facts::of(&raw)).map(|facts| (event.clone(), facts)))
        {
            Ok(Ok((event, facts))) => {
                self.each_row(&event, &facts, holding.place, |by, key| {
                    self.rows[by as usize].delete(txn, key)?;
                    Ok(())
                })?;
                if let Some(expiration) = event.expiration {
                    self.expiries.delete(txn, &expiry_key(expiration, holding.place))?;
                }
            }
            // Its rows stay, but they lead to a frame that nobody can read, so nothing is served through them.
            Ok(Err(why)) => tracing::error!(position = holding.place.at, %why, "an event that ends is damaged"),
            Err(why) => tracing::error!(position = holding.place.at, %why, "an event that ends cannot be read"),
        }
        Ok(true)
    }

    /// Takes an event down for good, whether it is here already or not.
    pub(crate) fn take_down(
        &self,
        txn: &mut RwTxn<'_>,
        id: &[u8; 32],
        read: ReadEvent<'_>,
    ) -> Result<bool, StoreError> {
        if self.holding(txn, id)?.is_none() {
            let nowhere = Place { at: u64::MAX, len: 0 };
            let holding = Holding { place: nowhere, created_at: 0, kind: 0, state: Known::TakenDown };
            self.ids.put(txn, id, &holding.value())?;
            return Ok(false);
        }
        self.retire(txn, id, Known::TakenDown, read)
    }

    /// Ceases to serve up to `max` events that have expired by `now`. Gives how many there were.
    pub(crate) fn expire(
        &self,
        txn: &mut RwTxn<'_>,
        now: Unix,
        max: usize,
        read: ReadEvent<'_>,
    ) -> Result<usize, StoreError> {
        let end = now.0.saturating_add(1).to_be_bytes();
        let mut due = Vec::new();
        for row in self.expiries.range(txn, &(Bound::Unbounded, Bound::Excluded(&end[..])))?.take(max) {
            let (key, value) = row?;
            if key.len() != 16 || value.len() != 4 {
                return Err(damaged("an expiry"));
            }
            let place = Place { at: u64::from_be_bytes(array(key, 8)), len: u32::from_be_bytes(array(value, 0)) };
            due.push((key.to_vec(), place));
        }
        for (key, place) in &due {
            match read(*place) {
                Ok(event) => {
                    self.retire(txn, &event.id, Known::Expired, read)?;
                }
                Err(why) => tracing::error!(position = place.at, %why, "an event that expires cannot be read"),
            }
            self.expiries.delete(txn, key)?;
        }
        Ok(due.len())
    }

    fn each_row(
        &self,
        event: &Encoded,
        facts: &Facts,
        place: Place,
        mut visit: impl FnMut(By, &[u8]) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        let row = Row::of(event, place);
        let mut key = Vec::with_capacity(64);
        let mut each = |by: By, prefix: &[&[u8]]| {
            key.clear();
            prefix.iter().for_each(|part| key.extend_from_slice(part));
            row.write_key(&mut key);
            visit(by, &key)
        };
        let kind = event.kind.to_be_bytes();
        each(By::Created, &[])?;
        each(By::Author, &[&event.pubkey])?;
        each(By::Kind, &[&kind])?;
        each(By::AuthorKind, &[&event.pubkey, &kind])?;
        facts.tags.iter().try_for_each(|tag: &TagKey| each(By::Tag, &[tag]))
    }

    /// Looks at up to `max` rows under `prefix`, newest first: those with `first <= age <= last` that come after `after`.
    /// Gives them to `take`, and says whether there may be more.
    pub(crate) fn scan(
        &self,
        txn: &RoTxn<'_>,
        range: &Range<'_>,
        max: usize,
        mut take: impl FnMut(Row),
    ) -> Result<bool, StoreError> {
        let mut low = range.prefix.to_vec();
        let mut high = low.clone();
        match range.after {
            Some(row) => row.write_key(&mut low),
            None => low.extend_from_slice(&range.first.to_be_bytes()),
        }
        high.extend_from_slice(&range.last.to_be_bytes());
        high.extend_from_slice(&[0xff; ROW_KEY - 8]);
        let low = if range.after.is_some() { Bound::Excluded(&low[..]) } else { Bound::Included(&low[..]) };
        let mut seen = 0;
        for row in self.rows[range.by as usize].range(txn, &(low, Bound::Included(&high[..])))? {
            let (key, value) = row?;
            take(Row::read(key, value).ok_or(damaged("a row"))?);
            seen += 1;
            if seen == max {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Events that are served, and bytes of the file.
    pub(crate) fn size(&self) -> Result<(u64, u64), StoreError> {
        let txn = self.read()?;
        Ok((self.rows[By::Created as usize].len(&txn)?, self.env.real_disk_size()?))
    }

    /// All that is in the index, for tests that compare one that was caught up with one that was rebuilt.
    #[cfg(test)]
    pub(crate) fn dump(&self) -> Vec<(usize, Vec<u8>, Vec<u8>)> {
        let txn = self.read().unwrap();
        let mut all = Vec::new();
        let tables =
            self.rows.iter().chain([&self.ids, &self.addresses, &self.gone, &self.gone_addresses, &self.expiries]);
        for (i, table) in tables.enumerate() {
            all.extend(table.iter(&txn).unwrap().map(|row| {
                let (key, value) = row.unwrap();
                (i, key.to_vec(), value.to_vec())
            }));
        }
        all
    }
}

/// Rows to look at.
pub(crate) struct Range<'a> {
    pub(crate) by: By,
    pub(crate) prefix: &'a [u8],
    pub(crate) first: u64,
    pub(crate) last: u64,
    pub(crate) after: Option<Row>,
}

fn damaged(what: &'static str) -> StoreError {
    StoreError::IndexDamaged(what)
}

fn gone_key(id: &[u8; 32], author: &[u8; 32]) -> [u8; 64] {
    let mut key = [0; 64];
    key[..32].copy_from_slice(id);
    key[32..].copy_from_slice(author);
    key
}

fn expiry_key(expiration: Unix, place: Place) -> [u8; 16] {
    let mut key = [0; 16];
    key[..8].copy_from_slice(&expiration.0.to_be_bytes());
    key[8..].copy_from_slice(&place.at.to_be_bytes());
    key
}

//! The SQLite file `node.sqlite`: its tables, how rows are read, and how one [`Change`] is written.

use std::path::Path;
use std::time::Duration;

use node::{NodeError, PaymentId, PaymentState};
use rusqlite::{Connection, OptionalExtension, Row, params};
use units::{Msat, PaymentHash, Preimage, Unix};

use crate::holds::{HoldRow, Phase};
use crate::payments::PaymentRow;

/// Version of the tables below, in SQLite's `user_version`.
const SCHEMA: i32 = 1;
/// How long one connection waits for the other before it gives up.
const BUSY: Duration = Duration::from_secs(10);
/// Pages that a connection keeps in memory, in KiB; SQLite's own default is 2000.
const CACHE_KIB: i64 = 512;

const TABLES: &str = "
CREATE TABLE IF NOT EXISTS blobs (key TEXT PRIMARY KEY, value BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS monitors (name TEXT PRIMARY KEY, update_id INTEGER NOT NULL, bytes BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS monitor_updates (name TEXT NOT NULL, update_id INTEGER NOT NULL, bytes BLOB NOT NULL,
  PRIMARY KEY (name, update_id)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS archived_monitors (name TEXT PRIMARY KEY, bytes BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS holds (hash BLOB PRIMARY KEY, phase INTEGER NOT NULL, amount INTEGER NOT NULL,
  min_final_cltv INTEGER NOT NULL, expires INTEGER NOT NULL, invoice TEXT NOT NULL, received INTEGER,
  claim_deadline INTEGER, claim_id BLOB, preimage BLOB) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS holds_alive ON holds (phase) WHERE phase < 3;
CREATE TABLE IF NOT EXISTS payments (id BLOB PRIMARY KEY, hash BLOB, amount INTEGER NOT NULL, state INTEGER NOT NULL,
  preimage BLOB, fee INTEGER, reason TEXT, created INTEGER NOT NULL, again TEXT) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS payments_by_time ON payments (created);
CREATE INDEX IF NOT EXISTS payments_alive ON payments (state) WHERE state = 0;
CREATE TABLE IF NOT EXISTS received (hash BLOB PRIMARY KEY, amount INTEGER NOT NULL, claim_id BLOB,
  claimed INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS peers (node_id TEXT PRIMARY KEY, address TEXT NOT NULL);
";

/// Keys of the `blobs` table that are not LDK namespaces.
pub(crate) mod blob {
    pub(crate) const CHANNEL_MANAGER: &str = "channel_manager";
    pub(crate) const NETWORK_GRAPH: &str = "network_graph";
    pub(crate) const SCORER: &str = "scorer";
}

/// A whole monitor, and the steps written after it in order.
pub(crate) type SavedMonitor = (Vec<u8>, Vec<Vec<u8>>);

/// An ordinary receipt: an invoice without a foreign hash, or an offer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ReceivedRow {
    pub(crate) hash: PaymentHash,
    pub(crate) amount: Msat,
    /// LDK's id of the HTLC set that pays it: tells a redelivered event from a second payment.
    pub(crate) claim_id: Option<[u8; 32]>,
    pub(crate) claimed: bool,
}

/// One thing to be written. Changes are applied in the order in which they were queued.
#[derive(Debug)]
pub(crate) enum Change {
    /// A whole monitor; the updates that it includes are dropped.
    Monitor {
        name: String,
        update_id: u64,
        bytes: Vec<u8>,
    },
    /// One step of a monitor.
    MonitorUpdate {
        name: String,
        update_id: u64,
        bytes: Vec<u8>,
    },
    /// A monitor that has nothing left to watch moves to the archive.
    ArchiveMonitor {
        name: String,
    },
    Hold(HoldRow),
    Payment(PaymentRow),
    Received(ReceivedRow),
    Peer {
        node_id: String,
        address: String,
    },
    Blob {
        key: String,
        value: Vec<u8>,
    },
    RemoveBlob {
        key: String,
    },
}

/// The store could not be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StoreError {
    #[error("store: {0}")]
    Sqlite(#[from] rusqlite::Error),
    #[error("store: {0}")]
    Io(#[from] std::io::Error),
    #[error("the store was written by another version ({0}, this program knows {SCHEMA})")]
    Version(i32),
    #[error("the store holds a value that cannot be: {0}")]
    Corrupt(&'static str),
}

impl From<StoreError> for NodeError {
    fn from(error: StoreError) -> NodeError {
        NodeError::Fault(error.to_string())
    }
}

type Result<T> = std::result::Result<T, StoreError>;

/// One connection to the file. The writer thread owns one, readers share another.
pub(crate) struct Store {
    db: Connection,
}

impl Store {
    /// Opens or creates the file, readable by its owner alone: it holds channel secrets and settle intents.
    pub(crate) fn open(path: &Path) -> Result<Store> {
        if !path.exists() {
            let mut options = std::fs::OpenOptions::new();
            options.create(true).append(true);
            #[cfg(unix)]
            std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
            options.open(path)?;
        }
        let db = Connection::open(path)?;
        db.busy_timeout(BUSY)?;
        db.pragma_update(None, "journal_mode", "WAL")?;
        // FULL: a commit returns when the WAL is on disk. LDK must never tell a peer of a state we could forget.
        db.pragma_update(None, "synchronous", "FULL")?;
        // Rows are looked up one at a time by key, and the channel manager is replaced whole: a large cache earns nothing.
        db.pragma_update(None, "cache_size", -CACHE_KIB)?;
        match db.pragma_query_value(None, "user_version", |row| row.get::<_, i32>(0))? {
            0 => {
                db.execute_batch(TABLES)?;
                db.pragma_update(None, "user_version", SCHEMA)?;
            }
            SCHEMA => {}
            other => return Err(StoreError::Version(other)),
        }
        Ok(Store { db })
    }

    /// Writes `changes` and, when given, the channel manager that is at least as new as they are, with one fsync.
    pub(crate) fn commit(&mut self, changes: &[Change], manager: Option<&[u8]>) -> Result<()> {
        let tx = self.db.transaction()?;
        for change in changes {
            apply(&tx, change)?;
        }
        if let Some(bytes) = manager {
            put_blob(&tx, blob::CHANNEL_MANAGER, bytes)?;
        }
        tx.commit()?;
        Ok(())
    }

    pub(crate) fn blob(&self, key: &str) -> Result<Option<Vec<u8>>> {
        let mut query = self.db.prepare_cached("SELECT value FROM blobs WHERE key = ?1")?;
        Ok(query.query_row([key], |row| row.get(0)).optional()?)
    }

    pub(crate) fn blob_keys(&self, prefix: &str) -> Result<Vec<String>> {
        let mut query = self.db.prepare_cached("SELECT key FROM blobs WHERE substr(key, 1, length(?1)) = ?1")?;
        let keys = query.query_map([prefix], |row| row.get(0))?.collect::<rusqlite::Result<_>>()?;
        Ok(keys)
    }

    /// Every monitor with the updates to be applied to it, in order.
    pub(crate) fn monitors(&self) -> Result<Vec<SavedMonitor>> {
        let mut monitors = self.db.prepare("SELECT name, update_id, bytes FROM monitors")?;
        let mut updates = self
            .db
            .prepare("SELECT bytes FROM monitor_updates WHERE name = ?1 AND update_id > ?2 ORDER BY update_id")?;
        let mut found = Vec::new();
        let mut rows = monitors.query([])?;
        while let Some(row) = rows.next()? {
            let (name, update_id): (String, i64) = (row.get(0)?, row.get(1)?);
            let steps = updates.query_map(params![name, update_id], |row| row.get(0))?;
            found.push((row.get(2)?, steps.collect::<rusqlite::Result<_>>()?));
        }
        Ok(found)
    }

    pub(crate) fn hold(&self, hash: PaymentHash) -> Result<Option<HoldRow>> {
        let mut query = self.db.prepare_cached(&format!("{HOLDS} WHERE hash = ?1"))?;
        query.query_row([hash.0], |row| Ok(read_hold(row))).optional()?.transpose()
    }

    /// The holds that are not final.
    pub(crate) fn holds_alive(&self) -> Result<Vec<HoldRow>> {
        let mut query = self.db.prepare_cached(&format!("{HOLDS} WHERE phase < 3"))?;
        query.query_map([], |row| Ok(read_hold(row)))?.map(|row| row?).collect()
    }

    pub(crate) fn payment(&self, id: PaymentId) -> Result<Option<PaymentRow>> {
        let mut query = self.db.prepare_cached(&format!("{PAYMENTS} WHERE id = ?1"))?;
        query.query_row([id.0], |row| Ok(read_payment(row))).optional()?.transpose()
    }

    pub(crate) fn payments_alive(&self) -> Result<Vec<PaymentRow>> {
        let mut query = self.db.prepare_cached(&format!("{PAYMENTS} WHERE state = 0"))?;
        query.query_map([], |row| Ok(read_payment(row)))?.map(|row| row?).collect()
    }

    /// Newest first.
    pub(crate) fn payments(&self, limit: usize) -> Result<Vec<PaymentRow>> {
        let mut query = self.db.prepare_cached(&format!("{PAYMENTS} ORDER BY created DESC, id LIMIT ?1"))?;
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        query.query_map([limit], |row| Ok(read_payment(row)))?.map(|row| row?).collect()
    }

    pub(crate) fn received(&self, hash: PaymentHash) -> Result<Option<ReceivedRow>> {
        let mut query = self.db.prepare_cached("SELECT amount, claim_id, claimed FROM received WHERE hash = ?1")?;
        let row = query.query_row([hash.0], |row| {
            Ok(ReceivedRow { hash, amount: msat(row, 0)?, claim_id: row.get(1)?, claimed: row.get(2)? })
        });
        Ok(row.optional()?)
    }

    pub(crate) fn peers(&self) -> Result<Vec<(String, String)>> {
        let mut query = self.db.prepare("SELECT node_id, address FROM peers ORDER BY node_id")?;
        let rows = query.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?.collect::<rusqlite::Result<_>>()?;
        Ok(rows)
    }
}

const HOLDS: &str = "SELECT hash, phase, amount, min_final_cltv, expires, invoice, received, claim_deadline, claim_id,
  preimage FROM holds";
const PAYMENTS: &str = "SELECT id, hash, amount, state, preimage, fee, reason, created, again FROM payments";

fn read_hold(row: &Row) -> Result<HoldRow> {
    let phase = Phase::from_code(row.get(1)?).ok_or(StoreError::Corrupt("phase of a hold"))?;
    let preimage: Option<[u8; 32]> = row.get(9)?;
    Ok(HoldRow {
        hash: PaymentHash(row.get(0)?),
        phase,
        amount: msat(row, 2)?,
        min_final_cltv: row.get(3)?,
        expires: Unix(unsigned(row.get(4)?)),
        invoice: row.get(5)?,
        received: row.get::<_, Option<i64>>(6)?.map(|amount| Msat(unsigned(amount))),
        claim_deadline: row.get(7)?,
        claim_id: row.get(8)?,
        preimage: preimage.map(Preimage::new),
    })
}

fn read_payment(row: &Row) -> Result<PaymentRow> {
    let state = match row.get::<_, u8>(3)? {
        0 => PaymentState::InFlight,
        1 => {
            let preimage: Option<[u8; 32]> = row.get(4)?;
            let preimage = preimage.ok_or(StoreError::Corrupt("paid without a preimage"))?;
            PaymentState::Succeeded {
                preimage: Preimage::new(preimage),
                fee: Msat(unsigned(row.get::<_, Option<i64>>(5)?.unwrap_or(0))),
            }
        }
        2 => PaymentState::Failed { reason: row.get::<_, Option<String>>(6)?.unwrap_or_default() },
        _ => return Err(StoreError::Corrupt("state of a payment")),
    };
    Ok(PaymentRow {
        id: PaymentId(row.get(0)?),
        hash: row.get::<_, Option<[u8; 32]>>(1)?.map(PaymentHash),
        amount: msat(row, 2)?,
        state,
        created: Unix(unsigned(row.get(7)?)),
        again: row
            .get::<_, Option<String>>(8)?
            .map(|text| serde_json::from_str(&text).map_err(|_| StoreError::Corrupt("how to try a payment again")))
            .transpose()?,
    })
}

fn apply(db: &Connection, change: &Change) -> Result<()> {
    match change {
        Change::Monitor { name, update_id, bytes } => {
            let id = signed(*update_id);
            run(db, "INSERT OR REPLACE INTO monitors VALUES (?1, ?2, ?3)", params![name, id, bytes])?;
            run(db, "DELETE FROM monitor_updates WHERE name = ?1 AND update_id <= ?2", params![name, id])
        }
        Change::MonitorUpdate { name, update_id, bytes } => {
            let values = params![name, signed(*update_id), bytes];
            run(db, "INSERT OR REPLACE INTO monitor_updates VALUES (?1, ?2, ?3)", values)
        }
        Change::ArchiveMonitor { name } => {
            let copy = "INSERT OR REPLACE INTO archived_monitors SELECT name, bytes FROM monitors WHERE name = ?1";
            run(db, copy, [name])?;
            run(db, "DELETE FROM monitors WHERE name = ?1", [name])?;
            run(db, "DELETE FROM monitor_updates WHERE name = ?1", [name])
        }
        Change::Hold(row) => put_hold(db, row),
        Change::Payment(row) => put_payment(db, row),
        Change::Received(row) => run(
            db,
            "INSERT OR REPLACE INTO received VALUES (?1, ?2, ?3, ?4)",
            params![row.hash.0, signed(row.amount.0), row.claim_id, row.claimed],
        ),
        Change::Peer { node_id, address } => {
            run(db, "INSERT OR REPLACE INTO peers VALUES (?1, ?2)", params![node_id, address])
        }
        Change::Blob { key, value } => put_blob(db, key, value),
        Change::RemoveBlob { key } => run(db, "DELETE FROM blobs WHERE key = ?1", [key]),
    }
}

fn put_blob(db: &Connection, key: &str, value: &[u8]) -> Result<()> {
    run(db, "INSERT OR REPLACE INTO blobs VALUES (?1, ?2)", params![key, value])
}

fn put_hold(db: &Connection, row: &HoldRow) -> Result<()> {
    run(
        db,
        "INSERT OR REPLACE INTO holds VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)",
        params![
            row.hash.0,
            row.phase.code(),
            signed(row.amount.0),
            row.min_final_cltv,
            signed(row.expires.0),
            row.invoice,
            row.received.map(|amount| signed(amount.0)),
            row.claim_deadline,
            row.claim_id,
            row.preimage.as_ref().map(Preimage::expose),
        ],
    )
}

fn put_payment(db: &Connection, row: &PaymentRow) -> Result<()> {
    let (state, preimage, fee, reason) = match &row.state {
        PaymentState::InFlight => (0, None, None, None),
        PaymentState::Succeeded { preimage, fee } => (1, Some(preimage.expose()), Some(signed(fee.0)), None),
        PaymentState::Failed { reason } => (2, None, None, Some(reason)),
    };
    let again = row.again.as_ref().map(serde_json::to_string).transpose();
    let again = again.map_err(|_| StoreError::Corrupt("how to try a payment again"))?;
    run(
        db,
        "INSERT OR REPLACE INTO payments VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
        params![
            row.id.0,
            row.hash.map(|hash| hash.0),
            signed(row.amount.0),
            state,
            preimage,
            fee,
            reason,
            signed(row.created.0),
            again
        ],
    )
}

fn run(db: &Connection, sql: &str, values: impl rusqlite::Params) -> Result<()> {
    db.prepare_cached(sql)?.execute(values)?;
    Ok(())
}

fn msat(row: &Row, column: usize) -> rusqlite::Result<Msat> {
    Ok(Msat(unsigned(row.get(column)?)))
}

/// SQLite's integers are signed; the amounts, times and ids here stay far below the sign, and it round-trips anyway.
fn signed(value: u64) -> i64 {
    value.cast_signed()
}

fn unsigned(value: i64) -> u64 {
    value.cast_unsigned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn step(id: u8) -> Change {
        Change::MonitorUpdate { name: "m".into(), update_id: id.into(), bytes: vec![id] }
    }

    fn whole(id: u8) -> Change {
        Change::Monitor { name: "m".into(), update_id: id.into(), bytes: vec![100 + id] }
    }

    #[test]
    fn a_whole_monitor_replaces_the_steps_before_it_and_an_archived_one_is_not_loaded() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("store");
        let mut store = Store::open(&path).unwrap();
        store.commit(&[whole(0), step(1), step(2), whole(2), step(3)], None).unwrap();
        store.commit(&[step(4), step(12)], Some(&[9])).unwrap();
        drop(store);
        let mut store = Store::open(&path).unwrap();
        assert_eq!(store.monitors().unwrap(), [(vec![102], vec![vec![3], vec![4], vec![12]])]);
        assert_eq!(store.blob(blob::CHANNEL_MANAGER).unwrap(), Some(vec![9]));
        store.commit(&[Change::ArchiveMonitor { name: "m".into() }], None).unwrap();
        // A crash in the middle of it may make LDK ask again.
        store.commit(&[Change::ArchiveMonitor { name: "m".into() }], None).unwrap();
        assert!(store.monitors().unwrap().is_empty());
        let kept: Vec<u8> = store.db.query_row("SELECT bytes FROM archived_monitors", [], |row| row.get(0)).unwrap();
        assert_eq!(kept, [102]);
    }

    #[cfg(unix)]
    #[test]
    fn nobody_else_reads_the_file_and_another_version_is_refused() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("store");
        let store = Store::open(&path).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        store.db.pragma_update(None, "user_version", SCHEMA + 1).unwrap();
        assert!(matches!(Store::open(&path), Err(StoreError::Version(found)) if found == SCHEMA + 1));
    }
}

//! The wallet's SQLite file: BDK's change sets in the order they happened.
//!
//! bdk_wallet's own SQLite backend is tied to an older rusqlite, and only one SQLite can be linked into a program; a change set is
//! serialisable, so a table of them is all that is needed. Everything in here can be found again from the seed and the chain.

use std::fs::OpenOptions;
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use bdk_wallet::ChangeSet;
use bdk_wallet::chain::Merge;
use rusqlite::{Connection, OptionalExtension, params};

/// With more rows than this the change sets are merged into one when the file is opened.
const MAX_ROWS: usize = 512;
const SCHEMA_VERSION: i64 = 1;

/// Why the file cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The file cannot be made.
    #[error("cannot create it: {0}")]
    Create(#[from] io::Error),
    /// SQLite failed.
    #[error("{0}")]
    Sqlite(#[from] rusqlite::Error),
    /// A row cannot be read.
    #[error("a change cannot be read: {0}")]
    Decode(#[from] serde_json::Error),
    /// Written by a newer version.
    #[error("it has schema version {0}; this program knows version {SCHEMA_VERSION}")]
    Version(i64),
}

pub(super) struct Store {
    connection: Connection,
}

impl Store {
    /// Opens or creates the file, readable by its owner only, and returns what it holds.
    pub(super) fn open(path: &Path) -> Result<(Store, Option<ChangeSet>), StoreError> {
        OpenOptions::new().read(true).append(true).create(true).mode(0o600).open(path)?;
        let connection = Connection::open(path)?;
        connection.pragma_update(None, "journal_mode", "WAL")?;
        connection.pragma_update(None, "synchronous", "FULL")?;
        let version: i64 = connection.pragma_query_value(None, "user_version", |row| row.get(0))?;
        match version {
            0 => connection.execute_batch(
                "BEGIN;
                 CREATE TABLE change (id INTEGER PRIMARY KEY, body TEXT NOT NULL);
                 CREATE TABLE flag (name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
                 PRAGMA user_version = 1;
                 COMMIT;",
            )?,
            SCHEMA_VERSION => {}
            newer => return Err(StoreError::Version(newer)),
        }
        let mut store = Store { connection };
        let whole = store.read()?;
        Ok((store, whole))
    }

    fn read(&mut self) -> Result<Option<ChangeSet>, StoreError> {
        let mut whole = None::<ChangeSet>;
        let mut rows = 0;
        {
            let mut query = self.connection.prepare("SELECT body FROM change ORDER BY id")?;
            for body in query.query_map([], |row| row.get::<_, String>(0))? {
                let change = serde_json::from_str(&body?)?;
                whole.get_or_insert_default().merge(change);
                rows += 1;
            }
        }
        if let (Some(whole), true) = (&whole, rows > MAX_ROWS) {
            let transaction = self.connection.transaction()?;
            transaction.execute("DELETE FROM change", [])?;
            transaction.execute("INSERT INTO change (body) VALUES (?1)", params![serde_json::to_string(whole)?])?;
            transaction.commit()?;
        }
        Ok(whole)
    }

    pub(super) fn append(&self, change: &ChangeSet) -> Result<(), StoreError> {
        let body = serde_json::to_string(change)?;
        self.connection.prepare_cached("INSERT INTO change (body) VALUES (?1)")?.execute(params![body])?;
        Ok(())
    }

    pub(super) fn flag(&self, name: &str) -> Result<bool, StoreError> {
        let mut query = self.connection.prepare_cached("SELECT value FROM flag WHERE name = ?1")?;
        Ok(query.query_row(params![name], |row| row.get(0)).optional()?.unwrap_or(false))
    }

    pub(super) fn set_flag(&self, name: &str, value: bool) -> Result<(), StoreError> {
        let mut insert = self.connection.prepare_cached("INSERT OR REPLACE INTO flag (name, value) VALUES (?1, ?2)")?;
        insert.execute(params![name, value])?;
        Ok(())
    }
}

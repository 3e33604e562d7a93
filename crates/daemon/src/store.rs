//! The daemon's durable memory: the trade log, small named values, and what boards are still owed.
//!
//! One SQLite file in WAL mode with `synchronous = FULL`: when [`Store::append`] returns, the entries survive a power cut.
//! Bodies are sealed with XChaCha20-Poly1305 under a key derived from the seed, because trade events carry secrets.

mod chat;
mod kept;
pub mod mirrors;
pub(crate) mod notices;
pub mod outbox;

use std::path::Path;
use std::sync::Mutex;

use chacha20poly1305::aead::{Aead, KeyInit, Payload};
use chacha20poly1305::{XChaCha20Poly1305, XNonce};
use rusqlite::{Connection, OptionalExtension, params};
use trade::TradeId;
use units::{Height, Now, Unix};

/// Version of the tables below. A file of a newer version is refused.
const SCHEMA_VERSION: i64 = 2;

/// Why the store cannot serve.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// SQLite says no: disk full, file damaged, locked by another process.
    #[error("trade store: {0}")]
    Sqlite(#[from] rusqlite::Error),
    /// A sealed body does not open: wrong seed, or damage.
    #[error("trade store: entry {0} does not open with this seed")]
    Sealed(String),
    /// The system gives no random bytes.
    #[error("trade store: no random bytes: {0}")]
    Entropy(String),
    /// Somebody else appended first, or the caller's view is old.
    #[error("trade store: {trade} is at entry {found}, expected {expected}")]
    Sequence {
        /// Which trade.
        trade: TradeId,
        /// Entries it has.
        found: u64,
        /// Entries the caller thought it has.
        expected: u64,
    },
    /// Written by a newer program.
    #[error("trade store: the file has version {0}, this program knows up to {SCHEMA_VERSION}; update souk")]
    Newer(i64),
}

/// One entry of the trade log, opened.
#[derive(Clone, Debug)]
pub struct Entry {
    /// Which trade.
    pub trade: TradeId,
    /// Its place in that trade's log, from 0.
    pub seq: u64,
    /// When it was recorded.
    pub at: Now,
    /// The event, as the caller encoded it; none when the sealed body does not open: that trade is damaged, the others are not.
    pub body: Option<Vec<u8>>,
}

/// The store. One process at a time: the file is locked while open.
pub struct Store {
    db: Mutex<Connection>,
    cipher: XChaCha20Poly1305,
}

impl Store {
    /// Opens or creates the file. `data_key` is derived from the seed; another seed is refused at the first read.
    pub fn open(path: &Path, data_key: &[u8; 32]) -> Result<Store, StoreError> {
        let db = Connection::open(path)?;
        db.pragma_update(None, "locking_mode", "EXCLUSIVE")?;
        db.pragma_update(None, "journal_mode", "WAL")?;
        db.pragma_update(None, "synchronous", "FULL")?;
        let version: i64 = db.pragma_query_value(None, "user_version", |row| row.get(0))?;
        if version > SCHEMA_VERSION {
            return Err(StoreError::Newer(version));
        }
        // Versions differ by tables that are new, so an older file only needs those.
        let (outbox, chat, notices, kept) = (outbox::TABLES, chat::TABLE, notices::TABLE, kept::TABLE);
        db.execute_batch(&format!(
            "BEGIN;
             CREATE TABLE IF NOT EXISTS trade_event(
                 trade BLOB NOT NULL, seq INTEGER NOT NULL, at_height INTEGER NOT NULL, at_unix INTEGER NOT NULL,
                 body BLOB NOT NULL, PRIMARY KEY(trade, seq)) WITHOUT ROWID;
             CREATE TABLE IF NOT EXISTS meta(name TEXT PRIMARY KEY, body BLOB NOT NULL) WITHOUT ROWID;
             {outbox} {chat} {notices} {kept}
             COMMIT;",
        ))?;
        db.pragma_update(None, "user_version", SCHEMA_VERSION)?;
        Ok(Store { db: Mutex::new(db), cipher: XChaCha20Poly1305::new(data_key.into()) })
    }

    /// Copies everything into a new file, as it is at one moment. Bodies stay sealed.
    pub fn copy_to(&self, path: &Path) -> Result<(), StoreError> {
        self.lock().execute("VACUUM INTO ?1", [path.to_string_lossy()])?;
        Ok(())
    }

    /// Appends `bodies` to the log of `trade`, which must hold exactly `expected_seq` entries. Durable on return.
    pub fn append(&self, trade: TradeId, expected_seq: u64, at: Now, bodies: &[Vec<u8>]) -> Result<(), StoreError> {
        let mut db = self.lock();
        let tx = db.transaction()?;
        let found: i64 =
            tx.query_row("SELECT COUNT(*) FROM trade_event WHERE trade = ?1", [&trade.0[..]], |row| row.get(0))?;
        let found = found.unsigned_abs();
        if found != expected_seq {
            return Err(StoreError::Sequence { trade, found, expected: expected_seq });
        }
        self.insert(&tx, trade, expected_seq, bodies.iter().map(|body| (at, &body[..])))?;
        tx.commit()?;
        Ok(())
    }

    /// Puts entries into the log of `trade`, the first at the place `from`.
    fn insert<'a>(
        &self,
        db: &Connection,
        trade: TradeId,
        from: u64,
        bodies: impl Iterator<Item = (Now, &'a [u8])>,
    ) -> Result<(), StoreError> {
        for (seq, (at, body)) in (from..).zip(bodies) {
            let sealed = self.seal(&entry_name(trade, seq), body)?;
            db.execute(
                "INSERT INTO trade_event(trade, seq, at_height, at_unix, body) VALUES(?1, ?2, ?3, ?4, ?5)",
                params![&trade.0[..], seq.cast_signed(), at.height.0, at.unix.0.cast_signed(), sealed],
            )?;
        }
        Ok(())
    }

    /// The whole log, trade by trade, each in order.
    pub fn entries(&self) -> Result<Vec<Entry>, StoreError> {
        self.read("SELECT trade, seq, at_height, at_unix, body FROM trade_event ORDER BY trade, seq", [])
    }

    /// The entries that a query finds: trade, place, height, time and sealed body.
    fn read(&self, query: &str, of: impl rusqlite::Params) -> Result<Vec<Entry>, StoreError> {
        let db = self.lock();
        let mut query = db.prepare_cached(query)?;
        let rows = query.query_map(of, |row| {
            let trade: [u8; 32] = row.get(0)?;
            let seq: i64 = row.get(1)?;
            let unix: i64 = row.get(3)?;
            let at = Now { height: Height(row.get(2)?), unix: Unix(unix.unsigned_abs()) };
            Ok((TradeId(trade), seq.unsigned_abs(), at, row.get::<_, Vec<u8>>(4)?))
        })?;
        let mut entries = Vec::new();
        for row in rows {
            let (trade, seq, at, sealed) = row?;
            let body = self.open_sealed(&entry_name(trade, seq), &sealed).ok();
            entries.push(Entry { trade, seq, at, body });
        }
        Ok(entries)
    }

    /// A small named value, such as the next key index; `None` when it was never set.
    pub fn get(&self, name: &str) -> Result<Option<Vec<u8>>, StoreError> {
        let sealed: Option<Vec<u8>> =
            self.lock().query_row("SELECT body FROM meta WHERE name = ?1", [name], |row| row.get(0)).optional()?;
        sealed.map(|sealed| self.open_sealed(name, &sealed)).transpose()
    }

    /// Sets a named value. Durable on return.
    pub fn put(&self, name: &str, body: &[u8]) -> Result<(), StoreError> {
        let sealed = self.seal(name, body)?;
        self.lock().execute("INSERT OR REPLACE INTO meta(name, body) VALUES(?1, ?2)", params![name, sealed])?;
        Ok(())
    }

    /// Forgets a named value.
    pub fn remove(&self, name: &str) -> Result<(), StoreError> {
        self.lock().execute("DELETE FROM meta WHERE name = ?1", [name])?;
        Ok(())
    }

    /// Every named value whose name begins with `prefix`, in order of names.
    pub fn list(&self, prefix: &str) -> Result<Vec<(String, Vec<u8>)>, StoreError> {
        let db = self.lock();
        let mut query =
            db.prepare("SELECT name, body FROM meta WHERE substr(name, 1, length(?1)) = ?1 ORDER BY name")?;
        let rows = query.query_map([prefix], |row| Ok((row.get::<_, String>(0)?, row.get::<_, Vec<u8>>(1)?)))?;
        let mut values = Vec::new();
        for row in rows {
            let (name, sealed) = row?;
            let body = self.open_sealed(&name, &sealed)?;
            values.push((name, body));
        }
        Ok(values)
    }

    /// A panic elsewhere while the lock was held cannot leave a half-written row: SQLite rolls back.
    fn lock(&self) -> std::sync::MutexGuard<'_, Connection> {
        self.db.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// Binds the body to its place, so that sealed rows cannot be swapped.
    fn seal(&self, name: &str, body: &[u8]) -> Result<Vec<u8>, StoreError> {
        let mut nonce = [0; 24];
        getrandom::fill(&mut nonce).map_err(|e| StoreError::Entropy(e.to_string()))?;
        let payload = Payload { msg: body, aad: name.as_bytes() };
        let sealed =
            self.cipher.encrypt(&XNonce::from(nonce), payload).map_err(|_| StoreError::Sealed(name.to_owned()))?;
        Ok([&nonce[..], &sealed].concat())
    }

    fn open_sealed(&self, name: &str, sealed: &[u8]) -> Result<Vec<u8>, StoreError> {
        let fault = || StoreError::Sealed(name.to_owned());
        let (nonce, sealed) = sealed.split_first_chunk::<24>().ok_or_else(fault)?;
        let payload = Payload { msg: sealed, aad: name.as_bytes() };
        self.cipher.decrypt(&XNonce::from(*nonce), payload).map_err(|_| fault())
    }
}

fn entry_name(trade: TradeId, seq: u64) -> String {
    format!("{trade}/{seq}")
}

#[cfg(test)]
mod tests {
    use super::*;

    const AT: Now = Now { height: Height(7), unix: Unix(8) };

    fn open(dir: &Path, key: u8) -> Store {
        Store::open(&dir.join("trades.sqlite"), &[key; 32]).unwrap()
    }

    #[test]
    fn what_was_appended_is_there_after_reopening() {
        let dir = tempfile::tempdir().unwrap();
        let trade = TradeId([1; 32]);
        open(dir.path(), 1).append(trade, 0, AT, &[b"a".to_vec(), b"b".to_vec()]).unwrap();
        let entries = open(dir.path(), 1).entries().unwrap();
        let seen: Vec<_> = entries.iter().map(|e| (e.seq, e.at, e.body.as_deref())).collect();
        assert_eq!(seen, [(0, AT, Some(&b"a"[..])), (1, AT, Some(&b"b"[..]))]);
    }

    #[test]
    fn an_append_on_an_old_view_is_refused_and_writes_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let store = open(dir.path(), 1);
        let trade = TradeId([1; 32]);
        store.append(trade, 0, AT, &[b"a".to_vec()]).unwrap();
        let error = store.append(trade, 0, AT, &[b"b".to_vec()]).unwrap_err();
        assert!(matches!(error, StoreError::Sequence { found: 1, expected: 0, .. }), "{error}");
        assert_eq!(store.entries().unwrap().len(), 1);
    }

    #[test]
    fn secrets_are_not_in_the_file_and_another_seed_does_not_open_it() {
        let dir = tempfile::tempdir().unwrap();
        let secret = b"a secret that nobody should find on disk";
        open(dir.path(), 1).append(TradeId([1; 32]), 0, AT, &[secret.to_vec()]).unwrap();
        for file in std::fs::read_dir(dir.path()).unwrap() {
            let bytes = std::fs::read(file.unwrap().path()).unwrap();
            assert!(!bytes.windows(secret.len()).any(|w| w == secret));
        }
        let other = open(dir.path(), 2);
        assert!(other.entries().unwrap().iter().all(|entry| entry.body.is_none()));
    }

    #[test]
    fn a_file_of_the_first_version_gets_the_outbox_and_keeps_its_log() {
        let dir = tempfile::tempdir().unwrap();
        open(dir.path(), 1).append(TradeId([1; 32]), 0, AT, &[b"a".to_vec()]).unwrap();
        let old = Connection::open(dir.path().join("trades.sqlite")).unwrap();
        old.execute_batch("DROP TABLE letter; DROP TABLE owed; PRAGMA user_version = 1;").unwrap();
        drop(old);
        let store = open(dir.path(), 1);
        assert_eq!(store.entries().unwrap().len(), 1);
        assert!(store.backlog().unwrap().is_empty());
    }

    #[test]
    fn named_values_are_listed_by_prefix() {
        let dir = tempfile::tempdir().unwrap();
        let store = open(dir.path(), 1);
        for name in ["listing/b", "listing/a", "other"] {
            store.put(name, name.as_bytes()).unwrap();
        }
        let names: Vec<_> = store.list("listing/").unwrap().into_iter().map(|(name, _)| name).collect();
        assert_eq!(names, ["listing/a", "listing/b"]);
        assert_eq!(store.get("other").unwrap().as_deref(), Some(&b"other"[..]));
        assert_eq!(store.get("none").unwrap(), None);
    }
}

//! Notices to our user that a web-hook has not taken yet, and those that it has, so that none is told twice.

use rusqlite::params;
use trade::TradeId;
use units::Unix;

use super::{Store, StoreError};

/// How long a web-hook is tried with a notice.
pub(crate) const HOOK_SECS: u64 = 3 * 24 * 3600;

pub(super) const TABLE: &str = "
    CREATE TABLE IF NOT EXISTS notice(
        seq INTEGER PRIMARY KEY AUTOINCREMENT, trade BLOB NOT NULL, name TEXT NOT NULL, at_unix INTEGER NOT NULL,
        not_before INTEGER NOT NULL DEFAULT 0, tries INTEGER NOT NULL DEFAULT 0, due INTEGER NOT NULL DEFAULT 1,
        body BLOB NOT NULL, UNIQUE(trade, name));";

/// A notice that the web-hook has to take.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct DueNotice {
    /// Its place.
    pub(crate) seq: i64,
    /// When it was raised.
    pub(crate) at: Unix,
    /// How often it was tried in vain.
    pub(crate) tries: u32,
    /// The body of the request.
    pub(crate) body: Vec<u8>,
}

impl Store {
    /// Keeps a notice for the web-hook. Durable on return; the same notice of a trade again changes nothing.
    pub(crate) fn notice_put(&self, trade: TradeId, name: &str, at: Unix, body: &[u8]) -> Result<(), StoreError> {
        let sealed = self.seal(&place(trade, name), body)?;
        self.lock().execute(
            "INSERT OR IGNORE INTO notice(trade, name, at_unix, body) VALUES(?1, ?2, ?3, ?4)",
            params![&trade.0[..], name, at.0.cast_signed(), sealed],
        )?;
        Ok(())
    }

    /// The oldest notice that may be tried now.
    pub(crate) fn notice_due(&self, now: Unix) -> Result<Option<DueNotice>, StoreError> {
        let db = self.lock();
        let mut query = db.prepare_cached(
            "SELECT seq, trade, name, at_unix, tries, body FROM notice
             WHERE due = 1 AND not_before <= ?1 ORDER BY seq LIMIT 1",
        )?;
        let mut rows = query.query([now.0.cast_signed()])?;
        let Some(row) = rows.next()? else { return Ok(None) };
        let (trade, name): ([u8; 32], String) = (row.get(1)?, row.get(2)?);
        let (at, sealed): (i64, Vec<u8>) = (row.get(3)?, row.get(5)?);
        let body = self.open_sealed(&place(TradeId(trade), &name), &sealed)?;
        Ok(Some(DueNotice { seq: row.get(0)?, at: Unix(at.unsigned_abs()), tries: row.get(4)?, body }))
    }

    /// The web-hook took a notice, or is not tried with it any more.
    pub(crate) fn notice_done(&self, seq: i64) -> Result<(), StoreError> {
        self.lock().execute("UPDATE notice SET due = 0 WHERE seq = ?1", [seq])?;
        Ok(())
    }

    /// The web-hook did not take a notice: not before `until` again.
    pub(crate) fn notice_rests(&self, seq: i64, until: Unix) -> Result<(), StoreError> {
        self.lock().execute(
            "UPDATE notice SET not_before = ?2, tries = tries + 1 WHERE seq = ?1",
            params![seq, until.0.cast_signed()],
        )?;
        Ok(())
    }
}

fn place(trade: TradeId, name: &str) -> String {
    format!("notice/{trade}/{name}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_notice_is_due_until_it_was_taken_and_never_again() {
        let dir = tempfile::tempdir().unwrap();
        let open = || Store::open(&dir.path().join("trades.sqlite"), &[1; 32]).unwrap();
        let (trade, now) = (TradeId([1; 32]), Unix(1000));
        let store = open();
        store.notice_put(trade, "late", now, b"one").unwrap();
        store.notice_put(trade, "late", now, b"two").unwrap();
        drop(store);
        let store = open();
        let due = store.notice_due(now).unwrap().unwrap();
        assert_eq!((due.at, due.tries, due.body.as_slice()), (now, 0, &b"one"[..]));
        store.notice_rests(due.seq, Unix(1010)).unwrap();
        assert_eq!(store.notice_due(Unix(1009)).unwrap(), None);
        let due = store.notice_due(Unix(1010)).unwrap().unwrap();
        assert_eq!(due.tries, 1);
        store.notice_done(due.seq).unwrap();
        store.notice_put(trade, "late", now, b"three").unwrap();
        assert_eq!(store.notice_due(Unix(9999)).unwrap(), None);
    }
}

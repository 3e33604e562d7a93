//! How far each stream of the log is kept on the boards, and putting back what they kept.

use rusqlite::params;
use trade::{MessageId, TradeId};
use units::{Now, Unix};
use wire::event::Event;

use super::outbox::put_letter;
use super::{Entry, Store, StoreError};

pub(super) const TABLE: &str = "
    CREATE TABLE IF NOT EXISTS kept(trade BLOB PRIMARY KEY, upto INTEGER NOT NULL) WITHOUT ROWID;";

impl Store {
    /// Streams whose log is longer than what the boards keep of it.
    pub(crate) fn unkept(&self) -> Result<Vec<TradeId>, StoreError> {
        let db = self.lock();
        let mut query = db.prepare(
            "SELECT e.trade FROM trade_event e LEFT JOIN kept k ON k.trade = e.trade
             GROUP BY e.trade HAVING COUNT(*) > COALESCE(MAX(k.upto), 0)",
        )?;
        let rows = query.query_map([], |row| row.get::<_, [u8; 32]>(0).map(TradeId))?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// The entries of a stream that the boards do not keep yet, in order.
    pub(crate) fn unkept_of(&self, trade: TradeId) -> Result<Vec<Entry>, StoreError> {
        self.read(
            "SELECT trade, seq, at_height, at_unix, body FROM trade_event WHERE trade = ?1
             AND seq >= COALESCE((SELECT upto FROM kept WHERE trade = ?1), 0) ORDER BY seq",
            [&trade.0[..]],
        )
    }

    /// The entries of a stream, in order.
    pub(crate) fn entries_of(&self, trade: TradeId) -> Result<Vec<Entry>, StoreError> {
        self.read(
            "SELECT trade, seq, at_height, at_unix, body FROM trade_event WHERE trade = ?1 ORDER BY seq",
            [&trade.0[..]],
        )
    }

    /// Puts a sheet into the outbox and notes how far its stream is kept with it. Durable on return.
    pub(crate) fn keep(
        &self,
        (parcel, message, event): (&str, MessageId, &Event),
        (trade, upto): (TradeId, u64),
        boards: &[String],
        at: Unix,
    ) -> Result<(), StoreError> {
        let body = self.seal(parcel, event.to_json().as_bytes())?;
        let mut db = self.lock();
        let tx = db.transaction()?;
        put_letter(&tx, parcel, message, &body, boards, at)?;
        note_kept(&tx, trade, upto)?;
        tx.commit()?;
        Ok(())
    }

    /// The boards keep a stream up to here already.
    pub(crate) fn is_kept(&self, trade: TradeId, upto: u64) -> Result<(), StoreError> {
        Ok(note_kept(&self.lock(), trade, upto)?)
    }

    /// Everything from the entry `from` on is replaced. Only for a restore, before anything is done with the log.
    pub(crate) fn replace_tail(&self, trade: TradeId, from: u64, bodies: &[(Now, Vec<u8>)]) -> Result<(), StoreError> {
        let mut db = self.lock();
        let tx = db.transaction()?;
        tx.execute(
            "DELETE FROM trade_event WHERE trade = ?1 AND seq >= ?2",
            params![&trade.0[..], from.cast_signed()],
        )?;
        self.insert(&tx, trade, from, bodies.iter().map(|(at, body)| (*at, &body[..])))?;
        tx.commit()?;
        Ok(())
    }
}

fn note_kept(db: &rusqlite::Connection, trade: TradeId, upto: u64) -> rusqlite::Result<()> {
    db.execute("INSERT OR REPLACE INTO kept(trade, upto) VALUES(?1, ?2)", params![&trade.0[..], upto.cast_signed()])?;
    Ok(())
}

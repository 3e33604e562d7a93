//! What was said about trades, sealed at rest like everything else.

use rusqlite::params;
use trade::{MessageId, PartyKey, TradeId};
use units::Unix;
use wire::domp::sealed::Chat;

use super::{Store, StoreError};

pub(super) const TABLE: &str = "
    CREATE TABLE IF NOT EXISTS chat(
        seq INTEGER PRIMARY KEY AUTOINCREMENT, id BLOB NOT NULL UNIQUE, trade BLOB NOT NULL, at_unix INTEGER NOT NULL, author BLOB NOT NULL, about BLOB NOT NULL,
        body BLOB NOT NULL);
    CREATE INDEX IF NOT EXISTS chat_trade ON chat(trade, at_unix);";

impl Store {
    /// Keeps a word of chat, once. False when the trade has `most` of them already.
    pub(crate) fn chat_put(&self, trade: TradeId, id: MessageId, chat: &Chat, most: usize) -> Result<bool, StoreError> {
        let body = self.seal(&name(id), chat.text.as_bytes())?;
        let db = self.lock();
        let count: i64 = db.query_row(
            "SELECT COUNT(*) FROM chat WHERE trade = ?1 AND id <> ?2",
            params![&trade.0[..], &id.0[..]],
            |row| row.get(0),
        )?;
        if usize::try_from(count).unwrap_or(usize::MAX) >= most {
            return Ok(false);
        }
        db.execute(
            "INSERT OR IGNORE INTO chat(id, trade, at_unix, author, about, body) VALUES(?1, ?2, ?3, ?4, ?5, ?6)",
            params![&id.0[..], &trade.0[..], chat.at.0.cast_signed(), &chat.author.0[..], &chat.about.0[..], body],
        )?;
        Ok(true)
    }

    /// What was said about a trade, oldest first; within a second in the order in which it came to us.
    pub(crate) fn chats(&self, trade: TradeId) -> Result<Vec<Chat>, StoreError> {
        let db = self.lock();
        let mut query =
            db.prepare("SELECT id, at_unix, author, about, body FROM chat WHERE trade = ?1 ORDER BY at_unix, seq")?;
        let rows = query.query_map([&trade.0[..]], |row| {
            let (id, at, author): ([u8; 32], i64, [u8; 32]) = (row.get(0)?, row.get(1)?, row.get(2)?);
            let (about, body): ([u8; 32], Vec<u8>) = (row.get(3)?, row.get(4)?);
            Ok((MessageId(id), Unix(at.unsigned_abs()), PartyKey(author), MessageId(about), body))
        })?;
        let mut chats = Vec::new();
        for row in rows {
            let (id, at, author, about, sealed) = row?;
            let text = self.open_sealed(&name(id), &sealed)?;
            let text = String::from_utf8(text).map_err(|_| StoreError::Sealed(name(id)))?;
            chats.push(Chat { author, at, about, text });
        }
        Ok(chats)
    }
}

fn name(id: MessageId) -> String {
    format!("chat/{id}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(text: &str, at: u64) -> Chat {
        Chat { author: PartyKey([1; 32]), at: Unix(at), about: MessageId([2; 32]), text: text.to_owned() }
    }

    #[test]
    fn chat_is_kept_once_in_order_and_not_without_end() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&dir.path().join("trades.sqlite"), &[1; 32]).unwrap();
        let (trade, id) = (TradeId([7; 32]), |n| MessageId([n; 32]));
        assert!(store.chat_put(trade, id(2), &said("second", 20), 2).unwrap());
        assert!(store.chat_put(trade, id(1), &said("first", 10), 2).unwrap());
        assert!(store.chat_put(trade, id(1), &said("first", 10), 2).unwrap(), "again is no error");
        assert!(!store.chat_put(trade, id(3), &said("third", 30), 2).unwrap());
        assert_eq!(store.chats(trade).unwrap(), [said("first", 10), said("second", 20)]);
        assert_eq!(store.chats(TradeId([8; 32])).unwrap(), []);
        drop(store);
        for file in std::fs::read_dir(dir.path()).unwrap() {
            let bytes = std::fs::read(file.unwrap().path()).unwrap();
            assert!(!bytes.windows(6).any(|window| window == b"second"));
        }
    }
}

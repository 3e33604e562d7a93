//! Outbox: signed events that boards have not confirmed yet. What is put here is sent until each board said OK, over restarts.
//!
//! A *parcel* is what belongs together (one message of a trade: the event itself, or its sealed copies); a *letter* is one event
//! of it; a letter is *owed* to a board until the board has it. A letter has *arrived* when a board that the other side can read
//! has it. Letters older than [`KEPT_SECS`] are given up.

use std::collections::BTreeMap;

use rusqlite::{OptionalExtension, Transaction, params};
use trade::MessageId;
use units::Unix;
use wire::event::{Event, Limits};

use super::{Store, StoreError};

/// How long a board is tried with a letter: a trade and its aftermath are over by then.
pub const KEPT_SECS: u64 = 30 * 24 * 3600;

pub(super) const TABLES: &str = "
    CREATE TABLE IF NOT EXISTS letter(
        seq INTEGER PRIMARY KEY AUTOINCREMENT, parcel TEXT NOT NULL, message BLOB NOT NULL, at_unix INTEGER NOT NULL,
        body BLOB NOT NULL, arrived INTEGER NOT NULL DEFAULT 0, told INTEGER NOT NULL DEFAULT 0);
    CREATE INDEX IF NOT EXISTS letter_parcel ON letter(parcel);
    CREATE TABLE IF NOT EXISTS owed(
        board TEXT NOT NULL, seq INTEGER NOT NULL, not_before INTEGER NOT NULL DEFAULT 0, tries INTEGER NOT NULL DEFAULT 0,
        trouble TEXT, PRIMARY KEY(board, seq)) WITHOUT ROWID;";

/// One event that a board is owed.
#[derive(Clone, Debug)]
pub struct Letter {
    /// Its place in the outbox.
    pub seq: i64,
    /// The parcel that it belongs to.
    pub parcel: String,
    /// How often the board was tried in vain.
    pub tries: u32,
    /// What to publish.
    pub event: Event,
}

/// A parcel of which every letter has arrived.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Arrived {
    /// Its name.
    pub parcel: String,
    /// Id of the message in it.
    pub message: MessageId,
}

/// What a board is owed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Backlog {
    /// Events that wait for its OK.
    pub waiting: u64,
    /// What it said last when it refused one of them.
    pub trouble: Option<String>,
}

impl Store {
    /// Puts a parcel into the outbox, owed to each of `boards`. Durable on return. A parcel that is there already stays as it is.
    pub fn post(
        &self,
        parcel: &str,
        message: MessageId,
        events: &[Event],
        boards: &[String],
        at: Unix,
    ) -> Result<(), StoreError> {
        let mut db = self.lock();
        let tx = db.transaction()?;
        let known: i64 = tx.query_row("SELECT COUNT(*) FROM letter WHERE parcel = ?1", [parcel], |row| row.get(0))?;
        if known > 0 {
            return Ok(());
        }
        for event in events {
            let body = self.seal(parcel, event.to_json().as_bytes())?;
            put_letter(&tx, parcel, message, &body, boards, at)?;
        }
        tx.commit()?;
        Ok(())
    }

    /// The message in a parcel, and whether all of it has arrived; none when there is no such parcel.
    pub fn posted(&self, parcel: &str) -> Result<Option<(MessageId, bool)>, StoreError> {
        let db = self.lock();
        let found: Option<([u8; 32], i64)> = db
            .query_row("SELECT message, MIN(arrived) FROM letter WHERE parcel = ?1 GROUP BY message", [parcel], |row| {
                Ok((row.get(0)?, row.get(1)?))
            })
            .optional()?;
        Ok(found.map(|(message, arrived)| (MessageId(message), arrived == 1)))
    }

    /// What `board` is owed and may be tried with now, oldest first, at most `most`.
    pub fn due(&self, board: &str, now: Unix, most: usize) -> Result<Vec<Letter>, StoreError> {
        let db = self.lock();
        let mut query = db.prepare_cached(
            "SELECT o.seq, l.parcel, o.tries, l.body FROM owed o JOIN letter l ON l.seq = o.seq
             WHERE o.board = ?1 AND o.not_before <= ?2 ORDER BY o.seq LIMIT ?3",
        )?;
        let most = i64::try_from(most).unwrap_or(i64::MAX);
        let rows = query.query_map(params![board, now.0.cast_signed(), most], |row| {
            Ok((row.get::<_, i64>(0)?, row.get::<_, String>(1)?, row.get::<_, u32>(2)?, row.get::<_, Vec<u8>>(3)?))
        })?;
        let mut letters = Vec::new();
        for row in rows {
            let (seq, parcel, tries, sealed) = row?;
            let body = self.open_sealed(&parcel, &sealed)?;
            let event =
                Event::parse(&body, &Limits::STRICT).map_err(|_| StoreError::Sealed(format!("outbox {seq}")))?;
            letters.push(Letter { seq, parcel, tries, event });
        }
        Ok(letters)
    }

    /// When the next letter that rests may be tried again at `board`.
    pub fn next_due(&self, board: &str) -> Result<Option<Unix>, StoreError> {
        let found: Option<i64> =
            self.lock().query_row("SELECT MIN(not_before) FROM owed WHERE board = ?1", [board], |row| row.get(0))?;
        Ok(found.map(|at| Unix(at.unsigned_abs())))
    }

    /// `board` said OK to these letters. `counts`: the other side can read it there. Returns the parcels that have now arrived.
    pub fn confirmed(&self, board: &str, seqs: &[i64], counts: bool) -> Result<Vec<Arrived>, StoreError> {
        let mut db = self.lock();
        let tx = db.transaction()?;
        let mut arrived = Vec::new();
        for seq in seqs {
            tx.execute("DELETE FROM owed WHERE board = ?1 AND seq = ?2", params![board, seq])?;
            let parcel: Option<String> =
                tx.query_row("SELECT parcel FROM letter WHERE seq = ?1", [seq], |row| row.get(0)).optional()?;
            let Some(parcel) = parcel else { continue };
            if counts {
                tx.execute("UPDATE letter SET arrived = 1 WHERE seq = ?1", [seq])?;
            }
            forget(&tx, &parcel)?;
            let message: Option<[u8; 32]> = tx
                .query_row(
                    "SELECT message FROM letter WHERE parcel = ?1 GROUP BY message
                     HAVING MIN(arrived) = 1 AND MAX(told) = 0",
                    [&parcel],
                    |row| row.get(0),
                )
                .optional()?;
            let news = message.map(|message| Arrived { parcel, message: MessageId(message) });
            arrived.extend(news.filter(|news| counts && !arrived.contains(news)));
        }
        tx.commit()?;
        Ok(arrived)
    }

    /// `board` did not take a letter: not before `until` again.
    pub fn rests(&self, board: &str, seq: i64, until: Unix, trouble: &str) -> Result<(), StoreError> {
        self.lock().execute(
            "UPDATE owed SET not_before = ?3, tries = tries + 1, trouble = ?4 WHERE board = ?1 AND seq = ?2",
            params![board, seq, until.0.cast_signed(), trouble],
        )?;
        Ok(())
    }

    /// What rests and is owed to `board` may be tried now.
    pub fn wake(&self, board: &str) -> Result<(), StoreError> {
        self.lock().execute("UPDATE owed SET not_before = 0 WHERE board = ?1", [board])?;
        Ok(())
    }

    /// Whoever posted the parcel knows that it has arrived: it may be forgotten once every board has it.
    pub fn told(&self, parcel: &str) -> Result<(), StoreError> {
        let mut db = self.lock();
        let tx = db.transaction()?;
        tx.execute("UPDATE letter SET told = 1 WHERE parcel = ?1", [parcel])?;
        forget(&tx, parcel)?;
        tx.commit()?;
        Ok(())
    }

    /// What each board is owed.
    pub fn backlog(&self) -> Result<BTreeMap<String, Backlog>, StoreError> {
        let db = self.lock();
        let mut query = db.prepare("SELECT board, COUNT(*), MAX(trouble) FROM owed GROUP BY board")?;
        let rows = query.query_map([], |row| {
            let waiting: i64 = row.get(1)?;
            Ok((row.get(0)?, Backlog { waiting: waiting.unsigned_abs(), trouble: row.get(2)? }))
        })?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// Gives up what is owed to boards other than these, and what is older than [`KEPT_SECS`]. Returns how many letters.
    pub fn give_up(&self, boards: &[String], now: Unix) -> Result<usize, StoreError> {
        let mut db = self.lock();
        let tx = db.transaction()?;
        let before = now.0.saturating_sub(KEPT_SECS).cast_signed();
        let mut given_up =
            tx.execute("DELETE FROM owed WHERE seq IN (SELECT seq FROM letter WHERE at_unix < ?1)", [before])?;
        let owed_to: Vec<String> = {
            let mut query = tx.prepare("SELECT DISTINCT board FROM owed")?;
            query.query_map([], |row| row.get(0))?.collect::<Result<_, _>>()?
        };
        for board in owed_to.iter().filter(|board| !boards.contains(board)) {
            given_up += tx.execute("DELETE FROM owed WHERE board = ?1", [board])?;
        }
        let gone = "NOT EXISTS (SELECT 1 FROM owed o JOIN letter m ON m.seq = o.seq WHERE m.parcel = letter.parcel)";
        tx.execute(&format!("DELETE FROM letter WHERE (told = 1 OR at_unix < {before}) AND {gone}"), [])?;
        tx.commit()?;
        Ok(given_up)
    }
}

/// Adds a sealed letter to a parcel, owed to each of `boards`.
pub(super) fn put_letter(
    tx: &Transaction<'_>,
    parcel: &str,
    message: MessageId,
    body: &[u8],
    boards: &[String],
    at: Unix,
) -> rusqlite::Result<()> {
    tx.execute(
        "INSERT INTO letter(parcel, message, at_unix, body) VALUES(?1, ?2, ?3, ?4)",
        params![parcel, &message.0[..], at.0.cast_signed(), body],
    )?;
    let seq = tx.last_insert_rowid();
    for board in boards {
        tx.execute("INSERT INTO owed(board, seq) VALUES(?1, ?2)", params![board, seq])?;
    }
    Ok(())
}

/// A parcel that somebody knows of and nobody is owed any more.
fn forget(tx: &Transaction<'_>, parcel: &str) -> rusqlite::Result<()> {
    tx.execute(
        "DELETE FROM letter WHERE parcel = ?1 AND told = 1
         AND NOT EXISTS (SELECT 1 FROM owed o JOIN letter l ON l.seq = o.seq WHERE l.parcel = ?1)",
        [parcel],
    )?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use secp256k1::Keypair;

    use super::*;

    const NOW: Unix = Unix(1_700_000_000);
    const ID: MessageId = MessageId([9; 32]);

    fn boards() -> Vec<String> {
        vec!["ws://a".to_owned(), "ws://b".to_owned()]
    }

    fn event(content: &str) -> Event {
        let key = Keypair::from_seckey_slice(secp256k1::SECP256K1, &[7; 32]).unwrap();
        let pubkey = wire::event::pubkey_of(&key);
        let unsigned =
            wire::Unsigned { pubkey, created_at: NOW, kind: 1059, tags: Vec::new(), content: content.to_owned() };
        unsigned.sign(&key, &[0; 32])
    }

    fn open(dir: &std::path::Path) -> Store {
        Store::open(&dir.join("trades.sqlite"), &[1; 32]).unwrap()
    }

    fn seqs(store: &Store, board: &str, now: Unix) -> Vec<i64> {
        store.due(board, now, 10).unwrap().into_iter().map(|letter| letter.seq).collect()
    }

    #[test]
    fn what_a_board_did_not_confirm_is_owed_after_a_restart_and_only_to_that_board() {
        let dir = tempfile::tempdir().unwrap();
        let store = open(dir.path());
        store.post("p", ID, &[event("1"), event("2")], &boards(), NOW).unwrap();
        let first = seqs(&store, "ws://a", NOW);
        assert_eq!(first.len(), 2);
        assert_eq!(store.confirmed("ws://a", &first[..1], true).unwrap(), []);
        assert_eq!(store.posted("p").unwrap(), Some((ID, false)));
        drop(store);
        let store = open(dir.path());
        assert_eq!(seqs(&store, "ws://a", NOW), first[1..]);
        assert_eq!(seqs(&store, "ws://b", NOW), first);
        let arrived = store.confirmed("ws://b", &first[1..], true).unwrap();
        assert_eq!(arrived, [Arrived { parcel: "p".to_owned(), message: ID }]);
        assert_eq!(store.posted("p").unwrap(), Some((ID, true)));
        store.told("p").unwrap();
        // It is told once, and kept until the last board has it.
        assert_eq!(store.confirmed("ws://b", &first[..1], true).unwrap(), []);
        assert!(store.posted("p").unwrap().is_some());
        store.confirmed("ws://a", &first[1..], true).unwrap();
        assert_eq!(store.posted("p").unwrap(), None);
        assert_eq!(store.backlog().unwrap(), BTreeMap::new());
    }

    #[test]
    fn an_ok_of_the_own_board_takes_the_letter_off_its_list_and_counts_for_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let store = open(dir.path());
        store.post("p", ID, &[event("1")], &boards(), NOW).unwrap();
        let first = seqs(&store, "ws://a", NOW);
        assert_eq!(store.confirmed("ws://a", &first, false).unwrap(), []);
        assert_eq!(store.posted("p").unwrap(), Some((ID, false)));
        assert!(seqs(&store, "ws://a", NOW).is_empty());
    }

    #[test]
    fn a_refused_letter_rests_and_does_not_hold_up_the_others() {
        let dir = tempfile::tempdir().unwrap();
        let store = open(dir.path());
        store.post("p", ID, &[event("1")], &boards(), NOW).unwrap();
        store.post("q", ID, &[event("2")], &boards(), NOW).unwrap();
        let both = seqs(&store, "ws://a", NOW);
        store.rests("ws://a", both[0], Unix(NOW.0 + 60), "pow: 20 bits").unwrap();
        assert_eq!(seqs(&store, "ws://a", NOW), both[1..]);
        assert_eq!(store.backlog().unwrap()["ws://a"].trouble.as_deref(), Some("pow: 20 bits"));
        let later = store.due("ws://a", Unix(NOW.0 + 60), 10).unwrap();
        assert_eq!((later.len(), later[0].tries), (2, 1));
    }

    #[test]
    fn what_rests_at_one_board_is_woken_there_alone() {
        let dir = tempfile::tempdir().unwrap();
        let store = open(dir.path());
        store.post("p", ID, &[event("1")], &boards(), NOW).unwrap();
        for board in boards() {
            let owed = seqs(&store, &board, NOW);
            store.rests(&board, owed[0], Unix(NOW.0 + 60), "restricted:").unwrap();
        }
        store.wake("ws://a").unwrap();
        assert_eq!((seqs(&store, "ws://a", NOW).len(), seqs(&store, "ws://b", NOW).len()), (1, 0));
    }

    #[test]
    fn letters_are_given_up_when_nobody_can_want_them_any_more() {
        let dir = tempfile::tempdir().unwrap();
        let store = open(dir.path());
        store.post("p", ID, &[event("1")], &boards(), NOW).unwrap();
        assert_eq!(store.give_up(&boards()[..1], NOW).unwrap(), 1);
        assert!(seqs(&store, "ws://b", NOW).is_empty());
        assert_eq!(seqs(&store, "ws://a", NOW).len(), 1);
        assert_eq!(store.give_up(&boards(), Unix(NOW.0 + KEPT_SECS + 1)).unwrap(), 1);
        assert_eq!(store.posted("p").unwrap(), None);
    }

    #[test]
    fn posting_a_parcel_again_changes_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let store = open(dir.path());
        store.post("p", ID, &[event("1")], &boards(), NOW).unwrap();
        store.post("p", MessageId([8; 32]), &[event("2"), event("3")], &boards(), NOW).unwrap();
        assert_eq!(store.posted("p").unwrap(), Some((ID, false)));
        assert_eq!(seqs(&store, "ws://a", NOW).len(), 1);
    }
}

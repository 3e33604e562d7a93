//! Mirrors: what other markets were told last of each listing of ours, and the letter that tells them, written together.

use rusqlite::params;
use units::Unix;
use wire::event::Event;

use super::{Store, StoreError};

/// Where they are kept among the named values, and how their parcels are called.
const NAME: &str = "mirror/";

/// What was told last under one name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Told {
    /// `created_at` of the newest version.
    pub at: Unix,
    /// Of the first.
    pub since: Unix,
    /// What it says: the id that its event would have at time zero.
    pub what: [u8; 32],
}

impl Told {
    fn read(bytes: &[u8]) -> Option<Told> {
        let (at, rest) = bytes.split_first_chunk::<8>()?;
        let (since, what) = rest.split_first_chunk::<8>()?;
        let time = |bytes: &[u8; 8]| Unix(u64::from_be_bytes(*bytes));
        Some(Told { at: time(at), since: time(since), what: what.try_into().ok()? })
    }

    fn write(&self) -> Vec<u8> {
        [&self.at.0.to_be_bytes()[..], &self.since.0.to_be_bytes(), &self.what].concat()
    }
}

impl Store {
    /// What was told last under `name`.
    pub fn told_elsewhere(&self, name: &str) -> Result<Option<Told>, StoreError> {
        Ok(self.get(&format!("{NAME}{name}"))?.and_then(|bytes| Told::read(&bytes)))
    }

    /// Owes `event` to each of `boards`, instead of the versions before it that are still under way, and remembers what it says.
    /// One transaction: either both or neither. Durable on return.
    pub fn mirror(
        &self,
        name: &str,
        told: &Told,
        event: &Event,
        boards: &[String],
        now: Unix,
    ) -> Result<(), StoreError> {
        let (key, parcel) = (format!("{NAME}{name}"), format!("{NAME}{name}/{}", told.at));
        let (state, body) = (self.seal(&key, &told.write())?, self.seal(&parcel, event.to_json().as_bytes())?);
        let mut db = self.lock();
        let tx = db.transaction()?;
        let older = "parcel = ?1 OR substr(parcel, 1, length(?1) + 1) = ?1 || '/'";
        tx.execute(&format!("DELETE FROM owed WHERE seq IN (SELECT seq FROM letter WHERE {older})"), [&key])?;
        tx.execute(&format!("DELETE FROM letter WHERE {older}"), [&key])?;
        tx.execute(
            "INSERT INTO letter(parcel, message, at_unix, body) VALUES(?1, ?2, ?3, ?4)",
            params![parcel, &event.id[..], now.0.cast_signed(), body],
        )?;
        let seq = tx.last_insert_rowid();
        for board in boards {
            tx.execute("INSERT INTO owed(board, seq) VALUES(?1, ?2)", params![board, seq])?;
        }
        tx.execute("INSERT OR REPLACE INTO meta(name, body) VALUES(?1, ?2)", params![key, state])?;
        tx.commit()?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use secp256k1::Keypair;

    use super::*;

    #[test]
    fn a_newer_version_takes_the_place_of_one_that_is_still_under_way() {
        let dir = tempfile::tempdir().unwrap();
        let open = || Store::open(&dir.path().join("trades.sqlite"), &[1; 32]).unwrap();
        let key = Keypair::from_seckey_slice(secp256k1::SECP256K1, &[7; 32]).unwrap();
        let event = |at: Unix| {
            let unsigned = wire::Unsigned {
                pubkey: [0; 32],
                created_at: at,
                kind: 30402,
                tags: Vec::new(),
                content: String::new(),
            };
            unsigned.sign(&key, &[0; 32])
        };
        let told = |at: u64| Told { at: Unix(at), since: Unix(10), what: [3; 32] };
        let boards = ["ws://a".to_owned(), "ws://b".to_owned()];
        let store = open();
        assert_eq!(store.told_elsewhere("x").unwrap(), None);
        for (name, at) in [("x", 10), ("xy", 10), ("x", 11)] {
            store.mirror(name, &told(at), &event(Unix(at)), &boards, Unix(20)).unwrap();
        }
        drop(store);
        let store = open();
        assert_eq!(store.told_elsewhere("x").unwrap(), Some(told(11)));
        for board in &boards {
            let owed = store.due(board, Unix(20), 10).unwrap();
            let owed: Vec<_> = owed.into_iter().map(|letter| (letter.parcel, letter.event.created_at.0)).collect();
            assert_eq!(owed, [("mirror/xy/10".to_owned(), 10), ("mirror/x/11".to_owned(), 11)]);
        }
    }
}

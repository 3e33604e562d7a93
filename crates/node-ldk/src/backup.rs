//! What a backup takes of a node that may be running: enough to get the coins of its channels back, and nothing that could close one.

use std::path::Path;

use rusqlite::Connection;

use crate::holds::Phase;
use crate::salvage::{MONITOR, PAYMENTS};
use crate::store::{Store, StoreError};

/// The copy could not be made.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// The copy's store cannot be made.
    #[error("{0}")]
    Store(String),
    /// SQLite failed.
    #[error("copying the node's files: {0}")]
    Sqlite(#[from] rusqlite::Error),
}

impl From<StoreError> for BackupError {
    fn from(error: StoreError) -> BackupError {
        BackupError::Store(error.to_string())
    }
}

/// Peers, payments, and each channel's monitor where only [`crate::salvage`] looks; the channel manager stays behind. No payment is tried
/// again. What was held is held by a channel of the past from then on (no claim_id): it can be claimed on chain, or goes back by itself.
const COPY: &str = "
BEGIN;
INSERT INTO peers SELECT * FROM live.peers;
INSERT INTO payments SELECT id, hash, amount, state, preimage, fee, reason, created, NULL FROM live.payments;
INSERT INTO received SELECT * FROM live.received;
INSERT INTO holds SELECT hash, CASE WHEN phase = :open THEN :canceled ELSE phase END, amount, min_final_cltv, expires, invoice, received,
  claim_deadline, NULL, preimage FROM live.holds;
INSERT INTO blobs SELECT key, value FROM live.blobs WHERE key LIKE 'kv/%' OR key LIKE 'salvage%';
INSERT OR REPLACE INTO blobs SELECT ':monitor' || name, bytes FROM live.monitors;
INSERT OR REPLACE INTO blobs SELECT ':monitor' || name || '/' || printf('%020d', update_id), bytes FROM live.monitor_updates;
COMMIT;
";

/// Copies the node in `folder`, running or not, into the folder `into`, which has no node in it: all of one moment. A node that is started on
/// the copy has no channels: it asks the peers that it had to close theirs, publishes no commitment of its own, and sweeps what comes of it.
pub fn snapshot(folder: &Path, into: &Path) -> Result<(), BackupError> {
    let copy = into.join("node.sqlite");
    drop(Store::open(&copy)?);
    let db = Connection::open(&copy)?;
    db.execute("ATTACH DATABASE ?1 AS live", [folder.join("node.sqlite").to_string_lossy()])?;
    let [open, canceled] = [Phase::Open, Phase::Canceled].map(|phase| phase.code().to_string());
    db.execute_batch(&COPY.replace(":open", &open).replace(":canceled", &canceled).replace(":monitor", MONITOR))?;
    let under_way: Vec<[u8; 32]> = {
        let mut query = db.prepare("SELECT id FROM payments WHERE state = 0")?;
        query.query_map([], |row| row.get(0))?.collect::<rusqlite::Result<_>>()?
    };
    db.execute("INSERT OR REPLACE INTO blobs VALUES (?1, ?2)", (PAYMENTS, under_way.concat()))?;
    db.execute_batch("DETACH DATABASE live")?;
    alone(&db)?;
    let wallet = Connection::open(folder.join("wallet.sqlite"))?;
    wallet.execute("VACUUM INTO ?1", [into.join("wallet.sqlite").to_string_lossy()])?;
    Ok(())
}

/// Everything is in the one file, and no other beside it is needed.
fn alone(db: &Connection) -> rusqlite::Result<()> {
    db.pragma_update_and_check(None, "journal_mode", "DELETE", |_| Ok(()))
}

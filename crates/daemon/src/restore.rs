//! Bringing a log back: `souk restore` leaves a mark in the data directory, and the first start asks the boards for the vault before
//! anything is decided.

use std::path::{Path, PathBuf};
use std::time::Duration;

use keys::Seed;
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::board_link::{BoardLink, Letterbox};
use crate::clock;
use crate::keyring::{self, KeyringError};
use crate::store::{Store, StoreError};
use crate::vault::{self, Merged, Pile, VaultError};

/// The mark. While it is there nothing is traded before the boards were asked. It holds the height from which the on-chain wallet has
/// to look for its coins.
pub const MARK: &str = "restoring";
/// Where names of listings are kept.
const LISTING_NAME: &str = "listing/";
/// How long each board may take to bring all it keeps; they are asked at the same time.
const PATIENCE: Duration = Duration::from_secs(60);
const MAIL_MAX: usize = 256;
/// Where the report is kept.
const REPORT: &str = "restore/report";

/// Why a log is not brought back.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    /// Nobody could be asked.
    #[error(
        "this machine was set up by `souk restore`, and no board could be asked for its trades ({0}); nothing was begun. \
         Start again when a board can be reached, or name another one under trader.boards"
    )]
    NoBoard(String),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The vault cannot be read.
    #[error("{0}")]
    Vault(String),
    /// The key counter cannot be set.
    #[error(transparent)]
    Keys(#[from] KeyringError),
    /// The mark cannot be removed.
    #[error("{path}: {source}")]
    Mark {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
}

impl From<VaultError> for RestoreError {
    fn from(error: VaultError) -> RestoreError {
        RestoreError::Vault(error.to_string())
    }
}

/// What was found at a restore; `GET /v1/status` has it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct RestoreReport {
    /// When.
    pub at: units::Unix,
    /// Boards that brought all they keep.
    pub boards: Vec<String>,
    /// Boards that could not be asked.
    pub silent: Vec<String>,
    /// Trades and listings that the boards knew, or knew more of than the backup.
    pub streams: usize,
    /// Entries of their logs that were added.
    pub entries: usize,
    /// Of these so many are incomplete: they go on from an older state, and nothing that is held is touched blindly.
    pub incomplete: usize,
}

/// From where the wallet of a directory that is being restored has to look for its coins.
pub(crate) fn birthday(data_dir: &Path) -> Option<units::Height> {
    let text = std::fs::read_to_string(data_dir.join(MARK)).ok()?;
    Some(units::Height(text.trim().parse().unwrap_or(0)))
}

/// The report of the last restore, if there was one.
pub(crate) fn report(store: &Store) -> Result<Option<RestoreReport>, StoreError> {
    Ok(store.get(REPORT)?.and_then(|bytes| serde_json::from_slice(&bytes).ok()))
}

/// Brings back what the boards keep, when the data directory is marked. Before anything is decided, and before a key is handed out.
pub(crate) async fn restore(data_dir: &Path, seed: &Seed, store: &Store, urls: &[String]) -> Result<(), RestoreError> {
    let mark = data_dir.join(MARK);
    if !mark.exists() {
        return Ok(());
    }
    let mut pile = Pile::default();
    let (mut boards, mut silent) = (Vec::new(), Vec::new());
    tracing::info!(boards = urls.len(), "restoring: asking the boards for what they keep of our trades");
    for (url, answer) in fetch(seed, urls, &mut pile).await? {
        if answer { boards.push(url) } else { silent.push(url) }
    }
    if boards.is_empty() {
        return Err(RestoreError::NoBoard(silent.join(", ")));
    }
    let Merged { streams, entries, gaps } = vault::merge(store, &pile)?;
    for (trade, log, _) in pile.logs() {
        store.is_kept(trade, log.len() as u64)?;
    }
    for (listing, name) in &pile.names {
        store.put(&format!("{LISTING_NAME}{listing}"), name.as_bytes())?;
    }
    keyring::restore(store, &pile.keys, clock::unix())?;
    vault::begin_life(store, pile.next_life(clock::unix()))?;
    let report = RestoreReport { at: clock::unix(), boards, silent, streams, entries, incomplete: gaps };
    tracing::info!(?report, "restored");
    let bytes = serde_json::to_vec(&report).map_err(VaultError::from)?;
    store.put(REPORT, &bytes)?;
    std::fs::remove_file(&mark).map_err(|source| RestoreError::Mark { path: mark, source })
}

/// Asks every board at the same time; true for those that brought all they keep.
async fn fetch(seed: &Seed, urls: &[String], pile: &mut Pile) -> Result<Vec<(String, bool)>, RestoreError> {
    let key = vault::key(seed)?;
    let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
    let (mail, mut brought) = mpsc::channel(MAIL_MAX);
    let letterbox = Letterbox::new(mail);
    let start = |url: &String| BoardLink::start(url.clone(), false, letterbox.clone(), &tasks, stop.clone());
    let links: Vec<_> = urls.iter().map(start).collect();
    drop(letterbox);
    for link in &links {
        link.listen(key);
    }
    let waiting = futures::future::join_all(links.iter().map(|link| async {
        let all = tokio::time::timeout(PATIENCE, link.caught_up()).await.is_ok();
        (link.url().to_owned(), all)
    }));
    tokio::pin!(waiting);
    let mut take = |mail: crate::board_link::Mail| {
        if let Some(sheet) = vault::open_sheet(&mail.event, &key) {
            pile.add(sheet);
        }
    };
    let answers = loop {
        tokio::select! {
            biased;
            Some(mail) = brought.recv() => take(mail),
            answers = &mut waiting => break answers,
        }
    };
    while let Ok(mail) = brought.try_recv() {
        take(mail);
    }
    stop.cancel();
    tasks.close();
    Ok(answers)
}

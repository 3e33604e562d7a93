//! A board and nothing else: no seed, no passphrase, no Lightning node.

use std::fs::File;
use std::path::Path;

use board::Board;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::api;
use crate::config::{self, ConfigError, Network};
use crate::resolve;
use crate::running::{GRACE, StartError, local_url, lock, offer_metrics, reload, serve_api};

/// A running bare board.
pub struct BareBoard {
    board: Board,
    tasks: TaskTracker,
    shutdown: CancellationToken,
    _lock: File,
}

impl BareBoard {
    /// Starts a board on the state in `data_dir`, the same state that a daemon's board role has there, and its local API.
    pub async fn start(section: &config::Board, data_dir: &Path) -> Result<BareBoard, StartError> {
        if section.credentials.is_some() {
            let message = "a bare board has no seed and no node to sell with: leave --board-only away".into();
            return Err(ConfigError::Value { key: "board.credentials", message }.into());
        }
        let lock = lock(data_dir)?;
        let (tasks, shutdown) = (TaskTracker::new(), CancellationToken::new());
        // It knows no node that would tell: a policy can name another network.
        let board = Board::start(resolve::board(section, Network::Bitcoin, data_dir)).await;
        let board = board.map_err(|e| StartError::Board(e.to_string()))?;
        offer_metrics(section, &board.operator(), &tasks, &shutdown).await?;
        let router = api::board::bare(board.operator(), local_url(board.local_addr()), data_dir);
        serve_api(data_dir, router, &tasks, shutdown.clone());
        Ok(BareBoard { board, tasks, shutdown, _lock: lock })
    }

    /// Where it listens, `ws://…`.
    pub fn url(&self) -> String {
        local_url(self.board.local_addr())
    }

    /// Reads the policy again. One with a mistake changes nothing; the reason is logged.
    pub fn reload(&self, data_dir: &Path) {
        reload(&self.board.operator(), data_dir);
    }

    /// Ends when the board cannot go on by itself.
    pub async fn stopped(&self) {
        self.shutdown.cancelled().await;
    }

    /// Takes nothing more, answers what is under way, tells the clients, and leaves everything on disk.
    pub async fn shutdown(self) {
        self.shutdown.cancel();
        self.tasks.close();
        if tokio::time::timeout(GRACE, self.tasks.wait()).await.is_err() {
            tracing::warn!("some requests to the local API did not finish in time");
        }
        self.board.shutdown().await;
    }
}

//! A board and nothing else: no seed, no passphrase, no Lightning node.

use std::fs::File;
use std::path::Path;

use board::Board;
use tokio_util::sync::CancellationToken;

use crate::config;
use crate::resolve;
use crate::running::{StartError, local_url, lock};

/// A running bare board.
pub struct BareBoard {
    board: Board,
    shutdown: CancellationToken,
    _lock: File,
}

impl BareBoard {
    /// Starts a board on the state in `data_dir`, the same state that a daemon's board role has there.
    pub async fn start(section: &config::Board, data_dir: &Path) -> Result<BareBoard, StartError> {
        let lock = lock(data_dir)?;
        let board = Board::start(resolve::board(section, data_dir)).await;
        let board = board.map_err(|e| StartError::Board(e.to_string()))?;
        Ok(BareBoard { board, shutdown: CancellationToken::new(), _lock: lock })
    }

    /// Where it listens, `ws://…`.
    pub fn url(&self) -> String {
        local_url(self.board.local_addr())
    }

    /// Ends when the board cannot go on by itself.
    pub async fn stopped(&self) {
        self.shutdown.cancelled().await;
    }

    /// Takes nothing more, answers what is under way, tells the clients, and leaves everything on disk.
    pub async fn shutdown(self) {
        self.shutdown.cancel();
        self.board.shutdown().await;
    }
}

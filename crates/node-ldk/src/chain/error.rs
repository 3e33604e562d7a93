//! What can go wrong with a source of blocks, sorted by what the operator does next.

use bitcoin::{BlockHash, Network, Txid};
use lightning_block_sync::BlockSourceError;

/// Why the chain source did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum ChainError {
    /// Nobody answers, or the answer does not end in time: try again.
    #[error("chain source {source_url} is not reachable: {why}")]
    Unreachable {
        /// Where it should be, without credentials.
        source_url: String,
        /// The cause.
        why: String,
    },
    /// It answers, but does not let us in.
    #[error("chain source {source_url} refuses our credentials")]
    Credentials {
        /// Where it is, without credentials.
        source_url: String,
    },
    /// It serves another chain.
    #[error("configured for {configured}, but the chain source serves {served}")]
    WrongNetwork {
        /// What the configuration says.
        configured: Network,
        /// What its genesis block says: a network's name, or the hash of an unknown genesis block.
        served: String,
    },
    /// The URL in the configuration cannot be used.
    #[error("chain source URL {url}: {why}")]
    Url {
        /// As configured, without credentials.
        url: String,
        /// What is wrong with it.
        why: String,
    },
    /// On mainnet we do not guess fees.
    #[error("the chain source has no fee estimate yet; on mainnet that is needed before starting: {0}")]
    NoFeeEstimate(String),
    /// The network refused a transaction for good.
    #[error("transaction {txid} was refused: {why}")]
    TransactionRefused {
        /// Which.
        txid: Txid,
        /// The source's words, for people and never matched upon.
        why: String,
    },
    /// Something of ours has last seen a block that the source does not know.
    #[error(
        "{who} is at block {hash}, height {height}, which the chain source does not know: is it another chain, or pruned?"
    )]
    UnknownBlock {
        /// Channel manager, monitor, sweeper.
        who: &'static str,
        /// Its last block.
        hash: BlockHash,
        /// Its last height.
        height: u32,
    },
    /// [`super::Chain::run`] is running already.
    #[error("the chain is being followed already")]
    AlreadyRunning,
    /// [`super::Chain::sync_to_tip`] did not come before [`super::Chain::run`].
    #[error("the listeners were not brought to the tip before following the chain")]
    NotSynced,
    /// The source said something that cannot be.
    #[error("chain source answered with nonsense: {0}")]
    Protocol(String),
    /// The wallet could not take a block.
    #[error("wallet: {0}")]
    Wallet(String),
}

impl ChainError {
    /// Whether the same call may succeed later without anybody changing anything.
    pub fn is_transient(&self) -> bool {
        matches!(self, ChainError::Unreachable { .. } | ChainError::NoFeeEstimate(_))
    }
}

impl From<ChainError> for BlockSourceError {
    fn from(error: ChainError) -> BlockSourceError {
        if error.is_transient() { BlockSourceError::transient(error) } else { BlockSourceError::persistent(error) }
    }
}

impl From<BlockSourceError> for ChainError {
    fn from(error: BlockSourceError) -> ChainError {
        match error.into_inner().downcast::<ChainError>() {
            Ok(ours) => *ours,
            Err(other) => ChainError::Protocol(other.to_string()),
        }
    }
}

/// An error with all its causes in one line: the outermost text alone often says no more than "error sending request".
pub(super) fn in_full(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

/// A URL as it may be shown: without the user and password that somebody may have put into it.
pub(super) fn shown(url: &str) -> String {
    match url.rsplit_once('@') {
        Some((_, host)) => format!("…@{host}"),
        None => url.to_owned(),
    }
}

//! Errors sorted by what the caller does next.

/// Why a verb failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NodeError {
    /// The node, or the peer it needs, cannot be reached: try again later.
    #[error("not reachable: {0}")]
    Unreachable(String),
    /// The node understood and refused: tell the user, do not repeat unchanged.
    #[error("refused: {0}")]
    Rejected(String),
    /// There is no such invoice, payment, channel or peer.
    #[error("not found: {0}")]
    NotFound(String),
    /// This backend cannot do it; [`crate::Capabilities`] said so.
    #[error("not supported by this node: {0}")]
    Unsupported(String),
    /// It may or may not have happened: look it up, and never repeat it under another id.
    #[error("outcome unknown: {0}")]
    Unknown(String),
    /// The node's own store or state is broken: stop and look.
    #[error("node fault: {0}")]
    Fault(String),
}

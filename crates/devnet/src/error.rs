//! Why a transaction or a block was refused, in the words that bitcoind uses for it.

use bitcoin::Txid;

/// Why a transaction was refused. `Display` is bitcoind's `reason, detail`; see [`TxError::reason`] for the reason alone.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TxError {
    /// A coinbase outside of a block.
    #[error("coinbase")]
    Coinbase,
    /// It breaks a rule of consensus that needs no context, such as an input used twice.
    #[error("{0}")]
    Malformed(&'static str),
    /// Valid, but no node would relay it.
    #[error("{0}")]
    NonStandard(&'static str),
    /// nLockTime has not been reached (BIP113).
    #[error("non-final")]
    NonFinal,
    /// A relative lock has not been reached (BIP68).
    #[error("non-BIP68-final")]
    NonBip68Final,
    /// The same transaction with the same witness is in the mempool.
    #[error("txn-already-in-mempool")]
    InMempool,
    /// The same transaction with another witness is in the mempool.
    #[error("txn-same-nonwitness-data-in-mempool")]
    SameTxidInMempool,
    /// It is in a block and has unspent outputs.
    #[error("txn-already-known")]
    Confirmed,
    /// An input does not exist or is spent in the chain.
    #[error("bad-txns-inputs-missingorspent")]
    MissingInputs,
    /// A coinbase output with fewer than 100 confirmations is spent.
    #[error("bad-txns-premature-spend-of-coinbase, tried to spend coinbase at depth {depth}")]
    ImmatureCoinbase {
        /// Blocks on top of the coinbase, at the height at which the spend would confirm.
        depth: u32,
    },
    /// The outputs are worth more than the inputs.
    #[error("bad-txns-in-belowout, value in ({inputs}) < value out ({outputs})")]
    InBelowOut {
        /// Satoshis in.
        inputs: u64,
        /// Satoshis out.
        outputs: u64,
    },
    /// The feerate is below the relay minimum.
    #[error("min relay fee not met, {paid} < {needed}")]
    FeeTooLow {
        /// Satoshis paid.
        paid: u64,
        /// Satoshis that this size has to pay.
        needed: u64,
    },
    /// A replacement does not pay enough (BIP125 rules 3, 4 and 6).
    #[error("insufficient fee, rejecting replacement {replacement}; {why}")]
    ReplacementFee {
        /// The transaction that wanted to replace.
        replacement: Txid,
        /// Which rule, with figures.
        why: String,
    },
    /// A replacement would evict more than 100 transactions (BIP125 rule 5).
    #[error("too many potential replacements, rejecting replacement; {0} > 100")]
    TooManyReplacements(usize),
    /// A replacement spends an unconfirmed output that the original did not (BIP125 rule 2).
    #[error("replacement-adds-unconfirmed, replacement adds an unconfirmed input")]
    AddsUnconfirmed,
    /// A replacement spends an output of what it replaces.
    #[error("bad-txns-spends-conflicting-tx")]
    SpendsConflict,
    /// It conflicts with a transaction that may not be replaced here (package without the right shape, after a reorg).
    #[error("txn-mempool-conflict")]
    Conflict,
    /// More than 25 (or 101 kvB of) unconfirmed ancestors or descendants.
    #[error("too-long-mempool-chain, {0}")]
    ChainTooLong(String),
    /// A version 3 transaction outside the topology of BIP431.
    #[error("TRUC-violation, {0}")]
    Truc(String),
    /// A dust output of a zero-fee parent is left unspent by its child.
    #[error("missing-ephemeral-spends, dust of {0} is not spent")]
    EphemeralUnspent(Txid),
    /// Bitcoin's own script code refused an input.
    #[error("mandatory-script-verify-flag-failed (input {input} of {txid} does not satisfy its script)")]
    Script {
        /// The transaction.
        txid: Txid,
        /// Index of the input.
        input: usize,
    },
    /// The mempool has reached its bound.
    #[error("mempool full")]
    Full,
}

impl TxError {
    /// The reason without the detail, as in `testmempoolaccept`'s `reject-reason`.
    pub fn reason(&self) -> String {
        let text = self.to_string();
        text.split(", ").next().unwrap_or_default().to_owned()
    }

    /// Whether a child's fee could still carry the transaction, so that it is worth trying it in a package.
    pub fn is_fee(&self) -> bool {
        matches!(self, TxError::FeeTooLow { .. } | TxError::MissingInputs)
            || matches!(self, TxError::ReplacementFee { .. })
    }
}

/// Why a block was refused, in bitcoind's words.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BlockError {
    /// The block is known already.
    #[error("duplicate")]
    Duplicate,
    /// The block is known and was found invalid, or was invalidated by hand.
    #[error("duplicate-invalid")]
    DuplicateInvalid,
    /// Its parent is unknown.
    #[error("prev-blk-not-found")]
    NoParent,
    /// Its parent is invalid.
    #[error("bad-prevblk")]
    InvalidParent,
    /// A header or block rule is broken.
    #[error("{0}")]
    Rule(&'static str),
    /// One of its transactions is invalid.
    #[error("{error} (transaction {txid})")]
    Tx {
        /// The transaction.
        txid: Txid,
        /// What is wrong with it.
        error: TxError,
    },
    /// No such block.
    #[error("Block not found")]
    Unknown,
    /// A request that cannot be met, such as a reorg deeper than the chain.
    #[error("{0}")]
    Impossible(&'static str),
}

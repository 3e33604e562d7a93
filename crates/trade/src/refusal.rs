//! Refusals: which rule an input broke, and a sentence for a person.

use std::borrow::Cow;
use std::fmt;

use serde::{Deserialize, Serialize};

macro_rules! rules {
    ($($(#[$doc:meta])* $name:ident = $code:literal,)*) => {
        /// Rules that an input can break. The names are stable: code, log, API and documents say the same.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        pub enum Rule {
            $($(#[$doc])* #[serde(rename = $code)] $name,)*
        }

        impl Rule {
            /// Every rule there is.
            pub const ALL: &'static [Rule] = &[$(Rule::$name),*];

            /// The stable name.
            pub fn code(self) -> &'static str {
                match self {
                    $(Rule::$name => $code,)*
                }
            }
        }
    };
}

rules! {
    /// No such trade here.
    UnknownTrade = "unknown-trade",
    /// The message belongs to another trade.
    WrongTrade = "wrong-trade",
    /// The author may not say this in this trade.
    WrongAuthor = "wrong-author",
    /// The step it answers is not known (yet), or does not belong to this trade.
    OutOfOrder = "out-of-order",
    /// The same author already said something else for this step.
    Equivocation = "equivocation",
    /// This role cannot do that.
    WrongRole = "wrong-role",
    /// The trade is not at the point where that can be done.
    WrongState = "wrong-state",
    /// The deadline for it has passed.
    TooLate = "too-late",
    /// The listing's escrow terms contradict themselves or leave the bounds.
    TermsInvalid = "terms-invalid",
    /// Bid, appointment or acceptance do not keep the listing's terms.
    TermsMismatch = "terms-mismatch",
    /// The listing is unknown, superseded or closed.
    ListingClosed = "listing-closed",
    /// The stock is taken by other trades.
    SoldOut = "sold-out",
    /// There is no arbiter in this trade, or not this one.
    NoArbiter = "no-arbiter",
    /// The arbiter has not said yet that it serves.
    NotAppointed = "not-appointed",
    /// A party may not sit on two sides of one trade.
    SameParty = "same-party",
    /// A hash was used before.
    HashReused = "hash-reused",
    /// An invoice cannot be read.
    InvoiceUnreadable = "invoice-unreadable",
    /// An invoice is on another hash than agreed.
    InvoiceHash = "invoice-hash",
    /// An invoice asks for another amount than agreed.
    InvoiceAmount = "invoice-amount",
    /// An invoice pays another node than it should.
    InvoicePayee = "invoice-payee",
    /// An invoice is for another network.
    InvoiceNetwork = "invoice-network",
    /// An invoice can no longer be paid.
    InvoiceExpired = "invoice-expired",
    /// An invoice's final CLTV is out of the agreed bounds.
    InvoiceCltv = "invoice-cltv",
    /// An invoice demands features that nobody knows.
    InvoiceFeatures = "invoice-features",
    /// The HTLCs expire earlier than what the payer claims, or too soon to be safe.
    LockTooShort = "lock-too-short",
    /// A re-lock is to be paid for again.
    FeeTwice = "fee-twice",
    /// The rate that a bid quotes is too old, or of the future.
    QuoteStale = "quote-stale",
    /// The rate that a bid quotes does not give the amount of bitcoin that it bids.
    QuoteAmount = "quote-amount",
    /// A secret opens none of the legs it should open.
    SecretMismatch = "secret-mismatch",
    /// A text or list is longer, or a number larger, than is allowed.
    TooLarge = "too-large",
    /// A bound on open trades, counters, rounds or buffered messages is reached.
    TooMany = "too-many",
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.code())
    }
}

/// Why an input was refused. Nothing was recorded and nothing is owed because of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{rule}: {why}")]
pub struct Refusal {
    /// The rule it broke.
    pub rule: Rule,
    /// For a person.
    pub why: Cow<'static, str>,
}

impl Refusal {
    pub(crate) fn new(rule: Rule, why: impl Into<Cow<'static, str>>) -> Refusal {
        Refusal { rule, why: why.into() }
    }
}

/// An event that does not fit the state it meets: the log is damaged or was written by other code. Stop this trade
/// and raise an alarm; never guess.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the log does not fit: {event} in state {state}")]
pub struct CorruptLog {
    /// Kind of the event.
    pub event: String,
    /// Name of the state.
    pub state: &'static str,
}

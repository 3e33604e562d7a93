//! What is measured, and the little statistics that it needs.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// One line of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Figure {
    /// Pay, payee reports held, settle, payer sees paid.
    HoldMedianMs,
    /// The same.
    HoldP99Ms,
    /// Settle is called, payer sees paid.
    SettleMedianMs,
    /// The same.
    SettleP99Ms,
    /// Payments one after the other.
    SequentialPerSecond,
    /// Payments with many in flight.
    InFlightPerSecond,
    /// Resident memory of a process with one idle node.
    MemoryMib,
    /// Start call until caught up with the chain.
    ReadyMs,
    /// Start call until the channel carries payments.
    UsableMs,
}

impl Figure {
    /// All of them in the order of the table.
    pub const ALL: [Figure; 9] = [
        Figure::HoldMedianMs,
        Figure::HoldP99Ms,
        Figure::SettleMedianMs,
        Figure::SettleP99Ms,
        Figure::SequentialPerSecond,
        Figure::InFlightPerSecond,
        Figure::MemoryMib,
        Figure::ReadyMs,
        Figure::UsableMs,
    ];

    /// For people.
    pub fn name(self) -> &'static str {
        match self {
            Figure::HoldMedianMs => "hold round trip, median (ms)",
            Figure::HoldP99Ms => "hold round trip, p99 (ms)",
            Figure::SettleMedianMs => "settle to paid, median (ms)",
            Figure::SettleP99Ms => "settle to paid, p99 (ms)",
            Figure::SequentialPerSecond => "payments per second, one at a time",
            Figure::InFlightPerSecond => "payments per second, many in flight",
            Figure::MemoryMib => "memory of an idle node (MiB)",
            Figure::ReadyMs => "start to caught up (ms)",
            Figure::UsableMs => "start to channel usable (ms)",
        }
    }

    /// A higher number is the better one.
    pub fn more_is_better(self) -> bool {
        matches!(self, Figure::SequentialPerSecond | Figure::InFlightPerSecond)
    }
}

/// Measured values.
pub type Figures = BTreeMap<Figure, f64>;

/// What a child found.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Report {
    /// The figures of its task.
    pub figures: Figures,
    /// How often a payment was refused or failed because the channel had no slot for it, and was tried again.
    pub again: usize,
}

//! Broken twins: each lacks one of the seven rules, so each must be caught.

use std::fmt;
use std::str::FromStr;

/// The rule that a replica breaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Twin {
    /// Rule 1: effects are carried out before the log has the decision.
    LogBeforeEffect,
    /// Rule 2: what was owed when it died is forgotten.
    ReplayOwed,
    /// Rule 3: every attempt makes a new message and a new payment.
    Idempotent,
    /// Rule 4: money moves before the guard is asked.
    GuardFirst,
    /// Rule 5: the margin before expiry is not kept.
    ActBeforeExpiry,
    /// Rule 6: time is a message, and messages get lost.
    TimeEveryStep,
    /// Rule 7: the next input is taken while effects are owed.
    DrainFirst,
}

impl Twin {
    /// All of them, in the order of the rules.
    pub const ALL: [Twin; 7] = [
        Twin::LogBeforeEffect,
        Twin::ReplayOwed,
        Twin::Idempotent,
        Twin::GuardFirst,
        Twin::ActBeforeExpiry,
        Twin::TimeEveryStep,
        Twin::DrainFirst,
    ];

    /// Its name on the command line: that of the rule it lacks.
    pub fn name(self) -> &'static str {
        match self {
            Twin::LogBeforeEffect => "log-before-effect",
            Twin::ReplayOwed => "replay-owed",
            Twin::Idempotent => "idempotent",
            Twin::GuardFirst => "guard-first",
            Twin::ActBeforeExpiry => "act-before-expiry",
            Twin::TimeEveryStep => "time-every-step",
            Twin::DrainFirst => "drain-first",
        }
    }
}

impl fmt::Display for Twin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Twin {
    type Err = String;
    fn from_str(text: &str) -> Result<Twin, String> {
        Twin::ALL.into_iter().find(|twin| twin.name() == text).ok_or_else(|| {
            let names: Vec<&str> = Twin::ALL.iter().map(|twin| twin.name()).collect();
            format!("no such rule; there are: {}", names.join(", "))
        })
    }
}

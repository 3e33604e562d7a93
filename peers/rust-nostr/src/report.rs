//! What was checked: a line for each, and the exit status over all.

use std::fmt::Display;
use std::process::ExitCode;

use anyhow::Result;

/// How many checks there are, so that one that is never reached is missed.
const CHECKS: usize = 47;

/// The checks so far.
#[derive(Default)]
pub struct Report {
    checked: usize,
    failed: usize,
}

impl Report {
    /// One check, with what was seen.
    pub fn say(&mut self, what: &str, ok: bool, seen: impl Display) {
        let seen = seen.to_string();
        let seen = if seen.is_empty() { seen } else { format!(" ({seen})") };
        println!("{} {what}{seen}", if ok { "ok    " } else { "FAILED" });
        self.checked += 1;
        self.failed += usize::from(!ok);
    }

    /// A group of checks came to its end, or broke off.
    pub fn ended(&mut self, group: &str, done: Result<()>) {
        if let Err(why) = done {
            println!("FAILED {group} broke off: {why:#}");
            self.failed += 1;
        }
    }

    /// The sum, and the exit status.
    pub fn finish(&self) -> ExitCode {
        println!("{} checks of {CHECKS}, {} failed", self.checked, self.failed);
        if self.failed == 0 && self.checked == CHECKS { ExitCode::SUCCESS } else { ExitCode::FAILURE }
    }
}

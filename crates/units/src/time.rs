//! Block heights and unix seconds. Escrow deadlines are heights; wall-clock time is for display and for wire formats.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A block height.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(transparent)]
pub struct Height(pub u32);

/// Seconds since 1970-01-01 UTC.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(transparent)]
pub struct Unix(pub u64);

/// What time it is, as told from outside: pure code never asks a clock.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Now {
    /// Height of the best block.
    pub height: Height,
    /// Wall-clock time.
    pub unix: Unix,
}

impl Height {
    /// The height `blocks` later; stays at the last height there can be.
    #[must_use]
    pub fn plus(self, blocks: u32) -> Height {
        Height(self.0.saturating_add(blocks))
    }

    /// The height `blocks` earlier; stays at zero.
    #[must_use]
    pub fn minus(self, blocks: u32) -> Height {
        Height(self.0.saturating_sub(blocks))
    }

    /// Blocks from `now` until this height, zero when it has passed.
    pub fn blocks_after(self, now: Height) -> u32 {
        self.0.saturating_sub(now.0)
    }
}

impl fmt::Display for Height {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl fmt::Display for Unix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

//! The one place of the daemon that reads the wall clock.

use std::time::{SystemTime, UNIX_EPOCH};

use units::Unix;

/// Seconds since 1970; zero on a machine whose clock is set before that.
pub(crate) fn unix() -> Unix {
    Unix(SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |elapsed| elapsed.as_secs()))
}

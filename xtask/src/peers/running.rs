//! A program that runs until it is dropped.

use std::process::Child;

/// Ended when it is dropped, whatever happens.
pub(super) struct Running(pub(super) Child);

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended by itself, which is what was wanted.
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

//! rust-nostr's SDK, the Nostr library of most programs in Rust, against a bare board of ours. What is done with it is a program of
//! its own, in `peers/rust-nostr`.

use std::path::Path;
use std::process::Command;

use anyhow::{Result, bail};

use super::board::Board;
use super::cargo;

/// Runs the check. Gives why it is skipped where it cannot be built.
pub(super) fn run(root: &Path) -> Result<Option<String>> {
    let target = root.join("target/peers/rust-nostr");
    let source = root.join("peers/rust-nostr");
    // Fetched on its own: where the registry is out of reach it is skipped, but what does not compile is a failure.
    if !cargo().args(["fetch", "--locked"]).current_dir(&source).status()?.success() {
        return Ok(Some("its crates cannot be had; see above".into()));
    }
    let mut build = cargo();
    build.args(["build", "--locked", "--target-dir"]).arg(&target);
    if !build.current_dir(&source).status()?.success() {
        bail!("the check with rust-nostr's SDK does not build");
    }
    let board = Board::start(root, &root.join("target/peers/rust-nostr-board"))?;
    println!("rust-nostr's SDK against {}", board.url);
    if !Command::new(target.join("debug/rust-nostr-check")).arg(&board.url).status()?.success() {
        bail!("rust-nostr's SDK does not work with our board as it should");
    }
    Ok(None)
}

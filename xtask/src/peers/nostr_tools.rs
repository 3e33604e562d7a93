//! nostr-tools, the Nostr library of most web clients, against a bare board of ours.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Result, bail};

use super::board::{Board, example};

/// What is installed from npm, pinned.
const PACKAGES: [&str; 2] = ["nostr-tools@2.25.2", "ws@8.23.0"];
/// What is done with it.
const CHECK: &str = include_str!("nostr_tools.js");

/// Runs the check. Gives why it is skipped where node or npm are missing.
pub(super) fn run(root: &Path) -> Result<Option<String>> {
    for program in ["node", "npm"] {
        if Command::new(program).arg("--version").output().is_err() {
            return Ok(Some(format!("{program} is not installed")));
        }
    }
    let folder = root.join("target/peers/nostr-tools");
    fs::create_dir_all(&folder)?;
    fs::write(folder.join("package.json"), "{\"private\": true}\n")?;
    fs::write(folder.join("check.mjs"), CHECK)?;
    let install = Command::new("npm")
        .args(["install", "--no-fund", "--no-audit", "--ignore-scripts"])
        .args(PACKAGES)
        .current_dir(&folder)
        .output()?;
    if !install.status.success() {
        let why = String::from_utf8_lossy(&install.stderr);
        return Ok(Some(format!("npm does not install it: {}", why.lines().next().unwrap_or_default())));
    }
    fs::write(folder.join("mirrors.jsonl"), example(root, "markets", "mirrors")?)?;
    let board = Board::start(root, &folder.join("board"))?;
    println!("{} against {}", PACKAGES[0], board.url);
    if !Command::new("node").args(["check.mjs", &board.url]).current_dir(&folder).status()?.success() {
        bail!("nostr-tools does not work with our board as it should");
    }
    Ok(None)
}

//! nostr-tools, the Nostr library of most web clients, against a bare board of ours.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail, ensure};

/// What is installed from npm, pinned.
const PACKAGES: [&str; 2] = ["nostr-tools@2.25.2", "ws@8.23.0"];
/// What is done with it.
const CHECK: &str = include_str!("nostr_tools.js");

/// Runs the check. Gives why it is skipped where node or npm are missing.
pub(crate) fn run(root: &Path) -> Result<Option<String>> {
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
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let built = Command::new(&cargo).args(["build", "--locked", "--package", "souk"]).current_dir(root).status()?;
    ensure!(built.success(), "souk does not build");
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
    let mirrors = Command::new(&cargo)
        .args(["run", "--locked", "--quiet", "--package", "markets", "--example", "mirrors", "--"])
        .arg(now.to_string())
        .current_dir(root)
        .output()?;
    ensure!(mirrors.status.success(), "the example with our mirrors does not run");
    fs::write(folder.join("mirrors.jsonl"), mirrors.stdout)?;
    let data = folder.join("board");
    if data.exists() {
        fs::remove_dir_all(&data)?;
    }
    let mut board = Command::new(root.join("target/debug/souk"))
        .arg("--data-dir")
        .arg(&data)
        .args(["run", "--board-only", "--listen", "127.0.0.1:0"])
        .env("RUST_LOG", "warn")
        .stdout(Stdio::piped())
        .spawn()?;
    let mut line = String::new();
    BufReader::new(board.stdout.take().context("the board's output")?).read_line(&mut line)?;
    let url = line.trim().rsplit(' ').next().unwrap_or_default();
    println!("{} against {url}", PACKAGES[0]);
    let checked = Command::new("node").args(["check.mjs", url]).current_dir(&folder).status();
    board.kill()?;
    board.wait()?;
    if !checked?.success() {
        bail!("nostr-tools does not work with our board as it should");
    }
    Ok(None)
}

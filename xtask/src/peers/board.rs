//! A fresh board of ours for a peer to work against.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail, ensure};

use super::cargo;
use super::running::Running;

/// It runs until it is dropped.
pub(super) struct Board {
    _running: Running,
    program: PathBuf,
    data: PathBuf,
    /// Where it listens, `ws://…`.
    pub(super) url: String,
}

impl Board {
    /// Builds the program and starts a board in this folder, which is emptied before.
    pub(super) fn start(root: &Path, data: &Path) -> Result<Self> {
        let built = cargo().args(["build", "--locked", "--package", "souk"]).current_dir(root).status()?;
        ensure!(built.success(), "souk does not build");
        emptied(data)?;
        let program = root.join("target/debug/souk");
        let mut running = Command::new(&program)
            .arg("--data-dir")
            .arg(data)
            .args(["run", "--board-only", "--listen", "127.0.0.1:0"])
            .env("RUST_LOG", "warn")
            .stdout(Stdio::piped())
            .spawn()
            .context("starting souk")?;
        let output = running.stdout.take();
        // Before anything can fail, so that it is ended whatever happens.
        let running = Running(running);
        let mut line = String::new();
        BufReader::new(output.context("the board's output")?).read_line(&mut line)?;
        let url = line.trim().rsplit(' ').next().unwrap_or_default().to_owned();
        ensure!(url.starts_with("ws://"), "the board does not say where it listens: {line:?}");
        Ok(Self { _running: running, program, data: data.to_owned(), url })
    }

    /// What `souk board …` prints.
    pub(super) fn ask(&self, arguments: &[&str]) -> Result<String> {
        let mut command = Command::new(&self.program);
        command.arg("--data-dir").arg(&self.data).arg("board").args(arguments).stderr(Stdio::inherit());
        let output = command.output()?;
        if !output.status.success() {
            bail!("souk board {}: {}", arguments.join(" "), output.status);
        }
        String::from_utf8(output.stdout).context("what souk prints is UTF-8")
    }
}

/// An empty folder.
pub(super) fn emptied(folder: &Path) -> Result<()> {
    if folder.exists() {
        fs::remove_dir_all(folder)?;
    }
    Ok(fs::create_dir_all(folder)?)
}

/// What an example prints that takes the time of day.
pub(super) fn example(root: &Path, package: &str, name: &str) -> Result<Vec<u8>> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
    let output = cargo()
        .args(["run", "--locked", "--quiet", "--package", package, "--example", name, "--"])
        .arg(now.to_string())
        .current_dir(root)
        .stderr(Stdio::inherit())
        .output()?;
    ensure!(output.status.success(), "the example {name} of {package} does not run");
    Ok(output.stdout)
}

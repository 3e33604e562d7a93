//! strfry, the relay most others are measured by, brought into agreement with a board of ours (NIP-77), by our client and by its own.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write as _;
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use super::board::{Board, emptied, example};
use super::not_given;
use super::running::Running;

/// Within this, it listens.
const PATIENCE: Duration = Duration::from_secs(20);

/// Events by id, each as it is.
type Events = BTreeMap<String, Value>;

/// Who leads the reconciliation.
#[derive(Clone, Copy, PartialEq)]
enum Leader {
    Souk,
    Strfry,
}

/// Runs both directions. Gives why it is skipped where no program is given.
pub(super) fn run(root: &Path, program: Option<PathBuf>) -> Result<Option<String>> {
    let Some(program) = program else { return Ok(Some(not_given("strfry"))) };
    let events = Sides::read(&example(root, "wire", "two_sides")?)?;
    for leader in [Leader::Souk, Leader::Strfry] {
        let folder = root.join("target/peers/strfry");
        let board = Board::start(root, &folder.join("board"))?;
        let strfry = Strfry::new(&program, &folder.join("strfry"))?;
        agree(leader, &events, &board, &strfry, &folder)?;
    }
    Ok(None)
}

/// Fills both, has one lead, and compares what both hold then.
fn agree(leader: Leader, events: &Sides, board: &Board, strfry: &Strfry, folder: &Path) -> Result<()> {
    let file = folder.join("events.jsonl");
    fs::write(&file, &events.board)?;
    board.ask(&["import", &file.to_string_lossy()])?;
    strfry.import(&events.other)?;
    let (before_board, before_strfry) = (read(&board.ask(&["export"])?)?, read(&strfry.export()?)?);
    let apart = before_board.keys().filter(|id| !before_strfry.contains_key(*id)).count();
    let missing = before_strfry.keys().filter(|id| !before_board.contains_key(*id)).count();
    println!("the board alone has {apart} events, strfry alone {missing}");
    ensure!(apart > 0 && missing > 0, "there is nothing to do");
    let _running = strfry.run()?;
    match leader {
        Leader::Souk => println!("souk board sync: {}", board.ask(&["sync", &strfry.url()])?.trim()),
        Leader::Strfry => strfry.sync(&board.url)?,
    }
    let (ours, theirs) = (read(&board.ask(&["export"])?)?, read(&strfry.export()?)?);
    let who = if leader == Leader::Souk { "souk board sync ws://strfry" } else { "strfry sync ws://board" };
    same(&events.stays, &ours).with_context(|| format!("{who}: the board"))?;
    same(&events.stays, &theirs).with_context(|| format!("{who}: strfry"))?;
    println!("ok     {who}: both hold the same {} events, and the right ones", ours.len());
    Ok(())
}

/// Fails with what is wrong.
fn same(expected: &Events, there: &Events) -> Result<()> {
    let differs = |from: &Events, to: &Events| {
        let wrong = from.iter().filter(|(id, event)| to.get(*id) != Some(event));
        wrong.map(|(_, event)| event.to_string()).collect::<Vec<_>>()
    };
    let (lacks, more) = (differs(expected, there), differs(there, expected));
    let first = lacks.first().or(more.first()).map(String::as_str).unwrap_or_default();
    ensure!(lacks.is_empty() && more.is_empty(), "lacks {}, has {} too many: {first}", lacks.len(), more.len());
    Ok(())
}

fn read(lines: &str) -> Result<Events> {
    let events = lines.lines().map(|line| {
        let event: Value = serde_json::from_str(line).with_context(|| line.to_owned())?;
        let id = event["id"].as_str().context("an event without an id")?.to_owned();
        anyhow::Ok((id, event))
    });
    events.collect()
}

/// What either side has before, a line an event, and what both should hold afterwards.
struct Sides {
    board: String,
    other: String,
    stays: Events,
}

impl Sides {
    fn read(lines: &[u8]) -> Result<Self> {
        let mut sides = Self { board: String::new(), other: String::new(), stays: Events::new() };
        for line in std::str::from_utf8(lines)?.lines() {
            let value: Value = serde_json::from_str(line)?;
            let event = format!("{}\n", value["event"]);
            let side = value["side"].as_str().unwrap_or_default();
            if side != "other" {
                sides.board.push_str(&event);
            }
            if side != "board" {
                sides.other.push_str(&event);
            }
            if value["stays"] == true {
                sides.stays.extend(read(&event)?);
            }
        }
        Ok(sides)
    }
}

/// A strfry with a folder of its own.
struct Strfry {
    program: PathBuf,
    folder: PathBuf,
    port: u16,
}

impl Strfry {
    fn new(program: &Path, folder: &Path) -> Result<Self> {
        let program = program.canonicalize().with_context(|| program.display().to_string())?;
        emptied(&folder.join("db"))?;
        // Free at the moment, and nobody else asks for it by number.
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        // `nofiles` is as the machine has it: raising it may not be allowed.
        let config = format!("db = \"./db/\"\nrelay {{ bind = \"127.0.0.1\" port = {port} nofiles = 0 }}\n");
        fs::write(folder.join("strfry.conf"), config)?;
        Ok(Self { program, folder: folder.to_owned(), port })
    }

    fn url(&self) -> String {
        format!("ws://127.0.0.1:{}", self.port)
    }

    fn command(&self, arguments: &[&str]) -> Result<Command> {
        // It says a lot for each event; what it said last is kept.
        let log = fs::File::create(self.folder.join(format!("{}.log", arguments.first().unwrap_or(&"strfry"))))?;
        let mut command = Command::new(&self.program);
        command.arg("--config=strfry.conf").args(arguments).current_dir(&self.folder).stderr(log);
        Ok(command)
    }

    fn import(&self, events: &str) -> Result<()> {
        let mut child = self.command(&["import"])?.stdin(Stdio::piped()).spawn().context("starting strfry")?;
        child.stdin.take().context("strfry's input")?.write_all(events.as_bytes())?;
        ensure!(child.wait()?.success(), "strfry import failed");
        Ok(())
    }

    fn export(&self) -> Result<String> {
        let output = self.command(&["export"])?.output()?;
        ensure!(output.status.success(), "strfry export failed");
        Ok(String::from_utf8(output.stdout)?)
    }

    /// Has it lead, both ways.
    fn sync(&self, url: &str) -> Result<()> {
        let status = self.command(&["sync", url, "--dir", "both"])?.status()?;
        ensure!(status.success(), "strfry sync failed; see {}", self.folder.join("sync.log").display());
        Ok(())
    }

    /// Has it serve, until what is given is dropped.
    fn run(&self) -> Result<Running> {
        let child = self.command(&["relay"])?.stdout(Stdio::null()).spawn().context("starting strfry")?;
        let mut running = Running(child);
        let begun = Instant::now();
        while TcpStream::connect(("127.0.0.1", self.port)).is_err() {
            if begun.elapsed() > PATIENCE || running.0.try_wait()?.is_some() {
                bail!("strfry does not listen; see {}", self.folder.join("relay.log").display());
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        Ok(running)
    }
}

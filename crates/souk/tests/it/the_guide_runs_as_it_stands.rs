//! docs/guide/two-traders.md is a script: what stands in its `sh` boxes runs in order, as one shell would run it, and what its
//! `text` boxes show is what the box before them printed. Only the ports differ, because others may have them.

use std::io::Read;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use super::market::free_ports;

const GUIDE: &str = include_str!("../../../../docs/guide/two-traders.md");
/// The ports that the page names.
const PORTS: [&str; 4] = ["18443", "7447", "9735", "3002"];
/// The whole page, even on a busy machine.
const PATIENCE: Duration = Duration::from_secs(400);
/// Printed before each box, so that its output is told from that of the others.
const MARK: &str = "-- box";
/// Whatever happens, nothing stays behind.
const PREAMBLE: &str = "set -eu\ntrap 'kill $(jobs -p); wait' EXIT\n";

/// Commands, and lines that they print among others.
#[derive(Debug, Default, PartialEq, Eq)]
struct Step {
    commands: String,
    shows: Vec<String>,
}

/// The boxes of a page.
fn steps(page: &str) -> Vec<Step> {
    let mut steps: Vec<Step> = Vec::new();
    let mut lines = page.lines();
    while let Some(line) = lines.next() {
        if !line.starts_with("```") {
            continue;
        }
        let inside: Vec<_> = lines.by_ref().take_while(|line| *line != "```").map(str::to_owned).collect();
        match line {
            "```sh" => steps.push(Step { commands: inside.join("\n"), shows: Vec::new() }),
            "```text" => steps.last_mut().expect("output follows commands").shows = inside,
            other => panic!("a box of another kind: {other}"),
        }
    }
    steps
}

#[test]
fn the_guide_runs_as_it_stands() {
    let steps = steps(GUIDE);
    assert!(steps.len() > 10 && steps.iter().any(|step| !step.shows.is_empty()), "the page is not read rightly");
    let mut script = PREAMBLE.to_owned();
    for (number, step) in steps.iter().enumerate() {
        script += &format!("echo '{MARK} {number}'\n{}\n", step.commands);
    }
    for (named, free) in PORTS.into_iter().zip(free_ports::<4>()) {
        let address = format!("=127.0.0.1:{named}");
        assert_eq!(script.matches(&address).count(), 1, "{address} is set once");
        script = script.replace(&address, &format!("=127.0.0.1:{free}"));
    }
    let dir = tempfile::tempdir().unwrap();
    let (printed, errors, in_order) = run(&script, dir.path());
    assert!(in_order, "the page does not run\n{printed}\n{errors}\n{}", logs(dir.path()));
    for (number, step) in steps.iter().enumerate() {
        let from = printed.split_once(&format!("{MARK} {number}\n")).expect("every box ran").1;
        let output = from.split(MARK).next().unwrap_or_default();
        for line in &step.shows {
            assert!(output.contains(line), "box {number} does not print {line:?}:\n{}\n{output}", step.commands);
        }
    }
}

/// Runs a script in `dir`: what it printed, its errors, and whether all of it succeeded in time.
fn run(script: &str, dir: &Path) -> (String, String, bool) {
    let file = dir.join("script");
    std::fs::write(&file, script).unwrap();
    let program = Path::new(env!("CARGO_BIN_EXE_souk")).parent().unwrap();
    let path = std::env::join_paths(
        std::iter::once(program.to_path_buf()).chain(std::env::split_paths(&std::env::var_os("PATH").unwrap())),
    );
    let mut bash = Command::new("bash")
        .arg(&file)
        .current_dir(dir)
        .env("PATH", path.unwrap())
        .env("SOUK_WAIT_TIMEOUT", "120")
        .env_remove("SOUK_DATA_DIR")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .spawn()
        .unwrap();
    let (mut output, mut errors) = (bash.stdout.take().unwrap(), bash.stderr.take().unwrap());
    std::thread::scope(|scope| {
        let watch = scope.spawn(|| {
            let began = Instant::now();
            loop {
                if let Some(status) = bash.try_wait().unwrap() {
                    return status.success();
                }
                if began.elapsed() > PATIENCE {
                    let group = format!("-{}", bash.id());
                    Command::new("kill").args(["-KILL", "--", &group]).status().unwrap();
                    bash.wait().unwrap();
                    return false;
                }
                std::thread::sleep(Duration::from_millis(50));
            }
        });
        let errors = scope.spawn(move || {
            let mut text = String::new();
            errors.read_to_string(&mut text).unwrap();
            text
        });
        let mut printed = String::new();
        output.read_to_string(&mut printed).unwrap();
        (printed, errors.join().unwrap(), watch.join().unwrap())
    })
}

/// The ends of the daemons' logs.
fn logs(dir: &Path) -> String {
    let mut text = String::new();
    for who in ["board", "seller", "buyer", "arbiter"] {
        let log = std::fs::read_to_string(dir.join(who).join("log")).unwrap_or_default();
        let lines: Vec<_> = log.lines().collect();
        text += &format!("{who}\n{}\n", lines[lines.len().saturating_sub(20)..].join("\n"));
    }
    text
}

#[test]
fn a_page_is_read_box_by_box() {
    let page = "# Title\n\n```sh\none\ntwo\n```\n```text\nout\n```\n\nwords\n\n```sh\nthree\n```\n";
    let step = |commands: &str, shows: &[&str]| Step {
        commands: commands.to_owned(),
        shows: shows.iter().map(|line| (*line).to_owned()).collect(),
    };
    assert_eq!(steps(page), [step("one\ntwo", &["out"]), step("three", &[])]);
}

//! A bare board is killed while many publish at full speed, again and again, and its files are torn in between: what was
//! acknowledged is there, nothing is half there, and the start says what it repaired.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use wire::{Event, Limits};

use crate::bare_board::{BareBoard, Client, note, run, souk, started};

const PUBLISHERS: u8 = 4;
/// Acknowledgements of a round after which the board is killed.
const ENOUGH: usize = 150;
const IN_FLIGHT: usize = 32;

/// Publishes until the board is gone, many at a time. Gives what was acknowledged.
fn publish(board: std::net::SocketAddr, author: u8, round: u64, acknowledged: &AtomicUsize) -> Vec<String> {
    let mut client = Client::connect(board);
    let (mut open, mut done) = (0, Vec::new());
    let mut events = (0..).map(|i| note(author, 1_700_000_000 + round * 100_000 + i, &format!("{round} {i}")));
    loop {
        while open < IN_FLIGHT {
            let Some(event) = events.next() else { return done };
            if !client.send(wire::frame::publish(&event, None)) {
                break;
            }
            open += 1;
        }
        let Some(answer) = client.next() else { return done };
        assert_eq!((answer[0].as_str(), answer[2].as_bool()), (Some("OK"), Some(true)), "{answer}");
        done.push(answer[1].as_str().unwrap().to_owned());
        acknowledged.fetch_add(1, Ordering::Relaxed);
        open -= 1;
    }
}

/// One round: everybody publishes, the board is killed in the middle of it.
fn round(board: &mut BareBoard, number: u64, all: &mut BTreeSet<String>) {
    let acknowledged = Arc::new(AtomicUsize::new(0));
    let (address, count) = (board.address, &acknowledged);
    std::thread::scope(|scope| {
        let publishers: Vec<_> =
            (1..=PUBLISHERS).map(|author| scope.spawn(move || publish(address, author, number, count))).collect();
        while acknowledged.load(Ordering::Relaxed) < ENOUGH {
            assert!(board.child.try_wait().unwrap().is_none(), "the board ended by itself");
            std::thread::yield_now();
        }
        board.child.kill().unwrap();
        board.child.wait().unwrap();
        publishers.into_iter().for_each(|publisher| all.extend(publisher.join().unwrap()));
    });
}

/// Every event that the board would give out: whole, with the id and signature that it should have.
fn kept(dir: &Path) -> BTreeSet<String> {
    let output = souk(dir).args(["board", "export"]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).unwrap();
    let check = |line: &str| {
        let event = Event::parse(line.as_bytes(), &Limits::STRICT).unwrap();
        event.verify().unwrap();
        units::hex32(&event.id)
    };
    text.lines().map(check).collect()
}

/// The last segment of the log.
fn log(dir: &Path) -> std::path::PathBuf {
    let mut logs: Vec<_> = fs::read_dir(dir.join("board")).unwrap().map(|entry| entry.unwrap().path()).collect();
    logs.retain(|path| path.extension().is_some_and(|extension| extension == "log"));
    logs.sort();
    logs.pop().unwrap()
}

#[test]
fn whatever_was_acknowledged_outlives_kill_after_kill_and_torn_files() {
    let dir = tempfile::tempdir().unwrap();
    let mut acknowledged = BTreeSet::new();
    for number in 0..6u64 {
        let mut board = run(dir.path());
        round(&mut board, number, &mut acknowledged);
        // What a power cut may leave behind the last batch, and beside the log.
        let path = log(dir.path());
        let mut bytes = fs::read(&path).unwrap();
        match number {
            1 => bytes.extend_from_slice(&[0; 5000]),
            2 => {
                // A frame that begins like the last one and ends too soon.
                let tail = bytes[bytes.len() - 300..].to_vec();
                bytes.extend_from_slice(&tail);
            }
            3 => fs::remove_dir_all(dir.path().join("board/index")).unwrap(),
            4 => bytes.extend_from_slice(b"SOUK\x01\x01\0\0"),
            _ => {}
        }
        fs::write(&path, bytes).unwrap();
        let kept = kept(dir.path());
        let lost: Vec<_> = acknowledged.difference(&kept).collect();
        assert!(lost.is_empty(), "round {number}: {} of {} are lost", lost.len(), acknowledged.len());
    }
    assert!(acknowledged.len() >= 6 * ENOUGH);
}

#[test]
fn the_start_says_what_it_repaired() {
    let dir = tempfile::tempdir().unwrap();
    let mut board = run(dir.path());
    let mut client = Client::connect(board.address);
    for i in 0..5 {
        assert_eq!(client.publish(&note(1, 1_700_000_000 + i, "x"))[2], true);
    }
    board.stop();
    let path = log(dir.path());
    let mut bytes = fs::read(&path).unwrap();
    bytes.extend_from_slice(b"SOUK torn");
    fs::write(&path, bytes).unwrap();
    let errors = dir.path().join("errors");
    let mut command = souk(dir.path());
    command.args(["run", "--board-only", "--listen", "127.0.0.1:0"]);
    let mut board = started(command.stderr(Stdio::from(fs::File::create(&errors).unwrap())));
    board.stop();
    let said = fs::read_to_string(&errors).unwrap();
    assert!(said.contains("was cut off") && said.contains("saved"), "{said}");
}

#[test]
fn on_a_full_disk_the_board_refuses_with_the_reason_and_goes_on_when_there_is_room() {
    let dir = tempfile::tempdir().unwrap();
    // A limit on the size of files stands in for a small disk. The shell ignores the signal, and so does what it becomes.
    let mut command = std::process::Command::new("bash");
    let script = "trap '' XFSZ; ulimit -S -f 400; exec \"$0\" --data-dir \"$1\" run --board-only --listen 127.0.0.1:0";
    command.args(["-c", script, env!("CARGO_BIN_EXE_souk")]).arg(dir.path()).stdin(Stdio::null());
    let board = started(&mut command);
    let mut client = Client::connect(board.address);
    let content = "x".repeat(20_000);
    let mut kept = 0;
    let why = loop {
        let answer = client.publish(&note(1, 1_700_000_000 + kept, &content));
        if answer[2] == false {
            break answer[3].as_str().unwrap().to_owned();
        }
        kept += 1;
        assert!(kept < 100, "the disk never was full");
    };
    assert!(why.starts_with("error: the board's disk takes no more"), "{why}");
    assert_eq!(client.ask("{}").len() as u64, kept, "reading goes on");
    assert!(client.send("[\"CLOSE\",\"s\"]".into()));
    let pid = board.child.id().to_string();
    let freed = std::process::Command::new("prlimit").args(["--pid", &pid, "--fsize=unlimited"]).status();
    if freed.is_ok_and(|status| status.success()) {
        let answer = client.publish(&note(1, 1_700_001_000, &content));
        assert_eq!(answer[2], true, "there is room again: {answer}");
        kept += 1;
    }
    drop(board);
    let board = run(dir.path());
    assert_eq!(Client::connect(board.address).ask("{}").len() as u64, kept);
}

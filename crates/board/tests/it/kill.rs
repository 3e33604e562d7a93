//! A board in a process of its own: killed while it takes events, and run out of disk.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Resource, Rlimit, getrlimit, prlimit};

use crate::client::{Client, DEADLINE};
use crate::events::{hex, signed};
use crate::relay_limits::http;

/// The program that runs a board, built if it is not there yet.
pub(crate) fn program() -> PathBuf {
    let built = Command::new(std::env::var("CARGO").unwrap_or_else(|_| "cargo".into()))
        .args(["build", "--quiet", "--offline", "--package", "board", "--example", "board"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .status();
    assert!(built.unwrap().success());
    let tests = std::env::current_exe().unwrap();
    tests.parent().unwrap().parent().unwrap().join("examples/board")
}

pub(crate) struct Running {
    child: Child,
    pub(crate) address: SocketAddr,
}

pub(crate) fn run(command: &mut Command) -> Running {
    let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    Running { address: line.trim().parse().unwrap(), child }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

#[tokio::test]
async fn after_a_kill_every_event_that_was_acknowledged_is_there() {
    let program = tokio::task::spawn_blocking(program).await.unwrap();
    let dir = tempfile::tempdir().unwrap();
    let mut acknowledged = BTreeSet::new();
    let now = board::system_clock().0;
    for round in 0..4u64 {
        let mut board = run(Command::new(&program).arg(dir.path()));
        let mut client = Client::connect(board.address).await;
        let mut reader = Client::connect(board.address).await;
        let mut found = BTreeSet::new();
        // In pages: the board gives out at most 500 at once.
        let mut until = now + 100;
        loop {
            let page = reader.ask(&format!("{{\"until\":{until}}}")).await;
            let before = found.len();
            found.extend(page);
            if found.len() == before {
                break;
            }
            until = now + 100 - found.len() as u64;
        }
        assert!(acknowledged.is_subset(&found), "lost in round {round}: {:?}", acknowledged.difference(&found));
        drop(reader);
        let first = found.len() as u64;
        for i in 0..400 {
            // No two in the same second, so that pages do not tear.
            let event = signed(1, 1, now + 100 - first - i, &[], &format!("{round} {i}"));
            client.send(wire::frame::publish(&event, None)).await;
        }
        for _ in 0..100 + 50 * round {
            let answer = client.next().await;
            assert_eq!(answer[2], true, "{answer}");
            acknowledged.insert(answer[1].as_str().unwrap().to_owned());
        }
        // With events still under way.
        board.child.kill().unwrap();
        board.child.wait().unwrap();
        // What was on its way to us was acknowledged too.
        while let Some(answer) = client.maybe_next().await {
            acknowledged.insert(answer[1].as_str().unwrap().to_owned());
        }
    }
    assert!(acknowledged.len() >= 700);
}

/// The status of `GET /health`, and what it says.
async fn health(address: SocketAddr) -> (u16, String) {
    let (status, _, body) = http(address, "GET /health HTTP/1.1\r\nHost: x\r\n\r\n").await;
    (status, body)
}

/// A limit on the size of files stands in for a small disk: writes fail in the same way.
fn let_files_grow(board: &Running, bytes: Option<u64>) {
    let pid = Pid::from_child(&board.child);
    prlimit(Some(pid), Resource::Fsize, Rlimit { current: bytes, ..getrlimit(Resource::Fsize) }).unwrap();
}

#[tokio::test]
async fn on_a_full_disk_events_are_refused_with_the_reason_and_reading_goes_on() {
    let program = tokio::task::spawn_blocking(program).await.unwrap();
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let now = board::system_clock().0;
    let mut kept = Vec::new();
    let content = "x".repeat(30_000);
    {
        let board = run(Command::new("sh").arg("-c").arg("trap '' XFSZ; exec \"$0\" \"$1\"").arg(&program).arg(&data));
        let_files_grow(&board, Some(1 << 20));
        let mut client = Client::connect(board.address).await;
        // The second time it is full after space was found.
        for (round, bytes) in [(0, Some(2 << 20)), (1, None)] {
            let deadline = Instant::now() + DEADLINE;
            for i in 0.. {
                assert!(Instant::now() < deadline, "the disk never was full");
                let event = signed(1, 1, now - 1000 * round - i, &[], &content);
                let (accepted, why) = client.publish(&event).await;
                if !accepted {
                    assert!(why.starts_with("error: the board's disk takes no more"), "{why}");
                    assert!(!client.publish(&event).await.0, "still full");
                    break;
                }
                kept.push(hex(&event.id));
            }
            assert!(kept.len() > 5 * (1 + round as usize));
            assert_eq!(Client::connect(board.address).await.ask("{}").await, kept, "reading goes on");
            client.stored(&signed(2, 20_001, now, &[], "is passed on and not kept")).await;
            // Longer than it takes the board to ask the disk again.
            tokio::time::sleep(Duration::from_millis(1200)).await;
            let (status, why) = health(board.address).await;
            assert!(status == 503 && why.starts_with("the board's disk takes no more"), "{status} {why}");
            let_files_grow(&board, bytes);
            // Nobody has to publish for it to be well again.
            let deadline = Instant::now() + DEADLINE;
            while health(board.address).await.0 != 200 {
                assert!(Instant::now() < deadline, "it never was well again");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
        let after = signed(2, 1, now - 20_000, &[], "there is room again");
        client.stored(&after).await;
        kept.push(hex(&after.id));
    }
    let board = run(Command::new(&program).arg(&data));
    let mut client = Client::connect(board.address).await;
    assert_eq!(client.ask("{}").await, kept, "and all of it is there after a kill");
    assert_eq!(health(board.address).await.0, 200);
}

//! `souk run --board-only`: a board out of nothing, and what its operator sees and does.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

/// A bare board in a process of its own. It is killed when the test forgets it.
pub(crate) struct BareBoard {
    pub child: Child,
    pub address: SocketAddr,
}

/// `souk` on the data directory `dir`.
pub(crate) fn souk(dir: &Path) -> Command {
    let mut souk = Command::new(env!("CARGO_BIN_EXE_souk"));
    souk.arg("--data-dir").arg(dir).env_remove("SOUK_PASSPHRASE").stdin(Stdio::null());
    souk
}

/// Starts `command`, which is to become a bare board, and waits until it says where it listens.
pub(crate) fn started(command: &mut Command) -> BareBoard {
    let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let address = line.trim().rsplit("ws://").next().unwrap().parse();
    BareBoard { child, address: address.unwrap_or_else(|_| panic!("{line:?}")) }
}

pub(crate) fn run(dir: &Path) -> BareBoard {
    started(souk(dir).args(["run", "--board-only", "--listen", "127.0.0.1:0"]))
}

impl BareBoard {
    pub(crate) fn signal(&self, signal: &str) {
        let sent = Command::new("kill").arg(format!("-{signal}")).arg(self.child.id().to_string()).status();
        assert!(sent.unwrap().success());
    }

    /// Asks it to stop, and waits until it has.
    pub(crate) fn stop(&mut self) {
        self.signal("TERM");
        assert!(self.child.wait().unwrap().success());
    }
}

impl Drop for BareBoard {
    fn drop(&mut self) {
        // It may have ended already.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

fn health(address: SocketAddr) -> String {
    let mut socket = TcpStream::connect(address).unwrap();
    socket.write_all(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    let mut answer = String::new();
    socket.read_to_string(&mut answer).unwrap();
    answer
}

fn error(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn a_bare_board_needs_no_seed_and_no_configuration_and_ends_in_order() {
    let dir = tempfile::tempdir().unwrap();
    let at = dir.path().join("new");
    let mut board = run(&at);
    assert!(health(board.address).ends_with("ok\n"));
    board.stop();
    let mut board = run(&at);
    board.signal("INT");
    assert!(board.child.wait().unwrap().success());
    assert!(!at.join("seed").exists());
}

#[test]
fn a_bare_board_heeds_the_configuration_and_refuses_a_bad_one_and_a_directory_in_use() {
    let dir = tempfile::tempdir().unwrap();
    let config = dir.path().join("souk.toml");
    std::fs::write(&config, "[board]\nlisten = \"127.0.0.1:0\"\nname = \"Corner shop\"\n").unwrap();
    let board = started(souk(dir.path()).args(["run", "--board-only"]));
    let second = souk(dir.path()).args(["run", "--board-only"]).output().unwrap();
    assert_eq!(second.status.code(), Some(1));
    assert!(error(&second).contains("another daemon"), "{}", error(&second));
    drop(board);
    std::fs::write(&config, "[board]\nnaem = \"Corner shop\"\n").unwrap();
    let bad = souk(dir.path()).args(["run", "--board-only"]).output().unwrap();
    assert_eq!(bad.status.code(), Some(2));
    assert!(error(&bad).contains("naem") && error(&bad).contains("line 2"), "{}", error(&bad));
}

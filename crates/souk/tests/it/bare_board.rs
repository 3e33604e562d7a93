//! `souk run --board-only`: a board out of nothing, and what its operator sees and does.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

use secp256k1::{Keypair, SECP256K1, SecretKey};
use serde_json::Value;
use tokio_tungstenite::tungstenite::{Message, WebSocket};
use units::Unix;
use wire::{Event, Unsigned};

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

/// A client of a board.
pub(crate) struct Client(WebSocket<TcpStream>);

impl Client {
    /// Connects, and takes the challenge.
    pub(crate) fn connect(address: SocketAddr) -> Client {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_nodelay(true).unwrap();
        let (socket, _) = tokio_tungstenite::tungstenite::client(format!("ws://{address}"), stream).unwrap();
        let mut client = Client(socket);
        assert_eq!(client.next().unwrap()[0], "AUTH");
        client
    }

    /// The next frame; none when the board has hung up.
    pub(crate) fn next(&mut self) -> Option<Value> {
        loop {
            match self.0.read() {
                Ok(Message::Text(text)) => return Some(serde_json::from_str(&text).unwrap()),
                Ok(Message::Close(_)) | Err(_) => return None,
                Ok(_) => {}
            }
        }
    }

    /// Sends; false when the board has hung up.
    pub(crate) fn send(&mut self, text: String) -> bool {
        self.0.send(Message::text(text)).is_ok()
    }

    /// Publishes and waits for `OK`.
    pub(crate) fn publish(&mut self, event: &Event) -> Value {
        assert!(self.send(wire::frame::publish(event, None)));
        self.next().unwrap()
    }

    /// Ids of the stored events that match.
    pub(crate) fn ask(&mut self, filter: &str) -> Vec<String> {
        assert!(self.send(format!("[\"REQ\",\"s\",{filter}]")));
        let mut ids = Vec::new();
        loop {
            let frame = self.next().unwrap();
            match frame[0].as_str() {
                Some("EVENT") => ids.push(frame[2]["id"].as_str().unwrap().to_owned()),
                Some("EOSE") => return ids,
                _ => panic!("unexpected {frame}"),
            }
        }
    }
}

/// A note by the author number `author`.
pub(crate) fn note(author: u8, at: u64, content: &str) -> Event {
    let key = Keypair::from_secret_key(SECP256K1, &SecretKey::from_slice(&[author; 32]).unwrap());
    let note = Unsigned { pubkey: [0; 32], created_at: Unix(at), kind: 1, tags: vec![], content: content.into() };
    note.sign(&key, &[0; 32])
}

/// Runs a command with `--json` and gives its answer.
pub(crate) fn ask(dir: &Path, args: &[&str]) -> Value {
    let output = souk(dir).arg("--json").args(args).output().unwrap();
    assert!(output.status.success(), "{args:?}: {}", error(&output));
    serde_json::from_slice(&output.stdout).unwrap_or(Value::Null)
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

#[test]
fn the_operator_sees_clients_and_acts_on_them_from_the_command_line() {
    let dir = tempfile::tempdir().unwrap();
    let board = run(dir.path());
    let mut client = Client::connect(board.address);
    let event = note(1, 1_700_000_000, "x");
    assert_eq!(client.publish(&event)[2], true);
    assert_eq!(client.ask("{}"), [units::hex32(&event.id)]);
    let status = ask(dir.path(), &["status"]);
    assert_eq!((&status["roles"][0], &status["identity"]), (&Value::from("board"), &Value::Null));
    assert_eq!(ask(dir.path(), &["board", "stats"])["accepted"], 1);
    let clients = ask(dir.path(), &["board", "clients"]);
    assert_eq!((&clients[0]["address"], &clients[0]["subscriptions"]), (&Value::from("127.0.0.1"), &Value::from(1)));
    assert_eq!(ask(dir.path(), &["board", "subscriptions"])[0]["id"], "s");
    assert_eq!(ask(dir.path(), &["board", "subscriptions", "127.0.0.2"]), Value::Array(vec![]));
    assert_eq!(ask(dir.path(), &["board", "notice", "closing soon"])["clients"], 1);
    assert_eq!(client.next().unwrap()[1], "closing soon");
    ask(dir.path(), &["board", "ban", "event", &units::hex32(&event.id), "--reason", "court order"]);
    assert!(client.ask("{}").is_empty());
    let author = units::hex32(&event.pubkey);
    ask(dir.path(), &["board", "ban", "author", &author]);
    assert_eq!(client.publish(&note(1, 1_700_000_001, "y"))[2], false);
    assert_eq!(ask(dir.path(), &["board", "bans"])["authors"].as_object().unwrap().len(), 1);
    ask(dir.path(), &["board", "unban", "author", &author]);
    assert!(client.send("[\"CLOSE\",\"s\"]".into()));
    assert_eq!(client.publish(&note(1, 1_700_000_001, "y"))[2], true);
    let number = clients[0]["number"].to_string();
    assert_eq!(ask(dir.path(), &["board", "disconnect", &number])["clients"], 1);
    // The subscription showed it what it published; then the connection ends.
    while client.next().is_some() {}
    drop(client);
    while ask(dir.path(), &["board", "clients"]) != Value::Array(vec![]) {}
    let fails = |args: &[&str], code: i32, needle: &str| {
        let output = souk(dir.path()).arg("board").args(args).output().unwrap();
        assert_eq!(output.status.code(), Some(code), "{}", error(&output));
        assert!(error(&output).contains(needle), "{}", error(&output));
    };
    fails(&["disconnect", &number], 1, "no client");
    fails(&["disconnect", "who"], 2, "neither");
    fails(&["subscriptions", "../status"], 2, "neither");
    fails(&["ban", "author", "zz"], 2, "64 lowercase hex");
    fails(&["unban", "author", &author], 1, "not shut out");
}

#[test]
fn events_leave_as_lines_and_come_back_online_and_offline() {
    let dir = tempfile::tempdir().unwrap();
    let (from, to) = (dir.path().join("from"), dir.path().join("to"));
    let file = dir.path().join("events.jsonl");
    let text: String = (0..3000).map(|i| note(1, 1_700_000_000 + i, &format!("{i}")).to_json() + "\n").collect();
    std::fs::write(&file, text.clone() + "nonsense\n").unwrap();
    let file = file.to_str().unwrap();
    let mut board = run(&from);
    let first = ask(&from, &["board", "import", "--until", "1700000999", file]);
    assert_eq!(
        (&first["lines"], &first["new"]),
        (&Value::from(1001), &Value::from(1000)),
        "nonsense is not chosen away"
    );
    let second = ask(&from, &["board", "import", file]);
    assert_eq!((&second["new"], &second["known"]), (&Value::from(2000), &Value::from(1000)));
    assert_eq!(second["refused"].as_object().unwrap().len(), 1);
    let newest_first: Vec<&str> = text.lines().rev().collect();
    let export = |args: &[&str]| {
        let output = souk(&from).args(["board", "export"]).args(args).output().unwrap();
        assert!(output.status.success(), "{}", error(&output));
        String::from_utf8(output.stdout).unwrap()
    };
    let online = export(&[]);
    assert_eq!(online.lines().collect::<Vec<_>>(), newest_first);
    assert_eq!(export(&["--since", "1700002990", "--kinds", "1,7"]).lines().count(), 10);
    assert_eq!(export(&["--filter", "{\"limit\":4}"]).lines().count(), 4);
    let copy = dir.path().join("copy.jsonl");
    assert_eq!(ask(&from, &["board", "export", "--output", copy.to_str().unwrap()])["events"], 3000);
    assert_eq!(std::fs::read_to_string(&copy).unwrap(), online);
    board.stop();
    assert_eq!(export(&[]), online, "without a daemon the files are read");
    let _board = run(&to);
    let import = souk(&to).args(["board", "import"]).stdin(std::fs::File::open(&copy).unwrap()).output().unwrap();
    assert!(String::from_utf8_lossy(&import.stdout).contains("3000 lines: 3000 new, 0 known, 0 refused"));
}

#[test]
fn metrics_are_served_where_the_configuration_says() {
    let dir = tempfile::tempdir().unwrap();
    // A port that was free a moment ago.
    let metrics = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    std::fs::write(dir.path().join("souk.toml"), format!("[board]\nmetrics_listen = \"{metrics}\"\n")).unwrap();
    let _board = run(dir.path());
    let mut socket = TcpStream::connect(metrics).unwrap();
    socket.write_all(b"GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    socket.read_to_string(&mut answer).unwrap();
    assert!(
        answer.contains("text/plain; version=0.0.4") && answer.contains("\nsouk_board_connections 0\n"),
        "{answer}"
    );
}

#[test]
fn the_policy_is_changed_while_the_board_runs_and_a_bad_one_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let config = dir.path().join("souk.toml");
    std::fs::write(&config, "[board.policy]\nkinds = [1]\n").unwrap();
    let board = run(dir.path());
    let mut client = Client::connect(board.address);
    assert_eq!(client.publish(&note(1, 1_700_000_000, "x"))[2], true);
    // SIGHUP reads the configuration again; it is done when the answer changes.
    std::fs::write(&config, "[board.policy]\nkinds = [\"300-399\"]\n").unwrap();
    board.signal("HUP");
    let mut at = 1_700_000_001;
    while client.publish(&note(1, at, "x"))[2] == true {
        at += 1;
    }
    let policy = |args: &[&str]| souk(dir.path()).args(["board", "policy"]).args(args).output().unwrap();
    std::fs::write(&config, "[board.policy]\nkindz = [1]\n").unwrap();
    let bad = policy(&["reload"]);
    assert_eq!(bad.status.code(), Some(2));
    assert!(error(&bad).contains("kindz") && error(&bad).contains("line 2"), "{}", error(&bad));
    let file = dir.path().join("mine.toml");
    std::fs::write(&file, "tags = 1\nkinds = [1\n").unwrap();
    let bad = policy(&["set", file.to_str().unwrap()]);
    assert_eq!(bad.status.code(), Some(2));
    assert!(error(&bad).contains("mine.toml") && error(&bad).contains("line 2"), "{}", error(&bad));
    assert_eq!(ask(dir.path(), &["board", "policy", "show"])["kinds"], serde_json::json!(["300-399"]));
    std::fs::write(&file, "# by hand\nkinds = [1, 7]\n").unwrap();
    assert!(policy(&["set", file.to_str().unwrap()]).status.success());
    assert_eq!(client.publish(&note(1, at + 1, "x"))[2], true);
    // What is shown can be set again, and what was set holds after a restart, whatever the configuration says.
    std::fs::write(&file, policy(&["show"]).stdout).unwrap();
    assert!(policy(&["set", file.to_str().unwrap()]).status.success());
    drop(board);
    std::fs::write(&config, "[board.policy]\nkinds = [9]\n").unwrap();
    let board = run(dir.path());
    assert_eq!(Client::connect(board.address).publish(&note(1, at + 2, "x"))[2], true);
}

#[test]
fn two_boards_come_into_agreement() {
    let dir = tempfile::tempdir().unwrap();
    let (here, there) = (dir.path().join("here"), dir.path().join("there"));
    let (one, other) = (run(&here), run(&there));
    let (mut first, mut second) = (Client::connect(one.address), Client::connect(other.address));
    for i in 0..30 {
        let event = note(1, 1_700_000_000 + i, "x");
        if i < 20 {
            assert_eq!(first.publish(&event)[2], true);
        }
        if i >= 10 {
            assert_eq!(second.publish(&event)[2], true);
        }
    }
    let url = format!("ws://{}", other.address);
    let down = ask(&here, &["board", "sync", &url, "--direction", "down"]);
    assert_eq!((&down["need"], &down["taken"], &down["sent"]), (&Value::from(10), &Value::from(10), &Value::from(0)));
    let count = |address| Client::connect(address).ask("{}").len();
    assert_eq!((count(one.address), count(other.address)), (30, 20));
    assert_eq!(ask(&here, &["board", "sync", &url])["sent"], 10);
    assert_eq!(count(other.address), 30);
    drop(other);
    let gone = souk(&here).args(["board", "sync", &url]).output().unwrap();
    assert_eq!(gone.status.code(), Some(3), "{}", error(&gone));
    assert!(error(&gone).contains(&url), "{}", error(&gone));
}

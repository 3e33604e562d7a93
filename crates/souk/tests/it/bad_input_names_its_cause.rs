//! Bad input at the borders of the program: each error names its cause and says what to do, and the exit code tells its kind.

use std::process::{Command, Output};

fn souk(dir: &std::path::Path, args: &[&str], passphrase: Option<&str>) -> Output {
    let mut souk = Command::new(env!("CARGO_BIN_EXE_souk"));
    souk.arg("--data-dir").arg(dir).args(args).env_remove("SOUK_PASSPHRASE").stdin(std::process::Stdio::null());
    if let Some(passphrase) = passphrase {
        souk.env("SOUK_PASSPHRASE", passphrase);
    }
    souk.output().unwrap()
}

fn fails(output: &Output, code: i32, needle: &str) {
    let error = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{error}");
    assert!(error.contains(needle), "{needle:?} is not in {error:?}");
    assert!(!error.contains("panicked"), "{error}");
}

#[test]
fn without_a_daemon_commands_say_how_to_start_one() {
    let dir = tempfile::tempdir().unwrap();
    fails(&souk(dir.path(), &["status"], None), 3, "souk run");
    fails(&souk(dir.path(), &["run"], None), 2, "souk init");
}

#[test]
fn init_refuses_an_absent_passphrase_and_never_overwrites() {
    let dir = tempfile::tempdir().unwrap();
    let at = dir.path().join("new");
    fails(&souk(&at, &["init"], None), 2, "SOUK_PASSPHRASE");
    assert!(!at.exists());
    assert!(souk(&at, &["init"], Some("one")).status.success());
    let seed = std::fs::read(at.join("seed")).unwrap();
    fails(&souk(&at, &["init"], Some("two")), 2, "exists already");
    assert_eq!(std::fs::read(at.join("seed")).unwrap(), seed);
}

#[test]
fn restore_wants_an_empty_directory_good_words_and_no_doubt() {
    let dir = tempfile::tempdir().unwrap();
    let (at, words) = (dir.path().join("new"), dir.path().join("words"));
    let restore = |words: &std::path::Path, rest: &[&str]| {
        let args = [&["restore", "--words", words.to_str().unwrap(), "--network", "regtest"], rest].concat();
        souk(&at, &args, Some("p"))
    };
    std::fs::write(&words, format!("{}about", "abandon ".repeat(11))).unwrap();
    fails(&restore(&words, &["--yes"]), 2, "--board");
    fails(&restore(&words, &["--board", "http://x", "--yes"]), 2, "ws://");
    fails(&restore(&words, &["--board", "ws://x"]), 2, "--yes");
    let bad = dir.path().join("bad");
    std::fs::write(&bad, "abandon abandon").unwrap();
    fails(&restore(&bad, &["--board", "ws://x", "--yes"]), 2, "BIP-39");
    assert!(!at.exists(), "nothing was written");
    assert!(restore(&words, &["--board", "ws://x", "--board", "ws://y", "--yes"]).status.success());
    let config = std::fs::read_to_string(at.join("souk.toml")).unwrap();
    assert!(config.contains(r#"boards = ["ws://x", "ws://y"]"#), "{config}");
    assert!(at.join("restoring").exists() && at.join("seed").exists());
    fails(&restore(&words, &["--board", "ws://x", "--yes"]), 2, "not empty");
}

#[test]
fn a_backup_goes_where_nothing_is_and_comes_from_a_file_that_is_one() {
    let dir = tempfile::tempdir().unwrap();
    let (at, file) = (dir.path().join("new"), dir.path().join("backup"));
    let name = file.to_str().unwrap();
    let restore = |rest: &[&str]| souk(&at, &[&["restore", "--backup", name, "--yes"], rest].concat(), Some("p"));
    fails(&restore(&[]), 2, "cannot read");
    std::fs::write(&file, "something else").unwrap();
    fails(&restore(&[]), 2, "no backup of souk");
    std::fs::write(&file, b"SOUKBACK\x01\x00\xffcut").unwrap();
    fails(&restore(&[]), 2, "cut short");
    fails(&restore(&["--network", "regtest"]), 2, "--backup");
    assert!(!at.exists(), "nothing was written");
    fails(&souk(&at, &["backup", "--out", name], Some("p")), 2, "not overwritten");
    fails(&souk(&at, &["backup", "--out", dir.path().join("other").to_str().unwrap()], Some("p")), 3, "souk run");
    assert!(!dir.path().join("other").exists());
}

#[test]
fn a_wrong_passphrase_or_words_are_told_apart_from_damage() {
    let dir = tempfile::tempdir().unwrap();
    let words = dir.path().join("words");
    std::fs::write(&words, "abandon ability able").unwrap();
    let at = dir.path().join("new");
    assert_eq!(souk(&at, &["init", "--words", words.to_str().unwrap()], Some("x")).status.code(), Some(2));
    assert!(souk(&at, &["init"], Some("right")).status.success());
    fails(&souk(&at, &["run"], Some("wrong")), 2, "passphrase");
    let mut seed = std::fs::read(at.join("seed")).unwrap();
    seed.truncate(20);
    std::fs::write(at.join("seed"), seed).unwrap();
    assert_eq!(souk(&at, &["run"], Some("right")).status.code(), Some(2));
}

#[test]
fn a_bad_configuration_names_file_line_and_key() {
    let dir = tempfile::tempdir().unwrap();
    let at = dir.path().join("new");
    assert!(souk(&at, &["init"], Some("p")).status.success());
    assert!(souk(&at, &["config", "check"], None).status.success());
    let config = at.join("souk.toml");
    let sample = std::fs::read_to_string(&config).unwrap();
    for (from, to, needle) in [
        ("alias =", "alais =", "alais"),
        ("poll_ms = 2000", "poll_ms = \"fast\"", "poll_ms"),
        ("network = \"bitcoin\"", "network = \"litecoin\"", "litecoin"),
        ("poll_ms = 2000", "poll_ms = 1", "10 to 60000"),
        ("[node]", "[node", "line"),
    ] {
        std::fs::write(&config, sample.replace(from, to)).unwrap();
        fails(&souk(&at, &["config", "check"], None), 2, needle);
    }
}

#[test]
fn a_chain_that_does_not_answer_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let at = dir.path().join("new");
    assert!(souk(&at, &["init", "--network", "regtest"], Some("p")).status.success());
    let config = at.join("souk.toml");
    let sample = std::fs::read_to_string(&config).unwrap();
    std::fs::write(&config, sample.replace("127.0.0.1:18443", "127.0.0.1:1").replace("0.0.0.0:9735", "127.0.0.1:0"))
        .unwrap();
    let output = souk(&at, &["run"], Some("p"));
    assert!(!output.status.success());
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(error.contains("127.0.0.1:1"), "{error}");
}

#[test]
fn arguments_are_checked_before_anything_is_asked() {
    let dir = tempfile::tempdir().unwrap();
    fails(&souk(dir.path(), &["bid", "not-an-id"], None), 2, "64 lowercase hex");
    fails(&souk(dir.path(), &["sell", "x", "--price", "1", "--arbiter", "zz"], None), 2, "public key");
    fails(&souk(dir.path(), &["rate", "ab", "9"], None), 2, "1..=5");
    fails(&souk(dir.path(), &["node", "connect", "nowhere"], None), 2, "NODE_ID@HOST:PORT");
}

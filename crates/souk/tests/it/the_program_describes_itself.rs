//! Completions that shells understand, a manual page for each command, and values that are changed where they stand.

use std::path::Path;
use std::process::{Command, Output, Stdio};

fn souk(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_souk")).args(args).env("SOUK_PASSPHRASE", "p").output().unwrap()
}

fn text(output: &Output) -> String {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout.clone()).unwrap()
}

#[test]
fn bash_completes_commands_and_values() {
    let script = text(&souk(&["completions", "bash"]));
    let ask = format!(
        "{script}\nCOMP_WORDS=(souk sell x --mode bo); COMP_CWORD=4; _souk souk bo --mode; echo \"${{COMPREPLY[@]}}\"
         COMP_WORDS=(souk restoc); COMP_CWORD=1; _souk souk restoc souk; echo \"${{COMPREPLY[@]}}\""
    );
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("ask.bash");
    std::fs::write(&file, ask).unwrap();
    let bash = Command::new("bash").arg(&file).stdin(Stdio::null()).output().unwrap();
    assert_eq!(text(&bash), "bonded\nrestock\n");
}

#[test]
fn other_shells_get_theirs() {
    for shell in ["zsh", "fish", "elvish", "powershell"] {
        assert!(text(&souk(&["completions", shell])).contains("relock"), "{shell}");
    }
}

#[test]
fn each_command_has_a_manual_page() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("man1");
    text(&souk(&["man", "--out", out.to_str().unwrap()]));
    let page = |name: &str| std::fs::read_to_string(out.join(name)).unwrap();
    assert!(page("souk-sell.1").contains("Wool socks") && page("souk-node-open.1").contains("announced"));
    assert!(page("souk.1").contains("relock"));
}

#[test]
fn one_value_is_changed_and_the_rest_stays() {
    let dir = tempfile::tempdir().unwrap();
    let at = dir.path().join("d");
    let at = at.to_str().unwrap();
    text(&souk(&["--data-dir", at, "init"]));
    let file = Path::new(at).join("souk.toml");
    let before = std::fs::read_to_string(&file).unwrap();
    text(&souk(&["--data-dir", at, "config", "set", "node.alias", "a stall"]));
    let after = std::fs::read_to_string(&file).unwrap();
    assert_eq!(after, before.replace("alias = \"souk\"", "alias = \"a stall\""));
    for (key, value) in [("chain.poll_ms", "1"), ("node.alais", "x"), ("network.x", "1"), ("node", "1")] {
        let output = souk(&["--data-dir", at, "config", "set", key, value]);
        assert_eq!(output.status.code(), Some(2), "{key}: {}", String::from_utf8_lossy(&output.stderr));
        assert_eq!(std::fs::read_to_string(&file).unwrap(), after, "{key}");
    }
}

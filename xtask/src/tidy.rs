//! House rules as a test: walls, file lengths, module docs, banned names, stray files.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

/// Longest source file, in lines, before it wants splitting.
const FILE_LINES_MAX: usize = 900;

/// Which crates of this workspace a crate may name. A crate that is missing here is a complaint.
const WALLS: &[(&str, &[&str])] = &[
    ("units", &[]),
    ("keys", &["units"]),
    ("trade", &["units"]),
    ("bip340", &[]),
    ("wire", &["units", "bip340", "trade"]),
    ("markets", &["units", "trade", "wire"]),
    ("reputation", &["units", "trade", "wire"]),
    ("credential", &["units", "wire"]),
    ("node", &["units"]),
    ("node-ldk", &["units", "node", "keys"]),
    ("board", &["units", "bip340", "wire", "credential"]),
    ("devnet", &["units"]),
    ("sim", &["units", "trade"]),
    ("daemon", &["units", "keys", "trade", "wire", "markets", "reputation", "credential", "node", "node-ldk", "board"]),
    ("souk", &["units", "keys", "trade", "wire", "markets", "node", "node-ldk", "board", "devnet", "daemon"]),
    ("xtask", &[]),
];

/// Crates that may not name anything that reads a clock, a random source, a file or a socket.
const PURE: &[&str] = &["units", "bip340", "trade", "wire", "markets", "reputation", "credential"];
const IMPURE: &[&str] = &["tokio", "rand", "getrandom", "reqwest", "hyper", "rusqlite", "tempfile"];

/// Words that hide what a thing is.
const BANNED_NAMES: &[&str] = &["Manager", "Handler", "Helper", "Util", "Utils", "Common"];

/// Foreign types whose names we cannot choose.
const FOREIGN_NAMES: &[&str] = &[
    "ChannelManager",
    "KeysManager",
    "PeerManager",
    "SimpleArcChannelManager",
    "ChainHandler",
    "MessageHandler",
    "IgnoringMessageHandler",
    "ErroringMessageHandler",
    "BumpTransactionEventHandler",
    "BumpTransactionEventHandlerSync",
    "EventHandler",
    "CustomMessageHandler",
    "CustomOnionMessageHandler",
    "OnionMessageHandler",
    "AsyncPaymentsMessageHandler",
    "DNSResolverMessageHandler",
    "OffersMessageHandler",
    "ChannelMessageHandler",
    "RoutingMessageHandler",
    "BaseMessageHandler",
    "SendOnlyMessageHandler",
    "Handler",
    "OperationHandler",
    "ChannelManagerReadArgs",
    "TrustedChannelFeatures",
    "CommonName",
];

/// Kinds of file that belong in the repository.
const KNOWN_SUFFIXES: &[&str] =
    &["rs", "toml", "md", "snap", "json", "jsonl", "lock", "html", "css", "js", "svg", "txt", "bin"];
const KNOWN_FILES: &[&str] = &[
    ".gitignore",
    "bench/.gitignore",
    "fuzz/.gitignore",
    "peers/.gitignore",
    ".ci/run",
    "LICENSE-APACHE",
    "LICENSE-MIT",
];

/// The table that says which test tells which scenario.
const SCENARIOS: &str = "docs/scenarios.md";
const SCENARIOS_COUNT: usize = 40;

/// What other relays' suites ask, and which test of ours asks it.
const CONFORMANCE: &str = "docs/conformance.md";

/// Every breach of a house rule in the checkout at `root`, one sentence each.
pub(crate) fn check(root: &Path) -> Result<Vec<String>> {
    let files = tracked_files(root)?;
    let mut complaints = Vec::new();
    walls(root, &mut complaints)?;
    let scenarios = fs::read_to_string(root.join(SCENARIOS)).context(SCENARIOS)?;
    told(&scenarios, |file| files.iter().any(|known| known == Path::new(file)), &mut complaints);
    let conformance = fs::read_to_string(root.join(CONFORMANCE)).context(CONFORMANCE)?;
    let lost = named_tests(&conformance).filter(|(file, test)| !holds(root, &files, file, test));
    complaints.extend(lost.map(|(file, test)| format!("{CONFORMANCE}: there is no test {test} in a {file}.rs")));
    for file in &files {
        let shown = file.display().to_string();
        let known = file.extension().and_then(|e| e.to_str()).is_some_and(|e| KNOWN_SUFFIXES.contains(&e));
        if !known && !KNOWN_FILES.contains(&shown.as_str()) {
            complaints.push(format!("{shown}: a file of this kind does not belong here"));
        }
        if file.extension().is_some_and(|e| e == "rs") {
            let text = fs::read_to_string(root.join(file)).with_context(|| shown.clone())?;
            source(&shown, &text, &mut complaints);
        }
    }
    Ok(complaints)
}

fn tracked_files(root: &Path) -> Result<Vec<PathBuf>> {
    let output = Command::new("git").arg("ls-files").current_dir(root).output().context("git ls-files")?;
    let list = String::from_utf8(output.stdout).context("file names are UTF-8")?;
    Ok(list.lines().map(PathBuf::from).filter(|f| root.join(f).is_file()).collect())
}

/// Each scenario has a row; each row a test that exists, or a word why there is none.
fn told(table: &str, exists: impl Fn(&str) -> bool, complaints: &mut Vec<String>) {
    let rows = table.lines().filter_map(|line| {
        let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
        let number = cells.first()?.parse::<usize>().ok()?;
        Some((number, cells))
    });
    let mut numbers = Vec::new();
    for (number, cells) in rows {
        numbers.push(number);
        let [_, _, tests, missing] = cells[..] else {
            complaints.push(format!("{SCENARIOS}: row {number} has not four cells"));
            continue;
        };
        let files: Vec<&str> = tests.split("](../").skip(1).filter_map(|rest| rest.split(')').next()).collect();
        if files.is_empty() && missing.is_empty() {
            complaints.push(format!("{SCENARIOS}: scenario {number} is told by no test and no word says why"));
        }
        let lost = files.into_iter().filter(|file| !exists(file));
        complaints
            .extend(lost.map(|file| format!("{SCENARIOS}: scenario {number} is told by {file}, which is not there")));
    }
    if numbers != (1..=SCENARIOS_COUNT).collect::<Vec<_>>() {
        complaints.push(format!("{SCENARIOS}: the rows are not 1 to {SCENARIOS_COUNT}, in order and once each"));
    }
}

/// Tests in a text, as `file::test` or `crate::file::test`: file and name.
fn named_tests(text: &str) -> impl Iterator<Item = (&str, &str)> {
    text.split('`').skip(1).step_by(2).filter_map(|code| {
        let (path, test) = code.rsplit_once("::")?;
        Some((path.rsplit("::").next()?, test))
    })
}

fn holds(root: &Path, files: &[PathBuf], stem: &str, test: &str) -> bool {
    let named = files.iter().filter(|file| file.extension().is_some_and(|e| e == "rs"));
    named
        .filter(|file| file.file_stem().is_some_and(|s| s == stem))
        .any(|file| fs::read_to_string(root.join(file)).is_ok_and(|source| source.contains(&format!("fn {test}("))))
}

fn walls(root: &Path, complaints: &mut Vec<String>) -> Result<()> {
    let allowed: BTreeMap<&str, &[&str]> = WALLS.iter().copied().collect();
    let mut manifests = vec![root.join("xtask/Cargo.toml")];
    for entry in fs::read_dir(root.join("crates")).context("crates/")? {
        manifests.push(entry?.path().join("Cargo.toml"));
    }
    for manifest in manifests {
        let text = fs::read_to_string(&manifest).with_context(|| manifest.display().to_string())?;
        let parsed: toml::Table = text.parse().with_context(|| manifest.display().to_string())?;
        let name = parsed["package"]["name"].as_str().unwrap_or_default().to_owned();
        let Some(may) = allowed.get(name.as_str()) else {
            complaints.push(format!("{name}: not in the list of walls (xtask/src/tidy.rs)"));
            continue;
        };
        let depends = parsed.get("dependencies").and_then(|d| d.as_table()).cloned().unwrap_or_default();
        for dependency in depends.keys() {
            if allowed.contains_key(dependency.as_str()) && !may.contains(&dependency.as_str()) {
                complaints.push(format!("{name}: may not depend on {dependency}"));
            }
            if PURE.contains(&name.as_str()) && IMPURE.contains(&dependency.as_str()) {
                complaints.push(format!("{name}: is pure and may not depend on {dependency}"));
            }
        }
    }
    Ok(())
}

fn source(file: &str, text: &str, complaints: &mut Vec<String>) {
    let lines = text.lines().count();
    if lines > FILE_LINES_MAX {
        complaints.push(format!("{file}: {lines} lines, at most {FILE_LINES_MAX}"));
    }
    if !text.trim_start().starts_with("//!") {
        complaints.push(format!("{file}: does not begin with a //! sentence that says what it is for"));
    }
    if file.starts_with("xtask/") {
        return;
    }
    if text.contains("#[ignore") {
        complaints.push(format!("{file}: has a test that nobody runs"));
    }
    for word in text.split(|c: char| !c.is_alphanumeric() && c != '_') {
        let hides = BANNED_NAMES.iter().any(|banned| word.ends_with(banned) || word.starts_with("Common"));
        if hides && !FOREIGN_NAMES.contains(&word) {
            complaints.push(format!("{file}: the name {word} does not say what it is"));
        }
        if word.to_ascii_lowercase().starts_with("cancelled")
            && !text.contains("cancelled()")
            && !text.contains("cancelled_owned()")
        {
            complaints.push(format!("{file}: canceled is written with one l"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scenario_without_its_test_is_named() {
        let row = |n: usize, tests: &str, missing: &str| format!("| {n} | what | {tests} | {missing} |\n");
        let good = "[a](../tests/a.rs)";
        let mut table: String = (1..SCENARIOS_COUNT).map(|n| row(n, good, "")).collect();
        table.push_str(&row(SCENARIOS_COUNT, "-", "not built"));
        let complaints = |table: &str| {
            let mut complaints = Vec::new();
            told(table, |file| file == "tests/a.rs", &mut complaints);
            complaints
        };
        assert_eq!(complaints(&table), Vec::<String>::new());
        assert_eq!(complaints(&table.replace("not built", "")).len(), 1);
        assert_eq!(complaints(&table.replacen("tests/a.rs", "tests/b.rs", 1)).len(), 1);
        assert_eq!(complaints(&table.replacen("| 7 |", "| 8 |", 1)).len(), 1);
    }

    #[test]
    fn tests_are_named_by_their_files() {
        let text = "| `relay::one` and `wire::frames::two` | `cargo xtask` | three::four |";
        assert_eq!(named_tests(text).collect::<Vec<_>>(), [("relay", "one"), ("frames", "two")]);
    }

    #[test]
    fn the_checkout_keeps_the_house_rules() {
        let complaints = check(&crate::root()).unwrap();
        assert!(complaints.is_empty(), "{}", complaints.join("\n"));
    }

    #[test]
    fn a_breach_is_seen() {
        let mut complaints = Vec::new();
        source("crates/x/src/lib.rs", "struct OrderManager;\n#[ignore]\nfn f() {}\n", &mut complaints);
        assert_eq!(complaints.len(), 3, "{complaints:?}");
    }
}

//! relay-tester, a public suite for Nostr relays, against a bare board of ours, compared check by check with what is expected.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use super::board::Board;
use super::not_given;

/// What it is expected to say.
const EXPECTED: &str = include_str!("relay_tester.toml");
/// Keys with which nobody has anything to lose: thirty-two ones, and thirty-two twos.
const KEYS: [&str; 2] = [
    "nsec1qyqszqgpqyqszqgpqyqszqgpqyqszqgpqyqszqgpqyqszqgpqyqstywftw",
    "nsec1qgpqyqszqgpqyqszqgpqyqszqgpqyqszqgpqyqszqgpqyqszqgpqxjfw7x",
];

/// How a check ends. It is untested where the suite could not carry it out.
#[derive(Clone, Copy, Debug, PartialEq)]
enum End {
    Passes,
    Fails,
    Untested,
}

/// Whether the suite requires a check, and how that ends.
type Ends = BTreeMap<String, (bool, End)>;

/// Runs it. Gives why it is skipped where no program is given.
pub(super) fn run(root: &Path, program: Option<PathBuf>) -> Result<Option<String>> {
    let Some(program) = program else { return Ok(Some(not_given("relay-tester"))) };
    let expected = expected()?;
    let board = Board::start(root, &root.join("target/peers/relay-tester"))?;
    println!("relay-tester against {}", board.url);
    let output = Command::new(&program).args(["--script", &board.url]).args(KEYS).output();
    let output = output.with_context(|| program.display().to_string())?;
    ensure!(output.status.success(), "relay-tester broke off: {}", String::from_utf8_lossy(&output.stderr));
    let said = said(std::str::from_utf8(&output.stdout)?)?;
    let deviations = deviations(&expected, &said);
    for deviation in &deviations {
        println!("FAILED {deviation}");
    }
    if !deviations.is_empty() {
        bail!("relay-tester says something else of our board than is expected");
    }
    let count = |end| said.values().filter(|found| **found == end).count();
    let (required, optional) = (count((true, End::Passes)), count((false, End::Passes)));
    println!("ok     {required} required and {optional} optional checks pass, and so do not, as expected:");
    for (name, _) in said.iter().filter(|(_, (_, end))| *end != End::Passes) {
        println!("       {name}");
    }
    Ok(None)
}

/// What is committed: names under `required` and `optional` pass, those under `fails` have a reason.
fn expected() -> Result<Ends> {
    let table: toml::Table = EXPECTED.parse().context("what is expected of relay-tester")?;
    let mut ends = Ends::new();
    for (list, required) in [("required", true), ("optional", false)] {
        let names = table[list].as_array().with_context(|| format!("{list} is no list"))?;
        let names = names.iter().map(|name| name.as_str().map(str::to_owned).context("a name is a string"));
        for name in names {
            ends.insert(name?, (required, End::Passes));
        }
    }
    let fails = table["fails"].as_table().context("fails is no table")?;
    ends.extend(fails.keys().map(|name| (name.clone(), (false, End::Fails))));
    Ok(ends)
}

/// What the suite says in its mode for scripts: an object a line.
fn said(lines: &str) -> Result<Ends> {
    let ends = lines.lines().map(|line| {
        let value: Value = serde_json::from_str(line).with_context(|| line.to_owned())?;
        let name = value["test"].as_str().context("a check without a name")?.to_owned();
        let end = match value["pass"].as_bool() {
            Some(true) => End::Passes,
            Some(false) => End::Fails,
            None => End::Untested,
        };
        Ok((name, (value["required"] == true, end)))
    });
    ends.collect()
}

/// One sentence for each check that ends in another way than it should. One that passes and should not is one: what is
/// committed has to stay true.
fn deviations(expected: &Ends, said: &Ends) -> Vec<String> {
    let known = expected.iter().filter_map(|(name, should)| match said.get(name) {
        None => Some(format!("{name}: the suite does not say")),
        Some(found) if found == should => None,
        Some(found) => Some(format!("{name}: {found:?}, and should be {should:?} (required, how it ends)")),
    });
    let unknown = said.iter().filter(|(name, _)| !expected.contains_key(*name));
    known.chain(unknown.map(|(name, end)| format!("{name}: {end:?}, and is not in the list"))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_deviation_is_named() {
        let line = |test: &str, required: bool, pass: &str| {
            format!("{{\"info\":null,\"pass\":{pass},\"required\":{required},\"test\":\"{test}\"}}\n")
        };
        let expected = said(&(line("a", true, "true") + &line("b", false, "false"))).unwrap();
        let found = |lines: &str| deviations(&expected, &said(lines).unwrap()).len();
        assert_eq!(found(&(line("a", true, "true") + &line("b", false, "false"))), 0);
        assert_eq!(found(&(line("a", true, "null") + &line("b", false, "true"))), 2);
        assert_eq!(found(&(line("a", true, "true") + &line("c", false, "true"))), 2);
    }

    #[test]
    fn the_guide_names_what_does_not_pass_with_its_reason() {
        let guide = std::fs::read_to_string(crate::root().join("docs/conformance.md")).unwrap();
        let table: toml::Table = EXPECTED.parse().unwrap();
        for (name, reason) in table["fails"].as_table().unwrap() {
            let row = format!("| {name} | {} |", reason.as_str().unwrap());
            assert!(guide.contains(&row), "{row}");
        }
    }
}

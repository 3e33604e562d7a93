//! What the program says about itself in other forms than `--help`: completions for shells, manual pages.

use std::path::Path;

use clap::CommandFactory;
use serde_json::json;

use crate::args::Cli;
use crate::failure::Failure;
use crate::show::Show;

/// Name of the program.
const NAME: &str = "souk";

/// `souk completions SHELL`
pub(crate) fn completions(shell: clap_complete::Shell) -> Result<(), Failure> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), NAME, &mut script);
    let script = String::from_utf8(script).map_err(|e| Failure::fault(e.to_string()))?;
    Show::new(false, false).line(script.trim_end())
}

/// `souk man --out DIR`: one page for each command, `souk-node-open.1` and so on.
pub(crate) fn man(out: &Path, show: &Show) -> Result<(), Failure> {
    std::fs::create_dir_all(out)?;
    clap_mangen::generate_to(Cli::command(), out).map_err(|e| Failure::fault(format!("{}: {e}", out.display())))?;
    show.answer(&json!({"out": out}), |_| format!("the manual is in {}; `man -l {0}/souk.1` shows it", out.display()))
}

#[cfg(test)]
mod tests {
    use clap::{Command, Parser};

    use super::*;

    /// Commands that do something themselves, with what leads to them.
    fn doing(command: &Command, path: &str, found: &mut Vec<(String, String)>) {
        let path = format!("{path} {}", command.get_name());
        if !command.has_subcommands() || !command.is_subcommand_required_set() {
            found.push((path.clone(), command.get_after_help().map(ToString::to_string).unwrap_or_default()));
        }
        command.get_subcommands().for_each(|below| doing(below, &path, found));
    }

    /// What a shell makes of a line without substitutions.
    fn words(line: &str) -> Vec<String> {
        let mut words = vec![String::new()];
        let mut quote = None;
        for letter in line.chars() {
            match (letter, quote) {
                ('"' | '\'', None) => quote = Some(letter),
                (_, Some(open)) if letter == open => quote = None,
                (' ', None) => words.push(String::new()),
                _ => words.last_mut().unwrap().push(letter),
            }
        }
        words.retain(|word| !word.is_empty());
        words
    }

    #[test]
    fn each_command_shows_an_example_of_itself_that_is_understood() {
        let mut commands = Vec::new();
        doing(&Cli::command(), "", &mut commands);
        assert!(commands.len() > 60, "{}", commands.len());
        let mut wrong = Vec::new();
        for (path, help) in commands {
            let path = path.trim();
            let line = help.lines().next().unwrap_or_default();
            // A substitution stands for one word, whatever is in it.
            let plain =
                line.find("$(").zip(line.rfind(')')).map(|(from, to)| format!("{}X{}", &line[..from], &line[to + 1..]));
            let plain = plain.unwrap_or_else(|| line.replace('`', "    "));
            let examples: Vec<&str> = [" && ", " & ", " | ", " > ", "    "]
                .into_iter()
                .fold(vec![plain.as_str()], |parts, at| parts.into_iter().flat_map(|part| part.split(at)).collect());
            let examples = examples.into_iter().filter_map(|part| part.find("souk ").map(|at| words(&part[at..])));
            let examples: Vec<Vec<String>> = examples.collect();
            let shown = examples.iter().any(|example| example.join(" ").starts_with(path));
            let misunderstood = examples.iter().find_map(|example| Cli::try_parse_from(example).err());
            if !shown || misunderstood.is_some() {
                wrong.push(format!("{path}: {line:?} {}", misunderstood.map(|e| e.to_string()).unwrap_or_default()));
            }
        }
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    }
}

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

//! The project's chores: `tidy` checks the house rules, `ci` runs everything, `peers` tries real peers.
#![allow(clippy::print_stdout, reason = "a command-line tool")]

mod licences;
mod peers;
mod tidy;

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(about = "Chores of the Souk workspace")]
struct Cli {
    #[command(subcommand)]
    chore: Chore,
}

#[derive(Subcommand)]
enum Chore {
    /// Check walls between crates, file lengths, module docs, banned names, stray files and licences
    Tidy,
    /// Run what .ci/run runs
    Ci,
    /// Run the stories that need a real peer: LND is built if Go is here, nostr-tools is installed if npm is, rust-nostr is built from
    /// its registry, strfry and relay-tester are run if they are given; what is missing is skipped by name
    Peers {
        /// Only this one: lnd, nostr-tools, rust-nostr, strfry or relay-tester
        only: Option<String>,
        /// The program of strfry or relay-tester [env: SOUK_STRFRY, SOUK_RELAY_TESTER]
        #[arg(long)]
        program: Option<PathBuf>,
    },
}

/// The workspace's root folder.
fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().map(Path::to_path_buf).unwrap_or_default()
}

fn main() -> Result<()> {
    match Cli::parse().chore {
        Chore::Tidy => {
            let mut complaints = tidy::check(&root())?;
            complaints.extend(licences::check(&root())?);
            for complaint in &complaints {
                println!("{complaint}");
            }
            if !complaints.is_empty() {
                bail!("{} complaints", complaints.len());
            }
            println!("tidy");
            Ok(())
        }
        Chore::Peers { only, program } => peers::run(&root(), only.as_deref(), program),
        Chore::Ci => {
            let status = Command::new("bash").arg(root().join(".ci/run")).status().context("starting .ci/run")?;
            if !status.success() {
                bail!(".ci/run failed");
            }
            Ok(())
        }
    }
}

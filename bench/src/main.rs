//! Our embedded node against ldk-node: one chain, the same work, each subject in a process of its own.

mod table;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use clap::{Parser, ValueEnum};
use devnet::{Config, Devnet};
use machine::{Machine, median};
use serde::Serialize;
use work::{Amount, Figure, Report};

/// A subject that takes longer than this is stuck.
const CHILD_PATIENCE: Duration = Duration::from_secs(15 * 60);

#[derive(Parser)]
#[command(about = "Our embedded Lightning node against ldk-node 0.7.1 on the same chain in the same run")]
struct Options {
    /// How often everything is done; the order of the subjects alternates, the table has the medians.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Print JSON instead of the table.
    #[arg(long)]
    json: bool,
    /// Where the data folders are made and deleted again; on the disk to be measured.
    #[arg(long)]
    dir: Option<PathBuf>,
    /// Measure only one subject.
    #[arg(long, value_enum)]
    only: Option<Subject>,
    /// Take the subjects' programs as they are beside this one, fresh or not.
    #[arg(long)]
    no_build: bool,
    #[command(flatten)]
    amount: Amount,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
enum Subject {
    /// The node of this repository.
    Ours,
    /// ldk-node.
    LdkNode,
}

/// Everything that a run found.
#[derive(Serialize)]
struct Outcome {
    machine: Machine,
    rounds: usize,
    amount: String,
    /// Medians over the rounds.
    figures: BTreeMap<Subject, BTreeMap<Figure, f64>>,
    /// How often a payment was tried again for want of a slot, over all rounds.
    again: BTreeMap<Subject, usize>,
}

fn main() -> Result<()> {
    tokio::runtime::Runtime::new()?.block_on(run(Options::parse()))
}

async fn run(options: Options) -> Result<()> {
    let program = std::env::current_exe()?;
    let beside = program.parent().context("folder of this program")?;
    if !options.no_build {
        build(beside).await?;
    }
    let parent = options.dir.clone().unwrap_or_else(|| beside.join("data"));
    let dir = parent.join(format!("run-{}", std::process::id()));
    std::fs::create_dir_all(&dir)?;
    let outcome = measure(&options, &program, &dir).await;
    std::fs::remove_dir_all(&dir)?;
    let outcome = outcome?;
    if options.json {
        println!("{}", serde_json::to_string_pretty(&outcome)?);
    } else {
        print!("{}", table::render(&outcome));
    }
    Ok(())
}

async fn measure(options: &Options, program: &Path, dir: &Path) -> Result<Outcome> {
    let machine = Machine::look(dir)?;
    let chain = Devnet::start(Config::default()).await?;
    let mut values: BTreeMap<Subject, BTreeMap<Figure, Vec<f64>>> = BTreeMap::new();
    let mut again: BTreeMap<Subject, usize> = BTreeMap::new();
    for round in 0..options.rounds {
        let mut order = vec![Subject::Ours, Subject::LdkNode];
        order.retain(|subject| options.only.is_none_or(|only| only == *subject));
        if round % 2 == 1 {
            order.reverse();
        }
        for subject in order {
            let folder = dir.join(format!("{round}-{subject:?}"));
            for kind in ["pair", "alone"] {
                eprintln!("round {} of {}: {subject:?}, {kind}", round + 1, options.rounds);
                let report = child(subject, kind, program, &folder, &chain, &options.amount).await?;
                *again.entry(subject).or_default() += report.again;
                for (figure, value) in report.figures {
                    values.entry(subject).or_default().entry(figure).or_default().push(value);
                }
            }
            std::fs::remove_dir_all(&folder)?;
        }
    }
    chain.shutdown().await;
    let figures = values
        .into_iter()
        .map(|(subject, found)| (subject, found.iter().map(|(figure, values)| (*figure, median(values))).collect()))
        .collect();
    let amount = options.amount.to_args().join(" ");
    Ok(Outcome { machine, rounds: options.rounds, amount, figures, again })
}

async fn child(
    subject: Subject,
    kind: &str,
    program: &Path,
    folder: &Path,
    chain: &Devnet,
    amount: &Amount,
) -> Result<Report> {
    let mut command = tokio::process::Command::new(program.with_file_name(subject.program()));
    command.args(["--kind", kind, "--user", chain.rpc_user(), "--password", chain.rpc_password()]);
    command.args(["--rpc", &chain.rpc_addr().to_string()]).arg("--dir").arg(folder).args(amount.to_args());
    let child = command.stdout(Stdio::piped()).kill_on_drop(true).spawn().context("starting a subject")?;
    let output = tokio::time::timeout(CHILD_PATIENCE, child.wait_with_output()).await;
    let output = output.with_context(|| format!("{subject:?} is stuck"))??;
    ensure!(output.status.success(), "{subject:?} failed: {}", output.status);
    let text = String::from_utf8(output.stdout)?;
    serde_json::from_str(text.lines().last().unwrap_or_default()).with_context(|| format!("report of {subject:?}"))
}

impl Subject {
    fn program(self) -> &'static str {
        match self {
            Subject::Ours => "node-bench-ours",
            Subject::LdkNode => "node-bench-ldk-node",
        }
    }
}

/// The subjects' programs are put beside this one.
async fn build(beside: &Path) -> Result<()> {
    let target = beside.parent().context("target folder")?;
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    for (manifest, program) in [("Cargo.toml", Subject::Ours), ("ldk-node/Cargo.toml", Subject::LdkNode)] {
        let manifest = Path::new(env!("CARGO_MANIFEST_DIR")).join(manifest);
        let mut command = tokio::process::Command::new(&cargo);
        command.args(["build", "--release", "--locked", "--bin", program.program(), "--manifest-path"]).arg(manifest);
        ensure!(command.arg("--target-dir").arg(target).status().await?.success(), "the subjects cannot be built");
    }
    Ok(())
}

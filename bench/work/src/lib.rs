//! The work that both subjects of the benchmark do, and how it is measured. Knows no Lightning library.

mod chain;
mod figures;
mod subject;
mod work;

pub use chain::ChainAddress;
pub use figures::{Figure, Figures, Report};
pub use subject::{Hash, PeerAt, Place, Preimage, Subject, Told};

use std::path::PathBuf;

use anyhow::Result;

/// What a child process is told.
#[derive(Clone, Debug, clap::Args)]
pub struct Task {
    /// What to do.
    #[arg(long, value_enum)]
    pub kind: Kind,
    /// Where the nodes keep their files.
    #[arg(long)]
    pub dir: PathBuf,
    /// The chain.
    #[command(flatten)]
    pub chain: ChainAddress,
    /// How much of each.
    #[command(flatten)]
    pub amount: Amount,
}

/// The two kinds of children.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Kind {
    /// Two nodes with a channel: holds, payments, restarts.
    Pair,
    /// The payer of an earlier pair alone, for its memory.
    Alone,
}

/// How often each thing is done.
#[derive(Clone, Debug, clap::Args)]
pub struct Amount {
    /// Hold round trips.
    #[arg(long, default_value_t = 50)]
    pub holds: usize,
    /// Payments one after the other.
    #[arg(long, default_value_t = 100)]
    pub sequential: usize,
    /// Payments with many in flight.
    #[arg(long, default_value_t = 800)]
    pub parallel: usize,
    /// How many are in flight then.
    #[arg(long, default_value_t = 40)]
    pub in_flight: usize,
    /// Restarts of the payer.
    #[arg(long, default_value_t = 3)]
    pub restarts: usize,
}

impl Amount {
    /// The same as arguments.
    pub fn to_args(&self) -> Vec<String> {
        let Amount { holds, sequential, parallel, in_flight, restarts } = self;
        let pairs = [
            ("holds", holds),
            ("sequential", sequential),
            ("parallel", parallel),
            ("in-flight", in_flight),
            ("restarts", restarts),
        ];
        pairs.iter().flat_map(|(name, count)| [format!("--{name}"), count.to_string()]).collect()
    }
}

/// A child process: does the task with nodes of kind `S` and prints the report, one line of JSON.
pub fn child<S: Subject>(task: &Task) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let report = runtime.block_on(async {
        match task.kind {
            Kind::Pair => work::pair::<S>(task).await,
            Kind::Alone => work::alone::<S>(task).await,
        }
    })?;
    println!("{}", serde_json::to_string(&report)?);
    Ok(())
}

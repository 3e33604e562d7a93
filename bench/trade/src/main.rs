//! One daemon with many trades in flight on a board with many listings: time of each step, memory and start-up, at several sizes.

mod deals;
mod people;
mod sheet;
mod start;

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use clap::Parser;
use machine::Machine;

use crate::deals::Fair;
use crate::sheet::{Growth, Sheet};
use crate::start::Started;

/// Milliseconds since `begin`.
fn ms(begin: Instant) -> f64 {
    begin.elapsed().as_secs_f64() * 1e3
}

#[derive(Parser)]
#[command(about = "One daemon with many trades in flight on a board with many listings")]
struct Options {
    /// Open listings of the measured daemon, all on the board.
    #[arg(long, default_value_t = 10_000)]
    listings: usize,
    /// How many trades are in flight at each step.
    #[arg(long, value_delimiter = ',', default_value = "10,100,1000")]
    trades: Vec<usize>,
    /// Trades that are taken from bid to settlement at each size, one after the other.
    #[arg(long, default_value_t = 20)]
    probes: usize,
    /// Where the data folders are made and deleted again; on the disk to be measured.
    #[arg(long, default_value = "target/data")]
    dir: PathBuf,
    /// Print JSON instead of the table.
    #[arg(long)]
    json: bool,
    /// Measures the start of a daemon on a folder that was filled before: what the bench runs itself as.
    #[arg(long, hide = true, num_args = 2, value_names = ["DIR", "BOARD"])]
    start: Option<Vec<String>>,
}

#[tokio::main]
async fn main() -> Result<()> {
    let filter = tracing_subscriber::EnvFilter::try_from_default_env().unwrap_or_else(|_| "error".into());
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
    let options = Options::parse();
    if let Some([dir, board]) = options.start.as_deref() {
        println!("{}", serde_json::to_string(&start::start(Path::new(dir), board).await?)?);
        return Ok(());
    }
    ensure!(options.trades.is_sorted() && !options.trades.is_empty(), "--trades: each step has to be larger");
    let most = options.trades.last().copied().unwrap_or_default();
    ensure!(
        most + options.trades.len() * options.probes <= options.listings,
        "--listings: a trade needs one each, and so does a probe"
    );
    let dir = options.dir.join(format!("run-{}", std::process::id()));
    std::fs::create_dir_all(&dir).with_context(|| dir.display().to_string())?;
    let outcome = run(&options, &dir).await;
    // Where something went wrong daemons still run, and may write.
    let removed = std::fs::remove_dir_all(&dir);
    let sheet = outcome?;
    removed?;
    print!("{}", if options.json { serde_json::to_string_pretty(&sheet)? + "\n" } else { sheet.render() });
    Ok(())
}

async fn run(options: &Options, dir: &Path) -> Result<Sheet> {
    let mut sheet = Sheet::new(Machine::look(dir)?, options.listings);
    let begin = Instant::now();
    let tell = |what: String| eprintln!("{:.0} s: {what}", begin.elapsed().as_secs_f64());
    let mut fair = Fair::open(dir, options.listings).await?;
    sheet.listing_ms = ms(begin) / options.listings as f64;
    tell(format!("{} listings", options.listings));
    let reading = Instant::now();
    sheet.listed = fair.read_listings().await?;
    sheet.read_listings_ms = ms(reading);
    for &trades in &options.trades {
        let more = trades - fair.in_flight();
        let bulk = fair.fill(trades).await?;
        tell(format!("{trades} trades in flight"));
        let steps = fair.probes(options.probes).await?;
        tell(format!("{} more taken to their end", options.probes));
        let start = fair.seller_restarts(|dir, board| begin_anew(dir, board)).await?;
        sheet.growth.push(Growth { trades, more, bulk, steps, start });
    }
    fair.close().await;
    Ok(sheet)
}

/// Starts a daemon on `dir` in a process of its own, and asks it how that went.
async fn begin_anew(dir: PathBuf, board: String) -> Result<Started> {
    let child = tokio::process::Command::new(std::env::current_exe()?)
        .args(["--start".as_ref(), dir.as_os_str(), board.as_ref()])
        .stderr(Stdio::inherit())
        .output()
        .await?;
    ensure!(child.status.success(), "the daemon did not start: {}", child.status);
    Ok(serde_json::from_slice(&child.stdout)?)
}

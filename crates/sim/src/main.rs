//! `souk-sim`: runs seeds of the right machine, or hunts for the seed that catches a broken twin.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a command line program talks to its user")]

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use clap::Parser;
use sim::loss::{self, Case, Liar};
use sim::{Report, Setup, Twin, run, run_with};

/// Simulates escrow trades, one or several at once, over several boards, with crashes, loss, duplicates, reordering, outages,
/// reorganisations, channels closed by force, and in every fifth run a liar. Checks after every step that no money is lost and
/// nothing moves without an order in the log, and in the end that every trade ended and no honest party lost more than conceded.
///
/// Examples:  souk-sim --seeds 1000000    souk-sim --seed 4711    souk-sim --twin drain-first    souk-sim --losses 2000
#[derive(Parser)]
#[command(version)]
struct Arguments {
    /// How many seeds to run.
    #[arg(long, default_value_t = 20_000)]
    seeds: u64,
    /// Run this one seed and print its trace.
    #[arg(long)]
    seed: Option<u64>,
    /// The first seed.
    #[arg(long, default_value_t = 1)]
    from: u64,
    /// Leave one of the seven rules out; the run succeeds when a seed catches it. `all` for each in turn.
    #[arg(long, value_name = "RULE")]
    twin: Option<String>,
    /// Run every deal with every liar that often, and print the largest losses of honest parties.
    #[arg(long, value_name = "RUNS")]
    losses: Option<u64>,
    /// Threads.
    #[arg(long, default_value_t = 1)]
    threads: u64,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    if let Some(runs) = arguments.losses {
        return losses(arguments.from, runs);
    }
    let twins: Vec<Option<Twin>> = match arguments.twin.as_deref() {
        None => vec![None],
        Some("all") => Twin::ALL.into_iter().map(Some).collect(),
        Some(name) => match name.parse() {
            Ok(twin) => vec![Some(twin)],
            Err(why) => {
                eprintln!("{why}, all");
                return ExitCode::from(2);
            }
        },
    };
    let good = match arguments.seed {
        Some(seed) => twins.iter().all(|twin| one(seed, *twin)),
        None => twins.iter().filter(|twin| !many(&arguments, **twin)).count() == 0,
    };
    if good { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Prints the table of losses.
fn losses(from: u64, runs: u64) -> ExitCode {
    match loss::measure(&Case::all(), from, runs) {
        Ok(measured) => {
            print!("{}", loss::table(&measured));
            ExitCode::SUCCESS
        }
        Err(setup) => {
            print_trace(setup.seed, &run_with(&Setup { trace: true, ..setup }));
            ExitCode::FAILURE
        }
    }
}

/// Runs one seed and prints what happened.
fn one(seed: u64, twin: Option<Twin>) -> bool {
    let report = run(seed, twin, true);
    print_trace(seed, &report);
    report.violation.is_none() == twin.is_none()
}

fn print_trace(seed: u64, report: &Report) {
    for line in &report.trace {
        println!("{line}");
    }
    match &report.violation {
        Some(what) => println!("seed {seed}, {:?}: {what}", report.case),
        None => println!("seed {seed}: right, ended as {:?} after {} crashes", report.outcome, report.crashes),
    }
}

#[derive(Default)]
struct Tally {
    crashes: u64,
    trades: u64,
    liars: u64,
    ends: BTreeMap<String, u64>,
    failed: Option<(u64, String)>,
}

/// Runs many seeds. Good: the right machine fails none, a twin fails one.
fn many(arguments: &Arguments, twin: Option<Twin>) -> bool {
    let next = AtomicU64::new(arguments.from);
    let end = arguments.from.saturating_add(arguments.seeds);
    let stop = AtomicBool::new(false);
    let tally = Mutex::new(Tally::default());
    let begin = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..arguments.threads.max(1) {
            scope.spawn(|| work(&next, end, &stop, &tally, twin));
        }
        scope.spawn(|| progress(&next, arguments.from, end, &stop));
    });
    let tally = tally.into_inner().unwrap_or_else(PoisonError::into_inner);
    let ran = next.load(Ordering::Relaxed).min(end) - arguments.from;
    let secs = begin.elapsed().as_secs_f64();
    let name = twin.map_or("right".to_owned(), |twin| format!("without {twin}"));
    let rate = ran as f64 / secs.max(0.001);
    println!("{name}: {ran} seeds in {secs:.1} s ({rate:.0}/s), {} crashes", tally.crashes);
    println!("  {} trades, {} seeds with a liar", tally.trades, tally.liars);
    if twin.is_none() {
        for (end, count) in &tally.ends {
            println!("  {count:>9}  {end}");
        }
    }
    match (&tally.failed, twin) {
        (None, None) => true,
        (None, Some(twin)) => {
            println!("  NOT FOUND: no seed shows what is wrong without {twin}");
            false
        }
        (Some((seed, what)), Some(_)) => {
            println!("  found by seed {seed}: {what}");
            true
        }
        (Some((seed, _)), None) => {
            print_trace(*seed, &run(*seed, None, true));
            println!("again: souk-sim --seed {seed}");
            false
        }
    }
}

/// Seeds that a thread takes at once.
const CHUNK: u64 = 64;

fn work(next: &AtomicU64, end: u64, stop: &AtomicBool, tally: &Mutex<Tally>, twin: Option<Twin>) {
    loop {
        let from = next.fetch_add(CHUNK, Ordering::Relaxed);
        if from >= end || stop.load(Ordering::Relaxed) {
            stop.store(true, Ordering::Relaxed);
            return;
        }
        let mut part = Tally::default();
        for seed in from..(from + CHUNK).min(end) {
            let report = run(seed, twin, false);
            part.crashes += u64::from(report.crashes);
            part.trades += report.trades as u64;
            part.liars += u64::from(report.case.is_some_and(|case| case.liar != Liar::Nobody));
            let outcome = report.outcome.map_or("no trade".to_owned(), |outcome| format!("{outcome:?}"));
            *part.ends.entry(outcome).or_default() += 1;
            if let Some(what) = report.violation {
                part.failed = Some((seed, what));
                stop.store(true, Ordering::Relaxed);
                break;
            }
        }
        let mut whole = tally.lock().unwrap_or_else(PoisonError::into_inner);
        whole.crashes += part.crashes;
        whole.trades += part.trades;
        whole.liars += part.liars;
        for (outcome, count) in part.ends {
            *whole.ends.entry(outcome).or_default() += count;
        }
        if let Some(failed) = part.failed
            && whole.failed.as_ref().is_none_or(|known| failed.0 < known.0)
        {
            whole.failed = Some(failed);
        }
    }
}

fn progress(next: &AtomicU64, from: u64, end: u64, stop: &AtomicBool) {
    let begin = Instant::now();
    let mut shown = Instant::now();
    while !stop.load(Ordering::Relaxed) {
        std::thread::sleep(Duration::from_millis(50));
        if shown.elapsed() >= Duration::from_secs(10) {
            shown = Instant::now();
            let done = next.load(Ordering::Relaxed).min(end) - from;
            let rate = done as f64 / begin.elapsed().as_secs_f64();
            eprintln!("{done} of {} seeds, {rate:.0}/s", end - from);
        }
    }
}

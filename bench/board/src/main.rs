//! The board beside other Nostr relays: the same work on the same events in the same run.

mod attack;
mod client;
mod events;
mod growth;
mod hostile;
mod live;
mod plot;
mod publish;
mod query;
mod relay;
mod sheet;
mod standing;

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use clap::{Parser, ValueEnum};
use machine::Machine;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::events::Event;
use crate::query::{Answer, COMPARED, Shape};
use crate::relay::{Relay, Subject};
use crate::sheet::{Column, Sheet};

/// Connections of a loading that is not measured, and events on the way of each.
const LOADING: (usize, usize) = (8, 32);

#[derive(Parser)]
#[command(about = "The board beside other Nostr relays: the same work on the same events in the same run")]
struct Options {
    /// How the board is started; {dir}, {port} and {address} stand for what they say.
    #[arg(long, value_name = "COMMAND", default_value = "souk run --board-only --data-dir {dir} --listen {address}")]
    board: String,
    /// Another relay: NAME=COMMAND, the command as with --board. Again for more of them.
    #[arg(long, value_name = "NAME=COMMAND")]
    peer: Vec<Subject>,
    /// What to measure; everything but growth and hostile if not said.
    #[arg(long, value_enum, value_delimiter = ',')]
    part: Vec<Part>,
    /// Signed events, JSONL; made if there are too few.
    #[arg(long, value_name = "FILE", default_value = "target/events.jsonl")]
    events: PathBuf,
    /// How many of them the relays hold.
    #[arg(long, default_value_t = 120_000)]
    count: usize,
    /// Where the data folders are made and deleted again; on the disk to be measured.
    #[arg(long, default_value = "target/data")]
    dir: PathBuf,
    /// With --part growth: how many events are stored at each step.
    #[arg(long, value_delimiter = ',', default_value = "100000,1000000")]
    sizes: Vec<usize>,
    /// With --part growth: where the plot goes.
    #[arg(long, value_name = "FILE.svg")]
    plot: Option<PathBuf>,
    /// With --part hostile: only attacks with this in their names.
    #[arg(long, value_name = "PART OF NAME", value_delimiter = ';')]
    attack: Vec<String>,
    /// With --part hostile: how often each attack comes.
    #[arg(long, default_value_t = 1)]
    rounds: usize,
    /// Print JSON instead of the table.
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Part {
    /// Publishing, then disk and memory.
    Ingest,
    /// The nine shapes of REQ.
    Query,
    /// A reconciliation of sets (NIP-77).
    Negentropy,
    /// Live events to many subscribers.
    Live,
    /// Connections that do nothing.
    Idle,
    /// Honest clients beside a hostile one.
    Hostile,
    /// Queries over what is stored and how many are connected; of the board alone.
    Growth,
}

impl Options {
    fn hostile(&self) -> hostile::Plan {
        hostile::Plan { attacks: self.attack.clone(), rounds: self.rounds.max(1) }
    }
}

const USUAL: [Part; 5] = [Part::Ingest, Part::Query, Part::Negentropy, Part::Live, Part::Idle];

/// What all relays are given.
struct Given {
    stored: Vec<Event>,
    live: Vec<Event>,
    hostile: Vec<Event>,
}

fn main() -> Result<()> {
    let mut options = Options::parse();
    if options.part.is_empty() {
        options.part = USUAL.into();
    }
    raise_file_limit()?;
    let dir = options.dir.join(format!("run-{}", std::process::id()));
    fs::create_dir_all(&dir).with_context(|| dir.display().to_string())?;
    let outcome = if options.part.contains(&Part::Growth) { grow(&options, &dir) } else { compare(&options, &dir) };
    fs::remove_dir_all(&dir)?;
    print!("{}", outcome?);
    Ok(())
}

/// Thousands of connections are files, here and in the relays, which inherit this.
fn raise_file_limit() -> Result<()> {
    let hard = getrlimit(Resource::Nofile).maximum;
    Ok(setrlimit(Resource::Nofile, Rlimit { current: hard, maximum: hard })?)
}

fn subjects(options: &Options) -> Vec<Subject> {
    let board = Subject { name: "board".into(), command: options.board.clone() };
    std::iter::once(board).chain(options.peer.iter().cloned()).collect()
}

fn compare(options: &Options, dir: &Path) -> Result<String> {
    let has = |part| options.part.contains(&part);
    let given = Given {
        stored: events::stored(&options.events, options.count)?,
        live: if has(Part::Live) { events::fresh(live::needed())? } else { Vec::new() },
        hostile: if has(Part::Hostile) { events::fresh(options.hostile().needed())? } else { Vec::new() },
    };
    let subjects = subjects(options);
    let mut sheet = Sheet::new(Machine::look(dir)?, subjects.iter().map(|subject| subject.name.clone()).collect());
    sheet.signature_check_us[0] = events::signature_check_us()?;
    let mut answers = Vec::new();
    for (number, subject) in subjects.iter().enumerate() {
        let measured = measure(subject, &dir.join(number.to_string()), options, &given, &mut sheet.column(number));
        answers.push(measured.with_context(|| subject.name.clone())?);
    }
    sheet.signature_check_us[1] = events::signature_check_us()?;
    for (subject, theirs) in subjects.iter().zip(&answers).skip(1).filter(|_| has(Part::Query)) {
        sheet.remarks.push(agreement(&subject.name, &answers[0], theirs));
    }
    if options.json { Ok(serde_json::to_string_pretty(&sheet)? + "\n") } else { Ok(sheet.render()) }
}

fn measure(
    subject: &Subject,
    dir: &Path,
    options: &Options,
    given: &Given,
    column: &mut Column,
) -> Result<Vec<Answer>> {
    let relay = Relay::start(subject, dir)?;
    let mut answers = Vec::new();
    if options.part.contains(&Part::Ingest) {
        publish::ingest(&relay, &given.stored, column)?;
        standing::disk(&relay, &given.stored, column)?;
    } else {
        publish::publish(&relay, &given.stored, LOADING.0, LOADING.1)?;
    }
    for part in options.part.iter().filter(|part| **part != Part::Ingest) {
        eprintln!("{}: {part:?}", subject.name);
        match part {
            Part::Query => {
                query::queries(&relay, &given.stored, column)?;
                answers = query::answers(&relay, &given.stored)?;
            }
            Part::Negentropy => standing::reconcile(&relay, &given.stored, column)?,
            Part::Live => live::live(&relay, &given.live, column)?,
            Part::Idle => standing::idle(&relay, column)?,
            Part::Hostile => hostile::hostile(&relay, &given.stored, &given.hostile, &options.hostile(), column)?,
            Part::Ingest | Part::Growth => {}
        }
    }
    relay.stop()?;
    Ok(answers)
}

/// Whether a relay gave the same answers as the board.
fn agreement(name: &str, ours: &[Answer], theirs: &[Answer]) -> String {
    let differing = |shape: Shape| {
        let pairs = ours.iter().zip(theirs).filter(|(answer, _)| answer.shape == shape);
        let count = pairs.filter(|(ours, theirs)| ours != theirs).count();
        (count > 0).then(|| format!("{count} of {COMPARED} for \"{}\"", shape.name()))
    };
    let differences: Vec<String> = Shape::ALL.into_iter().filter_map(differing).collect();
    match differences.as_slice() {
        [] => format!("{} answers compared: those of {name} are the same", ours.len()),
        some => format!("{} answers compared: those of {name} differ: {}", ours.len(), some.join(", ")),
    }
}

fn grow(options: &Options, dir: &Path) -> Result<String> {
    ensure!(options.sizes.is_sorted(), "--sizes: each step has to be larger");
    ensure!(!options.sizes.is_empty(), "--sizes: none");
    let mut sheet = Sheet::new(Machine::look(dir)?, Vec::new());
    sheet.signature_check_us[0] = events::signature_check_us()?;
    let board = &subjects(options)[0];
    let growth = growth::growth(board, &dir.join("board"), &options.sizes)?;
    sheet.signature_check_us[1] = events::signature_check_us()?;
    if let Some(plot) = &options.plot {
        fs::write(plot, growth.plot()).with_context(|| plot.display().to_string())?;
    }
    Ok(format!("{}\n{}", sheet.head(), growth.render()))
}

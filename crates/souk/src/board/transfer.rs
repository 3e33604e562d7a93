//! `souk board export` and `souk board import`: events as JSONL, streamed, with progress on a terminal.

use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, IsTerminal, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use ::board::store::{LogStore, StoreConfig};
use ::board::transfer::{Exported, Imported};
use daemon::api::types::{ExportRequest, SyncNews, SyncRequest};
use serde_json::{Map, Value, json};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use wire::{Filter, FilterLimits, Limits, RawEvent};

use super::args::{Direction, Export, Import, Selection, Sync};
use crate::client::Client;
use crate::failure::Failure;
use crate::show::Show;

/// A piece of an import is sent when it has so many bytes.
const PIECE_BYTES: usize = 1 << 20;
/// Pieces under way at the same time: while one is written to disk the next is checked.
const PIECES: usize = 2;
/// Longest line that is read; longer than any event may be.
const LINE_MAX: u64 = 2 << 20;
/// How often progress is shown.
const SHOW_EVERY: Duration = Duration::from_millis(200);

/// One line on standard error that is written over, on a terminal only.
struct Progress {
    shown: Option<Instant>,
    began: Instant,
}

impl Progress {
    fn new(show: &Show) -> Progress {
        let began = Instant::now();
        Progress { shown: (!show.json && io::stderr().is_terminal()).then_some(began), began }
    }

    fn at(&mut self, count: u64, what: &str) {
        let Some(shown) = &mut self.shown else { return };
        if shown.elapsed() >= SHOW_EVERY {
            *shown = Instant::now();
            let rate = count as f64 / self.began.elapsed().as_secs_f64();
            eprint!("\r{count} {what}, {rate:.0}/s \x1b[K");
        }
    }

    fn end(&self) {
        if self.shown.is_some() {
            eprint!("\r\x1b[K");
        }
    }
}

/// The filters that a selection stands for.
fn filters(selection: &Selection) -> Result<Vec<Value>, Failure> {
    let mut filters = Vec::new();
    for text in &selection.filters {
        let wrong = |why: String| Failure::usage(format!("--filter {text}: {why}"));
        Filter::parse(text.as_bytes(), &FilterLimits::DEFAULT).map_err(|why| wrong(why.to_string()))?;
        filters.push(serde_json::from_str::<Map<String, Value>>(text).map_err(|why| wrong(why.to_string()))?);
    }
    if filters.is_empty() {
        filters.push(Map::new());
    }
    let kinds = (!selection.kinds.is_empty()).then(|| json!(selection.kinds));
    let all =
        [("kinds", kinds), ("since", selection.since.map(Value::from)), ("until", selection.until.map(Value::from))];
    for (key, value) in all {
        let Some(value) = value else { continue };
        for filter in &mut filters {
            if filter.insert(key.to_owned(), value.clone()).is_some() {
                return Err(Failure::usage(format!("--{key} is said twice: a --filter has {key:?} too")));
            }
        }
    }
    Ok(filters.into_iter().map(Value::Object).collect())
}

fn parse(filters: &[Value]) -> Result<Vec<Filter>, Failure> {
    let parse = |filter: &Value| Filter::parse(filter.to_string().as_bytes(), &FilterLimits::DEFAULT);
    filters.iter().map(parse).collect::<Result<_, _>>().map_err(|why| Failure::usage(format!("the filter: {why}")))
}

/// Where an export goes: standard output, or a file that gets its name when it is complete.
enum Sink {
    Standard(io::Stdout),
    File { file: File, partial: PathBuf, path: PathBuf },
}

impl Sink {
    fn open(path: Option<PathBuf>) -> Result<Sink, Failure> {
        let Some(path) = path else { return Ok(Sink::Standard(io::stdout())) };
        let partial = path.with_extension("partial");
        let file = File::create(&partial);
        let file = file.map_err(|e| Failure::usage(format!("cannot write {}: {e}", partial.display())))?;
        Ok(Sink::File { file, partial, path })
    }

    fn write(&mut self, piece: &[u8]) -> io::Result<()> {
        match self {
            Sink::Standard(out) => match out.write_all(piece) {
                Err(error) if error.kind() == io::ErrorKind::BrokenPipe => std::process::exit(0),
                other => other,
            },
            Sink::File { file, .. } => file.write_all(piece),
        }
    }

    fn end(self) -> Result<bool, Failure> {
        match self {
            Sink::Standard(mut out) => out.flush()?,
            Sink::File { file, partial, path } => {
                file.sync_all()?;
                fs::rename(&partial, &path)?;
                return Ok(true);
            }
        }
        Ok(false)
    }
}

pub(crate) async fn export(client: &Client, data_dir: &Path, options: Export, show: &Show) -> Result<(), Failure> {
    let filters = filters(&options.selection)?;
    let mut sink = Sink::open(options.output)?;
    let (mut exported, mut progress) = (Exported::default(), Progress::new(show));
    let mut take = |piece: &[u8]| {
        exported.bytes += piece.len() as u64;
        exported.events += piece.iter().filter(|byte| **byte == b'\n').count() as u64;
        progress.at(exported.events, "events");
        sink.write(piece)
    };
    let request = ExportRequest { filters: filters.clone() };
    if client.is_there().await {
        client.stream("/v1/board/export", &request, &mut take).await?;
    } else {
        offline(data_dir, &filters, client, &mut take)?;
    }
    progress.end();
    let named = sink.end()?;
    match (named, show.json) {
        (true, _) => show.answer(&exported, |e| format!("{} events, {} bytes", e.events, e.bytes)),
        // The answer is on standard output already.
        (false, true) => Ok(()),
        (false, false) => {
            eprintln!("{} events, {} bytes", exported.events, exported.bytes);
            Ok(())
        }
    }
}

/// Reads the store itself. It is locked while a board runs, so the two never meet.
fn offline(
    data_dir: &Path,
    filters: &[Value],
    client: &Client,
    write: &mut dyn FnMut(&[u8]) -> io::Result<()>,
) -> Result<(), Failure> {
    let dir = data_dir.join("board");
    if !dir.is_dir() {
        return Err(client.nobody());
    }
    let fault = |e: &dyn std::fmt::Display| Failure::fault(format!("{}: {e}", dir.display()));
    let store = LogStore::open(&StoreConfig::new(&dir, ::board::system_clock), Box::new(|_| ()));
    let (store, _) = store.map_err(|e| fault(&e))?;
    ::board::transfer::export(&store, parse(filters)?, ::board::system_clock(), write).map_err(|e| fault(&e))?;
    Ok(())
}

pub(crate) async fn sync(client: &Client, options: Sync, show: &Show) -> Result<(), Failure> {
    let mut filters = filters(&options.selection)?;
    let (Some(filter), true) = (filters.pop(), filters.is_empty()) else {
        return Err(Failure::usage("a synchronisation takes one --filter"));
    };
    let direction = match options.direction {
        Direction::Down => ::board::sync::Direction::Down,
        Direction::Up => ::board::sync::Direction::Up,
        Direction::Both => ::board::sync::Direction::Both,
    };
    let request = SyncRequest { url: options.url, filter, direction };
    let (mut line, mut end, mut progress) = (Vec::new(), None, Progress::new(show));
    let mut take = |piece: &[u8]| {
        line.extend_from_slice(piece);
        while let Some(at) = line.iter().position(|byte| *byte == b'\n') {
            match serde_json::from_slice(&line[..at])? {
                SyncNews::Progress(report) => progress.at(report.taken + report.sent, "events"),
                news => end = Some(news),
            }
            line.drain(..=at);
        }
        Ok(())
    };
    client.stream("/v1/board/sync", &request, &mut take).await?;
    progress.end();
    match end {
        Some(SyncNews::Done(report)) => show.answer(&report, |r| {
            format!(
                "{} events were missing here: {} taken, {} refused, {} not sent\n\
                 {} were missing there: {} taken, {} refused",
                r.need, r.taken, r.refused, r.missing, r.have, r.sent, r.rejected
            )
        }),
        Some(SyncNews::Failed(why)) => Err(Failure::unreachable(why)),
        Some(SyncNews::Progress(_)) | None => Err(Failure::unreachable("the daemon's answer broke off")),
    }
}

pub(crate) async fn import(client: &Client, options: Import, show: &Show) -> Result<(), Failure> {
    let chosen = filters(&options.selection)?;
    let chosen = if chosen == [json!({})] { None } else { Some(parse(&chosen)?) };
    let input: Box<dyn Read + Send> = match &options.input {
        Some(path) => {
            let file = File::open(path);
            Box::new(file.map_err(|e| Failure::usage(format!("cannot read {}: {e}", path.display())))?)
        }
        None => Box::new(io::stdin()),
    };
    let (pieces, mut waiting) = mpsc::channel(PIECES);
    let reading = tokio::task::spawn_blocking(move || read(BufReader::new(input), chosen.as_deref(), &pieces));
    let client = Arc::new(client.clone());
    let (mut imported, mut progress) = (Imported::default(), Progress::new(show));
    let mut sending: JoinSet<Result<Imported, Failure>> = JoinSet::new();
    loop {
        let piece: Option<Vec<u8>> = waiting.recv().await;
        let last = piece.is_none();
        if let Some(piece) = piece {
            let client = client.clone();
            sending.spawn(async move { client.send("/v1/board/import", "application/x-ndjson", piece).await });
        }
        while !sending.is_empty() && (last || sending.len() >= PIECES) {
            let Some(part) = sending.join_next().await else { break };
            imported.add(part.map_err(|e| Failure::fault(e.to_string()))??);
            progress.at(imported.lines, "lines");
        }
        if last {
            break;
        }
    }
    progress.end();
    let skipped = reading.await.map_err(|e| Failure::fault(e.to_string()))??;
    if skipped.too_long > 0 {
        imported.lines += skipped.too_long;
        imported.refused.insert(format!("invalid: longer than {LINE_MAX} bytes"), skipped.too_long);
    }
    let failed = imported.failed.values().sum::<u64>();
    show.answer(&imported, |imported| in_words(imported, skipped.not_chosen))?;
    if failed > 0 {
        Err(Failure::fault(format!("{failed} events were not kept; import the file again")))
    } else {
        Ok(())
    }
}

#[derive(Default)]
struct Skipped {
    too_long: u64,
    not_chosen: u64,
}

/// Reads lines and sends them on in pieces. Gives how many never got there.
fn read(mut input: impl BufRead, chosen: Option<&[Filter]>, pieces: &mpsc::Sender<Vec<u8>>) -> io::Result<Skipped> {
    let (mut skipped, mut piece) = (Skipped::default(), Vec::new());
    let limits = Limits { bytes: LINE_MAX as usize, tags: usize::MAX, tag_elements: usize::MAX, ..Limits::RELAY };
    loop {
        let start = piece.len();
        let read = input.by_ref().take(LINE_MAX).read_until(b'\n', &mut piece)?;
        if read as u64 == LINE_MAX && !piece.ends_with(b"\n") {
            piece.truncate(start);
            skipped.too_long += 1;
            skip_line(&mut input)?;
            continue;
        }
        if let (Some(filters), Ok(event)) = (chosen, RawEvent::parse(piece[start..].trim_ascii(), &limits))
            && !filters.iter().any(|filter| filter.matches_raw(&event))
        {
            piece.truncate(start);
            skipped.not_chosen += 1;
        }
        if (read == 0 && !piece.is_empty()) || piece.len() >= PIECE_BYTES {
            // Nobody takes it any more when another piece failed, which is told there.
            if pieces.blocking_send(std::mem::take(&mut piece)).is_err() {
                return Ok(skipped);
            }
        }
        if read == 0 {
            return Ok(skipped);
        }
    }
}

fn skip_line(input: &mut impl BufRead) -> io::Result<()> {
    loop {
        let here = input.fill_buf()?;
        let (used, found) = match here.iter().position(|byte| *byte == b'\n') {
            Some(at) => (at + 1, true),
            None => (here.len(), false),
        };
        input.consume(used);
        if found || used == 0 {
            return Ok(());
        }
    }
}

fn in_words(imported: &Imported, not_chosen: u64) -> String {
    let refused: u64 = imported.refused.values().sum();
    let mut text =
        format!("{} lines: {} new, {} known, {refused} refused", imported.lines, imported.new, imported.known);
    if not_chosen > 0 {
        text += &format!("; {not_chosen} more were not chosen");
    }
    for (reasons, word) in [(&imported.refused, "refused"), (&imported.failed, "failed")] {
        let mut reasons: Vec<_> = reasons.iter().collect();
        reasons.sort_by_key(|(_, count)| std::cmp::Reverse(**count));
        for (why, count) in reasons {
            text += &format!("\n  {word} {count}: {why}");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use daemon::api::types::ErrorKind;

    use super::*;

    fn pieces_of(input: &[u8]) -> (Vec<Vec<u8>>, Skipped) {
        let (pieces, mut waiting) = mpsc::channel(100);
        let skipped = read(BufReader::with_capacity(16, input), None, &pieces).unwrap();
        drop(pieces);
        (std::iter::from_fn(|| waiting.blocking_recv()).collect(), skipped)
    }

    #[test]
    fn lines_are_sent_whole_and_one_that_is_too_long_is_passed_over() {
        let mut input = b"first\nsecond\n".to_vec();
        input.resize(input.len() + 5_000_000, b'x');
        input.extend_from_slice(b"\nthird without an end");
        let (pieces, skipped) = pieces_of(&input);
        assert_eq!(pieces, [b"first\nsecond\nthird without an end".to_vec()]);
        assert_eq!(skipped.too_long, 1);
        let many = b"0123456789\n".repeat(300_000);
        let (pieces, _) = pieces_of(&many);
        assert!(pieces.len() > 2 && pieces.iter().all(|piece| piece.ends_with(b"\n")));
        assert_eq!(pieces.concat(), many);
    }

    #[test]
    fn a_selection_is_one_filter_or_narrows_those_given() {
        let selection = |filters: &[&str], kinds: &[u16], since| Selection {
            filters: filters.iter().map(|f| (*f).to_owned()).collect(),
            kinds: kinds.to_vec(),
            since,
            until: None,
        };
        assert_eq!(filters(&selection(&[], &[], None)).unwrap(), [json!({})]);
        assert_eq!(filters(&selection(&[], &[1, 7], Some(5))).unwrap(), [json!({"kinds": [1, 7], "since": 5})]);
        let both = filters(&selection(&["{\"#t\":[\"x\"]}", "{}"], &[1], None)).unwrap();
        assert_eq!(both, [json!({"#t": ["x"], "kinds": [1]}), json!({"kinds": [1]})]);
        for bad in [selection(&["{\"kinds\":[1]}"], &[7], None), selection(&["{\"nonsense\":1}"], &[], None)] {
            assert_eq!(filters(&bad).unwrap_err().kind, ErrorKind::Usage);
        }
    }
}

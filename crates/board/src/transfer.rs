//! Events in and out as JSONL, one event a line, as strfry and others write it: backup, moving house, seeding.

use std::collections::BTreeMap;
use std::io;
use std::sync::mpsc::sync_channel;

use bip340::Keys;
use serde::{Deserialize, Serialize};
use units::Unix;
use wire::event::Limits;
use wire::{Filter, KindClass, RawEvent};

use crate::admission::Policy;
use crate::store::{Admitted, Ask, Budget, Encoded, Outcome, Sink, Store, StoreError, Write};

/// One turn of an export.
const TURN: Budget = Budget { rows: 4000, bytes: 1024 * 1024, disk: true };
/// Different reasons that are told apart; the rest is counted together.
const REASONS_MAX: usize = 50;

/// An export ended before its end.
#[derive(Debug, thiserror::Error)]
pub enum TransferError {
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Whoever takes the lines.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// What was written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exported {
    /// Events.
    pub events: u64,
    /// Bytes, line ends included.
    pub bytes: u64,
}

/// What became of lines.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Imported {
    /// Lines that were not blank.
    pub lines: u64,
    /// Events that are new here.
    pub new: u64,
    /// Events that were here, or had been replaced, deleted or taken down.
    pub known: u64,
    /// Lines that were refused, by reason.
    pub refused: BTreeMap<String, u64>,
    /// Events that the store failed to keep, by reason.
    pub failed: BTreeMap<String, u64>,
}

impl Imported {
    /// Adds what became of other lines.
    pub fn add(&mut self, more: Imported) {
        self.lines += more.lines;
        self.new += more.new;
        self.known += more.known;
        more.refused.into_iter().for_each(|(why, count)| note(&mut self.refused, why, count));
        more.failed.into_iter().for_each(|(why, count)| note(&mut self.failed, why, count));
    }

    fn outcome(&mut self, outcome: Outcome) {
        match outcome {
            Outcome::Stored | Outcome::Passed => self.new += 1,
            Outcome::Known(_) => self.known += 1,
            Outcome::Spent { .. } => note(&mut self.refused, "its credential was spent before".into(), 1),
            Outcome::Failed(why) => note(&mut self.failed, why, 1),
        }
    }
}

fn note(reasons: &mut BTreeMap<String, u64>, why: String, count: u64) {
    let why = if reasons.len() < REASONS_MAX || reasons.contains_key(&why) { why } else { "other reasons".into() };
    *reasons.entry(why).or_default() += count;
}

/// Events, one on each line.
#[derive(Default)]
struct Lines {
    text: Vec<u8>,
    count: u64,
}

impl Sink for Lines {
    fn take(&mut self, event: &Encoded) {
        self.text.extend_from_slice(event.json.as_bytes());
        self.text.push(b'\n');
        self.count += 1;
    }
}

/// Writes every event that matches any of `filters`, newest first, in pieces of about 1 MiB.
pub fn export(
    store: &dyn Store,
    filters: Vec<Filter>,
    now: Unix,
    write: &mut dyn FnMut(&[u8]) -> io::Result<()>,
) -> Result<Exported, TransferError> {
    let reader = std::sync::Arc::new(|_: &Encoded| true);
    let mut cursor = store.query(Ask { filters, limit_max: u64::MAX, before: store.end(), reader })?;
    let (mut exported, mut lines) = (Exported::default(), Lines::default());
    loop {
        let done = cursor.advance(now, TURN, &mut lines)?;
        exported.events += std::mem::take(&mut lines.count);
        exported.bytes += lines.text.len() as u64;
        if !lines.text.is_empty() {
            write(&lines.text)?;
            lines.text.clear();
        }
        if done {
            return Ok(exported);
        }
    }
}

/// Where events are taken in.
#[derive(Clone, Copy)]
pub(crate) struct Door<'a> {
    pub(crate) store: &'a dyn Store,
    pub(crate) policy: &'a Policy,
    /// Addresses by which clients know the board.
    pub(crate) urls: &'a [String],
    pub(crate) keys: &'a Keys,
    pub(crate) now: Unix,
}

/// Takes events in. Lines are checked on `threads` threads; the call ends when the fate of each is known. What is here already
/// is passed over, so the same file can be given again at any time.
///
/// The operator is trusted with what the policy asks of a sender (work, authentication, credentials, rates, age), not with what
/// the board never takes: malformed or forged events, ones that are too large, expired, of a denied kind, by a banned
/// author, or requests to vanish from another relay.
pub(crate) fn import(door: Door<'_>, lines: &[u8], threads: usize) -> Imported {
    let lines: Vec<&[u8]> =
        lines.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii).filter(|l| !l.is_empty()).collect();
    let (told, fates) = sync_channel(lines.len().max(1));
    let mut imported = Imported { lines: lines.len() as u64, ..Imported::default() };
    std::thread::scope(|scope| {
        for part in lines.chunks(lines.len().div_ceil(threads.max(1)).max(1)) {
            let told = told.clone();
            scope.spawn(move || {
                for line in part {
                    let told = told.clone();
                    take(door, line, move |fate| {
                        // There is room for all of them, and the receiver outlives this.
                        if told.try_send(fate).is_err() {
                            tracing::error!("the fate of an imported event was lost");
                        }
                    });
                }
            });
        }
        drop(told);
        for fate in fates {
            match fate {
                Ok(outcome) => imported.outcome(outcome),
                Err(why) => note(&mut imported.refused, why, 1),
            }
        }
    });
    let fates = imported.new + imported.known + imported.refused.values().chain(imported.failed.values()).sum::<u64>();
    if fates < imported.lines {
        note(&mut imported.failed, "the store is closed".into(), imported.lines - fates);
    }
    imported
}

fn take(door: Door<'_>, line: &[u8], told: impl FnOnce(Result<Outcome, String>) + Send + 'static) {
    match check(door, line) {
        Ok(Taken::New(admitted)) => {
            let write = Write::Event { admitted, reply: Box::new(move |outcome| told(Ok(outcome))) };
            if let Err(why) = door.store.submit(write) {
                // The answer went with the event: the caller counts what is missing.
                tracing::error!(%why, "an imported event was not taken");
            }
        }
        Ok(Taken::Settled(outcome)) => told(Ok(outcome)),
        Err(why) => told(Err(why)),
    }
}

enum Taken {
    New(Admitted),
    Settled(Outcome),
}

fn check(Door { store, policy, urls, keys, now }: Door<'_>, line: &[u8]) -> Result<Taken, String> {
    let invalid = |why: &dyn std::fmt::Display| format!("invalid: {why}");
    let event = RawEvent::parse(line, &Limits { bytes: policy.event_bytes, tags: policy.tags, ..Limits::RELAY });
    let event = event.map_err(|why| invalid(&why))?;
    if event.class() == KindClass::Ephemeral {
        return Err("ephemeral: events of this kind are not kept".into());
    }
    match store.known(&event.id) {
        Ok(Some(known)) => return Ok(Taken::Settled(Outcome::Known(known))),
        Ok(None) => {}
        Err(why) => return Ok(Taken::Settled(Outcome::Failed(why.to_string()))),
    }
    policy.admit_import(&event, urls, now).map_err(|why| why.to_string())?;
    event.verify_with(keys).map_err(|why| invalid(&why))?;
    Ok(Taken::New(Admitted::new(&event, now)))
}

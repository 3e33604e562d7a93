//! Layers brought together in the order of their keys: where two have the same key, the newer one is right.

use std::collections::{BTreeSet, btree_map};
use std::path::Path;
use std::sync::Arc;

use super::keys::{Key, RowValue};
use super::run::{Blocks, Run, RunWriter, Stream, Walk};
use crate::store::StoreError;

/// When runs are merged.
#[derive(Clone, Copy)]
pub(crate) struct Pace {
    /// So many have to come together.
    fan_in: usize,
    /// A run belongs to a merge while it is at most so many times as large as all newer ones of the merge together.
    reach: u64,
}

/// While events come in: rarely, so that each is written again only a few times.
pub(crate) const BUSY: Pace = Pace { fan_in: 4, reach: 3 };
/// When nothing was written out for a while: few runs make quick answers.
pub(crate) const IDLE: Pace = Pace { fan_in: 2, reach: 8 };

/// One layer, standing on an entry.
pub(crate) enum Layer<'a> {
    /// In memory.
    Overlay((&'a Key, &'a Option<RowValue>), btree_map::Range<'a, Key, Option<RowValue>>),
    /// On disk.
    Run(Walk<'a>),
}

impl Layer<'_> {
    fn key(&self) -> &Key {
        match self {
            Layer::Overlay((key, _), _) => key,
            Layer::Run(walk) => walk.key(),
        }
    }

    fn value(&self) -> Option<&[u8]> {
        match self {
            Layer::Overlay((_, value), _) => value.as_ref().map(RowValue::bytes),
            Layer::Run(walk) => walk.value(),
        }
    }

    /// Goes to the next entry; false at the end.
    fn advance(&mut self, cache: &Blocks) -> Result<bool, StoreError> {
        match self {
            Layer::Overlay(entry, range) => Ok(range.next().map(|next| *entry = next).is_some()),
            Layer::Run(walk) => walk.advance(cache),
        }
    }
}

/// Rows of several layers, up to some key.
pub(crate) struct Rows<'a> {
    /// Newest first.
    layers: Vec<Layer<'a>>,
    /// The layer that gave the last row and still stands on it.
    given: Option<usize>,
    high: Key,
    cache: &'a Blocks,
}

impl<'a> Rows<'a> {
    /// Nothing yet; rows above `high` are not given.
    pub(crate) fn new(high: Key, cache: &'a Blocks) -> Rows<'a> {
        Rows { layers: Vec::new(), given: None, high, cache }
    }

    /// Adds rows in memory that are older than all that were added before.
    pub(crate) fn add_overlay(&mut self, mut range: btree_map::Range<'a, Key, Option<RowValue>>) {
        self.layers.extend(range.next().map(|first| Layer::Overlay(first, range)));
    }

    /// Adds a run that is older than all that was added before.
    pub(crate) fn add_run(&mut self, run: Option<Walk<'a>>) {
        self.layers.extend(run.filter(|run| *run.key() <= self.high).map(Layer::Run));
    }

    /// The next row that is there.
    pub(crate) fn next(&mut self) -> Result<Option<(&Key, &[u8])>, StoreError> {
        let best = loop {
            if let Some(given) = self.given.take() {
                self.pass(given)?;
            }
            let least = |best: usize, i: usize| if self.layers[i].key() < self.layers[best].key() { i } else { best };
            // Of equal keys the first is found, which is the newest.
            let Some(best) = (0..self.layers.len()).reduce(least) else { return Ok(None) };
            self.given = Some(best);
            if self.layers[best].value().is_some() {
                break best;
            }
        };
        let layer = &self.layers[best];
        Ok(layer.value().map(|value| (layer.key(), value)))
    }

    /// Moves the layer `first` on, and those behind it that stand at the same key; those before it do not.
    fn pass(&mut self, first: usize) -> Result<(), StoreError> {
        for i in (first..self.layers.len()).rev() {
            if i > first && self.layers[i].key() != self.layers[first].key() {
                continue;
            }
            let layer = &mut self.layers[i];
            if !(layer.advance(self.cache)? && *layer.key() <= self.high) {
                self.layers.remove(i);
            }
        }
        Ok(())
    }
}

/// Gives every row from `low` to `high` that is there to `take` until that says false: of `memory`, newest layer first, then of `runs`. Layer
/// by layer and so in no order: no layer waits for another. A row that was read from the log again after a crash may come twice.
pub(crate) fn each(
    memory: impl Iterator<Item = (Key, Option<RowValue>)>,
    runs: &[Arc<Run>],
    low: (Key, bool),
    high: Key,
    mut take: impl FnMut(&Key, &[u8]) -> Result<bool, StoreError>,
) -> Result<(), StoreError> {
    let mut gone = BTreeSet::new();
    let mut one = |key: &Key, value: Option<&[u8]>| match value {
        None => {
            gone.insert(*key);
            Ok(true)
        }
        Some(_) if !gone.is_empty() && gone.contains(key) => Ok(true),
        Some(value) => take(key, value),
    };
    for (key, value) in memory {
        if !one(&key, value.as_ref().map(RowValue::bytes))? {
            return Ok(());
        }
    }
    for run in runs {
        let mut stream = run.stream_from(low)?;
        while let Some(row) = stream.as_mut().filter(|row| *row.key() <= high) {
            if !one(row.key(), row.value())? {
                return Ok(());
            }
            if !row.advance()? {
                break;
            }
        }
    }
    Ok(())
}

/// Which runs, newest first, are to be merged now: the range in `runs`, if any.
pub(crate) fn due(runs: &[Arc<Run>], pace: Pace) -> Option<std::ops::Range<usize>> {
    // A merge may start behind young runs that are still too few.
    (0..runs.len()).find_map(|from| {
        let mut bytes = runs[from].bytes;
        let mut to = from + 1;
        while to < runs.len() && runs[to].bytes <= bytes.saturating_mul(pace.reach) {
            bytes += runs[to].bytes;
            to += 1;
        }
        (to - from >= pace.fan_in).then_some(from..to)
    })
}

/// Merges `runs`, newest first, into the run `number`. Rows that are gone are forgotten if nothing older is left beneath.
/// Stops, and gives nothing, when `stop` says so.
pub(crate) fn merge(
    dir: &Path,
    number: u64,
    runs: &[Arc<Run>],
    bottom: bool,
    stop: &dyn Fn() -> bool,
) -> Result<Option<Run>, StoreError> {
    let mut out = RunWriter::create(dir, number, runs.iter().map(|run| run.points).sum())?;
    let mut streams: Vec<Stream> = Vec::new();
    for run in runs {
        let mut stream = run.stream();
        if stream.advance()? {
            streams.push(stream);
        }
    }
    let mut count: u64 = 0;
    loop {
        let least = |best: usize, i: usize| if streams[i].key() < streams[best].key() { i } else { best };
        let Some(best) = (0..streams.len()).reduce(least) else { break };
        let (key, value) = (*streams[best].key(), streams[best].value());
        if value.is_some() || !bottom {
            out.push(&key, value)?;
        }
        let mut i = best;
        while i < streams.len() {
            if *streams[i].key() == key && !streams[i].advance()? {
                streams.remove(i);
            } else {
                i += 1;
            }
        }
        count += 1;
        if count.is_multiple_of(1 << 12) && stop() {
            return Ok(None);
        }
    }
    Ok(Some(out.finish()?))
}

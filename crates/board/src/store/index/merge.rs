//! Layers brought together in the order of their keys: where two have the same key, the newer one is right.

use std::collections::btree_map;
use std::path::Path;
use std::sync::Arc;

use super::keys::{Key, Value};
use super::run::{Blocks, Entry, Run, RunWriter, Stream, Walk};
use crate::store::StoreError;

/// Runs of about the same size that are merged into one.
const FAN_IN: usize = 4;
/// A run belongs to a merge while it is at most so many times as large as all newer ones of the merge together.
const REACH: u64 = 3;

/// One layer from some key on.
pub(crate) enum Layer<'a> {
    /// In memory.
    Overlay(btree_map::Range<'a, Key, Option<Value>>),
    /// On disk.
    Run(Walk<'a>),
}

impl Layer<'_> {
    fn next(&mut self, cache: &Blocks) -> Result<Option<Entry>, StoreError> {
        match self {
            Layer::Overlay(range) => Ok(range.next().map(|(key, value)| (*key, *value))),
            Layer::Run(walk) => walk.next(cache),
        }
    }
}

/// Rows of several layers, up to some key.
pub(crate) struct Rows<'a> {
    /// Newest first, each with its next entry.
    layers: Vec<(Entry, Layer<'a>)>,
    high: Key,
    cache: &'a Blocks,
}

impl<'a> Rows<'a> {
    /// Nothing yet; rows above `high` are not given.
    pub(crate) fn new(high: Key, cache: &'a Blocks) -> Rows<'a> {
        Rows { layers: Vec::new(), high, cache }
    }

    /// Adds a layer that is older than all that were added before.
    pub(crate) fn add(&mut self, mut layer: Layer<'a>) -> Result<(), StoreError> {
        if let Some(entry) = layer.next(self.cache)?.filter(|(key, _)| *key <= self.high) {
            self.layers.push((entry, layer));
        }
        Ok(())
    }

    /// The next row that is there.
    pub(crate) fn next(&mut self) -> Result<Option<(Key, Value)>, StoreError> {
        loop {
            let newest_least =
                |best: usize, i: usize| if self.layers[i].0.0 < self.layers[best].0.0 { i } else { best };
            let Some(best) = (0..self.layers.len()).reduce(newest_least) else { return Ok(None) };
            let (key, value) = self.layers[best].0;
            self.pass(&key)?;
            if let Some(value) = value {
                return Ok(Some((key, value)));
            }
        }
    }

    /// Moves every layer that stands at `key` on.
    fn pass(&mut self, key: &Key) -> Result<(), StoreError> {
        let mut i = 0;
        while i < self.layers.len() {
            let (entry, layer) = &mut self.layers[i];
            if entry.0 != *key {
                i += 1;
                continue;
            }
            match layer.next(self.cache)?.filter(|(key, _)| *key <= self.high) {
                Some(next) => {
                    *entry = next;
                    i += 1;
                }
                None => drop(self.layers.remove(i)),
            }
        }
        Ok(())
    }
}

/// Which runs, newest first, are to be merged now: the range in `runs`, if any.
pub(crate) fn due(runs: &[Arc<Run>]) -> Option<std::ops::Range<usize>> {
    // A merge may start behind young runs that are still too few.
    (0..runs.len()).find_map(|from| {
        let mut bytes = runs[from].bytes;
        let mut to = from + 1;
        while to < runs.len() && runs[to].bytes <= bytes.saturating_mul(REACH) {
            bytes += runs[to].bytes;
            to += 1;
        }
        (to - from >= FAN_IN).then_some(from..to)
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
    let mut heads: Vec<(Entry, Stream)> = Vec::new();
    for run in runs {
        let mut stream = run.stream();
        if let Some(entry) = stream.next()? {
            heads.push((entry, stream));
        }
    }
    let mut count: u64 = 0;
    while let Some(best) = (0..heads.len()).reduce(|best, i| if heads[i].0.0 < heads[best].0.0 { i } else { best }) {
        let (key, value) = heads[best].0;
        let mut i = 0;
        while i < heads.len() {
            let (entry, stream) = &mut heads[i];
            if entry.0 != key {
                i += 1;
                continue;
            }
            match stream.next()? {
                Some(next) => {
                    *entry = next;
                    i += 1;
                }
                None => drop(heads.remove(i)),
            }
        }
        if value.is_some() || !bottom {
            out.push(&key, value.as_ref())?;
        }
        count += 1;
        if count.is_multiple_of(1 << 12) && stop() {
            return Ok(None);
        }
    }
    Ok(Some(out.finish()?))
}

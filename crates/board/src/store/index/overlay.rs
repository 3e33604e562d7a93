//! What the runs on disk do not have yet, in memory: filled by the writer after each commit, written out as a run when it is large.

use std::collections::{BTreeMap, HashMap};
use std::ops::Bound;

use super::keys::{Key, PointKey, RowValue, Value};

/// What one or more commits changed. Points are never removed; a row that is gone stands here without a value.
#[derive(Default)]
pub(crate) struct Overlay {
    points: HashMap<PointKey, Value>,
    rows: BTreeMap<Key, Option<RowValue>>,
}

/// The changes of a batch that is not on disk yet. Nobody walks its rows.
#[derive(Default)]
pub(crate) struct Changes {
    pub(crate) points: HashMap<PointKey, Value>,
    pub(crate) rows: Vec<(Key, Option<RowValue>)>,
    /// Events that are served more now; less if negative.
    pub(crate) served: i64,
}

impl Overlay {
    /// Entries.
    pub(crate) fn len(&self) -> usize {
        self.points.len() + self.rows.len()
    }

    /// Points among them.
    pub(crate) fn points(&self) -> usize {
        self.points.len()
    }

    /// Adds rows that a batch changed.
    pub(crate) fn add_rows(&mut self, rows: &[(Key, Option<RowValue>)]) {
        self.rows.extend(rows.iter().copied());
    }

    /// Adds points that a batch changed.
    pub(crate) fn add_points(&mut self, points: HashMap<PointKey, Value>) {
        self.points.extend(points);
    }

    /// The value of a point.
    pub(crate) fn point(&self, key: &PointKey) -> Option<Value> {
        self.points.get(key).copied()
    }

    /// Rows from `low` to `high`.
    pub(crate) fn range(
        &self,
        low: (Key, bool),
        high: Key,
    ) -> std::collections::btree_map::Range<'_, Key, Option<RowValue>> {
        let low = if low.1 { Bound::Included(low.0) } else { Bound::Excluded(low.0) };
        self.rows.range((low, Bound::Included(high)))
    }

    /// Everything in the order of the keys. All points come before all rows.
    pub(crate) fn sorted(&self) -> impl Iterator<Item = (Key, Option<Value>)> + '_ {
        let mut points: Vec<(&PointKey, &Value)> = self.points.iter().collect();
        points.sort_unstable_by_key(|(key, _)| **key);
        let points = points.into_iter().map(|(key, value)| (Key::of(&[key]), Some(*value)));
        points.chain(self.rows.iter().map(|(key, value)| (*key, value.map(Value::from))))
    }
}

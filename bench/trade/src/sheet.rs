//! The figures of a run and how they are shown: a row for each, a column for each size.

use std::fmt::Write;

use machine::{Machine, median, percentile};
use serde::Serialize;

use crate::deals::{Bulk, Steps};
use crate::start::Started;

#[derive(Debug, Serialize)]
pub struct Sheet {
    machine: Machine,
    listings: usize,
    /// Of listing one thing, many at a time.
    pub listing_ms: f64,
    /// How many of them a daemon reads, and how long that takes.
    pub listed: usize,
    pub read_listings_ms: f64,
    pub growth: Vec<Growth>,
}

/// What was measured with so many trades in flight.
#[derive(Debug, Serialize)]
pub struct Growth {
    pub trades: usize,
    /// How many of them are new at this size.
    pub more: usize,
    pub bulk: Bulk,
    pub steps: Steps,
    pub start: Started,
}

impl Sheet {
    pub fn new(machine: Machine, listings: usize) -> Sheet {
        Sheet { machine, listings, listing_ms: 0.0, listed: 0, read_listings_ms: 0.0, growth: Vec::new() }
    }

    /// As Markdown.
    pub fn render(&self) -> String {
        let Machine { cpu, cores, kernel, filesystem, fsync_ms, load } = &self.machine;
        let mut text = format!(
            "{cpu}, {cores} cores, Linux {kernel}, {filesystem}; load at the start {load}\n\
             write and fdatasync of 4 KiB, median: {fsync_ms:.2} ms\n\
             {} listings, {:.2} ms each; {} of them read in {:.0} ms\n\n",
            self.listings, self.listing_ms, self.listed, self.read_listings_ms
        );
        let mut line = |name: &str, cell: &dyn Fn(&Growth) -> String| {
            let cells: String = self.growth.iter().map(|growth| format!(" {:>12} |", cell(growth))).collect();
            // Writing to a string cannot fail.
            let _ = writeln!(text, "| {name:<44} |{cells}");
        };
        line("trades in flight", &|g| g.trades.to_string());
        line("---", &|_| "---:".to_owned());
        for (name, values) in STEPS {
            line(&format!("{name}: p50 / p95, ms"), &|g| {
                format!("{:.1} / {:.1}", median(values(&g.steps)), percentile(values(&g.steps), 0.95))
            });
        }
        for (name, value) in BULK {
            line(&format!("16 at a time, {name}: ms each"), &|g| format!("{:.1}", value(&g.bulk)));
        }
        for (name, value) in START {
            line(name, &|g| format!("{:.1}", value(&g.start)));
        }
        text
    }
}

type Of<T, V> = (&'static str, fn(&T) -> V);

const STEPS: [(&str, fn(&Steps) -> &[f64]); 8] = [
    ("bid, answered", |s| &s.bid),
    ("bid, seen by the seller", |s| &s.bid_seen),
    ("accept, answered", |s| &s.accept),
    ("accept, money held", |s| &s.locked),
    ("ship, answered", |s| &s.ship),
    ("ship, seen by the buyer", |s| &s.ship_seen),
    ("release, answered", |s| &s.release),
    ("release, settled on both sides", |s| &s.settled),
];

const BULK: [Of<Bulk, f64>; 3] =
    [("bid seen", |b| b.bid), ("accepted and money held", |b| b.lock), ("shipped and seen", |b| b.ship)];

const START: [Of<Started, f64>; 5] = [
    ("start, until commands are taken: ms", |s| s.open_ms),
    ("start, reading mail after: CPU ms", |s| s.mail_cpu_ms),
    ("memory, resident: MiB", |s| s.rss_mib),
    ("at rest: CPU ms a second", |s| s.rest_cpu_ms),
    ("a block: CPU ms", |s| s.block_cpu_ms),
];

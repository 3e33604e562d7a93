//! How the cost of a query grows with what is stored and with how many are connected.

use std::ops::Range;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Result;
use machine::{median, percentile};

use crate::events::{Event, Stock};
use crate::plot::{Line, svg};
use crate::publish::publish;
use crate::query::{Load, Shape, ask};
use crate::relay::{Relay, Subject};

const CONNECTIONS: [usize; 2] = [100, 5_000];
const SHAPES: [Shape; 3] = [Shape::Id, Shape::Author, Shape::KindAndTag];
const TIME: Duration = Duration::from_secs(2);
const ON_THE_WAY: usize = 4;
/// Events that are signed, published and forgotten together.
const PIECE: usize = 50_000;
/// One in so many events is remembered, for queries to ask about.
const REMEMBERED: usize = 10;

struct Point {
    stored: usize,
    connections: usize,
    shape: Shape,
    p50_ms: f64,
    p99_ms: f64,
    per_sec: f64,
    cpu_us: f64,
}

impl Point {
    /// As a row of the table.
    fn row(&self) -> String {
        let Point { stored, connections, p50_ms, p99_ms, per_sec, cpu_us, .. } = self;
        let name = self.shape.name();
        format!("| {name} | {stored} | {connections} | {p50_ms:.3} | {p99_ms:.3} | {per_sec:.0} | {cpu_us:.1} |")
    }
}

/// What was found.
pub struct Growth {
    loads: Vec<String>,
    points: Vec<Point>,
}

pub fn growth(subject: &Subject, dir: &Path, sizes: &[usize]) -> Result<Growth> {
    let relay = Relay::start(subject, dir)?;
    let (mut stock, mut remembered) = (Stock::new()?, Vec::new());
    let (mut loads, mut points, mut stored) = (Vec::new(), Vec::new(), 0);
    for &size in sizes {
        loads.push(grow(&relay, &mut stock, &mut remembered, stored..size)?);
        stored = size;
        for connections in CONNECTIONS {
            for shape in SHAPES {
                let load = Load { connections, on_the_way: ON_THE_WAY, time: TIME };
                let asked = ask(&relay, shape, &remembered, load)?;
                let (p50_ms, p99_ms) = (median(&asked.answer_ms), percentile(&asked.answer_ms, 0.99));
                let (per_sec, cpu_us) = (asked.per_sec(), asked.cpu_us());
                let point = Point { stored, connections, shape, p50_ms, p99_ms, per_sec, cpu_us };
                eprintln!("{}", point.row());
                points.push(point);
            }
        }
    }
    let stop = Instant::now();
    relay.stop()?;
    let again = Instant::now();
    let relay = Relay::start(subject, dir)?;
    let (stop, start) = ((again - stop).as_secs_f64() * 1e3, again.elapsed().as_secs_f64() * 1e3);
    loads.push(format!("stopped in {stop:.0} ms, started again with all of them in {start:.0} ms"));
    relay.stop()?;
    Ok(Growth { loads, points })
}

/// Publishes so many more; says how that went. Signing is not in the figures.
fn grow(relay: &Relay, stock: &mut Stock, remembered: &mut Vec<Event>, more: Range<usize>) -> Result<String> {
    let (mut secs, mut cpu_us, mut left) = (0.0, 0.0, more.len());
    while left > 0 {
        let events: Vec<Event> = stock.by_ref().take(left.min(PIECE)).collect();
        let published = publish(relay, &events, 8, 32)?;
        secs += published.secs;
        cpu_us += published.cpu_us * events.len() as f64;
        left -= events.len();
        eprintln!("{} of {} events", more.end - left, more.end);
        remembered.extend(events.into_iter().step_by(REMEMBERED));
    }
    let (count, memory) = (more.len() as f64, relay.usage()?.anonymous_kib / 1024.0);
    let (rate, cpu_us) = (count / secs, cpu_us / count);
    Ok(format!("{} to {}: {rate:.0} events/s, {cpu_us:.1} us of CPU each, then {memory:.0} MiB", more.start, more.end))
}

impl Growth {
    /// As Markdown.
    pub fn render(&self) -> String {
        let mut text = self.loads.join("\n") + "\n\n";
        text += "| REQ | events stored | connections | p50, ms | p99, ms | requests/s | server CPU, us/request |\n";
        text += "|---|---:|---:|---:|---:|---:|---:|\n";
        for shape in SHAPES {
            for point in self.points.iter().filter(|point| point.shape == shape) {
                text += &point.row();
                text.push('\n');
            }
        }
        text
    }

    /// The CPU time of a request over what is stored, as SVG: a line for each shape and number of connections.
    pub fn plot(&self) -> String {
        let mut lines = Vec::new();
        for (color, shape) in SHAPES.into_iter().enumerate() {
            for connections in CONNECTIONS {
                let here = |point: &&Point| point.shape == shape && point.connections == connections;
                let points = self.points.iter().filter(here).map(|point| (point.stored as f64, point.cpu_us)).collect();
                let name = format!("{}; {connections} connections", shape.name());
                lines.push(Line { name, color, dashed: connections != CONNECTIONS[0], points });
            }
        }
        svg("server CPU of a request, microseconds", "events stored", &lines)
    }
}

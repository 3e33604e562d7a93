//! The figures of a run and how they are shown: a row for each, a column for each relay, and the ratio of the first to the
//! others.

use std::fmt::Write;

use machine::{Machine, median, percentile};
use serde::Serialize;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Better {
    More,
    Less,
}

#[derive(Debug, Serialize)]
struct Row {
    name: String,
    better: Better,
    /// In the order of the relays.
    values: Vec<Option<f64>>,
}

#[derive(Debug, Serialize)]
pub struct Sheet {
    pub machine: Machine,
    /// Of one signature, before and after everything else, in microseconds.
    pub signature_check_us: [f64; 2],
    /// Sentences about the whole.
    pub remarks: Vec<String>,
    relays: Vec<String>,
    rows: Vec<Row>,
}

impl Sheet {
    pub fn new(machine: Machine, relays: Vec<String>) -> Sheet {
        Sheet { machine, signature_check_us: [f64::NAN; 2], remarks: Vec::new(), relays, rows: Vec::new() }
    }

    /// Where the figures of a relay go.
    pub fn column(&mut self, number: usize) -> Column<'_> {
        Column { sheet: self, number }
    }

    /// What the reader should know before the figures.
    pub fn head(&self) -> String {
        let Machine { cpu, cores, kernel, filesystem, fsync_ms, load } = &self.machine;
        let [before, after] = self.signature_check_us;
        let mut lines = vec![
            format!("{cpu}, {cores} cores, Linux {kernel}, {filesystem}; load at the start {load}"),
            format!("write and fdatasync of 4 KiB, median: {fsync_ms:.2} ms"),
            format!("one signature check: {before:.1} us before, {after:.1} us after"),
        ];
        lines.extend(self.remarks.iter().cloned());
        lines.join("\n") + "\n"
    }

    /// As Markdown.
    pub fn render(&self) -> String {
        let mut text = self.head();
        let mut line = |words: String| {
            // Writing to a string cannot fail.
            let _ = writeln!(text, "{words}");
        };
        line(String::new());
        let width = self.rows.iter().map(|row| row.name.len()).max().unwrap_or(0).max(6);
        let (mut head, mut rule) = (format!("| {:<width$} |", "figure"), format!("|{:-<1$}|", "", width + 2));
        for (number, relay) in self.relays.iter().enumerate() {
            let _ = write!(
                head,
                " {relay:>10} |{}",
                if number > 0 { format!(" {:>7} |", "better") } else { String::new() }
            );
            rule += if number > 0 { "-----------:|--------:|" } else { "-----------:|" };
        }
        line(head);
        line(rule);
        for row in &self.rows {
            line(format!("| {:<width$} |{}", row.name, row.cells()));
        }
        text
    }
}

impl Row {
    fn cells(&self) -> String {
        let mut cells = String::new();
        let first = self.values.first().copied().flatten();
        for (number, value) in self.values.iter().enumerate() {
            let shown = value.map_or("-".into(), shown);
            let _ = write!(cells, " {shown:>10} |");
            if number > 0 {
                let ratio = first.zip(*value).map(|(ours, theirs)| match self.better {
                    Better::More => ours / theirs,
                    Better::Less => theirs / ours,
                });
                let ratio = ratio.filter(|ratio| ratio.is_finite()).map_or("-".into(), |r| format!("{r:.1}x"));
                let _ = write!(cells, " {ratio:>7} |");
            }
        }
        cells
    }
}

/// Three digits at least.
fn shown(value: f64) -> String {
    match value.abs() {
        small if small < 1.0 => format!("{value:.3}"),
        small if small < 100.0 => format!("{value:.2}"),
        _ => format!("{value:.0}"),
    }
}

/// The figures of one relay.
pub struct Column<'a> {
    sheet: &'a mut Sheet,
    number: usize,
}

impl Column<'_> {
    pub fn note(&mut self, name: impl Into<String>, better: Better, value: f64) {
        let (name, relays) = (name.into(), self.sheet.relays.len());
        let at = self.sheet.rows.iter().position(|row| row.name == name).unwrap_or_else(|| {
            self.sheet.rows.push(Row { name, better, values: vec![None; relays] });
            self.sheet.rows.len() - 1
        });
        self.sheet.rows[at].values[self.number] = Some(value);
    }

    /// Median and 99th percentile of times in milliseconds.
    pub fn percentiles(&mut self, name: &str, values: &[f64]) {
        self.note(format!("{name} p50, ms"), Better::Less, median(values));
        self.note(format!("{name} p99, ms"), Better::Less, percentile(values, 0.99));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ratios_say_how_much_better_the_first_is() {
        let row = |better, ours, theirs| Row { name: String::new(), better, values: vec![Some(ours), Some(theirs)] };
        assert_eq!(row(Better::More, 600.0, 200.0).cells(), "        600 |        200 |    3.0x |");
        assert_eq!(row(Better::Less, 2.0, 1.0).cells(), "       2.00 |       1.00 |    0.5x |");
    }
}

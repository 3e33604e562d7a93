//! The outcome for people, as a Markdown table.

use std::fmt::Write;

use work::Figure;

use crate::{Outcome, Subject};

pub fn render(outcome: &Outcome) -> String {
    let mut text = String::new();
    let machine = &outcome.machine;
    let mut line = |words: String| {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{words}");
    };
    line(format!(
        "{}, {} cores, Linux {}, {}; write and fdatasync of 4 KiB: {:.2} ms; load at the start {}",
        machine.cpu, machine.cores, machine.kernel, machine.filesystem, machine.fsync_ms, machine.load
    ));
    line(format!("medians of {} rounds; {}", outcome.rounds, outcome.amount));
    line(String::new());
    line(format!("| {:<36} | {:>9} | {:>9} | {:>7} |", "figure", "ours", "ldk-node", "better"));
    line(format!("|{:-<38}|{:->11}|{:->11}|{:->9}|", "", ":", ":", ":"));
    let value = |subject, figure| outcome.figures.get(&subject).and_then(|figures| figures.get(&figure)).copied();
    let show = |value: Option<f64>| value.map_or("-".to_owned(), |value| format!("{value:.1}"));
    for figure in Figure::ALL {
        let (ours, theirs) = (value(Subject::Ours, figure), value(Subject::LdkNode, figure));
        let ratio =
            ours.zip(theirs).map(|(ours, theirs)| if figure.more_is_better() { ours / theirs } else { theirs / ours });
        let ratio = ratio.map_or("-".to_owned(), |ratio| format!("{ratio:.1}x"));
        line(format!("| {:<36} | {:>9} | {:>9} | {ratio:>7} |", figure.name(), show(ours), show(theirs)));
    }
    line(String::new());
    for (subject, count) in &outcome.again {
        line(format!("{subject:?}: {count} times a payment found no slot in the channel and was tried again"));
    }
    text
}

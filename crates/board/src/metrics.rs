//! The board's numbers in the text format of Prometheus (exposition format 0.0.4).

use std::fmt::{Display, Write as _};

use crate::BoardStats;
use crate::server::Shared;

/// The media type of the text.
pub const MEDIA_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// What Prometheus takes a number for.
#[derive(Clone, Copy)]
enum Kind {
    Counter,
    Gauge,
}

/// A text of metrics in the making. Labels and names are our own and need no escaping.
struct Page(String);

impl Page {
    fn head(&mut self, name: &str, kind: Kind, help: &str) {
        let kind = match kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
        };
        self.line(format_args!("# HELP souk_board_{name} {help}"));
        self.line(format_args!("# TYPE souk_board_{name} {kind}"));
    }

    fn line(&mut self, line: impl Display) {
        // Writing to a string cannot fail.
        if writeln!(self.0, "{line}").is_err() {
            tracing::error!("a metric was not written");
        }
    }

    fn one(&mut self, name: &str, kind: Kind, help: &str, value: u64) {
        self.head(name, kind, help);
        self.line(format_args!("souk_board_{name} {value}"));
    }

    fn by<'a>(
        &mut self,
        name: &str,
        kind: Kind,
        help: &str,
        label: &str,
        values: impl IntoIterator<Item = (&'a str, u64)>,
    ) {
        self.head(name, kind, help);
        for (key, value) in values {
            self.line(format_args!("souk_board_{name}{{{label}=\"{key}\"}} {value}"));
        }
    }
}

/// All metrics.
pub(crate) fn text(stats: &BoardStats, shared: &Shared) -> String {
    use Kind::{Counter, Gauge};
    let mut page = Page(String::with_capacity(8 * 1024));
    page.one("connections", Gauge, "Connections now.", stats.connections);
    page.one("clients_total", Counter, "Clients that came.", stats.came);
    page.one("subscriptions", Gauge, "Live subscriptions now.", stats.subscriptions);
    page.one(
        "slow_readers_total",
        Counter,
        "Clients that were dropped because they read too slowly.",
        stats.slow_readers,
    );
    let traffic = &stats.traffic;
    let frames = [("in", traffic.frames_in), ("out", traffic.frames_out)];
    page.by("frames_total", Counter, "WebSocket frames.", "direction", frames);
    let bytes = [("in", traffic.bytes_in), ("out", traffic.bytes_out)];
    page.by("bytes_total", Counter, "Bytes of WebSocket frames.", "direction", bytes);
    let fates =
        [("accepted", stats.accepted), ("known", stats.known), ("refused", stats.refused), ("failed", stats.failed)];
    page.by("events_total", Counter, "Events that were published, by fate.", "fate", fates);
    let rules = shared.counts.by_rule();
    let rules = rules.iter().map(|(rule, count)| (*rule, *count));
    page.by("refused_total", Counter, "Events that were refused, by rule.", "rule", rules);
    page.one("in_flight", Gauge, "Events whose fate is open.", shared.counts.in_flight());
    page.one(
        "query_turns_free",
        Gauge,
        "Turns of stored answers that could run now.",
        shared.turns.available_permits() as u64,
    );
    page.one(
        "query_waits_total",
        Counter,
        "Times that a question waited since its address had used up its share.",
        shared.counters.waits(),
    );
    let store = &stats.store;
    page.one("store_events", Gauge, "Events that are served.", store.events);
    page.one("store_log_bytes", Gauge, "Bytes of the log.", store.log_bytes);
    page.one("store_index_bytes", Gauge, "Bytes of the index.", store.index_bytes);
    page.one("store_frames", Gauge, "Frames of the log.", store.frames);
    page.one("store_commits_total", Counter, "Group commits, one fsync each.", store.commits);
    page.one("store_damaged_reads_total", Counter, "Reads that met a damaged frame.", store.damaged_reads);
    page.one("store_fault", Gauge, "1 while no events are taken.", u64::from(shared.store.fault().is_some()));
    page.0
}

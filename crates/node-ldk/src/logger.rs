//! LDK's log records as tracing events with target `ldk`, one level quieter than LDK thinks of itself.

use lightning::util::logger::{Level, Logger, Record};

/// Hands LDK's log to [`tracing`]: error and warn stay, info and debug become debug, trace and gossip become trace.
/// LDK logs payment hashes, peers and channels, never secrets or invoices.
#[derive(Clone, Copy, Debug, Default)]
pub struct TracingLogger;

impl Logger for TracingLogger {
    fn log(&self, record: Record<'_>) {
        macro_rules! event {
            ($level:ident) => {
                tracing::event!(
                    target: "ldk",
                    tracing::Level::$level,
                    module = record.module_path,
                    line = record.line,
                    channel = record.channel_id.map(tracing::field::display),
                    peer = record.peer_id.map(tracing::field::display),
                    "{}",
                    record.args
                )
            };
        }
        match record.level {
            Level::Error => event!(ERROR),
            Level::Warn => event!(WARN),
            Level::Info | Level::Debug => event!(DEBUG),
            Level::Trace | Level::Gossip => event!(TRACE),
        }
    }
}

//! LDK's [`Persist`] on the writer's queue, and its `KVStore` for the sweeper.
//!
//! [`Monitors::enqueue`] sees every monitor and every update of it, in order: a watchtower feed and the static channel
//! backup belong there.

use std::sync::{Arc, Mutex, PoisonError};

use lightning::chain::ChannelMonitorUpdateStatus;
use lightning::chain::chainmonitor::Persist;
use lightning::chain::channelmonitor::{ChannelMonitor, ChannelMonitorUpdate};
use lightning::io;
use lightning::sign::ecdsa::EcdsaChannelSigner;
use lightning::util::async_poll::AsyncResult;
use lightning::util::persist::{KVStore, MonitorName};
use lightning::util::ser::Writeable;

use crate::store::{Change, Store};
use crate::writer::Writer;

/// Every so many updates the whole monitor is written and the updates are dropped.
const FULL_EVERY: u64 = 100;
/// Update id of a close in the format before LDK 0.1: not in sequence, so never written as a step.
const LEGACY_CLOSE: u64 = u64::MAX;

/// Hands monitors to the writer and lets LDK go on meanwhile.
pub(crate) struct Monitors {
    writer: Writer,
    /// They are of channels that the channel manager does not know ([`crate::salvage`]): each is written whole, and nobody waits for it.
    past: bool,
}

impl Monitors {
    pub(crate) fn new(writer: Writer) -> Monitors {
        Monitors { writer, past: false }
    }

    pub(crate) fn of_the_past(writer: Writer) -> Monitors {
        Monitors { writer, past: true }
    }

    fn enqueue<S: EcdsaChannelSigner>(
        &self,
        name: MonitorName,
        update: Option<&ChannelMonitorUpdate>,
        monitor: &ChannelMonitor<S>,
        answer: Option<u64>,
    ) -> ChannelMonitorUpdateStatus {
        let name = name.to_string();
        if self.past {
            let key = format!("{}{name}", crate::salvage::MONITOR);
            self.writer.put(Change::Blob { key, value: monitor.encode() });
            return ChannelMonitorUpdateStatus::Completed;
        }
        let step = update.filter(|update| update.update_id != LEGACY_CLOSE && update.update_id % FULL_EVERY != 0);
        let change = match step {
            Some(update) => Change::MonitorUpdate { name, update_id: update.update_id, bytes: update.encode() },
            None => Change::Monitor { name, update_id: monitor.get_latest_update_id(), bytes: monitor.encode() },
        };
        self.writer.put_monitor(change, answer.map(|update_id| (monitor.channel_id(), update_id)));
        ChannelMonitorUpdateStatus::InProgress
    }
}

impl<S: EcdsaChannelSigner> Persist<S> for Monitors {
    fn persist_new_channel(&self, name: MonitorName, monitor: &ChannelMonitor<S>) -> ChannelMonitorUpdateStatus {
        self.enqueue(name, None, monitor, Some(monitor.get_latest_update_id()))
    }

    fn update_persisted_channel(
        &self,
        name: MonitorName,
        update: Option<&ChannelMonitorUpdate>,
        monitor: &ChannelMonitor<S>,
    ) -> ChannelMonitorUpdateStatus {
        // Without an update (a block went by, or the monitor refused the update) LDK must not be answered.
        self.enqueue(name, update, monitor, update.map(|update| update.update_id))
    }

    fn archive_persisted_channel(&self, name: MonitorName) {
        let name = name.to_string();
        let past = || Change::RemoveBlob { key: format!("{}{name}", crate::salvage::MONITOR) };
        self.writer.put(if self.past { past() } else { Change::ArchiveMonitor { name: name.clone() } });
    }
}

/// LDK's key-value store: writes go through the writer, reads through the shared reading connection.
#[derive(Clone)]
pub(crate) struct Blobs {
    pub(crate) writer: Writer,
    pub(crate) reader: Arc<Mutex<Store>>,
}

fn key(primary: &str, secondary: &str, key: &str) -> String {
    format!("kv/{primary}/{secondary}/{key}")
}

impl Blobs {
    fn commit(&self, change: Change) -> AsyncResult<'static, (), io::Error> {
        // Queued before the future is first polled: LDK relies on the order of the calls.
        self.writer.put(change);
        let writer = self.writer.clone();
        Box::pin(async move {
            writer.flushed().await.map_err(|error| io::Error::new(io::ErrorKind::Other, error.to_string()))
        })
    }
}

impl KVStore for Blobs {
    fn read(&self, primary: &str, secondary: &str, name: &str) -> AsyncResult<'static, Vec<u8>, io::Error> {
        let found = self.reader.lock().unwrap_or_else(PoisonError::into_inner).blob(&key(primary, secondary, name));
        Box::pin(std::future::ready(match found {
            Ok(Some(bytes)) => Ok(bytes),
            Ok(None) => Err(io::ErrorKind::NotFound.into()),
            Err(error) => Err(io::Error::new(io::ErrorKind::Other, error.to_string())),
        }))
    }

    fn write(&self, primary: &str, secondary: &str, name: &str, value: Vec<u8>) -> AsyncResult<'static, (), io::Error> {
        self.commit(Change::Blob { key: key(primary, secondary, name), value })
    }

    fn remove(&self, primary: &str, secondary: &str, name: &str, _lazy: bool) -> AsyncResult<'static, (), io::Error> {
        self.commit(Change::RemoveBlob { key: key(primary, secondary, name) })
    }

    fn list(&self, primary: &str, secondary: &str) -> AsyncResult<'static, Vec<String>, io::Error> {
        let prefix = key(primary, secondary, "");
        let found = self.reader.lock().unwrap_or_else(PoisonError::into_inner).blob_keys(&prefix);
        Box::pin(std::future::ready(match found {
            Ok(keys) => Ok(keys.iter().filter_map(|key| key.strip_prefix(&prefix)).map(str::to_owned).collect()),
            Err(error) => Err(io::Error::new(io::ErrorKind::Other, error.to_string())),
        }))
    }
}

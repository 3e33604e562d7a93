//! What runs beside the verbs: LDK's events and messages, the clocks, and the reaction to blocks.

use std::sync::{Arc, PoisonError};
use std::time::Duration;

use lightning::ln::msgs::{OnionMessageHandler, SocketAddress};
use lightning::routing::scoring::ScoreUpdate;
use lightning::util::ser::Writeable;
use tokio::time::{Instant, Interval, MissedTickBehavior, interval_at};

use crate::core::{Core, unix_now};
use crate::store::{Change, blob};

/// Pause before HTLCs that LDK could not yet process are tried again. LDK also says so of every payment in flight that it may
/// still retry, so this must not be a busy loop.
const HTLC_RETRY: Duration = Duration::from_millis(100);
const PING: Duration = Duration::from_secs(10);
const FRESHNESS: Duration = Duration::from_secs(60);
const REBROADCAST: Duration = Duration::from_secs(30);
const SCORER_SAVE: Duration = Duration::from_secs(5 * 60);
const GRAPH_SAVE: Duration = Duration::from_secs(60 * 60);
const ANNOUNCE: Duration = Duration::from_secs(60);
/// The first announcement needs no other hurry than this.
const ANNOUNCE_AGAIN: Duration = Duration::from_secs(60 * 60);
/// Colour that our node asks to be drawn in.
const RGB: [u8; 3] = [0xe0, 0x7a, 0x2f];

impl Core {
    /// LDK's events and messages, as soon as there are any.
    pub(crate) async fn follow_ldk(self: Arc<Self>) {
        loop {
            self.process().await;
            if self.manager.needs_pending_htlc_processing() {
                if !self.config.htlc_batch_delay.is_zero() {
                    tokio::time::sleep(self.config.htlc_batch_delay).await;
                }
                self.manager.process_pending_htlc_forwards();
                self.process().await;
            }
            if self.manager.get_and_clear_needs_persistence() {
                self.writer.manager_changed();
            }
            tokio::select! {
                () = self.manager.get_event_or_persistence_needed_future() => {}
                () = self.chain_monitor.get_update_future() => {}
                () = self.salvage_news() => {}
                () = self.messenger.get_update_future() => {}
                () = self.htlcs_again() => {}
            }
        }
    }

    /// Monitors of the past have something to tell.
    async fn salvage_news(&self) {
        match &self.salvage {
            Some(salvage) => salvage.set().get_update_future().await,
            None => std::future::pending().await,
        }
    }

    /// LDK may want HTLCs processed that it could not process just now; it does not wake anybody for that.
    async fn htlcs_again(&self) {
        if self.manager.needs_pending_htlc_processing() {
            tokio::time::sleep(HTLC_RETRY).await;
        } else {
            std::future::pending::<()>().await;
        }
    }

    /// One round of events and messages.
    pub(crate) async fn process(&self) {
        self.manager.process_pending_events_async(|event| self.handle(event)).await;
        self.chain_monitor.process_pending_events_async(|event| self.handle(event)).await;
        self.process_salvage().await;
        self.messenger.process_pending_events_async(|event| Box::pin(self.handle(event))).await;
        self.peer_manager.process_events();
    }

    /// Heights, as the chain source reports them.
    pub(crate) async fn follow_tip(self: Arc<Self>) {
        let mut tip = self.tip.clone();
        while tip.changed().await.is_ok() {
            let height = *tip.borrow_and_update();
            self.on_tip(height);
            self.process_salvage().await;
            self.sweep().await;
        }
    }

    /// Everything that LDK wants to be told of by the clock.
    pub(crate) async fn follow_clock(self: Arc<Self>) {
        let (mut ping, mut freshness, mut rebroadcast) = (every(PING), every(FRESHNESS), every(REBROADCAST));
        let (mut scorer, mut graph, mut announce) = (every(SCORER_SAVE), every(GRAPH_SAVE), every(ANNOUNCE));
        let mut announced: Option<Instant> = None;
        loop {
            tokio::select! {
                _ = ping.tick() => {
                    self.peer_manager.timer_tick_occurred();
                    self.messenger.timer_tick_occurred();
                    self.lapse();
                }
                _ = freshness.tick() => self.manager.timer_tick_occurred(),
                _ = rebroadcast.tick() => {
                    self.chain_monitor.rebroadcast_pending_claims();
                    if let Some(salvage) = &self.salvage {
                        salvage.set().rebroadcast_pending_claims();
                    }
                    self.sweep().await;
                }
                _ = scorer.tick() => self.save_scorer(),
                _ = graph.tick() => {
                    self.graph.remove_stale_channels_and_tracking_with_time(unix_now().0);
                    self.chain_monitor.archive_fully_resolved_channel_monitors();
                    if let Some(salvage) = &self.salvage {
                        salvage.set().archive_fully_resolved_channel_monitors();
                    }
                    self.save_graph();
                }
                _ = announce.tick() => {
                    if announced.is_none_or(|at| at.elapsed() > ANNOUNCE_AGAIN) && self.announce_node() {
                        announced = Some(Instant::now());
                    }
                }
            }
        }
    }

    /// Tells the network who we are, once there is a public channel that makes it listen.
    pub(crate) fn announce_node(&self) -> bool {
        let channels = self.manager.list_channels();
        let public = channels.iter().any(|channel| channel.is_announced && channel.is_channel_ready);
        let addresses: Vec<SocketAddress> = self.addresses().into_iter().map(SocketAddress::from).collect();
        if !public || addresses.is_empty() {
            return false;
        }
        let mut alias = [0; 32];
        let name = self.config.alias.as_bytes();
        // Cut at a character, not inside one.
        let length = (0..=name.len().min(32)).rev().find(|end| self.config.alias.is_char_boundary(*end)).unwrap_or(0);
        alias[..length].copy_from_slice(&name[..length]);
        self.peer_manager.broadcast_node_announcement(RGB, alias, addresses);
        true
    }

    /// Where peers find us.
    pub(crate) fn addresses(&self) -> Vec<std::net::SocketAddr> {
        if self.config.announce.is_empty() {
            return self.bound.lock().unwrap_or_else(PoisonError::into_inner).clone();
        }
        self.config.announce.clone()
    }

    pub(crate) fn save_scorer(&self) {
        let mut scorer = self.scorer.write().unwrap_or_else(PoisonError::into_inner);
        scorer.time_passed(Duration::from_secs(unix_now().0));
        self.writer.put(Change::Blob { key: blob::SCORER.into(), value: scorer.encode() });
    }

    pub(crate) fn save_graph(&self) {
        self.writer.put(Change::Blob { key: blob::NETWORK_GRAPH.into(), value: self.graph.encode() });
    }
}

fn every(period: Duration) -> Interval {
    let mut interval = interval_at(Instant::now() + period, period);
    interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
    interval
}

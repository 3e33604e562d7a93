//! The operator's side of a running board: who is connected, what they asked for, and what to do about it.

use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;
use units::{Unix, hex32};
use wire::{Event, Limits, RawEvent};

use crate::BoardStats;
use crate::admission::Policy;
use crate::clients::{Client, Order, Report, SubscriptionView, Traffic};
use crate::decisions::{Decision, Decisions, DecisionsError};
use crate::management;
use crate::metrics;
use crate::origin::counted;
use crate::server::Shared;
use crate::store::{self, Admitted, Outcome, StoreError, Write};
use crate::sync::{Direction, SyncReport};
use crate::syncing::{self, SyncError};
use crate::transfer::{self, Door, Exported, Imported};

/// How long connections have to report. One that is stuck on a slow reader is listed without.
const REPORT_WITHIN: Duration = Duration::from_secs(1);
/// Longest notice, in bytes.
const NOTICE_MAX: usize = 1000;

/// A connected client as the operator sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ClientView {
    /// Its number: in order of coming, never given again.
    pub number: u64,
    /// Where from.
    pub address: IpAddr,
    /// Since when.
    pub since: Unix,
    /// Keys that authenticated (NIP-42), hex.
    pub keys: Vec<String>,
    /// Subscriptions and counts under way.
    pub subscriptions: u64,
    /// Events whose fate is open.
    pub in_flight: u64,
    /// What went over the connection.
    #[serde(flatten)]
    pub traffic: Traffic,
    /// It did not say in time how it stands: its reader is slow, and `keys` and `subscriptions` are not known.
    pub stuck: bool,
}

/// Names connections: one by its number, or all from one address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Whom {
    /// The client with this number.
    Number(u64),
    /// All from there; of IPv6, `2001:db8:1:2::` is all of that network.
    Address(IpAddr),
    /// Everybody.
    All,
}

impl FromStr for Whom {
    type Err = String;

    fn from_str(text: &str) -> Result<Whom, String> {
        match (text, text.parse(), text.parse()) {
            ("all", _, _) => Ok(Whom::All),
            (_, Ok(number), _) => Ok(Whom::Number(number)),
            (_, _, Ok(address)) => Ok(Whom::Address(address)),
            _ => Err(format!("{text:?} is neither the number of a client, nor an address, nor \"all\"")),
        }
    }
}

impl fmt::Display for Whom {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Whom::Number(number) => number.fmt(f),
            Whom::Address(address) => address.fmt(f),
            Whom::All => f.write_str("all"),
        }
    }
}

impl Whom {
    fn is(self, client: &Client) -> bool {
        match self {
            Whom::Number(number) => client.number == number,
            Whom::Address(address) => {
                let address = address.to_canonical();
                client.address == address || counted(client.address) == Some(address)
            }
            Whom::All => true,
        }
    }
}

/// What the operator asked for was not done.
#[derive(Debug, thiserror::Error)]
pub enum OperatorError {
    /// It cannot be kept.
    #[error(transparent)]
    Decisions(#[from] DecisionsError),
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The store did not keep it.
    #[error("{0}")]
    Failed(String),
    /// The board is closing.
    #[error("the board is closing")]
    Closing,
}

/// A handle on a running board. Clones are the same board.
#[derive(Clone)]
pub struct Operator {
    shared: Arc<Shared>,
}

impl Operator {
    pub(crate) fn new(shared: Arc<Shared>) -> Operator {
        Operator { shared }
    }

    /// Numbers.
    pub fn stats(&self) -> BoardStats {
        let (shared, counts) = (&self.shared, &self.shared.counts);
        let (came, traffic) = shared.clients.totals();
        BoardStats {
            connections: shared.addresses.len() as u64,
            subscriptions: shared.live.len() as u64,
            accepted: counts.accepted.load(Ordering::Relaxed),
            known: counts.known.load(Ordering::Relaxed),
            refused: counts.refused.load(Ordering::Relaxed),
            failed: counts.failed.load(Ordering::Relaxed),
            slow_readers: shared.counters.slow_readers(),
            came,
            traffic,
            store: shared.store.stats(),
        }
    }

    /// Why the board takes no more events, if so.
    pub fn fault(&self) -> Option<String> {
        self.shared.store.fault()
    }

    /// The same numbers and more in the text format of Prometheus.
    pub fn metrics(&self) -> String {
        metrics::text(&self.stats(), &self.shared)
    }

    /// Everybody who is connected, in order of coming.
    pub async fn clients(&self) -> Vec<ClientView> {
        let reports = self.reports(Whom::All).await;
        let view = |(client, report): (Arc<Client>, Option<Report>)| {
            let stuck = report.is_none();
            let Report { keys, subscriptions } = report.unwrap_or_default();
            ClientView {
                number: client.number,
                address: client.address,
                since: client.since,
                keys: keys.iter().map(hex32).collect(),
                subscriptions: subscriptions.len() as u64,
                in_flight: client.outlet.in_flight() as u64,
                traffic: client.traffic(),
                stuck,
            }
        };
        reports.into_iter().map(view).collect()
    }

    /// The subscriptions of these clients.
    pub async fn subscriptions(&self, of: Whom) -> Vec<SubscriptionView> {
        let reports = self.reports(of).await;
        reports.into_iter().filter_map(|(_, report)| report).flat_map(|report| report.subscriptions).collect()
    }

    async fn reports(&self, of: Whom) -> Vec<(Arc<Client>, Option<Report>)> {
        let ask = |client: Arc<Client>| {
            let (told, report) = oneshot::channel();
            let asked = client.order(Order::Report(told));
            (client, asked.then_some(report))
        };
        let clients = self.shared.clients.all().into_iter().filter(|client| of.is(client));
        let asked: Vec<_> = clients.map(ask).collect();
        let until = tokio::time::Instant::now() + REPORT_WITHIN;
        let mut reports = Vec::with_capacity(asked.len());
        for (client, report) in asked {
            let report = match report {
                Some(report) => tokio::time::timeout_at(until, report).await.ok().and_then(Result::ok),
                None => None,
            };
            reports.push((client, report));
        }
        reports
    }

    /// Ends connections. Gives how many.
    pub fn disconnect(&self, whom: Whom) -> u64 {
        self.order(whom, || Order::End("the operator ended the connection"))
    }

    /// Tells clients something (`NOTICE`), cut to 1000 bytes. Gives how many.
    pub fn notice(&self, whom: Whom, text: &str) -> u64 {
        let text: Arc<str> = text[..text.floor_char_boundary(NOTICE_MAX)].into();
        self.order(whom, || Order::Notice(text.clone()))
    }

    fn order(&self, whom: Whom, order: impl Fn() -> Order) -> u64 {
        let clients = self.shared.clients.all();
        clients.iter().filter(|client| whom.is(client) && client.order(order())).count() as u64
    }

    /// The keys that may manage the board over HTTP (NIP-86).
    pub fn keys(&self) -> &[[u8; 32]] {
        &self.shared.config.operators
    }

    pub(crate) fn management_urls(&self) -> Vec<String> {
        management::urls(&self.shared.urls)
    }

    pub(crate) fn now(&self) -> Unix {
        (self.shared.clock)()
    }

    /// What is taken now.
    pub fn policy(&self) -> Arc<Policy> {
        self.shared.policy.get()
    }

    /// The policy as it was written: what is taken besides depends on the decisions.
    pub fn written_policy(&self) -> Policy {
        self.shared.standing.base()
    }

    /// Has the policy in `text` (TOML) hold from now on and after a restart. Errors name it `name`; nothing changes then.
    pub async fn set_policy(&self, text: String, name: PathBuf) -> Result<(), OperatorError> {
        let shared = self.shared.clone();
        let set = tokio::task::spawn_blocking(move || shared.standing.set(&text, &name, &shared.policy));
        Ok(set.await.map_err(|_| OperatorError::Closing)??)
    }

    /// Reads the policy again that was set earlier; where none was, `configured` holds from now on.
    pub fn reload_policy(&self, configured: Policy) -> Result<(), OperatorError> {
        Ok(self.shared.standing.reload(configured, &self.shared.policy)?)
    }

    /// What the operator decided while the board ran.
    pub fn decisions(&self) -> Decisions {
        self.shared.standing.decisions()
    }

    /// Decides something, durably, and acts on it at once. An event is taken down in the log as well.
    pub async fn decide(&self, decision: Decision) -> Result<(), OperatorError> {
        if let Decision::BanEvent { id, reason } = &decision {
            match self.take_down(*id, reason).await? {
                Outcome::Failed(why) => return Err(OperatorError::Failed(why)),
                Outcome::Stored | Outcome::Passed | Outcome::Known(_) | Outcome::Spent { .. } => {}
            }
        }
        let (shared, decided) = (self.shared.clone(), decision.clone());
        let kept =
            tokio::task::spawn_blocking(move || shared.standing.decide(decided, (shared.clock)(), &shared.policy));
        kept.await.map_err(|_| OperatorError::Closing)??;
        match decision {
            Decision::BanAddress { address, .. } => {
                self.order(Whom::Address(address), || Order::End("this address is shut out by the operator"));
            }
            Decision::BanAuthor { author, .. } => {
                for (client, report) in self.reports(Whom::All).await {
                    if report.is_some_and(|report| report.keys.contains(&author)) {
                        client.order(Order::End("this key is shut out by the operator"));
                    }
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// Publishes an event of the board's own: no rule is asked, and nothing is paid. The caller has signed it.
    pub async fn say(&self, event: &Event) -> Result<Outcome, OperatorError> {
        let json = event.to_json();
        let raw =
            RawEvent::parse(json.as_bytes(), &Limits::RELAY).map_err(|why| OperatorError::Failed(why.to_string()))?;
        let admitted = Admitted::new(&raw, (self.shared.clock)());
        self.submit(|reply| Write::Event { admitted, reply }).await
    }

    /// Takes an event down, whether it is here already or not. The log notes it with the reason.
    pub async fn take_down(&self, id: [u8; 32], reason: &str) -> Result<Outcome, OperatorError> {
        let (reason, at) = (reason.to_owned(), (self.shared.clock)());
        self.submit(|reply| Write::Takedown { id, reason, at, reply }).await
    }

    async fn submit(&self, write: impl FnOnce(store::Reply) -> Write) -> Result<Outcome, OperatorError> {
        let (told, outcome) = oneshot::channel();
        let write = write(Box::new(move |outcome| {
            if told.send(outcome).is_err() {
                tracing::debug!("nobody waits for what the operator did");
            }
        }));
        let store = self.shared.store.clone();
        tokio::task::spawn_blocking(move || store.submit(write)).await.map_err(|_| OperatorError::Closing)??;
        outcome.await.map_err(|_| OperatorError::Closing)
    }

    /// Writes every stored event that matches any of `filters` as one line of JSON each, newest first. It blocks, as `write` may.
    pub fn export(
        &self,
        filters: Vec<wire::Filter>,
        write: &mut dyn FnMut(&[u8]) -> std::io::Result<()>,
    ) -> Result<Exported, transfer::TransferError> {
        let shared = &self.shared;
        let mut write = |piece: &[u8]| match shared.stop.is_cancelled() {
            true => Err(std::io::Error::other("the board is closing")),
            false => write(piece),
        };
        transfer::export(shared.store.as_ref(), filters, (shared.clock)(), &mut write)
    }

    /// Takes events in, one line of JSON each, signatures checked on all cores. It blocks.
    pub fn import(&self, lines: &[u8]) -> Imported {
        let policy = self.policy();
        let shared = &self.shared;
        let (store, keys, now) = (shared.store.as_ref(), &shared.judge.keys, (shared.clock)());
        let door = Door { store, policy: &policy, urls: &shared.urls, keys, now };
        transfer::import(door, lines, shared.limits.verify_threads)
    }

    /// See [`Board::sync_with`](crate::Board::sync_with).
    pub async fn sync_with(
        &self,
        url: &str,
        filter: wire::Filter,
        direction: Direction,
        progress: &mut (dyn FnMut(&SyncReport) + Send),
    ) -> Result<SyncReport, SyncError> {
        tokio::select! {
            () = self.shared.stop.cancelled() => Err(SyncError::Closing),
            ended = syncing::sync_with(&self.shared, url, filter, direction, progress) => ended,
        }
    }
}

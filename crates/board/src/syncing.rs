//! Synchronises the board with another relay over a WebSocket. What comes passes our own admission.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

use credential::quote::KIND_AHEAD;
use futures_util::{SinkExt, StreamExt};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{Error as WsError, Message};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream};
use wire::{Filter, RawEvent};

use crate::admission::{Authenticated, Sender};
use crate::herald::{Fates, Publisher};
use crate::intake::Job;
use crate::live::Published;
use crate::reconcile::Set;
use crate::server::Shared;
use crate::store::{Ask, Budget, Encoded, Outcome, StoreError};
use crate::sync::{Direction, Sync, SyncReport, Task};

/// How long the other relay may take to connect, to answer or to read.
const PATIENCE: Duration = Duration::from_secs(60);
/// Longest message of the other relay.
const MESSAGE_BYTES: usize = 4 * 1024 * 1024;

/// Why a synchronisation did not come to its end. What was taken until then stays.
#[derive(Debug, thiserror::Error)]
pub enum SyncError {
    /// No connection.
    #[error("{url} cannot be reached: {source}")]
    Unreachable {
        /// Which relay.
        url: String,
        /// What the network said.
        source: Box<WsError>,
    },
    /// The other relay said nothing for too long.
    #[error("nothing was heard from the other relay for {} seconds", PATIENCE.as_secs())]
    Silent,
    /// The connection ended.
    #[error("the other relay ended the connection")]
    Ended,
    /// The other relay refused, or what it says makes no sense; in its words or ours.
    #[error("{0}")]
    Broken(String),
    /// More events match than are reconciled at once.
    #[error("more than {0} of our events match: ask for less")]
    TooMany(usize),
    /// Our store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The board is closing.
    #[error("the board is closing")]
    Closing,
}

type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;

struct Syncing<'a> {
    shared: &'a Arc<Shared>,
    socket: Socket,
    fates: Arc<Fates>,
    sync: Sync,
}

/// See [`Board::sync_with`](crate::Board::sync_with).
pub(crate) async fn sync_with(
    shared: &Arc<Shared>,
    url: &str,
    filter: Filter,
    direction: Direction,
    progress: &mut (dyn FnMut(&SyncReport) + Send),
) -> Result<SyncReport, SyncError> {
    let set = set(shared, filter.clone()).await?;
    let (sync, first) = Sync::begin(set, filter, direction).map_err(|why| SyncError::Broken(why.message))?;
    let config = WebSocketConfig::default().max_message_size(Some(MESSAGE_BYTES)).max_frame_size(Some(MESSAGE_BYTES));
    let connect = tokio_tungstenite::connect_async_with_config(url, Some(config), true);
    let connected = tokio::time::timeout(PATIENCE, connect).await.map_err(|_| SyncError::Silent)?;
    let unreachable = |source| SyncError::Unreachable { url: url.into(), source: Box::new(source) };
    let (socket, _) = connected.map_err(unreachable)?;
    let mut syncing = Syncing { shared, socket, fates: Arc::default(), sync };
    syncing.send(vec![Message::text(first)]).await?;
    syncing.run(progress).await
}

/// What we hold for a filter and would show to anybody.
async fn set(shared: &Arc<Shared>, filter: Filter) -> Result<Set, SyncError> {
    let policy = shared.policy.get();
    let max = shared.limits.session.reconciled_events;
    let ask = Ask {
        filters: vec![filter],
        limit_max: u64::MAX,
        before: shared.store.end(),
        reader: Arc::new(Authenticated { policy, keys: Vec::new() }),
    };
    let (store, now) = (shared.store.clone(), (shared.clock)());
    let look_up = move || Ok(store.items(ask, now, max)?.map(Set::new));
    let set = shared.tasks.spawn_blocking(look_up).await.map_err(|_| SyncError::Closing)?;
    set.and_then(|set| set.ok_or(SyncError::TooMany(max)))
}

impl Syncing<'_> {
    async fn run(&mut self, progress: &mut (dyn FnMut(&SyncReport) + Send)) -> Result<SyncReport, SyncError> {
        let (fates, stop) = (self.fates.clone(), self.shared.stop.clone());
        loop {
            let mut tasks = Vec::new();
            tokio::select! {
                () = stop.cancelled() => return Err(SyncError::Closing),
                () = fates.bell.notified() => fates.take().iter().for_each(|fate| self.sync.taken(fate, &mut tasks)),
                message = tokio::time::timeout(PATIENCE, self.socket.next()) => match message {
                    Err(_) => return Err(SyncError::Silent),
                    Ok(Some(Ok(Message::Text(text)))) => self.sync.frame(&text, &mut tasks),
                    Ok(Some(Ok(Message::Close(_)) | Err(_)) | None) => return Err(SyncError::Ended),
                    Ok(Some(Ok(_))) => {}
                },
            }
            let end = self.settle(tasks).await?;
            progress(&self.sync.report());
            match end {
                Some(Ok(())) => break,
                Some(Err(why)) => return Err(SyncError::Broken(why)),
                None => {}
            }
        }
        // All is said and done; whether the other side hears the farewell changes nothing.
        if let Err(why) = self.socket.close(None).await {
            tracing::debug!(%why, "after a synchronisation");
        }
        Ok(self.sync.report())
    }

    /// Does what has to be done, and what comes of it. Gives the end, once it is there.
    async fn settle(&mut self, tasks: Vec<Task>) -> Result<Option<Result<(), String>>, SyncError> {
        let mut tasks: std::collections::VecDeque<Task> = tasks.into();
        let mut frames = Vec::new();
        let mut end = None;
        while let Some(task) = tasks.pop_front() {
            let mut more = Vec::new();
            match task {
                Task::Send(text) => frames.push(Message::text(text)),
                Task::Take(text) => {
                    if let Some(fate) = self.take(text).await? {
                        self.sync.taken(&fate, &mut more);
                    }
                }
                Task::Find(ids) => {
                    let events = self.find(ids.clone()).await?;
                    self.sync.found(&ids, events.iter().map(AsRef::as_ref), &mut more);
                }
                Task::End(how) => end = Some(how),
            }
            tasks.extend(more);
        }
        self.send(frames).await?;
        Ok(end)
    }

    async fn send(&mut self, frames: Vec<Message>) -> Result<(), SyncError> {
        let socket = &mut self.socket;
        let write = async {
            for frame in frames {
                socket.feed(frame).await?;
            }
            socket.flush().await
        };
        match tokio::time::timeout(PATIENCE, write).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) => Err(SyncError::Ended),
            Err(_) => Err(SyncError::Silent),
        }
    }

    /// Takes an event in as if somebody had published it here. Gives its fate if that is certain already.
    async fn take(&mut self, text: Box<str>) -> Result<Option<Published>, SyncError> {
        let shared = self.shared;
        let event = match RawEvent::parse(text.as_bytes(), &shared.limits.session.frame.event) {
            Ok(event) => event,
            Err(why) => return Ok(Some(Published::Refused(format!("invalid: {why}")))),
        };
        let id = event.id;
        if event.kind == KIND_AHEAD {
            return Ok(Some(Published::Refused("blocked: credentials come from who spends them".into())));
        }
        if let Some(known) = shared.store.known(&id)? {
            return Ok(Some(Published::Store(Outcome::Known(known))));
        }
        // The operator asked for it, so it does not count against an address.
        let from = Sender { address: IpAddr::V4(Ipv4Addr::LOCALHOST), client: 0, keys: &[], credential: None };
        if let Err(why) = shared.policy.get().admit(&event, &from, &shared.rates, (shared.clock)()) {
            return Ok(Some(Published::Refused(why.to_string())));
        }
        let job = Job { event: event.detach(), credential: None, from: from.bearer() };
        shared.judge.room().acquire().await.map_err(|_| SyncError::Closing)?.forget();
        Ok(shared.judge.judge(job, Publisher::Sync(self.fates.clone())).err())
    }

    async fn find(&self, ids: Vec<[u8; 32]>) -> Result<Vec<Arc<Encoded>>, SyncError> {
        let mut ids = ids;
        ids.sort_unstable();
        let (store, now, policy) = (self.shared.store.clone(), (self.shared.clock)(), self.shared.policy.get());
        let find = move || {
            let ask = Ask {
                limit_max: ids.len() as u64,
                filters: vec![Filter { ids: Some(ids), ..Filter::default() }],
                before: store.end(),
                reader: Arc::new(Authenticated { policy, keys: Vec::new() }),
            };
            let (mut cursor, mut events) = (store.query(ask)?, Vec::new());
            while !cursor.advance(now, Budget { rows: 1000, bytes: usize::MAX, disk: true }, &mut events)? {}
            Ok(events)
        };
        self.shared.tasks.spawn_blocking(find).await.map_err(|_| SyncError::Closing)?
    }
}

//! What happens, as server-sent events.
//!
//! A stream tells states, not steps: first every open trade as it is, then `ready`, then each trade again whenever it changed. Whoever
//! connects again is told the present anew, and so is a reader who falls behind. A trade that ended between two connections is told by its
//! absence before `ready`, unless the stream is about that trade; words of chat are asked for.

use std::collections::{BTreeSet, VecDeque};
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures::{Stream, stream};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio::sync::broadcast::error::{RecvError, TryRecvError};
use tokio::sync::{OwnedSemaphorePermit, broadcast};
use trade::TradeId;

use super::types::{ChatView, ErrorKind, TradeView};
use super::{ApiError, Params};
use crate::desk::{Change, DeskError};
use crate::running::Running;

/// Streams that may be open at a time.
pub(crate) const STREAMS_MAX: usize = 32;
/// How often a stream on which nothing happens shows that it is there.
const BEAT: Duration = Duration::from_secs(15);

/// What a stream of `GET /v1/events` tells: the name of the event, and its data.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "event", content = "data", rename_all = "lowercase")]
pub enum Happening {
    /// How a trade is now.
    Trade(Box<TradeView>),
    /// Every trade that was asked for has been told; what follows are changes.
    Ready(Ready),
    /// What was said in a trade last.
    Chat(Said),
    /// A listing of ours changed: `GET /v1/listings/mine`.
    Listings(Ready),
}

/// Nothing more to say.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Ready {}

/// A word of chat.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Said {
    /// In which trade.
    pub trade: TradeId,
    /// What was said.
    #[serde(flatten)]
    pub said: ChatView,
}

/// What a stream is to tell.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Asked {
    /// This trade alone; otherwise all that are open, and those that begin.
    trade: Option<TradeId>,
}

pub(super) async fn events(
    State(daemon): State<Arc<Running>>,
    Params(asked): Params<Asked>,
) -> Result<Response, ApiError> {
    let seat = daemon.streams.clone().try_acquire_owned();
    let seat = seat.map_err(|_| {
        ApiError::new(ErrorKind::Unreachable, format!("{STREAMS_MAX} streams of events are open already; close one"))
    })?;
    // Before the first look, so that no change falls between the two.
    let changes = daemon.desk()?.changes();
    let (queue, open) = (VecDeque::new(), BTreeSet::new());
    let mut teller = Teller { daemon, asked: asked.trade, changes, queue, open, _seat: seat };
    teller.tell_all().await?;
    let shutdown = teller.daemon.shutdown.clone();
    let told = futures::StreamExt::take_until(teller.stream(), shutdown.cancelled_owned());
    Ok(Sse::new(told).keep_alive(KeepAlive::new().interval(BEAT)).into_response())
}

struct Teller {
    daemon: Arc<Running>,
    asked: Option<TradeId>,
    changes: broadcast::Receiver<Change>,
    queue: VecDeque<Happening>,
    /// Trades that were told as open: their end is told however far behind the reader is.
    open: BTreeSet<TradeId>,
    _seat: OwnedSemaphorePermit,
}

impl Teller {
    fn stream(self) -> impl Stream<Item = Result<Event, Infallible>> {
        stream::unfold(self, |mut teller| async move { Some((Ok(teller.next().await?), teller)) })
    }

    /// None when the desk has stopped.
    async fn next(&mut self) -> Option<Event> {
        loop {
            if let Some(happening) = self.queue.pop_front() {
                return Some(written(&happening));
            }
            let told = match self.changes.recv().await {
                Ok(change) => self.tell(change).await,
                Err(RecvError::Lagged(_)) => self.tell_all().await,
                Err(RecvError::Closed) => return None,
            };
            if let Err(why) = told {
                tracing::debug!(%why, "a stream of events ends");
                return None;
            }
        }
    }

    async fn tell_all(&mut self) -> Result<(), DeskError> {
        let trades = match self.asked {
            Some(trade) => vec![self.daemon.trade(trade).await?],
            None => self.daemon.trades().await?,
        };
        for trade in trades {
            if self.asked.is_some() || trade.outcome.is_none() || self.open.contains(&trade.trade) {
                self.tell_trade(trade);
            }
        }
        self.queue.push_back(Happening::Ready(Ready {}));
        Ok(())
    }

    fn tell_trade(&mut self, trade: TradeView) {
        if trade.outcome.is_none() {
            self.open.insert(trade.trade);
        } else {
            self.open.remove(&trade.trade);
        }
        self.queue.push_back(Happening::Trade(Box::new(trade)));
    }

    /// What is waiting already is told with it, each stream once: a step of a trade is several entries of its log.
    async fn tell(&mut self, first: Change) -> Result<(), DeskError> {
        let mut changed = BTreeSet::from([first]);
        loop {
            match self.changes.try_recv() {
                Ok(more) => changed.insert(more),
                Err(TryRecvError::Lagged(_)) => return self.tell_all().await,
                Err(TryRecvError::Empty | TryRecvError::Closed) => break,
            };
        }
        for change in changed {
            let of = match change {
                Change::Stream(of) | Change::Chat(of) => of,
            };
            if self.asked.is_some_and(|asked| asked != of) {
                continue;
            }
            match change {
                Change::Stream(stream) => match self.daemon.trade(stream).await {
                    Ok(trade) => self.tell_trade(trade),
                    Err(DeskError::NotFound(_)) => self.queue.push_back(Happening::Listings(Ready {})),
                    Err(why) => return Err(why),
                },
                Change::Chat(trade) => {
                    let last = self.daemon.chat(trade).await?.pop();
                    self.queue.extend(last.map(|said| Happening::Chat(Said { trade, said })));
                }
            }
        }
        Ok(())
    }
}

fn written(happening: &Happening) -> Event {
    let (name, data) = match happening {
        Happening::Trade(view) => ("trade", Event::default().json_data(view)),
        Happening::Ready(ready) => ("ready", Event::default().json_data(ready)),
        Happening::Chat(said) => ("chat", Event::default().json_data(said)),
        Happening::Listings(ready) => ("listings", Event::default().json_data(ready)),
    };
    match data {
        Ok(event) => event.event(name),
        Err(error) => {
            tracing::error!(%error, name, "an event cannot be written");
            Event::default().comment("an event cannot be written")
        }
    }
}

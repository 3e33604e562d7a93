//! Couriers: one for each board, who carries letters from the outbox to it until it said OK.

use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use tokio::sync::{Notify, mpsc, watch};
use tokio::task::block_in_place;
use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use trade::{MessageId, TradeId};
use units::Unix;
use wire::event::Event;

use crate::board_link::{BoardError, BoardLink};
use crate::clock;
use crate::purse::PurseError;
use crate::purse::postage::Postage;
use crate::store::mirrors::Told;
use crate::store::outbox::{Arrived, Letter};
use crate::store::{Store, StoreError};
use crate::vault::Kept;

/// Letters that are under way to one board at the same time.
const PAGE: usize = 32;
/// Rest of a letter that the board refused for a reason that passes, or did not answer; doubled each time.
const REST_FIRST_SECS: u64 = 2;
const REST_LAST_SECS: u64 = 600;
/// Rest of a letter that the board will not have under its present policy.
const REST_UNWANTED_SECS: u64 = 3600;
/// Prefixes (NIP-01) of reasons that pass by themselves.
const PASSING: [&str; 3] = ["rate-limited:", "error:", "auth-required:"];
/// Rest of a courier whose outbox cannot be read.
const REST_OF_STORE: Duration = Duration::from_secs(5);
/// How often letters that nobody can want any more are given up.
const TIDY_EVERY: Duration = Duration::from_secs(24 * 3600);

/// What a courier tells the desk.
#[derive(Debug)]
pub(crate) enum News {
    /// Every letter of a parcel is on a board that the other side can read.
    Arrived(Arrived),
    /// A board refused a letter, for the first time. It is kept and tried again.
    Refused {
        /// Of which parcel.
        parcel: String,
        /// Which board, and its words.
        error: BoardError,
    },
}

/// All couriers, and the outbox that they carry from.
#[derive(Clone)]
pub(crate) struct Couriers {
    store: Arc<Store>,
    boards: Arc<[String]>,
    /// The boards, and the relays of other markets.
    everywhere: Arc<[String]>,
    wakes: Arc<[Arc<Notify>]>,
    stop: CancellationToken,
}

impl Couriers {
    /// Starts a courier for each board, and for each relay of another market, on `tasks`, until `shutdown`. A board that this daemon
    /// runs proves nothing about whether the other side can read it, so it counts only when there is no other.
    pub(crate) fn start(
        store: Arc<Store>,
        boards: &[BoardLink],
        relays: &[BoardLink],
        postage: &Arc<Postage>,
        news: &mpsc::Sender<News>,
        tasks: &TaskTracker,
        shutdown: &CancellationToken,
    ) -> Result<Couriers, StoreError> {
        let named = |links: &[BoardLink]| links.iter().map(|link| link.url().to_owned()).collect::<Vec<_>>();
        let urls: Arc<[String]> = [named(boards), named(relays)].concat().into();
        give_up(&store, &urls)?;
        let shutdown = &shutdown.child_token();
        let foreign = boards.iter().any(|board| !board.is_own());
        let mut wakes = Vec::new();
        for board in boards.iter().chain(relays) {
            let wake = Arc::new(Notify::new());
            wakes.push(wake.clone());
            let counts = !(foreign && board.is_own());
            let (postage, news) = (postage.clone(), news.clone());
            let courier = Courier { board: board.clone(), store: store.clone(), postage, counts, news, wake };
            tasks.spawn(courier.run(shutdown.clone()));
        }
        let (tidied, tidy_urls, stop) = (store.clone(), urls.clone(), shutdown.clone());
        tasks.spawn(async move {
            while stop.run_until_cancelled(sleep(TIDY_EVERY)).await.is_some() {
                if let Err(error) = block_in_place(|| give_up(&tidied, &tidy_urls)) {
                    tracing::error!(%error, "the outbox cannot be tidied");
                }
            }
        });
        Ok(Couriers {
            store,
            boards: named(boards).into(),
            everywhere: urls,
            wakes: wakes.into(),
            stop: shutdown.clone(),
        })
    }

    /// Nothing leaves any more. What waits stays in the outbox.
    pub(crate) fn stop(&self) {
        self.stop.cancel();
    }

    /// Hands a parcel over: durable on return, and on its way.
    pub(crate) fn post(&self, parcel: &str, message: MessageId, events: &[Event]) -> Result<(), StoreError> {
        block_in_place(|| self.store.post(parcel, message, events, &self.boards, clock::unix()))?;
        self.wake();
        Ok(())
    }

    /// Hands over what a mirror says now, for the boards and the relays of other markets: durable on return, and on its way
    /// instead of what it said before.
    pub(crate) fn mirror(&self, name: &str, told: &Told, event: &Event) -> Result<(), StoreError> {
        block_in_place(|| self.store.mirror(name, told, event, &self.everywhere, clock::unix()))?;
        self.wake();
        Ok(())
    }

    /// The same for what concerns the boards alone.
    pub(crate) fn say_anew(&self, name: &str, told: &Told, event: &Event) -> Result<(), StoreError> {
        block_in_place(|| self.store.mirror(name, told, event, &self.boards, clock::unix()))?;
        self.wake();
        Ok(())
    }

    fn wake(&self) {
        for wake in self.wakes.iter() {
            wake.notify_one();
        }
    }

    /// Hands a sheet of the vault over, and notes how far its stream is kept with it: durable on return.
    pub(crate) fn keep(&self, trade: TradeId, kept: &Kept) -> Result<(), StoreError> {
        let letter = (kept.parcel.as_str(), kept.id, &kept.event);
        block_in_place(|| self.store.keep(letter, (trade, kept.upto), &self.boards, clock::unix()))?;
        for wake in self.wakes.iter() {
            wake.notify_one();
        }
        Ok(())
    }

    /// The message of a parcel that was handed over before, and whether it has arrived.
    pub(crate) fn posted(&self, parcel: &str) -> Result<Option<(MessageId, bool)>, StoreError> {
        block_in_place(|| self.store.posted(parcel))
    }

    /// The desk has noted that a parcel arrived.
    pub(crate) fn told(&self, parcel: &str) -> Result<(), StoreError> {
        block_in_place(|| self.store.told(parcel))
    }
}

fn give_up(store: &Store, boards: &[String]) -> Result<(), StoreError> {
    let given_up = store.give_up(boards, clock::unix())?;
    if given_up > 0 {
        tracing::warn!(letters = given_up, "given up: too old, or for boards that are not configured any more");
    }
    Ok(())
}

struct Courier {
    board: BoardLink,
    store: Arc<Store>,
    postage: Arc<Postage>,
    counts: bool,
    news: mpsc::Sender<News>,
    wake: Arc<Notify>,
}

/// What one round came to.
enum Round {
    /// Something was carried, or the board went away: look again.
    Again,
    /// Nothing may be carried before this time, unless something is posted.
    Idle(Option<Unix>),
}

impl Courier {
    async fn run(self, shutdown: CancellationToken) {
        let mut filled = self.postage.filled();
        while shutdown.run_until_cancelled(self.board.connected()).await.is_some() {
            let Some(round) = shutdown.run_until_cancelled(self.round()).await else { return };
            match round {
                Ok(Round::Again) => {}
                Ok(Round::Idle(until)) => {
                    let until = until.map(|until| Duration::from_secs(until.0.saturating_sub(clock::unix().0).max(1)));
                    let until = Instant::now() + until.unwrap_or(TIDY_EVERY);
                    tokio::select! {
                        () = shutdown.cancelled() => return,
                        () = self.wake.notified() => {}
                        () = come(&mut filled) => {}
                        () = sleep_until(until) => {}
                    }
                }
                Err(error) => {
                    tracing::error!(board = %self.board.url(), %error, "the outbox cannot be read");
                    if shutdown.run_until_cancelled(sleep(REST_OF_STORE)).await.is_none() {
                        return;
                    }
                }
            }
        }
    }

    async fn round(&self) -> Result<Round, PurseError> {
        let url = self.board.url();
        let letters = block_in_place(|| self.store.due(url, clock::unix(), PAGE))?;
        if letters.is_empty() {
            return Ok(Round::Idle(block_in_place(|| self.store.next_due(url))?));
        }
        let answers = join_all(letters.iter().map(|letter| self.postage.publish(&self.board, &letter.event))).await;
        let mut confirmed = Vec::new();
        for (letter, answer) in letters.iter().zip(answers) {
            match answer? {
                Ok(()) => confirmed.push(letter.seq),
                Err(error) => self.failed(letter, error).await?,
            }
        }
        for arrived in block_in_place(|| self.store.confirmed(url, &confirmed, self.counts))? {
            self.tell(News::Arrived(arrived)).await;
        }
        Ok(Round::Again)
    }

    async fn failed(&self, letter: &Letter, error: BoardError) -> Result<(), StoreError> {
        let doubled = REST_FIRST_SECS.saturating_mul(1 << letter.tries.min(16)).min(REST_LAST_SECS);
        let (rest, trouble) = match &error {
            // A connection that is gone is waited for; one that is there and says nothing is not pressed.
            BoardError::Unreachable(_) if !self.board.is_connected() => return Ok(()),
            BoardError::Unreachable(_) => (doubled, "no answer".to_owned()),
            BoardError::Refused { reason, .. } if PASSING.iter().any(|prefix| reason.starts_with(prefix)) => {
                (doubled, reason.clone())
            }
            BoardError::Refused { reason, .. } => (REST_UNWANTED_SECS, reason.clone()),
            BoardError::NoCredential(url) => {
                (REST_UNWANTED_SECS, format!("a credential is wanted: souk credential buy --board {url}"))
            }
        };
        let until = Unix(clock::unix().0.saturating_add(rest));
        block_in_place(|| self.store.rests(self.board.url(), letter.seq, until, &trouble))?;
        if let BoardError::NoCredential(url) = &error {
            self.postage.waits_for(url);
            // They may have come in the meantime.
            if self.postage.has_some(url) {
                block_in_place(|| self.store.wake(url))?;
            }
        }
        if letter.tries == 0 {
            tracing::warn!(board = %self.board.url(), parcel = %letter.parcel, %error, "not taken, will be tried again");
            self.tell(News::Refused { parcel: letter.parcel.clone(), error }).await;
        }
        Ok(())
    }

    async fn tell(&self, news: News) {
        if self.news.send(news).await.is_err() {
            tracing::trace!("the desk has stopped; what has arrived is found in the outbox at the next start");
        }
    }
}

/// Waits until credentials have come.
async fn come(filled: &mut watch::Receiver<u64>) {
    if filled.changed().await.is_err() {
        futures::future::pending::<()>().await;
    }
}

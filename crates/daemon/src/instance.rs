//! One daemon on one seed. Each start leaves a mark on the boards (NIP-78, sealed under the vault's key), and whoever finds there the mark
//! of a later start by another machine stands still: two that go on would say two things in one trade.
//!
//! A mark is the latest one an instance knows how to make: by life (ADR 11), then by start. A board that shows an earlier mark, or none,
//! is given ours again; so an instance that could not ask when it started finds out at its next look. A board that keeps the mark to itself
//! hides the other one, so this helps against a mistake and not against a liar.

use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use secp256k1::Keypair;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use units::{Unix, hex32};
use wire::event::{Event, Unsigned, pubkey_of};
use wire::filter::Filter;
use wire::nip44::ConversationKey;

use crate::board_link::BoardLink;
use crate::clock;
use crate::post::{self, PostError};
use crate::purse::postage::Postage;
use crate::store::Store;
use crate::vault::{Life, VaultError};

/// Application-specific data (NIP-78).
const KIND: u16 = 30_078;
const D: &str = "souk/instance";
/// Where our last start is kept.
const RUN: &str = "vault/run";
/// How long a board may take for our mark: the start of the daemon waits for it.
const MARK_PATIENCE: Duration = Duration::from_secs(10);
/// How often the boards are looked at.
const LOOK_EVERY: Duration = if cfg!(test) { Duration::from_millis(200) } else { Duration::from_secs(60) };

/// One start of a daemon. Later ones are greater.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct Instance {
    life: Life,
    since: Unix,
    /// Tells two that began in the same second apart.
    id: String,
}

/// A start, and what it needs to mark boards.
pub(crate) struct Marker {
    key: Keypair,
    ours: Instance,
}

/// Since when a later instance runs, as soon as we know of one.
pub(crate) type Other = watch::Receiver<Option<Unix>>;

impl Marker {
    /// Begins a start: later than every one of this directory before, whatever the clock says.
    pub(crate) fn begin(key: Keypair, life: Life, store: &Store, now: Unix) -> Result<Marker, VaultError> {
        let last: Option<Unix> = store.get(RUN)?.and_then(|bytes| serde_json::from_slice(&bytes).ok());
        let since = last.map_or(now, |last| now.max(Unix(last.0 + 1)));
        store.put(RUN, &serde_json::to_vec(&since)?)?;
        let id = hex32(&post::entropy()?)[..16].to_owned();
        Ok(Marker { key, ours: Instance { life, since, id } })
    }

    fn sealed(&self, at: Unix) -> Result<Event, PostError> {
        let text = serde_json::to_string(&self.ours).unwrap_or_default();
        let content = self.shared().and_then(|shared| shared.encrypt(&text, &post::entropy().ok()?).ok());
        let content = content.ok_or_else(|| PostError::Entropy("a mark cannot be sealed".into()))?;
        let tags = vec![vec!["d".to_owned(), D.to_owned()]];
        let unsigned = Unsigned { pubkey: pubkey_of(&self.key), created_at: at, kind: KIND, tags, content };
        Ok(unsigned.sign(&self.key, &[0; 32]))
    }

    fn open(&self, event: &Event) -> Option<Instance> {
        let ours = event.kind == KIND && event.pubkey == pubkey_of(&self.key) && event.verify().is_ok();
        let text = self.shared().filter(|_| ours)?.decrypt(&event.content).ok()?;
        serde_json::from_str(&text).ok()
    }

    fn shared(&self) -> Option<ConversationKey> {
        ConversationKey::between(&self.key, &pubkey_of(&self.key)).ok()
    }

    /// Looks at every board that is connected. Some: since when a later instance runs; none: there is none, and every board that could be
    /// asked shows our mark.
    async fn look(&self, boards: &[BoardLink], postage: &Postage) -> Option<Unix> {
        let filter = Filter {
            kinds: Some(vec![KIND]),
            authors: Some(vec![pubkey_of(&self.key)]),
            tags: [(b'd', vec![D.to_owned()])].into(),
            ..Filter::default()
        };
        let ask = async |board: &BoardLink| (board.clone(), board.query(vec![filter.clone()]).await);
        let asked = join_all(boards.iter().filter(|board| board.is_connected()).map(ask)).await;
        let mut behind = Vec::new();
        let mut later: Option<Instance> = None;
        for (board, answer) in asked {
            let Ok(events) = answer else { continue };
            let marks: Vec<_> = events.iter().filter_map(|event| Some((self.open(event)?, event.created_at))).collect();
            match marks.into_iter().max() {
                Some((mark, _)) if mark > self.ours => later = later.max(Some(mark)),
                Some((mark, _)) if mark == self.ours => {}
                // A board keeps the newest by its time.
                Some((_, at)) => behind.push((board, clock::unix().max(Unix(at.0 + 1)))),
                None => behind.push((board, clock::unix())),
            }
        }
        if later.is_none() {
            let mark = async |(board, at): (BoardLink, Unix)| match self.sealed(at) {
                Ok(event) => match timeout(MARK_PATIENCE, postage.publish(&board, &event)).await {
                    Ok(Ok(answer)) => answer.map_err(|error| error.to_string()),
                    Ok(Err(error)) => Err(error.to_string()),
                    Err(_) => Err("it does not answer".to_owned()),
                },
                Err(error) => Err(error.to_string()),
            };
            for error in join_all(behind.into_iter().map(mark)).await.into_iter().filter_map(Result::err) {
                tracing::debug!(%error, "a board does not take our mark: another daemon on this seed would not be noticed there");
            }
        }
        later.map(|later| later.since)
    }

    /// Waits a little for the boards and looks at them; goes on looking, on `tasks`, until a later instance is found.
    pub(crate) async fn watch(
        self,
        boards: Vec<BoardLink>,
        postage: Arc<Postage>,
        tasks: &TaskTracker,
        shutdown: CancellationToken,
    ) -> Other {
        join_all(boards.iter().map(BoardLink::soon)).await;
        let (tell, other) = watch::channel(self.look(&boards, &postage).await);
        tasks.spawn(async move {
            let mut ticks = tokio::time::interval(LOOK_EVERY);
            ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
            while tell.borrow().is_none() && shutdown.run_until_cancelled(ticks.tick()).await.is_some() {
                if let Some(since) = self.look(&boards, &postage).await {
                    tell.send_replace(Some(since));
                }
            }
        });
        other
    }
}

/// Nobody looks: the log is not kept on boards either.
pub(crate) fn unwatched() -> Other {
    watch::channel(None).1
}

#[cfg(test)]
mod tests {
    use super::*;

    fn marker(store: &Store, now: u64) -> Marker {
        let key = Keypair::from_seckey_slice(secp256k1::SECP256K1, &[7; 32]).unwrap();
        let life = crate::vault::begin_life(store, Unix(5)).unwrap();
        Marker::begin(key, life, store, Unix(now)).unwrap()
    }

    #[test]
    fn a_later_start_is_later_whatever_the_clock_says() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&dir.path().join("trades.sqlite"), &[1; 32]).unwrap();
        let first = marker(&store, 100);
        let life = first.ours.life.clone();
        let again = |now| Marker::begin(first.key, life.clone(), &store, Unix(now)).unwrap().ours;
        let (same, back) = (again(100), again(50));
        assert!(first.ours < same && same < back, "{same:?} {back:?}");
    }

    #[test]
    fn only_the_seed_reads_and_writes_marks() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&dir.path().join("trades.sqlite"), &[1; 32]).unwrap();
        let marker = marker(&store, 100);
        let event = marker.sealed(Unix(200)).unwrap();
        assert_eq!(marker.open(&event), Some(marker.ours.clone()));
        assert!(!event.content.contains(&marker.ours.id));
        let stranger = Keypair::from_seckey_slice(secp256k1::SECP256K1, &[8; 32]).unwrap();
        let other = Marker { key: stranger, ours: marker.ours.clone() };
        assert_eq!(other.open(&event), None);
        assert_eq!(marker.open(&other.sealed(Unix(200)).unwrap()), None);
        assert_eq!(marker.open(&Event { created_at: Unix(300), ..event }), None);
    }
}

//! Postage: which credential goes with which letter. Who carries letters to a board asks here, and says when the board would not take one.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use credential::quote::Answer;
use credential::{BlindSignature, KeysetId, Stamp};
use secp256k1::PublicKey;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use tokio::task::block_in_place;
use tokio::time::Instant;
use trade::{MessageId, PartyKey};
use wire::event::{Event, Limits};

use super::line::policy_of;
use super::policy::Policy;
use super::{Purse, PurseError};
use crate::board_link::{BoardError, BoardLink};
use crate::clock;

/// Prefix (NIP-01) with which a board says that it does not take an event from just anybody.
const RESTRICTED: &str = "restricted:";
/// Where what boards say of credentials is kept.
const POLICY: &str = "purse/policy/";
/// How old what a board says of credentials may be.
const FRESH: Duration = Duration::from_secs(3600);
/// How soon a board that refused something is asked again.
const ASK_AGAIN: Duration = Duration::from_secs(300);
/// Credentials that our own board gives us at once.
const GRANTED: usize = 50;

/// Our own board, which gives its own daemon credentials for nothing.
pub(crate) trait Grant: Send + Sync {
    /// What it says of them; none while it wants none.
    fn terms(&self) -> Option<Policy>;
    /// Its signatures, one for each blinded point; none when that keyset does not sign.
    fn sign(&self, keyset: KeysetId, blinded: &[PublicKey]) -> Option<Vec<BlindSignature>>;
}

/// What goes with a letter.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Franking {
    /// Nothing.
    Plain,
    /// This.
    Stamped(Stamp),
    /// The board wants a credential and there is none.
    Missing,
}

/// What a board says of credentials, as it is kept.
#[derive(Serialize, Deserialize)]
struct Said {
    key: PartyKey,
    event: String,
}

#[derive(Default)]
struct Known {
    policy: Option<Policy>,
    /// When it was asked last, in this run.
    asked: Option<Instant>,
}

/// Franks letters from the purse.
pub(crate) struct Postage {
    purse: Arc<Purse>,
    known: Mutex<BTreeMap<String, Known>>,
    /// One question at a time to each board.
    asking: Mutex<BTreeMap<String, Arc<tokio::sync::Mutex<()>>>>,
    own: Mutex<BTreeMap<String, Arc<dyn Grant>>>,
    /// Boards for which something waits until credentials come.
    hungry: watch::Sender<BTreeSet<String>>,
}

impl Postage {
    /// Franks from `purse`, by what boards said before.
    pub(crate) fn new(purse: Arc<Purse>) -> Result<Postage, PurseError> {
        let mut known = BTreeMap::new();
        for (name, body) in purse.store.list(POLICY)? {
            let Ok(said) = serde_json::from_slice::<Said>(&body) else { continue };
            let event = Event::parse(said.event.as_bytes(), &Limits::RELAY).ok();
            let policy = event.and_then(|event| Policy::read(&event, said.key.0).ok());
            known.insert(name[POLICY.len()..].to_owned(), Known { policy, asked: None });
        }
        Ok(Postage {
            purse,
            known: Mutex::new(known),
            asking: Mutex::default(),
            own: Mutex::default(),
            hungry: watch::Sender::default(),
        })
    }

    /// The board at `url` is our own. What waits for its credentials goes out.
    pub(crate) fn grants(&self, url: &str, grant: Arc<dyn Grant>) -> Result<(), PurseError> {
        locked(&self.own).insert(url.to_owned(), grant);
        if !self.has_some(url) {
            self.take_granted(url)?;
        }
        Ok(())
    }

    /// Boards for which something waits until credentials come.
    pub(crate) fn hungry(&self) -> watch::Receiver<BTreeSet<String>> {
        self.hungry.subscribe()
    }

    /// Changes when credentials have come, for whichever board.
    pub(crate) fn filled(&self) -> watch::Receiver<u64> {
        self.purse.filled()
    }

    /// There are credentials for the board at `url`.
    pub(crate) fn has_some(&self, url: &str) -> bool {
        self.purse.count_free(url, clock::unix()) > 0
    }

    /// Publishes with the credential that the board wants, if it wants one, and waits for its OK.
    pub(crate) async fn publish(&self, board: &BoardLink, event: &Event) -> Result<Result<(), BoardError>, PurseError> {
        let url = board.url();
        let mut franking = self.frank(url, event).await?;
        loop {
            let stamp = match &franking {
                Franking::Plain => None,
                Franking::Stamped(stamp) => Some(stamp.to_string()),
                Franking::Missing => return Ok(Err(BoardError::NoCredential(url.to_owned()))),
            };
            let answer = board.publish_with(event.clone(), stamp).await;
            let Err(BoardError::Refused { reason, .. }) = &answer else { return Ok(answer) };
            match self.frank_again(url, event, reason, &franking).await? {
                Some(another) => franking = another,
                None => return Ok(answer),
            }
        }
    }

    /// What goes with an event to the board at `url`. A credential is noted as shown for it.
    async fn frank(&self, url: &str, event: &Event) -> Result<Franking, PurseError> {
        let Some((wants, asked)) = self.wants(url, event.kind) else { return Ok(Franking::Plain) };
        let fresh = asked.is_some_and(|at| at.elapsed() < FRESH);
        let wants = if wants && !fresh { self.ask(url, event.kind, FRESH).await } else { wants };
        let found = if wants { self.stamp(url, event)? } else { None };
        // Without one it is tried all the same: some boards take a few for nothing.
        Ok(found.map_or(Franking::Plain, Franking::Stamped))
    }

    /// The board at `url` refused an event, for this reason, with that franking. What it may be tried with at once; none when it has to
    /// rest.
    async fn frank_again(
        &self,
        url: &str,
        event: &Event,
        reason: &str,
        before: &Franking,
    ) -> Result<Option<Franking>, PurseError> {
        if !reason.starts_with(RESTRICTED) {
            return Ok(None);
        }
        Ok(match before {
            Franking::Stamped(_) => {
                let another = block_in_place(|| self.purse.stamp_again(url, MessageId(event.id), clock::unix()))?;
                another.map(Franking::Stamped)
            }
            Franking::Plain if self.ask(url, event.kind, ASK_AGAIN).await => {
                let found = self.stamp(url, event)?;
                Some(found.map_or(Franking::Missing, Franking::Stamped))
            }
            Franking::Plain | Franking::Missing => None,
        })
    }

    fn stamp(&self, url: &str, event: &Event) -> Result<Option<Stamp>, PurseError> {
        let id = MessageId(event.id);
        let stamp = || block_in_place(|| self.purse.stamp(url, id, clock::unix()));
        match stamp()? {
            None if self.take_granted(url)? => stamp(),
            found => Ok(found),
        }
    }

    /// Something waits until credentials of this board come.
    pub(crate) fn waits_for(&self, url: &str) {
        self.hungry.send_if_modified(|boards| boards.insert(url.to_owned()));
    }

    /// Whoever buys by itself has noticed.
    pub(crate) fn fed(&self, url: &str) {
        self.hungry.send_modify(|boards| {
            boards.remove(url);
        });
    }

    /// Whether the board wants a credential for this kind, and when it was asked; none when nothing is known of it.
    fn wants(&self, url: &str, kind: u16) -> Option<(bool, Option<Instant>)> {
        if let Some(policy) = self.own_policy(url) {
            return Some((policy.wants(kind), Some(Instant::now())));
        }
        let known = locked(&self.known);
        let known = known.get(url)?;
        Some((known.policy.as_ref()?.wants(kind), known.asked))
    }

    /// Asks the board, unless it was asked so lately. One that does not answer is taken by its last word.
    async fn ask(&self, url: &str, kind: u16, lately: Duration) -> bool {
        let one_at_a_time = locked(&self.asking).entry(url.to_owned()).or_default().clone();
        let _asking = one_at_a_time.lock().await;
        let asked = locked(&self.known).get(url).and_then(|known| known.asked);
        if self.own_policy(url).is_none() && asked.is_none_or(|at| at.elapsed() >= lately) {
            match policy_of(url).await {
                Ok((policy, event)) => self.learn(url, policy, &event),
                Err(error) => {
                    tracing::debug!(board = %url, %error, "nothing new about credentials");
                    locked(&self.known).entry(url.to_owned()).or_default().asked = Some(Instant::now());
                }
            }
        }
        self.wants(url, kind).is_some_and(|(wants, _)| wants)
    }

    /// Notes what a board says of credentials.
    pub(crate) fn learn(&self, url: &str, policy: Policy, event: &Event) {
        let said = Said { key: PartyKey(policy.board), event: event.to_json() };
        locked(&self.known).insert(url.to_owned(), Known { policy: Some(policy), asked: Some(Instant::now()) });
        let kept = serde_json::to_vec(&said)
            .map(|body| block_in_place(|| self.purse.store.put(&format!("{POLICY}{url}"), &body)));
        if let Ok(Err(error)) = kept {
            // It is asked again after the next start.
            tracing::warn!(board = %url, %error, "what the board says of credentials is not kept");
        }
    }

    fn own_policy(&self, url: &str) -> Option<Policy> {
        let grant = locked(&self.own).get(url).cloned()?;
        grant.terms()
    }

    /// Takes a batch of our own board, if that is what it is.
    fn take_granted(&self, url: &str) -> Result<bool, PurseError> {
        let grant = locked(&self.own).get(url).cloned();
        let (Some(grant), Some(policy)) = (grant, self.own_policy(url)) else { return Ok(false) };
        let now = clock::unix();
        let Some(keyset) = policy.keysets.iter().find(|keyset| keyset.issues(now)) else { return Ok(false) };
        let master = self.purse.master();
        block_in_place(|| {
            let batch = self.purse.order((url, policy.board), *keyset, GRANTED, now)?;
            let order = batch.asks(master);
            let Some(signatures) = grant.sign(keyset.id, &order.outputs) else { return Ok(false) };
            let answer = Answer::Issued { quote: order.quote(), signatures };
            let Some(state) = batch.hears(master, &answer, "", now) else { return Ok(false) };
            self.purse.moves(batch.name(), state)?;
            Ok(true)
        })
    }
}

/// A panic elsewhere while the lock was held leaves whole values.
fn locked<T>(of: &Mutex<T>) -> MutexGuard<'_, T> {
    of.lock().unwrap_or_else(PoisonError::into_inner)
}

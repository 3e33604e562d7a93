//! Warnings and alarms to our user, by every channel that is configured: the log and `souk watch` always, a web-hook, and a private
//! message over Nostr (NIP-17). Each is kept until its channel has taken it, over restarts.

use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use tokio::sync::Notify;
use tokio::task::block_in_place;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use trade::{MessageId, Notice, PartyKey, TradeId};
use units::{Height, Unix, hex32};
use wire::Unsigned;
use wire::event::pubkey_of;

use crate::api::types::DeadlinesView;
use crate::clock;
use crate::config::ConfigError;
use crate::courier::Couriers;
use crate::keyring::Keyring;
use crate::post::{PostError, entropy};
use crate::store::notices::{DueNotice, HOOK_SECS};
use crate::store::{Store, StoreError};

/// Kind of a private message (NIP-17).
const KIND_PRIVATE_MESSAGE: u16 = 14;
/// How long a web-hook may take to answer.
const HOOK_TIMEOUT: Duration = Duration::from_secs(10);
/// First and longest rest of a notice that the web-hook did not take.
const REST_FIRST_SECS: u64 = 2;
const REST_LAST_SECS: u64 = 3600;
/// How often resting notices are looked at.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// Why a user was not told.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NotifyError {
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The private message cannot be sealed.
    #[error(transparent)]
    Post(#[from] PostError),
    /// The web-hook's text cannot be written.
    #[error("notice: {0}")]
    Json(#[from] serde_json::Error),
}

/// Where warnings go.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Channels {
    /// Gets a POST with JSON for each.
    pub(crate) webhook: Option<String>,
    /// Gets a private message for each.
    pub(crate) nostr: Option<PartyKey>,
}

/// What the web-hook gets. Field names are stable.
#[derive(Debug, Serialize)]
pub(crate) struct HookBody {
    /// Names the notice: the same when it is sent again.
    pub(crate) id: String,
    /// Money may be lost unless a person looks.
    pub(crate) alarm: bool,
    /// What happened and what to do.
    pub(crate) text: String,
    /// The trade.
    pub(crate) trade: TradeId,
    /// Our side in it.
    pub(crate) role: String,
    /// Its state.
    pub(crate) state: String,
    /// What to do now.
    pub(crate) next: String,
    /// The chain's height when it was raised.
    pub(crate) height: Height,
    /// The time when it was raised.
    pub(crate) at: Unix,
    /// The trade's deadlines.
    pub(crate) deadlines: Option<DeadlinesView>,
}

/// Tells our user.
pub(crate) struct Crier {
    channels: Channels,
    store: Arc<Store>,
    wake: Arc<Notify>,
}

impl Crier {
    /// Starts the web-hook, when there is one, on `tasks` until `shutdown`.
    pub(crate) fn start(
        channels: Channels,
        store: Arc<Store>,
        tasks: &TaskTracker,
        shutdown: &CancellationToken,
    ) -> Result<Crier, ConfigError> {
        let wake = Arc::new(Notify::new());
        if let Some(url) = channels.webhook.clone() {
            let trouble = |e: reqwest::Error| ConfigError::Value { key: "notify.webhook", message: e.to_string() };
            let client = reqwest::Client::builder().timeout(HOOK_TIMEOUT).build().map_err(trouble)?;
            let hook = Hook { url, client, store: store.clone(), wake: wake.clone() };
            tasks.spawn(hook.run(shutdown.clone()));
        }
        Ok(Crier { channels, store, wake })
    }

    /// Hands a notice to every channel: durable on return. Handing the same one over again changes nothing.
    pub(crate) fn cry(
        &self,
        notice: &Notice,
        body: &HookBody,
        keyring: &Keyring,
        couriers: &Couriers,
    ) -> Result<(), NotifyError> {
        let name = serde_json::to_string(notice)?;
        if self.channels.webhook.is_some() {
            let json = serde_json::to_vec(body)?;
            block_in_place(|| self.store.notice_put(body.trade, &name, body.at, &json))?;
            self.wake.notify_one();
        }
        if let Some(to) = self.channels.nostr {
            let parcel = format!("notice/{}/{name}", body.trade);
            if couriers.posted(&parcel)?.is_none() {
                let key = keyring.pair(&keyring.identity()).ok_or(PostError::NotOurKey)?;
                let rumor = private_message(pubkey_of(key), to, &in_words(body), body.at);
                let wrap =
                    wire::seal::wrap(&rumor, key, &to.0, clock::unix(), None, &entropy()?).map_err(PostError::from)?;
                couriers.post(&parcel, MessageId(rumor.id()), &[wrap])?;
            }
        }
        Ok(())
    }
}

/// A rumor of kind 14 (NIP-17).
fn private_message(author: [u8; 32], to: PartyKey, text: &str, at: Unix) -> Unsigned {
    let tags = [["p".to_owned(), hex32(&to.0)], ["subject".to_owned(), "souk".to_owned()]].map(Vec::from);
    Unsigned { pubkey: author, created_at: at, kind: KIND_PRIVATE_MESSAGE, tags: tags.into(), content: text.to_owned() }
}

fn in_words(body: &HookBody) -> String {
    let mark = if body.alarm { "ALARM" } else { "souk" };
    let trade: String = body.trade.to_string().chars().take(12).collect();
    format!(
        "{mark}: {}. Trade {trade} ({}) is {}, height {}. {}",
        body.text, body.role, body.state, body.height, body.next
    )
}

/// Posts what is due to the web-hook.
struct Hook {
    url: String,
    client: reqwest::Client,
    store: Arc<Store>,
    wake: Arc<Notify>,
}

impl Hook {
    async fn run(self, shutdown: CancellationToken) {
        loop {
            match block_in_place(|| self.store.notice_due(clock::unix())) {
                Ok(Some(notice)) => {
                    let Some(outcome) = shutdown.run_until_cancelled(self.tell(&notice)).await else { return };
                    if let Err(error) = outcome {
                        tracing::error!(%error, "the store of notices fails");
                    }
                }
                Ok(None) => tokio::select! {
                    () = shutdown.cancelled() => return,
                    () = self.wake.notified() => {}
                    () = sleep(LOOK_EVERY) => {}
                },
                Err(error) => {
                    tracing::error!(%error, "the store of notices fails");
                    if shutdown.run_until_cancelled(sleep(LOOK_EVERY)).await.is_none() {
                        return;
                    }
                }
            }
        }
    }

    async fn tell(&self, notice: &DueNotice) -> Result<(), StoreError> {
        let request = self.client.post(&self.url).header("content-type", "application/json").body(notice.body.clone());
        let trouble = match request.send().await {
            Ok(answer) if answer.status().is_success() => {
                return block_in_place(|| self.store.notice_done(notice.seq));
            }
            Ok(answer) => answer.status().to_string(),
            // The URL may hold a token.
            Err(error) => error.without_url().to_string(),
        };
        let now = clock::unix();
        if now.0 > notice.at.0.saturating_add(HOOK_SECS) {
            tracing::error!(why = %trouble, "the web-hook never took a notice; given up");
            return block_in_place(|| self.store.notice_done(notice.seq));
        }
        tracing::warn!(why = %trouble, tries = notice.tries + 1, "the web-hook did not take a notice; it is tried again");
        let rest = REST_FIRST_SECS.saturating_mul(1 << notice.tries.min(16)).min(REST_LAST_SECS);
        block_in_place(|| self.store.notice_rests(notice.seq, Unix(now.0.saturating_add(rest))))
    }
}

//! The board's issuer: its keysets, and whether a credential is one of them. What is sold is in `till.rs`.
//!
//! Keys follow from the seed and the times of an epoch. The times are written down before a keyset is used, so that a credential is
//! known again whatever the configuration has become.

mod till;

use std::path::Path;
use std::sync::{Arc, PoisonError, RwLock};

use board::admission::{Credentials, Refusal, Rule, Spent};
use board::operator::Operator;
use board::policy::{KindRange, Policy};
use credential::quote::BATCH_MAX;
use credential::{BlindSignature, Keyset, KeysetId, KeysetSecret, Stamp};
use keys::{Seed, SeedError};
use secp256k1::{Keypair, PublicKey, SECP256K1};
use serde::{Deserialize, Serialize};
use units::{Msat, Unix};
use wire::event::{Event, Unsigned, pubkey_of};
use zeroize::Zeroizing;

use crate::config;
use crate::post::{self, PostError};
use crate::purse::policy::Policy as Terms;
use crate::purse::postage::Grant;
use crate::store::{Store, StoreError};

pub(crate) use till::{REQUESTS_MAX, Till};

/// The file in the data directory.
pub(crate) const FILE: &str = "issuer.sqlite";
/// Class of every credential, for the policy's `per-credential-class`.
const CLASS: &str = "order";
/// Where a keyset's times are kept.
const KEYSETS: &str = "keyset/";
const DAY_SECS: u64 = 24 * 3600;

/// Why there is no issuer.
#[derive(Debug, thiserror::Error)]
pub enum IssuerError {
    /// Its store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The seed has no key there (one chance in 2^127).
    #[error("the board has no key: {0}")]
    Seed(#[from] SeedError),
    /// Likewise.
    #[error("the board's key is none: {0}")]
    Key(#[from] secp256k1::Error),
    /// What is stored is damaged.
    #[error("{FILE}: {0}")]
    Damaged(#[from] serde_json::Error),
}

/// Signs credentials of our own board, and knows them again.
pub(crate) struct Issuer {
    /// The key that the board speaks with.
    key: Keypair,
    master: Zeroizing<[u8; 32]>,
    store: Arc<Store>,
    terms: config::Credentials,
    clock: fn() -> Unix,
    /// Every keyset whose credentials are taken, the latest last.
    epochs: RwLock<Vec<Epoch>>,
}

#[derive(Clone, Copy)]
struct Epoch {
    secret: KeysetSecret,
    keyset: Keyset,
}

/// What a keyset's key follows from.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct Times {
    issue_from: Unix,
    issue_until: Unix,
    redeem_until: Unix,
}

impl Issuer {
    /// The issuer of the state in `data_dir`.
    pub(crate) fn open(
        terms: &config::Credentials,
        data_dir: &Path,
        seed: &Seed,
        clock: fn() -> Unix,
    ) -> Result<Issuer, IssuerError> {
        let store = Arc::new(Store::open(&data_dir.join(FILE), &seed.data())?);
        let key = Keypair::from_seckey_slice(SECP256K1, seed.board()?.as_slice())?;
        let issuer = Issuer {
            key,
            master: seed.keysets(),
            terms: terms.clone(),
            clock,
            epochs: RwLock::default(),
            store: store.clone(),
        };
        for (_, times) in store.list(KEYSETS)? {
            issuer.know(serde_json::from_slice(&times)?);
        }
        issuer.renew()?;
        Ok(issuer)
    }

    /// The key that the board speaks with.
    pub(crate) fn pubkey(&self) -> [u8; 32] {
        pubkey_of(&self.key)
    }

    /// What a backup has to keep.
    pub(crate) fn store(&self) -> &Arc<Store> {
        &self.store
    }

    /// What kind 13250 says: every keyset, and the kinds of events that need a credential.
    fn on_offer(&self, policy: &Policy) -> Vec<Vec<String>> {
        let mut tags: Vec<_> = self.keysets().iter().map(Keyset::to_tag).collect();
        let tag = |name: &str, value: String| vec![name.to_owned(), value];
        tags.extend([tag("class", CLASS.into()), tag("method", "bolt11".into()), tag("max_k", BATCH_MAX.to_string())]);
        let kinds = policy.credential_kinds();
        tags.push(std::iter::once("kinds".to_owned()).chain(kinds.iter().map(KindRange::to_string)).collect());
        tags
    }

    /// An event of the board's own.
    fn signs(&self, kind: u16, created_at: Unix, tags: Vec<Vec<String>>, content: String) -> Result<Event, PostError> {
        let unsigned = Unsigned { pubkey: self.pubkey(), created_at, kind, tags, content };
        Ok(unsigned.sign(&self.key, &post::entropy()?))
    }

    /// Begins the epoch that it is time for, and forgets those that are over. Gives whether any is.
    fn renew(&self) -> Result<bool, IssuerError> {
        let now = (self.clock)();
        let epoch = self.terms.epoch_days.max(1) * DAY_SECS;
        let issue_from = Unix(now.0 / epoch * epoch);
        let issue_until = Unix(issue_from.0 + epoch);
        let redeem_until = Unix(issue_until.0 + self.terms.grace_days * DAY_SECS);
        let times = Times { issue_from, issue_until, redeem_until };
        let id = self.secret(times).id();
        if self.find(id).is_none() {
            self.store.put(&format!("{KEYSETS}{id}"), &serde_json::to_vec(&times)?)?;
            self.know(times);
        }
        let mut epochs = self.epochs.write().unwrap_or_else(PoisonError::into_inner);
        let over: Vec<_> = epochs.extract_if(.., |epoch| epoch.keyset.redeem_until <= now).collect();
        over.iter().try_for_each(|epoch| self.store.remove(&format!("{KEYSETS}{}", epoch.keyset.id)))?;
        // What the configuration asks for now is what is sold.
        epochs.sort_by_key(|epoch| (epoch.keyset.id == id, epoch.keyset.issue_from));
        Ok(!over.is_empty())
    }

    fn secret(&self, times: Times) -> KeysetSecret {
        KeysetSecret::derive(&self.master, times.issue_from, times.issue_until, times.redeem_until)
    }

    fn know(&self, times: Times) {
        let secret = self.secret(times);
        let Times { issue_from, issue_until, redeem_until } = times;
        let keyset = secret.publish(Msat(self.terms.price_msat), issue_from, issue_until, redeem_until);
        self.epochs.write().unwrap_or_else(PoisonError::into_inner).push(Epoch { secret, keyset });
    }

    fn find(&self, id: KeysetId) -> Option<Epoch> {
        let epochs = self.epochs.read().unwrap_or_else(PoisonError::into_inner);
        epochs.iter().find(|epoch| epoch.keyset.id == id).copied()
    }

    /// The keyset that is sold now.
    fn on_sale(&self) -> Option<Epoch> {
        let now = (self.clock)();
        let epochs = self.epochs.read().unwrap_or_else(PoisonError::into_inner);
        epochs.last().filter(|epoch| epoch.keyset.issues(now)).copied()
    }

    /// Every keyset whose credentials are taken now.
    fn keysets(&self) -> Vec<Keyset> {
        let now = (self.clock)();
        let epochs = self.epochs.read().unwrap_or_else(PoisonError::into_inner);
        epochs.iter().map(|epoch| epoch.keyset).filter(|keyset| keyset.redeems(now)).collect()
    }
}

/// Our own board as our own trader meets it: nobody pays himself.
pub(crate) struct OwnBoard {
    pub(crate) issuer: Arc<Issuer>,
    pub(crate) operator: Operator,
}

impl Grant for OwnBoard {
    fn terms(&self) -> Option<Terms> {
        let policy = self.operator.policy();
        if policy.credential_kinds().is_empty() {
            return None;
        }
        Terms::of_tags(self.issuer.pubkey(), &self.issuer.on_offer(&policy)).ok()
    }

    fn sign(&self, keyset: KeysetId, blinded: &[PublicKey]) -> Option<Vec<BlindSignature>> {
        let epoch = self.issuer.on_sale().filter(|epoch| epoch.keyset.id == keyset)?;
        Some(blinded.iter().map(|point| epoch.secret.sign(point)).collect())
    }
}

impl Credentials for Issuer {
    fn check(&self, event: &[u8; 32], credential: &str, now: Unix) -> Result<Spent, Refusal> {
        let refuse = |cause: String| Refusal { rule: Rule::Credential, cause };
        let stamp: Stamp = credential.parse().map_err(|why: credential::BadStamp| refuse(why.to_string()))?;
        let Some(epoch) = self.find(stamp.keyset).filter(|epoch| epoch.keyset.redeems(now)) else {
            let cause =
                format!("keyset {} is not taken here, or not any more; kind 13250 names those that are", stamp.keyset);
            return Err(refuse(cause));
        };
        if !epoch.secret.redeems(&stamp, event) {
            return Err(refuse("this credential was not signed here, or is for another event".into()));
        }
        Ok(Spent { stamp, class: CLASS.into() })
    }

    fn keyset(&self, _: Unix) -> Option<Keyset> {
        self.on_sale().map(|epoch| epoch.keyset)
    }
}

//! The purse: credentials of boards, how they are bought, and which event each is spent for.
//!
//! Everything is in the store before anything is done with it: a batch before its board is asked, paid or believed, and the event of a
//! credential before the board sees it. What is in the purse is as good as money: it is sealed in the store, and neither logged nor told
//! over the API.

mod batch;
pub(crate) mod buying;
mod contents;
pub(crate) mod line;
pub(crate) mod policy;
pub(crate) mod postage;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use credential::{Keyset, KeysetId, Stamp};
use tokio::sync::watch;
use trade::MessageId;
use units::{Msat, Unix};
use zeroize::Zeroizing;

use crate::store::{Store, StoreError};

pub(crate) use batch::{Batch, State};
use contents::{Another, Contents, Spend, TokenName};
pub(crate) use contents::{BatchName, Count};

/// Where batches, the fate of credentials and the numbers of blanks are kept.
const BATCH: &str = "purse/batch/";
const SPEND: &str = "purse/spend/";
const BLANK: &str = "purse/blank/";
/// Blanks that a second has numbers for: a batch that is ordered in a later second never has a number of an earlier one, not even when the
/// store is older than that one.
const BLANKS_PER_SECOND: u64 = 256;
/// How long what is of no use any more is still shown.
const REMEMBERED_SECS: u64 = 7 * 24 * 3600;

/// Why the purse cannot serve.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PurseError {
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// What is stored is damaged.
    #[error("the purse has an entry that cannot be read: {0}")]
    Damaged(String),
}

/// Credentials of boards.
pub(crate) struct Purse {
    store: Arc<Store>,
    /// Blanks and keys of batches derive from it.
    master: Zeroizing<[u8; 32]>,
    contents: Mutex<Contents>,
    /// Why batches do not get on, in words.
    troubles: Mutex<BTreeMap<BatchName, String>>,
    /// Grows by one whenever credentials have come.
    filled: watch::Sender<u64>,
}

impl Purse {
    /// What the store knows. Nothing is bought or shown yet.
    pub(crate) fn open(store: Arc<Store>, master: Zeroizing<[u8; 32]>, now: Unix) -> Result<Purse, PurseError> {
        let mut contents = Contents::default();
        for (name, body) in store.list(BATCH)? {
            match serde_json::from_slice(&body) {
                Ok(batch) => contents.put_batch(batch),
                // Trades go on without it.
                Err(_) => tracing::error!(%name, "a batch of credentials cannot be read"),
            }
        }
        for (name, body) in store.list(SPEND)? {
            let token = name.strip_prefix(SPEND).and_then(token_of);
            let spend: Option<Spend> = serde_json::from_slice(&body).ok();
            match (token, spend) {
                (Some(token), Some(spend)) => contents.put_spend(token, spend),
                // The board refuses it the second time.
                _ => tracing::error!(%name, "what a credential was shown for cannot be read"),
            }
        }
        let contents = Mutex::new(contents);
        let purse = Purse { store, master, contents, troubles: Mutex::default(), filled: watch::Sender::default() };
        purse.tidy(now)?;
        purse.wake_letters(now)?;
        Ok(purse)
    }

    /// What waits for credentials that are there goes out: a process may have ended between the two.
    fn wake_letters(&self, now: Unix) -> Result<(), PurseError> {
        let contents = self.lock();
        let boards: BTreeSet<&String> = contents.batches().map(|batch| &batch.board).collect();
        for board in boards.into_iter().filter(|board| contents.count_free(board, now) > 0) {
            self.store.wake(board)?;
        }
        Ok(())
    }

    /// Blanks and keys of batches derive from it.
    fn master(&self) -> &[u8; 32] {
        &self.master
    }

    /// Changes when credentials have come.
    pub(crate) fn filled(&self) -> watch::Receiver<u64> {
        self.filled.subscribe()
    }

    /// A batch by its name.
    pub(crate) fn batch(&self, name: BatchName) -> Option<Batch> {
        self.lock().batch(name).cloned()
    }

    /// A batch by what its board calls it.
    pub(crate) fn batch_of(&self, quote: &str) -> Option<Batch> {
        self.lock().batches().find(|batch| batch.quote == quote).cloned()
    }

    /// Batches that are not over.
    pub(crate) fn under_way(&self) -> Vec<Batch> {
        self.lock().batches().filter(|batch| !batch.is_over()).cloned().collect()
    }

    /// What batches cost that were ordered since `at`, but for those that were not paid in the end.
    pub(crate) fn spent_since(&self, at: Unix) -> Msat {
        let contents = self.lock();
        let paid = contents.batches().filter(|batch| batch.at >= at && batch.may_have_cost());
        Msat(paid.filter_map(Batch::amount).fold(0, |sum, amount| sum.saturating_add(amount.0)))
    }

    /// Why a batch does not get on, for people; none when it does.
    fn has_trouble(&self, name: BatchName, why: Option<String>) {
        let mut troubles = self.troubles.lock().unwrap_or_else(PoisonError::into_inner);
        match why {
            Some(why) => troubles.insert(name, why),
            None => troubles.remove(&name),
        };
    }

    /// The same, to be read.
    pub(crate) fn trouble(&self, name: BatchName) -> Option<String> {
        self.troubles.lock().unwrap_or_else(PoisonError::into_inner).get(&name).cloned()
    }

    /// What there is, by board and keyset.
    pub(crate) fn counts(&self) -> BTreeMap<(String, KeysetId), Count> {
        self.lock().counts()
    }

    /// Batches that are under way, and those of which nothing came.
    pub(crate) fn unfinished(&self) -> Vec<Batch> {
        let mut found: Vec<_> = self.lock().batches().filter(|batch| !batch.is_issued()).cloned().collect();
        found.sort_by_key(|batch| batch.at);
        found
    }

    /// How many credentials of a board may be shown now.
    pub(crate) fn count_free(&self, board: &str, now: Unix) -> usize {
        self.lock().count_free(board, now)
    }

    /// Forgets batches that are of no use any more.
    fn tidy(&self, now: Unix) -> Result<(), PurseError> {
        let mut contents = self.lock();
        let old = |at: Unix| now.0 > at.0.saturating_add(REMEMBERED_SECS);
        let over = |batch: &&Batch| match &batch.state {
            // What was paid and never given stays as proof.
            State::Failed { paid: None, .. } => old(batch.at),
            State::Issued { .. } => old(batch.keyset.redeem_until),
            _ => false,
        };
        let names: Vec<_> = contents.batches().filter(over).map(|batch| (batch.keyset.id, batch.first)).collect();
        for name in names {
            // Their time is over, so that nothing is shown again when this is broken off.
            for token in contents.forget(name) {
                self.store.remove(&name_of(SPEND, token))?;
            }
            self.store.remove(&name_of(BATCH, name))?;
        }
        Ok(())
    }

    /// Orders a batch: recorded, and nothing asked yet.
    pub(crate) fn order(
        &self,
        board: (&str, [u8; 32]),
        keyset: Keyset,
        count: usize,
        now: Unix,
    ) -> Result<Batch, PurseError> {
        let mut contents = self.lock();
        let counter = format!("{BLANK}{}", keyset.id);
        let counted = match self.store.get(&counter)? {
            Some(bytes) => u64::from_be_bytes(bytes.try_into().map_err(|_| PurseError::Damaged(counter.clone()))?),
            None => 0,
        };
        let by_time = now.0.saturating_sub(keyset.issue_from.0).saturating_mul(BLANKS_PER_SECOND);
        let first = counted.max(by_time).max(contents.next_blank(keyset.id));
        // Numbers that are counted and not used are lost, which costs nothing.
        self.store.put(&counter, &first.saturating_add(count as u64).to_be_bytes())?;
        let batch = Batch::order(&self.master, board, keyset, (first, count), now);
        self.record(&mut contents, batch.clone())?;
        Ok(batch)
    }

    /// A batch has come so far: recorded.
    pub(crate) fn moves(&self, name: BatchName, state: State) -> Result<Batch, PurseError> {
        let mut contents = self.lock();
        let batch = contents.batch(name).cloned().ok_or_else(|| PurseError::Damaged(name_of(BATCH, name)))?;
        let batch = Batch { state, ..batch };
        self.record(&mut contents, batch.clone())?;
        drop(contents);
        if batch.is_issued() {
            self.store.wake(&batch.board)?;
            self.filled.send_modify(|times| *times += 1);
        }
        Ok(batch)
    }

    fn record(&self, contents: &mut Contents, batch: Batch) -> Result<(), PurseError> {
        let name = name_of(BATCH, (batch.keyset.id, batch.first));
        let body = serde_json::to_vec(&batch).map_err(|_| PurseError::Damaged(name.clone()))?;
        self.store.put(&name, &body)?;
        contents.put_batch(batch);
        Ok(())
    }

    /// What the credential of a board shows for an event: the same for the same event again, and one that was never shown for any other
    /// else. None when there is none.
    pub(crate) fn stamp(&self, board: &str, event: MessageId, now: Unix) -> Result<Option<Stamp>, PurseError> {
        let mut contents = self.lock();
        if let Some(token) = contents.shown(board, event, now) {
            return Ok(contents.stamp(token, event));
        }
        let free = contents.free(board, now);
        // In any order: how they were bought says nothing about how they are spent.
        let Some(token) = pick(&free)? else { return Ok(None) };
        let spend = Spend { event, at: now, lost: None };
        self.record_spend(&mut contents, token, spend)?;
        Ok(contents.stamp(token, event))
    }

    /// A board refused an event with the credential that was shown for it: it may have been spent before. Another one takes its place, but
    /// seldom, because the board may have another reason. None when the event has to rest.
    pub(crate) fn stamp_again(&self, board: &str, event: MessageId, now: Unix) -> Result<Option<Stamp>, PurseError> {
        let mut contents = self.lock();
        let Another::InsteadOf(token, spend) = contents.another(board, event, now) else { return Ok(None) };
        self.record_spend(&mut contents, token, spend)?;
        drop(contents);
        tracing::warn!(%board, "the board did not take a credential that it sold: it is given up");
        self.stamp(board, event, now)
    }

    fn record_spend(&self, contents: &mut Contents, token: TokenName, spend: Spend) -> Result<(), PurseError> {
        let name = name_of(SPEND, token);
        let body = serde_json::to_vec(&spend).map_err(|_| PurseError::Damaged(name.clone()))?;
        self.store.put(&name, &body)?;
        contents.put_spend(token, spend);
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, Contents> {
        self.contents.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One of them, no more likely than any other.
fn pick(free: &[TokenName]) -> Result<Option<TokenName>, PurseError> {
    if free.is_empty() {
        return Ok(None);
    }
    let mut random = [0; 8];
    getrandom::fill(&mut random).map_err(|e| StoreError::Entropy(e.to_string()))?;
    // So few out of 2^64 make none likelier.
    let at = u64::from_le_bytes(random) % free.len() as u64;
    Ok(free.get(usize::try_from(at).unwrap_or(0)).copied())
}

fn name_of(what: &str, (keyset, index): (KeysetId, u64)) -> String {
    format!("{what}{keyset}/{index:016x}")
}

fn token_of(name: &str) -> Option<TokenName> {
    let (keyset, index) = name.split_once('/')?;
    Some((keyset.parse().ok()?, u64::from_str_radix(index, 16).ok()?))
}

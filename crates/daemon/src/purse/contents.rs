//! What is in the purse: batches, and which event each credential was shown for. Pure; the purse records what it changes.

use std::collections::BTreeMap;

use credential::{KeysetId, Stamp};
use serde::{Deserialize, Serialize};
use trade::MessageId;
use units::Unix;

use super::batch::{Batch, State};

/// Credentials whose time ends sooner than this are not shown any more: the board's clock may be ahead.
const MARGIN_SECS: u64 = 120;
/// How often a credential may be given up for one event, over all, and how far apart.
const LOST_MAX: usize = 3;
const LOST_EVERY_SECS: u64 = 3600;

/// A batch by its keyset and the number of its first blank.
pub(crate) type BatchName = (KeysetId, u64);
/// A credential by its keyset and the number of its blank.
pub(crate) type TokenName = (KeysetId, u64);

/// What a credential was shown for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Spend {
    /// Which event.
    pub(crate) event: MessageId,
    /// When, for the first time.
    pub(crate) at: Unix,
    /// Since when it is given up, because the board would not take it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) lost: Option<Unix>,
}

/// What there is of one keyset of a board.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Count {
    /// Shown for no event yet.
    pub(crate) free: usize,
    /// Shown for an event.
    pub(crate) used: usize,
    /// Given up.
    pub(crate) lost: usize,
    /// Until when they are taken.
    pub(crate) until: Unix,
}

/// Whether another credential may be taken for an event that a board refused with one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Another {
    /// This one is to be given up first.
    InsteadOf(TokenName, Spend),
    /// Too soon, or too often: the event rests with the one that it has.
    NotNow,
}

/// Everything in the purse.
#[derive(Default)]
pub(crate) struct Contents {
    batches: BTreeMap<BatchName, Batch>,
    spends: BTreeMap<TokenName, Spend>,
    /// The same by event.
    shown: BTreeMap<MessageId, Vec<TokenName>>,
}

impl Contents {
    pub(crate) fn put_batch(&mut self, batch: Batch) {
        self.batches.insert((batch.keyset.id, batch.first), batch);
    }

    pub(crate) fn put_spend(&mut self, token: TokenName, spend: Spend) {
        let event = spend.event;
        if self.spends.insert(token, spend).is_none() {
            self.shown.entry(event).or_default().push(token);
        }
    }

    pub(crate) fn batch(&self, name: BatchName) -> Option<&Batch> {
        self.batches.get(&name)
    }

    pub(crate) fn batches(&self) -> impl Iterator<Item = &Batch> {
        self.batches.values()
    }

    /// The number after the last blank of a keyset that was ordered.
    pub(crate) fn next_blank(&self, keyset: KeysetId) -> u64 {
        let of_it = self.batches.range((keyset, 0)..=(keyset, u64::MAX)).next_back();
        of_it.map_or(0, |((_, first), batch)| first.saturating_add(batch.count as u64))
    }

    /// Credentials of a board that may be shown now, of the keyset first whose time ends first.
    pub(crate) fn free(&self, board: &str, now: Unix) -> Vec<TokenName> {
        let good = |batch: &&Batch| batch.board == board && is_good(batch, now);
        let last = self.batches.values().filter(good).filter(|batch| self.free_of(batch).next().is_some());
        let Some(until) = last.map(|batch| batch.keyset.redeem_until).min() else { return Vec::new() };
        let first = self.batches.values().filter(good).filter(|batch| batch.keyset.redeem_until == until);
        first.flat_map(|batch| self.free_of(batch)).collect()
    }

    /// How many credentials of a board may be shown now.
    pub(crate) fn count_free(&self, board: &str, now: Unix) -> usize {
        let good = self.batches.values().filter(|batch| batch.board == board && is_good(batch, now));
        good.map(|batch| self.free_of(batch).count()).sum()
    }

    fn free_of<'a>(&'a self, batch: &'a Batch) -> impl Iterator<Item = TokenName> + 'a {
        names(batch).filter(|name| !self.spends.contains_key(name))
    }

    /// The credential that was shown to a board for an event, and can still be.
    pub(crate) fn shown(&self, board: &str, event: MessageId, now: Unix) -> Option<TokenName> {
        let of_event = self.of_event(board, event);
        let good = |name: &TokenName| self.holder(*name).is_some_and(|batch| is_good(batch, now));
        of_event.filter(|(_, spend)| spend.lost.is_none()).map(|(name, _)| name).find(good)
    }

    /// The board refused an event with the credential that was shown for it.
    pub(crate) fn another(&self, board: &str, event: MessageId, now: Unix) -> Another {
        let lost: Vec<Unix> = self.of_event(board, event).filter_map(|(_, spend)| spend.lost).collect();
        let lately = lost.iter().any(|at| now.0 < at.0.saturating_add(LOST_EVERY_SECS));
        let current = self.of_event(board, event).find(|(_, spend)| spend.lost.is_none());
        match current {
            Some((name, spend)) if lost.len() < LOST_MAX && !lately => {
                Another::InsteadOf(name, Spend { lost: Some(now), ..spend.clone() })
            }
            Some(_) | None => Another::NotNow,
        }
    }

    fn of_event(&self, board: &str, event: MessageId) -> impl Iterator<Item = (TokenName, &Spend)> {
        let names = self.shown.get(&event).into_iter().flatten();
        let of_board = names.filter(move |name| self.holder(**name).is_some_and(|batch| batch.board == board));
        of_board.filter_map(|name| Some((*name, self.spends.get(name)?)))
    }

    /// The batch that a credential is of.
    fn holder(&self, (keyset, index): TokenName) -> Option<&Batch> {
        let (_, batch) = self.batches.range((keyset, 0)..=(keyset, index)).next_back()?;
        (index - batch.first < batch.count as u64).then_some(batch)
    }

    /// What is shown of a credential for an event.
    pub(crate) fn stamp(&self, name: TokenName, event: MessageId) -> Option<Stamp> {
        let batch = self.holder(name)?;
        let place = usize::try_from(name.1 - batch.first).ok()?;
        Some(batch.token(place)?.stamp(&event.0))
    }

    /// What there is, by board and keyset.
    pub(crate) fn counts(&self) -> BTreeMap<(String, KeysetId), Count> {
        let mut counts = BTreeMap::<_, Count>::new();
        for batch in self.batches.values().filter(|batch| matches!(batch.state, State::Issued { .. })) {
            let count = counts.entry((batch.board.clone(), batch.keyset.id)).or_default();
            count.until = batch.keyset.redeem_until;
            for name in names(batch) {
                match self.spends.get(&name) {
                    None => count.free += 1,
                    Some(Spend { lost: None, .. }) => count.used += 1,
                    Some(_) => count.lost += 1,
                }
            }
        }
        counts
    }

    /// Forgets a batch; returns the credentials of it that were shown.
    pub(crate) fn forget(&mut self, name: BatchName) -> Vec<TokenName> {
        let Some(batch) = self.batches.remove(&name) else { return Vec::new() };
        let shown: Vec<_> = names(&batch).filter(|name| self.spends.contains_key(name)).collect();
        for token in &shown {
            if let Some(spend) = self.spends.remove(token)
                && let Some(of_event) = self.shown.get_mut(&spend.event)
            {
                of_event.retain(|other| other != token);
            }
        }
        self.shown.retain(|_, names| !names.is_empty());
        shown
    }
}

fn is_good(batch: &Batch, now: Unix) -> bool {
    matches!(batch.state, State::Issued { .. }) && batch.keyset.redeems(Unix(now.0.saturating_add(MARGIN_SECS)))
}

fn names(batch: &Batch) -> impl Iterator<Item = TokenName> + use<> {
    let (keyset, first) = (batch.keyset.id, batch.first);
    (first..first + batch.count as u64).map(move |index| (keyset, index))
}

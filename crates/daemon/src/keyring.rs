//! Our Nostr keys, by public key: the identity and one key for each trade.

use std::collections::BTreeMap;
use std::sync::Arc;

use keys::{Seed, SeedError};
use secp256k1::{Keypair, SECP256K1};
use trade::PartyKey;
use units::Unix;

use crate::clock;
use crate::store::{Store, StoreError};

/// Where the ranges of indexes handed out are kept: two numbers each, the first and the one after the last. One range for each
/// life of the log; the last one grows.
const RANGE: &str = "keys/range";

/// Above it, BIP-32 indexes are hardened.
const INDEX_MAX: u32 = 0x7fff_ffff;

/// Keys that an old machine may have handed out without anybody knowing.
const UNKNOWN_MAX: u32 = 10_000;

/// Why a key cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum KeyringError {
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The seed has no key at this index (one chance in 2^127).
    #[error("no key at this index: {0}")]
    Seed(#[from] SeedError),
    /// The derived secret is no valid key (likewise).
    #[error("derived secret is no key: {0}")]
    Key(#[from] secp256k1::Error),
    /// The counter in the store is damaged.
    #[error("the key counter in the store is damaged")]
    Counter,
}

/// All keys handed out so far. Index 0 is the identity that reputation attaches to.
pub(crate) struct Keyring {
    seed: Arc<Seed>,
    store: Arc<Store>,
    identity: PartyKey,
    ranges: Vec<(u32, u32)>,
    keys: BTreeMap<PartyKey, Keypair>,
    handed_out: BTreeMap<u32, PartyKey>,
}

impl Keyring {
    /// Derives every key that was ever handed out.
    pub(crate) fn open(seed: Arc<Seed>, store: Arc<Store>) -> Result<Keyring, KeyringError> {
        let ranges = match store.get(RANGE)? {
            Some(bytes) => read_ranges(&bytes).ok_or(KeyringError::Counter)?,
            None => {
                let ranges = vec![fresh_range(clock::unix(), &[])];
                store.put(RANGE, &write_ranges(&ranges))?;
                ranges
            }
        };
        let (identity, _) = derive(&seed, 0)?;
        let mut keyring = Keyring { seed, store, identity, ranges, keys: BTreeMap::new(), handed_out: BTreeMap::new() };
        let used: Vec<u32> = keyring.ranges.iter().flat_map(|(first, next)| *first..*next).collect();
        for index in std::iter::once(0).chain(used) {
            keyring.add(index)?;
        }
        Ok(keyring)
    }

    /// The key that reputation attaches to.
    pub(crate) fn identity(&self) -> PartyKey {
        self.identity
    }

    /// A key that was never used. The store knows it before anybody else does.
    pub(crate) fn fresh(&mut self) -> Result<PartyKey, KeyringError> {
        let index = self.next();
        let mut ranges = self.ranges.clone();
        if let Some((_, next)) = ranges.last_mut() {
            *next = index + 1;
        }
        self.store.put(RANGE, &write_ranges(&ranges))?;
        self.ranges = ranges;
        self.add(index)
    }

    fn next(&self) -> u32 {
        self.ranges.last().map_or(1, |(_, next)| *next)
    }

    /// Every range of indexes that was handed out, that of this life last.
    pub(crate) fn ranges(&self) -> &[(u32, u32)] {
        &self.ranges
    }

    fn add(&mut self, index: u32) -> Result<PartyKey, KeyringError> {
        let (public, pair) = derive(&self.seed, index)?;
        self.keys.insert(public, pair);
        self.handed_out.insert(index, public);
        Ok(public)
    }

    /// The key pair of one of our public keys.
    pub(crate) fn pair(&self, public: &PartyKey) -> Option<&Keypair> {
        self.keys.get(public)
    }

    /// The identity and the `most` keys that were handed out last, in this life of the log or an earlier one.
    pub(crate) fn recent(&self, most: usize) -> impl Iterator<Item = PartyKey> {
        let used = self.handed_out.iter().rev().filter(|(index, _)| **index != 0).map(|(_, key)| *key);
        std::iter::once(self.identity).chain(used.take(most))
    }
}

/// Where a store that is new begins to count. A trade key that was used once must never be used again, not even when the seed was
/// restored without the store: the same key on the same listing would give the same secrets, and the first payee knows those.
fn fresh_range(now: Unix, used: &[(u32, u32)]) -> (u32, u32) {
    let minutes = u32::try_from(now.0 / 60).unwrap_or(u32::MAX);
    let after = used.iter().map(|(_, next)| next.saturating_add(UNKNOWN_MAX)).max().unwrap_or(1);
    let first = minutes.clamp(1, INDEX_MAX / 2).max(after).min(INDEX_MAX);
    (first, first)
}

/// After a restore: the keys that were handed out before are known again, and counting begins where nothing was ever used.
pub(crate) fn restore(store: &Store, found: &[(u32, u32)], now: Unix) -> Result<(), KeyringError> {
    let mut ranges = match store.get(RANGE)? {
        Some(bytes) => read_ranges(&bytes).ok_or(KeyringError::Counter)?,
        None => Vec::new(),
    };
    found.iter().for_each(|range| widen(&mut ranges, *range));
    ranges.retain(|(first, next)| first < next && *next <= INDEX_MAX);
    ranges.push(fresh_range(now, &ranges));
    Ok(store.put(RANGE, &write_ranges(&ranges))?)
}

/// Adds what another source knows of a range: the one that reaches farther counts.
pub(crate) fn widen(ranges: &mut Vec<(u32, u32)>, (first, next): (u32, u32)) {
    match ranges.iter_mut().find(|(known, _)| *known == first) {
        Some((_, known)) => *known = (*known).max(next),
        None => ranges.push((first, next)),
    }
}

fn read_ranges(bytes: &[u8]) -> Option<Vec<(u32, u32)>> {
    let (pairs, rest) = bytes.as_chunks::<8>();
    let number = |bytes: &[u8]| bytes.iter().fold(0_u32, |number, byte| number << 8 | u32::from(*byte));
    let ranges: Vec<_> = pairs.iter().map(|pair| (number(&pair[..4]), number(&pair[4..]))).collect();
    let sound = ranges.iter().all(|(first, next)| 0 < *first && first <= next);
    (sound && rest.is_empty() && !ranges.is_empty()).then_some(ranges)
}

fn write_ranges(ranges: &[(u32, u32)]) -> Vec<u8> {
    ranges.iter().flat_map(|(first, next)| [first.to_be_bytes(), next.to_be_bytes()].concat()).collect()
}

fn derive(seed: &Seed, index: u32) -> Result<(PartyKey, Keypair), KeyringError> {
    let pair = Keypair::from_seckey_slice(SECP256K1, &*seed.nostr(index)?)?;
    Ok((PartyKey(wire::event::pubkey_of(&pair)), pair))
}

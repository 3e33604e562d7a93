//! Our Nostr keys, by public key: the identity and one key for each trade.

use std::collections::BTreeMap;
use std::sync::Arc;

use keys::{Seed, SeedError};
use secp256k1::{Keypair, SECP256K1};
use trade::PartyKey;
use units::Unix;

use crate::clock;
use crate::store::{Store, StoreError};

/// Where the range of indexes handed out is kept: two numbers, the first and the one after the last.
const RANGE: &str = "keys/range";

/// Above it, BIP-32 indexes are hardened.
const INDEX_MAX: u32 = 0x7fff_ffff;

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
    first: u32,
    next: u32,
    keys: BTreeMap<PartyKey, Keypair>,
    handed_out: BTreeMap<u32, PartyKey>,
}

impl Keyring {
    /// Derives every key that was ever handed out.
    pub(crate) fn open(seed: Arc<Seed>, store: Arc<Store>) -> Result<Keyring, KeyringError> {
        let (first, next) = match store.get(RANGE)? {
            Some(bytes) => read_range(&bytes).ok_or(KeyringError::Counter)?,
            None => {
                let first = fresh_range(clock::unix());
                store.put(RANGE, &write_range(first, first))?;
                (first, first)
            }
        };
        let (identity, _) = derive(&seed, 0)?;
        let mut keyring =
            Keyring { seed, store, identity, first, next, keys: BTreeMap::new(), handed_out: BTreeMap::new() };
        for index in std::iter::once(0).chain(first..next) {
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
        self.store.put(RANGE, &write_range(self.first, self.next + 1))?;
        self.next += 1;
        self.add(self.next - 1)
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

    /// The identity and the `most` keys that were handed out last.
    pub(crate) fn recent(&self, most: u32) -> impl Iterator<Item = PartyKey> {
        let from = self.next.saturating_sub(most);
        self.handed_out.iter().filter(move |(index, _)| **index == 0 || **index >= from).map(|(_, key)| *key)
    }
}

/// Where a store that is new begins to count. A trade key that was used once must never be used again, not even when the seed was
/// restored without the store: the same key on the same listing would give the same secrets, and the first payee knows those.
fn fresh_range(now: Unix) -> u32 {
    let minutes = u32::try_from(now.0 / 60).unwrap_or(u32::MAX);
    minutes.clamp(1, INDEX_MAX / 2)
}

fn read_range(bytes: &[u8]) -> Option<(u32, u32)> {
    let (first, next) = bytes.split_first_chunk::<4>()?;
    let (first, next) = (u32::from_be_bytes(*first), u32::from_be_bytes(next.try_into().ok()?));
    (0 < first && first <= next).then_some((first, next))
}

fn write_range(first: u32, next: u32) -> [u8; 8] {
    let mut bytes = [0; 8];
    bytes[..4].copy_from_slice(&first.to_be_bytes());
    bytes[4..].copy_from_slice(&next.to_be_bytes());
    bytes
}

fn derive(seed: &Seed, index: u32) -> Result<(PartyKey, Keypair), KeyringError> {
    let pair = Keypair::from_seckey_slice(SECP256K1, &*seed.nostr(index)?)?;
    Ok((PartyKey(wire::event::pubkey_of(&pair)), pair))
}

//! Our Nostr keys, by public key: the identity and one key for each trade.

use std::collections::BTreeMap;
use std::sync::Arc;

use keys::{Seed, SeedError};
use secp256k1::{Keypair, SECP256K1};
use trade::PartyKey;

use crate::store::{Store, StoreError};

/// Where the number of keys handed out is kept.
const NEXT_INDEX: &str = "keys/next";

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
    next: u32,
    keys: BTreeMap<PartyKey, Keypair>,
    handed_out: BTreeMap<u32, PartyKey>,
}

impl Keyring {
    /// Derives every key that was ever handed out.
    pub(crate) fn open(seed: Arc<Seed>, store: Arc<Store>) -> Result<Keyring, KeyringError> {
        let next = match store.get(NEXT_INDEX)? {
            Some(bytes) => u32::from_be_bytes(bytes.try_into().map_err(|_| KeyringError::Counter)?),
            None => 1,
        };
        let (identity, _) = derive(&seed, 0)?;
        let mut keyring = Keyring { seed, store, identity, next, keys: BTreeMap::new(), handed_out: BTreeMap::new() };
        for index in 0..next {
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
        self.store.put(NEXT_INDEX, &(self.next + 1).to_be_bytes())?;
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

fn derive(seed: &Seed, index: u32) -> Result<(PartyKey, Keypair), KeyringError> {
    let pair = Keypair::from_seckey_slice(SECP256K1, &*seed.nostr(index)?)?;
    Ok((PartyKey(wire::event::pubkey_of(&pair)), pair))
}

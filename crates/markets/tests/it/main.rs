//! Adverts of other markets are read as they are really written, and ours come back as they were meant.

#![allow(clippy::unwrap_used, missing_docs, reason = "tests")]

mod hostile;
mod samples;
mod written;

use secp256k1::{Keypair, SECP256K1};
use units::Unix;
use wire::{Event, Unsigned};

/// A moment before any of the samples expires.
pub(crate) const NOW: Unix = Unix(1_719_000_000);

pub(crate) fn key() -> Keypair {
    Keypair::from_seckey_slice(SECP256K1, &[7; 32]).unwrap()
}

pub(crate) fn event(kind: u16, tags: &[&[&str]], content: &str) -> Event {
    let tags = tags.iter().map(|tag| tag.iter().map(ToString::to_string).collect()).collect();
    sign(Unsigned { pubkey: [0; 32], created_at: NOW, kind, tags, content: content.to_owned() })
}

pub(crate) fn sign(unsigned: Unsigned) -> Event {
    unsigned.sign(&key(), &[0; 32])
}

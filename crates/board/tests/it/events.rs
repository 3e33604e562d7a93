//! Keys, events and random numbers for the tests.

use board::store::{Admitted, Encoded, Outcome, Store, Write};
use secp256k1::{Keypair, SECP256K1, SecretKey};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, sync_channel};
use units::Unix;
use wire::{Event, Tag, Unsigned};

/// A time in the middle of everything.
pub(crate) const NOW: u64 = 1_700_000_000;

pub(crate) fn clock() -> Unix {
    Unix(NOW)
}

/// The key pair number `n`.
pub(crate) fn key(n: u8) -> Keypair {
    Keypair::from_secret_key(SECP256K1, &SecretKey::from_slice(&[n.max(1); 32]).unwrap())
}

pub(crate) fn pubkey(n: u8) -> [u8; 32] {
    wire::event::pubkey_of(&key(n))
}

pub(crate) fn tags(list: &[&[&str]]) -> Vec<Tag> {
    list.iter().map(|tag| tag.iter().map(|element| (*element).to_owned()).collect()).collect()
}

/// A signed event.
pub(crate) fn signed(author: u8, kind: u16, at: u64, tag_list: &[&[&str]], content: &str) -> Event {
    let unsigned =
        Unsigned { pubkey: [0; 32], created_at: Unix(at), kind, tags: tags(tag_list), content: content.into() };
    unsigned.sign(&key(author), &[0; 32])
}

/// An event with a true id and no signature: the store asks for none.
pub(crate) fn unsigned(pubkey: [u8; 32], kind: u16, at: u64, tags: Vec<Tag>, content: &str) -> Event {
    let unsigned = Unsigned { pubkey, created_at: Unix(at), kind, tags, content: content.into() };
    let id = unsigned.id();
    let Unsigned { pubkey, created_at, kind, tags, content } = unsigned;
    Event { id, pubkey, created_at, kind, tags, content, sig: [0; 64] }
}

pub(crate) fn hex(bytes: &[u8; 32]) -> String {
    units::hex32(bytes)
}

/// Puts an event into a store.
pub(crate) fn submit(store: &dyn Store, event: &Event) -> Receiver<Outcome> {
    let encoded = Encoded::of(event);
    let admitted = Admitted::new(&encoded.raw().unwrap(), clock());
    let (told, outcome) = sync_channel(1);
    // Nobody may wait for it any more.
    let reply = Box::new(move |outcome| drop(told.send(outcome)));
    store.submit(Write::Event { admitted, reply }).unwrap();
    outcome
}

/// Puts an event into a store and waits for its fate.
pub(crate) fn put(store: &dyn Store, event: &Event) -> Outcome {
    submit(store, event).recv().unwrap()
}

/// Asks a store, in turns of `rows` rows.
pub(crate) fn ask(store: &dyn Store, filters: Vec<wire::Filter>, now: u64, rows: usize) -> Vec<Arc<Encoded>> {
    let ask = board::store::Ask {
        filters,
        limit_max: 10_000,
        before: store.end(),
        reader: Arc::new(|_: &board::store::Encoded| true),
    };
    let mut cursor = store.query(ask).unwrap();
    let mut out = Vec::new();
    for _ in 0..1_000_000 {
        let budget = board::store::Budget { rows, bytes: 1 << 20, disk: true };
        if cursor.advance(Unix(now), budget, &mut out).unwrap() {
            return out;
        }
    }
    panic!("the answer does not end");
}

pub(crate) fn filter(json: &str) -> wire::Filter {
    wire::Filter::parse(json.as_bytes(), &wire::FilterLimits::DEFAULT).unwrap()
}

/// SplitMix64: the same numbers for the same seed, everywhere.
pub(crate) struct Dice(pub(crate) u64);

impl Dice {
    pub(crate) fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % sides
    }
}

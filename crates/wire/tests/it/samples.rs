//! Keys and generators that the other modules share.

use proptest::prelude::*;
use secp256k1::{Keypair, SECP256K1};
use units::Unix;
use wire::{Event, Tag, Unsigned};

/// The key whose secret is `n` (not zero).
pub(crate) fn key(n: u8) -> Keypair {
    Keypair::from_seckey_slice(SECP256K1, &[n; 32]).unwrap()
}

/// An event by `author`, signed.
pub(crate) fn event(author: u8, created_at: u64, kind: u16, tags: &[&[&str]], content: &str) -> Event {
    let tags = tags.iter().map(|tag| tag.iter().map(ToString::to_string).collect()).collect();
    let unsigned = Unsigned { pubkey: [0; 32], created_at: Unix(created_at), kind, tags, content: content.to_owned() };
    unsigned.sign(&key(author), &[0; 32])
}

/// Text with everything that JSON escapes and a few things that it does not.
pub(crate) fn any_text() -> impl Strategy<Value = String> {
    prop_oneof![
        "[ -~]{0,40}",
        any::<String>(),
        proptest::collection::vec(
            prop_oneof![
                Just('"'),
                Just('\\'),
                Just('/'),
                Just('\n'),
                Just('\r'),
                Just('\t'),
                Just('\u{8}'),
                Just('\u{c}'),
                Just('\u{0}'),
                Just('\u{1f}'),
                Just('\u{7f}'),
                Just('é'),
                Just('\u{2028}'),
                Just('𝄞'),
                Just('a')
            ],
            0..30
        )
        .prop_map(|chars| chars.into_iter().collect())
    ]
}

/// Tags of any shape that NIP-01 allows.
pub(crate) fn any_tags() -> impl Strategy<Value = Vec<Tag>> {
    let name = prop_oneof!["[a-zA-Z]", "[a-z_]{0,12}", any_text()];
    let tag = (name, proptest::collection::vec(any_text(), 0..4)).prop_map(|(name, mut values)| {
        values.insert(0, name);
        values
    });
    proptest::collection::vec(tag, 0..6)
}

/// Anything that one may sign.
pub(crate) fn any_unsigned() -> impl Strategy<Value = Unsigned> {
    (any::<[u8; 32]>(), 0..=wire::INTEGER_MAX, any::<u16>(), any_tags(), any_text()).prop_map(
        |(pubkey, created_at, kind, tags, content)| Unsigned {
            pubkey,
            created_at: Unix(created_at),
            kind,
            tags,
            content,
        },
    )
}

//! Encryption (NIP-44) and gift wraps (NIP-59).

use proptest::prelude::*;
use secp256k1::{Keypair, SECP256K1, SecretKey};
use serde_json::Value;
use units::{Unix, parse_hex32};
use wire::event::pubkey_of;
use wire::nip44::{ConversationKey, Nip44Error, padded_len};
use wire::seal::{self, BACKDATE_SECS, UnwrapError, WrapError};
use wire::{Event, Forged, Malformed, Unsigned};

use crate::samples::{any_text, event, key};

fn vectors() -> Value {
    serde_json::from_str(include_str!("../data/nip44.vectors.json")).unwrap()
}

fn hex(value: &Value) -> [u8; 32] {
    parse_hex32(value.as_str().unwrap()).unwrap()
}

fn pair(secret: &Value) -> Option<Keypair> {
    SecretKey::from_slice(&hex(secret)).ok().map(|s| s.keypair(SECP256K1))
}

#[test]
fn the_published_vectors_of_nip44_hold() {
    let vectors = vectors();
    let valid = &vectors["v2"]["valid"];
    for v in valid["get_conversation_key"].as_array().unwrap() {
        let computed = ConversationKey::between(&pair(&v["sec1"]).unwrap(), &hex(&v["pub2"])).unwrap();
        assert!(computed == ConversationKey::from_bytes(hex(&v["conversation_key"])), "{v}");
    }
    for v in valid["encrypt_decrypt"].as_array().unwrap() {
        let (one, two) = (pair(&v["sec1"]).unwrap(), pair(&v["sec2"]).unwrap());
        let shared = ConversationKey::between(&one, &pubkey_of(&two)).unwrap();
        assert!(shared == ConversationKey::between(&two, &pubkey_of(&one)).unwrap());
        assert!(shared == ConversationKey::from_bytes(hex(&v["conversation_key"])), "{v}");
        let plaintext = v["plaintext"].as_str().unwrap();
        let ciphertext = v["ciphertext"].as_str().unwrap();
        assert_eq!(shared.encrypt(plaintext, &hex(&v["nonce"])).unwrap(), ciphertext);
        assert_eq!(shared.decrypt(ciphertext).unwrap(), plaintext);
    }
    for v in valid["calc_padded_len"].as_array().unwrap() {
        assert_eq!(padded_len(v[0].as_u64().unwrap() as usize) as u64, v[1].as_u64().unwrap());
    }
}

#[test]
fn the_published_counterexamples_of_nip44_are_refused() {
    let vectors = vectors();
    let invalid = &vectors["v2"]["invalid"];
    for v in invalid["get_conversation_key"].as_array().unwrap() {
        let refused = pair(&v["sec1"]).is_none_or(|own| ConversationKey::between(&own, &hex(&v["pub2"])).is_err());
        assert!(refused, "{v}");
    }
    for v in invalid["decrypt"].as_array().unwrap() {
        let expected = match v["note"].as_str().unwrap() {
            "invalid MAC" => Nip44Error::BadMac,
            "invalid padding" => Nip44Error::BadPadding,
            note => panic!("{note}"),
        };
        let conversation = ConversationKey::from_bytes(hex(&v["conversation_key"]));
        assert_eq!(conversation.decrypt(v["ciphertext"].as_str().unwrap()), Err(expected), "{v}");
    }
    let conversation = ConversationKey::from_bytes([1; 32]);
    for v in invalid["encrypt_msg_lengths"].as_array().unwrap() {
        let plaintext = "x".repeat(v.as_u64().unwrap() as usize);
        assert_eq!(conversation.encrypt(&plaintext, &[2; 32]), Err(Nip44Error::PlaintextLength));
    }
    for v in invalid["decrypt_msg_lengths"].as_array().unwrap() {
        let payload = "A".repeat(v.as_u64().unwrap() as usize);
        assert_eq!(conversation.decrypt(&payload), Err(Nip44Error::PayloadLength));
    }
}

#[test]
fn other_versions_damage_and_the_longest_text() {
    let conversation = ConversationKey::from_bytes([1; 32]);
    let longest = "x".repeat(65_535);
    let payload = conversation.encrypt(&longest, &[2; 32]).unwrap();
    assert_eq!(payload.len(), 87_472);
    assert_eq!(conversation.decrypt(&payload).unwrap(), longest);
    assert_eq!(conversation.decrypt(&format!("{payload}AAAA")), Err(Nip44Error::PayloadLength));
    assert_eq!(conversation.decrypt("#later"), Err(Nip44Error::UnknownVersion));
    let payload = conversation.encrypt("hello", &[2; 32]).unwrap();
    assert_eq!(conversation.decrypt(&payload.replacen("Ag", "Aw", 1)), Err(Nip44Error::UnknownVersion));
    assert_eq!(conversation.decrypt(&payload.replacen("Ag", "A!", 1)), Err(Nip44Error::Base64));
    assert_eq!(ConversationKey::from_bytes([3; 32]).decrypt(&payload), Err(Nip44Error::BadMac));
    assert_eq!(format!("{conversation:?}"), "ConversationKey(..)");
}

const NOW: Unix = Unix(1_700_000_000);

fn rumor(author: u8, content: &str) -> Unsigned {
    event(author, NOW.0, 330, &[&["p", "x"]], content).into_unsigned()
}

fn wrapped(author: u8, content: &str, to: u8, entropy: u8) -> Event {
    seal::wrap(&rumor(author, content), &key(author), &pubkey_of(&key(to)), NOW, None, &[entropy; 32]).unwrap()
}

#[test]
fn only_the_recipient_opens_a_wrap_and_learns_the_author() {
    let wrap = wrapped(1, "secret", 2, 9);
    assert_eq!(wrap.verify(), Ok(()));
    assert_ne!(wrap.pubkey, pubkey_of(&key(1)));
    assert!(wrap.created_at <= NOW && wrap.created_at.0 > NOW.0 - BACKDATE_SECS);
    let opened = seal::unwrap(&wrap, &key(2)).unwrap();
    assert!(opened.rumor == rumor(1, "secret") && opened.id == rumor(1, "secret").id());
    assert!(!format!("{opened:?}").contains("secret"));
    assert_eq!(seal::unwrap(&wrap, &key(3)), Err(UnwrapError::NotForUs));
    assert_eq!(seal::unwrap(&wrap, &key(1)), Err(UnwrapError::NotForUs));
    let mut misaddressed = wrap.clone().into_unsigned();
    misaddressed.tags[0][1] = units::hex32(&pubkey_of(&key(3)));
    let misaddressed = misaddressed.sign(&key(8), &[0; 32]);
    assert_eq!(seal::unwrap(&misaddressed, &key(3)), Err(UnwrapError::Encryption(Nip44Error::BadMac)));
}

#[test]
fn entropy_makes_wraps_unlinkable_and_the_same_entropy_repeats_them() {
    assert!(wrapped(1, "x", 2, 9) == wrapped(1, "x", 2, 9));
    let (one, two, three) = (wrapped(1, "x", 2, 9), wrapped(1, "x", 2, 10), wrapped(1, "y", 2, 9));
    assert!(one.pubkey != two.pubkey && one.created_at != two.created_at && one.content != two.content);
    assert!(one.pubkey != three.pubkey, "entropy that repeats still gives each message its own key");
    let expiring = seal::wrap(&rumor(1, ""), &key(1), &pubkey_of(&key(2)), NOW, Some(Unix(5)), &[1; 32]).unwrap();
    assert_eq!(expiring.expiration(), Some(Unix(5)));
    let stranger = seal::wrap(&rumor(1, ""), &key(2), &pubkey_of(&key(3)), NOW, None, &[1; 32]);
    assert_eq!(stranger, Err(WrapError::AuthorMismatch));
    let nobody = seal::wrap(&rumor(1, ""), &key(1), &[0xff; 32], NOW, None, &[1; 32]);
    assert_eq!(nobody, Err(WrapError::Encryption(Nip44Error::BadKey)));
    let long = seal::wrap(&rumor(1, &"x".repeat(66_000)), &key(1), &pubkey_of(&key(3)), NOW, None, &[1; 32]);
    assert_eq!(long, Err(WrapError::Encryption(Nip44Error::PlaintextLength)));
}

/// A wrap by key 8 for key 2 around any text.
fn wrap_text(text: &str) -> Event {
    let shared = ConversationKey::between(&key(8), &pubkey_of(&key(2))).unwrap();
    let to = units::hex32(&pubkey_of(&key(2)));
    event(8, NOW.0, 1059, &[&["p", &to]], &shared.encrypt(text, &[7; 32]).unwrap())
}

/// A seal by key 1 for key 2 around any text.
fn seal_text(kind: u16, tags: &[&[&str]], text: &str) -> Event {
    let shared = ConversationKey::between(&key(1), &pubkey_of(&key(2))).unwrap();
    event(1, NOW.0, kind, tags, &shared.encrypt(text, &[7; 32]).unwrap())
}

fn rumor_text(author: u8) -> String {
    let signed = event(author, NOW.0, 330, &[], "x").to_json();
    format!("{}}}", signed.split(",\"sig\"").next().unwrap())
}

#[test]
fn every_way_to_fake_a_wrap_has_its_reason() {
    let open = |wrap: &Event| seal::unwrap(wrap, &key(2)).map(drop);
    let sealed = |kind, tags: &[&[&str]], text: &str| open(&wrap_text(&seal_text(kind, tags, text).to_json()));
    assert_eq!(sealed(13, &[], &rumor_text(1)), Ok(()));
    assert_eq!(sealed(13, &[], &rumor_text(3)), Err(UnwrapError::AuthorMismatch));
    assert_eq!(sealed(13, &[&["p", "x"]], &rumor_text(1)), Err(UnwrapError::NotASeal));
    assert_eq!(sealed(14, &[], &rumor_text(1)), Err(UnwrapError::NotASeal));
    assert_eq!(sealed(13, &[], "{}"), Err(UnwrapError::Malformed(Malformed::Missing("tags"))));
    let signed = event(1, NOW.0, 330, &[], "x").to_json();
    assert_eq!(sealed(13, &[], &signed), Err(UnwrapError::Malformed(Malformed::UnknownKey)));
    let changed = rumor_text(1).replace("\"x\"", "\"y\"");
    assert_eq!(sealed(13, &[], &changed), Err(UnwrapError::ForgedRumor(Forged::BadId)));
    let mut unsigned = seal_text(13, &[], &rumor_text(1));
    unsigned.sig[9] ^= 1;
    assert_eq!(open(&wrap_text(&unsigned.to_json())), Err(UnwrapError::ForgedSeal(Forged::BadSignature)));
    let mut damaged = wrap_text("x");
    damaged.content.push('x');
    assert_eq!(open(&damaged), Err(UnwrapError::ForgedWrap(Forged::BadId)));
    assert_eq!(open(&event(1, 1, 1, &[], "")), Err(UnwrapError::NotAWrap));
    assert_eq!(open(&wrap_text("hello")).unwrap_err().code(), "malformed");
}

#[test]
fn what_is_kept_for_oneself_looks_like_a_wrap_and_only_its_writer_opens_it() {
    let kept = seal::keep("mine", &key(2), NOW, &[5; 32]).unwrap();
    assert_eq!((kept.kind, kept.created_at, kept.verify()), (1059, NOW, Ok(())));
    assert_ne!(kept.pubkey, pubkey_of(&key(2)));
    assert_eq!(kept.tag_values("p").collect::<Vec<_>>(), [units::hex32(&pubkey_of(&key(2)))]);
    assert_eq!(seal::open_kept(&kept, &key(2)), Ok("mine".to_owned()));
    assert_eq!(seal::open_kept(&kept, &key(1)), Err(UnwrapError::Encryption(Nip44Error::BadMac)));
    // What another key encrypts for us is not ours.
    assert_eq!(seal::open_kept(&wrap_text("x"), &key(2)), Err(UnwrapError::Encryption(Nip44Error::BadMac)));
    assert_eq!(seal::open_kept(&event(1, 1, 1, &[], ""), &key(2)), Err(UnwrapError::NotAWrap));
}

proptest! {
    #[test]
    fn what_is_encrypted_is_decrypted_and_damage_is_noticed(
        text in any_text(), nonce in any::<[u8; 32]>(), at in any::<prop::sample::Index>(), bit in 0..6u8,
    ) {
        let conversation = ConversationKey::from_bytes([5; 32]);
        prop_assume!(!text.is_empty());
        let payload = conversation.encrypt(&text, &nonce).unwrap();
        prop_assert_eq!(conversation.decrypt(&payload), Ok(text));
        let mut bytes = payload.clone().into_bytes();
        let at = at.index(bytes.len());
        bytes[at] ^= 1 << bit;
        if let Ok(damaged) = String::from_utf8(bytes) {
            prop_assert!(conversation.decrypt(&damaged).is_err());
        }
    }

    #[test]
    fn no_text_makes_decryption_panic(text in "[A-Za-z0-9+/=#]{0,400}") {
        prop_assert!(ConversationKey::from_bytes([5; 32]).decrypt(&text).is_err());
    }
}

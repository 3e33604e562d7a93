//! Events: read strictly, hashed as NIP-01 says, verified in the right order.

use bitcoin::hashes::{Hash, sha256};
use proptest::prelude::*;
use serde_json::{Value, json};
use units::{Unix, hex32};
use wire::{DeletionTarget, Event, Forged, KindClass, Limits, Malformed, RawEvent, Tag};

use crate::samples::{any_unsigned, event, key};

fn parse(json: &str) -> Result<Event, Malformed> {
    Event::parse(json.as_bytes(), &Limits::STRICT)
}

/// A valid event as a serde value, to be spoiled.
fn value() -> Value {
    serde_json::from_str(&event(1, 1_700_000_000, 1, &[&["t", "souk"]], "hello").to_json()).unwrap()
}

fn spoiled(field: &str, with: Value) -> Result<Event, Malformed> {
    let mut value = value();
    value[field] = with;
    parse(&value.to_string())
}

#[test]
fn an_event_that_another_client_signed_verifies() {
    let json = include_str!("../data/foreign-event.json");
    let event = parse(json.trim()).unwrap();
    assert_eq!(event.verify(), Ok(()));
    assert_eq!(parse(&event.to_json()).unwrap(), event);
}

#[test]
fn a_changed_event_has_a_bad_id_and_a_changed_signature_is_bad() {
    let good = event(1, 1_700_000_000, 1, &[&["t", "souk"]], "hello");
    assert_eq!(good.verify(), Ok(()));
    for change in [
        |e: &mut Event| e.content.push('!'),
        |e: &mut Event| e.created_at = Unix(e.created_at.0 + 1),
        |e: &mut Event| e.kind += 1,
        |e: &mut Event| e.tags[0][1].push('s'),
        |e: &mut Event| e.id[31] ^= 1,
    ] {
        let mut changed = good.clone();
        change(&mut changed);
        assert_eq!(changed.verify(), Err(Forged::BadId));
    }
    let mut resigned = good.clone();
    resigned.sig[0] ^= 1;
    assert_eq!(resigned.verify(), Err(Forged::BadSignature));
    let mut nobody = good.clone().into_unsigned();
    nobody.pubkey = [0xff; 32];
    let nobody = Event { id: nobody.id(), pubkey: nobody.pubkey, ..good };
    assert_eq!(nobody.verify(), Err(Forged::BadSignature), "a key that is not on the curve");
}

#[test]
fn signing_twice_gives_the_same_bytes() {
    let once = event(3, 1, 300, &[], "x");
    assert_eq!(once.to_json(), event(3, 1, 300, &[], "x").to_json());
    assert_eq!(once.pubkey, key(3).x_only_public_key().0.serialize());
}

#[test]
fn every_way_to_be_no_event_has_its_reason() {
    let good = value().to_string();
    assert!(parse(&good).is_ok());
    assert_eq!(spoiled("id", json!(good_id().to_uppercase())), Err(Malformed::NotHex("id")));
    assert_eq!(spoiled("id", json!(format!("{}00", good_id()))), Err(Malformed::NotHex("id")));
    assert_eq!(spoiled("sig", json!("0".repeat(129))), Err(Malformed::NotHex("sig")));
    assert_eq!(spoiled("pubkey", json!("")), Err(Malformed::NotHex("pubkey")));
    assert_eq!(spoiled("pubkey", json!(7)), Err(Malformed::WrongType("pubkey")));
    assert_eq!(spoiled("kind", json!(65536)), Err(Malformed::OutOfRange("kind")));
    assert_eq!(spoiled("kind", json!("1")), Err(Malformed::WrongType("kind")));
    assert_eq!(spoiled("created_at", json!(-1)), Err(Malformed::NotInteger("created_at")));
    assert_eq!(spoiled("created_at", json!(1.5)), Err(Malformed::NotInteger("created_at")));
    assert_eq!(spoiled("created_at", json!(1u64 << 53)), Err(Malformed::OutOfRange("created_at")));
    assert_eq!(spoiled("tags", json!([[]])), Err(Malformed::Empty("tag")));
    assert_eq!(spoiled("tags", json!([["a", null]])), Err(Malformed::WrongType("tag element")));
    assert_eq!(spoiled("tags", json!({})), Err(Malformed::WrongType("tags")));
    assert_eq!(spoiled("content", json!(null)), Err(Malformed::WrongType("content")));
    assert_eq!(spoiled("relays", json!([])), Err(Malformed::UnknownKey));
    assert_eq!(parse(&good.replace("1700000000", "1.7e9")), Err(Malformed::NotInteger("created_at")));
    assert_eq!(parse(&good.replace("1700000000", "01700000000")), Err(Malformed::NotInteger("created_at")));
    assert_eq!(parse(&good.replace("hello", "he\nllo")), Err(Malformed::ControlCharacter));
    assert_eq!(parse(&good.replace("hello", r"\x41")), Err(Malformed::Escape));
    assert_eq!(parse(&good.replace("hello", r"\ud800")), Err(Malformed::Escape));
    assert_eq!(parse(&good.replace("hello", r"\udc00\ud800")), Err(Malformed::Escape));
    assert_eq!(parse(&format!("{good} x")), Err(Malformed::Trailing));
    assert_eq!(parse(&good.replace("\"kind\":1,", "")), Err(Malformed::Missing("kind")));
    assert_eq!(parse(&good.replace("\"kind\":1,", "\"kind\":1,\"kind\":1,")), Err(Malformed::DuplicateKey));
    assert_eq!(parse(&good.replace("\"kind\":1,", "\"kind\":1,\"\\u006bind\":2,")), Err(Malformed::DuplicateKey));
    assert_eq!(parse(&good.replace("\"kind\":1,", "\"kind\":1,,")), Err(Malformed::Syntax));
    assert_eq!(parse(&good.replace('}', ",}")), Err(Malformed::Syntax));
    assert_eq!(parse(&good[..good.len() - 1]), Err(Malformed::Syntax));
    assert_eq!(parse("[]"), Err(Malformed::WrongType("event")));
    assert_eq!(parse(""), Err(Malformed::Syntax));
    let mut bytes = good.into_bytes();
    let at = bytes.windows(5).position(|w| w == b"hello").unwrap();
    bytes[at] = 0xff;
    assert_eq!(Event::parse(&bytes, &Limits::STRICT), Err(Malformed::NotUtf8));
}

fn good_id() -> String {
    value()["id"].as_str().unwrap().to_owned()
}

#[test]
fn sizes_are_bounded() {
    let many_tags = json!(vec![json!(["t"]); Limits::STRICT.tags + 1]);
    assert_eq!(spoiled("tags", many_tags), Err(Malformed::TooMany("tags")));
    let long_tag = json!([vec!["t"; Limits::STRICT.tag_elements + 1]]);
    assert_eq!(spoiled("tags", long_tag), Err(Malformed::TooMany("tag elements")));
    let long = spoiled("content", json!("x".repeat(Limits::STRICT.bytes)));
    assert_eq!(long, Err(Malformed::TooLarge(Limits::STRICT.bytes)));
}

#[test]
fn a_relay_drops_keys_that_nostr_does_not_have() {
    let mut extra = value();
    extra["ots"] = json!({"deep": [1, -2.5e3, null, true, "x"]});
    let event = Event::parse(extra.to_string().as_bytes(), &Limits::RELAY).unwrap();
    assert_eq!(event.verify(), Ok(()));
    assert!(!event.to_json().contains("ots"));
    extra["ots"] = serde_json::from_str(&format!("{}{}", "[".repeat(60), "]".repeat(60))).unwrap();
    assert_eq!(Event::parse(extra.to_string().as_bytes(), &Limits::RELAY), Err(Malformed::TooDeep));
    for i in 0..40 {
        extra[format!("x{i:02}")] = json!(i);
    }
    extra["ots"] = json!(0);
    assert_eq!(Event::parse(extra.to_string().as_bytes(), &Limits::RELAY), Err(Malformed::TooMany("unknown keys")));
}

#[test]
fn an_event_written_with_other_escapes_and_spaces_has_the_same_id() {
    let good = event(1, 1_700_000_000, 1, &[&["t", "so/uk\n"]], "a\u{1}é\n");
    let compact = good.to_json();
    for (what, odd) in [
        ("nothing", compact.clone()),
        ("a slash in a tag", compact.replace("so/uk", "so\\/uk")),
        ("a letter in a tag", compact.replace("so/uk", "so/\\u0075k")),
        ("a line end in a tag", compact.replace("uk\\n", "uk\\u000a")),
        ("spaces in the tags", compact.replace("\"tags\":[[", "\"tags\" : [ [")),
        ("a letter in the content", compact.replace("é", "\\u00e9")),
        ("a capital in an escape", compact.replace("a\\u0001", "\\u0061\\u0001")),
        ("another order", compact.replace("\"kind\":1,", "").replace("{\"id\"", "{\"kind\":1,\"id\"")),
        ("spaces between members", compact.replace(",\"", " ,\t\"")),
    ] {
        let raw = RawEvent::parse(odd.as_bytes(), &Limits::STRICT).unwrap();
        assert!(odd != compact || what == "nothing", "{what}");
        assert_eq!(raw.verify(), Ok(()), "{what}");
        assert!(raw.to_event() == good, "{what}");
        assert_eq!(raw.is_canonical(), what == "nothing", "{what}");
        assert_eq!(&*raw.detach().into_json(), compact, "{what}");
        assert!(raw.detach().raw().to_event() == good, "{what}");
        assert_eq!(raw.tag("t").unwrap(), "so/uk\n", "{what}");
    }
}

#[test]
fn a_known_key_checks_as_a_fresh_one_does() {
    let keys = bip340::Keys::new(1);
    let (mine, other) = (event(1, 5, 1, &[], "mine"), event(2, 5, 1, &[], "other"));
    for good in [&mine, &other, &mine, &mine, &mine, &mine, &mine] {
        let json = good.to_json();
        assert_eq!(RawEvent::parse(json.as_bytes(), &Limits::STRICT).unwrap().verify_with(&keys), Ok(()));
    }
    let mut forged = mine.clone();
    forged.sig = other.sig;
    let json = forged.to_json();
    let raw = RawEvent::parse(json.as_bytes(), &Limits::STRICT).unwrap();
    assert_eq!(raw.verify_with(&keys), Err(Forged::BadSignature));
}

#[test]
fn kinds_have_classes() {
    for (kind, class) in [
        (0, KindClass::Replaceable),
        (1, KindClass::Regular),
        (3, KindClass::Replaceable),
        (300, KindClass::Regular),
        (399, KindClass::Regular),
        (1059, KindClass::Regular),
        (4251, KindClass::Regular),
        (10_002, KindClass::Replaceable),
        (22_242, KindClass::Ephemeral),
        (32_500, KindClass::Addressable),
        (40_000, KindClass::Regular),
    ] {
        assert_eq!(KindClass::of(kind), class, "{kind}");
    }
}

#[test]
fn expiration_and_deletion_targets_are_read() {
    let (id, author) = ("ab".repeat(32), "cd".repeat(32));
    let address = format!("32500:{author}:a:b");
    let tags: &[&[&str]] =
        &[&["e", &id], &["e", "nonsense"], &["a", &address], &["a", "1:x:"], &["k", "300"], &["expiration", "99"]];
    let deletion = event(1, 5, 5, tags, "");
    assert_eq!(deletion.expiration(), Some(Unix(99)));
    assert_eq!(
        deletion.deletion_targets(),
        [
            DeletionTarget::Event([0xab; 32]),
            DeletionTarget::Address { kind: 32_500, pubkey: [0xcd; 32], identifier: "a:b".to_owned() }
        ]
    );
    assert_eq!(event(1, 5, 1, tags, "").deletion_targets(), []);
    for odd in ["", "-1", "1.5", "soon", "99999999999999999999"] {
        assert_eq!(event(1, 5, 1, &[&["expiration", odd]], "").expiration(), None);
    }
    assert_eq!(event(1, 5, 32_500, &[], "").identifier(), "");
}

proptest! {
    #[test]
    fn what_is_written_is_read_back_and_hashed_as_nip01_says(unsigned in any_unsigned(), author in 1u8..255) {
        let signed = unsigned.sign(&key(author), &[9; 32]);
        let json = signed.to_json();
        prop_assert_eq!(signed.verify(), Ok(()));
        prop_assert!(parse(&json).unwrap() == signed);
        let raw = RawEvent::parse(json.as_bytes(), &Limits::STRICT).unwrap();
        prop_assert_eq!(raw.verify(), Ok(()));
        prop_assert!(raw.is_canonical());
        // serde_json escapes as NIP-01 does, so it is the oracle.
        let preimage = json!([0, hex32(&signed.pubkey), signed.created_at.0, signed.kind, signed.tags, signed.content]);
        prop_assert_eq!(sha256::Hash::hash(preimage.to_string().as_bytes()).to_byte_array(), signed.id);
        let value: Value = serde_json::from_str(&json).unwrap();
        prop_assert_eq!(value["content"].as_str().unwrap(), &signed.content);
        let tags: Vec<Tag> = raw.tags().map(|t| t.map(|e| e.decode().into_owned()).collect()).collect();
        prop_assert_eq!(tags, signed.tags);
    }

    #[test]
    fn no_bytes_make_the_parser_panic_and_it_accepts_only_json(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        wire::fuzz::event(&bytes);
        if RawEvent::parse(&bytes, &Limits::RELAY).is_ok() {
            prop_assert!(serde_json::from_slice::<Value>(&bytes).is_ok());
        }
    }

    #[test]
    fn a_damaged_event_is_refused_or_still_json(unsigned in any_unsigned(), at in any::<prop::sample::Index>(), with in any::<u8>()) {
        let mut bytes = unsigned.sign(&key(1), &[0; 32]).to_json().into_bytes();
        let at = at.index(bytes.len());
        bytes[at] = with;
        wire::fuzz::event(&bytes);
        if let Ok(event) = Event::parse(&bytes, &Limits::RELAY) {
            let value: Value = serde_json::from_slice(&bytes).unwrap();
            prop_assert_eq!(value["content"].as_str().unwrap(), &event.content);
            prop_assert_eq!(value["kind"].as_u64().unwrap(), u64::from(event.kind));
        }
    }
}

//! Pledges say one thing, and only their author can say it.

use proptest::prelude::*;
use reputation::{Facts, Pledge, Reject, bucket, link};
use secp256k1::{Keypair, SECP256K1};
use trade::{PartyKey, Role};
use units::{Height, Preimage, Sat, Unix};
use wire::event::{Event, Unsigned, pubkey_of};

pub(crate) const TIP: Height = Height(800_000);
pub(crate) const NOW: Unix = Unix(1_700_000_000);

pub(crate) fn key(n: u8) -> Keypair {
    Keypair::from_seckey_slice(SECP256K1, &[n; 32]).unwrap()
}

pub(crate) fn party(n: u8) -> PartyKey {
    PartyKey(pubkey_of(&key(n)))
}

/// Key 1 pays key 2, key 3 would rule.
pub(crate) fn facts() -> Facts {
    Facts {
        hash: Preimage::new([9; 32]).hash(),
        payer: party(1),
        payee: party(2),
        arbiter: Some(party(3)),
        amount: Sat(20_000),
        lock_blocks: 720,
    }
}

pub(crate) fn pledge(facts: &Facts, by: u8) -> Pledge {
    Pledge::sign(facts, TIP, None, NOW, &key(by)).unwrap()
}

fn signed_again(pledge: &Pledge, by: u8, change: impl FnOnce(&mut Unsigned)) -> Event {
    let mut unsigned = pledge.event().clone().into_unsigned();
    change(&mut unsigned);
    unsigned.sign(&key(by), &[0; 32])
}

#[test]
fn a_pledge_is_read_as_it_was_signed() {
    let signed = Pledge::sign(&facts(), TIP, Some(&link(&key(7), party(1))), NOW, &key(1)).unwrap();
    let read = Pledge::parse(&signed.event().to_json()).unwrap();
    assert_eq!(read, signed);
    assert_eq!((read.role, read.height, read.identity), (Role::Payer, TIP, Some(party(7))));
    assert_eq!(read.facts, facts());
    assert!(signed.event().to_json().len() < reputation::PLEDGE_BYTES_MAX);
}

#[test]
fn one_who_has_no_part_cannot_pledge() {
    assert_eq!(Pledge::sign(&facts(), TIP, None, NOW, &key(4)), Err(Reject::Pledge("author")));
    let both = Facts { payee: party(1), ..facts() };
    assert_eq!(Pledge::sign(&both, TIP, None, NOW, &key(1)), Err(Reject::Pledge("one key on two sides")));
}

#[test]
fn an_identity_vouches_for_one_key_only() {
    let stolen = link(&key(7), party(2));
    let refused = Pledge::sign(&facts(), TIP, Some(&stolen), NOW, &key(1)).unwrap_err();
    assert_eq!(refused.code(), "bad-signature");
}

#[test]
fn a_pledge_with_a_tag_more_or_less_or_twice_is_none() {
    let good = pledge(&facts(), 1);
    let required = good.event().tags.iter().filter(|tag| tag[0] != "arbiter").count();
    for name in ["x", "payer", "payee", "amount", "height", "lock"] {
        let without = signed_again(&good, 1, |event| event.tags.retain(|tag| tag[0] != name));
        assert!(Pledge::read(without).is_err(), "without {name}");
        let twice = signed_again(&good, 1, |event| {
            let tag = event.tags.iter().find(|tag| tag[0] == name).unwrap().clone();
            event.tags.push(tag);
        });
        assert_eq!(Pledge::read(twice), Err(Reject::Pledge("a tag twice")));
    }
    assert_eq!(required, 6);
    let more = signed_again(&good, 1, |event| event.tags.push(vec!["note".into(), "hello".into()]));
    assert_eq!(Pledge::read(more), Err(Reject::Pledge("an unknown tag")));
    let said = signed_again(&good, 1, |event| event.content = "hello".into());
    assert_eq!(Pledge::read(said), Err(Reject::Pledge("no pledge")));
    let other_kind = signed_again(&good, 1, |event| event.kind = 1);
    assert_eq!(Pledge::read(other_kind), Err(Reject::Pledge("no pledge")));
}

#[test]
fn numbers_are_written_in_one_way() {
    let good = pledge(&facts(), 1);
    for (name, value) in [
        ("amount", "020000"),
        ("amount", "20001"),
        ("amount", "-1"),
        ("height", "4294967296"),
        ("lock", "65536"),
        ("lock", ""),
    ] {
        let changed = signed_again(&good, 1, |event| {
            for tag in event.tags.iter_mut().filter(|tag| tag[0] == name) {
                tag[1] = value.to_owned();
            }
        });
        assert!(Pledge::read(changed).is_err(), "{name} {value}");
    }
}

#[test]
fn a_pledge_that_was_touched_is_forged() {
    let mut event = pledge(&facts(), 1).event().clone();
    event.tags[4][1] = "50000".to_owned();
    assert_eq!(Pledge::read(event).unwrap_err().code(), "bad-id");
    let mut event = pledge(&facts(), 1).event().clone();
    event.sig[5] ^= 1;
    assert_eq!(Pledge::read(event).unwrap_err().code(), "bad-signature");
    let huge = format!("{}{}", " ".repeat(reputation::PLEDGE_BYTES_MAX), pledge(&facts(), 1).event().to_json());
    assert_eq!(Pledge::parse(&huge), Err(Reject::Pledge("no event")));
}

proptest! {
    #[test]
    fn a_bucket_is_below_and_not_far_below(sat in 1_u64..2_100_000_000_000_000) {
        let rounded = bucket(Sat(sat)).0;
        prop_assert!(rounded <= sat && sat < rounded * 5 / 2 + 1, "{sat} {rounded}");
        prop_assert_eq!(bucket(Sat(rounded)), Sat(rounded));
    }

    #[test]
    fn no_text_makes_a_reader_of_pledges_panic(text in ".{0,200}", at in 0_usize..900, byte in any::<char>()) {
        prop_assert!(Pledge::parse(&text).is_err());
        let mut json: Vec<char> = pledge(&facts(), 1).event().to_json().chars().collect();
        let at = at % json.len();
        let was = std::mem::replace(&mut json[at], byte);
        let json: String = json.into_iter().collect();
        prop_assert!(was == byte || Pledge::parse(&json).is_err());
    }
}

//! A stamp is good at the board that signed it, for the event that it was made for, and for nothing else.

use credential::{Blank, Forged, Keyset, KeysetSecret, Stamp, Token};
use proptest::prelude::*;
use units::{Msat, Unix};

pub(crate) fn epoch(master: u8) -> (KeysetSecret, Keyset) {
    let secret = KeysetSecret::derive(&[master; 32], Unix(100), Unix(200), Unix(300));
    (secret, secret.publish(Msat(2000), Unix(100), Unix(200), Unix(300)))
}

pub(crate) fn bought(secret: &KeysetSecret, keyset: &Keyset, index: u64) -> Token {
    let blank = Blank::derive(&[9; 32], keyset.id, index);
    blank.unblind(keyset, &secret.sign(&blank.blinded())).expect("honestly signed")
}

#[test]
fn a_stamp_is_good_for_its_event_only() {
    let (secret, keyset) = epoch(1);
    let stamp = bought(&secret, &keyset, 0).stamp(&[5; 32]);
    assert!(secret.redeems(&stamp, &[5; 32]));
    assert!(!secret.redeems(&stamp, &[6; 32]), "a stamp that was seen is worth nothing to others");
    let (other, _) = epoch(2);
    assert!(!other.redeems(&stamp, &[5; 32]), "another board did not sign it");
    let renamed = Stamp { keyset: other.id(), ..stamp };
    assert!(!other.redeems(&renamed, &[5; 32]));
}

#[test]
fn two_stamps_of_one_credential_have_one_nullifier() {
    let (secret, keyset) = epoch(1);
    let (one, two) = (bought(&secret, &keyset, 0), bought(&secret, &keyset, 1));
    assert_eq!(one.stamp(&[5; 32]).nullifier(), one.stamp(&[6; 32]).nullifier());
    assert_ne!(one.stamp(&[5; 32]).nullifier(), two.stamp(&[5; 32]).nullifier());
}

#[test]
fn a_board_that_signs_with_a_key_of_its_own_for_each_client_is_found_out() {
    let (_, keyset) = epoch(1);
    let (tagging, _) = epoch(2);
    let blank = Blank::derive(&[9; 32], keyset.id, 0);
    assert_eq!(blank.unblind(&keyset, &tagging.sign(&blank.blinded())).err(), Some(Forged));
}

#[test]
fn the_same_point_gets_the_same_bytes_again() {
    let (secret, keyset) = epoch(1);
    let blinded = Blank::derive(&[9; 32], keyset.id, 0).blinded();
    assert_eq!(secret.sign(&blinded), secret.sign(&blinded));
}

#[test]
fn a_keyset_is_good_in_its_time() {
    let (_, keyset) = epoch(1);
    let at = |at| (keyset.issues(Unix(at)), keyset.redeems(Unix(at)));
    assert_eq!(
        [99, 100, 199, 200, 299, 300].map(at),
        [(false, false), (true, true), (true, true), (false, true), (false, true), (false, false)]
    );
}

#[test]
fn a_published_keyset_is_read_again_and_a_false_one_refused() {
    let (_, keyset) = epoch(1);
    let tag = keyset.to_tag();
    assert_eq!(Keyset::from_tag(&tag), Ok(keyset));
    let (_, other) = epoch(2);
    for (at, text) in [(0, "k".to_owned()), (1, other.id.to_string()), (2, other.public.to_string()), (5, "50".into())]
    {
        let mut wrong = tag.clone();
        wrong[at] = text;
        assert!(Keyset::from_tag(&wrong).is_err(), "element {at}");
    }
    assert!(Keyset::from_tag(&tag[..6]).is_err());
}

/// Computed once with an independent HMAC and curve: these must never change, or what was bought and sold before is lost.
#[test]
fn derived_keys_never_change() {
    let (_, keyset) = epoch(1);
    assert_eq!(keyset.id.to_string(), "0028b611eacfacb1");
    let blinded = Blank::derive(&[9; 32], keyset.id, 5).blinded();
    assert_eq!(blinded.to_string(), "026cb77eba771528e57147ef9ed65d4c818edae17e6d93eb6bebf74dd056f5e62c");
}

proptest! {
    #[test]
    fn a_stamp_is_read_as_it_was_written(bytes in prop::collection::vec(any::<u8>(), Stamp::BYTES)) {
        let stamp = Stamp::from_bytes(&bytes).expect("72 bytes");
        let text = stamp.to_string();
        prop_assert_eq!(text.len(), 99);
        prop_assert_eq!(text.parse::<Stamp>(), Ok(stamp));
        prop_assert_eq!(stamp.to_bytes().to_vec(), bytes);
    }

    #[test]
    fn what_is_no_stamp_is_refused(text in ".{0,120}") {
        prop_assume!(!(text.len() == 99 && text.starts_with("bc1")));
        prop_assert!(text.parse::<Stamp>().is_err());
    }
}

//! What a board says of its credentials (kind 13250), read strictly: keysets, prices, and which kinds of event need one.

use std::collections::BTreeSet;

use board::policy::KindRange;
use credential::quote::{BATCH_MAX, KIND_POLICY};
use credential::{Keyset, Unreadable};
use units::Unix;
use wire::event::Event;

/// Most keysets, and most kinds or ranges of them, that a board may name.
const KEYSETS_MAX: usize = 32;
const KINDS_MAX: usize = 256;
/// The one way to pay that we know.
const METHOD: &str = "bolt11";

/// What a board says of its credentials.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Policy {
    /// The key that the board speaks with.
    pub(crate) board: [u8; 32],
    /// Keys that it signs with, or takes credentials of.
    pub(crate) keysets: Vec<Keyset>,
    /// What needs a credential.
    kinds: Vec<KindRange>,
    /// Most credentials in a batch.
    batch_max: usize,
    /// It can be paid in a way that we know.
    payable: bool,
}

impl Policy {
    /// Reads what the board with the key `board` published.
    pub(crate) fn read(event: &Event, board: [u8; 32]) -> Result<Policy, Unreadable> {
        if event.kind != KIND_POLICY || event.pubkey != board || event.verify().is_err() {
            return Err(Unreadable("the board's policy event"));
        }
        Policy::of_tags(board, &event.tags)
    }

    /// What these tags of such an event say.
    pub(crate) fn of_tags(board: [u8; 32], tags: &[Vec<String>]) -> Result<Policy, Unreadable> {
        let mut policy = Policy { board, keysets: Vec::new(), kinds: Vec::new(), batch_max: BATCH_MAX, payable: false };
        let mut ids = BTreeSet::new();
        for tag in tags {
            match tag.first().map(String::as_str) {
                Some("keyset") => {
                    let keyset = Keyset::from_tag(tag)?;
                    if !ids.insert(keyset.id) || ids.len() > KEYSETS_MAX {
                        return Err(Unreadable("list of keysets"));
                    }
                    policy.keysets.push(keyset);
                }
                Some("kinds") => {
                    let ranges = tag[1..].iter().map(|text| range(text));
                    policy.kinds.extend(ranges.collect::<Result<Vec<_>, _>>()?);
                    if policy.kinds.len() > KINDS_MAX {
                        return Err(Unreadable("list of kinds"));
                    }
                }
                Some("max_k") => {
                    let most = tag.get(1).and_then(|text| text.parse::<usize>().ok()).ok_or(Unreadable("max_k"))?;
                    policy.batch_max = most.min(BATCH_MAX);
                }
                Some("method") => policy.payable |= tag.get(1).is_some_and(|method| method == METHOD),
                Some(_) | None => {}
            }
        }
        Ok(policy)
    }

    /// Events of this kind need a credential.
    pub(crate) fn wants(&self, kind: u16) -> bool {
        self.kinds.iter().any(|range| range.contains(kind))
    }

    /// The keyset to buy of: of those that sign now, the one whose credentials are good for longest.
    pub(crate) fn sells(&self, now: Unix) -> Option<&Keyset> {
        let issuing = self.keysets.iter().filter(|keyset| self.payable && keyset.issues(now));
        issuing.max_by_key(|keyset| (keyset.redeem_until, std::cmp::Reverse(keyset.price)))
    }

    /// Most credentials in a batch.
    pub(crate) fn batch_max(&self) -> usize {
        self.batch_max
    }

    /// Which kinds need a credential, as the board writes them: single numbers and ranges.
    pub(crate) fn kinds(&self) -> Vec<String> {
        self.kinds.iter().map(KindRange::to_string).collect()
    }
}

/// `1059` or `300-399`, without the blanks that a configuration may have.
fn range(text: &str) -> Result<KindRange, Unreadable> {
    let number = |text: &str| text.parse::<u16>().map_err(|_| Unreadable("kind"));
    let (first, last) = match text.split_once('-') {
        Some((first, last)) => (number(first)?, number(last)?),
        None => (number(text)?, number(text)?),
    };
    if first <= last { Ok((first..=last).into()) } else { Err(Unreadable("range of kinds")) }
}

#[cfg(test)]
pub(crate) mod tests {
    use credential::KeysetSecret;
    use secp256k1::{Keypair, SECP256K1};
    use units::Msat;
    use wire::Unsigned;
    use wire::event::pubkey_of;

    use super::*;

    pub(crate) const NOW: Unix = Unix(1_800_000_000);

    pub(crate) fn board() -> Keypair {
        Keypair::from_seckey_slice(SECP256K1, &[5; 32]).unwrap()
    }

    pub(crate) fn keyset(days: u64) -> (KeysetSecret, Keyset) {
        let (from, until) = (Unix(NOW.0 - 1000), Unix(NOW.0 + days * 86_400));
        let secret = KeysetSecret::derive(&[6; 32], from, until, until);
        (secret, secret.publish(Msat(2000), from, until, until))
    }

    fn event(tags: &[&[&str]]) -> Event {
        let tags = tags.iter().map(|tag| tag.iter().map(|text| (*text).to_owned()).collect()).collect();
        let unsigned =
            Unsigned { pubkey: pubkey_of(&board()), created_at: NOW, kind: KIND_POLICY, tags, content: String::new() };
        unsigned.sign(&board(), &[0; 32])
    }

    fn read(tags: &[&[&str]]) -> Result<Policy, Unreadable> {
        Policy::read(&event(tags), pubkey_of(&board()))
    }

    #[test]
    fn kinds_are_numbers_and_ranges_and_none_without_a_tag() {
        let policy = read(&[&["kinds", "300-302", "1059"], &["class", "order"]]).unwrap();
        let wanted: Vec<u16> = [299, 300, 302, 303, 1059].into_iter().filter(|kind| policy.wants(*kind)).collect();
        assert_eq!(wanted, [300, 302, 1059]);
        assert_eq!(policy.kinds(), ["300-302", "1059"]);
        assert!(!read(&[]).unwrap().wants(300));
    }

    #[test]
    fn the_keyset_that_is_good_for_longest_is_bought_of_those_that_sign_now() {
        let (long, short) = (keyset(30).1, keyset(10).1);
        let over = Keyset { issue_until: NOW, ..keyset(60).1 };
        let tags: Vec<Vec<String>> = [short, long, over].iter().map(Keyset::to_tag).collect();
        let mut tags: Vec<Vec<&str>> = tags.iter().map(|tag| tag.iter().map(String::as_str).collect()).collect();
        let all = |tags: &[Vec<&str>]| read(&tags.iter().map(Vec::as_slice).collect::<Vec<_>>()).unwrap();
        assert_eq!(all(&tags).sells(NOW), None, "no way to pay that we know");
        tags.push(vec!["method", "bolt11"]);
        assert_eq!(all(&tags).sells(NOW).map(|keyset| keyset.id), Some(long.id));
        assert_eq!(all(&tags).sells(Unix(NOW.0 + 99 * 86_400)), None);
    }

    #[test]
    fn what_is_not_as_it_should_be_is_refused() {
        let tag = keyset(30).1.to_tag();
        let tag: Vec<&str> = tag.iter().map(String::as_str).collect();
        let other = [&tag[..2], &[tag[1]], &tag[3..]].concat();
        for bad in [
            vec![&["kinds", "300-"][..]],
            vec![&["kinds", "302-300"][..]],
            vec![&["kinds", "65536"][..]],
            vec![&["max_k", "many"][..]],
            vec![&tag[..], &tag[..]],
            vec![&tag[..6]],
            vec![&other[..]],
        ] {
            assert!(read(&bad).is_err(), "{bad:?}");
        }
        let many = ["kinds"; 300].iter().enumerate().map(|(i, name)| if i == 0 { *name } else { "1" });
        assert!(read(&[&many.collect::<Vec<_>>()]).is_err());
    }

    #[test]
    fn only_the_boards_own_word_counts() {
        let event = event(&[]);
        assert!(Policy::read(&event, pubkey_of(&board())).is_ok());
        assert!(Policy::read(&event, [1; 32]).is_err());
        let forged = Event { created_at: Unix(1), ..event };
        assert!(Policy::read(&forged, pubkey_of(&board())).is_err());
    }
}

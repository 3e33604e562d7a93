//! Proof of work and authentication.

use units::Unix;
use wire::auth::{self, AuthRefused};
use wire::event::pubkey_of;
use wire::{Event, Forged, Unsigned, pow};

use crate::samples::{event, key};

fn unsigned(content: &str) -> Unsigned {
    let mut unsigned = event(1, 7, 300, &[&["d", "a\"b"], &["t"]], content).into_unsigned();
    unsigned.pubkey = pubkey_of(&key(1));
    unsigned
}

#[test]
fn bits_are_counted_from_the_front() {
    let mut id = [0; 32];
    assert_eq!(pow::zero_bits(&id), 256);
    id[2] = 0x1f;
    assert_eq!(pow::zero_bits(&id), 19);
    id[0] = 0x80;
    assert_eq!(pow::zero_bits(&id), 0);
}

#[test]
fn a_mined_event_proves_its_target_and_keeps_its_id_when_signed() {
    for domp in [false, true] {
        let mut miner = pow::Miner::new(unsigned("shoes \n é"), 12, domp, 0, 1);
        let mined = std::iter::from_fn(|| Some(miner.step(100))).take(1000).flatten().next().unwrap();
        assert!(miner.attempts() > 0 && miner.expected_attempts() == 4096);
        let signed = mined.sign(&key(1), &[0; 32]);
        assert!(pow::zero_bits(&signed.id) >= 12);
        assert_eq!(pow::proven(&signed), 12);
        assert_eq!(signed.verify(), Ok(()));
        let proof = signed.tags.iter().find(|t| t[0] == "anti_spam_proof");
        assert_eq!(proof.map(|t| t[2].as_str()), domp.then(|| signed.tag("nonce").unwrap()));
    }
}

#[test]
fn two_miners_share_the_nonces() {
    let found = |first| {
        let mut miner = pow::Miner::new(unsigned(""), 8, false, first, 2);
        let mined = (0..100).find_map(|_| miner.step(100)).unwrap();
        mined.tags.last().unwrap()[1].parse::<u64>().unwrap()
    };
    assert_eq!((found(0) % 2, found(1) % 2), (0, 1));
}

#[test]
fn luck_without_a_commitment_is_no_work_and_a_claim_without_bits_is_none_either() {
    let with = |tags: &[&[&str]]| Event { id: [0; 32], ..event(1, 7, 1, tags, "") };
    assert_eq!(pow::proven(&with(&[])), 0);
    assert_eq!(pow::proven(&with(&[&["nonce", "1"]])), 0);
    assert_eq!(pow::proven(&with(&[&["nonce", "1", "16"]])), 16);
    assert_eq!(pow::proven(&with(&[&["anti_spam_proof", "pow", "5", "20"]])), 20);
    assert_eq!(pow::proven(&with(&[&["anti_spam_proof", "ref", "5", "20"]])), 0);
    let claimed = event(1, 7, 1, &[&["nonce", "1", "200"]], "");
    assert_eq!(pow::proven(&claimed), 0);
    assert_eq!(pow::proven(&with(&[&["nonce", "1", "257"]])), 0);
}

#[test]
fn an_answer_authenticates_to_its_relay_for_its_challenge_now() {
    let now = Unix(1_700_000_000);
    let answer =
        |url: &str, challenge: &str, at| auth::answer([0; 32], url, challenge, Unix(at)).sign(&key(2), &[0; 32]);
    let urls = ["wss://souk.example/relay", "ws://127.0.0.1:7777"];
    let check = |event: &Event| auth::check(event, &urls, "abc", now);
    let good = answer("WSS://Souk.Example:443/relay/", "abc", now.0);
    assert_eq!(check(&good), Ok(pubkey_of(&key(2))));
    assert_eq!(check(&answer(urls[1], "abc", now.0 - 599)), Ok(pubkey_of(&key(2))));
    assert_eq!(check(&answer(urls[1], "abc", now.0 + 601)), Err(AuthRefused::WrongTime));
    assert_eq!(check(&answer(urls[1], "abd", now.0)), Err(AuthRefused::WrongChallenge));
    assert_eq!(check(&answer("wss://souk.example", "abc", now.0)), Err(AuthRefused::WrongRelay));
    assert_eq!(check(&answer("wss://souk.example.evil/relay", "abc", now.0)), Err(AuthRefused::WrongRelay));
    assert_eq!(check(&event(2, now.0, 1, &[], "")), Err(AuthRefused::WrongKind));
    let mut forged = good;
    forged.sig[5] ^= 1;
    assert_eq!(check(&forged), Err(AuthRefused::Forged(Forged::BadSignature)));
}

//! The rules of admission, each with what passes it, what does not, and the answer.

use board::admission::{CurrentPolicy, KindPolicy, Policy, Rate, Rates, Rule, Sender};
use units::Unix;
use wire::{Event, RawEvent};

use crate::events::{NOW, pubkey, signed};

const FROM: Sender<'static> =
    Sender { address: std::net::IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1)), keys: &[], credential: None };

fn admit(policy: &Policy, event: &Event, from: &Sender<'_>) -> Result<(), Rule> {
    let json = event.to_json();
    let raw = RawEvent::parse(json.as_bytes(), &wire::Limits::RELAY).unwrap();
    let answer = policy.admit(&raw, from, &Rates::default(), Unix(NOW));
    if let Err(why) = &answer {
        assert_eq!(wire::frame::prefix(&why.to_string()), Some(why.rule.prefix()));
        assert!(why.cause.len() > 10, "a reason for people: {why}");
    }
    answer.map_err(|why| why.rule)
}

#[test]
fn every_rule_lets_pass_and_refuses() {
    let open = Policy::default;
    let with = |kind: KindPolicy| Policy { default: kind, ..Policy::default() };
    let many: Vec<&[&str]> = vec![&["t", "x"]; 6];
    let keys = [pubkey(1)];
    let authenticated = Sender { keys: &keys, ..FROM };
    let paying = Sender { credential: Some("bc1"), ..FROM };
    let note = signed(1, 1, NOW, &[], "x");
    let expires = |at: u64| signed(1, 1, NOW, &[&["expiration", &at.to_string()]], "x");
    let table: Vec<(Policy, Event, Sender<'_>, Result<(), Rule>)> = vec![
        (open(), note.clone(), FROM, Ok(())),
        (Policy { event_bytes: 100, ..open() }, note.clone(), FROM, Err(Rule::Size)),
        (Policy { tags: 6, ..open() }, signed(1, 1, NOW, &many, ""), FROM, Ok(())),
        (Policy { tags: 5, ..open() }, signed(1, 1, NOW, &many, ""), FROM, Err(Rule::Size)),
        (open(), signed(1, 22_242, NOW, &[], ""), FROM, Err(Rule::KindAllowed)),
        (Policy { kinds: vec![300..=399], ..open() }, signed(1, 300, NOW, &[], ""), FROM, Ok(())),
        (Policy { kinds: vec![300..=399], ..open() }, note.clone(), FROM, Err(Rule::KindAllowed)),
        (open(), signed(1, 1, NOW + 900, &[], ""), FROM, Ok(())),
        (open(), signed(1, 1, NOW + 901, &[], ""), FROM, Err(Rule::CreatedAtWindow)),
        (Policy { past_secs: Some(10), ..open() }, signed(1, 1, NOW - 10, &[], ""), FROM, Ok(())),
        (Policy { past_secs: Some(10), ..open() }, signed(1, 1, NOW - 11, &[], ""), FROM, Err(Rule::CreatedAtWindow)),
        (Policy { past_secs: Some(10), ..open() }, signed(1, 0, NOW - 11, &[], ""), FROM, Ok(())),
        (open(), expires(NOW + 1), FROM, Ok(())),
        (open(), expires(NOW), FROM, Err(Rule::Expired)),
        (Policy { banned_authors: [pubkey(1)].into(), ..open() }, note.clone(), FROM, Err(Rule::Ban)),
        (Policy { banned_addresses: [FROM.address].into(), ..open() }, note.clone(), FROM, Err(Rule::Ban)),
        (with(KindPolicy { auth: true, ..KindPolicy::default() }), note.clone(), FROM, Err(Rule::AuthRequired)),
        (with(KindPolicy { auth: true, ..KindPolicy::default() }), note.clone(), authenticated, Ok(())),
        (open(), signed(1, 1, NOW, &[&["-"]], ""), FROM, Err(Rule::AuthRequired)),
        (open(), signed(1, 1, NOW, &[&["-"]], ""), authenticated, Ok(())),
        (with(KindPolicy { credential: true, ..KindPolicy::default() }), note.clone(), FROM, Err(Rule::Credential)),
        (with(KindPolicy { credential: true, ..KindPolicy::default() }), note.clone(), paying, Ok(())),
        (with(KindPolicy { pow: 60, ..KindPolicy::default() }), note, FROM, Err(Rule::Pow)),
    ];
    for (i, (policy, event, from, expected)) in table.iter().enumerate() {
        assert_eq!(admit(policy, event, from), *expected, "row {i}");
    }
}

#[test]
fn work_counts_up_to_the_target_that_was_committed_to() {
    let policy =
        Policy { per_kind: vec![(300..=399, KindPolicy { pow: 8, ..KindPolicy::default() })], ..Policy::default() };
    let work = |target: u8| {
        let unsigned =
            wire::Unsigned { pubkey: pubkey(1), created_at: Unix(NOW), kind: 300, tags: vec![], content: "{}".into() };
        wire::pow::Miner::new(unsigned, target, false, 0, 1)
            .step(1 << 22)
            .unwrap()
            .sign(&crate::events::key(1), &[0; 32])
    };
    assert_eq!(admit(&policy, &work(8), &FROM), Ok(()));
    assert_eq!(admit(&policy, &work(12), &FROM), Ok(()));
    assert_eq!(admit(&policy, &work(4), &FROM), Err(Rule::Pow));
    assert_eq!(admit(&policy, &signed(1, 1, NOW, &[], "other kinds need none"), &FROM), Ok(()));
}

#[test]
fn a_rate_is_a_burst_and_then_so_many_a_minute() {
    let policy = Policy {
        per_address: Some(Rate { burst: 3, per_minute: 60 }),
        per_author: Some(Rate { burst: 2, per_minute: 30 }),
        ..Policy::default()
    };
    let rates = Rates::default();
    let json = signed(1, 1, NOW, &[], "x").to_json();
    let raw = RawEvent::parse(json.as_bytes(), &wire::Limits::RELAY).unwrap();
    let by_address = |secs: u64, from: &Sender<'_>| policy.admit(&raw, from, &rates, Unix(NOW + secs)).is_ok();
    let local = Sender { address: "127.0.0.1".parse().unwrap(), ..FROM };
    assert_eq!(
        [0, 0, 0, 0, 1, 1, 3, 3, 3].map(|at| by_address(at, &FROM)),
        [true, true, true, false, true, false, true, true, false]
    );
    assert!((0..100).all(|_| by_address(3, &local)), "loopback is exempt");
    let by_author = |secs: u64| policy.admit_verified(&raw, &rates, Unix(NOW + secs)).is_ok();
    assert_eq!([0, 0, 0, 1, 2, 2].map(by_author), [true, true, false, false, true, false]);
    let refusal = policy.admit_verified(&raw, &rates, Unix(NOW + 2)).unwrap_err();
    assert_eq!((refusal.rule, refusal.rule.prefix()), (Rule::RateLimit, "rate-limited"));
}

#[test]
fn a_policy_is_replaced_as_a_whole() {
    let current = CurrentPolicy::new(Policy::default());
    let before = current.get();
    current.set(Policy { tags: 1, ..Policy::default() });
    assert_eq!((before.tags, current.get().tags), (2000, 1));
}

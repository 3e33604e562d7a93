//! The rules of admission, each with what passes it, what does not, and the answer.

use std::collections::BTreeMap;
use std::sync::Arc;

use board::admission::{
    Credentials, CurrentPolicy, FreeTier, KindPolicy, MarketOrder, Payments, Policy, Ports, Rate, Rates, Refusal,
    Reputation, Rule, Sender, Spent,
};
use credential::{Keyset, Stamp};
use units::Unix;
use wire::{Event, RawEvent};

use crate::events::{NOW, pubkey, signed};

const FROM: Sender<'static> = Sender {
    address: std::net::IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1)),
    client: 1,
    keys: &[],
    credential: None,
};

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
    let protected = signed(1, 1, NOW, &[&["-"]], "x");
    let expires = |at: u64| signed(1, 1, NOW, &[&["expiration", &at.to_string()]], "x");
    let table: Vec<(Policy, Event, Sender<'_>, Result<(), Rule>)> = vec![
        (open(), note.clone(), FROM, Ok(())),
        (Policy { event_bytes: 100, ..open() }, note.clone(), FROM, Err(Rule::Size)),
        (Policy { tags: 6, ..open() }, signed(1, 1, NOW, &many, ""), FROM, Ok(())),
        (Policy { tags: 5, ..open() }, signed(1, 1, NOW, &many, ""), FROM, Err(Rule::Size)),
        (open(), signed(1, 22_242, NOW, &[], ""), FROM, Err(Rule::KindAllowed)),
        (Policy { kinds: vec![(300..=399).into()], ..open() }, signed(1, 300, NOW, &[], ""), FROM, Ok(())),
        (Policy { kinds: vec![(300..=399).into()], ..open() }, note.clone(), FROM, Err(Rule::KindAllowed)),
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
        (open(), signed(2, 1, NOW, &[&["-"]], ""), authenticated, Err(Rule::Protected)),
        (open(), signed(1, 6, NOW, &[], &note.to_json()), FROM, Ok(())),
        (open(), signed(2, 6, NOW, &[], &protected.to_json()), FROM, Err(Rule::KindAllowed)),
        (open(), signed(2, 1, NOW, &[], &protected.to_json()), FROM, Ok(())),
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
    let policy = Policy {
        per_kind: [((300..=399).into(), KindPolicy { pow: 8, ..KindPolicy::default() })].into(),
        ..Policy::default()
    };
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

#[test]
fn the_narrowest_range_that_holds_a_kind_counts() {
    let bits = |pow: u8| KindPolicy { pow, ..KindPolicy::default() };
    let per_kind: BTreeMap<_, _> =
        [((0..=65_535).into(), bits(1)), ((300..=399).into(), bits(2)), (303.into(), bits(3))].into();
    let policy = Policy { per_kind, default: bits(9), ..Policy::default() };
    assert_eq!([1, 300, 303, 304].map(|kind| policy.of(kind).pow), [1, 2, 3, 2]);
    let open = Policy { per_kind: BTreeMap::new(), ..policy };
    assert_eq!(open.of(303).pow, 9);
}

#[test]
fn a_policy_is_one_document_in_toml_and_json() {
    let text = r#"
event-bytes = 65536
kinds = [1, "300-399"]
past-secs = 3600
per-address = false
per-author = { burst = 5, per-minute = 60 }
invoice-network = "signet"
banned-authors = ["0101010101010101010101010101010101010101010101010101010101010101"]
banned-addresses = ["192.0.2.7", "::1", "::ffff:192.0.2.8"]
free-tier = { per-day = 3 }

[fees]
publication = [{ msat = 1000, kinds = ["300-399"] }]

[per-credential-class]
bulk = { burst = 1, per-minute = 1 }

[default]
pow = 4

[per-kind."300-399"]
credential = true

[per-kind.32500]
market-order = "required"
"#;
    let policy: Policy = toml::from_str(text).unwrap();
    assert_eq!(policy.kinds, [1.into(), (300..=399).into()]);
    assert_eq!((policy.per_address, policy.past_secs, policy.tags), (None, Some(3600), 2000));
    assert_eq!(policy.of(32_500).market_order, MarketOrder::Required);
    assert!(policy.of(302).credential && policy.of(1).pow == 4 && policy.banned_authors.contains(&[1; 32]));
    assert!(policy.banned_addresses.contains(&"192.0.2.8".parse().unwrap()));
    for policy in [policy, Policy::default()] {
        let (toml, json) = (toml::to_string(&policy).unwrap(), serde_json::to_string(&policy).unwrap());
        assert_eq!(toml::from_str::<Policy>(&toml).unwrap(), policy, "{toml}");
        assert_eq!(serde_json::from_str::<Policy>(&json).unwrap(), policy, "{json}");
    }
    assert_eq!(serde_json::from_str::<Policy>("{}").unwrap(), Policy::default());
}

#[test]
fn what_is_wrong_with_a_policy_is_said() {
    for (text, why) in [
        ("{\"powder\":1}", "unknown field `powder`"),
        ("{\"default\":{\"pwo\":1}}", "unknown field `pwo`"),
        ("{\"kinds\":[\"399-300\"]}", "`399-300` is neither a kind"),
        ("{\"kinds\":[70000]}", "`70000` is neither a kind"),
        ("{\"per-kind\":{\"x\":{}}}", "`x` is neither a kind"),
        ("{\"past-secs\":true}", "a value, or false for none"),
        ("{\"past-secs\":-1}", "-1"),
        ("{\"per-author\":{\"burst\":1}}", "missing field `per-minute`"),
        ("{\"banned-authors\":[\"AB\"]}", "`AB` is no public key"),
        ("{\"invoice-network\":\"mainnet\"}", "`mainnet` is no network: own, bitcoin"),
        ("{\"default\":{\"market-order\":\"maybe\"}}", "unknown variant `maybe`"),
    ] {
        let said = serde_json::from_str::<Policy>(text).unwrap_err().to_string();
        assert!(said.contains(why), "{text}: {said}");
    }
}

struct House;

impl Credentials for House {
    fn check(&self, _: &[u8; 32], credential: &str, _: Unix) -> Result<Spent, Refusal> {
        match credential.split_once(':') {
            Some((class, "good")) => {
                Ok(Spent { stamp: Stamp::from_bytes(&[7; Stamp::BYTES]).unwrap(), class: class.into() })
            }
            _ => Err(Refusal { rule: Rule::Credential, cause: "it was spent before".into() }),
        }
    }

    fn keyset(&self, _: Unix) -> Option<Keyset> {
        None
    }
}

impl Payments for House {
    fn received_msat(&self, hash: &[u8; 32], _: &[u8; 32]) -> u64 {
        if hash == &[7; 32] { 1000 } else { 0 }
    }
}

impl Reputation for House {
    fn score(&self, author: &[u8; 32]) -> u32 {
        if *author == pubkey(1) { 50 } else { 0 }
    }
}

fn house() -> Ports {
    Ports {
        credentials: Some(Arc::new(House)),
        payments: Some(Arc::new(House)),
        reputation: Some(Arc::new(House)),
        ..Ports::default()
    }
}

fn charge(
    policy: &Policy,
    event: &Event,
    credential: Option<&str>,
    ports: &Ports,
    rates: &Rates,
) -> Result<bool, Rule> {
    let json = event.to_json();
    let raw = RawEvent::parse(json.as_bytes(), &wire::Limits::RELAY).unwrap();
    policy.charge(&raw, credential, ports, rates, Unix(NOW)).map(|spent| spent.is_some()).map_err(|why| why.rule)
}

#[test]
fn a_credential_is_checked_and_its_class_has_a_rate() {
    let asked = KindPolicy { credential: true, ..KindPolicy::default() };
    let bulk = [("bulk".to_owned(), Rate { burst: 1, per_minute: 1 })].into();
    let policy = Policy { default: asked, per_credential_class: bulk, ..Policy::default() };
    let (rates, note) = (Rates::default(), signed(1, 1, NOW, &[], "x"));
    let with = |credential| charge(&policy, &note, credential, &house(), &rates);
    assert_eq!(with(Some("fine:good")), Ok(true));
    assert_eq!(with(Some("fine:bad")), Err(Rule::Credential));
    assert_eq!(with(Some("bulk:good")), Ok(true));
    assert_eq!(with(Some("bulk:good")), Err(Rule::RateLimit));
    assert_eq!(with(Some("fine:good")), Ok(true));
    assert_eq!(with(None), Err(Rule::Credential));
    assert_eq!(charge(&policy, &note, Some("fine:good"), &Ports::default(), &rates), Err(Rule::Credential));
    assert_eq!(charge(&Policy::default(), &note, None, &Ports::default(), &rates), Ok(false));
}

#[test]
fn what_is_not_kept_costs_no_credential_and_the_kinds_that_do_are_told() {
    let asked = KindPolicy { credential: true, ..KindPolicy::default() };
    let ranges = |policy: &Policy| policy.credential_kinds().iter().map(ToString::to_string).collect::<Vec<_>>();
    let all = Policy { default: asked, per_kind: BTreeMap::new(), kinds_denied: Vec::new(), ..Policy::default() };
    assert_eq!(ranges(&all), ["0-61", "63-19999", "30000-65535"]);
    let free = [((300..=399).into(), asked), (320.into(), KindPolicy::default()), ((19_999..=30_001).into(), asked)];
    let some = Policy { per_kind: free.into(), kinds_denied: vec![(390..=500).into()], ..Policy::default() };
    assert_eq!(ranges(&some), ["300-319", "321-389", "19999", "30000-30001"]);
    let listed = Policy { kinds: vec![1.into(), 2.into(), 20_001.into()], ..all.clone() };
    assert_eq!(ranges(&listed), ["1-2"], "what is not taken at all is not for sale");
    assert!(ranges(&Policy::default()).is_empty());
    let passing = signed(1, 20_001, NOW, &[], "x");
    assert_eq!(admit(&all, &passing, &FROM), Ok(()));
    assert_eq!(charge(&all, &passing, Some("a:good"), &house(), &Rates::default()), Ok(false), "and burns none");
}

#[test]
fn after_five_bad_credentials_none_is_looked_at_for_a_while() {
    let asked = KindPolicy { credential: true, ..KindPolicy::default() };
    let (policy, rates, note) =
        (Policy { default: asked, ..Policy::default() }, Rates::default(), signed(1, 1, NOW, &[], "x"));
    let json = note.to_json();
    let raw = RawEvent::parse(json.as_bytes(), &wire::Limits::RELAY).unwrap();
    let paying = Sender { credential: Some("bc1"), ..FROM };
    let at = |from: &Sender<'_>, secs: u64| policy.admit(&raw, from, &rates, Unix(NOW + secs)).map_err(|why| why.rule);
    for _ in 0..5 {
        assert_eq!(at(&paying, 0), Ok(()));
        rates.strike(paying.bearer(), Unix(NOW));
    }
    assert_eq!(at(&paying, 59), Err(Rule::RateLimit));
    assert_eq!(at(&Sender { client: 2, ..paying }, 59), Err(Rule::RateLimit), "another connection from there");
    assert_eq!(at(&Sender { client: 2, address: "192.0.2.2".parse().unwrap(), ..paying }, 59), Ok(()));
    assert_eq!(at(&FROM, 59), Err(Rule::Credential), "one is still needed");
    assert_eq!(at(&paying, 60), Ok(()));
}

#[test]
fn the_free_tier_is_for_authors_of_a_score_and_ends() {
    let asked = KindPolicy { credential: true, ..KindPolicy::default() };
    let policy = Policy { default: asked, free_tier: Some(FreeTier { per_day: 2, score: 10 }), ..Policy::default() };
    let (rates, known, stranger) = (Rates::default(), signed(1, 1, NOW, &[], "x"), signed(2, 1, NOW, &[], "x"));
    assert_eq!(admit(&policy, &known, &FROM), Ok(()), "whether it is free is asked once the author is certain");
    assert_eq!(charge(&policy, &known, None, &house(), &rates), Ok(false));
    assert_eq!(charge(&policy, &known, None, &house(), &rates), Ok(false));
    assert_eq!(charge(&policy, &known, None, &house(), &rates), Err(Rule::FreeTier));
    assert_eq!(charge(&policy, &known, Some("a:good"), &house(), &rates), Ok(true));
    assert_eq!(charge(&policy, &stranger, None, &house(), &rates), Err(Rule::FreeTier));
}

#[test]
fn a_bare_hash_pays_for_nothing_and_a_payment_stands_in_for_work() {
    let asked = KindPolicy { pow: 60, anti_spam_ln_msat: 1000, ..KindPolicy::default() };
    let policy = Policy { default: asked, ..Policy::default() };
    let claims = |hash: [u8; 32]| signed(1, 300, NOW, &[&["anti_spam_proof", "ln", &crate::events::hex(&hash)]], "{}");
    let work_only = Policy { default: KindPolicy { anti_spam_ln_msat: 0, ..asked }, ..Policy::default() };
    assert_eq!(admit(&work_only, &claims([7; 32]), &FROM), Err(Rule::Pow));
    assert_eq!(admit(&policy, &signed(1, 300, NOW, &[], "{}"), &FROM), Err(Rule::Pow));
    assert_eq!(admit(&policy, &claims([7; 32]), &FROM), Ok(()));
    let rates = Rates::default();
    assert_eq!(charge(&policy, &claims([7; 32]), None, &house(), &rates), Ok(false));
    assert_eq!(charge(&policy, &claims([8; 32]), None, &house(), &rates), Err(Rule::AntiSpamLn));
    assert_eq!(charge(&policy, &claims([7; 32]), None, &Ports::default(), &rates), Err(Rule::AntiSpamLn));
}

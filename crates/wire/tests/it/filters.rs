//! Filters: what NIP-01 says matches, no more and no less.

use proptest::prelude::*;
use serde_json::{Value, json};
use units::{Unix, hex32};
use wire::{Event, Filter, FilterLimits, Limits, Malformed, RawEvent};

use crate::samples::event;

fn parse(filter: &Value) -> Result<Filter, Malformed> {
    Filter::parse(filter.to_string().as_bytes(), &FilterLimits::DEFAULT)
}

/// The conditions of NIP-01 read straight from the filter's JSON.
fn reference(filter: &Value, event: &Event) -> bool {
    filter.as_object().unwrap().iter().all(|(key, value)| {
        let among = |text: &str| value.as_array().unwrap().iter().any(|v| v.as_str() == Some(text));
        match key.as_str() {
            "ids" => among(&hex32(&event.id)),
            "authors" => among(&hex32(&event.pubkey)),
            "kinds" => value.as_array().unwrap().iter().any(|v| v.as_u64() == Some(u64::from(event.kind))),
            "since" => event.created_at.0 >= value.as_u64().unwrap(),
            "until" => event.created_at.0 <= value.as_u64().unwrap(),
            "limit" | "search" => true,
            tag => event.tags.iter().any(|t| format!("#{}", t[0]) == tag && t.len() > 1 && among(&t[1])),
        }
    })
}

#[test]
fn a_filter_that_we_do_not_understand_is_refused_with_the_reason() {
    for (filter, reason) in [
        (json!({"ids": ["ab"]}), Malformed::NotHex("ids")),
        (json!({"authors": ["AB".repeat(32)]}), Malformed::NotHex("authors")),
        (json!({"authors": "ab"}), Malformed::WrongType("authors")),
        (json!({"kinds": [65536]}), Malformed::OutOfRange("kinds")),
        (json!({"kinds": ["1"]}), Malformed::WrongType("kinds")),
        (json!({"since": -1}), Malformed::NotInteger("since")),
        (json!({"until": 1.5}), Malformed::NotInteger("until")),
        (json!({"limit": "10"}), Malformed::WrongType("limit")),
        (json!({"#ref": ["x"]}), Malformed::UnknownKey),
        (json!({"#1": ["x"]}), Malformed::UnknownKey),
        (json!({"#e": [1]}), Malformed::WrongType("tag values")),
        (json!({"nonsense": 1}), Malformed::UnknownKey),
        (json!({"kinds": vec![1; 2001]}), Malformed::TooMany("kinds")),
        (json!({"search": "x".repeat(1025)}), Malformed::OutOfRange("search")),
        (json!([]), Malformed::WrongType("filter")),
    ] {
        assert_eq!(parse(&filter), Err(reason), "{filter}");
    }
    let twice = br#"{"kinds":[1],"kinds":[2]}"#;
    assert_eq!(Filter::parse(twice, &FilterLimits::DEFAULT), Err(Malformed::DuplicateKey));
    let twice = br##"{"#e":["x"],"\u0023e":["y"]}"##;
    assert_eq!(Filter::parse(twice, &FilterLimits::DEFAULT), Err(Malformed::DuplicateKey));
}

#[test]
fn an_absent_condition_holds_and_an_empty_one_does_not() {
    let event = event(1, 5, 1, &[], "");
    assert!(parse(&json!({})).unwrap().matches(&event));
    assert!(parse(&json!({"limit": 0})).unwrap().matches(&event));
    for empty in [json!({"ids": []}), json!({"kinds": []}), json!({"#t": []}), json!({"since": 2, "until": 1})] {
        let filter = parse(&empty).unwrap();
        assert!(filter.is_empty() && !filter.matches(&event), "{empty}");
    }
    assert!(!parse(&json!({"since": 5, "until": 5})).unwrap().is_empty());
}

#[test]
fn only_the_first_value_of_a_tag_counts() {
    let event = event(1, 5, 1, &[&["t", "souk", "bazaar"], &["t"]], "");
    assert!(parse(&json!({"#t": ["souk"]})).unwrap().matches(&event));
    assert!(!parse(&json!({"#t": ["bazaar"]})).unwrap().matches(&event));
}

/// Few values, so that matches are common.
fn any_filter() -> impl Strategy<Value = Value> {
    let id = |author: u8| hex32(&event(author, 10, 1, &[], "").pubkey);
    let authors = prop::sample::subsequence((1..4).map(id).collect::<Vec<_>>(), 0..3);
    let kinds = proptest::collection::vec(0u16..4, 0..3);
    let values = proptest::collection::vec("[ab\"]", 0..3);
    (
        proptest::option::of(authors),
        proptest::option::of(kinds),
        proptest::option::of(0u64..12),
        proptest::option::of(0u64..12),
        proptest::collection::btree_map("#[etT]", values, 0..2),
        proptest::option::of(0u64..500),
    )
        .prop_map(|(authors, kinds, since, until, tags, limit)| {
            let mut filter = json!(tags);
            let mut put = |key: &str, value: Option<Value>| value.into_iter().for_each(|v| filter[key] = v);
            put("authors", authors.map(|v| json!(v)));
            put("kinds", kinds.map(|v| json!(v)));
            put("since", since.map(|v| json!(v)));
            put("until", until.map(|v| json!(v)));
            put("limit", limit.map(|v| json!(v)));
            filter
        })
}

fn any_event() -> impl Strategy<Value = Event> {
    let tag = ("[etTx]", proptest::collection::vec("[ab\"]", 0..2));
    (1u8..4, 0u64..12, 0u16..4, proptest::collection::vec(tag, 0..3)).prop_map(|(author, at, kind, tags)| {
        let tags: Vec<Vec<&str>> = tags
            .iter()
            .map(|(n, vs)| std::iter::once(n.as_str()).chain(vs.iter().map(String::as_str)).collect())
            .collect();
        let tags: Vec<&[&str]> = tags.iter().map(Vec::as_slice).collect();
        event(author, at, kind, &tags, "")
    })
}

proptest! {
    #[test]
    fn a_filter_matches_what_the_text_of_nip01_says(filter in any_filter(), event in any_event(), by_id in any::<bool>()) {
        let mut filter = filter;
        if by_id {
            filter["ids"] = json!([hex32(&event.id), "00".repeat(32)]);
        }
        let parsed = parse(&filter).unwrap();
        let expected = reference(&filter, &event);
        prop_assert_eq!(parsed.matches(&event), expected);
        let text = event.to_json();
        prop_assert_eq!(parsed.matches_raw(&RawEvent::parse(text.as_bytes(), &Limits::STRICT).unwrap()), expected);
        prop_assert!(!(parsed.is_empty() && expected));
        prop_assert_eq!(Filter::parse(parsed.to_json().as_bytes(), &FilterLimits::DEFAULT), Ok(parsed));
    }

    #[test]
    fn no_bytes_make_the_filter_parser_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        if Filter::parse(&bytes, &FilterLimits::DEFAULT).is_ok() {
            prop_assert!(serde_json::from_slice::<Value>(&bytes).is_ok());
        }
    }
}

#[test]
fn a_search_is_kept_for_the_index() {
    let filter = parse(&json!({"search": "red \"shoes\"", "since": 3})).unwrap();
    assert_eq!(filter.search.as_deref(), Some("red \"shoes\""));
    assert_eq!(filter.since, Some(Unix(3)));
    assert_eq!(Filter::parse(filter.to_json().as_bytes(), &FilterLimits::DEFAULT), Ok(filter));
}

//! Frames between clients and relays.

use proptest::prelude::*;
use wire::frame::{deliver_json, prefix, publish};
use wire::{ClientFrame, Filter, FrameLimits, Malformed, RelayFrame};

use crate::samples::event;

fn client(json: &str) -> Result<ClientFrame<'_>, Malformed> {
    ClientFrame::parse(json.as_bytes(), &FrameLimits::RELAY)
}

fn relay(json: &str) -> Result<RelayFrame<'_>, Malformed> {
    RelayFrame::parse(json.as_bytes(), &FrameLimits::CLIENT)
}

#[test]
fn a_published_event_arrives_with_what_follows_it() {
    let event = event(1, 5, 1, &[&["t", "a\"b"]], "x");
    let text = publish(&event, None);
    let Ok(ClientFrame::Event { event: raw, extra: None }) = client(&text) else { panic!("{text}") };
    assert!(raw.to_event() == event);
    let text = publish(&event, Some("bc1\"credential"));
    let Ok(ClientFrame::Event { event: raw, extra: Some(extra) }) = client(&text) else { panic!("{text}") };
    assert!(raw.to_event() == event && extra == "bc1\"credential");
    assert_eq!(client(&text).unwrap().to_json(), text);
    let text = deliver_json("sub\"1", &event.to_json());
    let Ok(RelayFrame::Event { id, event: raw }) = relay(&text) else { panic!("{text}") };
    assert!(id == "sub\"1" && raw.to_event() == event);
}

#[test]
fn every_frame_is_written_as_it_is_read() {
    let event = event(1, 5, 22242, &[], "").to_json();
    for text in [
        r#"["REQ","s",{}]"#.to_owned(),
        r##"["REQ","s",{"kinds":[300,301],"#e":["x"],"since":1,"limit":0},{"search":"a b"}]"##.to_owned(),
        r#"["COUNT","s",{"kinds":[1]}]"#.to_owned(),
        r#"["CLOSE","s"]"#.to_owned(),
        r#"["CLOSE","any \"string\" \\"]"#.to_owned(),
        format!(r#"["AUTH",{event}]"#),
        r#"["NEG-OPEN","s",{"kinds":[1]},"61"]"#.to_owned(),
        r#"["NEG-MSG","s","6100"]"#.to_owned(),
        r#"["NEG-CLOSE","s"]"#.to_owned(),
    ] {
        assert_eq!(client(&text).unwrap().to_json(), text);
    }
    for text in [
        format!(r#"["EVENT","s",{event}]"#),
        format!(r#"["OK","{}",true,""]"#, "ab".repeat(32)),
        format!(r#"["OK","{}",false,"pow: 20 bits \"needed\""]"#, "ab".repeat(32)),
        r#"["EOSE","s"]"#.to_owned(),
        r#"["EOSE","any \"string\" \\"]"#.to_owned(),
        r#"["CLOSED","s","auth-required: who are you?"]"#.to_owned(),
        r#"["NOTICE","hello"]"#.to_owned(),
        r#"["AUTH","challenge"]"#.to_owned(),
        r#"["COUNT","s",{"count":7}]"#.to_owned(),
        r#"["COUNT","s",{"count":7,"approximate":true}]"#.to_owned(),
        r#"["NEG-MSG","s","6100"]"#.to_owned(),
        format!(r#"["COUNT","s",{{"count":7,"approximate":true,"hll":"{}"}}]"#, "0a".repeat(256)),
        r#"["NEG-ERR","s","blocked: too many"]"#.to_owned(),
        r#"["NEG-ERR","s","blocked: too many",500000]"#.to_owned(),
    ] {
        assert_eq!(relay(&text).unwrap().to_json(), text);
    }
    let Ok(RelayFrame::Count { count: 9, approximate: false, hll: None, .. }) =
        relay(r#"["COUNT","s",{"hll":"00","count":9}]"#)
    else {
        panic!()
    };
}

#[test]
fn a_bad_frame_is_refused_with_the_reason() {
    let id = "ab".repeat(32);
    let event = event(1, 5, 1, &[], "").to_json();
    for (text, reason) in [
        ("{}", Malformed::WrongType("frame")),
        ("[]", Malformed::Missing("message")),
        ("[1]", Malformed::WrongType("message")),
        (r#"["HELLO"]"#, Malformed::UnknownVerb),
        (r#"["REQ"]"#, Malformed::Missing("subscription id")),
        (r#"["REQ","s"]"#, Malformed::Missing("filter")),
        (r#"["REQ","",{}]"#, Malformed::Empty("subscription id")),
        (r#"["REQ","s",[]]"#, Malformed::WrongType("filter")),
        (r#"["REQ","s",{}"#, Malformed::Syntax),
        (r#"["REQ","s",{}]]"#, Malformed::Trailing),
        (r#"["CLOSE","s","t"]"#, Malformed::TooMany("elements")),
        (r#"["EVENT"]"#, Malformed::Missing("event")),
        (r#"["EVENT","s"]"#, Malformed::WrongType("event")),
        (r#"["NEG-MSG","s","6"]"#, Malformed::NotHex("negentropy message")),
        (&format!(r#"["EVENT",{event},7]"#), Malformed::WrongType("extra element")),
        (&format!(r#"["EVENT",{event},"a","b"]"#), Malformed::TooMany("elements")),
        (&format!(r#"["EVENT",{event},"{}"]"#, "x".repeat(20_000)), Malformed::OutOfRange("extra element")),
        (&format!(r#"["REQ","{}",{{}}]"#, "x".repeat(65)), Malformed::OutOfRange("subscription id")),
        (&format!(r#"["REQ","s"{}]"#, ",{}".repeat(33)), Malformed::TooMany("filters")),
    ] {
        assert_eq!(client(text).unwrap_err(), reason, "{text}");
    }
    assert!(client(&format!(r#"["REQ","{}",{{}}]"#, "é".repeat(64))).is_ok(), "64 characters, not bytes");
    for (text, reason) in [
        (r#"["OK","ab",true,""]"#.to_owned(), Malformed::NotHex("event id")),
        (format!(r#"["OK","{id}","true",""]"#), Malformed::WrongType("accepted")),
        (format!(r#"["OK","{id}",true]"#), Malformed::Missing("message")),
        (r#"["COUNT","s",{}]"#.to_owned(), Malformed::Missing("count")),
        (r#"["REQ","s",{}]"#.to_owned(), Malformed::UnknownVerb),
    ] {
        assert_eq!(relay(&text).unwrap_err(), reason, "{text}");
    }
}

#[test]
fn the_prefix_of_a_refusal_is_machine_readable() {
    assert_eq!(prefix("auth-required: who are you?"), Some("auth-required"));
    assert_eq!(prefix("duplicate:"), Some("duplicate"));
    assert_eq!(prefix("Sorry: no"), None);
    assert_eq!(prefix("no reason"), None);
    assert_eq!(Filter::default().to_json(), "{}");
}

proptest! {
    #[test]
    fn no_bytes_make_a_frame_parser_panic(
        verb in prop_oneof![Just("EVENT"), Just("REQ"), Just("OK"), Just("COUNT"), Just("NEG-OPEN"), Just("AUTH")],
        rest in proptest::collection::vec(any::<u8>(), 0..100),
    ) {
        let mut bytes = format!("[\"{verb}\",").into_bytes();
        bytes.extend(&rest);
        let valid = serde_json::from_slice::<serde_json::Value>(&bytes).is_ok();
        prop_assert!(valid || ClientFrame::parse(&bytes, &FrameLimits::RELAY).is_err());
        prop_assert!(valid || RelayFrame::parse(&bytes, &FrameLimits::CLIENT).is_err());
    }
}

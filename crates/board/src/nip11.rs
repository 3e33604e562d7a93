//! What the board says about itself: the NIP-11 document, true to its limits, and a page for people.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use wire::frame::SUBSCRIPTION_ID_MAX;

use crate::BoardConfig;
use crate::policy::{Fee, KindRange, Policy};

/// NIPs that are served. 13 is among them because work is checked where the policy asks for it; 15, 69 and 99 need nothing of a
/// relay, and client-side NIPs are not for a relay to announce.
pub const NIPS: &[u16] = &[1, 9, 11, 13, 17, 40, 42, 45, 50, 59, 62, 65, 70, 77];

/// Most bytes of an event with empty tags and content: what is left of the longest event is for the two. The limit is one of bytes of
/// JSON; NIP-11 counts characters, and no more of these have room.
const EVENT_HEAD: usize = 346;

/// DOMP's kinds.
const DOMP: std::ops::RangeInclusive<u16> = 300..=399;

/// The document under `Accept: application/nostr+json`.
pub fn document(config: &BoardConfig, policy: &Policy) -> Value {
    let (session, costly) = (&config.limits.session, policy.credential_kinds());
    let event_bytes = policy.event_bytes.min(session.frame.event.bytes);
    // What is asked of any event, not of some kinds only.
    let asked = policy.default;
    let restricted = asked.auth || asked.pow > 0 || !costly.is_empty() || !policy.kinds.is_empty();
    let mut limitation = json!({
        "max_message_length": session.frame.bytes,
        "max_subscriptions": session.subscriptions,
        "max_filters": session.frame.filters,
        "max_limit": session.limit,
        "default_limit": session.limit,
        "max_subid_length": SUBSCRIPTION_ID_MAX,
        "max_event_tags": policy.tags.min(session.frame.event.tags),
        "max_content_length": event_bytes.saturating_sub(EVENT_HEAD),
        "min_pow_difficulty": asked.pow,
        "auth_required": policy.auth_to_read && asked.auth,
        "payment_required": asked.credential && policy.free_tier.is_none(),
        "restricted_writes": restricted,
        "created_at_upper_limit": policy.future_secs,
    });
    if let Some(past) = policy.past_secs {
        limitation["created_at_lower_limit"] = past.into();
    }
    let mut document = json!({
        "name": config.name,
        "description": config.description,
        "supported_nips": nips(config),
        "version": env!("CARGO_PKG_VERSION"),
        "limitation": limitation,
        "retention": [{ "kinds": [[20_000, 29_999]], "time": 0 }, { "time": null }],
        "domp_policy": domp(policy),
    });
    if let Some(pubkey) = &config.pubkey {
        document["pubkey"] = units::hex32(pubkey).into();
    }
    if let Some(key) = &config.own_key {
        document["self"] = units::hex32(key).into();
    }
    if let Some(icon) = &config.icon {
        document["icon"] = icon.as_str().into();
    }
    if let Some(contact) = &config.contact {
        document["contact"] = contact.as_str().into();
    }
    if let Some(url) = &policy.fees.payments_url {
        document["payments_url"] = url.as_str().into();
    }
    if let Some(fees) = fees(policy, stamp(config, &costly)) {
        document["fees"] = fees;
    }
    document
}

/// What is served here: management only where somebody may manage.
fn nips(config: &BoardConfig) -> Vec<u16> {
    let management = (!config.operators.is_empty()).then_some(86);
    NIPS.iter().copied().chain(management).collect()
}

/// What a credential costs at the moment, and for which kinds one is spent. Read by clients that send it with the event.
fn stamp(config: &BoardConfig, costly: &[KindRange]) -> Option<Value> {
    let keyset = config.ports.credentials.as_ref().filter(|_| !costly.is_empty())?.keyset((config.clock)())?;
    let kinds: Vec<Value> = costly.iter().map(kinds).collect();
    Some(json!([{ "kinds": kinds, "amount": keyset.price.0, "unit": "msats", "scheme": "bc1" }]))
}

/// The fee schedule; `None` when nothing costs anything.
fn fees(policy: &Policy, stamp: Option<Value>) -> Option<Value> {
    let fee = |fee: &Fee| {
        let mut value = json!({ "amount": fee.msat, "unit": "msats" });
        if let Some(period) = fee.period_secs {
            value["period"] = period.into();
        }
        if !fee.kinds.is_empty() {
            value["kinds"] = fee.kinds.iter().map(kinds).collect();
        }
        value
    };
    let fees = &policy.fees;
    let lists =
        [("admission", &fees.admission), ("subscription", &fees.subscription), ("publication", &fees.publication)];
    let lists = lists.into_iter().filter(|(_, list)| !list.is_empty());
    let mut schedule: serde_json::Map<String, Value> =
        lists.map(|(name, list)| (name.to_owned(), list.iter().map(fee).collect())).collect();
    schedule.extend(stamp.map(|stamp| ("stamp".to_owned(), stamp)));
    (!schedule.is_empty()).then_some(Value::Object(schedule))
}

/// A kind as a number, a range as a pair.
fn kinds(range: &KindRange) -> Value {
    match range.bounds() {
        (first, last) if first == last => first.into(),
        (first, last) => json!([first, last]),
    }
}

/// What DOMP's DIP-04 announces under `domp_policy`, true to the rules.
fn domp(policy: &Policy) -> Value {
    let mut pow: BTreeMap<String, u8> = BTreeMap::new();
    for kind in DOMP {
        let asked = policy.of(kind).pow;
        if asked != policy.default.pow {
            pow.insert(format!("kind_{kind}"), asked);
        }
    }
    pow.insert("default".into(), policy.default.pow);
    let required = DOMP.map(|kind| policy.of(kind)).any(|asked| asked.pow > 0 || asked.credential);
    let mut document = json!({ "anti_spam_required": required, "pow_difficulty": pow });
    if let Some(msat) = DOMP.map(|kind| policy.of(kind).anti_spam_ln_msat).filter(|msat| *msat > 0).max() {
        document["lightning_payment"] = json!({ "amount_msat": msat });
        if let Some(recipient) = &policy.fees.anti_spam_recipient {
            document["lightning_payment"]["recipient"] = recipient.as_str().into();
        }
    }
    if let Some(rate) = policy.per_author.or(policy.per_address) {
        let hour = u64::from(rate.per_minute) * 60;
        document["rate_limits"] = json!({ "events_per_hour": hour, "events_per_day": hour * 24 });
    }
    document
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

/// The rules that are in force, as people read them.
fn rules(policy: &Policy) -> Vec<(&'static str, String)> {
    let mut rules = vec![
        ("size", format!("at most {} bytes and {} tags", policy.event_bytes, policy.tags)),
        ("created-at-window", format!("at most {} seconds in the future", policy.future_secs)),
    ];
    if policy.default.pow > 0 {
        rules.push(("pow", format!("{} bits of work", policy.default.pow)));
    }
    if policy.default.auth {
        rules.push(("auth-required", "authors authenticate".into()));
    }
    let costly: Vec<String> = policy.credential_kinds().iter().map(KindRange::to_string).collect();
    if !costly.is_empty() {
        rules.push(("credential", format!("a credential is spent for each event of kind {}", costly.join(", "))));
    }
    if let Some(tier) = policy.free_tier {
        rules.push(("free-tier", format!("{} events a day without a credential", tier.per_day)));
    }
    rules
}

/// The page that a browser gets.
pub fn page(config: &BoardConfig, policy: &Policy) -> String {
    let rules: String = rules(policy).iter().map(|(rule, text)| format!("<li><b>{rule}</b>: {text}</li>")).collect();
    let (name, description) = (escape(&config.name), escape(&config.description));
    format!(
        "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width\"><title>{name}</title>\
         <h1>{name}</h1><p>{description}</p>\
         <p>This is a Nostr relay: connect to this address with a Nostr client over WebSocket.</p>\
         <ul>{rules}</ul></html>"
    )
}

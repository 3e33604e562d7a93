//! What the board says about itself: the NIP-11 document, true to its limits, and a page for people.

use serde_json::{Value, json};
use wire::frame::SUBSCRIPTION_ID_MAX;

use crate::BoardConfig;
use crate::admission::{Policy, Rule};

/// NIPs that are served. 13 is among them because work is checked where the policy asks for it.
pub const NIPS: &[u16] = &[1, 9, 11, 13, 17, 40, 42, 45, 59, 70];

/// The document under `Accept: application/nostr+json`.
pub fn document(config: &BoardConfig, policy: &Policy) -> Value {
    let session = &config.limits.session;
    let mut limitation = json!({
        "max_message_length": session.frame.bytes,
        "max_subscriptions": session.subscriptions,
        "max_filters": session.frame.filters,
        "max_limit": session.limit,
        "default_limit": session.limit,
        "max_subid_length": SUBSCRIPTION_ID_MAX,
        "max_event_tags": policy.tags.min(session.frame.event.tags),
        "max_content_length": policy.event_bytes.min(session.frame.event.bytes),
        "min_pow_difficulty": policy.default.pow,
        "auth_required": policy.auth_to_read,
        "payment_required": policy.default.credential,
        "restricted_writes": policy.default.auth || policy.default.credential || !policy.kinds.is_empty(),
        "created_at_upper_limit": policy.future_secs,
    });
    if let Some(past) = policy.past_secs {
        limitation["created_at_lower_limit"] = past.into();
    }
    let mut document = json!({
        "name": config.name,
        "description": config.description,
        "supported_nips": NIPS,
        "software": "souk",
        "version": env!("CARGO_PKG_VERSION"),
        "limitation": limitation,
        "domp_policy": policy.domp(),
    });
    if let Some(pubkey) = &config.pubkey {
        document["pubkey"] = units::hex32(pubkey).into();
    }
    if let Some(contact) = &config.contact {
        document["contact"] = contact.as_str().into();
    }
    document
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

/// The page that a browser gets.
pub fn page(config: &BoardConfig, policy: &Policy) -> String {
    let rules = [
        (Rule::Size, format!("at most {} bytes and {} tags", policy.event_bytes, policy.tags)),
        (Rule::Pow, format!("{} bits of work", policy.default.pow)),
        (
            Rule::AuthRequired,
            if policy.default.auth { "authors authenticate" } else { "nobody has to authenticate" }.into(),
        ),
    ];
    let rules: String = rules.iter().map(|(rule, text)| format!("<li><b>{}</b>: {text}</li>", rule.name())).collect();
    let (name, description) = (escape(&config.name), escape(&config.description));
    format!(
        "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width\"><title>{name}</title>\
         <h1>{name}</h1><p>{description}</p>\
         <p>This is a Nostr relay: connect to this address with a Nostr client over WebSocket.</p>\
         <ul>{rules}</ul></html>"
    )
}

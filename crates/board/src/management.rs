//! Management over HTTP by the operator's keys (NIP-86), each request signed for (NIP-98).

use std::net::IpAddr;

use hyper::StatusCode;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::decisions::Decision;
use crate::nip98;
use crate::operator::{Operator, OperatorError};

/// The media type of requests.
pub const MEDIA_TYPE: &str = "application/nostr+json+rpc";
/// Longest request, in bytes.
pub(crate) const BODY_MAX: usize = 64 * 1024;

/// What is offered. An event that was taken down stays down, so there is no `allowevent`; nobody has to be allowed, so there
/// are no lists of allowed keys.
pub const METHODS: &[&str] = &[
    "supportedmethods",
    "banpubkey",
    "unbanpubkey",
    "listbannedpubkeys",
    "banevent",
    "listbannedevents",
    "changerelayname",
    "changerelaydescription",
    "changerelayicon",
    "allowkind",
    "disallowkind",
    "listallowedkinds",
    "blockip",
    "unblockip",
    "listblockedips",
];

#[derive(Deserialize)]
struct Call {
    method: String,
    #[serde(default)]
    params: Vec<Value>,
}

/// Why a call was not answered with a result.
enum CallError {
    /// The caller's mistake.
    Usage(String),
    /// It was not done.
    Operator(OperatorError),
}

impl From<OperatorError> for CallError {
    fn from(error: OperatorError) -> CallError {
        CallError::Operator(error)
    }
}

/// The addresses that a request may be signed for: the relay's own (`ws`, `wss`), and the same as HTTP names them.
pub(crate) fn urls(relay: &[String]) -> Vec<String> {
    let http = relay.iter().filter_map(|url| url.strip_prefix("ws").map(|rest| format!("http{rest}")));
    relay.iter().cloned().chain(http).collect()
}

/// Answers a request.
pub(crate) async fn answer(operator: &Operator, header: Option<&str>, body: &[u8]) -> (StatusCode, Value) {
    let refused = |status, why: String| (status, json!({ "error": why }));
    let key = match nip98::check(header, "POST", &operator.management_urls(), body, operator.now()) {
        Ok(key) => key,
        Err(why) => return refused(StatusCode::UNAUTHORIZED, why.to_string()),
    };
    if !operator.keys().contains(&key) {
        return refused(StatusCode::UNAUTHORIZED, "this key is not among the operator's".into());
    }
    let call: Call = match serde_json::from_slice(body) {
        Ok(call) => call,
        Err(why) => return refused(StatusCode::BAD_REQUEST, format!("the request is not understood: {why}")),
    };
    tracing::info!(method = call.method, "managed over HTTP");
    match obey(operator, &call).await {
        Ok(result) => (StatusCode::OK, json!({ "result": result })),
        Err(CallError::Usage(why)) => refused(StatusCode::BAD_REQUEST, why),
        Err(CallError::Operator(why)) => refused(StatusCode::OK, why.to_string()),
    }
}

async fn obey(operator: &Operator, call: &Call) -> Result<Value, CallError> {
    let decision = match call.method.as_str() {
        "supportedmethods" => return Ok(json!(METHODS)),
        "listbannedpubkeys" => return Ok(banned_authors(operator)),
        "listbannedevents" => return Ok(banned_events(operator)),
        "listblockedips" => return Ok(blocked(operator)),
        "listallowedkinds" => return Ok((0..=u16::MAX).filter(|kind| operator.policy().takes_kind(*kind)).collect()),
        "banpubkey" => Decision::BanAuthor { author: key(call)?, reason: reason(call)? },
        "unbanpubkey" => Decision::UnbanAuthor { author: key(call)? },
        "banevent" => Decision::BanEvent { id: key(call)?, reason: reason(call)? },
        "blockip" => Decision::BanAddress { address: address(call)?, reason: reason(call)? },
        "unblockip" => Decision::UnbanAddress { address: address(call)? },
        "allowkind" => Decision::AllowKind { kind: kind(call)? },
        "disallowkind" => Decision::DenyKind { kind: kind(call)? },
        "changerelayname" => Decision::Name { text: text(call, 0)? },
        "changerelaydescription" => Decision::Description { text: text(call, 0)? },
        "changerelayicon" => Decision::Icon { text: text(call, 0)? },
        other => return Err(CallError::Usage(format!("{other:?} is not offered; supportedmethods lists what is"))),
    };
    operator.decide(decision).await?;
    Ok(Value::Bool(true))
}

fn text(call: &Call, at: usize) -> Result<String, CallError> {
    let missing = || CallError::Usage(format!("{} needs a text as parameter {at}", call.method));
    call.params.get(at).and_then(Value::as_str).map(str::to_owned).ok_or_else(missing)
}

fn reason(call: &Call) -> Result<String, CallError> {
    if matches!(call.params.get(1), None | Some(Value::Null)) { Ok(String::new()) } else { text(call, 1) }
}

fn key(call: &Call) -> Result<[u8; 32], CallError> {
    let text = text(call, 0)?;
    wire::parse_hex(&text, "key").map_err(|_| CallError::Usage(format!("{text:?} is not 64 lowercase hex digits")))
}

fn address(call: &Call) -> Result<IpAddr, CallError> {
    let text = text(call, 0)?;
    text.parse().map_err(|_| CallError::Usage(format!("{text:?} is no IP address")))
}

fn kind(call: &Call) -> Result<u16, CallError> {
    let number = call.params.first().and_then(Value::as_u64).and_then(|number| u16::try_from(number).ok());
    number.ok_or_else(|| CallError::Usage(format!("{} needs a kind, 0 to 65535", call.method)))
}

/// The policy's own are among them: they are shut out too.
fn banned_authors(operator: &Operator) -> Value {
    let decided = operator.decisions().authors;
    let banned = operator.policy();
    let banned = banned.banned_authors.iter().map(units::hex32);
    banned
        .map(|key| json!({ "reason": decided.get(&key).map_or("by policy", |ban| &ban.reason), "pubkey": key }))
        .collect()
}

fn blocked(operator: &Operator) -> Value {
    let decided = operator.decisions().addresses;
    let blocked = operator.policy();
    let reason = |address| decided.get(address).map_or("by policy", |ban| &ban.reason);
    blocked.banned_addresses.iter().map(|address| json!({ "ip": address, "reason": reason(address) })).collect()
}

fn banned_events(operator: &Operator) -> Value {
    let events = operator.decisions().events;
    events.iter().map(|(id, ban)| json!({ "id": id, "reason": ban.reason })).collect()
}

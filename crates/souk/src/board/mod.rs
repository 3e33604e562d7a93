//! `souk board …`: the board from its operator's side.

pub(crate) mod args;
mod transfer;

use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use ::board::decisions::{Decision, Decisions};
use ::board::operator::ClientView;
use ::board::{BoardStats, SubscriptionView};
use daemon::api::types::{NoticeRequest, PolicyReply, PolicyRequest, Reached, WhomRequest};

use crate::client::Client;
use crate::failure::Failure;
use crate::show::{Show, short, table};
use args::{Ban, Board, Policy, Unban};

pub(crate) async fn obey(client: &Client, data_dir: &Path, what: Board, show: &Show) -> Result<(), Failure> {
    match what {
        Board::Stats => show.answer(&client.get::<BoardStats>("/v1/board/stats").await?, stats),
        Board::Clients => show.answer(&client.get::<Vec<ClientView>>("/v1/board/clients").await?, |c| clients(c)),
        Board::Subscriptions { of } => {
            let path = format!("/v1/board/subscriptions/{}", one_segment(&of)?);
            show.answer(&client.get::<Vec<SubscriptionView>>(&path).await?, |s| subscriptions(s))
        }
        Board::Disconnect { whom } => {
            let reached: Reached = client.post("/v1/board/disconnect", &WhomRequest { whom }).await?;
            show.answer(&reached, |r| format!("{} ended", connections(r.clients)))
        }
        Board::Notice { text, to } => {
            let reached: Reached = client.post("/v1/board/notice", &NoticeRequest { whom: to, text }).await?;
            show.answer(&reached, |r| format!("sent to {}", connections(r.clients)))
        }
        Board::Ban(what) => decide(client, ban(what)?, show).await,
        Board::Unban(what) => decide(client, unban(what)?, show).await,
        Board::Bans => show.answer(&client.get::<Decisions>("/v1/board/decisions").await?, bans),
        Board::Policy(what) => policy(client, what, show).await,
        Board::Export(options) => transfer::export(client, data_dir, options, show).await,
        Board::Sync(options) => transfer::sync(client, options, show).await,
        Board::Import(options) => transfer::import(client, options, show).await,
    }
}

async fn policy(client: &Client, what: Policy, show: &Show) -> Result<(), Failure> {
    match what {
        Policy::Show => {
            let reply: PolicyReply = client.get("/v1/board/policy").await?;
            show.answer(&reply.policy, |_| reply.toml.trim_end().to_owned())
        }
        Policy::Set { file } => {
            let text = if file == Path::new("-") {
                std::io::read_to_string(std::io::stdin())
            } else {
                std::fs::read_to_string(&file)
            };
            let toml = text.map_err(|e| Failure::usage(format!("cannot read {}: {e}", file.display())))?;
            let request = PolicyRequest { name: file.display().to_string(), toml };
            client.post::<()>("/v1/board/policy", &request).await?;
            show.answer(&(), |()| "it holds from now on".to_owned())
        }
        Policy::Reload => {
            client.post::<()>("/v1/board/policy/reload", &()).await?;
            show.answer(&(), |()| "it was read again".to_owned())
        }
    }
}

async fn decide(client: &Client, decision: Decision, show: &Show) -> Result<(), Failure> {
    let words = match &decision {
        Decision::BanEvent { .. } => "taken down",
        Decision::BanAuthor { .. } | Decision::BanAddress { .. } => "shut out",
        _ => "let in again",
    };
    let decisions: Decisions = client.post("/v1/board/decisions", &decision).await?;
    show.answer(&decisions, |_| words.to_owned())
}

fn key(text: &str) -> Result<[u8; 32], Failure> {
    let wrong = |_| Failure::usage(format!("{text:?} is not a key or id: 64 lowercase hex digits"));
    text.parse::<trade::MessageId>().map(|id| id.0).map_err(wrong)
}

fn ban(what: Ban) -> Result<Decision, Failure> {
    Ok(match what {
        Ban::Author { key: text, reason } => Decision::BanAuthor { author: key(&text)?, reason },
        Ban::Event { id, reason } => Decision::BanEvent { id: key(&id)?, reason },
        Ban::Address { address, reason } => Decision::BanAddress { address, reason },
    })
}

fn unban(what: Unban) -> Result<Decision, Failure> {
    Ok(match what {
        Unban::Author { key: text } => Decision::UnbanAuthor { author: key(&text)? },
        Unban::Address { address } => Decision::UnbanAddress { address },
    })
}

/// What goes into a path must not change it.
fn one_segment(text: &str) -> Result<&str, Failure> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b':');
    let wrong = || Failure::usage(format!("{text:?} is neither the number of a client nor an address"));
    if !text.is_empty() && text.bytes().all(plain) { Ok(text) } else { Err(wrong()) }
}

fn connections(count: u64) -> String {
    if count == 1 { "1 connection".to_owned() } else { format!("{count} connections") }
}

fn stats(s: &BoardStats) -> String {
    let (traffic, store) = (&s.traffic, &s.store);
    format!(
        "connections    {} now, {} since the start, {} dropped for reading too slowly\n\
         subscriptions  {}\n\
         events         {} accepted, {} known, {} refused, {} failed\n\
         messages       {} in ({}), {} out ({})\n\
         store          {} events, log {}, index {}, {} commits",
        s.connections,
        s.came,
        s.slow_readers,
        s.subscriptions,
        s.accepted,
        s.known,
        s.refused,
        s.failed,
        traffic.frames_in,
        size(traffic.bytes_in),
        traffic.frames_out,
        size(traffic.bytes_out),
        store.events,
        size(store.log_bytes),
        size(store.index_bytes),
        store.commits,
    )
}

/// Bytes in a unit that people read.
fn size(bytes: u64) -> String {
    match bytes {
        0..10_000 => format!("{bytes} B"),
        10_000..10_000_000 => format!("{} kB", bytes / 1000),
        _ => format!("{} MB", bytes / 1_000_000),
    }
}

fn clients(clients: &[ClientView]) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let row = |c: &ClientView| {
        let known = |value: u64| if c.stuck { "?".to_owned() } else { value.to_string() };
        vec![
            c.number.to_string(),
            c.address.to_string(),
            format!("{} s", now.saturating_sub(c.since.0)),
            c.keys.iter().map(short).collect::<Vec<_>>().join(" "),
            known(c.subscriptions),
            known(c.in_flight),
            format!("{} / {}", c.traffic.frames_in, size(c.traffic.bytes_in)),
            format!("{} / {}", c.traffic.frames_out, size(c.traffic.bytes_out)),
        ]
    };
    let head = ["client", "address", "for", "keys", "subscriptions", "in flight", "in", "out"];
    table(&head, clients.iter().map(row).collect())
}

fn subscriptions(subscriptions: &[SubscriptionView]) -> String {
    let row = |s: &SubscriptionView| {
        let filters: Vec<String> = s.filters.iter().map(ToString::to_string).collect();
        vec![s.client.to_string(), s.id.clone(), s.stage.clone(), filters.join("\n")]
    };
    table(&["client", "name", "stage", "filters"], subscriptions.iter().map(row).collect())
}

fn bans(decisions: &Decisions) -> String {
    let row = |what: &str, which: String, ban: &::board::decisions::Ban| {
        vec![what.to_owned(), which, ban.at.0.to_string(), ban.reason.clone()]
    };
    let authors = decisions.authors.iter().map(|(key, ban)| row("author", key.clone(), ban));
    let addresses = decisions.addresses.iter().map(|(address, ban)| row("address", address.to_string(), ban));
    let events = decisions.events.iter().map(|(id, ban)| row("event", id.clone(), ban));
    table(&["what", "which", "since", "reason"], authors.chain(addresses).chain(events).collect())
}

//! `souk wait …`: blocks until something is so, for scripts. Nobody has to sleep for luck.

use std::time::{Duration, Instant};

use ::node::{Balances, Channel};
use daemon::api::types::{ChatView, ErrorKind, Status, TradeView};
use serde_json::{Value, json};

use crate::args::{Until, Wait};
use crate::client::Client;
use crate::failure::Failure;
use crate::market::{find, state};
use crate::show::{Show, short};

/// How often what is waited for is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// What a look came to.
enum Seen {
    /// It is so: the answer, and in words.
    Now(Value, String),
    /// Not yet, and what is so instead.
    NotYet(String),
}

pub(crate) async fn obey(client: &Client, what: Wait, show: &Show) -> Result<(), Failure> {
    let deadline = Instant::now() + Duration::from_secs(what.timeout);
    loop {
        let instead = match look(client, &what.until).await {
            Ok(Seen::Now(value, words)) => return show.answer(&value, |_| words),
            Ok(Seen::NotYet(instead)) => instead,
            // A daemon may be starting, and what is asked about may be on its way.
            Err(failure) if matches!(failure.kind, ErrorKind::Unreachable | ErrorKind::NotFound) => failure.message,
            Err(failure) => return Err(failure),
        };
        if Instant::now() >= deadline {
            return Err(Failure::fault(format!("waited {} s in vain: {instead}", what.timeout)));
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

async fn look(client: &Client, until: &Until) -> Result<Seen, Failure> {
    match until {
        Until::Daemon => {
            let status: Status = client.get("/v1/status").await?;
            Ok(Seen::Now(json!({"version": status.version}), "the daemon answers".to_owned()))
        }
        Until::Trade { trade, states } => look_at_trade(find(client, trade).await?, states),
        Until::Chat { trade, count } => {
            let trade = find(client, trade).await?.trade;
            let said: Vec<ChatView> = client.get(&format!("/v1/trades/{trade}/chat")).await?;
            Ok(counted(said.len() as u64, *count as u64, "words were said"))
        }
        Until::Coins { amount } => {
            let balances: Balances = client.get("/v1/node/balances").await?;
            Ok(counted(balances.onchain.0, *amount, "sat are confirmed on chain"))
        }
        Until::Ratings { of, count } => {
            let view = crate::reputation::fetch(client, Some(of)).await?;
            let found: usize = view.records.iter().map(|record| record.count).sum();
            Ok(counted(found as u64, *count as u64, "ratings are there"))
        }
        Until::Channels { count } => {
            let channels: Vec<Channel> = client.get("/v1/node/channels").await?;
            let usable = channels.iter().filter(|channel| channel.usable).count();
            Ok(counted(usable as u64, *count as u64, "channels can carry payments"))
        }
    }
}

fn counted(found: u64, wanted: u64, what: &str) -> Seen {
    if found >= wanted {
        Seen::Now(json!({"found": found}), format!("{found} {what}"))
    } else {
        Seen::NotYet(format!("{found} {what}, not {wanted}"))
    }
}

fn look_at_trade(view: TradeView, states: &[String]) -> Result<Seen, Failure> {
    let is = state(&view).to_owned();
    let so = format!("{} is {is}: {}", short(view.trade), view.next);
    if states.contains(&is) || states.contains(&view.state) {
        let view = serde_json::to_value(&view).map_err(|e| Failure::fault(e.to_string()))?;
        return Ok(Seen::Now(view, so));
    }
    if view.outcome.is_some() {
        return Err(Failure::fault(format!("the trade has ended: {so}")));
    }
    Ok(Seen::NotYet(so))
}

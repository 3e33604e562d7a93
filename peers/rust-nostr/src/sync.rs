//! Negentropy (NIP-77) between the SDK's store and the board, down, up and both ways; afterwards both hold the same.

use std::collections::BTreeSet;

use anyhow::{Result, bail};
use nostr_sdk::prelude::*;
use tokio::task::JoinSet;

use crate::client::{PATIENCE, client, give, with_store};
use crate::report::Report;

/// Events of the first check: those that both have, and those that one lacks.
const BOTH_HAVE: usize = 2_000;
const BOARD_HAS: usize = 2_500;
const CLIENT_HAS: usize = 1_500;
/// Of the second, on either side.
const EACH_HAS: usize = 600;
/// So many publish at the same time.
const AT_ONCE: usize = 32;

/// First down, then up.
pub async fn one_way_after_the_other(url: &RelayUrl, report: &mut Report) -> Result<()> {
    let keys = Keys::generate();
    let events = events(&keys, Kind::Reaction, BOTH_HAVE + BOARD_HAS + CLIENT_HAS)?;
    let (common, rest) = events.split_at(BOTH_HAVE);
    let (on_board, here) = rest.split_at(BOARD_HAS);
    let syncing = with_store(url, &keys).await?;
    keep(&syncing, common.iter().chain(here)).await?;
    publish(url, &keys, common.iter().chain(on_board)).await?;
    let filter = Filter::new().author(keys.public_key()).kind(Kind::Reaction);
    let all = ids(&events);

    let down = SyncOptions::default().direction(SyncDirection::Down);
    let found = syncing.sync(filter.clone(), &down).await?.val;
    report.say("sync down finds what we lack", set(&found.remote) == ids(on_board), found.remote.len());
    report.say("and what the board lacks", set(&found.local) == ids(here), found.local.len());
    report.say("it brings what we lack", kept(&syncing, &filter).await? == all, found.received.len());
    let others = served(url, &filter).await?;
    report.say("and gives the board nothing", others == &all - &ids(here), others.len());

    let up = SyncOptions::default().direction(SyncDirection::Up);
    let found = syncing.sync(filter.clone(), &up).await?.val;
    let given = set(&found.sent) == ids(here) && found.send_failures.is_empty();
    report.say("sync up gives what the board lacks", given, found.sent.len());
    let others = served(url, &filter).await?;
    report.say("both hold the same", others == all && kept(&syncing, &filter).await? == all, others.len());
    nothing_is_left(&syncing, &filter, report).await
}

/// Both at once, over events of which some are of the same second.
pub async fn both_ways(url: &RelayUrl, report: &mut Report) -> Result<()> {
    let keys = Keys::generate();
    let events = events(&keys, Kind::TextNote, 2 * EACH_HAS)?;
    let syncing = with_store(url, &keys).await?;
    let (here, on_board): (Vec<_>, Vec<_>) = events.iter().enumerate().partition(|(index, _)| index % 2 == 0);
    keep(&syncing, here.into_iter().map(|(_, event)| event)).await?;
    publish(url, &keys, on_board.into_iter().map(|(_, event)| event)).await?;
    let filter = Filter::new().author(keys.public_key()).kind(Kind::TextNote);
    let both = SyncOptions::default().direction(SyncDirection::Both);
    let found = syncing.sync(filter.clone(), &both).await?.val;
    let counts = format!("{} sent, {} received", found.sent.len(), found.received.len());
    report.say("sync goes both ways at once", found.sent.len() == EACH_HAS && found.received.len() == EACH_HAS, counts);
    let (others, ours, all) = (served(url, &filter).await?, kept(&syncing, &filter).await?, ids(&events));
    report.say("both hold the same after it", others == all && ours == all, all.len());
    nothing_is_left(&syncing, &filter, report).await
}

async fn nothing_is_left(syncing: &Client, filter: &Filter, report: &mut Report) -> Result<()> {
    let both = SyncOptions::default().direction(SyncDirection::Both);
    let found = syncing.sync(filter.clone(), &both).await?;
    let agreed = found.failed.is_empty() && found.success.len() == 1;
    let none = found.local.is_empty() && found.remote.is_empty();
    report.say("another sync finds nothing to do", agreed && none, "");
    Ok(())
}

/// Events of the last hours, three to the second.
fn events(keys: &Keys, kind: Kind, count: usize) -> Result<Vec<Event>> {
    let now = Timestamp::now().as_secs();
    let times = (now - 20_000..).flat_map(|second| [second; 3]);
    let events = times.take(count).enumerate().map(|(index, second)| {
        let builder = EventBuilder::new(kind, index.to_string()).custom_created_at(Timestamp::from_secs(second));
        builder.sign_with_keys(keys)
    });
    Ok(events.collect::<Result<_, _>>()?)
}

async fn keep<'a>(client: &Client, events: impl Iterator<Item = &'a Event>) -> Result<()> {
    for event in events {
        if !client.database().save_event(event).await?.is_success() {
            bail!("the SDK's store does not keep an event");
        }
    }
    Ok(())
}

async fn publish<'a>(url: &RelayUrl, keys: &Keys, events: impl Iterator<Item = &'a Event>) -> Result<()> {
    let author = client(url, keys).await?;
    let mut tasks = JoinSet::new();
    for event in events {
        if tasks.len() == AT_ONCE
            && let Some(done) = tasks.join_next().await
        {
            done??;
        }
        let (author, event) = (author.clone(), event.clone());
        tasks.spawn(async move { give(&author, &event).await });
    }
    while let Some(done) = tasks.join_next().await {
        done??;
    }
    Ok(())
}

/// What the client's store holds.
async fn kept(client: &Client, filter: &Filter) -> Result<BTreeSet<EventId>> {
    Ok(client.database().query(filter.clone()).await?.into_iter().map(|event| event.id).collect())
}

/// What the board serves to a client with an empty store, page after page.
async fn served(url: &RelayUrl, filter: &Filter) -> Result<BTreeSet<EventId>> {
    let reader = client(url, &Keys::generate()).await?;
    let (mut ids, mut filter) = (BTreeSet::new(), filter.clone());
    loop {
        let page = reader.fetch_events(filter.clone(), PATIENCE).await?;
        let before = ids.len();
        ids.extend(page.iter().map(|event| event.id));
        let oldest = page.iter().map(|event| event.created_at).min();
        let (Some(oldest), true) = (oldest, ids.len() > before) else { return Ok(ids) };
        filter = filter.until(oldest);
    }
}

fn ids(events: &[Event]) -> BTreeSet<EventId> {
    events.iter().map(|event| event.id).collect()
}

fn set<'a>(ids: impl IntoIterator<Item = &'a EventId>) -> BTreeSet<EventId> {
    ids.into_iter().copied().collect()
}

//! Clients as applications have them, and what is asked with them again and again.

use std::time::Duration;

use anyhow::{Result, bail};
use nostr_sdk::prelude::*;

/// Longer than a board ever takes.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// A client that signs with these keys and authenticates when it is asked to.
pub async fn client(url: &RelayUrl, keys: &Keys) -> Result<Client> {
    connected(url, Client::builder().signer(keys.clone())).await
}

/// A client that nobody stands behind.
pub async fn stranger(url: &RelayUrl) -> Result<Client> {
    connected(url, Client::builder()).await
}

/// A client with a store of its own, which is what it brings into agreement with a relay.
pub async fn with_store(url: &RelayUrl, keys: &Keys) -> Result<Client> {
    let store = MemoryDatabase::with_opts(MemoryDatabaseOptions { events: true, max_events: None });
    connected(url, Client::builder().signer(keys.clone()).database(store)).await
}

/// Whatever the relay sends and was not asked for is an error.
async fn connected(url: &RelayUrl, builder: ClientBuilder) -> Result<Client> {
    let options = ClientOptions::new().verify_subscriptions(true).ban_relay_on_mismatch(true);
    let client = builder.opts(options).build();
    client.add_relay(url).await?;
    client.try_connect_relay(url, PATIENCE).await?;
    Ok(client)
}

/// Publishes, and gives why it is refused.
pub async fn publish(client: &Client, event: &Event) -> Result<std::result::Result<(), String>> {
    let output = client.send_event(event).await?;
    if let Some(why) = output.failed.into_values().next() {
        return Ok(Err(why));
    }
    if output.success.is_empty() {
        bail!("{} was neither taken nor refused", event.id);
    }
    Ok(Ok(()))
}

/// Publishes what has to be taken.
pub async fn give(client: &Client, event: &Event) -> Result<()> {
    match publish(client, event).await? {
        Ok(()) => Ok(()),
        Err(why) => bail!("an event of kind {} is refused: {why}", event.kind),
    }
}

/// The ids of the stored events that match, newest first.
pub async fn stored(client: &Client, filter: Filter) -> Result<Vec<EventId>> {
    let events = client.fetch_events(filter, PATIENCE).await?;
    Ok(events.into_iter().map(|event| event.id).collect())
}

/// Why a refusal was given, for the report.
pub fn refusal(outcome: &std::result::Result<(), String>) -> &str {
    outcome.as_ref().err().map_or("it was taken", String::as_str)
}

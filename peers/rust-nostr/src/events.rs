//! Events come in, are found, replaced, deleted, and end with their time.

use std::time::Duration;

use anyhow::{Context, Result};
use nostr_sdk::prelude::*;
use tokio::time::{sleep, timeout};

use crate::client::{PATIENCE, client, give, publish, refusal, stored, stranger};
use crate::report::Report;

/// Publishing, fetching, counting, and what comes live.
pub async fn notes(url: &RelayUrl, report: &mut Report) -> Result<()> {
    let keys = Keys::generate();
    let (author, reader) = (client(url, &keys).await?, stranger(url).await?);
    let note = EventBuilder::text_note("hello \"ä\" \u{2028} 😀").tag(Tag::hashtag("souk")).sign_with_keys(&keys)?;
    give(&author, &note).await?;
    let found = reader.fetch_events(Filter::new().author(keys.public_key()).hashtag("souk"), PATIENCE).await?;
    report.say("a note is published and fetched", found.to_vec() == [note.clone()], "");

    // One that the board does not know, or else it would be passed over as known.
    let mut forged = EventBuilder::text_note("true").sign_with_keys(&keys)?;
    forged.content = "forged".into();
    let outcome = publish(&author, &forged).await?;
    report.say("a forged note is refused", refusal(&outcome).starts_with("invalid:"), refusal(&outcome));

    let listing = EventBuilder::new(Kind::Custom(30_402), "").tag(Tag::identifier("x")).sign_with_keys(&keys)?;
    let filter = Filter::new().author(keys.public_key()).kind(listing.kind);
    let came = live(&reader, filter.clone(), &author, &listing).await?;
    report.say("a listing comes live", came == Some(listing.id), "");
    let passing = EventBuilder::new(Kind::Custom(20_001), "").sign_with_keys(&keys)?;
    let came = live(&reader, Filter::new().author(keys.public_key()).kind(passing.kind), &author, &passing).await?;
    report.say("an ephemeral event comes live", came == Some(passing.id), "");
    report.say("and is not kept", stored(&reader, Filter::new().id(passing.id)).await?.is_empty(), "");

    let counted = count(&reader, url, Filter::new().author(keys.public_key())).await?;
    report.say("they are counted", counted == 2, counted);
    Ok(())
}

/// The first event of a subscription after the stored ones, brought about by publishing this one.
async fn live(reader: &Client, filter: Filter, author: &Client, event: &Event) -> Result<Option<EventId>> {
    let mut notifications = reader.notifications();
    let subscription = reader.subscribe(filter, None).await?.val;
    let ours = |id: &SubscriptionId| *id == subscription;
    let waits = async {
        loop {
            match notifications.recv().await? {
                RelayPoolNotification::Message { message: RelayMessage::EndOfStoredEvents(id), .. } if ours(&id) => {
                    give(author, event).await?;
                }
                RelayPoolNotification::Event { subscription_id, event, .. } if ours(&subscription_id) => {
                    return anyhow::Ok(event.id);
                }
                _ => {}
            }
        }
    };
    let came = timeout(PATIENCE, waits).await.ok().transpose()?;
    reader.unsubscribe(&subscription).await;
    Ok(came)
}

/// The SDK begins to listen for the answer after it has asked, so it can miss one; asked again, it does not.
async fn count(reader: &Client, url: &RelayUrl, filter: Filter) -> Result<usize> {
    let relay = reader.relay(url).await?;
    for _ in 0..4 {
        if let Ok(counted) = relay.count_events(filter.clone(), Duration::from_secs(3)).await {
            return Ok(counted);
        }
    }
    relay.count_events(filter, PATIENCE).await.context("COUNT")
}

/// Replaceable and addressable events, and the relay list, which is one of them.
pub async fn versions(url: &RelayUrl, report: &mut Report) -> Result<()> {
    let keys = Keys::generate();
    let author = client(url, &keys).await?;
    let now = Timestamp::now();
    let profile = |name: &str, ago: u64| {
        EventBuilder::metadata(&Metadata::new().name(name)).custom_created_at(now - ago).sign_with_keys(&keys)
    };
    let (oldest, older, newest) = (profile("a", 20)?, profile("b", 10)?, profile("c", 0)?);
    give(&author, &older).await?;
    give(&author, &newest).await?;
    let profiles = Filter::new().author(keys.public_key()).kind(Kind::Metadata);
    report.say("a newer profile replaces the older", stored(&author, profiles.clone()).await? == [newest.id], "");
    // Whether it is refused or taken and dropped, the newest one stays alone.
    let outcome = publish(&author, &oldest).await?;
    report.say("an older one does not come back", stored(&author, profiles).await? == [newest.id], refusal(&outcome));
    let read = author.fetch_metadata(keys.public_key(), PATIENCE).await?.and_then(|metadata| metadata.name);
    report.say("the SDK reads the newest profile", read.as_deref() == Some("c"), "");

    let listing = |d: &str, ago: u64| {
        let builder = EventBuilder::new(Kind::Custom(30_402), "").tag(Tag::identifier(d));
        builder.custom_created_at(now - ago).sign_with_keys(&keys)
    };
    let (old, new, beside) = (listing("x", 10)?, listing("x", 5)?, listing("y", 7)?);
    for event in [&old, &beside, &new] {
        give(&author, event).await?;
    }
    let listings = stored(&author, Filter::new().author(keys.public_key()).kind(Kind::Custom(30_402))).await?;
    report.say("a listing is replaced by address", listings == [new.id, beside.id], listings.len());
    let found =
        stored(&author, Filter::new().kind(Kind::Custom(30_402)).identifier("y").author(keys.public_key())).await?;
    report.say("one is found by its identifier", found == [beside.id], "");

    let relays = |name: &str, ago: u64| -> Result<Event> {
        let list = [(RelayUrl::parse(name)?, Some(RelayMetadata::Write))];
        Ok(EventBuilder::relay_list(list).custom_created_at(now - ago).sign_with_keys(&keys)?)
    };
    give(&author, &relays("wss://old.example.com", 10)?).await?;
    give(&author, &relays("wss://new.example.com", 0)?).await?;
    let lists =
        author.fetch_events(Filter::new().author(keys.public_key()).kind(Kind::RelayList), PATIENCE).await?.to_vec();
    let urls: Vec<String> = lists.iter().flat_map(nip65::extract_relay_list).map(|(url, _)| url.to_string()).collect();
    report.say("the newest relay list is read", urls == ["wss://new.example.com"], urls.join(" "));
    Ok(())
}

/// What its author deletes is gone and does not come back; what others want deleted stays.
pub async fn deletion(url: &RelayUrl, report: &mut Report) -> Result<()> {
    let (keys, others) = (Keys::generate(), Keys::generate());
    let (author, other) = (client(url, &keys).await?, client(url, &others).await?);
    let ago = |secs: u64| Timestamp::now() - secs;
    let note = EventBuilder::text_note("to go").custom_created_at(ago(10)).sign_with_keys(&keys)?;
    let stays = EventBuilder::text_note("to stay").custom_created_at(ago(10)).sign_with_keys(&keys)?;
    give(&author, &note).await?;
    give(&author, &stays).await?;
    let request = EventDeletionRequest::new().ids([note.id, stays.id]);
    give(&other, &EventBuilder::delete(request).sign_with_keys(&others)?).await?;
    let left = stored(&author, Filter::new().ids([note.id, stays.id])).await?;
    report.say("somebody else deletes nothing", left.len() == 2, left.len());
    let request = EventBuilder::delete(EventDeletionRequest::new().id(note.id)).sign_with_keys(&keys)?;
    give(&author, &request).await?;
    let left = stored(&author, Filter::new().ids([note.id, stays.id])).await?;
    report.say("the author deletes by id", left == [stays.id], left.len());
    let outcome = publish(&author, &note).await?;
    report.say(
        "it does not come back",
        stored(&author, Filter::new().id(note.id)).await?.is_empty(),
        refusal(&outcome),
    );
    report.say("the deletion itself is kept", stored(&author, Filter::new().id(request.id)).await? == [request.id], "");

    let listing = |secs: u64| {
        let builder = EventBuilder::new(Kind::Custom(30_402), "").tag(Tag::identifier("z"));
        builder.custom_created_at(ago(secs)).sign_with_keys(&keys)
    };
    let (before, after) = (listing(10)?, listing(0)?);
    give(&author, &before).await?;
    let address = Coordinate::new(Kind::Custom(30_402), keys.public_key()).identifier("z");
    let request = EventDeletionRequest::new().coordinate(address);
    give(&author, &EventBuilder::delete(request).custom_created_at(ago(5)).sign_with_keys(&keys)?).await?;
    let listings = Filter::new().author(keys.public_key()).kind(Kind::Custom(30_402));
    report.say("the author deletes by address", stored(&author, listings.clone()).await?.is_empty(), "");
    give(&author, &after).await?;
    report.say("a version after that is taken", stored(&author, listings).await? == [after.id], "");
    Ok(())
}

/// Expiration (NIP-40).
pub async fn time(url: &RelayUrl, report: &mut Report) -> Result<()> {
    let keys = Keys::generate();
    let author = client(url, &keys).await?;
    let until = |at: Timestamp| EventBuilder::text_note("for a while").tag(Tag::expiration(at)).sign_with_keys(&keys);
    let over = until(Timestamp::now() - 60_u64)?;
    let outcome = publish(&author, &over).await?;
    let there = stored(&author, Filter::new().id(over.id)).await?;
    report.say("an expired event is refused", outcome.is_err() && there.is_empty(), refusal(&outcome));
    let short = until(Timestamp::now() + 3_u64)?;
    give(&author, &short).await?;
    report.say("one that has time is served", stored(&author, Filter::new().id(short.id)).await? == [short.id], "");
    sleep(Duration::from_secs(5)).await;
    report.say("and no longer once it is over", stored(&author, Filter::new().id(short.id)).await?.is_empty(), "");
    Ok(())
}

/// Search (NIP-50), which goes over listings.
pub async fn search(url: &RelayUrl, report: &mut Report) -> Result<()> {
    let keys = Keys::generate();
    let author = client(url, &keys).await?;
    let listing = |title: &str| {
        let tags = [Tag::identifier(title), Tag::title(title)];
        EventBuilder::new(Kind::Custom(30_402), "Hand-made").tags(tags).sign_with_keys(&keys)
    };
    let (socks, shirt) = (listing("Warm woollen socks")?, listing("A woollen shirt")?);
    give(&author, &socks).await?;
    give(&author, &shirt).await?;
    let words = |text: &str| Filter::new().author(keys.public_key()).search(text);
    let found = stored(&author, words("SOCKS woollen")).await?;
    report.say("words find the listing that has them all", found == [socks.id], found.len());
    let found = stored(&author, words("hand woollen")).await?;
    report.say("and both where both have them", found.len() == 2, found.len());
    report.say("other words find nothing", stored(&author, words("umbrella")).await?.is_empty(), "");
    Ok(())
}

//! Who may: AUTH by itself, protected events, gift wraps for their recipient alone, and whoever wants to be gone.

use anyhow::{Context, Result};
use nostr_sdk::prelude::*;
use tokio::time::timeout;

use crate::client::{PATIENCE, client, give, publish, refusal, stored, stranger};
use crate::report::Report;

/// NIP-42 without a word of the application, and NIP-70, which needs it.
pub async fn authentication(url: &RelayUrl, report: &mut Report) -> Result<()> {
    let (keys, others) = (Keys::generate(), Keys::generate());
    let protected = EventBuilder::text_note("mine").tag(Tag::protected()).sign_with_keys(&keys)?;
    let nobody = stranger(url).await?;
    let outcome = publish(&nobody, &protected).await?;
    let asked = refusal(&outcome).starts_with("auth-required:");
    report.say("a protected note needs AUTH", asked, refusal(&outcome));
    let somebody = authenticated(url, &others).await?.context("somebody else does not authenticate")?;
    let outcome = publish(&somebody, &protected).await?;
    let kept_out = refusal(&outcome).starts_with("restricted:");
    report.say("that of its author, not of somebody", kept_out, refusal(&outcome));
    let there = stored(&nobody, Filter::new().id(protected.id)).await?;
    report.say("and is not there", there.is_empty(), "");

    let author = authenticated(url, &keys).await?;
    report.say("the SDK authenticates by itself", author.is_some(), "");
    give(&author.context("the author does not authenticate")?, &protected).await?;
    let there = stored(&nobody, Filter::new().id(protected.id)).await?;
    report.say("its author publishes it", there == [protected.id], "");
    Ok(())
}

/// A client that the board has told that it knows it; none if it says that it does not.
async fn authenticated(url: &RelayUrl, keys: &Keys) -> Result<Option<Client>> {
    let client = Client::builder().signer(keys.clone()).build();
    client.add_relay(url).await?;
    // Listened to before there is a connection, so that the answer is not missed.
    let mut notifications = client.relay(url).await?.notifications();
    client.try_connect_relay(url, PATIENCE).await?;
    let answer = async {
        loop {
            match notifications.recv().await? {
                RelayNotification::Authenticated => return anyhow::Ok(true),
                RelayNotification::AuthenticationFailed => return Ok(false),
                _ => {}
            }
        }
    };
    let known = timeout(PATIENCE, answer).await.context("no answer to AUTH")??;
    Ok(known.then_some(client))
}

/// NIP-59 and NIP-17.
pub async fn gift_wraps(url: &RelayUrl, report: &mut Report) -> Result<()> {
    let (from, to) = (Keys::generate(), Keys::generate());
    let (sender, recipient) = (client(url, &from).await?, client(url, &to).await?);
    let sent = sender.send_private_msg(to.public_key(), "secret", []).await?;
    report.say("a message is sent in a gift wrap", sent.failed.is_empty() && sent.success.len() == 1, "");
    let filter = Filter::new().kind(Kind::GiftWrap).pubkey(to.public_key());
    let wraps = recipient.fetch_events(filter.clone(), PATIENCE).await?.to_vec();
    let opened = match &wraps[..] {
        [wrap] => Some(recipient.unwrap_gift_wrap(wrap).await?),
        _ => None,
    };
    let read = opened.is_some_and(|gift| gift.sender == from.public_key() && gift.rumor.content == "secret");
    report.say("its recipient gets and opens it", read, wraps.len());

    // Whoever asks: none is shown, whether the answer is a refusal or an empty one.
    for (who, client) in
        [("a stranger", stranger(url).await?), ("another recipient", client(url, &Keys::generate()).await?)]
    {
        let shown = match client.fetch_events(filter.clone(), PATIENCE).await {
            Ok(events) => events.len(),
            Err(why) => {
                println!("       {who} is told: {why}");
                0
            }
        };
        let by_id = stored(&client, Filter::new().id(sent.val)).await.map_or(0, |events| events.len());
        report.say(&format!("{who} does not get it"), shown + by_id == 0, "");
    }
    Ok(())
}

/// NIP-62: all of one author goes, nothing of another's.
pub async fn vanishing(url: &RelayUrl, report: &mut Report) -> Result<()> {
    let (keys, others) = (Keys::generate(), Keys::generate());
    let (author, other) = (client(url, &keys).await?, client(url, &others).await?);
    let note =
        EventBuilder::text_note("to vanish").custom_created_at(Timestamp::now() - 10_u64).sign_with_keys(&keys)?;
    let stays = EventBuilder::text_note("to stay").sign_with_keys(&others)?;
    give(&author, &note).await?;
    give(&other, &stays).await?;
    let both = Filter::new().authors([keys.public_key(), others.public_key()]).kind(Kind::TextNote);
    let there = stored(&other, both.clone()).await?.len();
    let request =
        EventBuilder::request_vanish_with_reason(VanishTarget::relay(url.clone()), "")?.sign_with_keys(&keys)?;
    give(&author, &request).await?;
    let left = stored(&other, both).await?;
    report.say("an author who asks for it vanishes", there == 2 && left == [stays.id], left.len());
    let outcome = publish(&other, &note).await?;
    let back = stored(&other, Filter::new().id(note.id)).await?;
    report.say("what vanished does not come back", back.is_empty(), refusal(&outcome));
    Ok(())
}

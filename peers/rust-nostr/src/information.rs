//! The NIP-11 document, read by the SDK's types. It does not fetch it, so that is done by hand.

use anyhow::{Context, Result};
use nostr_sdk::prelude::*;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::report::Report;

/// The NIPs that the other checks rely on.
const RELIED_ON: [u16; 12] = [1, 9, 11, 17, 40, 42, 45, 50, 59, 62, 70, 77];

/// Fetches and reads it.
pub async fn document(url: &RelayUrl, report: &mut Report) -> Result<()> {
    let host = url.as_str().trim_start_matches("ws://").trim_end_matches('/');
    let mut stream = TcpStream::connect(host).await?;
    let request =
        format!("GET / HTTP/1.1\r\nHost: {host}\r\nAccept: application/nostr+json\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    let (_, body) = answer.split_once("\r\n\r\n").context("no HTTP")?;
    let document = RelayInformationDocument::from_json(body)?;
    let nips = document.supported_nips.unwrap_or_default();
    let missing: Vec<u16> = RELIED_ON.into_iter().filter(|nip| !nips.contains(nip)).collect();
    report.say("the NIP-11 document names what it serves", missing.is_empty(), format!("{missing:?}"));
    let limits = document.limitation.context("no limitation")?;
    let open = limits.auth_required == Some(false) && limits.payment_required == Some(false);
    let bounded = [limits.max_message_length, limits.max_subscriptions, limits.max_limit].iter().all(Option::is_some);
    report.say("and its limits", open && bounded, "");
    Ok(())
}

//! rust-nostr's SDK against a board, as an application uses it: `rust-nostr-check ws://…`. Ends with 0 when all went as it should.
#![allow(clippy::print_stdout, reason = "a command-line tool")]

mod access;
mod client;
mod events;
mod information;
mod report;
mod sync;

use std::process::ExitCode;

use anyhow::{Context, Result};
use nostr_sdk::RelayUrl;

use crate::report::Report;

#[tokio::main]
async fn main() -> Result<ExitCode> {
    let url = std::env::args().nth(1).context("usage: rust-nostr-check ws://BOARD")?;
    let url = RelayUrl::parse(&url)?;
    let mut report = Report::default();
    // A check that breaks off is a failure like any other, and what comes after it still runs.
    let done = events::notes(&url, &mut report).await;
    report.ended("notes", done);
    let done = events::versions(&url, &mut report).await;
    report.ended("versions", done);
    let done = events::deletion(&url, &mut report).await;
    report.ended("deletion", done);
    let done = events::time(&url, &mut report).await;
    report.ended("time", done);
    let done = events::search(&url, &mut report).await;
    report.ended("search", done);
    let done = access::authentication(&url, &mut report).await;
    report.ended("authentication", done);
    let done = access::gift_wraps(&url, &mut report).await;
    report.ended("gift wraps", done);
    let done = access::vanishing(&url, &mut report).await;
    report.ended("vanishing", done);
    let done = information::document(&url, &mut report).await;
    report.ended("information", done);
    let done = sync::one_way_after_the_other(&url, &mut report).await;
    report.ended("sync one way after the other", done);
    let done = sync::both_ways(&url, &mut report).await;
    report.ended("sync both ways", done);
    Ok(report.finish())
}

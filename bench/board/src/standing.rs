//! What a relay costs at rest and in bulk: idle connections, a reconciliation, the disk.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use hex_conservative::{DisplayHex, decode_to_array, decode_to_vec};
use negentropy::{Id, Negentropy, NegentropyStorageVector};

use crate::client::{Client, Crowd, Word};
use crate::events::Event;
use crate::relay::Relay;
use crate::sheet::{Better, Column};

const CONNECTIONS: usize = 5_000;
/// For what a relay does after it has greeted.
const SETTLE: Duration = Duration::from_millis(500);
const PATIENCE: Duration = Duration::from_secs(30);
/// Longest message of a reconciliation, before it is written as hex.
const MESSAGE_MAX: u64 = 60_000;
/// Every so manyth event is missing here.
const MISSING: usize = 1_000;
/// How often the sets are reconciled; the table has the median.
const RECONCILIATIONS: usize = 5;

pub fn idle(relay: &Relay, column: &mut Column) -> Result<()> {
    let (before, start) = (relay.usage()?, Instant::now());
    let crowd = Crowd::connect(relay.address, CONNECTIONS)?;
    column.note("connections/s, one after another", Better::More, CONNECTIONS as f64 / start.elapsed().as_secs_f64());
    std::thread::sleep(SETTLE);
    let grown = relay.usage()?.anonymous_kib - before.anonymous_kib;
    column.note(format!("{CONNECTIONS} idle connections: KiB each"), Better::Less, grown / CONNECTIONS as f64);
    drop(crowd);
    Ok(())
}

pub fn disk(relay: &Relay, events: &[Event], column: &mut Column) -> Result<()> {
    let json: usize = events.iter().map(|event| event.json().len()).sum();
    column.note("bytes on the disk for a byte of JSON", Better::Less, relay.disk_bytes()? as f64 / json as f64);
    column.note("memory with these events, MiB", Better::Less, relay.usage()?.anonymous_kib / 1024.0);
    Ok(())
}

/// We hold all but a few of the relay's events; how long until we know which.
pub fn reconcile(relay: &Relay, events: &[Event], column: &mut Column) -> Result<()> {
    let mut times = Vec::new();
    for _ in 0..RECONCILIATIONS {
        times.push(missing(relay, events)?);
    }
    let (held, without) = (events.len(), events.len().div_ceil(MISSING));
    let name = format!("negentropy over {held}, {without} missing: ms");
    column.note(name, Better::Less, machine::median(&times));
    Ok(())
}

/// Milliseconds.
fn missing(relay: &Relay, events: &[Event]) -> Result<f64> {
    let mut ours = NegentropyStorageVector::new();
    for (number, event) in events.iter().enumerate() {
        if number % MISSING != 0 {
            ours.insert(event.created_at(), Id::from_byte_array(decode_to_array(event.id())?))?;
        }
    }
    ours.seal()?;
    let mut ours = Negentropy::owned(ours, MESSAGE_MAX)?;
    let opening = ours.initiate()?.to_lower_hex_string();
    let newest = events.iter().map(Event::created_at).max().context("no events")?;
    let mut crowd = Crowd::connect(relay.address, 0)?;
    crowd.join(Client::connect(relay.address)?)?;
    let start = Instant::now();
    let filter = format!("{{\"until\":{newest}}}");
    crowd.clients[0].say(&[b"[\"NEG-OPEN\",\"n\",", filter.as_bytes(), b",\"", opening.as_bytes(), b"\"]"]);
    crowd.clients[0].flush();
    let (mut have, mut need) = (Vec::new(), Vec::new());
    loop {
        let mut answer = None;
        crowd.turn(PATIENCE, |_, client, message| {
            let message = client.message(message);
            if message.starts_with(b"[\"NEG-") || Word::of(message) == Word::Reconciliation {
                answer = Some(message.to_vec());
            }
        })?;
        ensure!(crowd.all_open() && start.elapsed() < PATIENCE, "no answer to a reconciliation");
        let Some(answer) = answer else { continue };
        let (word, _, content): (String, String, String) = serde_json::from_slice(&answer)?;
        if word != "NEG-MSG" {
            bail!("the relay does not reconcile: {}", String::from_utf8_lossy(&answer));
        }
        let theirs = decode_to_vec(&content)?;
        match ours.reconcile_with_ids(&theirs, &mut have, &mut need)? {
            Some(next) => {
                let next = next.to_lower_hex_string();
                crowd.clients[0].say(&[b"[\"NEG-MSG\",\"n\",\"", next.as_bytes(), b"\"]"]);
                crowd.clients[0].flush();
            }
            None => break,
        }
    }
    let took = start.elapsed().as_secs_f64() * 1e3;
    let due = events.len().div_ceil(MISSING);
    ensure!(
        have.is_empty() && need.len() == due,
        "{} found missing, not {due}, and {} too many",
        need.len(),
        have.len()
    );
    Ok(took)
}

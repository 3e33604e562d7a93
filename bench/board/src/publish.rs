//! Publishing: a number of connections, each with so many events on the way.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};

use crate::client::{Client, Crowd, Word};
use crate::events::Event;
use crate::relay::Relay;
use crate::sheet::{Better, Column};

/// A relay that says nothing for so long is stuck.
const PATIENCE: Duration = Duration::from_secs(15);
const TURN: Duration = Duration::from_millis(100);

pub struct Published {
    pub secs: f64,
    /// From sending an event to its OK.
    pub answer_ms: Vec<f64>,
    pub cpu_us: f64,
}

impl Published {
    pub fn per_sec(&self) -> f64 {
        self.answer_ms.len() as f64 / self.secs
    }
}

/// Four kinds of load: the first takes 5 of 6 events, one connection one event at a time the last 2,000.
pub fn ingest(relay: &Relay, events: &[Event], column: &mut Column) -> Result<()> {
    let many = events.len() / 6 * 5;
    let few = events.len().saturating_sub(2_000).max(many);
    let steps = [
        ("ingest, 8 connections x 32", &events[..many], 8, 32),
        ("ingest, 100 connections x 1", &events[many..few], 100, 1),
        ("ingest, 1 connection x 1", &events[few..], 1, 1),
        ("duplicates, 8 connections x 32", &events[..few - many], 8, 32),
    ];
    for (name, events, connections, window) in steps {
        let published = publish(relay, events, connections, window)?;
        column.note(format!("{name}: events/s"), Better::More, published.per_sec());
        column.note(format!("{name}: server CPU, us/event"), Better::Less, published.cpu_us);
        column.percentiles(&format!("{name}: OK"), &published.answer_ms);
    }
    Ok(())
}

/// Publishes all, every one of which has to be accepted.
pub fn publish(relay: &Relay, events: &[Event], connections: usize, window: usize) -> Result<Published> {
    let mut crowd = Crowd::connect(relay.address, connections)?;
    let mut on_the_way = vec![VecDeque::with_capacity(window); connections];
    let mut answer_ms = Vec::with_capacity(events.len());
    let mut rest = events.iter();
    let (before, start) = (relay.usage()?, Instant::now());
    let mut last = start;
    for (client, sent) in crowd.clients.iter_mut().zip(&mut on_the_way) {
        for event in rest.by_ref().take(window) {
            send(client, event, sent);
        }
        client.flush();
    }
    let mut refusal = None;
    while answer_ms.len() < events.len() {
        crowd.turn(TURN, |number, client, message| {
            match Word::of(client.message(message.clone())) {
                Word::Accepted => {}
                Word::Refused => refusal = Some(String::from_utf8_lossy(client.message(message)).into_owned()),
                _ => return,
            }
            last = Instant::now();
            if let Some(sent) = on_the_way[number].pop_front() {
                answer_ms.push(sent.elapsed().as_secs_f64() * 1e3);
            }
            if let Some(event) = rest.next() {
                send(client, event, &mut on_the_way[number]);
            }
        })?;
        if let Some(refusal) = refusal {
            bail!("an event was refused: {refusal}");
        }
        ensure!(crowd.all_open(), "the relay closed a connection while events were published");
        ensure!(last.elapsed() < PATIENCE, "{} of {} events answered, then nothing", answer_ms.len(), events.len());
    }
    let secs = (last - start).as_secs_f64();
    let cpu_us = (relay.usage()?.cpu_secs - before.cpu_secs) * 1e6 / events.len() as f64;
    Ok(Published { secs, answer_ms, cpu_us })
}

fn send(client: &mut Client, event: &Event, sent: &mut VecDeque<Instant>) {
    client.say(&[b"[\"EVENT\",", event.json().as_bytes(), b"]"]);
    sent.push_back(Instant::now());
}

//! Live events: how long after an author sends an event its subscribers have it.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use fastrand::Rng;
use hex_conservative::DisplayHex;

use crate::client::{Client, Crowd, Word, member};
use crate::events::Event;
use crate::relay::Relay;
use crate::sheet::{Better, Column};

const TURN: Duration = Duration::from_millis(1);
const SUBSCRIBE: Duration = Duration::from_secs(20);
/// Without a delivery after the last event.
const PATIENCE: Duration = Duration::from_secs(5);
const SEED: u64 = 3;
const KINDS: &str = "\"kinds\":[1,7,1111,9802,30402]";

#[derive(Clone, Copy, Debug)]
struct Audience {
    subscribers: usize,
    /// Of the subscribers, those whose filter matches the events.
    matching: usize,
    per_sec: usize,
    secs: usize,
}

const AUDIENCES: [Audience; 4] = [
    Audience { subscribers: 200, matching: 200, per_sec: 20, secs: 4 },
    Audience { subscribers: 200, matching: 200, per_sec: 200, secs: 4 },
    Audience { subscribers: 1_000, matching: 1_000, per_sec: 50, secs: 4 },
    Audience { subscribers: 2_000, matching: 20, per_sec: 100, secs: 4 },
];

/// Events that [`live`] takes.
pub fn needed() -> usize {
    AUDIENCES.iter().map(|audience| audience.per_sec * audience.secs).sum()
}

pub fn live(relay: &Relay, events: &[Event], column: &mut Column) -> Result<()> {
    let mut rest = events;
    for audience in AUDIENCES {
        let events = rest.split_off(..audience.per_sec * audience.secs).unwrap_or_default();
        let Audience { subscribers, matching, per_sec, .. } = audience;
        let told = tell(relay, audience, events)?;
        let all =
            if matching < subscribers { format!("{subscribers} ({matching} match)") } else { subscribers.to_string() };
        let name = format!("live, {all} x {per_sec}/s");
        column.percentiles(&format!("{name}: delivery"), &told.delivery_ms);
        let deliveries = told.delivery_ms.len() as f64;
        column.note(
            format!("{name}: delivered, %"),
            Better::More,
            deliveries * 100.0 / (events.len() * matching) as f64,
        );
        column.note(format!("{name}: server CPU, us/delivery"), Better::Less, told.cpu_secs * 1e6 / deliveries);
        let per_event = told.cpu_secs * 1e6 / events.len() as f64;
        column.note(format!("{name}: server CPU, us/event"), Better::Less, per_event);
    }
    Ok(())
}

struct Told {
    delivery_ms: Vec<f64>,
    cpu_secs: f64,
}

fn tell(relay: &Relay, audience: Audience, events: &[Event]) -> Result<Told> {
    let mut crowd = Crowd::connect(relay.address, audience.subscribers + 1)?;
    // All live events are of the same moment.
    let since = events.first().context("no events")?.created_at();
    subscribe(&mut crowd, audience, since)?;
    let author = audience.subscribers;
    let mut sent_at: HashMap<&[u8], Instant> = HashMap::with_capacity(events.len());
    let (mut delivery_ms, mut answers) = (Vec::new(), 0);
    let due = events.len() * audience.matching;
    let (before, start) = (relay.usage()?, Instant::now());
    let mut last = start;
    while delivery_ms.len() < due || answers < events.len() {
        while sent_at.len() < events.len()
            && start.elapsed().as_secs_f64() * audience.per_sec as f64 >= sent_at.len() as f64
        {
            let event = &events[sent_at.len()];
            last = Instant::now();
            sent_at.insert(event.id().as_bytes(), last);
            crowd.clients[author].say(&[b"[\"EVENT\",", event.json().as_bytes(), b"]"]);
            crowd.clients[author].flush();
        }
        crowd.turn(TURN, |_, client, message| {
            let message = client.message(message);
            match Word::of(message) {
                Word::Event => {
                    last = Instant::now();
                    if let Some(sent) = member(message, "id").and_then(|id| sent_at.get(id)) {
                        delivery_ms.push((last - *sent).as_secs_f64() * 1e3);
                    }
                }
                Word::Accepted => answers += 1,
                _ => {}
            }
        })?;
        if last.elapsed() > PATIENCE {
            break;
        }
    }
    Ok(Told { delivery_ms, cpu_secs: relay.usage()?.cpu_secs - before.cpu_secs })
}

/// All but the last client subscribe, and have heard the end of what was stored.
fn subscribe(crowd: &mut Crowd, audience: Audience, since: u64) -> Result<()> {
    let mut rng = Rng::with_seed(SEED);
    let ask = |client: &mut Client, filter: &str| {
        client.say(&[
            b"[\"REQ\",\"live\",{",
            filter.as_bytes(),
            format!(",\"since\":{since},\"limit\":1}}]").as_bytes(),
        ]);
        client.flush();
    };
    for (number, client) in crowd.clients.iter_mut().take(audience.subscribers).enumerate() {
        if number < audience.matching {
            ask(client, KINDS);
        } else {
            let mut nobody = [0; 32];
            rng.fill(&mut nobody);
            ask(client, &format!("\"authors\":[\"{}\"]", nobody.as_hex()));
        }
    }
    let (start, mut ready) = (Instant::now(), 0);
    while ready < audience.subscribers {
        crowd.turn(TURN, |_, client, message| {
            ready += usize::from(Word::of(client.message(message)) == Word::EndOfStored);
        })?;
        ensure!(start.elapsed() < SUBSCRIBE, "{ready} of {} subscriptions answered", audience.subscribers);
    }
    Ok(())
}

//! A hostile client beside honest ones: what readers and authors notice of it.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow, ensure};
use fastrand::Rng;

use crate::attack::{Kind, attack};
use crate::client::{Crowd, Word};
use crate::events::{Event, fresh};
use crate::query::{Shape, is_end};
use crate::relay::Relay;
use crate::sheet::{Better, Column};

const TURN: Duration = Duration::from_millis(1);
/// Of an attack.
const TIME: Duration = Duration::from_secs(6);
/// Before each attack.
const CALM: Duration = Duration::from_secs(3);
/// For what an attack left behind.
const REST: Duration = Duration::from_secs(1);
const PATIENCE: Duration = Duration::from_secs(5);
const READERS: usize = 4;
const AUTHORS: usize = 4;
const READS_PER_SEC: f64 = 200.0;
const EVENTS_PER_SEC: f64 = 100.0;

const ATTACKS: [(&str, &[Kind]); 7] = [
    ("slowloris", &[Kind::Slowloris]),
    ("10,000 subscriptions", &[Kind::Subscriptions]),
    ("giant filters", &[Kind::GiantFilters]),
    ("1-byte packets", &[Kind::Bytes]),
    ("forged events", &[Kind::Forgeries]),
    ("garbage", &[Kind::Garbage]),
    (
        "all at once",
        &[Kind::Slowloris, Kind::Subscriptions, Kind::GiantFilters, Kind::Bytes, Kind::Forgeries, Kind::Garbage],
    ),
];

/// Events that [`hostile`] takes.
pub fn needed() -> usize {
    (events(CALM) + events(TIME)) * ATTACKS.len()
}

fn events(time: Duration) -> usize {
    (EVENTS_PER_SEC * time.as_secs_f64()) as usize
}

/// `stored` is what the relay holds, `live` is new to it. Before each attack there is calm, since a disk and a machine that are
/// shared are not the same from one minute to the next.
pub fn hostile(relay: &Relay, stored: &[Event], live: &[Event], column: &mut Column) -> Result<()> {
    let (mut calm, mut beside) = (Waits::default(), Vec::new());
    let forged: Vec<Event> = fresh(1_000)?.iter().map(Event::forged).collect();
    for ((name, attacks), events) in ATTACKS.iter().zip(live.chunks(live.len() / ATTACKS.len())) {
        let (before, during) = events.split_at(self::events(CALM));
        calm.add(honest(relay, stored, before, CALM)?);
        let stop = AtomicBool::new(false);
        let (waits, done) = std::thread::scope(|scope| {
            let attack = scope.spawn(|| attack(relay.address, attacks, &forged, &stop));
            let waits = honest(relay, stored, during, TIME);
            stop.store(true, Ordering::Relaxed);
            (waits, attack.join().unwrap_or_else(|_| Err(anyhow!("the attack panicked"))))
        });
        beside.push((name, waits?, done?));
        std::thread::sleep(REST);
    }
    note(column, "nobody hostile", &calm);
    for (name, waits, done) in beside {
        note(column, name, &waits);
        column.note(format!("{name}: attempts/s"), Better::More, done as f64 / TIME.as_secs_f64());
    }
    Ok(())
}

fn note(column: &mut Column, name: &str, waits: &Waits) {
    column.percentiles(&format!("{name}: honest REQ"), &waits.read_ms);
    column.percentiles(&format!("{name}: honest EVENT"), &waits.event_ms);
}

#[derive(Default)]
struct Waits {
    read_ms: Vec<f64>,
    event_ms: Vec<f64>,
}

impl Waits {
    fn add(&mut self, mut other: Waits) {
        self.read_ms.append(&mut other.read_ms);
        self.event_ms.append(&mut other.event_ms);
    }
}

/// Readers and authors at a fixed pace, whatever the relay does.
fn honest(relay: &Relay, stored: &[Event], live: &[Event], time: Duration) -> Result<Waits> {
    let mut crowd = Crowd::connect(relay.address, READERS + AUTHORS)?;
    let mut asked: Vec<VecDeque<Instant>> = vec![VecDeque::new(); READERS + AUTHORS];
    let (mut waits, mut rng) = (Waits::default(), Rng::with_seed(5));
    let (mut reads, mut writes) = (0, 0);
    let due = (READS_PER_SEC * time.as_secs_f64()) as usize;
    let (start, mut last) = (Instant::now(), Instant::now());
    while waits.read_ms.len() < due || waits.event_ms.len() < live.len() {
        let now = start.elapsed().as_secs_f64();
        while reads < due && now * READS_PER_SEC >= reads as f64 {
            let filter = Shape::Author.filter(&mut rng, stored);
            let (number, name) = (reads % READERS, reads.to_string());
            crowd.clients[number].say(&[b"[\"REQ\",\"", name.as_bytes(), b"\",", filter.as_bytes(), b"]"]);
            crowd.clients[number].flush();
            asked[number].push_back(Instant::now());
            reads += 1;
        }
        while writes < live.len() && now * EVENTS_PER_SEC >= writes as f64 {
            let number = READERS + writes % AUTHORS;
            crowd.clients[number].say(&[b"[\"EVENT\",", live[writes].json().as_bytes(), b"]"]);
            crowd.clients[number].flush();
            asked[number].push_back(Instant::now());
            writes += 1;
        }
        crowd.turn(TURN, |number, client, message| {
            let message = client.message(message);
            let ended = is_end(message);
            if !ended && Word::of(message) != Word::Accepted {
                return;
            }
            last = Instant::now();
            let wait = asked[number].pop_front().map(|asked| (last - asked).as_secs_f64() * 1e3);
            if ended {
                waits.read_ms.extend(wait);
                let name = message.split(|byte| *byte == b'"').nth(3).unwrap_or_default().to_vec();
                client.say(&[b"[\"CLOSE\",\"", &name, b"\"]"]);
            } else {
                waits.event_ms.extend(wait);
            }
        })?;
        ensure!(crowd.all_open(), "the relay closed the connection of an honest client");
        ensure!(last.elapsed() < PATIENCE, "an honest client has no answer");
    }
    Ok(waits)
}

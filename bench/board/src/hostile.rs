//! A hostile client beside honest ones: what readers and authors notice of it.

use std::collections::VecDeque;
use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow, ensure};
use fastrand::Rng;
use machine::{median, percentile};

use crate::attack::{Kind, attack};
use crate::client::{Crowd, SpeaksFor, Word};
use crate::events::{Event, fresh};
use crate::query::{Shape, is_end};
use crate::relay::Relay;
use crate::sheet::{Better, Column};

const TURN: Duration = Duration::from_millis(1);
/// Of an attack.
const TIME: Duration = Duration::from_secs(6);
/// Before the first attack and after each.
const CALM: Duration = Duration::from_secs(3);
/// For what an attack left behind.
const REST: Duration = Duration::from_secs(1);
const PATIENCE: Duration = Duration::from_secs(5);
const READERS: usize = 4;
const AUTHORS: usize = 4;
const READS_PER_SEC: f64 = 200.0;
const EVENTS_PER_SEC: f64 = 100.0;
const P99: f64 = 0.99;

const ATTACKS: [(&str, &[Kind]); 11] = [
    ("slowloris", &[Kind::Slowloris]),
    ("10,000 subscriptions", &[Kind::Subscriptions]),
    ("giant filters", &[Kind::GiantFilters]),
    ("1-byte packets", &[Kind::Bytes]),
    ("forged events", &[Kind::Forgeries]),
    ("garbage", &[Kind::Garbage]),
    ("floods of pages", &[Kind::Pages]),
    ("floods of needles", &[Kind::Needles]),
    ("floods of counts", &[Kind::Counts]),
    ("floods of reconciliations", &[Kind::Reconciliations]),
    (
        "all at once",
        &[Kind::Slowloris, Kind::Subscriptions, Kind::GiantFilters, Kind::Bytes, Kind::Forgeries, Kind::Garbage],
    ),
];

/// Which attacks, by a part of their names, and how often.
pub struct Plan {
    pub attacks: Vec<String>,
    pub rounds: usize,
}

impl Plan {
    fn attacks(&self) -> Vec<(&'static str, &'static [Kind])> {
        let wanted = |name: &str| self.attacks.is_empty() || self.attacks.iter().any(|part| name.contains(part));
        ATTACKS.into_iter().filter(|(name, _)| wanted(name)).collect()
    }

    /// Events that [`hostile`] takes.
    pub fn needed(&self) -> usize {
        let steps = self.rounds * self.attacks().len();
        events(CALM) * (steps + 1) + events(TIME) * steps
    }
}

fn events(time: Duration) -> usize {
    (EVENTS_PER_SEC * time.as_secs_f64()) as usize
}

/// `stored` is what the relay holds, `live` is new to it. Before and after each attack there is calm, since a disk and a machine
/// that are shared are not the same from one minute to the next: an attack is compared with the calm on both sides of it.
pub fn hostile(relay: &Relay, stored: &[Event], live: &[Event], plan: &Plan, column: &mut Column) -> Result<()> {
    let attacks = plan.attacks();
    ensure!(!attacks.is_empty(), "--attack: there is none of that name");
    let forged: Vec<Event> = fresh(1_000)?.iter().map(Event::forged).collect();
    let mut live = live.iter();
    let mut next = |time| live.by_ref().take(events(time)).collect::<Vec<_>>();
    let mut calm = vec![honest(relay, stored, &next(CALM), CALM)?];
    let mut beside = Vec::new();
    for (_, kinds) in attacks.iter().cycle().take(attacks.len() * plan.rounds) {
        let (during, stop) = (next(TIME), AtomicBool::new(false));
        let (waits, done) = std::thread::scope(|scope| {
            let attack = scope.spawn(|| attack(relay.address, kinds, &forged, &stop));
            let waits = honest(relay, stored, &during, TIME);
            stop.store(true, Ordering::Relaxed);
            (waits, attack.join().unwrap_or_else(|_| Err(anyhow!("the attack panicked"))))
        });
        beside.push((waits?, done?));
        std::thread::sleep(REST);
        calm.push(honest(relay, stored, &next(CALM), CALM)?);
    }
    note(column, "nobody hostile", &Waits::all(&calm));
    for (number, (name, _)) in attacks.iter().enumerate() {
        let rounds: Vec<usize> = (number..beside.len()).step_by(attacks.len()).collect();
        note(column, name, &Waits::all(rounds.iter().map(|at| &beside[*at].0)));
        let times = |wait: fn(&Waits) -> &[f64]| {
            let ratio = |at: usize| {
                percentile(wait(&beside[at].0), P99) / percentile(wait(&Waits::all(&calm[at..at + 2])), P99)
            };
            median(&rounds.iter().map(|at| ratio(*at)).collect::<Vec<_>>())
        };
        column.note(format!("{name}: REQ p99, times that of calm"), Better::Less, times(|waits| &waits.read_ms));
        column.note(format!("{name}: EVENT p99, times that of calm"), Better::Less, times(|waits| &waits.event_ms));
        let done: usize = rounds.iter().map(|at| beside[*at].1).sum();
        column.note(format!("{name}: attempts/s"), Better::More, done as f64 / TIME.as_secs_f64() / plan.rounds as f64);
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
    fn all<'a>(some: impl IntoIterator<Item = &'a Waits>) -> Waits {
        let mut all = Waits::default();
        for waits in some {
            all.read_ms.extend(&waits.read_ms);
            all.event_ms.extend(&waits.event_ms);
        }
        all
    }
}

/// Readers and authors at a fixed pace, whatever the relay does.
fn honest(relay: &Relay, stored: &[Event], live: &[&Event], time: Duration) -> Result<Waits> {
    let clients: Vec<SpeaksFor> = (1..=READERS + AUTHORS).map(|n| Some(Ipv4Addr::new(192, 0, 2, n as u8))).collect();
    let mut crowd = Crowd::speak_for(&clients, relay.address)?;
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plan_takes_the_attacks_it_names_and_calm_on_both_sides_of_each() {
        let plan = |attacks: &[&str], rounds| Plan {
            attacks: attacks.iter().map(|name| (*name).to_owned()).collect(),
            rounds,
        };
        assert_eq!(plan(&[], 1).attacks().len(), ATTACKS.len());
        let two = plan(&["giant", "all at once"], 3);
        assert_eq!(two.attacks().iter().map(|(name, _)| *name).collect::<Vec<_>>(), ["giant filters", "all at once"]);
        assert_eq!(two.needed(), 7 * events(CALM) + 6 * events(TIME));
        assert!(plan(&["nothing of the sort"], 1).attacks().is_empty());
    }
}

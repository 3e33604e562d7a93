//! Queries: the shapes that clients ask, each by a number of connections in turn, so many on the way.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use fastrand::Rng;

use crate::client::{Crowd, Word, number};
use crate::events::Event;
use crate::relay::Relay;
use crate::sheet::{Better, Column};

const TURN: Duration = Duration::from_millis(100);
const PATIENCE: Duration = Duration::from_secs(10);
const SEED: u64 = 7;
/// Answers of each shape that are compared between relays.
pub const COMPARED: usize = 30;

/// What is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    Id,
    TwentyIds,
    Author,
    Feed,
    Kind,
    KindAndTag,
    Thread,
    Everything,
    Page,
}

impl Shape {
    pub const ALL: [Shape; 9] = [
        Shape::Id,
        Shape::TwentyIds,
        Shape::Author,
        Shape::Feed,
        Shape::Kind,
        Shape::KindAndTag,
        Shape::Thread,
        Shape::Everything,
        Shape::Page,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Shape::Id => "1 id",
            Shape::TwentyIds => "20 ids",
            Shape::Author => "1 author, limit 20",
            Shape::Feed => "100 authors, kind 1, limit 50",
            Shape::Kind => "kind 30402, limit 100",
            Shape::KindAndTag => "kind 30402 and #t, limit 100",
            Shape::Thread => "#e, limit 100",
            Shape::Everything => "everything, limit 500",
            Shape::Page => "kinds 1 and 7 until, limit 100",
        }
    }

    /// A filter of this shape about some of the events.
    pub fn filter(self, rng: &mut Rng, events: &[Event]) -> String {
        let mut some = || &events[rng.usize(..events.len())];
        match self {
            Shape::Id => format!("{{\"ids\":[\"{}\"]}}", some().id()),
            Shape::TwentyIds => format!("{{\"ids\":[{}]}}", quoted((0..20).map(|_| some().id()))),
            Shape::Author => format!("{{\"authors\":[\"{}\"],\"limit\":20}}", some().author()),
            Shape::Feed => {
                format!("{{\"authors\":[{}],\"kinds\":[1],\"limit\":50}}", quoted((0..100).map(|_| some().author())))
            }
            Shape::Kind => "{\"kinds\":[30402],\"limit\":100}".into(),
            Shape::KindAndTag => format!("{{\"kinds\":[30402],\"#t\":[\"cat{}\"],\"limit\":100}}", rng.u8(..50)),
            Shape::Thread => format!("{{\"#e\":[\"{}\"],\"limit\":100}}", some().id()),
            Shape::Everything => "{\"limit\":500}".into(),
            Shape::Page => format!("{{\"kinds\":[1,7],\"until\":{},\"limit\":100}}", some().created_at()),
        }
    }
}

fn quoted<'a>(words: impl Iterator<Item = &'a str>) -> String {
    words.map(|word| format!("\"{word}\"")).collect::<Vec<_>>().join(",")
}

/// How much is asked at once.
#[derive(Clone, Copy, Debug)]
pub struct Load {
    pub connections: usize,
    /// Requests on the way, no two of one connection.
    pub on_the_way: usize,
    pub time: Duration,
}

#[derive(Default)]
pub struct Asked {
    pub secs: f64,
    /// From a request to the end of its stored events.
    pub answer_ms: Vec<f64>,
    pub events: usize,
    pub cpu_secs: f64,
}

impl Asked {
    pub fn per_sec(&self) -> f64 {
        self.answer_ms.len() as f64 / self.secs
    }

    pub fn cpu_us(&self) -> f64 {
        self.cpu_secs * 1e6 / self.answer_ms.len() as f64
    }
}

/// Every shape, 4 connections.
pub fn queries(relay: &Relay, events: &[Event], column: &mut Column) -> Result<()> {
    let load = Load { connections: 4, on_the_way: 4, time: Duration::from_secs(2) };
    for shape in Shape::ALL {
        let asked = ask(relay, shape, events, load)?;
        let name = shape.name();
        column.percentiles(&format!("REQ {name}:"), &asked.answer_ms);
        let per_event = asked.cpu_secs * 1e6 / asked.events as f64;
        column.note(format!("REQ {name}: server CPU, us/event sent"), Better::Less, per_event);
    }
    Ok(())
}

/// Asks as fast as answers come.
pub fn ask(relay: &Relay, shape: Shape, events: &[Event], load: Load) -> Result<Asked> {
    let mut rng = Rng::with_seed(SEED);
    let mut crowd = Crowd::connect(relay.address, load.connections)?;
    let mut asked = Asked::default();
    let mut resting: VecDeque<usize> = (0..load.connections).collect();
    let mut asked_at = vec![Instant::now(); load.connections];
    let (before, start) = (relay.usage()?, Instant::now());
    let mut last = start;
    let mut free = load.on_the_way.min(load.connections);
    let mut refused = None;
    while start.elapsed() < load.time {
        while free > 0
            && let Some(number) = resting.pop_front()
        {
            free -= 1;
            let client = &mut crowd.clients[number];
            client.say(&[b"[\"REQ\",\"q\",", shape.filter(&mut rng, events).as_bytes(), b"]"]);
            asked_at[number] = Instant::now();
            client.flush();
        }
        crowd.turn(TURN, |number, client, message| {
            let message = client.message(message);
            match Word::of(message) {
                Word::Event => asked.events += 1,
                Word::Closed if !is_end(message) => refused = Some(String::from_utf8_lossy(message).into_owned()),
                _ if is_end(message) => {
                    last = Instant::now();
                    asked.answer_ms.push((last - asked_at[number]).as_secs_f64() * 1e3);
                    resting.push_back(number);
                    free += 1;
                }
                _ => {}
            }
        })?;
        ensure!(refused.is_none(), "{}: {}", shape.name(), refused.unwrap_or_default());
        ensure!(crowd.all_open() && last.elapsed() < PATIENCE, "{}: no answer", shape.name());
    }
    asked.secs = (last - start).as_secs_f64();
    asked.cpu_secs = relay.usage()?.cpu_secs - before.cpu_secs;
    Ok(asked)
}

/// Some relays close a subscription that can have no further event, without a reason, in the place of an EOSE.
pub fn is_end(message: &[u8]) -> bool {
    match Word::of(message) {
        Word::EndOfStored => true,
        Word::Closed => message.ends_with(b",\"\"]"),
        _ => false,
    }
}

/// The times of the events of an answer, in the order in which they came.
#[derive(Debug, PartialEq, Eq)]
pub struct Answer {
    pub shape: Shape,
    pub times: Vec<u64>,
}

/// Asks for a few answers of each shape, one after another. Relays that hold the same events should give the same answers;
/// events of the same second may come in any order, so that only their times are compared.
pub fn answers(relay: &Relay, events: &[Event]) -> Result<Vec<Answer>> {
    let mut rng = Rng::with_seed(SEED);
    let mut crowd = Crowd::connect(relay.address, 1)?;
    let mut answers = Vec::new();
    for shape in Shape::ALL {
        for _ in 0..COMPARED {
            answers.push(Answer { shape, times: answer(&mut crowd, &shape.filter(&mut rng, events))? });
        }
    }
    Ok(answers)
}

fn answer(crowd: &mut Crowd, filter: &str) -> Result<Vec<u64>> {
    crowd.clients[0].say(&[b"[\"REQ\",\"q\",", filter.as_bytes(), b"]"]);
    crowd.clients[0].flush();
    let (start, mut times, mut ended) = (Instant::now(), Vec::new(), false);
    while !ended {
        crowd.turn(TURN, |_, client, message| {
            let message = client.message(message);
            if Word::of(message) == Word::Event {
                times.extend(number(message, "created_at"));
            }
            ended |= is_end(message);
        })?;
        ensure!(crowd.all_open() && start.elapsed() < PATIENCE, "no answer to {filter}");
    }
    Ok(times)
}

//! What a hostile client does, again and again, as fast as one thread can.

use std::io::Write;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use rustix::thread::gettid;

use crate::client::{Crowd, SpeaksFor, TEXT, Word, frame, greeting};
use crate::events::Event;

/// Between two looks at what there is to do.
const PATIENCE: Duration = Duration::from_millis(1);
const SLOW: usize = 500;
/// Between two bytes of a greeting.
const DRIP: Duration = Duration::from_millis(100);
const SUBSCRIPTIONS: usize = 10_000;
/// Authors and ids of a giant filter: as many as fit into a frame of 128 KiB.
const NAMED: usize = 900;
const LITTERERS: usize = 8;
const DEPTH: usize = 60_000;
/// First message of a reconciliation (NIP-77): everything up to the end of time has a fingerprint of zeros.
const OPENING: &str = "6100000100000000000000000000000000000000";
const FORGERS: usize = 8;
const FORGED_ON_THE_WAY: usize = 32;
/// Connections that ask without end...
const ASKERS: usize = 64;
/// ...from so many addresses...
const ADDRESSES: usize = 4;
/// ...and questions of each on the way.
const ASKED_ON_THE_WAY: usize = 4;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// 500 connections whose greeting comes byte by byte.
    Slowloris,
    /// 10,000 subscriptions on one connection, then the same on another.
    Subscriptions,
    /// Four connections that ask for 900 authors and 900 ids at a time.
    GiantFilters,
    /// 50 connections whose requests come byte by byte, each byte in a packet of its own.
    Bytes,
    /// Eight connections with 32 events each on the way whose signatures are wrong.
    Forgeries,
    /// Eight connections that send texts that are not UTF-8, JSON 60,000 deep, and compressed frames that nobody agreed to.
    Garbage,
    /// 64 connections of four addresses that ask for everything, four questions of each on the way.
    Pages,
    /// The same that ask for what has a tag that many have and another that nobody has: all of it is read and nothing found.
    Needles,
    /// The same that have everything counted.
    Counts,
    /// The same that begin to reconcile everything, again and again.
    Reconciliations,
}

/// Attacks in turn until told to stop. Answers how many requests, events or connections were tried.
pub fn attack(address: SocketAddr, kinds: &[Kind], forged: &[Event], stop: &AtomicBool) -> Result<usize> {
    step_back()?;
    let mut attacks = kinds.iter().map(|kind| begin(*kind, address, forged)).collect::<Result<Vec<_>>>()?;
    // One that waits for answers sleeps meanwhile: an idle thread that spins leaves nothing to the threads of the kernel.
    let patience = if kinds.len() == 1 { PATIENCE } else { Duration::ZERO };
    while !stop.load(Ordering::Relaxed) {
        for attack in &mut attacks {
            attack.step(patience)?;
        }
    }
    Ok(attacks.iter().map(|attack| attack.tries()).sum())
}

/// Lets this thread run only where nobody else wants to: elsewhere on a network it would take no time of ours from the relay or
/// from honest clients. The lowest priority is not enough, since Linux lets a thread finish its slice of milliseconds.
fn step_back() -> Result<()> {
    let thread = gettid().as_raw_nonzero().to_string();
    let status =
        Command::new("chrt").args(["--idle", "--pid", "0", &thread]).status().context("chrt, of util-linux")?;
    ensure!(status.success(), "chrt: {status}");
    Ok(())
}

trait Attack {
    /// Does a little, and waits no longer than that for something to do.
    fn step(&mut self, patience: Duration) -> Result<()>;
    fn tries(&self) -> usize;
}

fn begin<'a>(kind: Kind, address: SocketAddr, forged: &'a [Event]) -> Result<Box<dyn Attack + 'a>> {
    let mut number = 0;
    Ok(match kind {
        Kind::Slowloris => Box::new(Slowloris { address, streams: Vec::new(), due: Instant::now(), tries: 0 }),
        Kind::Subscriptions => {
            let ask = |_| (0..SUBSCRIPTIONS).flat_map(subscription).collect();
            Box::new(Flood::new(address, 1, 1, SUBSCRIPTIONS, ask)?)
        }
        Kind::GiantFilters => Box::new(Flood::new(address, 4, 1, 1, giant)?),
        Kind::Bytes => Box::new(Bytes { address, crowd: Crowd::connect(address, 50)?, left: Vec::new(), tries: 0 }),
        Kind::Forgeries => {
            let next = move |_| {
                number += 1;
                text(&[b"[\"EVENT\",", forged[number % forged.len()].json().as_bytes(), b"]"])
            };
            Box::new(Flood::new(address, FORGERS, FORGED_ON_THE_WAY, 1, next)?)
        }
        Kind::Garbage => Box::new(Flood::new(address, LITTERERS, 1, 1, garbage)?),
        Kind::Pages => asking(address, "REQ", "{\"limit\":500}", "")?,
        Kind::Needles => asking(address, "REQ", "{\"#t\":[\"market\"],\"#z\":[\"nobody\",\"nowhere\"]}", "")?,
        Kind::Counts => asking(address, "COUNT", "{}", "")?,
        Kind::Reconciliations => asking(address, "NEG-OPEN", "{}", &format!(",\"{OPENING}\""))?,
    })
}

/// Asks the same again and again under a few names, as those whom proxies speak for.
fn asking(address: SocketAddr, verb: &str, filter: &str, rest: &str) -> Result<Box<dyn Attack>> {
    let of = |number: usize| Some(Ipv4Addr::new(198, 51, 100, (number % ADDRESSES) as u8));
    let of: Vec<SpeaksFor> = (0..ASKERS).map(of).collect();
    let (verb, filter, rest) = (verb.to_owned(), filter.to_owned(), rest.to_owned());
    let next = move |number: usize| {
        let name = number % ASKED_ON_THE_WAY;
        text(&[format!("[\"{verb}\",\"q{name}\",{filter}{rest}]").as_bytes()])
    };
    Ok(Box::new(Flood::speak_for(of, address, ASKED_ON_THE_WAY, 1, next)?))
}

fn text(parts: &[&[u8]]) -> Vec<u8> {
    let mut out = Vec::new();
    frame(TEXT, parts, &mut out);
    out
}

fn subscription(number: usize) -> Vec<u8> {
    text(&[format!("[\"REQ\",\"s{number}\",{{\"kinds\":[{}],\"limit\":5}}]", number % 60_000).as_bytes()])
}

fn giant(round: usize) -> Vec<u8> {
    let names = |from: usize| (0..NAMED).map(|n| format!("\"{:064x}\"", from + n)).collect::<Vec<_>>().join(",");
    let (authors, ids) = (names(round * 7), names(round * 13));
    text(&[format!("[\"REQ\",\"g\",{{\"authors\":[{authors}]}},{{\"ids\":[{ids}]}}]").as_bytes()])
}

fn garbage(round: usize) -> Vec<u8> {
    match round % 3 {
        0 => text(&[b"[\"REQ\",\"u\",{\"#t\":[\"", &[0xff; 10_000], b"\"]}]"]),
        1 => text(&[b"[\"REQ\",\"d\",", &[b'['; DEPTH], &[b']'; DEPTH], b"]"]),
        _ => {
            // The bit that says that a frame is compressed (RFC 7692), before what could be a bomb.
            let mut bomb = text(&[&[0; 60_000]]);
            bomb[0] |= 0x40;
            bomb
        }
    }
}

struct Slowloris {
    address: SocketAddr,
    streams: Vec<(TcpStream, usize)>,
    due: Instant,
    tries: usize,
}

impl Attack for Slowloris {
    fn step(&mut self, patience: Duration) -> Result<()> {
        if Instant::now() < self.due {
            std::thread::sleep(patience);
            return Ok(());
        }
        self.due = Instant::now() + DRIP;
        let greeting = greeting(self.address, None);
        self.streams.retain_mut(|(stream, sent)| {
            let byte = greeting.as_bytes().get(*sent..=*sent);
            *sent += 1;
            byte.is_some_and(|byte| stream.write_all(byte).is_ok())
        });
        while self.streams.len() < SLOW {
            let stream = TcpStream::connect(self.address)?;
            stream.set_nodelay(true)?;
            self.streams.push((stream, 0));
            self.tries += 1;
        }
        Ok(())
    }

    fn tries(&self) -> usize {
        self.tries
    }
}

/// The same sort of message again for every answer. Who is thrown out comes back.
struct Flood<F> {
    address: SocketAddr,
    crowd: Crowd,
    /// Whom its connections speak for.
    of: Vec<SpeaksFor>,
    on_the_way: usize,
    /// Answers to wait for before the next message.
    answers: usize,
    open: Vec<usize>,
    next: F,
    tries: usize,
}

impl<F: FnMut(usize) -> Vec<u8>> Flood<F> {
    fn new(address: SocketAddr, connections: usize, on_the_way: usize, answers: usize, next: F) -> Result<Flood<F>> {
        Flood::speak_for(vec![None; connections], address, on_the_way, answers, next)
    }

    fn speak_for(
        of: Vec<SpeaksFor>,
        address: SocketAddr,
        on_the_way: usize,
        answers: usize,
        next: F,
    ) -> Result<Flood<F>> {
        let crowd = Crowd::speak_for(&of, address)?;
        let mut flood = Flood { address, crowd, of, on_the_way, answers, open: Vec::new(), next, tries: 0 };
        flood.start();
        Ok(flood)
    }

    fn start(&mut self) {
        self.open = vec![self.on_the_way * self.answers; self.of.len()];
        for client in &mut self.crowd.clients {
            for _ in 0..self.on_the_way {
                client.queue(&(self.next)(self.tries));
                self.tries += 1;
            }
            client.flush();
        }
    }
}

impl<F: FnMut(usize) -> Vec<u8>> Attack for Flood<F> {
    fn step(&mut self, patience: Duration) -> Result<()> {
        self.crowd.turn(patience, |number, client, message| {
            // Events and what is said besides are no answer.
            if Word::of(client.message(message)) == Word::Event {
                return;
            }
            self.open[number] = self.open[number].saturating_sub(1);
            if self.open[number] + self.answers <= self.on_the_way * self.answers {
                client.queue(&(self.next)(self.tries));
                self.tries += 1;
                self.open[number] += self.answers;
            }
        })?;
        if !self.crowd.all_open() {
            self.crowd = Crowd::speak_for(&self.of, self.address)?;
            self.start();
        }
        Ok(())
    }

    fn tries(&self) -> usize {
        self.tries * self.answers
    }
}

/// Between bytes. Who writes them without a rest takes one of the two cores from board and honest clients, whatever the board does.
const PAUSE: Duration = Duration::from_micros(200);

struct Bytes {
    address: SocketAddr,
    crowd: Crowd,
    /// Of the request that all of them are sending.
    left: Vec<u8>,
    tries: usize,
}

impl Attack for Bytes {
    fn step(&mut self, patience: Duration) -> Result<()> {
        if !self.crowd.all_open() {
            self.crowd = Crowd::connect(self.address, self.crowd.clients.len())?;
            self.left.clear();
        }
        if self.left.is_empty() {
            self.left = subscription(1);
            self.left.reverse();
            self.tries += self.crowd.clients.len();
        }
        let byte = self.left.pop();
        for client in &mut self.crowd.clients {
            client.queue(byte.as_slice());
            client.flush();
        }
        std::thread::sleep(patience.min(PAUSE));
        self.crowd.turn(Duration::ZERO, |_, _, _| {})
    }

    fn tries(&self) -> usize {
        self.tries
    }
}

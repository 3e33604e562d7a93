//! One function for each reader of foreign bytes, for a fuzzer to call: none may panic, and what comes out is bounded.

use std::sync::Arc;

use units::Unix;

use crate::deflate::{Deflater, Effort};
use crate::inflate::inflated;
use crate::policy::Policy;
use crate::reconcile::{MESSAGE_MAX, Set};
use crate::session::{Effect, Session, SessionLimits};
use crate::sync::{Direction, Sync};
use crate::websocket::{Frames, Incoming};

/// Events of the sets that are reconciled.
const EVENTS: u64 = 500;

/// Longest message of a client.
const MESSAGE: usize = 64 * 1024;

/// A set with many events at one time and others far apart.
fn set(step: u64) -> Set {
    let item = |i: u64| {
        let mut id = [0; 32];
        id[..8].copy_from_slice(&i.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes());
        (Unix(if i.is_multiple_of(3) { 1_700_000_000 } else { i << (i % 40) }), id)
    };
    Set::new((0..EVENTS).filter(|i| !i.is_multiple_of(step)).map(item).collect())
}

/// What a client writes to its socket where compression was agreed on, and a text that it is told, there and back.
pub fn frames(bytes: &[u8]) {
    let (mut frames, mut rest) = (Frames::new(MESSAGE, true), &mut bytes.to_vec()[..]);
    while let Ok(Some((len, incoming))) = frames.next(rest) {
        match incoming {
            Incoming::Deflated(deflated) => _ = deflated.inflate(bounded),
            plain => bounded(plain),
        }
        rest = &mut rest[len..];
    }
    assert!(inflated(bytes, MESSAGE, <[u8]>::len).unwrap_or(0) <= MESSAGE, "more than may come out");
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    for effort in [Effort::Light, Effort::Full] {
        let same = |made: &[u8]| made.len() < text.len() && inflated(made, text.len(), |out| out == bytes) == Ok(true);
        let made = Deflater::lent(effort, |deflater| deflater.make(&[text]).is_none_or(same));
        assert!(made, "what was made is not what comes out");
    }
}

fn bounded(incoming: Incoming<'_>) {
    assert!(incoming.len() <= MESSAGE, "a message of {} bytes", incoming.len());
}

/// A negentropy message, as a relay and as a client take it.
pub fn negentropy(bytes: &[u8]) {
    if let Ok(answer) = set(7).answer(bytes) {
        assert!(answer.len() <= MESSAGE_MAX + 200, "an answer of {} bytes", answer.len());
    }
    let (mut initiator, first) = set(5).begin().expect("a sealed set");
    assert!(first.len() <= MESSAGE_MAX);
    if let Ok(learned) = initiator.learn(bytes) {
        assert!(learned.have.len() as u64 <= EVENTS && learned.need.len() <= bytes.len() / 32);
    }
}

/// Frames of a client, one a line, through a session.
pub fn session(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let limits = SessionLimits { subscriptions: 3, reconciliations: 2, ..SessionLimits::default() };
    let mut session = Session::new(limits, Arc::new(["ws://board.example".to_owned()]), "riddle".into());
    let policy = Policy::default();
    for frame in text.lines() {
        let mut out = Vec::new();
        session.frame(frame, &policy, Unix(1_700_000_000), &mut out);
        assert!(out.len() <= 3, "{} effects of one frame", out.len());
        let reconciled = out.iter().find_map(|effect| match effect {
            Effect::Reconcile { ticket, message, .. } => Some((*ticket, set(7).answer(message))),
            _ => None,
        });
        if let Some((ticket, answer)) = reconciled {
            session.reconciled(ticket, answer, &mut Vec::new());
        }
        assert!(session.subscriptions() <= 3 && session.reconciliations() <= 2);
    }
}

/// Frames of another relay, one a line, through a synchronisation.
pub fn sync(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let (mut sync, _) = Sync::begin(set(5), wire::Filter::default(), Direction::Both).expect("a sealed set");
    for frame in text.lines() {
        let mut out = Vec::new();
        sync.frame(frame, &mut out);
        assert!(out.len() <= 4, "{} tasks of one frame", out.len());
    }
}

//! Proof of work (NIP-13): leading zero bits of an event's id, with the target committed to in the event.

use bitcoin::hashes::{Hash, HashEngine, sha256};

use crate::event::{Event, Tag, Unsigned};
use crate::json::{write_hex, write_str, write_uint};

/// Greatest target that [`Miner`] takes: beyond it no machine of ours ends in a lifetime.
pub const TARGET_MAX: u8 = 64;

/// Leading zero bits of an id.
pub fn zero_bits(id: &[u8; 32]) -> u32 {
    match id.iter().position(|byte| *byte != 0) {
        Some(at) => at as u32 * 8 + id[at].leading_zeros(),
        None => 256,
    }
}

/// The target that the event commits to: third element of its `nonce` tag (NIP-13), else fourth element of DOMP's
/// `["anti_spam_proof", "pow", nonce, target]`, which means bits of the id as well.
pub fn committed(tags: &[Tag]) -> Option<u32> {
    let nonce = tags.iter().find(|tag| tag[0] == "nonce").and_then(|tag| tag.get(2));
    let domp = || tags.iter().find(|tag| tag[0] == "anti_spam_proof" && tag.get(1).is_some_and(|t| t == "pow"));
    nonce
        .or_else(|| domp().and_then(|tag| tag.get(3)))
        .and_then(|target| target.parse().ok())
        .filter(|bits| *bits <= 256)
}

/// The work an event proves: the target that it commits to, if its id has that many zero bits; zero otherwise. More bits than
/// the target were luck, and bits without a target may have been found by someone who aimed lower.
pub fn proven(event: &Event) -> u32 {
    match committed(&event.tags) {
        Some(target) if zero_bits(&event.id) >= target => target,
        _ => 0,
    }
}

/// Looks for a nonce, a slice of attempts at a time, so that the caller can show progress and cancel.
pub struct Miner {
    unsigned: Unsigned,
    target: u8,
    next: u64,
    stride: u64,
    attempts: u64,
    /// The serialisation, cut where the nonce goes. The first piece is hashed once.
    start: sha256::HashEngine,
    pieces: Vec<String>,
}

impl Miner {
    /// A miner for `unsigned` (its author filled in) that tries nonces `first`, `first + stride`, … : several of them share the
    /// work when each has its own `first` below a common `stride`. Appends the `nonce` tag and, with `domp`, also
    /// `["anti_spam_proof", "pow", nonce, target]`. The target is cut to [`TARGET_MAX`], a stride of zero counts as one.
    pub fn new(unsigned: Unsigned, target: u8, domp: bool, first: u64, stride: u64) -> Miner {
        let target = target.min(TARGET_MAX);
        let mut head = String::from("[0,\"");
        write_hex(&mut head, &unsigned.pubkey);
        head.push_str("\",");
        write_uint(&mut head, unsigned.created_at.0);
        head.push(',');
        write_uint(&mut head, u64::from(unsigned.kind));
        head.push_str(",[");
        for tag in &unsigned.tags {
            head.push('[');
            for (i, element) in tag.iter().enumerate() {
                head.push_str(if i == 0 { "" } else { "," });
                write_str(&mut head, element);
            }
            head.push_str("],");
        }
        let mut pieces = Vec::new();
        if domp {
            head.push_str("[\"anti_spam_proof\",\"pow\",\"");
            pieces.push(format!("\",\"{target}\"],[\"nonce\",\""));
        } else {
            head.push_str("[\"nonce\",\"");
        }
        let mut tail = format!("\",\"{target}\"]],");
        write_str(&mut tail, &unsigned.content);
        tail.push(']');
        pieces.push(tail);
        let mut start = sha256::Hash::engine();
        start.input(head.as_bytes());
        Miner { unsigned, target, next: first, stride: stride.max(1), attempts: 0, start, pieces }
    }

    /// Nonces tried so far.
    pub fn attempts(&self) -> u64 {
        self.attempts
    }

    /// Attempts that it takes on average.
    pub fn expected_attempts(&self) -> u64 {
        1u64.checked_shl(u32::from(self.target)).unwrap_or(u64::MAX)
    }

    /// Tries up to `attempts` nonces. The event with the nonce in it, ready to be signed, when one of them will do.
    pub fn step(&mut self, attempts: u64) -> Option<Unsigned> {
        let mut nonce = String::with_capacity(20);
        for _ in 0..attempts {
            nonce.clear();
            write_uint(&mut nonce, self.next);
            self.next = self.next.wrapping_add(self.stride);
            self.attempts += 1;
            let mut engine = self.start.clone();
            for piece in &self.pieces {
                engine.input(nonce.as_bytes());
                engine.input(piece.as_bytes());
            }
            if zero_bits(sha256::Hash::from_engine(engine).as_byte_array()) >= u32::from(self.target) {
                return Some(self.with(nonce));
            }
        }
        None
    }

    fn with(&self, nonce: String) -> Unsigned {
        let target = self.target.to_string();
        let mut unsigned = self.unsigned.clone();
        if self.pieces.len() == 2 {
            unsigned.tags.push(vec!["anti_spam_proof".into(), "pow".into(), nonce.clone(), target.clone()]);
        }
        unsigned.tags.push(vec!["nonce".into(), nonce, target]);
        unsigned
    }
}

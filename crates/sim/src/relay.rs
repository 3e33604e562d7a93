//! Relays: they store what was published, and deliver it late, twice, in any order, or only when asked again.

use trade::{Envelope, MessageId, Outgoing, PartyKey, Step, TradeId};

use units::Height;

use crate::rng::Rng;

/// Blocks after which a message is delivered before all others, when its recipient can be reached.
const LATE_BLOCKS_MAX: u32 = 3;

/// A message in the mailbox of one recipient.
#[derive(Clone, Debug)]
struct Mail {
    envelope: Envelope,
    state: MailState,
    /// Height since which it waits.
    since: Height,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum MailState {
    Waiting,
    Lost,
    Delivered,
}

/// What was published, and the mailboxes.
#[derive(Clone, Debug, Default)]
pub struct Relay {
    published: Vec<(TradeId, Outgoing, MessageId)>,
    mail: [Vec<Mail>; 3],
    /// The listings that are out.
    pub listings: Vec<Envelope>,
    next: u64,
}

impl Relay {
    /// An empty relay. Ids of messages are made from `salt`, so that two runs share none.
    pub fn new(salt: u64) -> Relay {
        Relay { next: salt << 16, ..Relay::default() }
    }

    /// Gives the event its id: the same event the same id. An error when its author already said something else for that step.
    pub fn sign(&mut self, trade: TradeId, outgoing: &Outgoing) -> Result<MessageId, String> {
        let same = |(t, o, _): &&(TradeId, Outgoing, MessageId)| {
            *t == trade && o.author == outgoing.author && o.step == outgoing.step
        };
        if let Some((_, known, id)) = self.published.iter().find(same) {
            if known == outgoing {
                return Ok(*id);
            }
            return Err(format!("two different events for {:?} by one author", outgoing.step));
        }
        self.next += 1;
        let mut bytes = [0; 32];
        bytes[..8].copy_from_slice(&self.next.to_le_bytes());
        let id = MessageId(bytes);
        self.published.push((trade, outgoing.clone(), id));
        Ok(id)
    }

    /// Puts a copy into a mailbox; a copy that is there already is not put there again.
    pub fn put(&mut self, to: usize, envelope: Envelope, since: Height) {
        let known =
            self.mail[to].iter().any(|m| m.envelope.id == envelope.id && m.envelope.message == envelope.message);
        if !known {
            self.mail[to].push(Mail { envelope, state: MailState::Waiting, since });
        }
    }

    /// The next message for a recipient: any of those that wait, now and then one that it has had.
    pub fn deliver(&mut self, to: usize, height: Height, faults: bool, rng: &mut Rng) -> Option<Envelope> {
        let mail = &mut self.mail[to];
        // Late is a fault, never is not: what has waited for long comes first.
        let waits = |m: &&mut Mail| m.state != MailState::Delivered && m.since.plus(LATE_BLOCKS_MAX) <= height;
        if let Some(late) = mail.iter_mut().filter(waits).min_by_key(|m| m.since) {
            late.state = MailState::Delivered;
            return Some(late.envelope.clone());
        }
        if faults && !mail.is_empty() && rng.percent(8) {
            let at = rng.index(mail.len());
            return Some(mail[at].envelope.clone());
        }
        let waiting = mail.iter().filter(|m| m.state == MailState::Waiting).count();
        if waiting == 0 {
            return None;
        }
        let nth = if faults { rng.index(waiting) } else { 0 };
        let chosen = mail.iter_mut().filter(|m| m.state == MailState::Waiting).nth(nth)?;
        if faults && rng.percent(8) {
            chosen.state = MailState::Lost;
            return None;
        }
        chosen.state = MailState::Delivered;
        Some(chosen.envelope.clone())
    }

    /// The recipient asks for everything again, as it does after a restart.
    pub fn refetch(&mut self, to: usize, height: Height) {
        for mail in &mut self.mail[to] {
            if mail.state == MailState::Delivered {
                mail.since = height;
            }
            mail.state = MailState::Waiting;
        }
    }

    /// The recipient asks for what it has missed, as it does now and then.
    pub fn catch_up(&mut self, to: usize) {
        for mail in self.mail[to].iter_mut().filter(|m| m.state == MailState::Lost) {
            mail.state = MailState::Waiting;
        }
    }

    /// Something waits for a recipient.
    pub fn waiting(&self, to: usize) -> bool {
        self.mail[to].iter().any(|m| m.state != MailState::Delivered)
    }

    /// What an author published for a step, if it did.
    pub fn published(&self, author: PartyKey, step: impl Fn(Step) -> bool) -> impl Iterator<Item = &Outgoing> {
        self.published.iter().filter(move |(_, o, _)| o.author == author && step(o.step)).map(|(_, o, _)| o)
    }
}

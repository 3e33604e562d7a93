//! Boards: they store what was published, and deliver it late, twice, in any order, only when asked again, or never. What one
//! board withholds another one has: parties publish on all of them.

use trade::{Envelope, MessageId, Outgoing, PartyKey, Step, TradeId};

use units::Height;

use crate::rng::Rng;

/// Blocks after which a message is delivered before all others, when its recipient can be reached.
const LATE_BLOCKS_MAX: u32 = 3;

/// A message in the mailbox of one recipient, on one board.
#[derive(Clone, Debug)]
struct Mail {
    envelope: Envelope,
    board: usize,
    state: MailState,
    /// Height since which it waits.
    since: Height,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum MailState {
    Waiting,
    Lost,
    Delivered,
    /// The board keeps it to itself, whatever it is asked.
    Withheld,
}

/// What was published, and the mailboxes.
#[derive(Clone, Debug, Default)]
pub struct Relay {
    published: Vec<(TradeId, Outgoing, MessageId)>,
    mail: [Vec<Mail>; 3],
    /// The listings that are out.
    pub listings: Vec<Envelope>,
    /// How many boards there are.
    boards: usize,
    /// The board that keeps some messages to itself; it is never the only one.
    censor: Option<usize>,
    next: u64,
}

impl Relay {
    /// Empty boards. Ids of messages are made from `salt`, so that two runs share none.
    pub fn new(salt: u64, boards: usize, censor: Option<usize>) -> Relay {
        Relay { next: salt << 16, boards, censor: censor.filter(|_| boards > 1), ..Relay::default() }
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
        Ok(self.forge(trade, outgoing))
    }

    /// Gives an event an id whatever else its author said: what a liar signs.
    pub fn forge(&mut self, trade: TradeId, outgoing: &Outgoing) -> MessageId {
        self.next += 1;
        let mut bytes = [0; 32];
        bytes[..8].copy_from_slice(&self.next.to_le_bytes());
        let id = MessageId(bytes);
        self.published.push((trade, outgoing.clone(), id));
        id
    }

    /// What is known of an event by what stands for its signed text.
    pub fn signed(&self, signed: &str) -> Option<(Outgoing, MessageId)> {
        self.published.iter().find(|(_, _, id)| id.to_string() == signed).map(|(_, o, id)| (o.clone(), *id))
    }

    /// Puts a copy into a mailbox on every board; a copy that is there already is not put there again.
    pub fn put(&mut self, to: usize, envelope: &Envelope, since: Height) {
        let known = self.mail[to].iter().any(|m| same(&m.envelope, envelope));
        if known {
            return;
        }
        for board in 0..self.boards {
            // The censor does not like every third message.
            let withheld = self.censor == Some(board) && envelope.id.0[0].is_multiple_of(3);
            let state = if withheld { MailState::Withheld } else { MailState::Waiting };
            self.mail[to].push(Mail { envelope: envelope.clone(), board, state, since });
        }
    }

    /// The next message for a recipient: any of those that wait, now and then one that it has had.
    pub fn deliver(&mut self, to: usize, height: Height, faults: bool, rng: &mut Rng) -> Option<Envelope> {
        let mail = &mut self.mail[to];
        // Late is a fault, never is not: what has waited for long comes first.
        let waits = |m: &&mut Mail| m.state.may_come() && m.since.plus(LATE_BLOCKS_MAX) <= height;
        if let Some(late) = mail.iter_mut().filter(waits).min_by_key(|m| m.since) {
            let envelope = late.envelope.clone();
            brought(mail, &envelope);
            return Some(envelope);
        }
        if faults && !mail.is_empty() && rng.percent(8) {
            let at = rng.index(mail.len());
            return (mail[at].state != MailState::Withheld).then(|| mail[at].envelope.clone());
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
        let envelope = chosen.envelope.clone();
        let board = chosen.board;
        chosen.state = MailState::Delivered;
        // Now and then another board brings it once more.
        if !(faults && board > 0 && rng.percent(30)) {
            brought(mail, &envelope);
        }
        Some(envelope)
    }

    /// The recipient asks for everything again, as it does after a restart.
    pub fn refetch(&mut self, to: usize, height: Height) {
        for mail in self.mail[to].iter_mut().filter(|m| m.state != MailState::Withheld) {
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
        self.mail[to].iter().any(|m| m.state.may_come())
    }

    /// What an author published in a trade for a step, if it did.
    pub fn published(
        &self,
        trade: TradeId,
        author: PartyKey,
        step: impl Fn(Step) -> bool,
    ) -> impl Iterator<Item = &Outgoing> {
        let fits =
            move |(of, o, _): &&(TradeId, Outgoing, MessageId)| *of == trade && o.author == author && step(o.step);
        self.published.iter().filter(fits).map(|(_, o, _)| o)
    }

    /// The last message that anybody published in a trade for a step.
    pub fn last(&self, trade: TradeId, step: impl Fn(Step) -> bool) -> Option<MessageId> {
        self.published.iter().rev().find(|(of, o, _)| *of == trade && step(o.step)).map(|(_, _, id)| *id)
    }
}

impl MailState {
    fn may_come(self) -> bool {
        matches!(self, MailState::Waiting | MailState::Lost)
    }
}

/// One board brought a message: its copies on the others count as brought.
fn brought(mail: &mut [Mail], envelope: &Envelope) {
    for m in mail.iter_mut().filter(|m| same(&m.envelope, envelope)).filter(|m| m.state.may_come()) {
        m.state = MailState::Delivered;
    }
}

fn same(a: &Envelope, b: &Envelope) -> bool {
    a.id == b.id && a.message == b.message && a.via == b.via
}

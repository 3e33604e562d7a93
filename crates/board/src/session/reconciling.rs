//! The `NEG-` frames of a session (NIP-77): how many reconciliations run, and that the two sides take turns.

use units::Unix;
use wire::{Filter, RelayFrame};

use super::{Effect, Session};
use crate::policy::Policy;
use crate::reconcile::{Broken, from_hex, to_hex};

/// A reconciliation of which nothing was heard for so long is ended.
const IDLE_SECS: u64 = 120;

/// One reconciliation. Its set is with the shell.
#[derive(Debug)]
pub(super) struct Reconciliation {
    id: String,
    values: usize,
    /// The answer to the last message is being made.
    answering: bool,
    heard: Unix,
}

fn broken(id: &str, why: Broken) -> Effect<'static> {
    let Broken { message, max } = why;
    Effect::Send(RelayFrame::NegErr { id: id.into(), message: message.into(), max }.to_json())
}

/// The bytes of hex that was checked when the frame was read.
fn checked(hex: &str) -> Vec<u8> {
    from_hex(hex).unwrap_or_default()
}

impl Session {
    /// `NEG-OPEN`. Its names are others than those of subscriptions.
    pub(super) fn neg_open(
        &mut self,
        id: &str,
        filter: Filter,
        message: &str,
        policy: &Policy,
        now: Unix,
        out: &mut Vec<Effect<'_>>,
    ) {
        self.neg_close(id, out);
        if let Err(why) = self.may_reconcile(&filter, policy) {
            return out.push(broken(id, Broken::because(why)));
        }
        let ticket = self.next;
        self.next += 1;
        let reconciliation =
            Reconciliation { id: id.to_owned(), values: super::values(&filter), answering: true, heard: now };
        self.reconciliations.insert(ticket, reconciliation);
        out.push(Effect::Reconcile { ticket, filter: Some(filter), message: checked(message) });
    }

    fn may_reconcile(&self, filter: &Filter, policy: &Policy) -> Result<(), String> {
        if filter.search.is_some() {
            return Err("unsupported: what a search finds cannot be reconciled".into());
        }
        if self.reconciliations.len() >= self.limits.reconciliations {
            let most = self.limits.reconciliations;
            return Err(format!("rate-limited: at most {most} reconciliations at the same time"));
        }
        self.may_read(std::slice::from_ref(filter), policy)?;
        self.has_room(std::slice::from_ref(filter))
    }

    /// Values in the filters of the reconciliations that run.
    pub(super) fn reconciled_values(&self) -> usize {
        self.reconciliations.values().map(|reconciliation| reconciliation.values).sum()
    }

    /// `NEG-MSG`.
    pub(super) fn neg_message(&mut self, id: &str, message: &str, now: Unix, out: &mut Vec<Effect<'_>>) {
        let found = self.reconciliations.iter_mut().find(|(_, reconciliation)| reconciliation.id == id);
        let Some((&ticket, reconciliation)) = found else {
            return out.push(broken(id, Broken::because("closed: no reconciliation runs under this name")));
        };
        reconciliation.heard = now;
        if std::mem::replace(&mut reconciliation.answering, true) {
            let why = "invalid: the two sides take turns, the last message is not answered yet";
            return self.neg_break(ticket, Broken::because(why), out);
        }
        out.push(Effect::Reconcile { ticket, filter: None, message: checked(message) });
    }

    /// `NEG-CLOSE`.
    pub(super) fn neg_close(&mut self, id: &str, out: &mut Vec<Effect<'_>>) {
        let found = self.reconciliations.iter().find(|(_, reconciliation)| reconciliation.id == id);
        if let Some(ticket) = found.map(|(ticket, _)| *ticket) {
            self.reconciliations.remove(&ticket);
            out.push(Effect::Stop { ticket });
        }
    }

    fn neg_break(&mut self, ticket: u64, why: Broken, out: &mut Vec<Effect<'_>>) {
        if let Some(reconciliation) = self.reconciliations.remove(&ticket) {
            out.push(broken(&reconciliation.id, why));
            out.push(Effect::Stop { ticket });
        }
    }

    /// A frame that should have been a `NEG-` frame cannot be read: ends what runs under its name.
    pub(super) fn neg_malformed(&mut self, id: &str, why: String, out: &mut Vec<Effect<'_>>) {
        self.neg_close(id, out);
        out.push(broken(id, Broken::because(why)));
    }

    /// The answer to [`Effect::Reconcile`].
    pub fn reconciled(&mut self, ticket: u64, answer: Result<Vec<u8>, Broken>, out: &mut Vec<Effect<'_>>) {
        let Some(reconciliation) = self.reconciliations.get_mut(&ticket) else { return };
        match answer {
            Ok(message) => {
                reconciliation.answering = false;
                let id = reconciliation.id.as_str().into();
                out.push(Effect::Send(RelayFrame::NegMsg { id, message: to_hex(&message).into() }.to_json()));
            }
            Err(why) => self.neg_break(ticket, why, out),
        }
    }

    /// Reconciliations under way.
    pub fn reconciliations(&self) -> usize {
        self.reconciliations.len()
    }

    /// Time passes: ends reconciliations that the client has forgotten.
    pub fn tick(&mut self, now: Unix, out: &mut Vec<Effect<'_>>) {
        let idle = |reconciliation: &Reconciliation| {
            !reconciliation.answering && now.0.saturating_sub(reconciliation.heard.0) >= IDLE_SECS
        };
        let forgotten: Vec<u64> =
            self.reconciliations.iter().filter(|(_, each)| idle(each)).map(|(ticket, _)| *ticket).collect();
        for ticket in forgotten {
            self.neg_break(ticket, Broken::because("closed: you took too long to respond"), out);
        }
    }
}

//! The arbiter's inbox: disputes that wait for a ruling, with what each side disclosed, from our own log and nowhere else.

use trade::{Arbiter, ArbiterState, BondFate, Envelope, Event, Message, Role, Trade, TradeId};
use units::Unix;

use super::{DeskError, Loop};
use crate::api::arbiter::{DisputeView, StatementView, fate};
use crate::view;

/// Seconds between blocks, for display only.
const BLOCK_SECS: u64 = 600;

impl Loop {
    /// Disputes that wait for our ruling, the most urgent first.
    pub(super) fn disputes(&self) -> Result<Vec<DisputeView>, DeskError> {
        let mut disputes = Vec::new();
        for trade in self.desk.trades() {
            if let Trade::Arbiter(arbiter) = trade
                && let ArbiterState::Disputed { by, .. } = arbiter.state
            {
                disputes.push(self.dispute(trade.id(), arbiter, by)?);
            }
        }
        disputes.sort_by_key(|dispute| dispute.before);
        Ok(disputes)
    }

    fn dispute(&self, trade: TradeId, arbiter: &Arbiter, by: Role) -> Result<DisputeView, DeskError> {
        let dossier = &arbiter.dossier;
        let (terms, opening) = (dossier.terms(), &dossier.opening);
        let statements = self.statements(trade, arbiter)?;
        let asked_by = view::role(by).to_owned();
        let asks = |s: &&StatementView| s.by == asked_by && ["dispute", "complaint"].contains(&s.what.as_str());
        let now = self.now();
        let before = arbiter.deadlines().map(|deadlines| deadlines.hard).unwrap_or_default();
        let blocks_left = before.blocks_after(now.height);
        Ok(DisputeView {
            trade,
            listing: opening.listing,
            asked_at: statements.iter().find(asks).map(|s| s.at).unwrap_or_default(),
            asked_by,
            price_sat: dossier.price,
            tranches: terms.tranches,
            can_release: terms.arbiter_release,
            payer_bond_sat: opening.payer_bond,
            payee_bond_sat: terms.payee_bond,
            before,
            blocks_left,
            about: Unix(now.unix.0 + u64::from(blocks_left) * BLOCK_SECS),
            fee: dossier.fee.as_ref().map(|fee| view::fee_view(fee, Role::Arbiter)),
            statements,
            command: command(trade, arbiter),
        })
    }

    /// What the two said to us in this trade, as the log has it, and what they said in chat.
    fn statements(&self, trade: TradeId, arbiter: &Arbiter) -> Result<Vec<StatementView>, DeskError> {
        let entries = tokio::task::block_in_place(|| self.parts.store.entries_of(trade))?;
        let mut statements = Vec::new();
        for body in entries.into_iter().filter_map(|entry| entry.body) {
            let (envelope, contradicts) = match serde_json::from_slice(&body)? {
                Event::MessageTaken { envelope, .. } => (envelope, false),
                Event::EvidenceKept { envelope, .. } => (envelope, true),
                _ => continue,
            };
            statements.extend(statement(arbiter, &envelope, contradicts));
        }
        let chats = self.chat(trade)?.into_iter().map(|chat| StatementView {
            by: chat.from,
            at: chat.at,
            what: "chat".to_owned(),
            text: chat.text,
            contradicts: false,
        });
        statements.extend(chats);
        statements.sort_by_key(|statement| statement.at);
        Ok(statements)
    }
}

fn statement(arbiter: &Arbiter, envelope: &Envelope, contradicts: bool) -> Option<StatementView> {
    let by = view::role(arbiter.dossier.role_of(envelope.author)?).to_owned();
    let (what, text) = match &envelope.message {
        Message::AppointmentRequest(m) => ("request", m.bid.message.clone().unwrap_or_default()),
        Message::PaymentConfirmation(m) => {
            let height = m.paid_height.map(|height| format!("says that the money is locked from height {}", height.0));
            ("payment", height.unwrap_or_default())
        }
        Message::Shipment(m) => {
            let tracking = m.tracking.as_ref().map(|tracking| format!("tracking {tracking}"));
            ("shipment", joined([Some(m.note.clone()), tracking]))
        }
        Message::Dispute(m) => ("dispute", joined([Some(m.reason.clone()), Some(m.details.clone())])),
        Message::Receipt(m) => {
            let what = if m.dispute_reason.is_some() { "complaint" } else { "receipt" };
            (what, joined([m.dispute_reason.clone(), m.feedback.clone()]))
        }
        Message::Refund(m) => ("refund", m.reason.clone()),
        Message::MutualCancel(m) => ("cancel", m.agreement.clone()),
        _ => return None,
    };
    Some(StatementView { by, at: envelope.at, what: what.to_owned(), text, contradicts })
}

fn joined(parts: [Option<String>; 2]) -> String {
    let parts: Vec<String> = parts.into_iter().flatten().filter(|part| !part.is_empty()).collect();
    parts.join(": ")
}

/// A command that sends the price to the payee where that is possible, and returns the bonds: to be changed, not to be copied blindly.
fn command(trade: TradeId, arbiter: &Arbiter) -> String {
    let dossier = &arbiter.dossier;
    let most = if dossier.terms().arbiter_release { dossier.terms().tranches } else { 0 };
    let mut command = format!("souk rule {trade} --payee-tranches {most}");
    let bonds = [("payer", dossier.opening.payer_bond), ("payee", dossier.terms().payee_bond)];
    for (side, _) in bonds.iter().filter(|(_, bond)| bond.0 > 0) {
        command += &format!(" --{side}-bond {}", fate(BondFate::Return));
    }
    command + " --resolution \"…\""
}

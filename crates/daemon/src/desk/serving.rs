//! Serving as an arbiter: in every trade that asked, for the fee that the configuration states, by an invoice of our own node.

use node::{InvoiceRequest, NodeError};
use trade::{Arbiter, ArbiterState, Bill, Command, Input, LegId, Trade, TradeId, secret};
use units::{Sat, Unix};
use wire::invoice::parse_invoice;

use super::{DeskError, Loop};
use crate::clock;
use crate::effects::in_time;

/// A trade that waits for our word.
struct Asked {
    trade: TradeId,
    round: u8,
    price: Sat,
    payer_bond: Sat,
    payee_bond: Sat,
    until: Unix,
}

impl Loop {
    /// Serves in every trade that asked. Bond secrets derive from our escrow key, so nothing needs storing; an invoice that was made
    /// and whose trade was not recorded is one that nobody pays. When the node makes none now, it is asked again later.
    pub(super) async fn serve_where_asked(&mut self) -> Result<(), DeskError> {
        let Some(config) = self.parts.arbiter.clone() else { return Ok(()) };
        if !std::mem::take(&mut self.asked) {
            return Ok(());
        }
        let asked: Vec<Asked> = self.desk.open_trades().filter_map(asks).collect();
        for asked in asked {
            // A further round is of the same trade, which was paid for.
            let fee = if asked.round == 0 { config.charge(asked.price) } else { Sat::ZERO };
            let fee_invoice = match self.bill(fee, asked.until).await {
                Ok(bill) => bill,
                Err(error) => {
                    tracing::debug!(trade = %asked.trade, %error, "no invoice for our fee yet");
                    self.unbilled = true;
                    continue;
                }
            };
            let hash = |leg: LegId| secret::derive(&self.parts.escrow_key, asked.trade, leg).hash();
            let command = Command::Serve {
                payer_bond_hash: (asked.payer_bond > Sat::ZERO).then(|| hash(LegId::payer_bond(asked.round))),
                payee_bond_hash: (asked.payee_bond > Sat::ZERO).then(|| hash(LegId::payee_bond(asked.round))),
                fee,
                fee_invoice,
                policy: config.policy.clone(),
            };
            self.take_quietly(asked.trade, &Input::Command(command))?;
        }
        Ok(())
    }

    /// An invoice that can be paid as long as the trade can come about; none for no fee.
    async fn bill(&self, fee: Sat, until: Unix) -> Result<Option<Bill>, NodeError> {
        if fee == Sat::ZERO {
            return Ok(None);
        }
        let amount = fee.to_msat().map_err(|_| NodeError::Rejected("the fee is more than there is".to_owned()))?;
        let left = until.0.saturating_sub(clock::unix().0);
        let request = InvoiceRequest {
            amount: Some(amount),
            description: "arbiter's fee".into(),
            expiry_secs: u32::try_from(left).unwrap_or(u32::MAX),
        };
        let invoice = in_time(self.parts.node.create_invoice(request)).await?;
        let facts = parse_invoice(&invoice).map_err(|e| NodeError::Fault(format!("our own invoice: {e}")))?;
        Ok(Some(Bill { hash: facts.hash, invoice, expires_at: facts.expires_at }))
    }
}

fn asks(trade: &Trade) -> Option<Asked> {
    let Trade::Arbiter(arbiter) = trade else { return None };
    let Arbiter { dossier, state, .. } = &**arbiter;
    let round = arbiter.asked_round()?;
    let until = match state {
        ArbiterState::Asked { until } => *until,
        ArbiterState::Shipped => Unix(0),
        _ => return None,
    };
    let opening = &dossier.opening;
    Some(Asked {
        trade: trade.id(),
        round,
        price: opening.amount,
        payer_bond: opening.payer_bond,
        payee_bond: opening.terms.payee_bond,
        until,
    })
}

//! Balances before and after a trade, and what the contract says about the difference.

use std::collections::BTreeSet;

use node::{PaymentId, PaymentState};
use serde::{Serialize, Serializer};
use serde_json::json;
use units::{Msat, Sat};

use super::stage::{Actor, Stage, node_failure};
use super::story::Ended;
use crate::failure::Failure;
use crate::show;

/// Payments that are looked at for their fees: more than the story makes.
const PAYMENTS_MAX: usize = 1000;

/// One side's account over one trade, in millisatoshis.
pub(super) struct Account {
    /// Whose.
    pub who: &'static str,
    /// Lightning balance before.
    pub before: Msat,
    /// What the contract gives (or takes), fees aside.
    pub contract: i64,
    /// Routing fees paid (negative) or earned.
    pub fees: i64,
    /// Lightning balance after.
    pub after: Msat,
}

impl Account {
    /// What the balance has to be.
    pub(super) fn expected(&self) -> i64 {
        self.before.0.cast_signed() + self.contract + self.fees
    }

    /// It is.
    pub(super) fn is_right(&self) -> bool {
        self.after.0.cast_signed() == self.expected()
    }
}

impl Serialize for Account {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        json!({
            "who": self.who,
            "before_msat": self.before,
            "contract_msat": self.contract,
            "fees_msat": self.fees,
            "expected_msat": self.expected(),
            "after_msat": self.after,
            "right": self.is_right(),
        })
        .serialize(s)
    }
}

/// Balances and settled payments of seller, buyer and board at one moment.
pub(super) struct Books {
    balances: [Msat; 3],
    paid: [BTreeSet<PaymentId>; 2],
}

impl Books {
    /// Reads them from the nodes.
    pub(super) async fn open(stage: &Stage) -> Result<Books, Failure> {
        let [seller, buyer, board] = parties(stage);
        Ok(Books {
            balances: [balance(seller).await?, balance(buyer).await?, balance(board).await?],
            paid: [paid(seller).await?.0, paid(buyer).await?.0],
        })
    }

    /// The accounts since, under a contract by which the buyer pays the seller `price`.
    pub(super) async fn close(self, stage: &Stage, price: Sat) -> Result<Vec<Account>, Failure> {
        let [seller, buyer, board] = parties(stage);
        let price = price.to_msat().map_err(|e| Failure::fault(e.to_string()))?.0.cast_signed();
        let seller_fees = fees_since(seller, &self.paid[0]).await?;
        let buyer_fees = fees_since(buyer, &self.paid[1]).await?;
        let rows = [(seller, price, -seller_fees), (buyer, -price, -buyer_fees), (board, 0, seller_fees + buyer_fees)];
        let mut accounts = Vec::new();
        for ((actor, contract, fees), before) in rows.into_iter().zip(self.balances) {
            accounts.push(Account { who: actor.name, before, contract, fees, after: balance(actor).await? });
        }
        Ok(accounts)
    }
}

fn parties(stage: &Stage) -> [&Actor; 3] {
    [&stage.seller, &stage.buyer, &stage.board]
}

async fn balance(actor: &Actor) -> Result<Msat, Failure> {
    Ok(super::stage::balances(actor).await?.lightning)
}

/// Payments of a node that succeeded, and what they cost in fees altogether.
async fn paid(actor: &Actor) -> Result<(BTreeSet<PaymentId>, Vec<(PaymentId, Msat)>), Failure> {
    let payments = actor.node()?.list_payments(PAYMENTS_MAX).await.map_err(|e| node_failure(actor, &e))?;
    let fees: Vec<_> = payments
        .into_iter()
        .filter_map(|payment| match payment.state {
            PaymentState::Succeeded { fee, .. } => Some((payment.id, fee)),
            PaymentState::InFlight | PaymentState::Failed { .. } => None,
        })
        .collect();
    Ok((fees.iter().map(|(id, _)| *id).collect(), fees))
}

async fn fees_since(actor: &Actor, known: &BTreeSet<PaymentId>) -> Result<i64, Failure> {
    let (_, fees) = paid(actor).await?;
    Ok(fees.iter().filter(|(id, _)| !known.contains(id)).map(|(_, fee)| fee.0.cast_signed()).sum())
}

/// Who ended with what.
pub(super) fn table(ended: &[Ended]) -> String {
    let mut rows = Vec::new();
    for trade in ended {
        for (i, account) in trade.accounts.iter().enumerate() {
            let title = if i == 0 { trade.title } else { "" };
            rows.push(vec![
                title.to_owned(),
                account.who.to_owned(),
                account.before.to_string(),
                signed(account.contract),
                signed(account.fees),
                account.after.to_string(),
                if account.is_right() { "right" } else { "WRONG" }.to_owned(),
            ]);
        }
    }
    show::table(&["trade", "who", "before (msat)", "contract", "routing fees", "after", ""], rows)
}

fn signed(msat: i64) -> String {
    let amount = Msat(msat.unsigned_abs()).to_string();
    match msat {
        0 => amount,
        1.. => format!("+{amount}"),
        _ => format!("-{amount}"),
    }
}

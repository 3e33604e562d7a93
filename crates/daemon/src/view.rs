//! A trade in the words of the API: where it stands, what is locked, what to do now.

use std::collections::BTreeMap;

use trade::{
    ArbiterState, Desk, Dossier, Fee, FeeState, IssuedState, Leg, LegId, MessageId, Notice, Outcome, PaidState,
    PayeeRelockStage, PayeeState, PayerState, Role, Trade, TradeId,
};
use units::{Now, PaymentHash, Sat};

use crate::api::types::{DeadlinesView, FeeView, LegView, TradeView, WarningView};
use crate::effects;
use crate::fiat;

/// Blocks after the end of a lock from which on nothing about it can change any more.
const FINAL_BLOCKS: u32 = 144;

/// Names of the listings that trades are on.
pub(crate) type Names = BTreeMap<MessageId, String>;

/// Every trade, in order of ids.
pub(crate) fn trades(desk: &Desk, names: &Names, now: Now) -> Vec<TradeView> {
    desk.trades().map(|trade| view(trade, names, now)).collect()
}

/// One trade.
pub(crate) fn trade(desk: &Desk, id: TradeId, names: &Names, now: Now) -> Option<TradeView> {
    desk.trade(id).map(|trade| view(trade, names, now))
}

fn view(trade: &Trade, names: &Names, now: Now) -> TradeView {
    let dossier = trade.dossier();
    let opening = &dossier.opening;
    let (state, next) = standing(trade);
    TradeView {
        trade: trade.id(),
        role: role(opening.role).to_owned(),
        state: state.to_owned(),
        outcome: trade.outcome().map(|outcome| outcome_name(outcome).to_owned()),
        next: forgotten(trade, now).or_else(|| fiat::next(trade)).unwrap_or_else(|| next.to_owned()),
        listing: opening.listing,
        product_name: names.get(&opening.listing).cloned().unwrap_or_default(),
        quantity: opening.quantity,
        fiat: opening.fiat.clone(),
        price_sat: dossier.price,
        asked_sat: dossier.asked.filter(|asked| !dossier.locked && *asked != dossier.price),
        counterparty: if opening.role == Role::Payer { opening.payee } else { opening.payer },
        arbiter: opening.arbiter,
        fee: dossier.fee.as_ref().map(|fee| fee_view(fee, opening.role)),
        legs: legs(dossier),
        deadlines: trade.deadlines().map(|d| DeadlinesView {
            warn: d.warn,
            rule: d.rule,
            hard: d.hard,
            expiry: d.expiry,
        }),
        owed: trade.pending(now).iter().map(effects::in_words).collect(),
        warnings: dossier
            .notices
            .iter()
            .map(|(raised, _)| WarningView { alarm: raised.is_alarm(), text: notice(raised) })
            .collect(),
    }
}

/// What to say of payments that have ended and of which our node says nothing: one that was restored from words alone never heard of them.
fn forgotten(trade: &Trade, now: Now) -> Option<String> {
    let Trade::Payer(payer) = trade else { return None };
    let waits = matches!(payer.state, PayerState::Released | PayerState::Ruled | PayerState::Winding { .. });
    let open = payer.dossier.paid.iter().any(|paid| paid.state == PaidState::InFlight);
    let over = trade.deadlines().is_some_and(|deadlines| now.height >= deadlines.expiry.plus(FINAL_BLOCKS));
    (waits && open && over).then(|| {
        "Nothing: the lock has ended, and your node knows nothing of how these payments did. It was restored without them; the other side \
         knows"
            .to_owned()
    })
}

pub(crate) fn role(role: Role) -> &'static str {
    match role {
        Role::Payer => "payer",
        Role::Payee => "payee",
        Role::Arbiter => "arbiter",
    }
}

/// The state in one word, and what its role may or should do in it.
fn standing(trade: &Trade) -> (&'static str, &'static str) {
    match trade {
        Trade::Payer(payer) if !payer.dossier.pay_approved && matches!(payer.state, PayerState::Locking { .. }) => {
            ("locking", "Pay: the invoices keep the agreement, and nothing is paid before you say so")
        }
        Trade::Payer(payer) => of_payer(&payer.state),
        Trade::Payee(payee) if payee.relock.as_ref().is_some_and(|r| r.stage == PayeeRelockStage::Offered) => {
            ("relock_asked", "Accept: the buyer asks to lock its money again, for longer")
        }
        Trade::Payee(payee) => of_payee(&payee.state),
        Trade::Arbiter(arbiter) => of_arbiter(&arbiter.state),
    }
}

fn of_payer(state: &PayerState) -> (&'static str, &'static str) {
    match state {
        PayerState::Appointing { .. } => ("appointing", "Wait for the arbiter to serve"),
        PayerState::Bid { .. } => ("bid", "Wait for the seller to answer, or cancel"),
        PayerState::Countered { .. } => {
            ("countered", "Counter with the price that the seller asks to agree, with another to go on, or cancel")
        }
        PayerState::Locking { .. } => ("locking", "Wait: legs are being locked"),
        PayerState::Held => ("held", "Wait for the seller to ship"),
        PayerState::Shipped => {
            ("shipped", "Confirm when the goods are there, dispute, or relock when they will be late")
        }
        PayerState::Disputed { .. } => ("disputed", "Wait for the arbiter; you may still confirm"),
        PayerState::Released => ("released", "Wait for the seller's node to collect"),
        PayerState::Ruled => ("ruled", "Wait: legs go where the arbiter said"),
        PayerState::Winding { .. } => ("winding", "Wait: everything goes back"),
        PayerState::Closed { .. } => ("closed", "Rate the other side"),
    }
}

fn of_payee(state: &PayeeState) -> (&'static str, &'static str) {
    match state {
        PayeeState::Bid { .. } => ("bid", "Accept the bid, counter it, or reject it"),
        PayeeState::Countered { .. } => ("countered", "Wait for the buyer to answer"),
        PayeeState::Accepted(_) => ("accepted", "Wait: your node makes the invoices"),
        PayeeState::Locking { .. } => ("locking", "Wait: legs are being locked"),
        PayeeState::Held => ("held", "Ship, then say so"),
        PayeeState::Shipped => {
            ("shipped", "Wait for the buyer to confirm; dispute if you are not paid when the warning comes")
        }
        PayeeState::Disputed { .. } => ("disputed", "Wait for the arbiter; you may still refund"),
        PayeeState::Released => ("released", "Wait: your node collects the price"),
        PayeeState::Ruled => ("ruled", "Wait: legs go where the arbiter said"),
        PayeeState::Winding { .. } => ("winding", "Wait: everything goes back"),
        PayeeState::Closed { .. } => ("closed", "Rate the other side"),
    }
}

fn of_arbiter(state: &ArbiterState) -> (&'static str, &'static str) {
    match state {
        ArbiterState::Asked { .. } => ("asked", "Serving"),
        ArbiterState::Serving { .. } => ("serving", "Nothing: the two have not locked their money yet"),
        ArbiterState::Held => ("held", "Nothing unless somebody disputes"),
        ArbiterState::Shipped => ("shipped", "Nothing unless somebody disputes; silence is settled by the default"),
        ArbiterState::Disputed { .. } => ("disputed", "Hear both sides, and rule after the warning"),
        ArbiterState::Ruled { .. } => ("ruled", "Nothing: your word is on its way"),
        ArbiterState::Closed { .. } => ("closed", "Nothing"),
    }
}

fn outcome_name(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Expired => "expired",
        Outcome::Canceled => "canceled",
        Outcome::Settled => "settled",
        Outcome::Refunded => "refunded",
        Outcome::Split { .. } => "split",
        Outcome::Unneeded => "unneeded",
        Outcome::Ruled => "ruled",
        Outcome::Defaulted => "defaulted",
        Outcome::Missed => "missed",
    }
}

pub(crate) fn fee_view(fee: &Fee, role: Role) -> FeeView {
    let state = match fee.state {
        FeeState::Unpaid => "unpaid",
        FeeState::Ordered { .. } | FeeState::InFlight => "paying",
        FeeState::Paid => "paid",
        FeeState::Failed => "failed",
    };
    FeeView { amount_sat: fee.amount, state: (role != Role::Payee).then(|| state.to_owned()) }
}

fn legs(dossier: &Dossier) -> Vec<LegView> {
    let issued = dossier.issued.iter().map(|leg| {
        let state = match leg.state {
            IssuedState::Ordered { .. } | IssuedState::Open { .. } => "open",
            IssuedState::Held { .. } => "held",
            IssuedState::SettleOrdered { .. } => "settling",
            IssuedState::CancelOrdered => "canceling",
            IssuedState::Settled => "settled",
            IssuedState::Canceled => "canceled",
        };
        leg_view(leg.leg, leg.hash, leg.amount, state)
    });
    let paid = dossier.paid.iter().map(|leg| {
        let state = match leg.state {
            PaidState::Ready => "ready",
            PaidState::Ordered { .. } | PaidState::InFlight => "paying",
            PaidState::Taken { .. } => "paid",
            PaidState::Returned => "returned",
        };
        leg_view(leg.leg, leg.hash, leg.amount, state)
    });
    issued.chain(paid).collect()
}

fn leg_view(leg: LegId, hash: PaymentHash, amount_sat: Sat, state: &str) -> LegView {
    let name = match leg.leg {
        Leg::Price => "price",
        Leg::PayerBond => "payer_bond",
        Leg::PayeeBond => "payee_bond",
    };
    LegView { leg: name.to_owned(), tranche: leg.tranche, hash, amount_sat, state: state.to_owned() }
}

/// A notice in words.
pub(crate) fn notice(notice: &Notice) -> String {
    match notice {
        Notice::DeadlineNear { rule_at } => format!(
            "the money has not moved, and at height {rule_at} the default on silence applies: now a buyer confirms what came or disputes \
             what did not, and a seller who is not paid disputes"
        ),
        Notice::RulingWanted { after: Some(after), before } => format!(
            "a dispute waits for your ruling: hear both sides, and rule when goods that may be under way have had their time, after height \
             {after}; after height {before} a ruling is void"
        ),
        Notice::RulingWanted { after: None, before } => {
            format!("a dispute waits for your ruling; after height {before} it is void")
        }
        Notice::ArbiterSilent => "the arbiter did not rule in time; the legs go back".to_owned(),
        Notice::InvoiceRefused { rule } => format!("an invoice broke the rule {rule}; nothing was paid"),
        Notice::Equivocation { author, .. } => {
            format!("{author} said two different things for one step; both are kept")
        }
        Notice::NodeRefused { leg } => format!("the node will not issue the invoice of {leg}"),
        Notice::FeeTooHigh { fee, max } => format!(
            "the arbiter charges {fee} sat and you agreed to {max}: nothing was bid or paid. To pay it, bid again with \
             --max-arbiter-fee {}; or name another arbiter with --arbiter",
            fee.0
        ),
        Notice::FeeUnpaid { fee } => {
            format!("the arbiter's fee of {fee} sat could not be paid; nothing was locked, and the trade is over")
        }
        Notice::LegVanished { leg } => format!("the node failed {leg} back by itself: it was too near its expiry"),
        Notice::SecretTooLate { leg } => format!("the secret of {leg} came when the leg was gone"),
        Notice::NotCollected { leg } => format!("the other side did not collect {leg}; the money came back"),
        Notice::TakenWithoutRelease { leg } => {
            format!("{leg} was taken although nobody released it; the secret was handed to the other side")
        }
        Notice::SettledWithoutOrder { leg } => format!("{leg} was settled at the node although no order is in the log"),
        Notice::LogBehind { until } => format!(
            "the node holds money that the log does not remember: was an old backup restored? It is settled only with its secret \
             and goes back at height {until}; ask the other side where you stand"
        ),
        Notice::ShippedTooLate => "the goods were not shipped in time; the money goes back".to_owned(),
        Notice::LockClaimMismatch => "the other side claims another lock than our node shows".to_owned(),
    }
}

//! Legs: the hold invoices of a trade, where each stands, and who of us holds it.

use std::fmt;

use serde::{Deserialize, Serialize};
use units::{Height, PaymentHash, Preimage, Sat, Unix};

/// Which money a hold invoice locks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Leg {
    /// The price: paid by the payer, held by the payee's node, secret made by the payer.
    Price,
    /// The payer's bond: paid by the payer, held by the payee's node, secret made by the arbiter.
    PayerBond,
    /// The payee's bond: paid by the payee, held by the payer's node, secret made by the arbiter.
    PayeeBond,
}

/// Names one hold invoice of a trade.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct LegId {
    /// 0 for the first lock, one more for each re-lock.
    pub round: u8,
    /// Which money.
    pub leg: Leg,
    /// Which part of the price, from 0; always 0 for a bond.
    pub tranche: u8,
}

impl LegId {
    /// Part `tranche` of the price in lock `round`.
    pub fn price(round: u8, tranche: u8) -> LegId {
        LegId { round, leg: Leg::Price, tranche }
    }

    /// The payer's bond in lock `round`.
    pub fn payer_bond(round: u8) -> LegId {
        LegId { round, leg: Leg::PayerBond, tranche: 0 }
    }

    /// The payee's bond in lock `round`.
    pub fn payee_bond(round: u8) -> LegId {
        LegId { round, leg: Leg::PayeeBond, tranche: 0 }
    }
}

impl fmt::Display for LegId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.leg {
            Leg::Price => write!(f, "price {}.{}", self.round, self.tranche),
            Leg::PayerBond => write!(f, "payer bond {}", self.round),
            Leg::PayeeBond => write!(f, "payee bond {}", self.round),
        }
    }
}

/// A leg whose invoice our own node issued: it holds the counterparty's money.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Issued {
    /// Which leg.
    pub leg: LegId,
    /// Its hash.
    pub hash: PaymentHash,
    /// Its size.
    pub amount: Sat,
    /// Where it stands.
    pub state: IssuedState,
}

/// Where a leg stands that we issued.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum IssuedState {
    /// To be created at the node.
    Ordered {
        /// Final CLTV to ask for, in blocks.
        min_final_cltv: u16,
        /// How long it may be paid, in seconds.
        expiry_secs: u32,
    },
    /// Created, nobody has paid it yet.
    Open {
        /// BOLT11.
        invoice: String,
    },
    /// The full amount is held by our node.
    Held {
        /// Lowest expiry height of its HTLCs, as the node says.
        expiry: Height,
    },
    /// To be settled.
    SettleOrdered {
        /// Lowest expiry height of its HTLCs.
        expiry: Height,
        /// The secret that opens it.
        preimage: Preimage,
    },
    /// To be failed back or closed unpaid.
    CancelOrdered,
    /// The money is ours.
    Settled,
    /// The money went back, or never came.
    Canceled,
}

/// A leg that we pay.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Paid {
    /// Which leg.
    pub leg: LegId,
    /// Its hash.
    pub hash: PaymentHash,
    /// Its size.
    pub amount: Sat,
    /// The counterparty's invoice, checked.
    pub invoice: String,
    /// Where it stands.
    pub state: PaidState,
}

/// Where a leg stands that we pay.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PaidState {
    /// Checked; its turn has not come. Nothing was paid.
    Ready,
    /// To be paid.
    Ordered {
        /// Never start the payment after this time.
        not_after: Unix,
    },
    /// Our node has it under way, or the counterparty's node holds it.
    InFlight,
    /// The counterparty took it.
    Taken {
        /// The secret, as the node learned it.
        preimage: Preimage,
    },
    /// Nothing is under way any more: it failed or came back.
    Returned,
}

impl Issued {
    /// No more can happen to it.
    pub fn is_final(&self) -> bool {
        matches!(self.state, IssuedState::Settled | IssuedState::Canceled)
    }

    /// Expiry of the HTLCs that our node still holds for it.
    pub fn held_until(&self) -> Option<Height> {
        match self.state {
            IssuedState::Held { expiry } | IssuedState::SettleOrdered { expiry, .. } => Some(expiry),
            IssuedState::Ordered { .. }
            | IssuedState::Open { .. }
            | IssuedState::CancelOrdered
            | IssuedState::Settled
            | IssuedState::Canceled => None,
        }
    }
}

impl Paid {
    /// Our node has nothing under way for it.
    pub fn is_idle(&self) -> bool {
        matches!(self.state, PaidState::Ready | PaidState::Taken { .. } | PaidState::Returned)
    }
}

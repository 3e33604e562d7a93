//! Effects: what a logged decision still owes the world. All of them are owed until an input says they are done,
//! are handed out again after every step and every restart, and may therefore be carried out any number of times.

use serde::{Deserialize, Serialize};
use units::{Height, Msat, PaymentHash, Preimage, Sat, Unix};

use crate::event::{Outgoing, Step};
use crate::ids::PartyKey;
use crate::leg::LegId;
use crate::refusal::Rule;

/// One thing that is owed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Create a hold invoice at our node. The shell repeats it until the node answers [`crate::NodeReport::InvoiceIssued`] or
    /// `InvoiceRefused`; safe because `Node::create_hold_invoice` is idempotent by hash.
    CreateHoldInvoice {
        /// The leg.
        leg: LegId,
        /// Its hash.
        hash: PaymentHash,
        /// Exact amount.
        amount: Msat,
        /// Final CLTV to ask for, in blocks.
        min_final_cltv: u16,
        /// How long it may be paid, in seconds.
        expiry_secs: u32,
    },
    /// Pay a hold invoice of the counterparty. The shell first looks the payment up by hash; only when the node does not know it
    /// and `not_after` has not passed does it start one; when `not_after` has passed it reports `PaymentReturned`. Repeated until
    /// the node reports `PaymentInFlight`, `PaymentTaken` or `PaymentReturned`; safe because a hash is paid at most once.
    PayInvoice {
        /// The leg.
        leg: LegId,
        /// Its hash.
        hash: PaymentHash,
        /// BOLT11, already checked.
        invoice: String,
        /// What it asks for.
        amount: Msat,
        /// Never start the payment after this time.
        not_after: Unix,
    },
    /// Pay the arbiter's fee: an ordinary invoice, no leg. Carried out as [`Effect::PayInvoice`] is, and as safe: a hash is paid at
    /// most once.
    PayFee {
        /// Its hash.
        hash: PaymentHash,
        /// BOLT11, already checked.
        invoice: String,
        /// What it asks for.
        amount: Msat,
        /// Never start the payment after this time.
        not_after: Unix,
    },
    /// Settle a held leg. Repeated until the node reports `Settled` (or `Canceled`, when it was too late); safe because settling
    /// twice is settling once.
    Settle {
        /// The leg.
        leg: LegId,
        /// Its hash.
        hash: PaymentHash,
        /// The secret that opens it.
        preimage: Preimage,
    },
    /// Fail a held leg back, or close its unpaid invoice. Repeated until the node reports `Canceled` (or `Settled`); safe because
    /// canceling twice is canceling once. A node that never knew the hash counts as canceled.
    Cancel {
        /// The leg.
        leg: LegId,
        /// Its hash.
        hash: PaymentHash,
    },
    /// Say something. Repeated until [`crate::Input::Sent`]; safe because message, time and recipients are fixed in the log, so the
    /// shell signs and publishes the identical event (same id) each time.
    Send(Box<Outgoing>),
    /// Tell our user what it should act on. Repeated until [`crate::Input::Shown`]; safe because a notice is shown once per trade.
    Warn(Notice),
    /// Tell our user, by every channel there is, that money may be lost. Otherwise like `Warn`.
    Alarm(Notice),
}

/// Something our user must know. Each is raised at most once per trade.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "notice", rename_all = "snake_case")]
pub enum Notice {
    /// `D_warn` has passed, until which goods might still arrive: now act, or lock again, and before this height.
    DeadlineNear {
        /// `D_rule` of the lock it is about.
        rule_at: Height,
    },
    /// A dispute waits for our ruling (arbiter's inbox).
    RulingWanted {
        /// `D_warn`: until then the payee may ship, goods may arrive, and the payer may look at them. Absent in logs of earlier versions.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        after: Option<Height>,
        /// `D_hard`: a ruling after it is void.
        before: Height,
    },
    /// The arbiter did not rule in time; the legs went back.
    ArbiterSilent,
    /// An acceptance or bond invoice broke a rule; nothing was paid, and it was kept as evidence.
    InvoiceRefused {
        /// The rule.
        rule: Rule,
    },
    /// A party said two different things for one step; the second was kept as evidence.
    Equivocation {
        /// Who.
        author: PartyKey,
        /// For which step.
        step: Step,
    },
    /// Our own node will not issue the invoice of a leg; the trade cannot go on.
    NodeRefused {
        /// Which leg.
        leg: LegId,
    },
    /// The arbiter charges more than our user agreed to pay; nothing was bid and nothing paid.
    FeeTooHigh {
        /// What it charges.
        fee: Sat,
        /// What our user agreed to.
        max: Sat,
    },
    /// The arbiter's fee could not be paid; nothing was locked.
    FeeUnpaid {
        /// What it charges.
        fee: Sat,
    },
    /// The node failed a leg back without being asked (it was too near to its expiry).
    LegVanished {
        /// Which leg.
        leg: LegId,
    },
    /// A secret came, but the leg it opens was gone.
    SecretTooLate {
        /// Which leg.
        leg: LegId,
    },
    /// We released, but the payee did not collect and the money came back.
    NotCollected {
        /// Which leg.
        leg: LegId,
    },
    /// Our payment was taken although we released nothing and nobody ruled so. The secret was handed to the counterparty.
    TakenWithoutRelease {
        /// Which leg.
        leg: LegId,
    },
    /// A leg of ours was settled although no order to settle is in the log.
    SettledWithoutOrder {
        /// Which leg.
        leg: LegId,
    },
    /// Our node holds money of this trade that the log does not remember: it was restored from an old backup. Nothing is settled
    /// without a secret, and nothing is canceled before this height.
    LogBehind {
        /// `D_rule` of what is held.
        until: Height,
    },
    /// The payee did not ship in time; the money goes back.
    ShippedTooLate,
    /// The other side claims that the lock ends earlier, or later, than our node shows.
    LockClaimMismatch,
}

impl Notice {
    /// Money may be lost unless a person looks.
    pub fn is_alarm(&self) -> bool {
        match self {
            Notice::LegVanished { .. }
            | Notice::SecretTooLate { .. }
            | Notice::TakenWithoutRelease { .. }
            | Notice::SettledWithoutOrder { .. }
            | Notice::LogBehind { .. } => true,
            Notice::DeadlineNear { .. }
            | Notice::RulingWanted { .. }
            | Notice::ArbiterSilent
            | Notice::InvoiceRefused { .. }
            | Notice::Equivocation { .. }
            | Notice::NodeRefused { .. }
            | Notice::FeeTooHigh { .. }
            | Notice::FeeUnpaid { .. }
            | Notice::NotCollected { .. }
            | Notice::ShippedTooLate
            | Notice::LockClaimMismatch => false,
        }
    }
}

//! Trades as a pure state machine: what was said goes in, what to record and what is owed comes out.
//!
//! The shell around it does, for every input (drain before the next one):
//! ```text
//! let append = desk.handle(stream, &input, now)?;  // or desk.receive(envelope, now)?, desk.report(report, now)?
//! log.append(append.stream, append.expected_seq, append.at, &append.events)?;   // durable, before any effect
//! desk.commit(append)?;
//! for (trade, effect) in desk.pending(now) { carry out; feed its result back as an input }
//! while let Some(envelope) = desk.next_message() { desk.receive(envelope, now) }
//! ```
//! On start: `Desk::replay(own_node, entries)`, look up every hash of `desk.watched()` at the node, fetch messages again, go on.

pub mod answer;
mod arbiter;
pub mod deadline;
mod desk;
mod dossier;
mod effect;
mod event;
mod fee;
pub mod fiat;
mod ids;
mod input;
mod leg;
pub mod limits;
mod message;
mod payee;
mod payer;
mod refusal;
mod role;
pub mod secret;
mod stall;
mod terms;
mod trade;

pub use answer::Answers;
pub use arbiter::{Arbiter, ArbiterState};
pub use deadline::Deadlines;
pub use desk::{Append, Desk, Entry};
pub use dossier::{Dossier, Hashes, Said};
pub use effect::{Effect, Notice};
pub use event::{Event, Opening, Outcome, Outgoing, Reveal, Role, SealedCopy, Step, Why};
pub use fee::{Bill, Fee, FeeState};
pub use fiat::{Currency, FiatBid, FiatSide, FiatTerms, Money, Premium};
pub use ids::{MessageId, PartyKey, TradeId};
pub use input::{BidOrder, Command, Envelope, Input, InvoiceFacts, NodeReport, OwnNode};
pub use leg::{Issued, IssuedState, Leg, LegId, Paid, PaidState};
pub use message::{
    Acceptance, Appointment, AppointmentRequest, ArbiterRating, Bid, BoardRating, BondFate, Counter, Delisting,
    Dispute, Handover, Listing, Message, MutualCancel, PayeeBondInvoice, PaymentConfirmation, Rating, Receipt,
    ReceiptStatus, Refund, Ruling, Shipment, Shipping,
};
pub use payee::{Accepting, Payee, PayeeRelock, PayeeRelockStage, PayeeState};
pub use payer::{Payer, PayerRelock, PayerRelockStage, PayerState};
pub use refusal::{CorruptLog, Refusal, Rule};
pub use stall::Stall;
pub use terms::{EscrowTerms, Mode, OnSilence};
pub use trade::{Decision, Trade, Watch};

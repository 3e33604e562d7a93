//! Trades as a pure state machine: what was said goes in, what to record and what is owed comes out.

mod ids;
mod message;
mod terms;

pub use ids::{MessageId, PartyKey, TradeId};
pub use message::{
    Acceptance, Appointment, AppointmentRequest, Bid, BondFate, Counter, Dispute, Listing, Message, MutualCancel,
    PayeeBondInvoice, PaymentConfirmation, Rating, Receipt, ReceiptStatus, Refund, Ruling, Shipment, Shipping,
};
pub use terms::{EscrowTerms, Mode, OnSilence};

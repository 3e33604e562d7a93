//! Bounds on what a message may carry. Whatever breaks one is refused as a whole.

use crate::fiat::FiatTerms;
use crate::message::{Listing, Message, ReceiptStatus};
use crate::refusal::{Refusal, Rule};
use crate::terms::EscrowTerms;

/// Longest BOLT11 invoice that is looked at, in bytes.
pub const INVOICE_BYTES_MAX: usize = 2048;

/// Most re-locks of one trade.
pub const RELOCKS_MAX: u8 = 3;

/// Most versions of a listing that one word takes down; older ones were superseded long ago.
pub const DELISTED_MAX: usize = 64;

/// Most counters that one trade's haggling takes.
pub const COUNTERS_MAX: u8 = 16;

/// Most pieces of one listing that a bid can ask for, and that can be for sale.
pub const QUANTITY_MAX: u32 = 1_000_000;

/// Most broken-rule messages that one trade keeps as evidence.
pub const EVIDENCE_MAX: usize = 8;

fn text(what: &'static str, value: &str, max: usize) -> Result<(), Refusal> {
    if value.len() <= max || value.chars().count() <= max {
        return Ok(());
    }
    Err(Refusal::new(Rule::TooLarge, format!("{what} is longer than {max} characters")))
}

fn optional(what: &'static str, value: Option<&String>, max: usize) -> Result<(), Refusal> {
    value.map_or(Ok(()), |value| text(what, value, max))
}

fn within(what: &'static str, ok: bool) -> Result<(), Refusal> {
    if ok { Ok(()) } else { Err(Refusal::new(Rule::TooLarge, format!("{what} is out of bounds"))) }
}

fn listing(m: &Listing) -> Result<(), Refusal> {
    text("the listing's own name", &m.d, 100)?;
    text("the product name", &m.product_name, 100)?;
    text("the description", &m.description, 2000)?;
    optional("the category", m.category.as_ref(), 50)?;
    optional("the storage link", m.storage_link.as_ref(), 500)?;
    if let Some(fiat) = &m.fiat {
        fiat.check()?;
    }
    within("the product name", !m.product_name.is_empty())?;
    within("the price", m.price.0 > 0 && m.price.to_msat().is_ok())
}

/// Keeps the message all of its bounds?
pub fn check(message: &Message) -> Result<(), Refusal> {
    let tranches = usize::from(EscrowTerms::TRANCHES_MAX);
    match message {
        Message::Listing(m) => listing(m),
        Message::Bid(m) => {
            optional("the bid's text", m.message.as_ref(), 500)?;
            within("the number of hashes", (1..=tranches).contains(&m.payment_hashes.len()))?;
            within("the round", m.round <= RELOCKS_MAX)?;
            within("the payment method", m.fiat.as_ref().is_none_or(|fiat| FiatTerms::is_method(&fiat.method)))?;
            within("the quantity", (1..=QUANTITY_MAX).contains(&m.quantity))?;
            within("the time to wait", (1..=168).contains(&m.payment_timeout_hours))
        }
        Message::Counter(m) => within("the price", m.amount.0 > 0 && m.amount.to_msat().is_ok()),
        Message::AppointmentRequest(m) => {
            within("the number of hashes", (1..=tranches).contains(&m.bid.payment_hashes.len()))?;
            within("the round", m.bid.round <= RELOCKS_MAX)?;
            within("the payment method", m.bid.fiat.as_ref().is_none_or(|fiat| FiatTerms::is_method(&fiat.method)))?;
            within("the quantity", (1..=QUANTITY_MAX).contains(&m.bid.quantity))?;
            within("the number of secrets", m.price_secrets.len() <= tranches)
        }
        Message::Appointment(m) => {
            text("the policy", &m.policy, 1000)?;
            within("the fee", m.fee.to_msat().is_ok())?;
            within("the fee's invoice", m.fee_invoice.as_ref().is_none_or(|i| i.len() <= INVOICE_BYTES_MAX))?;
            within("the round", m.round <= RELOCKS_MAX)
        }
        Message::Acceptance(m) => {
            optional("the terms", m.terms.as_ref(), 1000)?;
            within("the number of invoices", (1..=tranches).contains(&m.price_invoices.len()))?;
            within("an invoice", message.invoices().iter().all(|i| i.len() <= INVOICE_BYTES_MAX))?;
            within("the shipping time", m.shipping_time_days.unwrap_or(0) <= EscrowTerms::SHIPPING_DAYS_MAX)?;
            within("the invoice expiry", (300..=86_400).contains(&m.invoice_expiry_secs))?;
            within("the lock", EscrowTerms::LOCK_BLOCKS.contains(&m.lock_blocks))
        }
        Message::PayeeBondInvoice(m) => within("the invoice", m.invoice.len() <= INVOICE_BYTES_MAX),
        Message::PaymentConfirmation(m) => within("the lock", EscrowTerms::LOCK_BLOCKS.contains(&m.lock_blocks)),
        Message::Dispute(m) => {
            text("the reason", &m.reason, 100)?;
            text("the details", &m.details, 2000)
        }
        Message::Receipt(m) => {
            optional("the feedback", m.feedback.as_ref(), 1000)?;
            optional("the reason", m.dispute_reason.as_ref(), 500)?;
            within("the rating", m.rating.is_none_or(|r| (1..=5).contains(&r)))?;
            within("the number of secrets", m.secrets.len() <= tranches)?;
            let received = m.status == ReceiptStatus::Received;
            within("the reason (wanted unless all was received)", m.dispute_reason.is_some() != received)
        }
        Message::Refund(m) => text("the reason", &m.reason, 500),
        Message::MutualCancel(m) => text("the agreement", &m.agreement, 500),
        Message::Ruling(m) => {
            text("the resolution", &m.resolution, 2000)?;
            within("the number of tranches", m.payee_tranches <= EscrowTerms::TRANCHES_MAX)?;
            within("the number of secrets", m.secrets.len() <= tranches + 1)
        }
        Message::Shipment(m) => {
            text("the note", &m.note, 500)?;
            optional("the tracking number", m.tracking.as_ref(), 200)
        }
        Message::Handover(m) => {
            text("the note", &m.note, 500)?;
            within("the number of secrets", m.secrets.len() <= tranches + 2)
        }
        Message::Rating(_) | Message::ArbiterRating(_) | Message::BoardRating(_) | Message::Delisting(_) => {
            aftermath(message)
        }
    }
}

/// What is said when a trade, or a listing, is over.
fn aftermath(message: &Message) -> Result<(), Refusal> {
    match message {
        Message::Rating(m) => {
            optional("the comment", m.comment.as_ref(), 1000)?;
            within("the rating", (1..=5).contains(&m.rating))?;
            within("the kind", matches!(m.ended_by_kind, 313 | 314 | 315 | 317))
        }
        Message::ArbiterRating(m) => {
            optional("the comment", m.comment.as_ref(), 1000)?;
            within("the rating", (1..=5).contains(&m.rating))?;
            within("the kind", matches!(m.about_kind, 312 | 315 | 316 | 317))
        }
        Message::BoardRating(m) => {
            optional("the comment", m.comment.as_ref(), 1000)?;
            text("the board's address", &m.url, 200)?;
            within("the rating", (1..=5).contains(&m.rating))
        }
        Message::Delisting(m) => {
            text("the reason", &m.reason, 500)?;
            within("the number of versions", (1..=DELISTED_MAX).contains(&m.listings.len()))
        }
        _ => Ok(()),
    }
}

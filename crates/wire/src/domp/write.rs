//! Trade messages into the content of DOMP events. Defaults are left out, secrets and tracking never go in.

use trade::{
    Acceptance, Appointment, AppointmentRequest, Bid, BondFate, EscrowTerms, FiatBid, FiatSide, FiatTerms, Listing,
    Message, Mode, OnSilence, PaymentConfirmation, Premium, Receipt, ReceiptStatus, Ruling,
};

use super::content::Object;
use super::{DEFAULT_EXPIRY_SECS, DEFAULT_LOCK_BLOCKS, DEFAULT_TIMEOUT_HOURS, kind};

/// Kind and content of a message.
pub(super) fn content(message: &Message) -> (u16, String) {
    let object = Object::new();
    match message {
        Message::Listing(m) => (kind::LISTING, listing(m)),
        Message::Bid(m) => (kind::BID, bid(m)),
        Message::Counter(m) => {
            let object = object.hex("bid_ref", &m.bid.0).integer("counter_offer_satoshis", m.amount.0);
            (kind::COUNTER, object.end())
        }
        Message::Acceptance(m) => (kind::ACCEPTANCE, acceptance(m)),
        Message::PayeeBondInvoice(m) => {
            let object = object
                .hex("product_ref", &m.listing.0)
                .hex("acceptance_ref", &m.acceptance.0)
                .integer("collateral_amount_satoshis", m.amount.0)
                .text("collateral_invoice", &m.invoice);
            (kind::PAYEE_BOND, object.end())
        }
        Message::PaymentConfirmation(m) => (kind::PAYMENT, payment(m)),
        Message::Dispute(m) => {
            let object = object.hex("payment_ref", &m.payment.0).text("reason", &m.reason).text("details", &m.details);
            (kind::DISPUTE, object.end())
        }
        Message::Receipt(m) => (kind::RECEIPT, receipt(m)),
        Message::Refund(m) => (kind::REFUND, object.hex("payment_ref", &m.payment.0).text("reason", &m.reason).end()),
        Message::MutualCancel(m) => {
            (kind::MUTUAL, object.hex("payment_ref", &m.payment.0).text("agreement", &m.agreement).end())
        }
        Message::AppointmentRequest(m) => (kind::ARBITRATION, request(m)),
        Message::Appointment(m) => (kind::ARBITRATION, appointment(m)),
        Message::Ruling(m) => (kind::RULING, ruling(m)),
        Message::Shipment(m) => {
            (kind::MESSAGE, object.text("message", &m.note).hex("ref", &m.payment.0).raw("shipped", "{}").end())
        }
        Message::Handover(m) => {
            (kind::MESSAGE, object.text("message", &m.note).hex("ref", &m.payment.0).raw("handover", "{}").end())
        }
        Message::Rating(m) => {
            let object = object
                .hex("user_pubkey", &m.subject.0)
                .integer("rating", m.rating.into())
                .maybe(m.comment.as_ref(), |o, comment| o.text("comment", comment))
                .hex("transaction_ref", &m.ended_by.0)
                .integer("transaction_kind", m.ended_by_kind.into());
            (kind::RATING, object.end())
        }
        Message::ArbiterRating(m) => {
            let object = object
                .hex("arbitrator_pubkey", &m.arbiter.0)
                .integer("rating", m.rating.into())
                .maybe(m.comment.as_ref(), |o, comment| o.text("comment", comment))
                .hex("arbitration_ref", &m.about.0)
                .integer("arbitration_kind", m.about_kind.into());
            (kind::ARBITER_RATING, object.end())
        }
        Message::BoardRating(m) => {
            let proof = Object::new().hex("payment_proof", &m.payment.0).hex("event_id", &m.about.0).end();
            let object = object
                .text("relay_url", &m.url)
                .integer("rating", m.rating.into())
                .maybe(m.comment.as_ref(), |o, comment| o.text("comment", comment))
                .raw("interaction_proof", &proof);
            (kind::BOARD_RATING, object.end())
        }
        Message::Delisting(m) => (kind::DELETION, m.reason.clone()),
    }
}

fn listing(m: &Listing) -> String {
    let bond = m.escrow.as_ref().map(|terms| terms.payee_bond.0).filter(|bond| *bond > 0);
    Object::new()
        .text("product_name", &m.product_name)
        .text("description", &m.description)
        .integer("price_satoshis", m.price.0)
        .maybe(m.category.as_ref(), |o, category| o.text("category", category))
        .maybe(m.storage_link.as_ref(), |o, link| o.text("storage_link", link))
        .maybe(m.shipping.as_ref(), |o, shipping| {
            let info = Object::new()
                .maybe(shipping.domestic, |o, cost| o.integer("domestic_cost_satoshis", cost.0))
                .maybe(shipping.international, |o, cost| o.integer("international_cost_satoshis", cost.0))
                .maybe(shipping.estimated_days, |o, days| o.integer("estimated_days", days.into()));
            o.raw("shipping_info", &info.end())
        })
        .maybe(bond, |o, bond| o.integer("seller_collateral_satoshis", bond))
        .maybe(m.escrow.as_ref(), |o, terms| o.raw("escrow", &escrow(terms)))
        .maybe(m.fiat.as_ref(), |o, fiat| o.raw("fiat", &fiat_terms(fiat)))
        .end()
}

fn fiat_terms(terms: &FiatTerms) -> String {
    let side = match terms.side {
        FiatSide::Buy => "buy",
        FiatSide::Sell => "sell",
    };
    let premium = Some(terms.premium_percent).filter(|premium| *premium != Premium::default());
    Object::new()
        .text("side", side)
        .text("currency", &terms.currency.to_string())
        .text("min", &terms.min.to_string())
        .text("max", &terms.max.to_string())
        .maybe(premium, |o, premium| o.text("premium_percent", &premium.to_string()))
        .text_list("methods", &terms.methods)
        .integer("max_quote_age_secs", terms.max_quote_age_secs.into())
        .maybe(terms.answers, |o, to| {
            o.raw("answers", &Object::new().hex("order", &to.order.0).hex("maker", &to.maker.0).end())
        })
        .end()
}

fn fiat_bid(bid: &FiatBid) -> String {
    Object::new()
        .text("currency", &bid.currency.to_string())
        .text("amount", &bid.amount.to_string())
        .text("method", &bid.method)
        .text("rate", &bid.rate.to_string())
        .integer("quoted_at", bid.quoted_at.0)
        .end()
}

fn escrow(terms: &EscrowTerms) -> String {
    let mode = match terms.mode {
        Mode::Direct => "direct",
        Mode::Arbitrated => "arbitrated",
        Mode::Bonded => "bonded",
    };
    let on_silence = match terms.on_silence {
        OnSilence::Refund => "refund",
        OnSilence::Release => "release",
    };
    Object::new()
        .text("mode", mode)
        .hex_list("arbiters", terms.arbiters.iter().map(|key| &key.0))
        .maybe(terms.arbiter_release.then_some(true), |o, yes| o.boolean("arbiter_release", yes))
        .maybe(Some(terms.min_payer_bond.0).filter(|n| *n > 0), |o, bond| o.integer("min_payer_bond", bond))
        .maybe(Some(terms.payee_bond.0).filter(|n| *n > 0), |o, bond| o.integer("payee_bond", bond))
        .integer("lock_blocks", terms.lock_blocks.into())
        .maybe(Some(terms.tranches).filter(|n| *n != 1), |o, n| o.integer("tranches", n.into()))
        .text("on_silence", on_silence)
        .end()
}

fn bid(m: &Bid) -> String {
    let hours = Some(m.payment_timeout_hours).filter(|hours| *hours != DEFAULT_TIMEOUT_HOURS);
    Object::new()
        .hex("product_ref", &m.listing.0)
        .integer("bid_amount_satoshis", m.amount.0)
        .integer("buyer_collateral_satoshis", m.payer_bond.0)
        .maybe(m.message.as_ref(), |o, message| o.text("message", message))
        .maybe(hours, |o, hours| o.integer("payment_timeout_hours", hours.into()))
        .hex_list("payment_hashes", m.payment_hashes.iter().map(|hash| &hash.0))
        .maybe(m.arbiter, |o, arbiter| o.hex("arbiter", &arbiter.0))
        .maybe(Some(m.round).filter(|round| *round > 0), |o, round| o.integer("round", round.into()))
        .maybe(Some(m.quantity).filter(|n| *n != 1), |o, quantity| o.integer("quantity", quantity.into()))
        .maybe(m.fiat.as_ref(), |o, fiat| o.raw("fiat", &fiat_bid(fiat)))
        .end()
}

fn acceptance(m: &Acceptance) -> String {
    let (first, rest) = m.price_invoices.split_first().map_or((None, &[][..]), |(first, rest)| (Some(first), rest));
    let expiry = Some(m.invoice_expiry_secs).filter(|secs| *secs != DEFAULT_EXPIRY_SECS);
    let blocks = Some(m.lock_blocks).filter(|blocks| *blocks != DEFAULT_LOCK_BLOCKS);
    Object::new()
        .hex("bid_ref", &m.bid.0)
        .maybe(first, |o, invoice| o.text("ln_invoice", invoice))
        .text_list("price_invoices", rest)
        .maybe(m.payer_bond_invoice.as_ref(), |o, invoice| o.text("collateral_invoice", invoice))
        .maybe(m.shipping_time_days, |o, days| o.integer("shipping_time_days", days.into()))
        .maybe(m.terms.as_ref(), |o, terms| o.text("terms", terms))
        .maybe(expiry, |o, secs| o.integer("invoice_expiry_seconds", secs.into()))
        .maybe(blocks, |o, blocks| o.integer("htlc_timeout_blocks", blocks.into()))
        .end()
}

fn payment(m: &PaymentConfirmation) -> String {
    let blocks = Some(m.lock_blocks).filter(|blocks| *blocks != DEFAULT_LOCK_BLOCKS);
    Object::new()
        .hex("bid_ref", &m.acceptance.0)
        .hex("payment_proof", &m.payment_proof.0)
        .text("payment_method", "lightning_htlc")
        .maybe(m.collateral_proof, |o, hash| o.hex("collateral_proof", &hash.0))
        .maybe(blocks, |o, blocks| o.integer("escrow_timeout_blocks", blocks.into()))
        .integer("payment_timestamp", m.paid_at.0)
        .maybe(m.paid_height, |o, height| o.integer("paid_height", height.0.into()))
        .end()
}

fn receipt(m: &Receipt) -> String {
    let status = match m.status {
        ReceiptStatus::Received => "received",
        ReceiptStatus::PartiallyReceived => "partially_received",
        ReceiptStatus::NotReceived => "not_received",
        ReceiptStatus::Damaged => "damaged",
    };
    Object::new()
        .hex("payment_ref", &m.payment.0)
        .text("status", status)
        .maybe(m.rating, |o, rating| o.integer("rating", rating.into()))
        .maybe(m.feedback.as_ref(), |o, feedback| o.text("feedback", feedback))
        .maybe(m.dispute_reason.as_ref(), |o, reason| o.text("dispute_reason", reason))
        .end()
}

fn request(m: &AppointmentRequest) -> String {
    let request = Object::new()
        .hex("trade", &m.trade.0)
        .hex("product_ref", &m.listing.0)
        .hex("payee", &m.payee.0)
        .raw("bid", &bid(&m.bid))
        .raw("escrow", &escrow(&m.terms));
    Object::new().raw("request", &request.end()).end()
}

fn appointment(m: &Appointment) -> String {
    Object::new()
        .hex("trade", &m.trade.0)
        .maybe(m.payer_bond_hash, |o, hash| o.hex("payer_bond_hash", &hash.0))
        .maybe(m.payee_bond_hash, |o, hash| o.hex("payee_bond_hash", &hash.0))
        .boolean("confirms_release", m.confirms_release)
        .hex_list("payment_hashes", m.payment_hashes.iter().map(|hash| &hash.0))
        .maybe(m.terms.as_ref(), |o, terms| o.raw("escrow", &escrow(terms)))
        .integer("fee", m.fee.0)
        .text("policy", &m.policy)
        .maybe(Some(m.round).filter(|round| *round > 0), |o, round| o.integer("round", round.into()))
        .end()
}

fn ruling(m: &Ruling) -> String {
    let fate = |fate: BondFate| match fate {
        BondFate::Return => "return",
        BondFate::Forfeit => "forfeit",
    };
    Object::new()
        .hex("trade", &m.trade.0)
        .hex("dispute_ref", &m.dispute.0)
        .integer("payee_tranches", m.payee_tranches.into())
        .text("payer_bond", fate(m.payer_bond))
        .text("payee_bond", fate(m.payee_bond))
        .text("resolution", &m.resolution)
        .end()
}

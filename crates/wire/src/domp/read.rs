//! The content of DOMP events into trade messages, with the limits of DOMP's JSON schemas.
//!
//! Kinds 300, 301, 303, 311 and 313 have a schema that allows nothing else, so an unknown field is refused there. The others
//! exist as prose only: what we do not know is passed over.

use trade::{
    Acceptance, Answers, Appointment, AppointmentRequest, ArbiterRating, Bid, BoardRating, BondFate, Counter,
    Delisting, Dispute, EscrowTerms, FiatBid, FiatSide, FiatTerms, Handover, Listing, Message, MessageId, Mode,
    MutualCancel, OnSilence, PartyKey, PayeeBondInvoice, PaymentConfirmation, Premium, Rating, Receipt, ReceiptStatus,
    Refund, Ruling, Shipment, Shipping, TradeId, limits,
};
use units::{Height, PaymentHash, Sat, Unix};

use super::content::{Fields, need};
use crate::event::Tag;
use crate::json::parse_hex;

use super::{DEFAULT_EXPIRY_SECS, DEFAULT_LOCK_BLOCKS, DEFAULT_TIMEOUT_HOURS, Reject, kind};
use crate::invoice::INVOICE_MAX;

/// Greatest round of a bid: the secrets derive from four bits of it.
const ROUND_MAX: u8 = 15;
/// Longest URI.
const URI_MAX: usize = 2048;
/// What an unused text field of a DOMP client may hold, in characters.
const UNUSED_MAX: usize = 4096;
/// Greatest wall-clock time that we read: the year 9999.
const TIME_MAX: u64 = 253_402_300_799;

/// The message in `content`. `d` is the event's `d` tag.
pub(super) fn message(kind: u16, content: &str, d: Option<&str>, created_at: Unix) -> Result<Message, Reject> {
    if !kind::ALL.contains(&kind) {
        return Err(Reject::UnknownKind(kind));
    }
    let fields = Fields::parse(content)?;
    Ok(match kind {
        kind::LISTING => Message::Listing(listing(fields, d)?),
        kind::BID => Message::Bid(bid(fields)?),
        kind::COUNTER => Message::Counter(counter(fields)?),
        kind::ACCEPTANCE => Message::Acceptance(acceptance(fields)?),
        kind::PAYEE_BOND => Message::PayeeBondInvoice(payee_bond(fields)?),
        kind::PAYMENT => Message::PaymentConfirmation(payment(fields, created_at)?),
        kind::DISPUTE => Message::Dispute(dispute(fields)?),
        kind::RECEIPT => Message::Receipt(receipt(fields)?),
        kind::REFUND => Message::Refund(refund(fields)?),
        kind::MUTUAL => Message::MutualCancel(mutual(fields)?),
        kind::ARBITRATION => arbitration(fields)?,
        kind::RULING => Message::Ruling(ruling(fields)?),
        kind::MESSAGE => spoken(fields)?,
        kind::ARBITER_RATING => Message::ArbiterRating(arbiter_rating(fields)?),
        kind::BOARD_RATING => Message::BoardRating(board_rating(fields)?),
        _ => Message::Rating(rating(fields)?),
    })
}

/// The listings that a deletion (NIP-09) names. Whether they are its author's is for the reader to see.
pub(super) fn delisting(content: &str, tags: &[Tag]) -> Result<Delisting, Reject> {
    if content.chars().count() > 500 {
        return Err(Reject::FieldRange("content"));
    }
    let named = tags.iter().filter(|tag| tag[0] == "e");
    let ids = named.map(|tag| tag.get(1).and_then(|id| parse_hex(id, "e").ok()).map(MessageId));
    let listings = ids.collect::<Option<Vec<_>>>().ok_or(Reject::TagMalformed("e"))?;
    if listings.is_empty() || listings.len() > limits::DELISTED_MAX {
        return Err(Reject::TagMalformed("e"));
    }
    Ok(Delisting { listings, reason: content.to_owned() })
}

fn id(fields: &mut Fields, name: &'static str) -> Result<MessageId, Reject> {
    need(fields.bytes32(name)?.map(MessageId), name)
}

/// `^(lnbc|lntb|lnbcrt)[0-9a-z]+$`
fn is_invoice(text: &str) -> bool {
    let known = ["lnbcrt", "lnbc", "lntb"].iter().any(|p| text.strip_prefix(p).is_some_and(|rest| !rest.is_empty()));
    known && text.len() <= INVOICE_MAX && text.bytes().all(|b| b.is_ascii_digit() || b.is_ascii_lowercase())
}

fn invoice(fields: &mut Fields, name: &'static str) -> Result<Option<String>, Reject> {
    match fields.text(name, 1..=INVOICE_MAX)? {
        Some(text) if !is_invoice(&text) => Err(Reject::FieldRange(name)),
        found => Ok(found),
    }
}

fn is_link(text: &str) -> bool {
    let known = ["ipfs://", "https://", "http://"].iter().any(|p| text.len() > p.len() && text.starts_with(p));
    known && text.bytes().all(|b| b.is_ascii_graphic())
}

fn listing(mut f: Fields, d: Option<&str>) -> Result<Listing, Reject> {
    let product_name = need(f.text("product_name", 1..=100)?, "product_name")?;
    let description = need(f.text("description", 0..=2000)?, "description")?;
    let price = need(f.sats("price_satoshis", 1)?, "price_satoshis")?;
    let category = f.text("category", 0..=50)?;
    let storage_link = f.text("storage_link", 1..=URI_MAX)?;
    if storage_link.as_deref().is_some_and(|link| !is_link(link)) {
        return Err(Reject::FieldRange("storage_link"));
    }
    let shipping = f.object("shipping_info")?.map(shipping).transpose()?;
    let bond = f.sats("seller_collateral_satoshis", 0)?;
    let escrow = f.object("escrow")?.map(escrow).transpose()?;
    let fiat = f.object("fiat")?.map(fiat_terms).transpose()?;
    if let (Some(bond), Some(terms)) = (bond, &escrow)
        && bond != terms.payee_bond
    {
        return Err(Reject::FieldRange("seller_collateral_satoshis"));
    }
    f.end()?;
    let d = d.ok_or(Reject::TagMissing("d"))?;
    if d.is_empty() || d.len() > super::D_MAX {
        return Err(Reject::TagMalformed("d"));
    }
    Ok(Listing { d: d.to_owned(), product_name, description, price, category, storage_link, shipping, escrow, fiat })
}

fn shipping(mut f: Fields) -> Result<Shipping, Reject> {
    let shipping = Shipping {
        domestic: f.sats("domestic_cost_satoshis", 0)?,
        international: f.sats("international_cost_satoshis", 0)?,
        estimated_days: f.small("estimated_days", 1..=u16::MAX)?,
    };
    f.end()?;
    Ok(shipping)
}

fn escrow(mut f: Fields) -> Result<EscrowTerms, Reject> {
    let modes = [("direct", Mode::Direct), ("arbitrated", Mode::Arbitrated), ("bonded", Mode::Bonded)];
    let defaults = [("refund", OnSilence::Refund), ("release", OnSilence::Release)];
    let arbiters = f.bytes32_list("arbiters", EscrowTerms::ARBITERS_MAX)?;
    let terms = EscrowTerms {
        mode: need(f.word("mode", &modes)?, "mode")?,
        arbiters: arbiters.into_iter().map(PartyKey).collect(),
        arbiter_release: f.boolean("arbiter_release")?.unwrap_or(false),
        min_payer_bond: f.sats("min_payer_bond", 0)?.unwrap_or(Sat::ZERO),
        payee_bond: f.sats("payee_bond", 0)?.unwrap_or(Sat::ZERO),
        lock_blocks: need(f.small("lock_blocks", EscrowTerms::LOCK_BLOCKS)?, "lock_blocks")?,
        tranches: f.small("tranches", 1..=EscrowTerms::TRANCHES_MAX)?.unwrap_or(1),
        on_silence: need(f.word("on_silence", &defaults)?, "on_silence")?,
    };
    f.end()?;
    Ok(terms)
}

/// A field that is text and means something: an amount, a currency.
fn parsed<T: std::str::FromStr>(f: &mut Fields, name: &'static str) -> Result<T, Reject> {
    let text = need(f.text(name, 1..=20)?, name)?;
    text.parse().map_err(|_| Reject::FieldRange(name))
}

fn fiat_terms(mut f: Fields) -> Result<FiatTerms, Reject> {
    let terms = FiatTerms {
        side: need(f.word("side", &[("buy", FiatSide::Buy), ("sell", FiatSide::Sell)])?, "side")?,
        currency: parsed(&mut f, "currency")?,
        min: parsed(&mut f, "min")?,
        max: parsed(&mut f, "max")?,
        premium_percent: if f.has("premium_percent") { parsed(&mut f, "premium_percent")? } else { Premium::default() },
        methods: f.text_list("methods", FiatTerms::METHODS_MAX, FiatTerms::is_method)?,
        max_quote_age_secs: need(f.small("max_quote_age_secs", FiatTerms::QUOTE_AGE_SECS)?, "max_quote_age_secs")?,
        answers: f.object("answers")?.map(answers).transpose()?,
    };
    f.end()?;
    terms.check().map_err(|_| Reject::FieldRange("fiat"))?;
    Ok(terms)
}

fn answers(mut f: Fields) -> Result<Answers, Reject> {
    let order = MessageId(need(f.bytes32("order")?, "order")?);
    let answers = Answers { order, maker: PartyKey(need(f.bytes32("maker")?, "maker")?) };
    f.end()?;
    Ok(answers)
}

fn fiat_bid(mut f: Fields) -> Result<FiatBid, Reject> {
    let bid = FiatBid {
        currency: parsed(&mut f, "currency")?,
        amount: parsed(&mut f, "amount")?,
        method: need(f.text("method", 1..=FiatTerms::METHOD_CHARS_MAX)?, "method")?,
        rate: parsed(&mut f, "rate")?,
        quoted_at: Unix(need(f.integer("quoted_at", 0..=TIME_MAX)?, "quoted_at")?),
    };
    f.end()?;
    if !FiatTerms::is_method(&bid.method) {
        return Err(Reject::FieldRange("method"));
    }
    Ok(bid)
}

fn bid(mut f: Fields) -> Result<Bid, Reject> {
    let payment_hashes = hashes(&mut f)?;
    let bid = Bid {
        listing: id(&mut f, "product_ref")?,
        amount: need(f.sats("bid_amount_satoshis", 1)?, "bid_amount_satoshis")?,
        payer_bond: need(f.sats("buyer_collateral_satoshis", 0)?, "buyer_collateral_satoshis")?,
        payment_hashes,
        arbiter: f.bytes32("arbiter")?.map(PartyKey),
        message: f.text("message", 0..=500)?,
        payment_timeout_hours: f.small("payment_timeout_hours", 1..=168)?.unwrap_or(DEFAULT_TIMEOUT_HOURS),
        round: f.small("round", 0..=ROUND_MAX)?.unwrap_or(0),
        quantity: f.small("quantity", 1..=limits::QUANTITY_MAX)?.unwrap_or(1),
        fiat: f.object("fiat")?.map(fiat_bid).transpose()?,
    };
    f.bytes32("shipping_address_hash")?;
    f.end()?;
    Ok(bid)
}

fn counter(mut f: Fields) -> Result<Counter, Reject> {
    let amount = need(f.sats("counter_offer_satoshis", 1)?, "counter_offer_satoshis")?;
    Ok(Counter { bid: id(&mut f, "bid_ref")?, amount })
}

fn acceptance(mut f: Fields) -> Result<Acceptance, Reject> {
    let bid = id(&mut f, "bid_ref")?;
    let mut price_invoices = vec![need(invoice(&mut f, "ln_invoice")?, "ln_invoice")?];
    let further = usize::from(EscrowTerms::TRANCHES_MAX) - 1;
    price_invoices.extend(f.text_list("price_invoices", further, is_invoice)?);
    let acceptance = Acceptance {
        bid,
        price_invoices,
        payer_bond_invoice: invoice(&mut f, "collateral_invoice")?,
        shipping_time_days: f.small("shipping_time_days", 0..=90)?,
        terms: f.text("terms", 0..=1000)?,
        invoice_expiry_secs: f.small("invoice_expiry_seconds", 300..=86_400)?.unwrap_or(DEFAULT_EXPIRY_SECS),
        lock_blocks: f.small("htlc_timeout_blocks", EscrowTerms::LOCK_BLOCKS)?.unwrap_or(DEFAULT_LOCK_BLOCKS),
    };
    f.text("estimated_shipping_time", 0..=100)?;
    f.end()?;
    Ok(acceptance)
}

fn payee_bond(mut f: Fields) -> Result<PayeeBondInvoice, Reject> {
    Ok(PayeeBondInvoice {
        listing: id(&mut f, "product_ref")?,
        acceptance: id(&mut f, "acceptance_ref")?,
        amount: need(f.sats("collateral_amount_satoshis", 1)?, "collateral_amount_satoshis")?,
        invoice: need(invoice(&mut f, "collateral_invoice")?, "collateral_invoice")?,
    })
}

fn payment(mut f: Fields, created_at: Unix) -> Result<PaymentConfirmation, Reject> {
    let acceptance = id(&mut f, "bid_ref")?;
    let payment_proof = need(f.hash("payment_proof")?, "payment_proof")?;
    // The other methods of DOMP cannot be held: the payer reveals the preimage at once, or there is none.
    need(f.word("payment_method", &[("lightning_htlc", ())])?, "payment_method")?;
    let payment = PaymentConfirmation {
        acceptance,
        payment_proof,
        collateral_proof: f.hash("collateral_proof")?,
        lock_blocks: f.small("escrow_timeout_blocks", EscrowTerms::LOCK_BLOCKS)?.unwrap_or(DEFAULT_LOCK_BLOCKS),
        paid_at: f.integer("payment_timestamp", 0..=TIME_MAX)?.map_or(created_at, Unix),
        paid_height: f.small("paid_height", 0..=u32::MAX)?.map(Height),
    };
    f.text("encrypted_shipping_address", 0..=UNUSED_MAX)?;
    f.text("shipping_instructions", 0..=500)?;
    f.end()?;
    Ok(payment)
}

fn dispute(mut f: Fields) -> Result<Dispute, Reject> {
    Ok(Dispute {
        payment: id(&mut f, "payment_ref")?,
        reason: need(f.text("reason", 1..=100)?, "reason")?,
        details: need(f.text("details", 0..=2000)?, "details")?,
    })
}

fn receipt(mut f: Fields) -> Result<Receipt, Reject> {
    let statuses = [
        ("received", ReceiptStatus::Received),
        ("partially_received", ReceiptStatus::PartiallyReceived),
        ("not_received", ReceiptStatus::NotReceived),
        ("damaged", ReceiptStatus::Damaged),
    ];
    let conditions = ["as_described", "better_than_described", "minor_issues", "major_issues", "defective"];
    let receipt = Receipt {
        payment: id(&mut f, "payment_ref")?,
        status: need(f.word("status", &statuses)?, "status")?,
        rating: f.small("rating", 1..=5)?,
        feedback: f.text("feedback", 0..=1000)?,
        dispute_reason: f.text("dispute_reason", 0..=500)?,
        secrets: Vec::new(),
    };
    match (receipt.status, &receipt.dispute_reason) {
        (ReceiptStatus::Received, Some(_)) => return Err(Reject::FieldForbidden("dispute_reason")),
        (ReceiptStatus::Received, None) | (_, Some(_)) => {}
        (_, None) => return Err(Reject::FieldMissing("dispute_reason")),
    }
    f.integer("delivery_confirmation_time", 0..=TIME_MAX)?;
    f.word("item_condition", &conditions.map(|word| (word, ())))?;
    f.integer("shipping_rating", 1..=5)?;
    f.integer("communication_rating", 1..=5)?;
    f.boolean("would_buy_again")?;
    f.end()?;
    Ok(receipt)
}

fn refund(mut f: Fields) -> Result<Refund, Reject> {
    Ok(Refund { payment: id(&mut f, "payment_ref")?, reason: need(f.text("reason", 0..=500)?, "reason")? })
}

fn mutual(mut f: Fields) -> Result<MutualCancel, Reject> {
    // DOMP's other use of 315 hands the money to an arbitrator. That is no cancel, and no arbiter of ours takes money.
    for name in ["arbitrator_ref", "release_funds_to_arbitrator"] {
        if f.has(name) {
            return Err(Reject::FieldForbidden(name));
        }
    }
    let agreement = need(f.text("agreement", 0..=500)?, "agreement")?;
    Ok(MutualCancel { payment: id(&mut f, "payment_ref")?, agreement })
}

/// One hash for each tranche of a price.
fn hashes(f: &mut Fields) -> Result<Vec<PaymentHash>, Reject> {
    let hashes = f.bytes32_list("payment_hashes", EscrowTerms::TRANCHES_MAX.into())?;
    Ok(hashes.into_iter().map(PaymentHash).collect())
}

fn arbitration(mut f: Fields) -> Result<Message, Reject> {
    if let Some(mut request) = f.object("request")? {
        return Ok(Message::AppointmentRequest(AppointmentRequest {
            trade: need(request.bytes32("trade")?.map(TradeId), "trade")?,
            listing: id(&mut request, "product_ref")?,
            payee: need(request.bytes32("payee")?.map(PartyKey), "payee")?,
            bid: need(request.object("bid")?.map(bid).transpose()?, "bid")?,
            terms: need(request.object("escrow")?.map(escrow).transpose()?, "escrow")?,
            price_secrets: Vec::new(),
        }));
    }
    Ok(Message::Appointment(Appointment {
        trade: need(f.bytes32("trade")?.map(TradeId), "trade")?,
        payer_bond_hash: f.hash("payer_bond_hash")?,
        payee_bond_hash: f.hash("payee_bond_hash")?,
        confirms_release: need(f.boolean("confirms_release")?, "confirms_release")?,
        payment_hashes: hashes(&mut f)?,
        terms: f.object("escrow")?.map(escrow).transpose()?,
        fee: need(f.sats("fee", 0)?, "fee")?,
        fee_invoice: None,
        policy: need(f.text("policy", 0..=1000)?, "policy")?,
        round: f.small("round", 0..=ROUND_MAX)?.unwrap_or(0),
    }))
}

fn ruling(mut f: Fields) -> Result<Ruling, Reject> {
    let fates = [("return", BondFate::Return), ("forfeit", BondFate::Forfeit)];
    Ok(Ruling {
        trade: need(f.bytes32("trade")?.map(TradeId), "trade")?,
        dispute: id(&mut f, "dispute_ref")?,
        payee_tranches: need(f.small("payee_tranches", 0..=EscrowTerms::TRANCHES_MAX)?, "payee_tranches")?,
        payer_bond: need(f.word("payer_bond", &fates)?, "payer_bond")?,
        payee_bond: need(f.word("payee_bond", &fates)?, "payee_bond")?,
        resolution: need(f.text("resolution", 0..=2000)?, "resolution")?,
        secrets: Vec::new(),
    })
}

fn spoken(mut f: Fields) -> Result<Message, Reject> {
    let (shipped, handover) = (f.object("shipped")?.is_some(), f.object("handover")?.is_some());
    if !shipped && !handover {
        return Err(Reject::NotAStep);
    }
    let note = need(f.text("message", 0..=500)?, "message")?;
    let payment = id(&mut f, "ref")?;
    match (shipped, handover) {
        (true, true) => Err(Reject::FieldForbidden("handover")),
        (true, false) => Ok(Message::Shipment(Shipment { payment, note, tracking: None })),
        (false, _) => Ok(Message::Handover(Handover { payment, note, secrets: Vec::new() })),
    }
}

fn rating(mut f: Fields) -> Result<Rating, Reject> {
    let ended_by_kind = need(f.small("transaction_kind", 0..=u16::MAX)?, "transaction_kind")?;
    if ![kind::RECEIPT, kind::REFUND, kind::MUTUAL, kind::RULING].contains(&ended_by_kind) {
        return Err(Reject::FieldRange("transaction_kind"));
    }
    Ok(Rating {
        subject: need(f.bytes32("user_pubkey")?.map(PartyKey), "user_pubkey")?,
        rating: need(f.small("rating", 1..=5)?, "rating")?,
        comment: f.text("comment", 0..=1000)?,
        ended_by: id(&mut f, "transaction_ref")?,
        ended_by_kind,
    })
}

fn arbiter_rating(mut f: Fields) -> Result<ArbiterRating, Reject> {
    let about_kind = need(f.small("arbitration_kind", 0..=u16::MAX)?, "arbitration_kind")?;
    if ![kind::DISPUTE, kind::MUTUAL, kind::ARBITRATION, kind::RULING].contains(&about_kind) {
        return Err(Reject::FieldRange("arbitration_kind"));
    }
    Ok(ArbiterRating {
        arbiter: need(f.bytes32("arbitrator_pubkey")?.map(PartyKey), "arbitrator_pubkey")?,
        rating: need(f.small("rating", 1..=5)?, "rating")?,
        comment: f.text("comment", 0..=1000)?,
        about: id(&mut f, "arbitration_ref")?,
        about_kind,
    })
}

fn board_rating(mut f: Fields) -> Result<BoardRating, Reject> {
    let url = need(f.text("relay_url", 1..=200)?, "relay_url")?;
    if !["ws://", "wss://"].iter().any(|scheme| url.starts_with(scheme)) {
        return Err(Reject::FieldRange("relay_url"));
    }
    let mut proof = need(f.object("interaction_proof")?, "interaction_proof")?;
    Ok(BoardRating {
        url,
        rating: need(f.small("rating", 1..=5)?, "rating")?,
        comment: f.text("comment", 0..=1000)?,
        about: id(&mut proof, "event_id")?,
        payment: need(proof.hash("payment_proof")?, "payment_proof")?,
    })
}

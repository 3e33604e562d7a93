//! Generators of every trade message, within DOMP's limits.

use proptest::collection::vec;
use proptest::option::of;
use proptest::prelude::*;
use trade::{
    Acceptance, Answers, Appointment, AppointmentRequest, ArbiterRating, Bid, BoardRating, BondFate, Counter, Currency,
    Dispute, EscrowTerms, FiatBid, FiatSide, FiatTerms, Handover, Listing, Message, MessageId, Mode, Money,
    MutualCancel, OnSilence, PartyKey, PayeeBondInvoice, PaymentConfirmation, Rating, Receipt, ReceiptStatus, Refund,
    Ruling, Shipment, Shipping, TradeId,
};
use units::{Height, PaymentHash, Preimage, Sat, Unix};

use crate::samples::any_text;

const SUPPLY: u64 = 2_100_000_000_000_000;

/// Text of `min` to `max` characters.
fn text(min: usize, max: usize) -> impl Strategy<Value = String> {
    prop_oneof![any_text().prop_map(move |text| text.chars().take(max).collect::<String>()), Just("é".repeat(max)),]
        .prop_filter("too short", move |text| text.chars().count() >= min)
}

fn id() -> impl Strategy<Value = MessageId> {
    any::<[u8; 32]>().prop_map(MessageId)
}

fn party() -> impl Strategy<Value = PartyKey> {
    any::<[u8; 32]>().prop_map(PartyKey)
}

fn hash() -> impl Strategy<Value = PaymentHash> {
    any::<[u8; 32]>().prop_map(PaymentHash)
}

fn secrets() -> impl Strategy<Value = Vec<Preimage>> {
    vec(any::<[u8; 32]>().prop_map(Preimage::new), 0..=6)
}

fn sat(min: u64) -> impl Strategy<Value = Sat> {
    prop_oneof![min..1_000_000, Just(min), Just(SUPPLY)].prop_map(Sat)
}

fn invoice() -> impl Strategy<Value = String> {
    "(lnbc|lntb|lntbs|lnbcrt)[0-9a-z]{1,60}"
}

fn lock_blocks() -> impl Strategy<Value = u16> {
    prop_oneof![Just(144u16), Just(2016), 144..=2016u16]
}

fn terms() -> impl Strategy<Value = EscrowTerms> {
    (
        prop_oneof![Just(Mode::Direct), Just(Mode::Arbitrated), Just(Mode::Bonded)],
        proptest::collection::btree_set(any::<[u8; 32]>(), 0..=16),
        any::<bool>(),
        (sat(0), sat(0)),
        lock_blocks(),
        1..=4u8,
        prop_oneof![Just(OnSilence::Refund), Just(OnSilence::Release)],
    )
        .prop_map(
            |(mode, arbiters, arbiter_release, (min_payer_bond, payee_bond), lock_blocks, tranches, on_silence)| {
                let arbiters = arbiters.into_iter().map(PartyKey).collect();
                EscrowTerms {
                    mode,
                    arbiters,
                    arbiter_release,
                    min_payer_bond,
                    payee_bond,
                    lock_blocks,
                    tranches,
                    on_silence,
                }
            },
        )
}

fn money() -> impl Strategy<Value = Money> {
    let most = Money::MAX.in_hundredths();
    prop_oneof![Just(1), Just(most), 1..=most].prop_map(|n| Money::hundredths(n).expect("within bounds"))
}

fn currency() -> impl Strategy<Value = Currency> {
    "[A-Z]{3}".prop_map(|code| code.parse().expect("three capitals"))
}

fn method() -> impl Strategy<Value = String> {
    "[a-zA-Zé]{1,20}( [a-z0-9]{1,19})?"
}

fn fiat_terms() -> impl Strategy<Value = FiatTerms> {
    let premium = "-?[0-4]?[0-9](\\.[0-9]{1,2})?".prop_map(|text| text.parse().expect("within 50 per cent"));
    let methods = proptest::collection::btree_set(method(), 1..=16);
    let side = prop_oneof![Just(FiatSide::Buy), Just(FiatSide::Sell)];
    let answers = of((id(), party()).prop_map(|(order, maker)| Answers { order, maker }));
    (side, currency(), money(), money(), premium, methods, 60..=86_400u32, answers).prop_map(
        |(side, currency, one, other, premium_percent, methods, max_quote_age_secs, answers)| {
            let mut terms = FiatTerms {
                side,
                currency,
                min: one.min(other),
                max: one.max(other),
                premium_percent,
                methods: methods.into_iter().collect(),
                max_quote_age_secs,
                answers,
            };
            if answers.is_some() {
                (terms.side, terms.min) = (FiatSide::Buy, terms.max);
                terms.methods.truncate(1);
            }
            terms
        },
    )
}

fn fiat_bid() -> impl Strategy<Value = FiatBid> {
    (currency(), money(), method(), money(), 0..=253_402_300_799u64).prop_map(
        |(currency, amount, method, rate, quoted_at)| FiatBid {
            currency,
            amount,
            method,
            rate,
            quoted_at: Unix(quoted_at),
        },
    )
}

fn listing() -> impl Strategy<Value = Message> {
    let shipping = (of(sat(0)), of(sat(0)), of(1..=u16::MAX))
        .prop_map(|(domestic, international, estimated_days)| Shipping { domestic, international, estimated_days });
    let link = "(ipfs|https|http)://[a-zA-Z0-9./?=&%-]{1,60}";
    let d = text(1, 60);
    let terms = (of(terms()), of(fiat_terms()));
    (d, text(1, 100), text(0, 2000), sat(1), of(text(0, 50)), of(link), of(shipping), terms).prop_map(
        |(d, product_name, description, price, category, storage_link, shipping, (escrow, fiat))| {
            let listing =
                Listing { d, product_name, description, price, category, storage_link, shipping, escrow, fiat };
            Message::Listing(listing)
        },
    )
}

fn bid() -> impl Strategy<Value = Bid> {
    let hashes = proptest::collection::btree_set(any::<[u8; 32]>(), 0..=4);
    let hours = prop_oneof![Just(24u16), 1..=168u16];
    let quantity = prop_oneof![Just(1u32), 1..=1_000_000u32];
    let words = (of(text(0, 500)), of(fiat_bid()));
    (id(), sat(1), sat(0), hashes, of(party()), words, hours, 0..=15u8, quantity).prop_map(
        |(listing, amount, payer_bond, hashes, arbiter, (message, fiat), payment_timeout_hours, round, quantity)| Bid {
            listing,
            amount,
            payer_bond,
            payment_hashes: hashes.into_iter().map(PaymentHash).collect(),
            arbiter,
            message,
            payment_timeout_hours,
            round,
            quantity,
            fiat,
        },
    )
}

fn acceptance() -> impl Strategy<Value = Message> {
    let expiry = prop_oneof![Just(3600u32), 300..=86_400u32];
    (id(), vec(invoice(), 1..=4), of(invoice()), of(0..=90u16), of(text(0, 1000)), expiry, lock_blocks()).prop_map(
        |(bid, price_invoices, payer_bond_invoice, shipping_time_days, terms, invoice_expiry_secs, lock_blocks)| {
            Message::Acceptance(Acceptance {
                bid,
                price_invoices,
                payer_bond_invoice,
                shipping_time_days,
                terms,
                invoice_expiry_secs,
                lock_blocks,
            })
        },
    )
}

fn payment() -> impl Strategy<Value = Message> {
    (id(), hash(), of(hash()), lock_blocks(), 0..=253_402_300_799u64, of(any::<u32>())).prop_map(
        |(acceptance, payment_proof, collateral_proof, lock_blocks, paid_at, paid_height)| {
            Message::PaymentConfirmation(PaymentConfirmation {
                acceptance,
                payment_proof,
                collateral_proof,
                lock_blocks,
                paid_at: Unix(paid_at),
                paid_height: paid_height.map(Height),
            })
        },
    )
}

fn receipt() -> impl Strategy<Value = Message> {
    let status = prop_oneof![
        Just(ReceiptStatus::Received),
        Just(ReceiptStatus::PartiallyReceived),
        Just(ReceiptStatus::NotReceived),
        Just(ReceiptStatus::Damaged)
    ];
    (id(), status, of(1..=5u8), of(text(0, 1000)), text(0, 500), secrets()).prop_map(
        |(payment, status, rating, feedback, reason, secrets)| {
            let dispute_reason = (status != ReceiptStatus::Received).then_some(reason);
            Message::Receipt(Receipt { payment, status, rating, feedback, dispute_reason, secrets })
        },
    )
}

fn arbitration() -> impl Strategy<Value = Message> {
    let trade = || any::<[u8; 32]>().prop_map(TradeId);
    let request = (trade(), id(), party(), bid(), terms(), secrets()).prop_map(
        |(trade, listing, payee, bid, terms, price_secrets)| {
            Message::AppointmentRequest(AppointmentRequest { trade, listing, payee, bid, terms, price_secrets })
        },
    );
    let hashes = proptest::collection::btree_set(any::<[u8; 32]>(), 0..=4);
    let bonds = (of(hash()), of(hash()));
    let appointment = (trade(), bonds, any::<bool>(), hashes, of(terms()), sat(0), text(0, 1000), 0..=15u8).prop_map(
        |(trade, (payer_bond_hash, payee_bond_hash), confirms_release, hashes, terms, fee, policy, round)| {
            Message::Appointment(Appointment {
                payment_hashes: hashes.into_iter().map(PaymentHash).collect(),
                terms,
                trade,
                payer_bond_hash,
                payee_bond_hash,
                confirms_release,
                fee_invoice: None,
                fee,
                policy,
                round,
            })
        },
    );
    let fate = || prop_oneof![Just(BondFate::Return), Just(BondFate::Forfeit)];
    let ruling = (trade(), id(), 0..=4u8, fate(), fate(), text(0, 2000), secrets()).prop_map(
        |(trade, dispute, payee_tranches, payer_bond, payee_bond, resolution, secrets)| {
            Message::Ruling(Ruling { trade, dispute, payee_tranches, payer_bond, payee_bond, resolution, secrets })
        },
    );
    prop_oneof![request, appointment, ruling]
}

/// Any message that our own side could say, and that has to arrive as it was said.
pub(crate) fn any_message() -> impl Strategy<Value = Message> {
    let counter = (id(), sat(1)).prop_map(|(bid, amount)| Message::Counter(Counter { bid, amount }));
    let bond = (id(), id(), sat(1), invoice()).prop_map(|(listing, acceptance, amount, invoice)| {
        Message::PayeeBondInvoice(PayeeBondInvoice { listing, acceptance, amount, invoice })
    });
    let dispute = (id(), text(1, 100), text(0, 2000))
        .prop_map(|(payment, reason, details)| Message::Dispute(Dispute { payment, reason, details }));
    let refund = (id(), text(0, 500)).prop_map(|(payment, reason)| Message::Refund(Refund { payment, reason }));
    let mutual = (id(), text(0, 500))
        .prop_map(|(payment, agreement)| Message::MutualCancel(MutualCancel { payment, agreement }));
    let shipment = (id(), text(0, 500), of(text(0, 200)))
        .prop_map(|(payment, note, tracking)| Message::Shipment(Shipment { payment, note, tracking }));
    let handover = (id(), text(0, 500), secrets())
        .prop_map(|(payment, note, secrets)| Message::Handover(Handover { payment, note, secrets }));
    let kinds = prop_oneof![Just(313u16), Just(314), Just(315), Just(317)];
    let rating = (party(), 1..=5u8, of(text(0, 1000)), id(), kinds).prop_map(
        |(subject, rating, comment, ended_by, ended_by_kind)| {
            Message::Rating(Rating { subject, rating, comment, ended_by, ended_by_kind })
        },
    );
    let kinds = prop_oneof![Just(312u16), Just(315), Just(316), Just(317)];
    let arbiter_rating =
        (party(), 1..=5u8, of(text(0, 1000)), id(), kinds).prop_map(|(arbiter, rating, comment, about, about_kind)| {
            Message::ArbiterRating(ArbiterRating { arbiter, rating, comment, about, about_kind })
        });
    let board_rating = ("wss?://[a-z.:0-9]{1,60}", 1..=5u8, of(text(0, 1000)), id(), hash()).prop_map(
        |(url, rating, comment, about, payment)| {
            Message::BoardRating(BoardRating { url, rating, comment, about, payment })
        },
    );
    prop_oneof![
        2 => listing(),
        2 => bid().prop_map(Message::Bid),
        1 => counter,
        2 => acceptance(),
        1 => bond,
        2 => payment(),
        1 => dispute,
        2 => receipt(),
        1 => prop_oneof![refund, mutual],
        3 => arbitration(),
        1 => shipment,
        1 => handover,
        1 => rating,
        1 => arbiter_rating,
        1 => board_rating,
    ]
}

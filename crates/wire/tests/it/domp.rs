//! Trade messages as DOMP events: everything survives the wire, nothing secret gets out, nothing foreign gets in.

use bitcoin::hashes::{Hash, sha256};
use proptest::prelude::*;
use serde_json::{Value, json};
use trade::{
    Appointment, Delisting, Handover, Message, MessageId, PartyKey, Receipt, ReceiptStatus, Shipment, TradeId,
};
use units::{Preimage, Sat, Unix, hex32};
use wire::domp::sealed::{self, Chat, OpenError, Opened, Private};
use wire::domp::{
    AntiSpam, CREATED_AT_MIN, Context, Proof, Reject, Transport, Unsendable, decode, encode, kind, unsigned,
};
use wire::event::pubkey_of;
use wire::{Event, Forged, Limits, Malformed, Tag, Unsigned, pow, seal};

use crate::messages::any_message;
use crate::samples::key;

const NOW: Unix = Unix(1_790_000_000);

fn party(n: u8) -> PartyKey {
    PartyKey(pubkey_of(&key(n)))
}

fn context(message: &Message) -> Context {
    Context {
        at: NOW,
        prev: Some(message.prev().unwrap_or(MessageId([7; 32]))),
        trade: message.trade(),
        ..Context::default()
    }
}

fn stripped(message: &Message) -> Message {
    let mut message = message.clone();
    message.set_secrets(Vec::new());
    match &mut message {
        Message::Shipment(shipment) => shipment.tracking = None,
        Message::Appointment(appointment) => appointment.fee_invoice = None,
        _ => {}
    }
    message
}

proptest! {
    #[test]
    fn every_message_survives_the_wire_and_its_secrets_only_travel_sealed(
        message in any_message(),
        root in proptest::option::of(any::<[u8; 32]>()),
        tag_trade in any::<bool>(),
        expiration in proptest::option::of(0..=wire::INTEGER_MAX),
    ) {
        let mut context = context(&message);
        context.root = root.map(MessageId);
        context.trade = message.trade().or(tag_trade.then_some(TradeId([3; 32])));
        context.to = vec![party(2), party(3)];
        context.relay = "wss://board.example".to_owned();
        context.expiration = expiration.map(Unix);
        let event = encode(&message, &context, &key(1), Transport::Sealed).unwrap();
        prop_assert_eq!(event.to_json(), encode(&message, &context, &key(1), Transport::Sealed).unwrap().to_json());

        // In the open.
        let public = encode(&message, &context, &key(1), Transport::Public);
        if message.always_sealed() {
            prop_assert_eq!(public.unwrap_err(), Unsendable::NeverPublic);
            prop_assert_eq!(decode(&event).unwrap_err(), Reject::NeverPublic);
        } else {
            prop_assert!(public.unwrap() == event, "the id does not depend on the transport");
            let decoded = decode(&Event::parse(event.to_json().as_bytes(), &Limits::STRICT).unwrap()).unwrap();
            prop_assert_eq!(&decoded.message, &stripped(&message));
            prop_assert_eq!((decoded.author, decoded.id, decoded.at), (party(1), MessageId(event.id), NOW));
            let listing = matches!(message, Message::Listing(_));
            prop_assert_eq!(decoded.prev, if listing { None } else { context.prev });
            prop_assert_eq!(decoded.trade, context.trade);
            prop_assert_eq!(&decoded.to, &context.to);
            prop_assert_eq!(decoded.expiration, context.expiration);
            prop_assert_eq!(decoded.via, None);
            if !listing && !matches!(message, Message::Bid(_)) {
                prop_assert_eq!(decoded.root, context.root);
            }
        }
        for secret in message.secrets() {
            prop_assert!(!event.to_json().contains(&hex32(secret.expose())));
        }

        // Sealed.
        let wrap = sealed::copy(&event, &Private::of(&message), &key(1), party(2), NOW, &[4; 32]).unwrap();
        let Opened::Step(opened) = sealed::open(&wrap, &key(2)).unwrap() else { panic!() };
        prop_assert_eq!(&opened.message, &message);
        prop_assert_eq!((opened.author, opened.id, opened.via), (party(1), MessageId(event.id), Some(party(1))));
        prop_assert_eq!(opened.into_envelope().message, message);
    }

    #[test]
    fn a_changed_content_is_refused_or_means_something_else(
        message in any_message(), at in any::<prop::sample::Index>(), with in "[ -~]",
    ) {
        prop_assume!(!message.always_sealed());
        let event = encode(&message, &context(&message), &key(1), Transport::Public).unwrap();
        let mut changed = event.clone().into_unsigned();
        let (at, _) = changed.content.char_indices().nth(at.index(changed.content.chars().count())).unwrap();
        let end = at + changed.content[at..].chars().next().unwrap().len_utf8();
        changed.content.replace_range(at..end, &with);
        let changed = changed.sign(&key(1), &[0; 32]);
        if let Ok(decoded) = decode(&changed) {
            // Whatever was understood can be said again.
            let mut again = context(&decoded.message);
            again.prev = decoded.prev;
            encode(&decoded.message, &again, &key(1), Transport::Public).unwrap();
        }
        let forged = Event { sig: event.sig, ..changed.clone() };
        prop_assert!(changed == event || decode(&forged).is_err());
    }

    #[test]
    fn no_content_makes_the_reader_panic(kind in prop::sample::select(&kind::ALL[..]), content in any::<String>()) {
        let mut bytes = kind.to_be_bytes().to_vec();
        bytes.extend(content.as_bytes());
        wire::fuzz::domp_content(&bytes);
        wire::fuzz::sealed_content(content.as_bytes());
    }
}

/// A valid event of `kind` as DOMP's own code would emit it, content and tags open to change.
fn sample(kind: u16) -> (Value, Vec<Tag>) {
    let id = "11".repeat(32);
    let tag = |elements: &[&str]| elements.iter().map(ToString::to_string).collect::<Tag>();
    let reference = tag(&["ref", &id, "", "reply"]);
    let spam = tag(&["anti_spam_proof", "ref", &"0".repeat(64), "300"]);
    let content = match kind {
        kind::LISTING => json!({"product_name": "Lamp", "description": "Brass", "price_satoshis": 50_000}),
        kind::BID => {
            json!({"product_ref": id, "bid_amount_satoshis": 50_000, "buyer_collateral_satoshis": 50_000})
        }
        kind::ACCEPTANCE => json!({"bid_ref": id, "ln_invoice": "lnbc500u1pexample"}),
        kind::PAYMENT => json!({
            "bid_ref": id, "payment_proof": "22".repeat(32), "payment_method": "lightning_htlc",
            "payment_timestamp": 1_790_000_000,
        }),
        kind::RECEIPT => json!({
            "payment_ref": id, "status": "received", "delivery_confirmation_time": 1_790_000_000,
            "would_buy_again": true,
        }),
        _ => panic!("no schema"),
    };
    match kind {
        kind::LISTING => (content, vec![tag(&["d", "lamp-1"]), spam]),
        kind::BID => (content, vec![spam, tag(&["ref", &id, "", "root"])]),
        _ => (content, vec![spam, reference]),
    }
}

fn signed(kind: u16, content: &Value, tags: Vec<Tag>) -> Event {
    let content = content.to_string();
    Unsigned { pubkey: [0; 32], created_at: NOW, kind, tags, content }.sign(&key(1), &[0; 32])
}

/// What becomes of the sample of `kind` when `field` is set to `with` (removed when null).
fn spoiled(kind: u16, field: &str, with: Value) -> Result<Message, Reject> {
    let (mut content, tags) = sample(kind);
    match with {
        Value::Null => drop(content.as_object_mut().unwrap().remove(field)),
        with => content[field] = with,
    }
    decode(&signed(kind, &content, tags)).map(|decoded| decoded.message)
}

#[test]
fn events_as_domp_clients_emit_them_are_read_with_their_defaults() {
    for kind in [kind::LISTING, kind::BID, kind::ACCEPTANCE, kind::PAYMENT, kind::RECEIPT] {
        let (content, tags) = sample(kind);
        let decoded = decode(&signed(kind, &content, tags)).unwrap();
        match decoded.message {
            Message::Listing(m) => assert!(m.escrow.is_none() && m.d == "lamp-1" && decoded.prev.is_none()),
            Message::Bid(m) => assert_eq!((m.payment_timeout_hours, m.payment_hashes.len(), m.round), (24, 0, 0)),
            Message::Acceptance(m) => assert_eq!((m.invoice_expiry_secs, m.lock_blocks), (3600, 144)),
            Message::PaymentConfirmation(m) => assert_eq!((m.lock_blocks, m.paid_at), (144, NOW)),
            Message::Receipt(m) => assert_eq!((m.status, m.secrets.len()), (ReceiptStatus::Received, 0)),
            other => panic!("{other:?}"),
        }
        assert_eq!(decoded.proofs, [AntiSpam::Ref { id: MessageId([0; 32]) }]);
    }
}

#[test]
fn defaults_are_not_written() {
    let (content, tags) = sample(kind::ACCEPTANCE);
    let decoded = decode(&signed(kind::ACCEPTANCE, &content, tags)).unwrap();
    let again = encode(&decoded.message, &context(&decoded.message), &key(1), Transport::Public).unwrap();
    assert_eq!(serde_json::from_str::<Value>(&again.content).unwrap(), content);
}

#[test]
fn the_limits_of_the_schemas_are_kept() {
    use kind::{ACCEPTANCE, BID, LISTING, PAYMENT, RECEIPT};
    let range = |field| Err(Reject::FieldRange(field));
    let missing = |field| Err(Reject::FieldMissing(field));
    for (kind, field, with, expected) in [
        (LISTING, "product_name", json!(""), range("product_name")),
        (LISTING, "product_name", json!("é".repeat(101)), range("product_name")),
        (LISTING, "product_name", json!(7), Err(Reject::FieldType("product_name"))),
        (LISTING, "description", Value::Null, missing("description")),
        (LISTING, "description", json!("x".repeat(2001)), range("description")),
        (LISTING, "price_satoshis", json!(0), range("price_satoshis")),
        (LISTING, "price_satoshis", json!(-5), range("price_satoshis")),
        (LISTING, "price_satoshis", json!(1.5), range("price_satoshis")),
        (LISTING, "price_satoshis", json!(2_100_000_000_000_001u64), range("price_satoshis")),
        (LISTING, "price_satoshis", json!("50000"), Err(Reject::FieldType("price_satoshis"))),
        (LISTING, "category", json!("x".repeat(51)), range("category")),
        (LISTING, "storage_link", json!("file:///etc"), range("storage_link")),
        (LISTING, "shipping_info", json!({"estimated_days": 0}), range("estimated_days")),
        (LISTING, "shipping_info", json!({"via": "post"}), Err(Reject::UnknownField("via".into()))),
        (LISTING, "condition", json!("new"), Err(Reject::UnknownField("condition".into()))),
        (LISTING, "escrow", json!({"mode": "direct", "lock_blocks": 720}), missing("on_silence")),
        (LISTING, "escrow", json!({"mode": "trust", "lock_blocks": 720, "on_silence": "refund"}), range("mode")),
        (BID, "product_ref", json!("lamp-1"), range("product_ref")),
        (BID, "bid_amount_satoshis", json!(0), range("bid_amount_satoshis")),
        (BID, "buyer_collateral_satoshis", Value::Null, missing("buyer_collateral_satoshis")),
        (BID, "message", json!("x".repeat(501)), range("message")),
        (BID, "payment_timeout_hours", json!(169), range("payment_timeout_hours")),
        (BID, "payment_hashes", json!(["22".repeat(32), "22".repeat(32)]), range("payment_hashes")),
        (BID, "payment_hashes", json!(vec!["22".repeat(32); 5]), range("payment_hashes")),
        (BID, "shipping_address_hash", json!("22"), range("shipping_address_hash")),
        (ACCEPTANCE, "ln_invoice", json!("lnxx1"), range("ln_invoice")),
        (ACCEPTANCE, "ln_invoice", json!("LNBC1A"), range("ln_invoice")),
        (ACCEPTANCE, "ln_invoice", json!("lnbc"), range("ln_invoice")),
        (ACCEPTANCE, "collateral_invoice", json!("lnbc 1"), range("collateral_invoice")),
        (ACCEPTANCE, "price_invoices", json!(["lnbc1a", "x"]), range("price_invoices")),
        (ACCEPTANCE, "shipping_time_days", json!(91), range("shipping_time_days")),
        (ACCEPTANCE, "invoice_expiry_seconds", json!(299), range("invoice_expiry_seconds")),
        (ACCEPTANCE, "htlc_timeout_blocks", json!(143), range("htlc_timeout_blocks")),
        (ACCEPTANCE, "htlc_timeout_blocks", json!(2017), range("htlc_timeout_blocks")),
        (PAYMENT, "payment_method", json!("lightning_keysend"), range("payment_method")),
        (PAYMENT, "payment_method", Value::Null, missing("payment_method")),
        (PAYMENT, "payment_proof", json!("22".repeat(16)), range("payment_proof")),
        (PAYMENT, "escrow_timeout_blocks", json!(100), range("escrow_timeout_blocks")),
        (RECEIPT, "status", json!("lost"), range("status")),
        (RECEIPT, "status", json!("damaged"), missing("dispute_reason")),
        (RECEIPT, "dispute_reason", json!("late"), Err(Reject::FieldForbidden("dispute_reason"))),
        (RECEIPT, "rating", json!(6), range("rating")),
        (RECEIPT, "item_condition", json!("fine"), range("item_condition")),
        (RECEIPT, "would_buy_again", json!("yes"), Err(Reject::FieldType("would_buy_again"))),
        (RECEIPT, "preimage_reveal", json!("22".repeat(32)), Err(Reject::SecretInPublic)),
        (RECEIPT, "secrets", json!([]), Err(Reject::SecretInPublic)),
    ] {
        assert_eq!(spoiled(kind, field, with.clone()), expected, "{kind} {field} {with}");
    }
}

/// Synthetic twins of the samples that DOMP publishes as valid: each has the defect of one of them.
#[test]
fn domps_own_malformed_samples_are_refused_each_for_its_reason() {
    let (content, tags) = sample(kind::LISTING);
    let good = signed(kind::LISTING, &content, tags.clone());
    let parse = |json: String| Event::parse(json.as_bytes(), &Limits::STRICT);
    let good_json: Value = serde_json::from_str(&good.to_json()).unwrap();
    let with = |field: &str, value: String| {
        let mut json = good_json.clone();
        json[field] = json!(value);
        parse(json.to_string())
    };
    // Its published test vectors: ids of 66 characters, signatures of 129.
    assert_eq!(with("id", format!("{}ab", hex32(&good.id))).unwrap_err(), Malformed::NotHex("id"));
    assert_eq!(with("sig", format!("{}0", good_json["sig"].as_str().unwrap())).unwrap_err(), Malformed::NotHex("sig"));

    let spam = |elements: &[&str]| {
        let mut tags = tags.clone();
        tags[1] = elements.iter().map(ToString::to_string).collect();
        decode(&signed(kind::LISTING, &content, tags)).map(|decoded| decoded.proofs)
    };
    // Its `ln` proofs: hashes of 32 characters.
    let malformed = Err(Reject::TagMalformed("anti_spam_proof"));
    assert_eq!(spam(&["anti_spam_proof", "ln", &"ab".repeat(16)]), malformed);
    let hash = units::PaymentHash([0xab; 32]);
    assert_eq!(spam(&["anti_spam_proof", "ln", &"ab".repeat(32)]), Ok(vec![AntiSpam::Ln { hash, amount_msat: None }]));
    let paid = spam(&["anti_spam_proof", "ln", &"ab".repeat(32), "1000"]);
    assert_eq!(paid, Ok(vec![AntiSpam::Ln { hash, amount_msat: Some(1000) }]));
    assert_eq!(spam(&["anti_spam_proof", "burn", "x"]), malformed);
    assert_eq!(spam(&["x"]), Err(Reject::AntiSpamMissing));

    // Its mined listing: a valid id and signature, a claim of 16 bits, and an id with hardly a zero.
    let Err(Reject::PowUnmet { claimed: 16, found }) = spam(&["anti_spam_proof", "pow", "12345", "16"]) else {
        panic!()
    };
    assert!(found < 16);

    // Its other mined listings: the id has the zeros, but it is the hash with an empty public key, and the signature is over
    // that id, so only the id gives the forgery away.
    let mut tags = tags.clone();
    tags[1] = ["anti_spam_proof", "pow", "1", "0"].map(str::to_owned).to_vec();
    let mut hashed_without_key = signed(kind::LISTING, &content, tags);
    let preimage =
        json!([0, "", NOW.0, kind::LISTING, hashed_without_key.tags, hashed_without_key.content]).to_string();
    hashed_without_key.id = sha256::Hash::hash(preimage.as_bytes()).to_byte_array();
    let message = secp256k1::Message::from_digest(hashed_without_key.id);
    hashed_without_key.sig = secp256k1::SECP256K1.sign_schnorr_with_aux_rand(&message, &key(1), &[0; 32]).serialize();
    assert_eq!(decode(&hashed_without_key), Err(Reject::Forged(Forged::BadId)));
}

#[test]
fn a_step_must_say_the_same_in_content_and_tags() {
    let (content, tags) = sample(kind::RECEIPT);
    let attempt = |change: &dyn Fn(&mut Vec<Tag>)| {
        let mut tags = tags.clone();
        change(&mut tags);
        decode(&signed(kind::RECEIPT, &content, tags)).map(drop)
    };
    let tag = |elements: &[&str]| elements.iter().map(ToString::to_string).collect::<Tag>();
    assert_eq!(attempt(&|_| {}), Ok(()));
    assert_eq!(attempt(&|tags| drop(tags.pop())), Err(Reject::RefMissing));
    assert_eq!(attempt(&|tags| tags[1][3] = "mention".into()), Err(Reject::RefMissing));
    assert_eq!(attempt(&|tags| tags[1][1] = "33".repeat(32)), Err(Reject::RefMismatch));
    assert_eq!(attempt(&|tags| tags[1][1] = "33".into()), Err(Reject::TagMalformed("ref")));
    assert_eq!(attempt(&|tags| tags.push(tags[1].clone())), Err(Reject::TagMalformed("ref")));
    assert_eq!(attempt(&|tags| tags.push(tag(&["p", "me"]))), Err(Reject::TagMalformed("p")));
    assert_eq!(attempt(&|tags| tags.push(tag(&["expiration", "soon"]))), Err(Reject::TagMalformed("expiration")));
    assert_eq!(attempt(&|tags| tags.push(tag(&["client", "other"]))), Ok(()));
    let appointment = json!({"trade": "44".repeat(32), "confirms_release": true, "fee": 0, "policy": ""});
    let of_trade = |trade: &str| {
        let mut tags = tags.clone();
        tags.push(tag(&["trade", &trade.repeat(32)]));
        decode(&signed(kind::ARBITRATION, &appointment, tags)).map(|decoded| decoded.trade)
    };
    assert_eq!(of_trade("44"), Ok(Some(TradeId([0x44; 32]))));
    assert_eq!(of_trade("45"), Err(Reject::RefMismatch));
    let (content, mut tags) = sample(kind::LISTING);
    tags.remove(0);
    assert_eq!(decode(&signed(kind::LISTING, &content, tags)), Err(Reject::TagMissing("d")));
    let old =
        Unsigned { pubkey: [0; 32], created_at: Unix(CREATED_AT_MIN.0 - 1), kind: kind::LISTING, ..good_listing() };
    assert_eq!(decode(&old.sign(&key(1), &[0; 32])), Err(Reject::CreatedAt));
    let other = Unsigned { kind: 1, ..good_listing() };
    assert_eq!(decode(&other.sign(&key(1), &[0; 32])), Err(Reject::UnknownKind(1)));
    for (text, reason) in [
        ("[]", Malformed::WrongType("content")),
        ("", Malformed::Syntax),
        ("{\"a\":1,\"a\":1}", Malformed::DuplicateKey),
        ("{} {}", Malformed::Trailing),
    ] {
        let odd = Unsigned { content: text.into(), ..good_listing() }.sign(&key(1), &[0; 32]);
        assert_eq!(decode(&odd), Err(Reject::Content(reason)), "{text}");
    }
}

fn good_listing() -> Unsigned {
    let (content, tags) = sample(kind::LISTING);
    signed(kind::LISTING, &content, tags).into_unsigned()
}

#[test]
fn what_we_would_not_take_we_do_not_send() {
    let receipt = |status, dispute_reason| {
        let payment = MessageId([1; 32]);
        Message::Receipt(Receipt { payment, status, rating: None, feedback: None, dispute_reason, secrets: vec![] })
    };
    let send = |message: &Message| encode(message, &context(message), &key(1), Transport::Public).map(drop);
    assert_eq!(send(&receipt(ReceiptStatus::Received, None)), Ok(()));
    let refused = |reject| Err(Unsendable::WouldBeRefused(reject));
    assert_eq!(send(&receipt(ReceiptStatus::Damaged, None)), refused(Reject::FieldMissing("dispute_reason")));
    let foreign = Context { trade: Some(TradeId([1; 32])), prev: Some(MessageId([9; 32])), ..Context::default() };
    let message = receipt(ReceiptStatus::Received, None);
    let early = Context { at: Unix(1), ..foreign.clone() };
    assert_eq!(
        encode(&message, &early, &key(1), Transport::Public),
        refused(Reject::CreatedAt).map(|()| unreachable!())
    );
    let long = Context { at: NOW, to: vec![party(1); 17], ..foreign };
    let refused_tag = Unsendable::WouldBeRefused(Reject::TagMalformed("p"));
    assert_eq!(encode(&message, &long, &key(1), Transport::Public), Err(refused_tag));
}

#[test]
fn a_mined_message_proves_its_work_in_both_ways_of_saying_it() {
    let message = Message::Counter(trade::Counter { bid: MessageId([1; 32]), amount: units::Sat(5) });
    let context = Context { at: NOW, proof: Proof::Mined, ..Context::default() };
    let mine = || {
        let unsigned = unsigned(&message, &context, party(1), Transport::Public).unwrap();
        let mut miner = pow::Miner::new(unsigned, 8, true, 0, 1);
        (0..100).find_map(|_| miner.step(100)).unwrap().sign(&key(1), &[0; 32])
    };
    let event = mine();
    let decoded = decode(&event).unwrap();
    assert_eq!(decoded.proofs, [AntiSpam::Pow { target: 8 }]);
    assert_eq!((pow::proven(&event), decoded.message), (8, message.clone()));
    assert_eq!(event.to_json(), mine().to_json());
    let unmined = unsigned(&message, &context, party(1), Transport::Public).unwrap().sign(&key(1), &[0; 32]);
    assert_eq!(decode(&unmined), Err(Reject::AntiSpamMissing));
}

fn shipment(tracking: Option<&str>) -> Message {
    let tracking = tracking.map(str::to_owned);
    Message::Shipment(Shipment { payment: MessageId([1; 32]), note: "sent".into(), tracking })
}

#[test]
fn a_party_shows_an_arbiter_what_the_other_signed_but_adds_no_secrets_to_it() {
    let message = shipment(Some("TRACK-7"));
    let event = encode(&message, &context(&message), &key(1), Transport::Sealed).unwrap();
    assert!(!event.to_json().contains("TRACK-7"));
    let shown = sealed::copy(&event, &Private::default(), &key(2), party(3), NOW, &[1; 32]).unwrap();
    let Ok(Opened::Step(step)) = sealed::open(&shown, &key(3)) else { panic!() };
    assert_eq!((step.author, step.via, &step.message), (party(1), Some(party(2)), &shipment(None)));
    assert_eq!(step.into_envelope().via, Some(party(2)));
    let added = sealed::copy(&event, &Private::of(&message), &key(2), party(3), NOW, &[1; 32]).unwrap();
    assert_eq!(sealed::open(&added, &key(3)), Err(OpenError::Inside(Reject::ForeignSecrets)));
    let secret = Private { secrets: vec![Preimage::new([1; 32])], ..Private::default() };
    for stray in [secret, Private { fee_invoice: Some("lnbcrt1".into()), ..Private::default() }] {
        let stray = sealed::copy(&event, &stray, &key(1), party(3), NOW, &[1; 32]).unwrap();
        assert_eq!(sealed::open(&stray, &key(3)), Err(OpenError::Inside(Reject::ForeignSecrets)));
    }

    let told = Message::Handover(Handover {
        payment: MessageId([1; 32]),
        note: String::new(),
        secrets: vec![Preimage::new([1; 32])],
    });
    let event = encode(&told, &context(&told), &key(1), Transport::Sealed).unwrap();
    let passed_on = sealed::copy(&event, &Private::default(), &key(2), party(3), NOW, &[1; 32]).unwrap();
    assert_eq!(sealed::open(&passed_on, &key(3)), Err(OpenError::Inside(Reject::NeverPublic)));
    assert!(!format!("{:?}", Private::of(&told)).contains("0101"));
}

#[test]
fn the_invoice_of_a_fee_travels_sealed_and_short() {
    let appointment = |invoice: Option<String>| {
        Message::Appointment(Appointment {
            trade: TradeId([4; 32]),
            payer_bond_hash: None,
            payee_bond_hash: None,
            confirms_release: false,
            payment_hashes: Vec::new(),
            terms: None,
            fee: Sat(300),
            fee_invoice: invoice,
            policy: "fair".into(),
            round: 0,
        })
    };
    let message = appointment(Some("lnbcrt1fee".into()));
    for transport in [Transport::Sealed, Transport::Public] {
        let event = encode(&message, &context(&message), &key(1), transport).unwrap();
        assert!(!event.to_json().contains("lnbcrt1fee"), "the event itself is without it");
        assert_eq!(event, encode(&appointment(None), &context(&message), &key(1), transport).unwrap());
        let copy = sealed::copy(&event, &Private::of(&message), &key(1), party(2), NOW, &[1; 32]).unwrap();
        let Ok(Opened::Step(step)) = sealed::open(&copy, &key(2)) else { panic!() };
        assert_eq!(step.message, message);
        let long = Private { fee_invoice: Some("l".repeat(2049)), ..Private::default() };
        let long = sealed::copy(&event, &long, &key(1), party(2), NOW, &[1; 32]).unwrap();
        let refused = OpenError::Inside(Reject::Envelope(Malformed::OutOfRange("fee_invoice")));
        assert_eq!(sealed::open(&long, &key(2)), Err(refused));
    }
    let public = serde_json::json!({"trade": "44".repeat(32), "confirms_release": true, "fee": 1, "policy": "",
        "fee_invoice": "lnbcrt1fee"});
    let event = encode(&message, &context(&message), &key(1), Transport::Public).unwrap();
    let raw = Unsigned {
        pubkey: event.pubkey,
        created_at: event.created_at,
        kind: event.kind,
        tags: event.tags.clone(),
        content: public.to_string(),
    };
    assert_eq!(decode(&raw.sign(&key(1), &[0; 32])), Err(Reject::SecretInPublic));
}

#[test]
fn a_sealed_copy_is_checked_like_a_public_event() {
    let message = shipment(None);
    let event = encode(&message, &context(&message), &key(1), Transport::Sealed).unwrap();
    let good = sealed::rumor(&event, &Private::default(), party(1), party(2));
    let open = |content: String| {
        let rumor = Unsigned { content, ..good.clone() };
        let wrap = seal::wrap(&rumor, &key(1), &party(2).0, NOW, None, &[1; 32]).unwrap();
        sealed::open(&wrap, &key(2)).map(drop)
    };
    let inside = |reject| Err(OpenError::Inside(reject));
    assert_eq!(open(good.content.clone()), Ok(()));
    assert_eq!(open(good.content.replace("sent", "lost")), inside(Reject::Forged(Forged::BadId)));
    assert_eq!(open("{}".into()), inside(Reject::Envelope(Malformed::Missing("event"))));
    let with = |extra: &str| format!("{},{extra}}}", &good.content[..good.content.len() - 1]);
    assert_eq!(open(with("\"x\":1")), inside(Reject::Envelope(Malformed::UnknownKey)));
    assert_eq!(open(with("\"secrets\":[\"ab\"]")), inside(Reject::Envelope(Malformed::NotHex("secret"))));
    let many = vec![format!("\"{}\"", "ab".repeat(32)); 7].join(",");
    assert_eq!(open(with(&format!("\"secrets\":[{many}]"))), inside(Reject::Envelope(Malformed::TooMany("secrets"))));
}

#[test]
fn pledges_travel_beside_a_message_and_only_from_its_author() {
    let message = shipment(None);
    let event = encode(&message, &context(&message), &key(1), Transport::Sealed).unwrap();
    let pledge = Unsigned { kind: kind::PLEDGE, ..event.clone().into_unsigned() }.sign(&key(1), &[0; 32]);
    let private = Private { pledges: vec![pledge.clone(), pledge.clone()], ..Private::default() };
    let copy = sealed::copy(&event, &private, &key(1), party(2), NOW, &[1; 32]).unwrap();
    let Ok(Opened::Step(step)) = sealed::open(&copy, &key(2)) else { panic!() };
    assert_eq!((&step.pledges, &step.message), (&private.pledges, &message));
    let passed_on = sealed::copy(&event, &private, &key(2), party(3), NOW, &[1; 32]).unwrap();
    assert_eq!(sealed::open(&passed_on, &key(3)), Err(OpenError::Inside(Reject::ForeignSecrets)));
    let many = Private { pledges: vec![pledge; 4], ..Private::default() };
    let many = sealed::copy(&event, &many, &key(1), party(2), NOW, &[1; 32]).unwrap();
    let refused = OpenError::Inside(Reject::Envelope(Malformed::TooMany("pledges")));
    assert_eq!(sealed::open(&many, &key(2)), Err(refused));
}

#[test]
fn chat_is_sealed_and_is_no_step() {
    let chat = Chat { author: party(1), at: NOW, about: MessageId([5; 32]), text: "where is it?".into() };
    let wrap = seal::wrap(&chat.rumor(party(2)), &key(1), &party(2).0, NOW, None, &[1; 32]).unwrap();
    assert_eq!(sealed::open(&wrap, &key(2)), Ok(Opened::Chat(chat.clone())));
    assert!(!format!("{chat:?}").contains("where"));
    let public = chat.rumor(party(2)).sign(&key(1), &[0; 32]);
    assert_eq!(decode(&public), Err(Reject::NotAStep));
}

#[test]
fn a_delisting_is_a_deletion_that_every_relay_understands() {
    let listings = vec![MessageId([1; 32]), MessageId([2; 32])];
    let message = Message::Delisting(Delisting { listings, reason: "sold elsewhere".to_owned() });
    let event = encode(&message, &context(&message), &key(1), Transport::Public).unwrap();
    assert_eq!((event.kind, event.content.as_str()), (5, "sold elsewhere"));
    assert_eq!(event.tag_values("e").collect::<Vec<_>>(), ["01".repeat(32), "02".repeat(32)]);
    assert_eq!(event.tag_values("k").collect::<Vec<_>>(), ["300"]);
    assert_eq!(decode(&event).unwrap().message, message);
    let mut nothing = event.into_unsigned();
    nothing.tags.clear();
    assert_eq!(decode(&nothing.sign(&key(1), &[0; 32])).unwrap_err(), Reject::TagMalformed("e"));
}

#[test]
fn ratings_of_arbiters_and_boards_keep_domps_fields() {
    let id = "11".repeat(32);
    let arbiter = json!({
        "arbitrator_pubkey": "33".repeat(32), "rating": 4, "comment": "fair", "arbitration_ref": id,
        "arbitration_kind": 317,
    });
    let board = json!({
        "relay_url": "wss://board", "rating": 2, "interaction_proof": {"payment_proof": "22".repeat(32), "event_id": id},
    });
    for (kind, content, bad) in [
        (kind::ARBITER_RATING, arbiter, [("rating", json!(6)), ("arbitration_kind", json!(313))]),
        (kind::BOARD_RATING, board, [("relay_url", json!("https://board")), ("interaction_proof", json!({}))]),
    ] {
        let (_, tags) = sample(kind::RECEIPT);
        decode(&signed(kind, &content, tags.clone())).unwrap();
        for (field, with) in bad {
            let mut spoiled = content.clone();
            spoiled[field] = with;
            assert!(decode(&signed(kind, &spoiled, tags.clone())).is_err(), "{field}");
        }
    }
}

//! Invoices: the spec's own example, and the ways to mislead with one.

use bitcoin::hashes::{Hash, sha256};
use lightning_invoice::{Bolt11Invoice, Currency, InvoiceBuilder, MinFinalCltvExpiryDelta, PaymentSecret, TaggedField};
use proptest::prelude::*;
use secp256k1::{SECP256K1, SecretKey};
use std::time::Duration;
use units::{Msat, PaymentHash, Unix};
use wire::invoice::{INVOICE_MAX, InvoiceError, description_hash, parse_invoice};

/// From the examples of BOLT#11: "Please send $30 for coffee beans", features 8, 14 and 99.
const EXAMPLE: &str = "lnbc25m1pvjluezpp5qqqsyqcyq5rqwzqfqqqsyqcyq5rqwzqfqqqsyqcyq5rqwzqfqypqdq5vdhkven9v5sxyetpdeessp5zyg3zyg3zyg3zyg3zyg3zyg3zyg3zyg3zyg3zyg3zyg3zyg3zygs9q5sqqqqqqqqqqqqqqqpqsq67gye39hfg3zd8rgc80k32tvy9xk2xunwm5lzexnvpx6fd77en8qaq424dxgt56cag2dpt359k3ssyhetktkpqh24jqnjyw6uqd08sgptq44qu";

/// A regtest invoice for `amount` millisatoshis on the hash of `[n; 32]`.
pub(crate) fn invoice(n: u8, amount: Option<u64>) -> String {
    let builder = InvoiceBuilder::new(Currency::Regtest)
        .description("souk".into())
        .payment_hash(sha256::Hash::hash(&[n; 32]))
        .payment_secret(PaymentSecret([n; 32]))
        .duration_since_epoch(Duration::from_secs(1_700_000_000))
        .expiry_time(Duration::from_secs(900))
        .min_final_cltv_expiry_delta(720);
    let builder = match amount {
        Some(amount) => builder.amount_milli_satoshis(amount),
        None => builder,
    };
    let key = SecretKey::from_slice(&[5; 32]).unwrap();
    builder.build_signed(|hash| SECP256K1.sign_ecdsa_recoverable(hash, &key)).unwrap().to_string()
}

#[test]
fn the_example_of_bolt11_says_what_the_spec_says() {
    let facts = parse_invoice(EXAMPLE).unwrap();
    assert_eq!(facts.network, "bitcoin");
    assert_eq!(facts.payee, "03e7156ae33b0a208d0744199163177e909e80176e55d97a2f221ede0f934dd9ad");
    let hash: PaymentHash = "0001020304050607080900010203040506070809000102030405060708090102".parse().unwrap();
    assert_eq!(facts.hash, hash);
    assert_eq!(facts.amount, Some(Msat(2_500_000_000)));
    assert_eq!(facts.min_final_cltv, 18);
    assert_eq!(facts.expires_at, Unix(1_496_314_658 + 3600));
    assert!(facts.features_known);
}

/// From the examples of BOLT#11: "a list of items", given as a hash.
const HASHED: &str = "lnbc20m1pvjluezsp5zyg3zyg3zyg3zyg3zyg3zyg3zyg3zyg3zyg3zyg3zyg3zyg3zygspp5qqqsyqcyq5rqwzqfqqqsyqcyq5rqwzqfqqqsyqcyq5rqwzqfqypqhp58yjmdan79s6qqdhdzgynm4zwqd5d7xmw5fk98klysy043l2ahrqs9qrsgq7ea976txfraylvgzuxs8kgcw23ezlrszfnh8r6qtfpr6cxga50aj6txm9rxrydzd06dfeawfk6swupvz4erwnyutnjq7x39ymw6j38gp7ynn44";

#[test]
fn a_description_may_be_a_hash() {
    let hash = units::parse_hex32("3925b6f67e2c340036ed12093dd44e0368df1b6ea26c53dbe4811f58fd5db8c1").unwrap();
    assert_eq!(description_hash(HASHED), Ok(Some(hash)));
    assert_eq!(description_hash(EXAMPLE), Ok(None));
    assert_eq!(description_hash("lnbc"), Err(InvoiceError::Unreadable));
}

#[test]
fn an_invoice_of_ours_is_read_back() {
    let facts = parse_invoice(&invoice(7, Some(12_345))).unwrap();
    assert_eq!(facts.network, "regtest");
    assert_eq!(facts.payee, SecretKey::from_slice(&[5; 32]).unwrap().public_key(SECP256K1).to_string());
    assert_eq!(facts.hash, PaymentHash(sha256::Hash::hash(&[7; 32]).to_byte_array()));
    assert_eq!((facts.amount, facts.min_final_cltv, facts.expires_at), (Some(Msat(12_345)), 720, Unix(1_700_000_900)));
    assert_eq!(parse_invoice(&invoice(7, None)).unwrap().amount, None);
}

#[test]
fn what_misleads_is_refused_with_the_reason() {
    assert_eq!(parse_invoice(""), Err(InvoiceError::Unreadable));
    assert_eq!(parse_invoice(&EXAMPLE.replace("25m", "26m")), Err(InvoiceError::Unreadable), "checksum");
    assert_eq!(parse_invoice(&"l".repeat(INVOICE_MAX + 1)), Err(InvoiceError::TooLong));
    let (mut raw, _, _) = invoice(1, None).parse::<Bolt11Invoice>().unwrap().into_signed_raw().into_parts();
    raw.data.tagged_fields.push(TaggedField::MinFinalCltvExpiryDelta(MinFinalCltvExpiryDelta(9)).into());
    let key = SecretKey::from_slice(&[5; 32]).unwrap();
    let twice = raw.sign(|hash| Ok::<_, ()>(SECP256K1.sign_ecdsa_recoverable(hash, &key))).unwrap().to_string();
    assert_eq!(parse_invoice(&twice), Err(InvoiceError::RepeatedField));
    // Feature 100 is even and unknown: from the examples of BOLT#11.
    let demanding = "lnbc25m1pvjluezpp5qqqsyqcyq5rqwzqfqqqsyqcyq5rqwzqfqqqsyqcyq5rqwzqfqypqdq5vdhkven9v5sxyetpdeessp5zyg3zyg3zyg3zyg3zyg3zyg3zyg3zyg3zyg3zyg3zyg3zyg3zygs9q4psqqqqqqqqqqqqqqqpqsqq40wa3khl49yue3zsgm26jrepqr2eghqlx86rttutve3ugd05em86nsefzh4pfurpd9ek9w2vp95zxqnfe2u7ckudyahsa52q66tgzcp6t2dyk";
    assert_eq!(parse_invoice(demanding), Err(InvoiceError::UnknownFeature));
}

proptest! {
    #[test]
    fn no_text_makes_the_parser_panic(text in "(lnbc|lntb|lnbcrt)?[0-9]{0,20}[munp]?1?[a-z0-9]{0,200}") {
        prop_assert!(parse_invoice(&text).is_err());
    }

    #[test]
    fn a_changed_character_is_noticed(at in any::<prop::sample::Index>(), with in "[a-z0-9]") {
        let at = at.index(EXAMPLE.len());
        let changed = format!("{}{with}{}", &EXAMPLE[..at], &EXAMPLE[at + 1..]);
        prop_assume!(changed != EXAMPLE);
        prop_assert!(parse_invoice(&changed).is_err());
    }
}

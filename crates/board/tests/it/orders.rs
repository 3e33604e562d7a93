//! The rule `market-order`: what an order may promise.

use std::time::Duration;

use bitcoin::Network;
use bitcoin::hashes::{Hash, sha256};
use board::admission::{KindPolicy, MarketOrder, Policy, Rates, Rule};
use lightning::offers::offer::OfferBuilder;
use lightning::offers::refund::RefundBuilder;
use lightning_invoice::{Currency, InvoiceBuilder, PaymentSecret};
use secp256k1::{PublicKey, SECP256K1, SecretKey};
use units::Unix;
use wire::RawEvent;

use crate::events::{NOW, hex, pubkey, signed};

fn invoice(currency: Currency, msat: Option<u64>, expires: u64) -> String {
    invoice_for("an order", currency, msat, expires)
}

fn invoice_for(what: &str, currency: Currency, msat: Option<u64>, expires: u64) -> String {
    let builder = InvoiceBuilder::new(currency)
        .description(what.into())
        .payment_hash(sha256::Hash::hash(&[1; 32]))
        .payment_secret(PaymentSecret([1; 32]))
        .duration_since_epoch(Duration::from_secs(NOW - 1000))
        .expiry_time(Duration::from_secs(expires + 1000 - NOW))
        .min_final_cltv_expiry_delta(144);
    let builder = match msat {
        Some(msat) => builder.amount_milli_satoshis(msat),
        None => builder,
    };
    let key = SecretKey::from_slice(&[5; 32]).unwrap();
    builder.build_signed(|hash| SECP256K1.sign_ecdsa_recoverable(hash, &key)).unwrap().to_string()
}

fn offer(network: Network, msat: Option<u64>, expires: Option<u64>) -> String {
    let key = PublicKey::from_secret_key(SECP256K1, &SecretKey::from_slice(&[5; 32]).unwrap());
    let builder = OfferBuilder::new(key).chain(network).description("an order".into());
    let builder = match msat {
        Some(msat) => builder.amount_msats(msat),
        None => builder,
    };
    let builder = match expires {
        Some(at) => builder.absolute_expiry(Duration::from_secs(at)),
        None => builder,
    };
    builder.build().unwrap().to_string()
}

fn refund(network: Network, expires: u64) -> String {
    let key = PublicKey::from_secret_key(SECP256K1, &SecretKey::from_slice(&[5; 32]).unwrap());
    let builder = RefundBuilder::new(vec![1; 32], key, 5000).unwrap().chain(network);
    builder.absolute_expiry(Duration::from_secs(expires)).build().unwrap().to_string()
}

/// The cause for which an order of this kind is refused, if it is.
fn refused(policy: &Policy, kind: u16, tags: &[&[&str]], content: &str) -> Option<String> {
    let json = signed(1, kind, NOW, tags, content).to_json();
    let raw = RawEvent::parse(json.as_bytes(), &wire::Limits::RELAY).unwrap();
    let refusal = policy.admit_verified(&raw, &Rates::default(), Unix(NOW)).err()?;
    assert_eq!((refusal.rule, refusal.rule.prefix()), (Rule::MarketOrder, "invalid"));
    Some(refusal.cause)
}

fn regtest() -> Policy {
    serde_json::from_str("{\"invoice-network\":\"regtest\"}").unwrap()
}

#[test]
fn an_order_holds_an_invoice_or_offer_that_can_be_paid_here() {
    let invoice_of = |msat| invoice(Currency::Regtest, msat, NOW + 1);
    for fine in [
        invoice_of(Some(5000)),
        invoice_of(Some(5000)).to_uppercase(),
        offer(Network::Regtest, Some(5000), None),
        offer(Network::Regtest, Some(5000), Some(NOW + 1)),
        refund(Network::Regtest, NOW + 1),
        "sold for cash".into(),
        String::new(),
    ] {
        assert_eq!(refused(&regtest(), 32_500, &[], &fine), None, "{fine}");
    }
    let mut forged = invoice_of(Some(5000));
    let at = forged.len() - 30;
    forged.replace_range(at..=at, if &forged[at..=at] == "q" { "p" } else { "q" });
    for (order, cause) in [
        (invoice(Currency::Bitcoin, Some(5000), NOW + 1), "the invoice is for another network: it is for bitcoin"),
        (invoice_of(None), "the invoice names no amount"),
        (invoice(Currency::Regtest, Some(5000), NOW), "the invoice has expired"),
        (forged, "the invoice cannot be used"),
        ("lnbcrt1qqqq".into(), "the invoice cannot be used"),
        (offer(Network::Signet, Some(5000), None), "the offer is for another network"),
        (offer(Network::Regtest, None, None), "the offer names no amount"),
        (offer(Network::Regtest, Some(5000), Some(NOW)), "the offer has expired"),
        (refund(Network::Bitcoin, NOW + 1), "the offer is for another network"),
        (refund(Network::Regtest, NOW), "the offer has expired"),
        ("lno1qqqq".into(), "the offer cannot be used"),
        ("lni1qqqq".into(), "a BOLT12 invoice answers one request"),
    ] {
        let said = refused(&regtest(), 32_500, &[], &order).unwrap();
        assert!(said.starts_with(cause), "{order}: {said}");
    }
}

#[test]
fn unless_a_policy_says_otherwise_orders_are_of_the_main_network() {
    let (main, test) =
        [Currency::Bitcoin, Currency::Regtest].map(|currency| invoice(currency, Some(5000), NOW + 1)).into();
    let refused_by = |text: &str, order: &str| refused(&serde_json::from_str(text).unwrap(), 32_500, &[], order);
    for fine in ["{}", "{\"invoice-network\":\"own\"}", "{\"invoice-network\":false}"] {
        assert_eq!(refused_by(fine, &main), None, "{fine}");
    }
    let another = "the invoice is for another network: it is for regtest, this board is for bitcoin";
    assert_eq!(refused_by("{}", &test).unwrap(), another);
    let signet = refused_by("{}", &offer(Network::Signet, Some(5000), None));
    assert_eq!(signet.unwrap(), "the offer is for another network, this board is for bitcoin");
    assert_eq!(refused_by("{\"invoice-network\":false}", &test), None);
    assert!(refused_by("{\"invoice-network\":false}", &invoice(Currency::Bitcoin, Some(5000), NOW)).is_some());
}

#[test]
fn other_kinds_are_not_read() {
    let mainnet = invoice(Currency::Bitcoin, Some(5000), NOW + 1);
    assert_eq!(refused(&regtest(), 1, &[], &mainnet), None);
}

#[test]
fn invoices_in_tags_and_in_an_acceptance_count_too() {
    let asked = KindPolicy { market_order: MarketOrder::Required, ..KindPolicy::default() };
    let policy = Policy { per_kind: [((0..=65_535).into(), asked)].into(), ..regtest() };
    let (fine, old) = (invoice(Currency::Regtest, Some(5), NOW + 1), invoice(Currency::Regtest, Some(5), NOW));
    assert!(refused(&policy, 32_500, &[], "no promise at all").unwrap().starts_with("an order holds"));
    assert_eq!(refused(&policy, 32_500, &[&["bolt11", &fine]], "text"), None);
    assert_eq!(refused(&policy, 32_500, &[&["bolt11", &old]], &fine).unwrap(), "the invoice has expired");
    let many = |n| vec![["bolt11", &fine]; n];
    let refused_with = |n| refused(&policy, 32_500, &many(n).iter().map(|tag| &tag[..]).collect::<Vec<_>>(), "text");
    assert_eq!(refused_with(8), None);
    assert_eq!(refused_with(9).unwrap(), "an order holds at most 8 invoices and offers");
    let acceptance =
        |price: &str, bond: &str| format!("{{\"ln_invoice\":\"{price}\",\"collateral_invoice\":\"{bond}\"}}");
    assert_eq!(refused(&policy, 303, &[], &acceptance(&fine, &fine)), None);
    assert_eq!(refused(&policy, 303, &[], &acceptance(&fine, &old)).unwrap(), "the invoice has expired");
}

#[test]
fn where_an_order_is_bound_to_its_maker_what_another_offers_is_refused() {
    let asked = KindPolicy { market_order: MarketOrder::Bound, ..KindPolicy::default() };
    let policy = Policy { per_kind: [(32_500.into(), asked)].into(), ..regtest() };
    // The events are signed by the first key.
    let maker = hex(&pubkey(1));
    let npub = "npub1rwzv24nmzfjypx2a8m264ws9vht3uxp5vpypnluuzl67n4waq78suk0wul";
    let key = PublicKey::from_secret_key(SECP256K1, &SecretKey::from_slice(&[5; 32]).unwrap());
    let issued = |issuer: &str| {
        let builder = OfferBuilder::new(key).chain(Network::Regtest).amount_msats(5000).description("a lamp".into());
        builder.issuer(issuer.into()).build().unwrap().to_string()
    };
    let described = |what: &str| invoice_for(what, Currency::Regtest, Some(5000), NOW + 1);
    for fine in [
        described(&format!("a lamp of {maker}")),
        described(&format!("a lamp of nostr:{npub}")),
        issued(npub),
        issued(&npub.to_uppercase()),
    ] {
        assert_eq!(refused(&policy, 32_500, &[], &fine), None);
    }
    let another = hex(&pubkey(2));
    for theirs in [described("a lamp"), described(&another), issued(&another), issued(&npub[..40])] {
        assert!(refused(&policy, 32_500, &[], &theirs).unwrap().contains("does not name the author"));
    }
    let checked = KindPolicy { market_order: MarketOrder::Required, ..KindPolicy::default() };
    let policy = Policy { per_kind: [(32_500.into(), checked)].into(), ..regtest() };
    assert_eq!(refused(&policy, 32_500, &[], &described(&another)), None);
}

//! The rule `market-order`: an invoice or offer in an order is one that can still be paid, on the network of the board.

use std::borrow::Cow;

use bech32::{Bech32, Hrp};
use units::{Msat, Unix};
use wire::RawEvent;
use wire::invoice::{description, parse_invoice};
use wire::offer::{OfferAmount, parse_offer};

use crate::policy::{MarketOrder, Network, Policy};

/// Tags whose first value is an invoice or an offer.
const TAGS: [&str; 4] = ["invoice", "bolt11", "offer", "bolt12"];
/// Most invoices and offers of one order: each is parsed, and its signature checked.
const PROMISES_MAX: usize = 8;
/// DOMP's acceptance of a bid, and where its content holds invoices.
const KIND_ACCEPTANCE: u16 = 303;
const ACCEPTANCE_INVOICES: [&str; 2] = ["ln_invoice", "collateral_invoice"];

/// Checks what an event holds of invoices and offers, if the policy asks for it. The reason is for people.
pub(crate) fn check(policy: &Policy, event: &RawEvent<'_>, now: Unix) -> Result<(), String> {
    let asked = policy.of(event.kind).market_order;
    if asked == MarketOrder::Off {
        return Ok(());
    }
    let promises = promises(event);
    if promises.is_empty() && asked != MarketOrder::Checked {
        return Err("an order holds a BOLT11 invoice or a BOLT12 offer, this one has neither".into());
    }
    let network = policy.invoice_network.map(|network| network.on(bitcoin::Network::Bitcoin));
    if promises.len() > PROMISES_MAX {
        return Err(format!("an order holds at most {PROMISES_MAX} invoices and offers"));
    }
    for text in &promises {
        payable(text, network, now)?;
        if asked == MarketOrder::Bound && !names(&texts(text), &event.pubkey) {
            return Err(
                "the invoice or offer does not name the author of the order in its description or as issuer".into()
            );
        }
    }
    Ok(())
}

/// One of these texts names this key.
fn names(texts: &[String], key: &[u8; 32]) -> bool {
    let npub = Hrp::parse("npub").ok().and_then(|hrp| bech32::encode::<Bech32>(hrp, key).ok());
    let hex = Some(units::hex32(key));
    [npub, hex].iter().flatten().any(|name| texts.iter().any(|text| text.to_ascii_lowercase().contains(name)))
}

/// Everything in the event that claims to be an invoice or an offer.
fn promises<'a>(event: &RawEvent<'a>) -> Vec<Cow<'a, str>> {
    let mut found = Vec::new();
    let content = event.content().decode();
    if event.kind == KIND_ACCEPTANCE {
        let acceptance: serde_json::Value = serde_json::from_str(&content).unwrap_or_default();
        let invoices = ACCEPTANCE_INVOICES.iter().filter_map(|name| acceptance.get(name)?.as_str());
        found.extend(invoices.map(|invoice| Cow::Owned(invoice.to_owned())));
    } else {
        found.push(content);
    }
    found.extend(event.tags().filter_map(|mut tag| {
        let named = TAGS.contains(&tag.next()?.decode().as_ref());
        tag.next().filter(|_| named).map(|value| value.decode())
    }));
    found.retain(|text| claims(text).is_some());
    found
}

enum Claim {
    Bolt11,
    Bolt12,
    /// A BOLT12 invoice answers one request; nobody else can pay it.
    Bolt12Invoice,
}

/// What a text claims to be by how it begins: `lnbc`, `lntb`, `lntbs`, `lnbcrt`, or `lno1`, `lnr1`, `lni1`.
fn claims(text: &str) -> Option<Claim> {
    let start: String = text.trim_start().chars().take(4).collect::<String>().to_ascii_lowercase();
    match start.as_str() {
        "lnbc" | "lntb" => Some(Claim::Bolt11),
        "lno1" | "lnr1" => Some(Claim::Bolt12),
        "lni1" => Some(Claim::Bolt12Invoice),
        _ => None,
    }
}

/// What it says in words.
fn texts(text: &str) -> Vec<String> {
    match claims(text) {
        Some(Claim::Bolt11) => description(text.trim()).ok().flatten().into_iter().collect(),
        _ => parse_offer(text.trim()).map(|facts| facts.texts).unwrap_or_default(),
    }
}

fn payable(text: &str, network: Option<Network>, now: Unix) -> Result<(), String> {
    let text = text.trim();
    match claims(text) {
        Some(Claim::Bolt11) => invoice(text, network, now),
        Some(Claim::Bolt12) => offer(text, network, now),
        Some(Claim::Bolt12Invoice) => Err("a BOLT12 invoice answers one request; an order holds an offer".into()),
        None => Ok(()),
    }
}

fn invoice(text: &str, network: Option<Network>, now: Unix) -> Result<(), String> {
    let facts = parse_invoice(text).map_err(|why| format!("the invoice cannot be used: {why}"))?;
    if let Some(network) = network.filter(|network| network.bolt11() != facts.network) {
        let theirs = facts.network;
        return Err(format!("the invoice is for another network: it is for {theirs}, this board is for {network}"));
    }
    if facts.amount.is_none_or(|amount| amount == Msat::ZERO) {
        return Err("the invoice names no amount".into());
    }
    if facts.expires_at <= now {
        return Err("the invoice has expired".into());
    }
    if facts.features_known { Ok(()) } else { Err("the invoice demands an unknown feature".into()) }
}

fn offer(text: &str, network: Option<Network>, now: Unix) -> Result<(), String> {
    let facts = parse_offer(text).map_err(|why| format!("the offer cannot be used: {why}"))?;
    if let Some(network) = network.filter(|network| !facts.supports(network.0)) {
        return Err(format!("the offer is for another network, this board is for {network}"));
    }
    if matches!(facts.amount, None | Some(OfferAmount::Msat(Msat::ZERO) | OfferAmount::Currency(_, 0))) {
        return Err("the offer names no amount".into());
    }
    if facts.expires_at.is_some_and(|at| at <= now) {
        return Err("the offer has expired".into());
    }
    if facts.features_known { Ok(()) } else { Err("the offer demands an unknown feature".into()) }
}

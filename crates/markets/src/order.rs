//! Market orders of CivKit (32500): the content is an invoice or an offer, and whoever pays it has taken the order.

use units::{Msat, Unix};
use wire::event::{Event, Unsigned};
use wire::invoice::{InvoiceError, parse_invoice};
use wire::offer::{OfferAmount, OfferError, parse_offer};

use crate::{Advert, Source, Subject, Unread, frame, kind, text};

/// Longest order, in bytes.
const ORDER_MAX: usize = 8192;

/// What an order asks for: a string that any wallet pays.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Payable {
    /// The string, in lower case, as a wallet takes it.
    pub text: String,
    /// How much.
    pub amount: OfferAmount,
    /// It is an offer (BOLT12), not an invoice (BOLT11).
    pub offer: bool,
    /// It gives money to whoever takes it (a BOLT12 refund).
    pub refund: bool,
    /// For which networks: `bitcoin`, `testnet`, `signet`, `regtest`.
    pub networks: Vec<String>,
    /// When it can no longer be paid.
    pub expires: Option<Unix>,
}

/// Why a string is no order. [`NotPayable::code`] is stable.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotPayable {
    /// It begins like neither.
    #[error("an order is a BOLT11 invoice (lnbc…) or a BOLT12 offer (lno1…); this is neither")]
    Neither,
    /// A BOLT12 invoice.
    #[error("a BOLT12 invoice answers one request and nobody else can pay it; publish the offer")]
    Bolt12Invoice,
    /// An invoice that cannot be used.
    #[error("the invoice cannot be used: {0}")]
    Invoice(#[from] InvoiceError),
    /// An offer that cannot be used.
    #[error("the offer cannot be used: {0}")]
    Offer(#[from] OfferError),
    /// It names no amount, so nobody knows what is ordered.
    #[error("it names no amount; make one with an amount")]
    NoAmount,
    /// It can no longer be paid.
    #[error("it has expired; make a new one")]
    Expired,
    /// It demands what no wallet can.
    #[error("it demands a feature that nobody knows")]
    Feature,
    /// It is for another network.
    #[error("it is for {theirs}, and this is {ours}")]
    Network {
        /// Its network.
        theirs: String,
        /// The one that was asked for.
        ours: String,
    },
}

impl NotPayable {
    /// A stable name for the reason.
    pub fn code(&self) -> &'static str {
        match self {
            NotPayable::Neither => "order-unreadable",
            NotPayable::Bolt12Invoice => "order-bolt12-invoice",
            NotPayable::Invoice(_) | NotPayable::Offer(_) => "order-unusable",
            NotPayable::NoAmount => "order-amount",
            NotPayable::Expired => "order-expired",
            NotPayable::Feature => "order-features",
            NotPayable::Network { .. } => "order-network",
        }
    }
}

const NETWORKS: [bitcoin::Network; 4] =
    [bitcoin::Network::Bitcoin, bitcoin::Network::Testnet, bitcoin::Network::Signet, bitcoin::Network::Regtest];

/// What an order's text says, whether or not it can still be paid.
pub(crate) fn payable(order: &str) -> Result<Payable, NotPayable> {
    // A QR code may have held it in capitals, and some wallets put the scheme in front.
    let order = order.trim();
    let order =
        order.get(..10).filter(|scheme| scheme.eq_ignore_ascii_case("lightning:")).map_or(order, |_| &order[10..]);
    if order.len() > ORDER_MAX {
        return Err(NotPayable::Neither);
    }
    let lower = order.to_ascii_lowercase();
    let lower =
        if order.to_ascii_uppercase() == order || lower == order { lower } else { return Err(NotPayable::Neither) };
    match lower.get(..4) {
        Some("lnbc" | "lntb") => {
            let facts = parse_invoice(&lower)?;
            if !facts.features_known {
                return Err(NotPayable::Feature);
            }
            let amount = facts.amount.filter(|amount| *amount > Msat::ZERO).ok_or(NotPayable::NoAmount)?;
            Ok(Payable {
                text: lower,
                amount: OfferAmount::Msat(amount),
                offer: false,
                refund: false,
                networks: vec![facts.network],
                expires: Some(facts.expires_at),
            })
        }
        Some(start @ ("lno1" | "lnr1")) => {
            let refund = start == "lnr1";
            let facts = parse_offer(&lower)?;
            if !facts.features_known {
                return Err(NotPayable::Feature);
            }
            let amount = match facts.amount {
                None | Some(OfferAmount::Msat(Msat::ZERO) | OfferAmount::Currency(_, 0)) => {
                    return Err(NotPayable::NoAmount);
                }
                Some(amount) => amount,
            };
            let networks =
                NETWORKS.into_iter().filter(|network| facts.supports(*network)).map(|n| n.to_string()).collect();
            Ok(Payable { text: lower, amount, offer: true, refund, networks, expires: facts.expires_at })
        }
        Some("lni1") => Err(NotPayable::Bolt12Invoice),
        _ => Err(NotPayable::Neither),
    }
}

/// Checks a string before it is published as an order: readable, with an amount, for `network`, and not expired at `now`.
pub fn check_order(order: &str, network: &str, now: Unix) -> Result<Payable, NotPayable> {
    let payable = payable(order)?;
    if !payable.networks.iter().any(|theirs| theirs == network) {
        let theirs =
            if payable.networks.is_empty() { "another network".to_owned() } else { payable.networks.join(", ") };
        return Err(NotPayable::Network { theirs, ours: network.to_owned() });
    }
    if payable.expires.is_some_and(|at| at <= now) {
        return Err(NotPayable::Expired);
    }
    Ok(payable)
}

/// The event that publishes an order, to be signed by `author`. A `d` tag of its own keeps one author's orders beside each other
/// (CivKit wrote none, and 32500 is addressable).
pub fn order_event(order: &Payable, author: [u8; 32], at: Unix, d: &str) -> Unsigned {
    let mut tags = vec![vec!["d".to_owned(), d.to_owned()]];
    if let Some(expires) = order.expires {
        tags.push(vec!["expiration".to_owned(), expires.0.to_string()]);
    }
    Unsigned { pubkey: author, created_at: at, kind: kind::MARKET_ORDER, tags, content: order.text.clone() }
}

/// A market order.
pub(crate) fn read(event: &Event) -> Result<Advert, Unread> {
    let order = payable(&event.content).map_err(|_| Unread::Malformed("content"))?;
    let (title, expires) = (title(&order), order.expires);
    let mut advert = frame(event, Source::Civkit, Subject::Order(order))?;
    advert.title = title;
    advert.text = text::line(event.tag("description").unwrap_or_default(), crate::TEXT_MAX);
    advert.expires = expires.into_iter().chain(advert.expires).min();
    Ok(advert)
}

fn title(order: &Payable) -> String {
    let what = match (order.offer, order.refund) {
        (false, _) => "invoice",
        (true, false) => "offer",
        (true, true) => "refund",
    };
    match order.amount {
        OfferAmount::Msat(amount) => format!("{what} of {} sat", amount.to_sat_floor()),
        OfferAmount::Currency(code, amount) => {
            format!("{what} of {amount} minor units of {}", String::from_utf8_lossy(&code))
        }
    }
}

//! Our adverts as the other markets' clients read them.

use units::{Unix, hex32};
use wire::Tag;
use wire::event::Unsigned;

use crate::{Advert, Bond, CurrencyOrder, Goods, Side, Standing, Subject, kind};

/// Our name in `client` and `y` tags.
pub(crate) const CLIENT: &str = "souk";
/// How long relays keep an order that is over (NIP-40).
const KEPT_SECS: u64 = 30 * 24 * 3600;
/// Longest summary, in characters.
const SUMMARY_MAX: usize = 160;

/// Why an advert is not written.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unwritable {
    /// Neither goods nor currency.
    #[error("only goods and orders for bitcoin are mirrored")]
    Subject,
    /// A `d` that Plebeian does not read in coordinates.
    #[error("{0:?} is no name that other markets read: letters, digits, - and _")]
    Name(String),
    /// NIP-69 requires that an order ends.
    #[error("an order needs an end")]
    Endless,
}

fn tag<const N: usize>(elements: [&str; N]) -> Tag {
    elements.map(str::to_owned).to_vec()
}

/// The event that says the same to another market: NIP-99 for goods, NIP-69 for bitcoin against money of a country. The advert's
/// `at`, `author`, `d` and `standing` become the event's; `relay` is where our listing is found.
pub fn write(advert: &Advert, relay: &str) -> Result<Unsigned, Unwritable> {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
    if advert.d.is_empty() || !advert.d.bytes().all(plain) {
        return Err(Unwritable::Name(advert.d.clone()));
    }
    let (kind, tags, content) = match &advert.subject {
        Subject::Goods(goods) => (kind::CLASSIFIED, classified(advert, goods, relay), advert.text.clone()),
        Subject::Currency(order) => (kind::CURRENCY_ORDER, order_tags(advert, order, relay)?, String::new()),
        Subject::Order(_) | Subject::Stall(_) => return Err(Unwritable::Subject),
    };
    Ok(Unsigned { pubkey: advert.author.0, created_at: advert.at, kind, tags, content })
}

/// The tags of a classified listing that Shopstr, Plebeian and nostr-tools all take: a currency of three capitals, exactly one of
/// each required tag, four elements in `shipping`, three in `e`.
fn classified(advert: &Advert, goods: &Goods, relay: &str) -> Vec<Tag> {
    let open = advert.standing == Standing::Open;
    let summary = advert.text.lines().next().unwrap_or_default();
    let summary: String = if summary.is_empty() { &advert.title } else { summary }.chars().take(SUMMARY_MAX).collect();
    let place = if advert.place.is_empty() { "online" } else { &advert.place };
    let mut price = tag(["price", &goods.price.amount.to_string(), &goods.price.currency]);
    price.extend(goods.price.per.clone());
    let mut tags = vec![
        tag(["d", &advert.d]),
        tag(["title", &advert.title]),
        tag(["summary", &summary]),
        tag(["published_at", &advert.since.0.to_string()]),
        tag(["location", place]),
        price,
        tag(["type", "simple", "physical"]),
        tag(["visibility", if advert.standing == Standing::Hidden { "hidden" } else { "on-sale" }]),
        tag(["status", if open { "active" } else { "sold" }]),
        // The price is what the buyer pays, shipping included.
        tag(["shipping", "Free", "0", &goods.price.currency]),
    ];
    let stock = if open { goods.stock } else { Some(0) };
    tags.extend(stock.map(|stock| tag(["stock", &stock.to_string()])));
    tags.extend(goods.pictures.iter().map(|at| tag(["image", at])));
    tags.extend(goods.categories.iter().map(|name| tag(["t", name])));
    tags.push(tag(["t", "shopstr"]));
    tags.extend(goods.facts.iter().map(|(name, value)| tag(["spec", name, value])));
    tags.extend(advert.mirrors.map(|listing| tag(["e", &hex32(&listing.0), relay])));
    tags.extend(advert.link.as_ref().map(|link| tag(["r", link])));
    tags.push(tag(["alt", &format!("Product listing: {}", advert.title)]));
    tags.push(tag(["client", CLIENT]));
    tags
}

/// The tags of an order, in NIP-69's order of them.
fn order_tags(advert: &Advert, order: &CurrencyOrder, relay: &str) -> Result<Vec<Tag>, Unwritable> {
    let expires = advert.expires.ok_or(Unwritable::Endless)?;
    let status = match advert.standing {
        Standing::Open => "pending",
        Standing::Taken => "in-progress",
        Standing::Done => "success",
        Standing::Hidden | Standing::Gone => "canceled",
    };
    // As Mostro does: what is over stays readable for a while.
    let kept = if advert.standing == Standing::Open { expires } else { Unix(advert.at.0.saturating_add(KEPT_SECS)) };
    let mut amounts = tag(["fa", &order.min.to_string()]);
    if order.max != order.min {
        amounts.push(order.max.to_string());
    }
    let mut methods = tag(["pm"]);
    methods.extend(order.methods.iter().cloned());
    let mut tags = vec![
        tag(["d", &advert.d]),
        tag(["k", if order.side == Side::Sells { "sell" } else { "buy" }]),
        tag(["f", &order.currency]),
        tag(["s", status]),
        tag(["amt", &order.amount.map_or(0, |amount| amount.0).to_string()]),
        amounts,
        methods,
        tag(["premium", &order.premium.to_string()]),
    ];
    tags.extend(advert.link.as_ref().map(|link| tag(["source", link])));
    tags.push(tag(["network", &order.network]));
    tags.push(tag(["layer", &order.layer]));
    if !advert.place.is_empty() {
        tags.push(tag(["g", &advert.place]));
    }
    if let Some(Bond::Sat(bond)) = order.bond {
        tags.push(tag(["bond", &bond.0.to_string()]));
    }
    tags.push(tag(["expires_at", &expires.0.to_string()]));
    tags.push(tag(["expiration", &kept.0.to_string()]));
    tags.extend(advert.mirrors.map(|listing| tag(["e", &hex32(&listing.0), relay])));
    tags.push(if advert.venue.is_empty() { tag(["y", CLIENT]) } else { tag(["y", CLIENT, &advert.venue]) });
    tags.push(tag(["z", "order"]));
    Ok(tags)
}

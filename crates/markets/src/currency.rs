//! Orders for bitcoin against money of a country (NIP-69), as every publisher really writes them.

use units::{Sat, Unix};
use wire::Tag;
use wire::event::Event;

use crate::{
    Advert, Bond, CurrencyOrder, Decimal, LIST_MAX, NAME_MAX, Side, Source, Standing, Subject, TEXT_MAX, Unread,
    currency_name, frame, goods, link, text,
};

/// Most amounts in an `fa` tag: one, or a range.
const AMOUNTS_MAX: usize = 2;

fn tag<'a>(event: &'a Event, name: &str) -> Option<&'a Tag> {
    event.tags.iter().find(|tag| tag[0] == name)
}

fn value<'a>(event: &'a Event, name: &'static str) -> Result<&'a str, Unread> {
    event.tag(name).map(str::trim).filter(|value| !value.is_empty()).ok_or(Unread::Missing(name))
}

/// Where the order was published, from its `y` tag: the platform, and the name of its node or coordinator.
fn source(event: &Event) -> (Source, String) {
    let tag = tag(event, "y");
    let platform = tag.and_then(|tag| tag.get(1)).map(|name| name.trim().to_ascii_lowercase()).unwrap_or_default();
    let venue = tag.and_then(|tag| tag.get(2)).map(|name| text::line(name, NAME_MAX)).unwrap_or_default();
    match platform.as_str() {
        crate::write::CLIENT => (Source::Souk, venue),
        "mostro" => (Source::Mostro, venue),
        "robosats" => (Source::Robosats, venue),
        "lnp2pbot" => (Source::Lnp2pBot, venue),
        "peach" => (Source::Peach, venue),
        // Somebody whom we do not know: its own name is the venue.
        _ => (Source::Nip69, text::line(&platform, NAME_MAX)),
    }
}

/// An order.
pub(crate) fn order(event: &Event) -> Result<Advert, Unread> {
    // Disputes, ratings and facts about nodes use neighbouring kinds, and some publishers this one.
    if event.tag("z").is_some_and(|what| what != "order") {
        return Err(Unread::Malformed("z"));
    }
    if event.identifier().is_empty() {
        return Err(Unread::Missing("d"));
    }
    let (source, venue) = source(event);
    let (min, max) = amounts(event)?;
    let order = CurrencyOrder {
        side: match value(event, "k")? {
            "sell" => Side::Sells,
            "buy" => Side::Buys,
            _ => return Err(Unread::Malformed("k")),
        },
        currency: currency_name(value(event, "f")?).ok_or(Unread::Malformed("f"))?,
        min,
        max,
        amount: fixed(event)?,
        premium: match event.tag("premium").map(str::trim).filter(|text| !text.is_empty()) {
            Some(text) => Decimal::parse(text).map_err(|_| Unread::Malformed("premium"))?,
            None => Decimal::default(),
        },
        methods: methods(event, source),
        network: text::line(event.tag("network").unwrap_or("mainnet"), NAME_MAX),
        layer: text::line(event.tag("layer").unwrap_or("lightning"), NAME_MAX),
        bond: bond(event, source),
    };
    let title = title(&order);
    let mut advert = frame(event, source, Subject::Currency(order))?;
    advert.venue = venue;
    advert.title = title;
    advert.text = text::lines(&event.content, TEXT_MAX);
    advert.place = text::line(event.tag("g").unwrap_or_default(), NAME_MAX);
    advert.link = event.tag("source").and_then(link);
    advert.mirrors = (source == Source::Souk).then(|| goods::mirrored(event)).flatten();
    advert.standing = standing(value(event, "s")?);
    // RoboSats and Peach have no `expires_at`: what the relay is told has to do. A third element there is the escrow's duration.
    let until = event.tag("expires_at").and_then(|at| at.trim().parse().ok()).map(Unix);
    advert.expires = until.or(advert.expires);
    Ok(advert)
}

/// One amount of the currency, or two for a range. RoboSats writes decimals.
fn amounts(event: &Event) -> Result<(Decimal, Decimal), Unread> {
    let tag = tag(event, "fa").ok_or(Unread::Missing("fa"))?;
    if tag.len() > AMOUNTS_MAX + 1 {
        return Err(Unread::Malformed("fa"));
    }
    let read = |text: &String| Decimal::parse(text).ok().filter(|amount| !amount.is_negative());
    let amounts: Option<Vec<Decimal>> = tag[1..].iter().map(read).collect();
    match amounts.ok_or(Unread::Malformed("fa"))?.as_slice() {
        [one] => Ok((*one, *one)),
        [min, max] if min <= max => Ok((*min, *max)),
        [] => Err(Unread::Missing("fa")),
        _ => Err(Unread::Malformed("fa")),
    }
}

/// The amount of bitcoin; `0` is the market price.
fn fixed(event: &Event) -> Result<Option<Sat>, Unread> {
    let Some(text) = event.tag("amt") else { return Ok(None) };
    let amount = Decimal::parse(text).ok().and_then(|amount| amount.in_sat("sat")).ok_or(Unread::Malformed("amt"))?;
    Ok(Some(amount).filter(|amount| *amount > Sat::ZERO))
}

/// Payment methods: one element each, or one element with commas (lnp2pBot's, and NIP-69's prose).
fn methods(event: &Event, source: Source) -> Vec<String> {
    let elements = tag(event, "pm").map_or(&[][..], |tag| &tag[1..]);
    let spaced;
    let elements = if source == Source::Robosats && elements.len() > 1 {
        // Its coordinators cut the list at every space: what was one name cannot be told any more, so it is shown whole.
        spaced = [elements.join(" ")];
        &spaced[..]
    } else {
        elements
    };
    let mut out: Vec<String> = Vec::new();
    for name in elements.iter().flat_map(|element| element.split(',')) {
        let name = text::line(name, NAME_MAX);
        if !name.is_empty() && !out.contains(&name) && out.len() < LIST_MAX {
            out.push(name);
        }
    }
    out
}

/// RoboSats writes per cent where NIP-69 has satoshis.
fn bond(event: &Event, source: Source) -> Option<Bond> {
    let bond =
        Decimal::parse(event.tag("bond")?).ok().filter(|bond| !bond.is_negative() && *bond != Decimal::default())?;
    if source == Source::Robosats { Some(Bond::Percent(bond)) } else { bond.in_sat("sat").map(Bond::Sat) }
}

/// lnp2pBot publishes its internal states, RoboSats says `success` of everything that is over.
fn standing(status: &str) -> Standing {
    match status.to_ascii_lowercase().as_str() {
        "pending" => Standing::Open,
        "success" | "completed" | "paid-hold-invoice" | "completed-by-admin" | "settled" => Standing::Done,
        "expired" | "closed" => Standing::Gone,
        gone if gone.starts_with("cancel") => Standing::Gone,
        // Whatever else it is, somebody is at it.
        _ => Standing::Taken,
    }
}

/// `sells bitcoin for 50 to 200 EUR`
pub(crate) fn title(order: &CurrencyOrder) -> String {
    let does = match order.side {
        Side::Sells => "sells bitcoin for",
        Side::Buys => "buys bitcoin for",
    };
    match order.min == order.max {
        true => format!("{does} {} {}", order.min, order.currency),
        false => format!("{does} {} to {} {}", order.min, order.max, order.currency),
    }
}

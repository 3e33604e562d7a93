//! Goods of other markets: classified listings (NIP-99, as Shopstr and Plebeian write them) and stalls (NIP-15).

use serde_json::{Map, Value};
use trade::MessageId;
use wire::event::Event;
use wire::{Tag, parse_hex};

use crate::{
    Advert, Decimal, Goods, LIST_MAX, NAME_MAX, Price, Source, Stall, Standing, Subject, TEXT_MAX, TITLE_MAX, Unread,
    currency_name, frame, kind, link, text,
};

/// Longest content of NIP-15, in bytes.
const CONTENT_MAX: usize = 64 * 1024;
/// Kind of a way of shipping (Gamma).
const SHIPPING_OPTION: &str = "30406:";

fn value<'a>(event: &'a Event, name: &str) -> Option<&'a str> {
    event.tag(name).map(str::trim).filter(|value| !value.is_empty())
}

/// Values of a tag that may stand several times, made fit to be shown, each once.
fn names(event: &Event, name: &str) -> Vec<String> {
    let mut out: Vec<String> = Vec::new();
    for value in event.tag_values(name) {
        let shown = text::line(value, NAME_MAX + 1);
        // One that is too long is no category but somebody's text.
        if !shown.is_empty() && shown.chars().count() <= NAME_MAX && !out.contains(&shown) && out.len() < LIST_MAX {
            out.push(shown);
        }
    }
    out
}

fn count(text: &str) -> Option<u32> {
    let plain = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    plain.then(|| text.parse().unwrap_or(u32::MAX))
}

/// Who wrote a classified listing, as far as its tags tell.
fn source(event: &Event) -> Source {
    let client = event.tag("client").unwrap_or_default().to_ascii_lowercase();
    let has = |name: &str| event.tag(name).is_some();
    let shopstr = event.tag_values("t").any(|name| name.eq_ignore_ascii_case("shopstr"));
    if client == crate::write::CLIENT {
        Source::Souk
    } else if client.contains("shopstr") || shopstr || has("shipping") && !has("shipping_option") {
        Source::Shopstr
    } else if client.contains("plebeian") || has("shipping_option") || has("visibility") || has("type") {
        Source::Plebeian
    } else {
        Source::Nip99
    }
}

/// A classified listing or a draft of one.
pub(crate) fn classified(event: &Event) -> Result<Advert, Unread> {
    if event.identifier().is_empty() {
        return Err(Unread::Missing("d"));
    }
    let title = text::line(value(event, "title").ok_or(Unread::Missing("title"))?, TITLE_MAX);
    let stock = value(event, "stock").or_else(|| value(event, "quantity")).and_then(count);
    let goods = Goods {
        price: price(event)?,
        stock,
        shipping: shipping(event),
        // The tag by which Shopstr knows its own says nothing about the thing.
        categories: names(event, "t").into_iter().filter(|name| !name.eq_ignore_ascii_case("shopstr")).collect(),
        pictures: event.tag_values("image").filter_map(link).take(LIST_MAX).collect(),
        facts: facts(&event.tags),
        stall: None,
    };
    let mut advert = frame(event, source(event), Subject::Goods(goods))?;
    if title.is_empty() {
        return Err(Unread::Malformed("title"));
    }
    advert.title = title;
    let summary = value(event, "summary").unwrap_or_default();
    let said = if event.content.trim().is_empty() { summary } else { &event.content };
    advert.text = text::lines(said, TEXT_MAX);
    advert.place = text::line(value(event, "location").unwrap_or_default(), NAME_MAX);
    advert.since = value(event, "published_at").and_then(|at| at.parse().ok()).map_or(advert.at, units::Unix);
    let until = value(event, "valid_until").and_then(|at| at.parse().ok()).map(units::Unix);
    advert.expires = until.or(advert.expires);
    advert.link = value(event, "r").or_else(|| value(event, "source")).and_then(link);
    advert.mirrors = (advert.source == Source::Souk).then(|| mirrored(event)).flatten();
    advert.standing = standing(event, stock);
    Ok(advert)
}

/// The listing of ours that an event mirrors.
pub(crate) fn mirrored(event: &Event) -> Option<MessageId> {
    parse_hex(event.tag("e")?, "e").ok().map(MessageId)
}

fn standing(event: &Event, stock: Option<u32>) -> Standing {
    let sold = value(event, "status").is_some_and(|status| status.eq_ignore_ascii_case("sold"));
    let hidden = value(event, "visibility").is_some_and(|seen| seen.eq_ignore_ascii_case("hidden"));
    match stock {
        _ if event.kind == kind::CLASSIFIED_DRAFT || hidden => Standing::Hidden,
        _ if sold => Standing::Done,
        Some(0) => Standing::Done,
        _ => Standing::Open,
    }
}

/// `["price", amount, currency, (per)]`. Shopstr takes satoshis where no currency is named.
fn price(event: &Event) -> Result<Price, Unread> {
    let tag = event.tags.iter().find(|tag| tag[0] == "price").ok_or(Unread::Missing("price"))?;
    let amount = tag.get(1).map(String::as_str).unwrap_or_default();
    let amount =
        Decimal::parse(amount).ok().filter(|amount| !amount.is_negative()).ok_or(Unread::Malformed("price"))?;
    let currency = match tag.get(2).map(|name| name.trim()) {
        None | Some("") => "SATS".to_owned(),
        Some(name) => currency_name(name).ok_or(Unread::Malformed("price"))?,
    };
    let per = tag.get(3).map(|per| text::line(per, NAME_MAX)).filter(|per| !per.is_empty());
    Ok(Price { amount, currency, per })
}

/// Shopstr's `["shipping", how, cost, currency]` and Gamma's `["shipping_option", coordinate, extra cost]`.
fn shipping(event: &Event) -> Vec<String> {
    let read = |tag: &Tag| match (tag[0].as_str(), tag.len()) {
        ("shipping", 4) => {
            let cost = Decimal::parse(&tag[2]).ok()?;
            let how = text::line(&tag[1], NAME_MAX);
            let currency = currency_name(&tag[3])?;
            Some(if cost == Decimal::default() { how } else { format!("{how} {cost} {currency}") })
        }
        ("shipping_option", 2..) => {
            let name = tag[1].strip_prefix(SHIPPING_OPTION)?.split_once(':')?.1;
            let name = text::line(name, NAME_MAX);
            match tag.get(2).map(|cost| Decimal::parse(cost)) {
                Some(Ok(cost)) if cost != Decimal::default() => Some(format!("{name} +{cost}")),
                _ => Some(name),
            }
        }
        _ => None,
    };
    event.tags.iter().filter_map(read).filter(|line| !line.is_empty()).take(LIST_MAX).collect()
}

/// `["spec", name, value]`, and the facts that have tags of their own.
fn facts(tags: &[Tag]) -> Vec<(String, String)> {
    let read = |tag: &Tag| {
        let (name, value) = match (tag[0].as_str(), tag.as_slice()) {
            ("spec", [_, name, value, ..]) => (name.as_str(), value.clone()),
            ("condition", [_, value, ..]) => ("condition", value.clone()),
            ("weight" | "dim", [name, value, unit, ..]) => (name.as_str(), format!("{value} {unit}")),
            ("weight", [name, value]) => (name.as_str(), value.clone()),
            _ => return None,
        };
        let fact = (text::line(name, NAME_MAX), text::line(&value, TITLE_MAX));
        (!fact.0.is_empty() && !fact.1.is_empty()).then_some(fact)
    };
    let mut out: Vec<(String, String)> = Vec::new();
    for fact in tags.iter().filter_map(read) {
        let known = out.iter().any(|(name, _)| name.eq_ignore_ascii_case(&fact.0));
        if !known && out.len() < LIST_MAX {
            out.push(fact);
        }
    }
    out
}

// ---- NIP-15 ----------------------------------------------------------------------------------------------------

fn object(event: &Event) -> Result<Map<String, Value>, Unread> {
    if event.content.len() > CONTENT_MAX {
        return Err(Unread::Malformed("content"));
    }
    serde_json::from_str(&event.content).map_err(|_| Unread::Malformed("content"))
}

fn string<'a>(object: &'a Map<String, Value>, name: &str) -> Option<&'a str> {
    object.get(name)?.as_str().map(str::trim).filter(|text| !text.is_empty())
}

/// A number, which nostrmarket writes as a float and others as text.
fn number(value: Option<&Value>) -> Option<Decimal> {
    let read = match value? {
        Value::Number(number) => match number.as_i64() {
            Some(whole) => Decimal::parse(&whole.to_string()),
            // The shortest digits that mean this float, without an exponent.
            None => Decimal::parse(&number.as_f64()?.to_string()),
        },
        Value::String(text) => Decimal::parse(text),
        _ => return None,
    };
    read.ok().filter(|number| !number.is_negative())
}

fn list(value: Option<&Value>) -> &[Value] {
    value.and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

fn own_id(event: &Event, object: &Map<String, Value>) -> Result<String, Unread> {
    let id = string(object, "id").or_else(|| value(event, "d")).ok_or(Unread::Missing("id"))?;
    if id.len() > crate::D_MAX { Err(Unread::Malformed("id")) } else { Ok(text::line(id, crate::D_MAX)) }
}

fn currency(object: &Map<String, Value>) -> Result<String, Unread> {
    let name = string(object, "currency").ok_or(Unread::Missing("currency"))?;
    currency_name(name).ok_or(Unread::Malformed("currency"))
}

/// A stall (30017).
pub(crate) fn stall(event: &Event) -> Result<Advert, Unread> {
    let content = object(event)?;
    let currency = currency(&content)?;
    let zones = list(content.get("shipping")).iter().filter_map(Value::as_object);
    let shipping = zones.filter_map(|zone| {
        let name = string(zone, "name").or_else(|| string(zone, "id"))?;
        let cost = number(zone.get("cost")).unwrap_or_default();
        // nostrmarket says countries where NIP-15 says regions.
        let regions = [list(zone.get("regions")), list(zone.get("countries"))].concat();
        let mut regions: Vec<String> = regions.iter().filter_map(|r| Some(text::line(r.as_str()?, NAME_MAX))).collect();
        regions.dedup();
        let to = if regions.is_empty() { String::new() } else { format!(" to {}", regions.join(", ")) };
        Some(text::line(&format!("{name} {cost} {currency}{to}"), TITLE_MAX))
    });
    let shipping = shipping.take(LIST_MAX).collect();
    let stall = Stall { id: own_id(event, &content)?, currency, shipping };
    let mut advert = frame(event, Source::Nip15, Subject::Stall(stall))?;
    advert.title = text::line(string(&content, "name").ok_or(Unread::Missing("name"))?, TITLE_MAX);
    advert.text = text::lines(string(&content, "description").unwrap_or_default(), TEXT_MAX);
    Ok(advert)
}

/// A product (30018).
pub(crate) fn product(event: &Event) -> Result<Advert, Unread> {
    let content = object(event)?;
    own_id(event, &content)?;
    let amount = number(content.get("price")).ok_or(Unread::Malformed("price"))?;
    let stock = match content.get("quantity") {
        None | Some(Value::Null) => None,
        Some(quantity) => {
            let count = quantity.as_u64().ok_or(Unread::Malformed("quantity"))?;
            Some(u32::try_from(count).unwrap_or(u32::MAX))
        }
    };
    let specs = list(content.get("specs")).iter().filter_map(|spec| match spec.as_array()?.as_slice() {
        [name, value, ..] => Some((text::line(name.as_str()?, NAME_MAX), text::line(value.as_str()?, TITLE_MAX))),
        _ => None,
    });
    let goods = Goods {
        price: Price { amount, currency: currency(&content)?, per: None },
        stock,
        shipping: Vec::new(),
        categories: names(event, "t"),
        pictures: list(content.get("images")).iter().filter_map(|at| link(at.as_str()?)).take(LIST_MAX).collect(),
        facts: specs.take(LIST_MAX).collect(),
        stall: string(&content, "stall_id").map(|id| text::line(id, crate::D_MAX)),
    };
    let mut advert = frame(event, Source::Nip15, Subject::Goods(goods))?;
    advert.title = text::line(string(&content, "name").ok_or(Unread::Missing("name"))?, TITLE_MAX);
    advert.text = text::lines(string(&content, "description").unwrap_or_default(), TEXT_MAX);
    advert.standing = match stock {
        _ if content.get("active") == Some(&Value::Bool(false)) => Standing::Hidden,
        Some(0) => Standing::Done,
        _ => Standing::Open,
    };
    Ok(advert)
}

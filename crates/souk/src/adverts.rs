//! One list of what is offered, ours and other markets', and CivKit's market orders.

use std::collections::BTreeSet;
use std::time::Duration;

use daemon::api::types::{AdvertView, Adverts, LeftOut, ListingView, Listings, OrderReply, OrderRequest};
use serde::Serialize;
use trade::MessageId;

use crate::args::{Order, Search};
use crate::client::Client;
use crate::failure::Failure;
use crate::fiat;
use crate::market::{fits, mentions};
use crate::show::{Show, short, table};

/// How often boards are asked for new orders.
const LOOK_EVERY: Duration = Duration::from_secs(2);
/// What `--source` may be.
pub(crate) const SOURCES: [&str; 12] = [
    "souk", "domp", "shopstr", "plebeian", "nip99", "mostro", "robosats", "lnp2pbot", "peach", "nip69", "nip15",
    "civkit",
];

/// A listing that souk can bid on, or an advert of another market. Both have `source`, `id` and `product_name`.
#[derive(Serialize)]
#[serde(untagged)]
enum Shown {
    Listing(Box<ListingView>),
    Advert(Box<AdvertView>),
}

/// What the boards and relays offer, and what is missing in it.
#[derive(Serialize)]
struct Offers {
    offers: Vec<Shown>,
    /// Boards and relays that have more than was read of them; empty when this is all.
    left_out: Vec<LeftOut>,
}

/// Everything on the boards and relays that has `text` and is of `source`.
pub(crate) async fn list(
    client: &Client,
    text: Option<&str>,
    source: Option<&str>,
    show: &Show,
) -> Result<(), Failure> {
    let (mut listings, mut adverts, left_out) = fetch(client, source).await?;
    listings.retain(|l| text.is_none_or(|text| mentions(l, text)));
    adverts.retain(|a| text.is_none_or(|text| has(a, text)));
    answer(listings, adverts, left_out, show)
}

/// What fits every condition. Only listings of ours have an escrow mode; those who ask for one do not want others.
pub(crate) async fn search(client: &Client, what: &Search, show: &Show) -> Result<(), Failure> {
    let seller = what.seller.as_deref().map(crate::market::key).transpose()?;
    let (mut listings, mut adverts, left_out) = fetch(client, what.source.as_deref()).await?;
    listings.retain(|l| fits(l, what) && seller.is_none_or(|key| l.payee == key));
    adverts.retain(|a| advert_fits(a, what) && seller.is_none_or(|key| a.author == key));
    answer(listings, adverts, left_out, show)
}

type Fetched = (Vec<ListingView>, Vec<AdvertView>, Vec<LeftOut>);

async fn fetch(client: &Client, source: Option<&str>) -> Result<Fetched, Failure> {
    let Listings { mut listings, left_out } = client.get("/v1/listings").await?;
    let Adverts { mut adverts, left_out: more } = client.get("/v1/adverts").await?;
    listings.retain(|l| source.is_none_or(|source| l.source == source));
    adverts.retain(|a| source.is_none_or(|source| a.source == source));
    let left_out: BTreeSet<LeftOut> = left_out.into_iter().chain(more).collect();
    Ok((listings, adverts, left_out.into_iter().collect()))
}

fn has(advert: &AdvertView, text: &str) -> bool {
    let text = text.to_lowercase();
    let fields = [&advert.product_name, &advert.description].into_iter().chain(&advert.categories);
    let methods = advert.currency.iter().flat_map(|currency| &currency.methods);
    fields.chain(methods).any(|field| field.to_lowercase().contains(&text))
}

fn advert_fits(advert: &AdvertView, what: &Search) -> bool {
    let priced = |holds: &dyn Fn(u64) -> bool| advert.price_sat.is_some_and(|price| holds(price.0));
    let category = |name: &String| advert.categories.iter().any(|known| known.eq_ignore_ascii_case(name));
    what.mode.is_none()
        && what.words.iter().all(|word| has(advert, word))
        && what.category.as_ref().is_none_or(category)
        && what.min_price.is_none_or(|min| priced(&|price| price >= min))
        && what.max_price.is_none_or(|max| priced(&|price| price <= max))
}

fn answer(
    listings: Vec<ListingView>,
    adverts: Vec<AdvertView>,
    left_out: Vec<LeftOut>,
    show: &Show,
) -> Result<(), Failure> {
    let listings = listings.into_iter().map(|listing| Shown::Listing(Box::new(listing)));
    let adverts = adverts.into_iter().map(|advert| Shown::Advert(Box::new(advert)));
    let offers = Offers { offers: listings.chain(adverts).collect(), left_out };
    show.answer(&offers, in_words)
}

fn in_words(all: &Offers) -> String {
    let row = |shown: &Shown| match shown {
        Shown::Listing(l) => {
            let escrow = l.escrow.as_ref().map_or("none".to_owned(), |e| format!("{:?}", e.mode).to_lowercase());
            let take =
                if l.escrow.is_some() { format!("souk bid {}", l.id) } else { "not by souk: no escrow terms".into() };
            let (price, take) = fiat::offered(l).unwrap_or_else(|| (format!("{} sat", l.price_sat), take));
            vec![l.source.clone(), l.product_name.clone(), price, escrow, short(l.payee), take]
        }
        Shown::Advert(a) => {
            let source = if a.venue.is_empty() { a.source.clone() } else { format!("{}: {}", a.source, a.venue) };
            vec![source, a.product_name.clone(), price(a), "-".to_owned(), short(a.author), a.take.clone()]
        }
    };
    let rows = all.offers.iter().map(row).collect();
    let mut text = table(&["market", "what", "price", "escrow", "by", "how to take it"], rows);
    for more in &all.left_out {
        text += &format!("\nNot all: {}: {}", more.board, more.why);
    }
    text
}

fn price(advert: &AdvertView) -> String {
    if let Some(currency) = &advert.currency {
        let premium = if currency.premium_percent.starts_with('-') { "" } else { "+" };
        let price = match advert.price_sat {
            Some(fixed) => format!("{fixed} sat"),
            None => format!("market {premium}{} %", currency.premium_percent),
        };
        return format!("{price}, by {}", currency.methods.join(", "));
    }
    let per = advert.price.as_ref().and_then(|price| price.per.as_ref()).map(|per| format!(" a {per}"));
    let price = match (&advert.price_sat, &advert.price) {
        (Some(sat), _) => format!("{sat} sat"),
        (None, Some(price)) => format!("{} {}", price.amount, price.currency),
        (None, None) => "-".to_owned(),
    };
    price + per.as_deref().unwrap_or_default()
}

pub(crate) async fn orders(client: &Client, what: Order, show: &Show) -> Result<(), Failure> {
    match what {
        Order::Publish { order, board } => {
            let reply: OrderReply = client.post("/v1/orders", &OrderRequest { order, board }).await?;
            show.answer(&reply, published)?;
            show.qr(&reply.order)
        }
        Order::Watch { board, once } => watch(client, board.as_deref(), once, show).await,
    }
}

fn published(reply: &OrderReply) -> String {
    let mut text = format!("{}\norder of {}", reply.order, reply.amount);
    if let Some(at) = reply.expires_at {
        text += &format!(", payable until {at} (unix time)");
    }
    for told in &reply.boards {
        text += &match &told.refused {
            None => format!("\n{} has it", told.board),
            Some(why) => format!("\n{} does not have it: {why}", told.board),
        };
    }
    text
}

/// Each open order once, new ones as they come, until Ctrl-C.
async fn watch(client: &Client, board: Option<&str>, once: bool, show: &Show) -> Result<(), Failure> {
    let path = board.map_or("/v1/orders".to_owned(), |url| format!("/v1/orders?board={}", escaped(url)));
    let mut seen = BTreeSet::<MessageId>::new();
    loop {
        let mut orders: Vec<AdvertView> = client.get(&path).await?;
        orders.reverse();
        for order in orders {
            if seen.insert(order.id) {
                show.answer(&order, |o| {
                    format!("{}  by {}\n{}", o.product_name, short(o.author), o.order.clone().unwrap_or_default())
                })?;
            }
        }
        if once {
            return Ok(());
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// For a query: everything but letters, digits and what is safe there (RFC 3986).
pub(crate) fn escaped(text: &str) -> String {
    let byte = |b: u8| match b {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => char::from(b).to_string(),
        b => format!("%{b:02X}"),
    };
    text.bytes().map(byte).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_source_can_be_asked_for() {
        assert_eq!(SOURCES, markets::Source::ALL.map(markets::Source::name));
    }

    #[test]
    fn an_address_survives_a_query() {
        assert_eq!(escaped("ws://[::1]:7447/a b"), "ws%3A%2F%2F%5B%3A%3A1%5D%3A7447%2Fa%20b");
    }
}

//! Adverts of the markets on Nostr: theirs read into one shape, ours written in theirs. Pure: the time is given from outside.
//!
//! [`read()`] takes one verified event of any kind in [`KINDS`] and says what is offered, by whom, on which market, and whether it
//! can still be had. It believes nothing: every field has a bound, text is cleaned of what steers a terminal ([`text`]), numbers
//! are exact ([`Decimal`]), and what cannot be read is refused with the field's name. [`write()`] makes of an [`Advert`] the event
//! that the other markets' clients read: goods as NIP-99, bitcoin against money of a country as NIP-69, and never one as the other.

mod currency;
mod decimal;
mod goods;
mod naddr;
mod order;
pub mod text;
mod write;

use trade::{FiatSide, FiatTerms, Message, MessageId, PartyKey};
use units::{Sat, Unix};
use wire::domp::{self, Reject};
use wire::event::Event;

pub use decimal::{Decimal, NotDecimal};
pub use order::{NotPayable, Payable, check_order, order_event};
pub use write::{Unwritable, write};

/// Kinds of event that hold adverts.
pub mod kind {
    /// DOMP's listing.
    pub const LISTING: u16 = wire::domp::kind::LISTING;
    /// NIP-15: a stall, its name and how it ships.
    pub const STALL: u16 = 30_017;
    /// NIP-15: a product of a stall.
    pub const PRODUCT: u16 = 30_018;
    /// NIP-99: a classified listing.
    pub const CLASSIFIED: u16 = 30_402;
    /// NIP-99: a draft of one.
    pub const CLASSIFIED_DRAFT: u16 = 30_403;
    /// CivKit: a market order, whose content is an invoice or an offer.
    pub const MARKET_ORDER: u16 = 32_500;
    /// NIP-69: an order for bitcoin against money of a country.
    pub const CURRENCY_ORDER: u16 = 38_383;
}

/// Every kind that [`read`] understands.
pub const KINDS: [u16; 7] = [
    kind::LISTING,
    kind::STALL,
    kind::PRODUCT,
    kind::CLASSIFIED,
    kind::CLASSIFIED_DRAFT,
    kind::MARKET_ORDER,
    kind::CURRENCY_ORDER,
];

/// Longest title and longest text that are kept, in characters. What is longer is cut.
pub const TITLE_MAX: usize = 200;
/// See [`TITLE_MAX`].
pub const TEXT_MAX: usize = 4000;
/// Longest name of anything small: a currency, a place, a payment method, a category.
pub const NAME_MAX: usize = 100;
/// Longest link.
pub const LINK_MAX: usize = 2000;
/// Most entries of any list: categories, pictures, payment methods, ways of shipping.
pub const LIST_MAX: usize = 32;
/// Longest `d` tag, in bytes.
pub const D_MAX: usize = 256;

/// The market that an advert is of, as far as the event tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Source {
    /// This one: a listing with escrow terms, or a mirror of one.
    Souk,
    /// Any other DOMP client.
    Domp,
    /// shopstr.store.
    Shopstr,
    /// plebeian.market, or another client of the Gamma market specification.
    Plebeian,
    /// Some other client of NIP-99.
    Nip99,
    /// A Mostro node.
    Mostro,
    /// A RoboSats coordinator.
    Robosats,
    /// lnp2pBot on Telegram.
    Lnp2pBot,
    /// Peach.
    Peach,
    /// Some other publisher of NIP-69.
    Nip69,
    /// A stall of NIP-15, such as nostrmarket's.
    Nip15,
    /// A CivKit board.
    Civkit,
}

impl Source {
    /// Every source there is.
    pub const ALL: [Source; 12] = [
        Source::Souk,
        Source::Domp,
        Source::Shopstr,
        Source::Plebeian,
        Source::Nip99,
        Source::Mostro,
        Source::Robosats,
        Source::Lnp2pBot,
        Source::Peach,
        Source::Nip69,
        Source::Nip15,
        Source::Civkit,
    ];

    /// Its stable name.
    pub fn name(self) -> &'static str {
        match self {
            Source::Souk => "souk",
            Source::Domp => "domp",
            Source::Shopstr => "shopstr",
            Source::Plebeian => "plebeian",
            Source::Nip99 => "nip99",
            Source::Mostro => "mostro",
            Source::Robosats => "robosats",
            Source::Lnp2pBot => "lnp2pbot",
            Source::Peach => "peach",
            Source::Nip69 => "nip69",
            Source::Nip15 => "nip15",
            Source::Civkit => "civkit",
        }
    }
}

/// Can it still be had?
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Yes.
    Open,
    /// Not published for buyers: a draft, or hidden.
    Hidden,
    /// Somebody is taking it.
    Taken,
    /// It was sold, or the trade succeeded.
    Done,
    /// Called off, or expired.
    Gone,
}

/// One thing that somebody offers on some market.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Advert {
    /// Which market.
    pub source: Source,
    /// Which part of that market: the name of a Mostro node, of a coordinator; empty where there is none.
    pub venue: String,
    /// Kind of the event.
    pub kind: u16,
    /// Id of the event.
    pub id: MessageId,
    /// Who published it: for NIP-69 often the platform, not the trader.
    pub author: PartyKey,
    /// Its name within author and kind.
    pub d: String,
    /// When this version of it was published.
    pub at: Unix,
    /// When its first version was, where it says so.
    pub since: Unix,
    /// Can it still be had?
    pub standing: Standing,
    /// What it is, in one line.
    pub title: String,
    /// More about it.
    pub text: String,
    /// Where.
    pub place: String,
    /// When it ceases to hold.
    pub expires: Option<Unix>,
    /// Where it can be taken: a web address, or an address of the market's own scheme.
    pub link: Option<String>,
    /// Our listing that it mirrors.
    pub mirrors: Option<MessageId>,
    /// What is offered.
    pub subject: Subject,
}

/// What is offered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Subject {
    /// A thing.
    Goods(Goods),
    /// Bitcoin, against money of a country.
    Currency(CurrencyOrder),
    /// Whatever the order's text says; who pays it has taken it.
    Order(Payable),
    /// Nothing by itself: the stall that products name.
    Stall(Stall),
}

/// A thing for sale.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Goods {
    /// How much, and of which currency.
    pub price: Price,
    /// How many there are; none when nobody says.
    pub stock: Option<u32>,
    /// Ways of shipping, each in a line of its own.
    pub shipping: Vec<String>,
    /// What it is filed under.
    pub categories: Vec<String>,
    /// Addresses of pictures.
    pub pictures: Vec<String>,
    /// Further facts, name and value.
    pub facts: Vec<(String, String)>,
    /// The stall it is of (NIP-15).
    pub stall: Option<String>,
}

/// An asking price.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Price {
    /// How much.
    pub amount: Decimal,
    /// Of which currency, in capitals.
    pub currency: String,
    /// For how long, for what is let: `month`, say.
    pub per: Option<String>,
}

impl Price {
    /// The price in satoshis, when it is one of bitcoin.
    pub fn in_sat(&self) -> Option<Sat> {
        self.amount.in_sat(&self.currency)
    }
}

/// A stall (NIP-15).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stall {
    /// The stall's own id, which products name.
    pub id: String,
    /// Its currency, in capitals.
    pub currency: String,
    /// Ways of shipping.
    pub shipping: Vec<String>,
}

/// What the author of an order does with bitcoin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// Buys bitcoin: pays money of a country.
    Buys,
    /// Sells bitcoin: wants money of a country.
    Sells,
}

/// An order for bitcoin against money of a country (NIP-69).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CurrencyOrder {
    /// What its author does with bitcoin.
    pub side: Side,
    /// ISO 4217, or what the platform calls it, in capitals.
    pub currency: String,
    /// Least amount of the currency.
    pub min: Decimal,
    /// Most; the same as `min` when there is no range.
    pub max: Decimal,
    /// Fixed amount of bitcoin; none when the market price counts.
    pub amount: Option<Sat>,
    /// Per cent above (or, negative, below) the market price.
    pub premium: Decimal,
    /// How the currency is paid.
    pub methods: Vec<String>,
    /// Bitcoin network: `mainnet`, `testnet`, …
    pub network: String,
    /// Where the bitcoin is: `lightning`, `onchain`, `liquid`.
    pub layer: String,
    /// What each side locks, in the platform's own unit.
    pub bond: Option<Bond>,
}

impl CurrencyOrder {
    /// An order of ours, at the market price; `network` is the name that NIP-69 has for it.
    pub fn of(terms: &FiatTerms, network: &str) -> CurrencyOrder {
        let hundredths = |count: u64| Decimal::new(i64::try_from(count).unwrap_or(i64::MAX), 2);
        CurrencyOrder {
            side: match terms.side {
                FiatSide::Buy => Side::Buys,
                FiatSide::Sell => Side::Sells,
            },
            currency: terms.currency.to_string(),
            min: hundredths(terms.min.in_hundredths()),
            max: hundredths(terms.max.in_hundredths()),
            amount: None,
            premium: Decimal::new(terms.premium_percent.in_hundredths(), 2),
            methods: terms.methods.iter().map(|name| text::line(name, NAME_MAX)).collect(),
            network: network.to_owned(),
            layer: "lightning".to_owned(),
            bond: None,
        }
    }
}

/// A bond that an order asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bond {
    /// An amount.
    Sat(Sat),
    /// Per cent of the trade.
    Percent(Decimal),
}

/// Why an event is no advert that we read. [`Unread::code`] is stable.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unread {
    /// Not a kind in [`KINDS`].
    #[error("kind {0} holds no adverts")]
    Kind(u16),
    /// What the kind requires is absent.
    #[error("{0} is missing")]
    Missing(&'static str),
    /// What stands there cannot be that.
    #[error("{0} is malformed")]
    Malformed(&'static str),
    /// A listing of DOMP that DOMP's rules refuse.
    #[error(transparent)]
    Domp(#[from] Reject),
}

impl Unread {
    /// A stable name for the reason.
    pub fn code(&self) -> &'static str {
        match self {
            Unread::Kind(_) => "unknown-kind",
            Unread::Missing(_) => "missing",
            Unread::Malformed(_) => "malformed",
            Unread::Domp(reject) => reject.code(),
        }
    }
}

/// Reads the advert in an event whose signature was verified; `now` tells what has expired.
pub fn read(event: &Event, now: Unix) -> Result<Advert, Unread> {
    let mut advert = match event.kind {
        kind::LISTING => listing(event)?,
        kind::CLASSIFIED | kind::CLASSIFIED_DRAFT => goods::classified(event)?,
        kind::PRODUCT => goods::product(event)?,
        kind::STALL => goods::stall(event)?,
        kind::CURRENCY_ORDER => currency::order(event)?,
        kind::MARKET_ORDER => order::read(event)?,
        other => return Err(Unread::Kind(other)),
    };
    if advert.standing == Standing::Open && advert.expires.is_some_and(|at| at <= now) {
        advert.standing = Standing::Gone;
    }
    Ok(advert)
}

/// What every advert has.
fn frame(event: &Event, source: Source, subject: Subject) -> Result<Advert, Unread> {
    let d = event.identifier();
    if d.len() > D_MAX {
        return Err(Unread::Malformed("d"));
    }
    Ok(Advert {
        source,
        venue: String::new(),
        kind: event.kind,
        id: MessageId(event.id),
        author: PartyKey(event.pubkey),
        d: d.to_owned(),
        at: event.created_at,
        since: event.created_at,
        standing: Standing::Open,
        title: String::new(),
        text: String::new(),
        place: String::new(),
        expires: event.expiration(),
        link: None,
        mirrors: None,
        subject,
    })
}

/// A currency's name: letters and digits, in capitals.
fn currency_name(text: &str) -> Option<String> {
    let text = text.trim();
    let plain = (1..=12).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_alphanumeric());
    plain.then(|| text.to_ascii_uppercase())
}

/// A link that may be shown: one word with a scheme.
fn link(text: &str) -> Option<String> {
    let shown = text::line(text, LINK_MAX + 1);
    let (scheme, rest) = shown.split_once(':')?;
    let named = !scheme.is_empty() && scheme.bytes().all(|b| b.is_ascii_alphanumeric() || b"+-.".contains(&b));
    let whole = shown == text.trim() && shown.chars().count() <= LINK_MAX && !shown.contains(char::is_whitespace);
    (named && whole && !rest.is_empty()).then_some(shown)
}

/// DOMP's listing (300), as `wire` reads it.
fn listing(event: &Event) -> Result<Advert, Unread> {
    let decoded = domp::decode_verified(event)?;
    let Message::Listing(listing) = decoded.message else { return Err(Unread::Kind(event.kind)) };
    if let Some(terms) = &listing.fiat {
        // It does not say which network it is for.
        let order = CurrencyOrder::of(terms, "");
        let title = currency::title(&order);
        let mut advert = frame(event, Source::Souk, Subject::Currency(order))?;
        advert.title = title;
        advert.text = text::lines(&listing.description, TEXT_MAX);
        return Ok(advert);
    }
    let mut shipping = Vec::new();
    if let Some(terms) = &listing.shipping {
        shipping.extend(terms.domestic.map(|cost| format!("domestic {cost} sat")));
        shipping.extend(terms.international.map(|cost| format!("international {cost} sat")));
        shipping.extend(terms.estimated_days.map(|days| format!("{days} days")));
    }
    let goods = Goods {
        price: Price { amount: listing.price.into(), currency: "SAT".to_owned(), per: None },
        stock: None,
        shipping,
        categories: listing.category.iter().map(|name| text::line(name, NAME_MAX)).collect(),
        pictures: listing.storage_link.iter().filter_map(|at| link(at)).collect(),
        facts: Vec::new(),
        stall: None,
    };
    let source = if listing.escrow.is_some() { Source::Souk } else { Source::Domp };
    let mut advert = frame(event, source, Subject::Goods(goods))?;
    advert.title = text::line(&listing.product_name, TITLE_MAX);
    advert.text = text::lines(&listing.description, TEXT_MAX);
    Ok(advert)
}

//! What is offered on other markets, in one list with ours, and CivKit's market orders.

use std::collections::{BTreeMap, BTreeSet};

use futures::future::join_all;
use markets::{Advert, Side, Source, Standing, Subject};
use trade::PartyKey;
use wire::event::Event;
use wire::filter::Filter;
use wire::offer::OfferAmount;

use crate::api::types::{
    AdvertView, Adverts, CurrencyView, LeftOut, ListingView, OrderReply, OrderRequest, OrderTaken, PriceView,
};
use crate::board_link::{BoardError, BoardLink, Letterbox};
use crate::clock;
use crate::desk::DeskError;
use crate::pages;
use crate::running::Running;

/// Kinds of the list: everything but our own listings, which have a list of their own.
const KINDS: [u16; 4] =
    [markets::kind::CLASSIFIED, markets::kind::PRODUCT, markets::kind::MARKET_ORDER, markets::kind::CURRENCY_ORDER];

/// How one addressable event is told from others: kind, author and name.
type Address = (u16, PartyKey, String);

impl Running {
    /// What other markets have open on our boards and on their relays, newest first. `known` are our own listings: mirrors of
    /// them are left out.
    pub async fn adverts(&self, known: &[ListingView]) -> Result<Adverts, DeskError> {
        let links: Vec<&BoardLink> = self.boards.iter().chain(&self.relays).collect();
        let listed: BTreeSet<_> = known.iter().map(|listing| (listing.payee, listing.d.clone())).collect();
        let (found, left_out) = gather(&links, &KINDS).await?;
        let mirror =
            |advert: &Advert| advert.source == Source::Souk && listed.contains(&(advert.author, advert.d.clone()));
        let adverts = found.into_iter().filter(|(advert, _)| !mirror(advert)).map(view).collect();
        Ok(Adverts { adverts, left_out })
    }

    /// Market orders (CivKit) that can still be paid, on every board or on one that need not be configured.
    pub async fn orders(&self, board: Option<&str>) -> Result<Vec<AdvertView>, DeskError> {
        let kinds = [markets::kind::MARKET_ORDER];
        let (found, _) = match board {
            Some(url) => {
                let visit = self.visit(url)?;
                gather(&[&visit.link], &kinds).await?
            }
            None => gather(&self.boards.iter().collect::<Vec<_>>(), &kinds).await?,
        };
        Ok(found.into_iter().map(view).collect())
    }

    /// Publishes an invoice or an offer as a market order, once it was found to be one that can be paid on our network.
    pub async fn publish_order(&self, request: OrderRequest) -> Result<OrderReply, DeskError> {
        let now = clock::unix();
        let order = markets::check_order(&request.order, &self.network, now).map_err(DeskError::Order)?;
        // Bech32 ends in a checksum over all of it: published twice, it is the same order.
        let name = order.text.get(order.text.len().saturating_sub(16)..).unwrap_or_default();
        let event = markets::order_event(&order, self.identity.0, now, name).sign(&self.identity_pair, &[0; 32]);
        let id = trade::MessageId(event.id);
        let answers = match &request.board {
            Some(url) => {
                let visit = self.visit(url)?;
                visit.link.soon().await;
                vec![(url.clone(), self.publish(&visit.link, &event).await)]
            }
            None => {
                let publish = async |board: &BoardLink| (board.url().to_owned(), self.publish(board, &event).await);
                join_all(self.boards.iter().map(publish)).await
            }
        };
        let taken = answers.iter().filter(|(_, answer)| answer.is_ok()).count();
        if taken == 0
            && let Some(error) = answers.iter().find_map(|(_, answer)| answer.clone().err())
        {
            return Err(error.into());
        }
        let boards = answers.into_iter().map(|(board, answer)| {
            let refused = answer.err().map(|error| match error {
                BoardError::Refused { reason, .. } => reason,
                BoardError::Unreachable(_) => "it cannot be reached".to_owned(),
                BoardError::NoCredential(url) => format!("a credential is wanted: souk credential buy --board {url}"),
            });
            OrderTaken { board, refused }
        });
        Ok(OrderReply {
            id,
            order: order.text,
            amount: amount_in_words(order.amount),
            expires_at: order.expires,
            boards: boards.collect(),
        })
    }

    /// Publishes with a credential where the board wants one.
    async fn publish(&self, board: &BoardLink, event: &Event) -> Result<(), BoardError> {
        self.postage.publish(board, event).await.unwrap_or_else(|error| {
            tracing::error!(%error, "credentials cannot be had");
            Err(BoardError::NoCredential(board.url().to_owned()))
        })
    }

    /// A connection to a board for as long as the visit is kept.
    fn visit(&self, url: &str) -> Result<Visit, DeskError> {
        if !url.starts_with("ws://") && !url.starts_with("wss://") {
            return Err(DeskError::Usage(format!("{url:?} does not begin with ws:// or wss://")));
        }
        if let Some(link) = self.boards.iter().chain(&self.relays).find(|board| board.url() == url) {
            return Ok(Visit { link: link.clone(), _ends: None });
        }
        let (mail, _nobody_writes_to_us_there) = tokio::sync::mpsc::channel(1);
        let ends = self.shutdown.child_token();
        let link = BoardLink::start(url.to_owned(), false, Letterbox::new(mail), &self.tasks, ends.clone());
        Ok(Visit { link, _ends: Some(ends.drop_guard()) })
    }
}

/// See [`Running::visit`].
struct Visit {
    link: BoardLink,
    _ends: Option<tokio_util::sync::DropGuard>,
}

/// Adverts with the boards that have them.
type OnBoards = Vec<(Advert, Vec<String>)>;

/// Open adverts of some kinds with the boards that have them, newest first, each address in its newest version, and where there are
/// more than are read.
async fn gather(links: &[&BoardLink], kinds: &[u16]) -> Result<(OnBoards, Vec<LeftOut>), DeskError> {
    // Each kind for itself: one that fills its pages keeps nothing of the others out.
    let read = async |kind: &u16| {
        let filter = Filter { kinds: Some(vec![*kind]), ..Filter::default() };
        pages::read_all(links.iter().copied(), &filter).await
    };
    let mut newest = BTreeMap::<Address, (Advert, Vec<String>)>::new();
    let mut left_out = BTreeSet::new();
    for of_kind in join_all(kinds.iter().map(read)).await {
        let (answers, more) = of_kind?;
        left_out.extend(more);
        for (board, events) in answers {
            let adverts = tokio::task::block_in_place(|| events.iter().filter_map(open).collect::<Vec<_>>());
            adverts.into_iter().for_each(|advert| keep_newest(&mut newest, advert, board));
        }
    }
    let mut found: Vec<_> = newest.into_values().filter(|(advert, _)| advert.standing == Standing::Open).collect();
    found.sort_by_key(|(advert, _)| std::cmp::Reverse((advert.at, advert.id)));
    Ok((found, left_out.into_iter().collect()))
}

/// What a board says is only worth something when its author signed it.
fn open(event: &Event) -> Option<Advert> {
    event.verify().ok()?;
    markets::read(event, clock::unix()).ok()
}

/// Of two versions made in the same second the lower id counts (NIP-01).
fn keep_newest(newest: &mut BTreeMap<Address, (Advert, Vec<String>)>, advert: Advert, board: &str) {
    let address = (advert.kind, advert.author, advert.d.clone());
    let age = |advert: &Advert| (advert.at, std::cmp::Reverse(advert.id));
    match newest.get_mut(&address) {
        Some((known, boards)) if known.id == advert.id => boards.push(board.to_owned()),
        Some((known, _)) if age(known) > age(&advert) => {}
        Some(_) | None => {
            newest.insert(address, (advert, vec![board.to_owned()]));
        }
    }
}

fn view((advert, boards): (Advert, Vec<String>)) -> AdvertView {
    let take = take_in_words(&advert);
    let mut view = AdvertView {
        source: advert.source.name().to_owned(),
        venue: advert.venue,
        id: advert.id,
        kind: advert.kind,
        author: advert.author,
        d: advert.d,
        listed_at: advert.at,
        product_name: advert.title,
        description: advert.text,
        place: advert.place,
        price_sat: None,
        price: None,
        stock: None,
        categories: Vec::new(),
        currency: None,
        order: None,
        expires_at: advert.expires,
        link: advert.link,
        take,
        boards,
    };
    match advert.subject {
        Subject::Goods(goods) => {
            view.price_sat = goods.price.in_sat();
            let (amount, currency) = (goods.price.amount.to_string(), goods.price.currency);
            view.price = Some(PriceView { amount, currency, per: goods.price.per });
            view.stock = goods.stock;
            view.categories = goods.categories;
        }
        Subject::Currency(order) => {
            view.price_sat = order.amount;
            view.currency = Some(CurrencyView {
                sells_bitcoin: order.side == Side::Sells,
                currency: order.currency,
                min: order.min.to_string(),
                max: order.max.to_string(),
                premium_percent: order.premium.to_string(),
                methods: order.methods,
                network: order.network,
                layer: order.layer,
            });
        }
        Subject::Order(order) => {
            view.price_sat = match order.amount {
                OfferAmount::Msat(amount) => Some(amount.to_sat_floor()),
                OfferAmount::Currency(..) => None,
            };
            view.order = Some(order.text);
        }
        Subject::Stall(_) => {}
    }
    view
}

/// How to take it: none of these markets has escrow that souk could join.
fn take_in_words(advert: &Advert) -> String {
    let address = advert.naddr().map_or_else(|| advert.id.to_string(), |naddr| format!("nostr:{naddr}"));
    match (&advert.subject, &advert.link) {
        (Subject::Order(order), _) if order.refund => format!("collect it with a wallet: {}", order.text),
        (Subject::Order(order), _) => format!("pay it: souk node pay {}", order.text),
        (_, Some(link)) => link.clone(),
        (_, None) => format!("in its own client: {address}"),
    }
}

fn amount_in_words(amount: OfferAmount) -> String {
    match amount {
        OfferAmount::Msat(amount) => format!("{} sat", amount.to_sat_floor()),
        OfferAmount::Currency(code, minor) => format!("{minor} minor units of {}", String::from_utf8_lossy(&code)),
    }
}

/// Who made a listing: souk states escrow terms, other clients of DOMP do not.
pub(crate) fn source_of(listing: &trade::Listing) -> &'static str {
    if listing.escrow.is_some() { Source::Souk.name() } else { Source::Domp.name() }
}

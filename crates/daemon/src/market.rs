//! What a trader can do, free of how it is asked: the API and the demo both stand on these.

use std::collections::BTreeMap;

use futures::future::join_all;
use trade::{Command, Envelope, Listing, Message, MessageId, PartyKey, ReceiptStatus, Rule, Shipping, TradeId};
use units::Sat;
use wire::event::Event;
use wire::filter::Filter;

use crate::api::arbiter::DisputeView;
use crate::api::types::{
    BacklogView, BidRequest, ChatRequest, ChatView, ListingRequest, ListingView, Listings, SellRequest, StallView,
    Status, StepRequest, TradeView,
};
use crate::board_link::{BoardLink, answered};
use crate::desk::{DeskError, DeskHandle};
use crate::pages;
use crate::post;
use crate::running::Running;
use crate::store::outbox::Backlog;

/// Kind of a listing (DOMP).
const KIND_LISTING: u16 = 300;

impl Running {
    /// Identity, roles and how the node stands.
    pub async fn status(&self) -> Result<Status, DeskError> {
        let (open_trades, damaged) = match &self.desk {
            Some(desk) => desk.standing().await?,
            None => (0, Vec::new()),
        };
        let mut backlog = tokio::task::block_in_place(|| self.store.backlog())?;
        let node = match &self.node {
            Some(node) => Some(node.info().await?),
            None => None,
        };
        Ok(Status {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            roles: self.roles.clone(),
            node,
            identity: Some(self.identity),
            board: self.board_url(),
            boards: self.boards.iter().map(|board| board.url().to_owned()).collect(),
            open_trades,
            backlog: self
                .boards
                .iter()
                .chain(&self.relays)
                .map(|board| {
                    let Backlog { waiting, trouble } = backlog.remove(board.url()).unwrap_or_default();
                    BacklogView { board: board.url().to_owned(), connected: board.is_connected(), waiting, trouble }
                })
                .collect(),
            damaged,
            restored: tokio::task::block_in_place(|| crate::restore::report(&self.store))?,
            superseded: *self.other.borrow(),
        })
    }

    /// Lists something under the identity key and returns the listing's id once a board has it.
    pub async fn sell(&self, request: SellRequest) -> Result<MessageId, DeskError> {
        let listing = Listing {
            d: fresh_name()?,
            product_name: request.product_name,
            description: request.description,
            price: Sat(request.price_sat),
            category: request.category,
            storage_link: None,
            shipping: request.shipping_days.map(|days| Shipping { estimated_days: Some(days), ..Shipping::default() }),
            escrow: Some(request.escrow),
            fiat: None,
        };
        self.desk()?.list(listing, request.stock).await
    }

    /// Our own listings.
    pub async fn stalls(&self) -> Result<Vec<StallView>, DeskError> {
        self.desk()?.stalls().await
    }

    /// Changes, restocks or withdraws a listing of ours.
    pub async fn change_listing(&self, listing: MessageId, request: ListingRequest) -> Result<StallView, DeskError> {
        self.desk()?.change_listing(listing, request).await
    }

    /// What was said about a trade, oldest first.
    pub async fn chat(&self, trade: TradeId) -> Result<Vec<ChatView>, DeskError> {
        self.desk()?.chat(trade).await
    }

    /// Says something about a trade, sealed for one reader.
    pub async fn say(&self, trade: TradeId, request: ChatRequest) -> Result<ChatView, DeskError> {
        self.desk()?.say(trade, request).await
    }

    /// Listings on all boards, newest first, each once and in its newest version only, and where there are more than are read.
    pub async fn listings(&self) -> Result<Listings, DeskError> {
        let filter = Filter { kinds: Some(vec![KIND_LISTING]), ..Filter::default() };
        let (answers, left_out) = pages::read_all(&self.boards, &filter).await?;
        Ok(Listings { listings: tokio::task::block_in_place(|| on_boards(answers)), left_out })
    }

    /// Bids on a listing and returns the new trade.
    pub async fn bid(&self, request: BidRequest) -> Result<TradeId, DeskError> {
        let filter = Filter { ids: Some(vec![request.listing.0]), ..Filter::default() };
        let listing = self.find_listing(request.listing, filter).await?;
        self.desk()?.bid(request, None, listing).await
    }

    /// One listing, from whichever board has it.
    pub(crate) async fn find_listing(&self, id: MessageId, filter: Filter) -> Result<Envelope, DeskError> {
        let mut found = self.fetch(filter).await?.into_iter().map(|(_, envelope)| envelope);
        found
            .find(|envelope| envelope.id == id)
            .ok_or_else(|| DeskError::NotFound(format!("no board has a listing {id}")))
    }

    /// Every trade.
    pub async fn trades(&self) -> Result<Vec<TradeView>, DeskError> {
        self.desk()?.trades().await
    }

    /// One trade.
    pub async fn trade(&self, trade: TradeId) -> Result<TradeView, DeskError> {
        self.desk()?.trade(trade).await
    }

    /// Disputes that wait for our ruling, the most urgent first.
    pub async fn disputes(&self) -> Result<Vec<DisputeView>, DeskError> {
        self.desk()?.disputes().await
    }

    /// Moves a trade and returns how it stands afterwards.
    pub async fn step(&self, trade: TradeId, request: StepRequest) -> Result<TradeView, DeskError> {
        let desk = self.desk()?;
        let command = match request {
            StepRequest::Accept { shipping_days, terms } => return desk.accept(trade, shipping_days, terms).await,
            StepRequest::Counter { amount_sat } => Command::Counter { amount: Sat(amount_sat) },
            StepRequest::Reject { reason } => Command::Withdraw { reason },
            StepRequest::Pay => Command::Pay,
            StepRequest::Relock => return desk.relock(trade).await,
            StepRequest::Cancel { reason } => return cancel(desk, trade, reason).await,
            StepRequest::Ship { note, tracking } => Command::Ship { note, tracking },
            StepRequest::Confirm { status: ReceiptStatus::Received, rating, feedback, reason: None } => {
                Command::Release { rating, feedback }
            }
            StepRequest::Confirm { status: ReceiptStatus::Received, .. } => {
                return Err(DeskError::Usage(
                    "a reason is only given when something is wrong: say which status".into(),
                ));
            }
            StepRequest::Confirm { status, reason, .. } => {
                let reason =
                    reason.ok_or_else(|| DeskError::Usage("say what is wrong: a reason is required".into()))?;
                Command::Complain { status, reason }
            }
            StepRequest::Refund { reason } => Command::Refund { reason },
            StepRequest::Dispute { reason, details } => Command::Dispute { reason, details },
            StepRequest::Rule { payee_tranches, payer_bond, payee_bond, resolution } => {
                Command::Rule { payee_tranches, payer_bond, payee_bond, resolution }
            }
            StepRequest::Rate { rating, comment } => Command::Rate { rating, comment },
            StepRequest::RateArbiter { rating, comment } => Command::RateArbiter { rating, comment },
            StepRequest::RateBoard { url, rating, comment } => Command::RateBoard { url, rating, comment },
        };
        desk.command(trade, command).await
    }

    pub(crate) fn desk(&self) -> Result<&DeskHandle, DeskError> {
        let off = "this daemon neither trades nor arbitrates: switch trader.enabled or arbiter.enabled on";
        self.desk.as_ref().ok_or_else(|| DeskError::Usage(off.into()))
    }

    /// Listings that match, each with the board that has it. Boards that do not answer are skipped while one does.
    async fn fetch(&self, filter: Filter) -> Result<Vec<(String, Envelope)>, DeskError> {
        let ask = async |board: &'_ BoardLink| board.query(vec![filter.clone()]).await;
        let answers = join_all(self.boards.iter().map(ask)).await;
        let mut found = Vec::new();
        for (board, events) in answered(self.boards.iter().map(BoardLink::url).zip(answers))? {
            let listings = events.iter().filter_map(|event| post::open_listing(event).ok());
            found.extend(listings.map(|envelope| (board.to_owned(), envelope)));
        }
        Ok(found)
    }
}

/// The listings among what boards sent, newest first.
fn on_boards(answers: Vec<(&str, Vec<Event>)>) -> Vec<ListingView> {
    let mut found = BTreeMap::<MessageId, ListingView>::new();
    for (board, events) in answers {
        for event in events {
            let Ok(envelope) = post::open_listing(&event) else { continue };
            let known = found.entry(envelope.id).or_insert_with(|| listing_view(&envelope));
            known.boards.push(board.to_owned());
        }
    }
    let listings = found.into_values().filter(|listing| !listing.product_name.is_empty()).collect();
    let mut listings = newest(listings);
    listings.sort_by_key(|listing| std::cmp::Reverse(listing.listed_at));
    listings
}

/// A name for a listing that no other one of ours has.
pub(crate) fn fresh_name() -> Result<String, DeskError> {
    let mut d = [0; 8];
    getrandom::fill(&mut d).map_err(|e| DeskError::Usage(format!("no random bytes: {e}")))?;
    Ok(u64::from_be_bytes(d).to_string())
}

/// A listing supersedes earlier ones of the same name by the same seller; of two made in the same second the lower id counts
/// (NIP-01).
fn newest(listings: Vec<ListingView>) -> Vec<ListingView> {
    let mut newest = BTreeMap::<(PartyKey, String), ListingView>::new();
    for listing in listings {
        let key = (listing.payee, listing.d.clone());
        let later = |known: &ListingView| {
            (listing.listed_at, std::cmp::Reverse(listing.id)) > (known.listed_at, std::cmp::Reverse(known.id))
        };
        if newest.get(&key).is_none_or(later) {
            newest.insert(key, listing);
        }
    }
    newest.into_values().collect()
}

/// Before anything is agreed one side may simply walk away; afterwards it takes both.
async fn cancel(desk: &DeskHandle, trade: TradeId, reason: String) -> Result<TradeView, DeskError> {
    match desk.command(trade, Command::Withdraw { reason: reason.clone() }).await {
        Err(DeskError::RefusedNow { refusal, .. }) if refusal.rule == Rule::WrongState => {
            desk.command(trade, Command::Cancel { agreement: reason }).await
        }
        other => other,
    }
}

fn listing_view(envelope: &Envelope) -> ListingView {
    let mut view = ListingView {
        id: envelope.id,
        payee: envelope.author,
        d: String::new(),
        listed_at: envelope.at,
        product_name: String::new(),
        description: String::new(),
        price_sat: Sat::ZERO,
        category: None,
        shipping_days: None,
        escrow: None,
        fiat: None,
        boards: Vec::new(),
        source: String::new(),
    };
    if let Message::Listing(listing) = &envelope.message {
        view.product_name.clone_from(&listing.product_name);
        view.description.clone_from(&listing.description);
        view.price_sat = listing.price;
        view.category.clone_from(&listing.category);
        view.d.clone_from(&listing.d);
        view.shipping_days = listing.shipping.as_ref().and_then(|shipping| shipping.estimated_days);
        view.escrow.clone_from(&listing.escrow);
        view.fiat.clone_from(&listing.fiat);
        view.source = crate::adverts::source_of(listing).to_owned();
    }
    view
}

//! What the API asks of the desk, and how it is answered.

use std::collections::BTreeMap;
use std::time::Duration;

use node::NodeError;
use reputation::Service;
use tokio::sync::{broadcast, mpsc, oneshot};
use tokio::time::Instant;
use trade::{
    BidOrder, Command, Envelope, EscrowTerms, FiatBid, Input, IssuedState, LegId, Listing, Message, MessageId,
    PartyKey, Refusal, Rule, Step, TradeId, secret,
};
use units::{PaymentHash, Sat};

use super::{Change, DeskError, LISTING_NAME, Loop};
use crate::api::arbiter::{DisputeView, SeenView};
use crate::api::types::{BidRequest, ChatRequest, ChatView, ListingRequest, StallView, TradeView};
use crate::board_link::BoardError;
use crate::standing::Circle;
use crate::{post, view};

/// How long a bid waits for an answer when the user does not say, in hours.
const BID_HOURS: u16 = 24;
/// How long the payee's invoices may be paid, in seconds: time for both sides to lock every leg.
pub(super) const INVOICE_EXPIRY_SECS: u32 = 3600;
/// How long one who lists waits for a board.
const LISTED_WITHIN: Duration = Duration::from_secs(10);

/// What the API asks of the desk.
pub(super) enum Request {
    List { listing: Box<Listing>, stock: u32, done: Reply<MessageId> },
    Bid { order: Box<BidRequest>, fiat: Option<FiatBid>, listing: Box<Envelope>, done: Reply<TradeId> },
    Command { trade: TradeId, command: Box<Command>, done: Reply<TradeView> },
    Accept { trade: TradeId, shipping_days: Option<u16>, terms: Option<String>, done: Reply<TradeView> },
    Relock { trade: TradeId, done: Reply<TradeView> },
    ChangeListing { listing: MessageId, change: Box<ListingRequest>, done: Reply<StallView> },
    Stalls { done: Reply<Vec<StallView>> },
    Say { trade: TradeId, words: Box<ChatRequest>, done: Reply<ChatView> },
    Chat { trade: TradeId, done: Reply<Vec<ChatView>> },
    Trades { done: Reply<Vec<TradeView>> },
    Trade { trade: TradeId, done: Reply<TradeView> },
    Circle { done: Reply<Circle> },
    Standing { done: Reply<(usize, Vec<TradeId>)> },
    Disputes { done: Reply<Vec<DisputeView>> },
    Service { done: Reply<Service> },
    SeenArbiters { done: Reply<BTreeMap<PartyKey, SeenView>> },
}

pub(super) type Reply<T> = oneshot::Sender<Result<T, DeskError>>;

/// A handle to the desk. Cheap to clone.
#[derive(Clone)]
pub(crate) struct DeskHandle {
    pub(super) requests: mpsc::Sender<Request>,
    pub(super) changes: broadcast::Sender<Change>,
}

impl DeskHandle {
    /// Lists something and returns its id as soon as a board has it.
    pub(crate) async fn list(&self, listing: Listing, stock: u32) -> Result<MessageId, DeskError> {
        self.ask(|done| Request::List { listing: Box::new(listing), stock, done }).await
    }

    /// Bids on `listing`, which a board brought; returns the new trade.
    pub(crate) async fn bid(
        &self,
        order: BidRequest,
        fiat: Option<FiatBid>,
        listing: Envelope,
    ) -> Result<TradeId, DeskError> {
        self.ask(|done| Request::Bid { order: Box::new(order), fiat, listing: Box::new(listing), done }).await
    }

    /// Moves a trade; returns how it stands afterwards.
    pub(crate) async fn command(&self, trade: TradeId, command: Command) -> Result<TradeView, DeskError> {
        self.ask(|done| Request::Command { trade, command: Box::new(command), done }).await
    }

    /// Accepts a bid, with the listing's shipping time unless another is given.
    pub(crate) async fn accept(
        &self,
        trade: TradeId,
        shipping_days: Option<u16>,
        terms: Option<String>,
    ) -> Result<TradeView, DeskError> {
        self.ask(|done| Request::Accept { trade, shipping_days, terms, done }).await
    }

    /// Asks for another lock.
    pub(crate) async fn relock(&self, trade: TradeId) -> Result<TradeView, DeskError> {
        self.ask(|done| Request::Relock { trade, done }).await
    }

    /// Changes, restocks or withdraws a listing of ours; an edit is answered when a board has it.
    pub(crate) async fn change_listing(
        &self,
        listing: MessageId,
        change: ListingRequest,
    ) -> Result<StallView, DeskError> {
        self.ask(|done| Request::ChangeListing { listing, change: Box::new(change), done }).await
    }

    /// Our own listings.
    pub(crate) async fn stalls(&self) -> Result<Vec<StallView>, DeskError> {
        self.ask(|done| Request::Stalls { done }).await
    }

    /// Says something about a trade, sealed.
    pub(crate) async fn say(&self, trade: TradeId, words: ChatRequest) -> Result<ChatView, DeskError> {
        self.ask(|done| Request::Say { trade, words: Box::new(words), done }).await
    }

    /// What was said about a trade.
    pub(crate) async fn chat(&self, trade: TradeId) -> Result<Vec<ChatView>, DeskError> {
        self.ask(|done| Request::Chat { trade, done }).await
    }

    /// Every trade, in order of ids.
    pub(crate) async fn trades(&self) -> Result<Vec<TradeView>, DeskError> {
        self.ask(|done| Request::Trades { done }).await
    }

    /// One trade.
    pub(crate) async fn trade(&self, trade: TradeId) -> Result<TradeView, DeskError> {
        self.ask(|done| Request::Trade { trade, done }).await
    }

    /// What changes from now on. A follower that falls behind is told so.
    pub(crate) fn changes(&self) -> broadcast::Receiver<Change> {
        self.changes.subscribe()
    }

    /// Where our user stands among those it traded with.
    pub(crate) async fn circle(&self) -> Result<Circle, DeskError> {
        self.ask(|done| Request::Circle { done }).await
    }

    /// How many trades are open, and which streams of the log are damaged.
    pub(crate) async fn standing(&self) -> Result<(usize, Vec<TradeId>), DeskError> {
        self.ask(|done| Request::Standing { done }).await
    }

    /// Disputes that wait for our ruling, the most urgent first.
    pub(crate) async fn disputes(&self) -> Result<Vec<DisputeView>, DeskError> {
        self.ask(|done| Request::Disputes { done }).await
    }

    /// What we did as an arbiter.
    pub(crate) async fn service(&self) -> Result<Service, DeskError> {
        self.ask(|done| Request::Service { done }).await
    }

    /// What our own trades saw of their arbiters.
    pub(crate) async fn seen_arbiters(&self) -> Result<BTreeMap<PartyKey, SeenView>, DeskError> {
        self.ask(|done| Request::SeenArbiters { done }).await
    }

    async fn ask<T>(&self, request: impl FnOnce(Reply<T>) -> Request) -> Result<T, DeskError> {
        let (done, answer) = oneshot::channel();
        self.requests.send(request(done)).await.map_err(|_| DeskError::Stopped)?;
        answer.await.map_err(|_| DeskError::Stopped)?
    }
}

/// A listing on its way to the boards.
pub(super) struct Unlisted {
    stall: TradeId,
    step: Step,
    name: String,
    since: Instant,
    /// What boards said who did not take it.
    refused: Vec<BoardError>,
    done: Waiting,
}

/// Who waits for a listing to be out.
pub(super) enum Waiting {
    /// It was listed.
    Listed(Reply<MessageId>),
    /// It was changed.
    Changed(Reply<StallView>),
}

impl Loop {
    /// Answers what only looks; what would move something is refused with the reason.
    pub(super) async fn answer(&mut self, request: Request) -> Result<(), DeskError> {
        let Some(why) = self.superseded() else { return Ok(()) };
        match request {
            Request::List { done, .. } => reply(done, Err(why)),
            Request::Bid { done, .. } => reply(done, Err(why)),
            Request::Command { done, .. } | Request::Accept { done, .. } | Request::Relock { done, .. } => {
                reply(done, Err(why));
            }
            Request::ChangeListing { done, .. } => reply(done, Err(why)),
            Request::Say { done, .. } => reply(done, Err(why)),
            looks => self.obey(looks).await?,
        }
        Ok(())
    }

    pub(super) async fn obey(&mut self, request: Request) -> Result<(), DeskError> {
        match request {
            Request::List { listing, stock, done } => self.list(listing, stock, done)?,
            Request::Bid { order, fiat, listing, done } => {
                let result = self.bid(*order, fiat, *listing).await;
                give_back(done, result)?;
            }
            Request::Command { trade, command, done } => {
                let result = self.command(trade, *command).await;
                give_back(done, result)?;
            }
            Request::Accept { trade, shipping_days, terms, done } => {
                let result = self.accept(trade, shipping_days, terms).await;
                give_back(done, result)?;
            }
            Request::Relock { trade, done } => {
                let result = match self.next_hashes(trade) {
                    Ok(payment_hashes) => self.command(trade, Command::Relock { payment_hashes }).await,
                    Err(error) => Err(error),
                };
                give_back(done, result)?;
            }
            Request::ChangeListing { listing, change, done } => self.change_listing(listing, *change, done)?,
            Request::Stalls { done } => reply(done, Ok(self.stalls())),
            Request::Say { trade, words, done } => {
                let result = self.say(trade, &words);
                give_back(done, result)?;
            }
            Request::Chat { trade, done } => {
                let result = self.chat(trade);
                give_back(done, result)?;
            }
            Request::Circle { done } => {
                let result = self.circle();
                give_back(done, result)?;
            }
            Request::Standing { done } => {
                let open = self.desk.open_trades().count();
                reply(done, Ok((open, self.desk.damaged().map(|(id, _)| id).collect())));
            }
            Request::Trade { trade, done } => {
                let view = view::trade(&self.desk, trade, &self.names, self.now());
                reply(done, view.ok_or_else(|| DeskError::NotFound(format!("no trade {trade}"))));
            }
            Request::Disputes { done } => {
                let result = self.disputes();
                give_back(done, result)?;
            }
            Request::Service { done } => {
                let result = self.service();
                give_back(done, result)?;
            }
            Request::SeenArbiters { done } => reply(done, Ok(self.seen_arbiters())),
            Request::Trades { done } => reply(done, Ok(view::trades(&self.desk, &self.names, self.now()))),
        }
        Ok(())
    }

    fn list(&mut self, listing: Box<Listing>, stock: u32, done: Reply<MessageId>) -> Result<(), DeskError> {
        if let Err(error) = post::check_listing(&listing) {
            reply(done, Err(DeskError::Usage(error.to_string())));
            return Ok(());
        }
        let me = match self.lister(&listing) {
            Ok(me) => me,
            Err(error) => return give_back(done, Err(error)),
        };
        let stream = TradeId::of_stall(me, &listing.d);
        let name = listing.product_name.clone();
        let command = Command::List { me, listing, stock };
        match self.take(stream, &Input::Command(command))? {
            // Its name is fresh, so this is its first version.
            Ok(()) => self.unlisted(stream, Step::Listing(0), name, Waiting::Listed(done)),
            Err(refusal) => reply(done, Err(refusal.into())),
        }
        Ok(())
    }

    async fn accept(
        &mut self,
        trade: TradeId,
        shipping_days: Option<u16>,
        terms: Option<String>,
    ) -> Result<TradeView, DeskError> {
        self.check_quote(trade)?;
        let shipping_time_days = shipping_days.or_else(|| self.listed_days(trade));
        let command = Command::Accept { shipping_time_days, terms, invoice_expiry_secs: INVOICE_EXPIRY_SECS };
        self.command(trade, command).await
    }

    async fn command(&mut self, trade: TradeId, command: Command) -> Result<TradeView, DeskError> {
        self.check_height(&command).await?;
        self.check_rating(trade, &command)?;
        self.check_holds(trade, &command).await?;
        match self.take(trade, &Input::Command(command))? {
            Ok(()) => {
                self.drain().await?;
                self.view(trade)
            }
            // What to do instead is what the trade waits for.
            Err(refusal) => match self.view(trade) {
                Ok(view) => {
                    let now = format!("{}: {}", view.outcome.unwrap_or(view.state), lower_first(&view.next));
                    Err(DeskError::RefusedNow { refusal, now })
                }
                Err(_) => Err(refusal.into()),
            },
        }
    }

    fn view(&self, trade: TradeId) -> Result<TradeView, DeskError> {
        view::trade(&self.desk, trade, &self.names, self.now())
            .ok_or_else(|| DeskError::NotFound(format!("no trade {trade}; see `souk trades --all`")))
    }

    /// The shipping time that the listing of a trade states: what a payee is held to when it accepts without another word.
    fn listed_days(&self, trade: TradeId) -> Option<u16> {
        let listing = self.desk.trade(trade)?.dossier().opening.listing;
        let (_, stall) = self.desk.stall_of(listing)?;
        let (_, version) = stall.versions.iter().find(|(id, _)| *id == listing)?;
        version.shipping.as_ref()?.estimated_days.map(|days| days.min(EscrowTerms::SHIPPING_DAYS_MAX))
    }

    /// Hashes of the price for the lock after the present one.
    fn next_hashes(&self, trade: TradeId) -> Result<Vec<PaymentHash>, DeskError> {
        let dossier = match self.desk.trade(trade) {
            Some(known) => known.dossier(),
            None => return Err(DeskError::NotFound(format!("no trade {trade}"))),
        };
        let round = u8::try_from(dossier.hashes.len()).unwrap_or(u8::MAX);
        let hash = |tranche| secret::derive(&self.parts.escrow_key, trade, LegId::price(round, tranche)).hash();
        Ok((0..dossier.terms().tranches).map(hash).collect())
    }

    /// Steps that commit money or goods are judged by the height, so the height has to be right.
    pub(super) async fn check_height(&self, command: &Command) -> Result<(), DeskError> {
        let commits =
            matches!(command, Command::Accept { .. } | Command::Bid(_) | Command::Ship { .. } | Command::Relock { .. });
        if commits && !self.parts.node.info().await?.synced {
            let why =
                "the node is still catching up with the chain; try again when `souk node info` says it is up to date";
            return Err(NodeError::Unreachable(why.to_owned()).into());
        }
        Ok(())
    }

    /// Goods are worth what our node holds. After a restore from a backup it may hold it in a channel that is lost, and then only the
    /// chain says whether it can have it.
    async fn check_holds(&self, trade: TradeId, command: &Command) -> Result<(), DeskError> {
        let Some(known) = self.desk.trade(trade).filter(|_| matches!(command, Command::Ship { .. })) else {
            return Ok(());
        };
        let held = known.dossier().issued.iter().filter(|issued| matches!(issued.state, IssuedState::Held { .. }));
        for issued in held {
            match self.parts.node.lookup(issued.hash).await {
                Ok(hold) if hold.doubtful => {
                    let why = "the channel that holds the buyer's money was lost with its machine, and whether your node can still claim \
                               it shows when the peer has closed that channel: ship when this does not come any more, or refund";
                    return Err(Refusal { rule: Rule::WrongState, why: why.into() }.into());
                }
                Ok(_) | Err(NodeError::NotFound(_)) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    pub(super) fn remember_name(&mut self, listing: MessageId, name: &str) -> Result<(), DeskError> {
        self.parts.store.put(&format!("{LISTING_NAME}{listing}"), name.as_bytes())?;
        self.names.insert(listing, name.to_owned());
        Ok(())
    }

    async fn bid(&mut self, order: BidRequest, fiat: Option<FiatBid>, listing: Envelope) -> Result<TradeId, DeskError> {
        let Message::Listing(offered) = &listing.message else {
            return Err(DeskError::Usage("that event is no listing".into()));
        };
        let Some(terms) = offered.escrow.clone() else {
            return Err(DeskError::Usage(
                "the listing states no escrow terms, so its money could not be locked".into(),
            ));
        };
        if offered.fiat.is_some() && fiat.is_none() {
            let why = "the order is priced in money of a country: `souk fiat take` quotes the rate that it wants";
            return Err(DeskError::Usage(why.into()));
        }
        self.remember_name(listing.id, &offered.product_name)?;
        let me = self.parts.keyring.fresh()?;
        let trade = TradeId::of(listing.id, me);
        let hash = |tranche| secret::derive(&self.parts.escrow_key, trade, LegId::price(0, tranche)).hash();
        let command = Command::Bid(Box::new(BidOrder {
            me,
            amount: order.amount_sat.map_or(Sat(offered.price.0.saturating_mul(order.quantity.into())), Sat),
            payer_bond: order.payer_bond_sat.map_or(terms.min_payer_bond, Sat),
            arbiter: order.arbiter.or(terms.arbiters.first().copied()),
            payment_hashes: (0..terms.tranches).map(hash).collect(),
            payee_node: None,
            message: order.message,
            timeout_hours: order.timeout_hours.unwrap_or(BID_HOURS),
            quantity: order.quantity,
            pay_by_hand: order.pay_by_hand,
            max_arbiter_fee: Sat(order.max_arbiter_fee_sat),
            fiat,
            listing,
        }));
        self.check_height(&command).await?;
        self.listen_for(&me);
        self.take(trade, &Input::Command(command))??;
        self.drain().await?;
        Ok(trade)
    }

    pub(super) fn unlisted(&mut self, stall: TradeId, step: Step, name: String, done: Waiting) {
        self.listing.push(Unlisted { stall, step, name, since: Instant::now(), refused: Vec::new(), done });
    }

    /// A version of a listing is out: those who wait for it are told.
    pub(super) fn listed(&mut self, stall: TradeId, step: Step, id: MessageId) -> Result<(), DeskError> {
        let (out, waiting) = std::mem::take(&mut self.listing)
            .into_iter()
            .partition(|listed: &Unlisted| listed.stall == stall && listed.step == step);
        self.listing = waiting;
        for listed in out {
            self.remember_name(id, &listed.name)?;
            match listed.done {
                Waiting::Listed(done) => reply(done, Ok(id)),
                Waiting::Changed(done) => reply(done, self.stall_view(stall)),
            }
        }
        Ok(())
    }

    /// A board did not take a listing.
    pub(super) fn not_listed(&mut self, stall: TradeId, step: Step, error: &BoardError) {
        for listed in self.listing.iter_mut().filter(|listed| listed.stall == stall && listed.step == step) {
            listed.refused.push(error.clone());
        }
    }

    /// Nobody waits for ever: whose listing no board wants, or none that can be reached, hears so. It stays owed.
    pub(super) fn tell_unlisted(&mut self) -> Result<(), DeskError> {
        let boards = self.parts.boards.len();
        let (out, waiting) = std::mem::take(&mut self.listing)
            .into_iter()
            .partition(|listed: &Unlisted| listed.refused.len() >= boards || listed.since.elapsed() >= LISTED_WITHIN);
        self.listing = waiting;
        for mut listed in out {
            let nobody = || BoardError::Unreachable("(none of those configured)".to_owned());
            let error = DeskError::NotOut(listed.refused.pop().unwrap_or_else(nobody));
            match listed.done {
                Waiting::Listed(done) => reply(done, Err(error)),
                Waiting::Changed(done) => reply(done, Err(error)),
            }
        }
        Ok(())
    }
}

fn lower_first(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map_or_else(String::new, |first| first.to_lowercase().chain(chars).collect())
}

/// The one who asked may be gone; the work is done all the same.
pub(super) fn reply<T>(done: Reply<T>, result: Result<T, DeskError>) {
    if done.send(result).is_err() {
        tracing::trace!("nobody waits for the answer");
    }
}

/// Gives an error back to the caller when it is the caller's business, and to the loop when it ends the loop.
pub(super) fn give_back<T>(done: Reply<T>, result: Result<T, DeskError>) -> Result<(), DeskError> {
    match result {
        Err(fatal @ (DeskError::Store(_) | DeskError::Entry(_))) => {
            reply(done, Err(DeskError::Stopped));
            Err(fatal)
        }
        other => {
            reply(done, other);
            Ok(())
        }
    }
}

//! Stall: what one key lists under one name, all versions of it, and how many there are.

use units::{Now, Unix};

use crate::deadline::{AUTO_CANCEL_MARGIN_MAX, BLOCKS_PER_DAY, Deadlines};
use crate::effect::Effect;
use crate::event::{Event, Outgoing, SealedCopy, Step};
use crate::ids::{MessageId, PartyKey};
use crate::input::{Command, Input};
use crate::limits;
use crate::message::{Delisting, Listing, Message};
use crate::refusal::{Refusal, Rule};
use crate::terms::EscrowTerms;

/// Most versions of one listing.
const VERSIONS_MAX: u32 = 10_000;

/// Goods that are longer under way than any lock of these terms could never be shipped in time: better said now than then.
fn check_shipping(listing: &Listing) -> Result<(), Refusal> {
    let days = listing.shipping.as_ref().and_then(|shipping| shipping.estimated_days).unwrap_or(0);
    let Some(terms) = &listing.escrow else { return Ok(()) };
    let lock = units::Height(u32::from(terms.lock_blocks));
    let last = Deadlines::of(lock, AUTO_CANCEL_MARGIN_MAX, terms.lock_blocks).warn;
    if last.0 >= u32::from(days) * BLOCKS_PER_DAY {
        return Ok(());
    }
    let why = format!(
        "the goods would outlive the lock: {} blocks leave {} days for shipping; lock for longer, or ship faster",
        terms.lock_blocks,
        last.0 / BLOCKS_PER_DAY
    );
    Err(Refusal::new(Rule::TermsInvalid, why))
}

fn check_stock(stock: u32) -> Result<(), Refusal> {
    if stock <= limits::QUANTITY_MAX {
        return Ok(());
    }
    Err(Refusal::new(Rule::TooLarge, "at most 1000000 pieces of one listing can be for sale"))
}

/// What one key lists under one name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stall {
    /// The key that lists.
    pub me: PartyKey,
    /// The newest version, and its number.
    pub listing: Listing,
    /// Number of the newest version.
    pub version: u32,
    /// How many there are, trades under way included.
    pub stock: u32,
    /// Bids are taken.
    pub open: bool,
    /// The newest version that is out: new bids must be for it.
    pub current: Option<MessageId>,
    /// Every version that was out: running trades stay bound to theirs.
    pub versions: Vec<(MessageId, Listing)>,
    /// When the newest version says that it was listed.
    listed_at: Unix,
    outbox: Option<Outgoing>,
}

impl Stall {
    /// The first events of a stall, or those of a new version.
    pub(crate) fn list(
        known: Option<&Stall>,
        me: PartyKey,
        listing: &Listing,
        stock: u32,
        now: Now,
    ) -> Result<Vec<Event>, Refusal> {
        limits::check(&Message::Listing(listing.clone()))?;
        listing.escrow.as_ref().unwrap_or(&EscrowTerms::plain()).check()?;
        check_stock(stock)?;
        check_shipping(listing)?;
        let version = known.map_or(0, |stall| stall.version + 1);
        if version >= VERSIONS_MAX {
            return Err(Refusal::new(Rule::TooMany, "this listing has too many versions"));
        }
        if known.is_some_and(|stall| stall.outbox.is_some()) {
            return Err(Refusal::new(Rule::WrongState, "the version before is not out yet; try again in a moment"));
        }
        // Readers know versions apart by the second: two of one second would leave it to chance which of them counts.
        let at = known.map_or(now.unix, |stall| now.unix.max(Unix(stall.listed_at.0 + 1)));
        Ok(vec![Event::ListingOrdered { version, me, listing: Box::new(listing.clone()), stock, at }])
    }

    pub(crate) fn open(event: &Event) -> Option<Stall> {
        match event {
            Event::ListingOrdered { version: 0, me, listing, stock, at } => {
                let stall = Stall {
                    me: *me,
                    listing: (**listing).clone(),
                    version: 0,
                    stock: *stock,
                    open: true,
                    current: None,
                    versions: Vec::new(),
                    listed_at: *at,
                    outbox: None,
                };
                stall.apply(event)
            }
            _ => None,
        }
    }

    pub(crate) fn decide(&self, input: &Input, now: Now) -> Result<Vec<Event>, Refusal> {
        match input {
            Input::Command(Command::List { me, listing, stock }) => Stall::list(Some(self), *me, listing, *stock, now),
            Input::Command(Command::Restock { stock }) => {
                check_stock(*stock)?;
                Ok(vec![Event::Restocked { stock: *stock }])
            }
            Input::Command(Command::Delist { reason }) => self.delist(reason, now),
            Input::Command(_) => Err(Refusal::new(Rule::WrongRole, "that is done to a trade, not to a listing")),
            Input::Sent { step, id } if self.outbox.as_ref().is_some_and(|o| o.step == *step) => {
                Ok(vec![Event::MessageSent { step: *step, id: *id }])
            }
            Input::Sent { .. } | Input::Tick => Ok(Vec::new()),
            Input::Message(_) | Input::Node(_) | Input::Shown { .. } => {
                Err(Refusal::new(Rule::WrongTrade, "that is about a trade, not about a listing"))
            }
        }
    }

    fn delist(&self, reason: &str, now: Now) -> Result<Vec<Event>, Refusal> {
        if !self.open {
            return Ok(Vec::new());
        }
        if self.outbox.is_some() {
            return Err(Refusal::new(Rule::WrongState, "the listing is not out yet; try again in a moment"));
        }
        limits::check(&self.delisting(reason))?;
        // An answer was on no board, so nothing is taken off one.
        let at = self.listing.answers().is_none().then_some(now.unix);
        Ok(vec![Event::Delisted { at, reason: reason.to_owned() }])
    }

    /// Who alone gets the listing; nobody for one that everybody may read.
    fn copies(&self) -> Vec<SealedCopy> {
        let to = self.listing.answers().map(|answers| answers.maker);
        to.map(|to| SealedCopy { to, secrets: Vec::new(), shown: None, fee_invoice: None }).into_iter().collect()
    }

    /// Until when an answer to an order may be bid on; none for what may be as long as it is listed.
    pub(crate) fn answer_until(&self) -> Option<Unix> {
        let terms = self.listing.fiat.as_ref().filter(|terms| terms.answers.is_some())?;
        Some(Unix(self.listed_at.0.saturating_add(terms.max_quote_age_secs.into())))
    }

    /// The word that takes every version off the boards.
    fn delisting(&self, reason: &str) -> Message {
        let newest = self.versions.iter().rev().take(limits::DELISTED_MAX).map(|(id, _)| *id);
        Message::Delisting(Delisting { listings: newest.collect(), reason: reason.to_owned() })
    }

    pub(crate) fn apply(mut self, event: &Event) -> Option<Stall> {
        match event {
            Event::ListingOrdered { version, me, listing, stock, at } => {
                self.listing = (**listing).clone();
                self.version = *version;
                self.stock = *stock;
                self.open = true;
                self.listed_at = *at;
                self.outbox = Some(Outgoing {
                    step: Step::Listing(*version),
                    author: *me,
                    prev: None,
                    at: *at,
                    message: Message::Listing((**listing).clone()),
                    copies: self.copies(),
                });
            }
            Event::MessageSent { step: Step::Delisting(_), .. } => self.outbox = None,
            Event::MessageSent { id, .. } => {
                self.outbox = None;
                self.current = Some(*id);
                self.versions.push((*id, self.listing.clone()));
            }
            Event::Restocked { stock } => self.stock = *stock,
            Event::Delisted { at, reason } => {
                self.open = false;
                self.outbox = at.map(|at| Outgoing {
                    step: Step::Delisting(self.version),
                    author: self.me,
                    prev: None,
                    at,
                    message: self.delisting(reason),
                    copies: Vec::new(),
                });
            }
            _ => return None,
        }
        Some(self)
    }

    /// Is the listing still owed?
    pub(crate) fn owes(&self) -> bool {
        self.outbox.is_some()
    }

    /// What is owed: the listing, until a relay has it.
    pub fn pending(&self) -> Vec<Effect> {
        self.outbox.iter().map(|o| Effect::Send(Box::new(o.clone()))).collect()
    }
}

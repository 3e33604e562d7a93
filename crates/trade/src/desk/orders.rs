//! Orders that sell bitcoin: which answers we may bid on, how many of our bids may be accepted, and how long an answer of ours stands.

use units::Now;

use super::Desk;
use crate::answer;
use crate::ids::{MessageId, PartyKey, TradeId};
use crate::input::{Envelope, Input};
use crate::message::Message;
use crate::refusal::{Refusal, Rule};
use crate::stall::Stall;
use crate::trade::Trade;

/// Most bids on answers to one order that nobody has accepted yet. They cost nothing and take no stock, so that a taker who only
/// answers keeps nobody out; the first that is accepted gets it.
pub(crate) const OPEN_ANSWERS_MAX: usize = 64;

fn sold_out() -> Refusal {
    Refusal::new(Rule::SoldOut, "the order is taken or withdrawn")
}

impl Desk {
    /// May `bidder` bid on this listing? On any that answers no order; else only when the order is ours, open, not sold out, and the
    /// answer is what it offers.
    pub fn check_answer(&self, listing: &Envelope, bidder: PartyKey, now: Now) -> Result<(), Refusal> {
        let Message::Listing(answer) = &listing.message else { return Ok(()) };
        let Some(to) = answer.answers() else { return Ok(()) };
        let (order, me, stock) = self.listing(to.order)?;
        if me != bidder {
            return Err(Refusal::new(Rule::WrongAuthor, "only the maker of an order bids on what answers it"));
        }
        answer::fits(order, answer, listing.at, now.unix)?;
        let Some((stall, _)) = self.stall_of(to.order) else { return Err(sold_out()) };
        if self.taken(stall, None) >= stock {
            return Err(sold_out());
        }
        if self.bids(stall) >= OPEN_ANSWERS_MAX {
            return Err(Refusal::new(Rule::TooMany, "too many bids on answers to the order are open already"));
        }
        Ok(())
    }

    /// Somebody accepts a bid of ours on an answer: from here on money moves, so there has to be one left, and the order open. Several
    /// may accept at once; whoever comes second is refused, and nothing of ours was locked for it.
    pub(super) fn check_order_stock(&self, trade: &Trade, input: &Input) -> Result<(), Refusal> {
        let accepts = matches!(input, Input::Message(envelope) if matches!(envelope.message, Message::Acceptance(_)));
        let left = self.order_left(trade);
        if accepts && trade.offers_order() && left.is_none_or(|left| left == 0) { Err(sold_out()) } else { Ok(()) }
    }

    /// How many may still take the order that this bid of ours is for; none when it is withdrawn, or is none of ours.
    pub fn order_left(&self, trade: &Trade) -> Option<u32> {
        let order = trade.dossier().opening.order?;
        let (id, stall) = self.stall_of(order)?;
        stall.open.then(|| stall.stock.saturating_sub(self.taken(id, Some(trade.id()))))
    }

    /// Answers of ours that nobody may bid on any more.
    pub fn lapsed_answers(&self, now: Now) -> impl Iterator<Item = TradeId> {
        let lapsed = move |stall: &Stall| stall.open && stall.answer_until().is_some_and(|until| until <= now.unix);
        self.stalls().filter(move |(_, stall)| lapsed(stall)).map(|(id, _)| id)
    }

    /// A bid on an answer of ours comes while the answer stands, or not at all: our user would not expect it any more.
    pub(super) fn check_answer_stands(&self, listing: MessageId, now: Now) -> Result<(), Refusal> {
        let until = self.stall_of(listing).and_then(|(_, stall)| stall.answer_until());
        if until.is_some_and(|until| until <= now.unix) {
            return Err(Refusal::new(Rule::TooLate, "the answer has lapsed"));
        }
        Ok(())
    }
}

//! Our own listings: how they stand, and what their seller does with them while trades run.

use trade::{Command, Input, Listing, MessageId, Shipping, Stall, Step, TradeId};
use units::Sat;

use super::request::{Reply, Waiting, reply};
use super::{DeskError, Loop};
use crate::api::types::{ListingRequest, StallView};
use crate::post;

impl Loop {
    /// Our listings, in order of their streams; of our answers to orders only those that may still be bid on.
    pub(super) fn stalls(&self) -> Vec<StallView> {
        let shown = self.desk.stalls().filter(|(_, stall)| stall.open || stall.listing.answers().is_none());
        shown.map(|(id, stall)| self.view_of(id, stall)).collect()
    }

    pub(super) fn stall_view(&self, id: TradeId) -> Result<StallView, DeskError> {
        let stall = self.desk.stall(id).ok_or_else(|| DeskError::NotFound("no such listing of ours".to_owned()))?;
        Ok(self.view_of(id, stall))
    }

    fn view_of(&self, id: TradeId, stall: &Stall) -> StallView {
        StallView {
            listing: stall.current,
            product_name: stall.listing.product_name.clone(),
            price_sat: stall.listing.price,
            version: stall.version,
            stock: stall.stock,
            taken: self.desk.taken(id, None),
            bids: self.desk.bids(id),
            open: stall.open,
        }
    }

    /// Does what the seller of a listing wants with it. The answer to an edit comes when a board has the new version.
    pub(super) fn change_listing(
        &mut self,
        listing: MessageId,
        change: ListingRequest,
        done: Reply<StallView>,
    ) -> Result<(), DeskError> {
        let Some((id, stall)) = self.desk.stall_of(listing) else {
            let why = format!("{listing} is no listing of ours; see `souk list --mine`");
            reply(done, Err(DeskError::NotFound(why)));
            return Ok(());
        };
        let (command, edited) = match change {
            ListingRequest::Restock { stock } => (Command::Restock { stock }, None),
            ListingRequest::Withdraw { reason } => (Command::Delist { reason }, None),
            edit @ ListingRequest::Edit { .. } => {
                let listing = edited(&stall.listing, edit);
                if let Err(error) = post::check_listing(&listing) {
                    reply(done, Err(DeskError::Usage(error.to_string())));
                    return Ok(());
                }
                let next = (Step::Listing(stall.version + 1), listing.product_name.clone());
                (Command::List { me: stall.me, listing: Box::new(listing), stock: stall.stock }, Some(next))
            }
        };
        match (self.take(id, &Input::Command(command))?, edited) {
            (Err(refusal), _) => reply(done, Err(refusal.into())),
            (Ok(()), Some((step, name))) => self.unlisted(id, step, name, Waiting::Changed(done)),
            (Ok(()), None) => reply(done, self.stall_view(id)),
        }
        Ok(())
    }
}

/// A listing with what the edit names, and the rest as it was.
fn edited(old: &Listing, edit: ListingRequest) -> Listing {
    let ListingRequest::Edit { product_name, description, price_sat, category, shipping_days } = edit else {
        return old.clone();
    };
    let mut new = old.clone();
    new.product_name = product_name.unwrap_or(new.product_name);
    new.description = description.unwrap_or(new.description);
    new.price = price_sat.map_or(new.price, Sat);
    new.category = category.or(new.category);
    if shipping_days.is_some() {
        new.shipping = Some(Shipping { estimated_days: shipping_days, ..new.shipping.unwrap_or_default() });
    }
    new
}

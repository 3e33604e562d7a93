//! Mirrors of our listings on other markets. What they should say follows from the stall and its trades alone: whenever either
//! changed, it is compared with what was said last, and said anew where it differs.

use markets::{Advert, Bond, CurrencyOrder, Goods, Price, Source, Standing, Subject};
use trade::{EscrowTerms, FiatSide, FiatTerms, MessageId, Mode, Outcome, PartyKey, Stall, TradeId};
use units::{Sat, Unix};

use super::{DeskError, Loop};
use crate::clock;
use crate::config::Mirror;
use crate::store::mirrors::Told;

const DAY_SECS: u64 = 24 * 3600;
/// Until the end of which day, from today on, an order says that it holds.
const ORDER_DAYS: u64 = 2;

impl Loop {
    /// A stall, or a trade on one, has changed: its mirrors are looked at when nothing more urgent is owed.
    pub(super) fn mirrors_may_change(&mut self, stream: TradeId) {
        if self.parts.mirror.is_empty() {
            return;
        }
        let stall = match self.desk.trade(stream) {
            Some(trade) => trade.dossier().opening.takes_from().and_then(|from| self.stall_id(from)),
            None => self.desk.stall(stream).map(|_| stream),
        };
        self.changed_stalls.extend(stall);
    }

    fn stall_id(&self, listing: MessageId) -> Option<TradeId> {
        self.desk.stall_of(listing).map(|(id, _)| id)
    }

    /// Every stall: at the start the configuration may be another one.
    pub(super) fn all_mirrors_may_change(&mut self) {
        self.changed_stalls.extend(self.desk.stalls().map(|(id, _)| id));
    }

    /// Says anew what changed.
    pub(super) fn mirror(&mut self) -> Result<(), DeskError> {
        for id in std::mem::take(&mut self.changed_stalls) {
            // What answers an order is for its maker alone.
            let Some(stall) = self.desk.stall(id).filter(|stall| stall.listing.answers().is_none()) else { continue };
            // Bitcoin against money has a market of its own, and would be in the way on one of goods.
            let (mirror, place) = match stall.listing.fiat {
                Some(_) => (Mirror::Nip69, "nip69"),
                None => (Mirror::Nip99, "nip99"),
            };
            let name = format!("{place}/{id}");
            let told = self.parts.store.told_elsewhere(&name)?;
            let on = self.parts.mirror.contains(&mirror);
            if !on && told.is_none() {
                continue;
            }
            let left = stall.stock.saturating_sub(self.desk.taken(id, None));
            let advert = stall.current.and_then(|current| match &stall.listing.fiat {
                Some(terms) => {
                    let standing = self.order_standing(id, stall, left, on);
                    Some(self.order(stall, terms, current, standing, told))
                }
                None => advert(stall, current, left, on),
            });
            // What nobody was ever told of needs no word that it is gone.
            let Some(advert) = advert.filter(|advert| told.is_some() || advert.standing == Standing::Open) else {
                continue;
            };
            self.say_elsewhere(&name, advert, told)?;
        }
        Ok(())
    }

    /// What other markets should show of an order. One that is open or being taken says day by day that it still is.
    fn order(
        &self,
        stall: &Stall,
        terms: &FiatTerms,
        current: MessageId,
        standing: Standing,
        told: Option<Told>,
    ) -> Advert {
        let now = clock::unix();
        let expires = match standing {
            Standing::Open | Standing::Taken => Unix((now.0 / DAY_SECS + ORDER_DAYS) * DAY_SECS),
            Standing::Hidden | Standing::Done | Standing::Gone => {
                Unix(told.map_or(now, |told| told.since).0 + ORDER_DAYS * DAY_SECS)
            }
        };
        let network = if self.parts.own.network == "bitcoin" { "mainnet" } else { &self.parts.own.network };
        // Who takes an order that buys is the payer, who takes one that sells the payee.
        let of_taker = |escrow: &EscrowTerms| match terms.side {
            FiatSide::Buy => escrow.min_payer_bond,
            FiatSide::Sell => escrow.payee_bond,
        };
        let bond = stall.listing.escrow.as_ref().map(of_taker).filter(|bond| *bond > Sat::ZERO);
        let order = CurrencyOrder { bond: bond.map(Bond::Sat), ..CurrencyOrder::of(terms, network) };
        Advert {
            kind: markets::kind::CURRENCY_ORDER,
            standing,
            title: markets::text::line(&stall.listing.product_name, markets::TITLE_MAX),
            expires: Some(expires),
            ..frame(stall, current, Subject::Currency(order))
        }
    }

    fn order_standing(&self, id: TradeId, stall: &Stall, left: u32, on: bool) -> Standing {
        let takers = self.desk.trades_on(id).filter(|trade| trade.holds_stock());
        let ends: Vec<_> = takers.map(trade::Trade::outcome).collect();
        match (on, left) {
            (false, _) => Standing::Gone,
            (true, 1..) if stall.open => Standing::Open,
            (true, _) if ends.contains(&None) => Standing::Taken,
            (true, 0) if ends.contains(&Some(Outcome::Settled)) => Standing::Done,
            (true, _) => Standing::Gone,
        }
    }

    fn say_elsewhere(&self, name: &str, advert: Advert, told: Option<Told>) -> Result<(), DeskError> {
        let foreign = self.parts.boards.iter().find(|board| !board.is_own());
        let relay = foreign.map_or("", |board| board.url());
        let Some(key) = self.parts.keyring.pair(&advert.author) else { return Ok(()) };
        let timeless = Advert { at: Unix(0), since: Unix(0), ..advert.clone() };
        let what = match markets::write(&timeless, relay) {
            Ok(unsigned) => unsigned.id(),
            Err(why) => {
                tracing::warn!(listing = %advert.d, %why, "a listing is not mirrored");
                return Ok(());
            }
        };
        if told.is_some_and(|told| told.what == what) {
            return Ok(());
        }
        // Readers keep the newest version; two of one second would leave it to chance which.
        let now = clock::unix();
        let at = told.map_or(now, |told| now.max(Unix(told.at.0 + 1)));
        let told = Told { at, since: told.map_or(at, |told| told.since), what };
        match markets::write(&Advert { at: told.at, since: told.since, ..advert }, relay) {
            Ok(unsigned) => self.couriers.mirror(name, &told, &unsigned.sign(key, &[0; 32]))?,
            Err(why) => tracing::error!(%why, "a mirror could be written and then could not"),
        }
        Ok(())
    }
}

/// What other markets should show of a stall; none for what is no listing of goods.
fn advert(stall: &Stall, current: MessageId, left: u32, on: bool) -> Option<Advert> {
    let listing = &stall.listing;
    let standing = match (on && stall.open, left) {
        (false, _) => Standing::Hidden,
        (true, 0) => Standing::Done,
        (true, _) => Standing::Open,
    };
    let picture = listing.storage_link.iter().filter(|at| at.starts_with("http://") || at.starts_with("https://"));
    let mut facts = vec![("escrow".to_owned(), escrow_in_words(listing.escrow.as_ref()?, current))];
    let days = listing.shipping.as_ref().and_then(|shipping| shipping.estimated_days);
    facts.extend(days.map(|days| ("shipping time".to_owned(), format!("{days} days"))));
    let goods = Goods {
        price: Price { amount: listing.price.into(), currency: "SAT".to_owned(), per: None },
        stock: Some(left),
        shipping: Vec::new(),
        categories: listing.category.iter().map(|name| markets::text::line(name, markets::NAME_MAX)).collect(),
        pictures: picture.cloned().collect(),
        facts,
        stall: None,
    };
    Some(Advert {
        standing,
        title: markets::text::line(&listing.product_name, markets::TITLE_MAX),
        text: markets::text::lines(&listing.description, markets::TEXT_MAX),
        ..frame(stall, current, Subject::Goods(goods))
    })
}

/// What every mirror of a stall has.
fn frame(stall: &Stall, current: MessageId, subject: Subject) -> Advert {
    Advert {
        source: Source::Souk,
        venue: String::new(),
        kind: markets::kind::CLASSIFIED,
        id: MessageId([0; 32]),
        author: PartyKey(stall.me.0),
        d: stall.listing.d.clone(),
        at: Unix(0),
        since: Unix(0),
        standing: Standing::Hidden,
        title: String::new(),
        text: String::new(),
        place: String::new(),
        expires: None,
        link: None,
        mirrors: Some(current),
        subject,
    }
}

/// What a reader elsewhere should know before it asks how to pay.
fn escrow_in_words(terms: &EscrowTerms, listing: MessageId) -> String {
    let mode = match terms.mode {
        Mode::Direct => "without an arbiter",
        Mode::Arbitrated => "with an arbiter",
        Mode::Bonded => "with an arbiter and bonds",
    };
    let bond = if terms.min_payer_bond > Sat::ZERO {
        format!(", buyer's bond {} sat", terms.min_payer_bond)
    } else {
        String::new()
    };
    format!("Lightning hold invoices {mode}, {} blocks{bond}; take it with: souk bid {listing}", terms.lock_blocks)
}

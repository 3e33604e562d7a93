//! Pledges: ours go out with the step that we need ourselves, and a step of another that has to bring one is not taken without.
//! With both in hand, a rating is published so that anybody can check it.

use std::collections::{BTreeMap, BTreeSet};

use reputation::{Acquaintance, Facts, Identity, Pledge, bucket, link};
use trade::{
    Command, Dossier, Envelope, IssuedState, LegId, Message, MessageId, Outcome, Outgoing, PaidState, PartyKey,
    Refusal, Role, Rule, TradeId,
};
use units::{Height, PaymentHash, Preimage, Sat};
use wire::event::Event;

use super::{DeskError, Loop};
use crate::post::{Beside, PostError, Receipt};
use crate::standing::Circle;
use crate::store::{Store, StoreError};

/// Where pledges are kept: by payment hash and author.
const PLEDGE: &str = "pledge/";
/// Messages whose pledges wait for the message before them.
const WAITING_MAX: usize = 1024;

/// Pledges that came with messages which are not taken yet.
#[derive(Default)]
pub(super) struct Waiting(BTreeMap<MessageId, Vec<Event>>);

impl Waiting {
    /// Keeps what came with a message. When there is no room, it has to come again.
    pub(super) fn keep(&mut self, message: MessageId, pledges: Vec<Event>) {
        if !pledges.is_empty() && (self.0.len() < WAITING_MAX || self.0.contains_key(&message)) {
            self.0.insert(message, pledges);
        }
    }

    pub(super) fn forget(&mut self, message: MessageId) {
        self.0.remove(&message);
    }
}

/// A pledge of a party of an escrow, if we have it.
pub(crate) fn find(store: &Store, hash: PaymentHash, author: PartyKey) -> Result<Option<Pledge>, StoreError> {
    let Some(json) = store.get(&name(hash, author))? else { return Ok(None) };
    Ok(std::str::from_utf8(&json).ok().and_then(|json| Pledge::parse(json).ok()))
}

fn keep(store: &Store, pledge: &Pledge) -> Result<(), StoreError> {
    let (hash, author) = (pledge.facts.hash, pledge.author);
    // The first one stays: it is what its author said before it knew how the trade ends.
    if find(store, hash, author)?.is_none() {
        store.put(&name(hash, author), pledge.event().to_json().as_bytes())?;
    }
    Ok(())
}

fn name(hash: PaymentHash, author: PartyKey) -> String {
    format!("{PLEDGE}{hash}/{author}")
}

/// What the parties of a trade have to pledge.
pub(crate) fn facts(dossier: &Dossier) -> Option<Facts> {
    let opening = &dossier.opening;
    Some(Facts {
        hash: *opening.payment_hashes.first()?,
        payer: opening.payer,
        payee: opening.payee,
        arbiter: opening.arbiter,
        amount: bucket(dossier.price),
        lock_blocks: opening.terms.lock_blocks,
    })
}

/// Whose pledge a message has to bring.
fn due(message: &Message, facts: &Facts) -> Option<PartyKey> {
    match message {
        Message::PaymentConfirmation(_) => Some(facts.payer),
        Message::Shipment(_) => Some(facts.payee),
        Message::Appointment(_) => facts.arbiter,
        _ => None,
    }
}

/// Whom a party trades with.
fn counterparty(dossier: &Dossier, facts: &Facts) -> PartyKey {
    if dossier.opening.role == Role::Payer { facts.payee } else { facts.payer }
}

/// Is this what the other side has to pledge? An arbiter knows the price that was bid, the parties the one they agreed on.
fn fits(pledge: &Pledge, dossier: &Dossier, facts: &Facts) -> bool {
    let amount = match (pledge.role, dossier.opening.role) {
        (Role::Arbiter, _) => bucket(dossier.opening.amount),
        (Role::Payer | Role::Payee, Role::Payer | Role::Payee) => facts.amount,
        (Role::Payer | Role::Payee, Role::Arbiter) => pledge.facts.amount,
    };
    pledge.facts.fit(facts) && pledge.facts.amount == amount
}

impl Loop {
    /// Keeps what a message pledges. False: it has to bring a pledge and does not, so it is not to be taken.
    pub(super) fn pledged(&mut self, envelope: &Envelope) -> Result<bool, DeskError> {
        let Some(trade) = self.desk.route(envelope).and_then(|id| self.desk.trade(id)) else { return Ok(true) };
        let Some(facts) = facts(trade.dossier()) else { return Ok(true) };
        let store = &self.parts.store;
        let due = due(&envelope.message, &facts).filter(|due| *due == envelope.author);
        let handed_on = matches!(envelope.message, Message::Ruling(_)) && Some(envelope.author) == facts.arbiter;
        if due.is_none() && !handed_on {
            return Ok(true);
        }
        for event in self.pledges.0.get(&envelope.id).into_iter().flatten() {
            match Pledge::read(event.clone()) {
                Ok(pledge) if fits(&pledge, trade.dossier(), &facts) => keep(store, &pledge)?,
                Ok(_) => tracing::debug!(trade = %trade.id(), "a pledge of another escrow"),
                Err(error) => tracing::debug!(trade = %trade.id(), %error, "no pledge"),
            }
        }
        // The payee shows an arbiter what the payer signed, and that has to be heard whatever the payer keeps back.
        let shown = trade.role() == Role::Arbiter && matches!(envelope.message, Message::PaymentConfirmation(_));
        let Some(author) = due.filter(|_| !shown) else { return Ok(true) };
        let there = find(store, facts.hash, author)?.is_some();
        if !there {
            tracing::info!(trade = %trade.id(), %author, "its step came without its pledge and is not taken");
        }
        Ok(there)
    }

    /// What goes out beside a message of ours.
    pub(super) fn beside(&self, trade: TradeId, outgoing: &Outgoing) -> Result<Beside, DeskError> {
        Ok(Beside { pledges: self.pledges_for(trade, outgoing)?, receipt: self.receipt(trade, outgoing)? })
    }

    /// Our own pledge with the step that owes it, all that we hold with a ruling.
    fn pledges_for(&self, trade: TradeId, outgoing: &Outgoing) -> Result<Vec<Pledge>, DeskError> {
        let Some(dossier) = self.desk.trade(trade).map(trade::Trade::dossier) else { return Ok(Vec::new()) };
        let Some(facts) = facts(dossier) else { return Ok(Vec::new()) };
        let store = &self.parts.store;
        if matches!(outgoing.message, Message::Ruling(_)) {
            let held = [facts.payer, facts.payee].map(|author| find(store, facts.hash, author));
            return Ok(held.into_iter().collect::<Result<Vec<_>, _>>()?.into_iter().flatten().collect());
        }
        if due(&outgoing.message, &facts) != Some(outgoing.author) {
            return Ok(Vec::new());
        }
        Ok(vec![self.own_pledge(&facts, outgoing, self.tip)?])
    }

    /// Our pledge, signed once. After a restore it is signed again: nobody sends us our own.
    fn own_pledge(&self, facts: &Facts, outgoing: &Outgoing, height: Height) -> Result<Pledge, DeskError> {
        let (store, author) = (&self.parts.store, outgoing.author);
        if let Some(known) = find(store, facts.hash, author)? {
            return Ok(known);
        }
        let key = self.parts.keyring.pair(&author).ok_or(PostError::NotOurKey)?;
        let identity = self.identity_of(author)?;
        let pledge = Pledge::sign(facts, height, identity.as_ref(), outgoing.at, key).map_err(PostError::Pledge)?;
        keep(store, &pledge)?;
        Ok(pledge)
    }

    /// The link from a key of a trade to our identity, where our user wants others to see it.
    fn identity_of(&self, key: PartyKey) -> Result<Option<Identity>, DeskError> {
        let identity = self.parts.keyring.identity();
        if !self.parts.link_identity || key == identity {
            return Ok(None);
        }
        let pair = self.parts.keyring.pair(&identity).ok_or(PostError::NotOurKey)?;
        Ok(Some(link(pair, key)))
    }

    /// Where our user stands among those it traded with.
    pub(super) fn circle(&self) -> Result<Circle, DeskError> {
        let mut ours = BTreeSet::from([self.parts.keyring.identity()]);
        let mut known = BTreeMap::<PartyKey, Sat>::new();
        for trade in self.desk.trades() {
            let dossier = trade.dossier();
            ours.insert(dossier.me());
            let paid = matches!(trade.outcome(), Some(Outcome::Settled | Outcome::Split { .. }));
            let (true, Some(facts)) = (paid && trade.role() != Role::Arbiter, facts(dossier)) else { continue };
            let other = counterparty(dossier, &facts);
            let pledge = tokio::task::block_in_place(|| find(&self.parts.store, facts.hash, other))?;
            let key = pledge.and_then(|pledge| pledge.identity).unwrap_or(other);
            let value = known.entry(key).or_default();
            *value = Sat(value.0.saturating_add(facts.amount.0));
        }
        let known = known.into_iter().map(|(key, value)| Acquaintance { key, value }).collect();
        Ok(Circle { ours, known, tip: self.tip })
    }

    /// What makes a rating of ours one that anybody can check; none when a pledge is missing, and then it is told to the other
    /// side alone.
    fn receipt(&self, trade: TradeId, outgoing: &Outgoing) -> Result<Option<Receipt>, DeskError> {
        let Some(dossier) = self.desk.trade(trade).map(trade::Trade::dossier) else { return Ok(None) };
        let Some(facts) = facts(dossier) else { return Ok(None) };
        let about_arbiter = match &outgoing.message {
            Message::Rating(_) | Message::BoardRating(_) => false,
            Message::ArbiterRating(_) => true,
            _ => return Ok(None),
        };
        let Some(theirs) = self.theirs(dossier, &facts, about_arbiter)? else { return Ok(None) };
        let height = theirs.first().map_or(self.tip, |pledge| pledge.height);
        let mut pledges = vec![self.own_pledge(&facts, outgoing, height)?];
        pledges.extend(theirs);
        Ok(Some(Receipt { pledges, settled: self.settled(trade, dossier) }))
    }

    /// What the others have to have pledged for a rating of ours: the other side, and the arbiter if it is the one rated.
    fn theirs(&self, dossier: &Dossier, facts: &Facts, about_arbiter: bool) -> Result<Option<Vec<Pledge>>, StoreError> {
        let authors = [Some(counterparty(dossier, facts)), facts.arbiter.filter(|_| about_arbiter)];
        let pledges = authors.into_iter().flatten().map(|author| find(&self.parts.store, facts.hash, author));
        pledges.collect()
    }

    /// Refuses to rate whoever has not pledged: nobody could check it.
    pub(super) fn check_rating(&self, trade: TradeId, command: &Command) -> Result<(), DeskError> {
        let Some(trade) = self.desk.trade(trade).filter(|trade| trade.outcome().is_some()) else { return Ok(()) };
        let Some(facts) = facts(trade.dossier()) else { return Ok(()) };
        let about_arbiter = match command {
            Command::Rate { .. } | Command::RateBoard { .. } => false,
            Command::RateArbiter { .. } => true,
            _ => return Ok(()),
        };
        if tokio::task::block_in_place(|| self.theirs(trade.dossier(), &facts, about_arbiter))?.is_some() {
            return Ok(());
        }
        let why = "no pledge backs a rating: the trade ended before the other side had to give one. After a restore pledges come \
                   back with the mail, within minutes";
        Err(Refusal { rule: Rule::WrongState, why: why.into() }.into())
    }

    /// The secret of the first tranche, once our own node said that it was settled: before, it would be worth money to a thief on
    /// the route.
    fn settled(&self, trade: TradeId, dossier: &Dossier) -> Option<Preimage> {
        let leg = LegId::price(0, 0);
        match dossier.opening.role {
            Role::Payer => match &dossier.paid(leg)?.state {
                PaidState::Taken { .. } => Some(trade::secret::derive(&self.parts.escrow_key, trade, leg)),
                _ => None,
            },
            Role::Payee => {
                let settled = dossier.issued(leg)?.state == IssuedState::Settled;
                let known = || dossier.vault.iter().find(|(known, _)| *known == leg).map(|(_, secret)| secret.clone());
                settled.then(known).flatten()
            }
            Role::Arbiter => None,
        }
    }
}

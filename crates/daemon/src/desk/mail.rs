//! Words: what boards bring goes to its trade, what is owed goes to the outbox, and what is missing is asked for again.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use trade::{Envelope, Input, Message, Outgoing, PartyKey, Rule, Step, TradeId};

use super::owed::Owed;
use super::{DeskError, Loop};
use crate::board_link::Mail;
use crate::courier::News;
use crate::mail_seen::Seen;
use crate::post::{self, Beside};

const HOUR: Duration = Duration::from_secs(3600);
/// First and longest rest before stored mail is fetched again because words are missing.
const MISSING_FIRST: Duration = Duration::from_secs(2);
const MISSING_LAST: Duration = Duration::from_secs(600);
/// How often it is fetched again though nothing seems to be missing: what nobody answers leaves no gap.
const FETCH_EVERY: Duration = Duration::from_secs(300);
/// Keys whose mail is fetched though their trade has ended, in case the other side still rates.
const RECENT_KEYS: usize = 64;

/// What is known of mail, and when it is fetched again.
pub(super) struct Mailroom {
    /// When others opened trades with us, within the last hour.
    opened: VecDeque<Instant>,
    seen: Arc<Seen>,
    /// Words are missing: when to ask again, and how long to rest after.
    missing: Option<(Instant, Duration)>,
    fetch_at: Instant,
}

impl Mailroom {
    pub(super) fn new(seen: Arc<Seen>) -> Mailroom {
        let fetch_at = Instant::now() + FETCH_EVERY;
        Mailroom { opened: VecDeque::new(), seen, missing: None, fetch_at }
    }
}

/// Names a message of a trade in the outbox.
fn parcel_name(trade: TradeId, step: Step) -> Result<String, DeskError> {
    Ok(serde_json::to_string(&(trade, step))?)
}

impl Loop {
    /// Boards bring mail for the keys of open trades, and for a while after for those that may still be rated.
    pub(super) fn listen(&self) {
        let open = self.desk.open_trades().map(|trade| trade.dossier().me());
        let keys: BTreeSet<_> = self.parts.keyring.recent(RECENT_KEYS).chain(open).collect();
        let pairs: Vec<_> = keys.iter().filter_map(|key| self.parts.keyring.pair(key)).copied().collect();
        for board in &self.parts.boards {
            board.listen_to(&pairs);
        }
    }

    pub(super) fn listen_for(&self, key: &PartyKey) {
        let Some(pair) = self.parts.keyring.pair(key) else { return };
        for board in &self.parts.boards {
            board.listen(*pair);
        }
    }

    /// Checks a Nostr event that a board brought and hands what it says to the trade it belongs to.
    pub(super) fn read(&mut self, mail: Mail) -> Result<(), DeskError> {
        if self.mailroom.seen.contains(&mail.event.id) {
            return Ok(());
        }
        let done_with = match post::open(&mail.event, &self.parts.keyring) {
            Ok(post::Opened::Step(envelope, _)) if self.parts.keyring.pair(&envelope.author).is_some() => true,
            Ok(post::Opened::Step(envelope, _)) if matches!(envelope.message, Message::Listing(_)) => {
                self.hear_answer(*envelope)
            }
            Ok(post::Opened::Step(envelope, pledges)) => {
                self.pledges.keep(envelope.id, pledges);
                self.receive(*envelope)?
            }
            Ok(post::Opened::Chat(id, chat)) => self.hear_chat(id, &chat)?,
            Err(error) => {
                tracing::debug!(board = %mail.board, %error, "mail refused");
                false
            }
        };
        if done_with {
            self.mailroom.seen.insert(&mail.event);
        }
        Ok(())
    }

    /// True when the message is done with: taken, known, or refused for good. False when it may mean something later.
    pub(super) fn receive(&mut self, envelope: Envelope) -> Result<bool, DeskError> {
        let asks = matches!(envelope.message, Message::AppointmentRequest(_));
        if asks && self.parts.arbiter.is_none() {
            return Ok(true);
        }
        if self.opens_too_many(&envelope) {
            tracing::warn!(author = %envelope.author, "too many new trades by others within the hour; this one is left out");
            return Ok(false);
        }
        if !self.pledged(&envelope)? {
            return Ok(false);
        }
        let id = envelope.id;
        let decided = self.desk.receive(envelope, self.now());
        let refused = self.settle(decided)?.err();
        if let Some(refusal) = &refused {
            tracing::debug!(rule = refusal.rule.code(), why = %refusal.why, "refused");
        }
        if asks {
            self.asked = true;
        }
        let later = [Rule::OutOfOrder, Rule::ListingClosed, Rule::TooMany, Rule::NotAppointed];
        let done_with = refused.is_none_or(|refusal| !later.contains(&refusal.rule));
        if done_with {
            self.pledges.forget(id);
        }
        Ok(done_with)
    }

    /// A trade that somebody else opens costs us a place on the desk for good: only so many an hour.
    pub(super) fn opens_too_many(&mut self, envelope: &Envelope) -> bool {
        let opens = matches!(envelope.message, Message::AppointmentRequest(_) | Message::Bid(_) | Message::Listing(_));
        let known = self.desk.route(envelope).is_some_and(|id| self.desk.trade(id).is_some());
        if !opens || known {
            return false;
        }
        let (now, opened) = (Instant::now(), &mut self.mailroom.opened);
        while opened.front().is_some_and(|at| now.duration_since(*at) >= HOUR) {
            opened.pop_front();
        }
        let full = opened.len() >= self.parts.opened_per_hour;
        if !full {
            opened.push_back(now);
        }
        full
    }

    /// Fetches stored mail again where words are missing (a step names one before it that never came), with longer and longer
    /// rests, and now and then in any case: what was withheld by one board or lost on the way is then brought by another.
    pub(super) fn fetch_what_is_missing(&mut self) {
        let now = Instant::now();
        self.mailroom.missing = match self.mailroom.missing {
            _ if !self.desk.has_gaps() => None,
            None => Some((now + MISSING_FIRST, MISSING_FIRST)),
            Some((at, rest)) if now >= at => {
                tracing::debug!(waiting = self.desk.early_messages(), "words are missing: fetching stored mail again");
                self.fetch_again();
                let rest = (rest * 2).min(MISSING_LAST);
                Some((now + rest, rest))
            }
            waiting => waiting,
        };
        if now >= self.mailroom.fetch_at {
            self.mailroom.fetch_at = now + FETCH_EVERY;
            self.listen();
            self.fetch_again();
        }
    }

    fn fetch_again(&mut self) {
        self.desk.refetching();
        for board in &self.parts.boards {
            board.fetch_again();
        }
    }

    /// Signs and seals, once, and puts the result into the outbox: from there it goes to every board until that board has it.
    pub(super) fn send(&mut self, owed: Owed, outgoing: &Outgoing) -> Result<(), DeskError> {
        // First what we need to stand by our word, then the word.
        self.keep(owed.0)?;
        let parcel = parcel_name(owed.0, outgoing.step)?;
        let posted = match self.couriers.posted(&parcel)? {
            Some(posted) => posted,
            None => {
                let (parts, trade) = (&self.parts, owed.0);
                let transport = self.transport_of(trade);
                let pack =
                    |beside: Beside| post::pack(outgoing, trade, &parts.keyring, &parts.escrow_key, transport, &beside);
                let packed = match tokio::task::block_in_place(|| self.beside(trade, outgoing)) {
                    Ok(beside) => pack(beside),
                    Err(DeskError::Post(error)) => Err(error),
                    Err(error) => return Err(error),
                };
                match packed {
                    Ok(packed) => {
                        self.couriers.post(&parcel, packed.id, &packed.events)?;
                        (packed.id, false)
                    }
                    Err(error) => {
                        tracing::error!(trade = %owed.0, what = %owed.1, %error, "a message of ours cannot be written");
                        return self.rest(owed);
                    }
                }
            }
        };
        match posted {
            // It arrived before the daemon stopped, and nobody had noted it.
            (id, true) => self.arrived(&parcel, owed.0, outgoing.step, id),
            (_, false) => {
                self.docket.under_way(owed);
                Ok(())
            }
        }
    }

    /// What a courier has to tell.
    pub(super) fn hear_courier(&mut self, news: News) -> Result<(), DeskError> {
        match news {
            News::Arrived(arrived) => {
                // Chat waits for nobody.
                let Some((trade, step)) = named(&arrived.parcel) else {
                    return Ok(self.couriers.told(&arrived.parcel)?);
                };
                self.arrived(&arrived.parcel, trade, step, arrived.message)
            }
            News::Refused { parcel, error } => {
                if let Some((trade, step)) = named(&parcel) {
                    self.not_listed(trade, step, &error);
                }
                Ok(())
            }
        }
    }

    fn arrived(&mut self, parcel: &str, trade: TradeId, step: Step, id: trade::MessageId) -> Result<(), DeskError> {
        self.docket.waits_no_longer(&(trade, crate::effects::sending(step)));
        self.take_quietly(trade, &Input::Sent { step, id })?;
        self.couriers.told(parcel)?;
        self.listed(trade, step, id)
    }
}

/// The message of a trade that a parcel holds.
fn named(parcel: &str) -> Option<(TradeId, Step)> {
    serde_json::from_str(parcel).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_parcel_is_named_by_what_it_holds() {
        let (trade, step) = (TradeId([3; 32]), Step::Handover(trade::LegId::price(1, 2)));
        assert_eq!(named(&parcel_name(trade, step).unwrap()), Some((trade, step)));
        assert_eq!(named("chat/1"), None);
    }
}

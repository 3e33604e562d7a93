//! What the arrival of an event does to the indexes: whether it is new, what it replaces, what it deletes, what has expired.
//!
//! Nothing is written here: an [`Edit`] gathers changes over a [`View`], and sees its own.

use units::Unix;
use wire::DeletionTarget;
use wire::event::{KIND_DELETION, KIND_VANISH};
use wire::seal::KIND_GIFT_WRAP;

use super::keys::{
    By, Current, Holding, Key, PointKey, Range, RowValue, Table, Value, address_point, expired_by, expiry_key,
    expiry_place, gone_key, id_key, row_key, row_value, somebody_vanished, spent_for, spent_key, vanished_key,
};
use super::overlay::Changes;
use super::{Row, View};
use crate::store::frame::Place;
use crate::store::log::LogError;
use crate::store::{AddressKey, Encoded, Facts, Known, StoreError, TagKey, address_key, tag_key};

/// A position that no event has: of what was taken down before it came.
const NOWHERE: Place = Place { at: (1 << 48) - 1, len: 0 };

/// Reads an event of the log, or of the batch that is about to be appended to it.
pub(crate) type ReadEvent<'a> = &'a dyn Fn(Place) -> Result<Encoded, LogError>;

/// Changes in the making.
pub(crate) struct Edit<'a> {
    pub(crate) view: &'a View<'a>,
    pub(crate) changes: &'a mut Changes,
}

impl Edit<'_> {
    fn point(&self, key: &PointKey) -> Result<Option<Value>, StoreError> {
        match self.changes.points.get(key) {
            Some(value) => Ok(Some(*value)),
            None => self.view.point(key),
        }
    }

    fn put(&mut self, key: PointKey, value: Value) {
        self.changes.points.insert(key, value);
    }

    fn row(&mut self, key: Key, value: Option<RowValue>) {
        self.changes.rows.push((key, value));
    }

    fn holding(&self, id: &[u8; 32]) -> Result<Option<Holding>, StoreError> {
        self.point(&id_key(id))?.map(|value| Holding::read(value.bytes())).transpose()
    }

    fn current(&self, address: &AddressKey) -> Result<Option<Current>, StoreError> {
        let value = self.point(&address_point(Table::Address, address))?;
        value.map(|value| Current::read(value.bytes())).transpose()
    }

    fn gone_until(&self, address: &AddressKey) -> Result<Option<u64>, StoreError> {
        let value = self.point(&address_point(Table::GoneAddress, address))?;
        value.map(|value| super::keys::seconds(value.bytes())).transpose()
    }

    /// Why `event` is not to be stored, if so.
    pub(crate) fn judge(&self, event: &Encoded, facts: &Facts) -> Result<Option<Known>, StoreError> {
        if let Some(holding) = self.holding(&event.id)? {
            return Ok(Some(holding.state));
        }
        for owner in std::iter::once(&event.pubkey).chain(&facts.recipients) {
            // Requests to delete and to vanish cannot themselves be deleted (NIP-09, NIP-62).
            let asked = !lasts(event.kind) && self.point(&gone_key(&event.id, owner))?.is_some();
            if asked || self.vanished_until(owner)?.is_some_and(|until| event.created_at.0 <= until) {
                return Ok(Some(Known::Deleted));
            }
        }
        let Some(address) = &facts.address else { return Ok(None) };
        if self.gone_until(address)?.is_some_and(|until| event.created_at.0 <= until) {
            return Ok(Some(Known::Deleted));
        }
        let newer = self.current(address)?.is_some_and(|current| {
            current.created_at > event.created_at.0
                || (current.created_at == event.created_at.0 && current.id < event.id)
        });
        Ok(newer.then_some(Known::Superseded))
    }

    /// The event for which the credential was spent before that now is to be spent for another, if so.
    pub(crate) fn spent(&self, facts: &Facts) -> Result<Option<[u8; 32]>, StoreError> {
        let Some(nullifier) = &facts.spends else { return Ok(None) };
        self.point(&spent_key(nullifier))?.map(|value| spent_for(value.bytes())).transpose()
    }

    /// Puts in an event that [`Edit::judge`] found new, and does to others what it does to them. Gives whether any other event
    /// ceased to be served.
    pub(crate) fn insert(
        &mut self,
        event: &Encoded,
        facts: &Facts,
        place: Place,
        read: ReadEvent<'_>,
    ) -> Result<bool, StoreError> {
        let holding = Holding { place, created_at: event.created_at.0, kind: event.kind, state: Known::Served };
        self.put(id_key(&event.id), holding.value());
        if let Some(nullifier) = &facts.spends {
            self.put(spent_key(nullifier), Value::of(&[&event.id]));
        }
        each_row(event, facts, place, |key, value| self.row(key, Some(value)));
        self.changes.served += 1;
        if let Some(expiration) = event.expiration {
            let value = RowValue::of(&[&place.len.to_be_bytes()[1..]]);
            self.row(expiry_key(expiration, place), Some(value));
        }
        let mut removed = false;
        if let Some(address) = &facts.address {
            if let Some(before) = self.current(address)?
                && before.id != event.id
            {
                removed |= self.retire(&before.id, Known::Superseded, read)?;
            }
            let current = Current { created_at: event.created_at.0, id: event.id, place };
            self.put(address_point(Table::Address, address), current.value());
        }
        for target in &facts.targets {
            removed |= self.delete(event, target, read)?;
        }
        if event.kind == KIND_VANISH {
            removed |= self.vanish(event, read)?;
        }
        Ok(removed)
    }

    fn vanished_until(&self, author: &[u8; 32]) -> Result<Option<u64>, StoreError> {
        if !self.view.index.anybody_vanished() {
            return Ok(None);
        }
        let value = self.point(&vanished_key(author))?;
        value.map(|value| super::keys::seconds(value.bytes())).transpose()
    }

    /// Ceases to serve all that the author of a request to vanish published until then, and the gift wraps for it (NIP-62).
    fn vanish(&mut self, request: &Encoded, read: ReadEvent<'_>) -> Result<bool, StoreError> {
        let until = request.created_at.0;
        self.view.index.somebody_vanished();
        self.row(somebody_vanished(), Some(RowValue::EMPTY));
        if self.vanished_until(&request.pubkey)?.is_none_or(|before| before < until) {
            self.put(vanished_key(&request.pubkey), Value::of(&[&until.to_be_bytes()]));
        }
        let mut removed = false;
        let to = tag_key(b'p', &units::hex32(&request.pubkey));
        for (by, prefix) in [(By::Author, &request.pubkey[..]), (By::Tag, &to[..])] {
            let range = Range { by, prefix, first: u64::MAX - until, last: u64::MAX, after: None };
            for row in self.rows(&range)? {
                if by == By::Tag && row.kind != KIND_GIFT_WRAP {
                    continue;
                }
                match read(row.place()) {
                    Ok(event) if event.id == request.id => {}
                    // Some rows may be of what this very batch has replaced or deleted already.
                    Ok(event) if self.holding(&event.id)?.is_none_or(|holding| holding.state != Known::Served) => {}
                    Ok(event) => removed |= self.retire(&event.id, Known::Deleted, read)?,
                    Err(why) => tracing::error!(position = row.at, %why, "an event that vanishes cannot be read"),
                }
            }
        }
        Ok(removed)
    }

    /// All rows of a range, those of the batch included, and those that the batch has removed again.
    fn rows(&self, range: &Range<'_>) -> Result<Vec<Row>, StoreError> {
        let mut rows = Vec::new();
        self.view.scan(range, usize::MAX, |row| rows.push(row))?;
        let (low, high) = (range.low().0, range.high());
        for (key, value) in self.changes.rows.iter().filter(|(key, _)| *key >= low && *key <= high) {
            if let Some(value) = value {
                rows.push(Row::read(range.by, key.bytes(), value.bytes())?);
            }
        }
        Ok(rows)
    }

    /// Does what a deletion request asks for one target, if its author may (NIP-09).
    fn delete(&mut self, request: &Encoded, target: &DeletionTarget, read: ReadEvent<'_>) -> Result<bool, StoreError> {
        match target {
            DeletionTarget::Event(id) => {
                self.put(gone_key(id, &request.pubkey), Value::EMPTY);
                let Some(holding) = self.holding(id)? else { return Ok(false) };
                let hers =
                    !lasts(holding.kind) && matches!(read(holding.place), Ok(event) if owns(&request.pubkey, &event));
                if hers { self.retire(id, Known::Deleted, read) } else { Ok(false) }
            }
            DeletionTarget::Address { kind, pubkey, identifier } if *pubkey == request.pubkey => {
                let Some(address) = address_key(*kind, pubkey, identifier) else { return Ok(false) };
                let until = request.created_at.0;
                if self.gone_until(&address)?.is_none_or(|before| before < until) {
                    self.put(address_point(Table::GoneAddress, &address), Value::of(&[&until.to_be_bytes()]));
                }
                match self.current(&address)? {
                    Some(current) if current.created_at <= until => self.retire(&current.id, Known::Deleted, read),
                    _ => Ok(false),
                }
            }
            DeletionTarget::Address { .. } => Ok(false),
        }
    }

    /// Ceases to serve an event. A later reason that weighs more takes the place of an earlier one.
    fn retire(&mut self, id: &[u8; 32], state: Known, read: ReadEvent<'_>) -> Result<bool, StoreError> {
        let Some(holding) = self.holding(id)? else { return Ok(false) };
        let change = match holding.state {
            Known::Served => true,
            Known::Superseded => matches!(state, Known::Deleted | Known::TakenDown),
            Known::Deleted | Known::Expired => state == Known::TakenDown,
            Known::TakenDown => false,
        };
        if !change {
            return Ok(false);
        }
        self.put(id_key(id), Holding { state, ..holding }.value());
        if holding.state != Known::Served {
            return Ok(true);
        }
        self.changes.served -= 1;
        let event = read(holding.place);
        match event.as_ref().map(|event| event.raw().map(|raw| (event, Facts::of(&raw)))) {
            Ok(Ok((event, facts))) => {
                each_row(event, &facts, holding.place, |key, _| self.row(key, None));
                if let Some(expiration) = event.expiration {
                    self.row(expiry_key(expiration, holding.place), None);
                }
            }
            // Its rows stay, but they lead to a frame that nobody can read, so nothing is served through them.
            Ok(Err(why)) => tracing::error!(position = holding.place.at, %why, "an event that ends is damaged"),
            Err(why) => tracing::error!(position = holding.place.at, %why, "an event that ends cannot be read"),
        }
        Ok(true)
    }

    /// Takes an event down for good, whether it is here already or not.
    pub(crate) fn take_down(&mut self, id: &[u8; 32], read: ReadEvent<'_>) -> Result<bool, StoreError> {
        if self.holding(id)?.is_none() {
            let holding = Holding { place: NOWHERE, created_at: 0, kind: 0, state: Known::TakenDown };
            self.put(id_key(id), holding.value());
            return Ok(false);
        }
        self.retire(id, Known::TakenDown, read)
    }

    /// Ceases to serve up to `max` events that have expired by `now`. Gives how many there were.
    pub(crate) fn expire(&mut self, now: Unix, max: usize, read: ReadEvent<'_>) -> Result<usize, StoreError> {
        let (low, high) = expired_by(now);
        let mut rows = self.view.rows((low, true), high)?;
        let mut due = Vec::new();
        while due.len() < max
            && let Some((key, value)) = rows.next()?
        {
            due.push((*key, expiry_place(key.bytes(), value)?));
        }
        for (key, place) in &due {
            match read(*place) {
                Ok(event) => {
                    self.retire(&event.id, Known::Expired, read)?;
                }
                Err(why) => tracing::error!(position = place.at, %why, "an event that expires cannot be read"),
            }
            self.row(*key, None);
        }
        Ok(due.len())
    }
}

/// Requests that nobody can take back.
fn lasts(kind: u16) -> bool {
    matches!(kind, KIND_DELETION | KIND_VANISH)
}

/// An event may be deleted by its author, a gift wrap by its recipient too (NIP-59): its author is a key that nobody has any more.
fn owns(key: &[u8; 32], event: &Encoded) -> bool {
    let wrapped_for = || event.raw().is_ok_and(|raw| Facts::of(&raw).recipients.contains(key));
    event.pubkey == *key || (event.kind == KIND_GIFT_WRAP && wrapped_for())
}

fn each_row(event: &Encoded, facts: &Facts, place: Place, mut visit: impl FnMut(Key, RowValue)) {
    let mut row = |by, prefix: &[u8]| visit(row_key(by, prefix, event, place), row_value(by, event, place));
    let kind = event.kind.to_be_bytes();
    let mut author_kind = [0; 34];
    author_kind[..32].copy_from_slice(&event.pubkey);
    author_kind[32..].copy_from_slice(&kind);
    row(By::Created, &[]);
    row(By::Author, &event.pubkey);
    row(By::Kind, &kind);
    row(By::AuthorKind, &author_kind);
    facts.tags.iter().for_each(|tag: &TagKey| row(By::Tag, tag));
}

//! Holds, payments and receipts as they are about to be on disk. Decisions are taken here, under one lock; what others
//! see is read from the store, where a row appears when it is durable.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use node::{NodeEvent, PaymentId};
use tokio::sync::oneshot;
use units::PaymentHash;

use crate::holds::HoldRow;
use crate::payments::PaymentRow;
use crate::store::{Change, ReceivedRow, Store, StoreError};
use crate::writer::{Entry, Writer};

/// Final rows kept in memory, far more than the writer can be behind.
const RECENT: usize = 16_384;

type Result<T> = std::result::Result<T, StoreError>;

/// The rows that are not final, and the latest that are.
pub(crate) struct Ledger {
    writer: Writer,
    reader: Arc<Mutex<Store>>,
    rows: Mutex<Rows>,
}

#[derive(Default)]
struct Rows {
    holds: HashMap<PaymentHash, HoldRow>,
    payments: HashMap<PaymentId, PaymentRow>,
    received: HashMap<PaymentHash, ReceivedRow>,
    recent: VecDeque<Key>,
    settling: HashMap<PaymentHash, Vec<oneshot::Sender<()>>>,
}

enum Key {
    Hold(PaymentHash),
    Payment(PaymentId),
    Received(PaymentHash),
}

/// The ledger while it is locked: look, decide, put. Never held across an await.
pub(crate) struct Open<'a> {
    ledger: &'a Ledger,
    rows: MutexGuard<'a, Rows>,
}

impl Ledger {
    /// Loads what is not final.
    pub(crate) fn load(writer: Writer, reader: Arc<Mutex<Store>>) -> Result<Ledger> {
        let mut rows = Rows::default();
        {
            let store = reader.lock().unwrap_or_else(PoisonError::into_inner);
            rows.holds = store.holds_alive()?.into_iter().map(|row| (row.hash, row)).collect();
            rows.payments = store.payments_alive()?.into_iter().map(|row| (row.id, row)).collect();
        }
        Ok(Ledger { writer, reader, rows: Mutex::new(rows) })
    }

    pub(crate) fn open(&self) -> Open<'_> {
        Open { ledger: self, rows: self.rows.lock().unwrap_or_else(PoisonError::into_inner) }
    }

    /// The store, for what is durable.
    pub(crate) fn reader(&self) -> MutexGuard<'_, Store> {
        self.reader.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Open<'_> {
    pub(crate) fn hold(&self, hash: PaymentHash) -> Result<Option<HoldRow>> {
        match self.rows.holds.get(&hash) {
            Some(row) => Ok(Some(row.clone())),
            None => self.ledger.reader().hold(hash),
        }
    }

    pub(crate) fn payment(&self, id: PaymentId) -> Result<Option<PaymentRow>> {
        match self.rows.payments.get(&id) {
            Some(row) => Ok(Some(row.clone())),
            None => self.ledger.reader().payment(id),
        }
    }

    pub(crate) fn received(&self, hash: PaymentHash) -> Result<Option<ReceivedRow>> {
        match self.rows.received.get(&hash) {
            Some(row) => Ok(Some(row.clone())),
            None => self.ledger.reader().received(hash),
        }
    }

    /// The holds in memory that `pick` picks: all that are not final are there.
    pub(crate) fn holds(&self, pick: impl Fn(&HoldRow) -> bool) -> Vec<HoldRow> {
        self.rows.holds.values().filter(|row| pick(row)).cloned().collect()
    }

    pub(crate) fn payments_in_flight(&self) -> Vec<PaymentRow> {
        self.rows.payments.values().filter(|row| row.in_flight()).cloned().collect()
    }

    /// Asks to be told when the hold is final and on disk.
    pub(crate) fn when_final(&mut self, hash: PaymentHash) -> oneshot::Receiver<()> {
        let (tell, told) = oneshot::channel();
        let waiting = self.rows.settling.entry(hash).or_default();
        waiting.retain(|other| !other.is_closed());
        waiting.push(tell);
        told
    }

    pub(crate) fn put_hold(&mut self, row: HoldRow) {
        self.put_hold_ahead(row);
        self.ledger.writer.wake();
    }

    /// See [`Writer::put_ahead`].
    pub(crate) fn put_hold_ahead(&mut self, row: HoldRow) {
        let mut entry = entry(Change::Hold(row.clone()));
        entry.events.push(NodeEvent::Hold(row.view()));
        if row.phase.is_final() {
            entry.waiters = self.rows.settling.remove(&row.hash).unwrap_or_default();
            self.rows.remember(Key::Hold(row.hash));
        }
        self.rows.holds.insert(row.hash, row);
        self.ledger.writer.put_ahead(entry);
    }

    pub(crate) fn put_payment(&mut self, row: PaymentRow) {
        self.put_payment_ahead(row);
        self.ledger.writer.wake();
    }

    /// See [`Writer::put_ahead`].
    pub(crate) fn put_payment_ahead(&mut self, row: PaymentRow) {
        let mut entry = entry(Change::Payment(row.clone()));
        entry.events.push(NodeEvent::Payment(row.view()));
        if !row.in_flight() {
            self.rows.remember(Key::Payment(row.id));
        }
        self.rows.payments.insert(row.id, row);
        self.ledger.writer.put_ahead(entry);
    }

    pub(crate) fn put_received(&mut self, row: ReceivedRow) {
        self.put_received_ahead(row);
        self.ledger.writer.wake();
    }

    /// See [`Writer::put_ahead`].
    pub(crate) fn put_received_ahead(&mut self, row: ReceivedRow) {
        let mut entry = entry(Change::Received(row.clone()));
        if row.claimed {
            entry.events.push(NodeEvent::Received { hash: row.hash, amount: row.amount });
        }
        self.rows.remember(Key::Received(row.hash));
        self.rows.received.insert(row.hash, row);
        self.ledger.writer.put_ahead(entry);
    }
}

/// What is recorded of a payment is written with the manager that knows it.
fn entry(change: Change) -> Entry {
    Entry { with_manager: true, ..Entry::from(change) }
}

impl Rows {
    fn remember(&mut self, key: Key) {
        self.recent.push_back(key);
        while self.recent.len() > RECENT {
            match self.recent.pop_front() {
                Some(Key::Hold(hash)) => {
                    self.holds.remove(&hash);
                }
                // A failed payment that was started again is in flight, and stays.
                Some(Key::Payment(id)) if self.payments.get(&id).is_some_and(|row| !row.in_flight()) => {
                    self.payments.remove(&id);
                }
                Some(Key::Received(hash)) => {
                    self.received.remove(&hash);
                }
                Some(Key::Payment(_)) | None => {}
            }
        }
    }
}

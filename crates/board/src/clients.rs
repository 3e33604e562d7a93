//! Who is connected: what the operator sees of a client, and a way to ask something of its connection.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::ops::Deref;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;
use units::Unix;

use crate::outlet::Outlet;

/// Orders that may wait for one connection. It takes them within one turn of its loop unless its reader is stuck.
const ORDERS_MAX: usize = 16;

/// What went over connections: WebSocket frames and their bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Traffic {
    /// Frames that came.
    pub frames_in: u64,
    /// Their bytes.
    pub bytes_in: u64,
    /// Frames that went out.
    pub frames_out: u64,
    /// Their bytes.
    pub bytes_out: u64,
}

impl Traffic {
    fn add(&mut self, more: Traffic) {
        self.frames_in += more.frames_in;
        self.bytes_in += more.bytes_in;
        self.frames_out += more.frames_out;
        self.bytes_out += more.bytes_out;
    }
}

/// A subscription as the operator sees it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct SubscriptionView {
    /// Number of the client.
    pub client: u64,
    /// The client's name for it.
    pub id: String,
    /// What it asks for (NIP-01).
    pub filters: Vec<serde_json::Value>,
    /// `stored` while the stored events are sent, then `live`; or `count`.
    pub stage: String,
}

/// What only the connection itself knows.
#[derive(Debug, Default)]
pub(crate) struct Report {
    pub(crate) keys: Vec<[u8; 32]>,
    pub(crate) subscriptions: Vec<SubscriptionView>,
}

/// Something for a connection to do.
#[derive(Debug)]
pub(crate) enum Order {
    /// Say how it stands.
    Report(oneshot::Sender<Report>),
    /// Tell the client something (`NOTICE` of NIP-01).
    Notice(Arc<str>),
    /// End, and say why.
    End(&'static str),
}

/// One connected client.
#[derive(Debug)]
pub(crate) struct Client {
    pub(crate) number: u64,
    pub(crate) address: IpAddr,
    pub(crate) since: Unix,
    frames_in: AtomicU64,
    bytes_in: AtomicU64,
    pub(crate) outlet: Arc<Outlet>,
    orders: Mutex<Vec<Order>>,
    /// There are orders.
    ordered: AtomicBool,
}

impl Client {
    /// So many frames of so many bytes came.
    pub(crate) fn read(&self, frames: usize, bytes: usize) {
        self.frames_in.fetch_add(frames as u64, Ordering::Relaxed);
        self.bytes_in.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    pub(crate) fn traffic(&self) -> Traffic {
        let (frames_out, bytes_out) = self.outlet.traffic();
        Traffic {
            frames_in: self.frames_in.load(Ordering::Relaxed),
            bytes_in: self.bytes_in.load(Ordering::Relaxed),
            frames_out,
            bytes_out,
        }
    }

    /// Leaves an order. False when too many wait already.
    pub(crate) fn order(&self, order: Order) -> bool {
        let mut orders = self.orders.lock().unwrap_or_else(PoisonError::into_inner);
        // To end is always understood.
        let room = orders.len() < ORDERS_MAX || matches!(order, Order::End(_));
        if room {
            orders.push(order);
            self.ordered.store(true, Ordering::Release);
            self.outlet.bell.notify_one();
        }
        room
    }

    /// Takes the orders that wait.
    pub(crate) fn orders(&self) -> Vec<Order> {
        if !self.ordered.swap(false, Ordering::AcqRel) {
            return Vec::new();
        }
        std::mem::take(&mut *self.orders.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[derive(Debug, Default)]
struct State {
    next: u64,
    here: BTreeMap<u64, Arc<Client>>,
    /// Traffic of those who have gone.
    gone: Traffic,
}

/// All connected clients.
#[derive(Debug, Default)]
pub(crate) struct Clients(Mutex<State>);

/// A client's place in the list, given up when it is dropped.
#[derive(Debug)]
pub(crate) struct Present {
    clients: Arc<Clients>,
    client: Arc<Client>,
}

impl Deref for Present {
    type Target = Client;

    fn deref(&self) -> &Client {
        &self.client
    }
}

impl Drop for Present {
    fn drop(&mut self) {
        let mut state = self.clients.state();
        state.here.remove(&self.client.number);
        state.gone.add(self.client.traffic());
    }
}

impl Clients {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A client comes. Numbers are given in order and never again.
    pub(crate) fn enter(self: &Arc<Clients>, address: IpAddr, now: Unix, outlet: Arc<Outlet>) -> Present {
        let mut state = self.state();
        let client = Arc::new(Client {
            number: state.next,
            address,
            since: now,
            frames_in: AtomicU64::new(0),
            bytes_in: AtomicU64::new(0),
            outlet,
            orders: Mutex::default(),
            ordered: AtomicBool::new(false),
        });
        state.next += 1;
        state.here.insert(client.number, client.clone());
        drop(state);
        Present { clients: self.clone(), client }
    }

    /// Everybody who is here, in order of coming.
    pub(crate) fn all(&self) -> Vec<Arc<Client>> {
        self.state().here.values().cloned().collect()
    }

    /// Who came since the start, and all their traffic.
    pub(crate) fn totals(&self) -> (u64, Traffic) {
        let state = self.state();
        let mut traffic = state.gone;
        state.here.values().for_each(|client| traffic.add(client.traffic()));
        (state.next, traffic)
    }
}

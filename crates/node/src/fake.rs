//! An in-memory Lightning network of fake nodes: no chain, no channels, no clock but the one it is given.
//!
//! It keeps every promise of [`Node`] about invoices, holds and payments, in the order of the calls, and can be told to
//! break: nodes go away, answers get lost, payments fail or hang. Everything is durable: a [`FakeNode`] that is dropped
//! and made again by its name knows what it knew.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use futures::StreamExt;
use futures::stream::{self, BoxStream};
use tokio::sync::broadcast;
use units::{Height, Msat, Now, PaymentHash, Preimage, Sat, Unix};

use crate::{
    Balances, Capabilities, Channel, ChannelId, HoldInvoice, HoldInvoiceRequest, HoldState, InvoiceRequest, Node,
    NodeError, NodeEvent, NodeInfo, OfferRequest, OpenChannel, PayLimits, Payable, Payment, PaymentId, PaymentState,
    PeerAddress, Result, default_fee_limit,
};

/// What a new fake node owns.
const ENDOWMENT: Msat = Msat(1_000_000_000_000);
/// What every payment costs in routing.
const FEE: Msat = Msat(1_000);
/// Blocks before the expiry of an HTLC at which the payee fails it by itself, as LDK does.
const MARGIN: u32 = 39;
/// Blocks that a payer leaves above what the invoice asks for.
const SLACK: u32 = 3;
/// Longest final CLTV taken.
const FINAL_CLTV_MAX: u16 = 1_300;
/// Events that a slow consumer may be behind.
const EVENT_QUEUE: usize = 1_024;

/// What goes wrong with the next payment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Mishap {
    /// It fails on the way, for this reason.
    Fails(String),
    /// It hangs on the way until [`FakeNetwork::deliver`].
    Hangs,
    /// It arrives with so many blocks fewer than the invoice asks for.
    Short(u32),
}

/// What goes wrong with the next verb of one node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// It does nothing and returns this.
    Refuses(NodeError),
    /// It does everything, and the answer is lost: [`NodeError::Unknown`].
    LosesAnswer,
}

/// The network that fake nodes live in; clones are the same network.
#[derive(Clone)]
pub struct FakeNetwork(Arc<Mutex<World>>);

/// A node of a [`FakeNetwork`].
pub struct FakeNode {
    world: Arc<Mutex<World>>,
    name: String,
    capabilities: Capabilities,
}

struct World {
    now: Now,
    serial: u64,
    nodes: BTreeMap<String, State>,
    /// Invoices and offers by their text.
    asks: BTreeMap<String, Ask>,
    mishap: Option<Mishap>,
    hanging: Vec<(String, PaymentId, Ask)>,
}

struct State {
    holds: BTreeMap<PaymentHash, Hold>,
    /// Ordinary invoices by hash, and whether they are paid.
    receipts: BTreeMap<PaymentHash, (Preimage, bool)>,
    received: BTreeMap<PaymentHash, Msat>,
    payments: Vec<Payment>,
    balance: Msat,
    events: broadcast::Sender<NodeEvent>,
    online: bool,
    trouble: Option<Trouble>,
}

struct Hold {
    view: HoldInvoice,
    min_final_cltv: u16,
    expires: Unix,
    payer: Option<(String, PaymentId)>,
}

#[derive(Clone)]
struct Ask {
    payee: String,
    hash: Option<PaymentHash>,
    amount: Option<Msat>,
    min_final_cltv: u16,
    expires: Unix,
    hold: bool,
}

impl FakeNetwork {
    /// A network at this height and time.
    pub fn new(now: Now) -> FakeNetwork {
        FakeNetwork(Arc::new(Mutex::new(World {
            now,
            serial: 0,
            nodes: BTreeMap::new(),
            asks: BTreeMap::new(),
            mishap: None,
            hanging: Vec::new(),
        })))
    }

    /// The node of this name: a new one, or a restart of the one that was there.
    pub fn node(&self, name: &str) -> Arc<FakeNode> {
        let mut world = self.world();
        let state = world.nodes.entry(name.to_owned()).or_insert_with(|| State {
            holds: BTreeMap::new(),
            receipts: BTreeMap::new(),
            received: BTreeMap::new(),
            payments: Vec::new(),
            balance: ENDOWMENT,
            events: broadcast::channel(EVENT_QUEUE).0,
            online: true,
            trouble: None,
        });
        // Who listened to the earlier run hears no more.
        state.events = broadcast::channel(EVENT_QUEUE).0;
        Arc::new(FakeNode { world: Arc::clone(&self.0), name: name.to_owned(), capabilities: capabilities() })
    }

    /// Finds blocks one by one; holds whose time is over are failed back.
    pub fn mine(&self, blocks: u32) {
        let mut world = self.world();
        for _ in 0..blocks {
            world.now.height = world.now.height.plus(1);
            world.run_clocks();
            let height = world.now.height;
            for state in world.nodes.values() {
                state.tell(NodeEvent::Tip(height));
            }
        }
    }

    /// Lets the wall clock run; invoices that nobody paid in time are closed.
    pub fn pass_time(&self, secs: u64) {
        let mut world = self.world();
        world.now.unix = Unix(world.now.unix.0.saturating_add(secs));
        world.run_clocks();
    }

    /// Makes the next payment in the network go wrong.
    pub fn next_payment(&self, mishap: Mishap) {
        self.world().mishap = Some(mishap);
    }

    /// Lets every hanging payment arrive.
    pub fn deliver(&self) {
        let mut world = self.world();
        for (payer, id, ask) in std::mem::take(&mut world.hanging) {
            world.arrive(&payer, id, &ask, 0);
        }
    }

    /// The present of this network.
    pub fn now(&self) -> Now {
        self.world().now
    }

    fn world(&self) -> MutexGuard<'_, World> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl FakeNode {
    /// The channels that hold its payments are lost, as after a restore from a backup, and nobody knows yet what can be claimed.
    pub fn lose_channels(&self) {
        for hold in self.world().node(&self.name).holds.values_mut() {
            hold.view.doubtful = hold.view.state == HoldState::Accepted;
        }
    }

    /// Another node with the same keys takes its place: it knows nothing of what this one held.
    pub fn forget_holds(&self) {
        self.world().node(&self.name).holds.clear();
    }

    /// The same for what it paid.
    pub fn forget_payments(&self) {
        self.world().node(&self.name).payments.clear();
    }

    /// Takes the node off the network, or brings it back: every verb of a node that is away is
    /// [`NodeError::Unreachable`], and so is every payment to it.
    pub fn set_online(&self, online: bool) {
        self.world().node(&self.name).online = online;
    }

    /// Makes the next verb that can fail go wrong.
    pub fn next_verb(&self, trouble: Trouble) {
        self.world().node(&self.name).trouble = Some(trouble);
    }

    fn world(&self) -> MutexGuard<'_, World> {
        self.world.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs a verb with the trouble that waits for it.
    fn verb<T>(&self, verb: impl FnOnce(&mut World) -> Result<T>) -> Result<T> {
        let mut world = self.world();
        let state = world.node(&self.name);
        if !state.online {
            return Err(NodeError::Unreachable(format!("{} is away", self.name)));
        }
        match state.trouble.take() {
            Some(Trouble::Refuses(error)) => Err(error),
            Some(Trouble::LosesAnswer) => {
                verb(&mut world)?;
                Err(NodeError::Unknown("the answer was lost".into()))
            }
            None => verb(&mut world),
        }
    }
}

fn capabilities() -> Capabilities {
    Capabilities {
        backend: "fake",
        hold_invoices: true,
        create_offer: true,
        pay_offer: true,
        channels: false,
        final_cltv_max: FINAL_CLTV_MAX,
        auto_cancel_margin: MARGIN,
    }
}

fn unsupported<T>(what: &str) -> Result<T> {
    Err(NodeError::Unsupported(format!("a fake node has no {what}")))
}

impl State {
    fn tell(&self, event: NodeEvent) {
        // Fails only when nobody listens.
        drop(self.events.send(event));
    }

    fn finish_payment(&mut self, id: PaymentId, state: PaymentState) {
        let Some(payment) = self.payments.iter_mut().find(|payment| payment.id == id) else { return };
        if let PaymentState::Failed { .. } = state {
            self.balance = Msat(self.balance.0 + payment.amount.0 + FEE.0);
        }
        payment.state = state;
        let event = NodeEvent::Payment(payment.clone());
        self.tell(event);
    }
}

impl World {
    /// Nodes are made by [`FakeNetwork::node`] and never removed.
    fn node(&mut self, name: &str) -> &mut State {
        self.nodes.get_mut(name).expect("every fake node is in its world")
    }

    fn fresh(&mut self) -> u64 {
        self.serial += 1;
        self.serial
    }

    fn fresh32(&mut self, mark: u8) -> [u8; 32] {
        let mut bytes = [mark; 32];
        bytes[..8].copy_from_slice(&self.fresh().to_be_bytes());
        bytes
    }

    fn run_clocks(&mut self) {
        let now = self.now;
        let names: Vec<String> = self.nodes.keys().cloned().collect();
        for name in names {
            let over: Vec<PaymentHash> = self
                .node(&name)
                .holds
                .values()
                .filter(|hold| match hold.view.state {
                    HoldState::Open => now.unix > hold.expires,
                    HoldState::Accepted => hold.view.expiry_height.is_some_and(|at| now.height >= at.minus(MARGIN)),
                    HoldState::Settled | HoldState::Canceled => false,
                })
                .map(|hold| hold.view.hash)
                .collect();
            for hash in over {
                self.end_hold(&name, hash, None);
            }
        }
    }

    /// Settles with a preimage, fails back without.
    fn end_hold(&mut self, payee: &str, hash: PaymentHash, preimage: Option<&Preimage>) {
        let state = self.node(payee);
        let Some(hold) = state.holds.get_mut(&hash) else { return };
        hold.view.expiry_height = None;
        hold.view.doubtful = false;
        hold.view.state = if preimage.is_some() { HoldState::Settled } else { HoldState::Canceled };
        let received = hold.view.received.unwrap_or_default();
        if preimage.is_none() {
            hold.view.received = None;
        }
        let (event, payer) = (NodeEvent::Hold(hold.view.clone()), hold.payer.take());
        if preimage.is_some() {
            state.balance = Msat(state.balance.0 + received.0);
        }
        state.tell(event);
        if let Some((payer, id)) = payer {
            let outcome = match preimage {
                Some(preimage) => PaymentState::Succeeded { preimage: preimage.clone(), fee: FEE },
                None => failed("the payee failed it back"),
            };
            self.node(&payer).finish_payment(id, outcome);
        }
    }

    fn arrive(&mut self, payer: &str, id: PaymentId, ask: &Ask, short_by: u32) {
        let (now, fallback) = (self.now, self.fresh32(0xbb));
        let amount = self.node(payer).payments.iter().find(|payment| payment.id == id).map(|payment| payment.amount);
        let amount = amount.unwrap_or_default();
        let payee = self.node(&ask.payee);
        if !payee.online {
            self.node(payer).finish_payment(id, failed("the payee is away"));
            return;
        }
        if now.unix > ask.expires {
            self.node(payer).finish_payment(id, failed("the invoice expired"));
            return;
        }
        let expiry = now.height.plus(u32::from(ask.min_final_cltv) + SLACK).minus(short_by);
        if ask.hold {
            let hold = ask.hash.and_then(|hash| payee.holds.get_mut(&hash));
            let accepted = hold.filter(|hold| {
                let enough = expiry.blocks_after(now.height) >= u32::from(hold.min_final_cltv);
                hold.view.state == HoldState::Open && hold.view.amount == amount && enough
            });
            match accepted {
                Some(hold) => {
                    hold.view.state = HoldState::Accepted;
                    hold.view.received = Some(amount);
                    hold.view.expiry_height = Some(expiry);
                    hold.payer = Some((payer.to_owned(), id));
                    let event = NodeEvent::Hold(hold.view.clone());
                    payee.tell(event);
                }
                None => self.node(payer).finish_payment(id, failed("the payee failed it back")),
            }
            return;
        }
        let receipt = match ask.hash {
            Some(hash) => payee.receipts.get_mut(&hash),
            None => {
                let preimage = Preimage::new(fallback);
                Some(payee.receipts.entry(preimage.hash()).or_insert((preimage, false)))
            }
        };
        let Some((preimage, paid @ false)) = receipt else {
            self.node(payer).finish_payment(id, failed("the payee failed it back"));
            return;
        };
        *paid = true;
        let preimage = preimage.clone();
        let hash = preimage.hash();
        payee.balance = Msat(payee.balance.0 + amount.0);
        payee.received.insert(hash, amount);
        payee.tell(NodeEvent::Received { hash, amount });
        let state = self.node(payer);
        if let Some(payment) = state.payments.iter_mut().find(|payment| payment.id == id) {
            payment.hash = Some(hash);
        }
        state.finish_payment(id, PaymentState::Succeeded { preimage, fee: FEE });
    }

    fn start_payment(&mut self, payer: &str, id: PaymentId, ask: &Ask, amount: Msat, limits: &PayLimits) -> Result<()> {
        let (now, mishap) = (self.now, self.mishap.take());
        let state = self.node(payer);
        if FEE > limits.max_fee.unwrap_or_else(|| default_fee_limit(amount)) {
            return Err(NodeError::Rejected("no route within the fee limit".into()));
        }
        if u32::from(ask.min_final_cltv) + SLACK > limits.max_total_cltv.min(2016) {
            return Err(NodeError::Rejected("no route within the time limit".into()));
        }
        let rest = state.balance.checked_sub(Msat(amount.0.saturating_add(FEE.0)));
        state.balance = rest.map_err(|_| NodeError::Rejected("not enough to send".into()))?;
        state.payments.retain(|payment| payment.id != id);
        let payment = Payment { id, hash: ask.hash, amount, state: PaymentState::InFlight, created: now.unix };
        state.payments.push(payment.clone());
        state.tell(NodeEvent::Payment(payment));
        match mishap {
            Some(Mishap::Fails(reason)) => state.finish_payment(id, PaymentState::Failed { reason }),
            Some(Mishap::Hangs) => self.hanging.push((payer.to_owned(), id, ask.clone())),
            Some(Mishap::Short(by)) => self.arrive(payer, id, ask, by + SLACK),
            None => self.arrive(payer, id, ask, 0),
        }
        Ok(())
    }
}

fn failed(reason: &str) -> PaymentState {
    PaymentState::Failed { reason: reason.into() }
}

fn amount_of(asked: Option<Msat>, given: Option<Msat>) -> Result<Msat> {
    match (asked, given) {
        (Some(asked), None) => Ok(asked),
        (Some(asked), Some(given)) if asked == given => Ok(asked),
        (None, Some(given)) => Ok(given),
        (Some(_), Some(_)) => Err(NodeError::Rejected("the invoice asks for another amount".into())),
        (None, None) => Err(NodeError::Rejected("the invoice leaves the amount to us".into())),
    }
}

#[async_trait]
impl Node for FakeNode {
    fn capabilities(&self) -> &Capabilities {
        &self.capabilities
    }

    async fn info(&self) -> Result<NodeInfo> {
        self.verb(|world| {
            Ok(NodeInfo {
                node_id: self.name.clone(),
                network: "regtest".into(),
                height: world.now.height,
                synced: true,
                addresses: Vec::new(),
                peers: world.nodes.len() - 1,
            })
        })
    }

    async fn create_invoice(&self, request: InvoiceRequest) -> Result<String> {
        self.verb(|world| {
            let preimage = Preimage::new(world.fresh32(0xaa));
            let hash = preimage.hash();
            let expires = Unix(world.now.unix.0 + u64::from(request.expiry_secs));
            let (payee, amount) = (self.name.clone(), request.amount);
            let text = format!("fakeinvoice-{}-{hash}", self.name);
            let ask = Ask { payee, hash: Some(hash), amount, min_final_cltv: 42, expires, hold: false };
            world.node(&self.name).receipts.insert(hash, (preimage, false));
            world.asks.insert(text.clone(), ask);
            Ok(text)
        })
    }

    async fn create_hold_invoice(&self, request: HoldInvoiceRequest) -> Result<String> {
        self.verb(|world| {
            if request.amount == Msat::ZERO || request.min_final_cltv > FINAL_CLTV_MAX {
                return Err(NodeError::Rejected("no amount, or held too long".into()));
            }
            let expires = Unix(world.now.unix.0 + u64::from(request.expiry_secs));
            if let Some(hold) = world.node(&self.name).holds.get(&request.hash) {
                if hold.view.amount != request.amount {
                    return Err(NodeError::Rejected("this hash is in use for another amount".into()));
                }
                return Ok(hold.view.invoice.clone());
            }
            let text = format!("fakehold-{}-{}", self.name, request.hash);
            let view = HoldInvoice {
                hash: request.hash,
                state: HoldState::Open,
                amount: request.amount,
                received: None,
                expiry_height: None,
                invoice: text.clone(),
                doubtful: false,
            };
            let min_final_cltv = request.min_final_cltv;
            let state = world.node(&self.name);
            state.tell(NodeEvent::Hold(view.clone()));
            state.holds.insert(request.hash, Hold { view, min_final_cltv, expires, payer: None });
            let (payee, hash, amount) = (self.name.clone(), Some(request.hash), Some(request.amount));
            world.asks.insert(text.clone(), Ask { payee, hash, amount, min_final_cltv, expires, hold: true });
            Ok(text)
        })
    }

    async fn settle(&self, preimage: Preimage) -> Result<()> {
        self.verb(|world| {
            let hash = preimage.hash();
            let hold = world.node(&self.name).holds.get(&hash);
            match hold.map(|hold| hold.view.state) {
                None => Err(NodeError::NotFound(format!("hold invoice {hash}"))),
                Some(HoldState::Open) => Err(NodeError::Rejected("nobody has paid it yet".into())),
                Some(HoldState::Canceled) => Err(NodeError::Rejected("it was canceled".into())),
                Some(HoldState::Settled) => Ok(()),
                Some(HoldState::Accepted) => {
                    world.end_hold(&self.name, hash, Some(&preimage));
                    Ok(())
                }
            }
        })
    }

    async fn cancel(&self, hash: PaymentHash) -> Result<()> {
        self.verb(|world| {
            let hold = world.node(&self.name).holds.get(&hash);
            match hold.map(|hold| hold.view.state) {
                None => Err(NodeError::NotFound(format!("hold invoice {hash}"))),
                Some(HoldState::Settled) => Err(NodeError::Rejected("it was settled".into())),
                Some(HoldState::Canceled) => Ok(()),
                Some(HoldState::Open | HoldState::Accepted) => {
                    world.end_hold(&self.name, hash, None);
                    Ok(())
                }
            }
        })
    }

    async fn lookup(&self, hash: PaymentHash) -> Result<HoldInvoice> {
        self.verb(|world| {
            let hold = world.node(&self.name).holds.get(&hash);
            hold.map(|hold| hold.view.clone()).ok_or_else(|| NodeError::NotFound(format!("hold invoice {hash}")))
        })
    }

    async fn lookup_received(&self, hash: PaymentHash) -> Result<Msat> {
        self.verb(|world| {
            let unpaid = || NodeError::NotFound(format!("a payment on {hash}"));
            world.node(&self.name).received.get(&hash).copied().ok_or_else(unpaid)
        })
    }

    async fn pay(&self, payable: Payable, limits: PayLimits) -> Result<PaymentId> {
        self.verb(|world| {
            let (text, given) = match &payable {
                Payable::Bolt11 { invoice, amount } => (invoice, *amount),
                Payable::Bolt12 { offer, amount, .. } => (offer, *amount),
            };
            let ask = world.asks.get(text).cloned().ok_or_else(|| NodeError::Rejected("cannot be read".into()))?;
            let amount = amount_of(ask.amount, given)?;
            let id = match ask.hash {
                Some(hash) => PaymentId::from(hash),
                None => PaymentId(world.fresh32(0xcc)),
            };
            let known = world.node(&self.name).payments.iter().find(|payment| payment.id == id);
            if known.is_some_and(|payment| !matches!(payment.state, PaymentState::Failed { .. })) {
                return Ok(id);
            }
            if world.now.unix > ask.expires {
                return Err(NodeError::Rejected("the invoice expired".into()));
            }
            world.start_payment(&self.name, id, &ask, amount, &limits)?;
            Ok(id)
        })
    }

    async fn lookup_payment(&self, id: PaymentId) -> Result<Payment> {
        self.verb(|world| {
            let payment = world.node(&self.name).payments.iter().find(|payment| payment.id == id);
            payment.cloned().ok_or_else(|| NodeError::NotFound("payment".into()))
        })
    }

    async fn list_payments(&self, limit: usize) -> Result<Vec<Payment>> {
        self.verb(|world| Ok(world.node(&self.name).payments.iter().rev().take(limit).cloned().collect()))
    }

    async fn create_offer(&self, request: OfferRequest) -> Result<String> {
        self.verb(|world| {
            let text = format!("fakeoffer-{}-{}", self.name, world.fresh());
            let expires = request.expiry_secs.map_or(Unix(u64::MAX), |secs| Unix(world.now.unix.0 + u64::from(secs)));
            let (payee, amount) = (self.name.clone(), request.amount);
            let ask = Ask { payee, hash: None, amount, min_final_cltv: 42, expires, hold: false };
            world.asks.insert(text.clone(), ask);
            Ok(text)
        })
    }

    fn events(&self) -> BoxStream<'static, NodeEvent> {
        let mut world = self.world();
        let state = world.node(&self.name);
        let holds = state.holds.values().map(|hold| &hold.view);
        let alive = holds.filter(|hold| matches!(hold.state, HoldState::Open | HoldState::Accepted));
        let flying = state.payments.iter().filter(|payment| payment.state == PaymentState::InFlight);
        let first: Vec<NodeEvent> =
            alive.cloned().map(NodeEvent::Hold).chain(flying.cloned().map(NodeEvent::Payment)).collect();
        let live = stream::unfold(state.events.subscribe(), |mut live| async move {
            match live.recv().await {
                Ok(event) => Some((event, live)),
                Err(broadcast::error::RecvError::Lagged(_)) => Some((NodeEvent::Lagged, live)),
                Err(broadcast::error::RecvError::Closed) => None,
            }
        });
        stream::iter(first).chain(live).boxed()
    }

    async fn connect_peer(&self, _: PeerAddress) -> Result<()> {
        unsupported("peers")
    }

    async fn open_channel(&self, _: OpenChannel) -> Result<ChannelId> {
        unsupported("channels")
    }

    async fn close_channel(&self, _: ChannelId, _: bool) -> Result<()> {
        unsupported("channels")
    }

    async fn list_channels(&self) -> Result<Vec<Channel>> {
        self.verb(|_| Ok(Vec::new()))
    }

    async fn balances(&self) -> Result<Balances> {
        self.verb(|world| Ok(Balances { lightning: world.node(&self.name).balance, ..Balances::default() }))
    }

    async fn new_address(&self) -> Result<String> {
        unsupported("addresses")
    }

    async fn send_onchain(&self, _: &str, _: Sat, _: Option<u32>) -> Result<String> {
        unsupported("coins")
    }

    async fn stop(&self) -> Result<()> {
        self.set_online(false);
        Ok(())
    }
}

/// Heights and times to start a fake network with.
impl Default for FakeNetwork {
    fn default() -> FakeNetwork {
        FakeNetwork::new(Now { height: Height(800_000), unix: Unix(1_700_000_000) })
    }
}

//! A Lightning network of three nodes with hold invoices: it survives crashes of the daemons, and it never loses a millisatoshi.
//! The channel between payer and payee may be closed by force; then what is held is decided by the chain, later and for a fee.

use std::collections::BTreeMap;

use trade::{InvoiceFacts, NodeReport};
use units::{Height, Msat, Now, PaymentHash, Preimage, Sat, Unix};

use crate::rng::Rng;

/// Blocks before an HTLC expires at which a node fails it by itself, as LDK does.
pub const AUTO_CANCEL_MARGIN: u32 = 39;
/// What each node has in the beginning.
pub const FUNDS: Msat = Msat(10_000_000_000);
/// The arbiter's node.
pub const ARBITER: usize = 2;
/// The network's name.
pub const NETWORK: &str = "regtest";

/// States of a hold invoice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Hold {
    /// Not paid yet.
    Open,
    /// The full amount is held.
    Accepted {
        /// When its HTLC expires.
        expiry: Height,
        /// Who gets the money when it is failed back.
        from: From,
    },
    /// Its secret is on its way into a block, because the channel is closed.
    Claiming {
        /// When its HTLC expires: a claim that is not in a block by then is lost.
        expiry: Height,
        /// Whose money it is.
        from: From,
        /// When the claim is in a block.
        confirms: Height,
        /// The secret.
        preimage: Preimage,
    },
    /// Taken.
    Settled,
    /// Failed back or never paid.
    Canceled,
}

/// Who put the money into a held HTLC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum From {
    /// The payer's own payment.
    Payer(usize),
    /// A thief on the route, who took the payer's with the secret already.
    Thief,
}

/// A hold invoice.
#[derive(Clone, Debug)]
pub struct HoldInvoice {
    /// Its size.
    pub amount: Msat,
    /// Final CLTV asked for.
    pub min_final_cltv: u32,
    /// When it can no longer be paid.
    pub expires_at: Unix,
    /// Where it stands.
    pub state: Hold,
}

/// States of a payment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Sent {
    /// On the route.
    Traveling,
    /// Held by the payee.
    Held,
    /// Taken.
    Taken(Preimage),
    /// The channel is closed: it comes back by the chain.
    Returning {
        /// When.
        confirms: Height,
    },
    /// Failed or failed back.
    Returned,
}

/// A payment.
#[derive(Clone, Debug)]
pub struct Payment {
    /// The payee's node.
    pub to: usize,
    /// Its size.
    pub amount: Msat,
    /// Where it stands.
    pub state: Sent,
}

/// An ordinary invoice: its payment is taken when it arrives.
#[derive(Clone, Debug)]
pub struct OrdinaryInvoice {
    /// Its size.
    pub amount: Msat,
    /// Its secret, which only its node knows.
    preimage: Preimage,
    /// When it can no longer be paid.
    pub expires_at: Unix,
    /// It was paid.
    pub paid: bool,
}

/// One node.
#[derive(Clone, Debug)]
pub struct Node {
    /// What it owns, HTLCs on the way not counted.
    pub balance: Msat,
    /// Its hold invoices.
    pub holds: BTreeMap<PaymentHash, HoldInvoice>,
    /// Its ordinary invoices.
    pub bills: BTreeMap<PaymentHash, OrdinaryInvoice>,
    /// Its payments.
    pub payments: BTreeMap<PaymentHash, Payment>,
    /// What it wants to tell its daemon; lost when nobody listens.
    pub reports: Vec<NodeReport>,
    /// A liar's: it fails nothing back by itself.
    pub stubborn: bool,
    /// What it paid to miners for its own claims.
    pub chain_fees: Msat,
}

/// A channel that was closed by force, and what the chain asks since then.
#[derive(Clone, Copy, Debug)]
pub struct Closed {
    /// Blocks until a claim is in one.
    pub delay: u32,
    /// What a claim costs, at most half of what it claims.
    pub fee: Msat,
}

/// All nodes, and the chain they watch.
#[derive(Clone, Debug)]
pub struct Network {
    /// Payer's, payee's, arbiter's.
    pub nodes: [Node; 3],
    /// What a thief on the route has.
    pub thief: i128,
    /// Height and time.
    pub now: Now,
    /// Percent of payments under way that arrive in one step.
    pub arrival: u32,
    /// The channel between payer and payee was closed by force.
    pub closed: Option<Closed>,
    /// Payments to the arbiter fail.
    pub no_route_to_arbiter: bool,
}

impl Network {
    /// Three funded nodes at some height.
    pub fn new(now: Now, arrival: u32) -> Network {
        let node = || Node {
            balance: FUNDS,
            holds: BTreeMap::new(),
            bills: BTreeMap::new(),
            payments: BTreeMap::new(),
            reports: Vec::new(),
            stubborn: false,
            chain_fees: Msat::ZERO,
        };
        Network { nodes: [node(), node(), node()], thief: 0, now, arrival, closed: None, no_route_to_arbiter: false }
    }

    /// Creates a hold invoice; the same hash gives the same invoice.
    pub fn create(&mut self, node: usize, hash: PaymentHash, amount: Msat, min_final_cltv: u16, expiry_secs: u32) {
        let expires_at = Unix(self.now.unix.0 + u64::from(expiry_secs));
        self.nodes[node].holds.entry(hash).or_insert(HoldInvoice {
            amount,
            min_final_cltv: u32::from(min_final_cltv),
            expires_at,
            state: Hold::Open,
        });
    }

    /// Makes an ordinary invoice.
    pub fn bill(&mut self, node: usize, preimage: Preimage, amount: Sat, expires_at: Unix) {
        let amount = Msat(amount.0 * 1000);
        let fresh = OrdinaryInvoice { amount, preimage: preimage.clone(), expires_at, paid: false };
        self.nodes[node].bills.entry(preimage.hash()).or_insert(fresh);
    }

    /// What arrived for an ordinary invoice.
    pub fn received(&self, node: usize, hash: PaymentHash) -> Option<NodeReport> {
        let bill = self.nodes[node].bills.get(&hash).filter(|bill| bill.paid)?;
        Some(NodeReport::Received { hash, amount: bill.amount })
    }

    /// The invoice's text: all that the fake parser needs.
    pub fn invoice(node: usize, hash: PaymentHash) -> String {
        format!("lnsim{node}{hash}")
    }

    /// What an invoice says.
    pub fn facts(&self, invoice: &str) -> Option<InvoiceFacts> {
        let rest = invoice.strip_prefix("lnsim")?;
        let node: usize = rest.get(..1)?.parse().ok()?;
        let hash: PaymentHash = rest.get(1..)?.parse().ok()?;
        if let Some(bill) = self.nodes.get(node)?.bills.get(&hash) {
            return Some(InvoiceFacts {
                network: NETWORK.to_owned(),
                payee: node_id(node),
                hash,
                amount: Some(bill.amount),
                min_final_cltv: 40,
                expires_at: bill.expires_at,
                features_known: true,
            });
        }
        let hold = self.nodes.get(node)?.holds.get(&hash)?;
        Some(InvoiceFacts {
            network: NETWORK.to_owned(),
            payee: node_id(node),
            hash,
            amount: Some(hold.amount),
            min_final_cltv: hold.min_final_cltv,
            expires_at: hold.expires_at,
            features_known: true,
        })
    }

    /// Pays; a hash that was paid before is not paid again.
    pub fn pay(&mut self, node: usize, to: usize, hash: PaymentHash, amount: Msat) {
        if self.nodes[node].payments.contains_key(&hash) {
            return;
        }
        let short = (self.closed.is_some() && to != ARBITER) || self.nodes[node].balance < amount;
        if !short {
            self.nodes[node].balance = Msat(self.nodes[node].balance.0 - amount.0);
        }
        let state = if short { Sent::Returned } else { Sent::Traveling };
        self.nodes[node].payments.insert(hash, Payment { to, amount, state });
    }

    /// Settles what the preimage opens. False: there is nothing to settle (any more).
    pub fn settle(&mut self, node: usize, preimage: &Preimage) -> bool {
        let hash = preimage.hash();
        let Some(hold) = self.nodes[node].holds.get_mut(&hash) else { return false };
        let Hold::Accepted { from, expiry } = hold.state else { return hold.state == Hold::Settled };
        if let Some(closed) = self.closed {
            let confirms = self.now.height.plus(closed.delay);
            hold.state = Hold::Claiming { expiry, from, confirms, preimage: preimage.clone() };
            return true;
        }
        self.take(node, hash, from, preimage, Msat::ZERO);
        true
    }

    fn take(&mut self, node: usize, hash: PaymentHash, from: From, preimage: &Preimage, fee: Msat) {
        let Some(hold) = self.nodes[node].holds.get_mut(&hash) else { return };
        hold.state = Hold::Settled;
        let amount = hold.amount;
        self.get(node, amount, fee);
        self.nodes[node].reports.push(NodeReport::Settled { hash });
        if let From::Payer(payer) = from {
            self.finish(payer, hash, Sent::Taken(preimage.clone()));
        }
    }

    /// Money reaches its owner, less what the miners get.
    fn get(&mut self, node: usize, amount: Msat, fee: Msat) {
        let fee = Msat(fee.0.min(amount.0 / 2));
        let node = &mut self.nodes[node];
        node.balance = Msat(node.balance.0 + amount.0 - fee.0);
        node.chain_fees = Msat(node.chain_fees.0 + fee.0);
    }

    /// Fails a held payment back, or closes an unpaid invoice.
    pub fn cancel(&mut self, node: usize, hash: PaymentHash) {
        let Some(hold) = self.nodes[node].holds.get_mut(&hash) else { return };
        let amount = hold.amount;
        match hold.state {
            Hold::Settled | Hold::Canceled | Hold::Claiming { .. } => return,
            Hold::Open => hold.state = Hold::Canceled,
            Hold::Accepted { from, expiry } => {
                hold.state = Hold::Canceled;
                match (from, self.closed) {
                    // Nothing is failed back over a closed channel: the payer waits for the expiry.
                    (From::Payer(payer), Some(closed)) => {
                        let confirms = expiry.plus(closed.delay);
                        self.finish(payer, hash, Sent::Returning { confirms });
                    }
                    (From::Payer(payer), None) => {
                        self.get(payer, amount, Msat::ZERO);
                        self.finish(payer, hash, Sent::Returned);
                    }
                    (From::Thief, _) => self.thief += i128::from(amount.0),
                }
            }
        }
        self.nodes[node].reports.push(NodeReport::Canceled { hash });
    }

    fn finish(&mut self, payer: usize, hash: PaymentHash, state: Sent) {
        if let Some(payment) = self.nodes[payer].payments.get_mut(&hash) {
            payment.state = state;
        }
        if let Some(report) = self.payment(payer, hash) {
            self.nodes[payer].reports.push(report);
        }
    }

    /// A thief on the route claims a held payment with its secret.
    pub fn steal(&mut self, payer: usize, preimage: &Preimage) -> bool {
        let hash = preimage.hash();
        let Some(payment) = self.nodes[payer].payments.get(&hash).filter(|_| self.closed.is_none()) else {
            return false;
        };
        let to = payment.to;
        let Some(hold) = self.nodes[to].holds.get_mut(&hash) else { return false };
        let Hold::Accepted { from: From::Payer(_), expiry } = hold.state else { return false };
        // What it took from the payer is what it has in the HTLC to the payee: it gains when that one comes back.
        hold.state = Hold::Accepted { from: From::Thief, expiry };
        self.finish(payer, hash, Sent::Taken(preimage.clone()));
        true
    }

    /// How a hold invoice stands.
    pub fn hold(&self, node: usize, hash: PaymentHash) -> Option<NodeReport> {
        let hold = self.nodes[node].holds.get(&hash)?;
        match hold.state {
            Hold::Open => None,
            Hold::Accepted { expiry, .. } | Hold::Claiming { expiry, .. } => {
                Some(NodeReport::Held { hash, amount: hold.amount, expiry })
            }
            Hold::Settled => Some(NodeReport::Settled { hash }),
            Hold::Canceled => Some(NodeReport::Canceled { hash }),
        }
    }

    /// How a payment stands.
    pub fn payment(&self, node: usize, hash: PaymentHash) -> Option<NodeReport> {
        let payment = self.nodes[node].payments.get(&hash)?;
        Some(match &payment.state {
            Sent::Traveling | Sent::Held | Sent::Returning { .. } => NodeReport::PaymentInFlight { hash },
            Sent::Taken(preimage) => NodeReport::PaymentTaken { hash, preimage: preimage.clone() },
            Sent::Returned => NodeReport::PaymentReturned { hash, reason: String::new() },
        })
    }

    /// Payments on the route move on.
    pub fn travel(&mut self, rng: &mut Rng) {
        for node in 0..self.nodes.len() {
            let traveling: Vec<PaymentHash> = self.nodes[node]
                .payments
                .iter()
                .filter(|(_, p)| p.state == Sent::Traveling)
                .map(|(hash, _)| *hash)
                .collect();
            for hash in traveling {
                if rng.percent(self.arrival) {
                    self.arrive(node, hash, rng.below(4));
                }
            }
        }
    }

    fn arrive(&mut self, from: usize, hash: PaymentHash, extra: u32) {
        let Some(payment) = self.nodes[from].payments.get_mut(&hash) else { return };
        let (to, amount) = (payment.to, payment.amount);
        payment.state = Sent::Held;
        let now = self.now;
        if to == ARBITER {
            return self.arrive_at_arbiter(from, hash, amount);
        }
        let hold = self.nodes[to].holds.get_mut(&hash);
        match hold {
            Some(hold)
                if hold.state == Hold::Open
                    && hold.amount == amount
                    && now.unix < hold.expires_at
                    && self.closed.is_none() =>
            {
                let expiry = now.height.plus(hold.min_final_cltv + extra);
                hold.state = Hold::Accepted { expiry, from: From::Payer(from) };
                self.nodes[to].reports.push(NodeReport::Held { hash, amount, expiry });
            }
            Some(_) | None => {
                self.nodes[from].balance = Msat(self.nodes[from].balance.0 + amount.0);
                self.finish(from, hash, Sent::Returned);
            }
        }
    }

    /// An ordinary payment is taken or fails at once.
    fn arrive_at_arbiter(&mut self, from: usize, hash: PaymentHash, amount: Msat) {
        let unix = self.now.unix;
        let arbiter = &mut self.nodes[ARBITER];
        let fits = |b: &&mut OrdinaryInvoice| b.amount == amount && !b.paid && unix < b.expires_at;
        match arbiter.bills.get_mut(&hash).filter(|_| !self.no_route_to_arbiter).filter(fits) {
            Some(bill) => {
                bill.paid = true;
                let preimage = bill.preimage.clone();
                arbiter.balance = Msat(arbiter.balance.0 + amount.0);
                arbiter.reports.push(NodeReport::Received { hash, amount });
                self.finish(from, hash, Sent::Taken(preimage));
            }
            None => {
                self.nodes[from].balance = Msat(self.nodes[from].balance.0 + amount.0);
                self.finish(from, hash, Sent::Returned);
            }
        }
    }

    /// What a new block makes the nodes do by themselves: hashes of held HTLCs that a node had to fail, by node.
    pub fn block(&mut self) -> Vec<(usize, PaymentHash)> {
        let height = self.now.height;
        let mut failed = Vec::new();
        for node in 0..self.nodes.len() {
            let margin = if self.nodes[node].stubborn { 0 } else { AUTO_CANCEL_MARGIN };
            let due: Vec<(PaymentHash, Hold)> = self.nodes[node]
                .holds
                .iter()
                .filter(|(_, hold)| match &hold.state {
                    Hold::Open => self.now.unix >= hold.expires_at,
                    Hold::Accepted { expiry, .. } => height >= expiry.minus(margin),
                    Hold::Claiming { expiry, confirms, .. } => height >= *expiry.min(confirms),
                    Hold::Settled | Hold::Canceled => false,
                })
                .map(|(hash, hold)| (*hash, hold.state.clone()))
                .collect();
            for (hash, state) in due {
                match state {
                    Hold::Claiming { expiry, from, confirms, preimage } if confirms <= expiry => {
                        let fee = self.closed.map_or(Msat::ZERO, |closed| closed.fee);
                        self.take(node, hash, from, &preimage, fee);
                    }
                    // The claim is not in a block when the HTLC expires: the payer is as fast.
                    Hold::Claiming { expiry, from, .. } => {
                        if let Some(hold) = self.nodes[node].holds.get_mut(&hash) {
                            hold.state = Hold::Accepted { expiry, from };
                        }
                        self.cancel(node, hash);
                    }
                    Hold::Accepted { .. } => {
                        self.cancel(node, hash);
                        if margin > 0 {
                            failed.push((node, hash));
                        }
                    }
                    Hold::Open | Hold::Settled | Hold::Canceled => self.cancel(node, hash),
                }
            }
        }
        self.come_back();
        failed
    }

    /// Payments over a closed channel that are back.
    fn come_back(&mut self) {
        let (height, fee) = (self.now.height, self.closed.map_or(Msat::ZERO, |closed| closed.fee));
        for node in 0..self.nodes.len() {
            let due = |p: &Payment| matches!(p.state, Sent::Returning { confirms } if height >= confirms);
            let payments = self.nodes[node].payments.iter();
            let back: Vec<_> = payments.filter(|(_, p)| due(p)).map(|(hash, p)| (*hash, p.amount)).collect();
            for (hash, amount) in back {
                self.get(node, amount, fee);
                self.finish(node, hash, Sent::Returned);
            }
        }
    }

    /// Something waits for a block to decide it.
    pub fn on_chain(&self) -> bool {
        self.nodes.iter().any(|n| {
            n.holds.values().any(|h| matches!(h.state, Hold::Claiming { .. }))
                || n.payments.values().any(|p| matches!(p.state, Sent::Returning { .. }))
        })
    }

    /// All the money there is, in millisatoshis.
    pub fn total(&self) -> i128 {
        let mut total = self.thief;
        for node in &self.nodes {
            total += i128::from(node.balance.0) + i128::from(node.chain_fees.0);
            let under_way = |p: &&Payment| matches!(p.state, Sent::Traveling | Sent::Returning { .. });
            for payment in node.payments.values().filter(under_way) {
                total += i128::from(payment.amount.0);
            }
            let held = |h: &&HoldInvoice| matches!(h.state, Hold::Accepted { .. } | Hold::Claiming { .. });
            for hold in node.holds.values().filter(held) {
                total += i128::from(hold.amount.0);
            }
        }
        total
    }

    /// Something is on its way.
    pub fn busy(&self) -> bool {
        self.nodes.iter().any(|n| n.payments.values().any(|p| p.state == Sent::Traveling))
    }
}

/// A node's id.
pub fn node_id(node: usize) -> String {
    format!("{:066x}", node + 2)
}

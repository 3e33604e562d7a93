//! A Lightning network of three nodes with hold invoices: it survives crashes of the daemons, and it never loses a millisatoshi.

use std::collections::BTreeMap;

use trade::{InvoiceFacts, NodeReport};
use units::{Height, Msat, Now, PaymentHash, Preimage, Unix};

use crate::rng::Rng;

/// Blocks before an HTLC expires at which a node fails it by itself, as LDK does.
pub const AUTO_CANCEL_MARGIN: u32 = 39;
/// What each node has in the beginning.
pub const FUNDS: Msat = Msat(10_000_000_000);
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

/// One node.
#[derive(Clone, Debug)]
pub struct Node {
    /// What it owns, HTLCs on the way not counted.
    pub balance: Msat,
    /// Its hold invoices.
    pub holds: BTreeMap<PaymentHash, HoldInvoice>,
    /// Its payments.
    pub payments: BTreeMap<PaymentHash, Payment>,
    /// What it wants to tell its daemon; lost when nobody listens.
    pub reports: Vec<NodeReport>,
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
}

impl Network {
    /// Three funded nodes at some height.
    pub fn new(now: Now, arrival: u32) -> Network {
        let node = || Node { balance: FUNDS, holds: BTreeMap::new(), payments: BTreeMap::new(), reports: Vec::new() };
        Network { nodes: [node(), node(), node()], thief: 0, now, arrival }
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

    /// The invoice's text: all that the fake parser needs.
    pub fn invoice(node: usize, hash: PaymentHash) -> String {
        format!("lnsim{node}{hash}")
    }

    /// What an invoice says.
    pub fn facts(&self, invoice: &str) -> Option<InvoiceFacts> {
        let rest = invoice.strip_prefix("lnsim")?;
        let node: usize = rest.get(..1)?.parse().ok()?;
        let hash: PaymentHash = rest.get(1..)?.parse().ok()?;
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
        let short = self.nodes[node].balance < amount;
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
        let Hold::Accepted { from, .. } = hold.state else { return hold.state == Hold::Settled };
        hold.state = Hold::Settled;
        let amount = hold.amount;
        self.nodes[node].balance = Msat(self.nodes[node].balance.0 + amount.0);
        self.nodes[node].reports.push(NodeReport::Settled { hash });
        if let From::Payer(payer) = from {
            self.finish(payer, hash, Sent::Taken(preimage.clone()));
        }
        true
    }

    /// Fails a held payment back, or closes an unpaid invoice.
    pub fn cancel(&mut self, node: usize, hash: PaymentHash) {
        let Some(hold) = self.nodes[node].holds.get_mut(&hash) else { return };
        let amount = hold.amount;
        match hold.state {
            Hold::Settled | Hold::Canceled => return,
            Hold::Open => hold.state = Hold::Canceled,
            Hold::Accepted { from, .. } => {
                hold.state = Hold::Canceled;
                match from {
                    From::Payer(payer) => {
                        self.nodes[payer].balance = Msat(self.nodes[payer].balance.0 + amount.0);
                        self.finish(payer, hash, Sent::Returned);
                    }
                    From::Thief => self.thief += i128::from(amount.0),
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
        let Some(payment) = self.nodes[payer].payments.get(&hash) else { return false };
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
            Hold::Accepted { expiry, .. } => Some(NodeReport::Held { hash, amount: hold.amount, expiry }),
            Hold::Settled => Some(NodeReport::Settled { hash }),
            Hold::Canceled => Some(NodeReport::Canceled { hash }),
        }
    }

    /// How a payment stands.
    pub fn payment(&self, node: usize, hash: PaymentHash) -> Option<NodeReport> {
        let payment = self.nodes[node].payments.get(&hash)?;
        Some(match &payment.state {
            Sent::Traveling | Sent::Held => NodeReport::PaymentInFlight { hash },
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
        let hold = self.nodes[to].holds.get_mut(&hash);
        match hold {
            Some(hold) if hold.state == Hold::Open && hold.amount == amount && now.unix < hold.expires_at => {
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

    /// What a new block makes the nodes do by themselves: hashes of held HTLCs that a node had to fail, by node.
    pub fn block(&mut self) -> Vec<(usize, PaymentHash)> {
        let now = self.now;
        let mut failed = Vec::new();
        for node in 0..self.nodes.len() {
            let due: Vec<(PaymentHash, bool)> = self.nodes[node]
                .holds
                .iter()
                .filter_map(|(hash, hold)| match hold.state {
                    Hold::Open if now.unix >= hold.expires_at => Some((*hash, false)),
                    Hold::Accepted { expiry, .. } if now.height >= expiry.minus(AUTO_CANCEL_MARGIN) => {
                        Some((*hash, true))
                    }
                    _ => None,
                })
                .collect();
            for (hash, held) in due {
                self.cancel(node, hash);
                if held {
                    failed.push((node, hash));
                }
            }
        }
        failed
    }

    /// All the money there is, in millisatoshis.
    pub fn total(&self) -> i128 {
        let mut total = self.thief;
        for node in &self.nodes {
            total += i128::from(node.balance.0);
            for payment in node.payments.values().filter(|p| p.state == Sent::Traveling) {
                total += i128::from(payment.amount.0);
            }
            for hold in node.holds.values().filter(|h| matches!(h.state, Hold::Accepted { .. })) {
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

//! Liars: what a party does that breaks the rules. It still has a desk, so that it can play along, but it leaves out what it owes,
//! says what is not so, and does with its own node what it likes. Liars who collude share every secret.

use trade::{
    Acceptance, Appointment, BondFate, Command, Dispute, Effect, LegId, Message, MutualCancel, Outgoing, PartyKey,
    PaymentConfirmation, Receipt, ReceiptStatus, Refund, Reveal, Ruling, SealedCopy, Shipment, Step, Trade,
};
use units::{Now, PaymentHash, Preimage};

use crate::replica::Replica;
use crate::rng::Rng;
use crate::world::World;

/// What a liar leaves out, chosen once.
#[derive(Clone, Copy, Debug, Default)]
pub struct Vices {
    /// It never settles what it could.
    pub never_settles: bool,
    /// It never fails anything back.
    pub never_cancels: bool,
    /// It never pays one of its legs: the how manieth.
    pub leaves_unpaid: Option<u8>,
    /// Percent of its words that are never said.
    pub mute: u32,
    /// Its user wants nothing any more once the money is locked.
    pub idle: bool,
    /// Percent of turns in which it says or does something that no rule allows.
    pub rash: u32,
    /// It signs one payment confirmation for the payee and another for the arbiter.
    pub two_faced: bool,
}

impl Vices {
    /// Some.
    pub fn draw(rng: &mut Rng) -> Vices {
        Vices {
            never_settles: rng.percent(15),
            never_cancels: rng.percent(50),
            leaves_unpaid: rng.percent(15).then(|| rng.below(3) as u8),
            mute: [0, 0, 0, 30, 100][rng.index(5)],
            idle: rng.percent(40),
            rash: [0, 5, 20, 50][rng.index(4)],
            two_faced: rng.percent(30),
        }
    }

    /// A word as it is said to one recipient, where that is not what the others hear.
    pub fn bend(&self, outgoing: &Outgoing, copy: &SealedCopy, now: Now, rng: &mut Rng) -> Option<Outgoing> {
        let first = outgoing.copies.first().is_some_and(|first| first.to == copy.to);
        let Message::PaymentConfirmation(m) = &outgoing.message else { return None };
        if !self.two_faced || first {
            return None;
        }
        let claims = [None, Some(now.height), Some(now.height.minus(5000)), m.paid_height.map(|h| h.minus(100))];
        let bent = PaymentConfirmation { paid_height: claims[rng.index(4)], ..m.clone() };
        let (message, copies) = (Message::PaymentConfirmation(bent), vec![copy.clone()]);
        Some(Outgoing { message, copies, ..outgoing.clone() })
    }

    /// Is this left out?
    pub fn leaves_out(&self, effect: &Effect, rng: &mut Rng) -> bool {
        match effect {
            Effect::Settle { .. } => self.never_settles,
            Effect::Cancel { .. } => self.never_cancels,
            Effect::PayInvoice { leg, .. } => self.leaves_unpaid == Some(leg.tranche),
            // Without these there is no trade to lie in.
            Effect::Send(o) => {
                let needed = matches!(
                    o.step,
                    Step::Listing(_)
                        | Step::Bid(_)
                        | Step::Acceptance(_)
                        | Step::AppointmentRequest(_)
                        | Step::Appointment(_)
                        | Step::PayeeBondInvoice(_)
                );
                !needed && rng.percent(self.mute)
            }
            Effect::CreateHoldInvoice { .. } | Effect::PayFee { .. } | Effect::Warn(_) | Effect::Alarm(_) => false,
        }
    }

    /// Does its user really do that?
    pub fn wants(&self, command: &Command, rng: &mut Rng) -> bool {
        match command {
            Command::Release { .. } => rng.percent(4),
            Command::Refund { .. } | Command::Cancel { .. } => rng.percent(20),
            Command::Bid(_) | Command::Accept { .. } | Command::List { .. } | Command::Serve { .. } => true,
            _ => !self.idle,
        }
    }
}

/// One thing that no rule allows.
pub fn lie(replicas: &[Replica; 3], world: &mut World, who: usize) {
    let trades: Vec<&Trade> = replicas[who].desk.trades().collect();
    if trades.is_empty() {
        return;
    }
    let trade = trades[world.rng.index(trades.len())];
    if world.rng.percent(40) {
        misuse_node(replicas, world, who, trade);
        return;
    }
    let forged = match who {
        0 => payers_word(trade, world),
        1 => payees_word(trade, world),
        _ => arbiters_word(replicas, trade, world),
    };
    let Some((step, message)) = forged else { return };
    let secrets = match (who, &message) {
        (2, Message::Ruling(_)) if world.rng.percent(50) => known_secrets(replicas, 2, trade),
        _ => Vec::new(),
    };
    say(replicas, world, who, trade, step, message, &secrets);
}

fn say(
    replicas: &[Replica; 3],
    world: &mut World,
    who: usize,
    trade: &Trade,
    step: Step,
    message: Message,
    secrets: &[Preimage],
) {
    let d = trade.dossier();
    let parties = [Some(d.opening.payer), Some(d.opening.payee), d.opening.arbiter];
    let others = parties.iter().enumerate().filter(|(other, _)| *other != who).filter_map(|(_, key)| *key);
    let to: Vec<PartyKey> = others.filter(|_| world.rng.percent(80)).collect();
    let reveals: Vec<Reveal> = secrets.iter().cloned().map(Reveal::Known).collect();
    let copy = |to| SealedCopy { to, secrets: reveals.clone(), shown: None, fee_invoice: None };
    let copies = to.into_iter().map(copy).collect();
    let at = world.net.now.unix;
    let outgoing = Outgoing { step, author: d.me(), prev: message.prev(), at, message, copies };
    world.say(|| format!("{} lies in {:02x}: {step:?}", crate::replica::name(who), trade.id().0[0]));
    let id = world.relay.forge(trade.id(), &outgoing);
    replicas[who].deliver(world, trade.id(), &outgoing, id);
}

fn payers_word(trade: &Trade, world: &mut World) -> Option<(Step, Message)> {
    let d = trade.dossier();
    let confirmation = world.relay.last(trade.id(), |s| matches!(s, Step::PaymentConfirmation(_)));
    match world.rng.below(5) {
        0 => {
            let now = world.net.now;
            let paid_height = [None, Some(now.height), Some(now.height.plus(500)), Some(now.height.minus(100))];
            let message = Message::PaymentConfirmation(PaymentConfirmation {
                acceptance: world.relay.last(trade.id(), |s| matches!(s, Step::Acceptance(_)))?,
                payment_proof: if world.rng.percent(80) { d.opening.payment_hashes[0] } else { PaymentHash([7; 32]) },
                collateral_proof: d.all_hashes().iter().find(|(_, leg)| *leg == LegId::payer_bond(0)).map(|h| h.0),
                lock_blocks: d.terms().lock_blocks,
                paid_at: now.unix,
                paid_height: paid_height[world.rng.index(4)],
            });
            Some((Step::PaymentConfirmation(0), message))
        }
        1 => Some((Step::MutualCancel, cancel(confirmation?))),
        2 => Some((Step::Dispute, complaint(confirmation?))),
        3 => Some((Step::Dispute, Message::Dispute(dispute(confirmation?)))),
        _ => {
            let message = Message::Receipt(Receipt {
                payment: confirmation?,
                status: ReceiptStatus::Received,
                rating: Some(1),
                feedback: None,
                dispute_reason: None,
                secrets: Vec::new(),
            });
            Some((Step::Receipt, message))
        }
    }
}

fn payees_word(trade: &Trade, world: &mut World) -> Option<(Step, Message)> {
    let confirmation = world.relay.last(trade.id(), |s| matches!(s, Step::PaymentConfirmation(_)));
    match world.rng.below(5) {
        0 | 1 => {
            let shipment = Shipment { payment: confirmation?, note: "it is on its way".to_owned(), tracking: None };
            Some((Step::Shipment(0), Message::Shipment(shipment)))
        }
        2 => Some((Step::Dispute, Message::Dispute(dispute(confirmation?)))),
        3 => {
            let refund = Refund { payment: confirmation?, reason: "it is on its way back".to_owned() };
            Some((Step::Refund, Message::Refund(refund)))
        }
        _ => {
            // The invoices of another trade, or none: the payer has to see through it.
            let message = Message::Acceptance(Acceptance {
                bid: world.relay.last(trade.id(), |s| s == Step::Bid(0))?,
                price_invoices: vec![crate::lightning::Network::invoice(1, PaymentHash([7; 32]))],
                payer_bond_invoice: None,
                shipping_time_days: None,
                terms: None,
                invoice_expiry_secs: 3600,
                lock_blocks: trade.dossier().terms().lock_blocks,
            });
            Some((Step::Acceptance(0), message))
        }
    }
}

fn arbiters_word(replicas: &[Replica; 3], trade: &Trade, world: &mut World) -> Option<(Step, Message)> {
    let d = trade.dossier();
    let fate = |rng: &mut Rng| if rng.percent(50) { BondFate::Forfeit } else { BondFate::Return };
    if world.rng.percent(15) {
        let hash = |leg| Some(replicas[2].derive(trade.id(), leg).hash());
        let message = Message::Appointment(Appointment {
            trade: trade.id(),
            payer_bond_hash: hash(LegId::payer_bond(1)),
            payee_bond_hash: hash(LegId::payee_bond(1)),
            confirms_release: true,
            payment_hashes: d.opening.payment_hashes.clone(),
            terms: Some(d.terms().clone()),
            fee: units::Sat::ZERO,
            fee_invoice: None,
            policy: String::new(),
            round: 0,
        });
        return Some((Step::Appointment(0), message));
    }
    let disputed = world.relay.last(trade.id(), |s| s == Step::Dispute);
    let shipped = world.relay.last(trade.id(), |s| matches!(s, Step::Shipment(_)));
    let tranches = d.terms().tranches;
    // Half of the time everything goes to one side.
    let (payee_tranches, payer_bond, payee_bond) = match world.rng.below(4) {
        0 => (0, BondFate::Return, BondFate::Forfeit),
        1 => (tranches, BondFate::Forfeit, BondFate::Return),
        _ => (world.rng.below(u32::from(tranches) + 1) as u8, fate(&mut world.rng), fate(&mut world.rng)),
    };
    let ruling = Ruling {
        trade: trade.id(),
        dispute: if world.rng.percent(60) { disputed.or(shipped) } else { shipped }?,
        payee_tranches,
        payer_bond,
        payee_bond,
        resolution: "because I say so".to_owned(),
        secrets: Vec::new(),
    };
    Some((Step::Ruling, Message::Ruling(ruling)))
}

fn dispute(payment: trade::MessageId) -> Dispute {
    Dispute { payment, reason: "it is not so".to_owned(), details: String::new() }
}

fn complaint(payment: trade::MessageId) -> Message {
    Message::Receipt(Receipt {
        payment,
        status: ReceiptStatus::NotReceived,
        rating: None,
        feedback: None,
        dispute_reason: Some("nothing came".to_owned()),
        secrets: Vec::new(),
    })
}

fn cancel(payment: trade::MessageId) -> Message {
    Message::MutualCancel(MutualCancel { payment, agreement: "forget it".to_owned() })
}

/// Secrets that a liar has, by itself or through those whom it colludes with.
fn known_secrets(replicas: &[Replica; 3], who: usize, trade: &Trade) -> Vec<Preimage> {
    let id = trade.id();
    let mut known: Vec<Preimage> = trade.dossier().vault.iter().map(|(_, preimage)| preimage.clone()).collect();
    let legs = trade.dossier().all_hashes();
    if who == 2 {
        known.extend(
            legs.iter()
                .filter(|(hash, leg)| replicas[2].derive(id, *leg).hash() == *hash)
                .map(|(_, leg)| replicas[2].derive(id, *leg)),
        );
    }
    known
}

/// Takes every leg that a shared secret opens, or fails one back.
fn misuse_node(replicas: &[Replica; 3], world: &mut World, who: usize, trade: &Trade) {
    if who == 2 {
        return;
    }
    let partner = replicas[2].desk.trade(trade.id()).filter(|_| world.liar.includes(2));
    if let Some(arbiters) = partner {
        for preimage in known_secrets(replicas, 2, arbiters) {
            if world.net.settle(who, &preimage) {
                world.say(|| format!("{} takes {}", crate::replica::name(who), preimage.hash()));
            }
        }
    }
    let issued = &trade.dossier().issued;
    if !issued.is_empty() && world.rng.percent(10) {
        let hash = issued[world.rng.index(issued.len())].hash;
        world.net.cancel(who, hash);
    }
}

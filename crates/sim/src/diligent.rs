//! Diligent people: honest users who do in time what the guide tells them, against whoever lies. What they want follows from what
//! they see, not from chance, so that it is known when they want nothing.

use trade::{
    Arbiter, ArbiterState, BondFate, Command, Event, IssuedState, Leg, OnSilence, PaidState, Payee, PayeeState, Payer,
    PayerState, Role, Step, Trade, TradeId, Why,
};
use units::Height;

use crate::people;
use crate::replica::Replica;
use crate::world::World;

/// Blocks before `D_warn` after which nothing is shipped any more: as long as goods are under way, and a little.
const SHIP_BEFORE_WARN: u32 = 26;
/// Blocks after `D_warn` for which the payee waits for the payer before it disputes.
const DISPUTE_AFTER_WARN: u32 = 6;
/// Blocks for which an arbiter hears both sides: goods may have left when the dispute was on its way.
const HEARING: u32 = 12;
/// Blocks after arrival for which an arbiter waits before it holds silence against the payer.
const GRACE: u32 = 10;

/// What an honest user wants next, the first of it that is not refused; empty when it waits.
pub fn wishes(replica: &Replica, world: &mut World) -> Vec<(TradeId, Command)> {
    let trades: Vec<&Trade> = replica.desk.trades().collect();
    let (now, count) = (world.net.now.height, trades.len());
    let mut wishes: Vec<(TradeId, Command)> = trades
        .into_iter()
        .flat_map(|trade| {
            let commands = match trade {
                Trade::Payer(t) => payer(t, trade, world, now),
                Trade::Payee(t) => payee(t, trade, now),
                Trade::Arbiter(t) => arbiter(t, trade, replica, world, now),
            };
            commands.into_iter().map(|command| (trade.id(), command))
        })
        .collect();
    if replica.who == 0 && count < world.trades && world.faults {
        wishes.extend(people::bid(replica, count, world));
    }
    wishes
}

fn arrived(trade: &Trade, world: &World, now: Height) -> bool {
    world.goods.get(&trade.id()).is_some_and(|goods| goods.arrive.is_some_and(|arrive| arrive <= now))
}

fn said(d: &trade::Dossier, step: Step) -> bool {
    d.said(d.opening.role, step).is_some() || d.outbox.iter().any(|o| o.step == step)
}

fn dispute() -> Command {
    Command::Dispute { reason: "this is not what was agreed".to_owned(), details: String::new() }
}

fn payer(t: &Payer, trade: &Trade, world: &World, now: Height) -> Vec<Command> {
    let release = Command::Release { rating: Some(5), feedback: None };
    let confirmed = t.dossier.said(Role::Payer, Step::PaymentConfirmation(0)).is_some();
    match t.state {
        PayerState::Held | PayerState::Shipped | PayerState::Disputed { .. } if !confirmed => Vec::new(),
        PayerState::Held | PayerState::Shipped | PayerState::Disputed { .. } if arrived(trade, world, now) => {
            vec![release]
        }
        // A ruling that was not carried out, as nobody gave the payee the secrets: whoever has the goods pays for them.
        PayerState::Ruled if arrived(trade, world, now) => {
            let open = |p: &trade::Paid| p.leg.leg == Leg::Price && p.state == PaidState::InFlight;
            if t.dossier.paid.iter().any(open) { vec![release] } else { Vec::new() }
        }
        PayerState::Winding { why: Why::Refunded | Why::MutualCancel } if !unreturned(t) => Vec::new(),
        // Where silence releases, a shipment that it heard nothing of may have been told to the arbiter.
        PayerState::Held if t.dossier.terms().on_silence == OnSilence::Refund => Vec::new(),
        PayerState::Held
        | PayerState::Shipped
        | PayerState::Disputed { by: Role::Payee }
        | PayerState::Winding { why: Why::Refunded | Why::MutualCancel } => {
            let disputes =
                trade.deadlines().is_some_and(|x| (x.warn..x.hard).contains(&now)) && !said(&t.dossier, Step::Dispute);
            if disputes && t.dossier.opening.arbiter.is_some() { vec![dispute()] } else { Vec::new() }
        }
        _ => Vec::new(),
    }
}

fn unreturned(t: &Payer) -> bool {
    t.dossier.paid.iter().any(|p| p.leg.leg == Leg::Price && p.state == PaidState::InFlight)
}

fn payee(t: &Payee, trade: &Trade, now: Height) -> Vec<Command> {
    let d = &t.dossier;
    match t.state {
        PayeeState::Bid { .. } => {
            let appointed = d.opening.arbiter.is_none() || d.said(Role::Arbiter, Step::Appointment(0)).is_some();
            let accept = Command::Accept { shipping_time_days: Some(0), terms: None, invoice_expiry_secs: 3600 };
            if appointed { vec![accept] } else { Vec::new() }
        }
        PayeeState::Held => {
            let ship = Command::Ship { note: "on its way".to_owned(), tracking: None };
            let refund = Command::Refund { reason: "it would come too late".to_owned() };
            let in_time = trade.deadlines().is_some_and(|x| now.plus(SHIP_BEFORE_WARN) <= x.warn);
            if in_time { vec![ship, refund] } else { vec![refund] }
        }
        PayeeState::Shipped | PayeeState::Released | PayeeState::Disputed { by: Role::Payer } => {
            if said(d, Step::Dispute) {
                return Vec::new();
            }
            let held = |i: &trade::Issued| matches!(i.state, IssuedState::Held { .. });
            if !d.issued.iter().any(|i| i.leg.leg == Leg::Price && held(i)) {
                return Vec::new();
            }
            let disputes = trade.deadlines().is_some_and(|x| (x.warn.plus(DISPUTE_AFTER_WARN)..x.rule).contains(&now));
            // Silence pays only where nobody has broken it.
            let silent = t.state == PayeeState::Shipped && d.terms().on_silence == OnSilence::Release;
            let wanted = d.opening.arbiter.is_some() && !silent;
            if disputes && wanted { vec![dispute()] } else { Vec::new() }
        }
        _ => Vec::new(),
    }
}

fn arbiter(t: &Arbiter, trade: &Trade, replica: &Replica, world: &World, now: Height) -> Vec<Command> {
    match t.state {
        ArbiterState::Asked { .. } | ArbiterState::Shipped => {
            let Some(round) = t.asked_round() else { return Vec::new() };
            vec![replica.serve(trade, round, world.charge, world.net.now)]
        }
        ArbiterState::Disputed { .. } => rule(t, trade, replica, world, now).into_iter().collect(),
        _ => Vec::new(),
    }
}

/// Rules by what is so: who sent goods is paid, who claims to have sent them and did not forfeits, and so does who has them and
/// stays silent.
fn rule(t: &Arbiter, trade: &Trade, replica: &Replica, world: &World, now: Height) -> Option<Command> {
    let (warn, hard) = trade.deadlines().map(|x| (x.warn, x.hard))?;
    let taken = |event: &Event| matches!(event, Event::MessageTaken { step: Step::Dispute, .. });
    let mut log = replica.log.iter().filter(|(entry, _)| entry.stream == trade.id());
    let since = log.find(|(entry, _)| taken(&entry.event)).map(|(_, at)| at.height)?;
    if now >= hard || now < since.plus(HEARING).min(hard.minus(1)) {
        return None;
    }
    let goods = world.goods.get(&trade.id());
    let settled = goods.is_none_or(|goods| goods.arrive.is_some_and(|arrive| now >= arrive.plus(GRACE)));
    // Goods that are still under way are waited for while there is time. Until `D_warn` the payee may ship and the payer may look
    // at what came: nobody's silence says anything before.
    if !settled && now.plus(GRACE) < hard || now < warn.plus(HEARING) {
        return None;
    }
    // A payer that released can show the arbiter the secrets that it sent; a receipt alone shows nothing.
    let payer = t.dossier.opening.payer;
    let with_secrets = |o: &trade::Outgoing| o.copies.iter().any(|copy| !copy.secrets.is_empty());
    let released = world.relay.published(trade.id(), payer, |step| step == Step::Receipt).any(with_secrets);
    let claimed = t.dossier.said(Role::Payee, Step::Shipment(0)).is_some();
    let forfeit = |at_fault: bool| if at_fault { BondFate::Forfeit } else { BondFate::Return };
    Some(Command::Rule {
        payee_tranches: if goods.is_some() { t.dossier.terms().tranches } else { 0 },
        payer_bond: forfeit(goods.is_some() && settled && !released),
        payee_bond: forfeit(goods.is_none() && claimed),
        resolution: "by what is so".to_owned(),
    })
}

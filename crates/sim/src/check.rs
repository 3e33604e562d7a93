//! What must be true when a run is over: logs and nodes agree, the two sides agree, and nobody got what nobody gave.

use trade::{
    BondFate, Event, FeeState, IssuedState, Leg, LegId, Message, OnSilence, Outcome, PaidState, Role, Step, Trade,
    TradeId, Why,
};
use units::Height;

use crate::lightning::{ARBITER, FUNDS, Hold, Sent};
use crate::loss::{self, Case, Loss};
use crate::replica::{Replica, name};
use crate::world::{Stop, World};

/// A payment that a thief on the route took.
#[derive(Clone, Copy, Debug)]
pub struct Stolen {
    /// In which trade.
    pub trade: TradeId,
    /// Of which leg.
    pub leg: LegId,
    /// When.
    pub height: Height,
}

/// Everything that must be true in the end, and what honest parties lost.
pub fn end(world: &World, replicas: &[Replica; 3], stolen: &[Stolen]) -> Result<Vec<(Case, Loss)>, Stop> {
    let honest = |replica: &&Replica| !world.liar.includes(replica.who);
    for replica in replicas.iter().filter(honest) {
        for trade in replica.desk.trades() {
            logs_and_nodes_agree(world, replica, trade)?;
        }
    }
    fees(world, replicas)?;
    let mut losses = Vec::new();
    let ids: std::collections::BTreeSet<TradeId> =
        replicas[..2].iter().flat_map(|replica| replica.desk.trades().map(Trade::id)).collect();
    for id in ids {
        let sides = (replicas[0].desk.trade(id), replicas[1].desk.trade(id));
        if let Some(case) = world.case {
            let lost = loss::of_trade(world, sides.0, sides.1);
            let came_to = loss::case_of(world, case, id);
            if let Some(excess) = loss::excess(came_to, id, lost) {
                return Err(Stop::violation(excess));
            }
            losses.push((came_to, lost));
        }
        if world.liar == loss::Liar::Nobody {
            let stolen: Vec<Stolen> = stolen.iter().filter(|theft| theft.trade == id).copied().collect();
            among_honest(world, replicas, sides, &stolen)?;
        }
    }
    Ok(losses)
}

/// Each fee was paid at most once, before anything was locked, the arbiter has exactly what was paid, and both logs say so.
fn fees(world: &World, replicas: &[Replica; 3]) -> Result<(), Stop> {
    if world.liar.includes(0) {
        return Ok(());
    }
    let mut paid = 0;
    for trade in replicas[0].desk.trades() {
        let Some(fee) = trade.dossier().fee.as_ref() else { continue };
        let Some(hash) = fee.hash() else { continue };
        let at_node = world.net.nodes[0].payments.get(&hash).map(|payment| &payment.state);
        let agrees = match fee.state {
            FeeState::Paid => matches!(at_node, Some(Sent::Taken(_))),
            FeeState::Unpaid => at_node.is_none(),
            FeeState::Failed => matches!(at_node, None | Some(Sent::Returned)),
            FeeState::Ordered { .. } | FeeState::InFlight => false,
        };
        if !agrees {
            return Err(Stop::violation(format!("the fee is {:?} in the log, {at_node:?} at the node", fee.state)));
        }
        if fee.state == FeeState::Paid {
            paid += fee.amount.0 * 1000;
            let noted = replicas[2].desk.trade(trade.id()).and_then(|t| t.dossier().fee.as_ref());
            if noted.is_none_or(|fee| fee.state != FeeState::Paid) && !world.liar.includes(2) {
                return Err(Stop::violation("the arbiter has its fee and does not know it"));
            }
        }
        let mut log = replicas[0].log.iter().filter(|(entry, _)| entry.stream == trade.id()).map(|(e, _)| &e.event);
        let first =
            log.find(|e| matches!(e, Event::PaymentOrdered { .. } | Event::LegHeld { .. } | Event::FeePaid { .. }));
        if first.is_some_and(|event| !matches!(event, Event::FeePaid { .. })) {
            return Err(Stop::violation("something was locked before the arbiter was paid"));
        }
    }
    let earned = world.net.nodes[ARBITER].balance.0 - FUNDS.0;
    if earned != paid {
        return Err(Stop::violation(format!("the arbiter earned {earned}, {paid} was paid to it")));
    }
    Ok(())
}

fn among_honest(
    world: &World,
    replicas: &[Replica; 3],
    sides: (Option<&Trade>, Option<&Trade>),
    stolen: &[Stolen],
) -> Result<(), Stop> {
    let (Some(payer), Some(payee)) = sides else {
        return match sides.0.and_then(Trade::outcome) {
            None | Some(Outcome::Expired | Outcome::Canceled) => Ok(()),
            Some(other) => Err(Stop::violation(format!("payer alone ended as {other:?}"))),
        };
    };
    sides_agree(payer, payee, stolen)?;
    nothing_ungiven(world, replicas, payee, stolen)?;
    if !world.long_outages {
        promises_kept(world, replicas, payer, payee, stolen)?;
    }
    Ok(())
}

fn logs_and_nodes_agree(world: &World, replica: &Replica, trade: &Trade) -> Result<(), Stop> {
    let node = &world.net.nodes[replica.who];
    for issued in &trade.dossier().issued {
        let at_node = node.holds.get(&issued.hash).map(|hold| &hold.state);
        let agrees = match issued.state {
            IssuedState::Settled => at_node == Some(&Hold::Settled),
            IssuedState::Canceled => matches!(at_node, None | Some(Hold::Canceled)),
            _ => false,
        };
        if !agrees {
            let what = format!(
                "{}: {} is {:?} in the log, {at_node:?} at the node",
                name(replica.who),
                issued.leg,
                issued.state
            );
            return Err(Stop::violation(what));
        }
    }
    for paid in &trade.dossier().paid {
        let at_node = node.payments.get(&paid.hash).map(|payment| &payment.state);
        let agrees = match paid.state {
            PaidState::Taken { .. } => matches!(at_node, Some(Sent::Taken(_))),
            PaidState::Returned => matches!(at_node, None | Some(Sent::Returned)),
            PaidState::Ready => at_node.is_none(),
            PaidState::Ordered { .. } | PaidState::InFlight => false,
        };
        if !agrees {
            let what =
                format!("{}: {} is {:?} in the log, {at_node:?} at the node", name(replica.who), paid.leg, paid.state);
            return Err(Stop::violation(what));
        }
    }
    Ok(())
}

fn sides_agree(payer: &Trade, payee: &Trade, stolen: &[Stolen]) -> Result<(), Stop> {
    let moved = |outcome: Option<Outcome>| match outcome {
        Some(Outcome::Settled) => payer.dossier().terms().tranches,
        Some(Outcome::Split { payee_tranches }) => payee_tranches,
        _ => 0,
    };
    let (a, b) = (moved(payer.outcome()), moved(payee.outcome()));
    if a != b && stolen.is_empty() {
        return Err(Stop::violation(format!("payer ended as {:?}, payee as {:?}", payer.outcome(), payee.outcome())));
    }
    Ok(())
}

fn settled(trade: &Trade) -> impl Iterator<Item = LegId> {
    trade.dossier().issued.iter().filter(|i| i.state == IssuedState::Settled).map(|i| i.leg)
}

/// Whatever was settled was released, ruled, or stolen from the payer before; and no tranche was paid twice.
fn nothing_ungiven(world: &World, replicas: &[Replica; 3], payee: &Trade, stolen: &[Stolen]) -> Result<(), Stop> {
    let id = payee.id();
    let said = |author, step| world.relay.published(id, author, move |s| s == step).next();
    let released = said(payee.dossier().opening.payer, Step::Receipt).is_some();
    let ruling = said(replicas[2].key, Step::Ruling);
    let ruling = ruling.and_then(|outgoing| match &outgoing.message {
        Message::Ruling(ruling) => Some(ruling),
        _ => None,
    });
    let given = |leg: LegId| match leg.leg {
        Leg::Price => released || ruling.is_some_and(|r| leg.tranche < r.payee_tranches),
        Leg::PayerBond => ruling.is_some_and(|r| r.payer_bond == BondFate::Forfeit),
        Leg::PayeeBond => ruling.is_some_and(|r| r.payee_bond == BondFate::Forfeit),
    };
    let trades = replicas.iter().filter_map(|replica| replica.desk.trade(id));
    for leg in trades.flat_map(settled) {
        if !given(leg) && !stolen.iter().any(|s| s.leg == leg) {
            return Err(Stop::violation(format!("the {leg} was settled though nobody gave it")));
        }
    }
    let mut tranches: Vec<u8> = settled(payee).filter(|l| l.leg == Leg::Price).map(|l| l.tranche).collect();
    let count = tranches.len();
    tranches.dedup();
    tranches.sort_unstable();
    tranches.dedup();
    if tranches.len() != count && stolen.is_empty() {
        return Err(Stop::violation("a tranche was paid in two rounds"));
    }
    Ok(())
}

fn logged(replica: &Replica, trade: TradeId, what: impl Fn(&Event) -> bool) -> Option<Height> {
    replica.log.iter().find(|(entry, _)| entry.stream == trade && what(&entry.event)).map(|(_, at)| at.height)
}

fn ordered(step: Step) -> impl Fn(&Event) -> bool {
    move |event| matches!(event, Event::MessageOrdered(outgoing) if outgoing.step == step)
}

/// With everybody reachable within a few blocks, what was promised came about.
fn promises_kept(
    world: &World,
    replicas: &[Replica; 3],
    payer: &Trade,
    payee: &Trade,
    stolen: &[Stolen],
) -> Result<(), Stop> {
    let id = payer.id();
    let given_back = logged(
        &replicas[1],
        id,
        |e| matches!(e, Event::Unwound { why } if !matches!(why, Why::Released | Why::Taken | Why::Ruled)),
    );
    let ruled = logged(&replicas[1], id, |e| matches!(e, Event::MessageTaken { step: Step::Ruling, .. })).is_some();
    let released = logged(&replicas[0], id, ordered(Step::Receipt)).is_some();
    // A payment that never arrives cannot be collected, even when it was released early.
    let arrived = payee.dossier().locked;
    if released && arrived && given_back.is_none() && !ruled && payee.outcome() != Some(Outcome::Settled) {
        return Err(Stop::violation(format!("the payer released, the payee ended as {:?}", payee.outcome())));
    }
    let terms = payer.dossier().terms();
    let keys = [payer.dossier().opening.payer, payer.dossier().opening.payee];
    let said = |who: usize, step| world.relay.published(id, keys[who], move |s| s == step).next().is_some();
    let disputed = said(0, Step::Dispute) || said(1, Step::Dispute);
    let canceled = said(0, Step::MutualCancel) && said(1, Step::MutualCancel);
    let relocked = payer.dossier().hashes.len() > 1;
    let default = terms.on_silence == OnSilence::Release
        && payee.dossier().said(Role::Payee, Step::Shipment(0)).is_some()
        && !(disputed || canceled || relocked || said(1, Step::Refund));
    if default && payee.outcome() != Some(Outcome::Settled) {
        let what =
            format!("shipped, nobody disputed, release was agreed, yet the payee ended as {:?}", payee.outcome());
        return Err(Stop::violation(what));
    }
    let willing = logged(&replicas[1], id, |e| {
        matches!(e, Event::Unwound { why: Why::Refunded | Why::MutualCancel | Why::LockTimeout | Why::LegReturned })
    });
    let willing = willing.is_some();
    for theft in stolen {
        let in_time = payee.dossier().issued(theft.leg).is_some_and(|i| i.state == IssuedState::Settled);
        // A theft in the very blocks in which the money moves to another lock is beyond rescue.
        let moving = payee.dossier().hashes.len() > 1;
        if !in_time && !moving && !willing && given_back.is_none_or(|back| back.0 > theft.height.0 + 14) && !ruled {
            return Err(Stop::violation(format!("the {} was stolen and the payee did not get it", theft.leg)));
        }
    }
    Ok(())
}

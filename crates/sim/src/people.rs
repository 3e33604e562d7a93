//! People: what users do, out of patience, honesty and malice, chosen by chance within what their side could want.

use trade::{
    ArbiterState, BidOrder, BondFate, Command, EscrowTerms, Listing, Mode, OnSilence, PartyKey, PayeeRelockStage,
    PayeeState, PayerState, ReceiptStatus, Role, Step, Trade, TradeId,
};
use units::Sat;

use crate::replica::Replica;
use crate::rng::Rng;
use crate::world::World;

/// Terms of the run's listing: every mode, every default, 1 to 4 tranches, short and long locks.
pub fn terms(rng: &mut Rng, arbiter: PartyKey) -> EscrowTerms {
    let mode = [Mode::Direct, Mode::Arbitrated, Mode::Bonded, Mode::Bonded][rng.index(4)];
    let lock_blocks = [144, 144, 288, 720][rng.index(4)];
    let tranches = if rng.percent(60) { 1 } else { 2 + u8::from(rng.percent(50)) + u8::from(rng.percent(20)) };
    let direct = mode == Mode::Direct;
    let arbiter_release = !direct && rng.percent(60);
    let bond = |rng: &mut Rng| match mode {
        Mode::Direct => Sat::ZERO,
        Mode::Arbitrated if rng.percent(50) => Sat::ZERO,
        Mode::Arbitrated | Mode::Bonded => Sat(1000 + u64::from(rng.below(5000))),
    };
    EscrowTerms {
        mode,
        arbiters: if direct { Vec::new() } else { vec![arbiter] },
        arbiter_release,
        min_payer_bond: bond(rng),
        payee_bond: bond(rng),
        lock_blocks,
        tranches,
        on_silence: if arbiter_release && rng.percent(60) { OnSilence::Release } else { OnSilence::Refund },
    }
}

/// The run's listing.
pub fn listing(terms: EscrowTerms) -> Listing {
    Listing {
        d: "a thing".to_owned(),
        product_name: "a thing".to_owned(),
        description: String::new(),
        price: Sat(20_000),
        category: None,
        storage_link: None,
        shipping: None,
        escrow: Some(terms),
        fiat: None,
    }
}

/// The next thing that a user wants, with the stream it goes to; none most of the time.
pub fn wish(replica: &Replica, world: &mut World) -> Option<(TradeId, Command)> {
    let trades: Vec<&Trade> = replica.desk.trades().collect();
    if replica.who == 0 && trades.len() < world.trades && (trades.is_empty() || world.rng.percent(40)) {
        return bid(replica, trades.len(), world);
    }
    if trades.is_empty() {
        return None;
    }
    let trade = trades[world.rng.index(trades.len())];
    let command = match trade {
        Trade::Payer(t) => payer(replica, trade, &t.state, &mut world.rng),
        Trade::Payee(t) => {
            let offered = t.relock.as_ref().is_some_and(|r| r.stage == PayeeRelockStage::Offered);
            payee(&t.state, offered, world.payee_delays, &mut world.rng)
        }
        Trade::Arbiter(t) => arbiter(replica, trade, &t.state, world),
    };
    Some((trade.id(), command?))
}

/// The bid of the payer's `nth` trade.
pub fn bid(replica: &Replica, nth: usize, world: &mut World) -> Option<(TradeId, Command)> {
    let listing = world.relay.listings.last()?.clone();
    let trade::Message::Listing(content) = &listing.message else { return None };
    let terms = content.escrow.clone()?;
    let me = replica.key_of(nth);
    let stream = TradeId::of(listing.id, me);
    let payer_bond = terms.min_payer_bond;
    let order = BidOrder {
        me,
        amount: content.price,
        payer_bond,
        arbiter: terms.arbiters.first().copied(),
        payment_hashes: replica.price_hashes(stream, 0, terms.tranches),
        payee_node: None,
        message: None,
        timeout_hours: 4 + world.rng.below(24) as u16,
        quantity: 1,
        pay_by_hand: false,
        max_arbiter_fee: world.charge.max,
        fiat: None,
        listing,
    };
    Some((stream, Command::Bid(Box::new(order))))
}

fn payer(replica: &Replica, trade: &Trade, state: &PayerState, rng: &mut Rng) -> Option<Command> {
    let release = Command::Release { rating: Some(5), feedback: None };
    let dispute = Command::Dispute { reason: "why".to_owned(), details: String::new() };
    let complain = Command::Complain { status: ReceiptStatus::Damaged, reason: "broken".to_owned() };
    let cancel = Command::Cancel { agreement: "let us stop".to_owned() };
    let roll = rng.below(100);
    match state {
        PayerState::Appointing { .. } | PayerState::Bid { .. } => {
            (roll < 1).then_some(Command::Withdraw { reason: String::new() })
        }
        PayerState::Countered { .. } => {
            let asked = trade.dossier().asked?;
            Some(match roll {
                0..70 => Command::Counter { amount: asked },
                70..90 => Command::Counter { amount: Sat(asked.0 - 500) },
                _ => Command::Withdraw { reason: String::new() },
            })
        }
        PayerState::Locking { .. } => (roll < 1).then_some(cancel),
        PayerState::Held => match roll {
            0..2 => Some(release),
            2..4 => Some(dispute),
            4..6 => Some(cancel),
            _ => None,
        },
        PayerState::Shipped => match roll {
            0..18 => Some(release),
            18..22 => Some(dispute),
            22..26 => Some(complain),
            26..28 => Some(cancel),
            28..38 => {
                let d = trade.dossier();
                let round = u8::try_from(d.hashes.len()).ok()?;
                let payment_hashes = replica.price_hashes(trade.id(), round, d.terms().tranches);
                Some(Command::Relock { payment_hashes })
            }
            _ => None,
        },
        PayerState::Disputed { .. } => match roll {
            0..4 => Some(release),
            4..8 => Some(cancel),
            _ => None,
        },
        PayerState::Ruled => (roll < 3).then_some(release),
        PayerState::Released | PayerState::Winding { .. } => (roll < 2).then_some(dispute),
        PayerState::Closed { .. } => (roll < 20).then_some(Command::Rate { rating: 4, comment: None }),
    }
}

fn payee(state: &PayeeState, relock_offered: bool, delays: bool, rng: &mut Rng) -> Option<Command> {
    let dispute = Command::Dispute { reason: "why".to_owned(), details: String::new() };
    let cancel = Command::Cancel { agreement: "let us stop".to_owned() };
    let refund = Command::Refund { reason: "out of stock".to_owned() };
    let accept =
        Command::Accept { shipping_time_days: None, terms: None, invoice_expiry_secs: 1200 + 600 * rng.below(40) };
    let roll = rng.below(100);
    match state {
        PayeeState::Bid { .. } => match roll {
            0..50 => Some(accept),
            50..58 => Some(Command::Counter { amount: Sat(21_000) }),
            58..60 => Some(Command::Withdraw { reason: String::new() }),
            _ => None,
        },
        PayeeState::Countered { .. } => (roll < 2).then_some(accept),
        PayeeState::Accepted(_) => None,
        PayeeState::Locking { .. } => match roll {
            0..1 => Some(cancel),
            1..2 => Some(refund),
            // The attempt must be refused.
            2..4 => Some(ship()),
            _ => None,
        },
        PayeeState::Held => match roll {
            0..40 if !delays => Some(ship()),
            0..4 => Some(ship()),
            40..43 => Some(refund),
            43..46 => Some(cancel),
            46..48 => Some(dispute),
            _ => None,
        },
        PayeeState::Shipped if relock_offered => (roll < 60).then_some(accept),
        PayeeState::Shipped => match roll {
            0..3 => Some(dispute),
            3..5 => Some(refund),
            5..7 => Some(cancel),
            _ => None,
        },
        PayeeState::Disputed { .. } => match roll {
            0..3 => Some(refund),
            3..7 => Some(cancel),
            _ => None,
        },
        PayeeState::Released | PayeeState::Ruled | PayeeState::Winding { .. } => (roll < 2).then_some(refund),
        PayeeState::Closed { .. } => (roll < 20).then_some(Command::Rate { rating: 5, comment: None }),
    }
}

fn ship() -> Command {
    Command::Ship { note: "on its way".to_owned(), tracking: None }
}

fn arbiter(replica: &Replica, trade: &Trade, state: &ArbiterState, world: &mut World) -> Option<Command> {
    let (charge, now, rng) = (world.charge, world.net.now, &mut world.rng);
    let roll = rng.below(100);
    let d = trade.dossier();
    let serve = || {
        let said = |round: u8| d.said(Role::Payer, Step::AppointmentRequest(round)).is_some();
        let round = (0..=3).find(|round| said(*round) && !d.ordered(Step::Appointment(*round)))?;
        Some(replica.serve(trade, round, charge, now))
    };
    match state {
        ArbiterState::Asked { .. } if roll < 1 => Some(Command::Withdraw { reason: String::new() }),
        ArbiterState::Asked { .. } | ArbiterState::Shipped => {
            if roll < 70 {
                serve()
            } else {
                None
            }
        }
        ArbiterState::Disputed { .. } if roll < 25 => {
            let fate = |forfeit: bool| if forfeit { BondFate::Forfeit } else { BondFate::Return };
            Some(Command::Rule {
                payee_tranches: rng.below(u32::from(d.terms().tranches) + 1) as u8,
                payer_bond: fate(rng.percent(30)),
                payee_bond: fate(rng.percent(30)),
                resolution: "so be it".to_owned(),
            })
        }
        ArbiterState::Serving { .. }
        | ArbiterState::Held
        | ArbiterState::Disputed { .. }
        | ArbiterState::Ruled { .. }
        | ArbiterState::Closed { .. } => None,
    }
}

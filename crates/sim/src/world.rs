//! World: what is outside of the daemons in one run, and the dice for its faults.

use std::collections::BTreeMap;

use trade::{InvoiceFacts, LegId, Message, PartyKey, TradeId};
use units::{Height, Msat, Now, Sat, Unix};

use crate::lightning::{Closed, Network};
use crate::loss::{Case, Goods, Liar};
use crate::relay::Relay;
use crate::rng::Rng;
use crate::twin::Twin;

/// Height and time at which every run begins.
const START: Now = Now { height: Height(800_000), unix: Unix(1_700_000_000) };
/// Seconds between blocks.
const BLOCK_SECS: u64 = 600;

/// Why a replica's turn ended early.
#[derive(Debug)]
pub enum Stop {
    /// It died.
    Crash,
    /// It broke an invariant.
    Violation(String),
}

impl Stop {
    /// A broken invariant.
    pub fn violation(what: impl Into<String>) -> Stop {
        Stop::Violation(what.into())
    }
}

/// What is outside of the daemons.
pub struct World {
    /// Lightning and the chain.
    pub net: Network,
    /// Relays.
    pub relay: Relay,
    /// Dice.
    pub rng: Rng,
    /// Faults happen.
    pub faults: bool,
    /// The rule that replicas break.
    pub twin: Option<Twin>,
    /// Keys, and whose they are: 0 payer, 1 payee, 2 arbiter.
    pub keys: Vec<(PartyKey, usize)>,
    /// How many trades the payer takes.
    pub trades: usize,
    /// The deal whose losses are counted, and who lies in it; then nobody is away for long and honest users are diligent.
    pub case: Option<Case>,
    /// Who lies.
    pub liar: Liar,
    /// A payee that lies sends the goods all the same.
    pub liar_ships: bool,
    /// Goods that were sent, by trade.
    pub goods: BTreeMap<TradeId, Goods>,
    /// The channel between payer and payee is closed by force some time, and what the chain asks then.
    pub close: Option<Closed>,
    /// Chances of a crash at each await point, in thousandths.
    pub crash_permille: u32,
    /// Replicas may be away for so long that nodes have to act by themselves.
    pub long_outages: bool,
    /// The payee takes its time to ship.
    pub payee_delays: bool,
    /// Some invoices in messages are not what they should be.
    pub lies: bool,
    /// A node may refuse to issue an invoice.
    pub node_refuses: bool,
    /// Somebody on the route knows the secrets.
    pub thief: bool,
    /// Blocks for which a twin that waits for ticks hears none.
    pub deaf_until: Height,
    /// What the arbiter charges and the payer agrees to.
    pub charge: Charge,
    /// Lines of the trace, when one is wanted.
    pub trace: Option<Vec<String>>,
}

impl World {
    /// The world of a seed.
    pub fn new(seed: u64, twin: Option<Twin>, case: Option<Case>, trace: bool) -> World {
        let mut rng = Rng::new(seed);
        let arrival = if rng.percent(8) { 4 } else { 70 };
        let free = case.is_none();
        let liar = case.map_or(Liar::Nobody, |case| case.liar);
        let boards = 1 + rng.index(3);
        let censor = rng.percent(40).then(|| rng.index(boards));
        let trades = if rng.percent(85) { 1 } else { 2 + rng.index(4) };
        let mut net = Network::new(START, arrival);
        let charge = Charge::draw(seed, &mut net);
        for (who, node) in net.nodes.iter_mut().enumerate() {
            node.stubborn = liar.includes(who);
        }
        World {
            net,
            relay: Relay::new(seed, boards, censor),
            faults: true,
            twin,
            keys: Vec::new(),
            trades,
            case,
            liar,
            liar_ships: rng.percent(25),
            goods: BTreeMap::new(),
            close: rng.percent(10).then(|| spike(&mut rng)),
            crash_permille: [0, 5, 20, 60][rng.index(4)],
            long_outages: rng.percent(12) && free,
            payee_delays: rng.percent(15) && free,
            lies: rng.percent(4) && (free || liar.includes(1)),
            node_refuses: rng.percent(3) && free,
            thief: rng.percent(6) && free,
            deaf_until: Height(0),
            charge,
            trace: trace.then(Vec::new),
            rng,
        }
    }

    /// Whose key it is.
    pub fn who(&self, key: PartyKey) -> Option<usize> {
        self.keys.iter().find(|(known, _)| *known == key).map(|(_, who)| *who)
    }

    /// A line of the trace.
    pub fn say(&mut self, line: impl FnOnce() -> String) {
        if let Some(trace) = &mut self.trace {
            trace.push(format!("{:>7} {}", self.net.now.height.0, line()));
        }
    }

    /// An await point: the process may be killed here.
    pub fn may_crash(&mut self) -> Result<(), Stop> {
        if self.faults && self.rng.below(1000) < self.crash_permille {
            return Err(Stop::Crash);
        }
        Ok(())
    }

    /// How long something is away.
    pub fn outage_blocks(&mut self) -> u32 {
        if self.long_outages { 1 + self.rng.below(120) } else { self.rng.below(3) }
    }

    /// One block is found.
    pub fn block(&mut self, count: u32) {
        self.net.now.height = self.net.now.height.plus(count);
        self.net.now.unix = Unix(self.net.now.unix.0 + u64::from(count) * BLOCK_SECS);
    }

    /// One or two blocks are undone.
    pub fn reorganise(&mut self) {
        let blocks = 1 + self.rng.below(2);
        self.net.now.height = self.net.now.height.minus(blocks);
        self.say(|| format!("{blocks} blocks are undone"));
    }

    /// Blocks until a time.
    pub fn blocks_until(&self, unix: Unix) -> u32 {
        let secs = unix.0.saturating_sub(self.net.now.unix.0);
        u32::try_from(secs.div_ceil(BLOCK_SECS)).unwrap_or(u32::MAX)
    }

    /// What the invoices of a message say; now and then not what they should.
    pub fn facts(&mut self, message: &Message) -> Vec<InvoiceFacts> {
        let mut facts: Vec<InvoiceFacts> = message.invoices().iter().filter_map(|i| self.net.facts(i)).collect();
        if self.lies
            && let Some(first) = facts.first_mut()
        {
            match self.net.now.unix.0 / BLOCK_SECS % 5 {
                0 => first.amount = Some(Msat(1)),
                1 => first.hash.0[0] ^= 1,
                2 => first.network = "bitcoin".to_owned(),
                3 => first.min_final_cltv = 20,
                _ => first.expires_at = Unix(0),
            }
        }
        facts
    }

    /// Will a node never issue the invoice of this leg?
    pub fn refuses_invoice(&self, leg: LegId) -> bool {
        self.node_refuses && leg.tranche == 0 && self.net.now.height.0.is_multiple_of(2)
    }
}

/// What an arbiter charges, and what the payer agrees to pay it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Charge {
    /// What it charges.
    pub fee: Sat,
    /// The most that the payer pays.
    pub max: Sat,
}

impl Charge {
    /// Nothing in most runs; now and then too much, or there is no route. With dice of its own.
    fn draw(seed: u64, net: &mut Network) -> Charge {
        let mut rng = Rng::new(seed ^ 0xfee);
        if rng.percent(65) {
            return Charge::default();
        }
        let fee = Sat(1 + u64::from(rng.below(900)));
        net.no_route_to_arbiter = rng.percent(8);
        let max = if rng.percent(8) { Sat(fee.0 - 1) } else { Sat(fee.0 + u64::from(rng.below(2))) };
        Charge { fee, max }
    }
}

/// Most blocks that a claim waits for its block when fees are high: within the margin that nodes and trades keep.
const CLAIM_BLOCKS_MAX: u32 = 36;

/// What the chain asks after a channel was closed: little, or much and late.
fn spike(rng: &mut Rng) -> Closed {
    let high = rng.percent(50);
    let delay = if high { 6 + rng.below(CLAIM_BLOCKS_MAX - 5) } else { 1 + rng.below(6) };
    Closed { delay, fee: Msat(if high { 8_000_000 } else { 300_000 }) }
}

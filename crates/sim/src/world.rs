//! World: what is outside of the daemons in one run, and the dice for its faults.

use trade::{InvoiceFacts, LegId, Message, PartyKey};
use units::{Height, Msat, Now, Unix};

use crate::lightning::Network;
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
    /// Keys of payer, payee, arbiter.
    pub keys: [PartyKey; 3],
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
    /// Lines of the trace, when one is wanted.
    pub trace: Option<Vec<String>>,
}

impl World {
    /// The world of a seed.
    pub fn new(seed: u64, twin: Option<Twin>, trace: bool) -> World {
        let mut rng = Rng::new(seed);
        let arrival = if rng.percent(8) { 4 } else { 70 };
        World {
            net: Network::new(START, arrival),
            relay: Relay::new(seed),
            faults: true,
            twin,
            keys: [PartyKey([0; 32]); 3],
            crash_permille: [0, 5, 20, 60][rng.index(4)],
            long_outages: rng.percent(12),
            payee_delays: rng.percent(15),
            lies: rng.percent(4),
            node_refuses: rng.percent(3),
            thief: rng.percent(6),
            deaf_until: Height(0),
            trace: trace.then(Vec::new),
            rng,
        }
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

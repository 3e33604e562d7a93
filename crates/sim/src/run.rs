//! One run: a seed makes a trade, people, faults, then peace; invariants are checked all the way.

use trade::{Command, Outcome, Trade, TradeId};
use units::Height;

use crate::check::{self, Stolen};
use crate::people;
use crate::replica::{Replica, name};
use crate::twin::Twin;
use crate::world::{Stop, World};

/// Turns with faults.
const TURNS: u32 = 90;
/// Turns without, within which every trade has to end.
const PEACE_TURNS: u32 = 600;
/// Most blocks that are skipped at once.
const JUMP_MAX: u32 = 400;

/// What a run came to.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// The invariant that was broken.
    pub violation: Option<String>,
    /// How the payer's side ended.
    pub outcome: Option<Outcome>,
    /// How often a replica died.
    pub crashes: u32,
    /// The trace, when one was wanted.
    pub trace: Vec<String>,
}

/// Runs a seed.
pub fn run(seed: u64, twin: Option<Twin>, trace: bool) -> Report {
    let mut sim = Sim::new(seed, twin, trace);
    let result = sim.play();
    Report {
        violation: match result {
            Ok(()) => None,
            Err(Stop::Violation(what)) => Some(what),
            Err(Stop::Crash) => Some("a crash that nobody caught".to_owned()),
        },
        outcome: sim.replicas[0].trade().and_then(Trade::outcome),
        crashes: sim.replicas.iter().map(|r| r.crashes).sum(),
        trace: sim.world.trace.take().unwrap_or_default(),
    }
}

struct Sim {
    world: World,
    replicas: [Replica; 3],
    total: i128,
    stolen: Vec<Stolen>,
}

impl Sim {
    fn new(seed: u64, twin: Option<Twin>, trace: bool) -> Sim {
        let mut world = World::new(seed, twin, trace);
        let replicas = [0, 1, 2].map(|who| Replica::new(who, seed, twin, world.net.now));
        world.keys = [replicas[0].key, replicas[1].key, replicas[2].key];
        let total = world.net.total();
        Sim { world, replicas, total, stolen: Vec::new() }
    }

    fn play(&mut self) -> Result<(), Stop> {
        self.list()?;
        for _ in 0..TURNS {
            self.turn()?;
            if self.over() {
                break;
            }
        }
        self.peace()?;
        for replica in &self.replicas {
            replica.check_replay(&self.world)?;
        }
        check::end(&self.world, &self.replicas, &self.stolen)
    }

    fn list(&mut self) -> Result<(), Stop> {
        let arbiter = self.world.keys[2];
        let terms = people::terms(&mut self.world.rng, arbiter);
        self.world.say(|| format!("terms: {terms:?}"));
        let me = self.replicas[1].key;
        let listing = people::listing(terms);
        let stream = TradeId::of_stall(me, &listing.d);
        self.command(1, stream, Command::List { me, listing, stock: 1 })
    }

    fn command(&mut self, who: usize, stream: TradeId, command: Command) -> Result<(), Stop> {
        let result = self.replicas[who].command(&mut self.world, stream, command);
        self.survive(who, result)
    }

    fn act(&mut self, who: usize, inputs: usize) -> Result<(), Stop> {
        let result = self.replicas[who].act(&mut self.world, inputs);
        self.survive(who, result)
    }

    fn survive(&mut self, who: usize, result: Result<(), Stop>) -> Result<(), Stop> {
        match result {
            Err(Stop::Crash) => {
                self.replicas[who].die(&mut self.world);
                Ok(())
            }
            other => other,
        }
    }

    /// One turn with faults.
    fn turn(&mut self) -> Result<(), Stop> {
        self.pass_time()?;
        self.steal();
        let first = self.world.rng.index(3);
        for who in (0..3).map(|i| (first + i) % 3) {
            self.trouble(who);
            if self.world.rng.percent(80) || self.replicas[who].urgent(&self.world) {
                self.wish(who)?;
                let inputs = 1 + self.world.rng.index(3);
                self.act(who, inputs)?;
            }
        }
        self.world.net.travel(&mut self.world.rng);
        self.check()?;
        if self.world.rng.percent(1) {
            let who = self.world.rng.index(3);
            if self.replicas[who].well() {
                self.replicas[who].check_replay(&self.world)?;
            }
        }
        Ok(())
    }

    fn trouble(&mut self, who: usize) {
        if self.world.rng.percent(3) {
            self.replicas[who].lose_touch(&mut self.world);
        }
        if self.world.rng.percent(1) && self.world.crash_permille > 0 {
            self.replicas[who].die(&mut self.world);
        }
        let tired = if self.held() { 10 } else { 2 };
        if self.world.rng.below(1000) < tired {
            self.replicas[who].silent = true;
        }
        if !self.world.long_outages && self.replicas[who].urgent(&self.world) {
            self.replicas[who].heal();
        }
    }

    fn wish(&mut self, who: usize) -> Result<(), Stop> {
        if self.replicas[who].silent || self.world.rng.percent(50) {
            return Ok(());
        }
        match people::wish(&self.replicas[who], &mut self.world) {
            Some((stream, command)) => self.command(who, stream, command),
            None => Ok(()),
        }
    }

    fn steal(&mut self) {
        if !self.world.thief || !self.world.rng.percent(6) {
            return;
        }
        let Some(trade) = self.replicas[0].trade() else { return };
        let legs = trade.dossier().paid.iter().filter(|p| p.leg.leg == trade::Leg::Price);
        for paid in legs {
            let preimage = self.replicas[0].derive(trade.id(), paid.leg);
            if self.world.net.steal(0, &preimage) {
                let leg = paid.leg;
                self.stolen.push(Stolen { leg, height: self.world.net.now.height });
                self.world.say(|| format!("a thief takes the {leg}"));
                return;
            }
        }
    }

    // ---- time --------------------------------------------------------------------------------------------------

    /// A block, a reorganisation, or a leap to where something is due when all is quiet.
    fn pass_time(&mut self) -> Result<(), Stop> {
        let roll = self.world.rng.below(100);
        let all_well = self.replicas.iter().all(Replica::well) || self.world.long_outages;
        // Early on people act soon; it is held money that waits for long.
        let leap = self.held() && roll < 25 || self.world.rng.below(500) == 0;
        if leap && all_well && self.quiet() {
            // No daemon sleeps for long without asking what it has missed.
            for who in 0..3 {
                self.replicas[who].poll_soon();
                self.act(who, 16)?;
            }
            if !self.quiet() {
                return Ok(());
            }
            let far = self.due_in();
            let near = self.world.rng.below(4);
            self.blocks(far.saturating_sub(near).max(1))
        } else if roll < 55 {
            self.blocks(1)
        } else if roll < 57 {
            self.world.reorganise();
            Ok(())
        } else {
            Ok(())
        }
    }

    fn blocks(&mut self, count: u32) -> Result<(), Stop> {
        self.world.block(count);
        let height = self.world.net.now.height;
        if self.world.faults && self.world.rng.percent(6) {
            self.world.deaf_until = height.plus(self.world.rng.below(20));
        }
        if height >= self.world.deaf_until || !self.world.faults {
            for replica in &mut self.replicas {
                replica.tick(&self.world);
            }
        }
        for (node, hash) in self.world.net.block() {
            self.world.say(|| format!("the node of {} fails {hash} by itself", name(node)));
            if !self.world.long_outages {
                return Err(Stop::violation(format!("{} let an HTLC run to its end", name(node))));
            }
        }
        Ok(())
    }

    fn held(&self) -> bool {
        self.replicas[0].trade().is_some_and(|t| t.deadlines().is_some())
    }

    fn quiet(&self) -> bool {
        !self.world.net.busy() && !self.replicas.iter().any(|r| r.busy(&self.world))
    }

    /// Blocks until something is due.
    fn due_in(&self) -> u32 {
        let now = self.world.net.now;
        let soonest = self.replicas.iter().flat_map(|replica| {
            let (height, unix) = replica.desk.next_deadline(now);
            let by_height = height.map(|h: Height| h.blocks_after(now.height));
            let by_time = unix.map(|unix| self.world.blocks_until(unix));
            by_height.into_iter().chain(by_time)
        });
        soonest.filter(|blocks| *blocks > 0).min().unwrap_or(20).min(JUMP_MAX)
    }

    // ---- the end -----------------------------------------------------------------------------------------------

    fn over(&self) -> bool {
        self.replicas.iter().all(|r| r.trade().is_some_and(|t| t.outcome().is_some())) && self.quiet()
    }

    /// Faults stop, people rest: every trade has to end.
    fn peace(&mut self) -> Result<(), Stop> {
        self.world.faults = false;
        self.world.net.arrival = 100;
        self.world.say(|| "peace".to_owned());
        for who in 0..3 {
            self.replicas[who].heal();
            self.world.relay.refetch(who, self.world.net.now.height);
            self.act(who, 0)?;
            self.replicas[who].look_up(&self.world);
        }
        for turn in 0..PEACE_TURNS {
            for who in 0..3 {
                self.act(who, 8)?;
            }
            self.world.net.travel(&mut self.world.rng);
            self.check()?;
            let ended = self.replicas.iter().all(|r| r.trade().is_none_or(|t| t.outcome().is_some()));
            let owed = self.replicas.iter().any(|r| !r.desk.pending(self.world.net.now).is_empty());
            if ended && !owed && self.quiet() {
                return Ok(());
            }
            if self.quiet() {
                let far = self.due_in();
                self.blocks(far.max(1))?;
            } else if turn % 8 == 7 {
                self.blocks(1)?;
            }
        }
        let stuck = self.replicas.iter().map(|r| match r.trade() {
            Some(trade) => format!("{} in {}", name(r.who), trade.state_name()),
            None => format!("{} without trade", name(r.who)),
        });
        Err(Stop::violation(format!("a trade never ends: {}", stuck.collect::<Vec<_>>().join(", "))))
    }

    fn check(&mut self) -> Result<(), Stop> {
        if self.world.net.total() != self.total {
            return Err(Stop::violation("money was made or lost"));
        }
        Ok(())
    }
}

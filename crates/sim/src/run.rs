//! One run: a seed makes trades, people, liars, faults, then peace; invariants are checked all the way.

use trade::{Command, Outcome, Trade, TradeId};
use units::Height;

use crate::check::{self, Stolen};
use crate::liar::{self, Vices};
use crate::lightning::ARBITER;
use crate::loss::{Case, Deal, Liar, Loss};
use crate::replica::{Replica, name};
use crate::rng::Rng;
use crate::twin::Twin;
use crate::world::{Stop, World};
use crate::{diligent, people};

/// Turns with faults.
const TURNS: u32 = 90;
/// Turns without, within which every trade has to end.
const PEACE_TURNS: u32 = 600;
/// Most blocks that are skipped at once.
const JUMP_MAX: u32 = 400;

/// What a run is to be.
#[derive(Clone, Copy, Debug, Default)]
pub struct Setup {
    /// Chooses everything else.
    pub seed: u64,
    /// The rule that every party breaks.
    pub twin: Option<Twin>,
    /// The deal, and who lies.
    pub case: Option<Case>,
    /// A trace is wanted.
    pub trace: bool,
}

/// What a run came to.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// The invariant that was broken.
    pub violation: Option<String>,
    /// How the payer's side of its first trade ended.
    pub outcome: Option<Outcome>,
    /// How many trades there were.
    pub trades: usize,
    /// Who lied.
    pub case: Option<Case>,
    /// What honest parties lost, trade by trade, where losses are counted.
    pub losses: Vec<(Case, Loss)>,
    /// How often an arbiter was paid.
    pub fees: usize,
    /// How often a replica died.
    pub crashes: u32,
    /// The trace, when one was wanted.
    pub trace: Vec<String>,
}

/// Runs a seed: one in five has a liar, unless a rule is left out.
pub fn run(seed: u64, twin: Option<Twin>, trace: bool) -> Report {
    let mut rng = Rng::new(!seed);
    let case = (twin.is_none() && rng.percent(20)).then(|| {
        let deal = Deal::ALL[rng.index(Deal::ALL.len())];
        let liars: Vec<Liar> = Liar::ALL.into_iter().filter(|liar| liar.fits(deal)).collect();
        Case { deal, liar: liars[rng.index(liars.len())] }
    });
    run_with(&Setup { seed, twin, case, trace })
}

/// Runs a seed as it is set up.
pub fn run_with(setup: &Setup) -> Report {
    let mut sim = Sim::new(setup);
    let result = sim.play();
    let trades = || sim.replicas[0].desk.trades();
    Report {
        outcome: trades().next().and_then(Trade::outcome),
        trades: trades().count(),
        case: setup.case,
        violation: match &result {
            Ok(_) => None,
            Err(Stop::Violation(what)) => Some(what.clone()),
            Err(Stop::Crash) => Some("a crash that nobody caught".to_owned()),
        },
        losses: result.unwrap_or_default(),
        fees: sim.world.net.nodes[ARBITER].bills.values().filter(|bill| bill.paid).count(),
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
    fn new(setup: &Setup) -> Sim {
        let Setup { seed, twin, case, trace } = *setup;
        let mut world = World::new(seed, twin, case, trace);
        let mut replicas = [0, 1, 2].map(|who| Replica::new(who, seed, twin, world.net.now));
        world.keys.extend((0..world.trades).map(|nth| (replicas[0].key_of(nth), 0)));
        world.keys.extend([(replicas[1].key, 1), (replicas[2].key, 2)]);
        for replica in &mut replicas {
            if world.liar.includes(replica.who) {
                replica.corrupt(Vices::draw(&mut world.rng));
            }
        }
        let total = world.net.total();
        Sim { world, replicas, total, stolen: Vec::new() }
    }

    fn play(&mut self) -> Result<Vec<(Case, Loss)>, Stop> {
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
        let arbiter = self.replicas[2].key;
        let terms = match self.world.case {
            Some(case) => {
                let lock_blocks = [144, 288, 720][self.world.rng.index(3)];
                let tranches = 1 + self.world.rng.below(4) as u8;
                case.deal.terms(arbiter, lock_blocks, tranches)
            }
            None => people::terms(&mut self.world.rng, arbiter),
        };
        self.world.say(|| format!("terms: {terms:?}"));
        let me = self.replicas[1].key;
        let listing = people::listing(terms);
        let stream = TradeId::of_stall(me, &listing.d);
        let stock = u32::try_from(self.world.trades).unwrap_or(1);
        self.command(1, stream, Command::List { me, listing: Box::new(listing), stock }).map(|_| ())
    }

    fn command(&mut self, who: usize, stream: TradeId, command: Command) -> Result<bool, Stop> {
        match self.replicas[who].command(&mut self.world, stream, command) {
            Ok(taken) => Ok(taken),
            Err(stop) => self.survive(who, Err(stop)).map(|()| true),
        }
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
        self.close();
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
        if self.world.rng.below(1000) < tired && self.world.case.is_none() {
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
        if self.world.case.is_none() {
            return match people::wish(&self.replicas[who], &mut self.world) {
                Some((stream, command)) => self.command(who, stream, command).map(|_| ()),
                None => Ok(()),
            };
        }
        if !self.world.liar.includes(who) {
            return self.wish_diligently(who);
        }
        let rash = self.replicas[who].rashness();
        if self.world.rng.percent(rash) {
            liar::lie(&self.replicas, &mut self.world, who);
        }
        let honest = diligent::wishes(&self.replicas[who], &mut self.world);
        let play_along = honest.into_iter().find(|(_, command)| {
            matches!(command, Command::Bid(_) | Command::Accept { .. } | Command::Serve { .. } | Command::Ship { .. })
        });
        let wish = play_along.or_else(|| people::wish(&self.replicas[who], &mut self.world));
        match wish {
            Some((stream, command)) if self.replicas[who].means(&command, &mut self.world) => {
                self.command(who, stream, command).map(|_| ())
            }
            Some(_) | None => Ok(()),
        }
    }

    fn wish_diligently(&mut self, who: usize) -> Result<(), Stop> {
        for (stream, command) in diligent::wishes(&self.replicas[who], &mut self.world) {
            if self.command(who, stream, command)? {
                break;
            }
        }
        Ok(())
    }

    /// An honest user wants something now.
    fn wanted(&mut self) -> bool {
        let diligent = self.world.case.is_some();
        diligent
            && (0..3).any(|who| {
                !self.world.liar.includes(who) && !diligent::wishes(&self.replicas[who], &mut self.world).is_empty()
            })
    }

    /// The channel between payer and payee is closed by force.
    fn close(&mut self) {
        if self.world.faults && self.world.net.closed.is_none() && self.held() && self.world.rng.percent(4) {
            self.world.net.closed = self.world.close;
            if let Some(closed) = self.world.close {
                self.world.say(|| format!("the channel is closed by force: {closed:?}"));
            }
        }
    }

    fn steal(&mut self) {
        if !self.world.thief || !self.world.rng.percent(6) {
            return;
        }
        let paid: Vec<_> = self.replicas[0]
            .desk
            .trades()
            .flat_map(|trade| trade.dossier().paid.iter().map(|p| (trade.id(), p.leg)))
            .filter(|(_, leg)| leg.leg == trade::Leg::Price)
            .collect();
        for (trade, leg) in paid {
            let preimage = self.replicas[0].derive(trade, leg);
            if self.world.net.steal(0, &preimage) {
                self.stolen.push(Stolen { trade, leg, height: self.world.net.now.height });
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
        if leap && all_well && self.quiet() && !self.wanted() {
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
        self.replicas[0].desk.trades().any(|t| t.deadlines().is_some())
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
        let goods = self.world.goods.values().filter_map(|goods| Some(goods.arrive?.blocks_after(now.height)));
        let wishes = self.world.case.map(|_| 5);
        soonest.chain(goods).chain(wishes).filter(|blocks| *blocks > 0).min().unwrap_or(20).min(JUMP_MAX)
    }

    // ---- the end -----------------------------------------------------------------------------------------------

    fn over(&self) -> bool {
        self.replicas.iter().all(|r| r.desk.trades().next().is_some() && ended(r))
            && self.replicas[0].desk.trades().count() == self.world.trades
            && self.quiet()
    }

    fn honest(&self) -> impl Iterator<Item = &Replica> {
        self.replicas.iter().filter(|r| !self.world.liar.includes(r.who))
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
            let ended = self.honest().all(ended);
            let owed = self.honest().any(|r| !r.desk.pending(self.world.net.now).is_empty());
            if ended && !owed && self.quiet() && !self.world.net.on_chain() {
                return Ok(());
            }
            if self.world.case.is_some() {
                for who in 0..3 {
                    self.wish(who)?;
                }
            }
            if self.quiet() && !self.wanted() {
                let far = self.due_in();
                self.blocks(far.max(1))?;
            } else if turn % 8 == 7 {
                self.blocks(1)?;
            }
        }
        let states = |r: &Replica| r.desk.trades().map(Trade::state_name).collect::<Vec<_>>().join(" and ");
        let stuck = self.replicas.iter().map(|r| format!("{} in {}", name(r.who), states(r)));
        Err(Stop::violation(format!("a trade never ends: {}", stuck.collect::<Vec<_>>().join(", "))))
    }

    fn check(&mut self) -> Result<(), Stop> {
        if self.world.net.total() != self.total {
            return Err(Stop::violation("money was made or lost"));
        }
        Ok(())
    }
}

fn ended(replica: &Replica) -> bool {
    replica.desk.trades().all(|t| t.outcome().is_some())
}

//! Replica: the shell around one party's desk, as the daemon has it, with a place to die at every step.

use std::collections::VecDeque;

use trade::{
    Append, Bill, Command, Desk, Effect, Entry, Envelope, Event, Input, LegId, Message, MessageId, NodeReport,
    Outgoing, OwnNode, PartyKey, Reveal, Step, Trade, TradeId, Watch, secret,
};
use units::{Height, Msat, Now, PaymentHash, Preimage, Sat, Unix};

use crate::liar::Vices;
use crate::lightning::{ARBITER, AUTO_CANCEL_MARGIN, NETWORK, Network, node_id};
use crate::loss::{Goods, Liar};
use crate::twin::Twin;
use crate::world::{Charge, Stop, World};

/// Blocks after which a replica is healed, when the run has no long outages.
const UNWELL_BLOCKS_MAX: u32 = 2;
/// Blocks after which a daemon asks its node and its relays what it may have missed.
const POLL_BLOCKS: u32 = 2;
/// Inputs among which the next is chosen by chance; when more wait, the oldest is next.
const REORDER_MAX: usize = 4;
/// Most effects that are tried in one draining.
const DRAIN_MAX: usize = 64;

/// One party: what survives a crash, and what does not.
pub struct Replica {
    /// 0 payer, 1 payee, 2 arbiter; also the index of its node and its mailbox.
    pub who: usize,
    /// Its key; a payer has one more for each further trade.
    pub key: PartyKey,
    /// What it leaves out, when it lies.
    vices: Option<Vices>,
    escrow_key: [u8; 32],
    /// The durable log, with the time of each entry.
    pub log: Vec<(Entry, Now)>,
    /// In memory.
    pub desk: Desk,
    inbox: VecDeque<Input>,
    down_until: Option<Height>,
    node_down_until: Option<Height>,
    relay_down_until: Option<Height>,
    well_at: Height,
    looked_at: Height,
    fetched_at: Height,
    /// Its user does nothing any more.
    pub silent: bool,
    /// What a twin believes the time to be.
    stale: Now,
    /// What a twin forgot when it died.
    forgotten: Vec<(TradeId, Effect)>,
    attempts: u64,
    /// How often it died.
    pub crashes: u32,
}

impl Replica {
    /// A fresh party.
    pub fn new(who: usize, seed: u64, twin: Option<Twin>, now: Now) -> Replica {
        let mut key = [who as u8 + 1; 32];
        key[..8].copy_from_slice(&seed.to_le_bytes());
        let mut replica = Replica {
            who,
            key: PartyKey(key),
            vices: None,
            escrow_key: key.map(|byte| byte ^ 0xa5),
            log: Vec::new(),
            desk: Desk::new(own_node(who, twin)),
            inbox: VecDeque::new(),
            down_until: None,
            node_down_until: None,
            relay_down_until: None,
            well_at: now.height,
            looked_at: now.height,
            fetched_at: now.height,
            silent: false,
            stale: now,
            forgotten: Vec::new(),
            attempts: 0,
            crashes: 0,
        };
        replica.desk.serve_as(replica.key);
        replica
    }

    /// It lies from now on, in this manner.
    pub fn corrupt(&mut self, vices: Vices) {
        self.vices = Some(vices);
    }

    /// Percent of turns in which it does what no rule allows.
    pub fn rashness(&self) -> u32 {
        self.vices.map_or(0, |vices| vices.rash)
    }

    /// Would its user, if it lies, really say that?
    pub fn means(&self, command: &Command, world: &mut World) -> bool {
        self.vices.is_none_or(|vices| vices.wants(command, &mut world.rng))
    }

    /// The key of its `nth` trade.
    pub fn key_of(&self, nth: usize) -> PartyKey {
        let mut key = self.key;
        key.0[30] = nth as u8;
        key
    }

    /// Hashes of the price for a round, as the payer makes them.
    pub fn price_hashes(&self, trade: TradeId, round: u8, tranches: u8) -> Vec<PaymentHash> {
        (0..tranches).map(|t| self.derive(trade, LegId::price(round, t)).hash()).collect()
    }

    /// The word of an arbiter that serves, and what it charges.
    pub fn serve(&self, trade: &Trade, round: u8, charge: Charge, now: Now) -> Command {
        let d = trade.dossier();
        let hash = |leg: LegId| self.derive(trade.id(), leg).hash();
        let fee = if round == 0 { charge.fee } else { Sat::ZERO };
        let bill = || {
            let hash = self.fee_secret(trade.id()).hash();
            let expires_at = Unix(now.unix.0 + 5 * 86_400);
            Bill { hash, invoice: Network::invoice(self.who, hash), expires_at }
        };
        Command::Serve {
            payer_bond_hash: (d.opening.payer_bond > Sat::ZERO).then(|| hash(LegId::payer_bond(round))),
            payee_bond_hash: (d.terms().payee_bond > Sat::ZERO).then(|| hash(LegId::payee_bond(round))),
            fee,
            fee_invoice: (fee > Sat::ZERO).then(bill),
            policy: String::new(),
        }
    }

    /// The secret of an ordinary invoice; no leg has that number.
    fn fee_secret(&self, trade: TradeId) -> Preimage {
        self.derive(trade, LegId::price(u8::MAX, u8::MAX))
    }

    /// A secret of a leg.
    pub fn derive(&self, trade: TradeId, leg: LegId) -> Preimage {
        secret::derive(&self.escrow_key, trade, leg)
    }

    fn now(&self, world: &World) -> Now {
        if world.twin == Some(Twin::TimeEveryStep) { self.stale } else { world.net.now }
    }

    /// The world tells of a block; only a twin depends on it.
    pub fn tick(&mut self, world: &World) {
        self.stale = world.net.now;
    }

    // ---- faults ------------------------------------------------------------------------------------------------

    /// Dies. What is in memory is gone; the log stays.
    pub fn die(&mut self, world: &mut World) {
        self.crashes += 1;
        self.inbox.clear();
        let blocks = world.outage_blocks();
        self.down_until = Some(world.net.now.height.plus(blocks));
        world.net.nodes[self.who].reports.clear();
        world.say(|| format!("{} dies for {blocks} blocks", name(self.who)));
    }

    /// Its node or its relays become unreachable for a while.
    pub fn lose_touch(&mut self, world: &mut World) {
        let until = Some(world.net.now.height.plus(world.outage_blocks()));
        if world.rng.percent(50) { self.node_down_until = until } else { self.relay_down_until = until }
    }

    /// Everything works again.
    pub fn heal(&mut self) {
        self.node_down_until = None;
        self.relay_down_until = None;
        if self.down_until.is_some() {
            self.down_until = Some(Height(0));
        }
    }

    /// Can everything be reached?
    pub fn well(&self) -> bool {
        self.down_until.is_none() && self.node_down_until.is_none() && self.relay_down_until.is_none()
    }

    /// May not be left alone any longer.
    pub fn urgent(&self, world: &World) -> bool {
        world.net.now.height.0.saturating_sub(self.well_at.0) >= UNWELL_BLOCKS_MAX
    }

    fn restart(&mut self, world: &mut World) -> Result<(), Stop> {
        self.down_until = None;
        let (desk, damaged) =
            Desk::replay(own_node(self.who, world.twin), self.log.iter().map(|(entry, _)| entry.clone()));
        if let Some((_, why)) = damaged.first() {
            return Err(Stop::violation(format!("{}: replay: {why}", name(self.who))));
        }
        self.desk = desk;
        self.desk.serve_as(self.key);
        if world.twin == Some(Twin::ReplayOwed) {
            self.forgotten = self.desk.pending(world.net.now);
        }
        world.relay.refetch(self.who, world.net.now.height);
        self.look_up(world);
        world.say(|| format!("{} is back", name(self.who)));
        Ok(())
    }

    /// Asks the node about every leg that is not final.
    pub fn look_up(&mut self, world: &World) {
        for (_, watch) in self.desk.watched() {
            let report = match watch {
                Watch::Issued(hash) => world.net.hold(self.who, hash),
                Watch::Paid(hash) => world.net.payment(self.who, hash),
                Watch::Received(hash) => world.net.received(self.who, hash),
            };
            self.inbox.extend(report.map(Input::Node));
        }
    }

    /// Replay gives what is in memory.
    pub fn check_replay(&self, world: &World) -> Result<(), Stop> {
        let (desk, _) = Desk::replay(own_node(self.who, world.twin), self.log.iter().map(|(entry, _)| entry.clone()));
        if desk.trades().ne(self.desk.trades()) {
            return Err(Stop::violation(format!("{}: replay differs from what is in memory", name(self.who))));
        }
        Ok(())
    }

    // ---- one turn ----------------------------------------------------------------------------------------------

    /// One turn: what is owed, what time brings, then some inputs.
    pub fn act(&mut self, world: &mut World, inputs: usize) -> Result<(), Stop> {
        let height = world.net.now.height;
        let over = |until: Option<Height>| until.filter(|until| height < *until);
        self.node_down_until = over(self.node_down_until);
        self.relay_down_until = over(self.relay_down_until);
        if let Some(until) = self.down_until {
            if height < until {
                return Ok(());
            }
            self.restart(world)?;
        }
        if self.well() {
            self.well_at = height;
        }
        self.drain_in_turn(world)?;
        self.pass_time(world)?;
        for _ in 0..inputs {
            let Some(input) = self.next_input(world) else { break };
            self.take(world, input)?;
            self.drain_in_turn(world)?;
        }
        Ok(())
    }

    fn pass_time(&mut self, world: &mut World) -> Result<(), Stop> {
        for _ in 0..8 {
            let Some(append) = self.desk.due(self.now(world)) else { return Ok(()) };
            self.append(world, append)?;
            self.drain_in_turn(world)?;
        }
        Err(Stop::violation(format!("{}: time never stops having something to record", name(self.who))))
    }

    /// The next turn asks node and relays what was missed.
    pub fn poll_soon(&mut self) {
        self.looked_at = Height(0);
        self.fetched_at = Height(0);
    }

    fn next_input(&mut self, world: &mut World) -> Option<Input> {
        if self.node_down_until.is_none() {
            let reports = std::mem::take(&mut world.net.nodes[self.who].reports);
            for report in reports {
                if world.faults && world.rng.percent(10) {
                    continue;
                }
                self.inbox.push_back(Input::Node(report));
            }
            if self.looked_at.plus(POLL_BLOCKS) <= world.net.now.height {
                self.looked_at = world.net.now.height;
                self.look_up(world);
            }
        }
        if self.relay_down_until.is_none() && world.rng.percent(60) {
            if self.fetched_at.plus(POLL_BLOCKS) <= world.net.now.height || !world.faults {
                self.fetched_at = world.net.now.height;
                world.relay.catch_up(self.who);
            }
            if world.faults && world.rng.percent(2) {
                world.relay.refetch(self.who, world.net.now.height);
            }
            let faults = world.faults;
            let mail = world.relay.deliver(self.who, world.net.now.height, faults, &mut world.rng);
            self.inbox.extend(mail.map(|envelope| Input::Message(Box::new(envelope))));
        }
        if world.faults && (2..=REORDER_MAX).contains(&self.inbox.len()) {
            let at = world.rng.index(self.inbox.len());
            return self.inbox.remove(at);
        }
        self.inbox.pop_front()
    }

    /// Something waits to be taken.
    pub fn busy(&self, world: &World) -> bool {
        !self.inbox.is_empty()
            || !world.net.nodes[self.who].reports.is_empty()
            || world.relay.waiting(self.who)
            || self.desk.due(world.net.now).is_some()
    }

    /// Our user wants something. False when that was refused, or could not be heard.
    pub fn command(&mut self, world: &mut World, stream: TradeId, command: Command) -> Result<bool, Stop> {
        if self.down_until.is_some() {
            return Ok(false);
        }
        self.drain_in_turn(world)?;
        world.say(|| format!("{} wants {command:?}", name(self.who)));
        // The invoice is made first: when the log never hears of it, nobody pays it.
        if let Command::Serve { fee, fee_invoice: Some(bill), .. } = &command {
            world.net.bill(self.who, self.fee_secret(stream), *fee, bill.expires_at);
        }
        let taken = match self.desk.handle(stream, &Input::Command(command), self.now(world)) {
            Ok(append) => {
                self.append(world, append)?;
                true
            }
            Err(refusal) => {
                world.say(|| format!("  refused: {refusal}"));
                false
            }
        };
        self.drain_in_turn(world)?;
        Ok(taken)
    }

    fn take(&mut self, world: &mut World, input: Input) -> Result<(), Stop> {
        let now = self.now(world);
        world.say(|| format!("{} at {} hears {}", name(self.who), now.height, brief(&input)));
        let result = match input {
            Input::Message(envelope) => {
                if world.twin == Some(Twin::GuardFirst) {
                    for preimage in envelope.message.secrets() {
                        self.check_settle(preimage.hash())?;
                        world.net.settle(self.who, preimage);
                    }
                }
                self.desk.receive(*envelope, now)
            }
            Input::Node(report) => self.desk.report(report, now),
            Input::Command(_) | Input::Sent { .. } | Input::Shown { .. } | Input::Tick => return Ok(()),
        };
        match result {
            Ok(append) => self.append(world, append),
            Err(refusal) => {
                world.say(|| format!("  refused: {refusal}"));
                Ok(())
            }
        }
    }

    fn append(&mut self, world: &mut World, append: Append) -> Result<(), Stop> {
        if append.events.is_empty() {
            return Ok(());
        }
        if world.twin == Some(Twin::LogBeforeEffect) {
            let mut next = self.desk.clone();
            if next.commit(append.clone()).is_ok() {
                for (stream, effect) in next.pending(append.at) {
                    self.execute(world, stream, &effect)?;
                }
            }
        }
        world.may_crash()?;
        let next = self.log.iter().filter(|(entry, _)| entry.stream == append.stream).count() as u64;
        if append.expected_seq != next {
            return Err(Stop::violation(format!("{}: the log refuses number {}", name(self.who), append.expected_seq)));
        }
        for (seq, event) in (append.expected_seq..).zip(&append.events) {
            let trade = append.stream.0[0];
            world.say(|| format!("  {} logs in {trade:02x} {}", name(self.who), brief_event(event)));
            let entry = Entry { stream: append.stream, seq, event: event.clone() };
            self.send_goods(world, &entry);
            self.log.push((entry, append.at));
        }
        world.may_crash()?;
        if let Err(why) = self.desk.commit(append) {
            return Err(Stop::violation(format!("{}: {why}", name(self.who))));
        }
        while let Some(envelope) = self.desk.next_message() {
            self.inbox.push_back(Input::Message(Box::new(envelope)));
        }
        Ok(())
    }

    /// An honest payee that says that it ships does ship.
    fn send_goods(&self, world: &mut World, entry: &Entry) {
        let Event::MessageOrdered(outgoing) = &entry.event else { return };
        let ships = self.who == 1 && (self.vices.is_none() || world.liar_ships);
        if outgoing.step == Step::Shipment(0) && ships {
            let arrive = world.net.now.height.plus(6 + world.rng.below(15));
            let lost = world.liar == Liar::ArbiterInQuarrel && world.rng.percent(60);
            world.goods.insert(entry.stream, Goods { arrive: (!lost).then_some(arrive) });
        }
    }

    // ---- effects -----------------------------------------------------------------------------------------------

    fn drain_in_turn(&mut self, world: &mut World) -> Result<(), Stop> {
        // The twin retries on a slow timer of its own instead.
        if world.twin == Some(Twin::DrainFirst) && !world.net.now.height.0.is_multiple_of(12) {
            return Ok(());
        }
        self.drain(world)
    }

    /// Carries out what is owed, one effect at a time: each result is recorded before the next effect is looked at.
    pub fn drain(&mut self, world: &mut World) -> Result<(), Stop> {
        let mut tried: Vec<(TradeId, Effect)> = Vec::new();
        for _ in 0..DRAIN_MAX {
            let owed = self.desk.pending(world.net.now);
            let next = owed.into_iter().find(|owed| !tried.contains(owed) && !self.forgotten.contains(owed));
            let Some((stream, effect)) = next else { return Ok(()) };
            let input = self.execute(world, stream, &effect)?;
            tried.push((stream, effect));
            if let Some(input) = input {
                world.may_crash()?;
                match self.desk.handle(stream, &input, self.now(world)) {
                    Ok(append) => self.append(world, append)?,
                    Err(refusal) => world.say(|| format!("  refused: {refusal}")),
                }
            }
        }
        Err(Stop::violation(format!("{}: what is owed never ends", name(self.who))))
    }

    fn execute(&mut self, world: &mut World, stream: TradeId, effect: &Effect) -> Result<Option<Input>, Stop> {
        world.may_crash()?;
        let reachable = match effect {
            Effect::Send(_) => self.relay_down_until.is_none(),
            Effect::Warn(_) | Effect::Alarm(_) => true,
            Effect::CreateHoldInvoice { .. }
            | Effect::PayInvoice { .. }
            | Effect::PayFee { .. }
            | Effect::Settle { .. }
            | Effect::Cancel { .. } => self.node_down_until.is_none(),
        };
        if !reachable || self.vices.is_some_and(|vices| vices.leaves_out(effect, &mut world.rng)) {
            return Ok(None);
        }
        world.say(|| format!("  {} does {}", name(self.who), brief_effect(effect)));
        let who = self.who;
        let result = match effect {
            Effect::CreateHoldInvoice { leg, hash, amount, min_final_cltv, expiry_secs } => {
                self.check_logged(
                    stream,
                    "hold invoice",
                    |e| matches!(e, Event::InvoiceOrdered { leg: l, .. } if l == leg),
                )?;
                if world.refuses_invoice(*leg) {
                    return Ok(Some(Input::Node(NodeReport::InvoiceRefused { hash: *hash, reason: String::new() })));
                }
                world.net.create(who, *hash, *amount, *min_final_cltv, *expiry_secs);
                let invoice = Network::invoice(who, *hash);
                Some(Input::Node(NodeReport::InvoiceIssued { hash: *hash, invoice }))
            }
            Effect::PayInvoice { leg, hash, amount, not_after, .. } => {
                self.check_logged(
                    stream,
                    "payment",
                    |e| matches!(e, Event::PaymentOrdered { leg: l, .. } if l == leg),
                )?;
                let known = world.net.payment(who, *hash);
                if known.is_some() && world.twin == Some(Twin::Idempotent) {
                    return Err(Stop::violation(format!("{}: pays the {leg} twice", name(who))));
                }
                if known.is_none() && world.net.now.unix <= *not_after {
                    world.net.pay(who, 1 - who, *hash, *amount);
                }
                let never = NodeReport::PaymentReturned { hash: *hash, reason: String::new() };
                Some(Input::Node(world.net.payment(who, *hash).unwrap_or(never)))
            }
            Effect::PayFee { hash, amount, not_after, .. } => {
                Some(self.pay_fee(world, stream, *hash, *amount, *not_after)?)
            }
            Effect::Settle { hash, preimage, .. } => {
                self.check_settle(*hash)?;
                world.net.settle(who, preimage);
                world.net.hold(who, *hash).map(Input::Node)
            }
            Effect::Cancel { leg, hash } => {
                self.check_logged(stream, "cancel", |e| matches!(e, Event::CancelOrdered { leg: l } if l == leg))?;
                world.net.cancel(who, *hash);
                let never = NodeReport::Canceled { hash: *hash };
                Some(Input::Node(world.net.hold(who, *hash).unwrap_or(never)))
            }
            Effect::Send(outgoing) => Some(self.publish(world, stream, outgoing)?),
            Effect::Warn(notice) | Effect::Alarm(notice) => Some(Input::Shown { notice: notice.clone() }),
        };
        Ok(result)
    }

    fn pay_fee(
        &self,
        world: &mut World,
        stream: TradeId,
        hash: PaymentHash,
        amount: Msat,
        not_after: Unix,
    ) -> Result<Input, Stop> {
        self.check_logged(stream, "fee", |e| matches!(e, Event::FeeOrdered { .. }))?;
        let known = world.net.payment(self.who, hash);
        if known.is_some() && world.twin == Some(Twin::Idempotent) {
            return Err(Stop::violation(format!("{}: pays the fee twice", name(self.who))));
        }
        if known.is_none() && world.net.now.unix <= not_after {
            world.net.pay(self.who, ARBITER, hash, amount);
        }
        let never = NodeReport::PaymentReturned { hash, reason: String::new() };
        Ok(Input::Node(world.net.payment(self.who, hash).unwrap_or(never)))
    }

    fn publish(&mut self, world: &mut World, stream: TradeId, outgoing: &Outgoing) -> Result<Input, Stop> {
        self.check_logged(stream, "message", |e| match e {
            Event::MessageOrdered(logged) => **logged == *outgoing,
            Event::ListingOrdered { version, .. } => outgoing.step == Step::Listing(*version),
            _ => false,
        })?;
        let mut outgoing = outgoing.clone();
        if world.twin == Some(Twin::Idempotent) {
            self.attempts += 1;
            outgoing.at.0 += self.attempts;
        }
        let id = match world.relay.sign(stream, &outgoing) {
            Ok(id) => id,
            // It said something else for that step before.
            Err(_) if self.vices.is_some() => world.relay.forge(stream, &outgoing),
            Err(why) => return Err(Stop::violation(why)),
        };
        if let Some(vices) = self.vices {
            let now = world.net.now;
            let mut bend = |copy: &_| vices.bend(&outgoing, copy, now, &mut world.rng);
            let bent: Vec<Outgoing> = outgoing.copies.iter().filter_map(&mut bend).collect();
            for other in &bent {
                let id = world.relay.forge(stream, other);
                self.deliver(world, stream, other, id);
            }
            outgoing.copies.retain(|copy| bent.iter().all(|other| other.copies[0].to != copy.to));
        }
        self.deliver(world, stream, &outgoing, id);
        world.may_crash()?;
        Ok(Input::Sent { step: outgoing.step, id })
    }

    /// Puts the copies of a message into the mailboxes of their recipients.
    pub fn deliver(&self, world: &mut World, stream: TradeId, outgoing: &Outgoing, id: MessageId) {
        let bare = envelope(world, outgoing, id);
        if outgoing.copies.is_empty() {
            world.relay.listings.push(bare.clone());
        }
        let height = world.net.now.height;
        for copy in &outgoing.copies {
            let Some(to) = world.who(copy.to) else { continue };
            let shown = copy.shown.as_ref().and_then(|signed| world.relay.signed(signed));
            if let Some((shown, id)) = shown {
                let shown = Envelope { via: Some(outgoing.author), ..envelope(world, &shown, id) };
                world.relay.put(to, &shown, height);
            }
            let mut envelope = bare.clone();
            let secrets = copy.secrets.iter().map(|reveal| match reveal {
                Reveal::Derive(leg) => self.derive(stream, *leg),
                Reveal::Known(preimage) => preimage.clone(),
            });
            envelope.message.set_secrets(secrets.collect());
            if let Message::Appointment(appointment) = &mut envelope.message {
                appointment.fee_invoice.clone_from(&copy.fee_invoice);
                envelope.invoices = world.facts(&envelope.message);
            }
            world.relay.put(to, &envelope, height);
            // The public copy, without secrets, may arrive first.
            let private = !copy.secrets.is_empty() || copy.fee_invoice.is_some();
            if private && !outgoing.message.always_sealed() && world.rng.percent(30) {
                world.relay.put(to, &bare, height);
            }
        }
    }

    // ---- checks at the moment of acting ----------------------------------------------------------------------------

    fn check_logged(&self, stream: TradeId, what: &str, intent: impl Fn(&Event) -> bool) -> Result<(), Stop> {
        if self.log.iter().any(|(entry, _)| entry.stream == stream && intent(&entry.event)) {
            return Ok(());
        }
        Err(Stop::violation(format!("{}: a {what} whose intent is not in the log", name(self.who))))
    }

    fn check_settle(&self, hash: PaymentHash) -> Result<(), Stop> {
        let mut legs = self.log.iter().filter_map(|(entry, _)| match &entry.event {
            Event::InvoiceOrdered { leg, hash: known, .. } if *known == hash => Some((entry.stream, *leg)),
            _ => None,
        });
        let Some((stream, leg)) = legs.next() else { return Ok(()) };
        self.check_logged(
            stream,
            "settlement",
            |e| matches!(e, Event::SettleOrdered { leg: ordered } if *ordered == leg),
        )
    }
}

/// A message as it arrives, without secrets. What its author signed is found again by its id.
fn envelope(world: &mut World, outgoing: &Outgoing, id: MessageId) -> Envelope {
    let shown_later = matches!(outgoing.step, Step::PaymentConfirmation(_));
    Envelope {
        id,
        author: outgoing.author,
        prev: outgoing.prev,
        at: outgoing.at,
        invoices: world.facts(&outgoing.message),
        message: outgoing.message.clone(),
        via: None,
        signed: shown_later.then(|| id.to_string()),
    }
}

fn own_node(who: usize, twin: Option<Twin>) -> OwnNode {
    let margin = if twin == Some(Twin::ActBeforeExpiry) { 0 } else { AUTO_CANCEL_MARGIN };
    OwnNode { network: NETWORK.to_owned(), node_id: node_id(who), auto_cancel_margin: margin }
}

/// A party's name in traces.
pub fn name(who: usize) -> &'static str {
    ["payer", "payee", "arbiter"][who]
}

fn brief(input: &Input) -> String {
    match input {
        Input::Message(envelope) => {
            let text = format!("{:?}", envelope.message);
            let kind = text.split('(').next().unwrap_or("").to_owned();
            let secrets = envelope.message.secrets().len();
            format!("{kind} with {secrets} secrets")
        }
        other => format!("{other:?}").chars().take(110).collect(),
    }
}

fn brief_event(event: &Event) -> String {
    match event {
        Event::MessageTaken { step, .. } => format!("MessageTaken {step:?}"),
        Event::MessageOrdered(outgoing) => format!("MessageOrdered {:?}", outgoing.step),
        other => format!("{other:?}").chars().take(110).collect(),
    }
}

fn brief_effect(effect: &Effect) -> String {
    match effect {
        Effect::Send(outgoing) => format!("Send {:?}", outgoing.step),
        other => format!("{other:?}").chars().take(60).collect(),
    }
}

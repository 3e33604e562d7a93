//! The arbiter: serves, rules on disputes, and applies the agreed default on silence. It holds secrets, never money.

use units::{Height, Now, PaymentHash, Preimage, Sat, Unix};

use crate::deadline::{AUTO_CANCEL_MARGIN_MAX, Deadlines};
use crate::dossier::{Dossier, Novelty};
use crate::effect::Notice;
use crate::event::{Event, Opening, Outcome, Reveal, Role, Step};
use crate::fee::Bill;
use crate::ids::MessageId;
use crate::input::{Command, Envelope};
use crate::leg::LegId;
use crate::limits::RELOCKS_MAX;
use crate::message::{Appointment, AppointmentRequest, BondFate, Message, Ruling};
use crate::refusal::{Refusal, Rule};
use crate::role;
use crate::terms::OnSilence;

/// Seconds beyond the bid's life within which locking has to be confirmed to us: the longest life of an invoice, twice.
const CONFIRM_SECS_MAX: u64 = 2 * 86_400;

/// What the arbiter waits for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ArbiterState {
    /// Our user has to say whether we serve.
    Asked {
        /// When the trade cannot come about any more.
        until: Unix,
    },
    /// We serve; the payer has to confirm that the money is locked.
    Serving {
        /// When the trade cannot come about any more.
        until: Unix,
    },
    /// The money is locked, says the payer.
    Held,
    /// The goods are under way, says the payee.
    Shipped,
    /// Our user has to rule.
    Disputed {
        /// Who asked first.
        by: Role,
        /// Its words.
        dispute: MessageId,
    },
    /// We ruled; the word is on its way.
    Ruled {
        /// Nobody asked: it is the default on silence.
        by_default: bool,
    },
    /// It is over.
    Closed {
        /// How it ended.
        outcome: Outcome,
    },
}

/// One trade, seen by its arbiter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Arbiter {
    /// What we know.
    pub dossier: Dossier,
    /// What we wait for.
    pub state: ArbiterState,
    /// Height from which the money of a round is locked: as the payer claims and the payee, by shipping, agreed. The last one of a
    /// round counts: the one that the payee showed us.
    pub locked_from: Vec<(u8, Height)>,
}

use ArbiterState as S;

/// Checks a request to serve and the secrets that came with it.
pub(crate) fn check_request(m: &AppointmentRequest) -> Result<(), Refusal> {
    let mismatch = |why: &'static str| Err(Refusal::new(Rule::TermsMismatch, why));
    m.terms.check()?;
    m.terms.check_bid(m.bid.amount, m.bid.payer_bond, m.bid.arbiter)?;
    if m.bid.listing != m.listing || m.bid.payment_hashes.len() != usize::from(m.terms.tranches) {
        return mismatch("the request does not fit its own bid");
    }
    if !m.terms.arbiter_release {
        return if m.price_secrets.is_empty() { Ok(()) } else { mismatch("the terms do not let us hold secrets") };
    }
    let opened: Vec<PaymentHash> = m.price_secrets.iter().map(Preimage::hash).collect();
    if opened != m.bid.payment_hashes {
        return Err(Refusal::new(Rule::SecretMismatch, "the secrets do not open the hashes of the bid"));
    }
    Ok(())
}

/// What a checked request adds to the log.
pub(crate) fn take_request(m: &AppointmentRequest, envelope: &Envelope) -> Vec<Event> {
    let step = Step::AppointmentRequest(m.bid.round);
    let mut events = vec![Event::MessageTaken { step, envelope: Box::new(envelope.clone()) }];
    events.extend((0..).zip(&m.price_secrets).map(|(tranche, preimage)| Event::SecretLearned {
        leg: LegId::price(m.bid.round, tranche),
        preimage: preimage.clone(),
    }));
    events
}

impl Arbiter {
    pub(crate) fn open(opening: &Opening) -> Arbiter {
        let until = Unix(role::bid_until(opening).0.saturating_add(CONFIRM_SECS_MAX));
        Arbiter { dossier: Dossier::open(opening), state: S::Asked { until }, locked_from: Vec::new() }
    }

    pub(crate) fn state_name(&self) -> &'static str {
        match self.state {
            S::Asked { .. } => "Asked",
            S::Serving { .. } => "Serving",
            S::Held => "Held",
            S::Shipped => "Shipped",
            S::Disputed { .. } => "Disputed",
            S::Ruled { .. } => "Ruled",
            S::Closed { .. } => "Closed",
        }
    }

    /// Deadlines of the present round, with the largest margin that any backend has: we see no node.
    pub fn deadlines(&self) -> Option<Deadlines> {
        let round = self.dossier.round;
        let from = self.locked_from.iter().rev().find(|(known, _)| *known == round).map(|(_, from)| *from)?;
        let lock_blocks = self.dossier.terms().lock_blocks;
        Some(Deadlines::of(from.plus(u32::from(lock_blocks)), AUTO_CANCEL_MARGIN_MAX, lock_blocks))
    }

    // ---- what our user wants -----------------------------------------------------------------------------------

    pub(crate) fn command(&self, command: &Command, now: Now) -> Result<Vec<Event>, Refusal> {
        match command {
            Command::Serve { payer_bond_hash, payee_bond_hash, fee, fee_invoice, policy } => {
                self.serve([*payer_bond_hash, *payee_bond_hash], *fee, fee_invoice.as_ref(), policy, now)
            }
            Command::Rule { payee_tranches, payer_bond, payee_bond, resolution } => {
                self.rule(*payee_tranches, *payer_bond, *payee_bond, resolution, now)
            }
            Command::Withdraw { .. } => match self.state {
                S::Asked { .. } => Ok(vec![Event::Closed { outcome: Outcome::Unneeded }]),
                S::Serving { .. } | S::Held | S::Shipped | S::Disputed { .. } | S::Ruled { .. } | S::Closed { .. } => {
                    Err(Refusal::new(Rule::WrongState, "we gave our word to serve"))
                }
            },
            Command::List { .. }
            | Command::Restock { .. }
            | Command::Delist { .. }
            | Command::Pay
            | Command::RateArbiter { .. }
            | Command::RateBoard { .. }
            | Command::Bid(_)
            | Command::Counter { .. }
            | Command::Accept { .. }
            | Command::Ship { .. }
            | Command::Release { .. }
            | Command::Complain { .. }
            | Command::Dispute { .. }
            | Command::Refund { .. }
            | Command::Cancel { .. }
            | Command::Relock { .. }
            | Command::Rate { .. } => Err(Refusal::new(Rule::WrongRole, "the arbiter of a trade cannot do that")),
        }
    }

    /// The first round that we were asked to serve in and have not answered.
    pub fn asked_round(&self) -> Option<u8> {
        let d = &self.dossier;
        (0..=RELOCKS_MAX).find(|round| {
            d.said(Role::Payer, Step::AppointmentRequest(*round)).is_some() && !d.ordered(Step::Appointment(*round))
        })
    }

    fn serve(
        &self,
        [payer_bond_hash, payee_bond_hash]: [Option<PaymentHash>; 2],
        fee: Sat,
        bill: Option<&Bill>,
        policy: &str,
        now: Now,
    ) -> Result<Vec<Event>, Refusal> {
        let refuse = |why: &'static str| Err(Refusal::new(Rule::WrongState, why));
        match self.state {
            S::Asked { .. } | S::Shipped => {}
            S::Serving { .. } | S::Held | S::Disputed { .. } | S::Ruled { .. } | S::Closed { .. } => {
                return refuse("nobody waits for our word");
            }
        }
        let Some(round) = self.asked_round() else { return refuse("nobody waits for our word") };
        if (fee > Sat::ZERO) != bill.is_some() {
            return Err(Refusal::new(Rule::InvoiceAmount, "a fee needs an invoice, and only a fee does"));
        }
        if round > 0 && fee > Sat::ZERO {
            return Err(Refusal::new(Rule::FeeTwice, "the fee is for the whole trade, however often it is locked"));
        }
        let d = &self.dossier;
        let appointment = Appointment {
            trade: d.opening.trade,
            payer_bond_hash,
            payee_bond_hash,
            confirms_release: d.terms().arbiter_release,
            payment_hashes: d.hashes[usize::from(round)].price.clone(),
            terms: Some(d.terms().clone()),
            fee,
            fee_invoice: None,
            policy: policy.to_owned(),
            round,
        };
        d.check_appointment(&appointment)?;
        let message = Message::Appointment(appointment);
        crate::limits::check(&message)?;
        let at = if round == 0 { Now { unix: d.opening.at, ..now } } else { now };
        let mut word = d.say(Step::Appointment(round), message, at, to_both());
        let Some(bill) = bill else { return Ok(vec![word]) };
        d.check_fresh(&[bill.hash])?;
        if let Event::MessageOrdered(outgoing) = &mut word {
            for copy in outgoing.copies.iter_mut().filter(|copy| copy.to == d.opening.payer) {
                copy.fee_invoice = Some(bill.invoice.clone());
            }
        }
        Ok(vec![word, Event::FeeBilled { bill: bill.clone() }])
    }

    fn rule(
        &self,
        payee_tranches: u8,
        payer_bond: BondFate,
        payee_bond: BondFate,
        resolution: &str,
        now: Now,
    ) -> Result<Vec<Event>, Refusal> {
        let dispute = match self.state {
            S::Disputed { dispute, .. } => dispute,
            S::Asked { .. } | S::Serving { .. } | S::Held | S::Shipped | S::Ruled { .. } | S::Closed { .. } => {
                return Err(Refusal::new(Rule::WrongState, "there is no open dispute"));
            }
        };
        if self.deadlines().is_none_or(|x| now.height >= x.hard) {
            return Err(Refusal::new(Rule::TooLate, "the legs have gone back: a ruling now would be void"));
        }
        let d = &self.dossier;
        if payee_tranches > d.terms().tranches {
            return Err(Refusal::new(Rule::TermsMismatch, "there are fewer tranches than that"));
        }
        let resolution = resolution.to_owned();
        let trade = d.opening.trade;
        let ruling = Ruling { trade, dispute, payee_tranches, payer_bond, payee_bond, resolution, secrets: Vec::new() };
        crate::limits::check(&Message::Ruling(ruling.clone()))?;
        Ok(vec![self.ruling(ruling, now)])
    }

    /// The ruling, with the secrets of what it gives away in the copy of whoever gets it.
    fn ruling(&self, ruling: Ruling, now: Now) -> Event {
        let d = &self.dossier;
        let round = d.round;
        let known = |tranche: u8| {
            let leg = LegId::price(round, tranche);
            d.vault.iter().find(|(known, _)| *known == leg).map(|(_, preimage)| Reveal::Known(preimage.clone()))
        };
        let mut payee: Vec<Reveal> = (0..ruling.payee_tranches).filter_map(known).collect();
        let mut payer = Vec::new();
        if ruling.payer_bond == BondFate::Forfeit && d.opening.payer_bond > Sat::ZERO {
            payee.push(Reveal::Derive(LegId::payer_bond(round)));
        }
        if ruling.payee_bond == BondFate::Forfeit && d.terms().payee_bond > Sat::ZERO {
            payer.push(Reveal::Derive(LegId::payee_bond(round)));
        }
        d.say(Step::Ruling, Message::Ruling(ruling), now, [(Role::Payer, payer), (Role::Payee, payee)])
    }

    // ---- what the others say -----------------------------------------------------------------------------------

    pub(crate) fn message(&self, envelope: &Envelope, now: Now) -> Result<Vec<Event>, Refusal> {
        let d = &self.dossier;
        let step = role::step_of(d, envelope)?;
        if let Some(events) = self.shown(envelope, step, now) {
            return Ok(events);
        }
        match d.novelty(envelope, step) {
            Novelty::Same => return Ok(Vec::new()),
            Novelty::Other => return d.equivocation(envelope, step),
            Novelty::New => {}
        }
        let taken = Event::MessageTaken { step, envelope: Box::new(envelope.clone()) };
        if step == Step::ArbiterRating {
            return Ok(vec![taken]);
        }
        let early = || Err(Refusal::new(Rule::OutOfOrder, "we do not know yet that the money is locked"));
        match (&envelope.message, step) {
            (Message::AppointmentRequest(m), _) => self.request(m, envelope),
            (Message::PaymentConfirmation(m), Step::PaymentConfirmation(round)) => match self.state {
                S::Serving { .. } | S::Held | S::Shipped | S::Disputed { .. } => {
                    if !d.ordered(Step::Appointment(round)) {
                        return Err(Refusal::new(Rule::OutOfOrder, "we were not appointed for that round"));
                    }
                    // Nobody can have paid later than now.
                    let height = m.paid_height.map_or(now.height, |claim| claim.min(now.height));
                    Ok(vec![taken, Event::Locked { round, height }])
                }
                S::Asked { .. } => early(),
                S::Ruled { .. } | S::Closed { .. } => Ok(Vec::new()),
            },
            (_, Step::Dispute) => match self.state {
                S::Held | S::Shipped => {
                    d.check_prev(envelope)?;
                    let mut events = vec![taken];
                    if let Some(x) = self.deadlines() {
                        d.raise(&mut events, Notice::RulingWanted { after: Some(x.warn), before: x.hard });
                    }
                    Ok(events)
                }
                S::Disputed { .. } => Ok(vec![taken]),
                S::Asked { .. } | S::Serving { .. } => early(),
                S::Ruled { .. } | S::Closed { .. } => Ok(Vec::new()),
            },
            (_, Step::Shipment(_) | Step::Receipt | Step::Refund | Step::MutualCancel) => match self.state {
                S::Held | S::Shipped | S::Disputed { .. } => {
                    d.check_prev(envelope)?;
                    Ok(vec![taken])
                }
                S::Asked { .. } | S::Serving { .. } => early(),
                S::Ruled { .. } | S::Closed { .. } => Ok(Vec::new()),
            },
            (_, _) => Err(Refusal::new(Rule::WrongRole, "this is not said to an arbiter")),
        }
    }

    /// A payment confirmation that the payee shows us: what the payee relies on, so it counts whatever the payer told us itself, and
    /// however we took the trade to have ended before we heard of it. Once a round.
    fn shown(&self, envelope: &Envelope, step: Step, now: Now) -> Option<Vec<Event>> {
        let d = &self.dossier;
        let (Message::PaymentConfirmation(m), Step::PaymentConfirmation(round)) = (&envelope.message, step) else {
            return None;
        };
        let heard: Vec<_> = d.said.iter().filter(|s| s.author == envelope.author && s.step == step).collect();
        let news = heard.len() < 2 && heard.iter().all(|s| s.id != envelope.id);
        if envelope.via != Some(d.opening.payee) || !news || !d.ordered(Step::Appointment(round)) {
            return None;
        }
        let height = m.paid_height.map_or(now.height, |claim| claim.min(now.height));
        match self.state {
            S::Serving { .. } | S::Held | S::Shipped | S::Disputed { .. } => {}
            S::Closed { outcome: Outcome::Unneeded | Outcome::Missed }
                if !self.done_with() && now.height < height.plus(u32::from(d.terms().lock_blocks)) => {}
            S::Asked { .. } | S::Ruled { .. } | S::Closed { .. } => return None,
        }
        let taken = Event::MessageTaken { step, envelope: Box::new(envelope.clone()) };
        let mut events = vec![taken, Event::Locked { round, height }];
        if !heard.is_empty() {
            events.extend(d.equivocation(envelope, step).unwrap_or_default());
        }
        Some(events)
    }

    /// The two did without us.
    fn done_with(&self) -> bool {
        self.dossier.said(Role::Payee, Step::Refund).is_some() || role::both_canceled(&self.dossier)
    }

    /// A request for a further round; the one that opened the trade is known already.
    fn request(&self, m: &AppointmentRequest, envelope: &Envelope) -> Result<Vec<Event>, Refusal> {
        let d = &self.dossier;
        match self.state {
            S::Shipped => {}
            S::Asked { .. } | S::Serving { .. } | S::Held => {
                return Err(Refusal::new(Rule::OutOfOrder, "only goods that are under way are worth another lock"));
            }
            S::Disputed { .. } | S::Ruled { .. } | S::Closed { .. } => return Ok(Vec::new()),
        }
        let same = m.terms == *d.terms()
            && m.payee == d.opening.payee
            && m.listing == d.opening.listing
            && m.bid.payer_bond == d.opening.payer_bond
            && m.bid.arbiter == d.opening.arbiter
            && m.bid.round > d.round;
        if !same {
            return Err(Refusal::new(Rule::TermsMismatch, "a re-lock keeps terms, parties and bonds"));
        }
        check_request(m)?;
        d.check_fresh(&m.bid.payment_hashes)?;
        Ok(take_request(m, envelope))
    }

    // ---- time --------------------------------------------------------------------------------------------------

    pub(crate) fn passed(&self, now: Now) -> Vec<Event> {
        let d = &self.dossier;
        let close = |outcome| vec![Event::Closed { outcome }];
        let deadlines = self.deadlines();
        match (&self.state, deadlines) {
            (S::Asked { until } | S::Serving { until }, _) if now.unix >= *until => close(Outcome::Unneeded),
            (S::Asked { .. } | S::Serving { .. }, _) => Vec::new(),
            (S::Shipped, Some(x)) if d.terms().on_silence == OnSilence::Release && now.height >= x.rule => {
                if now.height >= x.hard {
                    return close(Outcome::Missed);
                }
                let Some(dispute) = d.said(Role::Payee, Step::Shipment(d.round)) else { return Vec::new() };
                let ruling = Ruling {
                    trade: d.opening.trade,
                    dispute,
                    payee_tranches: d.terms().tranches,
                    payer_bond: BondFate::Return,
                    payee_bond: BondFate::Return,
                    resolution: "nobody disputed: the agreed default on silence".to_owned(),
                    secrets: Vec::new(),
                };
                vec![self.ruling(ruling, now)]
            }
            (S::Disputed { .. }, Some(x)) if now.height >= x.hard => close(Outcome::Missed),
            (S::Held | S::Shipped, Some(x)) if now.height >= x.expiry => close(Outcome::Unneeded),
            (S::Held | S::Shipped | S::Disputed { .. }, _) => Vec::new(),
            (S::Ruled { .. } | S::Closed { .. }, _) => Vec::new(),
        }
    }

    // ---- what follows from what is recorded ------------------------------------------------------------------------

    pub(crate) fn follows(&self) -> Vec<Event> {
        let d = &self.dossier;
        match self.state {
            S::Held | S::Shipped | S::Disputed { .. } => {
                // A receipt ends nothing: whether the payee got the secrets with it we do not see.
                if self.done_with() { vec![Event::Closed { outcome: Outcome::Unneeded }] } else { Vec::new() }
            }
            S::Ruled { by_default } if d.said(Role::Arbiter, Step::Ruling).is_some() => {
                let outcome = match by_default {
                    true if d.said(Role::Payer, Step::Receipt).is_some() => Outcome::Unneeded,
                    true => Outcome::Defaulted,
                    false => Outcome::Ruled,
                };
                vec![Event::Closed { outcome }]
            }
            S::Asked { .. } | S::Serving { .. } | S::Ruled { .. } | S::Closed { .. } => Vec::new(),
        }
    }

    pub(crate) fn outcome(&self) -> Option<Outcome> {
        match self.state {
            S::Closed { outcome } => Some(outcome),
            _ => None,
        }
    }

    // ---- folding -----------------------------------------------------------------------------------------------

    /// Folds an event; none when it does not fit.
    pub(crate) fn apply(mut self, event: &Event) -> Option<Arbiter> {
        if !self.dossier.fold(event) {
            return None;
        }
        self.state = match (self.state, event) {
            (S::Asked { until }, Event::MessageOrdered(o)) if o.step == Step::Appointment(0) => S::Serving { until },
            (S::Disputed { .. }, Event::MessageOrdered(o)) if o.step == Step::Ruling => S::Ruled { by_default: false },
            (S::Shipped, Event::MessageOrdered(o)) if o.step == Step::Ruling => S::Ruled { by_default: true },
            (state, Event::Locked { round, height }) => {
                self.locked_from.push((*round, *height));
                if matches!(state, S::Serving { .. } | S::Closed { .. }) { locked(&self.dossier) } else { state }
            }
            (S::Held, Event::MessageTaken { step: Step::Shipment(0), .. }) => S::Shipped,
            (state, Event::MessageTaken { step: Step::Shipment(round), .. }) => {
                self.dossier.round = self.dossier.round.max(*round);
                state
            }
            (S::Held | S::Shipped, Event::MessageTaken { step: Step::Dispute, envelope }) => {
                let by = self.dossier.role_of(envelope.author)?;
                S::Disputed { by, dispute: envelope.id }
            }
            (S::Closed { .. }, Event::Closed { .. }) => return None,
            (_, Event::Closed { outcome }) => S::Closed { outcome: *outcome },
            (_, Event::Unwound { .. } | Event::RelockDropped { .. } | Event::AcceptOrdered { .. }) => return None,
            (state, _) => state,
        };
        Some(self)
    }
}

/// What we wait for when the money turns out to be locked.
fn locked(d: &Dossier) -> ArbiterState {
    let dispute = d.said.iter().find(|s| s.step == Step::Dispute);
    if let Some((by, said)) = dispute.and_then(|said| d.role_of(said.author).map(|by| (by, said))) {
        return S::Disputed { by, dispute: said.id };
    }
    if d.said(Role::Payee, Step::Shipment(0)).is_some() { S::Shipped } else { S::Held }
}

fn to_both() -> [(Role, Vec<Reveal>); 2] {
    [(Role::Payer, Vec::new()), (Role::Payee, Vec::new())]
}

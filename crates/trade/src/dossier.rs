//! Dossier: what a party knows of one trade whatever its state: the deal, what was said, and where each leg stands.

mod fold;
pub(crate) mod report;

use units::{Height, Now, PaymentHash, Preimage, Sat};

use crate::deadline::{Deadlines, REORG_BLOCKS};
use crate::effect::{Effect, Notice};
use crate::event::{Event, Opening, Outgoing, Reveal, Role, SealedCopy, Step};
use crate::fee::Fee;
use crate::ids::{MessageId, PartyKey};
use crate::input::Envelope;
use crate::leg::{Issued, IssuedState, Leg, LegId, Paid, PaidState};
use crate::limits::{self, EVIDENCE_MAX};
use crate::message::{Appointment, BondFate, Message, Ruling};
use crate::refusal::{Refusal, Rule};
use crate::terms::EscrowTerms;

/// A message that counts: who said it, for which step, under which id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Said {
    /// Who.
    pub author: PartyKey,
    /// What.
    pub step: Step,
    /// Under which id.
    pub id: MessageId,
}

/// Hashes that the legs of one round are agreed to have.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Hashes {
    /// Tranches of the price.
    pub price: Vec<PaymentHash>,
    /// Those whose secrets the arbiter confirms to hold.
    pub vouched: Vec<PaymentHash>,
    /// The payer's bond.
    pub payer_bond: Option<PaymentHash>,
    /// The payee's bond.
    pub payee_bond: Option<PaymentHash>,
}

/// Everything that is known of a trade apart from its state. Folded from the log like the state itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dossier {
    /// How it began.
    pub opening: Opening,
    /// The price as the payer last offered it.
    pub price: Sat,
    /// The price that the payee last asked in a counter.
    pub asked: Option<Sat>,
    /// The round whose legs hold the money.
    pub round: u8,
    /// Agreed hashes, one entry a round.
    pub hashes: Vec<Hashes>,
    /// Messages that we owe.
    pub outbox: Vec<Outgoing>,
    /// Messages that count, ours and theirs, oldest first.
    pub said: Vec<Said>,
    /// Legs that our node holds.
    pub issued: Vec<Issued>,
    /// Legs that we pay.
    pub paid: Vec<Paid>,
    /// Height at which the payment of a round's first leg was ordered, one entry a round.
    pub paid_from: Vec<Height>,
    /// Secrets that we were given.
    pub vault: Vec<(LegId, Preimage)>,
    /// Notices raised, and whether our user saw them.
    pub notices: Vec<(Notice, bool)>,
    /// The ruling.
    pub ruling: Option<Ruling>,
    /// What broke a rule in writing.
    pub evidence: Vec<(Rule, Envelope)>,
    /// Heights at which our payments were taken.
    pub taken_at: Vec<(LegId, Height)>,
    /// The first lock was complete.
    pub locked: bool,
    /// The round whose secrets the receipt carried.
    pub released_round: Option<u8>,
    /// What payment confirmations claim: round, and the height from which its payments are locked.
    pub claims: Vec<(u8, Option<Height>)>,
    /// Words of others that may have to be shown to the arbiter, as their authors signed them.
    pub signed: Vec<(MessageId, String)>,
    /// The payee's estimate of the shipping time, in days.
    pub shipping_days: u16,
    /// Our user looked at the invoices, where it wanted to.
    pub pay_approved: bool,
    /// What the arbiter charges, once it said so; none when it serves for nothing.
    pub fee: Option<Fee>,
}

/// What a message is to those who know the trade.
pub(crate) enum Novelty {
    /// Not heard before.
    New,
    /// The same message again.
    Same,
    /// The same author said something else for the same step.
    Other,
}

impl Dossier {
    pub(crate) fn open(opening: &Opening) -> Dossier {
        Dossier {
            price: opening.amount,
            asked: None,
            round: 0,
            hashes: vec![Hashes { price: opening.payment_hashes.clone(), ..Hashes::default() }],
            outbox: Vec::new(),
            said: Vec::new(),
            issued: Vec::new(),
            paid: Vec::new(),
            paid_from: Vec::new(),
            vault: Vec::new(),
            notices: Vec::new(),
            ruling: None,
            evidence: Vec::new(),
            taken_at: Vec::new(),
            locked: false,
            released_round: None,
            claims: Vec::new(),
            signed: Vec::new(),
            shipping_days: 0,
            pay_approved: !opening.pay_by_hand,
            fee: None,
            opening: opening.clone(),
        }
    }

    /// The listing's terms.
    pub fn terms(&self) -> &EscrowTerms {
        &self.opening.terms
    }

    /// The price of an order for bitcoin against money of a country follows from its rate: nobody haggles over it.
    pub(crate) fn check_haggling(&self) -> Result<(), Refusal> {
        match self.opening.fiat {
            Some(_) => {
                Err(Refusal::new(Rule::TermsMismatch, "the price follows from the quoted rate: take it or leave it"))
            }
            None => Ok(()),
        }
    }

    /// Our key.
    pub fn me(&self) -> PartyKey {
        match self.opening.role {
            Role::Payer => self.opening.payer,
            Role::Payee => self.opening.payee,
            // A trade is opened as arbiter only by a request that names one.
            Role::Arbiter => self.opening.arbiter.unwrap_or(self.opening.payee),
        }
    }

    /// Which side an author is on.
    pub fn role_of(&self, author: PartyKey) -> Option<Role> {
        if author == self.opening.payer {
            Some(Role::Payer)
        } else if author == self.opening.payee {
            Some(Role::Payee)
        } else if Some(author) == self.opening.arbiter {
            Some(Role::Arbiter)
        } else {
            None
        }
    }

    fn key_of(&self, role: Role) -> Option<PartyKey> {
        match role {
            Role::Payer => Some(self.opening.payer),
            Role::Payee => Some(self.opening.payee),
            Role::Arbiter => self.opening.arbiter,
        }
    }

    /// The id under which a role said something.
    pub fn said(&self, role: Role, step: Step) -> Option<MessageId> {
        let author = self.key_of(role)?;
        self.said.iter().find(|s| s.author == author && s.step == step).map(|s| s.id)
    }

    /// We said it, or owe it.
    pub fn ordered(&self, step: Step) -> bool {
        self.outbox.iter().any(|o| o.step == step) || self.said(self.opening.role, step).is_some()
    }

    /// Is `id` a message of this trade, or its listing?
    pub fn knows(&self, id: MessageId) -> bool {
        id == self.opening.listing || self.said.iter().any(|s| s.id == id)
    }

    /// The payment confirmation of the latest round that has one; before, the acceptance: what refund and cancel refer to.
    pub(crate) fn anchor(&self) -> Option<MessageId> {
        self.confirmation().or_else(|| self.said(Role::Payee, Step::Acceptance(0)))
    }

    /// The payment confirmation of the round that holds the money.
    pub(crate) fn confirmation(&self) -> Option<MessageId> {
        (0..=self.round).rev().find_map(|round| self.said(Role::Payer, Step::PaymentConfirmation(round)))
    }

    /// The round that a payment confirmation belongs to.
    pub(crate) fn round_of_confirmation(&self, id: MessageId) -> Option<u8> {
        self.said.iter().find_map(|s| match s.step {
            Step::PaymentConfirmation(round) if s.id == id => Some(round),
            _ => None,
        })
    }

    pub(crate) fn novelty(&self, envelope: &Envelope, step: Step) -> Novelty {
        match self.said.iter().find(|s| s.author == envelope.author && s.step == step) {
            Some(said) if said.id == envelope.id => Novelty::Same,
            Some(_) => Novelty::Other,
            None => Novelty::New,
        }
    }

    /// Checks that hold for every message: bounds, author, and that what it answers is a message of this trade.
    pub(crate) fn check_envelope(&self, envelope: &Envelope) -> Result<Role, Refusal> {
        limits::check(&envelope.message)?;
        let Some(role) = self.role_of(envelope.author) else {
            return Err(Refusal::new(Rule::WrongAuthor, "the author is no party of this trade"));
        };
        if envelope.message.trade().is_some_and(|trade| trade != self.opening.trade) {
            return Err(Refusal::new(Rule::WrongTrade, "the message names another trade"));
        }
        if let (Some(said), Some(tagged)) = (envelope.message.prev(), envelope.prev)
            && said != tagged
        {
            return Err(Refusal::new(Rule::WrongTrade, "content and tag name different earlier steps"));
        }
        Ok(role)
    }

    /// The step before must be known, else the message waits for it.
    pub(crate) fn check_prev(&self, envelope: &Envelope) -> Result<(), Refusal> {
        match envelope.message.prev() {
            // The secret proves itself: whatever else is still missing, it is urgent.
            Some(_) if matches!(envelope.message, Message::Handover(_)) => Ok(()),
            Some(prev) if !self.knows(prev) => {
                Err(Refusal::new(Rule::OutOfOrder, "the step that it answers is not known here"))
            }
            Some(_) | None => Ok(()),
        }
    }

    /// A second, different message for one step: kept as evidence, or refused when enough is kept already.
    pub(crate) fn equivocation(&self, envelope: &Envelope, step: Step) -> Result<Vec<Event>, Refusal> {
        if self.evidence.len() >= EVIDENCE_MAX || self.evidence.iter().any(|(_, kept)| kept.id == envelope.id) {
            return Err(Refusal::new(Rule::Equivocation, "the author already said something else for this step"));
        }
        let mut events = vec![Event::EvidenceKept { rule: Rule::Equivocation, envelope: Box::new(envelope.clone()) }];
        self.raise(&mut events, Notice::Equivocation { author: envelope.author, step });
        Ok(events)
    }

    pub(crate) fn raise(&self, events: &mut Vec<Event>, notice: Notice) {
        let raised = self.notices.iter().any(|(known, _)| *known == notice);
        if !raised && !events.iter().any(|e| matches!(e, Event::NoticeRaised { notice: known } if *known == notice)) {
            events.push(Event::NoticeRaised { notice });
        }
    }

    /// A message of ours for the given roles, each with the secrets that only it gets. The arbiter is also shown the word that it
    /// answers, where that is somebody else's: it may have been told another.
    pub(crate) fn say(
        &self,
        step: Step,
        message: Message,
        now: Now,
        to: impl IntoIterator<Item = (Role, Vec<Reveal>)>,
    ) -> Event {
        let prev = match step {
            Step::Appointment(round) => self.said(Role::Payer, Step::AppointmentRequest(round)),
            _ => message.prev(),
        };
        let answered = self.signed.iter().find(|(id, _)| Some(*id) == prev).map(|(_, signed)| signed);
        let copy = |(role, secrets)| {
            let shown = answered.filter(|_| role == Role::Arbiter).cloned();
            self.key_of(role).map(|to| SealedCopy { to, secrets, shown, fee_invoice: None })
        };
        let copies = to.into_iter().filter_map(copy).collect();
        Event::MessageOrdered(Box::new(Outgoing { step, author: self.me(), prev, at: now.unix, message, copies }))
    }

    // ---- legs -------------------------------------------------------------------------------------------------

    /// Our leg of that name.
    pub fn issued(&self, leg: LegId) -> Option<&Issued> {
        self.issued.iter().find(|i| i.leg == leg)
    }

    /// The leg of that name that we pay.
    pub fn paid(&self, leg: LegId) -> Option<&Paid> {
        self.paid.iter().find(|p| p.leg == leg)
    }

    /// Names and sizes of a round's legs of one kind; no bond is no leg.
    pub(crate) fn sizes(&self, round: u8, leg: Leg) -> Vec<(LegId, Sat)> {
        match leg {
            Leg::Price => {
                let parts = self.price.split(self.terms().tranches);
                (0..).zip(parts).map(|(tranche, amount)| (LegId::price(round, tranche), amount)).collect()
            }
            Leg::PayerBond if self.opening.payer_bond > Sat::ZERO => {
                vec![(LegId::payer_bond(round), self.opening.payer_bond)]
            }
            Leg::PayeeBond if self.terms().payee_bond > Sat::ZERO => {
                vec![(LegId::payee_bond(round), self.terms().payee_bond)]
            }
            Leg::PayerBond | Leg::PayeeBond => Vec::new(),
        }
    }

    /// The hash that is agreed for a leg.
    pub(crate) fn hash_of(&self, leg: LegId) -> Option<PaymentHash> {
        let hashes = self.hashes.get(usize::from(leg.round))?;
        match leg.leg {
            Leg::Price => hashes.price.get(usize::from(leg.tranche)).copied(),
            Leg::PayerBond => hashes.payer_bond,
            Leg::PayeeBond => hashes.payee_bond,
        }
    }

    /// Every hash of this trade so far, with the leg it belongs to.
    pub fn all_hashes(&self) -> Vec<(PaymentHash, LegId)> {
        let mut all = Vec::new();
        for (round, hashes) in (0..).zip(&self.hashes) {
            all.extend((0..).zip(&hashes.price).map(|(tranche, hash)| (*hash, LegId::price(round, tranche))));
            all.extend(hashes.payer_bond.map(|hash| (hash, LegId::payer_bond(round))));
            all.extend(hashes.payee_bond.map(|hash| (hash, LegId::payee_bond(round))));
        }
        all
    }

    /// Are these hashes new to this trade and different from each other?
    pub(crate) fn check_fresh(&self, fresh: &[PaymentHash]) -> Result<(), Refusal> {
        let used = self.all_hashes();
        for (i, hash) in fresh.iter().enumerate() {
            if fresh[..i].contains(hash) || used.iter().any(|(known, _)| known == hash) {
                return Err(Refusal::new(Rule::HashReused, "a hash is good for one payment only"));
            }
        }
        Ok(())
    }

    /// Does the appointment fit the trade: bonds that exist have a hash, secrets were confirmed where the terms want it?
    pub(crate) fn check_appointment(&self, m: &Appointment) -> Result<(), Refusal> {
        let mismatch = |why: &'static str| Err(Refusal::new(Rule::TermsMismatch, why));
        if m.payer_bond_hash.is_some() != (self.opening.payer_bond > Sat::ZERO) {
            return mismatch("the appointment does not fit the payer's bond");
        }
        if m.payee_bond_hash.is_some() != (self.terms().payee_bond > Sat::ZERO) {
            return mismatch("the appointment does not fit the payee's bond");
        }
        if self.terms().arbiter_release && !m.confirms_release {
            return mismatch("the arbiter does not confirm that it can release");
        }
        if m.terms.as_ref() != Some(self.terms()) {
            return mismatch("the arbiter was told other terms than the listing's");
        }
        let hashes: Vec<_> = m.payer_bond_hash.into_iter().chain(m.payee_bond_hash).collect();
        self.check_fresh(&hashes)
    }

    /// Has the arbiter, where there is one, agreed to serve in this round, and does it hold secrets of the very hashes of the bid?
    pub(crate) fn check_appointed(&self, round: u8) -> Result<(), Refusal> {
        if self.opening.arbiter.is_none() {
            return Ok(());
        }
        if self.said(Role::Arbiter, Step::Appointment(round)).is_none() {
            return Err(Refusal::new(Rule::NotAppointed, "the arbiter has not said yet that it serves"));
        }
        let hashes = self.hashes.get(usize::from(round));
        if self.terms().arbiter_release && hashes.is_none_or(|h| h.vouched != h.price) {
            return Err(Refusal::new(Rule::TermsMismatch, "the arbiter holds secrets of other hashes than the bid's"));
        }
        Ok(())
    }

    /// Legs that our node still holds or may hold are to be failed back, those apart that are being settled.
    pub(crate) fn cancel_issued(&self, keep: impl Fn(LegId) -> bool) -> Vec<Event> {
        self.issued
            .iter()
            .filter(|i| !keep(i.leg))
            .filter(|i| {
                matches!(i.state, IssuedState::Ordered { .. } | IssuedState::Open { .. } | IssuedState::Held { .. })
            })
            .map(|i| Event::CancelOrdered { leg: i.leg })
            .collect()
    }

    /// Held legs whose secret we know: settle at once.
    pub(crate) fn settle_known(&self) -> Vec<Event> {
        self.issued
            .iter()
            .filter(|i| matches!(i.state, IssuedState::Held { .. }))
            .filter(|i| self.vault.iter().any(|(leg, _)| *leg == i.leg))
            .map(|i| Event::SettleOrdered { leg: i.leg })
            .collect()
    }

    /// Secrets in a message that open legs our node issued and that we did not know. One that opens nothing of ours refuses
    /// the message.
    pub(crate) fn learn(&self, secrets: &[Preimage]) -> Result<Vec<Event>, Refusal> {
        let mut events = Vec::new();
        for preimage in secrets {
            let hash = preimage.hash();
            let Some(issued) = self.issued.iter().find(|i| i.hash == hash) else {
                return Err(Refusal::new(Rule::SecretMismatch, "a secret opens none of the legs that it could open"));
            };
            if self.vault.iter().any(|(leg, _)| *leg == issued.leg) {
                continue;
            }
            events.push(Event::SecretLearned { leg: issued.leg, preimage: preimage.clone() });
            let gone = matches!(issued.state, IssuedState::CancelOrdered | IssuedState::Canceled);
            // A leg of an earlier round went back because a later one took its place.
            if gone && issued.leg.round == self.round {
                self.raise(&mut events, Notice::SecretTooLate { leg: issued.leg });
            }
        }
        Ok(events)
    }

    /// Our own node would not issue the invoice of this leg.
    pub(crate) fn node_refused(&self, leg: LegId) -> bool {
        self.notices.iter().any(|(notice, _)| *notice == Notice::NodeRefused { leg })
    }

    /// Do our held legs of a round last at least as long as its payment confirmation claims?
    pub(crate) fn claim_holds(&self, round: u8) -> bool {
        let held = self.issued.iter().filter(|i| i.leg.round == round).filter_map(Issued::held_until).min();
        let claim = self.claims.iter().find(|(claimed, _)| *claimed == round).and_then(|(_, height)| *height);
        match (held, claim) {
            (Some(expiry), Some(from)) => from.plus(u32::from(self.terms().lock_blocks)) <= expiry,
            (None, _) => true,
            // Without a claim an arbiter reckons from when it heard of the payment, and that may be much later.
            (Some(_), None) => self.opening.arbiter.is_none(),
        }
    }

    /// Nothing can happen any more to any leg, nor to the fee.
    pub fn all_final(&self) -> bool {
        self.issued.iter().all(Issued::is_final)
            && self.paid.iter().all(Paid::is_idle)
            && self.fee.as_ref().is_none_or(Fee::is_idle)
    }

    /// Deadlines of the present round: from the lowest expiry of what our node holds, and for what we pay from the earliest
    /// expiry it can have.
    pub fn deadlines(&self) -> Option<Deadlines> {
        let held = self.issued.iter().filter(|i| i.leg.round == self.round).filter_map(Issued::held_until).min();
        let lock_blocks = self.terms().lock_blocks;
        let paid = match self.opening.role {
            Role::Payer => self.claimed_height(self.round).map(|height| height.plus(u32::from(lock_blocks))),
            // The arbiter reckons with what the payer claims: whoever may need it keeps to that where it is earlier.
            Role::Payee if self.locked && self.opening.arbiter.is_some() => {
                let claim = self.claims.iter().find(|(claimed, _)| *claimed == self.round);
                held.and(claim).and_then(|(_, from)| *from).map(|from| from.plus(u32::from(lock_blocks)))
            }
            Role::Payee | Role::Arbiter => None,
        };
        let expiry = held.into_iter().chain(paid).min()?;
        Some(Deadlines::of(expiry, self.opening.node.auto_cancel_margin, lock_blocks))
    }

    /// The height from which we claim that our payments of a round are locked: before a reorganisation could put them.
    pub(crate) fn claimed_height(&self, round: u8) -> Option<Height> {
        self.paid_from.get(usize::from(round)).map(|height| height.minus(REORG_BLOCKS))
    }

    // ---- payments that were taken ------------------------------------------------------------------------------

    /// Did we, or a ruling, give this leg to the counterparty?
    pub(crate) fn explained(&self, leg: LegId) -> bool {
        let released = self.opening.role == Role::Payer && self.ordered(Step::Receipt);
        match (leg.leg, &self.ruling) {
            (Leg::Price, _) if released => true,
            (Leg::Price, Some(ruling)) => leg.tranche < ruling.payee_tranches,
            (Leg::PayerBond, Some(ruling)) => ruling.payer_bond == BondFate::Forfeit,
            (Leg::PayeeBond, Some(ruling)) => ruling.payee_bond == BondFate::Forfeit,
            (Leg::Price | Leg::PayerBond | Leg::PayeeBond, None) => false,
        }
    }

    /// Payments that were taken though nothing gave them away: hand the secret over at once, and alarm when no ruling explains
    /// it within a few blocks (it may be under way).
    pub(crate) fn suspicions(&self, now: Now) -> Vec<Event> {
        let mut events = Vec::new();
        for (leg, since) in &self.taken_at {
            if self.explained(*leg) {
                continue;
            }
            let step = Step::Handover(*leg);
            if let (Some(payment), Some(PaidState::Taken { preimage })) =
                (self.anchor(), self.paid(*leg).map(|p| &p.state))
                && !self.ordered(step)
            {
                events.push(self.hand_over(*leg, payment, preimage, now));
            }
            if self.opening.arbiter.is_none() || now.height >= since.plus(REORG_BLOCKS) {
                self.raise(&mut events, Notice::TakenWithoutRelease { leg: *leg });
            }
        }
        events
    }

    /// When a payment that nothing explains becomes an alarm.
    pub(crate) fn next_alarm(&self) -> Option<Height> {
        let open = self.taken_at.iter().filter(|(leg, _)| {
            !self.explained(*leg) && !self.notices.iter().any(|(n, _)| *n == Notice::TakenWithoutRelease { leg: *leg })
        });
        open.map(|(_, since)| since.plus(REORG_BLOCKS)).min()
    }

    fn hand_over(&self, leg: LegId, payment: MessageId, preimage: &Preimage, now: Now) -> Event {
        let other = if self.opening.role == Role::Payer { Role::Payee } else { Role::Payer };
        let note = format!("our payment of the {leg} was taken although it was not released");
        let message = Message::Handover(crate::message::Handover { payment, note, secrets: Vec::new() });
        self.say(Step::Handover(leg), message, now, [(other, vec![Reveal::Known(preimage.clone())])])
    }

    /// Every payment that was taken is explained, or our user was alarmed.
    pub(crate) fn all_explained(&self) -> bool {
        self.taken_at.iter().all(|(leg, _)| {
            self.explained(*leg) || self.notices.iter().any(|(n, _)| *n == Notice::TakenWithoutRelease { leg: *leg })
        })
    }

    // ---- what is owed ------------------------------------------------------------------------------------------

    /// Is anything owed? Cheaper than asking what.
    pub(crate) fn owes(&self) -> bool {
        let issued = |state: &IssuedState| {
            matches!(
                state,
                IssuedState::Ordered { .. } | IssuedState::SettleOrdered { .. } | IssuedState::CancelOrdered
            )
        };
        self.issued.iter().any(|i| issued(&i.state))
            || self.paid.iter().any(|p| matches!(p.state, PaidState::Ordered { .. }))
            || self.fee.as_ref().is_some_and(|fee| fee.pending().is_some())
            || !self.outbox.is_empty()
            || self.notices.iter().any(|(_, shown)| !shown)
    }

    /// Owed effects: money first, then words, then notices.
    pub(crate) fn pending(&self) -> Vec<Effect> {
        let mut effects: Vec<Effect> = self.fee.iter().filter_map(Fee::pending).collect();
        for issued in &self.issued {
            let (leg, hash) = (issued.leg, issued.hash);
            match &issued.state {
                IssuedState::Ordered { min_final_cltv, expiry_secs } => effects.push(Effect::CreateHoldInvoice {
                    leg,
                    hash,
                    amount: msat(issued.amount),
                    min_final_cltv: *min_final_cltv,
                    expiry_secs: *expiry_secs,
                }),
                IssuedState::SettleOrdered { preimage, .. } => {
                    effects.push(Effect::Settle { leg, hash, preimage: preimage.clone() });
                }
                IssuedState::CancelOrdered => effects.push(Effect::Cancel { leg, hash }),
                IssuedState::Open { .. } | IssuedState::Held { .. } | IssuedState::Settled | IssuedState::Canceled => {}
            }
        }
        for paid in &self.paid {
            if let PaidState::Ordered { not_after } = paid.state {
                effects.push(Effect::PayInvoice {
                    leg: paid.leg,
                    hash: paid.hash,
                    invoice: paid.invoice.clone(),
                    amount: msat(paid.amount),
                    not_after,
                });
            }
        }
        effects.extend(self.outbox.iter().map(|o| Effect::Send(Box::new(o.clone()))));
        effects.extend(self.notices.iter().filter(|(_, shown)| !shown).map(|(notice, _)| {
            if notice.is_alarm() { Effect::Alarm(notice.clone()) } else { Effect::Warn(notice.clone()) }
        }));
        effects
    }
}

/// Amounts are checked against the supply before they enter a trade.
fn msat(amount: Sat) -> units::Msat {
    amount.to_msat().unwrap_or_default()
}

//! What payer, payee and arbiter have in common: naming steps, unwinding, verdicts, ratings.

use units::{Now, Unix};

use crate::dossier::Dossier;
use crate::event::{Event, Opening, Outcome, Role, Step, Why};
use crate::ids::MessageId;
use crate::input::Envelope;
use crate::leg::{IssuedState, Leg, LegId, PaidState};
use crate::message::{ArbiterRating, BoardRating, BondFate, Message, Rating, ReceiptStatus, Ruling};
use crate::refusal::{Refusal, Rule};
use crate::terms::OnSilence;

/// When the bid of this trade lapses.
pub(crate) fn bid_until(opening: &Opening) -> Unix {
    let until = Unix(opening.at.0.saturating_add(u64::from(opening.timeout_hours) * 3600));
    opening.quote_until.map_or(until, |quote| quote.min(until))
}

fn out_of_order() -> Refusal {
    Refusal::new(Rule::OutOfOrder, "the step that it answers is not known here")
}

/// Names the step of a message and checks that its author may say it in this trade.
pub(crate) fn step_of(d: &Dossier, envelope: &Envelope) -> Result<Step, Refusal> {
    let role = d.check_envelope(envelope)?;
    let (by, step) = match &envelope.message {
        Message::Listing(_) => return Err(Refusal::new(Rule::WrongTrade, "a listing is no step of a trade")),
        Message::Bid(m) => (Role::Payer, Step::Bid(m.round)),
        Message::Counter(m) => {
            if role == Role::Arbiter {
                return Err(Refusal::new(Rule::WrongAuthor, "an arbiter does not haggle"));
            }
            return counter_step(d, envelope, m.bid);
        }
        Message::Acceptance(m) => (Role::Payee, Step::Acceptance(bid_round(d, m.bid)?)),
        Message::PayeeBondInvoice(m) => (Role::Payer, Step::PayeeBondInvoice(acceptance_round(d, m.acceptance)?)),
        Message::PaymentConfirmation(m) => {
            let round = match d.opening.role {
                // The arbiter sees no acceptance: the hash says which round it is.
                Role::Arbiter => d.all_hashes().iter().find(|(hash, _)| *hash == m.payment_proof).map(|(_, l)| l.round),
                Role::Payer | Role::Payee => Some(acceptance_round(d, m.acceptance)?),
            };
            (Role::Payer, Step::PaymentConfirmation(round.ok_or_else(out_of_order)?))
        }
        Message::Dispute(_) if role != Role::Arbiter => (role, Step::Dispute),
        Message::MutualCancel(_) if role != Role::Arbiter => (role, Step::MutualCancel),
        Message::Rating(_) if role != Role::Arbiter => (role, Step::Rating),
        Message::ArbiterRating(_) if role != Role::Arbiter => (role, Step::ArbiterRating),
        Message::Handover(m) if role != Role::Arbiter => {
            let hash = m.secrets.first().map(units::Preimage::hash);
            let leg = d.all_hashes().into_iter().find(|(known, _)| Some(*known) == hash).map(|(_, leg)| leg);
            let leg = leg.ok_or_else(|| Refusal::new(Rule::SecretMismatch, "the secret opens no leg of this trade"))?;
            (role, Step::Handover(leg))
        }
        Message::BoardRating(_) | Message::Delisting(_) => {
            return Err(Refusal::new(Rule::WrongTrade, "that is said to everybody, it is no step of a trade"));
        }
        Message::Dispute(_)
        | Message::MutualCancel(_)
        | Message::Rating(_)
        | Message::ArbiterRating(_)
        | Message::Handover(_) => {
            return Err(Refusal::new(Rule::WrongAuthor, "an arbiter does not say this"));
        }
        Message::Receipt(m) if m.status == ReceiptStatus::Received => (Role::Payer, Step::Receipt),
        Message::Receipt(_) => (Role::Payer, Step::Dispute),
        Message::Refund(_) => (Role::Payee, Step::Refund),
        Message::AppointmentRequest(m) => (Role::Payer, Step::AppointmentRequest(m.bid.round)),
        Message::Appointment(m) => (Role::Arbiter, Step::Appointment(m.round)),
        Message::Ruling(_) => (Role::Arbiter, Step::Ruling),
        Message::Shipment(m) => {
            (Role::Payee, Step::Shipment(d.round_of_confirmation(m.payment).ok_or_else(out_of_order)?))
        }
    };
    if role != by {
        return Err(Refusal::new(Rule::WrongAuthor, "the author may not say this in this trade"));
    }
    if role == d.opening.role {
        return Err(Refusal::new(Rule::WrongAuthor, "that would be our own message"));
    }
    Ok(step)
}

fn counter_step(d: &Dossier, envelope: &Envelope, answers: MessageId) -> Result<Step, Refusal> {
    if envelope.author == d.me() {
        return Err(Refusal::new(Rule::WrongAuthor, "that would be our own message"));
    }
    let answered = d.said.iter().find(|s| s.id == answers).ok_or_else(out_of_order)?;
    match answered.step {
        Step::Bid(0) => Ok(Step::Counter(0)),
        Step::Counter(n) if n < crate::limits::COUNTERS_MAX => Ok(Step::Counter(n + 1)),
        Step::Counter(_) => Err(Refusal::new(Rule::TooMany, "this has been haggled over long enough")),
        _ => Err(Refusal::new(Rule::WrongTrade, "it answers no bid")),
    }
}

fn bid_round(d: &Dossier, bid: MessageId) -> Result<u8, Refusal> {
    match d.said.iter().find(|s| s.id == bid).map(|s| s.step) {
        Some(Step::Bid(round)) => Ok(round),
        Some(Step::Counter(_)) => Ok(0),
        Some(_) => Err(Refusal::new(Rule::WrongTrade, "it accepts no bid")),
        None => Err(out_of_order()),
    }
}

fn acceptance_round(d: &Dossier, acceptance: MessageId) -> Result<u8, Refusal> {
    match d.said.iter().find(|s| s.id == acceptance).map(|s| s.step) {
        Some(Step::Acceptance(round)) => Ok(round),
        Some(_) => Err(Refusal::new(Rule::WrongTrade, "it answers no acceptance")),
        None => Err(out_of_order()),
    }
}

/// The payer's last offer: its last counter, else its bid.
pub(crate) fn latest_offer(d: &Dossier) -> Option<MessageId> {
    last_counter(d, Role::Payer).map(|(_, id)| id).or_else(|| d.said(Role::Payer, Step::Bid(0)))
}

/// Position and id of the last counter of one side.
pub(crate) fn last_counter(d: &Dossier, role: Role) -> Option<(u8, MessageId)> {
    d.said.iter().filter(|s| d.role_of(s.author) == Some(role)).rev().find_map(|s| match s.step {
        Step::Counter(n) => Some((n, s.id)),
        _ => None,
    })
}

/// A copy of a message that already counts may bring secrets that the first copy did not have.
pub(crate) fn more_secrets(d: &Dossier, envelope: &Envelope) -> Result<Vec<Event>, Refusal> {
    match &envelope.message {
        Message::Receipt(_) | Message::Ruling(_) | Message::Handover(_) => d.learn(envelope.message.secrets()),
        _ => Ok(Vec::new()),
    }
}

/// A second, different word for one step counts for nothing, but secrets in it open what they open.
pub(crate) fn another_word(d: &Dossier, envelope: &Envelope, step: Step) -> Result<Vec<Event>, Refusal> {
    let learned = more_secrets(d, envelope).unwrap_or_default();
    match d.equivocation(envelope, step) {
        Err(refusal) if learned.is_empty() => Err(refusal),
        kept => Ok(learned.into_iter().chain(kept.unwrap_or_default()).collect()),
    }
}

/// Secrets of a ruling on a dispute that we never heard of, because whoever disputed kept it from us: what they open and our node
/// holds is ours all the same. Nothing else of such a ruling counts.
pub(crate) fn secrets_of_unheard_dispute(d: &Dossier, envelope: &Envelope) -> Option<Vec<Event>> {
    let Message::Ruling(m) = &envelope.message else { return None };
    let held = |hash| d.issued.iter().any(|i| i.hash == hash && i.held_until().is_some());
    if d.knows(m.dispute) || !m.secrets.iter().any(|preimage| held(preimage.hash())) {
        return None;
    }
    d.learn(&m.secrets).ok().filter(|learned| !learned.is_empty())
}

/// Every leg that we hold goes back unless it is already being settled.
pub(crate) fn unwind(d: &Dossier, why: Why) -> Vec<Event> {
    let mut events = vec![Event::Unwound { why }];
    events.extend(d.cancel_issued(|_| false));
    events
}

/// Adds the order to fail our legs back, those apart that are to be kept or that `events` cancels already.
pub(crate) fn add_cancels(d: &Dossier, events: &mut Vec<Event>, keep: impl Fn(LegId) -> bool) {
    let cancels = d.cancel_issued(keep);
    events.extend(cancels.into_iter().filter(|c| !events.contains(c)).collect::<Vec<_>>());
}

/// Both sides agreed to cancel.
pub(crate) fn both_canceled(d: &Dossier) -> bool {
    let counts =
        |role| d.said(role, Step::MutualCancel).is_some() || role == d.opening.role && d.ordered(Step::MutualCancel);
    counts(Role::Payer) && counts(Role::Payee)
}

/// Is there an arbiter, and would a ruling still come in time?
pub(crate) fn may_dispute(d: &Dossier, now: Now) -> Result<(), Refusal> {
    if d.opening.arbiter.is_none() {
        return Err(Refusal::new(Rule::NoArbiter, "a direct trade has no arbiter"));
    }
    if d.deadlines().is_some_and(|deadlines| now.height >= deadlines.hard) {
        return Err(Refusal::new(Rule::TooLate, "a ruling would come too late"));
    }
    Ok(())
}

/// A ruling that fits the trade.
pub(crate) struct Verdict {
    pub(crate) payee_tranches: u8,
    pub(crate) payer_bond: BondFate,
    pub(crate) payee_bond: BondFate,
}

impl Verdict {
    /// Checks that the ruling decides a dispute of this trade, or is exactly the agreed default on silence.
    pub(crate) fn of(d: &Dossier, ruling: &Ruling) -> Result<Verdict, Refusal> {
        let terms = d.terms();
        let mismatch = |why: &'static str| Refusal::new(Rule::TermsMismatch, why);
        if ruling.payee_tranches > terms.tranches {
            return Err(mismatch("it gives more tranches than there are"));
        }
        match d.said.iter().find(|s| s.id == ruling.dispute).map(|s| s.step) {
            Some(Step::Dispute) => {}
            Some(Step::Shipment(_)) => {
                let default = terms.on_silence == OnSilence::Release
                    && ruling.payee_tranches == terms.tranches
                    && ruling.payer_bond == BondFate::Return
                    && ruling.payee_bond == BondFate::Return;
                if !default {
                    return Err(mismatch("nobody disputed, and it is not the agreed default"));
                }
            }
            Some(_) => return Err(Refusal::new(Rule::WrongTrade, "it decides no dispute")),
            None => return Err(out_of_order()),
        }
        Ok(Verdict {
            payee_tranches: ruling.payee_tranches,
            payer_bond: ruling.payer_bond,
            payee_bond: ruling.payee_bond,
        })
    }
}

/// How a trade ended for payer or payee, from what became of the tranches of the price.
pub(crate) fn outcome(d: &Dossier, why: Option<Why>) -> Outcome {
    let tranches = d.terms().tranches;
    let moved = |tranche: u8| match d.opening.role {
        Role::Payer | Role::Arbiter => d
            .paid
            .iter()
            .any(|p| p.leg.leg == Leg::Price && p.leg.tranche == tranche && matches!(p.state, PaidState::Taken { .. })),
        Role::Payee => d
            .issued
            .iter()
            .any(|i| i.leg.leg == Leg::Price && i.leg.tranche == tranche && i.state == IssuedState::Settled),
    };
    let payee_tranches = u8::try_from((0..tranches).filter(|t| moved(*t)).count()).unwrap_or(tranches);
    if payee_tranches == tranches {
        Outcome::Settled
    } else if payee_tranches > 0 {
        Outcome::Split { payee_tranches }
    } else if d.locked {
        Outcome::Refunded
    } else if why == Some(Why::BidExpired) {
        Outcome::Expired
    } else {
        Outcome::Canceled
    }
}

/// A rating of the counterparty, tied to the message that ended the trade.
pub(crate) fn rate(
    d: &Dossier,
    outcome: Option<Outcome>,
    rating: u8,
    comment: &Option<String>,
    now: Now,
) -> Result<Vec<Event>, Refusal> {
    if outcome.is_none() {
        return Err(Refusal::new(Rule::WrongState, "a trade is rated when it is over"));
    }
    if d.ordered(Step::Rating) {
        return Err(Refusal::new(Rule::WrongState, "this trade has been rated already"));
    }
    if !d.locked {
        return Err(Refusal::new(Rule::WrongState, "no money was ever locked, so nothing backs a rating"));
    }
    let ends = [
        (Role::Payer, Step::Receipt, 313),
        (Role::Arbiter, Step::Ruling, 317),
        (Role::Payee, Step::Refund, 314),
        (Role::Payee, Step::MutualCancel, 315),
        (Role::Payer, Step::MutualCancel, 315),
    ];
    let Some((ended_by, ended_by_kind)) =
        ends.iter().find_map(|(role, step, kind)| d.said(*role, *step).map(|id| (id, *kind)))
    else {
        return Err(Refusal::new(
            Rule::WrongState,
            "nobody said the word that ends a trade, so nothing backs a rating",
        ));
    };
    let (other, subject) = match d.opening.role {
        Role::Payer => (Role::Payee, d.opening.payee),
        Role::Payee | Role::Arbiter => (Role::Payer, d.opening.payer),
    };
    let message = Message::Rating(Rating { subject, rating, comment: comment.clone(), ended_by, ended_by_kind });
    crate::limits::check(&message)?;
    Ok(vec![d.say(Step::Rating, message, now, [(other, Vec::new())])])
}

/// A rating of the arbiter, tied to its ruling, or else to its word that it serves.
pub(crate) fn rate_arbiter(
    d: &Dossier,
    outcome: Option<Outcome>,
    rating: u8,
    comment: &Option<String>,
    now: Now,
) -> Result<Vec<Event>, Refusal> {
    let Some(arbiter) = d.opening.arbiter else {
        return Err(Refusal::new(Rule::NoArbiter, "a direct trade has no arbiter"));
    };
    if outcome.is_none() {
        return Err(Refusal::new(Rule::WrongState, "a trade is rated when it is over"));
    }
    if d.ordered(Step::ArbiterRating) {
        return Err(Refusal::new(Rule::WrongState, "the arbiter has been rated already"));
    }
    let ruling = d.said(Role::Arbiter, Step::Ruling).map(|id| (id, 317));
    let Some((about, about_kind)) = ruling.or(d.said(Role::Arbiter, Step::Appointment(0)).map(|id| (id, 316))) else {
        return Err(Refusal::new(Rule::NotAppointed, "the arbiter said nothing in this trade"));
    };
    let rating = ArbiterRating { arbiter, rating, comment: comment.clone(), about, about_kind };
    let message = Message::ArbiterRating(rating);
    crate::limits::check(&message)?;
    let other = if d.opening.role == Role::Payer { Role::Payee } else { Role::Payer };
    Ok(vec![d.say(Step::ArbiterRating, message, now, [(Role::Arbiter, Vec::new()), (other, Vec::new())])])
}

/// A rating of a board, for everybody to read, tied to a payment of a trade that was made there.
pub(crate) fn rate_board(
    d: &Dossier,
    outcome: Option<Outcome>,
    url: &str,
    rating: u8,
    comment: &Option<String>,
    now: Now,
) -> Result<Vec<Event>, Refusal> {
    if outcome.is_none() || !d.locked {
        return Err(Refusal::new(Rule::WrongState, "a board is rated after a trade in which money was locked"));
    }
    if d.ordered(Step::BoardRating) {
        return Err(Refusal::new(Rule::WrongState, "a board has been rated for this trade already"));
    }
    let (Some(about), Some(payment)) = (d.confirmation(), d.hash_of(LegId::price(0, 0))) else {
        return Err(Refusal::new(Rule::WrongState, "nothing was paid in this trade"));
    };
    let rating = BoardRating { url: url.to_owned(), rating, comment: comment.clone(), about, payment };
    let message = Message::BoardRating(rating);
    crate::limits::check(&message)?;
    Ok(vec![d.say(Step::BoardRating, message, now, [])])
}

//! Our service as an arbiter, counted from the log; and, where our user wants that, claimed in public once a day. Beside it what our
//! own trades saw of the arbiters that served in them.

use std::collections::BTreeMap;

use reputation::{Claim, Service, has_ruled};
use trade::{Arbiter, Event, FeeState, Notice, PartyKey, Role, Step, Trade, TradeId};
use units::{Sat, Unix};

use super::{DeskError, Loop};
use crate::api::arbiter::SeenView;
use crate::clock;
use crate::store::mirrors::Told;

const DAY_SECS: u64 = 24 * 3600;
/// How the claim is called among what is said anew.
const CLAIM: &str = "arbiter";

/// What is known beside the trades themselves.
#[derive(Default)]
pub(super) struct Known {
    /// How long disputes waited for our ruling, in seconds: the log is read once for each.
    ruled_in: BTreeMap<TradeId, u64>,
    /// The day on which the claim was compared last.
    day: Option<u64>,
}

impl Loop {
    /// What we did as an arbiter.
    pub(super) fn service(&mut self) -> Result<Service, DeskError> {
        let unread = |arbiter: &&Arbiter| {
            has_ruled(arbiter) && !self.service.ruled_in.contains_key(&arbiter.dossier.opening.trade)
        };
        let unread: Vec<_> = self.served().filter(unread).map(|arbiter| arbiter.dossier.opening.trade).collect();
        for trade in unread {
            if let Some(secs) = self.ruled_in(trade)? {
                self.service.ruled_in.insert(trade, secs);
            }
        }
        let ruled_in = |arbiter: &Arbiter| self.service.ruled_in.get(&arbiter.dossier.opening.trade).copied();
        Ok(Service::of(self.served(), ruled_in))
    }

    fn served(&self) -> impl Iterator<Item = &Arbiter> {
        self.desk.trades().filter_map(|trade| match trade {
            Trade::Arbiter(arbiter) => Some(&**arbiter),
            Trade::Payer(_) | Trade::Payee(_) => None,
        })
    }

    /// Seconds from the first word of a dispute to our ruling, by our own clock.
    fn ruled_in(&self, trade: TradeId) -> Result<Option<u64>, DeskError> {
        let entries = tokio::task::block_in_place(|| self.parts.store.entries_of(trade))?;
        let (mut heard, mut ruled) = (None, None);
        for entry in entries {
            let Some(body) = entry.body else { continue };
            match serde_json::from_slice(&body)? {
                Event::MessageTaken { step: Step::Dispute, .. } => heard = heard.or(Some(entry.at.unix)),
                Event::MessageOrdered(outgoing) if outgoing.step == Step::Ruling => ruled = Some(entry.at.unix),
                _ => {}
            }
        }
        Ok(heard.zip(ruled).map(|(heard, ruled)| ruled.0.saturating_sub(heard.0)))
    }

    /// Says anew what we did, when it is another day and something else; takes it back when our user does not want it said any more.
    pub(super) fn claim_service(&mut self) -> Result<(), DeskError> {
        let day = clock::unix().0 / DAY_SECS;
        if self.service.day.replace(day) == Some(day) {
            return Ok(());
        }
        let told = self.parts.store.told_elsewhere(CLAIM)?;
        let publishes = self.parts.arbiter.as_ref().is_some_and(|config| config.publish);
        if !publishes && told.is_none() {
            return Ok(());
        }
        let service = if publishes { self.service()? } else { Service::default() };
        let me = self.parts.keyring.identity();
        let say = |at: Unix| match &self.parts.arbiter {
            Some(config) if publishes => Claim {
                arbiter: me,
                at,
                policy: config.policy.clone(),
                fee: Sat(config.fee),
                fee_ppm: config.fee_ppm,
                service: service.clone(),
            }
            .event(),
            Some(_) | None => Claim::deletion(me, at),
        };
        let what = say(Unix(0)).id();
        if told.is_some_and(|told| told.what == what) {
            return Ok(());
        }
        let Some(key) = self.parts.keyring.pair(&me) else { return Ok(()) };
        // Readers keep the newest version; two of one second would leave it to chance which.
        let at = told.map_or(clock::unix(), |told| clock::unix().max(Unix(told.at.0 + 1)));
        let told = Told { at, since: told.map_or(at, |told| told.since), what };
        Ok(self.couriers.say_anew(CLAIM, &told, &say(at).sign(key, &[0; 32]))?)
    }

    /// What our own trades saw of their arbiters, once money was locked.
    pub(super) fn seen_arbiters(&self) -> BTreeMap<PartyKey, SeenView> {
        let mut seen = BTreeMap::<PartyKey, SeenView>::new();
        for trade in self.desk.trades() {
            let dossier = trade.dossier();
            let Some(arbiter) = dossier.opening.arbiter.filter(|_| trade.role() != Role::Arbiter) else { continue };
            let paid = dossier.fee.as_ref().filter(|fee| fee.state == FeeState::Paid).map_or(0, |fee| fee.amount.0);
            if !dossier.locked && paid == 0 {
                continue;
            }
            let of = seen.entry(arbiter).or_default();
            of.fees_sat = Sat(of.fees_sat.0.saturating_add(paid));
            of.trades += u64::from(dossier.locked);
            let disputed = [Role::Payer, Role::Payee].iter().any(|side| {
                dossier.said(*side, Step::Dispute).is_some()
                    || (trade.role() == *side && dossier.ordered(Step::Dispute))
            });
            of.disputed += u64::from(disputed);
            of.silent += u64::from(dossier.notices.iter().any(|(notice, _)| *notice == Notice::ArbiterSilent));
            // A ruling without a dispute is the default on silence.
            if let Some(ruling) = dossier.ruling.as_ref().filter(|_| disputed) {
                match ruling.payee_tranches {
                    0 => of.for_payer += 1,
                    all if all == dossier.terms().tranches => of.for_payee += 1,
                    _ => of.split += 1,
                }
            }
        }
        seen
    }
}

//! What is owed and not done yet: which trades have to be looked at, what of them is under way, and what rests.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tokio::time::Instant;
use trade::{Effect, TradeId};

use crate::effects;

/// First and longest rest of an effect that could not be carried out.
const REST_FIRST: Duration = Duration::from_millis(100);
const REST_LAST: Duration = Duration::from_secs(30);

/// An effect of a trade: what it rests or is under way by.
pub(super) type Owed = (TradeId, String);

/// What an effect waits for that is not carried out yet.
enum Wait {
    /// A board's confirmation.
    UnderWay,
    /// It could not be carried out: when to try again, and how long it rested.
    Rests(Instant, Duration),
}

/// Effects that wait, and trades with some that may not. What a trade owes changes only when something is recorded in it, so only
/// trades in which something was, or of which something has rested, are looked at.
pub(super) struct Docket {
    stirred: BTreeSet<TradeId>,
    waiting: BTreeMap<TradeId, BTreeMap<String, Wait>>,
    /// When trades are looked at because something of them has rested.
    wakes: BTreeSet<(Instant, TradeId)>,
}

impl Docket {
    /// Everything that `owing` trades owe is due.
    pub(super) fn new(owing: impl IntoIterator<Item = TradeId>) -> Docket {
        Docket { stirred: owing.into_iter().collect(), waiting: BTreeMap::new(), wakes: BTreeSet::new() }
    }

    /// What a trade owes may have changed.
    pub(super) fn stir(&mut self, trade: TradeId) {
        self.stirred.insert(trade);
    }

    /// Stirs the trades of which something has rested.
    pub(super) fn wake(&mut self, now: Instant) {
        while let Some((at, trade)) = self.wakes.first().copied()
            && at <= now
        {
            self.wakes.pop_first();
            self.stirred.insert(trade);
        }
    }

    /// Until something has rested; none when nothing rests.
    pub(super) fn next_wake(&self, now: Instant) -> Option<Duration> {
        self.wakes.first().map(|(at, _)| at.saturating_duration_since(now))
    }

    /// The first trade that has to be looked at.
    pub(super) fn stirred(&self) -> Option<TradeId> {
        self.stirred.first().copied()
    }

    /// Nothing of a trade can be carried out now.
    pub(super) fn settle(&mut self, trade: TradeId) {
        self.stirred.remove(&trade);
    }

    /// What rested and is not among what a trade owes any more is forgotten.
    pub(super) fn forget_all_but(&mut self, trade: TradeId, owed: &[Effect]) {
        let Some(waiting) = self.waiting.get_mut(&trade) else { return };
        let owed: BTreeSet<_> = owed.iter().map(effects::in_words).collect();
        waiting.retain(|what, wait| matches!(wait, Wait::UnderWay) || owed.contains(what));
        if waiting.is_empty() {
            self.waiting.remove(&trade);
        }
    }

    /// The first of what a trade owes that neither waits nor was tried in this turn, which began at `now`.
    pub(super) fn due(
        &self,
        trade: TradeId,
        owed: Vec<Effect>,
        tried: &BTreeSet<Owed>,
        now: Instant,
    ) -> Option<(Owed, Effect)> {
        let waiting = self.waiting.get(&trade);
        owed.into_iter().map(|effect| ((trade, effects::in_words(&effect)), effect)).find(|(owed, _)| {
            let waits = match waiting.and_then(|waiting| waiting.get(&owed.1)) {
                Some(Wait::UnderWay) => true,
                Some(Wait::Rests(until, _)) => *until > now,
                None => false,
            };
            !waits && !tried.contains(owed)
        })
    }

    /// It is on its way to the boards.
    pub(super) fn under_way(&mut self, (trade, what): Owed) {
        self.waiting.entry(trade).or_default().insert(what, Wait::UnderWay);
    }

    /// It waits no longer: carried out, or to be tried anew.
    pub(super) fn waits_no_longer(&mut self, (trade, what): &Owed) {
        self.stirred.insert(*trade);
        let Some(waiting) = self.waiting.get_mut(trade) else { return };
        waiting.remove(what);
        if waiting.is_empty() {
            self.waiting.remove(trade);
        }
    }

    /// An effect that is still owed rests, longer each time, so that one that cannot be carried out does not spin.
    pub(super) fn rest(&mut self, (trade, what): Owed, now: Instant) {
        let waiting = self.waiting.entry(trade).or_default();
        let rest = match waiting.get(&what) {
            Some(Wait::Rests(_, rest)) => (*rest * 2).min(REST_LAST),
            Some(Wait::UnderWay) | None => REST_FIRST,
        };
        waiting.insert(what, Wait::Rests(now + rest, rest));
        self.wakes.insert((now + rest, trade));
    }
}

#[cfg(test)]
mod tests {
    use trade::Notice;

    use super::*;

    const TRADE: TradeId = TradeId([1; 32]);

    fn owed() -> Vec<Effect> {
        vec![Effect::Warn(Notice::ArbiterSilent)]
    }

    #[test]
    fn what_could_not_be_done_rests_longer_each_time_and_its_trade_is_looked_at_then() {
        let (mut docket, now, nothing) = (Docket::new([TRADE]), Instant::now(), BTreeSet::new());
        let (what, _) = docket.due(TRADE, owed(), &nothing, now).unwrap();
        assert!(docket.due(TRADE, owed(), &BTreeSet::from([what.clone()]), now).is_none(), "once in a turn");
        docket.rest(what.clone(), now);
        docket.settle(TRADE);
        assert!(docket.due(TRADE, owed(), &nothing, now).is_none());
        assert_eq!((docket.stirred(), docket.next_wake(now)), (None, Some(REST_FIRST)));
        docket.wake(now + REST_FIRST);
        assert_eq!((docket.stirred(), docket.next_wake(now)), (Some(TRADE), None));
        assert!(docket.due(TRADE, owed(), &nothing, now + REST_FIRST).is_some());
        docket.rest(what, now + REST_FIRST);
        assert_eq!(docket.next_wake(now + REST_FIRST), Some(REST_FIRST * 2));
    }

    #[test]
    fn what_is_not_owed_any_more_forgets_how_long_it_rested() {
        let (mut docket, now, nothing) = (Docket::new([]), Instant::now(), BTreeSet::new());
        let (what, _) = docket.due(TRADE, owed(), &nothing, now).unwrap();
        docket.rest(what, now);
        docket.forget_all_but(TRADE, &[]);
        assert!(docket.due(TRADE, owed(), &nothing, now).is_some());
    }

    #[test]
    fn what_is_under_way_is_not_sent_again_until_it_waits_no_longer() {
        let (mut docket, now, nothing) = (Docket::new([]), Instant::now(), BTreeSet::new());
        let (what, _) = docket.due(TRADE, owed(), &nothing, now).unwrap();
        docket.under_way(what.clone());
        docket.forget_all_but(TRADE, &[]);
        assert!(docket.due(TRADE, owed(), &nothing, now).is_none());
        docket.waits_no_longer(&what);
        assert_eq!(docket.stirred(), Some(TRADE));
        assert!(docket.due(TRADE, owed(), &nothing, now).is_some());
    }
}

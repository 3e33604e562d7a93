//! Deadlines of a lock, as heights: everything is reckoned back from the lowest expiry of its HTLCs.

use serde::Serialize;
use units::Height;

/// Blocks that a day of shipping is reckoned with.
pub(crate) const BLOCKS_PER_DAY: u32 = 144;

/// The blocks in which we act of our own accord before the node would act by itself.
pub const ACT_MARGIN: u32 = 6;

/// Most blocks that a reorganisation is reckoned to take away.
pub const REORG_BLOCKS: u32 = 3;

/// The largest margin that a known backend has: what an arbiter, who sees no node, reckons with.
pub const AUTO_CANCEL_MARGIN_MAX: u32 = 39;

/// Deadlines of one lock.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Deadlines {
    /// `H_exp`: lowest expiry of the HTLCs, as the node reports it (for a leg that we pay: the earliest it can be).
    pub expiry: Height,
    /// `D_hard`: our node has settled or failed the leg.
    pub hard: Height,
    /// `D_rule`: the ruling or the agreed default is applied.
    pub rule: Height,
    /// `D_warn`: both are warned, a re-lock is offered; who has not shipped may no longer.
    pub warn: Height,
}

impl Deadlines {
    /// From the expiry, the node's own margin (blocks before expiry at which it fails an HTLC by itself) and the agreed
    /// length of the lock.
    pub fn of(expiry: Height, auto_cancel_margin: u32, lock_blocks: u16) -> Deadlines {
        let lock_blocks = u32::from(lock_blocks);
        let hard = expiry.minus(auto_cancel_margin).minus(ACT_MARGIN);
        let rule = hard.minus((lock_blocks / 10).min(72));
        let warn = rule.minus((lock_blocks / 5).min(144));
        Deadlines { expiry, hard, rule, warn }
    }

    /// The first of them after `now`.
    pub fn next_after(&self, now: Height) -> Option<Height> {
        [self.warn, self.rule, self.hard].into_iter().find(|deadline| *deadline > now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deadlines_keep_their_distance_for_short_and_long_locks() {
        let short = Deadlines::of(Height(1144), 39, 144);
        assert_eq!((short.hard, short.rule, short.warn), (Height(1099), Height(1085), Height(1057)));
        let long = Deadlines::of(Height(3016), 18, 2016);
        assert_eq!((long.hard, long.rule, long.warn), (Height(2992), Height(2920), Height(2776)));
        assert_eq!(long.next_after(Height(2776)), Some(Height(2920)));
        assert_eq!(long.next_after(Height(2992)), None);
    }
}

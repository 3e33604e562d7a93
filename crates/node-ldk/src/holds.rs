//! Hold invoices: what is recorded of each, and the decision that every event asks for. No IO.

use lightning::chain::channelmonitor::HTLC_FAIL_BACK_BUFFER;
use node::{HoldInvoice, HoldState};
use units::{Height, Msat, Now, PaymentHash, Preimage, Unix};

/// Blocks after the expiry of a payment that a channel of the past holds, until which a claim on chain may still become final.
const PAST_CLAIM_BLOCKS: u32 = 144;

/// Where a hold stands. `Settling` is an intent on disk that LDK has yet to confirm.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    Open,
    Accepted,
    Settling,
    Settled,
    Canceled,
}

impl Phase {
    /// The number that the store keeps; below 3 is not final.
    pub(crate) fn code(self) -> u8 {
        match self {
            Phase::Open => 0,
            Phase::Accepted => 1,
            Phase::Settling => 2,
            Phase::Settled => 3,
            Phase::Canceled => 4,
        }
    }

    pub(crate) fn from_code(code: u8) -> Option<Phase> {
        [Phase::Open, Phase::Accepted, Phase::Settling, Phase::Settled, Phase::Canceled]
            .into_iter()
            .find(|phase| phase.code() == code)
    }

    pub(crate) fn is_final(self) -> bool {
        matches!(self, Phase::Settled | Phase::Canceled)
    }
}

/// Everything the node remembers of one hold invoice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct HoldRow {
    pub(crate) hash: PaymentHash,
    pub(crate) phase: Phase,
    pub(crate) amount: Msat,
    pub(crate) min_final_cltv: u16,
    pub(crate) expires: Unix,
    pub(crate) invoice: String,
    pub(crate) received: Option<Msat>,
    /// Height at which LDK fails the payment back by itself.
    pub(crate) claim_deadline: Option<u32>,
    /// LDK's id of the HTLC set: the same for a redelivered event, another for a second payment. None for what a channel of the past
    /// holds ([`crate::salvage`]).
    pub(crate) claim_id: Option<[u8; 32]>,
    /// Kept from the order to settle until the claim is confirmed.
    pub(crate) preimage: Option<Preimage>,
}

/// A complete payment that LDK holds for us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Claimable {
    pub(crate) amount: Msat,
    pub(crate) claim_deadline: Option<u32>,
    pub(crate) claim_id: Option<[u8; 32]>,
}

/// What to do with a complete payment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Record it as accepted.
    Accept,
    /// Known already: nothing to do.
    Known,
    /// An order to settle stands: claim.
    Claim,
    /// Fail it back, for this reason.
    FailBack(&'static str),
    /// The accepted payment must be gone, since another took its place: fail this one back and record the loss.
    Replaced,
}

impl HoldRow {
    /// Decides about a complete payment on this hash.
    pub(crate) fn judge(&self, paid: &Claimable, now: Now) -> Verdict {
        match self.phase {
            Phase::Open => self.judge_first(paid, now),
            Phase::Accepted if self.claim_id == paid.claim_id => Verdict::Known,
            Phase::Accepted => Verdict::Replaced,
            Phase::Settling if self.claim_id == paid.claim_id => Verdict::Claim,
            Phase::Settling => Verdict::FailBack("another payment is being settled"),
            Phase::Settled => Verdict::FailBack("paid before"),
            Phase::Canceled => Verdict::FailBack("canceled"),
        }
    }

    fn judge_first(&self, paid: &Claimable, now: Now) -> Verdict {
        let Some(deadline) = paid.claim_deadline else { return Verdict::FailBack("no claim deadline") };
        let window = expiry_of(deadline).blocks_after(now.height);
        if paid.amount != self.amount {
            Verdict::FailBack("wrong amount")
        } else if now.unix > self.expires {
            Verdict::FailBack("invoice expired")
        } else if window < u32::from(self.min_final_cltv) {
            Verdict::FailBack("too few blocks")
        } else {
            Verdict::Accept
        }
    }

    /// Records that the payment is held.
    pub(crate) fn accept(&mut self, paid: &Claimable) {
        self.phase = Phase::Accepted;
        self.received = Some(paid.amount);
        self.claim_deadline = paid.claim_deadline;
        self.claim_id = paid.claim_id;
    }

    /// Records the end; the preimage has done its work.
    pub(crate) fn finish(&mut self, phase: Phase) {
        self.phase = phase;
        self.preimage = None;
    }

    /// The invoice can no longer be paid.
    pub(crate) fn lapsed(&self, now: Unix) -> bool {
        self.phase == Phase::Open && now > self.expires
    }

    /// A channel of the past holds it: LDK's manager knows nothing of it, and only the chain can bring it.
    pub(crate) fn is_past(&self) -> bool {
        matches!(self.phase, Phase::Accepted | Phase::Settling) && self.claim_id.is_none()
    }

    /// LDK has failed the payment back by itself: it does so when the tip reaches the deadline.
    pub(crate) fn timed_out(&self, tip: Height) -> bool {
        let deadline = self.claim_deadline.unwrap_or(u32::MAX);
        match self.phase {
            Phase::Accepted => tip.0 >= deadline,
            // The other side can take it back from its expiry on; a claim that was first may need a while to be deep enough.
            Phase::Settling if self.is_past() => tip >= expiry_of(deadline).plus(PAST_CLAIM_BLOCKS),
            // A claim that LDK took before the deadline is confirmed within moments, on chain claims included.
            Phase::Settling => tip.0 >= deadline.saturating_add(HTLC_FAIL_BACK_BUFFER),
            _ => false,
        }
    }

    /// What the caller sees.
    pub(crate) fn view(&self) -> HoldInvoice {
        let state = match self.phase {
            Phase::Open => HoldState::Open,
            Phase::Accepted | Phase::Settling => HoldState::Accepted,
            Phase::Settled => HoldState::Settled,
            Phase::Canceled => HoldState::Canceled,
        };
        let held = state == HoldState::Accepted;
        HoldInvoice {
            hash: self.hash,
            state,
            amount: self.amount,
            received: self.received.filter(|_| held || state == HoldState::Settled),
            expiry_height: self.claim_deadline.filter(|_| held).map(expiry_of),
            invoice: self.invoice.clone(),
            doubtful: self.is_past(),
        }
    }
}

/// LDK's deadline is a fixed number of blocks before the lowest expiry of the HTLCs.
fn expiry_of(claim_deadline: u32) -> Height {
    Height(claim_deadline).plus(HTLC_FAIL_BACK_BUFFER)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open() -> HoldRow {
        HoldRow {
            hash: PaymentHash([1; 32]),
            phase: Phase::Open,
            amount: Msat(50_000),
            min_final_cltv: 144,
            expires: Unix(1_000),
            invoice: String::new(),
            received: None,
            claim_deadline: None,
            claim_id: None,
            preimage: None,
        }
    }

    fn paid(amount: u64, expiry: u32, id: u8) -> Claimable {
        Claimable {
            amount: Msat(amount),
            claim_deadline: Some(expiry - HTLC_FAIL_BACK_BUFFER),
            claim_id: Some([id; 32]),
        }
    }

    fn now(height: u32, unix: u64) -> Now {
        Now { height: Height(height), unix: Unix(unix) }
    }

    #[test]
    fn only_the_exact_amount_in_time_with_enough_blocks_is_accepted() {
        let row = open();
        assert_eq!(row.judge(&paid(50_000, 244, 1), now(100, 1_000)), Verdict::Accept);
        assert_eq!(row.judge(&paid(50_001, 244, 1), now(100, 1_000)), Verdict::FailBack("wrong amount"));
        assert_eq!(row.judge(&paid(50_000, 243, 1), now(100, 1_000)), Verdict::FailBack("too few blocks"));
        assert_eq!(row.judge(&paid(50_000, 244, 1), now(100, 1_001)), Verdict::FailBack("invoice expired"));
    }

    #[test]
    fn an_event_told_twice_changes_nothing_and_a_second_payment_is_failed_back() {
        let mut row = open();
        row.accept(&paid(50_000, 300, 1));
        assert_eq!(row.judge(&paid(50_000, 300, 1), now(100, 0)), Verdict::Known);
        assert_eq!(row.judge(&paid(50_000, 300, 2), now(100, 0)), Verdict::Replaced);
        row.phase = Phase::Settling;
        assert_eq!(row.judge(&paid(50_000, 300, 1), now(100, 0)), Verdict::Claim);
        row.finish(Phase::Settled);
        assert_eq!(row.judge(&paid(50_000, 300, 1), now(100, 0)), Verdict::FailBack("paid before"));
    }

    #[test]
    fn the_expiry_height_is_that_of_the_htlc_and_the_deadline_ends_the_hold() {
        let mut row = open();
        row.accept(&paid(50_000, 300, 1));
        assert_eq!(row.view().expiry_height, Some(Height(300)));
        assert!(!row.timed_out(Height(300 - HTLC_FAIL_BACK_BUFFER - 1)));
        assert!(row.timed_out(Height(300 - HTLC_FAIL_BACK_BUFFER)));
        row.finish(Phase::Canceled);
        assert_eq!(row.view().expiry_height, None);
        assert_eq!(row.view().received, None);
    }
}

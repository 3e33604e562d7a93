//! What every [`Node`] promises, as one suite that any backend can be put through. It panics where a promise is broken.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures::StreamExt;
use units::{Height, Msat, PaymentHash, Preimage};

use crate::{
    HoldInvoice, HoldInvoiceRequest, HoldState, InvoiceRequest, Node, NodeError, NodeEvent, OfferRequest, PayLimits,
    Payable, Payment, PaymentId, PaymentState,
};

/// Longest wait for anything.
const PATIENCE: Duration = Duration::from_secs(60);
/// Pause between two looks.
const LOOK: Duration = Duration::from_millis(10);
/// What is paid in each story.
const AMOUNT: Msat = Msat(20_000_000);
/// Blocks that each hold asks for.
const BLOCKS: u16 = 144;

/// Two nodes that can pay each other, and the world around them.
#[async_trait]
pub trait Pair: Send + Sync {
    /// The node that pays: at least 500,000 sat outbound towards the other.
    fn payer(&self) -> Arc<dyn Node>;
    /// The node that is paid.
    fn payee(&self) -> Arc<dyn Node>;
    /// Finds blocks and waits until both nodes have seen them.
    async fn mine(&self, blocks: u32);
    /// Lets so much time pass.
    async fn pass_time(&self, secs: u64);
    /// Pays the invoice so that it arrives with too few blocks; false when that cannot be arranged.
    async fn pay_late(&self, invoice: &str) -> bool;
    /// 32 bytes that were never used before.
    fn fresh(&self) -> [u8; 32];
}

/// Puts a backend through everything that the trait's documentation promises.
pub async fn run(pair: &dyn Pair) {
    let story = Story { pair, payer: pair.payer(), payee: pair.payee() };
    story.a_hold_is_accepted_and_settled().await;
    story.a_hold_is_accepted_and_canceled().await;
    story.an_unpaid_hold_is_canceled_and_refuses_what_comes_after().await;
    story.a_settled_hold_is_not_paid_twice().await;
    story.another_amount_is_refused().await;
    story.an_expired_invoice_is_closed().await;
    story.what_nobody_knows_is_not_found().await;
    story.an_ordinary_invoice_settles_by_itself().await;
    story.an_offer_is_paid().await;
    story.events_start_with_the_present().await;
    story.a_payment_with_too_few_blocks_is_failed_back().await;
    story.a_hold_is_failed_back_before_its_htlc_expires().await;
}

struct Story<'a> {
    pair: &'a dyn Pair,
    payer: Arc<dyn Node>,
    payee: Arc<dyn Node>,
}

/// Waits until `look` finds something.
async fn until<T, F: Future<Output = Option<T>>>(what: &str, mut look: impl FnMut() -> F) -> T {
    let found = tokio::time::timeout(PATIENCE, async {
        loop {
            if let Some(found) = look().await {
                return found;
            }
            tokio::time::sleep(LOOK).await;
        }
    });
    match found.await {
        Ok(found) => found,
        Err(_) => panic!("waited {PATIENCE:?} in vain: {what}"),
    }
}

fn rejected<T: std::fmt::Debug>(outcome: crate::Result<T>, what: &str) {
    assert!(matches!(outcome, Err(NodeError::Rejected(_))), "{what} must be rejected: {outcome:?}");
}

impl Story<'_> {
    async fn hold(&self, expiry_secs: u32) -> (Preimage, PaymentHash, String) {
        let preimage = Preimage::new(self.pair.fresh());
        let hash = preimage.hash();
        let request = request(hash, AMOUNT, expiry_secs);
        let invoice = self.payee.create_hold_invoice(request).await.expect("a hold invoice is made");
        (preimage, hash, invoice)
    }

    async fn pay(&self, invoice: &str) -> crate::Result<PaymentId> {
        self.payer.pay(Payable::Bolt11 { invoice: invoice.into(), amount: None }, PayLimits::default()).await
    }

    async fn held(&self, expiry_secs: u32) -> (Preimage, PaymentHash, String, PaymentId, HoldInvoice) {
        let (preimage, hash, invoice) = self.hold(expiry_secs).await;
        let id = self.pay(&invoice).await.expect("a hold invoice can be paid");
        let hold = self.hold_becomes(hash, HoldState::Accepted).await;
        (preimage, hash, invoice, id, hold)
    }

    async fn hold_becomes(&self, hash: PaymentHash, state: HoldState) -> HoldInvoice {
        until(&format!("a hold to become {state:?}"), || async {
            let hold = self.payee.lookup(hash).await.expect("a hold is known");
            (hold.state == state).then_some(hold)
        })
        .await
    }

    async fn payment_ends(&self, id: PaymentId) -> Payment {
        until("a payment to end", || async {
            let payment = self.payer.lookup_payment(id).await.expect("a payment is known");
            (payment.state != PaymentState::InFlight).then_some(payment)
        })
        .await
    }

    async fn payment_fails(&self, id: PaymentId) {
        let payment = self.payment_ends(id).await;
        assert!(matches!(payment.state, PaymentState::Failed { .. }), "the payment must fail: {payment:?}");
    }

    /// Paying is refused at once, or fails; a hold at the payee stays as it is.
    async fn cannot_be_paid(&self, invoice: &str) {
        match self.pay(invoice).await {
            Ok(id) => self.payment_fails(id).await,
            refused => rejected(refused, "what cannot be paid"),
        }
    }

    async fn height(&self) -> Height {
        self.payee.info().await.expect("the node tells its height").height
    }

    async fn a_hold_is_accepted_and_settled(&self) {
        let (preimage, hash, invoice) = self.hold(3600).await;
        let again = self.payee.create_hold_invoice(request(hash, AMOUNT, 3600)).await;
        assert!(again.is_ok(), "the same request again: {again:?}");
        let other = self.payee.create_hold_invoice(request(hash, Msat(AMOUNT.0 + 1), 3600)).await;
        rejected(other, "the same hash for another amount");
        let open = self.payee.lookup(hash).await.expect("an unpaid hold is known");
        assert_eq!((open.state, open.amount, open.received), (HoldState::Open, AMOUNT, None));
        rejected(self.payee.settle(preimage.clone()).await, "settling what nobody has paid");

        let arrival = self.height().await;
        let id = self.pay(&invoice).await.expect("a hold invoice can be paid");
        assert_eq!(id, PaymentId::from(hash), "a BOLT11 payment is named by its hash");
        let hold = self.hold_becomes(hash, HoldState::Accepted).await;
        assert_eq!(hold.received, Some(AMOUNT));
        let expiry = hold.expiry_height.expect("an accepted hold has an expiry");
        assert!(expiry.blocks_after(arrival) >= u32::from(BLOCKS), "{expiry} leaves too few blocks after {arrival}");
        assert_eq!(self.pay(&invoice).await, Ok(id), "paying what is in flight starts nothing");
        let payment = self.payer.lookup_payment(id).await.expect("a payment is known");
        assert_eq!((payment.state, payment.amount), (PaymentState::InFlight, AMOUNT));

        self.payee.settle(preimage.clone()).await.expect("a held payment can be settled");
        let hold = self.hold_becomes(hash, HoldState::Settled).await;
        assert_eq!((hold.received, hold.expiry_height), (Some(AMOUNT), None));
        match self.payment_ends(id).await.state {
            PaymentState::Succeeded { preimage: told, .. } => assert_eq!(told, preimage),
            other => panic!("a settled payment succeeds: {other:?}"),
        }
        self.payee.settle(preimage).await.expect("settling again is no error");
        rejected(self.payee.cancel(hash).await, "canceling what was settled");
    }

    async fn a_hold_is_accepted_and_canceled(&self) {
        let (preimage, hash, invoice, id, _) = self.held(3600).await;
        self.payee.cancel(hash).await.expect("a held payment can be canceled");
        let hold = self.hold_becomes(hash, HoldState::Canceled).await;
        assert_eq!((hold.received, hold.expiry_height), (None, None));
        self.payment_fails(id).await;
        self.payee.cancel(hash).await.expect("canceling again is no error");
        rejected(self.payee.settle(preimage).await, "settling what was canceled");
        self.cannot_be_paid(&invoice).await;
        self.hold_becomes(hash, HoldState::Canceled).await;
    }

    async fn an_unpaid_hold_is_canceled_and_refuses_what_comes_after(&self) {
        let (_, hash, invoice) = self.hold(3600).await;
        self.payee.cancel(hash).await.expect("an unpaid hold can be canceled");
        self.cannot_be_paid(&invoice).await;
        self.hold_becomes(hash, HoldState::Canceled).await;
    }

    async fn a_settled_hold_is_not_paid_twice(&self) {
        let (preimage, _, invoice, id, _) = self.held(3600).await;
        self.payee.settle(preimage).await.expect("a held payment can be settled");
        self.payment_ends(id).await;
        let before = self.payer.list_payments(usize::MAX).await.expect("payments can be listed");
        assert!(before.is_sorted_by(|newer, older| newer.created >= older.created), "newest first");
        assert_eq!(self.pay(&invoice).await, Ok(id), "paying what is paid starts nothing");
        let payment = self.payer.lookup_payment(id).await.expect("a payment is known");
        assert!(matches!(payment.state, PaymentState::Succeeded { .. }), "it stays paid: {payment:?}");
        assert_eq!(self.payer.list_payments(usize::MAX).await, Ok(before), "nothing was started");
        assert_eq!(self.payer.list_payments(1).await.map(|newest| newest.len()), Ok(1), "at most as many as asked for");
    }

    async fn another_amount_is_refused(&self) {
        let (_, hash, invoice) = self.hold(3600).await;
        let wrong = Payable::Bolt11 { invoice, amount: Some(Msat(AMOUNT.0 - 1)) };
        rejected(self.payer.pay(wrong, PayLimits::default()).await, "another amount than the invoice's");
        assert_eq!(self.payee.lookup(hash).await.map(|hold| hold.state), Ok(HoldState::Open));
        let (_, _, invoice) = self.hold(3600).await;
        let stingy = PayLimits { max_total_cltv: u32::from(BLOCKS) / 2, ..PayLimits::default() };
        rejected(
            self.payer.pay(Payable::Bolt11 { invoice, amount: None }, stingy).await,
            "less time than the invoice asks",
        );
    }

    async fn an_expired_invoice_is_closed(&self) {
        let (preimage, hash, invoice) = self.hold(1).await;
        self.pair.pass_time(3).await;
        self.hold_becomes(hash, HoldState::Canceled).await;
        self.cannot_be_paid(&invoice).await;
        rejected(self.payee.settle(preimage).await, "settling what expired");
    }

    async fn what_nobody_knows_is_not_found(&self) {
        let preimage = Preimage::new(self.pair.fresh());
        let hash = preimage.hash();
        assert!(matches!(self.payee.lookup(hash).await, Err(NodeError::NotFound(_))));
        assert!(matches!(self.payee.settle(preimage).await, Err(NodeError::NotFound(_))));
        assert!(matches!(self.payee.cancel(hash).await, Err(NodeError::NotFound(_))));
        assert!(matches!(self.payer.lookup_payment(hash.into()).await, Err(NodeError::NotFound(_))));
        rejected(self.pay("nonsense").await, "what is no invoice");
    }

    async fn an_ordinary_invoice_settles_by_itself(&self) {
        let mut events = self.payee.events();
        let request = InvoiceRequest { amount: None, description: "any amount".into(), expiry_secs: 3600 };
        let invoice = self.payee.create_invoice(request).await.expect("an invoice is made");
        rejected(self.pay(&invoice).await, "an invoice without an amount, paid without one");
        let nobodys = self.payee.lookup_received(PaymentHash([9; 32])).await;
        assert!(matches!(nobodys, Err(NodeError::NotFound(_))), "nothing arrived for what is no invoice");
        let payable = Payable::Bolt11 { invoice, amount: Some(AMOUNT) };
        let id = self.payer.pay(payable.clone(), PayLimits::default()).await.expect("an invoice can be paid");
        let PaymentState::Succeeded { preimage, .. } = self.payment_ends(id).await.state else {
            panic!("an ordinary invoice is paid");
        };
        let told = tokio::time::timeout(PATIENCE, async {
            while let Some(event) = events.next().await {
                if event == (NodeEvent::Received { hash: preimage.hash(), amount: AMOUNT }) {
                    return true;
                }
            }
            false
        });
        assert_eq!(told.await, Ok(true), "the payee is told");
        assert_eq!(self.payee.lookup_received(preimage.hash()).await, Ok(AMOUNT), "and may ask");
        assert_eq!(self.payer.pay(payable, PayLimits::default()).await, Ok(id), "paying again starts nothing");
    }

    async fn an_offer_is_paid(&self) {
        if !self.payee.capabilities().create_offer || !self.payer.capabilities().pay_offer {
            return;
        }
        let request = OfferRequest { amount: Some(AMOUNT), description: "tea".into(), expiry_secs: None };
        let offer = self.payee.create_offer(request).await.expect("an offer is made");
        for _ in 0..2 {
            let payable = Payable::Bolt12 { offer: offer.clone(), amount: None, payer_note: Some("green".into()) };
            let id = self.payer.pay(payable, PayLimits::default()).await.expect("an offer can be paid");
            let payment = self.payment_ends(id).await;
            assert!(matches!(payment.state, PaymentState::Succeeded { .. }), "an offer is paid, twice: {payment:?}");
            assert!(payment.hash.is_some(), "a paid offer has a hash");
        }
    }

    async fn events_start_with_the_present(&self) {
        let (_, hash, _, id, _) = self.held(3600).await;
        let mut payee = self.payee.events();
        let told = tokio::time::timeout(PATIENCE, async {
            loop {
                match payee.next().await {
                    Some(NodeEvent::Hold(hold)) if hold.hash == hash => return hold.state,
                    Some(_) => {}
                    None => panic!("the events ended"),
                }
            }
        });
        assert_eq!(told.await, Ok(HoldState::Accepted), "the present comes first");
        let mut payer = self.payer.events();
        self.payee.cancel(hash).await.expect("a held payment can be canceled");
        let told = tokio::time::timeout(PATIENCE, async {
            let mut states = Vec::new();
            while states.last() != Some(&true) {
                match payer.next().await {
                    Some(NodeEvent::Payment(payment)) if payment.id == id => {
                        states.push(payment.state != PaymentState::InFlight);
                    }
                    Some(_) => {}
                    None => panic!("the events ended"),
                }
            }
            states
        });
        assert_eq!(told.await, Ok(vec![false, true]), "in flight first, then the end");
    }

    async fn a_payment_with_too_few_blocks_is_failed_back(&self) {
        let (_, hash, invoice) = self.hold(3600).await;
        if self.pair.pay_late(&invoice).await {
            self.payment_fails(hash.into()).await;
            assert_eq!(self.payee.lookup(hash).await.map(|hold| hold.state), Ok(HoldState::Open));
        }
    }

    async fn a_hold_is_failed_back_before_its_htlc_expires(&self) {
        let (preimage, hash, _, id, hold) = self.held(3600).await;
        let expiry = hold.expiry_height.expect("an accepted hold has an expiry");
        let end = expiry.minus(self.payee.capabilities().auto_cancel_margin);
        let now = self.height().await;
        self.pair.mine(end.blocks_after(now) - 1).await;
        assert_eq!(self.payee.lookup(hash).await.map(|hold| hold.state), Ok(HoldState::Accepted), "a block too early");
        self.pair.mine(1).await;
        self.hold_becomes(hash, HoldState::Canceled).await;
        self.payment_fails(id).await;
        rejected(self.payee.settle(preimage).await, "settling too late");
    }
}

fn request(hash: PaymentHash, amount: Msat, expiry_secs: u32) -> HoldInvoiceRequest {
    HoldInvoiceRequest { hash, amount, min_final_cltv: BLOCKS, expiry_secs, description: "a hold".into() }
}

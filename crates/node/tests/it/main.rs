//! The contract of `Node`, kept by the fake; and the ways in which the fake can be told to break.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use node::contract::{self, Pair};
use node::{
    FakeNetwork, FakeNode, HoldInvoiceRequest, HoldState, InvoiceRequest, Mishap, Node, NodeError, PayLimits, Payable,
    PaymentState, Trouble,
};
use units::{Msat, PaymentHash, Preimage};

struct Fakes {
    network: FakeNetwork,
    payer: Arc<FakeNode>,
    payee: Arc<FakeNode>,
    serial: AtomicU64,
}

fn fakes() -> Fakes {
    let network = FakeNetwork::default();
    let (payer, payee) = (network.node("alice"), network.node("bob"));
    Fakes { network, payer, payee, serial: AtomicU64::new(0) }
}

#[async_trait]
impl Pair for Fakes {
    fn payer(&self) -> Arc<dyn Node> {
        self.payer.clone()
    }
    fn payee(&self) -> Arc<dyn Node> {
        self.payee.clone()
    }
    async fn mine(&self, blocks: u32) {
        self.network.mine(blocks);
    }
    async fn pass_time(&self, secs: u64) {
        self.network.pass_time(secs);
    }
    async fn pay_late(&self, invoice: &str) -> bool {
        self.network.next_payment(Mishap::Short(1));
        pay(&self.payer, invoice).await.expect("it starts");
        true
    }
    fn fresh(&self) -> [u8; 32] {
        let mut bytes = [7; 32];
        bytes[..8].copy_from_slice(&self.serial.fetch_add(1, Ordering::Relaxed).to_be_bytes());
        bytes
    }
}

async fn pay(payer: &FakeNode, invoice: &str) -> node::Result<node::PaymentId> {
    payer.pay(Payable::Bolt11 { invoice: invoice.into(), amount: None }, PayLimits::default()).await
}

fn ask(hash: PaymentHash) -> HoldInvoiceRequest {
    HoldInvoiceRequest {
        hash,
        amount: Msat(5_000_000),
        min_final_cltv: 100,
        expiry_secs: 600,
        description: String::new(),
    }
}

#[tokio::test]
async fn the_fake_keeps_the_contract() {
    contract::run(&fakes()).await;
}

#[tokio::test]
async fn a_lost_answer_has_done_its_work() {
    let Fakes { payer, payee, .. } = fakes();
    let preimage = Preimage::new([9; 32]);
    let invoice = payee.create_hold_invoice(ask(preimage.hash())).await.expect("made");
    payer.next_verb(Trouble::LosesAnswer);
    let lost = pay(&payer, &invoice).await;
    assert!(matches!(lost, Err(NodeError::Unknown(_))), "{lost:?}");
    let payment = payer.lookup_payment(preimage.hash().into()).await.expect("it is there");
    assert_eq!(payment.state, PaymentState::InFlight);
    payee.next_verb(Trouble::Refuses(NodeError::Fault("disk".into())));
    assert_eq!(payee.settle(preimage.clone()).await, Err(NodeError::Fault("disk".into())));
    assert_eq!(payee.lookup(preimage.hash()).await.expect("known").state, HoldState::Accepted);
}

#[tokio::test]
async fn a_payment_can_hang_and_arrive_later_or_fail() {
    let Fakes { network, payer, payee, .. } = fakes();
    let hash = Preimage::new([9; 32]).hash();
    let invoice = payee.create_hold_invoice(ask(hash)).await.expect("made");
    network.next_payment(Mishap::Hangs);
    let id = pay(&payer, &invoice).await.expect("started");
    assert_eq!(payee.lookup(hash).await.expect("known").state, HoldState::Open);
    network.deliver();
    assert_eq!(payee.lookup(hash).await.expect("known").state, HoldState::Accepted);
    assert_eq!(payer.lookup_payment(id).await.expect("known").state, PaymentState::InFlight);

    let before = payer.balances().await.expect("known").lightning;
    let request = InvoiceRequest { amount: Some(Msat(1_000)), description: "".into(), expiry_secs: 60 };
    let invoice = payee.create_invoice(request).await.expect("made");
    network.next_payment(Mishap::Fails("no luck".into()));
    let id = pay(&payer, &invoice).await.expect("started");
    let failed = PaymentState::Failed { reason: "no luck".into() };
    assert_eq!(payer.lookup_payment(id).await.expect("known").state, failed);
    assert_eq!(payer.balances().await.expect("known").lightning, before, "a failed payment costs nothing");
}

#[tokio::test]
async fn a_node_that_restarts_knows_what_it_knew() {
    let Fakes { network, payer, payee, .. } = fakes();
    let preimage = Preimage::new([9; 32]);
    let invoice = payee.create_hold_invoice(ask(preimage.hash())).await.expect("made");
    pay(&payer, &invoice).await.expect("started");
    payee.set_online(false);
    assert!(matches!(payee.lookup(preimage.hash()).await, Err(NodeError::Unreachable(_))));
    drop(payee);
    let payee = network.node("bob");
    payee.set_online(true);
    payee.settle(preimage.clone()).await.expect("still held");
    let payment = payer.lookup_payment(preimage.hash().into()).await.expect("known");
    assert!(matches!(payment.state, PaymentState::Succeeded { .. }));
}

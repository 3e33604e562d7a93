//! Our node as a subject of the benchmark.

use std::sync::Arc;

use anyhow::{Result, bail};
use async_trait::async_trait;
use bitcoin::Network;
use clap::Parser;
use futures::StreamExt;
use keys::Seed;
use node::{
    HoldInvoiceRequest, HoldState, InvoiceRequest, Node, NodeEvent, OpenChannel, PayLimits, Payable, PaymentState,
    PeerAddress,
};
use node_ldk::{ChainConfig, LdkConfig, LdkNode};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use units::{Msat, PaymentHash, Sat};
use work::{Hash, PeerAt, Place, Preimage, Subject, Task, Told};

const EXPIRY_SECS: u32 = 3_600;
const EVENTS: usize = 4_096;
/// What ldk-node's hold invoices have, where it cannot be chosen.
const FINAL_CLTV: u16 = 42;

#[derive(Parser)]
struct Cli {
    #[command(flatten)]
    task: Task,
}

fn main() -> Result<()> {
    tracing_subscriber::fmt()
        .with_env_filter(tracing_subscriber::EnvFilter::from_default_env())
        .with_writer(std::io::stderr)
        .init();
    work::child::<OurNode>(&Cli::parse().task)
}

struct OurNode {
    node: Arc<LdkNode>,
    id: String,
    events: JoinHandle<()>,
}

async fn hand_on(node: Arc<LdkNode>, told: mpsc::Sender<Told>) {
    let mut events = node.events();
    drop(node);
    while let Some(event) = events.next().await {
        let heard = match event {
            NodeEvent::Hold(hold) if hold.state == HoldState::Accepted => Told::Held(hold.hash.0),
            NodeEvent::Hold(hold) if hold.state == HoldState::Settled => Told::Received,
            NodeEvent::Received { .. } => Told::Received,
            NodeEvent::Payment(payment) => match payment.state {
                PaymentState::InFlight => continue,
                PaymentState::Succeeded { .. } => Told::Paid(payment.id.0),
                PaymentState::Failed { reason } => Told::Failed(payment.id.0, reason),
            },
            NodeEvent::Lagged => Told::Failed([0; 32], "events were lost".into()),
            NodeEvent::Hold(_) | NodeEvent::Tip(_) | NodeEvent::Channel { .. } => continue,
        };
        if told.send(heard).await.is_err() {
            return;
        }
    }
}

#[async_trait]
impl Subject for OurNode {
    type Seed = Seed;

    fn seed(entropy: [u8; 32]) -> Seed {
        Seed::generate(&entropy)
    }

    async fn start(place: &Place, seed: &Seed) -> Result<(Arc<OurNode>, mpsc::Receiver<Told>)> {
        let chain = ChainConfig::Bitcoind {
            url: format!("http://{}", place.chain.rpc),
            user: place.chain.user.clone(),
            password: place.chain.password.clone(),
            poll: place.poll,
        };
        let mut config = LdkConfig::new(place.dir.clone(), Network::Regtest, chain);
        config.listen = vec![place.listen];
        let node = LdkNode::start(config, seed).await?;
        let id = node.info().await?.node_id;
        let (sender, told) = mpsc::channel(EVENTS);
        let events = tokio::spawn(hand_on(Arc::clone(&node), sender));
        Ok((Arc::new(OurNode { node, id, events }), told))
    }

    async fn stop(&self) -> Result<()> {
        self.events.abort();
        Ok(self.node.stop().await?)
    }

    fn node_id(&self) -> String {
        self.id.clone()
    }

    async fn height(&self) -> Result<Option<u32>> {
        let info = self.node.info().await?;
        Ok(info.synced.then_some(info.height.0))
    }

    async fn address(&self) -> Result<String> {
        Ok(self.node.new_address().await?)
    }

    async fn spendable(&self) -> Result<u64> {
        Ok(self.node.balances().await?.onchain.0)
    }

    async fn open(&self, peer: &PeerAt, capacity_sat: u64) -> Result<()> {
        let address = PeerAddress { node_id: peer.node_id.clone(), address: peer.address.to_string() };
        self.node.connect_peer(address).await?;
        let (peer, capacity) = (peer.node_id.clone(), Sat(capacity_sat));
        self.node.open_channel(OpenChannel { peer, capacity, push: Msat::ZERO, announced: false }).await?;
        Ok(())
    }

    async fn usable(&self) -> Result<bool> {
        Ok(self.node.list_channels().await?.first().is_some_and(|channel| channel.usable))
    }

    async fn invoice(&self, amount_msat: u64) -> Result<String> {
        let (amount, description) = (Some(Msat(amount_msat)), "an invoice".into());
        Ok(self.node.create_invoice(InvoiceRequest { amount, description, expiry_secs: EXPIRY_SECS }).await?)
    }

    async fn hold_invoice(&self, hash: Hash, amount_msat: u64) -> Result<String> {
        let request = HoldInvoiceRequest {
            hash: PaymentHash(hash),
            amount: Msat(amount_msat),
            min_final_cltv: FINAL_CLTV,
            expiry_secs: EXPIRY_SECS,
            description: "a hold".into(),
        };
        Ok(self.node.create_hold_invoice(request).await?)
    }

    async fn pay(&self, invoice: &str) -> Result<Hash> {
        let payable = Payable::Bolt11 { invoice: invoice.to_owned(), amount: None };
        Ok(self.node.pay(payable, PayLimits::default()).await?.0)
    }

    async fn settle(&self, hash: Hash, preimage: Preimage, _amount_msat: u64) -> Result<()> {
        let preimage = units::Preimage::new(preimage);
        if preimage.hash() != PaymentHash(hash) {
            bail!("not the secret of this hash");
        }
        Ok(self.node.settle(preimage).await?)
    }
}

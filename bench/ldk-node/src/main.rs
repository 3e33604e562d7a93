//! ldk-node as a subject of the benchmark.

use std::str::FromStr;
use std::sync::Arc;

use anyhow::{Context, Result};
use async_trait::async_trait;
use clap::Parser;
use ldk_node::bitcoin::Network;
use ldk_node::bitcoin::secp256k1::PublicKey;
use ldk_node::lightning::ln::msgs::SocketAddress;
use ldk_node::lightning_invoice::{Bolt11Invoice, Bolt11InvoiceDescription, Description};
use ldk_node::lightning_types::payment::{PaymentHash, PaymentPreimage};
use ldk_node::{Builder, Event, Node};
use tokio::sync::mpsc;
use tokio::task::{block_in_place, spawn_blocking};
use work::{Hash, PeerAt, Place, Preimage, Subject, Task, Told};

const EXPIRY_SECS: u32 = 3_600;
const EVENTS: usize = 4_096;

#[derive(Parser)]
struct Cli {
    #[command(flatten)]
    task: Task,
}

fn main() -> Result<()> {
    work::child::<LdkNode>(&Cli::parse().task)
}

struct LdkNode {
    node: Arc<Node>,
}

fn words(text: &str) -> Result<Bolt11InvoiceDescription> {
    Ok(Bolt11InvoiceDescription::Direct(Description::new(text.to_owned())?))
}

/// Hands on what the node tells, in a thread of its own: acknowledging an event blocks, and inside the runtime that can block
/// all of it. An event is handed on before it is acknowledged, which writes to the disk: what is measured is when the node
/// tells. The thread ends with the process.
fn hand_on(node: &Node, told: &mpsc::Sender<Told>) {
    loop {
        let heard = match node.wait_next_event() {
            Event::PaymentClaimable { payment_hash, .. } => Some(Told::Held(payment_hash.0)),
            Event::PaymentSuccessful { payment_hash, .. } => Some(Told::Paid(payment_hash.0)),
            Event::PaymentFailed { reason, payment_hash, .. } => {
                Some(Told::Failed(payment_hash.map_or([0; 32], |hash| hash.0), format!("{reason:?}")))
            }
            Event::PaymentReceived { .. } => Some(Told::Received),
            _ => None,
        };
        if heard.is_some_and(|heard| told.blocking_send(heard).is_err()) || node.event_handled().is_err() {
            return;
        }
    }
}

#[async_trait]
impl Subject for LdkNode {
    type Seed = [u8; 64];

    fn seed(entropy: [u8; 32]) -> [u8; 64] {
        let mut seed = [0; 64];
        seed[..32].copy_from_slice(&entropy);
        seed
    }

    async fn start(place: &Place, seed: &[u8; 64]) -> Result<(Arc<LdkNode>, mpsc::Receiver<Told>)> {
        let mut builder = Builder::new();
        let chain = &place.chain;
        builder.set_network(Network::Regtest);
        builder.set_storage_dir_path(place.dir.to_string_lossy().into_owned());
        builder.set_entropy_seed_bytes(*seed);
        builder.set_chain_source_bitcoind_rpc(
            chain.rpc.ip().to_string(),
            chain.rpc.port(),
            chain.user.clone(),
            chain.password.clone(),
        );
        builder.set_listening_addresses(vec![SocketAddress::from(place.listen)])?;
        // Its default writes a debug log to a file, which would be measured too: the `log` facade without a logger.
        builder.set_log_facade_logger();
        let node = block_in_place(|| {
            let node = builder.build()?;
            node.start()?;
            anyhow::Ok(Arc::new(node))
        })?;
        let (sender, told) = mpsc::channel(EVENTS);
        let telling = Arc::clone(&node);
        std::thread::spawn(move || hand_on(&telling, &sender));
        Ok((Arc::new(LdkNode { node }), told))
    }

    async fn stop(&self) -> Result<()> {
        Ok(block_in_place(|| self.node.stop())?)
    }

    fn node_id(&self) -> String {
        self.node.node_id().to_string()
    }

    async fn height(&self) -> Result<Option<u32>> {
        let status = self.node.status();
        Ok(status.is_running.then_some(status.current_best_block.height))
    }

    async fn address(&self) -> Result<String> {
        Ok(block_in_place(|| self.node.onchain_payment().new_address())?.to_string())
    }

    async fn spendable(&self) -> Result<u64> {
        Ok(block_in_place(|| self.node.list_balances()).spendable_onchain_balance_sats)
    }

    async fn open(&self, peer: &PeerAt, capacity_sat: u64) -> Result<()> {
        let id = PublicKey::from_str(&peer.node_id)?;
        block_in_place(|| self.node.open_channel(id, peer.address.into(), capacity_sat, None, None))?;
        Ok(())
    }

    async fn usable(&self) -> Result<bool> {
        Ok(self.node.list_channels().first().is_some_and(|channel| channel.is_usable))
    }

    async fn invoice(&self, amount_msat: u64) -> Result<String> {
        let description = words("an invoice")?;
        let invoice = block_in_place(|| self.node.bolt11_payment().receive(amount_msat, &description, EXPIRY_SECS))?;
        Ok(invoice.to_string())
    }

    async fn hold_invoice(&self, hash: Hash, amount_msat: u64) -> Result<String> {
        let description = words("a hold")?;
        let invoice = block_in_place(|| {
            let payments = self.node.bolt11_payment();
            payments.receive_for_hash(amount_msat, &description, EXPIRY_SECS, PaymentHash(hash))
        })?;
        Ok(invoice.to_string())
    }

    async fn pay(&self, invoice: &str) -> Result<Hash> {
        let invoice = Bolt11Invoice::from_str(invoice).ok().context("invoice")?;
        let node = Arc::clone(&self.node);
        // Its id of a payment is the hash.
        Ok(spawn_blocking(move || node.bolt11_payment().send(&invoice, None)).await??.0)
    }

    async fn settle(&self, hash: Hash, preimage: Preimage, amount_msat: u64) -> Result<()> {
        let node = Arc::clone(&self.node);
        let claim =
            move || node.bolt11_payment().claim_for_hash(PaymentHash(hash), amount_msat, PaymentPreimage(preimage));
        Ok(spawn_blocking(claim).await??)
    }
}

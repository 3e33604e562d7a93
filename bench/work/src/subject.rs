//! What the work asks of a node.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use async_trait::async_trait;
use tokio::sync::mpsc;

use crate::chain::ChainAddress;

/// A payment hash.
pub type Hash = [u8; 32];
/// Its secret.
pub type Preimage = [u8; 32];

/// Where a node runs.
#[derive(Clone, Debug)]
pub struct Place {
    /// Its files.
    pub dir: PathBuf,
    /// What its seed is made of.
    pub entropy: [u8; 32],
    /// Where it listens.
    pub listen: SocketAddr,
    /// Its chain source.
    pub chain: ChainAddress,
    /// How often it looks at the tip, where that can be set: what ldk-node does.
    pub poll: Duration,
}

/// Where a peer is.
#[derive(Clone, Debug)]
pub struct PeerAt {
    /// Public key, hex.
    pub node_id: String,
    /// Where it listens.
    pub address: SocketAddr,
}

/// What a node tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Told {
    /// A hold invoice of ours is paid and held.
    Held(Hash),
    /// Something that was paid to us is ours.
    Received,
    /// We paid.
    Paid(Hash),
    /// A payment of ours failed.
    Failed(Hash, String),
}

/// A node of either kind, with its defaults.
#[async_trait]
pub trait Subject: Send + Sync + Sized + 'static {
    /// The secret that a node is started with. Making it (BIP-39 stretches words on purpose) is no part of a start.
    type Seed: Send + Sync;
    /// The seed of a node.
    fn seed(entropy: [u8; 32]) -> Self::Seed;
    /// Starts the node in an old folder or a new one. The receiver hears everything from here on.
    async fn start(place: &Place, seed: &Self::Seed) -> Result<(Arc<Self>, mpsc::Receiver<Told>)>;
    /// Ends it in order.
    async fn stop(&self) -> Result<()>;
    /// Public key, hex.
    fn node_id(&self) -> String;
    /// Height that it has caught up with; none while it has not.
    async fn height(&self) -> Result<Option<u32>>;
    /// A fresh address of its wallet.
    async fn address(&self) -> Result<String>;
    /// What its wallet can spend, in satoshis.
    async fn spendable(&self) -> Result<u64>;
    /// Opens an unannounced channel.
    async fn open(&self, peer: &PeerAt, capacity_sat: u64) -> Result<()>;
    /// Its one channel can carry a payment.
    async fn usable(&self) -> Result<bool>;
    /// A plain invoice.
    async fn invoice(&self, amount_msat: u64) -> Result<String>;
    /// A hold invoice.
    async fn hold_invoice(&self, hash: Hash, amount_msat: u64) -> Result<String>;
    /// Starts a payment. An error: nothing was sent.
    async fn pay(&self, invoice: &str) -> Result<Hash>;
    /// Settles a held payment.
    async fn settle(&self, hash: Hash, preimage: Preimage, amount_msat: u64) -> Result<()>;
}

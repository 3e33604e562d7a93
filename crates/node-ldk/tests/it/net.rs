//! A small Lightning network on a devnet, and the waiting that its stories need.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, Once};
use std::time::Duration;

use bitcoin::{Address, Network};
use devnet::{Config, Devnet};
use keys::Seed;
use node::{
    Channel, ChannelId, HoldInvoice, HoldInvoiceRequest, HoldState, Node, OpenChannel, PayLimits, Payable, Payment,
    PaymentId, PaymentState, PeerAddress,
};
use node_ldk::{ChainConfig, LdkConfig, LdkNode};
use units::{Height, Msat, PaymentHash, Preimage, Sat};

/// Longest wait for anything.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);
const LOOK: Duration = Duration::from_millis(5);
/// How often the nodes of the tests look at the chain.
pub(crate) const POLL: Duration = Duration::from_millis(50);

/// Waits until `look` finds something.
pub(crate) async fn until<T, F: Future<Output = Option<T>>>(what: &str, mut look: impl FnMut() -> F) -> T {
    let found = tokio::time::timeout(PATIENCE, async {
        loop {
            if let Some(found) = look().await {
                return found;
            }
            tokio::time::sleep(LOOK).await;
        }
    });
    found.await.unwrap_or_else(|_| panic!("waited {PATIENCE:?} in vain: {what}"))
}

/// A devnet, and a folder for each node by name.
pub(crate) struct Net {
    pub(crate) dev: Devnet,
    dir: tempfile::TempDir,
    ports: Mutex<HashMap<String, u16>>,
}

static LOGS: Once = Once::new();

impl Net {
    pub(crate) async fn start() -> Net {
        LOGS.call_once(|| {
            if let Ok(filter) = tracing_subscriber::EnvFilter::try_from_default_env() {
                tracing_subscriber::fmt().with_env_filter(filter).with_test_writer().init();
            }
        });
        let dev = Devnet::start(Config::default()).await.unwrap();
        // In memory where there is such a folder: on a busy disk the stories spend their time waiting for it. A killed
        // process loses nothing there either.
        let memory = std::path::Path::new("/dev/shm");
        let dir = if memory.is_dir() && std::env::var_os("TMPDIR").is_none() {
            tempfile::tempdir_in(memory).unwrap()
        } else {
            tempfile::tempdir().unwrap()
        };
        Net { dev, dir, ports: Mutex::default() }
    }

    pub(crate) fn folder(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) fn bitcoind(&self, poll: Duration) -> ChainConfig {
        ChainConfig::Bitcoind {
            url: self.dev.rpc_url(),
            user: self.dev.rpc_user().into(),
            password: self.dev.rpc_password().into(),
            poll,
        }
    }

    /// How the node of this name runs: the same port after a restart.
    pub(crate) fn config(&self, name: &str) -> LdkConfig {
        let mut config = LdkConfig::new(self.folder(name), Network::Regtest, self.bitcoind(POLL));
        let port = self.ports.lock().unwrap().get(name).copied().unwrap_or(0);
        config.listen = vec![([127, 0, 0, 1], port).into()];
        config.alias = name.into();
        config.funding_confirmations = 1;
        config.inbound.require_reserve = false;
        config
    }

    pub(crate) async fn node(&self, name: &str) -> Arc<LdkNode> {
        self.node_with(name, |_| ()).await
    }

    pub(crate) async fn node_with(&self, name: &str, change: impl FnOnce(&mut LdkConfig)) -> Arc<LdkNode> {
        let mut config = self.config(name);
        change(&mut config);
        let node = LdkNode::start(config, &seed(name)).await.unwrap();
        let address = node.info().await.unwrap().addresses[0].clone();
        let port = address.rsplit(':').next().unwrap().parse().unwrap();
        self.ports.lock().unwrap().insert(name.into(), port);
        node
    }

    /// Gives the node confirmed coins.
    pub(crate) async fn fund(&self, node: &LdkNode, amount: Sat) {
        let before = node.balances().await.unwrap().onchain;
        let address: Address<_> = node.new_address().await.unwrap().parse().unwrap();
        self.dev.fund(&address.require_network(Network::Regtest).unwrap(), amount).await.unwrap();
        self.mine(1, &[node]).await;
        until("coins", || async { (node.balances().await.unwrap().onchain.0 >= before.0 + amount.0).then_some(()) })
            .await;
    }

    /// Finds blocks and waits until the nodes have seen them.
    pub(crate) async fn mine(&self, blocks: u32, nodes: &[&LdkNode]) {
        self.dev.mine(blocks).await.unwrap();
        self.seen(nodes).await;
    }

    pub(crate) async fn seen(&self, nodes: &[&LdkNode]) {
        let height = self.dev.height();
        for node in nodes {
            until("a node to see the tip", || async { (height_of(node).await >= height).then_some(()) }).await;
        }
    }

    /// Connects, opens, confirms, and waits until both sides can use the channel.
    pub(crate) async fn channel(&self, from: &LdkNode, to: &LdkNode, capacity: Sat, push: Sat) -> ChannelId {
        self.channel_with(from, to, capacity, push, false).await
    }

    pub(crate) async fn channel_with(
        &self,
        from: &LdkNode,
        to: &LdkNode,
        capacity: Sat,
        push: Sat,
        announced: bool,
    ) -> ChannelId {
        connect(from, to).await;
        let peer = to.info().await.unwrap().node_id;
        let request = OpenChannel { peer, capacity, push: push.to_msat().unwrap(), announced };
        let channel = from.open_channel(request).await.unwrap();
        let funding = find(from, &channel).await.unwrap().funding.unwrap();
        let txid = funding.split(':').next().unwrap().parse().unwrap();
        tokio::time::timeout(PATIENCE, self.dev.wait_for_tx(txid)).await.unwrap().unwrap();
        self.mine(6, &[from, to]).await;
        usable(from, &channel).await;
        usable(to, &channel).await;
        channel
    }
}

/// A seed that belongs to the name.
pub(crate) fn seed(name: &str) -> Seed {
    let mut entropy = [0x5a; 32];
    entropy[..name.len()].copy_from_slice(name.as_bytes());
    Seed::generate(&entropy)
}

pub(crate) async fn height_of(node: &LdkNode) -> Height {
    node.info().await.unwrap().height
}

pub(crate) async fn connect(from: &LdkNode, to: &LdkNode) {
    let info = to.info().await.unwrap();
    let peer = PeerAddress { node_id: info.node_id, address: info.addresses[0].clone() };
    from.connect_peer(peer).await.unwrap();
}

pub(crate) async fn find(node: &LdkNode, channel: &ChannelId) -> Option<Channel> {
    node.list_channels().await.unwrap().into_iter().find(|found| found.id == *channel)
}

pub(crate) async fn usable(node: &LdkNode, channel: &ChannelId) {
    until("a usable channel", || async { find(node, channel).await.filter(|found| found.usable) }).await;
}

/// A secret that no other story uses.
pub(crate) fn secret(story: &str) -> Preimage {
    let mut bytes = [0; 32];
    bytes[..story.len()].copy_from_slice(story.as_bytes());
    Preimage::new(bytes)
}

pub(crate) fn hold_request(hash: PaymentHash, amount: Msat, min_final_cltv: u16) -> HoldInvoiceRequest {
    HoldInvoiceRequest { hash, amount, min_final_cltv, expiry_secs: 3600, description: "a hold".into() }
}

pub(crate) async fn pay(node: &LdkNode, invoice: &str) -> node::Result<PaymentId> {
    node.pay(Payable::Bolt11 { invoice: invoice.into(), amount: None }, PayLimits::default()).await
}

/// Pays a fresh hold invoice and waits until it is held.
pub(crate) async fn hold(
    payer: &LdkNode,
    payee: &LdkNode,
    secret: &Preimage,
    amount: Msat,
    blocks: u16,
) -> HoldInvoice {
    let invoice = payee.create_hold_invoice(hold_request(secret.hash(), amount, blocks)).await.unwrap();
    pay(payer, &invoice).await.unwrap();
    hold_becomes(payee, secret.hash(), HoldState::Accepted).await
}

pub(crate) async fn hold_becomes(node: &LdkNode, hash: PaymentHash, state: HoldState) -> HoldInvoice {
    until(&format!("a hold to become {state:?}"), || async {
        Some(node.lookup(hash).await.unwrap()).filter(|hold| hold.state == state)
    })
    .await
}

pub(crate) async fn payment_ends(node: &LdkNode, id: PaymentId) -> Payment {
    until("a payment to end", || async {
        Some(node.lookup_payment(id).await.unwrap()).filter(|payment| payment.state != PaymentState::InFlight)
    })
    .await
}

pub(crate) async fn succeeds(node: &LdkNode, id: PaymentId) -> Preimage {
    match payment_ends(node, id).await.state {
        PaymentState::Succeeded { preimage, .. } => preimage,
        other => panic!("the payment must succeed: {other:?}"),
    }
}

pub(crate) async fn fails(node: &LdkNode, id: PaymentId) -> String {
    match payment_ends(node, id).await.state {
        PaymentState::Failed { reason } => reason,
        other => panic!("the payment must fail: {other:?}"),
    }
}

/// Opens a channel to a node that it is connected to.
pub(crate) async fn open(from: &LdkNode, to: &LdkNode, capacity: Sat) -> node::Result<node::ChannelId> {
    let peer = to.info().await.unwrap().node_id;
    from.open_channel(OpenChannel { peer, capacity, push: Msat::ZERO, announced: false }).await
}

//! Peers: listening, connecting, and connecting again.

use std::collections::hash_map::Entry;
use std::net::SocketAddr;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use bitcoin::secp256k1::PublicKey;
use lightning::sign::EntropySource;
use node::{NodeError, PeerAddress, Result};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

use crate::channels::parse_node_id;
use crate::core::Core;
use crate::store::Change;

/// First pause after a lost connection; doubled after each failure.
const BACKOFF_MIN: Duration = Duration::from_millis(100);
/// Longest pause between two attempts.
const BACKOFF_MAX: Duration = Duration::from_secs(60);
/// How long a TCP connection and the Noise handshake may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// How often a connection that somebody else made is looked at.
const LOOK: Duration = Duration::from_secs(1);
/// Peers that are connected to again and again.
const PEERS_MAX: usize = 1_000;
/// Connections from outside at a time.
const INBOUND_MAX: usize = 1_000;

impl Core {
    /// Connects, remembers the peer, and keeps connecting.
    pub(crate) async fn connect_peer(self: &Arc<Self>, peer: PeerAddress) -> Result<()> {
        let id = parse_node_id(&peer.node_id)?;
        if id == self.manager.get_our_node_id() {
            return Err(NodeError::Rejected("that is this node itself".into()));
        }
        let connection = match self.peer_manager.peer_by_node_id(&id) {
            None => Some(self.dial(id, &peer.address).await?),
            Some(_) => None,
        };
        self.writer.commit(Change::Peer { node_id: id.to_string(), address: peer.address.clone() }).await?;
        self.keep_connected(id, peer.address, connection)
    }

    /// One attempt. The connection lives on in a task of its own, which ends with it.
    async fn dial(&self, id: PublicKey, address: &str) -> Result<JoinHandle<()>> {
        let unreachable = |why: &str| NodeError::Unreachable(format!("peer at {address}: {why}"));
        let stream = tokio::time::timeout(CONNECT_TIMEOUT, TcpStream::connect(address))
            .await
            .map_err(|_| unreachable("no answer"))?
            .map_err(|error| unreachable(&error.to_string()))?;
        let stream = ready(stream).map_err(|error| unreachable(&error.to_string()))?;
        let closed = lightning_net_tokio::setup_outbound(Arc::clone(&self.peer_manager), id, stream);
        self.not_after_the_end();
        let mut gone = self.tasks.spawn(closed);
        let deadline = tokio::time::Instant::now() + CONNECT_TIMEOUT;
        while self.peer_manager.peer_by_node_id(&id).is_none() {
            let pause = tokio::time::sleep(Duration::from_millis(2));
            tokio::select! {
                () = pause => {}
                _ = &mut gone => return Err(unreachable("it hung up, or is another node")),
                () = self.cancel.cancelled() => return Err(unreachable("the node is stopping")),
            }
            if tokio::time::Instant::now() > deadline {
                return Err(unreachable("no handshake"));
            }
        }
        Ok(gone)
    }

    /// A connection that is made while the node ends must not outlive it: the peer would believe that it talks to us and
    /// not look for our next run. Who ends the node cancels first and disconnects then, so one of the two sees the other.
    fn not_after_the_end(&self) {
        if self.cancel.is_cancelled() {
            self.peer_manager.disconnect_all_peers();
        }
    }

    /// Starts the task that connects again whenever the connection is lost; a known peer only gets a new address.
    pub(crate) fn keep_connected(
        self: &Arc<Self>,
        id: PublicKey,
        address: String,
        connection: Option<JoinHandle<()>>,
    ) -> Result<()> {
        let mut wanted = self.wanted.lock().unwrap_or_else(PoisonError::into_inner);
        let count = wanted.len();
        match wanted.entry(id) {
            Entry::Occupied(mut known) => {
                known.insert(address);
            }
            Entry::Vacant(_) if count >= PEERS_MAX => {
                return Err(NodeError::Rejected(format!("more than {PEERS_MAX} peers")));
            }
            Entry::Vacant(new) => {
                new.insert(address);
                let core = Arc::clone(self);
                self.tasks.spawn(async move {
                    let cancel = core.cancel.clone();
                    cancel.run_until_cancelled(core.stay_connected(id, connection)).await;
                });
            }
        }
        Ok(())
    }

    async fn stay_connected(&self, id: PublicKey, mut connection: Option<JoinHandle<()>>) {
        let mut pause = Duration::ZERO;
        loop {
            if let Some(connection) = connection.take()
                && connection.await.is_err()
            {
                return;
            }
            while self.peer_manager.peer_by_node_id(&id).is_some() {
                pause = Duration::ZERO;
                tokio::time::sleep(LOOK).await;
            }
            tokio::time::sleep(self.jittered(pause)).await;
            pause = (pause * 2).clamp(BACKOFF_MIN, BACKOFF_MAX);
            let address = self.wanted.lock().unwrap_or_else(PoisonError::into_inner).get(&id).cloned();
            let Some(address) = address else { return };
            match self.dial(id, &address).await {
                Ok(dialed) => {
                    connection = Some(dialed);
                    pause = Duration::ZERO;
                }
                Err(error) => tracing::debug!(%error, "not connected"),
            }
        }
    }

    /// Up to a quarter more, so that many nodes do not come back at the same instant.
    fn jittered(&self, pause: Duration) -> Duration {
        let random = self.keys.get_secure_random_bytes()[0];
        pause + pause * u32::from(random) / 1024
    }

    /// Binds the listeners; each accepts in a task of its own. Returns the addresses with the ports they got.
    pub(crate) async fn listen(self: &Arc<Self>) -> Result<Vec<SocketAddr>> {
        let mut bound = Vec::new();
        for address in &self.config.listen {
            let listener = TcpListener::bind(address).await;
            let listener =
                listener.map_err(|error| NodeError::Rejected(format!("cannot listen on {address}: {error}")))?;
            bound.push(listener.local_addr().map_err(|error| NodeError::Fault(error.to_string()))?);
            let core = Arc::clone(self);
            self.tasks.spawn(async move {
                let cancel = core.cancel.clone();
                cancel.run_until_cancelled(core.accept(listener)).await;
            });
        }
        Ok(bound)
    }

    async fn accept(self: Arc<Self>, listener: TcpListener) {
        let slots = Arc::new(tokio::sync::Semaphore::new(INBOUND_MAX));
        loop {
            let Ok(slot) = Arc::clone(&slots).acquire_owned().await else { return };
            let stream = match listener.accept().await {
                Ok((stream, _)) => ready(stream),
                Err(error) => Err(error),
            };
            match stream {
                Ok(stream) => {
                    let closed = lightning_net_tokio::setup_inbound(Arc::clone(&self.peer_manager), stream);
                    self.not_after_the_end();
                    self.tasks.spawn(async move {
                        closed.await;
                        drop(slot);
                    });
                }
                Err(error) => {
                    // Out of file descriptors, most likely: give it a moment.
                    tracing::warn!(%error, "a peer could not be accepted");
                    tokio::time::sleep(BACKOFF_MIN).await;
                }
            }
        }
    }
}

/// Small messages must not wait for an acknowledgement of the last one.
fn ready(stream: TcpStream) -> std::io::Result<std::net::TcpStream> {
    stream.set_nodelay(true)?;
    stream.into_std()
}

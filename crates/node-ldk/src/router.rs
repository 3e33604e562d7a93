//! Finds a way for onion messages over the public graph; LDK's own router only knows its direct peers.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;

use bitcoin::secp256k1::{self, PublicKey, Secp256k1};
use lightning::blinded_path::message::{BlindedMessagePath, MessageContext, MessageForwardNode};
use lightning::onion_message::messenger::{DefaultMessageRouter, Destination, MessageRouter, OnionMessagePath};
use lightning::routing::gossip::{NodeId, ReadOnlyNetworkGraph};
use lightning::sign::ReceiveAuthKey;

use crate::logger::TracingLogger;
use crate::types::{Graph, Keys};

/// Intermediate nodes on the longest way that is taken.
const MAX_HOPS: usize = 7;
/// Nodes looked at before the search gives up.
const MAX_VISITED: usize = 50_000;

/// Breadth-first search through the nodes that say they forward onion messages.
pub(crate) struct GraphMessageRouter {
    graph: Arc<Graph>,
    plain: DefaultMessageRouter<Arc<Graph>, Arc<TracingLogger>, Arc<Keys>>,
}

impl GraphMessageRouter {
    pub(crate) fn new(graph: Arc<Graph>, keys: Arc<Keys>) -> GraphMessageRouter {
        GraphMessageRouter { plain: DefaultMessageRouter::new(Arc::clone(&graph), keys), graph }
    }
}

impl MessageRouter for GraphMessageRouter {
    fn find_path(
        &self,
        sender: PublicKey,
        peers: Vec<PublicKey>,
        mut destination: Destination,
    ) -> Result<OnionMessagePath, ()> {
        let intermediate = {
            let graph = self.graph.read_only();
            destination.resolve(&graph);
            let probe = OnionMessagePath {
                intermediate_nodes: Vec::new(),
                destination: destination.clone(),
                first_node_addresses: Vec::new(),
            };
            let target = probe.first_node().ok_or(())?;
            if target == sender || peers.contains(&target) {
                return Ok(probe);
            }
            search(&graph, sender, &peers, target)
        };
        match intermediate {
            Some(intermediate_nodes) => {
                Ok(OnionMessagePath { intermediate_nodes, destination, first_node_addresses: Vec::new() })
            }
            // Perhaps it can be connected to directly.
            None => self.plain.find_path(sender, peers, destination),
        }
    }

    fn create_blinded_paths<T: secp256k1::Signing + secp256k1::Verification>(
        &self,
        recipient: PublicKey,
        key: ReceiveAuthKey,
        context: MessageContext,
        peers: Vec<MessageForwardNode>,
        secp: &Secp256k1<T>,
    ) -> Result<Vec<BlindedMessagePath>, ()> {
        self.plain.create_blinded_paths(recipient, key, context, peers, secp)
    }
}

/// The nodes between us and `target`, nearest first. Searches backwards, since we know our peers but not the target's.
fn search(
    graph: &ReadOnlyNetworkGraph,
    sender: PublicKey,
    peers: &[PublicKey],
    target: PublicKey,
) -> Option<Vec<PublicKey>> {
    let us = NodeId::from_pubkey(&sender);
    let peers: HashSet<NodeId> = peers.iter().map(NodeId::from_pubkey).collect();
    let target = NodeId::from_pubkey(&target);
    // Each found node with the next one on the way to the target, and its distance.
    let mut next: HashMap<NodeId, (NodeId, usize)> = HashMap::new();
    let mut queue = VecDeque::from([(target, 0)]);
    while let Some((at, distance)) = queue.pop_front() {
        if distance >= MAX_HOPS || next.len() >= MAX_VISITED {
            return None;
        }
        for scid in &graph.node(&at)?.channels {
            let Some(channel) = graph.channel(*scid) else { continue };
            let from = if channel.node_one == at { channel.node_two } else { channel.node_one };
            if from == us || from == target || next.contains_key(&from) || !forwards(graph, &from) {
                continue;
            }
            next.insert(from, (at, distance + 1));
            if peers.contains(&from) {
                return walk(&next, from, target);
            }
            queue.push_back((from, distance + 1));
        }
    }
    None
}

fn forwards(graph: &ReadOnlyNetworkGraph, node: &NodeId) -> bool {
    let info = graph.node(node).and_then(|node| node.announcement_info.as_ref());
    info.is_some_and(|info| info.features().supports_onion_messages())
}

fn walk(next: &HashMap<NodeId, (NodeId, usize)>, from: NodeId, target: NodeId) -> Option<Vec<PublicKey>> {
    let mut path = Vec::new();
    let mut at = from;
    while at != target {
        path.push(at.as_pubkey().ok()?);
        at = next.get(&at)?.0;
    }
    Some(path)
}

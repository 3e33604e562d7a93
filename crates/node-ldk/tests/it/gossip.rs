//! Announced channels enter the graph only when their output is on the chain and unspent.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bitcoin::Network;
use bitcoin::constants::ChainHash;
use bitcoin::hashes::{Hash, sha256d};
use bitcoin::secp256k1::{Message, PublicKey, Secp256k1, SecretKey};
use lightning::chain::chaininterface::ConfirmationTarget;
use lightning::ln::chan_utils::make_funding_redeemscript;
use lightning::ln::msgs::{ChannelAnnouncement, RoutingMessageHandler, UnsignedChannelAnnouncement};
use lightning::routing::gossip::{NetworkGraph, NodeId, P2PGossipSync};
use lightning::types::features::ChannelFeatures;
use lightning::util::ser::Writeable;
use node_ldk::{Gossip, TracingLogger};
use units::Sat;

use crate::rig::{Kind, World, devnet, over_both, until};

over_both! {
    only_channels_that_exist_are_believed,
}

fn key(n: u8) -> SecretKey {
    SecretKey::from_slice(&[n; 32]).unwrap()
}

/// An announcement signed by two nodes and their two funding keys (BOLT#7).
fn announcement(short_channel_id: u64) -> ChannelAnnouncement {
    let public = |n| -> PublicKey { key(n).public_key(&Secp256k1::new()) };
    let id = |n| NodeId::from_pubkey(&public(n));
    let (one, two) = if id(1) < id(2) { (1, 2) } else { (2, 1) };
    let contents = UnsignedChannelAnnouncement {
        features: ChannelFeatures::empty(),
        chain_hash: ChainHash::REGTEST,
        short_channel_id,
        node_id_1: id(one),
        node_id_2: id(two),
        bitcoin_key_1: id(one + 10),
        bitcoin_key_2: id(two + 10),
        excess_data: Vec::new(),
    };
    let hash = Message::from_digest(sha256d::Hash::hash(&contents.encode()).to_byte_array());
    let sign = |n| Secp256k1::new().sign_ecdsa(&hash, &key(n));
    ChannelAnnouncement {
        node_signature_1: sign(one),
        node_signature_2: sign(two),
        bitcoin_signature_1: sign(one + 10),
        bitcoin_signature_2: sign(two + 10),
        contents,
    }
}

async fn only_channels_that_exist_are_believed(kind: Kind) {
    let (net, dir) = (devnet().await, tempfile::tempdir().unwrap());
    let mut world = World::start(&net, kind, dir.path()).await;
    let public = |n| -> PublicKey { key(n).public_key(&Secp256k1::new()) };
    let script = make_funding_redeemscript(&public(11), &public(12)).to_p2wsh();
    world.fund(&net, &[1_000_000]).await;
    let target = ConfirmationTarget::NonAnchorChannelFee;
    let funding = world.wallet.create_funding_tx(script.clone(), Sat(400_000), target).unwrap();
    let vout = funding.output.iter().position(|output| output.script_pubkey == script).unwrap() as u64;
    world.chain.broadcast(std::slice::from_ref(&funding)).await.unwrap();
    world.mine(&net, 1).await;
    let height = u64::from(net.height().0);
    let txid = funding.compute_txid();
    let index = net.with(move |regtest, _| regtest.chain().position(&txid).unwrap().index).await.unwrap() as u64;
    let scid = (height << 40) | (index << 16) | vout;

    let graph = Arc::new(NetworkGraph::new(Network::Regtest, Arc::new(TracingLogger)));
    let check = world.chain.utxo_check();
    let gossip: Arc<Gossip> = Arc::new(P2PGossipSync::new(graph.clone(), Some(check.clone()), Arc::new(TracingLogger)));
    let early = gossip.handle_channel_announcement(None, &announcement(scid));
    assert!(early.is_err(), "before it is attached nothing is believed");
    let wakes = Arc::new(AtomicUsize::new(0));
    let count = wakes.clone();
    check.attach(&gossip, move || {
        count.fetch_add(1, Ordering::SeqCst);
    });

    let answers = async |n| until("the lookup is answered", async || wakes.load(Ordering::SeqCst) >= n).await;
    let known = |scid| graph.read_only().channel(scid).is_some();
    let announce = |scid| {
        // An error only says that the answer is still to come.
        drop(gossip.handle_channel_announcement(None, &announcement(scid)));
    };
    announce(scid);
    answers(1).await;
    assert!(!known(scid), "one confirmation is too few");
    world.mine(&net, 5).await;
    let (coinbase, beyond) = (height << 40, (height + 1_000) << 40);
    for (n, wrong) in [coinbase, beyond, scid + 1, scid + (77 << 16)].into_iter().enumerate() {
        announce(wrong);
        answers(2 + n).await;
        assert!(!known(wrong), "{wrong}");
    }
    announce(scid);
    answers(6).await;
    assert!(known(scid));
    assert_eq!(graph.read_only().channel(scid).unwrap().capacity_sats, Some(400_000));
    world.stop().await;
}

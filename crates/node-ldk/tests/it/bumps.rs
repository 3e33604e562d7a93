//! The wallet in LDK's hands: coins and signatures for fee bumps, scripts for channels.

use std::collections::HashSet;
use std::sync::Arc;

use bitcoin::hashes::Hash;
use bitcoin::{Amount, OutPoint, Psbt, Script, ScriptBuf, Sequence, Transaction, TxIn, Witness, absolute, transaction};
use lightning::chain::ClaimId;
use lightning::chain::chaininterface::ConfirmationTarget;
use lightning::events::bump_transaction::{CoinSelectionSource, Input, Wallet as BumpWallet};
use lightning::sign::{ChangeDestinationSource, NodeSigner, Recipient, SignerProvider};
use node_ldk::{Keys, TracingLogger};
use units::Sat;

use crate::rig::{Kind, World, devnet, seed};

/// Worst case of the foreign input's script sig and witness.
const FOREIGN_SATISFACTION: u64 = 4 + 1 + 1 + 1;
const SAT_PER_KW: u32 = 2_500;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bump_spends_a_foreign_output_and_ours_and_the_network_takes_it() {
    let (net, dir) = (devnet().await, tempfile::tempdir().unwrap());
    let mut world = World::start(&net, Kind::Bitcoind, dir.path()).await;
    world.fund(&net, &[200_000, 50_000]).await;
    // An output like an anchor: spent by somebody else's rules, which here are none.
    let anchor_script = Script::from_bytes(&[0x51]);
    let target = ConfirmationTarget::AnchorChannelFee;
    let parent = world.wallet.create_funding_tx(anchor_script.to_p2wsh(), Sat(400), target).unwrap();
    let vout = parent.output.iter().position(|o| o.script_pubkey == anchor_script.to_p2wsh()).unwrap();
    world.chain.broadcast(std::slice::from_ref(&parent)).await.unwrap();
    world.mine(&net, 1).await;

    let anchor = Input {
        outpoint: OutPoint { txid: parent.compute_txid(), vout: vout as u32 },
        previous_utxo: parent.output[vout].clone(),
        satisfaction_weight: FOREIGN_SATISFACTION,
    };
    let source = BumpWallet::new(Arc::new(world.wallet.clone()), Arc::new(TracingLogger));
    let claim = ClaimId([1; 32]);
    let picked = source.select_confirmed_utxos(claim, vec![anchor.clone()], &[], SAT_PER_KW, 400_000).await.unwrap();
    assert!(!picked.confirmed_utxos.is_empty());

    let input =
        |previous_output| TxIn { previous_output, sequence: Sequence::ENABLE_RBF_NO_LOCKTIME, ..TxIn::default() };
    let ours = picked.confirmed_utxos.iter().map(|coin| input(coin.outpoint));
    let unsigned = Transaction {
        version: transaction::Version::TWO,
        lock_time: absolute::LockTime::ZERO,
        input: std::iter::once(input(anchor.outpoint)).chain(ours).collect(),
        output: picked.change_output.iter().cloned().collect(),
    };
    let mut psbt = Psbt::from_unsigned_tx(unsigned).unwrap();
    psbt.inputs[0].witness_utxo = Some(anchor.previous_utxo.clone());
    for (slot, coin) in psbt.inputs[1..].iter_mut().zip(&picked.confirmed_utxos) {
        slot.witness_utxo = Some(coin.output.clone());
    }
    let mut bump = source.sign_psbt(psbt).await.unwrap();
    assert!(bump.input[0].witness.is_empty(), "what is not ours stays unsigned");
    bump.input[0].witness = Witness::from_slice(&[anchor_script.as_bytes()]);
    let paid_in: Amount =
        picked.confirmed_utxos.iter().map(|coin| coin.output.value).sum::<Amount>() + anchor.previous_utxo.value;
    let fee = paid_in - bump.output.iter().map(|output| output.value).sum::<Amount>();
    let asked = u64::from(SAT_PER_KW) * bump.weight().to_wu() / 1_000;
    assert!((asked..asked + 100).contains(&fee.to_sat()), "fee {fee} for {asked}: the weights told to LDK are right");
    world.chain.broadcast(std::slice::from_ref(&bump)).await.unwrap();
    world.mine(&net, 1).await;
    assert!(net.mempool().await.unwrap().is_empty());
    assert_eq!(world.wallet.balance().pending, Sat::ZERO);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_closed_channel_pays_lands_in_the_wallet() {
    let (net, dir) = (devnet().await, tempfile::tempdir().unwrap());
    let mut world = World::start(&net, Kind::Esplora, dir.path()).await;
    let keys = Keys::new(&seed(1), world.wallet.clone());
    let scripts: [ScriptBuf; 3] = [
        keys.get_destination_script([7; 32]).unwrap(),
        keys.get_shutdown_scriptpubkey().unwrap().into_inner(),
        world.wallet.get_change_destination_script().await.unwrap(),
    ];
    world.fund(&net, &[1_000_000]).await;
    let mut before = world.wallet.balance().confirmed;
    for (n, script) in scripts.into_iter().enumerate() {
        assert!(script.is_p2tr() && world.wallet.is_mine(script.clone()));
        let address = bitcoin::Address::from_script(&script, bitcoin::Network::Regtest).unwrap();
        net.fund(&address, Sat(10_000 + n as u64)).await.unwrap();
        world.mine(&net, 1).await;
        let now = world.wallet.balance().confirmed;
        assert_eq!(now, Sat(before.0 + 10_000 + n as u64));
        before = now;
    }
    assert!(!world.wallet.is_mine(ScriptBuf::new_p2wsh(&bitcoin::WScriptHash::hash(b"x"))));
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_peer_that_opens_a_thousand_channels_reveals_sixteen_scripts() {
    let (net, dir) = (devnet().await, tempfile::tempdir().unwrap());
    let world = World::start(&net, Kind::Bitcoind, dir.path()).await;
    let keys = Keys::new(&seed(1), world.wallet.clone());
    let mut seen = HashSet::new();
    for n in 0..1_000u32 {
        let id = keys.generate_channel_keys_id(true, u128::from(n));
        let script = keys.get_destination_script(id).unwrap();
        assert_eq!(script, keys.get_destination_script(id).unwrap(), "one channel, one script");
        seen.insert(script);
        seen.insert(keys.get_shutdown_scriptpubkey().unwrap().into_inner());
    }
    assert_eq!(seen.len(), 16);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_node_id_comes_from_the_seed_alone() {
    let (net, dir) = (devnet().await, tempfile::tempdir().unwrap());
    let world = World::start(&net, Kind::Bitcoind, dir.path()).await;
    let id = |n| Keys::new(&seed(n), world.wallet.clone()).get_node_id(Recipient::Node).unwrap();
    assert_eq!(id(1), id(1));
    assert_ne!(id(1), id(2));
    let [a, b] = [0, 1].map(|_| Keys::new(&seed(1), world.wallet.clone()).generate_channel_keys_id(false, 0));
    assert_ne!(a, b, "two starts never derive the same channel keys");
    world.stop().await;
}

#[test]
fn a_taproot_spend_weighs_what_ldk_is_told() {
    let witness = Witness::from_slice(&[[0u8; 64]]);
    let input = TxIn { witness, ..TxIn::default() };
    // Outpoint and sequence are counted by LDK itself.
    let satisfaction = input.segwit_weight().to_wu() - (32 + 4 + 4) * 4;
    assert_eq!(satisfaction, 70);
}

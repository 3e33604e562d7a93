//! Witnesses are checked by Bitcoin's own code, in the mempool and in blocks.

use bitcoin::opcodes::all::{OP_CLTV, OP_CSV, OP_DROP, OP_EQUALVERIFY, OP_HASH160};
use bitcoin::script::Builder;
use bitcoin::{ScriptBuf, Transaction, Witness};
use devnet::{BlockError, TxError};

use crate::kit::{Key, NOW, Spend, confirmed, funded, mine, regtest, send};

fn flip_signature(tx: &Transaction) -> Transaction {
    let mut bad = tx.clone();
    let mut items = bad.input[0].witness.to_vec();
    items[0][10] ^= 1;
    bad.input[0].witness = Witness::from_slice(&items);
    bad
}

#[test]
fn a_flipped_bit_in_a_signature_is_refused_in_the_mempool_and_in_a_block() {
    let key = Key::new(1);
    for script in [key.script(), key.taproot()] {
        let mut net = regtest();
        let coin = funded(&mut net, script, 100_000);
        let good = Spend::of(&[&coin]).rest(&key.script(), 500).sign(&key);
        let bad = flip_signature(&good);
        let expected = TxError::Script { txid: bad.compute_txid(), input: 0 };
        assert_eq!(send(&mut net, &bad), Err(expected.clone()));

        let (tip, payee) = (net.tip(), net.faucet().script().clone());
        let refused = net.mine_on(tip.hash, vec![bad.clone()], payee, NOW);
        assert_eq!(refused, Err(BlockError::Tx { txid: bad.compute_txid(), error: expected }));
        assert_eq!(net.tip(), tip, "an invalid block must not move the chain");

        send(&mut net, &good).unwrap();
        mine(&mut net, 1);
        assert!(confirmed(&net, &good));
    }
}

#[test]
fn a_taproot_signature_commits_to_the_amounts_of_all_inputs() {
    let key = Key::new(2);
    let mut net = regtest();
    let one = funded(&mut net, key.taproot(), 100_000);
    let mut two = funded(&mut net, key.taproot(), 200_000);
    let good = Spend::of(&[&one, &two]).pay(&key.script(), 299_000).sign(&key);
    two.out.value = bitcoin::Amount::from_sat(200_001);
    let bad = Spend::of(&[&one, &two]).pay(&key.script(), 299_000).sign(&key);
    assert_eq!(send(&mut net, &bad), Err(TxError::Script { txid: bad.compute_txid(), input: 0 }));
    send(&mut net, &good).unwrap();
}

#[test]
fn a_hash_lock_opens_to_its_preimage_only() {
    let mut net = regtest();
    let preimage = [7u8; 32];
    let hash = bitcoin::hashes::Hash::hash(&preimage);
    let hash: bitcoin::hashes::hash160::Hash = hash;
    let lock = Builder::new()
        .push_opcode(OP_HASH160)
        .push_slice(bitcoin::hashes::Hash::to_byte_array(hash))
        .push_opcode(OP_EQUALVERIFY)
        .push_int(1)
        .into_script();
    let coin = funded(&mut net, lock.to_p2wsh(), 50_000);
    let mut tx = Spend::of(&[&coin]).rest(&Key::new(3).script(), 500).tx;
    tx.input[0].witness = Witness::from_slice(&[&[8u8; 32][..], lock.as_bytes()]);
    assert!(matches!(send(&mut net, &tx), Err(TxError::Script { input: 0, .. })));
    tx.input[0].witness = Witness::from_slice(&[&preimage[..], lock.as_bytes()]);
    send(&mut net, &tx).unwrap();
}

#[test]
fn relative_and_absolute_locks_in_scripts_are_enforced() {
    let mut net = regtest();
    let csv: ScriptBuf = Builder::new().push_int(10).push_opcode(OP_CSV).push_opcode(OP_DROP).push_int(1).into_script();
    let coin = funded(&mut net, csv.to_p2wsh(), 50_000);
    let mut early = Spend::of(&[&coin]).rest(&Key::new(3).script(), 500).sequence(9).tx;
    early.input[0].witness = Witness::from_slice(&[csv.as_bytes()]);
    let mut right = Spend::of(&[&coin]).rest(&Key::new(3).script(), 500).sequence(10).tx;
    right.input[0].witness = Witness::from_slice(&[csv.as_bytes()]);
    mine(&mut net, 8);
    assert!(matches!(send(&mut net, &early), Err(TxError::Script { .. })), "the script asks for ten blocks");
    assert_eq!(send(&mut net, &right), Err(TxError::NonBip68Final));
    mine(&mut net, 1);
    send(&mut net, &right).unwrap();

    let height = i64::from(net.chain().height());
    let cltv = Builder::new().push_int(height).push_opcode(OP_CLTV).push_opcode(OP_DROP).push_int(1).into_script();
    let coin = funded(&mut net, cltv.to_p2wsh(), 50_000);
    let mut tx = Spend::of(&[&coin]).rest(&Key::new(3).script(), 500).lock(height as u32 - 1).tx;
    tx.input[0].witness = Witness::from_slice(&[cltv.as_bytes()]);
    assert!(matches!(send(&mut net, &tx), Err(TxError::Script { .. })));
    let mut tx = Spend::of(&[&coin]).rest(&Key::new(3).script(), 500).lock(height as u32).tx;
    tx.input[0].witness = Witness::from_slice(&[cltv.as_bytes()]);
    send(&mut net, &tx).unwrap();
}

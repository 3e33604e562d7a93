//! Finality: nLockTime against height and median time (BIP113), sequences (BIP68), coinbase maturity.

use devnet::{BlockError, TxError};
use units::Unix;

use crate::kit::{Key, NOW, Spend, coin, funded, mine, regtest, send};

#[test]
fn a_locktime_opens_at_the_next_block_after_it() {
    let (mut net, key) = (regtest(), Key::new(1));
    let coin = funded(&mut net, key.script(), 100_000);
    let height = net.chain().height();
    let tx = Spend::of(&[&coin]).rest(&key.script(), 500).lock(height + 1).sign(&key);
    assert_eq!(send(&mut net, &tx), Err(TxError::NonFinal));
    let (tip, payee) = (net.tip().hash, net.faucet().script().clone());
    let refused = net.mine_on(tip, vec![tx.clone()], payee, NOW);
    assert!(matches!(refused, Err(BlockError::Tx { error: TxError::Malformed("bad-txns-nonfinal"), .. })));
    mine(&mut net, 1);
    send(&mut net, &tx).unwrap();
    let never = Spend::of(&[&crate::kit::coin(&tx, 0)]).rest(&key.script(), 500).lock(height + 999).sequence(u32::MAX);
    send(&mut net, &never.sign(&key)).unwrap();
}

#[test]
fn a_time_lock_goes_by_the_median_of_eleven_blocks_not_by_the_clock() {
    let (mut net, key) = (regtest(), Key::new(1));
    let coin = funded(&mut net, key.script(), 100_000);
    let lock = net.chain().tip().mtp + 5_000;
    let tx = Spend::of(&[&coin]).rest(&key.script(), 500).lock(lock).sign(&key);
    let later = Unix(u64::from(lock) + 100);
    let payee = net.faucet().script().clone();
    for _ in 0..5 {
        net.mine(payee.clone(), later).unwrap();
    }
    assert_eq!(net.submit(tx.clone(), later), Err(TxError::NonFinal), "five of eleven are not the median");
    net.mine(payee, later).unwrap();
    net.submit(tx, later).unwrap();
}

#[test]
fn a_relative_time_lock_counts_from_the_block_before_the_coin() {
    let (mut net, key) = (regtest(), Key::new(1));
    let coin = funded(&mut net, key.script(), 100_000);
    let before = net.chain().block_at(net.chain().height() - 1).unwrap().mtp;
    let units = 4;
    let tx = Spend::of(&[&coin]).rest(&key.script(), 500).sequence((1 << 22) | units).sign(&key);
    assert_eq!(send(&mut net, &tx), Err(TxError::NonBip68Final));
    let payee = net.faucet().script().clone();
    let almost = Unix(u64::from(before) + 512 * u64::from(units) - 1);
    for _ in 0..6 {
        net.mine(payee.clone(), almost).unwrap();
    }
    assert_eq!(u64::from(net.chain().tip().mtp), almost.0);
    assert_eq!(net.submit(tx.clone(), almost), Err(TxError::NonBip68Final));
    for _ in 0..6 {
        net.mine(payee.clone(), Unix(almost.0 + 1)).unwrap();
    }
    net.submit(tx, Unix(almost.0 + 1)).unwrap();
}

#[test]
fn a_relative_lock_on_an_unconfirmed_coin_waits_and_version_one_has_none() {
    let (mut net, key) = (regtest(), Key::new(1));
    let first = funded(&mut net, key.script(), 100_000);
    let parent = Spend::of(&[&first]).rest(&key.script(), 500).sign(&key);
    send(&mut net, &parent).unwrap();
    let child = Spend::of(&[&coin(&parent, 0)]).rest(&key.script(), 500).sequence(1).sign(&key);
    assert_eq!(send(&mut net, &child), Err(TxError::NonBip68Final));
    let old = Spend::of(&[&coin(&parent, 0)]).rest(&key.script(), 500).version(1).sequence(1).sign(&key);
    send(&mut net, &old).unwrap();
}

#[test]
fn a_coinbase_is_spendable_after_a_hundred_blocks() {
    let (mut net, key) = (regtest(), Key::new(1));
    let hash = net.mine(key.script(), NOW).unwrap();
    let coinbase = net.chain().block(&hash).unwrap().block.txdata[0].clone();
    let tx = Spend::of(&[&coin(&coinbase, 0)]).rest(&key.script(), 500).sign(&key);
    mine(&mut net, 98);
    assert_eq!(send(&mut net, &tx), Err(TxError::ImmatureCoinbase { depth: 99 }));
    let (tip, payee) = (net.tip().hash, net.faucet().script().clone());
    let refused = net.mine_on(tip, vec![tx.clone()], payee, NOW);
    assert!(matches!(refused, Err(BlockError::Tx { error: TxError::ImmatureCoinbase { depth: 99 }, .. })));
    mine(&mut net, 1);
    send(&mut net, &tx).unwrap();
    mine(&mut net, 1);
    assert!(crate::kit::confirmed(&net, &tx));
}

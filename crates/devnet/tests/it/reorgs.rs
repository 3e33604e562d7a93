//! Branches: the one with the most work wins, coins are restored, transactions come back.

use devnet::{BlockError, Chain, Coin, Regtest};

use crate::kit::{Key, NOW, Spend, coin, confirmed, funded, mine, regtest, send, waiting};

fn coins(chain: &Chain) -> Vec<(bitcoin::OutPoint, Coin)> {
    let mut all: Vec<_> = chain.coins().map(|(at, coin)| (*at, coin.clone())).collect();
    all.sort_by_key(|(at, _)| *at);
    all
}

fn mine_on(net: &mut Regtest, prev: bitcoin::BlockHash, txs: Vec<bitcoin::Transaction>) -> bitcoin::BlockHash {
    let payee = net.faucet().script().clone();
    net.mine_on(prev, txs, payee, NOW).unwrap()
}

#[test]
fn a_reorg_gives_coins_back_and_returns_transactions_to_the_mempool() {
    let (mut net, key) = (regtest(), Key::new(1));
    let first = funded(&mut net, key.script(), 1_000_000);
    let (before, height) = (coins(net.chain()), net.chain().height());
    let parent = Spend::of(&[&first]).rest(&key.script(), 1_000).sign(&key);
    let child = Spend::of(&[&coin(&parent, 0)]).rest(&key.script(), 1_000).sign(&key);
    let later = Spend::of(&[&coin(&child, 0)]).rest(&key.script(), 1_000).sign(&key);
    send(&mut net, &parent).unwrap();
    mine(&mut net, 1);
    send(&mut net, &child).unwrap();
    mine(&mut net, 2);
    send(&mut net, &later).unwrap();

    net.reorg(3, NOW).unwrap();
    assert_eq!(net.chain().height(), height + 4);
    for tx in [&parent, &child, &later] {
        assert!(waiting(&net, tx) && !confirmed(&net, tx));
    }
    assert_eq!(net.mempool().with_ancestors(&later.compute_txid()).count, 3);
    let kept = coins(net.chain());
    assert!(before.iter().all(|coin| kept.contains(coin)), "every coin of the fork is back");
    assert_eq!(kept.len(), before.len() + 4, "and besides them only the new coinbases");

    mine(&mut net, 1);
    assert!([&parent, &child, &later].iter().all(|tx| confirmed(&net, tx)));
    assert_eq!(net.chain().spender(&first.at), Some((parent.compute_txid(), 0)));
}

#[test]
fn a_double_spend_on_the_longer_branch_wins() {
    let (mut net, key) = (regtest(), Key::new(1));
    let first = funded(&mut net, key.script(), 1_000_000);
    let fork = net.tip().hash;
    let honest = Spend::of(&[&first]).rest(&key.script(), 1_000).sign(&key);
    let heir = Spend::of(&[&coin(&honest, 0)]).rest(&key.script(), 1_000).sign(&key);
    send(&mut net, &honest).unwrap();
    mine(&mut net, 1);
    send(&mut net, &heir).unwrap();
    let ours = net.tip().hash;
    let theft = Spend::of(&[&first]).rest(&key.taproot(), 1_000).sign(&key);
    let side = mine_on(&mut net, fork, vec![theft.clone()]);
    assert_eq!(net.tip().hash, ours, "equal work: the first seen stays");
    assert!(!net.chain().is_active(&side));
    mine_on(&mut net, side, Vec::new());
    assert!(confirmed(&net, &theft) && !confirmed(&net, &honest));
    assert!(net.mempool().is_empty(), "neither the victim nor what spends it can be valid");
}

#[test]
fn a_branch_with_an_invalid_block_is_left_again() {
    let (mut net, key) = (regtest(), Key::new(1));
    let first = funded(&mut net, key.script(), 1_000_000);
    let fork = net.tip().hash;
    mine(&mut net, 2);
    let (tip, before) = (net.tip(), coins(net.chain()));
    let mut bad = Spend::of(&[&first]).rest(&key.script(), 1_000).sign(&key);
    bad.output[0].value += bitcoin::Amount::from_sat(1);
    let one = mine_on(&mut net, fork, Vec::new());
    let two = mine_on(&mut net, one, vec![bad.clone()]);
    assert_eq!(net.tip(), tip);
    let payee = net.faucet().script().clone();
    let outcome = net.mine_on(two, Vec::new(), payee.clone(), NOW);
    assert!(matches!(outcome, Err(BlockError::Tx { txid, .. }) if txid == bad.compute_txid()), "{outcome:?}");
    assert_eq!((net.tip(), coins(net.chain())), (tip, before));
    assert_eq!(net.mine_on(two, Vec::new(), payee, NOW), Err(BlockError::InvalidParent));
    mine(&mut net, 1);
}

#[test]
fn a_block_invalidated_by_hand_comes_back_when_reconsidered() {
    let (mut net, key) = (regtest(), Key::new(1));
    let first = funded(&mut net, key.script(), 1_000_000);
    let tx = Spend::of(&[&first]).rest(&key.script(), 1_000).sign(&key);
    send(&mut net, &tx).unwrap();
    mine(&mut net, 3);
    let (tip, before) = (net.tip(), coins(net.chain()));
    let at = net.chain().position(&tx.compute_txid()).unwrap();
    let hash = net.chain().hash_at(at.height).unwrap();
    net.invalidate(hash, NOW).unwrap();
    assert_eq!(net.tip().height.0, at.height - 1);
    assert!(waiting(&net, &tx));
    net.reconsider(hash, NOW).unwrap();
    assert_eq!((net.tip(), coins(net.chain())), (tip, before));
    assert!(net.mempool().is_empty());
    let genesis = net.chain().hash_at(0).unwrap();
    assert!(matches!(net.invalidate(genesis, NOW), Err(BlockError::Impossible(_))));
}

#[test]
fn a_spend_that_is_immature_after_a_reorg_leaves_the_mempool() {
    let (mut net, key) = (regtest(), Key::new(1));
    let hash = net.mine(key.script(), NOW).unwrap();
    let coinbase = net.chain().block(&hash).unwrap().block.txdata[0].clone();
    mine(&mut net, 99);
    let tx = Spend::of(&[&coin(&coinbase, 0)]).rest(&key.script(), 1_000).sign(&key);
    send(&mut net, &tx).unwrap();
    let tip = net.tip().hash;
    net.invalidate(tip, NOW).unwrap();
    assert!(!waiting(&net, &tx));
}

#[test]
fn a_reorg_cannot_reach_below_the_first_block() {
    let mut net = regtest();
    let height = net.chain().height();
    assert!(matches!(net.reorg(0, NOW), Err(BlockError::Impossible(_))));
    assert!(matches!(net.reorg(height + 1, NOW), Err(BlockError::Impossible(_))));
    net.reorg(height, NOW).unwrap();
    assert_eq!(net.chain().height(), height + 1);
    assert_eq!(net.chain().coin_count() as u32, height + 1);
}

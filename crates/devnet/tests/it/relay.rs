//! What the mempool takes and how blocks are filled from it.

use bitcoin::{OutPoint, ScriptBuf, Txid};
use devnet::{MAX_CHAIN_COUNT, Policy, Regtest, TxError};

use crate::kit::{Key, NOW, Spend, coin, confirmed, funded, mine, regtest, send, waiting};

#[test]
fn a_coin_is_spent_once() {
    let (mut net, key) = (regtest(), Key::new(1));
    let first = funded(&mut net, key.script(), 100_000);
    let one = Spend::of(&[&first]).rest(&key.script(), 500).sign(&key);
    let two = Spend::of(&[&first]).rest(&key.taproot(), 500).sign(&key);
    send(&mut net, &one).unwrap();
    assert!(matches!(send(&mut net, &two), Err(TxError::ReplacementFee { .. })), "no fee, no replacement");
    mine(&mut net, 1);
    assert_eq!(send(&mut net, &two), Err(TxError::MissingInputs));
    assert_eq!(send(&mut net, &one), Err(TxError::Confirmed));
    let (tip, payee) = (net.tip().hash, net.faucet().script().clone());
    net.mine_on(tip, vec![two], payee, NOW).unwrap_err();
}

#[test]
fn fees_are_asked_for_to_the_satoshi_and_the_floor_is_configurable() {
    let key = Key::new(1);
    for (floor, per_vb) in [(1_000, 1.0), (100, 0.1)] {
        let mut net = Regtest::new(Policy { min_relay: floor, incremental_relay: floor, ..Policy::default() });
        mine(&mut net, 110);
        let coin = funded(&mut net, key.script(), 100_000);
        let vsize = Spend::of(&[&coin]).rest(&key.script(), 0).sign(&key).vsize();
        let needed = (vsize as f64 * per_vb).ceil() as u64;
        let poor = Spend::of(&[&coin]).rest(&key.script(), needed - 1).sign(&key);
        assert_eq!(send(&mut net, &poor), Err(TxError::FeeTooLow { paid: needed - 1, needed }));
        let fair = Spend::of(&[&coin]).rest(&key.script(), needed).sign(&key);
        assert_eq!(send(&mut net, &fair).unwrap().fee, needed);
    }
}

#[test]
fn what_no_node_would_relay_is_refused_with_its_name() {
    let (mut net, key) = (regtest(), Key::new(1));
    let coin = funded(&mut net, key.script(), 1_000_000);
    let spend = || Spend::of(&[&coin]);
    let mut pushes = spend().rest(&key.script(), 900).sign(&key);
    pushes.input[0].script_sig = ScriptBuf::from_bytes(vec![0x76]);
    let strange = spend().pay(&ScriptBuf::from_bytes(vec![0x75, 0x76]), 10_000).rest(&key.script(), 900).sign(&key);
    let heavy = (0..3_300).fold(spend(), |spend, _| spend.pay(&key.taproot(), 330)).sign(&key);
    let cases = [
        (spend().rest(&key.script(), 900).version(4).sign(&key), "version"),
        (spend().rest(&key.script(), 900).version(0).sign(&key), "version"),
        (spend().pay(&key.script(), 293).sign(&key), "dust"),
        (pushes, "scriptsig-not-pushonly"),
        (strange, "scriptpubkey"),
        (heavy, "tx-size"),
        (spend().pay(&ScriptBuf::new_op_return([]), 0).sign(&key), "tx-size-small"),
        (spend().pay(&ScriptBuf::new_op_return([7; 40]), 0).sign(&key), ""),
    ];
    for (tx, reason) in cases {
        let outcome = net.test_accept(vec![tx], NOW).remove(0);
        assert_eq!(outcome.map(|_| String::new()).unwrap_or_else(|error| error.reason()), reason);
    }
}

#[test]
fn malformed_transactions_are_refused_with_their_name() {
    let (mut net, key) = (regtest(), Key::new(1));
    let coin = funded(&mut net, key.script(), 100_000);
    let twice = Spend::of(&[&coin, &coin]).pay(&key.script(), 150_000).sign(&key);
    assert_eq!(send(&mut net, &twice), Err(TxError::Malformed("bad-txns-inputs-duplicate")));
    let more = Spend::of(&[&coin]).pay(&key.script(), 100_001).sign(&key);
    assert_eq!(send(&mut net, &more), Err(TxError::InBelowOut { inputs: 100_000, outputs: 100_001 }));
    let flood = Spend::of(&[&coin]).pay(&key.script(), 21_000_000 * 100_000_000 + 1).sign(&key);
    assert_eq!(send(&mut net, &flood), Err(TxError::Malformed("bad-txns-vout-toolarge")));
    let empty = Spend::of(&[&coin]).sign(&key);
    assert_eq!(send(&mut net, &empty), Err(TxError::Malformed("bad-txns-vout-empty")));
    let coinbase = net.chain().tip().block.txdata[0].clone();
    assert_eq!(send(&mut net, &coinbase), Err(TxError::Coinbase));
}

#[test]
fn a_chain_of_unconfirmed_transactions_ends_at_the_limit_and_a_block_clears_it() {
    let (mut net, key) = (regtest(), Key::new(1));
    let mut last = funded(&mut net, key.script(), 100_000);
    let mut chain = Vec::new();
    for _ in 0..MAX_CHAIN_COUNT {
        let tx = Spend::of(&[&last]).rest(&key.script(), 200).sign(&key);
        send(&mut net, &tx).unwrap();
        last = coin(&tx, 0);
        chain.push(tx);
    }
    let one_more = Spend::of(&[&last]).rest(&key.script(), 200).sign(&key);
    assert!(matches!(send(&mut net, &one_more), Err(TxError::ChainTooLong(_))));
    mine(&mut net, 1);
    assert!(chain.iter().all(|tx| confirmed(&net, tx)));
    assert!(net.mempool().is_empty());
    send(&mut net, &one_more).unwrap();
}

#[test]
fn the_other_owner_of_an_anchor_gets_one_descendant_beyond_the_limit() {
    let (mut net, key) = (regtest(), Key::new(1));
    let first = funded(&mut net, key.script(), 1_000_000);
    let commitment =
        Spend::of(&[&first]).pay(&key.script(), 400_000).pay(&key.script(), 400_000).rest(&key.script(), 900);
    let commitment = commitment.sign(&key);
    send(&mut net, &commitment).unwrap();
    let mut last = coin(&commitment, 0);
    for _ in 1..MAX_CHAIN_COUNT {
        let tx = Spend::of(&[&last]).rest(&key.script(), 200).sign(&key);
        send(&mut net, &tx).unwrap();
        last = coin(&tx, 0);
    }
    let carve_out = Spend::of(&[&coin(&commitment, 1)]).rest(&key.script(), 200).sign(&key);
    send(&mut net, &carve_out).unwrap();
    let third = Spend::of(&[&coin(&commitment, 2)]).rest(&key.script(), 200).sign(&key);
    assert!(matches!(send(&mut net, &third), Err(TxError::ChainTooLong(_))));
}

#[test]
fn a_full_block_takes_what_pays_best_with_its_ancestors() {
    let (mut net, key) = (regtest(), Key::new(1));
    // Eleven heavy transactions, of which ten fit, and a poor parent with a rich child.
    let mut heavy = Vec::new();
    for n in 0..11u64 {
        let first = funded(&mut net, key.script(), 10_000_000);
        let tx = (0..2_200).fold(Spend::of(&[&first]), |spend, _| spend.pay(&key.taproot(), 400));
        heavy.push(tx.rest(&key.script(), 200_000 + n * 10_000).sign(&key));
    }
    let first = funded(&mut net, key.script(), 10_000_000);
    let parent = Spend::of(&[&first]).rest(&key.script(), 200).sign(&key);
    let child = Spend::of(&[&coin(&parent, 0)]).rest(&key.script(), 100_000).sign(&key);
    for tx in heavy.iter().chain([&parent, &child]) {
        send(&mut net, tx).unwrap();
    }
    mine(&mut net, 1);
    let block = &net.chain().tip().block;
    assert_eq!(block.txdata[1].compute_txid(), parent.compute_txid(), "the best bundle comes first");
    assert_eq!(block.txdata[2].compute_txid(), child.compute_txid());
    assert!(waiting(&net, &heavy[0]), "the worst payer waits");
    assert!(heavy[1..].iter().all(|tx| confirmed(&net, tx)));
    let fees: u64 = (1..11).map(|n| 200_000 + n * 10_000).sum::<u64>() + 100_200;
    let reward: u64 = block.txdata[0].output.iter().map(|out| out.value.to_sat()).sum();
    assert_eq!(reward, devnet::subsidy(net.chain().height()).to_sat() + fees);
}

#[test]
fn a_block_evicts_what_it_makes_impossible() {
    let (mut net, key) = (regtest(), Key::new(1));
    let first = funded(&mut net, key.script(), 100_000);
    let loser = Spend::of(&[&first]).rest(&key.script(), 500).sign(&key);
    let heir = Spend::of(&[&coin(&loser, 0)]).rest(&key.script(), 500).sign(&key);
    let winner = Spend::of(&[&first]).rest(&key.taproot(), 500).sign(&key);
    send(&mut net, &loser).unwrap();
    send(&mut net, &heir).unwrap();
    let (tip, payee) = (net.tip().hash, net.faucet().script().clone());
    net.mine_on(tip, vec![winner.clone()], payee, NOW).unwrap();
    assert!(net.mempool().is_empty());
    assert_eq!(net.mempool().vbytes(), 0);
    assert_eq!(net.chain().spender(&first.at), Some((winner.compute_txid(), 0)));
}

#[test]
fn the_faucet_pays_many_times_without_a_block_and_its_payments_confirm() {
    let mut net = regtest();
    let before = net.faucet().balance(net.chain(), net.mempool());
    let paid: Vec<Txid> = (0..200u8)
        .map(|n| {
            let amount = bitcoin::Amount::from_sat(1_000_000 + u64::from(n));
            net.fund(Key::new(n + 1).script(), amount, NOW).unwrap()
        })
        .collect();
    mine(&mut net, 1);
    assert!(paid.iter().all(|txid| net.chain().position(txid).is_some()));
    let coins = (0..200u8).filter(|n| {
        let script = devnet::ScriptId::of(&Key::new(n + 1).script());
        let unspent = net.chain().script(&script).unwrap().unspent.clone();
        let value = |at: &OutPoint| net.chain().coin(at).unwrap().output.value.to_sat();
        unspent.iter().map(value).collect::<Vec<_>>() == [1_000_000 + u64::from(*n)]
    });
    assert_eq!(coins.count(), 200);
    let after = net.faucet().balance(net.chain(), net.mempool());
    let one_matured = before + devnet::subsidy(1);
    let spent = one_matured - after;
    assert!((200_000_000..201_000_000).contains(&spent.to_sat()), "payments and modest fees, no more: {spent}");
    let too_much = bitcoin::Amount::from_btc(1_000_000.0).unwrap();
    assert_eq!(net.fund(Key::new(1).script(), too_much, NOW), Err(devnet::FaucetError::Insufficient));
    let dust = bitcoin::Amount::from_sat(10);
    assert_eq!(net.fund(Key::new(1).script(), dust, NOW), Err(devnet::FaucetError::Dust));
}

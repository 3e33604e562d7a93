//! Replacement by fee (BIP125, whether it was signaled or not).

use devnet::TxError;

use crate::kit::{Key, Spend, coin, funded, regtest, send, waiting};

#[test]
fn a_replacement_pays_for_what_it_evicts_and_for_its_own_relay() {
    let (mut net, key) = (regtest(), Key::new(1));
    let first = funded(&mut net, key.script(), 1_000_000);
    let old = Spend::of(&[&first]).rest(&key.script(), 1_000).sequence(u32::MAX).sign(&key);
    let child = Spend::of(&[&coin(&old, 0)]).rest(&key.script(), 5_000).sign(&key);
    send(&mut net, &old).unwrap();
    send(&mut net, &child).unwrap();
    let with_fee = |fee| Spend::of(&[&first]).rest(&key.taproot(), fee).sign(&key);
    let vsize = with_fee(0).vsize() as u64;
    for fee in [1_000, 5_999, 6_000, 6_000 + vsize - 1] {
        let outcome = send(&mut net, &with_fee(fee));
        assert!(matches!(outcome, Err(TxError::ReplacementFee { .. })), "{fee}: {outcome:?}");
        assert!(waiting(&net, &old) && waiting(&net, &child), "a refused replacement changes nothing");
    }
    let accepted = send(&mut net, &with_fee(6_000 + vsize)).unwrap();
    let mut gone = vec![old.compute_txid(), child.compute_txid()];
    gone.sort();
    assert_eq!(accepted.replaced, gone);
    assert_eq!(net.mempool().len(), 1);
    assert_eq!(net.mempool().fees(), 6_000 + vsize);
    assert_eq!(net.mempool().spender(&first.at), Some(accepted.txid));
}

#[test]
fn more_fee_at_a_lower_rate_is_no_replacement() {
    let (mut net, key) = (regtest(), Key::new(1));
    let first = funded(&mut net, key.script(), 1_000_000);
    let old = Spend::of(&[&first]).rest(&key.script(), 10_000).sign(&key);
    send(&mut net, &old).unwrap();
    let wide = (0..20).fold(Spend::of(&[&first]), |spend, _| spend.pay(&key.script(), 1_000));
    let wide = wide.rest(&key.script(), 20_000).sign(&key);
    assert!(matches!(send(&mut net, &wide), Err(TxError::ReplacementFee { .. })));
}

#[test]
fn a_replacement_brings_no_new_unconfirmed_input_and_does_not_spend_its_victim() {
    let (mut net, key) = (regtest(), Key::new(1));
    let (one, two) = (funded(&mut net, key.script(), 1_000_000), funded(&mut net, key.script(), 1_000_000));
    let old = Spend::of(&[&one]).rest(&key.script(), 1_000).sign(&key);
    let other = Spend::of(&[&two]).rest(&key.script(), 1_000).sign(&key);
    send(&mut net, &old).unwrap();
    send(&mut net, &other).unwrap();
    let adds = Spend::of(&[&one, &coin(&other, 0)]).rest(&key.script(), 90_000).sign(&key);
    assert_eq!(send(&mut net, &adds), Err(TxError::AddsUnconfirmed));
    let eats = Spend::of(&[&one, &coin(&old, 0)]).rest(&key.script(), 90_000).sign(&key);
    assert_eq!(send(&mut net, &eats), Err(TxError::SpendsConflict));
}

#[test]
fn a_replacement_evicts_at_most_a_hundred() {
    let (mut net, key) = (regtest(), Key::new(1));
    let coins: Vec<_> = (0..5).map(|_| funded(&mut net, key.script(), 1_000_000)).collect();
    for first in &coins {
        let mut last = first.clone();
        for _ in 0..21 {
            let tx = Spend::of(&[&last]).rest(&key.script(), 200).sign(&key);
            send(&mut net, &tx).unwrap();
            last = coin(&tx, 0);
        }
    }
    let all: Vec<_> = coins.iter().collect();
    let greedy = Spend::of(&all).rest(&key.script(), 500_000).sign(&key);
    assert_eq!(send(&mut net, &greedy), Err(TxError::TooManyReplacements(105)));
    let modest = Spend::of(&all[..4]).rest(&key.script(), 500_000).sign(&key);
    assert_eq!(send(&mut net, &modest).unwrap().replaced.len(), 84);
    assert_eq!(net.mempool().len(), 22);
}

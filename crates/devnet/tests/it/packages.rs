//! Children that pay for parents: anchor commitments, version 3, ephemeral dust.

use bitcoin::Transaction;
use devnet::{Outcome, PackageError, Regtest, TxError};

use crate::kit::{Key, NOW, Spend, anchor, coin, confirmed, funded, mine, regtest, send, waiting};

fn submit(net: &mut Regtest, txs: &[&Transaction]) -> Vec<Outcome> {
    net.submit_package(txs.iter().map(|tx| (*tx).clone()).collect(), NOW).unwrap()
}

fn accepted(outcomes: &[Outcome]) -> bool {
    outcomes.iter().all(|outcome| matches!(outcome, Outcome::Accepted { .. }))
}

#[test]
fn a_commitment_without_fee_is_carried_by_the_child_that_spends_its_anchor() {
    for version in [2, 3] {
        let (mut net, key) = (regtest(), Key::new(1));
        let (funding, wallet) = (funded(&mut net, key.taproot(), 1_000_000), funded(&mut net, key.script(), 500_000));
        let commitment = Spend::of(&[&funding]).pay(&anchor(), 240).rest(&key.script(), 0).version(version).sign(&key);
        assert!(matches!(send(&mut net, &commitment), Err(TxError::FeeTooLow { paid: 0, .. })));
        let child = Spend::of(&[&coin(&commitment, 0), &wallet]).rest(&key.script(), 2_000).version(version).sign(&key);
        assert_eq!(send(&mut net, &child), Err(TxError::MissingInputs));

        let outcomes = submit(&mut net, &[&commitment, &child]);
        assert!(accepted(&outcomes), "{outcomes:?}");
        let size = (commitment.vsize() + child.vsize()) as u64;
        let Outcome::Accepted { feerate, includes, .. } = &outcomes[0] else { unreachable!() };
        assert_eq!((*feerate, includes.len()), (2_000 * 1000 / size, 2));
        mine(&mut net, 1);
        assert!(confirmed(&net, &commitment) && confirmed(&net, &child));
    }
}

#[test]
fn a_child_that_pays_too_little_carries_nothing() {
    let (mut net, key) = (regtest(), Key::new(1));
    let first = funded(&mut net, key.script(), 1_000_000);
    let parent = Spend::of(&[&first]).rest(&key.script(), 0).sign(&key);
    let child = Spend::of(&[&coin(&parent, 0)]).rest(&key.script(), 150).sign(&key);
    let outcomes = submit(&mut net, &[&parent, &child]);
    assert!(outcomes.iter().all(|outcome| matches!(outcome, Outcome::Refused(_))));
    assert!(net.mempool().is_empty());
}

#[test]
fn a_child_with_a_bad_script_takes_its_parent_down() {
    let (mut net, key) = (regtest(), Key::new(1));
    let first = funded(&mut net, key.script(), 1_000_000);
    let parent = Spend::of(&[&first]).rest(&key.script(), 0).sign(&key);
    let mut child = Spend::of(&[&coin(&parent, 0)]).rest(&key.script(), 5_000).sign(&key);
    child.output[0].value -= bitcoin::Amount::from_sat(1);
    let outcomes = submit(&mut net, &[&parent, &child]);
    assert!(matches!(&outcomes[1], Outcome::Refused(TxError::Script { .. })), "{outcomes:?}");
    assert!(net.mempool().is_empty());
}

#[test]
fn a_parent_that_waits_already_is_reported_as_known_and_its_child_can_be_bumped() {
    let (mut net, key) = (regtest(), Key::new(1));
    let (funding, wallet) = (funded(&mut net, key.script(), 1_000_000), funded(&mut net, key.script(), 500_000));
    let parent = Spend::of(&[&funding]).pay(&anchor(), 240).rest(&key.script(), 0).version(3).sign(&key);
    let child = |fee| Spend::of(&[&coin(&parent, 0), &wallet]).rest(&key.script(), fee).version(3).sign(&key);
    assert!(accepted(&submit(&mut net, &[&parent, &child(2_000)])));
    let outcomes = submit(&mut net, &[&parent, &child(4_000)]);
    assert_eq!(outcomes[0], Outcome::Known(parent.compute_wtxid()));
    let Outcome::Accepted { accepted, .. } = &outcomes[1] else { panic!("{outcomes:?}") };
    assert_eq!(accepted.replaced, [child(2_000).compute_txid()]);
    assert_eq!(net.mempool().len(), 2);
}

#[test]
fn the_counterpartys_commitment_replaces_ours_as_a_package() {
    let (mut net, key) = (regtest(), Key::new(1));
    let funding = funded(&mut net, key.script(), 1_000_000);
    let (ours, theirs) = (funded(&mut net, key.script(), 500_000), funded(&mut net, key.script(), 500_000));
    let commitment =
        |script: &bitcoin::ScriptBuf| Spend::of(&[&funding]).pay(&anchor(), 0).rest(script, 0).version(3).sign(&key);
    let bump = |parent: &Transaction, wallet, fee| {
        Spend::of(&[&coin(parent, 0), wallet]).rest(&key.script(), fee).version(3).sign(&key)
    };
    let first = commitment(&key.script());
    let first_child = bump(&first, &ours, 2_000);
    assert!(accepted(&submit(&mut net, &[&first, &first_child])));
    let second = commitment(&key.taproot());
    let poor = bump(&second, &theirs, 2_100);
    assert!(!accepted(&submit(&mut net, &[&second, &poor])));
    assert!(waiting(&net, &first) && waiting(&net, &first_child));
    let rich = bump(&second, &theirs, 5_000);
    assert!(accepted(&submit(&mut net, &[&second, &rich])));
    assert!(!waiting(&net, &first) && !waiting(&net, &first_child));
    mine(&mut net, 1);
    assert!(confirmed(&net, &second) && confirmed(&net, &rich));
}

#[test]
fn dust_passes_only_in_a_transaction_without_fee_whose_child_spends_it() {
    let (mut net, key) = (regtest(), Key::new(1));
    let (funding, wallet) = (funded(&mut net, key.script(), 1_000_000), funded(&mut net, key.script(), 500_000));
    let paying = Spend::of(&[&funding]).pay(&anchor(), 0).rest(&key.script(), 1_000).version(3).sign(&key);
    assert_eq!(send(&mut net, &paying), Err(TxError::NonStandard("dust")));
    let parent = Spend::of(&[&funding]).pay(&anchor(), 0).rest(&key.script(), 0).version(3).sign(&key);
    let beside = Spend::of(&[&coin(&parent, 1)]).rest(&key.script(), 2_000).version(3).sign(&key);
    let outcomes = submit(&mut net, &[&parent, &beside]);
    assert_eq!(outcomes[1], Outcome::Refused(TxError::EphemeralUnspent(parent.compute_txid())));
    let through = Spend::of(&[&coin(&parent, 0), &wallet]).rest(&key.script(), 2_000).version(3).sign(&key);
    assert!(accepted(&submit(&mut net, &[&parent, &through])));
}

#[test]
fn version_three_keeps_to_one_parent_and_one_small_child() {
    let (mut net, key) = (regtest(), Key::new(1));
    let first = funded(&mut net, key.script(), 1_000_000);
    let parent = Spend::of(&[&first]).pay(&key.script(), 400_000).rest(&key.script(), 1_000).version(3).sign(&key);
    send(&mut net, &parent).unwrap();
    let truc = |outcome| matches!(outcome, Err(TxError::Truc(_)));
    let old = Spend::of(&[&coin(&parent, 0)]).rest(&key.script(), 1_000).version(2).sign(&key);
    assert!(truc(send(&mut net, &old)), "version 2 may not spend version 3");
    let wide = (0..40).fold(Spend::of(&[&coin(&parent, 0)]).version(3), |spend, _| spend.pay(&key.script(), 1_000));
    assert!(truc(send(&mut net, &wide.sign(&key))), "more than 1000 vbytes");
    let child = Spend::of(&[&coin(&parent, 0)]).rest(&key.script(), 1_000).version(3).sign(&key);
    send(&mut net, &child).unwrap();
    let grandchild = Spend::of(&[&coin(&child, 0)]).rest(&key.script(), 1_000).version(3).sign(&key);
    assert!(truc(send(&mut net, &grandchild)));
    let sibling = Spend::of(&[&coin(&parent, 1)]).rest(&key.script(), 3_000).version(3).sign(&key);
    assert_eq!(send(&mut net, &sibling).unwrap().replaced, [child.compute_txid()], "a better sibling takes the place");
}

#[test]
fn a_package_is_one_child_with_its_parents_in_order() {
    let (mut net, key) = (regtest(), Key::new(1));
    let (one, two) = (funded(&mut net, key.script(), 1_000_000), funded(&mut net, key.script(), 1_000_000));
    let parent = Spend::of(&[&one]).rest(&key.script(), 0).sign(&key);
    let child = Spend::of(&[&coin(&parent, 0)]).rest(&key.script(), 5_000).sign(&key);
    let stranger = Spend::of(&[&two]).rest(&key.script(), 0).sign(&key);
    let rival = Spend::of(&[&one]).rest(&key.taproot(), 0).sign(&key);
    let cases = [
        (vec![], PackageError::Count),
        (vec![child.clone(), parent.clone()], PackageError::NotSorted),
        (vec![parent.clone(), parent.clone()], PackageError::Duplicates),
        (vec![stranger, parent.clone(), child.clone()], PackageError::Topology),
        (vec![parent, rival, child], PackageError::Conflict),
    ];
    for (txs, expected) in cases {
        assert_eq!(net.submit_package(txs, NOW), Err(expected));
    }
}

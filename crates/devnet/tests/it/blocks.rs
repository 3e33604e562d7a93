//! Blocks from strangers: every rule of the header, the coinbase and the body.

use bitcoin::block::Header;
use bitcoin::{Amount, Block, CompactTarget, Target, Witness};
use devnet::{BlockError, Regtest, subsidy};
use units::Unix;

use crate::kit::{Key, NOW, Spend, funded, mine, regtest};

fn grind(header: &mut Header) {
    while !Target::from_compact(header.bits).is_met_by(header.block_hash()) {
        header.nonce += 1;
    }
}

/// A valid block on the tip, changed by `change`, with fresh roots and proof of work.
fn changed(net: &Regtest, change: impl FnOnce(&mut Block)) -> Block {
    let mut block = net.assemble(net.tip().hash, Key::new(9).script(), Vec::new(), 0, NOW).unwrap();
    change(&mut block);
    block.header.merkle_root = block.compute_merkle_root().unwrap();
    grind(&mut block.header);
    block
}

#[test]
fn each_broken_rule_has_its_name_and_leaves_the_chain_alone() {
    let mut net = regtest();
    let mtp = net.chain().tip().mtp;
    let other = net.chain().block_at(5).unwrap().block.txdata[0].clone();
    let cases: Vec<(Block, &str)> = vec![
        (changed(&net, |b| b.txdata[0].output[0].value += Amount::from_sat(1)), "bad-cb-amount"),
        (changed(&net, |b| b.header.time = mtp), "time-too-old"),
        (changed(&net, |b| b.header.time = NOW.0 as u32 + 7_201), "time-too-new"),
        (changed(&net, |b| b.header.bits = CompactTarget::from_consensus(0x207f_fffe)), "bad-diffbits"),
        (changed(&net, |b| b.txdata[0].input[0].script_sig = other.input[0].script_sig.clone()), "bad-cb-height"),
        (changed(&net, |b| b.txdata.push(other.clone())), "bad-cb-multiple"),
        (changed(&net, |b| b.txdata[0].input[0].witness.clear()), "bad-witness-nonce-size"),
        (changed(&net, |b| b.txdata[0].output.truncate(1)), "unexpected-witness"),
        (
            changed(&net, |b| b.txdata[0].input[0].witness = Witness::from_slice(&[[1u8; 32]])),
            "bad-witness-merkle-match",
        ),
        (changed(&net, |b| b.header.version = bitcoin::block::Version::from_consensus(1)), "bad-version"),
    ];
    let tip = net.tip();
    for (block, name) in cases {
        let outcome = net.submit_block(block, NOW).map_err(|error| error.to_string());
        assert_eq!(outcome, Err(name.to_owned()));
        assert_eq!(net.tip(), tip);
    }
    let good = changed(&net, |_| {});
    let mut weak = good.clone();
    while Target::from_compact(weak.header.bits).is_met_by(weak.header.block_hash()) {
        weak.header.nonce += 1;
    }
    assert_eq!(net.submit_block(weak, NOW), Err(BlockError::Rule("high-hash")));
    let mut unrooted = good.clone();
    unrooted.header.merkle_root = bitcoin::hashes::Hash::all_zeros();
    grind(&mut unrooted.header);
    assert_eq!(net.submit_block(unrooted, NOW), Err(BlockError::Rule("bad-txnmrklroot")));
    net.submit_block(good.clone(), NOW).unwrap();
    assert_eq!(net.submit_block(good, NOW), Err(BlockError::Duplicate));
}

#[test]
fn a_repeated_transaction_that_keeps_the_merkle_root_is_seen() {
    let (mut net, key) = (regtest(), Key::new(1));
    let coin = funded(&mut net, key.script(), 100_000);
    let tx = Spend::of(&[&coin]).rest(&key.script(), 500).sign(&key);
    let second = Spend::of(&[&crate::kit::coin(&tx, 0)]).rest(&key.script(), 500).sign(&key);
    let (tip, payee) = (net.tip().hash, key.script());
    let good = net.assemble(tip, payee, vec![tx, second.clone()], 0, NOW).unwrap();
    let mut mutated = good.clone();
    mutated.txdata.push(second);
    assert_eq!(mutated.compute_merkle_root(), good.compute_merkle_root());
    assert_eq!(net.submit_block(mutated, NOW), Err(BlockError::Rule("bad-txns-duplicate")));
    net.submit_block(good, NOW).expect("the mutation must not have tainted the real block");
}

#[test]
fn the_subsidy_halves_every_150_blocks_and_ends() {
    assert_eq!(subsidy(149), Amount::from_sat(50_0000_0000));
    assert_eq!(subsidy(150), Amount::from_sat(25_0000_0000));
    assert_eq!(subsidy(300), Amount::from_sat(12_5000_0000));
    assert_eq!(subsidy(150 * 33), Amount::ZERO);
    assert_eq!(subsidy(u32::MAX), Amount::ZERO);
    let mut net = regtest();
    mine(&mut net, 200);
    let paid = |height| {
        let coinbase = &net.chain().block_at(height).unwrap().block.txdata[0];
        coinbase.output.iter().map(|out| out.value).sum::<Amount>()
    };
    assert_eq!([paid(149), paid(150), paid(300)], [subsidy(149), subsidy(150), subsidy(300)]);
}

#[test]
fn many_blocks_at_one_instant_keep_growing_in_median_time() {
    let mut net = regtest();
    mine(&mut net, 500);
    for height in 1..=net.chain().height() {
        let (this, before) = (net.chain().block_at(height).unwrap(), net.chain().block_at(height - 1).unwrap());
        assert!(this.block.header.time > before.mtp);
        assert_eq!(this.work, before.work + this.block.header.work());
    }
    let earlier = Unix(NOW.0 - 1_000);
    net.mine(Key::new(1).script(), earlier).expect("a clock that goes back stops no miner");
}

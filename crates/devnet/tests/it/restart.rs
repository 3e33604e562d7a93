//! The block file: a chain survives a restart, a torn last record, and nothing else that is wrong.

use std::fs::OpenOptions;
use std::path::{Path, PathBuf};

use devnet::{Config, Devnet, DevnetError, StoreError, Tip};
use units::{Height, Sat};

use crate::kit::Key;

fn config(dir: &Path) -> Config {
    Config { data_dir: Some(dir.to_owned()), ..Config::default() }
}

fn file(dir: &Path) -> PathBuf {
    dir.join("regtest-blocks.dat")
}

/// A stopped chain of 133 blocks that has seen a payment, a reorg and an invalidated block.
async fn eventful(dir: &Path) -> (Tip, bitcoin::Txid) {
    let net = Devnet::start(config(dir)).await.unwrap();
    let txid = net.fund(&Key::new(1).address(), Sat(20_000)).await.unwrap();
    net.mine(2).await.unwrap();
    net.reorg(2).await.unwrap();
    net.mine(1).await.unwrap();
    let hash = net.tip().hash;
    net.with(move |regtest, now| regtest.invalidate(hash, now)).await.unwrap().unwrap();
    assert_eq!(net.height(), Height(133));
    net.mine(1).await.unwrap();
    let tip = net.tip();
    net.shutdown().await;
    (tip, txid)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_chain_with_a_reorg_and_an_invalidated_block_comes_back_the_same() {
    let dir = tempfile::tempdir().unwrap();
    let (tip, txid) = eventful(dir.path()).await;
    let net = Devnet::start(config(dir.path())).await.unwrap();
    assert_eq!(net.tip(), tip);
    let (known, tips) = net
        .with(move |regtest, _| (regtest.chain().position(&txid), regtest.chain().branch_tips().len()))
        .await
        .unwrap();
    assert_eq!(known.unwrap().height, 134, "the payment returned by the reorg was mined again");
    assert_eq!(tips, 3);
    net.fund(&Key::new(1).address(), Sat(20_000)).await.expect("the faucet finds its coins again");
    net.mine(1).await.unwrap();
}

/// Where the last record begins.
fn start_of_last(bytes: &[u8]) -> u64 {
    let (mut at, mut last) = (8, 8);
    while at < bytes.len() {
        last = at;
        at += 9 + u32::from_le_bytes(bytes[at + 1..at + 5].try_into().unwrap()) as usize;
    }
    last as u64
}

#[tokio::test(flavor = "multi_thread")]
async fn a_torn_last_block_is_cut_off_and_the_chain_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let (tip, _) = eventful(dir.path()).await;
    let whole = std::fs::read(file(dir.path())).unwrap();
    for cut in [1, 100, 200] {
        std::fs::write(file(dir.path()), &whole[..whole.len() - cut]).unwrap();
        let net = Devnet::start(config(dir.path())).await.unwrap();
        assert_eq!(net.height(), tip.height.minus(1));
        assert_eq!(std::fs::metadata(file(dir.path())).unwrap().len(), start_of_last(&whole), "cut, not overwritten");
        net.mine(1).await.unwrap();
        let tip = net.tip();
        net.shutdown().await;
        let net = Devnet::start(config(dir.path())).await.unwrap();
        assert_eq!(net.tip(), tip);
        net.shutdown().await;
    }
    let mut scribbled = whole.clone();
    let last = scribbled.len() - 1;
    scribbled[last] ^= 1;
    std::fs::write(file(dir.path()), scribbled).unwrap();
    let net = Devnet::start(config(dir.path())).await.unwrap();
    assert_eq!(net.height(), tip.height.minus(1));
}

#[tokio::test(flavor = "multi_thread")]
async fn damage_in_the_middle_is_an_error_and_costs_nothing() {
    let dir = tempfile::tempdir().unwrap();
    eventful(dir.path()).await;
    let whole = std::fs::read(file(dir.path())).unwrap();
    let mut damaged = whole.clone();
    damaged[whole.len() / 2] ^= 1;
    std::fs::write(file(dir.path()), &damaged).unwrap();
    let outcome = Devnet::start(config(dir.path())).await.err();
    assert!(matches!(outcome, Some(DevnetError::Store(StoreError::Damaged(_)))), "{outcome:?}");
    assert_eq!(std::fs::read(file(dir.path())).unwrap(), damaged);
    std::fs::write(file(dir.path()), b"something else entirely").unwrap();
    let outcome = Devnet::start(config(dir.path())).await.err();
    assert!(matches!(outcome, Some(DevnetError::Store(StoreError::NotOurs(_)))), "{outcome:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn blocks_from_the_file_are_validated_like_a_strangers() {
    let dir = tempfile::tempdir().unwrap();
    eventful(dir.path()).await;
    // Leave out the first record: every checksum is right, but the chain has no beginning.
    let whole = std::fs::read(file(dir.path())).unwrap();
    let first = 9 + u32::from_le_bytes(whole[9..13].try_into().unwrap()) as usize;
    std::fs::write(file(dir.path()), [&whole[..8], &whole[8 + first..]].concat()).unwrap();
    let outcome = Devnet::start(config(dir.path())).await.err();
    assert!(matches!(outcome, Some(DevnetError::Replay { record: 0, .. })), "{outcome:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn two_processes_do_not_share_a_file() {
    let dir = tempfile::tempdir().unwrap();
    let net = Devnet::start(config(dir.path())).await.unwrap();
    let outcome = Devnet::start(config(dir.path())).await.err();
    assert!(matches!(outcome, Some(DevnetError::Store(StoreError::InUse(_)))), "{outcome:?}");
    net.shutdown().await;
    Devnet::start(config(dir.path())).await.unwrap().shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_cut_inside_its_first_bytes_starts_anew() {
    let dir = tempfile::tempdir().unwrap();
    eventful(dir.path()).await;
    OpenOptions::new().write(true).open(file(dir.path())).unwrap().set_len(5).unwrap();
    let net = Devnet::start(config(dir.path())).await.unwrap();
    assert_eq!(net.height(), Height(130));
}

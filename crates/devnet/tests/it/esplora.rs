//! Esplora as the real `esplora-client` sees it.

use bitcoin::Txid;
use bitcoin::hashes::Hash;
use devnet::{Config, Devnet};
use esplora_client::{AsyncClient, Builder};
use units::Sat;

use crate::kit::{Key, Spend, anchor, coin};

async fn start() -> (Devnet, AsyncClient) {
    let net = Devnet::start(Config::default()).await.unwrap();
    let client = Builder::new(&net.esplora_url()).max_retries(0).build_async().unwrap();
    (net, client)
}

/// A confirmed coin of `sat` for `key`.
async fn coin_for(net: &Devnet, key: &Key, sat: u64) -> crate::kit::Coin {
    let txid = net.fund(&key.address(), Sat(sat)).await.unwrap();
    let tx = net.with(move |regtest, _| regtest.mempool().get(&txid).unwrap().tx.clone()).await.unwrap();
    net.mine(1).await.unwrap();
    coin(&tx, tx.output.iter().position(|out| out.script_pubkey == key.script()).unwrap() as u32)
}

#[tokio::test(flavor = "multi_thread")]
async fn blocks_are_found_by_height_and_by_hash() {
    let (net, client) = start().await;
    assert_eq!(client.get_height().await.unwrap(), 130);
    assert_eq!(client.get_tip_hash().await.unwrap(), net.tip().hash);
    let hash = client.get_block_hash(100).await.unwrap();
    let block = client.get_block_by_hash(&hash).await.unwrap().unwrap();
    assert_eq!(block.block_hash(), hash);
    assert_eq!(client.get_header_by_hash(&hash).await.unwrap(), block.header);
    let status = client.get_block_status(&hash).await.unwrap();
    assert_eq!((status.in_best_chain, status.height), (true, Some(100)));
    assert_eq!(status.next_best, Some(client.get_block_hash(101).await.unwrap()));
    assert_eq!(client.get_txid_at_block_index(&hash, 0).await.unwrap(), Some(block.txdata[0].compute_txid()));
    assert_eq!(client.get_txid_at_block_index(&hash, 1).await.unwrap(), None);
    assert_eq!(client.get_block_txids(&hash).await.unwrap(), [block.txdata[0].compute_txid()]);
    assert_eq!(client.get_block_txs(&hash, None).await.unwrap()[0].to_tx(), block.txdata[0]);
    let info = client.get_block_info(&hash).await.unwrap();
    assert_eq!((info.height, info.tx_count, info.bits), (100, 1, block.header.bits));

    let page = client.get_block_infos(None).await.unwrap();
    assert_eq!(page.iter().map(|b| b.height).collect::<Vec<_>>(), (121..=130).rev().collect::<Vec<_>>());
    let last = client.get_block_infos(Some(3)).await.unwrap();
    assert_eq!(last.iter().map(|b| b.height).collect::<Vec<_>>(), [3, 2, 1, 0]);
    assert_eq!(last[3].previousblockhash, None);
    assert!(client.get_block_hash(131).await.is_err());
    assert_eq!(client.get_block_by_hash(&bitcoin::BlockHash::all_zeros()).await.unwrap(), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transaction_is_broadcast_watched_and_proved() {
    let (net, client) = start().await;
    let key = Key::new(1);
    let first = coin_for(&net, &key, 100_000).await;
    let tx = Spend::of(&[&first]).rest(&key.script(), 1_000).sign(&key);
    let txid = tx.compute_txid();
    assert_eq!(client.get_tx(&txid).await.unwrap(), None);
    assert!(!client.get_tx_status(&txid).await.unwrap().confirmed);

    client.broadcast(&tx).await.unwrap();
    client.broadcast(&tx).await.expect("broadcasting again is no error");
    assert_eq!(client.get_tx(&txid).await.unwrap().as_ref(), Some(&tx));
    let spent = client.get_output_status(&first.at.txid, first.at.vout.into()).await.unwrap().unwrap();
    assert_eq!((spent.spent, spent.txid, spent.vin), (true, Some(txid), Some(0)));
    assert!(!spent.status.unwrap().confirmed);
    assert_eq!(client.get_mempool_txids().await.unwrap(), [txid]);
    assert_eq!(client.get_mempool_stats().await.unwrap().count, 1);
    assert_eq!(client.get_mempool_recent_txs().await.unwrap()[0].fee, 1_000);
    assert_eq!(client.get_merkle_proof(&txid).await.unwrap(), None);

    for n in 0..4 {
        net.fund(&Key::new(10 + n).address(), Sat(30_000)).await.unwrap();
    }
    let hash = net.mine(1).await.unwrap()[0];
    let info = client.get_tx_info(&txid).await.unwrap().unwrap();
    assert_eq!((info.fee, info.status.block_hash, info.to_tx()), (1_000, Some(hash), tx.clone()));
    assert_eq!(info.vin[0].prevout.as_ref().unwrap().value, 100_000);
    let spent = client.get_output_status(&first.at.txid, first.at.vout.into()).await.unwrap().unwrap();
    assert_eq!(spent.status.unwrap().block_height, Some(132));
    let outspends = client.get_tx_outspends(&txid).await.unwrap();
    assert_eq!(outspends.iter().map(|s| s.spent).collect::<Vec<_>>(), [false]);

    let header = client.get_header_by_hash(&hash).await.unwrap();
    for txid in client.get_block_txids(&hash).await.unwrap() {
        let proof = client.get_merkle_block(&txid).await.unwrap().unwrap();
        let (mut ids, mut at) = (Vec::new(), Vec::new());
        assert_eq!(proof.extract_matches(&mut ids, &mut at).unwrap(), ());
        assert_eq!((proof.header, ids), (header, vec![txid]));
        let branch = client.get_merkle_proof(&txid).await.unwrap().unwrap();
        assert_eq!(root(txid, branch.pos, &branch.merkle), header.merkle_root.to_raw_hash());
        assert_eq!(branch.pos as u32, at[0]);
    }
}

/// The merkle root that a branch leads to.
fn root(txid: Txid, mut pos: usize, branch: &[Txid]) -> bitcoin::hashes::sha256d::Hash {
    branch.iter().fold(txid.to_raw_hash(), |hash, other| {
        let other = other.to_raw_hash();
        let pair = if pos.is_multiple_of(2) { [hash, other] } else { [other, hash] };
        pos /= 2;
        Hash::hash(&pair.map(Hash::to_byte_array).concat())
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_script_has_a_history_in_pages_and_unspent_outputs() {
    let (net, client) = start().await;
    let key = Key::new(1);
    let mut sent = Vec::new();
    for n in 0..30u64 {
        sent.push(net.fund(&key.address(), Sat(20_000 + n)).await.unwrap());
        if n % 3 == 2 {
            net.mine(1).await.unwrap();
        }
    }
    let script = key.script();
    let page = client.scripthash_txs(&script, None).await.unwrap();
    assert_eq!(page.len(), 25);
    assert!(page.windows(2).all(|pair| pair[0].status.block_height >= pair[1].status.block_height));
    let rest = client.scripthash_txs(&script, Some(page[24].txid)).await.unwrap();
    let mut seen: Vec<Txid> = page.iter().chain(&rest).map(|tx| tx.txid).collect();
    assert_eq!(seen.len(), 30);
    seen.sort();
    sent.sort();
    assert_eq!(seen, sent);

    let waiting = net.fund(&key.address(), Sat(99_999)).await.unwrap();
    assert_eq!(client.scripthash_txs(&script, None).await.unwrap()[0].txid, waiting);
    assert_eq!(client.get_mempool_scripthash_txs(&script).await.unwrap().len(), 1);
    assert_eq!(client.get_address_txs(&key.address(), None).await.unwrap().len(), 26);
    let unspent = client.get_scripthash_utxos(&script).await;
    let by_address = client.get_address_utxos(&key.address()).await.unwrap();
    assert_eq!(by_address.len(), 31);
    assert_eq!(by_address.iter().filter(|utxo| !utxo.status.confirmed).count(), 1);
    assert!(unspent.is_ok_and(|unspent| unspent.len() == 31));
    let stats = client.get_address_stats(&key.address()).await.unwrap();
    assert_eq!(
        (stats.chain_stats.tx_count, stats.chain_stats.funded_txo_count, stats.mempool_stats.tx_count),
        (30, 30, 1)
    );
    assert_eq!(stats.chain_stats.funded_txo_sum, (0..30).map(|n| 20_000 + n).sum::<u64>());
    assert!(client.scripthash_txs(&Key::new(77).script(), None).await.unwrap().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_transaction_is_a_400_with_bitcoinds_error_inside() {
    let (net, client) = start().await;
    let key = Key::new(1);
    let first = coin_for(&net, &key, 100_000).await;
    let poor = Spend::of(&[&first]).rest(&key.script(), 1).sign(&key);
    match client.broadcast(&poor).await {
        Err(esplora_client::Error::HttpResponse { status: 400, message }) => {
            assert!(message.contains("\"code\":-26") && message.contains("min relay fee not met"), "{message}");
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_package_goes_through() {
    let (net, client) = start().await;
    let key = Key::new(1);
    let (funding, wallet) = (coin_for(&net, &key, 100_000).await, coin_for(&net, &key, 50_000).await);
    let parent = Spend::of(&[&funding]).pay(&anchor(), 0).rest(&key.script(), 0).version(3).sign(&key);
    let child = Spend::of(&[&coin(&parent, 0), &wallet]).rest(&key.script(), 2_000).version(3).sign(&key);
    let outcome = client.submit_package(&[parent.clone(), child.clone()], None, None).await.unwrap();
    assert_eq!(outcome.package_msg, "success");
    assert_eq!(outcome.tx_results[&child.compute_wtxid()].txid, child.compute_txid());
    assert_eq!(client.get_mempool_txids().await.unwrap().len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reorg_shows_in_the_status_of_blocks_and_transactions() {
    let (net, client) = start().await;
    let txid = net.fund(&Key::new(1).address(), Sat(20_000)).await.unwrap();
    let hash = net.mine(1).await.unwrap()[0];
    assert!(client.get_tx_status(&txid).await.unwrap().confirmed);
    net.reorg(1).await.unwrap();
    assert!(!client.get_block_status(&hash).await.unwrap().in_best_chain);
    assert!(!client.get_tx_status(&txid).await.unwrap().confirmed);
    assert_eq!(client.get_height().await.unwrap(), 132);
    let fees = client.get_fee_estimates().await.unwrap();
    assert_eq!(fees[&6], 2.0);
}

//! Stories of the chain source: starting, losing it, packages, fees.

use std::sync::Arc;
use std::time::Duration;

use bitcoin::blockdata::constants::genesis_block;
use bitcoin::hashes::Hash;
use bitcoin::{
    Amount, BlockHash, Network, OutPoint, Script, ScriptBuf, Sequence, Transaction, TxIn, TxOut, Witness, absolute,
    transaction,
};
use lightning::chain::BestBlock;
use lightning::chain::chaininterface::{BroadcasterInterface, ConfirmationTarget, FeeEstimator};
use node_ldk::{Birthday, Chain, ChainConfig, ChainError, ChainStatus, Listeners, TracingLogger, Wallet};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use units::{Height, Sat};

use crate::rig::{DEADLINE, Kind, Recorder, World, config, devnet, gate, over_both, seed, until};

over_both! {
    the_source_goes_and_comes_back,
    another_network_is_refused_with_both_names,
    nobody_there_is_told_apart,
    a_package_goes_in_whatever_its_order,
    a_second_spend_is_refused_and_nothing_stops,
    it_can_be_stopped_and_run_again_but_not_twice_at_once,
    what_is_broadcast_last_is_sent_before_it_stops,
}

async fn start(config: ChainConfig, network: Network) -> Result<Chain, ChainError> {
    Chain::start(config, network, Arc::new(TracingLogger)).await
}

async fn the_source_goes_and_comes_back(kind: Kind) {
    let (net, dir) = (devnet().await, tempfile::tempdir().unwrap());
    let mut world = World::start(&net, kind, dir.path()).await;
    let mut status = world.chain.status();
    world.mine(&net, 1).await;
    timeout(DEADLINE, status.wait_for(|s| *s == ChainStatus::Following)).await.unwrap().unwrap();
    world.gate.shut();
    timeout(DEADLINE, status.wait_for(|s| matches!(s, ChainStatus::Lost { .. }))).await.unwrap().unwrap();
    let error = world.chain.best_block().await.unwrap_err();
    assert!(matches!(error, ChainError::Unreachable { .. }), "{error}");
    assert!(error.is_transient());
    net.mine(3).await.unwrap();
    world.gate.reopen();
    world.caught_up(&net).await;
    timeout(DEADLINE, status.wait_for(|s| *s == ChainStatus::Following)).await.unwrap().unwrap();
    assert_eq!(world.manager.last().height, net.height().0);
    world.stop().await;
}

async fn another_network_is_refused_with_both_names(kind: Kind) {
    let net = devnet().await;
    let gate = gate(&net, kind).await;
    let error = start(config(&net, kind, gate.addr), Network::Signet).await.err().unwrap();
    assert_eq!(error.to_string(), "configured for signet, but the chain source serves regtest");
    assert!(!error.is_transient());
}

async fn nobody_there_is_told_apart(kind: Kind) {
    let net = devnet().await;
    let gate = gate(&net, kind).await;
    let config = config(&net, kind, gate.addr);
    gate.shut();
    let error = start(config, Network::Regtest).await.err().unwrap();
    assert!(matches!(error, ChainError::Unreachable { .. }), "{error}");
}

#[tokio::test]
async fn bad_credentials_are_told_apart_and_not_repeated_in_the_message() {
    let net = devnet().await;
    let poll = Duration::from_secs(1);
    let with = |url: &str, password: &str| ChainConfig::Bitcoind {
        url: url.to_owned(),
        user: net.rpc_user().to_owned(),
        password: password.to_owned(),
        poll,
    };
    let error = start(with(&net.rpc_url(), "hunter2"), Network::Regtest).await.err().unwrap();
    assert!(matches!(error, ChainError::Credentials { .. }), "{error}");
    assert!(!error.to_string().contains("hunter2"));
    let error = start(with("http://user:hunter2@127.0.0.1:1", "x"), Network::Regtest).await.err().unwrap();
    assert!(matches!(error, ChainError::Url { .. }));
    assert!(!error.to_string().contains("hunter2"));
    let esplora = |url: &str| ChainConfig::Esplora { url: url.to_owned(), poll };
    for url in ["http://user:hunter2@127.0.0.1:1", "ftp://user:hunter2@127.0.0.1", "http://user:hunter2@[:x"] {
        let error = start(esplora(url), Network::Regtest).await.err().unwrap();
        assert!(
            !error.to_string().contains("hunter2") && !format!("{:?}", esplora(url)).contains("hunter2"),
            "{error}"
        );
    }
    for url in ["ftp://127.0.0.1", "no url", ""] {
        assert!(matches!(start(with(url, "x"), Network::Regtest).await, Err(ChainError::Url { .. })), "{url}");
        assert!(matches!(start(esplora(url), Network::Regtest).await, Err(ChainError::Url { .. })), "{url}");
    }
    assert!(!format!("{:?}", with(&net.rpc_url(), "hunter2")).contains("hunter2"));
}

/// A script that anybody can spend, with the witness that spends it.
fn anyone() -> (ScriptBuf, Witness) {
    let script = Script::from_bytes(&[0x51]);
    (script.to_p2wsh(), Witness::from_slice(&[script.as_bytes()]))
}

fn spend(from: OutPoint, amount: Amount) -> Transaction {
    let (script_pubkey, witness) = anyone();
    Transaction {
        version: transaction::Version::TWO,
        lock_time: absolute::LockTime::ZERO,
        input: vec![TxIn {
            previous_output: from,
            sequence: Sequence::ENABLE_RBF_NO_LOCKTIME,
            witness,
            ..TxIn::default()
        }],
        output: vec![TxOut { value: amount, script_pubkey }],
    }
}

fn first_output_of(transaction: &Transaction) -> OutPoint {
    OutPoint { txid: transaction.compute_txid(), vout: 0 }
}

/// A confirmed coin that anybody can spend.
async fn free_coin(world: &mut World, net: &devnet::Devnet, amount: u64) -> OutPoint {
    world.fund(net, &[amount * 2]).await;
    let target = ConfirmationTarget::NonAnchorChannelFee;
    let paid = world.wallet.create_funding_tx(anyone().0, Sat(amount), target).unwrap();
    world.chain.broadcast(std::slice::from_ref(&paid)).await.unwrap();
    world.mine(net, 1).await;
    let vout = paid.output.iter().position(|output| output.script_pubkey == anyone().0).unwrap();
    OutPoint { txid: paid.compute_txid(), vout: vout as u32 }
}

async fn a_package_goes_in_whatever_its_order(kind: Kind) {
    let (net, dir) = (devnet().await, tempfile::tempdir().unwrap());
    let mut world = World::start(&net, kind, dir.path()).await;
    let coin = free_coin(&mut world, &net, 100_000).await;
    // The parent pays nothing and would be refused alone.
    let parent = spend(coin, Amount::from_sat(100_000));
    let alone = world.chain.broadcast(std::slice::from_ref(&parent)).await.unwrap_err();
    assert!(matches!(alone, ChainError::TransactionRefused { .. }), "{alone}");
    let child = spend(first_output_of(&parent), Amount::from_sat(95_000));
    world.chain.broadcast_transactions(&[&child, &parent]);
    until("both are in the mempool", async || {
        let waiting = net.mempool().await.unwrap();
        waiting.contains(&parent.compute_txid()) && waiting.contains(&child.compute_txid())
    })
    .await;
    world.chain.broadcast(&[child.clone(), parent.clone()]).await.unwrap();
    world.mine(&net, 1).await;
    assert!(net.mempool().await.unwrap().is_empty());
    world.stop().await;
}

async fn a_second_spend_is_refused_and_nothing_stops(kind: Kind) {
    let (net, dir) = (devnet().await, tempfile::tempdir().unwrap());
    let mut world = World::start(&net, kind, dir.path()).await;
    let coin = free_coin(&mut world, &net, 100_000).await;
    let (first, second) = (spend(coin, Amount::from_sat(90_000)), spend(coin, Amount::from_sat(95_000)));
    world.chain.broadcast(std::slice::from_ref(&first)).await.unwrap();
    let refused = world.chain.broadcast(std::slice::from_ref(&second)).await.unwrap_err();
    assert!(matches!(&refused, ChainError::TransactionRefused { txid, .. } if *txid == second.compute_txid()));
    world.chain.broadcast_transactions(&[&second]);
    let after = spend(first_output_of(&first), Amount::from_sat(80_000));
    world.chain.broadcast_transactions(&[&after]);
    until("what comes after it is sent", async || net.mempool().await.unwrap().contains(&after.compute_txid())).await;
    world.stop().await;
}

async fn it_can_be_stopped_and_run_again_but_not_twice_at_once(kind: Kind) {
    let (net, dir) = (devnet().await, tempfile::tempdir().unwrap());
    let gate = gate(&net, kind).await;
    let chain = start(config(&net, kind, gate.addr), Network::Regtest).await.unwrap();
    let path = dir.path().join("wallet.sqlite");
    let wallet = Wallet::open(&path, &seed(1), chain.clone(), Birthday::Now).await.unwrap();
    let recorder = Recorder::at(chain.best_block().await.unwrap());
    let monitors = Recorder::at(recorder.last());
    let listeners = || Listeners {
        manager: recorder.follower("channel manager"),
        sweeper: Recorder::at(recorder.last()).follower("sweeper"),
        monitors: monitors.clone(),
        wallet: wallet.clone(),
    };
    let (sender, mut tip) = watch::channel(Height(0));
    if kind == Kind::Bitcoind {
        let unsynced = chain.run(listeners(), sender.clone(), CancellationToken::new()).await;
        assert!(matches!(unsynced, Err(ChainError::NotSynced)));
    }
    for _ in 0..2 {
        let listening = listeners();
        let lone = if kind == Kind::Bitcoind { vec![monitors.follower("chain monitor")] } else { vec![] };
        chain.sync_to_tip(&listening, &lone).await.unwrap();
        let stop = CancellationToken::new();
        let mut running = JoinSet::new();
        let (runner, token, sender) = (chain.clone(), stop.clone(), sender.clone());
        running.spawn(async move { runner.run(listening, sender, token).await });
        net.mine(1).await.unwrap();
        let height = net.height();
        timeout(DEADLINE, tip.wait_for(|seen| *seen == height)).await.unwrap().unwrap();
        let second = chain.run(listeners(), watch::channel(Height(0)).0, CancellationToken::new()).await;
        assert!(matches!(second, Err(ChainError::AlreadyRunning)));
        stop.cancel();
        running.join_next().await.unwrap().unwrap().unwrap();
        net.mine(2).await.unwrap();
    }
    assert_eq!(recorder.last().height, net.height().0 - 2);
}

async fn what_is_broadcast_last_is_sent_before_it_stops(kind: Kind) {
    let (net, dir) = (devnet().await, tempfile::tempdir().unwrap());
    let mut world = World::start(&net, kind, dir.path()).await;
    let coin = free_coin(&mut world, &net, 100_000).await;
    let last = spend(coin, Amount::from_sat(90_000));
    let chain = world.chain.clone();
    chain.broadcast_transactions(&[&last]);
    world.stop().await;
    assert!(net.mempool().await.unwrap().contains(&last.compute_txid()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everybody_catches_up_from_his_own_last_block_even_a_stale_one() {
    let (net, dir) = (devnet().await, tempfile::tempdir().unwrap());
    let gate = gate(&net, Kind::Bitcoind).await;
    let chain = start(config(&net, Kind::Bitcoind, gate.addr), Network::Regtest).await.unwrap();
    let path = dir.path().join("wallet.sqlite");
    let wallet = Wallet::open(&path, &seed(1), chain.clone(), Birthday::Now).await.unwrap();
    let first = chain.best_block().await.unwrap();
    net.mine(4).await.unwrap();
    let stale = chain.best_block().await.unwrap();
    net.reorg(2).await.unwrap();
    net.mine(5).await.unwrap();
    let genesis = BestBlock::from_network(Network::Regtest);
    let tip = chain.best_block().await.unwrap();

    let [old, forked, new, lone] = [genesis, stale, tip, first].map(Recorder::at);
    let listeners = Listeners {
        manager: old.follower("channel manager"),
        sweeper: forked.follower("sweeper"),
        monitors: new.clone(),
        wallet: wallet.clone(),
    };
    // On a task of its own, as a node does it: whatever the future holds can change threads.
    let (syncing, monitors) = (chain.clone(), [lone.follower("channel monitor")]);
    let mut task = JoinSet::new();
    task.spawn(async move { (syncing.sync_to_tip(&listeners, &monitors).await, listeners) });
    let (synced, listeners) = task.join_next().await.unwrap().unwrap();
    assert_eq!(synced.unwrap(), tip);
    for recorder in [&old, &forked, &new, &lone] {
        assert_eq!(recorder.last(), tip);
    }
    assert_eq!(wallet.last_block(), tip);
    assert_eq!(old.blocks(), tip.height as usize, "each block once");
    assert_eq!(new.blocks(), 0);

    let alien = Recorder::at(BestBlock::new(BlockHash::all_zeros(), 7));
    let error = chain.sync_to_tip(&listeners, &[alien.follower("channel monitor")]).await.unwrap_err();
    assert!(matches!(error, ChainError::UnknownBlock { who: "channel monitor", height: 7, .. }), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sync_that_breaks_off_can_be_repeated() {
    let (net, dir) = (devnet().await, tempfile::tempdir().unwrap());
    let gate = gate(&net, Kind::Bitcoind).await;
    let chain = start(config(&net, Kind::Bitcoind, gate.addr), Network::Regtest).await.unwrap();
    let path = dir.path().join("wallet.sqlite");
    let wallet = Wallet::open(&path, &seed(1), chain.clone(), Birthday::At(Height(0))).await.unwrap();
    let [old, new] = [BestBlock::from_network(Network::Regtest), chain.best_block().await.unwrap()].map(Recorder::at);
    let listeners = Listeners {
        manager: old.follower("channel manager"),
        sweeper: new.follower("sweeper"),
        monitors: new.clone(),
        wallet: wallet.clone(),
    };
    let half_way = async { until("half of the blocks are there", async || old.blocks() > 40).await };
    let shut_in_the_middle = async {
        half_way.await;
        gate.shut();
    };
    let (broken, ()) = tokio::join!(chain.sync_to_tip(&listeners, &[]), shut_in_the_middle);
    if let Err(error) = broken {
        assert!(error.is_transient(), "{error}");
    }
    gate.reopen();
    let tip = chain.sync_to_tip(&listeners, &[]).await.unwrap();
    assert_eq!(old.last(), tip);
    assert_eq!(old.blocks(), tip.height as usize);
    assert_eq!(wallet.last_block(), tip);
}

/// Answers bitcoind's RPC as a node of `network` that knows these fee rates (BTC/kvB), and nothing else.
async fn node_with_fees(network: Network, rate: Option<f64>) -> (ChainConfig, JoinSet<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let mut server = JoinSet::new();
    server.spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = vec![0; 65_536];
            let mut len = 0;
            let body = loop {
                let read = stream.read(&mut request[len..]).await.unwrap();
                if read == 0 {
                    break None;
                }
                len += read;
                let text = String::from_utf8_lossy(&request[..len]).into_owned();
                if let Some((_, body)) = text.split_once("\r\n\r\n")
                    && body.ends_with('}')
                {
                    break Some(body.to_owned());
                }
            };
            let Some(body) = body else { continue };
            let call: serde_json::Value = serde_json::from_str(&body).unwrap();
            let result = match call["method"].as_str().unwrap() {
                "getblockhash" => serde_json::json!(genesis_block(network).block_hash()),
                "getmempoolinfo" => serde_json::json!({ "mempoolminfee": 0.00001 }),
                "estimatesmartfee" => match rate {
                    Some(rate) => serde_json::json!({ "feerate": rate, "blocks": call["params"][0] }),
                    None => serde_json::json!({ "errors": ["Insufficient data or no feerate found"], "blocks": 0 }),
                },
                other => panic!("{other} was not expected"),
            };
            let answer = serde_json::json!({ "result": result, "error": null, "id": "souk" }).to_string();
            let head = format!("HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: {}\r\n\r\n", answer.len());
            stream.write_all((head + &answer).as_bytes()).await.unwrap();
        }
    });
    let poll = Duration::from_secs(1);
    (ChainConfig::Bitcoind { url, user: "u".into(), password: "p".into(), poll }, server)
}

#[tokio::test]
async fn a_mainnet_node_does_not_start_without_fee_rates_and_a_test_node_does() {
    let (config, _server) = node_with_fees(Network::Bitcoin, None).await;
    let error = start(config, Network::Bitcoin).await.err().unwrap();
    assert!(matches!(error, ChainError::NoFeeEstimate(_)), "{error}");
    let (config, _server) = node_with_fees(Network::Signet, None).await;
    let chain = start(config, Network::Signet).await.unwrap();
    assert_eq!(chain.get_est_sat_per_1000_weight(ConfirmationTarget::UrgentOnChainSweep), 5_000);
}

#[tokio::test]
async fn fee_rates_are_those_of_the_source() {
    // 0.0002 BTC/kvB are 20 sat/vB are 5,000 sat per 1000 weight.
    let (config, _server) = node_with_fees(Network::Bitcoin, Some(0.0002)).await;
    let chain = start(config, Network::Bitcoin).await.unwrap();
    assert_eq!(chain.get_est_sat_per_1000_weight(ConfirmationTarget::NonAnchorChannelFee), 5_000);
    assert_eq!(chain.get_est_sat_per_1000_weight(ConfirmationTarget::MaximumFeeEstimate), 7_500);
    assert_eq!(chain.fee_rate(ConfirmationTarget::OutputSpendingFee).to_sat_per_kwu(), 5_000);
}

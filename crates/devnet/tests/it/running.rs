//! The devnet as its owner uses it: mining modes, waiting, shutting down.

use std::time::{Duration, Instant};

use bitcoin::{Address, Network};
use devnet::{Config, Devnet, DevnetError, Mining};
use units::{Height, Sat};

use crate::kit::Key;
use crate::rpc::Client;

const DEADLINE: Duration = Duration::from_secs(20);

async fn start(mining: Mining) -> Devnet {
    Devnet::start(Config { mining, ..Config::default() }).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn on_demand_a_waiter_sees_the_height_it_waits_for() {
    let net = start(Mining::OnDemand).await;
    let waiter = net.clone();
    let waiting = tokio::task::JoinSet::from_iter([async move { waiter.wait_for_height(Height(133)).await }]);
    net.mine(2).await.unwrap();
    assert_eq!(net.height(), Height(132));
    net.mine(1).await.unwrap();
    let outcome = tokio::time::timeout(DEADLINE, waiting.join_all()).await.unwrap();
    assert!(outcome[0].is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn on_a_timer_blocks_come_by_themselves() {
    let net = start(Mining::Every(Duration::from_millis(20))).await;
    tokio::time::timeout(DEADLINE, net.wait_for_height(Height(135))).await.unwrap().unwrap();
    net.set_mining(Mining::OnDemand);
}

#[tokio::test(flavor = "multi_thread")]
async fn when_transactions_wait_one_block_takes_those_that_came_together() {
    let net = start(Mining::WhenWaiting(Duration::from_millis(300))).await;
    let mut tips = net.tip_changes();
    for n in 1..=5 {
        net.fund(&Key::new(n).address(), Sat(20_000)).await.unwrap();
    }
    let first = *tokio::time::timeout(DEADLINE, tips.wait_for(|tip| tip.height == Height(131))).await.unwrap().unwrap();
    let txs = net.with(move |regtest, _| regtest.chain().block(&first.hash).unwrap().txids.len()).await.unwrap();
    assert_eq!(txs, 6);
    let txid = net.fund(&Key::new(1).address(), Sat(20_000)).await.unwrap();
    tokio::time::timeout(DEADLINE, net.wait_for_height(Height(132))).await.unwrap().unwrap();
    tokio::time::timeout(DEADLINE, net.wait_for_tx(txid)).await.unwrap().unwrap();
    assert!(net.mempool().await.unwrap().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn changing_the_mode_takes_up_what_waits_already() {
    let net = start(Mining::OnDemand).await;
    net.fund(&Key::new(1).address(), Sat(20_000)).await.unwrap();
    net.set_mining(Mining::WhenWaiting(Duration::ZERO));
    tokio::time::timeout(DEADLINE, net.wait_for_height(Height(131))).await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_shorter_pause_also_counts_for_what_came_during_the_longer_one() {
    let net = start(Mining::WhenWaiting(Duration::from_secs(3_600))).await;
    net.fund(&Key::new(1).address(), Sat(20_000)).await.unwrap();
    // On this one thread the miner is now as far as it gets: in the long pause.
    for _ in 0..10 {
        tokio::task::yield_now().await;
    }
    net.set_mining(Mining::WhenWaiting(Duration::ZERO));
    tokio::time::timeout(DEADLINE, net.wait_for_height(Height(131))).await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_of_another_network_is_refused() {
    let net = start(Mining::OnDemand).await;
    for network in [Network::Bitcoin, Network::Signet] {
        let script = Key::new(1).script();
        let address = Address::from_script(&script, network).unwrap();
        assert!(matches!(net.fund(&address, Sat(20_000)).await, Err(DevnetError::WrongNetwork)));
        assert!(matches!(net.mine_to(1, &address).await, Err(DevnetError::WrongNetwork)));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn after_shutdown_nothing_listens_and_nothing_is_mined() {
    let net = start(Mining::Every(Duration::from_millis(5))).await;
    let mut idle = Client::connect(&net).await;
    idle.call("getblockcount", serde_json::json!([])).await.unwrap();
    tokio::time::timeout(DEADLINE, net.shutdown()).await.expect("an idle connection must not hold it up");
    let height = net.height();
    assert!(matches!(net.mine(1).await, Err(DevnetError::Stopped)));
    assert!(matches!(net.wait_for_height(height.plus(1)).await, Err(DevnetError::Stopped)));
    assert!(tokio::net::TcpStream::connect(net.rpc_addr()).await.is_err());
    assert_eq!(net.height(), height);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_blocks_take_no_time_worth_waiting_for() {
    let net = start(Mining::OnDemand).await;
    let start = Instant::now();
    net.mine(1_000).await.unwrap();
    let bound = if cfg!(debug_assertions) { 10 } else { 1 };
    assert!(start.elapsed() < Duration::from_secs(bound), "{:?}", start.elapsed());
}

//! Stories of the on-chain wallet.

use std::os::unix::fs::PermissionsExt;

use bitcoin::address::NetworkUnchecked;
use bitcoin::{Address, FeeRate, Network, OutPoint, ScriptBuf, Transaction, WScriptHash, hashes::Hash};
use devnet::Devnet;
use lightning::chain::chaininterface::{BroadcasterInterface, ConfirmationTarget};
use node_ldk::{Birthday, Chain, TracingLogger, Wallet, WalletBalance, WalletError};
use units::{Height, Sat};

use crate::rig::{Kind, World, config, devnet, gate, over_both, seed, until};

over_both! {
    a_coin_is_pending_then_spendable_then_partly_sent,
    what_cannot_be_sent_is_refused_with_numbers,
    two_channels_never_spend_the_same_coin,
    a_funding_transaction_that_was_broadcast_is_spent_for_good,
    a_reorganisation_takes_coins_and_gives_them_back,
    a_restart_finds_what_happened_meanwhile,
    a_script_that_is_not_ours_is_not_handed_out,
    an_old_seed_finds_its_coins,
    strangers_unconfirmed_coins_are_not_spent_but_change_is,
    the_anchor_reserve_stays_back,
    what_was_sent_while_the_source_is_away_arrives_later,
    mined_coins_ripen,
}

/// Some address that is not the wallet's.
async fn elsewhere(net: &Devnet) -> Address {
    net.with(|regtest, _| regtest.faucet().address()).await.unwrap()
}

fn funding_script(n: u8) -> ScriptBuf {
    ScriptBuf::new_p2wsh(&WScriptHash::hash(&[n]))
}

fn rate(sat_per_vb: u64) -> Option<FeeRate> {
    FeeRate::from_sat_per_vb(sat_per_vb)
}

async fn a_coin_is_pending_then_spendable_then_partly_sent(kind: Kind) {
    let (net, dir) = (devnet().await, tempfile::tempdir().unwrap());
    let mut world = World::start(&net, kind, dir.path()).await;
    let wallet = world.wallet.clone();
    assert_eq!(wallet.balance(), WalletBalance::default());
    let address = wallet.new_address().unwrap();
    assert_ne!(address, wallet.new_address().unwrap());

    net.fund(&address, Sat(1_000_000)).await.unwrap();
    until("the coin is seen in the mempool", async || wallet.balance().pending == Sat(1_000_000)).await;
    assert_eq!(wallet.balance().confirmed, Sat::ZERO);
    world.mine(&net, 1).await;
    let spendable = WalletBalance { confirmed: Sat(1_000_000), ..WalletBalance::default() };
    assert_eq!(wallet.balance(), spendable);

    let to = elsewhere(&net).await.to_string();
    let txid = wallet.send(&to, Sat(300_000), rate(2)).await.unwrap();
    assert!(net.mempool().await.unwrap().contains(&txid));
    let after = wallet.balance();
    assert_eq!(after.confirmed, Sat::ZERO, "the coin is spent");
    // One taproot input and two outputs are 142 to 154 vbytes, whatever the other output is.
    let fee = 700_000 - after.pending.0;
    assert!((284..=310).contains(&fee), "fee {fee}");
    world.mine(&net, 1).await;
    assert_eq!(wallet.balance().confirmed, Sat(700_000 - fee));
    assert_eq!(wallet.balance().pending, Sat::ZERO);
    let mode = std::fs::metadata(dir.path().join("wallet.sqlite")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    world.stop().await;
}

async fn what_cannot_be_sent_is_refused_with_numbers(kind: Kind) {
    let (net, dir) = (devnet().await, tempfile::tempdir().unwrap());
    let mut world = World::start(&net, kind, dir.path()).await;
    world.fund(&net, &[100_000]).await;
    let wallet = world.wallet.clone();
    let to = elsewhere(&net).await.to_string();
    let send = async |to: &str, amount: u64, rate| wallet.send(to, Sat(amount), rate).await.unwrap_err();

    assert!(matches!(send("souk", 10_000, None).await, WalletError::Address));
    let mainnet = "bc1p5cyxnuxmeuwuvkwfem96lqzszd02n6xdcjrs20cac6yqjjwudpxqkedrcr";
    let error = send(mainnet, 10_000, None).await;
    assert!(matches!(error, WalletError::AddressNetwork(Network::Regtest)));
    assert_eq!(error.to_string(), "the address is not of regtest");
    let script = to.parse::<Address<NetworkUnchecked>>().unwrap().assume_checked().script_pubkey();
    let least = script.minimal_non_dust().to_sat();
    let error = send(&to, least - 1, None).await;
    assert!(matches!(error, WalletError::Dust { amount, least: l } if amount.0 == least - 1 && l.0 == least));
    assert!(matches!(send(&to, 10_000, rate(3_000)).await, WalletError::FeeRate(750_000)));
    assert!(matches!(send(&to, 10_000, Some(FeeRate::ZERO)).await, WalletError::FeeRate(0)));
    match send(&to, 100_000, rate(1)).await {
        WalletError::InsufficientFunds { needed, available, reserve } => {
            assert!(needed > Sat(100_000) && needed < Sat(100_200), "{needed}");
            assert_eq!((available, reserve), (Sat(100_000), Sat::ZERO));
        }
        other => panic!("{other}"),
    }
    for amount in [2_100_000_000_000_000, u64::MAX - 1, u64::MAX] {
        assert!(matches!(send(&to, amount, None).await, WalletError::InsufficientFunds { .. }));
    }
    assert_eq!(wallet.balance().confirmed, Sat(100_000), "nothing stays locked");
    wallet.send(&to, Sat(99_000), rate(1)).await.unwrap();
    world.stop().await;
}

async fn two_channels_never_spend_the_same_coin(kind: Kind) {
    let (net, dir) = (devnet().await, tempfile::tempdir().unwrap());
    let mut world = World::start(&net, kind, dir.path()).await;
    world.fund(&net, &[500_000, 500_000]).await;
    let wallet = world.wallet.clone();
    let open = |n| wallet.create_funding_tx(funding_script(n), Sat(300_000), ConfirmationTarget::NonAnchorChannelFee);

    let first = open(1).unwrap();
    assert_eq!(first.output.iter().filter(|o| o.script_pubkey == funding_script(1)).count(), 1);
    let second = open(2).unwrap();
    let spent = |t: &Transaction| t.input.iter().map(|i| i.previous_output).collect::<Vec<OutPoint>>();
    assert!(spent(&first).iter().all(|coin| !spent(&second).contains(coin)));
    assert_eq!(wallet.balance(), WalletBalance { locked: Sat(1_000_000), ..WalletBalance::default() });
    match open(3).unwrap_err() {
        WalletError::InsufficientFunds { available, .. } => assert_eq!(available, Sat::ZERO),
        other => panic!("{other}"),
    }

    wallet.cancel_tx(first.compute_txid());
    wallet.cancel_tx(first.compute_txid());
    assert_eq!(wallet.balance().confirmed, Sat(500_000));
    let third = open(3).unwrap();
    assert_eq!(spent(&third), spent(&first));
    wallet.cancel_tx(third.compute_txid());
    let change = |t: &Transaction| t.output.iter().find(|o| wallet.is_mine(o.script_pubkey.clone())).cloned().unwrap();
    for _ in 0..50 {
        let again = open(4).unwrap();
        assert_eq!(change(&again).script_pubkey, change(&third).script_pubkey, "canceling frees the change script too");
        wallet.cancel_tx(again.compute_txid());
    }
    let third = open(3).unwrap();
    // Neither was broadcast: the network takes both of those that are still wanted.
    for wanted in [&second, &third] {
        world.chain.broadcast(std::slice::from_ref(wanted)).await.unwrap();
    }
    world.mine(&net, 1).await;
    assert_eq!(wallet.balance().locked, Sat::ZERO);
    world.stop().await;
}

async fn a_funding_transaction_that_was_broadcast_is_spent_for_good(kind: Kind) {
    let (net, dir) = (devnet().await, tempfile::tempdir().unwrap());
    let mut world = World::start(&net, kind, dir.path()).await;
    world.fund(&net, &[500_000]).await;
    let wallet = world.wallet.clone();
    let funding = wallet.create_funding_tx(funding_script(1), Sat(300_000), ConfirmationTarget::NonAnchorChannelFee);
    let funding = funding.unwrap();
    assert_eq!(wallet.balance().locked, Sat(500_000));
    world.chain.broadcast_transactions(&[&funding]);
    until("the change is pending", async || wallet.balance().pending > Sat(190_000)).await;
    assert_eq!(wallet.balance().locked, Sat::ZERO);
    assert!(net.mempool().await.unwrap().contains(&funding.compute_txid()));
    // Again is no error, before and after it is mined.
    world.chain.broadcast(std::slice::from_ref(&funding)).await.unwrap();
    world.mine(&net, 1).await;
    world.chain.broadcast(std::slice::from_ref(&funding)).await.unwrap();
    wallet.cancel_tx(funding.compute_txid());
    let balance = wallet.balance();
    assert!(balance.confirmed > Sat(190_000) && balance.pending == Sat::ZERO, "{balance:?}");
    world.stop().await;
}

async fn a_reorganisation_takes_coins_and_gives_them_back(kind: Kind) {
    let (net, dir) = (devnet().await, tempfile::tempdir().unwrap());
    let mut world = World::start(&net, kind, dir.path()).await;
    world.fund(&net, &[250_000]).await;
    world.mine(&net, 1).await;
    let wallet = world.wallet.clone();
    let stale = wallet.last_block();
    net.reorg(2).await.unwrap();
    world.caught_up(&net).await;
    assert_ne!(wallet.last_block().block_hash, stale.block_hash);
    until("the coin is pending again", async || {
        wallet.balance() == WalletBalance { pending: Sat(250_000), ..WalletBalance::default() }
    })
    .await;
    world.mine(&net, 1).await;
    assert_eq!(wallet.balance().confirmed, Sat(250_000));
    assert_eq!(world.manager.last(), wallet.last_block());
    world.stop().await;
}

async fn a_restart_finds_what_happened_meanwhile(kind: Kind) {
    let (net, dir) = (devnet().await, tempfile::tempdir().unwrap());
    let mut world = World::start(&net, kind, dir.path()).await;
    world.fund(&net, &[400_000]).await;
    let to = elsewhere(&net).await.to_string();
    let address = world.wallet.new_address().unwrap();
    let sent = world.wallet.send(&to, Sat(100_000), rate(1)).await.unwrap();
    let before = world.wallet.balance();
    world.stop().await;

    // The old tip becomes stale, the payment of before waits again, and a new coin comes in.
    net.reorg(1).await.unwrap();
    net.fund(&address, Sat(70_000)).await.unwrap();
    assert!(net.mempool().await.unwrap().contains(&sent));
    net.mine(3).await.unwrap();
    let world = World::start(&net, kind, dir.path()).await;
    assert_eq!(world.wallet.balance().confirmed, Sat(before.pending.0 + 70_000));
    assert_ne!(world.wallet.new_address().unwrap(), address);
    world.stop().await;

    let gate = gate(&net, kind).await;
    let config = config(&net, kind, gate.addr);
    let chain = Chain::start(config, Network::Regtest, TracingLogger.into()).await.unwrap();
    let opened = Wallet::open(&dir.path().join("wallet.sqlite"), &seed(9), chain, Birthday::Now).await;
    assert!(matches!(opened, Err(WalletError::OtherSeed(_))));
}

async fn a_script_that_is_not_ours_is_not_handed_out(kind: Kind) {
    let (net, dir) = (devnet().await, tempfile::tempdir().unwrap());
    World::start(&net, kind, dir.path()).await.stop().await;
    // Somebody writes scripts of their own into the list of those to watch.
    let file = rusqlite::Connection::open(dir.path().join("wallet.sqlite")).unwrap();
    let rows: Vec<(i64, String)> = {
        let mut query = file.prepare("SELECT id, body FROM change").unwrap();
        query.query_map([], |row| Ok((row.get(0)?, row.get(1)?))).unwrap().map(Result::unwrap).collect()
    };
    let mut forged = 0;
    for (id, body) in rows {
        let mut change: serde_json::Value = serde_json::from_str(&body).unwrap();
        let Some(lists) = change["indexer"]["spk_cache"].as_object_mut() else { continue };
        for script in lists.values_mut().flat_map(|list| list.as_object_mut().unwrap().values_mut()) {
            forged += 1;
            *script = format!("5120{forged:064x}").into();
        }
        file.execute("UPDATE change SET body = ?1 WHERE id = ?2", (change.to_string(), id)).unwrap();
    }
    assert!(forged >= 128, "{forged}");
    let mut asked = tokio::task::JoinSet::new();
    asked.spawn(async move {
        let world = World::start(&net, kind, dir.path()).await;
        let address = world.wallet.new_address();
        world.stop().await;
        address
    });
    match asked.join_next().await.unwrap() {
        Ok(address) => assert!(matches!(address, Err(WalletError::Fault(_))), "{address:?}"),
        // BDK looks for itself when it is built for debugging.
        Err(broken) => assert!(cfg!(debug_assertions) && broken.is_panic(), "{broken}"),
    }
}

async fn an_old_seed_finds_its_coins(kind: Kind) {
    let (net, dir) = (devnet().await, tempfile::tempdir().unwrap());
    let mut world = World::start(&net, kind, dir.path()).await;
    // Only the eleventh address is paid to.
    for _ in 0..10 {
        world.wallet.new_address().unwrap();
    }
    world.fund(&net, &[123_456]).await;
    world.stop().await;
    net.mine(5).await.unwrap();
    let elsewhere = tempfile::tempdir().unwrap();
    let gate = gate(&net, kind).await;
    let chain = Chain::start(config(&net, kind, gate.addr), Network::Regtest, TracingLogger.into()).await.unwrap();
    let future = Birthday::At(net.height().plus(1));
    let opened = Wallet::open(&elsewhere.path().join("future.sqlite"), &seed(1), chain, future).await;
    assert!(matches!(opened, Err(WalletError::Birthday(_))));
    let birthday = Birthday::At(Height(0));
    let mut world = World::start_with(&net, kind, elsewhere.path(), &seed(1), birthday).await;
    assert_eq!(world.wallet.balance().confirmed, Sat(123_456));
    world.fund(&net, &[1_000]).await;
    assert_eq!(world.wallet.balance().confirmed, Sat(124_456), "and follows on");
    world.stop().await;
}

async fn strangers_unconfirmed_coins_are_not_spent_but_change_is(kind: Kind) {
    let (net, dir) = (devnet().await, tempfile::tempdir().unwrap());
    let mut world = World::start(&net, kind, dir.path()).await;
    world.fund(&net, &[100_000]).await;
    let wallet = world.wallet.clone();
    let to = elsewhere(&net).await.to_string();
    net.fund(&wallet.new_address().unwrap(), Sat(5_000_000)).await.unwrap();
    until("the stranger's coin is seen", async || wallet.balance().pending == Sat(5_000_000)).await;
    match wallet.send(&to, Sat(200_000), rate(1)).await.unwrap_err() {
        WalletError::InsufficientFunds { available, .. } => assert_eq!(available, Sat(100_000)),
        other => panic!("{other}"),
    }
    wallet.send(&to, Sat(40_000), rate(1)).await.unwrap();
    let second = wallet.send(&to, Sat(40_000), rate(1)).await.unwrap();
    assert!(net.mempool().await.unwrap().contains(&second), "the change of the first pays for the second");
    world.stop().await;
}

async fn the_anchor_reserve_stays_back(kind: Kind) {
    let (net, dir) = (devnet().await, tempfile::tempdir().unwrap());
    let mut world = World::start(&net, kind, dir.path()).await;
    world.fund(&net, &[200_000]).await;
    let wallet = world.wallet.clone();
    let each = wallet.reserve(1);
    assert!((15_000..35_000).contains(&each.0), "{each}");
    assert_eq!(wallet.reserve(3), Sat(each.0 * 3));
    wallet.set_anchor_channels(2);
    let to = elsewhere(&net).await.to_string();
    match wallet.send(&to, Sat(199_000 - 2 * each.0 + 900), rate(1)).await.unwrap_err() {
        WalletError::InsufficientFunds { reserve, available, .. } => {
            assert_eq!((reserve, available), (wallet.reserve(2), Sat(200_000)));
        }
        other => panic!("{other}"),
    }
    let most = Sat(199_800 - 3 * each.0);
    let open = |amount| wallet.create_funding_tx(funding_script(1), amount, ConfirmationTarget::AnchorChannelFee);
    assert!(matches!(open(Sat(199_900 - 2 * each.0)), Err(WalletError::InsufficientFunds { .. })));
    let funding = open(Sat(most.0 - 5_000)).unwrap();
    wallet.cancel_tx(funding.compute_txid());
    wallet.send(&to, Sat(199_000 - 2 * each.0), rate(1)).await.unwrap();
    world.stop().await;
}

async fn what_was_sent_while_the_source_is_away_arrives_later(kind: Kind) {
    let (net, dir) = (devnet().await, tempfile::tempdir().unwrap());
    let mut world = World::start(&net, kind, dir.path()).await;
    world.fund(&net, &[100_000]).await;
    let to = elsewhere(&net).await.to_string();
    world.gate.shut();
    let error = world.wallet.send(&to, Sat(50_000), rate(1)).await.unwrap_err();
    let WalletError::OutcomeUnknown { txid, .. } = error else { panic!("{error}") };
    assert_eq!(world.wallet.balance().confirmed, Sat::ZERO, "it counts as spent");
    assert!(!net.mempool().await.unwrap().contains(&txid));
    world.gate.reopen();
    world.mine(&net, 1).await;
    until("the payment is repeated", async || net.mempool().await.unwrap().contains(&txid)).await;
    world.mine(&net, 1).await;
    assert!(world.wallet.balance().confirmed > Sat(49_000));
    world.stop().await;
}

async fn mined_coins_ripen(kind: Kind) {
    let (net, dir) = (devnet().await, tempfile::tempdir().unwrap());
    let mut world = World::start(&net, kind, dir.path()).await;
    net.mine_to(1, &world.wallet.new_address().unwrap()).await.unwrap();
    world.caught_up(&net).await;
    let mined = world.wallet.balance().pending;
    assert!(mined > Sat(1_000_000_000) && world.wallet.balance().confirmed == Sat::ZERO);
    let to = elsewhere(&net).await.to_string();
    let early = world.wallet.send(&to, Sat(10_000), rate(1)).await.unwrap_err();
    assert!(matches!(early, WalletError::InsufficientFunds { available: Sat(0), .. }), "{early}");
    world.mine(&net, 99).await;
    assert_eq!(world.wallet.balance().confirmed, mined);
    world.wallet.send(&to, Sat(10_000), rate(1)).await.unwrap();
    world.stop().await;
}

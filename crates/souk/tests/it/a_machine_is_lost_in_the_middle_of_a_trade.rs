//! In the middle of a trade a machine is lost, its node and its channel with it. A backup brings back keys, the open trade, secrets and bonds;
//! the peer closes the channel; and the trade ends with every balance right, the buyer's as the seller's. Words and a board bring back
//! all but what the channel held.

use super::market::{IN_CHANNEL, Market, Person};

const PRICE: i64 = 40_000;
/// The seller's.
const BOND: i64 = 4_000;
/// More than all that miners and routes got, and less than the price or the bond once too much.
const FEES_MAX: i64 = 20_000;

#[test]
fn a_machine_is_lost_in_the_middle_of_a_trade() {
    let mut market = Market::open("sealed");
    let sold_before = market.seller.balance();
    let coins_before = market.buyer.coins();
    let trade = shipped(&market);

    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("souk.backup");
    let file = file.to_str().unwrap();
    assert!(market.buyer.ask(&["backup", "--out", file]).unwrap()["bytes"].as_u64().unwrap() > 10_000);
    let (code, error) = market.buyer.ask(&["backup", "--out", file]).unwrap_err();
    assert!(code == 2 && error.contains("not overwritten"), "{error}");

    market.buyer.lose_everything_and_restore(&["--backup", file]);
    assert_eq!(market.buyer.sees(&trade), "shipped");
    market.buyer.once_it_can(&["confirm", &trade]);
    // The seller's own channel is as it was: it has the price at once, and its bond is held yet. What the lost channel held is settled on the
    // chain.
    market.seller.until("has the price", |seller| seller.balance() >= sold_before + (PRICE - BOND - 1_000) * 1000);
    market.buyer.until("has no channel any more", |buyer| buyer.usable() == 0);
    market.board.until("has closed the channel", |board| board.usable() == 1);
    for _ in 0..30 {
        market.mine(1);
    }
    while market.buyer.sees(&trade) != "settled" || market.seller.sees(&trade) != "settled" {
        market.mine(10);
        let stands = |person: &Person| (person.ask(&["show", &trade]), person.ask(&["node", "balance"]));
        assert!(market.height() < 1_500, "{:?}", [&market.buyer, &market.seller].map(stands));
    }
    for _ in 0..10 {
        market.mine(1);
    }

    assert_eq!(market.seller.balance(), sold_before + PRICE * 1000, "the seller has the price and its bond");
    let coins = market.buyer.coins();
    let expected = coins_before + IN_CHANNEL - PRICE;
    assert!((expected - FEES_MAX..expected).contains(&coins), "{coins} of {expected}");
    let lost = market.buyer.ask(&["node", "balance"]).unwrap();
    assert_eq!((lost["lightning"].as_u64(), lost["closing"].as_u64()), (Some(0), Some(0)), "{lost}");
}

#[test]
fn a_seller_that_lost_its_machine_is_paid_on_the_chain() {
    let mut market = Market::open("sealed");
    let coins_before = market.seller.coins();
    let trade = shipped(&market);
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("souk.backup");
    market.seller.ask(&["backup", "--out", file.to_str().unwrap()]).unwrap();
    market.seller.lose_everything_and_restore(&["--backup", file.to_str().unwrap()]);
    assert_eq!(market.seller.sees(&trade), "shipped");
    // The secrets come when the channel is lost already.
    market.buyer.once_it_can(&["confirm", &trade]);
    market.board.until("has closed the channel", |board| board.usable() == 1);
    while market.buyer.sees(&trade) != "settled" || market.seller.sees(&trade) != "settled" {
        market.mine(5);
        let stands = |person: &Person| (person.ask(&["show", &trade]), person.ask(&["node", "balance"]));
        assert!(market.height() < 1_500, "{:?}", [&market.buyer, &market.seller].map(stands));
    }
    for _ in 0..10 {
        market.mine(1);
    }
    let coins = market.seller.coins();
    let expected = coins_before + IN_CHANNEL + PRICE;
    assert!((expected - FEES_MAX..expected).contains(&coins), "{coins} of {expected}");
}

#[test]
fn words_and_a_board_bring_the_trade_back_and_not_the_channel() {
    let mut market = Market::open("sealed");
    let sold_before = market.seller.balance();
    let (coins_before, identity) = (market.buyer.coins(), market.buyer.ask(&["status"]).unwrap()["identity"].clone());
    let trade = shipped(&market);
    let legs = market.buyer.ask(&["show", &trade]).unwrap()["legs"].clone();
    let board = format!("ws://{}", market.relay);
    market.buyer.until("has said everything", |buyer| {
        buyer.ask(&["status"]).is_ok_and(|status| status["backlog"][0]["waiting"] == 0)
    });
    market.buyer.lose_everything_but_the_words(&board);

    // Keys and trades.
    let status = market.buyer.ask(&["status"]).unwrap();
    assert_eq!((&status["identity"], &status["restored"]["incomplete"]), (&identity, &0.into()), "{status}");
    let view = market.buyer.ask(&["show", &trade]).unwrap();
    assert_eq!((&view["state"], &view["product_name"]), (&"shipped".into(), &"Wool socks".into()));
    assert_eq!(view["legs"], legs, "which payments it is about");
    // On-chain coins; nothing of the channel.
    market.buyer.until("reads the chain again", |buyer| buyer.coins() == coins_before);
    let balance = market.buyer.ask(&["node", "balance"]).unwrap();
    assert_eq!((balance["lightning"].as_u64(), balance["closing"].as_u64()), (Some(0), Some(0)), "{balance}");
    // Secrets: they open what the seller holds.
    market.buyer.once_it_can(&["confirm", &trade]);
    market.seller.until("has the price", |seller| seller.balance() >= sold_before + (PRICE - BOND - 1_000) * 1000);
    while market.seller.sees(&trade) != "settled" {
        market.mine(10);
        let stands = |person: &Person| (person.ask(&["show", &trade]), person.ask(&["node", "balance"]));
        assert!(market.height() < 1_500, "{:?}", [&market.buyer, &market.seller].map(stands));
    }
    assert_eq!(market.seller.balance(), sold_before + PRICE * 1000, "the seller has the price and its bond");
    // The buyer's node knows nothing of what it paid, so its log does not say how that ended; and what the peer paid out on chain when it
    // closed the channel is not looked for.
    assert_eq!(market.buyer.sees(&trade), "released");
    assert_eq!(market.buyer.coins(), coins_before);
}

/// A bonded trade, up to the shipment.
fn shipped(market: &Market) -> String {
    let arbiter = market.arbiter.ask(&["status"]).unwrap()["identity"].as_str().unwrap().to_owned();
    let terms = ["--mode", "bonded", "--arbiter-release", "--min-payer-bond", "40000", "--payee-bond", "4000"];
    let goods = ["sell", "Wool socks", "--price", "40000", "--arbiter", &arbiter];
    let sold = market.seller.ask(&[&goods[..], &terms[..]].concat()).unwrap();
    let bid = market.buyer.once_it_can(&["bid", sold["listing"].as_str().unwrap()]);
    let trade = bid["trade"].as_str().unwrap().to_owned();
    market.seller.once_it_can(&["accept", &trade]);
    for person in [&market.seller, &market.buyer] {
        person.until("has every leg held", |p| p.sees(&trade) == "held");
    }
    market.seller.once_it_can(&["ship", &trade]);
    market.buyer.until("knows of the shipment", |p| p.sees(&trade) == "shipped");
    trade
}

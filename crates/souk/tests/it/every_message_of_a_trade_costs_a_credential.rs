//! A board is paid over Lightning by everybody who trades on it: nothing gets through without a credential, a whole trade does with
//! them, and neither the board's nor a trader's `kill -9` loses what was bought or lets it be spent twice.

use super::market::{Market, Person};

const SELLS: &str = "[board.credentials]\nprice_msat = 2000\n\
    [board.policy.per-kind.\"300-399\"]\ncredential = true\n[board.policy.per-kind.1059]\ncredential = true\n";
const BATCH: i64 = 100;

/// Buys a batch, and gives what was paid for routing.
fn buys(person: &Person, board: &str) {
    let before = person.balance();
    let (_, fees_before) = person.paid();
    let bought = person.ask(&["credential", "buy", "--board", board, "--count", "100", "--max-sat", "200", "--yes"]);
    assert_eq!(bought.unwrap()["state"], "issued");
    assert_eq!(before - person.balance(), BATCH * 2000 + person.paid().1 - fees_before);
}

/// Credentials that are free and used.
fn purse(person: &Person) -> (i64, i64) {
    let list = person.ask(&["credential", "list"]).unwrap();
    let count = |what: &str| list["keysets"].as_array().unwrap().iter().map(|held| held[what].as_i64().unwrap()).sum();
    assert_eq!(list["keysets"].as_array().unwrap().iter().map(|held| held["lost"].as_i64().unwrap()).sum::<i64>(), 0);
    (count("free"), count("used"))
}

/// The one listing there is.
fn listed(person: &Person) -> Option<String> {
    let list = person.ask(&["list"]).unwrap();
    Some(list["offers"].as_array().unwrap().first()?["id"].as_str().unwrap().to_owned())
}

#[test]
fn every_message_of_a_trade_costs_a_credential() {
    let mut market = Market::on_a_board_with(SELLS, "sealed", 300, "");
    let board = format!("ws://{}", market.relay);
    let arbiter = market.arbiter.ask(&["status"]).unwrap()["identity"].as_str().unwrap().to_owned();
    let policy = market.seller.ask(&["credential", "policy"]).unwrap();
    assert!(policy.to_string().contains("2000") && policy.to_string().contains("300-399"), "{policy}");

    let goods = ["sell", "Wool socks", "--price", "40000", "--mode", "bonded", "--arbiter", &arbiter];
    let terms = ["--arbiter-release", "--min-payer-bond", "40000", "--payee-bond", "4000"];
    let (code, said) = market.seller.ask(&[&goods[..], &terms].concat()).unwrap_err();
    assert!(code == 4 && said.contains("no-credential") && said.contains("it is recorded"), "{said}");
    market.seller.until("hears what the board asks for", |p| {
        p.ask(&["status"]).unwrap().to_string().contains("souk credential buy")
    });
    assert!(listed(&market.buyer).is_none(), "not there without a credential");
    for person in [&market.seller, &market.buyer, &market.arbiter] {
        buys(person, &board);
    }
    market.buyer.until("finds the listing", |p| listed(p).is_some());
    let listing = listed(&market.buyer).unwrap();

    let bid = market.buyer.once_it_can(&["bid", &listing, "--max-arbiter-fee", "300"]);
    let trade = bid["trade"].as_str().unwrap().to_owned();
    market.seller.once_it_can(&["accept", &trade]);
    market.board.kill();
    market.seller.kill();
    market.board.start();
    market.seller.start();
    for person in [&market.seller, &market.buyer] {
        person.until("has every leg held", |p| p.sees(&trade) == "held");
    }
    market.seller.once_it_can(&["ship", &trade]);
    market.buyer.until("knows of the shipment", |p| p.sees(&trade) == "shipped");
    market.buyer.once_it_can(&["confirm", &trade]);
    for person in [&market.seller, &market.buyer] {
        person.until("has the trade settled", |p| p.sees(&trade) == "settled");
    }
    for person in [&market.seller, &market.buyer, &market.arbiter] {
        let (free, used) = purse(person);
        assert_eq!(free + used, BATCH, "{}", person.name);
        assert!(used > 0, "{} spends", person.name);
    }
}

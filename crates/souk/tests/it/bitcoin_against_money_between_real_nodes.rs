//! Bitcoin against money of a country between real nodes: an order that buys is bid on, one that sells is answered while its maker is
//! away. The price comes from three sources, one of which lies.

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};

use super::market::{Market, Person};

/// Answers `GET /PRICE` with that price, for as long as the process lives.
fn prices() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let at = listener.local_addr().unwrap();
    std::thread::spawn(move || listener.incoming().flatten().for_each(answer));
    at
}

fn answer(mut stream: TcpStream) {
    let mut lines = BufReader::new(stream.try_clone().unwrap()).lines().map_while(Result::ok);
    let first = lines.next().unwrap_or_default();
    let price = first.split(['/', ' ']).nth(2).unwrap_or_default().to_owned();
    if lines.all(|line| !line.is_empty()) {
        return;
    }
    let body = format!("{{\"eur\":{{\"last\":\"{price}\"}}}}");
    let head = format!("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: {}\r\n\r\n", body.len());
    // Who hung up meanwhile asks again.
    let _gone = stream.write_all(format!("{head}{body}").as_bytes());
}

fn sources(at: SocketAddr) -> String {
    let source = |price| format!("{{ currency = \"EUR\", url = \"http://{at}/{price}\", pointer = \"/eur/last\" }}");
    format!("[fiat]\nsources = [{}, {}, {}]\n", source("60000"), source("1"), source("60010"))
}

fn text(said: &serde_json::Value, name: &str) -> String {
    said[name].as_str().unwrap().to_owned()
}

/// From bitcoin that is locked to the last satoshi. The payee sends the money, and the payer has it.
fn paid(trade: &str, payer: &Person, payee: &Person) {
    for person in [payer, payee] {
        person.until("has the bitcoin locked", |p| p.sees(trade) == "held");
    }
    payee.once_it_can(&["fiat", "sent", trade, "--reference", "transfer 17"]);
    payer.until("hears that the money is sent", |p| p.sees(trade) == "shipped");
    payer.once_it_can(&["fiat", "received", trade]);
    for person in [payer, payee] {
        person.until("has the trade settled", |p| p.sees(trade) == "settled");
    }
}

#[test]
fn bitcoin_is_bought_and_sold_for_money_by_real_nodes() {
    let mut market = Market::with("sealed", 0, &sources(prices()));
    let before = [market.seller.balance(), market.buyer.balance()];
    let arbiter = text(&market.arbiter.ask(&["status"]).unwrap(), "identity");
    let rate = market.seller.once_it_can(&["fiat", "rate", "EUR"]);
    assert_eq!((text(&rate, "price").as_str(), &rate["sources"]), ("60000", &3.into()), "one lies and is outvoted");
    let terms = ["EUR", "--min", "10", "--max", "100", "--method", "SEPA", "--premium", "2.5", "--arbiter", &arbiter];

    let order = text(&market.seller.once_it_can(&[&["fiat", "buy"][..], &terms].concat()), "listing");
    let trade = text(&market.buyer.once_it_can(&["fiat", "take", &order, "--amount", "30.75"]), "trade");
    market.seller.once_it_can(&["accept", &trade]);
    paid(&trade, &market.buyer, &market.seller);
    // 30.75 / (60000 * 1.025)
    assert_eq!(market.seller.balance(), before[0] + 50_000_000);

    let order = text(&market.seller.once_it_can(&[&["fiat", "sell"][..], &terms].concat()), "listing");
    market.buyer.until("finds the order", |p| {
        let found = p.ask(&["list"]).unwrap();
        found.to_string().contains(&order)
    });
    market.seller.kill();
    let trade = text(&market.buyer.once_it_can(&["fiat", "take", &order, "--amount", "61.5"]), "trade");
    market.seller.start();
    paid(&trade, &market.seller, &market.buyer);
    market.until_idle();
    let fees = market.seller.paid().1 + market.buyer.paid().1;
    let after = market.seller.balance() + market.buyer.balance();
    assert_eq!(after, before[0] + before[1] - fees, "nothing but fees is lost");
    let (_, own) = market.seller.paid();
    assert_eq!(market.seller.balance(), before[0] + 50_000_000 - 100_000_000 - own, "61.5 / (60000 * 1.025)");
}

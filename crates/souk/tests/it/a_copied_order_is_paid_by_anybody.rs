//! A market order: an invoice that is published by one, found by another, copied and paid as any wallet would, and what is on the
//! board of other markets stands in the same list as a listing of ours.

use serde_json::Value;

use crate::market::Market;

#[test]
fn a_copied_order_is_paid_by_anybody() {
    let market = Market::open("sealed");
    let (seller, buyer) = (&market.seller, &market.buyer);
    let invoice = seller.ask(&["node", "invoice", "25000", "--description", "a lamp"]).unwrap();
    let invoice = invoice["invoice"].as_str().unwrap();
    let published = seller.once_it_can(&["order", "publish", invoice]);
    assert_eq!((&published["order"], &published["boards"][0]["refused"]), (&Value::from(invoice), &Value::Null));

    let found = buyer.ask(&["order", "watch", "--once"]).unwrap();
    let copied = found["order"].as_str().unwrap();
    let before = seller.balance();
    buyer.ask(&["node", "pay", copied]).unwrap();
    seller.until("has the money", |person| person.balance() == before + 25_000_000);

    // It stands in the list of everything, with how to take it, and can be asked for by its source.
    seller.ask(&["sell", "Wool socks", "--price", "50000"]).unwrap();
    let sources = |args: &[&str]| -> Vec<String> {
        let list = buyer.ask(args).unwrap();
        assert_eq!(list["left_out"], Value::Array(Vec::new()));
        list["offers"].as_array().unwrap().iter().map(|one| one["source"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(sources(&["list"]), ["souk", "civkit"]);
    assert_eq!(sources(&["list", "--source", "civkit"]), ["civkit"]);
    assert_eq!(sources(&["search", "socks"]), ["souk"]);
    assert_eq!(sources(&["search", "--max-price", "30000"]), ["civkit"]);

    // What cannot be paid is not published: exit code 4, and the reason.
    let zero = seller.ask(&["node", "invoice"]).unwrap();
    let (code, why) = seller.ask(&["order", "publish", zero["invoice"].as_str().unwrap()]).unwrap_err();
    assert!(code == 4 && why.contains("order-amount") && why.contains("names no amount"), "{why}");
    let (code, why) = seller.ask(&["order", "publish", "hello"]).unwrap_err();
    assert!(code == 4 && why.contains("neither"), "{why}");
    let (code, why) = seller.ask(&["order", "watch", "--once", "--board", "ws://127.0.0.1:1"]).unwrap_err();
    assert!(code == 3 && why.contains("cannot be reached"), "{why}");
    assert_eq!(seller.ask(&["list", "--source", "ebay"]).unwrap_err().0, 2);
}

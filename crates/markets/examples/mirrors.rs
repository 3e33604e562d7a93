//! Prints one listing and one order as other markets get them, a signed event a line, and the listing's address, for their own parsers to judge:
//! `cargo xtask peers nostr-tools`. The argument is the time of day, in seconds.
#![allow(clippy::print_stdout, clippy::unwrap_used, reason = "an example")]

use markets::{Advert, CurrencyOrder, Decimal, Goods, Price, Side, Source, Standing, Subject, kind, write};
use secp256k1::{Keypair, SECP256K1};
use trade::{MessageId, PartyKey};
use units::{Sat, Unix};
use wire::event::pubkey_of;

fn main() {
    let at: Unix = Unix(std::env::args().nth(1).unwrap().parse().unwrap());
    let key = Keypair::from_seckey_slice(SECP256K1, &[7; 32]).unwrap();
    let goods = Goods {
        price: Price { amount: Sat(50_000).into(), currency: "SAT".to_owned(), per: None },
        stock: Some(3),
        shipping: Vec::new(),
        categories: vec!["clothes".to_owned()],
        pictures: vec!["https://example.com/socks.png".to_owned()],
        facts: vec![("escrow".to_owned(), "Lightning hold".to_owned())],
        stall: None,
    };
    let order = CurrencyOrder {
        side: Side::Sells,
        currency: "EUR".to_owned(),
        min: Decimal::new(50, 0),
        max: Decimal::new(200, 0),
        amount: None,
        premium: Decimal::new(15, 1),
        methods: vec!["SEPA".to_owned()],
        network: "mainnet".to_owned(),
        layer: "lightning".to_owned(),
        bond: None,
    };
    let advert = Advert {
        source: Source::Souk,
        venue: String::new(),
        kind: kind::CLASSIFIED,
        id: MessageId([0; 32]),
        author: PartyKey(pubkey_of(&key)),
        d: "8151436721934611".to_owned(),
        at,
        since: at,
        standing: Standing::Open,
        title: "Wool socks".to_owned(),
        text: "Warm.\n\nOne size.".to_owned(),
        place: String::new(),
        expires: Some(Unix(at.0 + 86_400)),
        link: None,
        mirrors: Some(MessageId([9; 32])),
        subject: Subject::Goods(goods),
    };
    let order = Advert { subject: Subject::Currency(order), ..advert.clone() };
    for advert in [&advert, &order] {
        println!("{}", write(advert, "wss://board.example").unwrap().sign(&key, &[0; 32]).to_json());
    }
    println!("\"{}\"", advert.naddr().unwrap());
}

//! What we write for other markets is read back as it was meant, and has what their clients insist on.

use markets::{
    Advert, CurrencyOrder, Decimal, Goods, NotPayable, Price, Side, Source, Standing, Subject, Unwritable, check_order,
    kind, order_event, read, write,
};
use trade::{MessageId, PartyKey};
use units::{Sat, Unix};
use wire::event::pubkey_of;

use crate::{NOW, key, sign};

const RELAY: &str = "wss://board.example";

fn advert(subject: Subject) -> Advert {
    Advert {
        source: Source::Souk,
        venue: String::new(),
        kind: kind::CLASSIFIED,
        id: MessageId([0; 32]),
        author: PartyKey(pubkey_of(&key())),
        d: "8151436721934611".to_owned(),
        at: Unix(NOW.0 + 5),
        since: NOW,
        standing: Standing::Open,
        title: "Wool socks".to_owned(),
        text: "Warm.\nOne size.".to_owned(),
        place: "Leipzig".to_owned(),
        expires: None,
        link: None,
        mirrors: Some(MessageId([9; 32])),
        subject,
    }
}

fn socks() -> Advert {
    advert(Subject::Goods(Goods {
        price: Price { amount: Sat(50_000).into(), currency: "SAT".to_owned(), per: None },
        stock: Some(3),
        shipping: vec!["Free".to_owned()],
        categories: vec!["clothes".to_owned()],
        pictures: vec!["https://example.com/socks.png".to_owned()],
        facts: vec![("escrow".to_owned(), "Lightning hold, bonded".to_owned())],
        stall: None,
    }))
}

fn euros() -> Advert {
    let order = CurrencyOrder {
        side: Side::Sells,
        currency: "EUR".to_owned(),
        min: Decimal::new(50, 0),
        max: Decimal::new(200, 0),
        amount: None,
        premium: Decimal::parse("-1.5").unwrap(),
        methods: vec!["SEPA instant".to_owned(), "Cash".to_owned()],
        network: "mainnet".to_owned(),
        layer: "lightning".to_owned(),
        bond: None,
    };
    Advert {
        kind: kind::CURRENCY_ORDER,
        title: "sells bitcoin for 50 to 200 EUR".to_owned(),
        text: String::new(),
        place: String::new(),
        since: Unix(NOW.0 + 5),
        expires: Some(Unix(NOW.0 + 86_400)),
        ..advert(Subject::Currency(order))
    }
}

/// Written, signed, read back: the same but for the id.
fn there_and_back(advert: &Advert) -> Advert {
    let read = read(&sign(write(advert, RELAY).unwrap()), NOW).unwrap();
    Advert { id: advert.id, ..read }
}

#[test]
fn goods_come_back_from_nip_99() {
    assert_eq!(there_and_back(&socks()), socks());
    let mut sold = Advert { standing: Standing::Done, ..socks() };
    let Subject::Goods(goods) = &mut sold.subject else { unreachable!() };
    goods.stock = Some(0);
    assert_eq!(there_and_back(&sold), sold);
    let hidden = Advert { standing: Standing::Hidden, ..sold };
    assert_eq!(there_and_back(&hidden), hidden);
}

#[test]
fn a_currency_order_comes_back_from_nip_69() {
    for standing in [Standing::Open, Standing::Taken, Standing::Done, Standing::Gone] {
        let order = Advert { standing, ..euros() };
        assert_eq!(there_and_back(&order), order);
    }
}

#[test]
fn goods_are_never_written_as_an_order_nor_the_other_way() {
    assert_eq!(write(&Advert { kind: kind::CURRENCY_ORDER, ..socks() }, RELAY).unwrap().kind, kind::CLASSIFIED);
    assert_eq!(write(&Advert { kind: kind::CLASSIFIED, ..euros() }, RELAY).unwrap().kind, kind::CURRENCY_ORDER);
}

#[test]
fn a_listing_has_what_each_of_its_readers_insists_on() {
    let tags = write(&socks(), RELAY).unwrap().tags;
    let all = |name: &str| tags.iter().filter(|tag| tag[0] == name).collect::<Vec<_>>();
    for required in ["d", "title", "summary", "location", "published_at", "price"] {
        assert_eq!(all(required).len(), 1, "nostr-tools wants exactly one {required}");
    }
    assert_eq!(all("price")[0][1..], ["50000", "SAT"], "a currency of three capitals, a plain number");
    assert_eq!(all("shipping")[0].len(), 4, "Shopstr wants four elements");
    assert_eq!(all("e")[0].len(), 3, "nostr-tools wants three elements");
    assert!(tags.iter().all(|tag| tag.len() >= 2));
    let bare = Advert { text: String::new(), place: String::new(), ..socks() };
    let tags = write(&bare, RELAY).unwrap().tags;
    assert!(tags.iter().filter(|tag| ["summary", "location"].contains(&tag[0].as_str())).all(|tag| !tag[1].is_empty()));
}

#[test]
fn an_order_has_every_tag_that_nip_69_requires() {
    let tags = write(&euros(), RELAY).unwrap().tags;
    for required in
        ["d", "k", "f", "s", "amt", "fa", "pm", "premium", "network", "layer", "expires_at", "expiration", "y", "z"]
    {
        assert_eq!(tags.iter().filter(|tag| tag[0] == required).count(), 1, "{required}");
    }
    assert_eq!(write(&Advert { expires: None, ..euros() }, RELAY), Err(Unwritable::Endless));
}

#[test]
fn a_name_that_others_do_not_read_is_refused() {
    let named = Advert { d: "a:b".to_owned(), ..socks() };
    assert_eq!(write(&named, RELAY), Err(Unwritable::Name("a:b".to_owned())));
}

/// The first invoice of BOLT#11's examples that names an amount; it expired long ago.
const INVOICE: &str = "lnbc2500u1pvjluezsp5zyg3zyg3zyg3zyg3zyg3zyg3zyg3zyg3zyg3zyg3zyg3zyg3zygspp5qqqsyqcyq5rqwzqfqqqsyqcyq5rqwzqfqqqsyqcyq5rqwzqfqypqdq5xysxxatsyp3k7enxv4jsxqzpu9qrsgquk0rl77nj30yxdy8j9vdx85fkpmdla2087ne0xh8nhedh8w27kyke0lp53ut353s06fv3qfegext0eh0ymjpf39tuven09sam30g4vgpfna3rh";

#[test]
fn an_order_is_checked_before_it_is_published_and_read_again_as_a_wallet_takes_it() {
    let then = Unix(1_496_314_700);
    let order = check_order(INVOICE, "bitcoin", then).unwrap();
    assert_eq!(check_order(&format!("lightning:{}", INVOICE), "bitcoin", then).as_ref(), Ok(&order));
    assert_eq!(check_order(&INVOICE.to_ascii_uppercase(), "bitcoin", then).as_ref(), Ok(&order));
    let event = sign(order_event(&order, [0; 32], then, "1"));
    assert_eq!((event.kind, event.content.as_str()), (kind::MARKET_ORDER, INVOICE));
    let advert = read(&event, then).unwrap();
    assert_eq!((advert.source, advert.title.as_str()), (Source::Civkit, "invoice of 250,000 sat"));
    assert_eq!(advert.subject, Subject::Order(order));
    assert_eq!(read(&event, NOW).unwrap().standing, Standing::Gone, "it has expired");

    for (text, network, now, code) in [
        (INVOICE, "regtest", then, "order-network"),
        (INVOICE, "bitcoin", NOW, "order-expired"),
        ("hello", "bitcoin", then, "order-unreadable"),
        ("lnbc1broken", "bitcoin", then, "order-unusable"),
        ("lni1qqq", "bitcoin", then, "order-bolt12-invoice"),
    ] {
        let refused = check_order(text, network, now).unwrap_err();
        assert_eq!(refused.code(), code, "{refused}");
    }
    let refused: NotPayable = check_order(INVOICE, "regtest", then).unwrap_err();
    assert!(refused.to_string().contains("it is for bitcoin, and this is regtest"), "{refused}");
}

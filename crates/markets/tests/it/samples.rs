//! What each market really publishes, tag by tag, and what is read in it.

use markets::{Advert, Bond, CurrencyOrder, Decimal, Goods, Side, Source, Standing, Subject, Unread, kind, read};
use trade::MessageId;
use units::{Sat, Unix};

use crate::{NOW, event};

fn order(advert: &Advert) -> &CurrencyOrder {
    match &advert.subject {
        Subject::Currency(order) => order,
        other => panic!("no order: {other:?}"),
    }
}

fn goods(advert: &Advert) -> &Goods {
    match &advert.subject {
        Subject::Goods(goods) => goods,
        other => panic!("no goods: {other:?}"),
    }
}

fn number(text: &str) -> Decimal {
    Decimal::parse(text).unwrap()
}

/// The example of NIP-69 itself.
const LNP2PBOT: &[&[&str]] = &[
    &["d", "ede61c96-4c13-4519-bf3a-dcf7f1e9d842"],
    &["k", "sell"],
    &["f", "VES"],
    &["s", "pending"],
    &["amt", "0"],
    &["fa", "100"],
    &["pm", "face to face", "bank transfer"],
    &["premium", "1"],
    &["rating", "{\"total_reviews\":1,\"total_rating\":3.0,\"last_rating\":3,\"max_rate\":5,\"min_rate\":1}"],
    &["source", "https://t.me/p2plightning/xxxxxxx"],
    &["network", "mainnet"],
    &["layer", "lightning"],
    &["name", "Nakamoto"],
    &["g", "u4pru"],
    &["bond", "0"],
    &["expires_at", "1719391096"],
    &["expiration", "1719995896"],
    &["y", "lnp2pbot"],
    &["z", "order"],
];

/// The same tags, some of them others.
fn with<'a>(tags: &[&'a [&'a str]], changes: &[&'a [&'a str]]) -> Vec<&'a [&'a str]> {
    let kept = tags.iter().filter(|tag| !changes.iter().any(|change| change[0] == tag[0]));
    kept.chain(changes).copied().filter(|tag| tag.len() > 1).collect()
}

#[test]
fn the_example_of_nip_69() {
    let advert = read(&event(kind::CURRENCY_ORDER, LNP2PBOT, ""), NOW).unwrap();
    assert_eq!((advert.source, advert.standing), (Source::Lnp2pBot, Standing::Open));
    assert_eq!(advert.d, "ede61c96-4c13-4519-bf3a-dcf7f1e9d842");
    assert_eq!(advert.link.as_deref(), Some("https://t.me/p2plightning/xxxxxxx"));
    assert_eq!((advert.expires, advert.place.as_str()), (Some(Unix(1_719_391_096)), "u4pru"));
    let order = order(&advert);
    assert_eq!((order.side, order.currency.as_str()), (Side::Sells, "VES"));
    assert_eq!((order.min, order.max, order.amount), (number("100"), number("100"), None));
    assert_eq!((order.premium, order.bond), (number("1"), None));
    assert_eq!(order.methods, ["face to face", "bank transfer"]);
    assert_eq!(advert.title, "sells bitcoin for 100 VES");
    let late = read(&event(kind::CURRENCY_ORDER, LNP2PBOT, ""), Unix(1_719_391_096)).unwrap();
    assert_eq!(late.standing, Standing::Gone, "it has expired");
}

#[test]
fn a_mostro_node_names_itself_and_where_to_take_the_order() {
    let tags = with(
        LNP2PBOT,
        &[
            &["k", "buy"],
            &["fa", "50", "200"],
            &["premium", "-2"],
            &["rating", "[\"rating\",{\"total_reviews\":1,\"total_rating\":3.0,\"days\":21}]"],
            &["source", "mostro:ede61c96-4c13-4519-bf3a-dcf7f1e9d842?relays=wss://relay.mostro.network&mostro=82fa8c"],
            &["y", "mostro", "Mostro P2P"],
            &["name"],
            &["bond"],
        ],
    );
    let advert = read(&event(kind::CURRENCY_ORDER, &tags, ""), NOW).unwrap();
    assert_eq!((advert.source, advert.venue.as_str()), (Source::Mostro, "Mostro P2P"));
    assert!(advert.link.as_deref().unwrap().starts_with("mostro:ede61c96"));
    let found = order(&advert);
    assert_eq!((found.side, found.min, found.max), (Side::Buys, number("50"), number("200")));
    assert_eq!(found.premium, number("-2"));
    assert_eq!(advert.title, "buys bitcoin for 50 to 200 VES");
    for (status, standing) in [
        ("pending", Standing::Open),
        ("in-progress", Standing::Taken),
        ("success", Standing::Done),
        ("canceled", Standing::Gone),
        ("expired", Standing::Gone),
    ] {
        let status_tag = ["s", status];
        let changes: [&[&str]; 1] = [&status_tag];
        let tags = with(&tags, &changes);
        assert_eq!(read(&event(kind::CURRENCY_ORDER, &tags, ""), NOW).unwrap().standing, standing, "{status}");
    }
}

#[test]
fn a_robosats_coordinator_writes_decimals_percents_and_words_cut_at_spaces() {
    let tags: &[&[&str]] = &[
        &["d", "5f0a1f63-6b2e-52c5-9c3b-1d5f1f1b7a10"],
        &["name", "FancyRobot314", "2f4c"],
        &["k", "sell"],
        &["f", "EUR"],
        &["s", "pending"],
        &["amt", "0"],
        &["fa", "100.5", "350.25"],
        &["pm", "Cash", "F2F", "SEPA"],
        &["premium", "3.50"],
        &["source", "http://robosatsabcdef.onion/order/lake/12345"],
        &["expiration", "1719995896", "10800"],
        &["y", "robosats", "lake"],
        &["network", "mainnet"],
        &["layer", "lightning"],
        &["bond", "3.00"],
        &["z", "order"],
    ];
    let advert = read(&event(kind::CURRENCY_ORDER, tags, "I am online in the evening"), NOW).unwrap();
    assert_eq!((advert.source, advert.venue.as_str()), (Source::Robosats, "lake"));
    assert_eq!(advert.text, "I am online in the evening");
    assert_eq!(advert.expires, Some(Unix(1_719_995_896)), "there is no expires_at");
    let order = order(&advert);
    assert_eq!((order.min, order.max), (number("100.5"), number("350.25")));
    assert_eq!((order.premium, order.bond), (number("3.5"), Some(Bond::Percent(number("3")))));
    assert_eq!(order.methods, ["Cash F2F SEPA"], "where one name ended is lost");
}

#[test]
fn lnp2pbot_publishes_its_internal_states_and_one_element_of_methods() {
    for (status, standing) in [
        ("waiting-payment", Standing::Taken),
        ("waiting-buyer-invoice", Standing::Taken),
        ("active", Standing::Taken),
        ("fiat-sent", Standing::Taken),
        ("dispute", Standing::Taken),
        ("closed", Standing::Gone),
        ("canceled-by-admin", Standing::Gone),
    ] {
        let status_tag = ["s", status];
        let changes: [&[&str]; 3] = [&status_tag, &["pm", "Zelle, Wise"], &["rating", "4.5", "30", "12"]];
        let tags = with(LNP2PBOT, &changes);
        let tags: Vec<&[&str]> = tags.into_iter().chain([&["community_id", "654a"][..]]).collect();
        let advert = read(&event(kind::CURRENCY_ORDER, &tags, ""), NOW).unwrap();
        assert_eq!(advert.standing, standing, "{status}");
        assert_eq!(order(&advert).methods, ["Zelle", "Wise"]);
    }
}

#[test]
fn peach_sells_on_chain_with_a_fixed_amount_and_no_source() {
    let tags: &[&[&str]] = &[
        &["d", "P123-456_EUR"],
        &["name", "PEACH0A1B"],
        &["k", "sell"],
        &["f", "EUR"],
        &["s", "pending"],
        &["amt", "150000"],
        &["fa", "91.57"],
        &["pm", "sepa", "revolut"],
        &["premium", "4"],
        &["rating", "{\"total_reviews\":10,\"total_rating\":4.9}"],
        &["source", ""],
        &["expiration", "1719054000"],
        &["y", "peach"],
        &["network", "mainnet"],
        &["layer", "onchain"],
        &["bond", "0"],
        &["z", "order"],
    ];
    let advert = read(&event(kind::CURRENCY_ORDER, tags, ""), NOW).unwrap();
    assert_eq!((advert.source, advert.link.as_deref()), (Source::Peach, None));
    let order = order(&advert);
    assert_eq!((order.amount, order.layer.as_str()), (Some(Sat(150_000)), "onchain"));
}

#[test]
fn what_is_no_order_is_refused_with_the_name_of_the_field() {
    for (change, field) in [
        (&["k", "swap"][..], "k is malformed"),
        (&["k"], "k is missing"),
        (&["f", "E U R"], "f is malformed"),
        (&["fa", "1e3"], "fa is malformed"),
        (&["fa", "200", "50"], "fa is malformed"),
        (&["fa", "1", "2", "3"], "fa is malformed"),
        (&["fa", "-1"], "fa is malformed"),
        (&["amt", "0.5"], "amt is malformed"),
        (&["premium", "much"], "premium is malformed"),
        (&["s"], "s is missing"),
        (&["d"], "d is missing"),
        (&["z", "dispute"], "z is malformed"),
    ] {
        let changes = [change];
        let tags = with(LNP2PBOT, &changes);
        let refused = read(&event(kind::CURRENCY_ORDER, &tags, ""), NOW).unwrap_err();
        assert_eq!(refused.to_string(), field);
    }
    assert_eq!(read(&event(38_385, LNP2PBOT, ""), NOW), Err(Unread::Kind(38_385)));
}

#[test]
fn a_listing_of_shopstr() {
    let tags: &[&[&str]] = &[
        &["d", "9b1f1e0a6ddc5c7ad0f8"],
        &["alt", "Product listing: Honey"],
        &[
            "client",
            "Shopstr",
            "31990:3da2082b7aa5b76a8f0c134deab3f7848c3b5e3a3079c65947d88422b69c1755:x",
            "wss://relay.damus.io",
        ],
        &["title", "Honey"],
        &["summary", "From our own bees"],
        &["price", "25000", "sats"],
        &["location", "Vermont"],
        &["shipping", "Added Cost", "1500", "sats"],
        &["image", "https://example.com/honey.png"],
        &["t", "Food"],
        &["t", "shopstr"],
        &["quantity", "3"],
        &["condition", "New"],
        &["status", "active"],
        &["valid_until", "1781000000"],
        &["published_at", "1718000000"],
    ];
    let advert = read(&event(kind::CLASSIFIED, tags, ""), NOW).unwrap();
    assert_eq!((advert.source, advert.standing), (Source::Shopstr, Standing::Open));
    assert_eq!((advert.title.as_str(), advert.text.as_str()), ("Honey", "From our own bees"));
    assert_eq!((advert.place.as_str(), advert.expires), ("Vermont", Some(Unix(1_781_000_000))));
    assert_eq!(advert.since, Unix(1_718_000_000));
    let goods = goods(&advert);
    assert_eq!(goods.price.in_sat(), Some(Sat(25_000)));
    assert_eq!((goods.stock, goods.shipping.as_slice()), (Some(3), &["Added Cost 1500 SATS".to_owned()][..]));
    assert_eq!(goods.categories, ["Food"]);
    assert_eq!(goods.pictures, ["https://example.com/honey.png"]);
    assert_eq!(goods.facts, [("condition".to_owned(), "New".to_owned())]);
    let sold = with(tags, &[&["status", "sold"]]);
    assert_eq!(read(&event(kind::CLASSIFIED, &sold, ""), NOW).unwrap().standing, Standing::Done);
    // Stock beats quantity; no currency means satoshis.
    let gone = with(tags, &[&["stock", "0"], &["price", "25000"]]);
    assert_eq!(read(&event(kind::CLASSIFIED, &gone, ""), NOW).unwrap().standing, Standing::Done);
}

#[test]
fn a_product_of_plebeian() {
    let tags: &[&[&str]] = &[
        &["d", "product_a1b2c3"],
        &["title", "Mug"],
        &["price", "12.5", "EUR", ""],
        &["type", "simple", "physical"],
        &["visibility", "on-sale"],
        &["stock", "7"],
        &["summary", "A mug"],
        &["spec", "Colour", "blue"],
        &["image", "https://example.com/mug.png", "800x600", "0"],
        &["weight", "0.4", "kg"],
        &["t", "kitchen"],
        &["shipping_option", "30406:86a82cab18b293f53cbaaae8cdcbee3f7ec427fdf9f9c933db77800bb5ef38a0:worldwide", "5"],
        &["a", "30405:86a82cab18b293f53cbaaae8cdcbee3f7ec427fdf9f9c933db77800bb5ef38a0:mugs"],
    ];
    let advert = read(&event(kind::CLASSIFIED, tags, "Holds **tea**.\n\nAnd coffee."), NOW).unwrap();
    assert_eq!((advert.source, advert.standing), (Source::Plebeian, Standing::Open));
    assert_eq!(advert.text, "Holds **tea**.\n\nAnd coffee.");
    let goods = goods(&advert);
    assert_eq!((goods.price.amount, goods.price.currency.as_str()), (number("12.5"), "EUR"));
    assert_eq!((goods.price.in_sat(), &goods.price.per), (None, &None));
    assert_eq!(goods.shipping, ["worldwide +5"]);
    assert_eq!(goods.facts, [("Colour".to_owned(), "blue".to_owned()), ("weight".to_owned(), "0.4 kg".to_owned())]);
    let hidden = with(tags, &[&["visibility", "hidden"]]);
    assert_eq!(read(&event(kind::CLASSIFIED, &hidden, ""), NOW).unwrap().standing, Standing::Hidden);
    assert_eq!(read(&event(kind::CLASSIFIED_DRAFT, tags, ""), NOW).unwrap().standing, Standing::Hidden);
}

#[test]
fn the_example_of_nip_99_is_of_no_market_in_particular() {
    let tags: &[&[&str]] = &[
        &["d", "lorem-ipsum"],
        &["title", "Lorem Ipsum"],
        &["published_at", "1296962229"],
        &["t", "electronics"],
        &["image", "https://url.to.img", "256x256"],
        &["summary", "More lorem ipsum that is a little more than the title"],
        &["location", "NYC"],
        &["price", "15", "USD", "month"],
        &["e", "b3e392b11f5d4f28321cedd09303a748acfd0487aea5a7450b3481c60b6e4f87", "wss://relay.example.com"],
    ];
    let advert = read(&event(kind::CLASSIFIED, tags, "Lorem [ipsum][nostr:nevent1qqst8cuj]"), NOW).unwrap();
    assert_eq!((advert.source, advert.mirrors), (Source::Nip99, None::<MessageId>), "an e tag of others is no mirror");
    assert_eq!(goods(&advert).price.per.as_deref(), Some("month"));
}

#[test]
fn a_stall_and_a_product_of_nostrmarket() {
    let content = r#"{"id":"s1","name":"Bee stall","description":"honey","currency":"sat",
        "shipping":[{"id":"z1","name":"EU","cost":1000.0,"countries":["EU","Germany"]}]}"#;
    let stall = read(&event(kind::STALL, &[&["d", "s1"]], content), NOW).unwrap();
    let Subject::Stall(found) = &stall.subject else { panic!("no stall") };
    assert_eq!((stall.source, stall.title.as_str()), (Source::Nip15, "Bee stall"));
    assert_eq!((found.id.as_str(), found.currency.as_str()), ("s1", "SAT"));
    assert_eq!(found.shipping, ["EU 1000 SAT to EU, Germany"]);

    let content = r#"{"id":"p1","stall_id":"s1","name":"Honey","description":"one jar","images":["https://example.com/h.png"],
        "currency":"sat","price":5000.0,"quantity":12,"specs":[["size","500 g"]],"shipping":[{"id":"z1","cost":0.0}]}"#;
    let tags: &[&[&str]] = &[&["d", "p1"], &["t", "food"]];
    let product = read(&event(kind::PRODUCT, tags, content), NOW).unwrap();
    let found = goods(&product);
    assert_eq!((found.price.in_sat(), found.stock), (Some(Sat(5000)), Some(12)));
    assert_eq!((found.stall.as_deref(), found.categories.as_slice()), (Some("s1"), &["food".to_owned()][..]));
    assert_eq!(found.facts, [("size".to_owned(), "500 g".to_owned())]);
    let endless = content.replace("\"quantity\":12", "\"quantity\":null").replace("5000.0", "0.25");
    let endless = read(&event(kind::PRODUCT, tags, &endless), NOW).unwrap();
    assert_eq!((goods(&endless).stock, goods(&endless).price.amount), (None, number("0.25")));
    for broken in [
        content.replace("5000.0", "\"dear\""),
        content.replace("5000.0", "-1"),
        content.replace("\"sat\"", "7"),
        "[]".into(),
    ] {
        assert!(read(&event(kind::PRODUCT, tags, &broken), NOW).is_err(), "{broken}");
    }
}

#[test]
fn a_listing_of_domp() {
    let zeroes = "0".repeat(64);
    let tags: &[&[&str]] = &[&["d", "listing-1"], &["anti_spam_proof", "ref", &zeroes, "300"]];
    let content = r#"{"product_name":"Vintage camera","description":"It works","price_satoshis":80000000,"category":"electronics",
        "storage_link":"ipfs://QmX","shipping_info":{"domestic_cost_satoshis":5000,"estimated_days":7},"seller_collateral_satoshis":8000000}"#;
    let advert = read(&event(kind::LISTING, tags, content), NOW).unwrap();
    assert_eq!((advert.source, advert.title.as_str()), (Source::Domp, "Vintage camera"));
    let goods = goods(&advert);
    assert_eq!(goods.price.in_sat(), Some(Sat(80_000_000)));
    assert_eq!(
        (goods.shipping.as_slice(), goods.pictures.as_slice()),
        (&["domestic 5,000 sat".to_owned(), "7 days".to_owned()][..], &["ipfs://QmX".to_owned()][..])
    );
    let refused = read(&event(kind::LISTING, tags, "{}"), NOW).unwrap_err();
    assert_eq!(refused.code(), "field-missing");
}

//! Search (NIP-50) through the store and over a WebSocket.

use board::store::{LogStore, Outcome, Store, StoreConfig};

use crate::client::{Client, board, ids, now};
use crate::events::{NOW, ask, clock, filter, hex, put, signed};

fn listing(n: u8, at: u64, title: &str) -> wire::Event {
    signed(n, 30_402, at, &[&["d", title], &["title", title], &["t", "market"]], "for sale")
}

#[test]
fn a_search_finds_what_is_served_in_any_number_of_turns() {
    let dir = tempfile::tempdir().unwrap();
    let open = || LogStore::open(&StoreConfig::new(dir.path(), clock), Box::new(|_| ())).unwrap().0;
    let store = open();
    let mut lamps = Vec::new();
    for i in 0..60u64 {
        let (lamp, chair) = (listing(1, NOW - i, &format!("Lamp {i}")), listing(1, NOW - i, &format!("Chair {i}")));
        assert_eq!((put(&store, &lamp), put(&store, &chair)), (Outcome::Stored, Outcome::Stored));
        lamps.push(lamp);
    }
    let gone = signed(1, 5, NOW, &[&["e", &hex(&lamps[7].id)]], "");
    put(&store, &gone);
    let newer = signed(1, 30_402, NOW + 1, &[&["d", "Lamp 8"], &["title", "Table"]], "");
    put(&store, &newer);
    let found = |store: &LogStore, json: &str, rows| -> Vec<[u8; 32]> {
        ask(store, vec![filter(json)], NOW, rows).iter().map(|event| event.id).collect()
    };
    let expected: Vec<[u8; 32]> =
        lamps.iter().enumerate().filter(|(i, _)| ![7, 8].contains(i)).map(|(_, lamp)| lamp.id).collect();
    for rows in [1, 10, 1000] {
        assert_eq!(found(&store, "{\"search\":\"LÂMP market\"}", rows), expected, "{rows} rows a turn");
    }
    assert_eq!(found(&store, "{\"search\":\"lamp\",\"limit\":5}", 10), expected[..5]);
    assert_eq!(found(&store, "{\"search\":\"lamp sale 30\"}", 10), [lamps[30].id]);
    let window = format!("{{\"search\":\"lamp\",\"since\":{},\"until\":{}}}", NOW - 11, NOW - 10);
    assert_eq!(found(&store, &window, 10), [lamps[10].id, lamps[11].id]);
    let by_id = format!("{{\"search\":\"lamp\",\"ids\":[\"{}\",\"{}\"]}}", hex(&lamps[3].id), hex(&newer.id));
    assert_eq!(found(&store, &by_id, 10), [lamps[3].id]);
    for none in ["{\"search\":\"lamp chair\"}", "{\"search\":\"?\"}", "{\"search\":\"lamp\",\"kinds\":[1]}"] {
        assert!(found(&store, none, 10).is_empty(), "{none}");
    }
    assert_eq!(found(&store, "{\"search\":\"language:en\",\"kinds\":[5]}", 10), [gone.id]);
    store.close();
    drop(store);
    assert_eq!(found(&open(), "{\"search\":\"lamp\"}", 1000), expected, "and after a restart");
}

#[tokio::test]
async fn a_search_goes_on_live_and_is_counted() {
    let (board, _dir) = board(|_| ()).await;
    let mut client = Client::connect(board.local_addr()).await;
    let (old, new) = (listing(1, now() - 1, "old lamp"), listing(1, now(), "new lamp"));
    client.stored(&old).await;
    let mut reader = Client::connect(board.local_addr()).await;
    assert_eq!(reader.ask("{\"search\":\"lamp\",\"kinds\":[30402]}").await, ids(&[&old]));
    client.stored(&listing(1, now(), "chair")).await;
    client.stored(&new).await;
    assert_eq!(reader.next().await[2]["id"], hex(&new.id), "the chair went past");
    reader.send("[\"COUNT\",\"c\",{\"search\":\"lamp\"}]").await;
    assert_eq!(reader.next().await[2]["count"], 2);
    board.shutdown().await;
}

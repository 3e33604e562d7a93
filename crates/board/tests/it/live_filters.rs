//! Random filters and random events: what comes live over a WebSocket is what matches, and each event once for each subscription.

use std::collections::BTreeSet;

use serde_json::json;
use wire::{Event, Filter};

use crate::client::{Client, board, now};
use crate::events::{Dice, hex, pubkey, signed};

const SUBSCRIPTIONS: usize = 60;
const EVENTS: usize = 300;
const KINDS: [u16; 4] = [1, 7, 20_001, 30_402];
const WORDS: [&str; 4] = ["a", "b", "", "ham and \"eggs\" \u{e9}"];

fn pick<T: Copy>(dice: &mut Dice, from: &[T]) -> T {
    from[dice.roll(from.len() as u64) as usize]
}

/// Each is newer than the ones before, so that all of them are news.
fn random_event(dice: &mut Dice, number: usize) -> Event {
    let name = pick(dice, &["t", "e", "T", "long"]);
    let tags: [&[&str]; 3] = [&["d", pick(dice, &WORDS)], &[name, pick(dice, &WORDS)], &["t", pick(dice, &WORDS), "a"]];
    let tags = &tags[..1 + dice.roll(3) as usize];
    let at = now() - (EVENTS - number) as u64;
    signed(dice.roll(4) as u8 + 1, pick(dice, &KINDS), at, tags, "")
}

fn random_filter(dice: &mut Dice, events: &[Event]) -> String {
    let mut filter = json!({});
    if dice.roll(5) == 0 {
        filter["ids"] = (0..=dice.roll(20)).map(|_| hex(&events[dice.roll(EVENTS as u64) as usize].id)).collect();
    }
    if dice.roll(2) == 0 {
        filter["authors"] = (0..=dice.roll(2)).map(|_| hex(&pubkey(dice.roll(6) as u8 + 1))).collect();
    }
    if dice.roll(2) == 0 {
        filter["kinds"] = (0..=dice.roll(2)).map(|_| pick(dice, &KINDS)).collect();
    }
    for name in ["#t", "#d", "#T"] {
        if dice.roll(4) == 0 {
            filter[name] = (0..=dice.roll(2)).map(|_| pick(dice, &WORDS)).collect();
        }
    }
    for name in ["since", "until"] {
        if dice.roll(5) == 0 {
            filter[name] = (now() - dice.roll(EVENTS as u64)).into();
        }
    }
    if dice.roll(3) == 0 {
        filter["limit"] = dice.roll(2).into();
    }
    filter.to_string()
}

#[tokio::test]
async fn what_comes_live_is_what_matches() {
    let (board, _dir) = board(|_| ()).await;
    let mut dice = Dice(7);
    let events: Vec<Event> = (0..EVENTS).map(|number| random_event(&mut dice, number)).collect();
    let filters: Vec<Vec<String>> =
        (0..SUBSCRIPTIONS).map(|_| (0..=dice.roll(2)).map(|_| random_filter(&mut dice, &events)).collect()).collect();
    let (mut reader, mut writer) =
        (Client::connect(board.local_addr()).await, Client::connect(board.local_addr()).await);
    for (number, filters) in filters.iter().enumerate() {
        reader.send(format!("[\"REQ\",\"{number}\",{}]", filters.join(","))).await;
        assert_eq!(reader.next().await, json!(["EOSE", number.to_string()]));
    }
    for event in &events {
        writer.stored(event).await;
    }
    // It comes after all of them, by a subscription of its own.
    let last = signed(9, 20_009, now(), &[], "the end");
    reader.send("[\"REQ\",\"end\",{\"kinds\":[20009]}]").await;
    let mut came: Vec<Vec<String>> = vec![Vec::new(); SUBSCRIPTIONS];
    let mut told = false;
    loop {
        let frame = reader.next().await;
        match (frame[0].as_str().unwrap(), frame[1].as_str().unwrap()) {
            ("EOSE", "end") => {
                writer.stored(&last).await;
                told = true;
            }
            ("EVENT", "end") => break,
            ("EVENT", name) if frame[2]["id"] != hex(&last.id) => {
                came[name.parse::<usize>().unwrap()].push(frame[2]["id"].as_str().unwrap().to_owned());
            }
            other => assert_eq!(other.0, "EVENT", "{frame}"),
        }
    }
    assert!(told && came.iter().map(Vec::len).sum::<usize>() > EVENTS, "most filters match something");
    for (filters, came) in filters.iter().zip(came) {
        let parsed: Vec<Filter> = filters.iter().map(|json| crate::events::filter(json)).collect();
        let matches = |event: &&Event| parsed.iter().any(|filter| filter.matches(event));
        let expected: Vec<String> = events.iter().filter(matches).map(|event| hex(&event.id)).collect();
        assert_eq!(came.iter().collect::<BTreeSet<_>>().len(), came.len(), "once: {filters:?}");
        assert_eq!(came, expected, "{filters:?}");
    }
    board.shutdown().await;
}

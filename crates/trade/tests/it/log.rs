//! The log: one of every event that was ever written, as JSON, must be read and replayed by every later version.

use std::collections::BTreeSet;

use trade::{BondFate, Command, Desk, Entry, Event, Input, OwnNode, TradeId};

use crate::story::{ARBITER, PAYEE, PAYER, Story, accept, bonded, cancel, direct, key, release, rule, ship};

const FIXTURE: &str = include_str!("fixtures/events-1.jsonl");

/// Names of all events, as the log writes them.
const KINDS: [&str; 34] = [
    "opened",
    "message_ordered",
    "message_sent",
    "message_taken",
    "secret_learned",
    "accept_ordered",
    "invoice_ordered",
    "invoice_issued",
    "leg_held",
    "settle_ordered",
    "leg_settled",
    "cancel_ordered",
    "leg_canceled",
    "payment_ready",
    "payment_ordered",
    "pay_approved",
    "payment_in_flight",
    "payment_taken",
    "payment_returned",
    "fee_billed",
    "fee_ordered",
    "fee_in_flight",
    "fee_paid",
    "fee_failed",
    "locked",
    "relock_dropped",
    "unwound",
    "notice_raised",
    "notice_shown",
    "evidence_kept",
    "closed",
    "listing_ordered",
    "restocked",
    "delisted",
];

#[derive(serde::Serialize, serde::Deserialize)]
struct Line {
    /// Which desk of which story.
    desk: String,
    stream: TradeId,
    seq: u64,
    event: Event,
}

fn own_node() -> OwnNode {
    OwnNode { network: "regtest".to_owned(), node_id: "02".to_owned(), auto_cancel_margin: 39 }
}

fn lines() -> Vec<Line> {
    FIXTURE.lines().map(|line| serde_json::from_str(line).expect("every version reads every line")).collect()
}

#[test]
fn every_event_ever_written_is_read_and_written_in_the_same_way() {
    for text in FIXTURE.lines() {
        let line: Line = serde_json::from_str(text).expect("it is read");
        let again: serde_json::Value = serde_json::to_value(&line).expect("it is written");
        let before: serde_json::Value = serde_json::from_str(text).expect("JSON");
        assert_eq!(again, before);
    }
}

#[test]
fn the_fixture_has_one_of_every_event() {
    let seen: BTreeSet<String> = FIXTURE
        .lines()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).expect("JSON"))
        .map(|value| value["event"]["event"].as_str().expect("a kind").to_owned())
        .collect();
    let all: BTreeSet<String> = KINDS.iter().map(|kind| (*kind).to_owned()).collect();
    assert_eq!(seen, all);
}

#[test]
fn every_log_ever_written_replays() {
    let lines = lines();
    let desks: BTreeSet<&str> = lines.iter().map(|line| line.desk.as_str()).collect();
    let mut ends = Vec::new();
    for name in desks {
        let entries = lines.iter().filter(|line| line.desk == name).map(|line| Entry {
            stream: line.stream,
            seq: line.seq,
            event: line.event.clone(),
        });
        let (desk, damaged) = Desk::replay(own_node(), entries);
        assert_eq!(damaged, [], "{name}");
        ends.extend(desk.trades().map(|t| format!("{name}: {} {:?}", t.state_name(), t.outcome())));
    }
    insta::assert_snapshot!("replayed", ends.join("\n"));
}

/// With `SOUK_WRITE_FIXTURE=NAME`, adds the story of that name to the fixture: for a version that adds events. Old lines stay as
/// they are.
#[test]
fn write_the_fixture() {
    let Ok(wanted) = std::env::var("SOUK_WRITE_FIXTURE") else { return };
    let mut out = std::fs::read_to_string(FIXTURE_FILE).expect("there is one");
    for (name, story) in stories().into_iter().filter(|(name, _)| *name == wanted) {
        for (who, role) in [(PAYER, "payer"), (PAYEE, "payee"), (ARBITER, "arbiter")] {
            for entry in &story.log[who] {
                let line = Line {
                    desk: format!("{name}, {role}"),
                    stream: entry.stream,
                    seq: entry.seq,
                    event: entry.event.clone(),
                };
                out.push_str(&serde_json::to_string(&line).expect("it is written"));
                out.push('\n');
            }
        }
    }
    std::fs::write(FIXTURE_FILE, out).expect("written");
}

const FIXTURE_FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/fixtures/events-1.jsonl");

fn stories() -> Vec<(&'static str, Story)> {
    let mut ruled = Story::disputed(bonded());
    ruled.want(ARBITER, rule(1, BondFate::Forfeit, BondFate::Return));

    let mut relocked = Story::shipped(bonded());
    for round in 1..=2 {
        let payment_hashes = relocked.price_hashes(round);
        relocked.want(PAYER, Command::Relock { payment_hashes });
        let serve = relocked.serve_command(round);
        relocked.want(ARBITER, serve);
        if round == 1 {
            relocked.want(PAYEE, accept());
        }
    }
    relocked.want(PAYER, release());
    relocked.want(PAYER, Command::Rate { rating: 5, comment: Some("good".to_owned()) });

    let mut lied = Story::bid(direct());
    lied.tamper = Some(|facts| facts.amount = None);
    lied.want(PAYEE, accept());

    let mut canceled = Story::bid(direct());
    canceled.want(PAYEE, Command::Counter { amount: units::Sat(21_000) });
    canceled.want(PAYER, Command::Counter { amount: units::Sat(21_000) });
    canceled.want(PAYEE, accept());
    canceled.want(PAYEE, ship());
    canceled.want(PAYER, cancel());
    canceled.want(PAYEE, cancel());
    let stall = TradeId::of_stall(key(PAYEE), "lamp");
    canceled.feed(PAYEE, stall, Input::Command(Command::Restock { stock: 3 })).expect("fine");
    canceled.feed(PAYEE, stall, Input::Command(Command::Delist { reason: String::new() })).expect("fine");

    let mut stolen = Story::shipped(bonded());
    let secret = stolen.secret(PAYER, trade::LegId::price(0, 0));
    stolen.steal(PAYER, secret);
    stolen.blocks(4);

    let mut by_hand = Story::listed(direct());
    let order = trade::BidOrder { pay_by_hand: true, quantity: 1, ..by_hand.bid_order() };
    by_hand.want(PAYER, Command::Bid(Box::new(order)));
    by_hand.want(PAYEE, accept());
    by_hand.want(PAYER, Command::Pay);
    by_hand.want(PAYEE, ship());
    by_hand.want(PAYER, release());
    by_hand.want(PAYER, Command::RateBoard { url: "wss://board".to_owned(), rating: 3, comment: None });
    by_hand.feed(PAYEE, stall, Input::Command(Command::Delist { reason: "gone".to_owned() })).expect("fine");
    by_hand.go();

    let mut turned_down = Story::bid(bonded());
    turned_down.want(PAYEE, Command::Withdraw { reason: "sold elsewhere".to_owned() });
    let charged = |no_route| {
        let mut story = Story::bid_with_fee(bonded(), units::Sat(300), units::Sat(300));
        story.no_route = no_route;
        story.want(PAYEE, accept());
        story
    };
    vec![
        ("ruled", ruled),
        ("relocked", relocked),
        ("lied", lied),
        ("canceled", canceled),
        ("stolen", stolen),
        ("by hand", by_hand),
        ("turned down", turned_down),
        ("charged", charged(false)),
        ("fee without a route", charged(true)),
    ]
}

//! A trader tries to publish two events with one credential, and everything around that.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use board::admission::{FreeTier, KindPolicy, Policy};
use board::{Board, BoardConfig};
use credential::{Blank, Token};
use serde_json::{Value, json};
use tempfile::TempDir;
use wire::Event;

use crate::client::{Client, now};
use crate::events::{hex, signed};
use crate::kill::{program, run};
use crate::relay_limits::http;
use crate::store_recovery::{copy, log, truncate};

#[path = "../../examples/board/mint.rs"]
mod mint;

use mint::Mint;

const MASTER: [u8; 32] = [3; 32];
const DAY: u64 = 24 * 60 * 60;

/// The keyset on sale, one in its time of grace, and one whose time is over.
fn mint() -> Mint {
    let now = now();
    let times = [[now - DAY, now + DAY, now + 9 * DAY], [now - 9 * DAY, now - DAY, now + DAY], [0, now - 9 * DAY, now]];
    Mint::new(MASTER, &times)
}

/// Credential number `index` of a keyset of `mint`.
fn bought(mint: &Mint, epoch: usize, index: u64) -> Token {
    let (secret, keyset) = &mint.0[epoch];
    let blank = Blank::derive(&[9; 32], keyset.id, index);
    blank.unblind(keyset, &secret.sign(&blank.blinded())).unwrap()
}

/// Credential number `index` of the keyset on sale.
fn token(index: u64) -> Token {
    bought(&mint(), 0, index)
}

fn asking(dir: &Path) -> BoardConfig {
    let mut config = BoardConfig::new(dir, "127.0.0.1:0".parse().unwrap());
    config.ports.credentials = Some(Arc::new(mint()));
    let asked = KindPolicy { credential: true, ..KindPolicy::default() };
    config.policy = Policy { default: asked, ..Policy::default() };
    config
}

/// A board that asks for credentials.
async fn board() -> (Board, TempDir) {
    let dir = tempfile::tempdir().unwrap();
    (Board::start(asking(dir.path())).await.unwrap(), dir)
}

fn note(content: &str) -> Event {
    signed(1, 1, now(), &[], content)
}

impl Client {
    async fn spend(&mut self, event: &Event, token: &Token) -> (bool, String) {
        self.send(wire::frame::publish(event, Some(&token.stamp(&event.id).to_string()))).await;
        self.ok(&event.id).await
    }

    async fn spent(&mut self, event: &Event, token: &Token) {
        assert_eq!(self.spend(event, token).await, (true, String::new()));
    }

    /// The credential was spent for `first`.
    async fn is_spent(&mut self, token: &Token, first: &Event) {
        let other = note(&format!("not {}", hex(&first.id)));
        let said = format!("restricted: this credential was already spent for event {}", hex(&first.id));
        assert_eq!(self.spend(&other, token).await, (false, said));
    }
}

#[tokio::test]
async fn the_second_event_is_refused_and_told_which_was_the_first() {
    let (board, _dir) = board().await;
    let mut client = Client::connect(board.local_addr()).await;
    let (first, second) = (note("first"), note("second"));
    let (accepted, why) = client.publish(&first).await;
    assert!(!accepted && why.starts_with("restricted: ") && why.contains("13250"), "{why}");
    client.spent(&first, &token(1)).await;
    client.is_spent(&token(1), &first).await;
    client.spent(&second, &token(2)).await;
    let metrics = board.operator().metrics();
    assert!(metrics.contains("souk_board_refused_total{rule=\"credential\"} 2\n"), "{metrics}");
    board.shutdown().await;
}

#[tokio::test]
async fn the_same_event_again_is_a_duplicate_and_burns_nothing() {
    let (board, _dir) = board().await;
    let mut client = Client::connect(board.local_addr()).await;
    let first = note("first");
    client.spent(&first, &token(1)).await;
    for index in [1, 2] {
        let again = client.spend(&first, &token(index)).await;
        assert_eq!(again, (true, "duplicate: the board has this event".into()));
    }
    client.spent(&note("second"), &token(2)).await;
    board.shutdown().await;
}

#[tokio::test]
async fn of_two_at_once_exactly_one_wins() {
    let (board, _dir) = board().await;
    let mut clients = [Client::connect(board.local_addr()).await, Client::connect(board.local_addr()).await];
    for round in 0..30 {
        let token = token(round);
        let events = [note(&format!("one {round}")), note(&format!("other {round}"))];
        let frames = [0, 1].map(|i| wire::frame::publish(&events[i], Some(&token.stamp(&events[i].id).to_string())));
        let [one, other] = &mut clients;
        let [to_one, to_other] = frames;
        tokio::join!(one.send(to_one), other.send(to_other));
        let told = [clients[0].ok(&events[0].id).await, clients[1].ok(&events[1].id).await];
        let winner = usize::from(!told[0].0);
        assert!(told[winner].0 && !told[1 - winner].0, "{told:?}");
        assert!(told[1 - winner].1.ends_with(&hex(&events[winner].id)), "{told:?}");
        let found =
            clients[0].ask(&format!("{{\"ids\":[\"{}\",\"{}\"]}}", hex(&events[0].id), hex(&events[1].id))).await;
        assert_eq!(found, [hex(&events[winner].id)]);
    }
    board.shutdown().await;
}

#[tokio::test]
async fn what_was_spent_outlives_a_restart_and_the_loss_of_the_index() {
    let (board, dir) = board().await;
    let first = note("first");
    Client::connect(board.local_addr()).await.spent(&first, &token(1)).await;
    board.shutdown().await;
    for index_is_lost in [false, true] {
        if index_is_lost {
            fs::remove_dir_all(dir.path().join("index")).unwrap();
        }
        let board = Board::start(asking(dir.path())).await.unwrap();
        assert_eq!(board.opened().rebuilt.is_some(), index_is_lost);
        Client::connect(board.local_addr()).await.is_spent(&token(1), &first).await;
        board.shutdown().await;
    }
}

#[tokio::test]
async fn an_event_whose_frame_was_torn_off_leaves_its_credential_unspent() {
    let (board, dir) = board().await;
    let mut client = Client::connect(board.local_addr()).await;
    let (first, second) = (note("first"), note("second"));
    client.spent(&first, &token(1)).await;
    client.spent(&second, &token(2)).await;
    board.shutdown().await;
    for torn in [1, 71, 72, 73, 200] {
        let left = tempfile::tempdir().unwrap();
        copy(dir.path(), left.path());
        let whole = fs::metadata(log(left.path())).unwrap().len();
        truncate(&log(left.path()), whole - torn);
        let board = Board::start(asking(left.path())).await.unwrap();
        assert_eq!(board.opened().frames, 1);
        let mut client = Client::connect(board.local_addr()).await;
        client.is_spent(&token(1), &first).await;
        let third = note("third");
        client.spent(&third, &token(2)).await;
        client.is_spent(&token(2), &third).await;
        board.shutdown().await;
    }
}

#[tokio::test]
async fn after_a_kill_a_credential_is_spent_exactly_if_its_event_is_there() {
    let program = tokio::task::spawn_blocking(program).await.unwrap();
    let dir = tempfile::tempdir().unwrap();
    let start = || run(Command::new(&program).arg(dir.path()).arg("127.0.0.1:0").arg(hex(&MASTER)));
    let mint = Mint::new(MASTER, &[[0, u64::MAX, u64::MAX]]);
    let tokens: Vec<Token> = (0..200).map(|index| bought(&mint, 0, index)).collect();
    let events: Vec<Event> = (0..200).map(|n| note(&format!("{n}"))).collect();
    let mut acknowledged = 0;
    {
        let board = start();
        let mut client = Client::connect(board.address).await;
        for (event, token) in events.iter().zip(&tokens) {
            client.send(wire::frame::publish(event, Some(&token.stamp(&event.id).to_string()))).await;
        }
        for event in &events[..50] {
            assert_eq!(client.ok(&event.id).await, (true, String::new()));
            acknowledged += 1;
        }
        // Killed as it is dropped, with events under way.
    }
    let board = start();
    let mut client = Client::connect(board.address).await;
    let mut there = 0;
    for (event, token) in events.iter().zip(&tokens) {
        if client.ask(&format!("{{\"ids\":[\"{}\"]}}", hex(&event.id))).await.is_empty() {
            client.spent(&note(&format!("in place of {}", hex(&event.id))), token).await;
        } else {
            client.is_spent(token, event).await;
            there += 1;
        }
    }
    assert!(there >= acknowledged);
}

#[tokio::test]
async fn what_is_refused_for_another_reason_burns_nothing() {
    let (board, _dir) = board().await;
    let mut client = Client::connect(board.local_addr()).await;
    let token = token(1);
    let forged = Event { sig: [7; 64], ..note("forged") };
    for (event, word) in [
        (forged, "invalid"),
        (signed(1, 1, now() + 10_000, &[], "from the future"), "invalid"),
        (signed(1, 1, now(), &[&["expiration", "1000"]], "over"), "invalid"),
        (signed(1, 22_242, now(), &[], "not for others"), "blocked"),
        (signed(1, 1, now(), &[&["-"]], "protected"), "auth-required"),
        (signed(1, 32_500, now(), &[], "lnbc1nonsense"), "invalid"),
    ] {
        let (accepted, why) = client.spend(&event, &token).await;
        assert!(!accepted && why.starts_with(&format!("{word}: ")), "{why}");
    }
    client.spent(&note("good"), &token).await;
    board.shutdown().await;
}

#[tokio::test]
async fn a_credential_counts_at_its_board_in_its_time_for_its_event() {
    let (board, _dir) = board().await;
    let event = note("first");
    let foreign = Mint::new([4; 32], &[[0, now() + DAY, now() + DAY]]);
    let bad = [
        bought(&foreign, 0, 1).stamp(&event.id),
        bought(&mint(), 2, 1).stamp(&event.id),
        // Seen on the way to another board, or here with another event.
        token(1).stamp(&note("another").id),
    ];
    for stamp in bad {
        let mut client = Client::connect(board.local_addr()).await;
        client.send(wire::frame::publish(&event, Some(&stamp.to_string()))).await;
        let (accepted, why) = client.ok(&event.id).await;
        assert!(!accepted && why.starts_with("restricted: "), "{why}");
    }
    let mut client = Client::connect(board.local_addr()).await;
    client.spent(&event, &bought(&mint(), 1, 1)).await;
    client.spent(&note("another"), &token(1)).await;
    board.shutdown().await;
}

#[tokio::test]
async fn whoever_guesses_is_not_listened_to_for_a_while() {
    let (board, _dir) = board().await;
    let (mut client, event) = (Client::connect(board.local_addr()).await, note("first"));
    for n in 0..6 {
        client.send(wire::frame::publish(&event, Some(&format!("bc1{n}")))).await;
        let (accepted, why) = client.ok(&event.id).await;
        let word = if n < 5 { "restricted: " } else { "rate-limited: " };
        assert!(!accepted && why.starts_with(word), "{n}: {why}");
    }
    let (accepted, why) = client.spend(&event, &token(1)).await;
    assert!(!accepted && why.starts_with("rate-limited: "), "{why}");
    Client::connect(board.local_addr()).await.spent(&event, &token(1)).await;
    board.shutdown().await;
}

#[tokio::test]
async fn what_is_not_kept_costs_nothing() {
    let (board, _dir) = board().await;
    let mut client = Client::connect(board.local_addr()).await;
    let (passing, kept) = (signed(1, 20_001, now(), &[], "passing"), note("kept"));
    assert_eq!(client.publish(&passing).await, (true, String::new()));
    client.spent(&passing, &token(1)).await;
    client.spent(&kept, &token(1)).await;
    board.shutdown().await;
}

/// A credential ahead of its event, from a key that is used for nothing else.
fn ahead(event: &[u8; 32], credential: &str) -> Event {
    signed(7, 23_252, now(), &[&["e", &hex(event)], &["credential", credential]], "")
}

#[tokio::test]
async fn a_client_that_knows_only_nip_01_sends_the_credential_ahead() {
    let (board, _dir) = board().await;
    let mut client = Client::connect(board.local_addr()).await;
    let mut reader = Client::connect(board.local_addr()).await;
    assert!(reader.ask("{}").await.is_empty());
    let (first, second) = (note("first"), note("second"));
    let sent = ahead(&first.id, &token(1).stamp(&first.id).to_string());
    assert_eq!(client.publish(&sent).await, (true, "the credential waits 60 seconds for its event".into()));
    let (accepted, why) = client.publish(&second).await;
    assert!(!accepted && why.starts_with("restricted: "), "it waits for another: {why}");
    Client::connect(board.local_addr()).await.stored(&first).await;
    client.is_spent(&token(1), &first).await;
    client.spent(&second, &token(2)).await;
    // Nobody who follows everything was shown the credential, and nothing of it was kept.
    for event in [&first, &second] {
        assert_eq!(reader.next().await[2]["id"], hex(&event.id));
    }
    assert!(client.ask("{\"kinds\":[23252]}").await.is_empty());
    board.shutdown().await;
}

#[tokio::test]
async fn a_credential_ahead_that_is_no_good_is_refused_at_once() {
    let (board, _dir) = board().await;
    let event = note("first");
    let stamp = token(1).stamp(&event.id).to_string();
    let of_another = token(1).stamp(&note("another").id).to_string();
    let malformed = [
        signed(7, 23_252, now(), &[&["credential", &stamp]], ""),
        signed(7, 23_252, now(), &[&["e", &hex(&event.id)]], ""),
        signed(7, 23_252, now(), &[&["e", "ab"], &["credential", &stamp]], ""),
    ];
    for bad in malformed.into_iter().chain([ahead(&event.id, "bc1nonsense"), ahead(&event.id, &of_another)]) {
        let mut client = Client::connect(board.local_addr()).await;
        let (accepted, why) = client.publish(&bad).await;
        assert!(!accepted && why.starts_with("restricted: "), "{why}");
        let (accepted, why) = client.publish(&event).await;
        assert!(!accepted && why.starts_with("restricted: "), "{why}");
    }
    let mut client = Client::connect(board.local_addr()).await;
    for n in 0..6 {
        let (accepted, why) = client.publish(&ahead(&event.id, &format!("bc1{n}"))).await;
        let word = if n < 5 { "restricted: " } else { "rate-limited: " };
        assert!(!accepted && why.starts_with(word), "{n}: {why}");
    }
    board.shutdown().await;
    // A board that takes none says so.
    let (board, _dir) = crate::client::board(|_| {}).await;
    let (accepted, why) = Client::connect(board.local_addr()).await.publish(&ahead(&event.id, &stamp)).await;
    assert!(!accepted && why == "restricted: this board takes no credentials", "{why}");
    board.shutdown().await;
}

#[tokio::test]
async fn a_credential_ahead_needs_neither_a_known_key_nor_a_kind_on_the_list() {
    let dir = tempfile::tempdir().unwrap();
    let mut config = asking(dir.path());
    config.policy.kinds = vec![1.into()];
    config.policy.default.auth = true;
    let board = Board::start(config).await.unwrap();
    let mut client = Client::connect(board.local_addr()).await;
    let event = note("first");
    assert!(client.publish(&ahead(&event.id, &token(1).stamp(&event.id).to_string())).await.0);
    let (accepted, why) = client.publish(&event).await;
    assert!(!accepted && why.starts_with("auth-required: "), "{why}");
    client.authenticate(1).await;
    // It still waits.
    client.stored(&event).await;
    board.shutdown().await;
}

#[tokio::test]
async fn the_information_document_tells_the_price_and_who_the_board_is() {
    let document = async |change: &dyn Fn(&mut BoardConfig)| -> Value {
        let dir = tempfile::tempdir().unwrap();
        let mut config = asking(dir.path());
        change(&mut config);
        let board = Board::start(config).await.unwrap();
        let request = "GET / HTTP/1.1\r\nHost: x\r\nAccept: application/nostr+json\r\n\r\n";
        let (_, _, body) = http(board.local_addr(), request).await;
        board.shutdown().await;
        serde_json::from_str(&body).unwrap()
    };
    let orders = |config: &mut BoardConfig| {
        let asked = config.policy.default;
        config.policy.default = KindPolicy::default();
        config.policy.per_kind = [((300..=399).into(), asked), (38_383.into(), asked)].into();
        config.own_key = Some([5; 32]);
    };
    let some = document(&orders).await;
    let kinds = json!([[300, 399], 38_383]);
    let stamp = json!([{ "kinds": kinds, "amount": mint::PRICE.0, "unit": "msats", "scheme": "bc1" }]);
    assert_eq!(some["fees"], json!({ "stamp": stamp }));
    let paid = |document: &Value| {
        let limitation = &document["limitation"];
        (limitation["payment_required"] == true, limitation["restricted_writes"] == true)
    };
    assert_eq!(paid(&some), (false, true), "other kinds are free");
    assert_eq!(paid(&document(&|_| ()).await), (true, true));
    assert_eq!(some["self"], hex(&[5; 32]));
    let tier = Some(FreeTier { per_day: 3, score: 0 });
    // The policy of kind 32500 takes nothing from the default.
    let free = document(&|config| config.policy.free_tier = tier).await;
    assert_eq!((paid(&free), &free["self"]), ((false, true), &Value::Null));
    assert_eq!(free["fees"]["stamp"][0]["kinds"], json!([[0, 61], [63, 19_999], [30_000, 32_499], [32_501, 65_535]]));
    let over = document(&|config| config.ports.credentials = Some(Arc::new(Mint::new(MASTER, &[[0, 1, 2]])))).await;
    assert_eq!(over["fees"], Value::Null, "nothing is on sale");
    let open = document(&|config| config.policy.default.credential = false).await;
    assert_eq!((&open["fees"], paid(&open)), (&Value::Null, (false, false)));
}

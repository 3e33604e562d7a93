//! The rate for questions: who asks without end is slowed down, and others are answered meanwhile.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use board::admission::{Policy, Share};
use board::{Board, Proxies};
use tempfile::TempDir;

use crate::client::{Client, DEADLINE, board, now};
use crate::events::signed;
use crate::proxies::through_a_proxy;

/// One of each sort, all of everything.
const QUESTIONS: [&str; 3] =
    [r#"["REQ","q",{}]"#, r#"["COUNT","q",{}]"#, r#"["NEG-OPEN","q",{},"6100000100000000000000000000000000000000"]"#];
/// Longer than a board takes that lets nobody wait.
const A_WHILE: Duration = Duration::from_millis(400);

fn share(burst_ms: u32) -> Policy {
    // What was used up does not come back.
    Policy { per_address_queries: Some(Share { burst_ms, per_minute_ms: 0 }), ..Policy::default() }
}

async fn board_of(policy: Policy) -> (Board, TempDir) {
    board(|config| {
        config.proxies = Proxies::parse(&["127.0.0.1".to_owned()]).unwrap();
        config.policy = policy;
    })
    .await
}

async fn from(address: SocketAddr, number: usize) -> Client {
    through_a_proxy(address, &format!("192.0.2.{number}")).await.unwrap()
}

/// Waits for the end of the answer.
async fn answered(client: &mut Client) {
    while client.next().await[0] == "EVENT" {}
}

/// The answer does not come for a while.
async fn waits(client: &mut Client) -> bool {
    tokio::time::timeout(A_WHILE, answered(client)).await.is_err()
}

fn waited(board: &Board) -> u64 {
    let metrics = board.operator().metrics();
    let line = metrics.lines().find_map(|line| line.strip_prefix("souk_board_query_waits_total "));
    line.unwrap().parse().unwrap()
}

#[tokio::test]
async fn a_flood_of_questions_uses_up_the_share_of_its_address_and_of_no_other() {
    let (board, _dir) = board_of(Policy { per_address_queries: None, ..Policy::default() }).await;
    let at = board.local_addr();
    let mut home = Client::connect(at).await;
    for i in 0..500 {
        home.stored(&signed(1, 1, now() - i, &[], "x")).await;
    }
    board.policy().set(share(20));
    for (number, question) in QUESTIONS.into_iter().enumerate() {
        let (mut flood, before, mut asked) = (from(at, number).await, waited(&board), 1);
        while {
            flood.send(question).await;
            !waits(&mut flood).await
        } {
            asked += 1;
            assert!(asked < 2000, "{question} is not charged at all");
        }
        assert_eq!(waited(&board), before + 1, "{question}");
        // What makes the board do nothing may be asked more often: it is the work that counts.
        let mut light = from(at, 50 + number).await;
        let nothing = question.replace("{}", "{\"ids\":[]}");
        for _ in 0..2 * asked {
            light.send(&*nothing).await;
            assert!(!waits(&mut light).await, "after {asked} of {question}");
        }
        let mut neighbor = from(at, number).await;
        neighbor.send(question).await;
        assert!(waits(&mut neighbor).await, "another connection does not help");
        let mut other = from(at, 100 + number).await;
        other.send(question).await;
        assert!(!waits(&mut other).await, "{question}");
        home.send(question).await;
        assert!(!waits(&mut home).await, "{question}");
    }
    board.shutdown().await;
}

#[tokio::test]
async fn questions_wait_until_the_policy_lets_them_go_on_and_nothing_is_refused() {
    let (board, _dir) = board_of(share(0)).await;
    let mut clients = Vec::new();
    for (number, question) in QUESTIONS.into_iter().enumerate() {
        let mut client = from(board.local_addr(), number).await;
        client.send(question).await;
        assert!(waits(&mut client).await, "{question}");
        clients.push(client);
    }
    let mut home = Client::connect(board.local_addr()).await;
    for question in QUESTIONS {
        home.send(question).await;
        assert!(!waits(&mut home).await, "loopback addresses are exempt");
    }
    assert_eq!(waited(&board), 3);
    board.policy().set(Policy { per_address_queries: None, ..Policy::default() });
    for client in &mut clients {
        tokio::time::timeout(DEADLINE, answered(client)).await.unwrap();
        for question in QUESTIONS {
            client.send(question).await;
            assert!(!waits(client).await, "{question}");
        }
    }
    assert_eq!(waited(&board), 3);
    board.shutdown().await;
}

#[tokio::test]
async fn who_has_used_up_their_share_is_read_from_slowly() {
    let (board, _dir) = board_of(share(0)).await;
    let mut client = from(board.local_addr(), 1).await;
    let begin = Instant::now();
    for name in 0..10 {
        client.send(format!("[\"REQ\",\"{name}\",{{}}]")).await;
    }
    client.stored(&signed(1, 1, now(), &[], "x")).await;
    assert!(begin.elapsed() >= A_WHILE, "{:?}", begin.elapsed());
    board.shutdown().await;
}

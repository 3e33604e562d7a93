//! A board is paid over Lightning for credentials, and takes each of them for one event.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use board::{Board, BoardConfig};
use credential::quote::{Answer, KIND_ANSWER, KIND_POLICY, KIND_REQUEST, Order, Request};
use credential::{Blank, Keyset, Token};
use futures::{SinkExt, StreamExt};
use keys::Seed;
use node::{FakeNetwork, Node, PayLimits, Payable};
use secp256k1::{Keypair, SECP256K1, SecretKey};
use tokio::sync::mpsc;
use tokio_tungstenite::connect_async;
use tokio_tungstenite::tungstenite::Message;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use units::{Height, Msat, Now, Unix, hex32};
use wire::event::{Event, Unsigned, pubkey_of};
use wire::frame::{self, FrameLimits, RelayFrame};
use wire::nip44::ConversationKey;

use super::people::until;
use crate::bolt11_node::Bolt11Node;
use crate::config::Credentials;
use crate::issuer::{self, Issuer, Till};

const DAY_SECS: u64 = 24 * 3600;
const NOTE: u16 = 1;

/// A clock that a test moves; tests that move it have one of their own.
macro_rules! clock {
    ($start:expr) => {{
        static NOW: AtomicU64 = AtomicU64::new($start);
        fn now() -> Unix {
            Unix(NOW.load(Ordering::SeqCst))
        }
        (now as fn() -> Unix, &NOW)
    }};
}

/// A board that wants a credential for every note, and the daemon's part that sells them.
struct Shop {
    board: Board,
    issuer: Arc<Issuer>,
    tasks: TaskTracker,
    stop: CancellationToken,
}

impl Shop {
    async fn open(dir: &Path, seed: &Seed, node: Arc<Bolt11Node>, clock: fn() -> Unix) -> Shop {
        let terms = Credentials { price_msat: 2_000, epoch_days: 30, grace_days: 60 };
        let issuer = Arc::new(Issuer::open(&terms, dir, seed, clock).unwrap());
        let (ask, requests) = mpsc::channel(issuer::REQUESTS_MAX);
        let mut config = BoardConfig::new(dir.join("board"), SocketAddr::from((Ipv4Addr::LOCALHOST, 0)));
        config.policy.default.credential = true;
        config.ports.credentials = Some(issuer.clone());
        (config.till, config.clock) = (Some(ask), clock);
        let board = Board::start(config).await.unwrap();
        let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
        let till = Till::open(issuer.clone(), board.operator(), node, requests).unwrap();
        tasks.spawn(till.run(stop.clone()));
        Shop { board, issuer, tasks, stop }
    }

    async fn close(self) {
        self.stop.cancel();
        self.tasks.close();
        self.tasks.wait().await;
        self.board.shutdown().await;
    }

    /// Sends `frame` and waits for the first answer that `wanted` picks.
    async fn hear<T>(&self, frames: Vec<String>, mut wanted: impl FnMut(&RelayFrame<'_>) -> Option<T>) -> T {
        let (mut socket, _) = connect_async(format!("ws://{}", self.board.local_addr())).await.unwrap();
        for frame in frames {
            socket.send(Message::Text(frame.into())).await.unwrap();
        }
        let found = tokio::time::timeout(Duration::from_secs(60), async {
            loop {
                let Message::Text(text) = socket.next().await.unwrap().unwrap() else { continue };
                let frame = RelayFrame::parse(text.as_bytes(), &FrameLimits::CLIENT).unwrap();
                if let Some(found) = wanted(&frame) {
                    return found;
                }
            }
        });
        found.await.expect("the board answers")
    }

    /// The keyset on sale, as the board publishes it: the one that signs longest.
    async fn keyset(&self) -> Keyset {
        let ask = format!(r#"["REQ","p",{{"kinds":[{KIND_POLICY}],"authors":["{}"]}}]"#, hex32(&self.issuer.pubkey()));
        let event = self.hear(vec![ask], |frame| match frame {
            RelayFrame::Event { event, .. } => Some(event.to_event()),
            _ => None,
        });
        let event = event.await;
        assert!(event.verify().is_ok());
        let kinds = event.tags.iter().find(|tag| tag[0] == "kinds").expect("it says what they are for");
        assert_eq!(kinds[1..], ["0-61", "63-19999", "30000-32499", "32501-65535"]);
        let keysets = event.tags.iter().filter(|tag| tag[0] == "keyset").map(|tag| Keyset::from_tag(tag).unwrap());
        keysets.max_by_key(|keyset| keyset.issue_until).expect("one is on sale")
    }

    /// Asks what `request` asks, as a stranger.
    async fn ask(&self, request: &Request) -> Answer {
        let (us, board) = (stranger(), self.issuer.pubkey());
        let shared = ConversationKey::between(&us, &board).unwrap();
        let content = shared.encrypt(&serde_json::to_string(request).unwrap(), &[7; 32]).unwrap();
        let tags = vec![vec!["p".to_owned(), hex32(&board)]];
        let event = signed(&us, KIND_REQUEST, tags, content);
        let listen = format!(r##"["REQ","a",{{"kinds":[{KIND_ANSWER}],"#p":["{}"]}}]"##, hex32(&pubkey_of(&us)));
        let id = hex32(&event.id);
        self.hear(vec![listen, frame::publish(&event, None)], |frame| match frame {
            RelayFrame::Event { event, .. } => {
                let event = event.to_event();
                assert_eq!((event.pubkey, event.tag("e")), (board, Some(id.as_str())));
                Some(serde_json::from_str(&shared.decrypt(&event.content).unwrap()).unwrap())
            }
            _ => None,
        })
        .await
    }

    /// Publishes `event`; the board's OK.
    async fn publish(&self, event: &Event, credential: Option<&str>) -> Result<(), String> {
        self.hear(vec![frame::publish(event, credential)], |frame| match frame {
            RelayFrame::Ok { accepted: true, .. } => Some(Ok(())),
            RelayFrame::Ok { message, .. } => Some(Err(message.to_string())),
            _ => None,
        })
        .await
    }
}

fn stranger() -> Keypair {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes).unwrap();
    Keypair::from_seckey_slice(SECP256K1, &bytes).unwrap()
}

fn signed(key: &Keypair, kind: u16, tags: Vec<Vec<String>>, content: String) -> Event {
    let created_at = Unix(1_800_000_000);
    Unsigned { pubkey: pubkey_of(key), created_at, kind, tags, content }.sign(key, &[0; 32])
}

fn note(text: &str) -> Event {
    signed(&stranger(), NOTE, Vec::new(), text.to_owned())
}

/// A board's node and a buyer's, with a channel between them.
fn nodes(unix: u64) -> (FakeNetwork, Arc<Bolt11Node>, Arc<Bolt11Node>) {
    let network = FakeNetwork::new(Now { height: Height(800_000), unix: Unix(unix) });
    let node = |mark: u8| Bolt11Node::on(&network, SecretKey::from_slice(&[mark; 32]).unwrap());
    let (ours, theirs) = (node(1), node(2));
    (network, ours, theirs)
}

/// What somebody orders, and what they have to keep for it.
fn order(keyset: &Keyset, client: &Keypair, from: u64) -> (Order, Vec<Blank>) {
    let blanks: Vec<_> = (from..from + 10).map(|index| Blank::derive(&[8; 32], keyset.id, index)).collect();
    let outputs = blanks.iter().map(Blank::blinded).collect();
    (Order { keyset: keyset.id, client: client.public_key(), outputs }, blanks)
}

async fn pay(buyer: &Bolt11Node, answer: &Answer) {
    let Answer::Unpaid { invoice, .. } = answer else { panic!("nothing to pay: {answer:?}") };
    buyer.pay(Payable::Bolt11 { invoice: invoice.clone(), amount: None }, PayLimits::default()).await.unwrap();
}

fn unblind(keyset: &Keyset, blanks: &[Blank], answer: &Answer) -> Vec<Token> {
    let Answer::Issued { signatures, .. } = answer else { panic!("nothing issued: {answer:?}") };
    blanks.iter().zip(signatures).map(|(blank, signature)| blank.unblind(keyset, signature).unwrap()).collect()
}

async fn buy(shop: &Shop, buyer: &Bolt11Node, from: u64) -> Vec<Token> {
    let (keyset, client) = (shop.keyset().await, stranger());
    let (order, blanks) = order(&keyset, &client, from);
    pay(buyer, &shop.ask(&Request::Quote(order.clone())).await).await;
    let claim = Request::Issue { quote: order.quote(), claim: order.claim(&client) };
    unblind(&keyset, &blanks, &shop.ask(&claim).await)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_paid_for_is_signed_and_taken_for_one_event_each() {
    let dir = tempfile::tempdir().unwrap();
    let (clock, _) = clock!(1_800_000_000);
    let (_network, ours, buyer) = nodes(1_800_000_000);
    let shop = Shop::open(dir.path(), &Seed::generate(&[1; 32]), ours.clone(), clock).await;
    let first = note("without");
    assert!(shop.publish(&first, None).await.unwrap_err().starts_with("restricted: "));
    let before = ours.balances().await.unwrap().lightning;
    let tokens = buy(&shop, &buyer, 0).await;
    let earned = ours.balances().await.unwrap().lightning.0 - before.0;
    assert_eq!(Msat(earned), Msat(20_000), "ten at two satoshis");
    for token in &tokens {
        let event = note(&hex32(&token.secret)[..8]);
        assert_eq!(shop.publish(&event, Some(&token.stamp(&event.id).to_string())).await, Ok(()));
    }
    shop.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_pays_gets_it_even_if_everybody_was_away() {
    let dir = tempfile::tempdir().unwrap();
    let (clock, _) = clock!(1_800_000_000);
    let (_network, ours, buyer) = nodes(1_800_000_000);
    let seed = Seed::generate(&[1; 32]);
    let shop = Shop::open(dir.path(), &seed, ours.clone(), clock).await;
    let (keyset, client) = (shop.keyset().await, stranger());
    let (order, blanks) = order(&keyset, &client, 0);
    let quoted = shop.ask(&Request::Quote(order.clone())).await;
    let Answer::Unpaid { invoice, commitment, expiry, .. } = &quoted else { panic!("{quoted:?}") };
    assert_eq!(*commitment, order.commitment(&shop.issuer.pubkey(), Msat(20_000), *expiry));
    assert_eq!(wire::invoice::description_hash(invoice), Ok(Some(*commitment)), "the node signs what is sold");
    assert_eq!(shop.ask(&Request::Quote(order.clone())).await, quoted, "the same order is the same invoice");

    let claim = Request::Issue { quote: order.quote(), claim: order.claim(&client) };
    assert_eq!(shop.ask(&claim).await, quoted, "not paid yet");
    shop.close().await;
    pay(&buyer, &quoted).await;

    let shop = Shop::open(dir.path(), &seed, ours, clock).await;
    let thief = Request::Issue { quote: order.quote(), claim: order.claim(&stranger()) };
    assert!(matches!(shop.ask(&thief).await, Answer::Refused(_)), "every node on the way knows the preimage");
    let issued = shop.ask(&claim).await;
    assert_eq!(shop.ask(&claim).await, issued, "an answer that was lost is given again");
    assert_eq!(unblind(&keyset, &blanks, &issued).len(), 10);
    let unknown = Request::Issue { quote: [9; 32], claim: order.claim(&client) };
    assert!(matches!(shop.ask(&unknown).await, Answer::Refused(_)));
    shop.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_epoch_ends_for_sale_first_and_for_spending_later() {
    let dir = tempfile::tempdir().unwrap();
    const START: u64 = 695 * 30 * DAY_SECS;
    let (clock, now) = clock!(START + DAY_SECS);
    let (network, ours, buyer) = nodes(START + DAY_SECS);
    let seed = Seed::generate(&[1; 32]);
    let shop = Shop::open(dir.path(), &seed, ours.clone(), clock).await;
    let old = shop.keyset().await;
    let tokens = buy(&shop, &buyer, 0).await;
    shop.close().await;

    // The next epoch: the old keyset is not sold any more, what was bought of it is taken.
    now.store(START + 31 * DAY_SECS, Ordering::SeqCst);
    network.pass_time(30 * DAY_SECS);
    let shop = Shop::open(dir.path(), &seed, ours.clone(), clock).await;
    until("the new keyset is on sale", async || shop.keyset().await.id != old.id).await;
    let (late, _) = order(&old, &stranger(), 50);
    assert!(matches!(shop.ask(&Request::Quote(late)).await, Answer::Refused(_)));
    let event = note("in the time of grace");
    assert_eq!(shop.publish(&event, Some(&tokens[0].stamp(&event.id).to_string())).await, Ok(()));
    shop.close().await;

    now.store(START + 90 * DAY_SECS, Ordering::SeqCst);
    let shop = Shop::open(dir.path(), &seed, ours, clock).await;
    let event = note("too late");
    let refused = shop.publish(&event, Some(&tokens[1].stamp(&event.id).to_string())).await.unwrap_err();
    assert!(refused.starts_with("restricted: ") && refused.contains("13250"), "{refused}");
    shop.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_nobody_paid_is_forgotten_and_what_was_paid_is_not_before_its_time() {
    let dir = tempfile::tempdir().unwrap();
    const START: u64 = 695 * 30 * DAY_SECS;
    let (clock, now) = clock!(START);
    let (network, ours, buyer) = nodes(START);
    let seed = Seed::generate(&[1; 32]);
    let shop = Shop::open(dir.path(), &seed, ours.clone(), clock).await;
    let (keyset, client) = (shop.keyset().await, stranger());
    let [paid, unpaid] = [0, 20].map(|from| order(&keyset, &client, from).0);
    pay(&buyer, &shop.ask(&Request::Quote(paid.clone())).await).await;
    assert!(matches!(shop.ask(&Request::Quote(unpaid.clone())).await, Answer::Unpaid { .. }));
    let claim = |order: &Order| Request::Issue { quote: order.quote(), claim: order.claim(&client) };
    shop.close().await;

    now.store(START + 1600, Ordering::SeqCst);
    network.pass_time(1600);
    let shop = Shop::open(dir.path(), &seed, ours.clone(), clock).await;
    let refused = async |order: &Order| matches!(shop.ask(&claim(order)).await, Answer::Refused(_));
    until("the one that nobody paid is forgotten", async || refused(&unpaid).await).await;
    assert!(matches!(shop.ask(&claim(&paid)).await, Answer::Issued { .. }));
    shop.close().await;

    now.store(START + 90 * DAY_SECS, Ordering::SeqCst);
    let shop = Shop::open(dir.path(), &seed, ours, clock).await;
    assert!(matches!(shop.ask(&claim(&paid)).await, Answer::Refused(_)), "its keyset is over");
    assert!(shop.issuer.store().list("quote/").unwrap().is_empty());
    shop.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn another_boards_credential_is_worth_nothing_here() {
    let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (clock, _) = clock!(1_800_000_000);
    let (_network, ours, buyer) = nodes(1_800_000_000);
    let here = Shop::open(one.path(), &Seed::generate(&[1; 32]), ours.clone(), clock).await;
    let there = Shop::open(two.path(), &Seed::generate(&[2; 32]), ours, clock).await;
    let tokens = buy(&there, &buyer, 0).await;
    let event = note("bought elsewhere");
    let stamp = tokens[0].stamp(&event.id).to_string();
    assert!(here.publish(&event, Some(&stamp)).await.unwrap_err().starts_with("restricted: "));
    assert_eq!(there.publish(&event, Some(&stamp)).await, Ok(()), "and there it is as good as before");
    here.close().await;
    there.close().await;
}

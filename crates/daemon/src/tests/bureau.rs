//! A board that sells credentials, and a door before it that shows its key (`self`, NIP-11).

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use board::admission::{Credentials, KindPolicy, Policy, Refusal, Rule, Spent};
use board::operator::Operator;
use board::store::Encoded;
use board::{Board, BoardConfig};
use credential::quote::{Answer, KIND_ANSWER, KIND_POLICY, Order, Request};
use credential::{BlindSignature, Keyset, KeysetId, KeysetSecret, Stamp};
use node::{Description, FakeNetwork, InvoiceRequest, Node};
use secp256k1::{Keypair, PublicKey, SECP256K1, SecretKey};
use tokio::io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use units::{Msat, PaymentHash, Unix, hex32};
use wire::Unsigned;
use wire::event::{Event, pubkey_of};
use wire::nip44::ConversationKey;

use crate::bolt11_node::Bolt11Node;
use crate::clock;
use crate::purse::policy::Policy as Terms;
use crate::purse::postage::Grant;

pub(super) const PRICE: Msat = Msat(2_000);
const DAY: u64 = 86_400;

/// What the issuer does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Manner {
    /// What it should.
    Honest,
    /// It does not answer.
    Mute,
    /// It takes money and does not sign.
    TakesOnly,
    /// One signature of each batch is by another key.
    Forges,
    /// It asks for more than it published.
    Overcharges,
}

/// A keyset and its key.
struct Mint {
    secret: KeysetSecret,
    keyset: Keyset,
}

impl Mint {
    fn new(master: u8) -> Mint {
        let now = clock::unix().0;
        let [from, until, redeem] = [now - DAY, now + 30 * DAY, now + 90 * DAY].map(Unix);
        let secret = KeysetSecret::derive(&[master; 32], from, until, redeem);
        Mint { secret, keyset: secret.publish(PRICE, from, until, redeem) }
    }
}

impl Credentials for Mint {
    fn check(&self, event: &[u8; 32], credential: &str, _: Unix) -> Result<Spent, Refusal> {
        let good = credential.parse::<Stamp>().ok().filter(|stamp| self.secret.redeems(stamp, event));
        let refusal = || Refusal { rule: Rule::Credential, cause: "no good".into() };
        Ok(Spent { stamp: good.ok_or_else(refusal)?, class: "order".into() })
    }

    fn keyset(&self, now: Unix) -> Option<Keyset> {
        Some(self.keyset).filter(|keyset| keyset.issues(now))
    }
}

/// A board that sells credentials.
pub(super) struct Bureau {
    pub(super) url: String,
    desk: Arc<Desk>,
    /// Keys that the door shows, one after another.
    faces: Arc<Mutex<Vec<Keypair>>>,
    _board: Board,
    stop: CancellationToken,
}

struct Desk {
    operator: Operator,
    key: Keypair,
    mint: Arc<Mint>,
    node: Arc<Bolt11Node>,
    does: Mutex<Manner>,
    quotes: Mutex<BTreeMap<[u8; 32], (Order, Answer, PaymentHash)>>,
    kinds: &'static [&'static str],
    asked: AtomicUsize,
}

impl Bureau {
    /// One that wants a credential for these kinds.
    pub(super) async fn open(dir: &Path, network: &FakeNetwork, kinds: &'static [&'static str]) -> Bureau {
        let mint = Arc::new(Mint::new(6));
        let (till, requests) = mpsc::channel(16);
        let door = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let url = format!("ws://{}", door.local_addr().unwrap());
        let asked = KindPolicy { credential: true, ..KindPolicy::default() };
        let mut policy = Policy::default();
        policy.per_kind.extend(kinds.iter().map(|range| (range.parse().unwrap(), asked)));
        let mut config = BoardConfig {
            urls: vec![url.clone()],
            policy,
            till: Some(till),
            ..BoardConfig::new(dir, SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))
        };
        config.ports.credentials = Some(mint.clone());
        let board = Board::start(config).await.unwrap();
        let key = Keypair::from_seckey_slice(SECP256K1, &[41; 32]).unwrap();
        let desk = Arc::new(Desk {
            operator: board.operator(),
            key,
            mint,
            node: Bolt11Node::on(network, SecretKey::from_slice(&[42; 32]).unwrap()),
            does: Mutex::new(Manner::Honest),
            quotes: Mutex::default(),
            kinds,
            asked: AtomicUsize::new(0),
        });
        desk.publish(&key, &desk.mint.keyset).await;
        let (stop, tasks) = (CancellationToken::new(), TaskTracker::new());
        let faces = Arc::new(Mutex::new(vec![key]));
        tasks.spawn(desk.clone().serve(requests, stop.clone()));
        tasks.spawn(keep_door(door, board.local_addr(), faces.clone(), stop.clone(), tasks.clone()));
        Bureau { url, desk, faces, _board: board, stop }
    }

    pub(super) fn does(&self, what: Manner) {
        *self.desk.does.lock().unwrap_or_else(PoisonError::into_inner) = what;
    }

    /// How often it was asked for anything.
    pub(super) fn asked(&self) -> usize {
        self.desk.asked.load(Ordering::SeqCst)
    }

    /// What it earned.
    pub(super) async fn earned(&self) -> u64 {
        let balance = self.desk.node.balances().await.unwrap().lightning;
        (balance.0 - 1_000_000_000_000) / PRICE.0
    }

    /// Every second visitor is shown another key, with another keyset.
    pub(super) async fn is_two_faced(&self) {
        let other = Keypair::from_seckey_slice(SECP256K1, &[43; 32]).unwrap();
        self.desk.publish(&other, &Mint::new(7).keyset).await;
        self.faces.lock().unwrap_or_else(PoisonError::into_inner).push(other);
    }

    /// Its signatures for nothing.
    pub(super) fn grant(&self) -> Arc<dyn Grant> {
        Arc::new(Granted(self.desk.clone()))
    }
}

impl Drop for Bureau {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

struct Granted(Arc<Desk>);

impl Grant for Granted {
    fn terms(&self) -> Option<Terms> {
        let said = self.0.policy(&self.0.key, &self.0.mint.keyset);
        Terms::read(&said, said.pubkey).ok()
    }

    fn sign(&self, keyset: KeysetId, blinded: &[PublicKey]) -> Option<Vec<BlindSignature>> {
        let mint = &self.0.mint;
        (keyset == mint.keyset.id).then(|| blinded.iter().map(|point| mint.secret.sign(point)).collect())
    }
}

impl Desk {
    fn policy(&self, key: &Keypair, keyset: &Keyset) -> Event {
        let kinds = std::iter::once("kinds").chain(self.kinds.iter().copied()).map(str::to_owned).collect();
        let method = vec!["method".to_owned(), "bolt11".to_owned()];
        self.says(key, KIND_POLICY, vec![keyset.to_tag(), kinds, method], String::new())
    }

    fn says(&self, key: &Keypair, kind: u16, tags: Vec<Vec<String>>, content: String) -> Event {
        Unsigned { pubkey: pubkey_of(key), created_at: clock::unix(), kind, tags, content }.sign(key, &[0; 32])
    }

    async fn publish(&self, key: &Keypair, keyset: &Keyset) {
        self.operator.say(&self.policy(key, keyset)).await.unwrap();
    }

    async fn serve(self: Arc<Desk>, mut requests: mpsc::Receiver<Arc<Encoded>>, stop: CancellationToken) {
        while let Some(Some(request)) = stop.run_until_cancelled(requests.recv()).await {
            let event = request.raw().unwrap().to_event();
            self.asked.fetch_add(1, Ordering::SeqCst);
            let shared = ConversationKey::between(&self.key, &event.pubkey).unwrap();
            let Ok(text) = shared.decrypt(&event.content) else { continue };
            let does = *self.does.lock().unwrap_or_else(PoisonError::into_inner);
            let Some(answer) = self.answer(serde_json::from_str(&text).unwrap(), does).await else { continue };
            let content = shared.encrypt(&serde_json::to_string(&answer).unwrap(), &[1; 32]).unwrap();
            let tags = vec![vec!["p".into(), hex32(&event.pubkey)], vec!["e".into(), hex32(&event.id)]];
            self.operator.say(&self.says(&self.key, KIND_ANSWER, tags, content)).await.unwrap();
        }
    }

    async fn answer(&self, request: Request, does: Manner) -> Option<Answer> {
        if does == Manner::Mute {
            return None;
        }
        match request {
            Request::Quote(order) => {
                let known = self.quote(&order.quote());
                if let Some((_, answer, _)) = known {
                    return Some(answer);
                }
                let over = u64::from(does == Manner::Overcharges);
                let amount = Msat(order.amount(&self.mint.keyset).unwrap().0 + over);
                let expiry = Unix(clock::unix().0 + 900);
                let commitment = order.commitment(&pubkey_of(&self.key), amount, expiry);
                let request = InvoiceRequest {
                    amount: Some(amount),
                    description: Description::Hash(commitment),
                    expiry_secs: 900,
                };
                let invoice = self.node.create_invoice(request).await.unwrap();
                let hash = wire::invoice::parse_invoice(&invoice).unwrap().hash;
                let quote = order.quote();
                let answer = Answer::Unpaid { quote, invoice, commitment, expiry };
                let mut quotes = self.quotes.lock().unwrap_or_else(PoisonError::into_inner);
                quotes.insert(quote, (order, answer.clone(), hash));
                Some(answer)
            }
            Request::Issue { quote, claim } => {
                let (order, answer, hash) = self.quote(&quote)?;
                assert!(order.is_claimed_by(&claim));
                if self.node.lookup_received(hash).await.is_err() {
                    return Some(answer);
                }
                if does == Manner::TakesOnly {
                    return Some(Answer::Refused("not today".into()));
                }
                let mut signatures: Vec<_> = order.outputs.iter().map(|point| self.mint.secret.sign(point)).collect();
                if does == Manner::Forges {
                    signatures[3] = Mint::new(9).secret.sign(&order.outputs[3]);
                }
                Some(Answer::Issued { quote, signatures })
            }
        }
    }

    fn quote(&self, quote: &[u8; 32]) -> Option<(Order, Answer, PaymentHash)> {
        self.quotes.lock().unwrap_or_else(PoisonError::into_inner).get(quote).cloned()
    }
}

/// Shows the information document to who asks for it, and leads everybody else to the board.
async fn keep_door(
    door: TcpListener,
    board: SocketAddr,
    faces: Arc<Mutex<Vec<Keypair>>>,
    stop: CancellationToken,
    tasks: TaskTracker,
) {
    let mut visitors = 0;
    while let Some(Ok((mut guest, _))) = stop.run_until_cancelled(door.accept()).await {
        let mut head = [0; 2048];
        let looks = async {
            loop {
                let read = guest.peek(&mut head).await.unwrap_or(0);
                let text = String::from_utf8_lossy(&head[..read]).to_lowercase();
                if read == 0 || text.contains("\r\n\r\n") {
                    return text.contains("application/nostr+json");
                }
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        if looks.await {
            let faces = faces.lock().unwrap_or_else(PoisonError::into_inner).clone();
            let body = format!(r#"{{"name":"bureau","self":"{}"}}"#, hex32(&pubkey_of(&faces[visitors % faces.len()])));
            visitors += 1;
            let answer =
                format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}", body.len());
            let asked = guest.read(&mut head).await;
            if asked.is_ok() && guest.write_all(answer.as_bytes()).await.is_err() {
                tracing::debug!("the visitor has gone");
            }
            continue;
        }
        let stop = stop.clone();
        tasks.spawn(async move {
            let Ok(mut board) = TcpStream::connect(board).await else { return };
            let visit = copy_bidirectional(&mut guest, &mut board);
            if let Some(Err(error)) = stop.run_until_cancelled(visit).await {
                tracing::trace!(%error, "a visit is over");
            }
        });
    }
}

//! A trade over the public transport: every step is a plain DOMP event on the board that a bystander can read and check, and
//! what must stay between the parties is in none of them.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use futures_util::{SinkExt, StreamExt};
use serde_json::json;
use tokio_tungstenite::tungstenite::Message as Frame;
use trade::{Message, PartyKey};
use units::{PaymentHash, Preimage};
use wire::domp::{self, Decoded, kind};
use wire::{ClientFrame, Event, Filter, FrameLimits, RelayFrame};

use super::market::{Market, Person};

const PRICE: i64 = 40_000;
const BOND: i64 = 4_000;
const FEE: i64 = 300;
const TRACKING: &str = "RR987654321NL";
/// Application-specific data (NIP-78).
const MARK: u16 = 30_078;
/// What a trade that goes well says in public, each once; the rating twice.
const STEPS: [u16; 9] = [
    kind::LISTING,
    kind::BID,
    kind::ACCEPTANCE,
    kind::PAYEE_BOND,
    kind::PAYMENT,
    kind::RECEIPT,
    kind::ARBITRATION,
    kind::MESSAGE,
    kind::RATING,
];

#[test]
fn public_trades_are_plain_events() {
    let market = Market::charging("public", 300);
    let before = [market.seller.balance(), market.buyer.balance()];
    let arbiter = identity(&market.arbiter);
    let (price, bond) = (PRICE.to_string(), BOND.to_string());
    let terms = ["--mode", "bonded", "--arbiter", &arbiter, "--arbiter-release"];
    let bonds = ["--min-payer-bond", &price, "--payee-bond", &bond];
    let sell = [&["sell", "Wool socks", "--price", &price][..], &terms, &bonds].concat();
    let listing = market.seller.ask(&sell).unwrap()["listing"].as_str().unwrap().to_owned();
    let trade =
        market.buyer.once_it_can(&["bid", &listing, "--max-arbiter-fee", "300"])["trade"].as_str().unwrap().to_owned();
    market.seller.once_it_can(&["accept", &trade]);
    for person in [&market.seller, &market.buyer] {
        person.until("has every leg held", |p| p.sees(&trade) == "held");
    }
    market.seller.once_it_can(&["ship", &trade, "--tracking", TRACKING]);
    market.buyer.until("knows of the shipment", |p| p.sees(&trade) == "shipped");
    market.buyer.once_it_can(&["confirm", &trade]);
    for person in [&market.seller, &market.buyer] {
        person.until("has the trade settled", |p| p.sees(&trade) == "settled");
        person.once_it_can(&["rate", &trade, "5"]);
    }
    market.until_idle();
    let (paid, fees) = market.buyer.paid();
    assert_eq!(paid, 2, "the fee and the price once, and no bond");
    assert_eq!(market.seller.balance(), before[0] + PRICE * 1000, "seller");
    assert_eq!(market.buyer.balance(), before[1] - (PRICE + FEE) * 1000 - fees, "buyer");

    let bystander = Bystander::new(&market);
    let mut events = Vec::new();
    market.board.until("has both ratings", |_| {
        events = bystander.read(market.relay);
        events.iter().filter(|event| event.kind == kind::RATING).count() == 2
    });
    // Beside the trade each daemon left a mark, sealed, under a key that nobody knows to be its own.
    let (marks, steps): (Vec<Event>, Vec<Event>) = events.iter().cloned().partition(|event| event.kind == MARK);
    let said: Vec<Decoded> = steps.iter().map(|event| domp::decode(event).unwrap()).collect();
    assert_eq!(marks.len(), 3);
    assert!(marks.iter().all(|mark| said.iter().all(|step| step.author.0 != mark.pubkey)));
    assert_eq!(kinds(&steps), STEPS.map(|kind| (kind, if kind == kind::RATING { 2 } else { 1 })).into());
    every_step_names_the_one_before(&said);
    nothing_confidential(&events, &said);
    stands_on_pledges(&market);
}

/// What each side said of the other is there for everybody, and shows that the price was paid.
fn stands_on_pledges(market: &Market) {
    let seller = identity(&market.seller);
    let read = market.arbiter.ask(&["reputation", &seller]).unwrap();
    let record = &read["records"][0];
    assert_eq!((&record["score"], &record["settled"], &record["value_sat"]), (&json!(5.0), &json!(1), &json!(20_000)));
    assert_eq!(record["standing"]["strangers"], 1, "the arbiter settled no trade: {read}");
    let own = market.buyer.ask(&["reputation", &seller]).unwrap()["records"][0]["standing"]["own"].clone();
    assert_eq!(own, json!(5.0));
    let label = market.arbiter.ask(&["reputation", "export", &seller]).unwrap();
    assert_eq!((&label["kind"], &label["tags"][1]), (&json!(1985), &json!(["l", "user/5", "souk.rating"])));
    let file = std::env::temp_dir().join(format!("souk-labels-{}.jsonl", std::process::id()));
    std::fs::write(&file, format!("{label}\nno label\n")).unwrap();
    let taken = market.buyer.ask(&["reputation", "import", file.to_str().unwrap()]).unwrap();
    std::fs::remove_file(&file).unwrap();
    assert_eq!(taken, json!({"taken": 1, "known": 0, "refused": {"no-rating": 1}}));
    let again = market.buyer.ask(&["reputation", &seller]).unwrap();
    assert_eq!(again["records"][0]["count"], 1, "it is the same rating: {again}");
}

fn identity(person: &Person) -> String {
    person.ask(&["status"]).unwrap()["identity"].as_str().unwrap().to_owned()
}

fn kinds(events: &[Event]) -> BTreeMap<u16, usize> {
    let mut counts = BTreeMap::new();
    for event in events {
        *counts.entry(event.kind).or_default() += 1;
    }
    counts
}

/// From each step a reader finds the way back to the listing, and three authors speak: seller, buyer and arbiter.
fn every_step_names_the_one_before(said: &[Decoded]) {
    let ids: BTreeSet<_> = said.iter().map(|step| step.id).collect();
    let authors: BTreeSet<PartyKey> = said.iter().map(|step| step.author).collect();
    assert_eq!(authors.len(), 3);
    for step in said {
        let listing = matches!(step.message, Message::Listing(_));
        // The arbiter's appointment answers a request that only it was sent.
        let sealed_before = matches!(step.message, Message::Appointment(_));
        assert_eq!(step.prev.is_some_and(|prev| ids.contains(&prev)), !listing && !sealed_before, "{step:?}");
    }
}

/// No 32 bytes in any event open a hash of the trade, but in ratings the price's: it was settled by then. The tracking number is in
/// none.
fn nothing_confidential(events: &[Event], said: &[Decoded]) {
    let invoices = said.iter().flat_map(|step| step.message.invoices());
    let mut hashes: BTreeSet<PaymentHash> =
        invoices.map(|invoice| wire::invoice::parse_invoice(invoice).unwrap().hash).collect();
    for step in said {
        if let Message::Bid(bid) = &step.message {
            hashes.extend(&bid.payment_hashes);
        }
    }
    assert_eq!(hashes.len(), 3, "price and two bonds; the invoice of the fee is the arbiter's and the buyer's alone");
    for event in events {
        let mut event = event.clone();
        if event.kind == kind::RATING {
            event.tags.retain(|tag| tag[0] != "settled");
        }
        let text = event.to_json();
        assert!(!text.contains(TRACKING), "{text}");
        for window in text.as_bytes().windows(64) {
            let Ok(bytes) = std::str::from_utf8(window).map_err(drop).and_then(|t| units::parse_hex32(t).map_err(drop))
            else {
                continue;
            };
            assert!(!hashes.contains(&Preimage::new(bytes).hash()), "a secret is public: {text}");
        }
    }
}

/// Somebody with a WebSocket and no key.
struct Bystander(tokio::runtime::Runtime);

impl Bystander {
    /// The first thing it learns is that the wraps are not for it.
    fn new(market: &Market) -> Bystander {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let bystander = Bystander(runtime);
        let wraps = Filter { kinds: Some(vec![wire::seal::KIND_GIFT_WRAP]), ..Filter::default() };
        assert!(bystander.ask(market.relay, wraps).is_empty());
        bystander
    }

    /// Everything on the board that anybody may read.
    fn read(&self, board: SocketAddr) -> Vec<Event> {
        self.ask(board, Filter::default())
    }

    fn ask(&self, board: SocketAddr, filter: Filter) -> Vec<Event> {
        self.0.block_on(async {
            let (mut socket, _) = tokio_tungstenite::connect_async(format!("ws://{board}")).await.unwrap();
            let request = ClientFrame::Req { id: "all".into(), filters: vec![filter] };
            socket.send(Frame::text(request.to_json())).await.unwrap();
            let mut events = Vec::new();
            while let Some(frame) = socket.next().await {
                let Frame::Text(text) = frame.unwrap() else { continue };
                match RelayFrame::parse(text.as_bytes(), &FrameLimits::CLIENT).unwrap() {
                    RelayFrame::Event { event, .. } => events.push(event.to_event()),
                    RelayFrame::Eose(_) | RelayFrame::Closed { .. } => break,
                    _ => {}
                }
            }
            events
        })
    }
}

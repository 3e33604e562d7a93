//! The fair: a board, a seller with many listings, a buyer, and their trades.

use std::future::Future;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};
use board::{Board, BoardConfig};
use daemon::Running;
use daemon::api::types::{BidRequest, SellRequest, StepRequest};
use futures::stream::{self, StreamExt, TryStreamExt};
use node::FakeNetwork;
use serde::{Deserialize, Serialize};
use trade::{EscrowTerms, MessageId, ReceiptStatus, TradeId};
use units::{Height, Now, Unix};

use crate::ms;
use crate::people::{Person, step, until_sees};
use crate::start::Started;

/// Requests that wait at a daemon at the same time while nothing is measured one by one.
const AT_ONCE: usize = 16;
pub const SELLER: u8 = 1;
const BUYER: u8 = 2;
const PRICE: u64 = 40_000;

pub struct Fair {
    board: Board,
    url: String,
    seller: Person,
    buyer: Person,
    listings: Vec<MessageId>,
    trades: Vec<TradeId>,
}

/// Where a trade is left: every state that takes long in life has its share.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Rest {
    Bid,
    Held,
    Shipped,
}

const RESTS: [Rest; 3] = [Rest::Bid, Rest::Held, Rest::Shipped];

/// Many at a time: milliseconds each.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub struct Bulk {
    pub bid: f64,
    pub lock: f64,
    pub ship: f64,
}

/// One after the other, in milliseconds: until the daemon that was asked answers, and until the other side sees it.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Steps {
    pub bid: Vec<f64>,
    pub bid_seen: Vec<f64>,
    pub accept: Vec<f64>,
    pub locked: Vec<f64>,
    pub ship: Vec<f64>,
    pub ship_seen: Vec<f64>,
    pub release: Vec<f64>,
    pub settled: Vec<f64>,
}

/// The network that daemons of this bench live in, at the present time.
pub fn network() -> Result<FakeNetwork> {
    let unix = Unix(SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs());
    Ok(FakeNetwork::new(Now { height: Height(800_000), unix }))
}

impl Fair {
    /// A board, both daemons, and the seller's listings on the board.
    pub async fn open(dir: &Path, listings: usize) -> Result<Fair> {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let board = Board::start(BoardConfig::new(dir.join("board"), address)).await.context("board")?;
        let url = format!("ws://{}", board.local_addr());
        let network = network()?;
        let person = |name: &str, mark| {
            let home = dir.join(name);
            std::fs::create_dir(&home)?;
            Person::new(&home, mark, &network, &url)
        };
        let (mut seller, mut buyer) = (person("seller", SELLER)?, person("buyer", BUYER)?);
        seller.start().await?;
        buyer.start().await?;
        let desk = seller.desk()?;
        let ids = stream::iter(0..listings).map(|number| list(&desk, number)).buffer_unordered(AT_ONCE);
        let listings = ids.try_collect().await?;
        Ok(Fair { board, url, seller, buyer, listings, trades: Vec::new() })
    }

    pub fn in_flight(&self) -> usize {
        self.trades.len()
    }

    /// How many listings the buyer's daemon reads.
    pub async fn read_listings(&self) -> Result<usize> {
        Ok(self.buyer.desk()?.listings().await?.listings.len())
    }

    /// More trades, until so many are in flight.
    pub async fn fill(&mut self, trades: usize) -> Result<Bulk> {
        let more = trades - self.trades.len();
        let (seller, buyer) = (&*self.seller.desk()?, &*self.buyer.desk()?);
        let each = |begin| ms(begin) / more.max(1) as f64;
        let taken: Vec<_> = (0..more).filter_map(|_| self.listings.pop()).collect();
        let begin = Instant::now();
        let bids = stream::iter(taken).map(async |listing| {
            let trade = buyer.bid(BidRequest::on(listing)).await?;
            until_sees(seller, trade, "bid").await?;
            anyhow::Ok(trade)
        });
        let new: Vec<TradeId> = bids.buffer_unordered(AT_ONCE).try_collect().await?;
        let mut bulk = Bulk { bid: each(begin), ..Bulk::default() };
        let resting = |rests: &'static [Rest]| {
            let with_rest = new.iter().zip(RESTS.iter().cycle());
            with_rest.filter(|(_, rest)| rests.contains(rest)).map(|(trade, _)| *trade).collect::<Vec<_>>()
        };
        let locked = resting(&[Rest::Held, Rest::Shipped]);
        let (begin, share) = (Instant::now(), locked.len() as f64 / more.max(1) as f64);
        let locks = stream::iter(locked).map(async |trade| {
            step(seller, trade, accept()).await?;
            until_sees(seller, trade, "held").await
        });
        locks.buffer_unordered(AT_ONCE).try_collect::<()>().await?;
        bulk.lock = each(begin) / share;
        let shipped = resting(&[Rest::Shipped]);
        let (begin, share) = (Instant::now(), shipped.len() as f64 / more.max(1) as f64);
        let ships = stream::iter(shipped).map(async |trade| {
            step(seller, trade, ship()).await?;
            until_sees(buyer, trade, "shipped").await
        });
        ships.buffer_unordered(AT_ONCE).try_collect::<()>().await?;
        bulk.ship = each(begin) / share;
        self.trades.extend(new);
        Ok(bulk)
    }

    /// Trades from bid to settlement, one after the other, each step timed.
    pub async fn probes(&mut self, count: usize) -> Result<Steps> {
        let (seller, buyer) = (self.seller.desk()?, self.buyer.desk()?);
        let mut steps = Steps::default();
        for _ in 0..count {
            let listing = self.listings.pop().context("no listing is left")?;
            probe(&seller, &buyer, listing, &mut steps).await?;
        }
        Ok(steps)
    }

    /// Stops the seller, lets `elsewhere` do something with a copy of its folder, and starts it again.
    pub async fn seller_restarts<F>(&mut self, elsewhere: impl FnOnce(PathBuf, String) -> F) -> Result<Started>
    where
        F: Future<Output = Result<Started>>,
    {
        self.seller.stop().await;
        let copy = self.seller.dir().with_extension("copy");
        std::fs::create_dir(&copy)?;
        for file in std::fs::read_dir(self.seller.dir())? {
            let file = file?;
            std::fs::copy(file.path(), copy.join(file.file_name()))?;
        }
        let outcome = elsewhere(copy.clone(), self.url.clone()).await;
        std::fs::remove_dir_all(&copy)?;
        self.seller.start().await?;
        outcome
    }

    pub async fn close(mut self) {
        self.seller.stop().await;
        self.buyer.stop().await;
        self.board.shutdown().await;
    }
}

async fn probe(seller: &Running, buyer: &Running, listing: MessageId, steps: &mut Steps) -> Result<()> {
    let begin = Instant::now();
    let trade = buyer.bid(BidRequest::on(listing)).await?;
    steps.bid.push(ms(begin));
    until_sees(seller, trade, "bid").await?;
    steps.bid_seen.push(ms(begin));
    let begin = Instant::now();
    step(seller, trade, accept()).await?;
    steps.accept.push(ms(begin));
    until_sees(seller, trade, "held").await?;
    steps.locked.push(ms(begin));
    let begin = Instant::now();
    step(seller, trade, ship()).await?;
    steps.ship.push(ms(begin));
    until_sees(buyer, trade, "shipped").await?;
    steps.ship_seen.push(ms(begin));
    let begin = Instant::now();
    step(buyer, trade, received()).await?;
    steps.release.push(ms(begin));
    until_sees(seller, trade, "settled").await?;
    until_sees(buyer, trade, "settled").await?;
    steps.settled.push(ms(begin));
    Ok(())
}

async fn list(desk: &Arc<Running>, number: usize) -> Result<MessageId> {
    let request = SellRequest {
        product_name: format!("Wool socks number {number}"),
        description: "Knitted by hand, of sheep that graze on the dike. Any size, any colour that sheep have."
            .to_owned(),
        price_sat: PRICE,
        category: Some("clothing".to_owned()),
        shipping_days: None,
        stock: 1,
        escrow: EscrowTerms::plain(),
    };
    Ok(desk.sell(request).await?)
}

fn accept() -> StepRequest {
    StepRequest::Accept { shipping_days: None, terms: None }
}

fn ship() -> StepRequest {
    StepRequest::Ship { note: String::new(), tracking: None }
}

fn received() -> StepRequest {
    StepRequest::Confirm { status: ReceiptStatus::Received, rating: None, feedback: None, reason: None }
}

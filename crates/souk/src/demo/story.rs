//! The story: one trade as it should be, one with a silent buyer, one that the arbiter splits.

use daemon::DeskError;
use daemon::api::types::{BidRequest, SellRequest, StepRequest, TradeView};
use serde::Serialize;
use trade::{BondFate, EscrowTerms, Mode, OnSilence, ReceiptStatus, TradeId};
use units::Sat;

use super::books::{Account, Books};
use super::stage::{Actor, Stage, say, until};
use crate::failure::Failure;
use crate::show::Show;

/// Shortest lock there is: the silent buyer's deadline has to come within the demo.
const LOCK_BLOCKS: u16 = 144;
/// Parts that the arbiter can split the price into.
const TRANCHES: u8 = 4;

/// How a trade of the story ended.
#[derive(Serialize)]
pub(super) struct Ended {
    pub title: &'static str,
    pub trade: TradeId,
    pub outcome: String,
    pub accounts: Vec<Account>,
}

/// Tells it.
pub(super) async fn tell(stage: &Stage, show: &Show) -> Result<Vec<Ended>, Failure> {
    Ok(vec![as_it_should_be(stage, show).await?, silent_buyer(stage, show).await?, disputed(stage, show).await?])
}

async fn as_it_should_be(stage: &Stage, show: &Show) -> Result<Ended, Failure> {
    let title = "1. as it should be";
    let price = Sat(50_000);
    let books = Books::open(stage).await?;
    let trade = deal(stage, show, title, goods(stage, "Wool socks", price)).await?;
    ship(stage, show, trade).await?;
    let confirm =
        StepRequest::Confirm { status: ReceiptStatus::Received, rating: Some(5), feedback: None, reason: None };
    step(&stage.buyer, trade, confirm).await?;
    say(
        show,
        Some(stage.chain.height()),
        "Buyer: received. The secret goes to the seller, whose node settles the price",
    )?;
    let outcome = both_ended(stage, trade, "settled").await?;
    for actor in [&stage.seller, &stage.buyer] {
        step(actor, trade, StepRequest::Rate { rating: 5, comment: Some("as agreed".into()) }).await?;
    }
    say(show, Some(stage.chain.height()), "Bonds returned; both rate the other with 5")?;
    finish(stage, title, trade, outcome, books, price).await
}

async fn silent_buyer(stage: &Stage, show: &Show) -> Result<Ended, Failure> {
    let title = "2. the buyer stays silent";
    let price = Sat(80_000);
    let books = Books::open(stage).await?;
    let trade = deal(stage, show, title, goods(stage, "A lamp", price)).await?;
    ship(stage, show, trade).await?;
    until("arbiter", "knows of the shipment", async || Ok(view(&stage.arbiter, trade).await?.state == "shipped"))
        .await?;
    let deadlines = view(&stage.arbiter, trade).await?.deadlines;
    let rule_at = deadlines.ok_or_else(|| Failure::fault("a held trade has no deadlines"))?.rule;
    say(
        show,
        Some(stage.chain.height()),
        &format!("Buyer says nothing. The agreed default applies at height {rule_at}"),
    )?;
    stage.mine(rule_at.blocks_after(stage.chain.height())).await?;
    say(
        show,
        Some(stage.chain.height()),
        "Arbiter: goods were shipped, nobody disputed: the price is released to the seller",
    )?;
    let outcome = both_ended(stage, trade, "settled").await?;
    finish(stage, title, trade, outcome, books, price).await
}

async fn disputed(stage: &Stage, show: &Show) -> Result<Ended, Failure> {
    let title = "3. the arbiter splits";
    let price = Sat(100_000);
    let books = Books::open(stage).await?;
    let trade = deal(stage, show, title, goods(stage, "A set of plates", price)).await?;
    ship(stage, show, trade).await?;
    let complaint = StepRequest::Confirm {
        status: ReceiptStatus::Damaged,
        rating: None,
        feedback: None,
        reason: Some("one of four plates is broken".into()),
    };
    step(&stage.buyer, trade, complaint).await?;
    say(show, Some(stage.chain.height()), "Buyer: one of four plates is broken. The arbiter is asked to rule")?;
    let ruling = StepRequest::Rule {
        payee_tranches: 3,
        payer_bond: BondFate::Return,
        payee_bond: BondFate::Return,
        resolution: "three of four plates arrived whole".into(),
    };
    until("arbiter", "can rule", async || match stage.arbiter.desk().step(trade, ruling.clone()).await {
        Ok(_) => Ok(true),
        Err(DeskError::Refused(_) | DeskError::RefusedNow { .. } | DeskError::NotFound(_)) => Ok(false),
        Err(error) => Err(failure(&stage.arbiter, &error)),
    })
    .await?;
    say(
        show,
        Some(stage.chain.height()),
        "Arbiter: three of four tranches to the seller, one back to the buyer, bonds return",
    )?;
    let outcome = both_ended(stage, trade, "split").await?;
    finish(stage, title, trade, outcome, books, Sat(price.0 / u64::from(TRANCHES) * 3)).await
}

/// Listing, bid, acceptance, and every leg held.
async fn deal(stage: &Stage, show: &Show, title: &str, goods: SellRequest) -> Result<TradeId, Failure> {
    if !show.json {
        show.line(&format!("\n{title}"))?;
    }
    let height = || Some(stage.chain.height());
    let (name, price) = (goods.product_name.clone(), goods.price_sat);
    let listing = stage.seller.desk().sell(goods).await.map_err(|e| failure(&stage.seller, &e))?;
    say(show, height(), &format!("Seller lists {name:?} for {} sat, arbiter and bonds included", Sat(price)))?;
    let bid = BidRequest::on(listing);
    let trade = stage.buyer.desk().bid(bid).await.map_err(|e| failure(&stage.buyer, &e))?;
    say(show, height(), "Buyer appoints the arbiter and bids")?;
    until("seller", "has the bid", async || match stage.seller.desk().step(trade, accept()).await {
        Ok(_) => Ok(true),
        Err(DeskError::Refused(_) | DeskError::RefusedNow { .. } | DeskError::NotFound(_)) => Ok(false),
        Err(error) => Err(failure(&stage.seller, &error)),
    })
    .await?;
    say(show, height(), "Seller accepts, with hold invoices on hashes whose secrets it does not know")?;
    until("both sides", "have every leg held", async || Ok(both(stage, trade).await?.iter().all(is_held))).await?;
    let seen = view(&stage.seller, trade).await?;
    for leg in view(&stage.buyer, trade).await?.legs.iter().chain(&seen.legs).filter(|leg| leg.state == "held") {
        say(show, height(), &format!("  held: {} of {} sat", leg.leg.replace('_', " "), leg.amount_sat))?;
    }
    Ok(trade)
}

fn accept() -> StepRequest {
    StepRequest::Accept { shipping_days: None, terms: None }
}

async fn ship(stage: &Stage, show: &Show, trade: TradeId) -> Result<(), Failure> {
    let shipped = StepRequest::Ship { note: "on its way".into(), tracking: Some("RR123456785".into()) };
    step(&stage.seller, trade, shipped).await?;
    say(show, Some(stage.chain.height()), "Seller ships")?;
    until("buyer", "knows of the shipment", async || Ok(view(&stage.buyer, trade).await?.state == "shipped")).await
}

async fn finish(
    stage: &Stage,
    title: &'static str,
    trade: TradeId,
    outcome: String,
    books: Books,
    price: Sat,
) -> Result<Ended, Failure> {
    for actor in [&stage.seller, &stage.buyer, &stage.board] {
        until(actor.name, "has nothing under way", async || Ok(idle(actor).await?)).await?;
    }
    Ok(Ended { title, trade, outcome, accounts: books.close(stage, price).await? })
}

/// No HTLC on any channel: the balance says all there is.
async fn idle(actor: &Actor) -> Result<bool, Failure> {
    let channels = actor.node()?.list_channels().await.map_err(|e| super::stage::node_failure(actor, &e))?;
    Ok(channels.iter().all(|channel| channel.htlcs == 0))
}

async fn both(stage: &Stage, trade: TradeId) -> Result<[TradeView; 2], Failure> {
    Ok([view(&stage.seller, trade).await?, view(&stage.buyer, trade).await?])
}

async fn both_ended(stage: &Stage, trade: TradeId, agreed: &str) -> Result<String, Failure> {
    let ended = async || Ok(both(stage, trade).await?.iter().all(|seen| seen.outcome.is_some()));
    until("the trade", "ends on both sides", ended).await?;
    let [seller, buyer] = both(stage, trade).await?.map(|seen| seen.outcome.unwrap_or_default());
    if seller != agreed || buyer != agreed {
        let text = format!("it should have been {agreed}, the seller says {seller}, the buyer says {buyer}");
        return Err(Failure::fault(text));
    }
    Ok(seller)
}

fn is_held(seen: &TradeView) -> bool {
    seen.state == "held"
}

async fn view(actor: &Actor, trade: TradeId) -> Result<TradeView, Failure> {
    actor.desk().trade(trade).await.map_err(|e| failure(actor, &e))
}

async fn step(actor: &Actor, trade: TradeId, step: StepRequest) -> Result<TradeView, Failure> {
    actor.desk().step(trade, step).await.map_err(|e| failure(actor, &e))
}

fn failure(actor: &Actor, error: &DeskError) -> Failure {
    Failure::fault(format!("{}: {error}", actor.name))
}

fn goods(stage: &Stage, name: &str, price: Sat) -> SellRequest {
    SellRequest {
        product_name: name.to_owned(),
        description: String::new(),
        price_sat: price.0,
        category: None,
        shipping_days: None,
        stock: 1,
        escrow: EscrowTerms {
            mode: Mode::Bonded,
            arbiters: vec![stage.arbiter.desk().identity()],
            arbiter_release: true,
            min_payer_bond: price,
            payee_bond: Sat(price.0 / 10),
            lock_blocks: LOCK_BLOCKS,
            tranches: TRANCHES,
            on_silence: OnSilence::Release,
        },
    }
}

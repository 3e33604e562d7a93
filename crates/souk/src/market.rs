//! Listings, bids and trades: what `souk` asks the daemon, and how it shows the answers.

use std::collections::BTreeMap;
use std::str::FromStr;

use daemon::api::types::{
    BidRequest, ChatRequest, ChatTo, ChatView, ErrorKind, ListingReply, ListingRequest, ListingView, SellRequest,
    StallView, Status, StepRequest, TradeReply, TradeView,
};
use trade::{BondFate, EscrowTerms, MessageId, Mode, OnSilence, PartyKey, ReceiptStatus, TradeId};
use units::Sat;

use crate::adverts;
use crate::api::data;
use crate::args::{self, Command};
use crate::client::Client;
use crate::failure::Failure;
use crate::show::{Show, short, table};

pub(crate) async fn obey(client: &Client, command: Command, show: &Show) -> Result<(), Failure> {
    match command {
        Command::Status => {
            let standing: Status = client.get("/v1/status").await?;
            show.named(&standing, standing.identity.map_or_else(String::new, |key| key.to_string()), status)
        }
        Command::Sell(what) => {
            let reply: ListingReply = client.post("/v1/listings", &sell(what)?).await?;
            show.named(&reply, reply.listing, |r| format!("listed as {}", r.listing))
        }
        Command::List { mine: true, .. } => {
            let mine: Vec<StallView> = client.get("/v1/listings/mine").await?;
            show.answer(&mine, |m| stalls(m))
        }
        Command::List { search, source, .. } => adverts::list(client, search.as_deref(), source.as_deref(), show).await,
        Command::Search(what) => adverts::search(client, &what, show).await,
        Command::Edit(what) => {
            let (listing, edit) = edit(what)?;
            change(client, &listing, &edit, show).await
        }
        Command::Restock { listing, stock } => change(client, &listing, &ListingRequest::Restock { stock }, show).await,
        Command::Withdraw { listing, reason } => {
            change(client, &listing, &ListingRequest::Withdraw { reason }, show).await
        }
        Command::Chat { trade, text, to_arbiter } => chat(client, &trade, text, to_arbiter, show).await,
        Command::Bid(what) => {
            let reply: TradeReply = client.post("/v1/bids", &bid(what)?).await?;
            show.named(&reply, reply.trade, |r| format!("bid sent; the trade is {}", r.trade))
        }
        Command::Trades { all } => {
            let mut trades: Vec<TradeView> = client.get("/v1/trades").await?;
            trades.retain(|trade| all || trade.outcome.is_none());
            show.answer(&trades, |t| trades_in_words(t))
        }
        Command::Show { trade } => show.answer(&find(client, &trade).await?, trade_in_words),
        Command::Watch { trade: Some(trade) } => watch(client, &trade, show).await,
        Command::Watch { trade: None } => watch_all(client, show).await,
        other => {
            let (trade, step) = step(other)?;
            take_step(client, &trade, &step, show).await
        }
    }
}

/// The commands that move a trade, as steps of the API.
fn step(command: Command) -> Result<(String, StepRequest), Failure> {
    Ok(match command {
        Command::Accept { trade, shipping_days, terms } => (trade, StepRequest::Accept { shipping_days, terms }),
        Command::Counter { trade, amount } => (trade, StepRequest::Counter { amount_sat: amount }),
        Command::Reject { trade, reason } => (trade, StepRequest::Reject { reason }),
        Command::Pay { trade } => (trade, StepRequest::Pay),
        Command::Relock { trade } => (trade, StepRequest::Relock),
        Command::Ship { trade, note, tracking } => (trade, StepRequest::Ship { note, tracking }),
        Command::Confirm(c) => {
            let status = match c.status {
                args::Arrived::Received => ReceiptStatus::Received,
                args::Arrived::PartiallyReceived => ReceiptStatus::PartiallyReceived,
                args::Arrived::NotReceived => ReceiptStatus::NotReceived,
                args::Arrived::Damaged => ReceiptStatus::Damaged,
            };
            (c.trade, StepRequest::Confirm { status, rating: c.rating, feedback: c.feedback, reason: c.reason })
        }
        Command::Dispute { trade, reason, details } => (trade, StepRequest::Dispute { reason, details }),
        Command::Rule(r) => {
            let fate = |bond| match bond {
                args::Bond::Return => BondFate::Return,
                args::Bond::Forfeit => BondFate::Forfeit,
            };
            let step = StepRequest::Rule {
                payee_tranches: r.payee_tranches,
                payer_bond: fate(r.payer_bond),
                payee_bond: fate(r.payee_bond),
                resolution: r.resolution,
            };
            (r.trade, step)
        }
        Command::Cancel { trade, reason } => (trade, StepRequest::Cancel { reason }),
        Command::Refund { trade, reason } => (trade, StepRequest::Refund { reason }),
        Command::Rate { trade, rating, comment, board: Some(url), .. } => {
            (trade, StepRequest::RateBoard { url, rating, comment })
        }
        Command::Rate { trade, rating, comment, arbiter: true, .. } => {
            (trade, StepRequest::RateArbiter { rating, comment })
        }
        Command::Rate { trade, rating, comment, .. } => (trade, StepRequest::Rate { rating, comment }),
        _ => return Err(Failure::fault("not a command of a trade")),
    })
}

pub(crate) async fn take_step(client: &Client, trade: &str, step: &StepRequest, show: &Show) -> Result<(), Failure> {
    let trade = find(client, trade).await?.trade;
    let view: TradeView = client.post(&format!("/v1/trades/{trade}/step"), step).await?;
    show.answer(&view, |v| format!("{}: {}. {}", short(v.trade), v.state, v.next))
}

/// A trade by its id or by the first characters of it.
pub(crate) async fn find(client: &Client, text: &str) -> Result<TradeView, Failure> {
    if let Ok(trade) = TradeId::from_str(text) {
        return client.get(&format!("/v1/trades/{trade}")).await;
    }
    let trades: Vec<TradeView> = client.get("/v1/trades").await?;
    let mut found = trades.into_iter().filter(|trade| trade.trade.to_string().starts_with(text));
    match (found.next(), found.next()) {
        (Some(trade), None) => Ok(trade),
        (None, _) => {
            let message = format!("no trade begins with {text:?}; see `souk trades --all`");
            Err(Failure { kind: ErrorKind::NotFound, rule: None, message })
        }
        (Some(_), Some(_)) => Err(Failure::usage(format!("several trades begin with {text:?}; give more of the id"))),
    }
}

async fn watch(client: &Client, text: &str, show: &Show) -> Result<(), Failure> {
    let trade = find(client, text).await?.trade;
    let mut seen = None;
    let mut take = |name: &str, text: &str| {
        if name != "trade" {
            return Ok(true);
        }
        let now: TradeView = data(text)?;
        if seen.as_ref() != Some(&now) {
            show.answer(&now, trade_in_words)?;
        }
        let goes_on = now.outcome.is_none();
        seen = Some(now);
        Ok(goes_on)
    };
    client.follow(&format!("/v1/events?trade={trade}"), &mut take).await
}

/// One line for each change of any trade, and for each warning, until Ctrl-C.
async fn watch_all(client: &Client, show: &Show) -> Result<(), Failure> {
    let mut seen: BTreeMap<TradeId, TradeView> = BTreeMap::new();
    let mut take = |name: &str, text: &str| {
        if name != "trade" {
            return Ok(true);
        }
        let now: TradeView = data(text)?;
        let known = seen.get(&now.trade);
        if known != Some(&now) {
            let told = known.map_or(0, |known| known.warnings.len());
            show.answer(&now, |now| change_in_words(now, told))?;
            seen.insert(now.trade, now);
        }
        Ok(true)
    };
    client.follow("/v1/events", &mut take).await
}

/// How a trade ended, or the state it is in.
pub(crate) fn state(trade: &TradeView) -> &str {
    trade.outcome.as_deref().unwrap_or(&trade.state)
}

/// Where a trade stands now, and the warnings that are new.
fn change_in_words(t: &TradeView, told: usize) -> String {
    let state = state(t);
    let mut text = format!("{}  {:<8} {:<11} {}: {}", short(t.trade), t.role, state, what(t), t.next);
    for warning in t.warnings.iter().skip(told) {
        text += &format!("\n{}  {} {}", short(t.trade), if warning.alarm { "ALARM" } else { "warning" }, warning.text);
    }
    text
}

/// A listing of ours by its id or by the first characters of it.
async fn change(client: &Client, text: &str, request: &ListingRequest, show: &Show) -> Result<(), Failure> {
    let id = match MessageId::from_str(text) {
        Ok(id) => id,
        Err(_) => {
            let mine: Vec<StallView> = client.get("/v1/listings/mine").await?;
            let mut found = mine.iter().filter_map(|stall| stall.listing).filter(|id| id.to_string().starts_with(text));
            match (found.next(), found.next()) {
                (Some(id), None) => id,
                (None, _) => {
                    let why = format!("no listing of yours begins with {text:?}; see `souk list --mine`");
                    return Err(Failure::usage(why));
                }
                (Some(_), Some(_)) => {
                    return Err(Failure::usage(format!("several listings begin with {text:?}; give more of the id")));
                }
            }
        }
    };
    let view: StallView = client.post(&format!("/v1/listings/{id}"), request).await?;
    let newest = view.listing.map_or_else(String::new, |id| id.to_string());
    show.named(&view, newest, |v| stalls(std::slice::from_ref(v)))
}

fn edit(e: args::Edit) -> Result<(String, ListingRequest), Failure> {
    let nothing = e.name.is_none()
        && e.price.is_none()
        && e.description.is_none()
        && e.category.is_none()
        && e.shipping_days.is_none();
    if nothing {
        return Err(Failure::usage("say what changes: see `souk edit --help`"));
    }
    let edit = ListingRequest::Edit {
        product_name: e.name,
        description: e.description,
        price_sat: e.price,
        category: e.category,
        shipping_days: e.shipping_days,
    };
    Ok((e.listing, edit))
}

async fn chat(
    client: &Client,
    trade: &str,
    text: Option<String>,
    to_arbiter: bool,
    show: &Show,
) -> Result<(), Failure> {
    let trade = find(client, trade).await?.trade;
    let path = format!("/v1/trades/{trade}/chat");
    let Some(text) = text else {
        let said: Vec<ChatView> = client.get(&path).await?;
        return show.answer(&said, |said| chat_in_words(said));
    };
    let to = if to_arbiter { ChatTo::Arbiter } else { ChatTo::Counterparty };
    let said: ChatView = client.post(&path, &ChatRequest { text, to }).await?;
    show.answer(&said, |said| chat_in_words(std::slice::from_ref(said)))
}

fn sell(s: args::Sell) -> Result<SellRequest, Failure> {
    let escrow = EscrowTerms {
        mode: match s.mode {
            args::Mode::Direct => Mode::Direct,
            args::Mode::Arbitrated => Mode::Arbitrated,
            args::Mode::Bonded => Mode::Bonded,
        },
        arbiters: s.arbiters.iter().map(|text| key(text)).collect::<Result<_, _>>()?,
        arbiter_release: s.arbiter_release,
        min_payer_bond: Sat(s.min_payer_bond),
        payee_bond: Sat(s.payee_bond),
        lock_blocks: s.lock_blocks,
        tranches: s.tranches,
        on_silence: match s.on_silence {
            args::OnSilence::Refund => OnSilence::Refund,
            args::OnSilence::Release => OnSilence::Release,
        },
    };
    Ok(SellRequest {
        product_name: s.name,
        description: s.description,
        price_sat: s.price,
        category: s.category,
        shipping_days: s.shipping_days,
        stock: s.stock,
        escrow,
    })
}

fn bid(b: args::Bid) -> Result<BidRequest, Failure> {
    let listing = MessageId::from_str(&b.listing)
        .map_err(|e| Failure::usage(format!("the listing's id is not one: {e}; see `souk list --json`")))?;
    let arbiter = b.arbiter.as_deref().map(key).transpose()?;
    Ok(BidRequest {
        listing,
        quantity: b.quantity,
        amount_sat: b.amount,
        arbiter,
        payer_bond_sat: b.bond,
        message: b.message,
        timeout_hours: b.wait_hours,
        pay_by_hand: b.ask_before_paying,
        max_arbiter_fee_sat: b.max_arbiter_fee,
    })
}

pub(crate) fn key(text: &str) -> Result<PartyKey, Failure> {
    PartyKey::from_str(text).map_err(|e| Failure::usage(format!("{text:?} is no public key: {e}")))
}

pub(crate) fn mentions(listing: &ListingView, text: &str) -> bool {
    let text = text.to_lowercase();
    let fields = [Some(&listing.product_name), Some(&listing.description), listing.category.as_ref()];
    fields.into_iter().flatten().any(|field| field.to_lowercase().contains(&text))
}

pub(crate) fn fits(listing: &ListingView, what: &args::Search) -> bool {
    let mode = what.mode.map(|mode| match mode {
        args::Mode::Direct => Mode::Direct,
        args::Mode::Arbitrated => Mode::Arbitrated,
        args::Mode::Bonded => Mode::Bonded,
    });
    let category = |wanted: &String| listing.category.as_ref().is_some_and(|c| c.eq_ignore_ascii_case(wanted));
    what.words.iter().all(|word| mentions(listing, word))
        && what.category.as_ref().is_none_or(category)
        && what.min_price.is_none_or(|least| listing.price_sat.0 >= least)
        && what.max_price.is_none_or(|most| listing.price_sat.0 <= most)
        && mode.is_none_or(|mode| listing.escrow.as_ref().is_some_and(|escrow| escrow.mode == mode))
}

fn stalls(stalls: &[StallView]) -> String {
    let row = |s: &StallView| {
        let id = s.listing.map_or_else(|| "not out yet".to_owned(), |id| id.to_string());
        let state = if s.open { "open" } else { "withdrawn" };
        let left = s.stock.saturating_sub(s.taken);
        vec![
            id,
            s.product_name.clone(),
            s.price_sat.to_string(),
            format!("{left} of {}", s.stock),
            s.bids.to_string(),
            state.to_owned(),
        ]
    };
    table(&["listing", "what", "sat", "left", "bids", "state"], stalls.iter().map(row).collect())
}

fn chat_in_words(said: &[ChatView]) -> String {
    let line = |c: &ChatView| {
        // What a stranger sends must not move the cursor or the colours of our terminal.
        let text: String = c.text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
        format!("{}  {:<7}  {text}", c.at.0, if c.ours { "you" } else { &c.from })
    };
    if said.is_empty() {
        "nothing has been said".to_owned()
    } else {
        said.iter().map(line).collect::<Vec<_>>().join("\n")
    }
}

fn status(s: &Status) -> String {
    let list = |l: &[String]| if l.is_empty() { "none".to_owned() } else { l.join(", ") };
    let identity = s.identity.map_or("none".to_owned(), |key| key.to_string());
    let mut text = format!("souk {}\nroles      {}\nidentity   {}\n", s.version, list(&s.roles), identity);
    if let Some(node) = &s.node {
        text += &format!("node       {}\nheight     {}\n", node.node_id, node.height);
    }
    if let Some(board) = &s.board {
        text += &format!("board      {board}\n");
    }
    for b in &s.backlog {
        let connected = if b.connected { "connected" } else { "not connected" };
        text += &format!("reads      {}, {connected}, {} events on their way to it", b.board, b.waiting);
        if let Some(trouble) = &b.trouble {
            text += &format!("; it says: {trouble}");
        }
        text.push('\n');
    }
    text += &format!("trades     {} open", s.open_trades);
    if let Some(since) = s.superseded {
        text += &format!(
            "\nstopped    another daemon was started on this seed at {}: this one moves no trade any more. Stop one of them for good; to go on \
             here: souk run --take-over",
            since.0
        );
    }
    if let Some(r) = &s.restored {
        text +=
            &format!("\nrestored   {} trades and listings, {} entries, from {}", r.streams, r.entries, list(&r.boards));
        if !r.silent.is_empty() {
            text += &format!("; not asked, because away: {}", list(&r.silent));
        }
        if r.incomplete > 0 {
            text +=
                &format!("; {} of them go on from an older state: what is held is not touched blindly", r.incomplete);
        }
    }
    for trade in &s.damaged {
        text += &format!(
            "\ndamaged    {trade}: its log cannot be read; it is stopped, and its money is what the node says"
        );
    }
    text
}

fn trades_in_words(trades: &[TradeView]) -> String {
    let row = |t: &TradeView| {
        let state = t.outcome.clone().unwrap_or_else(|| t.state.clone());
        vec![short(t.trade), t.role.clone(), what(t), t.price_sat.to_string(), state, t.next.clone()]
    };
    table(&["trade", "role", "what", "sat", "state", "next"], trades.iter().map(row).collect())
}

/// An arbiter is not told the name of what is traded, only which listing it is.
fn what(t: &TradeView) -> String {
    let name = if t.product_name.is_empty() { format!("listing {}", short(t.listing)) } else { t.product_name.clone() };
    if t.quantity == 1 { name } else { format!("{} x {name}", t.quantity) }
}

fn trade_in_words(t: &TradeView) -> String {
    let mut text = format!(
        "trade         {}\nrole          {}\nwhat          {} for {} sat\nstate         {}\n",
        t.trade,
        t.role,
        what(t),
        t.price_sat,
        t.outcome.as_ref().unwrap_or(&t.state)
    );
    if let Some(money) = crate::fiat::of_trade(t) {
        text += &format!("money         {money}\n");
    }
    if let Some(asked) = t.asked_sat {
        text += &format!("asked         {asked} sat\n");
    }
    if let Some(fee) = &t.fee {
        let state = fee.state.as_deref().unwrap_or("paid by the buyer");
        text += &format!("arbiter's fee {:>14} sat  {state}\n", fee.amount_sat);
    }
    for leg in &t.legs {
        text += &format!("{:<13} {:>14} sat  {}\n", leg.leg.replace('_', " "), leg.amount_sat, leg.state);
    }
    if let Some(d) = &t.deadlines {
        text += &format!("deadlines     warn {}, rule {}, hard {}, expiry {}\n", d.warn, d.rule, d.hard, d.expiry);
    }
    for warning in &t.warnings {
        text += &format!("{:<13} {}\n", if warning.alarm { "ALARM" } else { "warning" }, warning.text);
    }
    for owed in &t.owed {
        text += &format!("still to do   {owed}\n");
    }
    text + "next          " + &t.next
}

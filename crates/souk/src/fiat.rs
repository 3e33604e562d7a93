//! Bitcoin against money of a country: orders, and the two steps that have other names than with goods.

use std::str::FromStr;

use clap::{Args, Subcommand, ValueEnum};
use daemon::api::fiat::{FiatOrderRequest, FiatTakeRequest, RateView};
use daemon::api::types::{ListingReply, ListingView, StepRequest, TradeReply, TradeView};
use trade::{Currency, EscrowTerms, FiatSide, MessageId, Mode, Money, OnSilence, Premium, ReceiptStatus};
use units::Sat;

use crate::client::Client;
use crate::failure::Failure;
use crate::market;
use crate::show::Show;

#[derive(Subcommand)]
pub(crate) enum Fiat {
    /// List an order: you buy bitcoin and send money of a country
    Buy(Buy),
    /// List an order: you sell bitcoin, which is locked when somebody takes it, and get money of a country
    Sell(Sell),
    /// Take an order: of one that buys bitcoin you are the seller, of one that sells the buyer
    #[command(after_help = "Example: souk fiat take 4f9c… --amount 100 --method SEPA\n\nThe rate is that of your own \
    sources ([fiat] in souk.toml). Taking is binding. Of an order that buys: when your bid is accepted, souk checks the \
    invoices and locks the bitcoin. Of an order that sells: the trade is there when the maker's daemon has bid, and yours \
    accepts a price that is about your own; souk wait trade TRADE held")]
    Take(Take),
    /// Say that the money is sent (who buys bitcoin)
    #[command(after_help = "Example: souk fiat sent 5b1e… --reference \"SEPA 2026-11-27, order 17\"")]
    Sent {
        /// The trade, or the first characters of its id
        trade: String,
        /// What the bank calls the transfer; never public
        #[arg(long)]
        reference: Option<String>,
    },
    /// Say that the money is there, which releases the bitcoin (who sells it)
    #[command(
        after_help = "Example: souk fiat received 5b1e…\n\nThere is no way back. Look at your account, not at a message, and \
    at whose account the money came from."
    )]
    Received {
        /// The trade, or the first characters of its id
        trade: String,
        /// 1 (bad) to 5 (good)
        #[arg(long, value_parser = clap::value_parser!(u8).range(1..=5))]
        rating: Option<u8>,
    },
    /// The market price that you would quote now
    #[command(after_help = "Example: souk fiat rate EUR")]
    Rate {
        /// Of which currency (ISO 4217)
        currency: Currency,
    },
}

#[derive(Args)]
#[command(after_help = "Example: souk fiat buy EUR --min 50 --max 200 --method SEPA --premium 1.5 --arbiter KEY")]
pub(crate) struct Buy {
    #[command(flatten)]
    pub order: Order,
    /// How long a bid stands on the rate that it quotes, in seconds: so much time you have to accept it
    #[arg(long, value_name = "SECONDS", default_value_t = 900, value_parser = clap::value_parser!(u32).range(60..=86_400))]
    pub quote_stands: u32,
}

#[derive(Args)]
#[command(
    after_help = "Example: souk fiat sell EUR --min 50 --max 200 --method SEPA --premium 1.5 --arbiter KEY\n\nYour daemon \
    bids by itself on what answers the order, at the price of your own sources ([fiat] in souk.toml), and takes the bid back \
    when that moves. Who accepts first gets it, and then the bitcoin is locked: be there to say where the money goes."
)]
pub(crate) struct Sell {
    #[command(flatten)]
    pub order: Order,
    /// How long a rate that your daemon quotes stands, in seconds: so much time a taker has to accept it
    #[arg(long, value_name = "SECONDS", default_value_t = 300, value_parser = clap::value_parser!(u32).range(60..=86_400))]
    pub quote_stands: u32,
    /// The most in sat that you pay the arbiter for serving, in each trade
    #[arg(long, value_name = "SAT", default_value_t = 0)]
    pub max_arbiter_fee: u64,
    /// Do not lock the bitcoin before `souk pay` says so
    #[arg(long)]
    pub ask_before_paying: bool,
}

#[derive(Args)]
pub(crate) struct Order {
    /// Money of which country (ISO 4217)
    pub currency: Currency,
    /// Least amount of it
    #[arg(long)]
    pub min: Money,
    /// Most
    #[arg(long)]
    pub max: Money,
    /// How it can be sent; repeat for more
    #[arg(long = "method", value_name = "NAME", required = true)]
    pub methods: Vec<String>,
    /// Per cent above the market price that is paid for bitcoin; below it when negative
    #[arg(long, default_value = "0", allow_hyphen_values = true)]
    pub premium: Premium,
    /// How many may take it
    #[arg(long, default_value_t = 1)]
    pub stock: u32,
    /// More about it, up to 2000 characters; everybody reads it, so no account number
    #[arg(long, default_value = "")]
    pub description: String,
    /// Who protects whom
    #[arg(long, value_enum, default_value = "arbitrated")]
    pub mode: Protection,
    /// An arbiter you accept (public key, hex); repeat for more
    #[arg(long = "arbiter", value_name = "KEY", required_unless_present_any = ["unprotected"])]
    pub arbiters: Vec<String>,
    /// Without an arbiter: who sells can keep the money and let the bitcoin go back
    #[arg(long, conflicts_with_all = ["arbiters", "mode", "taker_bond", "own_bond"])]
    pub unprotected: bool,
    /// Least bond of who takes it, in sat
    #[arg(long, default_value_t = 0)]
    pub taker_bond: u64,
    /// Your own bond, in sat
    #[arg(long, default_value_t = 0)]
    pub own_bond: u64,
    /// Blocks that the bitcoin may be locked, 144 to 2016
    #[arg(long, default_value_t = 432, value_parser = clap::value_parser!(u16).range(144..=2016))]
    pub lock_blocks: u16,
}

#[derive(Clone, Copy, ValueEnum)]
pub(crate) enum Protection {
    /// An arbiter is named, bonds are optional
    Arbitrated,
    /// An arbiter is named, both sides lock a bond
    Bonded,
}

#[derive(Args)]
pub(crate) struct Take {
    /// The order's id
    pub listing: String,
    /// How much of its currency
    #[arg(long)]
    pub amount: Money,
    /// By which of its methods; may be left out where it has one
    #[arg(long)]
    pub method: Option<String>,
    /// Which of its arbiters; the first when left out
    #[arg(long, value_name = "KEY")]
    pub arbiter: Option<String>,
    /// The most in sat that you pay the arbiter for serving, when the maker has accepted; of an order that buys
    #[arg(long, value_name = "SAT", default_value_t = 0)]
    pub max_arbiter_fee: u64,
    /// Do not lock the bitcoin before `souk pay` says so; of an order that buys
    #[arg(long)]
    pub ask_before_paying: bool,
}

pub(crate) async fn obey(client: &Client, what: Fiat, show: &Show) -> Result<(), Failure> {
    match what {
        Fiat::Buy(what) => list(client, &buying(what)?, show).await,
        Fiat::Sell(what) => list(client, &selling(what)?, show).await,
        Fiat::Take(what) => {
            let reply: TradeReply = client.post("/v1/fiat/take", &take(what)?).await?;
            show.named(&reply, reply.trade, |r| format!("sent to the maker; the trade is {}", r.trade))
        }
        Fiat::Sent { trade, reference } => {
            let step = StepRequest::Ship { note: String::new(), tracking: reference };
            self::step(client, &trade, &step, show).await
        }
        Fiat::Received { trade, rating } => {
            let step = StepRequest::Confirm { status: ReceiptStatus::Received, rating, feedback: None, reason: None };
            self::step(client, &trade, &step, show).await
        }
        Fiat::Rate { currency } => {
            let rate: RateView = client.get(&format!("/v1/fiat/rate?currency={currency}")).await?;
            show.named(&rate, rate.price, rate_in_words)
        }
    }
}

async fn list(client: &Client, order: &FiatOrderRequest, show: &Show) -> Result<(), Failure> {
    let reply: ListingReply = client.post("/v1/fiat/orders", order).await?;
    show.named(&reply, reply.listing, |r| format!("listed as {}", r.listing))
}

/// A step of a trade on an order; the goods' steps have names of their own.
async fn step(client: &Client, trade: &str, step: &StepRequest, show: &Show) -> Result<(), Failure> {
    let found: TradeView = market::find(client, trade).await?;
    if found.fiat.is_none() {
        return Err(Failure::usage("that trade is of goods: the commands are `souk ship` and `souk confirm`"));
    }
    market::take_step(client, trade, step, show).await
}

fn buying(b: Buy) -> Result<FiatOrderRequest, Failure> {
    let (taker, own) = (Sat(b.order.taker_bond), Sat(b.order.own_bond));
    order(b.order, FiatSide::Buy, b.quote_stands, taker, own)
}

fn selling(s: Sell) -> Result<FiatOrderRequest, Failure> {
    let (taker, own) = (Sat(s.order.taker_bond), Sat(s.order.own_bond));
    let request = order(s.order, FiatSide::Sell, s.quote_stands, own, taker)?;
    Ok(FiatOrderRequest { max_arbiter_fee_sat: s.max_arbiter_fee, pay_by_hand: s.ask_before_paying, ..request })
}

/// Who sells bitcoin is the payer.
fn order(
    b: Order,
    side: FiatSide,
    max_quote_age_secs: u32,
    min_payer_bond: Sat,
    payee_bond: Sat,
) -> Result<FiatOrderRequest, Failure> {
    let mode = match (b.unprotected, b.mode) {
        (true, _) => Mode::Direct,
        (false, Protection::Arbitrated) => Mode::Arbitrated,
        (false, Protection::Bonded) => Mode::Bonded,
    };
    let escrow = EscrowTerms {
        mode,
        arbiters: b.arbiters.iter().map(|text| market::key(text)).collect::<Result<_, _>>()?,
        // Who sent money and hears nothing more can only be helped by one who has the secret.
        arbiter_release: mode != Mode::Direct,
        min_payer_bond,
        payee_bond,
        lock_blocks: b.lock_blocks,
        tranches: 1,
        on_silence: OnSilence::Refund,
    };
    Ok(FiatOrderRequest {
        side,
        currency: b.currency,
        min: b.min,
        max: b.max,
        premium_percent: b.premium,
        methods: b.methods,
        max_quote_age_secs,
        description: b.description,
        stock: b.stock,
        escrow,
        max_arbiter_fee_sat: 0,
        pay_by_hand: false,
    })
}

fn take(t: Take) -> Result<FiatTakeRequest, Failure> {
    let listing = MessageId::from_str(&t.listing)
        .map_err(|e| Failure::usage(format!("the order's id is not one: {e}; see `souk list --json`")))?;
    let arbiter = t.arbiter.as_deref().map(market::key).transpose()?;
    let (amount, method, pay_by_hand) = (t.amount, t.method, t.ask_before_paying);
    let max_arbiter_fee_sat = t.max_arbiter_fee;
    Ok(FiatTakeRequest { listing, amount, method, arbiter, max_arbiter_fee_sat, pay_by_hand })
}

fn rate_in_words(rate: &RateView) -> String {
    let of = match rate.sources {
        0 => "fixed in souk.toml".to_owned(),
        1 => format!("one source, seen at {}", rate.at.0),
        n => format!("median of {n} sources, seen at {}", rate.at.0),
    };
    format!("{} {} for a bitcoin ({of})", rate.price, rate.currency)
}

/// Price and way to take it of an order in a list of what is offered; none for goods.
pub(crate) fn offered(listing: &ListingView) -> Option<(String, String)> {
    let fiat = listing.fiat.as_ref()?;
    let sign = if fiat.premium_percent < Premium::default() { "" } else { "+" };
    let price = format!("market {sign}{} %, by {}", fiat.premium_percent, fiat.methods.join(", "));
    Some((price, format!("souk fiat take {}", listing.id)))
}

/// What a trade is about in money of a country; none for goods.
pub(crate) fn of_trade(trade: &TradeView) -> Option<String> {
    let fiat = trade.fiat.as_ref()?;
    let side = match trade.role.as_str() {
        "payee" => "you buy the bitcoin",
        "payer" => "you sell the bitcoin",
        _ => "you rule",
    };
    Some(format!("{} {} by {} at {} ({side})", fiat.amount, fiat.currency, fiat.method, fiat.rate))
}

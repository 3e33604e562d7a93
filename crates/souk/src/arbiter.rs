//! What an arbiter sees, its inbox and its service; and what there is to know of the arbiters that can be had.

use clap::Subcommand;
use daemon::api::arbiter::{
    ArbiterView, AttestedView, ClaimView, DisputeView, SeenView, ServiceView, StatementView, StatsView,
};

use crate::client::Client;
use crate::failure::Failure;
use crate::show::{Show, short, table};

#[derive(Subcommand)]
pub(crate) enum Arbiter {
    /// What you did as an arbiter: trades, disputes, how you ruled and how soon, fees
    #[command(
        after_help = "Example: souk arbiter stats --json\n\nCounted from your own log. To tell everybody, rounded, once a day: \
        souk config set arbiter.publish true"
    )]
    Stats,
    /// Arbiters that listings name or that offer themselves: policy, fee, record, and what your own trades saw of them
    #[command(
        after_help = "Example: souk arbiter list && souk sell \"Wool socks\" --price 50000 --mode arbitrated --arbiter 9f3c…"
    )]
    List,
}

pub(crate) async fn obey(client: &Client, what: Arbiter, show: &Show) -> Result<(), Failure> {
    match what {
        Arbiter::Stats => {
            let stats: StatsView = client.get("/v1/arbiter/stats").await?;
            show.answer(&stats, stats_in_words)
        }
        Arbiter::List => {
            let arbiters: Vec<ArbiterView> = client.get("/v1/arbiters").await?;
            show.answer(&arbiters, |arbiters| list_in_words(arbiters))
        }
    }
}

fn stats_in_words(stats: &StatsView) -> String {
    let mut text = service(&stats.service);
    if !stats.serving {
        text += "\nyou serve in no new trades: arbiter.enabled is false";
    } else if stats.published {
        text += "\ntold to everybody, rounded, once a day (arbiter.publish)";
    }
    text
}

fn service(s: &ServiceView) -> String {
    let mut text = format!(
        "appointed     {}, money was locked in {}\nno dispute    {}\ndisputes      {}: {} for the buyer, {} for the seller, {} split, \
         {} withdrawn, {} not ruled in time",
        s.appointed, s.locked, s.quiet, s.disputed, s.for_payer, s.for_payee, s.split, s.withdrawn, s.missed
    );
    let open = s.locked.saturating_sub(s.quiet + s.disputed + s.missed_defaults);
    if open > 0 {
        text += &format!("\nunder way     {open} without a dispute so far");
    }
    if s.missed_defaults > 0 {
        text += &format!("\nabsent        {} whose default on silence was not applied in time", s.missed_defaults);
    }
    if let (Some(median), Some(worst)) = (s.median_secs, s.worst_secs) {
        text += &format!("\ntime to rule  {}, at worst {}", span(median), span(worst));
    }
    text + &format!("\nfees          {} sat", s.fees_sat.0)
}

/// A span of time for people, rounded up.
fn span(secs: u64) -> String {
    match secs {
        0..3600 => format!("{} min", secs.div_ceil(60)),
        3600..172_800 => format!("{} h", secs.div_ceil(3600)),
        _ => format!("{} days", secs.div_ceil(86_400)),
    }
}

fn list_in_words(arbiters: &[ArbiterView]) -> String {
    if arbiters.is_empty() {
        return "no arbiter is known: none is named by a listing, and none offers itself".to_owned();
    }
    arbiters.iter().map(arbiter).collect::<Vec<_>>().join("\n\n")
}

fn arbiter(a: &ArbiterView) -> String {
    let listings = if a.listings == 1 { "1 listing".to_owned() } else { format!("{} listings", a.listings) };
    let mut text = format!("{}\nnamed by      {listings}", a.key);
    if let Some(claim) = &a.claim {
        text += &claimed(claim);
    } else {
        text += "\nsays          nothing of itself";
    }
    text += &attested(&a.attested);
    if a.contradicted {
        text += "\nbeware        ratings show more trades than it says it was appointed in";
    }
    text + &a.seen.as_ref().map(seen).unwrap_or_default()
}

fn claimed(claim: &ClaimView) -> String {
    let mut text = format!("\ncharges       {} sat", claim.fee_sat.0);
    if claim.fee_ppm > 0 {
        text += &format!(" and {} millionths of the first bid", claim.fee_ppm);
    }
    if !claim.policy.is_empty() {
        text += &format!("\npolicy        {}", markets::text::line(&claim.policy, usize::MAX));
    }
    text += "\nclaims        (nobody vouches for these numbers but itself)";
    for line in service(&claim.service).lines() {
        text += &format!("\n  {line}");
    }
    text
}

fn attested(a: &AttestedView) -> String {
    match a.score {
        None => "\nrated         by nobody, as far as the boards know".to_owned(),
        Some(score) => format!(
            "\nrated         {score:.2} of 5 by {} for {} trade(s), {} of them ruled; what to make of it: souk reputation KEY",
            a.raters, a.escrows, a.ruled
        ),
    }
}

fn seen(s: &SeenView) -> String {
    let mut text = format!(
        "\nyou saw       {} trade(s), {} disputed: {} for the buyer, {} for the seller, {} split, {} silent until the deadline",
        s.trades, s.disputed, s.for_payer, s.for_payee, s.split, s.silent
    );
    if s.fees_sat.0 > 0 {
        text += &format!("; you paid it {} sat", s.fees_sat.0);
    }
    text
}

pub(crate) async fn disputes(client: &Client, show: &Show) -> Result<(), Failure> {
    let disputes: Vec<DisputeView> = client.get("/v1/disputes").await?;
    show.answer(&disputes, |disputes| in_words(disputes))
}

fn in_words(disputes: &[DisputeView]) -> String {
    if disputes.is_empty() {
        return "no dispute waits for your ruling".to_owned();
    }
    disputes.iter().map(dispute).collect::<Vec<_>>().join("\n\n")
}

fn side(role: &str) -> &str {
    match role {
        "payer" => "buyer",
        "payee" => "seller",
        _ => "you",
    }
}

fn dispute(d: &DisputeView) -> String {
    let hours = u64::from(d.blocks_left) / 6;
    let mut text = format!(
        "trade         {}\nwhat          listing {} for {} sat in {} part(s); bonds: buyer {} sat, seller {} sat\n",
        d.trade,
        short(d.listing),
        d.price_sat,
        d.tranches,
        d.payer_bond_sat,
        d.payee_bond_sat
    );
    text += &format!("asked by      the {}\n", side(&d.asked_by));
    text += &format!(
        "rule          before height {}, in {} blocks, about {hours} hours; later it is void and the buyer gets the price back\n",
        d.before.0, d.blocks_left
    );
    if let Some(fee) = &d.fee {
        text += &format!("your fee      {} sat, {}\n", fee.amount_sat, fee.state.as_deref().unwrap_or("unpaid"));
    }
    if !d.can_release {
        text += "price         you hold no secret of it: a ruling cannot send it to the seller, only bonds and words\n";
    }
    let row = |s: &StatementView| {
        let what = if s.contradicts { format!("{} (said otherwise before)", s.what) } else { s.what.clone() };
        vec![s.at.0.to_string(), side(&s.by).to_owned(), what, s.text.clone()]
    };
    text += &table(&["when", "who", "what", "in its words"], d.statements.iter().map(row).collect());
    text + "\n" + &d.command
}

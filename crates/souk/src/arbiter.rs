//! What an arbiter sees: its inbox.

use daemon::api::arbiter::{DisputeView, StatementView};

use crate::client::Client;
use crate::failure::Failure;
use crate::show::{Show, short, table};

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

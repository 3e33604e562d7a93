//! `souk credential …`: what boards ask for their events, and buying what they ask.

use std::io::IsTerminal;
use std::time::{Duration, Instant};

use clap::Subcommand;
use clap::builder::{PossibleValuesParser, TypedValueParser};
use daemon::api::credentials::{BatchView, BuyCredentials, CredentialsView, HeldView, PolicyTerms, PolicyView};
use units::{Msat, Sat};

use crate::adverts::escaped;
use crate::client::Client;
use crate::failure::Failure;
use crate::show::{Show, short, table};

/// How often a batch under way is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// How long one waits for it; the daemon does longer.
const PATIENCE: Duration = Duration::from_secs(600);

#[derive(Subcommand)]
pub(crate) enum Credential {
    /// What boards ask: which events need a credential, what one costs, which keys sign
    #[command(after_help = "Example: souk credential policy --board wss://board.example")]
    Policy {
        /// Only of this board; all of trader.boards when left out
        #[arg(long, value_name = "URL")]
        board: Option<String>,
    },
    /// Buy a batch over Lightning; your daemon spends one with each event that the board wants one for
    #[command(
        after_help = "Example: souk credential buy --board wss://board.example --count 50 --max-sat 200\n\nThe board cannot tell which \
        of its buyers spends a credential. Ctrl-C ends the waiting only: the daemon goes on, over restarts."
    )]
    Buy {
        /// The board, one of trader.boards
        #[arg(long, value_name = "URL")]
        board: String,
        /// How many
        #[arg(long, default_value = "10", value_parser = sizes())]
        count: usize,
        /// The most in sat that they may cost, routing not counted; what is shown and agreed to when left out
        #[arg(long, value_name = "SAT")]
        max_sat: Option<u64>,
        /// Do not ask
        #[arg(long)]
        yes: bool,
    },
    /// What there is for which board and until when, and batches under way
    #[command(after_help = "Example: souk credential list --json")]
    List,
}

/// Batches of other sizes would tell their buyers apart.
fn sizes() -> impl TypedValueParser<Value = usize> {
    PossibleValuesParser::new(["10", "50", "100", "250"]).try_map(|text| text.parse::<usize>())
}

pub(crate) async fn obey(client: &Client, what: Credential, show: &Show) -> Result<(), Failure> {
    match what {
        Credential::Policy { board } => {
            let path = board.as_deref().map_or(String::new(), |url| format!("?board={}", escaped(url)));
            let policies: Vec<PolicyView> = client.get(&format!("/v1/credentials/policy{path}")).await?;
            show.answer(&policies, |policies| policies.iter().map(policy_in_words).collect::<Vec<_>>().join("\n\n"))
        }
        Credential::Buy { board, count, max_sat, yes } => {
            let max = max_sat.map(|sat| sat.checked_mul(1000).map(Msat).ok_or_else(too_much)).transpose()?;
            let max_msat = match max {
                Some(max) if yes => max,
                max => agreed(client, &board, count, max, yes, show).await?,
            };
            let batch = client.post("/v1/credentials/buy", &BuyCredentials { board, count, max_msat }).await?;
            let batch = see_through(client, batch, show).await?;
            show.named(&batch, &batch.quote, |b| format!("{} credentials of {} are there", b.count, b.board))
        }
        Credential::List => {
            let all: CredentialsView = client.get("/v1/credentials").await?;
            show.answer(&all, in_words)
        }
    }
}

fn too_much() -> Failure {
    Failure::usage("--max-sat is too large")
}

/// What the batch costs, when our user agrees to that.
async fn agreed(
    client: &Client,
    board: &str,
    count: usize,
    max: Option<Msat>,
    yes: bool,
    show: &Show,
) -> Result<Msat, Failure> {
    let found: Vec<PolicyView> = client.get(&format!("/v1/credentials/policy?board={}", escaped(board))).await?;
    let view = found.into_iter().next().ok_or_else(|| Failure::fault("the daemon says nothing of that board"))?;
    let terms = view.policy.ok_or_else(|| Failure::unreachable(view.trouble.unwrap_or_default()))?;
    let each = terms.price_msat.ok_or_else(|| Failure::usage(format!("{board} sells no credentials now")))?;
    let price = each.0.checked_mul(count as u64).map(Msat).ok_or_else(too_much)?;
    let words = format!("{count} credentials of {board} cost {} sat, and what routing costs", sat(price));
    if let Some(max) = max.filter(|max| price > *max) {
        return Err(Failure::usage(format!("{words}: more than --max-sat {}. Nothing was bought", sat(max))));
    }
    if !yes {
        if !std::io::stdin().is_terminal() {
            return Err(Failure::usage(format!("{words}: say --yes to buy them. Nothing was bought")));
        }
        show.line(&format!("{words}. Pay? Type yes"))?;
        let mut answer = String::new();
        std::io::stdin().read_line(&mut answer)?;
        if answer.trim() != "yes" {
            return Err(Failure::usage("not confirmed; nothing was bought"));
        }
    }
    Ok(price)
}

/// Waits until the credentials are there, and says how it goes.
async fn see_through(client: &Client, mut batch: BatchView, show: &Show) -> Result<BatchView, Failure> {
    let (began, mut said) = (Instant::now(), String::new());
    let goes_on = "the daemon goes on with it: `souk credential list`";
    loop {
        match batch.state.as_str() {
            "issued" => return Ok(batch),
            "failed" => {
                let (rule, message) = (batch.code.clone(), batch.trouble.clone().unwrap_or_default());
                return Err(Failure { kind: daemon::api::types::ErrorKind::Refused, rule, message });
            }
            _ if began.elapsed() > PATIENCE => {
                return Err(Failure::unreachable(format!("{}; {goes_on}", stage(&batch))));
            }
            _ => {}
        }
        let now = stage(&batch);
        if now != said {
            show.progress(&now);
            said = now;
        }
        tokio::time::sleep(LOOK_EVERY).await;
        batch = client.get(&format!("/v1/credentials/batches/{}", batch.quote)).await?;
    }
}

/// How far a batch is, in words.
fn stage(batch: &BatchView) -> String {
    let now = match batch.state.as_str() {
        "ordered" => "asking the board for an invoice".to_owned(),
        "quoted" | "paying" => format!("paying {} sat", sat(batch.price_msat)),
        "paid" => "paid; asking the board for its signatures".to_owned(),
        "issued" => "there".to_owned(),
        other => other.to_owned(),
    };
    batch.trouble.as_ref().map_or(now.clone(), |trouble| format!("{now}: {trouble}"))
}

/// Rounded up: what is asked for whole satoshis.
fn sat(amount: Msat) -> Sat {
    Sat(amount.0.div_ceil(1000))
}

fn policy_in_words(view: &PolicyView) -> String {
    let Some(terms) = &view.policy else {
        return format!("{}\n  {}", view.board, view.trouble.as_deref().unwrap_or("it says nothing"));
    };
    let price = terms.price_msat.map_or("none are sold now".to_owned(), |price| format!("{price} msat each"));
    let kinds = if terms.kinds.is_empty() { "none".to_owned() } else { terms.kinds.join(", ") };
    format!(
        "{}\n  price         {price}, at most {} at once\n  asked for     events of kind {kinds}\n{}",
        view.board,
        terms.batch_max,
        keysets(terms)
    )
}

fn keysets(terms: &PolicyTerms) -> String {
    let row = |k: &daemon::api::credentials::KeysetView| {
        let times = [k.issue_from, k.issue_until, k.redeem_until].map(|at| at.0.to_string());
        [vec![k.id.clone(), k.price_msat.to_string()], times.to_vec()].concat()
    };
    table(&["keyset", "msat", "signs from", "signs until", "taken until"], terms.keysets.iter().map(row).collect())
}

fn in_words(all: &CredentialsView) -> String {
    if all.keysets.is_empty() && all.batches.is_empty() {
        return "none; see `souk credential policy` for what boards ask".to_owned();
    }
    let row = |h: &HeldView| {
        let counts = [h.free, h.used, h.lost].map(|count| count.to_string());
        [vec![h.board.clone(), h.keyset.clone()], counts.to_vec(), vec![h.until.0.to_string()]].concat()
    };
    let mut text = String::new();
    if !all.keysets.is_empty() {
        text =
            table(&["board", "keyset", "free", "used", "lost", "taken until"], all.keysets.iter().map(row).collect());
    }
    let row = |b: &BatchView| {
        let trouble = b.trouble.clone().unwrap_or_default();
        vec![
            b.board.clone(),
            short(&b.quote),
            b.count.to_string(),
            sat(b.price_msat).to_string(),
            b.state.clone(),
            trouble,
        ]
    };
    if !all.batches.is_empty() {
        let batches = table(&["board", "batch", "count", "sat", "state", ""], all.batches.iter().map(row).collect());
        text = if text.is_empty() { batches } else { format!("{text}\n{batches}") };
    }
    text
}

//! `souk demo`: a board, a seller, a buyer and an arbiter, each a whole daemon with a Lightning node of its own, trade three
//! times on a chain made for the occasion. Every balance is checked against what the contract says.

mod books;
mod stage;
mod story;

use std::time::Instant;

use serde_json::json;

use crate::args;
use crate::failure::Failure;
use crate::show::Show;
use books::Account;
use stage::Stage;
use story::Ended;

/// Runs the demo. Fails when a balance is wrong.
pub(crate) async fn run(options: args::Demo, show: &Show) -> Result<(), Failure> {
    let began = Instant::now();
    let dir = tempfile::Builder::new().prefix("souk-demo-").tempdir()?;
    let stage = Stage::build(dir.path(), show).await?;
    let told = tokio::select! {
        told = story::tell(&stage, show) => told,
        _ = tokio::signal::ctrl_c() => Err(Failure::fault("interrupted")),
    };
    let verdict = match &told {
        Ok(ended) => conclude(ended, began, show),
        Err(_) => Ok(()),
    };
    if options.stay && told.is_ok() {
        stay(&stage, dir.path(), show).await?;
    }
    stage.close().await;
    if options.keep {
        let kept = dir.keep();
        if !show.json {
            show.line(&format!("The data directories are kept in {}", kept.display()))?;
        }
    }
    told.and(verdict)
}

/// The balance table, and the verdict on it.
fn conclude(ended: &[Ended], began: Instant, show: &Show) -> Result<(), Failure> {
    let right = ended.iter().all(|trade| trade.accounts.iter().all(Account::is_right));
    let seconds = began.elapsed().as_secs_f64();
    if show.json {
        let answer = json!({"right": right, "seconds": seconds, "trades": ended});
        show.line(&serde_json::to_string_pretty(&answer).map_err(|e| Failure::fault(e.to_string()))?)?;
    } else {
        show.line("")?;
        show.line(&books::table(ended))?;
        let verdict =
            if right { "Every balance is what its contract says, to the millisatoshi." } else { "A balance is WRONG." };
        show.line(&format!("{verdict} ({seconds:.1} s)"))?;
    }
    if right {
        Ok(())
    } else {
        Err(Failure::fault("a balance is not what its contract says; the table above shows which"))
    }
}

async fn stay(stage: &Stage, dir: &std::path::Path, show: &Show) -> Result<(), Failure> {
    if !show.json {
        show.line("\nEverything keeps running. Try, in another terminal:")?;
        for name in stage.names() {
            show.line(&format!("    souk --data-dir {} status", dir.join(name).display()))?;
        }
        show.line(&format!(
            "The chain's RPC is {} (user and password \"devnet\"). Ctrl-C ends it.",
            stage.chain.rpc_url()
        ))?;
    }
    Ok(tokio::signal::ctrl_c().await?)
}

//! A person with a daemon: what stays when it stops, and the daemon while it runs.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use daemon::DeskError;
use daemon::Running;
use daemon::api::types::{StepRequest, TradeView};
use daemon::bench::Bolt11Node;
use daemon::config::{Config, SAMPLE};
use keys::Seed;
use node::FakeNetwork;
use secp256k1::SecretKey;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use trade::TradeId;

const PATIENCE: Duration = Duration::from_secs(120);
const LOOK_EVERY: Duration = Duration::from_millis(1);
/// Most trades an hour that the configuration may allow.
const OPENED_PER_HOUR: usize = 10_000;

pub struct Person {
    dir: PathBuf,
    config: Config,
    mark: u8,
    node: Arc<Bolt11Node>,
    board: String,
    run: Option<(Arc<Running>, TaskTracker, CancellationToken)>,
}

impl Person {
    /// Somebody whose keys follow from `mark`, with a folder that is there.
    pub fn new(dir: &Path, mark: u8, network: &FakeNetwork, board: &str) -> Result<Person> {
        let mut config = Config::parse(SAMPLE, dir)?;
        config.trader.opened_per_hour = OPENED_PER_HOUR;
        let node = Bolt11Node::on(network, SecretKey::from_slice(&[mark; 32])?);
        Ok(Person { dir: dir.to_owned(), config, mark, node, board: board.to_owned(), run: None })
    }

    pub async fn start(&mut self) -> Result<()> {
        let (tasks, shutdown) = (TaskTracker::new(), CancellationToken::new());
        let seed = Arc::new(Seed::generate(&[self.mark; 32]));
        let boards = [self.board.clone()];
        let running =
            daemon::bench::open(&self.config, &self.dir, seed, self.node.clone(), &boards, &tasks, &shutdown).await?;
        self.run = Some((Arc::new(running), tasks, shutdown));
        Ok(())
    }

    pub async fn stop(&mut self) {
        let Some((running, tasks, shutdown)) = self.run.take() else { return };
        shutdown.cancel();
        drop(running);
        tasks.close();
        tasks.wait().await;
    }

    pub fn dir(&self) -> &Path {
        &self.dir
    }

    pub fn desk(&self) -> Result<Arc<Running>> {
        Ok(self.run.as_ref().context("runs")?.0.clone())
    }
}

/// Waits until a daemon sees a trade in this state, or ended so.
pub async fn until_sees(desk: &Running, trade: TradeId, state: &str) -> Result<()> {
    let begin = Instant::now();
    loop {
        let view = seen(desk, trade).await?;
        let now = view.map(|view| view.outcome.unwrap_or(view.state)).unwrap_or_default();
        if now == state {
            return Ok(());
        }
        anyhow::ensure!(begin.elapsed() < PATIENCE, "in vain: {trade} is {now:?}, not {state:?}");
        sleep(LOOK_EVERY).await;
    }
}

async fn seen(desk: &Running, trade: TradeId) -> Result<Option<TradeView>> {
    match desk.trade(trade).await {
        Ok(view) => Ok(Some(view)),
        Err(DeskError::NotFound(_)) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Takes a step that is possible now.
pub async fn step(desk: &Running, trade: TradeId, request: StepRequest) -> Result<()> {
    desk.step(trade, request).await.context("a step")?;
    Ok(())
}

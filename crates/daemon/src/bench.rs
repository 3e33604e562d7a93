//! For benchmarks: a daemon's inside on a node and on boards that it is given. Not in the product.

use std::path::Path;
use std::sync::Arc;

use keys::Seed;
use node::Node;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

pub use crate::bolt11_node::Bolt11Node;
use crate::config::Config;
use crate::running::{self, Running, StartError};

/// Opens everything but board and API in `dir`: store, keys, connections to `boards`, and the desk. It runs on `tasks` until `shutdown`.
pub async fn open(
    config: &Config,
    dir: &Path,
    seed: Arc<Seed>,
    node: Arc<dyn Node>,
    boards: &[String],
    tasks: &TaskTracker,
    shutdown: &CancellationToken,
) -> Result<Running, StartError> {
    let boards = boards.iter().map(|url| (url.clone(), false)).collect();
    running::open(config, dir, seed, Some(node), boards, tasks, shutdown).await
}

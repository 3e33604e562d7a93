//! The start of a daemon in a process of its own, whose memory and CPU time are then nobody else's.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use rustix::param::{clock_ticks_per_second, page_size};
use serde::{Deserialize, Serialize};
use tokio::time::sleep;

use crate::deals::{SELLER, network};
use crate::ms;
use crate::people::Person;

/// A second in which it works less than this is a quiet one.
const QUIET_CPU_MS: f64 = 200.0;
const QUIET_MOST: Duration = Duration::from_secs(60);
const REST: Duration = Duration::from_secs(5);
const BLOCKS: u32 = 5;

/// How a start went.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub struct Started {
    /// Until the log was read, compared with the node, and commands are taken.
    pub open_ms: f64,
    /// CPU time from there until it has read its mail and is quiet.
    pub mail_cpu_ms: f64,
    /// Memory that is resident then, in MiB.
    pub rss_mib: f64,
    /// CPU time of a second in which nothing happens.
    pub rest_cpu_ms: f64,
    /// CPU time of a block.
    pub block_cpu_ms: f64,
}

/// Starts on `dir` and looks at itself.
pub async fn start(dir: &Path, board: &str) -> Result<Started> {
    let network = network()?;
    let mut person = Person::new(dir, SELLER, &network, board)?;
    let begin = Instant::now();
    person.start().await?;
    let open_ms = ms(begin);
    let opened_at = cpu_ms()?;
    let (begin, mut before) = (Instant::now(), opened_at);
    loop {
        sleep(Duration::from_secs(1)).await;
        let now = cpu_ms()?;
        if now - before < QUIET_CPU_MS || begin.elapsed() > QUIET_MOST {
            break;
        }
        before = now;
    }
    let (mail_cpu_ms, rss_mib, before) = (cpu_ms()? - opened_at, rss_mib()?, cpu_ms()?);
    sleep(REST).await;
    let rest_cpu_ms = (cpu_ms()? - before) / REST.as_secs_f64();
    let before = cpu_ms()?;
    for _ in 0..BLOCKS {
        network.mine(1);
        sleep(Duration::from_secs(1)).await;
    }
    let block_cpu_ms = ((cpu_ms()? - before) / f64::from(BLOCKS) - rest_cpu_ms).max(0.0);
    person.stop().await;
    Ok(Started { open_ms, mail_cpu_ms, rss_mib, rest_cpu_ms, block_cpu_ms })
}

/// CPU time of this process so far.
fn cpu_ms() -> Result<f64> {
    let stat = std::fs::read_to_string("/proc/self/stat")?;
    let fields = stat.rsplit(')').next().context("stat")?.split_whitespace();
    let ticks: Vec<f64> = fields.skip(11).take(2).map(str::parse).collect::<Result<_, _>>()?;
    Ok(ticks.iter().sum::<f64>() * 1e3 / clock_ticks_per_second() as f64)
}

fn rss_mib() -> Result<f64> {
    let statm = std::fs::read_to_string("/proc/self/statm")?;
    let pages: f64 = statm.split_whitespace().nth(1).context("statm")?.parse()?;
    Ok(pages * page_size() as f64 / f64::from(1 << 20))
}

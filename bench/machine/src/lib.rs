//! The machine that figures are of, and what is made of many values. Shared by all benchmarks.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use serde::Serialize;

const SYNCS: u64 = 200;
const PAGE: usize = 4_096;

/// What the reader of a figure wants to know of it.
#[derive(Clone, Debug, Serialize)]
pub struct Machine {
    /// Model of the processor.
    pub cpu: String,
    /// Cores that may be used.
    pub cores: usize,
    /// Release of the kernel.
    pub kernel: String,
    /// Of the folder that is measured in.
    pub filesystem: String,
    /// Median of writing 4 KiB and `fdatasync`, in milliseconds.
    pub fsync_ms: f64,
    /// Load average over the last minute.
    pub load: String,
}

impl Machine {
    /// Looks at the machine, and writes and deletes a small file in `dir`, which must be on a disk.
    pub fn look(dir: &Path) -> Result<Machine> {
        let read = |path: &str| std::fs::read_to_string(path).with_context(|| path.to_owned());
        let cpus = read("/proc/cpuinfo")?;
        let model = cpus.lines().find(|line| line.starts_with("model name"));
        let cpu = model.and_then(|line| line.split(": ").nth(1)).unwrap_or("unknown").to_owned();
        let filesystem = filesystem(dir, &read("/proc/self/mounts")?)?;
        ensure!(filesystem != "tmpfs", "{} is in memory: give --dir on a disk", dir.display());
        let load = read("/proc/loadavg")?.split(' ').next().unwrap_or_default().to_owned();
        Ok(Machine {
            cpu,
            cores: std::thread::available_parallelism()?.get(),
            kernel: read("/proc/sys/kernel/osrelease")?.trim().to_owned(),
            filesystem,
            fsync_ms: fsync(dir)?,
            load,
        })
    }
}

/// The type of the mount that is nearest above `dir`.
fn filesystem(dir: &Path, mounts: &str) -> Result<String> {
    let dir = dir.canonicalize()?;
    let fields = mounts.lines().filter_map(|line| {
        let mut fields = line.split(' ').skip(1);
        Some((fields.next()?, fields.next()?))
    });
    let above = fields.filter(|(mount, _)| dir.starts_with(mount)).max_by_key(|(mount, _)| mount.len());
    Ok(above.context("no mount")?.1.to_owned())
}

fn fsync(dir: &Path) -> Result<f64> {
    let path = dir.join("fsync");
    let file = File::create(&path)?;
    let mut times = Vec::new();
    for index in 0..SYNCS {
        let start = Instant::now();
        file.write_all_at(&[0x5a; PAGE], index * PAGE as u64)?;
        file.sync_data()?;
        times.push(start.elapsed().as_secs_f64() * 1e3);
    }
    std::fs::remove_file(path)?;
    Ok(median(&times))
}

/// The value in the middle.
pub fn median(values: &[f64]) -> f64 {
    percentile(values, 0.5)
}

/// The smallest value that `share` of all values do not exceed.
pub fn percentile(values: &[f64], share: f64) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let rank = (sorted.len() as f64 * share).ceil() as usize;
    sorted.get(rank.clamp(1, sorted.len().max(1)) - 1).copied().unwrap_or(f64::NAN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_values_that_were_measured() {
        let values: Vec<f64> = (1..=100).rev().map(f64::from).collect();
        assert_eq!(median(&values), 50.0);
        assert_eq!(percentile(&values, 0.99), 99.0);
        assert_eq!(percentile(&[7.0], 0.99), 7.0);
        assert_eq!(median(&[3.0, 1.0, 2.0]), 2.0);
    }
}

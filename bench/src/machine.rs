//! The machine that the figures are of.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use serde::Serialize;
use work::median;

const SYNCS: u64 = 200;
const PAGE: usize = 4_096;

#[derive(Serialize)]
pub struct Machine {
    pub cpu: String,
    pub cores: usize,
    pub kernel: String,
    pub filesystem: String,
    /// Median of writing 4 KiB and `fdatasync`, in milliseconds.
    pub fsync_ms: f64,
    pub load: String,
}

impl Machine {
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

//! A relay as a process: started on an empty folder, watched through /proc, stopped.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::str::FromStr;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};

/// Long, since a folder may hold ten million events.
const START: Duration = Duration::from_secs(300);
const STOP: Duration = Duration::from_secs(30);
const LOOK: Duration = Duration::from_millis(20);

/// What is measured.
#[derive(Clone, Debug)]
pub struct Subject {
    pub name: String,
    /// For the shell; `{dir}`, `{port}` and `{address}` stand for what they say.
    pub command: String,
}

impl FromStr for Subject {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Subject> {
        let (name, command) = text.split_once('=').context("NAME=COMMAND")?;
        ensure!(command.contains("{port}") || command.contains("{address}"), "the command names no {{port}}");
        Ok(Subject { name: name.into(), command: command.into() })
    }
}

pub struct Relay {
    child: Child,
    dir: PathBuf,
    pub address: SocketAddr,
}

/// What a process has used up to now.
#[derive(Clone, Copy, Debug)]
pub struct Usage {
    /// User and system time of all its threads.
    pub cpu_secs: f64,
    /// Memory that no file stands behind.
    pub anonymous_kib: f64,
}

impl Relay {
    /// Starts it on `dir`, which is made, and waits until it takes connections.
    pub fn start(subject: &Subject, dir: &Path) -> Result<Relay> {
        fs::create_dir_all(dir)?;
        let address = free_address()?;
        let command = subject.command.replace("{dir}", &dir.display().to_string());
        let command = command.replace("{port}", &address.port().to_string());
        let command = command.replace("{address}", &address.to_string());
        let log = fs::File::create(dir.with_extension("log"))?;
        // `exec`, so that the process is the relay and not the shell.
        let mut shell = Command::new("sh");
        shell.args(["-c", &format!("exec {command}")]).stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        let child = shell.spawn().with_context(|| command.clone())?;
        let mut relay = Relay { child, dir: dir.into(), address };
        let start = Instant::now();
        while TcpStream::connect(address).is_err() {
            if let Some(status) = relay.child.try_wait()? {
                bail!("{command}: {status}, see {}", dir.with_extension("log").display());
            }
            ensure!(start.elapsed() < START, "{command}: takes no connections");
            std::thread::sleep(LOOK);
        }
        Ok(relay)
    }

    pub fn usage(&self) -> Result<Usage> {
        let proc = PathBuf::from(format!("/proc/{}", self.child.id()));
        let stat = fs::read_to_string(proc.join("stat"))?;
        // After the name, which may have anything in it.
        let fields: Vec<&str> = stat.rsplit_once(')').context("stat")?.1.split_whitespace().collect();
        let ticks = |at: usize| -> Result<f64> { Ok(fields.get(at).context("stat")?.parse()?) };
        let cpu_secs = (ticks(11)? + ticks(12)?) / rustix::param::clock_ticks_per_second() as f64;
        let status = fs::read_to_string(proc.join("status"))?;
        let anonymous = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).context("RssAnon")?;
        let anonymous_kib = anonymous.split_whitespace().next().context("RssAnon")?.parse()?;
        Ok(Usage { cpu_secs, anonymous_kib })
    }

    /// Bytes on the disk of everything in its folder.
    pub fn disk_bytes(&self) -> Result<u64> {
        disk_bytes(&self.dir)
    }

    /// Asks it to end and waits until it has.
    pub fn stop(mut self) -> Result<()> {
        let pid = Pid::from_child(&self.child);
        kill_process(pid, Signal::TERM)?;
        let start = Instant::now();
        while self.child.try_wait()?.is_none() {
            if start.elapsed() > STOP {
                eprintln!("the relay does not end: killed");
                self.child.kill()?;
            }
            std::thread::sleep(LOOK);
        }
        Ok(())
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        // For a run that fails; after `stop` there is nothing to kill.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn free_address() -> Result<SocketAddr> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?)
}

fn disk_bytes(dir: &Path) -> Result<u64> {
    use std::os::unix::fs::MetadataExt;
    let mut sum = 0;
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let meta = entry.metadata()?;
        // A file may have holes: what counts are blocks, of 512 bytes whatever the file system's are.
        sum += if meta.is_dir() { disk_bytes(&entry.path())? } else { meta.blocks() * 512 };
    }
    Ok(sum)
}

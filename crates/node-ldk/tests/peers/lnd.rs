//! LND as a process of its own on the devnet's bitcoind interface, spoken to through lncli.

use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use node::PeerAddress;
use serde_json::Value;
use tokio::task::JoinHandle;

use crate::lnd_trades_with_us::DELAY;
use crate::net::{Net, until};

/// Lines of LND's log that a failure shows.
const LOG_LINES: usize = 40;

/// A running LND; killed when dropped.
pub(crate) struct Lnd {
    programs: PathBuf,
    folder: PathBuf,
    listen: u16,
    rpc: u16,
    process: Child,
}

impl Lnd {
    /// Starts it with a fresh wallet and waits until it has caught up with the chain.
    pub(crate) async fn start(net: &Net) -> Lnd {
        let programs = PathBuf::from(std::env::var_os("SOUK_LND").expect("cargo xtask peers sets SOUK_LND"));
        let folder = net.folder("lnd");
        std::fs::create_dir_all(&folder).unwrap();
        let [listen, rpc] = free_ports();
        let process = Command::new(programs.join("lnd"))
            .arg(format!("--lnddir={}", folder.display()))
            .args(["--noseedbackup", "--no-macaroons", "--norest", "--nobootstrap", "--accept-keysend"])
            .args(["--bitcoin.regtest", "--bitcoin.node=bitcoind", "--bitcoind.rpcpolling"])
            .args(["--bitcoind.blockpollinginterval=100ms", "--bitcoind.txpollinginterval=100ms"])
            .arg(format!("--bitcoind.rpchost={}", net.dev.rpc_addr()))
            .arg(format!("--bitcoind.rpcuser={}", net.dev.rpc_user()))
            .arg(format!("--bitcoind.rpcpass={}", net.dev.rpc_password()))
            .arg(format!("--listen=127.0.0.1:{listen}"))
            .arg(format!("--rpclisten=127.0.0.1:{rpc}"))
            .arg(format!("--bitcoin.defaultremotedelay={DELAY}"))
            .args(["--debuglevel=info", "--trickledelay=100"])
            .stdout(std::fs::File::create(folder.join("log")).unwrap())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let lnd = Lnd { programs, folder, listen, rpc, process };
        lnd.caught_up(net).await;
        lnd
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(self.programs.join("lncli"));
        command.arg(format!("--lnddir={}", self.folder.display())).arg(format!("--rpcserver=127.0.0.1:{}", self.rpc));
        command.args(["--network=regtest", "--no-macaroons"]).args(args).stdin(Stdio::null());
        command
    }

    /// Runs one command of lncli and returns its answer, or what it complains of.
    pub(crate) async fn try_ask(&self, args: &[&str]) -> Result<Value, String> {
        let mut command = self.command(args);
        let output = tokio::task::spawn_blocking(move || command.output()).await.unwrap().unwrap();
        if !output.status.success() {
            return Err(String::from_utf8_lossy(&output.stderr).trim().to_owned());
        }
        Ok(serde_json::from_slice(&output.stdout).unwrap_or(Value::Null))
    }

    /// The same for what has to work.
    pub(crate) async fn ask(&self, args: &[&str]) -> Value {
        let answer = self.try_ask(args).await;
        answer.unwrap_or_else(|error| panic!("lncli {args:?}: {error}\n{}", self.log_end()))
    }

    /// Starts to pay an invoice and returns at once; the task ends with the payment and says whether it was made.
    pub(crate) fn pays(&self, invoice: &str) -> JoinHandle<bool> {
        let mut command = self.command(&["payinvoice", "--force", "--json", invoice]);
        command.stdout(Stdio::null()).stderr(Stdio::null());
        tokio::task::spawn_blocking(move || command.status().unwrap().success())
    }

    /// Waits until it has seen the devnet's tip.
    pub(crate) async fn caught_up(&self, net: &Net) {
        let height = u64::from(net.dev.height().0);
        let ready = || async {
            let info = self.try_ask(&["getinfo"]).await.ok()?;
            (info["synced_to_chain"] == true && info["block_height"].as_u64() >= Some(height)).then_some(())
        };
        tokio::select! {
            () = until("LND to see the tip", ready) => {}
            () = tokio::time::sleep(crate::net::PATIENCE / 2) => panic!("LND does not see the tip\n{}", self.log_end()),
        }
    }

    /// Its node id.
    pub(crate) async fn id(&self) -> String {
        text(&self.ask(&["getinfo"]).await["identity_pubkey"])
    }

    /// Where peers find it.
    pub(crate) async fn address(&self) -> PeerAddress {
        PeerAddress { node_id: self.id().await, address: format!("127.0.0.1:{}", self.listen) }
    }

    /// Confirmed coins, in satoshis.
    pub(crate) async fn coins(&self) -> u64 {
        number(&self.ask(&["walletbalance"]).await["confirmed_balance"])
    }

    /// What it has logged so far.
    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.folder.join("log")).unwrap_or_default()
    }

    /// The end of that, for a failure.
    pub(crate) fn log_end(&self) -> String {
        let log = self.log();
        let lines: Vec<_> = log.lines().collect();
        lines[lines.len().saturating_sub(LOG_LINES)..].join("\n")
    }
}

impl Drop for Lnd {
    fn drop(&mut self) {
        // It may have ended by itself already.
        drop(self.process.kill());
        drop(self.process.wait());
    }
}

/// A text of an answer.
pub(crate) fn text(value: &Value) -> String {
    value.as_str().unwrap_or_else(|| panic!("no text: {value}")).to_owned()
}

/// lncli writes 64-bit numbers as text.
fn number(value: &Value) -> u64 {
    value.as_u64().or_else(|| value.as_str()?.parse().ok()).unwrap_or_else(|| panic!("no number: {value}"))
}

fn free_ports() -> [u16; 2] {
    let listeners = [0, 1].map(|_| TcpListener::bind("127.0.0.1:0").unwrap());
    listeners.map(|listener| listener.local_addr().unwrap().port())
}

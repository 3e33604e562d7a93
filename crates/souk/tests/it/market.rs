//! A small market of real `souk` processes: a board that also forwards, a seller, a buyer and an arbiter.

use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::str::FromStr;
use std::time::{Duration, Instant};

use devnet::Devnet;
use serde_json::Value;
use units::Sat;

/// Nothing takes longer than this, even on a busy machine.
const PATIENCE: Duration = Duration::from_secs(120);
const LOOK_EVERY: Duration = Duration::from_millis(50);
const COINS: u64 = 20_000_000;
const CHANNEL: u64 = 16_000_000;
const PUSHED: u64 = 6_000_000;
/// What a trader has in its channel at first, in satoshis.
pub(crate) const IN_CHANNEL: i64 = (CHANNEL - PUSHED).cast_signed();

/// One person: a data directory, and a daemon on it unless it was killed.
pub(crate) struct Person {
    pub name: &'static str,
    dir: PathBuf,
    /// Paper with the words of the seed.
    words: PathBuf,
    config: String,
    daemon: Option<Child>,
}

/// What a command said: its answer, or its exit code and error.
pub(crate) type Said = Result<Value, (i32, String)>;

impl Person {
    fn new(name: &'static str, dir: &Path, config: &str) -> Person {
        let (words, config) = (dir.join(format!("{name}.words")), config.to_owned());
        let mut entropy = [0x50; 32];
        entropy[..name.len()].copy_from_slice(name.as_bytes());
        std::fs::write(&words, keys::Seed::generate(&entropy).words()).unwrap();
        let person = Person { name, dir: dir.join(name), words, config, daemon: None };
        person.ask(&["init", "--network", "regtest", "--words", person.words.to_str().unwrap()]).unwrap();
        std::fs::write(person.dir.join("souk.toml"), &person.config).unwrap();
        person
    }

    fn souk(&self) -> Command {
        let mut souk = Command::new(env!("CARGO_BIN_EXE_souk"));
        souk.arg("--data-dir").arg(&self.dir).env("SOUK_PASSPHRASE", "correct horse").stdin(Stdio::null());
        souk
    }

    /// Runs one command with `--json`.
    pub(crate) fn ask(&self, args: &[&str]) -> Said {
        let output = self.souk().arg("--json").args(args).output().unwrap();
        if output.status.success() {
            return Ok(serde_json::from_slice(&output.stdout).unwrap());
        }
        let error = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        Err((output.status.code().unwrap_or(-1), error))
    }

    /// Starts the daemon and waits until it answers.
    pub(crate) fn start(&mut self) {
        let log = std::fs::OpenOptions::new().create(true).append(true).open(self.dir.join("log")).unwrap();
        let daemon = self.souk().arg("run").env("RUST_LOG", "info,daemon=debug,node_ldk=debug").stderr(log).spawn();
        self.daemon = Some(daemon.unwrap());
        self.until("answers", |person| person.ask(&["status"]).is_ok());
    }

    /// `kill -9`.
    pub(crate) fn kill(&mut self) {
        let mut daemon = self.daemon.take().unwrap();
        daemon.kill().unwrap();
        daemon.wait().unwrap();
    }

    /// The machine is gone with all that was on it, and `souk restore` sets up another.
    pub(crate) fn lose_everything_and_restore(&mut self, args: &[&str]) {
        self.kill();
        std::fs::remove_dir_all(&self.dir).unwrap();
        self.ask(&[&["restore", "--yes"], args].concat()).unwrap();
        self.start();
    }

    /// The machine is gone, and so is every copy of it: there are the words, and what `board` keeps.
    pub(crate) fn lose_everything_but_the_words(&mut self, board: &str) {
        self.kill();
        std::fs::remove_dir_all(&self.dir).unwrap();
        let words = self.words.to_str().unwrap();
        self.ask(&["restore", "--yes", "--network", "regtest", "--words", words, "--board", board]).unwrap();
        // Its user looks through the configuration: chain and roles.
        std::fs::write(self.dir.join("souk.toml"), &self.config).unwrap();
        self.start();
    }

    /// Waits until `is_so`; fails with the end of the daemon's log.
    pub(crate) fn until(&self, what: &str, mut is_so: impl FnMut(&Person) -> bool) {
        let began = Instant::now();
        while !is_so(self) {
            assert!(began.elapsed() < PATIENCE, "in vain: {} {what}\n{}", self.name, self.log_end());
            std::thread::sleep(LOOK_EVERY);
        }
    }

    /// Runs a command that is refused until the messages it answers have arrived, and returns what it says in the end.
    pub(crate) fn once_it_can(&self, args: &[&str]) -> Value {
        let mut said = Value::Null;
        self.until(&format!("can {}", args[0]), |person| match person.ask(args) {
            Ok(reply) => {
                said = reply;
                true
            }
            Err((1..=4, _)) => false,
            Err(error) => panic!("{error:?}"),
        });
        said
    }

    fn log_end(&self) -> String {
        let log = std::fs::read_to_string(self.dir.join("log")).unwrap_or_default();
        let lines: Vec<_> = log.lines().collect();
        lines[lines.len().saturating_sub(60)..].join("\n")
    }

    /// Lightning balance in millisatoshis.
    pub(crate) fn balance(&self) -> i64 {
        self.ask(&["node", "balance"]).unwrap()["lightning"].as_i64().unwrap()
    }

    /// Confirmed coins in the wallet, in satoshis.
    pub(crate) fn coins(&self) -> i64 {
        self.ask(&["node", "balance"]).unwrap()["onchain"].as_i64().unwrap()
    }

    /// Succeeded payments: how many, and their fees in millisatoshis.
    pub(crate) fn paid(&self) -> (usize, i64) {
        let payments = self.ask(&["node", "payments"]).unwrap();
        let done: Vec<_> = payments.as_array().unwrap().iter().filter(|p| p["state"]["state"] == "succeeded").collect();
        (done.len(), done.iter().map(|p| p["state"]["fee"].as_i64().unwrap()).sum())
    }

    /// State of a trade, or its outcome when it has ended; empty while the trade is unknown.
    pub(crate) fn sees(&self, trade: &str) -> String {
        let Ok(view) = self.ask(&["show", trade]) else { return String::new() };
        view["outcome"].as_str().or(view["state"].as_str()).unwrap_or_default().to_owned()
    }

    fn htlcs(&self) -> u64 {
        let Ok(channels) = self.ask(&["node", "channels"]) else { return u64::MAX };
        channels.as_array().unwrap().iter().map(|c| c["htlcs"].as_u64().unwrap()).sum()
    }
}

impl Drop for Person {
    fn drop(&mut self) {
        if self.daemon.is_some() {
            self.kill();
        }
    }
}

/// Everybody.
pub(crate) struct Market {
    pub board: Person,
    pub seller: Person,
    pub buyer: Person,
    pub arbiter: Person,
    /// Where the board listens.
    pub relay: SocketAddr,
    chain: Devnet,
    runtime: tokio::runtime::Runtime,
    _dir: tempfile::TempDir,
}

impl Market {
    /// Starts everybody, with coins and channels; messages travel by `transport`, as `[trader]` names it.
    pub(crate) fn open(transport: &str) -> Market {
        Market::charging(transport, 0)
    }

    /// The same, with an arbiter that charges, and then has a channel on which it can be paid.
    pub(crate) fn charging(transport: &str, fee: u64) -> Market {
        Market::with(transport, fee, "")
    }

    /// The same, with further tables in the configuration of seller and buyer.
    pub(crate) fn with(transport: &str, fee: u64, tables: &str) -> Market {
        Market::on_a_board_with("", transport, fee, tables)
    }

    /// The same, with further tables in the configuration of the board.
    pub(crate) fn on_a_board_with(board_tables: &str, transport: &str, fee: u64, tables: &str) -> Market {
        let dir = tempfile::tempdir().unwrap();
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let chain = runtime.block_on(Devnet::start(devnet::Config::default())).unwrap();
        let password = dir.path().join("rpc-password");
        std::fs::write(&password, chain.rpc_password()).unwrap();
        let [relay, node] = free_ports();
        let config = |roles: &str| config(&chain, &password, roles);
        let own_board = format!(
            "listen = [\"127.0.0.1:{node}\"]\n[board]\nenabled = true\nlisten = \"127.0.0.1:{relay}\"\n[trader]\nenabled = false\n{board_tables}"
        );
        let trader = format!(
            "listen = [\"127.0.0.1:0\"]\n[trader]\nboards = [\"ws://127.0.0.1:{relay}\"]\ntransport = \"{transport}\"\n"
        );
        let rules = format!("{trader}enabled = false\n[arbiter]\nenabled = true\nfee = {fee}\n");
        let mut market = Market {
            board: Person::new("board", dir.path(), &config(&own_board)),
            seller: Person::new("seller", dir.path(), &config(&format!("{trader}{tables}"))),
            buyer: Person::new("buyer", dir.path(), &config(&format!("{trader}{tables}"))),
            arbiter: Person::new("arbiter", dir.path(), &config(&rules)),
            relay: SocketAddr::from(([127, 0, 0, 1], relay)),
            chain,
            runtime,
            _dir: dir,
        };
        for person in [&mut market.board, &mut market.seller, &mut market.buyer, &mut market.arbiter] {
            person.start();
        }
        market.fund(fee > 0);
        market.connect(node, fee > 0);
        market
    }

    /// Mines blocks and waits until everybody who lives has seen them.
    pub(crate) fn mine(&self, blocks: u32) {
        self.runtime.block_on(self.chain.mine(blocks)).unwrap();
        let tip = u64::from(self.chain.height().0);
        for person in [&self.board, &self.seller, &self.buyer, &self.arbiter] {
            if person.daemon.is_some() {
                person.until("sees the blocks", |p| {
                    p.ask(&["node", "info"]).is_ok_and(|info| info["height"].as_u64() >= Some(tip))
                });
            }
        }
    }

    /// The tip.
    pub(crate) fn height(&self) -> u32 {
        self.chain.height().0
    }

    /// Nothing is held or under way any more, on anybody's channel.
    pub(crate) fn until_idle(&self) {
        for person in [&self.board, &self.seller, &self.buyer] {
            person.until("has no HTLC left", |p| p.htlcs() == 0);
        }
    }

    fn fund(&self, arbiter: bool) {
        let arbiter = arbiter.then_some(&self.arbiter);
        let funded = || [&self.board, &self.seller, &self.buyer].into_iter().chain(arbiter);
        for person in funded() {
            let reply = person.ask(&["node", "address"]).unwrap();
            let address = bitcoin::Address::from_str(reply["address"].as_str().unwrap()).unwrap().assume_checked();
            self.runtime.block_on(self.chain.fund(&address, Sat(COINS))).unwrap();
        }
        self.mine(1);
        for person in funded() {
            person.until("has coins", |p| p.ask(&["node", "balance"]).unwrap()["onchain"].as_u64() == Some(COINS));
        }
    }

    fn connect(&self, port: u16, arbiter: bool) {
        let hub = self.board.ask(&["node", "info"]).unwrap()["node_id"].as_str().unwrap().to_owned();
        let arbiter = arbiter.then_some(&self.arbiter);
        for person in [&self.seller, &self.buyer].into_iter().chain(arbiter) {
            person.ask(&["node", "connect", &format!("{hub}@127.0.0.1:{port}")]).unwrap();
            let (capacity, push) = (CHANNEL.to_string(), PUSHED.to_string());
            person.ask(&["node", "open", &hub, &capacity, "--push", &push]).unwrap();
        }
        let waiting = || self.runtime.block_on(self.chain.mempool()).unwrap().len();
        let opened = if arbiter.is_some() { 3 } else { 2 };
        self.board.until("sees all channels funded", |_| waiting() >= opened);
        self.mine(6);
        let ends = [(&self.board, opened), (&self.seller, 1), (&self.buyer, 1)];
        for (person, channels) in ends.into_iter().chain(arbiter.map(|arbiter| (arbiter, 1))) {
            person.until("can use its channels", |p| p.usable() == channels);
        }
    }
}

impl Person {
    /// Channels that can carry a payment now.
    pub(crate) fn usable(&self) -> usize {
        let channels = self.ask(&["node", "channels"]).unwrap();
        channels.as_array().unwrap().iter().filter(|c| c["usable"] == true).count()
    }
}

fn config(chain: &Devnet, password: &Path, roles: &str) -> String {
    format!(
        "network = \"regtest\"\n[chain]\nsource = \"bitcoind\"\nurl = \"{}\"\nuser = \"{}\"\npassword = \"file:{}\"\npoll_ms = 50\n[node]\n{roles}",
        chain.rpc_url(),
        chain.rpc_user(),
        password.display()
    )
}

/// Ports that were free a moment ago and stay the same when a daemon restarts.
pub(crate) fn free_ports<const N: usize>() -> [u16; N] {
    let listeners = [(); N].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
    listeners.map(|listener| listener.local_addr().unwrap().port())
}

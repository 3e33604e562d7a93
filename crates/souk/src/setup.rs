//! `souk init`, `souk run` and `souk config`: from an empty directory to a running daemon.

use std::fs;
use std::io::{IsTerminal, Read, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use daemon::config::{self, Config};
use daemon::{BareBoard, Daemon};
use keys::{Seed, SeedFile, Unlock};
use serde_json::json;
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::args;
use crate::failure::Failure;
use crate::show::Show;

/// Where a fresh configuration expects Bitcoin Core, by network.
const RPC_PORTS: [(&str, u16); 4] = [("bitcoin", 8332), ("testnet", 18332), ("signet", 38332), ("regtest", 18443)];
/// The variable that the default configuration takes the passphrase from.
const PASSPHRASE: &str = "SOUK_PASSPHRASE";

/// The configuration file of a data directory.
pub(crate) fn config_path(data_dir: &Path) -> PathBuf {
    data_dir.join(config::FILE)
}

pub(crate) fn seed_path(data_dir: &Path) -> PathBuf {
    data_dir.join("seed")
}

/// Makes a data directory. What is there already is never overwritten.
pub(crate) fn init(data_dir: &Path, options: &args::Init, show: &Show) -> Result<(), Failure> {
    let (config, seed_file) = (config_path(data_dir), seed_path(data_dir));
    for path in [&config, &seed_file] {
        if path.exists() {
            return Err(Failure::usage(format!("{} exists already; nothing was changed", path.display())));
        }
    }
    let seed = match &options.words {
        Some(file) => seed_from_words(file)?,
        None => Seed::generate(&entropy()?),
    };
    let passphrase = new_passphrase()?;
    fs::DirBuilder::new().recursive(true).mode(0o700).create(data_dir)?;
    SeedFile::create(&seed_file, &seed, Unlock::Passphrase(&passphrase), &entropy()?)
        .map_err(|e| Failure::fault(e.to_string()))?;
    fs::write(&config, sample_for(options.network))?;
    let what = json!({"data_dir": data_dir, "config": config});
    show.answer(&what, |_| format!("wrote {} and the encrypted seed beside it", config.display()))?;
    if options.words.is_none() && !show.json && std::io::stdout().is_terminal() {
        show.line("\nWrite these words down. They bring everything back, and whoever has them has it too:\n")?;
        show.line(&format!("    {}\n", seed.words()))?;
    }
    if show.json { Ok(()) } else { show.line("Next: look through the configuration, then `souk run`.") }
}

/// Sets an empty data directory up so that the first start asks the boards for everything that the seed has there.
pub(crate) fn restore(data_dir: &Path, options: &args::Restore, show: &Show) -> Result<(), Failure> {
    if fs::read_dir(data_dir).is_ok_and(|mut entries| entries.next().is_some()) {
        return Err(Failure::usage(format!("{} is not empty; nothing was changed", data_dir.display())));
    }
    if let Some(file) = &options.backup {
        return crate::backup::restore(data_dir, file, options, show);
    }
    let text = with_boards(&sample_for(options.network), &options.boards)?;
    Config::parse(&text, &config_path(data_dir)).map_err(|e| Failure::usage(e.to_string()))?;
    let words = options.words.as_ref().ok_or_else(|| Failure::usage("say --words or --backup"))?;
    let seed = seed_from_words(words)?;
    only_one(options.yes, show)?;
    let passphrase = new_passphrase()?;
    fs::DirBuilder::new().recursive(true).mode(0o700).create(data_dir)?;
    // The mark first: a restore that is interrupted must not be taken for a new beginning.
    fs::write(data_dir.join(daemon::RESTORE_MARK), options.birthday.to_string())?;
    SeedFile::create(&seed_path(data_dir), &seed, Unlock::Passphrase(&passphrase), &entropy()?)
        .map_err(|e| Failure::fault(e.to_string()))?;
    let config = config_path(data_dir);
    fs::write(&config, text)?;
    let what = json!({"data_dir": data_dir, "config": config, "boards": options.boards});
    show.answer(&what, |_| {
        format!(
            "wrote {} and the encrypted seed beside it\nNext: look through the configuration (roles, chain, node), then `souk run`: it \
             asks the boards for your trades before anything else. `souk status` says what it found.",
            config.display()
        )
    })
}

/// A configuration with these boards, where there are any, and otherwise as it is.
pub(crate) fn with_boards(text: &str, boards: &[String]) -> Result<String, Failure> {
    let mut document: toml_edit::DocumentMut =
        text.parse().map_err(|e: toml_edit::TomlError| Failure::usage(format!("the configuration: {e}")))?;
    if !boards.is_empty() {
        document["trader"]["boards"] = toml_edit::value(boards.iter().collect::<toml_edit::Array>());
    }
    Ok(document.to_string())
}

pub(crate) fn seed_from_words(file: &Path) -> Result<Seed, Failure> {
    Seed::from_words(read_words(file)?.trim(), "").map_err(|e| Failure::usage(e.to_string()))
}

/// Two daemons on one seed would say two things in one trade.
pub(crate) fn only_one(sure: bool, show: &Show) -> Result<(), Failure> {
    if sure {
        return Ok(());
    }
    let question = "Is the old machine off for good? Two daemons on one seed contradict each other. Type yes";
    if !std::io::stdin().is_terminal() {
        return Err(Failure::usage("say --yes when the old machine is off for good; nothing was written"));
    }
    show.line(question)?;
    let mut answer = String::new();
    std::io::stdin().read_line(&mut answer)?;
    if answer.trim() != "yes" {
        return Err(Failure::usage("not confirmed; nothing was written"));
    }
    Ok(())
}

pub(crate) fn entropy() -> Result<[u8; 32], Failure> {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes).map_err(|e| Failure::fault(format!("the system gives no random bytes: {e}")))?;
    Ok(bytes)
}

fn read_words(file: &Path) -> Result<String, Failure> {
    let mut text = String::new();
    let read = if file == Path::new("-") {
        std::io::stdin().take(4096).read_to_string(&mut text)
    } else {
        fs::File::open(file).and_then(|opened| opened.take(4096).read_to_string(&mut text))
    };
    read.map_err(|e| Failure::usage(format!("cannot read {}: {e}", file.display())))?;
    Ok(text)
}

/// A passphrase that is known already: from the environment, or asked for on a terminal.
pub(crate) fn passphrase(question: &str) -> Result<String, Failure> {
    match std::env::var(PASSPHRASE) {
        Ok(passphrase) => Ok(passphrase),
        Err(_) if std::io::stdin().is_terminal() => Ok(rpassword::prompt_password(question)?),
        Err(_) => Err(Failure::usage(format!("set {PASSPHRASE} to the passphrase that the seed is encrypted with"))),
    }
}

/// From the environment, or asked for on a terminal; twice, because a typing error would lock the seed away.
pub(crate) fn new_passphrase() -> Result<String, Failure> {
    if let Ok(passphrase) = std::env::var(PASSPHRASE) {
        return Ok(passphrase);
    }
    if !std::io::stdin().is_terminal() {
        return Err(Failure::usage(format!("set {PASSPHRASE} to the passphrase that shall encrypt the seed")));
    }
    let passphrase = rpassword::prompt_password("Passphrase to encrypt the seed with: ")?;
    if rpassword::prompt_password("Again: ")? != passphrase {
        return Err(Failure::usage("the two are not the same; nothing was written"));
    }
    if passphrase.is_empty() {
        return Err(Failure::usage("an empty passphrase protects nothing; nothing was written"));
    }
    Ok(passphrase)
}

fn sample_for(network: args::Network) -> String {
    let index = match network {
        args::Network::Bitcoin => 0,
        args::Network::Testnet => 1,
        args::Network::Signet => 2,
        args::Network::Regtest => 3,
    };
    let (name, port) = RPC_PORTS[index];
    config::SAMPLE.replacen("network = \"bitcoin\"", &format!("network = \"{name}\""), 1).replacen(
        "127.0.0.1:8332",
        &format!("127.0.0.1:{port}"),
        1,
    )
}

/// `souk config …`
pub(crate) fn config(data_dir: &Path, what: &args::Config, show: &Show) -> Result<(), Failure> {
    match what {
        args::Config::Sample => show.line(config::SAMPLE.trim_end()),
        args::Config::Check => {
            let path = config_path(data_dir);
            let faults: Vec<String> = Config::faults(&path).iter().map(ToString::to_string).collect();
            if !faults.is_empty() {
                return Err(Failure::usage(faults.join("\n")));
            }
            show.answer(&json!({"config": path, "ok": true}), |_| format!("{} is fine", path.display()))
        }
        args::Config::Set { key, value } => set(&config_path(data_dir), key, value, show),
    }
}

/// Changes one value, comments and order kept, when what comes out is a configuration.
fn set(path: &Path, key: &str, value: &str, show: &Show) -> Result<(), Failure> {
    let text = fs::read_to_string(path).map_err(|e| {
        Failure::usage(format!("cannot read {}: {e}. `souk init` writes a configuration", path.display()))
    })?;
    let wrong = |e: toml_edit::TomlError| Failure::usage(format!("{}: {e}", path.display()));
    let mut document: toml_edit::DocumentMut = text.parse().map_err(wrong)?;
    let mut parts = key.split('.');
    let last = parts.next_back().unwrap_or_default();
    let mut table = document.as_table_mut();
    for part in parts {
        let section = table.entry(part).or_insert_with(toml_edit::table).as_table_mut();
        table = section.ok_or_else(|| Failure::usage(format!("{key}: {part} is no section")))?;
    }
    let mut value: toml_edit::Value = value.parse().unwrap_or_else(|_| value.into());
    if let Some(old) = table.get(last).and_then(toml_edit::Item::as_value) {
        *value.decor_mut() = old.decor().clone();
    }
    table[last] = toml_edit::Item::Value(value.clone());
    let text = document.to_string();
    Config::parse(&text, path).map_err(|e| Failure::usage(format!("{e}. Nothing was changed")))?;
    let directory = path.parent().unwrap_or(Path::new("."));
    let mut fresh = tempfile::NamedTempFile::new_in(directory)?;
    fresh.write_all(text.as_bytes())?;
    fresh.as_file().sync_all()?;
    fresh.persist(path).map_err(|e| Failure::fault(e.to_string()))?;
    let value = value.to_string();
    show.answer(&json!({"key": key, "value": value.trim()}), |_| format!("{key} is {}", value.trim()))
}

fn load(data_dir: &Path) -> Result<Config, Failure> {
    Config::load(&config_path(data_dir)).map_err(|e| Failure::usage(e.to_string()))
}

/// Runs the daemon until Ctrl-C, SIGTERM, or something that it cannot go on without.
pub(crate) async fn run(data_dir: &Path, options: &args::Run) -> Result<(), Failure> {
    let config = load(data_dir)?;
    let seed = unlock(&config, data_dir)?;
    let mark = data_dir.join(daemon::RESTORE_MARK);
    if options.take_over && !mark.exists() {
        fs::write(&mark, "0")?;
    }
    let mut signals = Signals::heeded()?;
    let daemon = Daemon::start(&config, data_dir, seed).await.map_err(|e| Failure::fault(e.to_string()))?;
    tracing::info!(identity = %daemon.running().identity(), "ready");
    let asked = signals.stop_asked(daemon.stopped(), || daemon.reload(data_dir)).await;
    daemon.shutdown().await;
    ended(asked)
}

/// Runs a bare board in the same way. Where it listens goes to standard output, so that a script can read it.
pub(crate) async fn run_board(data_dir: &Path, options: &args::Run, show: &Show) -> Result<(), Failure> {
    let mut section = config::Board::load(&config_path(data_dir)).map_err(|e| Failure::usage(e.to_string()))?;
    section.listen = options.listen.unwrap_or(section.listen);
    let mut signals = Signals::heeded()?;
    let board = BareBoard::start(&section, data_dir).await.map_err(|e| Failure::fault(e.to_string()))?;
    let ready = json!({"board": board.url(), "data_dir": data_dir});
    show.answer(&ready, |_| format!("the board listens on {}", board.url()))?;
    let asked = signals.stop_asked(board.stopped(), || board.reload(data_dir)).await;
    board.shutdown().await;
    ended(asked)
}

/// The signals that a daemon heeds. From before it says that it is ready: whoever reads that may send one at once.
struct Signals {
    interrupt: Signal,
    terminate: Signal,
    hangup: Signal,
}

impl Signals {
    fn heeded() -> Result<Signals, Failure> {
        Ok(Signals {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }

    /// Waits for Ctrl-C or SIGTERM, which is true, or for `stopped`, which is false. Calls `reload` on SIGHUP.
    async fn stop_asked(&mut self, stopped: impl Future<Output = ()>, reload: impl Fn()) -> bool {
        let mut stopped = std::pin::pin!(stopped);
        let asked = loop {
            tokio::select! {
                _ = self.interrupt.recv() => break true,
                _ = self.terminate.recv() => break true,
                _ = self.hangup.recv() => reload(),
                () = &mut stopped => break false,
            }
        };
        tracing::info!("stopping");
        asked
    }
}

fn ended(asked: bool) -> Result<(), Failure> {
    if asked { Ok(()) } else { Err(Failure::fault("the daemon could not go on; the log above says why")) }
}

fn unlock(config: &Config, data_dir: &Path) -> Result<Seed, Failure> {
    let path = seed_path(data_dir);
    if !path.exists() {
        return Err(Failure::usage(format!("there is no seed in {}; `souk init` makes one", data_dir.display())));
    }
    let usage = |e: config::ConfigError| Failure::usage(e.to_string());
    let passphrase = match config.seed.passphrase.read("seed.passphrase").map_err(usage)? {
        Some(passphrase) => passphrase,
        None if std::io::stdin().is_terminal() => rpassword::prompt_password("Passphrase: ")?,
        None => {
            return Err(Failure::usage(format!("set {PASSPHRASE} to the passphrase that the seed is encrypted with")));
        }
    };
    SeedFile::open(&path, Unlock::Passphrase(&passphrase)).map_err(|e| Failure::usage(e.to_string()))
}

//! The configuration file: parsed strictly first, resolved (secrets read, paths expanded) after.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use board::admission::Policy;
use board::{BoardLimits, Proxies};
use serde::Deserialize;
use serde::de::{DeserializeOwned, IgnoredAny};
use units::Sat;

use crate::rates::FiatConfig;

/// The default configuration, which is also the documented sample.
pub const SAMPLE: &str = include_str!("souk.toml");

/// Name of the file in a data directory.
pub const FILE: &str = "souk.toml";
/// Most that an arbiter may charge for a trade beside its part of the price, in satoshis.
const ARBITER_FEE_MAX: u64 = 100_000_000;
/// Most trades an hour that an operator may let others open: as many as may be open at the same time.
const OPENED_PER_HOUR_MAX: usize = 10_000;
/// Most that may be spent by itself in a day on credentials, in satoshis.
const CREDENTIALS_MAX: u64 = 1_000_000;
/// What a client's message may be limited to, in bytes.
const MESSAGE_MIN: usize = 4096;
const MESSAGE_MAX: usize = 8 << 20;

/// A configuration that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read {path}: {source}. `souk init` writes a configuration")]
    Read {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The file is not TOML, or has an unknown key or a value of the wrong type.
    #[error("{path}: {message}")]
    Parse {
        /// Which file.
        path: PathBuf,
        /// Line, key and what is allowed.
        message: String,
    },
    /// A value is well-formed but not allowed.
    #[error("{key}: {message}")]
    Value {
        /// Which key.
        key: &'static str,
        /// What is wrong and what is allowed.
        message: String,
    },
}

/// A value that may be a secret: `env:NAME` or `file:/path`, never the secret itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct SecretRef(pub String);

/// The whole file.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Which Bitcoin network.
    pub network: Network,
    /// How the seed on disk is unlocked.
    #[serde(default)]
    pub seed: Seed,
    /// Where blocks come from.
    pub chain: Chain,
    /// The embedded Lightning node.
    #[serde(default)]
    pub node: Node,
    /// The board role.
    #[serde(default)]
    pub board: Board,
    /// The trader role.
    #[serde(default)]
    pub trader: Trader,
    /// The arbiter role.
    #[serde(default)]
    pub arbiter: Arbiter,
    /// Where warnings go.
    #[serde(default)]
    pub notify: Notify,
    /// The API over TCP.
    #[serde(default)]
    pub api: ApiSection,
    /// Other markets.
    #[serde(default)]
    pub markets: Markets,
    /// Bitcoin against money of a country.
    #[serde(default)]
    pub fiat: FiatConfig,
}

/// What a bare board reads of a file: `[board]`. The other sections belong to roles that it does not have.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(dead_code, reason = "named so that a misspelt section is still refused")]
struct BoardFile {
    network: Option<IgnoredAny>,
    seed: Option<IgnoredAny>,
    chain: Option<IgnoredAny>,
    node: Option<IgnoredAny>,
    #[serde(default)]
    board: Board,
    trader: Option<IgnoredAny>,
    arbiter: Option<IgnoredAny>,
    notify: Option<IgnoredAny>,
    api: Option<IgnoredAny>,
    markets: Option<IgnoredAny>,
    fiat: Option<IgnoredAny>,
}

/// Bitcoin networks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Network {
    /// Main network.
    Bitcoin,
    /// Public test network.
    Testnet,
    /// Signed test network.
    Signet,
    /// Local test network.
    Regtest,
}

/// `[seed]`.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Seed {
    /// The passphrase that encrypts the seed.
    pub passphrase: SecretRef,
}

/// `[chain]`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Chain {
    /// Kind of source.
    pub source: ChainSource,
    /// Its address.
    pub url: String,
    /// RPC user of bitcoind.
    #[serde(default)]
    pub user: String,
    /// RPC password of bitcoind.
    #[serde(default)]
    pub password: SecretRef,
    /// How often to ask for a new block, in milliseconds.
    #[serde(default = "poll_ms")]
    pub poll_ms: u64,
}

fn poll_ms() -> u64 {
    2000
}

/// Where blocks come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ChainSource {
    /// Bitcoin Core's RPC.
    Bitcoind,
    /// An Esplora server.
    Esplora,
}

/// `[node]`.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Node {
    /// Run the node even when no role needs one.
    pub enabled: bool,
    /// Where the node listens for peers.
    pub listen: Vec<SocketAddr>,
    /// Addresses told to the network, `host:port`.
    pub announce: Vec<String>,
    /// Name told to the network, at most 32 bytes.
    pub alias: String,
    /// Smallest channel that a peer may open to us.
    pub channel_min_sat: u64,
    /// Largest channel that a peer may open to us.
    pub channel_max_sat: u64,
}

/// `[board]`.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Board {
    /// Run a board.
    pub enabled: bool,
    /// Where it listens.
    pub listen: SocketAddr,
    /// Addresses and networks of proxies in front of it, whose `X-Forwarded-For` is believed.
    pub proxies: Proxies,
    /// Compress messages for clients that offer it (permessage-deflate).
    pub compression: bool,
    /// Addresses by which clients know it, `ws://` or `wss://`, when they differ from `listen`.
    pub urls: Vec<String>,
    /// Its name in NIP-11.
    pub name: String,
    /// What it is for.
    pub description: String,
    /// Keys that may manage it over HTTP (NIP-86), hex. The first is announced in NIP-11.
    pub operators: Vec<String>,
    /// How to reach the operator, announced in NIP-11.
    pub contact: String,
    /// Where `/metrics` is served for Prometheus, besides the local API.
    pub metrics_listen: Option<SocketAddr>,
    /// What credentials cost, and how long they are good. Without it none are sold and none taken.
    pub credentials: Option<Credentials>,
    /// What it takes, unless another policy was set while it ran.
    pub policy: Policy,
    /// What connections may do.
    pub limits: Limits,
}

/// `[board.credentials]`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Credentials {
    /// Millisatoshis for one.
    pub price_msat: u64,
    /// Days for which a keyset signs.
    #[serde(default = "epoch_days")]
    pub epoch_days: u64,
    /// Days after that for which its credentials are taken.
    #[serde(default = "grace_days")]
    pub grace_days: u64,
}

/// Most millisatoshis for a credential.
const PRICE_MAX: u64 = 100_000_000;
/// Longest epoch and grace time, in days.
const DAYS_MAX: u64 = 3650;

fn epoch_days() -> u64 {
    30
}

fn grace_days() -> u64 {
    60
}

impl Credentials {
    fn check(&self) -> Result<(), ConfigError> {
        if !(1..=PRICE_MAX).contains(&self.price_msat) {
            let message = format!("{} is not within 1 to {PRICE_MAX}", self.price_msat);
            return wrong("board.credentials.price_msat", message);
        }
        let days = [
            ("board.credentials.epoch_days", self.epoch_days, 1),
            ("board.credentials.grace_days", self.grace_days, 0),
        ];
        match days.into_iter().find(|(_, days, least)| !(*least..=DAYS_MAX).contains(days)) {
            Some((key, days, least)) => wrong(key, format!("{days} is not within {least} to {DAYS_MAX}")),
            None => Ok(()),
        }
    }
}

/// `[board.limits]`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// Connections at the same time.
    pub connections: usize,
    /// Connections from one address, or one network of 64 bits of IPv6; loopback addresses and proxies are exempt.
    pub connections_per_address: usize,
    /// Subscriptions of one connection.
    pub subscriptions: usize,
    /// Values in all filters of one connection.
    pub filter_values: usize,
    /// Stored events for one filter.
    pub events_per_filter: u64,
    /// Bytes of one message from a client.
    pub message_bytes: usize,
    /// Events of one connection whose fate is open.
    pub in_flight: usize,
    /// Bytes that wait for one reader before it is dropped.
    pub pending_bytes: usize,
    /// Longest time for an HTTP request to arrive.
    pub handshake_secs: u64,
    /// How often a connection is pinged.
    pub ping_secs: u64,
    /// Longest time for a reader to take what was written.
    pub write_secs: u64,
    /// Longest time for connections to end in order at shutdown.
    pub drain_secs: u64,
}

/// `[trader]`.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Trader {
    /// Trade.
    pub enabled: bool,
    /// Boards to read and to publish on, `ws://` or `wss://`.
    pub boards: Vec<String>,
    /// How trade messages travel.
    pub transport: Transport,
    /// Keep the own trade log on the boards, sealed for ourselves.
    pub vault: bool,
    /// Tell whom we trade with, and who reads ratings, that the key of a trade is our identity's.
    pub link_identity: bool,
    /// Most trades that others may open with this daemon in an hour.
    pub opened_per_hour: usize,
    /// Most that is spent by itself in a day on credentials for letters that wait for one, in satoshis.
    pub credentials_sat_per_day: u64,
}

/// How trade messages travel; listings are public in both.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Transport {
    /// NIP-59 gift wraps.
    Sealed,
    /// Plain DOMP events, notes to the other side included; secrets and tracking are sealed all the same.
    Public,
}

/// `[arbiter]`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Arbiter {
    /// Serve as an arbiter.
    pub enabled: bool,
    /// What the arbiter tells parties about how it rules, up to 1000 characters.
    pub policy: String,
    /// What it charges for a trade, in satoshis.
    pub fee: u64,
    /// What it charges besides, in millionths of the first bid.
    pub fee_ppm: u32,
    /// Tell everybody what it charges, how it rules and what it has done so far.
    pub publish: bool,
}

impl Arbiter {
    /// What a trade at this price costs; rounded down.
    pub fn charge(&self, price: Sat) -> Sat {
        let part = u128::from(price.0) * u128::from(self.fee_ppm) / 1_000_000;
        Sat(self.fee.saturating_add(u64::try_from(part).unwrap_or(u64::MAX)))
    }

    fn check(&self) -> Result<(), ConfigError> {
        if self.policy.chars().count() > 1000 {
            return wrong("arbiter.policy", "is longer than 1000 characters".into());
        }
        if self.fee > ARBITER_FEE_MAX {
            return wrong("arbiter.fee", format!("{} is more than {ARBITER_FEE_MAX} sat", self.fee));
        }
        if self.fee_ppm > 1_000_000 {
            return wrong("arbiter.fee_ppm", format!("{} is more than 1000000, the whole price", self.fee_ppm));
        }
        Ok(())
    }
}

/// `[markets]`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Markets {
    /// Relays of other markets, read beside the boards; mirrors go there too.
    pub relays: Vec<String>,
    /// On which other markets our listings are shown.
    pub mirror: Vec<Mirror>,
}

/// How a listing is shown on other markets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mirror {
    /// Goods, as a classified listing (NIP-99), for Shopstr, Plebeian and others.
    Nip99,
    /// Bitcoin against money of a country, as an order (NIP-69).
    Nip69,
}

/// `[api]`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ApiSection {
    /// A loopback address and port for callers that show tokens; empty for none.
    pub listen: String,
}

impl ApiSection {
    /// Where callers are taken over TCP; none when nowhere.
    pub fn listen(&self) -> Result<Option<SocketAddr>, ConfigError> {
        let wrong = |message: &str| ConfigError::Value { key: "api.listen", message: message.to_owned() };
        if self.listen.is_empty() {
            return Ok(None);
        }
        let address: SocketAddr = self.listen.parse().map_err(|_| wrong("is neither empty nor like 127.0.0.1:7448"))?;
        if !address.ip().is_loopback() {
            return Err(wrong("is no loopback address: tokens would travel in clear; put a proxy with TLS before it"));
        }
        Ok(Some(address))
    }
}

/// `[notify]`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Notify {
    /// A URL, or where it stands (`env:NAME`, `file:/path`); empty for none.
    pub webhook: String,
    /// A Nostr key in hex; empty for none.
    pub nostr: String,
}

impl Notify {
    /// The web-hook's address; none when there is none.
    pub fn webhook(&self) -> Result<Option<String>, ConfigError> {
        let key = "notify.webhook";
        let url = match self.webhook.starts_with("env:") || self.webhook.starts_with("file:") {
            true => SecretRef(self.webhook.clone()).read(key)?.unwrap_or_default(),
            false => self.webhook.clone(),
        };
        if url.is_empty() {
            return Ok(None);
        }
        if !url.starts_with("http://") && !url.starts_with("https://") {
            // Not repeated: it may hold a token.
            let message = "is neither empty nor an http:// or https:// address, env:NAME or file:/path".to_owned();
            return Err(ConfigError::Value { key, message });
        }
        Ok(Some(url))
    }

    /// The key that gets private messages; none when there is none.
    pub fn nostr(&self) -> Result<Option<trade::PartyKey>, ConfigError> {
        if self.nostr.is_empty() {
            return Ok(None);
        }
        let key = self.nostr.parse().map_err(|e| ConfigError::Value {
            key: "notify.nostr",
            message: format!("{:?} is no public key in hex: {e}", self.nostr),
        })?;
        Ok(Some(key))
    }
}

impl Default for Seed {
    fn default() -> Seed {
        Seed { passphrase: SecretRef("env:SOUK_PASSPHRASE".into()) }
    }
}

impl Default for Node {
    fn default() -> Node {
        Node {
            enabled: true,
            listen: vec![SocketAddr::from(([0, 0, 0, 0], 9735))],
            announce: Vec::new(),
            alias: "souk".into(),
            channel_min_sat: 20_000,
            channel_max_sat: 500_000_000,
        }
    }
}

impl Default for Board {
    fn default() -> Board {
        Board {
            enabled: false,
            listen: SocketAddr::from(([127, 0, 0, 1], 7447)),
            proxies: Proxies::default(),
            compression: true,
            urls: Vec::new(),
            name: "souk board".into(),
            description: "A market board".into(),
            operators: Vec::new(),
            contact: String::new(),
            metrics_listen: None,
            credentials: None,
            policy: Policy::default(),
            limits: Limits::default(),
        }
    }
}

impl Default for Limits {
    fn default() -> Limits {
        let limits = BoardLimits::default();
        Limits {
            connections: limits.connections,
            connections_per_address: limits.connections_per_address,
            subscriptions: limits.session.subscriptions,
            filter_values: limits.session.filter_values,
            events_per_filter: limits.session.limit,
            message_bytes: limits.session.frame.bytes,
            in_flight: limits.in_flight,
            pending_bytes: limits.pending_bytes,
            handshake_secs: limits.handshake.as_secs(),
            ping_secs: limits.ping.as_secs(),
            write_secs: limits.write.as_secs(),
            drain_secs: limits.drain.as_secs(),
        }
    }
}

impl Limits {
    /// Nothing may be zero, and a message has to hold an event.
    fn check(&self) -> Result<(), ConfigError> {
        let value = |key, message: String| Err(ConfigError::Value { key, message });
        let counts = [
            ("board.limits.connections", self.connections),
            ("board.limits.connections_per_address", self.connections_per_address),
            ("board.limits.subscriptions", self.subscriptions),
            ("board.limits.filter_values", self.filter_values),
            ("board.limits.in_flight", self.in_flight),
        ];
        let seconds = [
            ("board.limits.handshake_secs", self.handshake_secs),
            ("board.limits.ping_secs", self.ping_secs),
            ("board.limits.write_secs", self.write_secs),
            ("board.limits.drain_secs", self.drain_secs),
        ];
        if let Some((key, count)) = counts.into_iter().find(|(_, count)| !(1..=1_000_000).contains(count)) {
            return value(key, format!("{count} is not within 1 to 1000000"));
        }
        if let Some((key, secs)) = seconds.into_iter().find(|(_, secs)| !(1..=3600).contains(secs)) {
            return value(key, format!("{secs} is not within 1 to 3600"));
        }
        if !(1..=100_000).contains(&self.events_per_filter) {
            return value("board.limits.events_per_filter", "is not within 1 to 100000".into());
        }
        if !(MESSAGE_MIN..=MESSAGE_MAX).contains(&self.message_bytes) {
            let message = format!("{} is not within {MESSAGE_MIN} to {MESSAGE_MAX}", self.message_bytes);
            return value("board.limits.message_bytes", message);
        }
        if self.pending_bytes < self.message_bytes {
            return value("board.limits.pending_bytes", "is less than board.limits.message_bytes".into());
        }
        Ok(())
    }
}

impl Default for Trader {
    fn default() -> Trader {
        Trader {
            enabled: true,
            boards: Vec::new(),
            transport: Transport::Sealed,
            vault: true,
            link_identity: false,
            opened_per_hour: 600,
            credentials_sat_per_day: 0,
        }
    }
}

impl Trader {
    fn check(&self) -> Result<(), ConfigError> {
        if !(1..=OPENED_PER_HOUR_MAX).contains(&self.opened_per_hour) {
            let message = format!("{} is not within 1 to {OPENED_PER_HOUR_MAX}", self.opened_per_hour);
            return wrong("trader.opened_per_hour", message);
        }
        if self.credentials_sat_per_day > CREDENTIALS_MAX {
            let message = format!("{} is more than {CREDENTIALS_MAX} sat", self.credentials_sat_per_day);
            return wrong("trader.credentials_sat_per_day", message);
        }
        check_urls("trader.boards", &self.boards)
    }
}

impl SecretRef {
    /// Reads the secret from where the reference points; `None` when the reference is empty or the variable unset.
    pub fn read(&self, key: &'static str) -> Result<Option<String>, ConfigError> {
        if self.0.is_empty() {
            return Ok(None);
        }
        if let Some(name) = self.0.strip_prefix("env:") {
            return Ok(std::env::var(name).ok());
        }
        if let Some(path) = self.0.strip_prefix("file:") {
            let text = std::fs::read_to_string(path)
                .map_err(|e| ConfigError::Value { key, message: format!("cannot read {path}: {e}") })?;
            return Ok(Some(text.trim_end_matches(['\r', '\n']).to_owned()));
        }
        let message = "a secret is not written here: use \"env:NAME\" or \"file:/path\"".to_owned();
        Err(ConfigError::Value { key, message })
    }
}

fn read(path: &Path) -> Result<String, ConfigError> {
    std::fs::read_to_string(path).map_err(|source| ConfigError::Read { path: path.to_path_buf(), source })
}

fn parse<T: DeserializeOwned>(text: &str, path: &Path) -> Result<T, ConfigError> {
    let message = |e: toml::de::Error| e.to_string().trim_end().to_owned();
    toml::from_str(text).map_err(|e| ConfigError::Parse { path: path.to_path_buf(), message: message(e) })
}

fn wrong(key: &'static str, message: String) -> Result<(), ConfigError> {
    Err(ConfigError::Value { key, message })
}

fn check_urls(key: &'static str, urls: &[String]) -> Result<(), ConfigError> {
    match urls.iter().find(|url| !url.starts_with("ws://") && !url.starts_with("wss://")) {
        Some(url) => Err(ConfigError::Value { key, message: format!("{url:?} does not begin with ws:// or wss://") }),
        None => Ok(()),
    }
}

impl Board {
    /// What a bare board needs of the file at `path`: its `[board]`, or the defaults where there is no file.
    pub fn load(path: &Path) -> Result<Board, ConfigError> {
        if !path.exists() {
            return Ok(Board::default());
        }
        let file: BoardFile = parse(&read(path)?, path)?;
        file.board.check()?;
        Ok(file.board)
    }

    fn check(&self) -> Result<(), ConfigError> {
        for key in &self.operators {
            wire::parse_hex::<32>(key, "key").map_err(|_| ConfigError::Value {
                key: "board.operators",
                message: format!("{key:?} is not a public key: 64 lowercase hex digits"),
            })?;
        }
        self.limits.check()?;
        self.credentials.as_ref().map_or(Ok(()), Credentials::check)?;
        check_urls("board.urls", &self.urls)
    }
}

impl Config {
    /// Reads and checks a file.
    pub fn load(path: &Path) -> Result<Config, ConfigError> {
        Config::parse(&read(path)?, path)
    }

    /// Parses and checks; `path` is only named in errors.
    pub fn parse(text: &str, path: &Path) -> Result<Config, ConfigError> {
        let config: Config = parse(text, path)?;
        config.check().into_iter().collect::<Result<(), ConfigError>>()?;
        Ok(config)
    }

    /// Everything that is wrong with a file, in the order of its sections. What does not parse hides the rest.
    pub fn faults(path: &Path) -> Vec<ConfigError> {
        match read(path).and_then(|text| parse::<Config>(&text, path)) {
            Ok(config) => config.check().into_iter().filter_map(Result::err).collect(),
            Err(fault) => vec![fault],
        }
    }

    fn check(&self) -> Vec<Result<(), ConfigError>> {
        vec![
            self.check_chain(),
            self.check_alias(),
            self.check_channels(),
            self.board.check(),
            self.trader.check(),
            self.check_there_is_a_board(),
            check_urls("markets.relays", &self.markets.relays),
            self.arbiter.check(),
            self.fiat.check(self.network),
            self.notify.webhook().map(drop),
            self.notify.nostr().map(drop),
            self.api.listen().map(drop),
        ]
    }

    fn check_chain(&self) -> Result<(), ConfigError> {
        if !self.chain.url.starts_with("http://") && !self.chain.url.starts_with("https://") {
            return wrong("chain.url", format!("{:?} does not begin with http:// or https://", self.chain.url));
        }
        if !(10..=60_000).contains(&self.chain.poll_ms) {
            return wrong("chain.poll_ms", format!("{} is not within 10 to 60000", self.chain.poll_ms));
        }
        Ok(())
    }

    fn check_alias(&self) -> Result<(), ConfigError> {
        if self.node.alias.len() > 32 {
            return wrong("node.alias", "is longer than 32 bytes".into());
        }
        Ok(())
    }

    fn check_channels(&self) -> Result<(), ConfigError> {
        if self.node.channel_min_sat < 10_000 || self.node.channel_max_sat < self.node.channel_min_sat {
            let message = "channel_min_sat must be at least 10000 and at most channel_max_sat".into();
            return wrong("node.channel_min_sat", message);
        }
        Ok(())
    }

    fn check_there_is_a_board(&self) -> Result<(), ConfigError> {
        if (self.trader.enabled || self.arbiter.enabled) && self.trader.boards.is_empty() && !self.board.enabled {
            return wrong("trader.boards", "name at least one board, or run one with board.enabled = true".into());
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Config, ConfigError> {
        Config::parse(text, Path::new("souk.toml"))
    }

    #[test]
    fn an_arbiter_charges_a_fixed_part_and_a_part_of_the_price() {
        let charge = |fee, fee_ppm, price| Arbiter { fee, fee_ppm, ..Arbiter::default() }.charge(Sat(price)).0;
        assert_eq!(charge(0, 0, 40_000), 0);
        assert_eq!(charge(250, 5_000, 40_000), 450);
        assert_eq!(charge(0, 1, 999_999), 0, "rounded down");
        assert_eq!(charge(u64::MAX, 1_000_000, u64::MAX), u64::MAX);
        for (line, key) in [("fee = 100000001", "arbiter.fee"), ("fee_ppm = 1000001", "arbiter.fee_ppm")] {
            let text = SAMPLE.replace("policy = \"\"", &format!("policy = \"\"\n{line}"));
            let text = text.replace("\nfee = 0\n", "\n").replace("\nfee_ppm = 0\n", "\n");
            assert!(parse(&text).unwrap_err().to_string().starts_with(key), "{line}");
        }
    }

    #[test]
    fn a_bare_board_reads_its_section_alone_and_as_strictly() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("souk.toml");
        let load = |text: &str| {
            std::fs::write(&path, text).unwrap();
            Board::load(&path).map(|board| board.name).map_err(|e| e.to_string())
        };
        assert_eq!(Board::load(&dir.path().join("none")).unwrap().name, Board::default().name);
        assert_eq!(load("[board]\nname = \"x\""), Ok("x".into()));
        assert_eq!(load(SAMPLE), Ok(Board::default().name));
        for (text, needle) in [
            ("[baord]\nname = \"x\"", "baord"),
            ("[board]\nnaem = \"x\"", "naem"),
            ("[board]\nurls = [\"http://x\"]", "ws://"),
        ] {
            assert!(load(text).unwrap_err().contains(needle), "{text}");
        }
    }

    #[test]
    fn the_sample_is_the_default() {
        let config = parse(SAMPLE).unwrap();
        assert_eq!(config.node.alias, Node::default().alias);
        assert_eq!(config.node.listen, Node::default().listen);
        assert_eq!(config.node.channel_max_sat, Node::default().channel_max_sat);
        let (board, default) = (&config.board, Board::default());
        assert_eq!((board.listen, &board.limits), (default.listen, &default.limits));
        assert_eq!(board.policy, default.policy);
        assert_eq!(config.trader.transport, Trader::default().transport);
        assert_eq!(config.trader.opened_per_hour, Trader::default().opened_per_hour);
        assert_eq!(config.trader.credentials_sat_per_day, Trader::default().credentials_sat_per_day);
        assert_eq!(config.chain.poll_ms, poll_ms());
        assert_eq!(config.fiat, FiatConfig::default());
    }

    #[test]
    fn an_unknown_key_is_named_with_its_line() {
        let error = parse(&SAMPLE.replace("alias =", "alais =")).unwrap_err().to_string();
        assert!(error.contains("alais") && error.contains("alias") && error.contains("line"), "{error}");
    }

    #[test]
    fn a_secret_in_the_file_is_refused() {
        let error = SecretRef("hunter2".into()).read("seed.passphrase").unwrap_err().to_string();
        assert!(error.contains("env:NAME") && !error.contains("hunter2"), "{error}");
    }

    #[test]
    fn each_wrong_value_is_named_not_only_the_first() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("souk.toml");
        let faults = |text: &str| {
            std::fs::write(&path, text).unwrap();
            Config::faults(&path).iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        assert!(faults(SAMPLE).is_empty());
        let text = SAMPLE.replace("poll_ms = 2000", "poll_ms = 1").replace("nostr = \"\"", "nostr = \"npub1\"");
        let found = faults(&text.replace("subscriptions = 64", "subscriptions = 0"));
        let keys: Vec<&str> = found.iter().filter_map(|fault| fault.split(':').next()).collect();
        assert_eq!(keys, ["chain.poll_ms", "board.limits.subscriptions", "notify.nostr"], "{found:?}");
    }

    #[test]
    fn a_value_out_of_bounds_says_what_is_allowed() {
        for (from, to, needle) in [
            ("poll_ms = 2000", "poll_ms = 1", "10 to 60000"),
            ("subscriptions = 64", "subscriptions = 0", "board.limits.subscriptions"),
            ("message_bytes = 524288", "message_bytes = 10", "4096 to"),
            ("url = \"http", "url = \"ftp", "http:// or https://"),
            ("boards = [\"ws", "boards = [\"http", "ws:// or wss://"),
            ("opened_per_hour = 600", "opened_per_hour = 0", "1 to 10000"),
            ("credentials_sat_per_day = 0", "credentials_sat_per_day = 2000000", "1000000 sat"),
            ("webhook = \"\"", "webhook = \"ftp://x\"", "https://"),
            ("nostr = \"\"", "nostr = \"npub1\"", "hex"),
        ] {
            let error = parse(&SAMPLE.replace(from, to)).unwrap_err().to_string();
            assert!(error.contains(needle), "{error}");
        }
    }
}

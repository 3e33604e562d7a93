//! From a parsed configuration to what the parts are started with: secrets are read, names looked up.

use std::net::ToSocketAddrs;
use std::path::Path;
use std::time::Duration;

use board::{BoardConfig, BoardLimits};
use node_ldk::{Birthday, ChainConfig, InboundPolicy, LdkConfig};
use units::Sat;

use crate::config::{self, ChainSource, Config, ConfigError, Network};

/// The embedded node's configuration.
pub(crate) fn ldk(config: &Config, data_dir: &Path) -> Result<LdkConfig, ConfigError> {
    let network = config.network.into();
    let mut ldk = LdkConfig::new(data_dir.join("node"), network, chain(config)?);
    ldk.listen.clone_from(&config.node.listen);
    ldk.alias.clone_from(&config.node.alias);
    ldk.inbound = InboundPolicy {
        min: Sat(config.node.channel_min_sat),
        max: Sat(config.node.channel_max_sat),
        ..InboundPolicy::default()
    };
    // A wallet that is brought back has a past.
    if let Some(height) = crate::restore::birthday(data_dir) {
        ldk.birthday = Birthday::At(height);
    }
    for name in &config.node.announce {
        let trouble = |why: String| ConfigError::Value { key: "node.announce", message: format!("{name:?}: {why}") };
        let mut addresses = name.to_socket_addrs().map_err(|e| trouble(e.to_string()))?;
        ldk.announce.push(addresses.next().ok_or_else(|| trouble("has no address".into()))?);
    }
    Ok(ldk)
}

/// The configuration of a board of `network`.
pub(crate) fn board(section: &config::Board, network: Network, data_dir: &Path) -> BoardConfig {
    let operators: Vec<[u8; 32]> =
        section.operators.iter().filter_map(|key| wire::parse_hex(key, "key").ok()).collect();
    BoardConfig {
        policy: section.policy.clone(),
        network: network.into(),
        limits: limits(&section.limits),
        pubkey: operators.first().copied(),
        operators,
        contact: (!section.contact.is_empty()).then(|| section.contact.clone()),
        proxies: section.proxies.clone(),
        compression: section.compression,
        urls: section.urls.clone(),
        name: section.name.clone(),
        description: section.description.clone(),
        ..BoardConfig::new(data_dir.join("board"), section.listen)
    }
}

fn limits(section: &config::Limits) -> BoardLimits {
    let mut limits = BoardLimits {
        connections: section.connections,
        connections_per_address: section.connections_per_address,
        handshake: Duration::from_secs(section.handshake_secs),
        ping: Duration::from_secs(section.ping_secs),
        write: Duration::from_secs(section.write_secs),
        drain: Duration::from_secs(section.drain_secs),
        pending_bytes: section.pending_bytes,
        in_flight: section.in_flight,
        ..BoardLimits::default()
    };
    limits.session.subscriptions = section.subscriptions;
    limits.session.filter_values = section.filter_values;
    limits.session.limit = section.events_per_filter;
    limits.session.frame.bytes = section.message_bytes;
    limits
}

fn chain(config: &Config) -> Result<ChainConfig, ConfigError> {
    let chain = &config.chain;
    let poll = Duration::from_millis(chain.poll_ms);
    Ok(match chain.source {
        ChainSource::Bitcoind => ChainConfig::Bitcoind {
            url: chain.url.clone(),
            user: chain.user.clone(),
            password: chain.password.read("chain.password")?.unwrap_or_default(),
            poll,
        },
        ChainSource::Esplora => ChainConfig::Esplora { url: chain.url.clone(), poll },
    })
}

impl From<Network> for bitcoin::Network {
    fn from(network: Network) -> bitcoin::Network {
        match network {
            Network::Bitcoin => bitcoin::Network::Bitcoin,
            Network::Testnet => bitcoin::Network::Testnet,
            Network::Signet => bitcoin::Network::Signet,
            Network::Regtest => bitcoin::Network::Regtest,
        }
    }
}

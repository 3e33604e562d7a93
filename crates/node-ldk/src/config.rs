//! What an embedded node is told at its start.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use bitcoin::Network;
use bitcoin::secp256k1::PublicKey;
use lightning::ln::channelmanager::MIN_CLTV_EXPIRY_DELTA;
use lightning::util::config::{
    ChannelConfig, ChannelHandshakeConfig, ChannelHandshakeLimits, MaxDustHTLCExposure, UserConfig,
};
use units::Sat;

use crate::chain::ChainConfig;
use crate::wallet::Birthday;

/// HTLCs that one channel can hold for us at a time (BOLT#2 allows 483): each escrow occupies one.
pub const HTLC_SLOTS: u16 = 483;

/// How an embedded node runs.
#[derive(Clone, Debug)]
pub struct LdkConfig {
    /// Folder of the node's files; created when absent. One running node per folder.
    pub data_dir: PathBuf,
    /// The Bitcoin network.
    pub network: Network,
    /// Where blocks come from.
    pub chain: ChainConfig,
    /// Addresses to accept peers on; port 0 picks a free one. Empty: outbound connections only.
    pub listen: Vec<SocketAddr>,
    /// Addresses told to the network and shown in `info`; empty for those of `listen`.
    pub announce: Vec<SocketAddr>,
    /// Name told to the network, up to 32 bytes of UTF-8.
    pub alias: String,
    /// Which channels others may open to us.
    pub inbound: InboundPolicy,
    /// What we ask for forwarding.
    pub fees: ForwardFees,
    /// From where a wallet without a file looks for its coins.
    pub birthday: Birthday,
    /// Confirmations before a channel is used.
    pub funding_confirmations: u32,
    /// HTLCs wait up to this long for others to be forwarded or received with; hides a little timing from observers.
    pub htlc_batch_delay: Duration,
    /// Look every announced channel up on chain before it enters the graph; off when the lookups would cost too much.
    pub check_gossip: bool,
}

/// Which channels others may open to us.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InboundPolicy {
    /// Smallest channel accepted.
    pub min: Sat,
    /// Largest channel accepted.
    pub max: Sat,
    /// Peers whose channels are used before they confirm, and accepted without a reserve: they could take back what
    /// they sent through a channel that never confirms.
    pub trusted: BTreeSet<PublicKey>,
    /// Refuse a channel when the wallet does not hold the reserve for one more.
    pub require_reserve: bool,
}

/// What a payment pays us for being forwarded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ForwardFees {
    /// Fixed part, in millisatoshis.
    pub base_msat: u32,
    /// Proportional part, in millionths.
    pub proportional_millionths: u32,
    /// Blocks kept between the incoming and the outgoing HTLC; at least 48.
    pub cltv_expiry_delta: u16,
}

impl Default for InboundPolicy {
    fn default() -> InboundPolicy {
        InboundPolicy { min: Sat(20_000), max: Sat(10_000_000_000), trusted: BTreeSet::new(), require_reserve: true }
    }
}

impl Default for ForwardFees {
    fn default() -> ForwardFees {
        ForwardFees { base_msat: 1_000, proportional_millionths: 100, cltv_expiry_delta: 80 }
    }
}

impl LdkConfig {
    /// A node in `data_dir` that listens nowhere and keeps to the defaults.
    pub fn new(data_dir: PathBuf, network: Network, chain: ChainConfig) -> LdkConfig {
        LdkConfig {
            data_dir,
            network,
            chain,
            listen: Vec::new(),
            announce: Vec::new(),
            alias: "souk".into(),
            inbound: InboundPolicy::default(),
            fees: ForwardFees::default(),
            birthday: Birthday::Now,
            funding_confirmations: 3,
            htlc_batch_delay: Duration::ZERO,
            check_gossip: true,
        }
    }

    /// The same in LDK's words. Every channel is accepted or refused by hand, see [`InboundPolicy`].
    pub(crate) fn user_config(&self) -> UserConfig {
        UserConfig {
            channel_handshake_config: ChannelHandshakeConfig {
                minimum_depth: self.funding_confirmations,
                // Holds may fill a channel: neither the count nor the value is capped below what the BOLTs allow.
                our_max_accepted_htlcs: HTLC_SLOTS,
                max_inbound_htlc_value_in_flight_percent_of_channel: 100,
                negotiate_anchors_zero_fee_htlc_tx: true,
                ..ChannelHandshakeConfig::default()
            },
            channel_handshake_limits: ChannelHandshakeLimits {
                min_funding_satoshis: self.inbound.min.0,
                max_funding_satoshis: self.inbound.max.0,
                // Public and private channels alike.
                force_announced_channel_preference: false,
                trust_own_funding_0conf: true,
                ..ChannelHandshakeLimits::default()
            },
            channel_config: ChannelConfig {
                forwarding_fee_base_msat: self.fees.base_msat,
                forwarding_fee_proportional_millionths: self.fees.proportional_millionths,
                cltv_expiry_delta: self.fees.cltv_expiry_delta.max(MIN_CLTV_EXPIRY_DELTA),
                max_dust_htlc_exposure: MaxDustHTLCExposure::FeeRateMultiplier(10_000),
                ..ChannelConfig::default()
            },
            accept_forwards_to_priv_channels: true,
            manually_accept_inbound_channels: true,
            ..UserConfig::default()
        }
    }
}

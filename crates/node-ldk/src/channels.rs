//! Channels: opening, funding, the policy for inbound ones, closing, and how they are shown.

use std::str::FromStr;
use std::time::Duration;

use bitcoin::ScriptBuf;
use bitcoin::hex::FromHex;
use bitcoin::secp256k1::PublicKey;
use lightning::events::FundingInfo;
use lightning::ln::channel_state::{ChannelDetails, ChannelShutdownState};
use lightning::ln::types::ChannelId as LdkChannelId;
use lightning::util::errors::APIError;
use node::{Channel, ChannelId, ChannelState, NodeError, OpenChannel, Result};
use tokio::sync::oneshot;
use units::{Msat, Sat};

use crate::core::Core;

/// How long a peer may take to agree to a channel.
const OPEN_TIMEOUT: Duration = Duration::from_secs(60);
/// Channels being opened at a time.
const OPENS_MAX: usize = 64;
/// What a funding transaction may cost, set aside before it is built.
const FUNDING_FEE_GUESS: Sat = Sat(2_000);

/// The public handle of a channel.
pub(crate) fn handle_of(channel: LdkChannelId) -> ChannelId {
    ChannelId(channel.to_string())
}

/// Reads a compressed public key in hex.
pub(crate) fn parse_node_id(text: &str) -> Result<PublicKey> {
    PublicKey::from_str(text).map_err(|_| NodeError::Rejected(format!("{text:?} is not a node id (66 hex characters)")))
}

fn parse_handle(channel: &ChannelId) -> Result<LdkChannelId> {
    let bytes = <[u8; 32]>::from_hex(&channel.0);
    bytes.map(LdkChannelId).map_err(|_| NodeError::NotFound(format!("channel {}", channel.0)))
}

fn refusal(error: APIError) -> NodeError {
    match error {
        APIError::ChannelUnavailable { err } => NodeError::Unreachable(err),
        APIError::MonitorUpdateInProgress => NodeError::Unreachable("the channel is busy".into()),
        APIError::APIMisuseError { err } | APIError::InvalidRoute { err } | APIError::FeeRateTooHigh { err, .. } => {
            NodeError::Rejected(err)
        }
        APIError::IncompatibleShutdownScript { .. } => NodeError::Rejected("the peer refuses our address".into()),
    }
}

impl Core {
    /// Opens a channel and waits until the peer signed and the funding transaction is on its way.
    pub(crate) async fn open_channel(&self, request: OpenChannel) -> Result<ChannelId> {
        let peer = parse_node_id(&request.peer)?;
        if self.peer_manager.peer_by_node_id(&peer).is_none() {
            return Err(NodeError::Unreachable(format!("not connected to {peer}")));
        }
        self.afford(request.capacity)?;
        let mut config = self.config.user_config();
        config.channel_handshake_config.announce_for_forwarding = request.announced;
        let user_id = self.fresh_user_id();
        let (agreed, waiting) = oneshot::channel();
        {
            let mut opens = self.opens();
            opens.retain(|_, waiting| !waiting.is_closed());
            if opens.len() >= OPENS_MAX {
                return Err(NodeError::Unreachable("too many channels are being opened".into()));
            }
            opens.insert(user_id, agreed);
        }
        let created =
            self.manager.create_channel(peer, request.capacity.0, request.push.0, user_id, None, Some(config));
        if let Err(error) = created {
            self.opens().remove(&user_id);
            return Err(refusal(error));
        }
        match tokio::time::timeout(OPEN_TIMEOUT, waiting).await {
            Ok(Ok(answer)) => answer.map(handle_of),
            Ok(Err(_)) => Err(NodeError::Unknown("the node stopped".into())),
            Err(_) => Err(NodeError::Unknown("the peer has not answered yet: look at the channels".into())),
        }
    }

    /// Is there enough on chain for the channel, its fee and the reserve?
    fn afford(&self, capacity: Sat) -> Result<()> {
        let reserve = self.reserve_for(self.anchor_channels() + 1);
        let spendable = self.spendable();
        let needed = Sat(capacity.0.saturating_add(reserve.0).saturating_add(FUNDING_FEE_GUESS.0));
        if spendable >= needed {
            return Ok(());
        }
        Err(NodeError::Rejected(format!(
            "not enough on chain: the channel of {capacity} sat needs about {needed} sat with its fee and the reserve \
             of {reserve} sat that claims held payments when fees rise; spendable are {spendable} sat"
        )))
    }

    /// The wallet's coins that must stay for `channels` channels.
    pub(crate) fn reserve_for(&self, channels: usize) -> Sat {
        self.wallet.reserve(u32::try_from(channels).unwrap_or(u32::MAX))
    }

    /// Channels whose claims are paid from the wallet.
    pub(crate) fn anchor_channels(&self) -> usize {
        let channels = self.manager.list_channels();
        channels
            .iter()
            .filter(|channel| channel.channel_type.as_ref().is_none_or(|kind| kind.supports_anchors_zero_fee_htlc_tx()))
            .count()
    }

    /// May a peer open a channel of this size to us?
    pub(crate) fn judge_inbound(&self, trusted: bool, funding_sat: u64) -> std::result::Result<(), String> {
        let policy = &self.config.inbound;
        if funding_sat < policy.min.0 {
            return Err(format!("channel too small: at least {} sat", policy.min.0));
        }
        if funding_sat > policy.max.0 {
            return Err(format!("channel too large: at most {} sat", policy.max.0));
        }
        // The requested channel itself is not listed yet.
        let reserve = self.reserve_for(self.anchor_channels() + 1);
        if policy.require_reserve && !trusted && self.spendable() < reserve {
            return Err("no on-chain reserve for another channel".into());
        }
        Ok(())
    }

    /// The peer agreed: build the funding transaction. LDK broadcasts it when the peer has signed.
    pub(crate) fn fund(
        &self,
        temporary: LdkChannelId,
        peer: PublicKey,
        value_sat: u64,
        script: ScriptBuf,
        user_id: u128,
    ) {
        let funded = self.funding_transaction(script, Sat(value_sat)).and_then(|transaction| {
            self.manager.funding_transaction_generated(temporary, peer, transaction).map_err(refusal)
        });
        if let Err(error) = funded {
            self.opened(user_id, Err(error));
            let words = "the opener could not fund the channel".to_owned();
            if let Err(error) = self.manager.force_close_broadcasting_latest_txn(&temporary, &peer, words) {
                tracing::debug!(?error, "channel to be dropped is gone");
            }
        }
    }

    /// Tells whoever opens the channel.
    pub(crate) fn opened(&self, user_id: u128, outcome: Result<LdkChannelId>) {
        if let Some(waiting) = self.opens().remove(&user_id) {
            // Fails only when the caller went away.
            drop(waiting.send(outcome));
        }
    }

    /// The funding transaction will never be used: its inputs are free again.
    pub(crate) fn discard_funding(&self, channel: LdkChannelId, funding: &FundingInfo) {
        tracing::debug!(%channel, "funding discarded");
        if let FundingInfo::Tx { transaction } = funding {
            self.release(transaction);
        }
    }

    /// Closes a channel. With `force`, its last commitment goes on chain, held payments included.
    pub(crate) fn close_channel(&self, channel: &ChannelId, force: bool) -> Result<()> {
        let id = parse_handle(channel)?;
        let channels = self.manager.list_channels();
        let found = channels.iter().find(|details| details.channel_id == id);
        let details = found.ok_or_else(|| NodeError::NotFound(format!("channel {}", channel.0)))?;
        let peer = details.counterparty.node_id;
        if force {
            let words = "closed by its owner".to_owned();
            return self.manager.force_close_broadcasting_latest_txn(&id, &peer, words).map_err(refusal);
        }
        if closing(details) {
            return Ok(());
        }
        self.manager.close_channel(&id, &peer).map_err(refusal)
    }

    pub(crate) fn channels(&self) -> Vec<Channel> {
        self.manager.list_channels().iter().map(view).collect()
    }
}

fn closing(details: &ChannelDetails) -> bool {
    let state = details.channel_shutdown_state;
    state.is_some_and(|state| !matches!(state, ChannelShutdownState::NotShuttingDown))
}

fn view(details: &ChannelDetails) -> Channel {
    let state = if closing(details) {
        ChannelState::Closing
    } else if details.is_channel_ready {
        ChannelState::Open
    } else {
        ChannelState::Opening
    };
    Channel {
        id: handle_of(details.channel_id),
        peer: details.counterparty.node_id.to_string(),
        state,
        usable: details.is_usable,
        announced: details.is_announced,
        capacity: Sat(details.channel_value_satoshis),
        outbound: Msat(details.outbound_capacity_msat),
        inbound: Msat(details.inbound_capacity_msat),
        htlcs: details.pending_inbound_htlcs.len() + details.pending_outbound_htlcs.len(),
        funding: details.funding_txo.map(|outpoint| format!("{}:{}", outpoint.txid, outpoint.index)),
    }
}

//! LDK's keys with one change: what comes back on chain goes to the wallet instead of to keys that only LDK knows.

use std::time::SystemTime;

use bitcoin::absolute::LockTime;
use bitcoin::secp256k1::ecdh::SharedSecret;
use bitcoin::secp256k1::ecdsa::{RecoverableSignature, Signature};
use bitcoin::secp256k1::{All, PublicKey, Scalar, Secp256k1, schnorr};
use bitcoin::{ScriptBuf, Transaction, TxOut};
use keys::Seed;
use lightning::ln::inbound_payment::ExpandedKey;
use lightning::ln::msgs::UnsignedGossipMessage;
use lightning::ln::script::ShutdownScript;
use lightning::offers::invoice::UnsignedBolt12Invoice;
use lightning::sign::{
    EntropySource, InMemorySigner, KeysManager, NodeSigner, OutputSpender, PeerStorageKey, ReceiveAuthKey, Recipient,
    SignerProvider, SpendableOutputDescriptor,
};
use lightning_invoice::RawBolt11Invoice;

use crate::wallet::Wallet;

/// The node's signer. Everything is LDK's [`KeysManager`] from `m/535'` of the seed, except the scripts that closed channels pay to.
///
/// Because those are the wallet's, a `SpendableOutputDescriptor::StaticOutput` needs no sweep: track spendable outputs with
/// `exclude_static_outputs = true`. Closing scripts are taproot, which a peer must know (`option_shutdown_anysegwit`; all do).
pub struct Keys {
    ldk: KeysManager,
    wallet: Wallet,
}

impl Keys {
    /// The keys of this seed. The clock only makes LDK's random bytes differ between starts.
    pub fn new(seed: &Seed, wallet: Wallet) -> Keys {
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        // The last argument: scripts of funds that a peer's force close pays us can be found from the seed alone.
        let ldk = KeysManager::new(&seed.lightning(), since.as_secs(), since.subsec_nanos(), true);
        Keys { ldk, wallet }
    }

    /// LDK's own, for what is not in a trait (node secret, static payment scripts).
    pub fn ldk(&self) -> &KeysManager {
        &self.ldk
    }
}

impl EntropySource for Keys {
    fn get_secure_random_bytes(&self) -> [u8; 32] {
        self.ldk.get_secure_random_bytes()
    }
}

impl NodeSigner for Keys {
    fn get_expanded_key(&self) -> ExpandedKey {
        self.ldk.get_expanded_key()
    }

    fn get_peer_storage_key(&self) -> PeerStorageKey {
        self.ldk.get_peer_storage_key()
    }

    fn get_receive_auth_key(&self) -> ReceiveAuthKey {
        self.ldk.get_receive_auth_key()
    }

    fn get_node_id(&self, recipient: Recipient) -> Result<PublicKey, ()> {
        self.ldk.get_node_id(recipient)
    }

    fn ecdh(&self, recipient: Recipient, other: &PublicKey, tweak: Option<&Scalar>) -> Result<SharedSecret, ()> {
        self.ldk.ecdh(recipient, other, tweak)
    }

    fn sign_invoice(&self, invoice: &RawBolt11Invoice, recipient: Recipient) -> Result<RecoverableSignature, ()> {
        self.ldk.sign_invoice(invoice, recipient)
    }

    fn sign_bolt12_invoice(&self, invoice: &UnsignedBolt12Invoice) -> Result<schnorr::Signature, ()> {
        self.ldk.sign_bolt12_invoice(invoice)
    }

    fn sign_gossip_message(&self, message: UnsignedGossipMessage<'_>) -> Result<Signature, ()> {
        self.ldk.sign_gossip_message(message)
    }

    fn sign_message(&self, message: &[u8]) -> Result<String, ()> {
        self.ldk.sign_message(message)
    }
}

impl OutputSpender for Keys {
    fn spend_spendable_outputs(
        &self,
        descriptors: &[&SpendableOutputDescriptor],
        outputs: Vec<TxOut>,
        change: ScriptBuf,
        sat_per_1000_weight: u32,
        locktime: Option<LockTime>,
        secp: &Secp256k1<All>,
    ) -> Result<Transaction, ()> {
        self.ldk.spend_spendable_outputs(descriptors, outputs, change, sat_per_1000_weight, locktime, secp)
    }
}

impl SignerProvider for Keys {
    type EcdsaSigner = InMemorySigner;

    fn generate_channel_keys_id(&self, inbound: bool, user_channel_id: u128) -> [u8; 32] {
        self.ldk.generate_channel_keys_id(inbound, user_channel_id)
    }

    fn derive_channel_signer(&self, channel_keys_id: [u8; 32]) -> InMemorySigner {
        self.ldk.derive_channel_signer(channel_keys_id)
    }

    fn get_destination_script(&self, channel_keys_id: [u8; 32]) -> Result<ScriptBuf, ()> {
        let script = self.wallet.destination_script(&channel_keys_id);
        script.map_err(|error| tracing::error!(%error, "no destination script for a channel"))
    }

    fn get_shutdown_scriptpubkey(&self) -> Result<ShutdownScript, ()> {
        let script = self.wallet.closing_script();
        let script = script.map_err(|error| tracing::error!(%error, "no closing script for a channel"))?;
        ShutdownScript::try_from(script).map_err(|error| tracing::error!(?error, "closing script is not BOLT#2's"))
    }
}

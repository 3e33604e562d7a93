//! The wallet as LDK wants it: coins for fee bumps, scripts for what comes back.

use bdk_wallet::SignOptions;
use bitcoin::{Psbt, ScriptBuf, Transaction};
use lightning::events::bump_transaction::{Utxo, WalletSource};
use lightning::sign::ChangeDestinationSource;
use lightning::util::async_poll::AsyncResult;

use super::{Ordering, Result, Wallet, WalletError};

/// An empty script sig, and a witness of one 64-byte Schnorr signature (BIP-341 key path, default sighash).
const TAPROOT_SATISFACTION_WEIGHT: u64 = 4 + 1 + 1 + 64;

impl Wallet {
    /// Where a channel's force-closed outputs go; the same channel always asks for the same slot.
    pub(crate) fn destination_script(&self, channel_keys_id: &[u8; 32]) -> Result<ScriptBuf> {
        let pick =
            channel_keys_id.iter().fold(0usize, |sum, byte| sum.wrapping_mul(31).wrapping_add(usize::from(*byte)));
        self.channel_script(pick)
    }

    /// Where a cooperative close or a sweep goes.
    pub(crate) fn closing_script(&self) -> Result<ScriptBuf> {
        self.channel_script(self.0.rotation.fetch_add(1, Ordering::Relaxed) as usize)
    }

    fn confirmed_coins(&self) -> Vec<Utxo> {
        let (usable, _) = self.state().coins();
        usable
            .into_iter()
            .filter(|coin| coin.chain_position.is_confirmed())
            .map(|coin| Utxo {
                outpoint: coin.outpoint,
                output: coin.txout,
                satisfaction_weight: TAPROOT_SATISFACTION_WEIGHT,
            })
            .collect()
    }

    /// Signs our inputs of a transaction that also has inputs of others, whose outputs the PSBT names.
    fn sign_ours(&self, mut psbt: Psbt) -> Result<Transaction> {
        // The values are ours or of channels LDK knows: a witness UTXO is to be trusted.
        let options = SignOptions { trust_witness_utxo: true, ..SignOptions::default() };
        let signers: Vec<_> = self.0.signers.iter().collect();
        let signed = self.state().bdk.sign_with_signers(&mut psbt, &signers, options);
        signed.map_err(|error| WalletError::Fault(error.to_string()))?;
        Ok(psbt.extract_tx_unchecked_fee_rate())
    }
}

fn logged<T>(what: &'static str, result: Result<T>) -> std::result::Result<T, ()> {
    result.map_err(|error| tracing::error!(%error, what, "wallet cannot serve LDK"))
}

impl WalletSource for Wallet {
    fn list_confirmed_utxos(&self) -> AsyncResult<'_, Vec<Utxo>, ()> {
        Box::pin(async move { Ok(self.confirmed_coins()) })
    }

    fn get_change_script(&self) -> AsyncResult<'_, ScriptBuf, ()> {
        Box::pin(async move { logged("change script", self.closing_script()) })
    }

    fn sign_psbt(&self, psbt: Psbt) -> AsyncResult<'_, Transaction, ()> {
        Box::pin(async move { logged("signature", self.sign_ours(psbt)) })
    }
}

impl ChangeDestinationSource for Wallet {
    fn get_change_destination_script(&self) -> AsyncResult<'_, ScriptBuf, ()> {
        Box::pin(async move { logged("sweep script", self.closing_script()) })
    }
}

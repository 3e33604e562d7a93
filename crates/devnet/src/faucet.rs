//! The chain's own purse: one P2WPKH key that mines by default and pays whoever asks.

use bitcoin::absolute::LockTime;
use bitcoin::hashes::{Hash, sha256};
use bitcoin::secp256k1::{All, Message, Secp256k1, SecretKey};
use bitcoin::sighash::{EcdsaSighashType, SighashCache};
use bitcoin::transaction::Version;
use bitcoin::{
    Address, Amount, CompressedPublicKey, Network, OutPoint, ScriptBuf, Sequence, Transaction, TxIn, TxOut, Witness,
    ecdsa,
};

use crate::chain::Chain;
use crate::consensus::COINBASE_MATURITY;
use crate::index::ScriptId;
use crate::mempool::Mempool;
use crate::policy::{MAX_CHAIN_COUNT, fee_for};

/// Where the faucet's key comes from: worthless coins need no secret, and the same key finds its coins after a restart.
const SEED: &[u8] = b"souk devnet faucet";
/// Most coins in one payment, so that it stays a standard transaction.
const MAX_INPUTS: usize = 500;
/// Virtual bytes of a transaction without inputs and outputs, of one P2WPKH input and of one P2WPKH output, rounded up.
const VBYTES: (u64, u64, u64) = (11, 69, 31);

/// Why the faucet did not pay.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FaucetError {
    /// The amount is below the dust limit of the address.
    #[error("Transaction amount too small")]
    Dust,
    /// Not enough mature coins.
    #[error("Insufficient funds")]
    Insufficient,
    /// The payment was built and refused; a bug here or a full mempool.
    #[error("{0}")]
    Refused(#[from] crate::error::TxError),
}

/// The key and its script.
#[derive(Clone)]
pub struct Faucet {
    key: SecretKey,
    public: CompressedPublicKey,
    script: ScriptBuf,
    secp: Secp256k1<All>,
}

#[derive(Clone, Debug)]
struct Purse {
    outpoint: OutPoint,
    value: Amount,
    confirmed: bool,
}

impl std::fmt::Debug for Faucet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Faucet({})", self.address())
    }
}

impl Default for Faucet {
    fn default() -> Self {
        Self::new()
    }
}

impl Faucet {
    /// The faucet; there is only one.
    pub fn new() -> Faucet {
        let secp = Secp256k1::new();
        let key = SecretKey::from_slice(&sha256::Hash::hash(SEED).to_byte_array())
            .expect("this hash is below the group order");
        let public = CompressedPublicKey(key.public_key(&secp));
        let script = ScriptBuf::new_p2wpkh(&public.wpubkey_hash());
        Faucet { key, public, script, secp }
    }

    /// The script that pays the faucet.
    pub fn script(&self) -> &ScriptBuf {
        &self.script
    }

    /// The address that pays the faucet.
    pub fn address(&self) -> Address {
        Address::p2wpkh(&self.public, Network::Regtest)
    }

    /// What it could spend in the next block.
    pub fn balance(&self, chain: &Chain, mempool: &Mempool) -> Amount {
        self.coins(chain, mempool).iter().map(|coin| coin.value).sum()
    }

    /// A signed payment of `amount` to `script` at `feerate` (sat/kvB), with change. Nothing is sent yet.
    pub fn pay(
        &self,
        chain: &Chain,
        mempool: &Mempool,
        script: ScriptBuf,
        amount: Amount,
        feerate: u64,
    ) -> Result<Transaction, FaucetError> {
        if amount < script.minimal_non_dust() {
            return Err(FaucetError::Dust);
        }
        let (base, per_input, per_output) = VBYTES;
        let outputs = base + per_output + 9 + script.len() as u64;
        let (mut chosen, mut total) = (Vec::new(), Amount::ZERO);
        let mut coins = self.coins(chain, mempool).into_iter().take(MAX_INPUTS);
        let change = loop {
            let fee = Amount::from_sat(fee_for(feerate, outputs + per_input * chosen.len() as u64));
            if let Some(rest) = total.checked_sub(amount + fee).filter(|_| !chosen.is_empty()) {
                break rest;
            }
            let coin = coins.next().ok_or(FaucetError::Insufficient)?;
            total += coin.value;
            chosen.push(coin);
        };
        let mut output = vec![TxOut { value: amount, script_pubkey: script }];
        if change >= self.script.minimal_non_dust() {
            output.push(TxOut { value: change, script_pubkey: self.script.clone() });
        }
        let input = |coin: &Purse| TxIn {
            previous_output: coin.outpoint,
            script_sig: ScriptBuf::new(),
            sequence: Sequence::ENABLE_RBF_NO_LOCKTIME,
            witness: Witness::new(),
        };
        let mut tx = Transaction {
            version: Version::TWO,
            lock_time: LockTime::ZERO,
            input: chosen.iter().map(input).collect(),
            output,
        };
        self.sign(&mut tx, &chosen);
        Ok(tx)
    }

    fn sign(&self, tx: &mut Transaction, coins: &[Purse]) {
        let mut witnesses = Vec::with_capacity(coins.len());
        let mut cache = SighashCache::new(&*tx);
        for (index, coin) in coins.iter().enumerate() {
            let hash = cache
                .p2wpkh_signature_hash(index, &self.script, coin.value, EcdsaSighashType::All)
                .expect("the script is P2WPKH and the index is in range");
            let signature = self.secp.sign_ecdsa(&Message::from_digest(hash.to_byte_array()), &self.key);
            let signature = ecdsa::Signature { signature, sighash_type: EcdsaSighashType::All };
            witnesses.push(Witness::p2wpkh(&signature, &self.public.0));
        }
        for (input, witness) in tx.input.iter_mut().zip(witnesses) {
            input.witness = witness;
        }
    }

    /// Spendable coins: confirmed ones first and the largest first among them, then own unconfirmed change.
    fn coins(&self, chain: &Chain, mempool: &Mempool) -> Vec<Purse> {
        let next = chain.height() + 1;
        let mut coins = Vec::new();
        let confirmed = chain.script(&ScriptId::of(&self.script)).map(|history| &history.unspent);
        for outpoint in confirmed.into_iter().flatten().filter(|outpoint| mempool.spender(outpoint).is_none()) {
            let Some(coin) = chain.coin(outpoint) else { continue };
            if !coin.coinbase || next - coin.height >= COINBASE_MATURITY {
                coins.push(Purse { outpoint: *outpoint, value: coin.output.value, confirmed: true });
            }
        }
        for entry in mempool.entries() {
            if mempool.with_ancestors(&entry.txid).count >= MAX_CHAIN_COUNT {
                continue;
            }
            for (vout, output) in entry.tx.output.iter().enumerate() {
                let outpoint = OutPoint::new(entry.txid, vout as u32);
                let own_change = entry.spent.iter().all(|spent| spent.script_pubkey == self.script);
                if output.script_pubkey == self.script && own_change && mempool.spender(&outpoint).is_none() {
                    coins.push(Purse { outpoint, value: output.value, confirmed: false });
                }
            }
        }
        coins.retain(|coin| coin.value.to_sat() > 0);
        coins.sort_by_key(|coin| (!coin.confirmed, std::cmp::Reverse(coin.value), coin.outpoint));
        coins
    }
}

//! Keys, coins and a fixed clock for the stories.

use bitcoin::absolute::LockTime;
use bitcoin::hashes::Hash;
use bitcoin::key::{Keypair, TapTweak};
use bitcoin::secp256k1::{Message, Secp256k1, SecretKey};
use bitcoin::sighash::{EcdsaSighashType, Prevouts, SighashCache, TapSighashType};
use bitcoin::transaction::Version;
use bitcoin::{
    Address, Amount, CompressedPublicKey, Network, OutPoint, ScriptBuf, Sequence, Transaction, TxIn, TxOut, Witness,
};
use devnet::{Accepted, Policy, Regtest, TxError};
use units::Unix;

pub(crate) const NOW: Unix = Unix(1_800_000_000);

/// A key with its P2WPKH and its P2TR script.
pub(crate) struct Key(SecretKey);

impl Key {
    pub(crate) fn new(n: u8) -> Key {
        Key(SecretKey::from_slice(&[n; 32]).unwrap())
    }

    fn public(&self) -> CompressedPublicKey {
        CompressedPublicKey(self.0.public_key(&Secp256k1::new()))
    }

    pub(crate) fn script(&self) -> ScriptBuf {
        ScriptBuf::new_p2wpkh(&self.public().wpubkey_hash())
    }

    pub(crate) fn address(&self) -> Address {
        Address::p2wpkh(&self.public(), Network::Regtest)
    }

    pub(crate) fn taproot(&self) -> ScriptBuf {
        let secp = Secp256k1::new();
        ScriptBuf::new_p2tr(&secp, Keypair::from_secret_key(&secp, &self.0).x_only_public_key().0, None)
    }
}

/// An output that can be spent.
#[derive(Clone, Debug)]
pub(crate) struct Coin {
    pub(crate) at: OutPoint,
    pub(crate) out: TxOut,
}

/// The outputs of `tx` as coins.
pub(crate) fn coin(tx: &Transaction, vout: u32) -> Coin {
    Coin { at: OutPoint::new(tx.compute_txid(), vout), out: tx.output[vout as usize].clone() }
}

/// A transaction in the making: version 2, final, replaceable.
pub(crate) struct Spend {
    pub(crate) tx: Transaction,
    spent: Vec<TxOut>,
}

impl Spend {
    pub(crate) fn of(coins: &[&Coin]) -> Spend {
        let input = |coin: &&Coin| TxIn {
            previous_output: coin.at,
            sequence: Sequence::ENABLE_RBF_NO_LOCKTIME,
            ..TxIn::default()
        };
        let tx = Transaction {
            version: Version::TWO,
            lock_time: LockTime::ZERO,
            input: coins.iter().map(input).collect(),
            output: Vec::new(),
        };
        Spend { tx, spent: coins.iter().map(|coin| coin.out.clone()).collect() }
    }

    pub(crate) fn pay(mut self, script: &ScriptBuf, sat: u64) -> Spend {
        self.tx.output.push(TxOut { value: Amount::from_sat(sat), script_pubkey: script.clone() });
        self
    }

    /// Pays everything but `fee` to `script`.
    pub(crate) fn rest(self, script: &ScriptBuf, fee: u64) -> Spend {
        let total: u64 = self.spent.iter().map(|out| out.value.to_sat()).sum();
        let paid: u64 = self.tx.output.iter().map(|out| out.value.to_sat()).sum();
        self.pay(script, total - paid - fee)
    }

    pub(crate) fn version(mut self, version: i32) -> Spend {
        self.tx.version = Version(version);
        self
    }

    pub(crate) fn lock(mut self, lock: u32) -> Spend {
        self.tx.lock_time = LockTime::from_consensus(lock);
        self
    }

    pub(crate) fn sequence(mut self, sequence: u32) -> Spend {
        self.tx.input[0].sequence = Sequence(sequence);
        self
    }

    /// Signs the inputs that are `key`'s and leaves the others alone.
    pub(crate) fn sign(mut self, key: &Key) -> Transaction {
        let secp = Secp256k1::new();
        let mut cache = SighashCache::new(self.tx.clone());
        for (index, out) in self.spent.iter().enumerate() {
            if out.script_pubkey == key.script() {
                let kind = EcdsaSighashType::All;
                let hash = cache.p2wpkh_signature_hash(index, &out.script_pubkey, out.value, kind).unwrap();
                let signature = secp.sign_ecdsa(&Message::from_digest(hash.to_byte_array()), &key.0);
                let signature = bitcoin::ecdsa::Signature { signature, sighash_type: kind };
                self.tx.input[index].witness = Witness::p2wpkh(&signature, &key.public().0);
            } else if out.script_pubkey == key.taproot() {
                let kind = TapSighashType::Default;
                let hash = cache.taproot_key_spend_signature_hash(index, &Prevouts::All(&self.spent), kind).unwrap();
                let pair = Keypair::from_secret_key(&secp, &key.0).tap_tweak(&secp, None).to_keypair();
                let signature = secp.sign_schnorr_no_aux_rand(&Message::from_digest(hash.to_byte_array()), &pair);
                let signature = bitcoin::taproot::Signature { signature, sighash_type: kind };
                self.tx.input[index].witness = Witness::p2tr_key_spend(&signature);
            }
        }
        self.tx
    }
}

/// A chain on which the faucet can pay.
pub(crate) fn regtest() -> Regtest {
    let mut net = Regtest::new(Policy::default());
    mine(&mut net, 130);
    net
}

pub(crate) fn mine(net: &mut Regtest, blocks: u32) {
    for _ in 0..blocks {
        net.mine(net.faucet().script().clone(), NOW).unwrap();
    }
}

/// A confirmed coin of `sat` for `script`.
pub(crate) fn funded(net: &mut Regtest, script: ScriptBuf, sat: u64) -> Coin {
    let txid = net.fund(script.clone(), Amount::from_sat(sat), NOW).unwrap();
    let tx = net.mempool().get(&txid).unwrap().tx.clone();
    mine(net, 1);
    let vout = tx.output.iter().position(|out| out.script_pubkey == script).unwrap();
    coin(&tx, vout as u32)
}

pub(crate) fn send(net: &mut Regtest, tx: &Transaction) -> Result<Accepted, TxError> {
    net.submit(tx.clone(), NOW)
}

pub(crate) fn confirmed(net: &Regtest, tx: &Transaction) -> bool {
    net.chain().position(&tx.compute_txid()).is_some()
}

pub(crate) fn waiting(net: &Regtest, tx: &Transaction) -> bool {
    net.mempool().get(&tx.compute_txid()).is_some()
}

/// Pay-to-anchor.
pub(crate) fn anchor() -> ScriptBuf {
    ScriptBuf::from_bytes(vec![0x51, 0x02, 0x4e, 0x73])
}

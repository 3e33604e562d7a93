//! The rules of regtest that every block and transaction has to meet; pure functions of what they are given.

use std::collections::HashSet;

use bitcoin::hashes::Hash;
use bitcoin::script::Builder;
use bitcoin::{Amount, Block, CompactTarget, Sequence, Target, Transaction, TxOut, Weight};

use crate::error::{BlockError, TxError};

/// Proof-of-work target of every regtest block.
pub const REGTEST_BITS: u32 = 0x207f_ffff;
/// Blocks until a coinbase output may be spent.
pub const COINBASE_MATURITY: u32 = 100;
/// Blocks between halvings on regtest.
pub const HALVING_INTERVAL: u32 = 150;
/// Heaviest block, in weight units.
pub const MAX_BLOCK_WEIGHT: u64 = 4_000_000;
/// Most signature-operation cost in a block.
pub(crate) const MAX_BLOCK_SIGOPS_COST: usize = 80_000;
/// How an output that commits to witnesses begins (BIP141): OP_RETURN, 36 bytes, magic.
pub(crate) const COMMITMENT_PREFIX: [u8; 6] = [0x6a, 0x24, 0xaa, 0x21, 0xa9, 0xed];
/// How far ahead of the clock a block's time may be, in seconds.
const MAX_FUTURE_BLOCK_TIME: u64 = 2 * 60 * 60;
/// Outputs with a longer script can never be spent.
const MAX_SCRIPT_SIZE: usize = 10_000;
/// Locktimes below are heights, others unix times.
const LOCK_TIME_THRESHOLD: u32 = 500_000_000;

/// An unspent output and where it was made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Coin {
    /// The output.
    pub output: TxOut,
    /// Height of its block.
    pub height: u32,
    /// Whether a coinbase made it.
    pub coinbase: bool,
}

/// Whether an output can ever be spent and so becomes a coin.
pub(crate) fn is_spendable(output: &TxOut) -> bool {
    !output.script_pubkey.is_op_return() && output.script_pubkey.len() <= MAX_SCRIPT_SIZE
}

/// What a block may pay to its miner besides fees.
pub fn subsidy(height: u32) -> Amount {
    let halvings = height / HALVING_INTERVAL;
    Amount::from_sat(50_0000_0000_u64.checked_shr(halvings).unwrap_or(0))
}

/// Rules of a transaction that need nothing but itself.
pub(crate) fn check_transaction(tx: &Transaction) -> Result<(), TxError> {
    if tx.input.is_empty() {
        return Err(TxError::Malformed("bad-txns-vin-empty"));
    }
    if tx.output.is_empty() {
        return Err(TxError::Malformed("bad-txns-vout-empty"));
    }
    if tx.base_size() as u64 * 4 > MAX_BLOCK_WEIGHT {
        return Err(TxError::Malformed("bad-txns-oversize"));
    }
    let mut total = Amount::ZERO;
    for output in &tx.output {
        if output.value > Amount::MAX_MONEY {
            return Err(TxError::Malformed("bad-txns-vout-toolarge"));
        }
        total = total
            .checked_add(output.value)
            .filter(|t| *t <= Amount::MAX_MONEY)
            .ok_or(TxError::Malformed("bad-txns-txouttotal-toolarge"))?;
    }
    let mut seen = HashSet::with_capacity(tx.input.len());
    if !tx.input.iter().all(|input| seen.insert(input.previous_output)) {
        return Err(TxError::Malformed("bad-txns-inputs-duplicate"));
    }
    if tx.is_coinbase() {
        if !(2..=100).contains(&tx.input[0].script_sig.len()) {
            return Err(TxError::Malformed("bad-cb-length"));
        }
    } else if tx.input.iter().any(|input| input.previous_output.is_null()) {
        return Err(TxError::Malformed("bad-txns-prevout-null"));
    }
    Ok(())
}

/// Whether nLockTime lets `tx` into a block at `height` whose parent has the median time `mtp` (BIP113).
pub(crate) fn is_final(tx: &Transaction, height: u32, mtp: u32) -> bool {
    let lock = tx.lock_time.to_consensus_u32();
    let reached = if lock < LOCK_TIME_THRESHOLD { height } else { mtp };
    lock == 0 || lock < reached || tx.input.iter().all(|input| input.sequence == Sequence::MAX)
}

/// Where one input's coin was made, for BIP68.
#[derive(Clone, Copy, Debug)]
pub(crate) struct CoinOrigin {
    /// Height of the coin's block; for an unconfirmed coin the next height.
    pub(crate) height: u32,
    /// Median time past of the block before the coin's block.
    pub(crate) mtp_before: u32,
}

/// Whether every relative lock lets `tx` into a block at `height` whose parent has the median time `mtp` (BIP68).
pub(crate) fn is_relative_final(tx: &Transaction, origins: &[CoinOrigin], height: u32, mtp: u32) -> bool {
    if (tx.version.0 as u32) < 2 {
        return true;
    }
    tx.input.iter().zip(origins).all(|(input, origin)| {
        let sequence = input.sequence.to_consensus_u32();
        let value = u64::from(sequence & 0xffff);
        if sequence & (1 << 31) != 0 {
            true
        } else if sequence & (1 << 22) != 0 {
            u64::from(origin.mtp_before) + (value << 9) <= u64::from(mtp)
        } else {
            u64::from(origin.height) + value <= u64::from(height)
        }
    })
}

/// Value of the spent coins and the fee. Checks maturity at `height`, ranges, and that no value is made.
pub(crate) fn check_values<'a>(
    tx: &Transaction,
    coins: impl IntoIterator<Item = &'a Coin>,
    height: u32,
) -> Result<u64, TxError> {
    let mut inputs = Amount::ZERO;
    for coin in coins {
        if coin.coinbase && height.saturating_sub(coin.height) < COINBASE_MATURITY {
            return Err(TxError::ImmatureCoinbase { depth: height.saturating_sub(coin.height) });
        }
        inputs = inputs
            .checked_add(coin.output.value)
            .filter(|sum| *sum <= Amount::MAX_MONEY)
            .ok_or(TxError::Malformed("bad-txns-inputvalues-outofrange"))?;
    }
    let outputs: u64 = tx.output.iter().map(|output| output.value.to_sat()).sum();
    inputs.to_sat().checked_sub(outputs).ok_or(TxError::InBelowOut { inputs: inputs.to_sat(), outputs })
}

/// Rules of a header that follow from its parent's median time and the clock.
pub(crate) fn check_header(block: &Block, parent_mtp: u32, now: u64) -> Result<(), BlockError> {
    let header = &block.header;
    if header.bits != CompactTarget::from_consensus(REGTEST_BITS) {
        return Err(BlockError::Rule("bad-diffbits"));
    }
    if !Target::from_compact(header.bits).is_met_by(header.block_hash()) {
        return Err(BlockError::Rule("high-hash"));
    }
    if header.time <= parent_mtp {
        return Err(BlockError::Rule("time-too-old"));
    }
    if u64::from(header.time) > now.saturating_add(MAX_FUTURE_BLOCK_TIME) {
        return Err(BlockError::Rule("time-too-new"));
    }
    if header.version.to_consensus() < 4 {
        return Err(BlockError::Rule("bad-version"));
    }
    Ok(())
}

/// Rules of a block that need only itself and its place: `height` and the median time of its parent.
pub(crate) fn check_block(block: &Block, height: u32, parent_mtp: u32) -> Result<(), BlockError> {
    let coinbase = block.txdata.first().filter(|tx| tx.is_coinbase()).ok_or(BlockError::Rule("bad-cb-missing"))?;
    if block.txdata[1..].iter().any(Transaction::is_coinbase) {
        return Err(BlockError::Rule("bad-cb-multiple"));
    }
    if !block.check_merkle_root() {
        return Err(BlockError::Rule("bad-txnmrklroot"));
    }
    // The merkle tree pairs an odd last leaf with itself, so a repeated tail would give the same root (CVE-2012-2459).
    let mut seen = HashSet::with_capacity(block.txdata.len());
    if !block.txdata.iter().all(|tx| seen.insert(tx.compute_txid())) {
        return Err(BlockError::Rule("bad-txns-duplicate"));
    }
    if block.weight() > Weight::from_wu(MAX_BLOCK_WEIGHT) {
        return Err(BlockError::Rule("bad-blk-weight"));
    }
    for tx in &block.txdata {
        let error = check_transaction(tx).err().or_else(|| (!is_final(tx, height, parent_mtp)).then_some(NON_FINAL));
        if let Some(error) = error {
            return Err(BlockError::Tx { txid: tx.compute_txid(), error });
        }
    }
    let prefix = Builder::new().push_int(i64::from(height)).into_script();
    if !coinbase.input[0].script_sig.as_bytes().starts_with(prefix.as_bytes()) {
        return Err(BlockError::Rule("bad-cb-height"));
    }
    check_witness_commitment(block, coinbase)
}

/// The coinbase commits to all witnesses (BIP141), or there are none.
fn check_witness_commitment(block: &Block, coinbase: &Transaction) -> Result<(), BlockError> {
    let committed = coinbase.output.iter().rev().map(|output| output.script_pubkey.as_bytes());
    let committed = committed.filter(|script| script.len() >= 38).find(|script| script.starts_with(&COMMITMENT_PREFIX));
    let Some(committed) = committed else {
        let any = block.txdata.iter().flat_map(|tx| &tx.input).any(|input| !input.witness.is_empty());
        return if any { Err(BlockError::Rule("unexpected-witness")) } else { Ok(()) };
    };
    let witness = &coinbase.input[0].witness;
    let reserved = witness.nth(0).filter(|item| witness.len() == 1 && item.len() == 32);
    let reserved = reserved.ok_or(BlockError::Rule("bad-witness-nonce-size"))?;
    let expected = block.witness_root().map(|root| Block::compute_witness_commitment(&root, reserved));
    if expected.is_some_and(|expected| expected.as_byte_array()[..] == committed[6..38]) {
        Ok(())
    } else {
        Err(BlockError::Rule("bad-witness-merkle-match"))
    }
}

const NON_FINAL: TxError = TxError::Malformed("bad-txns-nonfinal");

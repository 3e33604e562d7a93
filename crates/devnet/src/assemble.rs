//! A block from its parts: coinbase, commitments, and a nonce that meets regtest's target.

use bitcoin::absolute::LockTime;
use bitcoin::block::{Header, Version};
use bitcoin::hashes::Hash;
use bitcoin::script::Builder;
use bitcoin::transaction;
use bitcoin::{
    Amount, Block, BlockHash, CompactTarget, OutPoint, ScriptBuf, Sequence, Target, Transaction, TxIn, TxMerkleNode,
    TxOut, Witness, WitnessMerkleNode,
};

use crate::consensus::{COMMITMENT_PREFIX, REGTEST_BITS, subsidy};

/// The reserved value in the coinbase's witness (BIP141).
const WITNESS_RESERVED: [u8; 32] = [0; 32];

/// What a new block is made of.
#[derive(Clone, Debug)]
pub(crate) struct Parts {
    pub(crate) prev: BlockHash,
    pub(crate) height: u32,
    pub(crate) time: u32,
    /// Makes coinbases differ that have the same height and payee.
    pub(crate) extra_nonce: u64,
    pub(crate) payee: ScriptBuf,
    /// Satoshis that `txs` leave to the miner.
    pub(crate) fees: u64,
    pub(crate) txs: Vec<Transaction>,
}

/// Builds the block and finds its nonce (two tries on average).
pub(crate) fn build(parts: Parts) -> Block {
    let reward = Amount::from_sat(subsidy(parts.height).to_sat() + parts.fees);
    let script_sig =
        Builder::new().push_int(i64::from(parts.height)).push_slice(parts.extra_nonce.to_le_bytes()).into_script();
    let coinbase = Transaction {
        version: transaction::Version::TWO,
        lock_time: LockTime::ZERO,
        input: vec![TxIn {
            previous_output: OutPoint::null(),
            script_sig,
            sequence: Sequence::MAX,
            witness: Witness::from_slice(&[WITNESS_RESERVED]),
        }],
        output: vec![TxOut { value: reward, script_pubkey: parts.payee }],
    };
    let mut txdata = Vec::with_capacity(parts.txs.len() + 1);
    txdata.push(coinbase);
    txdata.extend(parts.txs);
    let header = Header {
        version: Version::from_consensus(0x2000_0000),
        prev_blockhash: parts.prev,
        merkle_root: TxMerkleNode::all_zeros(),
        time: parts.time,
        bits: CompactTarget::from_consensus(REGTEST_BITS),
        nonce: 0,
    };
    let mut block = Block { header, txdata };

    let witness_root = block.witness_root().unwrap_or_else(WitnessMerkleNode::all_zeros);
    let commitment = Block::compute_witness_commitment(&witness_root, &WITNESS_RESERVED);
    let mut script = COMMITMENT_PREFIX.to_vec();
    script.extend_from_slice(commitment.as_byte_array());
    block.txdata[0].output.push(TxOut { value: Amount::ZERO, script_pubkey: ScriptBuf::from_bytes(script) });
    block.header.merkle_root = block.compute_merkle_root().unwrap_or_else(TxMerkleNode::all_zeros);
    grind(&mut block.header);
    block
}

/// Finds a nonce that meets the header's own target.
pub(crate) fn grind(header: &mut Header) {
    let target = Target::from_compact(header.bits);
    while !target.is_met_by(header.block_hash()) {
        header.nonce = header.nonce.wrapping_add(1);
    }
}

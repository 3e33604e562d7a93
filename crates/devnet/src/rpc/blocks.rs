//! Methods about blocks and about making them.

use bitcoin::consensus::encode::{deserialize_hex, serialize_hex};
use bitcoin::{Block, BlockHash, Transaction};
use serde_json::{Value, json};

use super::params::{parse_hash, wrong_type};
use super::{Context, Outcome, Params, RpcError, Verb, code};
use crate::chain::{BlockEntry, Status};
use crate::error::BlockError;
use crate::regtest::MAX_MINE;
use crate::render;

pub(crate) const VERBS: &[Verb] = &[
    Verb { name: "getblockchaininfo", params: &[], run: chain_info },
    Verb { name: "getbestblockhash", params: &[], run: |c, _| Ok(json!(c.regtest.tip().hash.to_string())) },
    Verb { name: "getblockcount", params: &[], run: |c, _| Ok(json!(c.regtest.chain().height())) },
    Verb { name: "getblockhash", params: &["height"], run: block_hash },
    Verb { name: "getblockheader", params: &["blockhash", "verbose"], run: block_header },
    Verb { name: "getblock", params: &["blockhash", "verbosity"], run: block },
    Verb { name: "getchaintips", params: &[], run: chain_tips },
    Verb { name: "generatetoaddress", params: &["nblocks", "address", "maxtries"], run: generate_to_address },
    Verb { name: "generateblock", params: &["output", "transactions", "submit"], run: generate_block },
    Verb { name: "submitblock", params: &["hexdata", "dummy"], run: submit_block },
    Verb { name: "invalidateblock", params: &["blockhash"], run: invalidate },
    Verb { name: "reconsiderblock", params: &["blockhash"], run: reconsider },
];

fn chain_info(c: &mut Context<'_>, _: &Params) -> Outcome {
    let chain = c.regtest.chain();
    let tip = chain.tip();
    let header = render::header(chain, tip);
    Ok(json!({
        "chain": "regtest",
        "blocks": tip.height,
        "headers": tip.height,
        "bestblockhash": header["hash"],
        "bits": header["bits"],
        "target": header["target"],
        "difficulty": header["difficulty"],
        "time": header["time"],
        "mediantime": tip.mtp,
        "verificationprogress": 1.0,
        "initialblockdownload": false,
        "chainwork": header["chainwork"],
        "size_on_disk": 0,
        "pruned": false,
        "warnings": [],
    }))
}

fn block_hash(c: &mut Context<'_>, p: &Params) -> Outcome {
    let height = u32::try_from(p.integer(0)?).ok().and_then(|height| c.regtest.chain().hash_at(height));
    let hash = height.ok_or_else(|| RpcError::invalid("Block height out of range"))?;
    Ok(json!(hash.to_string()))
}

fn entry<'c>(c: &'c Context<'_>, p: &Params) -> Result<&'c BlockEntry, RpcError> {
    let hash: BlockHash = p.hash(0, "blockhash")?;
    Ok(c.regtest.chain().block(&hash).ok_or(BlockError::Unknown)?)
}

fn block_header(c: &mut Context<'_>, p: &Params) -> Outcome {
    let entry = entry(c, p)?;
    if p.flag(1, true)? {
        Ok(render::header(c.regtest.chain(), entry))
    } else {
        Ok(json!(serialize_hex(&entry.block.header)))
    }
}

fn block(c: &mut Context<'_>, p: &Params) -> Outcome {
    let entry = entry(c, p)?;
    match p.verbosity(1, 1)? {
        ..=0 => Ok(json!(serialize_hex(entry.block.as_ref()))),
        1 => Ok(render::block(c.regtest.chain(), entry, false)),
        _ => Ok(render::block(c.regtest.chain(), entry, true)),
    }
}

fn chain_tips(c: &mut Context<'_>, _: &Params) -> Outcome {
    let chain = c.regtest.chain();
    let tip = |hash: BlockHash| {
        let entry = chain.block(&hash)?;
        let mut fork = entry;
        while !matches!(fork.status, Status::Active(_)) {
            fork = chain.block(&fork.block.header.prev_blockhash)?;
        }
        let status = match entry.status {
            Status::Active(_) => "active",
            Status::Aside => "valid-headers",
            Status::Invalid => "invalid",
        };
        Some(
            json!({ "height": entry.height, "hash": hash.to_string(), "branchlen": entry.height - fork.height, "status": status }),
        )
    };
    let mut tips = chain.branch_tips();
    // The active tip has a child if that child is invalid; it is a tip nevertheless.
    if !tips.contains(&chain.tip_hash()) {
        tips.insert(0, chain.tip_hash());
    }
    Ok(tips.into_iter().filter_map(tip).collect())
}

fn generate_to_address(c: &mut Context<'_>, p: &Params) -> Outcome {
    let blocks = u32::try_from(p.integer(0)?).ok().filter(|n| *n <= MAX_MINE);
    let blocks = blocks.ok_or_else(|| RpcError::invalid(format!("nblocks is not in 0..={MAX_MINE}")))?;
    let payee = p.address(1)?;
    let mut hashes = Vec::new();
    for _ in 0..blocks {
        hashes.push(c.regtest.mine(payee.clone(), c.now)?.to_string());
    }
    Ok(json!(hashes))
}

fn generate_block(c: &mut Context<'_>, p: &Params) -> Outcome {
    let payee = p.address(0)?;
    let mut txs: Vec<Transaction> = Vec::new();
    for value in p.list(1)? {
        let text = value.as_str().ok_or_else(|| wrong_type(value, "string"))?;
        txs.push(if text.len() == 64 {
            let txid = parse_hash(text, "txid")?;
            let entry = c.regtest.mempool().get(&txid);
            let missing = || RpcError::new(code::INVALID_ADDRESS_OR_KEY, format!("Transaction {txid} not in mempool."));
            entry.ok_or_else(missing)?.tx.as_ref().clone()
        } else {
            let failed = || RpcError::new(code::DESERIALIZATION, format!("Transaction decode failed for {text}."));
            deserialize_hex(text).map_err(|_| failed())?
        });
    }
    let block = c.regtest.assemble(c.regtest.tip().hash, payee, txs, 0, c.now)?;
    let hash = block.block_hash().to_string();
    if !p.flag(2, true)? {
        return Ok(json!({ "hash": hash, "hex": serialize_hex(&block) }));
    }
    c.regtest.submit_block(block, c.now)?;
    Ok(json!({ "hash": hash }))
}

fn submit_block(c: &mut Context<'_>, p: &Params) -> Outcome {
    let block: Result<Block, _> = deserialize_hex(p.text(0)?);
    let block = block.map_err(|_| RpcError::new(code::DESERIALIZATION, "Block decode failed"))?;
    match c.regtest.submit_block(block, c.now) {
        Ok(()) => Ok(Value::Null),
        Err(BlockError::Tx { error, .. }) => Ok(json!(error.reason())),
        Err(error) => Ok(json!(error.to_string())),
    }
}

fn invalidate(c: &mut Context<'_>, p: &Params) -> Outcome {
    c.regtest.invalidate(p.hash(0, "blockhash")?, c.now)?;
    Ok(Value::Null)
}

fn reconsider(c: &mut Context<'_>, p: &Params) -> Outcome {
    c.regtest.reconsider(p.hash(0, "blockhash")?, c.now)?;
    Ok(Value::Null)
}

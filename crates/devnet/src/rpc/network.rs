//! Methods about the node itself: versions, peers, indexes, fees, the faucet.

use serde_json::{Value, json};

use super::{Context, Outcome, Params, RpcError, Verb, code, verbs};
use crate::faucet::FaucetError;
use crate::render::btc;

/// The version of Bitcoin Core whose interface this is; clients choose their calls by it.
const VERSION: (u32, &str) = (290_000, "/Satoshi:29.0.0/");
/// Highest target that `estimatesmartfee` takes.
const MAX_CONF_TARGET: i64 = 1_008;

pub(crate) const VERBS: &[Verb] = &[
    Verb { name: "getnetworkinfo", params: &[], run: network_info },
    Verb { name: "getpeerinfo", params: &[], run: |_, _| Ok(json!([])) },
    Verb { name: "getconnectioncount", params: &[], run: |_, _| Ok(json!(0)) },
    Verb { name: "getzmqnotifications", params: &[], run: |_, _| Ok(json!([])) },
    Verb { name: "getindexinfo", params: &["index_name"], run: index_info },
    Verb { name: "getdeploymentinfo", params: &["blockhash"], run: deployment_info },
    Verb { name: "uptime", params: &[], run: |c, _| Ok(json!(c.now.0.saturating_sub(c.started.0))) },
    Verb { name: "help", params: &["command"], run: help },
    Verb { name: "estimatesmartfee", params: &["conf_target", "estimate_mode"], run: estimate },
    Verb { name: "getbalance", params: &["dummy", "minconf"], run: balance },
    Verb { name: "sendtoaddress", params: &["address", "amount", "comment", "comment_to"], run: send_to_address },
];

fn network_info(c: &mut Context<'_>, _: &Params) -> Outcome {
    let policy = c.regtest.mempool().policy();
    Ok(json!({
        "version": VERSION.0,
        "subversion": VERSION.1,
        "protocolversion": 70_016,
        "localservices": "0000000000000409",
        "localservicesnames": ["NETWORK", "WITNESS", "NETWORK_LIMITED"],
        "localrelay": true,
        "timeoffset": 0,
        "networkactive": true,
        "connections": 0,
        "connections_in": 0,
        "connections_out": 0,
        "networks": [],
        "relayfee": btc(policy.min_relay),
        "incrementalfee": btc(policy.incremental_relay),
        "localaddresses": [],
        "warnings": [],
    }))
}

fn index_info(c: &mut Context<'_>, p: &Params) -> Outcome {
    let wanted = p.get(0).and_then(Value::as_str).is_none_or(|name| name.is_empty() || name == "txindex");
    if !wanted {
        return Ok(json!({}));
    }
    Ok(json!({ "txindex": { "synced": true, "best_block_height": c.regtest.chain().height() } }))
}

fn deployment_info(c: &mut Context<'_>, p: &Params) -> Outcome {
    let chain = c.regtest.chain();
    let entry = match p.get(0) {
        Some(_) => {
            let unknown = || RpcError::new(code::INVALID_ADDRESS_OR_KEY, "Block not found");
            chain.block(&p.hash(0, "blockhash")?).ok_or_else(unknown)?
        }
        None => chain.tip(),
    };
    let buried = || json!({ "type": "buried", "active": true, "height": 0 });
    let taproot = json!({
        "type": "bip9", "active": true, "height": 0,
        "bip9": {
            "start_time": -1, "timeout": i64::MAX, "min_activation_height": 0, "status": "active", "since": 0,
            "status_next": "active",
        },
    });
    Ok(json!({
        "hash": entry.block.block_hash().to_string(),
        "height": entry.height,
        "script_flags": ["CHECKLOCKTIMEVERIFY", "CHECKSEQUENCEVERIFY", "DERSIG", "NULLDUMMY", "P2SH", "TAPROOT", "WITNESS"],
        "deployments": {
            "bip34": buried(), "bip66": buried(), "bip65": buried(), "csv": buried(), "segwit": buried(),
            "taproot": taproot,
        },
    }))
}

fn help(_: &mut Context<'_>, p: &Params) -> Outcome {
    let wanted = p.get(0).and_then(Value::as_str);
    let lines: Vec<String> = verbs()
        .filter(|verb| wanted.is_none_or(|name| name == verb.name))
        .map(|verb| format!("{} {}", verb.name, verb.params.join(" ")).trim_end().to_owned())
        .collect();
    Ok(json!(lines.join("\n")))
}

fn estimate(c: &mut Context<'_>, p: &Params) -> Outcome {
    let blocks = p.integer(0)?;
    if !(1..=MAX_CONF_TARGET).contains(&blocks) {
        return Err(RpcError::invalid(format!("Invalid conf_target, must be between 1 and {MAX_CONF_TARGET}")));
    }
    let policy = c.regtest.mempool().policy();
    Ok(json!({ "feerate": btc(policy.estimate.max(policy.min_relay)), "blocks": blocks.max(2) }))
}

fn balance(c: &mut Context<'_>, _: &Params) -> Outcome {
    Ok(btc(c.regtest.faucet().balance(c.regtest.chain(), c.regtest.mempool()).to_sat()))
}

fn send_to_address(c: &mut Context<'_>, p: &Params) -> Outcome {
    let script = p.address(0)?;
    let amount = p.btc(1)?.ok_or_else(|| RpcError::new(code::TYPE, "Invalid amount"))?;
    match c.regtest.fund(script, bitcoin::Amount::from_sat(amount), c.now) {
        Ok(txid) => Ok(json!(txid.to_string())),
        Err(FaucetError::Insufficient) => Err(RpcError::new(code::INSUFFICIENT_FUNDS, "Insufficient funds")),
        Err(error @ FaucetError::Dust) => Err(RpcError::new(code::INSUFFICIENT_FUNDS, error.to_string())),
        Err(error @ FaucetError::Refused(_)) => Err(RpcError::new(code::WALLET, error.to_string())),
    }
}

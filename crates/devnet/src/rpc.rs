//! bitcoind's JSON-RPC over HTTP: authentication, versions 1 and 2, batches, error forms.

mod blocks;
mod network;
mod params;
mod transactions;

use std::sync::Arc;

use bitcoin::base64::Engine;
use bitcoin::base64::prelude::BASE64_STANDARD;
use hyper::{Method, StatusCode};
use serde_json::{Value, json};
use units::Unix;

use crate::devnet::Shared;
use crate::error::{BlockError, TxError};
use crate::http::{Answer, Call, Site};
use crate::regtest::Regtest;
use params::Params;

/// Requests in one batch.
const MAX_BATCH: usize = 1_000;

/// Error codes of bitcoind's `rpc/protocol.h`.
pub(crate) mod code {
    pub(crate) const MISC: i32 = -1;
    pub(crate) const TYPE: i32 = -3;
    pub(crate) const WALLET: i32 = -4;
    pub(crate) const INVALID_ADDRESS_OR_KEY: i32 = -5;
    pub(crate) const INSUFFICIENT_FUNDS: i32 = -6;
    pub(crate) const INVALID_PARAMETER: i32 = -8;
    pub(crate) const DATABASE: i32 = -20;
    pub(crate) const DESERIALIZATION: i32 = -22;
    pub(crate) const VERIFY: i32 = -25;
    pub(crate) const REJECTED: i32 = -26;
    pub(crate) const ALREADY_IN_UTXO_SET: i32 = -27;
    pub(crate) const PARSE: i32 = -32700;
    pub(crate) const INVALID_REQUEST: i32 = -32600;
    pub(crate) const METHOD_NOT_FOUND: i32 = -32601;
}

/// An error as the caller sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RpcError {
    pub(crate) code: i32,
    pub(crate) message: String,
}

impl RpcError {
    pub(crate) fn new(code: i32, message: impl Into<String>) -> RpcError {
        RpcError { code, message: message.into() }
    }

    pub(crate) fn invalid(message: impl Into<String>) -> RpcError {
        RpcError::new(code::INVALID_PARAMETER, message)
    }
}

impl From<TxError> for RpcError {
    fn from(error: TxError) -> RpcError {
        let code = match error {
            TxError::MissingInputs => code::VERIFY,
            TxError::Confirmed => {
                return RpcError::new(code::ALREADY_IN_UTXO_SET, "Transaction outputs already in utxo set");
            }
            _ => code::REJECTED,
        };
        RpcError::new(code, error.to_string())
    }
}

impl From<BlockError> for RpcError {
    fn from(error: BlockError) -> RpcError {
        let code = match error {
            BlockError::Unknown => code::INVALID_ADDRESS_OR_KEY,
            BlockError::Impossible(_) => code::INVALID_PARAMETER,
            _ => code::VERIFY,
        };
        RpcError::new(code, error.to_string())
    }
}

/// What a method works on: the state is locked for as long as it runs.
pub(crate) struct Context<'a> {
    pub(crate) regtest: &'a mut Regtest,
    pub(crate) now: Unix,
    pub(crate) started: Unix,
}

type Outcome = Result<Value, RpcError>;

/// A method: its name, the names of its parameters in order, and what it does.
pub(crate) struct Verb {
    pub(crate) name: &'static str,
    pub(crate) params: &'static [&'static str],
    pub(crate) run: fn(&mut Context<'_>, &Params) -> Outcome,
}

/// The JSON-RPC server.
pub(crate) struct Rpc {
    shared: Arc<Shared>,
    authorization: String,
}

/// The request's id and version, for the answer.
struct Frame {
    id: Value,
    version_2: bool,
}

impl Frame {
    fn answer(&self, outcome: &Outcome) -> Value {
        match (outcome, self.version_2) {
            (Ok(result), true) => json!({ "jsonrpc": "2.0", "result": result, "id": self.id }),
            (Ok(result), false) => json!({ "result": result, "error": null, "id": self.id }),
            (Err(e), true) => {
                json!({ "jsonrpc": "2.0", "error": { "code": e.code, "message": e.message }, "id": self.id })
            }
            (Err(e), false) => {
                json!({ "result": null, "error": { "code": e.code, "message": e.message }, "id": self.id })
            }
        }
    }

    /// bitcoind's HTTP status for an error; version 2 errors are answered with 200.
    fn status(&self, outcome: &Outcome) -> StatusCode {
        match outcome {
            Ok(_) => StatusCode::OK,
            Err(_) if self.version_2 => StatusCode::OK,
            Err(error) if error.code == code::INVALID_REQUEST => StatusCode::BAD_REQUEST,
            Err(error) if error.code == code::METHOD_NOT_FOUND => StatusCode::NOT_FOUND,
            Err(_) => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }
}

impl Rpc {
    pub(crate) fn new(shared: Arc<Shared>, user: &str, password: &str) -> Rpc {
        let authorization = format!("Basic {}", BASE64_STANDARD.encode(format!("{user}:{password}")));
        Rpc { shared, authorization }
    }

    fn call(&self, request: &Value) -> (Frame, Outcome) {
        let id = request.get("id").cloned().unwrap_or(Value::Null);
        let frame = Frame { id, version_2: request.get("jsonrpc").is_some_and(|v| v == "2.0") };
        let outcome = self.dispatch(request);
        (frame, outcome)
    }

    fn dispatch(&self, request: &Value) -> Outcome {
        let bad = |message: &str| RpcError::new(code::INVALID_REQUEST, message);
        let request = request.as_object().ok_or_else(|| bad("Invalid Request object"))?;
        let method = request.get("method").ok_or_else(|| bad("Missing method"))?;
        let method = method.as_str().ok_or_else(|| bad("Method must be a string"))?;
        let verb = verbs().find(|verb| verb.name == method);
        let verb = verb.ok_or_else(|| RpcError::new(code::METHOD_NOT_FOUND, "Method not found"))?;
        let params = Params::read(request.get("params"), verb.params)?;
        let started = self.shared.started;
        self.shared
            .with(|regtest, now| (verb.run)(&mut Context { regtest, now, started }, &params))
            .map_err(|error| RpcError::new(code::DATABASE, error.to_string()))?
    }
}

/// Every method served.
fn verbs() -> impl Iterator<Item = &'static Verb> {
    blocks::VERBS.iter().chain(transactions::VERBS).chain(network::VERBS)
}

impl Site for Rpc {
    const MAX_BODY: usize = 32 * 1024 * 1024;

    fn answer(&self, call: Call) -> Answer {
        if call.method != Method::POST {
            return Answer::text(StatusCode::METHOD_NOT_ALLOWED, "JSONRPC server handles only POST requests");
        }
        if call.authorization.as_deref() != Some(&self.authorization) {
            return Answer::text(StatusCode::UNAUTHORIZED, "");
        }
        match serde_json::from_slice(&call.body) {
            Ok(Value::Array(batch)) if batch.len() <= MAX_BATCH => {
                let answers: Vec<Value> = batch
                    .iter()
                    .map(|request| {
                        let (frame, outcome) = self.call(request);
                        frame.answer(&outcome)
                    })
                    .collect();
                Answer::json(StatusCode::OK, &Value::Array(answers))
            }
            Ok(Value::Array(_)) => refuse(code::INVALID_REQUEST, "Too many requests in one batch"),
            Ok(request @ Value::Object(_)) => {
                let (frame, outcome) = self.call(&request);
                Answer::json(frame.status(&outcome), &frame.answer(&outcome))
            }
            Ok(_) => refuse(code::PARSE, "Top-level object parse error"),
            Err(_) => refuse(code::PARSE, "Parse error"),
        }
    }
}

fn refuse(code: i32, message: &str) -> Answer {
    let frame = Frame { id: Value::Null, version_2: false };
    let outcome = Err(RpcError::new(code, message));
    Answer::json(frame.status(&outcome), &frame.answer(&outcome))
}

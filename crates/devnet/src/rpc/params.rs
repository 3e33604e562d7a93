//! Parameters by position or by name, read with bitcoind's errors.

use std::str::FromStr;

use bitcoin::consensus::encode::deserialize_hex;
use bitcoin::{Address, Network, ScriptBuf, Transaction};
use serde_json::Value;

use super::{RpcError, code};

/// Parameters in the order in which the method names them; a missing one is null.
pub(crate) struct Params(Vec<Value>);

impl Params {
    /// Takes an array or an object; `names` are those that the method knows.
    pub(crate) fn read(given: Option<&Value>, names: &[&str]) -> Result<Params, RpcError> {
        match given {
            None | Some(Value::Null) => Ok(Params(Vec::new())),
            Some(Value::Array(values)) if values.len() <= names.len() => Ok(Params(values.clone())),
            Some(Value::Array(_)) => {
                Err(RpcError::new(code::MISC, format!("too many parameters: {}", names.join(" "))))
            }
            Some(Value::Object(named)) => {
                if let Some(unknown) = named.keys().find(|key| !names.contains(&key.as_str())) {
                    return Err(RpcError::invalid(format!("Unknown named parameter {unknown}")));
                }
                Ok(Params(names.iter().map(|name| named.get(*name).cloned().unwrap_or(Value::Null)).collect()))
            }
            Some(_) => Err(RpcError::new(code::INVALID_REQUEST, "Params must be an array or object")),
        }
    }

    /// A parameter, if it was given.
    pub(crate) fn get(&self, index: usize) -> Option<&Value> {
        self.0.get(index).filter(|value| !value.is_null())
    }

    fn need(&self, index: usize) -> Result<&Value, RpcError> {
        self.get(index).ok_or_else(|| RpcError::new(code::MISC, format!("parameter {} is missing", index + 1)))
    }

    pub(crate) fn text(&self, index: usize) -> Result<&str, RpcError> {
        let value = self.need(index)?;
        value.as_str().ok_or_else(|| wrong_type(value, "string"))
    }

    pub(crate) fn list(&self, index: usize) -> Result<&[Value], RpcError> {
        let value = self.need(index)?;
        value.as_array().map(Vec::as_slice).ok_or_else(|| wrong_type(value, "array"))
    }

    pub(crate) fn integer(&self, index: usize) -> Result<i64, RpcError> {
        let value = self.need(index)?;
        value.as_i64().ok_or_else(|| wrong_type(value, "number"))
    }

    pub(crate) fn flag(&self, index: usize, default: bool) -> Result<bool, RpcError> {
        let Some(value) = self.get(index) else { return Ok(default) };
        value.as_bool().ok_or_else(|| wrong_type(value, "bool"))
    }

    /// A verbosity: a number, or a boolean as in older versions.
    pub(crate) fn verbosity(&self, index: usize, default: i64) -> Result<i64, RpcError> {
        match self.get(index) {
            None => Ok(default),
            Some(Value::Bool(flag)) => Ok(i64::from(*flag)),
            Some(value) => value.as_i64().ok_or_else(|| wrong_type(value, "number")),
        }
    }

    /// An amount or a feerate in BTC, as a number or a string.
    pub(crate) fn btc(&self, index: usize) -> Result<Option<u64>, RpcError> {
        let Some(value) = self.get(index) else { return Ok(None) };
        let text = match value {
            Value::String(text) => text.clone(),
            Value::Number(number) => format!("{:.8}", number.as_f64().unwrap_or(f64::NAN)),
            _ => return Err(RpcError::new(code::TYPE, "Amount is not a number or string")),
        };
        let amount = bitcoin::Amount::from_str_in(&text, bitcoin::Denomination::Bitcoin);
        let amount = amount.map_err(|_| RpcError::new(code::TYPE, "Invalid amount"))?;
        if amount > bitcoin::Amount::MAX_MONEY {
            return Err(RpcError::new(code::TYPE, "Amount out of range"));
        }
        Ok(Some(amount.to_sat()))
    }

    /// A block hash or a txid.
    pub(crate) fn hash<T: FromStr>(&self, index: usize, name: &str) -> Result<T, RpcError> {
        parse_hash(self.text(index)?, name)
    }

    /// A serialized transaction in hex.
    pub(crate) fn transaction(&self, index: usize) -> Result<Transaction, RpcError> {
        parse_transaction(self.text(index)?)
    }

    /// Serialized transactions in hex.
    pub(crate) fn transactions(&self, index: usize) -> Result<Vec<Transaction>, RpcError> {
        let text = |value: &Value| parse_transaction(value.as_str().ok_or_else(|| wrong_type(value, "string"))?);
        self.list(index)?.iter().map(text).collect()
    }

    /// The script of a regtest address.
    pub(crate) fn address(&self, index: usize) -> Result<ScriptBuf, RpcError> {
        parse_address(self.text(index)?)
    }
}

pub(crate) fn wrong_type(value: &Value, expected: &str) -> RpcError {
    let found = match value {
        Value::Null => "null",
        Value::Bool(_) => "bool",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    };
    RpcError::new(code::TYPE, format!("JSON value of type {found} is not of expected type {expected}"))
}

pub(crate) fn parse_hash<T: FromStr>(text: &str, name: &str) -> Result<T, RpcError> {
    if text.len() != 64 {
        let message = format!("{name} must be of length 64 (not {}, for '{text}')", text.len());
        return Err(RpcError::invalid(message));
    }
    text.parse().map_err(|_| RpcError::invalid(format!("{name} must be hexadecimal string (not '{text}')")))
}

fn parse_transaction(hex: &str) -> Result<Transaction, RpcError> {
    deserialize_hex(hex)
        .map_err(|_| RpcError::new(code::DESERIALIZATION, "TX decode failed. Make sure the tx has at least one input."))
}

pub(crate) fn parse_address(text: &str) -> Result<ScriptBuf, RpcError> {
    let address = text.parse::<Address<_>>().ok().and_then(|a| a.require_network(Network::Regtest).ok());
    let address = address.ok_or_else(|| RpcError::new(code::INVALID_ADDRESS_OR_KEY, "Error: Invalid address"))?;
    Ok(address.script_pubkey())
}

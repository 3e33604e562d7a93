//! The JSON object in a message's content: read field by field with reasons, written in a fixed order.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use units::{PaymentHash, Sat};

use super::Reject;
use crate::json::{INTEGER_MAX, Malformed, Reader, parse_hex, write_hex, write_str, write_uint};

/// Longest content, in bytes.
pub const CONTENT_MAX: usize = 64 * 1024;

/// Names under which somebody might put a secret where everybody can read it. Signed content never has them.
const SECRET_NAMES: [&str; 8] = [
    "secrets",
    "price_secrets",
    "secret",
    "preimage",
    "payment_preimage",
    "preimage_reveal",
    "tracking",
    "fee_invoice",
];

/// Any JSON value.
#[derive(Debug)]
enum Value {
    Null,
    Bool(bool),
    Integer(u64),
    OtherNumber,
    Text(String),
    List(Vec<Value>),
    Object(Fields),
}

/// The members of an object that are not read yet.
#[derive(Debug, Default)]
pub(super) struct Fields(BTreeMap<String, Value>);

fn value(reader: &mut Reader<'_>) -> Result<Value, Malformed> {
    Ok(match reader.peek() {
        Some(b'"') => Value::Text(reader.string("value")?.decode().into_owned()),
        Some(b'[') => {
            let mut items = Vec::new();
            reader.array("value", |reader| {
                items.push(value(reader)?);
                Ok(())
            })?;
            Value::List(items)
        }
        Some(b'{') => Value::Object(members(reader)?),
        Some(b't' | b'f') => Value::Bool(reader.boolean("value")?),
        Some(b'-' | b'0'..=b'9') => {
            let start = reader.at();
            reader.skip()?;
            let text = reader.since(start);
            let plain = text.bytes().all(|b| b.is_ascii_digit());
            match text.parse() {
                Ok(number) if plain && number <= INTEGER_MAX => Value::Integer(number),
                _ => Value::OtherNumber,
            }
        }
        _ => {
            reader.skip()?;
            Value::Null
        }
    })
}

fn members(reader: &mut Reader<'_>) -> Result<Fields, Malformed> {
    let mut fields = BTreeMap::new();
    reader.object("content", |reader, key| {
        let value = value(reader)?;
        if fields.insert(key.decode().into_owned(), value).is_some() { Err(Malformed::DuplicateKey) } else { Ok(()) }
    })?;
    Ok(Fields(fields))
}

/// Refuses an absent field.
pub(super) fn need<T>(value: Option<T>, name: &'static str) -> Result<T, Reject> {
    value.ok_or(Reject::FieldMissing(name))
}

impl Fields {
    /// Reads a content: one object, no secret anywhere in it.
    pub(super) fn parse(content: &str) -> Result<Fields, Reject> {
        let mut reader = Reader::new(content.as_bytes(), CONTENT_MAX).map_err(Reject::Content)?;
        let fields = members(&mut reader).map_err(Reject::Content)?;
        reader.end().map_err(Reject::Content)?;
        if fields.names_a_secret() { Err(Reject::SecretInPublic) } else { Ok(fields) }
    }

    fn names_a_secret(&self) -> bool {
        fn inside(value: &Value) -> bool {
            match value {
                Value::Object(fields) => fields.names_a_secret(),
                Value::List(items) => items.iter().any(inside),
                _ => false,
            }
        }
        self.0.iter().any(|(name, value)| SECRET_NAMES.contains(&name.as_str()) || inside(value))
    }

    /// Is there such a field?
    pub(super) fn has(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }

    /// A string whose length in characters lies in `length`.
    pub(super) fn text(&mut self, name: &'static str, length: RangeInclusive<usize>) -> Result<Option<String>, Reject> {
        match self.0.remove(name) {
            None => Ok(None),
            Some(Value::Text(text)) if length.contains(&text.chars().count()) => Ok(Some(text)),
            Some(Value::Text(_)) => Err(Reject::FieldRange(name)),
            Some(_) => Err(Reject::FieldType(name)),
        }
    }

    /// An integer in `range`.
    pub(super) fn integer(&mut self, name: &'static str, range: RangeInclusive<u64>) -> Result<Option<u64>, Reject> {
        match self.0.remove(name) {
            None => Ok(None),
            Some(Value::Integer(number)) if range.contains(&number) => Ok(Some(number)),
            Some(Value::Integer(_) | Value::OtherNumber) => Err(Reject::FieldRange(name)),
            Some(_) => Err(Reject::FieldType(name)),
        }
    }

    /// A small integer in `range`.
    pub(super) fn small<T>(&mut self, name: &'static str, range: RangeInclusive<T>) -> Result<Option<T>, Reject>
    where
        T: Copy + Into<u64> + TryFrom<u64>,
    {
        let wide = (*range.start()).into()..=(*range.end()).into();
        let number = self.integer(name, wide)?;
        number.map(|number| T::try_from(number).map_err(|_| Reject::FieldRange(name))).transpose()
    }

    /// An amount of satoshis, at least `least`, at most all there can be.
    pub(super) fn sats(&mut self, name: &'static str, least: u64) -> Result<Option<Sat>, Reject> {
        match self.integer(name, least..=INTEGER_MAX)? {
            None => Ok(None),
            Some(number) => {
                let amount = Sat(number);
                amount.to_msat().map_err(|_| Reject::FieldRange(name))?;
                Ok(Some(amount))
            }
        }
    }

    /// `true` or `false`.
    pub(super) fn boolean(&mut self, name: &'static str) -> Result<Option<bool>, Reject> {
        match self.0.remove(name) {
            None => Ok(None),
            Some(Value::Bool(value)) => Ok(Some(value)),
            Some(_) => Err(Reject::FieldType(name)),
        }
    }

    /// 32 bytes as 64 lowercase hex characters.
    pub(super) fn bytes32(&mut self, name: &'static str) -> Result<Option<[u8; 32]>, Reject> {
        match self.0.remove(name) {
            None => Ok(None),
            Some(value) => bytes32(&value, name).map(Some),
        }
    }

    /// A payment hash.
    pub(super) fn hash(&mut self, name: &'static str) -> Result<Option<PaymentHash>, Reject> {
        Ok(self.bytes32(name)?.map(PaymentHash))
    }

    /// One of the words in `words`.
    pub(super) fn word<T: Copy>(&mut self, name: &'static str, words: &[(&str, T)]) -> Result<Option<T>, Reject> {
        match self.0.remove(name) {
            None => Ok(None),
            Some(Value::Text(text)) => match words.iter().find(|(word, _)| *word == text) {
                Some((_, value)) => Ok(Some(*value)),
                None => Err(Reject::FieldRange(name)),
            },
            Some(_) => Err(Reject::FieldType(name)),
        }
    }

    /// An object.
    pub(super) fn object(&mut self, name: &'static str) -> Result<Option<Fields>, Reject> {
        match self.0.remove(name) {
            None => Ok(None),
            Some(Value::Object(fields)) => Ok(Some(fields)),
            Some(_) => Err(Reject::FieldType(name)),
        }
    }

    /// Up to `max` different 32-byte values.
    pub(super) fn bytes32_list(&mut self, name: &'static str, max: usize) -> Result<Vec<[u8; 32]>, Reject> {
        let mut out: Vec<[u8; 32]> = Vec::new();
        for item in self.list(name, max)? {
            let bytes = bytes32(&item, name)?;
            if out.contains(&bytes) {
                return Err(Reject::FieldRange(name));
            }
            out.push(bytes);
        }
        Ok(out)
    }

    /// Up to `max` strings that satisfy `holds`.
    pub(super) fn text_list(
        &mut self,
        name: &'static str,
        max: usize,
        holds: impl Fn(&str) -> bool,
    ) -> Result<Vec<String>, Reject> {
        let read = |item| match item {
            Value::Text(text) if holds(&text) => Ok(text),
            Value::Text(_) => Err(Reject::FieldRange(name)),
            _ => Err(Reject::FieldType(name)),
        };
        self.list(name, max)?.into_iter().map(read).collect()
    }

    fn list(&mut self, name: &'static str, max: usize) -> Result<Vec<Value>, Reject> {
        match self.0.remove(name) {
            None => Ok(Vec::new()),
            Some(Value::List(items)) if items.len() <= max => Ok(items),
            Some(Value::List(_)) => Err(Reject::FieldRange(name)),
            Some(_) => Err(Reject::FieldType(name)),
        }
    }

    /// Refuses whatever is left: DOMP's schemas say `additionalProperties: false`.
    pub(super) fn end(self) -> Result<(), Reject> {
        match self.0.into_keys().next() {
            None => Ok(()),
            Some(name) => Err(Reject::UnknownField(name.chars().take(64).collect())),
        }
    }
}

fn bytes32(value: &Value, name: &'static str) -> Result<[u8; 32], Reject> {
    match value {
        Value::Text(text) => parse_hex(text, name).map_err(|_| Reject::FieldRange(name)),
        _ => Err(Reject::FieldType(name)),
    }
}

/// Writes one object, members in the order of the calls.
pub(super) struct Object(String);

impl Object {
    pub(super) fn new() -> Object {
        Object(String::from("{"))
    }

    fn key(mut self, name: &str) -> Object {
        if self.0.len() > 1 {
            self.0.push(',');
        }
        write_str(&mut self.0, name);
        self.0.push(':');
        self
    }

    /// A value that is JSON already.
    pub(super) fn raw(self, name: &str, json: &str) -> Object {
        let mut object = self.key(name);
        object.0.push_str(json);
        object
    }

    pub(super) fn text(self, name: &str, text: &str) -> Object {
        let mut object = self.key(name);
        write_str(&mut object.0, text);
        object
    }

    pub(super) fn integer(self, name: &str, number: u64) -> Object {
        let mut object = self.key(name);
        write_uint(&mut object.0, number);
        object
    }

    pub(super) fn boolean(self, name: &str, value: bool) -> Object {
        self.raw(name, if value { "true" } else { "false" })
    }

    pub(super) fn hex(self, name: &str, bytes: &[u8; 32]) -> Object {
        let mut object = self.key(name);
        write_hex_str(&mut object.0, bytes);
        object
    }

    /// A list of hex strings; nothing when it is empty.
    pub(super) fn hex_list<'a>(self, name: &str, items: impl IntoIterator<Item = &'a [u8; 32]>) -> Object {
        let items: Vec<String> = items
            .into_iter()
            .map(|bytes| {
                let mut out = String::with_capacity(66);
                write_hex_str(&mut out, bytes);
                out
            })
            .collect();
        if items.is_empty() { self } else { self.raw(name, &format!("[{}]", items.join(","))) }
    }

    /// A list of values that are JSON already; nothing when it is empty.
    pub(super) fn raw_list(self, name: &str, items: impl Iterator<Item = String>) -> Object {
        let items: Vec<String> = items.collect();
        if items.is_empty() { self } else { self.raw(name, &format!("[{}]", items.join(","))) }
    }

    /// A list of strings; nothing when it is empty.
    pub(super) fn text_list(self, name: &str, items: &[String]) -> Object {
        let items: Vec<String> = items
            .iter()
            .map(|item| {
                let mut out = String::with_capacity(item.len() + 2);
                write_str(&mut out, item);
                out
            })
            .collect();
        if items.is_empty() { self } else { self.raw(name, &format!("[{}]", items.join(","))) }
    }

    /// A member that is left out when there is nothing to say.
    pub(super) fn maybe<T>(self, value: Option<T>, write: impl FnOnce(Object, T) -> Object) -> Object {
        match value {
            Some(value) => write(self, value),
            None => self,
        }
    }

    pub(super) fn end(mut self) -> String {
        self.0.push('}');
        self.0
    }
}

fn write_hex_str(out: &mut String, bytes: &[u8; 32]) {
    out.push('"');
    write_hex(out, bytes);
    out.push('"');
}

//! Subscription filters (NIP-01, `search` of NIP-50): what a subscriber wants to see.

use std::borrow::Cow;
use std::collections::BTreeMap;

use units::Unix;

use crate::event::{Event, RawEvent};
use crate::json::{Malformed, Reader, parse_hex, write_hex, write_str, write_uint};

/// What a reader of filters puts up with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FilterLimits {
    /// Longest filter, in bytes of JSON.
    pub bytes: usize,
    /// Most values of one list.
    pub values: usize,
    /// Most different `#x` lists.
    pub tag_names: usize,
    /// Longest tag value or search text, in bytes.
    pub text: usize,
}

impl FilterLimits {
    /// What our relay and our client allow.
    pub const DEFAULT: FilterLimits = FilterLimits { bytes: 256 * 1024, values: 2000, tag_names: 16, text: 1024 };
}

/// A filter. An absent condition holds for every event; a list that is present and empty holds for none.
/// Lists are sorted and name nothing twice, however they were written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// Ids.
    pub ids: Option<Vec<[u8; 32]>>,
    /// Authors.
    pub authors: Option<Vec<[u8; 32]>>,
    /// Kinds.
    pub kinds: Option<Vec<u16>>,
    /// `#x`: for each ASCII letter the values of which an event must carry at least one as the first value of a tag of that name.
    pub tags: BTreeMap<u8, Vec<String>>,
    /// Not older than this.
    pub since: Option<Unix>,
    /// Not newer than this.
    pub until: Option<Unix>,
    /// At most so many stored events, newest first. Zero asks for new ones only.
    pub limit: Option<u64>,
    /// Words to search for (NIP-50). [`Filter::matches`] leaves them to the index that knows how to search.
    pub search: Option<String>,
}

/// Sorted, without repetition.
fn tidy<T: Ord>(mut values: Vec<T>) -> Vec<T> {
    values.sort_unstable();
    values.dedup();
    values
}

impl Filter {
    /// Reads exactly one filter from JSON, strictly, within `limits`. A condition that we do not know is refused: to ignore it
    /// would answer another question than the one that was asked.
    pub fn parse(json: &[u8], limits: &FilterLimits) -> Result<Filter, Malformed> {
        let mut reader = Reader::new(json, limits.bytes)?;
        let filter = Filter::read(&mut reader, limits)?;
        reader.end()?;
        Ok(filter)
    }

    /// Reads the filter that starts here.
    pub(crate) fn read(reader: &mut Reader<'_>, limits: &FilterLimits) -> Result<Filter, Malformed> {
        reader.peek();
        let start = reader.at();
        let mut filter = Filter::default();
        reader.object("filter", |reader, key| filter.member(reader, &key.decode(), limits))?;
        if reader.since(start).len() > limits.bytes {
            return Err(Malformed::TooLarge(limits.bytes));
        }
        Ok(filter)
    }

    fn member(&mut self, reader: &mut Reader<'_>, key: &str, limits: &FilterLimits) -> Result<(), Malformed> {
        match key {
            "ids" => put(&mut self.ids, list(reader, "ids", limits, |r| parse_hex(r.string("ids")?.raw(), "ids"))?),
            "authors" => {
                let read = |r: &mut Reader<'_>| parse_hex(r.string("authors")?.raw(), "authors");
                put(&mut self.authors, list(reader, "authors", limits, read)?)
            }
            "kinds" => {
                let read =
                    |r: &mut Reader<'_>| u16::try_from(r.integer("kinds")?).map_err(|_| Malformed::OutOfRange("kinds"));
                put(&mut self.kinds, list(reader, "kinds", limits, read)?)
            }
            "since" => put(&mut self.since, Unix(reader.integer("since")?)),
            "until" => put(&mut self.until, Unix(reader.integer("until")?)),
            "limit" => put(&mut self.limit, reader.integer("limit")?),
            "search" => put(&mut self.search, text(reader, "search", limits)?),
            _ => match key.as_bytes() {
                [b'#', letter] if letter.is_ascii_alphabetic() => {
                    if !self.tags.contains_key(letter) && self.tags.len() == limits.tag_names {
                        return Err(Malformed::TooMany("tag names"));
                    }
                    let values = list(reader, "tag values", limits, |r| text(r, "tag values", limits))?;
                    if self.tags.insert(*letter, values).is_some() { Err(Malformed::DuplicateKey) } else { Ok(()) }
                }
                _ => Err(Malformed::UnknownKey),
            },
        }
    }

    /// The event is one that the subscriber wants, as far as everything but `search` and `limit` goes.
    pub fn matches(&self, event: &Event) -> bool {
        self.matches_head(&event.id, &event.pubkey, event.kind, event.created_at)
            && self.tags.iter().all(|(letter, wanted)| {
                let mut values =
                    event.tags.iter().filter(|tag| tag[0].as_bytes() == [*letter]).filter_map(|tag| tag.get(1));
                values.any(|value| wanted.binary_search(value).is_ok())
            })
    }

    /// [`Filter::matches`] without an owned event.
    pub fn matches_raw(&self, event: &RawEvent<'_>) -> bool {
        self.matches_head(&event.id, &event.pubkey, event.kind, event.created_at)
            && self.tags.iter().all(|(letter, wanted)| {
                let holds = |value: Cow<'_, str>| wanted.binary_search_by(|w| w.as_str().cmp(&value)).is_ok();
                event.indexed_tags().any(|(name, value)| name == *letter && holds(value))
            })
    }

    /// The part of [`Filter::matches`] that needs no tags.
    pub fn matches_head(&self, id: &[u8; 32], pubkey: &[u8; 32], kind: u16, created_at: Unix) -> bool {
        holds(self.ids.as_deref(), id)
            && holds(self.authors.as_deref(), pubkey)
            && holds(self.kinds.as_deref(), &kind)
            && self.since.is_none_or(|since| created_at >= since)
            && self.until.is_none_or(|until| created_at <= until)
    }

    /// No stored or future event can match, so there is nothing to look up.
    pub fn is_empty(&self) -> bool {
        self.ids.as_ref().is_some_and(Vec::is_empty)
            || self.authors.as_ref().is_some_and(Vec::is_empty)
            || self.kinds.as_ref().is_some_and(Vec::is_empty)
            || self.tags.values().any(Vec::is_empty)
            || matches!((self.since, self.until), (Some(since), Some(until)) if since > until)
    }

    /// Appends the filter as compact JSON.
    pub fn write_json(&self, out: &mut String) {
        let hexes = |values: &Vec<[u8; 32]>| {
            joined(values, |out, value| {
                out.push('"');
                write_hex(out, value);
                out.push('"');
            })
        };
        let mut members: Vec<(String, String)> = Vec::new();
        let mut push = |key: &str, value: Option<String>| members.extend(value.map(|value| (key.to_owned(), value)));
        push("ids", self.ids.as_ref().map(hexes));
        push("authors", self.authors.as_ref().map(hexes));
        push("kinds", self.kinds.as_ref().map(|kinds| joined(kinds, |out, kind| write_uint(out, u64::from(*kind)))));
        for (letter, values) in &self.tags {
            push(&format!("#{}", char::from(*letter)), Some(joined(values, |out, value| write_str(out, value))));
        }
        push("since", self.since.map(|since| since.0.to_string()));
        push("until", self.until.map(|until| until.0.to_string()));
        push("limit", self.limit.map(|limit| limit.to_string()));
        push(
            "search",
            self.search.as_ref().map(|words| {
                let mut out = String::new();
                write_str(&mut out, words);
                out
            }),
        );
        out.push('{');
        for (i, (key, value)) in members.iter().enumerate() {
            if i > 0 {
                out.push(',');
            }
            write_str(out, key);
            out.push(':');
            out.push_str(value);
        }
        out.push('}');
    }

    /// Compact JSON.
    pub fn to_json(&self) -> String {
        let mut out = String::new();
        self.write_json(&mut out);
        out
    }
}

fn joined<T>(values: &[T], mut write: impl FnMut(&mut String, &T)) -> String {
    let mut out = String::from("[");
    for (i, value) in values.iter().enumerate() {
        if i > 0 {
            out.push(',');
        }
        write(&mut out, value);
    }
    out.push(']');
    out
}

fn holds<T: Ord>(wanted: Option<&[T]>, value: &T) -> bool {
    wanted.is_none_or(|wanted| wanted.binary_search(value).is_ok())
}

fn put<T>(slot: &mut Option<T>, value: T) -> Result<(), Malformed> {
    if slot.replace(value).is_some() { Err(Malformed::DuplicateKey) } else { Ok(()) }
}

fn text(reader: &mut Reader<'_>, field: &'static str, limits: &FilterLimits) -> Result<String, Malformed> {
    let text = reader.string(field)?.decode();
    if text.len() > limits.text { Err(Malformed::OutOfRange(field)) } else { Ok(text.into_owned()) }
}

fn list<T: Ord>(
    reader: &mut Reader<'_>,
    field: &'static str,
    limits: &FilterLimits,
    mut read: impl FnMut(&mut Reader<'_>) -> Result<T, Malformed>,
) -> Result<Vec<T>, Malformed> {
    let mut values = Vec::new();
    reader.array(field, |reader| {
        if values.len() == limits.values {
            return Err(Malformed::TooMany(field));
        }
        values.push(read(reader)?);
        Ok(())
    })?;
    Ok(tidy(values))
}

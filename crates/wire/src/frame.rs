//! Frames between clients and relays: NIP-01, `AUTH` of NIP-42, `COUNT` of NIP-45 and the `NEG-` frames of NIP-77.

use std::borrow::Cow;

use crate::event::{Event, Limits, RawEvent};
use crate::filter::{Filter, FilterLimits};
use crate::hll::Registers;
use crate::json::{Malformed, Reader, parse_hex, write_hex, write_str, write_uint};

/// What a reader of frames puts up with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameLimits {
    /// Longest frame, in bytes.
    pub bytes: usize,
    /// Most filters of one subscription.
    pub filters: usize,
    /// Longest third element of `EVENT`, in bytes.
    pub extra: usize,
    /// Limits of the events inside.
    pub event: Limits,
    /// Limits of the filters inside.
    pub filter: FilterLimits,
}

impl FrameLimits {
    /// What our relay reads from clients.
    pub const RELAY: FrameLimits = FrameLimits {
        bytes: 512 * 1024,
        filters: 32,
        extra: 16 * 1024,
        event: Limits::RELAY,
        filter: FilterLimits::DEFAULT,
    };
    /// What our client reads from relays. Foreign relays may pass on what ours would refuse, so unknown keys are dropped.
    pub const CLIENT: FrameLimits = FrameLimits::RELAY;
}

/// Longest subscription id, in characters (NIP-01).
pub const SUBSCRIPTION_ID_MAX: usize = 64;
/// Longest text of `OK`, `CLOSED`, `NOTICE` and `AUTH` that we read, in bytes.
pub const TEXT_MAX: usize = 4096;

/// What a client says to a relay.
#[derive(Clone, Debug)]
pub enum ClientFrame<'a> {
    /// Publish this.
    Event {
        /// The event, unverified.
        event: RawEvent<'a>,
        /// What follows it: NIP-01 ends here, a credential may follow.
        extra: Option<Cow<'a, str>>,
    },
    /// Send what matches, stored and new.
    Req {
        /// Named by the client; the same id again replaces the subscription.
        id: Cow<'a, str>,
        /// An event that matches any of them is sent. At least one.
        filters: Vec<Filter>,
    },
    /// Count what matches (NIP-45).
    Count {
        /// Named by the client.
        id: Cow<'a, str>,
        /// An event that matches any of them counts. At least one.
        filters: Vec<Filter>,
    },
    /// End a subscription.
    Close(Cow<'a, str>),
    /// Answer to a challenge (NIP-42).
    Auth(RawEvent<'a>),
    /// Start to reconcile sets (NIP-77).
    NegOpen {
        /// Named by the client.
        id: Cow<'a, str>,
        /// Which events.
        filter: Filter,
        /// Negentropy message, as hex.
        message: Cow<'a, str>,
    },
    /// Go on reconciling (NIP-77).
    NegMsg {
        /// Named by the client.
        id: Cow<'a, str>,
        /// Negentropy message, as hex.
        message: Cow<'a, str>,
    },
    /// Stop reconciling (NIP-77).
    NegClose(Cow<'a, str>),
}

/// What a relay says to a client.
#[derive(Clone, Debug)]
pub enum RelayFrame<'a> {
    /// An event of a subscription.
    Event {
        /// The subscription.
        id: Cow<'a, str>,
        /// The event, unverified.
        event: RawEvent<'a>,
    },
    /// Answer to `EVENT` and `AUTH`.
    Ok {
        /// Which event.
        event: [u8; 32],
        /// The relay has it.
        accepted: bool,
        /// Why not, or what else there is to say: `prefix: text`, see [`prefix`].
        message: Cow<'a, str>,
    },
    /// All stored events of a subscription were sent.
    Eose(Cow<'a, str>),
    /// The relay ended, or refused, a subscription.
    Closed {
        /// The subscription.
        id: Cow<'a, str>,
        /// Why: `prefix: text`, see [`prefix`].
        message: Cow<'a, str>,
    },
    /// Something for people to read.
    Notice(Cow<'a, str>),
    /// A challenge (NIP-42).
    Auth(Cow<'a, str>),
    /// Answer to `COUNT` (NIP-45).
    Count {
        /// Which request.
        id: Cow<'a, str>,
        /// How many events match.
        count: u64,
        /// The relay only estimates.
        approximate: bool,
        /// HyperLogLog registers of the authors, to be merged with those of other relays.
        hll: Option<Box<Registers>>,
    },
    /// Go on reconciling (NIP-77).
    NegMsg {
        /// Which request.
        id: Cow<'a, str>,
        /// Negentropy message, as hex.
        message: Cow<'a, str>,
    },
    /// The relay stops reconciling (NIP-77).
    NegErr {
        /// Which request.
        id: Cow<'a, str>,
        /// Why: `prefix: text`.
        message: Cow<'a, str>,
        /// Most events that the relay reconciles at once, if that is the reason.
        max: Option<u64>,
    },
}

/// The elements of a frame, one after another.
struct Elements<'r, 'a> {
    reader: &'r mut Reader<'a>,
    first: bool,
    limits: &'r FrameLimits,
}

impl<'r, 'a> Elements<'r, 'a> {
    fn more(&mut self) -> Result<bool, Malformed> {
        self.reader.array_next(&mut self.first)
    }

    fn need(&mut self, what: &'static str) -> Result<(), Malformed> {
        if self.more()? { Ok(()) } else { Err(Malformed::Missing(what)) }
    }

    fn end(&mut self) -> Result<(), Malformed> {
        if self.more()? { Err(Malformed::TooMany("elements")) } else { Ok(()) }
    }

    fn text(&mut self, what: &'static str, max: usize) -> Result<Cow<'a, str>, Malformed> {
        self.need(what)?;
        let text = self.reader.string(what)?.decode();
        if text.len() > max { Err(Malformed::OutOfRange(what)) } else { Ok(text) }
    }

    fn subscription(&mut self) -> Result<Cow<'a, str>, Malformed> {
        let id = self.text("subscription id", 4 * SUBSCRIPTION_ID_MAX)?;
        match id.chars().count() {
            0 => Err(Malformed::Empty("subscription id")),
            1..=SUBSCRIPTION_ID_MAX => Ok(id),
            _ => Err(Malformed::OutOfRange("subscription id")),
        }
    }

    fn event(&mut self) -> Result<RawEvent<'a>, Malformed> {
        self.need("event")?;
        RawEvent::read(self.reader, &self.limits.event)
    }

    fn filter(&mut self) -> Result<Filter, Malformed> {
        Filter::read(self.reader, &self.limits.filter)
    }

    fn filters(&mut self) -> Result<Vec<Filter>, Malformed> {
        self.need("filter")?;
        let mut filters = vec![self.filter()?];
        while self.more()? {
            if filters.len() == self.limits.filters {
                return Err(Malformed::TooMany("filters"));
            }
            filters.push(self.filter()?);
        }
        Ok(filters)
    }

    fn negentropy(&mut self) -> Result<Cow<'a, str>, Malformed> {
        let message = self.text("negentropy message", self.limits.bytes)?;
        let hex = message.len().is_multiple_of(2) && message.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        if hex { Ok(message) } else { Err(Malformed::NotHex("negentropy message")) }
    }
}

fn read_frame<'a, T>(
    bytes: &'a [u8],
    limits: &FrameLimits,
    read: impl FnOnce(&str, &mut Elements<'_, 'a>) -> Result<T, Malformed>,
) -> Result<T, Malformed> {
    let mut reader = Reader::new(bytes, limits.bytes)?;
    reader.array_start("frame")?;
    let mut elements = Elements { reader: &mut reader, first: true, limits };
    let verb = elements.text("message", 16)?;
    let frame = read(&verb, &mut elements)?;
    reader.end()?;
    Ok(frame)
}

impl<'a> ClientFrame<'a> {
    /// Reads exactly one frame of a client, strictly, within `limits`.
    pub fn parse(bytes: &'a [u8], limits: &FrameLimits) -> Result<ClientFrame<'a>, Malformed> {
        read_frame(bytes, limits, |verb, elements| {
            let frame = match verb {
                "EVENT" => {
                    let event = elements.event()?;
                    let mut extra = None;
                    if elements.more()? {
                        let text = elements.reader.string("extra element")?.decode();
                        if text.len() > limits.extra {
                            return Err(Malformed::OutOfRange("extra element"));
                        }
                        elements.end()?;
                        extra = Some(text);
                    }
                    return Ok(ClientFrame::Event { event, extra });
                }
                // Reading the filters reads the end of the frame too.
                "REQ" => return Ok(ClientFrame::Req { id: elements.subscription()?, filters: elements.filters()? }),
                "COUNT" => {
                    return Ok(ClientFrame::Count { id: elements.subscription()?, filters: elements.filters()? });
                }
                "CLOSE" => ClientFrame::Close(elements.subscription()?),
                "AUTH" => ClientFrame::Auth(elements.event()?),
                "NEG-OPEN" => {
                    let id = elements.subscription()?;
                    elements.need("filter")?;
                    ClientFrame::NegOpen { id, filter: elements.filter()?, message: elements.negentropy()? }
                }
                "NEG-MSG" => ClientFrame::NegMsg { id: elements.subscription()?, message: elements.negentropy()? },
                "NEG-CLOSE" => ClientFrame::NegClose(elements.subscription()?),
                _ => return Err(Malformed::UnknownVerb),
            };
            elements.end()?;
            Ok(frame)
        })
    }

    /// The frame as a relay reads it.
    pub fn to_json(&self) -> String {
        match self {
            ClientFrame::Event { event, extra } => publish_json(event.text, extra.as_deref()),
            ClientFrame::Req { id, filters } => ask("REQ", id, filters),
            ClientFrame::Count { id, filters } => ask("COUNT", id, filters),
            ClientFrame::Close(id) => strings(&["CLOSE", id]),
            ClientFrame::Auth(event) => format!("[\"AUTH\",{}]", event.text),
            ClientFrame::NegOpen { id, filter, message } => {
                let mut out = opening("NEG-OPEN", id);
                out.push(',');
                filter.write_json(&mut out);
                out.push(',');
                write_str(&mut out, message);
                out.push(']');
                out
            }
            ClientFrame::NegMsg { id, message } => strings(&["NEG-MSG", id, message]),
            ClientFrame::NegClose(id) => strings(&["NEG-CLOSE", id]),
        }
    }
}

impl<'a> RelayFrame<'a> {
    /// Reads exactly one frame of a relay, strictly, within `limits`.
    pub fn parse(bytes: &'a [u8], limits: &FrameLimits) -> Result<RelayFrame<'a>, Malformed> {
        read_frame(bytes, limits, |verb, elements| {
            let frame = match verb {
                "EVENT" => RelayFrame::Event { id: elements.subscription()?, event: elements.event()? },
                "OK" => {
                    let event = parse_hex(&elements.text("event id", 64)?, "event id")?;
                    elements.need("accepted")?;
                    let accepted = elements.reader.boolean("accepted")?;
                    RelayFrame::Ok { event, accepted, message: elements.text("message", TEXT_MAX)? }
                }
                "EOSE" => RelayFrame::Eose(elements.subscription()?),
                "CLOSED" => {
                    RelayFrame::Closed { id: elements.subscription()?, message: elements.text("message", TEXT_MAX)? }
                }
                "NOTICE" => RelayFrame::Notice(elements.text("message", TEXT_MAX)?),
                "AUTH" => RelayFrame::Auth(elements.text("challenge", TEXT_MAX)?),
                "COUNT" => {
                    let id = elements.subscription()?;
                    elements.need("count")?;
                    let (count, approximate, hll) = read_count(elements.reader)?;
                    RelayFrame::Count { id, count, approximate, hll }
                }
                "NEG-MSG" => RelayFrame::NegMsg { id: elements.subscription()?, message: elements.negentropy()? },
                "NEG-ERR" => {
                    let (id, message) = (elements.subscription()?, elements.text("message", TEXT_MAX)?);
                    if !elements.more()? {
                        return Ok(RelayFrame::NegErr { id, message, max: None });
                    }
                    RelayFrame::NegErr { id, message, max: Some(elements.reader.integer("most events")?) }
                }
                _ => return Err(Malformed::UnknownVerb),
            };
            elements.end()?;
            Ok(frame)
        })
    }

    /// The frame as a client reads it.
    pub fn to_json(&self) -> String {
        match self {
            RelayFrame::Event { id, event } => deliver_json(id, event.text),
            RelayFrame::Ok { event, accepted, message } => {
                let mut out = String::from("[\"OK\",\"");
                write_hex(&mut out, event);
                out.push_str(if *accepted { "\",true," } else { "\",false," });
                write_str(&mut out, message);
                out.push(']');
                out
            }
            RelayFrame::Eose(id) => strings(&["EOSE", id]),
            RelayFrame::Closed { id, message } => strings(&["CLOSED", id, message]),
            RelayFrame::Notice(text) => strings(&["NOTICE", text]),
            RelayFrame::Auth(challenge) => strings(&["AUTH", challenge]),
            RelayFrame::Count { id, count, approximate, hll } => {
                let mut out = opening("COUNT", id);
                out.push_str(",{\"count\":");
                write_uint(&mut out, *count);
                out.push_str(if *approximate { ",\"approximate\":true" } else { "" });
                if let Some(registers) = hll {
                    out.push_str(",\"hll\":\"");
                    write_hex(&mut out, registers.as_slice());
                    out.push('"');
                }
                out.push_str("}]");
                out
            }
            RelayFrame::NegMsg { id, message } => strings(&["NEG-MSG", id, message]),
            RelayFrame::NegErr { id, message, max } => {
                let mut out = strings(&["NEG-ERR", id, message]);
                if let Some(max) = max {
                    out.pop();
                    out.push(',');
                    write_uint(&mut out, *max);
                    out.push(']');
                }
                out
            }
        }
    }
}

/// What the object of `COUNT` says; members that we do not know are passed over.
type Count = (u64, bool, Option<Box<Registers>>);

fn read_count(reader: &mut Reader<'_>) -> Result<Count, Malformed> {
    let (mut count, mut approximate, mut hll) = (None, None, None);
    reader.object("count", |reader, key| {
        let twice = match key.decode().as_ref() {
            "count" => count.replace(reader.integer("count")?).is_some(),
            "approximate" => approximate.replace(reader.boolean("approximate")?).is_some(),
            // Of another length it is no estimate that could be merged, and the count stands without it.
            "hll" => hll.replace(parse_hex(reader.string("hll")?.raw(), "hll").map(Box::new).ok()).is_some(),
            _ => {
                reader.skip()?;
                false
            }
        };
        if twice { Err(Malformed::DuplicateKey) } else { Ok(()) }
    })?;
    Ok((count.ok_or(Malformed::Missing("count"))?, approximate.unwrap_or(false), hll.flatten()))
}

/// `["EVENT", event]`, with the third element when there is one.
pub fn publish(event: &Event, extra: Option<&str>) -> String {
    publish_json(&event.to_json(), extra)
}

fn publish_json(event: &str, extra: Option<&str>) -> String {
    let mut out = String::with_capacity(event.len() + extra.map_or(0, |e| e.len() + 8) + 16);
    out.push_str("[\"EVENT\",");
    out.push_str(event);
    if let Some(extra) = extra {
        out.push(',');
        write_str(&mut out, extra);
    }
    out.push(']');
    out
}

/// `["AUTH", event]` (NIP-42).
pub fn authenticate(event: &Event) -> String {
    format!("[\"AUTH\",{}]", event.to_json())
}

/// What stands before the event in each `["EVENT", id, event]` of a subscription: `["EVENT", id,`.
pub fn deliver_head(id: &str) -> String {
    let mut out = opening("EVENT", id);
    out.push(',');
    out
}

/// `["EVENT", id, event]` around an event that is already JSON: what a relay sends to a subscriber.
pub fn deliver_json(id: &str, event: &str) -> String {
    let mut out = deliver_head(id);
    out.reserve_exact(event.len() + 1);
    out.push_str(event);
    out.push(']');
    out
}

/// The word before `: ` in the text of `OK` and `CLOSED` (NIP-01, NIP-42), such as `duplicate` or `auth-required`.
pub fn prefix(message: &str) -> Option<&str> {
    let (word, _) = message.split_once(':')?;
    let known = !word.is_empty() && word.bytes().all(|b| b.is_ascii_lowercase() || b == b'-');
    known.then_some(word)
}

fn opening(verb: &str, id: &str) -> String {
    let mut out = String::with_capacity(id.len() + 16);
    out.push('[');
    write_str(&mut out, verb);
    out.push(',');
    write_str(&mut out, id);
    out
}

fn strings(parts: &[&str]) -> String {
    let mut out = String::from("[");
    for (i, part) in parts.iter().enumerate() {
        if i > 0 {
            out.push(',');
        }
        write_str(&mut out, part);
    }
    out.push(']');
    out
}

fn ask(verb: &str, id: &str, filters: &[Filter]) -> String {
    let mut out = opening(verb, id);
    for filter in filters {
        out.push(',');
        filter.write_json(&mut out);
    }
    out.push(']');
    out
}

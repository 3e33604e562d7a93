//! Nostr events (NIP-01): what is signed, how it is read and written, and what its kind means to a relay.

use std::borrow::Cow;
use std::fmt;
use std::ops::Range;

use bitcoin::hashes::{Hash, HashEngine, sha256};
use secp256k1::{Keypair, SECP256K1, XOnlyPublicKey, schnorr};
use units::{Unix, hex32};

use crate::json::{Malformed, RawStr, Reader, parse_hex, write_hex, write_str, write_uint};

/// What a reader of events puts up with. Whatever is larger is refused with a reason.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Longest event, in bytes of JSON.
    pub bytes: usize,
    /// Most tags.
    pub tags: usize,
    /// Most elements of one tag.
    pub tag_elements: usize,
    /// What to do about keys that NIP-01 does not have. No signature covers them.
    pub unknown_keys: UnknownKeys,
}

/// What to do about keys of an event that NIP-01 does not have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UnknownKeys {
    /// Refuse the event.
    Refuse,
    /// Pass over them; they never get into an [`Event`] nor out again.
    Drop,
}

impl Limits {
    /// For events that we asked for and that must be just what NIP-01 says.
    pub const STRICT: Limits =
        Limits { bytes: 128 * 1024, tags: 2000, tag_elements: 100, unknown_keys: UnknownKeys::Refuse };
    /// For whatever clients of all ages send to a relay.
    pub const RELAY: Limits = Limits { unknown_keys: UnknownKeys::Drop, ..Limits::STRICT };
}

/// Most keys that NIP-01 does not have before an event is refused anyway.
const UNKNOWN_KEYS_MAX: usize = 16;

/// One tag: its name first, then its values.
pub type Tag = Vec<String>;

/// What an author is about to sign: an event without id and signature. As a NIP-59 rumor it stays that way.
#[derive(Clone, PartialEq, Eq)]
pub struct Unsigned {
    /// X-only public key (BIP-340) of the author.
    pub pubkey: [u8; 32],
    /// When the author says that it wrote this.
    pub created_at: Unix,
    /// What it is.
    pub kind: u16,
    /// Tags, none of them empty.
    pub tags: Vec<Tag>,
    /// Text whose meaning depends on the kind.
    pub content: String,
}

/// A signed event. Nothing is known to be true of it until [`Event::verify`] said so.
#[derive(Clone, PartialEq, Eq)]
pub struct Event {
    /// SHA-256 of the canonical serialisation.
    pub id: [u8; 32],
    /// X-only public key (BIP-340) of the author.
    pub pubkey: [u8; 32],
    /// When the author says that it wrote this.
    pub created_at: Unix,
    /// What it is.
    pub kind: u16,
    /// Tags, none of them empty.
    pub tags: Vec<Tag>,
    /// Text whose meaning depends on the kind.
    pub content: String,
    /// BIP-340 signature over the id.
    pub sig: [u8; 64],
}

/// The event is not what its author signed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Forged {
    /// The id is not the hash of the rest.
    #[error("the id is not the hash of the event")]
    BadId,
    /// The signature is not the author's over the id, or the author's key is no key.
    #[error("the signature is not the author's")]
    BadSignature,
}

impl Forged {
    /// A stable name for the reason.
    pub fn code(self) -> &'static str {
        match self {
            Forged::BadId => "bad-id",
            Forged::BadSignature => "bad-signature",
        }
    }
}

/// How a relay treats a kind (NIP-01). DOMP's 300 to 399 lie in a range that NIP-01 leaves open: regular here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KindClass {
    /// All are kept.
    Regular,
    /// The latest of an author and kind is kept.
    Replaceable,
    /// Passed on, not kept.
    Ephemeral,
    /// The latest of an author, kind and `d` tag is kept.
    Addressable,
}

impl KindClass {
    /// Class of `kind`.
    pub fn of(kind: u16) -> KindClass {
        match kind {
            0 | 3 | 10_000..=19_999 => KindClass::Replaceable,
            20_000..=29_999 => KindClass::Ephemeral,
            30_000..=39_999 => KindClass::Addressable,
            _ => KindClass::Regular,
        }
    }
}

/// SHA-256 of `[0, pubkey, created_at, kind, tags, content]` (NIP-01), the last two written as JSON already.
fn canonical_id(pubkey: &[u8; 32], created_at: Unix, kind: u16, tags: &str, content: &str) -> [u8; 32] {
    let mut head = String::with_capacity(112);
    head.push_str("[0,\"");
    write_hex(&mut head, pubkey);
    head.push_str("\",");
    write_uint(&mut head, created_at.0);
    head.push(',');
    write_uint(&mut head, u64::from(kind));
    head.push(',');
    let mut engine = sha256::Hash::engine();
    for part in [head.as_str(), tags, ",", content, "]"] {
        engine.input(part.as_bytes());
    }
    sha256::Hash::from_engine(engine).to_byte_array()
}

fn write_tags(out: &mut String, tags: &[Tag]) {
    out.push('[');
    for (i, tag) in tags.iter().enumerate() {
        out.push_str(if i == 0 { "[" } else { ",[" });
        for (j, element) in tag.iter().enumerate() {
            if j > 0 {
                out.push(',');
            }
            write_str(out, element);
        }
        out.push(']');
    }
    out.push(']');
}

/// An event without its signature and without the closing brace.
fn write_members(
    out: &mut String,
    id: &[u8; 32],
    pubkey: &[u8; 32],
    created_at: Unix,
    kind: u16,
    tags: &[Tag],
    content: &str,
) {
    out.push_str("{\"id\":\"");
    write_hex(out, id);
    out.push_str("\",\"pubkey\":\"");
    write_hex(out, pubkey);
    out.push_str("\",\"created_at\":");
    write_uint(out, created_at.0);
    out.push_str(",\"kind\":");
    write_uint(out, u64::from(kind));
    out.push_str(",\"tags\":");
    write_tags(out, tags);
    out.push_str(",\"content\":");
    write_str(out, content);
}

fn id_of(pubkey: &[u8; 32], created_at: Unix, kind: u16, tags: &[Tag], content: &str) -> [u8; 32] {
    let (mut tags_json, mut content_json) = (String::new(), String::with_capacity(content.len() + 2));
    write_tags(&mut tags_json, tags);
    write_str(&mut content_json, content);
    canonical_id(pubkey, created_at, kind, &tags_json, &content_json)
}

/// Checks a BIP-340 signature over an event id.
pub fn verify_signature(id: &[u8; 32], pubkey: &[u8; 32], sig: &[u8; 64]) -> Result<(), Forged> {
    let key = XOnlyPublicKey::from_slice(pubkey).map_err(|_| Forged::BadSignature)?;
    let sig = schnorr::Signature::from_slice(sig).map_err(|_| Forged::BadSignature)?;
    let message = secp256k1::Message::from_digest(*id);
    SECP256K1.verify_schnorr(&sig, &message, &key).map_err(|_| Forged::BadSignature)
}

/// X-only public key of `key`, as events carry it.
pub fn pubkey_of(key: &Keypair) -> [u8; 32] {
    key.x_only_public_key().0.serialize()
}

impl Unsigned {
    /// The id that the event will have: SHA-256 of its canonical serialisation (NIP-01).
    pub fn id(&self) -> [u8; 32] {
        id_of(&self.pubkey, self.created_at, self.kind, &self.tags, &self.content)
    }

    /// Signs with `key`, whose public key becomes the author. `aux` is BIP-340 auxiliary randomness: the same `aux` gives the
    /// same bytes again, all zeroes is allowed.
    pub fn sign(mut self, key: &Keypair, aux: &[u8; 32]) -> Event {
        self.pubkey = pubkey_of(key);
        let id = self.id();
        let sig = SECP256K1.sign_schnorr_with_aux_rand(&secp256k1::Message::from_digest(id), key, aux).serialize();
        let Unsigned { pubkey, created_at, kind, tags, content } = self;
        Event { id, pubkey, created_at, kind, tags, content, sig }
    }
}

impl Event {
    /// Reads exactly one event from JSON, strictly, within `limits`. Nothing is verified yet.
    pub fn parse(json: &[u8], limits: &Limits) -> Result<Event, Malformed> {
        RawEvent::parse(json, limits).map(|raw| raw.to_event())
    }

    /// The id is the hash of the event, and the signature is the author's over it: checked in this order.
    pub fn verify(&self) -> Result<(), Forged> {
        if id_of(&self.pubkey, self.created_at, self.kind, &self.tags, &self.content) != self.id {
            return Err(Forged::BadId);
        }
        verify_signature(&self.id, &self.pubkey, &self.sig)
    }

    /// Compact JSON, keys in the order of NIP-01.
    pub fn to_json(&self) -> String {
        let mut out = String::with_capacity(self.content.len() + 64 * self.tags.len() + 384);
        self.write_json(&mut out);
        out
    }

    /// Appends [`Event::to_json`].
    pub fn write_json(&self, out: &mut String) {
        write_members(out, &self.id, &self.pubkey, self.created_at, self.kind, &self.tags, &self.content);
        out.push_str(",\"sig\":\"");
        write_hex(out, &self.sig);
        out.push_str("\"}");
    }

    /// How a relay treats it.
    pub fn class(&self) -> KindClass {
        KindClass::of(self.kind)
    }

    /// First value of the first tag called `name`.
    pub fn tag(&self, name: &str) -> Option<&str> {
        first_value(&self.tags, name)
    }

    /// First values of all tags called `name`.
    pub fn tag_values<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.tags.iter().filter(move |tag| tag[0] == name).filter_map(|tag| tag.get(1)).map(String::as_str)
    }

    /// When the event ceases to be served (NIP-40). A tag that is no plain integer says nothing.
    pub fn expiration(&self) -> Option<Unix> {
        self.tag("expiration").and_then(parse_seconds)
    }

    /// Name within author and kind of an addressable event: its `d` tag, empty without one (CivKit's 32500 has none).
    pub fn identifier(&self) -> &str {
        self.tag("d").unwrap_or("")
    }

    /// What a deletion request names (NIP-09). Empty unless this is kind 5. Whether the author may delete it is for the reader
    /// to check: an event by its author, an address by its own key.
    pub fn deletion_targets(&self) -> Vec<DeletionTarget> {
        if self.kind != KIND_DELETION {
            return Vec::new();
        }
        self.tags.iter().filter_map(|tag| DeletionTarget::read(&tag[0], tag.get(1)?)).collect()
    }

    /// Everything but id and signature.
    pub fn into_unsigned(self) -> Unsigned {
        let Event { pubkey, created_at, kind, tags, content, .. } = self;
        Unsigned { pubkey, created_at, kind, tags, content }
    }
}

/// First value of the first tag called `name`.
pub(crate) fn first_value<'a>(tags: &'a [Tag], name: &str) -> Option<&'a str> {
    tags.iter().find(|tag| tag[0] == name).and_then(|tag| tag.get(1)).map(String::as_str)
}

/// A deletion request (NIP-09).
pub const KIND_DELETION: u16 = 5;
/// A request to vanish (NIP-62).
pub const KIND_VANISH: u16 = 62;

/// One thing that a deletion request names (NIP-09).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DeletionTarget {
    /// An `e` tag: the event with this id.
    Event([u8; 32]),
    /// An `a` tag: every version of this address up to the request's time.
    Address {
        /// Kind of the events.
        kind: u16,
        /// Their author.
        pubkey: [u8; 32],
        /// Their `d` tag; empty for replaceable events.
        identifier: String,
    },
}

impl DeletionTarget {
    fn read(name: &str, value: &str) -> Option<DeletionTarget> {
        match name {
            "e" => parse_hex(value, "e").ok().map(DeletionTarget::Event),
            "a" => {
                let mut parts = value.splitn(3, ':');
                let kind = parts.next()?.parse().ok()?;
                let pubkey = parse_hex(parts.next()?, "a").ok()?;
                Some(DeletionTarget::Address { kind, pubkey, identifier: parts.next()?.to_owned() })
            }
            _ => None,
        }
    }
}

/// A time in a tag: decimal digits, nothing else.
pub(crate) fn parse_seconds(text: &str) -> Option<Unix> {
    if text.is_empty() || !text.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    text.parse().ok().filter(|s| *s <= crate::json::INTEGER_MAX).map(Unix)
}

// Contents and tags may be a chat text, an address or a secret: they stay out of `Debug`.
impl fmt::Debug for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Event(kind {}, id {}, by {}", self.kind, hex32(&self.id), hex32(&self.pubkey))?;
        write!(f, ", at {}, {} tags, {} bytes)", self.created_at, self.tags.len(), self.content.len())
    }
}

impl fmt::Debug for Unsigned {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Unsigned(kind {}, by {}, at {}", self.kind, hex32(&self.pubkey), self.created_at)?;
        write!(f, ", {} tags, {} bytes)", self.tags.len(), self.content.len())
    }
}

/// An event read in place: checked as strictly as [`Event::parse`] does, with nothing copied or allocated.
#[derive(Clone, Copy)]
pub struct RawEvent<'a> {
    /// The object as it stands in the text.
    pub text: &'a str,
    /// Claimed id.
    pub id: [u8; 32],
    /// Claimed author.
    pub pubkey: [u8; 32],
    /// When the author says that it wrote this.
    pub created_at: Unix,
    /// What it is.
    pub kind: u16,
    /// BIP-340 signature over the id.
    pub sig: [u8; 64],
    tags: &'a str,
    tags_canonical: bool,
    content: RawStr<'a>,
    canonical: bool,
}

impl fmt::Debug for RawEvent<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RawEvent(kind {}, id {}, by {}", self.kind, hex32(&self.id), hex32(&self.pubkey))?;
        write!(f, ", {} bytes)", self.text.len())
    }
}

/// What [`RawEvent::read`] has gathered so far.
#[derive(Default)]
struct Fields<'a> {
    id: Option<[u8; 32]>,
    pubkey: Option<[u8; 32]>,
    created_at: Option<u64>,
    kind: Option<u16>,
    tags: Option<(&'a str, bool)>,
    content: Option<RawStr<'a>>,
    sig: Option<[u8; 64]>,
    unknown: usize,
    /// Members so far that stand where NIP-01 puts them, under a key without escapes.
    in_place: usize,
}

/// The keys of an event, in the order of NIP-01.
const KEYS: [&str; 7] = ["id", "pubkey", "created_at", "kind", "tags", "content", "sig"];

impl<'a> Fields<'a> {
    fn member(&mut self, reader: &mut Reader<'a>, key: RawStr<'a>, limits: &Limits) -> Result<(), Malformed> {
        if KEYS.get(self.in_place) == Some(&key.raw()) {
            self.in_place += 1;
        }
        // Keys are compared as meant: an escape must not smuggle a second `id` past the check for duplicates.
        match key.decode().as_ref() {
            "id" => put(&mut self.id, parse_hex(reader.string("id")?.raw(), "id")?),
            "pubkey" => put(&mut self.pubkey, parse_hex(reader.string("pubkey")?.raw(), "pubkey")?),
            "created_at" => put(&mut self.created_at, reader.integer("created_at")?),
            "kind" => {
                let kind = reader.integer("kind")?;
                put(&mut self.kind, u16::try_from(kind).map_err(|_| Malformed::OutOfRange("kind"))?)
            }
            "tags" => put(&mut self.tags, read_tags(reader, limits)?),
            "content" => put(&mut self.content, reader.string("content")?),
            "sig" => put(&mut self.sig, parse_hex(reader.string("sig")?.raw(), "sig")?),
            _ if limits.unknown_keys == UnknownKeys::Refuse => Err(Malformed::UnknownKey),
            _ => {
                self.unknown += 1;
                if self.unknown > UNKNOWN_KEYS_MAX { Err(Malformed::TooMany("unknown keys")) } else { reader.skip() }
            }
        }
    }

    fn finish(self, text: &'a str) -> Result<RawEvent<'a>, Malformed> {
        let (tags, tags_canonical) = self.tags.ok_or(Malformed::Missing("tags"))?;
        Ok(RawEvent {
            text,
            id: self.id.ok_or(Malformed::Missing("id"))?,
            pubkey: self.pubkey.ok_or(Malformed::Missing("pubkey"))?,
            created_at: Unix(self.created_at.ok_or(Malformed::Missing("created_at"))?),
            kind: self.kind.ok_or(Malformed::Missing("kind"))?,
            sig: self.sig.ok_or(Malformed::Missing("sig"))?,
            tags,
            tags_canonical,
            content: self.content.ok_or(Malformed::Missing("content"))?,
            canonical: false,
        })
    }
}

fn put<T>(slot: &mut Option<T>, value: T) -> Result<(), Malformed> {
    if slot.replace(value).is_some() { Err(Malformed::DuplicateKey) } else { Ok(()) }
}

/// JSON of a rumor (NIP-59): an event with its id but without a signature.
pub(crate) fn write_rumor(rumor: &Unsigned) -> String {
    let mut out = String::with_capacity(rumor.content.len() + 64 * rumor.tags.len() + 256);
    let Unsigned { pubkey, created_at, kind, tags, content } = rumor;
    write_members(&mut out, &rumor.id(), pubkey, *created_at, *kind, tags, content);
    out.push('}');
    out
}

/// Reads exactly one rumor (NIP-59), strictly, within `limits`: the rumor and the id it claims. A signed event is no rumor.
pub(crate) fn parse_rumor(json: &[u8], limits: &Limits) -> Result<(Unsigned, [u8; 32]), Malformed> {
    let mut reader = Reader::new(json, limits.bytes)?;
    let mut fields = Fields::default();
    reader.object("rumor", |reader, key| fields.member(reader, key, limits))?;
    reader.end()?;
    if fields.sig.is_some() {
        return Err(Malformed::UnknownKey);
    }
    fields.sig = Some([0; 64]);
    let rumor = fields.finish(reader.since(0))?.to_event();
    let id = rumor.id;
    Ok((rumor.into_unsigned(), id))
}

/// Passes over the tags: their text, and whether it is written as the id hashes it.
fn read_tags<'a>(reader: &mut Reader<'a>, limits: &Limits) -> Result<(&'a str, bool), Malformed> {
    reader.peek();
    let start = reader.at();
    let spaced = std::mem::replace(&mut reader.spaced, false);
    let (mut count, mut canonical) = (0, true);
    reader.array("tags", |reader| {
        count += 1;
        if count > limits.tags {
            return Err(Malformed::TooMany("tags"));
        }
        let mut elements = 0;
        reader.array("tag", |reader| {
            elements += 1;
            if elements > limits.tag_elements {
                return Err(Malformed::TooMany("tag elements"));
            }
            canonical &= reader.string("tag element")?.is_canonical();
            Ok(())
        })?;
        if elements == 0 { Err(Malformed::Empty("tag")) } else { Ok(()) }
    })?;
    canonical &= !reader.spaced;
    reader.spaced |= spaced;
    Ok((reader.since(start), canonical))
}

impl<'a> RawEvent<'a> {
    /// Reads exactly one event, strictly, within `limits`. Nothing is verified yet.
    pub fn parse(json: &'a [u8], limits: &Limits) -> Result<RawEvent<'a>, Malformed> {
        let mut reader = Reader::new(json, limits.bytes)?;
        let event = RawEvent::read(&mut reader, limits)?;
        reader.end()?;
        Ok(event)
    }

    /// Reads the event that starts here.
    pub(crate) fn read(reader: &mut Reader<'a>, limits: &Limits) -> Result<RawEvent<'a>, Malformed> {
        reader.peek();
        let start = reader.at();
        reader.spaced = false;
        let mut fields = Fields::default();
        reader.object("event", |reader, key| fields.member(reader, key, limits))?;
        let text = reader.since(start);
        if text.len() > limits.bytes {
            return Err(Malformed::TooLarge(limits.bytes));
        }
        let compact = fields.in_place == KEYS.len() && fields.unknown == 0 && !reader.spaced;
        let mut event = fields.finish(text)?;
        event.canonical = compact && event.tags_canonical && event.content.is_canonical();
        Ok(event)
    }

    /// The text is what [`Event::to_json`] would write, byte for byte.
    pub fn is_canonical(&self) -> bool {
        self.canonical
    }

    /// A copy that owns its text. Reading it again is not needed.
    pub fn detach(&self) -> OwnedEvent {
        OwnedEvent {
            tags: self.span(self.tags),
            content: self.span(self.content.raw()),
            escaped: self.content.is_escaped(),
            content_canonical: self.content.is_canonical(),
            tags_canonical: self.tags_canonical,
            canonical: self.canonical,
            text: self.text.into(),
            id: self.id,
            pubkey: self.pubkey,
            created_at: self.created_at,
            kind: self.kind,
            sig: self.sig,
        }
    }

    /// Where a part of the text stands in it.
    fn span(&self, part: &str) -> Range<usize> {
        let start = part.as_ptr() as usize - self.text.as_ptr() as usize;
        start..start + part.len()
    }

    /// The tags, read from the text one by one.
    pub fn tags(&self) -> Tags<'a> {
        let mut reader = Reader::over(self.tags);
        reader.array_start("tags").expect("a checked slice");
        Tags { reader, first: true }
    }

    /// Single-letter tags and their first values: what a relay indexes (NIP-01).
    pub fn indexed_tags(&self) -> impl Iterator<Item = (u8, Cow<'a, str>)> {
        self.tags().filter_map(|mut tag| {
            let name = tag.next()?.decode();
            let &[letter] = name.as_bytes() else { return None };
            if !letter.is_ascii_alphabetic() {
                return None;
            }
            Some((letter, tag.next()?.decode()))
        })
    }

    /// First value of the first tag called `name`.
    pub fn tag(&self, name: &str) -> Option<Cow<'a, str>> {
        self.tags().find_map(|mut tag| (tag.next()?.decode() == name).then(|| tag.next()))?.map(RawStr::decode)
    }

    /// When the event ceases to be served (NIP-40).
    pub fn expiration(&self) -> Option<Unix> {
        self.tag("expiration").and_then(|text| parse_seconds(&text))
    }

    /// The content, as it stands in the text.
    pub fn content(&self) -> RawStr<'a> {
        self.content
    }

    /// How a relay treats it.
    pub fn class(&self) -> KindClass {
        KindClass::of(self.kind)
    }

    /// The id is the hash of the event. Hashes the slices as they stand when they are canonical, else writes them anew.
    pub fn verify_id(&self) -> Result<(), Forged> {
        let id = if self.tags_canonical && self.content.is_canonical() {
            self.hash_in_place()
        } else {
            self.to_event().into_unsigned().id()
        };
        if id == self.id { Ok(()) } else { Err(Forged::BadId) }
    }

    fn hash_in_place(&self) -> [u8; 32] {
        // 110 bytes hold the longest head: 2^53 has 16 digits, a kind five.
        let mut head = [0u8; 110];
        let mut at = 0;
        let mut push = |bytes: &[u8]| {
            head[at..at + bytes.len()].copy_from_slice(bytes);
            at += bytes.len();
        };
        push(b"[0,\"");
        for byte in self.pubkey {
            push(&[b"0123456789abcdef"[usize::from(byte >> 4)], b"0123456789abcdef"[usize::from(byte & 15)]]);
        }
        push(b"\",");
        push_digits(&mut push, self.created_at.0);
        push(b",");
        push_digits(&mut push, u64::from(self.kind));
        push(b",");
        let mut engine = sha256::Hash::engine();
        engine.input(&head[..at]);
        for part in [self.tags, ",\"", self.content.raw(), "\"]"] {
            engine.input(part.as_bytes());
        }
        sha256::Hash::from_engine(engine).to_byte_array()
    }

    /// The signature is the author's over the claimed id. Means nothing before [`RawEvent::verify_id`].
    pub fn verify_signature(&self) -> Result<(), Forged> {
        verify_signature(&self.id, &self.pubkey, &self.sig)
    }

    /// [`RawEvent::verify_id`], then [`RawEvent::verify_signature`].
    pub fn verify(&self) -> Result<(), Forged> {
        self.verify_id()?;
        self.verify_signature()
    }

    /// [`RawEvent::verify`], sooner for an author that `keys` has met often.
    pub fn verify_with(&self, keys: &bip340::Keys) -> Result<(), Forged> {
        self.verify_id()?;
        if keys.check(&self.pubkey, &self.id, &self.sig) { Ok(()) } else { Err(Forged::BadSignature) }
    }

    /// An owned copy.
    pub fn to_event(&self) -> Event {
        Event {
            id: self.id,
            pubkey: self.pubkey,
            created_at: self.created_at,
            kind: self.kind,
            tags: self.tags().map(|tag| tag.map(|element| element.decode().into_owned()).collect()).collect(),
            content: self.content.decode().into_owned(),
            sig: self.sig,
        }
    }
}

fn push_digits(push: &mut impl FnMut(&[u8]), mut value: u64) {
    let mut digits = [0u8; 20];
    let mut at = digits.len();
    loop {
        at -= 1;
        digits[at] = b'0' + (value % 10) as u8;
        value /= 10;
        if value == 0 {
            break;
        }
    }
    push(&digits[at..]);
}

/// A [`RawEvent`] together with its text.
#[derive(Clone)]
pub struct OwnedEvent {
    text: Box<str>,
    id: [u8; 32],
    pubkey: [u8; 32],
    created_at: Unix,
    kind: u16,
    sig: [u8; 64],
    tags: Range<usize>,
    content: Range<usize>,
    escaped: bool,
    content_canonical: bool,
    tags_canonical: bool,
    canonical: bool,
}

impl OwnedEvent {
    /// The event.
    pub fn raw(&self) -> RawEvent<'_> {
        RawEvent {
            text: &self.text,
            id: self.id,
            pubkey: self.pubkey,
            created_at: self.created_at,
            kind: self.kind,
            sig: self.sig,
            tags: &self.text[self.tags.clone()],
            tags_canonical: self.tags_canonical,
            content: RawStr::checked(&self.text[self.content.clone()], self.escaped, self.content_canonical),
            canonical: self.canonical,
        }
    }

    /// [`Event::to_json`]; the text itself when that is what it is.
    pub fn into_json(self) -> Box<str> {
        if self.canonical { self.text } else { self.raw().to_event().to_json().into() }
    }
}

impl fmt::Debug for OwnedEvent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.raw().fmt(f)
    }
}

/// The tags of a [`RawEvent`].
pub struct Tags<'a> {
    reader: Reader<'a>,
    first: bool,
}

impl<'a> Iterator for Tags<'a> {
    type Item = TagElements<'a>;

    fn next(&mut self) -> Option<TagElements<'a>> {
        if !self.reader.array_next(&mut self.first).ok()? {
            return None;
        }
        self.reader.peek();
        let start = self.reader.at();
        self.reader.skip().ok()?;
        let mut reader = Reader::over(self.reader.since(start));
        reader.array_start("tag").ok()?;
        Some(TagElements { reader, first: true })
    }
}

/// The elements of one tag of a [`RawEvent`].
pub struct TagElements<'a> {
    reader: Reader<'a>,
    first: bool,
}

impl<'a> Iterator for TagElements<'a> {
    type Item = RawStr<'a>;

    fn next(&mut self) -> Option<RawStr<'a>> {
        if !self.reader.array_next(&mut self.first).ok()? {
            return None;
        }
        self.reader.string("tag element").ok()
    }
}

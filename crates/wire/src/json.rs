//! A strict JSON reader that borrows: every foreign byte that enters as Nostr goes through it.
//!
//! It reads RFC 8259 with three more rules: an object names no key twice, numbers that we read are plain
//! non-negative integers that any JSON implementation holds exactly, and strings are valid Unicode.

use std::borrow::Cow;

/// Greatest integer that every JSON implementation holds exactly, 2^53 - 1.
pub const INTEGER_MAX: u64 = (1 << 53) - 1;

/// Deepest nesting that is read or skipped.
const DEPTH_MAX: u8 = 16;

/// Why a foreign text is not what it claims to be. [`Malformed::code`] is stable, the message is for people.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// The text is longer than the limit, in bytes.
    #[error("longer than {0} bytes")]
    TooLarge(usize),
    /// The bytes are not UTF-8.
    #[error("not UTF-8")]
    NotUtf8,
    /// The text is not JSON.
    #[error("not JSON")]
    Syntax,
    /// Another JSON type stands where this field's type is due.
    #[error("{0} has the wrong type")]
    WrongType(&'static str),
    /// Something follows the end of the value.
    #[error("text after the end")]
    Trailing,
    /// A string holds a control character that JSON requires to be escaped.
    #[error("unescaped control character")]
    ControlCharacter,
    /// An escape that JSON does not know, or half of a surrogate pair.
    #[error("bad escape")]
    Escape,
    /// Nested deeper than anything that Nostr needs.
    #[error("nested too deep")]
    TooDeep,
    /// A number with a sign, a fraction, an exponent or a leading zero.
    #[error("{0} is not a plain integer")]
    NotInteger(&'static str),
    /// A number that the field does not hold.
    #[error("{0} is out of range")]
    OutOfRange(&'static str),
    /// Not lowercase hex of the right length.
    #[error("{0} is not lowercase hex of its length")]
    NotHex(&'static str),
    /// An object names a key twice, so two readers may disagree on what was said.
    #[error("a key is named twice")]
    DuplicateKey,
    /// A key that this object does not have.
    #[error("unknown key")]
    UnknownKey,
    /// A required key is absent.
    #[error("{0} is missing")]
    Missing(&'static str),
    /// More of something than is allowed.
    #[error("too many {0}")]
    TooMany(&'static str),
    /// Nothing where something is due.
    #[error("{0} is empty")]
    Empty(&'static str),
    /// A frame whose first element names no message of the protocol.
    #[error("unknown message")]
    UnknownVerb,
}

impl Malformed {
    /// A stable name for the reason, for `OK`, `CLOSED` and `NOTICE` texts, metrics and tests.
    pub fn code(self) -> &'static str {
        match self {
            Malformed::TooLarge(_) => "too-large",
            Malformed::NotUtf8 => "not-utf8",
            Malformed::Syntax => "syntax",
            Malformed::WrongType(_) => "wrong-type",
            Malformed::Trailing => "trailing",
            Malformed::ControlCharacter => "control-character",
            Malformed::Escape => "escape",
            Malformed::TooDeep => "too-deep",
            Malformed::NotInteger(_) => "not-integer",
            Malformed::OutOfRange(_) => "out-of-range",
            Malformed::NotHex(_) => "not-hex",
            Malformed::DuplicateKey => "duplicate-key",
            Malformed::UnknownKey => "unknown-key",
            Malformed::Missing(_) => "missing",
            Malformed::TooMany(_) => "too-many",
            Malformed::Empty(_) => "empty",
            Malformed::UnknownVerb => "unknown-message",
        }
    }
}

/// A JSON string as it stands in the text, checked but not decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RawStr<'a> {
    /// What stands between the quotes.
    raw: &'a str,
    escaped: bool,
    canonical: bool,
}

impl<'a> RawStr<'a> {
    /// What stands between the quotes, escapes and all.
    pub fn raw(self) -> &'a str {
        self.raw
    }

    /// The string meant; borrowed when nothing was escaped.
    pub fn decode(self) -> Cow<'a, str> {
        if self.escaped { Cow::Owned(unescape(self.raw)) } else { Cow::Borrowed(self.raw) }
    }

    /// A string that a reader has checked before.
    pub(crate) fn checked(raw: &'a str, escaped: bool, canonical: bool) -> RawStr<'a> {
        RawStr { raw, escaped, canonical }
    }

    /// Something in it is escaped.
    pub(crate) fn is_escaped(self) -> bool {
        self.escaped
    }

    /// Written with exactly the escapes that [`write_str`] would use.
    pub(crate) fn is_canonical(self) -> bool {
        self.canonical
    }
}

/// Reads one JSON text from the front.
pub(crate) struct Reader<'a> {
    text: &'a str,
    at: usize,
    depth: u8,
    /// Whitespace was passed over since this was last cleared.
    pub(crate) spaced: bool,
}

impl<'a> Reader<'a> {
    /// Reads `bytes` of at most `max` bytes.
    pub(crate) fn new(bytes: &'a [u8], max: usize) -> Result<Reader<'a>, Malformed> {
        if bytes.len() > max {
            return Err(Malformed::TooLarge(max));
        }
        let text = std::str::from_utf8(bytes).map_err(|_| Malformed::NotUtf8)?;
        Ok(Reader::over(text))
    }

    /// Reads a text whose length was checked before.
    pub(crate) fn over(text: &'a str) -> Reader<'a> {
        Reader { text, at: 0, depth: 0, spaced: false }
    }

    /// Offset of the next unread byte.
    pub(crate) fn at(&self) -> usize {
        self.at
    }

    /// The text from `start` to here.
    pub(crate) fn since(&self, start: usize) -> &'a str {
        &self.text[start..self.at]
    }

    /// The next byte that is not whitespace, unread.
    pub(crate) fn peek(&mut self) -> Option<u8> {
        let bytes = self.text.as_bytes();
        while let Some(b' ' | b'\t' | b'\n' | b'\r') = bytes.get(self.at) {
            self.at += 1;
            self.spaced = true;
        }
        bytes.get(self.at).copied()
    }

    /// Nothing but whitespace is left.
    pub(crate) fn end(&mut self) -> Result<(), Malformed> {
        if self.peek().is_some() { Err(Malformed::Trailing) } else { Ok(()) }
    }

    fn take(&mut self, byte: u8) -> Result<(), Malformed> {
        if self.peek() != Some(byte) {
            return Err(Malformed::Syntax);
        }
        self.at += 1;
        Ok(())
    }

    fn open(&mut self, byte: u8, field: &'static str) -> Result<(), Malformed> {
        match self.peek() {
            Some(b) if b == byte => {}
            Some(_) => return Err(Malformed::WrongType(field)),
            None => return Err(Malformed::Syntax),
        }
        if self.depth == DEPTH_MAX {
            return Err(Malformed::TooDeep);
        }
        self.depth += 1;
        self.at += 1;
        Ok(())
    }

    /// Reads an array, calling `item` at the start of each element.
    pub(crate) fn array(
        &mut self,
        field: &'static str,
        mut item: impl FnMut(&mut Self) -> Result<(), Malformed>,
    ) -> Result<(), Malformed> {
        self.array_start(field)?;
        let mut first = true;
        while self.array_next(&mut first)? {
            item(self)?;
        }
        Ok(())
    }

    /// Reads the opening bracket.
    pub(crate) fn array_start(&mut self, field: &'static str) -> Result<(), Malformed> {
        self.open(b'[', field)
    }

    /// True when the reader stands before an element; false after reading the closing bracket.
    pub(crate) fn array_next(&mut self, first: &mut bool) -> Result<bool, Malformed> {
        self.next(b']', first)
    }

    fn next(&mut self, close: u8, first: &mut bool) -> Result<bool, Malformed> {
        match self.peek() {
            Some(b) if b == close => {
                self.at += 1;
                self.depth -= 1;
                Ok(false)
            }
            Some(b',') if !*first => {
                self.at += 1;
                if self.peek() == Some(close) { Err(Malformed::Syntax) } else { Ok(true) }
            }
            Some(_) if *first => {
                *first = false;
                Ok(true)
            }
            _ => Err(Malformed::Syntax),
        }
    }

    /// Reads an object, calling `member` with each key at the start of its value.
    pub(crate) fn object(
        &mut self,
        field: &'static str,
        mut member: impl FnMut(&mut Self, RawStr<'a>) -> Result<(), Malformed>,
    ) -> Result<(), Malformed> {
        self.open(b'{', field)?;
        let mut first = true;
        while self.next(b'}', &mut first)? {
            if self.peek() != Some(b'"') {
                return Err(Malformed::Syntax);
            }
            let key = self.string("key")?;
            self.take(b':')?;
            member(self, key)?;
        }
        Ok(())
    }

    /// Reads a string.
    pub(crate) fn string(&mut self, field: &'static str) -> Result<RawStr<'a>, Malformed> {
        match self.peek() {
            Some(b'"') => self.at += 1,
            Some(_) => return Err(Malformed::WrongType(field)),
            None => return Err(Malformed::Syntax),
        }
        let bytes = self.text.as_bytes();
        let start = self.at;
        let (mut escaped, mut canonical) = (false, true);
        loop {
            self.at += plain_run(&bytes[self.at..]);
            match bytes.get(self.at) {
                Some(b'"') => {
                    let raw = &self.text[start..self.at];
                    self.at += 1;
                    return Ok(RawStr { raw, escaped, canonical });
                }
                Some(b'\\') => {
                    escaped = true;
                    canonical &= self.escape()?;
                }
                Some(_) => return Err(Malformed::ControlCharacter),
                None => return Err(Malformed::Syntax),
            }
        }
    }

    /// Passes over one escape. True when it is written as [`write_str`] writes it.
    fn escape(&mut self) -> Result<bool, Malformed> {
        let bytes = self.text.as_bytes();
        let kind = *bytes.get(self.at + 1).ok_or(Malformed::Syntax)?;
        match kind {
            b'"' | b'\\' | b'n' | b'r' | b't' | b'b' | b'f' => {
                self.at += 2;
                Ok(true)
            }
            b'/' => {
                self.at += 2;
                Ok(false)
            }
            b'u' => {
                let unit = hex4(bytes, self.at + 2)?;
                let lower = !bytes[self.at + 2..self.at + 6].iter().any(u8::is_ascii_uppercase);
                self.at += 6;
                match unit {
                    0xd800..=0xdbff => {
                        if bytes.get(self.at) != Some(&b'\\') || bytes.get(self.at + 1) != Some(&b'u') {
                            return Err(Malformed::Escape);
                        }
                        if !(0xdc00..=0xdfff).contains(&hex4(bytes, self.at + 2)?) {
                            return Err(Malformed::Escape);
                        }
                        self.at += 6;
                        Ok(false)
                    }
                    0xdc00..=0xdfff => Err(Malformed::Escape),
                    unit => Ok(lower && unit < 0x20 && !matches!(unit, 0x08 | 0x09 | 0x0a | 0x0c | 0x0d)),
                }
            }
            _ => Err(Malformed::Escape),
        }
    }

    /// Reads a plain integer, 0 to [`INTEGER_MAX`].
    pub(crate) fn integer(&mut self, field: &'static str) -> Result<u64, Malformed> {
        let start = match self.peek() {
            Some(b'0'..=b'9') => self.at,
            Some(b'-') => return Err(Malformed::NotInteger(field)),
            Some(_) => return Err(Malformed::WrongType(field)),
            None => return Err(Malformed::Syntax),
        };
        let bytes = self.text.as_bytes();
        let mut value = 0u64;
        while let Some(digit @ b'0'..=b'9') = bytes.get(self.at) {
            value = value.saturating_mul(10).saturating_add(u64::from(digit - b'0'));
            self.at += 1;
        }
        if matches!(bytes.get(self.at), Some(b'.' | b'e' | b'E' | b'+' | b'-'))
            || (bytes[start] == b'0' && self.at > start + 1)
        {
            return Err(Malformed::NotInteger(field));
        }
        if value > INTEGER_MAX { Err(Malformed::OutOfRange(field)) } else { Ok(value) }
    }

    /// Reads `true` or `false`.
    pub(crate) fn boolean(&mut self, field: &'static str) -> Result<bool, Malformed> {
        match self.peek() {
            Some(b't') => self.literal("true").map(|()| true),
            Some(b'f') => self.literal("false").map(|()| false),
            Some(_) => Err(Malformed::WrongType(field)),
            None => Err(Malformed::Syntax),
        }
    }

    fn literal(&mut self, word: &str) -> Result<(), Malformed> {
        if !self.text[self.at..].starts_with(word) {
            return Err(Malformed::Syntax);
        }
        self.at += word.len();
        Ok(())
    }

    /// Passes over any one value.
    pub(crate) fn skip(&mut self) -> Result<(), Malformed> {
        match self.peek() {
            Some(b'"') => self.string("value").map(drop),
            Some(b'[') => self.array("value", Self::skip),
            Some(b'{') => self.object("value", |reader, _| reader.skip()),
            Some(b't') => self.literal("true"),
            Some(b'f') => self.literal("false"),
            Some(b'n') => self.literal("null"),
            Some(b'-' | b'0'..=b'9') => self.skip_number(),
            _ => Err(Malformed::Syntax),
        }
    }

    fn skip_number(&mut self) -> Result<(), Malformed> {
        let bytes = self.text.as_bytes();
        let digits = |at: &mut usize| {
            let start = *at;
            while bytes.get(*at).is_some_and(u8::is_ascii_digit) {
                *at += 1;
            }
            *at - start
        };
        if bytes[self.at] == b'-' {
            self.at += 1;
        }
        let zero = bytes.get(self.at) == Some(&b'0');
        let count = digits(&mut self.at);
        if count == 0 || (zero && count > 1) {
            return Err(Malformed::Syntax);
        }
        if bytes.get(self.at) == Some(&b'.') {
            self.at += 1;
            if digits(&mut self.at) == 0 {
                return Err(Malformed::Syntax);
            }
        }
        if let Some(b'e' | b'E') = bytes.get(self.at) {
            self.at += 1;
            if let Some(b'+' | b'-') = bytes.get(self.at) {
                self.at += 1;
            }
            if digits(&mut self.at) == 0 {
                return Err(Malformed::Syntax);
            }
        }
        Ok(())
    }
}

/// Length of the run at the front that needs no look: no quote, no backslash, no control character.
fn plain_run(bytes: &[u8]) -> usize {
    const ONES: u64 = 0x0101_0101_0101_0101;
    const HIGHS: u64 = 0x8080_8080_8080_8080;
    let zero_byte = |word: u64| word.wrapping_sub(ONES) & !word & HIGHS;
    let mut at = 0;
    while let Some(chunk) = bytes.get(at..at + 8) {
        let word = u64::from_le_bytes(chunk.try_into().expect("a slice of eight"));
        let below_space = word.wrapping_sub(ONES * 0x20) & !word & HIGHS;
        let found = below_space | zero_byte(word ^ (ONES * 0x22)) | zero_byte(word ^ (ONES * 0x5c));
        if found != 0 {
            // The lowest flag is exact; borrows can only raise false flags above a true one.
            return at + (found.trailing_zeros() / 8) as usize;
        }
        at += 8;
    }
    while bytes.get(at).is_some_and(|b| *b >= 0x20 && *b != b'"' && *b != b'\\') {
        at += 1;
    }
    at
}

fn hex4(bytes: &[u8], at: usize) -> Result<u32, Malformed> {
    let digits = bytes.get(at..at + 4).ok_or(Malformed::Escape)?;
    digits.iter().try_fold(0, |value, digit| {
        let digit = char::from(*digit).to_digit(16).ok_or(Malformed::Escape)?;
        Ok(value << 4 | digit)
    })
}

/// Decodes a string that the reader has checked.
fn unescape(raw: &str) -> String {
    let mut out = String::with_capacity(raw.len());
    let mut rest = raw;
    while let Some(at) = rest.find('\\') {
        out.push_str(&rest[..at]);
        let bytes = rest.as_bytes();
        let (decoded, used) = match bytes[at + 1] {
            b'n' => ('\n', 2),
            b'r' => ('\r', 2),
            b't' => ('\t', 2),
            b'b' => ('\u{8}', 2),
            b'f' => ('\u{c}', 2),
            b'u' => {
                let high = hex4(bytes, at + 2).expect("checked by the reader");
                if (0xd800..=0xdbff).contains(&high) {
                    let low = hex4(bytes, at + 8).expect("checked by the reader");
                    let code = 0x10000 + ((high - 0xd800) << 10) + (low - 0xdc00);
                    (char::from_u32(code).expect("a surrogate pair is a character"), 12)
                } else {
                    (char::from_u32(high).expect("checked: not a surrogate"), 6)
                }
            }
            other => (char::from(other), 2),
        };
        out.push(decoded);
        rest = &rest[at + used..];
    }
    out.push_str(rest);
    out
}

/// Appends `text` as a JSON string with the escapes of NIP-01: `\" \\ \n \r \t \b \f`, everything else verbatim.
/// Control characters that NIP-01 does not name, but that JSON cannot carry bare, become `\u00xx`, as all clients write them.
pub fn write_str(out: &mut String, text: &str) {
    out.push('"');
    let mut rest = text;
    loop {
        let run = plain_run(rest.as_bytes());
        out.push_str(&rest[..run]);
        match rest.as_bytes().get(run) {
            None => break,
            Some(b'"') => out.push_str("\\\""),
            Some(b'\\') => out.push_str("\\\\"),
            Some(b'\n') => out.push_str("\\n"),
            Some(b'\r') => out.push_str("\\r"),
            Some(b'\t') => out.push_str("\\t"),
            Some(0x08) => out.push_str("\\b"),
            Some(0x0c) => out.push_str("\\f"),
            Some(control) => {
                out.push_str("\\u00");
                out.push(char::from(b"0123456789abcdef"[usize::from(control >> 4)]));
                out.push(char::from(b"0123456789abcdef"[usize::from(control & 15)]));
            }
        }
        rest = &rest[run + 1..];
    }
    out.push('"');
}

/// Appends a decimal integer.
pub(crate) fn write_uint(out: &mut String, mut value: u64) {
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
    out.push_str(std::str::from_utf8(&digits[at..]).unwrap_or_default());
}

/// Appends lowercase hex.
pub(crate) fn write_hex(out: &mut String, bytes: &[u8]) {
    for part in bytes.chunks(32) {
        let mut digits = [0; 64];
        for (pair, byte) in digits.chunks_exact_mut(2).zip(part) {
            pair[0] = b"0123456789abcdef"[usize::from(byte >> 4)];
            pair[1] = b"0123456789abcdef"[usize::from(byte & 15)];
        }
        out.push_str(std::str::from_utf8(&digits[..2 * part.len()]).unwrap_or_default());
    }
}

/// Value of each lowercase hex digit; 0xff for every other byte.
const HEX: [u8; 256] = {
    let mut table = [0xff; 256];
    let mut i = 0;
    while i < 16 {
        table[b"0123456789abcdef"[i] as usize] = i as u8;
        i += 1;
    }
    table
};

/// Reads exactly `N` bytes of lowercase hex.
pub fn parse_hex<const N: usize>(text: &str, field: &'static str) -> Result<[u8; N], Malformed> {
    let digits = text.as_bytes();
    if digits.len() != 2 * N {
        return Err(Malformed::NotHex(field));
    }
    let mut out = [0; N];
    let mut wrong = 0;
    for (byte, pair) in out.iter_mut().zip(digits.chunks_exact(2)) {
        let (high, low) = (HEX[usize::from(pair[0])], HEX[usize::from(pair[1])]);
        wrong |= high | low;
        *byte = high << 4 | (low & 15);
    }
    if wrong > 15 { Err(Malformed::NotHex(field)) } else { Ok(out) }
}

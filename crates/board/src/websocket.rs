//! WebSocket frames as a server reads and writes them (RFC 6455), without a socket, and with messages that are compressed where
//! both sides agreed on that (RFC 7692).
//!
//! Frames are read where they arrived and unmasked in place; only a message that came in parts is put together elsewhere.

use std::io::Cursor;

use tokio_tungstenite::tungstenite::protocol::frame::FrameHeader;
use tokio_tungstenite::tungstenite::protocol::frame::coding::{CloseCode, Control, Data, OpCode};

use crate::inflate::inflated;

/// Longest payload of a control frame.
const CONTROL_MAX: u64 = 125;

/// What the client sent.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Incoming<'a> {
    /// A text.
    Text(&'a str),
    /// Bytes.
    Binary(&'a [u8]),
    /// A message that has to be inflated.
    Deflated(Deflated<'a>),
    /// Part of a message that is not complete yet.
    Part,
    /// It wants these bytes back.
    Ping(&'a [u8]),
    /// It is alive.
    Pong,
    /// It ends the connection, for this reason.
    Close(CloseCode),
}

impl Incoming<'_> {
    /// Bytes of a message.
    pub(crate) fn len(&self) -> usize {
        match self {
            Incoming::Text(text) => text.len(),
            Incoming::Binary(bytes) => bytes.len(),
            _ => 0,
        }
    }
}

/// What the client sent is no WebSocket, or more than is allowed; the connection has to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Broken {
    /// Against RFC 6455.
    Protocol,
    /// A text that is not UTF-8.
    NotUtf8,
    /// A message that is longer than the limit.
    TooLong,
}

/// A message as it was compressed.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Deflated<'a> {
    bytes: &'a [u8],
    kind: Data,
    max: usize,
}

impl Deflated<'_> {
    /// Bytes that came.
    pub(crate) fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Has `read` look at the message, a text or bytes. No more is inflated than a message may have.
    pub(crate) fn inflate<T>(&self, read: impl FnOnce(Incoming<'_>) -> T) -> Result<T, Broken> {
        inflated(self.bytes, self.max, |bytes| whole(self.kind, bytes).map(read)).flatten()
    }
}

/// Reads frames one after another.
#[derive(Debug)]
pub(crate) struct Frames {
    /// Longest message, in bytes.
    max: usize,
    /// Messages may be compressed.
    agreed: bool,
    /// What is being put together, once a first part came, and whether it is compressed.
    kind: Option<(Data, bool)>,
    message: Vec<u8>,
}

/// Takes the mask off.
fn unmask(bytes: &mut [u8], mask: [u8; 4]) {
    let [a, b, c, d] = mask;
    let wide = u64::from_ne_bytes([a, b, c, d, a, b, c, d]);
    let mut words = bytes.chunks_exact_mut(8);
    for word in &mut words {
        let value = u64::from_ne_bytes(word.try_into().expect("a slice of eight")) ^ wide;
        word.copy_from_slice(&value.to_ne_bytes());
    }
    for (byte, mask) in words.into_remainder().iter_mut().zip([a, b, c, d, a, b, c]) {
        *byte ^= mask;
    }
}

impl Frames {
    /// For messages of at most `max` bytes, which may be compressed if that was `agreed` on.
    pub(crate) fn new(max: usize, agreed: bool) -> Frames {
        Frames { max, agreed, kind: None, message: Vec::new() }
    }

    /// Reads the frame at the front of `bytes` and tells how long it is; `None` when it is not complete yet.
    pub(crate) fn next<'a>(&'a mut self, bytes: &'a mut [u8]) -> Result<Option<(usize, Incoming<'a>)>, Broken> {
        if self.kind.is_none() {
            self.message = Vec::new();
        }
        let mut cursor = Cursor::new(&*bytes);
        let Some((header, length)) = FrameHeader::parse(&mut cursor).map_err(|_| Broken::Protocol)? else {
            return Ok(None);
        };
        let start = cursor.position() as usize;
        let mask = self.check(&header, length, start)?;
        // Checked: it is not longer than a message.
        let end = start + length as usize;
        let Some(payload) = bytes.get_mut(start..end) else { return Ok(None) };
        unmask(payload, mask);
        let payload = &*payload;
        let incoming = match header.opcode {
            OpCode::Control(Control::Ping) => Incoming::Ping(payload),
            OpCode::Control(Control::Close) => Incoming::Close(close_code(payload)?),
            OpCode::Control(_) => Incoming::Pong,
            OpCode::Data(kind) => return Ok(Some((end, self.data((kind, header.rsv1), header.is_final, payload)?))),
        };
        Ok(Some((end, incoming)))
    }

    /// Refuses what RFC 6455 does not allow. Gives the mask.
    fn check(&self, header: &FrameHeader, length: u64, start: usize) -> Result<[u8; 4], Broken> {
        let Some(mask) = header.mask else { return Err(Broken::Protocol) };
        // The first bit of a message's first frame says that it is compressed (RFC 7692, section 6).
        let begins = matches!(header.opcode, OpCode::Data(kind) if kind != Data::Continue);
        // No other extension was agreed on, and a length is written as short as it can be.
        if header.rsv1 && !(self.agreed && begins) || header.rsv2 || header.rsv3 || header.len(length) != start {
            return Err(Broken::Protocol);
        }
        match header.opcode {
            OpCode::Control(_) if !header.is_final || length > CONTROL_MAX => return Err(Broken::Protocol),
            OpCode::Control(_) => return Ok(mask),
            OpCode::Data(kind) if (kind == Data::Continue) != self.kind.is_some() => return Err(Broken::Protocol),
            OpCode::Data(_) => {}
        }
        let room = self.max - self.message.len();
        if length > room as u64 { Err(Broken::TooLong) } else { Ok(mask) }
    }

    fn data<'a>(&'a mut self, kind: (Data, bool), last: bool, payload: &'a [u8]) -> Result<Incoming<'a>, Broken> {
        if self.kind.is_none() && last {
            return self.whole(kind, payload);
        }
        self.message.extend_from_slice(payload);
        let kind = *self.kind.get_or_insert(kind);
        if !last {
            return Ok(Incoming::Part);
        }
        self.kind = None;
        self.whole(kind, &self.message)
    }

    fn whole<'a>(&self, (kind, deflated): (Data, bool), bytes: &'a [u8]) -> Result<Incoming<'a>, Broken> {
        if deflated {
            return Ok(Incoming::Deflated(Deflated { bytes, kind, max: self.max }));
        }
        whole(kind, bytes)
    }
}

fn whole(kind: Data, bytes: &[u8]) -> Result<Incoming<'_>, Broken> {
    match kind {
        Data::Text => std::str::from_utf8(bytes).map(Incoming::Text).map_err(|_| Broken::NotUtf8),
        _ => Ok(Incoming::Binary(bytes)),
    }
}

fn close_code(payload: &[u8]) -> Result<CloseCode, Broken> {
    match payload {
        [] => Ok(CloseCode::Normal),
        [_] => Err(Broken::Protocol),
        [high, low, reason @ ..] => {
            let code = CloseCode::from(u16::from_be_bytes([*high, *low]));
            if !code.is_allowed() {
                return Err(Broken::Protocol);
            }
            std::str::from_utf8(reason).map_or(Err(Broken::NotUtf8), |_| Ok(code))
        }
    }
}

/// Appends a frame of a whole message.
fn put_message(out: &mut Vec<u8>, first: u8, parts: &[&[u8]]) {
    let len = parts.iter().map(|part| part.len()).sum::<usize>();
    out.reserve(len + 10);
    out.push(first);
    match len {
        0..=125 => out.push(len as u8),
        126..=0xffff => {
            out.push(126);
            out.extend_from_slice(&(len as u16).to_be_bytes());
        }
        _ => {
            out.push(127);
            out.extend_from_slice(&(len as u64).to_be_bytes());
        }
    }
    parts.iter().for_each(|part| out.extend_from_slice(part));
}

/// Appends a text frame whose text is the `parts` one after another.
pub(crate) fn put_text(out: &mut Vec<u8>, parts: [&str; 3]) {
    put_message(out, 0x81, &parts.map(str::as_bytes));
}

/// Appends a text frame that is compressed, whose payload is the `parts` one after another.
pub(crate) fn put_deflated(out: &mut Vec<u8>, parts: &[&[u8]]) {
    put_message(out, 0xc1, parts);
}

fn put_control(out: &mut Vec<u8>, control: Control, payload: [&[u8]; 2]) {
    let len = payload[0].len() + payload[1].len();
    debug_assert!(len <= CONTROL_MAX as usize, "a control frame is short");
    out.extend_from_slice(&[0x80 | u8::from(OpCode::Control(control)), len as u8]);
    payload.iter().for_each(|part| out.extend_from_slice(part));
}

/// Appends a ping.
pub(crate) fn put_ping(out: &mut Vec<u8>) {
    put_control(out, Control::Ping, [&[], &[]]);
}

/// Appends the answer to a ping.
pub(crate) fn put_pong(out: &mut Vec<u8>, payload: &[u8]) {
    put_control(out, Control::Pong, [payload, &[]]);
}

/// Appends the end of the connection; `why` has at most 123 bytes.
pub(crate) fn put_close(out: &mut Vec<u8>, code: CloseCode, why: &str) {
    put_control(out, Control::Close, [&u16::from(code).to_be_bytes(), why.as_bytes()]);
}

#[cfg(test)]
mod tests {
    use super::*;

    const MASK: [u8; 4] = [0x12, 0xf0, 0x00, 0x9c];

    fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
        let mut out = vec![first];
        match payload.len() {
            len @ 0..=125 => out.push(0x80 | len as u8),
            len @ 126..=0xffff => {
                out.push(0x80 | 126);
                out.extend((len as u16).to_be_bytes());
            }
            len => {
                out.push(0x80 | 127);
                out.extend((len as u64).to_be_bytes());
            }
        }
        out.extend(MASK);
        out.extend(payload.iter().enumerate().map(|(i, byte)| byte ^ MASK[i % 4]));
        out
    }

    fn told(incoming: Incoming<'_>) -> String {
        match incoming {
            Incoming::Text(text) => text.to_owned(),
            Incoming::Binary(bytes) => format!("binary {}", bytes.len()),
            Incoming::Deflated(deflated) => panic!("{} bytes came out compressed", deflated.len()),
            Incoming::Part => "part".into(),
            Incoming::Ping(bytes) => format!("ping {}", String::from_utf8_lossy(bytes)),
            Incoming::Pong => "pong".into(),
            Incoming::Close(code) => format!("close {code}"),
        }
    }

    /// A message as a client compresses it.
    fn deflated(bytes: &[u8]) -> Vec<u8> {
        crate::inflate::tests::deflated(bytes, 6)
    }

    /// All that comes of these bytes, as text, up to what breaks the connection.
    fn read(frames: &mut Frames, bytes: &[u8]) -> Result<Vec<String>, Broken> {
        let (mut bytes, mut at, mut out) = (bytes.to_vec(), 0, Vec::new());
        while let Some((len, incoming)) = frames.next(&mut bytes[at..])? {
            out.push(match incoming {
                Incoming::Deflated(deflated) => deflated.inflate(told)?,
                plain => told(plain),
            });
            at += len;
        }
        Ok(out)
    }

    #[test]
    fn messages_of_every_length_are_read_wherever_they_are_cut() {
        for len in [0, 1, 7, 8, 9, 125, 126, 127, 1000, 0xffff, 0x1_0000] {
            let text: String = ('a'..='z').cycle().take(len).collect();
            let whole = frame(0x81, text.as_bytes());
            assert_eq!(read(&mut Frames::new(1 << 20, false), &whole).unwrap(), [text]);
            for cut in (0..whole.len()).filter(|cut| *cut < 20 || *cut == whole.len() - 1) {
                assert!(
                    read(&mut Frames::new(1 << 20, false), &whole[..cut]).unwrap().is_empty(),
                    "{len} cut at {cut}"
                );
            }
        }
    }

    #[test]
    fn a_message_in_parts_is_put_together_around_control_frames() {
        let bytes = [
            frame(0x01, "\u{e9}".as_bytes().split_at(1).0),
            frame(0x89, b"are you there"),
            frame(0x00, b""),
            frame(0x8a, b""),
            frame(0x80, "\u{e9}b".as_bytes().split_at(1).1),
            frame(0x81, b"next"),
            frame(0x88, &[0x03, 0xe9]),
        ];
        let mut frames = Frames::new(100, false);
        let read = read(&mut frames, &bytes.concat()).unwrap();
        assert_eq!(read, ["part", "ping are you there", "part", "pong", "\u{e9}b", "next", "close 1001"]);
        assert_eq!(frames.message.capacity(), 0, "nothing is kept");
    }

    #[test]
    fn what_rfc_6455_forbids_breaks_the_connection() {
        let mut unmasked = frame(0x81, b"x");
        unmasked[1] &= 0x7f;
        let mut too_wide = vec![0x81, 0x80 | 126, 0, 5];
        too_wide.extend(MASK);
        let mut endless = vec![0x82, 0xff];
        endless.extend([0xff; 12]);
        let table = [
            ("unmasked", unmasked, Broken::Protocol),
            ("a longer length than needed", too_wide, Broken::Protocol),
            ("a reserved bit", frame(0xc1, b"x"), Broken::Protocol),
            ("a reserved data frame", frame(0x83, b"x"), Broken::Protocol),
            ("a reserved control frame", frame(0x8b, b"x"), Broken::Protocol),
            ("a ping in parts", frame(0x09, b"x"), Broken::Protocol),
            ("a long ping", frame(0x89, &[0; 126]), Broken::Protocol),
            ("a part of nothing", frame(0x80, b"x"), Broken::Protocol),
            ("a text inside a text", [frame(0x01, b"x"), frame(0x81, b"x")].concat(), Broken::Protocol),
            ("half a close code", frame(0x88, &[3]), Broken::Protocol),
            ("a close code that is not sent", frame(0x88, &[0x03, 0xed]), Broken::Protocol),
            ("a close reason that is not UTF-8", frame(0x88, &[0x03, 0xe8, 0xff]), Broken::NotUtf8),
            ("a text that is not UTF-8", frame(0x81, &[b'x', 0xc0, 0x80]), Broken::NotUtf8),
            ("a text whose end is missing", frame(0x81, "\u{1f9c0}".as_bytes().split_at(3).0), Broken::NotUtf8),
            ("a long text", frame(0x81, &[b'x'; 201]), Broken::TooLong),
            ("a long text in parts", [frame(0x01, &[b'x'; 199]), frame(0x80, b"xx")].concat(), Broken::TooLong),
            ("the longest length there is", endless, Broken::TooLong),
        ];
        for (what, bytes, broken) in table {
            assert_eq!(read(&mut Frames::new(200, false), &bytes), Err(broken), "{what}");
        }
        assert_eq!(read(&mut Frames::new(200, false), &frame(0x82, &[0xff; 200])).unwrap(), ["binary 200"]);
    }

    #[test]
    fn a_length_that_is_too_great_is_refused_before_anything_of_it_came() {
        let mut head = vec![0x81, 0x80 | 126, 0xff, 0xff];
        head.extend(MASK);
        assert_eq!(read(&mut Frames::new(200, false), &head), Err(Broken::TooLong));
    }

    #[test]
    fn compressed_messages_are_read_among_others_however_they_are_cut() {
        let text = "\u{1f9c0} the same again, the same again".repeat(20);
        let body = deflated(text.as_bytes());
        let mut bytes = [frame(0xc1, &body), frame(0x81, b"plain"), frame(0xc2, &deflated(&[0xff; 300]))].concat();
        for cut in 0..body.len() {
            let (first, second) = body.split_at(cut);
            bytes.extend([frame(0x41, first), frame(0x89, b"?"), frame(0x80, second)].concat());
        }
        let mut frames = Frames::new(2000, true);
        let read = read(&mut frames, &bytes).unwrap();
        assert_eq!(read[..3], [&text, "plain", "binary 300"]);
        assert!(read[3..].chunks(3).all(|three| three == ["part", "ping ?", &text]));
        assert_eq!(read.len(), 3 + 3 * body.len());
    }

    #[test]
    fn what_rfc_7692_forbids_breaks_the_connection() {
        let x = deflated(b"x");
        let bomb = deflated(&[b' '; 201]);
        let table = [
            ("a bit that says nothing", frame(0xa1, b"x"), Broken::Protocol),
            ("another", frame(0x91, b"x"), Broken::Protocol),
            ("a ping that is compressed", frame(0xc9, &x), Broken::Protocol),
            ("a close that is compressed", frame(0xc8, &x), Broken::Protocol),
            ("a part that is compressed", [frame(0x01, b"x"), frame(0xc0, &x)].concat(), Broken::Protocol),
            ("the bit at a later part", [frame(0x41, &x), frame(0xc0, b"")].concat(), Broken::Protocol),
            ("no part of anything", frame(0xc0, &x), Broken::Protocol),
            ("garbage", frame(0xc1, b"\x06garbage"), Broken::Protocol),
            ("a text that is not UTF-8", frame(0xc1, &deflated(&[b'x', 0xc0, 0x80])), Broken::NotUtf8),
            ("a bomb", frame(0xc1, &bomb), Broken::TooLong),
            ("a bomb in parts", [frame(0x41, &bomb[..3]), frame(0x80, &bomb[3..])].concat(), Broken::TooLong),
            ("one of bytes", frame(0xc2, &bomb), Broken::TooLong),
            ("long before it is inflated", frame(0xc1, &[0; 201]), Broken::TooLong),
        ];
        for (what, bytes, broken) in table {
            assert_eq!(read(&mut Frames::new(200, true), &bytes), Err(broken), "{what}");
        }
        assert_eq!(
            read(&mut Frames::new(200, true), &frame(0xc1, &deflated(&[b' '; 200]))).unwrap(),
            [" ".repeat(200)]
        );
        assert_eq!(read(&mut Frames::new(200, false), &frame(0xc1, &x)), Err(Broken::Protocol), "not agreed on");
    }

    #[test]
    fn what_is_written_is_what_the_library_reads() {
        use tokio_tungstenite::tungstenite::protocol::frame::FrameSocket;
        for len in [0, 1, 125, 126, 0xffff, 0x1_0000] {
            let text = "x".repeat(len);
            let mut out = Vec::new();
            put_text(&mut out, ["", &text, ""]);
            let frame = FrameSocket::new(Cursor::new(out)).read(None).unwrap().unwrap();
            assert_eq!(frame.to_text().unwrap(), text);
        }
        let mut out = Vec::new();
        put_pong(&mut out, b"here");
        put_ping(&mut out);
        put_close(&mut out, CloseCode::Size, "too long");
        let mut socket = FrameSocket::new(Cursor::new(out));
        for (control, payload) in
            [(Control::Pong, &b"here"[..]), (Control::Ping, b""), (Control::Close, b"\x03\xf1too long")]
        {
            let frame = socket.read(None).unwrap().unwrap();
            assert_eq!((frame.header().opcode, frame.payload()), (OpCode::Control(control), payload));
        }
    }
}

//! Reads what clients compressed (DEFLATE, RFC 1951), each message for itself (RFC 7692, `client_no_context_takeover`).
//!
//! What comes out is bounded before anything does, and nothing is kept between messages but what a thread reads with.

use std::cell::Cell;

use zlib_rs::{Inflate, InflateFlush, Status};

use crate::deflate::{TAIL, WINDOW_BITS};
use crate::websocket::Broken;

/// Blocks of a message, which can come with new codes each...
const BLOCKS: usize = 16;
/// ...and bytes for which there may be one more. To read new codes takes as long as many bytes, and who compresses to save bytes
/// has some kilobytes in a block.
const PER_BLOCK: usize = 64;
/// Room that is made at first for what comes out, for each byte that goes in.
const FIRST: usize = 3;
/// Largest buffer that a thread keeps for the next message.
const SPARE_MAX: usize = 64 * 1024;

thread_local! {
    /// What this thread reads with, and where the last message was.
    static IDLE: Cell<Option<(Box<Inflate>, Vec<u8>)>> = const { Cell::new(None) };
}

/// Has `read` look at what was compressed, if that is at most `max` bytes long.
pub(crate) fn inflated<T>(bytes: &[u8], max: usize, read: impl FnOnce(&[u8]) -> T) -> Result<T, Broken> {
    let (mut inflater, mut out) =
        IDLE.take().unwrap_or_else(|| (Box::new(Inflate::new(false, WINDOW_BITS)), Vec::new()));
    inflater.reset(false);
    let result = inflate(&mut inflater, &mut out, bytes, max).map(|len| read(&out[..len]));
    if out.len() > SPARE_MAX {
        out = Vec::new();
    }
    IDLE.set(Some((inflater, out)));
    result
}

/// Inflates to the front of `out`, which grows as it has to. Gives the length.
fn inflate(inflater: &mut Inflate, out: &mut Vec<u8>, bytes: &[u8], max: usize) -> Result<usize, Broken> {
    let mut len = 0;
    let mut blocks = BLOCKS + bytes.len() / PER_BLOCK;
    grow(out, bytes.len() * FIRST, max);
    for mut piece in [bytes, &TAIL] {
        while !piece.is_empty() {
            let before = (inflater.total_in(), inflater.total_out());
            // Up to the end of a block, of the piece, or of the room.
            let status = inflater.decompress(piece, &mut out[len..], InflateFlush::Block);
            let read = (inflater.total_in() - before.0) as usize;
            let came = (inflater.total_out() - before.1) as usize;
            (piece, len) = (&piece[read..], len + came);
            if len > max {
                return Err(Broken::TooLong);
            }
            match status.map_err(|_| Broken::Protocol)? {
                // That was a last block. RFC 7692 (section 7.2.1) lets others follow.
                Status::StreamEnd => inflater.reset(false),
                _ if len == out.len() => {
                    grow(out, 2 * len, max);
                    continue;
                }
                _ if read == 0 && came == 0 => return Err(Broken::Protocol),
                _ => {}
            }
            blocks = blocks.checked_sub(1).ok_or(Broken::Protocol)?;
        }
    }
    Ok(len)
}

/// Makes room for so many bytes, but for no more than one beyond the limit.
fn grow(out: &mut Vec<u8>, bytes: usize, max: usize) {
    let room = bytes.max(64).min(max + 1);
    if room > out.len() {
        out.resize(room, 0);
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use flate2::{Compress, Compression, FlushCompress};

    use super::*;

    const MAX: usize = 100_000;

    /// As any client does it.
    pub(crate) fn deflated(bytes: &[u8], level: u32) -> Vec<u8> {
        let mut out = Vec::with_capacity(bytes.len() + bytes.len() / 8 + 1000);
        Compress::new(Compression::new(level), false).compress_vec(bytes, &mut out, FlushCompress::Sync).unwrap();
        assert_eq!(out.split_off(out.len() - 4), TAIL);
        out
    }

    fn read(bytes: &[u8]) -> Result<Vec<u8>, Broken> {
        inflated(bytes, MAX, <[u8]>::to_vec)
    }

    #[test]
    fn messages_of_every_length_come_out_as_they_went_in() {
        let noise: Vec<u8> = (0..MAX as u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
        let hex: Vec<u8> = noise.iter().map(|byte| b"0123456789abcdef"[usize::from(byte >> 4)]).collect();
        let lengths = (0..300).chain([1000, 4095, 4096, 4097, 30_000, 65_535, 65_536, MAX - 1, MAX]);
        for len in lengths {
            for bytes in [&noise[..len], &hex[..len], &vec![b' '; len]] {
                for level in [0, 1, 6, 9] {
                    assert!(read(&deflated(bytes, level)).as_deref() == Ok(bytes), "{len} at level {level}");
                }
            }
        }
    }

    #[test]
    fn what_would_be_too_long_is_not_made() {
        for len in [MAX + 1, MAX + 2, 2 * MAX, 50 * MAX] {
            let bomb = deflated(&vec![b' '; len], 9);
            assert!(bomb.len() < len / 500);
            assert_eq!(read(&bomb), Err(Broken::TooLong), "{len}");
            let (_, out) = IDLE.take().unwrap();
            assert_eq!(out.capacity(), 0, "no room for it is kept");
        }
    }

    #[test]
    fn the_limit_is_met_exactly_whatever_it_is() {
        for max in 0..400 {
            let (fits, longer) = (deflated(&vec![b' '; max], 9), deflated(&vec![b' '; max + 1], 9));
            assert_eq!(inflated(&fits, max, <[u8]>::len), Ok(max));
            assert_eq!(inflated(&longer, max, <[u8]>::len), Err(Broken::TooLong), "{max}");
        }
    }

    #[test]
    fn the_examples_of_rfc_7692_are_read() {
        let table: [(&str, &[u8]); 4] = [
            ("one block", &[0xf2, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00]),
            ("a stored block", &[0x00, 0x05, 0x00, 0xfa, 0xff, 0x48, 0x65, 0x6c, 0x6c, 0x6f, 0x00]),
            ("a last block", &[0xf3, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00, 0x00]),
            ("two blocks", &[0xf2, 0x48, 0x05, 0x00, 0x00, 0x00, 0xff, 0xff, 0xca, 0xc9, 0xc9, 0x07, 0x00]),
        ];
        for (what, bytes) in table {
            assert_eq!(read(bytes).as_deref(), Ok(&b"Hello"[..]), "{what}");
        }
        // What cannot be referred to, because each message stands for itself (section 7.2.3.2).
        assert_eq!(read(&[0xf2, 0x00, 0x11, 0x00, 0x00]), Err(Broken::Protocol));
        assert_eq!(read(&[]).as_deref(), Ok(&b""[..]));
        assert_eq!(read(&[0]).as_deref(), Ok(&b""[..]));
    }

    #[test]
    fn many_last_blocks_are_read() {
        let one = [0xf3, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00];
        assert_eq!(read(&one.repeat(BLOCKS / 3)).unwrap(), b"Hello".repeat(BLOCKS / 3));
        // As many as nobody needs who has something to say.
        let empty: [&[u8]; 3] = [&[0x03, 0x00], &[0x00, 0x00, 0x00, 0xff, 0xff], &one];
        for block in empty {
            assert_eq!(read(&block.repeat(MAX / 10)), Err(Broken::Protocol));
        }
    }

    #[test]
    fn what_a_client_flushed_now_and_then_is_read() {
        let mut compress = Compress::new(Compression::default(), false);
        let (mut bytes, mut text) = (Vec::with_capacity(MAX), Vec::new());
        for n in 0..20_u32 {
            let mixed = |i: u32| (n * 1000 + i).pow(2).wrapping_mul(2_654_435_761) >> 28;
            let part: String = (0..1000).map(|i| char::from(b'a' + mixed(i) as u8)).collect();
            compress.compress_vec(part.as_bytes(), &mut bytes, FlushCompress::Sync).unwrap();
            text.extend(part.into_bytes());
        }
        bytes.truncate(bytes.len() - TAIL.len());
        assert!(read(&bytes) == Ok(text));
    }

    #[test]
    fn garbage_is_refused() {
        let table: [(&str, &[u8]); 5] = [
            ("a block of no kind", &[0x06]),
            ("lengths that do not agree", &[0x00, 0x05, 0x00, 0x00, 0x00, b'x']),
            ("a distance to before the beginning", &[0x03, 0x02, 0x00]),
            ("codes that are too many", &[0x04, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]),
            ("text", b"[\"REQ\",\"s\",{}]"),
        ];
        for (what, bytes) in table {
            assert_eq!(read(bytes), Err(Broken::Protocol), "{what}");
        }
        assert_eq!(read(&deflated(b"and then it goes on", 6)).unwrap(), b"and then it goes on");
    }
}

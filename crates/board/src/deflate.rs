//! Compresses what a board says (DEFLATE, RFC 1951), message by message, as permessage-deflate has it (RFC 7692).

use std::cell::Cell;

use zlib_rs::{Deflate, DeflateFlush};

/// What RFC 7692 (section 7.2) leaves out of each message and has a reader put there again: the end of an empty stored block.
pub(crate) const TAIL: [u8; 4] = [0x00, 0x00, 0xff, 0xff];
/// Bits of the longest distance to what a text refers to.
pub(crate) const WINDOW_BITS: u8 = 15;
/// Shorter texts are left as they are: they hardly become shorter, and a packet has room to spare.
pub(crate) const WORTH: usize = 200;
/// Largest buffer that a thread keeps for the next message.
const SPARE_MAX: usize = 64 * 1024;

/// How much work is done to make a message short.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Effort {
    /// With the codes that DEFLATE has from the start. Enough where texts refer to many before them.
    Light,
    /// With codes of its own, for a text alone.
    Full,
}

thread_local! {
    /// What this thread compresses with, for each effort, between messages.
    static IDLE: [Cell<Option<Box<Deflater>>>; 2] = const { [Cell::new(None), Cell::new(None)] };
}

/// Compresses texts, each of which may refer to those before it since [`Deflater::forget`].
pub(crate) struct Deflater {
    deflate: Deflate,
    text: Vec<u8>,
    /// Room for what is made.
    made: Vec<u8>,
}

impl Deflater {
    /// One that has nothing to refer to.
    pub(crate) fn new(effort: Effort) -> Deflater {
        let level = match effort {
            Effort::Light => 1,
            Effort::Full => 2,
        };
        Deflater { deflate: Deflate::new(level, false, WINDOW_BITS), text: Vec::new(), made: Vec::new() }
    }

    /// Has `work` done with this thread's own, which has forgotten everything.
    pub(crate) fn lent<T>(effort: Effort, work: impl FnOnce(&mut Deflater) -> T) -> T {
        let place = effort as usize;
        let idle = IDLE.with(|idle| idle[place].take());
        let mut deflater = idle.unwrap_or_else(|| Box::new(Deflater::new(effort)));
        deflater.forget();
        let done = work(&mut deflater);
        if deflater.made.len().max(deflater.text.capacity()) > SPARE_MAX {
            (deflater.text, deflater.made) = Default::default();
        }
        IDLE.with(|idle| idle[place].set(Some(deflater)));
        done
    }

    /// What comes next refers to nothing that came before.
    pub(crate) fn forget(&mut self) {
        self.deflate.reset();
    }

    /// Compresses a text, the `parts` one after another, as RFC 7692 (section 7.2.1) has it: whole blocks, without the end of the
    /// last, empty one. `None` when that would not make it shorter; then everything before is forgotten.
    pub(crate) fn make(&mut self, parts: &[&str]) -> Option<&[u8]> {
        self.text.clear();
        parts.iter().for_each(|part| self.text.extend_from_slice(part.as_bytes()));
        let len = self.compressed().unwrap_or(usize::MAX).saturating_sub(TAIL.len());
        if len < self.text.len() && self.made[len..].starts_with(&TAIL) {
            return Some(&self.made[..len]);
        }
        // What is not said compressed is nothing to refer to.
        self.forget();
        None
    }

    /// Compresses all of the text, up to the end of a block. Gives the length.
    fn compressed(&mut self) -> Option<usize> {
        let (mut rest, mut len) = (&self.text[..], 0);
        let room = rest.len() + 64;
        if self.made.len() < room {
            self.made.resize(room, 0);
        }
        loop {
            let before = (self.deflate.total_in(), self.deflate.total_out());
            self.deflate.compress(rest, &mut self.made[len..], DeflateFlush::SyncFlush).ok()?;
            rest = &rest[(self.deflate.total_in() - before.0) as usize..];
            len += (self.deflate.total_out() - before.1) as usize;
            // It is all out only if there was room left.
            if rest.is_empty() && len < self.made.len() {
                return Some(len);
            }
            self.made.resize(2 * self.made.len(), 0);
        }
    }
}

/// What stands before a text that is not compressed, as a block after which others follow (RFC 1951, section 3.2.4).
pub(crate) fn stored(len: u16) -> [u8; 5] {
    let ([a, b], [c, d]) = (len.to_le_bytes(), (!len).to_le_bytes());
    [0, a, b, c, d]
}

#[cfg(test)]
mod tests {
    use flate2::{Decompress, FlushDecompress};
    use proptest::prelude::*;

    use super::*;

    /// What a client reads, of messages one after another, with its memory of those before.
    struct Reader(Decompress);

    impl Reader {
        fn new() -> Reader {
            Reader(Decompress::new(false))
        }

        fn read(&mut self, message: &[u8], len: usize) -> Vec<u8> {
            let bytes = [message, &TAIL].concat();
            let mut out = Vec::with_capacity(len + 100);
            let before = self.0.total_in();
            self.0.decompress_vec(&bytes, &mut out, FlushDecompress::Sync).unwrap();
            assert_eq!(self.0.total_in() - before, bytes.len() as u64, "all of it is read");
            out
        }
    }

    /// Text without a pattern, of these many letters.
    fn noise(letters: &[char], len: usize) -> String {
        let letter = |i: u32| letters[(i.wrapping_mul(2_654_435_761) >> 16) as usize % letters.len()];
        (0..len as u32).map(letter).collect()
    }

    #[test]
    fn what_a_board_says_is_read_elsewhere_and_is_shorter() {
        let hex: Vec<char> = ('0'..='9').chain('a'..='f').collect();
        let event = |i: usize| {
            let id = &noise(&hex, 700)[i..i + 64];
            format!(
                "[\"EVENT\",\"s\",{{\"id\":\"{id}\",\"kind\":1,\"tags\":[[\"t\",\"market\"]],\"content\":\"{}\"}}]",
                "a lamp, ".repeat(i % 50)
            )
        };
        for effort in [Effort::Light, Effort::Full] {
            let (mut reader, mut deflater, mut sizes) = (Reader::new(), Deflater::new(effort), (0, 0));
            for text in (0..500).map(event) {
                let made = deflater.make(&[&text[..10], "", &text[10..]]).unwrap();
                assert_eq!(reader.read(made, text.len()), text.as_bytes());
                sizes = (sizes.0 + made.len(), sizes.1 + text.len());
            }
            assert!(sizes.0 * 2 < sizes.1, "{effort:?}: {sizes:?}");
        }
    }

    #[test]
    fn texts_of_every_length_are_read_elsewhere() {
        let letters: Vec<char> = (' '..='~').chain(['\u{e9}', '\u{1f9c0}']).collect();
        for effort in [Effort::Light, Effort::Full] {
            let (mut reader, mut deflater) = (Reader::new(), Deflater::new(effort));
            for len in (0..300).chain([4095, 4096, 4097, 65_535, 65_536, 300_000]) {
                for text in ["x".repeat(len), "ab".repeat(len), noise(&letters, len)] {
                    match deflater.make(&[&text, &text]) {
                        Some(made) => assert_eq!(reader.read(made, 2 * text.len()), text.repeat(2).as_bytes()),
                        None => assert!(text.len() < 100, "{len}"),
                    }
                }
            }
        }
    }

    #[test]
    fn what_would_become_longer_is_left_and_nothing_refers_to_it() {
        let letters: Vec<char> = ('\u{4e00}'..='\u{9fff}').collect();
        let noise = noise(&letters, 300);
        for effort in [Effort::Light, Effort::Full] {
            let mut deflater = Deflater::new(effort);
            assert!(deflater.make(&["short"]).is_none());
            assert!(deflater.make(&[]).is_none());
            assert!(effort == Effort::Full || deflater.make(&[&noise]).is_none());
            deflater.forget();
            let made = deflater.make(&[&noise, &noise]).unwrap().to_vec();
            assert_eq!(Reader::new().read(&made, 2 * noise.len()), noise.repeat(2).as_bytes());
        }
    }

    #[test]
    fn who_is_lent_one_finds_nothing_to_refer_to_and_no_large_buffers() {
        let text = "the same again, ".repeat(100);
        let made = || Deflater::lent(Effort::Light, |deflater| deflater.make(&[&text]).unwrap().to_vec());
        assert_eq!(made(), made());
        let len = Deflater::lent(Effort::Light, |deflater| deflater.make(&[&"x".repeat(1 << 20)]).unwrap().len());
        assert!(len > 1000);
        Deflater::lent(Effort::Light, |deflater| assert!(deflater.text.capacity() <= SPARE_MAX));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn any_texts_are_read_elsewhere(texts in proptest::collection::vec("[ab]{0,40}|.{0,300}|[0-9a-f]{200,600}", 1..8)) {
            for effort in [Effort::Light, Effort::Full] {
                let (mut reader, mut deflater) = (Reader::new(), Deflater::new(effort));
                for text in texts.iter().chain(&texts) {
                    match deflater.make(&[text]) {
                        Some(made) => prop_assert_eq!(reader.read(made, text.len()), text.as_bytes()),
                        // It begins anew, as the reader may: nothing is referred to.
                        None => reader = Reader::new(),
                    }
                }
            }
        }
    }
}

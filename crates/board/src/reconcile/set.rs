//! A set of events and the relay's side of negentropy over it (NIP-77, appendix).
//!
//! Sums of ids are kept for every few events, so that a fingerprint costs the same however many events it covers, and a message of
//! one range over a million events is answered as fast as any. The side that begins is left to crate `negentropy`, with which the
//! tests compare every answer.

use super::{Broken, Item, MESSAGE_MAX};
use bitcoin::hashes::{Hash, HashEngine, sha256};

/// Version 1 of the protocol.
const VERSION: u8 = 0x61;
/// A sum is kept for so many events.
const STRIDE: usize = 16;
/// Into so many ranges a range is cut that differs.
const PARTS: usize = 16;
/// Ranges of fewer events are written out.
const LISTED: usize = 2 * PARTS;
/// Room that is left in a message for its end.
const END: usize = 200;

const SKIP: u64 = 0;
const FINGERPRINT: u64 = 1;
const LIST: u64 = 2;

/// The events that a filter names, sorted, as of the moment when it was asked.
#[derive(Debug)]
pub struct Set {
    items: Vec<Item>,
    /// Sum of the ids of the first 0, 16, 32, … items.
    sums: Vec<Sum>,
}

/// A 256-bit number modulo 2^256, lowest word first.
#[derive(Clone, Copy, Debug, Default)]
struct Sum([u64; 4]);

impl Sum {
    fn of(id: &[u8; 32]) -> Sum {
        let word = |at: usize| u64::from_le_bytes(id[at..at + 8].try_into().expect("eight bytes"));
        Sum([word(0), word(8), word(16), word(24)])
    }

    fn add(&mut self, other: Sum) {
        let mut carry = false;
        for (mine, theirs) in self.0.iter_mut().zip(other.0) {
            let (sum, over) = mine.overflowing_add(theirs);
            let (sum, again) = sum.overflowing_add(u64::from(carry));
            (*mine, carry) = (sum, over | again);
        }
    }

    fn minus(self, other: Sum) -> Sum {
        let mut negative = Sum(other.0.map(|word| !word));
        negative.add(Sum([1, 0, 0, 0]));
        negative.add(self);
        negative
    }
}

/// The end of a range, not part of it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Bound {
    at: u64,
    id: [u8; 32],
    /// Bytes of the id that are written; the rest are zero.
    len: usize,
}

impl Bound {
    const INFINITE: Bound = Bound { at: u64::MAX, id: [0; 32], len: 0 };

    /// The shortest bound between two neighbours.
    fn between(before: &Item, item: &Item) -> Bound {
        let len = match before.0 == item.0 {
            true => before.1.iter().zip(&item.1).take_while(|(one, other)| one == other).count() + 1,
            false => 0,
        };
        let mut id = [0; 32];
        id[..len.min(32)].copy_from_slice(&item.1[..len.min(32)]);
        Bound { at: item.0.0, id, len: len.min(32) }
    }
}

/// A message that is being read.
struct Reader<'a> {
    rest: &'a [u8],
    at: u64,
}

impl<'a> Reader<'a> {
    fn take(&mut self, len: usize) -> Result<&'a [u8], Broken> {
        let ends = || Broken::because("invalid: the message ends too early");
        let (taken, rest) = self.rest.split_at_checked(len).ok_or_else(ends)?;
        self.rest = rest;
        Ok(taken)
    }

    fn varint(&mut self) -> Result<u64, Broken> {
        let mut value: u64 = 0;
        loop {
            let byte = self.take(1)?[0];
            if value > u64::MAX >> 7 {
                return Err(Broken::because("invalid: a number is too large"));
            }
            value = value << 7 | u64::from(byte & 0x7f);
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
    }

    fn bound(&mut self) -> Result<Bound, Broken> {
        self.at = match self.varint()? {
            0 => u64::MAX,
            offset => self.at.saturating_add(offset - 1),
        };
        let len = usize::try_from(self.varint()?).ok().filter(|len| *len <= 32);
        let len = len.ok_or_else(|| Broken::because("invalid: an id of more than 32 bytes"))?;
        let mut id = [0; 32];
        id[..len].copy_from_slice(self.take(len)?);
        Ok(Bound { at: self.at, id, len })
    }
}

/// A message that is being written.
struct Writer {
    out: Vec<u8>,
    at: u64,
}

impl Writer {
    fn varint(&mut self, value: u64) {
        let digits = (u64::BITS - value.leading_zeros()).div_ceil(7).max(1);
        for digit in (0..digits).rev() {
            let more = if digit == 0 { 0 } else { 0x80 };
            self.out.push((value >> (7 * digit)) as u8 & 0x7f | more);
        }
    }

    fn range(&mut self, end: &Bound, mode: u64) {
        if end.at == u64::MAX {
            self.varint(0);
        } else {
            self.varint(end.at.saturating_sub(self.at).saturating_add(1));
        }
        self.at = end.at;
        self.varint(end.len as u64);
        self.out.extend_from_slice(&end.id[..end.len]);
        self.varint(mode);
    }

    /// Passes over what came before `end`, if that is not said yet.
    fn skip(&mut self, skipped: &mut bool, end: &Bound) {
        if std::mem::take(skipped) {
            self.range(end, SKIP);
        }
    }

    fn full(&self) -> bool {
        self.out.len() > MESSAGE_MAX - END
    }
}

impl Default for Set {
    fn default() -> Set {
        Set::new(Vec::new())
    }
}

impl Set {
    /// A set of these events, in any order.
    pub fn new(mut items: Vec<Item>) -> Set {
        // Indexes give a few long sequences, newest first and then lowest id first: sorted like that, they only have to be merged.
        items.sort_by(|one, other| other.0.cmp(&one.0).then_with(|| one.1.cmp(&other.1)));
        items.dedup();
        items.reverse();
        items.chunk_by_mut(|one, other| one.0 == other.0).for_each(<[Item]>::reverse);
        let mut sums = Vec::with_capacity(items.len() / STRIDE + 1);
        let mut sum = Sum::default();
        for (i, item) in items.iter().enumerate() {
            if i % STRIDE == 0 {
                sums.push(sum);
            }
            sum.add(Sum::of(&item.1));
        }
        if items.len().is_multiple_of(STRIDE) {
            sums.push(sum);
        }
        Set { items, sums }
    }

    /// The events, in order.
    pub(super) fn items(&self) -> &[Item] {
        &self.items
    }

    /// Sum of the ids of the first `count` items.
    fn sum(&self, count: usize) -> Sum {
        let mut sum = self.sums[count / STRIDE];
        self.items[count - count % STRIDE..count].iter().for_each(|item| sum.add(Sum::of(&item.1)));
        sum
    }

    fn fingerprint(&self, from: usize, to: usize) -> [u8; 16] {
        let mut count = Writer { out: Vec::new(), at: 0 };
        count.varint((to - from) as u64);
        let mut engine = sha256::Hash::engine();
        self.sum(to).minus(self.sum(from)).0.iter().for_each(|word| engine.input(&word.to_le_bytes()));
        engine.input(&count.out);
        let mut fingerprint = [0; 16];
        fingerprint.copy_from_slice(&sha256::Hash::from_engine(engine).to_byte_array()[..16]);
        fingerprint
    }

    /// The answer to a message of the side that began.
    pub fn answer(&self, message: &[u8]) -> Result<Vec<u8>, Broken> {
        let mut reader = Reader { rest: message, at: 0 };
        let mut writer = Writer { out: vec![VERSION], at: 0 };
        match reader.take(1)?[0] {
            VERSION => {}
            // It may come back with ours.
            0x60..=0x6f => return Ok(writer.out),
            _ => return Err(Broken::because("invalid: not a message of negentropy")),
        }
        let (mut from, mut start, mut skipped) = (0, Bound { at: 0, ..Bound::INFINITE }, false);
        // Items before this are dealt with in what is written so far.
        let mut done = 0;
        while !reader.rest.is_empty() {
            let end = reader.bound()?;
            let to = from + self.items[from..].partition_point(|item| (item.0.0, &item.1) < (end.at, &end.id));
            let mark = writer.out.len();
            match reader.varint()? {
                SKIP => skipped = true,
                FINGERPRINT if reader.take(16)? == self.fingerprint(from, to) => skipped = true,
                FINGERPRINT => {
                    writer.skip(&mut skipped, &start);
                    self.split(&mut writer, from, to, &end);
                }
                LIST => {
                    let count = reader.varint()?;
                    let bytes = usize::try_from(count).ok().and_then(|count| count.checked_mul(32));
                    // What the other side has is for itself to compare with what we list.
                    reader.take(bytes.unwrap_or(usize::MAX))?;
                    writer.skip(&mut skipped, &start);
                    done = self.list(&mut writer, mark, from, to, &end);
                    if done < to || writer.full() {
                        return Ok(self.rest(writer, done));
                    }
                }
                _ => return Err(Broken::because("invalid: a range of an unknown mode")),
            }
            if writer.full() {
                writer.out.truncate(mark);
                return Ok(self.rest(writer, done));
            }
            if !skipped {
                done = to;
            }
            (from, start) = (to, end);
        }
        Ok(writer.out)
    }

    /// Cuts a range whose fingerprint differs into parts, or lists it when it is short.
    fn split(&self, writer: &mut Writer, from: usize, to: usize, end: &Bound) {
        let count = to - from;
        if count < LISTED {
            writer.range(end, LIST);
            writer.varint(count as u64);
            self.items[from..to].iter().for_each(|item| writer.out.extend_from_slice(&item.1));
            return;
        }
        let mut start = from;
        for part in 0..PARTS {
            let next = start + count / PARTS + usize::from(part < count % PARTS);
            let bound = if next == to { *end } else { Bound::between(&self.items[next - 1], &self.items[next]) };
            writer.range(&bound, FINGERPRINT);
            writer.out.extend_from_slice(&self.fingerprint(start, next));
            start = next;
        }
    }

    /// Lists a range, or as much of it as has room behind the first `mark` bytes. Gives how far it came.
    fn list(&self, writer: &mut Writer, mark: usize, from: usize, to: usize, end: &Bound) -> usize {
        let room = (MESSAGE_MAX - END).checked_sub(mark).map_or(0, |room| room / 32 + 1);
        let reached = to.min(from + room);
        let whole = |item: &Item| Bound { at: item.0.0, id: item.1, len: 32 };
        let end = if reached == to { *end } else { whole(&self.items[reached]) };
        writer.range(&end, LIST);
        writer.varint((reached - from) as u64);
        self.items[from..reached].iter().for_each(|item| writer.out.extend_from_slice(&item.1));
        reached
    }

    /// Ends a message that is full with the fingerprint of all that it does not deal with.
    fn rest(&self, mut writer: Writer, done: usize) -> Vec<u8> {
        writer.range(&Bound::INFINITE, FINGERPRINT);
        writer.out.extend_from_slice(&self.fingerprint(done, self.items.len()));
        writer.out
    }
}

#[cfg(test)]
mod tests {
    use negentropy::{Id, Negentropy, NegentropyStorageVector, Storage};
    use proptest::prelude::*;
    use units::Unix;

    use super::*;

    fn storage(items: &[Item]) -> NegentropyStorageVector {
        let mut storage = NegentropyStorageVector::new();
        items.iter().for_each(|(at, id)| storage.insert(at.0, Id::from_byte_array(*id)).unwrap());
        storage.seal().unwrap();
        storage
    }

    /// What the crate answers.
    fn theirs(storage: &NegentropyStorageVector, message: &[u8]) -> Option<Vec<u8>> {
        let mut step = Negentropy::new(Storage::Borrowed(storage), MESSAGE_MAX as u64).unwrap();
        step.reconcile(message).ok()
    }

    /// Item number `n`: `seconds` of them share a second, and most of those their first bytes.
    fn item(n: u64, seconds: u64) -> Item {
        let mut id = [0; 32];
        id[if n.is_multiple_of(3) { 0 } else { 20 }..][..8]
            .copy_from_slice(&n.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes());
        (Unix(n / seconds), id)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(60))]

        #[test]
        fn every_answer_is_the_one_of_the_crate(
            count in prop_oneof![0..70u64, 0..5000u64],
            seconds in prop_oneof![Just(1u64), 1..500u64],
            (ours_lack, they_lack) in (2..400u64, 1..400u64),
            damage in any::<(prop::sample::Index, u8)>(),
        ) {
            let items = |lack: u64| (0..count).filter(|n| n % lack != lack / 2).map(|n| item(n, seconds)).collect::<Vec<_>>();
            let mut shuffled = items(ours_lack);
            shuffled.reverse();
            let (set, same) = (Set::new(shuffled), storage(&items(ours_lack)));
            let other = storage(&items(they_lack));
            let mut client = Negentropy::new(Storage::Borrowed(&other), MESSAGE_MAX as u64).unwrap();
            let (mut have, mut need) = (Vec::new(), Vec::new());
            let mut message = client.initiate().unwrap();
            loop {
                let answer = set.answer(&message).unwrap();
                prop_assert_eq!(Some(answer.clone()), theirs(&same, &message));
                let mut damaged = message.clone();
                let at = damage.0.index(damaged.len());
                damaged[at] = damage.1;
                if let Ok(answer) = set.answer(&damaged) {
                    prop_assert_eq!(Some(answer), theirs(&same, &damaged));
                }
                match client.reconcile_with_ids(&answer, &mut have, &mut need).unwrap() {
                    Some(next) => message = next,
                    None => break,
                }
            }
            let lacking = |mine: u64, other: u64| (0..count).filter(|n| n % mine != mine / 2 && n % other == other / 2).count();
            prop_assert_eq!((have.len(), need.len()), (lacking(they_lack, ours_lack), lacking(ours_lack, they_lack)));
        }
    }

    #[test]
    fn a_fingerprint_is_the_sum_of_the_ids_and_their_count() {
        let mut high = [0; 32];
        high[31] = 0x80;
        let set = Set::new(vec![(Unix(1), [0xff; 32]), (Unix(2), high), (Unix(3), high)]);
        // 2^256-1, and that plus twice 2^255, is the same again.
        let mut engine = sha256::Hash::engine();
        engine.input(&[0xff; 32]);
        engine.input(&[3]);
        assert_eq!(set.fingerprint(0, 3), sha256::Hash::from_engine(engine).to_byte_array()[..16]);
        assert_eq!(set.fingerprint(1, 1), Set::default().fingerprint(0, 0));
    }
}

//! HyperLogLog of authors beside a count (NIP-45): counts of several relays can be merged without counting anybody twice.

use bitcoin::hashes::{Hash, sha256};

use crate::filter::Filter;
use crate::json::parse_hex;

/// The greatest rank seen for each of 256 classes of authors.
pub type Registers = [u8; 256];

/// The registers of one count.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hll {
    offset: usize,
    registers: Box<Registers>,
}

/// From where in a public key the registers are filled, by the first value of the first tag of the filter (NIP-45).
fn offset(value: &str) -> usize {
    let hash = |text: &str| parse_hex::<32>(text, "hex").ok();
    let address = || {
        let (kind, rest) = value.split_once(':')?;
        let (pubkey, _) = rest.split_once(':')?;
        kind.parse::<u16>().ok().and_then(|_| hash(pubkey))
    };
    let bytes = hash(value).or_else(address).unwrap_or_else(|| sha256::Hash::hash(value.as_bytes()).to_byte_array());
    // Character 32 of the hex text.
    usize::from(bytes[16] >> 4) + 8
}

impl Hll {
    /// Empty registers for a count of these filters. `None` where NIP-45 does not say how, which is for anything but one filter
    /// that names one value of one tag: of several we do not know which came first.
    pub fn of(filters: &[Filter]) -> Option<Hll> {
        let [filter] = filters else { return None };
        let mut lists = filter.tags.values();
        let (Some(values), None) = (lists.next(), lists.next()) else { return None };
        let [value] = values.as_slice() else { return None };
        Some(Hll { offset: offset(value), registers: Box::new([0; 256]) })
    }

    /// Counts the author of an event.
    pub fn add(&mut self, pubkey: &[u8; 32]) {
        let rest = &pubkey[self.offset + 1..];
        let zeros = match rest.iter().position(|byte| *byte != 0) {
            Some(at) => at * 8 + rest[at].leading_zeros() as usize,
            None => rest.len() * 8,
        };
        let register = &mut self.registers[usize::from(pubkey[self.offset])];
        *register = (*register).max(u8::try_from(zeros + 1).unwrap_or(u8::MAX));
    }

    /// The registers.
    pub fn into_registers(self) -> Box<Registers> {
        self.registers
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::filter::FilterLimits;

    #[test]
    fn the_offset_comes_from_the_hex_of_the_value() {
        let hex = format!("{}{}{}", "0".repeat(32), "c", "0".repeat(31));
        assert_eq!(offset(&hex), 20);
        assert_eq!(offset(&format!("30402:{hex}:lamp")), 20);
        // SHA-256 of "bitcoin" is 6b88c087247aa2f07ee1c5956b8e1a9f4c7f892a70e324f1bb3d161e05ca107b.
        assert_eq!(offset("bitcoin"), 4 + 8);
        assert_ne!(offset(&hex.to_uppercase()), 20, "uppercase is no id");
    }

    #[test]
    fn a_register_keeps_the_greatest_rank_of_its_authors() {
        let mut hll = Hll { offset: 8, registers: Box::new([0; 256]) };
        let key = |class: u8, next: u8| {
            let mut key = [0xff; 32];
            (key[8], key[9]) = (class, next);
            key
        };
        for (class, next) in [(3, 0x80), (3, 0x10), (3, 0x40), (5, 0)] {
            hll.add(&key(class, next));
        }
        let mut zero = [0; 32];
        zero[8] = 6;
        hll.add(&zero);
        let registers = hll.into_registers();
        assert_eq!((registers[3], registers[5], registers[6]), (4, 9, 185));
        assert_eq!(registers.iter().filter(|rank| **rank > 0).count(), 3);
    }

    #[test]
    fn only_one_value_of_one_tag_has_registers() {
        let filter = |json: &str| Filter::parse(json.as_bytes(), &FilterLimits::DEFAULT).unwrap();
        let one = filter(r##"{"#e":["x"],"kinds":[7]}"##);
        assert!(Hll::of(std::slice::from_ref(&one)).is_some());
        assert!(Hll::of(&[one.clone(), one]).is_none());
        for none in [r##"{"kinds":[7]}"##, r##"{"#e":["x","y"]}"##, r##"{"#e":["x"],"#p":["y"]}"##, r##"{"#e":[]}"##] {
            assert!(Hll::of(&[filter(none)]).is_none(), "{none}");
        }
    }
}

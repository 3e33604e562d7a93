//! The check of a signature by a key whose multiples are known.

use std::sync::LazyLock;

use bitcoin::hashes::{Hash, HashEngine, sha256};
use secp256k1::{Parity, PublicKey, XOnlyPublicKey};

use crate::comb::Comb;
use crate::field::Field;
use crate::point::{Affine, Point};
use crate::scalar::Scalar;
use crate::words::words;

/// Columns of a key's comb: 38 additions for a product, 8 KiB for the table.
const KEY_COLUMNS: usize = 19;
/// Columns of the generator's: 20 additions, and one table of 256 KiB for all.
const GENERATOR_COLUMNS: usize = 20;

const _: () = assert!(KEY_COLUMNS <= GENERATOR_COLUMNS);

static GENERATOR: LazyLock<Comb<1, 13, GENERATOR_COLUMNS>> = LazyLock::new(|| Comb::new(Affine::GENERATOR));

/// SHA-256 that has taken in what the challenge of BIP-340 begins with.
static CHALLENGE: LazyLock<sha256::HashEngine> = LazyLock::new(|| {
    let tag = sha256::Hash::hash(b"BIP0340/challenge").to_byte_array();
    let mut engine = sha256::Hash::engine();
    engine.input(&tag);
    engine.input(&tag);
    engine
});

/// Multiples of a key.
pub(crate) struct Table {
    key: [u8; 32],
    multiples: Comb<2, 7, KEY_COLUMNS>,
}

impl Table {
    pub(crate) fn new(key: &XOnlyPublicKey) -> Table {
        // 4, then the coordinates.
        let point = PublicKey::from_x_only_public_key(*key, Parity::Even).serialize_uncompressed();
        let coordinate = |at: usize| Field(words(&std::array::from_fn(|i| point[at + i])));
        Table { key: key.serialize(), multiples: Comb::new(Affine { x: coordinate(1), y: coordinate(33) }) }
    }

    /// The signature is the key's over `message`.
    pub(crate) fn check(&self, message: &[u8; 32], signature: &[u8; 64]) -> bool {
        let (r, s) = (std::array::from_fn(|i| signature[i]), std::array::from_fn(|i| signature[32 + i]));
        let (Some(x), Some(s)) = (Field::from_bytes(&r), Scalar::from_bytes(&s)) else { return false };
        let challenge = challenge(&r, &self.key, message);
        // R, the hidden point of whoever signed, if the signature is good; its y is even.
        self.sum(s, challenge.negative()).is_some_and(|hidden| hidden.has_x(x) && !hidden.has_odd_y())
    }

    /// `a` times the generator and `b` times the key.
    pub(crate) fn sum(&self, a: Scalar, b: Scalar) -> Option<Point> {
        let (a, b) = (GENERATOR.product(a), self.multiples.product(b));
        let terms = |column: usize| {
            let mut terms = a.column(column).chain(b.column(column));
            [terms.next(), terms.next(), terms.next()]
        };
        // The terms of a column are fetched while those before are added: few of them are in a near cache.
        let mut next = terms(GENERATOR_COLUMNS - 1);
        let mut sum: Option<Point> = None;
        for column in (0..GENERATOR_COLUMNS).rev() {
            // Before column 0 comes one beyond the last, in which there is nothing.
            let now = std::mem::replace(&mut next, terms(column.wrapping_sub(1)));
            sum = sum.map(Point::double);
            for point in now.into_iter().flatten() {
                sum = sum.map_or(Some(point.into()), |sum| sum.add(point));
            }
        }
        sum
    }
}

/// What BIP-340 calls e.
pub(crate) fn challenge(r: &[u8; 32], key: &[u8; 32], message: &[u8; 32]) -> Scalar {
    let mut engine = CHALLENGE.clone();
    for part in [r, key, message] {
        engine.input(part);
    }
    Scalar::reduced(&sha256::Hash::from_engine(engine).to_byte_array())
}

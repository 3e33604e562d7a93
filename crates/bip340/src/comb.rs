//! Multiples of a point for which a table was made beforehand: Lim and Lee's comb, with a sign for each bit.
//!
//! The bits of a scalar are laid out in rows of `COLUMNS` bits, and `TEETH` rows make a comb. A bit that is set adds the point, times
//! the power of two of its place, and a bit that is not takes it away. For each comb the table has all sums that its bits in the first
//! column may stand for, so that a column is one addition for each comb, and one doubling leads from a column to the next.

use crate::point::{Affine, Point, affine};
use crate::scalar::Scalar;

/// The table of a point.
pub(crate) struct Comb<const COMBS: usize, const TEETH: usize, const COLUMNS: usize> {
    /// For each comb, the sums in which its last tooth is added, in the order of the other teeth's bits. The others are their opposites.
    sums: Box<[Affine]>,
    /// The sum of the powers of two of all places.
    all: Scalar,
}

impl<const COMBS: usize, const TEETH: usize, const COLUMNS: usize> Comb<COMBS, TEETH, COLUMNS> {
    /// Sums of one comb.
    const SUMS: usize = 1 << (TEETH - 1);
    const BITS: usize = COMBS * TEETH * COLUMNS;

    pub(crate) fn new(point: Affine) -> Self {
        const { assert!(Self::BITS >= 256) };
        let mut power = Point::from(point);
        let mut powers = Vec::with_capacity(2 * COMBS * TEETH);
        for _ in 0..COMBS * TEETH {
            powers.extend([power, power.double()]);
            power = (0..COLUMNS).fold(power, |power, _| power.double());
        }
        let sums: Vec<Point> = affine(&powers).chunks_exact(2 * TEETH).flat_map(Self::sums).collect();
        let one = Scalar([1, 0, 0, 0]);
        let all = (0..Self::BITS).fold(Scalar([0; 4]), |all, _| all.plus(all).plus(one));
        Comb { sums: affine(&sums).into(), all }
    }

    /// The sums of a comb, from what each of its teeth stands for, followed by twice that.
    fn sums(teeth: &[Affine]) -> Vec<Point> {
        // With what the point is multiplied here does not depend on the point.
        let finite = |sum: Option<Point>| sum.expect("no factor in a table is a multiple of n");
        let (last, others) = (teeth[2 * TEETH - 2], (0..TEETH - 1).map(|tooth| teeth[2 * tooth].signed(true)));
        let mut sums = vec![others.fold(Point::from(last), |sum, tooth| finite(sum.add(tooth)))];
        for bits in 1..Self::SUMS {
            // Its lowest bit alone tells it from one that is known.
            let twice = teeth[2 * bits.trailing_zeros() as usize + 1];
            sums.push(finite(sums[bits & (bits - 1)].add(twice)));
        }
        sums
    }

    /// The product with `scalar`, as the table gives it.
    pub(crate) fn product(&self, scalar: Scalar) -> Product<'_, COMBS, TEETH, COLUMNS> {
        // Twice the bits, as a number, less all places is what they stand for. The number is less than n: places from 256 on are 0.
        Product { comb: self, bits: scalar.plus(self.all).half() }
    }
}

/// A product, column by column.
pub(crate) struct Product<'a, const COMBS: usize, const TEETH: usize, const COLUMNS: usize> {
    comb: &'a Comb<COMBS, TEETH, COLUMNS>,
    bits: Scalar,
}

impl<const COMBS: usize, const TEETH: usize, const COLUMNS: usize> Product<'_, COMBS, TEETH, COLUMNS> {
    /// What is to be added in a column; nothing beyond the last one.
    #[inline]
    pub(crate) fn column(&self, column: usize) -> impl Iterator<Item = Affine> {
        let sums = Comb::<COMBS, TEETH, COLUMNS>::SUMS;
        (0..if column < COLUMNS { COMBS } else { 0 }).map(move |comb| {
            let bit = |tooth: usize| {
                let place = (comb * TEETH + tooth) * COLUMNS + column;
                self.bits.0.get(place / 64).map_or(0, |word| (word >> (place % 64)) as usize & 1)
            };
            let others = (0..TEETH - 1).fold(0, |others, tooth| others | bit(tooth) << tooth);
            let negative = bit(TEETH - 1) == 0;
            let at = if negative { !others & (sums - 1) } else { others };
            self.comb.sums[comb * sums + at].signed(negative)
        })
    }
}

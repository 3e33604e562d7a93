//! Points of the curve y² = x³ + 7.

use crate::field::Field;

/// A point that is not infinite, as it is kept: one line of the processor's cache.
#[derive(Clone, Copy, Debug)]
#[repr(align(64))]
pub(crate) struct Affine {
    pub(crate) x: Field,
    pub(crate) y: Field,
}

impl Affine {
    /// What SEC 2 calls G.
    pub(crate) const GENERATOR: Affine = Affine {
        x: Field([0x59F2_815B_16F8_1798, 0x029B_FCDB_2DCE_28D9, 0x55A0_6295_CE87_0B07, 0x79BE_667E_F9DC_BBAC]),
        y: Field([0x9C47_D08F_FB10_D4B8, 0xFD17_B448_A685_5419, 0x5DA4_FBFC_0E11_08A8, 0x483A_DA77_26A3_C465]),
    };

    /// The point, or its opposite.
    #[inline]
    pub(crate) fn signed(&self, negative: bool) -> Affine {
        if negative { Affine { x: self.x, y: Field::ZERO - self.y } } else { *self }
    }
}

/// A point that is not infinite, as it is reckoned with: its coordinates are x / z² and y / z³.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Point {
    pub(crate) x: Field,
    pub(crate) y: Field,
    pub(crate) z: Field,
}

impl From<Affine> for Point {
    fn from(Affine { x, y }: Affine) -> Point {
        Point { x, y, z: Field::ONE }
    }
}

impl Point {
    /// Twice the point. No point of this curve has a y of 0, so that this is never infinite.
    #[inline]
    pub(crate) fn double(self) -> Point {
        let Point { x, y, z } = self;
        let (x2, y2) = (x.square(), y.square());
        // Of the tangent, times the new z.
        let slope = (x2 + x2 + x2).half();
        let t = x * y2;
        let x3 = slope.square() - t - t;
        Point { x: x3, y: slope * (t - x3) - y2.square(), z: y * z }
    }

    /// The sum; `None` if it is infinite.
    #[inline]
    pub(crate) fn add(self, other: Affine) -> Option<Point> {
        let Point { x, y, z } = self;
        let z2 = z.square();
        let h = other.x * z2 - x;
        let rise = other.y * (z2 * z) - y;
        if h.is_zero() {
            // The same x: it is the same point, or its opposite.
            return rise.is_zero().then(|| self.double());
        }
        let h2 = h.square();
        let (h3, t) = (h2 * h, x * h2);
        let x3 = rise.square() - h3 - t - t;
        Some(Point { x: x3, y: rise * (t - x3) - y * h3, z: z * h })
    }

    /// Its first coordinate is `x`.
    pub(crate) fn has_x(&self, x: Field) -> bool {
        (x * self.z.square() - self.x).is_zero()
    }

    /// Its second coordinate is odd.
    pub(crate) fn has_odd_y(&self) -> bool {
        let z = self.z.inverse();
        (self.y * z.square() * z).is_odd()
    }
}

/// The same points as they are kept, with one division for all of them.
pub(crate) fn affine(points: &[Point]) -> Vec<Affine> {
    let mut product = Field::ONE;
    let mut before = Vec::with_capacity(points.len());
    for point in points {
        before.push(product);
        product = product * point.z;
    }
    let mut inverse = product.inverse();
    let mut affine: Vec<Affine> = std::iter::zip(points, before)
        .rev()
        .map(|(point, before)| {
            let z = inverse * before;
            inverse = inverse * point.z;
            let z2 = z.square();
            Affine { x: point.x * z2, y: point.y * (z2 * z) }
        })
        .collect();
    affine.reverse();
    affine
}

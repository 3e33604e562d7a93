//! Integers modulo p = 2^256 - 2^32 - 977, over which the curve is defined.

use std::ops::{Add, Mul, Sub};

use crate::inverse::inverse;
use crate::words::{halved, less, plus, words};

/// 2^256 modulo p.
pub(crate) const FOLD: u64 = (1 << 32) + 977;
pub(crate) const P: [u64; 4] = [u64::MAX - (FOLD - 1), u64::MAX, u64::MAX, u64::MAX];

/// A number modulo p, in four words, the least first. It is less than 2^256, but not always less than p.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Field(pub(crate) [u64; 4]);

impl Field {
    pub(crate) const ZERO: Field = Field([0; 4]);
    pub(crate) const ONE: Field = Field([1, 0, 0, 0]);

    /// The number in these big-endian bytes, if it is less than p.
    pub(crate) fn from_bytes(bytes: &[u8; 32]) -> Option<Field> {
        let words = words(bytes);
        less(&words, &P).1.then_some(Field(words))
    }

    pub(crate) fn is_zero(self) -> bool {
        self.0 == [0; 4] || self.0 == P
    }

    pub(crate) fn is_odd(self) -> bool {
        self.reduced().0[0] & 1 == 1
    }

    /// The same number, less than p.
    pub(crate) fn reduced(self) -> Field {
        let (rest, below) = less(&self.0, &P);
        if below { self } else { Field(rest) }
    }

    #[inline]
    pub(crate) fn half(self) -> Field {
        Field(halved(&self.0, &P))
    }

    #[inline]
    pub(crate) fn square(self) -> Field {
        let [a0, a1, a2, a3] = self.0;
        // All products of two different words, which are needed twice...
        let (w1, c) = a0.carrying_mul(a1, 0);
        let (w2, c) = a0.carrying_mul(a2, c);
        let (w3, w4) = a0.carrying_mul(a3, c);
        let (w3, c) = a1.carrying_mul(a2, w3);
        let (w4, w5) = a1.carrying_mul_add(a3, w4, c);
        let (w5, w6) = a2.carrying_mul(a3, w5);
        let (w7, w6, w5) = (w6 >> 63, w6 << 1 | w5 >> 63, w5 << 1 | w4 >> 63);
        let (w4, w3, w2, w1) = (w4 << 1 | w3 >> 63, w3 << 1 | w2 >> 63, w2 << 1 | w1 >> 63, w1 << 1);
        // ...and the squares.
        let ((w0, s1), (s2, s3)) = (a0.carrying_mul(a0, 0), a1.carrying_mul(a1, 0));
        let ((s4, s5), (s6, s7)) = (a2.carrying_mul(a2, 0), a3.carrying_mul(a3, 0));
        let (w1, c) = w1.overflowing_add(s1);
        let (w2, c) = w2.carrying_add(s2, c);
        let (w3, c) = w3.carrying_add(s3, c);
        let (w4, c) = w4.carrying_add(s4, c);
        let (w5, c) = w5.carrying_add(s5, c);
        let (w6, c) = w6.carrying_add(s6, c);
        folded([w0, w1, w2, w3, w4, w5, w6, w7 + s7 + u64::from(c)])
    }

    /// What gives 1 when multiplied with it; 0 for 0.
    pub(crate) fn inverse(self) -> Field {
        inverse(self.reduced())
    }
}

impl Add for Field {
    type Output = Field;

    #[inline]
    fn add(self, other: Field) -> Field {
        let (sum, beyond) = plus(&self.0, &other.0);
        let (sum, beyond) = plus(&sum, &[if beyond { FOLD } else { 0 }, 0, 0, 0]);
        // If that was beyond once more, what is left is next to nothing.
        Field([if beyond { sum[0] + FOLD } else { sum[0] }, sum[1], sum[2], sum[3]])
    }
}

impl Sub for Field {
    type Output = Field;

    #[inline]
    fn sub(self, other: Field) -> Field {
        let (rest, below) = less(&self.0, &other.0);
        let (rest, below) = less(&rest, &[if below { FOLD } else { 0 }, 0, 0, 0]);
        // If that was below once more, what is left is next to 2^256.
        Field([if below { rest[0] - FOLD } else { rest[0] }, rest[1], rest[2], rest[3]])
    }
}

impl Mul for Field {
    type Output = Field;

    #[inline]
    fn mul(self, other: Field) -> Field {
        let ([a0, a1, a2, a3], [b0, b1, b2, b3]) = (self.0, other.0);
        let (w0, c) = a0.carrying_mul(b0, 0);
        let (w1, c) = a0.carrying_mul(b1, c);
        let (w2, c) = a0.carrying_mul(b2, c);
        let (w3, w4) = a0.carrying_mul(b3, c);
        let (w1, c) = a1.carrying_mul(b0, w1);
        let (w2, c) = a1.carrying_mul_add(b1, w2, c);
        let (w3, c) = a1.carrying_mul_add(b2, w3, c);
        let (w4, w5) = a1.carrying_mul_add(b3, w4, c);
        let (w2, c) = a2.carrying_mul(b0, w2);
        let (w3, c) = a2.carrying_mul_add(b1, w3, c);
        let (w4, c) = a2.carrying_mul_add(b2, w4, c);
        let (w5, w6) = a2.carrying_mul_add(b3, w5, c);
        let (w3, c) = a3.carrying_mul(b0, w3);
        let (w4, c) = a3.carrying_mul_add(b1, w4, c);
        let (w5, c) = a3.carrying_mul_add(b2, w5, c);
        let (w6, w7) = a3.carrying_mul_add(b3, w6, c);
        folded([w0, w1, w2, w3, w4, w5, w6, w7])
    }
}

/// A product modulo p: what is beyond 2^256 is brought in again.
#[inline]
fn folded(w: [u64; 8]) -> Field {
    let (w0, c) = w[4].carrying_mul(FOLD, w[0]);
    let (w1, c) = w[5].carrying_mul_add(FOLD, w[1], c);
    let (w2, c) = w[6].carrying_mul_add(FOLD, w[2], c);
    let (w3, c) = w[7].carrying_mul_add(FOLD, w[3], c);
    let (low, high) = c.carrying_mul(FOLD, 0);
    let (sum, beyond) = plus(&[w0, w1, w2, w3], &[low, high, 0, 0]);
    // If that was beyond, what is left is less than 2^67.
    let (w0, c) = sum[0].overflowing_add(if beyond { FOLD } else { 0 });
    Field([w0, sum[1] + u64::from(c), sum[2], sum[3]])
}

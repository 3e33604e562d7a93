//! Integers modulo n, the number of points of the curve: what points are multiplied with.

use crate::words::{halved, less, plus, words};

pub(crate) const N: [u64; 4] =
    [0xBFD2_5E8C_D036_4141, 0xBAAE_DCE6_AF48_A03B, 0xFFFF_FFFF_FFFF_FFFE, 0xFFFF_FFFF_FFFF_FFFF];

/// A number less than n, in four words, the least first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Scalar(pub(crate) [u64; 4]);

impl Scalar {
    /// The number in these big-endian bytes, if it is less than n.
    pub(crate) fn from_bytes(bytes: &[u8; 32]) -> Option<Scalar> {
        let words = words(bytes);
        less(&words, &N).1.then_some(Scalar(words))
    }

    /// The number in these big-endian bytes, modulo n.
    pub(crate) fn reduced(bytes: &[u8; 32]) -> Scalar {
        let words = words(bytes);
        let (rest, below) = less(&words, &N);
        Scalar(if below { words } else { rest })
    }

    /// What gives 0 when added to it.
    pub(crate) fn negative(self) -> Scalar {
        if self.0 == [0; 4] { self } else { Scalar(less(&N, &self.0).0) }
    }

    pub(crate) fn plus(self, other: Scalar) -> Scalar {
        let (sum, beyond) = plus(&self.0, &other.0);
        let (rest, below) = less(&sum, &N);
        Scalar(if below && !beyond { sum } else { rest })
    }

    pub(crate) fn half(self) -> Scalar {
        Scalar(halved(&self.0, &N))
    }
}

//! Numbers of 256 bits in four words, the least first.

/// The number in these big-endian bytes.
pub(crate) fn words(bytes: &[u8; 32]) -> [u64; 4] {
    std::array::from_fn(|i| {
        let at = 24 - 8 * i;
        u64::from_be_bytes(std::array::from_fn(|j| bytes[at + j]))
    })
}

/// The sum modulo 2^256, and whether it is beyond.
#[inline]
pub(crate) fn plus(a: &[u64; 4], b: &[u64; 4]) -> ([u64; 4], bool) {
    let (w0, carry) = a[0].overflowing_add(b[0]);
    let (w1, carry) = a[1].carrying_add(b[1], carry);
    let (w2, carry) = a[2].carrying_add(b[2], carry);
    let (w3, carry) = a[3].carrying_add(b[3], carry);
    ([w0, w1, w2, w3], carry)
}

/// The difference modulo 2^256, and whether it is below zero.
#[inline]
pub(crate) fn less(a: &[u64; 4], b: &[u64; 4]) -> ([u64; 4], bool) {
    let (w0, borrow) = a[0].overflowing_sub(b[0]);
    let (w1, borrow) = a[1].borrowing_sub(b[1], borrow);
    let (w2, borrow) = a[2].borrowing_sub(b[2], borrow);
    let (w3, borrow) = a[3].borrowing_sub(b[3], borrow);
    ([w0, w1, w2, w3], borrow)
}

/// Half of the number modulo `odd`.
#[inline]
pub(crate) fn halved(a: &[u64; 4], odd: &[u64; 4]) -> [u64; 4] {
    let add = (a[0] & 1).wrapping_neg();
    let ([w0, w1, w2, w3], carry) = plus(a, &odd.map(|word| word & add));
    [w0 >> 1 | w1 << 63, w1 >> 1 | w2 << 63, w2 >> 1 | w3 << 63, w3 >> 1 | u64::from(carry) << 63]
}

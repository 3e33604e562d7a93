//! Division modulo p, by Bernstein and Yang's division steps ("Fast constant-time gcd computation and modular inversion", 2019).
//!
//! A step halves g, after f was added to it if it was odd, after the two have changed places if that is their turn. It ends with g = 0 and
//! f = 1 or -1, the greatest common divisor. Which steps are next is seen from the lowest bits of the two alone, so that 62 of them are
//! taken on single words, written down as a matrix, and carried out on the long numbers at once. d and e are kept such that
//! d x = f and e x = g modulo p: in the end d is what is looked for, or its opposite. Why the numbers stay within their bounds is
//! worked out in libsecp256k1's `doc/safegcd_implementation.md`.

use crate::field::{FOLD, Field};

/// Steps that are taken on single words.
const STEPS: u32 = 62;
const DIGIT: i64 = (1 << STEPS) - 1;
/// A number to the base of 2^62, whose last digit carries the sign.
type Long = [i64; 5];
/// p, with a digit that is less than 0.
const P_LONG: Long = [-(FOLD as i64), 0, 0, 0, 1 << 8];
/// What gives 1 modulo 2^62 when multiplied with p.
const P_INVERSE: i64 = {
    // Each round of Newton's doubles the bits that are right.
    let (p, mut inverse, mut round) = (P_LONG[0], P_LONG[0], 0);
    while round < 5 {
        inverse = inverse.wrapping_mul(2i64.wrapping_sub(p.wrapping_mul(inverse)));
        round += 1;
    }
    inverse & DIGIT
};

/// What some steps do: 2^62 f' = u f + v g, and 2^62 g' = q f + r g.
struct Matrix {
    u: i64,
    v: i64,
    q: i64,
    r: i64,
}

/// What gives 1 modulo p when multiplied with `x`, which is not p; 0 for 0.
pub(crate) fn inverse(x: Field) -> Field {
    let (mut f, mut g, mut d, mut e) = (P_LONG, long(x.0), [0; 5], [1, 0, 0, 0, 0]);
    let mut turn = -1;
    while g != [0; 5] {
        let matrix;
        (turn, matrix) = steps(turn, f[0] as u64, g[0] as u64);
        (f, g) = matrix.divided(&f, &g);
        (d, e) = matrix.modulo(&d, &e);
    }
    let inverse = short(d);
    if f[4] < 0 { Field::ZERO - inverse } else { inverse }
}

/// The next steps, from the lowest bits of f and g. When `turn` is below 0 and g odd, the two change places.
fn steps(mut turn: i64, mut f: u64, mut g: u64) -> (i64, Matrix) {
    let (mut u, mut v, mut q, mut r) = (1u64, 0u64, 0u64, 1u64);
    let mut left = STEPS;
    loop {
        let even = (g | u64::MAX << left).trailing_zeros();
        g >>= even;
        (u, v) = (u << even, v << even);
        turn -= i64::from(even);
        left -= even;
        if left == 0 {
            let [u, v, q, r] = [u, v, q, r].map(|word| word as i64);
            return (turn, Matrix { u, v, q, r });
        }
        if turn < 0 {
            turn = -turn;
            (f, g) = (g, f.wrapping_neg());
            (u, q) = (q, u.wrapping_neg());
            (v, r) = (r, v.wrapping_neg());
        }
        // So many times f that the next six bits of g are 0, or as many as there are steps before the next turn. f (f² - 2) is
        // -1/f modulo 64, since f² is 1 modulo 8.
        let bits = left.min(6).min((turn + 1).min(6) as u32);
        let times = f.wrapping_mul(g).wrapping_mul(f.wrapping_mul(f).wrapping_sub(2)) & ((1 << bits) - 1);
        g = g.wrapping_add(f.wrapping_mul(times));
        q = q.wrapping_add(u.wrapping_mul(times));
        r = r.wrapping_add(v.wrapping_mul(times));
    }
}

impl Matrix {
    /// f' and g'.
    fn divided(&self, f: &Long, g: &Long) -> (Long, Long) {
        (combined(self.u, f, self.v, g, 0), combined(self.q, f, self.r, g, 0))
    }

    /// The same of d and e, to which p is added as often as makes them divisible. They stay between -2 p and p.
    fn modulo(&self, d: &Long, e: &Long) -> (Long, Long) {
        let one = |a: i64, b: i64| {
            // Once for each that is below 0...
            let times = (if d[4] < 0 { a } else { 0 }) + (if e[4] < 0 { b } else { 0 });
            // ...and less so often that the lowest digit becomes 0.
            let lowest = a.wrapping_mul(d[0]).wrapping_add(b.wrapping_mul(e[0]));
            let less = P_INVERSE.wrapping_mul(lowest).wrapping_add(times) & DIGIT;
            combined(a, d, b, e, times - less)
        };
        (one(self.u, self.v), one(self.q, self.r))
    }
}

/// (a x + b y + times p) / 2^62, of which nothing is left over.
fn combined(a: i64, x: &Long, b: i64, y: &Long, times: i64) -> Long {
    let wide = |a: i64, b: i64| i128::from(a) * i128::from(b);
    let mut carry = wide(a, x[0]) + wide(b, y[0]) + wide(times, P_LONG[0]);
    carry >>= STEPS;
    let mut out = [0; 5];
    for i in 1..5 {
        carry += wide(a, x[i]) + wide(b, y[i]);
        if i == 4 {
            // The digits of p between are 0.
            carry += wide(times, P_LONG[4]);
        }
        out[i - 1] = carry as i64 & DIGIT;
        carry >>= STEPS;
    }
    out[4] = carry as i64;
    out
}

fn long([a, b, c, d]: [u64; 4]) -> Long {
    [a, a >> 62 | b << 2, b >> 60 | c << 4, c >> 58 | d << 6, d >> 56].map(|word| word as i64 & DIGIT)
}

/// The number modulo p, of one between -2 p and p.
fn short(mut x: Long) -> Field {
    while x[4] < 0 {
        let mut carry = 0;
        for (i, digit) in x.iter_mut().enumerate() {
            let sum = *digit + P_LONG[i] + carry;
            (*digit, carry) = if i < 4 { (sum & DIGIT, sum >> STEPS) } else { (sum, 0) };
        }
    }
    let [a, b, c, d, e] = x.map(|digit| digit as u64);
    Field([a | b << 62, b >> 2 | c << 60, c >> 4 | d << 58, d >> 6 | e << 56])
}

//! Secrets of legs: derived from the escrow key and the leg's name, never stored by whoever made them.

use bitcoin::hashes::{Hash, HashEngine, Hmac, HmacEngine, sha256};
use units::Preimage;

use crate::ids::TradeId;
use crate::leg::{Leg, LegId};

/// `HMAC-SHA256(escrow_key, "souk/escrow/v1" || trade || leg || tranche)`. `leg` is one byte (0 price, 1 payer bond, 2 payee bond),
/// `tranche` is one byte: `16 * round + tranche`. Price legs derive from the payer's escrow key, bonds from the arbiter's.
pub fn derive(escrow_key: &[u8; 32], trade: TradeId, leg: LegId) -> Preimage {
    let mut engine = HmacEngine::<sha256::Hash>::new(escrow_key);
    engine.input(b"souk/escrow/v1");
    engine.input(&trade.0);
    engine.input(&[
        match leg.leg {
            Leg::Price => 0,
            Leg::PayerBond => 1,
            Leg::PayeeBond => 2,
        },
        (leg.round << 4) | (leg.tranche & 0x0f),
    ]);
    Preimage::new(Hmac::<sha256::Hash>::from_engine(engine).to_byte_array())
}

#[cfg(test)]
mod tests {
    use units::hex32;

    use super::*;

    /// Computed with another implementation: Python's `hmac.new(bytes([1]*32), b"souk/escrow/v1" + bytes([2]*32) + ..., sha256)`.
    #[test]
    fn secrets_match_vectors_computed_elsewhere() {
        let vectors = [
            (LegId::price(0, 0), "b9fb8ba91a9b6c49b2519967135ac834b6a12d15e83ecd1e0ac0d557138417a8"),
            (LegId::price(0, 3), "7e1d8a96bc7ec9d347de535407fad541d3a0883cfced007e7093f61479eb7cb3"),
            (LegId::payer_bond(0), "8b0864d3a6a73b6137829a4280a4a7d9a3f79c691bef29ad5a62569dbe90d150"),
            (LegId::payee_bond(0), "fdf3ef7bfde85ce6851edfd3e0004fddc61c32d5cf762effafbeb24e13f99623"),
            (LegId::price(1, 2), "354bd54eb9d3e57bfb413e4fdc0073513c16a918881082f687de8f8c9586d4b7"),
        ];
        for (leg, expected) in vectors {
            assert_eq!(hex32(derive(&[1; 32], TradeId([2; 32]), leg).expose()), expected, "{leg}");
        }
    }
}

//! Points: where secrets land on the curve (NUT-00), and the two ways to multiply.

use bitcoin::hashes::{Hash, HashEngine, sha256};
use secp256k1::ecdh::shared_secret_point;
use secp256k1::{PublicKey, SecretKey};

const DOMAIN: &[u8] = b"Secp256k1_HashToCurve_Cashu_";

/// SHA-256 of `parts` one behind the other.
pub(crate) fn sha256(parts: &[&[u8]]) -> [u8; 32] {
    let mut engine = sha256::Hash::engine();
    parts.iter().for_each(|part| engine.input(part));
    sha256::Hash::from_engine(engine).to_byte_array()
}

/// The point of `message` (NUT-00 `hash_to_curve`). Nobody knows its discrete logarithm.
pub(crate) fn point_of(message: &[u8]) -> PublicKey {
    let seed = sha256(&[DOMAIN, message]);
    let mut candidate = [2; 33];
    (0..u32::MAX)
        .find_map(|counter| {
            candidate[1..].copy_from_slice(&sha256(&[&seed, &counter.to_le_bytes()]));
            PublicKey::from_slice(&candidate).ok()
        })
        .expect("every second candidate is a point")
}

/// `secret` times `point`, in a time that does not depend on `secret`: what [`PublicKey::mul_tweak`] does not promise.
pub(crate) fn times(point: &PublicKey, secret: &SecretKey) -> PublicKey {
    let mut bytes = [4; 65];
    bytes[1..].copy_from_slice(&shared_secret_point(point, secret));
    PublicKey::from_slice(&bytes).expect("a multiple of a point is a point")
}

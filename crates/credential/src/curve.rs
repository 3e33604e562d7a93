//! Points: where secrets land on the curve (NUT-00), and the two ways to multiply.

use bitcoin::hashes::{Hash, HashEngine, Hmac, HmacEngine, sha256};
use secp256k1::ecdh::shared_secret_point;
use secp256k1::{PublicKey, SecretKey};
use zeroize::Zeroizing;

const DOMAIN: &[u8] = b"Secp256k1_HashToCurve_Cashu_";

/// SHA-256 of `parts` one behind the other.
pub(crate) fn sha256(parts: &[&[u8]]) -> [u8; 32] {
    let mut engine = sha256::Hash::engine();
    parts.iter().for_each(|part| engine.input(part));
    sha256::Hash::from_engine(engine).to_byte_array()
}

/// HMAC-SHA256 under `key` of `parts` one behind the other.
pub(crate) fn hmac(key: &[u8; 32], parts: &[&[u8]]) -> Zeroizing<[u8; 32]> {
    let mut engine = HmacEngine::<sha256::Hash>::new(key);
    parts.iter().for_each(|part| engine.input(part));
    Zeroizing::new(Hmac::from_engine(engine).to_byte_array())
}

/// A secret key from `master` and `parts`: HMAC-SHA256 of the parts and of a byte that counts, from 0, until the result is one.
pub fn derive_key(master: &[u8; 32], parts: &[&[u8]]) -> SecretKey {
    let key = |counter: u8| SecretKey::from_slice(hmac(master, &[parts, &[&[counter]]].concat()).as_slice()).ok();
    (0..u8::MAX).find_map(key).expect("nearly every 32 bytes are a key")
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

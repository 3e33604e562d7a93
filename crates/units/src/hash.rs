//! Payment hashes and the secrets that open them.

use std::fmt;
use std::str::FromStr;

use bitcoin::hashes::{Hash, sha256};
use bitcoin::hex::{DisplayHex, FromHex};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use zeroize::{Zeroize, ZeroizeOnDrop};

/// Not 32 bytes of hex.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected 64 lowercase hex characters (32 bytes)")]
pub struct Bytes32Error;

/// Reads 64 lowercase hex characters.
pub fn parse_hex32(text: &str) -> Result<[u8; 32], Bytes32Error> {
    if text.len() != 64 || text.bytes().any(|b| b.is_ascii_uppercase()) {
        return Err(Bytes32Error);
    }
    <[u8; 32]>::from_hex(text).map_err(|_| Bytes32Error)
}

/// Writes 32 bytes as 64 lowercase hex characters.
pub fn hex32(bytes: &[u8; 32]) -> String {
    bytes.to_lower_hex_string()
}

/// SHA-256 of a [`Preimage`]: names a payment (BOLT#4, BOLT#11 field `p`).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema), schemars(with = "String"))]
pub struct PaymentHash(pub [u8; 32]);

/// The 32-byte secret that settles a payment. Its `Debug` shows only its hash, it has no `Display`, and it is wiped when dropped,
/// so that it cannot reach a log by accident; [`Preimage::expose`] is the one way out.
#[derive(Clone, PartialEq, Eq, Zeroize, ZeroizeOnDrop)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema), schemars(with = "String"))]
pub struct Preimage([u8; 32]);

impl Preimage {
    /// Wraps the secret's bytes.
    pub fn new(bytes: [u8; 32]) -> Preimage {
        Preimage(bytes)
    }

    /// The hash that this secret opens.
    pub fn hash(&self) -> PaymentHash {
        PaymentHash(sha256::Hash::hash(&self.0).to_byte_array())
    }

    /// The secret itself: for the node, an encrypted message or an encrypted store, never for a log.
    pub fn expose(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Debug for Preimage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Preimage(of {})", self.hash())
    }
}

impl Serialize for Preimage {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_str(&hex32(&self.0))
    }
}

impl<'de> Deserialize<'de> for Preimage {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let text = String::deserialize(d)?;
        parse_hex32(&text).map(Preimage).map_err(serde::de::Error::custom)
    }
}

impl fmt::Display for PaymentHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex32(&self.0))
    }
}

impl fmt::Debug for PaymentHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for PaymentHash {
    type Err = Bytes32Error;
    fn from_str(text: &str) -> Result<Self, Bytes32Error> {
        parse_hex32(text).map(PaymentHash)
    }
}

impl Serialize for PaymentHash {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_str(&hex32(&self.0))
    }
}

impl<'de> Deserialize<'de> for PaymentHash {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        String::deserialize(d)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_preimage_never_shows_itself() {
        let secret = Preimage::new([7; 32]);
        let shown = format!("{secret:?}");
        assert!(!shown.contains(&hex32(secret.expose())));
        assert!(shown.contains(&secret.hash().to_string()));
    }

    #[test]
    fn hex_is_lowercase_and_exact() {
        assert_eq!(parse_hex32(&"0A".repeat(32)), Err(Bytes32Error));
        assert_eq!(parse_hex32(&"0a".repeat(31)), Err(Bytes32Error));
        assert_eq!(parse_hex32(&"0a".repeat(32)), Ok([10; 32]));
    }
}

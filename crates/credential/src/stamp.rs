//! A stamp: a credential as it is spent, good for one event only.

use std::fmt;
use std::str::FromStr;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use secp256k1::PublicKey;

use crate::curve::{hmac, sha256};
use crate::keyset::KeysetId;

/// What the text begins with.
const PREFIX: &str = "bc1";

/// Why a text is no stamp.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a credential: bc1 and 96 characters of base64url are one")]
pub struct BadStamp;

/// What a credential shows of itself when it is spent: `bc1` and base64url of keyset 8, secret 32, MAC 32.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    /// Whose it is.
    pub keyset: KeysetId,
    /// The secret that was signed blindly.
    pub secret: [u8; 32],
    /// HMAC-SHA256 over the id of the event, under a key that only the board and the holder can compute.
    pub mac: [u8; 32],
}

/// What a credential is known by once it was spent. Two stamps of one credential have the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Nullifier(pub [u8; 32]);

impl Stamp {
    /// Bytes of a stamp.
    pub const BYTES: usize = 72;

    /// Keyset, secret and MAC.
    pub fn to_bytes(&self) -> [u8; Stamp::BYTES] {
        let mut bytes = [0; Stamp::BYTES];
        bytes[..8].copy_from_slice(&self.keyset.0);
        bytes[8..40].copy_from_slice(&self.secret);
        bytes[40..].copy_from_slice(&self.mac);
        bytes
    }

    /// Reads such bytes. Any 72 bytes are a stamp; whether it is good is for the keyset to say.
    pub fn from_bytes(bytes: &[u8]) -> Result<Stamp, BadStamp> {
        let bytes: &[u8; Stamp::BYTES] = bytes.try_into().map_err(|_| BadStamp)?;
        let mut stamp = Stamp { keyset: KeysetId([0; 8]), secret: [0; 32], mac: [0; 32] };
        stamp.keyset.0.copy_from_slice(&bytes[..8]);
        stamp.secret.copy_from_slice(&bytes[8..40]);
        stamp.mac.copy_from_slice(&bytes[40..]);
        Ok(stamp)
    }

    /// What the credential is known by once it was spent.
    pub fn nullifier(&self) -> Nullifier {
        Nullifier(sha256(&[b"souk/nullifier/v1", &self.keyset.0, &self.secret]))
    }
}

impl fmt::Display for Stamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{PREFIX}{}", URL_SAFE_NO_PAD.encode(self.to_bytes()))
    }
}

impl FromStr for Stamp {
    type Err = BadStamp;

    fn from_str(text: &str) -> Result<Stamp, BadStamp> {
        let coded = text.strip_prefix(PREFIX).filter(|coded| coded.len() == 96).ok_or(BadStamp)?;
        Stamp::from_bytes(&URL_SAFE_NO_PAD.decode(coded).map_err(|_| BadStamp)?)
    }
}

/// What is hashed to the curve for a secret: its hex, as Cashu's wallets have it.
pub(crate) fn secret_text(secret: &[u8; 32]) -> String {
    units::hex32(secret)
}

/// The MAC of a credential over the id of an event.
pub(crate) fn mac(secret: &[u8; 32], point: &PublicKey, event: &[u8; 32]) -> [u8; 32] {
    let key = sha256(&[b"board-cred/spend/v1", secret_text(secret).as_bytes(), &point.serialize()]);
    *hmac(&key, &[event])
}

//! The holder's side: blanks that are signed blindly, and the credentials that come of them.

use secp256k1::{PublicKey, SECP256K1, SecretKey};

use crate::curve::{derive_key, hmac, point_of, times};
use crate::issue::BlindSignature;
use crate::keyset::{Keyset, KeysetId};
use crate::stamp::{Stamp, mac, secret_text};

/// A credential before it is signed.
#[derive(Clone)]
pub struct Blank {
    secret: [u8; 32],
    factor: SecretKey,
}

/// A credential: whoever has it can publish one event.
#[derive(Clone)]
pub struct Token {
    /// Whose it is.
    pub keyset: KeysetId,
    /// Shown when it is spent, to nobody before.
    pub secret: [u8; 32],
    /// The board's signature, never shown.
    pub point: PublicKey,
}

/// The board did not sign with the key that it published: it could know its holders apart. Nothing of the batch may be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the board signed with another key than it published")]
pub struct Forged;

impl Blank {
    /// Blank number `index` under `master`, always the same: what was paid for is found again with the seed alone.
    pub fn derive(master: &[u8; 32], keyset: KeysetId, index: u64) -> Blank {
        let (keyset, index) = (keyset.0, index.to_be_bytes());
        let part = |what: &'static [u8]| [b"souk/credential/v1", what, &keyset, &index];
        Blank { secret: *hmac(master, &part(b"secret")), factor: derive_key(master, &part(b"factor")) }
    }

    /// The blank of this secret, blinded by this factor.
    pub fn of(secret: [u8; 32], factor: SecretKey) -> Blank {
        Blank { secret, factor }
    }

    /// What the board gets to see of it: any secret could be behind it.
    pub fn blinded(&self) -> PublicKey {
        let point = point_of(secret_text(&self.secret).as_bytes());
        point.combine(&self.factor.public_key(SECP256K1)).expect("a sum of points is infinite by chance of 2^-256")
    }

    /// The credential, if `keyset` made the signature.
    pub fn unblind(&self, keyset: &Keyset, signature: &BlindSignature) -> Result<Token, Forged> {
        if !signature.is_by(&keyset.public, &self.blinded()) {
            return Err(Forged);
        }
        let blinding = times(&keyset.public, &self.factor).negate(SECP256K1);
        let point = signature.point.combine(&blinding).map_err(|_| Forged)?;
        Ok(Token { keyset: keyset.id, secret: self.secret, point })
    }
}

impl Token {
    /// What it shows to publish the event `id`, always the same for the same event.
    pub fn stamp(&self, event: &[u8; 32]) -> Stamp {
        Stamp { keyset: self.keyset, secret: self.secret, mac: mac(&self.secret, &self.point, event) }
    }
}

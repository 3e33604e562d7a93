//! The board's side: signing what it does not see, and knowing its own signature again.

use bitcoin::hex::DisplayHex;
use secp256k1::{PublicKey, SECP256K1, Scalar, SecretKey};
use serde::{Deserialize, Serialize};
use units::{Msat, Unix};

use crate::curve::{derive_key, point_of, sha256, times};
use crate::keyset::{Keyset, KeysetId, Unreadable, hex, public_key};
use crate::stamp::{Stamp, mac, secret_text};

/// The secret key of a keyset.
#[derive(Clone, Copy)]
pub struct KeysetSecret {
    secret: SecretKey,
    public: PublicKey,
}

/// A signature on a blinded point, with the proof that the published key made it (NUT-12). On the wire `["C_", "e", "s"]` in hex.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "[String; 3]", into = "[String; 3]")]
pub struct BlindSignature {
    /// Key times blinded point.
    pub point: PublicKey,
    /// Challenge of the proof.
    pub e: SecretKey,
    /// Response of the proof.
    pub s: SecretKey,
}

impl KeysetSecret {
    /// The key of an epoch: whoever has `master` finds it again by its times alone, after a restart or on another machine.
    pub fn derive(master: &[u8; 32], issue_from: Unix, issue_until: Unix, redeem_until: Unix) -> KeysetSecret {
        let times = [issue_from, issue_until, redeem_until].map(|at| at.0.to_be_bytes()).concat();
        KeysetSecret::of(derive_key(master, &[b"souk/keyset/v1", &times]))
    }

    /// The keyset of a secret key.
    pub fn of(secret: SecretKey) -> KeysetSecret {
        KeysetSecret { secret, public: secret.public_key(SECP256K1) }
    }

    /// What is published of it.
    pub fn publish(&self, price: Msat, issue_from: Unix, issue_until: Unix, redeem_until: Unix) -> Keyset {
        Keyset { id: self.id(), public: self.public, price, issue_from, issue_until, redeem_until }
    }

    /// Its name.
    pub fn id(&self) -> KeysetId {
        KeysetId::of(&self.public)
    }

    /// Signs a blinded point. The same point gives the same bytes again, so that an answer that was lost can be given once more.
    pub fn sign(&self, blinded: &PublicKey) -> BlindSignature {
        let point = times(blinded, &self.secret);
        let nonce = self.nonce(blinded, &point);
        let (r1, r2) = (nonce.public_key(SECP256K1), times(blinded, &nonce));
        let e = challenge(&[&r1, &r2, &self.public, &point]).expect("a hash is a scalar");
        let times_key = e.mul_tweak(&Scalar::from(self.secret)).expect("neither factor is zero");
        let s = times_key.add_tweak(&Scalar::from(nonce)).expect("a sum of scalars is zero by chance of 2^-256");
        BlindSignature { point, e, s }
    }

    /// NUT-12's deterministic nonce: one that was used for two points would give the key away.
    fn nonce(&self, blinded: &PublicKey, point: &PublicKey) -> SecretKey {
        let points = [&self.public, blinded, point].map(PublicKey::serialize_uncompressed).concat();
        derive_key(&self.secret.secret_bytes(), &[b"Cashu_DLEQ_R_v1", &points])
    }

    /// Whether `stamp` was made with a credential of this keyset, for the event `id`. Says nothing about whether it was used before.
    pub fn redeems(&self, stamp: &Stamp, event: &[u8; 32]) -> bool {
        let expected =
            mac(&stamp.secret, &times(&point_of(secret_text(&stamp.secret).as_bytes()), &self.secret), event);
        // Every byte is looked at, whichever is wrong.
        stamp.keyset == self.id() && expected.iter().zip(&stamp.mac).fold(0, |all, (a, b)| all | (a ^ b)) == 0
    }
}

impl BlindSignature {
    /// Whether the key `public` made this signature on `blinded` (NUT-12).
    pub fn is_by(&self, public: &PublicKey, blinded: &PublicKey) -> bool {
        let (e, s) = (Scalar::from(self.e), Scalar::from(self.s));
        let less = |from: PublicKey, what: &PublicKey| {
            let what = what.mul_tweak(SECP256K1, &e).ok()?.negate(SECP256K1);
            from.combine(&what).ok()
        };
        let r1 = less(self.s.public_key(SECP256K1), public);
        let r2 = blinded.mul_tweak(SECP256K1, &s).ok().and_then(|point| less(point, &self.point));
        let (Some(r1), Some(r2)) = (r1, r2) else { return false };
        challenge(&[&r1, &r2, public, &self.point]) == Some(self.e)
    }
}

/// NUT-12's challenge: SHA-256 over the hex of the uncompressed points.
fn challenge(points: &[&PublicKey; 4]) -> Option<SecretKey> {
    let hex = points.map(|point| point.serialize_uncompressed().to_lower_hex_string());
    SecretKey::from_slice(&sha256(&hex.each_ref().map(String::as_bytes))).ok()
}

impl From<BlindSignature> for [String; 3] {
    fn from(signature: BlindSignature) -> [String; 3] {
        let scalar = |key: SecretKey| units::hex32(&key.secret_bytes());
        [signature.point.to_string(), scalar(signature.e), scalar(signature.s)]
    }
}

impl TryFrom<[String; 3]> for BlindSignature {
    type Error = Unreadable;

    fn try_from([point, e, s]: [String; 3]) -> Result<BlindSignature, Unreadable> {
        let scalar = |text: &str| {
            let bytes = hex::<32>(text).ok_or(Unreadable("scalar"))?;
            SecretKey::from_slice(&bytes).map_err(|_| Unreadable("scalar"))
        };
        Ok(BlindSignature { point: public_key(&point)?, e: scalar(&e)?, s: scalar(&s)? })
    }
}

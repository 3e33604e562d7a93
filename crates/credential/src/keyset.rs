//! What a board publishes of a key that it signs with: NUT-02's id, a price, and until when it is good.

use std::fmt;
use std::str::FromStr;

use secp256k1::PublicKey;
use units::{Msat, Unix};

use crate::curve::sha256;

/// Name of a keyset: NUT-02, version 0, of the one key that it has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeysetId(pub [u8; 8]);

impl KeysetId {
    /// The id of a key: `00`, then seven bytes of SHA-256.
    pub fn of(public: &PublicKey) -> KeysetId {
        let mut id = [0; 8];
        id[1..].copy_from_slice(&sha256(&[&public.serialize()])[..7]);
        KeysetId(id)
    }
}

impl fmt::Display for KeysetId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl FromStr for KeysetId {
    type Err = Unreadable;

    fn from_str(text: &str) -> Result<KeysetId, Unreadable> {
        hex(text).map(KeysetId).ok_or(Unreadable("keyset id"))
    }
}

/// Something that a board or a client wrote is not what it should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0} cannot be read")]
pub struct Unreadable(
    /// What.
    pub &'static str,
);

/// A key that a board signs with, as it is published in kind 13250.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Keyset {
    /// Its name.
    pub id: KeysetId,
    /// The key.
    pub public: PublicKey,
    /// What one credential costs.
    pub price: Msat,
    /// From when on it signs.
    pub issue_from: Unix,
    /// Until when it signs.
    pub issue_until: Unix,
    /// Until when its credentials are taken.
    pub redeem_until: Unix,
}

impl Keyset {
    /// It signs at `now`.
    pub fn issues(&self, now: Unix) -> bool {
        (self.issue_from..self.issue_until).contains(&now)
    }

    /// Its credentials are taken at `now`.
    pub fn redeems(&self, now: Unix) -> bool {
        (self.issue_from..self.redeem_until).contains(&now)
    }

    /// `["keyset", id, key, price in msat, issue_from, issue_until, redeem_until]`, a tag of kind 13250.
    pub fn to_tag(&self) -> Vec<String> {
        vec![
            "keyset".into(),
            self.id.to_string(),
            self.public.to_string(),
            self.price.0.to_string(),
            self.issue_from.0.to_string(),
            self.issue_until.0.to_string(),
            self.redeem_until.0.to_string(),
        ]
    }

    /// Reads such a tag. An id that is not that of the key is refused, and so are times out of order.
    pub fn from_tag(tag: &[String]) -> Result<Keyset, Unreadable> {
        let [name, id, public, price, issue_from, issue_until, redeem_until] = tag else {
            return Err(Unreadable("keyset tag"));
        };
        let number = |text: &String| text.parse::<u64>().map_err(|_| Unreadable("number of a keyset"));
        let keyset = Keyset {
            id: id.parse()?,
            public: public_key(public)?,
            price: Msat(number(price)?),
            issue_from: Unix(number(issue_from)?),
            issue_until: Unix(number(issue_until)?),
            redeem_until: Unix(number(redeem_until)?),
        };
        let in_order = keyset.issue_from < keyset.issue_until && keyset.issue_until <= keyset.redeem_until;
        if name != "keyset" || keyset.id != KeysetId::of(&keyset.public) || !in_order {
            return Err(Unreadable("keyset tag"));
        }
        Ok(keyset)
    }
}

/// A compressed point in lower-case hex.
pub(crate) fn public_key(text: &str) -> Result<PublicKey, Unreadable> {
    hex::<33>(text).and_then(|bytes| PublicKey::from_slice(&bytes).ok()).ok_or(Unreadable("public key"))
}

/// `N` bytes in lower-case hex and nothing else.
pub(crate) fn hex<const N: usize>(text: &str) -> Option<[u8; N]> {
    wire::parse_hex(text, "").ok()
}

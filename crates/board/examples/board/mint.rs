//! Who checks credentials, with keysets that are known from the start: for this example and for tests.

use board::admission::{Credentials, Refusal, Rule, Spent};
use credential::{Keyset, KeysetSecret, Stamp};
use units::{Msat, Unix};

/// What one credential costs.
pub(crate) const PRICE: Msat = Msat(2000);

/// Keysets and their keys.
pub(crate) struct Mint(pub(crate) Vec<(KeysetSecret, Keyset)>);

impl Mint {
    /// Keysets under `master`, each signing from the first of its times to the second, and taken to the third.
    pub(crate) fn new(master: [u8; 32], epochs: &[[u64; 3]]) -> Mint {
        let epoch = |times: &[u64; 3]| {
            let [from, until, redeem] = times.map(Unix);
            let secret = KeysetSecret::derive(&master, from, until, redeem);
            (secret, secret.publish(PRICE, from, until, redeem))
        };
        Mint(epochs.iter().map(epoch).collect())
    }
}

impl Credentials for Mint {
    fn check(&self, event: &[u8; 32], credential: &str, now: Unix) -> Result<Spent, Refusal> {
        let refuse = |cause: String| Err(Refusal { rule: Rule::Credential, cause });
        let stamp = match credential.parse::<Stamp>() {
            Ok(stamp) => stamp,
            Err(why) => return refuse(why.to_string()),
        };
        let Some((secret, keyset)) = self.0.iter().find(|(_, keyset)| keyset.id == stamp.keyset) else {
            return refuse(format!("this board has no keyset {}, see its kind 13250 for those it has", stamp.keyset));
        };
        if !keyset.redeems(now) {
            return refuse(format!("credentials of keyset {} are not taken now, see kind 13250", stamp.keyset));
        }
        if !secret.redeems(&stamp, event) {
            return refuse("this credential was not made for this event".into());
        }
        Ok(Spent { stamp, class: "order".into() })
    }

    fn keyset(&self, now: Unix) -> Option<Keyset> {
        self.0.iter().map(|(_, keyset)| *keyset).find(|keyset| keyset.issues(now))
    }
}

//! What the board sees when a credential is bought and what it sees when it is spent have nothing in common.

use credential::Blank;
use credential::quote::{Answer, Order, Request};
use secp256k1::{Keypair, SECP256K1, SecretKey};

use crate::spending::{bought, epoch};

/// The pieces of a text that could give somebody away: every 8 bytes of what is written in it, in hex.
fn traces(bytes: &[u8]) -> Vec<&[u8]> {
    bytes.windows(8).collect()
}

#[test]
fn nothing_of_the_purchase_comes_back_when_it_is_spent() {
    let (secret, keyset) = epoch(1);
    let blanks: Vec<_> = (0..10).map(|index| Blank::derive(&[9; 32], keyset.id, index)).collect();
    let client = Keypair::from_seckey_slice(SECP256K1, &[3; 32]).expect("a key");
    let order =
        Order { keyset: keyset.id, client: client.public_key(), outputs: blanks.iter().map(Blank::blinded).collect() };
    let quote = order.quote();
    let signatures = order.outputs.iter().map(|output| secret.sign(output)).collect();
    let mut seen = Vec::new();
    for output in &order.outputs {
        seen.extend(output.serialize());
        seen.extend(secret.sign(output).point.serialize());
    }
    seen.extend(client.public_key().serialize());
    seen.extend(quote);
    let bought_with = serde_json::to_string(&Request::Quote(order)).expect("text")
        + &serde_json::to_string(&Answer::Issued { quote, signatures }).expect("text");
    for index in 0..10 {
        let stamp = bought(&secret, &keyset, index).stamp(&[index as u8; 32]);
        assert!(secret.redeems(&stamp, &[index as u8; 32]));
        // The keyset is the same for everybody who buys in this epoch; the rest is of this credential alone.
        let shown = &stamp.to_bytes()[8..];
        assert!(traces(shown).iter().all(|trace| !seen.windows(8).any(|window| window == *trace)));
        assert!(!bought_with.contains(&units::hex32(&stamp.secret)));
    }
}

/// For each secret there is a factor that leads to each blinded point, so a point tells nothing about the secret: here the factor
/// is found where the discrete logarithms are known to the test.
#[test]
fn every_purchase_explains_every_spending() {
    let scalar = |byte: u8| SecretKey::from_slice(&[byte; 32]).expect("a key");
    let base = |key: SecretKey| key.public_key(SECP256K1);
    // Two points y1 G and y2 G stand for two secrets, r1 and r2 for the factors that were used.
    let (y1, y2, r1, r2) = (scalar(1), scalar(2), scalar(3), scalar(4));
    let sum = |a: SecretKey, b: SecretKey| a.add_tweak(&b.into()).expect("not zero");
    let (b1, b2) = (base(sum(y1, r1)), base(sum(y2, r2)));
    let swapped_1 = sum(sum(y1, r1), y2.negate());
    let swapped_2 = sum(sum(y2, r2), y1.negate());
    assert_eq!(base(sum(y2, swapped_1)), b1, "the first purchase could be the second secret");
    assert_eq!(base(sum(y1, swapped_2)), b2, "and the second the first");
}

//! The test vectors of NUT-00 and NUT-12: the same numbers as every Cashu mint and wallet.

use credential::{Blank, BlindSignature, KeysetSecret};
use secp256k1::{PublicKey, SECP256K1, SecretKey};
use units::{Msat, Unix};

fn scalar(last: u8) -> SecretKey {
    let mut bytes = [0; 32];
    bytes[31] = last;
    SecretKey::from_slice(&bytes).expect("a small number")
}

fn point(text: &str) -> PublicKey {
    text.parse().expect("a point")
}

/// NUT-12, "Deterministic nonce".
#[test]
fn a_signature_is_that_of_every_mint() {
    let keyset = KeysetSecret::of(scalar(2));
    let blinded = point("02a9acc1e48c25eeeb9289b5031cc57da9fe72f3fe2861d264bdc074209b107ba2");
    let signature: [String; 3] = keyset.sign(&blinded).into();
    assert_eq!(
        signature,
        [
            "0244eccfc7a348274458bb38044c7f3c389b3c2086c7ec18b5812d2877ab937787",
            "2a16ffee280aff3c429045607f9b8e0bf8b35910c44c1b20b9dfaf01b263d7b3",
            "9df27731238334718d120d4f74611a7c668233f988e687ac3fb188f0a34a2dab",
        ]
    );
}

/// NUT-12, "DLEQ verification on BlindSignature".
#[test]
fn the_proof_of_another_mint_is_understood() {
    let public = scalar(1).public_key(SECP256K1);
    let blinded = point("02a9acc1e48c25eeeb9289b5031cc57da9fe72f3fe2861d264bdc074209b107ba2");
    let signature = BlindSignature::try_from(
        [
            "02a9acc1e48c25eeeb9289b5031cc57da9fe72f3fe2861d264bdc074209b107ba2",
            "9818e061ee51d5c8edc3342369a554998ff7b4381c8652d724cdf46429be73d9",
            "9818e061ee51d5c8edc3342369a554998ff7b4381c8652d724cdf46429be73da",
        ]
        .map(String::from),
    );
    assert!(signature.expect("a signature").is_by(&public, &blinded));
}

/// The id of a keyset (NUT-02, version 0) begins with its version, and a blank comes back from it as a credential.
#[test]
fn a_keyset_is_named_by_its_key() {
    let secret = KeysetSecret::of(scalar(1));
    let keyset = secret.publish(Msat(2000), Unix(10), Unix(20), Unix(30));
    assert!(keyset.id.to_string().starts_with("00") && keyset.id.to_string().len() == 16);
    let blank = Blank::of([7; 32], scalar(9));
    let token = blank.unblind(&keyset, &secret.sign(&blank.blinded())).expect("honestly signed");
    assert_eq!(token.keyset, keyset.id);
}

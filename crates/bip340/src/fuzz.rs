//! Signatures and what is almost one, for a fuzzer: the answer with a table has to be that of libsecp256k1.

use secp256k1::schnorr::Signature;
use secp256k1::{Keypair, Message, SECP256K1};

use crate::field::Field;
use crate::table::Table;

/// Reads a secret key, a message, and what is changed of the signature, of 32, 32 and 64 bytes. What is missing is 0.
pub fn answers(bytes: &[u8]) {
    let byte = |at: usize| bytes.get(at).copied().unwrap_or_default();
    let secret: [u8; 32] = std::array::from_fn(byte);
    let message: [u8; 32] = std::array::from_fn(|i| byte(32 + i));
    let Ok(keys) = Keypair::from_seckey_slice(SECP256K1, &secret) else { return };
    let (key, message) = (keys.x_only_public_key().0, Message::from_digest(message));
    let (table, good) = (Table::new(&key), SECP256K1.sign_schnorr_no_aux_rand(&message, &keys));
    let changed: [u8; 64] = std::array::from_fn(|i| good.as_ref()[i] ^ byte(64 + i));
    let other: [u8; 64] = std::array::from_fn(|i| byte(64 + i));
    for signature in [good.as_ref(), &changed, &other] {
        let theirs = Signature::from_slice(signature)
            .is_ok_and(|signature| SECP256K1.verify_schnorr(&signature, &message, &key).is_ok());
        assert_eq!(table.check(message.as_ref(), signature), theirs);
    }
}

/// Reads two numbers of four words: their product modulo p has to be the one that is found by adding and doubling, and a number times
/// its inverse 1.
pub fn products(bytes: &[u8]) {
    let number = |at: usize| {
        std::array::from_fn(|i| {
            u64::from_le_bytes(std::array::from_fn(|j| bytes.get(at + 8 * i + j).copied().unwrap_or_default()))
        })
    };
    let (a, b): ([u64; 4], [u64; 4]) = (number(0), number(32));
    let (a, b) = (Field(a), Field(b));
    let by_adding = |a: Field, b: Field| {
        (0..256).rev().fold(Field::ZERO, |sum, bit| {
            let twice = sum + sum;
            if b.0[bit / 64] >> (bit % 64) & 1 == 1 { twice + a } else { twice }
        })
    };
    let same = |a: Field, b: Field| a.reduced().0 == b.reduced().0;
    assert!(same(a * b, by_adding(a, b)));
    assert!(same(a.square(), by_adding(a, a)));
    assert!(same(a * a.inverse(), if a.is_zero() { Field::ZERO } else { Field::ONE }));
}

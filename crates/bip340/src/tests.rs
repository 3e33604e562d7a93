//! The arithmetic beside a slower one, and every answer beside libsecp256k1's.

use proptest::prelude::*;
use secp256k1::schnorr::Signature;
use secp256k1::{Keypair, Message, Parity, SECP256K1, SecretKey, XOnlyPublicKey};

use crate::comb::Comb;
use crate::field::{Field, P};
use crate::keys::{Keys, TABLE_AFTER};
use crate::point::{Affine, Point, affine};
use crate::scalar::{N, Scalar};
use crate::table::{Table, challenge};
use crate::words::{less, plus};

const ONE: [u8; 32] = {
    let mut one = [0; 32];
    one[31] = 1;
    one
};

fn bytes(words: [u64; 4]) -> [u8; 32] {
    std::array::from_fn(|i| words[3 - i / 8].to_be_bytes()[i % 8])
}

fn keypair(seed: u8) -> Keypair {
    Keypair::from_seckey_slice(SECP256K1, &[seed; 32]).unwrap()
}

fn libsecp(key: &[u8; 32], message: &[u8; 32], signature: &[u8; 64]) -> bool {
    XOnlyPublicKey::from_slice(key).is_ok_and(|key| {
        let signature = Signature::from_slice(signature).unwrap();
        SECP256K1.verify_schnorr(&signature, &Message::from_digest(*message), &key).is_ok()
    })
}

/// What the table says, if libsecp256k1 says the same.
fn check(table: &Table, key: &[u8; 32], message: &[u8; 32], signature: &[u8; 64]) -> bool {
    let answer = table.check(message, signature);
    assert_eq!(answer, libsecp(key, message, signature));
    answer
}

/// Numbers at and beside the limits, and any others.
fn numbers() -> impl Strategy<Value = [u64; 4]> {
    let edge = |limit: [u64; 4]| {
        (0u64..3, any::<bool>()).prop_map(move |(by, above)| {
            let by = [by, 0, 0, 0];
            if above { plus(&limit, &by).0 } else { less(&limit, &by).0 }
        })
    };
    let words = prop_oneof![Just(0), Just(u64::MAX), any::<u64>()];
    prop_oneof![edge([0; 4]), edge(P), edge(N), edge([0, 0, 0, 1 << 63]), prop::array::uniform4(words)]
}

/// a times b modulo `modulus`, by adding and doubling.
fn slow_product(a: [u64; 4], b: [u64; 4], modulus: &[u64; 4]) -> [u64; 4] {
    let reduce = |(number, beyond): ([u64; 4], bool)| {
        let (rest, below) = less(&number, modulus);
        if beyond || !below { rest } else { number }
    };
    let a = reduce((a, false));
    (0..256).rev().fold([0; 4], |product, bit| {
        let twice = reduce(plus(&product, &product));
        if b[bit / 64] >> (bit % 64) & 1 == 1 { reduce(plus(&twice, &a)) } else { twice }
    })
}

fn same(a: Field, b: Field) -> bool {
    a.reduced().0 == b.reduced().0
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn products_are_those_of_a_slower_way(a in numbers(), b in numbers()) {
        let product = Field(slow_product(a, b, &P));
        prop_assert!(same(Field(a) * Field(b), product), "{:x?}", (Field(a) * Field(b)).0);
        prop_assert!(same(Field(a).square(), Field(slow_product(a, a, &P))));
    }

    #[test]
    fn sums_differences_and_halves_undo_each_other(a in numbers(), b in numbers()) {
        let (a, b) = (Field(a), Field(b));
        prop_assert!(same(a + b - b, a));
        prop_assert!(same(a - b + b, a));
        prop_assert!(same(a.half() + a.half(), a));
        prop_assert!(same((a + b) * (a - b), a.square() - b.square()));
        prop_assert_eq!((a - a).is_zero(), true);
        prop_assert_eq!(a.is_zero(), a.reduced().0 == [0; 4]);
    }

    #[test]
    fn a_number_times_its_inverse_is_one(a in numbers()) {
        let a = Field(a);
        let one = if a.is_zero() { Field::ZERO } else { Field::ONE };
        prop_assert!(same(a * a.inverse(), one));
    }

    #[test]
    fn scalars_are_added_and_halved_modulo_n(a in numbers(), b in numbers()) {
        let [a, b] = [a, b].map(|number| Scalar::reduced(&bytes(number)));
        prop_assert!(less(&a.plus(b).0, &N).1);
        prop_assert_eq!(a.plus(b).plus(b.negative()), a);
        prop_assert_eq!(a.half().plus(a.half()), a);
        let sum = slow_product([2, 0, 0, 0], a.half().0, &N);
        prop_assert_eq!(sum, a.0);
    }

    #[test]
    fn multiples_are_those_of_libsecp256k1(number in numbers()) {
        let scalar = Scalar::reduced(&bytes(number));
        let comb: &Comb<2, 7, 19> = &Comb::new(Affine::GENERATOR);
        let multiple = multiple(comb, scalar, 19).map(|point| coordinates(&affine(&[point])[0]));
        let theirs = SecretKey::from_slice(&bytes(scalar.0)).ok().map(|secret| secret.public_key(SECP256K1));
        prop_assert_eq!(multiple, theirs.map(|point| point.serialize_uncompressed()[1..].to_vec()));
    }
}

fn multiple<const COMBS: usize, const TEETH: usize, const COLUMNS: usize>(
    comb: &Comb<COMBS, TEETH, COLUMNS>,
    scalar: Scalar,
    columns: usize,
) -> Option<Point> {
    let product = comb.product(scalar);
    (0..columns).rev().fold(None, |sum: Option<Point>, column| {
        let twice = sum.map(Point::double);
        let add = |sum: Option<Point>, point: Affine| sum.map_or(Some(point.into()), |sum| sum.add(point));
        product.column(column).fold(twice, add)
    })
}

fn coordinates(point: &Affine) -> Vec<u8> {
    [bytes(point.x.reduced().0), bytes(point.y.reduced().0)].concat()
}

#[test]
fn a_point_and_itself_or_its_opposite_are_added_rightly() {
    let g = Affine::GENERATOR;
    let twice = coordinates(&affine(&[Point::from(g).double()])[0]);
    let sum = Point::from(g).add(g).unwrap();
    assert_eq!(coordinates(&affine(&[sum])[0]), twice);
    assert!(Point::from(g).add(g.signed(true)).is_none());
    // The same beside a z that is not 1.
    let third = Point::from(g).double().add(g).unwrap();
    let [kept] = affine(&[third])[..] else { panic!() };
    assert!(third.add(kept.signed(true)).is_none());
    assert_eq!(coordinates(&affine(&[third.add(kept).unwrap()])[0]), coordinates(&affine(&[third.double()])[0]));
}

#[test]
fn signatures_are_good_or_not_as_libsecp256k1_says() {
    for seed in 1..=20 {
        let keys = keypair(seed);
        let (read, _) = keys.x_only_public_key();
        let (key, table) = (read.serialize(), Table::new(&read));
        for round in 0..20u8 {
            let message = [seed ^ round.wrapping_mul(11); 32];
            let mut signature = *SECP256K1.sign_schnorr_no_aux_rand(&Message::from_digest(message), &keys).as_ref();
            assert!(check(&table, &key, &message, &signature));
            assert!(!check(&table, &key, &message.map(|byte| !byte), &signature));
            signature[usize::from(seed ^ round) % 64] ^= 1 << (round % 8);
            assert!(!check(&table, &key, &message, &signature));
        }
    }
}

/// The signature of somebody who has `secret`, with a hidden point of their choice and a part that is turned around or not.
fn forge(keys: &Keypair, message: &[u8; 32], hidden: [u8; 32], hidden_turned: bool, turned: bool) -> [u8; 64] {
    let key = keys.x_only_public_key();
    let turn = |secret: SecretKey, turn: bool| if turn { secret.negate() } else { secret };
    let secret = turn(keys.secret_key(), key.1 == Parity::Odd);
    let hidden = SecretKey::from_slice(&hidden).unwrap();
    let (r, parity) = hidden.public_key(SECP256K1).x_only_public_key();
    let e = challenge(&r.serialize(), &key.0.serialize(), message);
    let product = secret.mul_tweak(&SecretKey::from_slice(&bytes(e.0)).unwrap().into()).unwrap();
    let hidden = turn(hidden, (parity == Parity::Odd) != hidden_turned);
    let s = turn(product.add_tweak(&hidden.into()).unwrap(), turned);
    [r.serialize(), s.secret_bytes()].concat().try_into().unwrap()
}

#[test]
fn what_is_almost_a_signature_is_none() {
    let keys = keypair(7);
    let (read, _) = keys.x_only_public_key();
    let (key, table, message) = (read.serialize(), Table::new(&read), [3; 32]);
    assert!(check(&table, &key, &message, &forge(&keys, &message, [9; 32], false, false)));
    // A hidden point whose y is odd; the opposite of s.
    assert!(!check(&table, &key, &message, &forge(&keys, &message, [9; 32], true, false)));
    assert!(!check(&table, &key, &message, &forge(&keys, &message, [9; 32], false, true)));
    // An infinite hidden point, whatever is said of it.
    let secret = if keys.x_only_public_key().1 == Parity::Odd { keys.secret_key().negate() } else { keys.secret_key() };
    for r in [[0; 32], ONE, key] {
        let e = SecretKey::from_slice(&bytes(challenge(&r, &key, &message).0)).unwrap();
        let s = secret.mul_tweak(&e.into()).unwrap().secret_bytes();
        assert!(!check(&table, &key, &message, &[r, s].concat().try_into().unwrap()));
    }
    // Numbers that are too large, or as large as can be.
    let good = forge(&keys, &message, [9; 32], false, false);
    let (r, s): ([u8; 32], [u8; 32]) = (good[..32].try_into().unwrap(), good[32..].try_into().unwrap());
    for number in [P, N, less(&P, &[1, 0, 0, 0]).0, less(&N, &[1, 0, 0, 0]).0, [u64::MAX; 4], [0; 4]].map(bytes) {
        assert!(!check(&table, &key, &message, &[number, s].concat().try_into().unwrap()));
        assert!(!check(&table, &key, &message, &[r, number].concat().try_into().unwrap()));
    }
}

#[test]
fn the_generators_key_signs_too() {
    // Its table has the generator's own multiples, so that the two sums meet at equal points.
    let keys = Keypair::from_seckey_slice(SECP256K1, &ONE).unwrap();
    let (read, _) = keys.x_only_public_key();
    let table = Table::new(&read);
    for round in 0..=255 {
        let message = [round; 32];
        let signature = SECP256K1.sign_schnorr_no_aux_rand(&Message::from_digest(message), &keys);
        assert!(check(&table, &read.serialize(), &message, signature.as_ref()));
    }
}

fn signed(keys: &Keypair, round: u8) -> ([u8; 32], [u8; 32], [u8; 64]) {
    let message = [round; 32];
    let signature = SECP256K1.sign_schnorr_no_aux_rand(&Message::from_digest(message), keys);
    (keys.x_only_public_key().0.serialize(), message, *signature.as_ref())
}

#[test]
fn a_key_has_a_table_after_some_good_signatures() {
    let keys = Keys::new(8);
    let (pair, mut forged) = (keypair(5), signed(&keypair(5), 0));
    forged.2[10] ^= 1;
    for _ in 0..50 {
        assert!(!keys.check(&forged.0, &forged.1, &forged.2));
    }
    assert_eq!(keys.tables(), 0, "forged ones do not count");
    for round in 0..2 * TABLE_AFTER {
        let (key, message, signature) = signed(&pair, round);
        assert_eq!(keys.tables(), usize::from(round >= TABLE_AFTER));
        assert!(keys.check(&key, &message, &signature));
        assert!(!keys.check(&forged.0, &forged.1, &forged.2));
    }
}

#[test]
fn a_key_that_is_met_often_keeps_its_place_beside_many_that_are_not() {
    let keys = Keys::new(1);
    let often = keypair(1);
    for round in 0..=255 {
        let (key, message, signature) = signed(&often, round);
        assert!(keys.check(&key, &message, &signature));
        let stranger = Keypair::from_seckey_slice(SECP256K1, &[round / 2 + 2; 32]).unwrap();
        let (key, message, signature) = signed(&stranger, round);
        assert!(keys.check(&key, &message, &signature));
    }
    assert_eq!(keys.tables(), 1);
    assert!(keys.len() <= 4, "there is no room for more");
}

#[test]
fn what_is_no_key_has_signed_nothing() {
    let keys = Keys::new(8);
    let (_, message, signature) = signed(&keypair(5), 1);
    for none in [[0; 32], bytes(P), [0xFF; 32], [5; 32]] {
        assert_eq!(keys.check(&none, &message, &signature), libsecp(&none, &message, &signature));
    }
    assert_eq!(keys.len(), usize::from(XOnlyPublicKey::from_slice(&[5; 32]).is_ok()));
}

//! The arithmetic beside a slower one, and every answer beside libsecp256k1's.

use bitcoin::hex::FromHex;
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
    let beyond = [u64::MAX - 976, u64::MAX, u64::MAX, u64::MAX];
    prop_oneof![edge([0; 4]), edge(P), edge(N), edge(beyond), edge([0, 0, 0, 1 << 63]), prop::array::uniform4(words)]
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

#[test]
fn the_last_carry_of_a_product_is_kept() {
    // p + 2^32, whose square is 2^64: what is brought in last carries out of the lowest word.
    let a = Field([u64::MAX - 976, u64::MAX, u64::MAX, u64::MAX]);
    assert_eq!([a.square(), a * a].map(|square| square.reduced().0), [[0, 1, 0, 0]; 2]);
}

#[test]
fn what_is_not_less_than_the_limit_is_no_number() {
    // No signature with r or s beyond the limit fits otherwise, as far as anybody can find one: no test of answers shows this.
    let below = |limit| bytes(less(&limit, &[1, 0, 0, 0]).0);
    let above = |limit| bytes(plus(&limit, &[1, 0, 0, 0]).0);
    assert!(Field::from_bytes(&below(P)).is_some() && Scalar::from_bytes(&below(N)).is_some());
    assert!([bytes(P), above(P), [0xFF; 32]].iter().all(|number| Field::from_bytes(number).is_none()));
    assert!([bytes(N), above(N), [0xFF; 32]].iter().all(|number| Scalar::from_bytes(number).is_none()));
    assert_eq!(Scalar::reduced(&bytes(N)).0, [0; 4]);
    assert_eq!(Scalar::reduced(&above(N)).0, [1, 0, 0, 0]);
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
        let (sum, beyond) = plus(&slow_product(a, [1, 0, 0, 0], &P), &slow_product(b, [1, 0, 0, 0], &P));
        let (rest, below) = less(&sum, &P);
        let sum = Field(if below && !beyond { sum } else { rest });
        let (a, b) = (Field(a), Field(b));
        prop_assert!(same(a + b, sum));
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

#[test]
fn sums_are_those_of_libsecp256k1() {
    let edges = [[0; 4], [1, 0, 0, 0], [2, 0, 0, 0], [1 << 19, 0, 0, 0], [1 << 20, 0, 0, 0], [0, 0, 0, 1 << 63]];
    let edges: Vec<Scalar> =
        edges.iter().map(|number| Scalar::reduced(&bytes(*number))).flat_map(|a| [a, a.negative(), a.half()]).collect();
    for seed in [bytes([1, 0, 0, 0]), bytes([2, 0, 0, 0]), [5; 32]] {
        let pair = Keypair::from_seckey_slice(SECP256K1, &seed).unwrap();
        let secret = Scalar::from_bytes(&even_secret(&pair).secret_bytes()).unwrap();
        let table = Table::new(&pair.x_only_public_key().0);
        for (a, b) in edges.iter().flat_map(|a| edges.iter().map(move |b| (*a, *b))) {
            let product = Scalar(slow_product(b.0, secret.0, &N));
            for a in [a, product, product.negative()] {
                let theirs = SecretKey::from_slice(&bytes(a.plus(product).0)).ok().map(|sum| sum.public_key(SECP256K1));
                let ours = table.sum(a, b).map(|point| coordinates(&affine(&[point])[0]));
                assert_eq!(ours, theirs.map(|point| point.serialize_uncompressed()[1..].to_vec()));
            }
        }
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

/// The secret of a key's point with an even y: what BIP-340 signs with.
fn even_secret(keys: &Keypair) -> SecretKey {
    let odd = keys.x_only_public_key().1 == Parity::Odd;
    if odd { keys.secret_key().negate() } else { keys.secret_key() }
}

/// The signature of somebody who has `secret`, with a hidden point of their choice and a part that is turned around or not.
fn forge(keys: &Keypair, message: &[u8; 32], hidden: [u8; 32], hidden_turned: bool, turned: bool) -> [u8; 64] {
    let (key, _) = keys.x_only_public_key();
    let turn = |secret: SecretKey, turn: bool| if turn { secret.negate() } else { secret };
    let secret = even_secret(keys);
    let hidden = SecretKey::from_slice(&hidden).unwrap();
    let (r, parity) = hidden.public_key(SECP256K1).x_only_public_key();
    let e = challenge(&r.serialize(), &key.serialize(), message);
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
    let secret = even_secret(&keys);
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
    // Its table has multiples of the generator, like the generator's own.
    let keys = Keypair::from_seckey_slice(SECP256K1, &ONE).unwrap();
    let (read, _) = keys.x_only_public_key();
    let table = Table::new(&read);
    for round in 0..=255 {
        let message = [round; 32];
        let signature = SECP256K1.sign_schnorr_no_aux_rand(&Message::from_digest(message), &keys);
        assert!(check(&table, &read.serialize(), &message, signature.as_ref()));
    }
}

#[test]
fn a_sum_may_be_infinite_on_its_way_or_meet_its_last_term() {
    // The hidden point is what the key's last comb may add in the last column, or twice that. For one message in 128 it is what it
    // does add: then the sum before is infinite, or the same point.
    let keys = keypair(5);
    let (read, _) = keys.x_only_public_key();
    let (key, table, secret) = (read.serialize(), Table::new(&read), even_secret(&keys));
    for round in 0..2_000u16 {
        let mut message = [0; 32];
        message[..2].copy_from_slice(&round.to_be_bytes());
        let factor = (0..7).fold(Scalar([0; 4]), |sum, tooth| {
            let (place, mut power) = ((7 + tooth) * 19, [0; 4]);
            power[place / 64] = 1 << (place % 64);
            let power = Scalar(power);
            sum.plus(if round >> tooth & 1 == 1 { power } else { power.negative() })
        });
        for factor in [factor, factor.plus(factor)] {
            let hidden = secret.mul_tweak(&SecretKey::from_slice(&bytes(factor.0)).unwrap().into()).unwrap();
            assert!(check(&table, &key, &message, &forge(&keys, &message, hidden.secret_bytes(), false, false)));
        }
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
fn keys_that_look_alike_are_not_all_in_one_set() {
    let keys = Keys::new(64);
    let alike = (1..=u16::MAX).filter_map(|n| {
        let secret = [&[1; 30][..], &n.to_be_bytes()].concat();
        let pair = Keypair::from_seckey_slice(SECP256K1, &secret).unwrap();
        pair.x_only_public_key().0.serialize()[30..].iter().all(|byte| byte % 16 == 0).then_some(pair)
    });
    for pair in alike.take(20) {
        let (key, message, signature) = signed(&pair, 1);
        assert!(keys.check(&key, &message, &signature));
    }
    assert!(keys.len() > 4, "a set has four");
}

#[test]
fn what_is_no_key_has_signed_nothing() {
    let keys = Keys::new(8);
    let (_, message, signature) = signed(&keypair(5), 1);
    for none in [[0; 32], bytes(P), [0xFF; 32], [5; 32]] {
        assert_eq!(keys.check(&none, &message, &signature), libsecp(&none, &message, &signature));
    }
    assert!(keys.is_empty());
}

#[test]
fn who_can_sign_for_nobody_drives_nobody_out() {
    let keys = Keys::new(1);
    let signers = [1, 2, 3, 4].map(keypair);
    for (round, pair) in (0..TABLE_AFTER).flat_map(|round| signers.iter().map(move |pair| (round, pair))) {
        let (key, message, signature) = signed(pair, round);
        assert!(keys.check(&key, &message, &signature));
    }
    assert_eq!(keys.tables(), 4);
    for stranger in 5..=100 {
        let (key, message, mut signature) = signed(&keypair(stranger), 1);
        signature[40] ^= 1;
        assert!(!keys.check(&key, &message, &signature));
        assert!(!keys.check(&key, &message, &signature));
    }
    assert_eq!((keys.len(), keys.tables()), (4, 4));
}

#[test]
fn threads_that_meet_one_key_at_once_give_it_one_place() {
    let keys = Keys::new(1);
    let letters: Vec<_> = (0..20).map(|round| signed(&keypair(5), round)).collect();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| letters.iter().for_each(|(key, message, good)| assert!(keys.check(key, message, good))));
        }
    });
    assert_eq!((keys.len(), keys.tables()), (1, 1));
}

/// `test-vectors.csv` of BIP-340, 0 to 14: public key, message, signature, result. 15 to 18 have messages that are not of 32 bytes, as
/// every id is.
const VECTORS: [(&str, &str, &str, bool); 15] = [
    (
        "f9308a019258c31049344f85f89d5229b531c845836f99b08601f113bce036f9",
        "0000000000000000000000000000000000000000000000000000000000000000",
        "e907831f80848d1069a5371b402410364bdf1c5f8307b0084c55f1ce2dca821525f66a4a85ea8b71e482a74f382d2ce5ebeee8fdb2172f477df4900d310536c0",
        true,
    ),
    (
        "dff1d77f2a671c5f36183726db2341be58feae1da2deced843240f7b502ba659",
        "243f6a8885a308d313198a2e03707344a4093822299f31d0082efa98ec4e6c89",
        "6896bd60eeae296db48a229ff71dfe071bde413e6d43f917dc8dcf8c78de33418906d11ac976abccb20b091292bff4ea897efcb639ea871cfa95f6de339e4b0a",
        true,
    ),
    (
        "dd308afec5777e13121fa72b9cc1b7cc0139715309b086c960e18fd969774eb8",
        "7e2d58d8b3bcdf1abadec7829054f90dda9805aab56c77333024b9d0a508b75c",
        "5831aaeed7b44bb74e5eab94ba9d4294c49bcf2a60728d8b4c200f50dd313c1bab745879a5ad954a72c45a91c3a51d3c7adea98d82f8481e0e1e03674a6f3fb7",
        true,
    ),
    (
        "25d1dff95105f5253c4022f628a996ad3a0d95fbf21d468a1b33f8c160d8f517",
        "ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
        "7eb0509757e246f19449885651611cb965ecc1a187dd51b64fda1edc9637d5ec97582b9cb13db3933705b32ba982af5af25fd78881ebb32771fc5922efc66ea3",
        true,
    ),
    (
        "d69c3509bb99e412e68b0fe8544e72837dfa30746d8be2aa65975f29d22dc7b9",
        "4df3c3f68fcc83b27e9d42c90431a72499f17875c81a599b566c9889b9696703",
        "00000000000000000000003b78ce563f89a0ed9414f5aa28ad0d96d6795f9c6376afb1548af603b3eb45c9f8207dee1060cb71c04e80f593060b07d28308d7f4",
        true,
    ),
    (
        "eefdea4cdb677750a420fee807eacf21eb9898ae79b9768766e4faa04a2d4a34",
        "243f6a8885a308d313198a2e03707344a4093822299f31d0082efa98ec4e6c89",
        "6cff5c3ba86c69ea4b7376f31a9bcb4f74c1976089b2d9963da2e5543e17776969e89b4c5564d00349106b8497785dd7d1d713a8ae82b32fa79d5f7fc407d39b",
        false,
    ),
    (
        "dff1d77f2a671c5f36183726db2341be58feae1da2deced843240f7b502ba659",
        "243f6a8885a308d313198a2e03707344a4093822299f31d0082efa98ec4e6c89",
        "fff97bd5755eeea420453a14355235d382f6472f8568a18b2f057a14602975563cc27944640ac607cd107ae10923d9ef7a73c643e166be5ebeafa34b1ac553e2",
        false,
    ),
    (
        "dff1d77f2a671c5f36183726db2341be58feae1da2deced843240f7b502ba659",
        "243f6a8885a308d313198a2e03707344a4093822299f31d0082efa98ec4e6c89",
        "1fa62e331edbc21c394792d2ab1100a7b432b013df3f6ff4f99fcb33e0e1515f28890b3edb6e7189b630448b515ce4f8622a954cfe545735aaea5134fccdb2bd",
        false,
    ),
    (
        "dff1d77f2a671c5f36183726db2341be58feae1da2deced843240f7b502ba659",
        "243f6a8885a308d313198a2e03707344a4093822299f31d0082efa98ec4e6c89",
        "6cff5c3ba86c69ea4b7376f31a9bcb4f74c1976089b2d9963da2e5543e177769961764b3aa9b2ffcb6ef947b6887a226e8d7c93e00c5ed0c1834ff0d0c2e6da6",
        false,
    ),
    (
        "dff1d77f2a671c5f36183726db2341be58feae1da2deced843240f7b502ba659",
        "243f6a8885a308d313198a2e03707344a4093822299f31d0082efa98ec4e6c89",
        "0000000000000000000000000000000000000000000000000000000000000000123dda8328af9c23a94c1feecfd123ba4fb73476f0d594dcb65c6425bd186051",
        false,
    ),
    (
        "dff1d77f2a671c5f36183726db2341be58feae1da2deced843240f7b502ba659",
        "243f6a8885a308d313198a2e03707344a4093822299f31d0082efa98ec4e6c89",
        "00000000000000000000000000000000000000000000000000000000000000017615fbaf5ae28864013c099742deadb4dba87f11ac6754f93780d5a1837cf197",
        false,
    ),
    (
        "dff1d77f2a671c5f36183726db2341be58feae1da2deced843240f7b502ba659",
        "243f6a8885a308d313198a2e03707344a4093822299f31d0082efa98ec4e6c89",
        "4a298dacae57395a15d0795ddbfd1dcb564da82b0f269bc70a74f8220429ba1d69e89b4c5564d00349106b8497785dd7d1d713a8ae82b32fa79d5f7fc407d39b",
        false,
    ),
    (
        "dff1d77f2a671c5f36183726db2341be58feae1da2deced843240f7b502ba659",
        "243f6a8885a308d313198a2e03707344a4093822299f31d0082efa98ec4e6c89",
        "fffffffffffffffffffffffffffffffffffffffffffffffffffffffefffffc2f69e89b4c5564d00349106b8497785dd7d1d713a8ae82b32fa79d5f7fc407d39b",
        false,
    ),
    (
        "dff1d77f2a671c5f36183726db2341be58feae1da2deced843240f7b502ba659",
        "243f6a8885a308d313198a2e03707344a4093822299f31d0082efa98ec4e6c89",
        "6cff5c3ba86c69ea4b7376f31a9bcb4f74c1976089b2d9963da2e5543e177769fffffffffffffffffffffffffffffffebaaedce6af48a03bbfd25e8cd0364141",
        false,
    ),
    (
        "fffffffffffffffffffffffffffffffffffffffffffffffffffffffefffffc30",
        "243f6a8885a308d313198a2e03707344a4093822299f31d0082efa98ec4e6c89",
        "6cff5c3ba86c69ea4b7376f31a9bcb4f74c1976089b2d9963da2e5543e17776969e89b4c5564d00349106b8497785dd7d1d713a8ae82b32fa79d5f7fc407d39b",
        false,
    ),
];

#[test]
fn the_vectors_of_bip_340_pass() {
    for (i, (key, message, signature, good)) in VECTORS.iter().enumerate() {
        let (key, message) = (<[u8; 32]>::from_hex(key).unwrap(), <[u8; 32]>::from_hex(message).unwrap());
        let signature = <[u8; 64]>::from_hex(signature).unwrap();
        let table = XOnlyPublicKey::from_slice(&key).ok().map(|key| Table::new(&key));
        assert_eq!(table.is_none(), i == 5 || i == 14, "{i}");
        assert_eq!(table.is_some_and(|table| table.check(&message, &signature)), *good, "{i}");
        assert_eq!(Keys::new(1).check(&key, &message, &signature), *good, "{i}");
    }
}

//! Checks of Schnorr signatures beside libsecp256k1 and k256: processor time of each, for one key and for a thousand in turn.
//! `cargo run --release -p bip340-bench`, in `bench`.

use std::hint::black_box;
use std::path::Path;

use anyhow::{Result, ensure};
use bip340::{Keys, TABLE_AFTER};
use k256::schnorr::{Signature as TheirSignature, VerifyingKey};
use machine::Machine;
use rustix::time::{ClockId, clock_gettime};
use secp256k1::schnorr::Signature;
use secp256k1::{Keypair, Message, SECP256K1, XOnlyPublicKey};

/// Signatures in a round, and rounds of which the best counts: what else the machine does only adds.
const CHECKS: usize = 2_000;
const ROUNDS: usize = 15;

struct Signed {
    key: [u8; 32],
    message: [u8; 32],
    signature: [u8; 64],
}

fn main() -> Result<()> {
    let machine = Machine::look(Path::new("."))?;
    println!("{}, {} cores, Linux {}; load {}\n", machine.cpu, machine.cores, machine.kernel, machine.load);
    println!("| check of a signature, us | one key | 1,000 keys in turn |\n|---|---:|---:|");
    let (one, many) = (signed(1)?, signed(1_000)?);
    let row = |what: &str, check: &dyn Fn(&Signed) -> bool| {
        println!("| {what} | {:.1} | {:.1} |", best(&one, check), best(&many, check));
    };
    row("libsecp256k1", &libsecp);
    row("k256 0.14", &k256);
    let keys = Keys::new(4_096);
    let again = |keys: &Keys| one.iter().chain(&many).cycle().take(3 * CHECKS).for_each(|s| use_up(ours(keys, s)));
    while keys.tables() < keys.len() || keys.is_empty() {
        again(&keys);
    }
    ensure!(many.iter().all(|signed| ours(&keys, signed)), "a signature was not recognized");
    row("with a table of its key", &|signed| ours(&keys, signed));
    row("of a key that was never met", &|signed| ours(&Keys::new(1), signed));

    let few = &many[..1];
    let until = |good: u8| {
        best(few, &|signed| {
            (0..good)
                .fold((Keys::new(1), true), |(keys, all), _| {
                    let good = ours(&keys, signed);
                    (keys, all && good)
                })
                .1
        })
    };
    let table = until(TABLE_AFTER) - until(TABLE_AFTER - 1) - best(few, &libsecp);
    println!("\nto make a table, once for a key: {table:.0} us");
    Ok(())
}

fn signed(keys: usize) -> Result<Vec<Signed>> {
    let sign = |n: usize| {
        let mut secret = [1; 32];
        secret[..8].copy_from_slice(&((n % keys) as u64 + 1).to_be_bytes());
        let (keys, mut message) = (Keypair::from_seckey_slice(SECP256K1, &secret)?, [0; 32]);
        message[..8].copy_from_slice(&(n as u64).to_be_bytes());
        let signature = *SECP256K1.sign_schnorr_no_aux_rand(&Message::from_digest(message), &keys).as_ref();
        Ok(Signed { key: keys.x_only_public_key().0.serialize(), message, signature })
    };
    (0..CHECKS).map(sign).collect()
}

fn ours(keys: &Keys, Signed { key, message, signature }: &Signed) -> bool {
    keys.check(key, message, signature)
}

fn libsecp(Signed { key, message, signature }: &Signed) -> bool {
    let (Ok(key), Ok(signature)) = (XOnlyPublicKey::from_slice(key), Signature::from_slice(signature)) else {
        return false;
    };
    SECP256K1.verify_schnorr(&signature, &Message::from_digest(*message), &key).is_ok()
}

fn k256(Signed { key, message, signature }: &Signed) -> bool {
    let (Ok(key), Ok(signature)) = (VerifyingKey::from_slice(key), TheirSignature::try_from(&signature[..])) else {
        return false;
    };
    key.verify_raw(message, &signature).is_ok()
}

/// Processor time of one check, in microseconds; all have to be good.
fn best(signed: &[Signed], check: &dyn Fn(&Signed) -> bool) -> f64 {
    let round = || {
        let before = now();
        let good = signed.iter().all(check);
        assert!(good, "a good signature was refused");
        (now() - before) / signed.len() as f64
    };
    (0..ROUNDS).map(|_| round()).fold(f64::INFINITY, f64::min)
}

fn use_up<T>(value: T) {
    black_box(value);
}

/// Processor time of this thread, in microseconds.
fn now() -> f64 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    time.tv_sec as f64 * 1e6 + time.tv_nsec as f64 / 1e3
}

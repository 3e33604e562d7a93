//! Credentials beside the tokens of a Cashu mint: first whether each side understands the other's numbers, then the processor time of each
//! step. `cargo run --release`, in `bench/credential`.

use std::hint::black_box;
use std::path::Path;

use anyhow::{Result, ensure};
use cashu::dhke;
use cashu::nuts::{BlindSignature as Theirs, Id};
use cashu::{Amount, PublicKey as TheirPoint, SecretKey as TheirKey};
use credential::{Blank, BlindSignature, Keyset, KeysetSecret, Stamp, Token};
use machine::Machine;
use rustix::time::{ClockId, clock_gettime};
use secp256k1::{Message, SECP256K1, SecretKey};
use units::{Msat, Unix};

/// Steps in a round, and rounds of which the best counts: what else the machine does only adds.
const STEPS: u32 = 400;
const ROUNDS: u32 = 15;

fn main() -> Result<()> {
    let machine = Machine::look(Path::new("."))?;
    let key = SecretKey::from_slice(&[7; 32])?;
    let (ours, theirs) = (KeysetSecret::of(key), TheirKey::from_slice(&key.secret_bytes())?);
    let keyset = ours.publish(Msat(2000), Unix(0), Unix(1), Unix(2));
    let pairs: Vec<Pair> = (0..STEPS).map(|n| Pair::make(n, &ours, &theirs, &keyset)).collect::<Result<_>>()?;
    println!("{}, {} cores, Linux {}; load {}", machine.cpu, machine.cores, machine.kernel, machine.load);
    println!("{STEPS} credentials signed by either side are the same and are understood by the other\n");
    println!("| step | ours, us | cashu 0.18.3, us | better |\n|---|---:|---:|---:|");

    let each = |step: &dyn Fn(&Pair)| best(|| pairs.iter().for_each(step));
    row(
        "blind",
        each(&|pair| use_up(pair.blank.blinded())),
        each(&|pair| use_up(dhke::blind_message(pair.text.as_bytes(), Some(pair.factor.clone())))),
    );
    row(
        "sign, with proof",
        each(&|pair| use_up(ours.sign(&pair.signature.blinded))),
        each(&|pair| use_up(sign(&theirs, &pair.signature.theirs))),
    );
    row(
        "unblind, and check the proof",
        each(&|pair| use_up(pair.blank.unblind(&keyset, &pair.signature.ours).is_ok())),
        each(&|pair| {
            let mint = theirs.public_key();
            let good = pair.signature.by_them.verify_dleq(mint, pair.signature.theirs).is_ok();
            use_up((good, dhke::unblind_message(&pair.signature.by_them.c, &pair.factor, &mint).is_ok()));
        }),
    );
    let event = [5; 32];
    row(
        "take it: is it one of ours",
        each(&|pair| use_up(ours.redeems(&pair.stamp, &event))),
        each(&|pair| {
            let point = TheirPoint::from_slice(&pair.token.point.serialize()).expect("a point");
            use_up(dhke::verify_message(&theirs, point, pair.text.as_bytes()).is_ok());
        }),
    );
    let (message, author) = (Message::from_digest(event), key.keypair(SECP256K1));
    let (signature, author) = (author.sign_schnorr(message), author.x_only_public_key().0);
    let check = best(|| (0..STEPS).for_each(|_| use_up(SECP256K1.verify_schnorr(&signature, &message, &author))));
    println!("\nfor comparison, the signature of one event: {check:.1} us");
    Ok(())
}

/// One credential on both sides.
struct Pair {
    blank: Blank,
    text: String,
    factor: TheirKey,
    signature: Signed,
    token: Token,
    stamp: Stamp,
}

struct Signed {
    blinded: secp256k1::PublicKey,
    theirs: TheirPoint,
    ours: BlindSignature,
    by_them: Theirs,
}

impl Pair {
    /// Fails where the two sides differ.
    fn make(n: u32, ours: &KeysetSecret, theirs: &TheirKey, keyset: &Keyset) -> Result<Pair> {
        let mut secret = [n as u8; 32];
        secret[..4].copy_from_slice(&n.to_be_bytes());
        let mut factor = [9; 32];
        factor[4..8].copy_from_slice(&n.to_be_bytes());
        let blank = Blank::of(secret, SecretKey::from_slice(&factor)?);
        let (text, factor) = (units::hex32(&secret), TheirKey::from_slice(&factor)?);
        let (blinded, _) = dhke::blind_message(text.as_bytes(), Some(factor.clone()))?;
        ensure!(blank.blinded().serialize() == blinded.to_bytes(), "blinded points differ");
        let (by_us, by_them) = (ours.sign(&blank.blinded()), sign(theirs, &blinded)?);
        let [point, e, s]: [String; 3] = by_us.into();
        let proof = by_them.dleq.clone().expect("a signature with a proof");
        ensure!(point == by_them.c.to_hex(), "signatures differ");
        ensure!(e == proof.e.to_secret_hex() && s == proof.s.to_secret_hex(), "proofs differ");
        let token = blank.unblind(keyset, &by_us)?;
        let unblinded = dhke::unblind_message(&by_them.c, &factor, &theirs.public_key())?;
        ensure!(token.point.serialize() == unblinded.to_bytes(), "credentials differ");
        dhke::verify_message(theirs, unblinded, text.as_bytes())?;
        let stamp = token.stamp(&[5; 32]);
        ensure!(ours.redeems(&stamp, &[5; 32]), "our own stamp is not taken");
        let signature = Signed { blinded: blank.blinded(), theirs: blinded, ours: by_us, by_them };
        Ok(Pair { blank, text, factor, signature, token, stamp })
    }
}

/// What a mint does for one blinded message.
fn sign(key: &TheirKey, blinded: &TheirPoint) -> Result<Theirs> {
    let signed = dhke::sign_message(key, blinded)?;
    Ok(Theirs::new(Amount::from(1u64), signed, Id::from_bytes(&[0, 1, 2, 3, 4, 5, 6, 7])?, blinded, key)?)
}

/// The compiler may not leave out what leads to this.
fn use_up<T>(value: T) {
    black_box(value);
}

/// Microseconds of processor time for a step, in the best round.
fn best(round: impl Fn()) -> f64 {
    let rounds = (0..ROUNDS).map(|_| {
        let before = now();
        round();
        (now() - before) / f64::from(STEPS)
    });
    rounds.fold(f64::MAX, f64::min)
}

fn now() -> f64 {
    let at = clock_gettime(ClockId::ThreadCPUTime);
    at.tv_sec as f64 * 1e6 + at.tv_nsec as f64 / 1e3
}

fn row(step: &str, ours: f64, theirs: f64) {
    println!("| {step} | {ours:.1} | {theirs:.1} | {:.1}x |", theirs / ours);
}

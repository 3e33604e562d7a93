//! Prints signed events for two relays that are to be brought into agreement: `cargo xtask peers strfry`. The argument is the time of
//! day, in seconds. A line for each: which side has it before (`board`, `other` or `both`), whether both serve it afterwards, and it.
#![allow(clippy::print_stdout, clippy::unwrap_used, reason = "an example")]

use secp256k1::{Keypair, SECP256K1};
use units::{Unix, hex32};
use wire::Unsigned;

/// Notes: of 41, both sides have 25, the board alone 9, the other alone 7.
const NOTES: u64 = 4_100;
/// Of each kind of disagreement: who knows of a newer version or a deletion.
const EACH: u64 = 10;

const NOTE: u16 = 1;
const DELETION: u16 = 5;
const LISTING: u16 = 30_402;

fn main() {
    let now: u64 = std::env::args().nth(1).unwrap().parse().unwrap();
    notes(now - 50_000);
    for i in 0..EACH {
        for side in ["board", "other"] {
            let name = format!("{side}-{i}");
            // The other side misses the newer version.
            let versions = format!("newer-{name}");
            listing("both", false, now - 600, &versions);
            listing(side, true, now - 500, &versions);
            // Or it has only the older one, and this one only the newer.
            let opposite = if side == "board" { "other" } else { "board" };
            let apart = format!("apart-{name}");
            listing(opposite, false, now - 600, &apart);
            listing(side, true, now - 500, &apart);
            // Or it does not know of a deletion, by id or by address.
            let id = print("both", false, NOTE, now - 600, vec![], &name);
            print(side, true, DELETION, now - 500, vec![tag(&["e", &id])], "");
            let deleted = format!("deleted-{name}");
            let author = hex32(&wire::event::pubkey_of(&key()));
            listing("both", false, now - 600, &deleted);
            let address = format!("{LISTING}:{author}:{deleted}");
            print(side, true, DELETION, now - 500, vec![tag(&["a", &address])], "");
        }
    }
}

/// Three to the second, so that the sides have to tell events of the same second apart.
fn notes(from: u64) {
    for i in 0..NOTES {
        let side = match i % 41 {
            ..25 => "both",
            25..34 => "board",
            _ => "other",
        };
        print(side, true, NOTE, from + i / 3, vec![], &format!("note {i} \"\\ä\" \n😀"));
    }
}

fn listing(side: &str, stays: bool, at: u64, d: &str) {
    print(side, stays, LISTING, at, vec![tag(&["d", d]), tag(&["title", "Wool socks"])], "warm");
}

/// Gives its id.
fn print(side: &str, stays: bool, kind: u16, at: u64, tags: Vec<wire::Tag>, content: &str) -> String {
    let unsigned = Unsigned { pubkey: [0; 32], created_at: Unix(at), kind, tags, content: content.to_owned() };
    let event = unsigned.sign(&key(), &[0; 32]);
    println!("{{\"side\":\"{side}\",\"stays\":{stays},\"event\":{}}}", event.to_json());
    hex32(&event.id)
}

fn key() -> Keypair {
    Keypair::from_seckey_slice(SECP256K1, &[7; 32]).unwrap()
}

fn tag(elements: &[&str]) -> wire::Tag {
    elements.iter().map(|element| (*element).to_owned()).collect()
}

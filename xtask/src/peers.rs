//! Other people's nodes, clients and relays as test peers: built from the registries that the machine has, or given as a program; the
//! rest is skipped by name.

mod board;
mod lnd;
mod nostr_tools;
mod relay_tester;
mod running;
mod rust_nostr;
mod strfry;

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Result, bail};

/// Peers that can be had here, or whose program is given.
const PEERS: [&str; 5] = ["lnd", "nostr-tools", "rust-nostr", "strfry", "relay-tester"];
/// Those that no registry has and that nobody gives.
const NOWHERE: [&str; 3] = ["bitcoind", "cln", "eclair"];

/// Builds what can be built and runs the stories with it. Fails when one fails; a peer that is missing is named.
pub(crate) fn run(root: &Path, only: Option<&str>, program: Option<PathBuf>) -> Result<()> {
    let chosen: Vec<&str> = match only {
        None if program.is_some() => bail!("--program is the program of one peer: name it"),
        None => PEERS.to_vec(),
        Some(peer) if PEERS.contains(&peer) => vec![peer],
        Some(other) => bail!("{other:?} is no peer: {}", PEERS.join(", ")),
    };
    let mut skipped = Vec::new();
    for peer in chosen {
        let given = || program.clone().or_else(|| from_environment(peer));
        let why = match peer {
            "lnd" => lnd::run(root)?,
            "nostr-tools" => nostr_tools::run(root)?,
            "rust-nostr" => rust_nostr::run(root)?,
            "strfry" => strfry::run(root, given())?,
            _ => relay_tester::run(root, given())?,
        };
        skipped.extend(why.map(|why| format!("{peer}: {why}")));
    }
    if only.is_none() {
        skipped.extend(NOWHERE.map(|name| format!("{name}: no registry has it")));
    }
    for peer in skipped {
        println!("skipped: {peer}");
    }
    Ok(())
}

/// `SOUK_STRFRY`, `SOUK_RELAY_TESTER`.
fn from_environment(peer: &str) -> Option<PathBuf> {
    let name = format!("SOUK_{}", peer.to_uppercase().replace('-', "_"));
    std::env::var_os(name).map(PathBuf::from)
}

/// Why a peer is skipped whose program is not given.
fn not_given(peer: &str) -> String {
    let name = peer.to_uppercase().replace('-', "_");
    format!("no registry has it; give its program with --program or SOUK_{name}")
}

fn cargo() -> Command {
    Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
}

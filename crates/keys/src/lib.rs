//! The one seed of a Souk node, the documented path of every key below it, and its encrypted file.
//!
//! | key | derivation | why this one |
//! |---|---|---|
//! | LDK seed | private key of `m/535'` | the child that LDK's key-management guide suggests |
//! | on-chain wallet | BIP-86: `m/86'/coin'/0'`, coin 0 on mainnet and 1 elsewhere | any taproot wallet can restore it |
//! | Nostr | NIP-06: `m/44'/1237'/38383'/0/i` | account 38383 (the order kind) keeps trade keys apart from a personal key |
//! | vault | NIP-06: `m/44'/1237'/38384'/0/0` | our own trade log, sealed for ourselves on boards; unlinkable to trade keys |
//! | board | NIP-06: `m/44'/1237'/38385'/0/0` | what our own board signs: `self` of its information document |
//! | escrow | HKDF-SHA256 of the seed, info `souk/escrow/v1` | secrets of trades |
//! | data | HKDF-SHA256 of the seed, info `souk/data/v1` | encryption of files and backups |
//! | keysets | HKDF-SHA256 of the seed, info `souk/keysets/v1` | what our own board signs credentials with |
//! | credentials | HKDF-SHA256 of the seed, info `souk/credentials/v1` | the credentials that we buy |
//!
//! The 64-byte BIP-39 seed is what HKDF takes as key material, without a salt.

mod file;
mod seed;

pub use file::{FileError, SeedFile, Unlock};
pub use seed::{BOARD_ACCOUNT, NOSTR_ACCOUNT, Seed, SeedError, VAULT_ACCOUNT};

//! Blinded credentials of a board: bought in a batch over Lightning, spent one by one, linked to nobody.
//!
//! The construction is that of Cashu: blind Diffie-Hellman on secp256k1 (NUT-00) with a proof that the board signed with the key
//! that it published (NUT-12). What differs is the spending. A credential buys no money, only one event, so who spends it does
//! not show the signature but a MAC under it over the event's id: whoever sees it can use it for nothing else.
//!
//! ```text
//! holder                                         board
//! secret, r -> B = Y(secret) + rG        B ->    C' = kB, proof           (a batch, once it was paid)
//! C = C' - rK = kY(secret)              <- C'
//! keyset, secret, MAC(C, event)     stamp ->     C = kY(secret), the same MAC? never seen? then the event is stored
//! ```
//!
//! The board learns `B` when it is paid and `secret` when it is shown, and every `B` goes with every `secret`: that is what keeps
//! payers apart from authors. This crate reads no clock and no random source.

mod curve;
pub mod fuzz;
mod issue;
mod keyset;
pub mod quote;
mod stamp;
mod token;

pub use curve::derive_key;
pub use issue::{BlindSignature, KeysetSecret};
pub use keyset::{Keyset, KeysetId, Unreadable};
pub use stamp::{BadStamp, Nullifier, Stamp};
pub use token::{Blank, Forged, Token};

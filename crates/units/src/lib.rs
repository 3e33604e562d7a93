//! The quantities every other crate speaks in: amounts, heights, times, payment hashes and secrets.

mod amount;
mod hash;
mod time;

pub use amount::{AmountOverflow, Msat, Sat};
pub use hash::{Bytes32Error, PaymentHash, Preimage, hex32, parse_hex32};
pub use time::{Height, Now, Unix};

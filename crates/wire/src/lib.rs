//! Everything that crosses a process as Nostr. Pure: entropy and time are parameters.
//!
//! From the bottom up: one strict JSON reader; [`event`] and [`filter`] (NIP-01), [`pow`] (NIP-13), [`auth`] (NIP-42);
//! [`frame`] around them; [`nip44`] and [`seal`] (NIP-59) to say something to one reader; [`domp`] for what traders say, and
//! [`invoice`] and [`offer`] for the BOLT11 and BOLT12 in it. Nothing read here is true of anything until it was verified.

pub mod auth;
pub mod compact;
pub mod domp;
pub mod event;
pub mod filter;
pub mod frame;
pub mod fuzz;
pub mod hll;
pub mod invoice;
mod json;
pub mod nip44;
pub mod offer;
pub mod pow;
pub mod seal;

pub use event::{DeletionTarget, Event, Forged, KindClass, Limits, OwnedEvent, RawEvent, Tag, UnknownKeys, Unsigned};
pub use filter::{Filter, FilterLimits};
pub use frame::{ClientFrame, FrameLimits, RelayFrame};
pub use json::{INTEGER_MAX, Malformed, RawStr, parse_hex, write_str};

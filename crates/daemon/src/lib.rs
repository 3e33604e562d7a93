//! The daemon: roles wired to a Lightning node, to boards and to a durable log.

mod adverts;
pub mod api;
mod arbiters;
pub mod backup;
mod bare;
#[cfg(feature = "bench")]
pub mod bench;
pub mod board_link;
#[cfg(any(test, feature = "bench"))]
pub mod bolt11_node;
mod clock;
pub mod config;
mod courier;
mod desk;
mod effects;
mod fiat;
mod http;
mod instance;
mod issuer;
mod keyring;
mod mail_seen;
mod market;
mod notify;
mod pages;
mod post;
mod purse;
mod rates;
mod resolve;
mod restore;
mod running;
mod standing;
pub mod store;
#[cfg(test)]
mod tests;
mod vault;
mod view;

pub use bare::BareBoard;
pub use desk::DeskError;
pub use fiat::{BadRate, RateApart};
pub use issuer::IssuerError;
pub use rates::{FiatConfig, NoRate, RateSource};
pub use restore::{MARK as RESTORE_MARK, RestoreReport};
pub use running::{Daemon, Running, StartError};
pub use standing::Of;

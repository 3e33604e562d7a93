//! Reputation from trades: who may rate whom, what the ratings come to, and how much one viewer makes of them.
//!
//! Each party signs a [`Pledge`] while the trade still runs and gives it to the other, so that nobody who turns out badly can
//! keep its half back. A [`Rating`] is a DOMP event (kinds 321 to 323) that carries the pledges of both sides; whoever reads
//! it can check that it is about an escrow that both signed. A [`Score`] is DOMP's sum over ratings. It can be forged by
//! anybody who has two keys. A [`Web`] asks instead how far the raters are from the viewer, which cannot be forged by having
//! many keys. A [`Service`] is what an arbiter's own log counts, a [`Claim`] what it publishes of that.

mod label;
mod pledge;
mod rating;
mod score;
mod service;
mod tags;
mod web;

pub use label::{KIND_LABEL, NAMESPACE, from_label, label};
pub use pledge::{Facts, HEIGHTS_APART_MAX, IDENTITY_TAG, Identity, PLEDGE_BYTES_MAX, Pledge, bucket, link};
pub use rating::{PLEDGE_TAG, RATER_MARK, Rating, Reject, SETTLED_TAG, Subject, attach, board_name, each_once, read};
pub use score::Score;
pub use service::{Claim, KIND_SERVICE, POLICY_MAX, SERVICE_D, Service, Times, has_ruled};
pub use web::{Acquaintance, Standing, Web};

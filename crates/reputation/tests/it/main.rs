//! Who may rate whom, and what ratings come to, told from outside.

#![allow(clippy::unwrap_used, reason = "a test that panics has failed")]

mod attacks;
mod pledges;
mod ratings;
mod scores;
mod services;
mod webs;

//! What wire promises, told from outside.

#![allow(clippy::unwrap_used, reason = "a test that panics has failed")]

mod domp;
mod events;
mod filters;
mod frames;
mod fuzzing;
mod invoices;
mod messages;
mod samples;
mod seals;
mod work;

//! Trades told as stories, the table of all decisions, and logs that must replay for ever.

mod desk;
mod disputes;
mod log;
mod refusals;
mod relocks;
mod story;
mod table;
mod trades;

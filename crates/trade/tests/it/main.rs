//! Trades told as stories, the table of all decisions, and logs that must replay for ever.

mod desk;
mod fiat_orders;
mod fiat_sales;
mod log;
mod refusals;
mod relocks;
mod scenario;
mod story;
mod table;
mod trades;

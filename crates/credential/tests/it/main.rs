//! Credentials: known answers of Cashu's specifications, and what neither side can do.

mod buying;
mod nobody_is_linked;
mod nuts;
mod spending;

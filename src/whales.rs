//! Analysis: who holds, who moves, what it costs.
//!
//! What is per address or per block lies in the ranges, as tables of [`crate::rows`] that are combined when ranges merge. Here is
//! what answers are made of beside them: the names of addresses, who has most, and the SQL of the views and macros that
//! [`crate::publish`] puts into the published file.

pub mod answers;
pub mod labels;
pub mod ranking;
mod unseen;
pub mod windows;

pub use labels::Labels;
pub use ranking::Ranking;
pub use unseen::Unseen;

//! The one test binary.
#![allow(clippy::unwrap_used, missing_docs)]

mod architecture;
mod client;
mod fake_geth;
mod lying_node;
mod plan;
mod rig;
mod schema;

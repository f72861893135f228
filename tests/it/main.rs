//! The one test binary.
#![allow(clippy::unwrap_used, missing_docs)]

mod answers;
mod architecture;
mod binary;
mod client;
mod demo;
mod entrypoint;
mod ether;
mod fake_geth;
mod freezer;
mod health;
mod kills;
mod labels;
mod lying_node;
mod plan;
mod readers;
mod readme;
mod real_geth;
mod rig;
mod run;
mod schema;
mod sorted;
mod sql;
mod third_party;
mod verify;
mod volume;

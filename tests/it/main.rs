//! The one test binary.
#![allow(clippy::unwrap_used, missing_docs, unreachable_pub)]
// Output that must be seen although a test passes: the harness captures `eprintln`.
#![allow(clippy::explicit_write)]

mod answers;
mod architecture;
mod binary;
mod bucket;
mod client;
mod contiguity;
mod demo;
mod entrypoint;
mod era;
mod ether;
mod events;
mod export;
mod fake_geth;
// It reads registers.
#[cfg(target_arch = "x86_64")]
#[path = "../faults/main.rs"]
mod faults;
mod freezer;
#[path = "../fuzz/main.rs"]
mod fuzz;
mod health;
mod histories;
mod hostile;
mod kills;
mod labels;
mod lake;
mod lying_node;
mod metrics;
mod numbers;
mod odd_ether;
mod priority;
mod prompt;
mod query;
mod ranking;
mod read_only;
mod readers;
mod readme;
mod real_geth;
mod rig;
mod run;
mod schema;
mod serve;
#[path = "../soak/main.rs"]
mod soak;
mod sorted;
mod sql;
mod supplies;
mod third_party;
mod tokens;
mod tools;
mod upgrade;
mod usage;
mod verify;
mod volume;

//! The test rig: a real geth with a genesis of its own, blocks made to order, and spyhop next to
//! it.
//!
//! geth runs alone, without peers and without a beacon node: the rig plays the beacon node over
//! geth's own socket. Blocks are built by geth (`testing_commitBlockV1`, which is
//! `testing_buildBlockV1`, `engine_newPayload` and `engine_forkchoiceUpdated` in one), so every
//! root and receipt in them is geth's. A forkchoice update to a known block makes a real
//! reorganisation in milliseconds. Everything is in one temporary directory, and everything started
//! is killed when the rig is dropped.

pub mod ancient;
pub mod contracts;
pub mod expected;
pub mod forks;
pub mod gateway;
pub mod geth;
pub mod http;
pub mod mixed;
pub mod premerge;
pub mod process;
pub mod published;
pub mod random;
pub mod rpc;
pub mod sealed;
pub mod tokens;
pub mod transaction;

pub use ancient::{Ancient, AncientBlock};
pub use contracts::Log;
pub use forks::Forks;
pub use geth::{Block, Geth, Plan, Withdrawal};
pub use process::{Running, Spyhop};
pub use published::Published;
pub use transaction::{Kind, Transaction};

use std::path::PathBuf;
use std::time::{Duration, Instant};

/// How long a test waits for an expected value: generous, since two cores may run ten geths.
pub const PATIENCE: Duration = Duration::from_secs(120);

/// Logs that a test passes without something; if `CI` is `true`, it fails instead.
#[track_caller]
pub fn pass_without(what: &str) {
    assert!(
        std::env::var("CI").as_deref() != Ok("true"),
        "under CI nothing may be missing: {what}"
    );
    println!("passes without: {what}");
}

/// A folder of third-party data, if present: `SPYHOP_FIXTURES` says where.
#[track_caller]
pub fn fixtures(folder: &str) -> Option<PathBuf> {
    let root = std::env::var_os("SPYHOP_FIXTURES").map(PathBuf::from);
    if root.is_none() {
        pass_without(&format!("{folder}, for SPYHOP_FIXTURES is not set"));
    }
    root.map(|root| root.join(folder))
}

/// Waits until `probe` returns a value.
///
/// # Panics
/// If it does not within [`PATIENCE`].
#[track_caller]
pub fn wait_for<T>(what: &str, mut probe: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(value) = probe() {
            return value;
        }
        assert!(start.elapsed() < PATIENCE, "timed out after {PATIENCE:?} waiting for {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Whether the kernel has Landlock, without which there is no free SQL; says so if not.
pub fn has_landlock() -> bool {
    // SAFETY: it only asks for the version (LANDLOCK_CREATE_RULESET_VERSION).
    let version =
        unsafe { libc::syscall(libc::SYS_landlock_create_ruleset, std::ptr::null::<u8>(), 0, 1) };
    if version < 1 {
        eprintln!("NOT TESTED: THE KERNEL HAS NO LANDLOCK");
    }
    version >= 1
}

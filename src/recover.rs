//! Recovers the signers of many signatures at once. This is most of the cost of a block, so it is a
//! stage of its own.
//!
//! On processors with AVX-512 IFMA, our own code recovers 128 signatures side by side, about ten
//! times as fast as libsecp256k1, with bit-for-bit the same result. libsecp256k1 is used on other
//! processors, for small batches, for invalid signatures (so that errors are its own), and for
//! signatures that lead to an exceptional addition, as only crafted ones do. [`trust`] explains why
//! the result of a batch is trusted.
//!
//! # The path of a chunk
//!
//! Each signature occupies a lane of a register. All eight lanes go through the same operations,
//! without branches. The key is Q = (s / r) R - (z / r) G for the hash z and the point R whose x is
//! r (SEC 1 version 2, section 4.1.6).
//!
//! - `chunk` fills one [`group`] per eight signatures and runs the stages.
//! - `scalars`: s / r and -z / r, with one inversion for the whole chunk; the first is split into
//!   two halves (`glv`), and both are cut into odd signed digits (`digits`).
//! - `lift`: R's y, a square root.
//! - `sums`: the table of R's odd multiples, and the sum of G's fixed-table entries (`generator`),
//!   as a tree. All are affine additions that share an `inversion`.
//! - `pairs`: adds the two halves' entries of each window into one point.
//! - `ladder`: five doublings and one addition per window, 25 times.
//! - `addresses`: the keys, hashed ([`crate::keccak`]).
//!
//! Below these are `point`s and their table entries (`packed`), the `field` and the `scalar`s, both
//! made of 52-bit `limbs`, and the `lanes`, which have two backends: `ifma` and, in plain Rust,
//! `portable`, with which the tests check that no limb grows too large.
//!
//! Nothing here runs in constant time, nor needs to: all inputs are public.

// Loops over indices, because iterators and closures are not inlined across a target-feature
// boundary.
#![allow(clippy::needless_range_loop)]

mod addresses;
mod chunk;
mod digits;
mod field;
mod generator;
mod glv;
mod group;
#[cfg(target_arch = "x86_64")]
mod ifma;
mod inversion;
mod ladder;
mod lanes;
mod lift;
mod limbs;
mod packed;
mod pairs;
mod point;
#[cfg(test)]
mod portable;
mod scalar;
mod scalars;
mod senders;
mod sums;
#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
mod trust;

use crate::decode::Signature;
use alloy_primitives::Address;
use group::Work;
use lanes::{LANES, Lanes};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{LazyLock, Mutex};
use trust::Trust;

pub use senders::{senders, senders_by_libsecp256k1, senders_in_parallel, senders_of};

/// Signatures of a chunk: enough to make its inversions cheap, while its working set fits in an L2
/// cache of 1 MiB.
pub const CHUNK: usize = 128;

/// Groups of eight signatures in a chunk.
const GROUPS: usize = CHUNK / LANES;

/// Groups processed side by side.
const QUAD: usize = 4;

/// For half of s / r: bits of a digit, number of digits, and odd multiples of R they choose from.
const R_WIDTH: u32 = 5;
const R_WINDOWS: usize = 26;
const R_ENTRIES: usize = 1 << (R_WIDTH - 1);

/// Below this many signatures libsecp256k1 is as fast, because a chunk is padded to 32.
const BATCH_MIN: usize = 8;

/// The signer of a signature, or why it has none.
pub type Signer = Result<Address, secp256k1::Error>;

/// The code that recovers signers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Backend {
    /// Our own code for AVX-512 IFMA.
    Ifma,
    /// The same in plain Rust, for tests.
    #[cfg(test)]
    Portable,
    /// libsecp256k1, one at a time.
    Libsecp256k1,
}

impl Backend {
    /// The fastest backend on this processor.
    pub fn detect() -> Self {
        #[cfg(target_arch = "x86_64")]
        if ifma::Ifma::is_available() {
            return Self::Ifma;
        }
        Self::Libsecp256k1
    }

    /// Its name in logs and benchmarks.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ifma => "AVX-512 IFMA",
            #[cfg(test)]
            Self::Portable => "portable",
            Self::Libsecp256k1 => "libsecp256k1",
        }
    }

    /// Recovers with this backend, whichever is in use, without any check. Signatures that it
    /// leaves to libsecp256k1 are recovered by that.
    ///
    /// # Panics
    /// If the processor lacks the features the backend needs.
    pub fn recover(self, signatures: &[Signature]) -> Vec<Signer> {
        match self {
            #[cfg(target_arch = "x86_64")]
            Self::Ifma => {
                static IDLE: Mutex<Vec<Work<ifma::Ifma>>> = Mutex::new(Vec::new());
                assert!(ifma::Ifma::is_available(), "this processor has no AVX-512 IFMA");
                in_chunks(&IDLE, signatures)
            }
            #[cfg(not(target_arch = "x86_64"))]
            Self::Ifma => panic!("this processor has no AVX-512 IFMA"),
            #[cfg(test)]
            Self::Portable => {
                static IDLE: Mutex<Vec<Work<portable::Portable>>> = Mutex::new(Vec::new());
                in_chunks(&IDLE, signatures)
            }
            Self::Libsecp256k1 => signatures.iter().map(Signature::signer).collect(),
        }
    }
}

/// Recovers in an idle `Work`, or a new one: there are only as many as chunks recovered at the same
/// time.
fn in_chunks<L: Lanes>(idle: &Mutex<Vec<Work<L>>>, signatures: &[Signature]) -> Vec<Signer> {
    let lock = || idle.lock().expect("nothing panics while holding it");
    let mut work = lock().pop().unwrap_or_else(Work::new);
    let mut signers = vec![None; signatures.len()];
    for (signatures, signers) in signatures.chunks(CHUNK).zip(signers.chunks_mut(CHUNK)) {
        work.recover(signatures, signers);
    }
    lock().push(work);
    let recovered = signatures.iter().zip(signers);
    recovered.map(|(signature, signer)| signer.map_or_else(|| signature.signer(), Ok)).collect()
}

/// Counts where the backend differed from libsecp256k1.
static TRUST: Trust = Trust::new();

/// Whether batches are switched off.
static OFF: AtomicBool = AtomicBool::new(false);

/// The fastest backend; passes its self-test before first use.
static TESTED: LazyLock<Backend> = LazyLock::new(|| {
    let backend = Backend::detect();
    if backend != Backend::Libsecp256k1 {
        TRUST.test(|chunk| backend.recover(chunk));
    }
    backend
});

/// The backend that [`signers`] uses.
pub fn backend() -> Backend {
    if OFF.load(Ordering::Relaxed) {
        return Backend::Libsecp256k1;
    }
    let tested = *TESTED;
    if TRUST.is_whole() { tested } else { Backend::Libsecp256k1 }
}

/// From now on, libsecp256k1 recovers everything in this process.
pub fn use_libsecp256k1_alone() {
    OFF.store(true, Ordering::Relaxed);
}

/// How many batches in this process differed from libsecp256k1. If any did, batches are no longer
/// used.
pub fn differences() -> u64 {
    TRUST.differences()
}

/// Recovers the signer of each signature on the calling thread, best many at a time. A share is
/// checked against libsecp256k1.
pub fn signers(signatures: &[Signature]) -> Vec<Signer> {
    let mut signers = Vec::with_capacity(signatures.len());
    for chunk in signatures.chunks(CHUNK) {
        let backend = if chunk.len() < BATCH_MIN { Backend::Libsecp256k1 } else { backend() };
        signers.extend(match backend {
            Backend::Libsecp256k1 => backend.recover(chunk),
            _ => TRUST.recover(chunk, |chunk| backend.recover(chunk)),
        });
    }
    signers
}

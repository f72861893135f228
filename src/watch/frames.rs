//! Estimates how large a block's call frames may be before the node is asked to trace it.
//!
//! geth's `callTracer` copies input and output of every frame, keeps them all, and writes them as
//! hexadecimal JSON: twelve times their size in memory. Input costs almost no gas, because a
//! contract may pass the same memory with each call: 660,000 gas make 524 MB of it, and 6 GB in
//! geth. So a block whose frames cannot be large is traced directly. If inputs may be large, they
//! are counted first, which costs the node one more execution of the block. If transactions use so
//! much gas that even outputs, which a contract pays for, may be large, the block is traced by a
//! tracer that omits both ([`crate::geth::Client::trace_moving`]).
//!
//! Measured on two busy cores: that bomb took 37 s and 6,157 MB before, 1.0 s and 104 MB with the
//! other tracer; 200,000 empty calls 2.5 s and 442 MB, 4.2 s and 109 MB; 4,000 reverts with 20 KB
//! 3.8 s and 1,515 MB, 0.6 s and 106 MB. A block of 150 plain transactions took 0.23 s, and 1.4 s
//! with the other tracer, which is why not all blocks are traced that way; counting inputs takes
//! 0.26 s. A bomb of calls to a precompile, 974,000 gas, took 4,142 MB without [`SMALL_TIMEOUT`]
//! and 477 MB with it; 60 of them in one block 545 MB.

use crate::prove::Proved;
use std::time::Duration;

/// Limit for the input and output of one block's frames together.
pub(super) const FRAMES_BYTES_MAX: u64 = 32 << 20;

/// How long geth may take for one transaction after inputs were counted: the count omits calls of
/// precompiles, which can carry as much. A slower transaction ends the trace of its block before it
/// has used much memory, and the block is traced by the other tracer.
pub(super) const SMALL_TIMEOUT: Duration = Duration::from_millis(20);

/// Gas of a transaction above which its outputs alone may be too large.
const GAS_HEAVY: u64 = 3_000_000;

/// The same limit for the sum of all transactions above [`GAS_LARGE`].
const GAS_LARGE: u64 = 1_000_000;
const GAS_LARGE_TOGETHER: u64 = 8_000_000;

/// Gas that every transaction pays before anything is executed.
const GAS_INTRINSIC: u64 = 21_000;

/// An estimate of the size of a block's frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Weight {
    /// Too small to matter.
    Light,
    /// Inputs may be too large.
    Unknown,
    /// Outputs may be too large.
    Heavy,
}

impl Weight {
    /// The estimate from the gas that each transaction used.
    pub(super) fn of(block: &Proved) -> Self {
        let totals = block.receipts.iter().map(|receipt| receipt.cumulative_gas_used);
        let mut before = 0;
        Self::of_gas(
            totals.map(|total| total.saturating_sub(std::mem::replace(&mut before, total))),
        )
    }

    fn of_gas(gas: impl Iterator<Item = u64>) -> Self {
        let (mut bytes, mut together) = (0_u64, 0_u64);
        for gas in gas {
            if gas >= GAS_HEAVY {
                return Self::Heavy;
            }
            together += if gas >= GAS_LARGE { gas } else { 0 };
            bytes = bytes.saturating_add(bytes_max(gas));
        }
        match (together, bytes) {
            (GAS_LARGE_TOGETHER.., _) => Self::Heavy,
            (_, ..=FRAMES_BYTES_MAX) => Self::Light,
            _ => Self::Unknown,
        }
    }
}

/// The most bytes that a transaction's frames can contain: `words` of memory cost `3 * words +
/// words^2 / 512` gas and can be passed as often as the remaining gas pays for calls at 100 each;
/// other means, such as the identity contract, add 28 bytes per unit of gas.
fn bytes_max(gas: u64) -> u64 {
    let gas = gas.saturating_sub(GAS_INTRINSIC);
    // Where the derivative of words * (gas - 3 * words - words^2 / 512) is zero.
    let words = ((36 + 12 * gas / 512).isqrt().saturating_sub(6)) * 512 / 6;
    let memory = 3 * words + words * words / 512;
    let calls = gas.saturating_sub(memory) / 100;
    (32 * words).saturating_mul(calls).saturating_add(28 * gas)
}

//! How large the call frames of a block may be, judged before the node is asked for them.
//!
//! geth's `callTracer` copies input and output of every frame, keeps them all, and writes them as
//! hexadecimal JSON: twelve times their size in memory. What an input costs in gas is next to
//! nothing, for a contract may pass the same memory with each call: 660,000 gas make 524 MB of it,
//! and 6 GB in geth. So what cannot be large is asked for at once; of what may be, the inputs are
//! counted first, which costs the node as much as executing the block once more; and what has
//! transactions of so much gas that even outputs, which a contract pays for, can be many is traced
//! by a tracer that carries neither ([`crate::geth::Client::trace_moving`]).
//!
//! Measured on two busy cores: that bomb 37 s and 6,157 MB before, 1.0 s and 104 MB with the other
//! tracer; 200,000 empty calls 2.5 s and 442 MB, 4.2 s and 109 MB; 4,000 reverts with 20 KB 3.8 s
//! and 1,515 MB, 0.6 s and 106 MB. A block of 150 plain transactions: 0.23 s, and 1.4 s, which is
//! why not all are traced that way; counting inputs takes 0.26 s. A bomb of calls to a precompile,
//! 974,000 gas: 4,142 MB without [`SMALL_TIMEOUT`], 477 MB with it; 60 of them in one block 545 MB.

use crate::prove::Proved;
use std::time::Duration;

/// Input and output that the frames of one block may have together.
pub const FRAMES_BYTES_MAX: u64 = 32 << 20;

/// How long one transaction may take geth where inputs were counted: the count leaves out calls of
/// precompiles, which can carry as much. One that takes longer ends the trace of its block at once,
/// before it has taken much memory, and the block is traced by the other tracer.
pub const SMALL_TIMEOUT: Duration = Duration::from_millis(20);

/// Gas of a transaction above which its outputs alone can be too many.
const GAS_HEAVY: u64 = 3_000_000;

/// Gas that transactions above [`GAS_LARGE`] may have used together for the same.
const GAS_LARGE: u64 = 1_000_000;
const GAS_LARGE_TOGETHER: u64 = 8_000_000;

/// Gas that every transaction pays before anything is executed.
const GAS_INTRINSIC: u64 = 21_000;

/// What can be said of the size of a block's frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Weight {
    /// They cannot be too large.
    Light,
    /// Inputs may be.
    Unknown,
    /// Outputs may be.
    Heavy,
}

impl Weight {
    /// Judged by the gas that each transaction used.
    pub fn of(block: &Proved) -> Self {
        let totals = block.receipts.iter().map(|receipt| receipt.cumulative_gas_used);
        let mut before = 0;
        Self::of_gas(
            totals.map(|total| total.saturating_sub(std::mem::replace(&mut before, total))),
        )
    }

    /// The same of such a list.
    pub fn of_gas(gas: impl Iterator<Item = u64>) -> Self {
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

/// The most that a transaction's frames can have: with `words` of memory, `3 * words + words^2 /
/// 512` gas, passed as often as the rest of the gas pays for calls at 100 each; and 28 bytes for
/// each unit of gas by other means, such as the identity contract.
fn bytes_max(gas: u64) -> u64 {
    let gas = gas.saturating_sub(GAS_INTRINSIC);
    // Where the derivative of words * (gas - 3 * words - words^2 / 512) is zero.
    let words = ((36 + 12 * gas / 512).isqrt().saturating_sub(6)) * 512 / 6;
    let memory = 3 * words + words * words / 512;
    let calls = gas.saturating_sub(memory) / 100;
    (32 * words).saturating_mul(calls).saturating_add(28 * gas)
}

//! Eight 64-bit numbers side by side: exactly what the algorithm needs from a backend.
//!
//! The algorithm is written once, generic over this trait, and compiled for each backend:
//! [`Portable`] checks its inputs, [`Ifma`] is fast.
//!
//! [`Portable`]: super::portable::Portable
//! [`Ifma`]: super::ifma::Ifma

use crate::keccak::Word;
use std::ops::{Add, BitOr, Shl, Shr, Sub};

/// An expression evaluated for `k` from 0 to 3. Written out, because a closure would not be
/// inlined, and filling an array would copy it.
macro_rules! four {
    ($k:ident => $result:expr) => {
        [
            {
                let $k = 0;
                $result
            },
            {
                let $k = 1;
                $result
            },
            {
                let $k = 2;
                $result
            },
            {
                let $k = 3;
                $result
            },
        ]
    };
}
pub(super) use four;

/// Number of lanes.
pub(super) const LANES: usize = 8;

/// One bit per lane, the first lane's lowest.
pub(super) type Mask = u8;

/// Eight unsigned numbers, one per lane. Sums and differences must stay within 64 bits; the
/// portable backend panics otherwise.
///
/// Everything that computes with lanes is `#[inline(always)]` and uses loops instead of closures:
/// neither functions nor closures are inlined into a caller with more target features, and the call
/// costs more than the callee. [`Lanes::call`] is the only such boundary.
pub(super) trait Lanes:
    Word
    + Send
    + Sync
    + 'static
    + Add<Output = Self>
    + Sub<Output = Self>
    + BitOr<Output = Self>
    + Shl<u32, Output = Self>
    + Shr<u32, Output = Self>
{
    /// Loads one number per lane.
    fn load(numbers: &[u64; LANES]) -> Self;

    /// The number in each lane.
    fn store(self) -> [u64; LANES];

    /// `self + (a b mod 2^52)`. Both factors must be below 2^52.
    fn add_low(self, a: Self, b: Self) -> Self;

    /// `self + floor(a b / 2^52)`. Both factors must be below 2^52.
    fn add_high(self, a: Self, b: Self) -> Self;

    /// The number modulo 2^52, to be used only as a factor: IFMA ignores the higher bits, so its
    /// backend does nothing here.
    fn factor(self) -> Self;

    /// The sum modulo 2^64, of numbers that may be negative (two's complement).
    fn signed_add(self, other: Self) -> Self;

    /// The difference modulo 2^64, of numbers that may be negative (two's complement).
    fn signed_sub(self, other: Self) -> Self;

    /// Divides a two's complement number by a power of two, rounding down.
    fn signed_shr(self, bits: u32) -> Self;

    /// Lanes that are negative in two's complement.
    fn negative(self) -> Mask;

    /// Lanes that are zero.
    fn zero(self) -> Mask;

    /// Lanes that are below a limit.
    fn below(self, limit: Self) -> Mask;

    /// `then` in the lanes of the mask, `otherwise` in the others.
    fn choose(mask: Mask, then: Self, otherwise: Self) -> Self;

    /// Moves each lane's number to the lane `BY` before it, wrapping around.
    fn rotate_lanes<const BY: i32>(self) -> Self;

    /// Reverses the order of each number's bytes.
    fn swap_bytes(self) -> Self;

    /// Transposes the 8 × 8 matrix.
    fn transpose(rows: [Self; LANES]) -> [Self; LANES];

    /// Runs a stage, compiled as a function of its own for this backend.
    fn call<S: Stage<W>, W>(work: &mut W);
}

/// A part of the algorithm that makes one function of reasonable size. Its `run` is
/// `#[inline(always)]`, see [`Lanes`].
pub(super) trait Stage<W> {
    /// Runs this part.
    fn run(work: &mut W);
}

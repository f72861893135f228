//! Eight numbers of 64 bits side by side: what the algorithm needs of a backend, and no more.
//!
//! The algorithm is written once, generic over this, and compiled for each backend: [`Portable`]
//! checks what it is given, [`Ifma`] is fast.
//!
//! [`Portable`]: super::portable::Portable
//! [`Ifma`]: super::ifma::Ifma

use crate::keccak::Word;
use std::ops::{Add, BitOr, Shl, Shr, Sub};

/// Four results of an expression, for `k` from 0 to 3: written out, for a closure would not be
/// inlined, and an array to begin with would be copied.
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

/// How many lanes there are.
pub(super) const LANES: usize = 8;

/// A bit for each lane, the first lane's lowest.
pub(super) type Mask = u8;

/// Eight unsigned numbers, one a lane. Sums and differences stay within 64 bits, or the portable
/// backend panics.
///
/// Everything that computes with lanes is `#[inline(always)]` and uses loops in the place of
/// closures: neither a function nor a closure is inlined into one that is compiled for more of the
/// processor's features, and such a call costs more than what is called. [`Lanes::call`] is the one
/// border.
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
    /// A number for each lane.
    fn load(numbers: &[u64; LANES]) -> Self;

    /// Each lane's number.
    fn store(self) -> [u64; LANES];

    /// `self + a b mod 2^52`. Both factors are below 2^52.
    fn add_low(self, a: Self, b: Self) -> Self;

    /// `self + a b / 2^52`, rounded down. Both factors are below 2^52.
    fn add_high(self, a: Self, b: Self) -> Self;

    /// The number modulo 2^52, to be a factor and nothing else: IFMA drops the bits above by
    /// itself, so that there nothing is done.
    fn factor(self) -> Self;

    /// The sum modulo 2^64, of numbers that may be negative in two's complement.
    fn signed_add(self, other: Self) -> Self;

    /// The difference modulo 2^64, of numbers that may be negative in two's complement.
    fn signed_sub(self, other: Self) -> Self;

    /// Divides by a power of two, rounded down, a number in two's complement.
    fn signed_shr(self, bits: u32) -> Self;

    /// Which lanes are negative in two's complement.
    fn negative(self) -> Mask;

    /// Which lanes are zero.
    fn zero(self) -> Mask;

    /// Which lanes are below a limit.
    fn below(self, limit: Self) -> Mask;

    /// One number where the mask has the lane's bit, the other elsewhere.
    fn choose(mask: Mask, then: Self, otherwise: Self) -> Self;

    /// Moves each lane's number to the lane so many before it, the first ones' to the end.
    fn rotate_lanes<const BY: i32>(self) -> Self;

    /// Reverses the order of each number's bytes.
    fn swap_bytes(self) -> Self;

    /// Makes rows out of columns.
    fn transpose(rows: [Self; LANES]) -> [Self; LANES];

    /// Runs a stage, compiled as a function of its own for this backend.
    fn call<S: Stage<W>, W>(work: &mut W);
}

/// A part of the algorithm, about as large as a function should be. Its `run` is
/// `#[inline(always)]`, see [`Lanes`].
pub(super) trait Stage<W> {
    /// Does this part.
    fn run(work: &mut W);
}

//! The permutation Keccak-f[1600], of one state or of several side by side.
//!
//! Source: the Keccak reference, version 3.0, section 1.2.

use std::ops::{BitAnd, BitXor};

/// A word of the state, or the same word of several states.
pub(crate) trait Word: Copy + BitAnd<Output = Self> + BitXor<Output = Self> {
    /// The same number in each state.
    fn splat(number: u64) -> Self;

    /// Rotates each number's bits to the left.
    fn rotate_left(self, bits: u32) -> Self;
}

const ROUND_CONSTANTS: [u64; 24] = [
    0x0000000000000001,
    0x0000000000008082,
    0x800000000000808a,
    0x8000000080008000,
    0x000000000000808b,
    0x0000000080000001,
    0x8000000080008081,
    0x8000000000008009,
    0x000000000000008a,
    0x0000000000000088,
    0x0000000080008009,
    0x000000008000000a,
    0x000000008000808b,
    0x800000000000008b,
    0x8000000000008089,
    0x8000000000008003,
    0x8000000000008002,
    0x8000000000000080,
    0x000000000000800a,
    0x800000008000000a,
    0x8000000080008081,
    0x8000000000008080,
    0x0000000080000001,
    0x8000000080008008,
];

/// Permutes a state. Inlined, so that it is compiled with the caller's target features.
#[inline(always)]
pub(crate) fn permute<W: Word>(state: &mut [W; 25]) {
    for constant in ROUND_CONSTANTS {
        round(state, constant);
    }
}

#[inline(always)]
fn round<W: Word>(s: &mut [W; 25], constant: u64) {
    // θ
    let mut columns = [s[0]; 5];
    for x in 0..5 {
        columns[x] = s[x] ^ s[x + 5] ^ s[x + 10] ^ s[x + 15] ^ s[x + 20];
    }
    for x in 0..5 {
        let parity = columns[(x + 4) % 5] ^ columns[(x + 1) % 5].rotate_left(1);
        for y in 0..5 {
            s[x + 5 * y] = s[x + 5 * y] ^ parity;
        }
    }
    // ρ and π, one walk through the state, unrolled so that it stays in registers.
    let mut moved = *s;
    macro_rules! walk {
        ($($from:literal $to:literal $bits:literal,)*) => {
            $(moved[$to] = s[$from].rotate_left($bits);)*
        };
    }
    walk! {
        1 10 1, 10 7 3, 7 11 6, 11 17 10, 17 18 15, 18 3 21, 3 5 28, 5 16 36,
        16 8 45, 8 21 55, 21 24 2, 24 4 14, 4 15 27, 15 23 41, 23 19 56, 19 13 8,
        13 12 25, 12 2 43, 2 20 62, 20 14 18, 14 22 39, 22 9 61, 9 6 20, 6 1 44,
    }
    // χ
    let ones = W::splat(u64::MAX);
    for y in 0..5 {
        for x in 0..5 {
            let (next, after) = (moved[5 * y + (x + 1) % 5], moved[5 * y + (x + 2) % 5]);
            s[5 * y + x] = moved[5 * y + x] ^ ((next ^ ones) & after);
        }
    }
    // ι
    s[0] = s[0] ^ W::splat(constant);
}

//! Keccak-256 of eight messages of 64 bytes: public keys.
//!
//! Source: the Keccak reference, version 3.0, section 1.2, with its padding (0x01, not SHA-3's), at
//! a rate of 136 bytes.

use super::lanes::{LANES, Lanes};

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

/// The four words of each digest, of messages of eight words; bytes are in little-endian order.
#[inline(always)]
pub(super) fn keccak256<L: Lanes>(message: [L; LANES]) -> [L; 4] {
    let mut state = [L::splat(0); 25];
    state[..LANES].copy_from_slice(&message);
    state[8] = L::splat(1);
    state[16] = L::splat(1 << 63);
    for constant in ROUND_CONSTANTS {
        round(&mut state, constant);
    }
    [state[0], state[1], state[2], state[3]]
}

#[inline(always)]
fn round<L: Lanes>(s: &mut [L; 25], constant: u64) {
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
    // ρ and π, one walk through the state; written out, or it would not be one of registers.
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
    let ones = L::splat(u64::MAX);
    for y in 0..5 {
        for x in 0..5 {
            let (next, after) = (moved[5 * y + (x + 1) % 5], moved[5 * y + (x + 2) % 5]);
            s[5 * y + x] = moved[5 * y + x] ^ ((next ^ ones) & after);
        }
    }
    // ι
    s[0] = s[0] ^ L::splat(constant);
}

#[cfg(test)]
mod tests {
    use super::super::portable::Portable;
    use super::*;

    #[test]
    fn digests_are_those_of_alloy() {
        for seed in 0..50u8 {
            let mut message = [0; 64];
            message.fill_with({
                let mut byte = seed;
                move || {
                    byte = byte.wrapping_mul(17).wrapping_add(3);
                    byte
                }
            });
            let (words, _) = message.as_chunks::<8>();
            let mut lanes = [Portable::splat(0); LANES];
            for (lane, word) in lanes.iter_mut().zip(words) {
                *lane = Portable::splat(u64::from_le_bytes(*word));
            }
            let digest = keccak256(lanes).map(|word| word.store()[5].to_le_bytes());
            assert_eq!(*digest.as_flattened(), alloy_primitives::keccak256(message).0);
        }
    }
}

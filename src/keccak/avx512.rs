//! Eight messages side by side, in AVX-512 registers.
//!
//! Source: the Keccak reference, version 3.0, section 1.1, with Keccak's own padding (0x01, not
//! SHA-3's 0x06).

use super::RATE;
use super::permutation::{Word, permute};
use alloy_primitives::B256;
use std::arch::x86_64::*;
use std::ops::{BitAnd, BitXor};

/// How many messages are hashed together.
pub(super) const LANES: usize = 8;

/// Words absorbed at a time.
const RATE_WORDS: usize = RATE / 8;

/// Whether this processor has the target feature that [`keccak256`] needs.
pub(super) fn is_available() -> bool {
    is_x86_feature_detected!("avx512f")
}

/// The same word of each state.
#[derive(Clone, Copy)]
#[repr(transparent)]
struct Eight(__m512i);

impl BitAnd for Eight {
    type Output = Self;

    #[inline(always)]
    fn bitand(self, other: Self) -> Self {
        // SAFETY: values of this type exist only in `hash`, which has the target feature.
        Self(unsafe { _mm512_and_si512(self.0, other.0) })
    }
}

impl BitXor for Eight {
    type Output = Self;

    #[inline(always)]
    fn bitxor(self, other: Self) -> Self {
        // SAFETY: as above.
        Self(unsafe { _mm512_xor_si512(self.0, other.0) })
    }
}

impl Word for Eight {
    #[inline(always)]
    fn splat(number: u64) -> Self {
        // SAFETY: as above.
        Self(unsafe { _mm512_set1_epi64(number.cast_signed()) })
    }

    #[inline(always)]
    fn rotate_left(self, bits: u32) -> Self {
        // SAFETY: as above.
        Self(unsafe { _mm512_rolv_epi64(self.0, _mm512_set1_epi64(bits.into())) })
    }
}

/// Hashes eight messages.
///
/// # Panics
/// If the processor has no AVX-512.
pub(super) fn keccak256(messages: &[&[u8]; LANES]) -> [B256; LANES] {
    assert!(is_available(), "this processor has no AVX-512");
    // SAFETY: the assertion above has checked the target feature.
    unsafe { hash(messages) }
}

#[target_feature(enable = "avx512f")]
fn hash(messages: &[&[u8]; LANES]) -> [B256; LANES] {
    let longest = messages.iter().map(|message| message.len()).max().unwrap_or(0);
    let mut digests = [B256::ZERO; LANES];
    let mut state = [Eight::splat(0); 25];
    // Each row is a word of every message. Stale words of a message that has ended do not matter.
    let mut block = [[0; LANES]; RATE_WORDS];
    for start in (0..=longest).step_by(RATE) {
        for (lane, message) in messages.iter().enumerate() {
            let Some(rest) = message.get(start..) else { continue };
            let mut padded = [0; RATE];
            let bytes = rest.first_chunk::<RATE>().unwrap_or_else(|| {
                padded[..rest.len()].copy_from_slice(rest);
                padded[rest.len()] = 0x01;
                padded[RATE - 1] |= 0x80;
                &padded
            });
            for (row, word) in block.iter_mut().zip(bytes.as_chunks().0) {
                row[lane] = u64::from_le_bytes(*word);
            }
        }
        for (word, row) in state.iter_mut().zip(&block) {
            // SAFETY: a row is 64 bytes, as many as are read.
            *word = *word ^ Eight(unsafe { _mm512_loadu_si512(row.as_ptr().cast()) });
        }
        permute(&mut state);
        for (lane, digest) in digests.iter_mut().enumerate() {
            // A digest is taken after the block in which its message ends.
            if messages[lane].len() / RATE != start / RATE {
                continue;
            }
            for (bytes, word) in digest.0.as_chunks_mut::<8>().0.iter_mut().zip(&state) {
                // SAFETY: both types are 64 bytes, and every bit pattern is valid for integers.
                let numbers: [u64; LANES] = unsafe { std::mem::transmute(word.0) };
                *bytes = numbers[lane].to_le_bytes();
            }
        }
    }
    digests
}

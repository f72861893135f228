//! The fast backend: AVX-512 with IFMA, whose two instructions multiply 52 bits by 52 bits and add
//! the low or the high half to an accumulator, in each of eight lanes.
//!
//! Source: Intel's Software Developer's Manual, `VPMADD52LUQ` and `VPMADD52HUQ`; Gueron and
//! Krasnov, "Accelerating Big Integer Arithmetic Using Intel IFMA Extensions" (2016), for limbs of
//! 52 bits.

use super::lanes::{LANES, Lanes, Mask, Stage};
use crate::keccak::Word;
use std::arch::x86_64::*;
use std::ops::{Add, BitAnd, BitOr, BitXor, Shl, Shr, Sub};

/// Eight lanes in a register. Use only if [`Ifma::is_available`].
#[derive(Clone, Copy)]
#[repr(transparent)]
pub(super) struct Ifma(__m512i);

impl Ifma {
    /// Whether this processor has the target features of this backend.
    pub(super) fn is_available() -> bool {
        is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("avx512dq")
            && is_x86_feature_detected!("avx512bw")
            && is_x86_feature_detected!("avx512ifma")
    }
}

/// An operation made of intrinsics.
macro_rules! lanes {
    ($intrinsics:expr) => {
        // SAFETY: these intrinsics require only their target feature, and values of this type exist
        // only where `is_available` has detected it. Loads go through a reference to as many bytes
        // as they read.
        unsafe { $intrinsics }
    };
}

macro_rules! operator {
    ($trait:ident $name:ident $intrinsic:ident) => {
        impl $trait for Ifma {
            type Output = Self;

            #[inline(always)]
            fn $name(self, other: Self) -> Self {
                Self(lanes!($intrinsic(self.0, other.0)))
            }
        }
    };
}

operator!(Add add _mm512_add_epi64);
operator!(Sub sub _mm512_sub_epi64);
operator!(BitAnd bitand _mm512_and_si512);
operator!(BitOr bitor _mm512_or_si512);
operator!(BitXor bitxor _mm512_xor_si512);

impl Shl<u32> for Ifma {
    type Output = Self;

    #[inline(always)]
    fn shl(self, bits: u32) -> Self {
        Self(lanes!(_mm512_sll_epi64(self.0, _mm_cvtsi32_si128(bits as i32))))
    }
}

impl Shr<u32> for Ifma {
    type Output = Self;

    #[inline(always)]
    fn shr(self, bits: u32) -> Self {
        Self(lanes!(_mm512_srl_epi64(self.0, _mm_cvtsi32_si128(bits as i32))))
    }
}

impl Word for Ifma {
    #[inline(always)]
    fn splat(number: u64) -> Self {
        Self(lanes!(_mm512_set1_epi64(number as i64)))
    }

    #[inline(always)]
    fn rotate_left(self, bits: u32) -> Self {
        Self(lanes!(_mm512_rolv_epi64(self.0, _mm512_set1_epi64(i64::from(bits)))))
    }
}

impl Lanes for Ifma {
    #[inline(always)]
    fn load(numbers: &[u64; LANES]) -> Self {
        Self(lanes!(_mm512_loadu_si512(numbers.as_ptr().cast())))
    }

    #[inline(always)]
    fn store(self) -> [u64; LANES] {
        // SAFETY: both types are 64 bytes, and every bit pattern is valid for integers.
        unsafe { std::mem::transmute::<__m512i, [u64; LANES]>(self.0) }
    }

    #[inline(always)]
    fn add_low(self, a: Self, b: Self) -> Self {
        Self(lanes!(_mm512_madd52lo_epu64(self.0, a.0, b.0)))
    }

    #[inline(always)]
    fn add_high(self, a: Self, b: Self) -> Self {
        Self(lanes!(_mm512_madd52hi_epu64(self.0, a.0, b.0)))
    }

    #[inline(always)]
    fn factor(self) -> Self {
        self
    }

    #[inline(always)]
    fn signed_add(self, other: Self) -> Self {
        self + other
    }

    #[inline(always)]
    fn signed_sub(self, other: Self) -> Self {
        self - other
    }

    #[inline(always)]
    fn signed_shr(self, bits: u32) -> Self {
        Self(lanes!(_mm512_sra_epi64(self.0, _mm_cvtsi32_si128(bits as i32))))
    }

    #[inline(always)]
    fn negative(self) -> Mask {
        lanes!(_mm512_movepi64_mask(self.0))
    }

    #[inline(always)]
    fn zero(self) -> Mask {
        lanes!(_mm512_testn_epi64_mask(self.0, self.0))
    }

    #[inline(always)]
    fn below(self, limit: Self) -> Mask {
        lanes!(_mm512_cmplt_epu64_mask(self.0, limit.0))
    }

    #[inline(always)]
    fn choose(mask: Mask, then: Self, otherwise: Self) -> Self {
        Self(lanes!(_mm512_mask_mov_epi64(otherwise.0, mask, then.0)))
    }

    #[inline(always)]
    fn rotate_lanes<const BY: i32>(self) -> Self {
        Self(lanes!(_mm512_alignr_epi64::<BY>(self.0, self.0)))
    }

    #[inline(always)]
    fn swap_bytes(self) -> Self {
        Self(lanes!({
            let order = _mm_set_epi8(8, 9, 10, 11, 12, 13, 14, 15, 0, 1, 2, 3, 4, 5, 6, 7);
            _mm512_shuffle_epi8(self.0, _mm512_broadcast_i32x4(order))
        }))
    }

    /// Three rounds of eight shuffles, which bring together numbers 1, 2 and 4 rows apart.
    #[inline(always)]
    fn transpose(rows: [Self; LANES]) -> [Self; LANES] {
        let mut pairs = rows;
        for i in 0..4 {
            let (upper, lower) = (rows[2 * i].0, rows[2 * i + 1].0);
            pairs[i] = Self(lanes!(_mm512_unpacklo_epi64(upper, lower)));
            pairs[4 + i] = Self(lanes!(_mm512_unpackhi_epi64(upper, lower)));
        }
        let mut quads = rows;
        for i in 0..4 {
            let (upper, lower) = (pairs[2 * i].0, pairs[2 * i + 1].0);
            quads[2 * i] = Self(lanes!(_mm512_shuffle_i64x2::<0x88>(upper, lower)));
            quads[2 * i + 1] = Self(lanes!(_mm512_shuffle_i64x2::<0xdd>(upper, lower)));
        }
        let mut columns = rows;
        for i in 0..4 {
            let from = [0, 4, 1, 5][i];
            let (upper, lower) = (quads[from].0, quads[from + 2].0);
            columns[i] = Self(lanes!(_mm512_shuffle_i64x2::<0x88>(upper, lower)));
            columns[i + 4] = Self(lanes!(_mm512_shuffle_i64x2::<0xdd>(upper, lower)));
        }
        columns
    }

    #[inline(always)]
    fn call<S: Stage<W>, W>(work: &mut W) {
        #[target_feature(enable = "avx512f,avx512dq,avx512bw,avx512ifma")]
        #[inline(never)]
        fn compiled<S: Stage<W>, W>(work: &mut W) {
            S::run(work);
        }
        // SAFETY: stages of this backend run only where `is_available` has detected these features.
        unsafe { compiled::<S, W>(work) }
    }
}

//! The backend for tests: the same algorithm in plain Rust, which checks what the fast one assumes.
//!
//! IFMA silently drops the bits of a factor above 52, and random inputs may never show it. So this
//! backend panics on a factor that is too large, and on a sum or difference that leaves 64 bits, in
//! every build. It is slower than libsecp256k1, and compiled only for tests.
//!
//! No operation is inlined: a stage has thousands of them, and unrolling each eight times would
//! take the compiler minutes.

use super::lanes::{LANES, Lanes, Mask, Stage};
use crate::keccak::Word;
use std::array::from_fn;
use std::ops::{Add, BitAnd, BitOr, BitXor, Shl, Shr, Sub};

/// Eight lanes in an array.
#[derive(Clone, Copy, Debug)]
#[repr(align(64))]
pub(super) struct Portable([u64; LANES]);

impl Portable {
    #[inline(never)]
    fn map(self, with: Self, each: fn(u64, u64) -> u64) -> Self {
        Self(from_fn(|lane| each(self.0[lane], with.0[lane])))
    }

    #[inline(never)]
    fn mask(self, with: Self, each: fn(u64, u64) -> bool) -> Mask {
        (0..LANES).fold(0, |mask, lane| mask | Mask::from(each(self.0[lane], with.0[lane])) << lane)
    }
}

fn product(a: u64, b: u64) -> u128 {
    assert!(a < 1 << 52 && b < 1 << 52, "{a:#x} × {b:#x}: IFMA takes 52 bits");
    u128::from(a) * u128::from(b)
}

macro_rules! operator {
    ($trait:ident $name:ident $operation:expr) => {
        impl $trait for Portable {
            type Output = Self;

            fn $name(self, other: Self) -> Self {
                self.map(other, $operation)
            }
        }
    };
}

operator!(Add add |a, b| a.checked_add(b).expect("a sum fits"));
operator!(Sub sub |a, b| a.checked_sub(b).expect("a difference is not negative"));
operator!(BitAnd bitand |a, b| a & b);
operator!(BitOr bitor |a, b| a | b);
operator!(BitXor bitxor |a, b| a ^ b);

/// As on the processor, shifting by all bits or more yields zero.
impl Shl<u32> for Portable {
    type Output = Self;

    fn shl(self, bits: u32) -> Self {
        self.map(Self::splat(bits.into()), |a, bits| a.checked_shl(bits as u32).unwrap_or(0))
    }
}

impl Shr<u32> for Portable {
    type Output = Self;

    fn shr(self, bits: u32) -> Self {
        self.map(Self::splat(bits.into()), |a, bits| a.checked_shr(bits as u32).unwrap_or(0))
    }
}

impl Word for Portable {
    #[inline(never)]
    fn splat(number: u64) -> Self {
        Self([number; LANES])
    }

    fn rotate_left(self, bits: u32) -> Self {
        self.map(Self::splat(bits.into()), |a, bits| a.rotate_left(bits as u32))
    }
}

impl Lanes for Portable {
    fn load(numbers: &[u64; LANES]) -> Self {
        Self(*numbers)
    }

    fn store(self) -> [u64; LANES] {
        self.0
    }

    fn add_low(self, a: Self, b: Self) -> Self {
        let low = a.map(b, |a, b| product(a, b) as u64 & ((1 << 52) - 1));
        self + low
    }

    fn add_high(self, a: Self, b: Self) -> Self {
        let high = a.map(b, |a, b| (product(a, b) >> 52) as u64);
        self + high
    }

    fn factor(self) -> Self {
        self & Self::splat((1 << 52) - 1)
    }

    fn signed_add(self, other: Self) -> Self {
        self.map(other, u64::wrapping_add)
    }

    fn signed_sub(self, other: Self) -> Self {
        self.map(other, u64::wrapping_sub)
    }

    fn signed_shr(self, bits: u32) -> Self {
        let shift = |a: u64, bits: u64| (a.cast_signed() >> bits).cast_unsigned();
        self.map(Self::splat(bits.into()), shift)
    }

    fn negative(self) -> Mask {
        self.mask(self, |a, _| a.cast_signed() < 0)
    }

    fn zero(self) -> Mask {
        self.mask(self, |a, _| a == 0)
    }

    fn below(self, limit: Self) -> Mask {
        self.mask(limit, |a, limit| a < limit)
    }

    #[inline(never)]
    fn choose(mask: Mask, then: Self, otherwise: Self) -> Self {
        let chosen = |lane| if mask >> lane & 1 == 1 { then.0[lane] } else { otherwise.0[lane] };
        Self(from_fn(chosen))
    }

    #[inline(never)]
    fn rotate_lanes<const BY: i32>(self) -> Self {
        Self(from_fn(|lane| self.0[(lane + BY as usize) % LANES]))
    }

    fn swap_bytes(self) -> Self {
        self.map(self, |a, _| a.swap_bytes())
    }

    #[inline(never)]
    fn transpose(rows: [Self; LANES]) -> [Self; LANES] {
        from_fn(|column| Self(from_fn(|lane| rows[lane].0[column])))
    }

    fn call<S: Stage<W>, W>(work: &mut W) {
        S::run(work);
    }
}

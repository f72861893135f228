//! Scalars as odd signed digits: none is zero, so every lane does the same work.
//!
//! For a number k below 2^(w m) with unsigned digits d of w bits, 2 k + 1 - 2^(w m) has the m
//! digits 2 d - (2^w - 1), which are odd and between plus and minus 2^w - 1. To represent a scalar
//! u, the caller therefore cuts k = u / 2 + offset, with an offset of its own that includes -1/2.
//!
//! Source: Joye and Tunstall, "Exponent Recoding and Regular Exponentiation Algorithms" (2009).

use super::lanes::{LANES, Lanes, Mask};
use super::limbs::BITS;

/// One digit of each lane.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Digit {
    /// Index of the odd multiple: 0 for 1, 1 for 3, and so on.
    pub(super) index: [u8; LANES],
    /// Lanes whose digit is negative.
    pub(super) negative: Mask,
}

/// Cuts a number's carried limbs into digits of `WIDTH` bits, lowest first. `limbs` ends with an
/// extra zero limb.
#[inline(always)]
pub(super) fn cut<const WIDTH: u32, L: Lanes>(limbs: &[L], digits: &mut [Digit]) {
    let half = 1 << (WIDTH - 1);
    for (at, digit) in (0..).step_by(WIDTH as usize).zip(digits) {
        let (limb, bit) = ((at / BITS) as usize, at % BITS);
        let bits = limbs[limb] >> bit | limbs[limb + 1] << (BITS - bit);
        let bits = bits & L::splat(2 * half - 1);
        let negative = bits.below(L::splat(half));
        let magnitude = L::choose(negative, bits ^ L::splat(2 * half - 1), bits);
        let index = (magnitude & L::splat(half - 1)).store();
        for (to, from) in digit.index.iter_mut().zip(index) {
            *to = from as u8;
        }
        digit.negative = negative;
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::super::portable::Portable;
    use super::*;
    use crate::keccak::Word;
    use alloy_primitives::aliases::I512;
    use alloy_primitives::{U256, keccak256};

    #[test]
    fn digits_are_odd_and_make_the_number() {
        for seed in 0..200u8 {
            let number = U256::from_be_bytes(keccak256([seed]).0);
            let mut limbs = super::super::limbs::limbs(&number).to_vec();
            limbs.push(0);
            let limbs: Vec<_> = limbs.into_iter().map(Portable::splat).collect();
            let mut digits = [Digit::default(); 32];
            cut::<8, Portable>(&limbs, &mut digits);
            let sum = digits.iter().rev().fold(I512::ZERO, |sum, digit| {
                let magnitude = i64::from(digit.index[3]) * 2 + 1;
                let negative = digit.negative >> 3 & 1 == 1;
                let digit = if negative { -magnitude } else { magnitude };
                sum * I512::try_from(256).unwrap() + I512::try_from(digit).unwrap()
            });
            // 2 k + 1 - 2^256
            let one = I512::ONE;
            let number = I512::from_raw(alloy_primitives::U512::from(number));
            assert_eq!(sum, number + number + one - (one << 256));
        }
    }
}

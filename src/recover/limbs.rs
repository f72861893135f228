//! 256-bit numbers as five limbs of 52 bits, one number per lane.
//!
//! Carried limbs are below 2^52, as factors must be. Sums and differences leave larger limbs, up to
//! 64 bits, which are carried before the next multiplication.

use super::lanes::{Lanes, Mask};
use alloy_primitives::U256;

/// Bits of a limb.
pub(super) const BITS: u32 = 52;

/// The largest limb.
pub(super) const MAX: u64 = (1 << BITS) - 1;

/// Bits of the last limb of a 256-bit number.
pub(super) const TOP_BITS: u32 = 48;

/// Five limbs per lane, lowest first.
pub(super) type Limbs<L> = [L; 5];

/// The ten columns of a product.
pub(super) type Columns<L> = [L; 10];

/// The limbs of a constant.
pub(super) const fn limbs(number: &U256) -> [u64; 5] {
    let words = number.as_limbs();
    [
        words[0] & MAX,
        (words[0] >> 52 | words[1] << 12) & MAX,
        (words[1] >> 40 | words[2] << 24) & MAX,
        (words[2] >> 28 | words[3] << 36) & MAX,
        words[3] >> 16,
    ]
}

/// A constant in each lane.
#[inline(always)]
pub(super) fn splat<L: Lanes>(limbs: &[u64; 5]) -> Limbs<L> {
    let mut all = [L::splat(0); 5];
    for (lane, limb) in all.iter_mut().zip(limbs) {
        *lane = L::splat(*limb);
    }
    all
}

/// Converts four 64-bit words to limbs.
#[inline(always)]
pub(super) fn unpack<L: Lanes>(words: &[L]) -> Limbs<L> {
    let max = L::splat(MAX);
    [
        words[0] & max,
        (words[0] >> 52 | words[1] << 12) & max,
        (words[1] >> 40 | words[2] << 24) & max,
        (words[2] >> 28 | words[3] << 36) & max,
        words[3] >> 16,
    ]
}

/// Converts carried limbs of numbers below 2^256 to four 64-bit words.
#[inline(always)]
pub(super) fn pack<L: Lanes>(limbs: &Limbs<L>) -> [L; 4] {
    [
        limbs[0] | limbs[1] << 52,
        limbs[1] >> 12 | limbs[2] << 40,
        limbs[2] >> 24 | limbs[3] << 28,
        limbs[3] >> 36 | limbs[4] << 16,
    ]
}

/// The first lane's number, from carried limbs of a number below 2^256.
#[inline(always)]
pub(super) fn first<L: Lanes>(limbs: &Limbs<L>) -> U256 {
    let words = pack(limbs);
    let mut number = [0; 4];
    for (number, words) in number.iter_mut().zip(words) {
        *number = words.store()[0];
    }
    U256::from_limbs(number)
}

/// `then` in the lanes of the mask, `otherwise` in the others.
#[inline(always)]
pub(super) fn choose<L: Lanes>(mask: Mask, then: &Limbs<L>, otherwise: &Limbs<L>) -> Limbs<L> {
    let mut chosen = *otherwise;
    for (chosen, then) in chosen.iter_mut().zip(then) {
        *chosen = L::choose(mask, *then, *chosen);
    }
    chosen
}

/// Moves each lane's number to the lane `BY` before it, wrapping around.
#[inline(always)]
pub(super) fn rotate<const BY: i32, L: Lanes>(limbs: &Limbs<L>) -> Limbs<L> {
    let mut rotated = *limbs;
    for limb in &mut rotated {
        *limb = limb.rotate_lanes::<BY>();
    }
    rotated
}

/// Adds the columns of a schoolbook product to `columns`: each grows by less than 2^55.4.
#[inline(always)]
pub(super) fn product_onto<L: Lanes>(
    columns: Columns<L>,
    a: &Limbs<L>,
    b: &Limbs<L>,
) -> Columns<L> {
    let mut columns = columns;
    for i in 0..5 {
        for j in 0..5 {
            columns[i + j] = columns[i + j].add_low(a[i], b[j]);
        }
        for j in 0..5 {
            columns[i + j + 1] = columns[i + j + 1].add_high(a[i], b[j]);
        }
    }
    columns
}

/// The columns of a product.
#[inline(always)]
pub(super) fn product<L: Lanes>(a: &Limbs<L>, b: &Limbs<L>) -> Columns<L> {
    product_onto([L::splat(0); 10], a, b)
}

/// The columns of a square: cross terms are computed once and doubled.
#[inline(always)]
pub(super) fn square<L: Lanes>(a: &Limbs<L>) -> Columns<L> {
    let mut columns = [L::splat(0); 10];
    for i in 0..5 {
        for j in i + 1..5 {
            columns[i + j] = columns[i + j].add_low(a[i], a[j]);
            columns[i + j + 1] = columns[i + j + 1].add_high(a[i], a[j]);
        }
    }
    for column in &mut columns[1..9] {
        *column = *column + *column;
    }
    for i in 0..5 {
        columns[2 * i] = columns[2 * i].add_low(a[i], a[i]);
        columns[2 * i + 1] = columns[2 * i + 1].add_high(a[i], a[i]);
    }
    columns
}

/// Carries limbs; the last one keeps its excess.
#[inline(always)]
pub(super) fn carry<L: Lanes>(limbs: Limbs<L>) -> Limbs<L> {
    let max = L::splat(MAX);
    let l1 = limbs[1] + (limbs[0] >> BITS);
    let l2 = limbs[2] + (l1 >> BITS);
    let l3 = limbs[3] + (l2 >> BITS);
    let l4 = limbs[4] + (l3 >> BITS);
    [limbs[0] & max, l1 & max, l2 & max, l3 & max, l4]
}

/// Carries limbs that may be negative; the last one keeps the sign.
#[inline(always)]
pub(super) fn signed_carry<L: Lanes>(limbs: Limbs<L>) -> Limbs<L> {
    let max = L::splat(MAX);
    let l1 = limbs[1].signed_add(limbs[0].signed_shr(BITS));
    let l2 = limbs[2].signed_add(l1.signed_shr(BITS));
    let l3 = limbs[3].signed_add(l2.signed_shr(BITS));
    let l4 = limbs[4].signed_add(l3.signed_shr(BITS));
    [limbs[0] & max, l1 & max, l2 & max, l3 & max, l4]
}

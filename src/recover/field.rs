//! secp256k1's field, the numbers modulo p = 2^256 - 2^32 - 977, eight elements at a time.
//!
//! An [`Element`] has limbs below 2^52, as IFMA requires. Most are also *tight*: the last limb is
//! below 2^48 + 2^12, so the number is below 2^256 + 2^220. Multiplication always returns a tight
//! element. [`Limbs`] in between are sums that are not carried yet; they are never negative,
//! because every subtraction adds a large enough multiple of p.
//!
//! Source: SEC 2 version 2, section 2.4.1, for p. The reduction is that of a pseudo-Mersenne prime,
//! Handbook of Applied Cryptography, algorithm 14.47: the part above 2^260 (or 2^256) is multiplied
//! by 2^260 mod p (2^256 mod p) and added to the part below.

use super::lanes::{Lanes, Mask};
use super::limbs::{self, BITS, Columns, Limbs, TOP_BITS, carry, product, product_onto};
use alloy_primitives::{U256, uint};

/// The field's prime.
pub(super) const P: U256 =
    uint!(0xfffffffffffffffffffffffffffffffffffffffffffffffffffffffefffffc2f_U256);
const P_LIMBS: [u64; 5] = limbs::limbs(&P);

/// 2^256 mod p.
const FOLD_256: u64 = 0x1_0000_03d1;

/// 2^260 mod p.
const FOLD_260: u64 = FOLD_256 << 4;

/// The largest last limb of a number below 2^256.
const TOP_MAX: u64 = (1 << TOP_BITS) - 1;

/// One number per lane, with limbs below 2^52.
#[derive(Clone, Copy, Debug)]
#[repr(align(64))]
pub(super) struct Element<L>(pub(super) Limbs<L>);

impl<L: Lanes> Element<L> {
    /// The same number in each lane.
    #[inline(always)]
    pub(super) fn splat(number: &U256) -> Self {
        Self(limbs::splat(&limbs::limbs(number)))
    }

    /// One.
    #[inline(always)]
    pub(super) fn one() -> Self {
        Self::splat(&U256::ONE)
    }

    /// Copies limb by limb: copying the whole compiles to a call of `memcpy`, which costs more than
    /// the copy.
    #[inline(always)]
    pub(super) fn put(&self, to: &mut Self) {
        for i in 0..5 {
            to.0[i] = self.0[i];
        }
    }

    /// `self * other`, tight.
    #[inline(always)]
    pub(super) fn times(&self, other: &Self) -> Self {
        finish(self.times_open(other))
    }

    /// The square, tight.
    #[inline(always)]
    pub(super) fn squared(&self) -> Self {
        finish(self.squared_open())
    }

    /// `self * other`, with limbs below 2^57.
    #[inline(always)]
    pub(super) fn times_open(&self, other: &Self) -> Limbs<L> {
        fold(product(&self.0, &other.0))
    }

    /// The square, with limbs below 2^57.
    #[inline(always)]
    pub(super) fn squared_open(&self) -> Limbs<L> {
        fold(limbs::square(&self.0))
    }

    /// `self * other + columns`, tight.
    #[inline(always)]
    pub(super) fn times_plus(&self, other: &Self, columns: Columns<L>) -> Self {
        finish(fold(product_onto(columns, &self.0, &other.0)))
    }

    /// `self - other`, not tight. Both must be tight.
    #[inline(always)]
    pub(super) fn minus(&self, other: &Self) -> Self {
        Self(carry(minus::<2, 1, L>(self.0, &other.0)))
    }

    /// `-self`, tight. Accepts limbs below 2^53.
    #[inline(always)]
    pub(super) fn negated(&self) -> Self {
        finish(minus::<4, 1, L>([L::splat(0); 5], &self.0))
    }

    /// The same number reduced below p. Accepts limbs below 2^53.
    #[inline(always)]
    pub(super) fn canonical(&self) -> Self {
        let below_2_256 = finish(self.0).0;
        // If adding 2^256 - p reaches 2^256, the number was at least p.
        let mut reduced = below_2_256;
        reduced[0] = reduced[0] + L::splat(FOLD_256);
        let mut reduced = carry(reduced);
        let below_p = reduced[4].below(L::splat(TOP_MAX + 1));
        reduced[4] = reduced[4] & L::splat(TOP_MAX);
        Self(limbs::choose(below_p, &below_2_256, &reduced))
    }

    /// Lanes that are zero modulo p.
    #[inline(always)]
    pub(super) fn zero(&self) -> Mask {
        let [a, b, c, d, e] = self.canonical().0;
        (a | b | c | d | e).zero()
    }
}

/// Folds ten columns, of a number below or barely above 2^520, into five uncarried limbs below
/// 2^57.
#[inline(always)]
pub(super) fn fold<L: Lanes>(columns: Columns<L>) -> Limbs<L> {
    let by = L::splat(FOLD_260);
    let mut z = columns;
    for i in 6..10 {
        z[i] = z[i] + (z[i - 1] >> BITS);
        z[i - 1] = z[i - 1].factor();
    }
    // The last column is itself a factor; the high half of its product lands at 2^260 again.
    let over = L::splat(0).add_high(z[9], by);
    [
        z[0].add_low(z[5], by).add_low(over, by),
        z[1].add_high(z[5], by).add_low(z[6], by).add_high(over, by),
        z[2].add_high(z[6], by).add_low(z[7], by),
        z[3].add_high(z[7], by).add_low(z[8], by),
        z[4].add_high(z[8], by).add_low(z[9], by),
    ]
}

/// Carries limbs below 2^63 and folds the part above 2^256; the result is tight.
#[inline(always)]
pub(super) fn finish<L: Lanes>(limbs: Limbs<L>) -> Element<L> {
    let above = limbs[4] >> TOP_BITS;
    let lowest = limbs[0].add_low(above, L::splat(FOLD_256));
    let top = limbs[4] & L::splat(TOP_MAX);
    Element(carry([lowest, limbs[1], limbs[2], limbs[3], top]))
}

/// `a + b`, limb by limb.
#[inline(always)]
pub(super) fn plus<L: Lanes>(a: Limbs<L>, b: &Limbs<L>) -> Limbs<L> {
    let mut sum = a;
    for (sum, b) in sum.iter_mut().zip(b) {
        *sum = *sum + *b;
    }
    sum
}

/// `a + M p - K b`, limb by limb, for K a power of two. No limb is negative if M >= 2 K and b is
/// tight, or if M >= 4 K and b's limbs are below 2^53.
#[inline(always)]
pub(super) fn minus<const M: u64, const K: u64, L: Lanes>(a: Limbs<L>, b: &Limbs<L>) -> Limbs<L> {
    let mut difference = a;
    for i in 0..5 {
        let taken = if K == 1 { b[i] } else { b[i] << K.trailing_zeros() };
        difference[i] = a[i] + L::splat(M * P_LIMBS[i]) - taken;
    }
    difference
}

#[cfg(test)]
mod tests {
    use super::super::limbs::MAX;
    use super::super::portable::Portable;
    use super::*;
    use crate::keccak::Word;
    use proptest::prelude::*;

    fn element(number: &U256) -> Element<Portable> {
        Element::splat(number)
    }

    fn number(element: Element<Portable>) -> U256 {
        limbs::first(&element.canonical().0)
    }

    /// Any number below 2^256, often one whose limbs are at their minimum or maximum.
    fn numbers() -> impl Strategy<Value = U256> {
        let limb = prop_oneof![Just(0), Just(MAX), Just(MAX - 1), any::<u64>()];
        let extreme = proptest::array::uniform5(limb).prop_map(|limbs| {
            let words: [Portable; 5] = limbs.map(|limb| Portable::splat(limb & MAX));
            limbs::first(&[
                words[0],
                words[1],
                words[2],
                words[3],
                words[4] & Portable::splat(TOP_MAX),
            ])
        });
        let near = (0..40u64).prop_map(|offset| P - U256::from(20) + U256::from(offset));
        prop_oneof![extreme, near, any::<[u64; 4]>().prop_map(U256::from_limbs)]
    }

    proptest! {
        #[test]
        fn elements_are_the_numbers_modulo_p(a in numbers(), b in numbers()) {
            let (x, y) = (element(&a), element(&b));
            prop_assert_eq!(number(x.times(&y)), a.mul_mod(b, P));
            prop_assert_eq!(number(x.squared()), a.mul_mod(a, P));
            prop_assert_eq!(number(x.minus(&y)), a.add_mod(P - b.reduce_mod(P), P));
            prop_assert_eq!(number(x.negated()), (P - a.reduce_mod(P)).reduce_mod(P));
            prop_assert_eq!(number(x), a.reduce_mod(P));
            prop_assert_eq!(x.zero() != 0, a.reduce_mod(P).is_zero());
        }
    }
}

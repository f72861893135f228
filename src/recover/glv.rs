//! Splits a scalar into two halves with the curve's endomorphism.
//!
//! λ (x, y) = (β x, y), where λ and β are cube roots of one modulo n and p. k = k₁ + k₂ λ (mod n),
//! with both below 2^128 in absolute value: (k₁, k₂) is (k, 0) minus a nearly closest vector in the
//! lattice of pairs that represent zero, whose short basis is (a₁, b₁), (a₂, b₂).
//!
//! Source: Gallant, Lambert, Vanstone, "Faster Point Multiplication on Elliptic Curves with
//! Efficient Endomorphisms" (2001); constants and the rounding by 2^384 as in libsecp256k1
//! `src/scalar_impl.h`, `secp256k1_scalar_split_lambda`.

use super::lanes::Lanes;
use super::limbs::{self, BITS, Limbs, MAX};
use alloy_primitives::{U256, uint};

/// β.
pub(super) const BETA: U256 =
    uint!(0x7ae96a2b657c07106e64479eac3434e99cf0497512f58995c1396c28719501ee_U256);

uint! {
    /// The nearest integers to 2^384 b₂ / n and to -2^384 b₁ / n.
    const G1: U256 = 0x3086d221a7d46bcde86c90e49284eb153daa8a1471e8ca7fe893209a45dbb031_U256;
    const G2: U256 = 0xe4437ed6010e88286f547fa90abfe4c4221208ac9df506c61571b4ae8ac47f71_U256;
    /// The lattice's basis; b₂ = a₁.
    const A1: U256 = 0x3086d221a7d46bcde86c90e49284eb15_U256;
    const A2: U256 = 0x114ca50f7a8e2f3f657c1108d9d44cfd8_U256;
    const B1_NEGATED: U256 = 0xe4437ed6010e88286f547fa90abfe4c3_U256;
}

/// One half of a split scalar, plus 2^129 so that it is never negative; below 2^130.
pub(super) type Half<L> = [L; 3];

/// Bits of a half.
pub(super) const HALF_BITS: u32 = 130;

/// Splits `k = k₁ + k₂ λ`, for k below n.
#[inline(always)]
pub(super) fn split<L: Lanes>(k: &Limbs<L>) -> [Half<L>; 2] {
    // c₁ and c₂: the multiples of the basis vectors to subtract.
    let c1 = times_g(k, &G1);
    let c2 = times_g(k, &G2);
    let zero = [L::splat(0); 3];
    let first = low_product_onto(low_product_onto(zero, &c1, &A1), &c2, &A2);
    let second = low_product_onto(zero, &c1, &B1_NEGATED);
    [
        offset_difference(&[k[0], k[1], k[2]], &first),
        offset_difference(&second, &low_product_onto(zero, &c2, &A1)),
    ]
}

/// `k g / 2^384`, rounded to the nearest integer or one next to it, which costs the halves at most
/// one bit: columns 0 to 4 are skipped, which loses at most their carry.
#[inline(always)]
fn times_g<L: Lanes>(k: &Limbs<L>, g: &U256) -> Half<L> {
    let g: Limbs<L> = limbs::splat(&limbs::limbs(g));
    let mut z = [L::splat(0); 10];
    for i in 0..5 {
        for j in 5 - i..5 {
            z[i + j] = z[i + j].add_low(k[i], g[j]);
        }
        for j in 4 - i..5 {
            z[i + j + 1] = z[i + j + 1].add_high(k[i], g[j]);
        }
    }
    // 384 = 7 × 52 + 20; adding 2^383 rounds to nearest.
    z[6] = z[6] + (z[5] >> BITS);
    z[7] = z[7] + (z[6] >> BITS) + L::splat(1 << 19);
    z[8] = z[8] + (z[7] >> BITS);
    z[9] = z[9] + (z[8] >> BITS);
    let max = L::splat(MAX);
    let (z7, z8) = (z[7] & max, z[8] & max);
    [(z7 >> 20 | z8 << 32) & max, (z8 >> 20 | z[9] << 32) & max, z[9] >> 20]
}

/// `sum + c a` modulo 2^156, not carried.
#[inline(always)]
fn low_product_onto<L: Lanes>(sum: Half<L>, c: &Half<L>, a: &U256) -> Half<L> {
    let a: Limbs<L> = limbs::splat(&limbs::limbs(a));
    let mut sum = sum;
    for i in 0..3 {
        for j in 0..3 - i {
            sum[i + j] = sum[i + j].add_low(c[i], a[j]);
        }
        for j in 0..2 - i {
            sum[i + j + 1] = sum[i + j + 1].add_high(c[i], a[j]);
        }
    }
    sum
}

/// `a - b + 2^129` modulo 2^156, carried.
#[inline(always)]
fn offset_difference<L: Lanes>(a: &Half<L>, b: &Half<L>) -> Half<L> {
    let max = L::splat(MAX);
    let l0 = a[0].signed_sub(b[0]);
    let l1 = a[1].signed_sub(b[1]).signed_add(l0.signed_shr(BITS));
    let l2 = a[2].signed_sub(b[2]).signed_add(l1.signed_shr(BITS));
    let l2 = l2.signed_add(L::splat(1 << (HALF_BITS - 1 - 2 * BITS)));
    [l0 & max, l1 & max, l2 & max]
}

#[cfg(test)]
mod tests {
    use super::super::field::P;
    use super::super::portable::Portable;
    use super::super::scalar::N;
    use super::*;
    use crate::keccak::Word;
    use alloy_primitives::keccak256;

    const LAMBDA: U256 =
        uint!(0x5363ad4cc05c30e0a5261c028812645a122e22ea20816678df02967c1b23bd72_U256);

    #[test]
    fn beta_and_lambda_are_cube_roots_of_one() {
        assert_eq!(BETA.pow_mod(U256::from(3), P), U256::ONE);
        assert_eq!(LAMBDA.pow_mod(U256::from(3), N), U256::ONE);
    }

    #[test]
    fn halves_make_the_scalar_and_have_130_bits() {
        let random = (0..2_000u16).map(|seed| keccak256(seed.to_be_bytes()));
        let random = random.map(|hash| U256::from_be_bytes(hash.0).reduce_mod(N));
        let powers = (0..256).map(|bit: usize| (U256::ONE << bit).reduce_mod(N));
        let edges = [U256::ZERO, U256::ONE, N - U256::ONE, LAMBDA, N - LAMBDA];
        for k in random.chain(powers).chain(edges) {
            let halves = split::<Portable>(&limbs::splat(&limbs::limbs(&k)));
            let [first, second] = halves.map(|[a, b, c]| {
                let zero = Portable::splat(0);
                let half = limbs::first(&[a, b, c, zero, zero]);
                assert!(half.bit_len() <= HALF_BITS as usize, "{k}");
                half.add_mod(N - (U256::ONE << (HALF_BITS as usize - 1)), N)
            });
            assert_eq!(first.add_mod(second.mul_mod(LAMBDA, N), N), k);
        }
    }
}

//! Numbers modulo n, the order of secp256k1's group, eight scalars at a time, with Montgomery
//! multiplication for R = 2^260.
//!
//! Source: SEC 2 version 2, section 2.4.1, for n; Montgomery, "Modular Multiplication Without Trial
//! Division" (1985), limb by limb as in Koç, Acar, Kaliski, "Analyzing and Comparing Montgomery
//! Multiplication Algorithms" (1996), section 5, where it is called SOS.

use super::lanes::Lanes;
use super::limbs::{self, BITS, Limbs, product, rotate, signed_carry};
use alloy_primitives::{U256, uint};

/// The group's order.
pub(super) const N: U256 =
    uint!(0xfffffffffffffffffffffffffffffffebaaedce6af48a03bbfd25e8cd0364141_U256);
const N_LIMBS: [u64; 5] = limbs::limbs(&N);

/// -1 / n mod 2^52.
const N_INVERSE_NEGATED: u64 = 0xd_ff66_5588_b13f;

/// 2^519 mod n: Montgomery multiplication by it multiplies an inverse by R / 2.
const HALF_R_R: U256 =
    uint!(0xb38e6ac0e34de2f34bfaf22de683e39d290412bdd65b6a1044603b4c7b60be32_U256);

/// `a b / R` modulo n, below n + a b / R. Limbs are below 2^52, as those of a and b must be.
#[inline(always)]
pub(super) fn montgomery<L: Lanes>(a: &Limbs<L>, b: &Limbs<L>) -> Limbs<L> {
    let n: Limbs<L> = limbs::splat(&N_LIMBS);
    let mut z = product(a, b);
    for i in 0..5 {
        // The multiple of n that makes column i a multiple of 2^52.
        let m = L::splat(0).add_low(z[i].factor(), L::splat(N_INVERSE_NEGATED));
        for j in 0..5 {
            z[i + j] = z[i + j].add_low(m, n[j]);
            z[i + j + 1] = z[i + j + 1].add_high(m, n[j]);
        }
        z[i + 1] = z[i + 1] + (z[i] >> BITS);
    }
    limbs::carry([z[5], z[6], z[7], z[8], z[9]])
}

/// `a - n` if that is not negative, else `a`. The limbs of `a` may be negative and uncarried.
#[inline(always)]
pub(super) fn reduce_once<L: Lanes>(a: Limbs<L>) -> Limbs<L> {
    let a = signed_carry(a);
    let mut reduced = a;
    for (limb, n) in reduced.iter_mut().zip(N_LIMBS) {
        *limb = limb.signed_sub(L::splat(n));
    }
    let reduced = signed_carry(reduced);
    limbs::choose(reduced[4].negative(), &a, &reduced)
}

/// Each lane's (R / 2) / x, with a single inversion for all; no lane may be zero. Three steps
/// multiply all lanes, and the inverse of that product times the other lanes is the lane's inverse.
#[inline(always)]
pub(super) fn half_inverse<L: Lanes>(x: &Limbs<L>) -> Limbs<L> {
    let fours = rotate::<4, L>(x);
    let pairs = montgomery(x, &fours);
    let pairs_rotated = rotate::<2, L>(&pairs);
    let quads = montgomery(&pairs, &pairs_rotated);
    let quads_rotated = rotate::<1, L>(&quads);
    let all = reduce_once(montgomery(&quads, &quads_rotated));
    let others = montgomery(&montgomery(&fours, &pairs_rotated), &quads_rotated);
    let inverse = limbs::first(&all).inv_mod(N).expect("no lane is zero, and n is a prime");
    let inverse =
        montgomery(&limbs::splat(&limbs::limbs(&inverse)), &limbs::splat(&limbs::limbs(&HALF_R_R)));
    montgomery(&others, &inverse)
}

#[cfg(test)]
mod tests {
    use super::super::portable::Portable;
    use super::*;
    use alloy_primitives::keccak256;

    fn power_of_two(exponent: u64) -> U256 {
        U256::from(2).pow_mod(U256::from(exponent), N)
    }

    fn numbers() -> impl Iterator<Item = U256> {
        let random = (0..200u8).map(|seed| U256::from_be_bytes(keccak256([seed]).0).reduce_mod(N));
        [U256::ONE, U256::from(2), N - U256::ONE, N - U256::from(2)].into_iter().chain(random)
    }

    #[test]
    fn constants_are_what_they_are_named() {
        assert_eq!(N_LIMBS[0].wrapping_mul(N_INVERSE_NEGATED) & limbs::MAX, limbs::MAX);
        assert_eq!(HALF_R_R, power_of_two(519));
    }

    #[test]
    fn products_are_divided_by_r() {
        for (a, b) in numbers().zip(numbers().skip(1)) {
            let [x, y] = [a, b].map(|number| limbs::splat::<Portable>(&limbs::limbs(&number)));
            let product = limbs::first(&reduce_once(montgomery(&x, &y)));
            assert_eq!(product.mul_mod(power_of_two(260), N), a.mul_mod(b, N));
        }
    }

    #[test]
    fn each_lane_has_its_own_inverse() {
        let numbers: Vec<_> = numbers().collect();
        for lanes in numbers.chunks_exact(8) {
            let mut x = [[0; 8]; 5];
            for (lane, number) in lanes.iter().enumerate() {
                for (limbs, limb) in x.iter_mut().zip(limbs::limbs(number)) {
                    limbs[lane] = limb;
                }
            }
            let mut inverse = half_inverse(&x.map(|limbs| Portable::load(&limbs)));
            for number in lanes {
                let half_inverse = limbs::first(&reduce_once(inverse));
                assert_eq!(half_inverse.mul_mod(*number, N), power_of_two(259));
                inverse = rotate::<1, Portable>(&inverse);
            }
        }
    }
}
